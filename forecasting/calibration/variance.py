"""Classical volatility of hourly bars: range and gap, by place in the day, over several spans.

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
LOCAL = 100  # own bars around each bar whose mean is its level when the day's pattern is measured
FLOOR = 1e-3  # of the longest average: a bar that did not move still has a variance


def bar_variance(values: Array) -> Array:
    """Variance [N] of each bar's log return from values [N, 5]: range² / (4 ln 2) + gap²."""
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
        """Measure the pattern on several symbols' bars.

        Parameters
        ----------
        variances, slots, columns
            for each symbol [n]: variance, place in the day and number of the instant of its bars.
        count
            places a day has.
        """
        # A bar is compared with the bars around it. Over a whole window the level of volatility
        # moves by more than its pattern, and a wild week would pass for a wild hour.
        long_enough = [s for s, variance in enumerate(variances) if len(variance) >= LOCAL]
        if not long_enough:
            return cls(np.ones(count))
        relative = [variances[s] / np.maximum(_around(variances[s]), 1e-300) for s in long_enough]
        place = np.concatenate([slots[s] for s in long_enough])
        column = np.concatenate([columns[s] for s in long_enough])
        # Symbols move together: the error of a place's mean is that of means over the symbols,
        # instant by instant. Counted one by one they would make the pattern look certain.
        instants, inverse = np.unique(column, return_inverse=True)
        symbols = np.bincount(inverse)
        together = np.bincount(inverse, weights=np.concatenate(relative)) / symbols
        slot = np.empty(len(instants), dtype=np.int64)
        slot[inverse] = place
        counts = np.bincount(slot, minlength=count)
        measured = counts > 1
        mean = np.bincount(slot, weights=together, minlength=count) / np.maximum(counts, 1)
        squares = np.bincount(slot, weights=(together - mean[slot]) ** 2, minlength=count)
        within = squares / np.maximum(counts - 1, 1)
        error = np.where(measured, within / np.maximum(counts, 1), np.inf)
        between = 0.0
        if measured.sum() > 1:
            between = max(float(np.var(mean[measured]) - error[measured].mean()), 0.0)
        # Each place's mean is drawn towards the day's by as much as its error says (James and
        # Stein 1961).
        centre = float((mean * counts).sum() / counts.sum())
        trust = np.divide(between, between + error, out=np.zeros(count), where=measured)
        factor = np.where(measured, centre + trust * (mean - centre), centre)
        return cls(factor / float((factor * counts).sum() / counts.sum()))


def averages(variance: Array) -> Array:
    """Mean of the last 4, 16, 64 and 256 values up to each [N, K]; of fewer where there are fewer.

    A short average is at least a thousandth of the longest, so that its logarithm exists.
    """
    total = np.append(0.0, np.cumsum(variance))
    end = np.arange(1, len(variance) + 1)
    means = []
    for span in SPANS:
        sums = total[end] - total[np.maximum(end - span, 0)]
        means.append(sums / np.minimum(end, span))
    out = np.maximum(np.stack(means, axis=1), 1e-300)
    return np.asarray(np.maximum(out, FLOOR * out[:, -1:]))


def _around(values: Array) -> Array:
    """Mean of the values around each, the same number of them at the edges."""
    total = np.append(0.0, np.cumsum(values))
    first = np.clip(np.arange(len(values)) - LOCAL // 2, 0, len(values) - LOCAL)
    return np.asarray((total[first + LOCAL] - total[first]) / LOCAL)
