from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from forecasting.forecast import HORIZON, LEVELS, MEDIAN_INDEX, VolatilityRule
from forecasting.moments import (
    cumulative_variance,
    expected_return_between,
    log_return_moments,
    volatility_from_quantiles,
)
from foundation.arrays import Array
from tests.support.latest import Latest

NOW = np.datetime64("2024-10-01T19:30", "ns")


class Moments(NamedTuple):
    """Expected return and deviation, [S]."""

    mu: Array
    sigma: Array


def forecast(drift: float, deviation: float, price: float = 200.0) -> Latest:
    """Normal returns: median `drift`·step, deviation growing with the root of the step."""
    steps = np.arange(1, HORIZON + 1)
    returns = drift * steps[:, None] + deviation * np.sqrt(steps)[:, None] * norm.ppf(LEVELS)
    values = (price * (1 + returns)).astype(np.float32)[None]
    return Latest(np.array([NOW]), np.array([price]), values)


def read(of: Latest, begin: np.ndarray, finish: np.ndarray, rule: VolatilityRule) -> Moments:
    """Moments between own bars; beyond the last step variance grows by 2e-4 a bar, twice as
    fast as within.
    """
    before, after = (
        cumulative_variance(of.values, of.price, place, rule, np.array([2e-4]))
        for place in (begin, finish)
    )
    return Moments(
        expected_return_between(of.values, of.price, begin, finish), np.sqrt(after - before)
    )


def moments(begin: float, finish: float, drift: float = 1e-4) -> Moments:
    return read(forecast(drift, 0.01), np.array([begin]), np.array([finish]), "normal")


def test_volatility_rules_give_known_values_on_normal_quantiles() -> None:
    q = 100 * (1 + 0.01 * norm.ppf(LEVELS))
    assert volatility_from_quantiles(q, 100.0, "original") == pytest.approx(0.01 * 1.2816, rel=1e-3)
    assert volatility_from_quantiles(q, 100.0, "normal") == pytest.approx(0.01, rel=1e-3)
    assert volatility_from_quantiles(q, 100.0, "quantile") == pytest.approx(0.01, rel=0.025)


def test_quantile_volatility_rule_includes_heavy_tails() -> None:
    q = 100 * (1 + 0.01 * student.ppf(LEVELS, 5) * np.sqrt(3 / 5))
    assert volatility_from_quantiles(q, 100.0, "normal") == pytest.approx(0.0089, rel=0.01)
    assert volatility_from_quantiles(q, 100.0, "quantile") == pytest.approx(0.01, rel=0.02)


@given(
    st.floats(0.1, 10), st.floats(1e-5, 0.05), st.sampled_from(["original", "normal", "quantile"])
)
def test_volatility_scales_with_spread_not_price(price: float, spread: float, rule: str) -> None:
    q = price * (1 + spread * student.ppf(LEVELS, 6))
    assert volatility_from_quantiles(q, price, rule) == pytest.approx(
        volatility_from_quantiles(1 + student.ppf(LEVELS, 6) * 1e-3, 1.0, rule) * spread * 1e3
    )


@given(begin=st.floats(0, 60), length=st.floats(0.01, 40), step=st.sampled_from([0.0, 2e-4, -3e-4]))
def test_mean_and_variance_interpolate_linearly_between_steps(
    begin: float, length: float, step: float
) -> None:
    """Median and variance grow equally at every step, so a fraction of a step counts
    proportionally. After the last step the mean stays, and variance grows at the given rate.
    """
    found = moments(begin, begin + length, drift=step)
    inside = min(begin + length, HORIZON) - min(begin, HORIZON)
    assert found.mu[0] == pytest.approx(step * inside, rel=1e-3, abs=3e-7)
    assert found.sigma[0] ** 2 == pytest.approx(
        1e-4 * inside + 2e-4 * (length - inside), rel=1e-2, abs=1e-7
    )


def test_mean_between_steps_weights_neighbours_by_distance() -> None:
    """The forecast jumps at its third step."""
    values = forecast(0.0, 0.01).values.copy()
    values[:, 2:] *= np.float32(1.08)
    jump = Latest(np.array([NOW]), np.array([200.0]), values)
    for place, share in ((2.0, 0.0), (2.25, 0.25), (2.5, 0.5), (3.0, 1.0), (7.75, 1.0)):
        assert read(jump, np.zeros(1), np.array([place]), "normal").mu[0] == pytest.approx(
            0.08 * share, abs=1e-6
        )


def test_missing_later_forecast_steps_keep_earlier_variances_known() -> None:
    """This occurs with an oracle near the end of its bars."""
    values = forecast(1e-4, 0.01).values.copy()
    values[:, 10:] = np.nan
    short = Latest(np.array([NOW]), np.array([200.0]), values)
    for place, known in ((1.0, True), (10.0, True), (11.0, False), (30.0, False)):
        found = cumulative_variance(
            short.values, short.price, np.array([place]), "normal", np.array([np.nan])
        )
        assert np.isfinite(found[0]) == known


@given(seed=st.integers(0, 2**16), skew=st.floats(-3, 3), shift=st.floats(-0.05, 0.05))
def test_quantile_volatility_matches_numerical_integration(
    seed: int, skew: float, shift: float
) -> None:
    """Skewed forecasts are included."""
    rng = np.random.default_rng(seed)
    levels = np.array(LEVELS)
    gaps = rng.exponential(1e-3, len(levels)) * np.exp(skew * levels)
    q = 1 + shift + np.cumsum(gaps)

    def integral(power: int) -> float:
        fine = np.linspace(levels[0], levels[-1], 40_001)
        inside = np.trapezoid(np.interp(fine, levels, q) ** power, fine)
        t = np.linspace(0, 40, 40_001)  # u = mass · exp(-t)
        low = q[0] - t * (q[1] - q[0]) / np.log(levels[1] / levels[0])
        high = q[-1] + t * (q[-1] - q[-2]) / np.log((1 - levels[-2]) / (1 - levels[-1]))
        tails = levels[0] * np.trapezoid(low**power * np.exp(-t), t)
        return float(inside + tails + (1 - levels[-1]) * np.trapezoid(high**power * np.exp(-t), t))

    expected = np.sqrt(integral(2) - integral(1) ** 2)
    assert volatility_from_quantiles(q, 1.0, "quantile") == pytest.approx(expected, rel=2e-3)


def test_median_equal_to_price_gives_zero_mean_return() -> None:
    """Prices are float64 and quantiles float32: the rounding difference is no forecast."""
    price = 187.3142857
    values = np.full((1, HORIZON, len(LEVELS)), price, dtype=np.float32)
    flat = Latest(np.array([NOW]), np.array([price]), values)
    assert read(flat, np.zeros(1), np.ones(1), "normal").mu[0] == 0.0


@given(st.floats(-0.02, 0.02), st.floats(1e-4, 0.1), st.floats(1, 5000))
def test_log_moments_are_log_median_and_log_variance(
    drift: float, deviation: float, price: float
) -> None:
    of = forecast(drift, deviation, price)
    median, log_variance = log_return_moments(of.values, of.price)
    assert (median.dtype, log_variance.dtype) == (np.float32, np.float32)
    close = of.price.astype(np.float32)[:, None]
    np.testing.assert_allclose(np.exp(median), of.values[..., MEDIAN_INDEX] / close, rtol=1e-5)
    whole = volatility_from_quantiles(of.values, close, "quantile")
    np.testing.assert_allclose(np.exp(log_variance), whole**2, rtol=1e-4)


def test_constant_price_has_the_minimum_variance() -> None:
    still = np.full((1, HORIZON, len(LEVELS)), 5.0, dtype=np.float32)
    _, log_variance = log_return_moments(still, np.array([5.0]))
    np.testing.assert_allclose(log_variance, 2 * np.log(1e-9), rtol=1e-6)


def test_missing_forecast_gives_nan_moments() -> None:
    none = Latest(
        np.array([np.datetime64("NaT", "ns")]),
        np.array([np.nan]),
        np.full((1, HORIZON, len(LEVELS)), np.nan, np.float32),
    )
    answer = read(none, np.zeros(1), np.ones(1), "quantile")
    assert np.isnan(answer.mu[0])
    assert np.isnan(answer.sigma[0])
