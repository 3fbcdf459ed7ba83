"""The device that a network computes on, and how many windows a pass it takes there.

L bars, T tokens, H steps, Q levels.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from functools import cache

import torch

from forecasting.chronos2.checkpoint import Checkpoint
from forecasting.chronos2.compilation import error_reason
from forecasting.chronos2.profile import Device, Dtype
from forecasting.forecast import HORIZON, LEVELS
from foundation.errors import InputError
from foundation.formatting import count_text

log = logging.getLogger(__name__)

CPU_BATCH_SIZE = 64  # windows a pass on a CPU: more fall out of its caches
# On CUDA. Fewer windows than the least leave a GPU idle; the shipped checkpoint's passes of a
# quarter of the most are computed before the next is launched.
MIN_CUDA_BATCH_SIZE = 64
MAX_CUDA_BATCH_SIZE = 16_384
FREE_MEMORY_SHARE = 1 / 4  # of the free memory, for what a pass holds at once
# Instruction sets that multiply bf16 on a CPU, fastest first: torch's name and ours.
BF16_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512"}


def resolve_device(device: Device) -> str:
    """The device that a setting names; `auto` is CUDA where there is one."""
    if device == "cpu":
        return device
    # Of an old driver torch warns, each time, and where warnings are errors that would be one.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        if device != "auto":
            raise InputError(
                f"forecaster.device: {device} was asked for and this machine has none that torch"
                f" can use ({_why_no_gpu()}); use cpu or auto"
            )
        return "cpu"
    if device == "auto":
        return "cuda"
    number = int(device.partition(":")[2] or 0)
    if number >= count:
        raise InputError(
            f"forecaster.device: {device} was asked for and this machine has"
            f" {count_text(count, 'GPU')}, the last of which is cuda:{count - 1}"
        )
    return device


def _why_no_gpu() -> str:
    """What torch says where it cannot use CUDA: of an old driver its version, and what it needs."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return error_reason(error).partition(". ")[0].rstrip(".")
    return "it shows none"


def cpu_capabilities() -> Mapping[str, object]:
    """Return the CPU features that torch detects; an older torch reports none."""
    detect = getattr(torch.cpu, "get_capabilities", dict)
    capabilities: Mapping[str, object] = detect()
    return capabilities


def bf16_unit(capabilities: Mapping[str, object]) -> str:
    """Return the CPU's unit for bf16 products: AMX, AVX-512, or an empty string if it has none."""
    return next((unit for name, unit in BF16_UNITS.items() if capabilities.get(name)), "")


def default_batch_size(checkpoint: Checkpoint, place: str, length: int, dtype: Dtype) -> int:
    """Windows of `length` bars a pass on a device, where no number is configured."""
    if place == "cpu":
        return CPU_BATCH_SIZE
    return fitting_batch_size(bytes_per_window(checkpoint, length, dtype), free_memory(place))


def fitting_batch_size(window: int, free: int) -> int:
    """Windows, of so many bytes each, that a pass takes on CUDA where so many bytes are free."""
    # A power of two from `MIN_CUDA_BATCH_SIZE` to `MAX_CUDA_BATCH_SIZE`: a little more or less
    # memory then changes nothing, on which the last bits of short numbers, and with them their
    # address, would depend.
    room = int(free * FREE_MEMORY_SHARE) // window
    return min(max(MIN_CUDA_BATCH_SIZE, 1 << max(room, 1).bit_length() - 1), MAX_CUDA_BATCH_SIZE)


def bytes_per_window(checkpoint: Checkpoint, length: int, dtype: Dtype) -> int:
    """Bytes that a pass holds at once of each window of `length` bars, in its widest step.

    That is in a layer the product of the feed-forward before and after its activation, or queries,
    keys and values, what rotates them and what comes of it, beside the states; or the answers, in
    prices and while they are sorted. It is reckoned from sizes of tensors: where it is too little,
    memory runs out and the batch is halved.
    """
    width = checkpoint.width
    tokens = math.ceil(length / checkpoint.patch) + 1 + math.ceil(HORIZON / checkpoint.patch)
    forward = 2 * checkpoint.inner + 4 * width
    attention = 13 * checkpoint.attention + 2 * width
    number = 2 if dtype == "bf16" else 4
    # A norm is computed in float32: its input squared, and scaled.
    layer = tokens * (number * max(forward, attention) + 2 * 4 * width)
    predictions = HORIZON * len(LEVELS) * (5 * 4 + 8)
    return max(layer, predictions)


@cache
def free_memory(place: str) -> int:
    """Bytes of a GPU's memory that were free when this process first asked.

    What this process takes later would otherwise change its batches.
    """
    free, _ = torch.cuda.mem_get_info(place)
    return free
