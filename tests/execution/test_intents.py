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
from execution.journal.order_store import (
    TERMINAL_STATES,
    OrderIntent,
    OrderProgress,
    OrderState,
    OrderStore,
)
from execution.orders.orders import Order
from foundation.database import DatabaseFailed
from foundation.errors import InputError
from tests.execution.journals import change_rows
from tests.execution.scripted_venue import placed, taken
from tests.support.connections import open_for_test
from tests.support.messages import refused
from trainingdata.feed.endpoint import ApiKeys

NOW = np.datetime64("2024-03-05T17:30", "ns")
EXPIRES = NOW + np.timedelta64(300, "s")
ORDER = Order("a", "BTCUSD", "buy", Decimal(3), "because", expires_at=EXPIRES)
INTENT = OrderIntent(ORDER, NOW, job="trade")

steps = st.lists(st.sampled_from(get_args(OrderState)), max_size=8)


@given(steps)
def test_terminal_order_states_never_change(path: list[OrderState]) -> None:
    book = OrderStore(open_for_test())
    book.record_plan(INTENT)
    before: OrderState = "planned"
    for state in path:
        try:
            if state in ("accepted", *TERMINAL_STATES):
                book.record_progress("a", OrderProgress(state, "v1"))
            else:
                book.set_state("a", state)
        except InputError:
            pass
        found = book.get("a")
        assert found is not None
        if before in TERMINAL_STATES:
            assert found.state in (before, "replaced")
        if found.state in ("filled", "accepted") and found.state != before:
            assert before not in ("planned", "denied", "rejected"), "it was never sent"
        before = found.state


def test_sent_order_id_is_never_used_again() -> None:
    book = OrderStore(open_for_test())
    book.record_plan(replace(INTENT, order=replace(ORDER, reason="an earlier one")))
    book.record_plan(INTENT)
    book.record_submission(INTENT)
    with refused(InputError, "a"):
        book.record_plan(INTENT)
    with refused(InputError, "a"):
        book.record_submission(INTENT)
    filled = OrderProgress("filled", "v1", Decimal(3), Decimal("17.25"))
    book.record_progress("a", filled)
    with refused(InputError, "a"):
        book.record_submission(INTENT)
    found = book.get("a")
    assert found is not None
    assert (found.progress, found.order.reason, found.job) == (filled, "because", "trade")
    for name in ("d", "c"):
        book.deny(replace(INTENT, order=replace(ORDER, client_order_id=name)), "halted")
    states = [
        (each.client_order_id, each.state, each.state_reason)
        for each in book.select_intents("1 = 1")[1:]
    ]
    assert states == [(name, "denied", "halted") for name in ("d", "c")], "as they were planned"


def test_order_intent_round_trips_every_field() -> None:
    database = open_for_test()
    whole = replace(
        INTENT,
        state="accepted",
        state_reason="so it said",
        venue="kalshi",
        decision_id="d",
        role="opening",
        progress=OrderProgress("accepted", "v1", Decimal("0.5"), Decimal("17.25"), "b"),
    )
    OrderStore(database).record_submission(whole)
    assert OrderStore(database).get("a") == whole
    for role, reduces in (("reduction", True), ("night", True), ("opening", False), ("", False)):
        change_rows(database, "intents", "role = ?", (role,))
        assert OrderStore(database).get("a").stock_or_crypto_order.reduces is reduces  # type: ignore[union-attr]
    query = "SELECT client_order_id, job, venue, decision, symbol, side, qty, type, state"
    assert database.query(f"{query} FROM intents") == [
        ("a", "trade", "kalshi", "d", "BTCUSD", "buy", "3", "market", "accepted")
    ], "the columns that readers look at"


def test_every_order_change_appends_an_immutable_event() -> None:
    database = open_for_test()
    events = EventLog(database, ApiKeys("", "HUSH-HUSH-HUSH-HUSH"))
    book = OrderStore(database, events)
    book.record_submission(INTENT)
    book.set_state("a", "unknown", "it said HUSH-HUSH-HUSH-HUSH")
    book.record_progress("a", OrderProgress("filled", "v1", Decimal(3), Decimal(10)))
    book.record_progress("a", OrderProgress("canceled", "v1"))
    kinds = [event.kind for event in events.events("a")]
    assert kinds == ["submitting", "unknown", "filled", "noted filled", "contradicted"]
    assert events.events("a")[1].content == "it said [secret]"
    numbers = [event.number for event in events.events()]
    assert numbers == sorted(set(numbers))
    for statement in ("UPDATE events SET kind = 'x'", "DELETE FROM events"):
        with refused(DatabaseFailed):
            database.execute(statement)
    assert [event.kind for event in events.events("a")] == kinds


def test_failed_write_leaves_no_partial_change() -> None:
    database = open_for_test()
    book = OrderStore(database)
    book.record_submission(INTENT)
    database.execute(
        "CREATE TRIGGER full BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'disk'); END"
    )
    with refused(DatabaseFailed):
        book.record_progress("a", OrderProgress("filled", "v1", Decimal(3)))
    found = book.get("a")
    assert found is not None
    assert (found.state, found.progress.filled) == ("submitting", 0)


FILLED = {"filled_qty": "4", "filled_avg_price": "2.5"}


@pytest.mark.parametrize(
    ("state", "more", "progress"),
    [
        ("accepted", {}, OrderProgress("accepted", "id-a")),
        ("done_for_day", {"time_in_force": "gtc"}, OrderProgress("accepted", "id-a")),
        ("done_for_day", {}, OrderProgress("expired", "id-a")),
        ("done_for_day", {"time_in_force": "day"}, OrderProgress("expired", "id-a")),
        ("rejected", {}, OrderProgress("rejected", "id-a")),
        ("filled", FILLED, OrderProgress("filled", "id-a", Decimal(4), Decimal("2.5"))),
        *(
            (
                "filled",
                {"order_class": "mleg", "filled_qty": "4", "filled_avg_price": net},
                OrderProgress("filled", "id-a", Decimal(4)),
            )
            for net in ("-0.85", "0", "0.4")
        ),
        *(
            ("filled", said, OrderProgress("accepted", "id-a"))
            for said in ({}, {**FILLED, "filled_avg_price": "-2.5"}, {"filled_qty": "many"})
        ),
    ],
)
def test_order_progress_is_read_from_the_venue_response(
    state: str, more: dict[str, str], progress: OrderProgress
) -> None:
    assert placed(taken("a", state, **more)).progress == progress
