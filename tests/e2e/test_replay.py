"""A replay that is stopped, killed or left by its server keeps what it has, and is gone on with."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from execution.live.account_lock import JOURNAL_FILE
from execution.live.cycle import Cycle
from foundation.database import query_table
from foundation.errors import InputError
from foundation.signals import TerminatedBySignal
from marketsimulator.live_replay import REPLAY_FILE
from tests.e2e.practice import ROOT, Start, environment, practising
from tests.support.commands import Started, run_command
from tests.support.messages import refused
from tests.support.replays import (
    SPANS,
    SYMBOLS,
    WORDS,
    Desk,
    Killed,
    assert_same,
    mortal,
    nothing,
    words_of,
)
from tests.support.replays import desk_of as desk_of

SHORT = ("end=2024-02-20T15:30Z",)  # three instants


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


def stopping(at: int, told: Callable[[], None]) -> Callable[[Cycle], None]:
    """Told something within one of the cycles."""
    made: list[Cycle] = []

    def show(cycle: Cycle) -> None:
        made.append(cycle)
        if len(made) == at:
            told()

    return show


@pytest.mark.wire
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
        ("1h", 0.31),
        pytest.param("1d", 0.21, marks=pytest.mark.wire),
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


@pytest.mark.wire
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


@pytest.mark.wire
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


@pytest.mark.wire
def test_replay_refuses_a_server_restarted_midway(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of("desk", "1h", *SHORT)
    venue = desk.here.venue

    def begin_again() -> None:
        venue.record.account_id = "another"

    with refused(InputError):
        desk.replay(stopping(2, begin_again))
    assert not (desk.output / REPLAY_FILE).exists()


@pytest.mark.wire
def test_replay_reports_denied_orders_and_active_halts(
    desk_of: Callable[..., Desk], capsys: pytest.CaptureFixture[str]
) -> None:
    said = desk_of("guarded", "1h", *SHORT).replay(nothing, "guards.max_order=1")
    told = capsys.readouterr().err
    assert said["not_sent"] > 0
    assert f"{said['not_sent']} orders of the replay NOT sent. The first: " in told
    assert "guards.max_order, 1 USD" in told
    assert (said["halted"], said["fills"]) == ([], 0)


@pytest.mark.wire
@pytest.mark.slow
def test_replay_for_another_account_preserves_existing_records(
    desk_of: Callable[..., Desk],
) -> None:
    before, anew = (desk_of("desk", "1h", *SHORT) for _ in range(2))
    kept = before.replay()
    with refused(InputError):
        anew.replay()
    assert before.summary == kept
