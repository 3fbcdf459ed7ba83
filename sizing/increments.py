"""Quantities and weights in whole increments, and the least value of an order."""

from __future__ import annotations

import numpy as np

from foundation.compiled import jit_inline

DIVISION_TOL = 1.2e-16  # relative, of a division
LOT_TOL = 1e-6  # of an increment: a float that fell just short of a whole step is that step


@jit_inline
def whole_lots(quantity: float, step: float) -> float:
    """How many whole steps a quantity holds, signed, rounded towards zero."""
    size = abs(quantity)
    count = size if step == 1.0 else size / step
    # 0.3 / 0.1 is a hair below 3. Rounded down it would be 2 steps, and a weight computed from what
    # is held would stand for one step less than what is held.
    count = np.floor(count + count * DIVISION_TOL + LOT_TOL)
    return float(count if quantity > 0 else -count)


@jit_inline
def required_order_value(closes: bool, least: float, dust: float) -> float:
    """Return the value that an order needs, USD; `OrderSizeLimits.min_sent_value` states the rule.

    closes: whether it closes a whole position. least, dust: USD, of any other order, and of one
    that closes.
    """
    return dust if closes else least
