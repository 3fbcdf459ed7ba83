r"""A trained forecaster: ridge regression on past returns, fitted again every month.

    .venv/bin/python -m forecasting.evaluate 'data.dir=[outputs/example-bars]' \
        start=2024-03-04 end=2024-05-31 forecaster._target_=examples.trained_forecaster.Ridge \
        'baselines=[ewma]' output=outputs/example-trained

A model is fitted to closes known before its month, and forecasts that month alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from forecasting import ForecastTable, RandomWalk
from forecasting.forecast import HORIZON, Progress, no_progress
from forecasting.windows import Windows
from foundation.arrays import Instants
from trainingdata.bars import Bars


@dataclass(frozen=True)
class Ridge:
    """A median by ridge regression on the last returns of all symbols, in a random walk's width.

    lags: number of past returns that predict the next ones.
    days: length of the past to which a month's model is fitted.
    """

    lags: int = 5
    days: int = 365
    name = "ridge"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars that becomes known from `since` on."""
        past = Windows.from_bars(bars, bars.times[0], 60)  # every window, to train on
        closes = past.contexts(np.arange(len(past)))  # [N, 60], USD
        returns = np.diff(np.log(closes), axis=1)
        unit = returns.std(axis=1, keepdims=True) + 1e-12  # symbols in the same unit
        features = returns[:, -self.lags :] / unit
        median = np.zeros((len(past), HORIZON))  # 0, a random walk, before the first fit
        for rows in past.group_by_month():
            month = past.issued_at[rows].min().astype("datetime64[M]").astype("datetime64[ns]")
            targets = past.realised_log_returns(bars, HORIZON, before=month) / unit  # [N, H]
            recent = past.issued_at >= month - np.timedelta64(self.days, "D")
            known = recent & np.isfinite(targets).all(axis=1)
            if known.sum() >= 200:
                model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(2, 6, 5)))
                model.fit(features[known], targets[known])
                median[rows] = model.predict(features[rows]) * unit[rows]
        chosen = past.indices_since(since)
        windows = past.select(chosen)
        quantiles = RandomWalk(60).quantiles_around(windows, median[chosen])  # [N, H, Q], USD
        return ForecastTable.from_quantiles(self.name, bars, windows, quantiles)
