"""What counts stops and commands under faults is seen to count: a check that cannot fail is none.

Stops rest at a venue without a loop; commands are taken by the desk that a loop has.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from execution.live.account_lock import JOURNAL_FILE
from execution.live.commands import COMMANDS_FOLDER, CommandDesk
from foundation.clock import SYSTEM_TIME
from foundation.compose import compose_config
from foundation.database import Database
from foundation.notices import ALL_CLEAR
from practice.alpaca.stocks import Venue
from practice.alpaca.tickets import OrderTicket
from practice.settings import PracticeSettings
from tests.e2e.fault_audit import Audit, Moment, Trade, open_after, sold_beyond, turned_positions
from tests.e2e.fault_commands import Commands
from tests.e2e.practice import OPENING, SPAN

PREFIX = "kelly_50"
INSTANT = "20240220T153000Z"
HELD = 10


@pytest.fixture
def venue() -> Venue:
    """A venue in a session, at which the command holds ten shares and no stop."""
    words = [*SPAN, "start=2024-02-20", "end=2024-02-23", "symbols=[SYA,SYB]"]
    settings = PracticeSettings.from_config(compose_config("venue", words))
    one = Venue(settings, settings.load_market())
    while one.now < np.datetime64(OPENING.removesuffix("Z")):
        one.step()
    send(one, "SYA", "buy", HELD, type="market")
    return one


def send(
    venue: Venue, symbol: str, side: str, qty: int, leg: object = 0, **more: Any
) -> OrderTicket:
    """Send an order of the command."""
    name = f"{PREFIX}-{INSTANT}-{symbol}-{leg}-{len(venue.tickets)}"
    told = {"symbol": symbol, "side": side, "qty": str(qty), "time_in_force": "day"}
    venue.submit({"client_order_id": name, **told, **more})
    return venue.tickets[name]


def stop(venue: Venue, symbol: str, qty: int, **more: Any) -> OrderTicket:
    """Send a stop to sell, a twentieth below the market."""
    price = 0.95 * venue.broker.account().prices[symbol]
    terms = {"type": "stop", "stop_price": f"{price:.2f}", **more}
    return send(venue, symbol, "sell", qty, "stop", **terms)


def nothing(venue: Venue) -> None:
    """The position has no stop."""


@pytest.mark.parametrize(
    ("arrange", "unprotected", "stray"),
    [
        (nothing, 1, 0),
        (lambda venue: stop(venue, "SYA", HELD), 0, 0),
        (lambda venue: stop(venue, "SYA", HELD - 1), 0, 0),
        (lambda venue: stop(venue, "SYA", HELD // 2), 1, 0),
        (lambda venue: stop(venue, "SYB", HELD), 1, 1),
        (lambda venue: send(venue, "SYA", "sell", HELD, type="limit", limit_price="999"), 0, 0),
    ],
)
def test_missing_and_stray_stops_count_after_a_minute(
    venue: Venue, arrange: Callable[[Venue], object], unprotected: int, stray: int
) -> None:
    arrange(venue)
    audit = Audit(("SYA", "SYB"))
    for seconds in (30, 30):
        audit.observe(Moment.of(venue), seconds)
        assert not +audit.counts
    for seconds in (1, 100):
        audit.observe(Moment.of(venue), seconds)
        assert audit.counts == {"unprotected": unprotected, "stray_stops": stray}
    assert not Audit(("SYB",)).observe(Moment({"SYA": Decimal(1)}, {}, {}), 99)


BARE, STOPPED = (
    Moment({"SYA": Decimal(-5)}, {}, {}),
    Moment({"SYA": Decimal(-5)}, {"SYA": Decimal(5)}, {}),
)
WARNED = ("protection", "positions without a stop: SYA: rejected (422)")


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        ((), 1),
        ((WARNED,), 0),
        ((("protection", "positions without a stop: SYB: dust"),), 1),
        ((("command", "flatten by watch: NOT reduced: 5 SYA"),), 1),
        ((WARNED, (ALL_CLEAR, "protection: SYA has a stop")), 1),
        ((WARNED, STOPPED), 1),
        ((STOPPED, WARNED), 0),
    ],
)
def test_only_a_standing_alert_excuses_a_bare_position(told: Sequence[Any], counted: int) -> None:
    audit = Audit(("SYA", "SYB"))
    for each in told:
        if isinstance(each, Moment):
            audit.observe(each, 1.0)
        else:
            audit.alert(*each)
    for _ in range(2):
        audit.observe(BARE, 61.0)
    assert audit.counts["unprotected"] == counted


def traded(*signed: int, leg: str = "8", name: str = PREFIX) -> list[Trade]:
    """A purchase of ten shares, and trades of one order for a stop or a command after it."""
    bought = Trade(f"{name}-{INSTANT}-SYA-0-0", "SYA", Decimal(HELD))
    return [bought, *(Trade(f"{name}-{INSTANT}-SYA-{leg}-0", "SYA", Decimal(q)) for q in signed)]


@pytest.mark.parametrize(
    ("trades", "counted"),
    [
        (traded(-4, -6), 0),
        (traded(-4, -7), 1),
        (traded(-10, -1, leg="stop"), 1),
        (traded(2), 1),
        (traded(-11, leg="0"), 0),
    ],
)
def test_stops_and_commands_that_turn_positions_are_counted(
    trades: list[Trade], counted: int
) -> None:
    assert turned_positions(trades) == counted


@pytest.mark.parametrize(("sold", "counted"), [((-5,), 0), ((-5, -1), 1), ((-6,), 1)])
def test_command_that_sells_too_much_is_counted(sold: tuple[int, ...], counted: int) -> None:
    assert sold_beyond(traded(*sold), {(INSTANT, "SYA"): Decimal(6)}) == counted
    assert sold_beyond(traded(*sold, leg="stop"), {(INSTANT, "SYA"): Decimal(6)}) == 0


@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        (("done", "flatten", ""), 1),
        (("done", "exit", "SYA"), 1),
        (("done", "exit", "SYB"), 0),
        (("done", "pause", ""), 0),
        (("refused", "flatten", ""), 0),
    ],
)
def test_open_order_after_a_done_command_is_counted(
    venue: Venue, answer: tuple[str, str, str], counted: int
) -> None:
    stop(venue, "SYA", HELD // 2)
    resting = send(venue, "SYA", "sell", HELD // 2, type="limit", limit_price="999")
    told = dict(zip(("state", "verb", "argument"), answer, strict=True))
    assert len(open_after(venue, PREFIX, told)) == counted
    assert open_after(venue, "other", told) == []
    venue.cancel(resting)
    assert open_after(venue, PREFIX, told) == []


@dataclass
class Office:
    """An account's folder, what a person wrote there, and the desk that takes it."""

    folder: Path
    database: Database
    events: EventLog
    commands: Commands

    def take(self) -> None:
        """Take what was written."""
        halts = HaltJournal(self.database, self.events)
        desk = CommandDesk(self.folder, self.database, self.events, halts, (), SYSTEM_TIME)
        desk.take()

    def again(self) -> None:
        """The command is received as if it were another."""
        self.events.append("command received", "c0")

    def counts(self) -> Counter[str]:
        """What must never be of commands, and was."""
        counts = self.commands.counts(self.folder / JOURNAL_FILE)
        return Counter({name: n for name, n in counts.items() if n and "_commands" in name})


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """A command that waits, which is taken next."""
    with closing(Database(tmp_path / JOURNAL_FILE)) as database:
        one = Office(tmp_path, database, EventLog(database), Commands(random.Random(0), ("SYA",)))
        one.commands.write(tmp_path, "pause")
        yield one


def test_command_taken_once_counts_as_nothing(office: Office) -> None:
    office.take()
    office.take()
    assert not office.counts()


def _unanswered(office: Office) -> None:
    (office.folder / COMMANDS_FOLDER / "c0.answer.json").unlink()


def _left(office: Office) -> None:
    (office.folder / COMMANDS_FOLDER / "c0.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "counted"),
    [
        (Office.again, "repeated_commands"),
        (_unanswered, "unanswered_commands"),
        (_left, "unanswered_commands"),
    ],
)
def test_command_taken_twice_or_left_is_counted(
    office: Office, damage: Callable[[Office], None], counted: str
) -> None:
    office.take()
    damage(office)
    assert office.counts() == {counted: 1}
    office.commands.forgotten.add("c0")
    assert not office.counts()


def test_command_never_executed_is_counted(office: Office) -> None:
    assert office.counts() == {"unanswered_commands": 1}
