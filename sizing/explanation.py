"""Reasons for Kelly targets: the number of periods whose Kelly weight explains each target.

Only the first period of a plan is traded. If a position earns its round-trip cost within the first
period, that period's Kelly weight explains the target. A position with a longer horizon is
explained by the Kelly weight over all periods through which it is held. These two Kelly weights may
have opposite signs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Cube, Index, Mask
from foundation.compiled import compiled, jit_inline, true_indices
from sizing.binding import COST_BIT, LONG_ONLY_BIT, find_binding_limits
from sizing.kelly import unconstrained_kelly
from sizing.problem import DecisionProblem, ExpectedReturns
from sizing.solver.cholesky import solve_by_cholesky, solve_in_place

EXPLAINED_WEIGHT_TOL = 1e-6  # distance, in weight, at which two weights count as equal
PREMIUM_PART, TOTAL_PART = 0, 1  # rows of `kelly_weights_by_horizon`


class TargetExplanation(NamedTuple):
    """Reasons for S Kelly targets: unconstrained weights, their sources, and the binding limits.

    unconstrained_weight: [S] Kelly weights before any limit or cost, computed over
        `horizon_periods`.
    binding_bits: [S] binding limits as bits: BINDING_LIMIT_NAMES, then the limits on groups.
    symbol_bound_shadow_price: [S] shadow price of the symbol's own bound.
    horizon_periods: [S] number of periods, counted from the first, that explain the target.
    premium_weight, forecast_weight: [S] parts of `unconstrained_weight` from the premium alone and
        from the forecast alone; NaN if the premium's part of the expected return is unknown.
    """

    unconstrained_weight: Array
    binding_bits: Index
    symbol_bound_shadow_price: Array
    horizon_periods: Index
    premium_weight: Array
    forecast_weight: Array

    @classmethod
    def empty(cls, rows: int, size: int) -> TargetExplanation:
        """Return arrays [R, S] of NaN and 0, to be filled for R decisions on S symbols."""
        shape = rows, size
        numbers = [np.full(shape, np.nan) for _ in range(4)]
        bits, periods = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        return cls(numbers[0], bits, numbers[1], periods, numbers[2], numbers[3])


def explain_targets(
    problem: DecisionProblem, weights: Array, prices: Array, fraction: float
) -> TargetExplanation:
    """Return the reasons for the Kelly targets of a solved plan.

    weights: [K, S] weights of every period.
    prices: [4 + G + N + K] shadow prices, as returned by `allocation.solve_multi_period_plan`.
    fraction: fraction of full Kelly.
    """
    by_horizon, singular = kelly_weights_by_horizon(problem, fraction)
    if singular.any():
        _write_minimum_norm_kelly(problem, by_horizon, singular, fraction)
    return explain_targets_by_horizon(problem, weights, prices, by_horizon, fraction)


def _write_minimum_norm_kelly(
    problem: DecisionProblem, by_horizon: Array, singular: Mask, fraction: float
) -> None:
    """Write minimum-norm Kelly weights for horizons with a singular covariance, in place.

    by_horizon: [K, 2, S] result of `kelly_weights_by_horizon`; overwritten in the rows of these
        horizons.
    singular: [K] whether the covariance of the horizon is singular.
    """
    mu, premium, covariance, _, _ = problem.returns
    chosen = np.flatnonzero(problem.account.adjustable)
    for k in np.flatnonzero(singular).tolist():
        risk = covariance[0] + covariance[1 : k + 1].sum(axis=0)
        for what, expected in ((PREMIUM_PART, premium), (TOTAL_PART, mu)):
            whole = expected[0] + expected[1 : k + 1].sum(axis=0)
            if np.isfinite(whole[chosen]).all():
                by_horizon[k, what, chosen] = unconstrained_kelly(
                    whole[chosen], risk[np.ix_(chosen, chosen)], fraction
                )


@compiled
def kelly_weights_by_horizon(problem: DecisionProblem, fraction: float) -> tuple[Cube, Mask]:
    """Return fractional Kelly weights without limits or costs over the first 1, 2, … K periods.

    The expected return and the covariance of a weight over several periods are the sums over these
    periods.

    Returns
    -------
    by_horizon : [K, 2, S]
        Kelly weights on the premium alone, and on the whole expected return; NaN for symbols that
        are not adjustable.
    singular : [K]
        whether the covariance over these periods is singular, so that there are no weights.
    """
    returns = problem.returns
    chosen = true_indices(problem.account.adjustable)
    periods, size = returns.mu.shape
    count = len(chosen)
    by_horizon = np.full((periods, 2, size), np.nan)
    singular = np.zeros(periods, dtype=np.bool_)
    risk = np.empty((count, count))
    both = np.empty((2, count))
    for horizon in range(1, periods + 1):
        for a in range(count):
            i = chosen[a]
            # Both sums run in the same order, so that they are equal where the forecast is zero.
            both[PREMIUM_PART, a] = fraction * _sum_over_horizon(returns.premium, i, horizon)
            both[TOTAL_PART, a] = fraction * _sum_over_horizon(returns.mu, i, horizon)
            for b in range(a + 1):
                risk[a, b] = _covariance_over_horizon(returns, i, chosen[b], horizon)
        if not solve_by_cholesky(risk, both[TOTAL_PART]):
            singular[horizon - 1] = True
            continue
        solve_in_place(risk, both[PREMIUM_PART])
        for a in range(count):
            by_horizon[horizon - 1, PREMIUM_PART, chosen[a]] = both[PREMIUM_PART, a]
            by_horizon[horizon - 1, TOTAL_PART, chosen[a]] = both[TOTAL_PART, a]
    return by_horizon, singular


@compiled
def explain_targets_by_horizon(
    problem: DecisionProblem, weights: Array, prices: Array, by_horizon: Array, fraction: float
) -> TargetExplanation:
    """Return the horizon that explains each target, its Kelly weight, and the binding limits.

    The horizon is the largest number of periods, counted from the first, whose Kelly weight fits
    the target. A Kelly weight fits if it lies in the direction of the target's move, or beyond the
    limit that binds the target. If none fits, Kelly weights given the other symbols' targets are
    tried: an unconditional Kelly weight may be a hedge of weights that the limits forbid. If no
    horizon explains the target, the horizon is the whole plan.

    weights: [K, S] weights of the solved plan.
    prices: [4 + G + N + K] shadow prices of the solved plan.
    by_horizon: [K, 2, S] result of `kelly_weights_by_horizon`.
    fraction: fraction of full Kelly.
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
    unconstrained = by_horizon[whole - 1, TOTAL_PART].copy()
    held_by, bound_price = find_binding_limits(problem, unconstrained, target, gradient, prices)
    periods = np.full(size, whole)
    premium = np.full(size, np.nan)
    forecast = np.full(size, np.nan)
    known = True
    for k in range(whole):
        for s in range(size):
            known &= not np.isnan(returns.premium[k, s])
    chosen = true_indices(problem.account.adjustable)
    for a in range(len(chosen)):
        s = chosen[a]
        direction = _move_direction(target[s], problem.account.held_weight[s], held_by[s])
        horizon, beside = _explaining_horizon(returns, by_horizon, target, s, direction, fraction)
        unconstrained[s] = by_horizon[horizon - 1, TOTAL_PART, s]
        earned = by_horizon[horizon - 1, PREMIUM_PART, s]
        expected = unconstrained[s]
        if beside:
            unconstrained[s] = _kelly_given_others(returns, target, s, horizon, fraction)
            variance = _covariance_over_horizon(returns, s, s, horizon)
            earned = fraction * _sum_over_horizon(returns.premium, s, horizon) / variance
            expected = fraction * _sum_over_horizon(returns.mu, s, horizon) / variance
        periods[s] = horizon
        if known:
            premium[s] = earned
            forecast[s] = expected - earned
    return TargetExplanation(unconstrained, held_by, bound_price, periods, premium, forecast)


@compiled
def _explaining_horizon(
    returns: ExpectedReturns,
    by_horizon: Array,
    target: Array,
    s: int,
    direction: float,
    fraction: float,
) -> tuple[int, bool]:
    """Return the number of periods that explains the target of symbol s; K if none does.

    The second value is true if the explanation is the Kelly weight given the other symbols'
    targets.

    by_horizon: [K, 2, S] result of `kelly_weights_by_horizon`.
    direction: direction in which the target would move further: -1, 1, or 0 if it is unknown.
    """
    for horizon in range(len(by_horizon), 0, -1):
        if _move_ends_at_target(by_horizon[horizon - 1, TOTAL_PART, s], target[s], direction):
            return horizon, False
    for horizon in range(len(by_horizon), 0, -1):
        if _move_ends_at_target(
            _kelly_given_others(returns, target, s, horizon, fraction), target[s], direction
        ):
            return horizon, True
    return len(by_horizon), False


@jit_inline
def _kelly_given_others(
    returns: ExpectedReturns, target: Array, s: int, horizon: int, fraction: float
) -> float:
    """Return the fractional Kelly weight of symbol s given all other targets.

    It is NaN if s has no variance.
    """
    variance = _covariance_over_horizon(returns, s, s, horizon)
    if not variance > 0.0:
        return np.nan
    risk = 0.0
    for r in range(len(target)):
        risk += _covariance_over_horizon(returns, s, r, horizon) * target[r]
    return float(
        target[s] + (fraction * _sum_over_horizon(returns.mu, s, horizon) - risk) / variance
    )


@jit_inline
def _sum_over_horizon(values: Array, s: int, horizon: int) -> float:
    """Return the sum of values [K, S] of symbol s over the first `horizon` periods."""
    later = 0.0
    for k in range(1, horizon):
        later += values[k, s]
    return float(values[0, s] + later)


@jit_inline
def _covariance_over_horizon(returns: ExpectedReturns, s: int, r: int, horizon: int) -> float:
    """Return the covariance of symbols s and r over the first `horizon` periods."""
    later = 0.0
    for k in range(1, horizon):
        later += returns.covariance[k, s, r]
    return float(returns.covariance[0, s, r] + later)


@jit_inline
def _move_direction(target: float, held: float, held_by: int) -> float:
    """Return the direction in which a target would move further: -1, 1, or 0 if it is unknown.

    A weight that a limit binds would move away from zero, but a weight that may not be short would
    move below zero. A weight that no limit binds would move further away from the held weight.

    held: current weight.
    held_by: limits that bind the target, as bits.
    """
    if held_by == 0 or held_by & (1 << COST_BIT):
        return float(np.sign(target - held))
    return -1.0 if held_by & (1 << LONG_ONLY_BIT) else float(np.sign(target))


@jit_inline
def _move_ends_at_target(weight: float, target: float, direction: float) -> bool:
    """Return whether a move towards a weight would stop at the target, or the two are equal.

    direction: direction in which the target would move further: -1, 1, or 0 if it is unknown.
    """
    beyond = weight - target
    return beyond * direction > 0.0 or abs(beyond) <= EXPLAINED_WEIGHT_TOL or direction == 0.0
