"""Forecasts that are computed once, ever: Parquet files addressed by what the forecasts depend on.

    python -m forecasting.cache list | verify | prune [--folder DIR] [--unused-days N]

    FOLDER/<digest of the specification>/specification.json
    FOLDER/<digest of the specification>/<month of issue>/<digest of the content>.parquet

A row is one forecast: symbol, issued_at, key (64 bits of the bars it saw) and its values, 24 steps of 21 levels. A file is
written whole under another name, then renamed; its name is the digest of its rows and of the specification it carries, so two
processes that compute the same write the same file, and one that is copied to another shelf is refused there. Nothing is ever
changed in place; `prune` joins the small files that hourly runs leave behind.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from forecasting import forecast_file
from forecasting.forecast import HORIZON, LEVELS
from forecasting.windows import Index, Keys
from trainingdata.command import Parser, fail
from trainingdata.errors import DataError, InputError
from trainingdata.sessions import Instants

log = logging.getLogger(__name__)

Array32 = npt.NDArray[np.float32]

DEFAULT = Path("~/.cache/kelly-chronos/forecasts")
KEPT = 512 * 2**20  # bytes of values a reader keeps in memory
NOWHERE = -1
SMALL = 2**20  # bytes of a file whose index is kept in memory
UNFINISHED = 3600  # seconds after which a file still being written is taken for a killed run's


@dataclass(frozen=True, slots=True)
class Shelf:
    """The files of one specification, given as text. Reading a shelf that does not exist finds nothing."""

    folder: Path
    specification: str

    @classmethod
    def of(cls, cache: Path, specification: Mapping[str, Any]) -> Shelf:
        """The shelf for forecasts that depend on this specification and on their bars."""
        text = json.dumps(specification, sort_keys=True)
        return cls(cache / forecast_file.address(text), text)

    def open(self) -> None:
        """Make the folder and say in it what lies there.

        Raises
        ------
        InputError
            where it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            note = self.folder / "specification.json"
            if note.exists():
                note.touch()
            else:
                about = json.dumps(json.loads(self.specification), sort_keys=True, indent=1)
                _whole(note, f"{about}\n".encode())
        except OSError as error:
            raise InputError(f"forecaster.cache: {self.folder} cannot be written: {error.strerror}") from error

    def files(self, month: str = "*") -> list[Path]:
        """The shelf's files, by month and name."""
        return sorted(self.folder.glob(f"{month}/*.parquet"))

    def find(self, issued_at: Instants, keys: Keys) -> Found:
        """Where the forecasts issued then with these keys [n] lie, as far as they are there."""
        files = [f for month in np.unique(issued_at.astype("datetime64[M]")) for f in self.files(str(month))]
        indexed = [(f, part) for f in files if (part := _index(f)) is not None]
        file, place = np.full(len(keys), NOWHERE), np.zeros(len(keys), dtype=np.int64)
        if indexed:
            held = np.concatenate([key for _, (_, key) in indexed])
            issued = np.concatenate([at for _, (at, _) in indexed])
            counts = [len(key) for _, (_, key) in indexed]
            owner = np.repeat(np.arange(len(indexed)), counts)
            row = np.arange(len(held)) - np.repeat(np.cumsum([0, *counts[:-1]]), counts)
            order = np.argsort(held, kind="stable")
            at = np.minimum(np.searchsorted(held, keys, sorter=order), len(held) - 1)
            chosen = order[at]
            hit = (held[chosen] == keys) & (issued[chosen] == issued_at)
            file[hit], place[hit] = owner[chosen[hit]], row[chosen[hit]]
        return Found(tuple(f for f, _ in indexed), file, place)

    def add(self, symbols: npt.NDArray[np.str_], issued_at: Instants, keys: Keys, values: Array32) -> Path:
        """Write one file of forecasts [n, H, Q] issued in one month; whole or not at all."""
        month = str(issued_at[0].astype("datetime64[M]"))
        name = forecast_file.digest(self.specification, issued_at, keys, values)
        path = self.folder / month / f"{name}.parquet"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _whole(path, forecast_file.encoded(self.specification, symbols, issued_at, keys, values))
        except OSError as error:
            raise InputError(f"forecaster.cache: {path} cannot be written: {error.strerror}") from error
        return path


@dataclass(frozen=True, eq=False, slots=True)
class Found:
    """files: that hold something. file [n]: which of them holds each forecast, -1 for none. place [n]: its row there."""

    files: tuple[Path, ...]
    file: Index
    place: Index

    @property
    def missing(self) -> Index:
        """Numbers of the forecasts that are not there."""
        return np.flatnonzero(self.file == NOWHERE)


@dataclass(frozen=True, eq=False, slots=True)
class Reader:
    """Reads values from files, keeping the last ones in memory."""

    kept: OrderedDict[Path, Array32] = field(default_factory=OrderedDict)

    def values(self, found: Found, rows: Index) -> Array32:
        """Quantiles [n, H, Q] of these rows, all of which must be there."""
        file, place = found.file[rows], found.place[rows]
        if len(rows) and (file == file[0]).all():
            return self._file(found.files[file[0]])[place]
        out = np.empty((len(rows), HORIZON, len(LEVELS)), dtype=np.float32)
        for number in np.unique(file):
            mine = file == number
            out[mine] = self._file(found.files[number])[place[mine]]
        return out

    def _file(self, path: Path) -> Array32:
        if path in self.kept:
            self.kept.move_to_end(path)
            return self.kept[path]
        values = forecast_file.read_values(path)
        while self.kept and sum(v.nbytes for v in self.kept.values()) + values.nbytes > KEPT:
            self.kept.popitem(last=False)
        self.kept[path] = values
        return values


def shelves(cache: Path) -> Iterator[tuple[Shelf, dict[str, Any]]]:
    """Every shelf of a cache and its specification; an empty one where that cannot be read."""
    for note in sorted(cache.glob("*/specification.json")):
        try:
            specification: dict[str, Any] = json.loads(note.read_text())
        except (OSError, ValueError):
            specification = {}
        yield Shelf(note.parent, json.dumps(specification, sort_keys=True)), specification


def join(shelf: Shelf, files: list[Path]) -> int:
    """Write intact files of one month as one, each forecast once, and remove them; how many went."""
    from pyarrow import concat_tables

    if len(files) < 2:
        return 0
    table = concat_tables([forecast_file.read(f, ["symbol", "issued_at", "key", "values"]) for f in files])
    issued, keys, values = forecast_file.issues(table), forecast_file.keys(table), forecast_file.quantiles(table)
    _, first = np.unique(keys, return_index=True)
    symbols = np.asarray(table.column("symbol").to_pylist(), dtype=np.str_)
    order = first[np.lexsort((symbols[first], issued[first]))]
    # the specification as the files have it, whatever has become of the note beside them
    own = replace(shelf, specification=forecast_file.specification_of(table))
    joined = own.add(symbols[order], issued[order], keys[order], values[order])
    for gone in files:
        if gone != joined:
            gone.unlink(missing_ok=True)
    return len(files)


def _whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, on disk before it has its name."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _index(path: Path) -> tuple[Instants, Keys] | None:
    """(issued_at, keys) of a file; None for one that is damaged or belongs elsewhere: its forecasts are computed again."""
    try:
        state = path.stat()
        if state.st_size <= SMALL:
            return _small_index(path, state.st_mtime_ns, state.st_size)
        return _stored_index(path)
    except FileNotFoundError:
        log.warning("%s: went away while it was being used", path)
    except DataError as error:
        log.warning("%s", error)
    return None


@lru_cache(maxsize=2048)
def _small_index(path: Path, changed: int, size: int) -> tuple[Instants, Keys]:
    """Who forecasts every hour leaves many small files, and asks for all of them every hour."""
    return _stored_index(path)


def _stored_index(path: Path) -> tuple[Instants, Keys]:
    table = forecast_file.read(path, ["issued_at", "key"])
    return forecast_file.issues(table), forecast_file.keys(table)


def listed(cache: Path) -> Iterator[dict[str, Any]]:
    """A row a shelf: what its forecasts depend on, months, files, forecasts, bytes, last use."""
    for shelf, specification in shelves(cache):
        files, rows = shelf.files(), 0
        for path in files:
            try:
                rows += forecast_file.count(path)
            except DataError as error:
                log.warning("%s", error)
        used = datetime.fromtimestamp((shelf.folder / "specification.json").stat().st_mtime, UTC)
        yield {
            "shelf": shelf.folder.name,
            "weights": str(specification.get("weights", "?"))[:12],
            **{k: specification.get(k, "?") for k in ("implementation", "context_length", "dtype", "augmentation", "group")},
            "computed": specification.get("computed", ""),
            "months": len({f.parent for f in files}),
            "files": len(files),
            "forecasts": rows,
            "bytes": sum(f.stat().st_size for f in files),
            "used": used,
        }


def prune(cache: Path, unused_days: float | None = None) -> dict[str, int]:
    """Remove shelves not used for so many days, damaged and misplaced files and what killed runs left; join each month's files.

    How many of each: shelves, damaged, misplaced, unfinished, joined.
    """
    done = {"shelves": 0, "damaged": 0, "misplaced": 0, "unfinished": 0, "joined": 0}
    now = time.time()
    for shelf, _ in list(shelves(cache)):
        if unused_days is not None and now - (shelf.folder / "specification.json").stat().st_mtime > unused_days * 86_400:
            shutil.rmtree(shelf.folder)
            done["shelves"] += 1
            continue
        for part in shelf.folder.rglob(".*.part"):
            if now - part.stat().st_mtime > UNFINISHED:
                part.unlink(missing_ok=True)
                done["unfinished"] += 1
        for _, month in groupby(shelf.files(), key=lambda path: path.parent):
            whole = []
            for path in month:
                fault = forecast_file.fault(path)
                if fault is None:
                    whole.append(path)
                else:
                    path.unlink(missing_ok=True)
                    done[fault] += 1
            done["joined"] += join(shelf, whole)
    return done


def main() -> None:
    """Command line: list, verify, prune."""
    from rich.console import Console
    from rich.table import Table

    from trainingdata.composition import composed

    parser = Parser(prog="python -m forecasting.cache", description="The cache of forecasts.")
    parser.add_argument("command", choices=("list", "verify", "prune"))
    kept = Path(composed("batch", []).forecaster.cache)
    parser.add_argument("--folder", type=Path, default=kept, help="default: the configured one, %(default)s")
    parser.add_argument("--unused-days", type=float, help="prune: also remove what no run has used for so many days")
    words = parser.parse_args()
    folder = words.folder.expanduser()
    if words.unused_days is not None and words.unused_days < 0:
        fail(InputError(f"--unused-days: {words.unused_days} is below 0"))
    if not folder.is_dir():
        fail(InputError(f"--folder: {folder} is no folder; nothing is kept there"))
    console = Console(width=None if sys.stdout.isatty() else 200)
    if words.command == "list":
        about = ("shelf", "weights", "version", "context", "dtype", "augmentation", "group", "computed")
        table = Table(*about, "months", "files", "forecasts", "MB", "used")
        for row in listed(folder):
            *texts, size, used = row.values()
            table.add_row(
                *(f"{t:,}" if isinstance(t, int) else str(t) for t in texts), f"{size / 1e6:,.1f}", f"{used:%Y-%m-%d %H:%M}"
            )
        console.print(table)
    elif words.command == "verify":
        files = [f for shelf, _ in shelves(folder) for f in shelf.files()]
        faults = [(fault, f) for f in files if (fault := forecast_file.fault(f)) is not None]
        for fault, path in faults:
            console.print(f"{fault}: {path}", highlight=False, soft_wrap=True)
        counts = [f"{sum(fault == what for fault, _ in faults)} {what}" for what in ("damaged", "misplaced")]
        console.print(f"{len(files)} files, {', '.join(counts)}" + ("; prune removes them" if faults else ""))
        sys.exit(1 if faults else 0)
    else:
        done = prune(folder, words.unused_days)
        console.print(", ".join(f"{count} {what}" for what, count in done.items()), highlight=False)


if __name__ == "__main__":
    main()
