"""The sizing program, solved exactly by a primal active-set method, compiled.

    maximise  linear'w - w'Rw / 2 - cost'|w - held| - Σ penalty·(use of a group beyond its headroom)
    subject to  lower ≤ w ≤ upper,  and  use ≤ headroom  for every group with an infinite penalty

The use of a gross group is Σ gᵢ·|wᵢ|, that of a net group Σ gᵢ·wᵢ. A group is at its ceiling where
its use equals its headroom.

|w| has a kink at 0, and |w - held| at `held`. Between such knots the program is quadratic. A weight
is either free within its segment or stays at a knot, where the gradient may lie anywhere between
the slopes left and right of it. The method moves to the optimum of the free weights and stops at
the first knot or ceiling on the way. Where nothing stops it, it frees the weight at a knot whose
gradient lies furthest outside these slopes. A ceiling with a finite penalty is exceeded where its
shadow price would exceed the penalty.

The method starts from the held weights, so that small changes need few steps. Its final weights are
exactly at a knot, or exactly where the gradient vanishes. An interior-point method would leave
weights close to their knots, and a weight close to `held` would cause an order.

The Cholesky factor of the free weights' R is kept from step to step: a step costs O(n · free).
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Index
from foundation.compiled import compiled, jit_inline, jit_inline_ir
from sizing.solver.cholesky import RELATIVE_RIDGE, solve_by_elimination, solve_in_place
from sizing.solver.coordinate_ascent import (
    MIN_WEIGHTS_FOR_ASCENT,
    ascend_coordinates,
    shrink_to_limits,
)
from sizing.solver.segments import (
    AT_LIMIT,
    BELOW_LIMIT,
    BEYOND_LIMIT,
    FREE_COUNT_INDEX,
    LAST_FREED_INDEX,
    QuadraticProgram,
    SolverState,
    exceeds_gross_limit,
    exceeds_net_limit,
    fix_weight,
    gradient_at,
    group_usage,
    group_usage_slope,
    has_knot_at_zero,
    is_hard_net_limit,
    next_knot,
    release_weight,
    scaled_covariance_element,
    update_gradient,
)

SOLVED, INFEASIBLE, UNFINISHED = range(3)
STEP_TOL = 1e-13  # a weight that would move less stays
GRADIENT_TOL = 1e-11  # relative to the largest gradient
MAX_EXACT_STEP = 100.0  # a larger step in weights comes from a nearly singular R
MAX_REFINEMENTS = (
    4  # maximum refinements of a solution, and repetitions of a full step that leaves a gradient
)

# The program that brings weights within net groups: cost of exceeding one that zero weights
# satisfy, and of one that requires a position; cost of a change of a weight; its curvature.
CAP_PENALTY, FLOOR_PENALTY, CHANGE_COST, CURVATURE = 1e6, 1e3, 1e-3, 1e-7


@jit_inline_ir
def solve_program(program: QuadraticProgram) -> tuple[int, Array, Array]:
    """Solve a sizing program by the active-set method.

    The program is modified in place: a ridge is added to its variances. A net group that no weights
    satisfy gets as much headroom as the closest weights need.

    Returns
    -------
    status
        SOLVED, INFEASIBLE (no weights within bounds satisfy the gross groups) or UNFINISHED.
    weights : [n]
        optimal weights; the last iterate if the status is not SOLVED.
    prices : [m]
        shadow price of each group: gain in the objective per unit of its headroom.
    """
    n = len(program.linear_term)
    m = len(program.headroom)
    if n == 0:
        return SOLVED, np.empty(0), np.zeros(m)
    tolerance = GRADIENT_TOL * _add_ridge(program)
    weight = np.empty(n)
    if not _set_start(program, weight):
        return INFEASIBLE, weight, np.zeros(m)
    return _find_optimum(program, weight, tolerance)


@compiled
def _find_optimum(
    program: QuadraticProgram, start: Array, tolerance: float
) -> tuple[int, Array, Array]:
    """Run the active-set method from feasible weights [n], which are overwritten.

    Returns status, weights and prices as in `solve_program`.

    tolerance: largest gradient that counts as zero.
    """
    n = len(program.linear_term)
    m = len(program.headroom)
    state = _build_state(program, start)
    step = np.empty(n)
    repeats = 0
    # The objective never falls. Ties and rounding may still make the method cycle; the bound then
    # ends it as UNFINISHED.
    for _ in range(100 + 30 * (n + m)):
        compute_newton_step(program, state, step)
        if _take_step(program, state, step):
            repeats = 0
            continue
        # A full step leaves no gradient on the free weights, unless R is nearly singular. That
        # residual is removed first: prices and slopes below are valid only at the optimum of the
        # free weights.
        if repeats < MAX_REFINEMENTS and largest_residual(program, state) > 10.0 * tolerance:
            repeats += 1
            continue
        # Ceilings before knots: the slopes at a knot contain the groups' prices, and a price of the
        # wrong sign would free a weight because a ceiling pays for it.
        if _leave_ceiling(program, state, tolerance):
            continue
        if not _release_best_weight(program, state, tolerance):
            _snap_to_knots(state)
            return SOLVED, state.weight, state.group_shadow_prices
    return UNFINISHED, state.weight, state.group_shadow_prices


@jit_inline_ir
def _snap_to_knots(state: SolverState) -> None:
    """Set free weights that differ from a knot only by rounding to the knot itself."""
    # A held weight keeps the held quantity to its last decimal; one close to it would go through a
    # division and lose a step of the increment.
    for a in range(state.counters[FREE_COUNT_INDEX]):
        i = state.free_indices[a]
        for knot in (state.segment_low[i], state.segment_high[i]):
            if abs(state.weight[i] - knot) <= STEP_TOL:
                state.weight[i] = knot


@jit_inline_ir
def _add_ridge(program: QuadraticProgram) -> float:
    """Add the ridge to the variances; return the scale of linear terms, variances and costs.

    The ridge gives a singular R (two identical symbols) a Cholesky factor. The scale is never 0, so
    that a program of zeros also has a positive tolerance.
    """
    largest = 1e-30
    dearest = 0.0
    for i in range(len(program.linear_term)):
        largest = max(largest, abs(program.linear_term[i]), program.variance[i])
        dearest = max(dearest, program.cost[i])
    for i in range(len(program.linear_term)):
        program.variance[i] += RELATIVE_RIDGE * largest
    return float(dearest + largest)


@jit_inline_ir
def _set_start(program: QuadraticProgram, weight: Array) -> bool:
    """Write feasible start weights [n]; return False if no weights are feasible.

    The start is the held weights within bounds, moved near the optimum in large programs. If it
    exceeds a gross group, the start is the smallest weights within bounds. It is then brought
    within the net groups.
    """
    n = len(program.linear_term)
    least = np.empty(n)
    for i in range(n):
        weight[i] = min(max(program.held_weight[i], program.lower[i]), program.upper[i])
        least[i] = min(max(0.0, program.lower[i]), program.upper[i])
    feasible = not exceeds_gross_limit(program, least)
    if feasible and n >= MIN_WEIGHTS_FOR_ASCENT:
        ascend_coordinates(program, weight, least)
    # A primal method needs a feasible start. Every later step stays feasible.
    passes_net = exceeds_net_limit(program, weight)
    if passes_net:
        shrink_to_limits(program, weight, least)
    if exceeds_gross_limit(program, weight):
        for i in range(n):
            weight[i] = least[i]
        passes_net = exceeds_net_limit(program, weight)
    if passes_net and feasible:
        _move_within_net_limits(program, weight)
    return feasible


@compiled
def _move_within_net_limits(program: QuadraticProgram, weight: Array) -> None:
    """Bring weights [n] within the net limits with few changes, or as close as possible.

    Gross limits stay satisfied. If net limits contradict each other, those that require a position
    are violated. The headroom of a limit that is still exceeded is raised to its use.
    """
    # This is the same kind of program: exceeding a net group has a penalty far above the cost of
    # changes, so that it happens only where nothing else is possible.
    n = len(program.linear_term)
    m = len(program.headroom)
    penalty = program.penalty.copy()
    headroom = program.headroom.copy()
    for k in range(m):
        if is_hard_net_limit(program.is_net_group, program.penalty, k):
            penalty[k] = CAP_PENALTY if headroom[k] >= 0.0 else FLOOR_PENALTY
        elif penalty[k] < np.inf:
            headroom[k] = np.inf
    cost = np.empty(n)
    for i in range(n):
        # The first weights change first. Equal costs would spread a change over all.
        cost[i] = CHANGE_COST * (1.0 + i / n)
    nearest = QuadraticProgram(
        np.zeros(n),
        np.full(n, CURVATURE),
        np.zeros((1, n, n)),
        program.lower,
        program.upper,
        weight.copy(),
        cost,
        program.group_coefficients,
        headroom,
        penalty,
        program.is_net_group,
    )
    _, moved, _ = _find_optimum(nearest, weight.copy(), GRADIENT_TOL * FLOOR_PENALTY)
    for i in range(n):
        weight[i] = moved[i]
    for k in range(m):
        if is_hard_net_limit(program.is_net_group, program.penalty, k):
            program.headroom[k] = max(
                program.headroom[k],
                group_usage(program.group_coefficients, program.is_net_group, k, weight),
            )


@jit_inline_ir
def _build_state(program: QuadraticProgram, weight: Array) -> SolverState:
    """Return the initial state of the active-set method, which starts at feasible weights [n]."""
    n = len(program.linear_term)
    m = len(program.headroom)
    state = SolverState(
        weight=weight,
        gradient=gradient_at(
            program.linear_term, program.scaled_covariance, program.variance, weight
        ),
        segment_low=np.empty(n),
        segment_high=np.empty(n),
        weight_sign=np.empty(n),
        trade_sign=np.empty(n),
        free_indices=np.empty(n, dtype=np.int64),
        free_position=np.full(n, -1),
        group_states=np.zeros(m, dtype=np.int64),
        group_shadow_prices=np.zeros(m),
        cholesky_factor=np.empty((n, n)),
        barred_flags=np.zeros(n, dtype=np.int64),
        counters=np.zeros(3, dtype=np.int64),
    )
    for k in range(m):
        if (
            program.penalty[k] < np.inf
            and group_usage(program.group_coefficients, program.is_net_group, k, weight)
            > program.headroom[k]
        ):
            state.group_states[k] = BEYOND_LIMIT
            state.group_shadow_prices[k] = program.penalty[k]
    for i in range(n):
        w = weight[i]
        at_held = w == program.held_weight[i] and program.cost[i] > 0.0
        at_zero = w == 0.0 and has_knot_at_zero(program.group_coefficients, program.is_net_group, i)
        if at_held or at_zero or w == program.lower[i] or w == program.upper[i]:
            continue
        below = next_knot(program, i, w, -1.0)
        above = next_knot(program, i, w, 1.0)
        release_weight(program, state, i, below, above)
    return state


@jit_inline_ir
def _take_step(program: QuadraticProgram, state: SolverState, step: Array) -> bool:
    """Take the step [free] up to the first knot or ceiling; return whether it was stopped."""
    to_knot, i = _nearest_knot(state, step)
    to_ceiling, k = _nearest_ceiling(program, state, step)
    length = min(to_knot, to_ceiling, 1.0)
    if length > 0.0:
        for a in range(state.counters[FREE_COUNT_INDEX]):
            moved = length * step[a]
            at = state.free_indices[a]
            state.weight[at] += moved
            update_gradient(program.scaled_covariance, program.variance, state.gradient, at, moved)
            if abs(moved) > STEP_TOL:
                # At another point a weight that could not move before may be able to. The weight
                # freed last has moved as well, and may cross the next knot that it meets.
                _clear_barred(state.barred_flags)
                state.counters[LAST_FREED_INDEX] = -1
    if to_ceiling < 1.0 and to_ceiling <= to_knot:
        state.group_states[k] = AT_LIMIT
        _clear_barred(state.barred_flags)
        return True
    if to_knot < 1.0:
        # A weight that was freed and is back at its knot without a move would be freed for the same
        # gradient for ever. It waits until another weight has moved. Only the weight freed last is
        # barred: another one that meets its knot at length 0 may have to cross it.
        if length == 0.0 and i == state.counters[LAST_FREED_INDEX]:
            state.barred_flags[i] = 1
        upwards = step[state.free_position[i]] > 0.0
        fix_weight(program, state, i, state.segment_high[i] if upwards else state.segment_low[i])
        return True
    return False


@jit_inline
def _clear_barred(barred: Index) -> None:
    for i in range(len(barred)):
        barred[i] = 0


@jit_inline_ir
def _nearest_knot(state: SolverState, step: Array) -> tuple[float, int]:
    """Find the free weight that reaches the end of its segment first.

    Returns the fraction of the step up to that point, infinite if no weight reaches an end, and the
    weight's index.

    step: [free] step of the free weights.
    """
    nearest = np.inf
    which = -1
    for a in range(state.counters[FREE_COUNT_INDEX]):
        i = state.free_indices[a]
        if abs(step[a]) > STEP_TOL:
            end = state.segment_high[i] if step[a] > 0.0 else state.segment_low[i]
            share = max((end - state.weight[i]) / step[a], 0.0)
            if share < nearest:
                nearest = share
                which = i
    return nearest, which


@jit_inline_ir
def _nearest_ceiling(
    program: QuadraticProgram, state: SolverState, step: Array
) -> tuple[float, int]:
    """Find the group whose use reaches its headroom first, from below or from above.

    Returns the fraction of the step up to that point, infinite if there is none, and the group's
    index.

    step: [free] step of the free weights.
    """
    nearest = np.inf
    which = -1
    for k in range(len(program.headroom)):
        if state.group_states[k] == AT_LIMIT:
            continue
        rise = 0.0
        size = 0.0
        for a in range(state.counters[FREE_COUNT_INDEX]):
            i = state.free_indices[a]
            rise += (
                group_usage_slope(
                    program.group_coefficients, program.is_net_group, state.weight_sign, k, i
                )
                * step[a]
            )
            size += abs(program.group_coefficients[k, i]) * abs(step[a])
        toward = -rise if state.group_states[k] == BEYOND_LIMIT else rise
        # A group of the same weights as a full one rises by rounding alone. Taken for a rise it
        # would stop every step at length 0.
        if toward > max(1e-10 * size, STEP_TOL):
            share = max(
                (
                    program.headroom[k]
                    - group_usage(program.group_coefficients, program.is_net_group, k, state.weight)
                )
                / rise,
                0.0,
            )
            if share < nearest:
                nearest = share
                which = k
    return nearest, which


@jit_inline_ir
def _leave_ceiling(program: QuadraticProgram, state: SolverState, tolerance: float) -> bool:
    """Release the group at its ceiling whose shadow price is furthest out of range, if any.

    Returns whether a group was released. At a price below 0, using the group less is better. At a
    price above the penalty, exceeding the ceiling is better.
    """
    worst = tolerance
    at = -1
    side = BELOW_LIMIT
    for k in range(len(state.group_states)):
        if state.group_states[k] != AT_LIMIT:
            continue
        if -state.group_shadow_prices[k] > worst:
            worst = -state.group_shadow_prices[k]
            at = k
            side = BELOW_LIMIT
        if state.group_shadow_prices[k] - program.penalty[k] > worst:
            worst = state.group_shadow_prices[k] - program.penalty[k]
            at = k
            side = BEYOND_LIMIT
    if at >= 0:
        state.group_states[at] = side
        state.group_shadow_prices[at] = program.penalty[at] if side == BEYOND_LIMIT else 0.0
        _clear_barred(state.barred_flags)
    return at >= 0


@jit_inline_ir
def _release_best_weight(program: QuadraticProgram, state: SolverState, tolerance: float) -> bool:
    """Free the weight at a knot whose gradient lies furthest outside the slopes around it, if any.

    Returns whether a weight was freed. If none was, every condition of an optimum holds; the
    optimum is global, because the objective is concave.
    """
    priced = _groups_with_shadow_price(state)
    worst = tolerance
    chosen = -1
    direction = 0.0
    for i in range(len(state.weight)):
        if state.free_position[i] >= 0 or state.barred_flags[i]:
            continue
        w = state.weight[i]
        price = 0.0
        gradient = state.gradient[i]
        # A net group is linear in w and shifts the gradient; the others bend at 0 with |w|.
        for k in priced:
            if program.is_net_group[k]:
                gradient -= state.group_shadow_prices[k] * program.group_coefficients[k, i]
            else:
                price += state.group_shadow_prices[k] * program.group_coefficients[k, i]
        if w < program.upper[i]:
            slope = _marginal_cost_above(program.cost, program.held_weight, i, w, price)
            if gradient - slope > worst:
                worst = gradient - slope
                chosen = i
                direction = 1.0
        if w > program.lower[i]:
            slope = _marginal_saving_below(program.cost, program.held_weight, i, w, price)
            if slope - gradient > worst:
                worst = slope - gradient
                chosen = i
                direction = -1.0
    if chosen < 0:
        return False
    state.counters[LAST_FREED_INDEX] = chosen
    # Reading the value back from the array gives it one integer type. If it could be the literal
    # -1, numba would compile the functions below twice.
    freed = state.counters[LAST_FREED_INDEX]
    w = state.weight[freed]
    beyond = next_knot(program, freed, w, direction)
    release_weight(program, state, freed, min(w, beyond), max(w, beyond))
    return True


@jit_inline_ir
def _groups_with_shadow_price(state: SolverState) -> Index:
    """Return the indices of the groups with a nonzero shadow price."""
    priced = np.empty(len(state.group_shadow_prices), dtype=np.int64)
    count = 0
    for k in range(len(state.group_shadow_prices)):
        if state.group_shadow_prices[k] != 0.0:
            priced[count] = k
            count += 1
    return priced[:count]


@jit_inline
def _marginal_cost_above(cost: Array, held: Array, i: int, w: float, price: float) -> float:
    """Return the marginal cost of increasing weight i above w: trading, and use of groups.

    price: shadow price of the groups per unit of the weight's size.
    """
    trading = cost[i] if w >= held[i] else -cost[i]
    return float(trading + (price if w >= 0.0 else -price))


@jit_inline
def _marginal_saving_below(cost: Array, held: Array, i: int, w: float, price: float) -> float:
    """Return the marginal saving of reducing weight i below w: trading, and use of groups.

    price: shadow price of the groups per unit of the weight's size.
    """
    trading = -cost[i] if w <= held[i] else cost[i]
    return float(trading + (-price if w <= 0.0 else price))


@jit_inline_ir
def compute_newton_step(program: QuadraticProgram, state: SolverState, step: Array) -> None:
    """Compute the step [free] to the optimum of the free weights, and the groups' shadow prices.

    The step keeps full groups at their ceilings. With R the risk of the free weights, g their net
    gradient, and A a row for each group at its ceiling, the step d and the prices p solve

        R d + A'p = g,   A d = 0
    """
    count = state.counters[FREE_COUNT_INDEX]
    full = _groups_at_limit(program, state)
    rows = len(full)
    rest = np.empty(count)
    part = np.empty(count)
    lines = np.empty((rows, count))
    prices = np.empty(rows)
    for a in range(count):
        i = state.free_indices[a]
        step[a] = 0.0
        rest[a] = _net_gradient(program, state, i)
        for r in range(rows):
            lines[r, a] = group_usage_slope(
                program.group_coefficients, program.is_net_group, state.weight_sign, full[r], i
            )
    # Where R is nearly singular the step without ceilings is huge, and the ceilings take most of it
    # back: a difference of large numbers. The residual gradient gives the digits that it loses.
    for _ in range(MAX_REFINEMENTS):
        for a in range(count):
            part[a] = rest[a]
        huge = _solve_under_constraints(state, lines, part, prices)
        _add_multiple(step, 1.0, part)
        for r in range(rows):
            state.group_shadow_prices[full[r]] += prices[r]
            _add_multiple(rest, -prices[r], lines[r])
        if not huge:
            break
        for a in range(count):
            i = state.free_indices[a]
            for b in range(count):
                j = state.free_indices[b]
                shared = (
                    program.variance[i]
                    if i == j
                    else scaled_covariance_element(program.scaled_covariance, i, j)
                )
                rest[a] -= shared * part[b]


@jit_inline_ir
def _groups_at_limit(program: QuadraticProgram, state: SolverState) -> Index:
    """Return the indices of groups at their ceilings; reset the price of every group.

    The price becomes the penalty for a group beyond its ceiling, and 0 for other groups.
    """
    full = np.empty(len(program.headroom), dtype=np.int64)
    rows = 0
    for k in range(len(program.headroom)):
        state.group_shadow_prices[k] = (
            program.penalty[k] if state.group_states[k] == BEYOND_LIMIT else 0.0
        )
        if state.group_states[k] == AT_LIMIT:
            full[rows] = k
            rows += 1
    return full[:rows]


@jit_inline_ir
def largest_residual(program: QuadraticProgram, state: SolverState) -> float:
    """Return the largest net gradient of the free weights, which is 0 at their optimum."""
    largest = 0.0
    for a in range(state.counters[FREE_COUNT_INDEX]):
        largest = max(largest, abs(_net_gradient(program, state, state.free_indices[a])))
    return largest


@jit_inline
def _net_gradient(program: QuadraticProgram, state: SolverState, i: int) -> float:
    """Return the gradient of free weight i, less trading costs and shadow prices of groups."""
    net = state.gradient[i] - program.cost[i] * state.trade_sign[i]
    for k in range(len(program.headroom)):
        if state.group_shadow_prices[k] != 0.0:
            net -= state.group_shadow_prices[k] * group_usage_slope(
                program.group_coefficients, program.is_net_group, state.weight_sign, k, i
            )
    return float(net)


@jit_inline_ir
def _solve_under_constraints(state: SolverState, lines: Array, part: Array, prices: Array) -> bool:
    """Compute the Newton step of the free weights with some groups at their ceilings.

    Returns whether the step is too large to be exact.

    lines: [rows, free] use of each of these groups by the free weights; the step satisfies
        lines · step = 0.
    part: [free] the gradient; overwritten by the step.
    prices: [rows] result: the groups' Lagrange multipliers.

    With K = R⁻¹ and lines A: prices solve (A K A') p = A K g, and the step is K (g - A' p).
    """
    count = len(part)
    rows = len(prices)
    solve_in_place(state.cholesky_factor, part)
    if rows == 0:
        return False
    longest = _largest_magnitude(part)
    answers = lines.copy()
    system = np.empty((rows, rows))
    gram = np.empty((rows, rows))
    off = np.empty(rows)
    for r in range(rows):
        solve_in_place(state.cholesky_factor, answers[r])
        prices[r] = np.dot(lines[r], part)
    for r in range(rows):
        for q in range(rows):
            system[r, q] = np.dot(lines[r], answers[q])
            gram[r, q] = np.dot(lines[r], lines[q])
    solve_by_elimination(system, prices, 1e-15)
    for r in range(rows):
        _add_multiple(part, -prices[r], answers[r])
    # Rounding may take the step off the lines, and the weights would then exceed a ceiling by as
    # much. A projection puts it back.
    for r in range(rows):
        off[r] = np.dot(lines[r], part)
    rank = solve_by_elimination(gram, off, 1e-10)
    for r in range(rows):
        _add_multiple(part, -off[r], lines[r])
    # As many independent lines as free weights meet in a point: the remaining step is rounding.
    if rank >= count:
        for a in range(count):
            part[a] = 0.0
    return bool(longest > MAX_EXACT_STEP)


@jit_inline
def _add_multiple(x: Array, times: float, y: Array) -> None:
    """Add times·y to the leading elements of x in place, without a temporary array."""
    for a in range(len(y)):
        x[a] += times * y[a]


@jit_inline_ir
def _largest_magnitude(x: Array) -> float:
    """Return the largest absolute value in an array; 0 for an empty array."""
    largest = 0.0
    for a in range(len(x)):
        largest = max(largest, abs(x[a]))
    return largest
