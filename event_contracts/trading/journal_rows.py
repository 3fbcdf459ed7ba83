"""Rows of a journal, their columns checked as they are read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from foundation.database import DatabaseFailed, Row
from foundation.decimals import is_bounded
from foundation.errors import in_one_line

# numpy takes words and zones for instants as well; differences since 1970 fit into 64 bits.
_INSTANT = re.compile(r"(19[7-9]|2\d\d)\d-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?")
_SHOWN = 60  # characters of a value, in messages

Query = Callable[[str, Sequence[str]], list[Row]]


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One row of a table.

    journal: what messages call the journal.
    table: name.
    key: what tells the row from others, as messages have it.
    values: by column; one that is missing is as one that says nothing.

    Raises
    ------
    DatabaseFailed
        in every method, naming journal, table, row, column and value.
    """

    journal: str
    table: str
    key: str
    values: Mapping[str, Any]

    def text(self, column: str) -> str:
        """Words, which may be empty."""
        value = self.values.get(column)
        if not isinstance(value, str):
            raise self._refused(column, "no text")
        return value

    def whole(self, column: str, least: int, most: int) -> int:
        """A whole number within its bounds, the bounds included."""
        value = self.values.get(column)
        if not isinstance(value, int) or not least <= value <= most:
            raise self._refused(column, f"no whole number, {least} … {most}")
        return value

    def share(self, column: str) -> float:
        """A number from 0 to 1."""
        value = self.values.get(column)
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._refused(column, "no number, 0 … 1")
        return float(value)

    def amount(self, column: str) -> Decimal:
        """An amount of USD."""
        text = self.values.get(column)
        try:
            amount = Decimal(text) if isinstance(text, str) else Decimal("NaN")
        except InvalidOperation:
            amount = Decimal("NaN")
        if not is_bounded(amount):
            raise self._refused(column, "no amount of USD")
        return amount

    def instant(self, column: str) -> np.datetime64:
        """UTC, to the nanosecond."""
        text = self.values.get(column)
        instant: np.datetime64 = np.datetime64("NaT", "ns")
        if isinstance(text, str) and _INSTANT.fullmatch(text):
            with suppress(ValueError):
                instant = np.datetime64(text, "ns")
        # Beyond what 64 bits of nanoseconds hold, numpy says another year.
        if np.isnat(instant) or not str(instant).startswith(str(text)):
            raise self._refused(column, "no instant, YYYY-MM-DDThh:mm:ss")
        return instant

    def inner(self, column: str) -> JournalRow:
        """A JSON object, whose names are columns."""
        try:
            content = json.loads(self.text(column))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise self._refused(column, "no JSON object")
        return replace(self, values=content)

    @contextmanager
    def checked(self) -> Iterator[None]:
        """A value that is made of the row, and refuses to be, is an error of the row."""
        try:
            yield
        except DatabaseFailed:
            raise
        except ValueError as error:
            raise self.refusal(str(error)) from error

    def refusal(self, why: str) -> DatabaseFailed:
        """The error that says why the row cannot be."""
        return DatabaseFailed(
            f"{self.journal}: the journal is damaged: {self.table}, row {self.key}: {why}"
        )

    def _refused(self, column: str, what: str) -> DatabaseFailed:
        shown = in_one_line(repr(self.values.get(column)), _SHOWN)
        return self.refusal(f"{column} is {what}: {shown}")


def journal_rows(
    query: Query,
    journal: str,
    table: str,
    columns: str,
    clause: str = "",
    values: Sequence[str] = (),
    keys: int = 2,
) -> list[JournalRow]:
    """Rows of a table of a journal.

    query: what finds them. journal: what messages call it.
    columns: with commas between them; so many of the first, `keys`, tell rows apart.
    clause: of the query, after the table; values: for it.

    Raises
    ------
    DatabaseFailed
        for a journal that cannot be read.
    """
    names = columns.split(", ")
    found = query(f"SELECT {columns} FROM {table} {clause}", values)
    return [
        JournalRow(
            journal, table, " ".join(map(str, row[:keys])), dict(zip(names, row, strict=True))
        )
        for row in found
    ]
