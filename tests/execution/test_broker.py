from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from execution.decision.rebalancing import rebalance
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Asset, is_fully_filled, place_orders, place_reductions
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from execution.orders.orders import Fill, Order, make_order_id
from execution.orders.venue_rules import VenueRules
from foundation.errors import AccountChanged, BrokerError
from tests.support.messages import refused
from trainingdata.bars import Bars
from trainingdata.instruments import instrument

AT = np.datetime64("2024-10-01T14:30", "ns")
ORDERS = rebalance(
    "s",
    AT,
    [instrument(symbol) for symbol in ("NVDA", "AAPL", "MSFT")],
    [Decimal(0), Decimal(10), Decimal(3)],
    [Decimal(5), Decimal(4), Decimal(-3)],
    [float("inf")] * 3,
    ["open", "reduce", "flip"],
)


class Halting:
    """A broker that fills everything but what is halted, of which it makes trouble where told."""

    def __init__(self, *halted: str | None, trouble: bool = False, cash: float = 0.0) -> None:
        self.halted, self.trouble, self.cash = halted, trouble, cash
        self.sent: list[Order] = []
        self.left: dict[str, Decimal] = {}

    def account(self) -> AccountSnapshot:
        filled = [order for order in self.sent if order.symbol not in self.halted]
        held = {"AAPL": Decimal(10), "MSFT": Decimal(3)}
        for order in filled:
            held[order.symbol] = held.get(order.symbol, Decimal(0)) + order.signed_qty
        return AccountSnapshot(self.cash, held, dict.fromkeys(["AAPL", "MSFT", "NVDA"], 1.0), AT)

    def cancel(self, names: Iterable[str]) -> dict[str, Decimal]:
        return self.left

    def submit(self, orders: Sequence[Order], gate: OrderGate = ALLOW_ALL_ORDERS) -> list[Fill]:
        self.sent += orders
        for order in orders:
            if self.trouble and order.symbol in self.halted:
                raise BrokerError(f"{order.symbol}: order rejected by the venue")
        return [
            Fill(o.client_order_id, o.symbol, o.signed_qty, 1.0, 0.0, AT)
            for o in orders
            if o.symbol not in self.halted
        ]


@pytest.mark.parametrize(
    ("halted", "sent", "filled"),
    [
        (None, ["AAPL", "MSFT", "MSFT", "NVDA"], {"AAPL", "MSFT", "NVDA"}),
        # A reduction of 6 does not fill: 2 of the planned 8 are left, and both openings cost more.
        ("AAPL", ["AAPL", "MSFT"], {"MSFT"}),
        ("NVDA", ["AAPL", "MSFT", "MSFT", "NVDA"], {"AAPL", "MSFT"}),
    ],
)
def test_opening_orders_wait_until_reductions_have_filled(
    halted: str | None, sent: list[str], filled: set[str]
) -> None:
    broker = Halting(halted)
    fills = place_orders(broker, ORDERS).fills
    assert [o.symbol for o in broker.sent] == sent
    assert {f.symbol for f in fills} == filled
    assert [o.side for o in broker.sent[:2]] == ["sell", "sell"]


@pytest.mark.parametrize(
    ("halted", "cash", "sent"),
    [
        ("AAPL", 8.0, ["AAPL", "MSFT", "MSFT", "NVDA"]),  # cash pays for both openings
        ("AAPL", 4.0, ["AAPL", "MSFT", "MSFT"]),  # the first costs 3, the second 5
        ("MSFT", 8.0, ["AAPL", "MSFT", "NVDA"]),  # MSFT is still held: it is not sold short
    ],
)
def test_openings_beside_an_unfilled_reduction_are_paid_for(
    halted: str, cash: float, sent: list[str]
) -> None:
    broker = Halting(halted, cash=cash)
    place_orders(broker, ORDERS)
    assert [o.symbol for o in broker.sent] == sent


OLD = make_order_id("kelly_50", AT, "AAPL", 0)


@pytest.mark.parametrize("left", [{}, {OLD: Decimal(0)}, {OLD: Decimal(3)}])
def test_nothing_is_sent_if_a_replaced_order_filled(left: dict[str, Decimal]) -> None:
    """The replacement was sized as if the old order had not filled and would trade the same
    quantity again.
    """
    broker = Halting()
    broker.left = left
    old = {OLD: Decimal(5)}
    with refused(AccountChanged):
        place_orders(broker, ORDERS, old)
    assert broker.sent == []
    broker.left = {OLD: Decimal(5)}
    assert len(place_orders(broker, ORDERS, old).fills) == 4


def test_venue_permissions_are_read_once_a_day(market: Bars) -> None:
    asked: list[tuple[str, ...]] = []

    def assets(symbols: Sequence[str]) -> dict[str, Asset]:
        asked.append(tuple(symbols))
        steps = Decimal("0.01"), Decimal("0.01")
        return {
            "SYA": Asset("SYA", True, True, True, True, *steps),
            "SYB": Asset("SYB", True, True, False, True, *steps),
            "SYXUSD": Asset("SYXUSD", False, False, False, True, *steps),
        }

    listing: Any = SimpleNamespace(assets=assets)
    rules = VenueRules(listing)
    for increments in ("broker", "original"):
        allowed = rules.apply(market, AT, increments)
        before = {item.symbol: item for item in market.instruments}
        now = {item.symbol: item for item in allowed.instruments}
        traded = {symbol for symbol, item in now.items() if item.is_tradable}
        assert traded == {"SYA", "SYB"}, "what the venue does not know is not traded"
        assert now["SYA"].is_borrowable
        assert not now["SYB"].is_borrowable, "nobody lends it easily"
        assert now["SYA"].qty_increment == before["SYA"].qty_increment, "shares are ours to count"
        coin = Decimal("0.01") if increments == "broker" else before["SYXUSD"].qty_increment
        assert now["SYXUSD"].qty_increment == coin
        assert now["SYXUSD"].min_order_qty == Decimal("0.01")
        assert now["SYA"].min_order_qty == before["SYA"].min_order_qty
        assert np.array_equal(allowed.values, market.values, equal_nan=True)
    assert asked == [market.symbols]
    rules.apply(market, AT + np.timedelta64(9, "h"), "broker")
    assert len(asked) == 1
    rules.apply(market, AT + np.timedelta64(10, "h"), "broker")
    assert len(asked) == 2, "the next day"


def test_one_failed_reduction_does_not_block_the_others() -> None:
    broker = Halting("AAPL", "MSFT", trouble=True)
    with refused(BrokerError, "AAPL"):
        place_reductions(broker, ORDERS)
    assert broker.sent == list(ORDERS)
    calm = Halting()
    place_reductions(calm, ORDERS)
    assert calm.sent == list(ORDERS)


@pytest.mark.parametrize(
    ("filled", "whole"), [("5", True), ("4.99999999999999", True), ("4.9999", False), ("0", False)]
)
def test_order_counts_as_filled_within_float_error(filled: str, whole: bool) -> None:
    assert is_fully_filled(Decimal(filled), Decimal(5)) is whole
