"""Sums of what a journal's rows say, kept up while rows come: none is read a second time."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from execution.alpaca.activities import EXACT, traded_amount
from execution.live.differences import NONE
from foundation.database import Database

CASH = ""  # the symbol under which a ground has its cash, USD


# Of each table the column that says what a row did to cash: at what price, or how much.
_TABLES: Mapping[str, str] = {"fills": "price", "activities": "amount"}


class RunningSums:
    """Quantities and cash that a ground and all trades and activities on it come to, exact.

    Rows are only ever added, and each has a higher row number than those before it: what was read
    before stays read. Who changes a row calls `forget`.

    Raises
    ------
    DatabaseFailed
        for a journal that cannot be read.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.forget()

    def forget(self) -> None:
        """Read everything anew the next time."""
        self._ground = 0
        self._sums: dict[str, Decimal] = {}
        self._amounts = dict.fromkeys(_TABLES, NONE)
        self._read = dict.fromkeys(_TABLES, 0)

    def of(self, ground: int) -> dict[str, Decimal]:
        """Signed quantities by symbol on the ground of a number; 0 where all of it has gone."""
        self._bring_up(ground)
        return {symbol: held for symbol, held in self._sums.items() if symbol != CASH}

    def cash(self, ground: int) -> tuple[Decimal, Decimal]:
        """USD that a ground, trades and bookings come to, and that bookings alone do."""
        self._bring_up(ground)
        booked = self._amounts["activities"]
        trades = EXACT.add(self._sums.get(CASH, NONE), self._amounts["fills"])
        return EXACT.add(trades, booked), booked

    def _bring_up(self, ground: int) -> None:
        """Add what has been written down since."""
        if ground != self._ground:
            self.forget()
        sums = dict(self._sums) if self._ground else self._begun_with(ground)
        amounts = dict(self._amounts)
        read = {}
        for table in _TABLES:
            read[table] = self._add_rows(table, ground, sums, amounts)
        # Only what was read whole counts as read.
        self._ground = ground
        self._sums = sums
        self._amounts = amounts
        self._read = read

    def _begun_with(self, ground: int) -> dict[str, Decimal]:
        rows = self._database.rows("SELECT symbol, qty FROM beginnings WHERE number = ?", (ground,))
        with self._database.checked():
            return {symbol: Decimal(quantity) for symbol, quantity in rows}

    def _add_rows(
        self, table: str, ground: int, sums: dict[str, Decimal], amounts: dict[str, Decimal]
    ) -> int:
        """Add what a table has had since it was read, and return the number of its last row."""
        last = self._read[table]
        rows = self._database.rows(
            f"SELECT rowid, ground, symbol, qty, {_TABLES[table]} FROM {table}"
            " WHERE rowid > ? ORDER BY rowid",
            (last,),
        )
        with self._database.checked():
            for row, number, symbol, quantity, money in rows:
                last = row
                if number != ground:
                    continue
                moved = Decimal(quantity)
                if symbol:
                    sums[symbol] = EXACT.add(sums.get(symbol, NONE), moved)
                amount = Decimal(money)
                if table == "fills":
                    amount = traded_amount(symbol, moved, amount)
                amounts[table] = EXACT.add(amounts[table], amount)
        return last
