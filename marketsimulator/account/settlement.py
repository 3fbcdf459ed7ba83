"""Settlement: the quantity of an order that can fill, its costs, and the account after a fill.

All simulated fills are settled by these functions. `SimulatedBroker` calls them step by step and
compiled loops call them directly, with the same results. The functions use no symbol names, clocks
or configuration, and update the book in place. Functions called once per fill take records instead
of arrays because a record is passed as one pointer, while an array is reference-counted at every
call.

A fill price is never better than its reference price: half-spread, slippage and the rounding to a
tick are costs.
"""

from __future__ import annotations

import numpy as np

from execution.orders.lending import short_proceeds_after_trade
from foundation.arrays import Array, StructuredArray
from foundation.compiled import compiled, jit_inline
from marketsimulator.account.book import (
    BY_CRYPTO_FEE,
    BY_LIQUIDATION,
    CENTS_PER_USD,
    FEE_STEPS_PER_USD,
    NO_ORDER,
    QUANTITY_STEPS_PER_UNIT,
    TAKER,
    Book,
    NumpyRecord,
    ReferencePrices,
    append_fill,
    round_quantity,
    round_up_to_step,
)
from marketsimulator.account.impact import add_traded_quantity, market_order_price
from marketsimulator.account.margin import buying_power, clear_margin_call, is_margin_call_met
from sizing.increments import required_order_value

_proceeds = jit_inline(short_proceeds_after_trade)


@jit_inline
def fillable_quantity(
    account: NumpyRecord,
    position: NumpyRecord,
    day: NumpyRecord,
    quantity: float,
    price: float,
    is_limit_price: bool,
) -> float:
    """Return the quantity of an order that volume, position and buying power allow to fill.

    Argument and result are signed, in whole billionths. An order that reduces a position fills at
    most the position and needs no buying power. Crypto is never sold short.

    is_limit_price: true if `price` is the limit of the order, so that the fill cannot be worse.
    """
    size = abs(quantity)
    step = position.increment
    reduces = position.quantity * quantity < 0
    # The venue does not reverse a position with one order: it has to be closed first.
    if reduces:
        size = min(size, abs(position.quantity))
    elif position.crypto and quantity < 0:
        return 0.0
    if size > position.fillable:
        size = _round_down_to_increment(max(position.fillable, 0.0), step)
    if not reduces:
        # Fill costs are paid from the same buying power, so that a purchase with all cash is not
        # overdrawn by its commission. As at Alpaca, short sales and orders that may fill at a worse
        # price are checked above the present price.
        unit = price * (1.0 + day.commission) + day.commission_per_share
        if quantity < 0 or not is_limit_price:
            unit *= day.order_price_buffer
        power = buying_power(account, position, day, quantity < 0)
        if size * unit > power:
            account.refusals += 1
            affordable = _round_down_to_increment(max(power, 0.0) / unit, step)
            size = min(size, affordable) if day.cuts_to_power else 0.0
            # The venue would refuse an order for the remainder as too small.
            if size * price < position.min_order_value:
                size = 0.0
    return size if quantity > 0 else -size


@jit_inline
def is_too_small(position: NumpyRecord, quantity: float, price: float) -> bool:
    """Return whether an order's value is below the venue's minimum order value.

    Orders that close a position have a lower minimum, `position.dust`.

    quantity: signed order quantity.
    price: expected fill price, USD.
    """
    size = abs(quantity)
    closes = position.quantity * quantity < 0.0 and size >= abs(position.quantity)
    min_order_value = required_order_value(closes, position.min_order_value, position.dust)
    # A product of floats may fall short of the minimum by rounding.
    return bool(size * price < min_order_value * (1.0 - 1e-12))


@jit_inline
def _round_down_to_increment(size: float, step: float) -> float:
    """Round a positive quantity down to a multiple of the lot size `step`.

    If size / step is less than a billionth short of a whole number, that number is used.
    """
    return round_quantity(np.floor(size / step + 1e-9) * step)


@jit_inline
def charge_fees(
    account: NumpyRecord,
    position: NumpyRecord,
    day: NumpyRecord,
    quantity: float,
    price: float,
    is_maker: bool,
) -> float:
    """Return the fees of a fill, USD, and add them to the account's sums of the day.

    The fee of a crypto purchase is charged in crypto and is not included.
    """
    size = abs(quantity)
    notional = size * price
    fee = 0.0
    commission = notional * day.commission + size * day.commission_per_share
    if commission > 0.0:
        fee = round_up_to_step(commission, FEE_STEPS_PER_USD)
    if position.crypto:
        account.crypto_traded += notional
        if quantity < 0:
            fee += round_up_to_step(
                notional * (account.maker if is_maker else account.taker), CENTS_PER_USD
            )
        return fee
    # SEC and TAF apply to sales, CAT to both sides. The broker rounds their daily sum up to the
    # cent, not each fill: `close_session` charges the rounding.
    regulatory = size * day.cat
    if quantity < 0:
        regulatory += notional * day.sec + min(size * day.taf, day.taf_cap)
    if regulatory > 0.0:
        regulatory = round_up_to_step(regulatory, FEE_STEPS_PER_USD)
        account.day_fees += regulatory
    return float(fee + regulatory)


@jit_inline
def settle_fill(
    account: NumpyRecord,
    position: NumpyRecord,
    day: NumpyRecord,
    account_log: StructuredArray,
    at: int,
    order_number: int,
    cause: int,
    symbol_index: int,
    quantity: float,
    price: float,
    reference_price: float,
    is_maker: bool,
) -> None:
    """Apply a fill to cash, position and all amounts that depend on them; append it to the log.

    reference_price: price before spread and slippage; for a maker the limit price.
    """
    # A symbol without a known close is valued at its fill price: with a mark of NaN the whole
    # account would be worth NaN.
    if np.isnan(position.mark):
        position.mark = reference_price
    fee = charge_fees(account, position, day, quantity, price, is_maker)
    account.cash -= quantity * price + fee
    account.fees += fee
    if not position.crypto:
        account.unsettled -= quantity * price
        # A margin call is for shares: shares that the owner sells count towards it.
        if position.called > 0.0 and position.quantity * quantity < 0.0:
            position.called = max(position.called - abs(quantity), 0.0)
        # The proceeds depend on the position before the fill.
        update_short_proceeds(account, position, quantity, price)
    change_position(account, position, quantity, -quantity * price - fee)
    position.fillable -= abs(quantity)
    # A maker's order does not move the market.
    if position.impact > 0.0 and not is_maker:
        add_traded_quantity(position, quantity)
    paid_away = abs(quantity) * abs(price - reference_price)
    spread = min(paid_away, abs(quantity) * reference_price * position.half_spread)
    account.spread += spread
    account.slippage += paid_away - spread
    slippage = paid_away - spread
    append_fill(
        account,
        account_log,
        at,
        order_number,
        cause,
        symbol_index,
        quantity,
        price,
        fee,
        spread,
        slippage,
    )
    if position.crypto and quantity > 0:
        # Alpaca takes the fee of a crypto purchase in crypto: of 0.1 BTC bought, 0.09975 arrive. A
        # fill at price 0 keeps each position equal to the sum of its log entries.
        rate = account.maker if is_maker else account.taker
        crypto = round_up_to_step(quantity * rate, QUANTITY_STEPS_PER_UNIT)
        if crypto > 0:
            account.crypto_fees += crypto * price
            change_position(account, position, -crypto, 0.0)
            append_fill(
                account,
                account_log,
                at,
                order_number,
                BY_CRYPTO_FEE,
                symbol_index,
                -crypto,
                0.0,
                0.0,
                0.0,
                0.0,
            )


@jit_inline
def trade_at_market(
    account: NumpyRecord,
    position: NumpyRecord,
    day: NumpyRecord,
    account_log: StructuredArray,
    at: int,
    order_number: int,
    cause: int,
    symbol_index: int,
    quantity: float,
    reference_price: float,
    volume: float,
    volatility: float,
) -> float:
    """Fill a market order at the reference price worsened by costs; return the filled quantity.

    The result is signed. It may be less than `quantity` for lack of volume or buying power.
    """
    price = market_order_price(position, reference_price, quantity, volume, volatility)
    # Costs of at least the whole price leave no price to sell at.
    if not price > 0.0:
        return 0.0
    filled = fillable_quantity(account, position, day, quantity, price, TAKER)
    if filled != 0.0:
        # A quantity cut by volume or buying power has less impact than the order as sent.
        if position.impact > 0.0:
            price = market_order_price(position, reference_price, filled, volume, volatility)
        settle_fill(
            account,
            position,
            day,
            account_log,
            at,
            order_number,
            cause,
            symbol_index,
            filled,
            price,
            reference_price,
            TAKER,
        )
    return filled


@jit_inline
def trade_at_open(
    account: NumpyRecord,
    position: NumpyRecord,
    day: NumpyRecord,
    account_log: StructuredArray,
    at: int,
    order_number: int,
    cause: int,
    symbol_index: int,
    quantity: float,
    opens: ReferencePrices,
) -> float:
    """Fill a market order of symbol number `symbol_index` at its open worsened by costs.

    Returns the signed filled quantity.
    """
    price, volume, volatility = (
        opens.prices[symbol_index],
        opens.volumes[symbol_index],
        opens.volatilities[symbol_index],
    )
    return trade_at_market(
        account,
        position,
        day,
        account_log,
        at,
        order_number,
        cause,
        symbol_index,
        quantity,
        price,
        volume,
        volatility,
    )


@jit_inline
def mark_positions(account: NumpyRecord, holdings: StructuredArray, closes: Array) -> None:
    """Mark every position at its last known close; update equity and exposure.

    closes: [S] USD; NaN for symbols without a new close.
    """
    total = 0.0
    stock = 0.0
    crypto = 0.0
    for s in range(len(closes)):
        position = holdings[s]
        if not np.isnan(closes[s]):
            position.mark = closes[s]
        price = position.mark
        quantity = position.quantity
        # A symbol without a position is worth 0 also before its first close, when the mark is NaN.
        # A choice between two values compiles to no branch that could be mispredicted.
        value = quantity * price if quantity != 0.0 else 0.0
        total += value
        if position.crypto:
            crypto += value
        else:
            stock += abs(value)
    account.equity = account.cash + total
    account.stock = stock
    account.crypto = crypto


@compiled
def reset_bar_volume(book: Book, day: NumpyRecord, volumes: Array) -> None:
    """Start a new bar: set the quantity that orders may fill, and reset the quantity traded.

    volumes: [S] volume of each starting bar; NaN for symbols without one, which are unchanged.
    """
    for s in range(len(volumes)):
        if not np.isnan(volumes[s]):
            position = book.holdings[s]
            # Tested first, because a bar without volume times an infinite bound would be NaN.
            bounded = day.volume_share < np.inf
            position.fillable = volumes[s] * day.volume_share if bounded else np.inf
            position.bought = 0.0
            position.sold = 0.0


@compiled
def liquidate_called_positions(
    book: Book, day: NumpyRecord, account_log: StructuredArray, at: int, opens: ReferencePrices
) -> None:
    """Close the quantities under a margin call at these opens.

    Symbols without an open stay under the call. The call ends once all quantities under it are
    closed, or once equity meets the requirement (after a deposit, crypto sales or price moves).
    """
    account = book.account[0]
    if account.called == 0:
        return
    if is_margin_call_met(book):
        clear_margin_call(book)
        return
    standing = 0
    for s in range(len(opens.prices)):
        position = book.holdings[s]
        if position.called > 0.0 and not np.isnan(opens.prices[s]):
            quantity = -position.called if position.quantity > 0 else position.called
            cause = BY_LIQUIDATION
            trade_at_open(
                account, position, day, account_log, at, NO_ORDER, cause, s, quantity, opens
            )
        # A halted stock, or one whose bar had too little volume, stays called.
        if position.called > 0.0:
            standing = 1
    account.called = standing


@jit_inline
def change_position(
    account: NumpyRecord, position: NumpyRecord, quantity: float, cash_change: float
) -> None:
    """Add a quantity to a position; add its marked value and `cash_change` in USD to equity.

    Gross exposure changes by the value at the mark. The next `mark_positions` recomputes equity and
    exposure.
    """
    before = position.quantity
    position.quantity = round_quantity(before + quantity)
    account.equity += (position.quantity - before) * position.mark + cash_change
    if position.crypto:
        account.crypto += (position.quantity - before) * position.mark
    else:
        account.stock += (abs(position.quantity) - abs(before)) * position.mark


@jit_inline
def update_short_proceeds(
    account: NumpyRecord, position: NumpyRecord, quantity: float, price: float
) -> None:
    """Update the short-sale proceeds of a symbol, and the account's total, for a trade.

    quantity: signed quantity of the trade.
    price: price of the trade, USD.
    """
    if position.quantity > 0.0 or (position.quantity == 0.0 and quantity > 0.0):
        return
    before = position.short_proceeds
    fresh = position.unsettled_short_proceeds
    held = position.quantity
    value = quantity * price
    # Whole millionths keep the account's sum equal to that of its positions.
    position.short_proceeds = np.rint(_proceeds(before, held, quantity, value) * 1e6) / 1e6
    position.unsettled_short_proceeds = np.rint(_proceeds(fresh, held, quantity, value) * 1e6) / 1e6
    short_proceeds = account.short_proceeds + position.short_proceeds - before
    account.short_proceeds = np.rint(short_proceeds * 1e6) / 1e6
    unsettled_short_proceeds = (
        account.unsettled_short_proceeds + position.unsettled_short_proceeds - fresh
    )
    account.unsettled_short_proceeds = np.rint(unsettled_short_proceeds * 1e6) / 1e6
