"""Measurements behind docs/PERFORMANCE.md: `make bench`. They print, they assert no time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forecasting.baseline import RandomWalk
from foundation.compose import composed_config
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from trainingdata.synthetic import SyntheticMarket

Seconds = Callable[..., float]
pytestmark = pytest.mark.bench


def test_decisions_a_second(seconds: Seconds) -> None:
    settings = BacktestSettings.of(
        composed_config(
            "backtest", ["start=2024-04-01", "forecaster=oracle", "forecaster.calibrated=false"]
        )
    )
    bars = settings.bars()
    first = np.datetime64("2024-04-01T04:00", "ns")
    begin = int(np.searchsorted(bars.times, first))
    trader = settings.trader(settings.forecaster.build(bars.symbols)).over(bars, first)
    taken = seconds(lambda: simulate_trading(settings, bars, begin, "oracle", trader))
    instants = len(bars.times) - begin
    each = 1e3 * taken / instants
    print(
        f"\n{instants} instants, {len(bars.symbols)} symbols: {each:.3f} ms an instant, decision"
        " and settlement"
    )


def test_a_random_walk_over_a_long_history(seconds: Seconds) -> None:
    bars = SyntheticMarket(start="2019-01-02").bars()
    taken = seconds(lambda: RandomWalk().forecast(bars, bars.times[0]).values)
    print(f"\n{bars.mask.sum():,} windows of a random walk: {bars.mask.sum() / taken:,.0f}/s")
