"""An engine: a Chronos-2 checkpoint on a device, which computes forecasts in equal-sized passes.

The Chronos library loads the weights, from safetensors only; `network` computes with them. Bars are
copied to the device once per call. Results are copied back during the next pass.

An engine records how its forecasts were actually computed. This differs from the plan if weights
are overwritten, a compilation fails, or memory runs out.

On a CPU each thread computes whole passes. If threads shared an operator, they would wait for each
other at its end. If another program took a core, all threads would then wait at each of the 300
operators of a pass.

Dimensions: B windows in a pass, L bars, n windows, H steps, Q quantile levels.
"""

from __future__ import annotations

import json
import logging
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from forecasting.chronos2.augmentation import Augmentation, apply_augmentation, undo_augmentation
from forecasting.chronos2.checkpoint import Checkpoint, CheckpointContents
from forecasting.chronos2.compilation import (
    CompilationError,
    CompiledNetwork,
    CudaGraphNetwork,
    format_error_reason,
    is_out_of_memory,
    release_memory,
    use_matmul_precision,
)
from forecasting.chronos2.devices import default_batch_size, resolve_device
from forecasting.chronos2.network import Network
from forecasting.chronos2.profile import Dtype, InferenceProfile, check_cpu_dtype
from forecasting.forecast import HORIZON, LEVELS, Progress
from forecasting.windows import Windows
from foundation.arrays import Array32, Index
from foundation.errors import InputError
from foundation.formatting import format_count

if TYPE_CHECKING:
    from chronos.chronos2.model import Chronos2Model

log = logging.getLogger(__name__)

ExecutionMode = Literal["compiled", "eager"]

SMALL_CALL_BATCH_SIZES = (64, 512, 4096)  # windows in a pass of a call with at most as many windows
MAX_CACHED_NETWORKS = 4  # maximum networks in memory; engines of all execution modes share them
RESULT_BUFFER_COUNT = 2  # result buffers: one is read while the other is filled
MAX_PASS_THREADS = 8  # threads that compute passes; more would wait for the interpreter lock
MALLOC_MMAP_THRESHOLD_BYTES = (
    31 << 20
)  # below 32 MiB, the largest freed block that raises glibc's threshold

# A pending result waits for a pass's quantiles [B, H, Q] and for a check that they are finite. They
# are valid until the copy of the second next result starts.
PendingResult = Callable[[], tuple[Array32, bool]]
StartPass = Callable[[int], PendingResult]  # first window → result of its pass


@dataclass(eq=False, slots=True)
class Engine:
    """A network on a device, and the settings that its forecasts depend on.

    network: function that maps contexts [B, L] float32 and a group size to sorted quantiles [B, H,
        Q] float32.
    device: device of the network.
    batch_size: number of windows in a pass; halved when memory runs out.
    weights_digest: digest of the loaded weights.
    execution_mode: `compiled` or `eager`.
    fallback_network: network to use if the compilation fails; None makes the failure an error.
    dtype: precision of matrix products.
    is_on_cpu: true if the device is a CPU. Each portion of the windows then has its own passes,
        which threads compute in parallel unless `execution_mode` is `compiled`.
    """

    network: Callable[..., torch.Tensor]
    device: torch.device
    batch_size: int
    weights_digest: str
    execution_mode: ExecutionMode = "eager"
    fallback_network: Callable[..., torch.Tensor] | None = None
    dtype: Dtype = "fp32"
    is_on_cpu: bool = False

    @property
    def computation_description(self) -> str:
        """Text that describes how forecasts are computed: device, execution mode and batch size.

        These affect the last bits of forecasts; in fp32, they affect forecasts by rounding only.
        """
        return _format_computation(self.device, self.execution_mode, self.batch_size)

    def forecast_quantiles(
        self,
        windows: Windows,
        portions: Sequence[Index],
        augmentation: Augmentation,
        *,
        group: int = 1,
        progress: Progress,
    ) -> Iterator[Array32]:
        """Yield the quantiles [n, H, Q] in USD of each portion; all windows have the same length.

        On a GPU all portions form one stream of passes, so that the next pass is computed while the
        caller uses the last one. On a CPU each portion has passes of its own. The last bit of a
        forecast can depend on its place in a pass, and would otherwise depend on earlier portions.
        `computation_description` describes the portion that was yielded last.

        portions: indices [n] of the windows of each portion.
        augmentation: transform of the windows.
        group: number of consecutive windows that attend to each other in the network.
        progress: callback with the number of computed windows and the total.
        """
        total = sum(map(len, portions))
        given = 0
        while given < len(portions):
            left = portions[given:]
            # If memory runs out or a compilation fails, the whole portion is computed again: its
            # forecasts share one computation, which its address names.
            try:
                for values in self._portion_quantiles(
                    windows, left, augmentation, group, total, progress
                ):
                    given += 1
                    yield values
                return
            except CompilationError as error:
                reason = str(error)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = ""
            # This code is outside the handlers: an error in flight would keep the partial results,
            # and their memory.
            if reason:
                self._fall_back_to_eager(reason)
            else:
                count = len(portions[given]) if self.is_on_cpu else sum(map(len, left))
                self._halve(self._windows_per_pass(count, group), group)
            release_memory(self.device)

    def _windows_per_pass(self, count: int, group: int) -> int:
        """Return the number of windows, padding included, in each pass of a call.

        count: number of windows in the call.
        group: number of consecutive windows that attend to each other.
        """
        # In fp32 another size changes a forecast by rounding alone, like another device. Shorter
        # formats have one size, which their address names; a compiled network has the size of its
        # compilation.
        few = (
            SMALL_CALL_BATCH_SIZES
            if self.dtype == "fp32" and self.execution_mode != "compiled"
            else ()
        )
        sizes = [*(size for size in few if size < self.batch_size), self.batch_size]
        sizes = [max(size // group, 1) * group for size in sizes]
        return next((size for size in sizes if size >= count), sizes[-1])

    def _fall_back_to_eager(self, reason: str) -> None:
        if self.fallback_network is None:
            raise InputError(
                f"forecaster.compile: torch.compile failed: {reason}; set it to false or auto"
            )
        log.warning(
            "forecaster.compile=auto: torch.compile failed, continuing without it: %s", reason
        )
        self.network, self.fallback_network, self.execution_mode = (
            self.fallback_network,
            None,
            "eager",
        )

    def _halve(self, size: int, group: int) -> None:
        """Halve the batch size, because memory ran out in a pass of `size` windows.

        Raises InputError if the pass had a single group.
        """
        device = self.device.type
        if size <= group:
            what = "a single window" if group == 1 else f"a group of {group} windows"
            raise InputError(
                f"forecaster.device: {device} has too little memory for {what}; lower"
                " forecaster.context_length, or use another device"
            )
        self.batch_size = size // 2
        log.warning(
            "forecaster.batch_size: %s ran out of memory with %d windows per pass, continuing with"
            " %d",
            device,
            size,
            max(self.batch_size // group, 1) * group,
        )

    def _portion_quantiles(
        self,
        windows: Windows,
        portions: Sequence[Index],
        augmentation: Augmentation,
        group: int,
        total: int,
        progress: Progress,
    ) -> Iterator[Array32]:
        """Yield the quantiles of each of these portions.

        total: number of windows in all portions of the call, for the progress callback.
        """
        left = sum(map(len, portions))
        for stream in [[portion] for portion in portions] if self.is_on_cpu else [portions]:
            rows = np.concatenate(stream)
            passes = self._pass_quantiles(windows, rows, augmentation, group)
            predictions = np.empty((0, HORIZON, len(LEVELS)), dtype=np.float32)
            unread = len(rows)
            for portion in stream:
                out = np.empty((len(portion), *predictions.shape[1:]), dtype=np.float32)
                filled = 0
                # Between two portions the caller's own settings of torch apply.
                with use_matmul_precision(self.dtype), torch.inference_mode():
                    while filled < len(out):
                        if not len(predictions):
                            predictions = next(passes)[:unread]
                            unread -= len(predictions)
                            left -= len(predictions)
                            progress("forecasts", total - left, total)
                        count = min(len(predictions), len(out) - filled)
                        out[filled : filled + count] = predictions[:count]
                        predictions = predictions[count:]
                        filled += count
                yield out

    def _pass_quantiles(
        self, windows: Windows, rows: Index, augmentation: Augmentation, group: int
    ) -> Iterator[Array32]:
        """Yield the quantiles [B, H, Q] of each pass, in order.

        An array is valid only until the next one is yielded.

        rows: indices of the windows.
        """
        size = self._windows_per_pass(len(rows), group)
        # A trend that is removed and restored in float32 would cost prices their last digits.
        kind = torch.float32 if augmentation == "none" else torch.float64
        back = ResultTransfer(self.device, (size, HORIZON, len(LEVELS)))
        waiting: deque[PendingResult] = deque()
        history = DeviceCloses(windows, rows, kind, self.device)

        def start_window_pass(first: int) -> PendingResult:
            context = history.gather_contexts(rows[first : first + size], size)
            return self._start_pass(back, context, augmentation, group)

        firsts = range(0, len(rows), size)
        threads = (
            torch.get_num_threads() if self.is_on_cpu and self.execution_mode == "eager" else 1
        )
        with run_passes_in_threads(
            start_window_pass, min(len(firsts), threads, MAX_PASS_THREADS)
        ) as (begun, ahead):
            for first in firsts:
                waiting.append(begun(first))
                # Some passes are always running, while the previous one is read and the next one
                # is prepared.
                if len(waiting) > ahead:
                    yield self._check_finite(waiting.popleft())
        while waiting:
            yield self._check_finite(waiting.popleft())

    def _start_pass(
        self, back: ResultTransfer, context: torch.Tensor, augmentation: Augmentation, group: int
    ) -> PendingResult:
        """Start a pass over contexts [B, L], and the transfer of its results to the host.

        Returns a function that waits for the results.
        """
        transformed, trend = apply_augmentation(context, augmentation)
        # Every pass has the same shape: a graph needs it, and a forecast then does not depend on
        # how full its pass is.
        answer = self.network(transformed.float(), group=group)
        if augmentation != "none":
            answer = undo_augmentation(
                answer.double(), augmentation, trend, context.shape[1]
            ).float()
        # Levels are sorted, NaN last.
        return back.start_copy(answer, answer[..., :: len(LEVELS) - 1].isfinite().all())

    def _check_finite(self, arrival: PendingResult) -> Array32:
        predictions, finite = arrival()
        if not finite:
            cure = "check the bars and the model" if self.dtype == "fp32" else "set it to fp32"
            raise InputError(
                f"forecaster.dtype: the model returned non-finite forecasts with {self.dtype} on"
                f" {self.device.type}; {cure}"
            )
        return predictions


@contextmanager
def run_passes_in_threads(start_pass: StartPass, workers: int) -> Iterator[tuple[StartPass, int]]:
    """Yield a function that starts a pass in a worker thread, and the number of concurrent passes.

    Use it in a `with` block; all started passes are complete at its end. Each worker uses an equal
    share of the caller's torch threads. With one worker, passes run in the calling thread.

    start_pass: function that runs the pass which begins at a given window.
    workers: maximum number of concurrent passes.
    """
    if workers <= 1:
        yield start_pass, 1
        return
    threads = torch.get_num_threads()

    @torch.inference_mode()
    def run_pass(first: int) -> tuple[Array32, bool]:
        return start_pass(first)()

    # torch keeps a thread count for each thread; a new thread takes the value that was set last.
    try:
        with ThreadPoolExecutor(
            workers, "pass", torch.set_num_threads, (threads // workers,)
        ) as pool:
            yield lambda first: pool.submit(run_pass, first).result, workers
    finally:
        torch.set_num_threads(threads)


def load_engine(
    checkpoint: Checkpoint, profile: InferenceProfile, batch_size: int | None
) -> Engine:
    """Return an engine with the checkpoint's current weights on the profile's device.

    Engines are cached by the digest of the weights and by the settings. Raises InputError for an
    unusable device, dtype or checkpoint.
    """
    device, execution_mode, size = _plan_computation(checkpoint, profile, batch_size)
    on_cpu = device.type == "cpu"
    if on_cpu:
        check_cpu_dtype(profile.dtype)
    packed = on_cpu and execution_mode == "eager"
    source = load_network(checkpoint, device, profile.dtype, packed=packed)
    # An engine with a fallback differs from one that must compile.
    return _cached_engine(
        source, device, profile.dtype, execution_mode, profile.compile is True, size
    )


def format_planned_computation(
    checkpoint: Checkpoint, profile: InferenceProfile, batch_size: int | None
) -> str:
    """Return what `Engine.computation_description` will be, without loading the weights.

    The engine's text differs from it after a failed compilation, or after memory has run out.
    """
    return _format_computation(*_plan_computation(checkpoint, profile, batch_size))


def _plan_computation(
    checkpoint: Checkpoint, profile: InferenceProfile, batch_size: int | None
) -> tuple[torch.device, ExecutionMode, int]:
    """Return the device, execution mode and windows per pass to use for a profile."""
    place, length = resolve_device(profile.device), profile.context_length
    size = batch_size or default_batch_size(checkpoint, place, length, profile.dtype)
    compiled = profile.compile is True or (profile.compile == "auto" and place != "cpu")
    execution_mode: ExecutionMode = "compiled" if compiled else "eager"
    return torch.device(place), execution_mode, size


@lru_cache(maxsize=8)
def _cached_engine(
    source: LoadedNetwork,
    device: torch.device,
    dtype: Dtype,
    execution_mode: ExecutionMode,
    strict: bool,
    batch_size: int,
) -> Engine:
    network: Callable[..., torch.Tensor] = source.network
    fallback: Callable[..., torch.Tensor] | None = None
    if execution_mode == "compiled":
        network, fallback = CompiledNetwork(network), None if strict else network
    elif execution_mode == "eager" and device.type == "cuda":
        network = CudaGraphNetwork(network)
    on_cpu = device.type == "cpu"
    if on_cpu:
        # Keep memory that a pass frees for the next pass. glibc would return it to the system,
        # which clears each page again. Freeing one large block raises its threshold, mallopt(3).
        torch.empty(MALLOC_MMAP_THRESHOLD_BYTES, dtype=torch.uint8)
    return Engine(
        network, device, batch_size, source.weights_digest, execution_mode, fallback, dtype, on_cpu
    )


def _format_computation(
    device: torch.device, execution_mode: ExecutionMode, batch_size: int
) -> str:
    mode = "compiled by layer" if execution_mode == "compiled" else execution_mode
    # A part of the cache's specification: other words would make all cached forecasts stale.
    return f"{device.type}, {mode}, {batch_size} windows a pass"


@dataclass(frozen=True, eq=False, slots=True)
class LoadedNetwork:
    """A network on a device, and the digest of the checkpoint contents it was loaded from.

    network: network with the weights.
    weights_digest: digest of the checkpoint's contents.
    """

    network: Network
    weights_digest: str


_cached_networks: OrderedDict[tuple[str, torch.device, Dtype, bool], LoadedNetwork] = OrderedDict()


def load_network(
    checkpoint: Checkpoint, device: torch.device, dtype: Dtype, *, packed: bool
) -> LoadedNetwork:
    """Return a network with the checkpoint's current weights, cached by their digest.

    packed: true to pack the matrices for a CPU.
    """
    key = checkpoint.digest, device, dtype, packed
    if key in _cached_networks:
        _cached_networks.move_to_end(key)
        return _cached_networks[key]
    contents = checkpoint.read_contents()
    levels = contents.checkpoint.quantile_level_indices
    model = load_model(contents, device)
    network = Network(model, HORIZON, levels, dtype, device, packed=packed).eval()
    # The key is the digest of the bytes that were read, not of an earlier look at the files.
    found = LoadedNetwork(network, contents.digest)
    _cached_networks[contents.digest, device, dtype, packed] = found
    while len(_cached_networks) > MAX_CACHED_NETWORKS:
        _cached_networks.popitem(last=False)
    return found


def load_model(contents: CheckpointContents, device: torch.device) -> Chronos2Model:
    """Load the Chronos library's model from a checkpoint's contents, from safetensors only.

    Raises InputError unless the contents are a complete Chronos-2 with finite weights.
    """
    from chronos.chronos2.model import Chronos2Model
    from safetensors import SafetensorError
    from safetensors.torch import load as tensors_of
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("chronos").setLevel(logging.WARNING)
    # The library initialises missing weights at random and only warns: that is refused below.
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    name_of_model = contents.checkpoint.name
    try:
        weights: dict[str, Tensor] = {}
        for name, content in contents.files.items():
            if name.endswith(".safetensors"):
                weights |= tensors_of(content)
        model, loaded = Chronos2Model.from_pretrained(
            None,
            config=Chronos2Model.config_class.from_dict(json.loads(contents.files["config.json"])),
            state_dict=weights,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        model.to(device)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RuntimeError,
        AssertionError,
        SafetensorError,
    ) as error:
        if is_out_of_memory(error):
            raise InputError(
                f"forecaster.device: {device.type} has too little memory for {name_of_model}; use"
                " another device or a smaller model"
            ) from error
        reason = format_error_reason(error)
        raise InputError(
            f"forecaster.model: {name_of_model} cannot be loaded as Chronos-2: {reason}"
        ) from error
    # Non-finite forecasts would be blamed on the bars later.
    loaded["not finite_keys"] = [name for name, tensor in weights.items() if not _is_finite(tensor)]
    for kind in ("missing", "unexpected", "mismatched", "not finite"):
        if tensors := loaded[f"{kind}_keys"]:
            first = min(each if isinstance(each, str) else each[0] for each in tensors)
            raise InputError(
                f"forecaster.model: {name_of_model} cannot be loaded as Chronos-2: "
                f"{format_count(len(tensors), 'tensor')} {kind}: {first}"
            )
    return model


def _is_finite(tensor: Tensor) -> bool:
    """Return whether all numbers of a tensor are finite, in one pass without a copy."""
    if not tensor.numel() or not tensor.is_floating_point():
        return True
    return all(math.isfinite(extreme) for extreme in torch.aminmax(tensor))


class DeviceCloses:
    """The closes that the windows of one call need, copied to the device once.

    windows: windows of the history.
    rows: indices of the call's windows, which all have the same length.
    kind: dtype of the copy on the device.
    device: device to which the closes are copied.
    """

    def __init__(
        self, windows: Windows, rows: Index, kind: torch.dtype, device: torch.device
    ) -> None:
        symbol = windows.symbol_index[rows]
        last = windows.last_bar_index[rows]
        length = int(windows.window_lengths[symbol[0]])
        # Only the bars from a symbol's first window to its last go to the device.
        begin = np.full(len(windows.closes), np.iinfo(np.int64).max)
        end = np.zeros(len(windows.closes), dtype=np.int64)
        np.minimum.at(begin, symbol, last - length + 1)
        np.maximum.at(end, symbol, last + 1)
        spans = zip(windows.closes, begin, end, strict=True)
        closes = [history[first:stop] for history, first, stop in spans]
        sizes = [len(part) for part in closes]
        bars = to_device(torch.from_numpy(np.concatenate(closes)).to(kind), device)
        self._windows = windows
        # [bars - L + 1, L] every run of L bars.
        self._views = bars.unfold(0, length, 1)
        # [S] position of bar number 0 of each symbol, less L - 1.
        self._offsets = np.cumsum([0, *sizes])[:-1] - begin - length + 1

    def gather_contexts(self, rows: Index, size: int) -> torch.Tensor:
        """Gather the closes of windows into one batch, [size, L].

        If there are fewer than `size` windows, copies of the last one are added.

        rows: indices of the windows.
        """
        starts = (
            self._offsets[self._windows.symbol_index[rows]] + self._windows.last_bar_index[rows]
        )
        starts = np.append(starts, np.full(size - len(rows), starts[-1]))
        return self._views.index_select(0, to_device(torch.from_numpy(starts), self._views.device))


class ResultTransfer:
    """Asynchronous copies of the results of one call to the host; all have the same shape.

    On CUDA, results [B, H, Q] are copied on a separate stream into pinned memory. Neither the
    device nor the host then waits for a copy.
    """

    def __init__(self, device: torch.device, shape: tuple[int, ...]) -> None:
        self._device = device
        self._sent = 0
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            for _ in range(RESULT_BUFFER_COUNT):
                truth = torch.empty((), dtype=torch.bool, pin_memory=True)
                self._buffers.append((torch.empty(shape, pin_memory=True), truth))
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start_copy(self, result: torch.Tensor, is_finite: torch.Tensor) -> PendingResult:
        """Start to copy a result and its flag to the host; return a function that waits for both.

        Buffers are reused. The result of the call before last must therefore have been read.

        result: quantiles of a pass.
        is_finite: scalar that is true if the quantiles are finite.
        """
        if self._stream is None:
            return lambda: (result.numpy(), bool(is_finite))
        values, truth = self._buffers[self._sent % RESULT_BUFFER_COUNT]
        self._sent += 1
        # The copy begins when the result has been computed; the device continues meanwhile.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            values.copy_(result, non_blocking=True)
            truth.copy_(is_finite, non_blocking=True)
            copied = self._stream.record_event()

        def wait_for_result() -> tuple[Array32, bool]:
            copied.synchronize()
            return values.numpy(), bool(truth)

        # The allocator must not give their memory to the next pass while they are copied.
        result.record_stream(self._stream)
        is_finite.record_stream(self._stream)
        return wait_for_result


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor to a device, asynchronously on a GPU; on a CPU, return the tensor itself."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
