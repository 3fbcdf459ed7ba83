"""Forecasts that are computed once, ever: an SQLite file a specification and year of issue.

    FOLDER/<digest of the specification>/<year>.sqlite

A row is a portion: forecasts issued in one month that were computed together, with the bits of what
each has seen. It is written whole, and two processes that compute the same write it once. Every
part of it carries a checksum: what is not as it was written is removed, and computed again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import sqlite3
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from forecasting.forecast import HORIZON, LEVELS
from forecasting.windows import WindowKeys
from foundation.arrays import Array32, Index, Instants
from foundation.errors import InputError

log = logging.getLogger(__name__)

DEFAULT_CACHE = Path("~/.cache/kelly-chronos/forecasts")
FITS_FOLDER = "fits"  # the folder of a cache that holds what calibration has learned
DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PART_SHAPES = {"moments": (2, HORIZON), "quantiles": (HORIZON, len(LEVELS))}
_WAIT = 60.0  # seconds for another process that writes
_CHECKSUM = 4  # bytes at the end of what is written
_ISSUE = np.dtype([("issued_at", "datetime64[ns]"), ("key", np.uint64)])
# What is read last stands last: SQLite walks through what stands before it.
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS portions (number INTEGER PRIMARY KEY AUTOINCREMENT,"
    " specification TEXT NOT NULL, name BLOB NOT NULL, month TEXT NOT NULL, issues BLOB NOT NULL,"
    " moments BLOB NOT NULL, quantiles BLOB NOT NULL, UNIQUE (specification, name)) STRICT",
    "CREATE INDEX IF NOT EXISTS months ON portions (month)",
)


class ForecastsDamaged(Exception):
    """Forecasts that are gone, or not as they were written; they can be computed again."""


class CacheWriteFailed(Exception):
    """What could not be kept, and why."""


@dataclass(frozen=True, slots=True)
class Partition:
    """The forecasts of one specification, for any thread.

    folder: of the partition, named after the specification.
    specification: what the forecasts depend on beside their bars, as JSON text.
    """

    folder: Path
    specification: str

    @classmethod
    def for_specification(cls, cache: Path, specification: Mapping[str, Any]) -> Partition:
        """The partition of a specification, used now."""
        text = json.dumps(specification, sort_keys=True)
        folder = cache / hashlib.sha256(text.encode()).hexdigest()[:16]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
        except OSError as error:
            # What is there can be read, and what a full disk does not take is held in memory.
            if not folder.is_dir() and error.errno not in DISK_FULL_ERRORS:
                raise InputError(
                    f"forecaster.cache: {folder} cannot be written: {error.strerror}"
                ) from error
        return cls(folder, text)

    def locate(self, issued_at: Instants, keys: WindowKeys) -> tuple[Index, Index]:
        """Number of the portion of each forecast [n], 0 for none, and its row there [n].

        All are issued in one month.
        """
        month = _month(issued_at)
        query = "SELECT number, issues FROM portions WHERE month = ? AND specification = ?"
        asked = month, self.specification
        year = int(month[:4])
        numbers, rows = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        parts = [np.empty(0, _ISSUE)]
        for number, blob in self._asked(year, lambda file: file.execute(query, asked).fetchall()):
            with suppress(ForecastsDamaged):
                parts.append(np.frombuffer(self._whole((year, number), blob), _ISSUE))
                numbers.append(np.full(len(parts[-1]), number))
                rows.append(np.arange(len(parts[-1])))
        issues = np.concatenate(parts)
        if not len(issues):
            return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.int64)
        # Keys are digests. Looked up in their own order they would go all over memory.
        held = np.ascontiguousarray(issues["key"])
        order = np.argsort(held, kind="stable")
        rising = np.argsort(keys, kind="stable")
        nearest = np.empty(len(keys), dtype=np.int64)
        place = np.searchsorted(held[order], keys[rising])
        nearest[rising] = order[np.minimum(place, len(held) - 1)]
        # A key of 64 bits may meet another window's by chance: the instant is compared as well.
        hit = (held[nearest] == keys) & (issues["issued_at"][nearest] == issued_at)
        return np.where(hit, np.concatenate(numbers)[nearest], 0), np.concatenate(rows)[nearest]

    def add(
        self, issued_at: Instants, keys: WindowKeys, moments: Array32, quantiles: Array32
    ) -> None:
        """Write forecasts [n, H, Q] issued in one month, and their log moments [n, 2, H].

        Raises NotWritten saying why.
        """
        issues = np.empty(len(keys), _ISSUE)
        issues["issued_at"], issues["key"] = issued_at, keys
        name = hashlib.blake2b(issues.tobytes(), digest_size=16).digest()
        month = _month(issued_at)
        *small, large = map(_sealed, (issues, moments, quantiles))
        row = self.specification, name, month, *map(b"".join, small), sum(map(len, large))
        insert = (
            "INSERT OR IGNORE INTO portions"
            " (specification, name, month, issues, moments, quantiles)"
            " VALUES (?, ?, ?, ?, ?, zeroblob(?))"
        )
        try:
            with self._file(int(month[:4])) as file, file:
                # Parts are of megabytes: small pages would take twice the time.
                file.execute("PRAGMA page_size = 65536")
                # What a power cut spoils is found by its checksum, and computed again.
                file.execute("PRAGMA synchronous = OFF")
                for statement in _SCHEMA:
                    file.execute(statement)
                added = file.execute(insert, row)
                # As a value of the statement it would be copied four times on its way.
                if added.rowcount:
                    with file.blobopen("portions", "quantiles", added.lastrowid or 0) as blob:
                        for part in large:
                            blob.write(part)
        except sqlite3.Error as error:
            raise CacheWriteFailed(f"{self.folder} cannot be written: {error}") from error

    def read(self, issued_at: Instants, number: int, part: str) -> Array32:
        """The moments [n, 2, H] or the quantiles [n, H, Q] of a portion that was located.

        Raises Damaged for what is gone or not as it was written; it is removed, as far as may be.
        """
        year = int(_month(issued_at)[:4])

        def held(file: sqlite3.Connection) -> bytes:
            with file.blobopen("portions", part, number, readonly=True) as blob:
                return blob.read()

        whole = self._whole((year, number), self._asked(year, held) or b"")
        return np.frombuffer(whole, np.float32).reshape(-1, *PART_SHAPES[part])

    def _asked(self, year: int, ask: Callable[[sqlite3.Connection], Sequence[Any]]) -> Any:
        """What a file answers; nothing where there is none, or none that can be used."""
        path = self._path(year)
        if not os.path.exists(path):
            return []
        try:
            with self._file(year) as file:
                return ask(file)
        except sqlite3.OperationalError as error:
            log.warning("%s: not read: %s", path, error)
        except sqlite3.DatabaseError as error:
            log.warning("%s: damaged: %s; what it held is computed again", path, error)
            with suppress(OSError):
                path.unlink(missing_ok=True)
        return []

    def _whole(self, place: tuple[int, int], blob: bytes) -> memoryview:
        """What was written, without its checksum; what is not so is removed, as far as may be."""
        content = memoryview(blob)[:-_CHECKSUM]
        if len(blob) > _CHECKSUM and zlib.crc32(content).to_bytes(_CHECKSUM) == blob[-_CHECKSUM:]:
            return content
        year, number = place
        log.warning("%s: damaged: portion %d; it is computed again", self._path(year), number)
        with suppress(sqlite3.Error), self._file(year) as file, file:
            file.execute("DELETE FROM portions WHERE number = ?", (number,))
        raise ForecastsDamaged

    def _file(self, year: int) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self._path(year), timeout=_WAIT))

    def _path(self, year: int) -> Path:
        return self.folder / f"{year}.sqlite"


def _month(issued_at: Instants) -> str:
    return str(issued_at[0].astype("datetime64[M]"))


def _sealed(values: np.ndarray) -> tuple[memoryview, bytes]:
    """Bytes of an array, and their checksum."""
    content = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    return content, zlib.crc32(content).to_bytes(_CHECKSUM)
