"""What a replay keeps in its account's journal: the settings that decide, and its passes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from execution.journal.activities import stamp
from execution.journal.migrations import create_tables
from execution.journal.rows import read
from foundation.database import Database, rows_of_table

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS replay_passes (
        at TEXT PRIMARY KEY,
        cash REAL NOT NULL,
        equity REAL NOT NULL,
        instants_left INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE IF NOT EXISTS replay_settings (
        number INTEGER PRIMARY KEY CHECK (number = 1),
        settings TEXT NOT NULL
    ) STRICT
    """,
)


@dataclass(frozen=True, slots=True)
class ReplayPass:
    """A pass that is over.

    at: instant by the server's clock.
    cash, equity: USD, after what the pass traded.
    left: instants that the server's clock still had.
    """

    at: np.datetime64
    cash: float
    equity: float
    left: int


class ReplayBook:
    """The replay of one account."""

    def __init__(self, database: Database) -> None:
        self._database = database
        create_tables(database, *_SCHEMA)

    def settings(self) -> dict[str, Any] | None:
        """The settings that it was begun with, as they were kept; none before that."""
        rows = self._database.rows("SELECT settings FROM replay_settings")
        with self._database.checked():
            return dict(json.loads(rows[0][0])) if rows else None

    def keep(self, settings: Mapping[str, str]) -> None:
        """Write down the settings that it is begun with."""
        self._database.execute(
            "INSERT OR REPLACE INTO replay_settings VALUES (1, ?)", (json.dumps(settings),)
        )

    def note(self, done: ReplayPass) -> None:
        """Write a pass down; of one instant the last word counts."""
        self._database.execute(
            "INSERT OR REPLACE INTO replay_passes VALUES (?, ?, ?, ?)",
            (stamp(done.at), done.cash, done.equity, done.left),
        )

    def passes(self) -> list[ReplayPass]:
        """All that were made, in the order of time."""
        query = "SELECT at, cash, equity, instants_left FROM replay_passes ORDER BY at"
        return read(self._database, ReplayPass, query)


def is_replayed(journal: Path) -> bool:
    """Whether a replay has made a pass in a journal.

    Raises
    ------
    DatabaseFailed
        for a journal that cannot be read.
    """
    return bool(rows_of_table(journal, "replay_passes", "SELECT 1 FROM replay_passes LIMIT 1"))
