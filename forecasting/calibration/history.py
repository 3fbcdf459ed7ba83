"""The bars of a class beside its base forecasts: what was known at a bar, and what came true after.

S symbols, M own bars of all of them, N base forecasts, n rows, H steps, K classical averages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting.calibration.dispersion import DispersionSample
from forecasting.calibration.variance import (
    SPANS,
    DayPattern,
    Slots,
    averages,
    bar_variance,
)
from forecasting.forecast import HORIZON, ForecastTable
from forecasting.moments import log_moments
from foundation.arrays import Array, Array32, Index, Instants
from foundation.compiled import compiled
from foundation.errors import DataError
from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import utc_text
from trainingdata.instruments import Kind
from trainingdata.sessions import bar_slots

# log variance a bar below which nothing can be learned from a symbol
STANDING_STILL = 2 * np.log(1e-7)
LENGTHS = len(SPANS)
_NOTHING = np.empty(0)
_NO_NUMBERS = np.empty(0, dtype=np.int64)
_NO_TIMES = np.empty(0, dtype="datetime64[ns]")


@dataclass(frozen=True, eq=False, slots=True)
class ClassHistory:
    """A class's own bars and base forecasts, one symbol after another.

    members: [S] number of each symbol in the panel, rising.
    begin: [S + 1] where each symbol's bars lie.
    times: [M] instant at which each bar became known.
    close: [M] logarithm of the close.
    variance: [M] variance of each bar's log return.
    slots: [M, 1 + H] place in the day of each bar and of the H after it.
    column: [M] number of each bar on the class's clock.
    first: [S] own bar of the first base forecast.
    rows: [S + 1] where each symbol's base forecasts lie; there is one at every bar from the first.
    median: [N, H] of the base forecast's log return.
    log_variance: [N, H] of the base forecast's log return.
    first_step: [N] median of the first step over its deviation; NaN where the symbol stands still:
        next to nothing over next to nothing is rounding, and as like the last as not.
    """

    members: Index
    begin: Index
    times: Instants
    close: Array
    variance: Array
    slots: Slots
    column: Index
    first: Index
    rows: Index
    median: Array32
    log_variance: Array32
    first_step: Array

    @classmethod
    def of(cls, kind: Kind, bars: Bars, raw: ForecastTable) -> ClassHistory:
        """The bars of a class beside the median and the variance of its base forecasts.

        Raises
        ------
        DataError
            where the base has no forecast at a bar between two at which it has.
        """
        members = np.flatnonzero(bars.crypto == (kind is Kind.CRYPTO))
        clock = bars.times[bars.mask[members].any(axis=0)]
        parts = raw.windows.of_symbols()
        tables = [bars.real_bars(s) for s in members.tolist()]
        numbers = [np.arange(parts[s].start, parts[s].stop) for s in members.tolist()]
        times = np.concatenate([_NO_TIMES, *(own for own, _ in tables)])
        column = np.searchsorted(clock, times)
        median, log_variance = _log_moments(raw, np.concatenate([_NO_NUMBERS, *numbers]))
        first = []
        for s, (own, _) in zip(members.tolist(), tables, strict=True):
            last = raw.windows.last[parts[s]]
            # Lessons look up a forecast by its bar: with one missing they would read another's.
            gaps = np.flatnonzero(np.diff(last) != 1)
            if len(gaps):
                missing = utc_text(own[last[gaps[0]] + 1])
                raise DataError(
                    f"calibration: {raw.name} has no forecast of {bars.symbols[s]} at {missing},"
                    " and learns from every bar; forecaster.calibrated=false takes forecasts as"
                    " they are"
                )
            first.append(int(last[0]) if len(last) else len(own))
        begin = np.cumsum([0, *(len(own) for own, _ in tables)])
        variance = np.concatenate([_NOTHING, *(bar_variance(values) for _, values in tables)])
        slots = bar_slots(kind, clock, HORIZON)[column]
        bar = [np.arange(*span) for span in zip(begin[:-1] + first, begin[1:], strict=True)]
        member = np.repeat(np.arange(len(members)), [len(part) for part in bar])
        plain = np.ones(int(slots.max(initial=0)) + 1)
        recent = _averages(
            begin[:-1], variance, slots, plain, member, np.concatenate([_NO_NUMBERS, *bar])
        )
        first_step = np.asarray(median[:, 0] / np.exp(log_variance[:, 0] / 2), dtype=np.float64)
        first_step[recent[:, -1] < np.exp(STANDING_STILL)] = np.nan
        return cls(
            members=members,
            begin=begin,
            times=times,
            close=np.concatenate([_NOTHING, *(np.log(values[:, CLOSE]) for _, values in tables)]),
            variance=variance,
            slots=slots,
            column=column,
            first=np.array(first, dtype=np.int64),
            rows=np.cumsum([0, *(len(part) for part in numbers)]),
            median=median,
            log_variance=log_variance,
            first_step=first_step,
        )

    def known(self, now: np.datetime64) -> Index:
        """[S] how many own bars of each symbol were known at an instant."""
        return np.array(
            [
                np.searchsorted(self.times[first:stop], now, side="right")
                for first, stop in zip(self.begin[:-1], self.begin[1:], strict=True)
            ],
            dtype=np.int64,
        )

    def own_bars(self, starts: Index, stops: Index) -> Index:
        """Numbers [n] of the own bars starts … stops - 1 of each symbol among all bars."""
        spans = zip(self.begin[:-1] + starts, self.begin[:-1] + stops, strict=True)
        return np.concatenate([_NO_NUMBERS, *(np.arange(first, stop) for first, stop in spans)])

    def first_steps(self, starts: Index, stops: Index) -> list[Array]:
        """`first_step` of each symbol's forecasts at its bars starts … stops - 1 [S]."""
        rows = self.rows[:-1] - self.first
        spans = zip(
            rows + np.maximum(starts, self.first), rows + np.maximum(stops, self.first), strict=True
        )
        return [self.first_step[first:stop] for first, stop in spans]


def class_sample(
    history: ClassHistory, since: Index, member: Index, last: Index, pattern: DayPattern
) -> tuple[DispersionSample, Array]:
    """What is known of a class's forecasts when they are made, and their base medians [n, H].

    Parameters
    ----------
    history
        of the class.
    since
        [S] first own bar that the averages see.
    member
        [n] number of each forecast's symbol within the class, rising.
    last
        [n] the own bar at which each forecast is issued, rising within a symbol.
    pattern
        of the day.
    """
    # The averages see nothing before `since`: what is learned and answered is a function of the
    # last bars, and the length of the history that was loaded makes no difference.
    bar = history.begin[member] + last
    row = history.rows[member] + last - history.first[member]
    first = history.begin[:-1] + since
    past = _averages(first, history.variance, history.slots, pattern.factor, member, bar)
    season = _seasons(history.slots, pattern.factor, bar)
    # The base forecaster's variance is that of the whole horizon: it is divided by the pattern of
    # all bars in it.
    base = history.log_variance[row] - np.log(season)
    sample = DispersionSample(
        past=np.log(past),
        base=base,
        season=season,
        slot=history.slots[bar, 0].astype(np.int64),
        symbol=member,
        instant=history.column[bar],
    )
    return sample, history.median[row].astype(np.float64)


def outcomes(history: ClassHistory, member: Index, last: Index, ends: Index) -> tuple[Array, Array]:
    """(log return, realised variance) after each step from own bars `last` [n], each [n, H].

    NaN beyond the first `ends` [S] own bars of each symbol.
    """
    begin = history.begin[member]
    return _outcomes(history.close, history.variance, begin + last, begin + ends[member])


def _log_moments(raw: ForecastTable, numbers: Index) -> tuple[Array32, Array32]:
    """Median and log variance [n, H] of the log returns that forecasts stand for."""
    if raw.log_moments is not None:
        return raw.log_moments(numbers)
    median = np.empty((len(numbers), HORIZON), dtype=np.float32)
    log_variance = np.empty((len(numbers), HORIZON), dtype=np.float32)
    for part in raw.in_time(numbers):
        chosen = numbers[part]
        median[part], log_variance[part] = log_moments(raw.answer(chosen), raw.price[chosen])
    return median, log_variance


@compiled
def _averages(
    first: Index, variance: Array, slots: Slots, factor: Array, member: Index, bar: Index
) -> Array:
    """The averages of variances from `first` [S] on, the pattern divided out, at bars [n]: [n, K].

    member: [n] number of each bar's symbol, rising.
    """
    out = np.empty((len(bar), LENGTHS))
    begin = 0
    while begin < len(bar):
        s = member[begin]
        stop = begin
        while stop < len(bar) and member[stop] == s:
            stop += 1
        flat = np.empty(bar[stop - 1] + 1 - first[s])
        for t in range(len(flat)):
            flat[t] = variance[first[s] + t] / factor[slots[first[s] + t, 0]]
        out[begin:stop] = averages(flat, bar[begin:stop] - first[s])
        begin = stop
    return out


@compiled
def _seasons(slots: Slots, factor: Array, bar: Index) -> Array:
    """The day's pattern summed over the steps after each bar, [n, H]."""
    out = np.empty((len(bar), HORIZON))
    for row in range(len(bar)):
        total = 0.0
        for h in range(HORIZON):
            total += factor[slots[bar[row], h + 1]]
            out[row, h] = total
    return out


@compiled
def _outcomes(close: Array, variance: Array, bar: Index, end: Index) -> tuple[Array, Array]:
    """(log return, realised variance) after each step from bars [n] before `end` [n], [n, H]."""
    move = np.full((len(bar), HORIZON), np.nan)
    realised = np.full((len(bar), HORIZON), np.nan)
    for row in range(len(bar)):
        total = 0.0
        for h in range(min(HORIZON, end[row] - bar[row] - 1)):
            at = bar[row] + h + 1
            total += variance[at]
            move[row, h] = close[at] - close[bar[row]]
            realised[row, h] = total
    return move, realised
