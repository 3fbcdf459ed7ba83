"""What the code of 5b173ee has left on a disk is read by the code of today.

The files are in tests/fixtures: loops of that commit wrote them over the practice servers.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from event_contracts.trading.venue_orders import order_of as contract_order
from event_contracts.trading.venue_orders import order_request as contract_request
from execution.alpaca.order_venue import order_request
from execution.journal.order_store import STATES, OrderStore
from execution.live.account_lock import JOURNAL
from foundation.database import Database
from option_spreads.selling.state import read_state
from tests.e2e.practice import ROOT
from tests.e2e.refused import answer_of
from tests.execution.test_journal import restored

FIXTURES = ROOT / "tests" / "fixtures"
ACCOUNT = "5b173ee0-0000-4000-8000-000000000000"
SPREADS = "5b173ee0-0000-4000-8000-000000000001"
CONTRACTS = "kalshi-demo-account"
SAME_MARKET = (
    *("symbols=[SYA,SYB,SYXUSD]", "data.start=2024-01-02", "data.end=2024-03-08"),
    *("forecaster=ewma", "sizing.strategy=equal_weight", "sizing.band=0.002"),
)


def journal(account: str, folder: Path) -> Path:
    """An account's journal where a loop in this folder has it."""
    place = folder / "data" / "live" / account
    place.mkdir(parents=True)
    return restored(FIXTURES / "live" / account / "journal.sql", place / JOURNAL)


@pytest.mark.parametrize(
    ("account", "shown"),
    [
        (ACCOUNT, ("SYA-0-0", "working", "220", "SYB-0-0", "open", "halted: positions")),
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


def test_a_spread_that_was_open_is_open(tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURES / "live" / SPREADS / "paper", tmp_path / "paper")
    [spread] = read_state(folder).spreads
    assert spread.remaining > 0
    with closing(Database(journal(SPREADS, tmp_path))) as database:
        book = OrderStore(database)
        assert not book.undetermined()
        assert [each.job for each in book.in_states(("working",))] == ["spreads"]


@pytest.mark.parametrize(
    "text", sorted(FIXTURES.rglob("journal.sql")), ids=lambda path: path.parent.name
)
def test_what_was_written_in_a_venues_words_is_posted_in_the_same_words(
    text: Path, tmp_path: Path
) -> None:
    """An order is turned into the venue's JSON in one place, to the letter of what it was."""
    path = restored(text, tmp_path / JOURNAL)
    with closing(sqlite3.connect(path)) as earlier:
        before = dict(earlier.execute("SELECT client_order_id, request FROM intents"))
    with closing(Database(path)) as database:
        for intent in OrderStore(database).in_states(STATES):
            if intent.venue == "kalshi":
                words = contract_request(contract_order(intent))
            else:
                words = order_request(intent.order)
            said = json.loads(before.pop(intent.client_order_id))
            if intent.venue == "kalshi":
                # It was said of sales that rest, too, and the venue refuses it of those.
                said["reduce_only"] = False
            assert json.dumps(words) == json.dumps(said)
    assert not before


def test_the_decisions_of_an_earlier_replay_are_made_again(tmp_path: Path) -> None:
    """One of its orders was cancelled before it had filled, which the simulation does not do."""
    path = restored(FIXTURES / "runs" / "replay" / "journal.sql", tmp_path / JOURNAL)
    words = (*SAME_MARKET, f"journal={path}", "output=drift.json")
    code, printed, said = answer_of("marketsimulator.drift", *words, cwd=tmp_path)
    assert code == 1, said
    assert "decisions: 12 of 12 instants are equal" in printed
    assert "orders: 11 of 13 are filled the same" in printed
    assert "unfilled: canceled" in printed
