"""Chronos-2 forecasts through the cache: what is there is read, the rest is computed and kept.

A cache that can be read and not be written lacks a day, or holds a damaged file: a table then holds
in memory what was computed for it, up to `MOST_IN_MEMORY` forecasts.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np

from forecasting.cache_file import Unreadable
from forecasting.chronos2.answers import Answers, answers_here
from forecasting.chronos2.forecaster import Chronos2Forecaster, source_of
from forecasting.chronos2.profile import Profile
from forecasting.forecast import CHUNK, HORIZON, LEVELS, ForecastTable, Progress, silent
from forecasting.moments import log_moments
from forecasting.store import (
    LESSONS,
    NOWHERE,
    Locations,
    Reader,
    ReadOnly,
    Shelf,
    moments_at,
)
from forecasting.windows import Keys, Windows
from foundation.arrays import Array32, Index, Instants
from foundation.errors import DataError, InputError
from trainingdata.bars import Bars

log = logging.getLogger(__name__)

FILE_ROWS = 16_384  # forecasts a file holds at most: what a kill can cost
MOST_IN_MEMORY = 131_072  # forecasts a table holds that its cache cannot: 264 MB
MOST_WRITERS = 8  # threads that encode and write, one file each


@dataclass(frozen=True, eq=False, slots=True)
class CachedForecaster:
    """A forecaster and the folder its forecasts are kept in.

    forecaster: makes what is not there.
    folder: of the cache, with a shelf for each specification.
    answers: computes what is not there; the forecaster itself, in this process, by default.
    reader: of the files; the tables of one forecaster share what it keeps in memory.
    """

    forecaster: Chronos2Forecaster
    folder: Path
    answers: Answers = answers_here
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
        memory = _Memory()

        def completed(progress: Progress) -> list[_Part]:
            parts = []
            for profile, rows in self.forecaster.by_profile(bars.symbols, windows):
                if len(rows):
                    parts.append(
                        self._complete(bars.symbols, windows, keys, profile, rows, memory, progress)
                    )
            return parts

        kept = _KeptForecasts(
            self.reader, windows, completed(progress), lambda: completed(silent), memory
        )
        specifications = [json.loads(part.shelf.specification) for part in kept.parts]
        return ForecastTable.of(
            self.name,
            bars,
            windows,
            kept.values,
            source=source_of(specifications),
            log_moments=kept.log_moments,
        )

    def _complete(
        self,
        symbols: tuple[str, ...],
        windows: Windows,
        keys: Keys,
        profile: Profile,
        rows: Index,
        memory: _Memory,
        progress: Progress,
    ) -> _Part:
        """Where these windows' forecasts lie; missing ones are made.

        Raises
        ------
        InputError
            where more is missing on a shelf that cannot be written than memory takes.
        DataError
            where what has just been written goes away.
        """
        shelf = self._shelf(profile)
        shelf.touch()

        def looked_for() -> tuple[Locations, Index]:
            """Where they lie, and the numbers of those that are neither there nor in memory."""
            found = shelf.find(windows.issued_at[rows], keys[rows], memory.spoiled)
            return found, np.setdiff1d(rows[found.missing], memory.of(shelf)[0])

        locations, missing = looked_for()
        kept = len(rows) - len(missing)
        of_cache = f"forecasts, {kept:,} of {len(rows):,} from cache"
        work = f"{of_cache}, new ones" if kept else "forecasts"
        if kept == len(rows):
            progress(of_cache, kept, kept)
        while len(missing):
            looked_at = shelf
            shelf = self._fill(
                shelf,
                symbols,
                windows,
                keys,
                profile,
                missing,
                memory,
                lambda _, done, total: progress(work, done, total),
            )
            locations, missing = looked_for()
            if shelf == looked_at and len(missing):
                raise DataError(
                    f"{shelf.folder}: what was just written went away (prune?); run again"
                )
        return _Part(shelf, rows, locations, *memory.of(shelf))

    def _fill(
        self,
        shelf: Shelf,
        symbols: tuple[str, ...],
        windows: Windows,
        keys: Keys,
        profile: Profile,
        missing: Index,
        memory: _Memory,
        progress: Progress,
    ) -> Shelf:
        """Compute these windows' forecasts and keep them; the shelf that they lie on in the end.

        What computes them says where its answers belong: it may have loaded weights that were
        written over after `shelf` was looked at, or have had to compute otherwise than planned.
        Then that is the wrong shelf: the right one is to be searched before more is computed.
        """
        names = np.array(symbols)
        price = windows.price
        portions = list(_files(windows, missing))

        def keep(on: Shelf, part: Index, values: Array32) -> None:
            moments = np.stack(log_moments(values, price[part]), axis=1)
            symbol = names[windows.symbol[part]]
            try:
                path = on.add(symbol, windows.issued_at[part], keys[part], values, moments)
                memory.spoiled.discard(path)
            except ReadOnly as error:
                memory.take(on, part, values, error)

        making = self.answers(self.forecaster, windows, portions, profile, progress)
        with _Writers() as writers, closing(making) as answers:
            for answer in answers:
                actual = Shelf.of(self.folder, answer.specification)
                try:
                    actual.open()
                except ReadOnly as error:
                    # What could not be held in the end is refused before it is computed.
                    if not len(answer.rows) and actual == shelf:
                        memory.refuse(len(missing), error)
                if len(answer.rows):
                    writers.submit(keep, actual, answer.rows, answer.values)
                if actual != shelf:
                    return actual
        return shelf

    def _shelf(self, profile: Profile) -> Shelf:
        return Shelf.of(self.folder, self.forecaster.specification(profile))


@dataclass(frozen=True, eq=False, slots=True)
class _Part:
    """Forecasts of one profile.

    shelf: that they lie on.
    rows: [n] numbers of their windows, rising.
    locations: of them there.
    held_rows: [m] numbers of the windows whose forecasts lie in memory, where not there; rising.
    held: [m, H, Q] those forecasts.
    """

    shelf: Shelf
    rows: Index
    locations: Locations
    held_rows: Index
    held: Array32

    def values(self, reader: Reader, places: Index) -> Array32:
        """Quantiles [n, H, Q] of the windows in these places among the rows."""
        held = self.locations.file[places] == NOWHERE
        if not held.any():
            return reader.values(self.locations, places)
        out = np.empty((len(places), HORIZON, len(LEVELS)), dtype=np.float32)
        out[~held] = reader.values(self.locations, places[~held])
        out[held] = self.held[np.searchsorted(self.held_rows, self.rows[places[held]])]
        return out

    def moments(self, places: Index) -> Array32:
        """Log moments [n, 2, H] of these windows; NaN where none are kept beside the forecasts."""
        kept = self.locations.file[places] != NOWHERE
        out = np.full((len(places), 2, HORIZON), np.nan, dtype=np.float32)
        out[kept] = moments_at(self.locations, places[kept])
        return out


@dataclass(eq=False, slots=True)
class _Memory:
    """What a table holds because its cache cannot be written.

    spoiled: files that could be neither read nor removed; they are not read again.
    """

    spoiled: set[Path] = field(default_factory=set)
    _held: dict[Shelf, tuple[Index, Array32]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def of(self, shelf: Shelf) -> tuple[Index, Array32]:
        """(numbers of the windows [m], rising, their forecasts [m, H, Q]) made for a shelf."""
        nothing = np.empty((0, HORIZON, len(LEVELS)), dtype=np.float32)
        return self._held.get(shelf, (np.empty(0, dtype=np.int64), nothing))

    def refuse(self, count: int, error: ReadOnly) -> None:
        """Refuse so many more forecasts, with what keeps them from being written, if too many."""
        if sum(len(rows) for rows, _ in self._held.values()) + count > MOST_IN_MEMORY:
            raise InputError(
                f"{error}; it lacks {count:,} forecasts, and a run holds {MOST_IN_MEMORY:,} in"
                " memory at most: name another folder"
            )

    def take(self, shelf: Shelf, rows: Index, values: Array32, error: ReadOnly) -> None:
        """Hold forecasts [n, H, Q] made for a shelf that cannot be written."""
        with self._lock:
            self.refuse(len(rows), error)
            if not self._held:
                log.warning("%s; what it lacks is held in memory, for this run alone", error)
            before, held = self.of(shelf)
            both = np.concatenate([before, rows])
            order = np.argsort(both)
            self._held[shelf] = (both[order], np.concatenate([held, values])[order])


@dataclass(eq=False, slots=True)
class _KeptForecasts:
    """The forecasts of a table, in files. A file that cannot be read is computed again.

    reader: of the files.
    windows: of the table.
    parts: where their forecasts lie.
    complete: makes what is missing, and says where all lie then.
    memory: of the table, for what cannot be kept.
    """

    reader: Reader
    windows: Windows
    parts: list[_Part]
    complete: Callable[[], list[_Part]]
    memory: _Memory
    _mended: set[Path] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def values(self, numbers: Index) -> Array32:
        """Quantiles [n, H, Q] of windows with these numbers."""
        return self._read(self._values, numbers)

    def log_moments(self, numbers: Index) -> tuple[Array32, Array32]:
        """Median and log variance [n, H] of windows with these numbers."""
        moments = self._read(self._moments, numbers)
        # Files that were written before log moments were kept do not have them.
        lacking = np.flatnonzero(np.isnan(moments[:, 1, 0]))
        for first in range(0, len(lacking), CHUNK):
            part = lacking[first : first + CHUNK]
            chosen = numbers[part]
            price = self.windows.price[chosen]
            moments[part] = np.stack(log_moments(self.values(chosen), price), axis=1)
        return moments[:, 0], moments[:, 1]

    def _read(self, read: Callable[[list[_Part], Index], Array32], numbers: Index) -> Array32:
        while True:
            parts = self.parts
            try:
                return read(parts, numbers)
            except Unreadable as error:
                self._mend(error, parts)

    def _mend(self, error: Unreadable, parts: list[_Part]) -> None:
        """Compute again what a file of these parts held that cannot be read.

        The error itself, where that was no help.
        """
        with self._lock:
            if self.parts is not parts:
                return
            if error.path in self._mended:
                raise error
            log.warning("%s; what it held is looked for, or computed, again", error)
            try:
                error.path.unlink(missing_ok=True)
            except OSError:
                self.memory.spoiled.add(error.path)
            self._mended.add(error.path)
            self.parts = self.complete()

    def _values(self, parts: list[_Part], numbers: Index) -> Array32:
        if len(parts) == 1:
            return parts[0].values(self.reader, numbers)
        out = np.empty((len(numbers), HORIZON, len(LEVELS)), dtype=np.float32)
        for part in parts:
            chosen, place = _of_part(part, numbers)
            out[chosen] = part.values(self.reader, place)
        return out

    def _moments(self, parts: list[_Part], numbers: Index) -> Array32:
        out = np.empty((len(numbers), 2, HORIZON), dtype=np.float32)
        for part in parts:
            chosen, place = _of_part(part, numbers)
            out[chosen] = part.moments(place)
        return out


def _of_part(part: _Part, numbers: Index) -> tuple[Index, Index]:
    """(which of these windows a part holds, their places in it)."""
    place = np.minimum(np.searchsorted(part.rows, numbers), len(part.rows) - 1)
    chosen = np.flatnonzero(part.rows[place] == numbers)
    return chosen, place[chosen]


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
