"""What an account should hold, and what of each order and booking is in that: `counted`.

And the cash that its trades and bookings come to since its journal began: `ground`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from execution.journal.rows import Exact, Instant, Table, Text, Whole, exact
from foundation.database import Database, DatabaseFailed
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
class _Expected:
    symbol: Text
    qty: Exact
    fee: Exact


@dataclass(frozen=True, slots=True)
class _Counted:
    name: Text
    qty: Exact


_EXPECTED = Table("expected", _Expected)
_COUNTED = Table("counted", _Counted)


class ExpectedBook:
    """What one account should hold."""

    def __init__(self, database: Database) -> None:
        self._database = database
        _EXPECTED.create(database)
        _COUNTED.create(database)

    def owned(self) -> dict[str, Owned]:
        """What should be held, by symbol."""
        rows = _EXPECTED.rows(self._database, "ORDER BY symbol")
        return {row.symbol: Owned(row.qty, row.fee) for row in rows}

    def expect(self, expected: Mapping[str, Owned]) -> None:
        """Write down what should be held of some symbols."""
        for symbol, owned in expected.items():
            _EXPECTED.put(self._database, _Expected(symbol, *owned))

    def counted(self, name: str) -> Decimal | None:
        """What of an order or a booking is in that; none where nothing is said of it."""
        found = _COUNTED.last(self._database, "WHERE name = ?", (name,))
        return None if found is None else found.qty

    def count_none_of(self, name: str) -> None:
        """Have an order be known of which nothing is in it."""
        _COUNTED.put(self._database, _Counted(name, NONE))

    def count_orders(self, condition: str = "true", *values: str) -> None:
        """Have all be in it that orders have filled for which an SQL condition holds."""
        self._count(f"SELECT client_order_id, filled FROM intents WHERE {condition}", values)

    def count_bookings(self, condition: str = "true", *values: str) -> None:
        """Have bookings be in it for which an SQL condition holds."""
        self._count(f"SELECT id, qty FROM activities WHERE {condition}", values)

    def _count(self, query: str, values: Sequence[str]) -> None:
        with self._database.transaction():
            for name, quantity in self._database.rows(query, values):
                _COUNTED.put(self._database, _Counted(name, exact(quantity)))


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


_GROUND = Table("ground", OpeningBalance, key="number")


class OpeningBalances:
    """The one row of an account's opening balance."""

    def __init__(self, database: Database) -> None:
        self._database = database
        _GROUND.create(database)

    @property
    def begun(self) -> bool:
        """Whether it is written down what there was at first."""
        return _GROUND.last(self._database) is not None

    def begin(self, at: np.datetime64, cash: Decimal) -> None:
        """Write down what there is as the journal begins; cash: USD."""
        _GROUND.insert(self._database, OpeningBalance(at, cash))

    def row(self) -> OpeningBalance:
        ground = _GROUND.last(self._database)
        if ground is None:
            raise DatabaseFailed("the journal has no ground: its account was never read")
        return ground

    def add(self, cash: Decimal, booked: Decimal) -> None:
        """Have trades and bookings change cash; booked: by how much bookings do, USD."""
        if cash or booked:
            last = self.row()
            now = replace(
                last, cash=EXACT.add(last.cash, cash), booked=EXACT.add(last.booked, booked)
            )
            _GROUND.put(self._database, now)

    def believe(self, beyond: Decimal, booked: Decimal) -> None:
        """Write down a reading of cash that is believed, as `OpeningBalance.believed` has it."""
        now = replace(self.row(), believed_beyond=beyond, believed_booked=booked)
        _GROUND.put(self._database, now)
