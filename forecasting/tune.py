"""Search each symbol's context length and pre-augmentation, and write what has proved itself.

    python -m forecasting.tune --symbols NVDA BTCUSD --data-dir DIR … [--start D] [--end D] [--folds
    5] [--output DIR]

The span is cut into consecutive folds. In each fold but the first, the candidate that lost least in
the folds before is set against the defaults: that walk-forward gain, not the best fit, decides. A
symbol whose gain does not exceed one standard error keeps the defaults and no file is written;
otherwise `{symbol}.json` names the candidate that lost least over all folds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecasting.chronos2.augmentation import AUGMENTATIONS, Augmentation
from forecasting.chronos2.cached import CachedForecaster
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import Profile, SymbolSettings, write_symbol_settings
from forecasting.forecast import Progress, silent
from forecasting.scores import clustered, comparable, scored
from forecasting.settings import PER_SYMBOL
from forecasting.windows import Windows
from foundation.command import Parser, ProgressBar, log_to_file, one_line
from foundation.errors import InputError
from trainingdata.bars import Bars
from trainingdata.source import DataSettings, span_of

CONTEXTS = (50, 100, 200, 400)
STEPS = (1, 6, 24)
FEWEST = 100  # forecasts a fold


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is tried: own bars a window holds, and what is done to them before the model."""

    context_length: int
    augmentation: Augmentation


@dataclass(frozen=True, slots=True)
class Verdict:
    """best: lost least over all folds. gain, error: share of the defaults' loss saved
    walk-forward, its standard error.
    """

    symbol: str
    best: Candidate
    gain: float
    error: float
    forecasts: int

    @property
    def proved(self) -> bool:
        """Whether the gain is worth a file."""
        return self.gain > self.error


def tune(
    bars: Bars,
    first: np.datetime64,
    last: np.datetime64,
    base: Profile,
    candidates: Sequence[Candidate],
    folds: int,
    cache: Path | None,
    progress: Progress = silent,
) -> list[Verdict]:
    """A verdict for every symbol of the panel on forecasts issued in [first, last]; `base` is what
    candidates vary.

    Raises
    ------
    InputError
        where a symbol has too few forecasts for the folds.
    """
    default = Candidate(base.context_length, base.augmentation)
    tried = list(dict.fromkeys([default, *candidates]))
    profiles = [
        replace(base, context_length=c.context_length, augmentation=c.augmentation) for c in tried
    ]
    forecasters = [Chronos2Forecaster(profile) for profile in profiles]
    _enough(bars, first, max(c.context_length for c in tried), folds)
    tables = [
        (made if cache is None else CachedForecaster(made, cache)).forecast(bars, first, progress)
        for made in forecasters
    ]
    frames = [
        scored(bars, t, rows, STEPS)
        for t, rows in zip(tables, comparable(tables, first, last), strict=True)
    ]
    known = np.logical_and.reduce([frame["loss"].notna() for frame in frames])
    losses = pd.DataFrame({k: frame["loss"][known] for k, frame in enumerate(frames)})
    facts = frames[0].loc[known, ["symbol", "issued_at", "week"]]
    verdicts = []
    for symbol in bars.symbols:
        mine = (facts["symbol"] == symbol).to_numpy()
        verdicts.append(_verdict(symbol, losses[mine], facts[mine], tried, folds))
    return verdicts


def _enough(bars: Bars, first: np.datetime64, length: int, folds: int) -> None:
    windows = Windows.of(bars, first, length)
    counts = np.bincount(windows.symbol[windows.issued_at >= first], minlength=len(bars.symbols))
    for symbol, count in zip(bars.symbols, counts, strict=True):
        if count < FEWEST * folds:
            raise InputError(
                f"{symbol}: {count} forecasts with {length} bars of context are too few for {folds}"
                " folds; start earlier"
            )


def _verdict(
    symbol: str, losses: pd.DataFrame, facts: pd.DataFrame, tried: Sequence[Candidate], folds: int
) -> Verdict:
    edges = np.quantile(facts["issued_at"].astype("int64"), np.arange(1, folds) / folds)
    fold = np.searchsorted(edges, facts["issued_at"].astype("int64"))
    chosen: list[npt.NDArray[np.float64]] = []
    for k in range(1, folds):
        winner = int(losses[fold < k].mean().to_numpy().argmin())
        chosen.append(losses[fold == k].iloc[:, winner].to_numpy())
    tested = fold > 0
    order = np.argsort(fold[tested], kind="stable")
    default = losses[tested].iloc[order, 0]
    saved = default - np.concatenate(chosen)
    mean, error = clustered(saved, facts["week"][tested].iloc[order])
    level = float(default.mean())
    best = tried[int(losses.mean().to_numpy().argmin())]
    return Verdict(symbol, best, mean / level, error / level, len(losses))


def main() -> None:
    """Command line."""
    with one_line("no file was written"):
        _run(_parser().parse_args())


def _parser() -> Parser:
    parser = Parser(prog="python -m forecasting.tune", description="Search per-symbol settings.")
    parser.add_argument("--symbols", nargs="+", required=True, metavar="SYMBOL")
    parser.add_argument(
        "--data-dir", nargs="+", default=[], metavar="DIR", help="none: the synthetic market"
    )
    parser.add_argument("--start", help="New York date or instant with a zone")
    parser.add_argument("--end", help="the same, inclusive")
    parser.add_argument("--model", help="folder or hub id; default: the shipped checkpoint")
    parser.add_argument("--contexts", nargs="+", type=int, default=list(CONTEXTS), metavar="BARS")
    parser.add_argument(
        "--augmentations", nargs="+", default=list(AUGMENTATIONS), choices=AUGMENTATIONS
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument(
        "--cache", type=Path, help="folder forecasts are kept in; default: nothing is kept"
    )
    parser.add_argument(
        "--output", type=Path, default=PER_SYMBOL, help="folder of the files; default: %(default)s"
    )
    return parser


def _run(words: argparse.Namespace) -> None:
    if words.folds < 2:
        raise InputError(f"--folds: {words.folds} is below 2")
    bars = DataSettings(dir=tuple(words.data_dir)).bars(words.symbols, words.start, words.end)
    first, last = span_of(bars, words.start, words.end)
    candidates = [Candidate(c, a) for c in words.contexts for a in words.augmentations]
    base = Profile(model=words.model)
    log_to_file("tune")
    with ProgressBar() as progress:
        verdicts = tune(bars, first, last, base, candidates, words.folds, words.cache, progress)
    for verdict in verdicts:
        best = verdict.best
        said = (
            f"{verdict.symbol}: {100 * verdict.gain:+.2f} ± {100 * verdict.error:.2f} %"
            " walk-forward"
        )
        if verdict.proved and best != Candidate(base.context_length, base.augmentation):
            settings = SymbolSettings(
                context_length=best.context_length, augmentation=best.augmentation
            )
            path = write_symbol_settings(words.output.expanduser(), verdict.symbol, settings)
            print(f"{said}: context {best.context_length}, {best.augmentation}; written to {path}")  # noqa: T201
        else:
            old = words.output.expanduser() / f"{verdict.symbol}.json"
            left = f"; {old} is left as it is" if old.exists() else ""
            print(f"{said}: the defaults stay{left}")  # noqa: T201


if __name__ == "__main__":
    main()
