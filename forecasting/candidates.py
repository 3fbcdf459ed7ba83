"""Which context length and pre-augmentation suits each symbol, and whether that has proved itself.

The span is cut into consecutive folds. In each fold but the first, the candidate that lost least in
the folds before is set against the settings as they are: that walk-forward gain, not the best fit,
decides. A symbol whose gain does not exceed one standard error gets no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from forecasting.chronos2.augmentation import AUGMENTATIONS
from forecasting.chronos2.profile import SymbolSettings
from forecasting.forecast import Progress, silent
from forecasting.scores import clustered_mean, scored_together
from forecasting.settings import ForecasterSettings
from forecasting.windows import Windows
from foundation.errors import InputError
from foundation.figures import counted
from trainingdata.bars import Bars

FOLDS = 5
STEPS = (1, 6, 24)
FEWEST = 100  # forecasts of a fold


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the search says of one symbol.

    symbol: that was searched.
    best: the candidate that lost least over all folds.
    gain, error: share of the loss that is saved walk-forward, and its standard error.
    proved: whether the gain is worth a file.
    """

    symbol: str
    best: SymbolSettings
    gain: float
    error: float
    proved: bool


def verdicts(
    bars: Bars,
    first: np.datetime64,
    last: np.datetime64,
    forecaster: ForecasterSettings,
    contexts: Sequence[int],
    progress: Progress = silent,
    folds: int = FOLDS,
) -> Iterator[Verdict]:
    """A verdict for every symbol of the panel, on forecasts issued from `first` to `last`.

    forecaster: what the candidates vary.
    contexts: own bars that are tried, with every augmentation.
    folds: consecutive parts of the span, at least 2.
    """
    own = (forecaster.context_length, forecaster.augmentation)
    candidates = list(dict.fromkeys([own, *product(contexts, AUGMENTATIONS)]))
    raw = [
        replace(forecaster, calibrated=False, context_length=length, augmentation=augmentation)
        for length, augmentation in candidates
    ]
    built = [settings.build(bars.symbols) for settings in raw]
    windows = Windows.of(bars, first, max(length for length, _ in candidates))
    counts = np.bincount(windows.symbol[windows.issued_at >= first], minlength=len(bars.symbols))
    for symbol, count in zip(bars.symbols, counts, strict=True):
        if count < FEWEST * folds:
            raise InputError(
                f"{symbol}: {counted(count, 'forecast')} with {int(windows.lengths[0])} bars of"
                f" context: too few for {folds} folds; start earlier"
            )
    tables = [each.forecast(bars, first, progress) for each in built]
    # Every candidate is scored on the same forecasts: a long context begins later than a short one.
    frames = scored_together(bars, tables, first, last, STEPS)
    losses = pd.DataFrame({k: frame["loss"] for k, frame in enumerate(frames)})
    for symbol in bars.symbols:
        chosen = (frames[0]["symbol"] == symbol).to_numpy()
        best, gain, error = _walk_forward(losses[chosen], frames[0][chosen], folds)
        length, augmentation = candidates[best]
        settings = SymbolSettings(context_length=length, augmentation=augmentation)
        yield Verdict(symbol, settings, gain, error, gain > error and best > 0)


def _walk_forward(
    losses: pd.DataFrame, facts: pd.DataFrame, folds: int
) -> tuple[int, float, float]:
    """(candidate that lost least, share that is saved walk-forward, its standard error).

    losses: a column a candidate, the first of the settings as they are.
    """
    issued = facts["issued_at"].astype("int64")
    # scikit-learn's TimeSeriesSplit counts rows: of 1,000 forecasts of six steps it cuts three in
    # two, whose winner would be chosen on a part of what it is scored on.
    fold = np.searchsorted(np.quantile(issued, np.arange(1, folds) / folds), issued)
    # The winner of the folds before is scored on a fold that it has not been chosen on: the best of
    # many candidates on the same forecasts would look good by chance.
    saved = []
    for k in range(1, folds):
        winner = int(losses[fold < k].mean().to_numpy().argmin())
        saved.append(losses[fold == k].iloc[:, 0] - losses[fold == k].iloc[:, winner])
    together = pd.concat(saved)
    mean, error = clustered_mean(together, facts.loc[together.index, "week"])
    level = float(losses.loc[together.index].iloc[:, 0].mean())
    return int(losses.mean().to_numpy().argmin()), mean / level, error / level
