"""The decision: bars and an account in, orders and the reasons for them out. Backtest and live run
this and nothing else.

How a bar becomes an order:

1. the symbols whose bar has just closed and whose market is open to fill decide; all others stay as
   they are;
2. each symbol's latest forecast is read over the blocks of a plan, from this fill to the next
   decision and on: mu and sigma;
3. correlation known at the last 16:00 makes them covariances, and says what the stated premium of a
   class is for each symbol;
4. the strategy, half-Kelly net of trading costs, gives target weights under the limits of the time
   of day;
5. weights become quantities, and the difference to what is held becomes orders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Protocol

import numpy as np

from execution.beliefs import Belief, Beliefs, Blocks, block_moments
from execution.decision import Choice, Decision, Rests, Why
from execution.fees import FeeSchedule, TradingCosts
from execution.lending import MarginTerms
from execution.orders import TERMS, Account, Order, OrderTerms, rebalance, strategy_of
from execution.outlook import beliefs, outlook
from execution.overnight import cut_for_the_night
from forecasting.forecast import HORIZON, Forecaster, Progress, silent
from forecasting.moments import Volatility
from foundation.arrays import Array, Mask
from foundation.errors import InputError
from sizing.allocation import Allocation, NoEquity, Situation
from sizing.kelly import SizingProblem, SolverFailed
from sizing.limits import Limits
from sizing.premium import PriorSettings
from sizing.quantity import Fallback, target_quantity
from sizing.solver.multi_period import Later, later_costs
from sizing.strategies import Legacy, Strategy, named
from trainingdata.bars import Bars
from trainingdata.correlation import Correlations
from trainingdata.instruments import Instrument, Kind, instrument
from trainingdata.sessions import DAY, Holding

_NONE = Decimal(0)
_KINDS = tuple(Kind)


class Decider(Protocol):
    """Anything that turns what is known and what is held into a decision."""

    def decide(self, bars: Bars, account: Account) -> Decision | None:
        """The decision at the panel's last instant; None where nothing decides then."""
        ...


@dataclass(frozen=True, slots=True)
class SizingSettings:
    """How much.

    strategy: one of `sizing.strategies`. fraction: of full Kelly, instead of the one in a Kelly
    strategy's name. volatility: rule that reads sigma from quantiles. holding: a `plan`, or one
    interval, `next` or `session`. signal_bars: own bars that a plan's second block ends after,
    while a forecast is worth something. enhanced: false sizes by the legacy rule whatever the
    strategy; risk_multiplier is its factor for stocks. fallback: what answers when sizing cannot,
    nothing or `legacy`. position: weight that `fixed_fraction` takes. target_volatility: a year, of
    `vol_target`. band: relative to where a weight belongs, within which strategies that hold a
    pattern leave it alone.
    """

    strategy: str = "kelly_50"
    fraction: float | None = None
    volatility: Volatility = "quantile"
    holding: Holding = "plan"
    signal_bars: int = 3
    enhanced: bool = True
    risk_multiplier: float = 1.0
    fallback: Fallback = "none"
    position: float = 0.1
    target_volatility: float = 0.15
    band: float = 0.25

    def __post_init__(self) -> None:
        for name, most in (
            ("risk_multiplier", 10.0),
            ("position", 10.0),
            ("target_volatility", 10.0),
        ):
            if not 0 < getattr(self, name) <= most:
                raise InputError(f"sizing.{name}: {getattr(self, name)} is outside 0 … {most:g}")
        if not 0 <= self.band < 1:
            raise InputError(f"sizing.band: {self.band} is outside 0 … 1")
        if not 1 <= self.signal_bars <= HORIZON:
            raise InputError(f"sizing.signal_bars: {self.signal_bars} is outside 1 … {HORIZON}")
        self.rule()

    def rule(self) -> Strategy:
        """The strategy these settings name."""
        named_one = named(
            self.strategy,
            fraction=self.fraction,
            size=self.position,
            deviation=self.target_volatility,
            band=self.band,
            risk_multiplier=self.risk_multiplier,
        )
        return named_one if self.enhanced else self.legacy()

    def interval(self) -> Holding:
        """The holding interval that beliefs are formed over: the strategy's own, else the one
        named here.
        """
        return self.rule().holding or self.holding

    def legacy(self) -> Legacy:
        """The legacy rule."""
        return Legacy(self.risk_multiplier)


@dataclass(frozen=True, eq=False, slots=True)
class Trader:
    """Forecasts, sizes and orders; holds no state of its own. strategy: the name its orders carry.

    margin: what borrowing costs. table: beliefs computed in advance, which answer what the bars up
    to each instant would.
    """

    strategy: str
    forecaster: Forecaster
    correlations: Correlations
    sizing: SizingSettings
    limits: Limits
    costs: TradingCosts
    fees: FeeSchedule
    terms: OrderTerms = TERMS
    prior: PriorSettings = field(default_factory=PriorSettings)
    margin: MarginTerms = field(default_factory=MarginTerms)
    table: Beliefs | None = None

    @property
    def blocks(self) -> Blocks:
        """The spans of time that its decisions look at."""
        return Blocks(self.sizing.interval(), self.sizing.signal_bars, self.prior.horizon_days)

    def over(self, bars: Bars, since: np.datetime64, progress: Progress = silent) -> Trader:
        """The same trader with everything that does not depend on an account computed for all
        bars from `since` on.
        """
        return replace(self, table=self.beliefs(bars, since, progress))

    def beliefs(self, bars: Bars, since: np.datetime64, progress: Progress = silent) -> Beliefs:
        """What it believes at every instant of the panel from `since` on."""
        rule = self.sizing.volatility
        blocks = self.blocks
        return beliefs(
            self.forecaster,
            self.correlations,
            bars,
            since,
            rule=rule,
            blocks=blocks,
            progress=progress,
        )

    def outlook(self, bars: Bars, symbol: str, now: np.datetime64) -> Belief:
        """What it believes of one symbol at any instant, as if it alone decided then.

        Raises
        ------
        NoForecast
            where what is known then does not forecast it.
        """
        rule = self.sizing.volatility
        blocks = self.blocks
        return outlook(
            self.forecaster, self.correlations, bars, symbol, now, rule=rule, blocks=blocks
        )

    def decide(self, bars: Bars, account: Account) -> Decision | None:
        """The decision at the panel's last instant, from nothing but the panel and the account."""
        table = self.beliefs(bars, bars.now) if self.table is None else self.table
        belief = table.of(bars.now)
        if belief is None:
            return None
        decision = self.act(bars, account, belief)
        return decision if decision.choices or belief.deciding.any() else None

    def act(self, bars: Bars, account: Account, belief: Belief) -> Decision:
        """The decision that a belief leads to; what takes no orders stays as it is."""
        if not bars.tradable.all():
            belief = replace(belief, deciding=belief.deciding & bars.tradable)
        limits = self.limits.within(account.leverage)
        ceiling = limits.stock_ceiling(overnight=belief.overnight, equity=account.equity)
        again = _decided_again(self.strategy, account, belief) if account.open_orders else ()
        left = _ended(account, again)
        choices, sized, failure, unsolved = self._sizes(
            bars, left, left.exposure, belief, limits, ceiling
        )
        if again and not sized:
            again = ()
            left = account
            choices = _without_risk(account, account.exposure, belief)
        if belief.cuts:
            choices = cut_for_the_night(choices, bars, left, belief, ceiling, self._cost_of())
        replaced = _replaced(self.strategy, left, choices) if left.open_orders else ()
        before = left.exposure
        exposure = _ended(left, replaced).exposure
        choices = (
            tuple(_from(choice, before, exposure) for choice in choices) if replaced else choices
        )
        orders = rebalance(
            self.strategy, belief.at, _targets(bars, exposure, belief, choices, self.terms, failure)
        )
        cancels = tuple(order.client_order_id for order in (*again, *replaced))
        return Decision(
            belief.at,
            belief.until,
            account.equity,
            ceiling,
            choices,
            orders,
            sized,
            failure,
            unsolved,
            cancels,
        )

    def _sizes(
        self,
        bars: Bars,
        account: Account,
        exposure: Mapping[str, Decimal],
        belief: Belief,
        limits: Limits,
        ceiling: float,
    ) -> tuple[tuple[Choice, ...], tuple[str, ...], str, SizingProblem | None]:
        """Choices of what decides, what was sized by which rule, why enhanced sizing failed,
        and what was not solved.
        """
        if not belief.deciding.any():
            return (), (), "", None
        rule = self.sizing.rule()
        failure = ""
        unsolved = None
        try:
            situation = self._situation(bars, account, exposure, belief, rule, ceiling)
            try:
                allocation = rule.allocate(situation, limits)
            except SolverFailed as error:
                if self.sizing.fallback == "none":
                    raise
                failure = str(error)
                unsolved = error.problem
                rule = self.sizing.legacy()
                allocation = rule.allocate(situation, limits)
        except SolverFailed as error:
            return _without_risk(account, exposure, belief), (), str(error), error.problem
        except NoEquity as error:
            return _without_risk(account, exposure, belief), (), str(error), unsolved
        rests = self._rests(bars, belief, rule)
        choices = _choices(bars, account, exposure, belief, situation, allocation, rests)
        return choices, _sized(bars, belief, rule, ceiling), failure, unsolved

    def _rests(self, bars: Bars, belief: Belief, rule: Strategy) -> list[Rests]:
        """[S] what targets rest on."""
        sharpe = self._sharpe(bars, rule)
        premium = belief.premium * sharpe
        earned = premium * belief.years.sum(axis=0)
        deviation = np.sqrt((belief.sigma**2).sum(axis=0))
        forecast = belief.mu.sum(axis=0) if rule.forecast else np.zeros(len(premium))
        days = float((belief.ends[-1] - belief.at) / DAY)
        columns = (column.tolist() for column in (sharpe, premium, earned, forecast))
        worth = [None if value != value else value for value in belief.worth.tolist()]
        return [Rests(days, *row) for row in zip(*columns, worth, deviation.tolist(), strict=True)]

    def _sharpe(self, bars: Bars, rule: Strategy) -> Array:
        """[S] the stated Sharpe ratio that a strategy goes by: of the symbol's class, or 0."""
        return self.prior.sharpe(bars.crypto) if rule.premium else np.zeros(len(bars.crypto))

    def _cost_of(self) -> dict[Kind, float]:
        """Of trading one USD, by class."""
        stock, coin = self.costs.expected(np.array([False, True]), self.fees).tolist()
        return {Kind.STOCK: stock, Kind.CRYPTO: coin}

    def _situation(
        self,
        bars: Bars,
        account: Account,
        exposure: Mapping[str, Decimal],
        belief: Belief,
        rule: Strategy,
        stock_ceiling: float,
    ) -> Situation:
        """The sizing problem: the panel's symbols, then what is held outside it.

        What is fixed and has no forecast counts for the ceilings and has no variance.
        """
        outside = [s for s in exposure if s not in belief.symbols]
        crypto = bars.crypto
        long_only = bars.long_only
        deciding = belief.deciding
        years = belief.years[0]
        if not account.shorting:
            long_only = np.ones(len(crypto), dtype=bool)
        if outside:
            none = np.zeros(len(outside), dtype=bool)
            crypto = np.append(crypto, [instrument(s).kind is Kind.CRYPTO for s in outside])
            long_only = np.append(long_only, ~none)
            deciding = np.append(deciding, none)
            years = np.append(years, 0.0 * none)
        moments = (
            belief.mu,
            belief.sigma,
            belief.premium * self._sharpe(bars, rule),
            belief.years,
            belief.correlation,
        )
        mu, covariance, known = block_moments(*moments, belief.deciding, rule.forecast, len(crypto))
        tolls = self.margin.nightly(np.array([belief.at])) * belief.nights
        cost = self.costs.expected(crypto, self.fees)
        signal = np.zeros(len(crypto))
        signal[: len(belief.symbols)] = belief.signal if rule.forecast else 0.0
        situation = Situation.of(
            (*belief.symbols, *outside),
            account,
            account.prices,
            mu=mu[0],
            covariance=covariance[0],
            cost=cost,
            crypto=crypto,
            long_only=long_only,
            deciding=deciding,
            universe=known,
            years=years,
            stock_ceiling=stock_ceiling,
            toll=float(tolls[0]),
            later=Later(mu[1:], covariance[1:], tolls[1:], later_costs(cost, signal, len(mu) - 1)),
        )
        return situation.beside(*_undone(account)) if account.open_orders else situation


def _undone(account: Account) -> tuple[Array, Mask]:
    """Weights [M] that open orders would take off positions and have not yet, and which of them
    are coins.
    """
    undone = account.undone
    prices = account.prices
    weights = [float(quantity) * prices[s] / account.equity for s, quantity in undone.items()]
    return np.array(weights), np.array(
        [instrument(s).kind is Kind.CRYPTO for s in undone], dtype=bool
    )


def _decided_again(strategy: str, account: Account, belief: Belief) -> tuple[Order, ...]:
    """The strategy's own open reductions of what decides now: how much is sold is decided anew,
    from what is held.
    """
    deciding = {
        s for s, decides in zip(belief.symbols, belief.deciding.tolist(), strict=True) if decides
    }
    mine = (
        o
        for o in account.open_orders
        if o.symbol in deciding and strategy_of(o.client_order_id) == strategy
    )
    return tuple(o for o in mine if account.positions.get(o.symbol, _NONE) * o.signed_qty < 0)


def _ended(account: Account, orders: tuple[Order, ...]) -> Account:
    """The account once these open orders have been cancelled."""
    gone = {order.client_order_id for order in orders}
    open_orders = tuple(order for order in account.open_orders if order.client_order_id not in gone)
    return replace(account, open_orders=open_orders) if orders else account


def _replaced(strategy: str, account: Account, choices: tuple[Choice, ...]) -> tuple[Order, ...]:
    """The strategy's own open orders that a new one of their symbol takes the place of.

    They are those it would trade with, and reductions: what is left of these is part of the new
    order.
    """
    changes = {c.symbol: c.qty for c in choices if c.qty}
    undone = account.undone
    return tuple(
        order
        for order in account.open_orders
        if strategy_of(order.client_order_id) == strategy
        and order.symbol in changes
        and (order.symbol in undone or order.signed_qty * changes[order.symbol] < 0)
    )


def _from(choice: Choice, before: Mapping[str, Decimal], after: Mapping[str, Decimal]) -> Choice:
    """The choice of the same target, ordered from what is held and open after its orders have
    been replaced.
    """
    moved = before.get(choice.symbol, _NONE) - after.get(choice.symbol, _NONE)
    return choice._replace(qty=choice.qty + moved) if moved else choice


def _choices(
    bars: Bars,
    account: Account,
    exposure: Mapping[str, Decimal],
    belief: Belief,
    situation: Situation,
    allocation: Allocation,
    rests: list[Rests],
) -> tuple[Choice, ...]:
    """What an allocation means for each symbol that decides."""
    mu = belief.mu[0].tolist()
    sigma = belief.sigma[0].tolist()
    cost = situation.cost.tolist()
    wanted = allocation.wanted.tolist()
    target = allocation.target.tolist()
    now = situation.held.tolist()
    prices = account.prices
    bound = allocation.binding
    equity = situation.equity
    choices = []
    for s in belief.deciding.nonzero()[0].tolist():
        item = bars.instruments[s]
        symbol = item.symbol
        held = exposure.get(symbol, _NONE)
        price = prices[symbol]
        qty = target_quantity(target[s], now[s], held, equity, price, item.increment) - held
        weights = wanted[s], now[s], target[s]
        choices.append(
            Choice(symbol, mu[s], sigma[s], *weights, qty, price, bound[s], cost[s], rests[s])
        )
    return tuple(choices)


def _sized(bars: Bars, belief: Belief, rule: Strategy, stock_ceiling: float) -> tuple[str, ...]:
    """A line a class: which rule sized which symbols."""
    lines = []
    deciding = [
        item
        for item, decides in zip(bars.instruments, belief.deciding.tolist(), strict=True)
        if decides
    ]
    for kind in _KINDS:
        symbols = [item.symbol for item in deciding if item.kind is kind]
        if symbols:
            lines.append(f"{rule.phrase(kind, stock_ceiling)}: {' '.join(symbols)}")
    return tuple(lines)


def _without_risk(
    account: Account, exposure: Mapping[str, Decimal], belief: Belief
) -> tuple[Choice, ...]:
    """No new risk: what decides is left as it is, or closed where there is no equity to carry
    it.
    """
    choices = []
    equity = account.equity
    nan = float("nan")
    for s in belief.deciding.nonzero()[0].tolist():
        symbol = belief.symbols[s]
        price = account.prices[belief.symbols[s]]
        held = exposure.get(symbol, _NONE)
        weight = float(held) * price / equity if equity > 0 else nan
        target, change = (weight, _NONE) if equity > 0 else (0.0, -held)
        beliefs_of = float(belief.mu[0, s]), float(belief.sigma[0, s])
        choices.append(
            Choice(symbol, *beliefs_of, nan, weight, target, change, price, {"failed": nan}, nan)
        )
    return tuple(choices)


def _targets(
    bars: Bars,
    exposure: Mapping[str, Decimal],
    belief: Belief,
    choices: tuple[Choice, ...],
    terms: OrderTerms,
    failure: str,
) -> Iterator[tuple[Instrument, Decimal, Decimal, float, Why]]:
    """(instrument, held, wanted, most in one order, why) of each choice that changes anything."""
    items = dict(zip(belief.symbols, bars.instruments, strict=True))
    hours = float((belief.until - belief.at) / np.timedelta64(1, "h"))
    for choice in choices:
        if choice.qty:
            held = exposure.get(choice.symbol, _NONE)
            item = items[choice.symbol]
            yield (
                item,
                held,
                held + choice.qty,
                terms.most(item, choice.price),
                Why(choice, hours, failure),
            )
