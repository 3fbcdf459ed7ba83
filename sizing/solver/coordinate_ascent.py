"""A warm start near the optimum for programs of many weights, by coordinate ascent, compiled.

The active-set method moves one weight to or from a knot (a kink of the objective) per step. If some
350 of 500 held weights are to be closed, this takes 700 steps. Coordinate ascent moves every weight
in turn to its best value while the others stay, at O(n) per move. A ceiling has a price that rises
with its excess: an augmented Lagrangian (Hestenes 1969; Bertsekas 1982, Constrained optimization
and Lagrange multiplier methods). A few dozen rounds find nearly all knots and nearly every price.
The active-set method then corrects the remaining ones; it reaches the optimum from any start.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Index
from foundation.compiled import compiled, jit_inline, jit_inline_ir
from sizing.solver.segments import QuadraticProgram, gradient_at, group_usage, update_gradient

# Number of weights from which coordinate ascent pays. In a narrower program it costs as much as the
# steps that it saves.
MIN_WEIGHTS_FOR_ASCENT = 100

MAX_ASCENT_ROUNDS = 40  # maximum number of rounds
ROUND_WEIGHT_TOL = 1e-4  # largest move of a weight in a round at which the ascent ends


@compiled
def ascend_coordinates(program: QuadraticProgram, weight: Array, min_size_weight: Array) -> None:
    """Move weights [n] within their bounds to values near the optimum, in place.

    weight: [n] start, overwritten.
    min_size_weight: [n] smallest weights within bounds. If they satisfy the hard gross limits, so
        does the result.
    """
    m = len(program.headroom)
    members = _groups_by_weight(program)
    gradient = gradient_at(program.linear_term, program.scaled_covariance, program.variance, weight)
    price = np.zeros(m)
    settled = np.zeros(m)
    stiffness = np.empty(m)
    use = np.empty(m)
    for k in range(m):
        use[k] = group_usage(program.group_coefficients, program.is_net_group, k, weight)
    for _ in range(MAX_ASCENT_ROUNDS):
        _set_stiffness(program, members, weight, stiffness)
        for k in range(m):
            settled[k] = price[k]
            price[k] = _group_shadow_price(program, k, use[k], settled[k], stiffness[k])
        furthest = 0.0
        for i in range(len(weight)):
            best = _best_weight_value(program, members, i, weight[i], gradient[i], price, stiffness)
            change = best - weight[i]
            if change == 0.0:
                continue
            furthest = max(furthest, abs(change))
            for c in range(1, 1 + members[i, 0]):
                k = members[i, c]
                grown = change if program.is_net_group[k] else abs(best) - abs(weight[i])
                use[k] += program.group_coefficients[k, i] * grown
                price[k] = _group_shadow_price(program, k, use[k], settled[k], stiffness[k])
            weight[i] = best
            update_gradient(program.scaled_covariance, program.variance, gradient, i, change)
        if furthest <= ROUND_WEIGHT_TOL:
            break
    shrink_to_limits(program, weight, min_size_weight)


@jit_inline_ir
def _groups_by_weight(program: QuadraticProgram) -> Index:
    """Return the number of groups of each weight, then the groups' indices, [n, 1 + m]."""
    members = np.zeros((len(program.linear_term), 1 + len(program.headroom)), dtype=np.int64)
    for i in range(len(members)):
        for k in range(len(program.headroom)):
            if program.group_coefficients[k, i] != 0.0:
                members[i, 0] += 1
                members[i, members[i, 0]] = k
    return members


@jit_inline_ir
def _set_stiffness(
    program: QuadraticProgram, members: Index, weight: Array, stiffness: Array
) -> None:
    """Write for each group the slope of its price with respect to its excess, [m].

    All weights that are not at a knot respond to a price together, each by its variance. With a
    slope equal to their joint response, a group's price converges in few rounds, and the weights
    stay free to move.

    members: result of `_groups_by_weight`.
    stiffness: [m] result.
    """
    n = len(weight)
    for k in range(len(stiffness)):
        stiffness[k] = 1e-30
    variance = 0.0
    for i in range(n):
        variance += program.variance[i] / n
        between = _is_between_knots(program, i, weight[i])
        for c in range(1, 1 + members[i, 0]):
            k = members[i, c]
            square = program.group_coefficients[k, i] ** 2
            stiffness[k] = stiffness[k] + square if between else max(stiffness[k], square)
    for k in range(len(stiffness)):
        stiffness[k] = variance / stiffness[k]


@jit_inline
def _group_shadow_price(
    program: QuadraticProgram, k: int, use: float, settled: float, stiffness: float
) -> float:
    """Return the price per unit of a group's use: at least 0, at most the group's penalty.

    settled: price at the start of the round.
    stiffness: slope of the price with respect to the use beyond the headroom.
    """
    price = settled + stiffness * (use - program.headroom[k])
    return float(min(max(price, 0.0), program.penalty[k]))


@jit_inline
def _is_between_knots(program: QuadraticProgram, i: int, w: float) -> bool:
    """Return whether weight i, at w, is neither zero nor held weight nor at a bound."""
    at_bound = w == program.lower[i] or w == program.upper[i]
    return bool(w not in (0.0, program.held_weight[i]) and not at_bound)


@jit_inline_ir
def _best_weight_value(
    program: QuadraticProgram,
    members: Index,
    i: int,
    w: float,
    gradient: float,
    price: Array,
    stiffness: Array,
) -> float:
    """Return the optimal value of weight i with all other weights fixed.

    members: result of `_groups_by_weight`.
    w, gradient: current value of the weight, and gradient of the objective there.
    price, stiffness: [m] price of each group, and its slope.
    """
    size = 0.0
    curve = program.variance[i]
    for c in range(1, 1 + members[i, 0]):
        k = members[i, c]
        part = program.group_coefficients[k, i]
        if price[k] > 0.0:
            if price[k] < program.penalty[k]:
                curve += stiffness[k] * part * part
            if program.is_net_group[k]:
                gradient -= price[k] * part
            else:
                size += price[k] * part
    # The summit of the parabola without bends, then with them: the size's price bends at 0 and the
    # cost at `held`, and both push the summit towards the bend from either side.
    summit = w + gradient / curve
    held = program.held_weight[i]
    outside = (program.cost[i] + size) / curve
    inside = (size - program.cost[i]) / curve * (1.0 if held > 0.0 else -1.0)
    low = min(held, 0.0)
    high = max(held, 0.0)
    best = max(min(summit + outside, low), min(summit - inside, high), summit - outside)
    return float(min(max(best, program.lower[i]), program.upper[i]))


@compiled
def shrink_to_limits(program: QuadraticProgram, weight: Array, min_size_weight: Array) -> None:
    """Shrink weights that violate a hard gross limit: first weights not at a knot, then all.

    A knot is zero, the held weight or a bound. Net limits are not enforced here, because smaller
    weights need not satisfy them.

    weight: [n] weights, overwritten.
    min_size_weight: [n] smallest weights within bounds.
    """
    for k in range(len(program.headroom)):
        over = 0.0
        if program.penalty[k] == np.inf and not program.is_net_group[k]:
            over = (
                group_usage(program.group_coefficients, program.is_net_group, k, weight)
                - program.headroom[k]
            )
        for knots in (False, True):
            for i in range(len(weight)):
                part = program.group_coefficients[k, i]
                if over > 0.0 and part > 0.0 and _is_between_knots(program, i, weight[i]) != knots:
                    cut = min(over / part, abs(weight[i] - min_size_weight[i]))
                    weight[i] += cut if weight[i] < min_size_weight[i] else -cut
                    over -= cut * part
