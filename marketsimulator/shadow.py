"""Job of the live loop that keeps a shadow account: the live decisions, filled by the simulator.

Each day after 16:30 New York, the job simulates the journal's decisions on the live account's bars,
and records the difference of both profits by cause. A thread of its own simulates, so that trading
never waits for it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path
from threading import Thread

import numpy as np

from execution.decision.decision import Decision, decision_from_choices
from execution.decision.rebalancing import split_at_zero
from execution.decision.settings import TradingSettings
from execution.decision.tiers import DrawdownTiers
from execution.journal.decisions import DecisionRow
from execution.live.account import LiveAccount
from execution.live.accounts import SHADOW_JOB, TRADE_JOB
from execution.live.settings import LiveSettings
from execution.live.shadow_record import ShadowDay, append_shadow_total, read_shadow_days
from execution.live.status_page import PageSection
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Order
from forecasting.forecast import no_progress
from foundation.decimals import to_cents
from foundation.errors import BrokerError, DataError, InputError
from foundation.formatting import format_usd
from foundation.page import render_table
from foundation.tables import Table
from marketsimulator.drift import (
    compare_accounts,
    has_all_bars_until,
    market_between,
    simulate_account,
)
from marketsimulator.results.drift.terms import COMPONENT_MEANINGS, round_terms_to_cents
from marketsimulator.results.journal_record import JournalRecord, read_journal
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import ApiKeys
from trainingdata.instants import DAY, format_utc, history_start, new_york_date, new_york_four_pm

log = logging.getLogger(__name__)

MEASURED_AFTER_CLOSE = np.timedelta64(30, "m")  # hourly cycles are then over
MAX_DAYS_SHOWN = 10
_ZERO = Decimal(0)


class JournaledDecider:
    """Decider that repeats the decisions of a journal, with orders to the same targets."""

    def __init__(self, record: JournalRecord) -> None:
        self._rows = {row.at: row for row in record.decisions}
        self._orders: dict[str, list[Order]] = defaultdict(list)
        for intent in record.intents.values():
            if isinstance(intent.order, Order):
                self._orders[intent.decision_id].append(intent.order)

    def decide(self, bars: Bars, account: AccountSnapshot) -> Decision | None:
        row = self._rows.get(bars.last_instant)
        if row is None:
            return None
        orders = shadow_orders(row, self._orders[row.decision_id], account)
        choices = tuple(row.choices.values())
        return decision_from_choices(
            row.at, row.interval_end, row.equity, row.stock_ceiling, choices, orders
        )


def shadow_orders(
    row: DecisionRow, live_orders: Sequence[Order], account: AccountSnapshot
) -> tuple[Order, ...]:
    """Return orders that lead the shadow account to the live decision's targets, reductions first.

    Where both accounts have the same position, they are the live orders. A symbol without a live
    order keeps its position.

    live_orders: orders of the live decision.
    account: snapshot of the shadow account.
    """
    by_symbol: dict[str, list[Order]] = defaultdict(list)
    for order in live_orders:
        by_symbol[order.symbol].append(order)
    orders = []
    for symbol, legs in by_symbol.items():
        change = sum((order.signed_qty for order in legs), _ZERO)
        target = row.positions.get(symbol, _ZERO) + change
        held = account.projected_positions.get(symbol, _ZERO)
        if target - held == change:
            orders += legs
            continue
        for number, (before, after) in enumerate(split_at_zero(held, target)):
            name = f"{legs[-1].client_order_id}.{number}"
            orders.append(
                replace(
                    legs[number] if number < len(legs) else replace(legs[-1], client_order_id=name),
                    side="buy" if after > before else "sell",
                    qty=abs(after - before),
                    reduces=abs(after) < abs(before),
                )
            )
    return tuple(sorted(orders, key=lambda order: not order.reduces))


def build_simulation_settings(live: LiveSettings) -> BacktestSettings:
    """Return the settings of a live loop as settings of a backtest."""
    shared = {field.name: getattr(live, field.name) for field in fields(TradingSettings)}
    return BacktestSettings(**{**shared, "guards": DrawdownTiers(live.guards.tiers)})


def measure_shadow(
    journal: Path, settings: BacktestSettings, history_days: int, bars: Bars
) -> ShadowDay:
    """Return the profits of a live account and of its shadow since the journal's first decision.

    history_days: calendar days of bars that the live run had before its first decision.
    bars: bars of the live run.

    Raises
    ------
    InputError
        for a journal without decisions, and if the bars begin after the first one.
    """
    record = read_journal(journal, TRADE_JOB)
    start = record.first_account_snapshot()
    end = record.last_covered_snapshot(lambda at: has_all_bars_until(bars, at))
    since = history_start(start.observed_at, history_days)
    decided = record.decisions[0].at
    market = market_between(settings.data, bars, decided, since, end.observed_at)
    decider = JournaledDecider(record)
    _, simulated, decided_at = simulate_account(settings, market, decider, record, end, no_progress)
    live_run = record.build_run("live account", start, end, bars.symbols)
    live, _, terms = compare_accounts(
        record, (start, end), live_run, simulated, decided_at, market.bars
    )
    cents = {
        COMPONENT_MEANINGS[name]: usd for name, usd in round_terms_to_cents(terms).items() if usd
    }
    profit = to_cents(live.profit)
    # The terms add up to the rounded difference, which rounding both profits may miss by a cent.
    return ShadowDay(
        format_utc(end.observed_at), profit, profit - sum(cents.values(), _ZERO), cents
    )


class ShadowSection(PageSection):
    """Section of the status page with the last days of the shadow account."""

    title = "Shadow account"

    def __init__(self, job: ShadowJob) -> None:
        self._job = job

    def body(self) -> str:
        if self._job.problem:
            raise InputError(f"not measured: {self._job.problem}")
        days = read_shadow_days(self._job.folder)[-MAX_DAYS_SHOWN:]
        rows = [
            (
                day.until,
                format_usd(day.live_profit, sign=True),
                format_usd(day.shadow_profit, sign=True),
                format_usd(day.difference, sign=True),
                day.causes,
            )
            for day in reversed(days)
        ] or [("not measured yet", "", "", "", "")]
        columns = ("until, UTC", "live profit", "shadow profit", "difference", "causes, USD")
        return render_table(Table("Shadow account", columns, rows, left_aligned_columns=(0, 4)))


class ShadowJob:
    """Job that measures the shadow account once a day.

    settings: settings of the loop.
    live: account of the loop.
    feed: source of the bars.
    folder: folder of the journal and of the shadow's record.
    """

    name = SHADOW_JOB

    def __init__(
        self, settings: LiveSettings, live: LiveAccount, feed: BarFeed, journal: Path
    ) -> None:
        self._settings = settings
        self._live = live
        self._feed = feed
        self._journal = journal
        self._due: np.datetime64 | None = None
        self._thread: Thread | None = None
        self.folder = journal.parent
        self.problem = ""

    @property
    def section(self) -> PageSection:
        return ShadowSection(self)

    def next_step_time(self, now: np.datetime64) -> np.datetime64 | None:
        if self._due is None:
            self._due = next_measurement(now)
        return None if self._live.all_cycles_done else self._due

    def step(self) -> None:
        """Request the bars, and measure in a thread; failures appear on the status page."""
        now = self._live.connection.estimated_now()
        self._due = next_measurement(now)
        if self._thread is not None and self._thread.is_alive():
            return
        try:
            bars = self._settings.with_quantity_increments(self._feed.bars(now))
        except (BrokerError, DataError) as error:
            self.problem = str(error)
            return
        self._thread = Thread(target=self._measure, args=(bars,), daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the measurement in progress."""
        if self._thread is not None:
            self._thread.join()

    def _measure(self, bars: Bars) -> None:
        settings, days = self._settings, self._settings.effective_history_days
        try:
            total = measure_shadow(self._journal, build_simulation_settings(settings), days, bars)
            append_shadow_total(self.folder, total)
            self.problem = ""
        # Trading goes on whatever happens to the shadow; the status page shows the error.
        except Exception as error:
            log.exception("the shadow account was not measured")
            self.problem = str(error) or type(error).__name__

    def finish(self, *, flatten: bool) -> list[str]:
        return []


def next_measurement(now: np.datetime64) -> np.datetime64:
    """Return the first 16:30 New York after an instant."""
    days = new_york_date(np.array([now]))[0] + np.arange(2) * DAY
    due = new_york_four_pm(days) + MEASURED_AFTER_CLOSE
    return np.datetime64(due[due > now][0])


@contextmanager
def open_shadow_job(
    live_settings: LiveSettings, keys: ApiKeys, live: LiveAccount
) -> Iterator[ShadowJob]:
    """Open the job that keeps the shadow account of a live loop; yield the job."""
    journal = live.account.database.path
    if journal is None or not isinstance(live.feed, BarFeed):
        raise InputError("shadow: needs a journal on disk and the venue's bars; set shadow=false")
    yield ShadowJob(live_settings, live, live.feed, journal)
