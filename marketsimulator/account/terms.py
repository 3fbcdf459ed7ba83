"""Settings of fills, and instruments, fee tiers and daily rates as arrays for settlement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from execution.orders.fees import BASIS_POINT, FeeSchedule, TradingCosts, rates_and_caps_on
from execution.orders.lending import MarginTerms, rates_by_symbol
from execution.orders.orders import OrderSizeLimits
from foundation.arrays import Array, Instants, StructuredArray
from foundation.settings import setting, settings_class
from trainingdata.instruments import AssetClass, Instrument


@settings_class("fills")
class FillTerms:
    """Limits on how much of an order fills: shares of volume, remainders, buying power."""

    volume_share: float | None = setting(
        0.1,
        "maximum share of a bar's volume that the account may trade; null: no limit, and bars"
        " without volume fill orders too",
        gt=0,
        le=1,
    )
    feed_volume_share: float = setting(
        1.0,
        "share of the market's total volume that the bars contain; about 0.03 for IEX",
        gt=0,
        le=1,
    )
    remainder: Literal["cancel", "carry"] = setting(
        "cancel",
        "`cancel` the unfilled quantity of a market order after its bar, or `carry` it"
        " to the next bar",
    )
    shortfall: Literal["cut", "refuse"] = setting(
        "cut", "`cut` an order that exceeds buying power to the affordable quantity, or `refuse` it"
    )


def create_holdings(
    instruments: Sequence[Instrument],
    costs: TradingCosts,
    margin: MarginTerms | None = None,
    size_limits: OrderSizeLimits | None = None,
) -> StructuredArray:
    """Return the constants of each symbol (costs, lot size, margin), [S] records (HOLDING_DTYPE).

    size_limits: minimum order values; None: no minimum.
    """
    from marketsimulator.account.book import HOLDING_DTYPE

    terms = margin or MarginTerms()
    crypto = np.array([item.kind is AssetClass.CRYPTO for item in instruments], dtype=bool)
    symbols = [item.symbol for item in instruments]
    table = np.zeros(len(symbols), HOLDING_DTYPE)
    table["crypto"] = crypto
    table["increment"] = [float(item.qty_increment) for item in instruments]
    if size_limits is not None:
        table["min_order_value"] = np.where(crypto, size_limits.min_crypto_value, 0.0)
        table["dust"] = size_limits.dust_values(crypto)
    table["half_spread"] = costs.half_spread(crypto)
    table["slippage"] = costs.slippage(crypto)
    table["impact"] = costs.impact_coefficient(crypto)
    table["requirement"] = rates_by_symbol(symbols, terms.requirements, 0.0)
    table["borrow_rate"] = terms.borrow_rates_of(symbols)
    return table


def fee_tier_table(fees: FeeSchedule) -> Array:
    """Return the crypto venue's fee tiers, [N, 3]: 30-day volume in USD, maker rate, taker rate."""
    return np.array([(tier.volume, tier.maker, tier.taker) for tier in fees.crypto_tiers])


def day_terms_table(
    dates: Instants, fees: FeeSchedule, margin: MarginTerms, fills: FillTerms
) -> StructuredArray:
    """Return fees, rates and margin rules of each New York date, [D] records (DAY_TERMS_DTYPE).

    dates: [D] strictly increasing dates.
    """
    from marketsimulator.account.book import DAY_TERMS_DTYPE

    days = np.asarray(dates, dtype="datetime64[D]")
    table = np.zeros(len(days), DAY_TERMS_DTYPE)
    table["date"] = days.astype(np.int64)
    table["sec"] = rates_and_caps_on(fees.sec_per_dollar, days)[0]
    table["taf"], table["taf_cap"] = rates_and_caps_on(fees.taf_per_share, days)
    table["cat"] = rates_and_caps_on(fees.cat_per_share, days)[0]
    table["commission"] = fees.commission_bps * BASIS_POINT
    table["commission_per_share"] = fees.commission_per_share
    table["interest_rate"] = margin.interest_rate_on(days)
    for name in ("cash_rate", "leverage", "margin_equity", "order_price_buffer"):
        table[name] = getattr(margin, name)
    table["interest_by_settlement"] = margin.debit_basis == "settlement"
    table["credits_short_proceeds"] = margin.short_proceeds == "credited"
    table["volume_share"] = np.inf if fills.volume_share is None else fills.volume_share
    table["cuts_to_power"] = fills.shortfall == "cut"
    table["carries_remainder"] = fills.remainder == "carry"
    return table
