"""An SQLite file that one process writes and any may read.

It keeps a rollback journal, not a write-ahead log: SQLite before 3.51.3 can lose what a second
connection reads while a log is taken over. What a transaction has written is on the disk when it
ends, the folder's entry too.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from foundation.errors import InputError
from foundation.signals import DeferSignals

Row = tuple[Any, ...]
_OURS = int.from_bytes(b"KlyC")  # what SQLite keeps in the head of a file
BUSY_SECONDS = 5.0  # for which a reader holds up a commit, and a commit a reader


class DatabaseFailed(InputError):
    """A file that cannot be read or written; what was to be written has not been."""


class DatabaseDamaged(DatabaseFailed):
    """A file that is not one of SQLite's, or not whole."""


class Database:
    """A file, which is begun where there is none.

    path: of the file; none keeps everything in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        # Transactions take turns, whichever thread they come from; one may hold another.
        self._lock = threading.RLock()
        self._depth = 0
        with self._named_errors():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                ":memory:" if path is None else path,
                isolation_level=None,
                check_same_thread=False,
                timeout=BUSY_SECONDS,
            )
            self._connection.execute("PRAGMA journal_mode = DELETE")
            self._connection.execute("PRAGMA synchronous = EXTRA")
            if path is not None and path.stat().st_size == 0:
                # From its first moment on a file of ours is never empty: an emptied one shows.
                self._connection.execute(f"PRAGMA application_id = {_OURS}")

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is executed within is written as one, or not at all; an inner one joins the outer.

        Nothing else of a transaction is on the disk before its end. A signal that ends the process
        is heard after it.
        """
        with DeferSignals(), self._named_errors():
            if self._depth == 0:
                self._connection.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
                if self._depth == 1:
                    self._connection.execute("COMMIT")
            except BaseException:
                if self._depth == 1 and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._depth -= 1

    def execute(self, statement: str, values: Sequence[object] = ()) -> None:
        """Write, as a part of the transaction around it or as one of its own."""
        with self.transaction():
            self._connection.execute(statement, values)

    def rows(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        with self._named_errors():
            return self._connection.execute(query, values).fetchall()

    def create(self, *statements: str) -> None:
        """Execute definitions, all or none."""
        with self.transaction():
            for statement in statements:
                self._connection.execute(statement)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> DatabaseFailed:
        place = "memory" if self.path is None else str(self.path)
        return DatabaseFailed(
            f"{place}: the journal cannot be used: {error}; nothing is sent without it"
        )


def check_integrity(path: Path) -> None:
    """Refuse a file that is not one of SQLite's, or that is damaged.

    What a killed process has not committed is taken back first.

    Raises Damaged saying what SQLite says of it; DatabaseFailed for a file that cannot be read now,
    which says nothing of what is in it.
    """
    with raise_damaged(), closing(Database(path)) as database:
        said = database.rows("PRAGMA integrity_check")
    if said != [("ok",)]:
        raise DatabaseDamaged(f"{path}: the journal is damaged: {said[0][0]}")


@contextmanager
def raise_damaged() -> Iterator[None]:
    """What cannot be read because it is damaged raises `DatabaseDamaged`."""
    try:
        yield
    except DatabaseFailed as error:
        if _says_damaged(error.__cause__):
            raise DatabaseDamaged(str(error)) from error
        raise


def query_rows(path: Path, query: str, values: Sequence[object] = ()) -> list[Row]:
    """What a query finds in a file that another process may be writing; nothing is written.

    A file whose process was killed within a commit is read from a copy, in which that was taken
    back.
    """
    try:
        return _rows(path, query, values)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise _unreadable(path, error) from error
    with TemporaryDirectory() as scratch:
        copy = copy_database(path, Path(scratch))
        try:
            return _rows(copy, query, values)
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _unreadable(path, error) from error


def copy_database(path: Path, folder: Path) -> Path:
    """A copy in another folder, in which what a killed process has begun is taken back."""
    copy = folder / path.name
    try:
        files = [file for file in (path, rollback_journal(path)) if file.exists()]
        before = [file.stat().st_mtime_ns for file in files]
        for file in files:
            shutil.copyfile(file, copy.with_name(file.name))
        # A process that has started since may have gone on with it: the two are of one moment.
        if [file.stat().st_mtime_ns for file in files] != before:
            raise OSError("it is written just now; read it again")
        Database(copy).close()
        return copy
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def query_table(path: Path, table: str, query: str, values: Sequence[object] = ()) -> list[Row]:
    """What a query finds in a table of a file; nothing where the table is not there."""
    # A process may have been killed before it made the table.
    tables = query_rows(path, "SELECT 1 FROM sqlite_master WHERE name = ?", (table,))
    return query_rows(path, query, values) if tables else []


def rollback_journal(path: Path) -> Path:
    """The file in which SQLite keeps what a commit has overwritten, until it has ended."""
    return path.with_name(f"{path.name}-journal")


def _rows(path: Path, query: str, values: Sequence[object]) -> list[Row]:
    address = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS)) as connection:
        return connection.execute(query, values).fetchall()


def _unreadable(path: Path, error: Exception) -> DatabaseFailed:
    return DatabaseFailed(f"{path}: the journal cannot be read: {error}")


def _says_damaged(cause: BaseException | None) -> bool:
    if isinstance(cause, UnicodeDecodeError):
        return True
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_OK)
    # Text that is no UTF-8 is Python's finding, which has no code; of a text that is no JSON any
    # more, from which a column is computed, SQLite says nothing else.
    said = str(cause)
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return code & 0xFF in codes or (
        isinstance(cause, sqlite3.OperationalError) and ("UTF-8" in said or "JSON" in said)
    )
