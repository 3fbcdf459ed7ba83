"""How a journal of an earlier version becomes one of today: the only list of such changes.

The file's `user_version` is the number of changes that it has been through. A table that is not
there yet has none to make: whoever keeps it creates it as it is today.
"""

from __future__ import annotations

from typing import NamedTuple

from foundation.database import Database
from foundation.errors import InputError


class Migration(NamedTuple):
    """A change of a table; statements: SQL, in their order."""

    table: str
    statements: tuple[str, ...]


# Never changed and never reordered: a new one goes to the end.
MIGRATIONS: tuple[Migration, ...] = ()


def create_tables(database: Database, *schema: str) -> None:
    """Bring a journal to today's version, and create tables that it has not.

    schema: their definitions, each with IF NOT EXISTS.

    Raises
    ------
    InputError
        for a journal of a later version than this one.
    """
    with database.transaction():
        migrate(database)
        database.create(*schema)


def migrate(database: Database) -> None:
    """Make the changes that a journal has not been through, all or none."""
    with database.transaction():
        [(done,)] = database.rows("PRAGMA user_version")
        if done == len(MIGRATIONS):
            return
        if done > len(MIGRATIONS):
            raise InputError(
                f"{database.path}: a journal of a later version ({done}, this one writes"
                f" {len(MIGRATIONS)}); trade it with that one"
            )
        for table, statements in MIGRATIONS[done:]:
            if database.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)):
                database.create(*statements)
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
