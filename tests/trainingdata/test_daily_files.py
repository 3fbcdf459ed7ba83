"""Days as vendors write them, and minutes put together to every longer bar."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import InputError
from tests.support.messages import refused
from trainingdata.bars import Bars
from trainingdata.instruments import AssetClass, instrument
from trainingdata.source import DataSettings, load_bars
from trainingdata.timeframe import DAILY, Timeframe, TimeframeName

FIELDS = ["Open", "High", "Low", "Close"]
DATES = ["2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07", "2024-03-08", "2024-03-11"]


def days(seed: int = 0, dates: list[str] = DATES) -> pd.DataFrame:
    """A vendor's days of a quiet stock; `Adj Close` falls back by dividends."""
    rng = np.random.default_rng(seed)
    closes = 100 + rng.normal(0, 1, len(dates)).cumsum().round(2)
    frame = pd.DataFrame({"Date": dates, "Open": closes - 0.5, "High": closes + 1.0})
    frame["Low"], frame["Close"] = closes - 1.0, closes
    frame["Adj Close"] = closes
    frame["Volume"] = rng.integers(1, 10**6, len(dates))
    return frame


def write(folder: Path, frame: pd.DataFrame, name: str = "AAA.csv") -> Path:
    frame.to_csv(folder / name, index=False)
    return folder / name


def read(folder: Path, **words: Any) -> Bars:
    return DataSettings(dir=(str(folder),), **words).load_panel([], None, None)


@settings(max_examples=12)
@given(st.lists(st.floats(0.9, 1.0), min_size=6, max_size=6), st.integers(0, 99))
def test_adjusted_close_column_equals_file_of_adjusted_prices(
    falls: list[float], seed: int
) -> None:
    ratio = np.minimum.accumulate(falls)[::-1]
    given_file = days(seed)
    given_file["Adj Close"] = (given_file["Close"] * ratio).round(6)
    exact = given_file["Adj Close"] / given_file["Close"]
    adjusted = given_file.drop(columns="Adj Close")
    adjusted[FIELDS] = adjusted[FIELDS].mul(exact, axis=0)
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        write(Path(one), given_file)
        write(Path(other), adjusted)
        found = read(Path(one), adjustment="all", accept_jumps=True)
        expected = read(Path(other), adjustment="all", accept_jumps=True)
        np.testing.assert_allclose(found.values, expected.values, rtol=1e-14, atol=0)
        assert found.times.tolist() == expected.times.tolist()
        assert found.provenances[0].notes == ("prices are multiplied by Adj Close / Close",)
        raw = read(Path(one), accept_jumps=True)
    assert raw.values[0, :, :4].tolist() == given_file[FIELDS].to_numpy().tolist()
    assert raw.provenances[0].notes == ("Adj Close is ignored",)


def stamped(stamps: Callable[[pd.DatetimeIndex], Any], name: str = "timestamp") -> pd.DataFrame:
    frame = days().drop(columns="Adj Close").rename(columns=str.lower)
    local = pd.DatetimeIndex(frame.pop("date")).tz_localize("America/New_York")
    frame.insert(0, name, [str(stamp) for stamp in stamps(local)])
    return frame


@pytest.mark.parametrize(
    "frame",
    [
        days(),
        days().drop(columns="Adj Close"),
        days().assign(Date=lambda f: f["Date"] + " 00:00:00-05:00").iloc[:5],
        stamped(lambda local: local.date),
        stamped(lambda local: local),
        stamped(lambda local: local.tz_localize(None).tz_localize("UTC")),
        stamped(lambda local: local + pd.Timedelta(hours=9.5)),
        stamped(lambda local: local + pd.Timedelta(hours=16), "end"),
    ],
)
def test_daily_timestamp_at_any_hour_maps_to_session(tmp_path: Path, frame: pd.DataFrame) -> None:
    write(tmp_path, frame)
    bars = load_bars(tmp_path)
    assert bars.timeframe == DAILY
    closes = [f"{date}T{'20' if date > '2024-03-10' else '21'}:00" for date in DATES]
    assert bars.times.astype("datetime64[m]").astype(str).tolist() == closes[: len(frame)]
    expected = days()[[*FIELDS, "Volume"]].to_numpy(dtype=float)[: len(frame)]
    assert bars.values[0].tolist() == expected.tolist()


def cell(row: int, column: str, value: Any) -> Callable[[Path], object]:
    """A file with another cell."""

    def spoil(folder: Path) -> None:
        frame = days().astype({column: object})
        frame.loc[row, column] = value
        write(folder, frame)

    return spoil


def beside_hours(folder: Path) -> None:
    write(folder, days())
    stamps = [f"2024-03-04T{hour}:30:00Z" for hour in range(14, 20)]
    frame = pd.DataFrame({"timestamp": stamps, **dict.fromkeys(["open", "high", "low"], 5.0)})
    write(folder, frame.assign(close=5.0, volume=1), "BBB.csv")


@pytest.mark.parametrize(
    ("spoil", "words", "facts"),
    [
        (cell(5, "Date", "2024-03-09"), {}, ("row 6", "2024-03-09")),
        (cell(1, "Date", "2024-03-04"), {}, ("row 2", "timestamp 2024-03-04T00:00Z")),
        (cell(2, "Date", ""), {}, ("row 3",)),
        (cell(3, "Adj Close", 120.0), {"adjustment": "all"}, ("row 4", "120.0", "1")),
        (cell(3, "Adj Close", 90.0), {"adjustment": "all"}, ("row 4", "90.0", "0")),
        (cell(3, "Adj Close", 0.0), {"adjustment": "all"}, ("row 4", "0.0", "0")),
        (beside_hours, {}, ("AAA.csv",)),
    ],
)
def test_untrustworthy_daily_files_are_refused_in_one_line(
    tmp_path: Path, spoil: Callable[[Path], object], words: Any, facts: tuple[str, ...]
) -> None:
    spoil(tmp_path)
    with refused(InputError, *facts) as caught:
        read(tmp_path, **words)
    assert "\n" not in str(caught.value)


def test_hourly_bars_become_daily_bars_only_when_requested(tmp_path: Path) -> None:
    beside_hours(tmp_path)
    with refused(InputError, "timeframe=1d"):
        load_bars(tmp_path)
    with refused(InputError, "timeframe=1h"):
        load_bars(tmp_path, timeframe="1h")
    stamps = pd.date_range("2024-03-04T14:30", periods=7, freq="h", tz="UTC")
    frame = pd.read_csv(tmp_path / "BBB.csv")
    frame = pd.concat([frame, frame.iloc[-1:]], ignore_index=True).assign(timestamp=stamps)
    write(tmp_path, frame, "BBB.csv")
    bars = load_bars(tmp_path, timeframe="1d")
    assert bars.mask.tolist() == [[True] * 6, [True] + [False] * 5]
    assert load_bars(tmp_path, symbols=["BBB"]).timeframe.name == "1h"


def minutes_of(kind: AssetClass) -> pd.DataFrame:
    """Minutes of the week of Thanksgiving, whose Friday is a half-day; prices in cents."""
    grid = Timeframe("1m").clock(kind)
    every = np.arange(np.datetime64("2024-11-25", "ns"), np.datetime64("2024-12-01"), 60 * 10**9)
    starts = every[~np.isnat(grid.ends_by_start(every))]
    rng = np.random.default_rng(1)
    closes = 100 + rng.integers(-3, 4, len(starts)).cumsum() / 100
    opens = np.append(100.0, closes[:-1])
    frame = pd.DataFrame({"timestamp": pd.DatetimeIndex(starts).tz_localize("UTC"), "open": opens})
    frame["high"], frame["low"] = np.maximum(opens, closes) + 0.02, np.minimum(opens, closes) - 0.02
    return frame.assign(close=closes, volume=rng.integers(1, 9, len(starts)))


@pytest.mark.parametrize(
    ("symbol", "name", "count"),
    [("AAA", "15m", 3 * 26 + 14), ("AAA", "1d", 4), ("BTCUSD", "1h", 6 * 24), ("BTCUSD", "1d", 6)],
)
def test_minutes_aggregate_to_the_same_longer_bars(
    tmp_path: Path, symbol: str, name: TimeframeName, count: int
) -> None:
    """The reference is pandas, with intervals counted from the open or from midnight."""
    kind, timeframe = instrument(symbol).kind, Timeframe(name)
    parts = minutes_of(kind)
    found = load_bars(write(tmp_path, parts, f"{symbol}.csv"), timeframe=name)
    step = pd.Timedelta(minutes=timeframe.minutes)
    at = parts["timestamp"]
    begins = at.dt.normalize() + pd.Timedelta(hours=14.5 if kind is AssetClass.STOCK else 0)
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    whole = parts.groupby(begins + (at - begins) // step * step).agg(how)
    whole = whole.rename_axis("timestamp").reset_index()
    if timeframe.is_daily:
        whole["timestamp"] = whole["timestamp"].dt.date
    expected = load_bars(write(tmp_path, whole, f"{symbol}.csv"), timeframe=name)
    assert found.timeframe == expected.timeframe == timeframe
    assert found.times.tolist() == expected.times.tolist()
    assert found.values.tolist() == expected.values.tolist()
    assert len(found.times) == count
