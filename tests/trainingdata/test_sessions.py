"""Sessions, nights and instants by hand; `test_session_calendar` walks through all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from trainingdata.instants import history_start, instant
from trainingdata.instruments import Kind
from trainingdata.sessions import nights_between, shared_news
from trainingdata.timeframe import HOURLY


def of(*texts: str) -> np.ndarray:
    return np.array(texts, dtype="datetime64[ns]")


def utc(text: str) -> np.datetime64:
    return np.datetime64(text, "ns")


@pytest.mark.parametrize(
    ("kind", "now", "end", "session"),
    [
        (Kind.STOCK, "2024-10-01T14:30", "2024-10-01T15:30", "2024-10-02T14:30"),
        (Kind.STOCK, "2024-10-01T19:30", "2024-10-02T14:30", "2024-10-02T19:30"),
        (Kind.STOCK, "2024-10-04T19:30", "2024-10-07T14:30", "2024-10-07T19:30"),
        (Kind.STOCK, "2024-10-01T23:00", "2024-10-02T14:30", "2024-10-02T19:30"),
        (Kind.STOCK, "2024-11-27T20:30", "2024-11-29T15:30", "2024-11-29T17:30"),
        (Kind.STOCK, "2024-11-29T17:30", "2024-12-02T15:30", "2024-12-02T17:30"),
        (Kind.CRYPTO, "2024-10-01T14:00", "2024-10-01T15:00", "2024-10-02T14:00"),
    ],
)
def test_holding_ends_at_the_next_decision_or_at_the_same_one_of_the_next_session(
    kind: Kind, now: str, end: str, session: str
) -> None:
    """A half-day's last decision stands for later ones."""
    assert HOURLY.clock(kind).holding_end(utc(now)) == utc(end)
    assert HOURLY.clock(kind).holding_end(utc(now), "session") == utc(session)


def test_the_overnight_ceiling_begins_with_the_last_decision_or_the_one_before() -> None:
    """On a half-day, so that the cut fills even where the feed lacks its last half hour."""
    for at, holds in (
        ("2024-10-01T19:00", True),
        ("2024-10-01T19:30", False),
        ("2024-10-01T22:00", False),
        ("2024-10-02T13:00", False),
        ("2024-10-02T14:00", True),
        ("2024-11-29T15:30", True),
        ("2024-11-29T16:30", False),
    ):
        assert HOURLY.stocks.intraday_ceiling_holds(utc(at)) == holds, at


def test_friday_carries_three_nights_and_a_long_weekend_four() -> None:
    for before, now, nights in (
        ("2024-10-03T19:30", "2024-10-03T20:00", 1),
        ("2024-10-04T19:30", "2024-10-04T20:00", 3),
        ("2024-08-30T19:30", "2024-08-30T20:00", 4),
        ("2024-10-03T20:00", "2024-10-04T19:30", 0),
    ):
        assert nights_between(of(before, now)).tolist() == [0, nights]


def test_dates_are_new_york_dates_and_both_ends_inclusive() -> None:
    assert instant("2024-10-01", name="start") == utc("2024-10-01T04:00")
    end = instant("2024-10-01", name="end", end_of_day=True)
    assert end == utc("2024-10-02T04:00") - np.timedelta64(1, "ns")
    for text in ("2024-10-01T15:30Z", "2024-10-01 15:30:00+00:00", "2024-10-01T11:30:00.0-0400"):
        assert instant(text, name="start") == utc("2024-10-01T15:30")


def test_a_date_that_is_none_or_that_no_clock_reaches_is_refused_by_name() -> None:
    for text in (
        *("yesterday-ish", "2024-13-01", "2024-10-01T15:30", "", "NaT", "2/10/2024", "10.02.2024"),
        *("20241001", "2024-10", "2024", "2024-1-5", "1 Oct 2024", "today", "15:30Z"),
        *("2024-10-01T15Z", "2024-10-01 America/New_York", "2024-10-01Z"),
        *("2999-01-01", "1600-01-01", "2500-01-01T00:00Z"),
    ):
        with pytest.raises(InputError, match=r"^start: .* (is no|has a time but no zone)"):
            instant(text, name="start")


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        ("2024-03-05T15:30", "2024-03-05T16:30", 1.0),  # an hour of the session
        ("2024-03-05T20:30", "2024-03-06T15:30", 1.0),  # a night, caught up with at the open
        ("2024-03-05T08:00", "2024-03-05T09:00", 0.0),  # at night stocks do not move
        ("2024-03-05T14:00", "2024-03-05T15:00", 18**-0.5),  # the open holds the news since 16:00
        ("2024-03-08T19:00", "2024-03-09T19:00", 2 / 48**0.5),  # Friday 14:00 and a day
        ("2024-03-05T20:00", "2024-03-05T21:00", 1.0),  # up to the close
        ("2024-03-05T21:00", "2024-03-05T22:00", 0.0),  # from the close on
        ("2024-03-09T12:00", "2024-03-10T12:00", 0.0),  # a Saturday
        ("2024-03-05T17:00", "2024-03-06T17:00", 1.0),  # a day within the week
    ],
)
def test_stocks_and_coins_share_the_news_of_the_time_both_move_in(
    begin: str, end: str, expected: float
) -> None:
    assert shared_news(of(begin), of(end)) == pytest.approx([expected])


@given(st.integers(0, 24 * 3600 - 1), st.integers(0, 400))
def test_a_history_of_so_many_days_begins_at_one_midnight_all_day(second: int, days: int) -> None:
    now = utc("2024-03-05") + np.timedelta64(second, "s")
    assert history_start(now, days) == utc("2024-03-05") - np.timedelta64(days, "D")
    assert history_start(now, days).dtype == np.dtype("datetime64[ns]")
