"""Weekly calibration of any forecaster's quantiles by realised outcomes.

Each asset class is fitted every Friday at 16:00 New York, to the last 3,000 bars of each of its
symbols. All forecasts of the following week use this fit, regardless of when a run starts. A fit
has four parts for each step:

1. deviation: the log of the realised variance is regressed on the logs of the base forecast's
    variance and of trailing averages (`variance`), all deseasonalised by the intraday pattern.
    A ridge penalty shrinks the weights towards those of the trailing averages alone;
2. corrections of the deviation by intraday slot, volatility regime and symbol, each shrunk where
    data are few;
3. shape: quantiles of the residuals, pooled and symmetric, shrunk to a Student-t(5) where data
    are few;
4. median: the base forecast's median times its shrinkage factor (`fit`).

Quantile = price · exp(median + deviation · shape).

Dimensions: S symbols, N windows, H steps, Q quantile levels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from forecasting.calibration.fit import CalibrationFit, fit_calibration
from forecasting.calibration.fit_store import FitStore
from forecasting.calibration.history import AssetClassHistory
from forecasting.calibration.settings import CalibrationSettings
from forecasting.forecast import (
    CALIBRATED_SUFFIX,
    HORIZON,
    LEVELS,
    Forecaster,
    ForecastTable,
    LocationScaleQuantiles,
    Progress,
    empty_array,
    no_progress,
)
from forecasting.moments import LogReturnMoments
from forecasting.windows import Windows, last_index_before
from foundation.arrays import Array, Index, Instants
from foundation.threads import parallel_map
from trainingdata.bars import Bars
from trainingdata.instruments import AssetClass
from trainingdata.sessions import last_friday_four_pms

_FitKey = tuple[str, str]  # source of the base forecasts, digest of the bars
# key of the fit, the fit, medians and deviations of the week's windows
_AppliedFit = tuple[_FitKey, CalibrationFit, Array, Array]

MAX_CACHED_FITS = 64  # maximum number of fits in memory


@runtime_checkable
class HasLogReturnMoments(Protocol):
    """Interface of a forecaster that gives medians and log variances without all quantiles."""

    def forecast_moments(self, bars: Bars, since: Instants, progress: Progress) -> LogReturnMoments:
        """Return median and log variance of each forecast issued from `since` [S] on.

        The forecast at each symbol's last bar before `since` is included.
        """
        ...


@dataclass(frozen=True, eq=False, slots=True)
class CalibratedForecaster:
    """A forecaster that corrects the quantiles of a base forecaster by realised outcomes.

    base: base forecaster.
    settings: settings of the calibration.
    fit_store: disk cache of fits; None for no cache. It is used only if the base forecasts have a
        source digest, which must cover all their inputs other than the bars of the asset class.
    """

    base: Forecaster
    settings: CalibrationSettings = field(default_factory=CalibrationSettings)
    fit_store: FitStore | None = None
    _fits: dict[_FitKey, CalibrationFit] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        return f"{self.base.name}{CALIBRATED_SUFFIX}"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Return calibrated forecasts at each symbol's bars from `since` on.

        The forecast at each symbol's last bar before `since` is included.

        since: one instant for all symbols, or one per symbol, [S].
        """
        since = np.broadcast_to(since, len(bars.symbols))
        classes = {kind: AssetClassHistory.from_bars(kind, bars) for kind in AssetClass}
        raw = self._load_base_moments(bars, list(classes.values()), since, progress)
        windows = raw.windows.select(raw.windows.indices_since(since))
        histories = {kind: own.with_forecasts(raw) for kind, own in classes.items()}
        source = raw.source_digest
        # Over years of bars, its windows take as much memory as all later arrays together.
        del raw
        weeks = windows.group_by_interval(np.unique(last_friday_four_pms(bars.times)))
        count = len(windows)
        fits: list[CalibrationFit] = []
        median, scale = empty_array(count, HORIZON), empty_array(count, HORIZON)
        fit_of = np.zeros(count, dtype=np.int64)
        for kind, history in histories.items():
            own = [
                rows[np.isin(windows.symbol_index[rows], history.panel_symbol_indices)]
                for rows in weeks
            ]
            own = [rows for rows in own if len(rows)]
            fitted = parallel_map(partial(self._fit_and_apply, source, kind, history, windows), own)
            for done, (rows, (key, fit, *moves)) in enumerate(zip(own, fitted, strict=True), 1):
                self._cache_fit(key, fit)
                median[rows], scale[rows] = moves
                fit_of[rows] = len(fits)
                fits.append(fit)
                progress(f"calibration, {kind.value}", done, len(own))
        shapes = np.array([fit.dispersion.standardised_quantiles for fit in fits], dtype=np.float32)
        return ForecastTable.from_quantiles(
            self.name,
            bars,
            windows,
            LocationScaleQuantiles(
                price=windows.price,
                median=median,
                scale=scale,
                shape_quantiles=shapes.reshape(-1, HORIZON, len(LEVELS)),
                shape_index=fit_of,
            ),
            persistence=np.array([fit.persistence for fit in fits])[fit_of],
            shrinkage=np.array([fit.median_shrinkage_factors[0] for fit in fits])[fit_of],
            information_coefficient=np.array([fit.information_coefficient for fit in fits])[fit_of],
        )

    def _fit_and_apply(
        self,
        source: str,
        kind: AssetClass,
        history: AssetClassHistory,
        windows: Windows,
        rows: Index,
    ) -> _AppliedFit:
        """Fit the calibration of one week, and apply it to the class's windows issued in that week.

        source: source digest of the base forecasts.
        rows: indices of those windows.
        """
        friday = last_friday_four_pms(windows.issued_at[rows[:1]])[0]
        key = source, history.fit_key(friday)
        fit = self._find_or_fit(key, kind, history, friday)
        member = np.searchsorted(history.panel_symbol_indices, windows.symbol_index[rows])
        return key, fit, *fit.apply(history, member, windows.last_bar_index[rows])

    def _load_base_moments(
        self, bars: Bars, classes: Sequence[AssetClassHistory], since: Instants, progress: Progress
    ) -> LogReturnMoments:
        """Return the base forecasts from `since` [S] on.

        If a fit that is not in memory needs them, earlier forecasts are included.
        """
        # Fits need far older forecasts than the requested ones. If all fits are in memory, an
        # hourly run forecasts the last bars alone.
        latest = next(reversed(self._fits), None)
        if latest is not None and self._has_all_fits(classes, since, latest[0]):
            raw = self._compute_base_moments(bars, since, progress)
            # A fit from other weights is not used: it is valid only for its own source.
            if raw.source_digest == latest[0]:
                return raw
        return self._compute_base_moments(
            bars, self._fit_start_instants(bars, classes, since), progress
        )

    def _compute_base_moments(
        self, bars: Bars, since: Instants, progress: Progress
    ) -> LogReturnMoments:
        if isinstance(self.base, HasLogReturnMoments):
            return self.base.forecast_moments(bars, since, progress)
        return LogReturnMoments.from_table(self.base.forecast(bars, since, progress))

    def _find_or_fit(
        self, key: _FitKey, kind: AssetClass, history: AssetClassHistory, week: np.datetime64
    ) -> CalibrationFit:
        # A fit is made once a week, but requested by every decision.
        fit = self._fits.get(key)
        if fit is not None:
            return fit
        source, bars = key
        kept = self.fit_store if source else None
        name = hashlib.sha256(f"{source} {bars} {kind} {week} {self.settings}".encode()).hexdigest()
        fit = kept.get(name) if kept else None
        if fit is None:
            fit = fit_calibration(history, week, self.settings.window, self.settings.confidence)
            if kept:
                kept.put(name, fit)
        return fit

    def _cache_fit(self, key: _FitKey, fit: CalibrationFit) -> None:
        if key not in self._fits and len(self._fits) >= MAX_CACHED_FITS:
            del self._fits[next(iter(self._fits))]
        self._fits[key] = fit

    def _has_all_fits(
        self, classes: Sequence[AssetClassHistory], since: Instants, source: str
    ) -> bool:
        """Return whether all fits that forecasts from `since` [S] on need are in memory.

        source: source digest of the base forecasts.
        """
        for history in classes:
            weeks: set[np.datetime64] = set()
            for s, times in history.iterate_bar_times():
                weeks |= set(last_friday_four_pms(times[last_index_before(times, since[s]) :]))
            if not all((source, history.fit_key(week)) in self._fits for week in weeks):
                return False
        return True

    def _fit_start_instants(
        self, bars: Bars, classes: Sequence[AssetClassHistory], since: Instants
    ) -> Instants:
        """Return the instant of each symbol's earliest bar that a needed fit uses, [S].

        since: [S] first instant of the requested forecasts.
        """
        begin = np.full(len(since), bars.last_instant)
        for history in classes:
            own = [(s, times) for s, times in history.iterate_bar_times() if len(times)]
            if not own:
                continue
            # All symbols of a class share a fit: a symbol without bars on a Friday uses an earlier
            # fit, which needs the others' bars as well.
            earliest = min(times[last_index_before(times, since[s])] for s, times in own)
            week = last_friday_four_pms(np.array([earliest]))[0]
            for s, times in own:
                end = int(np.searchsorted(times, week, side="right"))
                begin[s] = times[max(end - self.settings.window, 0)]
        return begin
