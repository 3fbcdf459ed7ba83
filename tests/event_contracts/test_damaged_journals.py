"""A journal that says what cannot be is refused in a line that says where."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from event_contracts.simulation.paper_report import paper_report
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.trading.action_log import ActionLog
from event_contracts.trading.books import AccountBooks
from execution.journal.events import EventLog
from execution.journal.intents import IntentBook
from foundation.database import Database, DatabaseFailed, rows_of
from foundation.errors import InputError
from tests.e2e.refused import refusal_of
from tests.event_contracts.test_paper_report import traded

FIRST = "rowid = (SELECT min(rowid) FROM {table})"
SENT = "rowid = (SELECT min(rowid) FROM kalshi_actions WHERE size > 0)"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal that can be read."""
    path = tmp_path_factory.mktemp("account") / "journal.sqlite"
    traded(7, EpisodeSettings(), 9, path)
    return path


@pytest.fixture
def journal(sound: Path, tmp_path: Path) -> Path:
    """A copy of it that may be damaged."""
    return Path(shutil.copy(sound, tmp_path / "journal.sqlite"))


def damage(journal: Path, *statements: str) -> None:
    with closing(sqlite3.connect(journal)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def refusal(journal: Path) -> str:
    with pytest.raises(InputError) as refused:
        paper_report(journal, 10, EpisodeSettings())
    said = str(refused.value)
    assert str(journal) in said
    return said


@pytest.mark.parametrize(
    ("table", "change", "says"),
    [
        ("kalshi_actions", "worth = 'NaN'", "no number"),
        ("kalshi_markets", "interval = 0", "is not above 0"),
        ("kalshi_markets", "begins = '2026-01-01T00:00Z'", "no instant"),
    ],
)
def test_a_row_that_cannot_be_is_named_by_its_value(
    journal: Path, table: str, change: str, says: str
) -> None:
    where = SENT if table == "kalshi_actions" else FIRST.format(table=table)
    damage(journal, f"UPDATE {table} SET {change}, row_digest = '' WHERE {where}")
    assert says in refusal(journal)


@pytest.mark.parametrize(
    ("table", "change"),
    [("kalshi_actions", "action = 77"), ("kalshi_ticks", "bid = 20000")],
)
def test_what_was_changed_on_the_disk_is_noticed(journal: Path, table: str, change: str) -> None:
    damage(journal, f"UPDATE {table} SET {change} WHERE {FIRST.format(table=table)}")
    assert f"the journal is damaged: {table}, row " in refusal(journal)


@pytest.mark.parametrize("table", ["kalshi_actions", "kalshi_ticks", "kalshi_markets"])
def test_a_table_or_column_that_is_missing_is_named(journal: Path, table: str) -> None:
    damage(journal, f"ALTER TABLE {table} RENAME TO other")
    other = {"kalshi_actions": "no decisions on event contracts"}
    assert other.get(table, f"no such table: {table}") in refusal(journal)


def test_sizes_and_prices_are_those_of_the_journal_whatever_the_episode_has(journal: Path) -> None:
    other = EpisodeSettings(position_sizes=(1, 2, 3, 4, 10), price_style="passive")
    told = paper_report(journal, 10, other)
    assert told.content == paper_report(journal, 10, EpisodeSettings()).content


def test_a_market_that_was_first_seen_as_it_settled_is_left_out(journal: Path) -> None:
    before = paper_report(journal, 10, EpisodeSettings())
    (begins,) = rows_of(journal, "SELECT begins FROM kalshi_markets WHERE market = 'RAIN'")[0]
    last = np.datetime64(begins, "ns") + 29 * np.timedelta64(1, "m")
    damage(
        journal,
        "INSERT INTO kalshi_markets SELECT 'HAIL', begins, interval, 30, '' FROM kalshi_markets"
        " WHERE market = 'RAIN'",
        f"INSERT INTO kalshi_ticks VALUES ('HAIL', '{last}', 9900, 10000, 0, 0, 0, 0, 1.0, '')",
    )
    after = paper_report(journal, 10, EpisodeSettings())
    assert after.content == before.content


def test_ticks_that_would_never_end_are_refused(journal: Path) -> None:
    damage(
        journal,
        "UPDATE kalshi_markets SET rows = 100000000000, row_digest = ''",
        "UPDATE kalshi_ticks SET at = '2250-01-01T00:00:00', row_digest = ''"
        " WHERE market = 'RAIN' AND at = (SELECT max(at) FROM kalshi_ticks)",
    )
    damage(journal, "DELETE FROM kalshi_actions WHERE at = (SELECT max(at) FROM kalshi_actions)")
    assert "steps of ticks, more than" in refusal(journal)


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("damaged", "journal is damaged"),
        ("no bytes", "has no decisions on event contracts"),
        ("text", "file is not a database"),
        ("folder", "is no file"),
    ],
)
def test_the_command_refuses_in_one_line_and_leaves_nothing(
    journal: Path,
    kind: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if kind == "damaged":
        damage(journal, "UPDATE kalshi_actions SET worth = 'a\nb', row_digest = ''")
    else:
        journal.unlink()
    if kind == "no bytes":
        journal.touch()
    elif kind == "text":
        journal.write_text("worth,cash\n" * 200)
    elif kind == "folder":
        journal.mkdir()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    said = refusal_of("event_contracts.compare", "journal=journal.sqlite", "output=deep/in/report")
    assert said.startswith("error: ")
    assert "journal.sqlite" in said
    assert says in said
    assert sorted(tmp_path.rglob("*")) == before


def test_how_an_account_stood_is_read_as_it_was_kept() -> None:
    database = Database()
    events = EventLog(database)
    log = ActionLog(database, events, IntentBook(database, events))
    assert log.kept() is None
    at = np.datetime64("2026-11-22T10:00:00.123456789", "ns")
    paid = frozenset({("SNOW", np.datetime64("2026-11-21", "ns"))})
    books = AccountBooks(at, Decimal("9.50"), {"RAIN": Decimal("-3.00")}, frozenset("f"), paid)
    sales = {"RAIN": (Decimal("0.4"), Decimal(0))}
    log.keep(books, sales)
    assert log.kept() == (books, sales)
    # As every version has written it.
    [(content,)] = database.rows("SELECT content FROM kalshi_books")
    assert json.loads(content) == {
        "cash": "9.5",
        "positions": {"RAIN": "-3"},
        "fills": ["f"],
        "settlements": [["SNOW", "2026-11-21T00:00:00.000000000"]],
        "sales": {"RAIN": ["0.4", "0"]},
    }
    database.execute(
        "UPDATE kalshi_books SET content = replace(content, '9.5', 'NaN'), row_digest = ''"
    )
    with pytest.raises(DatabaseFailed, match="no number"):
        log.kept()
