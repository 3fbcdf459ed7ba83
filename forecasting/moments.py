"""Expected return and volatility over a holding interval, from a quantile forecast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forecasting.forecast import (
    HORIZON,
    LEVELS,
    MEDIAN_INDEX,
    WINDOWS_PER_CHUNK,
    ForecastTable,
    QuantileView,
    VolatilityRule,
    empty_array,
)
from forecasting.windows import Windows
from foundation.arrays import Array, Array32, Index
from foundation.compiled import compiled

Quantiles = Array32 | QuantileView  # [n, H, Q], read one step at a time

_LEVEL_ARRAY = np.array(LEVELS)
_Q10 = LEVELS.index(0.1)
_Q90 = LEVELS.index(0.9)
ROWS_PER_BLOCK = 64  # rows whose deviations are summed at once
NORMAL_Q90 = 1.2815515655446004  # the standard normal's 90 % quantile


def expected_return_between(values: Quantiles, price: Array, start: Array, end: Array) -> Array:
    """Return each forecast's median return between two points in time, counted in bars.

    The median is interpolated linearly between steps; after the last step the expected return is 0.
    Each result is bitwise the same, whichever other forecasts are in the arrays.

    values: [n, H, Q] price quantiles in USD.
    price: [n] last close at issue, in USD.
    start, end: [n], or [P, n] for P intervals per forecast: start and end of the interval as
        numbers of the symbol's bars after issue, fractional within a bar. For a decision at issue,
        `start` is 0 and `end` is an integer.
    """
    return _interpolate_median(values, price, end) - _interpolate_median(values, price, start)


def cumulative_variance(
    values: Quantiles, price: Array, bars_ahead: Array, rule: VolatilityRule, tail_variance: Array
) -> Array:
    """Return the cumulative variance of the return from issue to `bars_ahead` bars later.

    The variance is interpolated linearly between steps. The result has the shape of `bars_ahead`.

    values: [n, H, Q] price quantiles in USD.
    price: [n] last close at issue, in USD.
    bars_ahead: [n], or [P, n] for P horizons per forecast: number of the symbol's bars after issue.
    rule: rule by which `volatility_from_quantiles` derives a standard deviation from quantiles.
    tail_variance: [n] variance per bar after the last step.
    """

    def squared_volatility(rows: Index, step: int, close: Array) -> Array:
        return np.asarray(volatility_from_quantiles(values[rows, step], close, rule) ** 2)

    return _interpolate_steps(price, bars_ahead, squared_volatility) + variance_after_last_step(
        bars_ahead, tail_variance
    )


def variance_after_last_step(bars_ahead: Array, tail_variance: Array) -> Array:
    """Return the variance that accrues after the last forecast step; 0 before that step.

    bars_ahead: number of the symbol's bars after issue.
    tail_variance: variance per bar after the last step.
    """
    # `tail_variance` is NaN where the last step is unknown, which must not affect earlier steps.
    return np.where(bars_ahead > HORIZON, (bars_ahead - HORIZON) * tail_variance, 0.0)


def volatility_from_quantiles(
    values: npt.ArrayLike, price: npt.ArrayLike, rule: VolatilityRule
) -> Array:
    """Return the standard deviation of returns from price quantiles [..., Q], by a named rule.

    original  |q90 - q10| / (2·price): 1.28 times the standard deviation of a normal.
    normal    |q90 - q10| / (2·1.2816·price): too small for heavy tails.
    quantile  standard deviation of the whole quantile function, which is linear between levels,
              with exponential tails through the outermost two levels.

    values: [..., Q] price quantiles in USD.
    price: [...] last close at issue, in USD.
    """
    if rule == "quantile":
        quantiles: Array | Array32 = np.asarray(values, order="C")
        return _return_deviation(quantiles, np.asarray(price))
    returns = np.asarray(values, dtype=np.float64) / np.asarray(price, dtype=np.float64)[..., None]
    half_width = np.abs(returns[..., _Q90] - returns[..., _Q10]) / 2
    return np.asarray(half_width if rule == "original" else half_width / NORMAL_Q90)


def log_return_moments(values: Array32, price: Array) -> tuple[Array32, Array32]:
    """Return the median and the log variance of the forecasts' log returns, each [n, H].

    values: [n, H, Q] price quantiles in USD.
    price: [n] last close at issue, in USD.
    """
    # The price is rounded as the values are. Otherwise a forecast equal to the price would have an
    # expected return of 1e-8.
    close = price.astype(np.float32)[:, None]
    deviation = np.maximum(volatility_from_quantiles(values, close, "quantile"), 1e-9)
    log_variance = (2 * np.log(deviation)).astype(np.float32)
    return np.log(values[..., MEDIAN_INDEX] / close), log_variance


@dataclass(frozen=True, eq=False, slots=True)
class LogReturnMoments:
    """Median and log variance of a history's forecasts, as inputs of calibration.

    They take a tenth of the memory of a `ForecastTable`.

    name: name of the forecaster.
    windows: input of each forecast.
    median, log_variance: [N, H] median and log variance of the forecasts' log returns.
    source_digest: digest of inputs, other than bars, that can change although the name stays the
        same; empty if there are none.
    """

    name: str
    windows: Windows
    median: Array32
    log_variance: Array32
    source_digest: str

    @classmethod
    def from_table(cls, table: ForecastTable) -> LogReturnMoments:
        """Compute the moments of a table's quantiles."""
        count = len(table.windows)
        median, log_variance = empty_array(count, HORIZON), empty_array(count, HORIZON)
        for first in range(0, count, WINDOWS_PER_CHUNK):
            part = slice(first, first + WINDOWS_PER_CHUNK)
            median[part], log_variance[part] = log_return_moments(
                table.quantiles[part], table.price[part]
            )
        return cls(table.name, table.windows, median, log_variance, table.source_digest)


def _interpolate_median(values: Quantiles, price: Array, place: Array) -> Array:
    """Return the median return from each forecast's issue to `place` bars later.

    place: [n], or [P, n] for P points in time per forecast.
    """

    def median_return(rows: Index, step: int, close: Array) -> Array:
        return np.asarray(values[rows, step, MEDIAN_INDEX] / close - 1)

    return _interpolate_steps(price, place, median_return)


def _interpolate_steps(
    price: Array, place: Array, read: Callable[[Index, int, Array], Array]
) -> Array:
    """Return a figure of each forecast after `place` bars, interpolated linearly between steps.

    The figure is 0 at issue, and constant after the last step.

    place: [n], or [P, n] for P points in time per forecast; the result has the same shape.
    read: function that returns the figure at a step, [m], for forecast indices [m], the step, and
        the forecasts' prices [m].
    """
    inside = np.minimum(place, HORIZON)
    low = np.floor(inside).astype(int)
    share = inside - low
    high = low + (share > 0)
    # The price is rounded as the values are. Otherwise a forecast equal to the price would have an
    # expected return of 1e-8.
    close = price.astype(np.float32).astype(np.float64)
    # Each required step of a forecast is read once.
    needed = np.zeros((HORIZON + 1, len(price)), dtype=bool)
    rows = np.arange(len(price))
    needed[low, rows] = True
    needed[high, rows] = True
    known = np.zeros(needed.shape)
    for step in np.flatnonzero(needed[1:].any(axis=1)).tolist():
        of = np.flatnonzero(needed[step + 1])
        known[step + 1, of] = read(of, step, close[of])
    out = (1 - share) * known[low, rows]
    out += np.where(share > 0, share * known[high, rows], 0.0)
    return np.where(np.isnan(price), np.nan, out)


def _return_deviation(values: Array | Array32, price: Array | Array32) -> Array:
    """Return the standard deviation of the return that price quantiles imply, [...].

    values: [..., Q] price quantiles at LEVELS.
    price: [...] last close at issue.
    """
    rows = values.reshape(-1, len(_LEVEL_ARRAY))
    prices = np.broadcast_to(price, values.shape[:-1]).reshape(-1).astype(np.float64)
    deviation = _quantile_row_deviations(rows, prices, _FIRST, _ONE, _OTHER, _SECOND_WEIGHTS)
    return deviation.reshape(values.shape[:-1])


@compiled
def _quantile_row_deviations(
    values: Array | Array32, price: Array, first: Array, one: Index, other: Index, weight: Array
) -> Array:
    """Return the standard deviation √(q·b·q - (a·q)²) of each row's return quantiles q, [n].

    The median is subtracted from q first.

    values: [n, Q] price quantiles.
    price: [n] last close at issue.
    first: [Q] vector a.
    one, other, weight: [m] row, column and value of each nonzero entry of the matrix b.
    """
    # A matrix product would sum in an order that depends on the number of rows, and a decision on
    # the same bars would differ in the last bit. Rows are processed in blocks, so that the
    # processor adds several at once, each in the same order.
    out = np.empty(len(values))
    row = np.empty(len(first))
    q = np.zeros((len(first), ROWS_PER_BLOCK))
    mean = np.empty(ROWS_PER_BLOCK)
    square = np.empty(ROWS_PER_BLOCK)
    for begin in range(0, len(values), ROWS_PER_BLOCK):
        count = min(ROWS_PER_BLOCK, len(values) - begin)
        for n in range(count):
            for k in range(len(first)):
                row[k] = values[begin + n, k] / price[begin + n]
            for k in range(len(first)):
                q[k, n] = row[k] - row[MEDIAN_INDEX]
        mean[:] = 0.0
        square[:] = 0.0
        for k in range(len(first)):
            for n in range(ROWS_PER_BLOCK):
                mean[n] += first[k] * q[k, n]
        for m in range(len(weight)):
            left = q[one[m]]
            right = q[other[m]]
            for n in range(ROWS_PER_BLOCK):
                square[n] += left[n] * weight[m] * right[n]
        for n in range(count):
            out[begin + n] = np.sqrt(max(square[n] - mean[n] * mean[n], 0.0))
    return out


def _moment_coefficients() -> tuple[Array, Array]:
    """Return a [Q] and b [Q, Q] such that quantiles q have mean a·q and second moment q·b·q.

    The quantile function is linear between levels. Beyond the outermost level on each side, it has
    the exponential tail that passes through the outermost two levels.
    """
    first = np.zeros(len(_LEVEL_ARRAY))
    second = np.zeros((len(_LEVEL_ARRAY), len(_LEVEL_ARRAY)))
    for k, width in enumerate(np.diff(_LEVEL_ARRAY)):
        first[k : k + 2] += width / 2
        second[k : k + 2, k : k + 2] += width / 3 * np.array([[1, 0.5], [0.5, 1]])
    for edge, inner, mass in ((0, 1, _LEVEL_ARRAY[0]), (-1, -2, 1 - _LEVEL_ARRAY[-1])):
        inner_mass = _LEVEL_ARRAY[inner] if edge == 0 else 1 - _LEVEL_ARRAY[inner]
        tail = np.zeros(len(_LEVEL_ARRAY))  # scale of the exponential, signed outward
        tail[edge], tail[inner] = np.array([1, -1]) / np.log(inner_mass / mass)
        reach = tail.copy()
        reach[edge] += 1
        first += mass * reach
        second += mass * (np.outer(reach, reach) + np.outer(tail, tail))
    return first, second


_FIRST, _SECOND = _moment_coefficients()
_ONE, _OTHER = np.nonzero(_SECOND)
_SECOND_WEIGHTS = _SECOND[_ONE, _OTHER]
