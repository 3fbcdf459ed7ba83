"""Chronos-2 forecasts through the cache: what is there is read, the rest is computed and kept."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from forecasting.chronos2.forecaster import Chronos2Forecaster, source_of
from forecasting.chronos2.profile import Profile
from forecasting.forecast import CHUNK, HORIZON, LEVELS, ForecastTable, Progress, silent
from forecasting.moments import log_moments
from forecasting.store import LESSONS, Locations, Reader, Shelf, moments_at
from forecasting.windows import Keys, Windows
from foundation.arrays import Array32, Index, Instants
from foundation.errors import DataError
from trainingdata.bars import Bars

if TYPE_CHECKING:
    from forecasting.chronos2.engine import Engine

FILE_ROWS = 16_384  # forecasts a file holds at most: what a kill can cost
MOST_WRITERS = 8  # threads that encode and write, one file each


@dataclass(frozen=True, eq=False, slots=True)
class CachedForecaster:
    """A forecaster and the folder its forecasts are kept in.

    forecaster: makes what is not there.
    folder: of the cache, with a shelf for each specification.
    reader: of the files; the tables of one forecaster share what it keeps in memory.
    """

    forecaster: Chronos2Forecaster
    folder: Path
    reader: Reader = field(default_factory=Reader)

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.forecaster.name

    @property
    def lessons(self) -> Path | None:
        """Where lessons learned from these forecasts are kept; none where they cannot be.

        Their address knows what makes the forecasts and a class's own bars: not who else is in a
        group, nor which of several profiles is a symbol's.
        """
        alone = self.forecaster.group == "none" and not self.forecaster.symbols
        return self.folder / LESSONS if alone else None

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """Forecast what the cache lacks, file by file; the table reads files when it is asked."""
        windows = self.forecaster.windows(bars, since)
        keys = self.forecaster.keys(windows)
        parts: list[tuple[Index, Locations]] = []
        specifications = []
        for profile, rows in self.forecaster.by_profile(bars.symbols, windows):
            if len(rows):
                shelf, locations = self._complete(
                    bars.symbols, windows, keys, profile, rows, progress
                )
                specifications.append(json.loads(shelf.specification))
                parts.append((rows, locations))

        def answer(numbers: Index) -> Array32:
            if len(parts) == 1:
                return self.reader.values(parts[0][1], numbers)
            out = np.empty((len(numbers), HORIZON, len(LEVELS)), dtype=np.float32)
            for rows, locations in parts:
                chosen = np.isin(numbers, rows)
                out[chosen] = self.reader.values(locations, np.searchsorted(rows, numbers[chosen]))
            return out

        def moments(numbers: Index) -> tuple[Array32, Array32]:
            out = np.empty((len(numbers), 2, HORIZON), dtype=np.float32)
            for rows, locations in parts:
                place = np.searchsorted(rows, numbers)
                chosen = np.flatnonzero(rows[np.minimum(place, len(rows) - 1)] == numbers)
                out[chosen] = moments_at(locations, place[chosen])
            # Files that were written before log moments were kept do not have them.
            lacking = np.flatnonzero(np.isnan(out[:, 1, 0]))
            for first in range(0, len(lacking), CHUNK):
                part = lacking[first : first + CHUNK]
                chosen = numbers[part]
                out[part] = np.stack(log_moments(answer(chosen), windows.price[chosen]), axis=1)
            return out[:, 0], out[:, 1]

        return ForecastTable.of(
            self.name,
            bars,
            windows,
            answer,
            source=source_of(specifications),
            log_moments=moments,
        )

    def _complete(
        self,
        symbols: tuple[str, ...],
        windows: Windows,
        keys: Keys,
        profile: Profile,
        rows: Index,
        progress: Progress,
    ) -> tuple[Shelf, Locations]:
        """The shelf that holds all of these windows' forecasts, and where; missing ones are made.

        Raises
        ------
        DataError
            where what has just been written goes away.
        """
        shelf = self._shelf(profile)
        locations = shelf.find(windows.issued_at[rows], keys[rows])
        engine: Engine | None = None
        kept = len(rows) - len(locations.missing)
        of_cache = f"forecasts, {kept:,} of {len(rows):,} from cache"
        work = f"{of_cache}, new ones" if kept else "forecasts"
        if kept == len(rows):
            progress(of_cache, kept, kept)
        while len(locations.missing):
            engine = engine or self.forecaster.engine(profile)
            # The engine says where its answers belong: it may have loaded weights that were written
            # over after the first look, or have had to compute otherwise than planned. Then the
            # shelf that was looked at is the wrong one, and the right one is searched.
            actual = self._shelf(profile, engine)
            filled = actual == shelf
            if filled:
                missing = rows[locations.missing]
                actual = self._fill(
                    shelf,
                    symbols,
                    windows,
                    keys,
                    profile,
                    missing,
                    engine,
                    lambda _, done, total: progress(work, done, total),
                )
                filled = actual == shelf
            shelf = actual
            locations = shelf.find(windows.issued_at[rows], keys[rows])
            if filled and len(locations.missing):
                raise DataError(
                    f"{shelf.folder}: what was just written went away (prune?); run again"
                )
        return shelf, locations

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
        """Compute these windows' forecasts and keep them; the shelf that they lie on in the end.

        It is another one than `shelf` where the engine begins to compute otherwise on the way.
        """
        names = np.array(symbols)
        price = windows.price
        done = 0

        def keep(on: Shelf, part: Index, values: Array32) -> None:
            moments = np.stack(log_moments(values, price[part]), axis=1)
            symbol = names[windows.symbol[part]]
            on.add(symbol, windows.issued_at[part], keys[part], values, moments)

        with _Writers() as writers:
            for part in _files(windows, missing):

                def report(what: str, count: int, total: int, before: int = done) -> None:
                    progress(what, before + count, len(missing))

                values = self.forecaster.answer(windows, part, profile, report, engine)
                actual = self._shelf(profile, engine)
                writers.submit(keep, actual, part, values)
                if actual != shelf:
                    return actual
                done += len(part)
        return shelf

    def _shelf(self, profile: Profile, engine: Engine | None = None) -> Shelf:
        shelf = Shelf.of(self.folder, self.forecaster.specification(profile, engine))
        shelf.open()
        return shelf


class _Writers:
    """Threads that keep forecasts while the next ones are computed; a few at a time wait."""

    def __init__(self) -> None:
        self._count = min(os.cpu_count() or 1, MOST_WRITERS)
        self._pool = ThreadPoolExecutor(self._count)
        self._pending: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._pool:
            while self._pending:
                self._pending.popleft().result()

    def submit(self, keep: Callable[..., None], *arguments: object) -> None:
        """Keep something in a thread; what failed before is raised."""
        # What waits is in memory: a device that is faster than the disk must wait for it.
        while len(self._pending) > self._count:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(keep, *arguments))


def _files(windows: Windows, rows: Index) -> Iterator[Index]:
    """The rows in the portions in which they are written: by month, then instant, then symbol."""
    months = windows.issued_at[rows].astype("datetime64[M]")
    order = rows[np.lexsort((windows.symbol[rows], windows.issued_at[rows]))]
    bounds = np.cumsum(np.unique(months, return_counts=True)[1])
    for month in np.split(order, bounds[:-1]):
        for first in range(0, len(month), FILE_ROWS):
            yield month[first : first + FILE_ROWS]
