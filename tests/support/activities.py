"""Activities that a venue lists: fills and bookings."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from hypothesis import strategies as st

from execution.journal.activities import Activity, ActivityKind

BEGUN = np.datetime64("2024-03-05T17:30", "ns")  # half past twelve in New York
MIDNIGHT = np.datetime64("2024-03-05T05:00", "ns")


def fill(name: str, quantity: str, symbol: str = "NVDA", at: np.datetime64 = BEGUN) -> Activity:
    price = Decimal(10)
    return Activity(
        name, "trade", at, symbol, Decimal(quantity), price, -Decimal(quantity) * price, f"o-{name}"
    )


def booking(
    name: str,
    kind: ActivityKind,
    *,
    quantity: str = "0",
    amount: str = "0",
    symbol: str = "",
    day: np.datetime64 = MIDNIGHT,
) -> Activity:
    return Activity(name, kind, day, symbol, Decimal(quantity), None, Decimal(amount))


usd = st.integers(-(10**11), 10**11).map(lambda cents: Decimal(cents) / 100)
