"""A test that leaves a connection to SQLite open fails, on every version of Python."""

from __future__ import annotations

import pytest

TESTS = """
import sqlite3

def test_closed():
    sqlite3.connect(":memory:").close()

def test_open(request):
    request.config.add_cleanup(sqlite3.connect(":memory:").close)
"""


def test_open_connection_fails_only_the_test_that_opened_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    done = pytester.runpytest_inprocess("-p", "tests.support.connections")
    done.assert_outcomes(passed=2, errors=1)
    done.stdout.fnmatch_lines(["*, in test_open", "ERROR *::test_open*"])
