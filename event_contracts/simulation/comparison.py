"""Policies over the same held-out sessions: results, their uncertainty, and the value of sizing.

A return is the profit of a session as a multiple of its starting cash. K runs of a policy (seeds of
its training, or of its draws) play the same N sessions: returns [K, N]; a policy without a seed
plays once. Dependent sessions, as the markets of one event, form one group.

Intervals are those of `marketsimulator.results.significance`, except that groups and seeds are
drawn, each with replacement (Owen 2007, the pigeonhole bootstrap), with the same draws for all
policies. Effects of a session on two policies cancel in their difference. There are no intervals
for fewer than 20 groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import numpy as np
import numpy.typing as npt

from event_contracts.simulation.exchange import fill_of
from event_contracts.simulation.sessions import session_outcome
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.orders import ContractFill, Outcome
from event_contracts.trading.policies import Policy
from event_contracts.trading.position_sizes import Episode, SentOrder
from event_contracts.trading.records import MICROS_PER_DOLLAR
from forecasting.forecast import Progress, no_progress
from foundation.arrays import Array, Index, Mask, Records
from marketsimulator.results.significance import (
    BOOTSTRAP_DRAWS,
    MIN_INTERVAL_DAYS,
    central_interval,
)

ComparisonVerdict = Literal["yes", "no", "no power"]
MIN_EXCESS = 0.1  # fraction of the other policy's profit by which a policy has to exceed it
_STILL = 1e-12  # of a mean square: smaller deviations count as none


@dataclass(frozen=True, eq=False, slots=True)
class PlayedSessions:
    """Results of a policy over N sessions.

    profits: USD [N], cash after settlement less starting cash.
    episodes: orders and fills of each session [N].
    """

    profits: Array
    episodes: tuple[Episode, ...]


def play_sessions(
    policy: Policy,
    sessions: Sequence[Array],
    settings: EpisodeSettings,
    recorded: Mask | None = None,
) -> PlayedSessions:
    """Let a policy play every session [T, F] from its first row to its settlement.

    All markets are decided together, step by step; a settled session keeps its last row until the
    others have settled.

    recorded: rows of each session at which orders may be sent [N, T]; None: all rows.
    """
    env = _EachOnce(len(sessions), sessions, **settings.as_keyword_arguments())
    observations, _ = env.reset(seed=0)
    orders: list[list[SentOrder]] = [[] for _ in sessions]
    fills: list[list[ContractFill]] = [[] for _ in sessions]
    profits = np.zeros(len(sessions))
    playing = np.ones(len(sessions), dtype=bool)
    step = 0
    while playing.any():
        allowed = env.action_masks()
        allowed[~playing, 1:] = False
        if recorded is not None:
            allowed[~recorded[:, step], 1:] = False
        step += 1
        codes = policy.actions(observations, allowed)
        observations, _, terminated, _, info = env.step(np.where(playing, codes, 0))
        # A settled market begins again: its final records are in the info.
        markets = env.markets.copy()
        if terminated.any():
            markets[terminated] = info["final_markets"]
        for k in np.flatnonzero(playing & ((markets["sent"] > 0) | (markets["fills"] > 0))):
            if markets["sent"][k]:
                orders[k].append(SentOrder(str(len(orders[k])), int(markets["sent"][k])))
            for row in env.fills[k, : markets["fills"][k]]:
                fills[k].append(fill_of(row, f"{row['number']}", "session"))
        ended = playing & terminated
        # Cash moves in whole cents.
        profits[ended] = (markets["cash"] - markets["starting_equity"])[ended] / MICROS_PER_DOLLAR
        playing &= ~terminated
    outcomes: list[Outcome] = ["YES" if session_outcome(each) else "NO" for each in sessions]
    parts = zip(orders, fills, outcomes, strict=True)
    return PlayedSessions(profits, tuple(Episode(tuple(o), tuple(f), won) for o, f, won in parts))


class _EachOnce(VectorKalshiEnv):
    """An environment in which market i plays session i."""

    def _drawn(self, which: npt.NDArray[np.intp]) -> list[Records]:
        assert self._sessions is not None
        return [self._sessions[i] for i in which]


@dataclass(frozen=True, eq=False, slots=True)
class HeldOut:
    """Held-out sessions, with their groups and origin.

    sessions: [T, F] each, N sessions.
    groups: number of each session's group [N], 0 … G - 1.
    earlier: number of earlier recorded events, which training may have seen; None for synthetic
        sessions.
    recorded: rows of each session at which orders may be sent [N, T]; None: all rows.
    """

    sessions: Sequence[Array] = field(repr=False)
    groups: Index = field(repr=False)
    source: str
    earlier: int | None = None
    recorded: Mask | None = field(default=None, repr=False)

    @property
    def independent(self) -> int:
        """Return the number of groups: dependent sessions count once."""
        return int(self.groups.max()) + 1


@dataclass(frozen=True, slots=True)
class Entrant:
    """A policy as an entrant of the comparison.

    policies: one policy per run, each with its seed.
    """

    name: str
    policies: tuple[Policy, ...]
    episode: EpisodeSettings


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of one policy, or of a pair of policies.

    value: the figure; None if undefined.
    interval: 90 % interval; None below 20 groups, or if the figure is undefined in some draw.
    """

    value: float | None
    interval: tuple[float, float] | None = None

    @classmethod
    def from_draws(cls, values: Array, unit: float = 1.0) -> Estimate:
        """Return the estimate from values [1 + R] of all sessions and of each draw, times `unit`.

        Quantiles of the defined draws alone would leave out the most extreme ones.
        """
        if not np.isfinite(values[0]):
            return cls(None)
        value, draws = unit * float(values[0]), values[1:]
        if not len(draws) or not np.isfinite(draws).all():
            return cls(value)
        low, high = central_interval(draws)
        return cls(value, (unit * low, unit * high))

    @property
    def sign(self) -> int:
        """Return 1 if the interval is above 0, -1 if it is at or below 0, else 0."""
        if self.interval is None:
            return 0
        low, high = self.interval
        return int(low > 0) - int(high <= 0)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Figures of one policy per episode.

    growth: mean logarithm of final over starting cash.
    profit_usd: mean profit.
    sharpe: mean over standard deviation of returns; not annual.
    """

    growth: Estimate
    profit_usd: Estimate
    sharpe: Estimate


@dataclass(frozen=True, slots=True)
class PairComparison:
    """Answer whether one policy earned more than 10 % more than another, at a better Sharpe ratio.

    excess_usd: per episode, mean profit of the first policy less max(1.1 · mean profit of the
        second, 0). If the second loses, the first has to earn something.
    sharpe_difference: Sharpe ratio per episode of the first policy less that of the second.
    verdict: `yes` if both intervals are above 0: each is wrong at most one time in twenty, and so
        is their conjunction. `no` if either is at or below 0, whatever the other is. `no power`
        otherwise, and if neither policy has ever traded: these sessions cannot decide the question.
    """

    excess_usd: Estimate
    sharpe_difference: Estimate
    verdict: ComparisonVerdict


@dataclass(frozen=True, eq=False, slots=True)
class ResampledReturns:
    """Returns of policies over the same sessions, and their resampling.

    returns: [K, N] by policy; K may be 1 for some policies.
    groups: number of each session's group [N], 0 … G - 1.
    cash: USD at the beginning of each session.
    """

    returns: Mapping[str, Array]
    groups: Index
    cash: float = 1.0
    seed: int = 0

    def judge(self, name: str) -> Judgement:
        mean, square, growth = self._means(name)
        return Judgement(
            growth=Estimate.from_draws(growth),
            profit_usd=Estimate.from_draws(mean, self.cash),
            sharpe=Estimate.from_draws(_sharpe(mean, square)),
        )

    def answer(self, one: str, other: str) -> PairComparison:
        """Return the comparison of two policies; the first is the potentially better one."""
        mean, square, _ = self._means(one)
        its, of_it, _ = self._means(other)
        excess = Estimate.from_draws(mean - np.maximum((1.0 + MIN_EXCESS) * its, 0.0), self.cash)
        sharpe = Estimate.from_draws(_sharpe(mean, square) - _sharpe(its, of_it))
        signs = {excess.sign, sharpe.sign}
        verdict: ComparisonVerdict = "no" if -1 in signs else "yes" if signs == {1} else "no power"
        traded = self.returns[one].any() or self.returns[other].any()
        return PairComparison(excess, sharpe, verdict if traded else "no power")

    def _means(self, name: str) -> tuple[Array, Array, Array]:
        """Return means of returns, of squared returns and of log(1 + return), [1 + R].

        The first row is that of all sessions, the others are those of the draws.
        """
        returns = self.returns[name]
        count = int(self.groups.max()) + 1
        drawn = BOOTSTRAP_DRAWS if count >= MIN_INTERVAL_DAYS else 0
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
        """Return how often each index is drawn [1 + drawn, count]; once each in the first row."""
        rng = np.random.default_rng([self.seed, stream, count])
        draws = rng.multinomial(count, np.full(count, 1.0 / count), size=drawn)
        return np.concatenate([np.ones((1, count)), draws])


def _sharpe(mean: Array, square: Array) -> Array:
    """Return mean over standard deviation [1 + R]; NaN for constant returns."""
    variance = square - mean**2
    moves = variance > _STILL * np.maximum(square, _STILL)
    undefined = np.full(len(mean), np.nan)
    deviation = np.sqrt(np.maximum(variance, 0.0))
    return np.asarray(np.divide(mean, deviation, out=undefined, where=moves))


@dataclass(frozen=True, slots=True)
class EntrantResult:
    """Result of an entrant.

    profit: USD over all sessions, mean of the entrant's runs.
    """

    name: str
    runs: int
    judgement: Judgement
    profit: float
    episodes: tuple[Episode, ...] = field(repr=False)

    @property
    def orders(self) -> float:
        """Return the mean number of orders sent in an episode, filled or not."""
        return sum(len(each.orders) for each in self.episodes) / len(self.episodes)

    @property
    def fills(self) -> float:
        return sum(len(each.fills) for each in self.episodes) / len(self.episodes)


@dataclass(frozen=True, slots=True)
class BookedResult:
    """The account's own result in the compared markets, from its journal.

    profit: USD after fees, as the settlements state it.
    unstated: markets whose settlement states no profit, or is not in the journal.
    orders: number of orders that the venue accepted.
    filled: number of accepted orders with a fill.
    """

    profit: Decimal
    unstated: tuple[str, ...]
    orders: int
    filled: int


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """Results of a comparison.

    cash: starting cash of each session, USD.
    booked: the account's own result in these markets; None without a journal.
    answers: by the names of two entrants, the potentially better one first.
    """

    held_out: HeldOut
    cash: float
    standings: tuple[EntrantResult, ...]
    answers: Mapping[tuple[str, str], PairComparison]
    booked: BookedResult | None = None

    @property
    def has_fills(self) -> bool:
        """Return whether any policy has a fill."""
        return any(each.fills for each in self.standings)


def compare_policies(
    entrants: Sequence[Entrant],
    held_out: HeldOut,
    pairs: Sequence[tuple[str, str]],
    *,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Comparison:
    """Let every entrant play every session, and compare the entrants.

    pairs: names of two entrants each, the potentially better one first.
    seed: seed of the intervals' draws.
    progress: called as runs are done.
    """
    played: dict[str, list[PlayedSessions]] = {}
    total = sum(len(entrant.policies) for entrant in entrants)
    for entrant in entrants:
        runs = played[entrant.name] = []
        for policy in entrant.policies:
            sessions, recorded = held_out.sessions, held_out.recorded
            runs.append(play_sessions(policy, sessions, entrant.episode, recorded))
            progress("runs", sum(map(len, played.values())), total)
    cash = entrants[0].episode.starting_cash
    returns = {
        name: np.array([run.profits for run in runs]) / cash for name, runs in played.items()
    }
    judged = ResampledReturns(returns, held_out.groups, cash, seed)
    standings = tuple(
        EntrantResult(
            name=name,
            runs=len(runs),
            judgement=judged.judge(name),
            profit=float(np.mean([run.profits.sum() for run in runs])),
            episodes=tuple(episode for run in runs for episode in run.episodes),
        )
        for name, runs in played.items()
    )
    answers = {pair: judged.answer(*pair) for pair in pairs}
    return Comparison(held_out, cash, standings, answers)
