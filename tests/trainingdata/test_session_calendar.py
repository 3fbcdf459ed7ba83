"""The grid of sessions against a plain walk through the exchange's schedule, one session and
one hour at a time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import exchange_calendars
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from trainingdata.instants import compact_text, four_pm, instant, new_york_date, utc_text
from trainingdata.instruments import Kind
from trainingdata.sessions import (
    FULL_SESSION,
    Session,
    calendar,
    in_session,
    last_four_pm,
    last_fridays,
    nights_between,
    session_of,
    session_open,
    sessions_between,
    sessions_opened,
    shared_news,
)
from trainingdata.timeframe import HOURLY, following_ends, nth_end_after

NEW_YORK = ZoneInfo("America/New_York")
HOUR = timedelta(hours=1)
FIRST = datetime(2023, 12, 1, tzinfo=UTC)
LAST = datetime(2025, 2, 1, tzinfo=UTC)
HALF_DAY = datetime(2024, 11, 29, tzinfo=UTC)


@dataclass(frozen=True)
class Day:
    """One session: its New York date, open, close and bars (start, end)."""

    date: str
    opens: datetime
    closes: datetime
    bars: tuple[tuple[datetime, datetime], ...]

    @property
    def decisions(self) -> list[datetime]:
        """Every end of a bar but the close."""
        return [end for _, end in self.bars[:-1]]


@cache
def days() -> tuple[Day, ...]:
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
            bars.append((start, min(start + HOUR, closes)))
            start += HOUR
        found.append(Day(str(label.date()), opens, closes, tuple(bars)))
    return tuple(found)


@cache
def bars() -> tuple[tuple[datetime, datetime], ...]:
    return tuple(bar for day in days() for bar in day.bars)


@cache
def decisions() -> tuple[datetime, ...]:
    return tuple(at for day in days() for at in day.decisions)


def at64(at: datetime) -> np.datetime64:
    return np.datetime64(at.astimezone(UTC).replace(tzinfo=None), "ns")


def all64(*instants: datetime) -> np.ndarray:
    return np.array([at64(at) for at in instants])


def moments(step: int = 10) -> st.SearchStrategy[datetime]:
    """Instants on a grid of minutes, half of them beside a bar's end, where an off-by-one shows."""
    minutes = st.integers(0, int((LAST - FIRST).total_seconds() // 60) // step).map(
        lambda k: FIRST + k * step * HOUR / 60
    )
    ends = st.sampled_from([end for _, end in bars() if FIRST <= end < LAST])
    beside = st.tuples(ends, st.sampled_from([-1, 0, 1])).map(
        lambda pair: pair[0] + pair[1] * timedelta(minutes=1)
    )
    opens = st.tuples(
        st.sampled_from([d.opens for d in days() if FIRST <= d.opens < LAST]),
        st.sampled_from([-1, 0, 1]),
    ).map(lambda pair: pair[0] + pair[1] * timedelta(minutes=1))
    return st.one_of(minutes, beside, ends, opens)


def day_of(at: datetime) -> Day | None:
    """The session that is open at an instant."""
    return next((day for day in days() if day.opens <= at < day.closes), None)


@given(moments())
def test_a_bar_is_known_when_it_ends_and_one_ends_where_it_is_known(at: datetime) -> None:
    start = {begin: end for begin, end in bars()}
    end = {end: begin for begin, end in bars()}
    known = HOURLY.clock(Kind.STOCK).known_at(all64(at))[0]
    began = HOURLY.clock(Kind.STOCK).started_at(all64(at))[0]
    assert np.isnat(known) if at not in start else known == at64(start[at])
    assert np.isnat(began) if at not in end else began == at64(end[at])
    whole = at.minute == 0
    known = HOURLY.clock(Kind.CRYPTO).known_at(all64(at))[0]
    began = HOURLY.clock(Kind.CRYPTO).started_at(all64(at))[0]
    assert np.isnat(known) != whole
    assert np.isnat(began) != whole
    assert not whole or (known == at64(at + HOUR) and began == at64(at - HOUR))


@given(moments())
def test_the_last_bar_known_is_the_last_that_has_ended(at: datetime) -> None:
    ends = [end for _, end in bars()]
    assert HOURLY.last_known(Kind.STOCK, at64(at)) == at64(ends[bisect_right(ends, at) - 1])
    assert HOURLY.last_known(Kind.CRYPTO, at64(at)) == at64(at.replace(minute=0))


@given(moments())
def test_the_market_is_open_from_its_first_instant_to_the_last_before_the_close(
    at: datetime,
) -> None:
    assert bool(in_session(all64(at))[0]) == (day_of(at) is not None)
    assert bool(HOURLY.clock(Kind.STOCK).is_decision(all64(at))[0]) == (at in decisions())
    assert bool(HOURLY.clock(Kind.CRYPTO).is_decision(all64(at))[0]) == (at.minute == 0)


@given(moments())
def test_holding_ends_at_the_next_decision_or_at_the_same_one_of_the_next_session(
    at: datetime,
) -> None:
    """Late in the day, and at night, the decision held from is the last that was made."""
    k = bisect_right(decisions(), at)
    assert HOURLY.clock(Kind.STOCK).holding_end(at64(at)) == at64(decisions()[k])
    held_from = decisions()[k - 1]
    number = next(i for i, day in enumerate(days()) if held_from in day.decisions)
    place = days()[number].decisions.index(held_from)
    following = days()[number + 1].decisions
    expected = following[min(place, len(following) - 1)]
    assert HOURLY.clock(Kind.STOCK).holding_end(at64(at), "session") == at64(expected)
    hour = at.replace(minute=0)
    assert HOURLY.clock(Kind.CRYPTO).holding_end(at64(at)) == at64(hour + HOUR)
    assert HOURLY.clock(Kind.CRYPTO).holding_end(at64(at), "session") == at64(hour + 24 * HOUR)


@given(moments())
def test_the_book_may_be_cut_later_until_the_last_decision_or_the_one_before_on_a_half_day(
    at: datetime,
) -> None:
    day = day_of(at)
    expected = False
    if day is not None:
        shortened = day.closes - day.opens < timedelta(minutes=390)
        expected = at < day.decisions[-2 if shortened else -1]
    assert HOURLY.stocks.intraday_ceiling_holds(at64(at)) == expected


@given(moments(), moments())
def test_the_bars_between_two_instants_are_counted_with_their_parts(
    one: datetime, other: datetime
) -> None:
    begin = min(one, other)
    end = max(one, other)
    here, there = HOURLY.clock(Kind.STOCK).position(all64(begin, end))
    parts = 0.0
    for start, stop in bars():
        inside = min(stop, end) - max(start, begin)
        parts += max(inside / (stop - start), 0.0)
    assert there - here == pytest.approx(parts, abs=1e-6)
    here, there = HOURLY.clock(Kind.CRYPTO).position(all64(begin, end))
    assert there - here == pytest.approx((end - begin) / HOUR, abs=1e-9)


@given(st.lists(st.sampled_from(range(40, 1700)), min_size=1, max_size=5), st.integers(0, 9))
def test_the_bars_after_one_are_those_of_the_calendar(numbers: list[int], ahead: int) -> None:
    """And their places in the day: 0 for the bar that holds the night."""
    ends = all64(*(bars()[k][1] for k in numbers))
    expected = [[at64(bars()[k + j][1]) for j in range(1, ahead + 1)] for k in numbers]
    after = following_ends(HOURLY.clock(Kind.STOCK), ends, ahead)
    assert after.shape == (len(numbers), ahead)
    assert [list(row) for row in after] == expected
    places = {bar: k for day in days() for k, bar in enumerate(day.bars)}
    assert HOURLY.clock(Kind.STOCK).slots(ends, ahead).tolist() == [
        [places[bars()[k + j]] for j in range(ahead + 1)] for k in numbers
    ]


@given(moments(), st.integers(1, 20))
def test_the_bars_that_end_after_any_instant_are_counted_one_by_one(
    at: datetime, ahead: int
) -> None:
    ends = [end for _, end in bars()]
    after = at64(ends[bisect_right(ends, at) + ahead - 1])
    assert nth_end_after(HOURLY.clock(Kind.STOCK), all64(at), ahead).tolist() == [after.tolist()]
    hour = at64(at.replace(minute=0) + ahead * HOUR)
    assert nth_end_after(HOURLY.clock(Kind.CRYPTO), all64(at), ahead).tolist() == [hour.tolist()]


@given(st.lists(st.integers(0, 9_000), min_size=1, max_size=5), st.integers(0, 30))
def test_a_coins_place_is_the_new_york_hour_and_kind_of_day_in_which_its_bar_starts(
    hours: list[int], ahead: int
) -> None:
    ends = [FIRST + k * HOUR for k in hours]
    starts = [
        [(end + (j - 1) * HOUR).astimezone(NEW_YORK) for j in range(ahead + 1)] for end in ends
    ]
    expected = [[start.hour + 24 * (start.isoweekday() > 5) for start in row] for row in starts]
    assert HOURLY.clock(Kind.CRYPTO).slots(all64(*ends), ahead).tolist() == expected
    after = following_ends(HOURLY.clock(Kind.CRYPTO), all64(*ends), ahead)
    assert [[at64(end + j * HOUR) for j in range(1, ahead + 1)] for end in ends] == [
        list(row) for row in after
    ]


def test_no_instants_have_no_places() -> None:
    none = np.array([], dtype="datetime64[ns]")
    for kind in Kind:
        assert HOURLY.clock(kind).slots(none, 3).shape == (0, 4)
        assert following_ends(HOURLY.clock(kind), none, 3).shape == (0, 3)
    assert last_fridays(none).shape == (0,)
    assert nights_between(none).shape == (0,)
    assert sessions_opened(none).shape == (0,)


@given(moments())
def test_afternoons_and_fridays_are_new_yorks_in_winter_and_in_summer(at: datetime) -> None:
    local = at.astimezone(NEW_YORK)
    mark = local.replace(hour=16, minute=0)
    if mark > local:
        mark = (local - timedelta(days=1)).replace(hour=16, minute=0)
    assert last_four_pm(at64(at)) == at64(mark)
    while mark.weekday() != 4:
        mark = (mark - timedelta(days=1)).replace(hour=16, minute=0)
    assert last_fridays(all64(at))[0] == at64(mark)
    assert str(new_york_date(all64(at))[0]) == str(local.date())
    assert four_pm(new_york_date(all64(at)))[0] == at64(local.replace(hour=16, minute=0))


@given(moments(), moments())
def test_a_debit_is_carried_from_each_close_to_the_next_session(
    one: datetime, other: datetime
) -> None:
    begin = min(one, other)
    end = max(one, other)
    nights = 0
    opened = False
    for day, following in zip(days()[:-1], days()[1:], strict=True):
        if begin < day.closes <= end:
            nights += (
                datetime.fromisoformat(following.date) - datetime.fromisoformat(day.date)
            ).days
        opened |= begin < day.opens <= end
    assert nights_between(all64(begin, end)).tolist() == [0, nights]
    assert sessions_opened(all64(begin, end)).tolist() == [False, opened]


@given(st.integers(0, 420))
def test_a_date_has_its_session_or_the_first_after_it(number: int) -> None:
    date = (FIRST + timedelta(days=number)).date()
    dates = [day.date for day in days()]
    k = bisect_left(dates, str(date))
    day = days()[k]
    assert session_open(np.datetime64(date)) == at64(day.opens)
    found = session_of(np.datetime64(date))
    if day.date != str(date):
        assert found is None
        return
    expected = Session(
        np.datetime64(date), np.datetime64(dates[k - 1]), at64(day.opens), at64(day.closes)
    )
    assert found == expected
    assert found is not None
    assert found.whole == (len(day.bars) == 7)
    assert (
        sessions_between(np.datetime64(dates[k - 3]), np.datetime64(date)).astype(str).tolist()
        == dates[k - 3 : k + 1]
    )
    assert sessions_between(np.datetime64(date), np.datetime64(date)).astype(str).tolist() == [
        str(date)
    ]


@given(moments(), st.integers(1, 5_000))
def test_what_stocks_and_coins_share_is_symmetric_in_scale_and_never_above_one(
    at: datetime, minutes: int
) -> None:
    end = at + timedelta(minutes=minutes)
    share = float(shared_news(all64(at), all64(end))[0])
    assert 0 <= share <= 1 + 1e-12
    opened = [day for day in days() if day.opens < end and at < day.closes]
    assert (share > 0) == bool(opened)
    if not opened:
        return
    inside = opened[0].opens <= at
    closed = [day.closes for day in days() if day.closes <= at]
    since = at if inside else closed[-1]
    until = min(end, opened[-1].closes)
    expected = ((until - at) / HOUR) / (((until - since) / HOUR) * ((end - at) / HOUR)) ** 0.5
    assert share == pytest.approx(expected, rel=1e-9)


def test_beyond_the_calendar_there_is_a_line_and_no_guess() -> None:
    grid = HOURLY.stocks
    early = np.datetime64("1999-06-01", "ns")
    late = calendar().closes[-1]
    for ask in (
        lambda: HOURLY.clock(Kind.STOCK).holding_end(late),
        lambda: HOURLY.clock(Kind.STOCK).holding_end(grid.decisions[-11], "session"),
        lambda: following_ends(HOURLY.clock(Kind.STOCK), grid.ends[-3:-2], 3),
        lambda: HOURLY.clock(Kind.STOCK).slots(grid.ends[-3:-2], 3),
        lambda: last_fridays(np.array([early])),
        lambda: nights_between(np.array([late])),
        lambda: last_four_pm(early),
        lambda: last_four_pm(late + np.timedelta64(9, "D")),
    ):
        with pytest.raises(
            InputError,
            match=r"lies outside the exchange calendar \(2000-01-03 to \d{4}-\d\d-\d\d\)",
        ):
            ask()
    assert (
        following_ends(HOURLY.clock(Kind.STOCK), grid.ends[-3:-2], 2)[0].tolist()
        == grid.ends[-2:].tolist()
    )
    assert HOURLY.clock(Kind.STOCK).slots(grid.ends[-3:-2], 2).shape == (1, 3)
    assert HOURLY.clock(Kind.STOCK).holding_end(grid.decisions[-12]) == grid.decisions[-11]
    assert session_open(calendar().dates[-1] + np.timedelta64(1, "D")) is None
    assert session_of(calendar().dates[-1] + np.timedelta64(1, "D")) is None
    assert session_of(calendar().dates[0]) is None, "the session before it is not known"
    assert HOURLY.clock(Kind.STOCK).position(grid.ends[-1:]).tolist() == [len(grid.ends)]
    second = session_of(calendar().dates[1])
    assert second is not None
    assert second.before == calendar().dates[0]
    assert not in_session(np.array([early]))[0]
    assert not HOURLY.stocks.intraday_ceiling_holds(early)
    assert np.isnat(HOURLY.clock(Kind.STOCK).known_at(np.array([late]))[0])
    assert np.isnat(
        HOURLY.clock(Kind.STOCK).started_at(np.array([late + np.timedelta64(1, "D")]))[0]
    )
    assert not HOURLY.clock(Kind.STOCK).is_decision(np.array([late]))[0]


def test_days_and_years_have_the_bars_they_are_said_to_have() -> None:
    """A full session of 390 minutes, 252 of them a year; a coin's day and its 365.25 days."""
    assert max(len(day.bars) for day in days()) == HOURLY.clock(Kind.STOCK).bars_a_day == 7
    assert HOURLY.clock(Kind.STOCK).bars_a_year == 7 * 252
    assert HOURLY.clock(Kind.CRYPTO).bars_a_day == 24
    assert HOURLY.clock(Kind.CRYPTO).bars_a_year == 24 * 365.25
    week = all64(*(FIRST + k * HOUR for k in range(168)))
    assert (
        HOURLY.clock(Kind.CRYPTO).slots(week, 0).max() + 1 == HOURLY.clock(Kind.CRYPTO).places == 48
    )
    assert HOURLY.clock(Kind.STOCK).places == 7
    assert np.timedelta64(390, "m") == FULL_SESSION


def test_instants_are_written_and_read_in_utc() -> None:
    at = np.datetime64("2024-03-05T17:30:15.5", "ns")
    assert compact_text(at) == "20240305T173015Z"
    assert utc_text(at) == "2024-03-05T17:30Z"
    assert instant("2024-03-05T17:30:15.5Z", name="start") == at
    assert instant("2024-03-05T12:30:15.5-05:00", name="start") == at
    assert instant("2024-07-01", name="end", end_of_day=True) == np.datetime64(
        "2024-07-02T03:59:59.999999999", "ns"
    )
    assert instant("2024-07-01T00:00Z", name="end", end_of_day=True) == np.datetime64(
        "2024-07-01T00:00", "ns"
    )
