"""Shrunk Kelly grows fastest over the errors of an estimate, and a proven mean is seldom missed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.arrays import Array
from sizing import (
    DrawdownBound,
    binary_shrinkage,
    drawdown_fraction,
    proven_share,
    shrinkage,
)

SIGMA = np.array([[1.0, 0.3, 0.1], [0.3, 2.0, -0.2], [0.1, -0.2, 0.5]])
ERROR = np.array([[0.02, 0.01, 0.0], [0.01, 0.03, 0.0], [0.0, 0.0, 0.01]])
MU = np.array([0.15, -0.2, 0.1])


def estimates(mu: Array, error: Array, count: int, seed: int = 0) -> Array:
    """[count, S] unbiased normal estimates, exact in their mean and covariance."""
    drawn = np.random.default_rng(seed).normal(size=(count, len(mu)))
    drawn -= drawn.mean(axis=0)
    drawn = np.linalg.solve(np.linalg.cholesky(np.cov(drawn.T, bias=True)), drawn.T).T
    return mu + drawn @ np.linalg.cholesky(error).T


def test_the_factor_grows_fastest_in_the_mean_over_all_estimates() -> None:
    bets = estimates(MU, ERROR, 2000) @ np.linalg.inv(SIGMA)
    gain = (bets @ MU).mean()
    risk = np.einsum("ni,ij,nj->n", bets, SIGMA, bets).mean()
    factors = np.linspace(0, 1.5, 15_001)
    fastest = factors[np.argmax(factors * gain - factors**2 * risk / 2)]
    assert shrinkage(MU, ERROR, SIGMA) == pytest.approx(fastest, abs=1e-4)


def test_one_bet_keeps_mu_squared_over_mu_squared_and_error() -> None:
    assert shrinkage([0.02], [[0.0001]], [[0.04]]) == pytest.approx(0.0004 / 0.0005)
    assert shrinkage([-0.02], [[0.0]], [[0.04]]) == 1.0
    assert shrinkage([0.0], [[0.0001]], [[0.04]]) == 0.0


def test_a_contract_with_a_doubtful_chance_by_brute_force() -> None:
    # p is 0.6 with an error of 0.05 and a contract costs 0.5: full Kelly 0.2, its deviation 0.1.
    seen = 0.6 + 0.05 * np.sqrt(3) * np.linspace(-1, 1, 4001)  # even, of deviation 0.05
    stakes = np.maximum(2 * seen - 1, 0)
    factors = np.linspace(0, 1.2, 1201)[:, None]
    growth = (0.6 * np.log1p(factors * stakes) + 0.4 * np.log1p(-factors * stakes)).mean(axis=1)
    fastest = float(factors[growth.argmax(), 0])
    assert float(binary_shrinkage(0.6, 0.5, 0.05)) == pytest.approx(0.8)
    assert fastest == pytest.approx(0.8, abs=0.02)  # log growth is not quite quadratic


@given(st.floats(0, 1), st.floats(0.01, 0.99), st.floats(0, 0.5))
def test_a_contract_is_the_one_bet_of_its_own_mean_and_variance(
    chance: float, price: float, error: float
) -> None:
    factor = float(binary_shrinkage(chance, price, error))
    assert 0 <= factor <= 1
    if chance > price:
        # per USD staked a win returns (1 - c) / c, and returns are in units of 1 / c
        same = shrinkage([chance - price], [[error**2]], [[1.0]])
        assert factor == pytest.approx(same, abs=1e-12)
    else:
        assert factor == 0


@given(st.floats(0.01, 100), st.floats(0.01, 10), st.floats(0, 4))
def test_units_and_the_order_of_symbols_do_not_matter(
    scale: float, size: float, errors: float
) -> None:
    turn = [2, 0, 1]
    turned = MU[turn], ERROR[np.ix_(turn, turn)], SIGMA[np.ix_(turn, turn)]
    scaled = [MU * scale * size, ERROR * scale**2, SIGMA * scale**2]
    for k in range(2):
        share = (shrinkage, lambda *a: proven_share(*a, errors))[k]
        alike = share(MU * size, ERROR, SIGMA)
        assert share(*scaled) == pytest.approx(alike, abs=1e-9)
        assert share(turned[0] * size, *turned[1:]) == pytest.approx(alike, abs=1e-9)


@pytest.mark.parametrize("sharpe", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("bets", [1, 8])
def test_the_proven_mean_is_missed_in_one_market_of_twenty_at_most(
    sharpe: float, bets: int
) -> None:
    # mu is so many errors long: nothing to find, something, or plenty
    rng = np.random.default_rng(int(10 * sharpe) + bets)
    sigma = 0.6 * np.eye(bets) + 0.4
    error = sigma / 100
    missed = 0
    for _ in range(4000):
        mu = np.linalg.cholesky(error) @ rng.normal(size=bets)
        mu *= sharpe / np.sqrt(mu @ np.linalg.solve(error, mu) / bets)
        seen = mu + np.linalg.cholesky(error) @ rng.normal(size=bets)
        share = proven_share(seen, error, sigma)
        bet = np.linalg.solve(sigma, seen)
        missed += share > 0 and mu @ bet < share * (seen @ bet)
    assert missed / 4000 <= 0.055  # four standard errors of 5 % are 1.4 %


def test_what_is_known_is_proven_whole() -> None:
    assert proven_share(MU, np.zeros((3, 3)), SIGMA) == 1.0
    assert proven_share(np.zeros(3), ERROR, SIGMA) == 0.0
    assert proven_share([2.2], [[1.0]], [[4.0]]) == 0.0 < proven_share([2.3], [[1.0]], [[4.0]])
    assert proven_share([4.0], [[1.0]], [[9.0]]) == pytest.approx(
        1 - 1 / 16 - 1.645 * np.sqrt(1 + 1 / 16) / 4
    )


@pytest.mark.parametrize(("alpha", "beta"), [(0.7, 0.1), (0.5, 0.125), (0.9, 0.5), (0.8, 0.9)])
def test_the_fraction_for_a_drawdown_by_the_chance_of_a_brownian_motion(
    alpha: float, beta: float
) -> None:
    fraction = drawdown_fraction(DrawdownBound(alpha, beta))
    # wealth of drift (f - f²/2)·q and variance f²·q: falls to alpha with alpha^(2·drift / variance)
    drift, variance = fraction - fraction**2 / 2, fraction**2
    assert alpha ** (2 * drift / variance) == pytest.approx(beta)


def test_half_kelly_is_the_fraction_for_the_cube() -> None:
    assert drawdown_fraction(DrawdownBound(0.5, 0.125)) == pytest.approx(0.5)
    assert drawdown_fraction(DrawdownBound(0.7, 0.1)) == pytest.approx(0.268, abs=0.001)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([[0.1]], [[0.0]], [[1.0]]), "mu must have shape"),
        (([0.1], [0.0], [[1.0]]), "error must have shape"),
        (([0.1], [[0.0]], [[1.0, 0.0]]), "covariance must have shape"),
        (([np.nan], [[0.0]], [[1.0]]), "mu must be finite"),
        (([0.1], [[-0.1]], [[1.0]]), "error has a negative variance"),
        (([0.1], [[np.inf]], [[1.0]]), "error must be finite"),
        (([0.1, 0.1], [[1.0, 2.0], [2.0, 1.0]], np.eye(2)), "error must be positive"),
        (([0.1, 0.1], np.eye(2), [[1.0, 0.0], [0.5, 1.0]]), "covariance must be symmetric"),
    ],
)
def test_what_is_no_estimate_is_refused(arguments: tuple[object, ...], says: str) -> None:
    for share in (shrinkage, proven_share):
        with pytest.raises(ValueError, match=says):
            share(*arguments)  # type: ignore[arg-type]


def test_numbers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="errors must be finite"):
        proven_share([0.1], [[0.0]], [[1.0]], -1.0)
    with pytest.raises(ValueError, match="error must be finite"):
        binary_shrinkage(0.6, 0.5, -0.1)
    with pytest.raises(ValueError, match="price must be"):
        binary_shrinkage(0.6, 1.0, 0.1)
