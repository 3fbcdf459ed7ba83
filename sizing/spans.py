"""What a target rests on: over how many periods of a plan a Kelly weight explains it.

A plan decides its first period alone. Where a position pays for coming and going within the first
period, that period's Kelly weight explains the target; where it is put on for longer, the Kelly
weight over all periods through which it is held does. The two may have opposite signs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Cube, Index, Mask
from foundation.compiled import compiled, inlined, numbers_of
from sizing.binding import COST, LONG_ONLY, limits_met
from sizing.kelly import unconstrained_kelly
from sizing.problem import Problem, Returns
from sizing.solver.cholesky import factored_solve, solve_in_place

NEAR = 1e-6  # in weight
PREMIUM, ALL = 0, 1  # what a Kelly weight is of


class Explanation(NamedTuple):
    """Why S targets of Kelly are what they are; the fields are those of `Allocation`.

    limits_met, own_price: as of `Bound`.
    """

    unlimited: Array
    limits_met: Index
    own_price: Array
    periods: Index
    premium: Array
    forecast: Array


def explanation_of(problem: Problem, weights: Array, prices: Array, fraction: float) -> Explanation:
    """Why the targets that Kelly answers are what they are.

    weights [K, S], prices [4 + K]: as of `best_weights`. fraction: of full Kelly.
    """
    by_span, singular = kelly_by_span(problem, fraction)
    if singular.any():
        _spread_evenly(problem, by_span, singular, fraction)
    return explained(problem, weights, prices, by_span, fraction)


def _spread_evenly(problem: Problem, by_span: Array, singular: Mask, fraction: float) -> None:
    """Fill in [K, 2, S] the spans [K] of whose covariance there is no factor."""
    mu, premium, covariance, _, _ = problem.returns
    chosen = np.flatnonzero(problem.account.deciding)
    for k in np.flatnonzero(singular).tolist():
        risk = covariance[0] + covariance[1 : k + 1].sum(axis=0)
        for what, expected in ((PREMIUM, premium), (ALL, mu)):
            whole = expected[0] + expected[1 : k + 1].sum(axis=0)
            if np.isfinite(whole[chosen]).all():
                by_span[k, what, chosen] = unconstrained_kelly(
                    whole[chosen], risk[np.ix_(chosen, chosen)], fraction
                )


@compiled
def kelly_by_span(problem: Problem, fraction: float) -> tuple[Cube, Mask]:
    """Fractional Kelly without limits or costs, over the first period, the first two, and so on.

    Without limits or costs a weight held through several periods has the sum of their returns and
    of their risks.

    Returns
    -------
    by_span : [K, 2, S]
        of the premium alone, and of the whole expected return; NaN for symbols that do not decide.
    singular : [K]
        true if the covariance over these periods has no factor, and there are no weights.
    """
    returns = problem.returns
    chosen = numbers_of(problem.account.deciding)
    periods, size = returns.mu.shape
    count = len(chosen)
    by_span = np.full((periods, 2, size), np.nan)
    singular = np.zeros(periods, dtype=np.bool_)
    risk = np.empty((count, count))
    both = np.empty((2, count))
    for span in range(1, periods + 1):
        for a in range(count):
            i = chosen[a]
            # Both sums run in one order: where the forecast is nothing they are the same.
            both[PREMIUM, a] = fraction * _sum_over(returns.premium, i, span)
            both[ALL, a] = fraction * _sum_over(returns.mu, i, span)
            for b in range(a + 1):
                risk[a, b] = _risk_over(returns, i, chosen[b], span)
        if not factored_solve(risk, both[ALL]):
            singular[span - 1] = True
            continue
        solve_in_place(risk, both[PREMIUM])
        for a in range(count):
            by_span[span - 1, PREMIUM, chosen[a]] = both[PREMIUM, a]
            by_span[span - 1, ALL, chosen[a]] = both[ALL, a]
    return by_span, singular


@compiled
def explained(
    problem: Problem, weights: Array, prices: Array, by_span: Array, fraction: float
) -> Explanation:
    """The span that explains each target, its Kelly weight, and what holds the target there.

    It is the longest span of periods, from the first one on, whose Kelly weight lies where the
    target was moved to, or beyond the limit that holds it. A weight that hedges what others may not
    hold explains nothing: then it is the Kelly weight beside the others' targets. Where none does
    it is that of the whole plan.

    weights [K, S], prices [4 + K]: of the answer. by_span: as of `kelly_by_span`.
    """
    returns = problem.returns
    whole, size = returns.mu.shape
    target = weights[0]
    gradient = np.zeros(size)
    for k in range(whole):
        for s in range(size):
            risk = 0.0
            for r in range(size):
                risk += returns.covariance[k, s, r] * weights[k, r]
            gradient[s] += returns.mu[k, s] - risk / fraction
    unlimited = by_span[whole - 1, ALL].copy()
    held_by, own_price = limits_met(problem, unlimited, target, gradient, prices)
    periods = np.full(size, whole)
    premium = np.full(size, np.nan)
    forecast = np.full(size, np.nan)
    known = True
    for k in range(whole):
        for s in range(size):
            known &= not np.isnan(returns.premium[k, s])
    chosen = numbers_of(problem.account.deciding)
    for a in range(len(chosen)):
        s = chosen[a]
        way = _way(target[s], problem.account.held[s], held_by[s])
        span, beside = _explaining_span(returns, by_span, target, s, way, fraction)
        unlimited[s] = by_span[span - 1, ALL, s]
        earned = by_span[span - 1, PREMIUM, s]
        expected = unlimited[s]
        if beside:
            unlimited[s] = _beside(returns, target, s, span, fraction)
            variance = _risk_over(returns, s, s, span)
            earned = fraction * _sum_over(returns.premium, s, span) / variance
            expected = fraction * _sum_over(returns.mu, s, span) / variance
        periods[s] = span
        if known:
            premium[s] = earned
            forecast[s] = expected - earned
    return Explanation(unlimited, held_by, own_price, periods, premium, forecast)


@compiled
def _explaining_span(
    returns: Returns, by_span: Array, target: Array, s: int, way: float, fraction: float
) -> tuple[int, bool]:
    """Return the number of periods that explain the target of s, all if none does.

    The second value is true if they explain it beside the others' targets.
    """
    for span in range(len(by_span), 0, -1):
        if _explains(by_span[span - 1, ALL, s], target[s], way):
            return span, False
    for span in range(len(by_span), 0, -1):
        if _explains(_beside(returns, target, s, span, fraction), target[s], way):
            return span, True
    return len(by_span), False


@inlined
def _beside(returns: Returns, target: Array, s: int, span: int, fraction: float) -> float:
    """Fractional Kelly of symbol s, all others at their targets; NaN where it has no variance."""
    variance = _risk_over(returns, s, s, span)
    if not variance > 0.0:
        return np.nan
    risk = 0.0
    for r in range(len(target)):
        risk += _risk_over(returns, s, r, span) * target[r]
    return float(target[s] + (fraction * _sum_over(returns.mu, s, span) - risk) / variance)


@inlined
def _sum_over(values: Array, s: int, span: int) -> float:
    """The sum of values [K, S] of symbol s over the first periods, so many."""
    later = 0.0
    for k in range(1, span):
        later += values[k, s]
    return float(values[0, s] + later)


@inlined
def _risk_over(returns: Returns, s: int, r: int, span: int) -> float:
    """The covariance of two symbols over the first periods, so many."""
    later = 0.0
    for k in range(1, span):
        later += returns.covariance[k, s, r]
    return float(returns.covariance[0, s, r] + later)


@inlined
def _way(target: float, held: float, held_by: int) -> float:
    """In which direction a target would move on: -1, 1, or 0 where nothing says it.

    What a limit holds would move on away from zero, and what may not be short below it. What none
    holds came from what was held.
    """
    if held_by == 0 or held_by & (1 << COST):
        return float(np.sign(target - held))
    return -1.0 if held_by & (1 << LONG_ONLY) else float(np.sign(target))


@inlined
def _explains(weight: float, target: float, way: float) -> bool:
    """Whether moving towards a weight ends at the target; way: as of `_way`."""
    beyond = weight - target
    return beyond * way > 0.0 or abs(beyond) <= NEAR or way == 0.0
