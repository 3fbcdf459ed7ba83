"""Exact numbers from texts and arguments, and money amounts in whole cents."""

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
MAX_EXPONENT = 14  # largest decimal exponent of the leading digit: numbers below 10^15
MIN_EXPONENT = -24  # smallest decimal exponent of the last digit
INFINITY = Decimal("Infinity")
EXACT_CONTEXT = Context(prec=100)  # the sum and product of two bounded numbers have fewer digits
# Python also accepts 1_000, and the digits of every script.
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def has_supported_magnitude(number: Decimal) -> bool:
    """Return whether a number is finite and small enough for exact sums and products.

    Decimal also accepts `NaN`, `Infinity` and any exponent: a sum with 1e9999999 overflows, and a
    product with 1e-9999999 has ten million digits.
    """
    exponent = number.as_tuple().exponent
    return (
        isinstance(exponent, int) and exponent >= MIN_EXPONENT and number.adjusted() <= MAX_EXPONENT
    )


def parse_number(text: str) -> Decimal:
    """Parse a number of digits 0 to 9, with optional decimal point and exponent.

    Raises ValueError for anything else, including `1_000` and full-width digits, so that a typing
    error does not become an amount of money.
    """
    if not _PLAIN_NUMBER.fullmatch(text):
        raise ValueError(f"{text[:50]!r} is not a number")
    return Decimal(text)


ZERO_FRACTION = Fraction(0)


def to_fraction(number: Fraction | Decimal | float) -> Fraction:
    """Return the exact fraction of a number's decimal digits: 0.1 gives 1/10."""
    return Fraction(number if isinstance(number, Fraction | Decimal) else repr(float(number)))


def check_amount(value: object, name: str) -> Fraction:
    """Validate a number passed by a caller; return the exact fraction of its decimal digits.

    name: name of the argument, for messages.

    Raises InputError for a value that is not a number, or is too large or too precise for an
    account.
    """
    # A bool is an integer in Python; numpy's bool is not.
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise InputError(f"{name}: {str(value)[:50]!r} ({type(value).__name__}) is not a number")
    if isinstance(value, Rational):
        exact = Fraction(int(value.numerator), int(value.denominator))
    else:
        written = Decimal(str(value))
        if not written.is_finite():
            raise InputError(f"{name}: {value} is not a finite number")
        if not has_supported_magnitude(written):
            raise InputError(
                f"{name}: {value} is too large or too precise for an account: at most"
                f" {MAX_EXPONENT + 1} digits before and {-MIN_EXPONENT} after the decimal point"
            )
        exact = Fraction(written)
    if abs(exact) >= 10 ** (MAX_EXPONENT + 1):
        raise InputError(
            f"{name}: too large for an account: at most {MAX_EXPONENT + 1} digits before the"
            " decimal point"
        )
    return exact


def format_without_exponent(number: Decimal) -> str:
    """Return a number as text without an exponent; equal numbers give equal texts."""
    return f"{EXACT_CONTEXT.normalize(EXACT_CONTEXT.plus(number)):f}"


def exact_sum(numbers: Iterable[Decimal]) -> Decimal:
    """Return the exact sum of numbers, which does not depend on their order."""
    whole = Decimal(0)
    for number in numbers:
        whole = EXACT_CONTEXT.add(whole, number)
    return whole


def round_parts_to_cents(
    parts: Mapping[Name, Fraction | Decimal | float], total: Decimal
) -> dict[Name, Decimal]:
    """Round USD amounts to cents so that they add up to their total.

    Each amount is rounded down; the missing cents go to the largest remainders.

    Raises ValueError if the parts differ from the total by more than rounding.
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


def round_table_to_cents(
    cells: Mapping[Name, Mapping[Column, float]],
    row_totals: Mapping[Name, Decimal],
    column_totals: Mapping[Column, Decimal],
) -> dict[Name, dict[Column, Decimal]]:
    """Round a table of USD amounts to cents so that rows and columns add up to their totals.

    Columns are rounded first. Each row that then has a cent too many gives it to a row that lacks
    one. The cent moves within the column in which both rows have the largest amounts, so that a
    column of zeros stays zero.

    cells: amounts by row and column.
    row_totals, column_totals: totals by row and by column.

    Raises ValueError if the cells differ from the totals by more than rounding.
    """
    if sum(row_totals.values()) != sum(column_totals.values()):
        raise ValueError(
            f"row totals of {sum(row_totals.values())} USD differ from column totals of"
            f" {sum(column_totals.values())} USD"
        )
    table: dict[Name, dict[Column, Decimal]] = {row: {} for row in cells}
    for column, total in column_totals.items():
        parts = {row: own[column] for row, own in cells.items()}
        for row, usd in round_parts_to_cents(parts, total).items():
            table[row][column] = usd
    missing = {row: int((row_totals[row] - sum(own.values())) / CENT) for row, own in table.items()}
    if any(abs(count) > 2 * len(column_totals) for count in missing.values()):
        raise ValueError("the cells of a row differ from its total by more than rounding")
    givers = [row for row, count in missing.items() for _ in range(-count)]
    takers = [row for row, count in missing.items() for _ in range(count)]
    for giver, taker in zip(givers, takers, strict=True):
        both = {c: sorted((abs(cells[giver][c]), abs(cells[taker][c]))) for c in column_totals}
        column = max(column_totals, key=both.__getitem__)
        table[giver][column] -= CENT
        table[taker][column] += CENT
    return table


def to_cents(usd: Fraction | Decimal | float) -> Decimal:
    """Return USD rounded to the nearest cent; zero has no sign."""
    return CENT * round(100 * to_fraction(usd))
