"""Cycles of an account's jobs: their results, and the deadline of the next cycle.

The live loop records the deadline so that other processes can detect an overdue cycle.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from execution.journal.rows import Instant, Integer, JournalTable, Text
from foundation.clock import SYSTEM_TIME, InstantSource
from foundation.database import Database
from trainingdata.instants import format_utc

# Seconds for a cycle's requests to the venue, in addition to its settings.
CYCLE_SLACK_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class CycleRow:
    """Journal row of one cycle of a job, with its result.

    number: number of the cycle, increasing.
    job: name of the job.
    began_at: start time of the cycle.
    ended_at: end time of the cycle; None while it runs.
    decision_id: id of the cycle's decision; empty without one.
    fill_count: number of fills in the cycle.
    idle_reason, failure: reason why the cycle made no decision, and error that ended it; each is
        empty if it does not apply.
    """

    number: Integer
    job: Text
    began_at: Instant
    ended_at: Instant | None = None
    decision_id: Text = ""
    fill_count: Integer = 0
    idle_reason: Text = ""
    failure: Text = ""


_CYCLES = JournalTable(
    "cycles",
    CycleRow,
    autoincrement=True,
    column_names={"fill_count": "fills", "decision_id": "decision"},
)


class CycleJournal:
    """Record of the cycles of one job, in the account's journal."""

    def __init__(self, database: Database, job: str) -> None:
        self._database = database
        self._job = job
        _CYCLES.create(database)

    def begin_cycle(self, at: np.datetime64) -> int:
        """Record the start of a cycle, and return its number."""
        with self._database.transaction():
            _CYCLES.insert(self._database, CycleRow(0, self._job, at))
            return int(self._database.query("SELECT max(number) FROM cycles")[0][0])

    def end_cycle(
        self,
        number: int,
        at: np.datetime64,
        *,
        decision_id: str = "",
        fill_count: int = 0,
        idle_reason: str = "",
        failure: str = "",
    ) -> None:
        """Record the end and the result of a cycle.

        decision_id: id of the cycle's decision; empty without one.
        fill_count: number of fills in the cycle.
        idle_reason: reason why there is no decision; empty if there is one.
        failure: error that ended the cycle; empty for none.
        """
        came_to = {
            "decision_id": decision_id,
            "fill_count": fill_count,
            "idle_reason": idle_reason,
            "failure": failure,
        }
        _CYCLES.update(self._database, "WHERE number = ?", (number,), ended_at=at, **came_to)

    def last_cycle(self, *, ended: bool = False) -> CycleRow | None:
        """Return the latest cycle; None without one.

        ended: true returns the latest cycle that has ended, and skips one that still runs.
        """
        condition = "job = ?" + (" AND ended_at IS NOT NULL" if ended else "")
        return _CYCLES.first_row(
            self._database, f"WHERE {condition} ORDER BY number DESC", (self._job,)
        )


def count_cycles(database: Database) -> int:
    """Return the number of cycles that an account's jobs have run."""
    latest = latest_cycles(database, 1)
    return latest[0].number if latest else 0


def latest_cycles(database: Database, limit: int) -> list[CycleRow]:
    """Return the latest cycles, newest first; empty if the journal has none.

    limit: maximum number of cycles returned.
    """
    if not database.query("SELECT 1 FROM sqlite_master WHERE name = 'cycles'"):
        return []
    return _CYCLES.select_rows(database, "ORDER BY number DESC LIMIT ?", (limit,))


def read_cycles(database: Database, job: str) -> list[CycleRow]:
    """Return all cycles of a job, oldest first."""
    return _CYCLES.select_rows(database, "WHERE job = ? ORDER BY number", (job,))


@dataclass(frozen=True, slots=True)
class NextCycle:
    """Journal row of the next scheduled cycle.

    job: name of the cycle's job.
    due_at: scheduled start of the cycle, by the clock of the loop (the venue's).
    overdue_at: time by which the cycle must have ended, by this machine's clock.
    row_key: constant key of the table's only row.
    """

    job: Text
    due_at: Instant
    overdue_at: Instant
    row_key: Integer = 0

    def is_overdue(self, now: np.datetime64) -> bool:
        """Return whether the cycle is overdue at an instant by this machine's clock."""
        return bool(now > self.overdue_at)

    def __str__(self) -> str:
        return f"{self.job} at {format_utc(self.due_at)}"


_NEXT_CYCLE = JournalTable(
    "next_cycle", NextCycle, key="only", column_names={"due_at": "due", "row_key": "only"}
)


class NextCycleJournal:
    """The record of an account's next cycle in its journal.

    database: the account's journal.
    seconds: longest duration of a cycle that the settings allow, seconds.
    clock: this machine's clock.
    """

    def __init__(
        self, database: Database, seconds: float, clock: InstantSource = SYSTEM_TIME
    ) -> None:
        self._database = database
        self._clock = clock
        self._longest = np.timedelta64(round((seconds + CYCLE_SLACK_SECONDS) * 1000), "ms")
        self._written: tuple[str, np.datetime64] | None = None
        _NEXT_CYCLE.create(database)

    def record_next_cycle(self, job: str, due: np.datetime64, now: np.datetime64) -> None:
        """Record the next scheduled cycle, and the deadline by which it must have ended.

        due, now: scheduled start of the cycle, and the present time, by the same clock.
        """
        if self._written == (job, due):
            return
        wait = max(due - now, np.timedelta64(0, "ns"))
        overdue_at = self._clock.now() + wait + self._longest
        _NEXT_CYCLE.upsert(self._database, NextCycle(job, due, overdue_at))
        self._written = job, due

    def next_cycle(self) -> NextCycle | None:
        return _NEXT_CYCLE.first_row(self._database)

    def clear(self) -> None:
        self._database.execute("DELETE FROM next_cycle")
        self._written = None


def read_next_cycle(journal: Path) -> NextCycle | None:
    """Return the next scheduled cycle in a journal; None without one."""
    found = _NEXT_CYCLE.read_rows(journal)
    return found[0] if found else None
