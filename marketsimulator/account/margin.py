"""Alpaca's margin rules: maintenance requirements and buying power.

Maintenance depends on price and side. From 2,000 USD of equity on, buying power is 4× equity by day
and 2× overnight. Crypto is not collateral and is bought without borrowed cash. Each constant names
its source and the day on which it was read.
"""

from __future__ import annotations

import numpy as np

from foundation.compiled import compiled, jit_inline
from marketsimulator.account.book import Book, NumpyRecord, round_quantity

# Alpaca, "Margin and Short Selling", read 2026-11-28:
MAINTENANCE_MARGIN_RATE = 0.3  # fraction of an ordinary stock's value
# Alpaca, "Margin and Short Selling", read 2026-11-20:
CLOSING_ONLY_LEVERAGE = 6.0  # gross over equity; above it the broker accepts only closing orders
CONCENTRATED_POSITION_SHARE = 0.7  # share of one stock in all stocks, above which it needs 50 %
CONCENTRATION_MIN_DEBIT = 100_000.0  # USD, from which concentration applies
# FINRA Regulatory Notice 26-10 (intraday margin deficits), read 2026-11-20:
DE_MINIMIS_DEFICIT = 1_000.0  # USD: a deficit up to the lesser of this and the next is forgiven
DE_MINIMIS_EQUITY_SHARE = 0.05  # of equity
DEFICIT_GRACE_SESSIONS = 2  # closes within which a deficit must be met
ACCOUNT_FREEZE_DAYS = 90
# An assumption: the broker publishes no figure.
LIQUIDATION_TARGET_RATIO = 0.95  # a liquidation reduces the requirement to this share of equity


@compiled
def maintenance_requirement(quantity: float, mark: float, special_rate: float) -> float:
    """Return the overnight maintenance requirement of one stock position, USD.

    Source: Alpaca, "Margin and Short Selling", read 2026-11-28.
    Long: the full value if the price is below 2.50 USD, half of it below 6 USD, else 30 %.
    Short, price below 5 USD: the greater of the full value and 2.50 USD a share.
    Short, price from 5 USD on: the greater of 30 % of the value and 5 USD a share.

    special_rate: special maintenance rate of the symbol, as a fraction of the value; it applies if
        it requires more than the rules above.
    """
    size = abs(quantity)
    value = size * mark
    if quantity < 0:
        need = (
            max(2.5 * size, value)
            if mark < 5.0
            else max(5.0 * size, MAINTENANCE_MARGIN_RATE * value)
        )
    elif mark < 2.5:
        need = value
    else:
        need = (0.5 if mark < 6.0 else MAINTENANCE_MARGIN_RATE) * value
    return max(need, special_rate * value)


@compiled
def required_equity(book: Book, leverage: float) -> float:
    """Return the equity that margin rules require for all stock positions, USD.

    leverage: 0 for the overnight requirement. Above 0 for the intraday requirement, in which an
        ordinary stock requires 1 / leverage of its value.
    """
    account = book.account[0]
    concentrated = account.cash <= -CONCENTRATION_MIN_DEBIT
    total = 0.0
    for s in range(len(book.holdings)):
        position = book.holdings[s]
        if position.quantity == 0.0 or position.crypto:
            continue
        value = abs(position.quantity) * position.mark
        need = maintenance_requirement(position.quantity, position.mark, position.requirement)
        # Intraday leverage applies to ordinary stocks. A cheap stock, a low-priced short or a stock
        # with a special rate requires its overnight amount by day as well.
        if leverage > 0.0 and need <= MAINTENANCE_MARGIN_RATE * value * (1.0 + 1e-9):
            need = value / leverage
        elif concentrated and value >= CONCENTRATED_POSITION_SHARE * account.stock:
            need = max(need, 0.5 * value)
        total += need
    return total


@jit_inline
def unborrowed_cash(account: NumpyRecord) -> float:
    """Return the settled cash that is not borrowed and may buy crypto, USD.

    It is cash less short proceeds and less unsettled sale proceeds. The proceeds of today's shorts
    belong to both, but are subtracted only once. The result is negative if cash is borrowed.
    """
    return float(
        account.cash
        - account.short_proceeds
        - max(account.unsettled - account.unsettled_short_proceeds, 0.0)
    )


@jit_inline
def buying_power(
    account: NumpyRecord, position: NumpyRecord, day: NumpyRecord, short: bool
) -> float:
    """Return the value of further exposure that the account may open in a symbol, USD.

    For crypto it is settled, unborrowed cash less the cash reserved by waiting orders. For stocks
    it is the exposure that margin rules allow, less present exposure and that of waiting orders.

    short: true for an order that opens a short position.
    """
    if position.crypto:
        return unborrowed_cash(account) - float(account.reserved_cash)
    # Crypto is not collateral, so stocks cannot be financed with it.
    collateral: float = account.equity - account.crypto
    used: float = account.stock + account.reserved_stock
    leverage: float = day.leverage
    if account.equity < day.margin_equity:
        # Below 2,000 USD of equity Alpaca lends neither cash nor shares.
        return 0.0 if short else min(leverage, 1.0) * collateral - used
    if account.stock > CLOSING_ONLY_LEVERAGE * account.equity:
        return 0.0
    if day.date < account.frozen_until:
        return collateral - used
    return leverage * collateral - used


@compiled
def record_intraday_deficit(book: Book, day: NumpyRecord) -> None:
    """Record the intraday margin deficit if it exceeds the deficit already on record.

    The deficit is the intraday margin requirement less equity. Small deficits are ignored.
    """
    account = book.account[0]
    collateral = account.equity - account.crypto
    # This runs at every bar; equity that covers the whole of the positions makes the exact
    # requirement unnecessary.
    if account.stock <= collateral:
        return
    missing = required_equity(book, day.leverage) - collateral
    forgiven = min(DE_MINIMIS_DEFICIT, DE_MINIMIS_EQUITY_SHARE * account.equity)
    # The deficit of a day is its largest; recovering prices do not meet it.
    if missing > account.deficit and missing > forgiven:
        if account.deficit == 0.0:
            account.deficits += 1
            account.deficit_age = 0
        account.deficit = missing


@compiled
def assess_margin(book: Book, day: NumpyRecord) -> None:
    """Assess margin at the close: update the intraday deficit, issue or cancel a margin call.

    A deficit that is not met within its grace period freezes the account. Equity below the
    overnight requirement causes a margin call: at the next open the broker closes the same share of
    every stock position. A position that has no opening price then stays under the call. The
    quantities of an open call are recomputed at each close.
    """
    account = book.account[0]
    collateral = account.equity - account.crypto
    need = required_equity(book, 0.0)
    if account.deficit > 0.0:
        account.deficit_age += 1
        if collateral - need >= account.deficit:
            account.deficit = 0.0
        elif account.deficit_age >= DEFICIT_GRACE_SESSIONS:
            account.deficit = 0.0
            account.freezes += 1
            account.frozen_until = day.date + ACCOUNT_FREEZE_DAYS
    if need <= collateral:
        clear_margin_call(book)
        return
    if account.called == 0:
        account.margin_calls += 1
    account.called = 1
    # Closing a share of every position reduces the requirement by that share and leaves equity
    # unchanged except for costs. The rest then requires LIQUIDATION_TARGET_RATIO of equity.
    share = min(1.0, 1.0 - max(collateral, 0.0) * LIQUIDATION_TARGET_RATIO / need)
    for s in range(len(book.holdings)):
        position = book.holdings[s]
        if not position.crypto:
            size = abs(position.quantity)
            step = position.increment
            # Rounded up to a whole increment, so that the closing suffices, and never beyond zero.
            position.called = min(round_quantity(np.ceil(size * share / step - 1e-9) * step), size)


@compiled
def is_margin_call_met(book: Book) -> bool:
    """Return whether collateral covers the overnight margin requirement at the present marks.

    Collateral is equity less the value of crypto.
    """
    account = book.account[0]
    return bool(required_equity(book, 0.0) <= account.equity - account.crypto)


@compiled
def clear_margin_call(book: Book) -> None:
    """Cancel an open margin call, so that no position is liquidated."""
    if book.account[0].called:
        book.account[0].called = 0
        for s in range(len(book.holdings)):
            book.holdings[s].called = 0.0
