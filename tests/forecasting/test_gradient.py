from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecasting.forecast import HORIZON, LEVELS
from forecasting.gradient import CONTEXT, FEWEST_ROWS, TRAINED, Gradient
from forecasting.settings import ForecasterSettings
from trainingdata.bars import Bars
from trainingdata.synthetic import SyntheticMarket

SMALL = Gradient(window=500, trees=2, leaves=4, rate=0.5)


@pytest.fixture(scope="module")
def panel() -> Bars:
    """A stock and a coin over a quarter."""
    return SyntheticMarket(symbols=("SYA", "SYXUSD"), start="2023-10-02", end="2024-01-31").bars()


@pytest.fixture(scope="module")
def stock() -> Bars:
    """A stock alone over the same quarter."""
    return SyntheticMarket(symbols=("SYA",), start="2023-10-02", end="2024-01-31").bars()


@pytest.fixture(scope="module")
def since(panel: Bars) -> np.datetime64:
    return np.datetime64(panel.now - np.timedelta64(14, "D"))


@given(days=st.integers(1, 13))
@settings(max_examples=2)
def test_what_came_later_changes_no_forecast(
    stock: Bars,
    since: np.datetime64,
    scrambled_after: Callable[[Bars, np.datetime64], Bars],
    days: int,
) -> None:
    now = since + np.timedelta64(days, "D")
    whole, other = (SMALL.forecast(bars, since) for bars in (stock, scrambled_after(stock, now)))
    known = np.flatnonzero(whole.windows.issued_at <= now)
    assert len(known)
    np.testing.assert_array_equal(whole.quantiles[known], other.quantiles[known])
    cut = SMALL.forecast(stock.until(now), since)
    np.testing.assert_array_equal(whole.quantiles[known], cut.values)


def test_where_a_run_starts_changes_no_forecast(panel: Bars, since: np.datetime64) -> None:
    early, late = (
        SMALL.forecast(panel, start) for start in (since, since + np.timedelta64(9, "D"))
    )
    shared = np.isin(early.windows.keys(), late.windows.keys())
    assert shared.sum() == len(late.windows)
    np.testing.assert_array_equal(early.quantiles[np.flatnonzero(shared)], late.values)


def test_the_same_seed_gives_the_same_prices_that_do_not_fall_along_the_levels(
    panel: Bars, since: np.datetime64
) -> None:
    first, second = (SMALL.forecast(panel, since).values for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape[1:] == (HORIZON, len(LEVELS))
    assert np.isfinite(first).all()
    assert (first > 0).all()
    assert (np.diff(first, axis=-1) >= 0).all()


def test_it_is_fitted_anew_every_so_many_weeks_and_on_the_same_fridays_whatever_the_start() -> None:
    hours = np.datetime64("2024-01-02T00:00", "ns") + np.arange(0, 24 * 366, 5) * np.timedelta64(
        1, "h"
    )
    for weeks in (1, 4):
        fits = Gradient(weeks=weeks)._scheduled(hours)
        assert (fits <= hours).all()
        assert (hours - fits < (7 * weeks * 24 + 1) * np.timedelta64(1, "h")).all()
        days = np.unique(fits).astype("datetime64[D]")
        assert set(np.diff(days).astype(int)) == {7 * weeks}
        np.testing.assert_array_equal(Gradient(weeks=weeks)._scheduled(hours[700:]), fits[700:])


def test_twice_the_price_is_twice_the_forecast(stock: Bars, since: np.datetime64) -> None:
    double = Bars(stock.instruments, stock.times, stock.values * 2, stock.mask, "test")
    np.testing.assert_allclose(
        SMALL.forecast(double, since).values, 2 * SMALL.forecast(stock, since).values, rtol=1e-4
    )


def test_the_interval_over_a_night_is_wider_than_one_within_the_day(
    stock: Bars, since: np.datetime64
) -> None:
    table = Gradient(window=500, trees=8, rate=0.5).forecast(stock, since)
    hour = (table.windows.issued_at.astype("datetime64[h]").astype(int)) % 24
    width = np.log(table.values[:, 0, -2] / table.values[:, 0, 1])
    last, midday = (width[hour == h].mean() for h in (21, 17))
    assert last > 1.2 * midday


def test_before_a_class_has_the_outcomes_of_a_fit_nothing_is_forecast(panel: Bars) -> None:
    table = SMALL.forecast(panel, panel.times[0])
    assert len(table.windows)
    for s in range(2):
        first = table.windows.last[table.windows.symbol == s][0]
        assert (first - CONTEXT) * len(TRAINED) > FEWEST_ROWS
    short = panel.until(panel.times[300])
    assert not len(SMALL.forecast(short, short.times[0]).windows)


def test_the_settings_name_it() -> None:
    built = ForecasterSettings(kind="gradient", calibrated=False, gradient=SMALL).build(("SYA",))
    assert built == SMALL
