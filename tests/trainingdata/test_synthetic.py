from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from trainingdata.bars import CLOSE, OPEN, Bars
from trainingdata.synthetic import MOMENTUM_PERSISTENCE, SyntheticMarket

LONG = {"start": "2018-01-02", "end": "2024-06-28", "symbols": ("SYA", "SYB", "SYXUSD", "SYYUSD")}


def information_coefficient(bars: Bars) -> float:
    """Correlation of each bar's return after its open with the momentum of the returns before
    it, pooled.
    """
    signals = []
    outcomes = []
    for s in range(len(bars.symbols)):
        values = bars.bars_of_symbol(s)[1]
        returns = np.diff(np.log(values[:, CLOSE]))
        momentum = lfilter(
            [np.sqrt(1 - MOMENTUM_PERSISTENCE**2)],
            [1, -MOMENTUM_PERSISTENCE],
            returns / returns.std(),
        )
        signals.append(momentum[:-1])
        inside = np.log(values[2:, CLOSE] / values[2:, OPEN])
        outcomes.append(inside / inside.std())
    return float(np.corrcoef(np.concatenate(signals), np.concatenate(outcomes))[0, 1])


def test_synthetic_bars_depend_on_the_seed_alone() -> None:
    a, b, c = (
        SyntheticMarket(seed=s, start="2024-01-02", end="2024-02-01").generate_bars()
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(a.values, b.values)
    assert not np.array_equal(a.values, c.values, equal_nan=True)


def test_synthetic_market_has_its_stated_information_coefficient() -> None:
    with_edge = information_coefficient(
        SyntheticMarket(information_coefficient=0.08, **LONG).generate_bars()
    )
    without = information_coefficient(
        SyntheticMarket(information_coefficient=0.0, **LONG).generate_bars()
    )
    assert 0.05 < with_edge < 0.1
    assert abs(without) < 0.015


def test_returns_are_heavy_tailed_clustered_and_correlated() -> None:
    bars = SyntheticMarket(**LONG).generate_bars()
    coin = np.diff(np.log(bars.bars_of_symbol(bars.symbols.index("SYXUSD"))[1][:, CLOSE]))
    other = np.diff(np.log(bars.bars_of_symbol(bars.symbols.index("SYYUSD"))[1][:, CLOSE]))
    assert (coin**4).mean() / (coin**2).mean() ** 2 > 4
    assert np.corrcoef(np.abs(coin[1:]), np.abs(coin[:-1]))[0, 1] > 0.1
    assert 0.4 < np.corrcoef(coin, other)[0, 1] < 0.7
