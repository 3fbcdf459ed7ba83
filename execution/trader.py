"""The decision: bars and an account in, orders and the reasons for them out. Backtest and live run this and nothing else.

How a bar becomes an order:

1. the symbols whose bar has just closed and whose market is open to fill decide; all others stay as they are;
2. each symbol's latest forecast is read over the holding interval, from this fill to the next decision's: mu and sigma;
3. correlation known at the last 16:00 makes them a covariance;
4. half-Kelly under the limits of the time of day, net of trading costs, gives target weights;
5. weights become quantities, and the difference to what is held becomes orders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

import numpy as np
import numpy.typing as npt

from execution.fees import FeeSchedule, TradingCosts
from execution.orders import Account, Order, rebalance
from forecasting.forecast import Forecaster, Progress, QuantileForecast, silent
from forecasting.moments import Moments, Volatility, forecast_moments
from sizing.allocation import NoEquity, Situation, allocate
from sizing.kelly import SolverFailed
from sizing.limits import Limits
from sizing.quantity import target_quantity
from trainingdata.bars import Bars
from trainingdata.correlation import Correlations, CorrelationTable
from trainingdata.errors import InputError
from trainingdata.instruments import Instrument, Kind, instrument
from trainingdata.sessions import Holding, bar_position, holding_end, is_decision, stays_open

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Choice:
    """What was decided for one symbol, and why.

    mu, sigma: over the holding interval. kelly: unconstrained fractional Kelly weight. target: weight under every limit.
    qty: signed quantity ordered. binding: the limits that hold the target where it is. cost: of trading one USD.
    """

    symbol: str
    mu: float
    sigma: float
    kelly: float
    target: float
    qty: Decimal
    binding: str
    cost: float


@dataclass(frozen=True, slots=True)
class Decision:
    """One instant's decision: the choices of the symbols that decided, the orders they led to, and what stood around it.

    stock_ceiling: stock gross allowed, in multiples of equity. failure: why no new risk was taken, empty where sizing
    answered.
    """

    at: np.datetime64
    until: np.datetime64
    equity: float
    stock_ceiling: float
    choices: tuple[Choice, ...]
    orders: tuple[Order, ...]
    failure: str = ""


class Decider(Protocol):
    """Anything that turns what is known and what is held into a decision."""

    def decide(self, bars: Bars, account: Account) -> Decision | None:
        """The decision at the panel's last instant; None where nothing decides then."""
        ...


@dataclass(frozen=True, slots=True)
class SizingSettings:
    """fraction: of full Kelly. volatility: rule that reads sigma from quantiles. holding: `next` or `session`."""

    fraction: float = 0.5
    volatility: Volatility = "quantile"
    holding: Holding = "next"

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InputError(f"sizing.fraction: {self.fraction} is outside 0 … 1")


@dataclass(frozen=True, eq=False, slots=True)
class Trader:
    """Forecasts, sizes and orders; holds no state of its own. strategy: the name its orders carry."""

    strategy: str
    forecaster: Forecaster
    correlations: Correlations
    sizing: SizingSettings
    limits: Limits
    costs: TradingCosts
    fees: FeeSchedule

    def over(self, bars: Bars, since: np.datetime64, progress: Progress = silent) -> Trader:
        """The same trader with everything that does not depend on an account computed for all bars from `since` on."""
        table = self.forecaster.forecast(bars, since, progress)
        return replace(self, forecaster=table, correlations=CorrelationTable.over(self.correlations, bars, since))

    def decide(self, bars: Bars, account: Account) -> Decision | None:
        """The decision at the panel's last instant, from nothing but the panel and the account."""
        now = bars.now
        closed = deciding_symbols(bars)
        if not closed.any():
            return None
        forecast = self.forecaster.forecast(bars, now).at(now)
        moments = self._moments(bars, forecast, closed)
        deciding = closed & (forecast.issued_at == now) & (moments.sigma > 0)
        if not deciding.any():
            return None
        ceiling = self.limits.stock_ceiling(overnight=not stays_open(now), equity=account.equity)
        failure = ""
        try:
            choices = self._choices(bars, account, moments, deciding, ceiling)
        except (SolverFailed, NoEquity) as error:
            choices, failure = _without_risk(bars, account, moments, deciding), str(error)
        orders = rebalance(self.strategy, now, _targets(bars, account, moments, choices, failure))
        return Decision(now, moments.end, account.equity, ceiling, choices, orders, failure)

    def _moments(self, bars: Bars, forecast: QuantileForecast, closed: Mask) -> Moments:
        """mu and sigma of every symbol from now to the end of the deciding symbols' holding interval."""
        now = bars.now
        kinds = {bars.instruments[s].kind for s in np.flatnonzero(closed)}
        end = max(holding_end(kind, now, self.sizing.holding) for kind in kinds)
        begin, finish = np.zeros(len(bars.symbols)), np.zeros(len(bars.symbols))
        known = ~np.isnat(forecast.issued_at)
        for kind, members in ((Kind.STOCK, ~bars.crypto), (Kind.CRYPTO, bars.crypto)):
            rows = np.flatnonzero(members & known)
            if len(rows):
                issued = bar_position(kind, forecast.issued_at[rows])
                here, there = bar_position(kind, np.array([now, end]))
                begin[rows], finish[rows] = here - issued, there - issued
        return forecast_moments(forecast, begin, finish, now, end, self.sizing.volatility)

    def _choices(
        self, bars: Bars, account: Account, moments: Moments, deciding: Mask, stock_ceiling: float
    ) -> tuple[Choice, ...]:
        """What Kelly under the limits chooses for each symbol that decides."""
        situation = self._situation(bars, account, moments, deciding, stock_ceiling)
        allocation = allocate(situation, self.limits, self.sizing.fraction)
        choices = []
        for s in np.flatnonzero(deciding):
            item, weight = bars.instruments[s], float(allocation.target[s])
            held = account.exposure.get(item.symbol, Decimal(0))
            price = account.prices[item.symbol]
            wanted = target_quantity(weight, float(situation.held[s]), held, situation.equity, price, item.increment)
            choices.append(
                Choice(
                    symbol=item.symbol,
                    mu=float(moments.mu[s]),
                    sigma=float(moments.sigma[s]),
                    kelly=float(allocation.kelly[s]),
                    target=weight,
                    qty=wanted - held,
                    binding=allocation.binding[s],
                    cost=float(situation.cost[s]),
                )
            )
        return tuple(choices)

    def _situation(self, bars: Bars, account: Account, moments: Moments, deciding: Mask, stock_ceiling: float) -> Situation:
        """The sizing problem: the panel's symbols, then what is held outside it.

        What is fixed and has no forecast counts for the ceilings and has no variance.
        """
        outside = [s for s in account.exposure if s not in bars.symbols]
        symbols = (*bars.symbols, *outside)
        n, m = len(bars.symbols), len(outside)
        sigma = np.where(np.isfinite(moments.sigma), moments.sigma, 0.0)
        covariance = np.zeros((n + m, n + m))
        covariance[:n, :n] = self.correlations.at(bars).values * np.outer(sigma, sigma)
        crypto = np.array([instrument(s).kind is Kind.CRYPTO for s in symbols])
        return Situation.of(
            symbols,
            account,
            account.prices,
            mu=np.append(np.where(deciding, moments.mu, 0.0), np.zeros(m)),
            covariance=covariance,
            cost=self.costs.expected(crypto, self.fees),
            deciding=np.append(deciding, np.zeros(m, dtype=bool)),
            stock_ceiling=stock_ceiling,
        )


def deciding_symbols(bars: Bars) -> Mask:
    """[S] symbols whose bar closed at the panel's last instant and whose market is open to fill then."""
    now = np.array([bars.now])
    open_to_fill = {kind: bool(is_decision(kind, now)[0]) for kind in Kind}
    return np.asarray(bars.mask[:, -1] & np.array([open_to_fill[item.kind] for item in bars.instruments]))


def _without_risk(bars: Bars, account: Account, moments: Moments, deciding: Mask) -> tuple[Choice, ...]:
    """No new risk: what decides is left as it is, or closed where there is no equity to carry it."""
    choices = []
    nan = float("nan")
    for s in np.flatnonzero(deciding):
        symbol, equity = bars.symbols[s], account.equity
        held = account.exposure.get(symbol, Decimal(0))
        weight, change = (float(held) * account.prices[symbol] / equity, Decimal(0)) if equity > 0 else (0.0, -held)
        choices.append(Choice(symbol, float(moments.mu[s]), float(moments.sigma[s]), nan, weight, change, "failed", nan))
    return tuple(choices)


def _targets(
    bars: Bars, account: Account, moments: Moments, choices: tuple[Choice, ...], failure: str
) -> Iterator[tuple[Instrument, Decimal, Decimal, str]]:
    """(instrument, held, wanted, why) of each choice."""
    for choice in choices:
        held = account.exposure.get(choice.symbol, Decimal(0))
        reason = failure or _reason(choice, float(held) * account.prices[choice.symbol] / account.equity, moments)
        yield instrument(choice.symbol), held, held + choice.qty, reason


def _reason(choice: Choice, held: float, moments: Moments) -> str:
    hours = (moments.end - moments.start) / np.timedelta64(1, "h")
    bound = f", bound by {choice.binding}" if choice.binding else ""
    return (
        f"expected {choice.mu * 1e4:+.1f} bp, deviation {choice.sigma * 1e4:.1f} bp over {hours:g} h:"
        f" weight {held:+.3f} to {choice.target:+.3f}{bound}"
    )
