"""Forecasts that are computed once, ever: an SQLite file a specification and year of issue.

    FOLDER/<digest of the specification>/<year>.sqlite

A row is a portion: forecasts issued in one month that were computed together, with the bits of what
each has seen. It is written whole, and two processes that compute the same write it once. Every
part of it carries a checksum: what is not as it was written is removed, and computed again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from forecasting.forecast import HORIZON, LEVELS
from forecasting.windows import Keys
from foundation.arrays import Array32, Index, Instants

log = logging.getLogger(__name__)

DEFAULT = Path("~/.cache/kelly-chronos/forecasts")
LESSONS = "lessons"  # the folder of a cache that holds what calibration has learned
NOWHERE = -1
IN_MEMORY = 512 * 2**20  # bytes of what was read last that a shelf keeps in memory
SHAPES = {"moments": (2, HORIZON), "quantiles": (HORIZON, len(LEVELS))}
_YEARS = "[0-9]*.sqlite"
_WAIT = 60.0  # seconds for another process that writes
_CHECKSUM = 4  # bytes at the end of what is written
_ISSUE = np.dtype([("issued_at", "datetime64[ns]"), ("key", np.uint64)])
# What is read last stands last: SQLite walks through what stands before it.
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS shelf (specification TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS portions (number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE,"
    " month TEXT NOT NULL, issues BLOB NOT NULL, moments BLOB NOT NULL, quantiles BLOB NOT NULL)"
    " STRICT",
    "CREATE INDEX IF NOT EXISTS months ON portions (month)",
)


class Damaged(Exception):
    """Forecasts that are gone, or not as they were written; they can be computed again."""


class NotWritten(Exception):
    """What could not be kept; a run goes on with it in memory."""


@dataclass(frozen=True, eq=False, slots=True)
class Portion:
    """Forecasts that were computed together.

    issued_at, key: [n] instant of each, and the bits of what it has seen.
    place: year and number on its shelf; none of what lies in memory alone.
    held: moments [n, 2, H] and quantiles [n, H, Q] of that.
    """

    issued_at: Instants
    key: Keys
    place: tuple[int, int] | None
    held: Mapping[str, Array32] = field(default_factory=dict)


def located(portions: Sequence[Portion], issued_at: Instants, keys: Keys) -> tuple[Index, Index]:
    """In which portion forecasts [n] lie, -1 for none, and in which row of it; [n] each."""
    portion = np.full(len(keys), NOWHERE)
    row = np.zeros(len(keys), dtype=np.int64)
    if not portions or not len(keys):
        return portion, row
    held = np.concatenate([each.key for each in portions])
    issued = np.concatenate([each.issued_at for each in portions])
    counts = [len(each.key) for each in portions]
    held_portion = np.repeat(np.arange(len(portions)), counts)
    held_row = np.arange(len(held)) - np.repeat(np.cumsum([0, *counts[:-1]]), counts)
    # Keys are digests. Looked up in their own order they would go all over memory.
    order = np.argsort(held, kind="stable")
    rising = np.argsort(keys, kind="stable")
    at = np.minimum(np.searchsorted(held[order], keys[rising]), len(held) - 1)
    nearest = np.empty(len(keys), dtype=np.int64)
    nearest[rising] = order[at]
    # A key of 64 bits may meet another window's by chance: the instant is compared as well.
    hit = (held[nearest] == keys) & (issued[nearest] == issued_at)
    portion[hit] = held_portion[nearest[hit]]
    row[hit] = held_row[nearest[hit]]
    return portion, row


class Shelf:
    """The forecasts of one specification, for any thread.

    folder: of the shelf, named after the specification.
    specification: as JSON text with sorted keys.
    """

    def __init__(self, folder: Path, specification: str) -> None:
        self.folder = folder
        self.specification = specification
        self._lock = RLock()
        self._files: dict[int, sqlite3.Connection] = {}
        self._recent: OrderedDict[tuple[int, int, str], Array32] = OrderedDict()

    def __del__(self) -> None:
        for file in self._files.values():
            file.close()

    @classmethod
    def of(cls, cache: Path, specification: Mapping[str, Any]) -> Shelf:
        """The shelf for forecasts that depend on this specification and on their bars."""
        text = json.dumps(specification, sort_keys=True)
        return cls(cache / _address(text), text)

    def portions(self, issued_at: Instants) -> list[Portion]:
        """What was issued in the months of these instants."""
        found = []
        for month in np.unique(issued_at.astype("datetime64[M]")).astype(str).tolist():
            year = int(month[:4])
            query = "SELECT number, issues FROM portions WHERE month = ? ORDER BY number"
            for number, blob in self._asked(year, query, month):
                with suppress(Damaged):
                    issues = np.frombuffer(self._whole(year, number, blob), _ISSUE)
                    found.append(Portion(issues["issued_at"], issues["key"], (year, number)))
        return found

    def add(self, issued_at: Instants, keys: Keys, moments: Array32, quantiles: Array32) -> Portion:
        """Write forecasts [n, H, Q] issued in one month, and their log moments [n, 2, H].

        Raises
        ------
        NotWritten
            saying why.
        """
        issues = np.empty(len(keys), _ISSUE)
        issues["issued_at"], issues["key"] = issued_at, keys
        name = hashlib.blake2b(issues.tobytes(), digest_size=16).digest()
        month = str(issued_at[0].astype("datetime64[M]"))
        year = int(month[:4])
        blobs = map(_sealed, (issues, moments, quantiles))
        with self._lock:
            try:
                with self._begun(year) as file:
                    file.execute(
                        "INSERT OR IGNORE INTO portions (name, month, issues, moments, quantiles)"
                        " VALUES (?, ?, ?, ?, ?)",
                        (name, month, *blobs),
                    )
                    query = "SELECT number FROM portions WHERE name = ?"
                    [(number,)] = file.execute(query, (name,)).fetchall()
            except (sqlite3.Error, OSError) as error:
                why = getattr(error, "strerror", None) or error
                raise NotWritten(f"{self.folder} cannot be written: {why}") from error
        return Portion(issues["issued_at"], issues["key"], (year, number))

    def read(self, portion: Portion, part: str) -> Array32:
        """The moments [n, 2, H] or the quantiles [n, H, Q] of a portion.

        Raises
        ------
        Damaged
            for what is gone or not as it was written; it is removed.
        """
        if portion.place is None:
            return portion.held[part]
        year, number = portion.place
        with self._lock:
            values = self._recent.pop((year, number, part), None)
            if values is None:
                query = f"SELECT {part} FROM portions WHERE number = ?"
                found = self._asked(year, query, number)
                blob = self._whole(year, number, found[0][0] if found else b"")
                values = np.frombuffer(blob, np.float32).reshape(-1, *SHAPES[part])
            self._recent[year, number, part] = values
            while sum(each.nbytes for each in self._recent.values()) > IN_MEMORY:
                self._recent.popitem(last=False)
        return values

    def facts(self) -> dict[str, Any]:
        """Months, portions, forecasts and bytes of the shelf."""
        rows = []
        for year in self.years:
            rows += self._asked(year, "SELECT month, length(issues) FROM portions")
        return {
            "months": len({month for month, _ in rows}),
            "portions": len(rows),
            "forecasts": sum(length for _, length in rows) // _ISSUE.itemsize,
            "bytes": sum(path.stat().st_size for path in self.folder.glob(_YEARS)),
        }

    def mend(self) -> int:
        """Read everything, and remove what is not as it was written; returns how much that was."""
        gone = 0
        for year in self.years:
            query = "SELECT number FROM portions"
            numbers = [number for (number,) in self._asked(year, query)]
            for number in numbers:
                query = "SELECT issues, moments, quantiles FROM portions WHERE number = ?"
                for blobs in self._asked(year, query, number):
                    try:
                        for blob in blobs:
                            self._whole(year, number, blob)
                    except Damaged:
                        gone += 1
            gone += year not in self._files
        return gone

    @property
    def years(self) -> list[int]:
        """Those that it has files of."""
        return sorted(int(path.stem) for path in self.folder.glob(_YEARS))

    def touch(self) -> None:
        """Note that the shelf is used; one that cannot be written can still be read."""
        with suppress(OSError):
            os.utime(self.folder)

    def _asked(self, year: int, query: str, *values: object) -> list[Any]:
        """What a query finds; nothing where there is no file, or none that can be used."""
        with self._lock:
            try:
                if year not in self._files:
                    if not os.path.exists(self._path(year)):
                        return []
                    self._files[year] = self._opened(year, "rw")
                return self._files[year].execute(query, values).fetchall()
            except (sqlite3.DatabaseError, Damaged) as error:
                self._give_up(year, error)
                return []

    def _begun(self, year: int) -> sqlite3.Connection:
        """A year's file, which is begun where there is none that can be used."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._asked(year, "SELECT 1 FROM shelf")
        if year not in self._files:
            self._files[year] = self._opened(year, "rwc")
        return self._files[year]

    def _opened(self, year: int, mode: str) -> sqlite3.Connection:
        """A file of this shelf; mode: `rw`, or `rwc` where one is to be begun."""
        address = f"{self._path(year).absolute().as_uri()}?mode={mode}"
        file = sqlite3.connect(address, uri=True, timeout=_WAIT, check_same_thread=False)
        try:
            # What a power cut spoils is found by its checksum, and computed again.
            file.execute("PRAGMA synchronous = OFF")
            query = "SELECT specification FROM shelf"
            if mode == "rwc":
                with file:
                    file.execute("BEGIN IMMEDIATE")
                    for statement in _SCHEMA:
                        file.execute(statement)
                    if not file.execute(query).fetchall():
                        file.execute("INSERT INTO shelf VALUES (?)", (self.specification,))
            if file.execute(query).fetchall() != [(self.specification,)]:
                raise Damaged("it is of another specification, and answers nothing on this shelf")
        except BaseException:
            file.close()
            raise
        return file

    def _give_up(self, year: int, error: Exception) -> None:
        """Use a year's file no more, and remove one that is damaged, as far as that may be."""
        if year in self._files:
            self._files.pop(year).close()
        if isinstance(error, sqlite3.OperationalError):
            log.warning("%s: not read: %s", self._path(year), error)
            return
        log.warning("%s: damaged: %s; what it held is computed again", self._path(year), error)
        with suppress(OSError):
            self._path(year).unlink(missing_ok=True)

    def _whole(self, year: int, number: int, blob: bytes) -> memoryview:
        """What was written, without its checksum; what is not so is removed, as far as may be."""
        content = memoryview(blob)[:-_CHECKSUM]
        if len(blob) > _CHECKSUM and zlib.crc32(content).to_bytes(_CHECKSUM) == blob[-_CHECKSUM:]:
            return content
        log.warning("%s: damaged: portion %d; it is computed again", self._path(year), number)
        with suppress(sqlite3.Error, KeyError), self._files[year] as file:
            file.execute("DELETE FROM portions WHERE number = ?", (number,))
        raise Damaged

    def _path(self, year: int) -> Path:
        return self.folder / f"{year}.sqlite"


def shelves(cache: Path) -> Iterator[Shelf]:
    """Every shelf of a cache; the specification of one that no file says is empty."""
    for folder in sorted({path.parent for path in cache.glob(f"*/{_YEARS}")}):
        yield Shelf(folder, next(filter(None, map(_said, sorted(folder.glob(_YEARS)))), "{}"))


def _said(path: Path) -> str:
    """The specification of the shelf that a file lies on, as it says; empty where it does not."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as file:
        for (text,) in file.execute("SELECT specification FROM shelf"):
            return str(text) if _address(str(text)) == path.parent.name else ""
    return ""


def _address(specification: str) -> str:
    return hashlib.sha256(specification.encode()).hexdigest()[:16]


def _sealed(values: np.ndarray) -> bytes:
    content = np.ascontiguousarray(values).tobytes()
    return content + zlib.crc32(content).to_bytes(_CHECKSUM)
