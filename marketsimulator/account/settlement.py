"""The settlement kernel: what may fill, what a fill costs, and what it does to the account.

Every fill of every account goes through these functions. `SimulatedBroker` steps them, compiled
loops call them; both keep the same ledger. They see no symbols, clocks or configuration, and change
the book in place. What runs once a fill takes records, not arrays: a record is one pointer, an
array is counted at every call.

A fill never beats its reference price: half-spread, slippage and the rounding to a tick go against
the trader.
"""

from __future__ import annotations

import numpy as np

from execution.orders.lending import short_proceeds_after_trade
from foundation.arrays import Array, Records
from foundation.compiled import compiled, inlined
from marketsimulator.account.book import (
    BILLION,
    BY_COIN_FEE,
    BY_LIQUIDATION,
    CENTS,
    MILLION,
    NO_ORDER,
    TAKER,
    Book,
    Opens,
    Record,
    on_grid,
    rounded_up,
    write_fill,
)
from marketsimulator.account.impact import market_price, note_market_volume
from marketsimulator.account.margin import buying_power, call_is_met, clear_call
from sizing.increments import least_value

_proceeds = inlined(short_proceeds_after_trade)


@inlined
def fillable_quantity(
    account: Record, position: Record, day: Record, quantity: float, price: float, limited: bool
) -> float:
    """The part of an order that volume, the position's side and buying power let through.

    limited: whether its price is its limit.

    quantity is signed and in whole billionths, and so is the answer. An order against a position
    stops at zero and needs no buying power. A coin is never sold short.
    """
    size = abs(quantity)
    step = position.increment
    reduces = position.quantity * quantity < 0
    # The venue turns no position around in one order: it has to be closed first.
    if reduces:
        size = min(size, abs(position.quantity))
    elif position.crypto and quantity < 0:
        return 0.0
    if size > position.room:
        size = _whole_increments(max(position.room, 0.0), step)
    if not reduces:
        # What the fill costs is paid from the same buying power, so a full purchase with all the
        # cash there is never overdraws by its commission. What may be filled at a worse price than
        # the present one, and every short sale, is checked above it, as Alpaca does.
        unit = price * (1.0 + day.commission) + day.commission_per_share
        if quantity < 0 or not limited:
            unit *= day.order_margin
        power = buying_power(account, position, day, quantity < 0)
        if size * unit > power:
            account.refusals += 1
            affordable = _whole_increments(max(power, 0.0) / unit, step)
            size = min(size, affordable) if day.cuts else 0.0
            # The venue would refuse an order for the remainder as too small.
            if size * price < position.least:
                size = 0.0
    return size if quantity > 0 else -size


@inlined
def is_too_small(position: Record, quantity: float, price: float) -> bool:
    """Return whether the venue refuses an order for its value; it also refuses to close dust.

    quantity: signed, as ordered. price: USD, at which it would fill.
    """
    size = abs(quantity)
    closes = position.quantity * quantity < 0.0 and size >= abs(position.quantity)
    least = least_value(closes, position.least, position.dust)
    # A product of floats may fall short of the minimum by rounding.
    return bool(size * price < least * (1.0 - 1e-12))


@inlined
def _whole_increments(size: float, step: float) -> float:
    """The size rounded down to whole increments.

    A quotient that falls short of a whole number by less than a billionth counts as that number.
    """
    return on_grid(np.floor(size / step + 1e-9) * step)


@inlined
def charge_fees(
    account: Record, position: Record, day: Record, quantity: float, price: float, maker: bool
) -> float:
    """USD that a fill costs in fees; the account notes what the day has to sum up.

    A coin purchase pays its venue in coin instead, which is no part of the answer.
    """
    size = abs(quantity)
    notional = size * price
    fee = 0.0
    commission = notional * day.commission + size * day.commission_per_share
    if commission > 0.0:
        fee = rounded_up(commission, MILLION)
    if position.crypto:
        account.coins_traded += notional
        if quantity < 0:
            fee += rounded_up(notional * (account.maker if maker else account.taker), CENTS)
        return fee
    # SEC and TAF are on sales, CAT on both sides. The broker rounds their sum of a day up to the
    # cent, not each fill: `close_session` adds what that takes.
    regulatory = size * day.cat
    if quantity < 0:
        regulatory += notional * day.sec + min(size * day.taf, day.taf_cap)
    if regulatory > 0.0:
        regulatory = rounded_up(regulatory, MILLION)
        account.day_fees += regulatory
    return float(fee + regulatory)


@inlined
def settle_fill(
    account: Record,
    position: Record,
    day: Record,
    tape: Records,
    at: int,
    number: int,
    why: int,
    s: int,
    quantity: float,
    price: float,
    reference: float,
    maker: bool,
) -> None:
    """A fill moves cash, position and all that depends on them, and is written on the tape.

    reference: the price before spread and slippage; a maker's is his own.
    """
    # A symbol that fills before its first close is known is valued at what it fills at: with a
    # mark of NaN the whole account would be worth NaN.
    if np.isnan(position.mark):
        position.mark = reference
    fee = charge_fees(account, position, day, quantity, price, maker)
    account.cash -= quantity * price + fee
    account.fees += fee
    if not position.crypto:
        account.unsettled -= quantity * price
        # A margin call is for shares: those that the owner sells count towards it.
        if position.called > 0.0 and position.quantity * quantity < 0.0:
            position.called = max(position.called - abs(quantity), 0.0)
        # Both look at the position as it was before the fill.
        _note_day_trade(account, position, quantity)
        move_short_proceeds(account, position, quantity, price)
    move_position(account, position, quantity, -quantity * price - fee)
    position.room -= abs(quantity)
    # An order that waits at its price does not push the market.
    if position.impact > 0.0 and not maker:
        note_market_volume(position, quantity)
    paid_away = abs(quantity) * abs(price - reference)
    spread = min(paid_away, abs(quantity) * reference * position.half_spread)
    account.spread += spread
    account.slippage += paid_away - spread
    slippage = paid_away - spread
    write_fill(account, tape, at, number, why, s, quantity, price, fee, spread, slippage)
    if position.crypto and quantity > 0:
        # Alpaca takes the fee of a coin purchase in the coin: of 0.1 BTC bought, 0.09975 arrive.
        # A fill at price 0 keeps positions the sum of the tape.
        rate = account.maker if maker else account.taker
        coins = rounded_up(quantity * rate, BILLION)
        if coins > 0:
            account.coin_fees += coins * price
            move_position(account, position, -coins, 0.0)
            write_fill(account, tape, at, number, BY_COIN_FEE, s, -coins, 0.0, 0.0, 0.0, 0.0)


@inlined
def trade_at_market(
    account: Record,
    position: Record,
    day: Record,
    tape: Records,
    at: int,
    number: int,
    why: int,
    s: int,
    quantity: float,
    reference: float,
    volume: float,
    volatility: float,
) -> float:
    """A market order where the price is `reference`; the signed quantity that filled."""
    price = market_price(position, reference, quantity, volume, volatility)
    # Costs of all the price and more leave nothing to sell for.
    if not price > 0.0:
        return 0.0
    filled = fillable_quantity(account, position, day, quantity, price, TAKER)
    if filled != 0.0:
        # What volume or buying power cut has less impact than the order as it was sent.
        if position.impact > 0.0:
            price = market_price(position, reference, filled, volume, volatility)
        settle_fill(
            account, position, day, tape, at, number, why, s, filled, price, reference, TAKER
        )
    return filled


@inlined
def trade_at_open(
    account: Record,
    position: Record,
    day: Record,
    tape: Records,
    at: int,
    number: int,
    why: int,
    s: int,
    quantity: float,
    opens: Opens,
) -> float:
    """`trade_at_market` at the open of symbol s."""
    price, volume, volatility = opens.price[s], opens.volume[s], opens.volatility[s]
    return trade_at_market(
        account, position, day, tape, at, number, why, s, quantity, price, volume, volatility
    )


@inlined
def mark_positions(account: Record, holding: Records, closes: Array) -> None:
    """Value every position at its last known close; closes [S], NaN where none is new."""
    total = 0.0
    stock = 0.0
    coins = 0.0
    for s in range(len(closes)):
        position = holding[s]
        if not np.isnan(closes[s]):
            position.mark = closes[s]
        price = position.mark
        quantity = position.quantity
        # What is not held is worth nothing also before its first close, where the mark is NaN.
        # Written as a choice between two values it compiles to no branch that is mispredicted.
        value = quantity * price if quantity != 0.0 else 0.0
        total += value
        if position.crypto:
            coins += value
        else:
            stock += abs(value)
    account.equity = account.cash + total
    account.stock = stock
    account.coins = coins


@compiled
def start_bars(book: Book, day: Record, volumes: Array) -> None:
    """Bars start: so much of each may fill, and nothing has been traded in it.

    volumes [S]: NaN where no bar starts.
    """
    for s in range(len(volumes)):
        if not np.isnan(volumes[s]):
            position = book.holding[s]
            # Asked first, because a bar without volume times no bound would be NaN.
            bounded = day.volume_share < np.inf
            position.room = volumes[s] * day.volume_share if bounded else np.inf
            position.bought = 0.0
            position.sold = 0.0


@compiled
def liquidate(book: Book, day: Record, tape: Records, at: int, opens: Opens) -> None:
    """The broker closes what is called, at these opens.

    What has no open stays called. A call ends by what was closed, or once equity covers what is
    left (a deposit, coins that were sold, prices).
    """
    account = book.account[0]
    if account.called == 0:
        return
    if call_is_met(book):
        clear_call(book)
        return
    standing = 0
    for s in range(len(opens.price)):
        position = book.holding[s]
        if position.called > 0.0 and not np.isnan(opens.price[s]):
            quantity = -position.called if position.quantity > 0 else position.called
            why = BY_LIQUIDATION
            trade_at_open(account, position, day, tape, at, NO_ORDER, why, s, quantity, opens)
        # A halted stock, or one whose bar had too little volume, goes on being called.
        if position.called > 0.0:
            standing = 1
    account.called = standing


@inlined
def move_position(account: Record, position: Record, quantity: float, cash: float) -> None:
    """The position changes by a quantity and cash by USD: so do equity and gross exposure.

    Both at the marks; the next `mark_positions` adds them up from the start.
    """
    before = position.quantity
    position.quantity = on_grid(before + quantity)
    account.equity += (position.quantity - before) * position.mark + cash
    if position.crypto:
        account.coins += (position.quantity - before) * position.mark
    else:
        account.stock += (abs(position.quantity) - abs(before)) * position.mark


@inlined
def move_short_proceeds(account: Record, position: Record, quantity: float, price: float) -> None:
    """What shorts were sold for follows a trade of one of them."""
    if position.quantity > 0.0 or (position.quantity == 0.0 and quantity > 0.0):
        return
    before = position.proceeds
    fresh = position.fresh_proceeds
    held = position.quantity
    value = quantity * price
    # Whole millionths, so that the account's sum and that of its positions stay equal.
    position.proceeds = np.rint(_proceeds(before, held, quantity, value) * 1e6) / 1e6
    position.fresh_proceeds = np.rint(_proceeds(fresh, held, quantity, value) * 1e6) / 1e6
    proceeds = account.proceeds + position.proceeds - before
    account.proceeds = np.rint(proceeds * 1e6) / 1e6
    fresh_proceeds = account.fresh_proceeds + position.fresh_proceeds - fresh
    account.fresh_proceeds = np.rint(fresh_proceeds * 1e6) / 1e6


@inlined
def _note_day_trade(account: Record, position: Record, quantity: float) -> None:
    """What was opened today and is closed today is a day trade and gives its buying power back.

    An overnight position that is closed gives none: FINRA 4210 grants day-trading buying power
    once a day, from the last close.
    """
    if position.quantity * quantity >= 0.0:
        position.opened += quantity
        account.day_power -= abs(quantity) * position.mark
    else:
        opened = position.opened
        closed = min(abs(quantity), abs(opened)) if opened * quantity < 0.0 else 0.0
        position.opened = opened + (closed if quantity > 0 else -closed)
        account.day_power += closed * position.mark
        account.trades_today += 1 if closed > 0.0 else 0
