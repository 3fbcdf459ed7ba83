"""What the reader refuses, because code that moves money trusts it afterwards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.arrays import Instants
from foundation.errors import DataError
from tests.support.messages import refused
from tests.trainingdata.vendor_files import coins
from trainingdata.bar_files import read_bars
from trainingdata.bars import (
    CLOSE,
    HIGH,
    LOW,
    OHLCV_FIELDS,
    OPEN,
    VOLUME,
    Bars,
    build_panel,
    check_bars,
    keep_regular_hours,
    last_closes_by_symbol,
)
from trainingdata.instruments import instrument
from trainingdata.timeframe import HOURLY

ROWS = 7


def starts_of_a_day() -> Instants:
    """The starts of one session's bars."""
    return np.arange(
        "2024-10-01T13:30", "2024-10-01T20:30", np.timedelta64(60, "m"), dtype="datetime64[m]"
    ).astype("datetime64[ns]")


def coherent(seed: int) -> np.ndarray:
    """Bars [7, 5] with low ≤ open, close ≤ high; some have no volume, some no range."""
    rng = np.random.default_rng(seed)
    prices = np.round(
        rng.uniform(1, 500) * np.exp(rng.normal(0, 0.02, (ROWS, 4))), int(rng.integers(0, 4))
    )
    prices = np.sort(np.maximum(prices, 1.0), axis=1)
    inside = rng.permuted(prices[:, 1:3], axis=1)
    volume = rng.integers(0, 3, ROWS) * 100.0
    return np.column_stack([inside[:, 0], prices[:, 3], prices[:, 0], inside[:, 1], volume])


@given(st.integers(0, 10_000))
def test_consistent_bars_are_accepted(seed: int) -> None:
    check_bars(starts_of_a_day(), coherent(seed), "AAA.csv")


@given(
    st.integers(0, 10_000),
    st.integers(0, ROWS - 1),
    st.sampled_from([(OPEN, HIGH), (CLOSE, HIGH), (OPEN, LOW), (CLOSE, LOW)]),
    st.floats(1e-8, 0.5),
)
def test_open_or_close_outside_high_low_is_refused(
    seed: int, row: int, pair: tuple[int, int], beyond: float
) -> None:
    """Limit orders fill between low and high: an open outside would fill at a price that no bar
    had.
    """
    field, edge = pair
    values = coherent(seed)
    values[row, field] = values[row, edge] * (1 + beyond if edge == HIGH else 1 - beyond)
    with pytest.raises(DataError) as error:
        check_bars(starts_of_a_day(), values, "AAA.csv")
    side = "above high" if edge == HIGH else "below low"
    said = (
        f"AAA.csv: row {row + 1}: {OHLCV_FIELDS[field]} {values[row, field]:.10g} is {side}"
        f" {values[row, edge]:.10g}"
    )
    assert str(error.value) == said


@given(st.integers(0, 10_000), st.sampled_from([OPEN, CLOSE]), st.sampled_from([-1, 1]))
def test_rounding_from_price_adjustment_is_accepted(seed: int, field: int, side: int) -> None:
    """A vendor's split and dividend factors move a price by its last bits, past a high that it
    equals.
    """
    values = coherent(seed)
    edge = values[:, HIGH if side > 0 else LOW]
    values[:, field] = edge * (1 + side * 1e-12)
    check_bars(starts_of_a_day(), values, "AAA.csv")


@given(
    st.integers(0, 10_000),
    st.integers(0, ROWS - 1),
    st.integers(0, len(OHLCV_FIELDS) - 1),
    st.sampled_from([np.nan, np.inf, -np.inf, -1e-9, -3.0, 0.0]),
)
def test_missing_infinite_and_negative_numbers_are_refused(
    seed: int, row: int, field: int, value: float
) -> None:
    """Volume may be zero, a price may not; neither may be negative, missing or infinite."""
    values = coherent(seed)
    values[row, field] = value
    if field == VOLUME and value == 0:
        check_bars(starts_of_a_day(), values, "AAA.csv")
        return
    with pytest.raises(DataError, match=rf"^AAA\.csv: row {row + 1}: {OHLCV_FIELDS[field]} is "):
        check_bars(starts_of_a_day(), values, "AAA.csv")


@given(st.integers(1, ROWS - 1), st.integers(0, 5))
def test_unordered_or_missing_bar_starts_are_refused(row: int, hours_back: int) -> None:
    """Comparisons with NaT are false: an order test alone lets it through, and the bar vanishes."""
    for place in (0, row):
        starts = starts_of_a_day()
        starts[place] = np.datetime64("NaT")
        with pytest.raises(DataError, match=rf"AAA: row {place + 1}: timestamp is empty"):
            check_bars(starts, coherent(0), "AAA")
    starts = starts_of_a_day()
    starts[row] = starts[row - 1] - np.timedelta64(hours_back, "h")
    word = "is earlier" if hours_back else "is listed twice"
    with pytest.raises(DataError, match=rf"AAA: row {row + 1}: timestamp .* {word}"):
        check_bars(starts, coherent(0), "AAA")


def test_real_vendor_bars_pass_all_checks(real_data: list[Path]) -> None:
    """Hourly bars and adjusted daily ones: in 27 rows a price exceeds high or low by the last bit
    of a float.
    """
    bars = read_bars(real_data, None)
    assert len(bars.symbols) == sum(len(list(f.glob("*.parquet"))) for f in real_data)
    assert bars.mask.sum() > 100_000
    for path in sorted((real_data[0].parent / "daily").glob("*.parquet")):
        frame = pd.read_parquet(path).reset_index()
        starts = frame["timestamp"].dt.tz_convert(None).to_numpy("datetime64[ns]")
        check_bars(starts, frame[list(OHLCV_FIELDS)].to_numpy(dtype=np.float64), path.name)


@given(st.lists(st.integers(0, 700), min_size=1, max_size=3), st.integers(701, 1_500))
def test_last_close_is_found_however_old(lasts: list[int], rows: int) -> None:
    """A delisted symbol's last bar is hundreds of rows before the panel's end, and one that
    never traded has none.
    """
    closes = np.full((len(lasts) + 1, rows), np.nan)
    for s, last in enumerate(lasts):
        closes[s, : last + 1] = 10.0 * s + np.arange(last + 1)
    closes[-1, -1] = 7.0
    bars = coins(*closes.tolist())
    assert bars.last_closes().tolist() == [10.0 * s + last for s, last in enumerate(lasts)] + [7.0]
    assert last_closes_by_symbol(bars) == dict(zip(bars.symbols, bars.last_closes(), strict=True))
    early = bars.slice_until(bars.times[0] - np.timedelta64(1, "ns"))
    assert len(early.times) == 0
    silent = coins([np.nan] * 300, [1.0] * 300)
    assert np.isnan(silent.last_closes()[0])
    assert last_closes_by_symbol(silent) == {"BBBUSD": 1.0}


@given(st.integers(0, 40), st.integers(0, 40), st.integers(-30, 30))
def test_slice_until_an_instant_contains_no_later_bars(first: int, last: int, minutes: int) -> None:
    bars = coins(list(range(1, 41)), [np.nan, *range(2, 41)])
    part = bars.slice_rows(first, last)
    assert part.times.tolist() == bars.times[first:last].tolist()
    np.testing.assert_array_equal(part.values, bars.values[:, first:last])
    now = bars.times[20] + np.timedelta64(minutes, "m")
    known = bars.slice_until(now)
    assert (known.times <= now).all()
    assert len(known.times) == (21 if minutes >= 0 else 20)
    assert known.last_instant == known.times[-1]
    assert known.bars_of_symbol(1)[0].tolist() == known.times[1:].tolist()


def test_stock_bars_need_regular_hours_unlike_crypto_bars() -> None:
    night = starts_of_a_day() + np.timedelta64(10, "h")
    with refused(DataError, "AAA", "2024-10-01T23:30Z"):
        keep_regular_hours(night, coherent(0), instrument("AAA"), HOURLY, "AAA")
    whole = night + np.timedelta64(30, "m")
    known, values = keep_regular_hours(whole, coherent(0), instrument("AAAUSD"), HOURLY, "AAAUSD")
    assert known.tolist() == (whole + np.timedelta64(1, "h")).tolist()
    np.testing.assert_array_equal(values, coherent(0))
    with refused(DataError, "AAAUSD", "row 1", "2024-10-01T23:30Z"):
        keep_regular_hours(night, coherent(0), instrument("AAAUSD"), HOURLY, "AAAUSD")


def test_invalid_panel_arrays_are_refused() -> None:
    good = coins([1.0, 2.0])
    with pytest.raises(ValueError, match=r"values must have shape \[S, T, 5\]"):
        replace(good, values=good.values[:, :1])
    with refused(DataError):
        build_panel([], "test")
    with pytest.raises(ValueError, match=r"mask must have shape \[S, T\] = \(1, 2\), got \(2, 2\)"):
        Bars(good.instruments, good.times, good.values, np.ones((2, 2), dtype=bool), "test")
    with pytest.raises(ValueError, match="times must be strictly increasing"):
        Bars(good.instruments, good.times[::-1], good.values, good.mask, "test")
    assert good.crypto.tolist() == [True]
    assert good.long_only.tolist() == [True]
    assert coins([1.0]).tradable.tolist() == [True]
