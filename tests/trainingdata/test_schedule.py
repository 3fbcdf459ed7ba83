"""Which decisions a schedule makes, against a plain walk through all that there are."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from execution.decision.settings import TradingSettings
from foundation.errors import InputError
from tests.support.messages import refused
from tests.support.session_days import (
    NEW_YORK,
    all64,
    at64,
    bars,
    begun,
    day_of,
    decisions,
    frames,
    length,
    moments,
)
from trainingdata.instruments import AssetClass
from trainingdata.schedule import EVERY_BAR, Schedule
from trainingdata.timeframe import DAILY, Timeframe, TimeframeName

kinds = st.sampled_from(list(AssetClass))
periods = st.sampled_from(["weekly", "monthly"])


def filled_on(timeframe: Timeframe, kind: AssetClass, at: datetime) -> date:
    """The day that a decision belongs to: of the bar that starts after it."""
    if kind is AssetClass.CRYPTO:
        return at.date()
    start = next(begin for begin, _ in bars(timeframe) if begin >= at)
    return start.astimezone(NEW_YORK).date()


def made_before(timeframe: Timeframe, kind: AssetClass, at: datetime) -> datetime:
    if kind is AssetClass.CRYPTO:
        return begun(at - timedelta(microseconds=1), timeframe)
    return max(each for each in decisions(timeframe) if each < at)


def period_of(day: date, name: str) -> tuple[int, ...]:
    return day.isocalendar()[:2] if name == "weekly" else (day.year, day.month)


def expected(schedule: str, timeframe: Timeframe, kind: AssetClass, at: datetime) -> bool:
    """Whether it decides at an instant, by one look at it and one at the decision before."""
    makes = at == begun(at, timeframe) if kind is AssetClass.CRYPTO else at in decisions(timeframe)
    if not makes or schedule == "bars":
        return makes
    if schedule not in ("weekly", "monthly"):
        return f"{at.astimezone(NEW_YORK):%H:%M}" in schedule.split(",")
    before = made_before(timeframe, kind, at)
    here, there = (filled_on(timeframe, kind, each) for each in (at, before))
    return period_of(here, schedule) != period_of(there, schedule)


@given(
    st.sampled_from(["bars", "weekly", "monthly", "10:30,15:30", "16:00,00:00"]),
    frames,
    kinds,
    moments(),
)
@example("weekly", DAILY, AssetClass.CRYPTO, datetime(2024, 3, 3, tzinfo=UTC))
@example("weekly", DAILY, AssetClass.CRYPTO, datetime(2024, 3, 4, tzinfo=UTC))
def test_schedule_selects_the_expected_decision_times(
    text: str, timeframe: Timeframe, kind: AssetClass, at: datetime
) -> None:
    decides = Schedule.parse(text).is_scheduled(timeframe.clock(kind), all64(at))
    assert decides.tolist() == [expected(text, timeframe, kind, at)]


@given(periods, frames, kinds, moments())
def test_scheduled_periods_have_one_decision_each(
    name: str, timeframe: Timeframe, kind: AssetClass, at: datetime
) -> None:
    """With daily bars this is Friday's close, which fills at Monday's open."""
    clock = timeframe.clock(kind)
    made = clock.decisions_between(at64(at), at64(at + timedelta(days=100)))
    chosen = made[Schedule.parse(name).is_scheduled(clock, made)]
    dates = clock.fill_dates(chosen).astype("datetime64[D]").tolist()
    assert len({period_of(day, name) for day in dates}) == len(dates)
    assert 3 <= len(dates) <= 4 if name == "monthly" else 14 <= len(dates) <= 15


@given(moments())
def test_closing_auction_decision_counts_for_its_own_day(at: datetime) -> None:
    clock = Timeframe("1d", "close").clock(AssetClass.STOCK)
    made = clock.decisions_between(at64(at), at64(at + timedelta(days=30)))
    assert clock.fill_dates(made).tolist() == made.astype("datetime64[D]").tolist()
    weekly = (
        made[Schedule.parse("weekly").is_scheduled(clock, made)].astype("datetime64[D]").tolist()
    )
    assert all(day.isoweekday() <= 2 for day in weekly), "a Monday may be a holiday"


@given(
    st.sampled_from(["bars", "weekly", "monthly", "10:30", "10:00,15:30"]), frames, kinds, moments()
)
def test_holding_period_ends_at_the_next_scheduled_decision(
    text: str, timeframe: Timeframe, kind: AssetClass, at: datetime
) -> None:
    schedule, clock = Schedule.parse(text), timeframe.clock(kind)
    made = clock.decisions_between(at64(at), at64(at + timedelta(days=50)))
    chosen = made[schedule.is_scheduled(clock, made) & (made > at64(at))]
    if not len(chosen):
        return  # a time of day that is not one of this grid's
    end = schedule.holding_end(clock, at64(at))
    assert end == chosen[0] > at64(at)
    if text == "bars":
        assert end == clock.holding_ends(all64(at))
    session = schedule.holding_end(clock, at64(at), "session")
    assert session in chosen
    assert session >= clock.holding_ends(all64(at), "session")
    both = schedule.holding_ends(clock, all64(at, at + length(timeframe)), "next")
    assert both[0] == end


@given(st.sampled_from(["bars", "weekly", "10:30,15:30"]), frames, moments())
def test_last_scheduled_decision_applies_the_overnight_ceiling(
    text: str, timeframe: Timeframe, at: datetime
) -> None:
    day = day_of(at, timeframe)
    if day is None:
        return
    later = [
        each
        for each in day.decisions
        if each > at and expected(text, timeframe, AssetClass.STOCK, each)
    ]
    leaves = Schedule.parse(text).is_last_decision_of_session(timeframe.stock_clock, all64(at))
    assert leaves.tolist() == [not later]
    if text == "bars":
        assert not leaves[0] or not timeframe.stock_clock.intraday_ceiling_applies(all64(at))


@pytest.mark.parametrize(
    ("text", "name", "symbols", "facts"),
    [
        ("10:31", "1h", ["A"], ("10:31", "10:30", "15:30")),
        ("16:00,17:10", "1d", ["A"], ("17:10", "16:00")),
        ("10:30", "1h", ["A", "BTCUSD"], ("10:30", "00:00", "01:00", "23:00")),
        ("daily", "1h", ["A"], ("'daily'", "bars", "weekly", "monthly")),
        ("weekley", "1h", ["A"], ("weekly",)),
        ("10:30,10:30", "1h", ["A"], ("New York",)),
    ],
)
def test_schedule_time_without_decisions_is_refused_with_alternatives(
    text: str, name: TimeframeName, symbols: list[str], facts: tuple[str, ...]
) -> None:
    with refused(InputError, "schedule", *facts):
        TradingSettings(schedule=(text,)).check_schedule(Timeframe(name), symbols)


def test_schedule_accepts_stock_and_crypto_decision_times() -> None:
    settings = TradingSettings(schedule=("15:30", "10:30", "16:00"))
    settings.check_schedule(Timeframe("1h"), ["A", "BTCUSD"])
    assert settings.decision_schedule == Schedule("times", (630, 930, 960))
    assert TradingSettings().decision_schedule == EVERY_BAR
    none = np.array([], dtype="datetime64[ns]")
    clock = Timeframe("1h").stock_clock
    assert len(settings.decision_schedule.holding_ends(clock, none, "next")) == 0
    assert len(settings.decision_schedule.is_last_decision_of_session(clock, none)) == 0
