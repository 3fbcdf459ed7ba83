"""The plan: weights for a few blocks of time, of which the first one's are acted on.

    maximise  Σₖ [muₖ'wₖ - wₖ'Σₖwₖ / (2·fraction) - tollₖ·(borrowed in block k)]
              - Σₖ costₖ'|wₖ - wₖ₋₁|,   w₀ = held
    subject to  lower ≤ w₁ ≤ upper  and  Σ cᵢ·|w₁ᵢ| ≤ ceiling for every group

Each change is paid once, whatever the length of the blocks: what a position earns until the horizon
is set against one cost. The last change may count for less (`change_costs`). Nobody trades the
later blocks. No bound or ceiling holds them, and they serve only to say what the first block should
be.

In w₁ and the changes from block to block it is the program of `active_set.py`, each change with its
knot at 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index
from foundation.compiled import compiled, inlined
from sizing.solver.active_set import solve
from sizing.solver.segments import Program

FAR = 100.0  # a weight beyond every plan


class LaterBlocks(NamedTuple):
    """The L blocks after the first, for S symbols.

    mu: [L, S] expected simple return in each block.
    covariance: [L, S, S] of simple returns in each block.
    toll: [L] price of what is borrowed in each block.
    cost: [L, S] of moving a weight by one at the start of each block.
    """

    mu: Array
    covariance: Array
    toll: Array
    cost: Array


def no_later_blocks(symbols: int) -> LaterBlocks:
    """No blocks after the first."""
    return LaterBlocks(
        mu=np.empty((0, symbols)),
        covariance=np.empty((0, symbols, symbols)),
        toll=np.empty(0),
        cost=np.empty((0, symbols)),
    )


@compiled
def change_costs(cost: Array, signal: Array, blocks: int) -> Array:
    """What the changes into the blocks count in a plan, [K, S].

    Every change counts its cost, but the last one of a plan only P(|Z|·signal < cost) of it, Z
    standard normal. When a forecast has died the next one decides. Where the next one pays for a
    trade, it asks for the position as often as for its opposite, and on balance leaving costs
    nothing. Where it does not, the way out is the position's own cost. Without a forecast that is
    all of it.

    Parameters
    ----------
    cost : [S]
        of moving a weight by one.
    signal : [S]
        root mean square of what a forecast is worth over its whole life, a return; 0 or NaN where
        there is none.
    blocks
        K, how many blocks there are.
    """
    counted = np.empty((blocks, len(cost)))
    for k in range(blocks):
        for s in range(len(cost)):
            share = 1.0
            if 0 < k == blocks - 1 and signal[s] > 0.0:
                share = math.erf(cost[s] / (signal[s] * math.sqrt(2.0)))
            counted[k, s] = cost[s] * share
    return counted


@compiled
def optimal_weights(
    mu: Array,
    covariance: Array,
    held: Array,
    cost: Array,
    lower: Array,
    upper: Array,
    coefficients: Array,
    limits: Array,
    fraction: float,
    toll: float,
    later: LaterBlocks,
) -> tuple[int, Array, Array]:
    """Solve the plan; its arguments are not checked.

    Parameters
    ----------
    mu, covariance, toll : [S], [S, S], a number
        of the first block.
    held, cost, lower, upper : [S]
        weights now, cost of moving a weight by one, bounds in the first block. What is fixed (lower
        = upper) pulls on the others through its covariance in every block, and takes its part of
        every ceiling.
    coefficients, limits : [G, S], [G]
        Σ cᵢ·|w₁ᵢ| ≤ limit. A limit that what is fixed exceeds becomes what is fixed.
    fraction
        of full Kelly.
    later
        the blocks after the first.

    Returns
    -------
    status
        as of `active_set.solve`.
    weights : [1 + L, S]
        of every block.
    prices : [G + 1 + L]
        what one more of each ceiling would add to the objective, then one more of what is not
        borrowed in each block.
    """
    free = np.flatnonzero(upper > lower)
    blocks = 1 + len(later.toll)
    n = len(free)
    m = len(limits)
    # The variables are the n free weights of the first block, then n changes for each later one. A
    # change has its knot at 0 and its cost, so that the program needs no words for time.
    pull = np.zeros(n * blocks)
    risk = np.zeros((n * blocks, n * blocks))
    _add_block(pull, risk, 0, mu, covariance, lower, upper, free, fraction)
    for k in range(1, blocks):
        _add_block(
            pull, risk, k, later.mu[k - 1], later.covariance[k - 1], lower, upper, free, fraction
        )
    tolls = _tolls(lower, upper, coefficients, limits, toll, later)
    # A group whose room may be passed for nothing holds no weight back, and would only cost time.
    counted = np.flatnonzero(tolls > 0.0)
    groups = np.zeros((len(counted), n * blocks))
    room = np.empty(len(counted))
    # What all weights are together beyond 1 is borrowed. Of what is fixed sizes count, as the
    # proceeds of a short sale do not offset what is borrowed.
    unfixed = 1.0 - fixed_use(np.ones(len(mu)), lower, upper)
    for row in range(len(counted)):
        g = counted[row]
        if g < m:
            groups[row, :n] = coefficients[g][free]
            room[row] = max(limits[g] - fixed_use(coefficients[g], lower, upper), 0.0)
        else:
            groups[row, : n * (g - m + 1)] = 1.0
            room[row] = unfixed
    low = np.full(n * blocks, -FAR)
    high = np.full(n * blocks, FAR)
    start = np.zeros(n * blocks)
    price = np.empty(n * blocks)
    low[:n] = lower[free]
    high[:n] = upper[free]
    start[:n] = held[free]
    for k in range(blocks):
        price[k * n : (k + 1) * n] = cost[free] if k == 0 else later.cost[k - 1][free]
    # For the same reason the first block's borrowing counts sizes. A later weight is a sum of
    # variables here, and its size is no sum of theirs, so that later blocks count longs less
    # shorts, which is linear (`net`).
    status, solved, paid = solve(
        Program(pull, risk, low, high, start, price, groups, room, tolls[counted], counted > m)
    )
    prices = np.zeros(m + blocks)
    prices[counted] = paid
    return status, _weights_by_block(solved, lower, free, blocks), prices


@inlined
def _weights_by_block(solved: Array, lower: Array, free: Index, blocks: int) -> Array:
    """Weights [blocks, S] from those of the first block and the changes after it, [n·blocks]."""
    n = len(free)
    weights = np.empty((blocks, len(lower)))
    for k in range(blocks):
        for s in range(len(lower)):
            weights[k, s] = lower[s] if k == 0 else weights[k - 1, s]
        for a in range(n):
            weights[k, free[a]] = solved[k * n + a] + (weights[k - 1, free[a]] if k > 0 else 0.0)
    return weights


@inlined
def _tolls(
    lower: Array,
    upper: Array,
    coefficients: Array,
    limits: Array,
    toll: float,
    later: LaterBlocks,
) -> Array:
    """Price of passing each ceiling, infinite, and of borrowing in each block, [G + 1 + L]."""
    groups = len(limits)
    blocks = 1 + len(later.toll)
    tolls = np.full(groups + blocks, np.inf)
    free_of_toll = never_borrows(lower, upper, coefficients, limits)
    for k in range(blocks):
        if free_of_toll:
            tolls[groups + k] = 0.0
        else:
            tolls[groups + k] = toll if k == 0 else later.toll[k - 1]
    return tolls


@inlined
def never_borrows(lower: Array, upper: Array, coefficients: Array, limits: Array) -> bool:
    """Whether bounds or a ceiling keep all sizes of the first block together at 1."""
    # Such an account cannot borrow, so no later block is charged for more than 1 either. Otherwise
    # a plan would hold back today because of interest that nobody will ever pay.
    most = 0.0
    for i in range(len(lower)):
        most += max(abs(lower[i]), abs(upper[i]))
    for g in range(len(limits)):
        least = np.inf
        for i in range(len(lower)):
            least = min(least, coefficients[g, i])
        if 0.0 < least < np.inf:
            most = min(most, max(limits[g], fixed_use(coefficients[g], lower, upper)) / least)
    return bool(most <= 1.0 + 1e-9)


@inlined
def _add_block(
    pull: Array,
    risk: Array,
    k: int,
    mu: Array,
    covariance: Array,
    lower: Array,
    upper: Array,
    free: Index,
    fraction: float,
) -> None:
    """Add block k's return and risk to pull [n·blocks] and risk [n·blocks, n·blocks].

    wₖ is the sum of the first block's weights and every change up to it. So each of those has the
    block's whole return, and each pair of them its covariance.
    """
    n = len(free)
    for a in range(n):
        i = free[a]
        gain = mu[i]
        for j in range(len(mu)):
            if upper[j] == lower[j]:
                gain -= covariance[i, j] * lower[j] / fraction
        for c in range(k + 1):
            pull[c * n + a] += gain
        for b in range(n):
            part = covariance[i, free[b]] / fraction
            for c in range(k + 1):
                for d in range(k + 1):
                    risk[c * n + a, d * n + b] += part


@inlined
def fixed_use(coefficients: Array, lower: Array, upper: Array) -> float:
    """What fixed weights take of a group with these coefficients [S]."""
    total = 0.0
    for i in range(len(lower)):
        if upper[i] == lower[i]:
            total += coefficients[i] * abs(lower[i])
    return total
