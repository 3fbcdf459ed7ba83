"""One contract, two brokers: the simulator, and the venue over `alpaca-py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from execution.alpaca.broker import AlpacaBroker
from execution.orders.broker import Broker, place
from foundation.cli import composed_config
from marketsimulator.settings import BacktestSettings
from tests.e2e.practice import KEYS, SPAN, order, practising
from trainingdata.bars import OPEN, Bars
from trainingdata.feed.endpoint import BrokerSettings

OPENING, NEXT = (np.datetime64(f"2024-02-20T{at}", "ns") for at in ("15:30", "16:30"))


@dataclass
class Stand:
    """A broker at 10:30 New York, and what moves it."""

    broker: Broker
    bars: Bars
    move: Any

    def advance(self, to: np.datetime64) -> None:
        self.move(int(np.searchsorted(self.bars.times, to)))

    def opens(self, symbol: str, at: np.datetime64) -> float:
        """The open of the bar that starts at an instant."""
        s = self.bars.symbols.index(symbol)
        times, values = self.bars.real_bars(s)
        return float(values[np.searchsorted(times, at + np.timedelta64(1, "h")), OPEN])


@pytest.fixture(params=["simulator", "alpaca"])
def stand(request: pytest.FixtureRequest) -> Iterator[Stand]:
    settings = BacktestSettings.of(
        composed_config("backtest", [*SPAN, "start=2024-02-20", "end=2024-02-23"])
    )
    market = settings.market()
    if request.param == "simulator":
        simulated = settings.broker(market)
        here = Stand(simulated, market.bars, simulated.advance)
        here.advance(OPENING)
        yield here
        return
    with practising() as start:
        practice = start()
        broker = AlpacaBroker(BrokerSettings(url_override=practice.url), KEYS, patience=0.0)
        here = Stand(broker, market.bars, practice.venue.advance)
        here.advance(OPENING)
        yield here


def test_a_market_order_meets_the_next_open_and_never_better_and_its_id_trades_once(
    stand: Stand,
) -> None:
    bought, sold = stand.broker.submit([order("a-1"), order("b-1", "SYB", "sell", "3")])
    assert bought.price >= stand.opens("SYA", OPENING)
    assert sold.price <= stand.opens("SYB", OPENING)
    assert (bought.qty, sold.qty) == (10, -3)
    account = stand.broker.account()
    assert account.positions == {"SYA": Decimal(10), "SYB": Decimal(-3)}
    spent = 10 * bought.price - 3 * sold.price
    assert account.cash == pytest.approx(100_000 - spent, abs=0.05)
    assert account.short_proceeds == pytest.approx(3 * sold.price, abs=0.01)
    assert account.unborrowed_cash == pytest.approx(100_000 - 10 * bought.price, abs=0.05)
    stand.broker.submit([order("a-1")])
    assert stand.broker.account().positions == account.positions


def test_a_coin_pays_its_fee_in_coin_and_trades_at_full_hours(stand: Stand) -> None:
    assert stand.broker.submit([order("early-1", "SYXUSD", qty="1", tif="gtc")]) == []
    assert stand.broker.account().open_orders == ()
    stand.advance(np.datetime64("2024-02-20T16:00", "ns"))
    stand.broker.submit([order("coin-1", "SYXUSD", qty="1", tif="gtc")])
    assert stand.broker.account().positions == {"SYXUSD": Decimal("0.9975")}


def test_a_limit_waits_is_seen_and_is_cancelled(stand: Stand) -> None:
    low = round(stand.opens("SYA", OPENING) * 0.5, 2)
    assert stand.broker.submit([order("low-1", type="limit", limit_price=low, tif="gtc")]) == []
    (waiting,) = stand.broker.account().open_orders
    assert (waiting.client_order_id, waiting.qty, waiting.limit_price) == ("low-1", 10, low)
    assert stand.broker.account().exposure == {"SYA": Decimal(10)}
    stand.broker.cancel(["nobody-1", "low-1"])
    stand.broker.cancel(["low-1"])
    assert stand.broker.account().open_orders == ()


def test_openings_wait_for_reductions(stand: Stand) -> None:
    stand.broker.submit([order("a-1")])
    stand.advance(NEXT)
    fills = place(
        stand.broker, [order("a-2", side="sell", reduces=True), order("b-2", "SYB", qty="4")]
    )
    assert [(f.symbol, f.qty) for f in fills] == [("SYA", -10), ("SYB", 4)]


def test_assets_say_what_may_be_done_however_many_are_asked_for(stand: Stand) -> None:
    for more in (0, 60):
        found = stand.broker.assets(["SYA", "SYXUSD", "NOPE", *(f"N{k}" for k in range(more))])
        assert set(found) == {"SYA", "SYXUSD"}
        assert found["SYA"].tradable
        assert found["SYA"].shortable
        assert not found["SYXUSD"].shortable
        assert 0 < found["SYXUSD"].increment <= Decimal("0.001")


WRONG = (
    (order("flip-1", side="sell", qty="11"), "no order goes through 0"),
    (
        order("whale-1", "SYXUSD", qty="100000", tif="gtc"),
        "an order of coins is worth \\$200,000 at most",
    ),
    (order("wash-1", "SYB", side="sell"), "a wash trade"),
)


def test_what_a_venue_would_not_take_is_known_before_it_is_sent(
    stand: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    stand.broker.submit([order("in-1")])
    low = round(stand.opens("SYB", OPENING) * 0.5, 2)
    stand.broker.submit([order("bid-1", "SYB", type="limit", limit_price=low, tif="gtc")])
    before = stand.broker.account()
    for wrong, why in WRONG:
        caplog.clear()
        assert stand.broker.submit([wrong]) == []
        assert re.search(why, caplog.text), wrong
    after = stand.broker.account()
    assert (after.positions, after.open_orders, after.cash) == (
        before.positions,
        before.open_orders,
        before.cash,
    )
