"""What a venue would refuse, and what stands just inside: each rule from both of its sides."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Asset
from execution.orders.orders import Order, OrderSizeLimits
from execution.orders.venue_rules import venue_refusal_reason
from tests.support.messages import check_message

AT = np.datetime64("2024-10-01T14:30", "ns")
LIMIT = {"type": "limit", "limit_price": 100.0}
STOP = {"type": "stop", "stop_price": 100.0}
TRAIL = {"type": "trailing_stop", "trail_price": 1.0}


def order(
    symbol: str = "NVDA", side: Any = "buy", qty: str = "10", name: str = "o-1", **more: Any
) -> Order:
    more.setdefault("tif", "gtc" if symbol.endswith("USD") else "day")
    return Order(name, symbol, side, Decimal(qty), "test", **more)


def account(*open_orders: Order, blocked: str = "", **held: str) -> AccountSnapshot:
    prices = {"NVDA": 100.0, "AAPL": 50.0, "BTCUSD": 50_000.0}
    positions = {symbol: Decimal(qty) for symbol, qty in held.items()}
    return AccountSnapshot(
        1e6, positions, prices, AT, open_orders=open_orders, block_reason=blocked
    )


def asset(symbol: str = "NVDA", **changes: Any) -> Asset:
    facts: dict[str, Any] = {
        "tradable": True, "shortable": True, "easy_to_borrow": True, "fractionable": True,
        "increment": Decimal("0.001"), "min_order_qty": Decimal("0.001"),
    }  # fmt: skip
    return Asset(symbol, **{**facts, **changes})


BID = order(name="mine-1", tif="gtc", **{**LIMIT, "limit_price": 90.0})
OFFER = order(name="mine-2", side="sell", tif="gtc", **{**LIMIT, "limit_price": 110.0})


def offer(price: float, **more: Any) -> Order:
    return order(side="sell", type="limit", limit_price=price, **more)


SHAPES = [
    (order(type="limit", limit_price=1.001), "sub-penny increment"),
    (order(type="limit", limit_price=0.9999), ""),
    *((order("BTCUSD", **kind), "") for kind in ({}, LIMIT)),
    (order("BTCUSD", type="stop_limit", stop_price=1.0, limit_price=1.0), ""),
    *((order("BTCUSD", tif=tif), "crypto accepts only") for tif in ("day", "opg", "cls")),
    *(
        (order("BTCUSD", **kind), "crypto accepts only")
        for kind in (STOP, TRAIL, {"extended_hours": True})
    ),
    (order(qty="1.5"), ""),
    *((order(qty="1.5", tif=tif), "by day orders") for tif in ("gtc", "opg", "cls")),
    (order(qty="3", tif="gtc"), ""),
    *((order(tif=tif, extended_hours=True, **LIMIT), "") for tif in ("day", "gtc")),
    *((order(tif=tif, extended_hours=True, **LIMIT), "regular hours") for tif in ("opg", "cls")),
    *((order(extended_hours=True, **kind), "regular hours") for kind in ({}, STOP)),
    *((order(tif=tif, **kind), "") for tif in ("opg", "cls") for kind in ({}, LIMIT)),
    *(
        (order(tif=tif, **kind), "closing auctions")
        for tif in ("opg", "cls")
        for kind in (STOP, TRAIL)
    ),
    *((order(tif=tif, **TRAIL), "") for tif in ("day", "gtc")),
]
ASSETS = [
    (order(), {}, ""),
    (order(), {"tradable": False}, "not tradable"),
    (order(side="sell"), {}, ""),
    *(
        (order(side="sell"), {name: False}, "sold short")
        for name in ("shortable", "easy_to_borrow")
    ),
    (order(side="sell", reduces=True), {"shortable": False, "easy_to_borrow": False}, ""),
    (order(side="buy"), {"shortable": False, "easy_to_borrow": False}, ""),
    (order("BTCUSD", side="sell"), {"shortable": False, "easy_to_borrow": False}, ""),
    (order(qty="1.5"), {"fractionable": False}, "whole shares"),
    (order(qty="3"), {"fractionable": False}, ""),
    (order("BTCUSD", qty="1.5"), {"fractionable": False}, ""),
    (order(qty="1.5", side="sell"), {}, "whole shares only when sold short"),
    (order(qty="1.5", side="sell", reduces=True), {}, ""),
    (order(qty="1.0005"), {}, "multiple of 0.001"),
    (order(qty="1.005"), {}, ""),
    (order(qty="0.004"), {"min_order_qty": Decimal("0.005")}, "at least 0.005"),
    (order(qty="0.005"), {"min_order_qty": Decimal("0.005")}, ""),
]
ACCOUNTS = [
    (order(qty="0.01"), account(), ""),
    (
        order(qty="0.009"),
        account(),
        "order value $0.90 is below the minimum for a fraction of a share, $1",
    ),
    (order(qty="0.009", type="limit", limit_price=200.0), account(), ""),
    (order(qty="0.009", type="stop", stop_price=200.0), account(), ""),
    (
        order(qty="0.011", type="limit", limit_price=50.0),
        account(),
        "below the minimum for a fraction of a share, $1",
    ),
    (order(qty="0.009", side="sell"), account(NVDA="0.009"), ""),
    (
        order(qty="0.008", side="sell"),
        account(NVDA="0.009"),
        "below the minimum for a fraction of a share, $1",
    ),
    (order("MSFT", qty="0.001"), account(), ""),
    (order("BTCUSD", qty="0.000199999"), account(), "does not close its position, $10"),
    (order("BTCUSD", qty="0.0002"), account(), ""),
    (
        order("BTCUSD", qty="0.0002", type="limit", limit_price=49_999.0),
        account(),
        "order value $10.00",
    ),
    (
        order("BTCUSD", qty="0.0001", side="sell"),
        account(BTCUSD="0.001"),
        "does not close its position, $10",
    ),
    (order("BTCUSD", qty="0.0001", side="sell"), account(BTCUSD="0.0001"), ""),
    (order("BTCUSD", qty="0.000019", side="sell"), account(BTCUSD="0.000019"), "is dust"),
    (order("BTCUSD", qty="4"), account(), ""),
    (
        order("BTCUSD", qty="4.001"),
        account(),
        "order value $200,050 exceeds the maximum for a crypto order, $200,000",
    ),
    (order(qty="2001"), account(), ""),
    (order(), account(blocked="blocked"), "blocked"),
    (order(side="sell"), account(BID), "our own order mine-1"),
    (order("AAPL", side="sell"), account(BID), ""),
    (order(), account(BID), ""),
    (order(), account(OFFER, NVDA="10"), "our own order mine-2"),
    (order(side="sell", type="stop", stop_price=99.0), account(BID), "our own order mine-1"),
    (offer(150.0), account(order(name="m-1")), "a wash trade"),
    (
        order(side="sell", qty="11"),
        account(NVDA="10"),
        "10 of 10 may be closed; close the position before",
    ),
    (offer(120.0, qty="6"), account(offer(110.0, qty="4", name="m-1"), NVDA="10"), ""),
    (
        offer(120.0, qty="7"),
        account(offer(110.0, qty="4", name="m-1"), NVDA="10"),
        "6 of 10 may be closed",
    ),
    (
        offer(120.0, qty="7"),
        account(order("AAPL", side="sell", name="m-1"), NVDA="10", AAPL="10"),
        "",
    ),
    (offer(120.0, qty="10"), account(BID, NVDA="10"), ""),
    (
        offer(120.0, qty="1"),
        account(offer(110.0, qty="14", name="m-1"), NVDA="10"),
        "0 of 10 may be closed",
    ),
]


@pytest.mark.parametrize(
    ("given_order", "facts", "state", "says"),
    [
        *((each, None, None, says) for each, says in SHAPES),
        *((each, facts, None, says) for each, facts, says in ASSETS),
        *((each, None, state, says) for each, state, says in ACCOUNTS),
    ],
)
def test_invalid_order_is_refused_naming_the_broken_rule(
    given_order: Order, facts: dict[str, Any] | None, state: AccountSnapshot | None, says: str
) -> None:
    of = None if facts is None else asset(given_order.symbol, **facts)
    found = venue_refusal_reason(given_order, of, state)
    assert says in found
    assert bool(found) is bool(says)


def test_order_value_limits_are_configurable() -> None:
    terms = OrderSizeLimits(min_fractional_value=5.0, max_crypto_value=100.0)
    small = venue_refusal_reason(order(qty="0.01"), None, account(), terms)
    check_message(small, "$1.00", "$5", "orders.min_fractional_value")
    large = venue_refusal_reason(order("BTCUSD", qty="0.01"), None, account(), terms)
    check_message(large, "$500", "$100", "orders.max_crypto_value")
    assert venue_refusal_reason(order("BTCUSD", qty="0.002"), None, account(), terms) == ""


@given(
    st.sampled_from([("buy", "sell"), ("sell", "buy")]),
    st.integers(1, 30),
    st.integers(-20, 20),
    st.integers(80, 120),
    st.integers(80, 120),
)
def test_accepted_order_neither_flips_position_nor_self_trades(
    sides: tuple[Any, Any], qty: int, held: int, price: int, own: int
) -> None:
    side, other = sides
    mine = order(name="m-1", tif="gtc", side=other, type="limit", limit_price=float(own))
    sent = order(side=side, qty=str(qty), type="limit", limit_price=float(price))
    found = venue_refusal_reason(sent, None, account(mine, NVDA=str(held)))
    meets = price >= own if side == "buy" else price <= own
    through = held * int(sent.signed_qty) < 0 and qty > abs(held)
    assert bool(found) is (meets or through)


def test_order_quantity_has_at_most_nine_decimals() -> None:
    assert venue_refusal_reason(order("BTCUSD", qty="0.123456789")) == ""
    assert "nine decimals" in venue_refusal_reason(order("BTCUSD", qty="0.1234567891"))
    assert "nine decimals" in venue_refusal_reason(order(qty="0.0000000001"))
