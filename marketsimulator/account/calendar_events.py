"""What the calendar does to an account: sessions, coin days, dividends, splits, ends of symbols.

Like the fills of `settlement.py`: compiled, on plain arrays, and in place.
"""

from __future__ import annotations

import numpy as np

from execution.orders.lending import INTEREST_DAYS_PER_YEAR
from foundation.arrays import Records
from foundation.compiled import compiled, jit_inline
from marketsimulator.account.book import (
    ACCOUNT_LEVEL,
    BORROW,
    BY_DELISTING,
    BY_SPLIT,
    CANCELLED,
    CASH_INTEREST,
    CENTS_PER_USD,
    DAY_ORDER,
    DIVIDEND,
    EXPIRED,
    INTEREST,
    NO_ORDER,
    ON_CLOSE,
    ON_OPEN,
    ROUNDING,
    SPLIT_CASH,
    WORKING,
    Book,
    Record,
    round_down,
    round_quantity,
    round_to_cent,
    round_up,
    write_fill,
    write_flow,
)
from marketsimulator.account.margin import assess_margin, start_margin_day
from marketsimulator.account.settlement import change_position, update_short_proceeds


@compiled
def open_session(book: Book, day: Record) -> None:
    """Yesterday's stock trades settle (T+1); margin starts a new day."""
    account = book.account[0]
    account.unsettled = 0.0
    if account.unsettled_short_proceeds != 0.0:
        account.unsettled_short_proceeds = 0.0
        for s in range(len(book.holding)):
            book.holding[s].unsettled_short_proceeds = 0.0
    start_margin_day(book, day)


@compiled
def close_session(book: Book, tape: Records, at: int, day: Record, nights: int) -> None:
    """Carry the book over `nights` from a session that has closed, then look at its margin.

    The debit is what open shorts were sold for less cash, if above zero. It and a short's value pay
    their yearly rate / 360 a night, idle cash earns its own. Orders for the day expire.
    """
    account = book.account[0]
    cash = account.cash
    # What shorts were sold for is the lender's collateral: it does not reduce the debit, unless
    # the settings say that the broker credits it.
    if not day.credits_short_proceeds:
        cash -= account.short_proceeds
    # Interest by settlement date leaves out what today's trades have not brought yet. A short that
    # was sold today is among them and was taken off above already.
    if day.interest_by_settlement:
        cash -= account.unsettled - (
            0.0 if day.credits_short_proceeds else account.unsettled_short_proceeds
        )
    share = nights / INTEREST_DAYS_PER_YEAR
    interest = 0.0
    idle = 0.0
    borrow = 0.0
    # Every rounding goes against the account: what it pays up to the cent, what it earns down.
    if cash < 0.0:
        interest = round_up(-cash * day.interest_rate * share, CENTS_PER_USD)
    else:
        idle = round_down(cash * day.cash_rate * share, CENTS_PER_USD)
    for s in range(len(book.holding)):
        position = book.holding[s]
        if position.quantity < 0.0 and position.borrow_rate > 0.0:
            lent_value = -position.quantity * position.mark
            lent = round_up(lent_value * position.borrow_rate * share, CENTS_PER_USD)
            borrow += lent
            write_flow(account, tape, at, BORROW, s, -lent)
    # SEC, TAF and CAT fees are rounded up to the cent together, once per account and day.
    rounding = round_up(account.day_fees, CENTS_PER_USD) - account.day_fees
    account.day_fees = 0.0
    write_flow(account, tape, at, INTEREST, ACCOUNT_LEVEL, -interest)
    write_flow(account, tape, at, CASH_INTEREST, ACCOUNT_LEVEL, idle)
    write_flow(account, tape, at, ROUNDING, ACCOUNT_LEVEL, -rounding)
    account.interest += interest
    account.borrow += borrow
    account.rounding += rounding
    account.other += idle - borrow - rounding
    account.cash += idle - interest - borrow - rounding
    account.equity += idle - interest - borrow - rounding
    for k in range(len(book.orders)):
        order = book.orders[k]
        if order.state == WORKING and order.time_in_force in (DAY_ORDER, ON_OPEN, ON_CLOSE):
            order.state = EXPIRED
    # Last, because a margin call is decided by the equity that the charges have left.
    assess_margin(book, day)


@compiled
def update_crypto_tier(book: Book, before: int, date: int) -> None:
    """A New York day begins: the coin venue's rates follow from the last 30 days' volume.

    before: the date until now, under which its USD are kept. Days between the two had no bar; what
    is older than 30 days is forgotten.
    """
    account = book.account[0]
    volumes = book.crypto_volume
    volumes[before % len(volumes)] = account.crypto_traded
    for day in range(before + 1, min(date, before + len(volumes)) + 1):
        volumes[day % len(volumes)] = 0.0
    account.crypto_traded = 0.0
    traded = 0.0
    for k in range(len(volumes)):
        traded += volumes[k]
    for k in range(len(book.tiers)):
        if traded >= book.tiers[k, 0]:
            account.maker = book.tiers[k, 1]
            account.taker = book.tiers[k, 2]


@compiled
def apply_corporate_action(
    book: Book, tape: Records, at: int, s: int, ratio: float, dividend: float
) -> None:
    """A session opens ex: a dividend in USD a share, then a split into `ratio` shares for one.

    A short pays the dividend. A split changes positions (a fill at price 0) and orders, and divides
    prices; what is no whole increment is paid in cash at the last close.
    """
    account = book.account[0]
    position = book.holding[s]
    worth_before = _worth(position)
    paid = round_to_cent(position.quantity * dividend)
    account.dividends += paid
    write_flow(account, tape, at, DIVIDEND, s, paid)
    step = position.increment
    if ratio != 1.0:
        before = position.quantity
        exact = before * ratio
        position.quantity = _whole_towards_zero(exact, before, step)
        position.mark /= ratio
        fraction = round_to_cent((exact - position.quantity) * position.mark)
        write_flow(account, tape, at, SPLIT_CASH, s, fraction)
        paid += fraction
        # Positions are the sum of the tape, so what a split adds is written there too.
        if before != 0.0:
            change = position.quantity - before
            write_fill(account, tape, at, NO_ORDER, BY_SPLIT, s, change, 0.0, 0.0, 0.0, 0.0)
        # A call is for shares, of which there are more now, but no more than are held.
        position.called = min(
            round_quantity(np.ceil(position.called * ratio / step - 1e-9) * step),
            abs(position.quantity),
        )
        # A short that a reverse split has dissolved into cash is no collateral any more.
        if position.quantity == 0.0:
            account.short_proceeds -= position.short_proceeds
            account.unsettled_short_proceeds -= position.unsettled_short_proceeds
            position.short_proceeds = 0.0
            position.unsettled_short_proceeds = 0.0
    account.cash += paid
    account.other += paid
    # What waits, or is called, meets the session's open before anything is marked again.
    worth_after = _worth(position)
    account.equity += paid + worth_after - worth_before
    account.stock += abs(worth_after) - abs(worth_before)
    for k in range(len(book.orders)):
        order = book.orders[k]
        if order.symbol == s and order.state == WORKING:
            # Orders below the market (bids and sell stops) are lowered by the dividend, as
            # FINRA rule 5330 has it: the price falls by it without anybody selling.
            buys = order.quantity > 0
            order.limit = (order.limit - (dividend if buys else 0.0)) / ratio
            order.stop = (order.stop - (0.0 if buys else dividend)) / ratio
            order.trail /= ratio
            order.quantity = _whole_towards_zero(order.quantity * ratio, order.quantity, step)
            if order.quantity == 0.0:
                order.state = CANCELLED


@compiled
def delist_symbol(
    book: Book, tape: Records, at: int, s: int, price: float, share: float, into: int, ratio: float
) -> None:
    """A symbol has ended: its orders are cancelled and its position leaves the book at what a share
    is worth, which a short pays.

    That is `price` in USD, `share` of its last price, and the last price of `ratio` shares of
    symbol `into` (below 0: of none). These come onto the book at that price, whole ones; what is
    left of them is cash.
    """
    for k in range(len(book.orders)):
        order = book.orders[k]
        if order.symbol == s and order.state == WORKING:
            order.state = CANCELLED
    position = book.holding[s]
    quantity = position.quantity
    if quantity == 0.0:
        return
    worth = price + share * position.mark
    if into >= 0:
        successor = book.holding[into]
        # A symbol that begins with this has no price of its own yet: then nothing is won or lost.
        if np.isnan(successor.mark):
            successor.mark = max(position.mark - worth, 0.0) / ratio
        worth += ratio * successor.mark
    _exchange(book, tape, at, s, -quantity, worth)
    if into >= 0:
        successor = book.holding[into]
        held = successor.quantity
        added = _whole_towards_zero(quantity * ratio, quantity, successor.increment)
        # What was short or long of it before is closed first, as the venue nets positions.
        closing = 0.0
        if held * added < 0.0:
            closing = min(abs(held), abs(added)) * (1.0 if added > 0.0 else -1.0)
        _exchange(book, tape, at, into, closing, successor.mark)
        _exchange(book, tape, at, into, round_quantity(added - closing), successor.mark)


@jit_inline
def _exchange(book: Book, tape: Records, at: int, s: int, quantity: float, price: float) -> None:
    """A position changes by a quantity, signed, for cash, without an order and without a cost."""
    if quantity == 0.0:
        return
    account = book.account[0]
    position = book.holding[s]
    account.cash -= quantity * price
    if not position.crypto:
        update_short_proceeds(account, position, quantity, price)
    lost = quantity * (price - position.mark)
    change_position(account, position, quantity, -quantity * price)
    position.called = min(position.called, abs(position.quantity))
    write_fill(account, tape, at, NO_ORDER, BY_DELISTING, s, quantity, price, 0.0, 0.0, lost)


@jit_inline
def _worth(position: Record) -> float:
    """USD at the mark; nothing where nothing is held, which may be before a first close."""
    return float(position.quantity * position.mark) if position.quantity != 0.0 else 0.0


@compiled
def _whole_towards_zero(quantity: float, sign: float, step: float) -> float:
    """The quantity in whole increments, towards zero; `sign` is that of the quantity.

    A quotient within a billionth of the next whole number counts as that number.
    """
    # Of nothing it is 0.0: adding that takes the sign off a zero below zero.
    return round_quantity(np.trunc(quantity / step + (1e-9 if sign > 0 else -1e-9)) * step) + 0.0
