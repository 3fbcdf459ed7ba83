"""At most so many positions: a choice of weights that may stand, with a bound on what it costs.

Which weights may stand is a combinatorial question. The program without it is a relaxation: no
choice is worth more than its objective, and what a choice is worth less bounds how far it is from
the best one. Weights are chosen by what each adds to the relaxation, half of them at a time, each
half solved anew; a few exchanges follow.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Index, Mask, Matrix
from foundation.compiled import compiled, jit_inline, true_indices
from sizing.solver.active_set import SOLVED
from sizing.solver.multi_period import SizingProblem, cannot_borrow, fixed_use, optimal_weights

MAX_EXCHANGES = 12  # tried at most
MIN_GAIN = 1e-12  # a return: what an exchange has to add
VIOLATION_PENALTY = 1e3  # return taken off for each equity that a net limit is passed by
VIOLATION_TOL = 1e-9  # of equity: a net limit passed by less is kept to


@compiled
def sparse_weights(problem: SizingProblem, most: float) -> tuple[int, Matrix, Array, float]:
    """Solve the plan with at most so many weights of its first period that are not zero.

    What is fixed and not zero counts among them. What does not stand is left out of the whole plan.
    Equal weights stand in the order of symbols.

    Returns
    -------
    status, weights, prices
        as of `optimal_weights`; prices are those of the program of what stands.
    gap
        by how much the objective of the relaxation is above that of the weights: the best choice
        is no further away. NaN where they pass net limits that the relaxation keeps to.
    """
    status, weights, prices = optimal_weights(problem)
    if status != SOLVED or _count(weights[0]) <= most:
        return status, weights, prices, 0.0
    bound = _objective(problem, weights)
    missed = _net_violation(problem, weights)
    unfixed = problem.upper > problem.lower
    places = max(int(most) - _count(problem.lower * ~unfixed), 0)
    stands = unfixed.copy()
    standing = _count(weights[0] * unfixed)
    while standing > places:
        kept = max(places, standing // 2)
        _keep_largest(_contributions(problem, weights) * unfixed, kept, stands)
        status, weights, prices = optimal_weights(_restricted_to(problem, stands))
        if status != SOLVED:
            return status, weights, prices, np.nan
        standing = _count(weights[0] * unfixed)
    tried = stands | ~unfixed
    worth = _objective(problem, weights) - VIOLATION_PENALTY * _net_violation(problem, weights)
    for _ in range(MAX_EXCHANGES if places > 0 else 0):
        come = _best_outside(problem, weights, prices, tried)
        if come < 0:
            break
        tried[come] = True
        changed = stands.copy()
        changed[come] = True
        if len(true_indices(changed)) > places:
            changed[_least_inside(_contributions(problem, weights), stands)] = False
        found, others, other_prices = optimal_weights(_restricted_to(problem, changed))
        value = _objective(problem, others) - VIOLATION_PENALTY * _net_violation(problem, others)
        if found == SOLVED and value > worth + MIN_GAIN:
            weights, prices, stands, worth = others, other_prices, changed, value
    if _net_violation(problem, weights) > missed + VIOLATION_TOL:
        return status, weights, prices, np.nan
    return status, weights, prices, max(bound - _objective(problem, weights), 0.0)


@jit_inline
def _count(values: Array) -> int:
    """How many values are not zero."""
    count = 0
    for i in range(len(values)):
        if values[i] != 0.0:
            count += 1
    return count


@compiled
def _restricted_to(problem: SizingProblem, stands: Mask) -> SizingProblem:
    """Return the problem in which only these weights [S] and fixed ones may be nonzero."""
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
        problem.financing,
        problem.held,
        lower,
        upper,
        problem.coefficients,
        problem.limits,
        problem.fraction,
        problem.net,
        problem.net_limits,
    )


@compiled
def _objective(problem: SizingProblem, weights: Array) -> float:
    """The objective of weights [K, S]."""
    unfixed = 1.0 - fixed_use(problem, np.full(len(problem.held), 1.0))
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
            total += w * (problem.mu[k, i] - 0.5 * risk / problem.fraction)
            if problem.upper[i] > problem.lower[i]:
                borrowed += abs(w) if k == 0 else w
        for i in range(len(problem.held)):
            before = problem.held[i] if k == 0 else weights[k - 1, i]
            total -= problem.cost[k, i] * abs(weights[k, i] - before)
        if not free_of_financing:
            total -= problem.financing[k] * max(borrowed, 0.0)
    return total


@compiled
def _net_violation(problem: SizingProblem, weights: Array) -> float:
    """By how much weights [K, S] pass the net limits together."""
    missed = 0.0
    for g in range(len(problem.net_limits)):
        missed += max(np.dot(problem.net[g], weights[0]) - problem.net_limits[g], 0.0)
    return missed


@compiled
def _contributions(problem: SizingProblem, weights: Array) -> Array:
    """What each weight of the first period adds to the objective, about, [S]; 0 where it is 0.

    At an optimum w²R/2 is lost without it, if nothing takes its place, and of what is held the cost
    of its way out: twice where it is added to, as that was saved and is paid, and not at all where
    it is taken off or turned round, as that pays for the way already.
    """
    parts = np.zeros(len(problem.held))
    for i in range(len(parts)):
        if weights[0, i] != 0.0:
            held = problem.held[i]
            direction = np.sign(weights[0, i] - held)
            parts[i] = problem.cost[0, i] * (abs(held) + direction * held)
            for k in range(len(weights)):
                variance = problem.covariance[k, i, i] / problem.fraction
                parts[i] += 0.5 * variance * weights[k, i] ** 2
            parts[i] = max(parts[i], 1e-300)
    return parts


@compiled
def _keep_largest(parts: Array, count: int, stands: Mask) -> None:
    """Keep only the weights of the largest parts [S], in place; among equal parts the first."""
    order: Index = np.argsort(-parts, kind="mergesort")
    for rank in range(len(order)):
        stands[order[rank]] = rank < count


@jit_inline
def _least_inside(parts: Array, stands: Mask) -> int:
    """What adds the least of what stands; of equal ones the last."""
    least = -1
    for i in range(len(parts)):
        if stands[i] and (least < 0 or parts[i] <= parts[least]):
            least = i
    return least


@compiled
def _best_outside(problem: SizingProblem, weights: Array, prices: Array, tried: Mask) -> int:
    """The weight that would add the most alone, all others as they are; -1 where none would.

    prices: as of `optimal_weights`. tried [S]: left out.
    """
    best = -1
    largest = 0.0
    for i in range(len(tried)):
        added = 0.0 if tried[i] else _added_alone(problem, weights, prices, i)
        if added > largest:
            largest = added
            best = i
    return best


@jit_inline
def _added_alone(problem: SizingProblem, weights: Array, prices: Array, i: int) -> float:
    """What weight i adds to the objective at its best, all others as they are."""
    slope = 0.0
    variance = 0.0
    for k in range(len(weights)):
        slope += problem.mu[k, i]
        variance += problem.covariance[k, i, i] / problem.fraction
        for j in range(weights.shape[1]):
            if weights[k, j] != 0.0:
                slope -= problem.covariance[k, i, j] * weights[k, j] / problem.fraction
    size = prices[len(problem.limits) + len(problem.net_limits)]
    for g in range(len(problem.limits)):
        size += prices[g] * problem.coefficients[g, i]
    for g in range(len(problem.net_limits)):
        slope -= prices[len(problem.limits) + g] * problem.net[g, i]
    most = 0.0
    for direction in (1.0, -1.0):
        headroom = problem.upper[i] if direction > 0.0 else -problem.lower[i]
        # On the way back to what is held a trade is saved.
        trade = -problem.cost[0, i] if problem.held[i] * direction > 0.0 else problem.cost[0, i]
        gain = direction * slope - size - trade
        length = min(headroom, gain / variance) if variance > 0.0 else headroom
        if gain > 0.0:
            most = max(most, gain * length - 0.5 * variance * length * length)
    return most
