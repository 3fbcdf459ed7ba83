"""What a market order pays beside the price it meets: half-spread, slippage, and the impact of
its size.
"""

from __future__ import annotations

import numpy as np

from foundation.compiled import inlined
from marketsimulator.account.book import Record


@inlined
def tick(price: float, up: bool) -> float:
    """The price rounded to a tick: 0.0001 from a dollar up, a billionth below."""
    scale = 1e4 if price >= 1.0 else 1e9
    return float(
        np.ceil(price * scale - 1e-6) / scale if up else np.floor(price * scale + 1e-6) / scale
    )


@inlined
def away(
    held: Record, reference: float, quantity: float, volume: float, volatility: float
) -> float:
    """What a market order pays where the price is `reference`: half-spread, slippage and impact
    against it.

    Impact is that of all a bar's market orders on the order's side: the parts of an order pay
    together what it would pay whole.
    """
    cost = held.half_spread + held.slippage
    if held.impact > 0.0 and volume > 0.0:
        before = held.bought if quantity > 0 else held.sold
        cost += held.impact * volatility * _root_share(before, abs(quantity), volume)
    return (
        tick(reference * (1.0 + cost), True)
        if quantity > 0
        else tick(reference * max(1.0 - cost, 0.0), False)
    )


@inlined
def _root_share(before: float, size: float, volume: float) -> float:
    """√(size / volume), the square-root law of impact; after `before` on the same side, what the
    last `size` add to it.

    A quantity x costs x · √(x / volume) in all, so the last part of it costs the difference of two
    such totals.
    """
    if before == 0.0 or size == 0.0:
        return float(np.sqrt(size / volume))
    after = before + size
    return float((after * np.sqrt(after / volume) - before * np.sqrt(before / volume)) / size)


@inlined
def note_taken(held: Record, q: float) -> None:
    """A market order has traded q in this bar: what follows on its side pays for more."""
    if q > 0:
        held.bought += q
    else:
        held.sold -= q
