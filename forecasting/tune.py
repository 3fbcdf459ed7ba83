"""Search each symbol's context length and pre-augmentation, and write what has proved itself.

    python -m forecasting.tune --symbols NVDA BTCUSD --data-dir DIR … [--start D] [--end D]
    [--zone America/New_York] [--folds 5] [--output DIR]

--symbols SYMBOL …       that are searched
--data-dir DIR …         folders of bar files; none: the synthetic market
--zone ZONE              of stamps that say none; none: those are refused
--start, --end           New York dates, inclusive, or instants with a zone
--model MODEL            folder or hub id; none: the shipped checkpoint
--contexts BARS …        context lengths that are tried
--augmentations NAME …   that are tried
--folds N                parts of the span, at least 2
--cache DIR              folder forecasts are kept in; none: nothing is kept
--output DIR             folder of the files; none: the one that forecasters read
--overwrite              write into a folder that holds something else

The span is cut into consecutive folds. In each fold but the first, the candidate that lost least in
the folds before is set against the defaults: that walk-forward gain, not the best fit, decides. A
symbol whose gain does not exceed one standard error keeps the defaults and no file is written;
otherwise `{symbol}.json` names the candidate that lost least over all folds.
"""

from __future__ import annotations

from foundation.command import start

if __name__ == "__main__":
    start("forecasting.tune")

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from forecasting.chronos2.augmentation import AUGMENTATIONS, Augmentation
from forecasting.chronos2.cached import CachedForecaster
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import Profile, SymbolSettings, write_symbol_settings
from forecasting.forecast import Progress, silent
from forecasting.scores import clustered_mean, common_forecasts, score_frame
from forecasting.settings import PER_SYMBOL
from forecasting.windows import Windows
from foundation.command import Result
from foundation.counts import counted
from foundation.errors import InputError
from foundation.files import check_output
from foundation.flags import Parser
from trainingdata.bars import Bars
from trainingdata.instants import Unzoned
from trainingdata.source import DataSettings, span_of

CONTEXTS = (50, 100, 200, 400)
STEPS = (1, 6, 24)
MIN_FORECASTS = 100  # a fold


@dataclass(frozen=True, slots=True)
class Candidate:
    """One combination that is candidates.

    context_length: own bars a window holds.
    augmentation: what is done to them before the model.
    """

    context_length: int
    augmentation: Augmentation


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the search says of one symbol.

    symbol: that was searched.
    best: the candidate that lost least over all folds.
    gain: share of the defaults' loss that is saved walk-forward.
    error: its standard error.
    forecasts: that were scored.
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
    """A verdict for every symbol of the panel, on forecasts issued from `first` to `last`.

    Parameters
    ----------
    bars, first, last
        the panel, and the span of the forecasts that are scored.
    base
        what the candidates vary; its own values are the defaults.
    candidates
        what is candidates beside the defaults.
    folds
        consecutive parts of the span, at least 2.
    cache
        folder forecasts are kept in; none to keep nothing.

    Raises
    ------
    InputError
        where a symbol has too few forecasts for the folds.
    """
    default = Candidate(base.context_length, base.augmentation)
    candidates = list(dict.fromkeys([default, *candidates]))
    profiles = [
        replace(base, context_length=c.context_length, augmentation=c.augmentation)
        for c in candidates
    ]
    forecasters = [Chronos2Forecaster(profile) for profile in profiles]
    _check_enough(bars, first, max(c.context_length for c in candidates), folds)
    tables = []
    for raw in forecasters:
        forecaster = raw if cache is None else CachedForecaster(raw, cache)
        tables.append(forecaster.forecast(bars, first, progress))
    # Every candidate is scored on the same forecasts: a long context begins later than a short one.
    frames = []
    for table, rows in zip(tables, common_forecasts(tables, first, last), strict=True):
        frames.append(score_frame(bars, table, rows, STEPS))
    has_outcome = np.logical_and.reduce([frame["loss"].notna() for frame in frames])
    losses = pd.DataFrame({k: frame["loss"][has_outcome] for k, frame in enumerate(frames)})
    facts = frames[0].loc[has_outcome, ["symbol", "issued_at", "week"]]
    verdicts = []
    for symbol in bars.symbols:
        chosen = (facts["symbol"] == symbol).to_numpy()
        verdicts.append(_verdict(symbol, losses[chosen], facts[chosen], candidates, folds))
    return verdicts


def _check_enough(bars: Bars, first: np.datetime64, length: int, folds: int) -> None:
    windows = Windows.of(bars, first, length)
    counts = np.bincount(windows.symbol[windows.issued_at >= first], minlength=len(bars.symbols))
    for symbol, count in zip(bars.symbols, counts, strict=True):
        if count < MIN_FORECASTS * folds:
            raise InputError(
                f"{symbol}: {counted(count, 'forecast')} with {length} bars of context: too few for"
                f" {folds} folds; start earlier"
            )


def _verdict(
    symbol: str,
    losses: pd.DataFrame,
    facts: pd.DataFrame,
    candidates: Sequence[Candidate],
    folds: int,
) -> Verdict:
    issued = facts["issued_at"].astype("int64")
    # scikit-learn's TimeSeriesSplit counts rows: of 1,000 forecasts of six steps it cuts three in
    # two, whose winner would be chosen on a part of what it is scored on.
    edges = np.quantile(issued, np.arange(1, folds) / folds)
    fold = np.searchsorted(edges, issued)
    # The winner of the folds before is scored on a fold that it has not been chosen on: the best of
    # many candidates on the same forecasts would look good by chance.
    walk_forward: list[npt.NDArray[np.float64]] = []
    for k in range(1, folds):
        winner = int(losses[fold < k].mean().to_numpy().argmin())
        walk_forward.append(losses[fold == k].iloc[:, winner].to_numpy())
    tested = fold > 0
    order = np.argsort(fold[tested], kind="stable")
    default = losses[tested].iloc[order, 0]
    saved = default - np.concatenate(walk_forward)
    mean, error = clustered_mean(saved, facts["week"][tested].iloc[order])
    level = float(default.mean())
    best = candidates[int(losses.mean().to_numpy().argmin())]
    return Verdict(symbol, best, mean / level, error / level, len(losses))


def read(words: Sequence[str]) -> tuple[argparse.Namespace, None]:
    """What the flags say."""
    return _parser().parse_args(list(words)), None


def _parser() -> Parser:
    parser = Parser()
    parser.add_argument("--symbols", nargs="+", required=True)
    parser.add_argument("--data-dir", nargs="+", default=[])
    parser.add_argument("--zone")
    parser.add_argument("--start")
    parser.add_argument("--end")
    parser.add_argument("--model")
    parser.add_argument("--contexts", nargs="+", type=int, default=list(CONTEXTS))
    parser.add_argument(
        "--augmentations", nargs="+", default=list(AUGMENTATIONS), choices=AUGMENTATIONS
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--output", type=Path, default=PER_SYMBOL)
    parser.add_argument("--overwrite", action="store_true")
    return parser


def run(settings: argparse.Namespace, progress: Progress) -> Result:
    """A verdict a symbol, and a file where one has proved itself."""
    arguments = settings
    if arguments.folds < 2:
        raise InputError(f"--folds: {arguments.folds} is below 2")
    output = arguments.output.expanduser()
    check_output(output, "*.json", overwrite=arguments.overwrite, word="--overwrite")
    zone = Unzoned(arguments.zone, "--zone").zone
    data = DataSettings(dir=tuple(arguments.data_dir), zone=zone, accept_jumps=True)
    bars = data.bars(arguments.symbols, arguments.start, arguments.end, "--zone")
    first, last = span_of(bars, arguments.start, arguments.end)
    pairs = product(arguments.contexts, arguments.augmentations)
    candidates = [Candidate(length, augmentation) for length, augmentation in pairs]
    base = Profile(model=arguments.model)
    verdicts = tune(bars, first, last, base, candidates, arguments.folds, arguments.cache, progress)
    default = Candidate(base.context_length, base.augmentation)
    return Result(sentences=[_report(verdict, default, output) for verdict in verdicts])


def _report(verdict: Verdict, default: Candidate, output: Path) -> str:
    """Write the symbol's file where its best candidate has proved itself, and say so."""
    best = verdict.best
    gain = f"{100 * verdict.gain:+.2f} ± {100 * verdict.error:.2f} % walk-forward"
    if verdict.proved and best != default:
        settings = SymbolSettings(
            context_length=best.context_length, augmentation=best.augmentation
        )
        path = write_symbol_settings(output, verdict.symbol, settings)
        choice = f"context {best.context_length}, {best.augmentation}"
        return f"{verdict.symbol}: {gain}: {choice}; written to {path}"
    present = output / f"{verdict.symbol}.json"
    note = f"; {present} is left as it is" if present.exists() else ""
    return f"{verdict.symbol}: {gain}: the defaults stay{note}"
