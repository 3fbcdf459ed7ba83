"""Rows of a journal that are changed behind its back, with a digest that fits them."""

from __future__ import annotations

from execution.journal.rows import DIGEST_COLUMN, compute_digest
from foundation.database import Database


def change_rows(
    database: Database, table: str, changes: str, values: tuple[object, ...] = ()
) -> None:
    """Change every row of a table and write the digest of its new content; changes: as in SET."""
    database.execute(f"UPDATE {table} SET {changes}", values)
    query = "SELECT name FROM pragma_table_info(?) WHERE name <> ?"
    columns = [name for (name,) in database.query(query, (table, DIGEST_COLUMN))]
    for row_id, *row in database.query(f"SELECT rowid, {', '.join(columns)} FROM {table}"):
        digest = compute_digest(dict(zip(columns, row, strict=True)))
        database.execute(
            f"UPDATE {table} SET {DIGEST_COLUMN} = ? WHERE rowid = ?", (digest, row_id)
        )
