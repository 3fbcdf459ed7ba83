"""Loss limits: what counts as a loss, when it halts, and when a halt ends."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.journal.events import EventLog
from execution.journal.halts import Halt, HaltChanges, HaltKind, Halts
from execution.live.guards import GuardSettings
from execution.live.losses import Mark, drawdown, loss_halts, loss_of_day
from foundation.database import Database

HOUR = np.timedelta64(1, "h")
MINUTE = np.timedelta64(1, "m")
NOON = np.datetime64("2024-03-05T17:00", "ns")  # of New York, a Tuesday
SETTINGS = GuardSettings(daily_loss=0.10, drawdown=0.30, resume=0.5)
TINY = Decimal("1e-18")

# One mark to the next: a return of a tenth of a percent's steps, and flows as a share of equity.
returns = st.decimals("0.5", "1.5", places=3)
shares = st.one_of(st.just(Decimal(0)), st.decimals("-0.95", "1000", places=2))
paths = st.lists(st.tuples(returns, shares), min_size=1, max_size=12)


def marks_of(*equities: float, begin: np.datetime64 = NOON) -> list[Mark]:
    """Marks an hour apart, without flows."""
    return [Mark(begin + k * HOUR, Decimal(str(each))) for k, each in enumerate(equities)]


def walked(path: list[tuple[Decimal, Decimal]], capital: Decimal, flowing: bool) -> list[Mark]:
    """Marks eight hours apart of an account with these returns, with or without the flows."""
    marks = [Mark(NOON, capital)]
    equity = capital
    for k, (growth, share) in enumerate(path):
        grown = equity * growth
        flow = grown * share if flowing else Decimal(0)
        equity = grown + flow
        marks.append(Mark(NOON + (k + 1) * 8 * HOUR, equity, flow))
    return marks


class Account:
    """An account that is marked again and again, with its halts."""

    def __init__(self, settings: GuardSettings = SETTINGS) -> None:
        database = Database()
        self.halts = Halts(database, EventLog(database, clock=lambda: NOON))
        self.settings = settings
        self.marks: list[Mark] = []

    def marked(self, *marks: Mark) -> HaltChanges:
        """What the last of these marks changes."""
        changes = HaltChanges()
        for mark in marks:
            self.marks.append(mark)
            changes = loss_halts(self.marks, mark.at, self.settings, self.halts.history())
            self.halts.apply(changes, mark.at)
        return changes

    def worth(self, equity: Decimal | float, flows: Decimal | float = 0) -> HaltChanges:
        """An hour later."""
        at = self.marks[-1].at + HOUR if self.marks else NOON
        return self.marked(Mark(at, Decimal(str(equity)), Decimal(str(flows))))

    def clear(self, kind: HaltKind, minutes: int = 5) -> None:
        """A person clears a halt, minutes after the last mark."""
        assert self.halts.clear(kind, "Ada", self.marks[-1].at + minutes * MINUTE)

    @property
    def standing(self) -> set[str]:
        return {halt.kind for halt in self.halts.standing()}


def changes_of(account: Account, marks: list[Mark]) -> list[tuple[set[str], set[str]]]:
    """Kinds that end and are raised, mark by mark."""
    changes = [account.marked(mark) for mark in marks]
    return [(set(each.ended), set(each.raised)) for each in changes]


@given(paths, st.sampled_from(("0.01", "1", "1000000")))
def test_flows_and_capital_of_any_size_neither_raise_nor_hide_a_halt(
    path: list[tuple[Decimal, Decimal]], scale: str
) -> None:
    plain = walked(path, Decimal(10**9), flowing=False)
    flowing = walked(path, Decimal(10**9) * Decimal(scale), flowing=True)
    for k in range(1, len(plain) + 1):
        now = plain[k - 1].at
        assert abs(loss_of_day(plain[:k], now) - loss_of_day(flowing[:k], now)) < TINY
        assert abs(drawdown(plain[:k]) - drawdown(flowing[:k])) < TINY
    # At a loss that is its limit to the last digit rounding would decide: these returns miss it.
    settings = GuardSettings(daily_loss=0.1001234567, drawdown=0.3001234567, resume=0.4987654321)
    assert changes_of(Account(settings), plain) == changes_of(Account(settings), flowing)


@given(st.lists(st.integers(40, 130), min_size=1, max_size=40), st.data())
def test_a_drawdown_halts_at_its_limit_and_ends_at_half_of_it_and_never_in_between(
    equities: list[int], data: st.DataObject
) -> None:
    resume = data.draw(st.sampled_from((0.0, 0.5, 0.9)))
    account = Account(replace(SETTINGS, drawdown=0.25, resume=resume))
    peak, halted = 0, False
    for equity in equities:
        account.worth(equity)
        peak = max(peak, equity)
        if 4 * (peak - equity) >= peak:
            halted = True
        elif (peak - equity) * 1000 <= round(250 * resume) * peak:
            halted = False
        assert ("drawdown" in account.standing) == halted


@given(st.lists(st.integers(80, 120), min_size=1, max_size=60))
def test_a_daily_loss_halts_until_the_next_date_of_new_york(equities: list[int]) -> None:
    account = Account()
    base, date, halted = 0, "", False
    for k, equity in enumerate(equities):
        at = NOON + k * HOUR
        # In this week New York's clock is five hours behind.
        today = str((at - 5 * HOUR).astype("datetime64[D]"))
        if today != date:
            base = equities[k - 1] if k else equity
            date, halted = today, False
        halted |= 10 * (base - equity) >= base
        account.worth(equity)
        assert ("daily_loss" in account.standing) == halted


def test_a_deposit_is_no_profit_and_a_withdrawal_no_loss() -> None:
    marks = [
        Mark(NOON, 1000.0),
        Mark(NOON + HOUR, 2950.0, 2000.0),
        Mark(NOON + 2 * HOUR, 100.0, -2850.0),
        Mark(NOON + 3 * HOUR, 90.0),
    ]
    assert loss_of_day(marks[:1], NOON) == drawdown(marks[:1]) == 0
    assert loss_of_day(marks[:2], NOON + HOUR) == Decimal("0.05")
    assert loss_of_day(marks[:3], NOON + 2 * HOUR) == pytest.approx(Decimal("0.05"))
    # 0.95 of it is left, and then nine tenths of that.
    assert loss_of_day(marks, NOON + 3 * HOUR) == pytest.approx(Decimal("0.145"))
    assert drawdown(marks) == pytest.approx(Decimal("0.145"))


def test_a_loss_of_exactly_the_limit_halts() -> None:
    account = Account()
    account.worth(100)
    assert account.worth(95).raised == {}
    assert account.worth(90.01).raised == {}
    assert account.worth(90).raised == {
        "daily_loss": "10.0% of the day's first equity are lost; guards.daily_loss is 0.1"
    }
    assert account.worth(70).raised == {
        "drawdown": "30.0% are lost since the peak; guards.drawdown is 0.3"
    }


def test_the_day_begins_at_the_last_mark_before_it() -> None:
    midnight = np.datetime64("2024-03-06T05:00", "ns")  # of New York
    marks = [Mark(midnight - HOUR, 100.0), Mark(midnight, 95.0), Mark(midnight + HOUR, 90.0)]
    assert loss_of_day(marks, midnight + HOUR) == Decimal("0.1")
    assert loss_of_day(marks[1:], midnight + HOUR) == 1 - Decimal(90) / 95
    assert loss_of_day(marks, midnight + 24 * HOUR) == 0, "of that day nothing is known"
    assert loss_of_day([], midnight) == 0
    assert loss_of_day([*marks, Mark(midnight + 2 * HOUR, 110.0)], midnight) == Decimal("-0.1")


def test_the_next_date_may_begin_halted_again() -> None:
    account = Account()
    account.marked(*marks_of(100, 85, begin=NOON))
    assert account.standing == {"daily_loss"}
    next_day = NOON + 24 * HOUR
    changes = account.marked(Mark(next_day, 75.0))
    assert (changes.ended, set(changes.raised)) == (("daily_loss",), {"daily_loss"})
    assert [halt.stands for halt in account.halts.history()] == [False, True]


def test_a_clock_that_goes_back_ends_no_daily_loss() -> None:
    account = Account()
    account.marked(*marks_of(100, 85))
    before = NOON - 24 * HOUR
    changes = loss_halts([Mark(before, 100.0)], before, SETTINGS, account.halts.history())
    assert changes == HaltChanges()


@pytest.mark.parametrize("equity", [0, -250])
def test_an_account_that_is_worth_nothing_halts_at_once(equity: float) -> None:
    account = Account(replace(SETTINGS, daily_loss=1.0, drawdown=1.0))
    assert account.worth(1000).raised == {}
    assert set(account.worth(equity).raised) == {"daily_loss", "drawdown"}
    first = Account()
    assert set(first.worth(equity).raised) == {"daily_loss", "drawdown"}
    assert drawdown(first.marks) == loss_of_day(first.marks, NOON) == 1


def test_a_deposit_hides_no_loss_of_everything() -> None:
    account = Account()
    account.worth(1000)
    account.worth(-50)
    for equity, flows in ((9950, 10_000), (12_000, 0), (13_000, 0)):
        assert account.worth(equity, flows) == HaltChanges()
        assert account.standing == {"daily_loss", "drawdown"}
    # On the next day the loss of the day is a new one. The drawdown waits for a person.
    account.marked(Mark(NOON + 24 * HOUR, 13_000.0))
    assert account.standing == {"drawdown"}
    account.clear("drawdown")
    assert account.worth(9_200).raised.keys() == {"daily_loss"}
    assert account.worth(9_100).raised.keys() == {"drawdown"}


@pytest.mark.parametrize("unit", [Decimal(1), Decimal("0.001")])
def test_a_deposit_that_comes_with_the_loss_of_everything_hides_nothing(unit: Decimal) -> None:
    account = Account()
    account.worth(1000 * unit)
    assert set(account.worth(500 * unit, flows=800 * unit).raised) == {"daily_loss", "drawdown"}
    account.clear("drawdown")
    account.clear("daily_loss")
    # The 500 that are left are the beginning of what comes.
    assert account.worth(460 * unit) == HaltChanges()
    assert account.worth(450 * unit).raised.keys() == {"daily_loss"}
    assert account.worth(350 * unit).raised.keys() == {"drawdown"}


def test_a_halt_of_the_first_mark_after_everything_was_lost_ends_as_others_do() -> None:
    account = Account()
    account.worth(1000)
    account.worth(500, flows=800)
    account.clear("drawdown")
    assert account.worth(300).raised.keys() == {"drawdown"}
    assert account.worth(400) == HaltChanges()
    assert account.worth(425).ended == ("drawdown",)


@pytest.mark.parametrize("minutes", [0, 5])
@pytest.mark.parametrize(
    ("kind", "limit", "seen"), [("daily_loss", 0.10, 0.12), ("drawdown", 0.20, 0.30)]
)
def test_a_loss_that_a_person_let_go_on_halts_again_once_it_has_grown_by_a_quarter(
    kind: HaltKind, limit: float, seen: float, minutes: int
) -> None:
    limits: dict[str, Any] = {"daily_loss": 1.0, "drawdown": 1.0, kind: limit}
    settings = GuardSettings(**limits)
    account = Account(settings)
    account.worth(10_000)
    assert set(account.worth(10_000 * (1 - seen)).raised) == {kind}
    account.clear(kind, minutes)
    for loss in (seen, seen - 0.01, seen + 0.24 * limit, seen):
        assert account.worth(round(10_000 * (1 - loss), 2)) == HaltChanges()
    assert set(account.worth(round(10_000 * (1 - seen - limit / 4), 2)).raised) == {kind}


def test_after_a_recovery_the_limit_counts_again() -> None:
    account = Account(replace(SETTINGS, daily_loss=1.0))
    account.worth(100)
    account.worth(60)
    account.clear("drawdown")
    assert account.worth(55).raised == {}, "an eighth of the limit more"
    account.worth(85)
    assert account.worth(71).raised == {}
    assert account.worth(70).raised.keys() == {"drawdown"}


def test_a_halt_that_ended_by_itself_forgives_nothing() -> None:
    account = Account(replace(SETTINGS, daily_loss=1.0))
    account.worth(100)
    account.worth(40)
    assert account.worth(85).ended == ("drawdown",)
    assert account.worth(70).raised.keys() == {"drawdown"}


def test_what_was_cleared_yesterday_is_no_excuse_for_a_loss_of_today() -> None:
    account = Account(replace(SETTINGS, drawdown=1.0))
    account.worth(100)
    account.worth(80)
    account.clear("daily_loss")
    account.marked(Mark(NOON + 24 * HOUR, 80.0))
    assert account.worth(72).raised.keys() == {"daily_loss"}


def test_everything_lost_halts_whatever_a_person_saw_before_it() -> None:
    account = Account(replace(SETTINGS, daily_loss=0.8, drawdown=0.8))
    account.worth(100)
    account.worth(10)
    account.clear("daily_loss")
    account.clear("drawdown")
    assert account.worth(5) == HaltChanges()
    assert set(account.worth(0).raised) == {"daily_loss", "drawdown"}
    account.clear("daily_loss")
    account.clear("drawdown")
    assert account.worth(0) == HaltChanges(), "a person has seen just that"
    assert account.worth(-10) == HaltChanges()


def test_the_order_of_halts_is_that_of_their_numbers() -> None:
    standing = Halt(2, "drawdown", NOON + 3 * HOUR, "")
    cleared = Halt(1, "drawdown", NOON, "", cleared_at=NOON + HOUR, cleared_by="Ada")
    marks = marks_of(100, 60, 60, 60)
    for halts in ((standing, cleared), (cleared, standing)):
        assert "drawdown" not in loss_halts(marks, NOON + 3 * HOUR, SETTINGS, halts).raised


def test_without_marks_nothing_changes() -> None:
    halt = Halt(1, "drawdown", NOON, "")
    assert loss_halts([], NOON, SETTINGS, [halt]) == HaltChanges()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN")])
def test_a_mark_is_a_number_of_dollars_at_an_instant(value: float) -> None:
    with pytest.raises(ValueError, match="equity must be a number of USD"):
        Mark(NOON, value)
    with pytest.raises(ValueError, match="flows must be a number of USD"):
        Mark(NOON, 1.0, value)
    with pytest.raises(ValueError, match="no instant"):
        Mark(np.datetime64("NaT", "ns"), 1.0)


def test_marks_are_oldest_first() -> None:
    marks = marks_of(100, 90)
    with pytest.raises(ValueError, match="oldest first"):
        drawdown(marks[::-1])
    assert drawdown([marks[0], replace(marks[1], at=marks[0].at)]) == Decimal("0.1")


@pytest.mark.parametrize("kind", ["daily_loss", "drawdown"])
def test_a_clearing_by_a_clock_that_is_ahead_lets_no_later_loss_go_on(kind: HaltKind) -> None:
    account = Account(replace(SETTINGS, daily_loss=0.3))
    account.worth(1000)
    account.worth(690)
    assert account.standing == {"daily_loss", "drawdown"}
    account.clear(kind, minutes=180)
    assert account.worth(600).raised.keys() == {kind}
