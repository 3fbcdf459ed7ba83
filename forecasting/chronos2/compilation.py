"""`torch.compile` of a network's layers, and CUDA graphs of passes of few windows.

All layers of a network have the same shapes, so what one is compiled to computes all of them, but
for the last, of which only the future's tokens go on. Compiling a layer takes a fraction of what
the whole network does. A CUDA graph spares the launches of kernels, which a pass of thousands of
windows hides. B windows a pass, L bars, H steps, Q levels.
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

# Graphs dynamo may keep of a layer, two for each shape of a pass: a length of context, alone or in
# groups of one size. Its own limit is 8, and a fifth length would end in an error.
MAX_COMPILED_GRAPHS = 256
MAX_GRAPHED_WINDOWS = 512  # windows a pass at most that a CUDA graph is made of
MAX_GRAPHED_SHAPES = 8  # of passes, each with a graph of its own and the memory of its states

OUT_OF_MEMORY_PHRASES = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


class CompilationError(Exception):
    """A network that cannot be compiled, or not run as compiled."""


class CompiledNetwork:
    """A network whose layers run as `torch.compile` makes them."""

    def __init__(self, network: NetworkFunction) -> None:
        self._network = network
        self._run: RunLayer | None = None

    def __call__(self, context: torch.Tensor, **how: int) -> torch.Tensor:
        """What the network answers: sorted quantiles [B, H, Q] in USD of contexts [B, L].

        Raises CompilationError where it cannot be compiled; memory that runs out comes as torch
        says it.
        """
        with _without_advice():
            from torch._dynamo import config
            from torch._dynamo.exc import FailOnRecompileLimitHit

        # Dynamo's and inductor's exceptions are RuntimeErrors, but for the limit of graphs; a
        # compiler or a folder that is not there is an OSError, a missing Triton an ImportError, and
        # some of it asserts. What the network itself raises is raised again without compilation.
        failures = (RuntimeError, FailOnRecompileLimitHit, OSError, ImportError, AssertionError)
        try:
            with _without_advice(), config.patch(recompile_limit=MAX_COMPILED_GRAPHS):
                self._run = self._run or torch.compile(run_layer, dynamic=False, fullgraph=True)
                return self._network(context, **how, run=self._run)
        except failures as error:
            if is_out_of_memory(error):
                raise
            raise CompilationError(error_reason(error)) from error


class CudaGraphNetwork:
    """A network on CUDA whose passes of few windows are replayed: the same kernels, one launch."""

    def __init__(self, network: NetworkFunction) -> None:
        self._network = network
        # None: a shape that was met once. Making a graph takes as long as several passes.
        self._graphs: dict[tuple[object, ...], _Graph | None] = {}
        self._most = MAX_GRAPHED_SHAPES

    def __call__(self, context: torch.Tensor, **how: int) -> torch.Tensor:
        """What the network answers."""
        shape = (*context.shape, *how.items())
        if shape in self._graphs:
            try:
                graph = self._graphs[shape] or _Graph(self._network, context, **how)
            except RuntimeError as error:
                log.warning(
                    "no CUDA graph could be made, going on without: %s", error_reason(error)
                )
                self._graphs.clear()
                self._most = 0
            else:
                self._graphs[shape] = graph
                return graph.replay(context)
        elif len(context) <= MAX_GRAPHED_WINDOWS and len(self._graphs) < self._most:
            self._graphs[shape] = None
        return self._network(context, **how)


class _Graph:
    """One pass of a network, from memory that is written over with each context."""

    def __init__(self, network: NetworkFunction, context: torch.Tensor, **how: object) -> None:
        self._context = context.clone()
        device = context.device
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        # What libraries set up for a stream is no part of a graph: a pass goes before.
        with torch.cuda.device(device), torch.cuda.stream(stream):
            network(self._context, **how)
            self._graph = torch.cuda.CUDAGraph()
            # Another thread may ask for memory meanwhile.
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._answer = network(self._context, **how)
        torch.cuda.current_stream(device).wait_stream(stream)

    def replay(self, context: torch.Tensor) -> torch.Tensor:
        """What the network answers to another context of the same shape."""
        self._context.copy_(context)
        self._graph.replay()
        return self._answer.clone()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what it came from, says that memory ran out."""
    cause: BaseException | None = error
    while cause is not None:
        exhausted = any(text in str(cause) for text in OUT_OF_MEMORY_PHRASES)
        if exhausted or isinstance(cause, torch.OutOfMemoryError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def release_memory(device: torch.device) -> None:
    """Give back what compiled graphs, made again when needed, and torch's allocator hold."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def error_reason(error: BaseException) -> str:
    """An error in one line: what the backend raised, where dynamo has wrapped it."""
    inner = getattr(error, "inner_exception", None)
    if inner is not None:
        return f"{type(inner).__name__}: {error_reason(inner)}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def matmul_precision(dtype: Dtype) -> Iterator[None]:
    """Multiply float32 as float32, or with TF32 for `tf32`, whatever the program has allowed.

    TF32 keeps 10 bits of a factor's 23, and sums in float32.
    """
    # torch has two interfaces for it and raises where they disagree. Setting the older sets both:
    # the newer ones are remembered and put back after it.
    cuda = torch.backends.cuda.matmul
    cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = cuda.fp32_precision, cpu.fp32_precision
    with _without_advice():
        try:
            older = torch.get_float32_matmul_precision()
        except RuntimeError:
            older = "highest"  # it is the newer that allows more
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    try:
        yield
    finally:
        with _without_advice():
            torch.set_float32_matmul_precision(older)
            cuda.fp32_precision, cpu.fp32_precision = before


@contextmanager
def _without_advice() -> Iterator[None]:
    """Ignore advice of torch's own code: TF32 is off, a part of Python it uses is deprecated."""
    # Where warnings are errors, advice about TF32 would be a compilation that failed. Some of it
    # torch ascribes to its caller, which is this module.
    with warnings.catch_warnings():
        for origin in ("torch", "triton", "sympy", __name__):
            warnings.filterwarnings("ignore", module=rf"{re.escape(origin)}(\.|$)")
        yield
