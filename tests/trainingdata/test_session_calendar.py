"""The grid of sessions against a plain walk through the exchange's schedule, one session and
one bar at a time, of every timeframe.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foundation.errors import InputError
from tests.support.messages import refused
from tests.support.session_days import (
    FIRST,
    HOUR,
    LENGTHS,
    NEW_YORK,
    all64,
    at64,
    bars,
    begun,
    day_of,
    days,
    decisions,
    frames,
    length,
    moments,
)
from trainingdata import sessions
from trainingdata.instants import (
    format_compact_utc,
    format_utc,
    history_start,
    new_york_date,
    new_york_four_pm,
    new_york_minutes_of_day,
    parse_instant,
)
from trainingdata.instruments import AssetClass
from trainingdata.sessions import (
    FULL_SESSION_LENGTH,
    Session,
    count_nights_since_previous,
    exchange_calendar,
    first_open_on_or_after,
    format_outside_calendar,
    has_session_opened_since_previous,
    is_in_session,
    last_four_pms,
    last_friday_four_pms,
    last_month_end_four_pms,
    session_on,
    sessions_between,
    stock_crypto_news_overlap,
)
from trainingdata.timeframe import HOURLY, Timeframe, TimeframeName, next_bar_ends, nth_next_bar_end

HALF_DAY = datetime(2024, 11, 29, tzinfo=UTC)


@given(frames, moments())
def test_stock_and_crypto_clocks_follow_the_calendar(timeframe: Timeframe, at: datetime) -> None:
    """Open from its first instant to the last before the close."""
    here, every = all64(at), bars(timeframe)
    k = bisect_right([end for _, end in every], at)
    start = next((end for begin, end in every[k : k + 2] if begin == at), None)
    end = every[k - 1][0] if every[k - 1][1] == at else None
    stocks, coins = timeframe.clock(AssetClass.STOCK), timeframe.clock(AssetClass.CRYPTO)
    known, began = stocks.ends_by_start(here)[0], stocks.starts_by_end(here)[0]
    assert np.isnat(known) if start is None else known == at64(start)
    assert np.isnat(began) if end is None else began == at64(end)
    assert timeframe.last_bar_end(AssetClass.STOCK, at64(at)) == at64(every[k - 1][1])
    assert bool(is_in_session(here)[0]) == (day_of(at) is not None)
    assert bool(stocks.is_decision(here)[0]) == (at in decisions(timeframe))
    last = begun(at, timeframe)
    whole = at == last
    known, began = coins.ends_by_start(here)[0], coins.starts_by_end(here)[0]
    assert np.isnat(known) if not whole else known == at64(at + length(timeframe))
    assert np.isnat(began) if not whole else began == at64(at - length(timeframe))
    assert timeframe.last_bar_end(AssetClass.CRYPTO, at64(at)) == at64(last)
    assert bool(coins.is_decision(here)[0]) == whole


@given(frames, moments())
@example(HOURLY, datetime(2024, 10, 4, 19, 30, tzinfo=UTC))  # a Friday's last decision
@example(HOURLY, datetime(2024, 11, 27, 20, 30, tzinfo=UTC))  # before a half-day
@example(HOURLY, datetime(2024, 11, 29, 17, 30, tzinfo=UTC))  # its last
def test_holding_period_ends_at_next_decision_or_session(
    timeframe: Timeframe, at: datetime
) -> None:
    """Late in the day and at night, the period starts at the last decision."""
    made = decisions(timeframe)
    k = bisect_right(made, at)
    stocks, coins = timeframe.clock(AssetClass.STOCK), timeframe.clock(AssetClass.CRYPTO)
    assert stocks.holding_ends(all64(at)) == at64(made[k])
    held_from = made[k - 1]
    every = days(timeframe)
    number = next(i for i, day in enumerate(every) if held_from in day.decisions)
    place = every[number].decisions.index(held_from)
    following = every[number + 1].decisions
    expected = following[min(place, len(following) - 1)]
    assert stocks.holding_ends(all64(at), "session") == at64(expected)
    began = begun(at, timeframe)
    assert coins.holding_ends(all64(at)) == at64(began + length(timeframe))
    assert coins.holding_ends(all64(at), "session") == at64(began + 24 * HOUR)


@given(frames, moments())
@example(HOURLY, datetime(2024, 10, 1, 19, tzinfo=UTC))
@example(HOURLY, datetime(2024, 10, 1, 19, 30, tzinfo=UTC))
@example(HOURLY, datetime(2024, 11, 29, 15, 30, tzinfo=UTC))
@example(HOURLY, datetime(2024, 11, 29, 16, 30, tzinfo=UTC))
def test_intraday_leverage_ceiling_applies_until_the_last_cut(
    timeframe: Timeframe, at: datetime
) -> None:
    day = day_of(at, timeframe)
    expected = False
    if day is not None and len(day.bars) > 1:
        shortened = day.closes - day.opens < timedelta(minutes=390)
        last = day.decisions[-2:-1] if shortened else day.decisions[-1:]
        expected = any(at < decision for decision in last)
    assert timeframe.stock_clock.intraday_ceiling_applies(all64(at)) == expected


@given(frames, moments(), moments())
def test_bars_between_two_instants_are_counted_in_fractions(
    timeframe: Timeframe, one: datetime, other: datetime
) -> None:
    begin = min(one, other)
    end = max(one, other)
    here, there = timeframe.clock(AssetClass.STOCK).bars_elapsed(all64(begin, end))
    parts = 0.0
    for start, stop in bars(timeframe):
        inside = min(stop, end) - max(start, begin)
        parts += max(inside / (stop - start), 0.0)
    assert there - here == pytest.approx(parts, abs=1e-6)
    here, there = timeframe.clock(AssetClass.CRYPTO).bars_elapsed(all64(begin, end))
    assert there - here == pytest.approx((end - begin) / length(timeframe), abs=1e-8)


@given(frames, st.lists(st.sampled_from(range(40, 250)), min_size=1, max_size=5), st.integers(0, 9))
def test_time_of_day_slots_follow_the_exchange_calendar(
    timeframe: Timeframe, numbers: list[int], ahead: int
) -> None:
    """Slot 0 is the bar that contains the night."""
    clock, every = timeframe.clock(AssetClass.STOCK), bars(timeframe)
    ends = all64(*(every[k][1] for k in numbers))
    places = {bar: k for day in days(timeframe) for k, bar in enumerate(day.bars)}
    assert clock.slot_indices(ends, ahead).tolist() == [
        [places[every[k + j]] for j in range(ahead + 1)] for k in numbers
    ]


@given(frames, moments(), st.integers(1, 20))
def test_nth_bar_end_matches_counting_one_by_one(
    timeframe: Timeframe, at: datetime, ahead: int
) -> None:
    stocks, coins = timeframe.clock(AssetClass.STOCK), timeframe.clock(AssetClass.CRYPTO)
    ends = [end for _, end in bars(timeframe)]
    after = at64(ends[bisect_right(ends, at) + ahead - 1])
    assert nth_next_bar_end(stocks, all64(at), ahead).tolist() == [after.tolist()]
    assert next_bar_ends(stocks, all64(at), ahead)[0, -1] == after
    later = at64(begun(at, timeframe) + ahead * length(timeframe))
    assert nth_next_bar_end(coins, all64(at), ahead).tolist() == [later.tolist()]
    for clock in (stocks, coins):
        number = clock.count_ended_bars(all64(at))
        end = clock.ends_by_number(number, all64(at))
        assert clock.count_ended_bars(end) == number, "the last bar that has ended has that number"
        assert clock.count_ended_bars(end - np.timedelta64(1, "ns")) == number - 1


@given(st.lists(st.integers(0, 9_000), min_size=1, max_size=5), st.integers(0, 30))
def test_crypto_slot_is_the_new_york_weekday_hour(hours: list[int], ahead: int) -> None:
    ends = [FIRST + k * HOUR for k in hours]
    starts = [
        [(end + (j - 1) * HOUR).astimezone(NEW_YORK) for j in range(ahead + 1)] for end in ends
    ]
    expected = [[start.hour + 24 * (start.isoweekday() > 5) for start in row] for row in starts]
    assert HOURLY.clock(AssetClass.CRYPTO).slot_indices(all64(*ends), ahead).tolist() == expected
    after = next_bar_ends(HOURLY.clock(AssetClass.CRYPTO), all64(*ends), ahead)
    assert [[at64(end + j * HOUR) for j in range(1, ahead + 1)] for end in ends] == [
        list(row) for row in after
    ]


@given(moments())
def test_afternoons_and_fridays_follow_new_york_time(at: datetime) -> None:
    local = at.astimezone(NEW_YORK)
    mark = local.replace(hour=16, minute=0)
    if mark > local:
        mark = (local - timedelta(days=1)).replace(hour=16, minute=0)
    assert last_four_pms(all64(at))[0] == at64(mark)
    while mark.weekday() != 4:
        mark = (mark - timedelta(days=1)).replace(hour=16, minute=0)
    assert last_friday_four_pms(all64(at))[0] == at64(mark)
    assert str(new_york_date(all64(at))[0]) == str(local.date())
    assert new_york_four_pm(new_york_date(all64(at)))[0] == at64(local.replace(hour=16, minute=0))


@given(moments(), moments())
@example(datetime(2024, 10, 4, 19, 30, tzinfo=UTC), datetime(2024, 10, 4, 20, tzinfo=UTC))
@example(datetime(2024, 8, 30, 19, 30, tzinfo=UTC), datetime(2024, 8, 30, 20, tzinfo=UTC))
def test_debit_nights_count_calendar_days_between_sessions(one: datetime, other: datetime) -> None:
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
    assert count_nights_since_previous(all64(begin, end)).tolist() == [0, nights]
    assert has_session_opened_since_previous(all64(begin, end)).tolist() == [False, opened]


@given(st.integers(0, 420))
def test_date_without_a_session_maps_to_the_next(number: int) -> None:
    date = (FIRST + timedelta(days=number)).date()
    dates = [day.date for day in days()]
    k = bisect_left(dates, str(date))
    day = days()[k]
    assert first_open_on_or_after(np.datetime64(date)) == at64(day.opens)
    found = session_on(np.datetime64(date))
    if day.date != str(date):
        assert found is None
        return
    expected = Session(
        np.datetime64(date), np.datetime64(dates[k - 1]), at64(day.opens), at64(day.closes)
    )
    assert found == expected
    assert found is not None
    assert found.is_full == (len(day.bars) == 7)
    assert (
        sessions_between(np.datetime64(dates[k - 3]), np.datetime64(date)).astype(str).tolist()
        == dates[k - 3 : k + 1]
    )
    assert sessions_between(np.datetime64(date), np.datetime64(date)).astype(str).tolist() == [
        str(date)
    ]


@given(moments(), st.integers(1, 5_000))
@example(datetime(2024, 3, 5, 20, 30, tzinfo=UTC), 19 * 60)  # a night, caught up with at the open
@example(datetime(2024, 3, 5, 14, tzinfo=UTC), 60)  # the open holds the news since the close
@example(datetime(2024, 3, 5, 20, tzinfo=UTC), 60)  # up to the close
@example(datetime(2024, 3, 5, 21, tzinfo=UTC), 60)  # from the close on
@example(datetime(2024, 3, 8, 19, tzinfo=UTC), 24 * 60)  # Friday afternoon and a day
def test_shared_news_time_is_positive_only_during_sessions(at: datetime, minutes: int) -> None:
    end = at + timedelta(minutes=minutes)
    share = float(stock_crypto_news_overlap(all64(at), all64(end))[0])
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


def test_dates_outside_the_calendar_get_a_suggested_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    dates = exchange_calendar().dates
    for early in (dates[0] - 40, dates[0], dates[0] + 30):
        assert format_outside_calendar(early).endswith(
            "remove earlier rows, or choose a later date"
        )
    ends = (dates[-1] - 30, dates[-1], dates[-1] + 40)
    for now, cure in (
        (dates[-1] - 60, "the date is in the future; correct it"),
        (dates[-1] + 60, "install a newer exchange_calendars"),
    ):
        monkeypatch.setattr(sessions, "utc_now", lambda now=now: now)
        assert all(format_outside_calendar(late).endswith(cure) for late in ends)


def test_reference_times_exist_before_the_first_calendar_day() -> None:
    opens = exchange_calendar().opens[:1]
    marks = last_four_pms(opens), last_friday_four_pms(opens), last_month_end_four_pms(opens)
    assert [str(mark[0])[:10] for mark in marks] == ["1962-01-01", "1961-12-29", "1961-12-31"]


def test_instants_outside_the_calendar_are_refused() -> None:
    stocks, dates, one = HOURLY.stock_clock, exchange_calendar().dates, np.timedelta64(1, "D")
    early = np.datetime64("1961-06-01", "ns")
    late = exchange_calendar().closes[-1]
    for ask in (
        lambda: stocks.holding_ends(np.array([late])),
        lambda: stocks.holding_ends(stocks.decision_instants[-11:-10], "session"),
        lambda: next_bar_ends(stocks, stocks.ends[-3:-2], 3),
        lambda: stocks.slot_indices(stocks.ends[-3:-2], 3),
        lambda: last_friday_four_pms(np.array([early])),
        lambda: count_nights_since_previous(np.array([late])),
        lambda: last_four_pms(np.array([late + 9 * one])),
    ):
        with refused(InputError, "1962-01-02", varies=r"20\d\d-[\w:-]+"):
            ask()
    ahead = next_bar_ends(stocks, stocks.ends[-3:-2], 2)
    assert ahead[0].tolist() == stocks.ends[-2:].tolist()
    assert stocks.slot_indices(stocks.ends[-3:-2], 2).shape == (1, 3)
    assert stocks.holding_ends(stocks.decision_instants[-12:-11]) == stocks.decision_instants[-11]
    assert first_open_on_or_after(dates[-1] + one) is session_on(dates[-1] + one) is None
    assert session_on(dates[0]) is None, "the session before it is not known"
    second = session_on(dates[1])
    assert second is not None
    assert second.previous_date == dates[0]
    assert not is_in_session(np.array([early]))[0]
    assert not stocks.intraday_ceiling_applies(np.array([early]))[0]
    assert np.isnat(stocks.ends_by_start(np.array([late]))[0])
    assert np.isnat(stocks.starts_by_end(np.array([late + one]))[0])
    assert not stocks.is_decision(np.array([late]))[0]


@pytest.mark.parametrize(
    ("name", "stock", "coin"),
    [("1d", 1, 1), ("1h", 7, 24), ("30m", 13, 48), ("15m", 26, 96), ("5m", 78, 288)],
)
def test_bar_counts_per_day_and_year_match_calendar(
    name: TimeframeName, stock: int, coin: int
) -> None:
    """A full session has 390 minutes and a year 252 sessions; crypto has 365.25 full days."""
    timeframe = Timeframe(name)
    stocks, coins = timeframe.clock(AssetClass.STOCK), timeframe.clock(AssetClass.CRYPTO)
    assert max(len(day.bars) for day in days(timeframe)) == stocks.bars_per_day == stock
    assert stocks.bars_per_year == stock * 252
    assert (coins.bars_per_day, coins.bars_per_year) == (coin, coin * 365.25)
    week = all64(*(FIRST + k * HOUR for k in range(168)))
    week = week[coins.is_decision(week)]
    assert coins.slot_indices(week, 0).max() + 1 == coins.slot_count == (2 if coin == 1 else 48)
    assert stocks.slot_count == stock
    assert np.timedelta64(390, "m") == FULL_SESSION_LENGTH


@pytest.mark.parametrize("timeframe", LENGTHS, ids=lambda each: each.name)
def test_slot_label_states_new_york_time(timeframe: Timeframe) -> None:
    stocks = timeframe.stock_clock
    whole = max(days(timeframe), key=lambda day: len(day.bars))
    told = [f"{end.astimezone(NEW_YORK):%H:%M}" for _, end in whole.bars]
    assert [stocks.slot_label(k) for k in range(stocks.slot_count)] == told


def test_instants_are_in_utc_dates_in_new_york() -> None:
    at = np.datetime64("2024-03-05T17:30:15.5", "ns")
    assert format_compact_utc(at) == "20240305T173015Z"
    assert format_utc(at) == "2024-03-05T17:30Z"
    for text in ("2024-03-05T17:30:15.5Z", "2024-03-05 17:30:15.5+00:00"):
        assert parse_instant(text, name="start") == at
    for text in ("2024-03-05T12:30:15.5-05:00", "2024-03-05T12:30:15.5-0500"):
        assert parse_instant(text, name="start", end_of_day=True) == at
    begin, end = (
        parse_instant("2024-07-01", name="end", end_of_day=late) for late in (False, True)
    )
    assert begin == np.datetime64("2024-07-01T04:00")
    assert end == np.datetime64("2024-07-02T03:59:59.999999999")


def test_invalid_or_out_of_range_date_is_refused() -> None:
    for text in (
        *("yesterday-ish", "2024-13-01", "2024-10-01T15:30", "", "NaT", "2/10/2024", "10.02.2024"),
        *("20241001", "2024-10", "2024", "2024-1-5", "1 Oct 2024", "today", "15:30Z"),
        *("2024-10-01T15Z", "2024-10-01 America/New_York", "2024-10-01Z"),
        *("2999-01-01", "1600-01-01", "2500-01-01T00:00Z"),
    ):
        with refused(InputError, "start"):
            parse_instant(text, name="start")


@given(st.integers(0, 24 * 3600 - 1), st.integers(0, 400))
def test_history_start_is_a_midnight_fixed_all_day(second: int, days: int) -> None:
    now = np.datetime64("2024-03-05") + np.timedelta64(second, "s")
    assert history_start(now, days) == np.datetime64("2024-03-05") - np.timedelta64(days, "D")
    assert history_start(now, days).dtype == np.dtype("datetime64[ns]")


def test_sessions_since_1962_leave_out_regular_holidays() -> None:
    """The numbers of sessions are NYSE's; in 1968 it closed on Wednesdays for its paperwork."""
    dates = exchange_calendar().dates
    assert dates[0] == np.datetime64("1962-01-02")
    years, counts = np.unique(dates.astype("datetime64[Y]").astype(int) + 1970, return_counts=True)
    sessions = dict(zip(years.tolist(), counts.tolist(), strict=True))
    found = [sessions[year] for year in range(1962, 1971)]
    assert found == [252, 251, 253, 252, 252, 251, 226, 250, 254]
    shut = ["1962-07-04", "1963-11-25", "1964-11-03", "1966-05-30", "1968-07-04", "1969-12-25"]
    assert not np.isin(np.array(shut, dtype="datetime64[D]"), dates).any()


@pytest.mark.parametrize("date", ["1962-07-05", "1969-07-01", "1974-01-07", "2024-07-01"])
def test_new_york_time_is_correct_since_1962(date: str) -> None:
    noon = datetime.fromisoformat(f"{date}T12:00").replace(tzinfo=NEW_YORK)
    at = np.array([noon.astimezone(UTC).replace(tzinfo=None)], dtype="datetime64[ns]")
    assert new_york_minutes_of_day(at).tolist() == [12 * 60]
