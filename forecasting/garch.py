"""GARCH(1,1) with Student-t errors, the classical model to be measured against; estimated with
`arch`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from forecasting.forecast import HORIZON, LEVELS, ForecastTable, Progress, silent
from forecasting.windows import Windows
from foundation.arrays import Array, Index, Instants
from foundation.errors import InputError
from trainingdata.bars import Bars
from trainingdata.sessions import week_before


@dataclass(frozen=True, slots=True)
class Garch:
    """The last close is the median; variances are a GARCH(1,1)'s, estimated anew each Friday on the
    last `window` own bars.

    The return over several bars has the sum of their variances and the Student-t of one.
    """

    window: int = 1000

    def __post_init__(self) -> None:
        if self.window < 100:
            raise InputError(f"forecaster.window: {self.window} is below 100")

    @property
    def name(self) -> str:
        """What reports call it."""
        return "garch"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars known from `since` on."""
        windows = Windows.of(bars, since, 100)
        quantiles = np.empty((len(windows), HORIZON, len(LEVELS)), dtype=np.float32)
        weeks = week_before(windows.issued_at)
        jobs = np.unique(np.stack([windows.symbol, weeks.astype(np.int64)], axis=1), axis=0)
        for done, (s, week) in enumerate(jobs):
            rows = np.flatnonzero((windows.symbol == s) & (weeks.astype(np.int64) == week))
            times = bars.own(int(s))[0]
            known = int(np.searchsorted(times, np.datetime64(int(week), "ns"), side="right"))
            quantiles[rows] = self._quantiles(
                windows.closes[s], windows.last[rows], max(known, 100)
            )
            progress("garch", done + 1, len(jobs))
        return ForecastTable.of(self.name, bars, windows, quantiles.__getitem__)

    def _quantiles(self, closes: Array, last: Index, known: int) -> Array:
        """[n, H, Q] at own bars `last`, estimated on the bars before number `known`."""
        from arch import arch_model

        begin = max(known - self.window, 0)
        returns = 100 * np.diff(np.log(closes[begin : int(last[-1]) + 1]))
        model = arch_model(returns, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # the optimiser's remarks: what it reached is measured, not trusted
            fit = model.fit(last_obs=known - begin - 1, disp="off", show_warning=False)
        variance = fit.forecast(
            horizon=HORIZON, start=0, reindex=False, align="origin"
        ).variance.to_numpy()
        total = np.cumsum(variance[last - begin - 1], axis=1) / 100**2
        freedom = max(float(fit.params["nu"]), 2.1)
        unit = student.ppf(LEVELS, freedom) * np.sqrt((freedom - 2) / freedom)
        return np.asarray(closes[last, None, None] * np.exp(np.sqrt(total)[:, :, None] * unit))
