"""The sizing program and the state of its solver: free weights, weights at knots, full groups.

A knot is a weight at which the objective or the use of a group has a kink, or a bound: the held
weight, zero, the lower and the upper bound. A segment is the interval between two neighbouring
knots, in which the program is quadratic. All functions are compiled into the loop of `active_set`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index, Mask
from foundation.compiled import copy_values, jit_inline, jit_inline_ir
from sizing.solver.cholesky import append_row, delete_row

# State of a group: use below its headroom, at it, or beyond it at the financing cost.
BELOW_LIMIT, AT_LIMIT, BEYOND_LIMIT = range(3)

# Number of changes of the free set after which its factor and the gradient are recomputed, because
# the rounding errors of rotations and updates add up.
FACTOR_REFRESH_INTERVAL = 40

NET_LIMIT_TOL = 1e-12  # absolute tolerance of a net group: longs and shorts cancel in its sum

# Positions in SolverState.counts.
FREE_COUNT_INDEX = 0
CHANGE_COUNT_INDEX = 1
LAST_FREED_INDEX = 2


class QuadraticProgram(NamedTuple):
    """A quadratic sizing program of n weights and m groups.

    A group limits a weighted sum of weights or of their sizes; this sum is its use.

    linear_term: [n] linear gain per unit of a weight.
    variance: [n] variance of each weight, divided by the fraction of Kelly.
    scaled_covariance: [K, n/K, n/K] covariances of each of K periods, divided by the fraction of
        Kelly. Weights of two different periods have the covariance of the later period.
    lower: [n] minimum weight.
    upper: [n] maximum weight.
    held_weight: [n] current weight.
    cost: [n] trading cost per unit of weight.
    group_coefficients: [m, n] use of a group by one unit of a weight; ≥ 0 for a gross group.
    headroom: [m] maximum use of each group.
    penalty: [m] price per unit of use beyond a group's headroom; infinite for a hard limit.
    is_net_group: [m] whether a group counts signed weights wᵢ instead of |wᵢ|.
    """

    linear_term: Array
    variance: Array
    scaled_covariance: Array
    lower: Array
    upper: Array
    held_weight: Array
    cost: Array
    group_coefficients: Array
    headroom: Array
    penalty: Array
    is_net_group: Mask


class SolverState(NamedTuple):
    """State of the active-set method, updated in place at every step.

    weight: [n] weights, feasible after every step.
    gradient: [n] gradient before costs and prices, linear term - R·weight.
    segment_low: [n] lower end of a free weight's segment.
    segment_high: [n] upper end of a free weight's segment.
    weight_sign: [n] sign of the weight within its segment.
    trade_sign: [n] sign of weight - held within the segment.
    free_indices: [n] indices of the free weights; only the first counts[FREE_COUNT_INDEX] are
        valid.
    free_position: [n] position of a weight in `free_indices`; -1 for a weight at a knot.
    group_states: [m] state of each group: BELOW_LIMIT, AT_LIMIT or BEYOND_LIMIT.
    group_shadow_prices: [m] shadow price of each group.
    cholesky_factor: [n, n] Cholesky factor of the free weights' R, in the order of `free_indices`.
    barred_flags: [n] 1 for a weight that was freed and then stopped before it had moved; it is not
        freed again until another weight has moved.
    counters: [3] number of free weights; number of changes since the factor was computed; index of
        the weight freed last if no weight has moved since, else -1.
    """

    weight: Array
    gradient: Array
    segment_low: Array
    segment_high: Array
    weight_sign: Array
    trade_sign: Array
    free_indices: Index
    free_position: Index
    group_states: Index
    group_shadow_prices: Array
    cholesky_factor: Array
    barred_flags: Index
    counters: Index


@jit_inline
def scaled_covariance_element(scaled_covariance: Array, i: int, j: int) -> float:
    """Return element (i, j) of the risk matrix R for two different weights."""
    size = scaled_covariance.shape[1]
    return float(scaled_covariance[max(i // size, j // size), i % size, j % size])


@jit_inline
def update_gradient(
    scaled_covariance: Array, variance: Array, gradient: Array, i: int, change: float
) -> None:
    """Update the gradient [n] of the objective for a change of weight i, in place."""
    size = scaled_covariance.shape[1]
    period = i // size
    own = gradient[i] - variance[i] * change
    for k in range(len(scaled_covariance)):
        row = scaled_covariance[max(k, period), i - period * size]
        part = gradient[k * size : (k + 1) * size]
        for j in range(size):
            part[j] -= row[j] * change
    gradient[i] = own


@jit_inline
def gradient_at(
    linear_term: Array, scaled_covariance: Array, variance: Array, weight: Array
) -> Array:
    """Return the gradient of the objective before trading costs and shadow prices, [n]."""
    gradient = linear_term.copy()
    for i in range(len(weight)):
        if weight[i] != 0.0:
            update_gradient(scaled_covariance, variance, gradient, i, weight[i])
    return gradient


@jit_inline
def group_usage_slope(groups: Array, net: Mask, sign: Array, k: int, i: int) -> float:
    """Return the derivative of the use of group k with respect to the free weight i.

    groups, net: coefficients of the groups, and whether they count signed weights.
    sign: [n] sign of each weight within its segment.
    """
    return float(groups[k, i] if net[k] else groups[k, i] * sign[i])


@jit_inline
def is_hard_net_limit(net: Mask, penalty: Array, k: int) -> bool:
    """Return whether group k is a hard net limit.

    Even zero weights can violate such a limit, because it may require a position.
    """
    return bool(net[k] and penalty[k] == np.inf)


@jit_inline
def exceeds_gross_limit(program: QuadraticProgram, weight: Array) -> bool:
    """Return whether weights [n] exceed any hard gross limit by more than rounding."""
    passed = False
    for k in range(len(program.headroom)):
        if program.penalty[k] == np.inf and not program.is_net_group[k]:
            # Held weights may fill a group exactly, and their sum may round upwards.
            passed |= (
                group_usage(program.group_coefficients, program.is_net_group, k, weight)
                > program.headroom[k] * (1.0 + 1e-12) + 1e-15
            )
    return passed


@jit_inline
def exceeds_net_limit(program: QuadraticProgram, weight: Array) -> bool:
    """Return whether weights [n] exceed any hard net limit by more than rounding."""
    passed = False
    for k in range(len(program.headroom)):
        if is_hard_net_limit(program.is_net_group, program.penalty, k):
            passed |= (
                group_usage(program.group_coefficients, program.is_net_group, k, weight)
                > program.headroom[k] + NET_LIMIT_TOL
            )
    return passed


@jit_inline
def group_usage(groups: Array, net: Mask, k: int, weight: Array) -> float:
    """Return the use of group k by weights [n], a weighted sum of the weights or of their sizes."""
    total = 0.0
    for i in range(len(weight)):
        # Most groups have few weights.
        if groups[k, i] != 0.0:
            total += groups[k, i] * (weight[i] if net[k] else abs(weight[i]))
    return total


@jit_inline
def has_knot_at_zero(groups: Array, net: Mask, i: int) -> bool:
    """Return whether the program has a kink where weight i is 0: a gross group includes it."""
    bends = False
    for k in range(len(groups)):
        bends |= groups[k, i] > 0.0 and not net[k]
    return bends


@jit_inline
def next_knot(program: QuadraticProgram, i: int, w: float, direction: float) -> float:
    """Return the nearest knot of weight i beyond its value w.

    A knot is a kink of the objective or of a group, or a bound.

    direction: 1.0 upwards, -1.0 downwards.
    """
    nearest: float = program.upper[i] if direction > 0.0 else program.lower[i]
    held: float = program.held_weight[i]
    if (
        program.cost[i] > 0.0
        and (held - w) * direction > 0.0
        and (nearest - held) * direction > 0.0
    ):
        nearest = held
    crosses = (0.0 - w) * direction > 0.0 and (nearest - 0.0) * direction > 0.0
    if crosses and has_knot_at_zero(program.group_coefficients, program.is_net_group, i):
        nearest = 0.0
    return nearest


@jit_inline
def release_weight(
    program: QuadraticProgram, state: SolverState, i: int, low: float, high: float
) -> None:
    """Release weight i to move between two neighbouring knots, and add its row to the factor.

    low, high: the two knots.
    """
    # At the knot itself w and w - held may be 0 and have no sign. Inside the segment the signs are
    # those of its middle, as no knot lies between its ends.
    middle = 0.5 * (low + high)
    state.segment_low[i] = low
    state.segment_high[i] = high
    state.weight_sign[i] = 1.0 if middle > 0.0 else -1.0
    state.trade_sign[i] = 1.0 if middle > program.held_weight[i] else -1.0
    state.free_indices[state.counters[FREE_COUNT_INDEX]] = i
    state.free_position[i] = state.counters[FREE_COUNT_INDEX]
    state.counters[FREE_COUNT_INDEX] += 1
    _extend_factor(
        program.scaled_covariance,
        program.variance,
        state.free_indices,
        state.cholesky_factor,
        state.counters[FREE_COUNT_INDEX] - 1,
    )


@jit_inline
def _extend_factor(risk: Array, variance: Array, free: Index, factor: Array, last: int) -> None:
    """Append the row of the free weight at position `last` to the Cholesky factor.

    free: indices of the free weights.
    """
    i = free[last]
    for a in range(last):
        factor[last, a] = scaled_covariance_element(risk, i, free[a])
    factor[last, last] = variance[i]
    append_row(factor, last)


@jit_inline_ir
def fix_weight(program: QuadraticProgram, state: SolverState, i: int, w: float) -> None:
    """Fix weight i at the knot w, and remove its row from the Cholesky factor.

    After FACTOR_REFRESH_INTERVAL changes the factor and the gradient are recomputed.
    """
    removed = state.free_position[i]
    # The step ended at the knot up to rounding. The weight is set to the knot itself, so that
    # comparisons with held, zero and bounds are exact, and the gradient follows.
    change = w - state.weight[i]
    if change != 0.0:
        state.weight[i] = w
        update_gradient(program.scaled_covariance, program.variance, state.gradient, i, change)
    state.free_position[i] = -1
    state.counters[FREE_COUNT_INDEX] -= 1
    state.counters[CHANGE_COUNT_INDEX] += 1
    count = state.counters[FREE_COUNT_INDEX]
    for a in range(removed, count):
        state.free_indices[a] = state.free_indices[a + 1]
        state.free_position[state.free_indices[a]] = a
    delete_row(state.cholesky_factor, removed, count)
    if state.counters[CHANGE_COUNT_INDEX] >= FACTOR_REFRESH_INTERVAL:
        for a in range(count):
            _extend_factor(
                program.scaled_covariance,
                program.variance,
                state.free_indices,
                state.cholesky_factor,
                a,
            )
        copy_values(
            state.gradient,
            gradient_at(
                program.linear_term, program.scaled_covariance, program.variance, state.weight
            ),
        )
        state.counters[CHANGE_COUNT_INDEX] = 0
