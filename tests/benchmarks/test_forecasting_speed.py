"""Forecasts a second beside the library's pipeline in the same run, an error figure beside
each: `make bench`, `make gpu`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline

from forecasting.chronos2.cached import CachedForecaster
from forecasting.chronos2.checkpoint import SHIPPED, checkpoint
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.library import load
from forecasting.chronos2.profile import WORTH_COMPILING, Profile
from forecasting.forecast import HORIZON, LEVELS
from forecasting.windows import Windows
from tests.benchmarks import gates
from tests.random_chronos2 import large_checkpoint
from trainingdata.synthetic import SyntheticMarket

Seconds = Callable[..., float]
pytestmark = [pytest.mark.bench, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@dataclass(frozen=True)
class Measured:
    """first: seconds of the first call. ours, pipeline: windows a second. largest, mean: error
    in a window's deviation.
    """

    windows: int
    first: float
    ours: float
    pipeline: float
    batch: int
    largest: float
    mean: float

    def cells(self, what: str, dtype: str) -> tuple[str, ...]:
        asked = []
        if torch.cuda.is_available():
            gate = gates.SERIES.get((what, dtype))
            asked = [gate.said(self.ours / 1000)] if gate else []
            asked.append(gates.RATIO.said(self.ours / self.pipeline))
        return (
            f"{what}, {dtype}, {self.windows:,} windows", f"{self.first:.1f}", f"{self.ours:,.0f}",
            f"{self.pipeline:,.0f}"
            f" ({self.batch})", f"{self.ours / self.pipeline:.2f} ×", f"{self.largest:.1e}",
            f"{self.mean:.1e}", "; ".join(asked),
        )  # fmt: skip


def beside_the_pipeline(
    seconds: Seconds,
    model: str,
    windows: int,
    sizes: tuple[int, ...],
    checked: int,
    peers: int | None = None,
    **settings: Any,
) -> Measured:
    """Ours and the pipeline's at its best batch size on the same windows.

    peers: how many of them the pipeline answers, which takes longer; none for all.
    """
    profile = Profile(model=model, **settings)
    bars = SyntheticMarket(start="2021-01-04").bars()
    forecaster = Chronos2Forecaster(profile)
    every = forecaster.windows(bars, bars.times[0])
    rows = np.linspace(0, len(every) - 1, windows).astype(np.int64)
    began = time.perf_counter()
    forecaster.answer(every, rows, profile)
    first = time.perf_counter() - began
    ours = seconds(lambda: forecaster.answer(every, rows, profile))
    shared = rows[:: -(-windows // (peers or windows))]
    contexts = [torch.tensor(c, dtype=torch.float32) for c in every.contexts(shared)]
    gpu = torch.cuda.is_available()
    pipeline = Chronos2Pipeline.from_pretrained(model, device_map="cuda" if gpu else "cpu")

    def peer(size: int) -> float:
        return seconds(
            lambda: pipeline.predict(contexts, prediction_length=HORIZON, batch_size=size), runs=1
        )

    best = min((peer(size), size) for size in sizes)
    best = min(best, (peer(best[1]), best[1]))
    check = rows[:: -(-windows // checked)]
    exact = on_the_cpu(model, every, check) if gpu else by(pipeline, every, check)
    deviation = every.contexts(check).std(axis=1)[:, None, None]
    engine = forecaster.engine(profile.for_job(windows))
    error = np.abs(forecaster.answer(every, check, profile, by=engine) - exact) / deviation
    return Measured(
        windows,
        first,
        windows / ours,
        len(shared) / best[0],
        best[1],
        float(error.max()),
        float(error.max(axis=(1, 2)).mean()),
    )


def on_the_cpu(model: str, windows: Windows, rows: np.ndarray) -> np.ndarray:
    """fp32 answers, not compiled."""
    profile = Profile(model=model, device="cpu", compile=False)
    return Chronos2Forecaster(profile).answer(windows, rows, profile)


def by(pipeline: Chronos2Pipeline, windows: Windows, rows: np.ndarray) -> np.ndarray:
    contexts = [torch.tensor(c, dtype=torch.float32) for c in windows.contexts(rows)]
    raw = pipeline.predict_quantiles(
        contexts, prediction_length=HORIZON, quantile_levels=list(LEVELS)
    )[0]
    return np.sort(np.stack([q[0].numpy() for q in raw]), axis=-1)


def dtypes() -> list[str]:
    """Those that this machine computes."""
    return ["fp32", "tf32", "bf16"] if torch.cuda.is_available() else ["fp32", "bf16"]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", dtypes())
def test_the_shipped_checkpoint(dtype: str, seconds: Seconds, table: Any) -> None:
    # On a GPU as many as are compiled for, in whole passes of 4,096.
    gpu = torch.cuda.is_available()
    windows = 8 * -(-WORTH_COMPILING // 4096) * 4096 if gpu else 20_000
    sizes = (512, 2048) if gpu else (32, 64, 128, 256, 512)
    measured = beside_the_pipeline(
        seconds, str(SHIPPED), windows, sizes, 2000, peers=20_000, dtype=dtype
    )
    table.add(*measured.cells("shipped", dtype))


@pytest.mark.gpu
def test_few_windows_are_answered_at_once(seconds: Seconds, table: Any) -> None:
    """A live decision on 18 symbols."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    measured = beside_the_pipeline(seconds, str(SHIPPED), 18, (18,), 18)
    cells = measured.cells("shipped", "fp32")
    table.add(*cells[:-1], f"{18e3 / measured.ours:.1f} ms a call")


def test_one_call_per_symbol_per_bar(seconds: Seconds) -> None:
    bars = SyntheticMarket().bars()
    forecaster = Chronos2Forecaster()
    every = forecaster.windows(bars, bars.times[0])
    rows = np.arange(20_000) % len(every)
    contexts = [torch.tensor(c, dtype=torch.float32) for c in every.contexts(rows[:300])]
    pipeline = Chronos2Pipeline.from_pretrained(str(SHIPPED))
    each = seconds(
        lambda: [pipeline.predict([c], prediction_length=HORIZON) for c in contexts]
    ) / len(contexts)
    ours = seconds(lambda: forecaster.answer(every, rows, Profile())) / len(rows)
    print(f"\none call a window: {1 / each:,.0f}/s; ours {1 / ours:,.0f}/s, {each / ours:.1f} x")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", dtypes())
def test_the_120_million_configuration(
    dtype: str, tmp_path: Path, seconds: Seconds, table: Any
) -> None:
    gpu = torch.cuda.is_available()
    windows = -(-WORTH_COMPILING // 4096) * 4096 if gpu else 512
    sizes = (512, 2048) if gpu else (16, 32, 64, 128)
    model = str(large_checkpoint(tmp_path))
    measured = beside_the_pipeline(seconds, model, windows, sizes, 200, peers=10_000, dtype=dtype)
    table.add(*measured.cells("120 M", dtype))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["tf32", "bf16"])
def test_a_year_of_five_hundred_symbols_on_a_gpu(
    dtype: str, tmp_path: Path, seconds: Seconds, table: Any
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    model = str(large_checkpoint(tmp_path))
    table.add(*a_year(seconds, model, dtype, symbols=500, hours=1750, checked=200))


def a_year(
    seconds: Seconds, model: str, dtype: str, symbols: int, hours: int, checked: int
) -> tuple[str, ...]:
    """Every hour of a year, and what share of the matrix units' time that is: cells of a row."""
    rng = np.random.default_rng(0)
    closes = tuple(100 * np.exp(np.cumsum(rng.normal(0, 0.01, hours + 99))) for _ in range(symbols))
    last = np.tile(np.arange(99, hours + 99), symbols)
    stamps = np.datetime64("2024-01-01", "ns") + last * np.timedelta64(1, "h")
    windows = Windows(
        closes, np.full(symbols, 100), np.repeat(np.arange(symbols), hours), last, stamps
    )
    profile = Profile(model=model, dtype=dtype)  # type: ignore[arg-type]
    forecaster = Chronos2Forecaster(profile)
    every = np.arange(len(windows))
    engine = forecaster.engine(profile.for_job(len(every)))
    began = time.perf_counter()
    forecaster.answer(windows, every[:1], profile, by=engine)
    first = time.perf_counter() - began
    taken = seconds(lambda: forecaster.answer(windows, every, profile, by=engine), runs=1)
    check = every[:: -(-len(windows) // checked)]
    answer = forecaster.answer(windows, check, profile, by=engine)
    difference = np.abs(answer - on_the_cpu(model, windows, check))
    error = difference / windows.contexts(check).std(axis=1)[:, None, None]
    folder = checkpoint(model)
    loaded = load(folder, folder.contents(), torch.device("cpu"))
    layers = len(loaded.model.encoder.block)
    rate = len(windows) * gates.flops_a_window(checkpoint(model), layers, 100) / taken
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    peak = gates.peak_of(device, dtype)
    asked = gates.SHARE.said(100 * rate / peak) if peak else f"peak of {device} not known here"
    what = (
        f"{checkpoint(model).name}, {dtype}, {symbols} symbols × {hours:,} hours: {taken:.1f} s,"
        f" {rate / 1e12:,.1f} TFLOP/s"
    )
    errors = f"{error.max():.1e}", f"{error.max(axis=(1, 2)).mean():.1e}"
    return what, f"{first:.1f}", f"{len(windows) / taken:,.0f}", "", "", *errors, asked


@pytest.mark.gpu
@pytest.mark.parametrize(("what", "dtype"), [("shipped", "fp32"), ("120 M", "bf16")])
def test_a_process_that_finds_its_network_compiled(
    what: str, dtype: str, tmp_path: Path, table: Any
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA")
    model = SHIPPED if what == "shipped" else large_checkpoint(tmp_path / "model")
    cold, warm = (started(model, dtype, tmp_path / "cache") for _ in range(2))
    name = f"{what}, {dtype}, first answers of a process: {cold:.1f} s, then {warm:.1f} s"
    table.add(name, f"{cold:.1f}", "", "", "", "", "", gates.WARM.said(warm))


def started(model: Path, dtype: str, cache: Path) -> float:
    """Seconds to the first answers of a new process."""
    words = [sys.executable, "-m", "tests.benchmarks.warm_start", str(model), dtype]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    environment["TRITON_CACHE_DIR"] = str(cache / "triton")
    said = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    return float(said.stdout.splitlines()[-1])


def test_a_cached_year_of_twenty_symbols(tmp_path: Path, seconds: Seconds) -> None:
    bars = SyntheticMarket(
        start="2023-01-03", end="2024-06-28", symbols=("SYA", "SYB", "SYC", "SYD", "SYE")
    ).bars()
    from trainingdata.bars import Bars
    from trainingdata.instruments import instrument

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
    taken = seconds(lambda: cached.forecast(many, since).values)
    size = sum(p.stat().st_size for p in tmp_path.rglob("*.sqlite")) / 1e6
    count = len(cached.forecast(many, since).windows)
    print(f"\na cached year of 20 stocks, {count:,} forecasts, {size:,.0f} MB: {taken:.2f} s")


def test_importing_the_room() -> None:
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
