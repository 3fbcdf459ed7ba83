"""Cycles of an account's jobs, as its journal has them: what each came to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from execution.journal.rows import Instant, Table, Text, Whole
from foundation.database import Database


@dataclass(frozen=True, slots=True)
class CycleRow:
    """A cycle of a job, and what it came to.

    number: of the cycle, increasing.
    ended_at: none while it lasts.
    decision: the id of what was decided; empty where nothing was.
    idle, failed: why nothing came of it, or empty.
    """

    number: Whole
    job: Text
    began_at: Instant
    ended_at: Instant | None = None
    decision: Text = ""
    fills: Whole = 0
    idle: Text = ""
    failed: Text = ""


_CYCLES = Table("cycles", CycleRow, counted=True)


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
        idle: str = "",
        failed: str = "",
    ) -> None:
        """Write down what a cycle came to; failed: what ended it."""
        came_to = {"decision": decision, "fills": fills, "idle": idle, "failed": failed}
        _CYCLES.change(self._database, "WHERE number = ?", (number,), ended_at=at, **came_to)

    def last(self, *, ended: bool = False) -> CycleRow | None:
        """The latest cycle, or the latest that has ended; none before there was one."""
        condition = "job = ?" + (" AND ended_at IS NOT NULL" if ended else "")
        return _CYCLES.last(self._database, f"WHERE {condition} ORDER BY number DESC", (self._job,))


def latest_cycles(database: Database, most: int) -> list[CycleRow]:
    """The latest so many cycles, the last one first; none where no job has begun its journal."""
    if not database.rows("SELECT 1 FROM sqlite_master WHERE name = 'cycles'"):
        return []
    return _CYCLES.rows(database, "ORDER BY number DESC LIMIT ?", (most,))


def cycles_of(database: Database, job: str) -> list[CycleRow]:
    """All cycles of a job, oldest first."""
    return _CYCLES.rows(database, "WHERE job = ? ORDER BY number", (job,))
