from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from forecasting.forecast import HORIZON, LEVELS, QuantileForecast
from forecasting.moments import Moments, Volatility, moments_between, volatility

NOW, LATER = np.datetime64("2024-10-01T19:30", "ns"), np.datetime64("2024-10-02T14:30", "ns")


def forecast(drift: float, deviation: float, price: float = 200.0) -> QuantileForecast:
    """Normal returns: median `drift`·step, deviation growing with the root of the step."""
    steps = np.arange(1, HORIZON + 1)
    returns = drift * steps[:, None] + deviation * np.sqrt(steps)[:, None] * norm.ppf(LEVELS)
    values = (price * (1 + returns)).astype(np.float32)[None]
    return QuantileForecast(("AAA",), np.array([NOW]), np.array([price]), values)


def read(of: QuantileForecast, begin: np.ndarray, finish: np.ndarray, rule: Volatility) -> Moments:
    return Moments(of.symbols, *moments_between(of.values, of.price, begin, finish, rule), NOW, LATER)


def moments(begin: float, finish: float, drift: float = 1e-4) -> Moments:
    return read(forecast(drift, 0.01), np.array([begin]), np.array([finish]), "normal")


def test_the_three_rules_on_a_normal() -> None:
    q = 100 * (1 + 0.01 * norm.ppf(LEVELS))
    assert volatility(q, 100.0, "original") == pytest.approx(0.01 * 1.2816, rel=1e-3)
    assert volatility(q, 100.0, "normal") == pytest.approx(0.01, rel=1e-3)
    assert volatility(q, 100.0, "quantile") == pytest.approx(0.01, rel=0.025)


def test_only_the_whole_quantile_function_sees_heavy_tails() -> None:
    q = 100 * (1 + 0.01 * student.ppf(LEVELS, 5) * np.sqrt(3 / 5))
    assert volatility(q, 100.0, "normal") == pytest.approx(0.0089, rel=0.01)
    assert volatility(q, 100.0, "quantile") == pytest.approx(0.01, rel=0.02)


@given(st.floats(0.1, 10), st.floats(1e-5, 0.05), st.sampled_from(["original", "normal", "quantile"]))
def test_volatility_scales_with_the_spread_and_not_with_the_price(price: float, spread: float, rule: str) -> None:
    q = price * (1 + spread * student.ppf(LEVELS, 6))
    assert volatility(q, price, rule) == pytest.approx(volatility(1 + student.ppf(LEVELS, 6) * 1e-3, 1.0, rule) * spread * 1e3)


def test_a_bearish_forecast_has_a_negative_expected_return() -> None:
    """Lesson 1."""
    assert moments(0, 1, drift=-3e-4).mu[0] == pytest.approx(-3e-4, rel=1e-3)


def test_the_interval_uses_the_step_it_ends_at() -> None:
    assert moments(0, 1).sigma[0] == pytest.approx(0.01, rel=1e-3)
    assert moments(0, 2).sigma[0] == pytest.approx(0.01 * np.sqrt(2), rel=1e-3)
    assert moments(0, 2).mu[0] == pytest.approx(2e-4, rel=1e-3)


def test_a_fixed_symbol_has_the_variance_of_the_part_that_is_left() -> None:
    """Half a bar into its forecast, over the next whole bar: variance runs linearly through its own bars."""
    assert moments(0.5, 1.5).sigma[0] == pytest.approx(0.01, rel=1e-3)
    assert moments(3, 3).sigma[0] == 0.0


def test_beyond_the_last_step_variance_continues_in_proportion() -> None:
    assert moments(0, 48).sigma[0] == pytest.approx(0.01 * np.sqrt(48), rel=1e-3)


def test_no_forecast_has_no_moments() -> None:
    none = QuantileForecast(
        ("AAA",),
        np.array([np.datetime64("NaT", "ns")]),
        np.array([np.nan]),
        np.full((1, HORIZON, len(LEVELS)), np.nan, np.float32),
    )
    answer = read(none, np.zeros(1), np.ones(1), "quantile")
    assert np.isnan(answer.mu[0])
    assert np.isnan(answer.sigma[0])


def test_values_check_themselves() -> None:
    with pytest.raises(ValueError, match="sigma must not be negative"):
        Moments(("A",), np.zeros(1), -np.ones(1), NOW, LATER)
    with pytest.raises(ValueError, match="must have a length"):
        Moments(("A",), np.zeros(1), np.ones(1), NOW, NOW)
    crossed = forecast(0, 0.01)
    with pytest.raises(ValueError, match="must not decrease"):
        QuantileForecast(crossed.symbols, crossed.issued_at, crossed.price, crossed.values[..., ::-1].copy())
