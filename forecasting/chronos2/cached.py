"""Chronos-2 forecasts through the cache: what is there is read, the rest is computed and kept.

Where a cache can be read and not be written, as on a full disk, a table holds in memory what it
lacks, up to `MOST_IN_MEMORY` forecasts.
"""

from __future__ import annotations

import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Self

import numpy as np

from forecasting.cache_file import Unreadable
from forecasting.chronos2.answers import Answers, answers_here
from forecasting.chronos2.forecaster import Chronos2Forecaster, source_of
from forecasting.chronos2.profile import Profile
from forecasting.forecast import HORIZON, LEVELS, ForecastTable, Progress, silent
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

        kept = _KeptForecasts(self.reader, completed(progress), lambda: completed(silent))
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
            found = shelf.find(windows.issued_at[rows], keys[rows])
            return found, np.setdiff1d(rows[found.missing], memory.of(shelf).rows)

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
        return _Part(shelf, rows, locations, memory.of(shelf))

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
                on.add(symbol, windows.issued_at[part], keys[part], values, moments)
            except ReadOnly as error:
                memory.take(on, _Held(part, values, moments), error)

        making = self.answers(self.forecaster, windows, portions, profile, progress)
        with _Writers() as writers, closing(making) as answers:
            for answer in answers:
                actual = Shelf.of(self.folder, answer.specification)
                with suppress(ReadOnly):
                    actual.open()
                if len(answer.rows):
                    writers.submit(keep, actual, answer.rows, answer.values)
                if actual != shelf:
                    return actual
        return shelf

    def _shelf(self, profile: Profile) -> Shelf:
        return Shelf.of(self.folder, self.forecaster.specification(profile))


@dataclass(frozen=True, eq=False, slots=True)
class _Held:
    """Forecasts in memory.

    rows: [m] numbers of their windows, rising.
    values: [m, H, Q] quantiles.
    moments: [m, 2, H] log moments.
    """

    rows: Index
    values: Array32
    moments: Array32


_NOTHING = _Held(
    np.empty(0, dtype=np.int64),
    np.empty((0, HORIZON, len(LEVELS)), dtype=np.float32),
    np.empty((0, 2, HORIZON), dtype=np.float32),
)


@dataclass(frozen=True, eq=False, slots=True)
class _Part:
    """Forecasts of one profile.

    shelf: that they lie on.
    rows: [n] numbers of their windows, rising.
    locations: of them there.
    held: those that are not there.
    """

    shelf: Shelf
    rows: Index
    locations: Locations
    held: _Held

    def values(self, reader: Reader, places: Index) -> Array32:
        """Quantiles [n, H, Q] of the windows in these places among the rows."""
        return self._both(places, self.held.values, lambda kept: reader.values(*kept))

    def moments(self, places: Index) -> Array32:
        """Log moments [n, 2, H] of these windows."""
        return self._both(places, self.held.moments, lambda kept: moments_at(*kept))

    def _both(
        self, places: Index, held: Array32, read: Callable[[tuple[Locations, Index]], Array32]
    ) -> Array32:
        """What is read of those that are kept, with what is held of the others."""
        absent = self.locations.file[places] == NOWHERE
        if not absent.any():
            return read((self.locations, places))
        out = np.empty((len(places), *held.shape[1:]), dtype=np.float32)
        out[~absent] = read((self.locations, places[~absent]))
        out[absent] = held[np.searchsorted(self.held.rows, self.rows[places[absent]])]
        return out


@dataclass(eq=False, slots=True)
class _Memory:
    """What a table holds because its cache cannot be written."""

    _held: dict[Shelf, _Held] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def of(self, shelf: Shelf) -> _Held:
        """The forecasts that were made for a shelf."""
        return self._held.get(shelf, _NOTHING)

    def take(self, shelf: Shelf, more: _Held, error: ReadOnly) -> None:
        """Hold forecasts made for a shelf that cannot be written, unless they are too many."""
        with self._lock:
            if sum(len(held.rows) for held in (*self._held.values(), more)) > MOST_IN_MEMORY:
                raise InputError(
                    f"{error}; a run holds {MOST_IN_MEMORY:,} forecasts in memory at most: name"
                    " another folder"
                )
            if not self._held:
                log.warning("%s; what it lacks is held in memory, for this run alone", error)
            before = self.of(shelf)
            both = np.concatenate([before.rows, more.rows])
            order = np.argsort(both)
            self._held[shelf] = _Held(
                both[order],
                np.concatenate([before.values, more.values])[order],
                np.concatenate([before.moments, more.moments])[order],
            )


@dataclass(eq=False, slots=True)
class _KeptForecasts:
    """The forecasts of a table, in files. A file that cannot be read is computed again.

    reader: of the files.
    parts: where their forecasts lie.
    complete: makes what is missing, and says where all lie then.
    """

    reader: Reader
    parts: list[_Part]
    complete: Callable[[], list[_Part]]
    _mended: set[Path] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def values(self, numbers: Index) -> Array32:
        """Quantiles [n, H, Q] of windows with these numbers."""
        return self._read(
            numbers, _NOTHING.values, lambda part, places: part.values(self.reader, places)
        )

    def log_moments(self, numbers: Index) -> tuple[Array32, Array32]:
        """Median and log variance [n, H] of windows with these numbers."""
        moments = self._read(numbers, _NOTHING.moments, _Part.moments)
        return moments[:, 0], moments[:, 1]

    def _read(
        self, numbers: Index, like: Array32, read: Callable[[_Part, Index], Array32]
    ) -> Array32:
        """What is read of the parts that hold these windows, shaped like something of them."""
        while True:
            parts = self.parts
            try:
                if len(parts) == 1:
                    return read(parts[0], numbers)
                out = np.empty((len(numbers), *like.shape[1:]), dtype=np.float32)
                for part in parts:
                    chosen, places = _of_part(part, numbers)
                    out[chosen] = read(part, places)
                return out
            except Unreadable as error:
                self._mend(error, parts)

    def _mend(self, error: Unreadable, parts: list[_Part]) -> None:
        """Compute again what a file of these parts held that cannot be read.

        The error itself, where that was no help, or the file cannot be removed.
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
                raise error from None
            self._mended.add(error.path)
            self.parts = self.complete()


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
