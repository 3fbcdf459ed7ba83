"""Chronos-2 forecasts through the cache: what is there is read, what is missing is computed,
written and read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forecasting.chronos2.forecaster import Chronos2Forecaster, source_of
from forecasting.chronos2.profile import Profile
from forecasting.forecast import HORIZON, LEVELS, ForecastTable, Progress, silent
from forecasting.store import Found, Reader, Shelf
from forecasting.windows import Keys, Windows
from foundation.arrays import Array32, Index, Instants
from foundation.errors import DataError
from trainingdata.bars import Bars

if TYPE_CHECKING:
    from forecasting.chronos2.engine import Engine


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

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """Forecast what the cache lacks, file by file; the table reads the files when it is
        asked.
        """
        windows = self.forecaster.windows(bars, since)
        keys = self.forecaster.keys(windows)
        parts: list[tuple[Index, Found]] = []
        made = []
        for profile, rows in self.forecaster.by_profile(bars.symbols, windows):
            if len(rows):
                shelf, found = self._complete(bars.symbols, windows, keys, profile, rows, progress)
                made.append(json.loads(shelf.specification))
                parts.append((rows, found))

        def answer(wanted: Index) -> Array32:
            if len(parts) == 1:
                return self.reader.values(parts[0][1], wanted)
            out = np.empty((len(wanted), HORIZON, len(LEVELS)), dtype=np.float32)
            for rows, found in parts:
                mine = np.isin(wanted, rows)
                out[mine] = self.reader.values(found, np.searchsorted(rows, wanted[mine]))
            return out

        return ForecastTable.of(self.name, bars, windows, answer, source=source_of(made))

    def _complete(
        self,
        symbols: tuple[str, ...],
        windows: Windows,
        keys: Keys,
        profile: Profile,
        rows: Index,
        progress: Progress,
    ) -> tuple[Shelf, Found]:
        """Where each of these windows' forecasts lies, after computing those that were not there.

        What is computed goes where the engine that computed it says: it may have loaded weights
        that were written over after the first look, or have had to compute otherwise than planned.
        Then the shelf that was looked at is the wrong one.
        """
        shelf = self._shelf(profile)
        found = shelf.find(windows.issued_at[rows], keys[rows])
        engine: Engine | None = None
        while len(found.missing):
            engine = engine or self.forecaster.engine(profile)
            made = self._shelf(profile, engine)
            filled = made == shelf
            if filled:
                made = self._fill(
                    shelf, symbols, windows, keys, profile, rows[found.missing], engine, progress
                )
                filled = made == shelf
            shelf = made
            found = made.find(windows.issued_at[rows], keys[rows])
            if filled and len(found.missing):
                raise DataError(
                    f"{shelf.folder}: what was just written went away (prune?); run again"
                )
        return shelf, found

    def _fill(
        self,
        shelf: Shelf,
        symbols: tuple[str, ...],
        windows: Windows,
        keys: Keys,
        profile: Profile,
        missing: Index,
        engine: Engine,
        progress: Progress,
    ) -> Shelf:
        """Compute these windows' forecasts and put them on the shelf; the one that the engine's
        answers lie on in the end.
        """
        names = np.array(symbols)
        done = 0
        for part in _files(windows, missing):

            def told(what: str, count: int, total: int, before: int = done) -> None:
                progress(what, before + count, len(missing))

            values = self.forecaster.answer(windows, part, profile, told, engine)
            made = self._shelf(profile, engine)
            made.add(names[windows.symbol[part]], windows.issued_at[part], keys[part], values)
            if made != shelf:
                return made
            done += len(part)
        return shelf

    def _shelf(self, profile: Profile, engine: Engine | None = None) -> Shelf:
        shelf = Shelf.of(self.folder, self.forecaster.specification(profile, engine))
        shelf.open()
        return shelf


def _files(windows: Windows, rows: Index) -> Iterator[Index]:
    """The rows in the order and the portions in which they are written: by month, instant and
    symbol.
    """
    months = windows.issued_at[rows].astype("datetime64[M]")
    order = rows[np.lexsort((windows.symbol[rows], windows.issued_at[rows]))]
    bounds = np.cumsum(np.unique(months, return_counts=True)[1])
    for month in np.split(order, bounds[:-1]):
        for first in range(0, len(month), FILE_ROWS):
            yield month[first : first + FILE_ROWS]
