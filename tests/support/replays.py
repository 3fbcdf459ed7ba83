"""Replays of the live job on a practice server, which may be killed at any event."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from alpaca.trading.client import TradingClient

from execution.live.cycle import Cycle
from foundation.database import Database
from foundation.files import DIGESTS_KEY, check_file_digests
from marketsimulator.live_replay import ServerClockClient, run_replay
from tests.e2e.practice import KEYS, Live, Practice, Start

FILES = ("decisions", "equity", "fills", "orders")


SYMBOLS = "symbols=[SYA,SYB,SYXUSD]"


SPANS = {
    "1h": ("start=2024-02-20T14:00Z", "end=2024-02-20T18:00Z"),
    "15m": ("start=2024-02-20T19:30Z", "end=2024-02-20T21:00Z"),
    # Over a change of New York's clock: the evening is a coin's midnight, and then before it.
    "1d": (
        *("data.start=2023-07-03", "data.end=2024-03-29"),
        *("start=2024-03-08T15:00Z", "end=2024-03-12T21:00Z"),
    ),
    "1d fill=close": (
        *("data.start=2023-07-03", "data.end=2024-03-29"),
        *("start=2024-03-08T15:00Z", "end=2024-03-12T19:45Z"),
    ),
}


WORDS = (SYMBOLS, "forecaster=ewma", "sizing.strategy=equal_weight", "sizing.band=0.002")


class Killed(BaseException):
    """The process ends here."""


def words_of(timeframe: str) -> tuple[str, ...]:
    return tuple(f"timeframe={timeframe}".split())


def nothing(_: Cycle) -> None:
    pass


@dataclass
class Reports:
    """Hands each cycle to a test."""

    show: Callable[[Cycle], None]

    def report(self, cycle: Cycle) -> None:
        self.show(cycle)


@dataclass
class Desk:
    """A server, and the folder of whoever replays on it.

    events: commits, orders and moves of the clock, doubled: before and after each.
    """

    here: Practice
    folder: Path
    timeframe: str = "1h"
    events: int = 0

    @property
    def output(self) -> Path:
        return self.folder / "out"

    def replay(self, show: Callable[[Cycle], None] = nothing, *more: str) -> dict[str, Any]:
        """A process that replays, with more words, and what it says at its end."""
        words = (*WORDS, "broker.attempts=1", *more, *words_of(self.timeframe))
        parts = Live.at(self.here, *words, folder=str(self.folder / "live"))
        settings, feed, trader = parts.settings, parts.feed, parts.trader
        reports = Reports(show)
        summary = run_replay(
            settings, KEYS, feed, trader, self.output, overwrite=False, reporter=reports
        )
        said: dict[str, Any] = json.loads(summary)
        assert self.summary == said
        return said

    @property
    def summary(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads((self.output / "replay.json").read_text())
        check_file_digests(self.output, "output")
        assert {path.name for path in self.output.iterdir()} >= set(said.pop(DIGESTS_KEY))
        return said

    def frames(self) -> dict[str, pd.DataFrame]:
        return {name: pd.read_parquet(self.output / f"{name}.parquet") for name in FILES}


@contextmanager
def mortal(at: int) -> Iterator[list[None]]:
    """The process dies at event number `at` of its commits, orders and moves of the clock."""
    seen: list[None] = []

    def dying(act: Callable[..., Any]) -> Callable[..., Any]:
        def event(*words: Any, **more: Any) -> Any:
            if len(seen) >= at:
                raise Killed
            seen.append(None)
            answer = act(*words, **more)
            if len(seen) >= at:
                raise Killed
            seen.append(None)
            return answer

        return event

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "execute", dying(Database.execute))
        patch.setattr(TradingClient, "post", dying(TradingClient.post))
        patch.setattr(ServerClockClient, "advance", dying(ServerClockClient.advance))
        yield seen


@pytest.fixture
def desk_of(practice: Start, tmp_path: Path) -> Callable[..., Desk]:
    def made(name: str, timeframe: str = "1h", *span: str) -> Desk:
        here = practice(SYMBOLS, *words_of(timeframe), *SPANS[timeframe], *span)
        return Desk(here, tmp_path / name, timeframe)

    return made


def assert_same(one: Desk, other: Desk) -> None:
    """Decisions, orders, fills and equity agree to the last bit, each instant once.

    What the venue books apart counts from when it was listed, which a killed pass does later.
    """
    mine, theirs = one.frames(), other.frames()
    for each in (mine, theirs):
        each["fills"] = each["fills"][each["fills"]["price"] > 0].reset_index(drop=True)
        each["fills"] = each["fills"].drop(columns="booked_at")
        each["equity"] = each["equity"][["at", "cash", "equity"]]
    for name in FILES:
        pd.testing.assert_frame_equal(mine[name], theirs[name], check_exact=True)
    assert mine["equity"]["at"].is_unique
    assert one.here.venue.broker.fills == other.here.venue.broker.fills
    assert one.here.venue.broker.equity_row() == other.here.venue.broker.equity_row()
