"""The plan: weights for a few blocks of time, of which the first one's are acted on.

    maximise  Σₖ [muₖ'wₖ - wₖ'Σₖwₖ / (2·fraction) - tollₖ·(borrowed in block k)] - Σₖ costₖ'|wₖ -
    wₖ₋₁|,  w₀ = held subject to  lower ≤ w₁ ≤ upper  and  Σ cᵢ·|w₁ᵢ| ≤ ceiling for every group

Each change is paid once, whatever the length of the blocks: what a position earns until the horizon
is set against one cost. The last change may count for less (`later_costs`). Later blocks are
nobody's orders: no bound or ceiling holds them, and what they say of the first is all that is
asked. In w₁ and the changes from block to block it is the program of `active_set.py`, each change
with its knot at 0.
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


class Later(NamedTuple):
    """The L blocks after the first, S symbols: mu, cost [L, S], covariance [L, S, S], toll [L]:
    of what is borrowed in each.
    """

    mu: Array
    covariance: Array
    toll: Array
    cost: Array

    def beside(self, count: int) -> Later:
        """The same with so many symbols beside it, of no return, risk or cost."""
        more = (0, count)
        mu, cost = (np.pad(array, ((0, 0), more)) for array in (self.mu, self.cost))
        return Later(mu, np.pad(self.covariance, ((0, 0), more, more)), self.toll, cost)


def nothing_later(symbols: int) -> Later:
    """No blocks after the first."""
    return Later(
        np.empty((0, symbols)), np.empty((0, symbols, symbols)), np.empty(0), np.empty((0, symbols))
    )


@compiled
def later_costs(cost: Array, signal: Array, blocks: int) -> Array:
    """[L, S] what the changes into L later blocks count: their cost, but the last one's as far as
    it will be anybody's.

    signal [S]: root mean square of what a forecast is worth over its whole life, a return; 0 or NaN
    where there is none. When a forecast has died, the next one decides. Where it pays for a trade,
    it asks for the position as often as for its opposite, and on balance leaving costs nothing;
    where it does not, the cost is the position's own. So the last change counts P(|Z|·signal <
    cost) of its cost, Z standard normal: all of it without a forecast.
    """
    counted = np.empty((blocks, len(cost)))
    for k in range(blocks):
        for s in range(len(cost)):
            ends = k == blocks - 1 and signal[s] > 0.0
            counted[k, s] = cost[s] * (
                math.erf(cost[s] / (signal[s] * math.sqrt(2.0))) if ends else 1.0
            )
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
    later: Later,
) -> tuple[int, Array, Array]:
    """Status, weights [1 + L, S] and prices [G + 1 + L], of arguments that are known to be sound.

    mu, covariance, toll: of the first block. coefficients [G, S], limits [G]: the groups. What is
    fixed (lower = upper) pulls on the others through its covariance in every block, and takes its
    part of every ceiling; one that it exceeds becomes what is fixed. Borrowed is what all weights
    are together beyond 1: in the first block, and of what is fixed, their sizes, so that no short
    pays for it. A price is what one more of a ceiling would add to the objective, or of what is not
    borrowed in a block.
    """
    free = np.flatnonzero(upper > lower)
    blocks = 1 + len(later.toll)
    n = len(free)
    m = len(limits)
    pull = np.zeros(n * blocks)
    risk = np.zeros((n * blocks, n * blocks))
    _add_block(pull, risk, 0, mu, covariance, lower, upper, free, fraction)
    for k in range(1, blocks):
        _add_block(
            pull, risk, k, later.mu[k - 1], later.covariance[k - 1], lower, upper, free, fraction
        )
    tolls = np.full(m + blocks, np.inf)
    free_of_toll = _never_borrows(lower, upper, coefficients, limits)
    for k in range(blocks):
        tolls[m + k] = 0.0 if free_of_toll else (toll if k == 0 else later.toll[k - 1])
    counted = np.flatnonzero(tolls > 0.0)
    groups = np.zeros((len(counted), n * blocks))
    room = np.empty(len(counted))
    unfixed = 1.0 - _fixed(np.ones(len(mu)), lower, upper)
    for row in range(len(counted)):
        g = counted[row]
        if g < m:
            groups[row, :n] = coefficients[g][free]
            room[row] = max(limits[g] - _fixed(coefficients[g], lower, upper), 0.0)
        else:
            groups[row, : n * (g - m + 1)] = 1.0
            room[row] = unfixed
    low = np.full(n * blocks, -FAR)
    high = np.full(n * blocks, FAR)
    now = np.zeros(n * blocks)
    price = np.empty(n * blocks)
    low[:n] = lower[free]
    high[:n] = upper[free]
    now[:n] = held[free]
    for k in range(blocks):
        price[k * n : (k + 1) * n] = cost[free] if k == 0 else later.cost[k - 1][free]
    status, solved, paid = solve(
        Program(pull, risk, low, high, now, price, groups, room, tolls[counted], counted > m)
    )
    weights = np.empty((blocks, len(mu)))
    prices = np.zeros(m + blocks)
    prices[counted] = paid
    for k in range(blocks):
        weights[k] = lower if k == 0 else weights[k - 1]
        for a in range(n):
            weights[k, free[a]] = solved[k * n + a] + (weights[k - 1, free[a]] if k > 0 else 0.0)
    return status, weights, prices


@inlined
def _never_borrows(lower: Array, upper: Array, coefficients: Array, limits: Array) -> bool:
    """Whether bounds or a ceiling keep all sizes of the first block together at 1: then no
    later one is charged for more.
    """
    most = 0.0
    for i in range(len(lower)):
        most += max(abs(lower[i]), abs(upper[i]))
    for g in range(len(limits)):
        least = np.inf
        for i in range(len(lower)):
            least = min(least, coefficients[g, i])
        if 0.0 < least < np.inf:
            most = min(most, max(limits[g], _fixed(coefficients[g], lower, upper)) / least)
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
    """Block k's return and risk, to the first block's weights and to every change up to it: all
    of them are held in it.
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
def _fixed(coefficients: Array, lower: Array, upper: Array) -> float:
    """What fixed weights take of a group."""
    total = 0.0
    for i in range(len(lower)):
        if upper[i] == lower[i]:
            total += coefficients[i] * abs(lower[i])
    return total
