"""Fees of a fill of event contracts: fee, rounding and rebate, exact, by date.

A fill of C contracts at price P (USD) moves R = P·C USD (negative for a purchase):

    fee       = rate · C · P · (1 − P), rounded up to fee_step
    change    = R − fee, rounded down (toward −∞) to balance_step
    rounding  = R − fee − change, lost by the balance in addition to the fee
    carried  += rounding, summed over the fills of one order, taken or made
    rebate    = carried, rounded down to balance_step; it leaves carried and is paid in this fill

The cash moves by change + rebate. Two purchases of 10 YES at $0.37 as a taker, in one order:

    each:    fee 0.07 · 10 · 0.37 · 0.63 = 0.16317 → 0.1632
             change −3.70 − 0.1632 = −3.8632 → −3.87, rounding 0.0068
    first:   carried 0.0068, rebate 0,    cash −3.87
    second:  carried 0.0136, rebate 0.01, cash −3.86, carried 0.0036

The amount carried when an order ends, less than one step, is not returned. For whole contracts at
prices in whole cents, fee + rounding is a whole number of cents. So no fill has a negative fee
after its rebate. Settlement has no fee.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from event_contracts.trading.records import MICROS_PER_DOLLAR, PRICE_UNITS_PER_DOLLAR
from event_contracts.trading.rules import (
    ScaledFeeRules,
    compute_fee,
    max_purchase_cost,
    micros_to_usd,
    scale_amount,
)
from execution.orders.fees import DatedRate, rates_and_caps_on
from foundation.errors import InputError
from foundation.settings import setting, settings_class

ZERO = Decimal(0)
_FIRST_FEE_DATE = "1900-01-01"


@dataclass(frozen=True, slots=True)
class FeeRules:
    """Fee rates and rounding steps in force on one day.

    taker: fee rate of fills that take liquidity, a fraction of C · P · (1 − P).
    maker: fee rate of fills of resting orders; 0 in series without maker fees.
    fee_step: step to which a fill's fee is rounded up, USD.
    balance_step: step to which a fill's change of the balance is rounded down, USD. An order's
        accumulated rounding is returned in multiples of this step.
    """

    taker: Decimal = Decimal("0.07")
    maker: Decimal = Decimal("0.0175")
    fee_step: Decimal = Decimal("0.0001")
    balance_step: Decimal = Decimal("0.01")

    def __post_init__(self) -> None:
        for name in ("taker", "maker"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(
                    f"fees.{name}: {getattr(self, name)} must be at least 0 and below 1"
                )
        for name in ("fee_step", "balance_step"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(
                    f"fees.{name}: {getattr(self, name)} must be above 0 and at most 1"
                )

    @property
    def scaled_rules(self) -> ScaledFeeRules:
        return ScaledFeeRules(
            *(
                scale_amount(getattr(self, name), MICROS_PER_DOLLAR)
                for name in ScaledFeeRules._fields
            )
        )

    def compute_fee(self, price: Decimal, count: Decimal, *, maker: bool) -> Decimal:
        """Return the fee in USD: rate · count · price · (1 − price), rounded up to fee_step.

        Example of 10 contracts at $0.37: a taker pays 0.16317 → 0.1632, a maker 0.0407925 → 0.0408.
        """
        return micros_to_usd(
            compute_fee(
                self.scaled_rules,
                scale_amount(price, PRICE_UNITS_PER_DOLLAR),
                scale_amount(count),
                maker,
            )
        )

    def max_purchase_cost(self, price: Decimal, count: Decimal) -> Decimal:
        """Return the maximum cost of buying contracts at this price or below, USD, fees included.

        It is price · count + the larger rate's fee + count · fee_step + balance_step. Every
        contract may fill alone, with its fee rounded up, and an order loses less than one
        balance_step to rounding. 10 at $0.37: 3.70 + 0.1632 + 0.001 + 0.01 = $3.8742. Fills are of
        whole contracts.
        """
        # price + rate · price · (1 − price) grows with the price: a better price never costs more.
        return micros_to_usd(
            max_purchase_cost(
                self.scaled_rules, scale_amount(price, PRICE_UNITS_PER_DOLLAR), scale_amount(count)
            )
        )


@settings_class("fees")
class KalshiFees:
    """Settings of Kalshi's fees: rates and rounding by date, `configs/fees/kalshi.yaml`."""

    taker: tuple[DatedRate, ...] = setting(
        (DatedRate(_FIRST_FEE_DATE, 0.07),), "fee rate of orders that fill immediately, by date"
    )
    maker: tuple[DatedRate, ...] = setting(
        (DatedRate(_FIRST_FEE_DATE, 0.0175),), "fee rate of resting orders, by date"
    )
    fee_step: tuple[DatedRate, ...] = setting(
        (DatedRate(_FIRST_FEE_DATE, 0.0001),), "unit to which fees are rounded up, USD, by date"
    )
    balance_step: tuple[DatedRate, ...] = setting(
        (DatedRate(_FIRST_FEE_DATE, 0.01),), "unit to which balances are rounded down, USD, by date"
    )
    as_of: str = setting(
        "2026-11-20",
        "date, YYYY-MM-DD, whose rules apply to a market without dates (a synthetic one)",
    )

    def __post_init__(self) -> None:
        for name in ScaledFeeRules._fields:
            dates = [row.since for row in getattr(self, name)]
            if not dates or dates != sorted(set(dates)):
                raise InputError(
                    f"fees.{name}: expected at least one row, with increasing dates; got {dates}"
                )
        try:
            np.datetime64(self.as_of, "D")
        except ValueError:
            raise InputError(f"fees.as_of: {self.as_of!r} is not a date (YYYY-MM-DD)") from None

    def rules_on(self, date: str) -> FeeRules:
        """Return the rules in force on a New York date, YYYY-MM-DD."""
        return FeeRules(**{name: self._find_rate(name, date) for name in ScaledFeeRules._fields})

    def default_rules(self) -> FeeRules:
        """Return the rules of the date `as_of`, which apply to a market without a date."""
        return self.rules_on(self.as_of)

    def _find_rate(self, name: str, date: str) -> Decimal:
        table: tuple[DatedRate, ...] = getattr(self, name)
        rates, _ = rates_and_caps_on(table, np.array([date], dtype="datetime64[D]"), default=np.nan)
        if np.isnan(rates[0]):
            raise InputError(
                f"fees.{name}: no rate for {date}, the first row is later; add an earlier row"
            )
        return Decimal(str(rates[0]))
