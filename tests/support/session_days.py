"""The sessions of the exchange's schedule, one bar at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import cast
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
from hypothesis import strategies as st

from trainingdata.timeframe import HOURLY, TIMEFRAMES, Timeframe, TimeframeName

NEW_YORK = ZoneInfo("America/New_York")
HOUR = timedelta(hours=1)
FIRST = datetime(2023, 12, 1, tzinfo=UTC)
LAST = datetime(2025, 2, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Day:
    """One session: its New York date, open, close and bars (start, end)."""

    date: str
    opens: datetime
    closes: datetime
    bars: tuple[tuple[datetime, datetime], ...]

    @property
    def decisions(self) -> list[datetime]:
        """Every end of a bar but the close, which is one where the session is a bar."""
        return [end for _, end in self.bars[:-1] or self.bars]


@cache
def days(timeframe: Timeframe = HOURLY) -> tuple[Day, ...]:
    """The sessions from the end of 2023 to the start of 2025: half-days, long weekends and both
    changes of the clock.
    """
    found = []
    for label, row in (
        exchange_calendars.get_calendar("XNYS").schedule.loc["2023-11-15":"2025-02-15"].iterrows()
    ):
        opens = row["open"].to_pydatetime()
        closes = row["close"].to_pydatetime()
        bars = []
        start = opens
        while start < closes:
            bars.append((start, min(start + length(timeframe), closes)))
            start += length(timeframe)
        found.append(Day(str(label.date()), opens, closes, tuple(bars)))
    return tuple(found)


@cache
def bars(timeframe: Timeframe = HOURLY) -> tuple[tuple[datetime, datetime], ...]:
    return tuple(bar for day in days(timeframe) for bar in day.bars)


@cache
def decisions(timeframe: Timeframe) -> tuple[datetime, ...]:
    return tuple(at for day in days(timeframe) for at in day.decisions)


def length(timeframe: Timeframe) -> timedelta:
    return timedelta(minutes=timeframe.minutes)


def begun(at: datetime, timeframe: Timeframe) -> datetime:
    """When the coin's bar that is under way began."""
    return at - (at - FIRST) % length(timeframe)


def at64(at: datetime) -> np.datetime64:
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "ns")


def all64(*instants: datetime) -> np.ndarray:
    return np.array([at64(at) for at in instants])


# A length that no settings name is held to the same: its name is all that another one takes.
LENGTHS = (*TIMEFRAMES, Timeframe(cast(TimeframeName, "2h")))
frames = st.sampled_from(LENGTHS)


def moments(step: int = 5) -> st.SearchStrategy[datetime]:
    """Instants on a grid of minutes, half of them beside a bar's end, where an off-by-one shows."""
    return st.deferred(lambda: _moments(step))


@cache
def _moments(step: int) -> st.SearchStrategy[datetime]:
    minutes = st.integers(0, int((LAST - FIRST).total_seconds() // 60) // step).map(
        lambda k: FIRST + k * step * HOUR / 60
    )
    ends = st.sampled_from([end for _, end in bars(Timeframe("5m")) if FIRST <= end < LAST])
    beside = st.tuples(ends, st.sampled_from([-1, 0, 1])).map(
        lambda pair: pair[0] + pair[1] * timedelta(minutes=1)
    )
    opens = st.tuples(
        st.sampled_from([d.opens for d in days() if FIRST <= d.opens < LAST]),
        st.sampled_from([-1, 0, 1]),
    ).map(lambda pair: pair[0] + pair[1] * timedelta(minutes=1))
    return st.one_of(minutes, beside, ends, opens)


def day_of(at: datetime, timeframe: Timeframe = HOURLY) -> Day | None:
    """The session that is open at an instant."""
    return next((day for day in days(timeframe) if day.opens <= at < day.closes), None)
