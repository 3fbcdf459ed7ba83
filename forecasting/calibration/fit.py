"""The weekly calibration fit of a class: a function of its last own bars only.

A median's slope is the slope of realised on forecast returns, pooled over the symbols of a class,
with an error that allows for returns that move together. Its persistence is the autocorrelation of
the median itself: it is free of the noise in returns (Gârleanu and Pedersen 2013).

S symbols, n rows, H steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecasting.calibration.dispersion import CalibrationSample, Dispersion, fit_dispersion
from forecasting.calibration.history import MIN_LOG_VARIANCE, ClassHistory, build_sample, outcomes
from forecasting.calibration.variance import LOOKBACKS, day_pattern
from forecasting.forecast import HORIZON
from foundation.arrays import Array, Index, concatenate_ranges

# most forecasts of a fit: symbols of a class move together, so more add little information
MAX_ROWS = 16_384
MAX_PERSISTENCE = 0.99
MIN_INSTANTS = 30  # independent instants below which a slope is not estimated


@dataclass(frozen=True, eq=False, slots=True)
class CalibrationFit:
    """The fit of one class for one week.

    pattern: [K] variance of a bar by slot of the day, in multiples of the day's mean.
    dispersion: deviation and shape of the log return after each step.
    slopes: [H] factors on the base forecaster's median.
    begin: [S] first own bar of each symbol that the fit uses.
    persistence: autocorrelation of the base forecaster's first-step median from bar to bar.
    skill: lower estimate of the first step's information coefficient: the root mean square of the
        shrunk median over that of the returns.
    """

    pattern: Array
    dispersion: Dispersion
    slopes: Array
    begin: Index
    persistence: float
    skill: float

    def apply(self, history: ClassHistory, member: Index, last: Index) -> tuple[Array, Array]:
        """Return median and deviation of the log return after each step, each [n, H].

        member, last: [n] each forecast's symbol within the class, rising, and the own bar at which
            it is issued, rising within a symbol.
        """
        sample = build_sample(history, self.begin, member, last, self.pattern)
        return self.slopes * sample.median, self.dispersion.deviation(sample)


def fit_calibration(
    history: ClassHistory, week: np.datetime64, window: int, confidence: float
) -> CalibrationFit:
    """Fit the calibration of a class at the beginning of a week.

    history: the bars and base forecasts of its symbols [S].
    week: the Friday 16:00 New York at which the week begins; later bars are not used.
    window: number of each symbol's own bars in the fit.
    confidence: standard errors by which a median's slope must exceed zero to count.
    """
    slots = history.places
    ends = history.count_known_bars(week)
    starts = np.maximum(ends - window, 0)
    bar = concatenate_ranges(history.begin[:-1] + starts, history.begin[:-1] + ends)
    column = history.column[bar]
    pattern = day_pattern(
        history.variance[bar],
        history.slots[column, 0],
        column,
        np.cumsum([0, *(ends - starts)]),
        slots,
    )
    begin = np.maximum(starts - LOOKBACKS[-1], 0)
    member, last = _thinned(np.maximum(starts, history.first), ends)
    sample = build_sample(history, begin, member, last, pattern)
    move, variance = outcomes(history, member, last, ends)
    # A symbol that does not move carries no information, and its forecasts over a deviation near
    # zero would dominate.
    move[sample.past_variance[:, -1] < MIN_LOG_VARIANCE] = np.nan
    members = len(history.members)
    dispersion, deviation = fit_dispersion(sample, variance, move, slots, members)
    persistence = autocorrelation(history.first_steps(starts, ends))
    slopes = _slopes(sample, deviation, move, confidence)
    skill = 0.0
    if slopes[0] > 0:
        expected = _first_step_size(sample.median, deviation)
        skill = slopes[0] * expected / _first_step_size(move, deviation)
    return CalibrationFit(pattern, dispersion, slopes, begin, persistence, float(np.float32(skill)))


def _slopes(sample: CalibrationSample, deviation: Array, move: Array, confidence: float) -> Array:
    """Return the factor on the base forecaster's median at each step, [H]."""
    slopes = np.zeros(HORIZON)
    forecasts = (sample.median / deviation).T
    realised = (move / deviation).T
    known = np.isfinite(forecasts) & np.isfinite(realised)
    for h, rows in enumerate(known):
        instant = sample.instant[rows]
        slopes[h] = shrinkage(forecasts[h, rows], realised[h, rows], instant, h + 1, confidence)
    return slopes


def _first_step_size(values: Array, deviation: Array) -> float:
    """Return the root mean square of the first step of values [n, H] in deviations."""
    finite = (values[:, 0] / deviation[:, 0])[np.isfinite(values[:, 0])]
    return float(np.sqrt(np.mean(finite**2))) if len(finite) else 0.0


def _thinned(starts: Index, ends: Index) -> tuple[Index, Index]:
    """Return (symbol, own bar) [n] of every k-th of each symbol's bars starts … ends - 1 [S].

    They are at most about `MAX_ROWS`.
    """
    counts = np.maximum(ends - starts, 0)
    stride = max(-(-int(counts.sum()) // MAX_ROWS), 1)
    # Bars are counted from the last, which is nearest to the week that begins. The symbols take
    # turns: between them they still cover nearly every instant.
    newest = ends - 1 - np.arange(len(ends)) % stride
    kept = np.maximum(-((starts - 1 - newest) // stride), 0)
    member = np.repeat(np.arange(len(ends)), kept)
    oldest = newest - (kept - 1) * stride
    nth = concatenate_ranges(np.zeros_like(kept), kept)
    return member, oldest[member] + nth * stride


def shrinkage(
    forecast: Array, realised: Array, instant: Index, overlap: int, confidence: float
) -> float:
    """Return the lower end of the slope's one-sided interval, in [0, 1]; 0 without evidence.

    The slope is that of a regression through the origin. The result lies `confidence` standard
    errors below it: noise earns nothing, and an edge counts only as far as it is significant.

    forecast, realised: [n] returns over their volatility, of all symbols together.
    instant: [n] number of the bar at which each forecast was issued.
    overlap: bars in a forecast's interval.
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
    """Return the pooled lag-1 autocorrelation around zero of series [n], 0 … 0.99.

    It is 0 where the series are empty or zero.
    """
    square = sum(float(part[:-1] @ part[:-1]) for part in series)
    if square <= 0:
        return 0.0
    product = sum(float(part[:-1] @ part[1:]) for part in series)
    return float(np.clip(product / square, 0.0, MAX_PERSISTENCE))
