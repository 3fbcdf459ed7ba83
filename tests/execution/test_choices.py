"""Choices as columns: what holds each, at which price, in the place of its own."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.choices import Answers, Choices, joined_choices
from sizing.binding import FIRST_CEILING, FIRST_ROW, LIMITS
from sizing.limits import CEILINGS
from trainingdata.instruments import instrument

GROUPS = ("one_gross", "two_most", "two_least")
FIXED = len(CEILINGS) + 1
GROUP_BITS = range(FIRST_ROW, FIRST_ROW + len(GROUPS))


def choices(holds: list[int], rows: int = 1) -> Choices:
    """N choices of instants in turn, whose prices are all different."""
    count = len(holds)
    column = np.arange(1.0, count + 1)
    prices = 100.0 * np.arange(1.0, rows * (FIXED + len(GROUPS)) + 1)
    return Choices(
        row=np.sort(np.arange(count) % rows),
        symbol=np.arange(count),
        **{name: column for name in ("mu", "sigma", "kelly", "held", "target", "price", "cost")},
        steps=np.full(count, np.nan),
        holds=np.array(holds),
        own_price=-column,
        prices=prices.reshape(rows, -1),
        basis=tuple([column] * 9),
        rows=GROUPS,
    )


@given(st.lists(st.sampled_from([*range(len(LIMITS)), *GROUP_BITS]), unique=True))
def test_every_limit_that_holds_a_target_has_its_own_price(bits: list[int]) -> None:
    """In the object and in the columns alike; a limit of its own has the symbol's."""
    c = choices([sum(1 << bit for bit in bits)])
    item = instrument("AAA")
    told = c.choice(0, item, Decimal(3))
    assert (told.symbol, told.qty) == ("AAA", 0)
    columns = c.shadow_prices()
    assert set(columns) == {*LIMITS, *GROUPS}
    for place, name in enumerate((*LIMITS, *GROUPS)):
        bit = place if place < len(LIMITS) else FIRST_ROW + place - len(LIMITS)
        price = -1.0 if place < FIRST_CEILING else 100.0 * (place - FIRST_CEILING + 1)
        assert columns[name][0] == (price if bit in bits else 0.0)
        assert told.binding.get(name, 0.0) == columns[name][0]


def test_choices_of_spans_in_a_row_are_those_of_the_whole() -> None:
    whole = choices([0] * 6, rows=3)
    parts = [
        whole._replace(
            **{
                name: getattr(whole, name)[part]
                for name in Choices._fields
                if name not in ("prices", "basis", "rows")
            },
            basis=tuple([column[part] for column in whole.basis]),
            prices=whole.prices[rows],
        )
        for part, rows in ((slice(0, 2), slice(0, 1)), (slice(2, 6), slice(1, 3)))
    ]
    parts[1] = parts[1]._replace(row=parts[1].row - 1)
    joined = joined_choices(parts, [1, 2])
    for name in Choices._fields[:-2]:
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    np.testing.assert_array_equal(joined.basis, whole.basis)
    assert joined.rows == GROUPS


def test_where_nothing_is_written_nothing_is_held_wanted_or_sized() -> None:
    room = Answers.room(2, 3, 5)
    for column in (room.held, room.target, room.limits_met, room.cut, room.sized, room.gap):
        assert not column.any()
    for column in (room.steps, room.unlimited, room.prices):
        assert np.isnan(column).all()
    one = Answers.room(1, 2, 5)
    one.target[:] = [[4.0, 5.0]]
    one.prices[:] = 7.0
    room.write(1, np.array([0, 2]), one)
    assert room.target.tolist() == [[0.0, 0.0, 0.0], [4.0, 0.0, 5.0]]
    assert room.prices[1] == pytest.approx([7.0] * 5)
    assert np.isnan(room.prices[0]).all()
