"""Reconciliation of one account with its journal, from data that the caller has already read.

A symbol whose position or orders differ from the journal is quarantined: one alert is sent, and the
symbol counts in every limit but is not traded. If the discrepancies exceed a fraction of equity,
the account is halted.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from execution.brokers import (
    NO_POSITION,
    AccountReading,
    AccountReadingRejected,
    MarksRejected,
    RereadRequired,
    UnmodelledOrder,
    VenuePosition,
)
from execution.journal.activities import EPOCH, Activity
from execution.journal.expected import ZERO_QUANTITY
from execution.journal.halts import HaltKind
from execution.live.cash_check import (
    CashDifference,
    cash_tolerance,
    describe_vanished_difference,
    unexplained_cash_reason,
)
from execution.live.expected_positions import (
    Discrepancy,
    DiscrepancyValue,
    ExpectedPositions,
    value_discrepancies,
)
from execution.live.open_account import OpenAccount
from execution.live.validation import MarkValidator
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.last_trades import TradeSource, fetch_last_prices
from execution.orders.option_orders import is_option
from execution.orders.orders import Order, open_crypto_bid_cost
from foundation.decimals import INFINITY, exact_sum, format_without_exponent
from trainingdata.delistings import MAX_PAYOUT_MULTIPLE

log = logging.getLogger(__name__)

# Largest value of discrepancies, a fraction of equity, at which other symbols are still traded. It
# equals the daily loss limit (`guards.daily_loss`), so that losing all of it ruins no account.
MAX_DISCREPANCY_EQUITY_FRACTION = Decimal("0.1")
DISCREPANCY_HALTS: tuple[HaltKind, HaltKind] = ("positions", "symbols")
DiscrepanciesBySymbol = Mapping[
    str, Sequence[Discrepancy]
]  # by symbol, or by underlying for options


class Reconciler:
    """Reconciler of an account at the venue with the account's journal.

    account: the account's journal, halts and alerts.
    feed: source of last trades, against which the venue's marks are validated.
    """

    def __init__(self, account: OpenAccount, feed: TradeSource) -> None:
        self.holdings = ExpectedPositions(account.database, account.events)
        self._account = account
        self._halts = account.halts
        self._notices = account.notices
        self._feed = feed
        self._marks = MarkValidator(feed)
        self._listed_at: np.datetime64 = EPOCH
        self._equity: Decimal | None = None  # USD, of the last accepted reading
        # By symbol; None before the first comparison.
        self._differences: Mapping[str, Discrepancy] | None = None
        self._at_stake = DiscrepancyValue()  # largest value of the discrepancies
        self._units: Mapping[str, Decimal] = {}  # USD of one unit, by symbol
        self._unknown_orders: Sequence[UnmodelledOrder] = ()  # at the last reading
        self._cleared: set[str] = set()  # causes that were cleared before the comparison

    def check_reading(self, reading: AccountReading) -> AccountSnapshot:
        """Return the snapshot for decisions, with the symbols of discrepancies quarantined.

        Unexplained cash at a second reading halts the account. A person who clears this halt
        acknowledges the cash difference that raised it, and no other.

        reading: account as read from the venue, with positions valued by `value_positions`.

        Raises
        ------
        RereadRequired
            for unexplained cash or unconfirmed marks at the first reading.
        AccountReadingRejected
            for unexplained cash or unconfirmed marks at the second reading. For marks, the error is
            a `MarksRejected`, whose account is valued at the feed's prices.
        """
        marks = reading.mark_rejection_reason
        equity = _decimal_equity(reading.account)
        why = self.cash_difference_reason(reading)
        now = self.holdings.cash_difference(reading.cash)
        if not reading.is_reread and (reason := why or marks):
            raise RereadRequired(reason)
        account = self._with_quarantine(reading.account, reading.unmodelled_orders)
        if why and not self._is_acknowledged(now, equity):
            late = self.holdings.describe_unlisted_fills(self._listed_at)
            if not late:
                self._account.raise_halt("cash", why, cause=now.halt_cause)
            raise AccountReadingRejected(late or why, account)
        self._notices.update_alert("marks", marks)
        held = ", ".join(
            sorted(
                f"{format_without_exponent(q)} {s}" for s, q in reading.unpriced_quantities.items()
            )
        )
        text = f"no price for {held}: quarantined, valued at the last mark, or at 0 without one"
        self._notices.update_alert("unpriced", text if held else "")
        if marks:
            raise MarksRejected(marks, account)
        self._report_vanished_difference(now, equity)
        self._end_explained_cash_halt(now, equity)
        self._consume_acknowledgement("cash")
        self.holdings.accept_cash_difference(now)
        self._equity = equity
        self._marks.accept_marks(account)
        return account

    def value_positions(self, reading: AccountReading) -> AccountReading:
        """Validate the marks of a reading, and value its positions without a price.

        The last trade, if known, replaces a rejected mark. The last accepted mark replaces a
        missing price. The result's `mark_rejection_reason` lists the reasons for rejections. Its
        `unpriced_quantities` contain only the positions without a price that caused no rejection.
        """
        rejected = self._marks.find_rejected_marks(reading.account, reread=reading.is_reread)
        known = {symbol: price for symbol, price in rejected.items() if price > 0}
        account = replace(reading.account, prices={**reading.account.prices, **known})
        account, reasons = self._value_at_last_marks(account, reading.unpriced_quantities)
        marks = "; ".join(
            (*_mark_rejection_reasons(rejected, reading.account.prices), *reasons.values())
        )
        unpriced = {s: q for s, q in reading.unpriced_quantities.items() if s not in reasons}
        return replace(
            reading, account=account, unpriced_quantities=unpriced, mark_rejection_reason=marks
        )

    def _value_at_last_marks(
        self, account: AccountSnapshot, unpriced: Mapping[str, Decimal]
    ) -> tuple[AccountSnapshot, dict[str, str]]:
        """Return the account with unpriced positions at their last marks, and rejection reasons.

        Reasons are by symbol. A last mark is rejected if the position is a large part of the
        account. A position that was never marked is rejected if it is short, and counts as 0 USD if
        it is long.

        unpriced: signed quantities of the positions without a price, by symbol.
        """
        marked = self._last_marked_values()
        positions, prices = dict(account.positions), dict(account.prices)
        proceeds = account.short_proceeds
        reasons = {}
        for symbol, quantity in unpriced.items():
            price = self._marks.last_accepted_mark(symbol) or abs(
                marked.get(symbol, 0.0) / float(quantity)
            )
            held = f"{format_without_exponent(abs(quantity))} {symbol}"
            if price:
                positions[symbol], prices[symbol] = quantity, price
                proceeds += max(-float(quantity), 0.0) * price
                if (
                    abs(float(quantity)) * price
                    > float(MAX_DISCREPANCY_EQUITY_FRACTION) * account.equity
                ):
                    reasons[symbol] = f"no price for {held}, last marked at {price:g}"
            elif quantity < 0:
                reasons[symbol] = f"no price for {held}, a short position that was never marked"
        changed = replace(account, positions=positions, prices=prices, short_proceeds=proceeds)
        return changed, reasons

    def cash_difference_reason(self, reading: AccountReading) -> str:
        """Return why the journal does not explain the cash of a reading, or an empty string."""
        account = reading.account
        now = self.holdings.cash_difference(reading.cash)
        bids = Decimal(repr(open_crypto_bid_cost(account.open_orders, account.prices)))
        return unexplained_cash_reason(
            now, self.holdings.last_accepted_difference(), _decimal_equity(account), bids
        )

    def _is_acknowledged(self, now: CashDifference, equity: Decimal) -> bool:
        """Return whether a person has acknowledged this cash difference by clearing its halt."""
        cause = self._halts.acknowledged_cause("cash")
        if not cause or not now.is_near(
            CashDifference.from_halt_cause(cause), cash_tolerance(equity)
        ):
            return False
        log.warning("acknowledged, later cash is compared with this difference: %s", now)
        return True

    def _report_vanished_difference(self, now: CashDifference, equity: Decimal) -> None:
        """Send a notice if a cash difference that a person has acknowledged no longer exists."""
        cause = self._halts.used_cause("cash")
        vanished = describe_vanished_difference(
            now,
            self.holdings.last_accepted_difference(),
            CashDifference.from_halt_cause(cause) if cause else None,
            equity,
        )
        if vanished:
            self._notices.send_notice("cash", vanished)

    def _end_explained_cash_halt(self, now: CashDifference, equity: Decimal) -> None:
        """End the cash halt if bookings listed since it was raised explain the difference."""
        standing = self._halts.active_cause("cash")
        if standing is None:
            return
        booked = (
            now.total_bookings_usd - CashDifference.from_halt_cause(standing[1]).total_bookings_usd
        )
        if abs(booked) > cash_tolerance(equity):
            self._account.end_halt("cash")

    def load_acknowledgements(self) -> None:
        """Load the discrepancies that a person acknowledged, before positions are compared."""
        self._cleared = {*map(self._halts.acknowledged_cause, DISCREPANCY_HALTS)}

    def describe_unlisted_fills(self) -> str:
        """Describe an order that filled more than the venue's listed fills show; empty if none."""
        return self.holdings.describe_unlisted_fills(self._listed_at)

    def describe_lagging_positions(self, account: AccountSnapshot) -> str:
        """Describe positions that lack fills of the journal; empty if there are none.

        Symbols that differed at the last comparison are left out.
        """
        found = self.holdings.find_lagging_positions(account.positions, account.as_of)
        return "; ".join(
            each.reason for symbol, each in found.items() if symbol not in (self._differences or {})
        )

    def compare_positions(self, held: Mapping[str, VenuePosition]) -> Mapping[str, Discrepancy]:
        """Compare positions with the expected positions, and return the discrepancies by symbol.

        held: the venue's positions by symbol, read after activities were last recorded.
        """
        quantities = {symbol: each.quantity for symbol, each in held.items()}
        return self.holdings.compare_positions(quantities, self._listed_at)

    def is_comparison_final(self, found: Mapping[str, Discrepancy]) -> bool:
        """Return whether a comparison need not be repeated.

        It is final if it finds no discrepancy, or the same discrepancies as those quarantined
        before.

        found: discrepancies of the comparison, by symbol.
        """
        return not found or _format_surpluses(found) == _format_surpluses(self._differences or {})

    def set_quarantine(
        self, found: Mapping[str, Discrepancy], held: Mapping[str, VenuePosition]
    ) -> None:
        """Set the discrepancies whose symbols the next `check_reading` quarantines.

        found: discrepancies of the last comparison, by symbol.
        held: the venue's positions by symbol, from which the discrepancies are valued.
        """
        self._units = self._unit_values(held, found)
        self._set_discrepancies(found)

    @property
    def discrepant_symbols(self) -> frozenset[str]:
        """Symbols in which the last comparison of this process has found a discrepancy."""
        return frozenset(self._differences or ())

    def option_max_loss_by_root(self) -> dict[str, float]:
        """Return the maximum loss of option discrepancies and unmodelled orders, USD by root.

        Unbounded losses are excluded, because they halt the account.
        """
        risks: defaultdict[str, float] = defaultdict(float)
        ordered = [(order.instrument_name, order.max_loss_usd) for order in self._unknown_orders]
        for place, stake in (*self._at_stake.option_usd_by_root.items(), *ordered):
            if stake < INFINITY:
                risks[place] += float(stake)
        return dict(risks)

    def _set_discrepancies(self, found: Mapping[str, Discrepancy]) -> None:
        surpluses = {symbol: each.surplus for symbol, each in found.items()}
        self._differences = found
        self._at_stake = value_discrepancies(surpluses, self._units, self._last_marked_values())

    def _last_marked_values(self) -> Mapping[str, float]:
        """Return the signed values of positions at the last mark, USD, by symbol."""
        mark = self._account.marks.last_mark()
        return {} if mark is None else mark.positions

    def _unit_values(
        self, held: Mapping[str, VenuePosition], symbols: Iterable[str]
    ) -> dict[str, Decimal]:
        """Return the value of one unit by symbol, USD: the venue's mark, else the last trade."""
        units = {}
        for symbol in symbols:
            quantity, worth = held.get(symbol, NO_POSITION)
            if quantity and worth:
                units[symbol] = worth / abs(quantity)
        last = fetch_last_prices(self._feed, {*symbols} - {*units})
        return {**units, **{symbol: Decimal(repr(price)) for symbol, price in last.items()}}

    def _with_quarantine(
        self, account: AccountSnapshot, others: Sequence[UnmodelledOrder]
    ) -> AccountSnapshot:
        """Return the account with the symbols of discrepancies marked as uncertain.

        If the discrepancies exceed a fraction of equity, the account is halted until all are
        resolved. Positions that a person has acknowledged become expected positions. An
        acknowledgement counts once, only for the causes that the halt named, and only if the next
        comparison still finds the same discrepancies. A symbol whose position this reading shows
        otherwise than the comparison did is quarantined until the next comparison, without a halt.

        others: open orders that the account snapshot excludes.
        """
        if self._differences is None:
            return account
        changed = {
            symbol
            for symbol, each in self._differences.items()
            if not is_option(symbol) and account.positions.get(symbol, ZERO_QUANTITY) != each.found
        }
        account = replace(account, uncertain_symbols=account.uncertain_symbols | changed)
        found = self._group_discrepancies(account, others, changed)
        if {*map(self._halts.acknowledged_cause, DISCREPANCY_HALTS)} - self._cleared - {""}:
            return replace(account, uncertain_symbols=account.uncertain_symbols | {*found})
        cleared: dict[str, list[str]] = {}
        for each in filter(None, self._cleared):
            cleared |= json.loads(each)
        settled = [
            place
            for place, group in found.items()
            if cleared.get(place) == _acknowledgeable_causes(group)
        ]
        if settled:
            self._accept_discrepancies({place: found[place] for place in settled})
            found = self._group_discrepancies(account, others, changed)
        if not found:
            if not changed:
                self._end_discrepancy_halts()
            return account
        cause = json.dumps(
            {s: _acknowledgeable_causes(group) for s, group in found.items()}, sort_keys=True
        )
        positions, symbols = DISCREPANCY_HALTS
        orders = self.holdings.find_unknown_orders(account.open_orders)
        stake = self._at_stake.total_usd + self._orders_value(orders, account)
        stake += exact_sum(order.max_loss_usd for order in self._unknown_orders)
        large = stake > MAX_DISCREPANCY_EQUITY_FRACTION * _decimal_equity(account)
        kind = positions if large or self._halts.active_cause(positions) else symbols
        standing = self._halts.active_cause(kind)
        if standing is None or standing[1] != cause:
            self._end_discrepancy_halts()
            self._account.raise_halt(kind, _format_reasons(found), cause=cause)
        return replace(account, uncertain_symbols=account.uncertain_symbols | {*found})

    def _group_discrepancies(
        self, account: AccountSnapshot, others: Sequence[UnmodelledOrder], changed: set[str]
    ) -> DiscrepanciesBySymbol:
        """Return the discrepancies by symbol; for options, by the symbol of the underlying.

        others: open orders that the account snapshot excludes.
        changed: symbols whose position has changed since the comparison, which are left out.
        """
        found: defaultdict[str, list[Discrepancy]] = defaultdict(list)
        for symbol, each in (self._differences or {}).items():
            if symbol not in changed:
                found[symbol].append(each)
        for order in self.holdings.find_unknown_orders(account.open_orders):
            found[order.symbol].append(
                Discrepancy.from_unknown_order(order.client_order_id, order.symbol)
            )
        for booking in self.holdings.find_unexplained_bookings():
            found[booking.symbol].append(Discrepancy.from_booking(booking))
        self._unknown_orders = self.holdings.find_unknown_orders(others)
        for other in self._unknown_orders:
            unknown = Discrepancy.from_unknown_order(
                other.client_order_id, other.instrument_name, other.unreadable_reason
            )
            found[other.instrument_name].append(unknown)
        return dict(found)

    def _accept_discrepancies(self, found: DiscrepanciesBySymbol) -> None:
        """Add acknowledged surpluses to the expected positions, and record acknowledged orders."""
        differences = dict(self._differences or {})
        log.warning("acknowledged, now part of the expected positions: %s", _format_reasons(found))
        surpluses = {s: differences.pop(s).surplus for s in found if s in differences}
        orders = [each.order_id for group in found.values() for each in group if each.order_id]
        self.holdings.record_acknowledgement(surpluses, orders)
        self._set_discrepancies(differences)

    def _orders_value(self, orders: Iterable[Order], account: AccountSnapshot) -> Decimal:
        """Return an upper bound on the value that orders may trade, USD; infinite if unbounded."""
        seen = {symbol: Decimal(repr(price)) for symbol, price in account.prices.items()}
        unseen = {order.symbol for order in orders} - {*seen}
        market = {**seen, **self._unit_values({}, unseen)}
        return exact_sum(_max_order_value_usd(order, market.get(order.symbol)) for order in orders)

    def _end_discrepancy_halts(self) -> None:
        """End the halts of discrepancies, and mark their acknowledgements as used."""
        for kind in DISCREPANCY_HALTS:
            if self._halts.active_cause(kind) is not None:
                self._account.end_halt(kind)
            self._consume_acknowledgement(kind)

    def _consume_acknowledgement(self, kind: HaltKind) -> None:
        if self._halts.acknowledged_cause(kind):
            self._halts.consume_acknowledgement(kind)

    def set_listing_time(self, at: np.datetime64) -> None:
        """Set the venue time at which the activities recorded from now on were listed."""
        self._listed_at = at

    def record_activities(self, listed: Sequence[Activity], at: np.datetime64) -> list[Activity]:
        """Record the listed activities, except large bookings, and return the large bookings.

        A booking is large if it exceeds the tolerance for late listings. It must be confirmed by
        the cash balance before it is recorded.
        """
        large = self._large_bookings(listed)
        self.holdings.record_activities([each for each in listed if each not in large], at)
        if not large:
            self._notices.update_alert("booking", "")
        return large

    def record_large_bookings(
        self, large: Sequence[Activity], cash: Decimal, at: np.datetime64
    ) -> None:
        """Record the large bookings that the venue's cash confirms; send an alert about the others.

        cash: the venue's cash, USD.
        """
        self.holdings.record_activities(self._cash_confirmed_bookings(large, cash), at)

    def _large_bookings(self, listed: Sequence[Activity]) -> list[Activity]:
        """Return the new bookings that exceed the tolerance for late listings."""
        if self._equity is None:
            mark = self._account.marks.last_mark()
            if mark is None:
                return []
            self._equity = Decimal(repr(mark.equity))
        tolerance = cash_tolerance(self._equity)
        news = self.holdings.listed.find_unrecorded(listed)
        return [each for each in news if not each.is_trade and abs(each.amount) > tolerance]

    def _cash_confirmed_bookings(self, large: Sequence[Activity], cash: Decimal) -> list[Activity]:
        """Return the bookings that the cash balance confirms, and send an alert about the others.

        If all bookings together explain the cash, as the legs of an expiring spread may, all are
        returned. Otherwise these are the bookings that bring the recorded cash closer to the
        venue's.

        large: bookings that exceed the tolerance for late listings.
        cash: the venue's cash, USD.
        """
        overpaid = {each.id: why for each in large if (why := self._overpayment_reason(each))}
        hidden = list(overpaid.values())
        large = [each for each in large if each.id not in overpaid]
        last = self.holdings.last_accepted_difference() or CashDifference(
            ZERO_QUANTITY, ZERO_QUANTITY
        )
        away = self.holdings.cash_difference(cash).unexplained_usd - last.unexplained_usd
        tolerance = cash_tolerance(self._equity or ZERO_QUANTITY)
        if not hidden and abs(away - exact_sum(each.amount for each in large)) <= tolerance:
            return large
        shown = []
        for each in large:
            if abs(away - each.amount) < abs(away):
                away -= each.amount
                shown.append(each)
            else:
                hidden.append(
                    f"activity {each.id}: ignored, {each.kind} of"
                    f" {format_without_exponent(each.amount)} USD"
                    " is listed but the cash balance does not include it"
                )
        self._notices.update_alert("booking", "; ".join(hidden))
        return shown

    def _overpayment_reason(self, each: Activity) -> str:
        """Return why the cash paid for a position is implausibly large, or an empty string.

        each: booking of an activity, such as a merger, that exchanges the position for cash.
        """
        worth = self._last_marked_values().get(each.symbol)
        if not each.exchanges_cash_for_position or not worth:
            return ""
        if abs(float(each.amount)) <= MAX_PAYOUT_MULTIPLE * abs(worth):
            return ""
        return (
            f"activity {each.id}: ignored, it exchanges {each.symbol} for"
            f" {format_without_exponent(each.amount)} USD but the position was last worth"
            f" {worth:,.2f} USD"
        )


def _decimal_equity(account: AccountSnapshot) -> Decimal:
    """Return the equity of an account, USD, as the shortest decimal that denotes it."""
    return Decimal(repr(account.equity))


def common_quantity(held: Decimal, expected: Decimal) -> Decimal:
    """Return the smaller of two signed quantities by size; 0 if their signs differ."""
    return min(held, expected, key=abs) if held * expected > 0 else ZERO_QUANTITY


def _acknowledgeable_causes(group: Sequence[Discrepancy]) -> list[str]:
    """Return the causes that a person acknowledges by clearing the halt of a symbol."""
    return [each.halt_cause for each in group]


def _format_reasons(found: DiscrepanciesBySymbol) -> str:
    return "; ".join(each.reason for _, group in sorted(found.items()) for each in group)


def _mark_rejection_reasons(rejected: Mapping[str, float], marks: Mapping[str, float]) -> list[str]:
    """Return the reasons why marks are rejected, one per symbol.

    rejected: reference price of each symbol, USD; NaN if unknown.
    marks: the venue's marks, USD by symbol.
    """
    reasons = []
    for symbol, price in sorted(rejected.items()):
        last = f"the reference price is {price:g}" if price > 0 else "no trade confirms it"
        reasons.append(f"the venue marks {symbol} at {marks[symbol]:g}, but {last}")
    return reasons


def _max_order_value_usd(order: Order, market: Decimal | None) -> Decimal:
    """Return an upper bound on the value that an order may trade, USD; infinite if unbounded.

    market: last trade price, USD; None if unknown.
    """
    own = [Decimal(repr(price)) for price in (order.limit_price, order.stop_price) if price]
    # A sale trades at the market, however low its limit is.
    if market is None and (order.side == "sell" or not own):
        return INFINITY
    return order.qty * max(*own, ZERO_QUANTITY if market is None else market, ZERO_QUANTITY)


def _format_surpluses(differences: Mapping[str, Discrepancy]) -> dict[str, str]:
    """Return the surpluses by symbol as text, which is equal for equal quantities."""
    return {symbol: format_without_exponent(each.surplus) for symbol, each in differences.items()}
