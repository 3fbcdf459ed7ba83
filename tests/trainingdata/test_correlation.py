from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf

from trainingdata.bars import CLOSE, Bars
from trainingdata.correlation import SMALLEST_EIGENVALUE, CorrelationEstimator, correlations_over, positive_definite
from trainingdata.errors import InputError
from trainingdata.sessions import last_four_pm
from trainingdata.synthetic import SyntheticMarket


def test_a_full_window_is_ledoit_wolf_on_standardised_returns(market: Bars) -> None:
    stocks = np.flatnonzero(~market.crypto)
    only = Bars(tuple(market.instruments[s] for s in stocks), market.times, market.values[stocks], market.mask[stocks], "test")
    rows = np.flatnonzero(only.mask.any(axis=0) & (only.times <= last_four_pm(only.now)))[-201:]
    returns = np.diff(np.log(only.values[:, rows, CLOSE].T), axis=0)
    standard = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    expected = LedoitWolf(assume_centered=True).fit(standard).covariance_
    np.testing.assert_allclose(CorrelationEstimator(hourly_window=200).at(only).values, expected, atol=1e-12)


def test_without_data_the_prior_answers(market: Bars) -> None:
    values = CorrelationEstimator().at(market.between(0, 1)).values
    crypto = market.crypto
    assert np.allclose(values[~crypto][:, ~crypto][np.triu_indices(3, 1)], 0.4)
    assert np.allclose(values[crypto][:, crypto][np.triu_indices(2, 1)], 0.6)
    assert np.allclose(values[~crypto][:, crypto], 0.2)


def test_half_a_window_trusts_the_data_half(market: Bars) -> None:
    """Weight n / window: a window twice as long as the data leaves every pair half way to the prior."""
    stocks = np.ix_(~market.crypto, ~market.crypto)
    rows = market.mask[~market.crypto].any(axis=0) & (market.times <= last_four_pm(market.now))
    n = int(rows.sum()) - 1
    full, half = (CorrelationEstimator(hourly_window=w).at(market).values[stocks] for w in (n, 2 * n))
    expected = (full + 0.4) / 2
    np.fill_diagonal(expected, 1.0)
    np.testing.assert_allclose(half, expected, atol=1e-12)


def test_bars_after_the_last_four_pm_change_nothing(
    market: Bars, scrambled_after: Callable[[Bars, np.datetime64], Bars]
) -> None:
    boundary = last_four_pm(market.times[1200])
    altered = scrambled_after(market, boundary)
    now = market.times[market.times < boundary + np.timedelta64(24, "h")][-1]
    estimator = CorrelationEstimator()
    np.testing.assert_array_equal(estimator.at(market.until(now)).values, estimator.at(altered.until(now)).values)


def test_the_table_answers_what_the_estimator_would(market: Bars) -> None:
    estimator = CorrelationEstimator()
    instants = market.times[900::7]
    numbers, matrices = correlations_over(estimator, market, instants)
    assert len(matrices) < len(instants)
    for now, number in zip(instants, numbers, strict=True):
        np.testing.assert_array_equal(matrices[number], estimator.at(market.until(now)).values)


def test_a_missing_bar_is_no_zero_return(market: Bars) -> None:
    """Lesson 15: hiding one bar in seven of a symbol must not pull its correlation towards zero."""
    estimator = CorrelationEstimator(hourly_window=200)
    mask = market.mask.copy()
    own = np.flatnonzero(mask[0])
    mask[0, own[::7]] = False
    values = np.where(mask[:, :, None], market.values, np.nan)
    sparse = Bars(market.instruments, market.times, values, mask, "test")
    whole, thinned = estimator.at(market).values[0, 1], estimator.at(sparse).values[0, 1]
    assert thinned > 0.6 * whole


@given(st.integers(0, 10_000), st.integers(2, 12))
def test_the_repair_gives_a_correlation_matrix(seed: int, n: int) -> None:
    """Lesson 15."""
    rng = np.random.default_rng(seed)
    raw = np.clip(rng.normal(0, 0.8, (n, n)), -1, 1)
    raw = (raw + raw.T) / 2
    np.fill_diagonal(raw, 1.0)
    fixed = positive_definite(raw)
    assert np.allclose(np.diag(fixed), 1)
    assert np.array_equal(fixed, fixed.T)
    assert np.linalg.eigvalsh(fixed)[0] > SMALLEST_EIGENVALUE / n / 2


def test_stocks_and_coins_are_joined_by_afternoon_returns() -> None:
    """Coins move with stocks overnight too: 16:00 to 16:00 sees it, the hourly grids share no bar."""
    market = SyntheticMarket(start="2022-01-03", end="2024-06-28").bars()
    across = CorrelationEstimator(session_window=300, across=0.0).at(market).values[~market.crypto][:, market.crypto]
    assert 0.05 < across.mean() < 0.3  # the market's own: 0.65 · 0.75 · 0.36 = 0.18


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(InputError, match=r"correlation\.hourly_window"):
        CorrelationEstimator(hourly_window=1)
    with pytest.raises(InputError, match=r"correlation\.across"):
        replace(CorrelationEstimator(), across=1.0)
