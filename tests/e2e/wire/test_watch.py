"""The watch of a live account at a practice server, and the same rule in the simulation."""

# Private access: a reading is due by the venue's clock, which a test cannot move between cycles.

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foundation.compose import compose_config
from marketsimulator.runs.simulate import can_run_compiled, simulate_trading
from marketsimulator.settings import BacktestSettings
from tests.e2e.changed_answers import Told, richer
from tests.e2e.practice import SPAN, Practice, Start
from tests.support.desks import ACCOUNT, ALWAYS, PLAIN, Desk, alerts, attacked, halted_by, held
from tests.support.given_commands import give
from tests.support.watches import made_up, watch_of

DAYS = ("start=2024-02-20T15:00Z", "end=2024-02-21")
MINUTE = np.timedelta64(1, "m")


@pytest.fixture
def desk(here: Practice, tmp_path: Path) -> Desk:
    desk = Desk.at(here, tmp_path, *PLAIN)
    desk.job.step()
    assert held(desk)
    return desk


def test_watch_flattens_once_after_two_agreeing_readings(desk: Desk) -> None:
    watch = made_up(desk, 0.94, 0.5, 0.94, 0.94, 0.93, 0.93)
    for _ in range(3):
        watch.read()
        assert held(desk), "one reading, or two that disagree, sell nothing"
    watch.read()
    assert held(desk) == {}
    assert halted_by(desk) == ["watch"]
    orders = len(desk.here.posts)
    watch.read()
    watch.read()
    assert len(desk.here.posts) == orders
    assert "ALERT command" not in alerts(desk)
    assert "command flatten by watch: done: sold" in alerts(desk)
    query = "SELECT verb, by, state FROM commands"
    assert desk.database.query(query) == [("flatten", "watch", "done")]


@pytest.mark.parametrize(("action", "kept"), [("halt", 1.0), ("reduce", 0.5)])
def test_watch_halts_and_reduces_as_set(desk: Desk, action: str, kept: float) -> None:
    before = held(desk)
    watch = made_up(desk, 0.94, 0.94, action=action)
    watch.read()
    watch.read()
    assert halted_by(desk) == ["watch"]
    for symbol, quantity in before.items():
        assert held(desk)[symbol] == int(float(quantity) * kept)
    assert give(desk, "resume")["answer"].startswith("halted: watch since")


def test_cleared_watch_counts_losses_from_then_on(desk: Desk) -> None:
    watch = made_up(desk, *(0.94,) * 2, *(0.93,) * 4, *(0.88,) * 2, action="halt")
    watch.read()
    watch.read()
    last = desk.live.account.marks.last_mark()
    assert last is not None
    desk.live.halts.clear("watch", "Ada", last.at)
    for _ in range(4):
        watch.read()
        assert halted_by(desk) == []
    desk = desk.again()
    watch = made_up(desk, 0.88 / 0.93, 0.88 / 0.93, action="halt")
    watch.read()
    watch.read()
    assert halted_by(desk) == ["watch"], "a new process has kept the peak"


@pytest.mark.parametrize("usd", [-50_000.0, 1_000_000.0])
@pytest.mark.parametrize("answers", [1, 2, ALWAYS])
def test_wrong_answers_of_the_venue_sell_nothing(
    here: Practice, tmp_path: Path, usd: float, answers: int
) -> None:
    told = Told(ACCOUNT, richer(usd))
    with attacked(here, tmp_path, told) as desk:
        before, posts = held(desk), len(desk.here.posts)
        watch = watch_of(desk, "watch.drawdown=0.05", "watch.action=flatten")
        told.answers = answers
        for at in ("2024-02-20T16:30:00Z", "2024-02-20T17:30:00Z", "2024-02-20T18:30:00Z"):
            here.advance(at)
            watch._next = np.datetime64("2024-02-20", "ns")  # due
            watch.read_if_due()
        assert (held(desk), len(desk.here.posts)) == (before, posts)
        assert "watch" not in halted_by(desk)
        assert desk.database.query("SELECT verb FROM commands") == []


def replay(here: Practice, folder: Path, *words: str) -> Desk:
    """Every instant of a server: a reading of the watch, then a cycle."""
    desk = Desk.at(here, folder, *words)
    watch = watch_of(desk, *words)
    while True:
        watch.read()
        desk.job.run_cycle()
        if here.venue.is_over:
            return desk
        here.advance()


@pytest.mark.parametrize(
    ("limits", "acts"),
    [
        (("watch.drawdown=1",), False),
        (("watch.drawdown=0.001", "watch.action=flatten"), True),
        (("watch.daily_loss=0.001", "watch.action=reduce", "watch.reduce_to=0.4"), True),
        (("watch.margin=0.1", "watch.action=halt"), True),
    ],
)
def test_simulated_watch_equals_the_live_one(
    practice: Start, tmp_path: Path, limits: tuple[str, ...], acts: bool
) -> None:
    words = ("symbols=[SYA,SYB,SYC]", *PLAIN, *limits)
    here = practice(*words, *DAYS, "increments=original")
    settings = BacktestSettings.from_config(compose_config("backtest", [*SPAN[:3], *DAYS, *words]))
    market = settings.load_market()
    assert not can_run_compiled(settings, market)
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols))
    expected = simulate_trading(settings, market, "alone", trader.with_beliefs(market))
    desk = replay(here, tmp_path, *words)
    fills = here.venue.broker.fills
    assert [(f.client_order_id, f.qty, f.price, f.at) for f in fills] == [
        (f.client_order_id, f.qty, f.price, f.at) for f in expected.fills
    ]
    assert here.venue.broker.equity_row().equity == expected.equity_rows[-1].equity
    assert bool(desk.database.query("SELECT 1 FROM halts WHERE kind = 'watch'")) == acts
    sells = any(action in limits for action in ("watch.action=flatten", "watch.action=reduce"))
    assert any("-8-" in fill.client_order_id for fill in fills) == sells
