"""Orders that reduce positions to the overnight leverage.

The last decision of a session sizes positions for the night. Later price moves, delayed orders and
manual trades change them. Positions are therefore checked twice more before the close.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal

import numpy as np

from execution.brokers import AccountReadingRejected, MarksRejected
from execution.decision.protection import find_protective_orders
from execution.decision.reduction import build_reduction
from execution.journal.decisions import DecisionJournal
from execution.journal.order_store import UNKNOWN_OUTCOME_STATES
from execution.live.account import LiveAccount
from execution.live.accounts import TRADE_JOB
from execution.live.guarded_broker import GuardedBroker
from execution.live.protection import cancel_stops
from execution.live.reconciler import common_quantity
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import cancel_orders, place_reductions
from execution.orders.gate import OrderRole
from execution.orders.orders import (
    Order,
    format_order_id,
    is_protective_order,
    parse_order_prefix,
    parse_order_symbol,
)
from foundation.errors import BrokerError
from sizing.limits import CEILING_TOL
from sizing.settings import Limits
from trainingdata.instants import format_compact_utc, format_utc, new_york_date
from trainingdata.instruments import is_stock
from trainingdata.sessions import session_on

log = logging.getLogger("live")

MINUTE = np.timedelta64(1, "m")
CHECK_TIMES_BEFORE_CLOSE = (10 * MINUTE, 2 * MINUTE)  # before the close
CHECK_RETRY_INTERVAL = np.timedelta64(15, "s")  # time until a failed check is repeated
NO_CHECK_YET = np.datetime64("1970-01-01", "ns")


class OvernightTrimmer:
    """Trimmer of positions to the overnight leverage, ten and two minutes before each close.

    A trim order of unknown outcome counts as filled. It is sent again with the same id, because a
    second order could sell the same shares twice. Another reducing order of unknown outcome counts
    as unfilled. The shares that it may still sell are not trimmed, but other shares are.

    desk: broker that sends the trim orders.
    live: the account.
    journal: journal of the job that trades stocks.
    settings: settings of the loop.
    """

    def __init__(
        self,
        desk: GuardedBroker,
        live: LiveAccount,
        journal: DecisionJournal,
        settings: LiveSettings,
    ) -> None:
        self._desk = desk
        self._live = live
        self._journal = journal
        self._settings = settings
        self._looked_until: np.datetime64 = NO_CHECK_YET
        self._not_before: np.datetime64 = NO_CHECK_YET
        self._unsent_reasons: dict[
            str, str
        ] = {}  # reason by symbol why no trim was sent at the last check
        self.venue_close: np.datetime64 | None = (
            None  # the venue's next close; None if it does not state one
        )

    def next_check_time(self, now: np.datetime64) -> np.datetime64 | None:
        """Return the time of the next check before the close of today's session.

        Returns None if no check remains or there is no session. The time may be in the past.
        """
        closes = session_close(now, self.venue_close)
        if closes is None or now >= closes or not any(map(is_stock, self._settings.symbols)):
            return None
        looks = [
            closes - ahead
            for ahead in CHECK_TIMES_BEFORE_CLOSE
            if closes - ahead > self._looked_until
        ]
        return max(looks[0], self._not_before) if looks else None

    def check_if_due(self, now: np.datetime64) -> bool:
        """Check positions if a check is due, and return whether one was.

        The check stays due if it fails, or if a trim waits for a cancellation.
        """
        closes = session_close(now, self.venue_close)
        due = self.next_check_time(now)
        if closes is None or due is None or now < due:
            return False
        self._not_before = now + CHECK_RETRY_INTERVAL
        try:
            self._check_positions(closes, last=bool(now >= closes - CHECK_TIMES_BEFORE_CLOSE[-1]))
        except AccountReadingRejected as error:
            # Unexplained cash halts all orders; rejected marks may be valid at the next check.
            log.warning("no overnight trim before the close at %s: %s", format_utc(closes), error)
        except BrokerError as error:
            self._live.notices.alert(
                "overnight", f"the position check before the close failed: {error}"
            )
            raise
        for symbol, why in self._unsent_reasons.items():
            log.warning("%s: the overnight trim waits: %s", symbol, why)
        if not self._unsent_reasons or now + CHECK_RETRY_INTERVAL >= closes:
            self._looked_until = now
        return True

    def _check_positions(self, closes: np.datetime64, *, last: bool) -> None:
        """Trim positions to the overnight ceiling.

        closes: instant of the session's close.
        last: true for the last check before the close, which sends an alert if positions stay above
            the ceiling.
        """
        self._resend_unknown_trims(closes)
        self._desk.refresh_open_orders()
        # Open stock orders of decisions and earlier trims; auction orders cannot be cancelled.
        asked = cancel_orders(
            self._desk,
            [
                order.client_order_id
                for order in self._read_account().open_orders
                if self._is_ours(order)
                and is_stock(order.symbol)
                and not (order.is_for_auction or is_protective_order(order))
            ],
        )
        self._unsent_reasons = {
            parse_order_symbol(name): why for name, why in asked.reasons.items()
        }
        try:
            account = self._desk.read_and_record_mark()
        except MarksRejected as error:
            if not last:
                raise
            # The broker liquidates by market prices, not by its marks.
            log.warning("valuing positions at the feed's prices: %s", error)
            account = error.account
        account = assume_auction_orders_filled(account)
        if not exceeds_overnight_ceiling(account, self._settings.limits):
            self._live.notices.reset_alert("overnight")
            log.info("gross exposure is within the overnight limit, nothing to trim")
            return
        reduced = assume_reductions_filled(account, self._unknown_outcome_orders("night"))
        name, number = self._journal.next_overnight_trim_id(closes)
        tradable = self._settings.tradable_symbols - self._live.halts.quarantined_symbols()
        orders = build_overnight_trims(
            reduced,
            assume_reductions_filled(reduced, self._unknown_outcome_orders("reduction")).positions,
            self._settings.limits,
            self._settings.order_prefix,
            closes,
            number,
            tradable - self._wash_trade_symbols(account) - {*self._unsent_reasons},
        )
        if orders:
            self._send_trims(orders, account, name)
        if (
            last
            and not self._unsent_reasons
            and exceeds_overnight_ceiling(
                assume_auction_orders_filled(self._read_account()), self._settings.limits
            )
        ):
            text = "gross exposure is above the overnight limit two minutes before the close"
            self._live.notices.alert("overnight", f"{text}; the broker may liquidate positions")

    def _send_trims(
        self, orders: Sequence[Order], account: AccountSnapshot, order_group_id: str
    ) -> None:
        """Record trim orders in the journal under one name, and send them.

        The stops of a symbol are cancelled first, but only if the gate allows the trim. No trim is
        sent in a symbol whose stop is still open or has traded meanwhile.

        account: account snapshot by which the gate checks the orders.
        """
        gate = self._live.build_gate(
            account, {order.symbol for order in orders}, require_trades=False
        )
        allowed = {o.symbol for o in orders if not gate.refusal_reason(o, "night", account.as_of)}
        stops = find_protective_orders(self._settings.order_prefix, account.open_orders)
        self._unsent_reasons |= cancel_stops(self._desk, [e for e in stops if e.symbol in allowed])
        orders = [order for order in orders if order.symbol not in self._unsent_reasons]
        self._journal.record_reducing_orders(order_group_id, orders, account.as_of)
        for order in orders:
            log.warning(
                "%s: %s %s %s: %s",
                order_group_id,
                order.side,
                order.qty,
                order.symbol,
                order.reason,
            )
        try:
            place_reductions(self._desk, orders, gate)
        finally:
            self._journal.end_decision(order_group_id, "the order was not sent")

    def _read_account(self) -> AccountSnapshot:
        """Return the account snapshot, at the feed's prices if the venue's marks are rejected."""
        try:
            return self._desk.account()
        except MarksRejected as error:
            return error.account

    def _unknown_outcome_orders(self, part: OrderRole) -> list[Order]:
        """Return our orders with this role whose outcome is unknown."""
        intents = self._live.book.intents_in_states(UNKNOWN_OUTCOME_STATES)
        return [
            each.stock_or_crypto_order
            for each in intents
            if each.job == TRADE_JOB and each.role == part
        ]

    def _resend_unknown_trims(self, closes: np.datetime64) -> None:
        """Send the trim orders of this close whose outcome is unknown again, under the same ids."""
        cuts = [cut for cut in self._unknown_outcome_orders("night") if cut.expires_at == closes]
        if not cuts:
            return
        gate = self._live.build_gate(
            self._read_account(), {cut.symbol for cut in cuts}, require_trades=False
        )
        try:
            place_reductions(self._desk, cuts, gate)
        except BrokerError as error:
            log.warning("%s", error)

    def _is_ours(self, order: Order) -> bool:
        return parse_order_prefix(order.client_order_id) == self._settings.order_prefix

    def _wash_trade_symbols(self, account: AccountSnapshot) -> set[str]:
        """Return the symbols in which a trim could trade with an open order of this account.

        That order is an auction order, or another client's. The venue refuses such a trim as a wash
        trade. Positions in other symbols are therefore trimmed more.
        """
        return {
            order.symbol
            for order in account.open_orders
            if (order.is_for_auction or not self._is_ours(order))
            and order.signed_qty * account.positions.get(order.symbol, Decimal(0)) > 0
        }


def session_close(
    now: np.datetime64, venue_close: np.datetime64 | None = None
) -> np.datetime64 | None:
    """Return the close of the session on the New York date of `now`; None without a session.

    venue_close: the venue's next close; None if unknown. The earlier of the venue's and the
        calendar's close is returned.
    """
    session = session_on(new_york_date(np.array([now]))[0])
    if session is None:
        return None
    if venue_close is not None and session.opens < venue_close < session.closes:
        return venue_close
    return session.closes


def exceeds_overnight_ceiling(account: AccountSnapshot, limits: Limits) -> bool:
    """Return whether the account's positions exceed the broker's overnight leverage ceiling."""
    needed = _equity_needed(account, limits, limits.overnight_leverage, account.positions)
    return needed > max(account.equity, 0.0) * (1 + CEILING_TOL)


def build_overnight_trims(
    account: AccountSnapshot,
    trimmable_positions: Mapping[str, Decimal],
    limits: Limits,
    order_prefix: str,
    session_close_at: np.datetime64,
    trim_number: int,
    tradable: Collection[str],
) -> tuple[Order, ...]:
    """Return market orders that trim positions to the overnight ceiling; empty if none is needed.

    Every tradable stock is trimmed by the same fraction of its quantity in `trimmable_positions`.
    The quantities are rounded up to whole shares, so that rounding leaves no position above the
    ceiling.

    account: account snapshot at the latest prices.
    trimmable_positions: positions less the quantities that orders of unknown outcome may still
        reduce; only what is left is trimmed.
    limits: limits on weights.
    order_prefix: prefix of the order ids.
    session_close_at, trim_number: close of the session, and number of the trim before it, for the
        order ids.
    tradable: symbols that may be traded.
    """
    ours = {s: q for s, q in trimmable_positions.items() if q and s in tradable and is_stock(s)}
    if not ours or not exceeds_overnight_ceiling(account, limits):
        return ()
    needed, of_ours = (
        _equity_needed(account, limits, limits.overnight_stock_ceiling, positions)
        for positions in (account.positions, ours)
    )
    # Rounded, so that no share is sold because of the last digit of a division.
    share = Decimal(repr(round(min((needed - max(account.equity, 0.0)) / of_ours, 1.0), 9)))
    orders = []
    for symbol, held in sorted(ours.items()):
        excess = (abs(held) * share).quantize(Decimal(1), ROUND_CEILING)
        quantity = min(excess, abs(held))
        if not quantity:
            continue
        name = format_order_id(
            order_prefix, format_compact_utc(session_close_at), symbol, 0, trim_number
        )
        reason = f"overnight limit: {quantity:f} of {held:f} at {account.prices[symbol]:g}"
        cut = build_reduction(name, symbol, held, quantity, reason)
        orders.append(replace(cut, expires_at=session_close_at))
    return tuple(orders)


def assume_reductions_filled(
    account: AccountSnapshot, reductions: Iterable[Order]
) -> AccountSnapshot:
    """Return the account as if reducing orders had filled completely at the latest prices.

    No position changes its sign. Equity stays the same.
    """
    positions = dict(account.positions)
    cash = account.cash
    for order in reductions:
        held = positions.get(order.symbol, Decimal(0))
        if held * order.signed_qty < 0:
            filled = min(order.qty, abs(held)).copy_sign(order.signed_qty)
            positions[order.symbol] = held + filled
            cash -= float(filled) * account.prices[order.symbol]
    return replace(account, positions=positions, cash=cash)


def assume_auction_orders_filled(account: AccountSnapshot) -> AccountSnapshot:
    """Return the account as if all its open auction orders that reduce positions had filled."""
    return assume_reductions_filled(
        account, (each for each in account.open_orders if each.is_for_auction)
    )


def closable_positions(
    positions: Mapping[str, Decimal], tradable: Collection[str], net_fills: Mapping[str, Decimal]
) -> dict[str, Decimal]:
    """Return the part of each position that may be closed on request, by symbol.

    Of a symbol that is no longer configured, this is the part that our orders have opened.
    Positions in symbols that we never traded are left out.

    positions: signed quantities by symbol.
    tradable: configured symbols.
    net_fills: signed net quantities that our orders have filled, by symbol.
    """
    ours = {
        symbol: held
        if symbol in tradable
        else common_quantity(held, net_fills.get(symbol, Decimal(0)))
        for symbol, held in positions.items()
    }
    return {symbol: quantity for symbol, quantity in ours.items() if quantity}


def _equity_needed(
    account: AccountSnapshot, limits: Limits, overnight: float, positions: Mapping[str, Decimal]
) -> float:
    """Return the equity that the broker requires overnight for positions, USD.

    Crypto needs its full value, stocks a fraction of their value.

    overnight: overnight leverage ceiling.
    """
    lent = limits.with_account_leverage(account.max_leverage).intraday_leverage
    ceiling = min(overnight, lent) * account.free_equity_share
    held = {symbol: abs(float(quantity)) for symbol, quantity in positions.items() if quantity}
    return sum(
        quantity * account.prices[symbol] / (ceiling if is_stock(symbol) else 1.0)
        for symbol, quantity in held.items()
    )
