"""Forecasts that are computed once, ever: Parquet files addressed by what the forecasts depend on.

    FOLDER/<digest of the specification>/specification.json
    FOLDER/<digest of the specification>/<month of issue>/<digest of the content>.parquet

A row is one forecast: symbol, issued_at, key (64 bits of the bars it saw) and its values, 24 steps
of 21 levels. A file is written whole under another name, then renamed. Its name is the digest of
its rows and of the specification it carries: two processes that compute the same write the same
file, and a file that is copied to another shelf is refused there. Nothing is ever changed in place.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from forecasting import cache_file
from forecasting.forecast import HORIZON, LEVELS
from forecasting.windows import Keys
from foundation.arrays import Array32, Index, Instants
from foundation.errors import DataError, InputError
from foundation.files import put_whole

log = logging.getLogger(__name__)

DEFAULT = Path("~/.cache/kelly-chronos/forecasts")
READER_BYTES = 512 * 2**20  # bytes of values a reader keeps in memory
LESSONS = "lessons"  # the folder of a cache that holds what calibration has learned
NOWHERE = -1
SMALL_FILE_BYTES = 2**20  # bytes of a file whose index is kept in memory
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ReadOnly(InputError):
    """A shelf that no more can be written to: a run goes on with what it holds, in memory."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """The files of one specification; a shelf that does not exist holds nothing.

    folder: of the shelf, named after the specification.
    specification: as JSON text with sorted keys.
    """

    folder: Path
    specification: str

    @classmethod
    def of(cls, cache: Path, specification: Mapping[str, Any]) -> Shelf:
        """The shelf for forecasts that depend on this specification and on their bars."""
        text = json.dumps(specification, sort_keys=True)
        return cls(cache / cache_file.address(text), text)

    @property
    def _note(self) -> Path:
        return self.folder / "specification.json"

    def touch(self) -> None:
        """Note that the shelf is used; one that cannot be written can still be read."""
        # Pruning by disuse goes by when this file was last touched.
        with suppress(OSError):
            if self._note.exists():
                self._note.touch()

    def open(self) -> None:
        """Make the folder and say in it what lies there.

        Raises
        ------
        ReadOnly
            where the disk is full, or it must not be written though it holds forecasts.
        InputError
            where it must not be written and holds none.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if self._note.exists():
                self._note.touch()
            else:
                about = json.dumps(json.loads(self.specification), sort_keys=True, indent=1)
                put_whole(self._note, f"{about}\n".encode())
        except OSError as error:
            raise self._refusal(self.folder, error) from error

    def _refusal(self, path: Path, error: OSError) -> InputError:
        # A forbidden folder without forecasts is a wrong name; a disk fills up under a right one.
        goes_on = error.errno in FULL or (error.errno in FORBIDDEN and self.files())
        kind = ReadOnly if goes_on else InputError
        return kind(f"forecaster.cache: {path} cannot be written: {error.strerror}")

    def files(self, month: str = "*") -> list[Path]:
        """The shelf's files, by month and name."""
        return sorted(self.folder.glob(f"{month}/*.parquet"))

    def find(self, issued_at: Instants, keys: Keys) -> Locations:
        """Where the forecasts issued then with these keys [n] lie, as far as they are there."""
        files: list[Path] = []
        for month in np.unique(issued_at.astype("datetime64[M]")):
            files += self.files(str(month))
        indexed = [(path, index) for path in files if (index := _index(path)) is not None]
        file = np.full(len(keys), NOWHERE)
        row = np.zeros(len(keys), dtype=np.int64)
        if indexed:
            held = np.concatenate([key for _, (_, key) in indexed])
            issued = np.concatenate([at for _, (at, _) in indexed])
            counts = [len(key) for _, (_, key) in indexed]
            held_file = np.repeat(np.arange(len(indexed)), counts)
            held_row = np.arange(len(held)) - np.repeat(np.cumsum([0, *counts[:-1]]), counts)
            # Keys are digests. Looked up in their own order they would go all over memory.
            order = np.argsort(held, kind="stable")
            rising = np.argsort(keys, kind="stable")
            at = np.minimum(np.searchsorted(held[order], keys[rising]), len(held) - 1)
            nearest = np.empty(len(keys), dtype=np.int64)
            nearest[rising] = order[at]
            # A key of 64 bits may meet another window's by chance: the instant is compared as well.
            hit = (held[nearest] == keys) & (issued[nearest] == issued_at)
            file[hit] = held_file[nearest[hit]]
            row[hit] = held_row[nearest[hit]]
        return Locations(tuple(path for path, _ in indexed), file, row)

    def add(
        self,
        symbols: npt.NDArray[np.str_],
        issued_at: Instants,
        keys: Keys,
        values: Array32,
        moments: Array32,
    ) -> Path:
        """Write one file of forecasts [n, H, Q] issued in one month; whole or not at all.

        moments: their log moments [n, 2, H], kept beside them.

        Raises
        ------
        ReadOnly
            where the disk is full, or it must not be written on a shelf that holds forecasts.
        InputError
            where it cannot be written for another reason.
        """
        month = str(issued_at[0].astype("datetime64[M]"))
        name = cache_file.digest(self.specification, issued_at, keys, values)
        path = self.folder / month / f"{name}.parquet"
        content = cache_file.encoded(self.specification, symbols, issued_at, keys, values, moments)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            put_whole(path, content)
        except OSError as error:
            raise self._refusal(path, error) from error
        return path


@dataclass(frozen=True, eq=False, slots=True)
class Locations:
    """Where forecasts lie on a shelf.

    files: those that hold something.
    file: [n] which of them holds each forecast, -1 for none.
    row: [n] its row there.
    """

    files: tuple[Path, ...]
    file: Index
    row: Index

    @property
    def missing(self) -> Index:
        """Numbers of the forecasts that are not there."""
        return np.flatnonzero(self.file == NOWHERE)


@dataclass(frozen=True, eq=False, slots=True)
class Reader:
    """Reads values from files, in any thread, keeping the last ones in memory.

    recent: quantiles by file, the one read last at the end.
    """

    recent: OrderedDict[Path, Array32] = field(default_factory=OrderedDict)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def values(self, locations: Locations, numbers: Index) -> Array32:
        """Quantiles [n, H, Q] of the forecasts with these numbers, all of which must be there."""
        file = locations.file[numbers]
        row = locations.row[numbers]
        # Most calls need one file: its rows are taken at once, without a second copy.
        if len(numbers) and (file == file[0]).all():
            return self._file(locations.files[file[0]])[row]
        out = np.empty((len(numbers), HORIZON, len(LEVELS)), dtype=np.float32)
        for number in np.unique(file):
            chosen = file == number
            out[chosen] = self._file(locations.files[number])[row[chosen]]
        return out

    def _file(self, path: Path) -> Array32:
        with self._lock:
            if path in self.recent:
                self.recent.move_to_end(path)
                return self.recent[path]
        values = cache_file.read_values(path)
        with self._lock:
            self.recent.pop(path, None)
            while (
                self.recent
                and sum(v.nbytes for v in self.recent.values()) + values.nbytes > READER_BYTES
            ):
                self.recent.popitem(last=False)
            self.recent[path] = values
        return values


def moments_at(locations: Locations, numbers: Index) -> Array32:
    """Log moments [n, 2, H] of forecasts that are there."""
    file = locations.file[numbers]
    out = np.empty((len(numbers), 2, HORIZON), dtype=np.float32)
    order = np.argsort(file, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(file[order])) + 1):
        if len(part):
            path = locations.files[file[part[0]]]
            out[part] = cache_file.read_moments(path)[locations.row[numbers[part]]]
    return out


def shelves(cache: Path) -> Iterator[tuple[Shelf, dict[str, Any]]]:
    """Every shelf of a cache and its specification; an empty one where that cannot be read."""
    for note in sorted(cache.glob("*/specification.json")):
        try:
            specification: dict[str, Any] = json.loads(note.read_text())
        except (OSError, ValueError):
            specification = {}
        yield Shelf(note.parent, json.dumps(specification, sort_keys=True)), specification


def _index(path: Path) -> tuple[Instants, Keys] | None:
    """(issued_at, keys) of a file; None for one that cannot be used."""
    # The forecasts of a file that cannot be used are computed again: that is no reason to stop.
    try:
        state = path.stat()
        if state.st_size <= SMALL_FILE_BYTES:
            return _small_index(path, state.st_mtime_ns, state.st_size)
        return _stored_index(path)
    except FileNotFoundError:
        log.warning("%s: went away while it was being used", path)
    except DataError as error:
        log.warning("%s", error)
    return None


@lru_cache(maxsize=16_384)
def _small_index(path: Path, changed: int, size: int) -> tuple[Instants, Keys]:
    # Hourly runs leave many small files, and every run reads the index of all of them.
    return _stored_index(path)


def _stored_index(path: Path) -> tuple[Instants, Keys]:
    table = cache_file.read(path, ["issued_at", "key"])
    return cache_file.issues(table), cache_file.keys(table)
