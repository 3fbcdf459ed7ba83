"""The end of a loop: positions in symbols that were dropped, and orders after failed cycles."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from execution.journal.order_store import OrderIntent, OrderState
from execution.live.accounts import SPREADS_JOB, TRADE_JOB
from execution.live.guards import GuardSettings
from execution.live.loop import Job, JobLoop
from execution.live.runner import AlwaysRespondingClock, finish_jobs, open_supervised_loop
from execution.live.status_page import StatusPageLimits
from foundation.clock import SYSTEM_TIME
from foundation.errors import BrokerError
from foundation.notifier import Supervisor
from tests.e2e.practice import Practice, Start, buy, order, trading
from tests.support.desks import PLAIN, SECOND, Desk, alerts, held
from tests.support.messages import refused


@contextmanager
def without_sya(here: Practice, folder: Path, at: str = SECOND) -> Iterator[Desk]:
    """A process that trades SYB and closes everything, after one that bought SYA and SYB."""
    before = Desk.at(here, folder, *PLAIN)
    before.job.step()
    assert {"SYA", "SYB"} <= {*held(before)}
    before.database.close()
    here.advance(at)
    desk = Desk.at(here, folder, *PLAIN, "symbols=[SYB]")
    desk.job.step()
    desk.stop.request_stop("kill file")
    desk.live.account.kill_file.write_text("flatten")
    yield desk
    desk.database.close()


def test_flattening_closes_positions_in_dropped_symbols(
    here: Practice, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with without_sya(here, tmp_path) as desk:
        finish_jobs([desk.job], desk.live.account, desk.stop)
        assert held(desk) == {}
        assert "all our positions were closed" in capsys.readouterr().out


def test_flattening_keeps_positions_that_we_never_traded(practice: Start, tmp_path: Path) -> None:
    here = practice("symbols=[SYA,SYB,SYC]")
    here.advance("2024-02-20T15:30:00Z")
    trading(here).submit_order(buy("SYC", 7))
    with without_sya(here, tmp_path) as desk:
        finish_jobs([desk.job], desk.live.account, desk.stop)
        assert held(desk) == {"SYC": 7}


def test_flattening_fails_naming_positions_of_a_closed_market(
    here: Practice, tmp_path: Path
) -> None:
    with without_sya(here, tmp_path, "2024-02-20T22:30:00Z") as desk:
        kept = [f"{quantity:f} {symbol}" for symbol, quantity in sorted(held(desk).items())]
        with refused(BrokerError, "kill file", "NOT closed", *kept):
            finish_jobs([desk.job], desk.live.account, desk.stop)
        assert "NOT closed" in alerts(desk)


class Spreads:
    """A job that has closed everything it opened."""

    name = SPREADS_JOB

    def next_step_time(self, now: np.datetime64) -> None:
        return None

    def step(self) -> None: ...

    def finish(self, *, flatten: bool) -> list[str]:
        return []


def test_flattening_names_positions_of_absent_jobs(here: Practice, tmp_path: Path) -> None:
    """A run of spreads alone does not close what an earlier run has bought."""
    desk = Desk.at(here, tmp_path, *PLAIN)
    desk.job.step()
    here.advance(SECOND)
    desk.live.reconcile()
    kept = [f"{quantity:f} {symbol}" for symbol, quantity in sorted(held(desk).items())]
    desk.stop.request_stop("kill file")
    desk.live.account.kill_file.write_text("flatten")
    closed = "closed: all positions of spreads"
    with refused(BrokerError, f"positions NOT closed: {', '.join(kept)}", closed):
        finish_jobs([Spreads()], desk.live.account, desk.stop)


class Shadow(Spreads):
    """A job without positions of its own."""

    name = "shadow"


def test_flattening_names_no_job_without_positions(here: Practice, tmp_path: Path) -> None:
    with without_sya(here, tmp_path, "2024-02-20T22:30:00Z") as desk:
        with pytest.raises(BrokerError, match="NOT closed") as caught:
            finish_jobs([desk.job, Shadow()], desk.live.account, desk.stop)
        assert "shadow" not in str(caught.value)


@contextmanager
def loop_of(job: Job, desk: Desk) -> Iterator[JobLoop]:
    """A loop that ends with the first failed cycle."""
    with open_supervised_loop(
        [job],
        desk.live.account,
        desk.stop,
        Supervisor.from_environment({}),
        clock=AlwaysRespondingClock(SYSTEM_TIME),
        page_limits=StatusPageLimits(1.0, GuardSettings()),
        sections=(),
        max_failed_cycles=1,
    ) as loop:
        yield loop


@pytest.mark.parametrize("state", ["accepted", "unknown"])
def test_loop_ended_by_failures_cancels_open_orders(
    here: Practice, tmp_path: Path, capsys: pytest.CaptureFixture[str], state: OrderState
) -> None:
    desk = Desk.at(here, tmp_path, *PLAIN)
    desk.job.step()
    bid = order("ours", type="limit", limit_price=1.0)
    desk.live.book.record_submission(OrderIntent(bid, here.venue.now, state=state, job=TRADE_JOB))
    terms = {"type": "limit", "limit_price": "1", "time_in_force": "day"}
    words = {"symbol": "SYA", "qty": "10", "side": "buy", "client_order_id": "ours"}
    trading(here).post("/orders", {**words, **terms})
    here.advance(SECOND)
    here.fail(kind="status", status=500, count=1000, path="/v2/positions")
    with refused(BrokerError, "positions: HTTP status 500"), loop_of(desk.job, desk) as loop:
        loop.run()
    assert not here.venue.broker.account().open_orders
    told = "Stopped (trade: 1 failed cycle in a row): open orders were cancelled, positions are"
    assert told in capsys.readouterr().out


class Failing:
    """A job whose every step fails, while a person asks for all positions to be closed."""

    name = "trade"

    def __init__(self, desk: Desk, trouble: str) -> None:
        self.kill_file = desk.live.account.kill_file
        self.trouble = trouble
        self.finished: list[bool] = []

    def next_step_time(self, now: np.datetime64) -> np.datetime64:
        return now

    def step(self) -> None:
        self.kill_file.write_text("flatten")
        raise BrokerError("the clock: no response")

    def finish(self, *, flatten: bool) -> list[str]:
        self.finished.append(flatten)
        if self.trouble:
            raise BrokerError(self.trouble)
        return []


@pytest.mark.parametrize("trouble", ["", "SYA: not cancelled"])
def test_flattening_is_executed_after_the_last_failed_cycle(
    here: Practice, tmp_path: Path, trouble: str
) -> None:
    desk = Desk.at(here, tmp_path, *PLAIN)
    job = Failing(desk, trouble)
    facts = [trouble, "1 failed cycle"] if trouble else ["no response"]
    with refused(BrokerError, *facts), loop_of(job, desk) as loop:
        loop.run()
    assert job.finished == [True]
