"""Sums, medians and quantiles over a lesson's rows, step by step, compiled.

n rows, H steps, K classical averages.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Index, Mask
from foundation.compiled import compiled


@compiled
def levels(past: Array, base: Array, weights: Array) -> Array:
    """Log variance a bar [n, H], the day's pattern divided out, before corrections.

    past: [n, K]. base: [n, H]. weights: [K + 2, H] of the intercept, the averages and the base.
    """
    count = past.shape[1]
    out = np.empty(base.shape)
    for row in range(len(base)):
        for h in range(base.shape[1]):
            total = weights[0, h]
            for k in range(count):
                total += past[row, k] * weights[k + 1, h]
            out[row, h] = total + base[row, h] * weights[count + 1, h]
    return out


@compiled
def regimes(level: Array, symbol: Index, median_level: Array, edges: Array) -> Index:
    """How many edges [E, H] each level [n, H] exceeds, relative to its symbol's median [S, H]."""
    out = np.zeros(level.shape, dtype=np.int64)
    for row in range(len(level)):
        for h in range(level.shape[1]):
            relative = level[row, h] - median_level[symbol[row], h]
            above = 0
            for edge in range(len(edges)):
                above += int(relative > edges[edge, h])
            out[row, h] = above
    return out


@compiled
def medians_by_symbol(values: Array, symbol: Index, symbols: int) -> Array:
    """Median of values [n, H] of each symbol [S, H]; that of all for one that has none."""
    steps = values.shape[1]
    counts = np.zeros(symbols + 1, dtype=np.int64)
    for row in range(len(symbol)):
        counts[symbol[row] + 1] += 1
    begin = np.cumsum(counts)
    place = begin[:-1].copy()
    sorted_in = np.empty(values.shape)
    for row in range(len(symbol)):
        sorted_in[place[symbol[row]]] = values[row]
        place[symbol[row]] += 1
    out = np.empty((symbols, steps))
    for h in range(steps):
        column = sorted_in[:, h].copy()
        for s in range(symbols):
            part = column[begin[s] : begin[s + 1]]
            out[s, h] = np.median(part if len(part) else column)
    return out


def quantiles(values: Array, at: Array) -> tuple[Array, Index]:
    """Quantiles [H, A] of values [n, H] that are not NaN, and how many of those there are [H].

    They are linear between order statistics; NaN for a step without any.
    """
    columns = np.sort(values.T, axis=1)  # NaN last
    count = np.isfinite(values).sum(axis=0)
    place = np.maximum(count - 1, 0)[:, None] * at
    low = np.floor(place).astype(np.int64)
    high = np.minimum(low + 1, np.maximum(count - 1, 0)[:, None])
    lower = np.take_along_axis(columns, low, axis=1)
    upper = np.take_along_axis(columns, high, axis=1)
    return lower + (upper - lower) * (place - low), count


@compiled
def distinct_instants(instant: Index, known: Mask) -> Index:
    """How many different instants [n] there are among the rows known [n, H] at each step."""
    first = instant.min() if len(instant) else 0
    size = instant.max() - first + 1 if len(instant) else 0
    seen = np.zeros((known.shape[1], size), dtype=np.bool_)
    for row in range(len(instant)):
        for h in range(known.shape[1]):
            if known[row, h]:
                seen[h, instant[row] - first] = True
    out = np.zeros(known.shape[1], dtype=np.int64)
    for h in range(known.shape[1]):
        out[h] = seen[h].sum()
    return out


@compiled
def group_logs(
    size: Array, group: Index, groups: int, instants: Index, step: Index, prior: float
) -> Array:
    """Log of each group's mean size over everyone's, [G, H]; the sizes are divided by it.

    It is drawn towards zero by how few independent instants the group has.

    Parameters
    ----------
    size
        [n, H] of what came true over its deviation, NaN where it is unknown; changed.
    group
        [n, H] number of each row's group.
    groups
        how many there are, G.
    instants
        [H] different instants of the rows that are known.
    step
        [H] number of each step, from 1.
    prior
        the weight of no correction, in independent instants.
    """
    rows, steps = size.shape
    count = np.zeros((groups, steps))
    total = np.zeros((groups, steps))
    for row in range(rows):
        for h in range(steps):
            if np.isfinite(size[row, h]):
                count[group[row, h], h] += 1
                total[group[row, h], h] += size[row, h]
    logs = np.zeros((groups, steps))
    for h in range(steps):
        known = count[:, h].sum()
        if known == 0:
            continue
        mean = total[:, h].sum() / known
        for g in range(groups):
            if count[g, h] > 0:
                independent = count[g, h] * instants[h] / known / step[h]
                ratio = max(total[g, h] / count[g, h] / mean, 1e-3)
                logs[g, h] = np.log(ratio) * independent / (independent + prior)
    shrink = np.exp(-logs)
    for row in range(rows):
        for h in range(steps):
            size[row, h] *= shrink[group[row, h], h]
    return logs
