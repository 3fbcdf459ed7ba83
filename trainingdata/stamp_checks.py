"""Whether a stock's stamps mean what they say: the begin of a bar, at an instant of their zone.

The exchange's calendar decides. Stamps are doubted only where they miss the begins or the ends of
nearly all sessions, and another reading has nearly all of both: files with hours before and after
the session, with half-days, holes or few rows are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd

from foundation.arrays import Instants
from foundation.errors import DataError
from trainingdata.instants import Unzoned, utc_text
from trainingdata.sessions import stock_grid

# A day's trading, before and after the session included, in hours from New York's midnight.
_EARLY, _LATE = 4, 20
_FEWEST_SESSIONS = 2
_SUMMER_TIME = np.timedelta64(4, "h")  # of New York, behind UTC
_HOURS_OFF = (1, -1, 2, -2, 3, -3)
_NEW_YORK = "America/New_York"
_UTC = "UTC"


@dataclass(frozen=True, slots=True)
class Fit:
    """How well starts of bars fit the exchange's calendar.

    sessions: number of sessions that have any of them.
    trading: share of them on days of a session between 04:00 and 20:00 New York.
    opened: share of the sessions that have a bar at their begin.
    closed: share of the sessions that have a bar up to their end.
    """

    sessions: int
    trading: float
    opened: float
    closed: float

    @property
    def poor(self) -> bool:
        """Whether starts that fit so can hardly be what they are said to be."""
        return self.trading < 0.9 or self.opened < 0.2 or self.closed < 0.2

    @property
    def good(self) -> bool:
        """Whether starts hardly fit so well by chance."""
        enough = self.sessions >= _FEWEST_SESSIONS
        return enough and self.trading >= 0.98 and self.opened >= 0.8 and self.closed >= 0.8


def fit(starts: Instants, minutes: int) -> Fit:
    """How well the starts [N] of a stock's bars of so many minutes fit the calendar."""
    grid = stock_grid()
    step = np.timedelta64(minutes, "m")
    local = _wall(starts, _NEW_YORK).to_numpy("datetime64[ns]")
    dates = local.astype("datetime64[D]")
    day = np.minimum(np.searchsorted(grid.dates, dates), len(grid.dates) - 1)
    hours = (local - dates) / np.timedelta64(1, "h")
    trading = (grid.dates[day] == dates) & (hours >= _EARLY) & (hours < _LATE)
    opens = grid.opens[day]
    closes = grid.closes[day]
    # The last bar of a session begins a whole number of bars after the open, at 15:30 if hourly.
    last = closes - (closes - opens - np.timedelta64(1, "ns")) % step - np.timedelta64(1, "ns")
    sessions = np.unique(day[trading])
    opening = np.unique(day[(starts >= opens) & (starts < opens + step)])
    closing = np.unique(day[(starts >= last) & (starts < closes)])
    count = max(len(sessions), 1)
    return Fit(len(sessions), float(trading.mean()), len(opening) / count, len(closing) / count)


def refuse_misread(starts: Instants, minutes: int, zone: str, unzoned: Unzoned, path: str) -> None:
    """Refuse stamps of a stock that fit the calendar only if they mean something else.

    Parameters
    ----------
    starts
        when each bar starts if the stamps mean what they say, [N].
    minutes
        that a bar lasts, 1 … 60.
    zone
        of the stamps, in words.
    unzoned
        what those without a zone mean.
    path
        where they are from, for messages.

    Raises
    ------
    DataError
        saying what they look like and what to do.
    """
    stated = fit(starts, minutes)
    if stated.poor:
        _refuse_other_meaning(starts, minutes, zone, unzoned, path, stated)
    _refuse_hours_off(starts, minutes, unzoned, path)


def _refuse_other_meaning(
    starts: Instants, minutes: int, zone: str, unzoned: Unzoned, path: str, stated: Fit
) -> None:
    """Refuse stamps that are the ends of bars, or of another clock, or both.

    stated: how they fit as they stand.

    Raises
    ------
    DataError
        saying what they look like and what to do.
    """
    # Ends last: hourly stamps on a clock an hour west of New York's fit as ends on the stated one.
    for ends, clock in product((False, True), (None, *_other_clocks(zone))):
        moved = starts if clock is None else _on_other_clock(starts, _clock_of(zone), clock)
        begins = _begins_of(moved, minutes) if ends else moved
        meant = fit(begins, minutes)
        if meant.good and _from_the_open(begins, minutes):
            seen = _seen(clock, zone, unzoned, ends=ends)
            cures = [] if clock is None else [_clock_cure(clock, zone, unzoned)]
            cures += [_ends_cure(minutes)] if ends else []
            shares = _shares(stated, "read so", meant)
            raise DataError(f"{path}: {seen}: {shares}; {', and '.join(cures)}")


def _refuse_hours_off(starts: Instants, minutes: int, unzoned: Unzoned, path: str) -> None:
    """Refuse stamps that lie whole hours beside the sessions, all year or half of it.

    Raises
    ------
    DataError
        saying when and by how much, and what to do.
    """
    summer = _wall(starts, _NEW_YORK).to_numpy("datetime64[ns]") - starts == -_SUMMER_TIME
    halves = {"": starts, " in summer": starts[summer], " in winter": starts[~summer]}
    for half, part in halves.items():
        if not len(part) or not (stated := fit(part, minutes)).poor:
            continue
        for hours in _HOURS_OFF:
            meant = fit(part + np.timedelta64(hours, "h"), minutes)
            if meant.good:
                off = f"{abs(hours)} h too {'early' if hours > 0 else 'late'}"
                raise DataError(
                    f"{path}: the stamps lie {off}{half}, {utc_text(part[0])} to"
                    f" {utc_text(part[-1])}: {_shares(stated, 'moved', meant)};"
                    f" {_offset_cure(unzoned)}"
                )


def _shares(stated: Fit, change: str, meant: Fit) -> str:
    """The shares of sessions with a first and a last bar, before a change of the stamps and after.

    change: in words.
    """
    return (
        f"as they stand {stated.opened:.0%} of the sessions have their first bar and"
        f" {stated.closed:.0%} their last, {change} {meant.opened:.0%} and {meant.closed:.0%}"
    )


def _offset_cure(unzoned: Unzoned) -> str:
    if unzoned.zone is None:
        return "write them in UTC, 2024-03-04T14:30Z"
    return (
        f"set {unzoned.setting or 'the zone'} to the clock that they were written on"
        " (Etc/GMT+5 is New York's winter time all year), or write them in UTC"
    )


def _from_the_open(begins: Instants, minutes: int) -> bool:
    """Whether most bars inside sessions begin a whole number of bars after the open."""
    grid = stock_grid()
    k = np.minimum(np.searchsorted(grid.closes, begins, side="right"), len(grid.closes) - 1)
    after = (begins - grid.opens[k])[begins >= grid.opens[k]]
    return bool(np.mean(after % np.timedelta64(minutes, "m") == np.timedelta64(0)) > 0.5)


def _other_clocks(zone: str) -> tuple[str, ...]:
    """Clocks that stamps said to be of a zone may show; none where that zone has no clock."""
    said = _clock_of(zone)
    return tuple(clock for clock in (_NEW_YORK, _UTC) if said and clock != said)


def _clock_of(zone: str) -> str:
    """The clock that stamps of a zone show, as a name; empty where they may show several."""
    if zone.split(",")[0] == _UTC:
        return _UTC
    if zone in ("-04:00", "-05:00", "-0400", "-0500"):
        return _NEW_YORK
    return zone if "/" in zone else ""


def _seen(clock: str | None, zone: str, unzoned: Unzoned, *, ends: bool) -> str:
    bars = "the ends of bars"
    if clock is None:
        return f"the stamps look like {bars}"
    both = f", and like {bars}" if ends else ""
    if zone == unzoned.zone:
        return f"read on the clock of {zone} the stamps look wrong, and like that of {clock}{both}"
    written = "written with Z or +00:00" if zone == _UTC else f"written as {zone}"
    return f"the stamps look like the clock of {clock} {written}{both}"


def _clock_cure(clock: str, zone: str, unzoned: Unzoned) -> str:
    setting = unzoned.setting or "the zone"
    if zone == unzoned.zone:
        return f"correct {setting}: {setting}={clock}"
    if clock == _UTC:
        return "write them in UTC, 2024-03-04T14:30Z"
    return f"write them without a zone, 2024-03-04 09:30, and set {setting}={clock}"


def _ends_cure(minutes: int) -> str:
    last = " (30 off the last of a session, 16:00)" if minutes == 60 else ""
    return f"take {minutes} minutes off each{last}: a stamp is the begin of its bar"


def _begins_of(ends: Instants, minutes: int) -> Instants:
    """When bars that end at these instants begin, [N]; the last of a session may be shorter."""
    grid = stock_grid()
    k = np.minimum(np.searchsorted(grid.closes, ends), len(grid.closes) - 1)
    step = np.timedelta64(minutes, "m")
    length = (grid.closes[k] - grid.opens[k]) % step
    shorter = (grid.closes[k] == ends) & (length > np.timedelta64(0))
    return np.asarray(ends - np.where(shorter, length, step))


def _wall(instants: Instants, clock: str) -> pd.DatetimeIndex:
    """What a clock shows at each instant, [N]."""
    return pd.DatetimeIndex(instants).tz_localize("UTC").tz_convert(clock).tz_localize(None)


def _on_other_clock(instants: Instants, clock: str, other: str) -> Instants:
    """The instants at which the other clock shows what a clock shows at these, [N]."""
    zoned = _wall(instants, clock).tz_localize(other, ambiguous="NaT", nonexistent="NaT")
    return np.asarray(zoned.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[ns]"))
