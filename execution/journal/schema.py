"""Version of the journal's database schema; journals with another version are refused.

SQLite stores the version as the file's `user_version`, which is 0 until the first table is created.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from foundation.database import Database, query_rows
from foundation.errors import InputError

SCHEMA_VERSION = 36
_VERSION_AND_TABLES_SQL = (
    "SELECT user_version, (SELECT count(*) FROM sqlite_master) FROM pragma_user_version"
)


def create_tables(database: Database, *definitions: str) -> None:
    """Create the tables and indices that a journal lacks.

    definitions: SQL statements with IF NOT EXISTS.

    Raises
    ------
    InputError
        for a journal of another schema version, which is left unchanged.
    """
    with database.transaction():
        [(version, tables)] = database.query(_VERSION_AND_TABLES_SQL)
        _refuse_other_schema(database.path, version, tables)
        if not version:
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.execute_all(*definitions)


def open_journal_for_reading(path: Path) -> closing[Database]:
    """Open a journal for reading, during a `with` block.

    A file without tables is read as an empty journal.

    Raises
    ------
    InputError
        for a journal of another schema version.
    """
    [(version, tables)] = query_rows(path, _VERSION_AND_TABLES_SQL)
    _refuse_other_schema(path, version, tables)
    return closing(Database(path if tables else None))


def _refuse_other_schema(path: Path | None, version: int, tables: int) -> None:
    """Reject a journal of another schema version, or one of version 0 that has tables.

    tables: number of tables in the file.
    """
    if version == SCHEMA_VERSION or (version == 0 and not tables):
        return
    raise InputError(
        f"{path}: the journal has schema {version} but this release reads {SCHEMA_VERSION}; use the"
        " release that wrote it, or start a new journal (docs/OPERATIONS.md, upgrade)"
    )
