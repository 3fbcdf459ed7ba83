"""What an account at Kalshi is worth, written down, and the halts that its losses raise.

A day is New York's, as for stocks: the venue is there, and its fees are dated by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from event_contracts.live.records import KalshiRecords
from event_contracts.trading.listings import read_markets
from event_contracts.trading.manager import KalshiMultiMarketOrderManager
from event_contracts.trading.standing import Reading
from event_contracts.trading.valuation import Sides, sale_prices, value_of
from execution.journal.marks import AccountMark
from execution.live.losses import LossLimits, write_mark

DIFFERENCES = "kalshi books"  # a kind of alert
_TICK = np.timedelta64(1, "ns")


class KalshiAccount:
    """Marks of one account, by which its openings are halted.

    manager: reads it, and goes on from the books that are kept.
    records: its journal and its halts; their notices are told of a halt once.
    limits: shares whose loss halts.

    Raises
    ------
    DatabaseFailed
        here and in every method, for a journal that cannot be read or written.
    """

    def __init__(
        self,
        manager: KalshiMultiMarketOrderManager,
        records: KalshiRecords,
        limits: LossLimits,
    ) -> None:
        self._manager = manager
        self._account = records.account
        self._journal = records.journal
        self._actions = records.actions
        self._limits = limits
        self._sales: Mapping[str, Sides] = {}
        if kept := records.actions.kept():
            books, self._sales = kept
            manager.begin(books)

    def mark(self) -> Reading:
        """Read the account, write down what it is worth, and halt or resume by what it has lost.

        Returns what was read, beside what it was when it was marked before.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or an account that trades whenever it is read.
        """
        reading = self._manager.reading()
        positions = reading.books.positions
        listings = read_markets(self._manager.connection, positions)
        sales = sale_prices(listings, self._sales)
        values = {
            market: value_of(count, listings[market], sales[market])
            for market, count in positions.items()
        }
        self._write(reading, sales, values)
        if reading.differences:
            self._account.notices.alert(DIFFERENCES, "; ".join(reading.differences))
        else:
            self._account.notices.end_alert(DIFFERENCES)
        return reading

    def _write(
        self, reading: Reading, sales: Mapping[str, Sides], values: Mapping[str, Decimal]
    ) -> None:
        """Write a mark, what it rests on and the halts that follow from it down as one."""
        cash = reading.books.cash
        mark = AccountMark(
            at=self._instant(reading.books.at),
            equity=float(sum(values.values(), cash)),
            cash=float(cash),
            gross_stock=0.0,
            gross_crypto=0.0,
            stock_ceiling=0.0,
            flows=float(reading.flow),
            positions={market: float(value) for market, value in values.items()},
        )
        with self._account.database.transaction():
            changes = write_mark(self._journal, self._account.halts, mark, self._limits)
            self._actions.keep(reading.books, sales)
        self._manager.begin(reading.books)
        self._sales = sales
        self._account.tell_of_changes(changes)

    def _instant(self, at: np.datetime64) -> np.datetime64:
        """When a mark is made: after the one before, though the clock may have gone back."""
        last = self._journal.point_before()
        return at if last is None else max(at, last.at + _TICK)
