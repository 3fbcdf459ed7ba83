from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from forecasting.baseline import HistoricalQuantiles, Oracle, RandomWalk
from forecasting.forecast import HORIZON, LEVELS, MEDIAN_INDEX, Forecaster
from forecasting.windows import Windows
from foundation.errors import InputError
from tests.support.latest import latest
from tests.support.messages import refused
from tests.support.random_walks import log_return_quantiles
from trainingdata.bars import CLOSE, Bars


def test_forecast_context_is_the_symbols_latest_real_bars(market: Bars) -> None:
    """The context is one hundred real closes without filling or re-gridding; nights and weekends
    are skipped.
    """
    windows = Windows.from_bars(market, market.times[0], 100)
    stock = market.symbols.index("SYA")
    own = market.bars_of_symbol(stock)[1][:, CLOSE]
    rows = np.flatnonzero(windows.symbol_index == stock)
    batch = windows.contexts(np.arange(len(windows)))
    for k in (0, 57, len(rows) - 1):
        last = windows.last_bar_index[rows[k]]
        np.testing.assert_array_equal(batch[rows[k]], own[last - 99 : last + 1])
    assert len(rows) == len(own) - 99


def test_random_walk_spread_grows_with_sqrt_of_time(market: Bars) -> None:
    table = RandomWalk().forecast(market, market.times[0])
    np.testing.assert_allclose(
        table.all_quantiles[:, :, MEDIAN_INDEX],
        table.price[:, None].repeat(HORIZON, axis=1),
        rtol=1e-6,
    )
    spread = np.log(table.all_quantiles[:, :, -1] / table.price[:, None])
    np.testing.assert_allclose(spread[:, 15], 4 * spread[:, 0], rtol=1e-2)


def test_ewma_volatility_matches_hand_calculation() -> None:
    """Equal squared returns give that deviation for any weights."""
    closes = 100 * np.exp(0.01 * (np.arange(100) % 2))[None]
    step1 = log_return_quantiles(RandomWalk(degrees_of_freedom=5), closes)[0, 0]
    assert step1[LEVELS.index(0.95)] == pytest.approx(0.01 * 2.015048 * np.sqrt(3 / 5), rel=1e-5)


def test_selected_quantiles_equal_those_of_the_full_table(market: Bars) -> None:
    """They agree to the last bit."""
    table = RandomWalk().forecast(market, market.times[0])
    rows = np.array([3, 400, 401, 1000])
    for step in (0, 2, HORIZON - 1):
        np.testing.assert_array_equal(table.quantiles[rows, step], table.all_quantiles[rows, step])
        for level in (0, MEDIAN_INDEX):
            np.testing.assert_array_equal(
                table.quantiles[rows, step, level], table.all_quantiles[rows, step, level]
            )


def test_forecasts_over_history_equal_forecasts_of_single_windows(market: Bars) -> None:
    for walk in (RandomWalk(), RandomWalk(context_length=5, sample_variance_share=0.3)):
        table = walk.forecast(market, market.times[0])
        contexts = table.windows.contexts(np.arange(len(table.windows)))
        expected = table.price[:, None, None] * np.exp(log_return_quantiles(walk, contexts))
        np.testing.assert_allclose(table.all_quantiles, expected, rtol=1e-6)


def test_oracle_forecasts_actual_closes_or_nan_beyond_data(market: Bars) -> None:
    table = Oracle().forecast(market, market.times[0])
    s = market.symbols.index("SYXUSD")
    times, values = market.bars_of_symbol(s)
    k = 500
    forecast = latest(table, times[k])
    np.testing.assert_allclose(
        forecast.values[s, :, MEDIAN_INDEX], values[k + 1 : k + 25, CLOSE], rtol=1e-6
    )
    assert np.isnan(latest(table, times[-1]).values[s]).all()
    assert "oracle" in table.name
    assert "not a result" in table.name


def test_forecast_table_returns_each_symbols_latest_forecast(market: Bars) -> None:
    table = RandomWalk().forecast(market, market.times[0])
    for k in (300, 901, 1500):
        now = market.times[k]
        answer = latest(table, now)
        for s in range(len(market.symbols)):
            times, values = market.bars_of_symbol(s)
            seen = times[times <= now]
            if len(seen) < 100:
                assert np.isnat(answer.issued_at[s])
            else:
                assert answer.issued_at[s] == seen[-1]
                assert answer.price[s] == values[len(seen) - 1, CLOSE]


def test_no_forecast_exists_before_the_first_full_window(market: Bars) -> None:
    table = RandomWalk().forecast(market, market.times[0])
    assert np.isnat(latest(table, market.times[0] - np.timedelta64(1, "h")).issued_at).all()
    empty = RandomWalk().forecast(market.slice_rows(0, 50), market.times[0])
    assert np.isnan(latest(empty, market.times[40]).values).all()


@pytest.mark.parametrize("forecaster", [RandomWalk(), HistoricalQuantiles()], ids=lambda f: f.name)
def test_later_bars_change_no_forecast(
    forecaster: Forecaster, market: Bars, scrambled_after: Callable[[Bars, np.datetime64], Bars]
) -> None:
    cut = market.times[1200]
    here, there = (
        forecaster.forecast(bars, market.times[1000])
        for bars in (market, scrambled_after(market, cut))
    )
    early = here.windows.issued_at <= cut
    np.testing.assert_array_equal(here.all_quantiles[early], there.all_quantiles[early])
    assert not np.array_equal(here.all_quantiles[~early], there.all_quantiles[~early])


@pytest.mark.parametrize(
    "wrong", [{"context_length": 2}, {"decay": 1.0}, {"degrees_of_freedom": 2.0}]
)
def test_out_of_range_random_walk_parameter_is_refused(wrong: dict[str, float]) -> None:
    with refused(InputError, *wrong):
        RandomWalk(**wrong)
