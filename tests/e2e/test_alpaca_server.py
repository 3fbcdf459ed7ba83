"""The practice server, asked by the real `alpaca-py` clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import requests
from alpaca.common.exceptions import APIError
from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient
from alpaca.data.requests import CryptoBarsRequest, StockBarsRequest, StockLatestBarRequest
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.enums import QueryOrderStatus
from alpaca.trading.requests import (
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    StopLimitOrderRequest,
    StopOrderRequest,
    TrailingStopOrderRequest,
)

from tests.e2e.practice import (
    KEYS,
    OPENING,
    Practice,
    Start,
    broker,
    buy,
    order,
    practising,
    trading,
)

OPEN = GetOrdersRequest(status=QueryOrderStatus.OPEN)


def limit(price: float, side: str = "buy", **more: Any) -> LimitOrderRequest:
    """An order for five shares of SYA, for the day."""
    terms = {"symbol": "SYA", "qty": 5, "side": side, "time_in_force": "day", **more}
    return LimitOrderRequest(limit_price=round(price, 2), **terms)


@pytest.fixture(scope="module")
def refusing() -> Iterator[Practice]:
    """A server at its opening, with a position, for questions that change nothing of it."""
    with practising() as start:
        here = start()
        here.advance(OPENING)
        trading(here).submit_order(buy(client_order_id="one"))
        yield here


def test_the_real_clients_read_account_clock_assets_and_bars(practice: Start) -> None:
    here = practice()
    client = trading(here)
    assert client.get_account().cash == "100000.0"
    here.advance(OPENING)
    clock = client.get_clock()
    assert clock.is_open
    assert f"{clock.timestamp:%Y-%m-%dT%H:%M:%SZ}" == OPENING
    assert f"{clock.next_close:%Y-%m-%dT%H:%M:%SZ}" == "2024-02-20T21:00:00Z"
    assert client.get_asset("SYA").shortable
    assert not client.get_asset("SYX/USD").marginable
    half_hours = TimeFrame(30, TimeFrameUnit.Minute)
    stocks = StockHistoricalDataClient(KEYS.key, KEYS.secret, url_override=here.url)
    bars = stocks.get_stock_bars(
        StockBarsRequest(symbol_or_symbols="SYA", timeframe=half_hours, start="2024-02-16")
    )["SYA"]
    times, values = here.venue.market.bars.real_bars(here.venue.market.bars.symbols.index("SYA"))
    known = values[times <= np.datetime64(OPENING[:-1], "ns")]
    hours = {
        (bar.timestamp - pd.Timedelta(minutes=30 * (bar.timestamp.minute == 0))): bar.close
        for bar in bars
    }
    assert list(hours.values()) == known[-len(hours) :, 3].tolist()
    assert sum(bar.volume for bar in bars) == known[-len(hours) :, 4].sum()
    latest = stocks.get_stock_latest_bar(StockLatestBarRequest(symbol_or_symbols="SYA"))["SYA"]
    assert latest.close == known[-1, 3]
    coins = CryptoHistoricalDataClient(url_override=here.url)
    hours = CryptoBarsRequest(
        symbol_or_symbols="SYX/USD", timeframe=TimeFrame.Hour, start="2024-02-20"
    )
    assert len(coins.get_crypto_bars(hours)["SYX/USD"]) == 15


def test_many_bars_come_in_pages_and_are_all_there(
    practice: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("marketsimulator.venue.market_data.PAGE", 100)
    here = practice()
    hours = CryptoBarsRequest(
        symbol_or_symbols=["SYX/USD", "SYY/USD"], timeframe=TimeFrame.Hour, start="2024-02-01"
    )
    found = CryptoHistoricalDataClient(url_override=here.url).get_crypto_bars(hours)
    assert len(found["SYX/USD"]) == len(found["SYY/USD"]) == 461


def test_the_real_client_orders_cancels_and_looks_up(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    client = trading(here)
    filled = client.submit_order(buy(client_order_id="one"))
    assert (filled.status, filled.filled_qty) == ("filled", "10")
    price = float(filled.filled_avg_price)
    waiting = client.submit_order(limit(price * 0.5))
    assert waiting.status == "new"
    assert [o.id for o in client.get_orders(OPEN)] == [waiting.id]
    client.cancel_order_by_id(waiting.id)
    assert client.get_order_by_id(waiting.id).status == "canceled"
    assert client.get_order_by_client_id("one").id == filled.id
    assert client.submit_order(limit(price * 1.5)).status in ("filled", "new")
    (position,) = client.get_all_positions()
    assert float(position.avg_entry_price) == pytest.approx(price, rel=0.05)
    closed = client.submit_order(
        MarketOrderRequest(symbol="SYA", qty=position.qty, side="sell", time_in_force="day")
    )
    assert client.get_all_positions() == []
    events = client.get("/account/activities")
    assert {event["order_id"] for event in events} >= {str(filled.id), str(closed.id)}


PLAIN = {"symbol": "SYA", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ({"client_order_id": "one"}, 422),
        ({"symbol": "ZZZZ"}, 422),
        ({"qty": "-1"}, 422),
        ({"type": "limit"}, 422),
        ({"symbol": "SYX/USD"}, 403),
        ({"qty": "30", "side": "sell"}, 403),
        ({"time_in_force": "ioc"}, 422),
        ({"order_class": "bracket"}, 422),
        ({"stop_loss": {"stop_price": 1.0}}, 422),
        ({"notional": "250", "qty": None}, 422),
    ],
)
def test_what_the_venue_does_not_take_is_refused_in_its_words(
    refusing: Practice, words: dict[str, Any], status: int
) -> None:
    client = trading(refusing)
    before = client.get_account().cash
    with pytest.raises(APIError) as refused:
        client.post("/orders", {**PLAIN, **words})
    assert refused.value.status_code == status
    assert refused.value.code > 40_000_000
    assert client.get_account().cash == before
    assert list(refusing.venue.tickets) == ["one"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v2/stocks/bars?symbols=SYA&start=soon", None),
        ("GET", "/v2/stocks/bars?symbols=S%20Y%20A", None),
        ("GET", "/v2/orders?limit=many", None),
        ("GET", "/v2/assets/no%20symbol", None),
        ("GET", "/v2/orders?symbols=SYA", None),
        ("GET", "/v2/account/activities?activity_types=FILL", None),
        ("POST", "/control/advance", '{"to": "soon"}'),
        ("POST", "/control/advance", '{"stesp": 2}'),
        ("POST", "/control/advance", '{"steps": 0}'),
        ("POST", "/control/advance", '{"steps": 2, "to": "2024-02-21"}'),
        ("POST", "/control/faults", '{"kind": "gremlin"}'),
        ("POST", "/control/activities", '{"late": "OPEXP"}'),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_and_says_why(
    refusing: Practice, method: str, path: str, body: str | None
) -> None:
    headers = {"APCA-API-KEY-ID": "KEY"}
    before = refusing.venue.index
    address = f"{refusing.url}{path}"
    answer = requests.request(method, address, data=body, headers=headers, timeout=10)
    assert refusing.venue.index == before
    assert answer.status_code == 422
    assert answer.json()["message"]


def test_a_waiting_clock_is_moved_by_as_many_instants_as_are_asked_for(practice: Start) -> None:
    here = practice()
    path = f"{here.url}/control/advance"
    moved = requests.post(path, json={"steps": 3}, timeout=30).json()
    assert (moved["moved"], moved["passed"]) == (3, 3)
    ended = requests.post(path, json={"steps": 10**30}, timeout=120).json()
    assert (ended["moved"], ended["left"], ended["over"]) == (moved["left"], 0, True)
    assert here.venue.over


def test_without_keys_there_is_no_account(refusing: Practice) -> None:
    assert requests.get(f"{refusing.url}/v2/account", timeout=10).status_code == 401


def price_at_opening(here: Practice) -> float:
    return here.venue.broker.open_price("SYA") or 0.0


def test_every_type_of_order_is_taken_and_shown_as_it_was_asked(practice: Start) -> None:
    here = practice()
    client = trading(here)
    opening = {"symbol": "SYA", "qty": 1, "side": "buy", "time_in_force": "opg"}
    assert client.submit_order(LimitOrderRequest(limit_price=1, **opening)).status == "accepted"
    here.advance(OPENING)
    with pytest.raises(APIError, match="auction takes no orders now, and again at 2024"):
        client.submit_order(MarketOrderRequest(**opening))
    price = price_at_opening(here)
    near = round(price * 1.5, 2)
    terms: dict[str, Any] = {"symbol": "SYA", "qty": 1, "side": "buy", "time_in_force": "gtc"}
    asked = [
        (StopOrderRequest(stop_price=near, **terms), "stop"),
        (StopLimitOrderRequest(stop_price=near, limit_price=near, **terms), "stop_limit"),
        (TrailingStopOrderRequest(trail_percent=50, **terms), "trailing_stop"),
        (TrailingStopOrderRequest(trail_price=price / 2, **terms), "trailing_stop"),
        (MarketOrderRequest(**{**terms, "time_in_force": "cls"}), "market"),
        (limit(price * 0.5, time_in_force="gtc", extended_hours=True), "limit"),
    ]
    for request, kind in asked:
        done = client.submit_order(request)
        said = (done.order_type, done.status, done.time_in_force)
        assert said == (kind, "new", request.time_in_force), request
        assert client.get_order_by_id(done.id).client_order_id == done.client_order_id
        assert done.extended_hours is bool(request.extended_hours)
    assert len(client.get_orders(OPEN)) == 6
    here.advance("2024-02-20T21:00:00Z")
    with pytest.raises(APIError, match="closing auction takes no orders now, and again at 2024"):
        client.submit_order(MarketOrderRequest(**{**opening, "time_in_force": "cls"}))
    ended = {
        o.time_in_force: o.status
        for o in client.get_orders(GetOrdersRequest(status=QueryOrderStatus.CLOSED))
    }
    assert ended == {"opg": "expired", "cls": "filled"}
    for waiting in client.get_orders():
        client.cancel_order_by_id(waiting.id)
    assert client.get_orders() == []


def test_a_halt_lets_orders_wait_and_shows_no_bars_until_it_ends(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    client = trading(here)
    stocks = StockHistoricalDataClient(KEYS.key, KEYS.secret, url_override=here.url)

    def latest() -> str:
        bars = stocks.get_stock_latest_bar(StockLatestBarRequest(symbol_or_symbols="SYA"))
        return f"{bars['SYA'].timestamp:%H:%M}"

    def halt(halted: bool) -> None:
        assert requests.post(
            f"{here.url}/control/assets", json={"symbol": "SYA", "halted": halted}, timeout=10
        ).ok

    halt(True)
    waits = client.submit_order(buy(client_order_id="waits"))
    here.advance("2024-02-20T18:30:00Z")
    assert (client.get_order_by_id(waits.id).status, latest()) == ("new", "14:30")
    assert client.submit_order(buy("SYB")).status == "filled"
    halt(False)
    here.advance("2024-02-20T20:30:00Z")
    assert (client.get_order_by_id(waits.id).status, latest()) == ("filled", "19:30")


def test_bars_are_raw_or_adjusted_for_splits_as_asked(practice: Start, tmp_path: Path) -> None:
    actions = tmp_path / "actions.csv"
    actions.write_text("symbol,date,kind,value\nSYA,2024-02-21,split,4\n")
    here = practice("data.adjustment=raw", f"data.actions={actions}")
    stocks = StockHistoricalDataClient(KEYS.key, KEYS.secret, url_override=here.url)

    def opens(adjustment: str) -> list[float]:
        asked = StockBarsRequest(
            symbol_or_symbols="SYA",
            timeframe=TimeFrame.Hour,
            start="2024-02-20",
            adjustment=adjustment,
        )
        return [bar.open for bar in stocks.get_stock_bars(asked)["SYA"]]

    here.advance("2024-02-20T21:00:00Z")
    assert opens("split") == opens("raw")
    here.advance("2024-02-21T15:30:00Z")
    assert opens("split") == [*(price / 4 for price in opens("raw")[:-1]), opens("raw")[-1]]


def test_the_clock_runs_as_fast_as_asked(practice: Start) -> None:
    here = practice(speed=36_000.0)
    client = trading(here)
    first = client.get_clock().timestamp
    while client.get_clock().timestamp == first:
        pass


def test_the_venue_refuses_what_its_assets_do_not_allow(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    for symbol, flag, status in (
        ("SYA", "easy_to_borrow", 200),
        ("SYB", "tradable", 200),
        ("ZZZ", "tradable", 422),
    ):
        told = {"symbol": symbol, flag: False}
        answer = requests.post(f"{here.url}/control/assets", json=told, timeout=10)
        assert answer.status_code == status
    assert broker(here).submit([order("short-1", side="sell"), order("halt-1", "SYB")]) == []
    assert here.venue.tickets == {}
