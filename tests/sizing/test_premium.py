"""The premium prior: what a stated Sharpe ratio of a class means for each symbol, and for a
book of half-Kelly.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.kelly import unconstrained_kelly
from sizing.premium import premiums_at_unit_sharpe
from sizing.settings import PriorSettings
from trainingdata.correlation import MeanCorrelations


def premiums(
    variance: np.ndarray, correlation: np.ndarray, crypto: np.ndarray | None = None
) -> np.ndarray:
    mask = np.zeros(len(variance), dtype=bool) if crypto is None else crypto
    return class_premiums(variance, correlation, mask)[0]


def class_premiums(
    variance: np.ndarray, correlation: np.ndarray, crypto: np.ndarray
) -> tuple[np.ndarray, float]:
    """Premiums [S] of one instant, and the correlation of crypto with stocks."""
    found, crypto_correlation = premiums_at_unit_sharpe(
        variance[None],
        np.zeros(1, dtype=np.int64),
        correlation[None].astype(np.float32),
        crypto,
        MeanCorrelations(),
    )
    return found[0], float(crypto_correlation[0])


def equicorrelated(n: int, rho: float) -> np.ndarray:
    return np.full((n, n), rho) + (1 - rho) * np.eye(n)


@given(st.integers(1, 40), st.sampled_from([0.0, 0.125, 0.5, 0.75]), st.integers(0, 1000))
def test_half_kelly_on_premium_has_expected_portfolio_volatility(
    n: int, rho: float, seed: int
) -> None:
    """The volatility is fraction x ratio, scaled by how well the symbols represent their class:
    weights of 1/n have it at any volatilities.
    """
    sigma = np.random.default_rng(seed).uniform(0.1, 0.6, n)
    covariance = equicorrelated(n, rho) * np.outer(sigma, sigma)
    expected = 0.3 * premiums(sigma**2, equicorrelated(n, rho))
    weights = unconstrained_kelly(expected, covariance, 0.5)
    own = leaned(n, rho)
    share = np.sqrt(own / (own + (1 - own) / n))
    np.testing.assert_allclose(np.sqrt(weights @ covariance @ weights), 0.15 * share, rtol=1e-5)
    np.testing.assert_allclose(weights, weights.mean(), rtol=1e-4)
    equal = np.full(n, 1 / n)
    np.testing.assert_allclose(
        expected @ equal / np.sqrt(equal @ covariance @ equal), 0.3 * share, rtol=1e-5
    )


def leaned(n: int, rho: float, prior: float = 0.4) -> float:
    """The class's mean correlation: three pairs of the prior beside those there are."""
    pairs = n * (n - 1) / 2
    return (3 * prior + pairs * rho) / (3 + pairs)


def test_premium_depends_on_diversification_of_the_symbols() -> None:
    many = premiums(np.full(2000, 0.04), equicorrelated(2000, 0.5))
    assert many[0] / 0.2 == pytest.approx(np.sqrt(0.5), rel=1e-3), (
        "of one symbol, its correlation with the class"
    )
    assert premiums(np.array([0.25]), np.eye(1), np.ones(1, dtype=bool))[0] / 0.5 == pytest.approx(
        np.sqrt(0.6), rel=1e-6
    )


def test_premiums_are_per_class_and_zero_when_unknown() -> None:
    """Two stocks, two coins, a stock without a forecast and a constant one: crypto does not change
    the stock premiums.
    """
    correlation = equicorrelated(6, 0.5)
    variance = np.array([0.04, 0.09, np.nan, 0.0, 0.5, 0.8])
    crypto = np.array([False, False, False, False, True, True])
    found = premiums(variance, correlation, crypto)
    np.testing.assert_allclose(found[:2], premiums(variance[:2], correlation[:2, :2]), rtol=1e-6)
    np.testing.assert_allclose(
        found[4:], premiums(variance[4:], correlation[4:, 4:], crypto[4:]), rtol=1e-6
    )
    assert found[2:4].tolist() == [0.0, 0.0]


def test_uncorrelated_asset_class_has_no_risk_premium() -> None:
    assert premiums(np.full(4, 0.04), equicorrelated(4, -0.3)).tolist() == [0.0] * 4
    many = 200
    assert premiums(np.full(many, 0.04), np.eye(many)).sum() / 0.2 < 0.02 * many


def two_classes(stocks: int, coins: int, within: tuple[float, float], across: float) -> np.ndarray:
    """Correlations of equicorrelated stocks and crypto."""
    size = stocks + coins
    matrix = np.full((size, size), across)
    matrix[:stocks, :stocks] = equicorrelated(stocks, within[0])
    matrix[stocks:, stocks:] = equicorrelated(coins, within[1])
    return matrix


@given(st.integers(0, 2**32 - 1))
def test_crypto_stock_correlation_matches_diversified_class_portfolios(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stocks, coins = 300, 200
    within = rng.uniform(0.2, 0.8, 2)
    across = float(rng.uniform(-0.9, 0.9) * np.sqrt(within.prod()))
    matrix = two_classes(stocks, coins, (float(within[0]), float(within[1])), across)
    crypto = np.arange(stocks + coins) >= stocks
    weights = np.stack([~crypto / stocks, crypto / coins])
    portfolios = weights @ matrix @ weights.T
    expected = portfolios[0, 1] / np.sqrt(portfolios[0, 0] * portfolios[1, 1])
    _, found = class_premiums(rng.uniform(0.01, 1.0, stocks + coins), matrix, crypto)
    assert found == pytest.approx(expected, abs=0.03), "which few symbols approach"


def test_few_symbols_shrink_crypto_correlation_to_the_prior() -> None:
    """By hand: two stocks and one coin have two pairs between the classes; the prior counts as
    three.
    """
    crypto = np.array([False, False, True])
    _, found = class_premiums(np.full(3, 0.09), two_classes(2, 1, (0.5, 1.0), 0.1), crypto)
    across = (3 * 0.2 + 2 * 0.1) / (3 + 2)
    stocks = (3 * 0.4 + 1 * 0.5) / (3 + 1)
    assert found == pytest.approx(across / np.sqrt(stocks * 0.6), rel=1e-6)
    _, alone = class_premiums(np.full(1, 0.5), np.eye(1), np.ones(1, dtype=bool))
    assert alone == pytest.approx(0.2 / np.sqrt(0.4 * 0.6), rel=1e-12)


def test_default_crypto_sharpe_is_implied_by_stock_correlation() -> None:
    correlation = np.array([0.5, -0.25])
    implied = PriorSettings(stock_sharpe=0.4).class_sharpe_ratios(correlation)
    np.testing.assert_allclose(implied, [[0.4, 0.2], [0.4, -0.1]])
    stated = PriorSettings(stock_sharpe=0.4, crypto_sharpe=0.1).class_sharpe_ratios(correlation)
    np.testing.assert_allclose(stated, [[0.4, 0.1], [0.4, 0.1]])


@given(st.integers(0, 2**32 - 1))
def test_implied_crypto_premium_gives_zero_kelly_weight(seed: int) -> None:
    """Under the capital asset pricing model the market portfolio is already optimal."""
    rng = np.random.default_rng(seed)
    deviation = rng.uniform(0.1, 0.9, 2)
    rho = float(rng.uniform(-0.9, 0.9))
    covariance = np.array([[1.0, rho], [rho, 1.0]]) * np.outer(deviation, deviation)
    (sharpe,) = PriorSettings().class_sharpe_ratios(np.array([rho]))
    weights = unconstrained_kelly(sharpe * deviation, covariance, 0.5)
    assert weights[0] == pytest.approx(0.5 * 0.3 / deviation[0])
    assert weights[1] == pytest.approx(0.0, abs=1e-12)
