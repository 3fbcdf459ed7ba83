"""What the next process does about a decision that the one before it has not sent whole.

That it ends as if nothing had been killed, wherever the kill lands, is `test_replay`'s.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alpaca.trading.client import TradingClient

from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.order_venue import build_order_request
from execution.journal.decisions import DecisionJournal
from execution.journal.events import EventLog
from execution.journal.order_store import OrderStore
from execution.live.account_lock import JOURNAL_FILE
from execution.live.status import report_status
from foundation.clock import utc_now
from tests.e2e.practice import KEYS, Live, Practice, Start, resume, trading
from tests.support.connections import open_for_test
from tests.support.desks import PLAIN, Desk
from tests.support.passing import AT_ONCE
from tests.support.replays import Killed
from trainingdata.feed.endpoint import BrokerSettings

INSTANTS = ("2024-02-20T15:30Z", "2024-02-20T16:30Z")
SYMBOLS = ("SYA", "SYB", "SYXUSD")


class Process:
    """One life of the job."""

    def __init__(self, here: Practice, path: Path) -> None:
        self.database = open_for_test(path)
        self.book = OrderStore(self.database)
        self.journal = DecisionJournal(self.database, EventLog(self.database), self.book, "trade")
        settings = BrokerSettings(url_override=here.url, read_timeout=5.0, attempts=1)
        self.broker = AlpacaBroker(
            settings, KEYS, patience=0.0, time=AT_ONCE, book=self.book, job="trade"
        )

    def resume(self) -> None:
        resume(self.broker, self.journal, self.book, SYMBOLS)


@pytest.fixture
def here(practice: Start) -> Practice:
    here = practice(f"symbols=[{','.join(SYMBOLS)}]")
    here.advance(INSTANTS[0])
    return here


def killed_at_its_first_order(here: Practice, path: Path) -> Process:
    """A process that ends as its first order is about to leave."""

    def never_arrives(*_: Any) -> Any:
        raise Killed

    process = Process(here, path)
    live = Live.at(here, f"symbols=[{','.join(SYMBOLS)}]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TradingClient, "post", never_arrives)
        with pytest.raises(Killed):
            live.cycle(process.broker, process.journal)
    return Process(here, path)


def test_expired_decision_orders_are_denied_after_restart(here: Practice, tmp_path: Path) -> None:
    process = killed_at_its_first_order(here, tmp_path / "journal.sqlite")
    planned = [each.client_order_id for each in process.book.intents_in_states(("planned",))]
    assert planned
    here.advance(INSTANTS[1])
    process.resume()
    decided = Live.at(here, f"symbols=[{','.join(SYMBOLS)}]").cycle(process.broker, process.journal)
    assert decided.decision is not None
    denied = {
        each.client_order_id: each.state_reason
        for each in process.book.intents_in_states(("denied",))
    }
    assert all(denied[name].startswith("expired") for name in planned)
    assert not set(here.venue.tickets) & {*planned}


def test_interrupted_order_is_not_sent_after_manual_trade(here: Practice, tmp_path: Path) -> None:
    process = killed_at_its_first_order(here, tmp_path / "journal.sqlite")
    (sending,) = process.book.intents_in_states(("submitting",))
    by_hand = {**build_order_request(sending.order), "client_order_id": "by-hand"}
    trading(here).post("/orders", by_hand)
    process.resume()
    assert set(here.venue.tickets) == {"by-hand"}
    others = process.book.intents_in_states(("denied",))
    assert all("positions have changed" in each.state_reason for each in others)
    assert sending.stock_or_crypto_order.qty == here.venue.tickets["by-hand"].filled_quantity


def test_restart_reports_the_interrupted_cycle(
    here: Practice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the console once, and in the status until the next start."""

    def never_arrives(*_: Any, **__: Any) -> Any:
        raise Killed

    desk = Desk.at(here, tmp_path, *PLAIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TradingClient, "post", never_arrives)
        with pytest.raises(Killed):
            desk.job.step()
    lines = report_status(tmp_path / JOURNAL_FILE, utc_now()).closing_lines
    assert "2024-02-20T15:30Z trade: interrupted" in lines
    assert lines[0] == "no process trades the account"
    capsys.readouterr()
    desk = desk.again()
    desk.job.step()
    line, outcome, *_ = capsys.readouterr().out.splitlines()
    assert line == (
        "Restart: the cycle of 2024-02-20T15:30Z was interrupted; its orders are queried by id,"
        " and unsent ones are sent if the decision is still valid, else denied."
    )
    assert outcome == "Decision trade-20240220T153000Z is resumed: 2 orders to send."
