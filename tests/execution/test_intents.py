"""What the book says of an order: only what can have become of it, and why, for ever."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.journal.events import EventLog
from execution.journal.order_store import ENDED, OrderIntent, OrderStore, Progress, State
from execution.orders.orders import Order
from foundation.database import Database, DatabaseFailed
from foundation.errors import InputError
from tests.execution.scripted_venue import placed, taken

NOW = np.datetime64("2024-03-05T17:30", "ns")
EXPIRES = NOW + np.timedelta64(300, "s")
ORDER = Order("a", "BTCUSD", "buy", Decimal(3), "because", expires_at=EXPIRES)
INTENT = OrderIntent(ORDER, NOW, job="trade")

steps = st.lists(st.sampled_from(get_args(State)), max_size=8)


@given(steps)
def test_what_has_ended_stays_as_it_was_whatever_is_said_later(path: list[State]) -> None:
    book = OrderStore()
    book.plan(INTENT)
    before: State = "planned"
    for state in path:
        try:
            if state in ("working", *ENDED):
                book.note("a", Progress(state, "v1"))
            else:
                book.settle("a", state)
        except InputError:
            pass
        found = book.get("a")
        assert found is not None
        if before in ENDED:
            assert found.state in (before, "replaced")
        if found.state in ("filled", "working") and found.state != before:
            assert before not in ("planned", "withheld", "rejected"), "it was never sent"
        before = found.state


def test_an_id_that_was_sent_is_never_planned_or_begun_again() -> None:
    book = OrderStore()
    book.plan(replace(INTENT, order=replace(ORDER, reason="an earlier one")))
    book.plan(INTENT)
    book.begin(INTENT)
    with pytest.raises(InputError, match="a: this id was used before"):
        book.plan(INTENT)
    with pytest.raises(InputError, match="a: it is sending, and is not sent again"):
        book.begin(INTENT)
    filled = Progress("filled", "v1", Decimal(3), Decimal("17.25"))
    book.note("a", filled)
    with pytest.raises(InputError, match="a: it is filled, and is not sent again"):
        book.begin(INTENT)
    found = book.get("a")
    assert found is not None
    assert (found.progress, found.order.reason, found.job) == (filled, "because", "trade")
    for name in ("d", "c"):
        book.withhold(replace(INTENT, order=replace(ORDER, client_order_id=name)), "halted")
    states = [(each.client_order_id, each.state, each.why) for each in book.select("1 = 1")[1:]]
    assert states == [(name, "withheld", "halted") for name in ("d", "c")], "as they were planned"


def test_an_intent_is_read_back_in_every_field() -> None:
    database = Database()
    whole = replace(
        INTENT,
        state="working",
        why="so it said",
        venue="kalshi",
        decision="d",
        part="opening",
        progress=Progress("working", "v1", Decimal("0.5"), Decimal("17.25"), "b"),
    )
    OrderStore(database).begin(whole)
    assert OrderStore(database).get("a") == whole
    for part, reduces in (("reduction", True), ("night", True), ("opening", False), ("", False)):
        database.execute("UPDATE intents SET part = ?, row_digest = ''", (part,))
        assert OrderStore(database).get("a").single.reduces is reduces  # type: ignore[union-attr]
    query = "SELECT client_order_id, job, venue, decision, symbol, side, qty, type, state"
    assert database.rows(f"{query} FROM intents") == [
        ("a", "trade", "kalshi", "d", "BTCUSD", "buy", "3", "market", "working")
    ], "the columns that readers look at"


def test_every_change_is_an_event_and_events_are_never_changed() -> None:
    database = Database()
    events = EventLog(database, lambda text: text.replace("HUSH", "[secret]"))
    book = OrderStore(database, events)
    book.begin(INTENT)
    book.settle("a", "open", "it said HUSH")
    book.note("a", Progress("filled", "v1", Decimal(3), Decimal(10)))
    book.note("a", Progress("canceled", "v1"))
    kinds = [event.kind for event in events.events("a")]
    assert kinds == ["sending", "open", "filled", "noted filled", "contradicted"]
    assert events.events("a")[1].content == "it said [secret]"
    numbers = [event.number for event in events.events()]
    assert numbers == sorted(set(numbers))
    for statement in ("UPDATE events SET kind = 'x'", "DELETE FROM events"):
        with pytest.raises(DatabaseFailed, match="never"):
            database.execute(statement)
    assert [event.kind for event in events.events("a")] == kinds


def test_a_change_that_cannot_be_written_is_not_half_written() -> None:
    database = Database()
    book = OrderStore(database)
    book.begin(INTENT)
    database.execute(
        "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk'); END"
    )
    with pytest.raises(DatabaseFailed, match="disk"):
        book.note("a", Progress("filled", "v1", Decimal(3)))
    found = book.get("a")
    assert found is not None
    assert (found.state, found.progress.filled) == ("sending", 0)


FILLED = {"filled_qty": "4", "filled_avg_price": "2.5"}


@pytest.mark.parametrize(
    ("state", "more", "progress"),
    [
        ("accepted", {}, Progress("working", "id-a")),
        ("done_for_day", {"time_in_force": "gtc"}, Progress("working", "id-a")),
        ("done_for_day", {}, Progress("expired", "id-a")),
        ("done_for_day", {"time_in_force": "day"}, Progress("expired", "id-a")),
        ("rejected", {}, Progress("rejected", "id-a")),
        ("filled", FILLED, Progress("filled", "id-a", Decimal(4), Decimal("2.5"))),
        *(
            (
                "filled",
                {"order_class": "mleg", "filled_qty": "4", "filled_avg_price": net},
                Progress("filled", "id-a", Decimal(4)),
            )
            for net in ("-0.85", "0", "0.4")
        ),
        *(
            ("filled", said, Progress("working", "id-a"))
            for said in ({}, {**FILLED, "filled_avg_price": "-2.5"}, {"filled_qty": "many"})
        ),
    ],
)
def test_what_an_answer_says_of_an_order_is_what_the_book_says(
    state: str, more: dict[str, str], progress: Progress
) -> None:
    assert placed(taken("a", state, **more)).progress == progress
