"""A call's bars on their way to a device, and its answers on their way back while it computes.

B windows a pass, L bars, H steps, Q levels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from forecasting.windows import Windows
from foundation.arrays import Array32, Index

BUFFERS = 2  # one that is read while the other is filled

# Waits for an answer [B, H, Q], which is valid until the next but one is sent, and for whether what
# it was sent with holds.
Arrival = Callable[[], tuple[Array32, bool]]


class History:
    """What the windows of a call see, on its device once, as numbers of one kind.

    rows: their numbers, all equally long.
    """

    def __init__(
        self, windows: Windows, rows: Index, kind: torch.dtype, device: torch.device
    ) -> None:
        symbol = windows.symbol[rows]
        last = windows.last[rows]
        length = int(windows.lengths[symbol[0]])
        # Of each symbol only the bars from its first window to its last go to the device.
        begin = np.full(len(windows.closes), np.iinfo(np.int64).max)
        end = np.zeros(len(windows.closes), dtype=np.int64)
        np.minimum.at(begin, symbol, last - length + 1)
        np.maximum.at(end, symbol, last + 1)
        spans = zip(windows.closes, begin, end, strict=True)
        closes = [history[first:stop] for history, first, stop in spans]
        sizes = [len(part) for part in closes]
        bars = sent(torch.from_numpy(np.concatenate(closes)).to(kind), device)
        self._windows = windows
        # [bars - L + 1, L] every stretch of L bars.
        self._views = bars.unfold(0, length, 1)
        # [S] where the bar number 0 of a symbol would stand, less L - 1.
        self._offsets = np.cumsum([0, *sizes])[:-1] - begin - length + 1

    def contexts(self, rows: Index, size: int) -> torch.Tensor:
        """[size, L] of these windows, at least one; the last of them fills what is left."""
        starts = self._offsets[self._windows.symbol[rows]] + self._windows.last[rows]
        starts = np.append(starts, np.full(size - len(rows), starts[-1]))
        return self._views.index_select(0, sent(torch.from_numpy(starts), self._views.device))


class Return:
    """The way back of the answers of one call, all of one shape.

    On CUDA they are copied on a stream of their own into pinned memory [B, H, Q], so that neither
    the device nor the host waits for a copy.
    """

    def __init__(self, device: torch.device, shape: tuple[int, ...]) -> None:
        self._device = device
        self._sent = 0
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            for _ in range(BUFFERS):
                truth = torch.empty((), dtype=torch.bool, pin_memory=True)
                self._buffers.append((torch.empty(shape, pin_memory=True), truth))
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, answer: torch.Tensor, holds: torch.Tensor) -> Arrival:
        """Begin to copy an answer, and one truth about it; what waits for both.

        An answer that was sent two before must have been read.
        """
        if self._stream is None:
            return lambda: (answer.numpy(), bool(holds))
        values, truth = self._buffers[self._sent % BUFFERS]
        self._sent += 1
        # The copy begins when the answer has been computed, and the device goes on meanwhile.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            values.copy_(answer, non_blocking=True)
            truth.copy_(holds, non_blocking=True)
            copied = self._stream.record_event()

        def arrived() -> tuple[Array32, bool]:
            copied.synchronize()
            return values.numpy(), bool(truth)

        # The allocator must not give their memory to the next pass while they are copied.
        answer.record_stream(self._stream)
        holds.record_stream(self._stream)
        return arrived


def sent(numbers: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The same on a device. A GPU fetches them when it comes to it, and the host does not wait."""
    if device.type == "cpu":
        return numbers
    return numbers.pin_memory().to(device, non_blocking=True)
