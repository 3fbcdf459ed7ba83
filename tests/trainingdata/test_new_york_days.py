"""A coin's days that end at 16:00 New York, against a plain walk through the calendar's days."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.compose import compose_config
from foundation.errors import DataError, InputError
from marketsimulator.settings import BacktestSettings
from tests.support.messages import refused
from tests.support.session_days import FIRST, HOUR, LAST, NEW_YORK, all64, at64, moments
from trainingdata.instruments import AssetClass
from trainingdata.timeframe import Timeframe, next_bar_ends, nth_next_bar_end

DAYS = Timeframe("1d", crypto_day="new_york")
CLOCK = DAYS.clock(AssetClass.CRYPTO)
A_MINUTE = timedelta(minutes=1)


@cache
def ends() -> tuple[datetime, ...]:
    """16:00 New York of each day, both changes of the clock among them."""
    first = datetime(2023, 11, 1, 16, tzinfo=NEW_YORK)
    return tuple((first + timedelta(days=k)).astimezone(UTC) for k in range(500))


def near_ends() -> st.SearchStrategy[datetime]:
    within = [end for end in ends() if FIRST <= end < LAST]
    shifts = st.sampled_from([-A_MINUTE, 0 * A_MINUTE, A_MINUTE])
    return st.one_of(moments(), st.builds(lambda a, b: a + b, st.sampled_from(within), shifts))


def test_new_york_day_has_23_to_25_hours() -> None:
    lengths = {
        str(end.astimezone(NEW_YORK).date()): (end - begin) / HOUR
        for begin, end in zip(ends(), ends()[1:], strict=False)
    }
    assert lengths["2024-03-10"] == 23
    assert lengths["2024-11-03"] == 25
    assert set(lengths.values()) == {23, 24, 25}
    starts = all64(*ends()[:-1])
    assert CLOCK.ends_by_start(starts).tolist() == all64(*ends()[1:]).tolist()


@given(near_ends(), st.integers(1, 20))
def test_new_york_day_clock_matches_a_naive_implementation(at: datetime, ahead: int) -> None:
    here = all64(at)
    k = bisect_right(ends(), at)
    is_end = at in ends()
    assert bool(CLOCK.is_decision(here)[0]) == is_end
    known, began = CLOCK.ends_by_start(here)[0], CLOCK.starts_by_end(here)[0]
    assert np.isnat(known) if not is_end else known == at64(ends()[k])
    assert np.isnat(began) if not is_end else began == at64(ends()[k - 2])
    assert DAYS.last_bar_end(AssetClass.CRYPTO, at64(at)) == at64(ends()[k - 1])
    assert CLOCK.holding_ends(here) == at64(ends()[k])
    assert CLOCK.holding_ends(here, "session") == at64(ends()[k])
    assert CLOCK.ends_by_number(CLOCK.count_ended_bars(here), here)[0] == at64(ends()[k - 1])
    assert nth_next_bar_end(CLOCK, here, ahead)[0] == at64(ends()[k + ahead - 1])
    after = next_bar_ends(CLOCK, here, ahead)
    assert after.tolist() == [all64(*ends()[k : k + ahead]).tolist()]


@given(st.lists(st.integers(10, 400), max_size=5), st.integers(0, 9))
def test_time_slot_of_daily_crypto_bars_marks_weekends(numbers: list[int], ahead: int) -> None:
    expected = [
        [int(ends()[k + j].astimezone(NEW_YORK).isoweekday() > 5) for j in range(ahead + 1)]
        for k in numbers
    ]
    given_ends = np.array([at64(ends()[k]) for k in numbers], dtype="datetime64[ns]")
    assert CLOCK.slot_indices(given_ends, ahead).tolist() == expected
    assert (CLOCK.slot_count, CLOCK.bars_per_day, CLOCK.bars_per_year) == (2, 1, 365.25)
    assert [CLOCK.is_weekend_slot(place) for place in (0, 1)] == [False, True]


def test_instants_outside_the_calendar_are_refused() -> None:
    with refused(InputError, "2200-01-01T00:00Z"):
        CLOCK.slot_indices(np.array([np.datetime64("2200-01-01", "ns")]), 1)


# Files


def write(folder: Path, minutes: int) -> None:
    """A coin's bars over both ends of summer time, and a stock's days."""
    rng = np.random.default_rng(minutes)
    step = np.timedelta64(minutes, "m")
    starts = np.arange(np.datetime64("2024-10-21", "ns"), np.datetime64("2024-11-12"), step)
    closes = 100 + np.cumsum(rng.normal(0, 0.01, len(starts))).round(3)
    opens = np.append(100.0, closes[:-1])
    frame = pd.DataFrame(
        {
            "timestamp": pd.DatetimeIndex(starts).tz_localize("UTC"),
            "open": opens,
            "high": np.maximum(opens, closes) + 0.5,
            "low": np.minimum(opens, closes) - 0.5,
            "close": closes,
            "volume": rng.integers(1, 99, len(starts)),
        }
    )
    frame.to_csv(folder / "BTCUSD.csv", index=False)
    write_days(folder / "AAA.csv", "B")


def write_days(path: Path, every: str) -> None:
    """Days of the same weeks."""
    dates = pd.date_range("2024-10-21", "2024-11-11", freq=every).strftime("%Y-%m-%d")
    row = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.0, "volume": 1000}
    pd.DataFrame([{"timestamp": date, **row} for date in dates]).to_csv(path, index=False)


def settings_of(folder: Path, *words: str) -> BacktestSettings:
    base = [f"data.dir={folder}", "trials=null", "data.crypto_day=new_york"]
    return BacktestSettings.from_config(compose_config("backtest", [*base, *words]))


@pytest.mark.parametrize("minutes", [5, 60])
def test_daily_stock_and_crypto_bars_share_one_instant(tmp_path: Path, minutes: int) -> None:
    write(tmp_path, minutes)
    bars = settings_of(tmp_path, "timeframe=1d").load_bars()
    assert bars.timeframe == DAYS
    s, stock = bars.symbols.index("BTCUSD"), bars.symbols.index("AAA")
    frame = pd.read_csv(tmp_path / "BTCUSD.csv", parse_dates=["timestamp"])
    times, values = bars.bars_of_symbol(s)
    begun = [bisect_left(ends(), pd.Timestamp(at, tz="UTC").to_pydatetime()) - 1 for at in times]
    lengths = set()
    for k, row in zip(begun, values, strict=True):
        within = frame[(frame["timestamp"] >= ends()[k]) & (frame["timestamp"] < ends()[k + 1])]
        lengths.add(len(within) * minutes // 60)
        low, high = within["low"].min(), within["high"].max()
        open_, close = within["open"].iloc[0], within["close"].iloc[-1]
        assert row.tolist() == [open_, high, low, close, within["volume"].sum()]
    assert lengths == {24, 25}
    shared = np.isin(bars.times, times) & bars.mask[stock]
    assert shared.sum() == bars.mask[stock, bars.times >= times[0]].sum() == 15


@pytest.mark.parametrize(
    ("words", "error", "facts"),
    [
        ([], InputError, ("data.crypto_day", "new_york", "timeframe=1d")),
        (["timeframe=1h"], InputError, ("data.crypto_day", "new_york")),
        (["timeframe=1d", "symbols=ETHUSD"], DataError, ("ETHUSD.csv", "UTC")),
    ],
)
def test_crypto_day_setting_unfit_for_data_is_refused(
    tmp_path: Path, words: list[str], error: type[InputError], facts: tuple[str, ...]
) -> None:
    write(tmp_path, 60)
    write_days(tmp_path / "ETHUSD.csv", "D")
    with refused(error, *facts) as caught:
        settings_of(tmp_path, *words).load_bars()
    assert "\n" not in str(caught.value)
