"""A broker of one's own that breaks what the system relies on is told so, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from execution.broker import Asset
from execution.conformance import check_broker
from execution.orders import Account, Fill, Order
from marketsimulator.account.broker import SimulatedBroker
from tests.marketsimulator.by_hand import coin, stock

CANDLES = ((100.0, 101.0, 99.0, 100.0),) * 5


class Bent:
    """The simulated broker, one of whose answers is changed before it is handed over."""

    def __init__(self, method: str, change: Callable[..., Any]) -> None:
        self._broker = stock(*CANDLES)
        self._broker.advance(1)
        self._method = method
        self._change = change

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._broker, name)
        if name != self._method:
            return method
        return lambda *args: self._change(self._broker, *args)


def advanced(broker: SimulatedBroker) -> SimulatedBroker:
    broker.advance(1)
    return broker


@pytest.mark.parametrize("flat", [True, False])
def test_the_simulated_broker_conforms(flat: bool) -> None:
    for broker, symbol, quantity in (
        (stock(*CANDLES), "AAA", Decimal(3)),
        (coin(*CANDLES), "BTCUSD", Decimal("0.5")),
    ):
        assert check_broker(advanced(broker), symbol, quantity, flat=flat) == ()


def forgetful() -> Callable[[SimulatedBroker, Sequence[Order]], list[Fill]]:
    """A venue that knows no order twice: each is sent under a number of its own."""
    count = 0

    def submit(broker: SimulatedBroker, orders: Sequence[Order]) -> list[Fill]:
        nonlocal count
        count += 1
        fresh = [_renamed(order, f"{order.client_order_id}-{count}") for order in orders]
        fills = broker.submit(fresh)
        names = {f"{o.client_order_id}-{count}": o.client_order_id for o in orders}
        return [fill._replace(client_order_id=names[fill.client_order_id]) for fill in fills]

    return submit


def _renamed(order: Order, name: str) -> Order:
    return replace(order, client_order_id=name)


def nothing(broker: SimulatedBroker, words: Iterable[Any]) -> list[Fill]:
    """Does nothing and says nothing."""
    return []


def silent_submit(broker: SimulatedBroker, orders: Sequence[Order]) -> list[Fill]:
    """Fills and does not say so."""
    broker.submit(orders)
    return []


def everything(broker: SimulatedBroker, symbols: Sequence[str]) -> Mapping[str, Asset]:
    """Knows every symbol there could be."""
    asset = broker.assets(["AAA"])["AAA"]
    return dict.fromkeys(symbols, asset)


def doubling() -> Callable[[SimulatedBroker, Sequence[Order]], list[Fill]]:
    """A venue that takes an order of a used id as another one, of which the first fills nothing."""
    sent: list[str] = []

    def submit(broker: SimulatedBroker, orders: Sequence[Order]) -> list[Fill]:
        fills: list[Fill] = []
        for order in orders:
            times = sent.count(order.client_order_id)
            sent.append(order.client_order_id)
            name = f"{order.client_order_id}-{times}" if times else order.client_order_id
            fills += broker.submit([_renamed(order, name)])
        return fills

    return submit


def twice_listed(broker: SimulatedBroker) -> Account:
    """Shows an open order again once it was sent again."""
    account = broker.account()
    names = [order.client_order_id.removesuffix("-1") for order in account.open_orders]
    renamed = (_renamed(o, name) for o, name in zip(account.open_orders, names, strict=True))
    return replace(account, open_orders=tuple(renamed))


def test_a_waiting_order_that_is_sent_again_is_one_order() -> None:
    class Doubling(Bent):
        def account(self) -> Account:
            return twice_listed(self._broker)

    faults = check_broker(Doubling("submit", doubling()), "AAA", Decimal(3))  # type: ignore[arg-type]
    assert "the same client order id sent twice makes two orders" in faults


def test_what_was_held_before_is_no_fault() -> None:
    broker = advanced(stock(*CANDLES))
    first = Order("before-1", "AAA", "buy", Decimal(7), "held before")
    broker.submit([first])
    assert check_broker(broker, "AAA", Decimal(3)) == ()
    assert broker.account().positions == {"AAA": 7}


def stale_account(broker: SimulatedBroker) -> Account:
    """Shows the account of somebody who holds nothing."""
    account = broker.account()
    return Account(account.cash, {}, account.prices, account.as_of)


def generous_account(broker: SimulatedBroker) -> Account:
    """Shows cash that nothing is paid from."""
    account = broker.account()
    return replace(account, cash=1_000_000.0)


def early_fills(broker: SimulatedBroker, orders: Sequence[Order]) -> list[Fill]:
    """Fills an hour before the order was sent."""
    hour = np.timedelta64(1, "h")
    return [fill._replace(at=fill.at - hour) for fill in broker.submit(orders)]


def dear_fills(broker: SimulatedBroker, orders: Sequence[Order]) -> list[Fill]:
    """Says twice the price that was paid."""
    return [fill._replace(price=2 * fill.price) for fill in broker.submit(orders)]


def yesterdays_account(broker: SimulatedBroker) -> Account:
    """Shows an account that is a day old."""
    account = broker.account()
    return replace(account, as_of=account.as_of - np.timedelta64(1, "D"))


@pytest.mark.parametrize(
    ("method", "change", "fault"),
    [
        ("account", generous_account, "USD was paid, the account's cash 0.00"),
        ("account", yesterdays_account, "asked for between"),
        ("submit", early_fills, "of an order sent after"),
        ("submit", dear_fills, "and the account prices it at 100.0"),
        ("now", lambda broker: "noon", "now must be a numpy datetime64"),
        ("account", lambda broker: {"cash": 1.0, "prices": {}}, "must be an execution.Account"),
        ("assets", lambda broker, symbols: {}, "assets must say what may be done with AAA"),
        ("assets", everything, "assets must leave out what the venue does not know"),
        ("submit", nothing, "an order that waits is not among the account's open orders"),
        ("submit", nothing, "a market order does not fill"),
        ("submit", forgetful(), "an order whose id was used before trades again"),
        ("submit", silent_submit, "fills say 0 of AAA was bought, the account 3"),
        ("cancel", nothing, "a cancelled order still works"),
        ("fills_since", nothing, "fills_since lacks a fill that submit returned"),
        ("account", stale_account, "was bought, the account 0"),
    ],
)
def test_each_fault_is_named(method: str, change: Callable[..., Any], fault: str) -> None:
    faults = check_broker(Bent(method, change), "AAA", Decimal(3))  # type: ignore[arg-type]
    assert any(fault in sentence for sentence in faults), faults


def test_a_symbol_without_a_price_ends_the_check() -> None:
    faults = check_broker(advanced(stock(*CANDLES)), "ZZZ", Decimal(1))
    assert any("no price of ZZZ" in sentence for sentence in faults)
