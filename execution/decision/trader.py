"""The decision: bars and an account in, orders and the reasons for them out.

Backtest and live run this and nothing else. `Trader.decide` says how a bar becomes an order.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import NamedTuple, Protocol

import numpy as np

from execution.decision.belief_building import (
    ALL_SYMBOLS,
    GrowthRanking,
    belief_of_symbol,
    build_beliefs,
)
from execution.decision.beliefs import BeliefTable, PlanPeriods, concatenate_beliefs
from execution.decision.decision import (
    ClassRule,
    Decision,
    DecisionColumns,
    class_rules,
    decided_cells,
    decision_arrays,
    decision_columns,
    gap_a_year,
)
from execution.decision.problem import (
    LabelledRow,
    RoundedTargets,
    SizingTerms,
    labelled_row,
    problem_of,
    round_to_lots,
)
from execution.decision.rebalancing import (
    decision_orders,
    ordered_quantity,
    quantities_without,
    reductions_to_redecide,
    replaced_orders,
)
from execution.decision.sizing import SizingSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.fees import FeeSchedule, TradingCosts
from execution.orders.lending import MarginTerms
from execution.orders.orders import DEFAULT_SIZE_LIMITS, OrderSizeLimits
from forecasting.forecast import Forecaster, Progress, no_progress
from foundation.arrays import Array, Index
from foundation.threads import single_threaded_blas
from sizing.allocation import Allocation, Strategy
from sizing.inputs import SizingInputs, check_priced, no_equity_text
from sizing.kelly import SolverFailed
from sizing.problem import AccountArrays
from sizing.settings import Limits, PriorSettings
from sizing.strategies import Legacy
from trainingdata.bars import Bars
from trainingdata.correlation import CorrelationSource
from trainingdata.market import Market
from trainingdata.schedule import EVERY_BAR, Schedule
from trainingdata.universe import Universe

_NOTHING = Decimal(0)


class Decider(Protocol):
    """Anything that turns what is known and what is held into a decision."""

    def decide(self, bars: Bars, account: AccountSnapshot) -> Decision | None:
        """The decision at the panel's last instant; None where nothing decides then."""
        ...


class SizingResult(NamedTuple):
    """What a strategy returned at an instant, or why it returned nothing.

    inputs: that the strategy was given.
    allocation: of the strategy; none where nothing could be sized.
    strategy: that was run.
    failure: why there is no allocation; empty where there is one, or nothing decides.
    unsolved: whether its program was not solved.
    """

    inputs: SizingInputs
    allocation: Allocation | None
    strategy: Strategy
    failure: str = ""
    unsolved: bool = False


def run_strategy(strategy: Strategy, inputs: SizingInputs, account: AccountArrays) -> SizingResult:
    """Run a strategy on the inputs of an account; an unsolved program is a result, no error."""
    if not inputs.adjustable.any():
        return SizingResult(inputs, None, strategy)
    if not account.equity > 0:
        return SizingResult(inputs, None, strategy, no_equity_text(account.equity))
    check_priced(inputs.symbols, account)
    try:
        # The same to the last bit on any number of processors, and as a walk sizes it.
        with single_threaded_blas():
            return SizingResult(inputs, strategy.allocate(inputs), strategy)
    except SolverFailed as error:
        return SizingResult(inputs, None, strategy, str(error), unsolved=True)


@dataclass(frozen=True, eq=False, slots=True)
class Trader:
    """Forecasts, sizes and orders; holds no state of its own.

    order_prefix: what the ids of its orders begin with.
    forecaster: what may happen next.
    correlations: where the matrix of an instant comes from.
    sizing: how much.
    limits: of weights, by the time of day.
    costs: of a trade beside fees, as the decision reckons with them.
    fees: of a trade.
    terms: what an order may be worth.
    prior: the stated premiums, and how far a plan looks.
    margin: what borrowing costs.
    schedule: which decisions are made.
    universe: what may be held.
    table: beliefs computed in advance, equal to those of the bars up to each instant.
    """

    order_prefix: str
    forecaster: Forecaster
    correlations: CorrelationSource
    sizing: SizingSettings
    limits: Limits
    costs: TradingCosts
    fees: FeeSchedule
    terms: OrderSizeLimits = DEFAULT_SIZE_LIMITS
    prior: PriorSettings = field(default_factory=PriorSettings)
    margin: MarginTerms = field(default_factory=MarginTerms)
    schedule: Schedule = EVERY_BAR
    universe: Universe = ALL_SYMBOLS
    table: BeliefTable | None = None

    @property
    def periods(self) -> PlanPeriods:
        sizing, days = self.sizing, self.prior.horizon_days
        return PlanPeriods(sizing.holding_interval(), sizing.signal_bars, days, self.schedule)

    def over(self, market: Market, progress: Progress = no_progress) -> Trader:
        """The same trader with its beliefs at every instant of a run computed in advance."""
        return replace(self, table=self.build_beliefs(market, progress))

    def build_beliefs(self, market: Market, progress: Progress = no_progress) -> BeliefTable:
        """Return expected returns and risk at each instant of a run, from data known then."""
        bars = market.bars
        growth = GrowthRanking(
            self.prior, self.costs.expected(bars.crypto, self.fees), bars.long_only
        )
        parts = [
            build_beliefs(
                self.forecaster,
                self.correlations,
                view,
                view.times[begin],
                rule=self.sizing.volatility,
                periods=self.periods,
                progress=progress,
                universe=self.universe,
                growth=growth,
            )
            for begin, _, view in market.views()
        ]
        return concatenate_beliefs(parts)

    def belief_of(self, bars: Bars, symbol: str, now: np.datetime64) -> BeliefTable:
        """What it believes of one symbol at any instant, as if it alone decided then.

        Raises
        ------
        NoForecast
            where what is known then does not forecast it.
        """
        return belief_of_symbol(
            self.forecaster,
            self.correlations,
            bars,
            symbol,
            now,
            rule=self.sizing.volatility,
            periods=self.periods,
        )

    def decide(self, bars: Bars, account: AccountSnapshot) -> Decision | None:
        """The decision at the panel's last instant, from nothing but the panel and the account.

        None where nothing decides then. The steps from a bar to an order:

        1. **Who decides.** The symbols of the universe whose bar has just closed and whose market
           is open to fill, where the schedule has a decision of theirs. What has left the universe
           is sold then; all others stay as they are.
        2. **Forecast.** The latest one of each symbol, from its own last bars.
        3. **Moments.** The forecast is read over the periods of a plan, from this fill to the next
           decision and on: mu and sigma.
        4. **Correlation.** The matrix known at the last 16:00 New York makes them covariances, and
           says what the stated premium of a class is for each symbol.
        5. **Weights.** The strategy, by default half-Kelly net of trading costs, gives target
           weights under the limits of the time of day.
        6. **The night.** At the last decisions of a session, stocks that nothing has sized are cut
           to the overnight ceiling.
        7. **Orders.** Weights become quantities, and the difference to what is held and open
           becomes orders.

        The belief is steps 1 to 4 (`execution.decision.belief_building`), `decide_on` the others.
        """
        # A belief knows nothing of the account. A backtest can therefore compute those of all
        # instants in one pass, and both ways read the same numbers.
        now = Market(bars, len(bars.times) - 1)
        table = self.build_beliefs(now) if self.table is None else self.table
        # What is neither held nor may be held gets no weight, and is left out of what follows.
        groups = self.limits.group_limits()
        counts = {*account.exposure, *account.open_reductions, *groups.markets}
        belief = table.at_instant(bars.now, np.array([symbol in counts for symbol in bars.symbols]))
        if belief is None:
            return None
        symbols = tuple([bars.symbols[s] for s in belief.symbol.tolist()])
        decision = self.decide_on(belief, bars.at_last_instant(symbols), account)
        return decision if decision.symbols or belief.adjustable.any() else None

    def decide_on(self, belief: BeliefTable, bars: Bars, account: AccountSnapshot) -> Decision:
        """The decision that a belief leads to: steps 5 to 7 of `decide`."""
        # What the venue takes no orders for stays as it is.
        if not bars.tradable.all():
            belief = belief._replace(
                adjustable=belief.adjustable & bars.tradable, exiting=belief.exiting & bars.tradable
            )

        now = np.datetime64(belief.at[0])
        # 5. Weights. Open reductions of what decides now are sized once more from what is held.
        # If nothing can be sized, they stay open: cancelling them would be new risk.
        adjustable = {bars.symbols[s] for s in np.flatnonzero(belief.adjustable[0]).tolist()}
        withdrawn = reductions_to_redecide(self.order_prefix, account, adjustable)
        book = account.without(withdrawn)
        labelled = labelled_row(bars, book, self.terms)
        sizing = self._size(bars, labelled, belief)
        allocation = sizing.allocation
        if allocation is None and withdrawn:
            withdrawn = ()
            book = account
            labelled = labelled_row(bars, book, self.terms)
            sizing = sizing._replace(inputs=self._inputs(bars, labelled, belief, sizing.strategy))
        problem = sizing.inputs.problem
        rule: tuple[ClassRule, ...] = ()
        if allocation is not None:
            granted_gross = problem.limits.granted_gross
            rule = class_rules(
                bars.instruments, belief.adjustable[0], sizing.strategy, granted_gross
            )

        # 6. The night, and whole quantities.
        weights = problem.account.held if allocation is None else allocation.target
        rounded = round_to_lots(
            problem, weights, allocation is not None, labelled.row, bool(belief.trim_overnight[0])
        )
        chosen, columns = self._columns(bars, belief, labelled, sizing, rounded)
        instruments = [bars.instruments[s] for s in chosen.tolist()]
        exposure = book.exposure
        quantities = {}
        for item, lots in zip(instruments, rounded.lots[chosen].tolist(), strict=True):
            held = exposure.get(item.symbol, _NOTHING)
            quantities[item.symbol] = ordered_quantity(lots, item.increment, held)

        # 7. Orders. What a new order would trade with is cancelled first, and what was left of it
        # becomes part of the new order.
        replaced = replaced_orders(self.order_prefix, book, quantities)
        if replaced:
            quantities = quantities_without(quantities, book, replaced)
            exposure = book.without(replaced).exposure
        orders = decision_orders(
            self.order_prefix,
            now,
            belief.until,
            columns,
            instruments,
            [exposure.get(symbol, _NOTHING) for symbol in quantities],
            tuple(quantities.values()),
            self.terms,
            bars.timeframe,
            failure=sizing.failure,
            legacy=allocation is not None and isinstance(sizing.strategy, Legacy),
        )
        gap = 0.0
        if allocation is not None:
            gap = gap_a_year(allocation.optimality_gap, now, belief.ends[0])
        return Decision(
            at=now,
            until=belief.until,
            equity=account.equity,
            stock_ceiling=problem.limits.stock_ceiling,
            symbols=tuple(quantities),
            quantities=tuple(quantities.values()),
            columns=columns,
            orders=orders,
            rule=rule,
            failure=sizing.failure,
            cancels=(*withdrawn, *replaced),
            optimality_gap=gap,
        )

    def _columns(
        self,
        bars: Bars,
        belief: BeliefTable,
        labelled: LabelledRow,
        sizing: SizingResult,
        rounded: RoundedTargets,
    ) -> tuple[Index, DecisionColumns]:
        """Return the N symbols that decide, that the night cuts or that leave, and their columns.

        The symbols are numbers of the panel's.
        """
        price = labelled.row.price[: len(bars.symbols)]
        arrays = decision_arrays(sizing.allocation, sizing.inputs.problem, rounded, price)
        cells = decided_cells(belief, arrays)
        strategy = sizing.strategy
        columns = decision_columns(
            belief,
            arrays,
            cells,
            self._class_sharpe(belief, strategy),
            uses_forecast=strategy.uses_forecast,
            group_limit_names=sizing.inputs.group_limit_names,
        )
        return cells[1], columns

    def _size(self, bars: Bars, labelled: LabelledRow, belief: BeliefTable) -> SizingResult:
        """Return the strategy's result; where its program is unsolved, that of its fallback."""
        chosen, *fallbacks = self.sizing.strategies()
        result = run_strategy(chosen, self._inputs(bars, labelled, belief, chosen), labelled.row)
        if not result.unsolved:
            return result
        for strategy in fallbacks:
            # Each answers a problem of its own: the legacy rule goes by the forecast alone, and
            # a premium that the strategy counted would turn its direction around.
            inputs = self._inputs(bars, labelled, belief, strategy)
            second = run_strategy(strategy, inputs, labelled.row)
            if second.allocation is None:
                return second
            return second._replace(failure=result.failure)
        return result

    def _inputs(
        self, bars: Bars, labelled: LabelledRow, belief: BeliefTable, strategy: Strategy
    ) -> SizingInputs:
        beside = len(labelled.symbols) - labelled.row.position_count
        traded = labelled.crypto[: labelled.row.position_count]
        positions = labelled.row.position_count
        groups = self.limits.group_limits()
        terms = SizingTerms(
            crypto=labelled.crypto,
            # What is fixed beside the panel is never traded.
            long_only=np.append(
                bars.long_only, np.ones(len(labelled.crypto) - len(bars.symbols), bool)
            ),
            cost=np.append(self.costs.expected(traded, self.fees), np.zeros(beside)),
            forecast=strategy.uses_forecast,
            caps=self.limits.caps,
            leverage=(self.limits.intraday_leverage, self.limits.overnight_ceiling),
            order_price_buffer=self.margin.order_price_buffer,
            rows=groups.constraints_over(labelled.symbols[:positions], labelled.reductions),
        )
        (nightly,) = self.margin.nightly_rate(belief.at).tolist()
        class_sharpe = self._class_sharpe(belief, strategy)[0]
        problem = problem_of(
            belief,
            0,
            np.arange(len(bars.symbols)),
            class_sharpe,
            nightly * belief.nights[0],
            labelled.row,
            terms,
        )
        return SizingInputs(problem, labelled.symbols, belief.at[0], groups.names)

    def _class_sharpe(self, belief: BeliefTable, strategy: Strategy) -> Array:
        """Return the Sharpe ratios of stocks and crypto that a strategy uses, or zeros; [T, 2]."""
        ratios = self.prior.class_sharpe(belief.crypto_correlation)
        return ratios if strategy.uses_premium else np.zeros_like(ratios)
