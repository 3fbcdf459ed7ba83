"""A limit on the number of positions: a heuristic selection of weights.

The selection of weights is a combinatorial problem. Weights are ranked by their contribution to the
objective. The smaller half is set to zero and the program solved again, until few enough weights
remain. Then a few exchanges with other weights are tried.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Index, Mask, Matrix
from foundation.compiled import compiled, jit_inline, true_indices
from sizing.solver.active_set import SOLVED
from sizing.solver.multi_period import (
    SizingProblem,
    cannot_borrow,
    fixed_weight_usage,
    optimal_weights,
)

MAX_EXCHANGES = 12  # maximum number of exchanges tried
MIN_EXCHANGE_GAIN = 1e-12  # minimum gain of an exchange, as a return
NET_VIOLATION_PENALTY = 1e3  # return lost per unit of equity beyond a net limit


@compiled
def solve_with_max_positions(
    problem: SizingProblem, max_positions: float
) -> tuple[int, Matrix, Array]:
    """Solve a multi-period plan with at most `max_positions` nonzero weights in its first period.

    Fixed nonzero weights count towards `max_positions`. A weight that is not selected is zero in
    every period. Ties are broken by the order of symbols.

    Returns
    -------
    status
        SOLVED, INFEASIBLE or UNFINISHED of `active_set`.
    weights : [K, S]
        weights of every period.
    prices : [G + N + K]
        shadow prices of the program restricted to the selected weights.
    """
    status, weights, prices = optimal_weights(problem)
    if status != SOLVED or _count_nonzero(weights[0]) <= max_positions:
        return status, weights, prices
    unfixed = problem.upper > problem.lower
    places = max(int(max_positions) - _count_nonzero(problem.lower * ~unfixed), 0)
    stands = unfixed.copy()
    standing = _count_nonzero(weights[0] * unfixed)
    while standing > places:
        kept = max(places, standing // 2)
        _keep_largest(_contributions(problem, weights) * unfixed, kept, stands)
        status, weights, prices = optimal_weights(_restrict_weights(problem, stands))
        if status != SOLVED:
            return status, weights, prices
        standing = _count_nonzero(weights[0] * unfixed)
    tried = stands | ~unfixed
    worth = _objective(problem, weights) - NET_VIOLATION_PENALTY * _net_violation(problem, weights)
    for _ in range(MAX_EXCHANGES if places > 0 else 0):
        come = _best_unchosen_weight(problem, weights, prices, tried)
        if come < 0:
            break
        tried[come] = True
        changed = stands.copy()
        changed[come] = True
        if len(true_indices(changed)) > places:
            changed[_weakest_chosen_weight(_contributions(problem, weights), stands)] = False
        found, others, other_prices = optimal_weights(_restrict_weights(problem, changed))
        value = _objective(problem, others) - NET_VIOLATION_PENALTY * _net_violation(
            problem, others
        )
        if found == SOLVED and value > worth + MIN_EXCHANGE_GAIN:
            weights, prices, stands, worth = others, other_prices, changed, value
    return status, weights, prices


@jit_inline
def _count_nonzero(values: Array) -> int:
    """Return the number of nonzero values."""
    count = 0
    for i in range(len(values)):
        if values[i] != 0.0:
            count += 1
    return count


@compiled
def _restrict_weights(problem: SizingProblem, stands: Mask) -> SizingProblem:
    """Return the problem with all weights set to zero that are neither selected nor fixed.

    stands: [S] whether a weight is selected.
    """
    lower = problem.lower.copy()
    upper = problem.upper.copy()
    for i in range(len(lower)):
        if upper[i] > lower[i] and not stands[i]:
            lower[i] = 0.0
            upper[i] = 0.0
    return SizingProblem(
        problem.mu,
        problem.covariance,
        problem.cost,
        problem.financing_cost,
        problem.held_weight,
        lower,
        upper,
        problem.ceiling_coefficients,
        problem.ceilings,
        problem.kelly_fraction,
        problem.net_coefficients,
        problem.net_limits,
    )


@compiled
def _objective(problem: SizingProblem, weights: Array) -> float:
    """Return the objective of weights [K, S]: return net of risk, trading and borrowing costs."""
    unfixed = 1.0 - fixed_weight_usage(problem, np.full(len(problem.held_weight), 1.0))
    free_of_financing = cannot_borrow(problem)
    total = 0.0
    for k in range(len(weights)):
        chosen: Index = np.flatnonzero(weights[k])
        borrowed = -unfixed
        for i in chosen:
            w = weights[k, i]
            risk = 0.0
            for j in chosen:
                risk += problem.covariance[k, i, j] * weights[k, j]
            total += w * (problem.mu[k, i] - 0.5 * risk / problem.kelly_fraction)
            if problem.upper[i] > problem.lower[i]:
                borrowed += abs(w) if k == 0 else w
        for i in range(len(problem.held_weight)):
            before = problem.held_weight[i] if k == 0 else weights[k - 1, i]
            total -= problem.cost[k, i] * abs(weights[k, i] - before)
        if not free_of_financing:
            total -= problem.financing_cost[k] * max(borrowed, 0.0)
    return total


@compiled
def _net_violation(problem: SizingProblem, weights: Array) -> float:
    """Return the total excess of the first period's weights over the net limits.

    weights: [K, S] weights of every period.
    """
    missed = 0.0
    for g in range(len(problem.net_limits)):
        missed += max(np.dot(problem.net_coefficients[g], weights[0]) - problem.net_limits[g], 0.0)
    return missed


@compiled
def _contributions(problem: SizingProblem, weights: Array) -> Array:
    """Return the approximate contribution of each first-period weight to the objective, [S].

    At an optimum the objective loses w²R/2 without the weight, if nothing replaces it; R is the
    variance divided by the fraction of Kelly. For a held symbol the cost of closing it is added.
    This cost counts twice where the position grows: w²R/2 counts it as saved, but it would be paid.
    It does not count where the position shrinks or reverses, since that trade pays for the exit
    already. The contribution is 0 where the weight is 0.
    """
    parts = np.zeros(len(problem.held_weight))
    for i in range(len(parts)):
        if weights[0, i] != 0.0:
            held = problem.held_weight[i]
            direction = np.sign(weights[0, i] - held)
            parts[i] = problem.cost[0, i] * (abs(held) + direction * held)
            for k in range(len(weights)):
                variance = problem.covariance[k, i, i] / problem.kelly_fraction
                parts[i] += 0.5 * variance * weights[k, i] ** 2
            parts[i] = max(parts[i], 1e-300)
    return parts


@compiled
def _keep_largest(parts: Array, count: int, stands: Mask) -> None:
    """Select only the `count` weights with the largest contributions, in place.

    Of equal contributions, the first is selected.

    parts: [S] contributions.
    stands: [S] whether a weight is selected; overwritten.
    """
    order: Index = np.argsort(-parts, kind="mergesort")
    for rank in range(len(order)):
        stands[order[rank]] = rank < count


@jit_inline
def _weakest_chosen_weight(parts: Array, stands: Mask) -> int:
    """Return the index of the selected weight with the smallest contribution.

    Of equal contributions, the last is returned.

    parts: [S] contributions.
    stands: [S] whether a weight is selected.
    """
    least = -1
    for i in range(len(parts)):
        if stands[i] and (least < 0 or parts[i] <= parts[least]):
            least = i
    return least


@compiled
def _best_unchosen_weight(
    problem: SizingProblem, weights: Array, prices: Array, tried: Mask
) -> int:
    """Return the index of the weight that would add most to the objective, all others fixed.

    It is -1 if no weight would add anything.

    weights: [K, S] weights of every period.
    prices: shadow prices, as in `optimal_weights`.
    tried: [S] whether a weight is skipped.
    """
    best = -1
    largest = 0.0
    for i in range(len(tried)):
        added = 0.0 if tried[i] else _max_gain_of_weight(problem, weights, prices, i)
        if added > largest:
            largest = added
            best = i
    return best


@jit_inline
def _max_gain_of_weight(problem: SizingProblem, weights: Array, prices: Array, i: int) -> float:
    """Return the maximum gain in the objective if weight i leaves zero and all others stay.

    weights: [K, S] weights of every period.
    prices: shadow prices, as in `optimal_weights`.
    """
    slope = 0.0
    variance = 0.0
    for k in range(len(weights)):
        slope += problem.mu[k, i]
        variance += problem.covariance[k, i, i] / problem.kelly_fraction
        for j in range(weights.shape[1]):
            if weights[k, j] != 0.0:
                slope -= problem.covariance[k, i, j] * weights[k, j] / problem.kelly_fraction
    size = prices[len(problem.ceilings) + len(problem.net_limits)]
    for g in range(len(problem.ceilings)):
        size += prices[g] * problem.ceiling_coefficients[g, i]
    for g in range(len(problem.net_limits)):
        slope -= prices[len(problem.ceilings) + g] * problem.net_coefficients[g, i]
    most = 0.0
    for direction in (1.0, -1.0):
        headroom = problem.upper[i] if direction > 0.0 else -problem.lower[i]
        # On the way back to the held weight a trade is saved.
        trade = (
            -problem.cost[0, i] if problem.held_weight[i] * direction > 0.0 else problem.cost[0, i]
        )
        gain = direction * slope - size - trade
        length = min(headroom, gain / variance) if variance > 0.0 else headroom
        if gain > 0.0:
            most = max(most, gain * length - 0.5 * variance * length * length)
    return most
