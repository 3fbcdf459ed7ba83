"""Answers on their way back from a device, while it computes the next ones.

B windows a pass, H steps, Q levels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from foundation.arrays import Array32

BUFFERS = 2  # one that is read while the other is filled

# Waits for an answer [B, H, Q], which is valid until the next but one is sent.
Arrival = Callable[[], Array32]


class Return:
    """The way back of the answers of one call, all of one shape.

    On CUDA they are copied on a stream of their own into pinned memory, so that neither the device
    nor the host waits for a copy.
    """

    def __init__(self, device: torch.device, shape: tuple[int, ...]) -> None:
        self._device = device
        self._sent = 0
        self._buffers: list[torch.Tensor] = []
        self._stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self._buffers = [pinned(shape) for _ in range(BUFFERS)]
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, answer: torch.Tensor) -> Arrival:
        """Begin to copy an answer; what waits for it.

        An answer that was sent two before must have been read.
        """
        if self._stream is None:
            return answer.numpy
        buffer = self._buffers[self._sent % BUFFERS]
        self._sent += 1
        # The copy begins when the answer has been computed, and the device goes on meanwhile.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            buffer.copy_(answer, non_blocking=True)
            copied = self._stream.record_event()

        def arrived() -> Array32:
            copied.synchronize()
            return buffer.numpy()

        # The allocator must not give the answer's memory to the next pass while it is copied.
        answer.record_stream(self._stream)
        return arrived


def pinned(shape: tuple[int, ...]) -> torch.Tensor:
    """Memory [B, H, Q] float32 of the host that a device copies into by itself."""
    return torch.empty(shape, pin_memory=True)
