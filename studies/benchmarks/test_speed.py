"""Measurements for docs/PERFORMANCE.md: `make bench`. They print, and assert no time."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forecasting.baseline import RandomWalk
from foundation.arrays import Array
from foundation.compose import compose_config
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from sizing.kelly import Covariance, SizingProblem, kelly_weights
from studies.peers import synthetic
from trainingdata.market import Market
from trainingdata.synthetic import SyntheticMarket

Seconds = Callable[..., float]
pytestmark = pytest.mark.bench


def test_decisions_per_second_in_a_backtest(seconds: Seconds) -> None:
    settings = BacktestSettings.from_config(
        compose_config(
            "backtest", ["start=2024-04-01", "forecaster=oracle", "forecaster.calibrated=false"]
        )
    )
    market = settings.load_market()
    bars = market.run_bars
    trader = settings.build_trader(settings.forecaster.build(bars.symbols)).with_beliefs(market)
    taken = seconds(lambda: simulate_trading(settings, market, "oracle", trader))
    instants = len(bars.times)
    each = 1e3 * taken / instants
    print(
        f"\n{instants} instants, {len(bars.symbols)} symbols: {each:.3f} ms an instant, decision"
        " and settlement"
    )


def wide_book(symbols: int, groups: int, seed: int) -> dict[str, Any]:
    """Return a sizing problem of stocks with three factors, two thirds of them held.

    It has two ceilings and a number of groups.
    """
    rng = np.random.default_rng([symbols, seed])
    loadings = rng.normal(0, 0.5, (3, symbols))
    returns = rng.normal(0, 0.01, (1000, 3)) @ loadings + rng.normal(0, 0.01, (1000, symbols))
    held = np.clip(rng.normal(0, 0.3, symbols) * (rng.random(symbols) < 0.7), -0.6, 0.6)
    ceilings = [(np.ones(symbols), 4.0), (np.full(symbols, 0.25), 1.0)]
    ceilings += [(np.arange(symbols) % groups == k, 0.25) for k in range(groups)]
    held *= min(min(0.95 * ceiling / (part @ np.abs(held)) for part, ceiling in ceilings), 1.0)
    return {
        "mu": rng.normal(0, 5e-4, symbols),
        "covariance": np.cov(returns, rowvar=False),
        "lower": np.full(symbols, -0.6),
        "upper": np.full(symbols, 0.6),
        "groups": ceilings,
        "held": held,
        "cost": np.full(symbols, 2e-4),
    }


def residual(book: dict[str, Any], weights: Array) -> float:
    """Return the largest violation of the optimality conditions, relative to the largest return."""
    parts = np.array([part for part, _ in book["groups"]], dtype=float)
    ceiling_values = np.array([ceiling for _, ceiling in book["groups"]])
    blocks = (np.asarray(book[name])[None] for name in ("mu", "covariance", "cost"))
    bounds = (book[name] for name in ("held", "lower", "upper"))
    problem = SizingProblem(
        *blocks, np.zeros(1), *bounds, parts, ceiling_values, kelly_fraction=0.5
    )
    _, (w,), (*prices, _) = problem.solve()
    np.testing.assert_array_equal(w, weights)
    used = parts @ np.abs(w)
    assert (used <= ceiling_values + 1e-9).all()
    assert not np.array(prices)[used < ceiling_values - 1e-9].any()
    gradient = book["mu"] - 2.0 * book["covariance"] @ w
    price = np.array(prices) @ parts
    more = np.where(w >= book["held"], 1, -1) * book["cost"] + np.where(w >= 0, price, -price)
    less = np.where(w <= book["held"], -1, 1) * book["cost"] + np.where(w <= 0, -price, price)
    gains = [(gradient - more)[w < book["upper"]], (less - gradient)[w > book["lower"]]]
    return float(max(np.concatenate(gains).max(), -min(prices)) / np.abs(book["mu"]).max())


@pytest.mark.parametrize("groups", [0, 30])
@pytest.mark.parametrize("symbols", [200, 500, 1000])
def test_sizing_time_for_up_to_1000_symbols(symbols: int, groups: int, seconds: Seconds) -> None:
    cold, warm, worst = [], [], -np.inf
    for seed in range(5):
        book = wide_book(symbols, groups, seed)
        cold.append(seconds(lambda b=book: kelly_weights(**b)))
        answer = kelly_weights(**book)
        worst = max(worst, residual(book, answer))
        rng = np.random.default_rng(seed)
        after = {
            **book,
            "mu": 0.95 * book["mu"] + rng.normal(0, 1e-4, symbols),
            "held": answer,
            "covariance": Covariance(book["covariance"]),
        }
        warm.append(seconds(lambda b=after: kelly_weights(**b)))
    first, later = (1e3 * np.median(taken) for taken in (cold, warm))
    print(
        f"\n{symbols} symbols, {2 + groups} ceilings: {first:.2f} ms, the next bar {later:.2f};"
        f" largest residual {worst:.1e}"
    )


def test_random_walk_forecast_speed_over_long_history(seconds: Seconds) -> None:
    bars = SyntheticMarket(start="2019-01-02").generate_bars()
    taken = seconds(lambda: RandomWalk().forecast(bars, bars.times[0]).all_quantiles)
    print(f"\n{bars.mask.sum():,} windows of a random walk: {bars.mask.sum() / taken:,.0f}/s")


def test_time_to_build_beliefs_of_500_symbols(seconds: Seconds) -> None:
    settings = BacktestSettings.from_config(compose_config("backtest", ["trials=null"]))
    bars = synthetic(500, 8820, "2020-01-02")
    trader = settings.build_trader(RandomWalk())
    taken = seconds(lambda: trader.build_beliefs(Market(bars)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nbeliefs of 500 stocks x 8,820 bars: {taken:.1f} s; the process held {peak:.2f} GiB")
