"""What happened to an account's orders and jobs, in rows that are never changed, and alerts."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

from pydantic import Json

from execution.journal.rows import Instant, Integer, JournalTable, Text
from foundation.clock import SYSTEM_TIME, InstantSource
from foundation.database import Database, DatabaseFailed
from foundation.errors import BrokerError
from foundation.redaction import NO_SECRETS, Redactor

log = logging.getLogger(__name__)

HELD = "held"  # what a job holds by now, a line each; the index below names it
UNDECIDED = "undecided"  # why symbols were not decided in a cycle; the index below names it


@dataclass(frozen=True, slots=True)
class Event:
    """What happened.

    number: of the event, increasing.
    at: instant by this machine's clock.
    kind: what happened, a word.
    subject: to what: the id of an order, a job, a decision.
    content: more about it, as JSON says it.
    """

    number: Integer
    at: Instant
    kind: Text
    subject: Text
    content: Json[Any]


_EVENTS = JournalTable(
    "events",
    Event,
    """
    CREATE TRIGGER IF NOT EXISTS events_stay BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never changed'); END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS events_last BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are never deleted'); END
    """,
    "CREATE INDEX IF NOT EXISTS events_held ON events (subject) WHERE kind = 'held'",
    "CREATE INDEX IF NOT EXISTS events_undecided ON events (subject) WHERE kind = 'undecided'",
    autoincrement=True,
)


class EventLog:
    """The events of one account.

    redactor: takes secrets out of what is recorded.
    clock: stamps events.
    """

    def __init__(
        self,
        database: Database,
        redactor: Redactor = NO_SECRETS,
        clock: InstantSource = SYSTEM_TIME,
    ) -> None:
        self._database = database
        self._redactor = redactor
        self._clock = clock
        _EVENTS.create(database)

    def append(self, kind: str, subject: str, content: object = None) -> None:
        """Write down what happened, as a part of the transaction around it or as one of its own."""
        said = json.loads(self._redactor.redact(json.dumps(content, default=str)))
        event = Event(0, self._clock.now(), kind, self._redactor.redact(subject), said)
        _EVENTS.insert(self._database, event)

    def last_number(self) -> int:
        """The number of the last event; 0 before the first."""
        return int(self._database.rows("SELECT coalesce(max(number), 0) FROM events")[0][0])

    def last_undecided(self, job: str) -> dict[str, str]:
        """Return the reasons for which a job's last cycle did not decide symbols, by symbol."""
        latest = "WHERE kind = 'undecided' AND subject = ? ORDER BY number DESC"
        event = _EVENTS.last(self._database, latest, (job,))
        return {} if event is None else dict(event.content)

    def last_held(self, job: str) -> list[str]:
        """What a job held when it said so last, a line each."""
        latest = "WHERE kind = 'held' AND subject = ? ORDER BY number DESC LIMIT 1"
        events = _EVENTS.rows(self._database, latest, (job,))
        return [str(line) for event in events for line in event.content]

    def events(self, subject: str | None = None) -> list[Event]:
        """What happened, oldest first; subject: to what, none to anything."""
        if subject is None:
            return _EVENTS.rows(self._database, "ORDER BY number")
        return _EVENTS.rows(self._database, "WHERE subject = ? ORDER BY number", (subject,))


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """What a person was told of; text: redacted."""

    number: Integer
    at: Instant
    kind: Text
    text: Text


_NOTICES = JournalTable("notices", NoticeRow, autoincrement=True)


class NoticeBook:
    """What a person was told of: `Notifier.record_in` takes it.

    database: the account's journal.
    redactor: takes secrets out of what is recorded.
    clock: stamps alerts; a venue's may fail to answer.
    """

    def __init__(
        self, database: Database, redactor: Redactor, clock: InstantSource = SYSTEM_TIME
    ) -> None:
        self._database = database
        self._redactor = redactor
        self._clock = clock
        _NOTICES.create(database)

    def record(self, kind: str, text: str) -> None:
        """Record an alert; one that cannot be recorded is sent and logged anyway."""
        try:
            notice = NoticeRow(0, self._clock.now(), kind, self._redactor.redact(text))
            _NOTICES.insert(self._database, notice)
        except (DatabaseFailed, BrokerError) as error:
            log.warning("an alert is not in the journal: %s", error)

    def latest(self, limit: int) -> list[NoticeRow]:
        """The latest so many alerts, the last one first."""
        return _NOTICES.rows(self._database, "ORDER BY number DESC LIMIT ?", (limit,))
