from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foundation.compose import compose_config
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.correlation import MIN_EIGENVALUE
from trainingdata.stored_correlation import CorrelationSettings, reduce_to_factors


@given(st.integers(2, 12), st.integers(1, 11), st.integers(0, 2**32 - 1))
def test_few_factors_keep_a_valid_correlation_matrix(size: int, factors: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    returns = random.normal(size=(3 * size, size)) + random.normal(size=(3 * size, 1))
    correlation = np.corrcoef(returns.T)
    found = reduce_to_factors(correlation, factors)
    if factors >= size:
        assert found is correlation
        return
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1.0)
    assert np.linalg.eigvalsh(found)[0] > MIN_EIGENVALUE * (1 - 1e-6)
    eigenvalues, vectors = np.linalg.eigh(correlation)
    common = np.minimum(vectors[:, -factors:] ** 2 @ eigenvalues[-factors:], 0.999)
    assert np.linalg.matrix_rank(found - np.diag(1 - common), tol=1e-9) <= factors


def test_one_factor_keeps_equal_correlations_equal() -> None:
    """For S symbols with equal correlations ρ one factor keeps ρ + (1 - ρ) / S."""
    size, rho = 50, 0.4
    equal = np.full((size, size), rho)
    np.fill_diagonal(equal, 1.0)
    found = reduce_to_factors(equal, 1)
    off = found[~np.eye(size, dtype=bool)]
    np.testing.assert_allclose(off, rho + (1 - rho) / size, rtol=1e-12)


def test_factor_correlation_matrix_is_equal_live_and_historically(market: Bars) -> None:
    source = CorrelationSettings(factors=2).build_source()
    instants = market.times[[400, 700]]
    history = source.matrices_at(market, instants)
    for values, at in zip(history, instants, strict=True):
        np.testing.assert_array_equal(source.matrix_at_end(market.slice_until(at)).values, values)
    assert not np.array_equal(
        history, CorrelationSettings().build_source().matrices_at(market, instants)
    )


def test_number_of_correlation_factors_is_configurable() -> None:
    words = ["correlation.factors=1", "trials=null"]
    settings = BacktestSettings.from_config(compose_config("backtest", words))
    assert settings.correlation.factors == 1
