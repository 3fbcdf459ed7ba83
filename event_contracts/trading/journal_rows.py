"""Rows of a journal as the values that they say: each column is checked as it is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from decimal import Decimal
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import Field, PlainSerializer, PlainValidator, Strict, TypeAdapter, ValidationError

from foundation.database import Database, DatabaseFailed, Row
from foundation.decimals import is_bounded
from foundation.errors import in_one_line

# numpy takes words and zones for instants as well; differences since 1970 fit into 64 bits.
_INSTANT = re.compile(r"(19[7-9]|2\d\d)\d-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?")
_SHOWN = 60  # characters of a value, in messages

Query = Callable[[str, Sequence[str]], list[Row]]
Value = TypeVar("Value")


def _instant(text: Any) -> np.datetime64:
    if isinstance(text, str) and _INSTANT.fullmatch(text):
        instant = np.datetime64(text, "ns")
        # Beyond what 64 bits of nanoseconds hold, numpy says another year.
        if str(instant).startswith(text):
            return instant
    raise ValueError("no instant, YYYY-MM-DDThh:mm:ss")


def _amount(text: Any) -> Decimal:
    if isinstance(text, str):
        try:
            amount = Decimal(text)
        except ArithmeticError:
            amount = Decimal("NaN")
        if is_bounded(amount):
            return amount
    raise ValueError("no amount of USD")


Text = Annotated[str, Strict()]
Instant = Annotated[np.datetime64, PlainValidator(_instant), PlainSerializer(str)]
Amount = Annotated[Decimal, PlainValidator(_amount), PlainSerializer(str)]
Whole = Annotated[int, Strict()]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]


class JournalRows:
    """The tables of one journal.

    query: what finds rows in it.
    journal: what messages call it.

    Raises
    ------
    DatabaseFailed
        in every method, for a journal that cannot be read, and naming table, row, column and value
        of what cannot be.
    """

    def __init__(self, query: Query, journal: str = "memory") -> None:
        self.journal = journal
        self._query = query

    def read(
        self,
        table: str,
        kind: type[Value],
        clause: str = "",
        values: Sequence[str] = (),
        keys: int = 1,
    ) -> list[Value]:
        """Rows as values of a dataclass whose fields are columns.

        clause: of the query, after the table; values: for it.
        keys: how many of the first columns tell rows apart.
        """
        columns = [each.name for each in fields(kind)]  # type: ignore[arg-type]
        adapter = TypeAdapter(kind)
        rows = self._query(f"SELECT {', '.join(columns)} FROM {table} {clause}", values)
        found = []
        for row in rows:
            with self.checked(table, *row[:keys]):
                found.append(adapter.validate_python(dict(zip(columns, row, strict=True))))
        return found

    @contextmanager
    def checked(self, table: str, *key: object) -> Iterator[None]:
        """A value that is made of a row, and refuses to be, is an error of the row."""
        try:
            yield
        except ValidationError as error:
            problem = error.errors()[0]
            why = str(problem.get("ctx", {}).get("error") or problem["msg"])
            if problem["loc"]:
                shown = in_one_line(repr(problem["input"]), _SHOWN)
                why = f"{problem['loc'][0]}: {why}: {shown}"
            raise self.refusal(table, *key, why=why) from error
        except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
            raise self.refusal(table, *key, why=f"it makes no sense: {error!r}") from error

    def refusal(self, table: str, *key: object, why: str) -> DatabaseFailed:
        """The error that says why a row cannot be."""
        name = " ".join(map(str, key))
        return DatabaseFailed(f"{self.journal}: the journal is damaged: {table}, row {name}: {why}")


def insert(database: Database, table: str, row: object, how: str = "", **more: object) -> None:
    """Write a row, whose fields are columns.

    how: what becomes of one with its key that is there, as SQLite says it; else that is an error.
    more: further columns.
    """
    columns = {each.name: getattr(row, each.name) for each in fields(row)}  # type: ignore[arg-type]
    columns |= more
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    database.execute(
        f"INSERT {how} INTO {table} ({names}) VALUES ({marks})",
        [str(v) if isinstance(v, Decimal | np.datetime64) else v for v in columns.values()],
    )
