"""Commands to the loop of event contracts, and its watch."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from event_contracts.settings import KalshiGuardSettings, KalshiTradingSettings
from event_contracts.trading.actions import PositionLimits
from execution.decision.watch import WatchSettings
from execution.live.commands import read_answer, write_command
from execution.live.loop import StopSignal
from foundation.clock import TimeSource, utc_now
from foundation.database import query_rows
from foundation.errors import InputError
from tests.e2e.kalshi_desk import RAIN, SECOND, Always, Clock, journals, quotes, traded
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
    assert answers["stop"]["state"] == "partial", "working orders were cancelled"
    assert f"{RAIN} (close it at the venue)" in answers["stop"]["answer"]
    halts = query_rows(folder / "journal.sqlite", "SELECT kind FROM halts ORDER BY kind")
    assert halts == [("exited",), ("paused",)]
    roles = query_rows(folder / "journal.sqlite", "SELECT why FROM intents WHERE state = 'denied'")
    assert len(practice.posts()) == posts or "paused since" in str(roles)


def test_watch_of_event_contracts_only_halts() -> None:
    for watch in (WatchSettings(action="flatten"), WatchSettings(margin=1.0)):
        with refused(InputError, "watch", "action=halt"):
            KalshiTradingSettings(markets=(RAIN,), watch=watch)


def test_watch_of_event_contracts_halts_between_ticks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only position loses four fifths: openings stop, and nothing is sold."""
    monkeypatch.chdir(tmp_path)
    clock = Clock()

    def pass_ten_seconds(stop: StopSignal, seconds: float) -> bool:
        clock.ahead += 10 * SECOND
        return bool(stop)

    monkeypatch.setattr(StopSignal, "wait", pass_ten_seconds)
    monkeypatch.setattr("event_contracts.trade.build_policy", lambda _: lambda *_: Always(5))
    session = quotes([(0.49, 0.51, 3), (0.09, 0.11, 40)])
    with kalshi_practice(sessions={RAIN: session}, starting_cash=100.0) as venue:
        shown = traded(
            venue,
            markets=(RAIN,),
            steps=7,
            time=TimeSource(now=clock),
            interval=60.0,
            limits=PositionLimits(Decimal(1000), Decimal(1000), Decimal(1)),
            cash_buffer=0.0,
            guards=KalshiGuardSettings(daily_loss=1.0, drawdown=1.0),
            watch=WatchSettings(seconds=10.0, drawdown=0.3),
        )
        assert venue.exchange.position(RAIN) > 0
    journal = journals()[0]
    assert query_rows(journal, "SELECT kind FROM halts") == [("watch",)]
    assert query_rows(journal, "SELECT verb, by, state FROM commands") == [
        ("pause", "watch", "done")
    ]
    refused_by_watch = ["not sent: halted: watch since" in entry.response for entry in shown]
    assert refused_by_watch == [False] * 3 + [True] * 4
    assert len(venue.posts()) == 1
