"""What a live run does where the venue fails it, where two of them meet, and where it is late."""

# Private access: answers of the venue's client and of the data feed are replaced.
from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

from execution.orders.auctions import order_send_deadline
from execution.orders.orders import make_order_id
from foundation.errors import BrokerError
from tests.e2e.practice import KEYS, OPENING, Live, Practice, Start, broker, buy, order, trading
from tests.support.messages import refused
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.feed.market_data import MarketData

FIVE = np.timedelta64(5, "m")


BEYOND_MEASURE = {
    "client_order_id": "x",
    "symbol": "SYA",
    "side": "buy",
    "type": "limit",
    "qty": "100000000000000",
    "limit_price": "0.000001",
}


def test_malformed_positions_response_raises_instead_of_empty_account(
    here: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = broker(here)
    client = mine._venue.client
    get = client.get
    answers: tuple[Any, ...] = ({}, "", None, "[]", [1], [None], [BEYOND_MEASURE])
    for asked, answer in product(("get_all_positions", "get"), answers):
        with monkeypatch.context() as patch:

            def told(path: str = "", *more: Any, answer: Any = answer) -> Any:
                return answer if path in ("", "/orders") else get(path, *more)

            patch.setattr(client, asked, told)
            with refused(BrokerError, "account"):
                mine.account()
    assert mine.account().positions == {}


def test_late_decision_sends_no_orders(
    here: Practice, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour and a half later the orders would exceed the caps that the decision observed."""
    live = Live.at(here)
    mine = broker(here)
    late: list[Any] = []
    prices = BarFeed.prices

    def slow(feed: BarFeed, symbols: Any, now: np.datetime64) -> Any:
        found = prices(feed, symbols, now)
        if not late:
            late.append(here.fail(kind="skew", seconds=3600, count=20))
        return found

    monkeypatch.setattr(BarFeed, "prices", slow)
    with caplog.at_level(logging.WARNING):
        cycle = live.cycle(mine)
    assert cycle.decision is not None
    assert cycle.decision.orders
    assert not here.posts
    assert "not sent: the order expired at 20240220T153500Z" in caplog.text


def test_stale_or_missing_latest_price_is_not_used(
    here: Practice, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = MarketData(BrokerSettings(url_override=here.url), KEYS, "iex")
    now = here.venue.now
    assert set(data.prices(["SYA", "SYB"], now)) == {"SYA", "SYB"}
    assert data.prices(["SYA", "SYB"], now + np.timedelta64(3, "h")) == {}
    assert "SYA: no current price: the latest is from 2024-02-20T14:30Z" in caplog.text
    bar = {"t": "2024-02-20T15:00:00Z", "o": 1, "h": 1, "l": 1, "v": 1}
    for wrong in ({"c": 0}, {"c": "nan"}, {"c": "much"}, {}, {"c": 1, "t": "soon"}):
        monkeypatch.setattr(
            data,
            "_request_by_asset_class",
            lambda _, items, wrong=wrong: [(items[0], {**bar, **wrong})],
        )
        with refused(BrokerError, "SYA", varies="Unknown datetime [^:]*"):
            data.prices(["SYA"], now)


def test_stock_orders_are_not_sent_after_session_close() -> None:
    """Such an order would wait for the next open, days later before a weekend."""
    stock = order("a", "SYA")
    coin = order("b", "SYXUSD", tif="gtc")
    last = np.datetime64("2024-02-20T20:58", "ns")
    assert order_send_deadline(stock, last, last, FIVE) == np.datetime64("2024-02-20T21:00", "ns")
    assert order_send_deadline(coin, last, last, FIVE) == last + FIVE
    half_day = np.datetime64("2024-07-03T16:59", "ns")
    assert order_send_deadline(stock, half_day, half_day, FIVE) == np.datetime64(
        "2024-07-03T17:00", "ns"
    )
    midday = np.datetime64("2024-02-20T17:30", "ns")
    assert order_send_deadline(stock, midday, midday, FIVE) == midday + FIVE


def test_only_the_symbol_with_unknown_order_is_skipped(here: Practice) -> None:
    mine = broker(here)
    here.fail(kind="late", method="POST", path="/v2/orders", seconds=3600, count=2)
    with pytest.raises(BrokerError):
        mine.submit([order("late-1", qty="1")])
    here.fail(kind="late", method="POST", path="/v2/orders", seconds=3600)
    cycle = Live.at(here, "sizing.strategy=equal_weight").cycle(mine)
    assert cycle.account.uncertain_symbols == {"SYA"}
    assert cycle.decision is not None
    assert {each.symbol for each in cycle.decision.orders} == {"SYB"}
    here.land()
    assert sorted(ticket.order.symbol for ticket in here.venue.tickets.values()) == ["SYA", "SYB"]


def test_fill_of_replaced_order_triggers_a_new_decision(practice: Start) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    mine = broker(here)
    live = Live.at(here, "sizing.strategy=equal_weight")
    # The practice market moves by the hour; at a real one minutes are enough.
    object.__setattr__(live.settings, "decision_valid_seconds", 20_000.0)
    trading(here).submit_order(buy("SYA", 1400))
    for _ in range(3):
        here.advance()
    decision = live.decide(broker(here)).decision
    assert decision is not None
    (sale,) = (each for each in decision.orders if each.symbol == "SYA")
    assert sale.reduces
    # The cycle before ordered that very reduction, and its cancellation was lost.
    old = make_order_id(live.settings.order_prefix, np.datetime64(OPENING[:-1], "ns"), "SYA", 0)
    here.halt("SYA")
    sold = {"symbol": "SYA", "qty": str(sale.qty), "side": "sell", "client_order_id": old}
    trading(here).post("/orders", {**sold, "type": "market", "time_in_force": "day"})
    here.halt("SYA", False)
    prices = live.feed.prices
    slow = iter([True])

    def late_prices(symbols: Sequence[str], now: np.datetime64) -> Any:
        answer = prices(symbols, now)
        if next(slow, False):
            here.advance()
            here.advance()
        return answer

    live.feed.prices = late_prices
    cycle = live.cycle(mine)
    assert cycle.decision is not None
    here.advance()
    account = mine.account()
    weight = float(account.positions["SYA"]) * account.prices["SYA"] / account.equity
    assert weight == pytest.approx(0.5, abs=0.05)
