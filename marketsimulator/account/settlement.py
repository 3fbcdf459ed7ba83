"""The settlement kernel: fills, fees, interest, borrow, corporate actions and margin calls, one bar
at a time.

Everything that moves an account goes through these functions. `SimulatedBroker` steps them,
compiled loops call them; both keep the same ledger. They know no symbols, clocks or configuration,
and change the book they are given in place. What runs once a fill takes records, not arrays: a
record is one pointer, an array is counted at every call.

A fill never beats its reference price: half-spread and slippage and the rounding to a tick go
against the trader.
"""

from __future__ import annotations

import numpy as np

from execution.lending import DAYS_A_YEAR
from foundation.arrays import Array, Records
from foundation.compiled import compiled, inlined
from marketsimulator.account.book import (
    BY_COIN_FEE,
    BY_LIQUIDATION,
    BY_SPLIT,
    CLOSING,
    DAY_ORDER,
    EXPIRED,
    NOBODY,
    OPENING,
    QUANTUM,
    WORKING,
    Book,
    Record,
    on_grid,
)
from marketsimulator.account.impact import away, note_taken
from marketsimulator.account.margin import (
    SHORT_BUFFER,
    buying_power,
    call_is_met,
    clear_call,
    close_margin,
    open_margin,
)


@inlined
def allowed(account: Record, held: Record, day: Record, wanted: float, price: float) -> float:
    """The part of an order that this bar's volume, the position's side and buying power let
    through.

    wanted is whole billionths, and so is the answer. An order against a position stops at zero, and
    needs no buying power. A coin is never sold short.
    """
    q = abs(wanted)
    step = held.increment
    reduces = held.quantity * wanted < 0
    if reduces:
        q = min(q, abs(held.quantity))
    elif held.crypto and wanted < 0:
        return 0.0
    if q > held.room:
        q = on_grid(np.floor(max(held.room, 0.0) / step + 1e-9) * step)
    if not reduces:
        unit = price * (1.0 + day.commission) + day.commission_per_share
        if wanted < 0:
            unit *= SHORT_BUFFER
        power = buying_power(account, held, day, wanted < 0)
        if q * unit > power:
            account.refusals += 1
            q = (
                min(q, on_grid(np.floor(max(power, 0.0) / unit / step + 1e-9) * step))
                if day.cuts
                else 0.0
            )
    return q if wanted > 0 else -q


@inlined
def charge(
    account: Record, held: Record, day: Record, q: float, price: float, maker: bool
) -> float:
    """USD that a fill costs in fees; a coin purchase pays in coin instead.

    Notes what the day has to sum up.
    """
    size = abs(q)
    notional = size * price
    fee = 0.0
    commission = notional * day.commission + size * day.commission_per_share
    if commission > 0.0:
        fee = np.ceil(commission * 1e6 - 1e-6) / 1e6
    if held.crypto:
        account.coins_traded += notional
        if q < 0:
            fee += (
                np.ceil(notional * (account.maker if maker else account.taker) * 100.0 - 1e-6)
                / 100.0
            )
        return fee
    regulatory = size * day.cat
    if q < 0:
        regulatory += notional * day.sec + min(size * day.taf, day.taf_cap)
    if regulatory > 0.0:
        regulatory = np.ceil(regulatory * 1e6 - 1e-6) / 1e6
        account.day_fees += regulatory
    return float(fee + regulatory)


@inlined
def settle(
    account: Record,
    held: Record,
    day: Record,
    tape: Records,
    at: int,
    number: int,
    why: int,
    s: int,
    q: float,
    price: float,
    reference: float,
    maker: bool,
) -> None:
    """A fill of q at price moves cash, position and what depends on them, and is written on the
    tape.

    reference: the price before spread and slippage; a maker's is his own.
    """
    if np.isnan(held.mark):
        held.mark = reference
    fee = charge(account, held, day, q, price, maker)
    account.cash -= q * price + fee
    account.fees += fee
    if not held.crypto:
        account.unsettled -= q * price
        if held.called > 0.0 and held.quantity * q < 0.0:
            held.called = max(held.called - abs(q), 0.0)
        _note_day_trade(account, held, q)
        _move_short_proceeds(account, held, q, price)
    _move_position(account, held, q, -q * price - fee)
    held.room -= abs(q)
    if held.impact > 0.0 and not maker:
        note_taken(held, q)
    lost = abs(q) * abs(price - reference)
    spread = min(lost, abs(q) * reference * held.half_spread)
    account.spread += spread
    account.slippage += lost - spread
    _write(account, tape, at, number, why, s, q, price, fee)
    if held.crypto and q > 0:
        coins = np.ceil(q * (account.maker if maker else account.taker) * QUANTUM - 1e-6) / QUANTUM
        if coins > 0:
            account.coin_fees += coins * price
            _move_position(account, held, -coins, 0.0)
            _write(account, tape, at, number, BY_COIN_FEE, s, -coins, 0.0, 0.0)


@inlined
def trade(
    account: Record,
    held: Record,
    day: Record,
    tape: Records,
    at: int,
    number: int,
    why: int,
    s: int,
    wanted: float,
    reference: float,
    volume: float,
    volatility: float,
) -> float:
    """A market order where the price is `reference`; the signed quantity that filled."""
    price = away(held, reference, wanted, volume, volatility)
    if not price > 0.0:
        return 0.0
    q = allowed(account, held, day, wanted, price)
    if q != 0.0:
        if held.impact > 0.0:
            price = away(held, reference, q, volume, volatility)
        settle(account, held, day, tape, at, number, why, s, q, price, reference, False)
    return q


@inlined
def mark(account: Record, holding: Records, closes: Array) -> None:
    """Value every position at its last known close; closes [S], NaN where none is new."""
    value = 0.0
    stock = 0.0
    coins = 0.0
    for s in range(len(closes)):
        held = holding[s]
        if not np.isnan(closes[s]):
            held.mark = closes[s]
        price = held.mark
        quantity = held.quantity
        worth = (
            quantity * price if quantity != 0.0 else 0.0
        )  # a choice between two values is no branch to mispredict
        value += worth
        if held.crypto:
            coins += worth
        else:
            stock += abs(worth)
    account.equity = account.cash + value
    account.stock = stock
    account.coins = coins


@compiled
def start_bar(book: Book, day: Record, volumes: Array) -> None:
    """Bars start, [S] with NaN where none does: so much of each may fill, and nothing has been
    traded in it.
    """
    for s in range(len(volumes)):
        if not np.isnan(volumes[s]):
            held = book.holding[s]
            held.room = volumes[s] * day.volume_share if day.volume_share < np.inf else np.inf
            held.bought = 0.0
            held.sold = 0.0


@compiled
def liquidate(
    book: Book, day: Record, tape: Records, at: int, opens: Array, volumes: Array, volatility: Array
) -> None:
    """The broker closes what is called, at these opens; NaN where a stock has none, which stays
    called.

    A call ends by what was closed, or once equity covers what is left (a deposit, coins that were
    sold, prices).
    """
    account = book.account[0]
    if account.called == 0:
        return
    if call_is_met(book):
        clear_call(book)
        return
    standing = 0
    for s in range(len(opens)):
        held = book.holding[s]
        if held.called > 0.0 and not np.isnan(opens[s]):
            wanted = -held.called if held.quantity > 0 else held.called
            trade(
                account,
                held,
                day,
                tape,
                at,
                NOBODY,
                BY_LIQUIDATION,
                s,
                wanted,
                opens[s],
                volumes[s],
                volatility[s],
            )
        if held.called > 0.0:
            standing = 1
    account.called = standing


@compiled
def open_session(book: Book, day: Record) -> None:
    """Yesterday's stock trades settle; margin starts a new day."""
    account = book.account[0]
    account.unsettled = 0.0
    if account.fresh_proceeds != 0.0:
        account.fresh_proceeds = 0.0
        for s in range(len(book.holding)):
            book.holding[s].fresh_proceeds = 0.0
    open_margin(book, day)


@compiled
def close_session(book: Book, day: Record, nights: int) -> None:
    """Carry the book over `nights` from a session that has closed: interest, borrow, the day's
    fees; then margin.

    The debit is what open shorts were sold for less cash, if above zero (a short sale's proceeds do
    not reduce it); it and a short's value pay their yearly rate / 360 a night, idle cash earns its
    own. Regulatory fees, SEC, TAF and CAT together, are rounded up to the cent. Orders for the day
    expire.
    """
    account = book.account[0]
    cash = account.cash
    if not day.credits_shorts:
        cash -= account.proceeds
    if day.settles_late:
        cash -= account.unsettled - (0.0 if day.credits_shorts else account.fresh_proceeds)
    share = nights / DAYS_A_YEAR
    interest = 0.0
    idle = 0.0
    borrow = 0.0
    if cash < 0.0:
        interest = np.ceil(-cash * day.interest_rate * share * 100.0 - 1e-6) / 100.0
    else:
        idle = np.floor(cash * day.cash_rate * share * 100.0 + 1e-6) / 100.0
    for s in range(len(book.holding)):
        held = book.holding[s]
        if held.quantity < 0.0 and held.borrow_rate > 0.0:
            borrow += (
                np.ceil(-held.quantity * held.mark * held.borrow_rate * share * 100.0 - 1e-6)
                / 100.0
            )
    rounding = np.ceil(account.day_fees * 100.0 - 1e-6) / 100.0 - account.day_fees
    account.day_fees = 0.0
    account.interest += interest
    account.borrow += borrow
    account.rounding += rounding
    account.other += idle - borrow - rounding
    account.cash += idle - interest - borrow - rounding
    account.equity += idle - interest - borrow - rounding
    for k in range(len(book.orders)):
        order = book.orders[k]
        if order.state <= WORKING and order.force in (DAY_ORDER, OPENING, CLOSING):
            order.state = EXPIRED
    close_margin(book, day)


@compiled
def coin_tier(book: Book, date: int) -> None:
    """A New York day begins: the coin venue's rates follow from the USD traded in the 30 days
    before.

    Yesterday's USD are kept under yesterday's date; what is older than 30 days is forgotten.
    """
    account = book.account[0]
    volumes = book.coin_volume
    volumes[(date - 1) % len(volumes)] = account.coins_traded
    volumes[date % len(volumes)] = 0.0
    account.coins_traded = 0.0
    traded = volumes.sum()
    for k in range(len(book.tiers)):
        if traded >= book.tiers[k, 0]:
            account.maker = book.tiers[k, 1]
            account.taker = book.tiers[k, 2]


@compiled
def corporate_action(
    book: Book, tape: Records, at: int, s: int, ratio: float, dividend: float
) -> None:
    """A session opens ex: a dividend in USD a share, then a split into `ratio` shares for one.

    A short pays the dividend. Orders that wait below the market (bids, sell stops) are lowered by
    it. A split changes positions (a fill at price 0) and orders, divides prices; what is no whole
    increment is paid in cash at the last close.
    """
    account = book.account[0]
    held = book.holding[s]
    paid = np.rint(held.quantity * dividend * 100.0) / 100.0
    account.dividends += paid
    step = held.increment
    if ratio != 1.0:
        before = held.quantity
        exact = before * ratio
        held.quantity = on_grid(np.trunc(exact / step + (1e-9 if before > 0 else -1e-9)) * step)
        held.mark /= ratio
        paid += np.rint((exact - held.quantity) * held.mark * 100.0) / 100.0
        if before != 0.0:
            _write(account, tape, at, NOBODY, BY_SPLIT, s, held.quantity - before, 0.0, 0.0)
        held.called = min(
            on_grid(np.ceil(held.called * ratio / step - 1e-9) * step), abs(held.quantity)
        )
        if held.quantity == 0.0:
            account.proceeds -= held.proceeds
            account.fresh_proceeds -= held.fresh_proceeds
            held.proceeds = 0.0
            held.fresh_proceeds = 0.0
    account.cash += paid
    account.other += paid
    for k in range(len(book.orders)):
        order = book.orders[k]
        if order.symbol == s and order.state <= WORKING:
            buys = order.quantity > 0
            order.limit = (order.limit - (dividend if buys else 0.0)) / ratio
            order.stop = (order.stop - (0.0 if buys else dividend)) / ratio
            order.trail /= ratio
            order.quantity = on_grid(
                np.trunc(order.quantity * ratio / step + (1e-9 if buys else -1e-9)) * step
            )


@inlined
def _move_position(account: Record, held: Record, q: float, cash: float) -> None:
    """The position changes by q and cash by `cash`: so do equity and gross exposure, at the
    marks.
    """
    before = held.quantity
    held.quantity = on_grid(before + q)
    account.equity += (held.quantity - before) * held.mark + cash
    if held.crypto:
        account.coins += (held.quantity - before) * held.mark
    else:
        account.stock += (abs(held.quantity) - abs(before)) * held.mark


@inlined
def _move_short_proceeds(account: Record, held: Record, q: float, price: float) -> None:
    """What a short was sold for grows with sales and shrinks in proportion with purchases;
    rounded to a millionth.
    """
    if held.quantity > 0.0 or (held.quantity == 0.0 and q > 0.0):
        return
    before = held.proceeds
    fresh = held.fresh_proceeds
    if q < 0.0:
        held.proceeds = np.rint((before - q * price) * 1e6) / 1e6
        held.fresh_proceeds = np.rint((fresh - q * price) * 1e6) / 1e6
    else:
        left = 0.0 if q >= -held.quantity else 1.0 + q / held.quantity
        held.proceeds = np.rint(before * left * 1e6) / 1e6
        held.fresh_proceeds = np.rint(fresh * left * 1e6) / 1e6
    account.proceeds = np.rint((account.proceeds + held.proceeds - before) * 1e6) / 1e6
    account.fresh_proceeds = (
        np.rint((account.fresh_proceeds + held.fresh_proceeds - fresh) * 1e6) / 1e6
    )


@inlined
def _note_day_trade(account: Record, held: Record, q: float) -> None:
    """What was opened today and is closed today is a day trade and gives its buying power back."""
    if held.quantity * q >= 0.0:
        held.opened += q
        account.day_power -= abs(q) * held.mark
    else:
        opened = held.opened
        closed = min(abs(q), abs(opened)) if opened * q < 0.0 else 0.0
        held.opened = opened + (closed if q > 0 else -closed)
        account.day_power += closed * held.mark
        account.trades_today += 1 if closed > 0.0 else 0


@inlined
def _write(
    account: Record,
    tape: Records,
    at: int,
    number: int,
    why: int,
    s: int,
    q: float,
    price: float,
    fee: float,
) -> None:
    fill = tape[account.fills]
    account.fills += 1
    fill.at = at
    fill.number = number
    fill.why = why
    fill.symbol = s
    fill.quantity = q
    fill.price = price
    fill.fee = fee
