"""An account as a decision sees it: the panel's symbols, then what is held and open beside them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from execution.orders import Account
from foundation.arrays import Mask
from sizing.problem import AccountRow
from trainingdata.bars import Bars
from trainingdata.instruments import is_coin


class BookState(NamedTuple):
    """The rows of an account, N of them.

    symbols: [N] their names; empty for what an open order has yet to take off a position.
    crypto: [N] which are coins.
    reductions: symbols of these last ones.
    row: what is held and open.
    """

    symbols: tuple[str, ...]
    crypto: Mask
    row: AccountRow
    reductions: tuple[str, ...] = ()


def book_state(bars: Bars, account: Account) -> BookState:
    """The account over the panel's symbols, then over what it holds outside the panel."""
    exposure = account.exposure
    outside = [symbol for symbol in exposure if symbol not in bars.symbols]
    # An open reduction is counted as done in the exposure. Until it has filled the position is
    # still there and margin is still needed for it, so it keeps its part of every ceiling.
    reductions = account.open_reductions
    symbols = (*bars.symbols, *outside)
    quantities = [float(exposure.get(symbol, 0)) for symbol in symbols]
    quantities += [float(quantity) for quantity in reductions.values()]
    named = (*symbols, *reductions)
    fixed = len(named) - len(bars.symbols)
    row = AccountRow(
        quantity=np.array(quantities),
        price=np.array([account.prices.get(symbol, np.nan) for symbol in named]),
        increment=np.array([float(item.increment) for item in bars.instruments] + fixed * [0.0]),
        # What is held outside the panel is never traded.
        tradable=np.append(bars.tradable, np.zeros(fixed, dtype=bool)),
        positions=len(symbols),
        equity=account.equity,
        unborrowed=account.unborrowed_cash,
        leverage=account.leverage,
        shorting=account.shorting,
        free=account.free,
    )
    beside = [is_coin(symbol) for symbol in named[len(bars.symbols) :]]
    crypto = np.append(bars.crypto, np.array(beside, dtype=bool))
    names = (*symbols, *[""] * len(reductions))
    return BookState(names, crypto, row, tuple(reductions))
