"""What the broker lends, and for how much: one set of terms for settlement and for the decision."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from execution.fees import DatedRate, rates_on
from foundation.arrays import Array, Instants
from foundation.errors import InputError
from trainingdata.instants import new_york_date
from trainingdata.instruments import instrument

# Brokers charge debit · rate / 360 for every night, so that a Friday's debit costs three of them.
DAYS_A_YEAR = 360.0


@dataclass(frozen=True, slots=True)
class SymbolRate:
    """A rate of one symbol: a fraction of its value, 0 to 10, a year where it is interest."""

    symbol: str
    rate: float

    def __post_init__(self) -> None:
        instrument(self.symbol)
        if not 0 <= self.rate < 10:
            raise InputError(f"margin: rate {self.rate} of {self.symbol} is outside 0 … 10")


@dataclass(frozen=True, slots=True)
class MarginTerms:
    """What the broker lends, and for how much; interest is simple: yearly rate / 360 a night.

    regime: `current` applies today's rules to every date, `dated` the pattern-day-trader rule
        before 2026-06-04.
    leverage: what the broker lends intraday, stock gross over equity, at least 1, from
        margin_equity up; 1× below it. `Limits` is what the trader allows itself within that.
    margin_equity: USD of equity from which the broker lends.
    order_margin: market buys and short sales are checked at so many times their price, 1 to 2.
    interest_rate: on the debit carried overnight, 0 to 10, where interest_rates says nothing.
    interest_rates: the same by date.
    debit: `trade` counts today's trades, `settlement` only those that have settled.
    short_proceeds: what a short was sold for is `held` against it, or `credited` against the debit.
    cash_rate: earned by idle cash, 0 to 10.
    borrow_rate: of a short's value, 0 to 10.
    borrow_rates: the same by symbol.
    requirements: maintenance by symbol, a fraction of market value, where it is above the
        ordinary: 0.5 for a 2× fund, 0.75 for a 3× one.
    """

    regime: Literal["current", "dated"] = "current"
    leverage: float = 4.0
    margin_equity: float = 2000.0
    order_margin: float = 1.03
    interest_rate: float = 0.065
    interest_rates: tuple[DatedRate, ...] = ()
    debit: Literal["trade", "settlement"] = "trade"
    short_proceeds: Literal["held", "credited"] = "held"
    cash_rate: float = 0.0
    borrow_rate: float = 0.0
    borrow_rates: tuple[SymbolRate, ...] = ()
    requirements: tuple[SymbolRate, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.leverage < float("inf"):
            raise InputError(f"margin.leverage: {self.leverage} is below 1")
        if not self.margin_equity >= 0:
            raise InputError(f"margin.margin_equity: {self.margin_equity} is negative")
        if not 1 <= self.order_margin <= 2:
            raise InputError(f"margin.order_margin: {self.order_margin} is outside 1 … 2")
        for name in ("interest_rate", "cash_rate", "borrow_rate"):
            if not 0 <= getattr(self, name) < 10:
                raise InputError(f"margin.{name}: {getattr(self, name)} is outside 0 … 10")
        dates = [rate.since for rate in self.interest_rates]
        if dates != sorted(set(dates)):
            raise InputError(f"margin.interest_rates: dates must increase, got {', '.join(dates)}")
        for name in ("borrow_rates", "requirements"):
            rates = Counter(instrument(rate.symbol).symbol for rate in getattr(self, name))
            for symbol, count in rates.items():
                if count > 1:
                    raise InputError(f"margin.{name}: {symbol} is there {count} times")

    def interest_rate_on(self, dates: Instants) -> Array:
        """[N] what a USD borrowed costs a year, in force on New York dates."""
        return rates_on(self.interest_rates, dates, self.interest_rate)[0]

    def reachable_leverage(self, leverage: float) -> float:
        """What orders can reach where the broker lends so many times equity."""
        return leverage / self.order_margin

    def nightly_rate(self, instants: Instants) -> Array:
        """[N] what a USD borrowed costs a night, as it is known at each instant."""
        return self.interest_rate_on(new_york_date(instants)) / DAYS_A_YEAR
