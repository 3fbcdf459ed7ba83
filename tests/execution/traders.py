"""Traders and accounts of tests, with the default of whatever a test does not say."""

from __future__ import annotations

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
    """A random walk whose median is moved by so many basis points a step, for some symbols."""

    name = "tilted"

    def __init__(self, **basis_points: float) -> None:
        self.basis_points = basis_points

    def forecast(
        self, bars: Bars, since: np.datetime64, progress: Progress = silent
    ) -> ForecastTable:
        table = RandomWalk().forecast(bars, since)
        tilt = np.array([self.basis_points.get(s, 0.0) for s in bars.symbols])[table.windows.symbol]
        steps = np.arange(1, HORIZON + 1)
        values = table.values * (1 + 1e-4 * tilt[:, None, None] * steps[None, :, None])
        return replace(table, quantiles=values.astype(np.float32))


def trader_of(forecaster: Any, sizing: SizingSettings | None = None, **more: Any) -> Trader:
    """A trader; more: `limits`, `costs`, and what else a trader takes by name."""
    limits = more.pop("limits", None) or Limits()
    costs = more.pop("costs", None) or TradingCosts()
    rules = sizing or SizingSettings(), limits, costs, FeeSchedule()
    return Trader("test", forecaster, CorrelationEstimator(), *rules, **more)


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
