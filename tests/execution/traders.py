"""Traders and accounts of tests, with the default of whatever a test does not say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from execution.decision.beliefs import BeliefTable, build_expected_returns
from execution.decision.choice import Choice
from execution.decision.decision import Decision
from execution.decision.sizing import SizingSettings
from execution.decision.trader import Trader
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.fees import FeeSchedule, TradingCosts
from execution.orders.orders import Order
from forecasting.baseline import RandomWalk
from forecasting.forecast import HORIZON, ForecastTable, Progress, no_progress
from foundation.arrays import Array
from sizing.kelly import SizingProblem, SolverFailed
from sizing.settings import Limits
from trainingdata.bars import Bars
from trainingdata.correlation import CorrelationEstimator

MIDDAY = "2024-03-05T17:30"
LAST = "2024-03-05T20:30"  # 15:30 of New York
NIGHT = "2024-03-06T03:00"
STOCKS = ("SYA", "SYB", "SYC")


class Tilted:
    """A random walk whose quantiles are moved by so many basis points a step, for some symbols.

    others: basis points of all others. at_once: the first step moves all that follow, and these no
        further. mute: symbols of which nothing is forecast. left: by which a median fades from bar
        to bar. skill: what it is worth.
    """

    name = "tilted"

    def __init__(
        self,
        others: float = 0.0,
        *,
        at_once: bool = False,
        mute: Collection[str] = (),
        left: float | None = None,
        skill: float | None = None,
        **basis_points: float,
    ) -> None:
        self.others, self.basis_points = others, basis_points
        self.at_once, self.mute = at_once, mute
        self.told = {"persistence": left, "information_coefficient": skill}

    def forecast(
        self, bars: Bars, since: np.datetime64, progress: Progress = no_progress
    ) -> ForecastTable:
        table = RandomWalk().forecast(bars, since)
        symbol = table.windows.symbol_index
        tilt = np.array([self.basis_points.get(s, self.others) for s in bars.symbols])[symbol]
        steps = np.ones(HORIZON) if self.at_once else np.arange(1, HORIZON + 1)
        values = table.all_quantiles * (1 + 1e-4 * tilt[:, None, None] * steps[None, :, None])
        values[np.isin(np.array(bars.symbols)[symbol], list(self.mute))] = np.nan
        told = {k: np.full(len(symbol), v) for k, v in self.told.items() if v is not None}
        return replace(table, quantiles=values.astype(np.float32), **told)


def trader_of(forecaster: Any, sizing: SizingSettings | None = None, **more: Any) -> Trader:
    """A trader; more: `limits`, `costs`, and what else a trader takes by name."""
    limits = more.pop("limits", None) or Limits()
    costs = more.pop("costs", None) or TradingCosts()
    rules = sizing or SizingSettings(), limits, costs, FeeSchedule()
    return Trader("test", forecaster, CorrelationEstimator(), *rules, **more)


def known(bars: Bars, at: str) -> Bars:
    """A panel as far as it is known at an instant."""
    return bars.slice_until(np.datetime64(at, "ns"))


def prices_of(bars: Bars) -> dict[str, float]:
    """The last close of every symbol that has one."""
    closes = zip(bars.symbols, bars.last_closes(), strict=True)
    return {symbol: float(price) for symbol, price in closes if np.isfinite(price)}


def account_of(bars: Bars, *open_orders: Order, **quantities: float) -> AccountSnapshot:
    """100,000 USD of equity, of which so much is held."""
    prices = prices_of(bars)
    cash = 100_000 - sum(quantity * prices[s] for s, quantity in quantities.items())
    held = {s: Decimal(repr(quantity)) for s, quantity in quantities.items()}
    return AccountSnapshot(cash, held, prices, bars.last_instant, open_orders)


def account_in(bars: Bars, **weights: float) -> AccountSnapshot:
    """100,000 USD of equity in these weights, in whole units."""
    prices = prices_of(bars)
    return account_of(bars, **{s: int(100_000 * w / prices[s]) for s, w in weights.items()})


def decided(bars: Bars, at: str, who: Trader, held: AccountSnapshot | None = None) -> Decision:
    """A decision, which there is."""
    panel = known(bars, at)
    answer = who.decide(panel, held or account_of(panel))
    assert answer is not None
    return answer


def correlations_of(belief: BeliefTable) -> Array:
    """[K, S, S] of returns over the periods of a belief's instant, as a sizing problem has them."""
    every = np.arange(len(belief.symbol_index))
    alike = belief._replace(sigma=np.ones_like(belief.sigma))
    return build_expected_returns(alike, 0, every, np.full(2, 0.3), True, len(every)).covariance


def choice_of(decision: Decision, symbol: str) -> Choice:
    """What was chosen of a symbol."""
    return next(each for each in decision.choices if each.symbol == symbol)


def allowing(bars: Bars, *symbols: str, **flags: bool) -> Bars:
    """A panel whose venue says so of these symbols."""
    items = [replace(i, **flags) if i.symbol in symbols else i for i in bars.instruments]
    return replace(bars, instruments=tuple(items))


def without_an_answer(*_: object) -> None:
    """What a solver says that does not end."""
    raise SolverFailed("no convergence", SizingProblem(*[np.zeros(0)] * 9, 0.5))
