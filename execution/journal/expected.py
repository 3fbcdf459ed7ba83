"""Expected positions and cash of an account, and the fills and bookings that they include."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from execution.journal.rows import Exact, Instant, Table, Text, Whole
from foundation.decimals import EXACT

NONE = Decimal(0)
# An SQL condition on intents: more of the order has filled than is applied.
FILLS_UNAPPLIED = (
    "filled != coalesce((SELECT qty FROM applied_fills WHERE name = client_order_id), '0')"
)


class ExpectedPosition(NamedTuple):
    """Expected position in a symbol, signed, and the fee in crypto that may be missing from it."""

    quantity: Decimal = NONE
    fee: Decimal = NONE

    def changed(self, change: Decimal, fee: Decimal = NONE) -> ExpectedPosition:
        """Return the expected position after a change, of which a fee may be kept."""
        return ExpectedPosition(EXACT.add(self.quantity, change), EXACT.add(self.fee, fee))

    def seen(self, actual: Decimal) -> ExpectedPosition:
        """Return the expected position once the actual one is accepted: a fee is taken once."""
        return self if actual == self.quantity else ExpectedPosition(actual)


@dataclass(frozen=True, slots=True)
class ExpectedRow:
    """Row of the expected position in a symbol."""

    symbol: Text
    qty: Exact
    fee: Exact


@dataclass(frozen=True, slots=True)
class AppliedFill:
    """Row of the quantity of an order or a booking that expected positions include."""

    name: Text
    qty: Exact


EXPECTED = Table("expected", ExpectedRow)
APPLIED_FILLS = Table("applied_fills", AppliedFill)


@dataclass(frozen=True, slots=True)
class OpeningBalance:
    """Expected cash, USD.

    begun_at: when the journal began.
    cash: opening balance plus trades and bookings since.
    booked: signed sum of bookings that are no trades.
    accepted_beyond: signed difference of the venue's cash at the last accepted reading; None before
        the first.
    accepted_booked: `booked` at that reading.
    number: of the only row.
    """

    begun_at: Instant
    cash: Exact
    booked: Exact = Decimal(0)
    accepted_beyond: Exact | None = None
    accepted_booked: Exact | None = None
    number: Whole = 1

    @property
    def accepted(self) -> tuple[Decimal, Decimal] | None:
        """The last accepted reading: `accepted_beyond` and `accepted_booked`; None before it."""
        if self.accepted_beyond is None or self.accepted_booked is None:
            return None
        return self.accepted_beyond, self.accepted_booked


OPENING_BALANCE = Table("opening_balance", OpeningBalance, key="number")
