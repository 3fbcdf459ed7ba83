"""The watch of a live account: it reads the account between cycles, and acts beyond limits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from pydantic import Json

from execution.brokers import AccountReadingRejected
from execution.decision.watch import (
    LimitName,
    WatchSettings,
    WatchState,
    halt_end,
    next_watch_state,
)
from execution.journal.commands import WATCH, Command, Verb
from execution.journal.halts import CLEARED_AUTOMATICALLY, Halt
from execution.journal.marks import EquityMark, build_mark
from execution.journal.rows import Float, Instant, Integer, JournalTable
from execution.live.account import LiveAccount
from execution.live.commands import MAX_COMMAND_AGE, CommandDesk
from execution.live.guarded_broker import GuardedBroker
from execution.live.open_account import OpenAccount
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.errors import BrokerError
from trainingdata.instants import format_compact_utc
from trainingdata.instruments import is_crypto
from trainingdata.sessions import is_in_session

log = logging.getLogger("live")

DISAGREEMENT_ALERT = "watch prices"
MAX_FAILED_READINGS = 5  # failed readings in a row, after which an alert is sent
SECOND = np.timedelta64(1, "s")
_VERBS: dict[str, Verb] = {"halt": "pause", "reduce": "reduce", "flatten": "flatten"}


@dataclass(frozen=True, slots=True)
class WatchRow:
    """Journal row of the last reading; a later reading replaces it.

    number: always 1.
    began_at: instant from which the watch counts losses.
    equity: USD.
    gross: gross exposure, multiples of equity.
    data_age: age of the oldest last trade of a position in an open market, seconds; None without
        one.
    daily_loss, drawdown: losses at the reading, fractions.
    The other fields are those of `WatchState`.
    """

    number: Integer
    began_at: Instant
    at: Instant
    equity: Float
    gross: Float
    margin: Float
    daily_loss: Float
    drawdown: Float
    data_age: Json[Float | None]
    index: Float
    confirmed_index: Float
    peak: Float
    day_start: Float
    beyond: Json[tuple[LimitName, ...]]

    @property
    def state(self) -> WatchState:
        return WatchState(
            self.at,
            self.index,
            self.confirmed_index,
            self.peak,
            self.day_start,
            self.margin,
            self.beyond,
        )


WATCH_TABLE = JournalTable(
    "watch", WatchRow, column_names={"index": "return_index", "confirmed_index": "supported"}
)


@dataclass(frozen=True, slots=True)
class WatchedAccount:
    """An accepted reading of an account.

    mark: equity mark of the reading, as recorded in the journal.
    snapshot: account snapshot; None for an account of event contracts.
    data_age: age of the oldest last trade of a position in an open market, seconds; None without
        one.
    feed_mark: equity mark at the feed's last trades; a position without a last trade counts at the
        venue's price. None if the feed does not respond, or for an account of event contracts.
    """

    mark: EquityMark
    snapshot: AccountSnapshot | None = None
    data_age: float | None = None
    feed_mark: EquityMark | None = None


class WatchedAccountReader(Protocol):
    """Interface of a reader of an account for its watch."""

    def read_watched_account(self) -> WatchedAccount | None:
        """Read the account, record its equity mark and return it.

        Returns None before the journal has an opening balance. Raises `BrokerError` if the reading
        is not accepted.
        """
        ...


@runtime_checkable
class SnapshotObserver(Protocol):
    """Interface of a job that acts on the account snapshots which the watch reads."""

    def on_snapshot(self, snapshot: AccountSnapshot) -> None: ...


class LiveAccountReader:
    """Reader of an account of stocks, crypto and options for its watch."""

    def __init__(self, live: LiveAccount, settings: LiveSettings) -> None:
        self._live = live
        self._limits = settings.limits
        gateway = live.connection.create_gateway(
            terms=settings.orders, book=live.book, feed=live.feed
        )
        self._desk = GuardedBroker(gateway, live, secured=True)

    def read_watched_account(self) -> WatchedAccount | None:
        if not self._live.reconciler.holdings.has_opening_balance:
            return None
        snapshot = self._desk.read_and_record_mark()
        mark = self._live.account.marks.last_mark()
        assert mark is not None
        symbols = [symbol for symbol, quantity in snapshot.positions.items() if quantity]
        try:
            trades = self._live.feed.last_trades(symbols) if symbols else {}
        except BrokerError as error:
            log.warning("watch: last trades are unknown: %s", error)
            return WatchedAccount(mark, snapshot)
        in_session = bool(is_in_session(np.array([snapshot.as_of]))[0])
        ages = (
            float((snapshot.as_of - trade.traded_at) / SECOND)
            for symbol, trade in trades.items()
            if in_session or is_crypto(symbol)
        )
        prices = {symbol: trade.price for symbol, trade in trades.items()}
        at_trades = replace(snapshot, prices={**snapshot.prices, **prices})
        return WatchedAccount(
            mark, snapshot, max(ages, default=None), build_mark(at_trades, self._limits, 0.0)
        )


class AccountWatch:
    """The watch of one live account.

    desk: executor of the command by which the watch acts.
    observers: observers that are notified of each accepted snapshot.
    """

    def __init__(
        self,
        settings: WatchSettings,
        reader: WatchedAccountReader,
        account: OpenAccount,
        desk: CommandDesk,
        observers: Sequence[SnapshotObserver] = (),
        time: TimeSource = SYSTEM_TIME,
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._account = account
        self._desk = desk
        self._observers = observers
        self._time = time
        self._database = account.database
        WATCH_TABLE.create(self._database)
        self._interval = np.timedelta64(round(settings.seconds * 1000), "ms")
        self._next: np.datetime64 | None = None
        self._failures = 0

    def read_if_due(self) -> None:
        """Read the account if `watch.seconds` have passed since the last reading.

        A failed reading is alerted after several, and tried again at the next due time.
        """
        now = self._account.now()
        if self._next is None or now < self._next - self._interval:
            self._next = now + self._interval  # the watch has begun, or the clock was set back
        if now < self._next:
            return
        self._next = now + self._interval
        try:
            self.read()
        except BrokerError as error:
            if isinstance(error, AccountReadingRejected):
                self._notify(error.account)  # stops do not depend on the rejected figures
            self._failures += 1
            log.warning("watch: reading %d failed: %s", self._failures, error)
            if self._failures >= MAX_FAILED_READINGS:
                text = f"the account could not be read {self._failures} times in a row: {error}"
                self._account.notices.alert("watch", text)
            return
        self._failures = 0
        self._account.notices.reset_alert("watch")

    def read(self) -> None:
        """Read the account, record the reading, and act beyond a limit or notify the observers.

        An action changes the account, so that the reading is no longer current.

        Raises
        ------
        BrokerError
            if the reading is not accepted.
        """
        reading = self._reader.read_watched_account()
        if reading is None:
            return
        mark = reading.mark
        halt = self._account.halts.latest_by_kind().get("watch")
        state, began_at = self._state_before(mark, halt)
        state, reason = next_watch_state(
            state, mark.at, float(mark.return_index), mark.ceiling_use, self._settings
        )
        WATCH_TABLE.upsert(self._database, _build_row(state, began_at, reading))
        if halt is not None and halt.is_active and _ends(halt, mark.at):
            self._account.halts.clear("watch", CLEARED_AUTOMATICALLY, mark.at)
            self._account.notices.reset_alert("halt watch")
            halt = None
        if reason and self._may_act(halt, mark.at) and self._is_confirmed(reason, state, reading):
            self._act(reason, mark.at)
        elif reading.snapshot is not None:
            self._notify(reading.snapshot)

    def _notify(self, snapshot: AccountSnapshot) -> None:
        for observer in self._observers:
            observer.on_snapshot(snapshot)

    def _state_before(
        self, mark: EquityMark, halt: Halt | None
    ) -> tuple[WatchState, np.datetime64]:
        """Return the state before a reading, and the instant from which losses count.

        A new watch counts losses like the loss limits of the guards. After a person has cleared the
        watch's halt, losses count from the next reading on.
        """
        last = WATCH_TABLE.first_row(self._database)
        cleared_at = None
        if halt is not None and halt.cleared_by != CLEARED_AUTOMATICALLY:
            cleared_at = halt.cleared_at
        if cleared_at is not None and (last is None or last.began_at < cleared_at):
            return WatchState.first(mark.at, float(mark.return_index)), mark.at
        if last is not None:
            return last.state, last.began_at
        before = self._account.marks.index_point_before(mark.at)
        if before is None:
            return WatchState.first(mark.at, float(mark.return_index)), mark.at
        index = float(before.return_index)
        peak, day_start = float(before.index_peak), float(before.index_at_day_start)
        return WatchState(before.at, index, index, peak, day_start), before.at

    def _may_act(self, halt: Halt | None, at: np.datetime64) -> bool:
        """Return whether the watch may act now.

        It acts once per halt. If its command was not done, it acts again an hour after the receipt
        of that command, unless a person has cancelled the command.
        """
        if halt is None or not halt.is_active:
            return True
        last = self._desk.journal.last_command_of(WATCH)
        if last is None or last.is_unanswered or last.state == "done":
            return False
        return last.state != "cancelled" and bool(at >= last.received_at + MAX_COMMAND_AGE)

    def _is_confirmed(self, reason: str, state: WatchState, reading: WatchedAccount) -> bool:
        """Return whether a limit is also broken at the feed's last trades; alert if it is not.

        Otherwise a wrong price of the venue could sell everything. An account of event contracts
        has no second source and counts as confirmed, because its watch sells nothing.
        """
        if reading.snapshot is None:
            return True
        mark, feed = reading.mark, reading.feed_mark
        if feed is not None and mark.equity > 0:
            index = state.index * feed.equity / mark.equity
            by_feed = replace(state, index=index, margin=feed.ceiling_use).values_by_limit
            if any(by_feed[name] >= self._settings.limits[name] for name in state.beyond):
                self._account.notices.reset_alert(DISAGREEMENT_ALERT)
                return True
        at_trades = "the feed does not respond"
        if feed is not None:
            at_trades = (
                f"at the feed's last trades it is {feed.equity:,.2f} USD, within every limit"
            )
        self._account.notices.alert(
            DISAGREEMENT_ALERT,
            f"not acted: {reason}; the venue's equity is {mark.equity:,.2f} USD, but {at_trades};"
            " reading again",
        )
        return False

    def _act(self, reason: str, at: np.datetime64) -> None:
        settings = self._settings
        verb = _VERBS[settings.action]
        argument = f"{settings.reduce_to:g}" if verb == "reduce" else ""
        name = f"watch-{format_compact_utc(at)}"
        if self._desk.journal.get(name) is None:
            command = Command(name, verb, argument, WATCH, self._time.now(), at)
            self._desk.receive(command, f"watch: {reason}; {verb} {argument}".strip(), reason)
            self._desk.take()


def _ends(halt: Halt, at: np.datetime64) -> bool:
    end = halt_end(halt.reason.removeprefix("watch: "), halt.raised_at)
    return end is not None and bool(at >= end)


def _build_row(state: WatchState, began_at: np.datetime64, reading: WatchedAccount) -> WatchRow:
    mark = reading.mark
    gross = sum(map(abs, mark.positions.values()))
    return WatchRow(
        number=1,
        began_at=began_at,
        at=state.at,
        equity=mark.equity,
        gross=gross / mark.equity if mark.equity > 0 else 0.0,
        margin=state.margin,
        daily_loss=state.values_by_limit["daily_loss"],
        drawdown=state.values_by_limit["drawdown"],
        data_age=reading.data_age,
        index=state.index,
        confirmed_index=state.confirmed_index,
        peak=state.peak,
        day_start=state.day_start,
        beyond=state.beyond,
    )
