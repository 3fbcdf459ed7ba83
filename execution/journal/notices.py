"""Alerts as the account's journal keeps them, for its page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from execution.journal.migrations import create_tables
from execution.journal.rows import read
from foundation.database import Database, DatabaseFailed
from foundation.errors import BrokerError

log = logging.getLogger(__name__)

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS notices (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        text TEXT NOT NULL
    ) STRICT
"""


class NoticeRow(NamedTuple):
    """What a person was told of; text: redacted."""

    at: np.datetime64
    kind: str
    text: str


class NoticeBook:
    """What a person was told of: `Notices.keep_in` takes it.

    database: the account's journal.
    redact: takes secrets out of a text.
    clock: the instant that an alert is stamped with; a venue's may fail to answer.
    """

    def __init__(
        self,
        database: Database,
        redact: Callable[[str], str],
        clock: Callable[[], np.datetime64],
    ) -> None:
        self._database = database
        self._redact = redact
        self._clock = clock
        create_tables(database, _SCHEMA)

    def __call__(self, kind: str, text: str) -> None:
        """Write an alert down; one that cannot be is sent and logged all the same."""
        try:
            self._database.execute(
                "INSERT INTO notices (at, kind, text) VALUES (?, ?, ?)",
                (str(self._clock()), kind, self._redact(text)),
            )
        except (DatabaseFailed, BrokerError) as error:
            log.warning("an alert is not in the journal: %s", error)

    def latest(self, most: int) -> list[NoticeRow]:
        """The latest so many alerts, the last one first."""
        query = "SELECT at, kind, text FROM notices ORDER BY number DESC LIMIT ?"
        return read(self._database, NoticeRow, query, (most,))
