"""Average cost: mean entry price of a position, and realised profit of a trade."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

Number = TypeVar("Number", float, Fraction, Decimal)


def average_cost(
    held: Number, entry_price: Number, change: Number, price: Number
) -> tuple[Number, Number]:
    """Return the mean entry price after a trade, and the trade's realised profit, USD.

    A trade that reduces the position leaves its mean entry price unchanged. A trade that crosses 0
    opens a position at the trade's price. All numbers have the same type, such as Decimal or float.
    The result is exact for exact types.

    held: signed quantity before the trade.
    entry_price: mean entry price of one unit before the trade, USD.
    change: signed quantity of the trade.
    price: price of one unit in the trade, USD.
    """
    nothing = held * 0
    closed = min(abs(held), abs(change)) if held * change < 0 else nothing
    kept = abs(held) - closed
    opened = abs(change) - closed
    gain = closed * (price - entry_price)
    realised = gain if held > 0 else -gain
    if not opened:
        return (entry_price if kept else nothing), realised
    if not kept:
        return price, realised
    return (kept * entry_price + opened * price) / (kept + opened), realised
