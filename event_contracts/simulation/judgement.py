"""How much of what policies earned over the same sessions may be luck, and which earned more.

A return is what a session earned, in multiples of the cash at its beginning. K runs of a policy
(seeds of its training, or of its draws) play the same N sessions: returns [K, N]; a policy that has
no seed plays once. Sessions that hang together, as the markets of one event do, are one group.

Intervals are those of `marketsimulator.results.significance` but for what is drawn: groups and
seeds, each with replacement (Owen 2007, the pigeonhole bootstrap), the same draws for all policies:
what moves two of them in the same session leaves their difference. There is none for fewer than 20
groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foundation.arrays import Array, Index
from marketsimulator.results.significance import RUNS, SHORTEST, ends

Answered = Literal["yes", "no", "no power"]

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

    @classmethod
    def of(cls, values: Array, unit: float = 1.0) -> Estimate:
        """The figure [1 + R] of all sessions, then of each draw; unit: by which it is multiplied.

        Quantiles of the defined draws alone would leave out the strangest of them.
        """
        if not np.isfinite(values[0]):
            return cls(None)
        value, draws = unit * float(values[0]), values[1:]
        if not len(draws) or not np.isfinite(draws).all():
            return cls(value)
        low, high = ends(draws)
        return cls(value, (unit * low, unit * high))

    @property
    def sign(self) -> int:
        """1 where its interval lies above 0, -1 where it lies at 0 or below, else 0."""
        if self.interval is None:
            return 0
        low, high = self.interval
        return int(low > 0) - int(high <= 0)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Figures of one policy, each of an episode.

    growth: mean logarithm of the final over the first cash.
    profit_usd: mean.
    sharpe: mean over deviation of returns; not annual.
    """

    growth: Estimate
    profit_usd: Estimate
    sharpe: Estimate


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether one policy earned more than 10 % more than another, at a better Sharpe ratio.

    excess_usd: an episode, mean of the one less max(1.1 · mean of the other, 0). Where the other
        loses, the one has to earn something.
    sharpe_difference: the one's Sharpe ratio an episode less the other's.
    verdict: `yes` where both intervals lie above 0: each is wrong one time in twenty at most, and
        so is their conjunction. `no` where one of the two lies at 0 or below, whatever the other
        does. `no power` otherwise, and where neither has ever traded: these sessions do not
        decide it.
    """

    excess_usd: Estimate
    sharpe_difference: Estimate
    verdict: Answered


@dataclass(frozen=True, eq=False, slots=True)
class Trials:
    """Returns of policies over the same sessions, and how they are resampled.

    returns: [K, N] by policy; K may be 1 beside others.
    groups: number of each session's group [N], 0 … G - 1.
    cash: USD at the beginning of each session.
    seed: of the draws.
    """

    returns: Mapping[str, Array]
    groups: Index
    cash: float = 1.0
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
        mean, square, growth = self._means(name)
        return Judgement(
            growth=Estimate.of(growth),
            profit_usd=Estimate.of(mean, self.cash),
            sharpe=Estimate.of(_sharpe(mean, square)),
        )

    def answer(self, one: str, other: str) -> Answer:
        """Whether one earned more than 10 % more than the other, at a better Sharpe ratio."""
        mean, square, _ = self._means(one)
        its, of_it, _ = self._means(other)
        excess = Estimate.of(mean - np.maximum((1.0 + MORE) * its, 0.0), self.cash)
        sharpe = Estimate.of(_sharpe(mean, square) - _sharpe(its, of_it))
        signs = {excess.sign, sharpe.sign}
        verdict: Answered = "no" if -1 in signs else "yes" if signs == {1} else "no power"
        traded = self.returns[one].any() or self.returns[other].any()
        return Answer(excess, sharpe, verdict if traded else "no power")

    def _means(self, name: str) -> tuple[Array, Array, Array]:
        """Of returns, of their squares and of log(1 + return), [1 + R]: of all, then of draws."""
        returns = self.returns[name]
        count = int(self.groups.max()) + 1
        drawn = RUNS if count >= SHORTEST else 0
        groups = self._draws(count, 0, drawn)
        # A policy without a seed is the same in every draw of seeds.
        seeds = self._draws(len(returns), 1, drawn)
        totals = [
            np.array([np.bincount(self.groups, row, count) for row in values])
            for values in (np.ones_like(returns), returns, returns**2, np.log1p(returns))
        ]
        n, *sums = (np.einsum("rk,kg,rg->r", seeds, total, groups) for total in totals)
        mean, square, growth = (each / n for each in sums)
        return mean, square, growth

    def _draws(self, count: int, stream: int, drawn: int) -> Array:
        """How often each of so many is drawn [1 + drawn, count]; once each in the first row."""
        rng = np.random.default_rng([self.seed, stream, count])
        draws = rng.multinomial(count, np.full(count, 1.0 / count), size=drawn)
        return np.concatenate([np.ones((1, count)), draws])


def _sharpe(mean: Array, square: Array) -> Array:
    """Mean over deviation [1 + R]; NaN where returns do not move."""
    variance = square - mean**2
    moves = variance > _STILL * np.maximum(square, _STILL)
    undefined = np.full(len(mean), np.nan)
    deviation = np.sqrt(np.maximum(variance, 0.0))
    return np.asarray(np.divide(mean, deviation, out=undefined, where=moves))
