"""What a forecast's centre has been worth: realised on forecast return, pooled, with errors that
know what moves together.

And how long it lasts: the autocorrelation of the centre itself, which no return's noise is in
(Gârleanu and Pedersen 2013).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foundation.arrays import Array, Index

LASTING = 0.99  # of a centre, left after a bar, at most
FEWEST = 30  # independent instants below which nothing is said


def worth(
    forecast: Array, realised: Array, instant: Index, overlap: int, confidence: float
) -> float:
    """Slope of the centre that the data do not let one doubt, in [0, 1]; 0 where they say nothing.

    forecast, realised [n]: returns over their volatility, of all symbols together. instant [n]:
    number of the bar at which each was issued. The slope is that of a regression through the
    origin; its error sums over the symbols of an instant first (Liang and Zeger 1986) and over
    `overlap` - 1 instants before it (Newey and West 1987), because intervals of several bars
    overlap. What is given back is the lower end of its one-sided interval, `confidence` errors
    below: noise earns nothing, an edge is believed as far as it has shown itself.
    """
    if not len(forecast):
        return 0.0
    first = int(instant.min())
    size = int(instant.max()) - first + 1
    square = float(forecast @ forecast)
    if square <= 0 or len(np.unique(instant)) < FEWEST * overlap:
        return 0.0
    slope = float(forecast @ realised) / square
    score = np.bincount(
        instant - first, weights=forecast * (realised - slope * forecast), minlength=size
    )
    variance = float(score @ score)
    for lag in range(1, overlap):
        variance += 2 * (1 - lag / overlap) * float(score[lag:] @ score[:-lag])
    error = np.sqrt(max(variance, 0.0)) / square
    return float(np.clip(slope - confidence * error, 0.0, 1.0))


def autocorrelation(series: Sequence[Array]) -> float:
    """Of series [n] around zero from one step to the next, pooled; 0 … 0.99, and 0 where they
    say nothing. NaN is nothing.
    """
    series = [np.nan_to_num(part) for part in series]
    square = sum(float(part[:-1] @ part[:-1]) for part in series)
    if square <= 0:
        return 0.0
    return float(
        np.clip(sum(float(part[:-1] @ part[1:]) for part in series) / square, 0.0, LASTING)
    )
