"""Decisions of a compiled run with their explanations, computed on demand as columns."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from execution.decision.beliefs import BeliefTable
from execution.decision.decision import (
    ClassRule,
    Decision,
    DecisionArrays,
    DecisionColumns,
    class_rules,
    concatenate_columns,
    decided_cells,
    decision_columns,
    yearly_optimality_gap,
)
from execution.decision.rebalancing import decision_orders, ordered_quantity
from execution.orders.orders import Order, to_shortest_decimal
from foundation.arrays import Array, Index, Instants, Mask
from foundation.compiled import any_true, compiled, scatter
from foundation.threads import parallel_map
from marketsimulator.run_result import DecisionLog, decision_frame
from marketsimulator.runs.compiled_instants import (
    CompiledInputs,
    RecordedDecisions,
    recompute_decision,
)
from marketsimulator.runs.compiled_run import CompiledRun
from marketsimulator.runs.strategy_calls import write_explanation
from marketsimulator.settings import BacktestSettings
from sizing.explanation import explain_by_horizon, explain_targets, kelly_by_horizon
from sizing.inputs import no_equity_text
from sizing.kelly import solver_failure_text
from sizing.solver.active_set import SOLVED
from sizing.strategies import LegacyStrategy
from trainingdata.bars import Bars
from trainingdata.instruments import Instrument

_NOTHING = Decimal(0)
DECISIONS_PER_CALL = 256  # decisions explained in one call


class _Decided(NamedTuple):
    """Columns of D decisions over N symbols in total.

    rows: [D] row of the belief table.
    sized: [D] true if the strategy returned target weights.
    ceiling: [D] maximum gross stock exposure that orders may reach, multiple of equity.
    granted_gross: [D] maximum gross stock exposure that the broker grants, multiple of equity.
    optimality_gap: [D] optimality gap of the solve.
    number, symbol: [N] number of the decision and index of the symbol, sorted in this order.
    lots: [N] signed target in whole increments; NaN for symbols that are not traded.
    columns: explanations of the N choices.
    """

    rows: Index
    sized: Mask
    ceiling: Array
    granted_gross: Array
    optimality_gap: Array
    number: Index
    symbol: Index
    lots: Array
    columns: DecisionColumns


class CompiledDecisions(DecisionLog):
    """Decisions recorded by a compiled run."""

    def __init__(
        self,
        settings: BacktestSettings,
        order_prefix: str,
        bars: Bars,
        table: BeliefTable,
        walk: CompiledRun,
    ) -> None:
        """Read the decisions of `walk`; belief rows that the run did not reach are skipped."""
        self._settings = settings
        self._strategy = settings.sizing.build_strategy()
        self._order_name = order_prefix
        self._instruments = bars.instruments
        self._symbols = bars.symbols
        self._timeframe = bars.timeframe
        self._table = table
        self._inputs = walk.inputs
        self._kept = walk.decisions
        self._explanations = walk.explanations
        self._failures = walk.failures
        self.group_limit_names = settings.limits.group_limits().limit_names

    @cached_property
    def _every(self) -> _Decided:
        count = max(1, len(self._kept.solve_status))
        parts = list(parallel_map(self._decided_in, range(0, count, DECISIONS_PER_CALL)))
        rows, sized, ceiling, granted_gross, gap, _, symbol, lots = (
            np.concatenate([part[k] for part in parts]) for k in range(8)
        )
        begins = np.cumsum([0, *(len(part.rows) for part in parts[:-1])])
        number = [part.number + begin for part, begin in zip(parts, begins, strict=True)]
        columns = concatenate_columns([part.columns for part in parts])
        return _Decided(
            rows, sized, ceiling, granted_gross, gap, np.concatenate(number), symbol, lots, columns
        )

    def _decided_in(self, begin: int) -> _Decided:
        """Return the decisions of `DECISIONS_PER_CALL` rows from `begin` on.

        A row has a decision if any symbol is decided, trimmed or has left the universe.
        """
        part = slice(begin, begin + DECISIONS_PER_CALL)
        walked = np.flatnonzero(np.isfinite(self._kept.equity[part]))
        every, ceiling, granted_gross = self._arrays(part)
        selected: Any = [column[walked] for column in every]
        arrays = DecisionArrays(*selected)
        believed = self._table.select_rows(begin + walked)
        place = decided_cells(believed, arrays)
        columns = decision_columns(
            believed,
            arrays,
            place,
            self._inputs.class_sharpe[begin + walked],
            uses_forecast=self._inputs.sizing_terms.uses_forecast,
            group_limit_names=self.group_limit_names,
        )
        row, symbol = place
        decided, number = np.unique(row, return_inverse=True)
        at = walked[decided]
        return _Decided(
            begin + at,
            every.is_sized[at],
            ceiling[at],
            granted_gross[at],
            every.optimality_gap[at],
            number,
            symbol,
            arrays.lots[place],
            columns,
        )

    def _arrays(self, part: slice) -> tuple[DecisionArrays, Array, Array]:
        """Return the decision arrays of a span of rows, and each row's two stock limits.

        The limits are the maximum gross stock exposure for orders and that granted by the broker.
        """
        columns: Any = [column[part] for column in self._kept]
        kept = RecordedDecisions(*columns)
        rows, size = kept.quantity.shape
        arrays = DecisionArrays.empty(rows, size, kept.shadow_prices.shape[1])._replace(
            is_sized=self._table.adjustable[part].any(axis=1) & (kept.solve_status == SOLVED),
            price=kept.price,
            unit_cost=np.broadcast_to(self._inputs.sizing_terms.unit_cost, (rows, size)),
            allocated_weight=kept.weights[:, 0],
            shadow_prices=kept.shadow_prices,
            optimality_gap=kept.optimality_gap,
        )
        if np.isnan(self._inputs.kelly_fraction):
            explained = {
                name: column[part] for name, column in self._explanations._asdict().items()
            }
            arrays = arrays._replace(**explained)
        ceilings = np.full(rows, np.nan), np.full(rows, np.nan)
        singular = np.zeros(rows, dtype=np.bool_)
        _explain(self._inputs, kept, part.start, arrays, ceilings, singular)
        for row in np.flatnonzero(singular).tolist():
            chosen, problem, weights, _ = recompute_decision(self._inputs, kept, row, part.start)
            prices = kept.shadow_prices[row]
            why = explain_targets(problem, weights, prices, self._inputs.kelly_fraction)
            write_explanation(arrays, row, chosen, why)
        return arrays, *ceilings

    @property
    def _rows(self) -> Index:
        return self._every.rows

    @cached_property
    def _begins(self) -> Index:
        """Return the column offset of each decision's first symbol, followed by N, [D + 1]."""
        return np.searchsorted(self._every.number, np.arange(len(self._rows) + 1))

    @cached_property
    def _unsized(self) -> Mask:
        """Return whether the strategy has no result for a due decision, [D]."""
        return self._table.adjustable[self._rows].any(axis=1) & ~self._every.sized

    @cached_property
    def _quantities(self) -> Array:
        """Return the signed ordered quantity of each choice, [N]."""
        every = self._every
        before = self._kept.quantity[every.rows[every.number], every.symbol]
        increment = np.array([float(item.qty_increment) for item in self._instruments])
        # Quantities are whole billionths.
        ordered = np.rint((increment[every.symbol] * every.lots - before) * 1e9) / 1e9
        return np.where(np.isnan(every.lots), 0.0, ordered)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def at(self) -> Instants:
        return np.asarray(self._table.instants[self._rows])

    @cached_property
    def stock_ceilings(self) -> Array:
        """Return the limit on gross stock exposure of each decision, multiple of equity, [D]."""
        return self._every.ceiling

    @cached_property
    def optimality_gaps(self) -> Array:
        """Return the optimality gap of each decision's solve, [D]."""
        rows = self._rows
        ends, at = self._table.period_ends[rows], self._table.instants[rows]
        gaps = [
            yearly_optimality_gap(*each)
            for each in zip(self._every.optimality_gap, at, ends, strict=True)
        ]
        return np.array(gaps, dtype=np.float64)

    @property
    def failures(self) -> int:
        return int(self._unsized.sum())

    @cached_property
    def orders(self) -> Sequence[tuple[np.datetime64, Order]]:
        """Return every order with the instant of its decision."""
        return [
            (self._table.instants[self._rows[d]], order)
            for d, orders in self._orders.items()
            for order in orders
        ]

    @cached_property
    def _orders(self) -> dict[int, tuple[Order, ...]]:
        """Return the orders by number of their decision; decisions without orders are skipped."""
        ordered = np.unique(self._every.number[self._quantities != 0.0])
        return {d: self._made_orders(d) for d in ordered.tolist()}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Return the frame of decisions; its columns are those of `Run.decision_frame`."""
        every = self._every
        rows = every.rows[every.number]
        return decision_frame(
            every.columns,
            np.array(self._symbols, dtype=object)[every.symbol],
            self._quantities,
            at=self._table.instants[rows],
            until=self._table.period_ends[rows, 0],
            equity=self._kept.equity[rows],
        )

    def decision(self, number: int) -> Decision:
        """Return the decision with this number, counted from 0."""
        row = int(self._rows[number])
        chosen = np.arange(*self._begins[number : number + 2])
        items, _, quantities = self._ordered(row, chosen)
        return Decision(
            at=self._table.instants[row],
            interval_end=self._table.period_ends[row, 0],
            equity=float(self._kept.equity[row]),
            stock_ceiling=float(self.stock_ceilings[number]),
            symbols=tuple([item.symbol for item in items]),
            quantities=tuple(quantities),
            columns=self._every.columns.select(chosen),
            orders=self.orders_of(number),
            sizing_rules=self.class_rules_of(number),
            sizing_failure=self.failure_of(number),
            optimality_gap=float(self.optimality_gaps[number]),
        )

    def failure_of(self, number: int) -> str:
        """Return why a decision has no target weights; empty if it has some or if none was due."""
        if not self._unsized[number]:
            return ""
        row = int(self._rows[number])
        if row in self._failures:
            return self._failures[row]
        equity = float(self._kept.equity[row])
        if not equity > 0:
            return no_equity_text(equity)
        chosen, *_ = recompute_decision(self._inputs, self._kept, row)
        return solver_failure_text(int(self._kept.solve_status[row]), len(chosen))

    def class_rules_of(self, number: int) -> tuple[ClassRule, ...]:
        """Return the rules that determined a decision's weights, each with its symbols."""
        if not self._every.sized[number]:
            return ()
        adjustable = self._table.adjustable[self._rows[number]]
        granted_gross = float(self._every.granted_gross[number])
        key = adjustable.tobytes(), granted_gross
        rules = self._rules.get(key)
        if rules is None:
            rules = class_rules(self._instruments, adjustable, self._strategy, granted_gross)
            self._rules[key] = rules
        return rules

    @cached_property
    def _rules(self) -> dict[tuple[bytes, float], tuple[ClassRule, ...]]:
        return {}

    def orders_of(self, number: int) -> tuple[Order, ...]:
        """Return the orders of the decision with this number."""
        return self._orders.get(number, ())

    def _made_orders(self, number: int) -> tuple[Order, ...]:
        chosen = np.arange(*self._begins[number : number + 2])
        chosen = chosen[self._quantities[chosen] != 0.0]
        row = int(self._rows[number])
        items, held, quantities = self._ordered(row, chosen)
        return decision_orders(
            self._order_name,
            self._table.instants[row],
            self._table.period_ends[row, 0],
            self._every.columns.select(chosen),
            items,
            held,
            quantities,
            self._settings.orders,
            self._timeframe,
            failure=self.failure_of(number),
            legacy=isinstance(self._strategy, LegacyStrategy) and bool(self._every.sized[number]),
        )

    def _ordered(
        self, row: int, chosen: Index
    ) -> tuple[list[Instrument], list[Decimal], list[Decimal]]:
        """Return instrument, position and signed ordered quantity of the chosen columns."""
        symbols = self._every.symbol[chosen].tolist()
        items = [self._instruments[s] for s in symbols]
        held = [self._before(row, s) for s in symbols]
        quantities = [
            ordered_quantity(lots, item.qty_increment, before)
            for lots, item, before in zip(
                self._every.lots[chosen].tolist(), items, held, strict=True
            )
        ]
        return items, held, quantities

    def _before(self, row: int, s: int) -> Decimal:
        """Return the position in a symbol before the decision of a row."""
        held = float(self._kept.quantity[row, s])
        return to_shortest_decimal(held) if held else _NOTHING


@compiled
def _explain(
    inputs: CompiledInputs,
    kept: RecordedDecisions,
    begin: int,
    arrays: DecisionArrays,
    ceilings: tuple[Array, Array],
    singular: Mask,
) -> None:
    """Write results of recorded decisions into `arrays`, and the explanations of Kelly weights.

    begin: row of the belief table of the first recorded decision.
    ceilings: arrays for the two limits on gross stock exposure, multiple of equity.
    singular: set to true for rows that compiled code skips, because their covariance has no
        Cholesky factor.
    """
    ceiling, granted_gross = ceilings
    for row in range(len(kept.solve_status)):
        if not np.isfinite(kept.equity[row]):
            continue
        chosen, problem, weights, rounded = recompute_decision(inputs, kept, row, begin)
        scatter(arrays.held_weight[row], chosen, problem.account.held_weight)
        scatter(arrays.target_weight[row], chosen, rounded.target_weight)
        scatter(arrays.lots[row], chosen, rounded.lots)
        scatter(arrays.is_trimmed[row], chosen, rounded.is_trimmed)
        scatter(arrays.no_order_code[row], chosen, rounded.no_order_code)
        ceiling[row] = problem.limits.stock_ceiling
        granted_gross[row] = problem.limits.granted_gross
        by_solver = not np.isnan(inputs.kelly_fraction) and kept.solve_status[row] == SOLVED
        if by_solver and any_true(problem.account.adjustable):
            by_horizon, without_factor = kelly_by_horizon(problem, inputs.kelly_fraction)
            if any_true(without_factor):
                singular[row] = True
                continue
            why = explain_by_horizon(
                problem, weights, kept.shadow_prices[row], by_horizon, inputs.kelly_fraction
            )
            write_explanation(arrays, row, chosen, why)
