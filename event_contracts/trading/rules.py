"""Order rules shared by compiled and Python code: prices, fees, cash, inventory and limits.

Money is in millionths of a USD and prices in ten-thousandths, as whole numbers. Compiled code calls
these functions for `event_contracts.trading.records`, in whole contracts. `PreTradeCheck`,
`FeeRules` and `LimitOrderActionSpace` call them with Python's unbounded numbers, and with fractions
if a market trades parts of contracts.
"""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from event_contracts.trading.records import (
    AGGRESSIVE,
    MAX_RECORD_AMOUNT,
    MICROS_PER_DOLLAR,
    MICROS_PER_PRICE_UNIT,
    MID,
    PRICE_UNITS_PER_DOLLAR,
)

# Version of the order rules; a policy needs the version of its training. 1: new orders are matched
# with the next tick. 2: they trade with the present book; sales cancel own purchases.
ORDER_RULES_VERSION = 2

Number = int | Fraction
_FEE_UNITS_PER_MICRO = (
    100_000_000  # 10⁻¹⁴ USD, units of rate · count · price · (1 − price), in a millionth
)

# Codes of the limit that an order violates.
(NO_LIMIT, CONTRACTS, VALUE, SHARE, EVENT_LOSS, EVENT_SHARE, ACCOUNT_LOSS, ACCOUNT_SHARE) = range(8)


class ScaledFeeRules(NamedTuple):
    """Fee rules for compiled code: rates in millionths, steps in millionths of a USD."""

    taker: Number
    maker: Number
    fee_step: Number
    balance_step: Number


class ScaledPositionLimits(NamedTuple):
    """Position limits for compiled code.

    Amounts are in contracts or in millionths of a USD, shares in millionths of the portfolio.

    is_value_limit_sufficient: 1 if the loss limits can bind only if other markets may lose too.
        Without such markets compiled code then skips the loss limits.
    """

    max_contracts: Number
    max_value_micros: Number
    max_share_millionths: Number
    max_event_loss_micros: Number
    max_event_share_millionths: Number
    max_account_loss_micros: Number
    max_account_share_millionths: Number
    is_value_limit_sufficient: int


def build_scaled_limits(
    contracts: Number,
    value: Number,
    share: Number,
    event_loss: Number,
    event_share: Number,
    account_loss: Number,
    account_share: Number,
) -> ScaledPositionLimits:
    """Return position limits for compiled code, from values in its units."""
    decides = value <= min(event_loss, account_loss) and share <= min(event_share, account_share)
    losses = event_loss, event_share, account_loss, account_share
    return ScaledPositionLimits(contracts, value, share, *losses, int(decides))


class ScaledOrderRules(NamedTuple):
    """Order rules for compiled code.

    order_life_ticks: number of steps after which a resting order is cancelled.
    price_step_units: price step, ten-thousandths of a USD.
    size_limits: maximum position after a purchase of each of the five sizes, contracts; -1 if the
        size is masked.
    price_style_codes: price style of each intent.
    """

    fees: ScaledFeeRules
    limits: ScaledPositionLimits
    cash_buffer_micros: int
    order_life_ticks: int
    price_step_units: int
    position_sizes: tuple[int, ...]
    size_limits: tuple[int, ...]
    price_style_codes: tuple[int, ...]


def scale_amount(amount: Decimal, unit: int = 1) -> Number:
    """Return an amount times `unit`, exactly: an integer if whole, else a fraction."""
    number = amount * unit
    whole = int(number)
    return whole if whole == number else Fraction(amount) * unit


def micros_to_usd(millionths: Number) -> Decimal:
    return Decimal(millionths.numerator) / millionths.denominator / MICROS_PER_DOLLAR


def compute_fee(fees: ScaledFeeRules, price: Number, count: Number, is_maker: bool) -> Number:
    """Return the fee of a fill in millionths of a USD, rounded up to the fee step."""
    rate = fees.maker if is_maker else fees.taker
    unit = _FEE_UNITS_PER_MICRO * fees.fee_step
    return -(-(rate * count * price * (PRICE_UNITS_PER_DOLLAR - price)) // unit) * fees.fee_step


def max_purchase_cost(fees: ScaledFeeRules, price: Number, count: Number) -> Number:
    """Return the maximum cost of buying at this price or below, with fees, millionths of a USD."""
    fee = compute_fee(fees, price, count, fees.maker > fees.taker)
    return price * count * MICROS_PER_PRICE_UNIT + fee + count * fees.fee_step + fees.balance_step


def position_after_order(
    price: Number, count: Number, held: Number, resting: Number, other_value: Number
) -> tuple[Number, Number, Number]:
    """Return the position after an order, its value, and the value of the portfolio.

    Values are in millionths of a USD. Resting orders in the same direction count as filled.

    price: price of the side that the order goes towards, ten-thousandths of a USD.
    held: contracts held, positive for that side, negative for the other side.
    resting: contracts of resting orders in the same direction.
    other_value: cash plus the value of positions in other markets.
    """
    position = held + resting + count
    worth = held * price if held > 0 else -held * (PRICE_UNITS_PER_DOLLAR - price)
    return (
        position,
        position * price * MICROS_PER_PRICE_UNIT,
        other_value + worth * MICROS_PER_PRICE_UNIT,
    )


def find_violated_limit(
    limits: ScaledPositionLimits,
    position: Number,
    value: Number,
    portfolio_value: Number,
    event_loss: Number,
    account_loss: Number,
) -> int:
    """Return the code of the first limit that an order violates, or `NO_LIMIT`.

    An order after which the position is flat or on the other side violates no limit.

    position, value: position after the order, and its value.
    portfolio_value: value of the portfolio.
    event_loss, account_loss: maximum loss of the event, and of all markets, over the outcomes in
        which this order loses. No order raises the loss of an outcome in which it wins.
    """
    if position <= 0:
        return NO_LIMIT
    if position > limits.max_contracts:
        return CONTRACTS
    if value > limits.max_value_micros:
        return VALUE
    if value * MICROS_PER_DOLLAR > limits.max_share_millionths * portfolio_value:
        return SHARE
    if limits.is_value_limit_sufficient == 1 and event_loss <= value and account_loss <= value:
        return NO_LIMIT
    if event_loss > limits.max_event_loss_micros:
        return EVENT_LOSS
    if (
        limits.max_event_share_millionths < MICROS_PER_DOLLAR
        and event_loss * MICROS_PER_DOLLAR > limits.max_event_share_millionths * portfolio_value
    ):
        return EVENT_SHARE
    if account_loss > limits.max_account_loss_micros:
        return ACCOUNT_LOSS
    if (
        limits.max_account_share_millionths < MICROS_PER_DOLLAR
        and account_loss * MICROS_PER_DOLLAR > limits.max_account_share_millionths * portfolio_value
    ):
        return ACCOUNT_SHARE
    return NO_LIMIT


def limit_price(bid: Number, ask: Number, tick: Number, buys: bool, style: int) -> Number:
    """Return the limit price of an order by its price style; 0 if the quote lacks that price.

    bid, ask, tick: quote and price step of the order's own side, ten-thousandths of a USD.
    """
    if style == MID:
        if bid <= 0 or ask >= PRICE_UNITS_PER_DOLLAR:
            return 0
        steps = (bid + ask) // (2 * tick) if buys else -(-(bid + ask) // (2 * tick))
        price = steps * tick
    else:
        price = ask if buys == (style == AGGRESSIVE) else bid
    return price if 0 < price < PRICE_UNITS_PER_DOLLAR else 0


def is_immediate_order(buys: bool, style: int) -> bool:
    """Return whether an order is immediate-or-cancel: a sale at the other side's price.

    The venue caps such a sale at the position (`reduce_only`), but not a resting sale.
    """
    return not buys and style == AGGRESSIVE


def max_sale_count(held: Number, sales: Number, purchases: Number, immediate: bool) -> Number:
    """Return the maximum contracts of a sale.

    held: contracts of the side.
    sales: contracts of resting sales of the side.
    purchases: contracts of resting purchases of the other side, which reduce the position too.
    immediate: true for an immediate sale, for which `purchases` do not count, because the venue
        caps such a sale at the position.
    """
    return held - sales if immediate else held - sales - purchases


def max_purchase_count(held: Number, sales: Number, purchases: Number) -> Number:
    """Return the maximum contracts of a purchase while sales of the other side rest.

    All orders that reduce a position must together not exceed it. Otherwise the venue would fill
    the rest of a resting sale as a purchase of the opposite side. Without resting sales there is no
    limit.

    held: contracts of the other side.
    sales: contracts of the other side's resting sales.
    purchases: contracts of resting purchases of the side that is bought.
    """
    return held - sales - purchases if sales > 0 else MAX_RECORD_AMOUNT
