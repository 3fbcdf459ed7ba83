"""The weekly calibration of an asset class, fitted to the last bars of its own symbols.

Medians are shrunk by the slope of a regression of realised on forecast returns, pooled over the
symbols of a class. The standard error of the slope allows for returns that move together. The
persistence of a median is its autocorrelation, which the noise in returns does not affect (Gârleanu
and Pedersen 2013).

Dimensions: S symbols, n forecasts, H steps, K intraday slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from forecasting.calibration.dispersion import CalibrationSample, DispersionModel, fit_dispersion
from forecasting.calibration.history import (
    MIN_LOG_VARIANCE,
    AssetClassHistory,
    build_sample,
    compute_realised_outcomes,
)
from forecasting.calibration.variance import LOOKBACKS_BARS, estimate_intraday_pattern
from forecasting.forecast import HORIZON
from foundation.arrays import Array, Index, concatenate_ranges

# Maximum number of forecasts in a fit: symbols of a class move together, so that more add little
# information.
MAX_FIT_FORECASTS = 16_384
MAX_AUTOCORRELATION = 0.99
MIN_REGRESSION_INSTANTS = 30  # independent instants below which a slope is not estimated


@dataclass(frozen=True, eq=False, slots=True)
class CalibrationFit:
    """The calibration of one asset class for one week.

    intraday_pattern: [K] intraday pattern: variance per bar by slot, in multiples of the day's
        mean.
    dispersion: model of the standard deviation and shape of log returns.
    median_shrinkage_factors: [H] factor by which the base forecast's median is multiplied at each
        step.
    first_bar_indices: [S] index of the first bar that the fit uses, among each symbol's bars.
    persistence: lag-1 autocorrelation of the base forecast's first-step median.
    information_coefficient: conservative estimate of the first step's information coefficient: root
        mean square of the shrunk median divided by that of the returns.
    """

    intraday_pattern: Array
    dispersion: DispersionModel
    median_shrinkage_factors: Array
    first_bar_indices: Index
    persistence: float
    information_coefficient: float

    def apply(
        self, history: AssetClassHistory, symbol_index: Index, bar_index: Index
    ) -> tuple[Array, Array]:
        """Return the calibrated median and deviation of the log return after each step, [n, H].

        history: bars and base forecasts of the class.
        symbol_index: [n] index of each forecast's symbol in the class, nondecreasing.
        bar_index: [n] index of the issuing bar among the symbol's bars, increasing within a symbol.
        """
        sample = build_sample(
            history, self.first_bar_indices, symbol_index, bar_index, self.intraday_pattern
        )
        return (
            self.median_shrinkage_factors * sample.median_log_return,
            self.dispersion.predict_deviation(sample),
        )


def fit_calibration(
    history: AssetClassHistory, week: np.datetime64, window: int, confidence: float
) -> CalibrationFit:
    """Fit the calibration of an asset class for one week.

    history: bars and base forecasts of the class.
    week: start of the week, Friday 16:00 New York; later bars are not used.
    window: number of each symbol's bars in the fit.
    confidence: number of standard errors by which a median's slope must exceed zero for the median
        to be used.
    """
    slots = history.slot_count
    ends = history.count_known_bars(week)
    starts = np.maximum(ends - window, 0)
    bar = concatenate_ranges(history.bar_offsets[:-1] + starts, history.bar_offsets[:-1] + ends)
    column = history.clock_index[bar]
    pattern = estimate_intraday_pattern(
        history.bar_variances[bar],
        history.intraday_slots[column, 0],
        column,
        np.cumsum([0, *(ends - starts)]),
        slots,
    )
    begin = np.maximum(starts - LOOKBACKS_BARS[-1], 0)
    member, last = _thin_bars(
        np.maximum(starts, history.first_forecast_bar), np.minimum(ends, history.forecast_end_bar)
    )
    sample = build_sample(history, begin, member, last, pattern)
    move, variance = compute_realised_outcomes(history, member, last, ends)
    # A symbol that does not move carries no information, and its forecasts over a deviation near
    # zero would dominate.
    move[sample.log_trailing_variances[:, -1] < MIN_LOG_VARIANCE] = np.nan
    members = len(history.panel_symbol_indices)
    dispersion, deviation = fit_dispersion(sample, variance, move, slots, members)
    persistence = autocorrelation(history.slice_first_step_ratios(starts, ends))
    slopes = _fit_median_slopes(sample, deviation, move, confidence)
    skill = 0.0
    if slopes[0] > 0:
        expected = _first_step_rms(sample.median_log_return, deviation)
        skill = slopes[0] * expected / _first_step_rms(move, deviation)
    return CalibrationFit(pattern, dispersion, slopes, begin, persistence, float(np.float32(skill)))


def _fit_median_slopes(
    sample: CalibrationSample, deviation: Array, move: Array, confidence: float
) -> Array:
    """Return the factor by which the base forecast's median is multiplied at each step, [H].

    deviation: [n, H] calibrated standard deviation of the log return.
    move: [n, H] realised log return; NaN where it is not known.
    confidence: number of standard errors that are subtracted from each slope.
    """
    slopes = np.zeros(HORIZON)
    forecasts = (sample.median_log_return / deviation).T
    realised = (move / deviation).T
    known = np.isfinite(forecasts) & np.isfinite(realised)
    for h, rows in enumerate(known):
        instant = sample.instant_index[rows]
        slopes[h] = estimate_shrinkage(
            forecasts[h, rows], realised[h, rows], instant, h + 1, confidence
        )
    return slopes


def _first_step_rms(values: Array, deviation: Array) -> float:
    """Return the root mean square of the first step's values, in units of their deviation.

    values, deviation: [n, H].
    """
    finite = (values[:, 0] / deviation[:, 0])[np.isfinite(values[:, 0])]
    return float(np.sqrt(np.mean(finite**2))) if len(finite) else 0.0


def _thin_bars(starts: Index, ends: Index) -> tuple[Index, Index]:
    """Return every k-th bar of each symbol, as symbol indices [n] and bar indices [n].

    The stride k is chosen so that about `MAX_FIT_FORECASTS` bars are left.

    starts, ends: [S] first bar of each symbol, and end of its bars (exclusive).
    """
    counts = np.maximum(ends - starts, 0)
    stride = max(-(-int(counts.sum()) // MAX_FIT_FORECASTS), 1)
    # The stride runs back from the last bar, which is nearest to the week that starts. Its offset
    # differs by symbol, so that the symbols together still cover nearly every instant.
    newest = ends - 1 - np.arange(len(ends)) % stride
    kept = np.maximum(-((starts - 1 - newest) // stride), 0)
    member = np.repeat(np.arange(len(ends)), kept)
    oldest = newest - (kept - 1) * stride
    nth = concatenate_ranges(np.zeros_like(kept), kept)
    return member, oldest[member] + nth * stride


def estimate_shrinkage(
    forecast: Array, realised: Array, instant_index: Index, overlap_bars: int, confidence: float
) -> float:
    """Estimate the shrinkage factor of a median, from 0 to 1.

    The factor is the slope of a regression of realised on forecast returns through the origin, less
    `confidence` standard errors, so that only the significant part of the slope counts. The factor
    is 0 if there are too few instants.

    forecast, realised: [n] returns of all symbols, in units of their volatility.
    instant_index: [n] index of the bar at which each forecast was issued.
    overlap_bars: number of bars that a forecast covers.
    confidence: number of standard errors that are subtracted from the slope.
    """
    if not len(forecast):
        return 0.0
    at = instant_index - instant_index.min()
    seen = np.count_nonzero(np.bincount(at))
    scores = [np.bincount(at, weights=forecast * other) for other in (forecast, realised)]
    by_instant = np.stack(scores, axis=1)
    square, product = by_instant.sum(axis=0)
    if square <= 0 or seen < MIN_REGRESSION_INSTANTS * overlap_bars:
        return 0.0
    slope = product / square
    # Symbols of one instant move together, so their scores are summed before they are squared
    # (Liang and Zeger 1986). Treated as independent they would understate the error, and noise
    # would pass for an edge.
    score = by_instant[:, 1] - slope * by_instant[:, 0]
    variance = float(score @ score)
    # Intervals of several bars overlap with those of the `overlap` - 1 instants before, so their
    # scores are correlated; Bartlett weights keep the variance positive (Newey and West 1987).
    for lag in range(1, overlap_bars):
        variance += 2 * (1 - lag / overlap_bars) * float(score[lag:] @ score[:-lag])
    error = np.sqrt(max(variance, 0.0)) / square
    return float(np.clip(slope - confidence * error, 0.0, 1.0))


def autocorrelation(series: Sequence[Array]) -> float:
    """Return the pooled lag-1 autocorrelation of several series around zero, 0 … 0.99.

    The result is 0 if all series are empty or zero.
    """
    square = sum(float(part[:-1] @ part[:-1]) for part in series)
    if square <= 0:
        return 0.0
    product = sum(float(part[:-1] @ part[1:]) for part in series)
    return float(np.clip(product / square, 0.0, MAX_AUTOCORRELATION))
