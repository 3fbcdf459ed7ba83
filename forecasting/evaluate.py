"""Score a forecaster on bars that followed, beside classical ones: a table, JSON, and a page.

    python -m forecasting.evaluate 'symbols=[NVDA,BTCUSD]' 'data.dir=[DIR]' start=D end=D
    [forecaster=…] [output=DIR]

Every forecaster is scored on the same forecasts: symbol by symbol, bar by bar, those that all of
them issue.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from forecasting.evaluation_page import render
from forecasting.forecast import HORIZON, Progress, silent
from forecasting.scores import comparable, fifths, scored, skill, summary
from forecasting.settings import ForecasterSettings
from foundation.command import ProgressBar, log_to_file, one_line
from foundation.compose import hydra_command
from foundation.configuration import settings_of
from foundation.errors import InputError
from foundation.files import check_output
from trainingdata.sessions import utc_text
from trainingdata.source import DataSettings, span_of

NIGHT = "15:30 to 10:30"
LAST_DECISION = 5  # a stock's last decision of a full session: two own bars, the night inside
Baseline = Literal["ewma", "mix", "garch", "historical"]


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """symbols, start, end: as in a batch. steps: that are scored. against: baselines, uncalibrated.
    raw: also score the forecaster without calibration. output: folder."""

    symbols: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    steps: tuple[int, ...] = (1, 2, 3, 6, 12, 24)
    against: tuple[Baseline, ...] = ("ewma", "mix", "garch", "historical")
    raw: bool = True
    output: str = "outputs/evaluation"
    data: DataSettings = field(default_factory=DataSettings)
    forecaster: ForecasterSettings = field(default_factory=ForecasterSettings)

    def __post_init__(self) -> None:
        wrong = [step for step in self.steps if not 1 <= step <= HORIZON]
        if wrong or not self.steps:
            raise InputError(f"steps: {wrong[0] if wrong else 'none'} is not among 1 … {HORIZON}")

    @classmethod
    def of(cls, config: DictConfig) -> EvaluationSettings:
        """The checked settings of a composed configuration."""
        return settings_of(cls, config, lists=("symbols", "data.dir", "against"))


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """frames: forecaster's name → scores of each of its forecasts, row by row the same
    forecasts; the first is the main.
    """

    frames: dict[str, pd.DataFrame]
    source: str
    first: np.datetime64
    last: np.datetime64

    @property
    def main(self) -> str:
        """Name of the forecaster that is evaluated."""
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
        """Scores of all forecasters and the main one's skill, by step and over all steps."""
        main = self.frames[self.main]
        steps = {
            "all": chosen,
            **{
                str(step): chosen & (main["step"] == step) for step in sorted(main["step"].unique())
            },
        }
        night = (
            chosen
            & (main["kind"] == "stock")
            & (main["step"] == 2)
            & (main["slot"] == LAST_DECISION)
        )
        if night.any():
            steps[NIGHT] = night
        found: dict[str, Any] = {}
        for label, rows in steps.items():
            ours = main[rows]
            found[label] = {name: summary(frame[rows]) for name, frame in self.frames.items()}
            found[label]["skill"] = {
                name: _gain(ours, frame[rows])
                for name, frame in self.frames.items()
                if name != self.main
            }
            hours = ours.groupby("slot")[["inside80", "scale"]].mean()
            found[label]["hours"] = {str(slot): row.to_dict() for slot, row in hours.iterrows()}
            found[label]["fifths"] = fifths(ours, "trailing").to_dict("list")
        return found


def _gain(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, float | None]:
    """Share of their loss that is saved, its error (none within one week), and its sign where
    it is beyond two of them.
    """
    mean, error = skill(ours["loss"], theirs["loss"], ours["week"])
    beyond = float(np.sign(mean)) if abs(mean) > 2 * error else 0.0
    return {"mean": mean, "error": None if np.isnan(error) else error, "beyond": beyond}


def evaluate(settings: EvaluationSettings, progress: Progress = silent) -> Evaluation:
    """Forecast with everything that is compared and score it.

    Raises
    ------
    InputError
        for settings or data that cannot be used, and where nothing can be scored.
    """
    bars = settings.data.bars(settings.symbols, settings.start, settings.end)
    first, last = span_of(bars, settings.start, settings.end)
    chosen = settings.forecaster
    compared = [chosen]
    if settings.raw and chosen.calibrated:
        compared.append(replace(chosen, calibrated=False))
    compared += [ForecasterSettings(kind=kind, calibrated=False) for kind in settings.against]
    tables = [c.build(bars.symbols).forecast(bars, first, progress) for c in compared]
    rows = comparable(tables, first, last)
    if not len(rows[0]):
        raise InputError(
            f"start, end: no forecast is issued by all between {utc_text(first)} and"
            f" {utc_text(last)}"
        )
    frames = {}
    for done, (table, mine) in enumerate(zip(tables, rows, strict=True)):
        frames[table.name] = scored(bars, table, mine, settings.steps)
        progress("scores", done + 1, len(tables))
    known = np.logical_and.reduce([frame["loss"].notna() for frame in frames.values()])
    if not known.any():
        raise InputError(
            "start, end: no forecast's outcome is known yet; end later bars or start earlier"
        )
    return Evaluation(
        {name: frame[known] for name, frame in frames.items()}, bars.source, first, last
    )


def write_evaluation(evaluation: Evaluation, output: Path) -> dict[str, Any]:
    """Write figures and page; the figures."""
    figures = evaluation.figures()
    output.mkdir(parents=True, exist_ok=True)
    (output / "evaluation.json").write_text(
        json.dumps(figures, indent=1, default=float, allow_nan=False) + "\n"
    )
    (output / "evaluation.html").write_text(render(figures, evaluation.frames))
    return figures


def print_figures(figures: dict[str, Any]) -> None:
    """A line a class and step."""
    console = Console(width=None if sys.stdout.isatty() else 160)
    against = figures["against"]
    table = Table(
        "",
        "step",
        "loss",
        *(f"less than {name}" for name in against),
        "80 % holds",
        "(return/σ)²",
        "rank corr.",
    )
    for group in ("stock", "crypto"):
        for step, found in figures["groups"].get(group, {}).items():
            ours = found[figures["forecaster"]]
            gains = [_percent(found["skill"][name]) for name in against]
            rank = (
                f"{ours['information']:+.3f} ± {ours['information_error']:.3f}"
                if ours["information"] is not None
                else "none"
            )
            table.add_row(
                group,
                step,
                f"{ours['loss']:.4f}",
                *gains,
                f"{ours['inside80']:.3f}",
                f"{ours['scale']:.2f}",
                rank,
            )
    console.print(
        f"{figures['forecaster']}, {figures['start']} to {figures['end']}, {figures['data']}",
        highlight=False,
    )
    console.print(table)


def _percent(gain: dict[str, float | None]) -> str:
    mean = gain["mean"] or 0.0
    error = gain["error"]
    return f"{100 * mean:+.2f} %" if error is None else f"{100 * mean:+.2f} ± {100 * error:.2f} %"


def run_command(config: DictConfig) -> None:
    """Check, score, write and print. Wrong input ends with exit code 2."""
    began = time.monotonic()
    with one_line("nothing was written"):
        settings = EvaluationSettings.of(config)
        output = Path(settings.output).expanduser()
        check_output(output)
        log_to_file("evaluate")
        with ProgressBar() as progress:
            evaluation = evaluate(settings, progress)
        figures = write_evaluation(evaluation, output)
    print_figures(figures)
    print(f"{time.monotonic() - began:.1f} s. Page: {output / 'evaluation.html'}")  # noqa: T201


def main() -> None:
    """Hydra entry."""
    hydra_command("evaluate", run_command)


if __name__ == "__main__":
    main()
