"""A journal has one schema: another is refused by name, and changed bytes are noticed."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from execution.decision.decision import decision_from_choices
from execution.journal.cycles import NextCycleJournal
from execution.journal.decisions import DecisionJournal
from execution.journal.events import AlertJournal, EventLog
from execution.journal.halts import HaltJournal
from execution.journal.marks import EquityMark, EquityMarkJournal
from execution.journal.order_store import OrderIntent, OrderStore
from execution.journal.schema import SCHEMA_VERSION, open_journal_for_reading
from execution.live.account_lock import refuse_unusable_journal
from execution.live.expected_positions import ExpectedPositions
from execution.live.guards import GuardSettings
from execution.live.losses import record_mark_and_halts
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Order
from foundation.clock import TimeSource
from foundation.database import Database, DatabaseDamaged
from foundation.errors import InputError
from foundation.redaction import NULL_REDACTOR
from marketsimulator.results.journal_record import JournalRecord
from tests.e2e.refused import refusal_of
from tests.support.messages import check_message, refused

SOON = np.datetime64("2026-11-24T15:35:00.000000000")
NOW = np.datetime64("2026-11-25T15:30:00.000000000")


def opened(database: Database) -> OrderStore:
    """Create the tables of an account's books."""
    events = EventLog(database)
    book = OrderStore(database, events)
    DecisionJournal(database, events, book, "trade")
    HaltJournal(database, events)
    EquityMarkJournal(database)
    ExpectedPositions(database, events)
    NextCycleJournal(database, 1.0)
    AlertJournal(database, NULL_REDACTOR, TimeSource(now=lambda: NOW))
    return book


def of_schema(version: int, path: Path) -> Path:
    """A journal with a table, and this version of its schema."""
    with closing(Database(path)) as database:
        OrderStore(database)
        database.execute(f"PRAGMA user_version = {version}")
    return path


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
def test_journals_of_other_schemas_are_refused_unchanged(version: int, tmp_path: Path) -> None:
    path = of_schema(version, tmp_path / "journal.sqlite")
    before = path.read_bytes()
    facts = (path, f"schema {version}", SCHEMA_VERSION)
    with refused(InputError, *facts) as caught:
        refuse_unusable_journal(path)
    assert not isinstance(caught.value, DatabaseDamaged), "it would be set aside"
    with refused(InputError, *facts), open_journal_for_reading(path):
        pass
    with closing(Database(path)) as database, refused(InputError, *facts):
        OrderStore(database)
    assert path.read_bytes() == before


def test_status_refuses_another_schema_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = of_schema(28, Path("data/live/demo/journal.sqlite"))
    check_message(refusal_of("execution.live", "status"), path, "schema 28", "docs/OPERATIONS.md")


def test_a_journal_without_tables_reads_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Database(path).close()
    before = path.read_bytes()
    refuse_unusable_journal(path)
    with open_journal_for_reading(path) as database:
        assert opened(database).intents_with_unknown_outcome() == ()
    assert path.read_bytes() == before
    with closing(Database(path)) as database:
        opened(database)
    with open_journal_for_reading(path) as database:
        assert database.path == path
        assert database.query("PRAGMA user_version") == [(SCHEMA_VERSION,)]


def content(path: Path) -> object:
    """All rows of a file; none of one that SQLite cannot read."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    with closing(sqlite3.connect(path)) as connection:
        try:
            names = [name for (name,) in connection.execute(query)]
            return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
        except (sqlite3.Error, UnicodeDecodeError):
            return None


def test_corrupted_journal_bytes_are_detected_or_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Database(path)) as database:
        book = opened(database)
        for number in range(40):
            order = Order(f"a-{number}", "NVDA", "buy", Decimal(number + 1), "because")
            book.record_submission(OrderIntent(order, NOW))
        halts = HaltJournal(database, EventLog(database))
        halts.raise_halt("cash", "12.50 USD are missing", NOW, cause="12.50")
        decision = decision_from_choices(
            SOON, NOW, 100_000.0, 2.0, (), group_limit_names=("banks",)
        )
        DecisionJournal(database, EventLog(database), book, "trade").write_decision(
            decision, AccountSnapshot(100_000.0, {}, {}, SOON)
        )
        mark = EquityMark(NOW, 100_000.0, 100_000.0, 0.0, 0.0, 4.0, 0.0, {"NVDA": 0.5})
        record_mark_and_halts(EquityMarkJournal(database), halts, mark, GuardSettings())
    before, bytes_before = content(path), path.read_bytes()
    written = [at for at, byte in enumerate(bytes_before) if byte and at >= 100]
    draw = random.Random(51)
    noticed = 0
    for _ in range(60):
        changed = bytearray(bytes_before)
        begin = draw.choice(written)
        for at in range(begin, min(begin + draw.randint(1, 64), len(changed))):
            changed[at] ^= draw.randint(1, 255)
        path.write_bytes(changed)
        try:
            refuse_unusable_journal(path)
        except DatabaseDamaged:
            noticed += 1
        else:
            assert content(path) == before, f"{begin}: passes unnoticed"
    assert noticed > 30


def test_journal_round_trips_group_limits_of_a_decision(tmp_path: Path) -> None:
    decision = decision_from_choices(SOON, NOW, 100_000.0, 2.0, (), group_limit_names=("banks",))
    with closing(Database(tmp_path / "journal")) as database:
        events = EventLog(database)
        journal = DecisionJournal(database, events, opened(database), "trade")
        journal.write_decision(decision, AccountSnapshot(100_000.0, {}, {}, SOON))
        database.execute("PRAGMA query_only = ON")  # a loop may be writing it meanwhile
        [read] = JournalRecord.from_database(database, "trade").decisions_with_orders()
    assert (read.at, read.equity, read.group_limit_names) == (SOON, 100_000.0, ("banks",))
