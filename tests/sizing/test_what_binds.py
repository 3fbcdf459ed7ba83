"""What holds a weight, and what one more of it is worth, against a plain reading of the rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.allocation import Allocation, allocate_kelly
from sizing.binding import BINDING_TOL
from sizing.inputs import SizingInputs
from sizing.limits import CEILING_NAMES, build_ceiling_constraints
from sizing.problem import GroupConstraints
from sizing.settings import Limits
from tests.sizing.books import random_inputs, rich_book, under


def plainly(s: SizingInputs, limits: Limits, found: Allocation, k: int) -> set[str]:
    """The names of what holds weight k, ceiling by ceiling."""
    wish = found.unconstrained_weight[k]
    got = found.target_weight[k]
    held = s.held_weight[k]
    slope = float(s.mu[k] - 2.0 * s.covariance[k] @ found.target_weight)
    outward = -1.0 if got < 0 or (got == 0 and slope < 0) else 1.0
    names = set()
    if abs(got) >= limits.symbol_cap - BINDING_TOL:
        names.add("symbol_cap")
    onwards = (
        outward * slope > (-1.0 if (held - got) * outward > 0 else 1.0) * s.unit_cost[k] + 1e-12
    )
    if (
        got == min(held, 0.0)
        and outward < 0
        and onwards
        and (s.long_only[k] or s.equity < limits.margin_equity)
    ):
        names.add("long_only")
    if onwards:
        for name, takes, limit in zip(
            CEILING_NAMES, *build_ceiling_constraints(s.problem), strict=True
        ):
            if takes[k] > 0 and takes @ np.abs(found.target_weight) >= limit - BINDING_TOL:
                names.add(name)
    if not names and got == held and wish != got and s.unit_cost[k] > 0:
        names.add("cost")
    return names


@given(st.integers(0, 10_000))
def test_reported_binding_limits_match_an_independent_calculation(seed: int) -> None:
    s = random_inputs(np.random.default_rng(seed), 8, planned=False)
    limits = Limits()
    found = allocate_kelly(under(s, limits), 0.5)
    for k in range(len(s.mu)):
        expected = plainly(s, limits, found, k) if s.adjustable[k] else set()
        assert set(found.binding_shadow_prices[k]) == expected, (k, found.binding_shadow_prices[k])


def test_borrowing_cost_is_named_as_the_binding_limit() -> None:
    """By hand: at a weight of 1, one more earns 3e-3 - 1e-4 / 0.5 - 2e-4, and borrowing costs
    4e-3.
    """
    s = rich_book(1, mu=np.array([3e-3]), financing_cost=4e-3)
    found = allocate_kelly(under(s, Limits(symbol_cap=2.0)), 0.5)
    assert found.target_weight.tolist() == pytest.approx([1.0])
    assert dict(found.binding_shadow_prices[0]) == pytest.approx({"financing": 2.6e-3})


@pytest.mark.parametrize(
    ("gross", "net", "most", "expected", "target", "price"),
    [
        # less would save 1e-4 of loss, 1e-4 / 0.5 · 0.2 of risk and 2e-4 of cost
        ([], [[-1.0]], [-0.2], -1e-4, 0.2, 3.4e-4),
        # more would earn 4e-4 less 1e-4 / 0.5 · 0.3 of risk and 2e-4 of cost
        ([[1.0]], [], [0.3], 4e-4, 0.3, 1.4e-4),
        ([], [[1.0]], [0.3], 4e-4, 0.3, 1.4e-4),
    ],
)
def test_group_limit_binds_long_and_short_weights(
    gross: list[list[float]],
    net: list[list[float]],
    most: list[float],
    expected: float,
    target: float,
    price: float,
) -> None:
    parts = (np.array(each).reshape(-1, 1) for each in (gross, net))
    mosts = (np.array(most)[: len(each)] for each in (gross, net))
    (of_sizes, of_nets), (sizes, nets) = parts, mosts
    s = under(rich_book(1, mu=np.array([expected])), Limits())
    limits = s.problem.limits._replace(
        group_constraints=GroupConstraints(of_sizes, sizes, of_nets, nets, -1)
    )
    found = allocate_kelly(
        replace(s, problem=s.problem._replace(limits=limits), group_limit_names=("group",)), 0.5
    )
    assert found.target_weight.tolist() == pytest.approx([target])
    assert dict(found.binding_shadow_prices[0]) == pytest.approx({"group": price})


def test_symbol_excluded_by_position_count_reports_max_positions() -> None:
    s = rich_book(3, mu=np.array([3e-4, 2e-4, 2.2e-4]), unit_cost=np.zeros(3))
    found = allocate_kelly(under(s, Limits(max_positions=2)), 0.5)
    assert [set(bound) for bound in found.binding_shadow_prices] == [
        {"symbol_cap"},
        {"max_positions"},
        {"symbol_cap"},
    ]
