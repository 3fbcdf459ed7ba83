"""Runs over the same days: how they rank, and which of them error does not tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants
from foundation.errors import InputError
from foundation.formatting import MIN_DAYS, MIN_FILLS, count_text, percent
from marketsimulator.results.remarks import MIN_DEFLATED_SHARPE, NO_ANNUAL_FIGURES
from marketsimulator.results.run_record import RunRecord
from marketsimulator.results.significance import (
    CONFIDENCE_LEVEL,
    Outperformance,
    Overfitting,
    measure_all_outperformances,
)
from marketsimulator.results.verdict import Verdict

MAX_COMPARED_RUNS = 40  # runs that the best is compared with, the next best
MAX_RUNS_NAMED = 6  # runs that a sentence names
MIN_SHARED_MARKS = 2  # marks that runs have to share

Relation = Literal[
    "best", "ahead", "behind", "not_significant", "same", "insufficient_data", "ruined", "left out"
]
BEST_RUN_CLAIMS: Mapping[Relation, str] = {  # of the best, by what others are to it
    "behind": "ends ahead beyond error of",
    "ahead": "ends behind beyond error of",
    "not_significant": "cannot be told apart from",
    "same": "does the same as",
    "insufficient_data": "has too few days to be told from",
}


@dataclass(frozen=True, eq=False, slots=True)
class SharedDays:
    """V runs cut to the D days that all of them have.

    at: [1 + D] the begin, and 16:00 New York of each day.
    daily: [V, 1 + D] equity then, USD.
    end: the last instant that all of them have, no earlier than the last of these.
    final: [V] equity then, USD.
    per_year: days of a year.
    whole: whether no run was cut.
    """

    at: Instants
    daily: Array
    end: np.datetime64
    final: Array
    per_year: int
    whole: bool = True

    @classmethod
    def from_records(cls, runs: Sequence[RunRecord]) -> SharedDays:
        """The days that all of these runs have."""
        marks = [run.marks() for run in runs]
        per_year = min(int(run.summary["periods_per_year"]) for run in runs)
        begin, end = marks[0][0], runs[0].at[-1]
        if all(run.at[-1] == end for run in runs) and all(
            np.array_equal(at, begin) for at, _ in marks
        ):
            daily = np.stack([equity for _, equity in marks])
            final = np.array([run.equity[-1] for run in runs])
            return cls(begin, daily, end, final, per_year)
        common = reduce(np.intersect1d, [at for at, _ in marks])
        if len(common) < MIN_SHARED_MARKS:
            raise InputError(
                f"RUN: {MIN_SHARED_MARKS} days whose 16:00 New York all runs share make a return to"
                f" compare; these share {len(common)}"
            )
        daily = np.stack([equity[np.searchsorted(at, common)] for at, equity in marks])
        return cls(common, daily, common[-1], daily[:, -1], per_year, whole=False)

    @property
    def days(self) -> int:
        return len(self.at) - 1


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class RunSet(SharedDays):
    """V runs over the same D days.

    names: [V], each once.
    varied: values [V] of each setting that is not the same in all.
    table: a row a run: its figures, whether they may be scaled to a year (`annual_figures`), its
        Sharpe ratio after all trials (`deflated_sharpe`) and their number (`trials`).
    overfitting: what choosing the best of them comes to; None where there is too little to say.
    seed: of the bootstrap.
    no_evidence_reason: why the figures are no result whatever they are; empty where they may be
        one.
    """

    names: tuple[str, ...]
    varied: Mapping[str, tuple[Any, ...]]
    table: pd.DataFrame
    overfitting: Overfitting | None
    seed: int
    no_evidence_reason: str = ""

    @property
    def totals(self) -> Array:
        """[V] total returns: final equity over that of the begin, - 1."""
        return np.asarray(self.final / self.daily[:, 0] - 1)

    @property
    def all_lost(self) -> bool:
        return bool((self.totals < 0).all())

    def ranking(self) -> list[int]:
        """Numbers of the runs by Sharpe ratio, those without one last; by total return if all lost.

        The ratio ranks short runs as well. Of two runs that lost the same, the one that risked
        more has the higher ratio.
        """
        figures = self.totals if self.all_lost else self.table["sharpe"].to_numpy(dtype=float)
        return sorted(range(len(figures)), key=lambda k: -np.nan_to_num(figures[k], nan=-9e9))

    def growth(self) -> tuple[Instants, Array]:
        """Instants [N] from the begin to the end, and [V, N] equity over that of the begin, - 1."""
        at, equity = self.at, self.daily
        if self.end > at[-1]:
            at = np.append(at, self.end)
            equity = np.concatenate([equity, self.final[:, None]], axis=1)
        return at, np.asarray(equity / equity[:, :1] - 1)


@dataclass(frozen=True, slots=True)
class Separation:
    """The best of a set against each of the others, pair by pair.

    best: number of the first run of the ranking that was not ruined.
    relations: [V] what each of the others is to it: `behind` and `ahead` beyond error,
        `not_significant`
        where error does not tell, `same` where no day differs, `insufficient_data` for too few
        days, `ruined` where nothing was left on a day, `left out` where it is not among the next
        best.
    outperformances: [V] how far each ends ahead of the best; None where that is not defined.
    """

    best: int
    relations: tuple[Relation, ...]
    outperformances: tuple[Outperformance | None, ...]


def separation(runs: RunSet) -> Separation:
    """Which runs the best one can be told apart from, by their paired returns of whole days.

    Intervals hold for all pairs at once: the best is one that was picked among all of them.
    """
    ranking = runs.ranking()
    growth = 1 + runs.totals
    solvent = (np.minimum(runs.daily.min(axis=1), runs.final) > 0).tolist()
    best = next((k for k in ranking if solvent[k]), ranking[0])
    others = [k for k in ranking if k != best and solvent[k] and solvent[best]][:MAX_COMPARED_RUNS]
    relations: list[Relation] = [
        "left out" if alive and solvent[best] else "ruined" for alive in solvent
    ]
    outperformances: list[Outperformance | None] = [None] * len(ranking)
    relations[best] = "best"
    if others:
        daily = runs.daily[[best, *others]]
        returns = daily[:, 1:] / daily[:, :-1] - 1
        for k, found in zip(
            others, measure_all_outperformances(returns, seed=runs.seed), strict=True
        ):
            outperformances[k] = at_end = found.extend_to_end(float(growth[k]), float(growth[best]))
            relations[k] = _relation(at_end)
    return Separation(best, tuple(relations), tuple(outperformances))


def _relation(found: Outperformance) -> Relation:
    if found.same:
        return "same"
    if found.interval is None:
        return "insufficient_data"
    return {1: "ahead", 0: "not_significant", -1: "behind"}[found.significant_sign]  # type: ignore[return-value]


def comparison_verdict(runs: RunSet, found: Separation) -> Verdict:
    """The sentence on top of a comparison: what can be told apart, and whether it may be luck."""
    names = {
        kind: [runs.names[k] for k in runs.ranking() if found.relations[k] == kind]
        for kind in (*BEST_RUN_CLAIMS, "ruined")
    }
    said = [
        f"{words} {_few(names[kind])}" for kind, words in BEST_RUN_CLAIMS.items() if names[kind]
    ]
    told = "; ".join(said) or "is the only one that ends with equity"
    told_from_all = bool(names["behind"]) and not (names["ahead"] or names["not_significant"])
    level: Literal["good", "bad", "open"] = "open"
    if told_from_all and runs.table["deflated_sharpe"][found.best] >= MIN_DEFLATED_SHARPE:
        level = "good"
    if runs.no_evidence_reason:
        level = "bad"
    claim = f"{runs.no_evidence_reason} {runs.names[found.best]} {told}.".lstrip()
    return Verdict(level, claim, _rest(runs, found, names["ruined"]))


def _rest(runs: RunSet, found: Separation, ruined: Sequence[str]) -> str:
    order = "All lost: the best is the one that lost the least"
    if not runs.all_lost:
        order = "The best is the one with the highest Sharpe ratio"
    said = [
        f"{count_text(len(runs.names), 'run')} over the same {count_text(runs.days, 'day')}."
        f" {order}"
    ]
    best: Any = runs.table.iloc[found.best]
    deflated = float(best["deflated_sharpe"])
    if np.isfinite(deflated):
        luck = ", luck is not ruled out" if deflated < MIN_DEFLATED_SHARPE else ""
        said[0] += (
            f"; after {count_text(best['trials'], 'trial')} its ratio is above zero with a"
            f" probability of {percent(deflated, 0)}{luck}"
        )
    said.append(overfitting_text(runs))
    if any(
        outperformance is not None and outperformance.interval
        for outperformance in found.outperformances
    ):
        said.append(
            "Intervals of the days' differences hold for all compared pairs at once with"
            f" {percent(CONFIDENCE_LEVEL, 0)}"
        )
    if left_out := found.relations.count("left out"):
        said.append(f"The {left_out:,} last ones are not compared")
    if ruined:
        said.append(f"Nothing was left of {_few(ruined)}")
    return f"{'. '.join(said)}."


def overfitting_text(runs: RunSet) -> str:
    """What choosing the best of the runs comes to on other days, or what that takes."""
    found = runs.overfitting
    name = "The probability of backtest overfitting"
    if found is None:
        return f"{name} is not told: it takes {MIN_DAYS} days and two runs that move"
    return (
        f"{name} is {percent(found.probability, 1)}: so often the best of one half of the days is"
        f" below the median in the other half ({found.splits:,} splits; a choice by chance comes to"
        f" 50%), and below zero in {percent(found.loss_probability, 1)}"
    )


def overfitting_figures(runs: RunSet) -> dict[str, float | int] | None:
    """The same as figures, Sharpe ratios a year; None where there is too little to say."""
    found = runs.overfitting
    if found is None:
        return None
    figures = asdict(found)
    for name in ("in_sample", "out_of_sample"):
        figures[f"sharpe_{name}"] = figures.pop(name) * float(np.sqrt(runs.per_year))
    return figures


def _few(names: Sequence[str]) -> str:
    if len(names) <= MAX_RUNS_NAMED:
        return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    return (
        f"{', '.join(names[: MAX_RUNS_NAMED - 1])} and {len(names) - MAX_RUNS_NAMED + 1:,} others"
    )


def run_length_remarks(runs: RunSet) -> list[str]:
    """That there is too little to scale to a year, of all runs or of some."""
    if runs.days < MIN_DAYS:
        return [f"Only {count_text(runs.days, 'day')}: {NO_ANNUAL_FIGURES}."]
    few = [runs.names[k] for k in runs.ranking() if not runs.table["annual_figures"][k]]
    return [f"Fewer than {MIN_FILLS} fills: {_few(few)}; {NO_ANNUAL_FIGURES}."] if few else []
