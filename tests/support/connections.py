"""Audit of connections to SQLite: each is closed by the test, or the fixture, that opens it.

From 3.13 on Python warns of an open connection when it is collected as garbage, in whichever test
runs then. The audit names the place that opened it, on every version.
"""

from __future__ import annotations

import sqlite3
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from foundation.database import Database

_opened: list[tuple[sqlite3.Connection, list[str]]] = []  # each with the stack that opened it
_scopes: list[ExitStack] = []  # of the running module, then of the running test


def _record(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "sqlite3.connect/handle" and _scopes:
        _opened.append((arguments[0], traceback.format_stack(limit=12)))


sys.addaudithook(_record)


def open_for_test(path: Path | None = None) -> Database:
    """Open a database until the end of the test, or of the module if a module's fixture asks.

    path: path of the file; None keeps the database in memory.
    """
    return _scopes[-1].enter_context(closing(Database(path)))


def _is_open(connection: sqlite3.Connection) -> bool:
    try:
        return connection.total_changes >= 0
    except sqlite3.ProgrammingError:
        return False


def _audit() -> Iterator[None]:
    """Fail a test, or the last test of a module, that leaves a connection open."""
    begun = len(_opened)
    with ExitStack() as scope:
        _scopes.append(scope)
        yield
        _scopes.pop()
    left = ["".join(place) for connection, place in _opened[begun:] if _is_open(connection)]
    del _opened[begun:]
    if left:
        pytest.fail(f"connections left open: {len(left)}; the first was opened here:\n{left[0]}")


connections_of_module = pytest.fixture(scope="module", autouse=True)(_audit)
connections_of_test = pytest.fixture(autouse=True)(_audit)
