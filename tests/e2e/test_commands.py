"""Commands to an account: executed once, answered, and bound by the account's halts."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.alpaca.order_venue import OrderVenue
from execution.journal.order_store import OrderIntent
from execution.live.commands import read_answer
from execution.live.guarded_broker import GuardedBroker
from foundation.clock import utc_now
from foundation.errors import BrokerError
from tests.e2e.practice import Practice, order, trading
from tests.support.desks import PLAIN, SECOND, THIRD, Desk, alerts, halted_by, held
from tests.support.given_commands import command_desk, give, written
from tests.support.messages import check_message
from tests.support.replays import Killed, mortal


@pytest.fixture
def desk(here: Practice, tmp_path: Path) -> Desk:
    """A process that has bought SYA and SYB."""
    desk = Desk.at(here, tmp_path, *PLAIN)
    desk.job.step()
    assert {"SYA", "SYB"} <= {*held(desk)}
    return desk


def test_pause_forbids_openings_until_resume(desk: Desk) -> None:
    answer = give(desk, "pause")
    assert answer["state"] == "done"
    assert "paused since" in answer["answer"]
    assert halted_by(desk) == ["paused"]
    assert "halted: command pause by Ada" in alerts(desk)
    give(desk, "flatten")
    desk.step_at(SECOND)
    assert held(desk) == {}
    assert give(desk, "resume")["answer"] == "ended: paused; opening orders are allowed"
    desk.step_at(THIRD)
    assert held(desk)


def test_flatten_closes_every_position(desk: Desk, here: Practice) -> None:
    sizes = held(desk)
    answer = give(desk, "flatten")
    assert answer["state"] == "done"
    for symbol, quantity in sizes.items():
        assert f"{abs(quantity):f} {symbol} at $" in answer["answer"]
    assert held(desk) == {}
    assert halted_by(desk) == ["paused"]


def test_reduce_keeps_the_fraction_of_each_position(desk: Desk) -> None:
    before = held(desk)
    assert give(desk, "reduce", "0.25")["state"] == "done"
    for symbol, quantity in held(desk).items():
        assert abs(quantity) == int(abs(before[symbol]) * Decimal("0.25")), symbol


def test_exit_closes_one_symbol_and_keeps_it_closed(desk: Desk) -> None:
    assert give(desk, "exit", "SYA")["state"] == "done"
    assert {*held(desk)} == {"SYB"}
    desk.step_at(SECOND)
    assert "SYA" not in held(desk)
    assert "exited since" in desk.database.query("SELECT group_concat(why) FROM intents")[0][0]
    give(desk, "exit", "SYB")
    assert desk.live.halts.exited_symbols() == {"SYA", "SYB"}


def test_repeated_id_is_answered_and_not_executed(desk: Desk) -> None:
    first = give(desk, "reduce", "0.5", name="once")
    orders = len(desk.here.posts)
    assert give(desk, "reduce", "0.5", name="once") == first
    assert len(desk.here.posts) == orders


INVALID = (
    ("reduce", "1", ("reduce", "1", "fraction")),
    ("reduce", "half", ("half", "fraction")),
    ("exit", "", ("exit", "symbol")),
    ("exit", "NVDA", ("NVDA", "neither traded nor held")),
    ("flatten", "SYA", ("flatten", "SYA", "no argument")),
    ("sell", "", ("sell", "flatten")),
    ("reduce", "nan", ("nan", "fraction")),
    ("reduce", "sNaN", ("sNaN", "fraction")),
    ("reduce", "٠.٥", ("٠.٥", "fraction")),
    ("reduce", "0.5_0", ("0.5_0", "fraction")),
)
NO_COMMANDS = (
    "",
    "[]",
    '{"verb": 1}',
    "x" * 20_000,
    '{"verb": "pause"}',
    "[" * 9_000,
    '{"verb": "pause", "by": "\\ud800", "written_at": "2024-02-20T15:30:00"}',
)


def test_invalid_commands_are_refused_and_change_nothing(desk: Desk) -> None:
    before = held(desk)
    for number, (verb, argument, facts) in enumerate(INVALID):
        answer = give(desk, verb, argument, name=f"c{number}")
        assert answer["state"] == "refused", (verb, argument)
        check_message(answer["answer"], *facts)
    assert (held(desk), halted_by(desk)) == (before, [])


@pytest.mark.wire
def test_files_that_are_no_commands_are_refused(desk: Desk) -> None:
    folder = desk.live.account.kill_file.parent / "commands"
    folder.mkdir()
    for number, content in enumerate(NO_COMMANDS):
        (folder / f"bad-{number}.json").write_text(content)
    command_desk(desk).take()
    answers = [read_answer(folder.parent, f"bad-{number}") for number in range(len(NO_COMMANDS))]
    assert [answer and answer["state"] for answer in answers] == ["refused"] * len(NO_COMMANDS)
    assert halted_by(desk) == []


@pytest.mark.wire
def test_field_written_twice_refuses_the_command(desk: Desk) -> None:
    folder = desk.live.account.kill_file.parent / "commands"
    folder.mkdir()
    shared = f'"by": "Ada", "written_at": "{utc_now()}"'
    (folder / "twice.json").write_text(f'{{"verb": "pause", "verb": "flatten", {shared}}}')
    command_desk(desk).take()
    answer = read_answer(folder.parent, "twice")
    assert answer is not None
    check_message(answer["answer"], "verb", "twice")
    assert halted_by(desk) == []


@pytest.mark.wire
def test_unusual_paths_neither_stop_nor_block_the_loop(desk: Desk) -> None:
    folder = desk.live.account.kill_file.parent / "commands"
    folder.mkdir()
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.json")
    (folder / f"{'long' * 62}.json").write_text("{}")
    taker = command_desk(desk)
    taker.take()
    taker.take()
    answers = [read_answer(folder.parent, name) for name in ("folder", "pipe")]
    assert [answer and answer["state"] for answer in answers] == ["refused", "refused"]
    assert give(desk, "pause")["state"] == "done"


@pytest.mark.wire
def test_unwritable_answers_are_reported_once(
    desk: Desk, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = desk.live.account.kill_file.parent
    written(desk, "blocked", "pause")
    answer = folder / "commands" / "blocked.answer.json"
    answer.mkdir()
    taker = command_desk(desk)
    taker.take()
    taker.take()
    assert capsys.readouterr().out.count("command pause by Ada: done") == 1
    assert caplog.text.count("cannot write the answer") == 1
    answer.rmdir()
    taker.take()
    assert json.loads(answer.read_text())["state"] == "done"


def test_commands_older_than_an_hour_expire(desk: Desk) -> None:
    before = held(desk)
    old = str(utc_now() - np.timedelta64(61, "m"))
    assert give(desk, "flatten", written_at=old)["state"] == "expired"
    assert (held(desk), halted_by(desk)) == (before, [])


@pytest.mark.wire
def test_command_waits_while_the_venue_does_not_respond(desk: Desk) -> None:
    desk.here.fail(kind="status", status=500, count=1000, path="/v2/account")
    folder = desk.live.account.kill_file.parent
    written(desk, "late", "flatten")
    command_desk(desk).take()
    waiting = read_answer(folder, "late")
    assert waiting is not None
    assert waiting["state"] == "waiting"
    assert halted_by(desk) == ["paused"], "nothing is opened meanwhile"
    desk.here.clear_faults()
    command_desk(desk).take()
    answer = read_answer(folder, "late")
    assert answer is not None
    assert (answer["state"], held(desk)) == ("done", {})


def test_open_orders_are_cancelled_before_positions_are_closed(desk: Desk, here: Practice) -> None:
    (symbol,) = [each for each in held(desk) if held(desk)[each] > 0][:1]
    far = order("ours", symbol, "sell", "1", type="limit", limit_price=10_000.0, tif="gtc")
    desk.live.book.record_submission(
        OrderIntent(far, here.venue.now, state="accepted", job="trade")
    )
    terms = {"type": "limit", "limit_price": "10000", "time_in_force": "gtc"}
    words = {"symbol": symbol, "qty": "1", "side": "sell", "client_order_id": "ours"}
    trading(here).post("/orders", {**words, **terms})
    assert give(desk, "exit", symbol)["state"] == "done"
    assert not here.venue.broker.account().open_orders
    assert symbol not in held(desk)


@pytest.fixture
def unfilled(desk: Desk, here: Practice, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A process whose market orders wait, and whose first wait for each of two orders fails."""
    failures = [1, 1]
    wait = OrderVenue.wait_until_done

    def fail_at_first(*words: Any) -> Any:
        if failures:
            failures.pop()
            raise BrokerError("no response")
        return wait(*words)

    monkeypatch.setattr(OrderVenue, "wait_until_done", fail_at_first)
    for symbol in held(desk):
        here.halt(symbol)
    return desk


def test_unfilled_command_order_counts_as_sold(unfilled: Desk, here: Practice) -> None:
    before = held(unfilled)
    assert give(unfilled, "reduce", "0.9", name="first")["state"] == "waiting"
    sent = here.venue.broker.account().open_orders
    assert sorted(order.symbol for order in sent) == sorted(before)
    command_desk(unfilled).take()
    assert here.venue.broker.account().open_orders == sent
    for symbol in before:
        here.halt(symbol, halted=False)
    here.advance(SECOND)
    here.venue.broker.open_bars()
    command_desk(unfilled).take()
    assert held(unfilled) == {symbol: int(qty * Decimal("0.9")) for symbol, qty in before.items()}


@pytest.mark.wire
def test_missing_accepted_order_is_not_replaced(
    unfilled: Desk, here: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GuardedBroker, "cancel", lambda self, names: {})
    answer = give(unfilled, "reduce", "0.9")
    assert answer["state"] == "waiting"
    assert "is not filled" in answer["answer"]
    sent = [order.symbol for order in here.venue.broker.account().open_orders]
    assert sorted(sent) == sorted(held(unfilled))


@pytest.mark.wire
@pytest.mark.first_example
@pytest.mark.parametrize("first", range(5))
def test_command_killed_at_any_step_is_executed_once(desk: Desk, first: int) -> None:
    """Every fifth commit or order, before or after it."""
    folder = desk.live.account.kill_file.parent
    step, was_killed = first, True
    while was_killed:
        was_killed, before, name = False, held(desk), f"step-{step}"
        written(desk, name, "reduce", "0.98")
        try:
            with mortal(step):
                command_desk(desk).take()
        except Killed:
            was_killed, desk = True, desk.again()
            command_desk(desk).take()
        answer = read_answer(folder, name)
        assert answer is not None
        assert answer["state"] == "done", (step, answer)
        kept = {symbol: int(quantity * Decimal("0.98")) for symbol, quantity in before.items()}
        assert held(desk) == kept, step
        query = "SELECT state FROM commands WHERE id = ?"
        assert desk.database.query(query, (name,)) == [("done",)]
        step += 5
    assert step > 20
