"""Rows of a journal as values of a class whose fields the columns are, in their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar, get_type_hints

import numpy as np

from foundation.database import Database

Value = TypeVar("Value")


def _instant(text: str | None) -> np.datetime64 | None:
    return None if text is None else np.datetime64(text, "ns")


# What is written as text, by the type of its field; all else is written as it is.
_OF_TEXT: Mapping[object, Callable[[Any], object]] = {
    np.datetime64: lambda text: np.datetime64(text, "ns"),
    np.datetime64 | None: _instant,
    Decimal: Decimal,
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
