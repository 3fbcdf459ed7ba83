"""Metrics of an account for Prometheus: the file `metrics.prom` in the account's folder.

The loop rewrites the file after every step and every event, and `python -m execution.live metrics`
prints the same from the journal. Each metric has its meaning in the file, as a HELP line. Times are
seconds since 1970: `time() - kelly_chronos_last_mark_timestamp_seconds` is the age of a mark.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

import numpy as np

from execution.journal.cycles import NextCycleJournal
from execution.journal.decisions import DecisionJournal
from execution.journal.events import AlertJournal, EventLog
from execution.journal.halts import HaltJournal, HaltKind
from execution.journal.marks import EquityMark, EquityMarkJournal
from execution.journal.order_store import OrderStore
from execution.journal.refusals import read_active_refusals
from execution.journal.schema import open_journal_for_reading
from execution.live.account_lock import KILL_FILE, may_exist, refuse_empty_journal
from execution.live.accounts import SPREADS_JOB, TRADE_JOB, is_event_contract_account
from execution.live.activity import event_number_at, fill_drift_usd
from execution.live.open_account import OpenAccount
from foundation.database import Database
from foundation.files import write_atomically
from foundation.redaction import NULL_REDACTOR
from trainingdata.instants import DAY

log = logging.getLogger(__name__)

METRICS_FILE = "metrics.prom"
METRIC_PREFIX = "kelly_chronos_"
MAX_LATENCY_EVENTS = 2000  # latest events, among which submissions and their answers are searched
# Meaning of each metric, and its labels besides `account`; `_total` is added to counters.
METRICS: Mapping[str, tuple[str, ...]] = {
    "equity_usd": ("Cash plus positions.",),
    "cash_usd": ("Cash, below 0 if borrowed.",),
    "position_usd": ("Signed value of a position.", "symbol"),
    "gross_ratio": ("Gross exposure, in multiples of equity.", "asset_class"),
    "stock_ceiling_ratio": ("Largest allowed gross exposure in stocks, in multiples of equity.",),
    "daily_loss_ratio": ("Fraction lost on the last mark's New York date, below 0 for a gain.",),
    "drawdown_ratio": ("Fraction lost since the peak.",),
    "last_mark_timestamp_seconds": ("Time of the last mark, by the venue's clock.",),
    "last_bar_timestamp_seconds": ("Time up to which the last decision had bars.",),
    "orders": ("Orders in the journal.", "state", "role"),
    "order_latency_seconds": ("Longest wait for the venue's answer to one of the latest orders.",),
    "fill_drift_usd": ("Cost of a day's fills beyond their decisions' prices; a gain is below 0.",),
    "open_spreads": ("Open option spreads.",),
    "cycles": ("Cycles that have ended.", "job", "result"),
    "last_cycle_seconds": ("Duration of the last cycle.", "job"),
    "last_cycle_timestamp_seconds": ("End of the last cycle, by the venue's clock.", "job"),
    "next_cycle_overdue_timestamp_seconds": ("Time by which the next cycle must have ended.",),
    "halt": ("1 while a halt is active.", "kind"),
    "discrepancies": ("Symbols in quarantine: positions or orders differ from the journal.",),
    "refusal_causes": ("Causes of refused orders; urgent ones concern reductions.", "urgent"),
    "kill_file": ("1 while the kill file stops the account.",),
    "alerts": ("Alerts sent.",),
}
COUNTERS = ("cycles", "alerts")
_CYCLE_COUNTS_SQL = """
    SELECT job, CASE WHEN failure != '' THEN 'failed' WHEN decision != '' THEN 'decided'
    ELSE 'idle' END AS result, count(*)
    FROM cycles WHERE ended_at IS NOT NULL GROUP BY job, result
"""
_LAST_CYCLES_SQL = """
    SELECT job, began_at, ended_at FROM cycles WHERE number IN
    (SELECT max(number) FROM cycles WHERE ended_at IS NOT NULL GROUP BY job)
"""
_LATENCY_SQL = """
    SELECT kind, subject, at FROM events WHERE number > ? AND (kind LIKE 'noted %' OR kind IN
    ('submitting', 'unknown', 'not_received', 'accepted', 'rejected', 'denied', 'filled'))
    ORDER BY number
"""

# Values of a metric by the values of its labels; empty if nothing is known.
Samples = Mapping[tuple[str, ...], float]


def read_metrics(path: Path) -> str:
    """Return the metrics of the account whose journal is at `path`, as Prometheus' text."""
    refuse_empty_journal(path)
    with open_journal_for_reading(path) as database:
        return format_metrics(path.parent.name, build_metrics(database, path.parent))


def format_metrics(account: str, metrics: Mapping[str, Samples]) -> str:
    """Return metrics as Prometheus' text, each sample with the label `account`."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    class Families:
        def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
            for name, samples in metrics.items():
                meaning, *labels = METRICS[name]
                kind = CounterMetricFamily if name in COUNTERS else GaugeMetricFamily
                family = kind(f"{METRIC_PREFIX}{name}", meaning, labels=("account", *labels))
                for values, value in samples.items():
                    family.add_metric((account, *values), value)
                yield family

    registry = CollectorRegistry()
    registry.register(Families())
    return generate_latest(registry).decode()


def build_metrics(database: Database, folder: Path) -> dict[str, Samples]:
    """Return the metrics of an account from its journal, by name.

    folder: folder of the account, whose name is the account's.
    """
    events, book = EventLog(database), OrderStore(database)
    DecisionJournal(database, events, book, TRADE_JOB)  # creates what an empty journal lacks
    mark = EquityMarkJournal(database).last_mark()
    contracts = is_event_contract_account(folder.name)
    return {
        **({} if mark is None else _mark_metrics(mark, contracts=contracts)),
        **_order_metrics(database, events, book),
        **_cycle_metrics(database),
        **_halt_metrics(database, events, folder),
    }


def _mark_metrics(mark: EquityMark, *, contracts: bool) -> dict[str, Samples]:
    """Return the metrics of the last equity mark.

    contracts: true for an account of event contracts.
    """
    gross = {"stock": mark.gross_stock, "crypto": mark.gross_crypto}
    if contracts:
        gross = {"contract": sum(abs(value) for value in mark.positions.values())}
    ratios = {name: value / mark.equity for name, value in gross.items() if mark.equity > 0}
    return {
        "equity_usd": _unlabelled(mark.equity),
        "cash_usd": _unlabelled(mark.cash),
        "position_usd": {(symbol,): value for symbol, value in mark.positions.items()},
        "gross_ratio": {(name,): ratio for name, ratio in ratios.items()},
        "stock_ceiling_ratio": _unlabelled(None if contracts else mark.stock_ceiling),
        "daily_loss_ratio": _unlabelled(float(mark.index_point.daily_loss)),
        "drawdown_ratio": _unlabelled(float(mark.index_point.drawdown)),
        "last_mark_timestamp_seconds": _timestamp(mark.at),
    }


def _order_metrics(database: Database, events: EventLog, book: OrderStore) -> dict[str, Samples]:
    """Return the metrics of orders, their fills, and the data of decisions."""
    counts = database.query("SELECT state, role, count(*) FROM intents GROUP BY state, role")
    last = events.last_event_number()
    latest = database.query("SELECT at FROM events WHERE number = ?", (last,))
    since = event_number_at(database, np.datetime64(latest[0][0], "ns") - DAY) if latest else 0
    bars = database.query("SELECT max(at) FROM decisions WHERE job = ?", (TRADE_JOB,))
    waits = _order_latencies(database, last - MAX_LATENCY_EVENTS)
    return {
        "orders": {(state, role or "none"): count for state, role, count in counts},
        "order_latency_seconds": _unlabelled(max(waits, default=None)),
        "fill_drift_usd": _unlabelled(fill_drift_usd(database, book, since)),
        "last_bar_timestamp_seconds": _timestamp(bars[0][0]),
        "open_spreads": _unlabelled(len(events.last_reported_positions(SPREADS_JOB))),
    }


def _order_latencies(database: Database, event: int) -> Iterator[float]:
    """Yield the time from each submission after an event to the next event of its order, s."""
    sent: dict[str, float] = {}
    for kind, order, at in database.query(_LATENCY_SQL, (event,)):
        if kind == "submitting":
            sent[order] = _seconds(at)
        elif order in sent:
            yield _seconds(at) - sent.pop(order)


def _cycle_metrics(database: Database) -> dict[str, Samples]:
    """Return the metrics of cycles, and the deadline of the next one."""
    last = database.query(_LAST_CYCLES_SQL)
    expected = NextCycleJournal(database, 0.0).next_cycle()
    return {
        "cycles": {(job, result): n for job, result, n in database.query(_CYCLE_COUNTS_SQL)},
        "last_cycle_seconds": {(job,): _seconds(end) - _seconds(begin) for job, begin, end in last},
        "last_cycle_timestamp_seconds": {(job,): _seconds(end) for job, _, end in last},
        "next_cycle_overdue_timestamp_seconds": _timestamp(
            expected.overdue_at if expected else None
        ),
    }


def _halt_metrics(database: Database, events: EventLog, folder: Path) -> dict[str, Samples]:
    """Return the metrics of what keeps orders back, and of alerts."""
    halts = HaltJournal(database, events)
    active = {halt.kind for halt in halts.active()}
    refusals = [each for each in read_active_refusals(database) if not each.is_venue_pause]
    urgent = sum(each.is_urgent for each in refusals)
    alerts = AlertJournal(database, NULL_REDACTOR).latest(1)
    return {
        "halt": {(kind,): float(kind in active) for kind in get_args(HaltKind)},
        "discrepancies": _unlabelled(len(halts.quarantined_symbols())),
        "refusal_causes": {("true",): urgent, ("false",): len(refusals) - urgent},
        "kill_file": _unlabelled(float(may_exist(folder / KILL_FILE))),
        "alerts": _unlabelled(alerts[0].number if alerts else 0),
    }


def _unlabelled(value: float | None) -> Samples:
    """Return the samples of a metric without labels; none if the value is unknown."""
    return {} if value is None else {(): value}


def _timestamp(at: np.datetime64 | str | None) -> Samples:
    return {} if at is None else {(): _seconds(at)}


def _seconds(at: np.datetime64 | str) -> float:
    """Return an instant as seconds since 1970."""
    instant = np.datetime64(at) if isinstance(at, str) else at
    return float(instant.astype("datetime64[us]").astype(np.int64)) / 1e6


class MetricsFile:
    """Writer of an account's metrics; it writes no file if the account's journal is in memory."""

    def __init__(self, account: OpenAccount) -> None:
        self._account = account
        self._written = -1  # number of the last event at the last writing
        self._fails = False

    def refresh(self, *, force: bool = False) -> None:
        """Rewrite the file if there are new events. A failure is logged once and not raised.

        force: true to write it anyway.
        """
        account = self._account
        if (journal := account.database.path) is None:
            return
        try:
            event = account.events.last_event_number()
            if force or event != self._written:
                text = format_metrics(account.name, build_metrics(account.database, journal.parent))
                path = journal.with_name(METRICS_FILE)
                write_atomically(path, text.encode(), is_private=True)
            self._written = event
            self._fails = False
        except Exception as error:
            # No failure of the metrics stops the loop; the age of the file shows it.
            if not self._fails:
                log.error("%s: cannot write the metrics", journal.parent, exc_info=error)
            self._fails = True
