"""Chronos-2 forecasts with a disk cache: cached forecasts are read, missing ones are computed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.chronos2.forecaster import Chronos2Forecaster, digest_specifications
from forecasting.chronos2.profile import InferenceProfile
from forecasting.forecast import HORIZON, LEVELS, ForecastTable, Progress, empty_array, no_progress
from forecasting.forecast_cache import (
    CACHED_ARRAY_SHAPES,
    CALIBRATION_FITS_FOLDER,
    CachedForecastsDamaged,
    CachePartition,
    CacheWriteFailed,
)
from forecasting.moments import LogReturnMoments, log_return_moments
from forecasting.windows import WindowKeys, Windows
from foundation.arrays import Array, Array32, Index, Instants, Mask
from trainingdata.bars import Bars

log = logging.getLogger(__name__)

MAX_PORTION_FORECASTS = (
    16_384  # maximum forecasts in a portion, which is lost if the process is killed
)


@dataclass(frozen=True, eq=False, slots=True)
class Prediction:
    """The forecasts of one portion of windows, and their specification.

    window_indices: [n] indices of the windows.
    quantiles: [n, H, Q] float32 price quantiles in USD.
    specification: inputs other than bars, and the computation, as actually used.
    """

    window_indices: Index
    quantiles: Array32
    specification: Mapping[str, Any]

    @classmethod
    def empty(cls, specification: Mapping[str, Any]) -> Prediction:
        """Return a prediction without forecasts that announces the next ones' specification."""
        values = np.empty((0, HORIZON, len(LEVELS)), dtype=np.float32)
        return cls(np.empty(0, dtype=np.int64), values, specification)


# The first prediction is empty. It comes before any computation, so that the caller can check
# whether this specification has computed the forecasts before. The others come in any order, one
# for each portion; a caller that stops iterating ends the work.
Predictor = Callable[
    [Chronos2Forecaster, Windows, Sequence[Index], InferenceProfile, Progress],
    Generator[Prediction, None, None],
]


def predict_locally(
    forecaster: Chronos2Forecaster,
    windows: Windows,
    portions: Sequence[Index],
    profile: InferenceProfile,
    progress: Progress,
) -> Generator[Prediction, None, None]:
    """Compute forecasts in this process; yield them one portion of windows at a time.

    All windows use the same model profile. The first item has no forecasts and only carries the
    specification.

    portions: indices [n] of the windows of each portion.
    progress: callback with the number of computed windows and the total.
    """
    engine = forecaster.load_engine(profile.for_window_count(sum(map(len, portions))))
    yield Prediction.empty(forecaster.build_specification(profile, engine))
    values = engine.forecast_quantiles(windows, portions, profile.augmentation, progress=progress)
    for rows, part in zip(portions, values, strict=True):
        yield Prediction(rows, part, forecaster.build_specification(profile, engine))


@dataclass(frozen=True, eq=False, slots=True)
class CachedForecaster:
    """A Chronos-2 forecaster with a disk cache.

    forecaster: Chronos-2 forecaster.
    folder: folder of the cache, with a subfolder for each specification.
    predictor: function that computes missing forecasts; the default computes them in this process.
    """

    forecaster: Chronos2Forecaster
    folder: Path
    predictor: Predictor = predict_locally

    @property
    def name(self) -> str:
        return self.forecaster.name

    @property
    def calibration_fits_folder(self) -> Path | None:
        """Folder for calibration fits to these forecasts; None if fits must not be cached.

        The key of a fit does not identify the profile of each symbol. Fits are therefore not
        cached if symbols have their own settings.
        """
        return None if self.forecaster.symbol_settings else self.folder / CALIBRATION_FITS_FOLDER

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Return forecasts from the cache; missing ones are computed in portions and cached."""
        return self._table(bars, self.forecaster.build_windows(bars, since), progress)

    def forecast_by_month(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> tuple[Windows, Iterator[ForecastTable]]:
        """Return the windows of all forecasts, and an iterator over one table per month.

        Missing forecasts are computed and cached before the method returns.
        """
        windows = self.forecaster.build_windows(bars, since)
        self._read_or_compute(None, bars.symbols, windows, progress)
        parts = map(windows.select, windows.group_by_month())
        return windows, (self._table(bars, part, no_progress) for part in parts)

    def forecast_moments(self, bars: Bars, since: Instants, progress: Progress) -> LogReturnMoments:
        """Return the moments of the forecasts from the cache; compute and cache missing ones."""
        windows = self.forecaster.build_windows(bars, since)
        both, source = self._read_or_compute("moments", bars.symbols, windows, progress)
        return LogReturnMoments(self.name, windows, both[:, 0], both[:, 1], source)

    def _table(self, bars: Bars, windows: Windows, progress: Progress) -> ForecastTable:
        values, source = self._read_or_compute("quantiles", bars.symbols, windows, progress)
        return ForecastTable.from_quantiles(self.name, bars, windows, values, source_digest=source)

    def _read_or_compute(
        self, what: str | None, symbols: tuple[str, ...], windows: Windows, progress: Progress
    ) -> tuple[Array32, str]:
        """Return the forecasts of windows from the cache, and their source digest.

        Missing forecasts are computed and cached first.

        what: `moments` [N, 2, H] or `quantiles` [N, H, Q], the part of each forecast that is
            returned; None only fills the cache.
        """
        keys = windows.content_keys()
        out = empty_array(len(windows), *CACHED_ARRAY_SHAPES[what]) if what else empty_array(0)
        specifications = []
        for profile, rows in self.forecaster.group_by_profile(symbols, windows):
            if len(rows):
                part = _ProfilePart(self, windows, keys, profile, rows, what, out)
                part.compute_missing(progress)
                specifications.append(json.loads(part.partition.specification))
        return out, digest_specifications(specifications)


@dataclass(eq=False, slots=True)
class _ProfilePart:
    """The windows of one profile, and which of their forecasts are read or computed so far.

    window_indices: [n] indices of the profile's windows among all N windows, increasing.
    part_name: part of each forecast that is read, `moments` or `quantiles`; None reads nothing.
    output: [N, …] array into which that part of each forecast is written.
    is_missing: [n] true for forecasts that are neither read nor computed yet.
    """

    cached: CachedForecaster
    windows: Windows
    keys: WindowKeys
    profile: InferenceProfile
    window_indices: Index
    part_name: str | None
    output: Array32
    price: Array = field(init=False)
    partition: CachePartition = field(init=False)
    is_missing: Mask = field(init=False)
    has_warned: bool = False

    def __post_init__(self) -> None:
        self.price = self.windows.price
        forecaster = self.cached.forecaster
        self._read_cached(
            CachePartition.for_specification(
                self.cached.folder, forecaster.build_specification(self.profile)
            )
        )

    def _read_cached(self, partition: CachePartition) -> None:
        """Read the windows' forecasts that a cache partition contains."""
        self.partition = partition
        self.is_missing = np.ones(len(self.window_indices), dtype=bool)
        for places in self.windows.select(self.window_indices).group_by_month():
            rows = self.window_indices[places]
            issued = self.windows.issued_at[rows]
            portion, row = partition.locate(issued, self.keys[rows])
            # Forecasts are read in storage order.
            found = np.lexsort((row, portion))[np.count_nonzero(portion == 0) :]
            numbers, first = np.unique(portion[found], return_index=True)
            for number, order in zip(numbers.tolist(), np.split(found, first[1:]), strict=False):
                # A damaged portion is computed again.
                with suppress(CachedForecastsDamaged):
                    if self.part_name:
                        values = partition.read_portion(issued, number, self.part_name)
                        # Usually all rows are used in order, and no copy is needed.
                        if not np.array_equal(row[order], np.arange(len(values))):
                            values = values[row[order]]
                        self.output[rows[order]] = values
                    self.is_missing[places[order]] = False

    def compute_missing(self, progress: Progress) -> None:
        """Compute and cache the forecasts that are missing from the cache."""
        missing = np.flatnonzero(self.is_missing)
        kept = len(self.window_indices) - len(missing)
        if kept:
            progress("forecasts from cache", kept, kept)
        work = "new forecasts" if kept else "forecasts"
        while len(missing):
            self._compute_and_store(
                self.window_indices[missing], lambda _, done, total: progress(work, done, total)
            )
            missing = np.flatnonzero(self.is_missing)

    def _compute_and_store(self, missing: Index, progress: Progress) -> None:
        """Compute and cache the forecasts of windows.

        Each prediction states the specification with which it was actually computed. It may differ
        from the planned one: weights may have been overwritten since the partition was opened, or a
        fallback may have been used. The method then reads the partition of the actual specification
        and returns, before it computes more.

        missing: indices of the windows.
        """
        forecaster = self.cached.forecaster
        portions = list(_portions(self.windows, missing))
        making = self.cached.predictor(forecaster, self.windows, portions, self.profile, progress)
        keeping: Future[None] | None = None
        with ThreadPoolExecutor(1) as thread, closing(making) as predictions:
            for answer in predictions:
                if keeping is not None:
                    keeping.result()
                actual = CachePartition.for_specification(self.cached.folder, answer.specification)
                if actual != self.partition:
                    self.partition = actual
                    self._store_prediction(answer)
                    self._read_cached(actual)
                    return
                # A prediction is written while the next one is computed.
                keeping = thread.submit(self._store_prediction, answer)
            if keeping is not None:
                keeping.result()

    def _store_prediction(self, answer: Prediction) -> None:
        rows, quantiles = answer.window_indices, answer.quantiles
        if not len(rows):
            return
        moments = np.stack(log_return_moments(quantiles, self.price[rows]), axis=1)
        if self.part_name:
            self.output[rows] = moments if self.part_name == "moments" else quantiles
        self.is_missing[np.searchsorted(self.window_indices, rows)] = False
        try:
            self.partition.add_portion(
                self.windows.issued_at[rows], self.keys[rows], moments, quantiles
            )
        except CacheWriteFailed as error:
            if not self.has_warned:
                effect = "kept in memory for this run" if self.part_name else "computed again later"
                log.warning("forecaster.cache: %s; forecasts are %s", error, effect)
            self.has_warned = True


def _portions(windows: Windows, rows: Index) -> Iterator[Index]:
    """Yield portions of window indices, ordered by month, then instant, then symbol.

    rows: indices of the windows to split.
    """
    part = windows.select(rows)
    for month in part.group_by_month():
        order = month[np.lexsort((part.symbol_index[month], part.issued_at[month]))]
        for first in range(0, len(order), MAX_PORTION_FORECASTS):
            yield rows[order[first : first + MAX_PORTION_FORECASTS]]
