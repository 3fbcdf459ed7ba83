"""Multi-period plan: weights for several periods, of which only the first period is traded.

    maximise  Σₖ [muₖ'wₖ - wₖ'Σₖwₖ / (2·fraction) - financingₖ·(borrowed in period k)]
              - Σₖ costₖ'|wₖ - wₖ₋₁|,   w₀ = held
    subject to  lower ≤ w₁ ≤ upper,  Σ cᵢ·|w₁ᵢ| ≤ ceiling  and  Σ nᵢ·w₁ᵢ ≤ limit for every group

Each change of a weight is paid once, whatever the length of the periods. So a position's return
until the horizon is set against one cost. The last change may count for less
(`compute_weight_change_costs`). The later periods are never traded. No bound or ceiling limits
their weights; they only inform the choice of the first period.

In terms of w₁ and the changes from period to period, the plan is a program of `active_set.py`, in
which each change has a kink at 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index, Matrix
from foundation.compiled import compiled, jit_inline, jit_inline_ir
from sizing.solver.active_set import solve_program
from sizing.solver.segments import QuadraticProgram

MAX_WEIGHT = 100.0  # larger than any weight of a plan
NO_NET_COEFFICIENTS = np.zeros((0, 0))
NO_NET_LIMITS = np.zeros(0)


class SizingProblem(NamedTuple):
    """A multi-period plan: K periods, S symbols, G ceilings and N net limits.

    mu: [K, S] expected simple return in each period.
    covariance: [K, S, S] covariance of simple returns in each period.
    cost: [K, S] trading cost per unit of weight change at the start of each period.
    financing_cost: [K] interest in each period, as a fraction of the loan.
    held_weight: [S] current weight.
    lower: [S] minimum weight in the first period. A fixed weight (lower = upper) affects the others
        through its covariance in every period, and uses its part of every ceiling.
    upper: [S] maximum weight in the first period.
    ceiling_coefficients: [G, S] coefficients cᵢ of the ceilings: Σ cᵢ·|w₁ᵢ| ≤ limit.
    ceilings: [G] ceilings. A ceiling below its use by fixed weights is raised to that use.
    kelly_fraction: fraction of full Kelly.
    net_coefficients: [N, S] coefficients nᵢ of the net limits: Σ nᵢ·w₁ᵢ ≤ limit.
    net_limits: [N] net limits. A net limit that no weights within bounds and ceilings satisfy is
        widened to the use by the closest weights.
    """

    mu: Array
    covariance: Array
    cost: Array
    financing_cost: Array
    held_weight: Array
    lower: Array
    upper: Array
    ceiling_coefficients: Array
    ceilings: Array
    kelly_fraction: float
    net_coefficients: Array = NO_NET_COEFFICIENTS
    net_limits: Array = NO_NET_LIMITS

    def solve(self) -> tuple[int, Array, Array]:
        """Solve the plan; return the status, weights [K, S] and shadow prices [G + N + K]."""
        return optimal_weights(self)


@compiled
def compute_weight_change_costs(cost: Array, signal: Array, periods: int) -> Matrix:
    """Return the expected trading cost per unit of weight change into each period, [K, S].

    Every change has its full cost, except the last change of a plan, which has the share
    P(|Z|·signal < cost) of its cost, Z standard normal. After a forecast has decayed, the next
    forecast decides. If it justifies a trade, it favours the position as often as the opposite, so
    that the exit is free on average. Otherwise the exit costs as much as any trade. Without a
    forecast the full cost applies.

    Parameters
    ----------
    cost : [S]
        trading cost per unit of weight.
    signal : [S]
        root mean square of the forecast return over the forecast's whole decay; 0 or NaN without a
        forecast.
    periods
        number of periods, K.
    """
    period_cost = np.empty((periods, len(cost)))
    for k in range(periods):
        for s in range(len(cost)):
            share = 1.0
            if 0 < k == periods - 1 and signal[s] > 0.0:
                share = math.erf(cost[s] / (signal[s] * math.sqrt(2.0)))
            period_cost[k, s] = cost[s] * share
    return period_cost


@compiled
def optimal_weights(problem: SizingProblem) -> tuple[int, Matrix, Array]:
    """Solve a multi-period plan without validating its numbers.

    Returns
    -------
    status
        SOLVED, INFEASIBLE or UNFINISHED of `active_set`.
    weights : [K, S]
        weights of every period.
    prices : [G + N + K]
        shadow prices: gain in the objective per unit of each ceiling, of each net limit, and of
        unborrowed equity in each period.
    """
    # Loops write the arrays. An assignment to a slice, or an array as an index, takes longer to
    # compile than the whole function, because of the error messages that it may raise.
    free = _select_symbols(problem, True)
    periods = len(problem.financing_cost)
    n = len(free)
    # The variables are the n free weights of the first period, then n changes for each later one. A
    # change has its knot at 0 and its cost, so that the program needs no notion of time.
    low = np.full(n * periods, -MAX_WEIGHT)
    high = np.full(n * periods, MAX_WEIGHT)
    start = np.zeros(n * periods)
    price = np.empty(n * periods)
    for a in range(n):
        low[a] = problem.lower[free[a]]
        high[a] = problem.upper[free[a]]
        start[a] = problem.held_weight[free[a]]
        for k in range(periods):
            price[k * n + a] = problem.cost[k, free[a]]
    sizes = len(problem.ceilings)
    m = sizes + len(problem.net_limits)
    penalties = _penalties(problem)
    # A group that may be exceeded at no price limits no weight, and would only cost time.
    price_index = np.empty(m + periods, dtype=np.int64)
    rows = 0
    for g in range(m + periods):
        if penalties[g] > 0.0:
            price_index[rows] = g
            rows += 1
    groups = np.zeros((rows, n * periods))
    headroom = np.empty(rows)
    penalty = np.empty(rows)
    net = np.empty(rows, dtype=np.bool_)
    # The sum of all weights beyond 1 is borrowed. Fixed weights count by size, as the proceeds of a
    # short sale do not offset borrowing.
    unfixed = 1.0 - fixed_weight_usage(problem, np.full(len(problem.held_weight), 1.0))
    for row in range(rows):
        g = price_index[row]
        penalty[row] = penalties[g]
        # For the same reason the first period's borrowing counts sizes. A later weight is a sum of
        # variables here, and its size is not a sum of theirs, so that later periods count longs
        # less shorts, which is linear (`net`).
        net[row] = g != m and g >= sizes
        if g < m:
            parts = (
                problem.ceiling_coefficients[g]
                if g < sizes
                else problem.net_coefficients[g - sizes]
            )
            headroom[row] = _headroom_net_of_fixed(problem, g)
            for a in range(n):
                groups[row, a] = parts[free[a]]
        else:
            headroom[row] = unfixed
            for a in range(n * (g - m + 1)):
                groups[row, a] = 1.0
    linear_term = _linear_terms(problem, free)
    variance, risk = _scaled_covariances(problem, free)
    status, solved, paid = solve_program(
        QuadraticProgram(
            linear_term, variance, risk, low, high, start, price, groups, headroom, penalty, net
        )
    )
    prices = np.zeros(m + periods)
    for row in range(rows):
        prices[price_index[row]] = paid[row]
    return status, _weights_by_period(problem, free, solved), prices


@jit_inline
def _select_symbols(problem: SizingProblem, free: bool) -> Index:
    """Return the indices of symbols whose weights are free or, if `free` is false, fixed."""
    chosen = np.empty(len(problem.held_weight), dtype=np.int64)
    count = 0
    for i in range(len(problem.held_weight)):
        if (problem.upper[i] > problem.lower[i]) == free:
            chosen[count] = i
            count += 1
    return chosen[:count]


@jit_inline_ir
def _weights_by_period(problem: SizingProblem, free: Index, solved: Array) -> Array:
    """Return weights [K, S] from the solution of the program.

    free: [n] indices of the symbols with free weights.
    solved: [n·K] weights in the first period, then changes into each later period.
    """
    n = len(free)
    periods = len(problem.financing_cost)
    weights = np.empty((periods, len(problem.lower)))
    for k in range(periods):
        for s in range(len(problem.lower)):
            weights[k, s] = problem.lower[s] if k == 0 else weights[k - 1, s]
        for a in range(n):
            weights[k, free[a]] = solved[k * n + a] + (weights[k - 1, free[a]] if k > 0 else 0.0)
    return weights


@jit_inline_ir
def _penalties(problem: SizingProblem) -> Array:
    """Return the penalty per unit of excess of each limit: infinite, except for borrowing."""
    groups = len(problem.ceilings) + len(problem.net_limits)
    penalties = np.full(groups + len(problem.financing_cost), np.inf)
    free_of_penalty = cannot_borrow(problem)
    for k in range(len(problem.financing_cost)):
        penalties[groups + k] = 0.0 if free_of_penalty else problem.financing_cost[k]
    return penalties


@jit_inline_ir
def cannot_borrow(problem: SizingProblem) -> bool:
    """Return whether bounds or a ceiling keep the gross weight in the first period at 1 or less."""
    # Such an account cannot borrow, so no later period is charged for more than 1 either. Otherwise
    # interest that is never paid would hold back the first period.
    most = 0.0
    for i in range(len(problem.lower)):
        most += max(abs(problem.lower[i]), abs(problem.upper[i]))
    for g in range(len(problem.ceilings)):
        least = np.inf
        for i in range(len(problem.lower)):
            least = min(least, problem.ceiling_coefficients[g, i])
        if 0.0 < least < np.inf:
            ceiling = max(
                problem.ceilings[g], fixed_weight_usage(problem, problem.ceiling_coefficients[g])
            )
            most = min(most, ceiling / least)
    return bool(most <= 1.0 + 1e-9)


@jit_inline_ir
def _linear_terms(problem: SizingProblem, free: Index) -> Array:
    """Return the linear gain per unit of each variable of the program, [n·K].

    The variables are the first period's weights and the changes into later periods. The weights of
    period k are the sum of the first period's weights and the changes up to period k. So each of
    these variables earns the return of period k, less the covariance with fixed weights.

    free: [n] indices of the symbols with free weights.
    """
    n = len(free)
    periods = len(problem.financing_cost)
    fixed = _select_symbols(problem, False)
    linear_term = np.zeros(n * periods)
    for k in range(periods):
        for a in range(n):
            i = free[a]
            gain = problem.mu[k, i]
            for j in fixed:
                gain -= problem.covariance[k, i, j] * problem.lower[j] / problem.kelly_fraction
            for c in range(k + 1):
                linear_term[c * n + a] += gain
    return linear_term


@jit_inline_ir
def _scaled_covariances(problem: SizingProblem, free: Index) -> tuple[Array, Array]:
    """Return variances [n·K] and covariances [K, n, n] of the variables over the fraction of Kelly.

    Each pair of variables has the summed covariance of every period that both affect: the period
    of the later variable, and all periods after it.

    free: [n] indices of the symbols with free weights.
    """
    n = len(free)
    periods = len(problem.financing_cost)
    risk = np.zeros((periods, n, n))
    variance = np.empty(n * periods)
    own = np.empty(n)
    for a in range(n):
        for k in range(periods):
            for b in range(n):
                own[b] = problem.covariance[k, free[a], free[b]] / problem.kelly_fraction
            for q in range(k + 1):
                row = risk[q, a]
                for b in range(n):
                    row[b] += own[b]
        for q in range(periods):
            variance[q * n + a] = risk[q, a, a]
    return variance, risk


@jit_inline
def _headroom_net_of_fixed(problem: SizingProblem, limit: int) -> float:
    """Return what fixed weights leave of a limit.

    limit: index of the limit, ceilings first, then net limits.
    """
    if limit < len(problem.ceilings):
        left = problem.ceilings[limit] - fixed_weight_usage(
            problem, problem.ceiling_coefficients[limit]
        )
        return float(max(left, 0.0))
    g = limit - len(problem.ceilings)
    headroom = float(problem.net_limits[g])
    for i in range(len(problem.lower)):
        if problem.upper[i] == problem.lower[i]:
            headroom -= problem.net_coefficients[g, i] * problem.lower[i]
    return headroom


@jit_inline
def fixed_weight_usage(problem: SizingProblem, coefficients: Array) -> float:
    """Return the part of a group's gross limit that fixed weights take up.

    coefficients: [S] coefficients of the group.
    """
    total = 0.0
    for i in range(len(problem.lower)):
        if problem.upper[i] == problem.lower[i]:
            total += coefficients[i] * abs(problem.lower[i])
    return total
