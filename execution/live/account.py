"""Account at a venue, shared by all jobs: reconciliation, guards and equity marks."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal

import numpy as np

from execution.brokers import (
    MAX_LEVERAGE_MULTIPLIER,
    REREAD_DELAYS_SECONDS,
    AccountReading,
    BrokerConnection,
    VenuePosition,
)
from execution.decision.protection import find_protective_orders
from execution.journal.activities import EPOCH, read_fills_of_order
from execution.journal.cooldown import read_cooling_symbols
from execution.journal.events import REPORTED_EVENT
from execution.journal.marks import build_mark, format_exposure_line, format_profit_line
from execution.journal.order_store import TERMINAL_STATES
from execution.journal.positions import PositionRow
from execution.live.accounts import TRADE_JOB
from execution.live.expected_positions import ACTIVITY_QUERY_OVERLAP
from execution.live.exposure import open_order_prices
from execution.live.guards import Guards, SnapshotGate
from execution.live.loop import StopSignal
from execution.live.losses import record_mark_and_halts
from execution.live.open_account import OpenAccount
from execution.live.reconciler import Reconciler
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.last_trades import TradeSource
from execution.orders.option_orders import is_option
from foundation.decimals import exact_sum
from foundation.errors import BrokerError, InputError, InvalidResponse
from foundation.formatting import format_price
from foundation.notices import STOP_FILLED
from trainingdata.instants import format_utc
from trainingdata.last_trade import LastTrade
from trainingdata.sessions import is_in_session

log = logging.getLogger(__name__)

NOT_UNDERSTOOD_ALERT = "activity"  # kind of the notice of an activity that is not understood
# Seconds before each comparison of positions with activities, until both agree.
RECONCILE_READ_DELAYS_SECONDS = (0.0, *REREAD_DELAYS_SECONDS)
ACTIVITY_READ_DELAYS_SECONDS = RECONCILE_READ_DELAYS_SECONDS[:2]  # seconds before each list


class AccountIdMismatch(InputError):
    """The venue's account id differs from the id with which the process started."""


class LiveAccount:
    """Account at a venue, reconciled with the account's journal.

    connection: connection to the venue.
    account: the account's journal, halts and alerts.
    settings: settings of the loop.
    feed: source of last trades, against which the venue's marks are validated.
    stop: stop signal; once it is set, no new order is sent.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        account: OpenAccount,
        settings: LiveSettings,
        feed: TradeSource,
        stop: StopSignal,
    ) -> None:
        self.connection = connection
        self.account = account
        self.feed = feed
        self.book, self.halts, self.notices = account.book, account.halts, account.notices
        self.guards = Guards(
            settings.guards, self.halts, self.book, account.commands, account.kill_file, stop
        )
        self.reconciler = Reconciler(account, feed)
        # Maximum loss of open and pending spreads, USD by root of their options, as last reported
        # by each job.
        self.spread_risk_by_job: dict[str, Mapping[str, float]] = {}
        self.all_cycles_done = False  # whether the trading job has done all its cycles
        self._settings = settings
        self._time = connection.time
        self._stop = stop
        self._read_at: np.datetime64 = EPOCH
        self._readings = 0  # earlier readings at that instant

    def check_account_id(self) -> None:
        found = self.connection.account_id()
        if found != self.account.name:
            raise AccountIdMismatch(
                f"the venue now has account {found!r}, but this process trades account"
                f" {self.account.name!r}: the practice server was restarted and has lost the"
                " orders. The journal is unchanged; restart this process to trade the new account"
            )

    def build_gate(
        self,
        account: AccountSnapshot,
        symbols: Iterable[str],
        *,
        require_trades: bool = True,
        max_loss_by_root: Mapping[str, float] | None = None,
    ) -> SnapshotGate:
        """Return the gate (pre-trade checks) of orders in these symbols.

        account: fresh account snapshot.
        require_trades: true if the checks need last trades, as for orders that open positions.
        max_loss_by_root: maximum loss of open spreads, USD by root of their options; None uses the
            figures that the jobs last reported.

        Raises
        ------
        BrokerError
            if `require_trades` is true and the feed does not respond.
        """
        return self.guards.build_gate(
            self.with_guard_data(
                account, symbols, require_trades=require_trades, max_loss_by_root=max_loss_by_root
            )
        )

    def with_guard_data(
        self,
        account: AccountSnapshot,
        symbols: Iterable[str],
        *,
        require_trades: bool = True,
        max_loss_by_root: Mapping[str, float] | None = None,
    ) -> AccountSnapshot:
        """Return the snapshot with the data that the guards need to check orders in these symbols.

        The data are the symbols' last trades (None if the feed does not respond) and prices for
        open orders in symbols without a price. The maximum loss of spreads and of discrepancies in
        options is added, too.

        require_trades: true if the checks need last trades, as for orders that open positions.
        max_loss_by_root: maximum loss of open spreads, USD by root of their options; None uses the
            figures that the jobs last reported.

        Raises
        ------
        BrokerError
            if `require_trades` is true and the feed does not respond.
        """
        names = sorted(set(symbols))
        trades: Mapping[str, LastTrade] | None
        try:
            trades = self.feed.last_trades(names) if names else {}
            account = account.with_prices(open_order_prices(account, self.feed))
        except BrokerError as error:
            if require_trades:
                raise
            log.warning("checking orders without last trades: %s", error)
            trades = None
        risks = self.max_loss_by_root() if max_loss_by_root is None else dict(max_loss_by_root)
        for place, stake in self.reconciler.option_max_loss_by_root().items():
            risks[place] = risks.get(place, 0.0) + stake
        return replace(account, last_trades=trades, max_loss_by_root=risks)

    def max_loss_by_root(self) -> dict[str, float]:
        """Return the maximum loss of all jobs' open spreads, USD by root of their options."""
        risks: defaultdict[str, float] = defaultdict(float)
        for stated in self.spread_risk_by_job.values():
            for root, usd in stated.items():
                risks[root] += usd
        return dict(risks)

    def cooling_symbols(self, now: np.datetime64) -> frozenset[str]:
        """Return the symbols that are not opened at `now` because their stop has filled."""
        return read_cooling_symbols(self.account.database, self._settings.protect, now)

    def reconcile(self) -> None:
        """Compare the account's positions with the positions that its journal expects.

        The comparison is made up to four times. If a discrepancy persists, the next
        `check_reading` quarantines its symbol.

        Raises
        ------
        InvalidResponse
            if the venue's list of activities lacks fills that its reports on orders contain.
        """
        if not self.reconciler.holdings.has_opening_balance:
            self._record_opening()
        self.reconciler.load_acknowledgements()
        late = ""
        for _ in self._time.delayed_attempts(RECONCILE_READ_DELAYS_SECONDS):
            self.record_activities()
            if late := self.reconciler.describe_unlisted_fills():
                continue
            held = self.connection.positions()
            found = self.reconciler.compare_positions(held)
            if self.reconciler.is_comparison_final(found):
                break
        if late:
            raise InvalidResponse(late)
        self.reconciler.set_quarantine(found, held)

    def check_reading(self, reading: AccountReading) -> AccountSnapshot:
        """Check an account reading against the journal, and return its snapshot for decisions.

        While the loop closes all positions before it stops, the snapshot is returned unchecked.

        Raises
        ------
        RereadRequired
            for unexplained cash or unconfirmed marks at the first reading.
        AccountReadingRejected
            for unexplained cash or unconfirmed marks at the second reading.
        """
        self._check_hours(reading)
        self._check_multiplier(reading.leverage_multiplier)
        if self._stop.flattening:
            return reading.account
        if not self.reconciler.holdings.has_opening_balance:
            self._record_opening()
        reading = self.reconciler.value_positions(reading)
        if self.reconciler.cash_difference_reason(reading):
            # Activities that explain it may have been listed since.
            self.record_activities()
        return self.reconciler.check_reading(reading)

    def _check_hours(self, reading: AccountReading) -> None:
        """Send an alert if venue clock and calendar disagree on whether the exchange is open."""
        at = reading.account.as_of
        opened = bool(is_in_session(np.array([at]))[0])
        differs = reading.is_market_open is not None and reading.is_market_open != opened
        self.guards.exchange_closed = differs and opened
        shown = "open" if reading.is_market_open else "closed"
        so = "no stock orders are sent" if opened else "following the calendar"
        text = f"the venue's clock reports the exchange {shown} at {format_utc(at)}, unlike the"
        self.notices.update_alert("hours", f"{text} calendar; {so}" if differs else "")

    def _check_multiplier(self, multiplier: Decimal) -> None:
        """Send an alert about a leverage multiplier above `MAX_LEVERAGE_MULTIPLIER`."""
        text = (
            f"the venue's multiplier of {multiplier} exceeds the maximum; using"
            f" {MAX_LEVERAGE_MULTIPLIER}"
        )
        self.notices.update_alert(
            "multiplier", text if multiplier > MAX_LEVERAGE_MULTIPLIER else ""
        )

    def record_activities(self) -> None:
        """Query the venue's activities, and record the new ones.

        Nothing is recorded before there is an opening balance. If the list has a trade whose price
        is far from that of its order, the list is queried again. A booking that is larger than the
        tolerance for late listings is recorded only once the cash balance confirms it.
        """
        reconciler = self.reconciler
        if not reconciler.holdings.has_opening_balance:
            return
        for _ in self._time.delayed_attempts(ACTIVITY_READ_DELAYS_SECONDS):
            at = self._listing_instant()
            listed = self.connection.activities_since(reconciler.holdings.activity_query_start())
            if not (mispriced := reconciler.holdings.describe_mispriced_trades(listed)):
                break
            log.warning("reading the activities again: %s", mispriced)
        self.notices.update_alert("price", mispriced)
        unread = "; ".join(self.connection.unreadable_activities)
        text = (
            "unreadable activities are ignored; cash and positions are still checked against the"
            f" journal: {unread}"
        )
        self.notices.update_alert("unread", text if unread else "")
        if large := reconciler.record_activities(listed, at):
            reconciler.record_large_bookings(large, self.connection.cash(), at)
        self._send_due_reports()

    def _send_due_reports(self) -> None:
        """Send one notice per filled stop and per activity that is not understood.

        The journal records a due notice in the transaction of its activity, and a sent notice in
        the transaction that sends it. A kill therefore neither drops nor repeats a notice.
        """
        events = self.account.events
        for event in events.unreported_events():
            kind, text = STOP_FILLED, self._describe_filled_stop(event.subject)
            if event.content is not None:
                kind, text = NOT_UNDERSTOOD_ALERT, f"not understood: {event.content}"
            if text:
                with self.account.database.transaction():
                    events.append(REPORTED_EVENT, event.subject)
                    self.notices.send_notice(kind, text, skip_if_pending=True)

    def _describe_filled_stop(self, name: str) -> str:
        """Describe the trades of a protective order; empty while more trades may follow.

        name: client order id of the order.
        """
        fills = read_fills_of_order(self.account.database, name)
        intent = self.book.get(name)
        quantity = exact_sum(fill.quantity for fill in fills)
        if intent is None or not quantity:
            return ""
        ended = intent.state in TERMINAL_STATES
        whole = intent.progress.filled if ended else intent.stock_or_crypto_order.qty
        if abs(quantity) < whole:
            return ""
        price = float(sum(fill.quantity * fill.price for fill in fills) / quantity)
        verb = "sold" if quantity < 0 else "bought"
        text = f"{verb} {abs(quantity):f} {fills[0].symbol} at {format_price(price)}"
        return f"{text}: {intent.order.reason}"

    def _listing_instant(self) -> np.datetime64:
        """Return the venue's time at which activities are listed; it increases with every call.

        An activity that is listed after the account was read was not part of that reading. The
        result therefore increases even if the venue's clock stands still.
        """
        now = self.connection.now()
        self._readings = self._readings + 1 if now == self._read_at else 0
        self._read_at = now
        self.reconciler.set_listing_time(now)
        return now + np.timedelta64(self._readings, "ns")

    def _record_opening(self) -> None:
        """Record the opening balance and positions, and adopt our resting protective orders."""
        for _ in self._time.delayed_attempts(RECONCILE_READ_DELAYS_SECONDS):
            at = self.connection.now()
            listed = self.connection.activities_since(at - ACTIVITY_QUERY_OVERLAP)
            cash = self.connection.cash()
            held = self.connection.positions()
            self._adopt_stops()
            # A trade during the reading may or may not be part of the positions.
            unchanged = self.connection.activities_since(at - ACTIVITY_QUERY_OVERLAP) == listed
            if unchanged and self.connection.cash() == cash:
                quantities = {symbol: each.quantity for symbol, each in held.items()}
                with self.account.database.transaction():
                    self.reconciler.holdings.record_opening_balance(quantities, cash, at, listed)
                    self.account.positions.record_opening_positions(_opening_rows(held))
                log.info("the journal begins with %d positions and %s USD", len(held), cash)
                return
        raise BrokerError(
            "the account changed during every attempt to read it; stop other trading in it and"
            " retry"
        )

    def _adopt_stops(self) -> None:
        """Record our protective orders that rest from an earlier journal, with their present fills.

        The opening positions include these fills; later fills are booked like those of any order.
        """
        gateway = self.connection.create_gateway(book=self.book, job=TRADE_JOB, feed=self.feed)
        prefix = self._settings.order_prefix
        gateway.adopt_orders(
            lambda order: bool(find_protective_orders(prefix, [order])), "protection"
        )
        gateway.refresh_open_orders()

    def record_mark(self, account: AccountSnapshot) -> None:
        """Record an equity mark of the account, and raise or end the halts of the loss limits."""
        flows = self.net_deposits() - self.account.marks.net_deposits_before(account.as_of)
        mark = build_mark(account, self._settings.limits, flows)
        with self.account.database.transaction():
            point, changes = record_mark_and_halts(
                self.account.marks, self.halts, mark, self._settings.guards
            )
            self.account.positions.record_positions(account)
        self.account.alert_halt_changes(changes)
        # Operators search the log for these words.
        for line in (format_exposure_line(mark), format_profit_line(point)):
            log.info("%s %s", format_utc(mark.at), line)

    def net_deposits(self) -> float:
        """Return deposits less withdrawals since the start of the journal, USD.

        A transfer counts from the time at which the venue first lists it. Its date is earlier than
        the arrival of the money. Transfers that were listed before the opening balance are part of
        its cash. Dividends, interest and fees count as profit or loss. Shares moved between
        accounts do too, because the venue reports no amount for them.
        """
        return float(self.reconciler.holdings.listed.net_deposits_since(EPOCH))


def _opening_rows(held: Mapping[str, VenuePosition]) -> Iterator[PositionRow]:
    """Yield the initial journal rows of stock and crypto positions, valued at the venue's price.

    Options are skipped, because they are recorded in their own tables.
    """
    for symbol, (quantity, worth) in held.items():
        if quantity and not is_option(symbol):
            yield PositionRow(symbol, quantity, worth / abs(quantity) if worth else None)
