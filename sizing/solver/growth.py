"""The plan by the growth of whole distributions: Newton steps, each of them a quadratic program.

    maximise  Σₖ gₖ(wₖ) - Σₖ tollₖ·(borrowed in block k) - Σₖ costₖ'|wₖ - wₖ₋₁|,   w₀ = held
    g(w) = (1 - share)·E log(1 + r'w) - (share / aversion)·log E (1 + r'w)^-aversion

over scenarios r of each block's returns, under the bounds and ceilings of `multi_period`. Both
terms of g are concave, add up over blocks that are independent, and have the second-order expansion
mu'w - (1 + a)/2·w'Σw with a = 0 and a = aversion: the fraction of Kelly 1 / (1 + aversion). At the
last weights g is expanded, `optimal_weights` solves the expansion under the same limits, costs and
plan, and a line search stays where no scenario takes everything (proximal Newton: Lee, Sun and
Saunders 2014). Nothing is added inside the logarithm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array
from foundation.compiled import compiled, inlined, reordered
from sizing.solver.active_set import SOLVED
from sizing.solver.cholesky import RIDGE
from sizing.solver.multi_period import (
    FAR,
    LaterBlocks,
    fixed_use,
    never_borrows,
    optimal_weights,
)

RUINED = 3  # a status beside those of `active_set`: what is fixed loses everything in a scenario
STEPS = 100
CLOSE = 1e-11  # a gap, in units of return, below which no step is taken
STILL = 1e-11  # in weight
LEAST_WEALTH = 1e-9  # of equity: what a scenario must leave
HALVINGS = 60
LARGE = 30.0  # an exponent beyond which the largest is taken out of a sum


class GrowthProgram(NamedTuple):
    """A plan of K blocks, S symbols, G ceilings and N scenarios; its numbers are not checked.

    returns: [K, S, N] simple returns of each block; those of different blocks are independent.
    chance: [N] of each scenario, 1 in all.
    share: of the power term, 0 … 1.
    aversion: of the power term, above 0 where it has a share.
    held: [S] weight now.
    cost: [K, S] of moving a weight by one at the start of each block.
    lower, upper: [S] bounds of the first block's weights; what is fixed stays in every block.
    coefficients: [G, S] what a first weight takes of each ceiling.
    limits: [G] the ceilings.
    toll: [K] price of what is borrowed in each block.
    """

    returns: Array
    chance: Array
    share: float
    aversion: float
    held: Array
    cost: Array
    lower: Array
    upper: Array
    coefficients: Array
    limits: Array
    toll: Array


@compiled
def growth_optimum(program: GrowthProgram, start: Array) -> tuple[int, Array, Array, float]:
    """Solve the plan, from the first of `start` and what is held that survives every scenario.

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
    value, slopes = growth_and_slopes(program, weights)
    prices = np.zeros(len(program.limits) + blocks)
    gap = np.inf
    if value == -np.inf:
        return RUINED, weights, prices, gap
    value -= plan_costs(program, tolls, weights)
    for _ in range(STEPS):
        status, target, prices = expansion_optimum(program, weights, slopes)
        if status != SOLVED:
            return status, weights, prices, gap
        move = target - weights
        gain = (slopes * move).sum()
        gain -= plan_costs(program, tolls, target) - plan_costs(program, tolls, weights)
        length = 1.0
        found = value
        tried = target
        for _ in range(HALVINGS):
            tried = target if length == 1.0 else weights + length * move
            found, slopes = growth_and_slopes(program, tried)
            found -= plan_costs(program, tolls, tried)
            # A gain below the rounding of the value itself cannot be seen in it.
            if found >= value + 1e-4 * length * gain - 1e-15:
                break
            length *= 0.5
        weights = tried
        value = found
        gap = duality_gap(program, tolls, weights, slopes, prices)
        if length == 1.0 and (gap <= CLOSE or np.abs(move).max() <= STILL):
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
def expansion_optimum(
    program: GrowthProgram, weights: Array, slopes: Array
) -> tuple[int, Array, Array]:
    """The best weights [K, S] of the expansion at `weights`, whose slopes [K, S] are given."""
    pull, risk = expansion(program, weights, slopes)
    _offset_ridge(program, weights, pull, risk)
    later = LaterBlocks(pull[1:], risk[1:], program.toll[1:], program.cost[1:])
    return optimal_weights(
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
        later,
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


@compiled
def expansion(program: GrowthProgram, weights: Array, slopes: Array) -> tuple[Array, Array]:
    """Returns [K, S] and covariances [K, S, S] of the quadratic program that is near at weights."""
    blocks, symbols, _ = program.returns.shape
    pull = np.empty((blocks, symbols))
    risk = np.empty((blocks, symbols, symbols))
    for k in range(blocks):
        curvature(program, program.returns[k], weights[k], risk[k])
        pull[k] = slopes[k] + risk[k] @ weights[k]
    return pull, risk


@compiled
def growth_parts(program: GrowthProgram, weights: Array) -> tuple[float, float]:
    """E log of wealth over all blocks, and the power term's value; -inf where a scenario ruins."""
    growth = 0.0
    power = 0.0
    for k in range(len(weights)):
        logs = _log_wealth(program.returns[k], weights[k])
        if logs[0] == -np.inf:
            return -np.inf, -np.inf
        growth += dot(program.chance, logs)
        if program.aversion > 0.0:
            power += _tilted(program.chance, logs, program.aversion)[0]
    return growth, power


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


@compiled
def growth_and_slopes(program: GrowthProgram, weights: Array) -> tuple[float, Array]:
    """g of all blocks, -inf where a scenario ruins, and its slopes [K, S]."""
    slopes = np.zeros(weights.shape)
    value = 0.0
    for k in range(len(weights)):
        logs = _log_wealth(program.returns[k], weights[k])
        if logs[0] == -np.inf:
            return -np.inf, slopes
        tilted, odds = _tilted(program.chance, logs, program.aversion)
        value += (1.0 - program.share) * dot(program.chance, logs) + program.share * tilted
        pull = np.exp(-logs)
        for s in range(len(logs)):
            pull[s] *= (1.0 - program.share) * program.chance[s] + program.share * odds[s]
        for i in range(weights.shape[1]):
            slopes[k, i] = dot(program.returns[k, i], pull)
    return value, slopes


@compiled
def curvature(program: GrowthProgram, returns: Array, weights: Array, risk: Array) -> None:
    """Write -g'' of one block into risk [S, S]; returns [S, N], weights [S]."""
    share = program.share
    aversion = program.aversion
    logs = _log_wealth(returns, weights)
    _, odds = _tilted(program.chance, logs, aversion)
    symbols = len(weights)
    scaled = np.empty(returns.shape)
    lean = np.empty(symbols)
    wealth = np.exp(logs)
    root = np.empty(len(logs))
    for s in range(len(logs)):
        weight = (1.0 - share) * program.chance[s] + share * (1.0 + aversion) * odds[s]
        root[s] = np.sqrt(weight) / wealth[s]
        odds[s] /= wealth[s]
    for i in range(symbols):
        scaled[i] = returns[i] * root
        lean[i] = dot(returns[i], odds)
        for j in range(i + 1):
            value = dot(scaled[i], scaled[j]) - share * aversion * lean[i] * lean[j]
            risk[i, j] = value
            risk[j, i] = value


@compiled
def least_wealth(returns: Array, weights: Array) -> float:
    """What the worst scenario of returns [K, S, N] leaves of 1 with weights [K, S]."""
    least = np.inf
    for k in range(len(weights)):
        least = min(least, 1.0 + _returns_of_book(returns[k], weights[k]).min())
    return least


@compiled
def _log_wealth(returns: Array, weights: Array) -> Array:
    """log(1 + r'w) [N] of returns [S, N]; -inf in the first place where a scenario ruins."""
    logs = _returns_of_book(returns, weights)
    if not logs.min() > LEAST_WEALTH - 1.0:
        logs[0] = -np.inf
        return logs
    for s in range(len(logs)):
        logs[s] = np.log1p(logs[s])
    return logs


@compiled
def _returns_of_book(returns: Array, weights: Array) -> Array:
    """r'w [N] of returns [S, N]."""
    book = np.zeros(returns.shape[1])
    for i in range(len(weights)):
        if weights[i] != 0.0:
            for s in range(len(book)):
                book[s] += weights[i] * returns[i, s]
    return book


@compiled
def _tilted(chance: Array, logs: Array, aversion: float) -> tuple[float, Array]:
    """-log(E exp(-aversion·logs)) / aversion, and chances [N] tilted to the poor scenarios."""
    odds = np.zeros(len(logs))
    if aversion == 0.0:
        return 0.0, odds
    most = -aversion * logs.min()
    shift = most if most > LARGE else 0.0
    total = 0.0
    beyond = 0.0
    for s in range(len(logs)):
        odds[s] = chance[s] * np.exp(-aversion * logs[s] - shift)
        total += odds[s]
        # Growth over an hour is a millionth: 1 + it would lose half of its digits.
        beyond += chance[s] * np.expm1(-aversion * logs[s]) if shift == 0.0 else 0.0
    odds /= total
    logarithm = np.log1p(beyond) if shift == 0.0 else shift + np.log(total)
    return -logarithm / aversion, odds


@reordered
def dot(x: Array, y: Array) -> float:
    """x'y."""
    total = 0.0
    for s in range(len(x)):
        total += x[s] * y[s]
    return total
