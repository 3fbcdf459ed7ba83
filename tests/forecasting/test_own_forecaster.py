"""A forecaster of one's own answers quantiles of a price, or ends the run with one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from examples.trained_forecaster import Ridge
from forecasting.baseline import RandomWalk
from forecasting.forecast import (
    HORIZON,
    LEVELS,
    MEDIAN_INDEX,
    Forecaster,
    ForecastTable,
    Progress,
    no_progress,
)
from forecasting.settings import ForecasterSettings, PluginForecaster
from forecasting.windows import Windows
from foundation.arrays import Array32, Instants
from foundation.errors import InputError
from marketsimulator.results.altered_bars import scramble_later_bars
from tests.support.messages import refused
from tests.support.own_module import own_module
from trainingdata.bars import CLOSE, Bars

CODE = """
from dataclasses import replace
import numpy as np
from forecasting import RandomWalk
class Walk:
    name = "walk"
    def forecast(self, bars, since, progress=None):
        table = RandomWalk().forecast(bars, since)
        return replace(table, quantiles=self.values(table.all_quantiles))
    def values(self, v): return v
class Falling(Walk):
    def values(self, v): return v[..., ::-1]
class Short(Walk):
    def values(self, v): return v[:, :1]
class Others(Walk):
    def forecast(self, bars, since, progress=None):
        return replace(RandomWalk().forecast(bars, since), symbols=bars.symbols[::-1])
class Writes(Walk):
    def forecast(self, bars, since, progress=None): bars.values[:, :, 3] = 1.0
class Leaves(Walk):
    def forecast(self, bars, since, progress=None): raise SystemExit(0)
class Choosy:
    def __init__(self, window): RandomWalk(window)
class Mute:
    name = "mute"
class Nameless:
    def forecast(self, bars, since, progress=None): return None
class Reserved(Nameless):
    name = "none"
"""
BAD = {
    "Falling": ("forecaster._target_",),
    "Short": ("forecaster._target_", "quantiles", "[N, H, Q]"),
    "Others": ("forecaster._target_", "ForecastTable"),
    "Writes": ("forecaster._target_", "line 19", "ValueError"),
    "Leaves": ("forecaster._target_", "line 21", "SystemExit: 0"),
    "Choosy": ("forecaster.arguments.window",),
    "Nameless": ("forecaster._target_", "`name`"),
    "Reserved": ("forecaster._target_", "'none'"),
}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of forecasters, in the working folder."""
    return own_module(CODE, tmp_path, monkeypatch)


def built(kind: str, **arguments: object) -> Forecaster:
    return ForecasterSettings(kind=kind, arguments=arguments, calibrated=False).build(())


def answered(kind: str, market: Bars, **arguments: object) -> Array32:
    return built(kind, **arguments).forecast(market, market.times[-30]).all_quantiles


@pytest.mark.parametrize("name", BAD)
def test_invalid_plugin_forecast_gives_one_line_error(own: str, name: str, market: Bars) -> None:
    with refused(InputError, f"{own}.{name}", *BAD[name]) as caught:
        answered(f"{own}.{name}", market)
    assert "\n" not in str(caught.value)


def test_plugin_forecaster_error_names_arguments_and_line(own: str, market: Bars) -> None:
    facts = (f"{own}.Choosy(window=-1)", f"{own}.py line 23", "-1")
    with refused(InputError, "forecaster._target_", *facts):
        answered(f"{own}.Choosy", market, window=-1)


def test_missing_plugin_forecaster_is_refused_before_reading_bars(own: str) -> None:
    ForecasterSettings(kind=f"{own}.Walk").check()
    for kind in (f"{own}.Absent", "gone.Walk"):
        with refused(InputError, "forecaster._target_", kind):
            ForecasterSettings(kind=kind).check()


def test_forecaster_class_without_forecast_method_is_refused(own: str) -> None:
    with refused(InputError, f"{own}.Mute"):
        ForecasterSettings(kind=f"{own}.Mute").check()


def test_valid_plugin_forecast_is_passed_on_unchanged(own: str, market: Bars) -> None:
    plain = RandomWalk().forecast(market, market.times[-30]).all_quantiles
    np.testing.assert_array_equal(answered(f"{own}.Walk", market), plain)


class Bent:
    """A random walk with one of its numbers changed."""

    name = "bent"

    def __init__(self, place: tuple[int, int, int], number: float) -> None:
        self.place = place
        self.number = number

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        table = RandomWalk().forecast(bars, since)
        values = table.all_quantiles
        values[self.place] = self.number
        return replace(table, quantiles=values)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.tuples(st.integers(0, 7), st.integers(0, HORIZON - 1), st.integers(0, len(LEVELS) - 1)),
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -1.0]),
)
def test_invalid_forecast_price_error_names_instant_and_step(
    market: Bars, place: tuple[int, int, int], number: float
) -> None:
    line = rf"ValueError: SY\w+ at 20\S+Z, step {place[1] + 1}: quantile"
    with pytest.raises(InputError, match=line):
        PluginForecaster(Bent(place, number), "own.Bent").forecast(market, market.times[-30])


def test_only_the_first_forecast_step_is_required(market: Bars) -> None:
    since = market.times[-30]
    absent = Bent(np.s_[:, 5], np.nan)  # type: ignore[arg-type]
    values = PluginForecaster(absent, "own.Bent").forecast(market, since).all_quantiles
    assert np.isnan(values[:, 5]).all()
    assert np.isfinite(np.delete(values, 5, axis=1)).all()
    first = Bent(np.s_[3, 0], np.nan)  # type: ignore[arg-type]
    with refused(InputError):
        PluginForecaster(first, "own.Bent").forecast(market, since)


def test_training_targets_contain_no_later_closes(market: Bars) -> None:
    """A target is there exactly if its close was known before the training ended."""
    windows = Windows.from_bars(market, market.times[-200], 10)
    before = market.times[-40]
    for chosen in (windows, windows.select(np.arange(0, len(windows), 3))):
        targets = chosen.realised_log_returns(market, 5, before)
        for row in range(len(chosen)):
            times, values = market.bars_of_symbol(int(chosen.symbol_index[row]))
            last = chosen.last_bar_index[row]
            ahead = np.arange(last + 1, last + 6)
            known = ahead[ahead < np.searchsorted(times, before)]
            expected = np.log(values[known, CLOSE] / values[last, CLOSE])
            np.testing.assert_allclose(targets[row, : len(known)], expected, atol=1e-12)
            assert np.isnan(targets[row, len(known) :]).all()


def test_trained_example_forecasts_without_later_bars(market: Bars) -> None:
    """Forecasts up to a bar are the same whatever follows it, and those of a month share a fit."""
    cut = market.times[-100]
    other = scramble_later_bars(market, cut, seed=1)
    tables = [Ridge().forecast(bars, market.times[-600]) for bars in (market, other)]
    known = np.flatnonzero(tables[0].windows.issued_at <= cut)
    ours, theirs = (table.quantiles[known] for table in tables)
    np.testing.assert_array_equal(ours, theirs)
    moved = ours[:, 0, MEDIAN_INDEX] != tables[0].price[known].astype(np.float32)
    assert moved.mean() > 0.5, "it was fitted"
