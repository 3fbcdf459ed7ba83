"""Append-only events of an account's orders and jobs, and alerts sent about the account."""

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
from foundation.redaction import NULL_REDACTOR, Redactor

log = logging.getLogger(__name__)

HELD_POSITIONS_EVENT = "held"  # positions of a job, a line each; an index below names this kind
UNDECIDED_SYMBOLS_EVENT = (
    "undecided"  # reasons why a cycle did not decide symbols; an index names it
)

# Kinds of events: a notice of the subject, an order or activity, is due, and has been sent. Two
# indices name these kinds.
TO_REPORT_EVENT = "to report"
REPORTED_EVENT = "reported"


@dataclass(frozen=True, slots=True)
class Event:
    """Journal row of an event.

    number: number of the event, increasing.
    at: instant by this machine's clock.
    kind: kind of the event, one word.
    subject: id of the order, job or decision that the event concerns.
    content: details as JSON.
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
    "CREATE INDEX IF NOT EXISTS events_to_report ON events (subject) WHERE kind = 'to report'",
    "CREATE INDEX IF NOT EXISTS events_reported ON events (subject) WHERE kind = 'reported'",
    autoincrement=True,
)


class EventLog:
    """The append-only event log of one account.

    database: the account's journal.
    redactor: redactor that removes secrets from what is recorded.
    clock: clock that timestamps events.
    """

    def __init__(
        self,
        database: Database,
        redactor: Redactor = NULL_REDACTOR,
        clock: InstantSource = SYSTEM_TIME,
    ) -> None:
        self._database = database
        self._redactor = redactor
        self._clock = clock
        _EVENTS.create(database)

    def append(self, kind: str, subject: str, content: object = None) -> None:
        """Record an event, in the surrounding transaction if there is one."""
        details = json.loads(self._redactor.redact(json.dumps(content, default=str)))
        event = Event(0, self._clock.now(), kind, self._redactor.redact(subject), details)
        _EVENTS.insert(self._database, event)

    def last_event_number(self) -> int:
        """Return the number of the last event; 0 before the first."""
        return int(self._database.query("SELECT coalesce(max(number), 0) FROM events")[0][0])

    def last_undecided_reasons(self, job: str) -> dict[str, str]:
        """Return the last recorded reasons why a job made no decision on symbols, by symbol."""
        latest = "WHERE kind = 'undecided' AND subject = ? ORDER BY number DESC"
        event = _EVENTS.first_row(self._database, latest, (job,))
        return {} if event is None else dict(event.content)

    def last_reported_positions(self, job: str) -> list[str]:
        """Return the positions that a job has last reported, as one line of text each."""
        latest = "WHERE kind = 'held' AND subject = ? ORDER BY number DESC LIMIT 1"
        events = _EVENTS.select_rows(self._database, latest, (job,))
        return [str(line) for event in events for line in event.content]

    def unreported_events(self) -> list[Event]:
        """Return the last `TO_REPORT_EVENT` of each subject without a notice, oldest first.

        Sending the notice of a subject records a `REPORTED_EVENT`.
        """
        pending = (
            "WHERE number IN (SELECT max(number) FROM events WHERE kind = 'to report' AND subject"
            " NOT IN (SELECT subject FROM events WHERE kind = 'reported') GROUP BY subject)"
        )
        return _EVENTS.select_rows(self._database, f"{pending} ORDER BY number")

    def last_event(self, subject: str, *kinds: str) -> Event | None:
        """Return the last event of a subject that has one of these kinds; None without one."""
        marks = ", ".join("?" * len(kinds))
        latest = f"WHERE subject = ? AND kind IN ({marks}) ORDER BY number DESC"
        return _EVENTS.first_row(self._database, latest, (subject, *kinds))

    def events(self, subject: str | None = None) -> list[Event]:
        """Return the recorded events, oldest first.

        subject: id of the order, job or decision whose events are returned; None returns all
            events.
        """
        if subject is None:
            return _EVENTS.select_rows(self._database, "ORDER BY number")
        return _EVENTS.select_rows(self._database, "WHERE subject = ? ORDER BY number", (subject,))


@dataclass(frozen=True, slots=True)
class AlertRow:
    """Journal row of a sent alert.

    number: number of the alert, increasing.
    at: instant by this machine's clock.
    kind: kind of the alert.
    text: text of the alert, without secrets.
    """

    number: Integer
    at: Instant
    kind: Text
    text: Text


_NOTICES = JournalTable("notices", AlertRow, autoincrement=True)


class AlertJournal:
    """The record of alerts sent about an account; `Notifier.add_recorder` takes it as an argument.

    database: the account's journal.
    redactor: redactor that removes secrets from what is recorded.
    clock: clock that timestamps alerts. It is not the venue's clock, because the venue may not
        respond.
    """

    def __init__(
        self, database: Database, redactor: Redactor, clock: InstantSource = SYSTEM_TIME
    ) -> None:
        self._database = database
        self._redactor = redactor
        self._clock = clock
        _NOTICES.create(database)

    def record(self, kind: str, text: str) -> None:
        """Record an alert. An error is only logged, so that the alert is sent anyway."""
        try:
            notice = AlertRow(0, self._clock.now(), kind, self._redactor.redact(text))
            _NOTICES.insert(self._database, notice)
        except (DatabaseFailed, BrokerError) as error:
            log.warning("cannot record an alert in the journal: %s", error)

    def latest(self, limit: int) -> list[AlertRow]:
        """Return the latest alerts, newest first.

        limit: maximum number of alerts returned.
        """
        return _NOTICES.select_rows(self._database, "ORDER BY number DESC LIMIT ?", (limit,))
