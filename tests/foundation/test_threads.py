"""Parts made side by side come in order, few ahead of their use, and no thread is left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from foundation.threads import MOST, side_by_side


def test_parts_come_in_order_and_few_are_made_ahead_of_their_use() -> None:
    taken: list[int] = []

    def parts() -> Iterator[int]:
        for part in range(200):
            taken.append(part)
            yield part

    for done, made in enumerate(side_by_side(lambda part: part * part, parts())):
        assert made == done * done
        assert len(taken) <= done + MOST + 2
    assert taken == list(range(200))


def test_what_goes_wrong_with_a_part_is_heard_where_it_is_used() -> None:
    def inverse(part: int) -> float:
        return 1 / part

    made = side_by_side(inverse, [2, 1, 0, 4])
    assert [next(made), next(made)] == [0.5, 1.0]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_no_thread_is_left_where_the_use_ends_early() -> None:
    before = threading.active_count()
    with closing(side_by_side(abs, range(100))) as made:
        assert next(made) == 0
    assert threading.active_count() == before
