"""Marks that are left out change nothing that losses are judged by, and few stay of a past day."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.journal.events import EventLog
from execution.journal.halts import HaltKind, Halts
from execution.live.guards import GuardSettings
from execution.live.losses import Mark, drawdown, loss_halts, loss_of_day
from execution.live.mark_thinning import thinned
from foundation.database import Database

BEGIN = np.datetime64("2026-11-23T17:00", "ns")  # noon of New York
HOUR = np.timedelta64(1, "h")
SETTINGS = GuardSettings(daily_loss=0.02, drawdown=0.06, resume=0.5)
KINDS: tuple[HaltKind, ...] = ("daily_loss", "drawdown")

GONE = "gone"  # for one mark what is held cannot be sold
# Growth of what is there, what is paid in as a share of it, and what a person lets go on. Now and
# then everything is lost; a later deposit begins anew.
steps = st.tuples(
    st.sampled_from(["0.97", "0.985", "0.995", "1", "1.01", "1.03", "1.06", "0", GONE]),
    st.sampled_from(["0", "0", "0", "0", "0", "-0.5", "0.3", "2"]),
    st.sampled_from(["", "", "", "", *KINDS]),
)


@dataclass
class Judged:
    """An account that is judged by all of its marks, or by those that are left."""

    thins: bool
    halts: Halts = field(default_factory=lambda: Halts(database := Database(), EventLog(database)))
    marks: list[Mark] = field(default_factory=list)

    def marked(self, mark: Mark) -> tuple[object, ...]:
        history = self.halts.history()
        self.marks.append(mark)
        changes = loss_halts(self.marks, mark.at, SETTINGS, history)
        self.halts.apply(changes, mark.at)
        if self.thins:
            self.marks = thinned(self.marks, history)
        lost = (drawdown(self.marks), loss_of_day(self.marks, mark.at))
        return (changes.ended, dict(changes.raised), *lost)

    def clear(self, kind: HaltKind) -> None:
        self.halts.clear(kind, "Ada", self.marks[-1].at)


@pytest.mark.slow
@settings(max_examples=80)
@given(st.lists(steps, min_size=20, max_size=40), st.sampled_from([3, 6, 9]))
def test_what_is_left_out_changes_no_judgement(
    path: list[tuple[str, str, Literal["", "daily_loss", "drawdown"]]], hours: int
) -> None:
    whole, thin = Judged(thins=False), Judged(thins=True)
    at, equity = BEGIN, Decimal(100)
    for growth, share, cleared in path:
        at = at + hours * HOUR
        if growth == GONE:
            mark = Mark(at, Decimal(0))
            assert whole.marked(mark) == thin.marked(mark)
            continue
        grown = equity * Decimal(growth)
        flow = (grown or Decimal(100)) * Decimal(share)
        equity = grown + flow
        mark = Mark(at, equity, flow)
        assert whole.marked(mark) == thin.marked(mark)
        if cleared:
            whole.clear(cleared)
            thin.clear(cleared)
    assert set(thin.marks) <= set(whole.marks)


def test_of_a_past_day_without_flows_three_marks_stay_and_of_today_all() -> None:
    minute = np.timedelta64(1, "m")
    marks = [Mark(BEGIN + k * minute, 100 + k % 7, 0.0) for k in range(24 * 60)]
    kept = thinned(marks, ())
    today = [mark for mark in marks if mark.at >= np.datetime64("2026-11-24T05:00", "ns")]
    assert kept[3:] == today
    assert [mark.equity for mark in kept[:3]] == [100, 106, today[0].equity - 1]


def test_of_no_marks_none_stay() -> None:
    assert thinned([], ()) == []


def test_the_loss_at_which_a_person_cleared_a_halt_is_remembered_on_later_days() -> None:
    judged = Judged(thins=True)
    for hours, equity in enumerate(["100", "95", "93.5", "95.5", "96"]):
        judged.marked(Mark(BEGIN + hours * HOUR, Decimal(equity)))
        if equity == "93.5":
            judged.clear("drawdown")
    # 7 % are no quarter of the limit of 6 % beyond the 6.5 % that the person saw; 8 % are.
    for hours, equity, stands in ((24, "93", False), (48, "93", False), (72, "92", True)):
        judged.marked(Mark(BEGIN + hours * HOUR, Decimal(equity)))
        assert ("drawdown" in {halt.kind for halt in judged.halts.standing()}) is stands


def test_an_hour_at_nothing_on_a_past_day_is_remembered() -> None:
    """After it a new index begins, in which a halt of before ends by a person alone."""
    judged = Judged(thins=True)
    for hours, equity in enumerate([100, 90, 91, 0, 90, 92]):
        judged.marked(Mark(BEGIN + hours * HOUR, Decimal(equity)))
    judged.marked(Mark(BEGIN + 24 * HOUR, Decimal(99)))
    judged.marked(Mark(BEGIN + 48 * HOUR, Decimal(99)))
    assert {halt.kind for halt in judged.halts.standing()} == {"drawdown"}
