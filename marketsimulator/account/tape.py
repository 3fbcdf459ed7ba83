"""Conversion of the account log, which settlement writes, to fills and bookings.

A fill changes a position; a booking is any other cash flow. Settlement writes every cash flow to
the account log when it is charged. The flows of an instant therefore add up to those in its equity
row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from execution.orders.orders import Fill, make_order_id, to_shortest_decimal
from foundation.arrays import StructuredArray
from marketsimulator.account.book import (
    BORROW,
    BY_DELISTING,
    BY_LIQUIDATION,
    CASH_INTEREST,
    DIVIDEND,
    INTEREST,
    NO_ORDER,
    NO_SYMBOL,
    ROUNDING,
    SPLIT_CASH,
)
from marketsimulator.run_result import DELISTED, SPLIT, Booking, BookingKind

MIN_BOOKED_USD = 1e-9  # USD: smaller amounts are rounding errors of floats
_BOOKING_KIND_BY_CAUSE: dict[int, BookingKind] = {
    DIVIDEND: "dividend",
    SPLIT_CASH: "split",
    INTEREST: "interest",
    CASH_INTEREST: "cash_interest",
    BORROW: "borrow",
    ROUNDING: "rounding",
}
_ORDER_PREFIX_BY_CAUSE = {BY_LIQUIDATION: "liquidation", BY_DELISTING: DELISTED}


class AccountLogEntry(NamedTuple):
    """One fill or cash flow in the account log; its fields follow the dtype ACCOUNT_LOG_DTYPE."""

    instant: int
    order_number: int
    cause_code: int
    symbol_index: int
    quantity: float
    price: float
    fee: float
    spread: float
    slippage: float
    cash_flow_usd: float


def append_fills_and_bookings(
    account_log: StructuredArray,
    now: np.datetime64,
    symbols: Sequence[str],
    order_id_of: Callable[[AccountLogEntry], str],
    fills: list[Fill],
    bookings: list[Booking],
) -> None:
    """Convert log entries; append fills to `fills` and other cash flows to `bookings`.

    now: instant of the equity row that includes the entries.
    order_id_of: function that returns the `client_order_id` of an entry's order.
    """
    for row in account_log.tolist():
        entry = AccountLogEntry(*row)
        symbol = "" if entry.symbol_index == NO_SYMBOL else symbols[entry.symbol_index]
        if entry.cause_code in _BOOKING_KIND_BY_CAUSE:
            bookings.append(
                Booking(now, symbol, _BOOKING_KIND_BY_CAUSE[entry.cause_code], entry.cash_flow_usd)
            )
            continue
        at = np.datetime64(entry.instant, "ns")
        if entry.order_number == NO_ORDER:
            cause = _ORDER_PREFIX_BY_CAUSE.get(entry.cause_code, SPLIT)
            name = make_order_id(cause, at, symbol, 0)
        else:
            name = order_id_of(entry)
        quantity = to_shortest_decimal(entry.quantity)
        booked_at = None if at == now else now
        fills.append(Fill(name, symbol, quantity, entry.price, entry.fee, at, booked_at))
        if entry.cause_code == BY_DELISTING:
            if abs(entry.slippage) > MIN_BOOKED_USD:
                bookings.append(Booking(now, symbol, DELISTED, -entry.slippage))
            continue
        if entry.spread > MIN_BOOKED_USD:
            bookings.append(Booking(now, symbol, "spread", -entry.spread))
        if entry.slippage > MIN_BOOKED_USD:
            bookings.append(Booking(now, symbol, "slippage", -entry.slippage))
