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
from foundation.compiled import compiled, copy_values, jit_inline, scatter_values
from sizing.allocation import closest_feasible_weights, explain_projection, keep_weights_within_band
from sizing.explanation import TargetExplanation
from sizing.problem import (
    BookLimits,
    Costs,
    CurrentWeights,
    DecisionProblem,
    ExpectedReturns,
    GroupConstraints,
)
from sizing.solver.active_set import SOLVED

STRATEGY_RAISED = -1  # status of a decision whose strategy raised an error; it ends the run

# A decision's row of the beliefs and its number of symbols; returns a status.
DecisionFunction = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


class SharedProblemArrays(NamedTuple):
    """The sizing problem of m of S symbols in flat arrays, in the layout of `write_problem`.

    symbol_indices: [m] indices of the symbols.
    array_buffer: the problem's arrays of floats, concatenated.
    mask_buffer: [5·m] universe, crypto, long only, adjustable and exiting.
    scalar_buffer: [10] the problem's numbers outside arrays.
    """

    symbol_indices: Index
    array_buffer: Array
    mask_buffer: Mask
    scalar_buffer: Array

    @classmethod
    def allocate(cls, periods: int, size: int, groups: GroupConstraints) -> SharedProblemArrays:
        """Allocate arrays for K periods, S symbols and the limits on groups."""
        limits = len(groups.gross_limits) + len(groups.net_limits)
        count = (3 * periods + 3 + limits + periods * size) * size + periods + limits
        return cls(
            np.zeros(size, np.int64), np.empty(count), np.zeros(5 * size, np.bool_), np.empty(10)
        )

    def read_problem(self, size: int, periods: int, groups: GroupConstraints) -> DecisionProblem:
        """Return a copy of the problem of `size` symbols."""
        gross, net = len(groups.gross_limits), len(groups.net_limits)
        rows = 3 * periods + gross + net + 3
        numbers = self.array_buffer.copy()
        table = numbers[: rows * size].reshape(rows, size)
        covariance = numbers[rows * size : (rows + periods * size) * size]
        rest = numbers[(rows + periods * size) * size :]
        universe, crypto, long_only, adjustable, exiting = (
            self.mask_buffer[: 5 * size].copy().reshape(5, size)
        )
        symbol_cap, crypto_cap, margin_equity, positions, ceiling, granted_gross, *others = (
            self.scalar_buffer.tolist()
        )
        market, equity, unborrowed, buffer = others
        first = 3 * periods
        return DecisionProblem(
            ExpectedReturns(
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
def write_problem(
    shared: SharedProblemArrays, problem: DecisionProblem, symbol_indices: Index
) -> None:
    """Write the sizing problem of the symbols `symbol_indices` [m] into shared arrays."""
    returns, costs, limits, account = problem
    groups = limits.group_constraints
    copy_values(shared.symbol_indices, symbol_indices)
    place = 0
    for matrix in (
        returns.mu,
        returns.premium,
        costs.unit_cost,
        groups.gross_coefficients,
        groups.net_coefficients,
    ):
        for k in range(len(matrix)):
            place = _append(shared.array_buffer, place, matrix[k])
    for row in (returns.period_years, account.held_weight, account.weight_increment):
        place = _append(shared.array_buffer, place, row)
    for k in range(len(returns.covariance)):
        for s in range(len(symbol_indices)):
            place = _append(shared.array_buffer, place, returns.covariance[k, s])
    for row in (costs.financing_cost, groups.gross_limits, groups.net_limits):
        place = _append(shared.array_buffer, place, row)
    place = 0
    for mask in (
        returns.universe,
        limits.crypto,
        limits.long_only,
        account.adjustable,
        account.exiting,
    ):
        place = _append(shared.mask_buffer, place, mask)
    shared.scalar_buffer[0] = limits.symbol_cap
    shared.scalar_buffer[1] = limits.crypto_cap
    shared.scalar_buffer[2] = limits.margin_equity
    shared.scalar_buffer[3] = limits.max_positions
    shared.scalar_buffer[4] = limits.stock_ceiling
    shared.scalar_buffer[5] = limits.granted_gross_exposure
    shared.scalar_buffer[6] = groups.market_index
    shared.scalar_buffer[7] = account.equity
    shared.scalar_buffer[8] = account.unborrowed_cash_share
    shared.scalar_buffer[9] = account.order_price_buffer


@jit_inline
def _append(into: Any, place: int, values: Any) -> int:
    """Write values [n] from index `place` on; return the index after them."""
    for k in range(len(values)):
        into[place + k] = values[k]
    return place + len(values)


class StrategyCall(NamedTuple):
    """A Python strategy in the form in which compiled code calls it.

    c_function: C function of a decision's row and its number of symbols m; it reads `problem`,
        writes `weights`, and returns a status.
    replaces_solver: whether the strategy replaces the compiled solver.
    is_weight_rule: whether `weights` are a rule's desired weights, still to be projected onto the
        limits.
    no_trade_band: relative distance from a rule's desired weight within which a current weight is
        kept.
    is_forecast_directed: whether the forecast alone determines the sign of a rule's weights.
    problem: sizing problem of the decision.
    weights: [S] weights of the m symbols.
    explanations: [T', S] reasons for the targets of T' decisions; no rows if they are not recorded.
    """

    c_function: Any
    replaces_solver: bool
    is_weight_rule: bool
    no_trade_band: float
    is_forecast_directed: bool
    problem: SharedProblemArrays
    weights: Array
    explanations: TargetExplanation


@compiled
def call_strategy(
    call: StrategyCall, problem: DecisionProblem, symbol_indices: Index, row: int
) -> tuple[int, Array]:
    """Call a strategy in Python; return the status and target weights [m].

    symbol_indices: [m] indices of the decision's symbols.
    row: row of the decision.
    """
    write_problem(call.problem, problem, symbol_indices)
    status = call.c_function(row, len(symbol_indices))
    weights = call.weights[: len(symbol_indices)].copy()
    if status != SOLVED or not call.is_weight_rule:
        return status, weights
    held = problem.account.held_weight
    desired, ranking = keep_weights_within_band(held, weights, call.no_trade_band)
    status, weights = closest_feasible_weights(problem, desired, ranking)
    if status == SOLVED and len(call.explanations.binding_bits) > 0:
        why = explain_projection(problem, desired, weights, call.is_forecast_directed)
        write_explanation(call.explanations, row, symbol_indices, why)
    return status, weights


@compiled
def write_explanation(
    destination: TargetExplanation | DecisionArrays,
    row: int,
    symbol_indices: Index,
    explanation: TargetExplanation,
) -> None:
    """Write the explanation of the chosen symbols [m] into a row."""
    scatter_values(
        destination.unconstrained_weight[row], symbol_indices, explanation.unconstrained_weight
    )
    scatter_values(destination.binding_bits[row], symbol_indices, explanation.binding_bits)
    scatter_values(
        destination.symbol_bound_shadow_price[row],
        symbol_indices,
        explanation.symbol_bound_shadow_price,
    )
    scatter_values(destination.premium_weight[row], symbol_indices, explanation.premium_weight)
    scatter_values(destination.forecast_weight[row], symbol_indices, explanation.forecast_weight)
