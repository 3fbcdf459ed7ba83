"""Checks of a stock's timestamps against the exchange calendar: time zone and side of the bar.

Timestamps are rejected only if two conditions hold, for the whole year, for summer or for winter.
First, they miss the start or the end of nearly all sessions. Second, timestamps shifted by hours,
or read as the other side of bars, match nearly all starts and ends. So files with hours before and
after the session, with half-days, gaps or few rows are accepted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from foundation.arrays import Instants
from foundation.errors import DataError
from trainingdata.instants import HOUR, new_york_date, new_york_minutes_of_day
from trainingdata.instruments import AssetClass
from trainingdata.sessions import exchange_calendar

# Hours of trade, before and after the session included, in minutes after New York's midnight.
_EARLY, _LATE = 4 * 60, 20 * 60
_MIN_SESSIONS = 2
# Differences of zones from New York's in hours, Auckland's the largest; the smallest first.
_ZONE_OFFSETS_HOURS = sorted(range(-18, 19), key=abs)
# Shares of sessions with a stamp at the open or the close that distinguish begins from ends.
_SELDOM, _MOSTLY = 0.2, 0.5
_SIDES = {True: "ends of bars", False: "starts of bars"}
_COLUMNS = {True: "end", False: "timestamp"}


@dataclass(frozen=True, slots=True)
class CalendarFit:
    """Fit of a stock's bar start times to the exchange calendar.

    session_count: number of sessions with any bar.
    extended_hours_share: share of bar starts between 04:00 and 20:00 New York on session days.
    open_share: share of sessions with a bar at the open.
    close_share: share of sessions with a bar up to the close.
    on_grid_share: share of bar starts within sessions that lie a whole number of bars after the
        open.
    """

    session_count: int
    extended_hours_share: float
    open_share: float
    close_share: float
    on_grid_share: float

    @property
    def is_implausible(self) -> bool:
        """True if the assumed time zone and side of the bar are implausible."""
        return self.extended_hours_share < 0.9 or self.open_share < 0.2 or self.close_share < 0.2

    @property
    def is_conclusive(self) -> bool:
        """True if the fit is too good to be due to chance."""
        enough = self.session_count >= _MIN_SESSIONS and self.on_grid_share > 0.5
        return (
            enough
            and self.extended_hours_share >= 0.98
            and self.open_share >= 0.8
            and self.close_share >= 0.8
        )


def fit_to_calendar(starts: Instants, minutes: int) -> CalendarFit:
    """Measure how well a stock's bar starts [N] fit the exchange's calendar.

    minutes: length of a bar.
    """
    days = exchange_calendar()
    step = np.timedelta64(minutes, "m")
    dates = new_york_date(starts)
    day = np.minimum(np.searchsorted(days.dates, dates), len(days.dates) - 1)
    time = new_york_minutes_of_day(starts)
    trading = (days.dates[day] == dates) & (time >= _EARLY) & (time < _LATE)
    opens = days.opens[day]
    closes = days.closes[day]
    # The last bar of a session begins a whole number of bars after the open, at 15:30 if hourly.
    last = closes - (closes - opens - np.timedelta64(1, "ns")) % step - np.timedelta64(1, "ns")
    inside = (starts >= opens) & (starts < closes)
    sessions = np.unique(day[trading])
    opening = np.unique(day[inside & (starts < opens + step)])
    closing = np.unique(day[inside & (starts >= last)])
    count = max(len(sessions), 1)
    on_grid = np.mean((starts - opens)[inside] % step == 0 * step) if inside.any() else 0.0
    shares = len(opening) / count, len(closing) / count, float(on_grid)
    return CalendarFit(len(sessions), float(trading.mean()), *shares)


def bar_starts_from_ends(kind: AssetClass, ends: Instants, minutes: int) -> Instants:
    """Return the start times of bars that end at these instants, [N].

    A stock's last bar of a session may be shorter.

    ends: [N] end times of the bars.
    minutes: length of a bar.
    """
    step = np.timedelta64(minutes, "m")
    if kind is AssetClass.CRYPTO:
        return np.asarray(ends - step)
    days = exchange_calendar()
    k = np.minimum(np.searchsorted(days.closes, ends), len(days.closes) - 1)
    length = (days.closes[k] - days.opens[k]) % step
    shorter = (days.closes[k] == ends) & (length > np.timedelta64(0))
    return np.asarray(ends - np.where(shorter, length, step))


def refuse_misread_timestamps(
    stamps: Instants, minutes: int, zone: str, path: str, *, are_ends: bool
) -> None:
    """Raise `DataError` for stock timestamps [N] that fit only another time zone or side of a bar.

    minutes: length of a bar, 1 … 60.
    zone: assumed time zone of the timestamps, as text.
    path: path of the file, for messages.
    are_ends: whether timestamps are assumed to be the ends of bars, not the starts.
    """

    def fit_by_side(rows: Instants, ends: bool) -> CalendarFit:
        return fit_to_calendar(
            bar_starts_from_ends(AssetClass.STOCK, rows, minutes) if ends else rows, minutes
        )

    # Noon of UTC is 08:00 of New York's summer.
    noons = np.asarray(stamps.astype("datetime64[D]") + 12 * HOUR, dtype="datetime64[ns]")
    summer = new_york_minutes_of_day(noons) == 8 * 60
    for half, which in (("", summer | True), (" in summer", summer), (" in winter", ~summer)):
        rows = stamps[which]
        if not len(rows) or not fit_by_side(rows, are_ends).is_implausible:
            continue
        for side, hours in product((are_ends, not are_ends), _ZONE_OFFSETS_HOURS):
            if fit_by_side(rows + hours * HOUR, side).is_conclusive:
                off = f" {abs(hours)} h {'later' if hours > 0 else 'earlier'}" if hours else ""
                cures = [] if side is are_ends else [f"rename their column to {_COLUMNS[side]}"]
                if hours:
                    cures.append(
                        "write them in UTC (2024-03-04T14:30Z), or without a time zone and set"
                        " data.zone to the file's (Etc/GMT+5: New York's winter time all year)"
                    )
                raise DataError(
                    f"{path}: timestamps do not match New York trading hours{half} as"
                    f" {_SIDES[are_ends]} in {zone}, but do as {_SIDES[side]}{off};"
                    f" {', and '.join(cures)}"
                )


def infer_stamps_are_ends(stamps: Instants) -> bool | None:
    """Infer whether a stock's timestamps [N] are ends of bars; None if the calendar cannot tell.

    In regular hours, start timestamps include the open and never the close; end timestamps the
    reverse.
    """
    days = exchange_calendar()
    day = np.clip(np.searchsorted(days.dates, new_york_date(stamps)), 0, len(days.dates) - 1)
    sessions = max(len(np.unique(day)), 1)
    opens = np.count_nonzero(stamps == days.opens[day]) / sessions
    closes = np.count_nonzero(stamps == days.closes[day]) / sessions
    if min(opens, closes) > _SELDOM or max(opens, closes) < _MOSTLY:
        return None
    return bool(closes > opens)
