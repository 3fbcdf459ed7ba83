"""A forecaster of a user's own, whose every answer is looked at before anything rests on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from forecasting.forecast import HORIZON, LEVELS, Forecaster, ForecastTable, Progress, silent
from foundation.arrays import Array32, Index, Instants
from foundation.errors import InputError
from foundation.plugin import own_code
from trainingdata.bars import CLOSE, Bars


@dataclass(frozen=True, slots=True)
class CheckedForecaster:
    """Answers as `inner` does, or says what is wrong with its answer.

    inner: the forecaster.
    origin: what named it, for the message.
    """

    inner: Forecaster
    origin: str

    @property
    def name(self) -> str:
        """What reports call it."""
        return str(self.inner.name)

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """The inner forecaster's table, whose values are checked when they are asked for.

        Raises
        ------
        InputError
            naming the forecaster and what its table or its values break.
        """
        with own_code("forecaster.kind", self.origin):
            table = self.inner.forecast(bars, since, progress)
        self._refuse(table_faults(table, bars))

        def answer(rows: Index) -> Array32:
            with own_code("forecaster.kind", self.origin):
                values = np.asarray(table.answer(rows))
            self._refuse(value_faults(values, len(rows)))
            return values

        return replace(table, answer=answer)

    def _refuse(self, faults: Iterator[str]) -> None:
        fault = next(faults, None)
        if fault is not None:
            raise InputError(f"forecaster.kind: {self.origin}: {fault}")


def table_faults(table: object, bars: Bars) -> Iterator[str]:
    """What a table of these bars breaks, a sentence each."""
    if not isinstance(table, ForecastTable):
        yield f"forecast returns a {type(table).__name__} instead of a ForecastTable"
        return
    if table.symbols != bars.symbols:
        yield f"symbols are {table.symbols}, the panel's are {bars.symbols}"
        return
    if not np.array_equal(table.clock, bars.times):
        yield "clock is not that of the panel: its table is of other bars"
        return
    windows = table.windows
    count = len(windows)
    if not count:
        yield f"nothing is forecast in a panel of {len(bars.times)} instants"
        return
    for name in ("price", "persistence", "worth", "skill"):
        shape = np.shape(getattr(table, name))
        if shape != (count,):
            yield f"{name} must have shape [N] = ({count},), it has {shape}"
            return
    yield from _window_faults(table, bars)
    if not np.array_equal(table.latest, windows.latest(bars.times)):
        yield "latest is not the last window issued by each instant"


def _window_faults(table: ForecastTable, bars: Bars) -> Iterator[str]:
    windows = table.windows
    for number, rows in enumerate(windows.of_symbols()):
        times, values = bars.real_bars(number)
        last = windows.last[rows]
        symbol = bars.symbols[number]
        if len(last) and (last.min() < 0 or last.max() >= len(times)):
            yield f"{symbol}: a window ends at a bar that is not there"
        elif not np.array_equal(windows.issued_at[rows], times[last]):
            yield f"{symbol}: a forecast is issued at another instant than its last bar's"
        elif (np.diff(last) <= 0).any():
            yield f"{symbol}: windows are not in the order of time, or stand twice"
        elif not np.allclose(table.price[rows], values[last, CLOSE], rtol=1e-6):
            yield f"{symbol}: price is not the close of the last bar of each window"


def value_faults(values: Array32, count: int) -> Iterator[str]:
    """What quantiles of `count` forecasts break, a sentence each."""
    shape = (count, HORIZON, len(LEVELS))
    if values.shape != shape:
        yield f"quantiles must have shape [n, H, Q] = {shape}, they have {values.shape}"
        return
    if values.dtype != np.float32:
        yield f"quantiles must be float32, they are {values.dtype}"
    if np.isinf(values).any():
        yield "a quantile is infinite"
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
