"""Rebalancing orders that move positions to target quantities at the current opens, compiled.

Reducing orders are sent first, by symbol. Crypto purchases follow, then orders that open or
increase stock positions. If a reducing order does not fill completely, only those openings are sent
for which the account can pay (`execution.orders.broker.affordable_openings`). A change from long to
short, or back, takes a closing and an opening order. Quantities are whole lots, unless they close a
position. Large crypto orders are split.
"""

from __future__ import annotations

import numpy as np

from execution.orders.broker import MIN_COMPLETE_FILL_RATIO, opening_budget
from foundation.arrays import Array, Index, StructuredArray
from foundation.compiled import compiled, jit_inline
from marketsimulator.account.book import (
    BY_ORDER,
    FIRST_LEG,
    MARKET,
    ON_OPEN,
    SECOND_LEG,
    WORKING,
    Book,
    NumpyRecord,
    ReferencePrices,
    replace_orders,
    round_quantity,
)
from marketsimulator.account.impact import market_order_price
from marketsimulator.account.matching import send_orders
from marketsimulator.account.settlement import is_too_small, trade_at_open
from sizing.increments import count_lots
from sizing.quantity import child_order_lots, count_child_orders, max_crypto_quantity

_opening_budget = jit_inline(opening_budget)


@compiled
def trade_to_targets(
    account: NumpyRecord,
    holdings: StructuredArray,
    day: NumpyRecord,
    account_log: StructuredArray,
    at: int,
    held_quantities: Array,
    target_quantities: Array,
    opens: ReferencePrices,
    max_crypto_order_value: float,
    symbol_queue: Index,
    waits_for_auction: bool,
) -> float:
    """Send the orders that move positions from the decision's quantities to their targets, [S].

    In the account log the number of an order is its leg: its position among the decision's orders
    in its symbol.

    held_quantities: [S] quantities held at the decision. Later liquidations do not change the
        orders.
    opens: opens of the bars that start at this instant.
    max_crypto_order_value: maximum value of one crypto order, USD.
    symbol_queue: [S] scratch array for the numbers of symbols with an order to send.
    waits_for_auction: true if stocks trade in the next auction; then only crypto trades now.

    Returns the value of openings for which the account can still pay, USD; infinite if all reducing
    orders have filled completely.
    """
    unfilled = _trade_reductions(
        account,
        holdings,
        day,
        account_log,
        at,
        held_quantities,
        target_quantities,
        opens,
        max_crypto_order_value,
        symbol_queue,
        waits_for_auction,
    )
    budget = np.inf
    if unfilled > 0.0:
        budget = _measure_budget(
            account, holdings, held_quantities, target_quantities, unfilled, waits_for_auction
        )
    crypto = 0
    for k in range(len(holdings)):
        crypto += holdings[k].crypto
    # Crypto before stocks: it is paid with settled cash, which a stock purchase would use up.
    for kind in range(1 if crypto else 0, 0 if waits_for_auction else -1, -1):
        for k in range(
            _queue_openings(holdings, held_quantities, target_quantities, kind, symbol_queue)
        ):
            s = symbol_queue[k]
            position = holdings[s]
            turns = target_quantities[s] * held_quantities[s] < 0.0
            start = 0.0 if turns else held_quantities[s]
            quantity = _change_in_increments(start, target_quantities[s], position.increment)
            if budget < np.inf:
                value = abs(quantity) * position.mark
                if value > budget or position.quantity * quantity < 0.0:
                    continue
                budget -= value
            if quantity != 0.0 and not np.isnan(opens.prices[s]):
                # Crypto is never short: a reversal sends only the closing order.
                leg = SECOND_LEG if turns else FIRST_LEG
                _trade_in_parts(
                    account,
                    position,
                    day,
                    account_log,
                    at,
                    leg,
                    s,
                    quantity,
                    opens,
                    max_crypto_order_value,
                )
    return budget


@jit_inline
def _trade_reductions(
    account: NumpyRecord,
    holdings: StructuredArray,
    day: NumpyRecord,
    account_log: StructuredArray,
    at: int,
    held_quantities: Array,
    target_quantities: Array,
    opens: ReferencePrices,
    max_crypto_order_value: float,
    symbol_queue: Index,
    waits_for_auction: bool,
) -> float:
    """Send the reducing orders; return the value of their unfilled quantities at the marks, USD."""
    unfilled = 0.0
    for k in range(_queue_reductions(held_quantities, target_quantities, symbol_queue)):
        s = symbol_queue[k]
        position = holdings[s]
        if waits_for_auction and not position.crypto:
            continue
        # Closing or reversing a position sells all of it, whole increments or not.
        quantity = -held_quantities[s]
        if target_quantities[s] * held_quantities[s] > 0.0:
            quantity = _change_in_increments(
                held_quantities[s], target_quantities[s], position.increment
            )
        filled = 0.0
        met = not np.isnan(opens.prices[s])
        if met and quantity != 0.0 and position.quantity * quantity < 0.0:
            filled = _trade_in_parts(
                account,
                position,
                day,
                account_log,
                at,
                FIRST_LEG,
                s,
                quantity,
                opens,
                max_crypto_order_value,
            )
        if abs(filled) < abs(quantity) * MIN_COMPLETE_FILL_RATIO:
            unfilled += (abs(quantity) - abs(filled)) * position.mark
    return unfilled


@compiled
def _measure_budget(
    account: NumpyRecord,
    holdings: StructuredArray,
    held_quantities: Array,
    target_quantities: Array,
    unfilled: float,
    waits_for_auction: bool,
) -> float:
    """Return the maximum value of openings after reductions that did not fill completely, USD.

    unfilled: value of the unfilled quantities of the reductions, USD.
    """
    planned = 0.0
    for s in range(len(holdings)):
        position = holdings[s]
        held, target = held_quantities[s], target_quantities[s]
        turns = target * held < 0.0
        # In an auction, a change of sign sends only the closing order.
        if turns and waits_for_auction and not position.crypto:
            continue
        quantity = _change_in_increments(0.0 if turns else held, target, position.increment)
        if (turns or held * quantity >= 0.0) and position.quantity * quantity >= 0.0:
            planned += abs(quantity) * position.mark if quantity != 0.0 else 0.0
    return _opening_budget(account.equity, account.stock + account.crypto, planned, unfilled)


@compiled
def send_auction_orders(
    book: Book,
    day: NumpyRecord,
    account_log: StructuredArray,
    at: int,
    instant_number: int,
    held_quantities: Array,
    target_quantities: Array,
    budget: float,
) -> Book:
    """Send orders to the next auction that move each stock from held to target quantity, [S].

    Returns the book with these orders: reductions first, then openings, each by symbol. All fill at
    the auction price, so openings do not wait for reductions. For a change of sign only the closing
    order is sent. The number of an order is that of its instant, `instant_number`.

    held_quantities: [S] quantities held at the decision.
    budget: value of openings for which the account can pay, USD.
    """
    holding = book.holdings
    size = len(target_quantities)
    queue = np.zeros(size, np.int64)
    none = np.full(size, np.nan)
    sent = len(book.orders)
    orders = np.zeros(sent + size, book.orders.dtype)
    orders[:sent] = book.orders
    for leg in range(2):
        first = sent
        if leg == 0:
            count = _queue_reductions(held_quantities, target_quantities, queue)
        else:
            count = _queue_openings(holding, held_quantities, target_quantities, 0, queue)
        for k in range(count):
            s = queue[k]
            position = holding[s]
            turns = target_quantities[s] * held_quantities[s] < 0.0
            quantity = _change_in_increments(
                held_quantities[s], target_quantities[s], position.increment
            )
            if target_quantities[s] * held_quantities[s] <= 0.0 and held_quantities[s] != 0.0:
                quantity = -held_quantities[s]
            if position.crypto or quantity == 0.0 or (leg == 1 and turns):
                continue
            if leg == 1 and budget < np.inf:
                value = abs(quantity) * position.mark
                if value > budget:
                    continue
                budget -= value
            order = orders[sent]
            sent += 1
            order.number = instant_number
            order.symbol = s
            order.quantity = quantity
            order.kind = MARKET
            order.time_in_force = ON_OPEN
            order.limit = np.nan
            order.stop = np.nan
            order.active_from = at
            order.reduces = 1 - leg
            order.state = WORKING
        book = replace_orders(book, orders[:sent])
        send_orders(book, day, account_log, first, ReferencePrices(none, none, none), at)
    return book


# A branch on a symbol's membership would be mispredicted. Both queues raise the count instead: the
# next symbol overwrites one that does not belong.
@jit_inline
def _queue_reductions(before: Array, targets: Array, queue: Index) -> int:
    """Write the symbols to reduce or reverse into `queue`, and return their number."""
    count = 0
    for s in range(len(targets)):
        queue[count] = s
        count += before[s] * (targets[s] - before[s]) < 0.0
    return count


@jit_inline
def _queue_openings(
    holding: StructuredArray, before: Array, targets: Array, kind: int, queue: Index
) -> int:
    """Write the symbols with an opening order into `queue`, and return their number.

    These are symbols whose position increases or changes sign.

    kind: 1 for crypto, 0 for stocks.
    """
    count = 0
    for s in range(len(targets)):
        queue[count] = s
        change = targets[s] - before[s]
        opening = (change != 0.0) & ((before[s] * change >= 0.0) | (targets[s] * before[s] < 0.0))
        count += opening & (holding[s].crypto == kind)
    return count


@jit_inline
def max_logged_fills(
    holdings: StructuredArray, target_quantities: Array, max_crypto_order_value: float
) -> int:
    """Return the maximum number of entries that `trade_to_targets` appends to the account log.

    A stock has at most two fills. Each part of a split crypto order has two entries: the fill and
    its fee in crypto. A part is larger than half of `max_crypto_order_value` even after rounding to
    lots, which bounds the number of parts.
    """
    count = 4.0 * len(target_quantities)
    for s in range(len(target_quantities)):
        position = holdings[s]
        if position.crypto and not np.isnan(position.mark):
            change = abs(target_quantities[s] - position.quantity)
            count += 4.0 * np.ceil(
                change / max_crypto_quantity(max_crypto_order_value, position.mark)
            )
    return int(count)


@jit_inline
def ensure_account_log_space(
    account_log: StructuredArray, entry_count: int, new_entries: int
) -> StructuredArray:
    """Return the account log if it has space for `new_entries`, else a longer copy."""
    if entry_count + new_entries <= len(account_log):
        return account_log
    longer = np.zeros(2 * (entry_count + new_entries), account_log.dtype)
    for k in range(entry_count):
        longer[k] = account_log[k]
    return longer


@jit_inline
def _trade_in_parts(
    account: NumpyRecord,
    position: NumpyRecord,
    day: NumpyRecord,
    tape: StructuredArray,
    at: int,
    leg: int,
    s: int,
    quantity: float,
    opens: ReferencePrices,
    max_crypto_order: float,
) -> float:
    """Send one order, split into parts if it is a crypto order above `max_crypto_order` USD.

    Returns the signed filled quantity.

    leg: order number of the first part in the account log.
    """
    if position.min_order_value > 0.0:
        reference, volume, deviation = opens.prices[s], opens.volumes[s], opens.volatilities[s]
        price = market_order_price(position, reference, quantity, volume, deviation)
        if is_too_small(position, quantity, price):
            account.refusals += 1
            return 0.0
    most = max_crypto_quantity(max_crypto_order, position.mark)
    if not position.crypto or abs(quantity) <= most:
        return trade_at_open(account, position, day, tape, at, leg, BY_ORDER, s, quantity, opens)
    step = position.increment
    filled = 0.0
    steps = abs(count_lots(quantity, step))
    # Negative for a quantity that is a billionth short of a step.
    rest = round_quantity(abs(quantity) - steps * step)
    count = count_child_orders(steps, rest, most, step)
    for k in range(count):
        last = k == count - 1
        part = round_quantity(child_order_lots(steps, count, k) * step + (rest if last else 0.0))
        signed = part if quantity > 0 else -part
        filled += trade_at_open(
            account, position, day, tape, at, leg + k, BY_ORDER, s, signed, opens
        )
    return filled


@jit_inline
def _change_in_increments(start: float, end: float, step: float) -> float:
    """Return the change from `start` to `end`, rounded towards zero to a multiple of `step`."""
    return truncate_to_step(end - start if step == 1.0 else round_quantity(end - start), step)


@jit_inline
def truncate_to_step(quantity: float, step: float) -> float:
    """Truncate a quantity towards zero to a multiple of `step`."""
    return lots_to_quantity(count_lots(quantity, step), step)


@jit_inline
def lots_to_quantity(lots: float, lot_size: float) -> float:
    """Return the quantity of `lots` lots of size `lot_size`, rounded to billionths."""
    return lots if lot_size == 1.0 else round_quantity(lots * lot_size)
