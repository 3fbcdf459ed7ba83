"""What fine-tuning was worth on bars after those it was trained on: the verdict and its card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from forecasting.scores import reach, skill
from foundation.counts import counted
from trainingdata.instants import utc_text

ERRORS = 2.0  # standard errors by which the calibrated loss has to fall


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """A part of the span that was judged, and what had been trained on before.

    trained: first and last issue of the forecasts that were trained on.
    windows: how many those are.
    judged: first and last instant of the part that was judged.
    losses: of training, a number a step.
    frame: a row a forecast and step: symbol, kind, week, step, and the losses of the calibrated
        `base` and `tuned` and of `raw_base` and `raw_tuned`, in units of the trailing deviation.
    """

    trained: tuple[np.datetime64, np.datetime64]
    windows: int
    judged: tuple[np.datetime64, np.datetime64]
    losses: list[float]
    frame: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean loss before and after, and the share of it that is saved.

    before, after: mean pinball loss in units of the trailing deviation.
    saved: share of the loss that fine-tuning saves; negative where it costs.
    error: its standard error, clustered by week; NaN within one week.
    reach: half of its 95 % interval; none for too few weeks.
    """

    before: float
    after: float
    saved: float
    error: float
    reach: float | None

    @classmethod
    def of(cls, frame: pd.DataFrame, prefix: str = "") -> Gain:
        """Of the calibrated losses in a fold's frame; with prefix `raw_` of those before."""
        before = frame[f"{prefix}base"]
        after = frame[f"{prefix}tuned"]
        saved, error = skill(after, before, frame["week"])
        half = reach(error, frame["week"])
        return cls(float(before.mean()), float(after.mean()), saved, error, half)

    @property
    def proved(self) -> bool:
        """Whether it exceeds two errors, and its 95 % interval, which is wider for few weeks."""
        return self.reach is not None and self.saved > max(ERRORS * self.error, self.reach)

    @property
    def text(self) -> str:
        """The share in percent, with its error where there is one."""
        error = "" if np.isnan(self.error) else f" ± {100 * self.error:.3f}"
        return f"{100 * self.saved:+.3f}{error} %"

    def figures(self) -> dict[str, float | None]:
        """For JSON."""
        error = None if np.isnan(self.error) else self.error
        return {
            "before": self.before,
            "after": self.after,
            "saved": self.saved,
            "error": error,
            "reach": self.reach,
        }


@dataclass(frozen=True, eq=False, slots=True)
class Verdict:
    """Whether the weights that were trained last are kept.

    folds: in the order of time.
    """

    folds: tuple[Fold, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """The losses of all folds."""
        return pd.concat([fold.frame for fold in self.folds], ignore_index=True)

    @property
    def gain(self) -> Gain:
        """Of all folds, calibrated."""
        return Gain.of(self.frame)

    @property
    def kept(self) -> bool:
        """Whether the calibrated loss falls beyond error, and in the fold of the last weights too.

        What is kept are the weights that were judged on the last fold.
        """
        return self.gain.proved and Gain.of(self.folds[-1].frame).saved > 0

    @property
    def sentence(self) -> str:
        """The gain and what follows of it."""
        frame = self.frame
        weeks = counted(frame["week"].nunique(), "week")
        scores = counted(len(frame), "scored forecast")
        gain = f"calibrated loss saved: {self.gain.text} ({scores}, {weeks})"
        if self.kept:
            return f"{gain}: the fine-tuned model is kept"
        if not self.gain.proved:
            why = "it does not fall by more than two errors"
        else:
            why = "it does not fall on the last fold, whose weights would be kept"
        return f"{gain}: {why}: the base stays"

    def figures(self) -> dict[str, Any]:
        """For JSON: gains over all, by class, symbol and step, raw, and by fold."""
        frame = self.frame
        groups = {"all": Gain.of(frame).figures(), "raw": Gain.of(frame, "raw_").figures()}
        for column in ("kind", "symbol", "step"):
            for name, part in frame.groupby(column):
                groups[str(name)] = Gain.of(part).figures()
        return {
            "kept": self.kept,
            "sentence": self.sentence,
            "forecasts": len(frame),
            "weeks": int(frame["week"].nunique()),
            "gains": groups,
            "folds": [_fold_figures(fold) for fold in self.folds],
        }


def _fold_figures(fold: Fold) -> dict[str, Any]:
    return {
        "trained": [utc_text(at) for at in fold.trained],
        "windows": fold.windows,
        "judged": [utc_text(at) for at in fold.judged],
        "gain": Gain.of(fold.frame).figures(),
        "raw": Gain.of(fold.frame, "raw_").figures(),
        "training_loss": _curve(fold.losses),
    }


def _curve(losses: Sequence[float]) -> list[tuple[int, float]]:
    """Mean training loss of up to ten parts of the steps, with each part's last step."""
    parts = np.array_split(np.array(losses), min(10, len(losses)))
    ends = np.cumsum([len(part) for part in parts])
    return [(int(end), float(part.mean())) for end, part in zip(ends, parts, strict=True)]


def card_json(facts: Mapping[str, Any], verdict: Verdict) -> str:
    """The card: what was run, on what, and what it was worth."""
    return json.dumps({**facts, **verdict.figures()}, indent=1, allow_nan=False) + "\n"


def card_markdown(facts: Mapping[str, Any], verdict: Verdict) -> str:
    """The card to read.

    facts: base, digest, data, symbols, settings and versions.
    """
    settings = ", ".join(f"{name} {value}" for name, value in facts["settings"].items())
    versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items())
    last = verdict.folds[-1]
    lines = [
        f"# {facts['base']}, fine-tuned",
        "",
        f"{verdict.sentence[0].upper()}{verdict.sentence[1:]}.",
        "",
        "| | loss before | after | saved |",
        "| --- | --- | --- | --- |",
        _row("calibrated, all folds", verdict.gain),
        _row("raw, all folds", Gain.of(verdict.frame, "raw_")),
    ]
    for number, fold in enumerate(verdict.folds, start=1):
        begin, end = (utc_text(at) for at in fold.judged)
        lines.append(_row(f"calibrated, fold {number}: {begin} to {end}", Gain.of(fold.frame)))
    begin, end = (utc_text(at) for at in last.trained)
    lines += [
        "",
        "Mean pinball loss over 21 levels of the log return, in units of the deviation of the last"
        " 100 bars; errors are clustered by week. Each fold was judged on bars after those that its"
        " weights were trained on.",
        "",
        f"- Base: {facts['base']}, SHA-256 {facts['base_digest']}",
        f"- Data: {facts['data']}, SHA-256 {facts['data_digest']}",
        f"- Symbols: {', '.join(facts['symbols'])}",
        f"- Weights of the last fold: {counted(last.windows, 'window')}, issued {begin} to {end}",
        f"- Settings: {settings}",
        f"- Versions: {versions}",
        "",
    ]
    return "\n".join(lines)


def _row(label: str, gain: Gain) -> str:
    return f"| {label} | {gain.before:.5f} | {gain.after:.5f} | {gain.text} |"
