"""Calendar events of an account: sessions, crypto days, dividends, splits and delistings.

The functions are compiled and update the account's arrays in place.
"""

from __future__ import annotations

import numpy as np

from execution.orders.lending import INTEREST_DAYS_PER_YEAR
from foundation.arrays import StructuredArray
from foundation.compiled import compiled, jit_inline
from marketsimulator.account.book import (
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
    NO_SYMBOL,
    ON_CLOSE,
    ON_OPEN,
    ROUNDING,
    SPLIT_CASH,
    WORKING,
    Book,
    NumpyRecord,
    append_cash_flow,
    append_fill,
    round_down_to_step,
    round_quantity,
    round_to_cent,
    round_up_to_step,
)
from marketsimulator.account.margin import assess_margin
from marketsimulator.account.settlement import change_position, update_short_proceeds


@compiled
def open_session(book: Book) -> None:
    """Open a session: settle the stock trades of the previous session (T+1)."""
    account = book.account[0]
    account.unsettled = 0.0
    if account.unsettled_short_proceeds != 0.0:
        account.unsettled_short_proceeds = 0.0
        for s in range(len(book.holdings)):
            book.holdings[s].unsettled_short_proceeds = 0.0


@compiled
def close_session(
    book: Book, account_log: StructuredArray, at: int, day: NumpyRecord, nights: int
) -> None:
    """Close a session: charge carrying costs for `nights`, expire day orders, assess margin.

    The debit is the proceeds of open shorts less cash, or 0 if cash is larger. For each night the
    account pays 1/360 of the yearly interest rate on the debit and 1/360 of the borrow rate on the
    value of shorts. Idle cash earns the cash rate.
    """
    account = book.account[0]
    cash = account.cash
    # Proceeds of shorts are the lender's collateral: they do not reduce the debit unless the
    # settings credit them.
    if not day.credits_short_proceeds:
        cash -= account.short_proceeds
    # Interest by settlement date excludes the unsettled proceeds of today's trades. Shorts sold
    # today are part of them and were subtracted above.
    if day.interest_by_settlement:
        cash -= account.unsettled - (
            0.0 if day.credits_short_proceeds else account.unsettled_short_proceeds
        )
    share = nights / INTEREST_DAYS_PER_YEAR
    interest = 0.0
    idle = 0.0
    borrow = 0.0
    # Every rounding goes against the account: payments up to the cent, earnings down.
    if cash < 0.0:
        interest = round_up_to_step(-cash * day.interest_rate * share, CENTS_PER_USD)
    else:
        idle = round_down_to_step(cash * day.cash_rate * share, CENTS_PER_USD)
    for s in range(len(book.holdings)):
        position = book.holdings[s]
        if position.quantity < 0.0 and position.borrow_rate > 0.0:
            lent_value = -position.quantity * position.mark
            lent = round_up_to_step(lent_value * position.borrow_rate * share, CENTS_PER_USD)
            borrow += lent
            append_cash_flow(account, account_log, at, BORROW, s, -lent)
    # SEC, TAF and CAT fees are rounded up to the cent as one sum per account and day.
    rounding = round_up_to_step(account.day_fees, CENTS_PER_USD) - account.day_fees
    account.day_fees = 0.0
    append_cash_flow(account, account_log, at, INTEREST, NO_SYMBOL, -interest)
    append_cash_flow(account, account_log, at, CASH_INTEREST, NO_SYMBOL, idle)
    append_cash_flow(account, account_log, at, ROUNDING, NO_SYMBOL, -rounding)
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
    # Margin comes last: it depends on the equity after these charges.
    assess_margin(book, day)


@compiled
def update_crypto_tier(book: Book, previous_date: int, date: int) -> None:
    """Start a New York day: set the crypto fee rates from the volume of the last 30 days.

    previous_date: previous date with a bar; `account.crypto_traded` is the USD volume of that date.
    date: the new date.
    """
    account = book.account[0]
    volumes = book.crypto_volume_by_day
    volumes[previous_date % len(volumes)] = account.crypto_traded
    for day in range(previous_date + 1, min(date, previous_date + len(volumes)) + 1):
        volumes[day % len(volumes)] = 0.0
    account.crypto_traded = 0.0
    traded = 0.0
    for k in range(len(volumes)):
        traded += volumes[k]
    for k in range(len(book.fee_tiers)):
        if traded >= book.fee_tiers[k, 0]:
            account.maker = book.fee_tiers[k, 1]
            account.taker = book.fee_tiers[k, 2]


@compiled
def apply_corporate_action(
    book: Book,
    account_log: StructuredArray,
    at: int,
    symbol_index: int,
    ratio: float,
    dividend: float,
) -> None:
    """Apply a corporate action on its ex-date: first the dividend, then the split.

    A short position pays the dividend. A split multiplies positions and order quantities and
    divides prices; the change of the position is recorded as a fill at price 0. A remaining
    fraction of a lot is paid in cash at the last close.

    ratio: new shares per old share; 1 without a split.
    dividend: USD per share.
    """
    account = book.account[0]
    position = book.holdings[symbol_index]
    worth_before = _position_value(position)
    paid = round_to_cent(position.quantity * dividend)
    account.dividends += paid
    append_cash_flow(account, account_log, at, DIVIDEND, symbol_index, paid)
    step = position.increment
    if ratio != 1.0:
        before = position.quantity
        exact = before * ratio
        position.quantity = _round_towards_zero(exact, before, step)
        position.mark /= ratio
        fraction = round_to_cent((exact - position.quantity) * position.mark)
        append_cash_flow(account, account_log, at, SPLIT_CASH, symbol_index, fraction)
        paid += fraction
        # A position equals the sum of its log entries, so the shares added by a split are logged.
        if before != 0.0:
            change = position.quantity - before
            append_fill(
                account,
                account_log,
                at,
                NO_ORDER,
                BY_SPLIT,
                symbol_index,
                change,
                0.0,
                0.0,
                0.0,
                0.0,
            )
        # The called quantity splits as well, up to the quantity held.
        position.called = min(
            round_quantity(np.ceil(position.called * ratio / step - 1e-9) * step),
            abs(position.quantity),
        )
        # A short dissolved into cash by a reverse split is not collateral.
        if position.quantity == 0.0:
            account.short_proceeds -= position.short_proceeds
            account.unsettled_short_proceeds -= position.unsettled_short_proceeds
            position.short_proceeds = 0.0
            position.unsettled_short_proceeds = 0.0
    account.cash += paid
    account.other += paid
    # Waiting and called quantities meet the session's open before positions are marked again.
    worth_after = _position_value(position)
    account.equity += paid + worth_after - worth_before
    account.stock += abs(worth_after) - abs(worth_before)
    for k in range(len(book.orders)):
        order = book.orders[k]
        if order.symbol == symbol_index and order.state == WORKING:
            # Orders below the market (bids and sell stops) are lowered by the dividend (FINRA Rule
            # 5330), because the price falls by it without a sale.
            buys = order.quantity > 0
            order.limit = (order.limit - (dividend if buys else 0.0)) / ratio
            order.stop = (order.stop - (0.0 if buys else dividend)) / ratio
            order.trail /= ratio
            order.quantity = _round_towards_zero(order.quantity * ratio, order.quantity, step)
            if order.quantity == 0.0:
                order.state = CANCELLED


@compiled
def delist_symbol(
    book: Book,
    account_log: StructuredArray,
    at: int,
    symbol_index: int,
    price: float,
    payout_share: float,
    successor_index: int,
    successor_ratio: float,
) -> None:
    """Delist a symbol: cancel its orders and close its position at the delisting value.

    The delisting value of a share is the sum of `price` in USD, the fraction `payout_share` of its
    last price, and `successor_ratio` shares of symbol number `successor_index` at their last price.
    Without a successor `successor_index` is negative. A short position pays this value. Whole
    successor shares become a position at that price; fractions are paid in cash.
    """
    for k in range(len(book.orders)):
        order = book.orders[k]
        if order.symbol == symbol_index and order.state == WORKING:
            order.state = CANCELLED
    position = book.holdings[symbol_index]
    quantity = position.quantity
    if quantity == 0.0:
        return
    worth = price + payout_share * position.mark
    if successor_index >= 0:
        successor = book.holdings[successor_index]
        # A successor without a price of its own takes the closing price: no gain or loss.
        if np.isnan(successor.mark):
            successor.mark = max(position.mark - worth, 0.0) / successor_ratio
        worth += successor_ratio * successor.mark
    _trade_without_order(book, account_log, at, symbol_index, -quantity, worth)
    if successor_index >= 0:
        successor = book.holdings[successor_index]
        held = successor.quantity
        added = _round_towards_zero(quantity * successor_ratio, quantity, successor.increment)
        # An opposite position in the successor is closed first, as the venue nets positions.
        closing = 0.0
        if held * added < 0.0:
            closing = min(abs(held), abs(added)) * (1.0 if added > 0.0 else -1.0)
        _trade_without_order(book, account_log, at, successor_index, closing, successor.mark)
        _trade_without_order(
            book, account_log, at, successor_index, round_quantity(added - closing), successor.mark
        )


@jit_inline
def _trade_without_order(
    book: Book, tape: StructuredArray, at: int, s: int, quantity: float, price: float
) -> None:
    """Change a position by a signed quantity at a price, without an order and without costs."""
    if quantity == 0.0:
        return
    account = book.account[0]
    position = book.holdings[s]
    account.cash -= quantity * price
    if not position.crypto:
        update_short_proceeds(account, position, quantity, price)
    lost = quantity * (price - position.mark)
    change_position(account, position, quantity, -quantity * price)
    position.called = min(position.called, abs(position.quantity))
    append_fill(account, tape, at, NO_ORDER, BY_DELISTING, s, quantity, price, 0.0, 0.0, lost)


@jit_inline
def _position_value(position: NumpyRecord) -> float:
    """Return a position's value at its mark, USD.

    Without a position the result is 0, even if the mark is NaN.
    """
    return float(position.quantity * position.mark) if position.quantity != 0.0 else 0.0


@compiled
def _round_towards_zero(quantity: float, sign: float, step: float) -> float:
    """Round a quantity towards zero to a multiple of the lot size `step`.

    If quantity / step is within a billionth of the next whole number, that number is used.

    sign: a number with the sign of the quantity.
    """
    # Adding 0.0 turns a negative zero into zero.
    return round_quantity(np.trunc(quantity / step + (1e-9 if sign > 0 else -1e-9)) * step) + 0.0
