"""Job of the live loop that sells and monitors spreads, alone or beside stocks and crypto."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from execution.alpaca.options import AlpacaSpreadAccount
from execution.journal.commands import Command
from execution.journal.events import HELD_POSITIONS_EVENT, EventLog
from execution.live.account import AccountIdMismatch, LiveAccount
from execution.live.accounts import SPREADS_JOB, TRADE_JOB
from execution.live.commands import CommandOutcome
from execution.live.guarded_broker import GuardedBroker
from execution.live.loop import print_line
from execution.live.settings import LiveSettings
from execution.live.status_page import PageSection
from execution.orders.broker import Broker
from execution.orders.gate import AnyOrder, OrderGate, OrderRole
from foundation.compose import compose_config
from foundation.database import DatabaseFailed
from foundation.errors import BrokerError, InputError
from foundation.page import render_table
from foundation.tables import Table
from option_spreads.autoscaler.account import AccountFiles, UnknownAccountState
from option_spreads.selling.seller import (
    RETRYABLE_ERRORS,
    SpreadSeller,
    alert_failures,
    format_error,
)
from option_spreads.selling.settings import SellingSettings
from option_spreads.selling.state import STATE_FILE, OpenSpread, read_state, total_collateral
from trainingdata.feed.endpoint import ApiKeys

log = logging.getLogger(__name__)

MARK_TO_MARKET_INTERVAL = np.timedelta64(1, "m")
MAX_CLOSING_POLLS = 3  # until open spreads that were to be bought back are reported
SPREADS_FOLDER_EVENT = "spreads folder"  # journal event with the folder of the open spreads


class ReconciledAccount:
    """Account of the spread seller, which is reconciled with the journal and read before each sale.

    live: account of the live loop.
    broker: broker that reads and reconciles the account.
    files: account files on which contract counts are based.
    root: root of the options' symbols, such as SPXW.
    marks_to_market: true if `reconcile` also marks the account to market.
    """

    def __init__(
        self,
        live: LiveAccount,
        broker: GuardedBroker,
        files: AccountFiles,
        root: str,
        *,
        marks_to_market: bool,
    ) -> None:
        self._live = live
        self._desk = broker
        self._files = files
        self._root = root
        self._marks = marks_to_market
        self._marked_at: np.datetime64 | None = None

    def reconcile(self) -> None:
        """Compare positions with the journal; for discrepancies, alert and quarantine symbols.

        If no other job marks the account to market, do so once a minute, so that losses can trigger
        halts.
        """
        self._live.reconcile()
        now = self._live.connection.estimated_now()
        marked = self._marked_at is not None and now < self._marked_at + MARK_TO_MARKET_INTERVAL
        if self._marks and not marked:
            self._desk.read_and_record_mark()
            self._marked_at = now
        else:
            self._desk.account()

    def build_gate(self, spreads: Sequence[OpenSpread]) -> OrderGate:
        """Return the gate of a spread order, which adds the order's loss to that of open spreads.

        Spreads in stage `opening` are left out: the order that the gate checks opens them.
        """
        held = [each for each in spreads if each.stage != "opening"]
        return SpreadGate(
            self._live, self._desk, self._files, compute_max_loss_by_root(held, self._root)
        )


class SpreadGate:
    """Gate of spread orders: it reads the account before a sale, and alerts if it denies the sale.

    max_loss_by_root: maximum loss of the open spreads, USD, by the root of their options.
    """

    def __init__(
        self,
        live: LiveAccount,
        broker: Broker,
        files: AccountFiles,
        max_loss_by_root: Mapping[str, float],
    ) -> None:
        self._live = live
        self._desk = broker
        self._files = files
        self._at_risk = max_loss_by_root

    @property
    def prices(self) -> Mapping[str, float]:
        return {}

    def refusal_reason(self, order: AnyOrder, role: OrderRole, now: np.datetime64) -> str:
        """Return why an order is denied, or an empty string if it may be sent.

        Orders that only reduce a position are checked without reading the account. Raises
        `BrokerError` if the venue does not respond; the order is then not sent.
        """
        if role == "reduction":
            return self._live.guards.build_gate(None).refusal_reason(order, role, now)
        try:
            balance = float(self._files.read_account().conservative_balance)
        except UnknownAccountState as error:
            why = f"unknown account state: {error}"
        else:
            snapshot = self._live.with_guard_data(
                self._desk.account(), (), max_loss_by_root=self._at_risk
            )
            gate = self._live.guards.build_gate(replace(snapshot, spread_capital_usd=balance))
            why = gate.refusal_reason(order, role, now)
        name = order.client_order_id
        self._live.notices.update_alert("denied", f"{name} is not sent: {why}" if why else "")
        return why


def compute_max_loss_by_root(spreads: Sequence[OpenSpread], root: str) -> Mapping[str, float]:
    """Return {root: maximum loss of all spreads together, USD}.

    Without spreads the mapping is empty.

    root: root of the options' symbols.
    """
    return {root: float(total_collateral(spreads))} if spreads else {}


class OpenSpreadsSection(PageSection):
    """Section of the status page that lists the open spreads."""

    title = "Open spreads"

    def __init__(self, seller: SpreadSeller) -> None:
        self._seller = seller

    def body(self) -> str:
        rows = [(str(each),) for each in self._seller.spreads] or [("no open spreads",)]
        return render_table(Table("Open spreads", ("spread",), rows, left_aligned_columns=(0,)))


class SpreadJob:
    """Job that polls open spreads every few seconds, and sells new ones.

    A failed poll does not stop the job, because open spreads need monitoring.

    live: account of the live loop; the job shares its journal, guards and alerts with other jobs.
    marks_to_market: true if this job marks the account to market, because no other job does.
    """

    name = SPREADS_JOB

    def __init__(
        self, settings: SellingSettings, keys: ApiKeys, live: LiveAccount, *, marks_to_market: bool
    ) -> None:
        self._settings = settings
        self._live = live
        gateway = live.connection.create_gateway(book=live.book, feed=live.feed)
        desk = GuardedBroker(gateway, live)
        venue = AlpacaSpreadAccount(
            settings.broker,
            keys,
            underlying=settings.underlying,
            scale=settings.scale,
            feed=settings.feed,
            patience=settings.order_timeout,
            book=live.book,
            job=SPREADS_JOB,
        )
        line = ReconciledAccount(
            live, desk, settings.account_files, settings.root, marks_to_market=marks_to_market
        )
        self._seller = SpreadSeller(venue, settings, settings.read_vix_closes, live.notices, line)
        self._interval = np.timedelta64(round(settings.poll_interval * 1000), "ms")
        self._next: np.datetime64 | None = None
        self._looks = 0
        self._shown = ""
        self._noted: list[str] | None = None  # open spreads as recorded in the journal

    @property
    def section(self) -> PageSection:
        return OpenSpreadsSection(self._seller)

    def next_step_time(self, now: np.datetime64) -> np.datetime64 | None:
        """Return the instant of the next poll; None after the last one."""
        if self._live.all_cycles_done or self._looks == self._settings.polls:
            return None
        # After the clock was set back, the job does not wait until the old time is reached again.
        return now if self._next is None else min(self._next, now + self._interval)

    def step(self) -> None:
        """Poll once; most failures are alerted and do not end the job.

        Raises
        ------
        AccountIdMismatch
            for a practice server that was restarted.
        DatabaseFailed
            for an unusable journal.
        InputError
            for an unreadable file of open spreads at the first poll, and if the last poll failed.
        """
        self._looks += 1
        trouble = self._poll()
        unknown = self._looks == 1 and isinstance(trouble, UnknownAccountState)
        is_last = self._looks == self._settings.polls
        if trouble is not None and (unknown or is_last):
            with suppress(*RETRYABLE_ERRORS):
                self._seller.cancel_working_orders()
            raise InputError(format_error(trouble)) from trouble

    def _poll(self) -> Exception | None:
        """Poll once, and print the open spreads or the failure; return the failure, or None.

        A restarted practice server and an unusable journal raise instead.
        """
        now = self._live.connection.estimated_now()
        self._next = now + self._interval
        trouble: Exception | None = None
        try:
            with alert_failures(self._live.notices, "account"):
                if self._settings.broker.is_loopback:
                    self._live.check_account_id()
            self._seller.step()
        except (AccountIdMismatch, DatabaseFailed):
            raise
        except RETRYABLE_ERRORS as error:
            log.exception("the poll failed")
            trouble = error
        text = "\n".join(self._record_open_spreads()) or "no open spreads"
        if trouble is not None:
            text = format_error(trouble)
        if text != self._shown:
            self._shown = text
            print_line(text)
        return trouble

    def _record_open_spreads(self) -> list[str]:
        """Return the open spreads as text, one line each, and record changes in the journal.

        The maximum loss of the spreads is passed to the account's guards.
        """
        spreads = self._seller.spreads
        self._live.spread_risk_by_job[SPREADS_JOB] = compute_max_loss_by_root(
            spreads, self._settings.root
        )
        lines = [str(spread) for spread in spreads]
        # Before the first poll it is unknown what is open.
        if self._seller.has_read and lines != self._noted:
            self._noted = lines
            events = self._live.account.events
            events.append(HELD_POSITIONS_EVENT, SPREADS_JOB, lines)
            events.append(
                HELD_POSITIONS_EVENT,
                SPREADS_FOLDER_EVENT,
                [str(self._settings.account_files.folder.resolve())],
            )
        return lines

    def trades_symbol(self, symbol: str) -> bool:
        return symbol in (self._settings.root, self._settings.underlying)

    def reduce_positions(self, command: Command) -> CommandOutcome:
        """Buy back all open spreads for `flatten`, and for `exit` of their root or underlying.

        `reduce` buys none back, because a spread is closed whole.
        """
        if command.verb == "exit" and not self.trades_symbol(command.argument):
            return CommandOutcome()
        before = [each.trade_id for each in self._seller.spreads]
        if not command.is_unanswered:
            return CommandOutcome(left=[f"spread {name}" for name in before])
        if command.verb == "reduce":
            return CommandOutcome(left=[f"spread {name} (exit closes it)" for name in before])
        self._seller.exiting = True
        try:
            left = self._buy_back_spreads()
        finally:
            self._seller.exiting = False
        return CommandOutcome(
            [f"bought back spread {name}" for name in before if name not in left],
            waiting=[f"spread {name} (buying back continues)" for name in left],
        )

    def finish(self, *, flatten: bool) -> list[str]:
        """Cancel working orders, and return []; with `flatten`, buy back all open spreads.

        With `flatten` the result is the trade ids of spreads that could not be bought back. Raises
        BrokerError if an order may still be working.
        """
        if not flatten:
            try:
                self._seller.cancel_working_orders()
            except RETRYABLE_ERRORS as error:
                raise BrokerError(format_error(error)) from error
            finally:
                self._record_open_spreads()
            return []
        self._seller.exiting = True
        return self._buy_back_spreads()

    def _buy_back_spreads(self) -> list[str]:
        """Buy back open spreads in a few polls; return the trade ids of those that stay open."""
        for _ in range(MAX_CLOSING_POLLS):
            self._poll()
            if not self._seller.spreads:
                break
        return [each.trade_id for each in self._seller.spreads]


def check_open_spreads_exist(folder: Path, events: EventLog) -> None:
    """Raise InputError if a folder lacks a spread that the account's journal records as open.

    The stops of such a spread would not be monitored. If the folder is the one that the journal
    records and its file exists, nothing is raised, because an operator may have removed the spread.

    folder: folder of the account files.
    events: events of the account's journal.
    """
    known = {spread.trade_id for spread in read_state(folder).spreads}
    lost = [
        line
        for line in events.last_reported_positions(SPREADS_JOB)
        if line.partition(":")[0] not in known
    ]
    owners = events.last_reported_positions(SPREADS_FOLDER_EVENT)
    # A person may have removed a spread from the file; a missing file proves nothing.
    if lost and (owners not in ([], [str(folder.resolve())]) or not (folder / STATE_FILE).exists()):
        raise InputError(
            f"{folder}: {STATE_FILE} lacks spreads that are open in this account"
            f" ({'; '.join(lost)}). They belong to {owners[0] if owners else 'another folder'};"
            " set AUTOSCALING_DATA_DIR to that folder until they are closed and booked"
        )


@contextmanager
def open_spread_job(
    live_settings: LiveSettings, keys: ApiKeys, live: LiveAccount
) -> Iterator[SpreadJob]:
    """Open the job with the loop's broker and folder, and lock its account files; yield the job.

    When the context exits without an error, working orders are cancelled.

    live_settings: settings of the loop, with overrides of configs/sell_spreads.yaml in `spreads`.

    Raises InputError for missing account files, for files of another account, and if another seller
    has locked them.
    """
    selling = SellingSettings.from_config(
        compose_config("sell_spreads", list(live_settings.spreads))
    )
    settings = replace(selling, broker=live_settings.broker, folder=live_settings.folder)
    files = settings.account_files
    check_open_spreads_exist(files.folder, live.account.events)
    if files.is_empty:
        raise InputError(files.missing_account_message)
    # An unreadable file is refused now instead of at the first entry. Each entry reads it again,
    # because it grows by a close a day.
    settings.read_vix_closes()
    # Two sellers on one folder would overwrite each other's state, even for two accounts.
    lock = FileLock(files.folder / ".seller.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{files.folder}: another seller uses this account; stop it and retry"
        ) from None
    try:
        job = SpreadJob(settings, keys, live, marks_to_market=TRADE_JOB not in live_settings.jobs)
        yield job
        job.finish(flatten=False)
    finally:
        lock.release()
