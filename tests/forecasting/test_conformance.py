"""A forecaster of one's own that breaks what the system relies on is told so, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from forecasting.baseline import Historical, Oracle, RandomWalk
from forecasting.conformance import check_forecaster
from forecasting.forecast import Forecaster, ForecastTable
from foundation.arrays import Array32, Index
from trainingdata.bars import Bars


@dataclass(frozen=True)
class Bent:
    """A random walk whose table is changed before it is handed over."""

    change: Callable[[ForecastTable], ForecastTable]
    name: str = "bent"

    def forecast(self, bars: Bars, since: np.datetime64, progress: object = None) -> ForecastTable:
        return self.change(RandomWalk().forecast(bars, since))


def answering(change: Callable[[Array32, Index], Array32]) -> Bent:
    """A random walk whose values are changed."""
    return Bent(lambda t: replace(t, answer=lambda rows: change(t.answer(rows), rows)))


@pytest.mark.parametrize("forecaster", [RandomWalk(), Historical()])
def test_the_systems_own_forecasters_conform(forecaster: Forecaster) -> None:
    assert check_forecaster(forecaster) == ()


def test_one_that_reads_the_future_is_found_out() -> None:
    assert any("look-ahead" in fault for fault in check_forecaster(Oracle()))


def test_one_that_has_no_forecast_without_the_future_is_found_out() -> None:
    def known_later(table: ForecastTable) -> ForecastTable:
        early = np.flatnonzero(table.windows.issued_at < table.clock[-1] - np.timedelta64(9, "D"))
        windows = table.windows.part(early)
        price = table.price[early]
        kept = {"persistence": None, "worth": None, "skill": None}
        bars = _Panel(table.symbols, table.clock)
        return (
            ForecastTable.of("b", bars, windows, lambda n: table.answer(early[n]), **kept)
            if len(price)
            else table
        )

    faults = check_forecaster(Bent(known_later))
    assert any("unless later bars are in the panel" in fault for fault in faults)


@dataclass(frozen=True)
class _Panel:
    symbols: tuple[str, ...]
    times: np.ndarray


@pytest.mark.parametrize(
    ("forecaster", "fault"),
    [
        (Bent(lambda t: t, name=" "), "name: reports need a text"),
        (Bent(lambda t: t.values), "forecast returns a ndarray instead of a ForecastTable"),
        (Bent(lambda t: replace(t, symbols=t.symbols[::-1])), "symbols are"),
        (Bent(lambda t: replace(t, price=t.price * 1.01)), "price is not the last close"),
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
