"""Quantile forecasts: the values, the protocol that makes them, and the table that keeps those of a whole history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from trainingdata.bars import CLOSE, Bars
from trainingdata.sessions import Instants

Array = npt.NDArray[np.float64]
Array32 = npt.NDArray[np.float32]
Index = npt.NDArray[np.int64]

HORIZON = 24  # steps of every forecast: what is asked for changes what step 1 answers
LEVELS = (0.01, 0.05, *(round(0.05 * k, 2) for k in range(2, 19)), 0.95, 0.99)  # Chronos-2's own, [Q = 21]
MEDIAN = LEVELS.index(0.5)

Progress = Callable[[str, int, int], None]  # what, done, of how many


def silent(what: str, done: int, total: int) -> None:
    """A progress that says nothing."""


@dataclass(frozen=True, eq=False, slots=True)
class QuantileForecast:
    """The latest forecast of each symbol at one instant.

    issued_at [S]: known-at instant of the last bar each forecast has seen; NaT where a symbol has none.
    price [S] float64: that bar's close in USD. values [S, H, Q] float32: close in USD by step of the symbol's own bars,
    not decreasing along Q; NaN where there is no forecast.
    """

    symbols: tuple[str, ...]
    issued_at: Instants
    price: Array
    values: Array32

    def __post_init__(self) -> None:
        expected = (len(self.symbols), HORIZON, len(LEVELS))
        if self.values.shape != expected:
            raise ValueError(f"values must have shape [S, H, Q] = {expected}, got {self.values.shape}")
        if (np.diff(self.values, axis=-1) < 0).any():
            raise ValueError("values must not decrease along the levels")


@dataclass(frozen=True, eq=False, slots=True)
class Windows:
    """Every window of a history that is to be forecast: `length` own closes up to and including the issuing bar.

    symbol [N]: number of the symbol. issued_at [N]. price [N]: the window's last close.
    """

    closes: tuple[Array, ...]
    symbol: Index
    last: Index
    issued_at: Instants
    length: int

    @classmethod
    def of(cls, bars: Bars, since: np.datetime64, length: int) -> Windows:
        """Windows issued at or after `since`, and each symbol's last one before: its latest forecast is always there.

        A symbol waits until it has `length` bars of its own.
        """
        closes, symbol, last, issued = [], [], [], []
        for s in range(len(bars.symbols)):
            times, values = bars.own(s)
            before = int(np.searchsorted(times, since)) - 1
            rows = np.arange(max(length - 1, before), len(times))
            closes.append(values[:, CLOSE])
            symbol.append(np.full(len(rows), s))
            last.append(rows)
            issued.append(times[rows])
        return cls(tuple(closes), np.concatenate(symbol), np.concatenate(last), np.concatenate(issued), length)

    def __len__(self) -> int:
        return len(self.symbol)

    @property
    def price(self) -> Array:
        """[N] the last close of each window, in USD."""
        return np.concatenate([c[self.last[self.symbol == s]] for s, c in enumerate(self.closes)])

    def batches(self, size: int) -> Iterator[tuple[int, Array]]:
        """(first, closes [B, L]) of consecutive windows; the last batch may be short."""
        views = [
            np.lib.stride_tricks.sliding_window_view(c, self.length) if len(c) >= self.length else None for c in self.closes
        ]
        for first in range(0, len(self), size):
            symbol, last = self.symbol[first : first + size], self.last[first : first + size]
            batch = np.empty((len(symbol), self.length))
            for s in np.unique(symbol):
                view = views[s]
                assert view is not None
                batch[symbol == s] = view[last[symbol == s] - self.length + 1]
            yield first, batch


@dataclass(frozen=True, eq=False, slots=True)
class ForecastTable:
    """Forecasts of every window of a history. A table is itself a `Forecaster`: it answers from what it holds.

    name: of the forecaster that made it. clock [T], latest [S, T]: row of the last forecast issued by each instant, -1
    before the first. issued_at [N], price [N], values [N, H, Q] float32.
    """

    name: str
    symbols: tuple[str, ...]
    clock: Instants
    latest: Index
    issued_at: Instants
    price: Array
    values: Array32

    @classmethod
    def of(
        cls,
        name: str,
        bars: Bars,
        windows: Windows,
        answer: Callable[[int, Array], npt.NDArray[np.floating]],
        *,
        batch: int,
        progress: Progress,
    ) -> ForecastTable:
        """Forecast every window and index the answers by the panel's clock.

        answer: (number of the first window, closes [B, L]) → quantiles [B, H, Q] in USD, for up to `batch` windows.
        """
        values = np.empty((len(windows), HORIZON, len(LEVELS)), dtype=np.float32)
        for first, closes in windows.batches(batch):
            values[first : first + len(closes)] = answer(first, closes)
            progress("forecasts", first + len(closes), len(windows))
        latest = np.full(bars.mask.shape, -1, dtype=np.int64)
        column = np.searchsorted(bars.times, windows.issued_at)
        latest[windows.symbol, column] = np.arange(len(windows))
        np.maximum.accumulate(latest, axis=1, out=latest)
        return cls(name, bars.symbols, bars.times, latest, windows.issued_at, windows.price, values)

    def forecast(self, bars: Bars, since: np.datetime64, progress: Progress = silent) -> ForecastTable:
        """The table itself: what it holds was made from the same bars."""
        return self

    def at(self, now: np.datetime64) -> QuantileForecast:
        """The latest forecast of each symbol issued by `now`."""
        column = int(np.searchsorted(self.clock, now, side="right")) - 1
        rows = self.latest[:, column] if column >= 0 else np.full(len(self.symbols), -1)
        if not len(self.values):
            return _none(self.symbols)
        none = rows < 0
        values = self.values[rows]
        values[none] = np.nan
        issued = np.where(none, np.datetime64("NaT"), self.issued_at[rows])
        return QuantileForecast(self.symbols, issued, np.where(none, np.nan, self.price[rows]), values)


class Forecaster(Protocol):
    """Makes quantile forecasts 24 own bars ahead from a panel, never from anything after its last instant."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def forecast(self, bars: Bars, since: np.datetime64, progress: Progress = silent) -> ForecastTable:
        """Forecast every symbol at each of its bars known from `since` on and at the last one before, in one pass."""
        ...


def _none(symbols: tuple[str, ...]) -> QuantileForecast:
    n = len(symbols)
    values = np.full((n, HORIZON, len(LEVELS)), np.nan, dtype=np.float32)
    return QuantileForecast(symbols, np.full(n, np.datetime64("NaT", "ns")), np.full(n, np.nan), values)
