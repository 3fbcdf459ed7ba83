"""Quantiles by gradient-boosted trees, fitted on what was known, anew every few weeks.

A class's symbols share their trees. What is predicted is the log return after each step over the
window's deviation times √step; what it is predicted from is scale-free as well: lagged returns,
volatilities of several spans, the hour of day and the step. N windows, H steps, Q levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from forecasting.forecast import CHUNK, HORIZON, LEVELS, ForecastTable, Progress, room, silent
from forecasting.windows import Windows
from foundation.arrays import Array, Array32, Index, Instants
from foundation.settings import setting, settings_class
from trainingdata.bars import Bars
from trainingdata.instants import DAY
from trainingdata.instruments import Kind
from trainingdata.sessions import last_fridays
from trainingdata.timeframe import Clock

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

CONTEXT = 100  # own bars that a forecast sees
LAGS = (1, 2, 3, 6, 24)  # own bars of the returns up to the issuing bar
SPANS = (4, 16, 48)  # own bars of the volatilities beside the window's own
TRAINED = (1, 2, 3, 6, 12, 24)  # steps whose outcomes are learned; the trees split between them
FEWEST_ROWS = 1000  # outcomes below which nothing is fitted, and nothing forecast
MOST_ROWS = 12_000  # outcomes of a fit at most: neighbours overlap, more say little more
LEAST_IN_LEAF = 40  # outcomes
STANDING_STILL = 1e-7  # deviation a bar that stands for a smaller one
WEEK = 7 * DAY


@settings_class("forecaster.gradient")
class Gradient:
    """Histogram gradient boosting of quantiles (Friedman 2001, Ke and others 2017), by class."""

    window: int = setting(3000, "own bars of each symbol that it is fitted on", ge=500)
    weeks: int = setting(
        4,
        "between two fits, on Fridays at 16:00 New York that no run's start moves",
        ge=1,
        key=False,
    )
    trees: int = setting(40, "of each level", ge=1)
    leaves: int = setting(8, "of a tree at most", ge=2, key=False)
    rate: float = setting(0.1, "what a tree counts for", gt=0, le=1, key=False)
    seed: int = setting(0, "of the fits", ge=0, key=False)

    @property
    def name(self) -> str:
        return "gradient"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars known from `since` on.

        Windows that begin before a class has the outcomes of a fit have no forecast.
        """
        windows = Windows.of(bars, since, CONTEXT)
        learned = Windows.of(bars, bars.times[0], CONTEXT)
        values = room(len(windows), HORIZON, len(LEVELS))
        values[:] = np.nan
        jobs = list(self._fits(bars, windows))
        for done, (kind, members, friday, rows) in enumerate(jobs):
            clock = bars.clock(kind)
            trees = self._fitted(clock, learned, members, friday)
            if trees:
                for first in range(0, len(rows), CHUNK):
                    part = rows[first : first + CHUNK]
                    values[part] = _predicted(trees, clock, windows, part)
            progress("gradient", done + 1, len(jobs))
        there = np.flatnonzero(np.isfinite(values[:, 0, 0]))
        return ForecastTable.of(self.name, bars, windows.part(there), values[there])

    def _fits(
        self, bars: Bars, windows: Windows
    ) -> Iterator[tuple[Kind, Index, np.datetime64, Index]]:
        """(class, its symbols, the Friday of a fit, numbers of the windows that it answers)."""
        for kind in Kind:
            members = np.flatnonzero(bars.crypto == (kind is Kind.CRYPTO))
            rows = np.flatnonzero(np.isin(windows.symbol, members))
            fridays = self._scheduled(windows.issued_at[rows])
            for friday in np.unique(fridays):
                yield kind, members, friday, rows[fridays == friday]

    def _scheduled(self, instants: Instants) -> Instants:
        """The last Friday of the schedule at or before each instant, [N]."""
        fridays = last_fridays(instants)
        number = fridays.astype("datetime64[D]").astype(np.int64) // 7
        return last_fridays(fridays - number % self.weeks * WEEK + DAY)

    def _fitted(
        self, clock: Clock, windows: Windows, members: Index, friday: np.datetime64
    ) -> list[HistGradientBoostingRegressor]:
        """Trees of each level, from outcomes that were known on that Friday; none for too few."""
        from sklearn.ensemble import HistGradientBoostingRegressor

        rows = []
        ends = np.zeros(len(windows.closes), dtype=np.int64)
        for s, own in enumerate(windows.of_symbols()):
            known = int(np.searchsorted(windows.issued_at[own], friday, side="right"))
            if s in members and known:
                ends[s] = windows.last[own][known - 1]
                rows.append(np.arange(max(known - self.window, 0), known) + own.start)
        numbers = np.concatenate([np.empty(0, dtype=np.int64), *rows])
        stride = max(-(-len(numbers) * len(TRAINED) // MOST_ROWS), 1)
        numbers = numbers[::-stride][::-1]
        if len(numbers) * len(TRAINED) < FEWEST_ROWS:
            return []
        inputs, scale = _inputs(clock, windows, numbers)
        chosen, targets = [], []
        for step in TRAINED:
            ahead = windows.last[numbers] + step
            known_rows = np.flatnonzero(ahead <= ends[windows.symbol[numbers]])
            move = _moves(windows, numbers[known_rows], step)
            chosen.append(inputs[known_rows, step - 1])
            targets.append(move / scale[known_rows] / np.sqrt(step))
        target = np.concatenate(targets)
        if len(target) < FEWEST_ROWS:
            return []
        features = np.concatenate(chosen)
        return [
            HistGradientBoostingRegressor(
                loss="quantile",
                quantile=level,
                max_iter=self.trees,
                max_leaf_nodes=self.leaves,
                learning_rate=self.rate,
                min_samples_leaf=LEAST_IN_LEAF,
                early_stopping=False,
                random_state=self.seed,
            ).fit(features, target)
            for level in LEVELS
        ]


def _predicted(
    trees: list[HistGradientBoostingRegressor], clock: Clock, windows: Windows, rows: Index
) -> Array32:
    """Quantiles [n, H, Q] in USD of the closes after windows number `rows` [n]."""
    inputs, scale = _inputs(clock, windows, rows)
    flat = inputs.reshape(-1, inputs.shape[-1])
    unit = np.stack([level.predict(flat) for level in trees], axis=-1)
    # Levels are fitted apart and may cross: sorted, none is further from the truth (Chernozhukov,
    # Fernández-Val and Galichon 2010).
    ordered = np.sort(unit, axis=-1).reshape(len(rows), HORIZON, len(LEVELS))
    width = scale[:, None] * np.sqrt(np.arange(1, HORIZON + 1))
    price = windows.part(rows).price[:, None, None]
    return np.asarray(price * np.exp(width[:, :, None] * ordered), dtype=np.float32)


def _inputs(clock: Clock, windows: Windows, rows: Index) -> tuple[Array, Array]:
    """What each step of windows [n] is predicted from, [n, H, F], and a bar's deviation [n]."""
    logs = np.log(windows.contexts(rows))
    squares = np.diff(logs, axis=1) ** 2
    scale = np.maximum(np.sqrt(squares.mean(axis=1)), STANDING_STILL)
    columns = [(logs[:, -1] - logs[:, -1 - lag]) / scale / np.sqrt(lag) for lag in LAGS]
    columns += [np.sqrt(squares[:, -span:].mean(axis=1)) / scale for span in SPANS]
    slots = clock.slots(windows.issued_at[rows], HORIZON).astype(np.float64)
    steps = np.broadcast_to(np.arange(1, HORIZON + 1), (len(rows), HORIZON))
    # A stock's first bar holds the night: how many nights lie ahead says more than the hour.
    nights = np.cumsum(slots[:, 1:] == 0, axis=1)
    of_window = np.column_stack([*columns, slots[:, 0]])
    repeated = np.broadcast_to(of_window[:, None], (len(rows), HORIZON, of_window.shape[1]))
    by_step = np.stack([steps, slots[:, 1:], nights / np.sqrt(steps)], axis=-1)
    return np.concatenate([repeated, by_step], axis=-1), scale


def _moves(windows: Windows, rows: Index, step: int) -> Array:
    """Log return [n] over `step` own bars after each window."""
    out = np.empty(len(rows))
    for s in np.unique(windows.symbol[rows]):
        own = windows.symbol[rows] == s
        logs = np.log(windows.closes[s])
        last = windows.last[rows[own]]
        out[own] = logs[last + step] - logs[last]
    return out
