"""An SQLite file that one process writes and any process may read.

The file uses a rollback journal, not a write-ahead log: with a write-ahead log SQLite before 3.51.3
can lose data that a second connection reads during a checkpoint. After a commit, the transaction
and the file's directory entry are on disk.
"""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from foundation.errors import InputError
from foundation.signals import DeferSignals

log = logging.getLogger(__name__)

Row = tuple[Any, ...]
_APPLICATION_ID = int.from_bytes(b"KlyC")  # SQLite's application id in the file header
BUSY_TIMEOUT_SECONDS = 5.0  # longest wait of a reader, or of one attempt to write, for a lock
# Attempts to begin or commit a transaction while another process locks the file: two minutes. A
# process supervisor restarts the loop after three minutes (WatchdogSec).
MAX_BUSY_ATTEMPTS = 24


class DatabaseFailed(InputError):
    """A database file cannot be read or written; a failed write has no effect."""


class DatabaseDamaged(DatabaseFailed):
    """A file is damaged, or is not an SQLite database."""


class Database:
    """A connection to an SQLite file, which is created if necessary.

    path: path of the file; None keeps the database in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        # Transactions of all threads are serialised; they may be nested.
        self._lock = threading.RLock()
        self._depth = 0
        with self._translate_errors(), ExitStack() as on_failure:
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path,
                isolation_level=None,
                check_same_thread=False,
                timeout=BUSY_TIMEOUT_SECONDS,
            )
            on_failure.callback(self.close)
            self._connection.execute("PRAGMA journal_mode = DELETE")
            self._connection.execute("PRAGMA synchronous = EXTRA")
            if path is not None and path.stat().st_size == 0:
                # A file with the application id is never empty, so that a truncated one is noticed.
                self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            on_failure.pop_all()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block as one transaction; a nested transaction joins the outer transaction.

        Changes reach the disk when the outermost block ends. A signal that ends the process is
        deferred until then. While another process reads the file, the commit waits for it.
        """
        with DeferSignals(), self._translate_errors():
            if self._depth == 0:
                self._retry_while_busy("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self._retry_while_busy("COMMIT")
            except BaseException:
                if self._depth == 1 and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def _retry_while_busy(self, statement: str) -> None:
        """Begin or commit a transaction; retry while another process locks the file."""
        for attempt in range(1, MAX_BUSY_ATTEMPTS + 1):
            try:
                self._connection.execute(statement)
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or attempt == MAX_BUSY_ATTEMPTS:
                    raise
                log.warning("%s: another process reads the journal; waiting for it", self.path)

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        """Execute a statement within the current transaction, or in a separate transaction."""
        with self.transaction():
            self._connection.execute(statement, values)

    def query(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        with self._translate_errors():
            return self._connection.execute(query, values).fetchall()

    def execute_all(self, *statements: str) -> None:
        """Execute several statements, such as table definitions, in one transaction."""
        with self.transaction():
            for statement in statements:
                self._connection.execute(statement)

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            place = "memory" if self.path is None else str(self.path)
            remedy = "; end the other process that reads or writes it" if _is_busy(error) else ""
            raise DatabaseFailed(
                f"{place}: the journal cannot be used: {error}; no orders are sent without"
                f" it{remedy}"
            ) from error


def check_integrity(path: Path) -> None:
    """Check the integrity of an SQLite file.

    Uncommitted changes of a killed process are rolled back first.

    Raises DatabaseDamaged, with SQLite's report, for a file that is damaged or not an SQLite
    database; DatabaseFailed if the file cannot be read now, which does not mean damage.
    """
    with translate_damage_errors(), closing(Database(path)) as database:
        report = database.query("PRAGMA integrity_check")
    if report != [("ok",)]:
        raise DatabaseDamaged(f"{path}: the journal is damaged: {report[0][0]}")


@contextmanager
def translate_damage_errors() -> Iterator[None]:
    """Raise `DatabaseDamaged` for SQLite errors in the block that mean a damaged file."""
    try:
        yield
    except DatabaseFailed as error:
        if _is_damage_error(error.__cause__):
            raise DatabaseDamaged(str(error)) from error
        raise


def query_rows(path: Path, query: str, values: Sequence[object] = ()) -> list[Row]:
    """Return the rows of a read-only query, even while another process writes the file.

    If a process was killed during a commit, the query reads a copy in which the commit is rolled
    back.

    Raises DatabaseFailed for a file that cannot be read.
    """
    with _translate_read_errors(path):
        try:
            return _fetch_rows(path, query, values)
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_ROLLBACK:
                raise
        with TemporaryDirectory() as scratch:
            return _fetch_rows(copy_database(path, Path(scratch)), query, values)


def copy_database(path: Path, folder: Path) -> Path:
    """Copy a database into another folder and return the path of the copy.

    In the copy, transactions of killed processes are rolled back.

    Raises DatabaseFailed if the file cannot be read or is being written.
    """
    copy = folder / path.name
    with _translate_read_errors(path):
        files = [file for file in (path, rollback_journal_path(path)) if file.exists()]
        before = [file.stat().st_mtime_ns for file in files]
        for file in files:
            shutil.copyfile(file, copy.with_name(file.name))
        # A process that has started since may have written: the two files must be of one moment.
        if [file.stat().st_mtime_ns for file in files] != before:
            raise OSError("another process is writing it; try again")
        Database(copy).close()
        return copy


def query_table(path: Path, table: str, query: str, values: Sequence[object] = ()) -> list[Row]:
    """Return the rows of a query on a table; empty if the table does not exist."""
    # A process may have been killed before it made the table.
    tables = query_rows(path, "SELECT 1 FROM sqlite_master WHERE name = ?", (table,))
    return query_rows(path, query, values) if tables else []


def rollback_journal_path(path: Path) -> Path:
    """Return the path of SQLite's rollback journal, which exists until a commit ends."""
    return path.with_name(f"{path.name}-journal")


def _fetch_rows(path: Path, query: str, values: Sequence[object]) -> list[Row]:
    address = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_SECONDS)) as connection:
        return connection.execute(query, values).fetchall()


@contextmanager
def _translate_read_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        raise DatabaseFailed(f"{path}: the journal cannot be read: {error}") from error


def _is_busy(error: BaseException) -> bool:
    """Return whether another process has locked the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _is_damage_error(cause: BaseException | None) -> bool:
    if isinstance(cause, UnicodeDecodeError):
        return True
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_OK)
    # Python itself reports text that is not UTF-8, without a code. For invalid JSON in a generated
    # column, SQLite gives no specific code either.
    message = str(cause)
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return code & 0xFF in codes or (
        isinstance(cause, sqlite3.OperationalError) and ("UTF-8" in message or "JSON" in message)
    )
