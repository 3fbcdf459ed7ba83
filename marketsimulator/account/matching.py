"""Order matching: market orders fill at an open, others when a bar trades through their price.

Waiting orders reserve buying power. Wash trades (orders that would trade with the account's own)
are refused.

Each bar is matched at its open, then at its high or low, whichever is adverse to the position, then
at the opposite extreme. Bars do not tell which extreme came first, so the adverse sequence is
assumed. A limit order fills at its limit once the bar has traded beyond it. A stop order fills at
its stop price less costs, or at the open if the market opened beyond the stop. A stop-limit order
that cannot fill at once waits as a limit order for the next bar. A trailing stop follows the opens
and the favourable extremes. The sequence of the two extremes is unknown. If the adverse
extreme reaches the stop only after the stop has moved, the favourable extreme is assumed first,
which is the worse case. Orders on the open or close fill only at the
session's first open or last close. An order is never matched with a bar that started before the
order was sent.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Index, StructuredArray
from foundation.compiled import compiled, jit_inline
from marketsimulator.account.book import (
    BY_ORDER,
    CANCELLED,
    EXPIRED,
    FILLED,
    LIMIT,
    MAKER,
    MARKET,
    ON_CLOSE,
    ON_OPEN,
    STOP,
    STOP_LIMIT,
    TRAILING,
    WORKING,
    Book,
    NumpyRecord,
    ReferencePrices,
    round_quantity,
)
from marketsimulator.account.impact import market_order_price
from marketsimulator.account.margin import buying_power
from marketsimulator.account.settlement import (
    fillable_quantity,
    is_too_small,
    settle_fill,
    trade_at_market,
    trade_at_open,
)

LOW_EXTREME = 0
HIGH_EXTREME = 1


@compiled
def send_orders(
    book: Book,
    day: NumpyRecord,
    account_log: StructuredArray,
    first_row: int,
    opens: ReferencePrices,
    now: int,
) -> None:
    """Send the orders from row `first_row` of the book on, one after the other.

    Each order is refused, fills at the current open, or waits.

    opens: opens of the bars that start at this instant.
    now: the instant (ns).
    """
    for k in range(first_row, len(book.orders)):
        order = book.orders[k]
        s = order.symbol
        kind = order.kind
        auction = order.time_in_force == ON_OPEN or order.time_in_force == ON_CLOSE
        if kind == TRAILING:
            order.stop = trailing_stop_price(order, book.holdings[s].mark)
        # A market order needs buying power at its fill price. An order that may wait is accepted
        # only with the buying power that it reserves.
        waits = kind != MARKET or auction
        if is_wash_trade(book, k) or (waits and not is_affordable(book, day, k)):
            book.account[0].refusals += 1
            order.state = CANCELLED
            continue
        if auction or order.active_from > now:
            continue
        if not np.isnan(opens.prices[s]):
            position = book.holdings[s]
            if kind == MARKET and position.min_order_value > 0.0:
                volume, deviation = opens.volumes[s], opens.volatilities[s]
                price = market_order_price(
                    position, opens.prices[s], order.quantity, volume, deviation
                )
                if is_too_small(position, order.quantity, price):
                    book.account[0].refusals += 1
                    order.state = CANCELLED
                    continue
            _match_open(book, day, account_log, k, opens, now)
        # The next decision sizes the remainder of a market order, so it is carried only under
        # `fills.remainder`.
        if order.state == WORKING and kind == MARKET and not day.carries_remainder:
            order.state = CANCELLED


@compiled
def match_opens(
    book: Book,
    day: NumpyRecord,
    account_log: StructuredArray,
    opens: ReferencePrices,
    bar_starts: Index,
    begins_session: bool,
) -> None:
    """Match waiting orders with the opens of bars.

    bar_starts: [2] start of the stock bars and of the crypto bars (ns).
    begins_session: true if the stock bars are the first of their session.
    """
    for k in range(len(book.orders)):
        order = book.orders[k]
        s = order.symbol
        start = bar_starts[book.holdings[s].crypto]
        if order.state != WORKING or np.isnan(opens.prices[s]):
            continue
        # The open of a bar that started before the order was sent was known to the trader.
        if order.active_from > start or order.time_in_force == ON_CLOSE:
            continue
        if order.time_in_force == ON_OPEN and not begins_session:
            continue
        _match_open(book, day, account_log, k, opens, start)
        # An order on the open has one open: an unfilled remainder, or a limit out of reach,
        # expires.
        if order.time_in_force == ON_OPEN and order.state == WORKING:
            order.state = EXPIRED


@compiled
def match_highs_and_lows(
    book: Book,
    day: NumpyRecord,
    account_log: StructuredArray,
    highs: Array,
    lows: Array,
    volumes: Array,
    volatility: Array,
    bar_starts: Index,
    now: int,
) -> None:
    """Match waiting orders with the highs and lows [S] of the bars known at `now` (ns).

    bar_starts: [2] start of the stock bars and of the crypto bars (ns).
    """
    for s in range(len(highs)):
        if np.isnan(highs[s]):
            continue
        worse = HIGH_EXTREME if book.holdings[s].quantity < 0 else LOW_EXTREME
        better = LOW_EXTREME if worse == HIGH_EXTREME else HIGH_EXTREME
        for side in (worse, better):
            price, opposite = lows[s], highs[s]
            if side == HIGH_EXTREME:
                price, opposite = opposite, price
            for k in range(len(book.orders)):
                order = book.orders[k]
                if order.symbol != s or order.state != WORKING:
                    continue
                if order.active_from > bar_starts[book.holdings[s].crypto]:
                    continue
                if order.time_in_force == ON_OPEN or order.time_in_force == ON_CLOSE:
                    continue
                _match_extreme(
                    book, day, account_log, k, price, opposite, side, volumes[s], volatility[s], now
                )


@compiled
def match_closes(
    book: Book, day: NumpyRecord, account_log: StructuredArray, closes: ReferencePrices, now: int
) -> None:
    """Match market-on-close orders with the closes of bars that end a session at `now` (ns)."""
    for k in range(len(book.orders)):
        order = book.orders[k]
        if order.state != WORKING or order.time_in_force != ON_CLOSE:
            continue
        if order.active_from < now and not np.isnan(closes.prices[order.symbol]):
            # The bars have no auctions: a close is filled as an open is, with spread and slippage.
            _match_open(book, day, account_log, k, closes, now)


@compiled
def _match_open(
    book: Book, day: NumpyRecord, tape: StructuredArray, k: int, opens: ReferencePrices, now: int
) -> None:
    """Match order number `k` with the open of its symbol.

    A market order fills, and so does a limit or stop order whose price the open has reached.
    """
    order = book.orders[k]
    s = order.symbol
    open_ = opens.prices[s]
    buys = order.quantity > 0
    if cancel_reduce_only_if_flat(book, k):
        return
    if order.kind == STOP or order.kind == STOP_LIMIT or order.kind == TRAILING:
        if is_better_price(open_, order.stop, buys):
            if order.kind == TRAILING:
                order.stop = trailing_stop_price(order, open_)
            return
        order.kind = LIMIT if order.kind == STOP_LIMIT else MARKET
    quantity = order.quantity
    if order.kind == LIMIT:
        # The order would take liquidity there, so spread and slippage count against its limit.
        volume, deviation = opens.volumes[s], opens.volatilities[s]
        price = market_order_price(book.holdings[s], open_, quantity, volume, deviation)
        if is_worse_price(price, order.limit, buys):
            return
    # Orders that waited before this one have their buying power reserved.
    reserve_buying_power(book, day, k)
    account = book.account[0]
    position = book.holdings[s]
    filled = trade_at_open(
        account, position, day, tape, now, order.number, BY_ORDER, s, quantity, opens
    )
    apply_fill(order, filled)
    cancel_remainder_if_flat(book, k, filled)


@compiled
def _match_extreme(
    book: Book,
    day: NumpyRecord,
    tape: StructuredArray,
    k: int,
    price: float,
    opposite: float,
    side: int,
    volume: float,
    volatility: float,
    end: int,
) -> None:
    """Match order number `k` with the high or the low of a bar that ended at `end` (ns).

    Buy limits and sell stops are matched with lows; sell limits and buy stops with highs.

    price: the high or the low, USD.
    opposite: the opposite extreme, USD.
    side: HIGH_EXTREME or LOW_EXTREME, which tells what `price` is.
    """
    order = book.orders[k]
    buys = order.quantity > 0
    if cancel_reduce_only_if_flat(book, k):
        return
    if order.kind == LIMIT:
        # The bar must trade beyond the limit: at the price itself, other orders may be ahead in the
        # queue.
        if (side == LOW_EXTREME) == buys and is_better_price(price, order.limit, buys):
            _fill_limit(book, day, tape, k, end)
        return
    if order.kind == MARKET or (side == HIGH_EXTREME) != buys:
        return
    if is_better_price(price, order.stop, buys):
        if order.kind != TRAILING:
            return
        order.stop = trailing_stop_price(order, opposite)
        if is_better_price(price, order.stop, buys):
            return
    _fill_stop(book, day, tape, k, volume, volatility, end)


@compiled
def _fill_limit(book: Book, day: NumpyRecord, tape: StructuredArray, k: int, end: int) -> None:
    """Fill a limit order, which a bar has traded through, at its limit price and the maker rate."""
    account = book.account[0]
    order = book.orders[k]
    s = order.symbol
    position = book.holdings[s]
    limit = order.limit
    reserve_buying_power(book, day, k)
    filled = fillable_quantity(account, position, day, order.quantity, limit, MAKER)
    if filled != 0.0:
        number, cause = order.number, BY_ORDER
        settle_fill(
            account, position, day, tape, end, number, cause, s, filled, limit, limit, MAKER
        )
        apply_fill(order, filled)
        cancel_remainder_if_flat(book, k, filled)


@compiled
def _fill_stop(
    book: Book,
    day: NumpyRecord,
    tape: StructuredArray,
    k: int,
    volume: float,
    volatility: float,
    end: int,
) -> None:
    """Fill a triggered stop order as a market order at its stop price.

    A stop-limit order does not fill if its price after costs is beyond its limit; it then waits as
    a limit order. Such an order, and any unfilled remainder, is matched only with bars from `end`
    (ns) on, because the rest of this bar may have preceded the trigger.
    """
    account = book.account[0]
    order = book.orders[k]
    s = order.symbol
    number = order.number
    stop = order.stop
    quantity = order.quantity
    position = book.holdings[s]
    if order.kind == STOP_LIMIT:
        price = market_order_price(position, stop, quantity, volume, volatility)
        if is_worse_price(price, order.limit, quantity > 0):
            order.kind = LIMIT
            order.active_from = end
            return
    order.kind = LIMIT if order.kind == STOP_LIMIT else MARKET
    reserve_buying_power(book, day, k)
    filled = trade_at_market(
        account, position, day, tape, end, number, BY_ORDER, s, quantity, stop, volume, volatility
    )
    apply_fill(order, filled)
    cancel_remainder_if_flat(book, k, filled)
    if order.state == WORKING:
        order.active_from = end


@jit_inline
def is_better_price(price: float, level: float, is_buy: bool) -> bool:
    """Return whether a price is better than a level: below it for a buy, above it for a sale.

    A limit order fills at a price better than its limit. A stop order is not triggered by a price
    better than its stop.
    """
    return price < level if is_buy else price > level


@jit_inline
def is_worse_price(price: float, level: float, is_buy: bool) -> bool:
    """Return whether a price is worse than a level: above it for a buy, below it for a sale."""
    return price > level if is_buy else price < level


@compiled
def trailing_stop_price(order: NumpyRecord, price: float) -> float:
    """Return the stop price of a trailing stop after the market has traded at `price`, USD.

    The stop price follows the market at the trail distance and never moves away from the market.
    """
    distance = order.trail + order.trail_fraction * price
    stop = price + distance if order.quantity > 0 else price - distance
    if np.isnan(order.stop):
        return float(stop)
    return float(min(order.stop, stop) if order.quantity > 0 else max(order.stop, stop))


@compiled
def apply_fill(order: NumpyRecord, filled_quantity: float) -> None:
    """Subtract a signed filled quantity from the unfilled quantity of an order.

    The order's state becomes FILLED if nothing is left. A fill of 0 changes nothing.
    """
    if filled_quantity == 0.0:
        return
    order.quantity = round_quantity(order.quantity - filled_quantity)
    if order.quantity == 0.0:
        order.state = FILLED


@compiled
def cancel_reduce_only_if_flat(book: Book, order_row: int) -> bool:
    """Cancel order number `order_row` if it is reduce-only and has no position left to reduce.

    A liquidation or another order may have closed the position, and a reduce-only order must not
    open one. Returns whether the order was cancelled.
    """
    order = book.orders[order_row]
    if order.reduces and book.holdings[order.symbol].quantity * order.quantity >= 0.0:
        order.state = CANCELLED
        return True
    return False


@compiled
def cancel_remainder_if_flat(book: Book, order_row: int, filled_quantity: float) -> None:
    """Cancel the remainder of order `order_row` if its fill has closed the position.

    The remainder would open a position on the other side, and the venue does not reverse a position
    with one order.

    filled_quantity: signed quantity of the fill; 0: no fill, nothing is cancelled.
    """
    order = book.orders[order_row]
    if (
        filled_quantity != 0.0
        and book.holdings[order.symbol].quantity == 0.0
        and order.state == WORKING
    ):
        order.state = CANCELLED


@compiled
def is_wash_trade(book: Book, order_row: int) -> bool:
    """Return whether order number `order_row` would trade with the account's own opposite order.

    Alpaca rejects wash trades (403), also on paper accounts. A market order trades with any
    opposite order; two limit orders trade if the bid is at or above the offer.
    """
    order = book.orders[order_row]
    # Later orders have not been sent yet.
    for j in range(order_row):
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
def is_affordable(book: Book, day: NumpyRecord, order_row: int) -> bool:
    """Return whether buying power covers order `order_row` beside earlier waiting orders.

    A closing order needs no buying power. Crypto cannot be sold short, so such a sale is
    unaffordable.
    """
    order = book.orders[order_row]
    position = book.holdings[order.symbol]
    if position.quantity * order.quantity < 0:
        return True
    if position.crypto and order.quantity < 0:
        return False
    reserve_buying_power(book, day, order_row)
    power = buying_power(book.account[0], position, day, order.quantity < 0)
    return bool(abs(order.quantity) * _reserved_price(book, day, order_row) <= power)


@compiled
def reserve_buying_power(book: Book, day: NumpyRecord, order_row: int) -> None:
    """Reserve the buying power of the opening orders ahead of order `order_row`.

    Buying power is reserved in the order of acceptance. An order cannot use what an earlier order
    has reserved, and later orders do not reduce what it can use.
    """
    account = book.account[0]
    cash = 0.0
    stock = 0.0
    for j in range(order_row):
        order = book.orders[j]
        # A reducing order frees buying power and needs none.
        if order.state != WORKING or book.holdings[order.symbol].quantity * order.quantity < 0:
            continue
        notional = abs(order.quantity) * _reserved_price(book, day, j)
        if book.holdings[order.symbol].crypto:
            cash += notional
        else:
            stock += notional
    account.reserved_cash = cash
    account.reserved_stock = stock


@compiled
def _reserved_price(book: Book, day: NumpyRecord, k: int) -> float:
    """Return the price per unit at which order number `k` reserves buying power, USD.

    It is the limit price of a limit or stop-limit order, the stop price of a stop order, and the
    mark for a market order. A price buffer is added, except for limit buys, which cannot fill at
    more.
    """
    order = book.orders[k]
    limited = order.kind == LIMIT or order.kind == STOP_LIMIT
    if limited:
        price = order.limit
    else:
        price = book.holdings[order.symbol].mark if order.kind == MARKET else order.stop
    return float(price if limited and order.quantity > 0 else price * day.order_price_buffer)
