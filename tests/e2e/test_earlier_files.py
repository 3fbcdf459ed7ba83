"""What the code of 5b173ee has left on a disk is read by the code of today.

The files, and the script that made them there, are in tests/fixtures.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import defaultdict
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from event_contracts.trading.venue_orders import order_of as contract_order
from event_contracts.trading.venue_orders import order_request as contract_request
from execution.account_lock import JOURNAL
from execution.alpaca.order_venue import order_request
from execution.journal.activities import traded_amount
from execution.journal.events import EventLog
from execution.journal.halts import Halts
from execution.journal.marks import MarkBook
from execution.journal.order_store import STATES, OrderStore
from execution.live.holdings import HoldingsBook
from foundation.database import Database
from option_spreads.selling.state import read_state
from tests.e2e.practice import ROOT
from tests.e2e.refused import answer_of

FIXTURES = ROOT / "tests" / "fixtures"
ACCOUNT = "5b173ee0-0000-4000-8000-000000000000"
SPREADS = "5b173ee0-0000-4000-8000-000000000001"
CONTRACTS = "kalshi-demo-account"
SAME_MARKET = (
    *("symbols=[SYA,SYB,SYXUSD]", "data.start=2024-01-02", "data.end=2024-03-08"),
    *("forecaster=ewma", "sizing.strategy=equal_weight", "sizing.band=0.002"),
)


def restored(text: Path, folder: Path) -> Path:
    """The journal that a text says, in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / JOURNAL)) as database:
        database.executescript(text.read_text())
    return folder / JOURNAL


def journal(account: str, folder: Path) -> Path:
    return restored(FIXTURES / "live" / account / "journal.sql", folder / "data" / "live" / account)


@pytest.mark.parametrize(
    ("account", "shown"),
    [
        (ACCOUNT, ("SYA-0-0", "working", "220", "SYB-0-0", "open", "halted: positions")),
        (SPREADS, ("PUT-20240220-060", "working")),
        (CONTRACTS, ("exposure: contracts", "working", "BUY 50 NO")),
    ],
)
def test_status_says_what_an_earlier_journal_holds(
    account: str, shown: tuple[str, ...], tmp_path: Path
) -> None:
    journal(account, tmp_path)
    code, printed, said = answer_of("execution.live", "status", cwd=tmp_path)
    assert code == 0, said
    for words in shown:
        assert words in printed


def test_in_an_earlier_journal_what_is_unknown_is_known_to_be(tmp_path: Path) -> None:
    with closing(Database(journal(ACCOUNT, tmp_path))) as database:
        events = EventLog(database)
        book = OrderStore(database, events)
        [unknown] = book.undetermined()
        assert unknown.client_order_id == "equal_weight-20240221T153000Z-SYB-0-0"
        [working] = book.in_states(("working",))
        assert str(working.progress.filled) == "220"
        assert [each.state for each in book.in_states(("canceled", "filled"))] == ["canceled"] * 5
        [halt] = Halts(database, events).active()
        assert halt.kind == "positions"
        marks = MarkBook(database).marks(np.datetime64("2024-02-20", "ns"))
        assert [mark.flows for mark in marks] == [0.0, 5000.0, 0.0, 0.0]
        holdings = HoldingsBook(database, events)
        assert holdings.listed.transferred(np.datetime64("2024-02-20", "ns")) == 5000


def test_what_an_earlier_journal_expects_is_expected(tmp_path: Path) -> None:
    """Its last ground, and all that came on it; where it had none it begins."""
    with closing(Database(journal(ACCOUNT, tmp_path))) as database:
        last = "(SELECT max(number) FROM beginnings)"
        held: defaultdict[str, Decimal] = defaultdict(Decimal)
        for symbol, quantity in database.rows(
            f"SELECT symbol, qty FROM beginnings WHERE number = {last}"
            f" UNION ALL SELECT symbol, qty FROM fills WHERE ground = {last}"
            f" UNION ALL SELECT symbol, qty FROM activities WHERE ground = {last}"
        ):
            held[symbol] += Decimal(quantity)
        cash = held.pop("")
        for symbol, quantity, price in database.rows(
            f"SELECT symbol, qty, price FROM fills WHERE ground = {last}"
        ):
            cash += traded_amount(symbol, Decimal(quantity), Decimal(price))
        for (amount,) in database.rows(f"SELECT amount FROM activities WHERE ground = {last}"):
            cash += Decimal(amount)
        answered = held | {"SYA": held["SYA"] + 220}  # of the working order, not listed yet
        for expected in (held, answered):
            book = HoldingsBook(database, EventLog(database))
            assert book.begun
            owned = {symbol: each.quantity for symbol, each in book.owned().items()}
            assert {s: q for s, q in owned.items() if q} == {s: q for s, q in expected.items() if q}
            assert book.cash_reading(cash).beyond == 0
            assert not book.compare(answered, np.datetime64("2024-02-22T16:00", "ns"))
    with closing(Database(journal(SPREADS, tmp_path))) as database:
        assert not HoldingsBook(database, EventLog(database)).begun


def test_a_spread_that_was_open_is_open(tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURES / "live" / SPREADS / "paper", tmp_path / "paper")
    [spread] = read_state(folder).spreads
    assert spread.remaining > 0
    with closing(Database(journal(SPREADS, tmp_path))) as database:
        book = OrderStore(database)
        assert not book.undetermined()
        assert [each.job for each in book.in_states(("working",))] == ["spreads"]


def test_orders_of_event_contracts_that_rested_rest(tmp_path: Path) -> None:
    with closing(Database(journal(CONTRACTS, tmp_path))) as database:
        resting = OrderStore(database).in_states(("working",))
        assert len(resting) == 1
        assert {each.venue for each in resting} == {"kalshi"}


@pytest.mark.parametrize(
    "text", sorted(FIXTURES.rglob("journal.sql")), ids=lambda path: path.parent.name
)
def test_what_was_written_in_a_venues_words_is_posted_in_the_same_words(
    text: Path, tmp_path: Path
) -> None:
    """An order is turned into the venue's JSON in one place, to the letter of what it was."""
    path = restored(text, tmp_path)
    with closing(sqlite3.connect(path)) as earlier:
        before = dict(earlier.execute("SELECT client_order_id, request FROM intents"))
    with closing(Database(path)) as database:
        for intent in OrderStore(database).in_states(STATES):
            if intent.venue == "kalshi":
                assert intent.order.expires_at is not None
                words = contract_request(contract_order(intent), intent.order.expires_at)
            else:
                words = order_request(intent.order)
            assert json.dumps(words) == before.pop(intent.client_order_id)
    assert not before


def test_the_decisions_of_an_earlier_replay_are_made_again(tmp_path: Path) -> None:
    """One of its orders was cancelled before it had filled, which the simulation does not do."""
    path = restored(FIXTURES / "runs" / "replay" / "journal.sql", tmp_path / "live")
    words = (*SAME_MARKET, f"journal={path}", "output=drift.json")
    code, printed, said = answer_of("marketsimulator.drift", *words, cwd=tmp_path)
    assert code == 1, said
    assert "decisions: 12 of 12 instants are equal" in printed
    assert "orders: 11 of 13 are filled the same" in printed
    assert "unfilled: canceled" in printed
