"""Alerts as the account's journal keeps them, for its page."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from execution.journal.rows import Instant, Table, Text, Whole
from foundation.database import Database, DatabaseFailed
from foundation.errors import BrokerError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NoticeRow:
    """What a person was told of; text: redacted."""

    number: Whole
    at: Instant
    kind: Text
    text: Text


_NOTICES = Table("notices", NoticeRow, counted=True)


class NoticeBook:
    """What a person was told of: `Notices.keep_in` takes it.

    database: the account's journal.
    redact: takes secrets out of a text.
    clock: the instant that an alert is stamped with; a venue's may fail to answer.
    """

    def __init__(
        self, database: Database, redact: Callable[[str], str], clock: Callable[[], np.datetime64]
    ) -> None:
        self._database = database
        self._redact = redact
        self._clock = clock
        _NOTICES.create(database)

    def __call__(self, kind: str, text: str) -> None:
        """Write an alert down; one that cannot be is sent and logged all the same."""
        try:
            notice = NoticeRow(0, self._clock(), kind, self._redact(text))
            _NOTICES.insert(self._database, notice)
        except (DatabaseFailed, BrokerError) as error:
            log.warning("an alert is not in the journal: %s", error)

    def latest(self, most: int) -> list[NoticeRow]:
        """The latest so many alerts, the last one first."""
        return _NOTICES.rows(self._database, "ORDER BY number DESC LIMIT ?", (most,))
