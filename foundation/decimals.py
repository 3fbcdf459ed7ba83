"""Numbers that others have written or given, and amounts of money in whole cents."""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable, Mapping
from decimal import Context, Decimal
from fractions import Fraction
from numbers import Rational, Real
from typing import TypeVar

from foundation.errors import InputError

Name = TypeVar("Name", bound=Hashable)
Column = TypeVar("Column", bound=Hashable)

CENT = Decimal("0.01")
MAX_EXPONENT = 14  # digits before the point but one: a thousand million million
MIN_EXPONENT = -24  # digits behind it
INFINITY = Decimal("Infinity")
EXACT_CONTEXT = Context(prec=100)  # the sum and product of two bounded numbers have fewer digits
# Python reads 1_000 as well, and the digits of every script.
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def is_bounded(number: Decimal) -> bool:
    """Whether sums and products of it stay numbers.

    Decimal reads `NaN`, `Infinity` and any exponent: a sum with 1e9999999 overflows, and a product
    with 1e-9999999 has ten million digits.
    """
    exponent = number.as_tuple().exponent
    return (
        isinstance(exponent, int) and exponent >= MIN_EXPONENT and number.adjusted() <= MAX_EXPONENT
    )


def parse_number(text: str) -> Decimal:
    """The number that a text is, in digits 0 to 9, with a point and an exponent or without.

    Raises ValueError for anything else, `1_000` and full-width digits among it: what is a slip may
    not be money.
    """
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{text[:50]!r} is no number")
    return Decimal(text)


ZERO = Fraction(0)


def to_fraction(number: Fraction | Decimal | float) -> Fraction:
    """The number as it is written: 0.1 is a tenth."""
    return Fraction(number if isinstance(number, Fraction | Decimal) else repr(float(number)))


def check_amount(value: object, name: str) -> Fraction:
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
    if abs(exact) >= 10 ** (MAX_EXPONENT + 1):
        raise InputError(f"{name}: it is no amount that an account could hold")
    return exact


def plain_text(number: Decimal) -> str:
    """A number as text without an exponent; equal numbers are equal texts."""
    return f"{EXACT_CONTEXT.normalize(EXACT_CONTEXT.plus(number)):f}"


def exact_sum(numbers: Iterable[Decimal]) -> Decimal:
    """The sum of numbers, exact in any order."""
    whole = Decimal(0)
    for number in numbers:
        whole = EXACT_CONTEXT.add(whole, number)
    return whole


def cents_that_add_up(
    parts: Mapping[Name, Fraction | Decimal | float], total: Decimal
) -> dict[Name, Decimal]:
    """USD amounts rounded to the cent so that they add up to their total.

    Each is rounded down; the cents that are then missing go to the largest remainders.

    Raises ValueError where the parts are further from the total than rounding can be.
    """
    exact = {name: 100 * to_fraction(usd) for name, usd in parts.items()}
    whole = {name: math.floor(cents) for name, cents in exact.items()}
    missing = int(total / CENT) - sum(whole.values())
    if not 0 <= missing <= len(parts):
        added = float(sum(exact.values()) / 100)
        raise ValueError(f"parts of {added} USD do not add up to {total} USD")
    by_remainder = sorted(exact, key=lambda name: exact[name] - whole[name], reverse=True)
    for name in by_remainder[:missing]:
        whole[name] += 1
    return {name: CENT * cents for name, cents in whole.items()}


def table_that_adds_up(
    cells: Mapping[Name, Mapping[Column, float]],
    rows: Mapping[Name, Decimal],
    columns: Mapping[Column, Decimal],
) -> dict[Name, dict[Column, Decimal]]:
    """USD amounts rounded to the cent so that every row and every column adds up to its total.

    Columns are rounded first. Rows that then have a cent too many give it to rows that lack one, in
    a column in which both have something, or one of them: nothing in all rows stays nothing.

    Raises ValueError where the cells are further from the totals than rounding can be.
    """
    if sum(rows.values()) != sum(columns.values()):
        raise ValueError(
            f"rows of {sum(rows.values())} USD, columns of {sum(columns.values())} USD"
        )
    table: dict[Name, dict[Column, Decimal]] = {row: {} for row in cells}
    for column, total in columns.items():
        parts = {row: own[column] for row, own in cells.items()}
        for row, usd in cents_that_add_up(parts, total).items():
            table[row][column] = usd
    missing = {row: int((rows[row] - sum(own.values())) / CENT) for row, own in table.items()}
    if any(abs(count) > 2 * len(columns) for count in missing.values()):
        raise ValueError("the cells of a row do not add up to its total")
    givers = [row for row, count in missing.items() for _ in range(-count)]
    takers = [row for row, count in missing.items() for _ in range(count)]
    for giver, taker in zip(givers, takers, strict=True):
        both = {c: sorted((abs(cells[giver][c]), abs(cells[taker][c]))) for c in columns}
        column = max(columns, key=both.__getitem__)
        table[giver][column] -= CENT
        table[taker][column] += CENT
    return table


def to_cents(usd: Fraction | Decimal | float) -> Decimal:
    """USD, to the nearest cent; nothing has no sign."""
    return CENT * round(100 * to_fraction(usd))
