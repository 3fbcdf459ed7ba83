"""Expected positions and cash of an account, stored in its journal, and differences from them.

Expected positions are those in the opening balance, plus fills of our orders as the venue reports
them, plus bookings that the actual positions confirm. Such bookings are splits, expiries of
options, and shares from an exercise. A manual trade is a discrepancy, even if the venue lists it.

Three kinds of differences are tolerated. First, a difference of at most the unfilled quantity of an
order that may still fill. Second, the fee of a crypto purchase, which the venue withholds in crypto
and lists hours later (Alpaca, "Crypto Fees"). Third, the absence of an expired option, because the
position ends after the option's last session but the venue lists the expiry a day later.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np

from execution.brokers import UnmodelledOrder
from execution.journal.activities import Activity, ActivityJournal, BookingRow
from execution.journal.events import EventLog
from execution.journal.expected import (
    APPLIED_FILLS_TABLE,
    EXPECTED_POSITIONS_TABLE,
    OPENING_BALANCE_TABLE,
    UNAPPLIED_FILLS_CONDITION,
    ZERO_QUANTITY,
    AppliedFillRow,
    ExpectedCashRow,
    ExpectedPosition,
    ExpectedPositionRow,
)
from execution.journal.order_store import UNKNOWN_OUTCOME_STATES, OrderIntent, OrderStore
from execution.journal.positions import PositionJournal
from execution.journal.rows import parse_bounded_amount
from execution.live.cash_check import CashDifference
from execution.orders.option_orders import (
    OptionContract,
    SpreadOrder,
    group_by_expiry,
    is_option,
    max_expiry_loss,
    parse_occ_symbol,
)
from execution.orders.orders import Order
from foundation.database import Database, DatabaseFailed
from foundation.decimals import (
    CENT,
    EXACT_CONTEXT,
    INFINITY,
    exact_sum,
    format_without_exponent,
    to_fraction,
)
from trainingdata.instants import DAY
from trainingdata.instruments import is_crypto, is_symbol

MAX_CRYPTO_FEE_FRACTION = Decimal("0.01")  # fraction of a purchase; above any fee of the venue
MIN_SURPLUS_TO_UNEXPLAINED_RATIO = (
    10  # least ratio of a surplus to the part that bookings leave unexplained
)
MAX_TRADE_TO_MEAN_PRICE_RATIO = (
    2  # largest ratio of a trade's price to its order's mean price, up or down
)
# Activities are queried again from this long before the last trade: a booking that has only a date
# is listed after a night, a weekend, or with the statement of a month's last days.
ACTIVITY_QUERY_OVERLAP = np.timedelta64(7, "D").astype("timedelta64[ns]")
# Filled quantities of orders and quantities of bookings, by name.
_FILLED_SQL = "SELECT client_order_id, filled FROM intents"
_BOOKED_SQL = "SELECT id, qty FROM activities"

OpenOrder = TypeVar("OpenOrder", Order, UnmodelledOrder)


class PositionTolerance(NamedTuple):
    """Tolerated deviations of a position below and above its expected quantity, both at least 0."""

    below: Decimal = ZERO_QUANTITY
    above: Decimal = ZERO_QUANTITY

    def contains(self, surplus: Decimal) -> bool:
        """Return whether a difference, actual less expected quantity, is within the tolerance."""
        return self.below.copy_negate() <= surplus <= self.above


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A difference between venue and journal: of a position, or an unknown order or activity.

    symbol: symbol, or the underlying of options.
    expected, found: signed quantity (shares, crypto or contracts) of a position; number of orders
        or activities otherwise.
    reason: text that describes the difference.
    order_id: id of an unknown order, or of an activity that is not understood; empty for a
        position.
    """

    symbol: str
    expected: Decimal
    found: Decimal
    reason: str
    order_id: str = ""

    @classmethod
    def from_position(cls, symbol: str, expected: Decimal, found: Decimal) -> Discrepancy:
        held = (
            f"the venue holds {format_without_exponent(found)}, our journal expects"
            f" {format_without_exponent(expected)}"
        )
        return cls(symbol, expected, found, f"{symbol}: {held}")

    @classmethod
    def from_unknown_order(cls, order_id: str, symbol: str, why: str = "") -> Discrepancy:
        """Return the discrepancy of an unknown order.

        why: reason why the order cannot be read; empty for a readable order.
        """
        reason = f"unknown order {order_id} ({symbol}): not in our journal"
        return cls(
            symbol, ZERO_QUANTITY, Decimal(1), f"{reason}: {why}" if why else reason, order_id
        )

    @classmethod
    def from_booking(cls, booking: BookingRow) -> Discrepancy:
        """Return the discrepancy of a booking whose effect is not understood."""
        change = f"{booking.quantity:f} {booking.symbol} and {booking.amount:f} USD"
        reason = f"activity {booking.id} is not understood: {change}"
        return cls(booking.symbol, ZERO_QUANTITY, Decimal(1), reason, booking.id)

    @property
    def surplus(self) -> Decimal:
        """Actual less expected quantity, signed; it does not change when our own orders fill."""
        return EXACT_CONTEXT.subtract(self.found, self.expected)

    @property
    def halt_cause(self) -> str:
        """Order id or surplus as text, which a person acknowledges by clearing the halt."""
        return self.order_id or format_without_exponent(self.surplus)


class ExpectedPositions:
    """Expected positions and cash of an account; no other class writes their journal tables.

    listed: activities that the venue has listed.
    """

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events
        self._intents = OrderStore(database, events)
        self.listed = ActivityJournal(database, events)
        for table in (EXPECTED_POSITIONS_TABLE, APPLIED_FILLS_TABLE, OPENING_BALANCE_TABLE):
            table.create(database)

    @property
    def has_opening_balance(self) -> bool:
        """Return whether the opening balance is recorded."""
        return OPENING_BALANCE_TABLE.first_row(self._database) is not None

    @property
    def journal_started_at(self) -> np.datetime64:
        """Time of the venue's clock at the opening balance."""
        return self._opening_balance().journal_started_at

    def record_opening_balance(
        self,
        held: Mapping[str, Decimal],
        cash: Decimal,
        at: np.datetime64,
        activities: Iterable[Activity],
    ) -> None:
        """Record the opening balance, and the fills and activities that it includes.

        held: signed quantity of every position, by symbol.
        cash: cash of the account, USD.
        at: time of the venue's clock, read before the positions, the cash and the activities.
        activities: activities since `at - ACTIVITY_QUERY_OVERLAP`; the positions already include
            them.
        """
        with self._database.transaction():
            OPENING_BALANCE_TABLE.insert(self._database, ExpectedCashRow(at, cash))
            self._write_expected(
                {symbol: ExpectedPosition(quantity) for symbol, quantity in held.items()}
            )
            self._record_applied(_FILLED_SQL)
            self.listed.record_activities(activities, at, is_after_opening_balance=0)
            self._record_applied(_BOOKED_SQL)
            texts = {symbol: format_without_exponent(quantity) for symbol, quantity in held.items()}
            self._events.append(
                "holdings begun", "1", {"cash": format_without_exponent(cash), "held": texts}
            )

    def record_activities(self, activities: Iterable[Activity], at: np.datetime64) -> int:
        """Record new activities in one transaction, and return their number.

        at: time of the venue's clock when it listed the activities.
        """
        with self._database.transaction():
            listed = list(activities)
            self._record_split_ratios([each for each in listed if each.kind == "split"])
            written = self.listed.record_activities(listed, at, is_after_opening_balance=1)
            cash = exact_sum(change for _, change in written)
            booked = exact_sum(
                change for activity, change in written if not activity.exchanges_cash_for_position
            )
            if cash or booked:
                last = self._opening_balance()
                cash, booked = (
                    EXACT_CONTEXT.add(last.expected_cash, cash),
                    EXACT_CONTEXT.add(last.total_bookings_usd, booked),
                )
                OPENING_BALANCE_TABLE.upsert(
                    self._database, replace(last, expected_cash=cash, total_bookings_usd=booked)
                )
        return len(written)

    def _record_split_ratios(self, bookings: Iterable[Activity]) -> None:
        """Record the ratio of each split among bookings that are not yet recorded."""
        added: defaultdict[tuple[str, np.datetime64], Decimal] = defaultdict(Decimal)
        for each in self.listed.find_unrecorded(bookings):
            added[each.symbol, each.at] += each.quantity
        for (symbol, at), quantity in added.items():
            held = PositionJournal(self._database).quantity_at(symbol, at)
            after = held + to_fraction(quantity)
            if held * after > 0:
                self._intents.record_split(symbol, at, after / held)

    def activity_query_start(self) -> np.datetime64:
        """Return the time from which activities are queried next: a week before the last trade."""
        begun_at = self._opening_balance().journal_started_at
        return np.datetime64(
            max(begun_at, self.listed.last_trade_at() or begun_at) - ACTIVITY_QUERY_OVERLAP, "ns"
        )

    def compare_positions(
        self, held: Mapping[str, Decimal], at: np.datetime64
    ) -> dict[str, Discrepancy]:
        """Apply new fills and bookings to the expected positions; return discrepancies by symbol.

        The caller has to confirm a discrepancy by a second comparison, because a trade can occur
        between two responses of the venue.

        held: the venue's positions, signed quantities by symbol.
        at: time of the venue's clock.
        """
        with self._database.transaction():
            before = self.positions_by_symbol()
            expected = defaultdict(ExpectedPosition, before)
            self._add_unapplied_fills(expected)
            self._record_applied(f"{_FILLED_SQL} WHERE {UNAPPLIED_FILLS_CONDITION}")
            tolerances = self._open_order_tolerances()
            moving = set(tolerances)
            _add_fee_tolerances(tolerances, expected)
            found = find_discrepancies(expected, held, tolerances, at)
            for symbol, each in list(found.items()):
                changes = self._unapplied_bookings(symbol, at)
                for name in find_explaining_bookings(each.surplus, changes, tolerances[symbol]):
                    expected[symbol] = expected[symbol].with_change(changes[name])
                    self._record_applied(f"{_BOOKED_SQL} WHERE id = ?", name)
                found[symbol] = Discrepancy.from_position(
                    symbol, expected[symbol].quantity, each.found
                )
                if tolerances[symbol].contains(found[symbol].surplus):
                    del found[symbol]
            for symbol in {*expected, *held} - {*found} - moving:
                expected[symbol] = expected[symbol].with_accepted_quantity(
                    held.get(symbol, ZERO_QUANTITY)
                )
            changed = {s: each for s, each in expected.items() if each != before.get(s)}
            self._write_expected(changed)
        return found

    def record_acknowledgement(
        self, surpluses: Mapping[str, Decimal], order_ids: Iterable[str]
    ) -> None:
        """Record the discrepancies that a person has acknowledged.

        surpluses: signed quantities by symbol, which are added to the expected positions.
        order_ids: ids of unknown orders and activities, which no longer count as discrepancies.
        """
        with self._database.transaction():
            expected = defaultdict(ExpectedPosition, self.positions_by_symbol())
            self._write_expected(
                {s: expected[s].with_change(each) for s, each in surpluses.items()}
            )
            for symbol, surplus in surpluses.items():
                self._record_applied(f"{_BOOKED_SQL} WHERE symbol = ?", symbol)
                self._events.append("acknowledged", symbol, format_without_exponent(surplus))
            for name in order_ids:
                APPLIED_FILLS_TABLE.upsert(self._database, AppliedFillRow(name, ZERO_QUANTITY))
                self._events.append("acknowledged", name)

    def find_unknown_orders(self, orders: Iterable[OpenOrder]) -> list[OpenOrder]:
        """Return the orders that are not ours, do not replace ours and were not acknowledged."""
        ours = "client_order_id = ?1 OR successor = ?1"
        return [
            order
            for order in orders
            if not self._intents.select_intents(ours, (order.client_order_id,))
            and self._applied_quantity(order.client_order_id) is None
        ]

    def find_unexplained_bookings(self) -> list[BookingRow]:
        """Return the bookings with a symbol that are neither understood nor acknowledged."""
        found = self.listed.bookings_not_understood()
        return [each for each in found if self._applied_quantity(each.id) is None]

    def describe_unlisted_fills(self, at: np.datetime64) -> str:
        """Describe an order that filled more than the venue's listed fills show; empty if none.

        The caller then rejects the venue's list of activities. An order that was sent more than a
        day ago is not checked, because positions and cash have to show its fills by then.

        at: time of the venue's clock.
        """
        single_order = "symbol IS NOT NULL AND successor = '' AND sent_at > ?"
        for intent in self._intents.select_intents(
            f"{UNAPPLIED_FILLS_CONDITION} AND {single_order}", (str(at - DAY),)
        ):
            filled = intent.progress.filled
            listed = self.listed.traded_quantity(
                intent.stock_or_crypto_order.symbol, intent.progress.venue_order_id
            )
            if listed < filled:
                name = intent.client_order_id
                return (
                    f"order {name} has filled {format_without_exponent(filled)}, but the venue's"
                    " activities"
                    f" list only {format_without_exponent(listed)}"
                )
        return ""

    def describe_mispriced_trades(self, activities: Iterable[Activity]) -> str:
        """Describe new trades whose price is implausible for their order; empty if there are none.

        A price is implausible above twice, or below half, the order's mean fill price.
        """
        trades = [each for each in self.listed.find_unrecorded(activities) if each.is_trade]
        orders = self._intents.select_intents(
            f"venue_id IN ({', '.join('?' * len(trades))})",
            tuple(each.venue_order_id for each in trades),
        )
        means = {each.progress.venue_order_id: each.progress.filled_price for each in orders}
        discrepancies = []
        for trade in trades:
            mean = means.get(trade.venue_order_id)
            if (
                mean
                and trade.price
                and not mean / MAX_TRADE_TO_MEAN_PRICE_RATIO
                <= trade.price
                <= mean * MAX_TRADE_TO_MEAN_PRICE_RATIO
            ):
                discrepancies.append(
                    f"activity {trade.id}: price {format_without_exponent(trade.price)} of"
                    f" {trade.symbol} is"
                    f" far from its order's mean fill price, {format_without_exponent(mean)}"
                )
        return "; ".join(discrepancies)

    def cash_difference(self, cash: Decimal) -> CashDifference:
        """Return the difference between the venue's cash and the journal's expected cash.

        cash: the venue's cash, USD.
        """
        opening = self._opening_balance()
        return CashDifference(
            EXACT_CONTEXT.subtract(cash, opening.expected_cash), opening.total_bookings_usd
        )

    def last_accepted_difference(self) -> CashDifference | None:
        """Return the last accepted cash difference; None before the first."""
        accepted = self._opening_balance().accepted_difference
        return CashDifference(*accepted) if accepted else None

    def accept_cash_difference(self, difference: CashDifference) -> None:
        """Record a cash difference as accepted, rounded to the cent.

        Later differences are compared with it.
        """
        cents = [
            each.quantize(CENT, context=EXACT_CONTEXT)
            for each in (difference.unexplained_usd, difference.total_bookings_usd)
        ]
        if CashDifference(*cents) != self.last_accepted_difference():
            unexplained_usd, booked = cents
            now = replace(
                self._opening_balance(),
                accepted_unexplained_usd=unexplained_usd,
                accepted_bookings_usd=booked,
            )
            OPENING_BALANCE_TABLE.upsert(self._database, now)

    def positions_by_symbol(self) -> dict[str, ExpectedPosition]:
        """Return the expected positions by symbol."""
        rows = EXPECTED_POSITIONS_TABLE.select_rows(self._database, "ORDER BY symbol")
        return {row.symbol: ExpectedPosition(row.qty, row.unlisted_fee) for row in rows}

    def _opening_balance(self) -> ExpectedCashRow:
        opening = OPENING_BALANCE_TABLE.first_row(self._database)
        if opening is None:
            raise DatabaseFailed(
                "the journal has no opening balance because the account was never read; run a cycle"
            )
        return opening

    def _write_expected(self, expected: Mapping[str, ExpectedPosition]) -> None:
        for symbol, position in expected.items():
            EXPECTED_POSITIONS_TABLE.upsert(self._database, ExpectedPositionRow(symbol, *position))

    def _applied_quantity(self, name: str) -> Decimal | None:
        """Return the quantity of an order or booking that expected positions include; None if none.

        name: client order id, or id of the booking.
        """
        found = APPLIED_FILLS_TABLE.first_row(self._database, "WHERE name = ?", (name,))
        return None if found is None else found.qty

    def _record_applied(self, query: str, *values: str) -> None:
        """Record that the expected positions include the quantities of some orders or bookings.

        query: SQL query that returns the id and the quantity of each.
        values: values of the query's placeholders.
        """
        for name, quantity in self._database.query(query, values):
            APPLIED_FILLS_TABLE.upsert(
                self._database, AppliedFillRow(name, parse_bounded_amount(quantity))
            )

    def find_lagging_positions(
        self, held: Mapping[str, Decimal], at: np.datetime64
    ) -> dict[str, Discrepancy]:
        """Return the discrepancies of stocks and crypto with new fills, and record nothing.

        held: the venue's positions, signed quantities by symbol.
        at: time of the venue's clock.
        """
        expected = defaultdict(ExpectedPosition, self.positions_by_symbol())
        traded = {each for each in self._add_unapplied_fills(expected) if not is_option(each)}
        tolerances = self._open_order_tolerances()
        _add_fee_tolerances(tolerances, expected)
        wanted = {symbol: expected[symbol] for symbol in traded}
        found = {symbol: held.get(symbol, ZERO_QUANTITY) for symbol in traded}
        return find_discrepancies(wanted, found, tolerances, at)

    def _open_order_tolerances(self) -> defaultdict[str, PositionTolerance]:
        """Return the tolerance by symbol that covers the unfilled quantities of our open orders."""
        return unfilled_order_tolerances(
            self._intents.intents_in_states((*UNKNOWN_OUTCOME_STATES, "accepted"))
        )

    def _add_unapplied_fills(self, expected: defaultdict[str, ExpectedPosition]) -> set[str]:
        """Add unapplied fills to the expected positions, and return the symbols of the fills.

        expected: expected positions by symbol, changed in place.
        """
        symbols = set()
        for intent in self._intents.select_intents(UNAPPLIED_FILLS_CONDITION):
            name, filled = intent.client_order_id, intent.progress.filled
            news = EXACT_CONTEXT.subtract(filled, self._applied_quantity(name) or ZERO_QUANTITY)
            for symbol, change in position_changes_from_fill(intent, news).items():
                position = expected[symbol]
                expected[symbol] = position.with_change(
                    change, max_crypto_fee(symbol, change, position)
                )
                symbols.add(symbol)
        return symbols

    def _unapplied_bookings(self, symbol: str, at: np.datetime64) -> dict[str, Decimal]:
        """Return the part of each recent booking that the expected position lacks, by booking id.

        Covers the bookings of a symbol that were listed in the last week, as signed quantities.

        at: time of the venue's clock.
        """
        changes = {
            name: EXACT_CONTEXT.subtract(quantity, self._applied_quantity(name) or ZERO_QUANTITY)
            for name, quantity in self.listed.position_changes(
                symbol, at - ACTIVITY_QUERY_OVERLAP
            ).items()
        }
        return {name: change for name, change in changes.items() if change}


def find_discrepancies(
    expected: Mapping[str, ExpectedPosition],
    held: Mapping[str, Decimal],
    tolerances: Mapping[str, PositionTolerance],
    at: np.datetime64,
) -> dict[str, Discrepancy]:
    """Compare positions with expected positions, and return the discrepancies by symbol.

    Neither a difference within its tolerance nor the absence of an expired option is a discrepancy.

    expected, held: expected and actual positions by symbol; the quantity of a missing symbol is 0.
    tolerances: tolerances by symbol; a missing symbol has a tolerance of 0.
    at: time of the venue's clock.
    """
    found = {}
    for symbol in sorted({*expected, *held}):
        wanted = expected.get(symbol, ExpectedPosition()).quantity
        each = Discrepancy.from_position(symbol, wanted, held.get(symbol, ZERO_QUANTITY))
        if is_option(symbol) and not each.found and parse_occ_symbol(symbol).has_expired(at):
            continue
        if not tolerances.get(symbol, PositionTolerance()).contains(each.surplus):
            found[symbol] = each
    return found


def find_explaining_bookings(
    surplus: Decimal, changes: Mapping[str, Decimal], tolerance: PositionTolerance
) -> list[str]:
    """Return the ids of bookings that explain at least 90 % of a surplus; empty if none do.

    All bookings are tried together first. Then each booking that reduces the remaining surplus is
    selected, oldest first. A booking that the opening balance or an acknowledgement already
    includes may be listed late. It then does not reduce the surplus. Up to 10 % may stay
    unexplained, so that a split can explain a surplus that also contains a few shares traded by
    hand.

    surplus: actual less expected quantity, signed.
    changes: signed quantities of unapplied bookings by id, oldest first.
    tolerance: tolerance of the position.
    """
    nearer = []
    left = surplus
    for name, change in changes.items():
        if abs(EXACT_CONTEXT.subtract(left, change)) < abs(left):
            left = EXACT_CONTEXT.subtract(left, change)
            nearer.append(name)
    for names in (list(changes), nearer):
        if tolerance.contains(
            EXACT_CONTEXT.subtract(surplus, exact_sum(changes[name] for name in names))
        ):
            return names
    return nearer if MIN_SURPLUS_TO_UNEXPLAINED_RATIO * abs(left) <= abs(surplus) else []


def net_fills_by_symbol(book: OrderStore, job: str) -> dict[str, Decimal]:
    """Return the signed quantities that the orders of a job have bought less sold, by symbol."""
    changes: defaultdict[str, list[Decimal]] = defaultdict(list)
    for intent in book.select_intents("job = ? AND filled != '0'", (job,)):
        for symbol, change in position_changes_from_fill(intent, intent.progress.filled).items():
            changes[symbol].append(change)
    return {symbol: exact_sum(each) for symbol, each in changes.items()}


def position_changes_from_fill(intent: OrderIntent, quantity: Decimal) -> dict[str, Decimal]:
    """Return the signed position changes, by symbol, if an order fills this quantity.

    intent: record of the order.
    quantity: filled quantity; for a spread, the number of spreads.
    """
    if isinstance(intent.order, SpreadOrder):
        legs = {leg.contract.symbol: leg.side for leg in intent.order.legs}
    else:
        legs = {intent.stock_or_crypto_order.symbol: intent.stock_or_crypto_order.side}
    return {symbol: quantity if side == "buy" else -quantity for symbol, side in legs.items()}


def unfilled_order_tolerances(
    open_intents: Iterable[OrderIntent],
) -> defaultdict[str, PositionTolerance]:
    """Return the tolerance by symbol that covers the unfilled quantities of open orders.

    open_intents: intents of the orders that may still fill.
    """
    tolerances: defaultdict[str, PositionTolerance] = defaultdict(PositionTolerance)
    for intent in open_intents:
        order = intent.order
        whole = (
            Decimal(order.contracts)
            if isinstance(order, SpreadOrder)
            else intent.stock_or_crypto_order.qty
        )
        rest = max(whole - intent.progress.filled, ZERO_QUANTITY)
        for symbol, change in position_changes_from_fill(intent, rest).items():
            below, above = tolerances[symbol]
            tolerances[symbol] = PositionTolerance(
                below + max(-change, ZERO_QUANTITY), above + max(change, ZERO_QUANTITY)
            )
    return tolerances


def _add_fee_tolerances(
    tolerances: defaultdict[str, PositionTolerance], expected: Mapping[str, ExpectedPosition]
) -> None:
    """Extend the lower tolerances by the fees in crypto that the venue has not listed yet.

    tolerances: tolerances by symbol, changed in place.
    """
    for symbol, position in expected.items():
        below, above = tolerances[symbol]
        tolerances[symbol] = PositionTolerance(below + position.unlisted_fee, above)


def max_crypto_fee(symbol: str, change: Decimal, position: ExpectedPosition) -> Decimal:
    """Return the largest fee, in units of crypto, that the venue may withhold from a purchase.

    The result is 0 for a sale, and for symbols other than crypto. All withheld fees together are
    capped at a fraction of the position. If the venue charges no fee in crypto, the tolerance
    for fees therefore does not grow with turnover.

    change: signed change of the position.
    position: expected position before the change.
    """
    if not (change > 0 and is_symbol(symbol) and is_crypto(symbol)):
        return ZERO_QUANTITY
    largest = max(abs(position.quantity), abs(EXACT_CONTEXT.add(position.quantity, change)))
    tolerance = EXACT_CONTEXT.subtract(
        EXACT_CONTEXT.multiply(largest, MAX_CRYPTO_FEE_FRACTION), position.unlisted_fee
    )
    return max(
        min(EXACT_CONTEXT.multiply(change, MAX_CRYPTO_FEE_FRACTION), tolerance), ZERO_QUANTITY
    )


class DiscrepancyValue(NamedTuple):
    """Upper bound on the value of discrepancies in positions, USD; infinite if unbounded.

    stock_and_crypto_usd: value of stocks and crypto.
    option_usd_by_root: maximum loss of the options or, if larger, their market value, by root of
        their symbols.
    """

    stock_and_crypto_usd: Decimal = ZERO_QUANTITY
    option_usd_by_root: Mapping[str, Decimal] = MappingProxyType({})

    @property
    def total_usd(self) -> Decimal:
        return self.stock_and_crypto_usd + sum(self.option_usd_by_root.values())


def value_discrepancies(
    surpluses: Mapping[str, Decimal],
    unit_values: Mapping[str, Decimal],
    last_position_values: Mapping[str, float],
) -> DiscrepancyValue:
    """Return an upper bound on the value of surpluses, USD: of stocks and crypto, and of options.

    If a symbol has neither a price nor a mark, a long surplus counts as 0 and a short one as
    infinite.

    surpluses: actual less expected quantities, signed, by symbol.
    unit_values: value of one share, unit of crypto or contract, USD by symbol.
    last_position_values: signed values of positions at the last mark, USD; used for symbols without
        a price.
    """
    stake = ZERO_QUANTITY
    options: dict[OptionContract, Decimal] = {}
    by_root: defaultdict[str, Decimal] = defaultdict(Decimal)
    for symbol, surplus in surpluses.items():
        if is_option(symbol):
            options[parse_occ_symbol(symbol)] = surplus
        elif symbol in unit_values:
            stake += abs(surplus) * unit_values[symbol]
        elif last := last_position_values.get(symbol):
            stake += Decimal(repr(abs(last)))
        elif surplus < 0:
            stake = INFINITY
    for together in group_by_expiry(options):
        loss = max_expiry_loss(together)
        worth = exact_sum(
            abs(n) * unit_values.get(each.symbol, ZERO_QUANTITY) for each, n in together.items()
        )
        root = next(iter(together)).root
        by_root[root] += INFINITY if loss is None else max(loss, worth)
    return DiscrepancyValue(stake, by_root)
