"""When an order fills: market orders at an open, the others where a bar trades through them, to
their disadvantage.

A bar is read as its open, then the extreme that hurts the position held, then the other one. A
limit fills at its price once the bar has traded beyond it, a stop from its price on (or the open
that gapped past it), a stop-limit waits as a limit for the next bar where it cannot fill at once. A
trailing stop follows the opens and the better extremes, and is met as a stop before it moves.
Orders on the open and on the close know only the session's first open and its last close. An order
knows no bar that starts before it was sent.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Index, Records
from foundation.compiled import compiled
from marketsimulator.account.book import (
    BY_ORDER,
    CANCELLED,
    CLOSING,
    DONE,
    EXPIRED,
    FOK,
    IOC,
    LIMIT,
    MARKET,
    NOBODY,
    OPENING,
    STOP,
    STOP_LIMIT,
    TRAILING,
    WAITING,
    WORKING,
    Book,
    Record,
    on_grid,
)
from marketsimulator.account.impact import away
from marketsimulator.account.margin import buying_power
from marketsimulator.account.settlement import allowed, settle, trade

LOW = 0
HIGH = 1


@compiled
def send(
    book: Book,
    day: Record,
    tape: Records,
    at: int,
    first: int,
    opens: Array,
    volumes: Array,
    volatility: Array,
    now: int,
) -> None:
    """Orders from row `first` on reach the broker, in their order: refused, filled at the open that
    comes now, or waiting.

    opens [S]: of bars that start now, NaN where none does. now: the instant (ns).
    """
    for k in range(first, len(book.orders)):
        order = book.orders[k]
        s = order.symbol
        kind = order.kind
        if order.parent != NOBODY or order.state == CANCELLED:
            continue
        order.state = WORKING
        auction = order.force == OPENING or order.force == CLOSING
        if kind == TRAILING:
            order.stop = _trailed(order, book.holding[s].mark)
        if _washes(book, k) or ((kind != MARKET or auction) and not _affordable(book, day, k)):
            book.account[0].refusals += 1
            _cancel(book, k)
            continue
        if auction:
            continue
        if not np.isnan(opens[s]):
            _meet_open(book, day, tape, at, k, opens[s], volumes[s], volatility[s], now)
        once = order.force == IOC or order.force == FOK
        if order.state == WORKING and (once or (kind == MARKET and not day.carries)):
            _cancel(book, k)


@compiled
def open_waiting(
    book: Book,
    day: Record,
    tape: Records,
    at: int,
    opens: Array,
    volumes: Array,
    volatility: Array,
    starts: Index,
    first: bool,
) -> None:
    """Waiting orders meet the opens [S], NaN where there is none, of bars that start at `starts`
    (ns; stocks, coins).

    first: whether the stocks' begin their session.
    """
    for k in range(len(book.orders)):
        order = book.orders[k]
        s = order.symbol
        start = starts[book.holding[s].crypto]
        if (
            order.state != WORKING
            or np.isnan(opens[s])
            or order.since > start
            or order.force == CLOSING
        ):
            continue
        if order.force == OPENING and not first:
            continue
        _meet_open(book, day, tape, at, k, opens[s], volumes[s], volatility[s], start)
        if order.force == OPENING and order.state == WORKING:
            order.state = EXPIRED


@compiled
def trade_through(
    book: Book,
    day: Record,
    tape: Records,
    at: int,
    highs: Array,
    lows: Array,
    volumes: Array,
    volatility: Array,
    starts: Index,
    now: int,
) -> None:
    """Waiting orders meet the rest of the bars [S] that are known `now`, which started at `starts`
    (ns; stocks, coins).

    The worse extreme for what is held comes first; last, stops of positions that the bar itself
    opened meet the other.
    """
    for s in range(len(highs)):
        if np.isnan(highs[s]):
            continue
        worse = HIGH if book.holding[s].quantity < 0 else LOW
        for turn in range(3):
            side = worse if turn != 1 else (LOW if worse == HIGH else HIGH)
            price = lows[s] if side == LOW else highs[s]
            for k in range(len(book.orders)):
                order = book.orders[k]
                if (
                    order.symbol != s
                    or order.state != WORKING
                    or order.since > starts[book.holding[s].crypto]
                ):
                    continue
                if order.force == OPENING or order.force == CLOSING:
                    continue
                if turn == 2 and not (order.kind == STOP and order.parent != NOBODY):
                    continue
                _meet_extreme(book, day, tape, at, k, price, side, volumes[s], volatility[s], now)


@compiled
def meet_close(
    book: Book,
    day: Record,
    tape: Records,
    at: int,
    closes: Array,
    volumes: Array,
    volatility: Array,
    now: int,
) -> None:
    """Orders on the close meet the closes [S] of the bars that end a session `now` (ns)."""
    for k in range(len(book.orders)):
        order = book.orders[k]
        s = order.symbol
        if (
            order.state == WORKING
            and order.force == CLOSING
            and order.since < now
            and not np.isnan(closes[s])
        ):
            _meet_open(book, day, tape, at, k, closes[s], volumes[s], volatility[s], now)


@compiled
def _trailed(order: Record, price: float) -> float:
    """Where a trailing stop stands once the price has been there: it never moves away from the
    market.
    """
    behind = order.trail + order.trail_share * price
    stop = price + behind if order.quantity > 0 else price - behind
    if np.isnan(order.stop):
        return float(stop)
    return float(min(order.stop, stop) if order.quantity > 0 else max(order.stop, stop))


@compiled
def _meet_open(
    book: Book,
    day: Record,
    tape: Records,
    at: int,
    k: int,
    open_: float,
    volume: float,
    volatility: float,
    now: int,
) -> None:
    order = book.orders[k]
    s = order.symbol
    buys = order.quantity > 0
    if _has_nothing_to_reduce(book, k):
        return
    if order.kind == STOP or order.kind == STOP_LIMIT or order.kind == TRAILING:
        if (open_ < order.stop) if buys else (open_ > order.stop):
            if order.kind == TRAILING:
                order.stop = _trailed(order, open_)
            return
        order.kind = LIMIT if order.kind == STOP_LIMIT else MARKET
    if order.kind == LIMIT:
        quote = away(book.holding[s], open_, order.quantity, volume, volatility)
        if (quote > order.limit) if buys else (quote < order.limit):
            return
    _reserve(book, k)
    account = book.account[0]
    held = book.holding[s]
    if order.force == FOK:
        price = away(held, open_, order.quantity, volume, volatility)
        if allowed(account, held, day, order.quantity, price) != order.quantity:
            return
    q = trade(
        account,
        held,
        day,
        tape,
        at,
        order.number,
        BY_ORDER,
        s,
        order.quantity,
        open_,
        volume,
        volatility,
    )
    _filled(book, tape, k, q, now)
    _end_at_zero(book, k, q)


@compiled
def _meet_extreme(
    book: Book,
    day: Record,
    tape: Records,
    at: int,
    k: int,
    price: float,
    side: int,
    volume: float,
    volatility: float,
    end: int,
) -> None:
    """One order against one extreme of a bar: bids and sell stops meet lows, offers and buy
    stops highs.
    """
    account = book.account[0]
    order = book.orders[k]
    s = order.symbol
    buys = order.quantity > 0
    held = book.holding[s]
    if _has_nothing_to_reduce(book, k):
        return
    if order.kind == LIMIT:
        if (side == LOW) != buys or ((price >= order.limit) if buys else (price <= order.limit)):
            return
        _reserve(book, k)
        q = allowed(account, held, day, order.quantity, order.limit)
        if q != 0.0:
            settle(
                account,
                held,
                day,
                tape,
                at,
                order.number,
                BY_ORDER,
                s,
                q,
                order.limit,
                order.limit,
                True,
            )
            _filled(book, tape, k, q, end)
            _end_at_zero(book, k, q)
        return
    if order.kind == TRAILING and (side == HIGH) != buys:
        order.stop = _trailed(order, price)
    if (
        order.kind == MARKET
        or (side == HIGH) != buys
        or ((price < order.stop) if buys else (price > order.stop))
    ):
        return
    if order.kind == STOP_LIMIT:
        quote = away(held, order.stop, order.quantity, volume, volatility)
        if (quote > order.limit) if buys else (quote < order.limit):
            order.kind = LIMIT
            order.since = end
            return
    reference = order.stop
    order.kind = LIMIT if order.kind == STOP_LIMIT else MARKET
    _reserve(book, k)
    q = trade(
        account,
        held,
        day,
        tape,
        at,
        order.number,
        BY_ORDER,
        s,
        order.quantity,
        reference,
        volume,
        volatility,
    )
    _filled(book, tape, k, q, end)
    _end_at_zero(book, k, q)
    if order.state == WORKING:
        order.since = end


@compiled
def _filled(book: Book, tape: Records, k: int, q: float, at: int) -> None:
    """q of order k is done: its sibling shrinks, what waited for it works from here on.

    A stop that protects works within the same bar, from the entry's price where that is past it
    already; an order that takes profit works only from `at` on.
    """
    if q == 0.0:
        return
    order = book.orders[k]
    price = tape[book.account[0].fills - 1].price  # no coin has exits: no fee in coin comes after
    order.quantity = on_grid(order.quantity - q)
    if order.quantity == 0.0:
        order.state = DONE
    if order.sibling != NOBODY:
        other = book.orders[order.sibling]
        other.quantity = on_grid(other.quantity - q)
        if other.quantity == 0.0:
            other.state = CANCELLED
    for j in range(len(book.orders)):
        child = book.orders[j]
        if child.parent == k and child.state <= WORKING:
            child.quantity = on_grid(child.quantity - q)
            child.state = WORKING
            child.since = at if child.takes_profit else order.since
            if child.kind == STOP:
                child.stop = min(child.stop, price) if q > 0.0 else max(child.stop, price)


@compiled
def _has_nothing_to_reduce(book: Book, k: int) -> bool:
    """Whether order k only reduces and the broker has closed its position since: it ends, and
    opens nothing.
    """
    order = book.orders[k]
    if order.reduces and book.holding[order.symbol].quantity * order.quantity >= 0.0:
        _cancel(book, k)
        return True
    return False


@compiled
def _end_at_zero(book: Book, k: int, q: float) -> None:
    """What has brought a position to zero does not go on to open the opposite one."""
    order = book.orders[k]
    if q != 0.0 and book.holding[order.symbol].quantity == 0.0 and order.state == WORKING:
        _cancel(book, k)


@compiled
def _cancel(book: Book, k: int) -> None:
    """The order ends; what still waits for it, or stands beside it, ends with it."""
    book.orders[k].state = CANCELLED
    sibling = book.orders[k].sibling
    if sibling != NOBODY and book.orders[sibling].state <= WORKING:
        book.orders[sibling].state = CANCELLED
    for j in range(len(book.orders)):
        if book.orders[j].parent == k and book.orders[j].state == WAITING:
            book.orders[j].state = CANCELLED


@compiled
def _washes(book: Book, k: int) -> bool:
    """Whether a new order would meet the account's own opposite order."""
    order = book.orders[k]
    for j in range(len(book.orders)):
        other = book.orders[j]
        if (
            j == k
            or other.state != WORKING
            or other.symbol != order.symbol
            or other.quantity * order.quantity >= 0
        ):
            continue
        if order.kind == MARKET or other.kind == MARKET:
            return True
        if order.kind == LIMIT and other.kind == LIMIT:
            bid, ask = (
                (order.limit, other.limit) if order.quantity > 0 else (other.limit, order.limit)
            )
            if bid >= ask:
                return True
    return False


@compiled
def _affordable(book: Book, day: Record, k: int) -> bool:
    """Whether buying power covers an order that may wait, beside all that wait already."""
    order = book.orders[k]
    held = book.holding[order.symbol]
    if held.quantity * order.quantity < 0:
        return True
    if held.crypto and order.quantity < 0:
        return False
    _reserve(book, k)
    power = buying_power(book.account[0], held, day, order.quantity < 0)
    return bool(abs(order.quantity) * _price_of(book, k) <= power)


@compiled
def _price_of(book: Book, k: int) -> float:
    order = book.orders[k]
    if order.kind == LIMIT or order.kind == STOP_LIMIT:
        return float(order.limit)
    return float(book.holding[order.symbol].mark if order.kind == MARKET else order.stop)


@compiled
def _reserve(book: Book, k: int) -> None:
    """What the working orders ahead of order k, that open, would take of buying power: first
    come, first served.
    """
    account = book.account[0]
    cash = 0.0
    stock = 0.0
    for j in range(k):
        order = book.orders[j]
        if order.state != WORKING or book.holding[order.symbol].quantity * order.quantity < 0:
            continue
        worth = abs(order.quantity) * _price_of(book, j)
        if book.holding[order.symbol].crypto:
            cash += worth
        else:
            stock += worth
    account.reserved_cash = cash
    account.reserved_stock = stock
