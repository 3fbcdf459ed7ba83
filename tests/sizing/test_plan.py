"""The plan over periods of time, against an interior-point solver that has every period's weights
as variables of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sizing.kelly import SizingProblem
from sizing.solver.active_set import SOLVED
from sizing.solver.multi_period import compute_weight_change_costs
from tests.sizing.books import plan_for
from tests.support.plans import interior, plan, worth


@given(st.integers(0, 1_000_000), st.integers(1, 3))
def test_solved_plan_matches_the_interior_point_optimum(seed: int, periods: int) -> None:
    p = plan(seed, periods)
    status, weights, _ = p.solve()
    assert status == SOLVED
    assert (weights[0] >= p.lower).all()
    assert (weights[0] <= p.upper).all()
    found = worth(p, weights)
    expected = worth(p, interior(p))
    assert found >= expected - 1e-7 * max(abs(expected), 1e-3)


@given(st.integers(0, 1_000_000))
def test_splitting_periods_does_not_change_the_plan(seed: int) -> None:
    """With the same daily return and risk, only totals until the horizon count; limits apply to the
    first period.
    """
    p = plan(seed, 1)
    n = len(p.held_weight)
    wide = p._replace(
        lower=np.full(n, -50.0),
        upper=np.full(n, 50.0),
        ceilings=np.full(3, 1e3),
        cost=np.full((1, n), 2e-4),
        financing_cost=np.zeros(1),
    )
    whole = wide.solve()
    parts = wide._replace(
        mu=np.vstack([0.3 * p.mu, 0.7 * p.mu]),
        covariance=np.concatenate([0.3 * p.covariance, 0.7 * p.covariance]),
        cost=np.full((2, n), 2e-4),
        financing_cost=np.zeros(2),
    ).solve()
    assert whole[0] == parts[0] == SOLVED
    assume(np.abs(whole[1]).max() < 49)
    for weights in parts[1]:
        np.testing.assert_allclose(weights, whole[1][0], rtol=1e-5, atol=1e-6)


def one(
    *periods: tuple[float, float], cost: float = 2e-4, financing: Sequence[float] | float = 0.0
) -> SizingProblem:
    """One symbol without ceilings, half-Kelly; periods: expected return and variance of each."""
    mu, variance = np.array(periods).T
    return plan_for(mu[:, None], variance[:, None, None], cost=cost, financing_cost=financing)


def test_small_premium_justifies_cost_only_over_long_horizon() -> None:
    """By hand: 0.1 bp an hour does not pay for 2 bp; 140 hours do, at f·(140·0.1 - 2)/(140·v)."""
    assert one((1e-5, 1e-5)).solve()[1][0, 0] == 0.0
    status, weights, _ = one((1e-5, 1e-5), (139e-5, 139e-5)).solve()
    assert status == SOLVED
    assert weights[:, 0] == pytest.approx([0.5 * (140e-5 - 2e-4) / 140e-5] * 2, rel=1e-6)


def test_weights_stop_borrowing_when_interest_exceeds_return() -> None:
    """By hand: f·mu/v is 2.5, of which the part beyond 1 pays interest: none, half or all of it is
    borrowed.
    """
    for financing, expected, price in ((0.0, 2.5, 0.0), (1e-3, 2.0, 1e-3), (4e-3, 1.0, 3e-3)):
        _, weights, prices = one((5e-3, 1e-3), cost=0.0, financing=[financing]).solve()
        assert weights[0, 0] == pytest.approx(expected, rel=1e-6)
        assert prices[0] == pytest.approx(price, abs=1e-8)


def test_exit_cost_is_charged_fully_without_forecast_skill() -> None:
    """With skill, the exit cost counts with the probability that the forecast stays within the
    cost.
    """
    paid, first, last = compute_weight_change_costs(
        np.full(3, 2e-4), np.array([0.0, np.nan, 2e-4]), 3
    )
    assert paid.tolist() == first.tolist() == [2e-4] * 3
    assert last == pytest.approx([2e-4, 2e-4, 0.6826895 * 2e-4], rel=1e-6)


def test_leveraged_positions_pay_financing_in_later_periods() -> None:
    """With bounds of -2 and 0.5 exposure may exceed 1, so the second period pays interest on what
    it borrows.
    """
    p = one((0.0, 0.1), (1.0, 0.1), cost=0.0, financing=[0.01, 0.01])
    p = p._replace(lower=np.array([-2.0]), upper=np.array([0.5]))
    status, weights, prices = p.solve()
    assert status == SOLVED
    assert weights[1] == pytest.approx([4.95])
    assert prices[-1] == pytest.approx(0.01)
