"""Guards at the real order desk: what they refuse never reaches the venue."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from execution.account_lock import KILL_FILE
from execution.alpaca.broker import AlpacaBroker
from execution.journal.events import EventLog
from execution.journal.halts import Halts
from execution.journal.order_store import OrderStore
from execution.live.guards import Guards, GuardSettings
from execution.live.loop import Stop
from execution.risk_snapshot import RiskSnapshot
from foundation.database import Database
from tests.e2e.practice import KEYS, OPENING, Start, order
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.feed.market_data import LastTrade


def test_what_the_guards_refuse_never_reaches_the_venue(practice: Start, tmp_path: Path) -> None:
    here = practice()
    here.advance(OPENING)
    database = Database(tmp_path / "journal.sqlite")
    events = EventLog(database)
    book = OrderStore(database, events)
    halts = Halts(database, events)
    kill_file = tmp_path / KILL_FILE
    guards = Guards(GuardSettings(), halts, book, kill_file, Stop())
    settings = BrokerSettings(url_override=here.url, read_timeout=5.0)
    mine = AlpacaBroker(settings, KEYS, patience=0.0, book=book, guard=guards, job="trade")

    def said(name: str) -> tuple[str, str]:
        found = book.get(name)
        assert found is not None
        return found.state, found.why

    def see() -> RiskSnapshot:
        account = mine.account()
        price = here.venue.price_of("SYA")
        assert price is not None
        trades = {"SYA": LastTrade(price, account.as_of)}
        return RiskSnapshot(account.with_prices({"SYA": price}), trades)

    mine.submit([order("unseen", qty="1")])
    assert said("unseen") == ("withheld", "the account was not looked at before it")
    mine.submit([order("bought", qty="10")], see())
    snapshot = see()
    assert mine.account().positions == {"SYA": Decimal(10)}
    mine.submit([order("large", qty="1000000")], snapshot)
    assert "guards.max_order" in said("large")[1]
    halts.raise_halt("daily_loss", "because", mine.now())
    mine.submit(
        [order("halted", qty="1"), order("out", side="sell", qty="4", reduces=True)], snapshot
    )
    assert said("halted")[1].startswith("halted: daily_loss")
    kill_file.touch()
    mine.submit([order("killed", side="sell", qty="4", reduces=True)], snapshot)
    assert said("killed") == (
        "withheld",
        f"{kill_file} is there; nothing is sent before it is removed",
    )
    kill_file.unlink()
    assert mine.account().positions == {"SYA": Decimal(6)}
    assert [
        name for name in ("unseen", "large", "halted", "killed") if name in str(here.posts)
    ] == []
    assert len(here.posts) == 2
    database.close()
