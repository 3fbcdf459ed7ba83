"""A Kelly weight that is shown beside a target is that of the span which put the target there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.allocation import Allocation
from sizing.explanation import TOTAL_PART, explain_targets, kelly_weights_by_horizon
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
    ("inputs", "target", "periods", "unconstrained", "binding"),
    [
        # an hour that decides against the month
        (plan(-8.0, 28.0), -0.6, 1, 0.1 * -8e-4 / 2e-5, "symbol_cap"),
        # a coin that may not be short, in such an hour
        (
            *(changed(plan(-8.0, 28.0), long_only=np.ones(1, dtype=bool)), 0.0, 1),
            *(0.1 * -8e-4 / 2e-5, "long_only"),
        ),
        # a month that decides, in an hour that is worth nothing
        (plan(0.0, 60.0), 0.0, 2, 0.1 * 60e-4 / 3.02e-3, None),
        # what its cost keeps where it is
        (plan(0.1, 10.0, held=0.03, cost=3e-3), 0.03, 2, 0.1 * 10.1e-4 / 3.02e-3, "cost"),
    ],
)
def test_target_shows_the_kelly_weight_of_its_horizon(
    inputs: SizingInputs, target: float, periods: int, unconstrained: float, binding: str | None
) -> None:
    found = answer(inputs)
    assert found.target_weight[0] == pytest.approx(target, abs=1e-6)
    assert found.horizon_periods.tolist() == [periods]
    assert found.unconstrained_weight[0] == pytest.approx(unconstrained)
    assert set(found.binding_shadow_prices[0]) >= ({binding} if binding else set())


def test_weight_rules_use_only_the_next_period() -> None:
    inputs = plan(20.0, -60.0)
    for name in ("fixed_fraction", "legacy"):
        allocation = strategy_from_name(name).allocate(inputs)
        assert allocation.horizon_periods.tolist() == [1]
        # Both go by the direction of the forecast and count no premium.
        assert allocation.premium_weight.tolist() == [0.0]
        assert allocation.forecast_weight.tolist() == allocation.unconstrained_weight.tolist()


@given(
    seed=st.integers(0, 10_000),
    fraction=st.sampled_from([0.1, 0.5, 1.0]),
    multiplier=st.sampled_from([1.0, 4.0]),
)
def test_kelly_weight_splits_into_premium_forecast_and_hedge(
    seed: int, fraction: float, multiplier: float
) -> None:
    """The parts sum to the weight; with other symbols at their targets the hedge part covers
    those.
    """
    inputs = random_inputs(np.random.default_rng(seed))
    found = KellyStrategy(fraction, multiplier).allocate(inputs)
    chosen = np.flatnonzero(inputs.adjustable)
    times = np.where(inputs.crypto, 1.0, multiplier)
    for k in chosen:
        all_mu, premiums, risks, _, _ = inputs.problem.returns
        earned, mu, covariance = (
            each[: found.horizon_periods[k]].sum(axis=0) for each in (premiums, all_mu, risks)
        )
        earned, mu, covariance = earned / times, mu / times, covariance / np.outer(times, times)
        inverse = np.zeros_like(covariance)
        together = np.ix_(chosen, chosen)
        inverse[together] = np.linalg.inv(covariance[together])
        whole = fraction * inverse[k] @ mu
        premium = fraction * inverse[k] @ earned
        forecast = fraction * inverse[k] @ (mu - earned)
        shown = found.unconstrained_weight[k]
        near = 1e-9 * (1 + abs(premium) + abs(forecast))
        if abs(shown - whole) > near:
            variance = covariance[k, k]
            premium = fraction * earned[k] / variance
            forecast = fraction * (mu - earned)[k] / variance
            hedge = found.target_weight[k] - covariance[k] @ found.target_weight / variance
            assert found.premium_weight[k] + found.forecast_weight[k] + hedge == pytest.approx(
                shown, abs=near
            )
        else:
            assert found.premium_weight[k] + found.forecast_weight[k] == pytest.approx(
                shown, abs=near
            )
        assert found.premium_weight[k] == pytest.approx(premium, abs=near)
        assert found.forecast_weight[k] == pytest.approx(forecast, abs=near)
    for shown in (found.unconstrained_weight, found.premium_weight, found.forecast_weight):
        assert np.isnan(shown[~inputs.adjustable]).all()


def test_unstated_premium_is_reported_as_unknown() -> None:
    found = answer(plan(20.0, 10.0))
    assert np.isnan(found.premium_weight).all()
    assert np.isnan(found.forecast_weight).all()


@given(seed=st.integers(0, 10_000), fraction=st.sampled_from([0.1, 0.5, 1.0]))
def test_weight_at_symbol_cap_reports_larger_unconstrained_weight(
    seed: int, fraction: float
) -> None:
    inputs = random_inputs(np.random.default_rng(seed))
    found = answer(inputs, fraction)
    for k, names in enumerate(found.binding_shadow_prices):
        # What is held beyond its limit is cut to it whatever Kelly says.
        within = inputs.held_weight[k] * np.sign(found.target_weight[k]) <= abs(
            found.target_weight[k]
        )
        if names.get("symbol_cap", 0.0) > 1e-6 and within:
            assert found.unconstrained_weight[k] * found.target_weight[k] > 0
            assert abs(found.unconstrained_weight[k]) >= abs(found.target_weight[k]) - 1e-6


def test_identical_symbols_share_one_weight_over_every_horizon() -> None:
    """Two stocks with the same risk: no period's covariance has a Cholesky factor, and the weight
    is halved.
    """
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
    assert found.horizon_periods.tolist() == [1, 1]
    np.testing.assert_allclose(found.unconstrained_weight, 0.1 * -8e-4 / 2e-5 / 2, rtol=1e-9)
    np.testing.assert_allclose(found.premium_weight, 0.1 * 1e-4 / 2e-5 / 2, rtol=1e-9)
    whole, singular = kelly_weights_by_horizon(both.problem, 0.1)
    assert singular.all()
    filled = explain_targets(both.problem, np.full((2, 2), 0.01), np.zeros(6), 0.1)
    assert np.isnan(whole[-1]).all()
    np.testing.assert_allclose(filled.unconstrained_weight, 0.1 * 20e-4 / 3.02e-3 / 2, rtol=1e-9)
    np.testing.assert_allclose(filled.premium_weight, 0.1 * 6e-4 / 3.02e-3 / 2, rtol=1e-9)


def test_unconstrained_weight_accounts_for_other_symbols_targets() -> None:
    seen = 0
    for seed in range(60):
        inputs = random_inputs(np.random.default_rng(seed))
        found = answer(inputs, 0.5)
        together, _ = kelly_weights_by_horizon(inputs.problem, 0.5)
        for k in np.flatnonzero(inputs.adjustable):
            seen += (
                abs(
                    found.unconstrained_weight[k]
                    - together[found.horizon_periods[k] - 1, TOTAL_PART, k]
                )
                > 1e-9
            )
    assert seen > 10
