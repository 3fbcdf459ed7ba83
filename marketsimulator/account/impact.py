"""What a market order pays beside the price it meets: half-spread, slippage and impact."""

from __future__ import annotations

import numpy as np

from foundation.compiled import jit_inline
from marketsimulator.account.book import Record, round_down, round_up

FINE_TICK_BELOW = 1e-5  # USD, of which a billionth is a basis point
MIN_TICKS_PER_PRICE = 1e6  # that a price below it has at least
MAX_TICK_SCALE = 1e22  # the last power of ten that a float holds exactly


@jit_inline
def round_to_tick(price: float, up: bool) -> float:
    """The price rounded to a tick: 0.0001 from a dollar up, a billionth below.

    Below 0.00001 a tick is a power of ten, a hundredth of a basis point of the price at most.
    """
    scale = 1e4 if price >= 1.0 else 1e9
    if 0.0 < price < FINE_TICK_BELOW:
        while price * scale < MIN_TICKS_PER_PRICE and scale < MAX_TICK_SCALE:
            scale *= 10.0
    return round_up(price, scale) if up else round_down(price, scale)


@jit_inline
def market_price(
    position: Record, reference: float, quantity: float, volume: float, volatility: float
) -> float:
    """What a market order pays or gets where the price is `reference`, USD.

    Half-spread, slippage and impact go against it, and so does the rounding to a tick.
    """
    cost = position.half_spread + position.slippage
    if position.impact > 0.0 and volume > 0.0:
        # Impact is that of all market orders of the bar on this side. The parts of an order then
        # pay together what it would pay whole, and splitting it saves nothing.
        before = position.bought if quantity > 0 else position.sold
        cost += position.impact * volatility * _root_participation(before, abs(quantity), volume)
    if quantity > 0:
        return round_to_tick(reference * (1.0 + cost), True)
    return round_to_tick(reference * max(1.0 - cost, 0.0), False)


@jit_inline
def _root_participation(before: float, size: float, volume: float) -> float:
    """√(size / volume), the square-root law of impact, averaged over what follows `before`."""
    if before == 0.0 or size == 0.0:
        return float(np.sqrt(size / volume))
    # A quantity x costs x · √(x / volume) in all, so the last part of it costs the difference of
    # two such totals.
    after = before + size
    return float((after * np.sqrt(after / volume) - before * np.sqrt(before / volume)) / size)


@jit_inline
def add_market_volume(position: Record, quantity: float) -> None:
    """A market order has traded in this bar: what follows on its side pays more."""
    if quantity > 0:
        position.bought += quantity
    else:
        position.sold -= quantity
