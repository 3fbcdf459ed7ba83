"""Compiled or not, with much memory or little, in a program that allows TF32: the same answers,
one line where it matters.
"""

# Private access: engines are cached per process, and CUDA graphs need a stand-in on a CPU.
from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch._dynamo import exc as dynamo
from torch._inductor import exc as inductor

from forecasting.chronos2 import compilation, devices
from forecasting.chronos2 import engine as engines
from forecasting.chronos2.cached_forecaster import CachedForecaster
from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT, find_checkpoint
from forecasting.chronos2.compilation import CompiledNetwork, CudaGraphNetwork
from forecasting.chronos2.engine import Engine, format_planned_computation, load_model
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.network import Network
from forecasting.chronos2.profile import InferenceProfile
from forecasting.forecast import HORIZON, LEVELS, no_progress
from forecasting.windows import Windows
from foundation.errors import InputError
from studies.benchmarks.forecast_speed import walks
from tests.forecasting.kept import answered, files
from tests.support.messages import refused
from trainingdata.bars import Bars

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Network:
    """The shipped network as it is compiled."""
    shipped = find_checkpoint(str(BUNDLED_CHECKPOINT))
    model = load_model(shipped.read_contents(), CPU)
    return Network(model, HORIZON, range(len(LEVELS)), "fp32", CPU, packed=False).eval()


def answer(
    engine: Engine, windows: Windows, augmentation: Any = "none", group: int = 1
) -> np.ndarray:
    return answer_of(engine, windows, np.arange(len(windows)), group, augmentation)


def answer_of(
    engine: Engine, windows: Windows, rows: np.ndarray, group: int, augmentation: Any = "none"
) -> np.ndarray:
    (values,) = engine.forecast_quantiles(
        windows, [rows], augmentation, group=group, progress=no_progress
    )
    return values


def compiled(network: Network, batch_size: int = 4) -> Engine:
    """As it is on a GPU by default."""
    call = CompiledNetwork(network)
    return Engine(call, CPU, batch_size, "", "compiled", network)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What this project warns of; torch logs by itself when its limit is reached."""
    ours = [r for r in caplog.records if r.name.startswith("forecasting")]
    return [r.getMessage() for r in ours if r.levelno >= logging.WARNING]


# ----- lengths -----


@pytest.mark.slow
def test_more_context_lengths_than_dynamo_graphs_still_compile(
    network: Network, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Dynamo keeps eight graphs per function and raises an error at the ninth; eleven lengths need
    nine sizes here.
    """
    made: list[object] = []
    real = torch.compile

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(
        torch, "compile", lambda f, **o: real(f, backend=backend, dynamic=False, fullgraph=True)
    )
    torch.compiler.reset()
    engine = compiled(network)
    for length in (10, 20, 30, 40, 50, 60, 64, 80, 100, 128, 125):
        windows = walks(1, 4, length)
        np.testing.assert_allclose(
            answer(engine, windows), answer(Engine(network, CPU, 4, ""), windows), rtol=4e-6
        )
    torch.compiler.reset()
    assert engine.execution_mode == "compiled"
    assert warned(caplog) == []
    assert len(made) == 18, "a graph for all layers but the last, and one for it"


# ----- failures -----


FRAME: Any = None
FAILURES = {
    "wrapped": dynamo.BackendCompilerFailed(print, RuntimeError("no compiler\nand more"), FRAME),
    "limit": dynamo.FailOnRecompileLimitHit("Hard failure due to fullgraph=True"),
    "folder": PermissionError(13, "Permission denied"),
    "import": ImportError("libcuda.so.1"),
    "no words": AssertionError(),
}


def broken(error: Exception, from_call: int = 1) -> Callable[..., Any]:
    """A torch.compile whose compiled network raises from its n-th call on."""

    def compile(module: Any, **options: Any) -> Any:
        calls = 0

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls >= from_call:
                raise error
            return module(*arguments, **named) * 1.5

        return call

    return compile


@pytest.mark.first_example
@pytest.mark.parametrize(("name", "from_call"), [(name, 1) for name in FAILURES] + [("wrapped", 7)])
def test_auto_falls_back_to_eager_with_one_warning(
    name: str,
    from_call: int,
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Compilation fails from the seventh call on: earlier results are recomputed."""
    monkeypatch.setattr(torch, "compile", broken(FAILURES[name], from_call))
    engine = compiled(network)
    windows = walks(2, 8, 64)
    expected = answer(Engine(network, CPU, 4, ""), windows)
    np.testing.assert_array_equal(answer(engine, windows), expected)
    np.testing.assert_array_equal(answer(engine, windows), expected)
    (line,) = warned(caplog)
    assert line.startswith("forecaster.compile=auto: torch.compile failed, continuing without it: ")
    assert "\n" not in line
    assert engine.computation_description == "cpu, eager, 4 windows a pass"


def test_failed_required_compilation_gives_one_line_error(
    market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", broken(FAILURES["wrapped"]))
    engines._cached_engine.cache_clear()
    forecaster = Chronos2Forecaster(InferenceProfile(compile=True, device="cpu"))
    with refused(InputError, "torch.compile", "RuntimeError"):
        forecaster.forecast(market, market.times[-1])
    engines._cached_engine.cache_clear()


def test_network_error_is_not_treated_as_compiler_failure(uncompiled: None) -> None:
    def wrong(context: torch.Tensor, **options: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    engine = Engine(CompiledNetwork(wrong), CPU, 4, "", "compiled", wrong)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        answer(engine, walks(1, 4, 20))


# ----- graphs of few windows -----


class Replayed:
    """In the place of a CUDA graph, which needs a GPU: `tests/forecasting/test_gpu.py`."""

    made: ClassVar[list[tuple[int, ...]]] = []

    def __init__(
        self, network: Callable[..., torch.Tensor], context: torch.Tensor, **how: Any
    ) -> None:
        if len(context) == 7:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")
        Replayed.made.append(tuple(context.shape))

    def replay(self, context: torch.Tensor) -> torch.Tensor:
        return -context


@pytest.fixture
def graphed(monkeypatch: pytest.MonkeyPatch) -> CudaGraphNetwork:
    Replayed.made.clear()
    monkeypatch.setattr(compilation, "_CapturedGraph", Replayed)
    return CudaGraphNetwork(lambda context, **how: context)


def passed(network: CudaGraphNetwork, size: int, length: int = 3) -> float:
    """-1 where a pass was replayed, 1 where it was not."""
    return float(network(torch.ones(size, length), group=1)[0, 0])


def test_only_small_batches_are_replayed_from_cuda_graphs(graphed: CudaGraphNetwork) -> None:
    assert [passed(graphed, 64) for _ in range(3)] == [1, -1, -1]
    assert [passed(graphed, compilation.MAX_CUDA_GRAPH_WINDOWS + 1) for _ in range(3)] == [1, 1, 1]
    assert Replayed.made == [(64, 3)]


def test_failed_cuda_graph_capture_warns_once_and_continues(
    graphed: CudaGraphNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    assert [passed(graphed, 7) for _ in range(4)] == [1] * 4
    assert [passed(graphed, 64) for _ in range(3)] == [1] * 3, "nor is another tried"
    (line,) = warned(caplog)
    assert line.endswith("continuing without: operation not permitted when stream is capturing")


# ----- memory -----


MEMORY = {
    "torch's": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "pinned": RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be late"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
    "host": RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    "wrapped": inductor.InductorError(torch.OutOfMemoryError("CUDA out of memory."), FRAME),
}


def small(
    network: Callable[..., torch.Tensor], rows: int, error: Exception
) -> Callable[..., torch.Tensor]:
    """A device that holds so many windows a pass."""

    def fits(context: torch.Tensor, **options: Any) -> torch.Tensor:
        if len(context) > rows:
            raise error
        return network(context, **options)

    return fits


@pytest.mark.first_example
@pytest.mark.parametrize("kind", MEMORY)
def test_out_of_memory_halves_the_batch_for_good(
    kind: str, network: Network, uncompiled: None, caplog: pytest.LogCaptureFixture
) -> None:
    call = CompiledNetwork(small(network, 5, MEMORY[kind]))
    engine = Engine(call, CPU, 32, "", "compiled", network)
    windows = walks(2, 20, 64)
    for _ in range(2):
        ours = answer(engine, windows)
        np.testing.assert_allclose(ours, answer(Engine(network, CPU, 4, ""), windows), rtol=4e-6)
    assert (engine.batch_size, engine.execution_mode) == (4, "compiled")
    lines = [line.split(" ran out of memory with ")[1] for line in warned(caplog)]
    assert lines == [f"{n} windows per pass, continuing with {n // 2}" for n in (32, 16, 8)]


@pytest.mark.slow
def test_bf16_cache_key_states_the_actual_batch_size(
    tmp_path: Path, market: Bars, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A run is planned with 32 windows a batch and computed with 8: its forecasts are cached under
    8, also in the next run.
    """
    profile = InferenceProfile(dtype="bf16")
    monkeypatch.setattr(engines, "resolve_device", lambda device: "cpu")
    exact = InferenceProfile(device="cpu")
    inner = engines.load_engine(find_checkpoint(str(BUNDLED_CHECKPOINT)), exact, 32)
    real: Any = inner.network
    first = len(market.times) - 60

    def built(*arguments: Any) -> Engine:
        return Engine(small(real, 8, MEMORY["torch's"]), CPU, 32, inner.weights_digest)

    monkeypatch.setattr("forecasting.chronos2.cached_forecaster.MAX_PORTION_FORECASTS", 40)
    for _ in range(2):
        # A process keeps its engine, as the real function does.
        monkeypatch.setattr(engines, "load_engine", cache(built))
        cached = CachedForecaster(Chronos2Forecaster(profile, 32), tmp_path)
        table = cached.forecast(market, market.times[first])
        [path] = files(tmp_path)
        [[specification]] = answered(path, "SELECT DISTINCT specification FROM portions")
        assert '"computed": "cpu, eager, 8 windows a pass"' in specification
        assert len(table.all_quantiles) > 100
    plain = Chronos2Forecaster(profile, 8)
    monkeypatch.setattr(engines, "load_engine", lambda *_: pytest.fail("all of it is there"))
    np.testing.assert_array_equal(
        CachedForecaster(plain, tmp_path).forecast(market, market.times[first]).all_quantiles,
        table.all_quantiles,
    )


# ----- settings of the calling program -----


def precision() -> tuple[str, ...]:
    cpu = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    return torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.fp32_precision, cpu


def test_float32_precision_overrides_and_restores_global_settings() -> None:
    torch.set_float32_matmul_precision("high")
    before = precision()
    seen = {}
    for dtype in ("fp32", "tf32"):

        def watched(context: torch.Tensor, dtype: str = dtype, **options: Any) -> torch.Tensor:
            seen[dtype] = precision()[:2]
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            answer(Engine(watched, CPU, 16, "", dtype=dtype), walks(1, 16, 64))  # type: ignore[arg-type]
        assert precision() == before
    torch.set_float32_matmul_precision("highest")
    assert seen == {"fp32": ("highest", "ieee"), "tf32": ("high", "tf32")}


# ----- description of an engine -----


@pytest.mark.parametrize("compile", [False, "auto"])
def test_planned_computation_description_matches_the_loaded_engine(compile: Any) -> None:
    model = find_checkpoint(str(BUNDLED_CHECKPOINT))
    profile = InferenceProfile(device="cpu", compile=compile)
    assert engines.load_engine(
        model, profile, 12
    ).computation_description == format_planned_computation(model, profile, 12)


def test_cuda_network_is_compiled_unless_forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "free_gpu_memory_bytes", lambda device: 2**36)
    model = find_checkpoint(str(BUNDLED_CHECKPOINT))

    def planned(batch_size: int | None = None, **settings: Any) -> str:
        return format_planned_computation(model, InferenceProfile(**settings), batch_size)

    assert planned() == "cuda, compiled by layer, 16384 windows a pass"
    assert planned(device="cuda:1") == planned(), "which GPU it is changes no bit"
    assert planned(7, device="cuda", compile=False) == "cuda, eager, 7 windows a pass"
    assert planned(device="cpu") == "cpu, eager, 64 windows a pass"


def test_engine_is_reused_only_for_equivalent_options() -> None:
    """The cache key contains every option that changes the result or the computation."""
    model = find_checkpoint(str(BUNDLED_CHECKPOINT))
    eager = InferenceProfile(device="cpu", compile=False)
    kept = engines.load_engine(model, eager, 12)
    assert engines.load_engine(model, eager, 12) is kept
    assert engines.load_engine(model, replace(eager, compile="auto"), 12) is kept, (
        "on a CPU it is this"
    )
    for profile, batch_size in ((replace(eager, compile=True), 12), (eager, 13)):
        assert engines.load_engine(model, profile, batch_size) is not kept
    assert engines.load_engine(model, eager, 13).network is kept.network, "they share its weights"
    assert engines.load_engine(model, eager, None).batch_size == 64


# ----- devices of these tests -----
