"""The unattended loop: one process, one account, its jobs, until it is told to stop."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from execution.brokers import CLOCK_TOLERANCE, EstimatedClock, broker_connection
from execution.decision.trader import Trader
from execution.journal.cycles import cycle_count
from execution.journal.order_store import OrderState, OrderStore
from execution.journal.refusals import PAUSE_CAUSE
from execution.live.account import LiveAccount
from execution.live.account_lock import FLATTEN, JOURNAL_FILE
from execution.live.accounts import TRADE_JOB
from execution.live.asset_check import refuse_misspelt
from execution.live.cycle import Cycle
from execution.live.loop import (
    VENUE_RETRY_SECONDS,
    Job,
    Loop,
    LoopClock,
    StopSignal,
    print_line,
    stop_on_signals,
)
from execution.live.open_account import OpenAccount, open_account
from execution.live.settings import LiveSettings
from execution.live.status_page import NO_CYCLE_DUE, PageLimits, PageSection, StatusPage
from execution.live.trading import TradingJob
from foundation.clock import TimeSource, utc_now
from foundation.database import DatabaseFailed
from foundation.errors import AccessDenied, BrokerError, ResponseRejected
from foundation.formatting import count_text, usd
from foundation.notifier import Supervisor
from foundation.plugin import load_entry_point
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import ApiKeys
from trainingdata.instants import utc_text

log = logging.getLogger("live")

Answer = TypeVar("Answer")

STARTUP_EXTENSION_USEC = (
    60_000_000  # microseconds by which a supervisor is to wait longer for the start
)
KILL_FILE_REASON = "the kill file is there"
DECISION_EVENTS = (
    "kind IN ('planned', 'denied', 'submitting')"  # events of an order's own beginning
)
# Events that record fills of an order, whole or in part; the venue writes none as 0, 0.00 or null.
FILL_EVENTS = "kind LIKE 'noted %' AND CAST(json_extract(content, '$.filled') AS REAL) > 0"
NEVER_SUBMITTED: tuple[OrderState, ...] = ("planned", "denied")
MAX_UNREADABLE_CLOCKS = (
    3  # readings in a row that make no sense, after which the next step meets them
)


class ProductJob(Job, Protocol):
    """A job as a product registers it: its module's `open_job` is its context.

    section: that it adds to the account's page.
    """

    @property
    def section(self) -> PageSection: ...


class CycleReports(Protocol):
    """What shows a loop's cycles to a person."""

    def report(self, cycle: Cycle) -> None: ...


@contextmanager
def trading_loop(
    settings: LiveSettings,
    keys: ApiKeys,
    feed: BarFeed,
    trader: Trader | None,
    supervisor: Supervisor,
    *,
    cycles: int | None,
    reports: CycleReports | None = None,
) -> Iterator[Loop | None]:
    """The loop over an account of Alpaca's; none where it was told to stop before it began.

    trader: decides for the job of stocks and coins; none where that is not among the jobs.
    supervisor: told that the loop is ready and alive.
    cycles: how many to make; none makes them until it is told to stop.
    reports: shows every cycle; None shows none.
    """
    stop = StopSignal()
    with ExitStack() as held:
        held.enter_context(stop_on_signals(stop))
        connection = broker_connection(settings.broker, keys)
        account_id = await_venue(connection.account_id, stop, supervisor, patient=cycles is None)
        if account_id is None:
            yield None
            return
        if trader is not None:
            gateway = connection.broker(terms=settings.orders, feed=feed)
            journal = Path(settings.folder) / account_id / JOURNAL_FILE
            refuse_misspelt(gateway, settings.tradable_symbols, journal)
        account = held.enter_context(
            open_account(
                account_id,
                Path(settings.folder),
                keys,
                EstimatedClock(connection),
                settings.healthcheck_url,
                settings.alert_url,
                cycle_seconds=settings.cycle_seconds,
                replace_damaged=True,
                unattended=cycles is None,
            )
        )
        account.next_cycle.expect("the first cycle", utc_now(), utc_now())
        live = LiveAccount(connection, account, settings, feed, stop)
        sections: list[PageSection] = []
        jobs: list[Job] = []
        if trader is not None:
            jobs.append(TradingJob(live, feed, trader, settings, cycles=cycles))
        for word in settings.jobs:
            if word == TRADE_JOB:
                continue
            open_job = load_entry_point("jobs", word)
            job: ProductJob = held.enter_context(open_job(settings, keys, live))
            sections.append(job.section)
            # What is open has its stops looked at first.
            jobs.insert(0, job)

        limits = settings.limits
        yield held.enter_context(
            supervised_loop(
                jobs,
                account,
                stop,
                supervisor,
                clock=WatchedClock(live),
                bounds=PageLimits(limits.symbol_cap, settings.guards, limits.crypto_leverage),
                sections=sections,
                max_failed_cycles=settings.max_failed_cycles,
                reports=reports,
            )
        )


class LoopKeeper:
    """Keeps supervisor, notices, page and the announced cycle up to date while a loop runs."""

    def __init__(
        self,
        account: OpenAccount,
        stop: StopSignal,
        supervisor: Supervisor,
        page: StatusPage,
        reports: CycleReports | None,
    ) -> None:
        self._account = account
        self._stop = stop
        self._supervisor = supervisor
        self._page = page
        self._reports = reports
        self._announced: set[np.datetime64] = set()

    def expect(self, job: str, due: np.datetime64, now: np.datetime64) -> None:
        self._account.next_cycle.expect(job, due, now)

    def wait(self, job: str, due: np.datetime64) -> None:
        self._keep(f"{job} at {utc_text(due)}")
        if job == TRADE_JOB and due not in self._announced:
            self._announced.add(due)
            print_line(f"The next cycle is at {utc_text(due)}.")

    def end_step(self, job: str, outcome: object) -> None:
        if self._reports is not None and isinstance(outcome, Cycle):
            self._reports.report(outcome)
        self._account.refusals.end_step()
        self._keep(f"{job} has ended a step")

    def _keep(self, state: str) -> None:
        self._supervisor.notify(WATCHDOG=1, STATUS=state)
        self._account.notices.heartbeat()
        if self._account.killed:
            self._stop.tell(KILL_FILE_REASON)
        self._page.refresh()


@contextmanager
def supervised_loop(
    jobs: Sequence[Job],
    account: OpenAccount,
    stop: StopSignal,
    supervisor: Supervisor,
    *,
    clock: LoopClock,
    bounds: PageLimits,
    sections: Sequence[PageSection],
    max_failed_cycles: int,
    reports: CycleReports | None = None,
) -> Iterator[Loop]:
    """The loop over the jobs of an account, which are ended where it was told to stop.

    supervisor: told that the loop is ready and alive.
    clock, max_failed_cycles: as for `Loop`.
    bounds, sections: as for the account's page, which is kept meanwhile.
    reports: shows every cycle; None shows none.
    """
    page = StatusPage(account, bounds, sections)
    if page.path is not None:
        print_line(f"Status page: {page.path.absolute()}")
    with print_summary_at_end(account, stop), page.written_while_running(stop):
        supervisor.notify(READY=1)
        keeper = LoopKeeper(account, stop, supervisor, page, reports)
        yield Loop(jobs, clock, stop, account.notices, keeper, max_failed_cycles)
        if not stop:
            account.next_cycle.expect_none()
            account.events.append("stopped", jobs[-1].name, {"why": NO_CYCLE_DUE})
        else:
            supervisor.notify(STOPPING=1)
            finish(jobs, account, stop)


@contextmanager
def print_summary_at_end(account: OpenAccount, stop: StopSignal) -> Iterator[None]:
    """Print one line on a loop's cycles, orders and fills once it ends, from its journal."""
    event, cycle = account.events.last_number(), cycle_count(account.database)
    end = "by an error"
    try:
        yield
        end = stop.why or NO_CYCLE_DUE
    finally:
        # An unreadable journal has already ended the loop with an error.
        with suppress(DatabaseFailed):
            print_line(f"Ended ({end}): {_done_since(account, event, cycle)}.")


def _done_since(account: OpenAccount, event: int, cycle: int) -> str:
    """Return cycles, orders and fills since an event and a cycle, and the account's state."""
    cycles = cycle_count(account.database) - cycle
    mark = account.marks.last_mark()
    equity = "equity not read" if mark is None else f"equity {usd(mark.equity)}"
    halts = ", ".join(halt.kind for halt in account.halts.active())
    refusals = account.refusals.active()
    refused = [each for each in refusals if not each.is_pause]
    parts = [
        count_text(cycles, "cycle"),
        *_orders_since(account.book, event),
        equity,
        f"halted: {halts}" if halts else "no halt",
        *([PAUSE_CAUSE] if any(each.is_pause for each in refusals) else []),
        *([f"the venue refuses orders: {count_text(len(refused), 'cause')}"] if refused else []),
    ]
    return ", ".join(parts)


def _orders_since(book: OrderStore, event: int) -> list[str]:
    """Return the orders since an event in words, counted by their final state in the journal.

    An order that was submitted is sent. An order with a fill is filled, whole or in part.
    """
    decided = Counter(intent.state for intent in book.with_event_since(event, DECISION_EVENTS))
    unsent = sum(decided[state] for state in NEVER_SUBMITTED)
    filled = book.with_event_since(event, FILL_EVENTS)
    in_part = sum(intent.state != "filled" for intent in filled)
    apart = {
        f"{in_part} of them in part": in_part,
        f"{count_text(decided['rejected'], 'order')} refused": decided["rejected"],
        f"{count_text(unsent, 'order')} not sent": unsent,
    }
    return [
        f"{count_text(decided.total() - unsent, 'order')} sent",
        f"{count_text(len(filled), 'order')} filled",
        *(words for words, count in apart.items() if count),
    ]


def await_venue(
    ask: Callable[[], Answer],
    stop: StopSignal,
    supervisor: Supervisor,
    *,
    patient: bool,
    hopeless: tuple[type[BrokerError], ...] = (AccessDenied,),
) -> Answer | None:
    """What a venue answers once it is there; none where it was told to stop before that.

    patient: whether a venue that does not answer is asked again.
    hopeless: failures after which it is asked no more.
    """
    said = False
    while not stop:
        try:
            return ask()
        except BrokerError as error:
            if not patient or isinstance(error, hopeless):
                raise
            log.warning("the venue is not there yet: %s", error)
            if not said:
                print_line(
                    f"Waiting for the venue, asked every {VENUE_RETRY_SECONDS:.0f} s: {error}."
                )
            said = True
            supervisor.notify(
                EXTEND_TIMEOUT_USEC=STARTUP_EXTENSION_USEC, STATUS="waiting for the venue"
            )
        stop.wait(VENUE_RETRY_SECONDS)
    print_line("Stopped while it waited for the venue: nothing was sent.")
    return None


def finish(jobs: Sequence[Job], account: OpenAccount, stop: StopSignal) -> None:
    """Cancel what works, close what is to be closed, and say what came of it.

    Trouble of one job keeps no other from ending.
    """
    stop.flattening = flatten = _says_flatten(account.kill_file)
    account.events.append("stopped", jobs[-1].name, {"why": stop.why, "flatten": flatten})
    account.notices.alert("stopped", f"the loop was told to stop: {stop.why}")
    left: list[str] = []
    troubles = []
    for job in jobs:
        try:
            left += job.finish(flatten=flatten)
        except BrokerError as error:
            log.error("%s: %s", job.name, error)
            troubles.append(f"{job.name}: {error}")
    if troubles:
        what = "cancelled or closed" if flatten else "cancelled"
        raise BrokerError(f"stopped ({stop.why}), and not all was {what}: {'; '.join(troubles)}")
    done = "positions are as they were"
    if flatten:
        done = f"NOT closed: {', '.join(left)}" if left else "everything of ours was closed"
    if left:
        account.notices.alert("flatten", f"told to close everything ({stop.why}), and {done}")
    print_line(f"Stopped ({stop.why}): what worked was cancelled, {done}.")


def _says_flatten(kill_file: Path) -> bool:
    try:
        return FLATTEN in kill_file.read_text(encoding="utf-8", errors="replace").lower()
    except OSError:
        return False


class SteadyClock:
    """A clock that always answers, as this machine's does; time: by which it goes."""

    def __init__(self, time: TimeSource) -> None:
        self._time = time

    def now(self) -> np.datetime64:
        return self._time.now()

    def is_answering(self) -> bool:
        return True


class WatchedClock:
    """A venue's clock, as the loop reads it while it waits.

    live: the account there, which is looked at when the venue is back, or its clock has gone back.
    """

    def __init__(self, live: LiveAccount) -> None:
        self._live = live
        self._connection = live.connection
        self._away = False
        self._refusals = 0
        self._shown: np.datetime64 | None = None

    def is_answering(self) -> bool:
        """Whether the venue answered when its clock was last read.

        Three answers in a row that make no sense are answers: the next step is refused by what they
        say, and nobody waits for better ones.
        """
        return not self._away or self._refusals >= MAX_UNREADABLE_CLOCKS

    def now(self) -> np.datetime64:
        """What the venue's clock shows, or must show by now where it does not answer."""
        try:
            now = self._connection.now()
            if self._away or (self._shown is not None and now < self._shown - CLOCK_TOLERANCE):
                self._live.check_account_id()
        except BrokerError as error:
            log.warning("%s", error)
            self._refusals = self._refusals + 1 if isinstance(error, ResponseRejected) else 0
            if not self._away:
                print_line(
                    f"Waiting for the venue, which is asked again every few seconds: {error}."
                )
            self._away = True
            return self._estimated_now()
        if self._away:
            print_line(f"The venue answers again; its clock is {utc_text(now)}.")
        self._away = False
        self._refusals = 0
        self._shown = now
        return now

    def _estimated_now(self) -> np.datetime64:
        try:
            return self._connection.estimated_now()
        except BrokerError:
            return self._connection.time.now()
