"""A table of a journal is what its row class says; a row is read as it was written, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import Json

from execution.journal.rows import (
    BoundedAmount,
    ExactDecimal,
    Float,
    Instant,
    Integer,
    JournalTable,
    Text,
    compute_digest,
)
from foundation.database import Database, DatabaseFailed
from tests.execution.journals import change_rows
from tests.support.connections import open_for_test
from tests.support.messages import refused

AT = np.datetime64("2026-11-25T15:30:00.000000001", "ns")


@dataclass(frozen=True, slots=True)
class Sample:
    name: Text
    part: Integer
    at: Instant
    until: Instant | None
    number: ExactDecimal
    amount: BoundedAmount | None
    share: Float
    held: Json[Mapping[str, ExactDecimal]]


@dataclass(frozen=True, slots=True)
class Counted:
    number: Integer
    name: Text


SAMPLES = JournalTable("samples", Sample, key="name, part", column_names={"number": "figure"})
ONE = Sample("a", 1, AT, None, Decimal("0.1"), Decimal(12), 0.25, {"NVDA": Decimal("-3")})

instants = st.integers(0, 4_000_000_000_000_000_000).map(lambda n: np.datetime64(n, "ns"))
numbers = st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**9))
samples = st.builds(
    Sample,
    name=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    part=st.integers(0, 10**12),
    at=instants,
    until=st.none() | instants,
    number=numbers,
    amount=st.none() | numbers.filter(lambda number: number.adjusted() <= 14),
    share=st.floats(allow_nan=False, allow_infinity=False),
    held=st.dictionaries(st.text("ABC", min_size=1), numbers),
)


def begun() -> Database:
    database = open_for_test()
    SAMPLES.create(database)
    return database


@example(replace(ONE, share=-0.0), replace(ONE, part=2, share=0))
@given(samples, samples)
def test_journal_row_round_trips_and_upsert_replaces_it(one: Sample, other: Sample) -> None:
    database = begun()
    SAMPLES.insert(database, one)
    assert SAMPLES.select_rows(database) == [one]
    SAMPLES.upsert(database, other)
    same = (one.name, one.part) == (other.name, other.part)
    assert SAMPLES.select_rows(database, "ORDER BY rowid") == ([other] if same else [one, other])
    SAMPLES.update(database, "WHERE name = ?", (other.name,), share=0.5)
    assert {
        row.share for row in SAMPLES.select_rows(database, "WHERE name = ?", (other.name,))
    } == {0.5}


def test_duplicate_key_fails_or_is_skipped_as_requested() -> None:
    database = begun()
    SAMPLES.insert(database, ONE)
    with refused(DatabaseFailed, "UNIQUE"):
        SAMPLES.insert(database, ONE)
    SAMPLES.insert(database, ONE, conflict_clause="ON CONFLICT DO NOTHING")
    assert SAMPLES.select_rows(database) == [ONE]
    assert SAMPLES.first_row(database, "WHERE part = 2") is None


@pytest.mark.parametrize(
    ("column", "value", "facts"),
    [
        ("at", "soon", ("at", "'soon'")),
        ("at", "2300-01-01T00:00:00", ("at",)),
        ("at", "2026-11-25", ("at",)),
        ("until", "1960-01-01T00:00:00", ("until",)),
        ("figure", "NaN", ("number", "'NaN'")),
        ("figure", "much", ("number", "'much'")),
        ("amount", "Infinity", ("amount",)),
        ("amount", "1e15", ("amount",)),
        ("amount", "1e-25", ("amount",)),
        ("held", "[]", ("held",)),
        ("held", "{", ("held", "not valid JSON")),
    ],
)
def test_invalid_cell_is_refused_naming_table_and_value(
    column: str, value: str, facts: tuple[str, ...]
) -> None:
    database = begun()
    SAMPLES.insert(database, ONE)
    change_rows(database, "samples", f"{column} = ?", (value,))
    with refused(DatabaseFailed, "memory", "samples", "row a 1", *facts):
        SAMPLES.select_rows(database)


@pytest.mark.parametrize(
    ("column", "value"),
    [("name", "b"), ("part", 2), ("until", str(AT)), ("figure", "0.2"), ("share", 0.5)],
)
def test_altered_journal_row_is_refused(column: str, value: object) -> None:
    database = begun()
    SAMPLES.insert(database, ONE)
    database.execute(f"UPDATE samples SET {column} = ?", (value,))
    with refused(DatabaseFailed):
        SAMPLES.select_rows(database)
    database.execute("UPDATE samples SET row_digest = ''")
    with refused(DatabaseFailed):
        SAMPLES.select_rows(database)


def test_row_numbers_start_at_1_and_never_repeat() -> None:
    database = open_for_test()
    counted = JournalTable("counted_samples", Counted, autoincrement=True)
    counted.create(database)
    for name in ("a", "b"):
        counted.insert(database, Counted(0, name))
    database.execute("DELETE FROM counted_samples WHERE number = 2")
    counted.insert(database, Counted(0, "c"))
    assert counted.select_rows(database) == [Counted(1, "a"), Counted(3, "c")]


def test_rows_read_by_another_process_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Database(path)) as database:
        assert SAMPLES.read_rows(path) == [], "there is no table yet"
        SAMPLES.create(database)
        SAMPLES.insert(database, ONE)
        assert SAMPLES.read_rows(path) == [ONE]
        database.execute("UPDATE samples SET part = 2")
        with refused(DatabaseFailed):
            SAMPLES.read_rows(path)


def test_row_digest_is_stable() -> None:
    """Existing journals are verified with it."""
    cells = {"name": "a", "figure": "0.1", "share": 0.25, "until": None, "part": 1}
    assert (
        compute_digest(cells) == compute_digest(dict(sorted(cells.items()))) == "e05973b757c91056"
    )
