"""Execution costs of a market order: half-spread, slippage and market impact."""

from __future__ import annotations

import numpy as np

from foundation.compiled import jit_inline
from marketsimulator.account.book import NumpyRecord, round_down_to_step, round_up_to_step

FINE_TICK_MAX_PRICE = 1e-5  # USD; a billionth is a basis point of it
MIN_TICKS_PER_PRICE = 1e6  # minimum for prices below FINE_TICK_MAX_PRICE
MAX_EXACT_POWER_OF_TEN = 1e22  # the last power of ten that a float holds exactly


@jit_inline
def round_to_tick(price: float, up: bool) -> float:
    """Round a price to a tick: 0.0001 USD from one dollar up, a billionth of a USD below.

    For prices below 0.00001 USD the tick is a power of ten, at most a hundredth of a basis point of
    the price.

    up: true to round up, false to round down.
    """
    scale = 1e4 if price >= 1.0 else 1e9
    if 0.0 < price < FINE_TICK_MAX_PRICE:
        while price * scale < MIN_TICKS_PER_PRICE and scale < MAX_EXACT_POWER_OF_TEN:
            scale *= 10.0
    return round_up_to_step(price, scale) if up else round_down_to_step(price, scale)


@jit_inline
def market_order_price(
    position: NumpyRecord, reference_price: float, quantity: float, volume: float, volatility: float
) -> float:
    """Return the fill price of a market order, USD: the reference price worsened by its costs.

    The costs are half-spread, slippage, market impact and rounding to a tick.
    """
    cost = position.half_spread + position.slippage
    if position.impact > 0.0 and volume > 0.0:
        # Impact follows from all market orders of the bar on this side, so that the parts of a
        # split order pay together as much as the whole order.
        before = position.bought if quantity > 0 else position.sold
        cost += position.impact * volatility * _root_participation(before, abs(quantity), volume)
    if quantity > 0:
        return round_to_tick(reference_price * (1.0 + cost), True)
    return round_to_tick(reference_price * max(1.0 - cost, 0.0), False)


@jit_inline
def _root_participation(before: float, size: float, volume: float) -> float:
    """Return √(size / volume) of the square-root impact law, averaged over the shares of an order.

    before: quantity of earlier market orders on this side in the same bar; they raise the average.
    """
    if before == 0.0 or size == 0.0:
        return float(np.sqrt(size / volume))
    # A quantity x costs x · √(x / volume) in total, so its last part costs the difference of two
    # such totals.
    after = before + size
    return float((after * np.sqrt(after / volume) - before * np.sqrt(before / volume)) / size)


@jit_inline
def add_traded_quantity(position: NumpyRecord, quantity: float) -> None:
    """Add a market order to the quantity that the account bought or sold in the present bar.

    The sum raises the market impact of later market orders on the same side of the bar.
    """
    if quantity > 0:
        position.bought += quantity
    else:
        position.sold -= quantity
