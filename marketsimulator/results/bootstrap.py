"""The stationary bootstrap of Politis and Romano (1994): days drawn anew in blocks."""

from __future__ import annotations

import math

import numpy as np

from foundation.arrays import Array, Index


def drawn_days(count: int, length: float, runs: int, *, seed: int) -> Index:
    """[runs, count] numbers of days: blocks that begin anywhere and go round at the end.

    length: of the blocks, on average; each day is the last of its block with 1 / length.
    """
    random = np.random.default_rng(seed)
    drawn = [(random.integers(count, size=count), random.random(count)) for _ in range(runs)]
    days = np.array([first for first, _ in drawn])
    begins = np.array([chance for _, chance in drawn]) <= 1.0 / length
    begins[:, 0] = True
    place = np.arange(count)
    began = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    return np.asarray((np.take_along_axis(days, began, axis=1) + place - began) % count)


def best_block_length(values: Array) -> float:
    """The mean length of blocks for which the bootstrap of values [D] errs least.

    The rule of Politis and White (2004), with the correction of Patton, Politis and White (2009):
    autocovariances count, fading, up to twice the lag after which several in a row are none.
    """
    count = len(values)
    off = values - values.mean()
    in_a_row = max(5, int(math.log10(count)))
    most = math.ceil(math.sqrt(count)) + in_a_row
    squares = np.concatenate([[0.0], np.cumsum(off**2)])
    lags = np.arange(most + 1)
    covariance = np.array([off[lag:] @ off[: count - lag] for lag in lags])
    scale = (squares[-1] - squares[lags + 1]) * squares[count - lags - 1]
    none = np.abs(covariance) < 2.0 * np.sqrt(math.log10(count) / count * scale)
    runs = np.lib.stride_tricks.sliding_window_view(none[:most], in_a_row).all(axis=1)
    memory = min(2 * max(int(runs.argmax()), 1), most) if runs.any() else most

    lag = np.arange(1, memory + 1)
    fading = np.clip(2.0 * (1.0 - lag / memory), 0.0, 1.0)
    counted = fading * covariance[1 : memory + 1] / count
    spread = covariance[0] / count + 2.0 * counted.sum()
    slope = 2.0 * (lag * counted).sum()
    length = np.cbrt(slope**2 / spread**2 * count)
    return float(min(length, math.ceil(min(3.0 * math.sqrt(count), count / 3.0))))
