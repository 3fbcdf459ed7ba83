"""Forecasters that need no model: the random walk to be measured against, and the oracle that
reads the future.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from forecasting.forecast import HORIZON, LEVELS, ForecastTable, Progress, silent
from forecasting.windows import Windows
from foundation.arrays import Array, Array32, Index, Instants
from foundation.errors import InputError
from trainingdata.bars import Bars


@dataclass(frozen=True, slots=True)
class RandomWalk:
    """The last close is the median; the spread is a Student-t with EWMA variance that grows with
    the steps.

    decay: of the EWMA over the window's squared log returns (RiskMetrics: 0.94). freedom: of the
    Student-t. plain: share of the window's plain variance in the variance.
    """

    context_length: int = 100
    decay: float = 0.94
    freedom: float = 5.0
    plain: float = 0.0

    def __post_init__(self) -> None:
        if self.context_length < 3:
            raise InputError(f"forecaster.context_length: {self.context_length} is below 3")
        if not 0 < self.decay < 1:
            raise InputError(f"forecaster.decay: {self.decay} is outside 0 … 1")
        if self.freedom <= 2:
            raise InputError(f"forecaster.freedom: {self.freedom} is not above 2")
        if not 0 <= self.plain <= 1:
            raise InputError(f"forecaster.plain: {self.plain} is outside 0 … 1")

    @property
    def name(self) -> str:
        """What reports call it."""
        return "random_walk" if self.plain == 0 else f"random_walk, {self.plain:.0%} plain variance"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars known from `since` on."""
        windows = Windows.of(bars, since, self.context_length)

        def answer(rows: Index) -> Array32:
            closes = windows.contexts(rows)
            return np.asarray(
                closes[:, -1, None, None] * np.exp(self.log_spread(closes)), dtype=np.float32
            )

        return ForecastTable.of(self.name, bars, windows, answer)

    def log_spread(self, closes: Array) -> Array:
        """Quantiles of the log return after each step, [N, H, Q], of windows [N, L]."""
        weights = self.decay ** np.arange(self.context_length - 2, -1, -1.0)
        squares = np.diff(np.log(closes), axis=1) ** 2
        variance = (squares * weights).sum(axis=1) / weights.sum()
        deviation = np.sqrt((1 - self.plain) * variance + self.plain * squares.mean(axis=1))
        unit = student.ppf(LEVELS, self.freedom) * np.sqrt((self.freedom - 2) / self.freedom)
        return np.asarray(
            deviation[:, None, None] * np.sqrt(np.arange(1, HORIZON + 1))[None, :, None] * unit
        )


@dataclass(frozen=True, slots=True)
class Historical:
    """Quantiles of the window's own log returns over as many bars as each step is ahead,
    overlapping.
    """

    context_length: int = 100

    def __post_init__(self) -> None:
        if self.context_length < 2 * HORIZON:
            raise InputError(
                f"forecaster.context_length: {self.context_length} is below {2 * HORIZON}"
            )

    @property
    def name(self) -> str:
        """What reports call it."""
        return "historical"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars known from `since` on."""
        windows = Windows.of(bars, since, self.context_length)

        def answer(rows: Index) -> Array32:
            logs = np.log(windows.contexts(rows))
            steps = [
                np.quantile(logs[:, h:] - logs[:, :-h], LEVELS, axis=1).T
                for h in range(1, HORIZON + 1)
            ]
            return np.asarray(
                np.exp(logs[:, -1, None, None] + np.stack(steps, axis=1)), dtype=np.float32
            )

        return ForecastTable.of(self.name, bars, windows, answer)


@dataclass(frozen=True, slots=True)
class Oracle:
    """Reads the future: the median is the close that will be, the spread a tenth of the random
    walk's.

    What it earns is no result, and no bound either: a plan believes its next step only. Steps
    beyond the last bar have no forecast.
    """

    walk: RandomWalk = RandomWalk()

    @property
    def name(self) -> str:
        """What reports call it."""
        return "oracle (reads the future; not a result)"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """Quantiles around the closes that follow each window."""
        windows = Windows.of(bars, since, self.walk.context_length)
        ahead = np.full((len(windows), HORIZON), np.nan)
        for closes, rows in zip(windows.closes, windows.of_symbols(), strict=True):
            steps = windows.last[rows][:, None] + np.arange(1, HORIZON + 1)
            if len(steps):
                ahead[rows] = np.where(
                    steps < len(closes), closes[np.minimum(steps, len(closes) - 1)], np.nan
                )

        def answer(rows: Index) -> Array32:
            spread = 0.1 * self.walk.log_spread(windows.contexts(rows))
            return np.asarray(ahead[rows, :, None] * np.exp(spread), dtype=np.float32)

        return ForecastTable.of(self.name, bars, windows, answer)
