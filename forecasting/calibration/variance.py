"""Variance estimates from bars: of single bars, by intraday slot, and as trailing averages.

The variance of a bar is computed from its range (Parkinson 1980) and its gap. It is deseasonalised
by the intraday pattern (Andersen and Bollerslev 1997). Its averages over several trailing windows
are used together (Corsi 2009).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array, Index, Matrix
from foundation.compiled import compiled
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN

IntradaySlots = npt.NDArray[np.int8]

LOOKBACKS_BARS = (4, 16, 64, 256)  # own bars of each average
LOCAL_WINDOW_BARS = 100  # own bars around each bar, to whose mean its variance is compared
MIN_VARIANCE_RATIO = 1e-3  # minimum variance of a bar, relative to the longest average
_LOOKBACK_ARRAY = np.array(LOOKBACKS_BARS)
_MIN_VARIANCE = 1e-300  # minimum variance, so that its logarithm exists


def estimate_bar_variances(bars: Array) -> Array:
    """Estimate the variance [N] of each bar's log return: range² / (4 ln 2) + gap².

    The range is log(high / low). The gap is log(open / previous close).

    bars: [N, 5] consecutive bars of one symbol.
    """
    logs = np.log(bars[:, : CLOSE + 1])
    gap = np.append(0.0, logs[1:, OPEN] - logs[:-1, CLOSE])
    return np.asarray((logs[:, HIGH] - logs[:, LOW]) ** 2 / (4 * np.log(2)) + gap**2)


def estimate_intraday_pattern(
    variance: Array, slots: IntradaySlots, clock_index: Index, bar_offsets: Index, slot_count: int
) -> Array:
    """Estimate the intraday pattern [K]: variance per bar by slot, relative to the day's mean.

    The bars are concatenated by symbol.

    variance: [n] variance of each bar.
    slots: [n] intraday slot of each bar.
    clock_index: [n] index of each bar's instant on the clock.
    bar_offsets: [S + 1] position of each symbol's first bar.
    slot_count: number of slots in a day, K.
    """
    # A bar is compared with the bars around it. Over a whole window the level of volatility varies
    # more than its pattern, and a volatile week would look like a volatile hour.
    first = int(clock_index.min()) if len(clock_index) else 0
    size = int(clock_index.max()) - first + 1 if len(clock_index) else 0
    total, symbols, place = _sum_by_instant(variance, slots, clock_index - first, bar_offsets, size)
    seen = symbols > 0
    if not seen.any():
        return np.ones(slot_count)
    # Symbols move together: the error of a slot's mean is estimated from means over the symbols at
    # each instant. Treated as independent, symbols would make the pattern look certain.
    together = total[seen] / symbols[seen]
    slot = place[seen]
    counts = np.bincount(slot, minlength=slot_count)
    measured = counts > 1
    mean = np.bincount(slot, weights=together, minlength=slot_count) / np.maximum(counts, 1)
    squares = np.bincount(slot, weights=(together - mean[slot]) ** 2, minlength=slot_count)
    within = squares / np.maximum(counts - 1, 1)
    error = np.where(measured, within / np.maximum(counts, 1), np.inf)
    between = 0.0
    if measured.sum() > 1:
        between = max(float(np.var(mean[measured]) - error[measured].mean()), 0.0)
    # Each slot's mean is shrunk to the day's according to its error (James and Stein 1961).
    centre = float((mean * counts).sum() / counts.sum())
    trust = np.divide(between, between + error, out=np.zeros(slot_count), where=measured)
    factor = np.where(measured, centre + trust * (mean - centre), centre)
    return np.asarray(factor / float((factor * counts).sum() / counts.sum()))


@compiled
def trailing_variance_averages(
    variance: Array,
    clock_index: Index,
    pattern: Array,
    first_bar_index: Index,
    symbol_index: Index,
    bar_index: Index,
) -> Matrix:
    """Return trailing averages [n, K] of deseasonalised variance, over K lengths in bars.

    The lengths are `LOOKBACKS_BARS`; an average early in the history covers fewer bars. A short
    average is at least a thousandth of the longest, so that its logarithm exists.

    variance: [M] variance of all bars.
    clock_index: [M] index of each bar's instant on the clock.
    pattern: [T] intraday pattern at each instant of the clock.
    first_bar_index: [S] position of each symbol's first bar in the averages.
    symbol_index: [n] index of the symbol of each requested bar, nondecreasing.
    bar_index: [n] positions of the requested bars, increasing within a symbol.
    """
    out = np.empty((len(bar_index), len(_LOOKBACK_ARRAY)))
    if not len(bar_index):
        return out
    longest_span = 0
    for k in range(len(bar_index)):
        longest_span = max(longest_span, bar_index[k] - first_bar_index[symbol_index[k]])
    total = np.zeros(longest_span + 2)
    longest = len(_LOOKBACK_ARRAY) - 1
    begin = 0
    summed = 0
    for row in range(len(bar_index)):
        if row == 0 or symbol_index[row] != symbol_index[row - 1]:
            begin = first_bar_index[symbol_index[row]]
            summed = 0
        end = bar_index[row] + 1 - begin
        while summed < end:
            at = begin + summed
            total[summed + 1] = total[summed] + variance[at] / pattern[clock_index[at]]
            summed += 1
        for k in range(len(_LOOKBACK_ARRAY)):
            span = min(end, _LOOKBACK_ARRAY[k])
            out[row, k] = max((total[end] - total[end - span]) / span, _MIN_VARIANCE)
        for k in range(len(_LOOKBACK_ARRAY)):
            out[row, k] = max(out[row, k], MIN_VARIANCE_RATIO * out[row, longest])
    return out


@compiled
def _sum_by_instant(
    variance: Array, slots: IntradaySlots, columns: Index, bounds: Index, size: int
) -> tuple[Array, Index, Index]:
    """Aggregate the bars of all symbols by instant.

    Returns, for each instant, the sum of the bars' relative variances, the number of symbols and
    the intraday slot. A bar's relative variance is its variance divided by the mean of its
    neighbours. Symbols with fewer than `LOCAL_WINDOW_BARS` bars are skipped.
    """
    total = np.zeros(size)
    symbols = np.zeros(size, dtype=np.int64)
    slot = np.zeros(size, dtype=np.int64)
    for s in range(len(bounds) - 1):
        begin = bounds[s]
        count = bounds[s + 1] - begin
        if count < LOCAL_WINDOW_BARS:
            continue
        before = np.zeros(count + 1)
        for t in range(count):
            before[t + 1] = before[t] + variance[begin + t]
        for t in range(count):
            # Bars at the edges have the same number of neighbours.
            first = min(max(t - LOCAL_WINDOW_BARS // 2, 0), count - LOCAL_WINDOW_BARS)
            around = max(
                (before[first + LOCAL_WINDOW_BARS] - before[first]) / LOCAL_WINDOW_BARS,
                _MIN_VARIANCE,
            )
            at = columns[begin + t]
            total[at] += variance[begin + t] / around
            symbols[at] += 1
            slot[at] = slots[begin + t]
    return total, symbols, slot
