"""Compilation of a network's layers by `torch.compile`, and CUDA graphs for small passes.

All layers of a network have the same shapes. One compiled function therefore computes all but the
last layer, of which only the future tokens are needed. Compiling a layer takes a fraction of the
time for the whole network. A CUDA graph saves kernel launches, whose latency only large passes
hide.

Dimensions: B windows in a pass, L bars, H steps, Q quantile levels.
"""

from __future__ import annotations

import logging
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from forecasting.chronos2.network import RunLayer, run_layer
from forecasting.chronos2.profile import Dtype

log = logging.getLogger(__name__)

NetworkFunction = Callable[..., torch.Tensor]

# Maximum number of graphs that dynamo keeps of a layer. Each shape of a pass needs two: a context
# length, alone or in groups of one size. With the default limit of 8 a fifth length would fail.
MAX_COMPILED_GRAPHS = 256
MAX_CUDA_GRAPH_WINDOWS = 512  # maximum number of windows in a pass with a CUDA graph
MAX_CUDA_GRAPH_SHAPES = (
    8  # maximum number of pass shapes with a CUDA graph, each with its own memory
)

OUT_OF_MEMORY_PHRASES = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


class CompilationError(Exception):
    """Raised when a network cannot be compiled, or its compiled form cannot run."""


class CompiledNetwork:
    """A network whose layers are compiled by `torch.compile`."""

    def __init__(self, network: NetworkFunction) -> None:
        self._network = network
        self._run: RunLayer | None = None

    def __call__(self, context: torch.Tensor, **how: int) -> torch.Tensor:
        """Return the network's sorted quantiles [B, H, Q] in USD of contexts [B, L].

        Raises CompilationError if the network cannot be compiled, and torch's error if memory runs
        out.
        """
        with _suppress_warnings():
            from torch._dynamo import config
            from torch._dynamo.exc import FailOnRecompileLimitHit

        # Dynamo's and inductor's exceptions are RuntimeErrors, except for the limit of graphs. A
        # missing compiler or folder is an OSError, a missing Triton an ImportError, and some code
        # asserts. An error of the network itself is raised again without compilation.
        failures = (RuntimeError, FailOnRecompileLimitHit, OSError, ImportError, AssertionError)
        try:
            with _suppress_warnings(), config.patch(recompile_limit=MAX_COMPILED_GRAPHS):
                self._run = self._run or torch.compile(run_layer, dynamic=False, fullgraph=True)
                return self._network(context, **how, run=self._run)
        except failures as error:
            if is_out_of_memory(error):
                raise
            raise CompilationError(format_error_reason(error)) from error


class CudaGraphNetwork:
    """A network on CUDA that replays small passes as CUDA graphs, with the same kernels.

    A graph needs a single launch for all kernels of a pass.
    """

    def __init__(self, network: NetworkFunction) -> None:
        self._network = network
        # None: a shape that has occurred once. Making a graph takes as long as several passes.
        self._graphs: dict[tuple[object, ...], _CapturedGraph | None] = {}
        self._most = MAX_CUDA_GRAPH_SHAPES

    def __call__(self, context: torch.Tensor, **how: int) -> torch.Tensor:
        """Return the network's sorted quantiles [B, H, Q] in USD of contexts [B, L]."""
        shape = (*context.shape, *how.items())
        if shape in self._graphs:
            try:
                graph = self._graphs[shape] or _CapturedGraph(self._network, context, **how)
            except RuntimeError as error:
                log.warning(
                    "CUDA graph cannot be created, continuing without: %s",
                    format_error_reason(error),
                )
                self._graphs.clear()
                self._most = 0
            else:
                self._graphs[shape] = graph
                return graph.replay(context)
        elif len(context) <= MAX_CUDA_GRAPH_WINDOWS and len(self._graphs) < self._most:
            self._graphs[shape] = None
        return self._network(context, **how)


class _CapturedGraph:
    """A pass of a network, captured as a CUDA graph; each replay overwrites the input's memory."""

    def __init__(self, network: NetworkFunction, context: torch.Tensor, **how: object) -> None:
        self._context = context.clone()
        device = context.device
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        # A first pass lets libraries set up their state for the stream, which is no part of a
        # graph.
        with torch.cuda.device(device), torch.cuda.stream(stream):
            network(self._context, **how)
            self._graph = torch.cuda.CUDAGraph()
            # Another thread may allocate memory meanwhile.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._answer = network(self._context, **how)
        torch.cuda.current_stream(device).wait_stream(stream)

    def replay(self, context: torch.Tensor) -> torch.Tensor:
        """Return the network's quantiles for another context of the same shape."""
        self._context.copy_(context)
        self._graph.replay()
        return self._answer.clone()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error, or one of its causes, reports that memory ran out."""
    cause: BaseException | None = error
    while cause is not None:
        exhausted = any(text in str(cause) for text in OUT_OF_MEMORY_PHRASES)
        if exhausted or isinstance(cause, torch.OutOfMemoryError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def release_memory(device: torch.device) -> None:
    """Free compiled graphs, which are recompiled when next needed, and torch's cached memory."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def format_error_reason(error: BaseException) -> str:
    """Return the first line of an error's text.

    For an error of torch's compiler (dynamo), it is the text of the backend error inside.
    """
    inner = getattr(error, "inner_exception", None)
    if inner is not None:
        return f"{type(inner).__name__}: {format_error_reason(inner)}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def use_matmul_precision(dtype: Dtype) -> Iterator[None]:
    """Set torch's precision of float32 matrix products during a `with` block.

    TF32 is enabled for `tf32` only. The caller's setting is restored at the end. TF32 keeps 10 of
    the 23 mantissa bits of each factor, and sums in float32.
    """
    # torch has two interfaces for it and raises if they disagree. Setting the older one sets both:
    # the newer values are saved and restored after it.
    cuda = torch.backends.cuda.matmul
    cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = cuda.fp32_precision, cpu.fp32_precision
    with _suppress_warnings():
        try:
            older = torch.get_float32_matmul_precision()
        except RuntimeError:
            older = "highest"  # only the newer interface allows more
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    try:
        yield
    finally:
        with _suppress_warnings():
            torch.set_float32_matmul_precision(older)
            cuda.fp32_precision, cpu.fp32_precision = before


@contextmanager
def _suppress_warnings() -> Iterator[None]:
    """Suppress torch's warnings about its own code, for example that TF32 is off."""
    # Where warnings are errors, a warning about TF32 would be a failed compilation. torch
    # attributes some of them to its caller, which is this module.
    with warnings.catch_warnings():
        for origin in ("torch", "triton", "sympy", __name__):
            warnings.filterwarnings("ignore", module=rf"{re.escape(origin)}(\.|$)")
        yield
