"""Bars of some minutes put together to the hourly bars of the house.

Stocks have hours from 09:30 New York, the last one ends with the session; coins have full hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Index, Instants, first_row
from foundation.errors import DataError
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, no_regular_hour, row_fault
from trainingdata.instants import HOUR, utc_text
from trainingdata.instruments import Kind
from trainingdata.sessions import stock_grid

# Lengths in minutes of which a whole number fills every bar of the grid, the half hour before the
# close as well.
PARTS = (1, 2, 3, 5, 6, 10, 15, 30)

_MINUTE = np.timedelta64(1, "m")
_LONGEST = 1440


@dataclass(frozen=True, eq=False, slots=True)
class Hours:
    """Hourly bars made of shorter ones: H hours of N parts.

    times: [H] when each becomes known.
    values: [H, 5] open, high, low, close, volume.
    outside: number of parts outside regular New York hours.
    cut: number of hours left out because the file begins or ends within them.
    lacking: number of hours that lack some of their parts.
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
    return int(np.bincount(np.clip(minutes, 0, _LONGEST)).argmax())


def hours_of(starts: Instants, values: Array, kind: Kind, minutes: int, path: str) -> Hours:
    """The hours that checked bars of so many minutes make.

    starts: [N], increasing.
    values: [N, 5].
    minutes: one of `PARTS`.
    path: where they are from, for messages.

    A part that is missing within the file had no trade, as at the vendors that leave such parts
    out: its hour is whole without it. An hour in which the file begins or ends is not.

    Raises DataError for a start that is none of a bar of that length, and where no whole hour is
    left.
    """
    step = minutes * _MINUTE
    hour_starts = starts.astype("datetime64[h]").astype("datetime64[ns]")
    misplaced = (starts - hour_starts) % step != np.timedelta64(0)
    if misplaced.any():
        row = first_row(misplaced)
        raise row_fault(
            path,
            row,
            f"{utc_text(starts[row])} is no start of a {minutes}-minute bar, which most rows are;"
            " give bars of one length",
        )
    ends: Instants = np.asarray(hour_starts + HOUR)
    within = np.ones(len(starts), dtype=bool)
    if kind is Kind.STOCK:
        grid = stock_grid()
        k = np.searchsorted(grid.starts, starts, side="right") - 1
        hour_starts, ends = grid.starts[np.maximum(k, 0)], grid.ends[np.maximum(k, 0)]
        within = (k >= 0) & (starts < ends)
        if not within.any():
            raise no_regular_hour(starts, path)
    # The vendor has no hours but the file's own begin and end to say what it holds.
    whole = within & (hour_starts >= starts[0]) & (ends <= starts[-1] + step)
    cut = len(np.unique(hour_starts[within & ~whole]))
    if not whole.any():
        raise DataError(f"{path}: its {minutes}-minute bars fill no hour from begin to end")
    counts, bars = joined(hour_starts[whole], values[whole])
    first = np.cumsum(counts) - counts
    lengths = (ends[whole] - hour_starts[whole])[first] // step
    lacking = int((counts < lengths).sum())
    return Hours(ends[whole][first], bars, int((~within).sum()), cut, lacking)


def joined(hours: Instants, parts: Array) -> tuple[Index, Array]:
    """Number of parts [H] and values [H, 5] of each hour that some parts [N, 5] are of.

    hours: when that of each part starts, [N], not decreasing.
    """
    first = np.flatnonzero(np.diff(hours, prepend=hours[:1] - HOUR))
    last = np.append(first[1:], len(hours))[: len(first)] - 1
    values = np.empty((len(first), parts.shape[1]))
    values[:, OPEN] = parts[first, OPEN]
    values[:, CLOSE] = parts[last, CLOSE]
    if len(first):
        values[:, HIGH] = np.maximum.reduceat(parts[:, HIGH], first)
        values[:, LOW] = np.minimum.reduceat(parts[:, LOW], first)
        values[:, VOLUME] = np.add.reduceat(parts[:, VOLUME], first)
    return np.asarray(last - first + 1, dtype=np.int64), values
