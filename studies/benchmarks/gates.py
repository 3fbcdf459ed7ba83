"""Targets of forecasts on a GPU, and the comparison of measurements with them.

A missed target appears in the table but is no failure, because it depends on the machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from forecasting.chronos2.checkpoint import Checkpoint
from forecasting.forecast import HORIZON

# Dense TFLOP/s by the makers' data sheets: of the matrix units in bf16 (TF32 has half), and in
# fp32, which does not use them.
PEAKS = {"H100 PCIe": (756, 51), "H100": (989, 67), "H200": (989, 67), "A100": (312, 19.5)}


@dataclass(frozen=True)
class Gate:
    """A target of a measurement.

    what: unit of the measurement.
    least: minimum; maximum if `below`.
    """

    what: str
    least: float
    below: bool = False

    def verdict_text(self, measured: float) -> str:
        """Return the measurement with its target."""
        met = measured <= self.least if self.below else measured >= self.least
        asked = f"{'≤' if self.below else '≥'} {self.least:,g}"
        return f"{measured:,.1f} {self.what} for {asked}: {'met' if met else 'missed'}"


SERIES = {
    ("120 M", "bf16"): Gate("k series/s", 150),
    ("120 M", "tf32"): Gate("k series/s", 90),
    ("shipped", "fp32"): Gate("k series/s", 500),
}
RATIO = Gate("× the pipeline", 10)
SHARE = Gate("% of the roofline", 35)
WARM = Gate("s from a warm start", 3, below=True)


def flops_a_window(checkpoint: Checkpoint, layers: int, length: int) -> float:
    """Return multiplications and additions of a window's matrices in the layers.

    Attention scores, the embedding and the head are left out, because they are small.
    """
    context = math.ceil(length / checkpoint.patch_bars) + 1
    ahead = math.ceil(HORIZON / checkpoint.patch_bars)
    square = checkpoint.model_width * checkpoint.attention_width
    forward = 2 * checkpoint.model_width * checkpoint.feed_forward_width
    # Query, key, value and output over time, one matrix within a group of one.
    whole = (layers - 1) * (context + ahead) * (5 * square + forward)
    # The last layer reads keys and values of all tokens, and continues with those of the future
    # only.
    last = (context + ahead) * 2 * square + ahead * (3 * square + forward)
    return 2.0 * (whole + last)


def peak_of(device: str, dtype: str) -> float | None:
    """Return the peak FLOP/s of a GPU in a dtype; None if unknown.

    device: name of the GPU by its driver.
    """
    peaks = next((peaks for name, peaks in PEAKS.items() if name in device), None)
    if peaks is None:
        return None
    return 1e12 * {"bf16": peaks[0], "tf32": peaks[0] / 2, "fp32": peaks[1]}[dtype]
