"""The practice server, asked by the real `alpaca-py` clients."""

from __future__ import annotations

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

from tests.e2e.practice import KEYS, OPENING, Start, broker, buy, order, trading

pytestmark = pytest.mark.usefixtures("over_http")

OPEN = GetOrdersRequest(status=QueryOrderStatus.OPEN)


def test_alpaca_clients_read_account_clock_assets_and_bars(practice: Start) -> None:
    here = practice()
    assert requests.get(f"{here.url}/v2/account", timeout=10).status_code == 401, "without keys"
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
    times, values = here.venue.market.bars.bars_of_symbol(
        here.venue.market.bars.symbols.index("SYA")
    )
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


def test_every_order_type_is_accepted_and_reported(practice: Start) -> None:
    here = practice()
    client = trading(here)
    opening = {"symbol": "SYA", "qty": 1, "side": "buy", "time_in_force": "opg"}
    assert client.submit_order(LimitOrderRequest(limit_price=1, **opening)).status == "accepted"
    here.advance(OPENING)
    with pytest.raises(APIError, match="auction accepts no orders now; next at 2024"):
        client.submit_order(MarketOrderRequest(**opening))
    price = here.venue.broker.open_price("SYA") or 0.0
    near, low = round(price * 1.5, 2), round(price * 0.5, 2)
    terms: dict[str, Any] = {"symbol": "SYA", "qty": 1, "side": "buy", "time_in_force": "gtc"}
    asked = [
        (StopOrderRequest(stop_price=near, **terms), "stop"),
        (StopLimitOrderRequest(stop_price=near, limit_price=near, **terms), "stop_limit"),
        (TrailingStopOrderRequest(trail_percent=50, **terms), "trailing_stop"),
        (TrailingStopOrderRequest(trail_price=price / 2, **terms), "trailing_stop"),
        (MarketOrderRequest(**{**terms, "time_in_force": "cls"}), "market"),
        (LimitOrderRequest(limit_price=low, extended_hours=True, **terms), "limit"),
    ]
    for request, kind in asked:
        done = client.submit_order(request)
        said = (done.order_type, done.status, done.time_in_force)
        assert said == (kind, "new", request.time_in_force), request
        assert client.get_order_by_id(done.id).client_order_id == done.client_order_id
        assert done.extended_hours is bool(request.extended_hours)
    assert len(client.get_orders(OPEN)) == 6
    here.advance("2024-02-20T21:00:00Z")
    with pytest.raises(APIError, match="closing auction accepts no orders now; next at 2024"):
        client.submit_order(MarketOrderRequest(**{**opening, "time_in_force": "cls"}))
    ended = {
        o.time_in_force: o.status
        for o in client.get_orders(GetOrdersRequest(status=QueryOrderStatus.CLOSED))
    }
    assert ended == {"opg": "expired", "cls": "filled"}
    for waiting in client.get_orders():
        client.cancel_order_by_id(waiting.id)
    assert client.get_orders() == []


def test_orders_rest_when_halted_and_fail_when_disallowed(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    client = trading(here)
    stocks = StockHistoricalDataClient(KEYS.key, KEYS.secret, url_override=here.url)

    def latest() -> str:
        bars = stocks.get_stock_latest_bar(StockLatestBarRequest(symbol_or_symbols="SYA"))
        return f"{bars['SYA'].timestamp:%H:%M}"

    def told(symbol: str, **flags: bool) -> int:
        terms = {"symbol": symbol, **flags}
        return requests.post(f"{here.url}/control/assets", json=terms, timeout=10).status_code

    assert told("SYA", halted=True) == 200
    waits = client.submit_order(buy(client_order_id="waits"))
    here.advance("2024-02-20T18:30:00Z")
    assert (client.get_order_by_id(waits.id).status, latest()) == ("new", "14:30")
    assert client.submit_order(buy("SYB")).status == "filled"
    assert told("SYA", halted=False) == 200
    here.advance("2024-02-20T20:30:00Z")
    assert (client.get_order_by_id(waits.id).status, latest()) == ("filled", "19:30")
    assert told("ZZZ", tradable=False) == 422
    assert told("SYC", easy_to_borrow=False) == told("SYB", tradable=False) == 200
    count = len(here.venue.tickets)
    refused = [order("short-1", "SYC", "sell"), order("shut-1", "SYB")]
    assert broker(here).submit(refused) == []
    assert len(here.venue.tickets) == count


def test_served_bars_are_raw_or_split_adjusted(practice: Start, tmp_path: Path) -> None:
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
