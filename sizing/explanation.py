"""Reasons for Kelly targets: the Kelly weight before limits and costs, and the limits that bind.

Only the first period of a plan is traded, so that the Kelly weight is that of the first period.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index
from foundation.compiled import compiled, true_indices
from sizing.binding import find_binding_limits
from sizing.kelly import unconstrained_kelly
from sizing.problem import DecisionProblem
from sizing.solver.cholesky import solve_by_cholesky, solve_in_place


class TargetExplanation(NamedTuple):
    """Reasons for S Kelly targets: unconstrained weights, their sources, and the binding limits.

    unconstrained_weight: [S] Kelly weights of the first period, before any limit or cost.
    binding_bits: [S] binding limits as bits: BINDING_LIMIT_NAMES, then the limits on groups.
    symbol_bound_shadow_price: [S] shadow price of the symbol's own bound.
    premium_weight, forecast_weight: [S] parts of `unconstrained_weight` from the premium alone and
        from the forecast alone; NaN if the premium's part of the expected return is unknown.
    """

    unconstrained_weight: Array
    binding_bits: Index
    symbol_bound_shadow_price: Array
    premium_weight: Array
    forecast_weight: Array

    @classmethod
    def empty(cls, rows: int, size: int) -> TargetExplanation:
        """Return arrays [R, S] of NaN and 0, to be filled for R decisions on S symbols."""
        shape = rows, size
        numbers = [np.full(shape, np.nan) for _ in range(4)]
        return cls(numbers[0], np.zeros(shape, dtype=np.int64), *numbers[1:])


def explain_targets(
    problem: DecisionProblem, weights: Array, prices: Array, fraction: float
) -> TargetExplanation:
    """Return the reasons for the Kelly targets of a solved plan.

    weights: [K, S] weights of every period.
    prices: [4 + G + N + K] shadow prices, as returned by `allocation.solve_multi_period_plan`.
    fraction: fraction of full Kelly.
    """
    premium, total, is_singular = first_period_kelly_weights(problem, fraction)
    if is_singular:
        mu, premiums, covariance, _, _ = problem.returns
        chosen = np.flatnonzero(problem.account.adjustable)
        risk = covariance[0][np.ix_(chosen, chosen)]
        for part, expected in ((premium, premiums[0, chosen]), (total, mu[0, chosen])):
            if np.isfinite(expected).all():
                part[chosen] = unconstrained_kelly(expected, risk, fraction)
    return explain_targets_by_kelly_weights(problem, weights, prices, premium, total, fraction)


@compiled
def first_period_kelly_weights(
    problem: DecisionProblem, fraction: float
) -> tuple[Array, Array, bool]:
    """Return fractional Kelly weights of the first period without limits or costs.

    Returns
    -------
    premium, total : [S]
        Kelly weights on the premium alone, and on the whole expected return; NaN for symbols that
        are not adjustable.
    is_singular
        whether the covariance is singular, so that there are no weights.
    """
    returns = problem.returns
    chosen = true_indices(problem.account.adjustable)
    count = len(chosen)
    premium = np.full(returns.mu.shape[1], np.nan)
    total = premium.copy()
    risk = np.empty((count, count))
    for a in range(count):
        for b in range(a + 1):
            risk[a, b] = returns.covariance[0, chosen[a], chosen[b]]
    # Both are solved by the same steps, so that they are equal where the forecast is zero.
    on_total = fraction * returns.mu[0][chosen]
    on_premium = fraction * returns.premium[0][chosen]
    if not solve_by_cholesky(risk, on_total):
        return premium, total, True
    solve_in_place(risk, on_premium)
    premium[chosen] = on_premium
    total[chosen] = on_total
    return premium, total, False


@compiled
def explain_targets_by_kelly_weights(
    problem: DecisionProblem,
    weights: Array,
    prices: Array,
    premium: Array,
    total: Array,
    fraction: float,
) -> TargetExplanation:
    """Return Kelly weights before limits and costs, and the limits that bind each target.

    weights: [K, S] weights of the solved plan.
    prices: [4 + G + N + K] shadow prices of the solved plan.
    premium, total: [S] results of `first_period_kelly_weights`.
    fraction: fraction of full Kelly.
    """
    returns = problem.returns
    periods, size = returns.mu.shape
    gradient = np.zeros(size)
    for k in range(periods):
        for s in range(size):
            risk = 0.0
            for r in range(size):
                risk += returns.covariance[k, s, r] * weights[k, r]
            gradient[s] += returns.mu[k, s] - risk / fraction
    held_by, bound_price = find_binding_limits(problem, total, weights[0], gradient, prices)
    return TargetExplanation(total, held_by, bound_price, premium, total - premium)
