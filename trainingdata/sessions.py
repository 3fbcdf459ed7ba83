"""When bars become known, when decisions are made and how much of a symbol's open time lies between
two instants.

Stocks follow the New York calendar (`exchange_calendars`, XNYS): regular bars start at the open and
every hour after it, the last one ends with the session, on half-days too. Crypto bars start every
full hour. All instants are UTC `datetime64[ns]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from foundation.arrays import Array, Instants
from foundation.errors import InputError
from trainingdata.instruments import Kind

Holding = Literal["next", "session", "plan"]

NEW_YORK = ZoneInfo("America/New_York")
HOUR = np.timedelta64(1, "h")
DAY = np.timedelta64(1, "D")
FULL_SESSION = np.timedelta64(390, "m")
CALENDAR_START = "2000-01-01"
BARS_A_YEAR = {Kind.STOCK: 252 * 7, Kind.CRYPTO: 8766}
BARS_A_DAY = {Kind.STOCK: 7, Kind.CRYPTO: 24}
_NEVER = np.datetime64("NaT", "ns")


@dataclass(frozen=True, eq=False, slots=True)
class StockGrid:
    """Every regular session and bar the calendar knows.

    starts, ends, session [N]: the bars and the session each belongs to. opens, closes, dates [D]:
    the sessions. decisions, decision_session [K]: ends of bars that are followed by another one of
    the same session.
    """

    starts: Instants
    ends: Instants
    session: npt.NDArray[np.int64]
    opens: Instants
    closes: Instants
    dates: npt.NDArray[np.datetime64]
    decisions: Instants
    decision_session: npt.NDArray[np.int64]


@cache
def stock_grid() -> StockGrid:
    """The New York grid of regular hourly bars."""
    import exchange_calendars

    calendar = exchange_calendars.get_calendar("XNYS", start=CALENDAR_START)
    opens = calendar.opens.to_numpy("datetime64[ns]")
    closes = calendar.closes.to_numpy("datetime64[ns]")
    counts = -((opens - closes) // HOUR)
    session = np.repeat(np.arange(len(opens)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    starts = opens[session] + (np.arange(len(session)) - first) * HOUR
    ends = np.minimum(starts + HOUR, closes[session])
    dates = calendar.sessions.to_numpy("datetime64[D]")
    followed = np.append(session[1:] == session[:-1], False)
    return StockGrid(starts, ends, session, opens, closes, dates, ends[followed], session[followed])


def known_at(kind: Kind, starts: Instants) -> Instants:
    """When bars with these start stamps become known, [N]; NaT where no regular bar starts then.

    A stock's bar lasts an hour, the last of a session until its close; a coin's bar lasts an hour.
    """
    if kind is Kind.CRYPTO:
        return np.where(_on_the_hour(starts), starts + HOUR, _NEVER)
    grid = stock_grid()
    k = np.minimum(np.searchsorted(grid.starts, starts), len(grid.starts) - 1)
    return np.where(grid.starts[k] == starts, grid.ends[k], _NEVER)


def last_known(kind: Kind, now: np.datetime64) -> np.datetime64:
    """When the last bar that can be known at `now` became so."""
    if kind is Kind.CRYPTO:
        hour: np.datetime64 = now.astype("datetime64[h]").astype("datetime64[ns]")
        return hour
    ends = stock_grid().ends
    return np.datetime64(ends[int(np.searchsorted(ends, now, side="right")) - 1])


def in_session(starts: Instants) -> npt.NDArray[np.bool_]:
    """Whether each instant lies within regular New York hours, the close excluded."""
    grid = stock_grid()
    k = np.searchsorted(grid.opens, starts, side="right") - 1
    return np.asarray((k >= 0) & (starts < grid.closes[np.maximum(k, 0)]))


def is_decision(kind: Kind, instants: Instants) -> npt.NDArray[np.bool_]:
    """Whether a decision for this kind may be made: a bar has just closed and the next one
    starts.
    """
    if kind is Kind.CRYPTO:
        return _on_the_hour(instants)
    decisions = stock_grid().decisions
    k = np.minimum(np.searchsorted(decisions, instants), len(decisions) - 1)
    return np.asarray(decisions[k] == instants)


def holding_end(kind: Kind, now: np.datetime64, holding: Holding = "next") -> np.datetime64:
    """End of the holding interval of a decision at `now`, and of a plan's first block: the next
    decision that can change it.

    `session` moves it to the same decision of the next session (its last one where that session is
    shorter), and to 24 hours later for a coin.
    """
    if kind is Kind.CRYPTO:
        hour: np.datetime64 = now.astype("datetime64[h]").astype("datetime64[ns]")
        return hour + (24 * HOUR if holding == "session" else HOUR)
    grid = stock_grid()
    k = int(np.searchsorted(grid.decisions, now, side="right"))
    if k >= len(grid.decisions) - 10:
        raise _beyond_calendar(now)
    if holding != "session":
        return np.datetime64(grid.decisions[k])
    here = int(grid.decision_session[k - 1])
    first, following, after = np.searchsorted(grid.decision_session, (here, here + 1, here + 2))
    return np.datetime64(grid.decisions[min(following + (k - 1 - first), after - 1)])


def stays_open(now: np.datetime64) -> bool:
    """Whether the stock market is open at `now` and a later decision of the session can still cut
    the book for the night.

    While it can, the intraday ceiling holds; from the session's last decision until the next open,
    the overnight one. On a shortened session the cut is made at the last decision but one: feeds
    often lack the half hour that would fill the last.
    """
    grid = stock_grid()
    k = int(np.searchsorted(grid.opens, now, side="right")) - 1
    if k < 0:
        return False
    shortened = grid.closes[k] - grid.opens[k] < FULL_SESSION
    after = int(np.searchsorted(grid.decision_session, k, side="right"))
    return bool(now < grid.decisions[after - (2 if shortened else 1)])


def bar_position(kind: Kind, instants: Instants) -> Array:
    """Bars of this kind that have elapsed by each instant, fractional within a bar, unmoving
    while the market is shut.
    """
    if kind is Kind.CRYPTO:
        return np.asarray((instants - np.datetime64(0, "h")) / HOUR)
    grid = stock_grid()
    done = np.searchsorted(grid.ends, instants, side="right")
    k = np.minimum(done, len(grid.starts) - 1)
    share = (instants - grid.starts[k]) / (grid.ends[k] - grid.starts[k])
    return np.asarray(done + np.clip(share, 0.0, 1.0) * (done < len(grid.starts)))


def shared_news(begin: Instants, end: Instants) -> Array:
    """How much of what moves stocks and coins in each interval they have in common, [T]: |A ∩ B| /
    √(|A|·|B|), 0 … 1.

    B, a coin's time, is the interval. A, a stock's, reaches from its begin, or from the close
    before where the market opens within it (the first price holds all the news since), to its end,
    or the last close in it. Over an hour of the session, or a night from afternoon to morning, they
    are the same; in the hour of the open a coin has moved on most of that news before.
    """
    grid = stock_grid()
    first = np.searchsorted(grid.opens, begin, side="right") - 1
    inside = (first >= 0) & (begin < grid.closes[np.maximum(first, 0)])
    last = np.searchsorted(grid.opens, end, side="left") - 1
    until = np.minimum(end, grid.closes[np.maximum(last, 0)])
    since = np.where(inside, begin, grid.closes[np.maximum(first, 0)])
    moves = (last >= 0) & (inside | (last > first))
    spans = ((until - since) / HOUR) * ((end - begin) / HOUR)
    common = np.maximum((until - begin) / HOUR, 0.0)
    return np.asarray(
        np.divide(common, np.sqrt(spans), out=np.zeros(len(begin)), where=moves & (spans > 0))
    )


@cache
def _places() -> npt.NDArray[np.int8]:
    """The number of every bar of the grid within its session."""
    session = stock_grid().session
    return (np.arange(len(session)) - np.searchsorted(session, session)).astype(np.int8)


def bar_slots(kind: Kind, instants: Instants, ahead: int) -> npt.NDArray[np.int8]:
    """Place in its day of the bar that ends at each instant and of the `ahead` bars after it, [N, 1
    + ahead].

    A stock's is its number within the session, 0 for the bar that holds the night; a coin's is the
    New York hour it starts in. Bars after are those of the calendar.
    """
    if kind is Kind.CRYPTO:
        if not len(instants):
            return np.empty((0, 1 + ahead), dtype=np.int8)
        first = instants.min() - HOUR
        last = instants.max() + ahead * HOUR
        local = (
            pd.DatetimeIndex(np.arange(first, last, HOUR)).tz_localize("UTC").tz_convert(NEW_YORK)
        )
        hours = local.hour.to_numpy(dtype=np.int8)
        k = ((instants - HOUR - first) // HOUR).astype(np.int64)
        return np.asarray(hours[k[:, None] + np.arange(1 + ahead)])
    place = _places()
    k = np.searchsorted(stock_grid().ends, instants)
    if len(k) and k.max() + ahead >= len(place):
        raise _beyond_calendar(instants.max())
    return np.asarray(place[k[:, None] + np.arange(1 + ahead)])


def bars_after(kind: Kind, instants: Instants, ahead: int) -> Instants:
    """When the `ahead` bars after those that end at each instant become known, by the calendar,
    [N, ahead].
    """
    steps = np.arange(1, 1 + ahead)
    if kind is Kind.CRYPTO:
        return np.asarray(instants[:, None] + steps * HOUR)
    grid = stock_grid()
    k = np.searchsorted(grid.ends, instants)
    if len(k) and k.max() + ahead >= len(grid.ends):
        raise _beyond_calendar(instants.max())
    return np.asarray(grid.ends[k[:, None] + steps])


def bars_later(kind: Kind, instants: Instants, ahead: int) -> Instants:
    """When the `ahead`-th bar of the calendar that ends after each instant becomes known, [N]."""
    if kind is Kind.CRYPTO:
        return np.asarray(instants.astype("datetime64[h]").astype("datetime64[ns]") + ahead * HOUR)
    ends = stock_grid().ends
    k = np.searchsorted(ends, instants, side="right") + ahead - 1
    if len(k) and k.max() >= len(ends):
        raise _beyond_calendar(instants.max())
    return np.asarray(ends[k])


def week_before(instants: Instants) -> Instants:
    """The last Friday, 16:00 New York, at or before each instant: what is learned once a week
    is learned then.
    """
    marks = _afternoons()
    fridays = marks[new_york_date(marks).astype(np.int64) % 7 == 1]  # 1970-01-02 was a Friday
    k = np.searchsorted(fridays, instants, side="right") - 1
    if len(k) and k.min() < 0:
        raise _beyond_calendar(instants.min())
    return np.asarray(fridays[k])


def started_at(kind: Kind, ends: Instants) -> Instants:
    """When the bars that become known at these instants started, [N]: the inverse of
    `known_at`; NaT where none does.
    """
    if kind is Kind.CRYPTO:
        return np.where(_on_the_hour(ends), ends - HOUR, _NEVER)
    grid = stock_grid()
    k = np.minimum(np.searchsorted(grid.ends, ends), len(grid.ends) - 1)
    return np.where(grid.ends[k] == ends, grid.starts[k], _NEVER)


def nights_between(instants: Instants) -> npt.NDArray[np.int64]:
    """[N] nights for which a debit is carried from sessions that closed since the instant
    before: Friday counts three.
    """
    return nights_until(np.concatenate([instants[:1], instants[:-1]]), instants)


def nights_until(begin: Instants, end: Instants) -> npt.NDArray[np.int64]:
    """[N] nights for which a debit is carried from sessions that close after `begin`, up to
    `end`: Friday counts three.
    """
    grid = stock_grid()
    closed = [np.searchsorted(grid.closes, instants, side="right") for instants in (begin, end)]
    if len(end) and closed[1].max() >= len(grid.dates):
        raise _beyond_calendar(end.max())
    dates = grid.dates.astype("datetime64[D]").astype(np.int64)
    return np.asarray(dates[closed[1]] - dates[closed[0]])


def sessions_opened(instants: Instants) -> npt.NDArray[np.bool_]:
    """[N] whether a session has opened since the instant before."""
    number = np.searchsorted(stock_grid().opens, instants, side="right")
    return np.concatenate([[False], np.diff(number) > 0])[: len(instants)]


def session_open(date: np.datetime64) -> np.datetime64 | None:
    """When the first session on or after a New York date opens; None beyond the calendar."""
    grid = stock_grid()
    k = int(np.searchsorted(grid.dates, date))
    return np.datetime64(grid.opens[k]) if k < len(grid.dates) else None


@dataclass(frozen=True, slots=True)
class Session:
    """A regular session. before: the date of the one before it."""

    date: np.datetime64
    before: np.datetime64
    opens: np.datetime64
    closes: np.datetime64

    @property
    def whole(self) -> bool:
        """Whether it is no half-day."""
        return bool(self.closes - self.opens == FULL_SESSION)


def session_of(date: np.datetime64) -> Session | None:
    """The session of a New York date; None where there is none."""
    grid = stock_grid()
    k = int(np.searchsorted(grid.dates, date))
    if not 0 < k < len(grid.dates) or grid.dates[k] != date:
        return None
    days = grid.dates[[k, k - 1]]
    hours = (grid.opens[k], grid.closes[k])
    return Session(*(np.datetime64(each) for each in (*days, *hours)))


def sessions_between(first: np.datetime64, last: np.datetime64) -> npt.NDArray[np.datetime64]:
    """Session dates (New York, `datetime64[D]`) in [first, last]."""
    dates = stock_grid().dates
    return np.asarray(dates[(dates >= first) & (dates <= last)])


def four_pm(dates: npt.NDArray[np.datetime64]) -> Instants:
    """16:00 New York on each date, as UTC instants."""
    local = pd.DatetimeIndex(dates.astype("datetime64[ns]")) + pd.Timedelta(hours=16)
    return np.asarray(
        local.tz_localize(NEW_YORK).tz_convert("UTC").tz_localize(None).to_numpy("datetime64[ns]")
    )


def last_four_pm(now: np.datetime64) -> np.datetime64:
    """The last 16:00 New York at or before `now`, on any calendar day."""
    marks = _afternoons()
    k = int(np.searchsorted(marks, now, side="right"))
    if not 0 < k < len(marks):
        raise _beyond_calendar(now)
    return np.datetime64(marks[k - 1])


def last_four_pms(instants: Instants) -> Instants:
    """The same of every instant."""
    return np.array([last_four_pm(now) for now in instants], dtype="datetime64[ns]")


@cache
def _afternoons() -> Instants:
    """16:00 New York of every calendar day between the calendar's first and last session."""
    dates = stock_grid().dates
    return four_pm(np.arange(dates[0], dates[-1] + DAY))


def new_york_date(instants: Instants) -> npt.NDArray[np.datetime64]:
    """The New York calendar date of each instant, `datetime64[D]`."""
    changes, offsets = _new_york_clock()
    local = instants + offsets[np.searchsorted(changes, instants, side="right")]
    return np.asarray(local.astype("datetime64[D]"))


@cache
def _new_york_clock() -> tuple[Instants, npt.NDArray[np.timedelta64]]:
    """Instants at which New York changes its offset from UTC, and the offsets before, between
    and after them.
    """
    hours = pd.date_range("1970-01-01", "2100-01-01", freq="h", tz="UTC")
    offsets = (
        hours.tz_convert(NEW_YORK).tz_localize(None).to_numpy() - hours.tz_localize(None).to_numpy()
    )
    changed = np.flatnonzero(np.diff(offsets)) + 1
    stamps = hours.tz_localize(None).to_numpy("datetime64[ns]")[changed]
    return stamps, np.append(offsets[0], offsets[changed])


def instant(text: Any, *, name: str, end_of_day: bool = False) -> np.datetime64:
    """A date (New York, midnight, or the following midnight for an inclusive end) or an instant
    with a zone, as UTC.

    Raises
    ------
    InputError
        naming `name`, if the text is neither.
    """
    try:
        stamp = pd.Timestamp(str(text))
    except ValueError:
        stamp = None
    if pd.isna(stamp):
        raise InputError(f"{name}: {text!r} is no date (YYYY-MM-DD) and no instant with a zone")
    if stamp.tzinfo is None:
        if stamp != stamp.normalize():
            raise InputError(
                f"{name}: {text!r} has a time but no zone; write it as 2024-10-01T15:30Z"
            )
        if end_of_day:
            stamp += pd.Timedelta(days=1)
        stamp = stamp.tz_localize(NEW_YORK)
        if end_of_day:
            stamp -= pd.Timedelta(1, "ns")
    try:
        return np.datetime64(
            stamp.tz_convert("UTC").tz_localize(None).as_unit("ns").to_datetime64()
        )
    except pd.errors.OutOfBoundsDatetime:
        raise InputError(f"{name}: {text!r} is no instant between 1678 and 2262") from None


def system_clock() -> np.datetime64:
    """This machine's clock, UTC."""
    return np.datetime64(datetime.now(UTC).replace(tzinfo=None), "ns")


def stamp(at: np.datetime64) -> str:
    """20240305T173000Z: an instant in a name."""
    return str(at.astype("datetime64[s]")).replace("-", "").replace(":", "") + "Z"


def utc_text(at: np.datetime64) -> str:
    """An instant as messages write it: 2024-10-01T15:30Z."""
    return f"{np.datetime_as_string(at, unit='m')}Z"


def _beyond_calendar(now: np.datetime64) -> InputError:
    dates = stock_grid().dates
    return InputError(
        f"{utc_text(now)} lies outside the exchange calendar ({dates[0]} to {dates[-1]}); update"
        " exchange_calendars"
    )


def _on_the_hour(instants: Instants) -> npt.NDArray[np.bool_]:
    return np.asarray(instants.astype("datetime64[h]") == instants)
