"""The device of a network, and the number of windows in a pass on it (the batch size).

Dimensions: L bars, T tokens, H steps, Q quantile levels.
"""

from __future__ import annotations

import logging
import math
import warnings
from functools import cache

import torch

from forecasting.chronos2.checkpoint import Checkpoint
from forecasting.chronos2.compilation import format_error_reason
from forecasting.chronos2.profile import Device, Dtype
from forecasting.forecast import HORIZON, LEVELS
from foundation.errors import InputError
from foundation.formatting import format_count

log = logging.getLogger(__name__)

CPU_BATCH_SIZE = 64  # windows in a pass on a CPU: more exceed its caches
# On CUDA. Fewer windows leave a GPU idle; with the shipped checkpoint a pass of a quarter of the
# maximum ends before the next is launched.
MIN_CUDA_BATCH_SIZE = 64
MAX_CUDA_BATCH_SIZE = 16_384
USABLE_FREE_MEMORY_SHARE = 1 / 4  # share of the free memory for a pass


def resolve_device(device: Device) -> str:
    """Return the torch device of a device setting; `auto` gives CUDA if available, else the CPU.

    Raises InputError for a GPU that this machine lacks.
    """
    if device == "cpu":
        return device
    # torch warns about an old driver each time, which would be an error where warnings are errors.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        if device != "auto":
            raise InputError(
                f"forecaster.device: {device} is not available: torch finds no usable GPU"
                f" ({_no_gpu_reason()}); set it to cpu or auto"
            )
        return "cpu"
    if device == "auto":
        return "cuda"
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        raise InputError(
            f"forecaster.device: {device} does not exist: this machine has"
            f" {format_count(count, 'GPU')}, up to cuda:{count - 1}"
        )
    return device


def _no_gpu_reason() -> str:
    """Return the reason, as torch reports it, why CUDA cannot be used, such as an old driver."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return format_error_reason(error).partition(". ")[0].rstrip(".")
    return "none is detected"


def default_batch_size(
    checkpoint: Checkpoint, device: str, context_length: int, dtype: Dtype
) -> int:
    """Return the default number of windows in a pass.

    device: device, as `resolve_device` returns it.
    context_length: number of bars in a window.
    dtype: precision of matrix products.
    """
    if device == "cpu":
        return CPU_BATCH_SIZE
    return batch_size_for_memory(
        bytes_per_window(checkpoint, context_length, dtype), free_gpu_memory_bytes(device)
    )


def batch_size_for_memory(window_bytes: int, free_bytes: int) -> int:
    """Return the number of windows whose pass on a CUDA device fits into memory.

    window_bytes: bytes needed per window.
    free_bytes: free bytes of GPU memory.
    """
    # A power of two from `MIN_CUDA_BATCH_SIZE` to `MAX_CUDA_BATCH_SIZE`: small differences in free
    # memory then change nothing. The last bits of tf32 and bf16, and with them the cache address,
    # depend on the size.
    windows = int(free_bytes * USABLE_FREE_MEMORY_SHARE) // window_bytes
    return min(max(MIN_CUDA_BATCH_SIZE, 1 << max(windows, 1).bit_length() - 1), MAX_CUDA_BATCH_SIZE)


def bytes_per_window(checkpoint: Checkpoint, context_length: int, dtype: Dtype) -> int:
    """Estimate the bytes of memory that a pass needs per window of `context_length` bars.

    It is the maximum over the stages of a pass. A layer needs its states and, in addition, either
    the feed-forward product before and after its activation, or queries, keys and values with their
    rotation and result. At the end, a pass needs the output as prices and its sorted copy. If the
    estimate is too small, memory runs out and the batch is halved.
    """
    width = checkpoint.model_width
    tokens = (
        math.ceil(context_length / checkpoint.patch_bars)
        + 1
        + math.ceil(HORIZON / checkpoint.patch_bars)
    )
    forward = 2 * checkpoint.feed_forward_width + 4 * width
    attention = 13 * checkpoint.attention_width + 2 * width
    number = 2 if dtype == "bf16" else 4
    # A norm is computed in float32: its input is squared, and scaled.
    layer = tokens * (number * max(forward, attention) + 2 * 4 * width)
    predictions = HORIZON * len(LEVELS) * (5 * 4 + 8)
    return max(layer, predictions)


@cache
def free_gpu_memory_bytes(device: str) -> int:
    """Return the free memory of a GPU in bytes, as measured at the first call in this process.

    The value is cached, because memory that this process allocates later would change the batch
    size.
    """
    free, _ = torch.cuda.mem_get_info(device)
    return free
