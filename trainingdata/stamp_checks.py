"""Whether a stock's stamps mean what they say: one side of a bar, at an instant of their zone.

The exchange's calendar decides. Stamps are doubted only where they miss the begins or the ends of
nearly all sessions, and another reading has nearly all of both: files with hours before and after
the session, with half-days, holes or few rows are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from foundation.arrays import Instants
from foundation.errors import DataError
from trainingdata.instants import Unzoned
from trainingdata.instruments import Kind
from trainingdata.sessions import calendar

# A day's trading, before and after the session included, in hours from New York's midnight.
_EARLY, _LATE = 4, 20
_FEWEST_SESSIONS = 2
_SUMMER_TIME = np.timedelta64(4, "h")  # of New York, behind UTC
_HOURS_OFF = (1, -1, 2, -2, 3, -3)
_SIDES = {True: "the ends of bars", False: "the begins of bars"}
_COLUMNS = {True: "end", False: "timestamp"}
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
    days = calendar()
    step = np.timedelta64(minutes, "m")
    local = _wall(starts, _NEW_YORK).to_numpy("datetime64[ns]")
    dates = local.astype("datetime64[D]")
    day = np.minimum(np.searchsorted(days.dates, dates), len(days.dates) - 1)
    hours = (local - dates) / np.timedelta64(1, "h")
    trading = (days.dates[day] == dates) & (hours >= _EARLY) & (hours < _LATE)
    opens = days.opens[day]
    closes = days.closes[day]
    # The last bar of a session begins a whole number of bars after the open, at 15:30 if hourly.
    last = closes - (closes - opens - np.timedelta64(1, "ns")) % step - np.timedelta64(1, "ns")
    sessions = np.unique(day[trading])
    opening = np.unique(day[(starts >= opens) & (starts < opens + step)])
    closing = np.unique(day[(starts >= last) & (starts < closes)])
    count = max(len(sessions), 1)
    return Fit(len(sessions), float(trading.mean()), len(opening) / count, len(closing) / count)


def begun_at(kind: Kind, ends: Instants, minutes: int) -> Instants:
    """When bars of so many minutes that end at these instants begin, [N].

    A stock's last bar of a session may be shorter.
    """
    step = np.timedelta64(minutes, "m")
    if kind is Kind.CRYPTO:
        return np.asarray(ends - step)
    days = calendar()
    k = np.minimum(np.searchsorted(days.closes, ends), len(days.closes) - 1)
    length = (days.closes[k] - days.opens[k]) % step
    shorter = (days.closes[k] == ends) & (length > np.timedelta64(0))
    return np.asarray(ends - np.where(shorter, length, step))


@dataclass(frozen=True, slots=True)
class Reading:
    """What the stamps of a stock's bars are said to be.

    minutes: that a bar lasts, 1 … 60.
    zone: of the stamps, in words.
    ends: whether they are the ends of bars, not the begins.
    """

    minutes: int
    zone: str
    ends: bool = False

    def starts(self, stamps: Instants) -> Instants:
        """When bars with these stamps begin, [N]."""
        return begun_at(Kind.STOCK, stamps, self.minutes) if self.ends else stamps


def refuse_misread(stamps: Instants, said: Reading, unzoned: Unzoned, path: str) -> None:
    """Refuse stamps [N] of a stock that fit the calendar only if they mean something else.

    said: what they are said to be.
    unzoned: what those without a zone mean.
    path: where they are from, for messages.
    """
    place = f"{path}: read as {_SIDES[said.ends]} on the clock of {said.zone}, its stamps"
    starts = said.starts(stamps)
    if fit(starts, said.minutes).poor:
        _refuse_other_meaning(stamps, said, unzoned, place)
    summer = _wall(starts, _NEW_YORK).to_numpy("datetime64[ns]") - starts == -_SUMMER_TIME
    for half, rows in (("", summer | True), (" in summer", summer), (" in winter", ~summer)):
        if not rows.any() or not fit(starts[rows], said.minutes).poor:
            continue
        for hours in _HOURS_OFF:
            moved = said.starts(stamps[rows] + np.timedelta64(hours, "h"))
            if fit(moved, said.minutes).good:
                off = f"{abs(hours)} h too {'early' if hours > 0 else 'late'}"
                raise DataError(
                    f"{place} lie {off} for New York's sessions{half}; write them in UTC,"
                    f" 2024-03-04T14:30Z, or without a zone and set {unzoned.setting or 'the zone'}"
                    " to the clock they were written on (Etc/GMT+5: New York's winter all year)"
                )


def _refuse_other_meaning(stamps: Instants, said: Reading, unzoned: Unzoned, place: str) -> None:
    """Refuse stamps that are the other side of bars, or of another clock, or both."""
    # The other side of a bar last: hourly stamps on a clock an hour west of New York's fit as ends
    # on the stated one.
    for ends, clock in product((said.ends, not said.ends), (None, *_other_clocks(said.zone))):
        moved = stamps if clock is None else _on_other_clock(stamps, _clock_of(said.zone), clock)
        begins = replace(said, ends=ends).starts(moved)
        if fit(begins, said.minutes).good and _from_the_open(begins, said.minutes):
            setting = unzoned.setting or "the zone"
            local = f"write them in UTC, or without a zone and set {setting}={clock}"
            cures = [] if clock is None else [local]
            cures += [] if ends is said.ends else [f"call their column {_COLUMNS[ends]}"]
            raise DataError(
                f"{place} miss New York's sessions, which they fit as {_SIDES[ends]} on the clock"
                f" of {clock or said.zone}; {', and '.join(cures)}"
            )


def _from_the_open(begins: Instants, minutes: int) -> bool:
    """Whether most bars inside sessions begin a whole number of bars after the open."""
    days = calendar()
    k = np.minimum(np.searchsorted(days.closes, begins, side="right"), len(days.closes) - 1)
    after = (begins - days.opens[k])[begins >= days.opens[k]]
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


def _wall(instants: Instants, clock: str) -> pd.DatetimeIndex:
    """What a clock shows at each instant, [N]."""
    return pd.DatetimeIndex(instants).tz_localize("UTC").tz_convert(clock).tz_localize(None)


def _on_other_clock(instants: Instants, clock: str, other: str) -> Instants:
    """The instants at which the other clock shows what a clock shows at these, [N]."""
    zoned = _wall(instants, clock).tz_localize(other, ambiguous="NaT", nonexistent="NaT")
    return np.asarray(zoned.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[ns]"))
