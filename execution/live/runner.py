"""Live loop of one account: a single process runs the account's jobs until it is stopped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from execution.brokers import (
    CLOCK_TOLERANCE,
    EstimatedClock,
    create_broker_connection,
    open_reading_gateway,
)
from execution.decision.trader import Trader
from execution.decision.watch import WatchSettings
from execution.journal.cycles import count_cycles
from execution.live.account import LiveAccount
from execution.live.account_lock import JOURNAL_FILE, KILL_FILE_FLATTEN_TEXT
from execution.live.accounts import SPREADS_JOB, TRADE_JOB
from execution.live.activity import format_activity_since
from execution.live.asset_check import refuse_misspelt_symbols
from execution.live.commands import CommandDesk
from execution.live.cycle import Cycle
from execution.live.expected_positions import ExpectedPositions, net_fills_by_symbol
from execution.live.issued_forecasts import FORECASTS_FOLDER
from execution.live.journal_sections import (
    CommandSection,
    DayProfitSection,
    EvidenceSection,
    PriceSection,
)
from execution.live.loop import (
    VENUE_RETRY_SECONDS,
    Job,
    JobLoop,
    LoopClock,
    StopSignal,
    print_line,
    stop_on_signals,
)
from execution.live.metrics import MetricsFile
from execution.live.open_account import KILL_FILE_CAUSE, OpenAccount, open_account
from execution.live.overnight import closable_positions
from execution.live.settings import LiveSettings
from execution.live.status_page import NO_CYCLE_DUE, PageSection, StatusPage, StatusPageLimits
from execution.live.summary import DailySummary
from execution.live.trading import TradingJob
from execution.live.watch import (
    AccountWatch,
    LiveAccountReader,
    SnapshotObserver,
    WatchedAccountReader,
)
from foundation.clock import TimeSource, utc_now
from foundation.database import DatabaseFailed
from foundation.errors import AccessDenied, BrokerError, DataError, ResponseRejected
from foundation.notifier import Supervisor
from foundation.plugin import load_entry_point
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import ApiKeys
from trainingdata.instants import format_utc

log = logging.getLogger("live")

ResponseT = TypeVar("ResponseT")

# Microseconds by which a process supervisor extends its start timeout.
STARTUP_EXTENSION_USEC = 60_000_000
# Consecutive unreadable clock responses after which the next step runs, and fails on them.
MAX_UNREADABLE_CLOCK_READS = 3


class PluginJob(Job, Protocol):
    """Job of a plugin; the `open_job` function that the plugin registers returns it.

    section: section that the job adds to the status page.
    """

    @property
    def section(self) -> PageSection: ...


class CycleReporter(Protocol):
    """Interface of a reporter that shows each cycle of a loop to a person."""

    def report(self, cycle: Cycle) -> None: ...


@contextmanager
def open_trading_loop(
    settings: LiveSettings,
    keys: ApiKeys,
    feed: BarFeed,
    trader: Trader | None,
    supervisor: Supervisor,
    *,
    cycles: int | None,
    reporter: CycleReporter | None = None,
) -> Iterator[JobLoop | None]:
    """Open the trading loop of an account at Alpaca, during a `with` block.

    Yields the loop, or None if a stop is requested before the venue responds.

    settings: settings of the loop.
    keys: API keys of the account.
    feed: source of bars and last trades.
    trader: trader of stocks and crypto; None if no job trades them.
    supervisor: process supervisor that is notified when the loop is ready and alive.
    cycles: number of cycles; None runs until the loop is stopped.
    reporter: reporter that shows every cycle; None shows none.
    """
    stop = StopSignal()
    with ExitStack() as held:
        held.enter_context(stop_on_signals(stop))
        connection = create_broker_connection(settings.broker, keys)
        account_id = request_until_response(
            connection.account_id, stop, supervisor, retry=cycles is None
        )
        if account_id is None:
            yield None
            return
        if trader is not None:
            journal = Path(settings.folder) / account_id / JOURNAL_FILE
            with open_reading_gateway(connection, terms=settings.orders, feed=feed) as gateway:
                refuse_misspelt_symbols(gateway, settings.tradable_symbols, journal)
        account = held.enter_context(
            open_account(
                account_id,
                Path(settings.folder),
                keys,
                EstimatedClock(connection),
                monitoring=settings,
                cycle_seconds=settings.max_cycle_seconds,
                replace_damaged=True,
                unattended=cycles is None,
                is_paper=settings.broker.paper,
            )
        )
        account.next_cycle.record_next_cycle("the first cycle", utc_now(), utc_now())
        live = LiveAccount(connection, account, settings, feed, stop)
        sections: list[PageSection] = [
            EvidenceSection(account.database),
            DayProfitSection(account),
            PriceSection(account, feed),
        ]
        jobs: list[Job] = []
        if trader is not None:
            forecasts = account.kill_file.with_name(FORECASTS_FOLDER)
            trading = TradingJob(live, feed, trader, settings, cycles=cycles, forecasts=forecasts)
            trading.protect_at_start()
            jobs.append(trading)
        for word in settings.plugin_jobs:
            open_job = load_entry_point("jobs", word)
            job: PluginJob = held.enter_context(open_job(settings, keys, live))
            sections.append(job.section)
            # Stops of open positions are checked before anything is opened.
            jobs.insert(0, job)

        limits = settings.limits
        yield held.enter_context(
            open_supervised_loop(
                jobs,
                account,
                stop,
                supervisor,
                clock=VenueLoopClock(live),
                page_limits=StatusPageLimits(
                    limits.symbol_cap, settings.guards, limits.crypto_leverage
                ),
                sections=sections,
                max_failed_cycles=settings.max_failed_cycles,
                reporter=reporter,
                watch_settings=settings.watch,
                watch_reader=LiveAccountReader(live, settings),
            )
        )


class LiveLoopObserver:
    """Loop observer for a live account.

    Keeps the process supervisor informed, sends heartbeats and the daily summary, updates the
    status page and the metrics, and records the next cycle.
    """

    def __init__(
        self,
        account: OpenAccount,
        stop: StopSignal,
        supervisor: Supervisor,
        page: StatusPage,
        reports: CycleReporter | None,
        commands: CommandDesk,
        watch: AccountWatch | None,
    ) -> None:
        self._account = account
        self._metrics = MetricsFile(account)
        self._summary = DailySummary(account)
        self._stop = stop
        self._supervisor = supervisor
        self._page = page
        self._reports = reports
        self._commands = commands
        self._watch = watch
        self._announced: set[np.datetime64] = set()
        self._runs = False  # whether a step has succeeded

    def on_next_step(self, job: str, due: np.datetime64, now: np.datetime64) -> None:
        self._account.next_cycle.record_next_cycle(job, due, now)
        self._take_commands()

    def on_wait(self, job: str, due: np.datetime64) -> None:
        self._report_alive(f"{job} at {format_utc(due)}")
        if self._watch is not None and not self._stop:
            self._watch.read_if_due()
        if job == TRADE_JOB and due not in self._announced:
            self._announced.add(due)
            print_line(f"The next cycle is at {format_utc(due)}.")

    def on_step_end(self, job: str, outcome: object, *, failed: bool) -> None:
        if not (failed or self._runs):
            self._runs = True
            self._account.end_stop_report()
        if self._reports is not None and isinstance(outcome, Cycle):
            self._reports.report(outcome)
        self._metrics.refresh(force=True)
        self._report_alive(f"{job}: cycle completed")

    def _report_alive(self, state: str) -> None:
        self._account.refusals.clear_contradicted_causes()
        self._supervisor.notify(WATCHDOG=1, STATUS=state)
        self._account.notices.send_heartbeat()
        if self._account.has_kill_file:
            self._stop.request_stop(KILL_FILE_CAUSE)
        self._take_commands()
        self._page.refresh()
        self._metrics.refresh()
        self._summary.send_if_due()

    def _take_commands(self) -> None:
        if self._stop:
            return
        try:
            self._commands.take()
        except BrokerError as error:
            log.warning("commands are taken later: %s", error)


@contextmanager
def open_supervised_loop(
    jobs: Sequence[Job],
    account: OpenAccount,
    stop: StopSignal,
    supervisor: Supervisor,
    *,
    clock: LoopClock,
    page_limits: StatusPageLimits,
    sections: Sequence[PageSection],
    max_failed_cycles: int,
    reporter: CycleReporter | None = None,
    watch_settings: WatchSettings | None = None,
    watch_reader: WatchedAccountReader | None = None,
) -> Iterator[JobLoop]:
    """Open a loop over the jobs of an account, during a `with` block.

    The status page is written while the loop runs. After a requested stop, also one by failed
    steps, each job cancels its open orders.

    supervisor: process supervisor that is notified when the loop is ready and alive.
    clock: clock of the venue.
    page_limits: limits shown on the status page.
    sections: sections that plugins add to the status page.
    max_failed_cycles: number of consecutive failed steps of one job after which the loop ends.
    reporter: reporter that shows every cycle; None shows none.
    watch_settings: limits of the watch; None: no limits.
    watch_reader: reader of the account for its watch; None: the account has no watch.
    """
    page = StatusPage(account, page_limits, [*sections, CommandSection(account.commands)])
    if page.path is not None:
        print_line(f"Status page: {page.path.absolute()}")
    with print_summary_at_end(account, stop), page.keep_updated(stop):
        supervisor.notify(READY=1)
        commands = CommandDesk(
            account.kill_file.parent,
            account.database,
            account.events,
            account.halts,
            jobs,
            account,
            reporter=account,
            stop=stop,
        )
        watch = None
        if watch_reader is not None:
            observers = [job for job in jobs if isinstance(job, SnapshotObserver)]
            limits = watch_settings or WatchSettings()
            watch = AccountWatch(limits, watch_reader, account, commands, observers)
        keeper = LiveLoopObserver(account, stop, supervisor, page, reporter, commands, watch)
        failure: BrokerError | DataError | None = None
        try:
            yield JobLoop(jobs, clock, stop, account.notices, keeper, max_failed_cycles)
        except (BrokerError, DataError) as error:
            failure = error
        if stop:
            supervisor.notify(STOPPING=1)
            finish_jobs(jobs, account, stop)
        elif failure is None:
            account.next_cycle.clear()
            account.events.append("stopped", jobs[-1].name, {"why": NO_CYCLE_DUE})
        if failure is not None:
            raise failure


@contextmanager
def print_summary_at_end(account: OpenAccount, stop: StopSignal) -> Iterator[None]:
    """Return a context manager that prints a summary of cycles, orders and fills at its end."""
    event, cycle = account.events.last_event_number(), count_cycles(account.database)
    end = "error"
    try:
        yield
        end = stop.why or NO_CYCLE_DUE
    finally:
        # An unreadable journal has already ended the loop with an error.
        with suppress(DatabaseFailed):
            print_line(f"Ended ({end}): {format_activity_since(account, event, cycle)}.")


def request_until_response(
    request: Callable[[], ResponseT],
    stop: StopSignal,
    supervisor: Supervisor,
    *,
    retry: bool,
    fatal_errors: tuple[type[BrokerError], ...] = (AccessDenied,),
) -> ResponseT | None:
    """Send a request to a venue until it responds, and return the response.

    Returns None if a stop is requested before the venue responds.

    request: function that sends the request.
    retry: true to repeat the request as long as the venue does not respond.
    fatal_errors: errors that are raised at once, without another request.

    Raises
    ------
    BrokerError
        if the request fails and `retry` is false, or if the error is one of `fatal_errors`.
    """
    is_announced = False
    while not stop:
        try:
            return request()
        except BrokerError as error:
            if not retry or isinstance(error, fatal_errors):
                raise
            log.warning("the venue does not respond yet: %s", error)
            if not is_announced:
                print_line(
                    f"Waiting for the venue, retrying every {VENUE_RETRY_SECONDS:.0f} s: {error}."
                )
            is_announced = True
            supervisor.notify(
                EXTEND_TIMEOUT_USEC=STARTUP_EXTENSION_USEC, STATUS="waiting for the venue"
            )
        stop.wait(VENUE_RETRY_SECONDS)
    print_line("Stopped while waiting for the venue; no orders were sent.")
    return None


def finish_jobs(jobs: Sequence[Job], account: OpenAccount, stop: StopSignal) -> None:
    """Cancel open orders, close positions if the kill file requests it, and report the result.

    An error in one job does not prevent the other jobs from finishing.

    Raises
    ------
    BrokerError
        if a job could not cancel all its orders or close all its positions.
    """
    stop.flattening = flatten = _requests_flatten(account.kill_file)
    account.events.append("stopped", jobs[-1].name, {"why": stop.why, "flatten": flatten})
    remedy = f"; remove {account.kill_file} to trade again" if account.has_kill_file else ""
    account.report_stop(stop.why, f"the loop is stopping: {stop.why}{remedy}")
    left: list[str] = []
    closed: list[str] = []
    troubles = []
    for job in jobs:
        try:
            open_positions = job.finish(flatten=flatten)
        except BrokerError as error:
            log.error("%s: %s", job.name, error)
            troubles.append(f"{job.name}: {error}")
        else:
            left += open_positions
            if job.name in (TRADE_JOB, SPREADS_JOB) and not open_positions:
                closed.append(job.name)
    if flatten:
        left += _positions_of_absent_jobs(account, {job.name for job in jobs})
    if left:
        troubles.append(f"positions NOT closed: {', '.join(left)}")
        if closed:
            troubles.append(f"closed: all positions of {' and '.join(closed)}")
    if troubles:
        what = "cancel all orders or close all positions" if flatten else "cancel all orders"
        text = f"stopped ({stop.why}), but could not {what}: {'; '.join(troubles)}"
        account.notices.alert("unfinished", text)
        raise BrokerError(text)
    done = "all our positions were closed" if flatten else "positions are unchanged"
    print_line(f"Stopped ({stop.why}): open orders were cancelled, {done}.")


def _positions_of_absent_jobs(account: OpenAccount, jobs: Collection[str]) -> list[str]:
    """Return the positions that jobs which do not run here have opened, one text each.

    jobs: names of the jobs that run here.
    """
    left = []
    if TRADE_JOB not in jobs:
        expected = ExpectedPositions(account.database, account.events).positions_by_symbol()
        held = {symbol: position.quantity for symbol, position in expected.items()}
        ours = closable_positions(held, (), net_fills_by_symbol(account.book, TRADE_JOB))
        left += [f"{quantity:f} {symbol}" for symbol, quantity in sorted(ours.items())]
    if SPREADS_JOB not in jobs:
        left += account.events.last_reported_positions(SPREADS_JOB)
    return left


def _requests_flatten(kill_file: Path) -> bool:
    try:
        return (
            KILL_FILE_FLATTEN_TEXT
            in kill_file.read_text(encoding="utf-8", errors="replace").lower()
        )
    except OSError:
        return False


class AlwaysRespondingClock:
    """Loop clock that always counts as responding, because it is a clock of this machine.

    time: source of the time.
    """

    def __init__(self, time: TimeSource) -> None:
        self._time = time

    def now(self) -> np.datetime64:
        return self._time.now()

    def is_responding(self) -> bool:
        return True


class VenueLoopClock:
    """Loop clock that reads the venue's clock, or estimates it if the venue does not respond.

    live: the account at the venue. Its id is checked again when the venue responds again after a
        failure, or when the venue's clock was set back.
    """

    def __init__(self, live: LiveAccount) -> None:
        self._live = live
        self._connection = live.connection
        self._away = False
        self._refusals = 0
        self._shown: np.datetime64 | None = None

    def is_responding(self) -> bool:
        """Return whether the venue responded when its clock was last read.

        Three consecutive unreadable responses count as a response. The next step then runs and
        fails, so that the loop does not wait without end.
        """
        return not self._away or self._refusals >= MAX_UNREADABLE_CLOCK_READS

    def now(self) -> np.datetime64:
        """Return the venue's time, or an estimate of it while the venue does not respond."""
        try:
            now = self._connection.now()
            if self._away or (self._shown is not None and now < self._shown - CLOCK_TOLERANCE):
                self._live.check_account_id()
        except BrokerError as error:
            log.warning("%s", error)
            self._refusals = self._refusals + 1 if isinstance(error, ResponseRejected) else 0
            if not self._away:
                print_line(f"Waiting for the venue, retrying every few seconds: {error}.")
            self._away = True
            return self._estimated_now()
        if self._away:
            print_line(f"The venue responds again; its clock shows {format_utc(now)}.")
        self._away = False
        self._refusals = 0
        self._shown = now
        return now

    def _estimated_now(self) -> np.datetime64:
        try:
            return self._connection.estimated_now()
        except BrokerError:
            return self._connection.time.now()
