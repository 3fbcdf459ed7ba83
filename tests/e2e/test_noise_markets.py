"""A strategy that earns nothing must look like it: markets without an edge are not traded."""

from __future__ import annotations

import numpy as np
import pytest

from marketsimulator.backtest import simulate
from marketsimulator.settings import BacktestSettings
from trainingdata.composition import composed

MARKETS = 100


def fills_of(seed: int) -> int:
    """Fills of three months of the default trader on a synthetic market without an edge."""
    words = ["start=2024-04-01", f"data.seed={seed}", "data.edge=0", "forecaster.cache=null"]
    settings = BacktestSettings.of(composed("backtest", words))
    bars = settings.bars()
    first, _ = settings.span(bars)
    trader = settings.trader(settings.forecaster.build(bars.symbols)).over(bars, first)
    run = simulate(settings, bars, int(np.searchsorted(bars.times, first)), "noise", trader)
    return len(run.fills)


@pytest.mark.slow
def test_noise_markets_are_not_traded() -> None:
    fills = [fills_of(seed) for seed in range(MARKETS)]
    print(f"\n{sum(f == 0 for f in fills)} of {MARKETS} noise markets without a trade; fills {sorted(f for f in fills if f)}")
    assert sum(f == 0 for f in fills) >= 0.95 * MARKETS
