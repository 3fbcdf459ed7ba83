from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kurtosis, skew

from marketsimulator.results.metrics import (
    annual_turnover,
    measure_daily_performance,
    measure_performance,
    sample_daily_equity,
)
from trainingdata.instants import HOUR, new_york_four_pm
from trainingdata.sessions import sessions_between


def hourly(first: str, last: str) -> np.ndarray:
    return np.arange(np.datetime64(first, "ns"), np.datetime64(last, "ns"), HOUR)


def dates(first: str, last: str) -> np.ndarray:
    return sessions_between(np.datetime64(first, "D"), np.datetime64(last, "D"))


def test_daily_metrics_use_sessions_or_crypto_calendar_days() -> None:
    """Periods per year follow from the days, never from the number of bars."""
    at = hourly("2024-01-02T10:00", "2024-03-01T22:00")
    stocks, stock_days = sample_daily_equity(at, np.ones(len(at)), capital=1.0, has_crypto=False)
    has_crypto, coin_days = sample_daily_equity(at, np.ones(len(at)), capital=1.0, has_crypto=True)
    assert stock_days == 252
    assert coin_days == 366, "29 February is one of them"
    assert len(stocks) == 1 + len(dates("2024-01-02", "2024-03-01"))
    assert len(has_crypto) == 1 + 60


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [("2000-06-12", "2000-09-29", 254), ("1962-03-05", "1962-06-29", 252)],
)
def test_session_count_is_complete_for_early_years(first: str, last: str, expected: int) -> None:
    at = hourly(f"{first}T10:00", f"{last}T22:00")
    assert sample_daily_equity(at, np.ones(len(at)), capital=1.0, has_crypto=False)[1] == expected


def test_performance_statistics_match_hand_calculation() -> None:
    """Daily returns are +1 %, -1 % and +2 % from equity at 16:00; intraday equity has no
    influence.
    """
    days = dates("2024-10-01", "2024-10-03")
    at = np.sort(np.concatenate([new_york_four_pm(days), new_york_four_pm(days) - HOUR]))
    levels = 100.0 * np.cumprod([1.01, 0.99, 1.02])
    equity = np.stack([levels * 0.7, levels], axis=1).ravel()
    p = measure_performance(at, equity, capital=100.0, has_crypto=False)
    returns = np.array([0.01, -0.01, 0.02])
    root = np.sqrt(p.periods_per_year)
    assert p.total_return == pytest.approx(1.01 * 0.99 * 1.02 - 1)
    assert p.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * root)
    assert p.volatility == pytest.approx(returns.std(ddof=1) * root)
    assert p.sortino == pytest.approx(returns.mean() / np.sqrt(0.01**2 / 3) * root)
    assert p.max_drawdown == pytest.approx(-0.01)
    assert p.annual_return == pytest.approx((1.01 * 0.99 * 1.02) ** (p.periods_per_year / 3) - 1)
    assert p.calmar == pytest.approx(p.annual_return / 0.01)


def test_skew_and_excess_kurtosis_are_those_of_scipy() -> None:
    returns = np.random.default_rng(3).standard_t(5, 250) / 100
    found = measure_daily_performance(np.cumprod(np.append(1.0, 1 + returns)), 252)
    assert found.skewness == pytest.approx(skew(returns))
    assert found.excess_kurtosis == pytest.approx(kurtosis(returns, fisher=True))


def test_undefined_metrics_are_none_and_never_zero() -> None:
    at = hourly("2024-10-01T14:00", "2024-10-04T23:00")
    flat = measure_performance(at, np.full(len(at), 50.0), capital=50.0, has_crypto=False)
    assert (flat.sharpe, flat.sortino, flat.calmar) == (None, None, None)
    assert flat.total_return == 0
    moment = measure_performance(at[:1], np.array([60.0]), capital=50.0, has_crypto=False)
    assert moment.total_return == pytest.approx(0.2)
    assert (moment.days, moment.volatility) == (1, None)
    rocket = measure_performance(
        at[:30], np.linspace(50.0, 500_000.0, 30), capital=50.0, has_crypto=True
    )
    assert rocket.annual_return is None


def test_wiped_out_account_has_return_but_no_cagr() -> None:
    at = hourly("2024-10-01T14:00", "2024-10-08T23:00")
    equity = np.linspace(50.0, -10.0, len(at))
    p = measure_performance(at, equity, capital=50.0, has_crypto=False)
    assert p.total_return == pytest.approx(-1.2)
    assert p.annual_return is None


def test_turnover_and_cagr_use_the_same_year() -> None:
    """Over a quarter of a year, growth is raised to the fourth power and turnover is four times."""
    days = new_york_four_pm(dates("2024-01-02", "2024-12-31"))[: 252 // 4]
    equity = np.full(len(days), 100.0)
    equity[-1] = 110.0
    found = measure_performance(days, equity, capital=100.0, has_crypto=False)
    quarters = found.periods_per_year / 63
    assert found.annual_return == pytest.approx(1.1**quarters - 1)
    turnover = annual_turnover(500.0, equity, found)
    assert turnover == pytest.approx(500 / equity.mean() * quarters)
    assert annual_turnover(500.0, 0 * equity, found) is None


def test_win_days_count_days_without_change() -> None:
    found = measure_daily_performance(np.array([1.0, 1.1, 1.1, 1.0, 1.0]), 252)
    assert found.hit_rate == 0.25
