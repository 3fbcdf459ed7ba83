"""Calls of a strategy in Python from a compiled run, through the address of a C function.

A call costs a microsecond. Passing the sizing problem as an argument would cost twenty: numba
converts each of its arrays. Both sides therefore share arrays: compiled code writes the problem
into them, and Python reads a private copy.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np

from execution.decision.decision import DecisionArrays
from foundation.arrays import Array, Index, Mask
from foundation.compiled import compiled, copy_row, jit_inline, scatter_values
from sizing.allocation import closest_weights, explain_projection, weights_beyond_band
from sizing.explanation import Explanation
from sizing.problem import (
    BookLimits,
    Costs,
    CurrentWeights,
    DecisionProblem,
    GroupConstraints,
    Returns,
)
from sizing.solver.active_set import SOLVED

RAISED = -1  # status of a decision whose strategy raised an error; it ends the run

# A decision's row of the beliefs and its number of symbols; returns a status.
DecisionFunction = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


class SharedProblem(NamedTuple):
    """The sizing problem of m of S symbols in flat arrays, in the layout of `write_problem`.

    chosen: [m] indices of the symbols.
    numbers: the problem's arrays of floats, concatenated.
    masks: [5·m] universe, crypto, long only, adjustable and exiting.
    scalars: [10] the problem's numbers outside arrays.
    """

    chosen: Index
    numbers: Array
    masks: Mask
    scalars: Array

    @classmethod
    def empty(cls, periods: int, size: int, groups: GroupConstraints) -> SharedProblem:
        """Allocate arrays for K periods, S symbols and the limits on groups."""
        limits = len(groups.gross_limits) + len(groups.net_limits)
        count = (3 * periods + 3 + limits + periods * size) * size + periods + limits
        return cls(
            np.zeros(size, np.int64), np.empty(count), np.zeros(5 * size, np.bool_), np.empty(10)
        )

    def read(self, size: int, periods: int, groups: GroupConstraints) -> DecisionProblem:
        """Return a copy of the problem of `size` symbols."""
        gross, net = len(groups.gross_limits), len(groups.net_limits)
        rows = 3 * periods + gross + net + 3
        numbers = self.numbers.copy()
        table = numbers[: rows * size].reshape(rows, size)
        covariance = numbers[rows * size : (rows + periods * size) * size]
        rest = numbers[(rows + periods * size) * size :]
        universe, crypto, long_only, adjustable, exiting = (
            self.masks[: 5 * size].copy().reshape(5, size)
        )
        symbol_cap, crypto_cap, margin_equity, positions, ceiling, granted_gross, *others = (
            self.scalars.tolist()
        )
        market, equity, unborrowed, buffer = others
        first = 3 * periods
        return DecisionProblem(
            Returns(
                table[:periods],
                table[periods : 2 * periods],
                covariance.reshape(periods, size, size),
                universe,
                table[rows - 3],
            ),
            Costs(table[2 * periods : first], rest[:periods]),
            BookLimits(
                symbol_cap,
                crypto_cap,
                margin_equity,
                positions,
                ceiling,
                granted_gross,
                crypto,
                long_only,
                GroupConstraints(
                    table[first : first + gross],
                    rest[periods : periods + gross],
                    table[first + gross : rows - 3],
                    rest[periods + gross : periods + gross + net],
                    int(market),
                ),
            ),
            CurrentWeights(
                table[rows - 2], adjustable, exiting, table[rows - 1], equity, unborrowed, buffer
            ),
        )


@compiled
def write_problem(shared: SharedProblem, problem: DecisionProblem, chosen: Index) -> None:
    """Write the sizing problem of the symbols at indices `chosen` [m] into shared arrays."""
    returns, costs, limits, account = problem
    groups = limits.group_constraints
    copy_row(shared.chosen, chosen)
    place = 0
    for matrix in (
        returns.mu,
        returns.premium,
        costs.unit_cost,
        groups.gross_coefficients,
        groups.net_coefficients,
    ):
        for k in range(len(matrix)):
            place = _append(shared.numbers, place, matrix[k])
    for row in (returns.period_years, account.held_weight, account.weight_increment):
        place = _append(shared.numbers, place, row)
    for k in range(len(returns.covariance)):
        for s in range(len(chosen)):
            place = _append(shared.numbers, place, returns.covariance[k, s])
    for row in (costs.financing_cost, groups.gross_limits, groups.net_limits):
        place = _append(shared.numbers, place, row)
    place = 0
    for mask in (
        returns.universe,
        limits.crypto,
        limits.long_only,
        account.adjustable,
        account.exiting,
    ):
        place = _append(shared.masks, place, mask)
    shared.scalars[0] = limits.symbol_cap
    shared.scalars[1] = limits.crypto_cap
    shared.scalars[2] = limits.margin_equity
    shared.scalars[3] = limits.max_positions
    shared.scalars[4] = limits.stock_ceiling
    shared.scalars[5] = limits.granted_gross
    shared.scalars[6] = groups.market_index
    shared.scalars[7] = account.equity
    shared.scalars[8] = account.unborrowed_cash_share
    shared.scalars[9] = account.order_price_buffer


@jit_inline
def _append(into: Any, place: int, values: Any) -> int:
    """Write values [n] from index `place` on; return the index after them."""
    for k in range(len(values)):
        into[place + k] = values[k]
    return place + len(values)


class StrategyCall(NamedTuple):
    """A Python strategy in the form in which compiled code calls it.

    function: C function of a decision's row and its number of symbols m; it reads `problem`,
        writes `weights` and `gap`, and returns a status.
    is_called: whether the strategy replaces the compiled solver.
    is_rule: whether `weights` are a rule's desired weights, still to be projected onto the limits.
    band: relative distance from a rule's desired weight within which a current weight is kept.
    forecast_directed: whether the forecast alone determines the sign of a rule's weights.
    problem: sizing problem of the decision.
    weights: [S] weights of the m symbols.
    gap: [1] optimality gap of weights that are not a rule's.
    explanations: [T', S] reasons for the targets of T' decisions; no rows if they are not recorded.
    """

    function: Any
    is_called: bool
    is_rule: bool
    band: float
    forecast_directed: bool
    problem: SharedProblem
    weights: Array
    gap: Array
    explanations: Explanation


@compiled
def call_strategy(
    call: StrategyCall, problem: DecisionProblem, chosen: Index, row: int
) -> tuple[int, Array, float]:
    """Call a strategy in Python; return the status, target weights [m] and the optimality gap.

    chosen: [m] indices of the decision's symbols.
    row: row of the decision.
    """
    write_problem(call.problem, problem, chosen)
    status = call.function(row, len(chosen))
    weights = call.weights[: len(chosen)].copy()
    if status != SOLVED or not call.is_rule:
        return status, weights, call.gap[0]
    held = problem.account.held_weight
    desired, ranking = weights_beyond_band(held, weights, call.band)
    status, weights, gap = closest_weights(problem, desired, ranking)
    if status == SOLVED and len(call.explanations.horizon_periods) > 0:
        why = explain_projection(problem, desired, weights, call.forecast_directed)
        write_explanation(call.explanations, row, chosen, why)
    return status, weights, gap


@compiled
def write_explanation(
    into: Explanation | DecisionArrays, row: int, chosen: Index, why: Explanation
) -> None:
    """Write the explanation of the chosen symbols [m] into a row."""
    scatter_values(into.unconstrained_weight[row], chosen, why.unconstrained_weight)
    scatter_values(into.binding_bits[row], chosen, why.binding_bits)
    scatter_values(into.bound_shadow_price[row], chosen, why.bound_shadow_price)
    scatter_values(into.horizon_periods[row], chosen, why.horizon_periods)
    scatter_values(into.premium_weight[row], chosen, why.premium_weight)
    scatter_values(into.forecast_weight[row], chosen, why.forecast_weight)
