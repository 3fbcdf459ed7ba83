"""The sizing program and where its method stands: weights that are free or at a knot, groups at
their ceilings, compiled.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array, Index, Mask
from foundation.compiled import inlined
from sizing.solver.cholesky import append_row, delete_row

BELOW, AT, BOUGHT = range(3)  # its room: where a group stands
REFRESH = 40  # changes of the free set after which its factor is computed anew


class Program(NamedTuple):
    """n weights, m groups: pull, lower, upper, held, cost [n], risk [n, n], groups [m, n], room,
    toll, net [m].

    toll: of one more than a group's room; infinite where there is no more. net: whether a group
    counts wᵢ instead of |wᵢ|.
    """

    pull: Array
    risk: Array
    lower: Array
    upper: Array
    held: Array
    cost: Array
    groups: Array
    room: Array
    toll: Array
    net: Mask


class State(NamedTuple):
    """Where the method is.

    weight, gradient [n]: gradient = pull - R·weight. low, high, sign, side [n]: a free weight's
    segment and the signs of w and w - held in it. free [n]: weights that are free, the first
    counts[0] of them; place [n]: of each in it, -1 at a knot. active [m]: where groups stand; price
    [m]: their multipliers. factor [n, n]: Cholesky factor of the free weights' R. barred [n]:
    weights that moved nothing when freed. counts: free weights, changes since the factor was
    computed, the weight freed last while nothing has moved since, or -1.
    """

    weight: Array
    gradient: Array
    low: Array
    high: Array
    sign: Array
    side: Array
    free: Index
    place: Index
    active: Index
    price: Array
    factor: Array
    barred: Index
    counts: Index


@inlined
def taking(program: Program, state: State, k: int, i: int) -> float:
    """What one more of a free weight takes of a group's room."""
    return float(program.groups[k, i] if program.net[k] else program.groups[k, i] * state.sign[i])


@inlined
def beyond_room(program: Program, weight: Array) -> bool:
    """Whether weights take more of a group than its room, where there is no more."""
    passed = False
    for k in range(len(program.room)):
        if program.toll[k] == np.inf:
            passed |= taken(program, k, weight) > program.room[k] * (1.0 + 1e-12) + 1e-15
    return passed


@inlined
def taken(program: Program, k: int, weight: Array) -> float:
    """What weights take of a group's room."""
    total = 0.0
    for i in range(len(weight)):
        total += program.groups[k, i] * (weight[i] if program.net[k] else abs(weight[i]))
    return total


@inlined
def bends_at_zero(program: Program, i: int) -> bool:
    """Whether the program bends where the weight is 0: a group counts its size."""
    bends = False
    for k in range(len(program.room)):
        bends |= program.groups[k, i] > 0.0 and not program.net[k]
    return bends


@inlined
def neighbour(program: Program, i: int, w: float, way: float) -> float:
    """The nearest knot of weight i beyond w on one side."""
    nearest: float = program.upper[i] if way > 0.0 else program.lower[i]
    held: float = program.held[i]
    if program.cost[i] > 0.0 and (held - w) * way > 0.0 and (nearest - held) * way > 0.0:
        nearest = held
    if (0.0 - w) * way > 0.0 and (nearest - 0.0) * way > 0.0 and bends_at_zero(program, i):
        nearest = 0.0
    return nearest


@inlined
def free_weight(program: Program, state: State, i: int, low: float, high: float) -> None:
    """Weight i may move between two neighbouring knots; its row joins the factor."""
    middle = 0.5 * (low + high)
    state.low[i] = low
    state.high[i] = high
    state.sign[i] = 1.0 if middle > 0.0 else -1.0
    state.side[i] = 1.0 if middle > program.held[i] else -1.0
    state.free[state.counts[0]], state.place[i] = i, state.counts[0]
    state.counts[0] += 1
    append_row(program.risk, state.free[: state.counts[0]], state.factor)


@inlined
def fix_weight(program: Program, state: State, i: int, w: float) -> None:
    """Weight i stays at the knot w; its row leaves the factor, which is computed anew after
    some changes.
    """
    gone = state.place[i]
    change = w - state.weight[i]
    if change != 0.0:
        state.weight[i] = w
        for j in range(len(state.weight)):
            state.gradient[j] -= program.risk[i, j] * change
    state.place[i] = -1
    state.counts[0] -= 1
    state.counts[1] += 1
    count = state.counts[0]
    for a in range(gone, count):
        state.free[a] = state.free[a + 1]
        state.place[state.free[a]] = a
    delete_row(state.factor, gone, count)
    if state.counts[1] >= REFRESH:
        for a in range(count):
            append_row(program.risk, state.free[: a + 1], state.factor)
        state.gradient[:] = program.pull - program.risk @ state.weight
        state.counts[1] = 0
