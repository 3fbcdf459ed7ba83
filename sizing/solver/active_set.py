"""The sizing program, solved exactly by a primal active-set method, compiled.

    maximise  pull'w - w'Rw / 2 - cost'|w - held| - Σ toll·(what a group takes beyond its room)
    subject to  lower ≤ w ≤ upper,  Σ gᵢ·|wᵢ| ≤ room for every group without a toll

|w| bends at 0 and |w - held| at `held`. Between such knots the program is a quadratic one; a weight
is either free within its segment or stays at a knot, where the gradient may lie anywhere between
the slopes left and right of it. The method moves to the optimum of the free weights, stops at
whatever knot or ceiling comes first, and frees the weight whose gradient lies furthest outside. A
ceiling with a toll is passed where its price would exceed that. It starts from what is held, so
that few steps are needed where little changes, and ends with weights that are exactly at a knot, or
exactly where the gradient vanishes.

The Cholesky factor of the free weights' R is kept from step to step: a step costs O(n · free).
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from foundation.compiled import compiled, inlined
from sizing.solver.cholesky import RIDGE, eliminate, solve_in_place
from sizing.solver.segments import (
    AT,
    BELOW,
    BOUGHT,
    Program,
    State,
    bends_at_zero,
    beyond_room,
    fix_weight,
    free_weight,
    neighbour,
    taken,
    taking,
)

SOLVED, INFEASIBLE, UNFINISHED = range(3)
LONG = 100.0  # a step in weights that only a nearly singular R asks for
STILL = 1e-13  # a weight that would move less does not
TOLERANCE = 1e-11  # of the largest gradient
REPEATS = 4  # solutions refined at most, and full steps taken again where the first left a gradient


@compiled
def solve(program: Program) -> tuple[int, Array, Array]:
    """Status, weights [n], and what one more of each group's room would be worth [m]; adds a
    ridge to `risk` in place.
    """
    n = len(program.pull)
    m = len(program.room)
    if n == 0:
        return SOLVED, np.empty(0), np.zeros(m)
    tolerance = TOLERANCE * (program.cost.max() + _ridged(program))
    state = _start(program)
    if state.counts[0] < 0:
        return INFEASIBLE, state.weight, state.price
    step = np.empty(n)
    again = 0
    for _ in range(100 + 30 * (n + m)):
        _direction(program, state, step)
        if _move(program, state, step):
            again = 0
            continue
        if again < REPEATS and _slack(program, state) > 10.0 * tolerance:
            again += 1
            continue
        if _leave_ceiling(program, state, tolerance):
            continue
        if not _free_one(program, state, tolerance):
            _tidy(state)
            return SOLVED, state.weight, state.price
    return UNFINISHED, state.weight, state.price


@inlined
def _tidy(state: State) -> None:
    """A free weight that ended at a knot but for rounding is put on it."""
    for a in range(state.counts[0]):
        i = state.free[a]
        for knot in (state.low[i], state.high[i]):
            if abs(state.weight[i] - knot) <= STILL:
                state.weight[i] = knot


@inlined
def _ridged(program: Program) -> float:
    """Adds the ridge to the risk, in place; the largest variance, or pull where that is larger,
    above 0.
    """
    largest = max(np.abs(program.pull).max(), 1e-30)
    for i in range(len(program.pull)):
        largest = max(largest, program.risk[i, i])
    for i in range(len(program.pull)):
        program.risk[i, i] += RIDGE * largest
    return float(largest)


@inlined
def _slack(program: Program, state: State) -> float:
    """The largest gradient left over among the free weights: 0 at their optimum, more where R
    is nearly singular.
    """
    largest = 0.0
    for a in range(state.counts[0]):
        largest = max(largest, abs(_net_gradient(program, state, state.free[a])))
    return largest


@inlined
def _net_gradient(program: Program, state: State, i: int) -> float:
    """Of a free weight, net of cost and of the groups' prices."""
    net = state.gradient[i] - program.cost[i] * state.side[i]
    for k in range(len(program.room)):
        if state.price[k] != 0.0:
            net -= state.price[k] * taking(program, state, k, i)
    return float(net)


@inlined
def _start(program: Program) -> State:
    """What is held, within bounds; nothing, as far as bounds allow, where that passes a group's
    room.

    counts[0] is -1 where nothing passes it too.
    """
    n = len(program.pull)
    m = len(program.room)
    weight = np.minimum(np.maximum(program.held, program.lower), program.upper)
    least = np.minimum(np.maximum(0.0, program.lower), program.upper)
    feasible = not beyond_room(program, least)
    if beyond_room(program, weight):
        weight = least
    state = State(
        weight,
        program.pull - program.risk @ weight,
        np.empty(n),
        np.empty(n),
        np.empty(n),
        np.empty(n),
        np.empty(n, dtype=np.int64),
        np.full(n, -1),
        np.zeros(m, dtype=np.int64),
        np.zeros(m),
        np.empty((n, n)),
        np.zeros(n, dtype=np.int64),
        np.zeros(3, dtype=np.int64),
    )
    if not feasible:
        state.counts[0] = -1
        return state
    for k in range(m):
        if program.toll[k] < np.inf and taken(program, k, weight) > program.room[k]:
            state.active[k] = BOUGHT
            state.price[k] = program.toll[k]
    for i in range(n):
        w = weight[i]
        at_held = w == program.held[i] and program.cost[i] > 0.0
        at_zero = w == 0.0 and bends_at_zero(program, i)
        if not (at_held or at_zero or w == program.lower[i] or w == program.upper[i]):
            free_weight(
                program, state, i, neighbour(program, i, w, -1.0), neighbour(program, i, w, 1.0)
            )
    return state


@inlined
def _direction(program: Program, state: State, step: Array) -> None:
    """Step [free] to the optimum of the free weights with the groups that are at their ceilings
    there, and all prices.

    Where R is nearly singular the steps without ceilings are huge, and what is left of them is
    refined.
    """
    count = state.counts[0]
    held = np.flatnonzero(state.active == AT)
    for k in range(len(program.room)):
        state.price[k] = program.toll[k] if state.active[k] == BOUGHT else 0.0
    rest = np.empty(count)
    part = np.empty(count)
    lines = np.empty((len(held), count))
    prices = np.empty(len(held))
    for a in range(count):
        i = state.free[a]
        step[a] = 0.0
        rest[a] = _net_gradient(program, state, i)
        for r in range(len(held)):
            lines[r, a] = taking(program, state, held[r], i)
    for _ in range(REPEATS):
        part[:] = rest
        huge = _toward(state, lines, part, prices)
        _add(step, 1.0, part)
        for r in range(len(held)):
            state.price[held[r]] += prices[r]
            _add(rest, -prices[r], lines[r])
        if not huge:
            break
        for a in range(count):
            for b in range(count):
                rest[a] -= program.risk[state.free[a], state.free[b]] * part[b]


@inlined
def _toward(state: State, lines: Array, part: Array, prices: Array) -> bool:
    """part [free], a gradient, becomes the step that R and the lines allow, prices [rows] what
    holds it on them.

    Whether the step without the lines is so long that this one is inexact. A last projection puts
    it onto the lines.
    """
    count = len(part)
    rows = len(prices)
    solve_in_place(state.factor, part)
    if rows == 0:
        return False
    longest = _size(part)
    answers = lines.copy()
    system = np.empty((rows, rows))
    gram = np.empty((rows, rows))
    off = np.empty(rows)
    for r in range(rows):
        solve_in_place(state.factor, answers[r])
        prices[r] = np.dot(lines[r], part)
    for r in range(rows):
        for q in range(rows):
            system[r, q] = np.dot(lines[r], answers[q])
            gram[r, q] = np.dot(lines[r], lines[q])
    eliminate(system, prices, 1e-15)
    for r in range(rows):
        _add(part, -prices[r], answers[r])
    for r in range(rows):
        off[r] = np.dot(lines[r], part)
    rank = eliminate(gram, off, 1e-10)
    for r in range(rows):
        _add(part, -off[r], lines[r])
    if rank >= count:
        part[:] = 0.0
    return bool(longest > LONG)


@inlined
def _add(x: Array, times: float, y: Array) -> None:
    """So much of y to the leading elements of x, in place, with no array made on the way."""
    for a in range(len(y)):
        x[a] += times * y[a]


@inlined
def _size(x: Array) -> float:
    """The largest element's, 0 of none."""
    largest = 0.0
    for a in range(len(x)):
        largest = max(largest, abs(x[a]))
    return largest


@inlined
def _move(program: Program, state: State, step: Array) -> bool:
    """Take the step as far as knots and ceilings let it; whether one of them stopped it."""
    to_knot, i = _nearest_knot(state, step)
    to_ceiling, k = _nearest_ceiling(program, state, step)
    length = min(to_knot, to_ceiling, 1.0)
    if length > 0.0:
        for a in range(state.counts[0]):
            moved = length * step[a]
            at = state.free[a]
            state.weight[at] += moved
            for j in range(len(state.weight)):
                state.gradient[j] -= program.risk[at, j] * moved
            if abs(moved) > STILL:
                state.barred[:] = 0
                state.counts[
                    2
                ] = -1  # what was freed last has moved: a knot that it meets now it may cross
    if to_ceiling < 1.0 and to_ceiling <= to_knot:
        state.active[k] = AT
        state.barred[:] = 0
        return True
    if to_knot < 1.0:
        if length == 0.0 and i == state.counts[2]:
            state.barred[i] = 1
        fix_weight(program, state, i, state.high[i] if step[state.place[i]] > 0.0 else state.low[i])
        return True
    return False


@inlined
def _nearest_knot(state: State, step: Array) -> tuple[float, int]:
    """Share of the step after which the first free weight reaches the end of its segment, and
    that weight.
    """
    nearest = np.inf
    which = -1
    for a in range(state.counts[0]):
        i = state.free[a]
        if abs(step[a]) > STILL:
            share = max(
                ((state.high[i] if step[a] > 0.0 else state.low[i]) - state.weight[i]) / step[a],
                0.0,
            )
            if share < nearest:
                nearest = share
                which = i
    return nearest, which


@inlined
def _nearest_ceiling(program: Program, state: State, step: Array) -> tuple[float, int]:
    """Share of the step after which the first group comes to its ceiling, from either side, and
    that group.
    """
    nearest = np.inf
    which = -1
    for k in range(len(program.room)):
        if state.active[k] == AT:
            continue
        rise = 0.0
        size = 0.0
        for a in range(state.counts[0]):
            i = state.free[a]
            rise += taking(program, state, k, i) * step[a]
            size += program.groups[k, i] * abs(step[a])
        toward = -rise if state.active[k] == BOUGHT else rise
        if toward > max(1e-10 * size, STILL):
            share = max((program.room[k] - taken(program, k, state.weight)) / rise, 0.0)
            if share < nearest:
                nearest = share
                which = k
    return nearest, which


@inlined
def _leave_ceiling(program: Program, state: State, tolerance: float) -> bool:
    """Let the group leave its ceiling whose price is most out of place: downwards below 0,
    upwards above its toll.
    """
    worst = tolerance
    at = -1
    side = BELOW
    for k in range(len(state.active)):
        if state.active[k] != AT:
            continue
        if -state.price[k] > worst:
            worst = -state.price[k]
            at = k
            side = BELOW
        if state.price[k] - program.toll[k] > worst:
            worst = state.price[k] - program.toll[k]
            at = k
            side = BOUGHT
    if at >= 0:
        state.active[at] = side
        state.price[at] = program.toll[at] if side == BOUGHT else 0.0
        state.barred[:] = 0
    return at >= 0


@inlined
def _free_one(program: Program, state: State, tolerance: float) -> bool:
    """Free the weight at a knot whose gradient lies furthest outside the slopes around it, if
    one does.
    """
    worst = tolerance
    chosen = -1
    way = 0.0
    for i in range(len(state.weight)):
        if state.place[i] >= 0 or state.barred[i]:
            continue
        w = state.weight[i]
        price = 0.0
        gradient = state.gradient[i]
        for k in range(len(program.room)):
            if program.net[k]:
                gradient -= state.price[k] * program.groups[k, i]
            else:
                price += state.price[k] * program.groups[k, i]
        if w < program.upper[i]:
            slope = (program.cost[i] if w >= program.held[i] else -program.cost[i]) + (
                price if w >= 0.0 else -price
            )
            if gradient - slope > worst:
                worst = gradient - slope
                chosen = i
                way = 1.0
        if w > program.lower[i]:
            slope = (-program.cost[i] if w <= program.held[i] else program.cost[i]) + (
                -price if w <= 0.0 else price
            )
            if slope - gradient > worst:
                worst = slope - gradient
                chosen = i
                way = -1.0
    if chosen < 0:
        return False
    state.counts[2] = chosen
    w = state.weight[chosen]
    beyond = neighbour(program, chosen, w, way)
    free_weight(program, state, chosen, min(w, beyond), max(w, beyond))
    return True
