"""Score a forecaster on bars that followed, beside classical ones: a table, JSON, and a page.

    python -m forecasting.evaluate 'symbols=[NVDA,BTCUSD]' 'data.dir=[DIR]' start=D end=D
    [forecaster=…] [output=DIR]

Every forecaster is scored on the same forecasts: symbol by symbol, bar by bar, those that all of
them issue. candidates=[50,200,400] tries these context lengths, with every pre-augmentation, on
each symbol, and writes what proved itself walk-forward where forecasters read it.
"""

from __future__ import annotations

from foundation.cli import start

if __name__ == "__main__":
    start("forecasting.evaluate")

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import RenderableType

from forecasting.chronos2.augmentation import AUGMENTATIONS
from forecasting.chronos2.profile import SymbolSettings, write_symbol_settings
from forecasting.evaluation_page import CLASSES, HEADS, REACH, cells_of, render, span_text
from forecasting.forecast import Progress, silent
from forecasting.scores import clustered_mean, gain, scored_together, summary
from forecasting.settings import EvaluationSettings, ForecasterSettings
from forecasting.windows import Windows
from foundation.cli import Result
from foundation.errors import InputError
from foundation.figures import counted
from foundation.tables import Row, Table
from trainingdata.bars import Bars
from trainingdata.instants import utc_text
from trainingdata.source import span_of
from trainingdata.timeframe import Timeframe

if __name__ == "__main__":
    start("forecasting.evaluate")


FOLDS = 5
STEPS = (1, 6, 24)
MIN_FORECASTS = 100  # forecasts of a fold


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """Scores of several forecasters on the same forecasts.

    frames: forecaster's name → scores of each of its forecasts, row by row the same forecasts; the
        first is the one that is evaluated.
    source: of the bars.
    timeframe: of the bars.
    first, last: instants between which the forecasts were issued.
    verdicts: on the candidates, a symbol each; empty where none were named.
    """

    frames: dict[str, pd.DataFrame]
    source: str
    timeframe: Timeframe
    first: np.datetime64
    last: np.datetime64
    verdicts: tuple[Verdict, ...]

    @property
    def main(self) -> str:
        return next(iter(self.frames))

    def figures(self) -> dict[str, Any]:
        """The content of `evaluation.json`."""
        main = self.frames[self.main]
        groups = {kind: main["kind"] == kind for kind in sorted(main["kind"].unique())}
        groups |= {symbol: main["symbol"] == symbol for symbol in sorted(main["symbol"].unique())}
        return {
            "forecaster": self.main,
            "against": list(self.frames)[1:],
            "data": self.source,
            "start": utc_text(self.first),
            "end": utc_text(self.last),
            "groups": {name: self._group(chosen) for name, chosen in groups.items()},
        }

    def _group(self, chosen: pd.Series) -> dict[str, Any]:
        """Scores of a group by step, over all steps, and over the night of its stocks."""
        main = self.frames[self.main]
        parts = {"all": chosen}
        for step in sorted(main["step"].unique()):
            parts[str(step)] = chosen & (main["step"] == step)
        # The interval from a full session's last decision to the next one's first, of hours that
        # from 15:30 to 10:30, has about ten times the variance of the next bar, and its forecast is
        # the one that a stock is held over night on.
        clock = self.timeframe.stocks
        place = clock.bars_a_day - 2
        night = chosen & (main["kind"] == "stock") & (main["slot"] == place) & (main["step"] == 2)
        if night.any():
            parts[f"{clock.place_text(place)} to {clock.place_text(0)}"] = night
        # A class may have no outcome at a step that another has.
        return {label: self._figures(rows) for label, rows in parts.items() if rows.any()}

    def _figures(self, rows: pd.Series) -> dict[str, Any]:
        """Scores of all forecasters on these rows, and the main one's gains on the others."""
        main = self.frames[self.main][rows]
        figures: dict[str, Any] = {}
        for name, frame in self.frames.items():
            figures[name] = summary(frame[rows])
        others = [name for name in self.frames if name != self.main]
        figures["skill"] = {name: gain(main, self.frames[name][rows]) for name in others}
        hours = main.groupby("slot")[["inside80", "scale"]].mean()
        figures["hours"] = {str(slot): row.to_dict() for slot, row in hours.iterrows()}
        return figures


def evaluate(settings: EvaluationSettings, progress: Progress = silent) -> Evaluation:
    """Forecast with everything that is compared and score it."""
    # Candidates are written into a folder of symbols' settings, which need not be there.
    folder = None if settings.candidates else settings.forecaster.per_symbol
    replace(settings.forecaster, per_symbol=folder).check()
    bars = settings.bars()
    first, last = span_of(bars, settings.start, settings.end)
    found: tuple[Verdict, ...] = ()
    if settings.candidates:
        asked = verdicts(bars, first, last, settings.forecaster, settings.candidates, progress)
        found = tuple(asked)
    compared = [settings.forecaster]
    if settings.raw and settings.forecaster.calibrated:
        compared.append(replace(settings.forecaster, calibrated=False))
    compared += [ForecasterSettings(kind=kind, calibrated=False) for kind in settings.against]
    tables = [item.build(bars.symbols).forecast(bars, first, progress) for item in compared]
    frames = scored_together(bars, tables, first, last, settings.steps, progress)
    named = {table.name: frame for table, frame in zip(tables, frames, strict=True)}
    return Evaluation(named, bars.source, bars.timeframe, first, last, found)


def evaluation_files(
    evaluation: Evaluation, figures: dict[str, Any]
) -> dict[str, Callable[[Path], object]]:
    """What writes figures and page."""
    text = json.dumps(figures, indent=1, default=float, allow_nan=False)
    page = render(figures, evaluation.frames, evaluation.timeframe)
    return {
        "evaluation.json": lambda path: path.write_text(f"{text}\n"),
        "evaluation.html": lambda path: path.write_text(page, encoding="utf-8"),
    }


def figure_parts(figures: dict[str, Any]) -> list[RenderableType]:
    """A line a class and step."""
    loss, *rest = HEADS
    heads = [loss, *(f"gain on {name}" for name in figures["against"]), *rest]
    rows: list[Row] = []
    for group, named in CLASSES.items():
        for step, scores in figures["groups"].get(group, {}).items():
            cells = cells_of(figures, scores)
            rows.append((named, step, *(cells[head] for head in heads)))
    title = f"{figures['forecaster']}, {span_text(figures)}, {figures['data']}"
    return [title, Table("", ("", "step", *heads), rows, words=(1,)), REACH]


def write_symbols(found: Sequence[Verdict], folder: Path) -> list[str]:
    """Write the files of the symbols whose best candidate proved itself; what is said of each."""
    lines = []
    for verdict in found:
        gain = f"{100 * verdict.gain:+.2f} ± {100 * verdict.error:.2f} % walk-forward"
        best = verdict.best
        said = "the settings stay"
        present = folder / f"{verdict.symbol}.json"
        if verdict.proved:
            path = write_symbol_settings(folder, verdict.symbol, best)
            said = f"context {best.context_length}, {best.augmentation}; written to {path}"
        elif present.exists():
            said += f"; {present} is left as it is"
        lines.append(f"{verdict.symbol}: {gain}: {said}")
    return lines


def run(settings: EvaluationSettings, progress: Progress) -> Result:
    """Every forecaster's scores, and the page."""
    evaluation = evaluate(settings, progress)
    figures = evaluation.figures()
    said = write_symbols(evaluation.verdicts, settings.forecaster.symbols_folder)
    files = evaluation_files(evaluation, figures)
    return Result(figure_parts(figures), files=files, sentences=said)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict of the search on one symbol.

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
    """Yield a verdict for each symbol of the panel, on forecasts issued from `first` to `last`.

    The span is cut into consecutive folds. In each fold but the first, the candidate that lost
    least in the folds before is compared with the present settings. That walk-forward gain decides,
    not the best fit: without a gain above one standard error a symbol gets no file.

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
        if count < MIN_FORECASTS * folds:
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
