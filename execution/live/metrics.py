"""Metrics of an account for Prometheus: the file `metrics.prom` in the account's folder.

The loop rewrites the file after every change of the journal, and `python -m execution.live metrics`
prints the same from the journal. Each metric has its meaning in the file, as a HELP line. Times are
seconds since 1970: `time() - kelly_chronos_last_mark_timestamp_seconds` is the age of a mark.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

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
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.database import Database
from foundation.files import atomic_file
from foundation.redaction import NULL_REDACTOR
from trainingdata.instants import DAY

log = logging.getLogger(__name__)

METRICS_FILE = "metrics.prom"
METRIC_PREFIX = "kelly_chronos_"
OWNER_ONLY_FILE_MODE = 0o600
WRITE_PAUSE_RATIO = 20.0  # pause before the next file, as a multiple of the last writing time
MAX_LATENCY_EVENTS = 2000  # latest events, among which submissions and their answers are searched

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


class Metric(NamedTuple):
    """A metric with its samples.

    name: name without the prefix, and without the suffix `_total` of a counter.
    meaning: HELP line.
    samples: values by the values of the labels; empty if nothing is known.
    labels: names of the labels besides `account`.
    is_counter: true if the value only grows.
    """

    name: str
    meaning: str
    samples: Mapping[tuple[str, ...], float]
    labels: Sequence[str] = ()
    is_counter: bool = False


def read_metrics(path: Path) -> str:
    """Return the metrics of the account whose journal is at `path`, as Prometheus' text."""
    refuse_empty_journal(path)
    with open_journal_for_reading(path) as database:
        return format_metrics(path.parent.name, build_metrics(database, path.parent))


def format_metrics(account: str, metrics: Iterable[Metric]) -> str:
    """Return metrics as Prometheus' text, each sample with the label `account`."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    class Families:
        def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
            for metric in metrics:
                kind = CounterMetricFamily if metric.is_counter else GaugeMetricFamily
                labels = ("account", *metric.labels)
                family = kind(f"{METRIC_PREFIX}{metric.name}", metric.meaning, labels=labels)
                for values, value in metric.samples.items():
                    family.add_metric((account, *values), value)
                yield family

    registry = CollectorRegistry()
    registry.register(Families())
    return generate_latest(registry).decode()


def build_metrics(database: Database, folder: Path) -> list[Metric]:
    """Return the metrics of an account from its journal.

    folder: folder of the account, whose name is the account's.
    """
    events, book = EventLog(database), OrderStore(database)
    DecisionJournal(database, events, book, TRADE_JOB)  # creates what an empty journal lacks
    mark = EquityMarkJournal(database).last_mark()
    return [
        *(_mark_metrics(mark, contracts=is_event_contract_account(folder.name)) if mark else ()),
        *_order_metrics(database, events, book),
        *_cycle_metrics(database),
        *_halt_metrics(database, events, folder),
    ]


def _mark_metrics(mark: EquityMark, *, contracts: bool) -> Iterator[Metric]:
    """Yield the metrics of the last equity mark.

    contracts: true for an account of event contracts.
    """
    point = mark.index_point
    gross = {"stock": mark.gross_stock, "crypto": mark.gross_crypto}
    if contracts:
        gross = {"contract": sum(abs(value) for value in mark.positions.values())}
    yield Metric("equity_usd", "Cash plus positions.", _one(mark.equity))
    yield Metric("cash_usd", "Cash, below 0 if borrowed.", _one(mark.cash))
    yield Metric(
        "position_usd",
        "Signed value of a position.",
        {(symbol,): value for symbol, value in mark.positions.items()},
        ["symbol"],
    )
    yield Metric(
        "gross_ratio",
        "Gross exposure, in multiples of equity.",
        {(name,): value / mark.equity for name, value in gross.items() if mark.equity > 0},
        ["asset_class"],
    )
    yield Metric(
        "stock_ceiling_ratio",
        "Largest gross exposure in stocks that is allowed, in multiples of equity.",
        _one(None if contracts else mark.stock_ceiling),
    )
    yield Metric(
        "daily_loss_ratio",
        "Fraction lost on the New York date of the last mark, below 0 for a gain.",
        _one(float(point.daily_loss)),
    )
    yield Metric("drawdown_ratio", "Fraction lost since the peak.", _one(float(point.drawdown)))
    yield Metric(
        "last_mark_timestamp_seconds",
        "Time of the last mark, by the venue's clock.",
        _one(_seconds(mark.at)),
    )


def _order_metrics(database: Database, events: EventLog, book: OrderStore) -> Iterator[Metric]:
    """Yield the metrics of orders, their fills, and the data of decisions."""
    counts = database.query("SELECT state, role, count(*) FROM intents GROUP BY state, role")
    yield Metric(
        "orders",
        "Orders in the journal.",
        {(state, role or "none"): count for state, role, count in counts},
        ["state", "role"],
    )
    last_event = events.last_event_number()
    waits = list(_order_latencies(database, last_event - MAX_LATENCY_EVENTS))
    yield Metric(
        "order_latency_seconds",
        f"Longest wait for the venue's answer to an order, among the last {MAX_LATENCY_EVENTS}"
        " events.",
        _one(max(waits, default=None)),
    )
    latest = database.query("SELECT at FROM events WHERE number = ?", (last_event,))
    since = event_number_at(database, np.datetime64(latest[0][0], "ns") - DAY) if latest else 0
    yield Metric(
        "fill_drift_usd",
        "Cost of the last day's fills beyond their decisions' prices, below 0 for a gain.",
        _one(fill_drift_usd(database, book, since)),
    )
    [(last_bar,)] = database.query("SELECT max(at) FROM decisions WHERE job = ?", (TRADE_JOB,))
    yield Metric(
        "last_bar_timestamp_seconds",
        "Time up to which the last decision had bars.",
        _one(None if last_bar is None else _seconds(last_bar)),
    )
    yield Metric(
        "open_spreads",
        "Open option spreads.",
        _one(len(events.last_reported_positions(SPREADS_JOB))),
    )


def _order_latencies(database: Database, event: int) -> Iterator[float]:
    """Yield the time from each submission after an event to the next event of its order, s."""
    sent: dict[str, float] = {}
    for kind, order, at in database.query(_LATENCY_SQL, (event,)):
        if kind == "submitting":
            sent[order] = _seconds(at)
        elif order in sent:
            yield _seconds(at) - sent.pop(order)


def _cycle_metrics(database: Database) -> Iterator[Metric]:
    """Yield the metrics of cycles, and the deadline of the next one."""
    yield Metric(
        "cycles",
        "Cycles that have ended, by result.",
        {(job, result): count for job, result, count in database.query(_CYCLE_COUNTS_SQL)},
        ["job", "result"],
        is_counter=True,
    )
    last = database.query(_LAST_CYCLES_SQL)
    yield Metric(
        "last_cycle_seconds",
        "Duration of the last cycle.",
        {(job,): _seconds(ended) - _seconds(began) for job, began, ended in last},
        ["job"],
    )
    yield Metric(
        "last_cycle_timestamp_seconds",
        "End of the last cycle, by the venue's clock.",
        {(job,): _seconds(ended) for job, _, ended in last},
        ["job"],
    )
    expected = NextCycleJournal(database, 0.0).next_cycle()
    yield Metric(
        "next_cycle_overdue_timestamp_seconds",
        "Time by which the next cycle must have ended; absent if none is scheduled.",
        _one(None if expected is None else _seconds(expected.overdue_at)),
    )


def _halt_metrics(database: Database, events: EventLog, folder: Path) -> Iterator[Metric]:
    """Yield the metrics of what keeps orders back, and of alerts."""
    halts = HaltJournal(database, events)
    active = {halt.kind for halt in halts.active()}
    yield Metric(
        "halt",
        "1 while a halt is active.",
        {(kind,): float(kind in active) for kind in get_args(HaltKind)},
        ["kind"],
    )
    yield Metric(
        "discrepancies",
        "Symbols in quarantine, because positions or orders differ from the journal.",
        _one(len(halts.quarantined_symbols())),
    )
    refusals = [each for each in read_active_refusals(database) if not each.is_venue_pause]
    urgent = sum(each.is_urgent for each in refusals)
    yield Metric(
        "refusal_causes",
        "Causes for which the venue refuses orders; urgent ones concern reductions.",
        {("true",): urgent, ("false",): len(refusals) - urgent},
        ["urgent"],
    )
    yield Metric(
        "kill_file",
        "1 while the kill file stops the account.",
        _one(float(may_exist(folder / KILL_FILE))),
    )
    alerts = AlertJournal(database, NULL_REDACTOR).latest(1)
    yield Metric("alerts", "Alerts sent.", _one(alerts[0].number if alerts else 0), is_counter=True)


def _one(value: float | None) -> dict[tuple[str, ...], float]:
    """Return the samples of a metric without labels; none if the value is unknown."""
    return {} if value is None else {(): value}


def _seconds(at: np.datetime64 | str) -> float:
    """Return an instant as seconds since 1970."""
    instant = np.datetime64(at) if isinstance(at, str) else at
    return float(instant.astype("datetime64[us]").astype(np.int64)) / 1e6


class MetricsFile:
    """Writer of an account's metrics, in the process that has the account's journal open.

    account: the account; no file is written if its journal is in memory.
    time: clock that measures the time to write the file.
    """

    def __init__(self, account: OpenAccount, time: TimeSource = SYSTEM_TIME) -> None:
        self._account = account
        self._time = time
        self._written: object = None
        self._rests_until = -np.inf
        self._fails = False

    def refresh(self) -> None:
        """Rewrite the file if this process has changed the journal since.

        A failure is logged once and not raised. Writing takes at most 5 % of the time.
        """
        journal = self._account.database.path
        begun = self._time.monotonic()
        if journal is None or begun < self._rests_until:
            return
        try:
            change = self._account.database.query("SELECT total_changes()")
            if change != self._written:
                self._write(journal.parent)
                self._written = change
            self._fails = False
        except Exception as error:
            # No failure of the metrics stops the loop; the age of the file shows it.
            if not self._fails:
                log.error("%s: cannot write the metrics", journal.parent, exc_info=error)
            self._fails = True
        now = self._time.monotonic()
        self._rests_until = now + WRITE_PAUSE_RATIO * (now - begun)

    def _write(self, folder: Path) -> None:
        account = self._account
        metrics = build_metrics(account.database, folder)
        with atomic_file(folder / METRICS_FILE) as part:
            part.touch(mode=OWNER_ONLY_FILE_MODE)
            part.write_text(format_metrics(account.name, metrics), encoding="utf-8")
