"""Forecasts that are computed once, ever: Parquet files addressed by what the forecasts depend on.

    python -m forecasting.cache list | verify | prune [--folder DIR] [--unused-days N]

    FOLDER/<digest of the specification>/specification.json
    FOLDER/<digest of the specification>/<month of issue>/<digest of the content>.parquet

A row is one forecast: symbol, issued_at, key (64 bits of the bars it saw) and its values, 24 steps of 21 levels. A file is
written whole under another name, then renamed; its name is the digest of its rows, so two processes that compute the same
write the same file. Nothing is ever changed in place; `prune` joins the small files that hourly runs leave behind.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from forecasting.forecast import HORIZON, LEVELS
from forecasting.windows import Index, Keys
from trainingdata.command import Parser, fail
from trainingdata.errors import DataError, InputError
from trainingdata.sessions import Instants

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

Array32 = npt.NDArray[np.float32]

DEFAULT = Path("~/.cache/kelly-chronos/forecasts")
SIZE = HORIZON * len(LEVELS)
KEPT = 512 * 2**20  # bytes of values a reader keeps in memory
NOWHERE = -1
SMALL = 2**20  # bytes of a file whose index is kept in memory
UNFINISHED = 3600  # seconds after which a file still being written is taken for a killed run's


@dataclass(frozen=True, slots=True)
class Shelf:
    """The files of one specification. Reading a shelf that does not exist finds nothing."""

    folder: Path

    @classmethod
    def of(cls, cache: Path, specification: Mapping[str, Any]) -> Shelf:
        """The shelf for forecasts that depend on this specification and on their bars."""
        text = json.dumps(specification, sort_keys=True)
        return cls(cache / hashlib.sha256(text.encode()).hexdigest()[:16])

    def open(self, specification: Mapping[str, Any]) -> None:
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
                _whole(note, (json.dumps(specification, sort_keys=True, indent=1) + "\n").encode())
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
        path = self.folder / month / f"{_digest(issued_at, keys, values)}.parquet"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _whole(path, _parquet(symbols, issued_at, keys, values))
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
        values = read_values(path)
        while self.kept and sum(v.nbytes for v in self.kept.values()) + values.nbytes > KEPT:
            self.kept.popitem(last=False)
        self.kept[path] = values
        return values


def read_values(path: Path) -> Array32:
    """Quantiles [n, H, Q] of a file.

    Raises
    ------
    DataError
        for a file that is gone or damaged, and what to do about it.
    """
    return _quantiles(_read(path, ["values"]))


def intact(path: Path) -> bool:
    """Whether a file can be read and its rows are those its name says."""
    try:
        table = _read(path, ["issued_at", "key", "values"])
    except DataError:
        return False
    return _digest(_stamps(table), _keys(table), _quantiles(table)) == path.stem


def shelves(cache: Path) -> Iterator[tuple[Shelf, dict[str, Any]]]:
    """Every shelf of a cache and its specification; an empty one where that cannot be read."""
    for note in sorted(cache.glob("*/specification.json")):
        try:
            specification: dict[str, Any] = json.loads(note.read_text())
        except (OSError, ValueError):
            specification = {}
        yield Shelf(note.parent), specification


def join(shelf: Shelf, files: list[Path]) -> int:
    """Write intact files of one month as one, each forecast once, and remove them; how many went."""
    from pyarrow import concat_tables

    if len(files) < 2:
        return 0
    table = concat_tables([_read(f, ["symbol", "issued_at", "key", "values"]) for f in files])
    issued, keys, values = _stamps(table), _keys(table), _quantiles(table)
    _, first = np.unique(keys, return_index=True)
    symbols = np.asarray(table.column("symbol").to_pylist(), dtype=np.str_)
    order = first[np.lexsort((symbols[first], issued[first]))]
    joined = shelf.add(symbols[order], issued[order], keys[order], values[order])
    for gone in files:
        if gone != joined:
            gone.unlink(missing_ok=True)
    return len(files)


def _digest(issued_at: Instants, keys: Keys, values: Array32) -> str:
    total = hashlib.blake2b(digest_size=16)
    for part in (issued_at.astype("datetime64[ns]"), keys, values):
        total.update(np.ascontiguousarray(part).tobytes())
    return total.hexdigest()


def _parquet(symbols: npt.NDArray[np.str_], issued_at: Instants, keys: Keys, values: Array32) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    stamps = pa.array(issued_at.astype("datetime64[ns]"), type=pa.timestamp("ns", tz="UTC"))
    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), SIZE)
    names = pa.array(symbols.tolist(), type=pa.string()).dictionary_encode()
    table = pa.table({"symbol": names, "issued_at": stamps, "key": pa.array(keys), "values": lists})
    sink = pa.BufferOutputStream()
    parquet.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=["symbol"],
        use_byte_stream_split=["values.list.element"],
        write_statistics=False,
        write_page_checksum=True,
    )
    return bytes(sink.getvalue())


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
    """(issued_at, keys) of a file; None for one that is damaged: its forecasts are computed again over it."""
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
    table = _read(path, ["issued_at", "key"])
    return _stamps(table), _keys(table)


def _stamps(table: pa.Table) -> Instants:
    return np.asarray(_column(table, "issued_at").cast("int64").to_numpy().view("datetime64[ns]"))


def _keys(table: pa.Table) -> Keys:
    return np.asarray(_column(table, "key").to_numpy())


def _quantiles(table: pa.Table) -> Array32:
    values = _column(table, "values").flatten().to_numpy()
    return np.asarray(values, dtype=np.float32).reshape(-1, HORIZON, len(LEVELS))


def _column(table: pa.Table, name: str) -> Any:
    return table.column(name).combine_chunks()


def _read(path: Path, columns: list[str]) -> pa.Table:
    from pyarrow import ArrowException, parquet

    try:
        return parquet.ParquetFile(path, page_checksum_verification=True).read(columns=columns)
    except FileNotFoundError:
        raise DataError(f"{path}: went away while it was being used (prune?); run again") from None
    except (OSError, ValueError, KeyError, ArrowException) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: damaged: {reason}; `python -m forecasting.cache prune` removes it") from error


def listed(cache: Path) -> Iterator[dict[str, Any]]:
    """A row a shelf: what its forecasts depend on, months, files, forecasts, bytes, last use."""
    from pyarrow import ArrowException, parquet

    for shelf, specification in shelves(cache):
        files, rows = shelf.files(), 0
        for path in files:
            try:
                rows += parquet.read_metadata(path).num_rows
            except (OSError, ArrowException):
                log.warning("%s: cannot be read", path)
        used = datetime.fromtimestamp((shelf.folder / "specification.json").stat().st_mtime, UTC)
        yield {
            "shelf": shelf.folder.name,
            "weights": str(specification.get("weights", "?"))[:12],
            **{k: specification.get(k, "?") for k in ("context_length", "dtype", "augmentation", "group")},
            "months": len({f.parent for f in files}),
            "files": len(files),
            "forecasts": rows,
            "bytes": sum(f.stat().st_size for f in files),
            "used": used,
        }


def prune(cache: Path, unused_days: float | None = None) -> dict[str, int]:
    """Remove shelves not used for so many days, damaged files and what killed runs left; join each month's files.

    How many of each: shelves, damaged, unfinished, joined.
    """
    done = {"shelves": 0, "damaged": 0, "unfinished": 0, "joined": 0}
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
                if intact(path):
                    whole.append(path)
                else:
                    path.unlink(missing_ok=True)
                    done["damaged"] += 1
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
    console = Console(width=None if sys.stdout.isatty() else 160)
    if words.command == "list":
        table = Table(*(k for k in ("shelf", "weights", "context", "dtype", "augmentation", "group")), "months", "files")
        for name in ("forecasts", "MB", "used"):
            table.add_column(name)
        for row in listed(folder):
            *texts, size, used = row.values()
            table.add_row(
                *(f"{t:,}" if isinstance(t, int) else str(t) for t in texts), f"{size / 1e6:,.1f}", f"{used:%Y-%m-%d %H:%M}"
            )
        console.print(table)
    elif words.command == "verify":
        files = [f for shelf, _ in shelves(folder) for f in shelf.files()]
        damaged = [f for f in files if not intact(f)]
        for path in damaged:
            console.print(f"damaged: {path}", highlight=False, soft_wrap=True)
        console.print(f"{len(files)} files, {len(damaged)} damaged" + ("; prune removes them" if damaged else ""))
        sys.exit(1 if damaged else 0)
    else:
        done = prune(folder, words.unused_days)
        console.print(", ".join(f"{count} {what}" for what, count in done.items()), highlight=False)


if __name__ == "__main__":
    main()
