"""Quantile forecasts: the values, the protocol that makes them, and the table of a whole history.

S symbols, T instants, N windows, H steps, Q levels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from forecasting.windows import Windows
from foundation.arrays import Array, Array32, Index, Instants
from trainingdata.bars import Bars

# Steps of every forecast. The number is fixed: with another one Chronos-2 answers otherwise at
# step 1, because its attention over future patches runs both ways.
HORIZON = 24
# Chronos-2's own levels, [Q = 21].
LEVELS = (0.01, 0.05, *(round(0.05 * k, 2) for k in range(2, 19)), 0.95, 0.99)
MEDIAN = LEVELS.index(0.5)
CHUNK = 4096  # windows answered at once where a whole table is walked

Progress = Callable[[str, int, int], None]  # what, done, of how many


def at_levels(values: Array32, levels: Sequence[float]) -> Array32:
    """Quantiles […, K] at levels [K] within 0.01 … 0.99, linear between the 21 of values […, Q]."""
    wanted = np.asarray(levels)
    upper = np.clip(np.searchsorted(LEVELS, wanted), 1, len(LEVELS) - 1)
    lower = upper - 1
    share = (wanted - np.take(LEVELS, lower)) / np.diff(LEVELS)[lower]
    at: Array = values[..., lower] * (1.0 - share) + values[..., upper] * share
    return at.astype(np.float32)


def silent(what: str, done: int, total: int) -> None:
    """A progress that says nothing."""


@dataclass(frozen=True, eq=False, slots=True)
class QuantileForecast:
    """The latest forecast of each symbol at one instant.

    symbols: [S].
    issued_at: [S] instant at which the last bar each forecast has seen became known; NaT where a
        symbol has none.
    price: [S] float64, that bar's close in USD.
    values: [S, H, Q] float32, close in USD by step of the symbol's own bars, not decreasing along
        Q; NaN where there is no forecast.
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
    """Forecasts of every window of a history; a table is itself a `Forecaster`.

    name: of the forecaster that made it.
    symbols: [S].
    clock: [T] the panel's instants.
    latest: [S, T] number of the last window issued by each instant, -1 before the first.
    windows: what each forecast has seen.
    price: [N] last close of each window, in USD.
    answer: numbers of windows [n], at least one → quantiles [n, H, Q] float32 in USD. They may lie
        in memory or in files, or be computed when they are asked for.
    persistence: [N] share of a forecast's first-step centre that is left a bar later; 0 where
        nothing is known of it.
    worth: [N] what the base forecaster's centre was multiplied by; NaN where it was not.
    skill: [N] information coefficient of the first step, as far as it is believed in; 0 where
        nothing is known of it.
    source: digest of what made the forecasts beside the bars, where that can change under a
        forecaster (weights can); empty where it cannot.
    log_moments: numbers of windows [n] → median and log variance [n, H] of the log returns that
        their quantiles stand for (`moments.log_moments`), where they are kept beside them.
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
    log_moments: Callable[[Index], tuple[Array32, Array32]] | None = None

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
        log_moments: Callable[[Index], tuple[Array32, Array32]] | None = None,
    ) -> ForecastTable:
        """The windows' answers, indexed by the panel's clock."""
        count = len(windows)
        return cls(
            name=name,
            symbols=bars.symbols,
            clock=bars.times,
            latest=windows.latest(bars.times),
            windows=windows,
            price=windows.price,
            answer=answer,
            persistence=np.zeros(count) if persistence is None else persistence,
            worth=np.full(count, np.nan) if worth is None else worth,
            skill=np.zeros(count) if skill is None else skill,
            source=source,
            log_moments=log_moments,
        )

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """The table itself: what it holds was made from the same bars."""
        return self

    def at(self, now: np.datetime64) -> QuantileForecast:
        """The latest forecast of each symbol issued by `now`."""
        column = int(np.searchsorted(self.clock, now, side="right")) - 1
        latest = self.latest[:, column] if column >= 0 else np.full(len(self.symbols), -1)
        covered = np.flatnonzero(latest >= 0)
        issued = np.full(len(latest), np.datetime64("NaT", "ns"))
        price = np.full(len(latest), np.nan)
        values = np.full((len(latest), HORIZON, len(LEVELS)), np.nan, dtype=np.float32)
        if len(covered):
            numbers = latest[covered].astype(np.int64)
            issued[covered] = self.windows.issued_at[numbers]
            price[covered] = self.price[numbers]
            values[covered] = self.answer(numbers)
        return QuantileForecast(self.symbols, issued, price, values)

    def in_time(self, numbers: Index) -> Iterator[Index]:
        """Places among these numbers of windows [n], by the time of issue, a portion at a time."""
        # Files of kept forecasts lie in the order of time: walked so, each is opened once.
        windows = self.windows
        order = np.lexsort((windows.symbol[numbers], windows.issued_at[numbers]))
        for first in range(0, len(order), CHUNK):
            yield order[first : first + CHUNK]

    @property
    def values(self) -> Array32:
        """All quantiles [N, H, Q] in memory: two kilobytes a window."""
        out = np.empty((len(self.windows), HORIZON, len(LEVELS)), dtype=np.float32)
        for rows in self.in_time(np.arange(len(self.windows))):
            out[rows] = self.answer(rows)
        return out


READS_FUTURE = "reads the future; not a result"


def reads_future(name: str) -> bool:
    """Whether a forecaster's name says that what it earns is no result."""
    return READS_FUTURE in name


class Forecaster(Protocol):
    """Makes quantile forecasts 24 own bars ahead, from nothing after the panel's last instant."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars from `since` on, and at the last one before.

        since: an instant for all symbols, or one for each, [S].
        """
        ...
