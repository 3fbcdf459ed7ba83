"""What the reader refuses, because code that moves money trusts it afterwards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainingdata.bars import CLOSE, FIELDS, HIGH, LOW, OPEN, VOLUME, Bars, bars_from, bars_of, check_bars, read_bars
from trainingdata.errors import DataError
from trainingdata.instruments import instrument
from trainingdata.sessions import Instants

ROWS = 7


def starts_of_a_day() -> Instants:
    """The starts of one session's bars."""
    return np.arange("2024-10-01T13:30", "2024-10-01T20:30", np.timedelta64(60, "m"), dtype="datetime64[m]").astype(
        "datetime64[ns]"
    )


def coherent(seed: int) -> np.ndarray:
    """Bars [7, 5] with low ≤ open, close ≤ high; some have no volume, some no range."""
    rng = np.random.default_rng(seed)
    prices = np.round(rng.uniform(1, 500) * np.exp(rng.normal(0, 0.02, (ROWS, 4))), int(rng.integers(0, 4)))
    prices = np.sort(np.maximum(prices, 1.0), axis=1)
    inside = rng.permuted(prices[:, 1:3], axis=1)
    volume = rng.integers(0, 3, ROWS) * 100.0
    return np.column_stack([inside[:, 0], prices[:, 3], prices[:, 0], inside[:, 1], volume])


@given(st.integers(0, 10_000))
def test_bars_that_hold_together_are_let_through(seed: int) -> None:
    check_bars(starts_of_a_day(), coherent(seed), "AAA.csv")


@given(
    st.integers(0, 10_000),
    st.integers(0, ROWS - 1),
    st.sampled_from([(OPEN, HIGH), (CLOSE, HIGH), (OPEN, LOW), (CLOSE, LOW)]),
    st.floats(1e-8, 0.5),
)
def test_an_open_or_close_outside_its_range_is_refused_with_row_and_value(
    seed: int, row: int, pair: tuple[int, int], beyond: float
) -> None:
    """A limit order fills inside low … high: an open outside would fill it at a price that no bar had."""
    field, edge = pair
    values = coherent(seed)
    values[row, field] = values[row, edge] * (1 + beyond if edge == HIGH else 1 - beyond)
    with pytest.raises(DataError) as error:
        check_bars(starts_of_a_day(), values, "AAA.csv")
    side = "above high" if edge == HIGH else "below low"
    said = f"AAA.csv: row {row + 1}: {FIELDS[field]} {values[row, field]:.10g} is {side} {values[row, edge]:.10g}"
    assert str(error.value) == said


@given(st.integers(0, 10_000), st.sampled_from([OPEN, CLOSE]), st.sampled_from([-1, 1]))
def test_what_the_adjustment_of_prices_rounds_is_no_fault(seed: int, field: int, side: int) -> None:
    """A vendor's split and dividend factors move a price by its last bits, past a high that it equals."""
    values = coherent(seed)
    edge = values[:, HIGH if side > 0 else LOW]
    values[:, field] = edge * (1 + side * 1e-12)
    check_bars(starts_of_a_day(), values, "AAA.csv")


def test_the_first_row_at_fault_is_the_one_named() -> None:
    values = np.tile([100.0, 101.0, 99.0, 100.0, 5.0], (ROWS, 1))
    values[5, OPEN] = 98.0
    values[2, CLOSE] = 103.25
    with pytest.raises(DataError, match=r"^AAA: row 3: close 103\.25 is above high 101$"):
        check_bars(starts_of_a_day(), values, "AAA")


@given(
    st.integers(0, 10_000),
    st.integers(0, ROWS - 1),
    st.integers(0, len(FIELDS) - 1),
    st.sampled_from([np.nan, np.inf, -np.inf, -1e-9, -3.0, 0.0]),
)
def test_no_number_below_its_least_or_without_an_end_passes(seed: int, row: int, field: int, value: float) -> None:
    """Volume may be zero, a price may not; neither may be negative, missing or infinite."""
    values = coherent(seed)
    values[row, field] = value
    if field == VOLUME and value == 0:
        check_bars(starts_of_a_day(), values, "AAA.csv")
        return
    with pytest.raises(DataError, match=rf"^AAA\.csv: row {row + 1}: {FIELDS[field]} is "):
        check_bars(starts_of_a_day(), values, "AAA.csv")


@given(st.integers(1, ROWS - 1), st.integers(0, 5))
def test_starts_that_do_not_increase_are_refused_whoever_hands_them_over(row: int, hours_back: int) -> None:
    starts = starts_of_a_day()
    starts[row] = starts[row - 1] - np.timedelta64(hours_back, "h")
    word = "is earlier" if hours_back else "repeats"
    with pytest.raises(DataError, match=rf"AAA: row {row + 1}: timestamp .* {word}"):
        bars_from(starts, coherent(0), instrument("AAA"), "AAA")


@pytest.mark.parametrize("row", [0, 3, ROWS - 1])
def test_a_start_that_is_missing_is_refused_and_not_left_out(row: int) -> None:
    """Comparisons with NaT are false: an order test alone lets it through, and the bar vanishes."""
    starts = starts_of_a_day()
    starts[row] = np.datetime64("NaT")
    with pytest.raises(DataError, match=rf"AAA: row {row + 1}: timestamp is empty"):
        check_bars(starts, coherent(0), "AAA")


def test_a_column_that_comes_twice_is_refused_by_name() -> None:
    """Headers differ by case alone after two exports were joined; which of the two is meant is unknown."""
    frame = pd.DataFrame(coherent(0), columns=list(FIELDS))
    frame.insert(0, "timestamp", pd.to_datetime(starts_of_a_day()).tz_localize("UTC"))
    doubled = pd.concat([frame, frame[["close"]]], axis=1)
    with pytest.raises(DataError, match=r"AAA\.csv: column 'close' is there twice"):
        bars_of(doubled, instrument("AAA"), "AAA.csv")


def test_the_synthetic_market_passes_its_own_check(market: Bars) -> None:
    for s, symbol in enumerate(market.symbols):
        times, values = market.own(s)
        check_bars(times, values, symbol)


def test_real_bars_pass(real_data: list[Path]) -> None:
    """Hourly bars, and adjusted daily ones: 27 of their rows pass a high or low by the last bit of a float."""
    assert read_bars(real_data, None).mask.sum() > 100_000
    for path in sorted((real_data[0].parent / "daily").glob("*.parquet")):
        frame = pd.read_parquet(path).reset_index()
        starts = frame["timestamp"].dt.tz_convert(None).to_numpy("datetime64[ns]")
        check_bars(starts, frame[list(FIELDS)].to_numpy(dtype=np.float64), path.name)
