"""Order rules on records, for compiled code: positions, sizes, limits, permitted actions."""

from __future__ import annotations

from event_contracts.trading.records import (
    BUY_NO,
    BUY_YES,
    MAX_RESTING_ORDERS,
    NO_INTENT,
    PRICE_UNITS_PER_DOLLAR,
    SELL_NO,
    SELL_YES,
    Record,
)
from event_contracts.trading.rules import (
    NO_LIMIT,
    ScaledOrderRules,
    compute_fee,
    find_violated_limit,
    is_immediate_order,
    limit_price,
    max_purchase_cost,
    max_purchase_count,
    max_sale_count,
    position_after_order,
)
from foundation.arrays import Mask, StructuredArray
from foundation.compiled import jit_inline, jit_or_python

for each in (
    compute_fee,
    max_purchase_cost,
    position_after_order,
    find_violated_limit,
    limit_price,
    is_immediate_order,
    max_sale_count,
    max_purchase_count,
):
    jit_or_python(each)  # Python and compiled code call the same rules


@jit_inline
def is_purchase(intent: int) -> bool:
    return intent in (BUY_YES, BUY_NO)


@jit_inline
def is_yes_intent(intent: int) -> bool:
    return intent in (BUY_YES, SELL_YES)


@jit_inline
def best_bid(tick: Record, yes: bool) -> int:
    return int(tick.bid if yes else PRICE_UNITS_PER_DOLLAR - tick.ask)


@jit_inline
def best_ask(tick: Record, yes: bool) -> int:
    return int(tick.ask if yes else PRICE_UNITS_PER_DOLLAR - tick.bid)


@jit_inline
def held_count(market: Record, yes: bool) -> int:
    return int(market.yes if yes else market.no)


@jit_inline
def _resting_count(orders: StructuredArray, market: Record, intent: int) -> int:
    """Return the unfilled contracts of the resting orders with this intent."""
    total = 0
    for k in range(market.resting):
        if orders[k].intent == intent:
            total += orders[k].remaining
    return total


@jit_inline
def _free_cash(orders: StructuredArray, market: Record, terms: ScaledOrderRules) -> int:
    """Return the cash less the buffer and the maximum cost of resting purchases, micro-dollars."""
    free = market.cash - market.reserved_cash - terms.cash_buffer_micros
    for k in range(market.resting):
        if is_purchase(orders[k].intent):
            free -= max_purchase_cost(terms.fees, orders[k].price, orders[k].remaining)
    return int(free)


@jit_inline
def compute_order_bounds(
    market: Record, orders: StructuredArray, tick: Record, terms: ScaledOrderRules, intent: int
) -> tuple[int, int, int, int]:
    """Return price and bounds of an intent's orders at a tick, as input of `is_order_permitted`.

    The four values are `price`, `max_count`, `free_cash` and `resting_count`; the last two are 0
    for a sale.
    """
    yes = is_yes_intent(intent)
    buys = is_purchase(intent)
    style = terms.price_style_codes[intent]
    price = int(
        limit_price(best_bid(tick, yes), best_ask(tick, yes), terms.price_step_units, buys, style)
    )
    if market.resting == MAX_RESTING_ORDERS:
        price = 0
    same = _resting_count(orders, market, intent)
    if not buys:
        immediate = is_immediate_order(buys, style)
        against = 0 if immediate else _resting_count(orders, market, BUY_NO if yes else BUY_YES)
        return price, int(max_sale_count(held_count(market, yes), same, against, immediate)), 0, 0
    sales = _resting_count(orders, market, SELL_NO if yes else SELL_YES)
    most = int(max_purchase_count(held_count(market, not yes), sales, same))
    return price, most, _free_cash(orders, market, terms), same + sales


@jit_inline
def breaks_limits(
    market: Record, terms: ScaledOrderRules, yes: bool, price: int, count: int, resting: int
) -> bool:
    """Return whether an order would break a position limit once it and resting orders fill.

    yes: true if the order goes towards YES.
    price: price of this side, ten-thousandths of a USD.
    resting: contracts that resting orders may add to the position.
    """
    held = held_count(market, yes) - held_count(market, not yes)
    money = market.cash + market.elsewhere
    position, value, portfolio = position_after_order(price, count, held, resting, money)
    event = value + (market.event_if_no if yes else market.event_if_yes)
    account = event + market.other_events
    broken = find_violated_limit(terms.limits, position, value, portfolio, event, account)
    return broken != NO_LIMIT


@jit_inline
def is_order_permitted(
    market: Record,
    terms: ScaledOrderRules,
    intent: int,
    count: int,
    price: int,
    max_count: int,
    free_cash: int,
    resting_count: int,
    size_limit: int,
) -> bool:
    """Return whether an order of `count` contracts may be sent.

    price: limit price; 0 if there is none.
    max_count: maximum contracts of the order.
    free_cash: cash that a purchase may use, millionths of a USD.
    resting_count: contracts that resting orders may add to the position.
    size_limit: maximum position after an order of this size, contracts.
    """
    if price == 0 or count > max_count:
        return False
    if not is_purchase(intent):
        return True
    yes = is_yes_intent(intent)
    if held_count(market, yes) - held_count(market, not yes) + resting_count + count > size_limit:
        return False
    if free_cash < max_purchase_cost(terms.fees, price, count):
        return False
    return not breaks_limits(market, terms, yes, price, count, resting_count)


@jit_inline
def write_action_masks(
    market: Record, orders: StructuredArray, tick: Record, terms: ScaledOrderRules, allowed: Mask
) -> None:
    """Write the mask of permitted actions into `allowed` [25]; reserved codes stay False."""
    allowed[NO_INTENT] = True
    for intent in range(BUY_YES, SELL_NO + 1):
        price, most, free, towards = compute_order_bounds(market, orders, tick, terms, intent)
        for size in range(5):
            count = terms.position_sizes[size]
            code = (intent - 1) * 5 + size + 1
            size_limit = terms.size_limits[size]
            allowed[code] = size_limit >= 0 and is_order_permitted(
                market, terms, intent, count, price, most, free, towards, size_limit
            )
