"""The simulated index and its options are one market: fair where no premium is set."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from scipy.special import ndtr

from execution.orders.option_orders import SHARES_PER_OPTION
from foundation.arrays import Array
from option_spreads.selling.rules import (
    HOURLY_VARIANCE_SHARES,
    SESSION_MINUTES,
    SpreadCosts,
    SpreadRules,
    remaining_variance_share,
)
from option_spreads.simulation.path import IndexModel, IndexPaths, simulate_log_returns
from option_spreads.simulation.pricing import Smile, black_scholes
from option_spreads.simulation.selling import simulate_spread_trade
from trainingdata.sessions import exchange_calendar

SMILE = Smile().flat_smile
SPOT = 5000.0
VIX = 20.0
ENTRIES = np.array([0.0, 30.0, 120.0, 210.0, 345.0])
DISTANCES = (0.3, 0.6, 0.8, 1.0, 1.5)
CALM = IndexModel(vol_of_vol=0.0, jumps_per_year=0.0)


def simulated(model: IndexModel, count: int, seed: int, smile: Smile = SMILE) -> IndexPaths:
    """So many sessions, beyond what the calendar holds."""
    return model.simulate_paths(np.resize(exchange_calendar().dates[:252], count), seed, smile)


def ends_over_starts(count: int, premium: float) -> Array:
    """Where `count` days end, over where they stand at each entry [D, entries]."""
    left = remaining_variance_share(SESSION_MINUTES - np.append(ENTRIES, SESSION_MINUTES))
    years = float(SMILE.remaining_variance_years(float(SESSION_MINUTES)))
    session = SMILE.annual_standard_deviation(VIX) * np.sqrt(years) / (1 + premium)
    logs = simulate_log_returns(left, session, count, np.random.default_rng(5))
    return np.asarray(np.exp(logs[:, -1:] - logs[:, :-1]))


def gains(premium: float, *, call: bool) -> tuple[Array, Array]:
    """What selling a spread earns held to the close, points, by entry and distance, and its error.

    Prices are those of the model, not rounded to cents and without costs.
    """
    ends = SPOT * ends_over_starts(100_000, premium)
    years = SMILE.remaining_variance_years(SESSION_MINUTES - ENTRIES)
    deviation = SPOT * SMILE.annual_standard_deviation(VIX) * np.sqrt(years)
    away = 1.0 if call else -1.0
    mean, error = np.empty((2, len(ENTRIES), len(DISTANCES)))
    for column, distance in enumerate(DISTANCES):
        short = SPOT + away * distance * deviation
        short_price, long_price = (
            black_scholes(
                SPOT, strike, years, SMILE.implied_volatility(VIX, SPOT, strike, years), call=call
            )
            for strike in (short, short + away * 5)
        )
        result = short_price - long_price - np.clip(away * (ends - short), 0, 5)
        mean[:, column] = result.mean(axis=0)
        error[:, column] = result.std(axis=0) / np.sqrt(len(result))
    return mean, error


@pytest.mark.parametrize("call", [False, True])
def test_spread_earns_only_its_volatility_premium(call: bool) -> None:
    mean, error = gains(0.0, call=call)
    assert np.abs(mean / error).max() < 4
    assert np.abs(mean).max() < 0.02, "of five points"
    for premium, sign in ((0.15, 1), (-0.15, -1)):
        mean, error = gains(premium, call=call)
        assert (sign * mean / error > 4).all()


def free_results(rules: SpreadRules, days: IndexPaths) -> tuple[float, float]:
    """Mean result of a trade without costs, USD, and its error by days.

    The half cent that each leg of each order gives up to rounding in the mean is added again.
    """
    by_day = np.zeros(len(days.dates))
    count = 0
    for day in range(len(days.dates)):
        for minute in rules.entry_minutes:
            row = int(np.searchsorted(days.minutes_since_open, minute))
            trade = simulate_spread_trade(days, day, row, rules, SpreadCosts(0, 0, 0), SMILE)
            if trade is not None:
                count += 1
                rounding = 0.005 * SHARES_PER_OPTION * len(trade.spread.legs) * trade.order_count
                by_day[day] += float(trade.profit_per_contract) + rounding
    trades_a_day = count / len(by_day)
    error = by_day.std() / np.sqrt(len(by_day)) / trades_a_day
    return float(by_day.mean() / trades_a_day), float(error)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["CALL", "PUT", "IRON_CONDOR", "OTM_SINGLE_SIDED"])
def test_exit_rules_earn_nothing_without_volatility_premium(
    strategy: Literal["CALL", "PUT", "IRON_CONDOR", "OTM_SINGLE_SIDED"],
) -> None:
    """The rules as configured, without costs."""
    days = simulated(IndexModel(volatility_premium=0.0), 8_000, 13)
    mean, error = free_results(SpreadRules(strategy=strategy), days)
    assert error < 2
    assert abs(mean) < 3 * error


@pytest.mark.parametrize("level", [SMILE.vix_multiple, 1.2])
def test_simulated_index_distribution_matches_option_prices(level: float) -> None:
    """The market is fair at any level of option prices."""
    smile = replace(SMILE, vix_multiple=level)
    days = simulated(replace(CALM, volatility_premium=0.0, step_minutes=30), 6_000, 9, smile)
    deviation = smile.annual_standard_deviation(days.vix[:, 0])
    for minute in (120.0, 300.0):
        row = int(np.searchsorted(days.minutes_since_open, minute))
        ahead = np.log(days.spot[:, -1] / days.spot[:, row]) / deviation
        ahead /= np.sqrt(smile.remaining_variance_years(SESSION_MINUTES - minute))
        moved = np.abs(np.log(days.spot[:, row] / days.spot[:, 0])) / deviation
        for some in (moved < np.quantile(moved, 0.7), moved > np.quantile(moved, 0.7)):
            for x in (-2.0, -1.0, 1.0, 2.0):
                chance = float(ndtr(x))
                error = np.sqrt(chance * (1 - chance) / some.sum())
                assert abs((ahead[some] < x).mean() - chance) < 4 * error


def test_index_is_a_martingale_at_any_volatility() -> None:
    left = np.array([1.0, 0.6, 0.3, 0.0])
    for size in (0.01, 0.1, 0.3):
        over = np.exp(
            np.diff(simulate_log_returns(left, size, 100_000, np.random.default_rng(4)), axis=1)
        )
        error = over.std(axis=0) / np.sqrt(len(over))
        assert (np.abs(over.mean(axis=0) - 1) < 4 * error).all()


def test_index_and_option_prices_share_intraday_variance_profile() -> None:
    assert sum(HOURLY_VARIANCE_SHARES) == pytest.approx(1)
    for hours, minutes in ((1, 30), (2, 90), (7, 390)):
        share = sum(HOURLY_VARIANCE_SHARES[-hours:])
        assert remaining_variance_share(float(minutes)) == pytest.approx(share)
        assert SMILE.remaining_variance_days(float(minutes)) == pytest.approx(
            share * SMILE.session_variance_share
        )
    days = simulated(replace(CALM, step_minutes=30), 6_000, 1)
    marks = np.searchsorted(days.minutes_since_open, [*range(0, 361, 60), SESSION_MINUTES])
    squares = np.diff(np.log(days.spot[:, marks]), axis=1) ** 2
    np.testing.assert_allclose(
        squares.mean(0) / squares.mean(0).sum(), HOURLY_VARIANCE_SHARES, atol=0.015
    )


def test_volatility_premium_is_implied_over_realised_volatility() -> None:
    fair, dear = (
        simulated(replace(CALM, volatility_premium=premium), 500, 2) for premium in (0.0, 0.25)
    )
    sizes = [np.abs(np.log(days.spot[:, -1] / days.spot[:, 0])) for days in (fair, dear)]
    sizes = [size / days.vix[:, 0] for size, days in zip(sizes, (fair, dear), strict=True)]
    assert float(np.median(sizes[0] / sizes[1])) == pytest.approx(1.25, rel=0.005)


def test_volatility_index_does_not_reveal_the_coming_day() -> None:
    days = simulated(IndexModel(), 2_000, 6)
    assert (days.vix == days.vix[:, :1]).all()
    moves = np.log(days.spot[:, -1] / days.spot[:, 0])
    raised = np.log(days.vix[1:, 0] / days.vix[:-1, 0])
    assert np.corrcoef(moves[:-1], raised)[0, 1] < -0.4, "a fall raises the next session's"
