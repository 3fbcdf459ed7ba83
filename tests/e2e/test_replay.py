"""A replay that is stopped, killed or left by its server keeps what it has, and is gone on with."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from alpaca.trading.client import TradingClient

from execution.live.account_lock import JOURNAL_FILE
from execution.live.cycle import Cycle
from foundation.database import Database, query_table
from foundation.errors import InputError
from foundation.files import DIGESTS_KEY, check_file_digests
from foundation.signals import TerminatedBySignal
from marketsimulator.live_replay import REPLAY_FILE, ServerClockClient, run_replay
from tests.e2e.practice import KEYS, ROOT, Live, Practice, Start, environment, practising
from tests.support.commands import Started, run_command
from tests.support.messages import refused

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
SHORT = ("end=2024-02-20T15:30Z",)  # three instants
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


@pytest.fixture(scope="module")
def whole_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Desk]]:
    """A replay of a timeframe that nothing disturbed."""
    with practising() as start:

        @cache
        def made(timeframe: str) -> Desk:
            here = start(SYMBOLS, *words_of(timeframe), *SPANS[timeframe])
            desk = Desk(here, tmp_path_factory.mktemp("whole"), timeframe)
            with mortal(10**9) as events:
                desk.replay()
            desk.events = len(events)
            return desk

        yield made


@pytest.fixture
def desk_of(practice: Start, tmp_path: Path) -> Callable[..., Desk]:
    def made(name: str, timeframe: str = "1h", *span: str) -> Desk:
        here = practice(SYMBOLS, *words_of(timeframe), *SPANS[timeframe], *span)
        return Desk(here, tmp_path / name, timeframe)

    return made


def stopping(at: int, told: Callable[[], None]) -> Callable[[Cycle], None]:
    """Told something within one of the cycles."""
    made: list[Cycle] = []

    def show(cycle: Cycle) -> None:
        made.append(cycle)
        if len(made) == at:
            told()

    return show


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


def test_undisturbed_replay_matches_the_venues_fills_and_equity(
    whole_of: Callable[[str], Desk],
) -> None:
    whole = whole_of("1h")
    said = whole.summary
    venue = whole.here.venue
    assert said["instants_left_out"] == 0
    frames = whole.frames()
    assert len(frames["equity"]) == said["instants"] == venue.index - venue.market.start_row + 1
    traded = [fill for fill in venue.broker.fills if fill.price > 0]
    listed = frames["fills"][frames["fills"]["price"] > 0]
    rows = listed[["client_order_id", "symbol", "qty", "price"]]
    assert [tuple(row) for row in rows.itertuples(index=False)] == [
        (fill.client_order_id, fill.symbol, float(fill.qty), fill.price) for fill in traded
    ]
    assert set(frames["fills"]["fee"]) == {0.0}, "the venue books fees apart from fills"
    assert len(traded) >= 5
    assert set(frames["orders"]["client_order_id"]) >= set(venue.tickets)
    assert frames["equity"]["equity"].iloc[-1] == pytest.approx(
        venue.broker.equity_row().equity, abs=1e-6
    )


@pytest.mark.parametrize(
    ("timeframe", "share"),
    [
        *(("1h", 0.31), ("1d", 0.21)),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (
                *(("1h", 0.03), ("1h", 0.74), ("1d", 0.52)),
                *(("1d fill=close", 0.35), ("15m", 0.47)),
            )
        ),
    ],
)
def test_killed_replay_resumes_to_the_same_result(
    desk_of: Callable[..., Desk], whole_of: Callable[[str], Desk], timeframe: str, share: float
) -> None:
    whole = whole_of(timeframe)
    assert whole.events > 100
    assert len(whole.frames()["fills"]) >= 5
    desk = desk_of("killed", timeframe)
    with mortal(round(share * whole.events)), pytest.raises(Killed):
        desk.replay()
    desk.replay()
    assert_same(desk, whole)


def test_replay_resumes_only_with_unchanged_strategy_settings(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of("desk", "1h", *SHORT)
    with pytest.raises(TerminatedBySignal):
        desk.replay(stopping(2, lambda: signal.raise_signal(signal.SIGTERM)))
    assert not (desk.output / REPLAY_FILE).exists(), "the journal has all of it"
    for more, facts in (("sizing.band=0.1", ("sizing",)), ("symbols=[SYA,SIB]", ("SIB", "SYB"))):
        with refused(InputError, *facts):
            desk.replay(nothing, more)
    desk.replay(nothing, "broker.attempts=2", "start=2024-02-20")
    assert desk.here.venue.is_over


def cycles(folder: Path) -> bool:
    """Whether the journal of an account below a folder has a cycle that has ended."""
    query = "SELECT 1 FROM cycles WHERE ended_at IS NOT NULL"
    return any(query_table(path, "cycles", query) for path in folder.rglob(JOURNAL_FILE))


@pytest.mark.slow
def test_terminated_replay_command_resumes_where_it_stopped(
    practice: Start, tmp_path: Path
) -> None:
    desk = Desk(practice(SYMBOLS, *SPANS["1h"], "start=2024-02-20T08:00Z"), tmp_path)
    command = [
        *(str(ROOT / "trade_stock_e2e.py"), "mode=replay", *WORDS, "output=out"),
        *(f"broker.url_override={desk.here.url}", "forecaster.calibrated=false"),
        "start=2024-02-20",
    ]
    started = Started(command, cwd=desk.folder, env=environment(desk.folder))
    while started.running and not cycles(desk.folder):
        started.wait_for_end(0.02)
    os.kill(started.pid, signal.SIGTERM)
    stopped = started.wait()
    assert stopped.returncode == 128 + signal.SIGTERM, stopped.stderr
    kept = "completed cycles are in the journal; repeat the same command to continue"
    assert stopped.stderr.splitlines()[-1] == f"interrupted: {kept}"
    done = run_command(command, cwd=desk.folder, env=environment(desk.folder))
    assert done.returncode == 0, done.stderr
    assert "start: ignored; the venue's clock sets the period" in done.stderr
    assert json.loads(done.stdout) == desk.summary
    assert desk.here.venue.is_over


def test_replay_refuses_a_server_restarted_midway(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of("desk", "1h", *SHORT)
    venue = desk.here.venue

    def begin_again() -> None:
        venue.record.account_id = "another"

    with refused(InputError):
        desk.replay(stopping(2, begin_again))
    assert not (desk.output / REPLAY_FILE).exists()


def test_replay_reports_denied_orders_and_active_halts(
    desk_of: Callable[..., Desk], capsys: pytest.CaptureFixture[str]
) -> None:
    said = desk_of("guarded", "1h", *SHORT).replay(nothing, "guards.max_order=1")
    told = capsys.readouterr().err
    assert said["not_sent"] > 0
    assert f"{said['not_sent']} orders of the replay NOT sent. The first: " in told
    assert "guards.max_order, 1 USD" in told
    assert (said["halted"], said["fills"]) == ([], 0)


@pytest.mark.slow
def test_replay_for_another_account_preserves_existing_records(
    desk_of: Callable[..., Desk],
) -> None:
    before, anew = (desk_of("desk", "1h", *SHORT) for _ in range(2))
    kept = before.replay()
    with refused(InputError):
        anew.replay()
    assert before.summary == kept
