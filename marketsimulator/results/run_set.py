"""Runs over the same days: how they rank, and which of them error does not tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foundation.arrays import Array, Instants, Mask
from foundation.counts import counted
from foundation.sample_size import FEWEST_DAYS, FEWEST_FILLS
from marketsimulator.results.metrics import daily_rows
from marketsimulator.results.remarks import LIKELY, NO_ANNUAL_FIGURES
from marketsimulator.results.significance import LEVEL, Lead, simultaneous_leads
from marketsimulator.results.verdict import Verdict

PAIRS = 40  # runs that the best is compared with, the next best
NAMED = 6  # runs that a sentence names

Relation = Literal["best", "ahead", "behind", "alike", "same", "untold", "ruined", "left out"]


@dataclass(frozen=True, eq=False, slots=True)
class RunSet:
    """V runs over the same D days.

    names: [V], each once.
    varied: values [V] of each setting that is not the same in all.
    at: [1 + D] the begin, and 16:00 New York of each day.
    daily: [V, 1 + D] equity then, USD.
    per_year: days of a year.
    sharpes: [V] yearly Sharpe ratio; NaN where it is not defined. It ranks short runs as well.
    annual: [V] whether there is enough of a run to show figures that are scaled to a year.
    deflated: [V] probability that it is above 0 after all trials; NaN where it is not defined.
    trials: that the ratios are deflated by.
    seed: of the bootstrap.
    no_result: why the figures are no result whatever they are; empty where they may be one.
    """

    names: tuple[str, ...]
    varied: Mapping[str, tuple[Any, ...]]
    at: Instants
    daily: Array
    per_year: int
    sharpes: Array
    annual: Mask
    deflated: Array
    trials: int
    seed: int
    no_result: str = ""

    def __post_init__(self) -> None:
        count = len(self.names)
        if len(set(self.names)) != count:
            raise ValueError(f"names must differ, got {', '.join(self.names)}")
        if self.daily.shape != (count, len(self.at)):
            raise ValueError(
                f"daily must have shape [V, 1 + D] = {(count, len(self.at))},"
                f" got {self.daily.shape}"
            )

    @property
    def days(self) -> int:
        """D."""
        return len(self.at) - 1

    def ranking(self) -> list[int]:
        """Numbers of the runs, the best Sharpe ratio first, those without one last."""
        return sorted(
            range(len(self.names)), key=lambda k: -np.nan_to_num(self.sharpes[k], nan=-9e9)
        )

    def growth(self) -> Array:
        """[V, 1 + D] equity over that of the begin, - 1."""
        return np.asarray(self.daily / self.daily[:, :1] - 1)

    def falls(self) -> Array:
        """[V, 1 + D] below the peak until then, ≤ 0."""
        return np.asarray(self.daily / np.maximum.accumulate(self.daily, axis=1) - 1)


def daily_marks(
    at: Instants, equity: Array, capital: float, *, coins: bool
) -> tuple[Instants, Array]:
    """The run's begin and 16:00 New York of each day, and equity then: [..., 1 + D].

    equity: [..., N] at instants [N].
    """
    rows, marks = daily_rows(at, coins=coins)
    begins = np.full((*equity.shape[:-1], 1), capital)
    return np.append(at[:1], marks), np.concatenate([begins, equity[..., rows]], axis=-1)


@dataclass(frozen=True, slots=True)
class Separation:
    """The best of a set against each of the others, pair by pair.

    best: number of the run with the best Sharpe ratio.
    relations: [V] what each of the others is to it: `behind` and `ahead` beyond error, `alike`
        where error does not tell, `same` where no day differs, `untold` for too few days, `ruined`
        where nothing was left on a day, `left out` where it is not among the next best.
    leads: [V] how far each ends ahead of the best; None where that is not defined.
    """

    best: int
    relations: tuple[Relation, ...]
    leads: tuple[Lead | None, ...]


def separation(runs: RunSet) -> Separation:
    """Which runs the best one by Sharpe ratio can be told apart from, by their paired returns.

    Intervals hold for all pairs at once: the best is one that was picked among all of them.
    """
    ranking = runs.ranking()
    solvent = [bool(daily.min() > 0) for daily in runs.daily]
    best = next((k for k in ranking if solvent[k]), ranking[0])
    others = [k for k in ranking if k != best and solvent[k] and solvent[best]][:PAIRS]
    relations: list[Relation] = [
        "left out" if alive and solvent[best] else "ruined" for alive in solvent
    ]
    leads: list[Lead | None] = [None] * len(ranking)
    relations[best] = "best"
    if others:
        returns = np.array([_returns(runs.daily[k]) for k in (best, *others)])
        for k, found in zip(others, simultaneous_leads(returns, seed=runs.seed), strict=True):
            leads[k] = found
            relations[k] = _relation(found, runs.daily[k], runs.daily[best])
    return Separation(best, tuple(relations), tuple(leads))


def _returns(daily: Array) -> Array:
    return np.asarray(daily[1:] / daily[:-1] - 1)


def _relation(found: Lead, daily: Array, best: Array) -> Relation:
    if np.allclose(daily / daily[0], best / best[0], rtol=1e-9, atol=0):
        return "same"
    if found.interval is None:
        return "untold"
    return {1: "ahead", 0: "alike", -1: "behind"}[found.beyond]  # type: ignore[return-value]


def set_verdict(runs: RunSet, found: Separation) -> Verdict:
    """The sentence on top of a comparison: what can be told apart, and whether it may be luck."""
    best = runs.names[found.best]
    deflated = runs.deflated[found.best]
    names = {
        kind: [runs.names[k] for k in runs.ranking() if found.relations[k] == kind]
        for kind in ("behind", "ahead", "alike", "same", "untold", "ruined")
    }
    others = len(runs.names) - 1
    claims = [
        _listed(f"{best} ends ahead beyond error of", names["behind"], others),
        _listed("ends behind beyond error of", names["ahead"], others),
        _listed("cannot be told apart from", names["alike"], others),
        _listed("does the same as", names["same"], others),
        _listed("has too few days to be told from", names["untold"], others),
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
    text = (
        f"{counted(len(runs.names), 'run')} over the same {days}. The best is the one with the"
        " highest Sharpe ratio"
    )
    if np.isfinite(deflated):
        text += f": after {tried} it is above zero with a probability of {deflated:.0%}"
        text += ", luck is not ruled out" if deflated < LIKELY else ""
    text += f".{_intervals_text(found)}"
    if left_out := found.relations.count("left out"):
        text += f" The {left_out:,} with the lowest ratios are not compared."
    return f"{text} Nothing was left of {_few(ruined)}." if ruined else text


def _intervals_text(found: Separation) -> str:
    """What the intervals allow for."""
    compared = 1 + sum(lead is not None for lead in found.leads)
    pairs = compared * (compared - 1) // 2
    if pairs < 2:
        return f" Intervals of the days' differences hold with {LEVEL:.0%}." if pairs else ""
    return (
        f" Intervals of the days' differences hold for all {pairs:,} pairs at once with"
        f" {LEVEL:.0%}: that the best was picked among them is allowed for."
    )


def _listed(words: str, names: Sequence[str], others: int) -> str:
    """What is said of these runs; others: how many there are beside the best."""
    if not names:
        return ""
    every = len(names) == others > 2
    return f"{words} {f'all {others:,} others' if every else _few(names)}"


def _few(names: Sequence[str]) -> str:
    """At most `NAMED` names, and how many more."""
    if len(names) <= NAMED:
        return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    return f"{', '.join(names[: NAMED - 1])} and {len(names) - NAMED + 1:,} others"


def length_remarks(runs: RunSet) -> list[str]:
    """That there is too little to scale to a year, of all runs or of some."""
    ranking = runs.ranking()
    return annual_remarks([runs.names[k] for k in ranking], runs.annual[ranking], runs.days)


def annual_remarks(names: Sequence[str], annual: Mask, days: int) -> list[str]:
    """The same of runs with these names; annual: [V], whether there is enough of each."""
    if days < FEWEST_DAYS:
        return [
            f"Only {counted(days, 'day')}: {NO_ANNUAL_FIGURES}. Rows still stand in the order of"
            " Sharpe ratios."
        ]
    few = [name for name, enough in zip(names, annual, strict=True) if not enough]
    return [f"Fewer than {FEWEST_FILLS} fills: {_few(few)}; {NO_ANNUAL_FIGURES}."] if few else []
