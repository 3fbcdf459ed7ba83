"""Numbers that others have written or given, before anything is computed with them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Context, Decimal
from fractions import Fraction
from numbers import Rational, Real

from foundation.errors import InputError

LARGEST = 14  # digits before the point but one: a thousand million million
FINEST = -24  # digits behind it
INFINITE = Decimal("Infinity")
EXACT = Context(prec=100)  # the sum and product of two bounded numbers have fewer digits
# Python reads 1_000 as well, and the digits of every script.
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def is_bounded(number: Decimal) -> bool:
    """Whether sums and products of it stay numbers.

    Decimal reads `NaN`, `Infinity` and any exponent: a sum with 1e9999999 overflows, and a product
    with 1e-9999999 has ten million digits.
    """
    exponent = number.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= FINEST and number.adjusted() <= LARGEST


def plain_number(text: str) -> Decimal:
    """The number that a text is, in digits 0 to 9, with a point and an exponent or without.

    Raises ValueError for anything else, `1_000` and full-width digits among it: what is a slip may
    not be money.
    """
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{text[:50]!r} is no number")
    return Decimal(text)


ZERO = Fraction(0)


def as_written(number: Fraction | Decimal | float) -> Fraction:
    """The number as it is written: 0.1 is a tenth."""
    return Fraction(number if isinstance(number, Fraction | Decimal) else repr(float(number)))


def exact_number(value: object, name: str) -> Fraction:
    """A number that a caller gave, as the fraction that its digits are.

    name: of the argument, for messages.
    """
    # A bool is an integer for Python, and numpy's is none.
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise InputError(f"{name}: {str(value)[:50]!r} ({type(value).__name__}) is no number")
    if isinstance(value, Rational):
        exact = Fraction(int(value.numerator), int(value.denominator))
    else:
        written = Decimal(str(value))
        if not written.is_finite():
            raise InputError(f"{name}: {value} is no number")
        if not is_bounded(written):
            raise InputError(f"{name}: {value} is no amount that an account could hold")
        exact = Fraction(written)
    if abs(exact) >= 10 ** (LARGEST + 1):
        raise InputError(f"{name}: it is no amount that an account could hold")
    return exact


def plain(number: Decimal) -> str:
    """A number as text without an exponent; equal numbers are equal texts."""
    return f"{EXACT.normalize(EXACT.plus(number)):f}"


def total(numbers: Iterable[Decimal]) -> Decimal:
    """The sum of numbers, exact in any order."""
    whole = Decimal(0)
    for number in numbers:
        whole = EXACT.add(whole, number)
    return whole
