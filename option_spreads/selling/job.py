"""The job that sells spreads and follows them, alone or beside the one of stocks and coins."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from execution.alpaca.options import AlpacaSpreads
from execution.journal.events import HELD, EventLog
from execution.journal.order_store import OrderIntent
from execution.journal.outbox import Guard
from execution.live.account import AnotherAccount, LiveAccount
from execution.live.accounts import SPREADS, TRADE
from execution.live.loop import print_line
from execution.live.page import Section
from execution.live.settings import LiveSettings
from execution.orders.risk_snapshot import RiskSnapshot
from foundation.compose import composed_config
from foundation.database import DatabaseFailed
from foundation.errors import BrokerError, InputError
from foundation.page import table_html
from foundation.tables import Table
from option_spreads.autoscaler.account import AccountFiles, UnknownState
from option_spreads.selling.seller import TROUBLE, SpreadSeller, told, trouble_text
from option_spreads.selling.settings import SellingSettings
from option_spreads.selling.state import FILE, OpenSpread, collateral, read_state
from trainingdata.feed.endpoint import Keys

log = logging.getLogger(__name__)

MARKED_EVERY = np.timedelta64(1, "m")
CLOSING_LOOKS = 3  # until what was to be bought back is said to be open
FOLDER = "spreads folder"  # whose files say what is open, in the journal


def spread_guard(
    guard: Guard,
    look: Callable[[], RiskSnapshot],
    files: AccountFiles,
    tell: Callable[[str, str], None],
) -> Guard:
    """A guard that looks at the account before a spread is sold.

    guard: has the last word.
    look: reads the account; a venue that does not answer raises, and nothing is sent.
    files: of the account that spreads are sized from.
    tell: has a person told why a spread is not sold, as `Notices.tell`; of none once one is.
    """

    def guarded(intent: OrderIntent, now: np.datetime64, seen: RiskSnapshot | None) -> str:
        if intent.part == "reduction":
            return guard(intent, now, seen)
        try:
            balance = float(files.read().certain_balance)
        except UnknownState as error:
            why = f"unknown state: {error}"
        else:
            why = guard(intent, now, replace(look(), balance=balance))
        tell("withheld", f"{intent.client_order_id} is not sold: {why}" if why else "")
        return why

    return guarded


class SpreadJob:
    """Looks at what is open, every few seconds.

    Whatever a look meets, the next one comes: what is open has to be followed.

    live: the account, whose journal, guards and notices it shares.
    over: whether the loop ends, as its other job has made all its cycles.
    marks: whether it marks the account, which no other job does then.
    """

    name = SPREADS

    def __init__(
        self,
        settings: SellingSettings,
        keys: Keys,
        live: LiveAccount,
        over: Callable[[], bool],
        *,
        marks: bool,
    ) -> None:
        self._over = over
        self._marks = marks
        self._marked_at: np.datetime64 | None = None
        self._settings = settings
        self._live = live
        self._broker = live.connection.broker(
            book=live.book, last_prices=live.last_prices, believe=live.believe
        )
        venue = AlpacaSpreads(
            settings.broker,
            keys,
            underlying=settings.underlying,
            scale=settings.scale,
            feed=settings.feed,
            patience=settings.patience,
            book=live.book,
            guard=spread_guard(live.guards, self._snapshot, settings.account, live.notices.tell),
            job=SPREADS,
        )
        self._seller = SpreadSeller(
            venue, settings, settings.volatility, live.notices, self._reconcile
        )
        self._interval = np.timedelta64(round(settings.interval * 1000), "ms")
        self._next: np.datetime64 | None = None
        self._looks = 0
        self._shown = ""
        self._noted: list[str] | None = None  # what the journal says that is open

    @property
    def section(self) -> Section:
        """What is open, a line each, on an account's page."""

        def body() -> str:
            rows = [(str(each),) for each in self._seller.spreads] or [("none is open",)]
            return table_html(Table("Open spreads", ("spread",), rows, words=(0,)))

        return Section("Open spreads", body)

    def at_risk(self) -> Mapping[str, float]:
        """USD that open spreads can lose, and those on their way, by the root of their options."""
        return self._risk_of(self._seller.spreads)

    def _secured(self) -> Mapping[str, float]:
        """The same without what is on its way: an order that is looked at counts by itself."""
        return self._risk_of([e for e in self._seller.spreads if e.stage != "opening"])

    def _reconcile(self) -> None:
        """Compare what is held with what was done here, and have what is odd told and set aside.

        Where no cycle does it, the account is marked: what it has lost halts it.
        """
        self._live.reconcile()
        now = self._live.connection.estimated_now()
        marked = self._marked_at is not None and now < self._marked_at + MARKED_EVERY
        if self._marks and not marked:
            self._live.read_and_mark(self._broker.account)
            self._marked_at = now
        else:
            self._broker.account()

    def _snapshot(self) -> RiskSnapshot:
        return self._live.snapshot(self._broker.account(), (), at_risk=self._secured())

    def _risk_of(self, spreads: Sequence[OpenSpread]) -> Mapping[str, float]:
        return {self._settings.root: float(collateral(spreads))} if spreads else {}

    def due(self, now: np.datetime64) -> np.datetime64 | None:
        """The next look; None once all were made."""
        if self._over() or self._looks == self._settings.looks:
            return None
        # A clock that was put back keeps nobody waiting for the instant that it had shown.
        return now if self._next is None else min(self._next, now + self._interval)

    def step(self) -> None:
        """Look once, whatever the look meets.

        What ends it is a practice server that was begun again, a journal that cannot be used, a
        file of open spreads that the first look cannot read, and what the last look meets.
        """
        self._looks += 1
        trouble = self._look()
        unknown = self._looks == 1 and isinstance(trouble, UnknownState)
        is_last = self._looks == self._settings.looks
        if trouble is not None and (unknown or is_last):
            with suppress(*TROUBLE):
                self._seller.end_orders()
            raise InputError(trouble_text(trouble)) from trouble

    def _look(self) -> Exception | None:
        """The trouble that a look has met, which is told; None for none."""
        now = self._live.connection.estimated_now()
        self._next = now + self._interval
        trouble: Exception | None = None
        try:
            with told(self._live.notices, "account"):
                if self._settings.broker.on_this_machine:
                    self._live.refuse_another_account()
            self._seller.step()
        except (AnotherAccount, DatabaseFailed):
            raise
        except TROUBLE as error:
            log.exception("a look was not finished")
            trouble = error
        text = "\n".join(self._noted_lines()) or "nothing is open"
        if trouble is not None:
            text = trouble_text(trouble)
        if text != self._shown:
            self._shown = text
            print_line(text)
        return trouble

    def _noted_lines(self) -> list[str]:
        """What is open, a line each, which the journal then says too, and of which folder it is."""
        lines = [str(spread) for spread in self._seller.spreads]
        # Before it has looked nobody knows what is open.
        if self._seller.has_read and lines != self._noted:
            self._noted = lines
            events = self._live.account.events
            events.append(HELD, SPREADS, lines)
            events.append(HELD, FOLDER, [str(self._settings.account.folder.resolve())])
        return lines

    def finish(self, *, flatten: bool) -> list[str]:
        """End the orders that work, or buy back everything that is open.

        Returns the spreads that were to be bought back and are open all the same; an order that may
        go on working is a BrokerError.
        """
        if not flatten:
            try:
                self._seller.end_orders()
            except TROUBLE as error:
                raise BrokerError(trouble_text(error)) from error
            finally:
                self._noted_lines()
            return []
        self._seller.leaving = True
        for _ in range(CLOSING_LOOKS):
            self._look()
            if not self._seller.spreads:
                break
        return [each.trade_id for each in self._seller.spreads]


def refuse_another_folder(folder: Path, events: EventLog) -> None:
    """Refuse files that know nothing of a spread which other files have open in the same account.

    Nobody would look at its stops.

    events: of the account's journal.
    """
    known = {spread.trade_id for spread in read_state(folder).spreads}
    lost = [line for line in events.last_held(SPREADS) if line.partition(":")[0] not in known]
    owners = events.last_held(FOLDER)
    # A person may have taken a spread out of the file; one that is gone says nothing.
    if lost and (owners not in ([], [str(folder.resolve())]) or not (folder / FILE).exists()):
        raise InputError(
            f"{folder}: of spreads that are open in this account it knows nothing"
            f" ({'; '.join(lost)}); they are of {owners[0] if owners else 'another folder'}: name"
            " that with AUTOSCALING_DATA_DIR until they are closed and booked"
        )


@contextmanager
def open_job(
    live_settings: LiveSettings, keys: Keys, live: LiveAccount, over: Callable[[], bool]
) -> Iterator[SpreadJob]:
    """The job, at the venue and in the folder of the loop's others, while its files are locked.

    What works at the venue once the loop has made all its cycles is ended then.
    """
    selling = SellingSettings.of(composed_config("sell_spreads", list(live_settings.spreads)))
    settings = replace(selling, broker=live_settings.broker, folder=live_settings.folder)
    files = settings.account
    refuse_another_folder(files.folder, live.account.events)
    if files.empty:
        raise InputError(files.absence)
    # A file that cannot be read is refused now, not at the first entry. Each entry reads it anew,
    # because it grows by a close a day.
    settings.volatility()
    # Two sellers on one folder would write over each other's state, also with two accounts.
    lock = FileLock(files.folder / ".seller.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"{files.folder}: another seller works on this account") from None
    try:
        job = SpreadJob(settings, keys, live, over, marks=TRADE not in live_settings.jobs)
        yield job
        job.finish(flatten=False)
    finally:
        lock.release()
