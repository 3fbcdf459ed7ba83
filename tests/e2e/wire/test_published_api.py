"""Our requests and the practice server against Alpaca's published documents and client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from alpaca.data.historical import (
    CryptoHistoricalDataClient,
    OptionHistoricalDataClient,
    StockHistoricalDataClient,
)
from alpaca.data.requests import (
    CryptoBarsRequest,
    CryptoLatestBarRequest,
    CryptoLatestTradeRequest,
    OptionLatestQuoteRequest,
    StockBarsRequest,
    StockLatestBarRequest,
    StockLatestTradeRequest,
)
from alpaca.data.timeframe import TimeFrame, TimeFrameUnit
from alpaca.trading.models import NonTradeActivity, TradeActivity
from alpaca.trading.requests import (
    GetAssetsRequest,
    GetCalendarRequest,
    GetOptionContractsRequest,
    GetOrdersRequest,
    GetPortfolioHistoryRequest,
)
from requests import PreparedRequest, Response

from execution.alpaca.broker import AlpacaConnection
from tests.e2e.practice import KEYS, Practice, Start, broker, order, trading
from tests.e2e.published import Document
from tests.support.spreads import AT, LONG, SHORT, UNDER, options, put, spreads
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.feed.market_data import MarketData
from trainingdata.timeframe import HOURLY

TRADING = "alpaca_trading_openapi.json"
DATA = "alpaca_market_data_openapi.json"
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
DAY = re.compile(r"\d{4}-\d\d-\d\d")
TIME = re.compile(r"\d\d:\d\d")
Traffic = list[tuple[PreparedRequest, Response]]


@contextmanager
def listening() -> Iterator[Traffic]:
    """Record every request to Alpaca's API with its answer, without the clock's controls."""
    heard: Traffic = []
    send = requests.Session.send

    def note(session: requests.Session, request: PreparedRequest, **options: Any) -> Response:
        answer = send(session, request, **options)
        if "/control/" not in str(request.url):
            heard.append((request, answer))
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.Session, "send", note)
        yield heard


def use_everything(here: Practice) -> None:
    """Send every kind of request that our clients send."""
    settings = BrokerSettings(url_override=here.url)
    account = AlpacaConnection(settings, KEYS)
    ours = broker(here)
    ours.account()
    ours.assets(["SYA", "SYXUSD"])
    shapes: list[dict[str, Any]] = [
        {"symbol": "SYA", "qty": "3"},
        {"symbol": "SYA", "qty": "0.5"},
        {"symbol": "SYB", "side": "sell", "qty": "2"},
        {"symbol": "SYXUSD", "qty": "0.5", "tif": "gtc"},
        {"symbol": "SYA", "side": "sell", "qty": "1", "type": "limit", "limit_price": 1e4},
        {"symbol": "SYA", "side": "sell", "qty": "1", "type": "stop", "stop_price": 1.0},
        {
            "symbol": "SYA",
            "side": "sell",
            "qty": "1",
            "type": "trailing_stop",
            "trail_percent": 5.0,
        },
    ]
    for number, shape in enumerate(shapes):
        ours.submit([order(f"order-{number}", **shape)])
    desk = spreads(here)
    desk.submit(put("spread", count=2))
    desk.quotes([leg.contract for leg in put("quoted").legs])
    desk.index_level()
    desk.index_close(date(2024, 2, 16))
    desk.buying_power()
    here.advance()
    ours.account()
    ours.refresh_open_orders()
    ours.cancel(["order-4", "order-5", "order-6"])
    account.activities_since(np.datetime64("2024-01-01", "ns"))
    account.positions()
    account.next_close()
    data = MarketData(settings, KEYS, "iex", "split", HOURLY)
    now = account.now()
    data.bars(["SYA", "SYXUSD"], now - np.timedelta64(10, "D"), now)
    data.prices(["SYA", "SYXUSD"], now)
    data.last_trades(["SYA", "SYXUSD"])
    ours.assets([f"S{number}" for number in range(60)])


def read_everything(here: Practice) -> None:
    """Read every answer of the practice server with Alpaca's own client."""
    client = trading(here)
    client.get_account()
    client.get_account_configurations()
    client.get_clock()
    client.get_calendar(GetCalendarRequest(start=date(2024, 2, 19), end=date(2024, 2, 23)))
    for kind in ("us_equity", "crypto"):
        client.get_all_assets(GetAssetsRequest(asset_class=kind))
    client.get_asset("SYXUSD")
    client.get_all_positions()
    placed = client.get_orders(GetOrdersRequest(status="all", nested=True))
    client.get_order_by_id(placed[0].id)
    client.get_order_by_client_id("order-0")
    client.get_portfolio_history(GetPortfolioHistoryRequest(timeframe="1D"))
    contracts = client.get_option_contracts(GetOptionContractsRequest(underlying_symbols=[UNDER]))
    assert contracts.option_contracts
    for row in client.get("/account/activities"):
        trade = row["activity_type"] == "FILL"
        (TradeActivity if trade else NonTradeActivity)(**row)
    stocks = StockHistoricalDataClient(KEYS.key, KEYS.secret, url_override=here.url)
    crypto = CryptoHistoricalDataClient(url_override=here.url)
    half_hours = TimeFrame(30, TimeFrameUnit.Minute)
    since: Any = "2024-02-16"
    assert stocks.get_stock_bars(
        StockBarsRequest(symbol_or_symbols="SYA", timeframe=half_hours, start=since)
    )["SYA"]
    assert stocks.get_stock_latest_bar(StockLatestBarRequest(symbol_or_symbols="SYA"))["SYA"]
    assert stocks.get_stock_latest_trade(StockLatestTradeRequest(symbol_or_symbols="SYA"))["SYA"]
    coin = "SYX/USD"
    hours = CryptoBarsRequest(symbol_or_symbols=coin, timeframe=TimeFrame.Hour, start=since)
    assert crypto.get_crypto_bars(hours)[coin]
    assert crypto.get_crypto_latest_bar(CryptoLatestBarRequest(symbol_or_symbols=coin))[coin]
    assert crypto.get_crypto_latest_trade(CryptoLatestTradeRequest(symbol_or_symbols=coin))[coin]
    quoted = OptionHistoricalDataClient(KEYS.key, KEYS.secret, url_override=here.url)
    names = [SHORT, LONG]
    assert (
        len(quoted.get_option_latest_quote(OptionLatestQuoteRequest(symbol_or_symbols=names))) == 2
    )


@pytest.fixture
def used(practice: Start, vix: Path) -> tuple[Practice, Traffic, Traffic]:
    """A practice server, with the requests of our clients and of Alpaca's client."""
    here = options(practice, vix)
    here.advance(AT)
    with listening() as ours:
        use_everything(here)
    with listening() as theirs:
        read_everything(here)
    return here, ours, theirs


def path_of(request: PreparedRequest) -> str:
    return requests.utils.unquote(requests.utils.urlparse(str(request.url)).path)


def documents() -> dict[bool, Document]:
    """By whether a path is of the trading API."""
    return {True: Document(TRADING), False: Document(DATA)}


def is_trading(path: str) -> bool:
    return not path.startswith(("/v2/stocks/", "/v1beta3/", "/v1beta1/"))


def test_client_requests_match_alpaca_openapi_schema(
    used: tuple[Practice, Traffic, Traffic],
) -> None:
    _, ours, _ = used
    by_api = documents()
    faults = {}
    for request, _ in ours:
        path = path_of(request)
        if found := by_api[is_trading(path)].faults_of_request(request):
            faults[f"{request.method} {request.url}"] = found
    assert not faults
    assert len({(request.method, path_of(request).split("-")[0]) for request, _ in ours}) > 10


def test_practice_server_responses_match_alpaca_openapi_schema(
    used: tuple[Practice, Traffic, Traffic],
) -> None:
    _, ours, theirs = used
    by_api = documents()
    faults: dict[str, list[str]] = {}
    for request, answer in (*ours, *theirs):
        if answer.status_code not in (200, 201):
            continue
        path = path_of(request)
        document = by_api[is_trading(path)]
        found = document.faults_of_answer(
            str(request.method), path, answer.status_code, answer.json()
        )
        if found:
            faults[f"{request.method} {request.url}"] = found[:3]
    assert not faults


def texts(*names: str) -> dict[str, type]:
    return dict.fromkeys(names, str)


# What Alpaca's documents of 2026-06-29 ask of an answer, where our tests have not the documents.
ANSWERS: dict[str, dict[str, Any]] = {
    "/v2/account": texts("id", "status", "cash", "equity", "multiplier"),
    "/v2/account/configurations": {
        "fractional_trading": bool,
        "max_margin_multiplier": str,
        "no_shorting": bool,
        "suspend_trade": bool,
        "ptp_no_exception_entry": bool,
        "max_options_trading_level": int,
    },
    "/v2/account/portfolio/history": {
        **dict.fromkeys(("timestamp", "equity", "profit_loss", "profit_loss_pct"), list),
        "base_value": float,
        "timeframe": str,
    },
    "/v2/clock": {"is_open": bool, "timestamp": STAMP, "next_open": STAMP, "next_close": STAMP},
    "/v2/calendar": {
        **dict.fromkeys(("date", "settlement_date"), DAY),
        **dict.fromkeys(("open", "close"), TIME),
        **texts("session_open", "session_close"),
    },
    "/v2/positions": texts(
        *("asset_id", "symbol", "exchange", "asset_class", "avg_entry_price", "qty", "side"),
        *("market_value", "cost_basis", "unrealized_pl", "unrealized_plpc", "current_price"),
        *("unrealized_intraday_pl", "unrealized_intraday_plpc", "lastday_price", "change_today"),
    ),
    "/v2/assets": {
        **texts("id", "class", "exchange", "symbol", "name", "status"),
        **dict.fromkeys(("tradable", "marginable", "shortable", "fractionable"), bool),
    },
    "/v2/options/contracts": {"option_contracts": list},
    "/v2/stocks/bars": {"bars": dict},
    "/v2/stocks/trades/latest": {"trades": dict},
    "/v1beta3/crypto/us/latest/trades": {"trades": dict},
    "/v1beta1/options/quotes/latest": {"quotes": dict},
}
TRADES = {
    "/v2/stocks/trades/latest": {"t", "p", "s", "i", "x", "c", "z"},
    "/v1beta3/crypto/us/latest/trades": {"t", "p", "s", "i", "tks"},
}
CONTRACT = {
    *("id", "symbol", "name", "status", "tradable", "expiration_date", "underlying_symbol"),
    *("underlying_asset_id", "type", "style", "strike_price", "multiplier", "size"),
}


def is_of(value: Any, kind: Any) -> bool:
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    return isinstance(value, kind)


def test_practice_server_responses_contain_required_alpaca_fields(
    used: tuple[Practice, Traffic, Traffic],
) -> None:
    _, ours, theirs = used
    seen = set()
    for request, answer in (*ours, *theirs):
        path = path_of(request)
        if path not in ANSWERS or answer.status_code != 200:
            continue
        content = answer.json()
        for entry in content if isinstance(content, list) else [content]:
            for name, kind in ANSWERS[path].items():
                assert is_of(entry.get(name), kind), (path, name, entry)
            seen.add(path)
        for trade in content["trades"].values() if path in TRADES else ():
            assert set(trade) == TRADES[path]
        for contract in getattr(content, "get", {}.get)("option_contracts", ()):
            assert set(contract) >= CONTRACT
    assert seen == set(ANSWERS)


def test_order_requests_use_alpaca_field_names_and_types(
    used: tuple[Practice, Traffic, Traffic],
) -> None:
    """Numbers are strings, absent fields are omitted, and a multi-leg order has no side."""
    _, ours, _ = used
    numbers = {"qty", "limit_price", "stop_price", "trail_price", "trail_percent"}
    known = numbers | {
        *("symbol", "side", "type", "time_in_force", "client_order_id", "extended_hours"),
        *("order_class", "legs"),
    }
    posted = [request for request, _ in ours if request.method == "POST"]
    assert len(posted) == 8
    for request in posted:
        body = json.loads(request.body or b"")
        assert set(body) <= known
        assert None not in body.values()
        assert all(isinstance(body[name], str) for name in numbers & set(body))
        assert ("side" in body) == ("legs" not in body)
        assert len(body["client_order_id"]) <= 128
