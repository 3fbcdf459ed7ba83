"""Amounts of money in whole cents, as pages write them and add them up."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import TypeVar

from foundation.decimals import as_written

Name = TypeVar("Name", bound=Hashable)
Column = TypeVar("Column", bound=Hashable)
CENT = Decimal("0.01")


def cents_that_add_up(
    parts: Mapping[Name, Fraction | Decimal | float], total: Decimal
) -> dict[Name, Decimal]:
    """USD amounts rounded to the cent so that they add up to their total.

    Each is rounded down; the cents that are then missing go to the largest remainders.

    Raises ValueError where the parts are further from the total than rounding can be.
    """
    exact = {name: 100 * as_written(usd) for name, usd in parts.items()}
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
    return CENT * round(100 * as_written(usd))
