"""Quotes of options are of now: an old one is not a quote of its option."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from foundation.errors import BrokerError
from tests.support.messages import refused
from tests.trainingdata.loopback import options_of
from trainingdata.feed.option_data import MAX_QUOTE_AGE, OptionData

NOW = np.datetime64("2024-03-05T17:30:20", "ns")
FRESH = "SPY240305P00500000"
OTHER = "SPY240305P00495000"
SECOND = np.timedelta64(1, "s")


def quoting(rows: dict[str, Any]) -> AbstractContextManager[OptionData]:
    return options_of(lambda path, query: {"quotes": rows})


def row(age: np.timedelta64) -> dict[str, Any]:
    return {"t": f"{NOW - age}Z", "bp": 1.25, "ap": 1.3}


@pytest.mark.parametrize(
    "stamp",
    [row(MAX_QUOTE_AGE + SECOND)["t"], None, "", "removed"],
    ids=["old", "null", "", "none"],
)
def test_stale_or_undated_quote_is_logged_and_dropped(
    stamp: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert np.timedelta64(20, "m") == MAX_QUOTE_AGE
    other = {
        name: value for name, value in {**row(SECOND), "t": stamp}.items() if value != "removed"
    }
    rows = {FRESH: row(MAX_QUOTE_AGE), OTHER: other}
    with quoting(rows) as data, caplog.at_level(logging.WARNING):
        assert data.quotes([FRESH, OTHER], NOW) == {FRESH: (Decimal("1.25"), Decimal("1.3"))}
    assert len([line for line in caplog.messages if OTHER in line]) == 1
    assert FRESH not in caplog.text


@pytest.mark.parametrize("stamp", ["much", 7.5, True, [], "2024-03-05T17:30:20", "1024-03-05Z"])
def test_invalid_quote_time_is_refused(stamp: Any) -> None:
    with (
        quoting({FRESH: {**row(SECOND), "t": stamp}}) as data,
        refused(BrokerError, FRESH, varies="Unknown datetime [^:]*"),
    ):
        data.quotes([FRESH], NOW)


def test_option_without_an_ask_is_skipped_without_warning(caplog: pytest.LogCaptureFixture) -> None:
    rows = {FRESH: {**row(SECOND), "ap": 0}, OTHER: {**row(2 * MAX_QUOTE_AGE), "ap": None}}
    with quoting(rows) as data, caplog.at_level(logging.WARNING):
        assert data.quotes([FRESH, OTHER], NOW) == {}
    # Threads of other tests may still log messages.
    assert not [each for each in caplog.records if each.name.startswith("trainingdata")]


@pytest.mark.parametrize("name", ["t", "bp", "ap"])
@pytest.mark.parametrize("way", ["absent", "null"])
def test_only_the_incomplete_option_quote_is_skipped(name: str, way: str) -> None:
    whole = row(SECOND)
    short = {**whole, name: None}
    if way == "absent":
        del short[name]
    with quoting({FRESH: whole, OTHER: short}) as data:
        assert data.quotes([FRESH, OTHER], NOW) == {FRESH: (Decimal("1.25"), Decimal("1.3"))}


DAY = date(2024, 3, 5)
CLOSED = np.datetime64("2024-03-05T21:00", "ns")


def halves(until: int) -> list[dict[str, Any]]:
    """Half-hours of the session from 09:30 New York, each closing 1 higher than the one before."""
    first = np.datetime64("2024-03-05T14:30")
    prices = {"o": 500.0, "h": 600.0, "l": 400.0, "v": 1000}
    return [
        {"t": f"{first + np.timedelta64(30 * k, 'm')}Z", **prices, "c": 500.0 + k}
        for k in range(until)
    ]


@pytest.mark.parametrize(("count", "close"), [(13, 5120.0), (12, None), (0, None)])
def test_index_close_comes_from_the_last_half_hour(count: int, close: float | None) -> None:
    """A feed may lack the end of a session, and an earlier price is not the session's close."""
    asked = []

    def answer(path: str, query: dict[str, str]) -> dict[str, Any]:
        asked.append(path)
        return {"bars": {"SPY": halves(count)}, "next_page_token": None}

    with options_of(answer) as data:
        assert data.index_close(DAY, CLOSED - np.timedelta64(1, "s")) is None
        assert not asked, "it is not over"
        assert data.index_close(DAY, CLOSED) == close
        assert data.index_close(DAY, CLOSED) == close
        assert len(asked) == (1 if close else 2), "what is known is asked for once"
        assert data.index_close(date(2024, 3, 3), CLOSED) is None, "a Sunday"


def test_index_level_is_the_last_recent_trade() -> None:
    def answer(path: str, query: dict[str, str]) -> dict[str, Any]:
        return {"trades": {"SPY": {"t": "2024-03-05T17:30:00Z", "p": 512.5}}}

    with options_of(answer) as data:
        at = np.datetime64("2024-03-05T17:30", "ns")
        assert data.index_level(at + np.timedelta64(5, "m")) == 5125.0
        with refused(BrokerError, "2024-03-05T17:30Z"):
            data.index_level(at + np.timedelta64(5, "m") + SECOND)
