"""A Chronos-2 checkpoint on a device, answering whole histories in batches of one shape.

The part of the history that is asked for lies on the device once, windows are views into it, the last batch is padded;
answers come back once a batch, through pinned memory where there is CUDA, while the next batch is already under way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from forecasting.augmentation import Augmentation, augmented, restored
from forecasting.checkpoint import Checkpoint
from forecasting.forecast import HORIZON, LEVELS, Progress
from forecasting.network import Network
from forecasting.symbols import Compile, Device, Dtype
from forecasting.windows import Windows
from trainingdata.errors import InputError

if TYPE_CHECKING:
    from chronos import Chronos2Pipeline

Array = npt.NDArray[np.float64]
Array32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

BATCH = {"cpu": 64, "cuda": 4096}  # windows a forward pass takes where nothing else is asked for


@dataclass(frozen=True, eq=False, slots=True)
class Engine:
    """network: contexts [B, L] float32 (NaN: no bar), group, complete → sorted quantiles [B, H, Q] float32."""

    network: Callable[..., torch.Tensor]
    device: torch.device
    batch_size: int

    def quantiles(
        self, windows: Windows, rows: Index, augmentation: Augmentation, *, group: int, progress: Progress
    ) -> Array32:
        """Quantiles [n, H, Q] in USD of the windows with these numbers, all equally long.

        group: 1, or consecutive rows that attend to each other; -1 among them stands for no member.
        """
        asked = rows[rows >= 0]
        length = int(windows.lengths[windows.symbol[asked[0]]]) if len(asked) else 1
        begin, end = np.full(len(windows.closes), np.iinfo(np.int64).max), np.zeros(len(windows.closes), dtype=np.int64)
        np.minimum.at(begin, windows.symbol[asked], windows.last[asked] - length + 1)
        np.maximum.at(end, windows.symbol[asked], windows.last[asked] + 1)
        closes = [*(c[a:b] for c, a, b in zip(windows.closes, begin, end, strict=True)), np.full(length, np.nan)]
        offsets = np.cumsum([0, *(len(c) for c in closes)])
        kind = torch.float32 if augmentation == "none" else torch.float64
        panel = torch.from_numpy(np.concatenate(closes)).to(self.device, kind)
        views = panel.unfold(0, length, 1)
        starts = np.full(len(rows), offsets[-2])
        starts[rows >= 0] = (offsets[:-2] - begin)[windows.symbol[asked]] + windows.last[asked] - length + 1
        size = max(self.batch_size // group, 1) * group
        out = np.empty((len(rows), HORIZON, len(LEVELS)), dtype=np.float32)
        done = 0
        with torch.inference_mode():
            for answer, count in self._batches(views, starts, size, augmentation, group):
                out[done : done + count] = answer[:count]
                done += count
                progress("forecasts", done, len(rows))
        return out

    def _batches(
        self, views: torch.Tensor, starts: Index, size: int, augmentation: Augmentation, group: int
    ) -> Iterator[tuple[Array32, int]]:
        """(answers, how many of them are asked for) of each batch; one more is in flight than has been handed out."""
        complete = group == 1
        pinned = self.device.type == "cuda"
        buffers = [torch.empty((size, HORIZON, len(LEVELS)), pin_memory=True) for _ in range(2)] if pinned else []
        waiting: list[tuple[torch.Tensor, int, Any]] = []
        for number, first in enumerate(range(0, len(starts), size)):
            chosen = starts[first : first + size]
            index = np.full(size, chosen[0] if complete else views.shape[0] - 1)
            index[: len(chosen)] = chosen
            context = views.index_select(0, torch.from_numpy(index).to(self.device))
            seen, trend = augmented(context, augmentation)
            answer = self.network(seen.float(), group=group, complete=complete)
            if augmentation != "none":
                answer = restored(answer.double(), augmentation, trend, views.shape[1]).float()
            event = None
            if pinned:
                answer = buffers[number % 2].copy_(answer, non_blocking=True)
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
            waiting.append((answer, len(chosen), event))
            if len(waiting) > 1:
                yield _arrived(*waiting.pop(0))
        for rest in waiting:
            yield _arrived(*rest)


@lru_cache(maxsize=4)
def engine(checkpoint: Checkpoint, device: Device, dtype: Dtype, compile: Compile, batch_size: int | None) -> Engine:
    """The checkpoint loaded, on its device, compiled where asked for; kept for the next call.

    Raises
    ------
    InputError
        where the device is not there, the weights do not load, or the compilation fails.
    """
    place = torch.device(device_of(device))
    pipeline = load(checkpoint, place)
    size = batch_size or BATCH[place.type]
    if not checkpoint.plain or checkpoint.ahead < HORIZON:
        return Engine(_through_the_library(pipeline, checkpoint), place, size)
    compiles = place.type == "cuda" if compile == "auto" else compile
    network = Network(pipeline.model, HORIZON, checkpoint.levels, dtype, place, packed=not compiles).eval()
    if not compiles:
        return Engine(network, place, size)
    return Engine(_compiled(network, place, size, compile), place, size)


def device_of(wanted: Device) -> str:
    """`auto` is CUDA where there is one."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("forecaster.device: cuda was asked for and this machine has none; use cpu or auto")
    return ("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted


def load(checkpoint: Checkpoint, device: torch.device) -> Chronos2Pipeline:
    """The library's pipeline on a checkpoint, from safetensors only."""
    from chronos import Chronos2Pipeline
    from safetensors import SafetensorError
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.getLogger("chronos").setLevel(logging.WARNING)
    try:
        return Chronos2Pipeline.from_pretrained(str(checkpoint.folder), device_map=str(device), use_safetensors=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AssertionError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"forecaster.model: {checkpoint.folder} cannot be loaded as Chronos-2: {reason}") from error


def _compiled(network: Network, device: torch.device, size: int, asked: Compile) -> Callable[..., torch.Tensor]:
    """The compiled network (CUDA graphs where there is CUDA), after one batch has gone through it."""
    probe = torch.linspace(1, 2, 100, device=device).repeat(size, 1)
    mode = "reduce-overhead" if device.type == "cuda" else None
    try:
        compiled: Callable[..., torch.Tensor] = torch.compile(network, dynamic=False, fullgraph=True, mode=mode)
        with torch.inference_mode():
            compiled(probe, group=1, complete=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        said = str(asked).lower()
        raise InputError(f"forecaster.compile={said}: torch.compile failed: {reason}; set it to false") from error
    return compiled


def _through_the_library(pipeline: Chronos2Pipeline, checkpoint: Checkpoint) -> Callable[..., torch.Tensor]:
    """For a checkpoint that answers fewer than 24 steps in a pass: the library unrolls it."""

    def answer(context: torch.Tensor, *, group: int, complete: bool) -> torch.Tensor:
        inputs = context.view(len(context) // group, group, -1).cpu()
        answers = torch.cat(pipeline.predict(inputs, prediction_length=HORIZON, batch_size=len(context)))
        return answers[:, list(checkpoint.levels)].mT.sort(dim=-1).values.to(context.device)

    return answer


def _arrived(answer: torch.Tensor, count: int, event: Any) -> tuple[Array32, int]:
    if event is not None:
        event.synchronize()
    return answer.numpy(), count
