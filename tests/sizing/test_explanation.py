"""The Kelly weight that is shown beside a target is that of the whole plan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.allocation import Allocation
from sizing.explanation import plan_kelly_weights
from sizing.inputs import SizingInputs
from sizing.strategies import KellyStrategy, strategy_from_name
from tests.sizing.books import LaterBlocks, changed, random_inputs, rich_book


def plan(first: float, month: float, *, held: float = 0.0, cost: float = 2e-4) -> SizingInputs:
    """One stock over an hour and the month after it; expected returns in basis points."""
    later = LaterBlocks(
        np.array([[month * 1e-4]]), np.array([[[3e-3]]]), np.zeros(1), np.full((1, 1), cost)
    )
    return rich_book(
        1,
        mu=np.array([first * 1e-4]),
        covariance=np.array([[2e-5]]),
        held_weight=np.array([held]),
        unit_cost=np.array([cost]),
        stock_ceiling=1.96,
        later=later,
    )


def answer(inputs: SizingInputs, fraction: float = 0.1) -> Allocation:
    return KellyStrategy(fraction).allocate(inputs)


@pytest.mark.parametrize(
    ("inputs", "target", "total", "binding"),
    [
        # an hour that decides against the month
        (plan(-8.0, 28.0), -0.6, 20e-4, "symbol_cap"),
        # a coin that may not be short, in such an hour
        (changed(plan(-8.0, 28.0), long_only=np.ones(1, dtype=bool)), 0.0, 20e-4, None),
        # a month that decides, in an hour that is worth nothing
        (plan(0.0, 60.0), 0.0, 60e-4, None),
        # what its cost keeps where it is
        (plan(0.1, 10.0, held=0.03, cost=3e-3), 0.03, 10.1e-4, "cost"),
    ],
)
def test_target_shows_the_kelly_weight_of_the_plan(
    inputs: SizingInputs, target: float, total: float, binding: str | None
) -> None:
    found = answer(inputs)
    assert found.target_weight[0] == pytest.approx(target, abs=1e-6)
    assert found.unconstrained_weight[0] == pytest.approx(0.1 * total / 3.02e-3)
    assert set(found.binding_shadow_prices[0]) >= ({binding} if binding else set())


def test_weight_rules_count_no_premium() -> None:
    inputs = plan(20.0, -60.0)
    for name in ("fixed_fraction", "legacy"):
        allocation = strategy_from_name(name).allocate(inputs)
        # Both go by the direction of the forecast.
        assert allocation.premium_weight.tolist() == [0.0]
        assert allocation.forecast_weight.tolist() == allocation.unconstrained_weight.tolist()


@given(
    seed=st.integers(0, 10_000),
    fraction=st.sampled_from([0.1, 0.5, 1.0]),
    multiplier=st.sampled_from([1.0, 4.0]),
)
def test_kelly_weight_splits_into_premium_and_forecast(
    seed: int, fraction: float, multiplier: float
) -> None:
    inputs = random_inputs(np.random.default_rng(seed))
    found = KellyStrategy(fraction, multiplier).allocate(inputs)
    chosen = np.flatnonzero(inputs.adjustable)
    times = np.where(inputs.crypto, 1.0, multiplier)[chosen]
    all_mu, premiums, risks, _, _ = inputs.problem.returns
    mu, premium = (each.sum(axis=0)[chosen] / times for each in (all_mu, premiums))
    covariance = risks.sum(axis=0)[np.ix_(chosen, chosen)] / np.outer(times, times)
    for shown, expected in (
        (found.unconstrained_weight, mu),
        (found.premium_weight, premium),
        (found.forecast_weight, mu - premium),
    ):
        weights = fraction * np.linalg.solve(covariance, expected)
        np.testing.assert_allclose(shown[chosen], weights, rtol=1e-9, atol=1e-9)
        assert np.isnan(shown[~inputs.adjustable]).all()


def test_unstated_premium_is_reported_as_unknown() -> None:
    found = answer(plan(20.0, 10.0))
    assert np.isnan(found.premium_weight).all()
    assert np.isnan(found.forecast_weight).all()


def test_identical_symbols_share_one_kelly_weight() -> None:
    """Two stocks with the same risk: their covariance has no Cholesky factor."""
    one = plan(-8.0, 28.0)
    _, _, covariance, _, _ = one.problem.returns
    mu = np.repeat(one.problem.returns.mu, 2, axis=1)
    premium = np.array([[1e-4, 1e-4], [5e-4, 5e-4]])
    twice = np.broadcast_to(covariance, (2, 2, 2)).copy()
    both = rich_book(
        2,
        mu=mu[0],
        covariance=twice[0],
        stock_ceiling=1.96,
        later=LaterBlocks(mu[1:], twice[1:], np.zeros(1), np.full((1, 2), 2e-4)),
        earned=premium,
    )
    found = answer(both)
    assert plan_kelly_weights(both.problem, 0.1)[1], "no Cholesky factor"
    np.testing.assert_allclose(found.unconstrained_weight, 0.1 * 20e-4 / 3.02e-3 / 2, rtol=1e-9)
    np.testing.assert_allclose(found.premium_weight, 0.1 * 6e-4 / 3.02e-3 / 2, rtol=1e-9)
