"""One symbol's bars beside its base forecasts: what was known at a bar, and what came true after.

S symbols, M own bars of a symbol, n rows, H steps, K classical averages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from forecasting.calibration.dispersion import DispersionSample
from forecasting.calibration.variance import SPANS, DayPattern, averages, bar_variance
from forecasting.forecast import HORIZON, MEDIAN, ForecastTable
from forecasting.moments import volatility
from foundation.arrays import Array, Array32, Index, Instants
from foundation.errors import DataError
from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import utc_text
from trainingdata.instruments import Kind
from trainingdata.sessions import bar_slots

# log variance a bar below which nothing can be learned from a symbol
STANDING_STILL = 2 * np.log(1e-7)


@dataclass(frozen=True, eq=False, slots=True)
class SymbolHistory:
    """One symbol's own bars and its base forecasts.

    times: [M] instant at which each bar became known.
    close: [M] logarithm of the close.
    variance: [M] variance of each bar's log return.
    total: [M + 1] variance of the bars before each.
    slots: [M, 1 + H] place in the day of each bar and of the H after it.
    column: [M] number of each bar on the class's clock.
    first: own bar of the first base forecast.
    median: [M - first, H] of the base forecast's log return.
    log_variance: [M - first, H] of the base forecast's log return.
    """

    times: Instants
    close: Array
    variance: Array
    total: Array
    slots: npt.NDArray[np.int8]
    column: Index
    first: int
    median: Array32
    log_variance: Array32

    def first_steps(self, part: slice) -> Array:
        """First-step centres of the base forecasts at own bars `part`, over their deviation.

        They are NaN where the symbol stands still: next to nothing over next to nothing is
        rounding, and as like the last as not.
        """
        bars = np.arange(max(part.start, self.first), max(part.stop, self.first))
        rows = bars - self.first
        before = np.maximum(bars + 1 - SPANS[-1], 0)
        mean = (self.total[bars + 1] - self.total[before]) / (bars + 1 - before)
        deviation = np.exp(self.log_variance[rows, 0] / 2)
        centre = np.asarray(self.median[rows, 0] / deviation, dtype=np.float64)
        return np.where(mean < np.exp(STANDING_STILL), np.nan, centre)


def symbol_histories(bars: Bars, raw: ForecastTable) -> list[SymbolHistory]:
    """Every symbol's bars beside the median and the variance of its base forecasts, [S].

    Raises
    ------
    DataError
        where the base has no forecast at a bar between two at which it has.
    """
    count = len(raw.windows)
    median = np.empty((count, HORIZON), dtype=np.float32)
    log_variance = np.empty((count, HORIZON), dtype=np.float32)
    for rows, values in raw.chunks():
        # The price is rounded as the values are: otherwise a forecast without an edge would have
        # one of 1e-8.
        price = raw.price[rows].astype(np.float32)
        median[rows] = np.log(values[..., MEDIAN] / price[:, None])
        deviation = np.maximum(volatility(values, price[:, None], "quantile"), 1e-9)
        log_variance[rows] = 2 * np.log(deviation)
    clocks = [bars.times[bars.mask[bars.crypto == crypto].any(axis=0)] for crypto in (False, True)]
    histories = []
    for s, (item, part) in enumerate(zip(bars.instruments, raw.windows.of_symbols(), strict=True)):
        times, bar_values = bars.real_bars(s)
        last = raw.windows.last[part]
        first = int(last[0]) if len(last) else len(times)
        # Lessons look up a forecast by its bar: with one missing they would read another's.
        gaps = np.flatnonzero(np.diff(last) != 1)
        if len(gaps):
            missing = utc_text(times[last[gaps[0]] + 1])
            raise DataError(
                f"calibration: {raw.name} has no forecast of {item.symbol} at {missing}, and learns"
                " from every bar; forecaster.calibrated=false takes forecasts as they are"
            )
        variance = bar_variance(bar_values)
        histories.append(
            SymbolHistory(
                times=times,
                close=np.log(bar_values[:, CLOSE]),
                variance=variance,
                total=np.append(0.0, np.cumsum(variance)),
                slots=bar_slots(item.kind, times, HORIZON),
                column=np.searchsorted(clocks[item.kind is Kind.CRYPTO], times),
                first=first,
                median=median[part],
                log_variance=log_variance[part],
            )
        )
    return histories


def class_sample(
    histories: list[SymbolHistory],
    begin: tuple[int, ...],
    member: Index,
    last: Index,
    pattern: DayPattern,
) -> tuple[DispersionSample, Array]:
    """What is known of a class's forecasts when they are made, and their base medians [n, H].

    Parameters
    ----------
    histories
        [S] of the class's symbols.
    begin
        [S] first own bar that the averages see.
    member
        [n] number of each forecast's symbol within the class, rising.
    last
        [n] the own bar at which each forecast is issued.
    pattern
        of the day.
    """
    parts = []
    bounds = np.searchsorted(member, np.arange(1, len(histories)))
    for s, (history, rows) in enumerate(zip(histories, np.split(last, bounds), strict=True)):
        if len(rows):
            parts.append(_symbol_sample(history, begin[s], rows, pattern))
    if not parts:
        logs = np.empty((0, len(SPANS) + 1, HORIZON))
        steps = np.empty((0, HORIZON))
        numbers = np.empty(0, dtype=np.int64)
        return DispersionSample(logs, steps, numbers, numbers, numbers), steps
    logs, season, slot, instant, median = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    return DispersionSample(logs, season, slot, member, instant), median


def outcomes(history: SymbolHistory, rows: Index, end: int) -> tuple[Array, Array]:
    """(log return, realised variance) after each step from own bars `rows` [n], each [n, H].

    NaN beyond the first `end` own bars.
    """
    steps = rows[:, None] + np.arange(1, HORIZON + 1)
    is_known = steps < end
    steps = np.minimum(steps, len(history.close) - 1)
    move = history.close[steps] - history.close[rows][:, None]
    variance = history.total[steps + 1] - history.total[rows + 1][:, None]
    return np.where(is_known, move, np.nan), np.where(is_known, variance, np.nan)


def _symbol_sample(
    history: SymbolHistory, begin: int, rows: Index, pattern: DayPattern
) -> tuple[Array, Array, Index, Index, Array]:
    """(logs, season, slot, instant, base median) of one symbol's forecasts at own bars `rows`."""
    # The averages see nothing before `begin`: what is learned and answered is a function of the
    # last bars, and the length of the history that was loaded makes no difference.
    span = slice(begin, int(rows[-1]) + 1)
    flat = history.variance[span] / pattern.factor[history.slots[span, 0]]
    season = np.cumsum(pattern.factor[history.slots[rows, 1:]], axis=1)
    past = np.log(averages(flat)[rows - begin])
    # The base forecaster's variance is that of the whole horizon: it is divided by the pattern of
    # all bars in it.
    base = history.log_variance[rows - history.first] - np.log(season)
    logs = np.concatenate([np.repeat(past[:, :, None], HORIZON, axis=2), base[:, None]], axis=1)
    slot = history.slots[rows, 0].astype(np.int64)
    median = history.median[rows - history.first].astype(np.float64)
    return logs, season, slot, history.column[rows], median
