"""Scenarios have the moments they are asked for, the shapes of the forecasts, and no luck."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kurtosis, norm, skew
from scipy.stats import t as student

from foundation.arrays import Array
from foundation.errors import InputError
from sizing.scenarios import Copula, Shape, block_returns

LEVELS = np.array([0.01, 0.05, *np.arange(0.1, 0.95, 0.05), 0.95, 0.99])


def moments(seed: int) -> tuple[Array, Array]:
    """Returns [K, S] and covariances [K, S, S] of an hour, two, and a month."""
    rng = np.random.default_rng(seed)
    symbols = int(rng.integers(1, 9))
    factors = rng.normal(size=(symbols, 2))
    base = 0.5 * np.eye(symbols) + 0.3 * factors @ factors.T
    deviation = rng.uniform(0.002, 0.02, symbols)
    covariance = base * np.outer(deviation, deviation)
    blocks = np.array([1.0, 2.0, 40.0])
    return rng.normal(0, 0.1, (3, symbols)) * deviation, covariance * blocks[:, None, None]


def heavy(symbols: int) -> Shape:
    """The shape of a Student-t with three degrees of freedom, on the left alone."""
    quantiles = np.where(LEVELS < 0.5, student.ppf(LEVELS, 3), norm.ppf(LEVELS))
    return Shape(LEVELS, np.tile(quantiles, (1, symbols, 1)))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["normal", "t"]), st.booleans())
def test_mean_and_covariance_are_exactly_the_situations(
    seed: int, copula: Copula, shaped: bool
) -> None:
    mu, covariance = moments(seed)
    shape = heavy(mu.shape[1]) if shaped else None
    returns = block_returns(mu, covariance, shape, copula=copula)
    for k in range(3):
        deviation = np.sqrt(np.diag(covariance[k]))
        assert np.abs(returns[k].mean(axis=1) - mu[k]).max() <= 1e-12 * deviation.max()
        found = np.cov(returns[k], bias=True).reshape(covariance[k].shape)
        assert np.abs(found - covariance[k]).max() <= 1e-10 * deviation.max() ** 2
    assert returns.min() > -1


def test_an_alike_pair_and_a_symbol_that_stands_still_keep_exact_moments() -> None:
    covariance = np.array([[4e-4, 4e-4, 0.0], [4e-4, 4e-4, 0.0], [0.0, 0.0, 0.0]])[None]
    returns = block_returns(np.array([[1e-3, 1e-3, 0.0]]), covariance, copula="t")[0]
    assert returns[0] == pytest.approx(returns[1], abs=1e-9)
    assert (returns[2] == 0).all()
    assert np.cov(returns, bias=True) == pytest.approx(covariance[0], abs=1e-12)


def test_scenarios_follow_the_forecasts_quantiles() -> None:
    mu, covariance = np.zeros((1, 1)), np.full((1, 1, 1), 0.01**2)
    normal = np.log1p(block_returns(mu, covariance, scenarios=8192)[0, 0])
    assert abs(skew(normal)) < 0.02
    assert abs(kurtosis(normal)) < 0.05
    quantiles = np.where(LEVELS < 0.5, 3.0, 1.0) * norm.ppf(LEVELS)
    shape = Shape(LEVELS, quantiles[None, None])
    logs = np.log1p(block_returns(mu, covariance, shape, scenarios=8192)[0, 0])
    found = np.quantile(logs, LEVELS)
    found -= found[LEVELS.searchsorted(0.5)]
    scale = found[-1] / quantiles[-1]
    assert found / scale == pytest.approx(quantiles, abs=0.03)


def test_a_t_copula_falls_together_and_extends_tails() -> None:
    covariance = np.array([[1.0, 0.5], [0.5, 1.0]])[None] * 0.01**2
    mu = np.zeros((1, 2))
    joint = {}
    for copula in ("normal", "t"):
        shape = Shape(LEVELS, np.tile(norm.ppf(LEVELS), (1, 2, 1)))
        logs = np.log1p(block_returns(mu, covariance, shape, copula=copula, scenarios=16384)[0])  # type: ignore[arg-type]
        worst = np.quantile(logs, 0.01, axis=1)[:, None]
        joint[copula] = ((logs <= worst).all(axis=0).mean(), logs.min())
    assert joint["t"][0] > 1.4 * joint["normal"][0]
    assert joint["t"][1] < 1.3 * joint["normal"][1]


def test_the_same_question_has_the_same_scenarios_to_the_last_bit() -> None:
    mu, covariance = moments(4)
    first = block_returns(mu, covariance, copula="t")
    block_returns(*moments(5), copula="normal")
    assert np.array_equal(first, block_returns(mu.copy(), covariance.copy(), copula="t"))


def test_more_symbols_than_scenarios_get_more_scenarios() -> None:
    mu = np.zeros((1, 40))
    returns = block_returns(mu, np.eye(40)[None] * 1e-4, scenarios=64)
    assert returns.shape == (1, 40, 256)
    assert np.cov(returns[0], bias=True) == pytest.approx(np.eye(40) * 1e-4, abs=1e-13)


def test_any_number_of_draws_becomes_a_power_of_two() -> None:
    asked = block_returns(np.zeros((1, 2)), np.eye(2)[None] * 1e-4, scenarios=1000)
    full = block_returns(np.zeros((1, 2)), np.eye(2)[None] * 1e-4, scenarios=1024)
    assert np.array_equal(asked, full)


@pytest.mark.parametrize("count", [0, 32, 1 << 20])
def test_a_number_of_draws_out_of_bounds_is_refused(count: int) -> None:
    with pytest.raises(InputError, match=f"scenarios: {count} is outside 64"):
        block_returns(np.zeros((1, 1)), np.ones((1, 1, 1)), scenarios=count)
