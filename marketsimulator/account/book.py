"""The account's state, the broker's rules and a day's rates, as plain arrays for settlement.

Records are rows of numpy structured arrays, so that machine code reads them by name. USD and
quantities are float64 on fixed grids (prices a tick, quantities a billionth, fees a millionth or
a cent): sums of them stay exact to far below a cent.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np

from foundation.arrays import Array, Index, Records
from foundation.compiled import jit_inline

Record = Any  # one row of a structured array, as machine code sees it


def _codes(first: int, end: int) -> tuple[int, ...]:
    """The integers from first up to end, numpy's.

    For each of Python's own that a call is given numba compiles the called function anew.
    """
    return cast(tuple[int, ...], tuple(np.arange(first, end)))


# Kinds of order.
MARKET, LIMIT, STOP, STOP_LIMIT, TRAILING = _codes(0, 5)
# Times in force.
DAY_ORDER, GTC, ON_OPEN, ON_CLOSE = _codes(0, 4)
# States. WORKING orders meet the bars.
WORKING, FILLED, CANCELLED, EXPIRED = _codes(0, 4)
# Why there is an entry: a fill, or from DIVIDEND on a flow of cash beside the fills.
BY_ORDER, BY_CRYPTO_FEE, BY_LIQUIDATION, BY_SPLIT, BY_DELISTING = _codes(0, 5)
DIVIDEND, SPLIT_CASH, INTEREST, CASH_INTEREST, BORROW, ROUNDING = _codes(5, 11)

(NO_ORDER,) = _codes(-1, 0)
ACCOUNT_LEVEL = NO_ORDER  # in the place of a symbol: what no symbol pays or gets
FIRST_LEG, SECOND_LEG = _codes(0, 2)  # of the orders of one decision and symbol
MAKER, TAKER = cast(bool, np.True_), cast(bool, np.False_)
BILLION = 1e9  # quantities are whole billionths, the smallest step of any venue
MILLION = 1e6  # fees of a fill are whole millionths of a USD
CENTS_PER_USD = 100.0
TWO_ULPS = 2.0**-51  # of a float, as a share of it
NOT_FROZEN = np.iinfo(np.int64).min  # a date before all others; those before 1970 are below 0

FLOWS = (
    "interest",
    "fees",
    "other",
    "spread",
    "slippage",
    "crypto_fees",
    "borrow",
    "rounding",
    "dividends",
)
ACCOUNT = np.dtype(
    [
        ("cash", "f8"),  # negative: borrowed
        ("unsettled", "f8"),  # net proceeds of stock trades that settle when the next session opens
        ("day_fees", "f8"),  # regulatory fees of today; the sum is rounded up at the close
        ("equity", "f8"),  # at the marks, like the next three
        ("stock", "f8"),  # gross
        ("crypto", "f8"),
        ("short_proceeds", "f8"),  # what open shorts were sold for
        (
            "unsettled_short_proceeds",
            "f8",
        ),  # the part of it that was sold today and has not settled
        ("reserved_cash", "f8"),  # what waiting coin bids would cost
        ("reserved_stock", "f8"),  # what waiting stock orders would add to gross
        ("close_equity", "f8"),  # less coins, at the last close
        (
            "day_trading_power",
            "f8",
        ),  # day-trading buying power left, under the pattern-day-trader rule
        ("called", "i8"),  # 1 while a margin call stands
        ("deficit", "f8"),  # intraday margin deficit not met yet
        ("deficit_age", "i8"),  # closes that it has seen
        ("frozen_until", "i8"),  # New York date, days since 1970; NEVER: not frozen
        ("maker", "f8"),  # the coin venue's rates at present
        ("taker", "f8"),
        ("crypto_traded", "f8"),  # USD, today
        ("day_trades_today", "i8"),  # day trades
        ("recent_day_trades", "i8"),  # day trades in the four sessions before
        ("margin_calls", "i8"),  # since the account began, like the next three
        ("deficits", "i8"),
        ("freezes", "i8"),
        ("refusals", "i8"),  # orders refused or cut for want of buying power
        ("tape_length", "i8"),  # written on the tape
        *((name, "f8") for name in FLOWS),  # USD of this instant
    ],
    align=True,
)
HOLDING = np.dtype(
    [
        ("quantity", "f8"),  # signed
        ("mark", "f8"),  # last close; NaN before the first
        ("short_proceeds", "f8"),  # what an open short was sold for
        ("unsettled_short_proceeds", "f8"),  # the part of it that was sold today
        ("called", "f8"),  # quantity that the broker closes for a margin call, above 0
        ("opened_today", "f8"),  # signed, opened today
        ("fillable", "f8"),  # quantity that may still fill in the bar that has started
        ("bought", "f8"),  # by market orders in that bar; impact grows with it
        ("sold", "f8"),  # the same of sales, above 0
        # The rest does not change during a run.
        ("crypto", "i8"),  # 1 for a coin
        ("increment", "f8"),
        (
            "min_order_value",
            "f8",
        ),  # USD, the least value of an order, unless it closes the position
        ("dust", "f8"),  # USD, the least value of a position that can be closed
        ("half_spread", "f8"),  # fraction of price
        ("slippage", "f8"),  # fraction of price
        ("impact", "f8"),  # adds impact · volatility · √(quantity / volume of the bar) to slippage
        ("requirement", "f8"),  # special maintenance, 0 for the table's
        ("borrow_rate", "f8"),  # per year, of a short's value
    ],
    align=True,
)
ORDER = np.dtype(
    [
        ("number", "i8"),
        ("symbol", "i8"),
        ("quantity", "f8"),  # signed, what has not filled yet
        ("kind", "i8"),
        ("time_in_force", "i8"),
        ("limit", "f8"),
        ("stop", "f8"),
        ("trail", "f8"),  # distance of a trailing stop, USD; 0 where it is a fraction
        ("trail_fraction", "f8"),  # the same as a fraction of price; 0 where it is in USD
        ("active_from", "i8"),  # instant (ns): fills on no bar that starts earlier
        ("reduces", "i8"),  # 1: it never opens, whatever became of the position since it was sent
        ("state", "i8"),
    ],
    align=True,
)
# Cash changes by Σ usd - quantity · price - fee over the tape, a position by Σ quantity.
ENTRY = np.dtype(
    [
        ("at", "i8"),  # ns on a timeline, the row of given weights
        ("number", "i4"),  # of its order
        ("cause", "i4"),
        ("symbol", "i4"),
        ("quantity", "f8"),  # signed
        ("price", "f8"),
        ("fee", "f8"),  # USD taken
        ("spread", "f8"),  # USD, in the price already, like the next
        ("slippage", "f8"),  # of an end: what its price is short of the last one
        ("usd", "f8"),  # got, below 0 where it is paid: of a flow beside the fills
    ],
    align=True,
)
DAY_TERMS = np.dtype(
    [
        ("date", "i8"),  # New York, days since 1970
        ("sec", "f8"),  # per USD sold
        ("taf", "f8"),  # per share sold
        ("taf_cap", "f8"),  # USD a trade
        ("cat", "f8"),  # per share
        ("commission", "f8"),  # fraction of what is traded
        ("commission_per_share", "f8"),
        ("interest_rate", "f8"),  # a year, on the debit
        ("cash_rate", "f8"),  # a year, on idle cash
        ("leverage", "f8"),  # stock gross over equity less coins
        ("margin_equity", "f8"),  # USD; 1× and no shorts below
        ("order_price_buffer", "f8"),  # times its price, at which an order that opens is checked
        ("pattern_day_trader_rule", "i8"),  # 1 while the pattern-day-trader rule is in force
        ("interest_by_settlement", "i8"),  # 1: interest on cash less unsettled proceeds
        ("credits_short_proceeds", "i8"),  # 1: what shorts were sold for reduces the debit
        ("volume_share", "f8"),  # of a bar's volume that may fill; inf: volume does not matter
        ("cuts_to_power", "i8"),  # 1: an order beyond buying power is cut to it, else refused
        (
            "carries_remainder",
            "i8",
        ),  # 1: what a bar leaves of a market order stays open, else is cancelled
    ],
    align=True,
)


class Book(NamedTuple):
    """State of an account, changed in place by settlement.

    account: [1] ACCOUNT.
    holding: [S] HOLDING.
    orders: [K] ORDER, in the order in which they were sent.
    crypto_volume: [31] USD traded in coins, by date modulo 31.
    tiers: [N, 3] the coin venue's 30-day volume in USD, maker, taker.
    day_trades: [4] of the sessions before today's.
    """

    account: Records
    holding: Records
    orders: Records
    crypto_volume: Array
    tiers: Array
    day_trades: Index


class BarOpens(NamedTuple):
    """What orders meet of S bars, [S] each, NaN where there is none.

    price: USD; their opens, or the closes of those that end a session.
    volume: of the bars.
    volatility: deviation of a bar's return.
    """

    price: Array
    volume: Array
    volatility: Array


@jit_inline
def replace_orders(book: Book, orders: Records) -> Book:
    """The book with these orders in the place of its own."""
    return Book(book.account, book.holding, orders, book.crypto_volume, book.tiers, book.day_trades)


@jit_inline
def round_quantity(quantity: float) -> float:
    """The quantity as the nearest billionth; a whole one is there already."""
    if quantity == np.floor(quantity):
        return float(quantity)
    return float(np.rint(quantity * BILLION) / BILLION)


# These look past a millionth of a unit, or two ulps where those are more: an exact multiple, or
# half, that the product put an ulp beyond itself would otherwise move by a whole unit.
@jit_inline
def round_up(value: float, units: float) -> float:
    """The value rounded up to a whole number of parts, of which `units` make one."""
    parts = value * units
    return float(np.ceil(parts - max(1e-6, abs(parts) * TWO_ULPS)) / units)


@jit_inline
def round_down(value: float, units: float) -> float:
    """The value rounded down to a whole number of parts, of which `units` make one."""
    parts = value * units
    return float(np.floor(parts + max(1e-6, abs(parts) * TWO_ULPS)) / units)


@jit_inline
def round_to_cent(usd: float) -> float:
    """The amount in whole cents; half a cent goes to the even one."""
    return float(np.rint(np.rint(usd * 1e8) / 1e6) / CENTS_PER_USD)


@jit_inline
def write_fill(
    account: Record,
    tape: Records,
    at: int,
    number: int,
    cause: int,
    s: int,
    quantity: float,
    price: float,
    fee: float,
    spread: float,
    slippage: float,
) -> None:
    """Append a fill of symbol s to the tape; the account counts how many entries are written."""
    entry = tape[account.tape_length]
    account.tape_length += 1
    entry.at = at
    entry.number = number
    entry.cause = cause
    entry.symbol = s
    entry.quantity = quantity
    entry.price = price
    entry.fee = fee
    entry.spread = spread
    entry.slippage = slippage
    entry.usd = 0.0


@jit_inline
def write_flow(account: Record, tape: Records, at: int, cause: int, s: int, usd: float) -> None:
    """Append a flow of cash beside the fills to the tape; nothing where there is none."""
    if usd != 0.0:
        write_fill(account, tape, at, NO_ORDER, cause, s, 0.0, 0.0, 0.0, 0.0, 0.0)
        tape[account.tape_length - 1].usd = usd


@jit_inline
def max_flows(size: int, actions: int) -> int:
    """How many flows the step to an instant can write: actions, borrow by symbol, the account's."""
    return 2 * actions + size + 3


def create_book(capital: float, holding: Records, tiers: Array) -> Book:
    """An account in cash. holding: what does not change about each symbol."""
    account = np.zeros(1, ACCOUNT)
    holding = holding.copy()
    for name in ("cash", "equity", "close_equity"):
        account[name] = capital
    account["maker"], account["taker"] = tiers[0, 1:]
    account["frozen_until"] = NOT_FROZEN
    holding["mark"] = np.nan
    holding["fillable"] = np.inf
    orders = np.zeros(0, ORDER)
    day_trades = np.zeros(4, dtype=np.int64)
    return Book(account, holding, orders, np.zeros(31), tiers, day_trades)


def set_positions(
    book: Book, cash: float, quantities: Array, closes: Array, short_proceeds: Array | None = None
) -> None:
    """Begin with positions instead of cash alone, all of them settled.

    cash: USD; below 0 it is borrowed.
    quantities: [S] signed.
    closes: [S] USD, NaN where there is none.
    short_proceeds: [S] USD that shorts were sold for; none: they count as sold at these closes.
    """
    account = book.account[0]
    account["cash"] = cash
    book.holding["quantity"] = quantities
    stocks = book.holding["crypto"] == 0
    if short_proceeds is None:
        short = stocks & (quantities < 0)
        # Whole millionths, as settlement keeps them.
        short_proceeds = np.rint(np.where(short, -quantities * closes, 0.0) * MILLION) / MILLION
    book.holding["short_proceeds"] = short_proceeds
    account["short_proceeds"] = short_proceeds.sum()
    stock_value = np.where(stocks & (quantities != 0), quantities * closes, 0.0).sum()
    account["close_equity"] = cash + stock_value


def create_tape(length: int) -> Records:
    """Room for `length` entries; what is not written takes no memory."""
    return np.empty(length, ENTRY)
