"""Comparison of policies over the same held-out sessions, with confidence intervals.

A return is the profit of a session as a multiple of its starting cash. K runs of a policy play the
same N sessions, which gives returns [K, N]. The runs differ in the seed of the policy's training or
of its random choices; a policy without a seed has one run. Dependent sessions, such as the markets
of one event, form one group.

Confidence intervals are those of `marketsimulator.results.significance`, except that the bootstrap
draws both groups and runs, each with replacement (Owen 2007, the pigeonhole bootstrap). All
policies get the same draws, so that effects of a session on two policies cancel in their
difference. There are no intervals for fewer than 20 groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from event_contracts.simulation.exchange import to_contract_fill
from event_contracts.simulation.sessions import session_outcome
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.vector import VectorKalshiEnv
from event_contracts.trading.orders import ContractFill, Outcome
from event_contracts.trading.policies import Policy
from event_contracts.trading.position_sizes import Episode, SentOrder
from event_contracts.trading.records import MICROS_PER_DOLLAR
from forecasting.forecast import Progress, no_progress
from foundation.arrays import Array, Index, StructuredArray
from marketsimulator.results.significance import (
    BOOTSTRAP_DRAWS,
    MIN_DAYS_FOR_INTERVALS,
    central_interval,
)

ComparisonVerdict = Literal["yes", "no", "no power"]
MIN_EXCESS_PROFIT_SHARE = (
    0.1  # fraction of the other policy's profit by which a policy has to exceed it
)
_MIN_RELATIVE_VARIANCE = 1e-12  # of a mean square: smaller deviations count as none


@dataclass(frozen=True, eq=False, slots=True)
class SessionResults:
    """Results of a policy over N sessions.

    profits_usd: USD [N], cash after settlement less starting cash.
    episodes: orders and fills of each session [N].
    """

    profits_usd: Array
    episodes: tuple[Episode, ...]


def simulate_sessions(
    policy: Policy, sessions: Sequence[Array], settings: EpisodeSettings
) -> SessionResults:
    """Let a policy play every session from its first row to its settlement.

    The policy decides on all markets together, step by step. A session that has settled gets no
    further orders while longer sessions are still played.

    sessions: arrays [T, F].
    """
    env = _SessionPerMarketEnv(len(sessions), sessions, **settings.as_keyword_arguments())
    observations, _ = env.reset(seed=0)
    orders: list[list[SentOrder]] = [[] for _ in sessions]
    fills: list[list[ContractFill]] = [[] for _ in sessions]
    profits = np.zeros(len(sessions))
    playing = np.ones(len(sessions), dtype=bool)
    while playing.any():
        allowed = env.action_masks()
        allowed[~playing, 1:] = False
        codes = policy.choose_actions(observations, allowed)
        observations, _, terminated, _, info = env.step(np.where(playing, codes, 0))
        # A settled market begins again: its final records are in the info.
        markets = env.markets.copy()
        if terminated.any():
            markets[terminated] = info["final_markets"]
        for k in np.flatnonzero(playing & ((markets["sent"] > 0) | (markets["fills"] > 0))):
            if markets["sent"][k]:
                orders[k].append(SentOrder(str(len(orders[k])), int(markets["sent"][k])))
            for row in env.fills[k, : markets["fills"][k]]:
                fills[k].append(to_contract_fill(row, f"{row['number']}", "session"))
        ended = playing & terminated
        # Cash moves in whole cents.
        profits[ended] = (markets["cash"] - markets["starting_equity"])[ended] / MICROS_PER_DOLLAR
        playing &= ~terminated
    outcomes: list[Outcome] = ["YES" if session_outcome(each) else "NO" for each in sessions]
    parts = zip(orders, fills, outcomes, strict=True)
    return SessionResults(profits, tuple(Episode(tuple(o), tuple(f), won) for o, f, won in parts))


class _SessionPerMarketEnv(VectorKalshiEnv):
    """Vector environment in which market i plays session i."""

    def _draw_tick_records(self, which: npt.NDArray[np.intp]) -> list[StructuredArray]:
        assert self._sessions is not None
        return [self._sessions[i] for i in which]


@dataclass(frozen=True, eq=False, slots=True)
class HeldOutSessions:
    """Held-out sessions, with their groups and origin.

    sessions: N arrays [T, F].
    group_indices: index of each session's group [N], 0 … G - 1; sessions of a group are dependent.
    source: description of the sessions' origin.
    earlier_event_count: number of recorded events before the held-out ones, which training may use;
        None for synthetic sessions.
    """

    sessions: Sequence[Array] = field(repr=False)
    group_indices: Index = field(repr=False)
    source: str
    earlier_event_count: int | None = None

    @property
    def group_count(self) -> int:
        """Return the number of independent groups of sessions."""
        return int(self.group_indices.max()) + 1


@dataclass(frozen=True, slots=True)
class ComparedPolicy:
    """A policy to compare, with one instance per run.

    name: name in the results.
    seeded_policies: one instance of the policy per run, each with a different seed.
    episode_settings: money, order and fee settings under which it plays.
    """

    name: str
    seeded_policies: tuple[Policy, ...]
    episode_settings: EpisodeSettings


@dataclass(frozen=True, slots=True)
class Estimate:
    """Estimate of a figure with its bootstrap interval, for one policy or a pair of policies.

    value: the figure; None if undefined.
    interval: 90 % confidence interval; None for fewer than 20 groups, or if the figure is undefined
        in any bootstrap draw.
    """

    value: float | None
    interval: tuple[float, float] | None = None

    @classmethod
    def from_draws(cls, values: Array, scale: float = 1.0) -> Estimate:
        """Return the estimate from the value over all sessions and the values of bootstrap draws.

        If any draw has no value, there is no interval, because quantiles of the other draws would
        omit the most extreme ones.

        values: [1 + R], first the value over all sessions.
        scale: factor on value and interval.
        """
        if not np.isfinite(values[0]):
            return cls(None)
        value, draws = scale * float(values[0]), values[1:]
        if not len(draws) or not np.isfinite(draws).all():
            return cls(value)
        low, high = central_interval(draws)
        return cls(value, (scale * low, scale * high))

    @property
    def interval_sign(self) -> int:
        """Return 1 if the whole interval is above 0, -1 if it is at or below 0, else 0.

        Without an interval the result is 0.
        """
        if self.interval is None:
            return 0
        low, high = self.interval
        return int(low > 0) - int(high <= 0)


@dataclass(frozen=True, slots=True)
class PairComparison:
    """Result of the test whether one policy earns over 10 % more than another, at a higher Sharpe.

    excess_usd: mean profit per episode of the first policy less max(1.1 · mean profit of the
        second, 0). If the second loses, the first has to earn a profit.
    sharpe_difference: Sharpe ratio per episode of the first policy less that of the second.
    verdict: `yes` if both intervals are above 0; the probability of a wrong `yes` is at most 5 %.
        `no` if one interval is at or below 0. Otherwise `no power`, because these sessions cannot
        decide; likewise if neither policy has traded.
    """

    excess_usd: Estimate
    sharpe_difference: Estimate
    verdict: ComparisonVerdict


@dataclass(frozen=True, eq=False, slots=True)
class ResampledReturns:
    """Returns of policies over the same sessions, with their bootstrap draws.

    returns_by_policy: [K, N] for each policy, with K runs; a policy without a seed has one run.
    group_indices: index of each session's group [N], 0 … G - 1.
    starting_cash: starting cash of each session, USD.
    seed: seed of the draws.
    """

    returns_by_policy: Mapping[str, Array]
    group_indices: Index
    starting_cash: float = 1.0
    seed: int = 0

    def estimate_performance(self, name: str) -> tuple[Estimate, Estimate, Estimate]:
        """Return a policy's mean log growth, mean profit in USD and Sharpe ratio per episode."""
        mean, square, growth = self._resample_means(name)
        return (
            Estimate.from_draws(growth),
            Estimate.from_draws(mean, self.starting_cash),
            Estimate.from_draws(_sharpe(mean, square)),
        )

    def compare_pair(self, candidate: str, benchmark: str) -> PairComparison:
        """Test whether one policy has a higher profit and Sharpe ratio than another.

        candidate: name of the policy that is expected to be better.
        benchmark: name of the policy to exceed.
        """
        mean, square, _ = self._resample_means(candidate)
        its, of_it, _ = self._resample_means(benchmark)
        excess = Estimate.from_draws(
            mean - np.maximum((1.0 + MIN_EXCESS_PROFIT_SHARE) * its, 0.0), self.starting_cash
        )
        sharpe = Estimate.from_draws(_sharpe(mean, square) - _sharpe(its, of_it))
        signs = {excess.interval_sign, sharpe.interval_sign}
        verdict: ComparisonVerdict = "no" if -1 in signs else "yes" if signs == {1} else "no power"
        traded = self.returns_by_policy[candidate].any() or self.returns_by_policy[benchmark].any()
        return PairComparison(excess, sharpe, verdict if traded else "no power")

    def _resample_means(self, name: str) -> tuple[Array, Array, Array]:
        """Return a policy's means of returns, of squared returns and of log(1 + return).

        Each array is [1 + R]: first the mean over all sessions, then the means of R bootstrap
        draws.
        """
        returns = self.returns_by_policy[name]
        count = int(self.group_indices.max()) + 1
        drawn = BOOTSTRAP_DRAWS if count >= MIN_DAYS_FOR_INTERVALS else 0
        groups = self._draw_index_counts(count, 0, drawn)
        # A policy without a seed is the same in every draw of seeds.
        seeds = self._draw_index_counts(len(returns), 1, drawn)
        totals = [
            np.array([np.bincount(self.group_indices, row, count) for row in values])
            for values in (np.ones_like(returns), returns, returns**2, np.log1p(returns))
        ]
        n, *sums = (np.einsum("rk,kg,rg->r", seeds, total, groups) for total in totals)
        mean, square, growth = (each / n for each in sums)
        return mean, square, growth

    def _draw_index_counts(self, count: int, stream: int, drawn: int) -> Array:
        """Return how often each bootstrap draw contains each index, [1 + drawn, count].

        The first row stands for the original sample: every index once.

        count: number of indices.
        stream: number that separates the random draws of groups and of runs.
        drawn: number of bootstrap draws.
        """
        rng = np.random.default_rng([self.seed, stream, count])
        draws = rng.multinomial(count, np.full(count, 1.0 / count), size=drawn)
        return np.concatenate([np.ones((1, count)), draws])


def _sharpe(mean: Array, square: Array) -> Array:
    """Return the Sharpe ratios [1 + R], mean over standard deviation; NaN for constant returns.

    mean, square: means of the returns and of their squares [1 + R].
    """
    variance = square - mean**2
    moves = variance > _MIN_RELATIVE_VARIANCE * np.maximum(square, _MIN_RELATIVE_VARIANCE)
    undefined = np.full(len(mean), np.nan)
    deviation = np.sqrt(np.maximum(variance, 0.0))
    return np.asarray(np.divide(mean, deviation, out=undefined, where=moves))


@dataclass(frozen=True, slots=True)
class PolicyResult:
    """Result of one compared policy per episode.

    run_count: number of runs.
    growth: mean logarithm of final over starting cash.
    profit_usd: mean profit.
    sharpe: mean of returns divided by their standard deviation; not annualised.
    episodes: orders and fills of every session of every run.
    """

    name: str
    run_count: int
    growth: Estimate
    profit_usd: Estimate
    sharpe: Estimate
    episodes: tuple[Episode, ...] = field(repr=False)

    @property
    def orders_per_episode(self) -> float:
        """Return the mean number of orders sent per episode, filled or not."""
        return sum(len(each.orders) for each in self.episodes) / len(self.episodes)

    @property
    def fills_per_episode(self) -> float:
        return sum(len(each.fills) for each in self.episodes) / len(self.episodes)


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """Results of a comparison of policies over the same sessions.

    starting_cash: starting cash of each session, USD.
    policy_results: result of each policy.
    pair_comparisons: comparison of each pair of policies, by their names; the first one is tested
        for a higher profit and Sharpe ratio.
    """

    held_out_sessions: HeldOutSessions
    starting_cash: float
    policy_results: tuple[PolicyResult, ...]
    pair_comparisons: Mapping[tuple[str, str], PairComparison]


def compare_policies(
    compared_policies: Sequence[ComparedPolicy],
    held_out_sessions: HeldOutSessions,
    pairs: Sequence[tuple[str, str]],
    *,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Comparison:
    """Let every policy play every session, and compare the policies.

    pairs: names of two policies each; the first is tested for a higher profit and Sharpe ratio.
    seed: seed of the bootstrap draws.
    progress: called after each run.
    """
    played: dict[str, list[SessionResults]] = {}
    total = sum(len(entrant.seeded_policies) for entrant in compared_policies)
    for entrant in compared_policies:
        runs = played[entrant.name] = []
        for policy in entrant.seeded_policies:
            sessions = held_out_sessions.sessions
            runs.append(simulate_sessions(policy, sessions, entrant.episode_settings))
            progress("runs", sum(map(len, played.values())), total)
    cash = compared_policies[0].episode_settings.starting_cash
    returns = {
        name: np.array([run.profits_usd for run in runs]) / cash for name, runs in played.items()
    }
    judged = ResampledReturns(returns, held_out_sessions.group_indices, cash, seed)
    standings = tuple(
        PolicyResult(
            name,
            len(runs),
            *judged.estimate_performance(name),
            tuple(episode for run in runs for episode in run.episodes),
        )
        for name, runs in played.items()
    )
    answers = {pair: judged.compare_pair(*pair) for pair in pairs}
    return Comparison(held_out_sessions, cash, standings, answers)
