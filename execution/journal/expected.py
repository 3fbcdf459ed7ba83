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
    """What should be held of a symbol, signed, and how much of it a fee in coin may have taken."""

    quantity: Decimal = NONE
    fee: Decimal = NONE

    def changed(self, change: Decimal, fee: Decimal = NONE) -> Owned:
        """What should be held after a change, of which a fee may be taken."""
        return Owned(EXACT.add(self.quantity, change), EXACT.add(self.fee, fee))

    def seen(self, actual: Decimal) -> Owned:
        """What should be held once what is held was believed: a fee is taken once."""
        return self if actual == self.quantity else Owned(actual)


@dataclass(frozen=True, slots=True)
class Expected:
    """What should be held of a symbol, as it is written down."""

    symbol: Text
    qty: Exact
    fee: Exact


@dataclass(frozen=True, slots=True)
class Counted:
    """What of an order or a booking is in what should be held."""

    name: Text
    qty: Exact


EXPECTED = Table("expected", Expected)
COUNTED = Table("counted", Counted)


@dataclass(frozen=True, slots=True)
class OpeningBalance:
    """What cash should be, USD.

    begun_at: when the journal began.
    cash: what there was then, and what trades and bookings have made of it since.
    booked: what bookings that are no trades have come to, signed.
    believed_beyond: how much more the venue had at the last reading that was believed, signed; none
        before there was one.
    believed_booked: what was booked by then.
    number: there is one.
    """

    begun_at: Instant
    cash: Exact
    booked: Exact = Decimal(0)
    believed_beyond: Exact | None = None
    believed_booked: Exact | None = None
    number: Whole = 1

    @property
    def believed(self) -> tuple[Decimal, Decimal] | None:
        """The last reading that was believed: what was there beyond, and what was booked."""
        if self.believed_beyond is None or self.believed_booked is None:
            return None
        return self.believed_beyond, self.believed_booked


GROUND = Table("ground", OpeningBalance, key="number")
