"""A forecaster of one's own that breaks what the system relies on is told so, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from forecasting.baseline import Historical, Oracle, RandomWalk
from forecasting.calibration.forecaster import CalibratedForecaster
from forecasting.checked import CheckedForecaster
from forecasting.conformance import check_forecaster
from forecasting.forecast import Forecaster, ForecastTable
from foundation.arrays import Array32, Index
from foundation.errors import DataError, InputError
from trainingdata.bars import Bars


@dataclass(frozen=True)
class Bent:
    """A random walk whose table is changed before it is handed over."""

    change: Callable[[ForecastTable], object]
    name: str = "bent"

    def forecast(self, bars: Bars, since: np.datetime64, progress: object = None) -> Any:
        return self.change(RandomWalk().forecast(bars, since))


def answering(change: Callable[[Array32, Index], Array32]) -> Bent:
    """A random walk whose values are changed."""
    return Bent(lambda t: replace(t, answer=lambda rows: change(t.answer(rows), rows)))


@pytest.mark.parametrize("forecaster", [RandomWalk(), Historical()])
def test_the_systems_own_forecasters_conform(forecaster: Forecaster) -> None:
    assert check_forecaster(forecaster) == ()


def test_one_that_reads_the_future_is_found_out() -> None:
    assert any("look-ahead" in fault for fault in check_forecaster(Oracle()))


def test_one_that_forecasts_other_bars_when_asked_from_another_instant_is_found_out() -> None:
    asked: list[np.datetime64] = []

    @dataclass(frozen=True)
    class Alternating:
        name: str = "alternating"

        def forecast(self, bars: Bars, since: np.datetime64, progress: object = None) -> Any:
            asked.append(since)
            table = RandomWalk().forecast(bars, since)
            rows = np.flatnonzero(table.windows.last % 2 == (since != asked[0]))
            windows = table.windows.part(rows)
            return ForecastTable.of("alternating", bars, windows, lambda n: table.answer(rows[n]))

    (fault,) = check_forecaster(Alternating())
    assert "depends on the instant that forecasts are asked for from" in fault


@dataclass(frozen=True)
class Tilted:
    """A random walk that moves one step's median by a little of a later close."""

    ahead: int
    share: float
    symbols: tuple[str, ...]
    name: str = "tilted"

    def forecast(self, bars: Bars, since: np.datetime64, progress: object = None) -> ForecastTable:
        table = RandomWalk().forecast(bars, since)
        windows = table.windows
        factor = np.ones(len(windows))
        for s, rows in enumerate(windows.of_symbols()):
            if bars.symbols[s] in self.symbols:
                closes = windows.closes[s]
                last = windows.last[rows]
                later = closes[np.minimum(last + self.ahead, len(closes) - 1)]
                factor[rows] += self.share * (later / closes[last] - 1)

        def answer(numbers: Index) -> Array32:
            return table.answer(numbers) * np.float32(factor[numbers])[:, None, None]

        return replace(table, answer=answer)


@pytest.mark.parametrize("ahead", [1, 24])
@pytest.mark.parametrize("symbols", [("SYC",), ("SYA", "SYXUSD")])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_look_ahead_of_a_bar_in_a_symbol_is_found_out_whatever_the_seed(
    ahead: int, symbols: tuple[str, ...], seed: int
) -> None:
    faults = check_forecaster(Tilted(ahead, 0.05, symbols), seed=seed)
    assert any("look-ahead" in fault for fault in faults), faults


class Remembering:
    """A random walk that answers with the last close of the longest panel it has seen."""

    name = "remembering"

    def __init__(self) -> None:
        self.longest: Bars | None = None

    def forecast(self, bars: Bars, since: np.datetime64, progress: object = None) -> ForecastTable:
        if self.longest is None or len(self.longest.times) < len(bars.times):
            self.longest = bars
        table = RandomWalk().forecast(bars, since)
        level = np.float32(1 + 1e-3 * (len(self.longest.times) % 97))
        return replace(table, answer=lambda rows: table.answer(rows) * level)


def test_one_that_remembers_is_found_out() -> None:
    assert any("look-ahead" in fault for fault in check_forecaster(Remembering()))


def test_one_whose_answer_hangs_on_where_it_was_asked_from_is_found_out() -> None:
    @dataclass(frozen=True)
    class Since:
        name: str = "since"

        def forecast(
            self, bars: Bars, since: np.datetime64, progress: object = None
        ) -> ForecastTable:
            table = RandomWalk().forecast(bars, since)
            level = np.float32(1 + 1e-3 * (int(np.searchsorted(bars.times, since)) % 97))
            return replace(table, answer=lambda rows: table.answer(rows) * level)

    assert any("asked for from" in fault for fault in check_forecaster(Since()))


def test_what_one_of_ones_own_answers_is_looked_at_in_every_run(market: Bars) -> None:
    bad = answering(lambda v, n: -v[:, :, ::-1])
    table = CheckedForecaster(bad, "own:Bad").forecast(market, market.times[-30])
    with pytest.raises(InputError, match=r"forecaster\.kind: own:Bad: quantiles are prices in USD"):
        table.answer(np.arange(3))
    with pytest.raises(InputError, match="own:None: forecast returns a NoneType instead"):
        CheckedForecaster(Bent(lambda t: None), "own:None").forecast(market, market.times[-30])


def test_calibration_says_where_a_forecast_is_missing(market: Bars) -> None:
    def gap(table: ForecastTable) -> ForecastTable:
        kept = np.delete(np.arange(len(table.windows)), 40)
        return ForecastTable.of(
            "gap", market, table.windows.part(kept), lambda rows: table.answer(kept[rows])
        )

    with pytest.raises(DataError, match=r"gap has no forecast of SYA at .*, and learns from every"):
        CalibratedForecaster(Bent(gap)).forecast(market, market.times[-30])


@pytest.mark.parametrize(
    ("forecaster", "fault"),
    [
        (Bent(lambda t: t, name=" "), "name: reports need a text"),
        (Bent(lambda t: t.values), "forecast returns a ndarray instead of a ForecastTable"),
        (Bent(lambda t: replace(t, symbols=t.symbols[::-1])), "symbols are"),
        (Bent(lambda t: replace(t, price=t.price * 1.01)), "price is not the close"),
        (answering(lambda v, n: v[:, :, :9]), "quantiles must have shape"),
        (answering(lambda v, n: v.astype(np.float64)), "must be float32"),
        (answering(lambda v, n: -v[:, :, ::-1]), "some are not above zero"),
        (answering(lambda v, n: v[:, :, ::-1]), "must not fall along the levels"),
        (answering(lambda v, n: np.where(np.arange(21) == 4, np.nan, v)), "all of its quantiles"),
        (
            answering(lambda v, n: np.where(np.arange(24)[:, None] == 0, np.nan, v)),
            "must have its first step",
        ),
        (answering(lambda v, n: v * np.float32(1 + len(n) % 2 + n[0] / 1e3)), "which others are"),
    ],
)
def test_each_fault_is_named(forecaster: Bent, fault: str) -> None:
    assert any(fault in sentence for sentence in check_forecaster(forecaster)), fault


def test_chance_without_a_seed_is_found_out() -> None:
    rng = np.random.default_rng(0)

    def noisy(table: ForecastTable) -> ForecastTable:
        factor = np.float32(1 + 0.01 * rng.random())
        return replace(table, answer=lambda rows: table.answer(rows) * factor)

    assert any("two answers" in fault for fault in check_forecaster(Bent(noisy)))
