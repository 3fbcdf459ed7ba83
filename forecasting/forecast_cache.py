"""A disk cache of forecasts: an SQLite file for each specification and year of issue.

    FOLDER/<digest of the specification>/<year>.sqlite

A row of a file is a portion: forecasts that were issued in one month and computed together, with
the digests of their inputs. A portion is written in one transaction. If two processes compute it,
it is written only once. Each part of a portion has a checksum. A damaged portion is removed and
recomputed.
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

DEFAULT_CACHE_FOLDER = Path("~/.cache/kelly-chronos/forecasts")
CALIBRATION_FITS_FOLDER = "fits"  # folder of calibration fits in a cache
DISK_FULL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
CACHED_ARRAY_SHAPES = {"moments": (2, HORIZON), "quantiles": (HORIZON, len(LEVELS))}
_WRITE_WAIT_SECONDS = 60.0  # longest wait in seconds for another process that writes
_CHECKSUM_BYTES = 4  # bytes of the checksum at the end of a blob
_ISSUE_DTYPE = np.dtype([("issued_at", "datetime64[ns]"), ("key", np.uint64)])
# The column that is read last comes last: SQLite walks through those before it.
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS portions (number INTEGER PRIMARY KEY AUTOINCREMENT,"
    " specification TEXT NOT NULL, name BLOB NOT NULL, month TEXT NOT NULL, issues BLOB NOT NULL,"
    " moments BLOB NOT NULL, quantiles BLOB NOT NULL, UNIQUE (specification, name)) STRICT",
    "CREATE INDEX IF NOT EXISTS months ON portions (month)",
)


class CachedForecastsDamaged(Exception):
    """Raised when cached forecasts are missing or damaged; they can be recomputed."""


class CacheWriteFailed(Exception):
    """Raised when forecasts cannot be written to the cache."""


@dataclass(frozen=True, slots=True)
class CachePartition:
    """The cached forecasts of one specification, in one file per year; safe for use by threads.

    folder: folder of the partition, named after the digest of the specification.
    specification: all inputs of the forecasts other than bars, as JSON text.
    """

    folder: Path
    specification: str

    @classmethod
    def for_specification(cls, cache: Path, specification: Mapping[str, Any]) -> CachePartition:
        """Return the partition of a specification, and set its folder's modification time to now.

        Raises InputError if the folder cannot be created.

        cache: folder of the cache.
        """
        text = json.dumps(specification, sort_keys=True)
        folder = cache / hashlib.sha256(text.encode()).hexdigest()[:16]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            os.utime(folder)
        except OSError as error:
            # Existing forecasts can still be read; without disk space new ones stay in memory.
            if not folder.is_dir() and error.errno not in DISK_FULL_ERRORS:
                raise InputError(
                    f"forecaster.cache: {folder} cannot be written: {error.strerror}"
                ) from error
        return cls(folder, text)

    def locate(self, issued_at: Instants, keys: WindowKeys) -> tuple[Index, Index]:
        """Find forecasts; return the portion number and the row in the portion of each, [n].

        The portion number of a forecast that is not in the cache is 0.

        issued_at: [n] instants of issue, all in one month.
        keys: [n] digests of the windows.
        """
        month = _issue_month(issued_at)
        query = "SELECT number, issues FROM portions WHERE month = ? AND specification = ?"
        asked = month, self.specification
        year = int(month[:4])
        numbers, rows = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
        parts = [np.empty(0, _ISSUE_DTYPE)]
        for number, blob in self._query_year(
            year, lambda file: file.execute(query, asked).fetchall()
        ):
            with suppress(CachedForecastsDamaged):
                parts.append(np.frombuffer(self._verify_blob((year, number), blob), _ISSUE_DTYPE))
                numbers.append(np.full(len(parts[-1]), number))
                rows.append(np.arange(len(parts[-1])))
        issues = np.concatenate(parts)
        if not len(issues):
            return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.int64)
        # Keys are digests in random order: sorted look-ups avoid random memory access.
        held = np.ascontiguousarray(issues["key"])
        order = np.argsort(held, kind="stable")
        rising = np.argsort(keys, kind="stable")
        nearest = np.empty(len(keys), dtype=np.int64)
        place = np.searchsorted(held[order], keys[rising])
        nearest[rising] = order[np.minimum(place, len(held) - 1)]
        # A 64-bit key may collide with another window's: the instant is compared as well.
        hit = (held[nearest] == keys) & (issues["issued_at"][nearest] == issued_at)
        return np.where(hit, np.concatenate(numbers)[nearest], 0), np.concatenate(rows)[nearest]

    def add_portion(
        self, issued_at: Instants, keys: WindowKeys, moments: Array32, quantiles: Array32
    ) -> None:
        """Write one portion of forecasts, which were all issued in the same month.

        issued_at, keys: [n] instants of issue, and digests of the windows.
        moments: [n, 2, H] median and log variance of the log return.
        quantiles: [n, H, Q] price quantiles in USD.

        Raises CacheWriteFailed with the reason.
        """
        issues = np.empty(len(keys), _ISSUE_DTYPE)
        issues["issued_at"], issues["key"] = issued_at, keys
        name = hashlib.blake2b(issues.tobytes(), digest_size=16).digest()
        month = _issue_month(issued_at)
        *small, large = map(_with_checksum, (issues, moments, quantiles))
        row = self.specification, name, month, *map(b"".join, small), sum(map(len, large))
        insert = (
            "INSERT OR IGNORE INTO portions"
            " (specification, name, month, issues, moments, quantiles)"
            " VALUES (?, ?, ?, ?, ?, zeroblob(?))"
        )
        try:
            with self._file(int(month[:4])) as file, file:
                # Blobs have megabytes: small pages would take twice the time.
                file.execute("PRAGMA page_size = 65536")
                # A power cut may damage a blob; its checksum reveals that, and it is computed
                # again.
                file.execute("PRAGMA synchronous = OFF")
                for statement in _SCHEMA:
                    file.execute(statement)
                added = file.execute(insert, row)
                # As a parameter of the statement a blob would be copied four times.
                if added.rowcount:
                    with file.blobopen("portions", "quantiles", added.lastrowid or 0) as blob:
                        for part in large:
                            blob.write(part)
        except sqlite3.Error as error:
            raise CacheWriteFailed(f"{self.folder} cannot be written: {error}") from error

    def read_portion(self, issued_at: Instants, portion: int, part: str) -> Array32:
        """Return the moments [n, 2, H] or the quantiles [n, H, Q] of all forecasts in one portion.

        issued_at: instants of issue, which determine the year's file.
        portion: portion number from `locate`.
        part: `moments` or `quantiles`.

        Raises CachedForecastsDamaged if the portion is missing or damaged; a damaged portion is
        removed if possible.
        """
        year = int(_issue_month(issued_at)[:4])

        def read_blob(file: sqlite3.Connection) -> bytes:
            with file.blobopen("portions", part, portion, readonly=True) as blob:
                return blob.read()

        whole = self._verify_blob((year, portion), self._query_year(year, read_blob) or b"")
        return np.frombuffer(whole, np.float32).reshape(-1, *CACHED_ARRAY_SHAPES[part])

    def _query_year(self, year: int, ask: Callable[[sqlite3.Connection], Sequence[Any]]) -> Any:
        """Return the result of a query on a year's file; [] if the file is absent or unusable.

        ask: function that queries the open file.
        """
        path = self._path(year)
        if not os.path.exists(path):
            return []
        try:
            with self._file(year) as file:
                return ask(file)
        except sqlite3.OperationalError as error:
            log.warning("%s: cannot be read, computing its forecasts again: %s", path, error)
        except sqlite3.DatabaseError as error:
            log.warning("%s: damaged, computing its forecasts again: %s", path, error)
            with suppress(OSError):
                path.unlink(missing_ok=True)
        return []

    def _verify_blob(self, place: tuple[int, int], blob: bytes) -> memoryview:
        """Return the content of a blob without its checksum.

        If the checksum does not match, removes the portion if possible and raises
        CachedForecastsDamaged.

        place: year of the file, and number of the portion.
        """
        content = memoryview(blob)[:-_CHECKSUM_BYTES]
        if (
            len(blob) > _CHECKSUM_BYTES
            and zlib.crc32(content).to_bytes(_CHECKSUM_BYTES) == blob[-_CHECKSUM_BYTES:]
        ):
            return content
        year, number = place
        log.warning("%s: portion %d is damaged, computing it again", self._path(year), number)
        with suppress(sqlite3.Error), self._file(year) as file, file:
            file.execute("DELETE FROM portions WHERE number = ?", (number,))
        raise CachedForecastsDamaged

    def _file(self, year: int) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self._path(year), timeout=_WRITE_WAIT_SECONDS))

    def _path(self, year: int) -> Path:
        return self.folder / f"{year}.sqlite"


def _issue_month(issued_at: Instants) -> str:
    return str(issued_at[0].astype("datetime64[M]"))


def _with_checksum(values: np.ndarray) -> tuple[memoryview, bytes]:
    """Return an array's bytes and their checksum."""
    content = np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
    return content, zlib.crc32(content).to_bytes(_CHECKSUM_BYTES)
