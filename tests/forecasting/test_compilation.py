"""Compiled or not, with much memory or little, in a program that allows TF32: the same answers,
one line where it matters.
"""

from __future__ import annotations

import logging
import math
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chronos.chronos2.model import Chronos2Model
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo import exc as dynamo
from torch._inductor import compile_fx
from torch._inductor import exc as inductor

from forecasting.chronos2 import compilation, devices
from forecasting.chronos2 import engine as engines
from forecasting.chronos2.cached import CachedForecaster
from forecasting.chronos2.checkpoint import SHIPPED, checkpoint
from forecasting.chronos2.compilation import Compiled, graph_length, multiplying, release
from forecasting.chronos2.engine import Engine, planned_computation
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.library import load
from forecasting.chronos2.network import Network
from forecasting.chronos2.profile import Profile
from forecasting.forecast import HORIZON, LEVELS, silent
from forecasting.windows import Windows
from foundation.activity import current_activity
from foundation.errors import InputError
from trainingdata.bars import Bars

CPU = torch.device("cpu")
PATCH = 8


@pytest.fixture(scope="module")
def network() -> Network:
    """The shipped network as it is compiled."""
    model = load(checkpoint(str(SHIPPED)), CPU).model
    return Network(model, HORIZON, range(len(LEVELS)), "fp32", CPU, packed=False).eval()


def walks(symbols: int, length: int, windows: int) -> Windows:
    """Windows of `length` bars, `windows` of each symbol at the same instants."""
    rng = np.random.default_rng(length)
    closes = tuple(
        100 * np.exp(np.cumsum(rng.normal(0, 0.01, length + windows - 1))) for _ in range(symbols)
    )
    last = np.tile(np.arange(windows) + length - 1, symbols)
    stamps = np.datetime64("2024-01-01", "ns") + last * np.timedelta64(1, "h")
    return Windows(
        closes, np.full(symbols, length), np.repeat(np.arange(symbols), windows), last, stamps
    )


def answer(
    engine: Engine, windows: Windows, augmentation: Any = "none", group: int = 1
) -> np.ndarray:
    return engine.quantiles(
        windows, np.arange(len(windows)), augmentation, group=group, progress=silent
    )


def compiled(network: Network, batch_size: int = 4) -> Engine:
    """As it is on a GPU by default."""
    call = Compiled(network.in_deviations, PATCH)
    return Engine(call, CPU, batch_size, "", "compiled", network)


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **options: network)


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What this project warns of; torch logs by itself when its limit is reached."""
    ours = [r for r in caplog.records if r.name.startswith("forecasting")]
    return [r.getMessage() for r in ours if r.levelno >= logging.WARNING]


# ----- lengths -----


@given(length=st.integers(1, 8192), patch=st.sampled_from([8, 16]))
def test_a_length_is_padded_to_one_of_few_and_by_little(length: int, patch: int) -> None:
    whole = graph_length(length, patch)
    assert whole >= length
    assert whole % patch == 0
    assert whole <= 1.3 * patch * math.ceil(length / patch)
    assert graph_length(whole, patch) == whole


def test_lengths_are_few_and_the_default_gets_no_patch_of_nothing() -> None:
    assert len({graph_length(length, 8) for length in range(3, 513)}) == 17
    assert len({graph_length(length, 8) for length in range(3, 8193)}) == 29
    assert (graph_length(100, 8), graph_length(100, 16)) == (104, 112)


@pytest.mark.first_example
@pytest.mark.parametrize("length", [3, 8, 57, 64, 90, 100, 104, 105, 150, 301, 512])
@pytest.mark.parametrize("group", [1, 3])
def test_a_padded_context_answers_as_the_context_itself(
    length: int, group: int, network: Network, uncompiled: None
) -> None:
    windows = walks(3, length, 8)
    rows = np.arange(len(windows)).reshape(3, 8).T.ravel()  # members of one instant side by side
    engines = compiled(network, 6), Engine(network, CPU, 6, "")
    ours, theirs = (
        e.quantiles(windows, rows, "none", group=group, progress=silent) for e in engines
    )
    np.testing.assert_allclose(ours, theirs, rtol=4e-6)


@pytest.mark.parametrize("augmentation", ["log", "detrend", "log_detrend"])
def test_an_augmentation_does_not_see_the_padding(
    augmentation: Any, network: Network, uncompiled: None
) -> None:
    windows = walks(2, 140, 8)
    padded, plain = (
        answer(engine, windows, augmentation)
        for engine in (compiled(network), Engine(network, CPU, 4, ""))
    )
    np.testing.assert_allclose(padded, plain, rtol=4e-6)


def test_patches_of_nothing_are_masked_and_masks_are_left_out_without_them(
    network: Network, uncompiled: None
) -> None:
    seen: list[tuple[tuple[int, ...], bool]] = []

    def watched(located: torch.Tensor, **options: Any) -> torch.Tensor:
        seen.append((tuple(located.shape), options["complete"]))
        return network.in_deviations(located, **options)

    for length in (100, 112):
        windows = walks(1, length, 4)
        engine = Engine(Compiled(watched, PATCH), CPU, 4, "", "compiled")
        expected = answer(Engine(network, CPU, 4, ""), windows)
        if length == 100:
            np.testing.assert_array_equal(answer(engine, windows), expected)
        else:
            np.testing.assert_allclose(answer(engine, windows), expected, rtol=4e-6)
    assert seen == [((4, 104), True), ((4, 128), False)]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """torch.compile with everything but the code generator; tokens of the graphs that were made."""
    graphs: list[int] = []
    real = torch.compile

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        graphs.extend(x.shape[1] for x in inputs if x.ndim == 3 and x.shape[2] == 128)
        return graph.forward

    monkeypatch.setattr(
        torch, "compile", lambda f, **o: real(f, backend=backend, dynamic=False, fullgraph=True)
    )
    torch.compiler.reset()
    yield graphs
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("kept", [compilation.GRAPHS, 2])
def test_an_eighth_length_and_a_tenth_are_compiled_as_the_first(
    kept: int,
    network: Network,
    traced: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Dynamo keeps eight graphs of one code and raises at the ninth."""
    monkeypatch.setattr(compilation, "GRAPHS", kept)
    engine = compiled(network)
    for length in (10, 20, 30, 40, 50, 60, 64, 80, 100, 128, 125):
        windows = walks(1, length, 4)
        np.testing.assert_allclose(
            answer(engine, windows), answer(Engine(network, CPU, 4, ""), windows), rtol=4e-6
        )
    assert engine.way == "compiled"
    assert warned(caplog) == []
    assert len(set(traced)) == 9, "eleven lengths, nine sizes"
    assert len(traced) >= 18
    assert len(traced) == 18 or kept == 2, "a graph for all layers but the last, and one for it"


def test_layers_but_the_last_share_a_graph_whatever_their_number(traced: list[int]) -> None:
    model = Chronos2Model(load(checkpoint(str(SHIPPED)), CPU).model.config)
    model.encoder.block.extend(model.encoder.block[1:])
    network = Network(model, HORIZON, range(len(LEVELS)), "fp32", CPU, packed=False).eval()
    assert len(network.layers) == 5
    windows = walks(1, 100, 8)
    np.testing.assert_allclose(
        answer(compiled(network), windows), answer(Engine(network, CPU, 4, ""), windows), rtol=4e-6
    )
    assert traced == [17, 17], "13 patches, the register and three of the future"


def test_what_is_compiled_is_said_while_it_is(network: Network, monkeypatch: Any) -> None:
    said: list[str] = []

    def compile(run: Any, **options: Any) -> Any:
        def watched(*arguments: Any) -> Any:
            said.append(current_activity())
            return run(*arguments)

        return watched

    monkeypatch.setattr(torch, "compile", compile)
    engine = compiled(network)
    for length in (64, 64, 100):
        answer(engine, walks(1, length, 8))
    first, later = ["compiling the network"] * 3, [""] * 3
    assert said == [*first, *later, *later, *later, *first, *later], "three layers, two passes each"


# ----- failures -----


def failure(name: str) -> Exception:
    """What torch raises when it cannot compile."""
    inner = RuntimeError("no working C++ compiler\nand much more about it")
    frame: Any = None
    return {
        "unsupported": dynamo.Unsupported("a graph break\nin a long story"),
        "internal": dynamo.InternalTorchDynamoError("KeyError: 3"),
        "limit": dynamo.FailOnRecompileLimitHit("Hard failure due to fullgraph=True"),
        "backend": dynamo.BackendCompilerFailed(print, inner, frame),
        "inductor": inductor.InductorError(inner, frame),
        "warning": inductor.InductorError(UserWarning("TensorFloat32 tensor cores"), frame),
        "triton": inductor.TritonMissing(frame),
        "old": inductor.GPUTooOldForTriton(
            types.SimpleNamespace(name="K80", major=3, minor=7), frame
        ),
        "compiler": inductor.InvalidCxxCompiler(),
        "build": inductor.CppCompileError(["g++"], "error: no header"),
        "folder": PermissionError(13, "Permission denied"),
        "import": ImportError("libcuda.so.1"),
        "graphs": AssertionError(),
    }[name]


NAMES = [
    "unsupported",
    "internal",
    "limit",
    "backend",
    "inductor",
    "warning",
    "triton",
    "old",
    "compiler",
    "build",
    "folder",
    "import",
    "graphs",
]


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
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("late", [False, True])
def test_auto_goes_on_without_compilation_and_says_so_in_one_line(
    name: str,
    late: bool,
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Late: the third pass of three layers; what the ones before have answered is computed again
    with the rest.
    """
    monkeypatch.setattr(
        torch, "compile", broken(failure(name), 7 if late and name != "limit" else 1)
    )
    engine = compiled(network)
    windows = walks(2, 64, 8)
    expected = answer(Engine(network, CPU, 4, ""), windows)
    np.testing.assert_array_equal(answer(engine, windows), expected)
    np.testing.assert_array_equal(answer(engine, windows), expected)
    (line,) = warned(caplog)
    assert line.startswith("forecaster.compile=auto: torch.compile failed, going on without it: ")
    assert "\n" not in line
    assert (
        len(line) > len("forecaster.compile=auto: torch.compile failed, going on without it: ") + 3
    )
    assert engine.computation == "cpu, eager, 4 windows a pass"


@pytest.mark.parametrize("name", NAMES)
def test_compilation_that_was_demanded_fails_in_one_line(
    name: str, market: Bars, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", broken(failure(name)))
    engines._cached_engine.cache_clear()
    forecaster = Chronos2Forecaster(Profile(compile=True, device="cpu"))
    with pytest.raises(
        InputError, match=r"^forecaster\.compile=true: torch\.compile failed: .*; set it to false$"
    ) as raised:
        forecaster.forecast(market, market.times[-1])
    assert "\n" not in str(raised.value)
    if name in {"backend", "inductor"}:
        assert "RuntimeError: no working C++ compiler" in str(raised.value)
    engines._cached_engine.cache_clear()


def test_a_torch_compile_that_refuses_at_once_is_a_failure_like_any_other(
    network: Network, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refusing(module: Any, **options: Any) -> Any:
        raise RuntimeError("torch.compile is not supported on Python 3.15+")

    monkeypatch.setattr(torch, "compile", refusing)
    engine = compiled(network)
    assert len(answer(engine, walks(1, 20, 4))) == 4
    assert len(warned(caplog)) == 1


def test_an_error_of_the_network_itself_is_not_taken_for_one_of_the_compiler(
    uncompiled: None,
) -> None:
    def wrong(context: torch.Tensor, **options: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    engine = Engine(Compiled(wrong, PATCH), CPU, 4, "", "compiled", wrong)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        answer(engine, walks(1, 20, 4))


@pytest.mark.slow
def test_a_machine_without_a_compiler_is_met_as_simulated(
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """What inductor really raises."""
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    with config.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False}):
        engine = compiled(network)
        windows = walks(1, 20, 4)
        np.testing.assert_array_equal(
            answer(engine, windows), answer(Engine(network, CPU, 4, ""), windows)
        )
    torch.compiler.reset()
    assert len(warned(caplog)) == 1
    assert "InvalidCxxCompiler" in warned(caplog)[0]


# ----- memory -----


MEMORY = {
    "torch's": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "pinned": RuntimeError(
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"
    ),
    "cublas": RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "host": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"
    ),
    "wrapped": inductor.InductorError(torch.OutOfMemoryError("CUDA out of memory."), None),  # type: ignore[arg-type]
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
@pytest.mark.parametrize("way", ["eager", "compiled"])
def test_where_memory_runs_out_the_batch_is_halved(
    kind: str, way: str, network: Network, uncompiled: None, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(small(network, 5, MEMORY[kind]), CPU, 32, "")
    if way == "compiled":
        call = Compiled(small(network.in_deviations, 5, MEMORY[kind]), PATCH)
        engine = Engine(call, CPU, 32, "", "compiled", network)
    windows = walks(2, 64, 20)
    ours = answer(engine, windows)
    np.testing.assert_allclose(ours, answer(Engine(network, CPU, 4, ""), windows), rtol=4e-6)
    assert engine.batch_size == 4
    assert engine.way == way
    lines = warned(caplog)
    assert [line.split(" ran out with ")[1] for line in lines] == [
        "32 windows a pass, going on with"
        " 16", "16 windows a pass, going on with 8", "8 windows a pass, going on with 4",
    ]  # fmt: skip
    answer(engine, windows)
    assert len(warned(caplog)) == 3, "what did not fit once is not tried again"


def test_memory_that_runs_out_in_the_middle_leaves_one_answer_computed_in_one_way(
    network: Network,
) -> None:
    calls = 0

    def shrinking(context: torch.Tensor, **options: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls >= 3 and len(context) > 4:
            raise MEMORY["torch's"]
        return network(context, **options) + (1.0 if len(context) > 4 else 0.0)

    windows = walks(1, 64, 40)
    np.testing.assert_array_equal(
        answer(Engine(shrinking, CPU, 8, ""), windows), answer(Engine(network, CPU, 4, ""), windows)
    )


def test_a_group_is_never_split(network: Network) -> None:
    windows = walks(3, 64, 8)
    rows = np.arange(24).reshape(3, 8).T.ravel()
    engine = Engine(small(network, 4, MEMORY["torch's"]), CPU, 24, "")
    ours = engine.quantiles(windows, rows, "none", group=3, progress=silent)
    theirs = Engine(network, CPU, 24, "").quantiles(windows, rows, "none", group=3, progress=silent)
    np.testing.assert_allclose(ours, theirs, rtol=4e-6)
    engine = Engine(small(network, 2, MEMORY["torch's"]), CPU, 24, "")
    with pytest.raises(
        InputError,
        match=r"^forecaster\.device: cpu has too little memory for a group of 3 windows$",
    ):
        engine.quantiles(windows, rows, "none", group=3, progress=silent)


def test_too_little_memory_for_one_window_is_said_in_one_line(network: Network) -> None:
    with pytest.raises(
        InputError, match=r"^forecaster\.device: cpu has too little memory for a single window$"
    ):
        answer(Engine(small(network, 0, MEMORY["torch's"]), CPU, 8, ""), walks(1, 64, 4))


def test_weights_that_do_not_fit_into_memory_are_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from chronos.chronos2.model import Chronos2Model

    def full(*arguments: Any, **named: Any) -> Any:
        raise MEMORY["torch's"]

    monkeypatch.setattr(Chronos2Model, "from_pretrained", full)
    with pytest.raises(
        InputError, match=r"^forecaster\.device: cpu has too little memory for small$"
    ):
        load(checkpoint(str(SHIPPED)), CPU)


def test_memory_is_given_back_on_a_device_and_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))
    monkeypatch.setattr(torch.compiler, "reset", lambda: done.append("reset"))
    release(torch.device("cuda"))
    release(CPU)
    assert done == ["reset", "emptied", "reset"]


@pytest.mark.slow
def test_what_is_kept_of_bf16_lies_where_it_was_computed(
    tmp_path: Path, market: Bars, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Planned with 32 windows a pass, computed with 8: the forecasts lie under 8, also those of
    the next run.
    """
    profile = Profile(dtype="bf16", device="cpu")
    inner = engines.engine(checkpoint(str(SHIPPED)), profile, 32)
    real: Any = inner.network
    first = len(market.times) - 60

    def built(*arguments: Any) -> Engine:
        return Engine(small(real, 8, MEMORY["torch's"]), CPU, 32, inner.weights)

    monkeypatch.setattr("forecasting.chronos2.cached.FILE_ROWS", 40)
    for _ in range(2):
        # A process keeps its engine, as the real function does.
        monkeypatch.setattr(engines, "engine", cache(built))
        cached = CachedForecaster(Chronos2Forecaster(profile, 32), tmp_path)
        table = cached.forecast(market, market.times[first])
        (shelf,) = {p.parent.parent for p in tmp_path.rglob("*.parquet")}
        assert (
            '"computed": "cpu, eager, 8 windows a pass"'
            in (shelf / "specification.json").read_text()
        )
        assert len(table.values) > 100
    plain = Chronos2Forecaster(profile, 8)
    monkeypatch.setattr(engines, "engine", lambda *_: pytest.fail("all of it is there"))
    np.testing.assert_array_equal(
        CachedForecaster(plain, tmp_path).forecast(market, market.times[first]).values, table.values
    )


# ----- what the program around has set -----


def states() -> dict[str, Callable[[], None]]:
    def newer(where: Any, what: str) -> Callable[[], None]:
        return lambda: setattr(where, "fp32_precision", what)

    return {
        "nothing": lambda: None,
        "high": lambda: torch.set_float32_matmul_precision("high"),
        "medium": lambda: torch.set_float32_matmul_precision("medium"),
        "the newer interface alone": newer(torch.backends.cuda.matmul, "tf32"),
        "all of it": newer(torch.backends, "tf32"),
        "the CPU's": newer(torch.backends.mkldnn.matmul, "bf16"),  # type: ignore[attr-defined]
    }


def precision() -> tuple[str, ...]:
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:
        older = "two that disagree"
    cpu = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    return older, torch.backends.cuda.matmul.fp32_precision, cpu, torch.backends.fp32_precision  # type: ignore[attr-defined]


@pytest.fixture
def as_before() -> Iterator[None]:
    yield
    torch.backends.fp32_precision = "none"  # type: ignore[attr-defined]
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("state", states())
def test_float32_is_float32_whatever_the_program_allows_and_what_it_allows_stays(
    state: str, network: Network, as_before: None
) -> None:
    windows = walks(1, 64, 16)
    expected = answer(Engine(network, CPU, 16, ""), windows)
    states()[state]()
    before = precision()
    with multiplying("fp32"):
        assert precision()[:3] == ("highest", "ieee", "ieee")
    assert precision() == before
    with multiplying("tf32"):
        assert precision()[:2] == ("high", "tf32")
    assert precision() == before
    seen = []

    def watched(context: torch.Tensor, **options: Any) -> torch.Tensor:
        seen.append(precision()[:3])
        return network(context, **options)

    np.testing.assert_array_equal(answer(Engine(watched, CPU, 16, ""), windows), expected)
    assert set(seen) == {("highest", "ieee", "ieee")}
    assert precision() == before
    seen.clear()
    answer(Engine(watched, CPU, 16, "", dtype="tf32"), windows)
    assert {there[:2] for there in seen} == {("high", "tf32")}
    assert precision() == before


def test_precision_is_as_before_also_after_an_error(as_before: None) -> None:
    torch.set_float32_matmul_precision("high")
    before = precision()
    with pytest.raises(ZeroDivisionError), multiplying("fp32"):
        _ = 1 / 0
    assert precision() == before


def test_inductors_warning_about_tf32_is_no_failure(
    network: Network, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a GPU with warnings as errors: the function itself, believing that there is one."""

    def compile(module: Any, **options: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            with pytest.MonkeyPatch.context() as cuda:
                cuda.setattr(torch.cuda, "is_available", lambda: True)
                cuda.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
                compile_fx._warn_tf32_disabled.__wrapped__()
            return module(*arguments, **named)

        return call

    monkeypatch.setattr(torch, "compile", compile)
    engine = compiled(network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="TensorFloat32"):
            compile(network)(torch.ones(1, 16))
        answer(engine, walks(1, 64, 4))
    assert engine.way == "compiled"
    assert warned(caplog) == []


def test_warnings_of_others_are_still_heard(uncompiled: None) -> None:
    def warning(context: torch.Tensor, **options: Any) -> torch.Tensor:
        warnings.warn("mine", UserWarning, stacklevel=1)
        return context

    with pytest.raises(UserWarning, match="mine"):
        Compiled(warning, PATCH)(torch.ones(1, 16), group=1, complete=True)


# ----- what an engine says of itself -----


@pytest.mark.parametrize("compile", [False, "auto"])
def test_what_is_planned_is_what_happens_where_nothing_fails(compile: Any) -> None:
    model = checkpoint(str(SHIPPED))
    profile = Profile(device="cpu", compile=compile)
    assert engines.engine(model, profile, 12).computation == planned_computation(model, profile, 12)


def test_on_cuda_the_network_is_compiled_unless_that_is_forbidden(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(devices, "free_memory", lambda place: 2**36)
    model = checkpoint(str(SHIPPED))

    def planned(batch_size: int | None = None, **settings: Any) -> str:
        return planned_computation(model, Profile(**settings), batch_size)

    assert planned() == "cuda, compiled by layer, 4096 windows a pass"
    assert planned(device="cuda:1") == planned(), "which GPU it is changes no bit"
    assert planned(7, device="cuda", compile=False) == "cuda, eager, 7 windows a pass"
    assert planned(device="cpu") == "cpu, eager, 64 windows a pass"


def test_a_kept_engine_is_the_one_that_was_asked_for() -> None:
    """Everything that changes the answer or the way to it is part of what an engine is kept by."""
    model = checkpoint(str(SHIPPED))
    eager = Profile(device="cpu", compile=False)
    kept = engines.engine(model, eager, 12)
    assert engines.engine(model, eager, 12) is kept
    assert engines.engine(model, replace(eager, compile="auto"), 12) is kept, "on a CPU it is this"
    for profile, batch_size in (
        (replace(eager, dtype="bf16"), 12),
        (replace(eager, compile=True), 12),
        (eager, 13),
    ):
        assert engines.engine(model, profile, batch_size) is not kept
    assert engines.engine(model, eager, None).batch_size == 64


def test_engines_of_one_model_share_its_weights() -> None:
    model = checkpoint(str(SHIPPED))
    one, other = (engines.engine(model, Profile(device="cpu"), size) for size in (12, 13))
    assert one.network is other.network


# ----- what these tests run on -----


def test_default_tests_compute_on_the_cpu(request: pytest.FixtureRequest) -> None:
    assert not torch.cuda.is_available()
    assert devices.device_of("auto") == "cpu"
    conftest = request.config.pluginmanager.get_plugin(
        str(Path(__file__).resolve().parents[1] / "conftest.py")
    )
    for asked in ("gpu", "bench", "gpu and not slow", "slow or bench"):
        assert conftest.sees_the_gpu(asked)
    for asked in ("", "slow", "not gpu and not network and not slow and not bench", "not bench"):
        assert not conftest.sees_the_gpu(asked)
