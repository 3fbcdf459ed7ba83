"""Runs over the same days: ranking and significance of their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants
from foundation.errors import InputError
from foundation.formatting import (
    MIN_DAYS_FOR_ANNUAL_FIGURES,
    MIN_FILLS_FOR_ANNUAL_FIGURES,
    format_count,
    format_percent,
)
from marketsimulator.results.run_record import RunRecord
from marketsimulator.results.significance import (
    CONFIDENCE_LEVEL,
    MIN_DEFLATED_SHARPE,
    NO_ANNUAL_FIGURES_NOTE,
    Outperformance,
    Overfitting,
    measure_all_outperformances,
)
from marketsimulator.results.verdict import Verdict, qualify_claim

MAX_COMPARED_RUNS = 40  # next best runs that the best one is compared with
MAX_RUNS_NAMED = 6  # runs that a sentence names
MIN_COMMON_MARKS = 2  # marks that all runs need in common

RelationToBest = Literal[
    "best", "ahead", "behind", "not_significant", "same", "insufficient_data", "ruined", "left out"
]
BEST_RUN_CLAIMS: Mapping[RelationToBest, str] = {  # claim by relation of another run to the best
    "behind": "is significantly ahead of",
    "ahead": "is significantly behind",
    "not_significant": "has no significant difference from",
    "same": "is identical to",
    "insufficient_data": "has too few days to compare with",
}


@dataclass(frozen=True, eq=False, slots=True)
class SharedDays:
    """Equity of V runs over their D common days.

    instants: [1 + D] start, then the end of each day.
    daily_equity: [V, 1 + D] equity at these instants, USD.
    days_per_year: number of such days per year.
    covers_whole_runs: true if all runs cover the same period, so that none was cut.
    """

    instants: Instants
    daily_equity: Array
    days_per_year: int
    covers_whole_runs: bool = True

    @classmethod
    def from_records(cls, runs: Sequence[RunRecord]) -> SharedDays:
        """Cut runs to their common days.

        Raises `InputError` if the runs have fewer than two daily marks in common.
        """
        marks = [run.daily_equity_curve() for run in runs]
        per_year = min(int(run.summary["periods_per_year"]) for run in runs)
        instants = marks[0][0]
        if all(np.array_equal(at, instants) for at, _ in marks):
            return cls(instants, np.stack([equity for _, equity in marks]), per_year)
        common = reduce(np.intersect1d, [at for at, _ in marks])
        if len(common) < MIN_COMMON_MARKS:
            raise InputError(
                f"RUN: the runs share {format_count(len(common), 'daily close')} (16:00 New York),"
                f" but a comparison needs at least {MIN_COMMON_MARKS}; choose runs over the same"
                " period"
            )
        daily = np.stack([equity[np.searchsorted(at, common)] for at, equity in marks])
        return cls(common, daily, per_year, covers_whole_runs=False)

    @property
    def days(self) -> int:
        return len(self.instants) - 1


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class RunSet(SharedDays):
    """V runs over the same D days, with their figures.

    names: [V] unique names.
    varied_settings: values [V] of each setting that differs between runs, by key.
    table: one row per run: its figures, whether it is long enough for annual figures
        (`annual_figures`), its deflated Sharpe ratio (`deflated_sharpe`) and the number of trials
        (`trials`).
    overfitting: probability of backtest overfitting; None for too few days or runs.
    seed: seed of the bootstrap.
    no_evidence_reason: reason why the runs are not valid evidence; empty if they are.
    """

    names: tuple[str, ...]
    varied_settings: Mapping[str, tuple[Any, ...]]
    table: pd.DataFrame
    overfitting: Overfitting | None
    seed: int
    no_evidence_reason: str = ""

    @property
    def total_returns(self) -> Array:
        """Return the total return of each run [V]: final over initial equity, minus 1."""
        return np.asarray(self.cumulative_returns[:, -1])

    @property
    def has_only_losses(self) -> bool:
        return bool((self.total_returns < 0).all())

    def ranking(self) -> list[int]:
        """Return run numbers from best to worst.

        Runs are ranked by Sharpe ratio, undefined ratios last. If all runs lost money, they are
        ranked by total return: between two equal losses the Sharpe ratio prefers the riskier run.
        """
        figures = (
            self.total_returns
            if self.has_only_losses
            else self.table["sharpe"].to_numpy(dtype=float)
        )
        return sorted(range(len(figures)), key=lambda k: -np.nan_to_num(figures[k], nan=-9e9))

    @property
    def cumulative_returns(self) -> Array:
        """Return the cumulative return of each run [V, 1 + D]."""
        return np.asarray(self.daily_equity / self.daily_equity[:, :1] - 1)


@dataclass(frozen=True, slots=True)
class BestRunComparison:
    """Comparison of the best run of a set with each other run.

    best_run_index: number of the first run of the ranking that was not wiped out.
    relations: [V] relation of each run to the best one: `best` for itself, significantly `behind`
        or `ahead`, `not_significant`, `same` (no day differs), `insufficient_data` (too few days),
        `ruined` (no equity on some day), `left out` (ranked too low to be compared).
    outperformances: [V] lead of each run over the best one; None if undefined.
    """

    best_run_index: int
    relations: tuple[RelationToBest, ...]
    outperformances: tuple[Outperformance | None, ...]


def compare_best_run(runs: RunSet) -> BestRunComparison:
    """Compare the best run with the other runs by their daily returns on the same days.

    The confidence intervals hold for all pairs of runs together, because the best run was selected
    among all runs.
    """
    ranking = runs.ranking()
    solvent = (runs.daily_equity.min(axis=1) > 0).tolist()
    best = next((k for k in ranking if solvent[k]), ranking[0])
    others = [k for k in ranking if k != best and solvent[k] and solvent[best]][:MAX_COMPARED_RUNS]
    relations: list[RelationToBest] = [
        "left out" if alive and solvent[best] else "ruined" for alive in solvent
    ]
    outperformances: list[Outperformance | None] = [None] * len(ranking)
    relations[best] = "best"
    if others:
        daily = runs.daily_equity[[best, *others]]
        returns = daily[:, 1:] / daily[:, :-1] - 1
        for k, found in zip(
            others, measure_all_outperformances(returns, seed=runs.seed), strict=True
        ):
            outperformances[k] = found
            relations[k] = _relation(found)
    return BestRunComparison(best, tuple(relations), tuple(outperformances))


def _relation(found: Outperformance) -> RelationToBest:
    if found.is_identical:
        return "same"
    if found.interval is None:
        return "insufficient_data"
    return {1: "ahead", 0: "not_significant", -1: "behind"}[found.significant_sign]  # type: ignore[return-value]


def comparison_verdict(runs: RunSet, comparison: BestRunComparison) -> Verdict:
    """Return the verdict on a set of runs.

    It is based on significant differences and the deflated Sharpe ratio; its evidence includes the
    probability of backtest overfitting.
    """
    names = {
        kind: [runs.names[k] for k in runs.ranking() if comparison.relations[k] == kind]
        for kind in (*BEST_RUN_CLAIMS, "ruined")
    }
    claims = [
        f"{text} {_format_run_names(names[kind])}"
        for kind, text in BEST_RUN_CLAIMS.items()
        if names[kind]
    ]
    claim = "; ".join(claims) or "is the only run with equity at its end"
    ahead_of_all = bool(names["behind"]) and not (names["ahead"] or names["not_significant"])
    level: Literal["good", "bad", "open"] = "open"
    if (
        ahead_of_all
        and runs.table["deflated_sharpe"][comparison.best_run_index] >= MIN_DEFLATED_SHARPE
    ):
        level = "good"
    if runs.no_evidence_reason:
        level = "bad"
    claim = f"{runs.names[comparison.best_run_index]} {claim}."
    if runs.no_evidence_reason:
        claim = qualify_claim(runs.no_evidence_reason, claim)
    return Verdict(level, claim, _supporting_sentences(runs, comparison, names["ruined"]))


def _supporting_sentences(runs: RunSet, found: BestRunComparison, ruined: Sequence[str]) -> str:
    """Return the figures that support the verdict, one sentence each, as one text.

    ruined: names of runs that lost all equity.
    """
    order = (
        "All runs lost money: ranked by total return"
        if runs.has_only_losses
        else "Ranked by Sharpe"
    )
    sentences = [
        f"{order}: {format_count(len(runs.names), 'run')} over the same"
        f" {format_count(runs.days, 'day')}"
    ]
    best: Any = runs.table.iloc[found.best_run_index]
    deflated = float(best["deflated_sharpe"])
    if np.isfinite(deflated):
        luck = ", luck is not ruled out" if deflated < MIN_DEFLATED_SHARPE else ""
        sentences.append(
            f"Deflated Sharpe of the best after {format_count(best['trials'], 'trial')}:"
            f" {format_percent(deflated, 0)}{luck}"
        )
    sentences.append(describe_overfitting(runs))
    if any(
        outperformance is not None and outperformance.interval
        for outperformance in found.outperformances
    ):
        sentences.append(
            f"{format_percent(CONFIDENCE_LEVEL, 0)} intervals of differences hold for all"
            " pairs simultaneously"
        )
    if left_out := found.relations.count("left out"):
        sentences.append(f"The {format_count(left_out, 'lowest-ranked run')} are not compared")
    if ruined:
        sentences.append(f"Wiped out: {_format_run_names(ruined)}")
    return f"{'. '.join(sentences)}."


def describe_overfitting(runs: RunSet) -> str:
    """Return a sentence on the probability of backtest overfitting (PBO).

    With too little data for an estimate, the sentence states how much is needed.
    """
    found = runs.overfitting
    if found is None:
        return (
            "PBO (probability of backtest overfitting) needs at least"
            f" {MIN_DAYS_FOR_ANNUAL_FIGURES} days and two runs"
        )
    return (
        f"PBO (probability of backtest overfitting): {format_percent(found.probability, 1)}. This"
        " is"
        f" the share of {found.splits:,} splits in which the best run of one half is below the"
        " median in the other (chance: 50%); it loses money there in"
        f" {format_percent(found.loss_probability, 1)}"
    )


def overfitting_figures(runs: RunSet) -> dict[str, float | int] | None:
    """Return the overfitting estimates, with annualised Sharpe ratios; None without estimates."""
    found = runs.overfitting
    if found is None:
        return None
    figures = asdict(found)
    for name in ("in_sample", "out_of_sample"):
        figures[f"sharpe_{name}"] = figures.pop(name) * float(np.sqrt(runs.days_per_year))
    return figures


def _format_run_names(names: Sequence[str]) -> str:
    if len(names) <= MAX_RUNS_NAMED:
        return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    return (
        f"{', '.join(names[: MAX_RUNS_NAMED - 1])} and {len(names) - MAX_RUNS_NAMED + 1:,} others"
    )


def short_run_remarks(runs: RunSet) -> list[str]:
    """Report which runs have too few days or fills for annual figures."""
    if runs.days < MIN_DAYS_FOR_ANNUAL_FIGURES:
        return [f"Only {format_count(runs.days, 'day')}: {NO_ANNUAL_FIGURES_NOTE}."]
    few = [runs.names[k] for k in runs.ranking() if not runs.table["annual_figures"][k]]
    return (
        [
            f"Fewer than {MIN_FILLS_FOR_ANNUAL_FIGURES} fills: {_format_run_names(few)};"
            f" {NO_ANNUAL_FIGURES_NOTE}."
        ]
        if few
        else []
    )
