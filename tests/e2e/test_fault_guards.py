"""What counts stops and commands under faults is seen to count: a check that cannot fail is none.

Stops rest at a venue without a loop; commands are taken by the desk that a loop has.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
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
from marketsimulator.venue.stocks import Venue
from option_spreads.simulation.settings import PracticeSettings
from tests.e2e.fault_commands import Commands
from tests.e2e.fault_stops import Guarding, Looks, oversized, stops_of
from tests.e2e.practice import OPENING, SPAN

PREFIX = "kelly_50"
HELD = 10
GUARDING = Guarding("stop", "1%", (), random.Random(0))


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


def send(venue: Venue, symbol: str, side: str, qty: int, **more: Any) -> None:
    """Send an order of the command."""
    name = f"{PREFIX}-{len(venue.tickets)}"
    told = {"symbol": symbol, "side": side, "qty": str(qty), "time_in_force": "day"}
    venue.submit({"client_order_id": name, **told, **more})


def stop(venue: Venue, symbol: str, qty: int) -> None:
    """Send a stop to sell, a twentieth below the market."""
    price = 0.95 * venue.broker.account().prices[symbol]
    send(venue, symbol, "sell", qty, type="stop", stop_price=f"{price:.2f}")


@pytest.mark.parametrize(
    ("stops", "unprotected", "stray"),
    [
        ((), {"SYA"}, 0),
        ((("SYA", HELD),), set(), 0),
        ((("SYA", HELD - 1),), set(), 0),
        ((("SYA", HELD // 2),), {"SYA"}, 0),
        ((("SYB", HELD),), {"SYA"}, 1),
        ((("SYA", HELD), ("SYB", 1)), set(), 1),
    ],
)
def test_missing_and_stray_stops_are_found(
    venue: Venue, stops: tuple[tuple[str, int], ...], unprotected: set[str], stray: int
) -> None:
    for symbol, qty in stops:
        stop(venue, symbol, qty)
    looks = GUARDING.look(venue, ("SYA", "SYB"), PREFIX)
    assert looks.unprotected == unprotected
    assert len(looks.stray) == stray
    assert GUARDING.look(venue, ("SYB",), PREFIX).unprotected == set()


def test_only_what_outlasts_a_minute_is_counted() -> None:
    one, other = Looks(frozenset({"SYA"}), frozenset({"o-1"})), Looks(frozenset({"SYB"}))
    assert one.since(one) == one
    assert one.since(other) == other.since(one) == Looks()


@pytest.mark.parametrize(
    ("more", "prefix", "counted"), [(0, PREFIX, 0), (1, PREFIX, 1), (1, "x", 0)]
)
def test_stop_larger_than_its_position_is_counted(
    venue: Venue, more: int, prefix: str, counted: int
) -> None:
    stop(venue, "SYA", HELD)
    account = venue.broker.account()
    (order,) = stops_of(account, PREFIX)
    larger = replace(account, open_orders=(replace(order, qty=order.qty + more),))
    assert oversized(larger, prefix) == counted


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
