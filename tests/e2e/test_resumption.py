"""A run that is killed anywhere goes on where it was: the same orders, once each, to the cent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.order_requests import order_request
from execution.journal.decisions import Journal
from execution.journal.events import EventLog
from execution.journal.intents import IntentBook
from execution.live.resumption import resume
from foundation.database import Database
from tests.e2e.practice import KEYS, Live, Practice, Start, unseen
from tests.passing import AT_ONCE
from trainingdata.feed.endpoint import BrokerSettings

INSTANTS = ("2024-02-20T15:30Z", "2024-02-20T16:30Z", "2024-02-20T17:30Z")


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Fate:
    """When the process is killed: at event number `at` of its commits and requests."""

    at: int | None = None
    seen: int = 0
    dead: bool = field(default=False)

    def event(self) -> None:
        if self.dead:
            raise Killed
        if self.seen == self.at:
            self.dead = True
            raise Killed
        self.seen += 1


class Mortal(Database):
    """A journal whose process may die before and after every commit."""

    def __init__(self, path: Path, fate: Fate) -> None:
        self._fate = fate
        super().__init__(path)

    def execute(self, statement: str, values: Any = ()) -> None:
        self._fate.event()
        super().execute(statement, values)
        if self._depth == 0:
            self._fate.event()


class Process:
    """One life of the job."""

    def __init__(self, here: Practice, path: Path, fate: Fate) -> None:
        self.database = Mortal(path, fate)
        events = EventLog(self.database)
        self.book = IntentBook(self.database, events)
        self.journal = Journal(self.database, events, self.book, "trade")
        settings = BrokerSettings(url_override=here.url, read_timeout=5.0, attempts=1)
        self.broker = AlpacaBroker(
            settings, KEYS, patience=0.0, time=AT_ONCE, book=self.book, job="trade"
        )
        client = self.broker._venue.client
        post = client.post

        def mortal_post(*words: Any) -> Any:
            fate.event()
            answer = post(*words)
            fate.event()
            return answer

        client.post = mortal_post

    def turn(self, live: Live) -> None:
        resume(self.broker, self.journal, self.book, ("SYA", "SYB", "SYXUSD"), unseen)
        live.cycle(self.broker, self.journal)


def play(here: Practice, path: Path, live: Live, kill: int | None) -> int:
    """Three instants, with a kill at one event; how many events there were."""
    seen = 0
    for instant in INSTANTS:
        here.advance(instant)
        for life in range(3):
            fate = Fate(kill if life == 0 else None)
            process = None
            with suppress(Killed):
                process = Process(here, path, fate)
                process.turn(live)
            if process is not None:
                process.database.close()
            seen = max(seen, fate.seen)
            if not fate.dead:
                break
    return seen


def outcome(here: Practice) -> dict[str, Any]:
    """What the venue holds, and every order that it ever took."""
    account = here.venue.broker.account()
    return {
        "cash": account.cash,
        "positions": {s: q for s, q in account.positions.items() if q},
        "orders": {
            name: (t.order.side, t.order.qty, t.status) for name, t in here.venue.tickets.items()
        },
    }


WORDS = ("symbols=[SYA,SYB,SYXUSD]",)


@pytest.fixture
def live_at(practice: Start, tmp_path: Path) -> Callable[[str], tuple[Practice, Path, Live]]:
    def start(name: str) -> tuple[Practice, Path, Live]:
        here = practice("symbols=[SYA,SYB,SYXUSD]")
        return here, tmp_path / name / "journal.sqlite", Live.at(here, *WORDS)

    return start


@pytest.mark.slow
def test_killed_at_every_commit_and_every_request_it_ends_as_if_it_had_not_been(
    live_at: Callable[[str], tuple[Practice, Path, Live]],
) -> None:
    here, path, live = live_at("undisturbed")
    events = play(here, path, live, None)
    undisturbed = outcome(here)
    assert len(undisturbed["orders"]) >= 3
    assert events > 20
    rng = np.random.default_rng(0)
    for kill in sorted(rng.choice(events, 12, replace=False).tolist()):
        here, path, live = live_at(str(kill))
        play(here, path, live, kill)
        assert outcome(here) == undisturbed, kill


def test_past_its_time_a_decision_is_withheld_and_the_next_instant_is_decided(
    live_at: Callable[[str], tuple[Practice, Path, Live]],
) -> None:
    here, path, live = live_at("late")
    here.advance(INSTANTS[0])
    process = Process(here, path, Fate())

    def no_post(*_: Any) -> Any:
        raise Killed

    process.broker._venue.client.post = no_post
    with suppress(Killed):
        process.turn(live)
    planned = process.book.in_states(("planned",))
    assert planned
    process.database.close()
    here.advance(INSTANTS[1])
    process = Process(here, path, Fate())
    process.turn(live)
    for intent in planned:
        found = process.book.get(intent.client_order_id)
        assert found is not None
        assert found.state == "withheld"
        assert found.why.startswith("expired")
    assert not set(here.venue.tickets) & {each.client_order_id for each in planned}


def test_what_a_person_traded_meanwhile_is_not_traded_once_more(
    live_at: Callable[[str], tuple[Practice, Path, Live]],
) -> None:
    here, path, live = live_at("by-hand")
    here.advance(INSTANTS[0])
    process = Process(here, path, Fate())
    lost = process.broker._venue.client.post

    def never_arrives(path: str, data: Any) -> Any:
        raise Killed

    process.broker._venue.client.post = never_arrives
    with suppress(Killed):
        process.turn(live)
    (sending,) = process.book.in_states(("sending",))
    lost("/orders", {**order_request(sending.order), "client_order_id": "by-hand"})
    process.database.close()
    process = Process(here, path, Fate())
    resume(process.broker, process.journal, process.book, ("SYA", "SYB", "SYXUSD"), unseen)
    assert set(here.venue.tickets) == {"by-hand"}
    others = process.book.in_states(("withheld",))
    assert all("holds something else" in each.why for each in others)
    assert sending.single.qty == here.venue.tickets["by-hand"].filled
