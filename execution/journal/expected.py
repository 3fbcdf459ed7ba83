"""What an account should hold, and what of each order and booking is in that: `counted`."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from execution.journal.migrations import create_tables
from foundation.database import Database
from foundation.decimals import EXACT, plain

NONE = Decimal(0)
# An SQL condition on intents: of the order more has filled than is counted.
FILLS_UNCOUNTED = "filled != coalesce((SELECT qty FROM counted WHERE name = client_order_id), '0')"
_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS expected (
        symbol TEXT PRIMARY KEY,
        qty TEXT NOT NULL,
        fee TEXT NOT NULL
    ) STRICT
    """,
    "CREATE TABLE IF NOT EXISTS counted (name TEXT PRIMARY KEY, qty TEXT NOT NULL) STRICT",
)


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


class ExpectedBook:
    """What one account should hold."""

    def __init__(self, database: Database) -> None:
        self._database = database
        create_tables(database, *_SCHEMA)

    def owned(self) -> dict[str, Owned]:
        """What should be held, by symbol."""
        rows = self._database.rows("SELECT symbol, qty, fee FROM expected ORDER BY symbol")
        with self._database.checked():
            return {symbol: Owned(*map(Decimal, numbers)) for symbol, *numbers in rows}

    def expect(self, expected: Mapping[str, Owned]) -> None:
        """Write down what should be held of some symbols."""
        for symbol, each in expected.items():
            row = (symbol, plain(each.quantity), plain(each.fee))
            self._database.execute("INSERT OR REPLACE INTO expected VALUES (?, ?, ?)", row)

    def counted(self, name: str) -> Decimal | None:
        """What of an order or a booking is in that; none where nothing is said of it."""
        rows = self._database.rows("SELECT qty FROM counted WHERE name = ?", (name,))
        with self._database.checked():
            return Decimal(rows[0][0]) if rows else None

    def count(self, name: str, quantity: Decimal) -> None:
        """Have so much of an order be in it."""
        row = (name, str(quantity))
        self._database.execute("INSERT OR REPLACE INTO counted VALUES (?, ?)", row)

    def count_orders(self) -> None:
        """Have all that orders have filled be in it."""
        self._database.execute(
            "INSERT OR REPLACE INTO counted SELECT client_order_id, filled FROM intents"
        )

    def count_bookings(self, condition: str = "true", *values: str) -> None:
        """Have bookings be in it for which an SQL condition holds."""
        self._database.execute(
            f"INSERT OR REPLACE INTO counted SELECT id, qty FROM activities WHERE {condition}",
            values,
        )
