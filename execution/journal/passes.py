"""Passes of an account's jobs, as its journal has them: what each came to."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from execution.journal.migrations import create_tables
from execution.journal.rows import read
from foundation.database import Database, rows_of_table

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS cycles (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        job TEXT NOT NULL,
        began_at TEXT NOT NULL,
        ended_at TEXT,
        decision TEXT NOT NULL DEFAULT '',
        fills INTEGER NOT NULL DEFAULT 0,
        idle TEXT NOT NULL DEFAULT '',
        failed TEXT NOT NULL DEFAULT ''
    ) STRICT
    """
_SELECT = (
    "SELECT cycles.job, began_at, ended_at, decision, decisions.at, fills, idle, failed"
    " FROM cycles LEFT JOIN decisions ON decisions.id = cycles.decision"
)


class PassRow(NamedTuple):
    """A pass of a job, and what it came to.

    ended_at: none while it lasts.
    decided: the instant that it decided for; none where it did not.
    idle, failed: why nothing came of it, or empty.
    """

    job: str
    began_at: np.datetime64
    ended_at: np.datetime64 | None
    decision: str = ""
    decided: np.datetime64 | None = None
    fills: int = 0
    idle: str = ""
    failed: str = ""


class PassBook:
    """The passes of one job of an account."""

    def __init__(self, database: Database, job: str) -> None:
        self._database = database
        self._job = job
        create_tables(database, _SCHEMA)

    def begin(self, at: np.datetime64) -> int:
        """Write down that a pass begins, and return its number."""
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO cycles (job, began_at) VALUES (?, ?)", (self._job, str(at))
            )
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
        """Write down what a pass came to; failed: what ended it."""
        self._database.execute(
            "UPDATE cycles SET ended_at = ?, decision = ?, fills = ?, idle = ?, failed = ?"
            " WHERE number = ?",
            (str(at), decision, fills, idle, failed, number),
        )

    def last(self, *, ended: bool = False) -> PassRow | None:
        """The latest pass, or the latest that has ended; none before there was one."""
        condition = "cycles.job = ?" + (" AND ended_at IS NOT NULL" if ended else "")
        query = f"{_SELECT} WHERE {condition} ORDER BY number DESC LIMIT 1"
        found = read(self._database, PassRow, query, (self._job,))
        return found[0] if found else None


def latest_passes(database: Database, most: int) -> list[PassRow]:
    """The latest so many passes, the last one first; none where no job has begun its journal."""
    if not database.rows("SELECT 1 FROM sqlite_master WHERE name = 'cycles'"):
        return []
    return read(database, PassRow, f"{_SELECT} ORDER BY number DESC LIMIT ?", (most,))


def passes_of(database: Database, job: str) -> list[PassRow]:
    """All passes of a job, oldest first."""
    query = f"{_SELECT} WHERE cycles.job = ? ORDER BY number"
    return read(database, PassRow, query, (job,))


def last_pass_in(journal: Path) -> np.datetime64 | None:
    """When the latest pass of any job began; none before there was one.

    Raises
    ------
    DatabaseFailed
        for a journal that cannot be read.
    """
    query = "SELECT began_at FROM cycles ORDER BY number DESC LIMIT 1"
    rows = rows_of_table(journal, "cycles", query)
    return np.datetime64(rows[0][0], "ns") if rows else None


def unfinished_count(journal: Path) -> int:
    """How many decisions of a journal are not sent whole."""
    query = "SELECT 1 FROM decisions WHERE ended = ''"
    return len(rows_of_table(journal, "decisions", query))
