"""The trader: it turns bars and an account into orders and their reasons.

Backtest and live trading both run this code. `Trader.decide` describes the steps from a bar to an
order.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

from execution.decision.belief_building import (
    ALL_SYMBOLS,
    GrowthRanking,
    build_beliefs,
    build_symbol_belief,
)
from execution.decision.beliefs import BeliefTable, DecisionPeriods, concatenate_beliefs
from execution.decision.decision import (
    ClassSizingRule,
    Decision,
    DecisionColumns,
    build_class_sizing_rules,
    build_decision_arrays,
    build_decision_columns,
    find_decided_cells,
)
from execution.decision.earned import (
    NO_EVIDENCE,
    EvidenceState,
    Judgement,
    JudgingTerms,
    KnownAt,
    judge_beliefs,
)
from execution.decision.problem import (
    LabelledAccountArrays,
    RoundedTargets,
    SizingParameters,
    build_labelled_account_arrays,
    build_problem,
    round_to_lots,
)
from execution.decision.protection import find_protective_orders
from execution.decision.rebalancing import (
    adjust_quantities_for_cancels,
    build_decision_orders,
    find_orders_to_replace,
    find_reductions_to_cancel,
    lots_to_order_quantity,
)
from execution.decision.sizing import SizingSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.fees import FeeSchedule, TradingCosts
from execution.orders.lending import INTEREST_DAYS_PER_YEAR, MarginTerms
from execution.orders.orders import DEFAULT_SIZE_LIMITS, OrderSizeLimits
from forecasting.evidence import error_share
from forecasting.forecast import NO_FORECAST, Forecaster, Progress, is_hindsight, no_progress
from foundation.arrays import Array, Index
from foundation.threads import single_threaded_blas
from sizing.allocation import Allocation, Strategy
from sizing.inputs import SizingInputs, check_positions_have_prices, format_no_equity_error
from sizing.kelly import SolverFailed
from sizing.problem import AccountArrays, scale_limits
from sizing.settings import Limits, PriorSettings
from sizing.strategies import LegacyStrategy
from trainingdata.bars import Bars
from trainingdata.correlation import CorrelationSource
from trainingdata.history import BarsBySymbol
from trainingdata.market import Market
from trainingdata.schedule import EVERY_BAR, Schedule
from trainingdata.universe import Universe

_ZERO = Decimal(0)


class Decider(Protocol):
    """Interface of a trader: it turns bars and an account into a decision."""

    def decide(self, bars: Bars, account: AccountSnapshot) -> Decision | None:
        """Return the decision at the panel's last instant; None if no symbol is due to trade."""
        ...


class SizingResult(NamedTuple):
    """Result of running a strategy at one instant, or the reason why there is none.

    inputs: inputs of the strategy.
    allocation: result of the strategy; None if sizing was not possible.
    strategy: strategy that was run.
    failure_reason: reason why sizing failed; empty if it did not, or if no symbol is due to trade.
    has_solver_failed: true if the strategy's optimisation problem was not solved.
    """

    inputs: SizingInputs
    allocation: Allocation | None
    strategy: Strategy
    failure_reason: str = ""
    has_solver_failed: bool = False


def run_strategy(strategy: Strategy, inputs: SizingInputs, account: AccountArrays) -> SizingResult:
    """Run a strategy on an account; if it finds no solution, the result has no allocation.

    inputs: inputs of the strategy.
    account: arrays of the account.
    """
    if not inputs.adjustable.any():
        return SizingResult(inputs, None, strategy)
    if not account.equity > 0:
        return SizingResult(inputs, None, strategy, format_no_equity_error(account.equity))
    check_positions_have_prices(inputs.symbols, account)
    try:
        # The result is the same to the last bit on any number of processors, and in a backtest.
        with single_threaded_blas():
            return SizingResult(inputs, strategy.allocate(inputs), strategy)
    except SolverFailed as error:
        return SizingResult(inputs, None, strategy, str(error), has_solver_failed=True)


@dataclass(frozen=True, eq=False, slots=True)
class Trader:
    """Stateless trader: it forecasts, sizes positions and creates orders.

    order_prefix: prefix of the ids of the trader's orders.
    forecaster: source of forecasts.
    correlations: source of correlation matrices.
    sizing: sizing strategy and its parameters.
    limits: limits on weights, by time of day.
    costs: expected costs of a trade, other than fees.
    fees: fees of a trade.
    order_size_limits: minimum and maximum values of an order.
    prior: assumed Sharpe ratios of the asset classes, and the horizon of a plan.
    margin: costs of borrowing.
    schedule: schedule of decisions.
    universe: rule that determines which symbols may be held.
    belief_table: beliefs at all instants, computed in advance from the bars known at each; None
        computes the beliefs at each decision.
    evidence_state: evidence for the forecast after the last decision. None judges the forecast only
        if `sizing.earned` is true, beginning without evidence.
    """

    order_prefix: str
    forecaster: Forecaster
    correlations: CorrelationSource
    sizing: SizingSettings
    limits: Limits
    costs: TradingCosts
    fees: FeeSchedule
    order_size_limits: OrderSizeLimits = DEFAULT_SIZE_LIMITS
    prior: PriorSettings = field(default_factory=PriorSettings)
    margin: MarginTerms = field(default_factory=MarginTerms)
    schedule: Schedule = EVERY_BAR
    universe: Universe = ALL_SYMBOLS
    belief_table: BeliefTable | None = None
    evidence_state: EvidenceState | None = None

    @property
    def decision_periods(self) -> DecisionPeriods:
        sizing, days = self.sizing, self.prior.horizon_days
        return DecisionPeriods(sizing.holding_interval(), sizing.signal_bars, days, self.schedule)

    def with_beliefs(self, market: Market, progress: Progress = no_progress) -> Trader:
        """Return this trader with its beliefs at all instants of a run computed in advance."""
        return replace(self, belief_table=self.build_beliefs(market, progress))

    def with_evidence_state(self, text: str | None) -> Trader:
        """Return this trader with the evidence after its last decision.

        text: state from `EvidenceState.to_json`; None before the first decision.
        """
        state = NO_EVIDENCE if text is None else EvidenceState.from_json(text)
        return replace(self, evidence_state=state)

    def build_beliefs(self, market: Market, progress: Progress = no_progress) -> BeliefTable:
        """Return the beliefs at each instant of a run, each from the data known at that instant."""
        return self._build_judged_beliefs(market, progress)[0]

    def _build_judged_beliefs(
        self, market: Market, progress: Progress = no_progress
    ) -> tuple[BeliefTable, EvidenceState | None]:
        """Return the beliefs at each instant, and the evidence at the end; None if not judged."""
        table = self._build_beliefs(market, progress)
        scales = self.sizing.earned is True
        if not scales and (self.evidence_state is None or self.sizing.earned is False):
            return table, None
        judgement, state = self._judge(market, table)
        return table._replace(earned=judgement.earned) if scales else table, state

    def judge_forecast(
        self, market: Market, table: BeliefTable, known_at: KnownAt = MappingProxyType({})
    ) -> Judgement:
        """Return what the forecasts of a belief table have earned at each of its instants.

        market: market of the table.
        known_at: when forecasts became known that were not known at their instant, by instant.
        """
        return self._judge(market, table, known_at)[0]

    def _judge(
        self, market: Market, table: BeliefTable, known_at: KnownAt = MappingProxyType({})
    ) -> tuple[Judgement, EvidenceState]:
        """Return the judgement of a table's forecasts, and the evidence after its last instant."""
        state = self.evidence_state or NO_EVIDENCE
        parts = []
        for begin, end, view in market.visible_bars_by_segment():
            first = np.searchsorted(table.instants, view.times[begin])
            last = np.searchsorted(table.instants, view.times[end - 1], side="right")
            part = table.select_rows(np.arange(first, last))
            terms = self._judging_terms(view, part)
            judgement, state = judge_beliefs(view, part, terms, state, known_at)
            parts.append(judgement)
        return Judgement._make(map(np.concatenate, zip(*parts, strict=True))), state

    def _judging_terms(self, bars: Bars, table: BeliefTable) -> JudgingTerms:
        nightly = self.margin.nightly_rate(table.instants)
        return JudgingTerms(
            class_sharpe=self.prior.class_sharpe_ratios(table.crypto_correlation),
            financing_cost=nightly[:, None] * table.interest_night_count,
            sizing_terms=SizingParameters(
                crypto=bars.crypto,
                long_only=bars.long_only,
                unit_cost=self.costs.expected_cost(bars.crypto, self.fees),
                uses_forecast=True,
                compiled_limits=self.limits.book_limit_values,
                intraday_and_overnight_leverage=(
                    self.limits.intraday_leverage,
                    self.limits.overnight_stock_ceiling,
                ),
                order_price_buffer=self.margin.order_price_buffer,
                group_constraints=self.limits.group_limits().build_constraints(bars.symbols),
            ),
            fraction=self.sizing.judging_fraction,
            leverage_and_margin_equity=(self.margin.leverage, self.margin.margin_equity),
            interest_rate=nightly,
            borrow_rate=self.margin.borrow_rates_of(bars.symbols) / INTEREST_DAYS_PER_YEAR,
            error_share=error_share(self.sizing.earned_attempt),
            is_hindsight=is_hindsight(self.forecaster),
        )

    def _build_beliefs(self, market: Market, progress: Progress = no_progress) -> BeliefTable:
        """Return the beliefs with forecasts that count in full."""
        bars = market.bars
        growth = GrowthRanking(
            self.prior, self.costs.expected_cost(bars.crypto, self.fees), bars.long_only
        )
        parts = [
            build_beliefs(
                self.forecaster,
                self.correlations,
                view,
                view.times[begin],
                volatility_rule=self.sizing.volatility,
                periods=self.decision_periods,
                progress=progress,
                universe=self.universe,
                growth_ranking=growth,
            )
            for begin, _, view in market.visible_bars_by_segment()
        ]
        return concatenate_beliefs(parts)

    def build_symbol_belief(self, bars: Bars, symbol: str, now: np.datetime64) -> BeliefTable:
        """Return the beliefs about one symbol at any instant, as if only that symbol were traded.

        Raises
        ------
        NoForecast
            if the symbol has no forecast at that instant.
        """
        belief = build_symbol_belief(
            self.forecaster,
            self.correlations,
            bars,
            symbol,
            now,
            volatility_rule=self.sizing.volatility,
            periods=self.decision_periods,
        )
        if self.sizing.earned is not True:
            return belief
        earned = 0.0 if self.evidence_state is None else self.evidence_state.earned
        return belief._replace(earned=np.array([earned]))

    def decide(self, bars: Bars, account: AccountSnapshot) -> Decision | None:
        """Return the decision at the panel's last instant, from the panel and the account alone.

        The result is None if no symbol is due to trade. The steps from a bar to an order:

        1. **Symbols due to trade.** Symbols of the universe whose bar has just closed, whose market
           is open, and for which the schedule has a decision. Positions in symbols that have left
           the universe are closed. No other symbol is traded.
        2. **Forecast.** The latest forecast of each symbol, computed from its last bars.
        3. **Moments.** Mean and standard deviation (mu, sigma) of each forecast over the periods of
           a plan: until the next decision, and beyond.
        4. **Correlation.** Covariances follow from sigma and the correlation matrix of the last
           16:00 New York. Each symbol's premium follows from the assumed premium of its class.
        5. **Weights.** The strategy, by default half-Kelly net of trading costs, gives target
           weights under the limits of the time of day.
        6. **The night.** At the last decisions of a session, stocks without a new target weight are
           trimmed to the overnight ceiling.
        7. **Orders.** Weights become quantities, and the difference to the position and open orders
           becomes orders. Protective orders count as no open orders; those in symbols with an order
           are cancelled first. A symbol whose stop has filled recently is not traded.

        `execution.decision.belief_building` does steps 1 to 4, `decide_from_beliefs` the others.
        """
        stops = find_protective_orders(self.order_prefix, account.open_orders)
        account = account.without_orders(stops)
        # Beliefs do not depend on the account. A backtest can therefore compute those of all
        # instants in one pass, and both read the same numbers.
        now = Market(bars, len(bars.times) - 1)
        table, state = self.belief_table, None
        if table is None:
            table, state = self._build_judged_beliefs(now)
        # Symbols that are neither held nor may be held have weight 0 and are skipped below.
        groups = self.limits.group_limits()
        counts = {*account.projected_positions, *account.open_reductions, *groups.market_symbols}
        belief = table.at_instant(
            bars.last_instant, np.array([symbol in counts for symbol in bars.symbols])
        )
        if belief is None:
            return None
        symbols = tuple([bars.symbols[s] for s in belief.symbol_index.tolist()])
        own_bars = BarsBySymbol(bars, keep=self.sizing.history_bars)
        decision = self.decide_from_beliefs(
            belief, bars.select_last_row(symbols), account, own_bars
        )
        if stops:
            ordered = {order.symbol for order in decision.orders}
            released = tuple(stop for stop in stops if stop.symbol in ordered)
            cancels = (*decision.orders_to_cancel, *released)
            decision = replace(decision, orders_to_cancel=cancels)
        if state is not None:
            decision = replace(decision, evidence_state=state)
        return decision if decision.symbols or belief.is_adjustable.any() else None

    def decide_from_beliefs(
        self,
        belief: BeliefTable,
        bars: Bars,
        account: AccountSnapshot,
        bars_by_symbol: BarsBySymbol,
    ) -> Decision:
        """Return the decision that follows from beliefs: steps 5 to 7 of `decide`.

        bars: one-row panel of the decision's symbols, with their bars at the instant of the
            decision.
        bars_by_symbol: each symbol's bars up to that instant, from which a strategy's history is
            taken.
        """
        # Symbols that the venue accepts no orders for are not traded.
        if not bars.tradable.all():
            belief = belief._replace(
                is_adjustable=belief.is_adjustable & bars.tradable,
                is_exiting=belief.is_exiting & bars.tradable,
            )

        if account.cooling_symbols:
            may_trade = np.array(
                [symbol not in account.cooling_symbols for symbol in bars.symbols], dtype=bool
            )
            belief = belief._replace(is_adjustable=belief.is_adjustable & may_trade)

        now = np.datetime64(belief.instants[0])
        # 5. Weights. Open reductions of symbols due to trade are sized again from the position. If
        # sizing fails, they stay open: cancelling them would be new risk.
        adjustable = {bars.symbols[s] for s in np.flatnonzero(belief.is_adjustable[0]).tolist()}
        withdrawn = find_reductions_to_cancel(self.order_prefix, account, adjustable)
        book = account.without_orders(withdrawn)
        labelled = build_labelled_account_arrays(bars, book, self.order_size_limits)
        sizing = self._run_sizing(bars, labelled, belief, bars_by_symbol)
        allocation = sizing.allocation
        if allocation is None and withdrawn:
            withdrawn = ()
            book = account
            labelled = build_labelled_account_arrays(bars, book, self.order_size_limits)
            inputs = self._inputs(bars, labelled, belief, sizing.strategy, bars_by_symbol)
            sizing = sizing._replace(inputs=inputs)
        problem = sizing.inputs.problem
        rule: tuple[ClassSizingRule, ...] = ()
        if allocation is not None:
            granted_gross = problem.limits.granted_gross_exposure
            rule = build_class_sizing_rules(
                bars.instruments, belief.is_adjustable[0], sizing.strategy, granted_gross
            )

        # 6. The night, and whole quantities.
        weights = problem.account.held_weight if allocation is None else allocation.target_weight
        rounded = round_to_lots(
            problem,
            weights,
            allocation is not None,
            labelled.arrays,
            bool(belief.can_trim_overnight[0]),
        )
        chosen, columns = self._columns(bars, belief, labelled, sizing, rounded)
        instruments = [bars.instruments[s] for s in chosen.tolist()]
        exposure = book.projected_positions
        quantities = {}
        for item, lots in zip(instruments, rounded.lots[chosen].tolist(), strict=True):
            held = exposure.get(item.symbol, _ZERO)
            quantities[item.symbol] = lots_to_order_quantity(lots, item.qty_increment, held)

        # 7. Orders. Open orders that a new order would trade with are cancelled first, and their
        # remainder becomes part of the new order.
        replaced = find_orders_to_replace(self.order_prefix, book, quantities)
        if replaced:
            quantities = adjust_quantities_for_cancels(quantities, book, replaced)
            exposure = book.without_orders(replaced).projected_positions
        orders = build_decision_orders(
            self.order_prefix,
            now,
            belief.first_period_end,
            columns,
            instruments,
            [exposure.get(symbol, _ZERO) for symbol in quantities],
            tuple(quantities.values()),
            self.order_size_limits,
            bars.timeframe,
            failure=sizing.failure_reason,
            legacy=allocation is not None and isinstance(sizing.strategy, LegacyStrategy),
        )
        return Decision(
            at=now,
            interval_end=belief.first_period_end,
            equity=account.equity,
            stock_ceiling=problem.limits.stock_ceiling,
            symbols=tuple(quantities),
            quantities=tuple(quantities.values()),
            columns=columns,
            orders=orders,
            sizing_rules=rule,
            sizing_failure=sizing.failure_reason,
            orders_to_cancel=(*withdrawn, *replaced),
        )

    def _columns(
        self,
        bars: Bars,
        belief: BeliefTable,
        labelled: LabelledAccountArrays,
        sizing: SizingResult,
        rounded: RoundedTargets,
    ) -> tuple[Index, DecisionColumns]:
        """Return the N symbols with a decision, as indices into the panel, and their columns.

        These symbols are due to trade, trimmed to the overnight ceiling, or closed because they
        have left the universe.
        """
        price = labelled.arrays.price[: len(bars.symbols)]
        arrays = build_decision_arrays(sizing.allocation, sizing.inputs.problem, rounded, price)
        cells = find_decided_cells(belief, arrays)
        strategy = sizing.strategy
        reasons = (sizing.allocation and sizing.allocation.reasons) or ()
        columns = build_decision_columns(
            belief,
            arrays,
            cells,
            self._class_sharpe(belief, strategy),
            uses_forecast=strategy.uses_forecast,
            group_limit_names=sizing.inputs.group_limit_names,
            has_forecast=self.forecaster.name != NO_FORECAST,
            strategy_reasons={(0, s): reason for s, reason in enumerate(reasons) if reason},
        )
        return cells[1], columns

    def _run_sizing(
        self,
        bars: Bars,
        labelled: LabelledAccountArrays,
        belief: BeliefTable,
        own_bars: BarsBySymbol,
    ) -> SizingResult:
        """Run the strategy and return its result.

        If the strategy finds no solution and has a fallback, the fallback's result is returned,
        with the reason why the strategy failed.
        """
        chosen, *fallbacks = self.sizing.build_strategies()
        inputs = self._inputs(bars, labelled, belief, chosen, own_bars)
        result = run_strategy(chosen, inputs, labelled.arrays)
        if not result.has_solver_failed:
            return result
        for strategy in fallbacks:
            # Each strategy has its own problem: the legacy rule uses the forecast alone, and the
            # premium of the strategy before could turn its direction around.
            inputs = self._inputs(bars, labelled, belief, strategy, own_bars)
            second = run_strategy(strategy, inputs, labelled.arrays)
            if second.allocation is None:
                return second
            return second._replace(failure_reason=result.failure_reason)
        return result

    def _inputs(
        self,
        bars: Bars,
        labelled: LabelledAccountArrays,
        belief: BeliefTable,
        strategy: Strategy,
        own_bars: BarsBySymbol,
    ) -> SizingInputs:
        beside = len(labelled.symbols) - labelled.arrays.position_count
        traded = labelled.crypto[: labelled.arrays.position_count]
        positions = labelled.arrays.position_count
        groups = self.limits.group_limits()
        terms = SizingParameters(
            crypto=labelled.crypto,
            # Positions outside the panel are never traded.
            long_only=np.append(
                bars.long_only, np.ones(len(labelled.crypto) - len(bars.symbols), bool)
            ),
            unit_cost=np.append(self.costs.expected_cost(traded, self.fees), np.zeros(beside)),
            uses_forecast=strategy.uses_forecast,
            compiled_limits=self.limits.book_limit_values,
            intraday_and_overnight_leverage=(
                self.limits.intraday_leverage,
                self.limits.overnight_stock_ceiling,
            ),
            order_price_buffer=self.margin.order_price_buffer,
            group_constraints=groups.build_constraints(
                labelled.symbols[:positions], labelled.reduction_symbols
            ),
        )
        (nightly,) = self.margin.nightly_rate(belief.instants).tolist()
        class_sharpe = self._class_sharpe(belief, strategy)[0]
        problem = build_problem(
            belief,
            0,
            np.arange(len(bars.symbols)),
            class_sharpe,
            nightly * belief.interest_night_count[0],
            labelled.arrays,
            terms,
        )
        problem = scale_limits(problem, labelled.limit_factor)
        history = own_bars.history(labelled.symbols, strategy.lookback)
        return SizingInputs(
            problem, labelled.symbols, belief.instants[0], groups.limit_names, history
        )

    def _class_sharpe(self, belief: BeliefTable, strategy: Strategy) -> Array:
        """Return the Sharpe ratios [T, 2] of stocks and crypto; zeros if no premium is used."""
        ratios = self.prior.class_sharpe_ratios(belief.crypto_correlation)
        return ratios if strategy.uses_risk_premium else np.zeros_like(ratios)
