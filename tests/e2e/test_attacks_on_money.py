"""What the venue says of money is believed where two sources agree: one answer changed at a time.

The real client speaks to the practice server through a proxy that changes what it answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.live.loop import JobLoop, StopSignal
from execution.live.runner import VenueLoopClock
from foundation.errors import BrokerError
from tests.e2e.changed_answers import Told, changed_answers, richer
from tests.e2e.practice import OPENING, Practice, Start
from tests.support.desks import (
    ACCOUNT,
    ALWAYS,
    LISTED,
    PLAIN,
    SECOND,
    THIRD,
    Desk,
    alerts,
    attacked,
    halted_by,
    held,
)
from tests.support.messages import refused

CLOCK = "/v2/clock"


@pytest.mark.first_example
@pytest.mark.parametrize(("usd", "skipped"), [(-1e5, 0), (1e6, 1), (-1e5, 2)])
def test_wrong_cash_response_triggers_neither_trade_nor_halt(
    practice: Start, here: Practice, tmp_path: Path, usd: float, skipped: int
) -> None:
    """Whichever reading of a cycle is wrong, the next one is requested and used."""
    skips = iter([False] * skipped + [True])
    told = Told(ACCOUNT, lambda facts: richer(usd)(facts) if next(skips, False) else facts)
    with attacked(here, tmp_path, told) as desk:
        plain = practice("symbols=[SYA,SYB]")
        plain.advance(OPENING)
        undisturbed = Desk.at(plain, tmp_path / "plain", *PLAIN)
        undisturbed.job.step()
        plain.advance(SECOND)
        told.answers = ALWAYS
        desk.job.step()
        undisturbed.job.step()
        assert held(desk) == held(undisturbed)
        assert desk.live.halts.history() == ()
        equities = [
            mark.equity for mark in desk.live.account.marks.marks_since(np.datetime64(0, "ns"))
        ]
        assert max(equities) < 1.01 * min(equities), "no mark of what was not believed"


@pytest.mark.first_example
@pytest.mark.parametrize("usd", [-100_000.0, 1_000_000.0])
def test_unexplained_cash_halts_trading_until_manually_cleared(
    here: Practice, tmp_path: Path, usd: float
) -> None:
    told = Told(ACCOUNT, richer(usd))
    with attacked(here, tmp_path, told) as desk:
        before, posts = held(desk), len(desk.here.posts)
        told.answers = ALWAYS
        for _ in range(4):
            desk.job.step()
            assert desk.cycles[-1].decision is None
        assert halted_by(desk) == ["cash"]
        assert "no trade or booking explains" in alerts(desk)
        told.answers = 0
        desk.step_at(THIRD)
        assert halted_by(desk) == ["cash"], "an honest answer leaves no daily_loss, and no excuse"
        assert (held(desk), len(desk.here.posts)) == (before, posts)
        desk.live.halts.clear("cash", "a person", desk.here.venue.now)
        desk.step_at()
        assert halted_by(desk) == []
        assert desk.cycles[-1].decision is not None


@pytest.mark.slow
def test_deposit_listed_late_clears_the_cash_halt(here: Practice, tmp_path: Path) -> None:
    with attacked(here, tmp_path, Told(ACCOUNT, {})) as desk:
        desk.here.venue.broker.deposit(20_000.0)
        desk.job.step()
        assert halted_by(desk) == ["cash"]
        entry = {"activity_type": "CSD", "date": "2024-02-20", "net_amount": "20000"}
        desk.here.venue.record.record_activity(entry)
        desk.step_at(THIRD)
        assert halted_by(desk) == []
        assert desk.cycles[-1].decision is not None
        assert [
            mark.net_deposits
            for mark in desk.live.account.marks.marks_since(np.datetime64(0, "ns"))
        ][1] == 20_000


@pytest.mark.slow
def test_tenfold_fill_price_halts_trading_only_if_repeated(here: Practice, tmp_path: Path) -> None:
    def tenfold(rows: Any) -> Any:
        return [
            {**row, "price": repr(10 * float(row["price"]))} if "price" in row else row
            for row in rows
        ]

    told = Told(LISTED, tenfold)
    with attacked(here, tmp_path, told) as desk:
        told.answers = 1
        desk.job.step()
        assert desk.live.halts.history() == ()
        assert desk.cycles[-1].decision is not None
        desk.here.advance(THIRD)
        told.answers = ALWAYS
        before = held(desk)
        desk.job.step()
        assert halted_by(desk) == ["cash"]
        assert "far from its order's mean fill price" in alerts(desk)
        assert held(desk) == before


def test_listed_dividend_absent_from_cash_alerts_without_halting(
    here: Practice, tmp_path: Path
) -> None:
    dividend = {
        "id": "20240220000000000::odd",
        "activity_type": "DIV",
        "date": "2024-02-20",
        "symbol": "SYA",
        "qty": "10",
        "net_amount": "1000000000000",
        "status": "executed",
    }
    told = Told(LISTED, lambda rows: [*rows, dividend])
    with attacked(here, tmp_path, told) as desk:
        told.answers = ALWAYS
        desk.job.step()
        assert desk.cycles[-1].decision is not None
        assert desk.live.halts.history() == ()
        assert "ignored, dividend of 1000000000000 USD is listed" in alerts(desk)
        told.answers = 0
        desk.step_at(THIRD)
        assert desk.live.halts.history() == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"activity_type": "DIV"}, "USD at once exceed 50%"),
        ({"activity_type": "MA", "symbol": "SYA", "qty": "-1"}, "it exchanges SYA for 1000000 USD"),
    ],
)
def test_outsized_activity_halts_until_a_person_clears_it(
    here: Practice, tmp_path: Path, entry: dict[str, str], says: str
) -> None:
    with attacked(here, tmp_path, Told(ACCOUNT, {})) as desk:
        desk.here.venue.broker.deposit(1e6)
        shared = {"date": "2024-02-20", "net_amount": "1000000"}
        desk.here.venue.record.record_activity({**shared, **entry})
        posts = len(desk.here.posts)
        desk.job.step()
        assert halted_by(desk) == ["cash"]
        assert len(desk.here.posts) == posts
        assert says in alerts(desk)
        desk.live.halts.clear("cash", "a person", desk.here.venue.now)
        desk.step_at(THIRD)
        assert halted_by(desk) == []
        assert desk.cycles[-1].decision is not None
        desk.here.venue.broker.deposit(-100_000.0)
        desk.step_at()
        assert halted_by(desk) == ["cash"], "what was cleared is the ground once"


@pytest.mark.wire
def test_reported_leverage_multiplier_is_capped_at_four(here: Practice, tmp_path: Path) -> None:
    told = Told(ACCOUNT, {"multiplier": "1000"})
    with attacked(here, tmp_path, told) as desk:
        told.answers = ALWAYS
        desk.job.step()
        assert desk.cycles[-1].account.max_leverage == 4.0
        assert "multiplier of 1000 exceeds the maximum; using 4" in alerts(desk)


def test_stock_orders_wait_while_venue_clock_reports_closed(
    practice: Start, tmp_path: Path
) -> None:
    """For example an unscheduled day of mourning: an order would wait for the next open."""
    told = Told(CLOCK, {"is_open": False}, ALWAYS)
    here = practice("symbols=[SYA,SYXUSD]")
    here.advance(OPENING)
    with changed_answers(here, told) as seen:
        words = ("symbols=[SYA,SYXUSD]", *PLAIN)
        desk = Desk.at(seen, tmp_path, *words)
        desk.job.step()
        assert desk.cycles[-1].decision is not None
        assert here.posts == [], "coins trade at whole hours"
        assert "the exchange closed at 2024-02-20T15:30Z, unlike the calendar" in alerts(desk)
        desk.step_at("2024-02-20T16:00:00Z")
        assert here.posts
        assert all("SYXUSD" in body or "SYX/USD" in body for body in here.posts)
        told.answers = 0
        desk.step_at(SECOND)
        assert any("SYA" in body for body in here.posts)


class Unobserved:
    """A loop that nobody follows."""

    def on_next_step(self, job: str, due: np.datetime64, now: np.datetime64) -> None: ...

    def on_wait(self, job: str, due: np.datetime64) -> None: ...

    def on_step_end(self, job: str, outcome: object, *, failed: bool) -> None: ...


@pytest.mark.wire
@pytest.mark.first_example
@pytest.mark.parametrize("shown", ["2024-02-20T15:30:00", 1708443000, "20240-02-20T15:30:00Z"])
def test_invalid_venue_clock_timestamp_raises_error_naming_it(
    here: Practice, tmp_path: Path, shown: Any
) -> None:
    """The loop waits for an unreachable venue, but not for one that sends invalid timestamps."""
    told = Told(CLOCK, {"timestamp": shown})
    with attacked(here, tmp_path, told) as desk:
        connection = desk.live.connection
        connection.now()
        told.answers = ALWAYS
        clock = VenueLoopClock(desk.live)
        loop = JobLoop([desk.job], clock, StopSignal(), desk.live.notices, Unobserved(), 3)
        with refused(BrokerError, "clock", "timestamp"):
            loop.run()
        assert "timestamp is " in alerts(desk)


@pytest.mark.wire
def test_calendar_overrides_venue_clock_reporting_open_at_night(
    practice: Start, tmp_path: Path
) -> None:
    told = Told(CLOCK, {"is_open": True}, ALWAYS)
    here = practice("symbols=[SYA,SYB]")
    here.advance("2024-02-20T23:00:00Z")
    with changed_answers(here, told) as seen:
        desk = Desk.at(seen, tmp_path, *PLAIN)
        desk.job.step()
        assert desk.cycles[-1].decision is None
        assert here.posts == []
        assert "unlike the calendar; following the calendar" in alerts(desk)
