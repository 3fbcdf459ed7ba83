"""Over the wire: what is listed adds up to what is held, at every instant, and what is not listed
is named.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from execution.alpaca.activities import activities_since
from execution.alpaca.broker import AlpacaBroker, AlpacaConnection
from execution.alpaca.connection import VenueConnection
from execution.alpaca.holdings import read_positions
from execution.alpaca.placed_order import AlpacaOrder
from execution.brokers import AccountReading, VenuePosition
from execution.journal.activities import Activity
from execution.journal.events import EventLog
from execution.journal.halts import CLEARED_AUTOMATICALLY
from execution.journal.order_store import OrderIntent, OrderStore
from execution.live.expected_positions import ACTIVITY_QUERY_OVERLAP, Discrepancy, ExpectedPositions
from execution.orders.option_orders import OptionLeg, SpreadOrder, parse_occ_symbol
from execution.orders.orders import Side
from foundation.database import Database
from foundation.errors import BrokerError
from practice import alpaca_server
from tests.e2e.practice import KEYS, OPENING, Practice, Start, order
from tests.support import desks
from tests.support.connections import open_for_test
from tests.support.messages import refused
from tests.support.passing import AT_ONCE
from tests.support.spreads import LEGS, SPREAD
from trainingdata.feed.endpoint import BrokerSettings

# Bars of stocks begin half an hour after the full one: what trades at once trades there.
STOCKS_TRADE = "2024-02-20T16:30:00Z"
EVENING = "2024-02-20T22:00:00Z"
FIRST_HOUR = "2024-02-21T15:30:00Z"
NEXT_DAY = "2024-02-22T15:30:00Z"
COIN = "SYXUSD"
PLAIN = ("forecaster=ewma", "sizing.strategy=equal_weight")


@dataclass
class Desk:
    """An account at a practice server, and the books that are kept of it."""

    here: Practice
    connection: VenueConnection
    database: Database
    book: ExpectedPositions
    broker: AlpacaBroker

    @classmethod
    def at(cls, here: Practice) -> Desk:
        settings = BrokerSettings(url_override=here.url, read_timeout=5.0)
        database = open_for_test()
        events = EventLog(database)
        intents = OrderStore(database, events)
        broker = AlpacaBroker(settings, KEYS, patience=0.0, time=AT_ONCE, book=intents, job="test")
        connection = VenueConnection(settings, KEYS)
        return cls(here, connection, database, ExpectedPositions(database, events), broker)

    def begin(self) -> None:
        at = self.connection.now()
        listed = activities_since(self.connection, at - ACTIVITY_QUERY_OVERLAP)
        self.book.record_opening_balance(self.held(), Decimal(0), at, listed)

    def expected(self) -> dict[str, Decimal]:
        owned = ExpectedPositions(self.database, EventLog(self.database)).positions_by_symbol()
        return {symbol: each.quantity for symbol, each in owned.items() if each.quantity}

    def held(self) -> Mapping[str, Decimal]:
        return {s: each.quantity for s, each in read_positions(self.connection).items()}

    def found(self) -> dict[str, Discrepancy]:
        """What is held otherwise than it should be."""
        self.broker.refresh_open_orders()
        return self.book.compare_positions(self.held(), self.connection.now())

    def listed(self) -> list[Activity]:
        return activities_since(self.connection, self.book.activity_query_start())

    def read(self, without: frozenset[str] = frozenset()) -> list[Activity]:
        """Add what the venue lists, but for what has one of these ids."""
        listed = self.listed()
        at = self.connection.now()
        self.book.record_activities([each for each in listed if each.id not in without], at)
        return listed


@pytest.fixture
def actions(tmp_path: Path) -> Path:
    path = tmp_path / "actions.csv"
    rows = ["SYA,2024-02-21,split,3", "SYB,2024-02-21,dividend,0.5"]
    path.write_text("\n".join(["symbol,date,kind,value", *rows]) + "\n")
    return path


def traded(desk: Desk, dice: random.Random, instant: int) -> None:
    """Random orders in stocks, long and short, and in a coin; some fill in part."""
    if dice.random() < 0.3:
        desk.here.fail(kind="partial")
    orders = []
    for symbol in dice.sample(["SYA", "SYB", "SYC"], 2):
        side = "buy" if symbol == "SYA" else dice.choice(["buy", "sell"])
        orders.append(order(f"{symbol}-{instant}", symbol, side, str(dice.randint(1, 40))))
    held = desk.held().get(COIN, Decimal(0))
    if held > 1 and dice.random() < 0.5:
        half = (held / 2).quantize(Decimal("0.001"))
        orders.append(order(f"sale-{instant}", COIN, "sell", str(half), tif="gtc"))
    else:
        quantity = f"0.{dice.randint(1, 999):03d}"
        orders.append(order(f"coin-{instant}", COIN, "buy", quantity, tif="gtc"))
    desk.broker.account()
    desk.broker.submit(orders)


@pytest.mark.slow
def test_listed_activities_always_explain_cash_and_positions(
    practice: Start, vix: Path, actions: Path
) -> None:
    here = practice(
        *(f"options.vix={vix}", "options.symbols=[SYC]", f"data.actions={actions}"),
        *("data.adjustment=raw", "capital=100000"),
    )
    desk = Desk.at(here)
    desk.begin()
    here.advance(STOCKS_TRADE)
    book = OrderStore(desk.database, EventLog(desk.database))
    dice = random.Random(5)
    kinds = set()
    for instant in range(32):
        traded(desk, dice, instant)
        if instant == 1:
            spread = {**SPREAD, "legs": LEGS, "client_order_id": "spread"}
            sides: tuple[Side, Side] = ("sell", "buy")
            legs = [(leg["symbol"], side) for leg, side in zip(LEGS, sides, strict=True)]
            ours = SpreadOrder(
                "spread", tuple(OptionLeg(parse_occ_symbol(s), d) for s, d in legs), 2
            )
            book.record_submission(OrderIntent(ours, here.venue.now))
            answer: Any = desk.connection.client.post("/orders", spread)
            book.record_progress("spread", AlpacaOrder(answer).progress)
        if instant == 8:
            # More than the cash allows overnight.
            desk.broker.submit([order("large", "SYA", qty="1800")])
        kinds |= {each.kind for each in desk.read()}
        assert not desk.found(), here.venue.now
        assert desk.expected() == desk.held()
        here.advance()
    assert kinds == {"trade", "coin fee", "interest", "fee", "dividend", "split", "option"}
    filled: defaultdict[str, Decimal] = defaultdict(Decimal)
    rows = desk.database.query("SELECT client_order_id, symbol, qty FROM fills")
    for name, symbol, quantity in rows:
        # The legs of an order have ids of their own at the venue.
        assert bool(name) == (symbol not in [leg["symbol"] for leg in LEGS])
        filled[name] += abs(Decimal(quantity))
    intents = desk.database.query(
        "SELECT client_order_id, state, filled FROM intents WHERE symbol IS NOT NULL"
    )
    assert {name: Decimal(each) for name, _, each in intents if Decimal(each)} == {
        name: quantity for name, quantity in filled.items() if name
    }
    partly = [name for name, state, each in intents if state == "canceled" and Decimal(each)]
    assert len(partly) > 2
    assert len({row[1] for row in rows}) == 6
    assert desk.book.listed.net_deposits_since(np.datetime64("1990", "ns")) == 0, (
        "nobody paid anything in"
    )


def noted(here: Practice, kind: str, **fields: Any) -> None:
    day = str(here.venue.now.astype("datetime64[D]"))
    here.venue.record.record_activity({"activity_type": kind, "date": day, **fields})


def test_repeated_activity_in_the_paged_list_is_refused(
    practice: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 250
    here = practice()
    desk = Desk.at(here)
    desk.begin()
    for number in range(count):
        noted(here, "CSD", net_amount=str(number))
    listed = desk.listed()
    assert [each.amount for each in listed] == [Decimal(number) for number in range(count)]
    assert desk.book.record_activities(listed, desk.connection.now()) == count
    whole = alpaca_server.activities_response

    def without_token(venue: Any, query: Any) -> Any:
        return whole(venue, {k: v for k, v in query.items() if k != "page_token"})

    monkeypatch.setattr(alpaca_server, "activities_response", without_token)
    first = here.venue.record.activities[0]["id"]
    with refused(BrokerError, "activities", first):
        activities_since(desk.connection, np.datetime64("2024-01-01", "ns"))


def test_splits_dividends_and_cash_in_lieu_are_explained(practice: Start, tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    rows = ["SYA,2024-02-21,split,0.3", "SYB,2024-02-21,dividend,0.5", "SYC,2024-02-21,split,3"]
    path.write_text("\n".join(["symbol,date,kind,value", *rows]) + "\n")
    here = practice(f"data.actions={path}", "data.adjustment=raw")
    desk = Desk.at(here)
    desk.begin()
    here.advance(STOCKS_TRADE)
    wanted = [("SYA", "buy", "11"), ("SYB", "buy", "7"), ("SYC", "sell", "5")]
    desk.broker.submit([order(f"a-{symbol}", symbol, *terms) for symbol, *terms in wanted])
    here.advance(NEXT_DAY)
    booked = {(each.kind, each.symbol): each.amount for each in desk.read() if each.amount}
    assert booked["dividend", "SYB"] == Decimal("3.5")
    assert booked["split", "SYA"] > 0
    assert desk.held() == {"SYA": 3, "SYB": 7, "SYC": -15}
    assert not desk.found()


def late(here: Practice, *kinds: str) -> None:
    """Let the venue list activities of these kinds from the next session on."""
    answer = requests.post(f"{here.url}/control/activities", json={"late": list(kinds)}, timeout=30)
    assert answer.status_code == 200


def test_split_missing_from_activities_halts_symbol_until_listed(
    practice: Start, actions: Path, tmp_path: Path
) -> None:
    here = practice(f"data.actions={actions}", "data.adjustment=raw", "symbols=[SYA,SYB]")
    late(here, "SPLIT")
    here.advance(OPENING)
    desk = desks.Desk.at(here, tmp_path, *PLAIN)
    desk.job.step()
    for at, standing in [(FIRST_HOUR, 1), (NEXT_DAY, 0)]:
        here.advance(at)
        desk.job.step()
        assert len(desk.live.halts.active()) == standing, at
    (halt,) = desk.live.halts.history()
    assert halt.reason.startswith("SYA: the venue holds ")
    assert halt.cleared_by == CLEARED_AUTOMATICALLY
    assert desk.cycles[-1].decision is not None


@pytest.mark.parametrize(
    ("listed", "stands"), [({"SYA": "20"}, False), ({"SYA": "19", "SYB": "20"}, True)]
)
def test_halt_clears_automatically_only_when_discrepancy_is_resolved(
    practice: Start, tmp_path: Path, listed: dict[str, str], stands: bool
) -> None:
    here = practice("symbols=[SYA,SYB]")
    here.advance(OPENING)
    desk = desks.Desk.at(here, tmp_path, *PLAIN)
    held = {"SYA": 10, "SYB": 5}
    read_account = AlpacaBroker.read_account

    def shown(_: AlpacaConnection) -> dict[str, VenuePosition]:
        return {s: VenuePosition(Decimal(q), Decimal(1000 * q)) for s, q in held.items()}

    def read(broker: AlpacaBroker, *, reread: bool = False) -> AccountReading:
        reading = read_account(broker, reread=reread)
        quantities = {symbol: Decimal(quantity) for symbol, quantity in held.items()}
        prices = here.venue.broker.account().prices
        account = replace(reading.account, positions=quantities, prices=prices)
        return replace(reading, account=account)

    def looked() -> list[str]:
        desk.live.reconcile()
        desk.broker.account()
        return desks.halted_by(desk)

    with pytest.MonkeyPatch.context() as venue:
        venue.setattr(AlpacaConnection, "positions", shown)
        venue.setattr(AlpacaBroker, "read_account", read)
        assert looked() == []
        here.advance(STOCKS_TRADE)
        held["SYA"] = 30
        assert looked() == ["positions"]
        here.advance()
        for symbol, quantity in listed.items():
            noted(here, "SPLIT", symbol=symbol, qty=quantity, net_amount="0")
        assert looked() == (["positions"] if stands else [])
