"""The plan over periods of time, against an interior-point solver that has every period's weights
as variables of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from foundation.arrays import Array
from sizing.kelly import SizingProblem
from sizing.solver.active_set import SOLVED
from sizing.solver.multi_period import change_costs
from tests.execution import reference_decision
from tests.sizing.books import plan_for

SCALES = (0.2, 1.0, 20.0)  # of the periods' variances


def plan(seed: int, periods: int = 3, n: int | None = None) -> SizingProblem:
    """Stocks and coins, some of them fixed, a premium in the long period and a signal in the
    short ones.
    """
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9)) if n is None else n
    spread = rng.normal(0, 0.01, (n, 3))
    base = spread @ spread.T / 3 + np.diag(rng.uniform(1e-6, 1e-4, n))
    covariance = np.array([base * scale * rng.uniform(0.5, 2) for scale in SCALES[:periods]])
    signal = rng.normal(0, 1e-3, n) * rng.choice([0.0, 1.0])
    mu = np.array([signal, signal * rng.uniform(-0.5, 1.5), np.full(n, rng.choice([0.0, 4e-3]))])[
        :periods
    ]
    cap = float(rng.choice([0.1, 0.3, 0.6]))
    ceiling = float(rng.choice([0.5, 1.0, 2.0, 4.0]))
    crypto = rng.random(n) < 0.3
    fixed = rng.random(n) < 0.2
    held = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(-0.4, 0.4, n))
    held = np.where(crypto, np.abs(held), held)
    lower = np.where(crypto, 0.0, -cap)
    upper = np.full(n, cap)
    lower = np.where(fixed, held, lower)
    upper = np.where(fixed, held, upper)
    groups = np.array([~crypto * 1.0, crypto * 1.0, ~crypto / ceiling + crypto])
    cost = np.where(rng.random(n) < 0.9, rng.choice([0.0, 2e-4, 2e-3]), 0.0)
    financings = rng.choice([0.0, 1e-4, 1e-3, 4e-3], periods)
    costs = np.vstack([cost, cost * rng.choice([0.0, 0.3, 1.0], (periods - 1, n))])
    limits = np.array([ceiling, 1.0, 1.0])
    return SizingProblem(
        mu, covariance, costs, financings, held, lower, upper, groups, limits, fraction=0.5
    )


def financings_of(p: SizingProblem) -> Array:
    """Of each period; none where bounds, or a ceiling for every symbol, keep the first period's
    sizes at 1 together.
    """
    sizes = np.maximum(np.abs(p.lower), np.abs(p.upper))
    fixed = np.abs(p.lower) * (p.lower == p.upper)
    most = [sizes.sum()]
    for row, limit in zip(p.coefficients, p.limits, strict=True):
        if (row > 0).all():
            most.append(max(limit, row @ fixed) / row.min())
    return p.financing * (min(most) > 1 + 1e-9)


def reference(p: SizingProblem) -> reference_decision.Program:
    """The same, as the plain reckoning of a decision has it; a ceiling that what is fixed passes
    becomes what is fixed.
    """
    fixed = np.abs(p.lower) * (p.lower == p.upper)
    rooms = np.maximum(p.limits, p.coefficients @ fixed)
    bounds, rows = (p.lower, p.upper), (p.coefficients, rooms)
    return reference_decision.Program(
        p.mu, p.covariance, p.held, p.cost, financings_of(p), *bounds, *rows, p.fraction
    )


def worth(p: SizingProblem, weights: Array) -> float:
    """The plan's objective, read off its definition."""
    return reference_decision.worth(reference(p), weights)


def interior(p: SizingProblem) -> Array:
    """The best plan by an interior-point solver."""
    return reference_decision.solved(reference(p))


@given(st.integers(0, 1_000_000), st.integers(1, 3))
def test_no_other_plan_is_worth_more(seed: int, periods: int) -> None:
    p = plan(seed, periods)
    status, weights, _ = p.solve()
    assert status == SOLVED
    assert (weights[0] >= p.lower).all()
    assert (weights[0] <= p.upper).all()
    found = worth(p, weights)
    expected = worth(p, interior(p))
    assert found >= expected - 1e-7 * max(abs(expected), 1e-3)


@given(st.integers(0, 1_000_000))
def test_number_of_periods_does_not_change_the_plan(seed: int) -> None:
    """Of one return and risk a day, what a position earns and risks until the horizon counts;
    limits hold the first period.
    """
    p = plan(seed, 1)
    n = len(p.held)
    wide = p._replace(
        lower=np.full(n, -50.0),
        upper=np.full(n, 50.0),
        limits=np.full(3, 1e3),
        cost=np.full((1, n), 2e-4),
        financing=np.zeros(1),
    )
    whole = wide.solve()
    parts = wide._replace(
        mu=np.vstack([0.3 * p.mu, 0.7 * p.mu]),
        covariance=np.concatenate([0.3 * p.covariance, 0.7 * p.covariance]),
        cost=np.full((2, n), 2e-4),
        financing=np.zeros(2),
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
    return plan_for(mu[:, None], variance[:, None, None], cost=cost, financing=financing)


def test_small_premium_is_bought_over_a_month() -> None:
    """By hand: 0.1 bp an hour does not pay for 2 bp; 140 times it does, at f·(140·0.1 -
    2)/(140·v).
    """
    assert one((1e-5, 1e-5)).solve()[1][0, 0] == 0.0
    status, weights, _ = one((1e-5, 1e-5), (139e-5, 139e-5)).solve()
    assert status == SOLVED
    assert weights[:, 0] == pytest.approx([0.5 * (140e-5 - 2e-4) / 140e-5] * 2, rel=1e-6)


def test_borrowing_stops_where_it_costs_more_than_earns() -> None:
    """By hand: f·mu/v is 2.5, of which the part beyond 1 costs the toll: nothing is borrowed,
    half of it, or all.
    """
    for financing, expected, price in ((0.0, 2.5, 0.0), (1e-3, 2.0, 1e-3), (4e-3, 1.0, 3e-3)):
        _, weights, prices = one((5e-3, 1e-3), cost=0.0, financing=[financing]).solve()
        assert weights[0, 0] == pytest.approx(expected, rel=1e-6)
        assert prices[0] == pytest.approx(price, abs=1e-8)


def test_exit_cost_is_full_without_known_skill() -> None:
    """And the share of what a forecast of one cost's deviation keeps within that cost."""
    paid, first, last = change_costs(np.full(3, 2e-4), np.array([0.0, np.nan, 2e-4]), 3)
    assert paid.tolist() == first.tolist() == [2e-4] * 3
    assert last == pytest.approx([2e-4, 2e-4, 0.6826895 * 2e-4], rel=1e-6)


def test_shorting_beyond_equity_makes_later_periods_pay() -> None:
    """Bounds of -2 and 0.5: sizes pass 1, so the second period, wherever it wants, pays for what
    it borrows.
    """
    p = one((0.0, 0.1), (1.0, 0.1), cost=0.0, financing=[0.01, 0.01])
    p = p._replace(lower=np.array([-2.0]), upper=np.array([0.5]))
    status, weights, prices = p.solve()
    assert status == SOLVED
    assert weights[1] == pytest.approx([4.95])
    assert prices[-1] == pytest.approx(0.01)
