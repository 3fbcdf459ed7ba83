"""What happened to an account's orders and jobs, in its order: rows that are never changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from execution.journal.migrations import create_tables
from foundation.clock import system_clock
from foundation.database import Database

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        content TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TRIGGER IF NOT EXISTS events_stay BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS events_last BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END
    """,
)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened.

    number: of the event, increasing.
    at: instant by this machine's clock.
    kind: what happened, a word.
    subject: to what: the id of an order, a job, a decision.
    content: more about it, as JSON says it.
    """

    number: int
    at: np.datetime64
    kind: str
    subject: str
    content: Any


class EventLog:
    """The events of one account.

    redact: takes secrets out of a text.
    clock: the instant that an event is stamped with.
    """

    def __init__(
        self,
        database: Database,
        redact: Callable[[str], str] = str,
        clock: Callable[[], np.datetime64] = system_clock,
    ) -> None:
        self._database = database
        self._redact = redact
        self._clock = clock
        create_tables(database, *_SCHEMA)

    def append(self, kind: str, subject: str, content: object = None) -> None:
        """Write down what happened, as a part of the transaction around it or as one of its own."""
        text = self._redact(json.dumps(content, default=str))
        self._database.execute(
            "INSERT INTO events (at, kind, subject, content) VALUES (?, ?, ?, ?)",
            (str(self._clock()), kind, self._redact(subject), text),
        )

    def last_number(self) -> int:
        """The number of the last event; 0 before the first."""
        return int(self._database.rows("SELECT coalesce(max(number), 0) FROM events")[0][0])

    def events(self, subject: str | None = None) -> list[Event]:
        """What happened, oldest first; subject: to what, none to anything."""
        condition = "" if subject is None else "WHERE subject = ?"
        values = () if subject is None else (subject,)
        rows = self._database.rows(
            f"SELECT number, at, kind, subject, content FROM events {condition} ORDER BY number",
            values,
        )
        with self._database.checked():
            return [
                Event(number, np.datetime64(at, "ns"), kind, name, json.loads(content))
                for number, at, kind, name, content in rows
            ]
