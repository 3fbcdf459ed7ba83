"""Classical forecasters for comparison, and a look-ahead oracle.

Dimensions: N windows of L bars, H steps, Q quantile levels.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass

import numpy as np

from forecasting.forecast import (
    HORIZON,
    LEVELS,
    LOOK_AHEAD_NOTE,
    WINDOWS_PER_CHUNK,
    ForecastTable,
    LocationScaleQuantiles,
    Progress,
    empty_array,
    no_progress,
)
from forecasting.windows import Windows
from foundation.arrays import Array, Index, Instants
from foundation.errors import InputError
from trainingdata.bars import Bars
from trainingdata.sessions import last_friday_four_pms

MIN_GARCH_BARS = 100  # minimum number of a symbol's own bars for a GARCH estimation


@dataclass(frozen=True, slots=True)
class RandomWalk:
    """A random-walk forecaster: median at the last close, Student-t quantiles, EWMA variance.

    The variance of a forecast is proportional to the number of steps.

    context_length: number of the symbol's bars in a window, at least 3.
    decay: EWMA decay factor of squared log returns (RiskMetrics: 0.94), between 0 and 1.
    degrees_of_freedom: degrees of freedom of the Student-t, above 2.
    sample_variance_share: weight of the window's sample variance in the forecast variance, 0 … 1.
    label: name in reports; if empty, `random_walk` and the weight of the sample variance.
    """

    context_length: int = 100
    decay: float = 0.94
    degrees_of_freedom: float = 5.0
    sample_variance_share: float = 0.0
    label: str = ""

    def __post_init__(self) -> None:
        if self.context_length < 3:
            raise InputError(
                f"forecaster.context_length: {self.context_length} is below the minimum of 3"
            )
        if not 0 < self.decay < 1:
            raise InputError(f"forecaster.decay: {self.decay} is not above 0 and below 1")
        if self.degrees_of_freedom <= 2:
            raise InputError(
                f"forecaster.degrees_of_freedom: {self.degrees_of_freedom} is not above 2"
            )
        if not 0 <= self.sample_variance_share <= 1:
            raise InputError(
                f"forecaster.sample_variance_share: {self.sample_variance_share} is outside 0 … 1"
            )

    @property
    def name(self) -> str:
        if self.label:
            return self.label
        return (
            "random_walk"
            if self.sample_variance_share == 0
            else f"random_walk, {self.sample_variance_share:.0%} plain variance"
        )

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        windows = Windows.from_bars(bars, since, self.context_length)
        return ForecastTable.from_quantiles(
            self.name,
            bars,
            windows,
            self.quantiles_around(windows),
            source_digest=hashlib.sha256(repr(self).encode()).hexdigest(),
        )

    def quantiles_around(
        self, windows: Windows, median: Array | None = None, scale_factor: float = 1.0
    ) -> LocationScaleQuantiles:
        """Return Student-t quantiles around given medians, scaled by each window's EWMA deviation.

        windows: input of the N forecasts.
        median: [N, H] median log return after each step; None for medians of 0.
        scale_factor: factor by which the EWMA deviation is multiplied.
        """
        count = len(windows)
        deviation = np.empty(count)
        before = self.context_length - 1
        for closes, own in zip(windows.closes, windows.slices_by_symbol(), strict=True):
            last = windows.last_bar_index[own]
            if len(last):
                first = last[0] - before
                squares = np.diff(np.log(closes[first : last[-1] + 1])) ** 2
                variance = np.correlate(squares, self._ewma_weights(), "valid")
                deviation[own] = np.sqrt(variance)[last - last[0]]
        steps = count, HORIZON
        return LocationScaleQuantiles(
            price=windows.price,
            # A broadcast view: arrays for years of windows would take gigabytes.
            median=np.broadcast_to(0.0, steps) if median is None else median,
            scale=np.broadcast_to(scale_factor * deviation[:, None], steps),
            shape_quantiles=self._shape_quantiles()[None],
            shape_index=np.broadcast_to(0, count),
        )

    def _ewma_weights(self) -> Array:
        """Return the weights [L - 1] of a window's squared log returns in the forecast variance."""
        weights = self.decay ** np.arange(self.context_length - 2, -1, -1.0)
        even = self.sample_variance_share / len(weights)
        return np.asarray((1 - self.sample_variance_share) * weights / weights.sum() + even)

    def _shape_quantiles(self) -> Array:
        """Return the quantiles of the log return after each step, [H, Q].

        They are in units of the standard deviation of one step.
        """
        root = np.sqrt(np.arange(1, HORIZON + 1))
        return np.asarray(root[:, None] * unit_variance_t_quantiles(self.degrees_of_freedom))


@dataclass(frozen=True, slots=True)
class HistoricalQuantiles:
    """A forecaster that returns the empirical quantiles of the overlapping log returns in a window.

    context_length: number of the symbol's bars in a window, at least 48.
    """

    context_length: int = 100

    def __post_init__(self) -> None:
        if self.context_length < 2 * HORIZON:
            raise InputError(
                f"forecaster.context_length: {self.context_length} is below the minimum of"
                f" {2 * HORIZON}"
            )

    @property
    def name(self) -> str:
        return "historical"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        windows = Windows.from_bars(bars, since, self.context_length)
        values = empty_array(len(windows), HORIZON, len(LEVELS))
        for first in range(0, len(windows), WINDOWS_PER_CHUNK):
            part = np.arange(first, min(first + WINDOWS_PER_CHUNK, len(windows)))
            logs = np.log(windows.contexts(part))
            for h in range(1, HORIZON + 1):
                returns = np.quantile(logs[:, h:] - logs[:, :-h], LEVELS, axis=1).T
                values[part, h - 1] = np.exp(logs[:, -1, None] + returns)
        return ForecastTable.from_quantiles(self.name, bars, windows, values)


@dataclass(frozen=True, slots=True)
class Oracle:
    """A look-ahead forecaster for tests: its median is the actual future close.

    Its dispersion is a tenth of a random walk's. No forecaster without look-ahead can reach its
    profit. That profit is no upper bound either, because a sizing plan trades only its first
    period. Steps after the last bar have no forecast.

    random_walk: random walk that determines the dispersion.
    """

    random_walk: RandomWalk = RandomWalk()

    @property
    def name(self) -> str:
        return f"oracle ({LOOK_AHEAD_NOTE})"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        windows = Windows.from_bars(bars, since, self.random_walk.context_length)
        ahead = np.full((len(windows), HORIZON), np.nan)
        for closes, rows in zip(windows.closes, windows.slices_by_symbol(), strict=True):
            steps = windows.last_bar_index[rows][:, None] + np.arange(1, HORIZON + 1)
            if len(steps):
                following = closes[np.minimum(steps, len(closes) - 1)]
                ahead[rows] = np.where(steps < len(closes), following, np.nan)
        median = np.log(ahead / windows.price[:, None])
        quantiles = self.random_walk.quantiles_around(windows, median, scale_factor=0.1)
        return ForecastTable.from_quantiles(self.name, bars, windows, quantiles)


@dataclass(frozen=True, slots=True)
class Garch:
    """A GARCH(1,1) forecaster with Student-t errors; the median is the last close.

    The library `arch` estimates the model each Friday. The variance over several bars is the sum of
    the bars' variances. The quantiles over several bars have the Student-t shape of one bar.

    window: number of the symbol's bars in an estimation, at least 100.
    """

    window: int = 1000

    def __post_init__(self) -> None:
        if self.window < 100:
            raise InputError(f"forecaster.window: {self.window} is below the minimum of 100")

    @property
    def name(self) -> str:
        return "garch"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        windows = Windows.from_bars(bars, since, MIN_GARCH_BARS)
        scale = np.empty((len(windows), HORIZON))
        shape_index = np.empty(len(windows), dtype=np.int64)
        shapes = []
        weeks = last_friday_four_pms(windows.issued_at).astype(np.int64)
        jobs = np.unique(np.stack([windows.symbol_index, weeks], axis=1), axis=0)
        for done, (s, week) in enumerate(jobs):
            rows = np.flatnonzero((windows.symbol_index == s) & (weeks == week))
            times = bars.bars_of_symbol(int(s))[0]
            friday = np.datetime64(int(week), "ns")
            end = int(np.searchsorted(times, friday, side="right"))
            # A symbol whose first window lies within the week is estimated on that window.
            end = max(end, MIN_GARCH_BARS)
            scale[rows], degrees_of_freedom = self._estimate_scale(
                windows.closes[s], windows.last_bar_index[rows], end
            )
            shapes.append(np.tile(unit_variance_t_quantiles(degrees_of_freedom), (HORIZON, 1)))
            shape_index[rows] = done
            progress("garch", done + 1, len(jobs))
        quantiles = LocationScaleQuantiles(
            price=windows.price,
            median=np.zeros(scale.shape),
            scale=scale,
            shape_quantiles=np.array(shapes).reshape(-1, HORIZON, len(LEVELS)),
            shape_index=shape_index,
        )
        return ForecastTable.from_quantiles(self.name, bars, windows, quantiles)

    def _estimate_scale(self, closes: Array, last: Index, end: int) -> tuple[Array, float]:
        """Estimate a GARCH on the bars before index `end`, and forecast from each bar in `last`.

        Returns the standard deviations [n, H] of the log return after each step, and the degrees of
        freedom.

        closes: closes of one symbol.
        last: [n] indices of the issuing bars.
        """
        from arch import arch_model

        begin = max(end - self.window, 0)
        # In percent: the optimiser's steps and tolerances suit numbers near one.
        returns = 100 * np.diff(np.log(closes[begin : int(last[-1]) + 1]))
        model = arch_model(returns, mean="Zero", vol="GARCH", p=1, q=1, dist="t", rescale=False)
        with warnings.catch_warnings():
            # The optimiser's warnings are not errors: the scores measure the quality of its result.
            warnings.simplefilter("ignore")
            fit = model.fit(last_obs=end - begin - 1, disp="off", show_warning=False)
        forecasts = fit.forecast(horizon=HORIZON, start=0, reindex=False, align="origin")
        variance = forecasts.variance.to_numpy()
        total = np.cumsum(variance[last - begin - 1], axis=1) / 100**2
        return np.sqrt(total), max(float(fit.params["nu"]), 2.1)


def unit_variance_t_quantiles(degrees_of_freedom: float) -> Array:
    """Return the quantiles [Q] at `LEVELS` of a Student-t with a standard deviation of one."""
    from scipy.special import stdtrit

    return np.asarray(
        stdtrit(degrees_of_freedom, LEVELS) * np.sqrt((degrees_of_freedom - 2) / degrees_of_freedom)
    )
