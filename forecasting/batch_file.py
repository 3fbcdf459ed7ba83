"""Forecasts as a table in files: long or wide, in one file or in a file for each month.

long: a row a symbol, instant, step and level, with the columns symbol, issued_at, step, target_at
(when the symbol's own bar of that step became known; beyond its last by the calendar), level and
value (USD).
wide: a row a symbol, instant and step, with a column for each level instead: `0.01` … `0.99`.

A name that ends in .parquet, .csv or .csv.gz is a file; one without an ending is a folder, which
gets a Parquet file for each month of issue, written side by side; a run that is killed while they
get their names leaves a mark there, and the folder is not read until a batch has ended in it. Rows
lie by instant and symbol.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from forecasting.forecast import CHUNK, HORIZON, LEVELS, ForecastTable, Progress, silent
from forecasting.from_file import ENDINGS, FORECASTER, LEVEL_NAMES, MONTHS, UNFINISHED
from foundation.arrays import Array, Array32, Index, Instants
from foundation.errors import InputError
from foundation.files import (
    check_file,
    check_output,
    flush_to_disk,
    put_whole,
    remove_unfinished,
    staged_file,
)
from trainingdata.bars import Bars
from trainingdata.sessions import following_bar_ends

if TYPE_CHECKING:
    import pyarrow as pa

Shape = Literal["long", "wide"]
MOST_WORKERS = 16  # threads that make and encode tables


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """The forecasts of a run.

    bars: they were made from.
    table: the forecasts.
    rows: numbers of those issued within the span, by instant and symbol.
    """

    bars: Bars
    table: ForecastTable
    rows: Index


def is_folder(output: Path) -> bool:
    """Whether an output is a folder with a file for each month.

    Raises
    ------
    InputError
        for an ending that is none of those of files.
    """
    if output.name.endswith(ENDINGS):
        return False
    if output.suffix or not output.name:
        raise InputError(
            f"output: {output} ends in none of {', '.join(ENDINGS)}; a name without an ending is a"
            " folder with a file for each month"
        )
    return True


def check_batch_output(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that cannot be written, or that holds what is no batch's.

    Raises
    ------
    InputError
        naming what is in the way.
    """
    if is_folder(output):
        check_output(output, MONTHS, overwrite=overwrite)
    else:
        check_file(output, "output", is_batch, overwrite=overwrite)


def write_batch(
    batch: Batch, output: Path, progress: Progress = silent, shape: Shape = "long"
) -> None:
    """Write the rows of a batch, each file under another name until all are whole.

    Raises
    ------
    InputError
        where it cannot be written.
    """
    try:
        if is_folder(output):
            _write_months(_Rows.of(batch, shape), output, progress)
        else:
            _write_file(_Rows.of(batch, shape), output, progress)
    except OSError as error:
        raise InputError(
            f"output: {output} cannot be written: {error.strerror or error}"
        ) from error


def is_batch(path: Path) -> bool:
    """Whether a file was written as the one of a batch."""
    import pandas as pd
    from pyarrow import ArrowException, parquet

    try:
        if path.suffix == ".parquet":
            found: dict[bytes, bytes] = parquet.read_metadata(path).metadata or {}
            return bool(FORECASTER.encode() in found)
        columns = list(pd.read_csv(path, nrows=0).columns)
        return columns in (_schema("long").names, _schema("wide").names)
    except (OSError, ValueError, ArrowException):
        return False


def _write_file(made: _Rows, output: Path, progress: Progress) -> None:
    total = len(made.batch.rows)
    remove_unfinished(output)
    done = 0
    with (
        staged_file(output) as part,
        _writer(part, output.name, made.schema) as write,
        ThreadPoolExecutor(_workers()) as pool,
    ):
        # Tables are made ahead of the one that is written; those that wait are in memory.
        waiting: deque[tuple[int, Future[pa.Table]]] = deque()
        for rows in _portions(made.batch.rows):
            waiting.append((len(rows), pool.submit(made.table, rows)))
            while len(waiting) > _workers():
                done = _write_next(waiting, write, done)
                progress("forecasts written", done, total)
        while waiting:
            done = _write_next(waiting, write, done)
            progress("forecasts written", done, total)


def _write_next(
    waiting: deque[tuple[int, Future[pa.Table]]], write: Callable[[pa.Table], object], done: int
) -> int:
    """Write the table that waits longest; how many forecasts are written then."""
    count, table = waiting.popleft()
    write(table.result())
    return done + count


def _write_months(made: _Rows, output: Path, progress: Progress) -> None:
    batch = made.batch
    issued = batch.table.windows.issued_at[batch.rows].astype("datetime64[M]")
    months, begin = np.unique(issued, return_index=True)
    rows_of = {
        f"{month}.parquet": rows
        for month, rows in zip(months, np.split(batch.rows, begin[1:]), strict=True)
    }
    for name in rows_of:
        if (output / name).is_dir():
            raise InputError(f"output: {output} cannot be written: {name} is a folder")
    written: SimpleQueue[int] = SimpleQueue()  # forecasts; 0 where a month has ended

    def write_month(path: Path, rows: Index) -> None:
        try:
            with _parquet_writer(path, made.schema) as write:
                for portion in _portions(rows):
                    write(made.table(portion))
                    written.put(len(portion))
        finally:
            written.put(0)

    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as staged, ThreadPoolExecutor(_workers()) as pool:
        files = []
        for name, rows in rows_of.items():
            remove_unfinished(output / name)
            part = staged.enter_context(staged_file(output / name))
            files.append(pool.submit(write_month, part, rows))
        done = 0
        ended = 0
        while ended < len(files):
            count = written.get()
            done += count
            ended += not count
            progress("forecasts written", done, len(batch.rows))
        for file in files:
            file.result()
        # The months get their names one by one: killed among them, the folder says so.
        put_whole(output / UNFINISHED, b"")
    # What an earlier run wrote of other months would pass for this one's.
    for old in output.glob(MONTHS):
        if old.name not in rows_of:
            old.unlink()
    flush_to_disk(output)
    (output / UNFINISHED).unlink(missing_ok=True)


def _workers() -> int:
    return min(os.cpu_count() or 1, MOST_WORKERS)


@contextmanager
def _writer(part: Path, name: str, schema: pa.Schema) -> Iterator[Callable[[pa.Table], object]]:
    """What writes tables to a file, in the format that its name asks for."""
    import pyarrow as pa
    from pyarrow import csv

    if name.endswith(".parquet"):
        with _parquet_writer(part, schema) as write:
            yield write
        return
    plain = schema.set(0, pa.field("symbol", pa.string()))
    compression = "gzip" if name.endswith(".gz") else None
    options = csv.WriteOptions(quoting_style="needed")
    with (
        pa.output_stream(str(part), compression=compression) as stream,
        csv.CSVWriter(stream, plain, write_options=options) as writer,
    ):
        yield lambda table: writer.write_table(table.cast(plain))


@contextmanager
def _parquet_writer(part: Path, schema: pa.Schema) -> Iterator[Callable[[pa.Table], object]]:
    import pyarrow as pa
    from pyarrow import parquet

    # Steps and levels repeat within the reach of the compression: to look each one up in a
    # dictionary takes longer. Every group of rows holds every symbol.
    with parquet.ParquetWriter(
        part,
        schema,
        compression="lz4",
        use_dictionary=["symbol", "issued_at", "target_at"],
        use_byte_stream_split=[field.name for field in schema if field.type == pa.float32()],
        write_statistics=["issued_at"],
    ) as writer:
        yield writer.write_table


def _portions(rows: Index) -> Iterator[Index]:
    for first in range(0, len(rows), CHUNK):
        yield rows[first : first + CHUNK]


def _schema(shape: Shape) -> pa.Schema:
    import pyarrow as pa

    instant = pa.timestamp("ns", tz="UTC")
    numbers = {
        "long": [("level", pa.float64()), ("value", pa.float32())],
        "wide": [(name, pa.float32()) for name in LEVEL_NAMES],
    }
    return pa.schema(
        [
            ("symbol", pa.dictionary(pa.int32(), pa.string())),
            ("issued_at", instant),
            ("step", pa.int8()),
            ("target_at", instant),
            *numbers[shape],
        ]
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Rows:
    """How the forecasts of a batch become rows.

    batch: the forecasts.
    shape: of the rows.
    schema: of the tables.
    ends: [S] when each of a symbol's own bars became known, and by the calendar the next 24.
    """

    batch: Batch
    shape: Shape
    schema: pa.Schema
    ends: tuple[Instants, ...]

    @classmethod
    def of(cls, batch: Batch, shape: Shape) -> _Rows:
        schema = _schema(shape).with_metadata({FORECASTER: batch.table.name})
        ends = []
        for s, item in enumerate(batch.bars.instruments):
            own = batch.bars.real_bars(s)[0]
            ends.append(
                np.concatenate([own, following_bar_ends(item.kind, own[-1:], HORIZON).ravel()])
            )
        return cls(batch, shape, schema, tuple(ends))

    def table(self, rows: Index) -> pa.Table:
        """These forecasts in rows; a step without a forecast has none."""
        import pyarrow as pa

        windows = self.batch.table.windows
        symbol = windows.symbol[rows]
        # A step is a symbol's own next bar, whatever bars of the calendar it lacks.
        target = np.empty((len(rows), HORIZON), dtype="datetime64[ns]")
        steps = windows.last[rows, None] + np.arange(1, HORIZON + 1)
        for s in np.unique(symbol).tolist():
            target[symbol == s] = self.ends[s][steps[symbol == s]]
        values = self.batch.table.quantiles[rows]
        each = len(LEVELS) if self.shape == "long" else 1
        size = HORIZON * each
        columns: dict[str, Any] = {
            "symbol": np.repeat(symbol.astype(np.int32), size),
            "issued_at": np.repeat(windows.issued_at[rows], size),
            "step": _steps(len(rows), each),
            "target_at": np.repeat(target.ravel(), each),
            **(_long(values) if self.shape == "long" else _wide(values)),
        }
        there = np.repeat(np.isfinite(values[..., 0]).ravel(), each)
        if not there.all():
            columns = {name: column[there] for name, column in columns.items()}
        arrays = {
            name: pa.array(column, type=self.schema.field(name).type)
            for name, column in columns.items()
            if name != "symbol"
        }
        names = pa.array(list(self.batch.bars.symbols))
        symbols = pa.DictionaryArray.from_arrays(columns["symbol"], names)
        return pa.table({"symbol": symbols, **arrays}, schema=self.schema)


def _long(values: Array32) -> dict[str, Any]:
    return {"level": _levels(len(values)), "value": values.reshape(-1)}


def _wide(values: Array32) -> dict[str, Any]:
    by_level = np.ascontiguousarray(values.reshape(-1, len(LEVELS)).T)
    return dict(zip(LEVEL_NAMES, by_level, strict=True))


@lru_cache(maxsize=2)
def _levels(count: int) -> Array:
    """The levels of so many forecasts; those of a full portion are made once."""
    return np.tile(LEVELS, count * HORIZON)


@lru_cache(maxsize=2)
def _steps(count: int, each: int) -> Array:
    """The steps of so many forecasts, each so many times."""
    return np.tile(np.repeat(np.arange(1, HORIZON + 1, dtype=np.int8), each), count)
