"""What may be sent in front of a tick: prices, fees and limits of orders, in integers.

They are those of `event_contracts.trading`: `Admission`, `FeeRules` and `LimitOrderActionSpace` say
why.
"""

from __future__ import annotations

from event_contracts.trading.records import (
    AGGRESSIVE,
    BUY_NO,
    BUY_YES,
    DOLLAR,
    MID,
    NONE,
    POINT,
    SELL_NO,
    SELL_YES,
    SLOTS,
    WHOLE,
    Record,
)
from foundation.arrays import Mask, Records
from foundation.compiled import inlined

_FEE_UNIT = 100_000_000  # 10⁻¹⁴ USD, of rate · count · price · (1 − price), in a millionth


@inlined
def is_purchase(intent: int) -> bool:
    return intent in (BUY_YES, BUY_NO)


@inlined
def is_yes(intent: int) -> bool:
    return intent in (BUY_YES, SELL_YES)


@inlined
def best_bid(tick: Record, yes: bool) -> int:
    return int(tick.bid if yes else WHOLE - tick.ask)


@inlined
def best_ask(tick: Record, yes: bool) -> int:
    return int(tick.ask if yes else WHOLE - tick.bid)


@inlined
def held_of(market: Record, yes: bool) -> int:
    return int(market.yes if yes else market.no)


@inlined
def fee_of(terms: Record, price: int, count: int, maker: bool) -> int:
    """The rate's fee of a fill, rounded up."""
    rate = terms.maker if maker else terms.taker
    unit = _FEE_UNIT * terms.fee_step
    return int(-(-(rate * count * price * (WHOLE - price)) // unit) * terms.fee_step)


@inlined
def _most_cost(terms: Record, price: int, count: int) -> int:
    """What buying so many contracts can cost at most, fees included."""
    fee = fee_of(terms, price, count, terms.maker > terms.taker)
    return int(price * count * POINT + fee + count * terms.fee_step + terms.balance_step)


@inlined
def is_beyond_limits(
    market: Record, terms: Record, yes: bool, price: int, count: int, resting: int
) -> bool:
    """Whether a position after an order of a side, and resting ones, breaks a limit."""
    held = held_of(market, yes) - held_of(market, not yes)
    position = held + resting + count
    if position <= 0:
        return False
    if position > terms.contracts:
        return True
    value = position * price * POINT
    if value > terms.value:
        return True
    worth = held * price if held > 0 else -held * (WHOLE - price)
    portfolio = market.cash + market.elsewhere + worth * POINT
    return bool(value * DOLLAR > terms.share * portfolio)


@inlined
def _resting(orders: Records, market: Record, intent: int) -> int:
    """Contracts that resting orders of an intent can still fill."""
    total = 0
    for k in range(market.resting):
        if orders[k].intent == intent:
            total += orders[k].remaining
    return total


@inlined
def _free_cash(orders: Records, market: Record, terms: Record) -> int:
    """Cash that resting purchases cannot take."""
    free = market.cash - market.reserved
    for k in range(market.resting):
        if is_purchase(orders[k].intent):
            free -= _most_cost(terms, orders[k].price, orders[k].remaining)
    return int(free)


@inlined
def limit_price(tick: Record, terms: Record, intent: int) -> int:
    """The price of an order of an intent, of its own side; 0 where the quote has none."""
    yes = is_yes(intent)
    buys = is_purchase(intent)
    bid = best_bid(tick, yes)
    ask = best_ask(tick, yes)
    style = terms.styles[intent]
    if style == MID:
        if bid <= 0 or ask >= WHOLE:
            return 0
        step = 2 * terms.tick
        price = (bid + ask) // step if buys else -(-(bid + ask) // step)
        price *= terms.tick
    elif buys == (style == AGGRESSIVE):
        price = ask
    else:
        price = bid
    return price if 0 < price < WHOLE else 0


@inlined
def room_for(
    market: Record, orders: Records, tick: Record, terms: Record, intent: int
) -> tuple[int, int, int]:
    """What orders of an intent, BUY_YES … SELL_NO, meet in front of a tick: `fits` takes it.

    Returns the price, 0 where there is none; cash that a purchase, or contracts that a sale may
    use; and contracts that resting orders may still add to the position.
    """
    price = limit_price(tick, terms, intent)
    if market.resting == SLOTS:
        price = 0
    yes = is_yes(intent)
    if not is_purchase(intent):
        return price, held_of(market, yes) - _resting(orders, market, intent), 0
    opposite = SELL_NO if yes else SELL_YES
    towards = _resting(orders, market, intent) + _resting(orders, market, opposite)
    return price, _free_cash(orders, market, terms) - terms.cash_buffer, towards


@inlined
def fits(
    market: Record, terms: Record, intent: int, count: int, price: int, free: int, towards: int
) -> bool:
    """Whether an order of so many contracts may be sent; price, free, towards: of `room_for`."""
    if price == 0:
        return False
    if not is_purchase(intent):
        return count <= free
    if free < _most_cost(terms, price, count):
        return False
    return not is_beyond_limits(market, terms, is_yes(intent), price, count, towards)


@inlined
def masks(market: Record, orders: Records, tick: Record, terms: Record, allowed: Mask) -> None:
    """Write which of the 25 actions may be sent: HOLD always, the reserved ones never."""
    allowed[:] = False
    allowed[NONE] = True
    for intent in range(BUY_YES, SELL_NO + 1):
        price, free, towards = room_for(market, orders, tick, terms, intent)
        for size in range(5):
            count = terms.sizes[size]
            code = (intent - 1) * 5 + size + 1
            allowed[code] = terms.allowed[size] == 1 and fits(
                market, terms, intent, count, price, free, towards
            )
