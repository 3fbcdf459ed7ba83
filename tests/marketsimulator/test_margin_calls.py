"""A margin call stands until the broker has closed what it called, or equity covers what is
left.
"""

# Private access: the broker is advanced bar by bar, and its book is set to the cent.
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.account.margin import is_margin_call_met
from tests.marketsimulator.accounts import FLAT, FREE, account_in, order, stock_ends
from trainingdata.corporate_actions import CorporateAction

STOCK_TIMES = stock_ends("2024-10-02", 28)  # four sessions
HOURS = np.arange(STOCK_TIMES[0] - np.timedelta64(30, "m"), STOCK_TIMES[-1], np.timedelta64(1, "h"))


def falling(to: float, from_bar: int = 6, volume: float = 1e6) -> list[tuple[float, ...]]:
    """100 until bar number `from_bar` closes at `to`, and there it stays."""
    fall = (100.0, 100.0, to, to, volume)
    return [(*FLAT, volume)] * from_bar + [fall] + [(to, to, to, to, volume)] * (27 - from_bar)


def called(
    *, coin: bool, stock: list[tuple[float, ...]], quantity: float = 3_900, **more: object
) -> SimulatedBroker:
    """Four times equity in one stock, held into a night below its maintenance; with or without
    a coin in the panel.
    """
    tables: dict[str, object] = {"AAA": (STOCK_TIMES[: len(stock)], stock)}
    if coin:
        tables["BTCUSD"] = (HOURS, [(50.0, 51.0, 49.0, 50.0)] * len(HOURS))
    broker = account_in(tables, costs=FREE, **more)  # type: ignore[arg-type]
    while broker.now() < STOCK_TIMES[1]:
        step(broker)
    broker.submit([order("buy", quantity)])
    return broker


def step(broker: SimulatedBroker) -> None:
    broker.advance(broker._index + 1)
    broker.open_bars()


def to_the_end(broker: SimulatedBroker) -> list[float]:
    """Quantities that the broker sold of its own accord, until the panel ends."""
    while broker._index + 1 < len(broker._bars.times):
        step(broker)
    return [float(f.qty) for f in broker.fills if f.client_order_id.startswith("liquidation")]


def test_crypto_holdings_do_not_change_a_margin_call() -> None:
    alone = to_the_end(called(coin=False, stock=falling(82.0)))
    beside = to_the_end(called(coin=True, stock=falling(82.0)))
    assert alone == beside
    assert sum(alone) < -1_000


def test_sufficient_deposit_ends_a_margin_call_without_sales() -> None:
    broker = called(coin=True, stock=falling(82.0))
    while not broker.margin_event_counts()["margin_calls"]:
        step(broker)
    broker.deposit(150_000.0)
    assert to_the_end(broker) == []


def test_reducing_order_during_liquidation_opens_no_position() -> None:
    """A margin call liquidates the only share of BBB while a closing order fills at the same open:
    it is sold once.
    """
    fallen = falling(82.0)
    fallen[7:11] = [(82.0, 82.0, 82.0, 82.0, 0.0)] * 4
    still = [(*FLAT, 1e6)] * 7 + [(*FLAT, 0.0)] * 4 + [(*FLAT, 1e6)] * 17
    broker = account_in({"AAA": (STOCK_TIMES, fallen), "BBB": (STOCK_TIMES, still)}, costs=FREE)
    step(broker)
    broker.submit([order("buy", 3_890), order("buy", 1, name="one", symbol="BBB")])
    while broker.now() < STOCK_TIMES[10]:
        step(broker)
    close = order("sell", 1, name="close", symbol="BBB", tif="day")
    broker.submit([replace(close, reduces=True)])
    assert "BBB" not in broker.account().positions
    to_the_end(broker)
    assert sum(f.qty for f in broker.fills if f.symbol == "BBB") == 0


def test_corporate_actions_before_the_first_bar_are_ignored() -> None:
    """A split and a dividend years before, and on the first day itself, change nothing."""
    for day in ("2010-01-04T14:30", "2024-10-02T13:30"):
        opens = np.datetime64(day, "ns")
        past = (
            CorporateAction("AAA", opens, split_ratio=2.0),
            CorporateAction("AAA", opens, dividend=5.0),
        )
        broker = account_in({"AAA": (STOCK_TIMES, [FLAT] * 28)}, actions=past, costs=FREE)
        step(broker)
        broker.submit([order("buy", 100)])
        to_the_end(broker)
        assert broker.account().equity == 100_000
        assert broker.account().positions == {"AAA": 100}


def test_equity_equal_to_requirement_meets_the_margin_call() -> None:
    """1,000 shares at 100 require 30,000; 70,000 are borrowed."""
    broker = called(coin=False, stock=falling(100.0), quantity=1_000)
    book = broker._book
    for borrowed, met in ((70_000.0, True), (70_000.01, False)):
        book.account["cash"] = -borrowed
        book.account["equity"] = 100_000.0 - borrowed
        assert is_margin_call_met(book) is met


@pytest.mark.parametrize("kind", ["limit", "stop"])
def test_exit_orders_of_liquidated_position_open_no_position(kind: Any) -> None:
    """A margin call caused by BBB liquidates AAA; two bars later AAA trades through its profit and
    loss exits.
    """
    rises = [(*FLAT, 1e6)] * 8 + [
        (100.0, 130.0, 99.0, 130.0, 1e6),
        (130.0, 131.0, 90.0, 100.0, 1e6),
    ]
    falls = (
        [(*FLAT, 1e6)] * 6 + [(100.0, 101.0, 78.0, 80.0, 1e6)] + [(80.0, 81.0, 79.0, 80.0, 1e6)] * 3
    )
    broker = account_in(
        {"AAA": (STOCK_TIMES[:10], rises), "BBB": (STOCK_TIMES[:10], falls)},
        costs=FREE,
        capital=10_000.0,
    )
    broker.submit([order("buy", 300, name="big", symbol="BBB")])
    broker.submit([order("buy", 1, name="small")])
    step(broker)
    price = {"limit_price": 125.0} if kind == "limit" else {"stop_price": 95.0}
    broker.submit([order("sell", 1, kind, "exit", reduces=True, **price)])
    to_the_end(broker)
    assert broker.margin_event_counts()["margin_calls"] == 1
    assert [(f.client_order_id[:11], float(f.qty)) for f in broker.fills if f.symbol == "AAA"] == [
        ("small", 1.0),
        ("liquidation", -1.0),
    ]
    assert broker.account().open_orders == ()
