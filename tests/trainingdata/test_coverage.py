"""What a run says about the bars it read: a table, and what of its range they lack."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.trainingdata.vendor_files import DAYS, coins, table, write
from trainingdata import load_bars
from trainingdata.coverage import MIN_JUMP_FRACTION, coverage_rows, format_missing_ranges


def test_stock_coverage_row_counts_bars_and_gaps(tmp_path: Path) -> None:
    """Friday has seven bars, Monday too; weekend and night are no gap."""
    bars = load_bars(write(tmp_path / "AAA.csv", table("AAA", DAYS[0]).drop(index=[2, 6, 7])))
    (row,) = coverage_rows(bars)
    span = "2024-03-08 14:30", "2024-03-11 19:30"
    assert row == ("AAA", *span, "UTC, begin", "11", "3", "2", "0")


def test_close_move_above_20_percent_counts_as_jump() -> None:
    (row,) = coverage_rows(coins([100, 119, 96, 48, 50]))
    assert MIN_JUMP_FRACTION == 0.2
    assert row[-1] == "1"
    assert coverage_rows(coins([100]))[0][-4:] == ("1", "0", "0", "0")


def test_rejected_bar_is_not_counted_as_missing() -> None:
    bars = coins([100, 101, 102, np.nan, 104])
    left_out = np.zeros(bars.mask.shape, dtype=bool)
    left_out[0, 1] = True
    (row,) = coverage_rows(bars.drop_bars(left_out))
    assert row[4:7] == ("3", "1", "1")


def test_date_range_from_holiday_to_weekend_is_complete(tmp_path: Path) -> None:
    bars = load_bars(write(tmp_path / "AAA.csv", table("AAA", "2024-01-02")))
    assert format_missing_ranges(bars, "2023-12-30", "2024-01-07") == ()
    assert format_missing_ranges(bars, "2023-12-29", "2024-01-08") == (
        "AAA: start: 2023-12-29 is requested, but bars start only at 2024-01-02T14:30Z",
        "AAA: end: 2024-01-08 is requested, but bars end at 2024-01-05T20:30Z",
    )
