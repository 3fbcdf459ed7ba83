"""Commands to a real loop that is killed before, while and after it executes them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from execution.live.commands import read_answer, write_command
from foundation.clock import utc_now
from foundation.database import query_rows
from tests.e2e.fault_runs import FaultRun
from tests.e2e.trading_schedule import Trading, going

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trading]:
    """A loop with positions, which waits for the next hour."""
    with going(tmp_path_factory.mktemp("loop"), 7, Counter(), plain=True, guarded=False) as loop:
        assert loop.work()
        while not positions(loop):
            loop.here.advance()
            assert loop.work()
        yield loop


def positions(loop: Trading) -> dict[str, Decimal]:
    """Those of stocks; parts of a coin are no whole lots of every fraction."""
    held = loop.here.venue.broker.account().positions
    return {symbol: quantity for symbol, quantity in held.items() if quantity}


def write(loop: Trading, name: str, verb: str, argument: str) -> None:
    values = {"verb": verb, "argument": argument, "by": "Ada", "written_at": str(utc_now())}
    write_command(loop.journal.parent, name, values)


def answer_of(loop: Trading, name: str) -> dict[str, str]:
    """The answer, once a process has given it."""
    while (answer := read_answer(loop.journal.parent, name)) is None:
        run = loop.alive()
        if not run.until(lambda: read_answer(loop.journal.parent, name)):
            loop.gone()
    return answer


@pytest.mark.parametrize("commit", [1, 2, 4, 7])
@pytest.mark.parametrize("verb", ["pause", "reduce", "exit", "flatten", "resume"])
def test_each_verb_survives_a_kill_at_a_commit(loop: Trading, verb: str, commit: int) -> None:
    """The positions that are closed come back with the next decision after `resume`."""
    write(loop, f"first-{verb}-{commit}", "resume", "")
    answer_of(loop, f"first-{verb}-{commit}")
    while not positions(loop):
        loop.here.advance()
        assert loop.work()
    name, symbol = f"{verb}-{commit}", min(positions(loop))
    ((halts,),) = query_rows(loop.journal, "SELECT count(*) FROM halts")
    loop.alive().control.arm(commit, after=commit % 2 == 0)
    write(loop, name, verb, {"exit": symbol, "reduce": "0.9"}.get(verb, ""))
    assert answer_of(loop, name)["state"] == "done"
    kinds = query_rows(loop.journal, "SELECT kind FROM halts WHERE cleared_at IS NULL")
    assert kinds == {"exit": [("exited",)], "resume": []}.get(verb, [("paused",)])
    assert verb != "flatten" or positions(loop) == {}
    assert verb != "exit" or symbol not in positions(loop)
    ((raised,),) = query_rows(loop.journal, "SELECT count(*) FROM halts")
    assert raised == halts + (verb != "resume"), "one halt"
    write(loop, f"after-{name}", "resume", "")
    answer_of(loop, f"after-{name}")


def ask(loop: Trading, *words: str) -> tuple[int, Any]:
    """A command line, its exit code and its document."""
    run = FaultRun(loop.place, ("-m", "execution.live", *words, "--json"))
    code = run.ended()
    return code, json.loads(run.told) if run.told.startswith("{") else run.told


def test_running_loop_obeys_command_lines(loop: Trading) -> None:
    assert loop.work()
    symbol = min(positions(loop))
    code, answer = ask(loop, "pause", "--by", "Ada")
    assert (code, answer["state"], answer["by"]) == (0, "done", "Ada")
    code, answer = ask(loop, "exit", symbol, "--id", "mine")
    assert (code, answer["state"]) == (0, "done"), answer
    assert symbol not in positions(loop)
    assert ask(loop, "exit", symbol, "--id", "mine") == (code, answer)
    code, text = ask(loop, "flatten", "--id", "mine")
    assert (code, "flatten: not executed" in text, f"'exit {symbol}'" in text) == (2, True, True)
    code, answer = ask(loop, "resume")
    assert (code, answer["answer"]) == (0, "ended: paused, exited; opening orders are allowed")


def test_commands_without_a_loop_change_only_halts(loop: Trading) -> None:
    loop.gone()
    before = positions(loop)
    code, answer = ask(loop, "pause")
    assert (code, answer["state"]) == (0, "done")
    code, answer = ask(loop, "flatten")
    assert (code, answer["state"]) == (2, "refused")
    assert "no loop runs, so no order was sent" in answer["answer"]
    assert ask(loop, "resume")[0] == 0
    assert loop.work()
    assert positions(loop) == before
