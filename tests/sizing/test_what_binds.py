"""What holds a weight, and what one more of it is worth, against a plain reading of the rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.allocation import Allocation, allocate
from sizing.binding import TOUCH
from sizing.inputs import SizingInputs
from sizing.limits import CEILINGS, Limits, ceilings_of
from sizing.spans import ALL, kelly_by_span
from tests.sizing.books import LaterBlocks, random_book, rich_book, under


def plainly(s: SizingInputs, limits: Limits, found: Allocation, k: int) -> set[str]:
    """The names of what holds weight k, ceiling by ceiling."""
    wish = found.unlimited[k]
    got = found.target[k]
    held = s.held[k]
    slope = float(s.mu[k] - 2.0 * s.covariance[k] @ found.target)
    outward = -1.0 if got < 0 or (got == 0 and slope < 0) else 1.0
    names = set()
    if abs(got) >= limits.symbol_cap - TOUCH:
        names.add("symbol_cap")
    onwards = outward * slope > (-1.0 if (held - got) * outward > 0 else 1.0) * s.cost[k] + 1e-12
    if (
        got == min(held, 0.0)
        and outward < 0
        and onwards
        and (s.long_only[k] or s.equity < limits.margin_equity)
    ):
        names.add("long_only")
    if onwards:
        for name, takes, limit in zip(CEILINGS, *ceilings_of(s.problem), strict=True):
            if takes[k] > 0 and takes @ np.abs(found.target) >= limit - TOUCH:
                names.add(name)
    if not names and got == held and wish != got and s.cost[k] > 0:
        names.add("cost")
    return names


@given(st.integers(0, 10_000))
def test_what_binds_is_what_the_rules_say(seed: int) -> None:
    s = random_book(seed, 8)
    limits = Limits()
    found = allocate(under(s, limits), 0.5)
    for k in range(len(s.mu)):
        expected = plainly(s, limits, found, k) if s.deciding[k] else set()
        assert set(found.binding[k]) == expected, (k, found.binding[k])


def test_a_ceiling_that_a_signal_of_an_hour_meets_is_named_though_the_horizon_wants_less() -> None:
    """Two stocks that are worth nothing after the first period fill the account by day; what
    held them is the ceiling.
    """
    n = 2
    limits = Limits(symbol_cap=1.0)
    s = rich_book(
        n,
        mu=np.full(n, 4e-3),
        cost=np.full(n, 1e-4),
        stock_ceiling=1.0,
        later=LaterBlocks(np.zeros((1, n)), np.eye(n)[None], np.zeros(1), np.full((1, n), 1e-4)),
    )
    found = allocate(under(s, limits), 0.5)
    assert np.abs(found.target).sum() == pytest.approx(1.0)
    assert np.abs(kelly_by_span(s.problem, 0.5)[0][-1, ALL]).max() < 0.01
    for bound in found.binding:
        assert bound["stock_gross"] + bound["joint"] > 1e-3


def test_a_weight_that_is_not_worth_borrowing_for_is_held_by_what_borrowing_costs() -> None:
    """By hand: at a weight of 1, one more earns 3e-3 - 1e-4 / 0.5 - 2e-4, and 4e-3 is asked."""
    s = rich_book(1, mu=np.array([3e-3]), financing=4e-3)
    found = allocate(under(s, Limits(symbol_cap=2.0)), 0.5)
    assert found.target.tolist() == pytest.approx([1.0])
    assert dict(found.binding[0]) == pytest.approx({"financing": 2.6e-3})
