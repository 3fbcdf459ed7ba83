"""Numbers that others have written, before anything is computed with them."""

from __future__ import annotations

from decimal import Decimal

LARGEST = 14  # digits before the point but one: a thousand million million
FINEST = -24  # digits behind it


def is_bounded(number: Decimal) -> bool:
    """Whether sums and products of it stay numbers.

    Decimal reads `NaN`, `Infinity` and any exponent: a sum with 1e9999999 overflows, and a product
    with 1e-9999999 has ten million digits.
    """
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= FINEST and number.adjusted() <= LARGEST
