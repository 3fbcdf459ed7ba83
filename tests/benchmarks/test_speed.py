"""Measurements behind docs/PERFORMANCE.md: `make bench`. They print, they assert no time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forecasting.baseline import RandomWalk
from marketsimulator.backtest import simulate
from marketsimulator.settings import BacktestSettings
from sizing.kelly import kelly_weights
from trainingdata.composition import composed
from trainingdata.synthetic import SyntheticMarket

Seconds = Callable[..., float]
pytestmark = pytest.mark.bench


def test_decisions_a_second(seconds: Seconds) -> None:
    settings = BacktestSettings.of(
        composed("backtest", ["start=2024-04-01", "forecaster=oracle", "forecaster.calibrated=false"])
    )
    bars = settings.bars()
    first = np.datetime64("2024-04-01T04:00", "ns")
    begin = int(np.searchsorted(bars.times, first))
    trader = settings.trader(settings.forecaster.build(bars.symbols)).over(bars, first)
    taken = seconds(lambda: simulate(settings, bars, begin, "oracle", trader))
    instants = len(bars.times) - begin
    each = 1e3 * taken / instants
    print(f"\n{instants} instants, {len(bars.symbols)} symbols: {each:.3f} ms an instant, decision and settlement")


@pytest.mark.parametrize("n", [10, 50, 200])
def test_one_kelly_problem(n: int, seconds: Seconds) -> None:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n, n + 2))
    covariance, mu = factors @ factors.T / n * 1e-4, rng.normal(0, 1e-3, n)
    held, wide = np.clip(rng.normal(0, 0.1, n), -0.6, 0.6), np.full(n, 0.6)
    limits = {"lower": -wide, "upper": wide, "groups": [(np.ones(n), 2.0), (np.full(n, 0.25), 1.0)]}
    taken = seconds(lambda: kelly_weights(mu, covariance, held=held, cost=np.full(n, 2e-4), **limits), runs=200)
    print(f"\nn = {n}: {1e3 * taken:.3f} ms with costs")


def test_a_random_walk_over_a_long_history(seconds: Seconds) -> None:
    bars = SyntheticMarket(start="2019-01-02").bars()
    taken = seconds(lambda: RandomWalk().forecast(bars, bars.times[0]).values)
    print(f"\n{bars.mask.sum():,} windows of a random walk: {bars.mask.sum() / taken:,.0f}/s")
