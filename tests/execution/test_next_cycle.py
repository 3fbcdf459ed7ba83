"""A cycle is late by what its loop wrote down before it waited, not by who asks when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.account_lock import JOURNAL
from execution.journal.cycles import SLACK, NextCycleBook, next_cycle_of
from execution.live.__main__ import LATE, status
from foundation.database import Database

HERE = np.datetime64("2026-03-05T12:00", "ns")  # this machine's clock
THERE = np.datetime64("2024-02-20T15:00", "ns")  # a practice server's
SECOND = np.timedelta64(1, "s")
SECONDS = 320.0


class Loop:
    """What a loop notes, and the clock that it is noted by."""

    def __init__(self, path: Path | None) -> None:
        self.database = Database(path)
        self.now = HERE
        self.book = NextCycleBook(self.database, SECONDS, clock=lambda: self.now)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "account" / JOURNAL


@pytest.fixture
def loop(path: Path) -> Iterator[Loop]:
    noted = Loop(path)
    yield noted
    noted.database.close()


def test_a_cycle_may_take_what_its_settings_grant_and_five_minutes(loop: Loop, path: Path) -> None:
    due = THERE + 1_800 * SECOND
    loop.book.expect("trade", due, THERE)
    found = next_cycle_of(path)
    assert found is not None
    assert (found.job, found.due) == ("trade", due)
    assert found.over_by == HERE + (1_800 + 320 + 300) * SECOND
    assert not found.is_late(found.over_by)
    assert found.is_late(found.over_by + SECOND)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=5))
def test_who_goes_on_waiting_for_one_cycle_has_no_longer_for_it(waits: list[int]) -> None:
    """A venue that answers nothing keeps a loop waiting for a cycle that was due long ago."""
    loop = Loop(None)
    loop.book.expect("trade", THERE, THERE)
    for seconds in waits:
        loop.now += seconds * SECOND
        loop.book.expect("trade", THERE, THERE + seconds * SECOND)
    ((over_by,),) = loop.database.rows("SELECT over_by FROM next_pass")
    assert np.datetime64(over_by) == HERE + round(SECONDS + SLACK) * SECOND


def test_the_status_ends_with_1_once_the_cycle_is_late_and_says_which(
    loop: Loop, path: Path
) -> None:
    asked = status(path, HERE)
    assert asked.code == 0
    assert "no cycle is expected" in asked.sentences
    loop.book.expect("trade", THERE, THERE)
    asked = status(path, HERE + 620 * SECOND)
    assert asked.code == 0
    assert "next: trade at 2024-02-20T15:00Z, over by 2026-03-05T12:10Z here" in asked.sentences
    asked = status(path, HERE + 621 * SECOND)
    assert asked.code == LATE == 1
    said = " ".join(asked.sentences)
    assert "late: trade at 2024-02-20T15:00Z was to be over by 2026-03-05T12:10Z here" in said
    loop.book.expect("trade", THERE + 3_600 * SECOND, THERE)
    assert status(path, HERE + 621 * SECOND).code == 0, "the next one is awaited"
    loop.book.expect_none()
    assert status(path, HERE + 999_999 * SECOND).code == 0, "all cycles were made"
