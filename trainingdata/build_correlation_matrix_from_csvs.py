"""A correlation matrix from folders of hourly bar files, with what its data are worth.

    python trainingdata/build_correlation_matrix_from_csvs.py --input DIR … --output
    correlation/matrix \
        [--lookback 120] [--threshold 0.7] [--as-of 2025-06-30] [--symbols NVDA BTCUSD …]

Writes `matrix.parquet` (symbols × symbols) and `matrix.json`: when it was known, how complete each
symbol's bars were, which symbols move together, how much each moves.
`correlation.file=correlation/matrix` uses it, at instants after it was known.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from foundation.arrays import Array
from foundation.command import Parser, one_line
from foundation.errors import InputError
from trainingdata.bars import CLOSE, VOLUME, Bars, read_bars
from trainingdata.correlation import (
    CorrelationEstimator,
    CorrelationMatrix,
    hourly_returns,
    session_returns,
)
from trainingdata.sessions import instant, utc_text
from trainingdata.stored_correlation import refuse_pickle, write_correlation

LOOKBACK = 120  # sessions; the hourly windows are 500 bars then, and in proportion otherwise
DECAY = 0.94  # of the weighted volatility, a session


@dataclass(frozen=True, slots=True)
class Built:
    """The matrix, and what is known about it."""

    matrix: CorrelationMatrix
    facts: dict[str, Any]


def build(bars: Bars, estimator: CorrelationEstimator, threshold: float) -> Built:
    """The matrix as of the last 16:00 New York at or before the panel's end.

    threshold: correlation from which symbols, on average over a cluster, belong together.
    """
    raw, boundary = estimator.estimate(bars)
    matrix = estimator.at(bars)
    known = bars.until(boundary)
    daily = session_returns(known, boundary, estimator.session_window)
    hourly = {
        s: returns
        for members in _classes(bars)
        for s, returns in _by_symbol(known, members, estimator)
    }
    smallest = float(np.linalg.eigvalsh(raw)[0])
    facts = {
        "source": bars.source,
        "session_window": estimator.session_window,
        "hourly_window": estimator.hourly_window,
        "smallest_eigenvalue": float(np.linalg.eigvalsh(matrix.values)[0]),
        "smallest_eigenvalue_before_repair": smallest,
        "repaired": bool(np.abs(raw - matrix.values).max() > 1e-6),
        "threshold": threshold,
        "clusters": clusters(matrix, threshold),
        "pairs": _pairs(matrix, threshold),
        "quality": {
            symbol: _quality(known, s, hourly[s], daily[:, s])
            for s, symbol in enumerate(bars.symbols)
        },
        "volatility": {
            symbol: _volatility(hourly[s], daily[:, s]) for s, symbol in enumerate(bars.symbols)
        },
    }
    return Built(matrix, facts)


def clusters(matrix: CorrelationMatrix, threshold: float) -> list[list[str]]:
    """Groups of symbols whose average correlation is at least the threshold (average linkage on
    1 - ρ), largest first.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(matrix.symbols) == 1:
        return [list(matrix.symbols)]
    tree = linkage(squareform(1.0 - matrix.values, checks=False), method="average")
    labels = fcluster(tree, t=1.0 - threshold, criterion="distance")
    groups = [
        [s for s, label in zip(matrix.symbols, labels, strict=True) if label == k]
        for k in np.unique(labels)
    ]
    return sorted(groups, key=lambda group: (-len(group), group))


def _classes(bars: Bars) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    return np.flatnonzero(~bars.crypto), np.flatnonzero(bars.crypto)


def _by_symbol(
    bars: Bars, members: npt.NDArray[np.int64], estimator: CorrelationEstimator
) -> list[tuple[int, Array]]:
    if not len(members):
        return []
    returns = hourly_returns(bars, members, estimator.hourly_window)
    return [(int(s), returns[:, k]) for k, s in enumerate(members)]


def _pairs(matrix: CorrelationMatrix, threshold: float) -> list[dict[str, Any]]:
    """Every pair at or beyond the threshold, the closest first."""
    n = len(matrix.symbols)
    found = [
        {
            "symbols": [matrix.symbols[i], matrix.symbols[j]],
            "correlation": float(matrix.values[i, j]),
        }
        for i in range(n)
        for j in range(i)
        if abs(matrix.values[i, j]) >= threshold
    ]
    return sorted(found, key=lambda pair: -abs(pair["correlation"]))


def _quality(bars: Bars, s: int, hourly: Array, daily: Array) -> dict[str, Any]:
    """How complete a symbol's bars are: in all, and in the windows."""
    times, values = bars.own(s)
    last = values[-len(hourly) - 1 :]
    largest = np.abs(hourly[np.isfinite(hourly)])
    deviation = float(hourly[np.isfinite(hourly)].std()) if len(largest) else 0.0
    return {
        "bars": len(times),
        "first": utc_text(times[0]) if len(times) else None,
        "last": utc_text(times[-1]) if len(times) else None,
        "hourly_returns": int(np.isfinite(hourly).sum()),
        "hourly_missing": float(1 - np.isfinite(hourly).mean()) if len(hourly) else None,
        "session_returns": int(np.isfinite(daily).sum()),
        "session_missing": float(1 - np.isfinite(daily).mean()) if len(daily) else None,
        "without_volume": int((last[:, VOLUME] == 0).sum()),
        "unchanged_closes": int((np.diff(last[:, CLOSE]) == 0).sum()),
        "largest_move_in_deviations": float(largest.max() / deviation) if deviation > 0 else None,
    }


def _volatility(hourly: Array, daily: Array) -> dict[str, float | None]:
    """Deviations of log returns: an hour's, a session's (16:00 to 16:00), a year's of 252;
    weighted to the latest; extremes.
    """
    own = hourly[np.isfinite(hourly)]
    days = daily[np.isfinite(daily)]
    if len(own) < 2 or len(days) < 2:
        return dict.fromkeys(
            ("hourly", "session", "annual", "annual_weighted", "worst_session", "best_session")
        )
    weights = DECAY ** np.arange(len(days))[::-1]
    root = np.sqrt(252)
    return {
        "hourly": float(own.std(ddof=1)),
        "session": float(days.std(ddof=1)),
        "annual": float(days.std(ddof=1) * root),
        "annual_weighted": float(np.sqrt(weights @ days**2 / weights.sum()) * root),
        "worst_session": float(np.expm1(days.min())),
        "best_session": float(np.expm1(days.max())),
    }


def show(built: Built, files: tuple[Path, Path]) -> None:
    """Print what the data are worth, what moves together, and where the files are."""
    facts = built.facts
    table = Table(
        "symbol",
        "bars",
        "hours in window",
        "missing",
        "sessions",
        "volatility a year",
        "worst session",
    )
    table.title = f"as of {utc_text(built.matrix.as_of)}, {facts['source']}"
    for symbol, quality in facts["quality"].items():
        moves = facts["volatility"][symbol]
        missing = "n/a" if quality["hourly_missing"] is None else f"{quality['hourly_missing']:.1%}"
        yearly, worst = (
            ("n/a" if v is None else f"{v:.1%}") for v in (moves["annual"], moves["worst_session"])
        )
        counts = (f"{quality[key]:,}" for key in ("bars", "hourly_returns"))
        table.add_row(symbol, *counts, missing, f"{quality['session_returns']:,}", yearly, worst)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    together = [" ".join(group) for group in facts["clusters"] if len(group) > 1]
    console.print(
        f"Together (average correlation ≥ {facts['threshold']:g}): {'; '.join(together) or 'none'}",
        soft_wrap=True,
    )
    if facts["repaired"]:
        console.print(
            "Repaired: the smallest eigenvalue was"
            f" {facts['smallest_eigenvalue_before_repair']:.2e}."
        )
    console.print(f"{files[0]}\n{files[1]}", soft_wrap=True, highlight=False)


def _arguments() -> argparse.Namespace:
    parser = Parser(
        description="Build a correlation matrix from folders of hourly bar files (CSV or Parquet)."
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        type=Path,
        metavar="DIR",
        help="folders, one file a symbol",
    )
    parser.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="NAME",
        help="NAME.parquet and NAME.json are written",
    )
    parser.add_argument(
        "--lookback",
        type=int,
        default=LOOKBACK,
        help="sessions; hourly windows are 25/6 as many bars",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.7,
        help="correlation from which symbols belong together",
    )
    parser.add_argument(
        "--as-of", help="New York date, inclusive, or an instant with a zone; none: the last bar"
    )
    parser.add_argument("--symbols", nargs="+", metavar="SYMBOL", help="none: every file")
    return parser.parse_args()


def main() -> None:
    """Command line."""
    with one_line("nothing was written"):
        given = _arguments()
        refuse_pickle(given.output, "--output")
        if given.lookback < 2:
            raise InputError(f"--lookback: {given.lookback} is below 2 sessions")
        if not 0 < given.threshold <= 1:
            raise InputError(f"--threshold: {given.threshold} is outside 0 … 1")
        end = instant(given.as_of, name="--as-of", end_of_day=True) if given.as_of else None
        bars = read_bars([folder.expanduser() for folder in given.input], given.symbols, end=end)
        estimator = CorrelationEstimator(
            hourly_window=max(2, given.lookback * 25 // 6), session_window=given.lookback
        )
        built = build(bars, estimator, given.threshold)
        files = write_correlation(built.matrix, built.facts, given.output)
    show(built, files)


if __name__ == "__main__":
    main()
