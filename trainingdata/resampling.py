"""Bars of some minutes put together to longer ones.

Stocks' begin at 09:30 New York, the last one ends with the session; coins' lie on their own clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Index, Instants, Mask, first_true
from foundation.errors import DataError
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, no_regular_hours_error, row_error
from trainingdata.instants import DAY, utc_text
from trainingdata.instruments import AssetClass, Instrument
from trainingdata.sessions import calendar
from trainingdata.timeframe import HOURLY, Clock, Timeframe

# Lengths in minutes of which a whole number fills every bar of the grid, the half hour before the
# close as well.
PART_MINUTES = (1, 2, 3, 5, 6, 10, 15, 30)

_MINUTE = np.timedelta64(1, "m")
_A_DAY = int(DAY // _MINUTE)
_EPOCH = np.datetime64(0, "ns")


def part_lengths(timeframe: Timeframe) -> tuple[int, ...]:
    """Lengths in minutes of bars that are put together to those of a timeframe."""
    lengths = (*PART_MINUTES, HOURLY.minutes)
    return tuple(p for p in lengths if p < timeframe.minutes and timeframe.minutes % p == 0)


@dataclass(frozen=True, eq=False, slots=True)
class JoinedBars:
    """Bars made of shorter ones: B bars of N parts.

    times: [B] when each becomes known.
    values: [B, 5] open, high, low, close, volume.
    outside: number of parts outside regular New York hours.
    cut: number of bars left out because the file begins or ends within them.
    lacking: number of bars that lack some of their parts.
    """

    times: Instants
    values: Array
    outside: int
    cut: int
    lacking: int


def usual_minutes(starts: Instants) -> int:
    """The most common distance between starts [N], whole minutes, 1440 for a day and more.

    0 for fewer than two rows, and for rows that mostly do not increase.
    """
    if len(starts) < 2:
        return 0
    minutes = np.diff(starts) // _MINUTE
    return int(np.bincount(np.clip(minutes, 0, _A_DAY)).argmax())


def join_bars(
    starts: Instants, values: Array, item: Instrument, minutes: int, timeframe: Timeframe, path: str
) -> JoinedBars:
    """The bars that checked bars of so many minutes make.

    starts: [N], increasing.
    values: [N, 5].
    minutes: one of `part_lengths(timeframe)`.
    path: where they are from, for messages.

    A part that is missing within the file had no trade, as at the vendors that leave such parts
    out: its bar is whole without it. A bar in which the file begins or ends is not.
    """
    step = minutes * _MINUTE
    _refuse_misplaced(starts, item.kind, minutes, path)
    bar_starts, ends, within = bars_around(timeframe.clock(item.kind), starts)
    if not within.any():
        raise no_regular_hours_error(starts, path)
    # The vendor has no hours but the file's own begin and end to say what it holds.
    whole = within & (bar_starts >= starts[0]) & (ends <= starts[-1] + step)
    cut = len(np.unique(bar_starts[within & ~whole]))
    if not whole.any():
        raise DataError(
            f"{path}: its {minutes}-minute bars fill no {timeframe.unit} from begin to end"
        )
    first, bars = join_parts(bar_starts[whole], values[whole])
    counts = np.diff(np.append(first, np.count_nonzero(whole)))
    lengths = -((bar_starts - ends)[whole][first] // step)
    lacking = int((counts < lengths).sum())
    return JoinedBars(ends[whole][first], bars, int((~within).sum()), cut, lacking)


def join_days_between_closes(
    starts: Instants, values: Array, item: Instrument, minutes: int, timeframe: Timeframe, path: str
) -> JoinedBars:
    """Bars as of `join_between_closes` that checked bars make; the rest as of `join_bars`."""
    _refuse_misplaced(starts, item.kind, minutes, path)
    made = join_between_closes(starts, values, minutes, timeframe)
    if made.outside == len(starts):
        raise no_regular_hours_error(starts, path)
    if not len(made.times):
        raise DataError(
            f"{path}: its {minutes}-minute bars fill no {timeframe.unit} from close to close"
        )
    return made


def join_between_closes(
    starts: Instants, values: Array, minutes: int, timeframe: Timeframe
) -> JoinedBars:
    """A stock's bars from one closing auction to the decision on the next, made of shorter ones.

    A bar opens with the last price of the session before, which its high and low count; one whose
    session before has no part is left out. It holds the parts that have ended by its decision; a
    part that begins before it and ends after it is in no bar, but for its close.

    starts, values: of the parts, [N] increasing and [N, 5].
    """
    step = minutes * _MINUTE
    days, grid = calendar(), timeframe.stock_clock
    session = np.searchsorted(days.opens, starts, side="right") - 1
    regular = (session >= 0) & (starts < days.closes[np.maximum(session, 0)])
    begun, session, parts = starts[regular], session[regular], values[regular]
    # The bar of a session is the one that began with the close of the session before.
    bar = session - 1
    ends = np.minimum(begun + step, days.closes[session])
    known = (bar >= 0) & (ends <= grid.ends[np.maximum(bar, 0)])
    first, bars = join_parts(grid.starts[bar[known]], parts[known])
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
    return JoinedBars(grid.ends[bar[whole]], bars[whole], outside, int((~whole).sum()), lacking)


def bars_around(clock: Clock, starts: Instants) -> tuple[Instants, Instants, Mask]:
    """Begin and end of the bar that ends next, [N] each, and whether a part that starts is in it.

    Between sessions none is.
    """
    ends = clock.end_of(clock.count_ended_bars(starts) + 1, starts)
    begun = clock.started_at(ends)
    return begun, ends, starts >= begun


def join_parts(bar_starts: Instants, parts: Array) -> tuple[Index, Array]:
    """Place of the first part [B], and values [B, 5], of each bar that some parts [N, 5] are of.

    bar_starts: when that of each part starts, [N], not decreasing.
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


def _refuse_misplaced(starts: Instants, kind: AssetClass, minutes: int, path: str) -> None:
    """Refuse a start that is not one of a bar of so many minutes.

    A stock's hours are counted from the open, and those outside the session are not looked at.
    """
    misplaced = (starts - _EPOCH) % (minutes * _MINUTE) != np.timedelta64(0)
    if minutes == HOURLY.minutes and kind is AssetClass.STOCK:
        begun, _, within = bars_around(HOURLY.stock_clock, starts)
        misplaced = within & (starts > begun)
    if misplaced.any():
        row = first_true(misplaced)
        raise row_error(
            path,
            row,
            f"{utc_text(starts[row])} is no start of a {minutes}-minute bar, which most rows are;"
            " give bars of one length",
        )
