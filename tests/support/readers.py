"""Second connection that reads a journal while its process writes the journal."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

from foundation.database import Database


class PatientReader(logging.Handler):
    """Read transaction that ends after the writer has waited for it a number of times.

    ends_after: number of waits; 0: the transaction does not end.
    """

    def __init__(self, connection: sqlite3.Connection, ends_after: int) -> None:
        super().__init__()
        self._connection = connection
        self.ends_after = ends_after
        self.waits = 0

    @classmethod
    @contextmanager
    def of(cls, database: Database, ends_after: int = 0) -> Iterator[PatientReader]:
        """Read a database during a `with` block; the writer's attempts do not wait for locks."""
        assert database.path is not None
        database.execute("PRAGMA busy_timeout = 0")
        log = logging.getLogger("foundation.database")
        with closing(sqlite3.connect(database.path, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            reader = cls(connection, ends_after)
            log.addHandler(reader)
            try:
                yield reader
            finally:
                log.removeHandler(reader)

    def end(self) -> None:
        self._connection.execute("ROLLBACK")

    def emit(self, record: logging.LogRecord) -> None:
        self.waits += 1
        if self.waits == self.ends_after:
            self.end()
