"""The exchange calendar: sessions, nights between sessions, and days, weeks and months up to 16:00.

The calendar is that of New York (`exchange_calendars`, XNYS). All instants are UTC
`datetime64[ns]`.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array, Index, Instants, first_true_index
from foundation.clock import utc_now
from foundation.errors import InputError
from foundation.files import write_atomically
from trainingdata.instants import (
    DAY,
    HOUR,
    format_utc,
    new_york_date,
    new_york_four_pm,
    new_york_offsets,
)

FULL_SESSION_LENGTH = np.timedelta64(390, "m")
# Yahoo's daily bars begin in 1962. Before 1952 the exchange traded on Saturdays as well, which
# `exchange_calendars` does not know.
CALENDAR_START = "1962-01-01"
# Days before the first session that include a Friday, the last day of a month, and the next day.
_LEAD_DAYS = np.timedelta64(32, "D")
# pandas applies holiday rules by default from this date on.
_HOLIDAY_RULES_START = "1970-01-01"
_DIGEST_BYTES = (
    hashlib.sha256().digest_size
)  # bytes of the digest before the rows of the cache file


@dataclass(frozen=True, eq=False, slots=True)
class ExchangeCalendar:
    """All known regular sessions of the exchange, D of them.

    opens: [D] open of each session.
    closes: [D] close of each session.
    dates: [D] New York date of each session.
    """

    opens: Instants
    closes: Instants
    dates: npt.NDArray[np.datetime64]


@cache
def exchange_calendar() -> ExchangeCalendar:
    """Return the exchange's sessions, from the user's cache if possible."""
    from platformdirs import user_cache_path

    path = user_cache_path("kelly-chronos") / "sessions"
    key = _calendar_key()
    columns = _read_cached_columns(path, key)
    if columns is None:
        columns = _library_columns()
        _write_cached_columns(path, key, columns)
    opens, closes, dates = columns
    return ExchangeCalendar(
        opens=opens.view("datetime64[ns]"),
        closes=closes.view("datetime64[ns]"),
        dates=dates.view("datetime64[D]"),
    )


def _calendar_key() -> bytes:
    """Return the data on which the cached sessions depend.

    They are the versions of libraries, today's date, this file's source, and New York's UTC
    offsets.
    """
    libraries = [version(name) for name in ("exchange_calendars", "pandas")]
    # The library lists sessions up to one year after today.
    words = [*libraries, time.strftime("%Y-%m-%d"), Path(__file__).read_text(encoding="utf-8")]
    return b"".join([repr(words).encode(), *(each.tobytes() for each in new_york_offsets())])


def _read_cached_columns(path: Path, key: bytes) -> Index | None:
    """Return opens, closes and dates [3, D] from the cache file.

    The result is None if the file is absent, damaged, or written for another key.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    rows = content[_DIGEST_BYTES:]
    if hashlib.sha256(key + rows).digest() != content[:_DIGEST_BYTES]:
        return None
    # A copy is writable. Compiled code would treat a read-only array as another type.
    return np.frombuffer(rows, dtype=np.int64).reshape(3, -1).copy()


def _write_cached_columns(path: Path, key: bytes, columns: Index) -> None:
    """Write opens, closes and dates [3, D] to the cache file, for a key; ignore write errors."""
    rows = columns.tobytes()
    with suppress(OSError):
        write_atomically(path, hashlib.sha256(key + rows).digest() + rows)


def _library_columns() -> Index:
    """Return opens, closes and dates of the library's sessions, [3, D] int64."""
    import exchange_calendars

    listed = exchange_calendars.get_calendar("XNYS", start=CALENDAR_START)
    rules = listed.regular_holidays
    # The library lists regular holidays before 1970, such as 4 July 1962, as sessions.
    holidays = rules.holidays(CALENDAR_START, _HOLIDAY_RULES_START) if rules is not None else []
    open_days = ~listed.sessions.isin(holidays)
    columns = (
        listed.opens[open_days].to_numpy("datetime64[ns]"),
        listed.closes[open_days].to_numpy("datetime64[ns]"),
        listed.sessions[open_days].to_numpy("datetime64[D]"),
    )
    return np.stack([column.astype(np.int64) for column in columns])


def is_in_session(starts: Instants) -> npt.NDArray[np.bool_]:
    """Return whether each instant lies in regular New York hours, the close excluded, [N]."""
    days = exchange_calendar()
    k = np.searchsorted(days.opens, starts, side="right") - 1
    return np.asarray((k >= 0) & (starts < days.closes[np.maximum(k, 0)]))


def stock_crypto_news_overlap(begin: Instants, end: Instants) -> Array:
    """Return the share of news that stocks and crypto have in common in each interval, [T], 0 … 1.

    The share is |A ∩ B| / √(|A|·|B|). B, the time of crypto, is the interval. A, the time of
    stocks, begins with the interval if the market is open then. Otherwise A begins with the
    previous close, since the first price after an open reflects all news since that close. A ends
    with the interval, or with the last close in the interval. Over an hour of the session, or a
    night from afternoon to morning, A and B are equal. In the hour of the open, crypto has already
    reacted to most of the news.

    begin, end: [T] bounds of the intervals.
    """
    days = exchange_calendar()
    first = np.searchsorted(days.opens, begin, side="right") - 1
    open_at_begin = (first >= 0) & (begin < days.closes[np.maximum(first, 0)])
    last = np.searchsorted(days.opens, end, side="left") - 1
    until = np.minimum(end, days.closes[np.maximum(last, 0)])
    since = np.where(open_at_begin, begin, days.closes[np.maximum(first, 0)])
    # An interval that begins and ends while the market is closed has no stock price in it.
    moves = (last >= 0) & (open_at_begin | (last > first))
    spans = ((until - since) / HOUR) * ((end - begin) / HOUR)
    common = np.maximum((until - begin) / HOUR, 0.0)
    nothing = np.zeros(len(begin))
    return np.asarray(np.divide(common, np.sqrt(spans), out=nothing, where=moves & (spans > 0)))


def count_nights_since_previous(instants: Instants) -> npt.NDArray[np.int64]:
    """Count the nights of debit interest since the previous instant, [N].

    The nights follow the sessions that closed since then; a Friday counts three nights.
    """
    return count_nights_between(np.concatenate([instants[:1], instants[:-1]]), instants)


def count_nights_between(begin: Instants, end: Instants) -> npt.NDArray[np.int64]:
    """Count the nights of debit interest after the sessions that close in (begin, end], [N].

    A Friday counts three nights.

    Raises InputError for an instant beyond the calendar.
    """
    days = exchange_calendar()
    closed = [np.searchsorted(days.closes, instants, side="right") for instants in (begin, end)]
    if len(end) and closed[1].max() >= len(days.dates):
        raise outside_calendar_error(end.max())
    # Interest on a debit runs on every calendar day until the next session.
    dates = days.dates.astype("datetime64[D]").astype(np.int64)
    return np.asarray(dates[closed[1]] - dates[closed[0]])


def has_session_opened_since_previous(instants: Instants) -> npt.NDArray[np.bool_]:
    """Return whether a session has opened since the previous instant, [N]."""
    number = np.searchsorted(exchange_calendar().opens, instants, side="right")
    return np.concatenate([[False], np.diff(number) > 0])[: len(instants)]


def session_opens_on(dates: npt.NDArray[np.datetime64]) -> Instants:
    """Return the session open on each New York date, [N]; NaT on days without a session."""
    days = exchange_calendar()
    k = np.minimum(np.searchsorted(days.dates, dates), len(days.dates) - 1)
    return np.where(days.dates[k] == dates, days.opens[k], np.datetime64("NaT", "ns"))


def first_open_on_or_after(date: np.datetime64) -> np.datetime64 | None:
    """Return the first session open on or after a New York date; None beyond the calendar."""
    days = exchange_calendar()
    k = int(np.searchsorted(days.dates, date))
    return np.datetime64(days.opens[k]) if k < len(days.dates) else None


@dataclass(frozen=True, slots=True)
class Session:
    """A regular session of the exchange.

    date: New York date.
    previous_date: date of the previous session.
    opens: open of the session.
    closes: close of the session.
    """

    date: np.datetime64
    previous_date: np.datetime64
    opens: np.datetime64
    closes: np.datetime64

    @property
    def is_full(self) -> bool:
        return bool(self.closes - self.opens == FULL_SESSION_LENGTH)


def session_on(date: np.datetime64) -> Session | None:
    """Return the session on a New York date; None on a day without a session."""
    days = exchange_calendar()
    k = int(np.searchsorted(days.dates, date))
    if not 0 < k < len(days.dates) or days.dates[k] != date:
        return None
    return Session(
        date=np.datetime64(days.dates[k]),
        previous_date=np.datetime64(days.dates[k - 1]),
        opens=np.datetime64(days.opens[k]),
        closes=np.datetime64(days.closes[k]),
    )


def sessions_between(first: np.datetime64, last: np.datetime64) -> npt.NDArray[np.datetime64]:
    """Return the session dates (New York, `datetime64[D]`) in [first, last]."""
    dates = exchange_calendar().dates
    return np.asarray(dates[(dates >= first) & (dates <= last)])


def last_four_pms(instants: Instants) -> Instants:
    """Return the last 16:00 New York at or before each instant, [N].

    Raises InputError for an instant outside the calendar.
    """
    return _last_mark_before(_marks_with_lead_days(), instants)


def last_friday_four_pms(instants: Instants) -> Instants:
    """Return the last Friday, 16:00 New York, at or before each instant, [N].

    These are the instants of weekly estimates.
    """
    marks = _marks_with_lead_days()
    fridays = marks[new_york_date(marks).astype(np.int64) % 7 == 1]  # 1970-01-02 was a Friday
    return _last_mark_before(fridays, instants)


def last_month_end_four_pms(instants: Instants) -> Instants:
    """Return the last 16:00 New York on a month's last day at or before each instant, [N]."""
    marks = _marks_with_lead_days()
    month = new_york_date(marks).astype("datetime64[M]")
    return _last_mark_before(marks[:-1][month[1:] != month[:-1]], instants)


def _last_mark_before(marks: Instants, instants: Instants) -> Instants:
    """Return the last of `marks` at or before each instant, [N].

    Raises InputError for an instant before the first mark, or not before the last mark.
    """
    k = np.searchsorted(marks, instants, side="right")
    beyond = (k == 0) | (k == len(marks))
    if beyond.any():
        raise outside_calendar_error(instants[first_true_index(beyond)])
    return np.asarray(marks[k - 1])


@cache
def _marks_with_lead_days() -> Instants:
    """Return 16:00 New York of every day of the calendar, and of 32 days before it.

    Thanks to the earlier days, the calendar's first instants also have a preceding Friday and end
    of a month.
    """
    dates = exchange_calendar().dates
    return new_york_four_pm(np.arange(dates[0] - _LEAD_DAYS, dates[-1] + DAY))


def outside_calendar_error(now: np.datetime64) -> InputError:
    """Return the InputError for an instant outside the calendar's range."""
    return InputError(f"{format_utc(now)} {format_outside_calendar(now)}")


def format_outside_calendar(now: np.datetime64) -> str:
    """Return the end of an error message: the range of the calendar, and advice."""
    dates = exchange_calendar().dates
    place = f"lies outside the exchange calendar ({dates[0]} to {dates[-1]})"
    early = now < dates[0] + (dates[-1] - dates[0]) // 2
    if early:
        cure = "remove earlier rows, or choose a later date"
    elif now > utc_now():
        cure = "the date is in the future; correct it"
    else:
        cure = "install a newer exchange_calendars"
    return f"{place}; {cure}"
