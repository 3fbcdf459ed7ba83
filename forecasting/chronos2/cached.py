"""Chronos-2 forecasts through the cache: what is there is read, the rest is computed and kept."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
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
# Parts of portions that were read last, in memory, 33 MB each at most: as many as threads may read.
RECENT = 4 + min(os.cpu_count() or 1, 16)
MOST_HELD = 131_072  # forecasts held in memory that cannot be written: 290 MB


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
        parts = [
            _Part(self, windows, keys, profile, rows)
            for profile, rows in self.forecaster.by_profile(bars.symbols, windows)
            if len(rows)
        ]
        for part in parts:
            part.complete(progress)
        quantiles, moments = (Kept(parts, what) for what in ("quantiles", "moments"))
        return ForecastTable.of(
            self.name,
            bars,
            windows,
            quantiles.__getitem__,
            source=source_of([json.loads(part.shelf.specification) for part in parts]),
            log_moments=lambda rows: tuple(np.moveaxis(moments[rows], 1, 0)),
        )


@dataclass(frozen=True, eq=False, slots=True)
class Kept:
    """The moments [N, 2, H] or the quantiles [N, H, Q] of a history, read as they are asked for."""

    parts: Sequence[_Part]
    what: str

    def __getitem__(self, rows: Index) -> Array32:
        """Those of windows number `rows` [n]."""
        out = np.empty((len(rows), *SHAPES[self.what]), dtype=np.float32)
        for part in self.parts:
            place = np.minimum(np.searchsorted(part.rows, rows), len(part.rows) - 1)
            chosen = np.flatnonzero(part.rows[place] == rows)
            out[chosen] = part.read(self.what, place[chosen])
        return out


@dataclass(eq=False)
class _Part:
    """The windows of one profile, and where their forecasts lie.

    keys: of all windows.
    rows: [n] the part's numbers among them, rising.
    """

    cached: CachedForecaster
    windows: Windows
    keys: Keys
    profile: Profile
    rows: Index

    def __post_init__(self) -> None:
        self._price = self.windows.price
        self._repair = Lock()
        self._use(Shelf.of(self.cached.folder, self.cached.forecaster.specification(self.profile)))

    def _use(self, shelf: Shelf) -> None:
        """Read from a shelf, and write to it."""
        self.shelf = shelf
        self._read = lru_cache(RECENT)(shelf.read)
        self._held: list[Portion] = []
        self._lost: set[tuple[int, int]] = set()
        self._look()

    def _look(self) -> None:
        """See where the forecasts lie: portions, and the portion and row of each window [n]."""
        issued, keys = self.windows.issued_at[self.rows], self.keys[self.rows]
        kept = (each for each in self.shelf.portions(issued) if each.place not in self._lost)
        portions = [*self._held, *kept]
        portion, row = located(portions, issued, keys)
        # What identified them is not needed any more.
        self._found = [(each.place, each.held) for each in portions], portion, row

    def read(self, what: str, places: Index) -> Array32:
        """The moments [n, 2, H] or the quantiles [n, H, Q] of the windows in these places."""
        out = np.empty((len(places), *SHAPES[what]), dtype=np.float32)
        portions, portion, row = self._found
        for number in np.unique(portion[places]).tolist():
            chosen = np.flatnonzero(portion[places] == number)
            place, held = portions[number]
            try:
                values = held[what] if held else self._read(place, what)
            except Damaged:
                with self._repair:
                    self._lost.add(place)
                    self._look()
                    self.complete(silent)
                return self.read(what, places)
            out[chosen] = values[row[places[chosen]]]
        return out

    def complete(self, progress: Progress) -> None:
        """Compute and keep what lies nowhere yet."""
        missing = self._missing()
        count = len(self.rows)
        of_cache = f"forecasts, {count - len(missing):,} of {count:,} from cache"
        if not len(missing):
            progress(of_cache, count, count)
        work = "forecasts" if len(missing) == count else f"{of_cache}, new ones"
        while len(missing):
            self._fill(missing, lambda _, done, total: progress(work, done, total))
            self._look()
            missing = self._missing()

    def _missing(self) -> Index:
        missing: Index = self.rows[self._found[1] == NOWHERE]
        return missing

    def _fill(self, missing: Index, progress: Progress) -> None:
        """Compute these windows' forecasts and keep them.

        What computes them says where its answers belong: it may have loaded weights that were
        written over after the shelf was looked at, or have had to compute otherwise than planned.
        Then that is the wrong shelf: the right one is looked at before more is computed.
        """
        forecaster, folder = self.cached.forecaster, self.cached.folder
        portions = list(_portions(self.windows, missing))
        making = self.cached.answers(forecaster, self.windows, portions, self.profile, progress)
        keeping: list[Future[None]] = []
        with ThreadPoolExecutor(1) as thread, closing(making) as answers:
            for answer in answers:
                for earlier in keeping:
                    earlier.result()
                if (actual := Shelf.of(folder, answer.specification)) != self.shelf:
                    self._use(actual)
                    self._keep(answer)
                    return
                # The next ones are computed meanwhile.
                keeping = [thread.submit(self._keep, answer)]
        for last in keeping:
            last.result()

    def _keep(self, answer: Answer) -> None:
        rows, quantiles = answer.rows, answer.values
        if not len(rows):
            return
        issued, keys = self.windows.issued_at[rows], self.keys[rows]
        moments = np.stack(log_moments(quantiles, self._price[rows]), axis=1)
        try:
            self.shelf.add(issued, keys, moments, quantiles)
        except NotWritten as error:
            if not self._held:
                log.warning("forecaster.cache: %s; it is held in memory, for this run alone", error)
            held = {"moments": moments, "quantiles": quantiles}
            self._held.append(Portion(issued, keys, (0, len(self._held)), held))
            if sum(len(each.key) for each in self._held) > MOST_HELD:
                raise InputError(
                    f"forecaster.cache: {error}; a run holds {MOST_HELD:,} forecasts in memory at"
                    " most: name another folder"
                ) from error


def _portions(windows: Windows, rows: Index) -> Iterator[Index]:
    """The rows as they are written together: by month, then instant, then symbol."""
    months = windows.issued_at[rows].astype("datetime64[M]")
    order = rows[np.lexsort((windows.symbol[rows], windows.issued_at[rows]))]
    bounds = np.cumsum(np.unique(months, return_counts=True)[1])
    for month in np.split(order, bounds[:-1]):
        for first in range(0, len(month), FILE_ROWS):
            yield month[first : first + FILE_ROWS]
