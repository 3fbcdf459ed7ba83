"""A forecaster that knows the edge of the synthetic market, for tests of what a forecast earns."""

from __future__ import annotations

import numpy as np

from forecasting.baseline import RandomWalk
from forecasting.forecast import HORIZON, ForecastTable, Progress, no_progress
from forecasting.windows import Windows
from foundation.arrays import Instants
from trainingdata.bars import Bars

MEMORY = 0.6 ** np.arange(20)[::-1]  # of the market's momentum, from bar to bar


class Momentum:
    """A random walk whose median is the momentum of the last 20 bars, for one bar.

    edge: information coefficient that it claims; below 0 it bets against the momentum.
    """

    name = "momentum"

    def __init__(self, edge: float = 0.4) -> None:
        self.edge = edge

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        walk = RandomWalk()
        windows = Windows.from_bars(bars, since, walk.context_length)
        momentum = np.zeros(len(windows))
        for closes, rows in zip(windows.closes, windows.slices_by_symbol(), strict=True):
            filtered = np.correlate(np.diff(np.log(closes)), MEMORY, "valid")
            momentum[rows] = 0.8 * filtered[windows.last_bar_index[rows] - len(MEMORY)]
        median = np.repeat(self.edge * momentum[:, None], HORIZON, axis=1)
        return ForecastTable.from_quantiles(
            self.name, bars, windows, walk.quantiles_around(windows, median)
        )
