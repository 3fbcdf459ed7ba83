"""Quantities and weights in whole increments, and the minimum value of an order."""

from __future__ import annotations

import numpy as np

from foundation.compiled import jit_inline

DIVISION_TOL = 1.2e-16  # relative, of a division
LOT_TOL = 1e-6  # of an increment: a float that fell just short of a whole step is that step


@jit_inline
def whole_lots(quantity: float, step: float) -> float:
    """Return the number of whole steps in a quantity, signed, rounded towards zero."""
    size = abs(quantity)
    count = size if step == 1.0 else size / step
    # 0.3 / 0.1 is slightly below 3. Rounded down it would be 2 steps, and a weight computed from a
    # held quantity would stand for one step less than that quantity.
    count = np.floor(count + count * DIVISION_TOL + LOT_TOL)
    return float(count if quantity > 0 else -count)


@jit_inline
def required_order_value(closes: bool, least: float, dust: float) -> float:
    """Return the minimum value of an order, USD; `OrderSizeLimits.min_sent_value` states the rule.

    closes: whether the order closes a whole position.
    least, dust: minimum in USD of any other order, and of a closing order.
    """
    return dust if closes else least
