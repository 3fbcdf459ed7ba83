"""Runs over the same days: how they rank, and which of them error does not tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from foundation.arrays import Array, Instants, Mask
from foundation.counts import counted
from foundation.figures import number, percent
from foundation.sample_size import FEWEST_DAYS, FEWEST_FILLS
from marketsimulator.results.remarks import LIKELY, NO_ANNUAL_FIGURES
from marketsimulator.results.significance import (
    BLOCKS,
    LEVEL,
    Outperformance,
    Overfitting,
    simultaneous_leads,
)
from marketsimulator.results.verdict import Verdict

PAIRS = 40  # runs that the best is compared with, the next best
NAMED = 6  # runs that a sentence names

Relation = Literal[
    "best", "ahead", "behind", "alike", "same", "insufficient_data", "ruined", "left out"
]


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

    @property
    def days(self) -> int:
        return len(self.at) - 1


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class RunSet(SharedDays):
    """V runs over the same D days.

    names: [V], each once.
    varied: values [V] of each setting that is not the same in all.
    sharpes: [V] yearly Sharpe ratio; NaN where it is not defined. It ranks short runs as well.
    annual: [V] whether there is enough of a run to show figures that are scaled to a year.
    deflated: [V] probability that it is above 0 after all trials; NaN where it is not defined.
    trials: that the ratios are deflated by.
    overfitting: what choosing the best of them comes to; None where there is too little to say.
    seed: of the bootstrap.
    no_result: why the figures are no result whatever they are; empty where they may be one.
    """

    names: tuple[str, ...]
    varied: Mapping[str, tuple[Any, ...]]
    sharpes: Array
    annual: Mask
    deflated: Array
    trials: int
    overfitting: Overfitting | None
    seed: int
    no_result: str = ""

    @property
    def totals(self) -> Array:
        """[V] total returns: final equity over that of the begin, - 1."""
        return np.asarray(self.final / self.daily[:, 0] - 1)

    @property
    def all_lost(self) -> bool:
        return bool((self.totals < 0).all())

    def ranking(self) -> list[int]:
        """Numbers of the runs by Sharpe ratio, those without one last; by total return if all lost.

        Of two runs that lost the same, the one that risked more has the higher ratio.
        """
        figures = self.totals if self.all_lost else self.sharpes
        return sorted(range(len(figures)), key=lambda k: -np.nan_to_num(figures[k], nan=-9e9))

    def growth(self) -> tuple[Instants, Array]:
        """Instants [N] from the begin to the end, and [V, N] equity over that of the begin, - 1."""
        at, equity = self.at, self.daily
        if self.end > at[-1]:
            at = np.append(at, self.end)
            equity = np.concatenate([equity, self.final[:, None]], axis=1)
        return at, np.asarray(equity / equity[:, :1] - 1)

    def falls(self) -> Array:
        """[V, 1 + D] below the peak until then, ≤ 0."""
        return np.asarray(self.daily / np.maximum.accumulate(self.daily, axis=1) - 1)


@dataclass(frozen=True, slots=True)
class Separation:
    """The best of a set against each of the others, pair by pair.

    best: number of the first run of the ranking that was not ruined.
    relations: [V] what each of the others is to it: `behind` and `ahead` beyond error, `alike`
        where error does not tell, `same` where no day differs, `insufficient_data` for too few
        days, `ruined` where nothing was left on a day, `left out` where it is not among the next
        best.
    leads: [V] how far each ends ahead of the best; None where that is not defined.
    """

    best: int
    relations: tuple[Relation, ...]
    leads: tuple[Outperformance | None, ...]


def separation(runs: RunSet) -> Separation:
    """Which runs the best one can be told apart from, by their paired returns of whole days.

    Intervals hold for all pairs at once: the best is one that was picked among all of them.
    """
    ranking = runs.ranking()
    growth = 1 + runs.totals
    solvent = (np.minimum(runs.daily.min(axis=1), runs.final) > 0).tolist()
    best = next((k for k in ranking if solvent[k]), ranking[0])
    others = [k for k in ranking if k != best and solvent[k] and solvent[best]][:PAIRS]
    relations: list[Relation] = [
        "left out" if alive and solvent[best] else "ruined" for alive in solvent
    ]
    leads: list[Outperformance | None] = [None] * len(ranking)
    relations[best] = "best"
    if others:
        returns = np.array([_returns(runs.daily[k]) for k in (best, *others)])
        for k, found in zip(others, simultaneous_leads(returns, seed=runs.seed), strict=True):
            at_end = found.to_the_end(float(growth[k]), float(growth[best]))
            leads[k] = at_end
            relations[k] = _relation(at_end)
    return Separation(best, tuple(relations), tuple(leads))


def _returns(daily: Array) -> Array:
    return np.asarray(daily[1:] / daily[:-1] - 1)


def _relation(found: Outperformance) -> Relation:
    if found.same:
        return "same"
    if found.interval is None:
        return "insufficient_data"
    return {1: "ahead", 0: "alike", -1: "behind"}[found.beyond]  # type: ignore[return-value]


def set_verdict(runs: RunSet, found: Separation) -> Verdict:
    """The sentence on top of a comparison: what can be told apart, and whether it may be luck."""
    best = runs.names[found.best]
    deflated = runs.deflated[found.best]
    names = {
        kind: [runs.names[k] for k in runs.ranking() if found.relations[k] == kind]
        for kind in ("behind", "ahead", "alike", "same", "insufficient_data", "ruined")
    }
    others = len(runs.names) - 1
    claims = [
        _listed(f"{best} ends ahead beyond error of", names["behind"], others),
        _listed("ends behind beyond error of", names["ahead"], others),
        _listed("cannot be told apart from", names["alike"], others, "any of the"),
        _listed("does the same as", names["same"], others),
        _listed(
            "has too few days to be told from", names["insufficient_data"], others, "any of the"
        ),
    ]
    said = [text for text in claims if text]
    claim = "; ".join(said) or f"{best} is the only one that ends with equity"
    if not claim.startswith(best):
        claim = f"{best} {claim}"
    lucky = not deflated >= LIKELY
    told_from_all = bool(names["behind"]) and not (names["ahead"] or names["alike"])
    good = told_from_all and not lucky and not runs.no_result
    reason = f"{runs.no_result} " if runs.no_result else ""
    level: Literal["good", "bad", "open"] = "bad" if reason else "good" if good else "open"
    rest = _rest(runs, found, deflated, names["ruined"])
    return Verdict(level, f"{reason}{claim}.", rest)


def _rest(runs: RunSet, found: Separation, deflated: float, ruined: Sequence[str]) -> str:
    days = counted(runs.days, "day")
    tried = counted(runs.trials, "trial")
    best = "The best is the one with the highest Sharpe ratio"
    after = f": after {tried} it"
    if runs.all_lost:
        best = "All lost: the best is the one that lost the least"
        after = f"; after {tried} its Sharpe ratio"
    text = f"{counted(len(runs.names), 'run')} over the same {days}. {best}"
    if np.isfinite(deflated):
        text += f"{after} is above zero with a probability of {percent(deflated, 0)}"
        text += ", luck is not ruled out" if deflated < LIKELY else ""
    text += f". {overfitting_text(runs)}{_intervals_text(found)}"
    if left_out := found.relations.count("left out"):
        which = "that lost the most" if runs.all_lost else "with the lowest ratios"
        text += f" The {left_out:,} {which} are not compared."
    return f"{text} Nothing was left of {_few(ruined)}." if ruined else text


def overfitting_text(runs: RunSet) -> str:
    """What choosing the best of the runs comes to on other days, or why that is not told."""
    found = runs.overfitting
    if found is None:
        why = "fewer than two of the runs have a return that moves"
        if runs.days < FEWEST_DAYS:
            why = f"{counted(runs.days, 'day')}, and {BLOCKS} blocks of them take {FEWEST_DAYS}"
        return f"The probability of backtest overfitting is not told: {why}."
    text = (
        f"The probability of backtest overfitting is {percent(found.probability, 1)}: so often the"
        f" best of one half of the days is below the median of {found.variants:,} in the other half"
        f" ({found.splits:,} splits; a choice by chance comes to 50%), and below zero in"
        f" {percent(found.loss, 1)}"
    )
    if not runs.annual.any():
        return f"{text}."
    root = float(np.sqrt(runs.per_year))
    inside, outside = found.inside * root, found.outside * root
    ratios = f"{number(inside)} a year in the one, {number(outside)} there"
    return f"{text}; its mean Sharpe ratio is {ratios}."


def overfitting_figures(runs: RunSet) -> dict[str, float | int | None] | None:
    """The same as figures, Sharpe ratios a year; None where there is too little to say."""
    found = runs.overfitting
    if found is None:
        return None
    figures = asdict(found)
    for name in ("inside", "outside"):
        figures[f"sharpe_{name}"] = figures.pop(name) * float(np.sqrt(runs.per_year))
    return figures


def _intervals_text(found: Separation) -> str:
    """What the intervals allow for; empty where there are none."""
    if not any(lead is not None and lead.interval for lead in found.leads):
        return ""
    compared = 1 + sum(lead is not None for lead in found.leads)
    pairs = compared * (compared - 1) // 2
    if pairs < 2:
        return (
            f" Intervals of the days' differences hold with {percent(LEVEL, 0)}." if pairs else ""
        )
    return (
        f" Intervals of the days' differences hold for all {pairs:,} pairs at once with"
        f" {percent(LEVEL, 0)}: that the best was picked among them is allowed for."
    )


def _listed(words: str, names: Sequence[str], others: int, every: str = "all") -> str:
    """What is said of these runs.

    others: how many there are beside the best.
    every: what goes before their number where they are all of them.
    """
    if not names:
        return ""
    whole = len(names) == others > 2
    return f"{words} {f'{every} {others:,} others' if whole else _few(names)}"


def _few(names: Sequence[str]) -> str:
    if len(names) <= NAMED:
        return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1:,} others"


def length_remarks(runs: RunSet) -> list[str]:
    """That there is too little to scale to a year, of all runs or of some."""
    if runs.days < FEWEST_DAYS:
        order = "returns, as all lost" if runs.all_lost else "Sharpe ratios"
        return [
            f"Only {counted(runs.days, 'day')}: {NO_ANNUAL_FIGURES}. Rows still stand in the order"
            f" of {order}."
        ]
    few = [runs.names[k] for k in runs.ranking() if not runs.annual[k]]
    return [f"Fewer than {FEWEST_FILLS} fills: {_few(few)}; {NO_ANNUAL_FIGURES}."] if few else []
