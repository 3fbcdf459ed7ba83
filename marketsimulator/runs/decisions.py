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
    ClassSizingRule,
    Decision,
    DecisionArrays,
    DecisionColumns,
    build_class_sizing_rules,
    build_decision_columns,
    concatenate_columns,
    find_decided_cells,
)
from execution.decision.rebalancing import build_decision_orders, lots_to_order_quantity
from execution.orders.orders import Order, to_shortest_decimal
from forecasting.forecast import NO_FORECAST
from foundation.arrays import Array, Index, Instants, Mask
from foundation.compiled import any_true, compiled, scatter_values
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
from sizing.explanation import explain_plan, explain_targets, plan_kelly_weights
from sizing.inputs import format_no_equity_error
from sizing.kelly import format_solver_failure
from sizing.solver.active_set import SOLVED
from sizing.strategies import LegacyStrategy
from trainingdata.bars import Bars
from trainingdata.instruments import Instrument

_ZERO_QUANTITY = Decimal(0)
DECISIONS_PER_CALL = 256  # decisions explained in one call


class _DecisionTable(NamedTuple):
    """Columns of D decisions with N pairs of decision and symbol in total.

    belief_rows: [D] row of the belief table.
    has_weights: [D] true if the strategy returned target weights.
    stock_exposure_limit: [D] maximum gross stock exposure that orders may reach, multiple of
        equity.
    broker_exposure_limit: [D] maximum gross stock exposure that the broker grants, multiple of
        equity.
    decision_number, symbol_index: [N] decision number and symbol index of each pair; the pairs are
        sorted by both.
    lots: [N] signed target in lots; NaN for symbols that are not traded.
    columns: explanations of the N targets.
    """

    belief_rows: Index
    has_weights: Mask
    stock_exposure_limit: Array
    broker_exposure_limit: Array
    decision_number: Index
    symbol_index: Index
    lots: Array
    columns: DecisionColumns


class CompiledDecisions(DecisionLog):
    """Decisions recorded by a compiled run; their explanations are computed when first read."""

    def __init__(
        self,
        settings: BacktestSettings,
        order_prefix: str,
        bars: Bars,
        table: BeliefTable,
        walk: CompiledRun,
    ) -> None:
        """Read the decisions recorded in `walk`, the compiled run.

        Rows of `table` that the run did not reach are skipped.

        table: expected returns and covariances of each decision instant.
        """
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
        self._stop_prices = walk.stop_prices
        self._strategy_reasons = walk.strategy_reasons
        self._failures = walk.failure_reasons_by_row
        self.group_limit_names = settings.limits.group_limits().limit_names

    @cached_property
    def _decision_table(self) -> _DecisionTable:
        count = max(1, len(self._kept.solve_status))
        parts = list(parallel_map(self._decisions_in_part, range(0, count, DECISIONS_PER_CALL)))
        rows, sized, ceiling, granted_gross, _, symbol, lots = (
            np.concatenate([part[k] for part in parts]) for k in range(7)
        )
        begins = np.cumsum([0, *(len(part.belief_rows) for part in parts[:-1])])
        number = [part.decision_number + begin for part, begin in zip(parts, begins, strict=True)]
        columns = concatenate_columns([part.columns for part in parts])
        return _DecisionTable(
            rows, sized, ceiling, granted_gross, np.concatenate(number), symbol, lots, columns
        )

    def _decisions_in_part(self, begin: int) -> _DecisionTable:
        """Return the decisions in `DECISIONS_PER_CALL` belief-table rows, starting at row `begin`.

        A row has a decision if any symbol is due, is trimmed overnight or has left the universe.
        """
        part = slice(begin, begin + DECISIONS_PER_CALL)
        walked = np.flatnonzero(np.isfinite(self._kept.equity[part]))
        every, ceiling, granted_gross = self._decision_arrays(part)
        selected: Any = [column[walked] for column in every]
        arrays = DecisionArrays(*selected)
        believed = self._table.select_rows(begin + walked)
        place = find_decided_cells(believed, arrays)
        columns = build_decision_columns(
            believed,
            arrays,
            place,
            self._inputs.asset_class_sharpe[begin + walked],
            uses_forecast=self._inputs.sizing_terms.uses_forecast,
            group_limit_names=self.group_limit_names,
            has_forecast=self._settings.forecaster.kind != NO_FORECAST,
            strategy_reasons=self._reasons_in_part(begin, walked),
        )
        row, symbol = place
        decided, number = np.unique(row, return_inverse=True)
        at = walked[decided]
        return _DecisionTable(
            begin + at,
            every.is_sized[at],
            ceiling[at],
            granted_gross[at],
            number,
            symbol,
            arrays.lots[place],
            columns,
        )

    def _reasons_in_part(self, begin: int, walked: Index) -> dict[tuple[int, int], str]:
        """Return the strategy's reasons by position in `walked`, rows from `begin`, and symbol."""
        if not self._strategy_reasons:
            return {}
        size = len(self._symbols)
        return {
            (k, s): reason
            for k, row in enumerate(walked.tolist())
            for s in range(size)
            if (reason := self._strategy_reasons.get((begin + row, s)))
        }

    def _decision_arrays(self, part: slice) -> tuple[DecisionArrays, Array, Array]:
        """Return the decision arrays of a span of rows, and each row's two stock exposure limits.

        The limits are the gross exposure that orders may reach, then the one that the broker
        grants.
        """
        columns: Any = [column[part] for column in self._kept]
        recorded = RecordedDecisions(*columns)
        rows, size = recorded.position_quantities.shape
        arrays = DecisionArrays.empty(rows, size, recorded.shadow_prices.shape[1])._replace(
            is_sized=self._table.is_adjustable[part].any(axis=1)
            & (recorded.solve_status == SOLVED),
            price=recorded.marks,
            unit_cost=np.broadcast_to(self._inputs.sizing_terms.unit_cost, (rows, size)),
            allocated_weight=recorded.weights[:, 0],
            shadow_prices=recorded.shadow_prices,
        )
        if np.isnan(self._inputs.kelly_fraction):
            explained = {
                name: column[part] for name, column in self._explanations._asdict().items()
            }
            arrays = arrays._replace(**explained, stop_price=self._stop_prices[part])
        ceilings = np.full(rows, np.nan), np.full(rows, np.nan)
        singular = np.zeros(rows, dtype=np.bool_)
        _explain_decisions(self._inputs, recorded, part.start, arrays, ceilings, singular)
        for row in np.flatnonzero(singular).tolist():
            chosen, problem, weights, _ = recompute_decision(
                self._inputs, recorded, row, part.start
            )
            prices = recorded.shadow_prices[row]
            why = explain_targets(problem, weights, prices, self._inputs.kelly_fraction)
            write_explanation(arrays, row, chosen, why)
        return arrays, *ceilings

    @property
    def _belief_rows(self) -> Index:
        return self._decision_table.belief_rows

    @cached_property
    def _column_offsets(self) -> Index:
        """Return the index of each decision's first entry in the columns, then N, [D + 1]."""
        return np.searchsorted(
            self._decision_table.decision_number, np.arange(len(self._belief_rows) + 1)
        )

    @cached_property
    def _missing_result_mask(self) -> Mask:
        """Return whether a decision was due but the strategy returned no target weights, [D]."""
        return (
            self._table.is_adjustable[self._belief_rows].any(axis=1)
            & ~self._decision_table.has_weights
        )

    @cached_property
    def _ordered_quantities(self) -> Array:
        """Return the signed ordered quantity of each pair of decision and symbol, [N]."""
        every = self._decision_table
        before = self._kept.position_quantities[
            every.belief_rows[every.decision_number], every.symbol_index
        ]
        increment = np.array([float(item.qty_increment) for item in self._instruments])
        # Quantities are whole billionths.
        ordered = np.rint((increment[every.symbol_index] * every.lots - before) * 1e9) / 1e9
        return np.where(np.isnan(every.lots), 0.0, ordered)

    def __len__(self) -> int:
        return len(self._belief_rows)

    @property
    def instants(self) -> Instants:
        return np.asarray(self._table.instants[self._belief_rows])

    @cached_property
    def stock_ceilings(self) -> Array:
        """Return the maximum gross stock exposure of each decision, multiple of equity, [D]."""
        return self._decision_table.stock_exposure_limit

    @property
    def failure_count(self) -> int:
        return int(self._missing_result_mask.sum())

    @cached_property
    def orders(self) -> Sequence[tuple[np.datetime64, Order]]:
        """Return every order with the instant of its decision."""
        return [
            (self._table.instants[self._belief_rows[d]], order)
            for d, orders in self._orders.items()
            for order in orders
        ]

    @cached_property
    def _orders(self) -> dict[int, tuple[Order, ...]]:
        """Return the orders of each decision, by decision number.

        Decisions without orders are left out.
        """
        ordered = np.unique(self._decision_table.decision_number[self._ordered_quantities != 0.0])
        return {d: self._build_orders(d) for d in ordered.tolist()}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Return the frame of decisions; its columns are those of `Run.decision_frame`."""
        every = self._decision_table
        rows = every.belief_rows[every.decision_number]
        return decision_frame(
            every.columns,
            np.array(self._symbols, dtype=object)[every.symbol_index],
            self._ordered_quantities,
            at=self._table.instants[rows],
            until=self._table.period_ends[rows, 0],
            equity=self._kept.equity[rows],
        )

    def decision_at(self, number: int) -> Decision:
        """Return the decision with this number, counted from 0."""
        row = int(self._belief_rows[number])
        chosen = np.arange(*self._column_offsets[number : number + 2])
        items, _, quantities = self._instruments_and_quantities(row, chosen)
        return Decision(
            at=self._table.instants[row],
            interval_end=self._table.period_ends[row, 0],
            equity=float(self._kept.equity[row]),
            stock_ceiling=float(self.stock_ceilings[number]),
            symbols=tuple([item.symbol for item in items]),
            quantities=tuple(quantities),
            columns=self._decision_table.columns.select_rows(chosen),
            orders=self.orders_of(number),
            sizing_rules=self.sizing_rules_of(number),
            sizing_failure=self.failure_reason(number),
        )

    def failure_reason(self, number: int) -> str:
        """Return why a decision has no target weights.

        The text is empty if it has target weights or if no symbol was due.
        """
        if not self._missing_result_mask[number]:
            return ""
        row = int(self._belief_rows[number])
        if row in self._failures:
            return self._failures[row]
        equity = float(self._kept.equity[row])
        if not equity > 0:
            return format_no_equity_error(equity)
        chosen, *_ = recompute_decision(self._inputs, self._kept, row)
        return format_solver_failure(int(self._kept.solve_status[row]), len(chosen))

    def sizing_rules_of(self, number: int) -> tuple[ClassSizingRule, ...]:
        """Return the sizing rules that determined a decision's weights, each with its symbols."""
        if not self._decision_table.has_weights[number]:
            return ()
        adjustable = self._table.is_adjustable[self._belief_rows[number]]
        granted_gross = float(self._decision_table.broker_exposure_limit[number])
        key = adjustable.tobytes(), granted_gross
        rules = self._class_rules_cache.get(key)
        if rules is None:
            rules = build_class_sizing_rules(
                self._instruments, adjustable, self._strategy, granted_gross
            )
            self._class_rules_cache[key] = rules
        return rules

    @cached_property
    def _class_rules_cache(self) -> dict[tuple[bytes, float], tuple[ClassSizingRule, ...]]:
        return {}

    def orders_of(self, number: int) -> tuple[Order, ...]:
        """Return the orders of the decision with this number."""
        return self._orders.get(number, ())

    def _build_orders(self, number: int) -> tuple[Order, ...]:
        chosen = np.arange(*self._column_offsets[number : number + 2])
        chosen = chosen[self._ordered_quantities[chosen] != 0.0]
        row = int(self._belief_rows[number])
        items, held, quantities = self._instruments_and_quantities(row, chosen)
        return build_decision_orders(
            self._order_name,
            self._table.instants[row],
            self._table.period_ends[row, 0],
            self._decision_table.columns.select_rows(chosen),
            items,
            held,
            quantities,
            self._settings.orders,
            self._timeframe,
            failure=self.failure_reason(number),
            legacy=isinstance(self._strategy, LegacyStrategy)
            and bool(self._decision_table.has_weights[number]),
        )

    def _instruments_and_quantities(
        self, row: int, chosen: Index
    ) -> tuple[list[Instrument], list[Decimal], list[Decimal]]:
        """Return instrument, present position and signed ordered quantity of the chosen symbols.

        row: row of the belief table.
        chosen: indices into the columns of all decisions.
        """
        symbols = self._decision_table.symbol_index[chosen].tolist()
        items = [self._instruments[s] for s in symbols]
        held = [self._position_before(row, s) for s in symbols]
        quantities = [
            lots_to_order_quantity(lots, item.qty_increment, before)
            for lots, item, before in zip(
                self._decision_table.lots[chosen].tolist(), items, held, strict=True
            )
        ]
        return items, held, quantities

    def _position_before(self, row: int, s: int) -> Decimal:
        """Return the position in symbol number `s` before the decision of this row."""
        held = float(self._kept.position_quantities[row, s])
        return to_shortest_decimal(held) if held else _ZERO_QUANTITY


@compiled
def _explain_decisions(
    inputs: CompiledInputs,
    recorded: RecordedDecisions,
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
    for row in range(len(recorded.solve_status)):
        if not np.isfinite(recorded.equity[row]):
            continue
        chosen, problem, weights, rounded = recompute_decision(inputs, recorded, row, begin)
        scatter_values(arrays.held_weight[row], chosen, problem.account.held_weight)
        scatter_values(arrays.target_weight[row], chosen, rounded.target_weight)
        scatter_values(arrays.lots[row], chosen, rounded.lots)
        scatter_values(arrays.is_trimmed[row], chosen, rounded.is_trimmed)
        scatter_values(arrays.no_order_reason_codes[row], chosen, rounded.no_order_reason_codes)
        ceiling[row] = problem.limits.stock_ceiling
        granted_gross[row] = problem.limits.granted_gross_exposure
        by_solver = not np.isnan(inputs.kelly_fraction) and recorded.solve_status[row] == SOLVED
        if by_solver and any_true(problem.account.adjustable):
            kelly, singular[row] = plan_kelly_weights(problem, inputs.kelly_fraction)
            if singular[row]:
                continue
            why = explain_plan(
                problem, weights, recorded.shadow_prices[row], kelly, inputs.kelly_fraction
            )
            write_explanation(arrays, row, chosen, why)
