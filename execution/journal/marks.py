"""What an account was worth: a mark after every pass, and the line that says what is held."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from execution.journal.linked_returns import Point
from execution.journal.migrations import create_tables
from execution.journal.rows import read
from foundation.database import Database, Row

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS marks (
        at TEXT PRIMARY KEY,
        equity REAL NOT NULL,
        cash REAL NOT NULL,
        gross_stock REAL NOT NULL,
        gross_crypto REAL NOT NULL,
        stock_ceiling REAL NOT NULL,
        flows REAL NOT NULL,
        positions TEXT NOT NULL,
        linked TEXT NOT NULL DEFAULT '1',
        peak TEXT NOT NULL DEFAULT '1',
        day TEXT NOT NULL DEFAULT '1',
        let_daily_loss TEXT NOT NULL DEFAULT '0',
        let_drawdown TEXT NOT NULL DEFAULT '0'
    ) STRICT
    """
_POINT = "at, equity, linked, peak, day, let_daily_loss, let_drawdown"


@dataclass(frozen=True, slots=True)
class AccountMark:
    """What an account was worth at an instant; USD.

    at: by the venue's clock.
    equity: cash plus positions.
    cash: below 0 it is borrowed.
    gross_stock: sum of the sizes of stock positions.
    gross_crypto: the same of coins.
    stock_ceiling: stock gross allowed then, in multiples of equity.
    flows: paid in less taken out since the mark before.
    positions: value of each position, signed, by symbol.
    """

    at: np.datetime64
    equity: float
    cash: float
    gross_stock: float
    gross_crypto: float
    stock_ceiling: float
    flows: float
    positions: Mapping[str, float]


class MarkBook:
    """The marks of an account.

    database: its journal.

    Raises
    ------
    DatabaseFailed
        here and in every method, for a journal that cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        create_tables(database, _SCHEMA)

    def mark(self, mark: AccountMark, point: Point) -> None:
        """Write down what the account is worth; of one instant the last word counts."""
        self._database.execute(
            "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                str(mark.at),
                mark.equity,
                mark.cash,
                mark.gross_stock,
                mark.gross_crypto,
                mark.stock_ceiling,
                mark.flows,
                json.dumps(dict(mark.positions)),
                str(point.index),
                str(point.peak),
                str(point.day),
                str(point.let_daily_loss),
                str(point.let_drawdown),
            ),
        )

    def point_before(self, at: np.datetime64 | None = None) -> Point | None:
        """The last mark's place in the index of linked returns; none before there was one.

        at: of marks before an instant.
        """
        rows = self._database.rows(
            f"SELECT {_POINT} FROM marks WHERE ? IS NULL OR at < ? ORDER BY at DESC LIMIT 1",
            (None if at is None else str(at),) * 2,
        )
        with self._database.checked():
            return _point(rows[0]) if rows else None

    def points(self, since: np.datetime64) -> list[Point]:
        """The places of marks from an instant on in the index of linked returns, oldest first."""
        query = f"SELECT {_POINT} FROM marks WHERE at >= ? ORDER BY at"
        rows = self._database.rows(query, (str(since),))
        with self._database.checked():
            return [_point(row) for row in rows]

    def last_mark(self) -> AccountMark | None:
        """The latest mark; none before there was one."""
        found = self._database.rows("SELECT max(at) FROM marks")[0][0]
        return None if found is None else self.marks(np.datetime64(found, "ns"))[-1]

    def flows_before(self, at: np.datetime64) -> float:
        """Deposits less withdrawals that are in marks before an instant, USD."""
        query = "SELECT coalesce(sum(flows), 0) FROM marks WHERE at < ?"
        return float(self._database.rows(query, (str(at),))[0][0])

    def marks(self, since: np.datetime64) -> list[AccountMark]:
        """Marks from an instant on, oldest first."""
        return marks_of(self._database, since)


def marks_of(database: Database, since: np.datetime64) -> list[AccountMark]:
    """Marks of an account from an instant on, oldest first."""
    query = (
        "SELECT at, equity, cash, gross_stock, gross_crypto, stock_ceiling, flows, positions"
        " FROM marks WHERE at >= ? ORDER BY at"
    )
    return read(database, AccountMark, query, (str(since),))


def exposure_line(mark: AccountMark) -> str:
    """What is held, in multiples of equity."""
    unit = mark.equity
    if unit <= 0:
        held = f"stocks {mark.gross_stock:,.2f} USD, coins {mark.gross_crypto:,.2f} USD"
        return f"exposure: no equity; {held}"
    parts = [f"{symbol} {value / unit:+.3f}" for symbol, value in sorted(mark.positions.items())]
    held = f"; {', '.join(parts)}" if parts else ""
    return (
        f"exposure: stocks {mark.gross_stock / unit:.3f}x of {mark.stock_ceiling:g}x,"
        f" coins {mark.gross_crypto / unit:.3f}x{held}"
    )


def contracts_line(mark: AccountMark) -> str:
    """What is held in contracts, in multiples of equity."""
    if mark.equity <= 0:
        return f"exposure: no equity; contracts {sum(mark.positions.values()):,.2f} USD"
    shares = {market: value / mark.equity for market, value in sorted(mark.positions.items())}
    parts = [f"{market} {share:.3f}" for market, share in shares.items()]
    held = f"; {', '.join(parts)}" if parts else ""
    return f"exposure: contracts {sum(shares.values()):.3f}x{held}"


def _point(row: Row) -> Point:
    at, equity, *parts = row
    numbers = [Decimal(part) for part in parts]
    if not all(number.is_finite() for number in numbers):
        raise ValueError(f"a mark's place in its index is no number: {row}")
    return Point(np.datetime64(at, "ns"), Decimal(repr(equity)), *numbers)
