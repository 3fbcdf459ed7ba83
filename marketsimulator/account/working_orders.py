"""What orders that wait do to one another: wash trades, and buying power held back."""

from __future__ import annotations

import numpy as np

from foundation.compiled import compiled, inlined
from marketsimulator.account.book import (
    CANCELLED,
    DONE,
    LIMIT,
    MARKET,
    STOP_LIMIT,
    WORKING,
    Book,
    Record,
    on_grid,
)
from marketsimulator.account.margin import buying_power


@inlined
def is_better(price: float, level: float, buys: bool) -> bool:
    """Whether a price lies on an order's good side of a level: below for a buy, above for a sale.

    There a limit order fills; there a stop has not been reached.
    """
    return price < level if buys else price > level


@inlined
def is_worse(price: float, level: float, buys: bool) -> bool:
    """Whether a price lies beyond a level to an order's disadvantage."""
    return price > level if buys else price < level


@compiled
def trailed_stop(order: Record, price: float) -> float:
    """Where a trailing stop stands once the price has been there.

    It follows the market at its distance and never moves away from it.
    """
    distance = order.trail + order.trail_share * price
    stop = price + distance if order.quantity > 0 else price - distance
    if np.isnan(order.stop):
        return float(stop)
    return float(min(order.stop, stop) if order.quantity > 0 else max(order.stop, stop))


@compiled
def note_fill(order: Record, filled: float) -> None:
    """An order has filled a signed quantity, 0 for nothing."""
    if filled == 0.0:
        return
    order.quantity = on_grid(order.quantity - filled)
    if order.quantity == 0.0:
        order.state = DONE


@compiled
def ends_without_position(book: Book, k: int) -> bool:
    """Cancel order k if it may only reduce a position that is closed by now; whether it was.

    A liquidation or another order may have closed it; the order must not open the opposite one.
    """
    order = book.orders[k]
    if order.reduces and book.holding[order.symbol].quantity * order.quantity >= 0.0:
        order.state = CANCELLED
        return True
    return False


@compiled
def end_at_zero(book: Book, k: int, filled: float) -> None:
    """Cancel what is left of an order whose fill has closed its position.

    The venue turns no position around in one order.
    """
    order = book.orders[k]
    if filled != 0.0 and book.holding[order.symbol].quantity == 0.0 and order.state == WORKING:
        order.state = CANCELLED


@compiled
def is_wash_trade(book: Book, k: int) -> bool:
    """Whether a new order would meet the account's own opposite order.

    Alpaca rejects it (403), on paper as well. A market order meets whatever is open; two limit
    orders meet where the bid reaches the offer.
    """
    order = book.orders[k]
    # What comes after it has not been sent yet.
    for j in range(k):
        other = book.orders[j]
        if other.state != WORKING or other.symbol != order.symbol:
            continue
        if other.quantity * order.quantity >= 0:
            continue
        if order.kind == MARKET or other.kind == MARKET:
            return True
        if order.kind == LIMIT and other.kind == LIMIT:
            bid = order.limit if order.quantity > 0 else other.limit
            ask = other.limit if order.quantity > 0 else order.limit
            if bid >= ask:
                return True
    return False


@compiled
def is_affordable(book: Book, day: Record, k: int) -> bool:
    """Whether buying power covers an order that may wait, beside all that wait already.

    Closing needs none, and no coin can be sold short.
    """
    order = book.orders[k]
    position = book.holding[order.symbol]
    if position.quantity * order.quantity < 0:
        return True
    if position.crypto and order.quantity < 0:
        return False
    reserve_ahead(book, day, k)
    power = buying_power(book.account[0], position, day, order.quantity < 0)
    return bool(abs(order.quantity) * _reserved_price(book, day, k) <= power)


@compiled
def reserve_ahead(book: Book, day: Record, k: int) -> None:
    """Hold back the buying power of the working orders ahead of order k that open.

    First come, first served: an order cannot spend what one before it was accepted with, and is
    not held up by those that came after.
    """
    account = book.account[0]
    cash = 0.0
    stock = 0.0
    for j in range(k):
        order = book.orders[j]
        # What reduces a position gives buying power and takes none.
        if order.state != WORKING or book.holding[order.symbol].quantity * order.quantity < 0:
            continue
        notional = abs(order.quantity) * _reserved_price(book, day, j)
        if book.holding[order.symbol].crypto:
            cash += notional
        else:
            stock += notional
    account.reserved_cash = cash
    account.reserved_stock = stock


@compiled
def _reserved_price(book: Book, day: Record, k: int) -> float:
    """The price at which buying power is held back: its limit or stop, or the mark.

    It stands above that for a short sale, and for what may be filled at a worse price.
    """
    order = book.orders[k]
    limited = order.kind == LIMIT or order.kind == STOP_LIMIT
    if limited:
        price = order.limit
    else:
        price = book.holding[order.symbol].mark if order.kind == MARKET else order.stop
    return float(price if limited and order.quantity > 0 else price * day.order_margin)
