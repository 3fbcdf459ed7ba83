r"""A custom forecaster: the mean return of the last bars continues, with a random walk around it.

    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        start=2024-03-04 end=2024-03-28 forecaster._target_=examples.drift.Drift \
        forecaster.arguments.window=60 forecaster.calibrated=false output=outputs/example-drift

`forecaster.calibrated=false` uses its forecasts unchanged. By default they are calibrated: used to
the extent that earlier forecasts proved right. `marketsimulator.audit look_ahead` shows whether the
forecaster reads data from after its forecasts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting import ForecastTable, RandomWalk
from forecasting.forecast import HORIZON, Progress, no_progress
from forecasting.windows import Windows
from foundation.arrays import Instants
from trainingdata.bars import Bars


@dataclass(frozen=True)
class Drift:
    """A forecaster that extrapolates the mean return of recent bars.

    window: number of a symbol's bars in the mean.
    """

    window: int = 60
    name = "drift"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars that becomes known from `since` on."""
        windows = Windows.from_bars(bars, since, self.window)
        # [N, window], USD, nothing later than the forecast
        closes = windows.contexts(np.arange(len(windows)))
        mean = np.log(closes[:, -1] / closes[:, 0]) / (self.window - 1)  # [N], of a bar
        median = mean[:, None] * np.arange(1, HORIZON + 1)  # [N, H]
        quantiles = RandomWalk(self.window).quantiles_around(windows, median)
        return ForecastTable.from_quantiles(self.name, bars, windows, quantiles)
