"""Traders and accounts of tests, with the default of whatever a test does not say."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from execution.fees import FeeSchedule, TradingCosts
from execution.orders import Account
from execution.trader import SizingSettings, Trader
from forecasting.baseline import RandomWalk
from forecasting.forecast import HORIZON, ForecastTable, Progress, silent
from sizing.limits import Limits
from trainingdata.bars import Bars
from trainingdata.correlation import CorrelationEstimator


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
        self.told = {"persistence": left, "skill": skill}

    def forecast(
        self, bars: Bars, since: np.datetime64, progress: Progress = silent
    ) -> ForecastTable:
        table = RandomWalk().forecast(bars, since)
        symbol = table.windows.symbol
        tilt = np.array([self.basis_points.get(s, self.others) for s in bars.symbols])[symbol]
        steps = np.ones(HORIZON) if self.at_once else np.arange(1, HORIZON + 1)
        values = table.values * (1 + 1e-4 * tilt[:, None, None] * steps[None, :, None])
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
    return bars.until(np.datetime64(at, "ns"))


def prices_of(bars: Bars) -> dict[str, float]:
    """The last close of every symbol that has one."""
    closes = zip(bars.symbols, bars.last_closes(), strict=True)
    return {symbol: float(price) for symbol, price in closes if np.isfinite(price)}


def account_in(bars: Bars, **weights: float) -> Account:
    """100,000 USD of equity in these weights, in whole units."""
    prices = prices_of(bars)
    positions = {s: Decimal(int(100_000 * w / prices[s])) for s, w in weights.items()}
    cash = 100_000 - sum(float(q) * prices[s] for s, q in positions.items())
    return Account(cash, positions, prices, bars.now)
