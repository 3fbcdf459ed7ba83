"""Forecasting time outside the network: single calls, cache, import; `make bench`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline

from forecasting.chronos2.cached_forecaster import CachedForecaster
from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import InferenceProfile
from forecasting.forecast import HORIZON
from trainingdata.bars import Bars
from trainingdata.instruments import instrument
from trainingdata.synthetic import SyntheticMarket

Seconds = Callable[..., float]
pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def test_speed_of_batched_versus_single_window_calls(seconds: Seconds) -> None:
    bars = SyntheticMarket().generate_bars()
    forecaster = Chronos2Forecaster()
    every = forecaster.build_windows(bars, bars.times[0])
    rows = np.arange(20_000) % len(every)
    contexts = [torch.tensor(c, dtype=torch.float32) for c in every.contexts(rows[:300])]
    pipeline = Chronos2Pipeline.from_pretrained(str(BUNDLED_CHECKPOINT))
    each = seconds(
        lambda: [pipeline.predict([c], prediction_length=HORIZON) for c in contexts]
    ) / len(contexts)
    ours = seconds(lambda: forecaster.predict(every, rows, InferenceProfile())) / len(rows)
    print(f"\none call a window: {1 / each:,.0f}/s; ours {1 / ours:,.0f}/s, {each / ours:.1f} x")


def test_time_to_read_cached_year_of_twenty_symbols(tmp_path: Path, seconds: Seconds) -> None:
    bars = SyntheticMarket(
        start="2023-01-03", end="2024-06-28", symbols=("SYA", "SYB", "SYC", "SYD", "SYE")
    ).generate_bars()
    names = tuple(sorted(f"S{a}{b}" for a in "ABCDE" for b in "QRST"))
    scale = np.linspace(0.5, 2.0, 20)[:, None, None]
    many = Bars(
        tuple(instrument(n) for n in names),
        bars.times,
        np.tile(bars.values, (4, 1, 1)) * scale,
        np.tile(bars.mask, (4, 1)),
        "synthetic",
    )
    since = np.datetime64("2023-06-29", "ns")
    CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(many, since)
    cached = CachedForecaster(Chronos2Forecaster(), tmp_path)
    taken = seconds(lambda: cached.forecast(many, since).all_quantiles)
    size = sum(p.stat().st_size for p in tmp_path.rglob("*.sqlite")) / 1e6
    count = len(cached.forecast(many, since).windows)
    print(f"\na cached year of 20 stocks, {count:,} forecasts, {size:,.0f} MB: {taken:.2f} s")


def test_import_time_of_forecasting() -> None:
    def timed(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    empty = min(timed("pass") for _ in range(5))
    for code in ("import forecasting", "import forecasting.settings"):
        print(
            f"\n{code}: {min(timed(code) for _ in range(5)) - empty:.2f} s more than an empty"
            " program"
        )
