"""Forecasts per second of this project and of the library's pipeline, in the same run.

    python -m studies.benchmarks.forecast_speed WHAT MODEL DTYPE COUNT TURN

WHAT is `many` windows, compiled if that is faster, or `few`, as in a live decision. The last line
of the output is a row of the table, in JSON, with error figures. Each process holds one model in
one dtype, so that its memory use is separate. Several processes start at once and measure in turn
when all are ready; TURN is a file that they share as a lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT, find_checkpoint
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import InferenceProfile
from forecasting.forecast import HORIZON, LEVELS
from forecasting.windows import Windows
from studies.benchmarks import gates

LENGTH = 100  # bars a window

Alone = Callable[[], AbstractContextManager[None]]  # context to measure within


@dataclass(frozen=True)
class Row:
    """Results of one measurement.

    windows: number of windows forecast.
    ours, pipeline: windows per second.
    batch: best batch size of the pipeline.
    share: % of the device's peak; None if that is unknown.
    memory: maximum memory of the device, GiB.
    largest, mean: largest and mean error, in standard deviations of a window.
    """

    what: str
    windows: int
    ours: float
    pipeline: float
    batch: int
    share: float | None
    memory: float
    largest: float
    mean: float
    note: str = ""


@contextmanager
def taking_turns(path: Path) -> Iterator[Alone]:
    """Yield a context in which only this process measures, once all processes are ready.

    Processes lock the shared file in common while they prepare, and exclusively to measure.
    """
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)

        @contextmanager
        def alone() -> Iterator[None]:
            fcntl.flock(file, fcntl.LOCK_UN)
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

        yield alone


def walks(symbols: int, each: int, length: int = LENGTH) -> Windows:
    """Return random walks: `each` windows of every symbol, at the same instants."""
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 0.01, (symbols, each + length - 1))
    last = np.tile(np.arange(each) + length - 1, symbols)
    stamps = np.datetime64("2024-01-01", "ns") + last * np.timedelta64(1, "h")
    closes = tuple(100 * np.exp(np.cumsum(steps, axis=1)))
    lengths = np.full(symbols, length)
    return Windows(closes, lengths, np.repeat(np.arange(symbols), each), last, stamps)


def seconds(work: Callable[[], object], runs: int = 3) -> float:
    """Return the median seconds of `runs` calls after one warm-up, including GPU work."""
    work()
    return statistics.median(timed(work) for _ in range(runs))


def timed(work: Callable[[], object]) -> float:
    """Return the wall seconds of one call, including GPU work."""
    began = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def medians(works: Sequence[Callable[[], object]], runs: int = 5) -> list[tuple[float, float]]:
    """Return the median wall and processor seconds of each function.

    All are called in turn `runs` times after one warm-up.
    """
    for work in works:
        work()

    def both(work: Callable[[], object]) -> tuple[float, float]:
        began = time.process_time()
        return timed(work), time.process_time() - began

    rounds = [[both(work) for work in works] for _ in range(runs)]
    columns = zip(*rounds, strict=True)
    return [tuple(map(statistics.median, zip(*each, strict=True))) for each in columns]


def beside_the_pipeline(
    model: str,
    dtype: str,
    count: int,
    sizes: tuple[int, ...],
    peers: int,
    checked: int,
    alone: Alone,
) -> Row:
    """Measure our forecasts and the pipeline's at its best batch size, in turn.

    peers, checked: number of windows that the pipeline forecasts, and number that are compared.
    """
    from chronos import Chronos2Pipeline

    gpu = torch.cuda.is_available()
    compiled = gpu and count > 1000
    profile = InferenceProfile(model=model, dtype=dtype, compile=compiled)  # type: ignore[arg-type]
    forecaster = Chronos2Forecaster(profile)
    windows = walks(min(count, 500), -(-count // min(count, 500)))
    rows = np.arange(count)
    engine = forecaster.load_engine(profile)

    def ours() -> np.ndarray:
        return forecaster.predict(windows, rows, profile, engine=engine)

    ours()
    pipeline = Chronos2Pipeline.from_pretrained(model, device_map="cuda" if gpu else "cpu")
    shared = rows[:: -(-count // peers)]
    contexts = [torch.tensor(c, dtype=torch.float32) for c in windows.contexts(shared)]

    def peer(size: int) -> Callable[[], object]:
        return lambda: pipeline.predict(contexts, prediction_length=HORIZON, batch_size=size)

    check = rows[:: -(-count // checked)]
    with alone():
        if gpu:
            torch.cuda.reset_peak_memory_stats()
            ours()
        memory = torch.cuda.max_memory_allocated() / 2**30 if gpu else 0.0
        (taken, spent), *theirs = medians([ours, *map(peer, sizes)])
        load = os.getloadavg()[0]
        (best, spent_theirs), size = min(zip(theirs, sizes, strict=True))
        # A reference on all cores would slow down measurements of other processes.
        exact = on_the_cpu(model, windows, check) if gpu else by(pipeline, windows, check)
        answers = forecaster.predict(windows, check, profile, engine=engine)
    error = np.abs(answers - exact) / windows.contexts(check).std(axis=1)[:, None, None]
    share = None
    if gpu and (peak := gates.peak_of(torch.cuda.get_device_name(), dtype)):
        layers = len(pipeline.model.encoder.block)
        work = gates.flops_a_window(find_checkpoint(model), layers, LENGTH) * count / taken
        share = 100 * work / peak
    each, of_pipeline = (1e6 * s / n for s, n in ((spent, count), (spent_theirs, len(shared))))
    name = "shipped" if Path(model) == BUNDLED_CHECKPOINT else "120 M"
    return Row(
        what=f"{name}, {dtype}",
        windows=count,
        ours=count / taken,
        pipeline=len(shared) / best,
        batch=size,
        share=share,
        memory=memory,
        largest=float(error.max()),
        mean=float(error.max(axis=(1, 2)).mean()),
        note=(
            f"{engine.computation_description}; load {load:.1f}; processor µs a window:"
            f" {each:.0f}, pipeline {of_pipeline:.0f}"
        ),
    )


def on_the_cpu(model: str, windows: Windows, rows: np.ndarray) -> np.ndarray:
    """Return fp32 forecasts computed on the CPU, without compilation."""
    profile = InferenceProfile(model=model, device="cpu", compile=False)
    return Chronos2Forecaster(profile).predict(windows, rows, profile)


def by(pipeline: Any, windows: Windows, rows: np.ndarray) -> np.ndarray:
    """Return the pipeline's own forecasts."""
    contexts = [torch.tensor(c, dtype=torch.float32) for c in windows.contexts(rows)]
    raw = pipeline.predict_quantiles(
        contexts, prediction_length=HORIZON, quantile_levels=list(LEVELS)
    )[0]
    return np.sort(np.stack([q[0].cpu().numpy() for q in raw]), axis=-1)


def few(model: str, dtype: str, count: int, alone: Alone) -> Row:
    """Measure milliseconds per call of a live decision, with and without a CUDA graph."""
    row = beside_the_pipeline(model, dtype, count, (count,), count, count, alone)
    note = f"{1e3 * count / row.ours:.2f} ms a call"
    if torch.cuda.is_available():
        from forecasting.chronos2 import compilation

        compilation.MAX_CUDA_GRAPH_WINDOWS = 0
        forecaster = Chronos2Forecaster(
            InferenceProfile(model=model), batch_size=513
        )  # a new engine
        windows = walks(count, 1)
        with alone():
            plain = seconds(
                lambda: forecaster.predict(windows, np.arange(count), forecaster.profile)
            )
        note += f", {1e3 * plain:.2f} without a graph"
    return replace(row, note=note)


def main() -> None:
    """Run one measurement, and print its row as JSON."""
    what, model, dtype, count, path = sys.argv[1:]
    with taking_turns(Path(path)) as alone:
        if what == "few":
            row = few(model, dtype, int(count), alone)
        else:
            sizes = (512, 2048) if torch.cuda.is_available() else (16, 64)
            peers = 8192 if torch.cuda.is_available() else 2048
            row = beside_the_pipeline(model, dtype, int(count), sizes, peers, 200, alone)
    sys.stdout.write(f"{json.dumps(asdict(row))}\n")


if __name__ == "__main__":
    main()
