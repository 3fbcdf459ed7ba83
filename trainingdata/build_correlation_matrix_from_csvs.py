"""A correlation matrix from folders of hourly bar files, with what its data are worth.

    python trainingdata/build_correlation_matrix_from_csvs.py --input DIR …
        --output correlation/matrix [--lookback 120] [--threshold 0.7] [--as-of 2025-06-30]
        [--symbols NVDA BTCUSD …] [--zone America/New_York]

--input DIR …        folders of bar files, one a symbol, or single files
--output NAME        NAME.parquet and NAME.json are written
--lookback N         sessions; hourly windows are 25/6 as many bars
--threshold N        correlation from which symbols belong together
--as-of D            New York date, inclusive, or an instant with a zone; none: the last bar
--symbols SYMBOL …   none: every file
--zone ZONE          of stamps that say none; none: those are refused
--overwrite          write over files that are no correlation matrix

Writes `matrix.parquet` (symbols × symbols) and `matrix.json`: when it was known, how complete each
symbol's bars were, which symbols move together, how much each moves.
`correlation.file=correlation/matrix` uses it, at instants after it was known.
"""

from __future__ import annotations

from foundation.command import start

if __name__ == "__main__":
    start("trainingdata.build_correlation_matrix_from_csvs")

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foundation.arrays import Array
from foundation.command import Result
from foundation.errors import InputError
from foundation.figures import percent
from foundation.files import check_file
from foundation.flags import Parser
from foundation.tables import Table
from trainingdata.bar_files import read_bars
from trainingdata.bars import CLOSE, VOLUME, Bars
from trainingdata.confirmation import confirmed
from trainingdata.correlation import (
    CorrelationEstimator,
    CorrelationMatrix,
    hourly_returns,
    repaired,
    session_returns,
)
from trainingdata.instants import Unzoned, instant, utc_text
from trainingdata.stored_correlation import (
    read_correlation,
    refuse_pickle,
    table_and_notes,
    write_correlation,
)

LOOKBACK = 120  # sessions; the hourly windows are 500 bars then, and in proportion otherwise
DECAY = 0.94  # weight of a session in the weighted volatility beside the next one's


def build(
    bars: Bars, estimator: CorrelationEstimator, threshold: float
) -> tuple[CorrelationMatrix, dict[str, Any]]:
    """The matrix as of the last 16:00 New York at or before the panel's end, and facts about it.

    threshold: correlation from which symbols, on average over a cluster, belong together.
    """
    raw, boundary = estimator.estimate(bars)
    matrix = repaired(bars.symbols, raw, boundary)
    recent = bars.until(boundary)
    daily = session_returns(recent, boundary, estimator.session_window)
    quality = {}
    volatility = {}
    for members in (np.flatnonzero(~bars.crypto), np.flatnonzero(bars.crypto)):
        if len(members):
            hourly = hourly_returns(recent, members, estimator.hourly_window)
            for k, s in enumerate(members.tolist()):
                quality[bars.symbols[s]] = _quality(recent, s, hourly[:, k], daily[:, s])
                volatility[bars.symbols[s]] = _volatility(hourly[:, k], daily[:, s])
    facts = {
        "source": bars.source,
        "session_window": estimator.session_window,
        "hourly_window": estimator.hourly_window,
        "smallest_eigenvalue": float(np.linalg.eigvalsh(matrix.values)[0]),
        "smallest_eigenvalue_before_repair": float(np.linalg.eigvalsh(raw)[0]),
        "repaired": bool(np.abs(raw - matrix.values).max() > 1e-6),
        "threshold": threshold,
        "clusters": clusters(matrix, threshold),
        "quality": {symbol: quality[symbol] for symbol in bars.symbols},
        "volatility": {symbol: volatility[symbol] for symbol in bars.symbols},
    }
    return matrix, facts


def clusters(matrix: CorrelationMatrix, threshold: float) -> list[list[str]]:
    """Groups of symbols whose average correlation is at least the threshold, largest first.

    Average linkage on 1 - ρ.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(matrix.symbols) == 1:
        return [list(matrix.symbols)]
    tree = linkage(squareform(1.0 - matrix.values, checks=False), method="average")
    labels = fcluster(tree, t=1.0 - threshold, criterion="distance")
    groups: dict[int, list[str]] = {}
    for symbol, label in zip(matrix.symbols, labels, strict=True):
        groups.setdefault(int(label), []).append(symbol)
    return sorted(groups.values(), key=lambda group: (-len(group), group))


def _quality(bars: Bars, s: int, hourly: Array, daily: Array) -> dict[str, Any]:
    """How complete a symbol's bars are: in all, and in the windows."""
    times, values = bars.real_bars(s)
    last = values[-len(hourly) - 1 :]
    returns = hourly[np.isfinite(hourly)]
    deviation = float(returns.std()) if len(returns) else 0.0
    largest = float(np.abs(returns).max() / deviation) if deviation > 0 else None
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
        "largest_move_in_deviations": largest,
    }


def _volatility(hourly: Array, daily: Array) -> dict[str, float | None]:
    """Deviations of log returns: of an hour, of a session (16:00 to 16:00), of a year of 252.

    `annual_weighted` weighs the latest sessions most; the extremes are returns of one session.
    """
    hours = hourly[np.isfinite(hourly)]
    days = daily[np.isfinite(daily)]
    if len(hours) < 2 or len(days) < 2:
        return dict.fromkeys(
            ("hourly", "session", "annual", "annual_weighted", "worst_session", "best_session")
        )
    weights = DECAY ** np.arange(len(days))[::-1]
    root = np.sqrt(252)
    return {
        "hourly": float(hours.std(ddof=1)),
        "session": float(days.std(ddof=1)),
        "annual": float(days.std(ddof=1) * root),
        "annual_weighted": float(np.sqrt(weights @ days**2 / weights.sum()) * root),
        "worst_session": float(np.expm1(days.min())),
        "best_session": float(np.expm1(days.max())),
    }


def _parts(matrix: CorrelationMatrix, facts: dict[str, Any]) -> tuple[Table, list[str]]:
    """What the data are worth, and what moves together."""
    heads = ("symbol", "bars", "hours in window", "missing", "sessions")
    rows = []
    for symbol, quality in facts["quality"].items():
        moves = facts["volatility"][symbol]
        rows.append(
            (
                symbol,
                f"{quality['bars']:,}",
                f"{quality['hourly_returns']:,}",
                percent(quality["hourly_missing"], 1),
                f"{quality['session_returns']:,}",
                percent(moves["annual"], 1),
                percent(moves["worst_session"], 1),
            )
        )
    title = f"as of {utc_text(matrix.as_of)}, {facts['source']}"
    table = Table(title, (*heads, "volatility a year", "worst session"), rows)
    together = [" ".join(group) for group in facts["clusters"] if len(group) > 1]
    groups = "; ".join(together) or "none"
    sentences = [f"Together (average correlation ≥ {facts['threshold']:g}): {groups}"]
    if facts["repaired"]:
        smallest = facts["smallest_eigenvalue_before_repair"]
        sentences.append(f"Repaired: the smallest eigenvalue was {smallest:.2e}.")
    return table, sentences


def _parser() -> Parser:
    parser = Parser()
    parser.add_argument("--input", nargs="+", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--lookback", type=int, default=LOOKBACK)
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--as-of")
    parser.add_argument("--symbols", nargs="+")
    parser.add_argument("--zone")
    parser.add_argument("--overwrite", action="store_true")
    return parser


def _refuse_other_files(output: Path, *, overwrite: bool) -> None:
    """Refuse names at which there are files that are no matrix of an earlier run."""
    for path in (output, *table_and_notes(output)):
        if path.exists():
            check_file(path, "--output", _is_matrix, overwrite=overwrite, word="--overwrite")


def _is_matrix(path: Path) -> bool:
    try:
        read_correlation(path)
    except InputError:
        return False
    return True


def read(words: Sequence[str]) -> tuple[argparse.Namespace, None]:
    """The flags, before the work: a path that cannot be used would lose it."""
    flags = _parser().parse_args(list(words))
    refuse_pickle(flags.output, "--output")
    _refuse_other_files(flags.output, overwrite=flags.overwrite)
    if flags.lookback < 2:
        raise InputError(f"--lookback: {flags.lookback} is below 2 sessions")
    if not 0 < flags.threshold <= 1:
        raise InputError(f"--threshold: {flags.threshold} is outside 0 … 1")
    flags.zone = Unzoned(flags.zone, "--zone")
    flags.as_of = instant(flags.as_of, name="--as-of", end_of_day=True) if flags.as_of else None
    return flags, None


def run(settings: argparse.Namespace) -> Result:
    """Build the matrix, write it, and say what its data are worth."""
    places = [place.expanduser() for place in settings.input]
    read = read_bars(places, settings.symbols, end=settings.as_of, unzoned=settings.zone)
    lookback = settings.lookback
    estimator = CorrelationEstimator(
        hourly_window=max(2, lookback * 25 // 6), session_window=lookback
    )
    matrix, facts = build(confirmed(read), estimator, settings.threshold)
    files = write_correlation(matrix, facts, settings.output)
    table, sentences = _parts(matrix, facts)
    return Result([table], [*sentences, *map(str, files)])
