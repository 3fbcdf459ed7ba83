"""Compiled run over a panel: advance, decide, fill and record at each instant.

Backtests and all variants of a sweep use it. For Kelly it is one compiled loop. Any other strategy
is called in Python at each decision, in place of the solver. A stepwise run of such a strategy
(`runs.simulate.step_trading`) has the same fills and takes three times as long (`studies/peers.py
strategy`). A backtest also records inputs and results of each decision, which `runs.decisions`
explains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeGuard

import numpy as np

from execution.decision.beliefs import BeliefTable
from execution.decision.decision import DecisionArrays, decision_arrays
from execution.decision.problem import RoundedTargets, SizingTerms, round_to_lots
from execution.decision.trader import SizingResult, run_strategy
from foundation.arrays import Array, Index, Records
from foundation.threads import single_threaded_blas
from marketsimulator.account.book import Book, create_account_log, max_flow_entries
from marketsimulator.account.settlement import mark_positions
from marketsimulator.account.timeline import Timeline
from marketsimulator.runs.compiled_instants import (
    EQUITY_ROW,
    CompiledInputs,
    RecordedDecisions,
    advance_to,
    decision_inputs,
    record_instant,
    step_instants,
    target_quantities_of,
    trade_decision,
    visible_account,
)
from marketsimulator.settings import BacktestSettings
from sizing.allocation import Strategy
from sizing.inputs import SizingInputs
from sizing.limits import CEILING_NAMES
from sizing.problem import NO_GROUP_CONSTRAINTS, GroupConstraints
from sizing.solver.active_set import SOLVED, UNFINISHED
from sizing.strategies import Kelly
from trainingdata.bars import Bars
from trainingdata.history import NO_HISTORY, BarsBySymbol, PriceHistory
from trainingdata.market import Market

INSTANTS_PER_CALL = 512  # between calls a run reports progress and can be stopped


class StrategyTrace(NamedTuple):
    """Results of a Python strategy at T' decisions.

    arrays: decisions as arrays.
    stock_exposure_limit: [T'] maximum gross stock exposure that orders may reach, multiple of
        equity.
    broker_exposure_limit: [T'] maximum gross stock exposure that the broker grants, multiple of
        equity.
    failures: results without an allocation, by row.
    """

    arrays: DecisionArrays
    stock_exposure_limit: Array
    broker_exposure_limit: Array
    failures: dict[int, SizingResult]

    @classmethod
    def empty(
        cls,
        table: BeliefTable,
        limits: GroupConstraints = NO_GROUP_CONSTRAINTS,
        *,
        without_rows: bool = False,
    ) -> StrategyTrace:
        """Allocate arrays for the decisions of a belief table under group limits.

        without_rows: true to allocate no rows.
        """
        rows, periods, size = table.mu.shape
        rows = 0 if without_rows else rows
        priced = (
            len(CEILING_NAMES)
            + len(limits.gross_coefficients)
            + len(limits.net_coefficients)
            + periods
        )
        arrays = DecisionArrays.empty(rows, size, priced)
        return cls(arrays, np.full(rows, np.nan), np.full(rows, np.nan), {})

    def record(
        self, row: int, chosen: Index, result: SizingResult, rounded: RoundedTargets, price: Array
    ) -> None:
        """Record the decision of a row for the chosen symbols [m]."""
        problem = result.inputs.problem
        arrays = decision_arrays(result.allocation, problem, rounded, price)
        self.arrays.write_row(row, chosen, arrays)
        self.stock_exposure_limit[row] = problem.limits.stock_ceiling
        self.broker_exposure_limit[row] = problem.limits.granted_gross
        if result.failure_reason:
            self.failures[row] = result


class CompiledRun(NamedTuple):
    """Result of a compiled run over T instants.

    inputs: inputs of the decisions.
    equity_rows: [T] EQUITY_ROW.
    account_log: tape entries; empty unless decisions are recorded.
    account_log_lengths: [T] number of tape entries after each instant; empty unless decisions are
        recorded.
    decisions: recorded decisions.
    trace: results of a Python strategy; None if the solver sized the decisions.
    book: account state at the end.
    """

    inputs: CompiledInputs
    equity_rows: Records
    account_log: Records
    account_log_lengths: Index
    decisions: RecordedDecisions
    trace: StrategyTrace | None
    book: Book


def build_compiled_inputs(
    settings: BacktestSettings, bars: Bars, table: BeliefTable
) -> CompiledInputs:
    """Build the inputs of a compiled run from settings, bars and forecasts."""
    limits = settings.limits
    rule = settings.sizing.build_strategy()
    class_sharpe = settings.prior.class_sharpe(table.crypto_correlation)
    return CompiledInputs(
        beliefs=table,
        class_sharpe=class_sharpe if rule.uses_premium else np.zeros_like(class_sharpe),
        financing=settings.margin.nightly_rate(table.instants)[:, None] * table.interest_nights,
        sizing_terms=SizingTerms(
            crypto=bars.crypto,
            long_only=bars.long_only,
            unit_cost=settings.costs.expected_cost(bars.crypto, settings.fees),
            uses_forecast=rule.uses_forecast,
            compiled_limits=limits.compiled_limits,
            leverage_limits=(limits.intraday_leverage, limits.overnight_ceiling),
            order_price_buffer=settings.margin.order_price_buffer,
            group_constraints=limits.group_limits().build_constraints(bars.symbols),
        ),
        leverage_and_margin_equity=(settings.margin.leverage, settings.margin.margin_equity),
        kelly_fraction=rule.fraction if uses_solver_only(rule) else np.nan,
        max_crypto_value=settings.orders.max_sized_crypto_value,
        min_order_value=settings.orders.min_sized_values(bars.crypto),
        dust=settings.orders.dust_values(bars.crypto),
        increment=np.array([float(item.qty_increment) for item in bars.instruments]),
        tradable=bars.tradable,
    )


def uses_solver_only(strategy: Strategy) -> TypeGuard[Kelly]:
    """Return whether the compiled solver alone determines a strategy's weights."""
    return isinstance(strategy, Kelly) and strategy.multiplier == 1.0


def run_compiled(
    settings: BacktestSettings,
    market: Market,
    table: BeliefTable,
    line: Timeline,
    *,
    keep_decisions: bool,
    progress: Callable[[int], object] | None = None,
) -> CompiledRun:
    """Run an account over a market in compiled code.

    table: beliefs at each decision instant.
    line: timeline of the market.
    keep_decisions: true to record decisions and tape entries.
    progress: called with the number of finished instants.
    """
    bars, first = market.bars, market.start_row
    inputs = build_compiled_inputs(settings, bars, table)
    book = settings.build_book(bars)
    mark_positions(book.account[0], book.holding, market.history.last_closes())
    count = len(bars.times)
    rows = np.full(count, -1, dtype=np.int64)
    places = np.searchsorted(bars.times, table.instants)
    rows[places] = np.arange(len(table.instants))
    size, actions = len(book.holding), len(line.actions)
    tape = create_account_log(4 * size + actions + max_flow_entries(size, actions))
    account = np.zeros(count - first, EQUITY_ROW)
    written = np.zeros(count - first if keep_decisions else 0, dtype=np.int64)
    kept = RecordedDecisions.empty(
        table, inputs.sizing_terms.group_constraints, without_rows=not keep_decisions
    )
    strategy = settings.sizing.build_strategy()
    trace = None
    views: list[tuple[int, BarsBySymbol]] = []
    if strategy.lookback:
        views = [(begin, BarsBySymbol(view)) for begin, _, view in market.visible_bars_by_segment()]
    if not uses_solver_only(strategy):
        trace = StrategyTrace.empty(
            table, inputs.sizing_terms.group_constraints, without_rows=not keep_decisions
        )
    step = INSTANTS_PER_CALL if progress else count
    for begin in range(first, count, step):
        end = min(begin + step, count)
        span = first, begin, end
        # Set the threads of linear algebra once: setting them takes longer than a decision.
        with single_threaded_blas():
            if trace is None:
                book, tape = step_instants(
                    book, line, span, rows, inputs, tape, account, written, kept
                )
            else:
                names = settings.limits.group_limits().limit_names
                calls = _StrategyCalls(strategy, bars.symbols, views, inputs, kept, trace, names)
                book, tape = _step_strategy_instants(
                    book, line, span, rows, calls, tape, account, written
                )
        if progress:
            progress(end - first)
    tape = tape[: int(book.account["tape_length"][0])]
    return CompiledRun(inputs, account, tape, written, kept, trace, book)


class _StrategyCalls(NamedTuple):
    """A Python strategy that replaces the solver, and the arrays that record its results.

    views: first instant and bars of each view between two splits, in time order; empty for a
        strategy that reads no history.
    """

    strategy: Strategy
    symbols: tuple[str, ...]
    views: Sequence[tuple[int, BarsBySymbol]]
    inputs: CompiledInputs
    recorded_decisions: RecordedDecisions
    trace: StrategyTrace
    group_limit_names: tuple[str, ...]

    def history(self, symbols: Sequence[str], t: int) -> PriceHistory:
        """Return the price history that the strategy reads at an instant."""
        for begin, own_bars in reversed(self.views):
            if begin <= t:
                return own_bars.history(symbols, self.strategy.lookback, t)
        return NO_HISTORY


def _step_strategy_instants(
    book: Book,
    line: Timeline,
    span: tuple[int, int, int],
    rows: Index,
    calls: _StrategyCalls,
    tape: Records,
    account_rows: Records,
    written: Index,
) -> tuple[Book, Records]:
    """Run the instants with a Python strategy in place of the solver."""
    first, begin, end = span
    max_crypto_value = calls.inputs.max_crypto_value
    for t in range(begin, end):
        book, tape = advance_to(book, line, tape, first, t, written)
        targets = np.empty(0)
        decision = int(rows[t])
        held = book.holding["quantity"].copy()
        if decision >= 0:
            targets, sized = _strategy_targets(book, calls, t, decision)
            account_rows["failures"][t - first] = 0.0 if sized else 1.0
        book, tape = trade_decision(
            book, line, tape, (first, t), held, targets, max_crypto_value, written
        )
        record_instant(account_rows, book, tape, t - first, written)
    return book, tape


def _strategy_targets(book: Book, calls: _StrategyCalls, t: int, row: int) -> tuple[Array, bool]:
    """Call a Python strategy; return its target quantities [S] and whether it succeeded.

    t: number of the instant; row: row of its decision.
    """
    strategy, symbols, _, inputs, kept, trace, group_limit_names = calls
    shown = visible_account(book, inputs)
    chosen, account, problem = decision_inputs(inputs, row, shown)
    names = tuple([symbols[s] for s in chosen.tolist()])
    at, history = inputs.beliefs.instants[row], calls.history(names, t)
    given = SizingInputs(problem, names, at, group_limit_names, history)
    result = run_strategy(strategy, given, account)
    allocation = result.allocation
    weights = problem.account.held_weight if allocation is None else allocation.target_weight
    rounded = round_to_lots(
        problem,
        weights,
        allocation is not None,
        account,
        bool(inputs.beliefs.can_trim_overnight[row]),
    )
    targets = target_quantities_of(rounded, chosen, shown)
    if len(kept.solve_status):
        kept.quantity[row], kept.price[row] = shown.quantity, shown.price
        kept.equity[row], kept.unborrowed_cash[row] = account.equity, account.unborrowed_cash
        kept.solve_status[row] = UNFINISHED if allocation is None else SOLVED
        trace.record(row, chosen, result, rounded, account.price)
    return targets, not result.failure_reason
