"""The decision: bars and an account in, orders and the reasons for them out. Backtest and live run this and nothing else.

How a bar becomes an order:

1. the symbols whose bar has just closed and whose market is open to fill decide; all others stay as they are;
2. each symbol's latest forecast is read over the holding interval, from this fill to the next decision's: mu and sigma;
3. correlation known at the last 16:00 makes them a covariance;
4. half-Kelly under the limits of the time of day, net of trading costs, gives target weights;
5. weights become quantities, and the difference to what is held becomes orders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

import numpy as np

from execution.beliefs import Belief, Beliefs, beliefs
from execution.fees import FeeSchedule, TradingCosts
from execution.orders import Account, Order, rebalance
from forecasting.forecast import Forecaster, Progress, silent
from forecasting.moments import Volatility
from sizing.allocation import NoEquity, Situation, allocate
from sizing.kelly import SolverFailed
from sizing.limits import Limits
from sizing.quantity import target_quantity
from trainingdata.bars import Bars
from trainingdata.correlation import Correlations
from trainingdata.errors import InputError
from trainingdata.instruments import Instrument, Kind, instrument
from trainingdata.sessions import Holding

_NONE = Decimal(0)


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
    """Forecasts, sizes and orders; holds no state of its own. strategy: the name its orders carry.

    table: beliefs computed in advance, which answer what the bars up to each instant would.
    """

    strategy: str
    forecaster: Forecaster
    correlations: Correlations
    sizing: SizingSettings
    limits: Limits
    costs: TradingCosts
    fees: FeeSchedule
    table: Beliefs | None = None

    def over(self, bars: Bars, since: np.datetime64, progress: Progress = silent) -> Trader:
        """The same trader with everything that does not depend on an account computed for all bars from `since` on."""
        return replace(self, table=self.beliefs(bars, since, progress))

    def beliefs(self, bars: Bars, since: np.datetime64, progress: Progress = silent) -> Beliefs:
        """What it believes at every instant of the panel from `since` on."""
        rule, holding = self.sizing.volatility, self.sizing.holding
        return beliefs(self.forecaster, self.correlations, bars, since, rule=rule, holding=holding, progress=progress)

    def decide(self, bars: Bars, account: Account) -> Decision | None:
        """The decision at the panel's last instant, from nothing but the panel and the account."""
        table = self.beliefs(bars, bars.now) if self.table is None else self.table
        belief = table.of(bars.now)
        if belief is None:
            return None
        equity = account.equity
        ceiling = self.limits.stock_ceiling(overnight=belief.overnight, equity=equity)
        exposure, failure = account.exposure, ""
        try:
            choices = self._choices(bars, account, exposure, belief, ceiling)
        except (SolverFailed, NoEquity) as error:
            choices, failure = _without_risk(account, exposure, belief), str(error)
        orders = rebalance(self.strategy, belief.at, _targets(bars, account, exposure, belief, choices, failure))
        return Decision(belief.at, belief.until, equity, ceiling, choices, orders, failure)

    def _choices(
        self, bars: Bars, account: Account, exposure: Mapping[str, Decimal], belief: Belief, stock_ceiling: float
    ) -> tuple[Choice, ...]:
        """What Kelly under the limits chooses for each symbol that decides."""
        situation = self._situation(bars, account, exposure, belief, stock_ceiling)
        allocation = allocate(situation, self.limits, self.sizing.fraction)
        mu, sigma, cost = belief.mu.tolist(), belief.sigma.tolist(), situation.cost.tolist()
        kelly, target, now = allocation.kelly.tolist(), allocation.target.tolist(), situation.held.tolist()
        choices = []
        for s in np.flatnonzero(belief.deciding).tolist():
            item = bars.instruments[s]
            held, price = exposure.get(item.symbol, _NONE), account.prices[item.symbol]
            wanted = target_quantity(target[s], now[s], held, situation.equity, price, item.increment)
            bound = allocation.binding[s]
            choices.append(Choice(item.symbol, mu[s], sigma[s], kelly[s], target[s], wanted - held, bound, cost[s]))
        return tuple(choices)

    def _situation(
        self, bars: Bars, account: Account, exposure: Mapping[str, Decimal], belief: Belief, stock_ceiling: float
    ) -> Situation:
        """The sizing problem: the panel's symbols, then what is held outside it.

        What is fixed and has no forecast counts for the ceilings and has no variance.
        """
        outside = [s for s in exposure if s not in belief.symbols]
        n, m = len(belief.symbols), len(outside)
        sigma = np.where(np.isfinite(belief.sigma), belief.sigma, 0.0)
        covariance = np.zeros((n + m, n + m))
        covariance[:n, :n] = belief.correlation * np.outer(sigma, sigma)
        crypto = np.append(bars.crypto, np.array([instrument(s).kind is Kind.CRYPTO for s in outside], dtype=bool))
        return Situation.of(
            (*belief.symbols, *outside),
            account,
            account.prices,
            mu=np.append(np.where(belief.deciding, belief.mu, 0.0), np.zeros(m)),
            covariance=covariance,
            cost=self.costs.expected(crypto, self.fees),
            crypto=crypto,
            deciding=np.append(belief.deciding, np.zeros(m, dtype=bool)),
            stock_ceiling=stock_ceiling,
        )


def _without_risk(account: Account, exposure: Mapping[str, Decimal], belief: Belief) -> tuple[Choice, ...]:
    """No new risk: what decides is left as it is, or closed where there is no equity to carry it."""
    choices, equity = [], account.equity
    nan = float("nan")
    for s in np.flatnonzero(belief.deciding).tolist():
        symbol = belief.symbols[s]
        held = exposure.get(symbol, _NONE)
        weight, change = (float(held) * account.prices[symbol] / equity, _NONE) if equity > 0 else (0.0, -held)
        choices.append(Choice(symbol, float(belief.mu[s]), float(belief.sigma[s]), nan, weight, change, "failed", nan))
    return tuple(choices)


def _targets(
    bars: Bars, account: Account, exposure: Mapping[str, Decimal], belief: Belief, choices: tuple[Choice, ...], failure: str
) -> Iterator[tuple[Instrument, Decimal, Decimal, str]]:
    """(instrument, held, wanted, why) of each choice that changes anything."""
    items = dict(zip(belief.symbols, bars.instruments, strict=True))
    hours, equity = (belief.until - belief.at) / np.timedelta64(1, "h"), account.equity
    for choice in choices:
        if choice.qty:
            held = exposure.get(choice.symbol, _NONE)
            weight = float(held) * account.prices[choice.symbol] / equity
            reason = failure or _reason(choice, weight, hours)
            yield items[choice.symbol], held, held + choice.qty, reason


def _reason(choice: Choice, held: float, hours: float) -> str:
    bound = f", bound by {choice.binding}" if choice.binding else ""
    return (
        f"expected {choice.mu * 1e4:+.1f} bp, deviation {choice.sigma * 1e4:.1f} bp over {hours:g} h:"
        f" weight {held:+.3f} to {choice.target:+.3f}{bound}"
    )
