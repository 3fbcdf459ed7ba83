"""Forecasts a second beside the library's pipeline in the same run, an error figure beside each: `make bench`."""

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
from chronos.chronos2.config import Chronos2CoreConfig
from chronos.chronos2.model import Chronos2Model

from forecasting.cached import CachedForecaster
from forecasting.checkpoint import SHIPPED
from forecasting.chronos2 import Chronos2Forecaster
from forecasting.forecast import HORIZON, LEVELS
from forecasting.symbols import Profile
from forecasting.train import initialise
from trainingdata.synthetic import SyntheticMarket

Seconds = Callable[..., float]
pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

GPU = torch.cuda.is_available()


def large(folder: Path) -> Path:
    """The 120 M configuration of `amazon/chronos-2` with random weights."""
    config = Chronos2CoreConfig(
        d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, dropout_rate=0.0,
        chronos_config={
            "context_length": 8192, "input_patch_size": 16, "input_patch_stride": 16, "output_patch_size": 16,
            "max_output_patches": 64, "quantiles": list(LEVELS), "use_arcsinh": True, "use_reg_token": True,
            "time_encoding_scale": 8192,
        },
        chronos_pipeline_class="Chronos2Pipeline",
    )  # fmt: skip
    config.architectures = ["Chronos2Model"]
    model = Chronos2Model(config)
    initialise(model, torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    return folder


def beside_the_pipeline(
    seconds: Seconds, model: str, windows: int, sizes: tuple[int, ...], profile: Profile, batch: int | None = None
) -> str:
    """Ours and the pipeline's at its best batch size on the same windows."""
    bars = SyntheticMarket(start="2021-01-04").bars()
    forecaster = Chronos2Forecaster(profile, batch_size=batch)
    every = forecaster.windows(bars, bars.times[0])
    rows = np.linspace(0, len(every) - 1, windows).astype(np.int64)
    contexts = [torch.tensor(c, dtype=torch.float32) for c in every.contexts(rows)]
    pipeline = Chronos2Pipeline.from_pretrained(model, device_map="cuda" if GPU else "cpu")

    def peer(size: int) -> float:
        return seconds(lambda: pipeline.predict(contexts, prediction_length=HORIZON, batch_size=size), runs=1)

    best = min((peer(size), size) for size in sizes)
    ours = seconds(lambda: forecaster.answer(every, rows, profile))
    best = min(best, (peer(best[1]), best[1]))
    check = slice(0, min(windows, 2000))
    raw = pipeline.predict_quantiles(contexts[check], prediction_length=HORIZON, quantile_levels=list(LEVELS))[0]
    expected = np.sort(np.stack([q[0].numpy() for q in raw]), axis=-1)
    deviation = np.stack([c.numpy() for c in contexts[check]]).std(axis=1)
    error = np.abs(forecaster.answer(every, rows[check], profile) - expected).max(axis=(1, 2)) / deviation
    return (
        f"{windows:,} windows: ours {windows / ours:,.0f}/s, pipeline at its best batch ({best[1]}) {windows / best[0]:,.0f}/s,"
        f" {best[0] / ours:.2f} x; largest difference {error.max():.1e} of a window's deviation, mean {error.mean():.1e}"
    )


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_shipped_checkpoint(dtype: str, seconds: Seconds) -> None:
    profile = Profile(dtype=dtype)  # type: ignore[arg-type]
    print(f"\nshipped, {dtype}: {beside_the_pipeline(seconds, str(SHIPPED), 20_000, (32, 64, 128, 256, 512), profile)}")


def test_one_call_per_symbol_per_bar(seconds: Seconds) -> None:
    bars = SyntheticMarket().bars()
    forecaster = Chronos2Forecaster()
    every = forecaster.windows(bars, bars.times[0])
    rows = np.arange(20_000) % len(every)
    contexts = [torch.tensor(c, dtype=torch.float32) for c in every.contexts(rows[:300])]
    pipeline = Chronos2Pipeline.from_pretrained(str(SHIPPED))
    each = seconds(lambda: [pipeline.predict([c], prediction_length=HORIZON) for c in contexts]) / len(contexts)
    ours = seconds(lambda: forecaster.answer(every, rows, Profile())) / len(rows)
    print(f"\none call a window: {1 / each:,.0f}/s; ours {1 / ours:,.0f}/s, {each / ours:.1f} x")


def test_the_120_million_configuration(tmp_path: Path, seconds: Seconds) -> None:
    folder = str(large(tmp_path))
    windows, sizes = (20_000, (256, 512, 1024, 2048)) if GPU else (512, (16, 32, 64, 128))
    for dtype in ("fp32", "bf16"):
        said = beside_the_pipeline(seconds, folder, windows, sizes, Profile(model=folder, dtype=dtype))  # type: ignore[arg-type]
        print(f"\n120 M random weights, {dtype}: {said}")


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no CUDA")
def test_a_year_of_five_hundred_symbols_on_a_gpu(tmp_path: Path, seconds: Seconds) -> None:
    folder = str(large(tmp_path))
    rng = np.random.default_rng(0)
    from forecasting.windows import Windows

    closes = tuple(100 * np.exp(np.cumsum(rng.normal(0, 0.01, 1849))) for _ in range(500))
    last = np.tile(np.arange(99, 1849), 500)
    symbol = np.repeat(np.arange(500), 1750)
    stamps = np.datetime64("2024-01-01", "ns") + last * np.timedelta64(1, "h")
    windows = Windows(closes, np.full(500, 100), symbol, last, stamps)
    profile = Profile(model=folder, dtype="bf16")
    forecaster = Chronos2Forecaster(profile)
    taken = seconds(lambda: forecaster.answer(windows, np.arange(len(windows)), profile), runs=1)
    tokens, width, inner, layers = 10, 768, 3072, 12
    flops = 2 * len(windows) * tokens * layers * (4 * width**2 + width**2 + 2 * width * inner)
    print(f"\n500 symbols x 1,750 hours, 120 M, bf16: {taken:.1f} s, {flops / taken / 1e12:,.0f} TFLOP/s")


def test_a_cached_year_of_twenty_symbols(tmp_path: Path, seconds: Seconds) -> None:
    bars = SyntheticMarket(start="2023-01-03", end="2024-06-28", symbols=("SYA", "SYB", "SYC", "SYD", "SYE")).bars()
    from dataclasses import replace

    from trainingdata.bars import Bars
    from trainingdata.instruments import instrument

    names = tuple(sorted(f"S{a}{b}" for a in "ABCDE" for b in "QRST"))
    scale = np.linspace(0.5, 2.0, 20)[:, None, None]
    many = Bars(
        tuple(instrument(n) for n in names), bars.times, np.tile(bars.values, (4, 1, 1)) * scale, np.tile(bars.mask, (4, 1)),
        "synthetic",
    )  # fmt: skip
    since = np.datetime64("2023-06-29", "ns")
    CachedForecaster(Chronos2Forecaster(), tmp_path).forecast(many, since)
    cached = CachedForecaster(Chronos2Forecaster(), tmp_path)
    taken = seconds(lambda: replace(cached, reader=type(cached.reader)()).forecast(many, since).values)
    size = sum(p.stat().st_size for p in tmp_path.rglob("*.parquet")) / 1e6
    count = len(cached.forecast(many, since).windows)
    print(f"\na cached year of 20 stocks, {count:,} forecasts, {size:,.0f} MB: {taken:.2f} s")


def test_importing_the_room() -> None:
    def timed(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - began

    empty = min(timed("pass") for _ in range(5))
    for code in ("import forecasting", "import forecasting.settings"):
        print(f"\n{code}: {min(timed(code) for _ in range(5)) - empty:.2f} s more than an empty program")
