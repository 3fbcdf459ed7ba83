"""The sizing program, solved exactly by a primal active-set method, compiled.

    maximise  pull'w - w'Rw / 2 - cost'|w - held|
    subject to  lower ≤ w ≤ upper,  Σ gᵢ·|wᵢ| ≤ room for every group

|w| bends at 0 and |w - held| at `held`. Between such knots the program is a quadratic one; a weight is either free within
its segment or stays at a knot, where the gradient may lie anywhere between the slopes left and right of it. The method
moves to the optimum of the free weights, stops at whatever knot or ceiling comes first, and frees the weight whose gradient
lies furthest outside. It starts from what is held, so that few steps are needed where little changes, and ends with
weights that are exactly at a knot, or exactly where the gradient vanishes.

The Cholesky factor of the free weights' R is kept from step to step: a step costs O(n · free).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sizing.factor import RIDGE, append_row, delete_row, eliminate, solve_in_place
from trainingdata.compiled import compiled, inlined

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]

SOLVED, INFEASIBLE, UNFINISHED = range(3)
LONG = 100.0  # a step in weights that only a nearly singular R asks for
STILL = 1e-13  # a weight that would move less does not
TOLERANCE = 1e-11  # of the largest gradient
REPEATS = 4  # solutions refined at most, and full steps taken again where the first left a gradient
REFRESH = 40  # changes of the free set after which its factor is computed anew


class Program(NamedTuple):
    """n weights, m groups: pull, lower, upper, held, cost [n], risk [n, n], groups [m, n], room [m]."""

    pull: Array
    risk: Array
    lower: Array
    upper: Array
    held: Array
    cost: Array
    groups: Array
    room: Array


class State(NamedTuple):
    """Where the method is.

    weight, gradient [n]: gradient = pull - R·weight. low, high, sign, side [n]: a free weight's segment and the signs of w
    and w - held in it. free [n]: weights that are free, the first counts[0] of them; place [n]: of each in it, -1 at a knot.
    active [m]: groups at their ceiling; price [m]: their multipliers. factor [n, n]: Cholesky factor of the free weights'
    R. barred [n]: weights that moved nothing when freed. counts: free weights, changes since the factor was computed, the
    weight freed last while nothing has moved since, or -1.
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


@compiled
def solve(program: Program) -> tuple[int, Array, Array]:
    """Status, weights [n], and what one more of each group's room would be worth [m]; adds a ridge to `risk` in place."""
    n, m = len(program.pull), len(program.room)
    if n == 0:
        return SOLVED, np.empty(0), np.zeros(m)
    tolerance = TOLERANCE * (program.cost.max() + _ridged(program))
    state = _start(program)
    if state.counts[0] < 0:
        return INFEASIBLE, state.weight, state.price
    step, again = np.empty(n), 0
    for _ in range(100 + 30 * (n + m)):
        _direction(program, state, step)
        if _move(program, state, step):
            again = 0
            continue
        if again < REPEATS and _slack(program, state) > 10.0 * tolerance:
            again += 1
            continue
        if _drop_group(state, tolerance):
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
    """Adds the ridge to the risk, in place; the largest variance, or pull where that is larger, above 0."""
    largest = max(np.abs(program.pull).max(), 1e-30)
    for i in range(len(program.pull)):
        largest = max(largest, program.risk[i, i])
    for i in range(len(program.pull)):
        program.risk[i, i] += RIDGE * largest
    return float(largest)


@inlined
def _slack(program: Program, state: State) -> float:
    """The largest gradient left over among the free weights: 0 at their optimum, more where R is nearly singular."""
    largest = 0.0
    for a in range(state.counts[0]):
        i = state.free[a]
        rest = state.gradient[i] - program.cost[i] * state.side[i]
        for k in range(len(program.room)):
            if state.active[k]:
                rest -= state.price[k] * program.groups[k, i] * state.sign[i]
        largest = max(largest, abs(rest))
    return largest


@inlined
def _start(program: Program) -> State:
    """What is held, within bounds; nothing, as far as bounds allow, where that passes a group's room.

    counts[0] is -1 where nothing passes it too.
    """
    n, m = len(program.pull), len(program.room)
    weight = np.minimum(np.maximum(program.held, program.lower), program.upper)
    least = np.minimum(np.maximum(0.0, program.lower), program.upper)
    feasible = not _beyond(program, least)
    if _beyond(program, weight):
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
    for i in range(n):
        w = weight[i]
        at_held = w == program.held[i] and program.cost[i] > 0.0
        at_zero = w == 0.0 and _bends_at_zero(program, i)
        if not (at_held or at_zero or w == program.lower[i] or w == program.upper[i]):
            _free(program, state, i, _neighbour(program, i, w, -1.0), _neighbour(program, i, w, 1.0))
    return state


@inlined
def _beyond(program: Program, weight: Array) -> bool:
    """Whether weights take more of a group than its room."""
    beyond = False
    for k in range(len(program.room)):
        beyond |= np.dot(program.groups[k], np.abs(weight)) > program.room[k] * (1.0 + 1e-12) + 1e-15
    return beyond


@inlined
def _bends_at_zero(program: Program, i: int) -> bool:
    return bool(np.any(program.groups[:, i] > 0.0))


@inlined
def _neighbour(program: Program, i: int, w: float, way: float) -> float:
    """The nearest knot of weight i beyond w on one side."""
    nearest: float = program.upper[i] if way > 0.0 else program.lower[i]
    held: float = program.held[i]
    if program.cost[i] > 0.0 and (held - w) * way > 0.0 and (nearest - held) * way > 0.0:
        nearest = held
    if (0.0 - w) * way > 0.0 and (nearest - 0.0) * way > 0.0 and _bends_at_zero(program, i):
        nearest = 0.0
    return nearest


@inlined
def _free(program: Program, state: State, i: int, low: float, high: float) -> None:
    """Weight i may move between two neighbouring knots; its row joins the factor."""
    middle = 0.5 * (low + high)
    state.low[i], state.high[i] = low, high
    state.sign[i] = 1.0 if middle > 0.0 else -1.0
    state.side[i] = 1.0 if middle > program.held[i] else -1.0
    state.free[state.counts[0]], state.place[i] = i, state.counts[0]
    state.counts[0] += 1
    append_row(program.risk, state.free[: state.counts[0]], state.factor)


@inlined
def _fix(program: Program, state: State, i: int, w: float) -> None:
    """Weight i stays at the knot w; its row leaves the factor, which is computed anew after some changes."""
    gone, change = state.place[i], w - state.weight[i]
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


@inlined
def _direction(program: Program, state: State, step: Array) -> None:
    """Step [free] to the optimum of the free weights with the active groups at their ceilings, and the groups' prices.

    Where R is nearly singular the steps without ceilings are huge, and what is left of them is refined.
    """
    count, held = state.counts[0], np.flatnonzero(state.active)
    state.price[:] = 0.0
    step[:count] = 0.0
    rest, part = np.empty(count), np.empty(count)
    lines, prices = np.empty((len(held), count)), np.empty(len(held))
    for a in range(count):
        i = state.free[a]
        rest[a] = state.gradient[i] - program.cost[i] * state.side[i]
        for r in range(len(held)):
            lines[r, a] = program.groups[held[r], i] * state.sign[i]
    for _ in range(REPEATS):
        part[:] = rest
        huge = _toward(state, lines, part, prices)
        step[:count] += part
        for r in range(len(held)):
            state.price[held[r]] += prices[r]
            rest -= prices[r] * lines[r]
        if not huge:
            break
        for a in range(count):
            for b in range(count):
                rest[a] -= program.risk[state.free[a], state.free[b]] * part[b]


@inlined
def _toward(state: State, lines: Array, part: Array, prices: Array) -> bool:
    """part [free], a gradient, becomes the step that R and the lines allow, prices [rows] what holds it on them.

    Whether the step without the lines is so long that this one is inexact. A last projection puts it onto the lines.
    """
    count, rows = len(part), len(prices)
    solve_in_place(state.factor, part)
    if rows == 0:
        return False
    longest = np.abs(part).max() if count > 0 else 0.0
    answers = lines.copy()
    system, gram = np.empty((rows, rows)), np.empty((rows, rows))
    for r in range(rows):
        solve_in_place(state.factor, answers[r])
        prices[r] = np.dot(lines[r], part)
    for r in range(rows):
        for q in range(rows):
            system[r, q] = np.dot(lines[r], answers[q])
            gram[r, q] = np.dot(lines[r], lines[q])
    eliminate(system, prices, 1e-15)
    for r in range(rows):
        part -= prices[r] * answers[r]
    off = np.empty(rows)
    for r in range(rows):
        off[r] = np.dot(lines[r], part)
    rank = eliminate(gram, off, 1e-10)
    for r in range(rows):
        part -= off[r] * lines[r]
    if rank >= count:
        part[:] = 0.0
    return bool(longest > LONG)


@inlined
def _move(program: Program, state: State, step: Array) -> bool:
    """Take the step as far as knots and ceilings let it; whether one of them stopped it."""
    to_knot, i = _nearest_knot(state, step)
    to_ceiling, k = _nearest_ceiling(program, state, step)
    length = min(to_knot, to_ceiling, 1.0)
    if length > 0.0:
        for a in range(state.counts[0]):
            moved, at = length * step[a], state.free[a]
            state.weight[at] += moved
            for j in range(len(state.weight)):
                state.gradient[j] -= program.risk[at, j] * moved
            if abs(moved) > STILL:
                state.barred[:] = 0
                state.counts[2] = -1  # what was freed last has moved: a knot that it meets now it may cross
    if to_ceiling < 1.0 and to_ceiling <= to_knot:
        state.active[k] = 1
        state.barred[:] = 0
        return True
    if to_knot < 1.0:
        if length == 0.0 and i == state.counts[2]:
            state.barred[i] = 1
        _fix(program, state, i, state.high[i] if step[state.place[i]] > 0.0 else state.low[i])
        return True
    return False


@inlined
def _nearest_knot(state: State, step: Array) -> tuple[float, int]:
    """Share of the step after which the first free weight reaches the end of its segment, and that weight."""
    nearest, which = np.inf, -1
    for a in range(state.counts[0]):
        i = state.free[a]
        if abs(step[a]) > STILL:
            share = max(((state.high[i] if step[a] > 0.0 else state.low[i]) - state.weight[i]) / step[a], 0.0)
            if share < nearest:
                nearest, which = share, i
    return nearest, which


@inlined
def _nearest_ceiling(program: Program, state: State, step: Array) -> tuple[float, int]:
    """Share of the step after which the first group reaches its ceiling, and that group."""
    nearest, which = np.inf, -1
    for k in range(len(program.room)):
        if state.active[k]:
            continue
        rise, size = 0.0, 0.0
        for a in range(state.counts[0]):
            i = state.free[a]
            rise += program.groups[k, i] * state.sign[i] * step[a]
            size += program.groups[k, i] * abs(step[a])
        if rise > max(1e-10 * size, STILL):
            share = max((program.room[k] - np.dot(program.groups[k], np.abs(state.weight))) / rise, 0.0)
            if share < nearest:
                nearest, which = share, k
    return nearest, which


@inlined
def _drop_group(state: State, tolerance: float) -> bool:
    """Let go of the ceiling whose price is most negative, if one is."""
    worst, at = -tolerance, -1
    for k in range(len(state.active)):
        if state.active[k] and state.price[k] < worst:
            worst, at = state.price[k], k
    if at >= 0:
        state.active[at], state.price[at] = 0, 0.0
        state.barred[:] = 0
    return at >= 0


@inlined
def _free_one(program: Program, state: State, tolerance: float) -> bool:
    """Free the weight at a knot whose gradient lies furthest outside the slopes around it, if one does."""
    worst, chosen, way = tolerance, -1, 0.0
    for i in range(len(state.weight)):
        if state.place[i] >= 0 or state.barred[i]:
            continue
        w, price = state.weight[i], 0.0
        for k in range(len(program.room)):
            if state.active[k]:
                price += state.price[k] * program.groups[k, i]
        if w < program.upper[i]:
            slope = (program.cost[i] if w >= program.held[i] else -program.cost[i]) + (price if w >= 0.0 else -price)
            if state.gradient[i] - slope > worst:
                worst, chosen, way = state.gradient[i] - slope, i, 1.0
        if w > program.lower[i]:
            slope = (-program.cost[i] if w <= program.held[i] else program.cost[i]) + (-price if w <= 0.0 else price)
            if slope - state.gradient[i] > worst:
                worst, chosen, way = slope - state.gradient[i], i, -1.0
    if chosen < 0:
        return False
    state.counts[2] = chosen
    w = state.weight[chosen]
    beyond = _neighbour(program, chosen, w, way)
    _free(program, state, chosen, min(w, beyond), max(w, beyond))
    return True
