"""Stops and commands at a slow venue: positions stay protected, and nothing is sold twice."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from execution.alpaca.order_venue import OrderVenue
from execution.journal.order_store import OrderIntent
from execution.live.commands import read_answer
from execution.live.runner import finish_jobs
from execution.orders.orders import is_protective_order
from tests.e2e.changed_answers import Told, richer
from tests.e2e.practice import Practice, order, trading
from tests.support.desks import (
    ACCOUNT,
    PLAIN,
    SECOND,
    THIRD,
    Desk,
    alerts,
    attacked,
    halted_by,
    held,
)
from tests.support.given_commands import command_desk, give, written
from tests.support.replays import Killed
from tests.support.watches import made_up, watch_of

STOPS = ("protect.kind=stop", "protect.distance=5%")
ALWAYS = 10**6
NIGHT = "2024-02-21T00:30:00Z"  # 19:30 New York: the venue takes orders for the opening auction
OPEN = "2024-02-21T15:30:00Z"


@pytest.fixture
def desk(here: Practice, tmp_path: Path) -> Desk:
    """A process that has bought SYA and SYB, each with a stop."""
    desk = Desk.at(here, tmp_path, *PLAIN, *STOPS)
    desk.job.step()
    assert stopped(desk) == {*held(desk)} == {"SYA", "SYB"}
    return desk


def stopped(desk: Desk) -> set[str]:
    """Return the symbols with a resting stop that is not being cancelled."""
    venue = desk.here.venue
    return {
        each.symbol
        for each in venue.broker.account().open_orders
        if is_protective_order(each)
        and venue.tickets[each.client_order_id].status != "pending_cancel"
    }


def answer(desk: Desk, name: str) -> dict[str, str]:
    """Return the answer to a command after another attempt."""
    command_desk(desk).take()
    found = read_answer(desk.live.account.kill_file.parent, name)
    assert found is not None
    return found


def alerted(desk: Desk) -> list[str]:
    """Return the texts of the protection alerts and all-clears, in sequence."""
    query = "SELECT text FROM notices WHERE kind IN ('protection', 'all clear') ORDER BY number"
    return [text for (text,) in desk.database.query(query)]


def close_by_hand(desk: Desk, symbol: str) -> None:
    """Cancel our stop and close a position at the venue, as a person would."""
    venue = desk.here.venue
    for each in venue.broker.account().open_orders:
        if each.symbol == symbol:
            venue.cancel(venue.tickets[each.client_order_id])
    quantity = held(desk)[symbol]
    words = {"symbol": symbol, "qty": f"{quantity:f}", "side": "sell", "type": "market"}
    trading(desk.here).post("/orders", {**words, "time_in_force": "day"})
    assert symbol not in held(desk)


def test_killed_reduction_sells_nothing_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    before = held(desk)
    for symbol in before:
        desk.here.halt(symbol)
    post = OrderVenue.post

    def die_after(self: OrderVenue, intent: OrderIntent, *words: Any) -> Any:
        post(self, intent, *words)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(OrderVenue, "post", die_after)
        written(desk, "once", "reduce", "0.5")
        with pytest.raises(Killed):
            command_desk(desk).take()
    desk = desk.again()
    command_desk(desk).take()
    for symbol in before:
        desk.here.halt(symbol, halted=False)
    desk.here.advance(SECOND)
    assert answer(desk, "once")["state"] == "done"
    assert held(desk) == {symbol: int(quantity / 2) for symbol, quantity in before.items()}


@pytest.mark.parametrize("verb", ["flatten", "reduce"])
def test_command_under_a_positions_halt_sells_the_rest(desk: Desk, verb: str) -> None:
    close_by_hand(desk, "SYA")
    desk.job.run_cycle()
    assert "positions" in halted_by(desk)
    assert stopped(desk) == {"SYB"}, "stops go on under the halt"
    before = held(desk)["SYB"]
    assert give(desk, verb, "0.5" if verb == "reduce" else "")["state"] == "done"
    left = held(desk).get("SYB", Decimal(0))
    assert left == (int(before / 2) if verb == "reduce" else 0)
    assert stopped(desk) == ({"SYB"} if left else set())


def test_refused_watch_leaves_stops_at_the_venue(desk: Desk) -> None:
    close_by_hand(desk, "SYA")
    desk.job.run_cycle()
    watch = made_up(desk, 0.94, 0.94, 0.94)
    for _ in range(3):
        watch.read()
    assert ("watch" in halted_by(desk), stopped(desk)) == (True, {"SYB"})
    assert desk.database.query("SELECT state FROM commands") == [("waiting",)]


def test_flatten_waits_until_opening_orders_have_ended(desk: Desk) -> None:
    far = order("kelly_50-20240220T153000Z-SYA-5-0", "SYA", "buy", "1", type="limit",
                limit_price=1.0, tif="gtc")  # fmt: skip
    give(desk, "flatten")
    intent = OrderIntent(far, desk.here.venue.now, state="accepted", job="trade")
    desk.live.book.record_submission(intent)
    words = {"symbol": "SYA", "qty": "1", "side": "buy", "client_order_id": far.client_order_id}
    terms = {"type": "limit", "limit_price": "1", "time_in_force": "gtc"}
    trading(desk.here).post("/orders", {**words, **terms})
    desk.here.fail(kind="slow_cancel", seconds=30)
    given = give(desk, "flatten", name="again")
    assert given["state"] == "waiting"
    assert "is being cancelled" in given["answer"]
    desk.here.pass_seconds(31)
    assert answer(desk, "again")["state"] == "done"
    assert not desk.here.venue.broker.account().open_orders


@pytest.mark.parametrize("fault", [{"kind": "slow_cancel", "seconds": 50}, {"kind": "status",
    "status": 503, "method": "DELETE"}])  # fmt: skip
def test_slow_cancellation_delays_a_command_without_ending_it(
    desk: Desk, fault: dict[str, Any]
) -> None:
    desk.here.fail(**fault, count=ALWAYS)
    before = held(desk)
    assert give(desk, "flatten", name="once")["state"] == "waiting"
    assert held(desk) == before
    desk.here.clear_faults()
    desk.here.pass_seconds(55)
    assert answer(desk, "once")["state"] == "done"
    assert held(desk) == {}


def test_pending_cancellation_is_alerted_until_a_stop_rests(desk: Desk) -> None:
    desk.here.fail(kind="slow_cancel", seconds=50, symbol="SYA", count=ALWAYS)
    assert give(desk, "reduce", "0.5", name="once")["state"] == "waiting"
    [text] = alerted(desk)
    assert "SYA without a stop" in text
    desk.here.pass_seconds(55)
    desk.here.clear_faults()
    assert answer(desk, "once")["state"] == "done"
    assert alerted(desk)[1:] == ["SYA is not without a stop any more"]
    assert stopped(desk) == {"SYA", "SYB"}


def test_waiting_command_is_partial_after_an_hour(desk: Desk) -> None:
    desk.here.fail(kind="slow_cancel", seconds=None, symbol="SYA", count=ALWAYS)
    assert give(desk, "flatten", name="once")["state"] == "waiting"
    assert {*held(desk)} == {"SYA"}, "what is free is sold"
    desk.here.advance(THIRD)
    last = answer(desk, "once")
    assert last["state"] == "partial"
    assert "SYA" in last["answer"].split("NOT reduced")[1]


def test_waiting_symbol_does_not_hold_up_the_others(desk: Desk) -> None:
    desk.here.fail(kind="slow_cancel", seconds=None, symbol="SYA", count=ALWAYS)
    desk.live.halts.clear("paused", "Ada", desk.here.venue.now)
    words = ("forecaster=ewma", "sizing.strategy=equal_weight", "limits.symbol_cap=0.2", *STOPS)
    desk = Desk.at(desk.here, desk.live.account.kill_file.parent, *words)
    before = held(desk)
    cycle = desk.step_at(SECOND)
    assert {each.symbol for each in cycle.fills} == {"SYB"}
    assert held(desk)["SYA"] == before["SYA"]
    assert [
        "being cancelled" in why or "still open" in why for why in cycle.unsent_reasons.values()
    ]
    assert any("SYA without a stop" in text for text in alerted(desk))


def test_waiting_reduction_leaves_finished_symbols_alone(desk: Desk) -> None:
    """A decision may open positions in them, but not in the symbols that wait."""
    desk.here.fail(kind="slow_cancel", seconds=None, symbol="SYA", count=ALWAYS)
    before = held(desk)
    assert give(desk, "reduce", "0.5", name="once")["state"] == "waiting"
    half = {"SYA": before["SYA"], "SYB": int(before["SYB"] / 2)}
    assert held(desk) == half
    desk.live.halts.clear("paused", "Ada", desk.here.venue.now)
    desk.step_at(SECOND)
    after = held(desk)
    assert after["SYA"] == half["SYA"]
    assert after["SYB"] > half["SYB"]
    assert answer(desk, "once")["state"] == "partial", "the last attempt after an hour"
    assert held(desk) == after


def test_decision_opens_nothing_where_a_reduction_waits(desk: Desk) -> None:
    desk.here.advance("2024-02-20T22:30:00Z")
    give(desk, "reduce", "0.5", name="once")
    desk.live.halts.clear("paused", "Ada", desk.here.venue.now)
    opening = order("kelly_50-20240220T223000Z-SYA-0-0", "SYA", "buy", "1")
    gate = desk.live.guards.build_gate(None)
    why = gate.refusal_reason(opening, "opening", desk.here.venue.now)
    assert why == "`reduce 0.5 by Ada` has not reduced SYA yet; resume to open it now"
    give(desk, "resume")
    assert "has not reduced" not in gate.refusal_reason(opening, "opening", desk.here.venue.now)


def test_closed_market_queues_commands_for_the_open(desk: Desk) -> None:
    desk.here.advance("2024-02-20T22:30:00Z")
    before = held(desk)
    given = give(desk, "flatten", name="once")
    assert given["state"] == "waiting"
    assert "it is sold at the open" in given["answer"]
    assert (held(desk), stopped(desk)) == (before, {"SYA", "SYB"})
    desk.here.advance(OPEN)
    assert answer(desk, "once")["state"] == "done"
    assert held(desk) == {}


def test_resume_cancels_a_queued_command(desk: Desk) -> None:
    desk.here.advance("2024-02-20T22:30:00Z")
    before = held(desk)
    give(desk, "flatten", name="once")
    give(desk, "resume")
    assert answer(desk, "once")["state"] == "cancelled"
    desk.here.advance(OPEN)
    command_desk(desk).take()
    assert held(desk) == before


def test_refused_stop_is_alerted_for_each_position(desk: Desk, tmp_path: Path) -> None:
    desk.live.halts.clear("paused", "Ada", desk.here.venue.now)
    for each in list(desk.here.venue.broker.account().open_orders):
        desk.here.venue.cancel(desk.here.venue.tickets[each.client_order_id])
    refusal = {"kind": "status", "status": 422, "method": "POST", "path": "/v2/orders"}
    desk.here.fail(**refusal, type="stop", count=ALWAYS)
    desk.job.update_protection(ends_cycle=True)
    assert sorted(text.split(" without a stop: ")[0].split()[-1] for text in alerted(desk)) == [
        "SYA",
        "SYB",
    ]
    posts = len(desk.here.posts)
    desk.job.update_protection()
    assert len(desk.here.posts) == posts, "not again within ten minutes"
    assert len(alerted(desk)) == 2
    desk.here.clear_faults()
    desk.job.update_protection(ends_cycle=True)
    assert stopped(desk) == {"SYA", "SYB"}
    assert len(alerted(desk)) == 4


def test_start_protects_before_the_first_cycle(here: Practice, tmp_path: Path) -> None:
    bare = Desk.at(here, tmp_path, *PLAIN)
    bare.job.step()
    assert not stopped(bare)
    desk = Desk.at(here, tmp_path, *PLAIN, *STOPS)
    desk.job.protect_at_start()
    assert stopped(desk) == {"SYA", "SYB"}


def test_kill_file_names_each_position_without_a_stop(desk: Desk) -> None:
    desk.live.account.kill_file.touch()
    desk.stop.request_stop("the kill file exists")
    finish_jobs([desk.job], desk.live.account, desk.stop)
    assert stopped(desk) == set()
    assert [text.split(" without a stop: ")[0].split()[-1] for text in alerted(desk)] == [
        "SYA",
        "SYB",
    ]


def test_wrong_marks_of_the_venue_sell_nothing(desk: Desk) -> None:
    watch = watch_of(desk, "watch.drawdown=0.05", "watch.action=flatten")
    watch.read()
    before = held(desk)
    desk.here.fail(kind="wrong_marks", factor=0.9, count=ALWAYS)
    for _ in range(3):
        desk.here.pass_seconds(61)
        watch.read()
    assert held(desk) == before
    assert "watch" not in halted_by(desk)
    assert "not acted: drawdown" in alerts(desk)
    desk.here.clear_faults()


def test_paused_openings_leave_their_stops_in_place(here: Practice, tmp_path: Path) -> None:
    small = Desk.at(here, tmp_path, *PLAIN, *STOPS, "limits.symbol_cap=0.2")
    small.job.step()
    give(small, "pause")
    resting = {each.client_order_id for each in here.venue.broker.account().open_orders}
    desk = Desk.at(here, tmp_path, *PLAIN, *STOPS)
    decision = desk.step_at(SECOND).decision
    assert decision is not None
    assert {each.symbol for each in decision.orders_to_cancel} == {"SYA", "SYB"}
    assert {each.client_order_id for each in here.venue.broker.account().open_orders} == resting


def test_finished_command_records_a_mark_of_remaining_positions(desk: Desk) -> None:
    give(desk, "flatten")
    mark = desk.live.account.marks.last_mark()
    assert mark is not None
    assert not any(mark.positions.values())


def test_unexplained_cash_does_not_stop_protection(here: Practice, tmp_path: Path) -> None:
    told = Told(ACCOUNT, richer(-30_000.0))
    with attacked(here, tmp_path, told, *PLAIN) as bare:
        told.answers = ALWAYS
        words = (*PLAIN, *STOPS)
        desk = Desk.at(bare.here, bare.live.account.kill_file.parent, *words)
        desk.job.run_cycle()
        assert "cash" in halted_by(desk)
        assert stopped(desk) == {*held(desk)}
        assert give(desk, "exit", "SYA")["state"] == "done"
        assert {*held(desk)} == {"SYB"}


@pytest.mark.parametrize("count", [1, 3])
def test_refused_sale_is_sent_again(desk: Desk, count: int) -> None:
    sale = {"type": "market", "side": "sell", "symbol": "SYA"}
    desk.here.fail(kind="reject", **sale, count=count)
    state = give(desk, "flatten", name="once")["state"]
    for _ in range(count):
        assert (state == "done") == ("SYA" not in held(desk))
        state = answer(desk, "once")["state"]
    assert (state, held(desk)) == ("done", {})


def test_stops_return_after_command_ends_in_outage(desk: Desk) -> None:
    desk.here.fail(kind="slow_cancel", seconds=50, symbol="SYA", count=ALWAYS)
    give(desk, "flatten", name="once")
    desk.here.clear_faults()
    desk.here.fail(kind="status", status=503, path="/v2/", count=ALWAYS)
    give(desk, "resume")
    desk.here.clear_faults()
    desk.here.pass_seconds(60)
    desk.job.update_protection()
    desk.job.update_protection(ends_cycle=True)
    assert stopped(desk) == {*held(desk)}


def test_stopped_loop_leaves_each_position_a_stop(desk: Desk) -> None:
    desk.here.advance("2024-02-20T22:30:00Z")
    desk.here.pass_seconds(2.5 * 3600)
    give(desk, "flatten", name="once")
    desk.stop.request_stop("SIGTERM")
    finish_jobs([desk.job], desk.live.account, desk.stop)
    assert stopped(desk) == {*held(desk)}
