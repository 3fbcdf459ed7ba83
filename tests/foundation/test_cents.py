"""Amounts in whole cents that add up."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from foundation.decimals import round_parts_to_cents, round_table_to_cents, to_cents


@given(st.dictionaries(st.text(max_size=3), st.floats(-1e6, 1e6), min_size=1, max_size=30))
def test_rounded_amounts_sum_exactly_to_the_rounded_total(parts: dict[str, float]) -> None:
    exact = sum((Decimal(repr(value)) for value in parts.values()), Decimal(0))
    total = exact.quantize(Decimal("0.01"))
    cents = round_parts_to_cents(parts, total)
    assert sum(cents.values()) == total
    for name, usd_cents in cents.items():
        assert abs(usd_cents - Decimal(repr(parts[name]))) <= Decimal("0.01")


AMOUNTS = st.one_of(st.just(0.0), st.floats(-1e5, 1e5))


@given(
    st.dictionaries(
        st.text(max_size=2), st.fixed_dictionaries(dict.fromkeys("xyz", AMOUNTS)), min_size=1
    )
)
@example(
    {
        "a": {"x": 0.0, "y": 0.0, "z": 1.5625},
        "b": {"x": 0.0, "y": 1.625, "z": 0.0},
        "c": {"x": 0.0, "y": 0.0, "z": 1.375},
    }
)
def test_rounded_table_matches_row_and_column_totals(cells: dict[str, dict[str, float]]) -> None:
    by_row = {row: sum(Decimal(repr(usd)) for usd in own.values()) for row, own in cells.items()}
    by_column = {c: sum(Decimal(repr(own[c])) for own in cells.values()) for c in "xyz"}
    total = Decimal(sum(by_row.values())).quantize(Decimal("0.01"))
    rows, columns = round_parts_to_cents(by_row, total), round_parts_to_cents(by_column, total)
    table = round_table_to_cents(cells, rows, columns)
    for row, own in table.items():
        assert sum(own.values()) == rows[row]
        for column, usd in own.items():
            assert abs(float(usd) - cells[row][column]) <= 0.01 * (len(cells) + 1) + 1e-9
    for column, sums in columns.items():
        assert sum(own[column] for own in table.values()) == sums
        if not any(own[column] for own in cells.values()):
            assert not any(own[column] for own in table.values())


def test_table_that_does_not_add_up_is_refused() -> None:
    cells = {"a": {"x": 1.0}, "b": {"x": 2.0}}
    columns = {"x": Decimal("3.00")}
    with pytest.raises(ValueError, match=r"4\.00 USD differ from .* 3\.00 USD"):
        round_table_to_cents(cells, {"a": Decimal("1.00"), "b": Decimal("3.00")}, columns)
    with pytest.raises(ValueError, match="cells of a row differ from its total"):
        round_table_to_cents(cells, {"a": Decimal("2.00"), "b": Decimal("1.00")}, columns)


@given(st.fractions(-1_000_000, 1_000_000))
def test_amounts_round_to_cents_without_negative_zero(usd: Fraction) -> None:
    shown = to_cents(usd)
    assert abs(Fraction(shown) - usd) <= Fraction(1, 200)
    assert shown.as_tuple().exponent == -2
    assert shown or not shown.is_signed()
