"""Chronos-2 forecasts through the cache: what is there is read, the rest is computed and kept.

What cannot be written, as on a full disk, a table holds in memory, up to `MOST_IN_MEMORY`.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np

from forecasting.chronos2.answers import Answer, Answers, answers_here
from forecasting.chronos2.forecaster import Chronos2Forecaster, source_of
from forecasting.chronos2.profile import Profile
from forecasting.forecast import ForecastTable, Progress, silent
from forecasting.moments import log_moments
from forecasting.store import LESSONS, NOWHERE, SHAPES, Damaged, NotWritten, Portion, Shelf, located
from forecasting.windows import Keys, Windows
from foundation.arrays import Array32, Index, Instants
from foundation.errors import InputError
from trainingdata.bars import Bars

log = logging.getLogger(__name__)

FILE_ROWS = 16_384  # forecasts a portion holds at most: what a kill can cost
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MOST_IN_MEMORY = 131_072  # forecasts a table holds that its cache cannot: 290 MB


@dataclass(frozen=True, eq=False, slots=True)
class CachedForecaster:
    """A forecaster and the folder its forecasts are kept in.

    forecaster: makes what is not there.
    folder: of the cache, with a shelf for each specification.
    answers: computes what is not there; the forecaster itself, in this process, by default.
    """

    forecaster: Chronos2Forecaster
    folder: Path
    answers: Answers = answers_here

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
        """Forecast what the cache lacks, a portion at a time; the table reads what it is asked."""
        windows = self.forecaster.windows(bars, since)
        keys = self.forecaster.keys(windows)
        held = _HeldCount()
        parts = [
            _Part(self, windows, keys, profile, rows, held)
            for profile, rows in self.forecaster.by_profile(bars.symbols, windows)
            if len(rows)
        ]
        for part in parts:
            part.complete(progress)

        def read(what: str, numbers: Index) -> Array32:
            out = np.empty((len(numbers), *SHAPES[what]), dtype=np.float32)
            for part in parts:
                chosen, places = part.among(numbers)
                out[chosen] = part.read(what, places)
            return out

        def moments(numbers: Index) -> tuple[Array32, Array32]:
            both = read("moments", numbers)
            return both[:, 0], both[:, 1]

        return ForecastTable.of(
            self.name,
            bars,
            windows,
            lambda numbers: read("quantiles", numbers),
            source=source_of([json.loads(part.shelf.specification) for part in parts]),
            log_moments=moments,
        )


class _HeldCount:
    """How many forecasts a table holds in memory, as its cache could not be written."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = Lock()

    def add(self, count: int, error: NotWritten) -> None:
        """Count some more.

        Raises
        ------
        InputError
            where they are too many.
        """
        with self._lock:
            if not self._count:
                log.warning("forecaster.cache: %s; it is held in memory, for this run alone", error)
            self._count += count
            if self._count > MOST_IN_MEMORY:
                raise InputError(
                    f"forecaster.cache: {error}; a run holds {MOST_IN_MEMORY:,} forecasts in memory"
                    " at most: name another folder"
                ) from error


class _Part:
    """The windows of one profile, and where their forecasts lie.

    rows: [n] their numbers among all windows, rising.
    held: counts what lies in memory.
    """

    def __init__(
        self,
        cached: CachedForecaster,
        windows: Windows,
        keys: Keys,
        profile: Profile,
        rows: Index,
        held: _HeldCount,
    ) -> None:
        self._cached = cached
        self._windows = windows
        self._price = windows.price
        self._keys = keys
        self._profile = profile
        self._rows = rows
        self._held = held
        specification = cached.forecaster.specification(profile)
        self.shelf = Shelf.of(cached.folder, specification)
        self._find()

    def _find(self) -> None:
        """Look for the forecasts on the shelf."""
        self.shelf.touch()
        issued, keys = self._windows.issued_at[self._rows], self._keys[self._rows]
        self._portions = self.shelf.portions(issued)
        self._portion, self._row = located(self._portions, issued, keys)

    def among(self, numbers: Index) -> tuple[Index, Index]:
        """Which of some windows are of this part, and their places in it."""
        place = np.minimum(np.searchsorted(self._rows, numbers), len(self._rows) - 1)
        chosen = np.flatnonzero(self._rows[place] == numbers)
        return chosen, place[chosen]

    def read(self, what: str, places: Index) -> Array32:
        """The moments [n, 2, H] or the quantiles [n, H, Q] of the windows in these places."""
        portion, row = self._portion[places], self._row[places]
        out = np.empty((len(places), *SHAPES[what]), dtype=np.float32)
        for number in np.unique(portion).tolist():
            chosen = portion == number
            try:
                values = self.shelf.read(self._portions[number], what)
            except Damaged:
                self._compute_again(number)
                values = self._portions[number].held[what]
            out[chosen] = values[row[chosen]]
        return out

    def complete(self, progress: Progress) -> None:
        """Compute and keep what lies nowhere yet."""
        missing = np.flatnonzero(self._portion == NOWHERE)
        count = len(self._rows)
        of_cache = f"forecasts, {count - len(missing):,} of {count:,} from cache"
        if not len(missing):
            progress(of_cache, count, count)
        work = "forecasts" if len(missing) == count else f"{of_cache}, new ones"
        while len(missing):
            self._refuse_a_wrong_name()
            self._fill(self._rows[missing], lambda _, done, total: progress(work, done, total))
            missing = np.flatnonzero(self._portion == NOWHERE)

    def _refuse_a_wrong_name(self) -> None:
        """Refuse a folder in which nothing can be kept, and nothing is."""
        folder = self.shelf.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            if error.errno not in FULL and not self.shelf.years:
                raise InputError(
                    f"forecaster.cache: {folder} cannot be written: {error.strerror}"
                ) from error

    def _fill(self, missing: Index, progress: Progress) -> None:
        """Compute these windows' forecasts and keep them.

        What computes them says where its answers belong: it may have loaded weights that were
        written over after the shelf was looked at, or have had to compute otherwise than planned.
        Then that is the wrong shelf: the right one is looked at before more is computed.
        """
        forecaster = self._cached.forecaster
        portions = list(_portions(self._windows, missing))
        making = self._cached.answers(forecaster, self._windows, portions, self._profile, progress)
        keeping: Future[None] | None = None
        with ThreadPoolExecutor(1) as thread, closing(making) as answers:
            for answer in answers:
                if keeping is not None:
                    keeping.result()
                actual = Shelf.of(self._cached.folder, answer.specification)
                if actual.specification != self.shelf.specification:
                    self._move_to(actual, answer)
                    return
                # The next ones are computed meanwhile.
                keeping = thread.submit(self._keep, answer)
            if keeping is not None:
                keeping.result()

    def _move_to(self, shelf: Shelf, answer: Answer) -> None:
        """Go on with another shelf, on which an answer belongs."""
        self.shelf = shelf
        if len(answer.rows):
            self._keep(answer)
        self._find()

    def _keep(self, answer: Answer) -> None:
        rows = answer.rows
        if not len(rows):
            return
        issued, keys = self._windows.issued_at[rows], self._keys[rows]
        parts = self._parts(rows, answer.values)
        try:
            portion = self.shelf.add(issued, keys, **parts)
        except NotWritten as error:
            self._held.add(len(rows), error)
            portion = Portion(issued, keys, None, parts)
        places = np.searchsorted(self._rows, rows)
        self._portion[places] = len(self._portions)
        self._row[places] = np.arange(len(rows))
        self._portions.append(portion)

    def _compute_again(self, number: int) -> None:
        """Have in memory what a portion held that cannot be read."""
        lost = self._portions[number]
        places = np.flatnonzero(self._portion == number)
        rows = self._rows[places]
        values = self._cached.forecaster.answer(self._windows, rows, self._profile)
        held = {}
        for what, part in self._parts(rows, values).items():
            held[what] = np.full((len(lost.key), *SHAPES[what]), np.nan, dtype=np.float32)
            held[what][self._row[places]] = part
        self._portions[number] = Portion(lost.issued_at, lost.key, None, held)

    def _parts(self, rows: Index, quantiles: Array32) -> dict[str, Array32]:
        """What is kept of these windows' forecasts: quantiles [n, H, Q] and their log moments."""
        moments = np.stack(log_moments(quantiles, self._price[rows]), axis=1)
        return {"moments": moments, "quantiles": quantiles}


def _portions(windows: Windows, rows: Index) -> Iterator[Index]:
    """The rows as they are written together: by month, then instant, then symbol."""
    months = windows.issued_at[rows].astype("datetime64[M]")
    order = rows[np.lexsort((windows.symbol[rows], windows.issued_at[rows]))]
    bounds = np.cumsum(np.unique(months, return_counts=True)[1])
    for month in np.split(order, bounds[:-1]):
        for first in range(0, len(month), FILE_ROWS):
            yield month[first : first + FILE_ROWS]
