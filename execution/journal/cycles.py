"""Cycles of an account's jobs: what each came to, and by when the next has to be over.

A loop writes down when that is, and anybody may look.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from execution.journal.rows import Instant, Integer, JournalTable, Text
from foundation.clock import SYSTEM_TIME, InstantSource
from foundation.database import Database
from trainingdata.instants import utc_text

CYCLE_SLACK_SECONDS = (
    300.0  # seconds for what a cycle asks of the venue, beside what its settings grant
)


@dataclass(frozen=True, slots=True)
class CycleRow:
    """A cycle of a job, and what it came to.

    number: of the cycle, increasing.
    ended_at: none while it lasts.
    decision: the id of what was decided; empty where nothing was.
    idle_reason, failure: why nothing came of it, or empty.
    """

    number: Integer
    job: Text
    began_at: Instant
    ended_at: Instant | None = None
    decision: Text = ""
    fills: Integer = 0
    idle_reason: Text = ""
    failure: Text = ""


_CYCLES = JournalTable("cycles", CycleRow, autoincrement=True)


class CycleBook:
    """The cycles of one job of an account."""

    def __init__(self, database: Database, job: str) -> None:
        self._database = database
        self._job = job
        _CYCLES.create(database)

    def begin(self, at: np.datetime64) -> int:
        """Write down that a cycle begins, and return its number."""
        with self._database.transaction():
            _CYCLES.insert(self._database, CycleRow(0, self._job, at))
            return int(self._database.rows("SELECT max(number) FROM cycles")[0][0])

    def end(
        self,
        number: int,
        at: np.datetime64,
        *,
        decision: str = "",
        fills: int = 0,
        idle_reason: str = "",
        failure: str = "",
    ) -> None:
        """Write down what a cycle came to; failure: what ended it."""
        came_to = {
            "decision": decision,
            "fills": fills,
            "idle_reason": idle_reason,
            "failure": failure,
        }
        _CYCLES.change(self._database, "WHERE number = ?", (number,), ended_at=at, **came_to)

    def last(self, *, ended: bool = False) -> CycleRow | None:
        """The latest cycle, or the latest that has ended; none before there was one."""
        condition = "job = ?" + (" AND ended_at IS NOT NULL" if ended else "")
        return _CYCLES.last(self._database, f"WHERE {condition} ORDER BY number DESC", (self._job,))


def cycle_count(database: Database) -> int:
    """Return the number of cycles that an account's jobs have made."""
    latest = latest_cycles(database, 1)
    return latest[0].number if latest else 0


def latest_cycles(database: Database, limit: int) -> list[CycleRow]:
    """The latest so many cycles, the last one first; none where no job has begun its journal."""
    if not database.rows("SELECT 1 FROM sqlite_master WHERE name = 'cycles'"):
        return []
    return _CYCLES.rows(database, "ORDER BY number DESC LIMIT ?", (limit,))


def cycles_of(database: Database, job: str) -> list[CycleRow]:
    """All cycles of a job, oldest first."""
    return _CYCLES.rows(database, "WHERE job = ? ORDER BY number", (job,))


@dataclass(frozen=True, slots=True)
class NextCycle:
    """The cycle that a loop makes next.

    job: that is stepped.
    due: when it begins, by the venue's clock.
    overdue_at: when it is over at the latest, by this machine's clock.
    only: there is one.
    """

    job: Text
    due: Instant
    overdue_at: Instant
    only: Integer = 0

    def is_late(self, now: np.datetime64) -> bool:
        """Whether it should be over by now; now: by this machine's clock."""
        return bool(now > self.overdue_at)

    def __str__(self) -> str:
        return f"{self.job} at {utc_text(self.due)}"


_NEXT = JournalTable("next_cycle", NextCycle, key="only")


class NextCycleBook:
    """The next cycle of an account's loop, in its journal.

    database: the journal.
    seconds: that the settings grant a cycle.
    clock: this machine's.
    """

    def __init__(
        self, database: Database, seconds: float, clock: InstantSource = SYSTEM_TIME
    ) -> None:
        self._database = database
        self._clock = clock
        self._longest = np.timedelta64(round((seconds + CYCLE_SLACK_SECONDS) * 1000), "ms")
        self._written: tuple[str, np.datetime64] | None = None
        _NEXT.create(database)

    def expect(self, job: str, due: np.datetime64, now: np.datetime64) -> None:
        """A cycle is due; now: by the clock that says when it is."""
        if self._written == (job, due):
            return
        wait = max(due - now, np.timedelta64(0, "ns"))
        overdue_at = self._clock.now() + wait + self._longest
        _NEXT.put(self._database, NextCycle(job, due, overdue_at))
        self._written = job, due

    def expected(self) -> NextCycle | None:
        return _NEXT.last(self._database)

    def expect_none(self) -> None:
        self._database.execute("DELETE FROM next_cycle")
        self._written = None


def read_next_cycle(journal: Path) -> NextCycle | None:
    """The cycle that is expected by a journal; none where none is."""
    found = _NEXT.read_rows(journal)
    return found[0] if found else None
