from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from trainingdata.instants import HOUR, four_pm, history_start, instant
from trainingdata.instruments import Kind
from trainingdata.sessions import (
    bar_position,
    holding_end,
    intraday_ceiling_holds,
    is_decision,
    known_at,
    last_four_pm,
    nights_between,
    shared_news,
    stock_grid,
)


def utc(text: str) -> np.datetime64:
    return np.datetime64(text, "ns")


def of(*texts: str) -> np.ndarray:
    return np.array([utc(t) for t in texts])


def test_a_regular_day_has_seven_bars_the_last_half_an_hour_long() -> None:
    starts = of(*(f"2024-10-01T{h}:30" for h in range(13, 20)))
    ends = known_at(Kind.STOCK, starts)
    assert (ends[:-1] - starts[:-1] == HOUR).all()
    assert ends[-1] == utc("2024-10-01T20:00")


def test_a_half_day_ends_at_one_and_its_last_bar_is_half_an_hour() -> None:
    starts = of(
        "2024-11-29T14:30",
        "2024-11-29T15:30",
        "2024-11-29T16:30",
        "2024-11-29T17:30",
        "2024-11-29T18:30",
    )
    ends = known_at(Kind.STOCK, starts)
    assert ends[3] == utc("2024-11-29T18:00")
    assert np.isnat(ends[4])
    assert is_decision(Kind.STOCK, ends[:4]).tolist() == [True, True, True, False]


def test_known_at_follows_daylight_saving_time() -> None:
    assert (
        known_at(Kind.STOCK, of("2024-03-08T14:30", "2024-03-11T13:30")).tolist()
        == of("2024-03-08T15:30", "2024-03-11T14:30").tolist()
    )
    assert (
        four_pm(np.array(["2024-03-08", "2024-03-11"], dtype="datetime64[D]")).tolist()
        == of("2024-03-08T21:00", "2024-03-11T20:00").tolist()
    )


def test_nothing_starts_on_holidays_weekends_or_between_the_half_hours() -> None:
    assert np.isnat(
        known_at(Kind.STOCK, of("2024-07-04T13:30", "2024-10-05T13:30", "2024-10-01T14:00"))
    ).all()
    assert np.isnat(known_at(Kind.CRYPTO, of("2024-10-01T14:30")))[0]


def test_stocks_decide_from_1030_to_1530_and_never_at_the_close() -> None:
    day = utc("2024-10-01T13:00") + np.arange(0, 9 * 60, 30) * np.timedelta64(1, "m")
    decided = day[is_decision(Kind.STOCK, day)]
    assert decided.tolist() == of(*(f"2024-10-01T{h}:30" for h in range(14, 20))).tolist()


def test_the_holding_interval_ends_at_the_next_decision_and_contains_the_night() -> None:
    assert holding_end(Kind.STOCK, utc("2024-10-01T14:30")) == utc("2024-10-01T15:30")
    assert holding_end(Kind.STOCK, utc("2024-10-01T19:30")) == utc("2024-10-02T14:30")
    assert holding_end(Kind.STOCK, utc("2024-10-04T19:30")) == utc("2024-10-07T14:30")
    assert holding_end(Kind.CRYPTO, utc("2024-10-01T14:00")) == utc("2024-10-01T15:00")


def test_a_session_long_holding_interval_ends_at_the_same_decision_of_the_next_session() -> None:
    assert holding_end(Kind.STOCK, utc("2024-10-01T16:30"), "session") == utc("2024-10-02T16:30")
    half_day_last = holding_end(Kind.STOCK, utc("2024-11-27T20:30"), "session")
    assert half_day_last == utc("2024-11-29T17:30")
    assert holding_end(Kind.CRYPTO, utc("2024-10-01T14:00"), "session") == utc("2024-10-02T14:00")


def test_the_forecast_step_follows_the_calendar() -> None:
    def steps(start: str, end: str) -> float:
        here, there = bar_position(Kind.STOCK, of(start, end))
        return float(there - here)

    assert steps("2024-10-01T14:30", "2024-10-01T15:30") == 1
    assert steps("2024-10-01T19:30", "2024-10-02T14:30") == 2
    assert steps("2024-10-01T22:00", "2024-10-02T03:00") == 0
    assert steps("2024-10-01T14:30", "2024-10-01T15:00") == 0.5


def test_the_overnight_ceiling_begins_with_the_last_decision_of_a_session() -> None:
    assert intraday_ceiling_holds(utc("2024-10-01T19:00"))
    assert not intraday_ceiling_holds(utc("2024-10-01T19:30"))
    assert not intraday_ceiling_holds(utc("2024-10-01T22:00"))
    assert not intraday_ceiling_holds(utc("2024-10-02T13:00"))
    assert intraday_ceiling_holds(utc("2024-10-02T14:00"))


def test_on_a_half_day_the_overnight_ceiling_begins_one_decision_earlier() -> None:
    """So that the cut fills even where the feed lacks the session's last half hour."""
    assert intraday_ceiling_holds(utc("2024-11-29T15:30"))
    assert not intraday_ceiling_holds(utc("2024-11-29T16:30"))
    assert not intraday_ceiling_holds(utc("2024-11-29T17:30"))


def nights_after(previous: np.datetime64, now: np.datetime64) -> int:
    return int(nights_between(np.array([previous, now]))[1])


def test_friday_carries_three_nights_and_a_long_weekend_four() -> None:
    assert nights_after(utc("2024-10-03T19:30"), utc("2024-10-03T20:00")) == 1
    assert nights_after(utc("2024-10-04T19:30"), utc("2024-10-04T20:00")) == 3
    assert nights_after(utc("2024-08-30T19:30"), utc("2024-08-30T20:00")) == 4
    assert nights_after(utc("2024-10-03T20:00"), utc("2024-10-04T19:30")) == 0


@given(st.integers(0, 20_000))
def test_nights_add_up_however_time_is_cut(hours: int) -> None:
    start = utc("2023-01-01T00:00")
    middle = start + hours * HOUR
    end = start + 20_000 * HOUR
    assert nights_after(start, middle) + nights_after(middle, end) == nights_after(start, end)


@given(st.integers(0, 200_000), st.integers(0, 5_000))
def test_bar_position_never_runs_backwards(minutes: int, more: int) -> None:
    start = utc("2023-01-01T00:00") + minutes * np.timedelta64(1, "m")
    for kind in Kind:
        here, there = bar_position(kind, np.array([start, start + more * np.timedelta64(1, "m")]))
        assert there >= here


def test_every_decision_is_the_start_of_a_bar() -> None:
    grid = stock_grid()
    assert np.isin(grid.decisions, grid.starts).all()
    assert not np.isin(grid.closes, grid.decisions).any()


def test_the_last_four_pm_is_never_later_than_now() -> None:
    assert last_four_pm(utc("2024-10-01T20:00")) == utc("2024-10-01T20:00")
    assert last_four_pm(utc("2024-10-01T19:59")) == utc("2024-09-30T20:00")


def test_dates_are_new_york_dates_and_both_ends_inclusive() -> None:
    assert instant("2024-10-01", name="start") == utc("2024-10-01T04:00")
    assert instant("2024-10-01", name="end", end_of_day=True) == utc(
        "2024-10-02T04:00"
    ) - np.timedelta64(1, "ns")
    for text in ("2024-10-01T15:30Z", "2024-10-01 15:30:00+00:00", "2024-10-01T11:30:00.0-0400"):
        assert instant(text, name="start") == utc("2024-10-01T15:30")


@pytest.mark.parametrize(
    "text",
    [
        "yesterday-ish",
        "2024-13-01",
        "2024-10-01T15:30",
        "",
        "NaT",
        "2/10/2024",
        "10.02.2024",
        "20241001",
        "2024-10",
        "2024",
        "2024-1-5",
        "1 Oct 2024",
        "today",
        "15:30Z",
        "2024-10-01T15Z",
        "2024-10-01 America/New_York",
        "2024-10-01Z",
    ],
)
def test_a_date_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(InputError, match="start"):
        instant(text, name="start")


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        ("2024-03-05T15:30", "2024-03-05T16:30", 1.0),  # an hour of the session
        (
            "2024-03-05T20:30",
            "2024-03-06T15:30",
            1.0,
        ),  # from 15:30 to 10:30: stocks catch up with the night at the open
        ("2024-03-05T08:00", "2024-03-05T09:00", 0.0),  # at night stocks do not move
        (
            "2024-03-05T14:00",
            "2024-03-05T15:00",
            1 / 18**0.5,
        ),  # 09:00 to 10:00: the open holds the news since 16:00
        (
            "2024-03-08T19:00",
            "2024-03-09T19:00",
            2 / (2 * 24) ** 0.5,
        ),  # Friday 14:00 and a day: stocks move until 16:00
        ("2024-03-05T20:00", "2024-03-05T21:00", 1.0),  # up to the close
        ("2024-03-05T21:00", "2024-03-05T22:00", 0.0),  # from the close on
        ("2024-03-09T12:00", "2024-03-10T12:00", 0.0),  # a Saturday
        ("2024-03-05T17:00", "2024-03-06T17:00", 1.0),  # a day within the week
    ],
)
def test_stocks_and_coins_share_the_news_of_the_time_both_move_in(
    begin: str, end: str, expected: float
) -> None:
    found = shared_news(
        np.array([begin], dtype="datetime64[ns]"), np.array([end], dtype="datetime64[ns]")
    )
    assert found[0] == pytest.approx(expected)


@pytest.mark.parametrize("text", ["2999-01-01", "1600-01-01", "2500-01-01T00:00Z"])
def test_an_instant_that_no_clock_here_reaches_is_refused_in_a_line(text: str) -> None:
    with pytest.raises(InputError, match=r"start: .* is no "):
        instant(text, name="start")


@given(st.integers(0, 24 * 3600 - 1), st.integers(0, 400))
def test_a_history_of_so_many_days_begins_at_one_midnight_all_day(second: int, days: int) -> None:
    now = utc("2024-03-05") + np.timedelta64(second, "s")
    assert history_start(now, days) == utc("2024-03-05") - np.timedelta64(days, "D")
    assert history_start(now, days).dtype == np.dtype("datetime64[ns]")
