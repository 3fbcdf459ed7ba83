"""Quantile forecasts: the values, the protocol that makes them, and the table that answers for
a whole history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forecasting.windows import Windows
from foundation.arrays import Array, Array32, Index, Instants
from trainingdata.bars import Bars

HORIZON = 24  # steps of every forecast: what is asked for changes what step 1 answers
LEVELS = (
    0.01,
    0.05,
    *(round(0.05 * k, 2) for k in range(2, 19)),
    0.95,
    0.99,
)  # Chronos-2's own, [Q = 21]
MEDIAN = LEVELS.index(0.5)
CHUNK = 4096  # windows answered at once where a whole table is walked

Progress = Callable[[str, int, int], None]  # what, done, of how many


def silent(what: str, done: int, total: int) -> None:
    """A progress that says nothing."""


@dataclass(frozen=True, eq=False, slots=True)
class QuantileForecast:
    """The latest forecast of each symbol at one instant.

    issued_at [S]: known-at instant of the last bar each forecast has seen; NaT where a symbol has
    none. price [S] float64: that bar's close in USD. values [S, H, Q] float32: close in USD by step
    of the symbol's own bars, not decreasing along Q; NaN where there is no forecast.
    """

    symbols: tuple[str, ...]
    issued_at: Instants
    price: Array
    values: Array32

    def __post_init__(self) -> None:
        expected = (len(self.symbols), HORIZON, len(LEVELS))
        if self.values.shape != expected:
            raise ValueError(
                f"values must have shape [S, H, Q] = {expected}, got {self.values.shape}"
            )
        if (np.diff(self.values, axis=-1) < 0).any():
            raise ValueError("values must not decrease along the levels")


@dataclass(frozen=True, eq=False, slots=True)
class ForecastTable:
    """Forecasts of every window of a history. A table is itself a `Forecaster`: it answers from
    what it holds.

    name: of the forecaster that made it. clock [T]: the panel's instants. latest [S, T]: number of
    the last window issued by each instant, -1 before the first. price [N]. answer: numbers of
    windows [n] → quantiles [n, H, Q] float32 in USD; whether they lie in memory, in files or are
    computed when asked for is its own affair. source: digest of what made them beside the bars,
    where that can change under a forecaster (weights can); empty where it cannot. persistence [N]:
    of a forecast's first-step centre, the share that is left a bar later; 0 where nothing is known
    of it. worth [N]: what its base's centre was multiplied by; NaN where it was not. skill [N]:
    information coefficient of the first step, as far as it is believed in; 0 where nothing is known
    of it.
    """

    name: str
    symbols: tuple[str, ...]
    clock: Instants
    latest: npt.NDArray[np.int32]
    windows: Windows
    price: Array
    answer: Callable[[Index], Array32]
    persistence: Array
    worth: Array
    skill: Array
    source: str = ""

    @classmethod
    def of(
        cls,
        name: str,
        bars: Bars,
        windows: Windows,
        answer: Callable[[Index], Array32],
        *,
        persistence: Array | None = None,
        worth: Array | None = None,
        skill: Array | None = None,
        source: str = "",
    ) -> ForecastTable:
        """The windows' answers, indexed by the panel's clock."""
        latest = windows.latest(bars.times)
        count = len(windows)
        carried, usual = (
            np.zeros(count) if given is None else given for given in (persistence, skill)
        )
        shrunk = np.full(count, np.nan) if worth is None else worth
        return cls(
            name,
            bars.symbols,
            bars.times,
            latest,
            windows,
            windows.price,
            answer,
            carried,
            shrunk,
            usual,
            source,
        )

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """The table itself: what it holds was made from the same bars."""
        return self

    def at(self, now: np.datetime64) -> QuantileForecast:
        """The latest forecast of each symbol issued by `now`."""
        column = int(np.searchsorted(self.clock, now, side="right")) - 1
        rows = self.latest[:, column] if column >= 0 else np.full(len(self.symbols), -1)
        there = np.flatnonzero(rows >= 0)
        issued = np.full(len(rows), np.datetime64("NaT", "ns"))
        price = np.full(len(rows), np.nan)
        values = np.full((len(rows), HORIZON, len(LEVELS)), np.nan, dtype=np.float32)
        if len(there):
            found = rows[there].astype(np.int64)
            issued[there] = self.windows.issued_at[found]
            price[there] = self.price[found]
            values[there] = self.answer(found)
        return QuantileForecast(self.symbols, issued, price, values)

    def chunks(self) -> Iterator[tuple[Index, Array32]]:
        """(numbers of windows [n], their quantiles [n, H, Q]) of the whole table, in the order
        of time: that of the files.
        """
        order = np.lexsort((self.windows.symbol, self.windows.issued_at))
        for first in range(0, len(order), CHUNK):
            rows = order[first : first + CHUNK]
            yield rows, self.answer(rows)

    @property
    def values(self) -> Array32:
        """All quantiles [N, H, Q] in memory: two kilobytes a window."""
        out = np.empty((len(self.windows), HORIZON, len(LEVELS)), dtype=np.float32)
        for rows, part in self.chunks():
            out[rows] = part
        return out


class Forecaster(Protocol):
    """Makes quantile forecasts 24 own bars ahead from a panel, never from anything after its
    last instant.
    """

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars known from `since` on (one for all, or [S])
        and at the last before.
        """
        ...
