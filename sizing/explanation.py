"""Reasons for Kelly targets: the Kelly weights over the whole plan, and the limits that bind.

Only the first period of a plan is traded. Where that period decides against the later ones, a
target may have another sign than the Kelly weight beside it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index, Matrix
from foundation.compiled import compiled, true_indices
from sizing.binding import find_binding_limits
from sizing.kelly import unconstrained_kelly
from sizing.problem import DecisionProblem
from sizing.solver.cholesky import solve_by_cholesky, solve_in_place

PREMIUM_PART, TOTAL_PART = 0, 1  # rows of `plan_kelly_weights`


class TargetExplanation(NamedTuple):
    """Reasons for S Kelly targets: unconstrained weights, their sources, and the binding limits.

    unconstrained_weight: [S] Kelly weights before any limit or cost, over the whole plan.
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
        numbers = [np.full((rows, size), np.nan) for _ in range(4)]
        bits = np.zeros((rows, size), dtype=np.int64)
        return cls(numbers[0], bits, *numbers[1:])


def explain_targets(
    problem: DecisionProblem, weights: Array, prices: Array, fraction: float
) -> TargetExplanation:
    """Return the reasons for the Kelly targets of a solved plan.

    weights: [K, S] weights of every period.
    prices: [4 + G + N + K] shadow prices, as returned by `allocation.solve_multi_period_plan`.
    fraction: fraction of full Kelly.
    """
    kelly, is_singular = plan_kelly_weights(problem, fraction)
    if is_singular:
        # The minimum-norm weights, which share a risk equally.
        chosen = np.flatnonzero(problem.account.adjustable)
        risk = problem.returns.covariance.sum(axis=0)[np.ix_(chosen, chosen)]
        for part, expected in (
            (PREMIUM_PART, problem.returns.premium),
            (TOTAL_PART, problem.returns.mu),
        ):
            whole = expected.sum(axis=0)[chosen]
            if np.isfinite(whole).all():
                kelly[part, chosen] = unconstrained_kelly(whole, risk, fraction)
    return explain_plan(problem, weights, prices, kelly, fraction)


@compiled
def plan_kelly_weights(problem: DecisionProblem, fraction: float) -> tuple[Matrix, bool]:
    """Return fractional Kelly weights without limits or costs over all periods of a plan.

    The expected return and the covariance of a weight are their sums over the periods.

    Returns
    -------
    kelly : [2, S]
        Kelly weights on the premium alone, and on the whole expected return; NaN for symbols that
        are not adjustable.
    is_singular
        whether the covariance has no Cholesky factor, so that there are no weights.
    """
    returns = problem.returns
    chosen = true_indices(problem.account.adjustable)
    count = len(chosen)
    kelly = np.full((2, returns.mu.shape[1]), np.nan)
    both = np.zeros((2, count))
    risk = np.zeros((count, count))
    for k in range(len(returns.mu)):
        for a in range(count):
            # Both sums run in the same order, so that they are equal where the forecast is zero.
            both[PREMIUM_PART, a] += fraction * returns.premium[k, chosen[a]]
            both[TOTAL_PART, a] += fraction * returns.mu[k, chosen[a]]
            for b in range(a + 1):
                risk[a, b] += returns.covariance[k, chosen[a], chosen[b]]
    if not solve_by_cholesky(risk, both[TOTAL_PART]):
        return kelly, True
    solve_in_place(risk, both[PREMIUM_PART])
    for a in range(count):
        kelly[PREMIUM_PART, chosen[a]] = both[PREMIUM_PART, a]
        kelly[TOTAL_PART, chosen[a]] = both[TOTAL_PART, a]
    return kelly, False


@compiled
def explain_plan(
    problem: DecisionProblem, weights: Array, prices: Array, kelly: Matrix, fraction: float
) -> TargetExplanation:
    """Return the reasons for the targets of a solved plan, from its Kelly weights.

    weights: [K, S] weights of the solved plan.
    prices: [4 + G + N + K] shadow prices of the solved plan.
    kelly: [2, S] result of `plan_kelly_weights`.
    fraction: fraction of full Kelly.
    """
    returns = problem.returns
    periods, size = returns.mu.shape
    gradient = np.zeros(size)
    known = True
    for k in range(periods):
        for s in range(size):
            risk = 0.0
            for r in range(size):
                risk += returns.covariance[k, s, r] * weights[k, r]
            gradient[s] += returns.mu[k, s] - risk / fraction
            known &= not np.isnan(returns.premium[k, s])
    unconstrained = kelly[TOTAL_PART].copy()
    held_by, price = find_binding_limits(problem, unconstrained, weights[0], gradient, prices)
    premium = kelly[PREMIUM_PART].copy() if known else np.full(size, np.nan)
    return TargetExplanation(unconstrained, held_by, price, premium, unconstrained - premium)
