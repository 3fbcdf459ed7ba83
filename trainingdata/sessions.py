"""The exchange's calendar: when bars become known, when decisions are made, when nights pass.

Stocks follow the New York calendar (`exchange_calendars`, XNYS): regular bars start at the open and
every hour after it, the last one ends with the session, on half-days too. Crypto bars start every
full hour. All instants are UTC `datetime64[ns]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from foundation.arrays import Array, Index, Instants, first_row
from foundation.errors import InputError
from trainingdata.instants import (
    DAY,
    HOUR,
    NEW_YORK,
    four_pm,
    hour_begun,
    new_york_date,
    on_the_hour,
    utc_text,
)
from trainingdata.instruments import Kind

Holding = Literal["next", "session", "plan"]

FULL_SESSION = np.timedelta64(390, "m")
CALENDAR_START = "2000-01-01"
BARS_A_YEAR = {Kind.STOCK: 252 * 7, Kind.CRYPTO: 8766}
BARS_A_DAY = {Kind.STOCK: 7, Kind.CRYPTO: 24}
PLACES = {Kind.STOCK: 7, Kind.CRYPTO: 48}  # that `bar_slots` tells apart
_NEVER = np.datetime64("NaT", "ns")
_EPOCH = np.datetime64(0, "ns")


@dataclass(frozen=True, eq=False, slots=True)
class StockGrid:
    """Every regular session and bar the calendar knows: D sessions, N bars, K decisions.

    starts: [N] when each bar starts.
    ends: [N] when it ends and becomes known.
    session: [N] number of the session it belongs to.
    opens: [D] when each session opens.
    closes: [D] when it closes.
    dates: [D] its New York date.
    decisions: [K] ends of bars that are followed by another one of the same session.
    decision_session: [K] number of the session of each decision.
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
    dates = calendar.sessions.to_numpy("datetime64[D]")
    # Six and a half hours make seven bars: the floor of a negative quotient rounds up.
    counts = -((opens - closes) // HOUR)
    session = np.repeat(np.arange(len(opens)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    starts = opens[session] + (np.arange(len(session)) - first) * HOUR
    ends = np.minimum(starts + HOUR, closes[session])
    # Nothing is decided at the close: no bar of the session is left to fill an order in.
    followed = np.append(session[1:] == session[:-1], False)
    return StockGrid(starts, ends, session, opens, closes, dates, ends[followed], session[followed])


def known_at(kind: Kind, starts: Instants) -> Instants:
    """When bars with these start stamps become known, [N]; NaT where no regular bar starts then.

    A stock's bar lasts an hour, the last of a session until its close; a coin's bar lasts an hour.
    """
    if kind is Kind.CRYPTO:
        return np.where(on_the_hour(starts), starts + HOUR, _NEVER)
    grid = stock_grid()
    k = np.minimum(np.searchsorted(grid.starts, starts), len(grid.starts) - 1)
    return np.where(grid.starts[k] == starts, grid.ends[k], _NEVER)


def started_at(kind: Kind, ends: Instants) -> Instants:
    """When the bars that become known at these instants started, [N]; NaT where none does.

    The inverse of `known_at`.
    """
    if kind is Kind.CRYPTO:
        return np.where(on_the_hour(ends), ends - HOUR, _NEVER)
    grid = stock_grid()
    k = np.minimum(np.searchsorted(grid.ends, ends), len(grid.ends) - 1)
    return np.where(grid.ends[k] == ends, grid.starts[k], _NEVER)


def bars_ended(kind: Kind, instants: Instants) -> Index:
    """How many bars of the calendar have ended by each instant, [N]."""
    if kind is Kind.CRYPTO:
        return np.asarray((instants - _EPOCH) // HOUR, dtype=np.int64)
    return np.asarray(np.searchsorted(stock_grid().ends, instants, side="right"), dtype=np.int64)


def _end_of(kind: Kind, numbers: Index, instants: Instants) -> Instants:
    """When the bars of these numbers, counted from 1, end; they follow some instants."""
    if kind is Kind.CRYPTO:
        return np.asarray(_EPOCH + numbers * HOUR)
    ends = stock_grid().ends
    if numbers.size and numbers.max() > len(ends):
        raise beyond_calendar(instants.max())
    return np.asarray(ends[numbers - 1])


def last_known(kind: Kind, now: np.datetime64) -> np.datetime64:
    """When the last bar that can be known at `now` became so."""
    at = np.array([now])
    return np.datetime64(_end_of(kind, bars_ended(kind, at), at)[0])


def in_session(starts: Instants) -> npt.NDArray[np.bool_]:
    """Whether each instant lies within regular New York hours, the close excluded."""
    grid = stock_grid()
    k = np.searchsorted(grid.opens, starts, side="right") - 1
    return np.asarray((k >= 0) & (starts < grid.closes[np.maximum(k, 0)]))


def is_decision(kind: Kind, instants: Instants) -> npt.NDArray[np.bool_]:
    """Whether a decision for this kind may be made: a bar has just closed and the next starts."""
    if kind is Kind.CRYPTO:
        return on_the_hour(instants)
    decisions = stock_grid().decisions
    k = np.minimum(np.searchsorted(decisions, instants), len(decisions) - 1)
    return np.asarray(decisions[k] == instants)


def holding_end(kind: Kind, now: np.datetime64, holding: Holding = "next") -> np.datetime64:
    """End of the holding interval of a decision at `now`: the next decision that can change it.

    It is the end of a plan's first block, too. `session` moves it to the same decision of the next
    session (its last one where that session is shorter), and to 24 hours later for a coin.
    """
    if kind is Kind.CRYPTO:
        return hour_begun(now) + (24 * HOUR if holding == "session" else HOUR)
    grid = stock_grid()
    k = int(np.searchsorted(grid.decisions, now, side="right"))
    if k >= len(grid.decisions) - 10:
        raise beyond_calendar(now)
    if holding != "session":
        return np.datetime64(grid.decisions[k])
    session = int(grid.decision_session[k - 1])
    numbers = (session, session + 1, session + 2)
    first, next_first, next_end = np.searchsorted(grid.decision_session, numbers)
    place = k - 1 - first
    return np.datetime64(grid.decisions[min(next_first + place, next_end - 1)])


def intraday_ceiling_holds(now: np.datetime64) -> bool:
    """Whether the stock market is open and a later decision of the session can still cut the book.

    While one can, the intraday ceiling holds; from the session's last decision until the next open,
    the overnight one.
    """
    grid = stock_grid()
    k = int(np.searchsorted(grid.opens, now, side="right")) - 1
    if k < 0:
        return False
    # On a shortened session the cut is made at the last decision but one: feeds often lack the
    # half hour that would fill the orders of the last.
    shortened = grid.closes[k] - grid.opens[k] < FULL_SESSION
    end = int(np.searchsorted(grid.decision_session, k, side="right"))
    return bool(now < grid.decisions[end - (2 if shortened else 1)])


def bar_position(kind: Kind, instants: Instants) -> Array:
    """Bars of this kind that have elapsed by each instant, [N], fractional within a bar.

    The count stands still while the market is shut.
    """
    if kind is Kind.CRYPTO:
        return np.asarray((instants - _EPOCH) / HOUR)
    grid = stock_grid()
    done = bars_ended(kind, instants)
    k = np.minimum(done, len(grid.starts) - 1)
    share = (instants - grid.starts[k]) / (grid.ends[k] - grid.starts[k])
    return np.asarray(done + np.clip(share, 0.0, 1.0) * (done < len(grid.starts)))


def shared_news(begin: Instants, end: Instants) -> Array:
    """Share of its news that a stock has in common with a coin in each interval, [T], 0 … 1.

    |A ∩ B| / √(|A|·|B|): B, a coin's time, is the interval. A, a stock's, reaches from its begin,
    or from the close before where the market opens within it (the first price holds all the news
    since), to its end, or the last close in it. Over an hour of the session, or a night from
    afternoon to morning, they are the same; in the hour of the open a coin has moved on most of
    that news before.
    """
    grid = stock_grid()
    first = np.searchsorted(grid.opens, begin, side="right") - 1
    open_at_begin = (first >= 0) & (begin < grid.closes[np.maximum(first, 0)])
    last = np.searchsorted(grid.opens, end, side="left") - 1
    until = np.minimum(end, grid.closes[np.maximum(last, 0)])
    since = np.where(open_at_begin, begin, grid.closes[np.maximum(first, 0)])
    # An interval that begins and ends while the market is shut has no price of the stock in it.
    moves = (last >= 0) & (open_at_begin | (last > first))
    spans = ((until - since) / HOUR) * ((end - begin) / HOUR)
    common = np.maximum((until - begin) / HOUR, 0.0)
    nothing = np.zeros(len(begin))
    return np.asarray(np.divide(common, np.sqrt(spans), out=nothing, where=moves & (spans > 0)))


@cache
def _places_in_session() -> npt.NDArray[np.int8]:
    """The number of every bar of the grid within its session, [N]."""
    session = stock_grid().session
    return (np.arange(len(session)) - np.searchsorted(session, session)).astype(np.int8)


def bar_slots(kind: Kind, instants: Instants, ahead: int) -> npt.NDArray[np.int8]:
    """Place in its day of each bar that ends at an instant and of `ahead` more, [N, 1 + ahead].

    A stock's is its number within the session, 0 for the bar that holds the night; a coin's is the
    New York hour it starts in, 24 more on Saturdays and Sundays. The bars after it are those of the
    calendar.
    """
    if kind is Kind.CRYPTO:
        if not len(instants):
            return np.empty((0, 1 + ahead), dtype=np.int8)
        first = instants.min() - HOUR
        last = instants.max() + ahead * HOUR
        hours = pd.DatetimeIndex(np.arange(first, last, HOUR)).tz_localize("UTC")
        hours = hours.tz_convert(NEW_YORK)
        place = (hours.hour + 24 * (hours.day_of_week >= 5)).to_numpy(dtype=np.int8)
        k = ((instants - HOUR - first) // HOUR).astype(np.int64)
        return np.asarray(place[k[:, None] + np.arange(1 + ahead)])
    place = _places_in_session()
    k = np.searchsorted(stock_grid().ends, instants)
    if len(k) and k.max() + ahead >= len(place):
        raise beyond_calendar(instants.max())
    return np.asarray(place[k[:, None] + np.arange(1 + ahead)])


def following_bar_ends(kind: Kind, instants: Instants, ahead: int) -> Instants:
    """When the `ahead` bars after those that end at each instant become known, [N, ahead]."""
    numbers = bars_ended(kind, instants)[:, None] + np.arange(1, 1 + ahead)
    return _end_of(kind, numbers, instants)


def nth_bar_end_after(kind: Kind, instants: Instants, ahead: int) -> Instants:
    """When the `ahead`-th bar of the calendar that ends after each instant becomes known, [N]."""
    return _end_of(kind, bars_ended(kind, instants) + ahead, instants)


def nights_between(instants: Instants) -> npt.NDArray[np.int64]:
    """Nights for which a debit is carried from sessions that closed since the instant before, [N].

    Friday counts three.
    """
    return nights_until(np.concatenate([instants[:1], instants[:-1]]), instants)


def nights_until(begin: Instants, end: Instants) -> npt.NDArray[np.int64]:
    """Nights for which a debit is carried from sessions that close after `begin`, up to `end`, [N].

    Friday counts three.
    """
    grid = stock_grid()
    closed = [np.searchsorted(grid.closes, instants, side="right") for instants in (begin, end)]
    if len(end) and closed[1].max() >= len(grid.dates):
        raise beyond_calendar(end.max())
    # A debit is carried to the next session, and interest runs on every calendar day until then.
    dates = grid.dates.astype("datetime64[D]").astype(np.int64)
    return np.asarray(dates[closed[1]] - dates[closed[0]])


def sessions_opened(instants: Instants) -> npt.NDArray[np.bool_]:
    """Whether a session has opened since the instant before, [N]."""
    number = np.searchsorted(stock_grid().opens, instants, side="right")
    return np.concatenate([[False], np.diff(number) > 0])[: len(instants)]


def session_open(date: np.datetime64) -> np.datetime64 | None:
    """When the first session on or after a New York date opens; None beyond the calendar."""
    grid = stock_grid()
    k = int(np.searchsorted(grid.dates, date))
    return np.datetime64(grid.opens[k]) if k < len(grid.dates) else None


@dataclass(frozen=True, slots=True)
class Session:
    """A regular session.

    date: its New York date.
    before: the date of the session before it.
    opens: when it opens.
    closes: when it closes.
    """

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
    return Session(
        date=np.datetime64(grid.dates[k]),
        before=np.datetime64(grid.dates[k - 1]),
        opens=np.datetime64(grid.opens[k]),
        closes=np.datetime64(grid.closes[k]),
    )


def sessions_between(first: np.datetime64, last: np.datetime64) -> npt.NDArray[np.datetime64]:
    """Session dates (New York, `datetime64[D]`) in [first, last]."""
    dates = stock_grid().dates
    return np.asarray(dates[(dates >= first) & (dates <= last)])


def last_four_pm(now: np.datetime64) -> np.datetime64:
    """The last 16:00 New York at or before `now`, on any calendar day."""
    return np.datetime64(last_four_pms(np.array([now]))[0])


def last_four_pms(instants: Instants) -> Instants:
    """The last 16:00 New York at or before each instant, [N]."""
    return _last_of(_all_four_pms(), instants)


def last_fridays(instants: Instants) -> Instants:
    """The last Friday, 16:00 New York, at or before each instant, [N].

    What is learned once a week is learned then.
    """
    marks = _all_four_pms()
    fridays = marks[new_york_date(marks).astype(np.int64) % 7 == 1]  # 1970-01-02 was a Friday
    return _last_of(fridays, instants)


def _last_of(marks: Instants, instants: Instants) -> Instants:
    """The last mark at or before each instant, [N]; there is one after it as well."""
    k = np.searchsorted(marks, instants, side="right")
    beyond = (k == 0) | (k == len(marks))
    if beyond.any():
        raise beyond_calendar(instants[first_row(beyond)])
    return np.asarray(marks[k - 1])


@cache
def _all_four_pms() -> Instants:
    """16:00 New York of every calendar day between the calendar's first and last session."""
    dates = stock_grid().dates
    return four_pm(np.arange(dates[0], dates[-1] + DAY))


def beyond_calendar(now: np.datetime64) -> InputError:
    """What is said where the calendar ends before an instant, or before what follows it."""
    dates = stock_grid().dates
    return InputError(
        f"{utc_text(now)} lies outside the exchange calendar ({dates[0]} to {dates[-1]}); update"
        " exchange_calendars"
    )
