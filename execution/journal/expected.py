"""Tables of expected positions and cash, and of the fills and bookings included in them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from execution.journal.rows import ExactDecimal, Instant, Integer, JournalTable, Text
from foundation.decimals import EXACT_CONTEXT

ZERO_QUANTITY = Decimal(0)
# An SQL condition on intents: more of the order has filled than is applied.
UNAPPLIED_FILLS_CONDITION = (
    "filled != coalesce((SELECT qty FROM applied_fills WHERE name = client_order_id), '0')"
)


class ExpectedPosition(NamedTuple):
    """Expected signed position in a symbol, and the crypto fee that the venue may still deduct."""

    quantity: Decimal = ZERO_QUANTITY
    unlisted_fee: Decimal = ZERO_QUANTITY

    def with_change(
        self, change: Decimal, unlisted_fee: Decimal = ZERO_QUANTITY
    ) -> ExpectedPosition:
        """Return the position after a change, from which the venue may still deduct a fee.

        change: signed change of the quantity.
        unlisted_fee: largest fee, in units of the symbol, that the venue may still deduct.
        """
        return ExpectedPosition(
            EXACT_CONTEXT.add(self.quantity, change),
            EXACT_CONTEXT.add(self.unlisted_fee, unlisted_fee),
        )

    def with_accepted_quantity(self, actual: Decimal) -> ExpectedPosition:
        """Return the expected position once the actual quantity at the venue is accepted.

        If the actual quantity differs from the expected one, the outstanding fee counts as
        deducted.
        """
        return self if actual == self.quantity else ExpectedPosition(actual)


@dataclass(frozen=True, slots=True)
class ExpectedPositionRow:
    """Journal row of the expected position in a symbol, and the fee that may still reduce it."""

    symbol: Text
    qty: ExactDecimal
    unlisted_fee: ExactDecimal


@dataclass(frozen=True, slots=True)
class AppliedFillRow:
    """Journal row of the quantity of one order or booking that the expected positions include."""

    order_or_booking_id: Text
    qty: ExactDecimal


EXPECTED_POSITIONS_TABLE = JournalTable(
    "expected", ExpectedPositionRow, column_names={"unlisted_fee": "fee"}
)
APPLIED_FILLS_TABLE = JournalTable(
    "applied_fills", AppliedFillRow, column_names={"order_or_booking_id": "name"}
)


@dataclass(frozen=True, slots=True)
class ExpectedCashRow:
    """Journal row of the account's expected cash, and of the last accepted difference from it, USD.

    journal_started_at: start time of the journal.
    expected_cash: opening balance plus all later trades and bookings.
    total_bookings_usd: signed sum of all bookings (activities other than trades).
    accepted_unexplained_usd: signed difference of the venue's cash from the expected cash at the
        last accepted account snapshot; None before the first.
    accepted_bookings_usd: value of `total_bookings_usd` at that snapshot; None before the first.
    row_key: constant key of the table's only row.
    """

    journal_started_at: Instant
    expected_cash: ExactDecimal
    total_bookings_usd: ExactDecimal = Decimal(0)
    accepted_unexplained_usd: ExactDecimal | None = None
    accepted_bookings_usd: ExactDecimal | None = None
    row_key: Integer = 1

    @property
    def accepted_difference(self) -> tuple[Decimal, Decimal] | None:
        """Last accepted cash difference, and sum of bookings then, USD; None before the first."""
        if self.accepted_unexplained_usd is None or self.accepted_bookings_usd is None:
            return None
        return self.accepted_unexplained_usd, self.accepted_bookings_usd


OPENING_BALANCE_TABLE = JournalTable(
    "opening_balance",
    ExpectedCashRow,
    key="number",
    column_names={
        "journal_started_at": "begun_at",
        "accepted_bookings_usd": "accepted_booked",
        "row_key": "number",
        "expected_cash": "cash",
        "total_bookings_usd": "booked",
    },
)
