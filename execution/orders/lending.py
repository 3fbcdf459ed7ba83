"""Terms of the broker's loans, which both settlement and decisions use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Annotated, Literal, TypeVar

import numpy as np

from execution.orders.fees import DatedRate, rates_and_caps_on
from foundation.arrays import Array, Instants
from foundation.errors import InputError
from foundation.settings import required_setting, setting, settings_class
from trainingdata.instants import new_york_date
from trainingdata.instruments import instrument

# Brokers charge debit · rate / 360 for every night, so a Friday's debit costs three of them.
INTEREST_DAYS_PER_YEAR = 360.0
Number = TypeVar("Number", float, Fraction)


def short_proceeds_after_trade(
    proceeds: Number, held: Number, quantity: Number, value: Number
) -> Number:
    """Return the proceeds of an open short position after a trade, USD.

    A sale adds its proceeds. A purchase reduces the proceeds in proportion to the quantity.

    proceeds, held: proceeds in USD and signed quantity before the trade.
    quantity, value: signed quantity and signed value of the trade, USD.
    """
    if held > 0:
        return proceeds
    if quantity < 0:
        return proceeds - value
    if quantity >= -held:
        return proceeds * 0
    return proceeds * (1 + quantity / held)


@settings_class("margin")
class SymbolRate:
    """A yearly rate or a margin requirement that applies to one symbol only."""

    symbol: Annotated[str, required_setting("symbol of a stock or of crypto")]
    rate: Annotated[
        float, required_setting("rate, fraction of market value; interest is per year", ge=0, lt=10)
    ]

    def __post_init__(self) -> None:
        try:
            instrument(self.symbol)
        except InputError as error:
            # The error message already states the key of the setting, so the prefix is redundant.
            raise ValueError(str(error).removeprefix("symbols: ")) from None


def rates_by_symbol(symbols: Sequence[str], rates: tuple[SymbolRate, ...], default: float) -> Array:
    """Return the rate of each symbol, or the default where none is listed, [S]."""
    if not rates:
        return np.full(len(symbols), default)
    by_symbol = {instrument(rate.symbol).symbol: rate.rate for rate in rates}
    return np.array([by_symbol.get(symbol, default) for symbol in symbols], dtype=float)


@settings_class("margin")
class MarginTerms:
    """Limits and rates of the broker's loans; a night costs the yearly rate / 360.

    Sources: Alpaca, "Margin and Short Selling" (leverage, margin_equity, requirements: read
    2026-11-28; order_price_buffer: read 2026-11-20); interest_rate is this project's default,
    Alpaca has published 6.25 and 6.50 % (read 2026-11-20); cash_rate and borrow_rate are
    assumptions.
    """

    leverage: float = setting(
        4.0,
        "largest intraday gross stock exposure, multiples of equity, from margin_equity up; 1× "
        "below",
        ge=1,
        le=10,
    )
    margin_equity: float = setting(2000.0, "smallest equity with which the broker lends, USD", ge=0)
    order_price_buffer: float = setting(
        1.03, "multiple of price at which the broker checks market buys and short sales", ge=1, le=2
    )
    interest_rate: float = setting(
        0.065,
        "yearly interest rate on overnight debit, unless interest_rates has a dated rate",
        ge=0,
        lt=10,
    )
    interest_rates: tuple[DatedRate, ...] = setting(
        (), 'interest rates by date: [{since: "2024-01-01", rate: 0.0675}, …]'
    )
    debit_basis: Literal["trade", "settlement"] = setting(
        "trade", "debit includes today's trades (`trade`), or only settled trades (`settlement`)"
    )
    short_proceeds: Literal["held", "credited"] = setting(
        "held",
        "short-sale proceeds: `held` as collateral of the short, or `credited` against the debit",
    )
    cash_rate: float = setting(0.0, "yearly interest rate on idle cash", ge=0, lt=10)
    borrow_rate: float = setting(
        0.0, "yearly fee for borrowed stock, fraction of the short's value", ge=0, lt=10
    )
    borrow_rates: tuple[SymbolRate, ...] = setting(
        (), "borrow fees by symbol: [{symbol: GME, rate: 0.3}, …]"
    )
    requirements: tuple[SymbolRate, ...] = setting(
        (),
        "maintenance margin of symbols above the standard, fraction of market value: 0.5 for a "
        "2× fund, 0.75 for a 3× fund",
    )

    def __post_init__(self) -> None:
        dates = [rate.since for rate in self.interest_rates]
        if dates != sorted(set(dates)):
            raise InputError(f"margin.interest_rates: dates must increase, got {', '.join(dates)}")
        for name in ("borrow_rates", "requirements"):
            rates = Counter(instrument(rate.symbol).symbol for rate in getattr(self, name))
            for symbol, count in rates.items():
                if count > 1:
                    raise InputError(
                        f"margin.{name}: {symbol} is listed {count} times; list it once"
                    )

    def interest_rate_on(self, dates: Instants) -> Array:
        """Return the yearly interest rate [N] on borrowed cash on each New York date."""
        return rates_and_caps_on(self.interest_rates, dates, self.interest_rate)[0]

    def borrow_rates_of(self, symbols: Sequence[str]) -> Array:
        """Return the yearly fee of a short position in each symbol, fraction of its value, [S]."""
        return rates_by_symbol(symbols, self.borrow_rates, self.borrow_rate)

    def nightly_rate(self, instants: Instants) -> Array:
        """Return the interest rate [N] on borrowed cash for one night, as known at each instant."""
        return self.interest_rate_on(new_york_date(instants)) / INTEREST_DAYS_PER_YEAR
