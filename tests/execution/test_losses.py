"""Loss limits: what counts as a loss, when it halts, and when a halt ends."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from execution.journal.events import EventLog
from execution.journal.halts import HaltChanges, HaltJournal, HaltKind
from execution.journal.marks import EquityMark, EquityMarkJournal, ReturnIndexPoint
from execution.live.guards import GuardSettings
from execution.live.losses import (
    REHALT_LOSS_GROWTH_FRACTION,
    loss_halt_changes,
    next_index_point,
    record_mark_and_halts,
)
from foundation.clock import TimeSource
from tests.support.connections import open_for_test
from trainingdata.instants import new_york_day

HOUR = np.timedelta64(1, "h")
MINUTE = np.timedelta64(1, "m")
NOON = np.datetime64("2024-03-05T17:00", "ns")  # of New York, a Tuesday
SETTINGS = GuardSettings(daily_loss=0.10, drawdown=0.30, drawdown_resume_fraction=0.5)


class Mark(NamedTuple):
    """What an account is worth, and what was paid in less taken out since the mark before; USD."""

    at: np.datetime64
    equity: Decimal | float
    flow: Decimal | float = 0


def marks_of(*equities: float, begin: np.datetime64 = NOON) -> list[Mark]:
    """Marks an hour apart, without flows."""
    return [Mark(begin + k * HOUR, Decimal(str(each))) for k, each in enumerate(equities)]


class Account:
    """An account that is marked again and again, with its halts."""

    def __init__(self, settings: GuardSettings = SETTINGS) -> None:
        database = open_for_test()
        self.halts = HaltJournal(database, EventLog(database, clock=TimeSource(now=lambda: NOON)))
        self.settings = settings
        self.points: list[ReturnIndexPoint] = []

    def marked(self, *marks: Mark) -> HaltChanges:
        """What the last of these marks changes."""
        changes = HaltChanges()
        for mark in marks:
            latest = self.halts.latest_by_kind()
            last = self.points[-1] if self.points else None
            self.points.append(next_index_point(last, *mark, latest, self.settings))
            changes = loss_halt_changes(self.points[-1], latest, self.settings)
            self.halts.apply_changes(changes, mark.at)
        return changes

    def worth(self, equity: Decimal | float, flows: Decimal | float = 0) -> HaltChanges:
        """An hour later."""
        at = self.points[-1].at + HOUR if self.points else NOON
        return self.marked(Mark(at, Decimal(str(equity)), Decimal(str(flows))))

    def clear(self, kind: HaltKind, minutes: int = 5) -> None:
        """A person clears a halt, minutes after the last mark."""
        assert self.halts.clear(kind, "Ada", self.points[-1].at + minutes * MINUTE)

    @property
    def standing(self) -> set[str]:
        return {halt.kind for halt in self.halts.active()}


class Reference:
    """The same judged from every mark anew, as plainly as it can be said: no total loss in it."""

    def __init__(self, settings: GuardSettings) -> None:
        self.settings = settings
        self.marks: list[Mark] = []
        self.raised_at: dict[str, np.datetime64] = {}
        self.cleared_at: dict[str, np.datetime64] = {}

    def indices(self) -> list[Decimal]:
        values = [Decimal(self.marks[0].equity)]
        for before, mark in pairwise(self.marks):
            growth = (Decimal(mark.equity) - Decimal(mark.flow)) / Decimal(before.equity)
            values.append(values[-1] * growth)
        return values

    def losses(self) -> tuple[list[Decimal], list[Decimal]]:
        """Loss of the day and loss since the peak, at every mark."""
        values = self.indices()
        of_day, of_peak = [], []
        for k, mark in enumerate(self.marks):
            earlier = [
                j for j in range(k) if new_york_day(self.marks[j].at) < new_york_day(mark.at)
            ]
            of_day.append(1 - values[k] / values[earlier[-1] if earlier else 0])
            of_peak.append(1 - values[k] / max(values[: k + 1]))
        return of_day, of_peak

    def marked(self, mark: Mark) -> None:
        self.marks.append(mark)
        of_day, of_peak = self.losses()
        back = Decimal(str(self.settings.drawdown)) * Decimal(
            str(self.settings.drawdown_resume_fraction)
        )
        since = self.raised_at.get("daily_loss", mark.at)
        if new_york_day(mark.at) > new_york_day(since):
            del self.raised_at["daily_loss"]
        if "drawdown" in self.raised_at and of_peak[-1] <= back:
            del self.raised_at["drawdown"]
        for kind, losses in (("daily_loss", of_day), ("drawdown", of_peak)):
            limit = Decimal(str(getattr(self.settings, kind)))
            seen = Decimal(0)
            if kind in self.cleared_at:
                cleared = self.cleared_at[kind]
                until = sum(each.at <= cleared for each in self.marks)
                if kind == "drawdown" and all(loss > back for loss in losses[until:]):
                    seen = losses[until - 1]
                if kind == "daily_loss" and new_york_day(cleared) == new_york_day(mark.at):
                    seen = losses[until - 1]
            limit = max(limit, min(Decimal(1), seen + REHALT_LOSS_GROWTH_FRACTION * limit))
            if kind not in self.raised_at and losses[-1] > seen and losses[-1] >= limit:
                self.raised_at[kind] = mark.at
                self.cleared_at.pop(kind, None)

    def clear(self, kind: str, at: np.datetime64) -> None:
        if self.raised_at.pop(kind, None) is not None:
            self.cleared_at[kind] = at


# What is kept of what is there, what is paid in as a share of it, hours since, and who clears.
steps = st.tuples(
    st.sampled_from(["0.81", "0.93", "0.97", "0.991", "1", "1.013", "1.04", "1.13"]),
    st.sampled_from(["0", "0", "0", "-0.5", "0.3", "2"]),
    st.sampled_from([1, 3, 9, 26]),
    st.sampled_from(["", "", "", "daily_loss", "drawdown"]),
)
Steps = list[tuple[str, str, int, HaltKind]]


def walk(account: Account, reference: Reference, path: Steps, begin: Mark) -> Mark:
    """The last mark of a path, at each of whose marks both have the same halts."""
    at, equity = begin.at, Decimal(begin.equity)
    for growth, share, hours, cleared in path:
        at = at + hours * HOUR
        grown = equity * Decimal(growth)
        flow = grown * Decimal(share)
        equity = grown + flow
        account.marked(Mark(at, equity, flow))
        reference.marked(Mark(at, equity, flow))
        assert account.standing == set(reference.raised_at)
        if cleared and cleared in account.standing:
            account.clear(cleared)
            reference.clear(cleared, at + 5 * MINUTE)
    return Mark(at, equity)


# Limits that no product of these returns meets to the last digit.
WALKED = GuardSettings(
    daily_loss=0.0501234567, drawdown=0.1501234567, drawdown_resume_fraction=0.4987654321
)


# What was cleared yesterday is no excuse for a loss of today.
@example([("0.93", "0", 1, "daily_loss"), ("0.93", "0", 26, "")], [], [])
# After a recovery the limit counts again, whether a person or the recovery ended the halt.
@example([("0.84", "0", 1, "drawdown"), ("1.13", "0", 26, ""), ("0.89", "0", 26, "")], [], [])
@example([("0.84", "0", 1, ""), ("1.13", "0", 26, ""), ("0.89", "0", 26, "")], [], [])
@given(st.lists(steps, max_size=30), st.lists(steps, max_size=8), st.lists(steps, max_size=12))
def test_loss_halts_match_a_full_history_reference(path: Steps, lost: Steps, after: Steps) -> None:
    """Halts equal those computed from all marks. A total loss halts until a person clears it; then
    the equity at that time is the new reference.
    """
    account, reference = Account(WALKED), Reference(WALKED)
    begin = Mark(NOON, Decimal(100_000))
    account.marked(begin)
    reference.marked(begin)
    at = walk(account, reference, path, begin).at + HOUR
    account.marked(Mark(at, Decimal(-10)))
    assert "drawdown" in account.standing
    equity = Decimal(0)
    for growth, share, hours, _ in lost:
        at = at + hours * HOUR
        flow = (equity or Decimal(500)) * Decimal(share)
        equity = equity * Decimal(growth) + flow
        account.marked(Mark(at, equity, flow))
        assert "drawdown" in account.standing
    for kind in account.halts.latest_by_kind().values():
        account.halts.clear(kind.kind, "Ada", at)
    if equity > 0:
        again = Reference(WALKED)
        again.marked(Mark(at, equity))
        walk(account, again, after, Mark(at, equity))


@given(st.lists(st.integers(40, 130), min_size=1, max_size=40), st.data())
def test_drawdown_halt_lasts_from_limit_to_resume_level(
    equities: list[int], data: st.DataObject
) -> None:
    resume = data.draw(st.sampled_from((0.0, 0.5, 0.9)))
    account = Account(replace(SETTINGS, drawdown=0.25, drawdown_resume_fraction=resume))
    index_peak, halted = 0, False
    for equity in equities:
        account.worth(equity)
        index_peak = max(index_peak, equity)
        if 4 * (index_peak - equity) >= index_peak:
            halted = True
        elif (index_peak - equity) * 1000 <= round(250 * resume) * index_peak:
            halted = False
        assert ("drawdown" in account.standing) == halted


def test_loss_of_exactly_the_limit_halts_trading() -> None:
    account = Account()
    account.worth(100)
    assert account.worth(95).reasons_to_raise == {}
    assert account.worth(90.01).reasons_to_raise == {}
    assert account.worth(90).reasons_to_raise == {
        "daily_loss": "daily loss 10.0% of the day's first equity has reached"
        " guards.daily_loss, 0.1"
    }
    assert account.worth(70).reasons_to_raise == {
        "drawdown": "drawdown 30.0% from the peak has reached guards.drawdown, 0.3"
    }


def test_backward_clock_step_does_not_clear_daily_loss() -> None:
    account = Account()
    account.marked(*marks_of(100, 85))
    before = NOON - 24 * HOUR
    assert account.marked(Mark(before, 100.0)) == HaltChanges()


@pytest.mark.parametrize("unit", [Decimal(1), Decimal("0.001")])
@pytest.mark.parametrize(
    ("daily_loss", "drawdown", "steps"),
    [
        (1.0, 1.0, "1000; 0 both"),
        (1.0, 1.0, "1000; -250 both"),
        (1.0, 1.0, "-250 both"),
        # A deposit comes with it; the 500 that are left are the beginning of what comes.
        (0.1, 0.3, "1000; 500 +800 both; clear; 460; 450 daily_loss; 350 drawdown"),
        (0.1, 0.3, "1000; 0 both; clear; 10000 +10000; 6000 both"),
        (0.1, 0.3, "1000; -50 both; clear; 9950 +10000; 6000 both"),
        (0.1, 0.3, "1000; -50 both; 9950 +10000; 12000; 13000"),
        # Once a person has seen less, and then just that.
        (0.8, 0.8, "100; 10 both; clear; 5; 0 both; clear; 0; -10"),
    ],
)
def test_losses_are_measured_anew_after_a_total_loss(
    unit: Decimal, daily_loss: float, drawdown: float, steps: str
) -> None:
    """Each step has the equity, the deposit and the halts it raises; no halt ends by itself."""
    account = Account(replace(SETTINGS, daily_loss=daily_loss, drawdown=drawdown))
    for step in steps.replace("both", "daily_loss drawdown").split("; "):
        if step == "clear":
            account.clear("drawdown")
            account.clear("daily_loss")
            continue
        equity, *words = step.split()
        flows = sum(Decimal(word) for word in words if word[0] == "+")
        changes = account.worth(Decimal(equity) * unit, flows * unit)
        assert {*changes.reasons_to_raise} == {word for word in words if word[0] != "+"}, step
        assert changes.kinds_to_end == ()
        if Decimal(equity) <= 0:
            assert account.points[-1].drawdown == 1
        elif not account.standing:
            assert account.points[-1].drawdown < 1


@pytest.mark.parametrize("minutes", [0, 5])
@pytest.mark.parametrize(
    ("kind", "limit", "seen"), [("daily_loss", 0.10, 0.12), ("drawdown", 0.20, 0.30)]
)
def test_acknowledged_loss_that_grows_further_halts_again(
    kind: HaltKind, limit: float, seen: float, minutes: int
) -> None:
    limits: dict[str, Any] = {"daily_loss": 1.0, "drawdown": 1.0, kind: limit}
    account = Account(GuardSettings(**limits))
    account.worth(10_000)
    assert set(account.worth(10_000 * (1 - seen)).reasons_to_raise) == {kind}
    account.clear(kind, minutes)
    for loss in (seen, seen - 0.01, seen + 0.24 * limit, seen):
        assert account.worth(round(10_000 * (1 - loss), 2)) == HaltChanges()
    assert set(account.worth(round(10_000 * (1 - seen - limit / 4), 2)).reasons_to_raise) == {kind}


@pytest.mark.parametrize("kind", ["daily_loss", "drawdown"])
def test_halt_cleared_at_a_future_time_recurs(kind: HaltKind) -> None:
    account = Account(replace(SETTINGS, daily_loss=0.3))
    account.worth(1000)
    account.worth(690)
    assert account.standing == {"daily_loss", "drawdown"}
    account.clear(kind, minutes=180)
    assert account.worth(600).reasons_to_raise.keys() == {kind}


def test_acknowledged_losses_survive_a_restart() -> None:
    database = open_for_test()
    halts = HaltJournal(database, EventLog(database, clock=TimeSource(now=lambda: NOON)))
    for hours, equity in enumerate((100.0, 69.0, 68.0, 61.0)):
        mark = EquityMark(NOON + 24 * hours * HOUR, equity, equity, 0.0, 0.0, 4.0, 0.0, {})
        _, changes = record_mark_and_halts(EquityMarkJournal(database), halts, mark, SETTINGS)
        assert ("drawdown" in changes.reasons_to_raise) == (equity in (69.0, 61.0))
        halts.clear("drawdown", "Ada", mark.at)
    point = EquityMarkJournal(database).index_point_before()
    assert point is not None
    assert (point.return_index, point.index_peak, point.index_at_day_start) == (61, 100, 68)


def test_drawdown_halt_after_total_loss_outlasts_the_day() -> None:
    account = Account()
    for equity, flows in ((1000, 0), (-50, 0), (13_000, 13_050)):
        account.worth(equity, flows)
    assert account.standing == {"daily_loss", "drawdown"}
    account.marked(Mark(NOON + 24 * HOUR, 13_000.0))
    assert account.standing == {"drawdown"}
    account.clear("drawdown")
    assert account.worth(9_200).reasons_to_raise.keys() == {"daily_loss"}
    assert account.worth(9_100).reasons_to_raise.keys() == {"drawdown"}
