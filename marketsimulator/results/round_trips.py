"""Round trips of a run: from a flat position to the next flat one.

Open positions are valued at the last close, so that the profits of a symbol's round trips add up
to its contribution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from marketsimulator.run_result import Run


@dataclass(slots=True)
class RoundTrip:
    """A position from the fill that opens it to the fill that closes it.

    symbol: symbol of the instrument.
    opened_at: instant of the first fill.
    closed_at: instant of the last fill; None while the position is open.
    open_quantity: signed present position, shares or coins.
    max_quantity: signed maximum position, shares or coins.
    fees: fees of all fills, USD.
    profit: profit after fees, USD.
    """

    symbol: str
    opened_at: np.datetime64
    closed_at: np.datetime64 | None = None
    open_quantity: Decimal = Decimal(0)
    max_quantity: Decimal = Decimal(0)
    fees: float = 0.0
    profit: float = 0.0

    def add_fill(self, qty: Decimal, price: float, fee: float, at: np.datetime64) -> None:
        """Add a fill; crypto fees and splits, at price 0, change only the quantity."""
        self.open_quantity += qty
        self.max_quantity = max(self.max_quantity, self.open_quantity, key=abs)
        self.fees += fee
        self.profit -= float(qty) * price + fee
        self.closed_at = None if self.open_quantity else at


def round_trips(run: Run, marks: Mapping[str, float]) -> list[RoundTrip]:
    """Return the round trips of a run in the order of their first fills.

    marks: last close of each symbol with a position at the end, USD.
    """
    trips: list[RoundTrip] = []
    latest: dict[str, RoundTrip] = {}

    def add(symbol: str, qty: Decimal, price: float, fee: float, at: np.datetime64) -> None:
        if symbol not in latest or latest[symbol].closed_at is not None:
            latest[symbol] = RoundTrip(symbol, at)
            trips.append(latest[symbol])
        latest[symbol].add_fill(qty, price, fee, at)

    for symbol, met in run.initial_positions.items():
        add(symbol, met.quantity, met.price, 0.0, run.equity_rows[0].at)
    for fill in run.fills:
        symbol, qty, fee = fill.symbol, fill.qty, fill.fee
        held = latest[symbol].open_quantity if symbol in latest else Decimal(0)
        if held * (held + qty) < 0:  # reversal: its first part closes
            share = float(-held / qty)
            add(symbol, -held, fill.price, fee * share, fill.at)
            qty, fee = qty + held, fee * (1.0 - share)
        add(symbol, qty, fill.price, fee, fill.at)
    for symbol, trip in latest.items():
        if trip.open_quantity:
            trip.profit += float(trip.open_quantity) * marks[symbol]
    return trips
