"""Commands to the loop of event contracts, and its watch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from event_contracts.settings import KalshiTradingSettings
from execution.decision.watch import WatchSettings
from execution.live.commands import read_answer, write_command
from foundation.clock import utc_now
from foundation.database import query_rows
from foundation.errors import InputError
from tests.e2e.kalshi_desk import RAIN, journals, quotes, traded
from tests.event_contracts.practice import KalshiPractice, kalshi_practice
from tests.support.messages import check_message, refused


@pytest.fixture
def practice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KalshiPractice]:
    monkeypatch.chdir(tmp_path)
    session = quotes([(0.49, 0.51, 30), (0.09, 0.11, 60)])
    with kalshi_practice(sessions={RAIN: session}) as venue:
        yield venue


def write(name: str, verb: str, argument: str = "") -> Path:
    folder = journals()[0].parent
    values = {"verb": verb, "argument": argument, "by": "Ada", "written_at": str(utc_now())}
    write_command(folder, name, values)
    return folder


def test_event_contracts_are_paused_but_not_sold(practice: KalshiPractice) -> None:
    traded(practice, markets=(RAIN,), steps=3)
    folder = write("stop", "flatten")
    write("exit", "exit", RAIN)
    write("typo", "exit", "SNOW")
    posts = len(practice.posts())
    traded(practice, markets=(RAIN,), steps=2)
    answers = {name: read_answer(folder, name) for name in ("stop", "exit", "typo")}
    assert answers["stop"] is not None
    assert answers["typo"] is not None
    check_message(answers["typo"]["answer"], "SNOW", "neither traded nor held")
    assert practice.exchange.position(RAIN)
    assert answers["stop"]["state"] == "refused"
    assert f"{RAIN} (close it at the venue)" in answers["stop"]["answer"]
    halts = query_rows(folder / "journal.sqlite", "SELECT kind FROM halts ORDER BY kind")
    assert halts == [("exited",), ("paused",)]
    roles = query_rows(folder / "journal.sqlite", "SELECT why FROM intents WHERE state = 'denied'")
    assert len(practice.posts()) == posts or "paused since" in str(roles)


def test_watch_of_event_contracts_only_halts() -> None:
    for watch in (WatchSettings(action="flatten"), WatchSettings(margin=1.0)):
        with refused(InputError, "watch", "action=halt"):
            KalshiTradingSettings(markets=(RAIN,), watch=watch)
