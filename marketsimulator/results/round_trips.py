"""Round trips of a run: each fill that reduces a position, with the lots that it closes.

Lots are closed first in, first out. What is still held at the end is marked at the last close, so
that the profits of round trips and open lots add up to what the symbols have contributed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np

from execution.orders import Fill, strategy_of
from execution.records import ENDED, Run

BILLIONTH = Decimal("1e-9")  # the smallest part of a share or coin


@dataclass(frozen=True, slots=True)
class Lot:
    """What is left of one opening fill.

    symbol: of the instrument.
    qty: signed, shares or coins.
    paid: qty times price at the fill, USD, signed as qty is.
    fee: USD.
    at: of the fill.
    order: its order's id.
    """

    symbol: str
    qty: Decimal
    paid: float
    fee: float
    at: np.datetime64
    order: str

    def part(self, qty: Decimal) -> Lot:
        """So much of it, with its share of what was paid."""
        share = float(qty / self.qty)
        return replace(self, qty=qty, paid=self.paid * share, fee=self.fee * share)


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """What was opened and closed again, or is marked at the end.

    symbol: of the instrument.
    opened_at: of its first lot.
    closed_at: of the closing fill; of the mark for what is still held.
    qty: signed as it was held, shares or coins.
    entry: mean price in USD that it was opened at.
    exit: price in USD that it was closed or marked at.
    fees: USD, of both ways.
    profit: USD, after fees.
    """

    symbol: str
    opened_at: np.datetime64
    closed_at: np.datetime64
    qty: Decimal
    entry: float
    exit: float
    fees: float
    profit: float


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """All of a run.

    closed: in the order of their closing fills.
    held: what is open at the end, one of each symbol.
    """

    closed: tuple[RoundTrip, ...]
    held: tuple[RoundTrip, ...]


def round_trips(run: Run, marks: Mapping[str, float]) -> RoundTrips:
    """The round trips of a run; what it began with was opened at its first row.

    marks: last close of each symbol that is held at the end, USD.
    """
    begin, end = run.rows[0].at, run.rows[-1].at
    book: dict[str, deque[Lot]] = {}
    for symbol, met in run.begins.items():
        paid = float(met.quantity) * met.price
        book[symbol] = deque([Lot(symbol, met.quantity, paid, 0.0, begin, "")])
    closed: list[RoundTrip] = []
    for fill in run.fills:
        lots = book.setdefault(fill.symbol, deque())
        if fill.price == 0 and strategy_of(fill.client_order_id) != ENDED:
            _change_quantity(lots, fill)
            continue
        taken, left = _take(lots, fill.qty)
        share = float((fill.qty - left) / fill.qty)
        if taken:
            closed.append(_trip(taken, fill.price, fill.fee * share, fill.at))
        if left:
            rest = fill.fee * (1.0 - share)
            paid = float(left) * fill.price
            lots.append(Lot(fill.symbol, left, paid, rest, fill.at, fill.client_order_id))
    held = [_trip(list(lots), marks[symbol], 0.0, end) for symbol, lots in book.items() if lots]
    return RoundTrips(tuple(closed), tuple(sorted(held, key=lambda trip: trip.symbol)))


def _take(lots: deque[Lot], qty: Decimal) -> tuple[list[Lot], Decimal]:
    """The lots that a fill of `qty` closes, oldest first, and what is left of it."""
    taken: list[Lot] = []
    # A reverse split can leave a lot of nothing: what it cost goes with the next close.
    while qty and lots and lots[0].qty * qty <= 0:
        lot = lots.popleft()
        if abs(lot.qty) > abs(qty):
            lots.appendleft(lot.part(lot.qty + qty))
            lot = lot.part(-qty)
        taken.append(lot)
        qty += lot.qty
    return taken, qty


def _change_quantity(lots: deque[Lot], fill: Fill) -> None:
    """A coin fee takes from the lot it was paid for, a split changes all; what was paid stays."""
    if lots and lots[-1].order == fill.client_order_id:
        last = lots.pop()
        lots.append(replace(last, qty=last.qty + fill.qty))
        return
    held = sum((lot.qty for lot in lots), Decimal(0))
    if not held:
        return
    after = held + fill.qty
    # Each lot's share is rounded. The last one has what is left, so that lots stay the position.
    for k in range(len(lots)):
        lot = lots.popleft()
        qty = after if k == len(lots) else (lot.qty * (after / held)).quantize(BILLIONTH)
        held, after = held - lot.qty, after - qty
        lots.append(replace(lot, qty=qty))


def _trip(lots: Sequence[Lot], price: float, fee: float, at: np.datetime64) -> RoundTrip:
    qty = sum((lot.qty for lot in lots), Decimal(0))
    paid = sum(lot.paid for lot in lots)
    fees = fee + sum(lot.fee for lot in lots)
    return RoundTrip(
        symbol=lots[0].symbol,
        opened_at=lots[0].at,
        closed_at=at,
        qty=qty,
        entry=paid / float(qty) if qty else 0.0,
        exit=price,
        fees=fees,
        profit=float(qty) * price - paid - fees,
    )
