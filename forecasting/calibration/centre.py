"""What a forecast's centre has been worth, and how long it lasts.

Worth is the slope of realised on forecast returns, pooled over the symbols of a class, with an
error that allows for returns that move together. Persistence is the autocorrelation of the centre
itself: it is free of the noise in returns (Gârleanu and Pedersen 2013).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foundation.arrays import Array, Index

MAX_PERSISTENCE = 0.99
MIN_INSTANTS = 30  # independent instants below which a slope is not estimated


def worth(
    forecast: Array, realised: Array, instant: Index, overlap: int, confidence: float
) -> float:
    """Lower end of the slope's one-sided interval, in [0, 1]; 0 where the data say nothing.

    The slope is that of a regression through the origin. What is returned lies `confidence`
    standard errors below it: noise earns nothing, and an edge is believed as far as it has shown
    itself.

    forecast, realised: [n] returns over their volatility, of all symbols together.
    instant: [n] number of the bar at which each forecast was issued.
    overlap: bars that a forecast's interval covers.
    confidence: standard errors that are subtracted from the slope.
    """
    if not len(forecast):
        return 0.0
    at = instant - instant.min()
    seen = np.count_nonzero(np.bincount(at))
    scores = [np.bincount(at, weights=forecast * other) for other in (forecast, realised)]
    by_instant = np.stack(scores, axis=1)
    square, product = by_instant.sum(axis=0)
    if square <= 0 or seen < MIN_INSTANTS * overlap:
        return 0.0
    slope = product / square
    # Symbols of one instant move together, so their scores are summed before they are squared
    # (Liang and Zeger 1986). Treated as independent they would understate the error, and noise
    # would pass for an edge.
    score = by_instant[:, 1] - slope * by_instant[:, 0]
    variance = float(score @ score)
    # Intervals of several bars overlap with those of the `overlap` - 1 instants before, so their
    # scores are correlated; Bartlett weights keep the variance positive (Newey and West 1987).
    for lag in range(1, overlap):
        variance += 2 * (1 - lag / overlap) * float(score[lag:] @ score[:-lag])
    error = np.sqrt(max(variance, 0.0)) / square
    return float(np.clip(slope - confidence * error, 0.0, 1.0))


def autocorrelation(series: Sequence[Array]) -> float:
    """Autocorrelation around zero of series [n] from one step to the next, pooled, 0 … 0.99.

    It is 0 where the series are empty or zero.
    """
    square = sum(float(part[:-1] @ part[:-1]) for part in series)
    if square <= 0:
        return 0.0
    product = sum(float(part[:-1] @ part[1:]) for part in series)
    return float(np.clip(product / square, 0.0, MAX_PERSISTENCE))
