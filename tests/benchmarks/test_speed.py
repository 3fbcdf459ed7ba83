"""Measurements behind docs/PERFORMANCE.md: `make bench`. They print, they assert no time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline

from forecasting.baseline import RandomWalk
from forecasting.chronos2 import SHIPPED, Chronos2Forecaster
from forecasting.forecast import HORIZON, LEVELS, Windows
from marketsimulator.backtest import simulate
from marketsimulator.settings import BacktestSettings
from sizing.kelly import kelly_weights
from trainingdata.composition import composed
from trainingdata.synthetic import SyntheticMarket

pytestmark = pytest.mark.bench


def seconds(work: Callable[[], object], runs: int = 3) -> float:
    """Median of `runs` after one warm-up."""
    work()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def test_forecasts_a_second_beside_the_librarys_pipeline() -> None:
    bars = SyntheticMarket().bars()
    since = bars.times[-700]
    forecaster = Chronos2Forecaster()
    windows = Windows.of(bars, since, 100)
    contexts = [torch.tensor(c, dtype=torch.float32) for _, b in windows.batches(256) for c in b]
    pipeline = Chronos2Pipeline.from_pretrained(str(SHIPPED))
    ours = seconds(lambda: forecaster.forecast(bars, since))
    best = min(
        (seconds(lambda size=size: pipeline.predict(contexts, prediction_length=HORIZON, batch_size=size)), size)
        for size in (64, 128, 256, 512)
    )
    raw = pipeline.predict_quantiles(contexts, prediction_length=HORIZON, quantile_levels=list(LEVELS))[0]
    expected = np.sort(np.stack([q[0].numpy() for q in raw]), axis=-1)
    error = np.abs(forecaster.forecast(bars, since).values - expected).max(axis=(1, 2)) / np.stack(contexts).std(axis=1)
    n = len(windows)
    print(f"\n{n} windows: ours {n / ours:,.0f}/s, pipeline at its best batch ({best[1]}) {n / best[0]:,.0f}/s,", end=" ")
    print(f"{best[0] / ours:.2f} x; largest difference {error.max():.1e} of a window's deviation")


def test_decisions_a_second() -> None:
    settings = BacktestSettings.of(composed("backtest", ["start=2024-04-01", "forecaster=oracle"]))
    bars = settings.bars()
    first = np.datetime64("2024-04-01T04:00", "ns")
    begin = int(np.searchsorted(bars.times, first))
    trader = settings.trader(settings.forecaster.build()).over(bars, first)
    taken = seconds(lambda: simulate(settings, bars, begin, "oracle", trader))
    instants = len(bars.times) - begin
    each = 1e3 * taken / instants
    print(f"\n{instants} instants, {len(bars.symbols)} symbols: {each:.3f} ms an instant, decision and settlement")


@pytest.mark.parametrize("n", [10, 50, 200])
def test_one_kelly_problem(n: int) -> None:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(n, n + 2))
    covariance, mu = factors @ factors.T / n * 1e-4, rng.normal(0, 1e-3, n)
    held, wide = np.clip(rng.normal(0, 0.1, n), -0.6, 0.6), np.full(n, 0.6)
    limits = {"lower": -wide, "upper": wide, "groups": [(np.ones(n), 2.0), (np.full(n, 0.25), 1.0)]}
    taken = seconds(lambda: kelly_weights(mu, covariance, held=held, cost=np.full(n, 2e-4), **limits), runs=200)
    print(f"\nn = {n}: {1e3 * taken:.3f} ms with costs")


def test_a_random_walk_over_a_long_history() -> None:
    bars = SyntheticMarket(start="2019-01-02").bars()
    taken = seconds(lambda: RandomWalk().forecast(bars, bars.times[0]))
    print(f"\n{bars.mask.sum():,} windows of a random walk: {bars.mask.sum() / taken:,.0f}/s")
