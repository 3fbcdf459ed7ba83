"""A replay: the live job on a practice server whose clock waits, a pass at every instant of it.

Each pass is in the account's journal before the clock is moved on. Whatever ends a replay, the same
words go on with it while the server runs.
"""

from __future__ import annotations

import logging
import signal
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import requests

from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.connection import VenueConnection
from execution.journal.replay import ReplayPass
from execution.live.account import LiveAccount
from execution.live.accounts import TRADE
from execution.live.cycle import Cycle
from execution.live.lines import say_aside
from execution.live.loop import Stop, stopped_by_signals
from execution.live.open_account import open_account
from execution.live.replay_records import (
    REPLAY_FILE,
    Ending,
    ReplayRecords,
    refuse_other_replay,
)
from execution.live.replay_settings import config_text, deciding_settings
from execution.live.runner import footing_of
from execution.live.settings import LiveSettings
from execution.live.trading import TradingJob
from execution.trader import Trader
from foundation.clock import OURS, Time
from foundation.command import Ended
from foundation.connection_words import connection_words
from foundation.counts import counted
from foundation.errors import AccessRefused, BrokerError, InputError
from foundation.files import check_output
from foundation.progress import ProgressBar
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import Keys
from trainingdata.instants import utc_text

log = logging.getLogger("live")

KILLED = "it is under way, or was killed"
BETWEEN_RECORDS = 30.0  # seconds, at least, between two writings of the records so far
SHARE_OF_RECORDS = 0.05  # of the time, at most, that goes into writing them


class Advance(NamedTuple):
    """What a practice server says of its clock.

    moved: whether it was.
    left: instants that it still has.
    passed: instants that it has gone through since the server began.
    """

    moved: bool
    left: int
    passed: int


class WaitingClock:
    """The clock of a practice server that waits for its client; url: of the server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def look(self, now: np.datetime64) -> Advance:
        """How far it has come; now: what it shows.

        Raises
        ------
        InputError
            here and in `move`, for a clock that does not answer, and one that does not wait.
        """
        return self._post({"to": f"{np.datetime_as_string(now, unit='s')}Z"})

    def move(self) -> Advance:
        """Move it to its next instant, where it has one."""
        return self._post({})

    def _post(self, command: dict[str, str]) -> Advance:
        try:
            answer = requests.post(f"{self._url}/control/advance", json=command, timeout=60)
        except requests.RequestException as error:
            words = connection_words(error) or "no answer"
            raise InputError(f"broker.url_override: its clock does not move: {words}") from error
        if answer.status_code != 200:
            raise InputError(
                f"broker.url_override: {self._url} has no clock that waits, as a practice server's"
                f" with --speed wait (status {answer.status_code})"
            )
        state = answer.json()
        return Advance(bool(state["moved"]), int(state["left"]), int(state["passed"]))


def run_replay(
    settings: LiveSettings,
    keys: Keys,
    feed: BarFeed,
    trader: Trader,
    output: Path,
    *,
    overwrite: bool,
    show: Callable[[Cycle], None],
) -> str:
    """Make a pass at every instant that the server's clock still has, and write the files of a run.

    output: folder of the files.
    overwrite: whether what it holds of something else is given up.
    show: called with every pass.

    Returns
    -------
    str
        What came of it, a line of JSON.

    Raises
    ------
    InputError
        for an address that is no practice server with a waiting clock, symbols that it does not
        have, other settings than before, a clock that was moved since the last pass, and what a
        pass met. The records so far are written.
    Ended
        after a signal; so they are then.
    """
    url = settings.broker.address
    if url is None or not settings.broker.on_this_machine:
        raise InputError(
            "broker.url_override: a replay needs a practice server on this machine"
            " (marketsimulator.alpaca_server)"
        )
    check_output(output, REPLAY_FILE, overwrite=overwrite)
    connection = VenueConnection(settings.broker, keys)
    account_id = _account_id(connection)
    clock = WaitingClock(url)
    now = connection.now()
    state = clock.look(now)
    if not overwrite:
        refuse_other_replay(output, account_id, now)
    # Of a pass its decision is in the journal: the bars that it saw would fill the memory.
    passes: deque[Cycle] = deque(maxlen=1)
    stop = Stop()
    with ExitStack() as held:
        root = Path(settings.folder)
        account = held.enter_context(
            open_account(account_id, root, keys.redact, connection.estimated_now)
        )
        live = LiveAccount(connection, account, settings, feed.last_trades)
        records = ReplayRecords(
            account_id,
            account.database,
            live.book,
            TRADE,
            trader.forecaster.name,
            config_text(settings, keys),
            output,
        )
        broker = AlpacaBroker(
            settings.broker,
            keys,
            terms=settings.orders,
            patience=0.0,
            book=live.book,
            guard=live.guards,
            job=TRADE,
            believe=live.believe,
        )
        _refuse_unknown_symbols(broker, settings)
        records.keep_settings(deciding_settings(settings), now)
        footing = footing_of(connection, account_id, settings)
        job = TradingJob(
            *(broker, connection, live, footing, feed, trader, settings),
            cycles=None,
            show=passes.append,
        )

        def decide() -> Cycle:
            job.pass_now()
            cycle = passes.pop()
            show(cycle)
            return cycle

        held.enter_context(stopped_by_signals(stop))
        progress = held.enter_context(ProgressBar())
        replay = Replay(clock, broker, live, records, decide, stop, progress)
        return replay.run(replay.beginning(now, state))


def _account_id(connection: VenueConnection) -> str:
    """The server's id of its account.

    Raises
    ------
    BrokerError
        for a server that does not answer.
    """
    try:
        return connection.account_id()
    except AccessRefused:
        raise
    except BrokerError as error:
        raise BrokerError(f"{error}; is the practice server up yet?") from error


def _refuse_unknown_symbols(broker: AlpacaBroker, settings: LiveSettings) -> None:
    """Refuse symbols that the server has no asset of."""
    wanted = sorted(settings.tradable_symbols)
    known = broker.assets(wanted)
    if unknown := [symbol for symbol in wanted if symbol not in known]:
        raise InputError(f"symbols: the practice server does not have {', '.join(unknown)}")


class Replay:
    """Passes until the server's clock has no instant any more, and their records.

    decide: makes a pass.
    stop: tells when to stop.
    progress: told of the instants.
    time: by which what it takes to write records is told.
    """

    def __init__(
        self,
        clock: WaitingClock,
        broker: AlpacaBroker,
        live: LiveAccount,
        records: ReplayRecords,
        decide: Callable[[], Cycle],
        stop: Stop,
        progress: Callable[[str, int, int], None],
        time: Time = OURS,
    ) -> None:
        self._clock = clock
        self._broker = broker
        self._live = live
        self._records = records
        self._decide = decide
        self._stop = stop
        self._progress = progress
        self._time = time
        self._made = 0
        self._left = 0
        self._left_out = 0
        self._total = 0
        self._resumed = False
        self._next_records = time.elapsed()

    def beginning(self, now: np.datetime64, state: Advance) -> bool:
        """Where a replay goes on: whether a pass is to be made where the clock stands.

        now: what the clock shows; state: how far it has come.

        Raises
        ------
        InputError
            for a clock that was moved since the last pass.
        """
        passes = self._records.replay.passes()
        self._made = len(passes)
        self._left = state.left
        self._total = self._made + self._left
        if not passes:
            self._total += 1
            self._left_out = state.passed
            if state.passed:
                say_aside(
                    "The server's clock has gone on since it began, by"
                    f" {counted(state.passed, 'instant')}: the replay begins at {utc_text(now)}.",
                    logging.INFO,
                )
            return True
        last = passes[-1]
        self._left_out = state.passed + 1 + state.left - self._made - last.left
        steps = last.left - state.left
        if steps not in (0, 1) or (steps == 0) != bool(now == last.at):
            raise InputError(
                f"the server's clock was moved beside the replay: its last pass was at"
                f" {utc_text(last.at)} with {counted(last.left, 'instant')} to go, and the clock"
                f" shows {utc_text(now)} with {state.left}. A replay leaves no instant out: begin"
                " the server again, and name a new output"
            )
        self._resumed = True
        self._total += steps
        made = counted(self._made, "pass", "passes")
        say_aside(f"Going on after {made}, the last at {utc_text(last.at)}.", logging.INFO)
        return steps == 1

    def run(self, due: bool) -> str:
        """Go on to the end of the server's clock, and return what came of it.

        due: whether a pass is to be made where the clock stands.

        Raises
        ------
        InputError
            for what a pass met.
        Ended
            for a signal.
        """
        try:
            ended = self._go_on(due)
        except BaseException as error:
            self._leave_records(str(error) or type(error).__name__)
            raise
        if not ended:
            self._leave_records(self._stop.why)
            raise Ended(signal.Signals[self._stop.why])
        self._live.read_activities()
        self._say_what_differs()
        return self._records.write(self._ending(0))

    def _ending(self, left: int, why: str = "") -> Ending:
        halts = tuple(str(halt) for halt in self._live.halts.standing())
        return Ending(left, self._left_out, why, halts)

    def _say_what_differs(self) -> None:
        """Say what guards and halts have kept from the server: a backtest has neither."""
        if unsent := self._records.unsent():
            say_aside(f"{counted(len(unsent), 'order')} of it NOT sent. The first: {unsent[0]}.")
        for halt in self._live.halts.standing():
            say_aside(f"The account is halted at its end: {halt}. {halt.rule.remedy}")

    def _go_on(self, due: bool) -> bool:
        """Whether the end was reached; false where it was told to stop first."""
        while True:
            if due:
                self._pass()
            if self._stop:
                return False
            state = self._clock.move()
            if not state.moved:
                return True
            self._left = state.left
            due = True

    def _pass(self) -> None:
        cycle = self._decide()
        # The pass read its account before its orders filled, as did one that was killed.
        traded = cycle.decision is not None and cycle.decision.orders
        account = self._broker.account() if traded or self._resumed else cycle.account
        self._resumed = False
        self._records.replay.note(
            ReplayPass(account.as_of, account.cash, account.equity, self._left)
        )
        self._made += 1
        self._progress("instants", self._made, self._total)
        began = self._time.elapsed()
        if began >= self._next_records:
            self._records.write(self._ending(self._left, KILLED))
            ended = self._time.elapsed()
            self._next_records = ended + max(BETWEEN_RECORDS, (ended - began) / SHARE_OF_RECORDS)

    def _leave_records(self, why: str) -> None:
        """Write the records so far, and say where the replay stands."""
        try:
            # Where the server is gone, what it listed last counts.
            self._live.read_activities()
        except BrokerError as error:
            log.warning("%s", error)
        if not self._records.replay.passes():
            return
        try:
            self._records.write(self._ending(self._left, why))
        except InputError as error:
            say_aside(f"{error}.", logging.INFO)
            return
        made = counted(self._made, "pass", "passes")
        say_aside(
            f"The replay is partial: the output has {made} of {self._total}. The same line goes on"
            " with it, while the server is the same.",
            logging.INFO,
        )
