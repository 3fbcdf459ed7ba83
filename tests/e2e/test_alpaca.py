"""The real `alpaca-py` clients and the broker on top of them, against the practice server on loopback."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from aiohttp import web
from alpaca.common.exceptions import APIError
from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
from alpaca.data.requests import CryptoBarsRequest, StockBarsRequest, StockLatestBarRequest
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import (
    GetCalendarRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
)
from alpaca.trading.stream import TradingStream

from execution.alpaca import AlpacaBroker, OrderRejected, OutcomeUnknown
from execution.broker import place
from execution.cycle import Rules, run_cycle
from execution.orders import Order
from execution.settings import LiveSettings
from execution.updates import TradeUpdates
from marketsimulator.alpaca_app import Server
from marketsimulator.backtest import simulate
from marketsimulator.settings import BacktestSettings
from marketsimulator.venue import Venue
from trainingdata.bars import read_bars
from trainingdata.composition import composed
from trainingdata.endpoint import BrokerSettings, Keys, Pace
from trainingdata.market_data import BarFeed, MarketData

ROOT = Path(__file__).resolve().parent.parent.parent
KEYS = Keys("KEYKEYKEY", "SECRETSECRET")
OPENING = "2024-02-20T15:30:00Z"
SPAN = ("data.start=2024-01-02", "data.end=2024-03-08", "trials=null", "forecaster=oracle", "forecaster.calibrated=false")


@dataclass
class Practice:
    """A running server: its address, its venue, what it was asked."""

    url: str
    venue: Venue
    posts: list[str]

    def advance(self, to: str | None = None) -> dict[str, Any]:
        answer: dict[str, Any] = requests.post(f"{self.url}/control/advance", json={"to": to} if to else {}, timeout=30).json()
        return answer

    def fail(self, **fault: Any) -> None:
        assert requests.post(f"{self.url}/control/faults", json=fault, timeout=30).status_code == 200


Start = Callable[..., Practice]


@pytest.fixture
def practice() -> Iterator[Start]:
    """Starts servers on the synthetic market, which stop when the test ends."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runners: list[web.AppRunner] = []

    def start(*words: str, speed: float | None = None) -> Practice:
        settings = BacktestSettings.of(composed("backtest", [*SPAN, "start=2024-02-20", "end=2024-02-23", *words]))
        bars, first = settings.panel()
        server, posts = Server(Venue(settings, bars, first), speed), []
        app = server.app()

        async def note(request: web.Request, _: web.StreamResponse) -> None:
            if request.method == "POST" and request.path == "/v2/orders":
                posts.append(await request.text())

        app.on_response_prepare.append(note)

        async def up() -> int:
            runner = web.AppRunner(app)
            runners.append(runner)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            return int(runner.addresses[0][1])

        port = asyncio.run_coroutine_threadsafe(up(), loop).result(30)
        return Practice(f"http://127.0.0.1:{port}", server.venue, posts)

    yield start
    for runner in runners:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(30)
    loop.close()


def trading(here: Practice) -> TradingClient:
    return TradingClient(KEYS.key, KEYS.secret, url_override=here.url)


def broker(here: Practice, patience: float = 0.0) -> AlpacaBroker:
    settings = BrokerSettings(url_override=here.url, read_timeout=5.0)
    return AlpacaBroker(settings, KEYS, patience=patience, pause=lambda seconds: time.sleep(min(seconds, 0.02)))


def buy(symbol: str = "SYA", qty: float = 10, **more: Any) -> MarketOrderRequest:
    coin = symbol.endswith("USD")
    force = TimeInForce.GTC if coin else TimeInForce.DAY
    return MarketOrderRequest(symbol=symbol, qty=qty, side=OrderSide.BUY, time_in_force=force, **more)


def order(name: str, symbol: str = "SYA", side: Any = "buy", qty: str = "10", **more: Any) -> Order:
    return Order(name, symbol, side, Decimal(qty), "test", **more)


def test_the_real_clients_read_account_clock_calendar_assets_and_bars(practice: Start) -> None:
    here = practice()
    client = trading(here)
    assert client.get_account().cash == "100000.0"
    here.advance(OPENING)
    clock = client.get_clock()
    assert clock.is_open
    assert f"{clock.timestamp:%Y-%m-%dT%H:%M:%SZ}" == OPENING
    assert f"{clock.next_close:%Y-%m-%dT%H:%M:%SZ}" == "2024-02-20T21:00:00Z"
    days = client.get_calendar(GetCalendarRequest(start="2024-02-16", end="2024-02-20"))
    assert [f"{day.date}" for day in days] == ["2024-02-16", "2024-02-20"]
    assets = {asset.symbol: asset for asset in client.get_all_assets()}
    assert assets["SYA"].shortable
    assert not assets["SYX/USD"].marginable
    assert client.get_asset("SYA").id == assets["SYA"].id
    half_hours = TimeFrame(30, TimeFrameUnit.Minute)
    stocks = StockHistoricalDataClient(KEYS.key, KEYS.secret, url_override=here.url)
    bars = stocks.get_stock_bars(StockBarsRequest(symbol_or_symbols="SYA", timeframe=half_hours, start="2024-02-16"))["SYA"]
    times, values = here.venue.bars.own(here.venue.bars.symbols.index("SYA"))
    known = values[times <= np.datetime64(OPENING[:-1], "ns")]
    assert [bar.close for bar in bars] == known[-len(bars) :, 3].tolist()
    latest = stocks.get_stock_latest_bar(StockLatestBarRequest(symbol_or_symbols="SYA"))["SYA"]
    assert latest.close == known[-1, 3]
    coins = CryptoHistoricalDataClient(url_override=here.url)
    hours = CryptoBarsRequest(symbol_or_symbols="SYX/USD", timeframe=TimeFrame.Hour, start="2024-02-20")
    assert len(coins.get_crypto_bars(hours)["SYX/USD"]) == 15


def test_many_bars_come_in_pages_and_are_all_there(practice: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marketsimulator.alpaca_app.PAGE", 100)
    here = practice()
    hours = CryptoBarsRequest(symbol_or_symbols=["SYX/USD", "SYY/USD"], timeframe=TimeFrame.Hour, start="2024-02-01")
    found = CryptoHistoricalDataClient(url_override=here.url).get_crypto_bars(hours)
    assert len(found["SYX/USD"]) == len(found["SYY/USD"]) == 461


def test_the_real_client_orders_cancels_and_looks_up(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    client = trading(here)
    filled = client.submit_order(buy(client_order_id="one"))
    assert (filled.status, filled.filled_qty) == ("filled", "10")
    price = float(filled.filled_avg_price)
    low = LimitOrderRequest(symbol="SYA", qty=5, side="buy", time_in_force="day", limit_price=round(price * 0.5, 2))
    waiting = client.submit_order(low)
    assert waiting.status == "new"
    assert [o.id for o in client.get_orders(GetOrdersRequest(status=QueryOrderStatus.OPEN))] == [waiting.id]
    client.cancel_order_by_id(waiting.id)
    assert client.get_order_by_id(waiting.id).status == "canceled"
    assert client.get_order_by_client_id("one").id == filled.id
    near = LimitOrderRequest(symbol="SYA", qty=5, side="buy", time_in_force="day", limit_price=round(price * 1.5, 2))
    assert client.submit_order(near).status in ("filled", "new")
    position = client.get_open_position("SYA")
    assert float(position.avg_entry_price) == pytest.approx(price, rel=0.05)
    closed = client.close_position("SYA")
    assert closed.side == "sell"
    assert client.get_all_positions() == []
    events = client.get("/account/activities/FILL")
    assert {event["order_id"] for event in events} >= {str(filled.id), str(closed.id)}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"symbol": "SYA", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day", "client_order_id": "one"}, 422),
        ({"symbol": "ZZZZ", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}, 422),
        ({"symbol": "SYA", "qty": "-1", "side": "buy", "type": "market", "time_in_force": "day"}, 422),
        ({"symbol": "SYA", "qty": "much", "side": "buy", "type": "market", "time_in_force": "day"}, 422),
        ({"symbol": "SYA", "qty": "1", "side": "hold", "type": "market", "time_in_force": "day"}, 422),
        ({"symbol": "SYA", "qty": "1", "side": "buy", "type": "limit", "time_in_force": "day"}, 422),
        ({"symbol": "SYX/USD", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}, 403),
        ({"symbol": "SYA", "qty": "30", "side": "sell", "type": "market", "time_in_force": "day"}, 403),
    ],
)
def test_what_the_venue_does_not_take_is_refused_in_its_words(practice: Start, request_: dict[str, str], status: int) -> None:
    here = practice()
    here.advance(OPENING)
    client = trading(here)
    client.submit_order(buy(client_order_id="one"))
    before = client.get_account().cash
    with pytest.raises(APIError) as refused:
        client.post("/orders", request_)
    assert refused.value.status_code == status
    assert refused.value.code > 40_000_000
    assert client.get_account().cash == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v2/stocks/bars?symbols=SYA&start=soon", None),
        ("GET", "/v2/stocks/bars?symbols=S%20Y%20A", None),
        ("GET", "/v2/orders?limit=many", None),
        ("GET", "/v2/positions/no%20symbol", None),
        ("POST", "/control/advance", '{"to": "soon"}'),
        ("POST", "/control/faults", '{"kind": "gremlin"}'),
        ("POST", "/control/assets", "half of a"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_and_says_why(
    practice: Start, method: str, path: str, body: str | None
) -> None:
    here = practice()
    headers = {"APCA-API-KEY-ID": "KEY"}
    answer = requests.request(method, f"{here.url}{path}", data=body, headers=headers, timeout=10)
    assert answer.status_code == 422
    assert answer.json()["message"]


def test_without_keys_there_is_no_account(practice: Start) -> None:
    here = practice()
    assert requests.get(f"{here.url}/v2/account", timeout=10).status_code == 401


@pytest.mark.parametrize(
    ("fault", "taken"),
    [
        ({"kind": "status", "status": 504}, False),
        ({"kind": "status", "status": 500}, False),
        ({"kind": "drop_before"}, False),
        ({"kind": "drop_after"}, True),
        ({"kind": "malformed"}, True),
        ({"kind": "status", "status": 429, "seconds": 0.01, "count": 2}, True),
        ({"kind": "delay", "seconds": 0.2}, True),
    ],
)
def test_an_order_whose_answer_is_lost_is_looked_up_and_never_sent_twice(
    practice: Start, fault: dict[str, Any], taken: bool
) -> None:
    here = practice()
    here.advance(OPENING)
    here.fail(method="POST", path="/v2/orders", **fault)
    fills = broker(here).submit([order("only-1")])
    assert [(f.client_order_id, f.qty) for f in fills] == ([("only-1", Decimal(10))] if taken else [])
    assert len(here.venue.tickets) == int(taken)
    assert broker(here).account().positions == ({"SYA": Decimal(10)} if taken else {})
    assert sum("only-1" in body for body in here.posts) <= (3 if fault.get("status") == 429 else 1)


def test_where_nobody_knows_what_became_of_an_order_nothing_more_is_sent(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    here.fail(kind="drop_after", method="POST", path="/v2/orders")
    here.fail(kind="status", status=500, path="/v2/orders:by_client_order_id", count=1000)
    with pytest.raises(OutcomeUnknown, match="first-1: sent, and the venue does not say"):
        broker(here).submit([order("first-1"), order("second-1", "SYB")])
    assert set(here.venue.tickets) == {"first-1"}


def test_the_same_order_again_is_the_order_that_was(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    mine = broker(here)
    assert mine.submit([order("same-1")]) == mine.submit([order("same-1")])
    assert mine.account().positions == {"SYA": Decimal(10)}


def test_a_rejection_is_logged_and_reductions_that_failed_keep_openings_back(
    practice: Start, caplog: pytest.LogCaptureFixture
) -> None:
    here = practice()
    here.advance(OPENING)
    mine = broker(here)
    mine.submit([order("open-1")])
    here.fail(kind="reject", method="POST", path="/v2/orders")
    orders = [order("cut-1", side="sell", reduces=True), order("more-1", "SYB")]
    with caplog.at_level(logging.WARNING):
        assert place(mine, orders) == []
    assert "cut-1: rejected (403)" in caplog.text
    assert mine.account().positions == {"SYA": Decimal(10)}


def test_what_a_market_order_has_not_done_when_patience_ends_is_cancelled(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    mine = broker(here)
    price = mine.submit([order("see-1")])[0].price
    assert mine.submit([order("low-1", qty="5", type="limit", limit_price=round(price * 0.5, 2))]) == []
    assert mine.submit([order("coin-1", "SYXUSD", qty="1", tif="gtc")]) == []  # no bar of it starts at half past
    assert (here.venue.tickets["low-1"].status, here.venue.tickets["coin-1"].status) == ("new", "canceled")
    here.fail(kind="partial")
    half = mine.submit([order("half-1", "SYB")])
    assert [(f.symbol, f.qty) for f in half] == [("SYB", Decimal(5))]


def test_fills_since_an_instant_are_the_venues_in_their_order(practice: Start) -> None:
    here = practice()
    mine = broker(here)
    here.advance(OPENING)
    mine.submit([order("a-1"), order("b-1", "SYB", "sell", "3")])
    here.advance("2024-02-20T16:00:00Z")
    mine.submit([order("c-1", "SYXUSD", qty="0.5", tif="gtc")])
    every = mine.fills_since(np.datetime64("2024-02-20T00:00", "ns"))
    assert [(f.client_order_id, f.qty) for f in every] == [("a-1", 10), ("b-1", -3), ("c-1", Decimal("0.5"))]
    assert [f.client_order_id for f in mine.fills_since(np.datetime64("2024-02-20T15:45", "ns"))] == ["c-1"]
    traded = [(f.client_order_id, f.symbol, f.qty, f.price, f.at) for f in here.venue.broker.fills if f.price > 0]
    assert [(f.client_order_id, f.symbol, f.qty, f.price, f.at) for f in every] == traded


def test_the_stream_tells_of_orders_and_fills(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    stream = TradingStream(KEYS.key, KEYS.secret, url_override=f"{here.url.replace('http', 'ws')}/stream")
    seen: list[tuple[str, str]] = []

    async def hear(update: Any) -> None:
        seen.append((str(getattr(update.event, "value", update.event)), update.order.client_order_id))

    stream.subscribe_trade_updates(hear)
    thread = threading.Thread(target=stream.run, daemon=True)
    thread.start()
    client = trading(here)
    for k in range(100):
        client.submit_order(buy("SYB", 1, client_order_id=f"s-{k}"))
        if seen:
            break
        time.sleep(0.1)
    name = seen[0][1]
    client.submit_order(buy("SYB", 1, client_order_id="last"))
    for _ in range(50):
        if ("fill", "last") in seen:
            break
        time.sleep(0.1)
    stream.stop()
    thread.join(30)
    assert seen[:2] == [("new", name), ("fill", name)]
    assert seen[-2:] == [("new", "last"), ("fill", "last")]


@pytest.mark.parametrize("fault", [None, "silence", "duplicate", "out_of_order"])
def test_the_stream_is_a_hint_and_rest_is_the_truth(practice: Start, fault: str | None) -> None:
    """Whatever the stream says, twice, late or not at all: what filled is what the venue's orders say."""
    here = practice()
    here.advance(OPENING)
    settings = BrokerSettings(url_override=here.url)
    with TradeUpdates(settings, KEYS) as updates:
        mine = AlpacaBroker(settings, KEYS, patience=2.0, listen=updates.wait)
        for k in range(100):
            mine.submit([order(f"warm-{k}", "SYB", qty="1")])
            if updates.heard:
                break
            time.sleep(0.1)
        if fault:
            here.fail(kind=fault, count=2)
        fills = mine.submit([order("told-1", qty="7")])
    assert [(f.client_order_id, f.qty) for f in fills] == [("told-1", Decimal(7))]
    assert mine.account().positions["SYA"] == 7


def test_listening_ends_at_once_however_far_the_connection_has_come(practice: Start) -> None:
    here = practice()
    for url in (here.url, "http://127.0.0.1:9"):
        for pause in (0.0, 0.0, 0.01, 0.3):
            began = time.monotonic()
            with TradeUpdates(BrokerSettings(url_override=url), KEYS):
                time.sleep(pause)
            assert time.monotonic() - began < pause + 2
    assert not [thread for thread in threading.enumerate() if thread.name == "trade updates"]


def test_what_filled_while_the_stream_was_down_is_read_once_it_is_back(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    settings = BrokerSettings(url_override=here.url)
    mine, since = broker(here), here.venue.now - np.timedelta64(1, "s")
    with TradeUpdates(settings, KEYS) as updates:
        updates.wait(10)
        assert (updates.connections, updates.heard) == (1, 0)
        here.fail(kind="silence", count=1000)
        requests.post(f"{here.url}/control/hang_up", timeout=10)
        mine.submit([order("missed-1", qty="7")])
        updates.wait(10)
        assert (updates.connections, updates.heard) == (2, 0)
        assert [(f.client_order_id, f.qty) for f in mine.fills_since(since)] == [("missed-1", 7)]


def test_an_order_that_waits_is_seen_to_fill_when_the_bar_trades_through(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    mine, done = broker(here, patience=20.0), []
    price = mine.submit([order("see-1", qty="1")])[0].price
    name = "wait-1"
    thread = threading.Thread(target=lambda: done.extend(mine.submit([order(name, type="limit", limit_price=round(price, 2))])))
    thread.start()
    while name not in here.venue.tickets:
        time.sleep(0.01)
    for _ in range(40):
        if here.venue.tickets[name].status == "filled":
            break
        here.advance()
    thread.join(60)
    assert [(f.client_order_id, f.qty) for f in done] == [(name, Decimal(10))]


def test_a_clock_that_is_wrong_decides_nothing_from_old_bars(practice: Start) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    live = LiveSettings.of(composed("live", [*SPAN[3:], "symbols=[SYA,SYB]", f"broker.url_override={here.url}"]))
    bars, _ = here.venue.settings.panel()
    trader = live.trader(live.forecaster.build(bars.symbols)).over(bars, here.venue.now)
    here.fail(kind="skew", seconds=3000, count=1)
    done = run_cycle(broker(here), BarFeed(MarketData(live.broker, KEYS, "iex"), live.symbols, 400), trader, live, send=True)
    assert done.decision is None
    assert here.venue.tickets == {}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (order("frac-1", qty="1.5", tif="gtc"), "fractions of a share trade in day orders only"),
        (order("frac-2", side="sell", qty="1.5"), "whole shares where it is sold short"),
        (order("coin-1", "SYXUSD", qty="1"), "coins take market"),
        (order("dust-1", "SYXUSD", qty="0.0000000001", tif="gtc"), "multiples of 0.000000001"),
        (order("short-1", "SYXUSD", side="sell", qty="1", tif="gtc"), ""),
    ],
)
def test_what_the_venue_would_refuse_is_not_sent(
    practice: Start, caplog: pytest.LogCaptureFixture, wrong: Order, says: str
) -> None:
    here = practice()
    here.advance("2024-02-20T16:00:00Z" if wrong.symbol.endswith("USD") else OPENING)
    mine = broker(here)
    mine.assets(["SYA", "SYXUSD"])
    assert mine.submit([wrong]) == []
    assert mine.account().positions == {}
    assert says in caplog.text
    assert bool(here.posts) is (says == "")


def test_the_clock_runs_as_fast_as_asked(practice: Start) -> None:
    here = practice(speed=36_000.0)
    client = trading(here)
    first, began = client.get_clock().timestamp, time.monotonic()
    while client.get_clock().timestamp == first and time.monotonic() - began < 20:
        time.sleep(0.05)
    assert client.get_clock().timestamp > first


def test_the_same_decisions_over_the_wire_end_with_the_backtests_fills_and_equity(practice: Start) -> None:
    """The backtest is the live system: four days, every instant, bars, account and orders through `alpaca-py`."""
    words = ("symbols=[SYA,SYB,SYC,SYXUSD]", "limits.symbol_cap=0.4")
    here = practice(*words, "increments=original")
    settings = here.venue.settings
    bars, first = settings.panel()
    oracle = settings.forecaster.build(bars.symbols)
    alone = BacktestSettings.of(composed("backtest", [*SPAN, "start=2024-02-20", "end=2024-02-23", *words]))
    expected = simulate(alone, bars, first, "alone", alone.trader(oracle).over(bars, bars.times[first]))
    live = LiveSettings.of(composed("live", [*SPAN[3:], *words, f"broker.url_override={here.url}", "history_days=400"]))
    feed = BarFeed(MarketData(live.broker, KEYS, "iex"), live.symbols, live.history_days)
    trader, decisions = live.trader(oracle).over(bars, bars.times[first]), []
    while True:
        cycle = run_cycle(broker(here), feed, trader, live, send=True)
        decisions += [cycle.decision] if cycle.decision is not None else []
        if here.venue.over:
            break
        here.advance()
    assert len(expected.fills) > 100
    assert [d.orders for d in decisions] == [d.orders for d in expected.decisions]
    traded = [(f.client_order_id, f.symbol, f.qty, f.price, f.fee, f.at) for f in expected.fills]
    assert [(f.client_order_id, f.symbol, f.qty, f.price, f.fee, f.at) for f in here.venue.broker.fills] == traded
    assert here.venue.broker.row().equity == expected.rows[-1].equity
    assert float(trading(here).get_account().equity) == pytest.approx(expected.rows[-1].equity, abs=0.005)


def test_what_the_venue_does_not_allow_is_not_asked_of_it(practice: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Flags are read before sizing, once a day: nothing is sold short that cannot be borrowed, nothing halted is touched."""
    words = ("symbols=[SYA,SYB,SYC]",)
    here = practice(*words)
    here.advance(OPENING)
    flags = f"{here.url}/control/assets"
    requests.post(flags, json={"symbol": "SYA", "shortable": False}, timeout=10)
    requests.post(flags, json={"symbol": "SYB", "tradable": False}, timeout=10)
    live = LiveSettings.of(composed("live", [*SPAN[3:], *words, f"broker.url_override={here.url}"]))
    bars, _ = here.venue.settings.panel()
    trader = live.trader(live.forecaster.build(bars.symbols)).over(bars, here.venue.now)
    mine, rules = broker(here), Rules(broker(here))
    feed, sold = BarFeed(MarketData(live.broker, KEYS, "iex"), live.symbols, 400), set()
    for _ in range(20):
        done = run_cycle(mine, feed, trader, live, send=True, rules=rules)
        if done.decision is not None:
            assert "SYB" not in {c.symbol for c in done.decision.choices}
            assert all(c.target >= 0 for c in done.decision.choices if c.symbol == "SYA")
            sold |= {o.symbol for o in done.decision.orders if o.side == "sell"}
        assert done.account.positions.get("SYA", Decimal(0)) >= 0
        here.advance()
    assert "SYC" in sold
    assert "rejected" not in caplog.text


def test_the_venue_refuses_what_its_assets_do_not_allow(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    flags = f"{here.url}/control/assets"
    assert requests.post(flags, json={"symbol": "SYA", "easy_to_borrow": False}, timeout=10).status_code == 200
    assert requests.post(flags, json={"symbol": "SYB", "tradable": False}, timeout=10).status_code == 200
    assert requests.post(flags, json={"symbol": "ZZZ", "tradable": False}, timeout=10).status_code == 422
    assert broker(here).submit([order("short-1", side="sell"), order("halt-1", "SYB")]) == []
    assert here.venue.tickets == {}


def test_history_is_downloaded_into_files_that_a_backtest_reads(practice: Start, tmp_path: Path) -> None:
    here = practice()
    here.advance("2024-02-22T20:30:00Z")
    command = [sys.executable, "-m", "trainingdata.download", "--symbols", "SYA", "SYX/USD", "--start", "2024-01-10"]
    keys = {"APCA_API_KEY_ID": KEYS.key, "APCA_API_SECRET_KEY": KEYS.secret, "PATH": "", "HOME": str(tmp_path)}
    words = [*command, "--output", "bars", f"broker.url_override={here.url}"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*words, *more], cwd=tmp_path, env=keys, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 0, done.stderr
    read = read_bars([tmp_path / "bars"], None)
    since, until = np.datetime64("2024-01-10T05:00", "ns"), here.venue.now
    for s, symbol in enumerate(read.symbols):
        times, values = here.venue.bars.own(here.venue.bars.symbols.index(symbol))
        part = (times > since) & (times <= until)
        np.testing.assert_array_equal(read.own(s)[0], times[part])
        np.testing.assert_array_equal(read.own(s)[1], values[part])
    here.fail(kind="status", status=403, path="/v2/stocks/bars")
    refused = run("data.feed=sip")
    assert refused.returncode == 2
    assert "keys without a paid plan read data.feed=iex" in refused.stderr.splitlines()[-1]
    for wrong in ("--start=tomorrow", "--start=2999-01-01", "oops"):
        assert run(wrong).returncode == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--speed", "fast"], "--speed: fast is neither wait nor a number above 0"),
        (["--port", "99999"], "--port: 99999 is outside"),
        (["--start", "2030-01-01"], "the synthetic market runs from"),
        (["--symbols", "ZZZ"], "the synthetic market has no ZZZ"),
        (["--capital", "-5"], "capital: -5.0 is outside"),
        (["oops"], "'oops' is no flag"),
    ],
)
def test_a_server_that_cannot_be_says_so_in_a_line(words: list[str], says: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "marketsimulator.alpaca_server", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert says in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["mode=live"], "mode: live is none of dry, paper, replay"),
        (["mode=paper", "broker.paper=false", "symbols=[SYA]"], "orders with real money wait"),
        (["mode=paper"], "symbols: a venue has too many"),
        (["mode=replay", "symbols=[SYA]"], "a replay needs a practice server"),
        (["mode=paper", "symbols=[SYA]", "broker.url_override=http://127.0.0.1:9", "broker.attempts=1"], "no answer"),
        (["cycles=0"], "cycles: 0 is no number above 0"),
        (["clock=sun"], "clock: sun is none of broker, system"),
    ],
)
def test_a_live_run_that_cannot_be_says_so_in_a_line(words: list[str], says: str, tmp_path: Path) -> None:
    keys = {"APCA_API_KEY_ID": KEYS.key, "APCA_API_SECRET_KEY": KEYS.secret, "PATH": "", "HOME": str(tmp_path)}
    command = [sys.executable, str(ROOT / "trade_stock_e2e.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, env=keys, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert KEYS.secret not in done.stderr


def test_a_replay_by_command_leaves_the_files_of_a_run(practice: Start, tmp_path: Path) -> None:
    here = practice("symbols=[SYA,SYXUSD]", "end=2024-02-20")
    keys = {"APCA_API_KEY_ID": KEYS.key, "APCA_API_SECRET_KEY": KEYS.secret, "PATH": "", "HOME": str(tmp_path)}
    words = ["mode=replay", "symbols=[SYA,SYXUSD]", f"broker.url_override={here.url}", "output=out", "forecaster=ewma"]
    command = [
        sys.executable,
        str(ROOT / "trade_stock_e2e.py"),
        *words,
        "forecaster.calibrated=false",
        "sizing.strategy=equal_weight",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=keys, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert here.venue.over
    fills, orders = (pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("fills", "orders"))
    assert set(fills["client_order_id"]) == set(orders["client_order_id"]) == set(here.venue.tickets)
    equity = pd.read_parquet(tmp_path / "out" / "equity.parquet")
    assert equity["equity"].iloc[-1] == pytest.approx(here.venue.broker.row().equity, abs=0.005)
    assert "equal_weight sizing" in next((tmp_path / "logs").iterdir()).read_text()


def test_no_minute_holds_more_requests_than_allowed_and_the_venues_word_is_heeded() -> None:
    now = [0.0]
    pace = Pace(3, clock=lambda: now[0])
    for _ in range(3):
        assert pace.delay() == 0
        pace.wait()
        now[0] += 1
    assert pace.delay() == pytest.approx(57)
    now[0] = 60.5
    assert pace.delay() == 0
    pace.note({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "70"})
    assert pace.delay() == pytest.approx(9.5)


def test_a_rejected_order_is_a_named_error() -> None:
    assert issubclass(OrderRejected, ValueError)
