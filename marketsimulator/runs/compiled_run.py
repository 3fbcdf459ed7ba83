"""Compiled run over a panel: advance, decide, fill and record at each instant.

Backtests and all variants of a sweep use it. It is one compiled loop, which calls any strategy
other than Kelly in Python, in place of the solver. A stepwise run of such a strategy
(`runs.simulate.simulate_stepwise`) has the same fills and takes several times as long
(`studies/peers.py strategy`). A backtest also records inputs and results of each decision, which
`runs.decisions` explains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeGuard

import numpy as np

from execution.decision.beliefs import BeliefTable
from execution.decision.problem import SizingParameters
from execution.decision.protection import UNEXECUTED_STOPS_WARNING
from foundation.arrays import Array, Index, StructuredArray
from foundation.console import print_warning_once
from foundation.threads import single_threaded_blas
from marketsimulator.account.book import Book, create_account_log, max_logged_cash_flows
from marketsimulator.account.settlement import mark_positions
from marketsimulator.account.timeline import Timeline
from marketsimulator.runs.compiled_instants import (
    EQUITY_ROW_DTYPE,
    CompiledInputs,
    RecordedDecisions,
    run_instants,
)
from marketsimulator.runs.strategy_calls import (
    STRATEGY_RAISED,
    DecisionFunction,
    SharedProblemArrays,
    StrategyCall,
    write_explanation,
)
from marketsimulator.settings import BacktestSettings
from sizing.allocation import Allocation, Strategy
from sizing.explanation import TargetExplanation
from sizing.inputs import SizingInputs
from sizing.kelly import SolverFailed
from sizing.settings import Limits
from sizing.solver.active_set import SOLVED, UNFINISHED
from sizing.strategies import KellyStrategy, StrategyAnswer, WeightRuleStrategy
from trainingdata.bars import Bars
from trainingdata.history import NO_HISTORY, BarsBySymbol, PriceHistory
from trainingdata.market import Market

INSTANTS_PER_CALL = 512  # between calls a run reports progress and can be stopped


class CompiledRun(NamedTuple):
    """Result of a compiled run over T instants.

    inputs: inputs of the decisions.
    equity_rows: [T] EQUITY_ROW_DTYPE.
    account_log: fills and cash flows; empty unless decisions are recorded.
    account_log_lengths: [T] number of log entries after each instant; empty unless decisions are
        recorded.
    decisions: recorded decisions.
    explanations: [T', S] explanations of a Python strategy; no rows if they are not recorded.
    stop_prices: [T', S] stops of a Python strategy; no rows if they are not recorded.
    strategy_reasons: a Python strategy's own reasons, by row of the decision and symbol index;
        empty if they are not recorded.
    failure_reasons_by_row: why a Python strategy has no weights, by row of the decision.
    book: account state at the end.
    """

    inputs: CompiledInputs
    equity_rows: StructuredArray
    account_log: StructuredArray
    account_log_lengths: Index
    decisions: RecordedDecisions
    explanations: TargetExplanation
    stop_prices: Array
    strategy_reasons: dict[tuple[int, int], str]
    failure_reasons_by_row: dict[int, str]
    book: Book


def build_compiled_inputs(
    settings: BacktestSettings, bars: Bars, belief_table: BeliefTable
) -> CompiledInputs:
    """Build the inputs of a compiled run from settings, bars and forecasts."""
    limits = settings.limits
    rule = settings.sizing.build_strategy()
    class_sharpe = settings.prior.class_sharpe_ratios(belief_table.crypto_correlation)
    return CompiledInputs(
        beliefs=belief_table,
        asset_class_sharpe=class_sharpe if rule.uses_risk_premium else np.zeros_like(class_sharpe),
        financing_cost=settings.margin.nightly_rate(belief_table.instants)[:, None]
        * belief_table.interest_night_count,
        sizing_terms=SizingParameters(
            crypto=bars.crypto,
            long_only=bars.long_only,
            unit_cost=settings.costs.expected_cost(bars.crypto, settings.fees),
            uses_forecast=rule.uses_forecast,
            compiled_limits=limits.book_limit_values,
            intraday_and_overnight_leverage=(
                limits.intraday_leverage,
                limits.overnight_stock_ceiling,
            ),
            order_price_buffer=settings.margin.order_price_buffer,
            group_constraints=limits.group_limits().build_constraints(bars.symbols),
        ),
        leverage_and_margin_equity=(settings.margin.leverage, settings.margin.margin_equity),
        kelly_fraction=rule.fraction if uses_solver_only(rule) else np.nan,
        max_crypto_value=settings.orders.max_crypto_value_when_sized,
        min_order_value=settings.orders.min_values_when_sized(bars.crypto),
        min_closable_value=settings.orders.dust_values(bars.crypto),
        quantity_increment=np.array([float(item.qty_increment) for item in bars.instruments]),
        tradable=bars.tradable,
    )


def uses_solver_only(strategy: Strategy) -> TypeGuard[KellyStrategy]:
    """Return whether the compiled solver alone determines a strategy's weights."""
    return isinstance(strategy, KellyStrategy) and strategy.stock_multiplier == 1.0


def run_compiled(
    settings: BacktestSettings,
    market: Market,
    belief_table: BeliefTable,
    timeline: Timeline,
    *,
    keep_decisions: bool,
    progress: Callable[[int], object] | None = None,
) -> CompiledRun:
    """Run an account over a market in compiled code.

    belief_table: beliefs at each decision instant.
    timeline: timeline of the market.
    keep_decisions: true to record decisions, fills and cash flows.
    progress: called with the number of finished instants.
    """
    bars, first = market.bars, market.start_row
    inputs = build_compiled_inputs(settings, bars, belief_table)
    book = settings.build_book(bars)
    mark_positions(book.account[0], book.holdings, market.initial_history.last_closes())
    count = len(bars.times)
    rows = np.full(count, -1, dtype=np.int64)
    places = np.searchsorted(bars.times, belief_table.instants)
    rows[places] = np.arange(len(belief_table.instants))
    size, actions = len(book.holdings), len(timeline.corporate_actions)
    tape = create_account_log(4 * size + actions + max_logged_cash_flows(size, actions))
    account = np.zeros(count - first, EQUITY_ROW_DTYPE)
    written = np.zeros(count - first if keep_decisions else 0, dtype=np.int64)
    recorded = RecordedDecisions.allocate(
        belief_table, inputs.sizing_terms.group_constraints, without_rows=not keep_decisions
    )
    strategy = settings.sizing.build_strategy()
    caller = _StrategyCaller(strategy, market, inputs, recorded, places, settings.limits)
    call = caller.call()
    step = INSTANTS_PER_CALL if progress else count
    for begin in range(first, count, step):
        end = min(begin + step, count)
        span = first, begin, end
        # Set the threads of linear algebra once: setting them takes longer than a decision.
        with single_threaded_blas():
            book, tape = run_instants(
                book, timeline, span, rows, inputs, tape, account, written, recorded, call
            )
        if caller.error is not None:
            raise caller.error
        if progress:
            progress(end - first)
    tape = tape[: int(book.account["tape_length"][0])]
    explained = call.explanations, caller.stop_prices, caller.reasons, caller.failures
    return CompiledRun(inputs, account, tape, written, recorded, *explained, book)


class _StrategyCaller:
    """Calls a strategy in Python from compiled code, and keeps its failures and its error.

    failures: why the strategy has no weights, by row of the decision.
    stop_prices: [T', S] stops that the strategy returned; no rows if they are not recorded.
    reasons: reasons that the strategy returned, by row and symbol index; empty if they are not
        recorded.
    error: error that the strategy raised; the run has ended.
    """

    def __init__(
        self,
        strategy: Strategy,
        market: Market,
        inputs: CompiledInputs,
        recorded_decisions: RecordedDecisions,
        places: Index,
        limits: Limits,
    ) -> None:
        """Prepare the calls.

        places: [T'] instant of each decision.
        """
        self.failures: dict[int, str] = {}
        self.reasons: dict[tuple[int, int], str] = {}
        self.error: BaseException | None = None
        self._strategy = strategy
        self._rule = strategy.rule if isinstance(strategy, WeightRuleStrategy) else None
        self._symbols = market.bars.symbols
        self._inputs = inputs
        self._kept = recorded_decisions
        self._places = places
        self._group_limit_names = limits.group_limits().limit_names
        self._views: list[tuple[int, BarsBySymbol]] = []
        if strategy.lookback:
            self._views = [
                (begin, BarsBySymbol(view)) for begin, _, view in market.visible_bars_by_segment()
            ]
        _, periods, size = inputs.beliefs.mu.shape
        self._problem = SharedProblemArrays.allocate(
            periods, size, inputs.sizing_terms.group_constraints
        )
        self._weights = np.empty(size)
        self._explanations = TargetExplanation.empty(len(recorded_decisions.solve_status), size)
        self.stop_prices = np.full(self._explanations.premium_weight.shape, np.nan)

    def call(self) -> StrategyCall:
        """Return the strategy as compiled code calls it."""
        rule = self._strategy if isinstance(self._strategy, WeightRuleStrategy) else None
        return StrategyCall(
            DecisionFunction(self._decide),
            not uses_solver_only(self._strategy),
            rule is not None,
            0.0 if rule is None else rule.rebalance_band,
            rule is not None and rule.is_forecast_directed,
            self._problem,
            self._weights,
            self._explanations,
        )

    def _decide(self, row: int, size: int) -> int:
        """Run the strategy on the decision of a row for `size` symbols; return a status."""
        try:
            inputs = self._sizing_inputs(row, size)
            if self._rule is not None:
                answer = self._rule(inputs)
                if isinstance(answer, StrategyAnswer):
                    if len(self.stop_prices):
                        self._record_answer(row, size, answer)
                    answer = answer.weights
                self._weights[:size] = answer
            else:
                self._record(row, size, self._strategy.allocate(inputs))
        except SolverFailed as error:
            self.failures[row] = str(error)
            return UNFINISHED
        # Compiled code cannot raise it: `run_compiled` does so after the loop has returned.
        except BaseException as error:  # noqa: BLE001
            self.error = error
            return STRATEGY_RAISED
        return SOLVED

    def _record_answer(self, row: int, size: int, answer: StrategyAnswer) -> None:
        """Record the stops and the reasons of an answer for `size` symbols."""
        symbols = self._problem.symbol_indices[:size]
        if answer.stops is not None:
            if not np.isnan(answer.stops).all():
                print_warning_once(UNEXECUTED_STOPS_WARNING)
            self.stop_prices[row, symbols] = answer.stops
        for s, reason in zip(symbols.tolist(), answer.reasons or (), strict=False):
            if reason:
                self.reasons[row, s] = reason

    def _sizing_inputs(self, row: int, size: int) -> SizingInputs:
        beliefs = self._inputs.beliefs
        groups = self._inputs.sizing_terms.group_constraints
        problem = self._problem.read_problem(size, beliefs.mu.shape[1], groups)
        symbols = self._symbols
        if size < len(symbols):
            symbols = tuple([symbols[s] for s in self._problem.symbol_indices[:size].tolist()])
        history = self._history(symbols, int(self._places[row]))
        return SizingInputs(
            problem, symbols, beliefs.instants[row], self._group_limit_names, history
        )

    def _history(self, symbols: Sequence[str], t: int) -> PriceHistory:
        """Return the price history that the strategy reads at an instant."""
        for begin, own_bars in reversed(self._views):
            if begin <= t:
                return own_bars.history(symbols, self._strategy.lookback, t)
        return NO_HISTORY

    def _record(self, row: int, size: int, allocation: Allocation) -> None:
        """Return an allocation to compiled code, and record its explanation."""
        self._weights[:size] = allocation.target_weight
        if len(self._kept.solve_status):
            limits = allocation.binding_limits
            self._kept.shadow_prices[row] = limits.shadow_prices
            why = TargetExplanation(
                allocation.unconstrained_weight,
                limits.binding_bits,
                limits.symbol_bound_shadow_price,
                allocation.premium_weight,
                allocation.forecast_weight,
            )
            write_explanation(self._explanations, row, self._problem.symbol_indices[:size], why)
