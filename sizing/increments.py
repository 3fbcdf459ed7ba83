"""Quantities and weights in whole increments, and the least value of an order."""

from __future__ import annotations

import numpy as np

from foundation.compiled import inlined

ROUNDING = 1.2e-16  # relative, of a division
FUZZ = 1e-6  # of an increment: a float that fell just short of a whole step is that step


@inlined
def whole_steps(quantity: float, step: float) -> float:
    """How many whole steps a quantity holds, signed, rounded towards zero."""
    size = abs(quantity)
    count = size if step == 1.0 else size / step
    # 0.3 / 0.1 is a hair below 3. Rounded down it would be 2 steps, and a weight computed from what
    # is held would stand for one step less than what is held.
    count = np.floor(count + count * ROUNDING + FUZZ)
    return float(count if quantity > 0 else -count)


@inlined
def least_value(closes: bool, least: float, dust: float) -> float:
    """Return the value that an order needs, USD; `OrderSizeLimits.min_sent_value` states the rule.

    closes: whether it closes a whole position. least, dust: USD, of any other order, and of one
    that closes.
    """
    return dust if closes else least
