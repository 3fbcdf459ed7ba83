"""One step of the active-set method: to the optimum of the free weights, along the full ceilings.

For R the free weights' part of the risk, g their net gradient and A a row for each group at its
ceiling, step d and prices p solve

    R d + A'p = g,   A d = 0
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Index
from foundation.compiled import inlined, merged
from sizing.solver.cholesky import eliminate, solve_in_place
from sizing.solver.segments import AT, BOUGHT, FREE, Program, State, covariance, group_slope

LONG = 100.0  # a step in weights that only a nearly singular R asks for
REPEATS = 4  # solutions refined at most, and full steps taken again where the first left a gradient


@merged
def find_step(program: Program, state: State, step: Array) -> None:
    """Write the step [free] to the optimum of the free weights, and every group's price there.

    Groups at their ceilings stay at them along the step.
    """
    count = state.counts[FREE]
    full = _full_groups(program, state)
    rows = len(full)
    rest = np.empty(count)
    part = np.empty(count)
    lines = np.empty((rows, count))
    prices = np.empty(rows)
    for a in range(count):
        i = state.free[a]
        step[a] = 0.0
        rest[a] = _net_gradient(program, state, i)
        for r in range(rows):
            lines[r, a] = group_slope(program, state, full[r], i)
    # Where R is nearly singular the step without ceilings is huge, and the ceilings take most of it
    # back: a difference of large numbers. What that loses is found from the gradient that is left.
    for _ in range(REPEATS):
        for a in range(count):
            part[a] = rest[a]
        huge = _solve_on_lines(state, lines, part, prices)
        _add_multiple(step, 1.0, part)
        for r in range(rows):
            state.price[full[r]] += prices[r]
            _add_multiple(rest, -prices[r], lines[r])
        if not huge:
            break
        for a in range(count):
            i = state.free[a]
            for b in range(count):
                j = state.free[b]
                shared = program.variance[i] if i == j else covariance(program, i, j)
                rest[a] -= shared * part[b]


@merged
def _full_groups(program: Program, state: State) -> Index:
    """The groups at their ceilings; every group's price becomes that of what it has bought."""
    full = np.empty(len(program.room), dtype=np.int64)
    rows = 0
    for k in range(len(program.room)):
        state.price[k] = program.penalty[k] if state.active[k] == BOUGHT else 0.0
        if state.active[k] == AT:
            full[rows] = k
            rows += 1
    return full[:rows]


@merged
def largest_residual(program: Program, state: State) -> float:
    """The largest net gradient among the free weights: 0 at their optimum."""
    largest = 0.0
    for a in range(state.counts[FREE]):
        largest = max(largest, abs(_net_gradient(program, state, state.free[a])))
    return largest


@inlined
def _net_gradient(program: Program, state: State, i: int) -> float:
    """Gradient of free weight i, net of trading costs and of the groups' prices."""
    net = state.gradient[i] - program.cost[i] * state.side[i]
    for k in range(len(program.room)):
        if state.price[k] != 0.0:
            net -= state.price[k] * group_slope(program, state, k, i)
    return float(net)


@merged
def _solve_on_lines(state: State, lines: Array, part: Array, prices: Array) -> bool:
    """Turn a gradient into the step that keeps to the lines; whether that step is inexact.

    part [free]: the gradient, which becomes the step. lines [rows, free]: what the free weights
    take of each group at its ceiling. prices [rows]: written, the multipliers that hold the step on
    the lines. With K = R⁻¹ and lines A: prices solve (A K A') p = A K g, and the step is
    K (g - A' p).
    """
    count = len(part)
    rows = len(prices)
    solve_in_place(state.factor, part)
    if rows == 0:
        return False
    longest = _largest_size(part)
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
        _add_multiple(part, -prices[r], answers[r])
    # The step may still leave the lines by what rounding took from it, and the weights would then
    # pass a ceiling by that much. A projection puts it onto them.
    for r in range(rows):
        off[r] = np.dot(lines[r], part)
    rank = eliminate(gram, off, 1e-10)
    for r in range(rows):
        _add_multiple(part, -off[r], lines[r])
    # As many independent lines as free weights meet in a point: whatever is left is rounding.
    if rank >= count:
        for a in range(count):
            part[a] = 0.0
    return bool(longest > LONG)


@inlined
def _add_multiple(x: Array, times: float, y: Array) -> None:
    """Add times·y to the leading elements of x, without an array on the way."""
    for a in range(len(y)):
        x[a] += times * y[a]


@merged
def _largest_size(x: Array) -> float:
    """The largest |xᵢ|; 0 without elements."""
    largest = 0.0
    for a in range(len(x)):
        largest = max(largest, abs(x[a]))
    return largest
