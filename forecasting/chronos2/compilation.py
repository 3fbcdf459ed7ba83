"""`torch.compile` of a network's layers: few shapes, and its failures as one exception.

All layers of a network have the same shapes, so what one is compiled to computes all of them, but
for the last, of which only the future's tokens go on. Compiling a layer takes a fraction of what
the whole network does. CUDA graphs would want the whole, and spare a device the launches of its
kernels, which are hidden where a pass takes thousands of windows; few windows are not compiled.

A graph holds for one length of context. Contexts are therefore padded with missing bars to one of
few lengths, after they have been standardised: padding is not attended to and positions count from
the end, so a forecast does not depend on it. B windows, L bars, H steps, Q levels.
"""

from __future__ import annotations

import math
import re
import sys
import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional

from forecasting.chronos2.network import RunLayer, in_prices, run_layer, standardised
from forecasting.chronos2.profile import Dtype
from foundation.activity import doing

Network = Callable[..., torch.Tensor]

# Patches a context is padded to: up to eight each number of them, from there three an octave, so
# that at most 30 % is added. Thirteen is among them: 100 bars, the default, in patches of 8.
SIZES: tuple[int, ...] = (
    *range(1, 8),
    *(step * 2**octave for octave in range(12) for step in (8, 10, 13)),
)
# Graphs dynamo may keep of a layer, two for each shape of a network: every size of context, alone
# and in a few sizes of groups. Its own limit is 8, and a fifth length would end in an error.
GRAPHS = 256

EXHAUSTED = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "can't allocate memory")


class CompilationError(Exception):
    """A network that cannot be compiled, or not run as compiled."""


class Compiled:
    """A network whose layers run as `torch.compile` makes them.

    network: `Network.in_deviations`. patch: bars a patch of its contexts.
    """

    def __init__(self, network: Network, patch: int) -> None:
        self._network = network
        self._patch = patch
        self._run: RunLayer | None = None
        self._shapes: set[tuple[object, ...]] = set()

    def __call__(self, context: torch.Tensor, *, group: int, complete: bool) -> torch.Tensor:
        """What the network answers: sorted quantiles [B, H, Q] in USD of contexts [B, L].

        Raises
        ------
        CompilationError
            where it cannot be compiled; memory that runs out comes as torch says it.
        """
        with _without_advice():
            from torch._dynamo.exc import FailOnRecompileLimitHit

        padding = graph_length(context.shape[1], self._patch) - context.shape[1]
        located, loc, scale = standardised(context)
        located = functional.pad(located, (padding, 0), value=math.nan)
        try:
            y = self._graph(located, group, complete and padding < self._patch)
            return in_prices(y, loc, scale)
        # Dynamo's and inductor's exceptions are RuntimeErrors, but for the limit of graphs; a
        # compiler or a folder that is not there is an OSError, a missing Triton an ImportError, and
        # some of it asserts. What the network itself raises is raised again without compilation.
        except (
            RuntimeError,
            FailOnRecompileLimitHit,
            OSError,
            ImportError,
            AssertionError,
        ) as error:
            if out_of_memory(error):
                raise
            raise CompilationError(reason_of(error)) from error

    def _graph(self, located: torch.Tensor, group: int, complete: bool) -> torch.Tensor:
        """Quantiles in deviations; what is compiled for them is said while it is."""
        shape = (*located.shape, group, complete)
        if shape in self._shapes:
            return self._deviations(located, group, complete)
        with doing("compiling the network"):
            y = self._deviations(located, group, complete)
        self._shapes.add(shape)
        return y

    def _deviations(self, located: torch.Tensor, group: int, complete: bool) -> torch.Tensor:
        from torch._dynamo import config

        with _without_advice(), config.patch(recompile_limit=GRAPHS):
            if self._run is None:
                self._run = torch.compile(run_layer, dynamic=False, fullgraph=True)
            return self._network(located, group=group, complete=complete, run=self._run)


def graph_length(length: int, patch: int) -> int:
    """Bars that a context of `length` bars is padded to."""
    return SIZES[bisect_left(SIZES, math.ceil(length / patch))] * patch


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what it came from, says that memory ran out."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, torch.OutOfMemoryError):
            return True
        if any(text in str(cause) for text in EXHAUSTED):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def release(device: torch.device) -> None:
    """Give back what compiled graphs and torch's allocator hold on a device.

    Graphs are made again when they are needed.
    """
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def reason_of(error: BaseException) -> str:
    """An error in one line: what the backend raised, where dynamo has wrapped it."""
    inner = getattr(error, "inner_exception", None)
    if inner is not None:
        return f"{type(inner).__name__}: {reason_of(inner)}"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def multiplying(dtype: Dtype) -> Iterator[None]:
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
