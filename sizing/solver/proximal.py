"""The plan by the growth of whole distributions: Newton steps, each of them a quadratic program.

    maximise  Σₖ gₖ(wₖ) - Σₖ tollₖ·(borrowed in block k) - Σₖ costₖ'|wₖ - wₖ₋₁|,   w₀ = held

with the g of `growth`, under the bounds and ceilings of `multi_period`. At the last weights g is
expanded, `optimal_weights` solves the expansion under the same limits, costs and plan, and a line
search stays where no scenario takes everything (proximal Newton: Lee, Sun and Saunders 2014). It
ends where the bound of `duality` leaves nothing to gain.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from foundation.compiled import compiled, inlined
from sizing.solver.active_set import SOLVED
from sizing.solver.cholesky import RIDGE
from sizing.solver.duality import charged_tolls, duality_gap, plan_costs
from sizing.solver.growth import (
    LEAST_WEALTH,
    GrowthProgram,
    Point,
    dot,
    expansion,
    least_wealth,
    point_at,
)
from sizing.solver.multi_period import LaterBlocks, fixed_use, optimal_weights

NearProgram = tuple[
    Array, Array, Array, Array, Array, Array, Array, Array, float, float, LaterBlocks
]

RUINED = 3  # a status beside those of `active_set`: what is fixed loses everything in a scenario
STEPS = 100
GAP = 1e-8  # a return: an answer that may lie further below the best is refused
CLOSE = 1e-11  # a gap, in units of return, below which no step is taken
STILL = 1e-11  # in weight
HALVINGS = 60


@compiled
def growth_optimum(program: GrowthProgram, start: Array) -> tuple[int, Array, Array, float]:
    """Solve the plan, from weights that keep to its limits.

    Parameters
    ----------
    program
        the plan.
    start : [K, S]
        weights that keep to bounds and ceilings, such as an earlier answer.

    Returns
    -------
    status
        as of `active_set.solve`, or RUINED.
    weights : [K, S]
        of every block.
    prices : [G + K]
        of the ceilings, then of what is borrowed in each block.
    gap
        by how much another answer may be better at most, a return: see `duality_gap`.
    """
    blocks = len(program.returns)
    tolls = charged_tolls(program)
    weights = start.copy()
    point = point_at(program, weights)
    prices = np.zeros(len(program.limits) + blocks)
    gap = np.inf
    if point.growth == -np.inf:
        return RUINED, weights, prices, gap
    value = point.value - plan_costs(program, tolls, weights)
    for _ in range(STEPS):
        status, target, prices = _expansion_optimum(program, weights, point)
        if status != SOLVED:
            return status, weights, prices, gap
        move = target - weights
        gain = (point.slopes * move).sum()
        gain -= plan_costs(program, tolls, target) - plan_costs(program, tolls, weights)
        length = 1.0
        found = value
        tried = target
        for _ in range(HALVINGS):
            tried = target if length == 1.0 else weights + length * move
            point = point_at(program, tried)
            found = point.value - plan_costs(program, tolls, tried)
            # A gain below the rounding of the value itself cannot be seen in it.
            if found >= value + 1e-4 * length * gain - 1e-15:
                break
            length *= 0.5
        weights = tried
        value = found
        before = gap
        gap = duality_gap(program, tolls, weights, point.slopes, prices)
        # Beside a ruin in a scenario of small chance slopes are steep: what hardly moves may still
        # be on its way, as long as the gap falls.
        ends = gap <= GAP or not gap <= 0.5 * before
        if length == 1.0 and (gap <= CLOSE or (ends and np.abs(move).max() <= STILL)):
            break
    return SOLVED, weights, prices, gap


@compiled
def feasible_start(program: GrowthProgram) -> Array:
    """What is held, within bounds, in every block; less of it where that passes a ceiling or ruins.

    [K, S]: the largest of its halves beyond the smallest weights, or those alone.
    """
    blocks, symbols, _ = program.returns.shape
    least = np.minimum(np.maximum(0.0, program.lower), program.upper)
    near = np.minimum(np.maximum(program.held, program.lower), program.upper)
    weights = np.empty((blocks, symbols))
    share = 1.0
    for _ in range(HALVINGS):
        for k in range(blocks):
            weights[k] = least + share * (near - least)
        fits = True
        for g in range(len(program.limits)):
            # A ceiling that what is fixed passes leaves no room, and is passed by nothing else.
            fixed = fixed_use(program.coefficients[g], program.lower, program.upper)
            use = dot(program.coefficients[g], np.abs(weights[0]))
            fits &= use <= max(program.limits[g], fixed) * (1.0 + 1e-12)
        if fits and least_wealth(program.returns, weights) > LEAST_WEALTH:
            return weights
        share *= 0.5
    for k in range(blocks):
        weights[k] = least
    return weights


@compiled
def _expansion_optimum(
    program: GrowthProgram, weights: Array, point: Point
) -> tuple[int, Array, Array]:
    """Status, weights [K, S] and prices of the quadratic program that is near at `weights`."""
    pull, risk = expansion(program, weights, point)
    _offset_ridge(program, weights, pull, risk)
    return optimal_weights(*near_program(program, pull, risk))


@compiled
def near_program(program: GrowthProgram, pull: Array, risk: Array) -> NearProgram:
    """What `optimal_weights` is to solve, of pull [K, S] and risk [K, S, S] of an expansion."""
    return (
        pull[0],
        risk[0],
        program.held,
        program.cost[0],
        program.lower,
        program.upper,
        program.coefficients,
        program.limits,
        1.0,
        program.toll[0],
        LaterBlocks(pull[1:], risk[1:], program.toll[1:], program.cost[1:]),
    )


@inlined
def _offset_ridge(program: GrowthProgram, weights: Array, pull: Array, risk: Array) -> None:
    """Add to pull [K, S] what the ridge of `active_set` takes from the slopes at these weights."""
    # The ridge draws weights and changes towards zero by 1e-10 of the largest number. Every step
    # would end beside the optimum by as much, and the gap would not close.
    blocks = len(weights)
    largest = 0.0
    for i in range(len(program.held)):
        if program.upper[i] > program.lower[i]:
            gain = 0.0
            variance = 0.0
            for k in range(blocks - 1, -1, -1):
                gain += pull[k, i]
                variance += risk[k, i, i]
                for j in range(len(program.held)):
                    if program.upper[j] == program.lower[j]:
                        gain -= risk[k, i, j] * program.lower[j]
                largest = max(largest, abs(gain), variance)
    for k in range(blocks):
        for i in range(len(program.held)):
            change = weights[k, i] - (weights[k - 1, i] if k > 0 else 0.0)
            after = weights[k + 1, i] - weights[k, i] if k + 1 < blocks else 0.0
            pull[k, i] += RIDGE * largest * (change - after)
