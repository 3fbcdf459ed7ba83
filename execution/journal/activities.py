"""Activities that the venue lists for an account, in tables `fills` (trades) and `activities`.

The field `is_after_opening` of a row is 0 if the opening balance already includes the activity,
else 1.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np

from execution.journal.events import TO_REPORT_EVENT, EventLog
from execution.journal.rows import (
    ExactDecimal,
    Instant,
    Integer,
    JournalTable,
    Text,
    format_instant,
)
from execution.orders.option_orders import SHARES_PER_OPTION, is_option
from execution.orders.orders import is_protective_id
from foundation.database import Database
from foundation.decimals import EXACT_CONTEXT, exact_sum, has_supported_magnitude

log = logging.getLogger(__name__)

EPOCH = np.datetime64("1970-01-01", "ns")

# "transfer": cash that a person pays in (above 0) or withdraws (below 0). "option": an option's
# end without a trade, and the shares delivered for it. "merger": the end or beginning of a symbol.
# "worthless removal": the end of a symbol without payment. "other": an activity with an unknown
# effect, such as a reorganisation, a spin-off or a new type of the venue.
ActivityKind = Literal[
    "trade",
    "transfer",
    "share transfer",
    "dividend",
    "interest",
    "fee",
    "coin fee",
    "split",
    "option",
    "merger",
    "worthless removal",
    "other",
]
NOT_UNDERSTOOD: ActivityKind = "other"
KINDS_WITHOUT_CASH: tuple[ActivityKind, ...] = ("share transfer", "worthless removal")
# Kinds that change no expected position before a person has acknowledged them.
KINDS_TO_ACKNOWLEDGE: tuple[ActivityKind, ...] = ("share transfer", NOT_UNDERSTOOD)

# The venue's order id links a fill to its intent, once the intent has that id.
_FILL_LINKS_SQL = """
    SELECT DISTINCT intents.venue_id, intents.client_order_id
    FROM fills JOIN intents ON intents.venue_id = fills.order_id
    WHERE fills.client_order_id = '' AND intents.venue_id != ''
"""


@dataclass(frozen=True, slots=True)
class Activity:
    """An activity of an account, such as a trade, a dividend or a fee.

    id: the venue's id of the activity.
    kind: kind of the activity.
    at: instant of a trade; for any other activity, the New York midnight at which its date starts.
    symbol: symbol in the project's spelling; empty if cash alone changes.
    quantity: signed change of the position, in shares, units of crypto or contracts.
    price: price in USD of one share, one unit of crypto or one share under an option; None if the
        venue reports none.
    amount: signed change of cash, USD.
    venue_order_id: the venue's id of the order that traded; empty if there was no order.
    venue_type: the venue's name of the activity type, for alerts; empty if unknown.
    """

    id: str
    kind: ActivityKind
    at: np.datetime64
    symbol: str
    quantity: Decimal
    price: Decimal | None
    amount: Decimal
    venue_order_id: str = ""
    venue_type: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            raise ValueError("an activity has no id")
        if self.kind not in get_args(ActivityKind):
            raise ValueError(f"activity {self.id}: unknown kind {self.kind!r}")
        if np.isnat(self.at):
            raise ValueError(f"activity {self.id}: the time is missing")
        if not has_supported_magnitude(self.quantity):
            raise ValueError(f"activity {self.id}: quantity {self.quantity} is not a number")
        if self.quantity and not self.symbol:
            raise ValueError(f"activity {self.id}: quantity {self.quantity} has no symbol")
        if self.is_trade and self.price is None:
            raise ValueError(f"activity {self.id}: the trade has no price")
        if self.price is not None and not (has_supported_magnitude(self.price) and self.price >= 0):
            raise ValueError(f"activity {self.id}: price {self.price} is not a number from 0 up")
        if not self.amount.is_finite():
            raise ValueError(f"activity {self.id}: amount {self.amount} is not a number")

    @property
    def is_trade(self) -> bool:
        """Return whether the activity is a fill of an order; all others are bookings."""
        return self.kind == "trade"

    @property
    def is_understood(self) -> bool:
        """Return whether the activity's effect is understood, or the activity has no effect."""
        return self.kind != NOT_UNDERSTOOD or not (self.quantity or self.amount)

    def __str__(self) -> str:
        change = f"{self.quantity:f} {self.symbol or 'units'} and {self.amount:f} USD"
        return f"activity {self.id} ({self.venue_type or self.kind}): {change}"

    @property
    def exchanges_cash_for_position(self) -> bool:
        """Return whether the activity exchanges a position for cash of about the same value."""
        return self.is_trade or (self.kind == "merger" and bool(self.quantity))


@dataclass(frozen=True, slots=True)
class FillRow:
    """Journal row of a trade.

    id: the venue's id of the trade.
    client_order_id: our client order id; empty if the order was not ours.
    venue_order_id: the venue's id of the order.
    symbol: symbol in the project's spelling.
    quantity: signed quantity.
    price: price of one unit, USD.
    at: instant of the trade.
    listed_at: instant at which the trade was first read from the venue's list.
    is_after_opening_balance: 0 if the opening balance includes the trade, else 1.
    """

    id: Text
    client_order_id: Text
    venue_order_id: Text
    symbol: Text
    quantity: ExactDecimal
    price: ExactDecimal
    at: Instant
    listed_at: Instant
    is_after_opening_balance: Integer = 1

    @property
    def amount(self) -> Decimal:
        """Signed change of cash, USD."""
        return trade_cash_change_usd(self.symbol, self.quantity, self.price)


@dataclass(frozen=True, slots=True)
class BookingRow:
    """Journal row of a booking: an activity other than a trade.

    id: the venue's id of the booking.
    kind: kind of the activity.
    at: New York midnight at which the day of the booking starts.
    symbol: symbol in the project's spelling; empty if cash alone changes.
    quantity: signed change of the position.
    amount: signed change of cash, USD.
    listed_at: instant at which the booking was first read from the venue's list.
    is_after_opening_balance: 0 if the opening balance includes the booking, else 1.
    """

    id: Text
    kind: ActivityKind
    at: Instant
    symbol: Text
    quantity: ExactDecimal
    amount: ExactDecimal
    listed_at: Instant
    is_after_opening_balance: Integer = 1

    @property
    def position_cash_change(self) -> Decimal | None:
        """Signed change of cash that belongs to the change of position, USD; None if unknown.

        It is unknown for a merger that exchanges shares for other shares.
        """
        is_exchange = self.kind == "merger" and not self.amount
        return None if is_exchange or self.kind in KINDS_TO_ACKNOWLEDGE else self.amount


_FILLS = JournalTable(
    "fills",
    FillRow,
    "CREATE INDEX IF NOT EXISTS fills_by_instant ON fills (at)",
    "CREATE INDEX IF NOT EXISTS fills_by_symbol ON fills (symbol, at)",
    column_names={
        "quantity": "qty",
        "venue_order_id": "order_id",
        "is_after_opening_balance": "since_opening",
    },
)
_BOOKINGS = JournalTable(
    "activities",
    BookingRow,
    "CREATE INDEX IF NOT EXISTS activities_by_kind ON activities (kind, symbol, at)",
    column_names={"quantity": "qty", "is_after_opening_balance": "since_opening"},
)


class ActivityJournal:
    """The venue's listed activities of one account, as recorded in its journal."""

    def __init__(self, database: Database, events: EventLog) -> None:
        self._database = database
        self._events = events
        _FILLS.create(database)
        _BOOKINGS.create(database)

    def find_unrecorded(self, activities: Iterable[Activity]) -> list[Activity]:
        """Return the activities that are not yet recorded, or whose recorded content differs."""
        return [each for each in activities if self._old_and_new_row(each, EPOCH, 0) is not None]

    def record_activities(
        self, activities: Iterable[Activity], at: np.datetime64, *, is_after_opening_balance: int
    ) -> list[tuple[Activity, Decimal]]:
        """Record new and changed activities; return each of them with its change of cash.

        The change of cash is the signed amount, USD, by which the expected cash changes. A changed
        activity replaces its earlier row. Each fill gets the client order id of our order with the
        same order id at the venue. Option legs and exit orders have other ids at the venue, and get
        none. The same transaction records which notices are due: of traded protective orders, and
        of activities that are not understood.

        at: instant by the venue's clock at which the activities were listed.
        is_after_opening_balance: 0 if the journal's opening balance includes the activities, else
            1.
        """
        written = []
        with self._database.transaction():
            for activity in activities:
                changed = self._old_and_new_row(activity, at, is_after_opening_balance)
                if changed is None:
                    continue
                before, after = changed
                _activity_table(activity).upsert(self._database, after)
                if before is not None:
                    name = activity.id
                    log.warning("activity %s: the venue has changed the listed values", name)
                    details = {"before": str(before), "after": str(after)}
                    self._events.append("activity changed", name, details)
                if is_after_opening_balance and not activity.is_understood:
                    self._events.append(TO_REPORT_EVENT, activity.id, str(activity))
                earlier = Decimal(0) if before is None else before.amount
                change = (
                    EXACT_CONTEXT.subtract(after.amount, earlier)
                    if after.is_after_opening_balance
                    else Decimal(0)
                )
                written.append((activity, change))
            for order_id, name in self._database.query(_FILL_LINKS_SQL):
                unlinked = "WHERE order_id = ? AND client_order_id = ''"
                _FILLS.update(self._database, unlinked, (order_id,), client_order_id=name)
                if is_after_opening_balance and is_protective_id(name):
                    self._events.append(TO_REPORT_EVENT, name)
        return written

    def last_trade_at(self) -> np.datetime64 | None:
        """Return the instant of the last trade; None before the first."""
        last = _FILLS.first_row(self._database, "ORDER BY at DESC")
        return None if last is None else last.at

    def traded_quantity(self, symbol: str, order_id: str) -> Decimal:
        """Return the total unsigned quantity that an order has traded in a symbol.

        order_id: the venue's id of the order.
        """
        condition = "WHERE symbol = ? AND order_id = ?"
        fills = _FILLS.select_rows(self._database, condition, (symbol, order_id))
        return exact_sum(abs(fill.quantity) for fill in fills)

    def net_deposits_since(self, since: np.datetime64) -> Decimal:
        """Return deposits less withdrawals that the venue listed after an instant, USD.

        Transfers that the opening balance includes are left out.
        """
        condition = "WHERE kind = 'transfer' AND listed_at > ? AND since_opening > 0"
        return exact_sum(
            each.amount
            for each in _BOOKINGS.select_rows(self._database, condition, (format_instant(since),))
        )

    def position_changes(self, symbol: str, since: np.datetime64) -> dict[str, Decimal]:
        """Return the position changes by bookings listed after an instant, by booking id.

        The changes are signed quantities, oldest first. Bookings of `KINDS_TO_ACKNOWLEDGE` are left
        out.
        """
        condition = "WHERE symbol = ? AND listed_at > ? ORDER BY rowid"
        found = _BOOKINGS.select_rows(self._database, condition, (symbol, format_instant(since)))
        return {each.id: each.quantity for each in found if each.kind not in KINDS_TO_ACKNOWLEDGE}

    def bookings_not_understood(self) -> list[BookingRow]:
        """Return the bookings with a symbol and an effect that is not understood."""
        condition = "WHERE kind = ? AND symbol != '' AND since_opening > 0 ORDER BY rowid"
        found = _BOOKINGS.select_rows(self._database, condition, (NOT_UNDERSTOOD,))
        return [each for each in found if each.quantity or each.amount]

    def _old_and_new_row(
        self, activity: Activity, at: np.datetime64, since_opening: int
    ) -> tuple[FillRow | BookingRow | None, FillRow | BookingRow] | None:
        """Return an activity's recorded row (None if new) and its new row; None if both are equal.

        at: instant at which the activity was listed.
        since_opening: 0 if the opening balance includes the activity, else 1.
        """
        table = _activity_table(activity)
        before = table.first_row(self._database, "WHERE id = ?", (activity.id,))
        after = _build_row(activity, at, since_opening)
        if before is not None:
            kept: dict[str, Any] = {
                "listed_at": before.listed_at,
                "is_after_opening_balance": before.is_after_opening_balance,
            }
            if isinstance(before, FillRow):
                kept["client_order_id"] = before.client_order_id
            after = replace(after, **kept)
        return None if after == before else (before, after)


def read_fills_since(database: Database, since: np.datetime64) -> list[FillRow]:
    """Return the trades after an instant, oldest first, except those in the opening balance."""
    condition = "WHERE since_opening > 0 AND at > ? ORDER BY at, rowid"
    return _FILLS.select_rows(database, condition, (format_instant(since),))


def read_fills_of_order(database: Database, client_order_id: str) -> list[FillRow]:
    """Return the listed trades of one of our orders, oldest first."""
    return _FILLS.select_rows(
        database, "WHERE client_order_id = ? ORDER BY at, rowid", (client_order_id,)
    )


def read_bookings(database: Database) -> list[BookingRow]:
    """Return all bookings in the order of listing, except those in the opening balance."""
    return _BOOKINGS.select_rows(database, "WHERE since_opening > 0 ORDER BY listed_at, rowid")


def trade_cash_change_usd(symbol: str, quantity: Decimal, price: Decimal) -> Decimal:
    """Return the signed change of cash that a trade causes, USD.

    quantity: signed quantity.
    price: price of one unit, USD.
    """
    units = Decimal(-SHARES_PER_OPTION if is_option(symbol) else -1)
    return EXACT_CONTEXT.multiply(EXACT_CONTEXT.multiply(quantity, price), units)


def _activity_table(activity: Activity) -> JournalTable[Any]:
    return _FILLS if activity.is_trade else _BOOKINGS


def _build_row(activity: Activity, at: np.datetime64, since_opening: int) -> FillRow | BookingRow:
    same = ("id", "symbol", "quantity", "at")
    shared: dict[str, Any] = {name: getattr(activity, name) for name in same}
    shared |= {"listed_at": at, "is_after_opening_balance": since_opening}
    if activity.is_trade:
        price = activity.price or Decimal(0)
        return FillRow(
            client_order_id="", venue_order_id=activity.venue_order_id, price=price, **shared
        )
    return BookingRow(kind=activity.kind, amount=activity.amount, **shared)
