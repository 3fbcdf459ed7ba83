"""Alpaca's margin rules: what positions need, and what may still be bought.

Initial 50 %; maintenance by price and side; 4× by day and 2× overnight from 2,000 USD of equity;
crypto is no collateral and is bought without borrowed cash. Each figure names its source
and the day it was read. Before 2026-06-04 the pattern-day-trader rule (FINRA 4210) applied instead
of the intraday margin deficit.
"""

from __future__ import annotations

import numpy as np

from foundation.compiled import compiled, jit_inline
from marketsimulator.account.book import Book, Record, round_quantity

# Alpaca, "Margin and Short Selling", read 2026-11-28:
INITIAL_REQUIREMENT = 0.5
MAINTENANCE = 0.3  # of an ordinary stock's value
# FINRA Rule 4210 before the SEC order of 2026-04-14, read 2026-11-20:
PATTERN_EQUITY = 25_000.0  # USD at the last close, for day trading on margin
PATTERN_TRADES = 3  # day trades in five sessions that a smaller account may make
# Alpaca, "Margin and Short Selling", read 2026-11-20:
CLOSING_ONLY_LEVERAGE = 6.0  # gross over equity, above which the broker takes closing orders only
CONCENTRATION_SHARE = 0.7  # of the stocks' value in one stock, which then needs 50 %
CONCENTRATED_DEBIT = 100_000.0  # USD, from which concentration counts
# FINRA Regulatory Notice 26-10 (intraday margin deficits), read 2026-11-20:
DE_MINIMIS = 1_000.0  # USD: a deficit not above the lesser of this and the next is forgiven
DE_MINIMIS_SHARE = 0.05  # of equity
DEFICIT_CLOSES = 2  # by which a deficit is to be met
FREEZE_DAYS = 90
# An assumption: the broker publishes no figure.
CALL_BUFFER = 0.95  # a liquidation brings the requirement to this share of equity


@compiled
def maintenance_requirement(quantity: float, mark: float, special: float) -> float:
    """USD that one stock position needs overnight; special: a rate that stands above the table's.

    Alpaca, "Margin and Short Selling", read 2026-11-28. Long: all of the value below 2.50 USD a
    share, half of it below 6, else 30 %. Short: below 5 USD the value, at least 2.50 a share; else
    30 % of it, at least 5 a share.
    """
    size = abs(quantity)
    value = size * mark
    if quantity < 0:
        need = max(2.5 * size, value) if mark < 5.0 else max(5.0 * size, MAINTENANCE * value)
    elif mark < 2.5:
        need = value
    else:
        need = (0.5 if mark < 6.0 else MAINTENANCE) * value
    return max(need, special * value)


@compiled
def required_equity(book: Book, leverage: float) -> float:
    """USD that all stock positions need: overnight, or by day where a leverage above 0 is given.

    By day an ordinary stock needs 1 / leverage of its value.
    """
    account = book.account[0]
    concentrated = account.cash <= -CONCENTRATED_DEBIT
    total = 0.0
    for s in range(len(book.holding)):
        position = book.holding[s]
        if position.quantity == 0.0 or position.crypto:
            continue
        value = abs(position.quantity) * position.mark
        need = maintenance_requirement(position.quantity, position.mark, position.requirement)
        # Intraday leverage is for ordinary stocks. A cheap one, a low-priced short or one with a
        # special rate needs by day what it needs overnight.
        if leverage > 0.0 and need <= MAINTENANCE * value * (1.0 + 1e-9):
            need = value / leverage
        elif concentrated and value >= CONCENTRATION_SHARE * account.stock:
            need = max(need, 0.5 * value)
        total += need
    return total


@jit_inline
def unborrowed_cash(account: Record) -> float:
    """USD that may buy coins, below zero where there is none: settled cash that nobody has lent.

    What shorts were sold for is collateral, what other sales brought today has not settled. A short
    that was sold today is both, and is taken off once.
    """
    return float(
        account.cash
        - account.short_proceeds
        - max(account.unsettled - account.unsettled_short_proceeds, 0.0)
    )


@jit_inline
def buying_power(account: Record, position: Record, day: Record, short: bool) -> float:
    """USD of exposure that may be added in a symbol.

    For a coin that is settled cash that nobody has lent, for a stock what margin leaves.
    """
    if position.crypto:
        return unborrowed_cash(account) - float(account.reserved_cash)
    # Coins cannot be borrowed against, so no stock rests on them.
    collateral: float = account.equity - account.crypto
    used: float = account.stock + account.reserved_stock
    leverage: float = day.leverage
    if account.equity < day.margin_equity:
        # Below 2,000 USD Alpaca lends neither cash nor shares.
        return 0.0 if short else min(leverage, 1.0) * collateral - used
    if account.stock > CLOSING_ONLY_LEVERAGE * account.equity:
        return 0.0
    if day.date < account.frozen_until:
        return collateral - used
    if not day.pattern_day_trader_rule:
        return leverage * collateral - used
    # FINRA 4210: a pattern day trader may use what the last close granted for the day, but never
    # has less than the 2× of an ordinary account. Below 25,000 USD there is only the latter, and
    # nothing new once the day trades of five sessions are used up: a further one would make the
    # account a pattern day trader that it may not be.
    overnight = collateral / INITIAL_REQUIREMENT - used
    if account.close_equity >= PATTERN_EQUITY:
        return max(overnight, float(account.day_trading_power - account.reserved_stock))
    return (
        0.0 if account.day_trades_today + account.recent_day_trades >= PATTERN_TRADES else overnight
    )


@compiled
def start_margin_day(book: Book, day: Record) -> None:
    """A session opens: day trades and day-trading power are counted from the start.

    What was opened yesterday is no day trade any more. Day-trading buying power is leverage times
    what the last close's equity exceeds its requirement by.
    """
    account = book.account[0]
    day_trades = book.day_trades
    for k in range(len(day_trades) - 1, 0, -1):
        day_trades[k] = day_trades[k - 1]
    day_trades[0] = account.day_trades_today
    account.day_trades_today = 0
    account.recent_day_trades = 0
    for k in range(len(day_trades)):
        account.recent_day_trades += day_trades[k]
    for s in range(len(book.holding)):
        book.holding[s].opened_today = 0.0
    if day.pattern_day_trader_rule:
        excess = account.close_equity - required_equity(book, 0.0)
        account.day_trading_power = max(0.0, day.leverage * excess)


@compiled
def record_deficit(book: Book, day: Record) -> None:
    """Note the intraday margin deficit: what positions need beyond equity in an open market."""
    account = book.account[0]
    collateral = account.equity - account.crypto
    # This runs at every bar, and equity that covers the whole of the positions needs no closer
    # look at each of them.
    if account.stock <= collateral:
        return
    missing = required_equity(book, day.leverage) - collateral
    forgiven = min(DE_MINIMIS, DE_MINIMIS_SHARE * account.equity)
    # The deficit of a day is its largest; prices that recover do not meet it.
    if missing > account.deficit and missing > forgiven:
        if account.deficit == 0.0:
            account.deficits += 1
            account.deficit_age = 0
        account.deficit = missing


@compiled
def assess_margin(book: Book, day: Record) -> None:
    """A session closes: a deficit is met or ages, and too little equity is a margin call.

    A deficit that has not been met in time freezes the account. The broker answers a call at the
    next open: it closes the same share of every stock position. What has no open then stays called.
    Each close states anew what a call that still stands is for.
    """
    account = book.account[0]
    collateral = account.equity - account.crypto
    need = required_equity(book, 0.0)
    account.close_equity = collateral
    if account.deficit > 0.0:
        account.deficit_age += 1
        if collateral - need >= account.deficit:
            account.deficit = 0.0
        elif account.deficit_age >= DEFICIT_CLOSES:
            account.deficit = 0.0
            # The deficit came into the place of the pattern-day-trader rule and freezes nothing
            # while that one is in force.
            if not day.pattern_day_trader_rule:
                account.freezes += 1
                account.frozen_until = day.date + FREEZE_DAYS
    if need <= collateral:
        clear_call(book)
        return
    if account.called == 0:
        account.margin_calls += 1
    account.called = 1
    # Closing a share of every position takes that share off the requirement and, but for costs,
    # leaves equity as it is: what is kept then needs CALL_BUFFER of equity.
    share = min(1.0, 1.0 - max(collateral, 0.0) * CALL_BUFFER / need)
    for s in range(len(book.holding)):
        position = book.holding[s]
        if not position.crypto:
            size = abs(position.quantity)
            step = position.increment
            # Up to a whole increment, so that what is closed is enough; never beyond zero.
            position.called = min(round_quantity(np.ceil(size * share / step - 1e-9) * step), size)


@compiled
def is_call_met(book: Book) -> bool:
    """Whether equity less coins covers what stock positions need overnight, at the marks."""
    account = book.account[0]
    return bool(required_equity(book, 0.0) <= account.equity - account.crypto)


@compiled
def clear_call(book: Book) -> None:
    """No margin call stands any more."""
    if book.account[0].called:
        book.account[0].called = 0
        for s in range(len(book.holding)):
            book.holding[s].called = 0.0
