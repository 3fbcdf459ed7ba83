"""Build a correlation matrix from folders of hourly bar files.

    python trainingdata/build_correlation_matrix_from_csvs.py --input DIR …
        --output correlation/matrix [--lookback 120] [--as-of 2025-06-30]
        [--symbols NVDA BTCUSD …] [--zone America/New_York] [--epoch s] [--stamps begin]

--input DIR …        folders of bar files, one file per symbol, or single files
--output NAME        write NAME.parquet and NAME.json
--lookback N         number of sessions; hourly windows have 25/6 times as many bars
--as-of D            New York date, inclusive, or a time with a time zone; default: the last bar
--symbols SYMBOL …   default: every file
--zone ZONE          time zone of timestamps without one; default: such timestamps are rejected
--epoch UNIT         unit of epoch timestamps (s, ms, us, ns); default: they are rejected
--stamps SIDE        side of a bar (begin, end) that a timestamp marks if the file does not state it
--overwrite          overwrite files that are not a correlation matrix

It writes `matrix.parquet` (symbols × symbols) and `matrix.json` (known-at instant and source).
`correlation.file=correlation/matrix` uses the matrix at instants after it was known.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("trainingdata.build_correlation_matrix_from_csvs")

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from foundation.cli import FlagParser, Result
from foundation.errors import InputError
from foundation.files import check_output_file
from trainingdata.bar_files import read_bars
from trainingdata.bars import Bars
from trainingdata.confirmation import drop_unconfirmed_bars
from trainingdata.conventions import BarFileConventions, EpochUnit, TimestampSide
from trainingdata.correlation import CorrelationEstimator, CorrelationMatrix, make_positive_definite
from trainingdata.instants import check_time_zone, format_utc, parse_instant
from trainingdata.stored_correlation import matrix_paths, read_correlation, write_correlation

LOOKBACK_SESSIONS = (
    120  # sessions; the hourly windows are 500 bars then, and in proportion otherwise
)


def build_matrix(
    bars: Bars, estimator: CorrelationEstimator
) -> tuple[CorrelationMatrix, dict[str, Any]]:
    """Return the correlation matrix, and metadata for its JSON file.

    The matrix is as of the last 16:00 New York at or before the panel's last instant.

    bars: hourly bars.
    estimator: windows and priors of the estimate.
    """
    raw, boundary = estimator.estimate(bars)
    matrix = make_positive_definite(bars.symbols, raw, boundary)
    facts = {
        "source": bars.source,
        "session_window": estimator.session_window,
        "hourly_window": estimator.hourly_window,
        "smallest_eigenvalue": float(np.linalg.eigvalsh(matrix.values)[0]),
        "smallest_eigenvalue_before_repair": float(np.linalg.eigvalsh(raw)[0]),
    }
    return matrix, facts


def _build_parser() -> FlagParser:
    parser = FlagParser()
    parser.add_argument("--input", nargs="+", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--lookback", type=int, default=LOOKBACK_SESSIONS)
    parser.add_argument("--as-of")
    parser.add_argument("--symbols", nargs="+")
    parser.add_argument("--zone")
    parser.add_argument("--epoch", choices=get_args(EpochUnit))
    parser.add_argument("--stamps", choices=get_args(TimestampSide))
    parser.add_argument("--overwrite", action="store_true")
    return parser


def _refuse_other_files(output: Path, *, overwrite: bool) -> None:
    """Raise `InputError` if an output file exists that is not a matrix of an earlier run."""
    for path in (output, *matrix_paths(output)):
        if path.exists():
            check_output_file(
                path,
                "--output",
                _is_matrix_file,
                overwrite=overwrite,
                overwrite_argument="--overwrite",
            )


def _is_matrix_file(path: Path) -> bool:
    try:
        read_correlation(path)
    except InputError:
        return False
    return True


def parse_arguments(words: Sequence[str]) -> tuple[argparse.Namespace, None]:
    """Parse and validate the flags before any work begins; the second value is None (no folder)."""
    flags = _build_parser().parse_args(list(words))
    _refuse_other_files(flags.output, overwrite=flags.overwrite)
    if flags.lookback < 2:
        raise InputError(f"--lookback: {flags.lookback} is below the minimum of 2 sessions")
    check_time_zone(flags.zone, "--zone")
    flags.as_of = (
        parse_instant(flags.as_of, name="--as-of", end_of_day=True) if flags.as_of else None
    )
    return flags, None


def run(settings: argparse.Namespace) -> Result:
    """Estimate the matrix from the bar files and write it."""
    places = [place.expanduser() for place in settings.input]
    conventions = BarFileConventions(
        time_zone=settings.zone, epoch_unit=settings.epoch, timestamp_side=settings.stamps
    )
    read = read_bars(places, settings.symbols, end=settings.as_of, conventions=conventions)
    lookback = settings.lookback
    estimator = CorrelationEstimator(
        hourly_window=max(2, lookback * 25 // 6), session_window=lookback
    )
    matrix, facts = build_matrix(drop_unconfirmed_bars(read), estimator)
    files = write_correlation(matrix, facts, settings.output)
    names = " ".join(matrix.symbols)
    return Result([], [f"as of {format_utc(matrix.as_of)}: {names}", *map(str, files)])
