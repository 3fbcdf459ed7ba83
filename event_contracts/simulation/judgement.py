"""How much of what policies earned over the same sessions may be luck, and which earned more.

A return is what a session earned, in multiples of the cash at its beginning. K runs of a policy
(seeds of its training, or of its draws) play the same N sessions: returns [K, N]; a policy that has
no seed plays once. Sessions that hang together, as the markets of one event do, are one group.

Intervals hold 90 % and come from a bootstrap of groups and of seeds, each drawn with replacement
(Owen 2007, the pigeonhole bootstrap), the same draws for all policies: what moves two of them in
the same session leaves their difference. There is none for fewer than 20 groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foundation.arrays import Array, Index
from marketsimulator.results.significance import LEVEL, RUNS, SHORTEST

Verdict = Literal["yes", "no", "no power"]

MORE = 0.1  # of the other's profit, that a policy has to earn beyond it
_STILL = 1e-12  # of a mean square: returns that do not move


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of one policy, or of two.

    value: none where it is not defined.
    interval: none where it has none, as below 20 groups, or where some draw does not define it.
    """

    value: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """Figures of one policy, each of an episode.

    growth: mean logarithm of the final over the first cash.
    profit: mean return.
    sharpe: mean over deviation of returns; not annual.
    """

    growth: Estimate
    profit: Estimate
    sharpe: Estimate


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether one policy earned more than 10 % more than another, at a better Sharpe ratio.

    excess: mean return of the one less max(1.1 · mean return of the other, 0). Where the other
        loses, the one has to earn something.
    sharpe: the one's Sharpe ratio an episode less the other's.
    verdict: `yes` where both intervals lie above 0: each is wrong one time in twenty at most, and
        so is their conjunction. `no` where one of the two lies at 0 or below, whatever the other
        does. `no power` otherwise, and where neither has ever traded: these sessions do not
        decide it.
    """

    excess: Estimate
    sharpe: Estimate
    verdict: Verdict


@dataclass(frozen=True, eq=False, slots=True)
class Trials:
    """Returns of policies over the same sessions, and how they are resampled.

    returns: [K, N] by policy; K may be 1 beside others.
    groups: number of each session's group [N], 0 … G - 1.
    seed: of the draws.
    """

    returns: Mapping[str, Array]
    groups: Index
    seed: int = 0

    def __post_init__(self) -> None:
        for name, returns in self.returns.items():
            if returns.ndim != 2 or returns.shape[1] != len(self.groups) or not len(self.groups):
                raise ValueError(
                    f"returns of {name} must have shape [K, N] = [K, {len(self.groups)}], got"
                    f" {returns.shape}"
                )
            if not np.all(returns > -1):
                raise ValueError(f"returns of {name} must be above -1: no policy can lose it all")

    def judge(self, name: str) -> Judgement:
        """The figures of a policy."""
        sums = self._sums(name)
        return Judgement(
            growth=_estimate(sums.growth),
            profit=_estimate(sums.mean),
            sharpe=_estimate(sums.sharpe),
        )

    def answer(self, one: str, other: str) -> Answer:
        """Whether one earned more than 10 % more than the other, at a better Sharpe ratio."""
        first = self._sums(one)
        second = self._sums(other)
        excess = _estimate(first.mean - np.maximum((1.0 + MORE) * second.mean, 0.0))
        sharpe = _estimate(first.sharpe - second.sharpe)
        if not (self.returns[one].any() or self.returns[other].any()):
            return Answer(excess, sharpe, "no power")
        return Answer(excess, sharpe, _verdict(excess, sharpe))

    def _sums(self, name: str) -> _Figures:
        """Figures [1 + R] of a policy: of all sessions, then of each draw."""
        returns = self.returns[name]
        count = int(self.groups.max()) + 1
        groups = self._draws(count, 0)
        seeds = self._draws(len(returns), 1)
        # A policy without a seed is the same in every draw of seeds.
        totals = [
            np.array([np.bincount(self.groups, row, count) for row in values])
            for values in (np.ones_like(returns), returns, returns**2, np.log1p(returns))
        ]
        n, first, second, logs = (
            np.einsum("rk,kg,rg->r", seeds, total, groups) for total in totals
        )
        return _Figures(first / n, second / n, logs / n)

    def _draws(self, count: int, stream: int) -> Array:
        """How often each of so many is drawn [1 + R, count]; once each in the first row."""
        once = np.ones((1, count))
        if stream == 0 and count < SHORTEST:
            return once
        if stream == 1 and int(self.groups.max()) + 1 < SHORTEST:
            return once
        rng = np.random.default_rng([self.seed, stream, count])
        drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=RUNS)
        return np.concatenate([once, drawn])


@dataclass(frozen=True, eq=False, slots=True)
class _Figures:
    """mean: of returns [1 + R]. square: of their squares. growth: of log(1 + return)."""

    mean: Array
    square: Array
    growth: Array

    @property
    def sharpe(self) -> Array:
        """Mean over deviation [1 + R]; NaN where returns do not move."""
        variance = self.square - self.mean**2
        moves = variance > _STILL * np.maximum(self.square, _STILL)
        undefined = np.full(len(self.mean), np.nan)
        deviation = np.sqrt(np.maximum(variance, 0.0))
        return np.asarray(np.divide(self.mean, deviation, out=undefined, where=moves))


def _estimate(values: Array) -> Estimate:
    """The figure of all sessions, and the interval of its draws."""
    if not np.isfinite(values[0]):
        return Estimate(None)
    draws = values[1:]
    # Quantiles of the defined draws alone would leave out the strangest of them.
    if not len(draws) or not np.isfinite(draws).all():
        return Estimate(float(values[0]))
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.quantile(draws, (tail, 1.0 - tail))
    return Estimate(float(values[0]), (float(low), float(high)))


def _verdict(excess: Estimate, sharpe: Estimate) -> Verdict:
    intervals = [each.interval for each in (excess, sharpe)]
    if all(each is not None and each[0] > 0 for each in intervals):
        return "yes"
    if any(each is not None and each[1] <= 0 for each in intervals):
        return "no"
    return "no power"
