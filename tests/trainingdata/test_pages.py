"""Histories in pages end, whatever the venue says of a next one, and none of them is silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from foundation.errors import BrokerError, InvalidResponse
from tests.support.messages import refused
from tests.trainingdata.loopback import KEYS, answered_by, options_of
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.feed.market_data import MarketData
from trainingdata.feed.pages import limit_pages

SINCE, NOW = (np.datetime64(at, "ns") for at in ("2024-03-05T00:00", "2024-03-05T21:30"))
ENDLESS = 50  # requests after which a test has seen that there is no end
OPTION = "SPY240305P00500000"
ENDS = (None, "", "left out")
NONSENSE = (0, False, True, 7.5, [], {}, ["a"], "same")


class Endless(Exception):
    """A client that asks for page after page."""


class Venue:
    """Half-hours of SPY and hours of BTC/USD, one in each page.

    tokens: `next_page_token` of each page, the last one's again and again; `left out` for none.
    """

    def __init__(self, *tokens: Any) -> None:
        self.tokens = tokens
        self.requested: list[str | None] = []
        self.bodies: list[Any] = []

    def answer(self, path: str, query: dict[str, str]) -> Any:
        k = len(self.requested)
        self.requested.append(query.get("page_token"))
        if k >= ENDLESS:
            return {"error": "no end"}
        if k < len(self.bodies):
            return self.bodies[k]
        token = self.tokens[min(k, len(self.tokens) - 1)]
        rest = {} if token == "left out" else {"next_page_token": token}
        if path.endswith("latest"):
            quote = {"t": "2024-03-05T21:29:00Z", "bp": 1.25, "ap": 1.3}
            return {"quotes": {OPTION: quote}, **rest}
        length = 30 if query["timeframe"] == "30Min" else 60
        start = np.datetime64("2024-03-05T14:30") + k * np.timedelta64(length, "m")
        if length == 60:
            start = start.astype("datetime64[h]").astype("datetime64[m]")
        row = {"t": f"{start}:00Z", **dict.fromkeys("ohlc", 10.0 + k), "v": 1.0}
        return {"bars": {query["symbols"]: [row]}, **rest}


@contextmanager
def data_of(venue: Venue) -> Iterator[MarketData]:
    with answered_by(venue.answer) as url:
        yield MarketData(BrokerSettings(url_override=url, attempts=1), KEYS, "iex")


@pytest.mark.parametrize("end", ENDS)
def test_empty_or_absent_page_token_ends_a_history(end: Any) -> None:
    venue = Venue("second", end)
    with data_of(venue) as data:
        [(_, times, values)] = data.bars_by_symbol(["SPY"], SINCE, NOW)
    assert venue.requested == [None, "second"]
    assert times.tolist() == [np.datetime64("2024-03-05T15:30", "ns").item()]
    assert values.tolist() == [[10.0, 11.0, 10.0, 11.0, 2.0]]


@pytest.mark.parametrize("token", NONSENSE)
@pytest.mark.parametrize("symbol", ["SPY", "BTCUSD"])
def test_invalid_or_repeated_page_token_is_refused(symbol: str, token: Any) -> None:
    venue = Venue(token)
    with data_of(venue) as data, refused(BrokerError, symbol, "next_page_token"):
        data.bars_by_symbol([symbol], SINCE, NOW)
    assert len(venue.requested) == (2 if token == "same" else 1)


def test_invalid_page_token_is_refused_in_every_request() -> None:
    for token in (0, "same"):
        with (
            options_of(Venue(token).answer) as data,
            refused(BrokerError, "SPY", "next_page_token"),
        ):
            data.index_close(date(2024, 3, 5), NOW)
        with (
            options_of(Venue(token).answer) as data,
            refused(BrokerError, OPTION, "next_page_token"),
        ):
            data.quotes([OPTION], NOW)
    with options_of(Venue("").answer) as data:
        assert list(data.quotes([OPTION], NOW)) == [OPTION]


def test_page_tokens_may_repeat_only_across_histories() -> None:
    venue = Venue("1", None)
    with data_of(venue) as data:
        for _ in range(3):
            venue.requested.clear()
            assert data.bars_by_symbol(["SPY"], SINCE, NOW)
    venue = Venue("a", "b", "c", "a")
    with data_of(venue) as data, refused(BrokerError, "'a'"):
        data.bars_by_symbol(["BTCUSD"], SINCE, NOW)
    assert venue.requested == [None, "a", "b", "c"]


@pytest.mark.parametrize("page", [[], None, "page", 7, [{"bars": {}}]])
@pytest.mark.parametrize("before", [0, 1])
def test_page_without_expected_fields_is_refused(page: Any, before: int) -> None:
    venue = Venue("second")
    first = {"bars": {}, "next_page_token": "second"}
    venue.bodies = [first] * before + [page]
    with data_of(venue) as data, refused(BrokerError, "SPY"):
        data.bars_by_symbol(["SPY"], SINCE, NOW)
    assert len(venue.requested) == before + 1


@pytest.mark.parametrize(("count", "whole"), [(10_000, True), (20_000, False)])
def test_endless_response_pages_are_refused_after_a_limit(count: int, whole: bool) -> None:
    """Each page has a new token; hundreds of pages are read to the end."""
    read = 0

    def get(path: str, data: dict[str, Any]) -> dict[str, Any]:
        nonlocal read
        read += 1
        return {"bars": {}, "next_page_token": str(read) if read < count else None}

    client = limit_pages(SimpleNamespace(get=get))
    token = None
    with nullcontext() if whole else refused(InvalidResponse, "10000"):
        while token := client.get("/stocks/bars", {"page_token": token})["next_page_token"]:
            pass
    assert read == 10_000
