"""Whatever the wire does and whenever a run is killed: nothing twice, nothing lost."""

from __future__ import annotations

import pytest

from tests.e2e.fault_schedules import NEVER, schedules


@pytest.mark.parametrize(("number", "steps"), [(1, 2), pytest.param(6, 5, marks=pytest.mark.long)])
def test_random_faults_and_kills_leave_every_order_once_in_the_book(
    number: int, steps: int
) -> None:
    figures = schedules(number, seed=17, steps=steps)
    assert {name: figures[name] for name in NEVER} == dict.fromkeys(NEVER, 0), figures
    assert figures["orders"] > 0
