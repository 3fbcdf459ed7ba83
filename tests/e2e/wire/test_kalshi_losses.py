"""What an account of event contracts has lost halts its openings, over the wire and a restart.

The day is New York's. Nothing that is paid in or taken out raises a halt or hides one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from event_contracts.settings import KalshiGuardSettings, KalshiTradingSettings
from event_contracts.trade import (
    JOB_NAME,
    KalshiAccount,
    KalshiGate,
    open_kalshi_account,
    trade_markets,
)
from event_contracts.trading.action_log import ActionEntry
from event_contracts.trading.actions import PositionLimits
from event_contracts.trading.actor import ActorService
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.manager import KalshiMultiMarketOrderManager, KalshiSnapshot
from event_contracts.trading.orders import EventContractOrder
from event_contracts.trading.records import TICK_DTYPE, MarketUpdate, SamplingSchedule
from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from execution.journal.order_store import OrderIntent, OrderStore
from execution.live.__main__ import clear_halt, write_kill_file
from execution.live.account_lock import JOURNAL_FILE, KILL_FILE, STATUS_PAGE_FILE
from execution.live.loop import StopSignal
from execution.orders.gate import OrderRole
from foundation.clock import TimeSource, utc_now
from foundation.database import query_rows
from foundation.errors import BrokerError, InputError
from tests.e2e.kalshi_desk import RAIN, SECOND, Always, Clock, pay_in, quotes, trading_settings
from tests.event_contracts.practice import KEYS, KalshiPractice, kalshi_practice
from tests.support.connections import open_for_test
from tests.support.messages import refused
from tests.support.pages import text_of

BUY_YES_100 = 5
SELL_YES_100 = 10
UNBOUND: dict[str, Any] = {
    "limits": PositionLimits(Decimal(1000), Decimal(1000), Decimal(1)),
    "cash_buffer": 0.0,
}
# An hour at half a dollar, then a fall that takes four fifths of what is held, then a recovery.
FALLING = quotes([(0.49, 0.51, 4), (0.09, 0.11, 4), (0.49, 0.51, 40)])


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def here() -> Iterator[KalshiPractice]:
    with kalshi_practice(sessions={RAIN: FALLING}, starting_cash=100.0) as venue:
        yield venue


@dataclass
class Process:
    """What one process has of an account: the real manager, guards, marks and service."""

    here: KalshiPractice
    settings: KalshiTradingSettings
    ours: KalshiAccount
    manager: KalshiMultiMarketOrderManager
    clock: Clock

    @property
    def standing(self) -> list[str]:
        return [halt.kind for halt in self.ours.locked_account.halts.active()]

    @property
    def notices(self) -> list[str]:
        return [
            kind for (kind,) in self.ours.locked_account.database.query("SELECT kind FROM notices")
        ]

    def marks(self) -> list[tuple[float, float]]:
        """Equity and flows of every mark; USD."""
        query = "SELECT equity, flows FROM marks ORDER BY at"
        return [(equity, flows) for equity, flows in self.ours.locked_account.database.query(query)]

    def mark(self) -> KalshiSnapshot:
        return self.ours.mark_to_market(self.manager)

    def advance(self, steps: int) -> list[str]:
        """Let ticks pass and mark the account; what stands then."""
        self.here.advance(steps)
        self.ours.mark_to_market(self.manager)
        return self.standing

    def decide(self, action: int) -> str:
        """What becomes of an action on the quote that the venue shows."""
        service = ActorService(
            self.ours.locked_account.name,
            self.manager,
            self.settings.build_action_space(FeeRules()),
            Always(action),
            self.ours.action_log,
            self.ours.locked_account.notices,
            clock=utc_now,
        )
        service.follow_market(RAIN, SamplingSchedule(utc_now(), SECOND, 100_000))
        tick = np.zeros(1, TICK_DTYPE)[0]
        for name in ("bid", "ask", "bid_size", "ask_size", "estimate"):
            tick[name] = self.here.exchange.current_tick(RAIN)[name]
        # Every row is decided on once: the next one is a little ahead.
        row = len(self.ours.action_log.read_ticks(RAIN))
        span = self.ours.action_log.read_schedules()[RAIN]
        entry = service.process_update(MarketUpdate(RAIN, span.start + row * SECOND, tick))
        assert entry is not None
        return entry.response or entry.reason


@contextmanager
def process(here: KalshiPractice, **more: Any) -> Iterator[Process]:
    settings = trading_settings(here, **{**UNBOUND, **more})
    clock = Clock()
    with open_kalshi_account(
        settings, settings.venue_settings(), KEYS, TimeSource(now=clock)
    ) as ours:
        admission = settings.build_action_space(FeeRules()).pre_trade_check
        manager = KalshiMultiMarketOrderManager(
            settings.venue_settings(),
            KEYS,
            admission,
            lambda *_: FeeRules(),
            order_store=ours.locked_account.book,
            gate=ours.gate,
            job=JOB_NAME,
            time=TimeSource(now=clock, wait=lambda seconds: None),
        )
        ours.resume_books(manager)
        yield Process(here, settings, ours, manager, clock)


def journal() -> Path:
    [path] = Path("journals").glob(f"*/{JOURNAL_FILE}")
    return path


@pytest.mark.slow
def test_loss_halts_openings_across_restarts_until_cleared(here: KalshiPractice) -> None:
    with process(here) as now:
        now.mark()
        assert now.decide(BUY_YES_100).startswith("accepted")
        assert now.advance(1) == []
        # 100 at 0.51 cost 51 and a fee of 1.75; they are worth 50 at the middle, and then 10.
        assert now.marks() == [(100.0, 0.0), (97.25, 0.0)]
        assert now.advance(4) == ["daily_loss", "drawdown"]
        assert now.marks()[-1] == (57.25, 0.0)
        assert "halted: daily_loss" in now.decide(BUY_YES_100)
        now.mark()
        assert now.notices == ["halt daily_loss", "halt drawdown"]
    with process(here) as now:
        now.mark()
        assert now.standing == ["daily_loss", "drawdown"]
        assert "halted: daily_loss" in now.decide(BUY_YES_100)
        assert now.decide(SELL_YES_100).startswith("accepted")
        assert len(now.notices) == 2
        here.advance()
        now.mark()
    for kind in ("daily_loss", "drawdown"):
        clear_halt(journal(), kind, "Ada")
    with process(here) as now:
        # The acknowledged loss halts no more.
        now.mark()
        assert now.standing == []
        assert now.decide(BUY_YES_100).startswith("accepted")


def test_deposits_and_withdrawals_are_cash_flows_across_restarts(here: KalshiPractice) -> None:
    with process(here) as now:
        now.mark()
        now.decide(BUY_YES_100)
        now.advance(1)
        pay_in(here.exchange, 500)
        assert now.advance(1) == []
        pay_in(here.exchange, -540)
    with process(here) as now:
        now.mark()
        assert now.standing == []
        assert now.marks() == [(100, 0), (97.25, 0), (597.25, 500), (57.25, -540)]


def test_closed_market_keeps_its_last_bid_until_determined() -> None:
    """A second process restores the last bid from the journal."""
    session = quotes([(0.49, 0.51, 6), (0.0, 0.01, 1)])
    with kalshi_practice(sessions={RAIN: session}, starting_cash=100.0, settlement_ticks=4) as here:
        with process(here) as now:
            now.mark()
            now.decide(BUY_YES_100)
            assert now.advance(1) == []
            assert now.marks()[-1] == (97.25, 0.0)
        here.advance(5)
        seen = {}
        with process(here) as now:
            for _ in range(5):
                now.mark()
                seen[here.exchange.market_state(RAIN)] = now.marks()[-1]
                here.advance()
            assert seen == {
                "closed": (47.25 + 49.0, 0.0),
                "determined": (47.25, 0.0),
                "finalized": (47.25, 0.0),
            }
            assert now.standing == ["daily_loss", "drawdown"]


def test_unreadable_account_records_no_equity_mark(here: KalshiPractice) -> None:
    with process(here) as now:
        now.mark()
        for path in ("balance", "positions", "fills", "settlements"):
            here.fault("status", status=500, method="GET", path=f"/trade-api/v2/portfolio/{path}")
            with pytest.raises(BrokerError):
                now.mark()
            here.clear_faults()
        assert len(now.marks()) == 1


def test_equity_marks_stay_ordered_when_clock_goes_back(here: KalshiPractice) -> None:
    with process(here) as now:
        now.mark()
        pay_in(here.exchange, 50)
        now.clock.ahead = np.timedelta64(-3, "h")
        now.mark()
        assert now.marks() == [(100.0, 0.0), (150.0, 50.0)]


def test_loop_records_equity_each_cycle_and_stop_reason(here: KalshiPractice) -> None:
    pages = []

    def look(entry: ActionEntry) -> None:
        pages.append(journal().with_name(STATUS_PAGE_FILE).read_text())

    settings = trading_settings(here, steps=2, **UNBOUND)
    trade_markets(settings, KEYS, StopSignal(), look)
    cycles = query_rows(journal(), "SELECT job, decision, failure FROM cycles")
    assert cycles == [("kalshi", "ticks of RAIN", "")] * 2
    assert query_rows(journal(), "SELECT count(*) FROM marks") == [(3,)]
    [(why,)] = query_rows(journal(), "SELECT content FROM events WHERE kind = 'stopped'")
    assert json.loads(why) == {"why": "no more cycles are scheduled"}
    assert [text.count("<title>Running · paper account kalshi-") for text in pages] == [1, 1]
    assert "Next cycle: kalshi at" in text_of(pages[0])
    last = text_of(journal().with_name(STATUS_PAGE_FILE).read_text())
    assert last.startswith("Finished: no more cycles are scheduled ·")


def test_kalshi_kill_file_stops_the_loop_without_flattening(here: KalshiPractice) -> None:
    said: list[str] = []

    def stopped(entry: ActionEntry) -> None:
        folder = journal().parent
        with refused(InputError):
            write_kill_file(folder, flatten=True)
        said.extend(write_kill_file(folder, flatten=False).closing_lines)

    settings = trading_settings(here, **UNBOUND)
    trade_markets(settings, KEYS, StopSignal(), stopped)
    assert "the loop stops. Remove the file to trade again." in said[0]
    [(why,)] = query_rows(journal(), "SELECT content FROM events WHERE kind = 'stopped'")
    assert json.loads(why) == {"why": "the kill file exists", "flatten": False}
    assert (journal().parent / KILL_FILE).exists()
    with refused(InputError):
        trade_markets(settings, KEYS, StopSignal(), stopped)


NOW = np.datetime64("2026-11-22T10:00:00", "ns")
MINUTE = np.timedelta64(1, "m")


def intent(name: str, role: OrderRole = "opening", count: int = 10) -> OrderIntent:
    order = EventContractOrder(name, "RAIN", "BUY", "YES", Decimal("0.50"), Decimal(count))
    return OrderIntent(order, NOW, job="kalshi", venue="kalshi", role=role)


def refusal(gate: KalshiGate, one: OrderIntent, now: np.datetime64) -> str:
    return gate.refusal_reason(one.order, one.role, now)


@pytest.fixture
def gate(tmp_path: Path) -> KalshiGate:
    database = open_for_test()
    settings = KalshiGuardSettings(max_order=20.0, max_orders_per_hour=3)
    halts = HaltJournal(database, EventLog(database))
    return KalshiGate(settings, halts, OrderStore(database), tmp_path / "KILL")


def test_orders_are_limited_by_value_and_hourly_count(gate: KalshiGate) -> None:
    assert refusal(gate, intent("a", count=40), NOW) == ""
    assert "$20.50 exceeds guards.max_order $20" in refusal(gate, intent("a", count=41), NOW)
    for k in range(3):
        assert refusal(gate, intent(f"{k}"), NOW) == ""
        gate.order_store.record_submission(replace(intent(f"{k}"), sent_at=NOW + k * MINUTE))
    later = NOW + 5 * MINUTE
    assert "3 orders were sent in the last hour" in refusal(gate, intent("b"), later)
    assert refusal(gate, intent("b", "reduction", 41), later) == ""
    assert refusal(gate, intent("b"), NOW + 61 * MINUTE) == ""


def test_kill_file_and_halts_block_kalshi_orders(gate: KalshiGate) -> None:
    parts: tuple[OrderRole, ...] = ("opening", "reduction")
    gate.halts.raise_halt("drawdown", "too much was lost", NOW)
    assert [bool(refusal(gate, intent("a", role), NOW)) for role in parts] == [True, False]
    gate.halts.raise_halt("positions", "they differ", NOW)
    assert all("they differ" in refusal(gate, intent("a", role), NOW) for role in parts)
    gate.halts.clear("positions", "me", NOW)
    gate.halts.clear("drawdown", "me", NOW)
    assert refusal(gate, intent("a"), NOW) == ""
    gate.kill_file.touch()
    assert all("kill file" in refusal(gate, intent("a", role), NOW) for role in parts)
