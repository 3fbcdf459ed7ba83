"""Passes of an account's jobs, as its journal has them: what each came to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.database import Database

_LATEST = (
    "SELECT cycles.job, began_at, ended_at, decision, decisions.at, fills, idle, failed"
    " FROM cycles LEFT JOIN decisions ON decisions.id = cycles.decision"
    " ORDER BY number DESC LIMIT ?"
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
    decision: str
    decided: np.datetime64 | None
    fills: int
    idle: str
    failed: str


def latest_passes(database: Database, most: int) -> list[PassRow]:
    """The latest so many passes, the last one first; none where no job has begun its journal."""
    if not database.rows("SELECT 1 FROM sqlite_master WHERE name = 'cycles'"):
        return []
    rows = database.rows(_LATEST, (most,))
    with database.checked():
        return [
            PassRow(job, np.datetime64(began, "ns"), _maybe(ended), name, _maybe(decided), *rest)
            for job, began, ended, name, decided, *rest in rows
        ]


def _maybe(text: str | None) -> np.datetime64 | None:
    return None if text is None else np.datetime64(text, "ns")
