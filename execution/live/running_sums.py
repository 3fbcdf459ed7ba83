"""Sums of what a journal's rows say, kept up while rows come: none is read a second time."""

from __future__ import annotations

from decimal import Decimal

from execution.alpaca.activities import EXACT
from execution.live.differences import NONE
from foundation.database import Database

_TABLES = ("fills", "activities")


class RunningSums:
    """Quantities by symbol that a ground and all trades and activities on it come to, exact.

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
        self._read = dict.fromkeys(_TABLES, 0)

    def of(self, ground: int) -> dict[str, Decimal]:
        """Signed quantities by symbol on the ground of a number; 0 where all of it has gone."""
        if ground != self._ground:
            self.forget()
        sums = dict(self._sums) if self._ground else self._begun_with(ground)
        read = {}
        for table in _TABLES:
            read[table] = self._add_rows(table, ground, sums)
        # Only what was read whole counts as read.
        self._ground = ground
        self._sums = sums
        self._read = read
        return dict(sums)

    def _begun_with(self, ground: int) -> dict[str, Decimal]:
        rows = self._database.rows(
            "SELECT symbol, qty FROM beginnings WHERE number = ? AND symbol != ''", (ground,)
        )
        with self._database.checked():
            return {symbol: Decimal(quantity) for symbol, quantity in rows}

    def _add_rows(self, table: str, ground: int, sums: dict[str, Decimal]) -> int:
        """Add what a table has had since it was read, and return the number of its last row."""
        last = self._read[table]
        rows = self._database.rows(
            f"SELECT rowid, ground, symbol, qty FROM {table} WHERE rowid > ? ORDER BY rowid",
            (last,),
        )
        with self._database.checked():
            for row, number, symbol, quantity in rows:
                last = row
                if number == ground and symbol:
                    sums[symbol] = EXACT.add(sums.get(symbol, NONE), Decimal(quantity))
        return last
