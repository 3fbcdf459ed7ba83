"""Chronos-2 forecasts through the cache: existing ones are read, the rest computed and kept."""

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

from forecasting.chronos2.forecaster import Chronos2Forecaster, source_digest
from forecasting.chronos2.profile import Profile
from forecasting.forecast import HORIZON, LEVELS, ForecastTable, Progress, empty_array, no_progress
from forecasting.forecast_cache import (
    FITS_FOLDER,
    PART_SHAPES,
    CacheWriteFailed,
    ForecastsDamaged,
    Partition,
)
from forecasting.moments import LogMoments, log_moments
from forecasting.windows import WindowKeys, Windows
from foundation.arrays import Array, Array32, Index, Instants, Mask
from trainingdata.bars import Bars

log = logging.getLogger(__name__)

MAX_PORTION_ROWS = 16_384  # most forecasts of a portion: the loss if the process is killed


@dataclass(frozen=True, eq=False, slots=True)
class Prediction:
    """The forecasts of one portion of windows, and their specification.

    rows: [n] numbers of the windows.
    values: [n, H, Q] float32, USD.
    specification: actual specification of the computation (`Chronos2Forecaster.specification`).
    """

    rows: Index
    values: Array32
    specification: Mapping[str, Any]

    @classmethod
    def empty(cls, specification: Mapping[str, Any]) -> Prediction:
        """Return no forecast, but the specification of those to come."""
        values = np.empty((0, HORIZON, len(LEVELS)), dtype=np.float32)
        return cls(np.empty(0, dtype=np.int64), values, specification)


# The first prediction is empty. It comes before any computation, so that the caller can check
# whether this specification has computed the forecasts before. The others come in any order, one
# for each portion; a caller that stops iterating ends the work.
Predictor = Callable[
    [Chronos2Forecaster, Windows, Sequence[Index], Profile, Progress],
    Generator[Prediction, None, None],
]


def predict_locally(
    forecaster: Chronos2Forecaster,
    windows: Windows,
    portions: Sequence[Index],
    profile: Profile,
    progress: Progress,
) -> Generator[Prediction, None, None]:
    """Compute portions of windows that share a profile, one by one, in this process.

    progress: receives the number of computed windows and the total.
    """
    engine = forecaster.engine(profile.for_job(sum(map(len, portions))))
    yield Prediction.empty(forecaster.specification(profile, engine))
    values = engine.quantiles(windows, portions, profile.augmentation, progress=progress)
    for rows, part in zip(portions, values, strict=True):
        yield Prediction(rows, part, forecaster.specification(profile, engine))


@dataclass(frozen=True, eq=False, slots=True)
class CachedForecaster:
    """A forecaster with a cache of its forecasts.

    forecaster: the Chronos-2 forecaster.
    folder: folder of the cache, with a partition for each specification.
    predictor: function that computes missing forecasts; by default in this process.
    """

    forecaster: Chronos2Forecaster
    folder: Path
    predictor: Predictor = predict_locally

    @property
    def name(self) -> str:
        return self.forecaster.name

    @property
    def fits_folder(self) -> Path | None:
        """Folder of fits from these forecasts; None if fits cannot be kept.

        A fit's key includes the specification and a class's own bars, but not which of several
        profiles belongs to which symbol.
        """
        return None if self.forecaster.symbols else self.folder / FITS_FOLDER

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Read the cached forecasts; compute the rest, a portion at a time, and keep it."""
        return self._table(bars, self.forecaster.windows(bars, since), progress)

    def by_month(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> tuple[Windows, Iterator[ForecastTable]]:
        """Return the windows of the same forecasts, and an iterator of monthly tables.

        Missing forecasts are computed and kept first.
        """
        windows = self.forecaster.windows(bars, since)
        self._complete(None, bars.symbols, windows, progress)
        parts = map(windows.select, windows.by_month())
        return windows, (self._table(bars, part, no_progress) for part in parts)

    def log_moments(self, bars: Bars, since: Instants, progress: Progress) -> LogMoments:
        """Return the moments of the same forecasts, which the cache holds as well."""
        windows = self.forecaster.windows(bars, since)
        both, source = self._complete("moments", bars.symbols, windows, progress)
        return LogMoments(self.name, windows, both[:, 0], both[:, 1], source)

    def _table(self, bars: Bars, windows: Windows, progress: Progress) -> ForecastTable:
        values, source = self._complete("quantiles", bars.symbols, windows, progress)
        return ForecastTable.from_quantiles(self.name, bars, windows, values, source=source)

    def _complete(
        self, what: str | None, symbols: tuple[str, ...], windows: Windows, progress: Progress
    ) -> tuple[Array32, str]:
        """Return the moments [N, 2, H] or quantiles [N, H, Q] of windows, and their source.

        what: requested part; None: only complete the cache.
        """
        keys = windows.keys()
        out = empty_array(len(windows), *PART_SHAPES[what]) if what else empty_array(0)
        specifications = []
        for profile, rows in self.forecaster.by_profile(symbols, windows):
            if len(rows):
                part = _Part(self, windows, keys, profile, rows, what, out)
                part.complete(progress)
                specifications.append(json.loads(part.partition.specification))
        return out, source_digest(specifications)


@dataclass(eq=False, slots=True)
class _Part:
    """The windows of one profile, whose forecasts are read or computed.

    rows: [n] their numbers among all windows, rising.
    what: requested part of each forecast; None: none.
    out: [N, …] array that receives it.
    missing: [n] whether a forecast is not found yet.
    """

    cached: CachedForecaster
    windows: Windows
    keys: WindowKeys
    profile: Profile
    rows: Index
    what: str | None
    out: Array32
    price: Array = field(init=False)
    partition: Partition = field(init=False)
    missing: Mask = field(init=False)
    warned: bool = False

    def __post_init__(self) -> None:
        self.price = self.windows.price
        forecaster = self.cached.forecaster
        self._take(
            Partition.for_specification(self.cached.folder, forecaster.specification(self.profile))
        )

    def _take(self, partition: Partition) -> None:
        """Read the forecasts in a partition."""
        self.partition = partition
        self.missing = np.ones(len(self.rows), dtype=bool)
        for places in self.windows.select(self.rows).by_month():
            rows = self.rows[places]
            issued = self.windows.issued_at[rows]
            portion, row = partition.locate(issued, self.keys[rows])
            # In storage order.
            found = np.lexsort((row, portion))[np.count_nonzero(portion == 0) :]
            numbers, first = np.unique(portion[found], return_index=True)
            for number, order in zip(numbers.tolist(), np.split(found, first[1:]), strict=False):
                # A damaged portion is computed again.
                with suppress(ForecastsDamaged):
                    if self.what:
                        values = partition.read(issued, number, self.what)
                        # Usually all rows are used: that saves a copy.
                        if not np.array_equal(row[order], np.arange(len(values))):
                            values = values[row[order]]
                        self.out[rows[order]] = values
                    self.missing[places[order]] = False

    def complete(self, progress: Progress) -> None:
        """Compute and keep the forecasts that are not in the cache."""
        missing = np.flatnonzero(self.missing)
        kept = len(self.rows) - len(missing)
        if kept:
            progress("forecasts from cache", kept, kept)
        work = "new forecasts" if kept else "forecasts"
        while len(missing):
            self._fill(self.rows[missing], lambda _, done, total: progress(work, done, total))
            missing = np.flatnonzero(self.missing)

    def _fill(self, missing: Index, progress: Progress) -> None:
        """Compute these windows' forecasts and keep them.

        Each prediction states its actual specification. It may differ from the planned one: weights
        may have been overwritten since the partition was opened, or a fallback may have been used.
        Then the right partition is read before more is computed.
        """
        forecaster = self.cached.forecaster
        portions = list(_portions(self.windows, missing))
        making = self.cached.predictor(forecaster, self.windows, portions, self.profile, progress)
        keeping: Future[None] | None = None
        with ThreadPoolExecutor(1) as thread, closing(making) as predictions:
            for answer in predictions:
                if keeping is not None:
                    keeping.result()
                actual = Partition.for_specification(self.cached.folder, answer.specification)
                if actual != self.partition:
                    self.partition = actual
                    self._keep(answer)
                    self._take(actual)
                    return
                # Written while the next ones are computed.
                keeping = thread.submit(self._keep, answer)
            if keeping is not None:
                keeping.result()

    def _keep(self, answer: Prediction) -> None:
        rows, quantiles = answer.rows, answer.values
        if not len(rows):
            return
        moments = np.stack(log_moments(quantiles, self.price[rows]), axis=1)
        if self.what:
            self.out[rows] = moments if self.what == "moments" else quantiles
        self.missing[np.searchsorted(self.rows, rows)] = False
        try:
            self.partition.add(self.windows.issued_at[rows], self.keys[rows], moments, quantiles)
        except CacheWriteFailed as error:
            if not self.warned:
                held = "it is held for this run alone" if self.what else "it is computed again"
                log.warning("forecaster.cache: %s; %s", error, held)
            self.warned = True


def _portions(windows: Windows, rows: Index) -> Iterator[Index]:
    """Yield the rows in the order of writing: by month, then instant, then symbol."""
    part = windows.select(rows)
    for month in part.by_month():
        order = month[np.lexsort((part.symbol[month], part.issued_at[month]))]
        for first in range(0, len(order), MAX_PORTION_ROWS):
            yield rows[order[first : first + MAX_PORTION_ROWS]]
