"""The books of an account of event contracts are kept in its journal."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np

from event_contracts.trading.manager import AccountBooks
from foundation.database import DatabaseFailed
from tests.event_contracts.trading import journal
from tests.execution.journals import change_rows
from tests.support.messages import refused

D = Decimal


def test_account_books_round_trip_through_the_journal() -> None:
    log, _ = journal()
    assert log.read_books() is None
    at = np.datetime64("2026-11-22T10:00:00.123456789", "ns")
    paid = frozenset({("SNOW", np.datetime64("2026-11-21", "ns"))})
    books = AccountBooks(at, D("9.50"), {"RAIN": D("-3.00")}, frozenset("f"), paid)
    sales = {"RAIN": (D("0.4"), D(0))}
    log.record_books(books, sales)
    assert log.read_books() == (books, sales)
    [(content,)] = log.database.query("SELECT content FROM kalshi_books")
    assert json.loads(content) == {
        "books": {
            "at": "2026-11-22T10:00:00.123456789",
            "cash": "9.5",
            "positions": {"RAIN": "-3"},
            "fill_ids": ["f"],
            "settlement_keys": [["SNOW", "2026-11-21T00:00:00.000000000"]],
        },
        "sale_prices": {"RAIN": ["0.4", "0"]},
    }
    change_rows(log.database, "kalshi_books", "content = replace(content, '9.5', 'NaN')")
    with refused(DatabaseFailed):
        log.read_books()
