"""What a plan pays for its changes, and a bound on how far its weights can be from the best."""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from foundation.compiled import compiled, inlined
from sizing.solver.growth import GrowthProgram, dot
from sizing.solver.multi_period import FAR, fixed_use, never_borrows


@compiled
def charged_tolls(program: GrowthProgram) -> Array:
    """Price of borrowing in each block [K], 0 where bounds or ceilings keep sizes at 1."""
    p = program
    free_of_toll = never_borrows(p.lower, p.upper, p.coefficients, p.limits)
    return np.zeros(len(p.toll)) if free_of_toll else p.toll.copy()


@compiled
def plan_costs(program: GrowthProgram, tolls: Array, weights: Array) -> float:
    """Costs of the changes and tolls of what is borrowed, of weights [K, S]."""
    total = 0.0
    for k in range(len(weights)):
        for i in range(len(program.held)):
            if program.upper[i] > program.lower[i]:
                before = program.held[i] if k == 0 else weights[k - 1, i]
                total += program.cost[k, i] * abs(weights[k, i] - before)
        total += tolls[k] * max(_borrowed(program, weights, k), 0.0)
    return total


@compiled
def duality_gap(
    program: GrowthProgram, tolls: Array, weights: Array, slopes: Array, prices: Array
) -> float:
    """By how much other weights may be better than these at most, a return.

    g is concave: nowhere does it lie above its tangent at the weights, whose slopes [K, S] are
    given. With the ceilings and what is borrowed at `prices` [G + K] nothing ties one symbol to
    another, and the best each can do within its bounds under the tangent is known in closed form:
    it is at what is held, at zero, or at a bound. Later changes are within ± FAR, as in the plan.
    The bound holds for any prices ≥ 0, of borrowing up to the toll.
    """
    blocks = len(weights)
    ceilings = len(program.limits)
    gap = 0.0
    for g in range(ceilings):
        fixed = fixed_use(program.coefficients[g], program.lower, program.upper)
        use = dot(program.coefficients[g], np.abs(weights[0]))
        gap += max(prices[g], 0.0) * max(max(program.limits[g], fixed) - use, 0.0)
    for k in range(blocks):
        borrowed = _borrowed(program, weights, k)
        paid = min(max(prices[ceilings + k], 0.0), tolls[k])
        gap += tolls[k] * max(borrowed, 0.0) - paid * borrowed
    for i in range(len(program.held)):
        if program.upper[i] > program.lower[i]:
            gap += _symbol_gap(program, tolls, weights, slopes, prices, i)
    return gap


@inlined
def _symbol_gap(
    program: GrowthProgram, tolls: Array, weights: Array, slopes: Array, prices: Array, i: int
) -> float:
    """What symbol i alone could still gain under the tangent, with the ceilings at their prices."""
    ceilings = len(program.limits)
    size_price = min(max(prices[ceilings], 0.0), tolls[0])
    for g in range(ceilings):
        size_price += max(prices[g], 0.0) * program.coefficients[g, i]
    gap = 0.0
    # What one more of a change is worth is the slope of every block from it on.
    slope = 0.0
    for k in range(len(weights) - 1, 0, -1):
        slope += slopes[k, i] - min(max(prices[ceilings + k], 0.0), tolls[k])
        change = weights[k, i] - weights[k - 1, i]
        gap += FAR * max(abs(slope) - program.cost[k, i], 0.0)
        gap -= slope * change - program.cost[k, i] * abs(change)
    slope += slopes[0, i]
    best = -np.inf
    low = program.lower[i]
    high = program.upper[i]
    for knot in (low, high, program.held[i], 0.0):
        w = min(max(knot, low), high)
        best = max(best, _priced(program, i, slope, size_price, w))
    return gap + best - _priced(program, i, slope, size_price, weights[0, i])


@inlined
def _priced(program: GrowthProgram, i: int, slope: float, size_price: float, w: float) -> float:
    """Worth of a first weight under the tangent, net of its trade and of the room it takes."""
    trade = program.cost[0, i] * abs(w - program.held[i])
    return float(slope * w - trade - size_price * abs(w))


@inlined
def _borrowed(program: GrowthProgram, weights: Array, k: int) -> float:
    """What weights are together beyond 1 in block k; sizes in the first one, as in the plan."""
    total = -1.0
    for i in range(weights.shape[1]):
        fixed = program.upper[i] == program.lower[i]
        total += abs(weights[k, i]) if k == 0 or fixed else weights[k, i]
    return total
