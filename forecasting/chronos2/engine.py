"""A Chronos-2 checkpoint on a device, answering whole histories in batches of one shape.

The part of the history that is needed lies on the device once, windows are views into it, and the
last batch is padded. Answers come back once a batch, while the next batch is already under way.

An engine knows what makes its answers: the digest of the weights it has loaded, and, for numbers as
short as bf16 and TF32, how it computes. Both can differ from what was planned: weights are written
over, a compilation fails, memory runs out. B windows a pass, L bars, n windows, H steps, Q levels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch

from forecasting.chronos2.augmentation import Augmentation, augment, restore
from forecasting.chronos2.checkpoint import Checkpoint, digest_of
from forecasting.chronos2.compilation import (
    CompilationError,
    Compiled,
    multiplying,
    out_of_memory,
    release,
)
from forecasting.chronos2.devices import default_batch_size, device_of, kind_of
from forecasting.chronos2.library import library_network, load
from forecasting.chronos2.network import Network
from forecasting.chronos2.profile import Compile, Dtype, Profile, no_tf32
from forecasting.chronos2.transfer import Arrival, Return
from forecasting.forecast import HORIZON, LEVELS, Progress
from forecasting.windows import Windows
from foundation.activity import doing
from foundation.arrays import Array32, Index
from foundation.errors import InputError

log = logging.getLogger(__name__)

Way = Literal["compiled", "eager", "library"]

FEW = (64, 512)  # windows a pass for calls that ask for no more


@dataclass(eq=False, slots=True)
class Engine:
    """A network on a device, and what its answers depend on.

    network: contexts [B, L] float32 (NaN: no bar), group, complete → sorted quantiles [B, H, Q]
        float32.
    device: where it computes.
    batch_size: windows a pass; halved when memory runs out.
    weights: digest of what was loaded.
    way: compiled, eager or library.
    fallback: the network that answers where it turns out not to compile; none where that is an
        error.
    dtype: of its matrices.
    """

    network: Callable[..., torch.Tensor]
    device: torch.device
    batch_size: int
    weights: str
    way: Way = "eager"
    fallback: Callable[..., torch.Tensor] | None = None
    dtype: Dtype = "fp32"

    @property
    def computation(self) -> str:
        """How its answers come about, in words."""
        return _computation_text(self.device.type, self.way, self.batch_size)

    def quantiles(
        self,
        windows: Windows,
        rows: Index,
        augmentation: Augmentation,
        *,
        group: int,
        progress: Progress,
    ) -> Array32:
        """Quantiles [n, H, Q] in USD of windows that are equally long.

        Parameters
        ----------
        windows, rows
            the history, and the numbers [n] of its windows that are forecast.
        augmentation
            of each window before the network.
        group
            1, or how many consecutive rows attend to each other; -1 among them stands for no
            member.
        progress
            is told of every batch.

        Raises
        ------
        InputError
            where memory does not suffice for a single group, or compilation was demanded and fails.
        """
        # Where memory runs out or a compilation fails on the way, all are computed anew: one answer
        # comes from one way of computing, and its address names it.
        while True:
            size = self._windows_a_pass(len(rows), group)
            try:
                with multiplying(self.dtype):
                    return self._pass(windows, rows, augmentation, size, group, progress)
            except CompilationError as error:
                reason = str(error)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                reason = ""
            # This stands outside of the handlers: their errors hold what has been computed so far,
            # and its memory with it.
            if reason:
                self._go_on_without_compilation(reason)
            else:
                self._go_on_with_less_memory(size, group)

    def _windows_a_pass(self, count: int, group: int) -> int:
        """Windows, padding included, that each pass of a call for `count` of them takes."""
        # In fp32 another size changes a forecast by rounding alone, as another device does. What
        # is shorter has one size, that its address names; so has what is compiled for it.
        sizes = [self.batch_size]
        if self.dtype == "fp32" and self.way != "compiled":
            sizes = [*(few for few in FEW if few < self.batch_size), self.batch_size]
        sizes = [max(size // group, 1) * group for size in sizes]
        return next((size for size in sizes if size >= count), sizes[-1])

    def _go_on_without_compilation(self, reason: str) -> None:
        if self.fallback is None:
            raise InputError(
                f"forecaster.compile=true: torch.compile failed: {reason}; set it to false"
            )
        log.warning(
            "forecaster.compile=auto: torch.compile failed, going on without it: %s", reason
        )
        self.network = self.fallback
        self.fallback = None
        self.way = "eager"
        release(self.device)

    def _go_on_with_less_memory(self, size: int, group: int) -> None:
        """Halve the batch after a pass of `size` windows, in groups, for which memory ran out.

        Raises
        ------
        InputError
            where that was a single group.
        """
        device = self.device.type
        if size <= group:
            what = "a single window" if group == 1 else f"a group of {group} windows"
            raise InputError(f"forecaster.device: {device} has too little memory for {what}")
        self.batch_size = size // 2
        log.warning(
            "forecaster.batch_size: memory of %s ran out with %d windows a pass, going on with %d",
            device,
            size,
            max(self.batch_size // group, 1) * group,
        )
        release(self.device)

    def _pass(
        self,
        windows: Windows,
        rows: Index,
        augmentation: Augmentation,
        size: int,
        group: int,
        progress: Progress,
    ) -> Array32:
        present = rows >= 0
        numbers = rows[present]
        symbol = windows.symbol[numbers]
        last = windows.last[numbers]
        length = int(windows.lengths[symbol[0]]) if len(numbers) else 1
        # Of each symbol only the bars from its first window to its last go to the device. A stretch
        # of missing bars at the end is the window of rows that stand for no member.
        begin = np.full(len(windows.closes), np.iinfo(np.int64).max)
        end = np.zeros(len(windows.closes), dtype=np.int64)
        np.minimum.at(begin, symbol, last - length + 1)
        np.maximum.at(end, symbol, last + 1)
        closes = []
        for history, first, stop in zip(windows.closes, begin, end, strict=True):
            closes.append(history[first:stop])
        closes.append(np.full(length, np.nan))
        offsets = np.cumsum([0, *(len(part) for part in closes)])
        # A trend that is taken out and put back in float32 would cost prices their last digits.
        kind = torch.float32 if augmentation == "none" else torch.float64
        panel = torch.from_numpy(np.concatenate(closes)).to(self.device, kind)
        views = panel.unfold(0, length, 1)
        starts = np.full(len(rows), offsets[-2])
        starts[present] = (offsets[:-2] - begin)[symbol] + last - length + 1
        out = np.empty((len(rows), HORIZON, len(LEVELS)), dtype=np.float32)
        done = 0
        with torch.inference_mode():
            for arrived, count in self._batches(views, starts, size, augmentation, group):
                out[done : done + count] = arrived()[:count]
                done += count
                progress("forecasts", done, len(rows))
        return out

    def _batches(
        self, views: torch.Tensor, starts: Index, size: int, augmentation: Augmentation, group: int
    ) -> Iterator[tuple[Arrival, int]]:
        """(answers [B, H, Q], how many of them count) of each batch, in the order of `starts`."""
        complete = group == 1
        batches = range(0, len(starts), size)
        # Every batch has one shape: a graph needs it, and a forecast then does not depend on how
        # full its batch is. Rows that pad the last repeat a window, or are empty in groups.
        padding = starts[batches[-1]] if complete and batches else views.shape[0] - 1
        padded = np.full(len(batches) * size, padding)
        padded[: len(starts)] = starts
        numbers = torch.from_numpy(padded).to(self.device)
        back = Return(self.device, (size, HORIZON, len(LEVELS)))
        waiting: list[tuple[Arrival, int]] = []
        for first in batches:
            context = views.index_select(0, numbers[first : first + size])
            transformed, trend = augment(context, augmentation)
            answer = self.network(transformed.float(), group=group, complete=complete)
            if augmentation != "none":
                answer = restore(answer.double(), augmentation, trend, views.shape[1]).float()
            waiting.append((back.send(answer), min(size, len(starts) - first)))
            # One batch is always in flight: the device computes it while the one before is read.
            if len(waiting) > 1:
                yield waiting.pop(0)
        yield from waiting


def engine(checkpoint: Checkpoint, profile: Profile, batch_size: int | None) -> Engine:
    """The weights that lie in the checkpoint now, on their device, compiled where configured.

    The engine is kept for the next call.

    profile: device, dtype, compilation; the length of its contexts where `batch_size` is none.

    Raises
    ------
    InputError
        where the device is not there or cannot compute so, and the weights do not load or are being
        written over.
    """
    place = device_of(profile.device)
    dtype = profile.dtype
    if dtype == "tf32" and kind_of(place) == "cpu":
        raise no_tf32()
    size = batch_size or default_batch_size(checkpoint, place, profile.context_length, dtype)
    compile = profile.compile if way_of(place, profile.compile) == "compiled" else False
    return _cached_engine(checkpoint, checkpoint.digest, place, dtype, compile, size)


@lru_cache(maxsize=8)
def _cached_engine(
    checkpoint: Checkpoint,
    digest: str,
    place: str,
    dtype: Dtype,
    compile: Compile,
    batch_size: int,
) -> Engine:
    device = torch.device(place)
    packed = compile is False and device.type == "cpu"
    network = _cached_network(checkpoint, digest, place, dtype, packed)
    if not isinstance(network, Network):
        return Engine(network, device, batch_size, digest, way="library", dtype=dtype)
    if compile is False:
        return Engine(network, device, batch_size, digest, dtype=dtype)
    fallback = network if compile == "auto" else None
    compiled = Compiled(network.in_deviations, checkpoint.patch)
    return Engine(compiled, device, batch_size, digest, "compiled", fallback, dtype)


# A call that raises is not kept: the next one tries anew. Engines that compute in different ways
# share a network.
@lru_cache(maxsize=4)
def _cached_network(
    checkpoint: Checkpoint, digest: str, place: str, dtype: Dtype, packed: bool
) -> Callable[..., torch.Tensor]:
    device = torch.device(place)
    levels = checkpoint.levels
    with doing("loading the checkpoint"):
        contents = checkpoint.contents()
        if (digest_of(contents), contents["config.json"]) != (digest, checkpoint.config):
            raise InputError(
                f"forecaster.model: {checkpoint.folder} is being written over; run again when that"
                " has ended"
            )
        pipeline = load(checkpoint, contents, device)
        if not checkpoint.rebuilt:
            return library_network(pipeline, checkpoint)
        return Network(pipeline.model, HORIZON, levels, dtype, device, packed=packed).eval()


def way_of(place: str, compile: Compile) -> Way:
    """How a network is to be computed: `auto` compiles on CUDA."""
    on_cuda = kind_of(place) == "cuda"
    return "compiled" if compile is True or (compile == "auto" and on_cuda) else "eager"


def planned_computation(checkpoint: Checkpoint, profile: Profile, batch_size: int | None) -> str:
    """What `Engine.computation` will say if nothing fails; nothing is loaded for it."""
    place = device_of(profile.device)
    way = way_of(place, profile.compile) if checkpoint.rebuilt else "library"
    size = batch_size or default_batch_size(
        checkpoint, place, profile.context_length, profile.dtype
    )
    return _computation_text(kind_of(place), way, size)


def _computation_text(kind: str, way: Way, batch_size: int) -> str:
    """How answers come about, in words: what the last bits of short numbers depend on."""
    said = "compiled by layer" if way == "compiled" else way
    return f"{kind}, {said}, {batch_size} windows a pass"
