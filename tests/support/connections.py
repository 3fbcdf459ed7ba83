"""Databases that are closed with the test, or the module's fixture, that opens them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from foundation.database import Database

_scopes: list[ExitStack] = []  # of the running module, then of the running test


def open_for_test(path: Path | None = None) -> Database:
    """Open a database until the end of the test, or of the module if a module's fixture asks.

    path: path of the file; None keeps the database in memory.
    """
    return _scopes[-1].enter_context(closing(Database(path)))


def _close_databases() -> Iterator[None]:
    with ExitStack() as scope:
        _scopes.append(scope)
        yield
        _scopes.pop()


connections_of_module = pytest.fixture(scope="module", autouse=True)(_close_databases)
connections_of_test = pytest.fixture(autouse=True)(_close_databases)
