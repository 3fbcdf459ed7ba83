"""Classical volatility of hourly bars: what the range and the gap of a bar say, by hour of day,
over several spans.

The variance of a bar is read from its range (Parkinson 1980) and its gap; the day's pattern is
divided out (Andersen and Bollerslev 1997); averages over several spans of the past stand beside
each other (Corsi 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array, Index
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN

Slots = npt.NDArray[np.int8]

SPANS = (4, 16, 64, 256)  # own bars each average looks back
# own bars around each bar that its level is taken from when the pattern of the day is measured
LOCAL = 100
FLOOR = 1e-3  # of the longest average: a bar that did not move still has a variance


def bar_variance(values: Array) -> Array:
    """Variance of each bar's log return [N] from values [N, 5]: range² / (4 ln 2) plus the
    squared gap at its open.
    """
    logs = np.log(values[:, : CLOSE + 1])
    gap = np.append(0.0, logs[1:, OPEN] - logs[:-1, CLOSE])
    return np.asarray((logs[:, HIGH] - logs[:, LOW]) ** 2 / (4 * np.log(2)) + gap**2)


@dataclass(frozen=True, eq=False, slots=True)
class DayPattern:
    """Variance of a bar by its place in the day, in multiples of the day's mean. factor [K]."""

    factor: Array

    @classmethod
    def of(
        cls, variances: list[Array], slots: list[Slots], columns: list[Index], count: int
    ) -> DayPattern:
        """Measured on several symbols' bars: variance, slot and number of the instant of each.

        Each place's mean is drawn towards one by as much as its error says (James and Stein 1961);
        the error is that of means over the symbols, instant by instant, because symbols move
        together.
        """
        relative = [v / np.maximum(_around(v), 1e-300) for v in variances if len(v) >= LOCAL]
        if not relative:
            return cls(np.ones(count))
        place = np.concatenate(
            [s for s, v in zip(slots, variances, strict=True) if len(v) >= LOCAL]
        )
        column = np.concatenate(
            [c for c, v in zip(columns, variances, strict=True) if len(v) >= LOCAL]
        )
        instants, inverse = np.unique(column, return_inverse=True)
        seen = np.bincount(inverse)
        together = np.bincount(inverse, weights=np.concatenate(relative)) / seen
        slot = np.empty(len(instants), dtype=np.int64)
        slot[inverse] = place
        n = np.bincount(slot, minlength=count)
        known = n > 1
        mean = np.bincount(slot, weights=together, minlength=count) / np.maximum(n, 1)
        spread = np.bincount(
            slot, weights=(together - mean[slot]) ** 2, minlength=count
        ) / np.maximum(n - 1, 1)
        error = np.where(known, spread / np.maximum(n, 1), np.inf)
        between = (
            max(float(np.var(mean[known]) - error[known].mean()), 0.0) if known.sum() > 1 else 0.0
        )
        centre = float((mean * n).sum() / n.sum())
        trust = np.divide(between, between + error, out=np.zeros(count), where=known)
        factor = np.where(known, centre + trust * (mean - centre), centre)
        return cls(factor / float((factor * n).sum() / n.sum()))


def averages(variance: Array) -> Array:
    """Mean of the last 4, 16, 64 and 256 values up to each [N, K]; of those there are where
    there are fewer.
    """
    total = np.append(0.0, np.cumsum(variance))
    end = np.arange(1, len(variance) + 1)
    spans = [
        (total[end] - total[np.maximum(end - span, 0)]) / np.minimum(end, span) for span in SPANS
    ]
    out = np.maximum(np.stack(spans, axis=1), 1e-300)
    return np.asarray(np.maximum(out, FLOOR * out[:, -1:]))


def _around(values: Array) -> Array:
    """Mean of the values around each, the same number of them at the edges."""
    total = np.append(0.0, np.cumsum(values))
    first = np.clip(np.arange(len(values)) - LOCAL // 2, 0, len(values) - LOCAL)
    return np.asarray((total[first + LOCAL] - total[first]) / LOCAL)
