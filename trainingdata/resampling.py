"""Resampling of short bars to longer bars.

Stock bars begin at 09:30 New York, and the last bar of a session ends with it; crypto bars follow
the crypto clock. The short bars are called parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Index, Instants, Mask, first_true_index
from foundation.errors import DataError
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, no_regular_hours_error, row_error
from trainingdata.instants import DAY, format_utc
from trainingdata.instruments import AssetClass, Instrument
from trainingdata.sessions import exchange_calendar
from trainingdata.timeframe import HOURLY, Clock, Timeframe

# Lengths in minutes that divide every bar of the grid, the half hour before the close included.
SHORT_BAR_MINUTES = (1, 2, 3, 5, 6, 10, 15, 30)

_MINUTE = np.timedelta64(1, "m")
_DAY_MINUTES = int(DAY // _MINUTE)
_EPOCH = np.datetime64(0, "ns")


def list_finer_bar_minutes(timeframe: Timeframe) -> tuple[int, ...]:
    """Return the bar lengths, in minutes, that can be aggregated to bars of a timeframe."""
    lengths = (*SHORT_BAR_MINUTES, HOURLY.minutes)
    return tuple(p for p in lengths if p < timeframe.minutes and timeframe.minutes % p == 0)


@dataclass(frozen=True, eq=False, slots=True)
class ResampledBars:
    """B bars aggregated from N shorter bars, the parts.

    times: [B] known-at instant of each bar.
    values: [B, 5] open, high, low, close, volume.
    off_hours_part_count: number of parts outside regular New York hours.
    truncated_bar_count: number of bars dropped because the file begins or ends within them.
    incomplete_bar_count: number of bars with missing parts.
    """

    times: Instants
    values: Array
    off_hours_part_count: int
    truncated_bar_count: int
    incomplete_bar_count: int


def modal_bar_minutes(starts: Instants) -> int:
    """Return the most common distance between start times [N], in whole minutes, at most 1440.

    The result is 0 for fewer than two start times, and if most of them do not increase.
    """
    if len(starts) < 2:
        return 0
    minutes = np.diff(starts) // _MINUTE
    return int(np.bincount(np.clip(minutes, 0, _DAY_MINUTES)).argmax())


def resample_bars(
    starts: Instants,
    values: Array,
    item: Instrument,
    part_minutes: int,
    timeframe: Timeframe,
    path: str,
) -> ResampledBars:
    """Aggregate validated bars of `part_minutes`, the parts, to bars of a timeframe.

    starts: [N] start times of the parts, increasing.
    values: [N, 5] prices and volume of the parts.
    part_minutes: length of a part, one of `list_finer_bar_minutes(timeframe)`.
    path: path of the file, for messages.

    A missing part within the file means that there was no trade, since vendors omit such parts; the
    bar is complete without it. A bar within which the file begins or ends is dropped.

    Raises DataError for start times off the grid, and if no bar is complete.
    """
    step = part_minutes * _MINUTE
    _refuse_off_grid_starts(starts, item.kind, part_minutes, path)
    bar_starts, ends, within = enclosing_bars(timeframe.clock(item.kind), starts)
    if not within.any():
        raise no_regular_hours_error(starts, path)
    # Only the file's own begin and end show which period it covers.
    whole = within & (bar_starts >= starts[0]) & (ends <= starts[-1] + step)
    cut = len(np.unique(bar_starts[within & ~whole]))
    if not whole.any():
        raise DataError(
            f"{path}: the {part_minutes}-minute bars cover no complete {timeframe.unit_name};"
            " supply a"
            " longer file"
        )
    first, bars = aggregate_bars(bar_starts[whole], values[whole])
    counts = np.diff(np.append(first, np.count_nonzero(whole)))
    lengths = -((bar_starts - ends)[whole][first] // step)
    lacking = int((counts < lengths).sum())
    return ResampledBars(ends[whole][first], bars, int((~within).sum()), cut, lacking)


def resample_close_to_close_days(
    starts: Instants, values: Array, item: Instrument, minutes: int, timeframe: Timeframe, path: str
) -> ResampledBars:
    """Aggregate validated stock bars, the parts, to days from close to close.

    The days are those of `resample_close_to_close`.

    starts: [N] start times of the parts, increasing.
    values: [N, 5] prices and volume of the parts.
    minutes: length of a part, one of `list_finer_bar_minutes(timeframe)`.
    path: path of the file, for messages.

    Raises DataError for start times off the grid, and if no bar is complete.
    """
    _refuse_off_grid_starts(starts, item.kind, minutes, path)
    made = resample_close_to_close(starts, values, minutes, timeframe)
    if made.off_hours_part_count == len(starts):
        raise no_regular_hours_error(starts, path)
    if not len(made.times):
        raise DataError(
            f"{path}: the {minutes}-minute bars cover no complete {timeframe.unit_name} from close"
            " to close; supply a longer file"
        )
    return made


def resample_close_to_close(
    starts: Instants, values: Array, minutes: int, timeframe: Timeframe
) -> ResampledBars:
    """Aggregate a stock's parts to bars from one closing auction to the decision on the next one.

    A bar opens with the last price of the previous session, which its high and low include. A bar
    without a part in the previous session is dropped. A bar includes the parts that end by its
    decision. A part that ends later is in no bar, but the close of a session's last part is the
    open of the next bar.

    starts: [N] start times of the parts, increasing.
    values: [N, 5] prices and volume of the parts.
    minutes: length of a part.
    """
    step = minutes * _MINUTE
    days, grid = exchange_calendar(), timeframe.stock_clock
    session = np.searchsorted(days.opens, starts, side="right") - 1
    regular = (session >= 0) & (starts < days.closes[np.maximum(session, 0)])
    begun, session, parts = starts[regular], session[regular], values[regular]
    # The bar of a session is the one that began with the close of the session before.
    bar = session - 1
    ends = np.minimum(begun + step, days.closes[session])
    known = (bar >= 0) & (ends <= grid.ends[np.maximum(bar, 0)])
    first, bars = aggregate_bars(grid.starts[bar[known]], parts[known])
    counts = np.diff(np.append(first, np.count_nonzero(known)))
    bar = bar[known][first]
    last = np.searchsorted(session, bar, side="right") - 1
    whole = (last >= 0) & (session[last] == bar)
    close = parts[last, CLOSE]
    bars[:, OPEN] = close
    bars[:, HIGH] = np.maximum(bars[:, HIGH], close)
    bars[:, LOW] = np.minimum(bars[:, LOW], close)
    lengths = (grid.ends[bar] - days.opens[bar + 1]) // step
    lacking = int((counts < lengths)[whole].sum())
    outside = int((~regular).sum())
    return ResampledBars(grid.ends[bar[whole]], bars[whole], outside, int((~whole).sum()), lacking)


def enclosing_bars(clock: Clock, starts: Instants) -> tuple[Instants, Instants, Mask]:
    """Return start [N] and end [N] of the bar that contains each shorter bar, and a mask [N].

    The mask is False for a shorter bar between sessions; its start and end are those of the next
    bar.

    starts: [N] start times of the shorter bars.
    """
    ends = clock.ends_by_number(clock.count_ended_bars(starts) + 1, starts)
    begun = clock.starts_by_end(ends)
    return begun, ends, starts >= begun


def aggregate_bars(bar_starts: Instants, parts: Array) -> tuple[Index, Array]:
    """Aggregate parts to bars; return the index of each bar's first part [B], and values [B, 5].

    bar_starts: [N] start of each part's bar, non-decreasing.
    parts: [N, 5] prices and volume of the parts.
    """
    first = np.flatnonzero(np.diff(bar_starts, prepend=bar_starts[:1] - DAY))
    last = np.append(first[1:], len(bar_starts))[: len(first)] - 1
    values = np.empty((len(first), parts.shape[1]))
    values[:, OPEN] = parts[first, OPEN]
    values[:, CLOSE] = parts[last, CLOSE]
    if len(first):
        values[:, HIGH] = np.maximum.reduceat(parts[:, HIGH], first)
        values[:, LOW] = np.minimum.reduceat(parts[:, LOW], first)
        values[:, VOLUME] = np.add.reduceat(parts[:, VOLUME], first)
    return first, values


def _refuse_off_grid_starts(starts: Instants, kind: AssetClass, minutes: int, path: str) -> None:
    """Raise `DataError` for a start time that is not on the grid of bars of this length.

    The grid is counted from midnight UTC, for hourly stock bars from the open. Hourly stock bars
    outside the session are not checked.
    """
    misplaced = (starts - _EPOCH) % (minutes * _MINUTE) != np.timedelta64(0)
    if minutes == HOURLY.minutes and kind is AssetClass.STOCK:
        begun, _, within = enclosing_bars(HOURLY.stock_clock, starts)
        misplaced = within & (starts > begun)
    if misplaced.any():
        row = first_true_index(misplaced)
        raise row_error(
            path,
            row,
            f"{format_utc(starts[row])} is not the start of a {minutes}-minute bar, unlike most"
            " rows; keep bars of a single length in a file",
        )
