"""The plan over periods of time, against an interior-point solver that has every period's weights
as variables of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import piqp
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import norm

from foundation.arrays import Array
from sizing.kelly import SizingProblem
from sizing.solver.active_set import SOLVED
from sizing.solver.multi_period import change_costs
from tests.sizing.books import plan_for

SCALES = (0.2, 1.0, 20.0)  # of the periods' variances


def plan(seed: int, periods: int = 3) -> SizingProblem:
    """Stocks and coins, some of them fixed, a premium in the long period and a signal in the
    short ones.
    """
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9))
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


def worth(p: SizingProblem, weights: Array) -> float:
    """The plan's objective, read off its definition; what is fixed counts by its size wherever
    something is borrowed.
    """
    fixed = p.upper == p.lower
    financings = financings_of(p)
    total = 0.0
    before = p.held
    for k, w in enumerate(weights):
        used = np.abs(w).sum() if k == 0 else w[~fixed].sum() + np.abs(w[fixed]).sum()
        total += (
            p.mu[k] @ w
            - w @ p.covariance[k] @ w / (2 * p.fraction)
            - financings[k] * max(used - 1.0, 0.0)
        )
        total -= float(p.cost[k] @ np.abs(np.where(fixed, 0.0, w - before)))
        before = w
    return float(total)


def interior(p: SizingProblem) -> Array:
    """The same plan by PIQP: x = [w₁ … w_K, |w₁|, what moves in each period, what is borrowed in
    each].
    """
    periods, n = p.mu.shape
    fixed = p.upper == p.lower
    financings = financings_of(p)
    eye = np.eye(n)
    held = np.abs(p.lower) * fixed
    sizes = n * periods
    moved = n * (periods + 1)
    borrowed = n * (2 * periods + 1)
    size = borrowed + periods
    hessian = np.zeros((size, size))
    slope = np.zeros(size)
    low = np.full(size, -200.0)
    high = np.full(size, 200.0)
    low[borrowed:] = 0.0
    rows = []
    most = []

    def below(limit: Array, *parts: tuple[int, Array]) -> None:
        line = np.zeros((len(limit), size))
        for column, period in parts:
            line[:, column : column + period.shape[1]] += period
        rows.append(line)
        most.append(limit)

    for k in range(periods):
        at = slice(k * n, (k + 1) * n)
        hessian[at, at] = p.covariance[k] / p.fraction
        slope[at] = -p.mu[k]
        low[at] = np.where(fixed, p.lower - 1e-11, low[at])
        high[at] = np.where(fixed, p.lower + 1e-11, high[at])
        slope[moved + k * n : moved + (k + 1) * n] = np.where(fixed, 0.0, p.cost[k])
        for sign in (eye, -eye):
            before = () if k == 0 else ((at.start - n, -sign),)
            below(
                sign @ p.held if k == 0 else np.zeros(n),
                (at.start, sign),
                (moved + k * n, -eye),
                *before,
            )
        counted = (
            (sizes, np.ones((1, n))) if k == 0 else (at.start, np.where(fixed, 0.0, 1.0)[None])
        )
        below(
            np.array([1.0 - (0.0 if k == 0 else held.sum())]),
            counted,
            (borrowed + k, -np.ones((1, 1))),
        )
    slope[borrowed:] = financings
    low[:n] = np.maximum(low[:n], p.lower - 1e-11)
    high[:n] = np.minimum(high[:n], p.upper + 1e-11)
    for sign in (eye, -eye):
        below(np.zeros(n), (0, sign), (sizes, -eye))
    below(np.maximum(p.limits, p.coefficients @ held) + 1e-11, (sizes, p.coefficients))
    solver = piqp.DenseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = 1e-11
    solver.settings.eps_duality_gap_abs = solver.settings.eps_duality_gap_rel = 1e-11
    solver.settings.max_iter = 500
    left = np.asfortranarray(np.vstack(rows))
    solver.setup(
        np.asfortranarray(hessian * 1e3),
        slope * 1e3,
        None,
        None,
        left,
        None,
        np.concatenate(most),
        low,
        high,
    )
    solver.solve()
    return np.asarray(solver.result.x[: n * periods]).reshape(periods, n)


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
def test_into_how_many_periods_time_is_cut_changes_nothing(seed: int) -> None:
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


def test_a_premium_too_small_for_an_hour_is_bought_for_a_month() -> None:
    """By hand: 0.1 bp an hour does not pay for 2 bp; 140 times it does, at f·(140·0.1 -
    2)/(140·v).
    """
    assert one((1e-5, 1e-5)).solve()[1][0, 0] == 0.0
    status, weights, _ = one((1e-5, 1e-5), (139e-5, 139e-5)).solve()
    assert status == SOLVED
    assert weights[:, 0] == pytest.approx([0.5 * (140e-5 - 2e-4) / 140e-5] * 2, rel=1e-6)


def test_borrowing_stops_where_it_costs_more_than_it_earns() -> None:
    """By hand: f·mu/v is 2.5, of which the part beyond 1 costs the toll: nothing is borrowed,
    half of it, or all.
    """
    for financing, expected, price in ((0.0, 2.5, 0.0), (1e-3, 2.0, 1e-3), (4e-3, 1.0, 3e-3)):
        _, weights, prices = one((5e-3, 1e-3), cost=0.0, financing=[financing]).solve()
        assert weights[0, 0] == pytest.approx(expected, rel=1e-6)
        assert prices[0] == pytest.approx(price, abs=1e-8)


@given(st.floats(1e-5, 0.01), st.floats(0, 0.1), st.floats(1, 10))
def test_what_leaving_costs_a_plan_falls_with_what_forecasts_are_worth(
    cost: float, worth: float, more: float
) -> None:
    """All of it without a forecast, or where nothing is known of its worth; next to nothing
    where forecasts dwarf costs.
    """
    told = np.array([0.0, np.nan, worth, worth * more, 1e4 * cost])
    paid, first, last = change_costs(np.full(5, cost), told, 3)
    assert (first == cost).all()
    assert last[0] == last[1] == cost
    assert 0 <= last[4] < 1e-3 * cost
    assert last[3] <= last[2] <= cost
    within = np.array([0.5, 1.0, 2.0])
    share = norm.cdf(within) - norm.cdf(-within)
    _, _, last = change_costs(np.full(3, cost), cost / within, 3)
    np.testing.assert_allclose(last, cost * share, rtol=1e-12)
    assert (paid == cost).all()
    assert (change_costs(np.full(5, cost), told, 1) == cost).all(), "what is not planned is paid"


def test_what_can_be_sold_short_beyond_one_can_borrow() -> None:
    """Bounds of -2 and 0.5: sizes pass 1, so the second period, wherever it wants, pays for what
    it borrows.
    """
    p = one((0.0, 0.1), (1.0, 0.1), cost=0.0, financing=[0.01, 0.01])
    p = p._replace(lower=np.array([-2.0]), upper=np.array([0.5]))
    status, weights, prices = p.solve()
    assert status == SOLVED
    assert weights[1] == pytest.approx([4.95])
    assert prices[-1] == pytest.approx(0.01)
