"""Bars of some minutes put together to longer ones, by hand and against a slow loop."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.arrays import Array, Instants
from foundation.errors import DataError, InputError
from tests.support.messages import refused
from trainingdata.instruments import AssetClass, instrument
from trainingdata.resampling import (
    ResampledBars,
    list_finer_bar_minutes,
    modal_bar_minutes,
    resample_bars,
    resample_close_to_close_days,
)
from trainingdata.sessions import exchange_calendar
from trainingdata.timeframe import HOURLY, TIMEFRAMES, Timeframe, TimeframeName

ITEMS = {AssetClass.STOCK: instrument("AAA"), AssetClass.CRYPTO: instrument("AAAUSD")}
MINUTE = np.timedelta64(1, "m")
# A length that no settings name is held to the same: its name is all that another one takes.
LENGTHS = (*TIMEFRAMES, Timeframe(cast(TimeframeName, "2h")))


def starts_at(*texts: str) -> Instants:
    return np.array([f"2024-10-01T{text}" for text in texts], dtype="datetime64[ns]")


def parts(count: int, seed: int = 0) -> Array:
    """Bars [count, 5] of whole numbers."""
    rng = np.random.default_rng(seed)
    prices = np.sort(rng.integers(50, 99, (count, 4)), axis=1)
    volume = rng.integers(0, 9, count)
    return np.column_stack([prices[:, [1, 3, 0, 2]], volume]).astype(float)


def by_hand(
    starts: Instants, values: Array, begin: np.datetime64, end: np.datetime64
) -> list[float]:
    rows = values[(starts >= begin) & (starts < end)]
    return [rows[0, 0], rows[:, 1].max(), rows[:, 2].min(), rows[-1, 3], rows[:, 4].sum()]


@pytest.mark.parametrize(
    ("minutes", "starts", "ends", "outside", "cut", "lacking"),
    [
        (15, "13:30 13:45 14:00 14:15", "14:30", 0, 0, 0),
        # The hours in which the file begins and ends; the part of 15:10 had no trade.
        (10, "13:40 14:30 14:40 14:50 15:00 15:20 15:30", "15:30", 0, 2, 1),
        # The half hour before the close is whole, what lies after it is not one of the session's.
        (30, "18:30 19:00 19:30 20:00 20:30", "19:30 20:00", 2, 0, 0),
    ],
)
def test_only_complete_hours_become_bars_others_are_counted(
    minutes: int, starts: str, ends: str, outside: int, cut: int, lacking: int
) -> None:
    at = starts_at(*starts.split())
    hours = resample_bars(at, parts(len(at)), instrument("AAA"), minutes, HOURLY, "AAA")
    assert hours.times.tolist() == starts_at(*ends.split()).tolist()
    assert (hours.off_hours_part_count, hours.truncated_bar_count, hours.incomplete_bar_count) == (
        outside,
        cut,
        lacking,
    )


@pytest.mark.parametrize("kind", AssetClass)
@pytest.mark.parametrize("timeframe", LENGTHS, ids=lambda each: each.name)
def test_every_timeframe_is_built_from_requested_feed_bars(
    kind: AssetClass, timeframe: Timeframe
) -> None:
    assert timeframe.requested_timeframe(kind).minutes in (
        *list_finer_bar_minutes(timeframe),
        timeframe.minutes,
    )


@given(
    st.sampled_from(list(AssetClass)),
    st.sampled_from(
        [
            (each, minutes)
            for each in LENGTHS
            for minutes in list_finer_bar_minutes(each)
            if minutes > 3
        ]
    ),
    st.integers(0, 1000),
    st.floats(0.3, 1.0),
)
def test_resampled_bars_match_a_slow_loop_despite_gaps(
    kind: AssetClass, lengths: tuple[Timeframe, int], seed: int, share: float
) -> None:
    """Two days around a stock's night; a missing part had no trade."""
    timeframe, minutes = lengths
    step = minutes * MINUTE
    begin = "2024-10-01T11:30" if kind is AssetClass.STOCK else "2024-10-01T11:00"
    starts = np.arange(np.datetime64(begin, "ns"), np.datetime64("2024-10-02T22:00", "ns"), step)
    rng = np.random.default_rng(seed)
    starts = starts[rng.random(len(starts)) < share]
    values = parts(len(starts), seed)
    try:
        hours = resample_bars(starts, values, ITEMS[kind], minutes, timeframe, "AAA")
    except DataError:
        hours = ResampledBars(starts[:0], values[:0], 0, 0, 0)
    grid = timeframe.stock_clock
    if kind is AssetClass.CRYPTO:
        length = timeframe.minutes * MINUTE
        begins = np.arange(np.datetime64("2024-10-01", "ns"), starts[-1], length)
        spans = [(begin, begin + length) for begin in begins]
    else:
        spans = list(zip(grid.starts, grid.ends, strict=True))
        k = int(np.searchsorted(grid.starts, np.datetime64("2024-10-01", "ns")))
        spans = spans[k : k + 2 * grid.bars_per_day]
    expected = [
        (end, by_hand(starts, values, begin, end))
        for begin, end in spans
        if ((starts >= begin) & (starts < end)).any()
        and begin >= starts[0]
        and end <= starts[-1] + step
    ]
    assert (
        hours.times.tolist()
        == np.array([end for end, _ in expected], dtype="datetime64[ns]").tolist()
    )
    assert hours.values.tolist() == [bar for _, bar in expected]


def test_half_day_session_ends_at_its_early_close() -> None:
    starts = np.array(["2024-11-29T17:30", "2024-11-29T18:00"], dtype="datetime64[ns]")
    hours = resample_bars(starts, parts(2), instrument("AAA"), 30, HOURLY, "AAA")
    assert hours.times.tolist() == [starts[1].astype(object)], "13:00 New York"
    assert hours.off_hours_part_count == 1


def test_bar_length_is_the_most_common_time_difference() -> None:
    assert modal_bar_minutes(starts_at("13:30", "13:35", "13:40", "14:00", "14:05")) == 5
    assert modal_bar_minutes(starts_at("13:30", "14:30", "15:30", "15:45")) == 60
    assert modal_bar_minutes(starts_at("13:30")) == 0
    days = np.arange("2024-10-01", "2024-10-09", dtype="datetime64[D]").astype("datetime64[ns]")
    assert modal_bar_minutes(days) == 1440
    assert modal_bar_minutes(days[::-1]) == 0


def test_mixed_bar_lengths_are_refused_naming_the_row() -> None:
    """A longer bar among shorter ones would extend beyond its hour."""
    starts = starts_at("13:30", "14:00", "14:30", "15:15")
    with refused(DataError, "AAA", "row 4", "2024-10-01T15:15Z", "30-minute"):
        resample_bars(starts, parts(4), ITEMS[AssetClass.STOCK], 30, HOURLY, "AAA")


CLOSING = Timeframe("1d", fill="close")


@given(st.sampled_from(list_finer_bar_minutes(CLOSING)), st.integers(0, 1000), st.floats(0.5, 1.0))
def test_closing_auction_day_runs_from_close_to_close(
    minutes: int, seed: int, share: float
) -> None:
    """A slow loop is the reference, over a half-day. Trades after a decision change only the next
    bar.
    """
    step = minutes * MINUTE
    first = np.datetime64("2024-11-26T13:30", "ns")
    starts = np.arange(first, np.datetime64("2024-12-04T01:00", "ns"), step)
    if minutes == HOURLY.minutes:
        starts = HOURLY.stock_clock.starts[(HOURLY.stock_clock.starts >= first)][:30]
    rng = np.random.default_rng(seed)
    starts = starts[rng.random(len(starts)) < share]
    values = parts(len(starts), seed)
    days = resample_close_to_close_days(
        starts, values, ITEMS[AssetClass.STOCK], minutes, CLOSING, "AAA"
    )
    sessions = exchange_calendar()
    assert np.isin(days.times, CLOSING.stock_clock.ends).all()
    for known, found in zip(days.times, days.values, strict=True):
        k = int(np.searchsorted(sessions.opens, known, side="right")) - 1
        before = (starts >= sessions.opens[k - 1]) & (starts < sessions.closes[k - 1])
        within = (starts >= sessions.opens[k]) & (starts + step <= known)
        here = starts[within], values[within]
        _, high, low, close, volume = by_hand(*here, sessions.opens[k], known)
        opened = values[before][-1, 3]
        assert found.tolist() == [opened, max(opened, high), min(opened, low), close, volume]
        later = starts + step > known
        changed = resample_close_to_close_days(
            starts,
            np.where(later[:, None], values + 100.0, values),
            ITEMS[AssetClass.STOCK],
            minutes,
            CLOSING,
            "AAA",
        )
        old = days.times <= known
        np.testing.assert_array_equal(changed.values[old], days.values[old])


def test_closing_auction_fill_requires_daily_bars() -> None:
    with refused(InputError, "timeframe=1d"):
        Timeframe("1h", fill="close")
