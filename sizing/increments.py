"""Rounding of quantities to whole lots, and the minimum value of an order."""

from __future__ import annotations

import numpy as np

from foundation.compiled import jit_inline

DIVISION_TOL = 1.2e-16  # relative rounding error of a division
LOT_TOL = 1e-6  # share of a lot by which a float may fall short of a whole lot


@jit_inline
def count_lots(quantity: float, lot_size: float) -> float:
    """Return the signed number of whole lots in a quantity, rounded towards zero.

    lot_size: size of a lot.
    """
    size = abs(quantity)
    count = size if lot_size == 1.0 else size / lot_size
    # 0.3 / 0.1 is slightly below 3. Rounded down it would be 2 lots, and a weight computed from a
    # held quantity would be one lot short of that quantity.
    count = np.floor(count + count * DIVISION_TOL + LOT_TOL)
    return float(count if quantity > 0 else -count)


@jit_inline
def required_order_value(is_closing: bool, min_value: float, dust_threshold: float) -> float:
    """Return the minimum value of an order in USD, depending on whether it closes a position.

    The rule is that of `OrderSizeLimits.min_value_when_sent`.

    is_closing: whether the order closes a whole position.
    min_value: minimum value in USD of an order that does not close a position.
    dust_threshold: minimum value in USD of a closing order.
    """
    return dust_threshold if is_closing else min_value
