"""An account that this process has locked and opened: its journal, halts and alerts."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np

from execution.journal.commands import WATCH, Command, CommandJournal
from execution.journal.cycles import NextCycleJournal
from execution.journal.decisions import DecisionJournal
from execution.journal.events import AlertJournal, EventLog
from execution.journal.halts import HALT_RULES, HaltChanges, HaltJournal, HaltKind
from execution.journal.marks import EquityMarkJournal
from execution.journal.order_store import OrderStore
from execution.journal.positions import PositionJournal
from execution.journal.refusals import ORDER_REFUSED_ALERT, RefusalJournal
from execution.live.account_lock import KILL_FILE, KillFileExists, may_exist, open_journal
from execution.live.accounts import format_account, format_clear_command
from execution.live.loop import print_line
from foundation.clock import InstantSource
from foundation.console import tolerate_print_errors
from foundation.database import Database, DatabaseFailed
from foundation.notices import alert_heading, open_services
from foundation.notifier import MonitoringSettings, Notifier
from foundation.redaction import Redactor

log = logging.getLogger(__name__)

STOP_ALERT = "stopped"
# Events of an account: the alert of a stop was sent, and a step has succeeded since.
STOP_ALERTED_EVENT = "stop alerted"
STOP_ENDED_EVENT = "stop ended"
KILL_FILE_CAUSE = "the kill file exists"


class OpenAccount:
    """Journal, halts and alerts of one account, shared by all jobs of a process.

    name: name of the account.
    database: journal of the account, which this process has locked.
    folder: folder of the journal.
    notices: sender of alerts.
    redactor: redactor that removes secrets from journal entries and printed text.
    clock: clock that returns the venue's time, or an estimate of it between readings.
    cycle_seconds: longest duration of a cycle that the settings allow, seconds.
    is_paper: true if the account trades without real money.
    """

    def __init__(
        self,
        name: str,
        database: Database,
        folder: Path,
        notices: Notifier,
        redactor: Redactor,
        clock: InstantSource,
        cycle_seconds: float = 0.0,
        *,
        is_paper: bool = False,
    ) -> None:
        self.name = name
        self.label = format_account(name, is_paper=is_paper)
        self.database = database
        self.events = EventLog(database, redactor, clock)
        self.refusals = RefusalJournal(
            database, self.events, notices, format_clear_command(ORDER_REFUSED_ALERT, folder)
        )
        self.book = OrderStore(database, self.events, self.refusals)
        self.halts = HaltJournal(database, self.events)
        self.commands = CommandJournal(database, self.events)
        self.marks = EquityMarkJournal(database)
        self.positions = PositionJournal(database)
        self.next_cycle = NextCycleJournal(database, cycle_seconds)
        self.notices = notices
        self.kill_file = folder / KILL_FILE
        self._folder = folder
        self._is_stop_reported = False
        self._clock = clock
        self._redactor = redactor
        self._alerts = AlertJournal(database, redactor, clock)
        notices.add_recorder(self)

    def record_alert(self, kind: str, text: str) -> None:
        """Record an alert in the journal, and print it on standard error."""
        self._alerts.record(kind, text)
        # The reason that ends the process is printed as its last line.
        if kind != STOP_ALERT:
            with tolerate_print_errors():
                sys.stderr.write(f"{alert_heading(kind)}: {self._redactor.redact(text)}\n")

    def now(self) -> np.datetime64:
        """Return the venue's time, estimated between two readings of its clock."""
        return self._clock.now()

    def report_stop(self, cause: str, text: str) -> None:
        """Send an alert that the loop has stopped: once per cause, until a step has succeeded.

        A supervisor may restart the process every few seconds; each start would repeat the alert.
        Further reports of this process are only logged, because they follow from the first.

        cause: reason of the stop, which identifies the alert.
        text: text of the alert.
        """
        last = self.events.last_event(self.name, STOP_ALERTED_EVENT, STOP_ENDED_EVENT)
        is_repeated = last is not None and (last.kind, last.content) == (STOP_ALERTED_EVENT, cause)
        if self._is_stop_reported or is_repeated:
            log.error("still %s: %s", STOP_ALERT, text)
        else:
            self.events.append(STOP_ALERTED_EVENT, self.name, cause)
            self.notices.alert(STOP_ALERT, text)
        self._is_stop_reported = True

    def end_stop_report(self) -> None:
        """Record that the loop runs again, so that the next stop is alerted."""
        last = self.events.last_event(self.name, STOP_ALERTED_EVENT, STOP_ENDED_EVENT)
        if last is not None and last.kind == STOP_ALERTED_EVENT:
            self.events.append(STOP_ENDED_EVENT, self.name)

    @property
    def has_kill_file(self) -> bool:
        return may_exist(self.kill_file)

    def build_decision_journal(self, job: str) -> DecisionJournal:
        return DecisionJournal(self.database, self.events, self.book, job)

    def report_command(self, command: Command) -> None:
        """Print the answer to a command; alert what was not done, and what the watch has sold."""
        text = f"command {command}: {command.state}: {command.answer}"
        print_line(text)
        if command.is_unanswered:
            return
        if command.state != "done" or (command.by == WATCH and command.verb != "pause"):
            self.notices.send_notice("command", text)

    def raise_halt(self, kind: HaltKind, why: str, *, cause: str = "") -> None:
        """Raise a halt of this kind, and send an alert about it.

        why: reason for the halt, in words.
        cause: text of the discrepancy that a person acknowledges by clearing the halt; empty if
            there is none.
        """
        new = self.halts.raise_halt(kind, why, self.now(), cause=cause)
        self._send_halt_alert(kind, why, new=new)

    def end_halt(self, kind: HaltKind) -> None:
        """End the active halt of a kind, because its cause no longer exists."""
        self.halts.apply_changes(HaltChanges(kinds_to_end=(kind,)), self.now())
        self.notices.reset_alert(f"halt {kind}")

    def alert_halt_changes(self, changes: HaltChanges) -> None:
        """Send alerts about raised halts, and end the alerts of ended halts."""
        for kind in changes.kinds_to_end:
            self.notices.reset_alert(f"halt {kind}")
        for kind, why in changes.reasons_to_raise.items():
            self._send_halt_alert(kind, why, new=True)

    def _send_halt_alert(self, kind: HaltKind, why: str, *, new: bool) -> None:
        """Send an alert about a halt, unless it was already sent.

        new: true if no halt of this kind was active before; an earlier alert is then ended first.
        """
        if new:
            self.notices.reset_alert(f"halt {kind}")
        command = format_clear_command(kind, self._folder)
        text = f"halted: {why}. {HALT_RULES[kind].remedy} Clear with: {command}"
        self.notices.alert(f"halt {kind}", text)


@contextmanager
def open_account(
    name: str,
    root: Path,
    redactor: Redactor,
    clock: InstantSource,
    *,
    monitoring: MonitoringSettings | None = None,
    cycle_seconds: float = 0.0,
    replace_damaged: bool = False,
    unattended: bool = False,
    is_dry_run: bool = False,
    is_paper: bool = False,
) -> Iterator[OpenAccount]:
    """Lock an account, and open its journal in `root/<name>`, during a `with` block.

    monitoring: recipients of heartbeats and notices; None: no recipients.
    cycle_seconds: longest duration of a cycle that the settings allow, seconds.
    replace_damaged: true to rename a damaged journal, and start a new one.
    unattended: true to send an alert about an error that ends the process.
    is_dry_run: true for a dry run: a journal in memory, no locks, and nothing written to the
        folder.
    is_paper: true if the account trades without real money.

    Raises
    ------
    KillFileExists
        if the account's kill file exists.
    InputError
        if the account's journal cannot be locked or opened.
    """
    monitoring = monitoring or MonitoringSettings()
    with ExitStack() as held:
        folder, damaged_copy = root, None
        if is_dry_run:
            database = held.enter_context(closing(Database()))
        else:
            database, folder, damaged_copy = held.enter_context(
                open_journal(name, root, replace_damaged=replace_damaged)
            )
        notices = held.enter_context(
            Notifier(
                monitoring.healthcheck_url,
                monitoring.alert_url,
                None if is_dry_run else folder,
                subject=format_account(name, is_paper=is_paper),
                services=open_services(monitoring.notice_urls),
                settings=monitoring.notices,
            )
        )
        account: OpenAccount | None = None
        try:
            found = HaltChanges()
            if damaged_copy is not None:
                why = f"the journal was damaged; it was moved to {damaged_copy.name}"
                found = HaltChanges(reasons_to_raise={"journal": why})
            # A journal is created together with the halt that it needs.
            with database.transaction():
                account = OpenAccount(
                    name,
                    database,
                    folder,
                    notices,
                    redactor,
                    clock,
                    cycle_seconds,
                    is_paper=is_paper,
                )
                account.halts.apply_changes(found, clock.now())
            account.alert_halt_changes(found)
            if account.has_kill_file:
                raise KillFileExists(
                    f"the kill file {account.kill_file} exists, so the loop does not start; remove"
                    " it first"
                )
            yield account
        except Exception as error:
            # Without the loop, the account is unattended.
            if unattended:
                _report_failure(account, notices, error)
            raise


def _report_failure(account: OpenAccount | None, notices: Notifier, error: Exception) -> None:
    """Send an alert about an error that ends the process.

    account: the account; None if the error prevented it from being opened.
    """
    text = f"the loop has stopped: {error}"
    cause = KILL_FILE_CAUSE if isinstance(error, KillFileExists) else str(error)
    try:
        if account is not None:
            account.report_stop(cause, text)
            return
    except DatabaseFailed as failure:
        log.warning("cannot record the stop in the journal: %s", failure)
    notices.alert(STOP_ALERT, text)
