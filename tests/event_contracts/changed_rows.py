"""Answers of a practice venue without some fields, as received by our client."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from event_contracts.trading.endpoint import KalshiConnection

Change = Callable[[dict[str, Any]], dict[str, Any]]
Row = dict[str, Any]
REMOVED = object()  # a field's value that takes the field away


def with_fields(**fields: Any) -> Change:
    """Return a change of rows: other values, and fields that are `REMOVED`."""

    def change(row: Row) -> Row:
        changed = {**row, **fields}
        return {name: value for name, value in changed.items() if value is not REMOVED}

    return change


@contextmanager
def changed_rows(
    path: str, change: Change, market: str | None = None, method: str = "GET"
) -> Iterator[None]:
    """Change the answers to one path: rows of their lists, objects in them, and themselves.

    market: whose rows are changed; None changes all.
    """
    request = KalshiConnection.request

    def one(row: Row) -> Row:
        is_meant = market is None or row.get("ticker", market) == market
        return change(row) if is_meant else row

    def changed(
        connection: KalshiConnection, verb: str, asked: str, query: Any = None, body: Any = None
    ) -> Mapping[str, Any]:
        answer = request(connection, verb, asked, query, body)
        if verb != method or not asked.startswith(path):
            return answer
        parts = {
            name: [one(row) for row in value]
            if isinstance(value, list)
            else one(value)
            if isinstance(value, dict)
            else value
            for name, value in answer.items()
        }
        return change(parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KalshiConnection, "request", changed)
        yield
