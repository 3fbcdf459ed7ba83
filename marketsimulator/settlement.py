"""One bar of settlement on plain arrays: what carrying the book costs, then what the orders fill at. State in, state out.

Nothing here knows of symbols, clocks or configuration. Money is USD in float64; prices are rounded to a tick against the
trader, coin fees up to the cent, regulatory fees to a millionth with the day's sum rounded up to the cent at the close.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Book(NamedTuple):
    """State of an account.

    cash; unsettled: net proceeds of today's stock trades; day_fees: regulatory fees charged today. quantity [S] signed;
    short_proceeds [S]: what each open short was sold for.
    """

    cash: float
    unsettled: float
    day_fees: float
    quantity: Array
    short_proceeds: Array


class Terms(NamedTuple):
    """The broker's terms on one day.

    half_spread, slippage [S]: fractions of price. increment [S]. crypto [S]. taker: coin fee. sec, taf, taf_cap, cat:
    stock fees. leverage: stock gross over equity less coins; 1 below margin_equity. interest_rate: per year, simple.
    """

    half_spread: Array
    slippage: Array
    increment: Array
    crypto: Mask
    taker: float
    sec: float
    taf: float
    taf_cap: float
    cat: float
    leverage: float
    margin_equity: float
    interest_rate: float


class Fills(NamedTuple):
    """Per order [K]: filled quantity signed (0 where nothing filled), price, fee, and the USD that spread and slippage took."""

    quantity: Array
    price: Array
    fee: Array
    spread: Array
    slippage: Array


def carry(book: Book, terms: Terms, nights: int, opens_session: bool) -> tuple[Book, float, float]:
    """Advance to the next instant; returns the book, interest paid and other cash flows (signed).

    nights: carried from sessions that have closed since: the debit pays rate / 360 for each. The debit is what open
    shorts were sold for less cash, if above zero: a short sale's proceeds do not reduce it. The day's regulatory fees are
    then rounded up to the cent. opens_session: yesterday's stock trades have settled.
    """
    interest, other = 0.0, 0.0
    cash, day_fees, unsettled = book.cash, book.day_fees, book.unsettled
    if nights > 0:
        debit = max(0.0, book.short_proceeds.sum() - cash)
        interest = np.ceil(debit * terms.interest_rate / 360.0 * nights * 100.0 - 1e-6) / 100.0
        other = day_fees - np.ceil(day_fees * 100.0 - 1e-6) / 100.0
        cash += other - interest
        day_fees = 0.0
    if opens_session:
        unsettled = 0.0
    return Book(cash, unsettled, day_fees, book.quantity, book.short_proceeds), interest, other


def fill(book: Book, terms: Terms, marks: Array, opens: Array, symbol: Index, wanted: Array) -> tuple[Book, Fills]:
    """Fill market orders [K], in their order, at the open of the bar that starts now.

    marks [S]: last known closes. opens [S]: NaN where no bar starts. symbol, wanted [K]: row and signed quantity. A buy
    pays the open plus half-spread and slippage, a sale gets it less both. An order that adds risk fills as far as buying
    power goes; one that crosses zero stops there; a coin is never sold short.
    """
    quantity, proceeds = book.quantity.copy(), book.short_proceeds.copy()
    cash, unsettled, day_fees = book.cash, book.unsettled, book.day_fees
    filled = np.zeros((5, len(symbol)))
    for k in range(len(symbol)):
        s, q = symbol[k], wanted[k]
        if np.isnan(opens[s]):
            continue
        price = _price(opens[s], terms.half_spread[s] + terms.slippage[s], q)
        if quantity[s] * q < 0:
            q = np.sign(q) * min(abs(q), abs(quantity[s]))
        elif terms.crypto[s] and q < 0:
            continue
        else:
            power = _power(cash, unsettled, quantity, proceeds, marks, terms, s)
            cost = price * (1.0 + terms.taker) if terms.crypto[s] else price
            step = terms.increment[s]
            q = np.sign(q) * min(abs(q), round(np.floor(max(power, 0.0) / cost / step + 1e-9) * step, 9))
        if q == 0:
            continue
        fee = _fee(q, price, terms, s)
        cash -= q * price + fee
        if not terms.crypto[s]:
            unsettled -= q * price
            day_fees += fee
        if quantity[s] <= 0 and q < 0:
            proceeds[s] -= q * price
        elif quantity[s] < 0:
            proceeds[s] *= 1.0 - q / -quantity[s]
        quantity[s] = round(quantity[s] + q, 9)
        if quantity[s] == 0:
            proceeds[s] = 0.0
        total = terms.half_spread[s] + terms.slippage[s]
        lost = abs(q) * abs(price - opens[s])
        share = terms.half_spread[s] / total if total > 0 else 0.0
        filled[:, k] = (q, price, fee, lost * share, lost * (1.0 - share))
    return Book(cash, unsettled, day_fees, quantity, proceeds), Fills(filled[0], filled[1], filled[2], filled[3], filled[4])


def _price(open_: float, away: float, q: float) -> float:
    """The open moved against the trader and rounded to a tick against him: 0.0001 from a dollar up, a billionth below."""
    digits = 4 if open_ >= 1.0 else 9
    scale = 10.0**digits
    if q > 0:
        return float(round(np.ceil(open_ * (1.0 + away) * scale - 1e-6) / scale, digits))
    return float(round(np.floor(open_ * (1.0 - away) * scale + 1e-6) / scale, digits))


def _fee(q: float, price: float, terms: Terms, s: int) -> float:
    if terms.crypto[s]:
        return float(np.ceil(abs(q) * price * terms.taker * 100.0 - 1e-6) / 100.0)
    fee = abs(q) * terms.cat
    if q < 0:
        fee += -q * price * terms.sec + min(-q * terms.taf, terms.taf_cap)
    return float(np.ceil(fee * 1e6 - 1e-6) / 1e6)


def _power(cash: float, unsettled: float, quantity: Array, proceeds: Array, marks: Array, terms: Terms, s: int) -> float:
    """USD of additional exposure the broker allows: unborrowed settled cash for a coin, margin for a stock."""
    if terms.crypto[s]:
        return cash - max(unsettled, 0.0) - float(proceeds.sum()) - 0.01  # the fee is rounded up to the cent
    equity, stock, coins = cash, 0.0, 0.0
    for r in range(len(quantity)):
        if quantity[r] != 0.0:
            value = quantity[r] * marks[r]
            equity += value
            if terms.crypto[r]:
                coins += abs(value)
            else:
                stock += abs(value)
    leverage = terms.leverage if equity >= terms.margin_equity else min(terms.leverage, 1.0)
    return leverage * (equity - coins) - stock
