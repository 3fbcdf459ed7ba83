"""What an account should hold, and what of each order and booking is in that: `counted`.

And the cash that its trades and bookings come to since its journal began: `ground`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from execution.journal.rows import Exact, Instant, Table, Text, Whole
from foundation.decimals import EXACT

NONE = Decimal(0)
# An SQL condition on intents: of the order more has filled than is counted.
FILLS_UNCOUNTED = "filled != coalesce((SELECT qty FROM counted WHERE name = client_order_id), '0')"


class Owned(NamedTuple):
    """Expected position in a symbol, signed, and the fee in crypto that may be missing from it."""

    quantity: Decimal = NONE
    fee: Decimal = NONE

    def changed(self, change: Decimal, fee: Decimal = NONE) -> Owned:
        """Return the expected position after a change, of which a fee may be kept."""
        return Owned(EXACT.add(self.quantity, change), EXACT.add(self.fee, fee))

    def seen(self, actual: Decimal) -> Owned:
        """Return the expected position once the actual one is accepted: a fee is taken once."""
        return self if actual == self.quantity else Owned(actual)


@dataclass(frozen=True, slots=True)
class Expected:
    """Row of the expected position in a symbol."""

    symbol: Text
    qty: Exact
    fee: Exact


@dataclass(frozen=True, slots=True)
class Counted:
    """Row of the quantity of an order or a booking that expected positions include."""

    name: Text
    qty: Exact


EXPECTED = Table("expected", Expected)
COUNTED = Table("counted", Counted)


@dataclass(frozen=True, slots=True)
class OpeningBalance:
    """Expected cash, USD.

    begun_at: when the journal began.
    cash: opening balance plus trades and bookings since.
    booked: signed sum of bookings that are no trades.
    believed_beyond: signed difference of the venue's cash at the last accepted reading; None before
        the first.
    believed_booked: `booked` at that reading.
    number: of the only row.
    """

    begun_at: Instant
    cash: Exact
    booked: Exact = Decimal(0)
    believed_beyond: Exact | None = None
    believed_booked: Exact | None = None
    number: Whole = 1

    @property
    def believed(self) -> tuple[Decimal, Decimal] | None:
        """The last accepted reading: `believed_beyond` and `believed_booked`; None before it."""
        if self.believed_beyond is None or self.believed_booked is None:
            return None
        return self.believed_beyond, self.believed_booked


GROUND = Table("ground", OpeningBalance, key="number")
