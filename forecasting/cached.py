"""Chronos-2 forecasts through the cache: what is there is read, what is missing is computed, written and read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from forecasting.cache import Found, Reader, Shelf
from forecasting.chronos2 import Chronos2Forecaster
from forecasting.forecast import HORIZON, LEVELS, ForecastTable, Progress, silent
from forecasting.symbols import Profile
from forecasting.windows import Index, Keys, Windows
from trainingdata.bars import Bars
from trainingdata.sessions import Instants

Array32 = npt.NDArray[np.float32]

FILE_ROWS = 16_384  # forecasts a file holds at most: what a kill can cost


@dataclass(frozen=True, eq=False, slots=True)
class CachedForecaster:
    """A forecaster and the folder its forecasts are kept in."""

    forecaster: Chronos2Forecaster
    folder: Path
    reader: Reader = field(default_factory=Reader)

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.forecaster.name

    def forecast(self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent) -> ForecastTable:
        """Forecast what the cache lacks, file by file; the table reads the files when it is asked."""
        windows = self.forecaster.windows(bars, since)
        keys = self.forecaster.keys(windows)
        parts: list[tuple[Index, Found]] = []
        for profile, rows in self.forecaster.by_profile(bars.symbols, windows):
            if len(rows):
                parts.append((rows, self._complete(bars.symbols, windows, keys, profile, rows, progress)))

        def answer(wanted: Index) -> Array32:
            if len(parts) == 1:
                return self.reader.values(parts[0][1], wanted)
            out = np.empty((len(wanted), HORIZON, len(LEVELS)), dtype=np.float32)
            for rows, found in parts:
                mine = np.isin(wanted, rows)
                out[mine] = self.reader.values(found, np.searchsorted(rows, wanted[mine]))
            return out

        return ForecastTable.of(self.name, bars, windows, answer)

    def _complete(
        self,
        symbols: tuple[str, ...],
        windows: Windows,
        keys: Keys,
        profile: Profile,
        rows: Index,
        progress: Progress,
    ) -> Found:
        """Where each of these windows' forecasts lies, after computing those that were not there."""
        specification = self.forecaster.specification(profile)
        shelf = Shelf.of(self.folder, specification)
        shelf.open(specification)
        found = shelf.find(windows.issued_at[rows], keys[rows])
        missing = rows[found.missing]
        if not len(missing):
            return found
        names, done = np.array(symbols), 0
        for part in _files(windows, missing):

            def told(what: str, count: int, total: int, before: int = done) -> None:
                progress(what, before + count, len(missing))

            values = self.forecaster.answer(windows, part, profile, told)
            shelf.add(names[windows.symbol[part]], windows.issued_at[part], keys[part], values)
            done += len(part)
        return shelf.find(windows.issued_at[rows], keys[rows])


def _files(windows: Windows, rows: Index) -> Iterator[Index]:
    """The rows in the order and the portions in which they are written: by month, instant and symbol."""
    months = windows.issued_at[rows].astype("datetime64[M]")
    order = rows[np.lexsort((windows.symbol[rows], windows.issued_at[rows]))]
    bounds = np.cumsum(np.unique(months, return_counts=True)[1])
    for month in np.split(order, bounds[:-1]):
        for first in range(0, len(month), FILE_ROWS):
            yield month[first : first + FILE_ROWS]
