"""What a position needs and what may still be bought. Alpaca's margin rules, on settlement's
arrays.

Requirements and rules as published in autumn 2026 (initial 50 %; maintenance by price and side; 4×
by day and 2× into the night from 2,000 USD of equity; coins are no collateral and are bought with
cash that is not borrowed). Before 2026-06-04 the pattern-day-trader rule (FINRA 4210) stood in the
place of the intraday margin deficit.
"""

from __future__ import annotations

import numpy as np

from foundation.compiled import compiled, inlined
from marketsimulator.account.book import Book, Record, on_grid

INITIAL = 0.5
HOUSE = 0.3  # maintenance of an ordinary stock
PATTERN_EQUITY = 25_000.0  # USD at the last close, for day trading on margin
PATTERN_TRADES = 3  # day trades in five sessions that a smaller account may make
CLOSING_ONLY = 6.0  # gross over equity
SHORT_BUFFER = 1.03  # of the ask that a short sale needs as buying power
CONCENTRATED = 0.7
CONCENTRATED_DEBIT = 100_000.0
DE_MINIMIS = 1_000.0
DE_MINIMIS_SHARE = 0.05  # USD, and of equity: a deficit not above the lesser is forgiven
DEFICIT_CLOSES = 2
FREEZE_DAYS = 90
CALL_BUFFER = 0.95  # a liquidation brings the requirement to this share of equity


@compiled
def maintenance(quantity: float, mark: float, special: float) -> float:
    """USD that one stock position needs overnight; special: a rate that stands above the
    table's.
    """
    size = abs(quantity)
    value = size * mark
    if quantity < 0:
        need = max(2.5 * size, value) if mark < 5.0 else max(5.0 * size, HOUSE * value)
    elif mark < 2.5:
        need = value
    else:
        need = (0.5 if mark < 6.0 else HOUSE) * value
    return max(need, special * value)


@compiled
def required(book: Book, leverage: float) -> float:
    """USD that all stock positions need: maintenance; with a leverage above 0, an ordinary
    stock needs 1 / leverage.
    """
    account = book.account[0]
    concentrated = account.cash <= -CONCENTRATED_DEBIT
    total = 0.0
    for s in range(len(book.holding)):
        held = book.holding[s]
        if held.quantity == 0.0 or held.crypto:
            continue
        value = abs(held.quantity) * held.mark
        need = maintenance(held.quantity, held.mark, held.requirement)
        if leverage > 0.0 and need <= HOUSE * value * (1.0 + 1e-9):
            need = value / leverage
        elif concentrated and value >= CONCENTRATED * account.stock:
            need = max(need, 0.5 * value)
        total += need
    return total


@inlined
def unborrowed(account: Record) -> float:
    """USD that may buy coins, below zero where there is none: settled cash that nobody has lent.

    What shorts were sold for is collateral, what other sales brought today has not settled. A short
    that was sold today is both, and is taken off once.
    """
    return float(
        account.cash - account.proceeds - max(account.unsettled - account.fresh_proceeds, 0.0)
    )


@inlined
def buying_power(account: Record, held: Record, day: Record, short: bool) -> float:
    """USD of exposure that may be added in a symbol: unborrowed settled cash for a coin, margin
    for a stock.
    """
    if held.crypto:
        return unborrowed(account) - float(account.reserved_cash)
    own: float = account.equity - account.coins
    used: float = account.stock + account.reserved_stock
    leverage: float = day.leverage
    if account.equity < day.margin_equity:
        return 0.0 if short else min(leverage, 1.0) * own - used
    if account.stock > CLOSING_ONLY * account.equity:
        return 0.0
    if day.date < account.frozen_until:
        return own - used
    if not day.pattern_rule:
        return leverage * own - used
    overnight = own / INITIAL - used
    if account.close_equity >= PATTERN_EQUITY:
        return max(overnight, float(account.day_power - account.reserved_stock))
    return 0.0 if account.trades_today + account.trades_before >= PATTERN_TRADES else overnight


@compiled
def open_margin(book: Book, day: Record) -> None:
    """A session opens: what was opened yesterday is no day trade any more, and day-trading power is
    granted anew.

    Day-trading buying power is leverage times what the last close's equity exceeds its requirement
    by.
    """
    account = book.account[0]
    days = book.day_trades
    for k in range(len(days) - 1, 0, -1):
        days[k] = days[k - 1]
    days[0] = account.trades_today
    account.trades_today = 0
    account.trades_before = days.sum()
    for s in range(len(book.holding)):
        book.holding[s].opened = 0.0
    if day.pattern_rule:
        account.day_power = max(0.0, day.leverage * (account.close_equity - required(book, 0.0)))


@compiled
def note_deficit(book: Book, day: Record) -> None:
    """While the market is open: what positions need by day beyond equity is an intraday margin
    deficit.
    """
    account = book.account[0]
    own = account.equity - account.coins
    if account.stock <= own:
        return
    missing = required(book, day.leverage) - own
    if missing > account.deficit and missing > min(DE_MINIMIS, DE_MINIMIS_SHARE * account.equity):
        if account.deficit == 0.0:
            account.deficits += 1
            account.deficit_age = 0
        account.deficit = missing


@compiled
def close_margin(book: Book, day: Record) -> None:
    """A session closes: a deficit is met, or ages and freezes the account; too little equity is a
    margin call.

    The broker answers a call at the next open: it closes the same share of every stock position.
    What has no open then stays called. Each close states anew what a call that still stands is for.
    """
    account = book.account[0]
    own = account.equity - account.coins
    need = required(book, 0.0)
    account.close_equity = own
    if account.deficit > 0.0:
        account.deficit_age += 1
        if own - need >= account.deficit:
            account.deficit = 0.0
        elif account.deficit_age >= DEFICIT_CLOSES:
            account.deficit = 0.0
            if not day.pattern_rule:
                account.freezes += 1
                account.frozen_until = day.date + FREEZE_DAYS
    if need <= own:
        clear_call(book)
        return
    if account.called == 0:
        account.margin_calls += 1
    account.called = 1
    share = min(1.0, 1.0 - max(own, 0.0) * CALL_BUFFER / need)
    for s in range(len(book.holding)):
        held = book.holding[s]
        if not held.crypto:
            size = abs(held.quantity)
            step = held.increment
            held.called = min(on_grid(np.ceil(size * share / step - 1e-9) * step), size)


@compiled
def call_is_met(book: Book) -> bool:
    """Whether equity less coins covers what stock positions need overnight, at the marks."""
    account = book.account[0]
    return bool(required(book, 0.0) <= account.equity - account.coins)


@compiled
def clear_call(book: Book) -> None:
    """No margin call stands any more."""
    if book.account[0].called:
        book.account[0].called = 0
        for s in range(len(book.holding)):
            book.holding[s].called = 0.0
