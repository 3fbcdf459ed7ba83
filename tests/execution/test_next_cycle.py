"""A cycle is late by what its loop wrote down before it waited, not by who asks when."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.journal.cycles import CYCLE_SLACK_SECONDS, NextCycleJournal
from execution.live.account_lock import JOURNAL_FILE
from execution.live.status import TROUBLE_EXIT_CODE, report_status
from foundation.clock import TimeSource
from tests.support.connections import open_for_test

HERE = np.datetime64("2026-03-05T12:00", "ns")  # this machine's clock
THERE = np.datetime64("2024-02-20T15:00", "ns")  # a practice server's
SECOND = np.timedelta64(1, "s")
SECONDS = 320.0


class Loop:
    """What a loop notes, and the clock that it is noted by."""

    def __init__(self, path: Path | None) -> None:
        self.database = open_for_test(path)
        self.now = HERE
        self.book = NextCycleJournal(self.database, SECONDS, clock=TimeSource(now=lambda: self.now))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "account" / JOURNAL_FILE


@pytest.fixture
def loop(path: Path) -> Loop:
    return Loop(path)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=5))
def test_repeated_waiting_does_not_extend_a_cycles_deadline(waits: list[int]) -> None:
    """An unresponsive venue keeps the loop waiting for a cycle that is long overdue."""
    loop = Loop(None)
    loop.book.record_next_cycle("trade", THERE, THERE)
    for seconds in waits:
        loop.now += seconds * SECOND
        loop.book.record_next_cycle("trade", THERE, THERE + seconds * SECOND)
    ((overdue_at,),) = loop.database.query("SELECT overdue_at FROM next_cycle")
    assert np.datetime64(overdue_at) == HERE + round(SECONDS + CYCLE_SLACK_SECONDS) * SECOND


def test_status_reports_a_cycle_past_its_deadline(loop: Loop, path: Path) -> None:
    asked = report_status(path, HERE)
    assert asked.exit_code == 0
    assert "no cycle is scheduled" in asked.closing_lines
    loop.book.record_next_cycle("trade", THERE + 1_800 * SECOND, THERE)
    overdue_at = HERE + (1_800 + 320 + 300) * SECOND
    asked = report_status(path, overdue_at)
    assert asked.exit_code == 0
    until = "trade at 2024-02-20T15:30Z, overdue after 2026-03-05T12:40Z by this machine's clock"
    assert f"next: {until}" in asked.closing_lines
    asked = report_status(path, overdue_at + SECOND)
    assert asked.exit_code == TROUBLE_EXIT_CODE == 1
    said = " ".join(asked.closing_lines)
    assert f"late: {until}; now " in said
    loop.book.record_next_cycle("trade", THERE + 3_600 * SECOND, THERE)
    assert report_status(path, overdue_at + SECOND).exit_code == 0, "the next one is awaited"
    loop.book.clear()
    assert report_status(path, HERE + 999_999 * SECOND).exit_code == 0, "all cycles were made"
