"""Tables of a journal: the fields of a dataclass define a table's columns and validate its rows.

Instants are UTC, as text of one length that sorts by time. Exact numbers are text without an
exponent. Each row has a digest, so that corruption on disk is detected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from decimal import Decimal
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, get_args, get_type_hints

import numpy as np
from pydantic import PlainSerializer, PlainValidator, Strict, TypeAdapter, ValidationError

from execution.journal.schema import create_tables
from foundation.database import (
    Database,
    DatabaseDamaged,
    query_rows,
    query_table,
    translate_damage_errors,
)
from foundation.decimals import format_without_exponent, has_supported_magnitude
from foundation.errors import to_one_line

DIGEST_COLUMN = "row_digest"  # the last column of a table

Row = TypeVar("Row")
Built = TypeVar("Built")

# numpy also parses words and time zones as instants; differences since 1970 fit into 64 bits.
_INSTANT = re.compile(r"(19[7-9]|2\d\d)\d-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?")
_MAX_CHARACTERS_SHOWN = 60  # characters of a value, in messages
_COLUMNS_SQL = "SELECT name FROM pragma_table_info(?)"
_TABLES_WITH_DIGEST_SQL = (
    "SELECT kept.name FROM sqlite_master AS kept JOIN pragma_table_info(kept.name) AS found"
    f" ON found.name = '{DIGEST_COLUMN}' WHERE kept.type = 'table'"
)
_ROW_CHANGED_TEXT = "the row has changed since it was written"
_ROWS_PER_QUERY = 1000  # rows per query
_SQL_TYPES: Mapping[object, str] = {int: "INTEGER", float: "REAL"}


def format_instant(at: np.datetime64) -> str:
    return str(at.astype("datetime64[ns]"))


# Messages of this project by pydantic's error types.
_ERROR_MESSAGES = {"json_invalid": "not valid JSON", "dict_type": "not a JSON object"}


def parse_instant(text: Any) -> np.datetime64:
    if not (isinstance(text, str) and _INSTANT.fullmatch(text)):
        raise ValueError("not a time in the format YYYY-MM-DDThh:mm:ss")
    at = np.datetime64(text, "ns")
    # numpy returns another year if the instant exceeds 64 bits of nanoseconds.
    if not str(at).startswith(text):
        raise ValueError("a time outside the supported years")
    return at


def _parse_decimal(text: Any) -> Decimal:
    try:
        number = Decimal(text) if isinstance(text, str) else Decimal("NaN")
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ValueError("not a number")
    return number


def parse_bounded_amount(text: Any) -> Decimal:
    amount = _parse_decimal(text)
    if not has_supported_magnitude(amount):
        raise ValueError("outside the range of amounts in USD")
    return amount


Text = Annotated[str, Strict()]
Integer = Annotated[int, Strict()]
Float = Annotated[float, Strict()]
Instant = Annotated[np.datetime64, PlainValidator(parse_instant), PlainSerializer(format_instant)]
ExactDecimal = Annotated[
    Decimal, PlainValidator(_parse_decimal), PlainSerializer(format_without_exponent)
]
BoundedAmount = Annotated[
    Decimal, PlainValidator(parse_bounded_amount), PlainSerializer(format_without_exponent)
]


class JournalTable(Generic[Row]):
    """A table whose columns are the fields of a dataclass, in their order.

    name: name of the table.
    columns: names of the table's columns.
    kind: dataclass of the rows; its `Json` fields are stored as text.
    key: columns that identify a row; empty if the first column does.
    autoincrement: true if SQLite numbers the rows in the first column.
    column_names: column name by field, for columns whose name differs from the field.
    computed: definitions of generated columns.
    more: further SQL definitions, such as indices.
    """

    def __init__(
        self,
        name: str,
        kind: type[Row],
        *more: str,
        key: str = "",
        autoincrement: bool = False,
        column_names: Mapping[str, str] | None = None,
        computed: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._kind = kind
        self._more = more
        self._autoincrement = autoincrement
        self._computed = computed
        self._fields = [each.name for each in fields(kind)]  # type: ignore[arg-type]
        names = column_names or {}
        self.columns = [names.get(each, each) for each in self._fields]
        self._key = key.split(", ") if key else self.columns[:1]
        hints = get_type_hints(kind)
        self._types = [_SQL_TYPES.get(hints[each], "TEXT") for each in self._fields]
        self._optional = [type(None) in get_args(hints[each]) for each in self._fields]

    @cached_property
    def _adapter(self) -> TypeAdapter[Row]:
        return TypeAdapter(self._kind)

    def create(self, database: Database) -> None:
        """Create the table if the database lacks it."""
        lines = []
        for column, kind, optional in zip(self.columns, self._types, self._optional, strict=True):
            lines.append(f"{column} {kind}" if optional else f"{column} {kind} NOT NULL")
        if self._autoincrement:
            lines[0] = f"{self.columns[0]} INTEGER PRIMARY KEY AUTOINCREMENT"
        lines += [f"{DIGEST_COLUMN} TEXT NOT NULL", *self._computed]
        if not self._autoincrement:
            lines.append(f"PRIMARY KEY ({', '.join(self._key)})")
        content = ", ".join(lines)
        definition = f"CREATE TABLE IF NOT EXISTS {self.name} ({content}) STRICT"
        create_tables(database, definition, *self._more)

    def upsert(self, database: Database, row: Row) -> None:
        """Write a row, replacing an existing row with the same key."""
        others = [*(each for each in self.columns if each not in self._key), DIGEST_COLUMN]
        changes = ", ".join(f"{each} = excluded.{each}" for each in others)
        then = f"ON CONFLICT ({', '.join(self._key)}) DO UPDATE SET {changes}"
        self._write(database, self._encode_row(row), then)

    def insert(self, database: Database, row: Row, *, conflict_clause: str = "") -> None:
        """Write a new row; fail if its key exists, unless `conflict_clause` handles this.

        conflict_clause: SQL clause that handles the conflict (ON CONFLICT).
        """
        cells = self._encode_row(row)
        with database.transaction():
            if self._autoincrement:
                # A number is never used twice, even if its row is deleted.
                last = database.query(
                    "SELECT seq FROM sqlite_sequence WHERE name = ?", (self.name,)
                )
                cells[self.columns[0]] = sum(last[0]) + 1 if last else 1
            self._write(database, cells, conflict_clause)

    def update(
        self, database: Database, clause: str, values: Sequence[object], **changes: object
    ) -> None:
        """Set fields of the rows that an SQL clause selects.

        clause: SQL that follows the table's name, with placeholders for `values`.
        changes: new values by field.
        """
        with database.transaction():
            for row in self.select_rows(database, clause, values):
                self.upsert(database, replace(row, **changes))  # type: ignore[type-var]

    def _encode_row(self, row: Row) -> dict[str, object]:
        """Return the values of a row, encoded for SQLite, by column."""
        values = self._adapter.dump_python(row, mode="json", round_trip=True)
        cells = {}
        for column, name, kind in zip(self.columns, self._fields, self._types, strict=True):
            # SQLite returns values unchanged, except that it turns whole numbers into floats and
            # drops the sign of -0.0.
            cells[column] = float(values[name]) + 0.0 if kind == "REAL" else values[name]
        return cells

    def _write(self, database: Database, cells: Mapping[str, object], then: str) -> None:
        names = ", ".join([*cells, DIGEST_COLUMN])
        marks = ", ".join("?" * (len(cells) + 1))
        query = f"INSERT INTO {self.name} ({names}) VALUES ({marks}) {then}"
        database.execute(query, (*cells.values(), compute_digest(cells)))

    def select_rows(
        self, database: Database, clause: str = "", values: Sequence[object] = ()
    ) -> list[Row]:
        """Return the rows that an SQL clause selects.

        clause: SQL that follows the table's name, with placeholders for `values`.
        """
        return self._decode_rows(database.query(self._select_sql(clause), values), database.path)

    def map_rows(
        self,
        database: Database,
        build: Callable[[Row], Built],
        clause: str = "",
        values: Sequence[object] = (),
    ) -> list[Built]:
        """Build an object with `build` from each row that an SQL clause selects.

        A row from which `build` cannot build an object is reported as damaged.
        """
        made = []
        for row in self.select_rows(database, clause, values):
            with translate_decoding_errors(database.path, self.name, *self._key_values(row)):
                made.append(build(row))
        return made

    def first_row(
        self, database: Database, clause: str = "", values: Sequence[object] = ()
    ) -> Row | None:
        """Return the first row that an SQL clause selects; None without one."""
        found = self.select_rows(database, f"{clause} LIMIT 1", values)
        return found[0] if found else None

    def read_rows(self, path: Path, clause: str = "") -> list[Row]:
        """Read rows from a file that another process may be writing.

        Returns no rows if the file lacks the table.
        """
        return self._decode_rows(query_table(path, self.name, self._select_sql(clause)), path)

    def _key_values(self, row: Row) -> list[object]:
        names = dict(zip(self.columns, self._fields, strict=True))
        return [getattr(row, names[column]) for column in self._key]

    def _select_sql(self, clause: str) -> str:
        return f"SELECT {', '.join([*self.columns, DIGEST_COLUMN])} FROM {self.name} {clause}"

    def _decode_rows(self, rows: Sequence[Sequence[Any]], path: Path | None) -> list[Row]:
        found = []
        for *row, digest in rows:
            named = dict(zip(self.columns, row, strict=True))
            key = [named[column] for column in self._key]
            with translate_decoding_errors(path, self.name, *key):
                cells = dict(zip(self._fields, row, strict=True))
                found.append(self._adapter.validate_python(cells))
            if digest != compute_digest(named):
                raise damage_error(path, self.name, *key, why=_ROW_CHANGED_TEXT)
        return found


def compute_digest(cells: Mapping[str, object]) -> str:
    """Return the digest of a row, by which later corruption of the row is detected.

    cells: values by column, without the digest.
    """
    text = repr(sorted(cells.items()))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def verify_digests(path: Path) -> None:
    """Check that the content of every row of a journal matches the row's digest.

    Raises
    ------
    DatabaseDamaged
        for a row that does not match its digest.
    """
    with translate_damage_errors():
        for (table,) in query_rows(path, _TABLES_WITH_DIGEST_SQL):
            _refuse_changed_rows(path, table)


def _refuse_changed_rows(path: Path, table: str) -> None:
    columns = [
        name for (name,) in query_rows(path, _COLUMNS_SQL, (table,)) if name != DIGEST_COLUMN
    ]
    query = f"SELECT rowid, {DIGEST_COLUMN}, {', '.join(columns)} FROM {table} WHERE rowid > ?"
    last = -1
    while rows := query_rows(path, f"{query} ORDER BY rowid LIMIT {_ROWS_PER_QUERY}", (last,)):
        for last, digest, *row in rows:
            if digest != compute_digest(dict(zip(columns, row, strict=True))):
                raise damage_error(path, table, last, why=_ROW_CHANGED_TEXT)


@contextmanager
def translate_decoding_errors(path: Path | None, table: str, *key: object) -> Iterator[None]:
    """Return a context manager that turns errors in decoding a row into `DatabaseDamaged`.

    key: values that identify the row in the message.

    Raises
    ------
    DatabaseDamaged
        for a row that cannot be decoded.
    """
    try:
        yield
    except ValidationError as error:
        problem = error.errors()[0]
        why = _ERROR_MESSAGES.get(problem["type"]) or str(
            problem.get("ctx", {}).get("error") or problem["msg"]
        )
        if problem["loc"]:
            shown = to_one_line(repr(problem["input"]), _MAX_CHARACTERS_SHOWN)
            why = f"{problem['loc'][0]}: {why}: {shown}"
        raise damage_error(path, table, *key, why=why) from error
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise damage_error(
            path, table, *key, why=f"cannot decode the row: {to_one_line(repr(error))}"
        ) from error


def damage_error(path: Path | None, table: str, *key: object, why: str) -> DatabaseDamaged:
    """Return the error that reports a damaged row.

    key: values that identify the row in the message.
    why: reason why the row cannot be read.
    """
    name = " ".join(map(str, key))
    place = "memory" if path is None else str(path)
    return DatabaseDamaged(f"{place}: the journal is damaged: {table}, row {name}: {why}")
