"""Rows of a journal as values of a class whose fields the columns are, in their order."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from decimal import Decimal
from typing import Any, TypeVar, get_type_hints

import numpy as np

from foundation.database import Database
from foundation.decimals import is_bounded

Value = TypeVar("Value")

_INSTANT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?)?")


def instant(text: str) -> np.datetime64:
    """The instant that a text says: numpy takes words as well, and wraps years that are too far."""
    if _INSTANT.fullmatch(text):
        at = np.datetime64(text, "ns")
        if str(at).startswith(text):
            return at
    raise ValueError(f"no instant, YYYY-MM-DDThh:mm:ss: {text!r}")


def exact(text: str) -> Decimal:
    """The number that a text says."""
    number = Decimal(text)
    if not is_bounded(number):
        raise ValueError(f"no number: {text!r}")
    return number


def _or_none(reader: Callable[[str], object]) -> Callable[[str | None], object]:
    return lambda text: None if text is None else reader(text)


# What is written as text, by the type of its field; all else is written as it is.
_OF_TEXT: Mapping[object, Callable[[Any], object]] = {
    np.datetime64: instant,
    np.datetime64 | None: _or_none(instant),
    Decimal: exact,
    Decimal | None: _or_none(exact),
    Mapping[str, float]: json.loads,
}


def read(
    database: Database, kind: Callable[..., Value], query: str, values: Sequence[object] = ()
) -> list[Value]:
    """What a query finds, as values of a class.

    Raises
    ------
    DatabaseFailed
        for a journal that cannot be read, and a row that says nothing.
    """
    found = database.rows(query, values)
    types = get_type_hints(kind).values()
    readers: list[Callable[[Any], object]] = [
        _OF_TEXT.get(each, lambda cell: cell) for each in types
    ]
    with database.checked():
        return [
            kind(*(reader(cell) for reader, cell in zip(readers, row, strict=True)))
            for row in found
        ]


def select(
    database: Database,
    kind: Callable[..., Value],
    table: str,
    clause: str = "",
    values: Sequence[object] = (),
) -> list[Value]:
    """The rows of a table that a clause leaves, as values of a class, as `read` does."""
    columns = ", ".join(each.name for each in fields(kind))  # type: ignore[arg-type]
    return read(database, kind, f"SELECT {columns} FROM {table} {clause}", values)


def insert(database: Database, table: str, row: object, **more: object) -> None:
    """Write a value as a row of its own; more: further columns."""
    columns = {each.name: getattr(row, each.name) for each in fields(row)}  # type: ignore[arg-type]
    columns |= more
    marks = ", ".join("?" * len(columns))
    database.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})",
        [str(v) if isinstance(v, Decimal | np.datetime64) else v for v in columns.values()],
    )
