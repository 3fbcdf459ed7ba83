"""Whether a forecaster keeps what the system relies on: for one of a user's own, before money."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from forecasting.forecast import HORIZON, LEVELS, Forecaster, ForecastTable
from foundation.arrays import Array32
from trainingdata.bars import Bars
from trainingdata.synthetic import SyntheticMarket

CHECKED = 200  # forecasts whose values are compared, drawn at random


def check_forecaster(
    forecaster: Forecaster, bars: Bars | None = None, *, seed: int = 0
) -> tuple[str, ...]:
    """What a forecaster does that the system does not expect, a sentence each; none if it conforms.

    It is asked for the last third of a panel, twice, and again for one that ends earlier: what it
    said at an instant must not depend on what came after it.

    bars: none for five synthetic symbols over half a year. seed: of which forecasts are compared.
    """
    panel = _half_a_year() if bars is None else bars
    since = panel.times[2 * len(panel.times) // 3]
    return tuple(_faults(forecaster, panel, since, np.random.default_rng(seed)))


def _half_a_year() -> Bars:
    return SyntheticMarket(
        start="2024-01-02", end="2024-06-28", symbols=("SYA", "SYB", "SYC", "SYXUSD", "SYYUSD")
    ).bars()


def _faults(
    forecaster: Forecaster, bars: Bars, since: np.datetime64, rng: np.random.Generator
) -> Iterator[str]:
    if not isinstance(forecaster.name, str) or not forecaster.name.strip():
        yield "name: reports need a text that is not empty"
    table = forecaster.forecast(bars, since)
    if not isinstance(table, ForecastTable):
        yield f"forecast returns a {type(table).__name__} instead of a ForecastTable"
        return
    windows = table.windows
    if not len(windows):
        yield f"forecast answers nothing from {since} on, in a panel of {len(bars.times)} instants"
        return
    if table.symbols != bars.symbols:
        yield f"symbols are {table.symbols}, the panel's are {bars.symbols}"
        return
    yield from _faults_of_windows(table, bars)
    numbers = np.sort(rng.choice(len(windows), min(CHECKED, len(windows)), replace=False))
    values = table.answer(numbers)
    yield from _faults_of_values(values, len(numbers))
    if values.shape != (len(numbers), HORIZON, len(LEVELS)):
        return
    shuffled = rng.permutation(len(numbers))
    if not _equal(table.answer(numbers[shuffled]), values[shuffled]):
        yield "a forecast depends on which others are asked for with it, or in which order"
    if not _equal(forecaster.forecast(bars, since).answer(numbers), values):
        yield "the same question has two answers: whatever is drawn at random needs a seed"
    yield from _faults_of_a_shorter_panel(forecaster, table, bars, since, numbers, values)


def _faults_of_windows(table: ForecastTable, bars: Bars) -> Iterator[str]:
    windows = table.windows
    for number, rows in enumerate(windows.of_symbols()):
        times = bars.real_bars(number)[0]
        if not np.isin(windows.issued_at[rows], times).all():
            yield f"{bars.symbols[number]}: a forecast is issued where no bar becomes known"
    if not np.allclose(table.price, windows.price, rtol=1e-6):
        yield "price is not the last close of each window"


def _faults_of_values(values: Array32, count: int) -> Iterator[str]:
    shape = (count, HORIZON, len(LEVELS))
    if values.shape != shape:
        yield f"quantiles must have shape [n, H, Q] = {shape}, they have {values.shape}"
        return
    if values.dtype != np.float32:
        yield f"quantiles must be float32, they are {values.dtype}"
    there = np.isfinite(values)
    if not (there.all(axis=2) | ~there.any(axis=2)).all():
        yield "a step must have all of its quantiles or none"
    if not there[:, 0].all():
        yield "a forecast must have its first step"
    if (values[there] <= 0).any():
        yield "quantiles are prices in USD: some are not above zero"
    with np.errstate(invalid="ignore"):
        if (np.diff(values, axis=2) < 0).any():
            yield "quantiles must not fall along the levels"


def _faults_of_a_shorter_panel(
    forecaster: Forecaster,
    table: ForecastTable,
    bars: Bars,
    since: np.datetime64,
    numbers: np.ndarray,
    values: Array32,
) -> Iterator[str]:
    """Look-ahead: the same forecasts from a panel that ends in the middle of what was asked."""
    middle = (int(np.searchsorted(bars.times, since)) + len(bars.times)) // 2
    shorter = bars.between(0, middle)
    before = forecaster.forecast(shorter, since)
    place = _places(before)
    windows = table.windows
    compared = 0
    for row, number in enumerate(numbers.tolist()):
        if windows.issued_at[number] > shorter.times[-1]:
            continue
        there = place(int(windows.symbol[number]), windows.issued_at[number])
        if there is None:
            yield (
                f"{bars.symbols[int(windows.symbol[number])]}: no forecast at"
                f" {windows.issued_at[number]} unless later bars are in the panel"
            )
            return
        compared += 1
        if not _equal(before.answer(np.array([there]))[0], values[row]):
            yield (
                f"look-ahead: {bars.symbols[int(windows.symbol[number])]} at"
                f" {windows.issued_at[number]} is forecast otherwise where later bars are absent"
            )
            return
    if not compared:
        yield "none of the compared forecasts is issued in the panel's middle: nothing to compare"


def _places(table: ForecastTable) -> Callable[[int, np.datetime64], int | None]:
    numbers = {
        (symbol, issued): number
        for number, (symbol, issued) in enumerate(
            zip(
                table.windows.symbol.tolist(),
                table.windows.issued_at.astype("int64").tolist(),
                strict=True,
            )
        )
    }
    return lambda symbol, at: numbers.get(
        (symbol, int(at.astype("datetime64[ns]").astype("int64")))
    )


def _equal(a: Array32, b: Array32) -> bool:
    """Within what another batch's order of sums may change."""
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-4, atol=0.0, equal_nan=True))
