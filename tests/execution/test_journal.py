"""A journal of an earlier version is taken over: the tables are today's, and no order is lost."""

from __future__ import annotations

import random
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from execution.alpaca.activities import kind_of
from execution.decision.decision import decision_of_choices
from execution.journal.activities import Activity, ActivityBook
from execution.journal.cycles import NextCycleBook
from execution.journal.decisions import Journal
from execution.journal.events import EventLog, NoticeBook
from execution.journal.halts import Halts
from execution.journal.marks import EquitySnapshot, MarkBook
from execution.journal.migrations import VERSION, as_it_is_today
from execution.journal.order_store import OrderIntent, OrderStore
from execution.live.account_lock import refuse_unusable
from execution.live.guards import GuardSettings
from execution.live.holdings import HoldingsBook
from execution.live.losses import write_mark
from execution.orders.orders import Account, Order
from foundation.database import Damaged, Database
from foundation.errors import InputError
from marketsimulator.results.journal_record import JournalRecord
from tests.e2e.practice import ROOT

SOON = np.datetime64("2026-11-24T15:35:00.000000000")
NOW = np.datetime64("2026-11-25T15:30:00.000000000")
EARLIER = sorted((ROOT / "tests" / "fixtures" / "live").glob("*/journal.sql"))
TODAY, FIRST = (
    next(path for path in EARLIER if path.parent.name.startswith(name))
    for name in ("572ad0b", "5b173ee")
)


def restored(text: Path, path: Path) -> Path:
    with closing(sqlite3.connect(path)) as database:
        database.executescript(text.read_text())
    return path


def opened(database: Database) -> OrderStore:
    """The books of an account, each of which has its tables."""
    events = EventLog(database)
    book = OrderStore(database, events)
    Journal(database, events, book, "trade")
    Halts(database, events)
    MarkBook(database)
    HoldingsBook(database, events)
    NextCycleBook(database, 1.0)
    NoticeBook(database, str, lambda: NOW)
    return book


def tables(database: Database) -> dict[str, object]:
    """What each index and trigger is, and what columns each table has, by its name."""
    found: dict[str, object] = {}
    for kind, name, sql in database.rows(
        "SELECT type, name, sql FROM sqlite_master WHERE sql > ''"
    ):
        found[name] = re.sub(r'[\s"]+', "", sql)
        if kind == "table":
            query = "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?)"
            found[name] = set(database.rows(query, (name,)))
    return found


@pytest.mark.parametrize("text", EARLIER, ids=lambda path: path.parent.name)
def test_a_journal_that_is_taken_over_is_sound_before_and_after_and_has_the_tables_of_a_new_one(
    text: Path, tmp_path: Path
) -> None:
    new = Database()
    opened(new)
    path = restored(text, tmp_path / "journal.sqlite")
    before = path.read_bytes()
    refuse_unusable(path)
    assert path.read_bytes() == before
    with closing(Database(path)) as database:
        opened(database)
        found = tables(database)
        assert {"intents", "events", "halts", "marks", "fills", "ground"} <= set(tables(new))
        assert {name: found.get(name) for name in tables(new)} == tables(new)
        assert database.rows("PRAGMA user_version") == [(VERSION,)]
    refuse_unusable(path)


def test_each_open_unknown_and_partly_filled_order_is_found(tmp_path: Path) -> None:
    with closing(Database(restored(TODAY, tmp_path / "journal.sqlite"))) as database:
        book = opened(database)
        unknown = {each.client_order_id: each.state for each in book.undetermined()}
        working = book.in_states(("working",))
    assert unknown == {
        "trade-20261124T153000Z-SPY-0-0": "open",
        "trade-20261124T153000Z-AAPL-0-0": "open",
        "IRON-20261124-060": "sending",
        "IRON-20261124-060-out": "open",
    }
    assert {each.client_order_id: str(each.progress.filled) for each in working} == {
        "trade-20261124T153000Z-NVDA-0-0": "0",
        "trade-20261124T153000Z-BTCUSD-0-0": "0.125",
        "IRON-20261124-060-end": "1",
        "kalshi-1": "2.5",
        "kalshi-2": "2.5",
    }


def test_an_account_goes_on_with_what_it_held_on_its_last_ground_and_with_that_cash(
    tmp_path: Path,
) -> None:
    call = "SPY240920C00500000"
    with closing(Database(restored(FIRST, tmp_path / "journal.sqlite"))) as database:
        for number, ground in (("early", 0), ("late", 1)):
            database.execute(
                "INSERT INTO fills VALUES (?, '', 'o', ?, '-2', '1.25', ?, ?, ?)",
                (number, call, str(SOON), str(SOON), ground),
            )
        fee = "INSERT INTO activities VALUES ('early', 'FEE', ?, '', '0', '-50', ?, 0)"
        database.execute(fee, (str(SOON), str(SOON)))
        database.execute("INSERT INTO beginnings VALUES (0, '', '77', ?)", (str(SOON),))
        database.execute("INSERT INTO beginnings VALUES (1, 'SYB', '-400', ?)", (str(SOON),))
        opened(database)
        held = {
            s: each.quantity
            for s, each in HoldingsBook(database, EventLog(database)).owned().items()
        }
        [(begun_at, cash, booked)] = database.rows("SELECT begun_at, cash, booked FROM ground")
    assert held == {
        "SYA": Decimal(120 + 136),
        "SYB": Decimal(242 + 179 - 400),
        "SYXUSD": Decimal("1.348") - Decimal("0.00337"),
        call: Decimal(-2),
    }
    bought = (
        120 * Decimal("58.0717")
        + 242 * Decimal("61.8824")
        + Decimal("1.348") * Decimal("12673.601")
        + 136 * Decimal("58.2417")
        + 179 * Decimal("62.1625")
    )
    fees = Decimal("0.001086") + Decimal("0.0009450000000000001") + Decimal("0.007969")
    assert Decimal(booked) == 5000 - fees
    assert Decimal(cash) == 100_000 - bought + 2 * 100 * Decimal("1.25") + 5000 - fees
    assert begun_at == "2024-02-20T15:30:00.000000000"


WORKING = "equal_weight-20240221T153000Z-SYA-0-0"


@pytest.mark.parametrize(
    ("filled", "listed", "ground"),
    [
        pytest.param("300", ["-500", "-320"], 1, id="listed-before-answered"),
        pytest.param("820", [], 1, id="answered-before-listed"),
        pytest.param("820", ["-300"], 1, id="listed-in-part"),
        pytest.param("300", ["-300"], 0, id="of-the-ground-before"),
    ],
)
def test_a_fill_is_expected_once_whether_it_was_listed_or_answered_first(
    filled: str, listed: list[str], ground: int, tmp_path: Path
) -> None:
    """Of 820 shares that are sold, by the time that their order has answered them."""
    with closing(Database(restored(FIRST, tmp_path / "journal.sqlite"))) as database:
        terms = "json_set(request, '$.qty', '820', '$.side', 'sell')"
        change = f"UPDATE intents SET filled = ?, request = {terms} WHERE client_order_id = ?"
        database.execute(change, (filled, WORKING))
        for number, quantity in enumerate(listed):
            name = "" if number else WORKING  # of which one was linked
            database.execute(
                "INSERT INTO fills SELECT ?, ?, venue_id, 'SYA', ?, '60', ?, ?, ? FROM intents"
                " WHERE client_order_id = ?",
                (str(number), name, quantity, str(SOON), str(SOON), ground, WORKING),
            )
        book = opened(database)
        holdings = HoldingsBook(database, EventLog(database))
        [(beyond,)] = database.rows("SELECT coalesce(sum(qty), 0) FROM fills WHERE ground = 0")
        held = {"SYA": Decimal(256 - 820 - beyond), "SYB": Decimal(421)}
        held["SYXUSD"] = Decimal("1.348") - Decimal("0.00337")
        before = book.get(WORKING)
        assert before is not None
        assert holdings.compare(held, NOW) == {}, "it works yet"
        done = replace(before.progress, state="filled", filled=Decimal(820))
        book.note(WORKING, done)
        assert holdings.compare(held, NOW) == {}
        counted = "SELECT qty FROM counted WHERE name = ?"
        assert database.rows(counted, (WORKING,)) == [("820",)]


def test_what_was_kept_in_the_venues_words_is_of_the_kind_that_the_venue_lists(
    tmp_path: Path,
) -> None:
    """But for a merger, which is one once it is listed again."""
    cash = ("ACATC", "CSD", "CSR", "CSW", "JNL", "JNLC", "TRANS")
    beside = ("DIV", "DIVCGL", "DIVNRA", "INT", "FEE", "CFEE", "SPLIT", "OPEXP", "OPTRD", "NC")
    with closing(Database(restored(TODAY, tmp_path / "journal.sqlite"))) as database:
        database.execute("DELETE FROM activities")
        for word in ("MA", "ACATS", "JNLS", *cash, *beside):
            row = (word, word, str(SOON), "SYA", "2", "3", str(SOON))
            database.execute("INSERT INTO activities VALUES (?, ?, ?, ?, ?, ?, ?, 1)", row)
        opened(database)
        kinds = dict(database.rows("SELECT id, kind FROM activities"))
        assert kinds == {word: "other" if word == "MA" else kind_of(word) for word in kinds}
        book = ActivityBook(database, EventLog(database))
        same = [
            Activity(word, kind_of(word), SOON, "SYA", Decimal(2), None, Decimal(3))
            for word in kinds
        ]
        assert [each.id for each in book.unwritten(same)] == ["MA"]
        assert [each.id for each, _ in book.write(same, NOW, ground=1)] == ["MA"]
        assert database.rows("SELECT kind FROM activities WHERE id = 'MA'") == [("merger",)]
        assert not book.unwritten(same)


def test_only_an_earlier_journal_is_read_from_a_copy_and_stays_as_it_is(tmp_path: Path) -> None:
    earlier = restored(TODAY, tmp_path / "earlier.sqlite")
    before = earlier.read_bytes()
    with as_it_is_today(earlier) as database:
        assert database.path != earlier
        query = "SELECT side, qty FROM intents WHERE client_order_id = 'kalshi-1'"
        [(side, quantity)] = database.rows(query)
    assert (side, Decimal(quantity)) == ("BUY NO", 12)
    assert earlier.read_bytes() == before
    with closing(Database(tmp_path / "journal.sqlite")) as new:
        opened(new)
    with as_it_is_today(tmp_path / "journal.sqlite") as database:
        assert database.path == tmp_path / "journal.sqlite"


def content(path: Path) -> object:
    """All rows of a file; none of one that SQLite cannot read."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    with closing(sqlite3.connect(path)) as connection:
        try:
            names = [name for (name,) in connection.execute(query)]
            return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
        except (sqlite3.Error, UnicodeDecodeError):
            return None


def test_bytes_that_change_on_the_disk_are_noticed_or_change_no_row(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(Database(path)) as database:
        book = opened(database)
        for number in range(40):
            order = Order(f"a-{number}", "NVDA", "buy", Decimal(number + 1), "because")
            book.begin(OrderIntent(order, NOW))
        halts = Halts(database, EventLog(database))
        halts.raise_halt("cash", "12.50 USD are missing", NOW, cause="12.50")
        decision = decision_of_choices(SOON, NOW, 100_000.0, 2.0, (), group_limit_names=("banks",))
        Journal(database, EventLog(database), book, "trade").write(
            decision, Account(100_000.0, {}, {}, SOON)
        )
        mark = EquitySnapshot(NOW, 100_000.0, 100_000.0, 0.0, 0.0, 4.0, 0.0, {"NVDA": 0.5})
        write_mark(MarkBook(database), halts, mark, GuardSettings())
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
            refuse_unusable(path)
        except Damaged:
            noticed += 1
        else:
            assert content(path) == before, f"{begin}: passes unnoticed"
    assert noticed > 30


def test_what_had_filled_before_the_ground_and_is_not_listed_is_no_news(tmp_path: Path) -> None:
    with closing(Database(restored(FIRST, tmp_path / "journal.sqlite"))) as database:
        early = "UPDATE intents SET sent_at = '2024-02-19T15:30:00.000000000', filled = '820'"
        database.execute(f"{early} WHERE client_order_id = ?", (WORKING,))
        opened(database)
        counted = "SELECT qty FROM counted WHERE name = ?"
        assert database.rows(counted, (WORKING,)) == [("820",)]


@pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1])
def test_a_journal_of_another_version_is_left_alone(version: int) -> None:
    database = Database()
    database.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(InputError, match="a journal of another version"):
        OrderStore(database)


def test_a_journal_whose_orders_know_no_decision_is_refused_and_stays_as_it_is(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE intents (client_order_id TEXT PRIMARY KEY, state TEXT)")
    before = path.read_bytes()
    with pytest.raises(InputError, match="a journal of another version") as refused:
        refuse_unusable(path)
    assert not isinstance(refused.value, Damaged), "it would be set aside"
    assert path.read_bytes() == before


def test_marks_of_an_earlier_version_get_their_index(tmp_path: Path) -> None:
    with closing(Database(restored(FIRST, tmp_path / "journal.sqlite"))) as database:
        point = MarkBook(database).point_before()
    # 5,000 were paid in before the second mark; the fourth is of the next day.
    day = 99_947.77314 * 105_032.103495 / 104_947.77314
    assert point is not None
    assert float(point.day) == pytest.approx(day, rel=1e-15)
    assert float(point.peak) == pytest.approx(day, rel=1e-15)
    assert float(point.index) == pytest.approx(day * 104_658.95087 / 105_032.103495, rel=1e-15)


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("intents", "state = 'workinh'", "state: Input should be 'planned'"),
        ("intents", "request = replace(request, 'qty', 'qtz')", ""),
        ("intents", "request = replace(request, '220', '8x0')", ""),
        ("halts", "kind = 'weather'", "kind: "),
    ],
)
def test_a_row_of_an_earlier_version_that_says_nothing_is_damage(
    table: str, change: str, said: str, tmp_path: Path
) -> None:
    path = restored(FIRST, tmp_path / "journal.sqlite")
    with closing(Database(path)) as database:
        database.execute("UPDATE intents SET request = replace(request, '325', '220')")
        database.execute(f"UPDATE {table} SET {change}")
    with pytest.raises(Damaged) as refused:
        refuse_unusable(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert said in str(refused.value)


@pytest.mark.parametrize("gap", [0.0, 0.0125, np.nan])
def test_a_record_says_how_far_a_decision_may_be_from_the_best_book(
    tmp_path: Path, gap: float
) -> None:
    decision = decision_of_choices(
        SOON, NOW, 100_000.0, 2.0, (), optimality_gap=gap, group_limit_names=("banks",)
    )
    with closing(Database(tmp_path / "journal")) as database:
        events = EventLog(database)
        journal = Journal(database, events, opened(database), "trade")
        journal.write(decision, Account(100_000.0, {}, {}, SOON))
        database.execute("PRAGMA query_only = ON")  # a loop may be writing it meanwhile
        [read] = JournalRecord.of(database, "trade").made()
    assert (read.at, read.equity, read.group_limit_names) == (SOON, 100_000.0, ("banks",))
    assert read.optimality_gap == gap or np.isnan([read.optimality_gap, gap]).all()
