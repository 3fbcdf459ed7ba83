"""State of a simulated account, instrument constants and daily rates, as numpy arrays.

Records are rows of structured arrays, whose fields compiled code reads by name. The account log
is the array in which settlement records fills and cash flows, in order. Amounts in USD and
quantities are float64 rounded to fixed grids: prices to a tick, quantities to a billionth, fees to
a millionth of a USD or to a cent. Rounding keeps sums exact to far below a cent.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np

from foundation.arrays import Array, StructuredArray
from foundation.compiled import jit_inline

NumpyRecord = Any  # one row of a structured array, as machine code sees it


def _codes(first: int, end: int) -> tuple[int, ...]:
    """Return the integers from `first` to `end` - 1 as numpy integers.

    Plain Python integers would slow down compilation: Numba compiles a called function again for
    each literal integer that it receives, but only once for all numpy integers.
    """
    return cast(tuple[int, ...], tuple(np.arange(first, end)))


# Kinds of order.
MARKET, LIMIT, STOP, STOP_LIMIT, TRAILING = _codes(0, 5)
# Times in force.
DAY_ORDER, GTC, ON_OPEN, ON_CLOSE = _codes(0, 4)
# States. WORKING orders meet the bars.
WORKING, FILLED, CANCELLED, EXPIRED = _codes(0, 4)
# Causes of entries in the account log: fills first; from DIVIDEND on, other cash flows.
BY_ORDER, BY_CRYPTO_FEE, BY_LIQUIDATION, BY_SPLIT, BY_DELISTING = _codes(0, 5)
DIVIDEND, SPLIT_CASH, INTEREST, CASH_INTEREST, BORROW, ROUNDING = _codes(5, 11)

(NO_ORDER,) = _codes(-1, 0)
NO_SYMBOL = NO_ORDER  # replaces the symbol of a flow that belongs to no symbol
FIRST_LEG, SECOND_LEG = _codes(0, 2)  # an order's place among the orders of one decision and symbol
MAKER, TAKER = cast(bool, np.True_), cast(bool, np.False_)
QUANTITY_STEPS_PER_UNIT = 1e9  # quantities are whole billionths, the smallest step of any venue
FEE_STEPS_PER_USD = 1e6  # fees of a fill are whole millionths of a USD
CENTS_PER_USD = 100.0
TWO_ULPS = 2.0**-51  # two units in the last place of a float, relative
NOT_FROZEN_DATE = np.iinfo(np.int64).min  # a date before all others; those before 1970 are below 0

CASH_FLOW_FIELDS = (
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
ACCOUNT_DTYPE = np.dtype(
    [
        ("cash", "f8"),  # negative: borrowed
        ("unsettled", "f8"),  # net proceeds of stock trades that settle when the next session opens
        ("day_fees", "f8"),  # regulatory fees of today; the sum is rounded up at the close
        ("equity", "f8"),  # at the marks, as are the next two
        ("stock", "f8"),  # gross value
        ("crypto", "f8"),
        ("short_proceeds", "f8"),  # sale proceeds of open shorts
        ("unsettled_short_proceeds", "f8"),  # the part from today's sales, which has not settled
        ("reserved_cash", "f8"),  # cost of the waiting crypto buy orders
        ("reserved_stock", "f8"),  # gross exposure that waiting stock orders would add
        ("called", "i8"),  # 1 while a margin call is open
        ("deficit", "f8"),  # unmet intraday margin deficit
        ("deficit_age", "i8"),  # closes since the deficit arose
        ("frozen_until", "i8"),  # New York date, days since 1970; NOT_FROZEN_DATE if none
        ("maker", "f8"),  # the crypto venue's current fee rates
        ("taker", "f8"),
        ("crypto_traded", "f8"),  # USD, today
        ("margin_calls", "i8"),  # since the account began, as are the next three
        ("deficits", "i8"),
        ("freezes", "i8"),
        ("refusals", "i8"),  # orders refused or cut for lack of buying power
        ("tape_length", "i8"),  # entries written to the account log
        *((name, "f8") for name in CASH_FLOW_FIELDS),  # USD at this instant
    ],
    align=True,
)
HOLDING_DTYPE = np.dtype(
    [
        ("quantity", "f8"),  # signed
        ("mark", "f8"),  # last close; NaN before the first
        ("short_proceeds", "f8"),  # sale proceeds of an open short
        ("unsettled_short_proceeds", "f8"),  # the part from today's sales
        ("called", "f8"),  # quantity that the broker closes for a margin call, above 0
        ("fillable", "f8"),  # quantity that may still fill in the current bar
        ("bought", "f8"),  # by market orders in the current bar; raises their impact
        ("sold", "f8"),  # by market orders in the current bar, positive
        # The fields below are constant during a run.
        ("crypto", "i8"),  # 1 for crypto
        ("increment", "f8"),
        (
            "min_order_value",
            "f8",
        ),  # USD, minimum value of an order that does not close the position
        ("dust", "f8"),  # USD, minimum value of a position that can be closed
        ("half_spread", "f8"),  # fraction of price
        ("slippage", "f8"),  # fraction of price
        ("impact", "f8"),  # adds impact · volatility · √(quantity / volume of the bar) to slippage
        ("requirement", "f8"),  # special maintenance rate; 0 for the rate of the general table
        ("borrow_rate", "f8"),  # per year, of a short's value
    ],
    align=True,
)
ORDER_DTYPE = np.dtype(
    [
        ("number", "i8"),
        ("symbol", "i8"),
        ("quantity", "f8"),  # signed, unfilled
        ("kind", "i8"),
        ("time_in_force", "i8"),
        ("limit", "f8"),
        ("stop", "f8"),
        ("trail", "f8"),  # distance of a trailing stop, USD; 0 if given as a fraction
        ("trail_fraction", "f8"),  # distance as a fraction of price; 0 if given in USD
        ("active_from", "i8"),  # instant (ns): fills on no bar that starts earlier
        ("reduces", "i8"),  # 1: it only reduces, even if the position changed after it was sent
        ("state", "i8"),
    ],
    align=True,
)
# Cash changes by Σ usd - quantity · price - fee over the account log, a position by Σ quantity.
ACCOUNT_LOG_DTYPE = np.dtype(
    [
        ("at", "i8"),  # ns on a timeline; the row number in a replay of weights
        ("number", "i4"),  # order number
        ("cause", "i4"),
        ("symbol", "i4"),
        ("quantity", "f8"),  # signed
        ("price", "f8"),
        ("fee", "f8"),  # USD paid
        ("spread", "f8"),  # USD, included in the price, as is slippage
        ("slippage", "f8"),  # for a delisting: the last price less the delisting price
        ("usd", "f8"),  # cash flow that is not a fill; negative if paid
    ],
    align=True,
)
DAY_TERMS_DTYPE = np.dtype(
    [
        ("date", "i8"),  # New York, days since 1970
        ("sec", "f8"),  # per USD sold
        ("taf", "f8"),  # per share sold
        ("taf_cap", "f8"),  # USD a trade
        ("cat", "f8"),  # per share
        ("commission", "f8"),  # fraction of traded value
        ("commission_per_share", "f8"),
        ("interest_rate", "f8"),  # a year, on the debit
        ("cash_rate", "f8"),  # a year, on idle cash
        ("leverage", "f8"),  # limit of stock gross over equity less crypto
        ("margin_equity", "f8"),  # USD; 1× and no shorts below
        ("order_price_buffer", "f8"),  # multiple of the price at which an opening order is checked
        ("interest_by_settlement", "i8"),  # 1: interest on cash less unsettled proceeds
        ("credits_short_proceeds", "i8"),  # 1: proceeds of shorts reduce the debit
        ("volume_share", "f8"),  # fraction of a bar's volume that may fill; inf ignores volume
        ("cuts_to_power", "i8"),  # 1: an order beyond buying power is cut to it; 0: it is refused
        (
            "carries_remainder",
            "i8",
        ),  # 1: a market order's unfilled remainder stays open; 0: it is cancelled
    ],
    align=True,
)


class Book(NamedTuple):
    """State of a simulated account, updated in place by settlement.

    account: [1] record of dtype ACCOUNT: cash, equity, margin state and cash flows.
    holdings: [S] records of dtype HOLDING_DTYPE: position and constants of each symbol.
    orders: [K] records of dtype ORDER: orders sent to the broker, in the order of sending.
    crypto_volume_by_day: [31] USD traded in crypto on each date; the index is the date's day number
        modulo 31.
    fee_tiers: [N, 3] the crypto venue's fee tiers: 30-day volume in USD, maker rate, taker rate.
    """

    account: StructuredArray
    holdings: StructuredArray
    orders: StructuredArray
    crypto_volume_by_day: Array
    fee_tiers: Array


class ReferencePrices(NamedTuple):
    """Prices at which orders fill, with the volume and volatility of their bars, [S] each.

    Price and volume are NaN for symbols without a bar.

    prices: USD; the open of each bar, or the close of each bar that ends a session.
    volumes: volume of each bar.
    volatilities: standard deviation of the return over one bar.
    """

    prices: Array
    volumes: Array
    volatilities: Array


@jit_inline
def replace_orders(book: Book, orders: StructuredArray) -> Book:
    """Return the book with its orders replaced by `orders`."""
    return Book(book.account, book.holdings, orders, book.crypto_volume_by_day, book.fee_tiers)


@jit_inline
def round_quantity(quantity: float) -> float:
    """Round a quantity to the nearest billionth of a share or coin; integers are unchanged."""
    if quantity == np.floor(quantity):
        return float(quantity)
    return float(np.rint(quantity * QUANTITY_STEPS_PER_UNIT) / QUANTITY_STEPS_PER_UNIT)


# Both tolerate a millionth of a unit, or two ulps if that is more: a product one ulp beyond an
# exact multiple would otherwise move by a whole unit.
@jit_inline
def round_up_to_step(value: float, steps_per_unit: float) -> float:
    """Round a value up to a multiple of 1 / `steps_per_unit`."""
    parts = value * steps_per_unit
    return float(np.ceil(parts - max(1e-6, abs(parts) * TWO_ULPS)) / steps_per_unit)


@jit_inline
def round_down_to_step(value: float, steps_per_unit: float) -> float:
    """Round a value down to a multiple of 1 / `steps_per_unit`."""
    parts = value * steps_per_unit
    return float(np.floor(parts + max(1e-6, abs(parts) * TWO_ULPS)) / steps_per_unit)


@jit_inline
def round_to_cent(usd: float) -> float:
    """Round an amount of USD to cents, half to even."""
    return float(np.rint(np.rint(usd * 1e8) / 1e6) / CENTS_PER_USD)


@jit_inline
def append_fill(
    account: NumpyRecord,
    account_log: StructuredArray,
    at: int,
    order_number: int,
    cause: int,
    symbol_index: int,
    quantity: float,
    price: float,
    fee: float,
    spread: float,
    slippage: float,
) -> None:
    """Append a fill of symbol number `symbol_index` to the account log."""
    entry = account_log[account.tape_length]
    account.tape_length += 1
    entry.at = at
    entry.number = order_number
    entry.cause = cause
    entry.symbol = symbol_index
    entry.quantity = quantity
    entry.price = price
    entry.fee = fee
    entry.spread = spread
    entry.slippage = slippage
    entry.usd = 0.0


@jit_inline
def append_cash_flow(
    account: NumpyRecord,
    account_log: StructuredArray,
    at: int,
    cause: int,
    symbol_index: int,
    usd: float,
) -> None:
    """Append a cash flow that is not a fill to the account log, unless the amount is zero."""
    if usd != 0.0:
        append_fill(
            account, account_log, at, NO_ORDER, cause, symbol_index, 0.0, 0.0, 0.0, 0.0, 0.0
        )
        account_log[account.tape_length - 1].usd = usd


@jit_inline
def max_logged_cash_flows(symbol_count: int, corporate_action_count: int) -> int:
    """Return the maximum number of cash flows that one step appends to the account log.

    A step records at most two cash flows for each corporate action, one borrow fee for each symbol,
    and three cash flows for the account as a whole.

    symbol_count: number of symbols.
    corporate_action_count: number of corporate actions.
    """
    return 2 * corporate_action_count + symbol_count + 3


def create_book(capital: float, holdings: StructuredArray, fee_tiers: Array) -> Book:
    """Create the state of an account with cash and no positions.

    capital: USD.
    holdings: [S] records of dtype HOLDING_DTYPE, with the constants of each symbol.
    fee_tiers: [N, 3] the crypto venue's fee tiers: 30-day volume in USD, maker rate, taker rate.
    """
    account = np.zeros(1, ACCOUNT_DTYPE)
    holdings = holdings.copy()
    for name in ("cash", "equity"):
        account[name] = capital
    account["maker"], account["taker"] = fee_tiers[0, 1:]
    account["frozen_until"] = NOT_FROZEN_DATE
    holdings["mark"] = np.nan
    holdings["fillable"] = np.inf
    orders = np.zeros(0, ORDER_DTYPE)
    return Book(account, holdings, orders, np.zeros(31), fee_tiers)


def set_opening_balance(
    book: Book, cash: float, quantities: Array, closes: Array, short_proceeds: Array | None = None
) -> None:
    """Set the opening balance of a book: cash and settled positions.

    cash: USD; negative if borrowed.
    quantities: [S] signed positions.
    closes: [S] last close of each symbol, USD; NaN if unknown.
    short_proceeds: [S] USD received from the sale of each short position; None: the value of each
        short at its close.
    """
    account = book.account[0]
    account["cash"] = cash
    book.holdings["quantity"] = quantities
    stocks = book.holdings["crypto"] == 0
    if short_proceeds is None:
        short = stocks & (quantities < 0)
        # Settlement keeps proceeds in whole millionths.
        short_proceeds = (
            np.rint(np.where(short, -quantities * closes, 0.0) * FEE_STEPS_PER_USD)
            / FEE_STEPS_PER_USD
        )
    book.holdings["short_proceeds"] = short_proceeds
    account["short_proceeds"] = short_proceeds.sum()


def create_account_log(capacity: int) -> StructuredArray:
    """Allocate an empty account log with space for `capacity` fills and cash flows.

    Unwritten entries take no physical memory.
    """
    return np.empty(capacity, ACCOUNT_LOG_DTYPE)
