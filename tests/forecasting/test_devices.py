"""Where forecasts are computed, in passes of what size, and how answers come back: as far as a
machine without a GPU can tell.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forecasting.chronos2 import devices
from forecasting.chronos2 import engine as engines
from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT, find_checkpoint
from forecasting.chronos2.devices import (
    MAX_CUDA_BATCH_SIZE,
    MIN_CUDA_BATCH_SIZE,
    batch_size_for_memory,
    bytes_per_window,
    default_batch_size,
    resolve_device,
)
from forecasting.chronos2.engine import Engine, format_planned_computation
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import MIN_WINDOWS_TO_COMPILE, Dtype, InferenceProfile
from forecasting.forecast import HORIZON, LEVELS, no_progress
from foundation.errors import InputError
from studies.benchmarks.forecast_speed import walks
from tests.support.messages import refused
from trainingdata.bars import Bars

CPU = torch.device("cpu")
GIB = 2**30


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (70 * GIB, 80 * GIB))
    devices.free_gpu_memory_bytes.cache_clear()


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    yield
    devices.free_gpu_memory_bytes.cache_clear()


# ----- which device -----


def test_gpu_is_selected_by_device_number(two_gpus: None) -> None:
    for word, place in {
        "auto": "cuda",
        "cuda": "cuda",
        "cuda:0": "cuda:0",
        "cuda:1": "cuda:1",
    }.items():
        assert resolve_device(word) == place
    assert resolve_device("cpu") == "cpu"
    with refused(InputError, "forecaster.device", "cuda:2", "2", "cuda:1"):
        Chronos2Forecaster(InferenceProfile(device="cuda:2"))


OLD_DRIVER = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU"
    " driver by downloading and installing a new version."
)


def test_outdated_cuda_driver_error_states_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError(OLD_DRIVER)

    def unavailable() -> bool:
        warnings.warn(f"CUDA initialization: {OLD_DRIVER}", UserWarning, stacklevel=2)
        return False

    monkeypatch.setattr(torch.cuda, "init", refuse)
    monkeypatch.setattr(torch.cuda, "is_available", unavailable)
    with refused(InputError, "forecaster.device", "cuda", "version 11040", "cpu", "auto"):
        resolve_device("cuda")
    assert resolve_device("auto") == "cpu"


@pytest.mark.parametrize("dtype", ["tf32", "bf16"])
def test_reduced_precision_on_a_cpu_is_refused(dtype: Dtype, market: Bars) -> None:
    """It is not refused when planning: a cluster's driver may have no GPU."""
    forecaster = Chronos2Forecaster(InferenceProfile(dtype=dtype))
    with refused(InputError, dtype, "CUDA", "fp32"):
        forecaster.forecast(market, market.times[-2])


def test_tf32_forecasts_use_a_separate_cache_partition(two_gpus: None) -> None:
    said = {
        dtype: Chronos2Forecaster().build_specification(InferenceProfile(dtype=dtype))
        for dtype in ("fp32", "tf32", "bf16")
    }
    assert "computed" not in said["fp32"]
    assert said["tf32"]["computed"] == "cuda, compiled by layer, 16384 windows a pass"
    assert said["tf32"]["dtype"] == "tf32"
    assert said["tf32"] != said["bf16"]


# ----- windows a batch -----


@given(window=st.integers(1, 2**32), free=st.integers(0, 2**40), more=st.integers(0, 2**38))
def test_batch_size_is_power_of_two_fitting_memory(window: int, free: int, more: int) -> None:
    size = batch_size_for_memory(window, free)
    assert MIN_CUDA_BATCH_SIZE <= size <= MAX_CUDA_BATCH_SIZE
    assert size & (size - 1) == 0
    assert (
        batch_size_for_memory(window, free + more)
        >= size
        >= batch_size_for_memory(2 * window, free)
    )
    if size > MIN_CUDA_BATCH_SIZE:
        assert size * window <= free / 4
    if size < MAX_CUDA_BATCH_SIZE:
        assert 2 * size * window > (free // 4) - window


def test_batch_size_matches_hand_calculation(tmp_path: Path) -> None:
    """120 M in fp32: 100 bars are 7 patches, and a register and 2 of the future make 10 tokens;
    queries, keys and values around their rotation are 13 × 768 numbers beside 2 × 768 of states,
    of 4 bytes, and a norm's 2 × 768: 522 kB. A quarter of 8 GiB holds 4,112 of them.
    """
    wide = replace(
        find_checkpoint(str(BUNDLED_CHECKPOINT)),
        patch_bars=16,
        model_width=768,
        feed_forward_width=3072,
        attention_width=768,
    )
    assert bytes_per_window(wide, 100, "fp32") == 10 * (15 * 768 * 4 + 2 * 768 * 4) == 522_240
    assert batch_size_for_memory(522_240, 8 * GIB) == 4096
    assert batch_size_for_memory(522_240, 6 * GIB) == 2048
    assert bytes_per_window(wide, 100, "bf16") == 10 * (15 * 768 * 2 + 2 * 768 * 4)
    # 8,192 bars are 512 patches: 515 tokens and 26.9 MB.
    assert batch_size_for_memory(bytes_per_window(wide, 8192, "fp32"), 70 * GIB) == 512
    shipped = find_checkpoint(str(BUNDLED_CHECKPOINT))
    assert batch_size_for_memory(bytes_per_window(shipped, 100, "fp32"), 4 * GIB) == 4096
    assert batch_size_for_memory(bytes_per_window(shipped, 100, "fp32"), 80 * GIB) == 16_384, (
        "the most"
    )
    assert batch_size_for_memory(bytes_per_window(wide, 8192, "fp32"), GIB) == 64, "the floor"


def test_configured_batch_size_overrides_memory_based_default(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = find_checkpoint(str(BUNDLED_CHECKPOINT))
    profile = InferenceProfile(device="cuda", dtype="bf16")
    assert default_batch_size(model, "cuda", 100, "bf16") == 16_384
    assert default_batch_size(model, "cpu", 100, "fp32") == 64
    # What this process has taken since does not change what its answers are kept by.
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (GIB // 64, 80 * GIB))
    assert format_planned_computation(model, profile, None).endswith(" 16384 windows a pass")
    assert format_planned_computation(model, profile, 777).endswith(" 777 windows a pass")
    devices.free_gpu_memory_bytes.cache_clear()
    assert format_planned_computation(model, profile, None).endswith(" 64 windows a pass")


# ----- few windows -----


def last_prices(context: torch.Tensor, **options: Any) -> torch.Tensor:
    """A network that answers each window's last price at every step and level."""
    return context[:, -1, None, None].expand(-1, HORIZON, len(LEVELS)).clone()


def sizes_of(count: int, batch_size: int, group: int = 1, **how: Any) -> list[int]:
    """Windows of each pass of a call for `count`."""
    seen: list[int] = []

    def network(context: torch.Tensor, **options: Any) -> torch.Tensor:
        seen.append(len(context))
        return last_prices(context)

    windows = walks(1, count, 40)
    engine = Engine(network, CPU, batch_size, "", **how)
    rows = [np.arange(count)]
    (answer,) = engine.forecast_quantiles(windows, rows, "none", group=group, progress=no_progress)
    np.testing.assert_array_equal(answer[:, 5, 10], windows.price.astype(np.float32))
    return seen


def test_few_forecast_windows_use_a_small_batch() -> None:
    assert sizes_of(1, 4096) == [64]
    assert sizes_of(64, 4096) == [64]
    assert sizes_of(65, 4096) == [512]
    assert sizes_of(512, 4096) == [512]
    assert sizes_of(513, 4096) == [4096]
    assert sizes_of(513, 16_384) == [4096]
    assert sizes_of(5000, 16_384) == [16_384]
    assert sizes_of(5000, 4096) == [4096, 4096]
    assert sizes_of(4, 16) == [16], "never more than is configured"
    assert sizes_of(30, 16) == [16, 16]
    assert sizes_of(100, 300) == [300]


@pytest.mark.parametrize(
    "how", [{"dtype": "bf16"}, {"dtype": "tf32"}, {"execution_mode": "compiled"}]
)
def test_reduced_precision_and_compilation_fix_the_batch_size(how: dict[str, Any]) -> None:
    """Reduced-precision cache keys contain the batch size, and compiled graphs are specific
    to it.
    """
    assert sizes_of(3, 4096, **how) == [4096]


@pytest.mark.slow
def test_batch_size_changes_forecasts_only_by_rounding() -> None:
    network: Any = engines.load_engine(
        find_checkpoint(str(BUNDLED_CHECKPOINT)), InferenceProfile(device="cpu"), 64
    ).network
    windows = walks(1, 70)

    def answer(rows: int, batch_size: int) -> np.ndarray:
        engine = Engine(network, CPU, batch_size, "")
        numbers = [np.arange(rows)]
        (values,) = engine.forecast_quantiles(
            windows, numbers, "none", group=1, progress=no_progress
        )
        return values

    np.testing.assert_allclose(answer(60, 1024), answer(70, 1024)[:60], rtol=4e-6)
    np.testing.assert_allclose(answer(70, 1024), answer(70, 16), rtol=4e-6)


def test_small_fp32_jobs_skip_optional_compilation() -> None:
    few, many = MIN_WINDOWS_TO_COMPILE - 1, MIN_WINDOWS_TO_COMPILE
    assert InferenceProfile().for_window_count(few) == InferenceProfile(compile=False)
    assert InferenceProfile().for_window_count(many) == InferenceProfile()
    for profile in (
        InferenceProfile(compile=True),
        InferenceProfile(dtype="bf16"),
        InferenceProfile(dtype="tf32"),
    ):
        assert profile.for_window_count(few) == profile


# ----- one stream of passes -----


def test_successive_portions_share_forecast_batches() -> None:
    """Portions of 5, 0, 9 and 2 windows need two batches of eight. A portion is returned while the
    batch after its last one is running.
    """
    begun: list[int] = []

    def network(context: torch.Tensor, **options: Any) -> torch.Tensor:
        begun.append(len(context))
        return last_prices(context)

    windows = walks(1, 24, 40)
    portions = np.split(np.arange(24)[::-1], [5, 5, 14])
    said: list[tuple[int, int]] = []
    engine = Engine(network, CPU, 8, "")
    under_way = []
    stream = engine.forecast_quantiles(
        windows, portions, "none", group=1, progress=lambda _, *counts: said.append(counts)
    )
    for portion, values in zip(portions, stream, strict=True):
        under_way.append(len(begun))
        assert values.shape == (len(portion), HORIZON, len(LEVELS))
        np.testing.assert_array_equal(values[:, 0, 0], windows.price[portion].astype(np.float32))
    assert under_way == [2, 2, 3, 3]
    assert said == [(8, 24), (16, 24), (24, 24)]


def test_out_of_memory_error_states_the_batch_size() -> None:
    calls = 0

    def network(context: torch.Tensor, **options: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls >= 4 and len(context) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return last_prices(context) + len(context)

    windows = walks(1, 30, 40)
    portions = np.split(np.arange(30), [10, 20])
    engine = Engine(network, CPU, 8, "")
    given = []
    for portion, values in zip(
        portions,
        engine.forecast_quantiles(windows, portions, "none", group=1, progress=no_progress),
        strict=True,
    ):
        (size,) = np.unique(np.round(values[:, 0, 0] - windows.price[portion]))
        assert engine.computation_description == f"cpu, eager, {size:.0f} windows a pass"
        given.append(size)
    assert given == [8, 2, 2]


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_non_finite_network_output_is_refused(number: float) -> None:
    def network(context: torch.Tensor, **options: Any) -> torch.Tensor:
        answer = last_prices(context)
        answer[2, 3, -1] = number
        return answer

    for dtype, cure in (("fp32", "fp32"), ("bf16", "fp32")):
        engine = Engine(network, CPU, 4, "", dtype=dtype)  # type: ignore[arg-type]
        with refused(InputError, "forecaster.dtype", f"{dtype} on cpu", cure):
            next(
                engine.forecast_quantiles(
                    walks(1, 8, 40), [np.arange(8)], "none", progress=no_progress
                )
            )


# ----- threads of a CPU -----


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("given", "workers", "each"), [(3, 3, 1), (7, 6, 1), (13, 6, 2)])
def test_worker_threads_compute_whole_batches_in_parallel(
    given: int, workers: int, each: int
) -> None:
    """Each of six passes waits until every worker has one."""
    together = threading.Barrier(workers, timeout=60)
    seen = set()

    def network(context: torch.Tensor, **options: Any) -> torch.Tensor:
        together.wait()
        seen.add((torch.get_num_threads(), torch.is_inference_mode_enabled()))
        return last_prices(context)

    windows = walks(1, 48, 40)
    engine = Engine(network, CPU, 8, "", is_on_cpu=True)
    rows = np.arange(48)[::-1]
    with threads(given):
        (values,) = engine.forecast_quantiles(windows, [rows], "none", progress=no_progress)
        assert torch.get_num_threads() == given
    assert seen == {(each, True)}
    np.testing.assert_array_equal(values[:, 3, 4], windows.price[rows].astype(np.float32))


def test_cpu_engine_waits_while_caller_uses_its_results() -> None:
    """The caller may change torch settings between portions without affecting a batch."""
    begun: list[int] = []

    def network(context: torch.Tensor, **options: Any) -> torch.Tensor:
        begun.append(len(context))
        return last_prices(context)

    windows = walks(1, 50, 40)
    engine = Engine(network, CPU, 8, "", is_on_cpu=True)
    portions = np.split(np.arange(50), [30, 30])
    with threads(2):
        stream = engine.forecast_quantiles(windows, portions, "none", progress=no_progress)
        assert [(len(values), len(begun)) for values in stream] == [(30, 4), (0, 4), (20, 7)]


def test_out_of_memory_in_a_thread_halves_batches() -> None:
    def network(context: torch.Tensor, **options: Any) -> torch.Tensor:
        if len(context) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return last_prices(context)

    windows = walks(1, 30, 40)
    engine = Engine(network, CPU, 8, "", is_on_cpu=True)
    with threads(2):
        (values,) = engine.forecast_quantiles(
            windows, [np.arange(30)], "none", progress=no_progress
        )
    assert engine.batch_size == 2
    np.testing.assert_array_equal(values[:, 0, 0], windows.price.astype(np.float32))


def test_results_do_not_depend_on_thread_count() -> None:
    model, profile = find_checkpoint(str(BUNDLED_CHECKPOINT)), InferenceProfile(device="cpu")
    windows = walks(1, 60)

    def answer(count: int) -> np.ndarray:
        with threads(count):
            engine = engines.load_engine(model, profile, 16)
            (values,) = engine.forecast_quantiles(
                windows, [np.arange(60)], "none", progress=no_progress
            )
        return values

    for count in (2, 4):
        np.testing.assert_array_equal(answer(count), answer(1))


# ----- transfers to the device and back -----


class TwoBuffers:
    """A way back, as from a device, where an answer is overwritten by the next but one."""

    def __init__(self, device: object, shape: tuple[int, ...]) -> None:
        self.buffers = [
            np.full(shape, np.nan, np.float32) for _ in range(engines.RESULT_BUFFER_COUNT)
        ]
        self.sent = 0

    def start_copy(self, result: torch.Tensor, flag: torch.Tensor) -> engines.PendingResult:
        buffer = self.buffers[self.sent % engines.RESULT_BUFFER_COUNT]
        self.sent += 1
        np.copyto(buffer, result.numpy())
        return lambda: (buffer, bool(flag))


@pytest.mark.parametrize("count", [1, 8, 9, 50])
def test_results_are_read_before_buffers_are_reused(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tests/forecasting/test_gpu.py` tests the copies themselves."""
    monkeypatch.setattr(engines, "ResultTransfer", TwoBuffers)
    assert sizes_of(count, 8) == [8] * -(-count // 8)
