"""One step of a market of event contracts: permitted actions, fills and fees.

The single environment and the vectorised one call the same functions, which change the records in
place. `event_contracts.trading.rules` defines the limits on orders.

The book has one level on each side. Prices below are those of the order's side, YES or NO; the
price of NO is 1 − the price of YES. A purchase fills in two ways:

- At once: if its limit price reaches the ask that its decision saw, it trades at the ask, up to the
  depth shown. The book then shows less depth until the next tick.
- Resting: from the next tick on, its remainder trades at its limit price. If the ask has fallen to
  that price, it trades up to the ask's size. Otherwise it trades with market sales at the bid, as
  far as the orders ahead of it in the queue leave any. The depth of a tick is the depth after these
  trades.

A sale is the mirror image. The remainder of an immediate order is cancelled. Orders of one account
do not trade with each other. The venue's self-trade prevention has two types: the new order stops
before it meets the resting one (`taker_at_cross`), or it cancels the resting order and continues to
trade (`maker`, for sales). An order that would break the cash buffer or a limit is cancelled before
it fills. At the last tick nothing trades: resting orders are cancelled, and the market pays.
"""

from __future__ import annotations

from event_contracts.trading.record_rules import (
    best_ask,
    best_bid,
    breaks_limits,
    compute_order_bounds,
    held_count,
    is_order_permitted,
    is_purchase,
    is_yes_intent,
)
from event_contracts.trading.records import (
    MAX_RECORD_AMOUNT,
    MICROS_PER_DOLLAR,
    MICROS_PER_PRICE_UNIT,
    PRICE_UNITS_PER_DOLLAR,
    Record,
)
from event_contracts.trading.rules import ScaledOrderRules, compute_fee, is_immediate_order
from foundation.arrays import StructuredArray
from foundation.compiled import compiled, jit_inline


@jit_inline
def _book_fill(
    market: Record,
    order: Record,
    fills: StructuredArray,
    terms: ScaledOrderRules,
    price: int,
    count: int,
    maker: bool,
) -> bool:
    """Book a fill in the market, the order and `fills`; return whether it was booked.

    A purchase that would break the cash buffer or a limit is not booked.

    maker: true if the order rested in the book.
    """
    yes = is_yes_intent(order.intent)
    buys = is_purchase(order.intent)
    revenue = price * count * MICROS_PER_PRICE_UNIT
    if buys:
        revenue = -revenue
    step = terms.fees.balance_step
    fee = compute_fee(terms.fees, price, count, maker)
    change = (revenue - fee) // step * step
    rounding = revenue - fee - change
    rebate = (order.carried + rounding) // step * step
    pairs = min(count, held_count(market, not yes)) if buys else 0
    left = market.cash + change + rebate + pairs * MICROS_PER_DOLLAR
    if buys and (
        left < terms.cash_buffer_micros or breaks_limits(market, terms, yes, price, count, 0)
    ):
        return False
    market.cash = left
    order.carried += rounding - rebate
    added = count - pairs if buys else -count
    if yes:
        market.yes += added
        market.no -= pairs
    else:
        market.no += added
        market.yes -= pairs
    row = fills[market.fills]
    row.number = order.number
    row.intent = order.intent
    row.price = price
    row.count = count
    row.maker = 1 if maker else 0
    row.fee = fee + rounding - rebate
    market.fills += 1
    return True


@jit_inline
def _remove_ended_orders(market: Record, orders: StructuredArray) -> None:
    """Remove ended orders from the order slots and close the gaps; the sequence is unchanged."""
    kept = 0
    for k in range(market.resting):
        if orders[k].remaining > 0:
            if kept != k:
                orders[kept] = orders[k]
            kept += 1
    market.resting = kept


@jit_inline
def reset_depth(market: Record, tick: Record) -> None:
    """Set the market's available depth to the sizes of a tick."""
    market.asks = tick.ask_size
    market.bids = tick.bid_size


@jit_inline
def _is_on_yes_bid(intent: int) -> bool:
    """Return whether orders of an intent are bids for YES: purchases of YES, and sales of NO."""
    return is_purchase(intent) == is_yes_intent(intent)


@jit_inline
def _yes_price(intent: int, price: int) -> int:
    return price if is_yes_intent(intent) else PRICE_UNITS_PER_DOLLAR - price


@jit_inline
def _queue_ahead_count(market: Record, tick: Record, order: Record) -> int:
    """Return the contracts of other traders that trade before a resting order of the account."""
    bid = _is_on_yes_bid(order.intent)
    price = _yes_price(order.intent, order.price)
    best = tick.bid if bid else tick.ask
    depth = market.bids if bid else market.asks
    if price == best:
        return int(min(order.ahead, depth))
    return 0 if (price > best) == bid else int(depth)


@jit_inline
def _crosses_own_order(order: Record, intent: int, price: int) -> bool:
    """Return whether a new order would trade with a resting order of the same account.

    order: the resting order.
    intent, price: intent and limit price of the new order.
    """
    bid = _is_on_yes_bid(intent)
    if order.remaining <= 0 or _is_on_yes_bid(order.intent) == bid:
        return False
    own = _yes_price(order.intent, order.price)
    limit = _yes_price(intent, price)
    return bool(own <= limit if bid else own >= limit)


@compiled
def depth_within_limit(
    market: Record, orders: StructuredArray, tick: Record, intent: int, price: int
) -> tuple[int, int]:
    """Return the depth that a new order can reach, and the depth before a self-trade.

    The first number is the contracts of the opposite quote within the order's limit price. The
    second is the contracts that would trade before the new order meets a resting order of the same
    account; `MAX_RECORD_AMOUNT` if it meets none.
    """
    yes = is_yes_intent(intent)
    buys = is_purchase(intent)
    met = best_ask(tick, yes) if buys else best_bid(tick, yes)
    within = 0 < met < PRICE_UNITS_PER_DOLLAR and (met <= price if buys else met >= price)
    depth = market.asks if _is_on_yes_bid(intent) else market.bids
    own = MAX_RECORD_AMOUNT
    for k in range(market.resting):
        if _crosses_own_order(orders[k], intent, price):
            own = min(own, _queue_ahead_count(market, tick, orders[k]))
    return int(depth if within else 0), int(own)


@compiled
def match_new_order(
    market: Record,
    orders: StructuredArray,
    fills: StructuredArray,
    tick: Record,
    terms: ScaledOrderRules,
    intent: int,
    price: int,
    count: int,
    rests: bool,
    cancels_own: bool,
    rejects_later: bool,
) -> None:
    """Match a new order with the book of a tick; its remainder rests or ends.

    The market must have a free order slot.

    rests: true if the remainder rests, queued behind the depth at its price.
    cancels_own: true if the order cancels the account's resting orders that it meets; false if it
        stops before it meets them.
    rejects_later: true if a fault keeps the order from trading.
    """
    yes = is_yes_intent(intent)
    buys = is_purchase(intent)
    depth, own = depth_within_limit(market, orders, tick, intent, price)
    taken = 0 if rejects_later else min(count, depth)
    stopped = False
    if own < count and not rejects_later:
        if cancels_own:
            for k in range(market.resting):
                meets = _crosses_own_order(orders[k], intent, price)
                if meets and _queue_ahead_count(market, tick, orders[k]) < count:
                    orders[k].remaining = 0
            _remove_ended_orders(market, orders)
        else:
            taken = min(taken, own)
            stopped = True
    order = orders[market.resting]
    order.number = market.numbers
    order.intent = intent
    order.price = price
    order.remaining = count
    order.age = 0
    order.carried = 0
    market.numbers += 1
    market.sent = count
    market.total += count
    met = best_ask(tick, yes) if buys else best_bid(tick, yes)
    done = _fill_order(market, order, fills, terms, met, taken, False)
    _reduce_depth(market, _is_on_yes_bid(intent), done)
    if rests and not stopped and order.remaining > 0:
        # Behind the depth of its level; at the front of a level that it improves.
        level = best_bid(tick, yes) if buys else best_ask(tick, yes)
        improves = price > level if buys else price < level
        order.ahead = 0 if improves else (market.bids if _is_on_yes_bid(intent) else market.asks)
        market.resting += 1


@jit_inline
def _reduce_depth(market: Record, lifts: bool, count: int) -> None:
    if lifts:
        market.asks -= count
    else:
        market.bids -= count


@jit_inline
def _fill_order(
    market: Record,
    order: Record,
    fills: StructuredArray,
    terms: ScaledOrderRules,
    price: int,
    count: int,
    maker: bool,
) -> int:
    """Fill `count` contracts of an order; return the contracts filled.

    If the fill would break the cash buffer or a limit, the order ends and 0 is returned.
    """
    if count <= 0:
        return 0
    if not _book_fill(market, order, fills, terms, price, count, maker):
        order.remaining = 0
        return 0
    order.remaining -= count
    return count


@jit_inline
def _match_at_quote(
    market: Record, order: Record, fills: StructuredArray, after: Record, terms: ScaledOrderRules
) -> bool:
    """Fill a resting order against the opposite quote; return whether their prices cross.

    after: the new tick.
    """
    yes = is_yes_intent(order.intent)
    buys = is_purchase(order.intent)
    met = best_ask(after, yes) if buys else best_bid(after, yes)
    if not (
        0 < met < PRICE_UNITS_PER_DOLLAR and (met <= order.price if buys else met >= order.price)
    ):
        return False
    lifts = _is_on_yes_bid(order.intent)
    count = min(order.remaining, market.asks if lifts else market.bids)
    done = _fill_order(market, order, fills, terms, order.price, count, True)
    _reduce_depth(market, lifts, done)
    return True


@jit_inline
def _match_in_queue(
    market: Record, order: Record, fills: StructuredArray, after: Record, terms: ScaledOrderRules
) -> None:
    """Fill a resting order from incoming market orders, after the contracts ahead in the queue.

    An order at a worse price than the best one of its side gets no fill.

    after: the new tick.
    """
    yes = is_yes_intent(order.intent)
    buys = is_purchase(order.intent)
    bids = _is_on_yes_bid(order.intent)
    top = best_bid(after, yes) if buys else best_ask(after, yes)
    if order.price == top:
        order.ahead = min(order.ahead, after.bid_size if bids else after.ask_size)
    elif order.price > top if buys else order.price < top:
        order.ahead = 0
    else:
        return
    flow = market.sold if bids else market.bought
    served = min(flow, order.ahead)
    order.ahead -= served
    count = min(order.remaining, flow - served)
    done = _fill_order(market, order, fills, terms, order.price, count, True)
    if bids:
        market.sold -= served + done
    else:
        market.bought -= served + done


@jit_inline
def _match_resting_orders(
    market: Record,
    orders: StructuredArray,
    fills: StructuredArray,
    after: Record,
    terms: ScaledOrderRules,
) -> None:
    """Match the account's resting orders with a new tick, the oldest order first."""
    reset_depth(market, after)
    market.sold = after.sold
    market.bought = after.bought
    for k in range(market.resting):
        order = orders[k]
        if order.remaining > 0 and not _match_at_quote(market, order, fills, after, terms):
            _match_in_queue(market, order, fills, after, terms)
        order.age += 1
        if order.age >= terms.order_life_ticks:
            order.remaining = 0
    _remove_ended_orders(market, orders)


@compiled
def step_market(
    market: Record,
    orders: StructuredArray,
    fills: StructuredArray,
    tape: StructuredArray,
    terms: ScaledOrderRules,
    action: int,
) -> None:
    """Run one step of one market: send an action's order, show the next tick, match resting orders.

    The last tick settles the market and pays the position.

    fills: [MAX_FILLS_PER_STEP], output: the fills of this step.
    tape: ticks, at least those of the market's rows.
    """
    before = tape[market.row]
    market.sent = 0
    market.fills = 0
    if 1 <= action <= 20:
        intent = (action - 1) // 5 + 1
        size = (action - 1) % 5
        size_limit = terms.size_limits[size]
        if size_limit >= 0:
            count = terms.position_sizes[size]
            price, most, free, towards = compute_order_bounds(market, orders, before, terms, intent)
            if is_order_permitted(
                market, terms, intent, count, price, most, free, towards, size_limit
            ):
                buys = is_purchase(intent)
                rests = not is_immediate_order(buys, terms.price_style_codes[intent])
                sale = not buys
                match_new_order(
                    market, orders, fills, before, terms, intent, price, count, rests, sale, False
                )
    market.row += 1
    after = tape[market.row]
    if market.row < market.rows - 1:
        _match_resting_orders(market, orders, fills, after, terms)
        # The book is that after the trades of the step, including the account's resting orders.
        reset_depth(market, after)
    else:
        market.resting = 0
        market.asks = 0
        market.bids = 0
        won = market.yes if is_yes_outcome(after) else market.no
        market.cash += won * MICROS_PER_DOLLAR
        market.yes = 0
        market.no = 0


@jit_inline
def is_yes_outcome(settlement_row: Record) -> bool:
    """Return whether YES won, by the quote in a market's settlement row."""
    return bool(settlement_row.bid + settlement_row.ask >= PRICE_UNITS_PER_DOLLAR)
