"""One step of a market of event contracts: what may be sent, what fills, and what it costs.

The single environment and the vectorised one call the same functions, which change the records in
place. What an order has to keep stands in `event_contracts.trading.rules`.

An order is decided on at one tick and met by the next. Seen from its own side (YES, or NO at one
less the YES price), a purchase

- that takes trades at the dearer of the asks before and after the step, while that is within its
  limit, up to what the ask has;
- that waits trades at its own price: as much as the ask has where the ask has come to it, else as
  much of what was sold at the bid as is left once those before it in the queue are served.

A sale is the mirror image. An immediate order trades before resting ones, at the worse of the
quotes before and after the step if both are within its limit. It takes at most the depth after the
step, and its remainder is cancelled. An order that would break the cash buffer or a limit is
cancelled before it fills. At the last tick nothing trades: resting orders are cancelled, and the
market pays.
"""

from __future__ import annotations

from event_contracts.trading.records import DOLLAR, POINT, WHOLE, Record
from event_contracts.trading.rules import (
    Terms,
    best_ask,
    best_bid,
    fee_of,
    fits,
    held_of,
    is_beyond_limits,
    is_immediate,
    is_purchase,
    is_yes,
    room_for,
)
from foundation.arrays import Records
from foundation.compiled import compiled, inlined


@inlined
def _book(
    market: Record, order: Record, fills: Records, terms: Terms, price: int, count: int, maker: bool
) -> bool:
    """Book a fill; whether it may be. A purchase keeps the buffer and the limits."""
    yes = is_yes(order.intent)
    buys = is_purchase(order.intent)
    revenue = price * count * POINT
    if buys:
        revenue = -revenue
    step = terms.fees.balance_step
    fee = fee_of(terms.fees, price, count, maker)
    change = (revenue - fee) // step * step
    rounding = revenue - fee - change
    rebate = (order.carried + rounding) // step * step
    pairs = min(count, held_of(market, not yes)) if buys else 0
    left = market.cash + change + rebate + pairs * DOLLAR
    if buys and (left < terms.cash_buffer or is_beyond_limits(market, terms, yes, price, count, 0)):
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


@inlined
def _sweep(market: Record, orders: Records) -> None:
    """Take ended orders out of their slots; the others keep their order."""
    kept = 0
    for k in range(market.resting):
        if orders[k].remaining > 0:
            if kept != k:
                orders[kept] = orders[k]
            kept += 1
    market.resting = kept


@inlined
def show_depth(market: Record, tape: Records) -> None:
    """Reset the depth that orders may take at the next tick's quote; none at the last tick."""
    trades = market.row < market.rows - 2
    market.asks = tape[market.row + 1].ask_size if trades else 0
    market.bids = tape[market.row + 1].bid_size if trades else 0


@compiled
def place(
    market: Record, orders: Records, tick: Record, intent: int, price: int, count: int
) -> None:
    """Put an order that may be sent before a tick into a free slot, behind what its level shows;
    the next `step` meets it.
    """
    yes = is_yes(intent)
    order = orders[market.resting]
    order.number = market.numbers
    order.intent = intent
    order.price = price
    order.remaining = count
    order.age = 0
    order.carried = 0
    if is_purchase(intent):
        order.takes = 1 if price >= best_ask(tick, yes) else 0
        level = best_bid(tick, yes)
        size = tick.bid_size if yes else tick.ask_size
        order.ahead = 0 if price > level else size
    else:
        order.takes = 1 if price <= best_bid(tick, yes) else 0
        level = best_ask(tick, yes)
        size = tick.ask_size if yes else tick.bid_size
        order.ahead = 0 if price < level else size
    market.resting += 1
    market.numbers += 1
    market.sent = count
    market.total += count


@inlined
def _traded(
    market: Record, order: Record, fills: Records, terms: Terms, price: int, count: int, maker: bool
) -> int:
    """Contracts of an order that filled; one that may not fill has ended."""
    if count <= 0:
        return 0
    if not _book(market, order, fills, terms, price, count, maker):
        order.remaining = 0
        return 0
    order.remaining -= count
    return count


@compiled
def trade(
    market: Record,
    orders: Records,
    fills: Records,
    tape: Records,
    terms: Terms,
    intent: int,
    price: int,
    count: int,
    whole: bool,
) -> None:
    """Fill an immediate order between a market's tick and the next, and cancel its remainder.

    whole: whether it is fill-or-kill.
    """
    yes = is_yes(intent)
    buys = is_purchase(intent)
    lifts = buys == yes
    order = orders[market.resting]  # this slot is free until the next order rests
    order.number = market.numbers
    order.intent = intent
    order.remaining = count
    order.carried = 0
    market.numbers += 1
    market.sent = count
    market.total += count
    left = market.asks if lifts else market.bids
    if left < (count if whole else 1):
        return
    before = tape[market.row]
    after = tape[market.row + 1]
    if buys:
        met = max(best_ask(before, yes), best_ask(after, yes))
    else:
        met = min(best_bid(before, yes), best_bid(after, yes))
    if not (0 < met < WHOLE and (met <= price if buys else met >= price)):
        return
    done = _traded(market, order, fills, terms, met, min(count, left), False)
    if lifts:
        market.asks -= done
    else:
        market.bids -= done


@inlined
def _at_the_quote(
    market: Record, order: Record, fills: Records, before: Record, after: Record, terms: Terms
) -> bool:
    """Trade an order with the other side of the book; whether that side has come to it."""
    yes = is_yes(order.intent)
    buys = is_purchase(order.intent)
    lifts = buys == yes
    met = best_ask(after, yes) if buys else best_bid(after, yes)
    takes = order.takes == 1
    order.takes = 0
    if not (0 < met < WHOLE and (met <= order.price if buys else met >= order.price)):
        return False
    price = order.price
    if takes:
        was = best_ask(before, yes) if buys else best_bid(before, yes)
        price = max(met, was) if buys else min(met, was)
    count = min(order.remaining, market.asks if lifts else market.bids)
    done = _traded(market, order, fills, terms, price, count, not takes)
    if lifts:
        market.asks -= done
    else:
        market.bids -= done
    return True


@inlined
def _in_the_queue(
    market: Record, order: Record, fills: Records, after: Record, terms: Terms
) -> None:
    """Trade an order that is at the top of its side with what came to that, once it is its turn."""
    yes = is_yes(order.intent)
    buys = is_purchase(order.intent)
    # A purchase of YES and a sale of NO wait on the YES bid; the other two on the YES ask.
    bids = buys == yes
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
    done = _traded(market, order, fills, terms, order.price, count, True)
    if bids:
        market.sold -= served + done
    else:
        market.bought -= served + done


@inlined
def _meet(
    market: Record, orders: Records, fills: Records, before: Record, after: Record, terms: Terms
) -> None:
    """Let every resting order meet a tick, the oldest first."""
    market.sold = after.sold
    market.bought = after.bought
    for k in range(market.resting):
        order = orders[k]
        if order.remaining > 0 and not _at_the_quote(market, order, fills, before, after, terms):
            _in_the_queue(market, order, fills, after, terms)
        order.age += 1
        if order.age >= terms.life:
            order.remaining = 0
    _sweep(market, orders)


@compiled
def step(
    market: Record, orders: Records, fills: Records, tape: Records, terms: Terms, action: int
) -> None:
    """One step of one market: an action, the next tick, and at the last one what the market pays.

    fills: [2 · SLOTS], those of this step. tape: ticks, at least those of the market's rows.
    """
    before = tape[market.row]
    market.sent = 0
    market.fills = 0
    if 1 <= action <= 20:
        intent = (action - 1) // 5 + 1
        size = (action - 1) % 5
        size_limit = terms.size_limits[size]
        if size_limit >= 0:
            count = terms.sizes[size]
            price, most, free, towards = room_for(market, orders, before, terms, intent)
            if fits(market, terms, intent, count, price, most, free, towards, size_limit):
                if is_immediate(is_purchase(intent), terms.styles[intent]):
                    trade(market, orders, fills, tape, terms, intent, price, count, False)
                else:
                    place(market, orders, before, intent, price, count)
    market.row += 1
    after = tape[market.row]
    if market.row < market.rows - 1:
        _meet(market, orders, fills, before, after, terms)
        show_depth(market, tape)
    else:
        market.resting = 0
        won = market.yes if is_yes_outcome(after) else market.no
        market.cash += won * DOLLAR
        market.yes = 0
        market.no = 0


@inlined
def is_yes_outcome(last: Record) -> bool:
    """Whether a market's last tick says that YES came true."""
    return bool(last.bid + last.ask >= WHOLE)
