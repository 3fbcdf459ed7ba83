"""Forecasts as a table in Parquet: long or wide, in one file or in a file for each month.

`forecasting.batch` says which columns each has; beyond a symbol's last bar `target_at` is the
calendar's. A name that ends in .parquet is a file; one without an ending is a folder, which gets a
file for each month of issue, written side by side; a run that is killed while they get their names
leaves a mark there, and the folder is not read until a batch has ended in it. Rows lie by instant
and symbol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from forecasting.forecast import CHUNK, HORIZON, LEVELS, ForecastTable, Progress, silent
from forecasting.from_file import ENDING, FORECASTER, LEVEL_NAMES, MONTHS, UNFINISHED
from forecasting.windows import Windows
from foundation.arrays import Index, Instants, Mask
from foundation.errors import InputError
from foundation.files import (
    check_file,
    check_output,
    flush_to_disk,
    put_whole,
    remove_unfinished,
    staged_file,
)
from foundation.threads import side_by_side
from trainingdata.bars import Bars
from trainingdata.timeframe import following_ends

if TYPE_CHECKING:
    import pyarrow as pa

Shape = Literal["long", "wide"]
_Issued = tuple[ForecastTable, Index]  # a table, and numbers of forecasts in it


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """The forecasts of a run.

    bars: they were made from.
    name: of the forecaster.
    first, last: instants of the span.
    windows: of the forecasts, and of those before the span that were made beside them.
    tables: that hold them: one, or one for each month.
    """

    bars: Bars
    name: str
    first: np.datetime64
    last: np.datetime64
    windows: Windows
    tables: Iterable[ForecastTable]

    @property
    def issued(self) -> Index:
        return np.flatnonzero(self._within(self.windows.issued_at))

    def months(self) -> Iterator[_Issued]:
        """The forecasts of each month that are issued within the span, by instant and symbol."""
        for table in self.tables:
            windows = table.windows
            for month in windows.by_month():
                rows = month[self._within(windows.issued_at[month])]
                if len(rows):
                    order = np.lexsort((windows.symbol[rows], windows.issued_at[rows]))
                    yield table, rows[order]

    def _within(self, issued_at: Instants) -> Mask:
        return (issued_at >= self.first) & (issued_at <= self.last)


def is_folder(output: Path) -> bool:
    """Whether an output is a folder with a file for each month."""
    if output.name.endswith(ENDING):
        return False
    if output.suffix or not output.name:
        raise InputError(
            f"output: {output} does not end in {ENDING}; a name without an ending is a folder with"
            " a file for each month"
        )
    return True


def check_batch_output(output: Path, *, overwrite: bool) -> None:
    """Refuse an output that cannot be written, or that holds what is no batch's."""
    if is_folder(output):
        check_output(output, MONTHS, overwrite=overwrite)
    else:
        check_file(output, "output", is_batch, overwrite=overwrite)


def is_batch(path: Path) -> bool:
    """Whether a file was written as the one of a batch."""
    from pyarrow import ArrowException, parquet

    try:
        return FORECASTER.encode() in (parquet.read_metadata(path).metadata or {})
    except (OSError, ArrowException):
        return False


def write_batch(
    batch: Batch, output: Path, progress: Progress = silent, shape: Shape = "long"
) -> None:
    """Write the rows of a batch, each file under another name until all are whole."""
    made = _Rows.of(batch, shape)
    try:
        if is_folder(output):
            _write_months(made, output, progress)
            return
        remove_unfinished(output)
        with staged_file(output) as part:
            made.write(part, batch.months(), side_by_side, progress)
    except OSError as error:
        raise InputError(
            f"output: {output} cannot be written: {error.strerror or error}"
        ) from error


def _write_months(made: _Rows, output: Path, progress: Progress) -> None:
    output.mkdir(parents=True, exist_ok=True)
    total = len(made.batch.issued)
    written = []

    def files() -> Iterator[tuple[Path, _Issued]]:
        for table, rows in made.batch.months():
            month = table.windows.issued_at[rows[0]].astype("datetime64[M]")
            path = output / f"{month}.parquet"
            if path.is_dir():
                raise InputError(f"output: {output} cannot be written: {path.name} is a folder")
            remove_unfinished(path)
            written.append(path)
            yield staged.enter_context(staged_file(path)), (table, rows)

    def write(file: tuple[Path, _Issued]) -> int:
        place, month = file
        made.write(place, [month])
        return len(month[1])

    done = 0
    with ExitStack() as staged, closing(side_by_side(write, files())) as counts:
        for count in counts:
            done += count
            progress("forecasts written", done, total)
        # The months get their names one by one: killed among them, the folder says so.
        put_whole(output / UNFINISHED, b"")
    # What an earlier run wrote of other months would pass for this one's.
    for old in {*output.glob(MONTHS)}.difference(written):
        old.unlink()
    flush_to_disk(output)
    (output / UNFINISHED).unlink(missing_ok=True)


def _portions(months: Iterable[_Issued]) -> Iterator[list[_Issued]]:
    """`CHUNK` forecasts at a time, from one table or several."""
    portion: list[_Issued] = []
    lacking = CHUNK
    for table, rows in months:
        first = 0
        while first < len(rows):
            taken = rows[first : first + lacking]
            portion.append((table, taken))
            first += len(taken)
            lacking -= len(taken)
            if not lacking:
                yield portion
                portion, lacking = [], CHUNK
    if portion:
        yield portion


@dataclass(frozen=True, eq=False, slots=True)
class _Rows:
    """How the forecasts of a batch become rows.

    batch: the forecasts.
    each: rows a step: one a level, or one for all of them.
    schema: of the tables.
    ends: when each symbol's own bars became known, and by the calendar the next 24, one after the
        other.
    begin: [S] where each symbol's lie.
    """

    batch: Batch
    each: int
    schema: pa.Schema
    ends: Instants
    begin: Index

    @classmethod
    def of(cls, batch: Batch, shape: Shape) -> _Rows:
        import pyarrow as pa

        instant = pa.timestamp("ns", tz="UTC")
        fields = {
            "symbol": pa.dictionary(pa.int32(), pa.string()),
            "issued_at": instant,
            "step": pa.int8(),
            "target_at": instant,
        }
        if shape == "long":
            fields |= {"level": pa.float64(), "value": pa.float32()}
        else:
            fields |= dict.fromkeys(LEVEL_NAMES, pa.float32())
        ends = []
        for s, item in enumerate(batch.bars.instruments):
            own = batch.bars.real_bars(s)[0]
            clock = batch.bars.clock(item.kind)
            ends += [own, following_ends(clock, own[-1:], HORIZON).ravel()]
        lengths = [len(part) for part in ends]
        return cls(
            batch,
            len(LEVELS) if shape == "long" else 1,
            pa.schema(
                [pa.field(name, kind, nullable=False) for name, kind in fields.items()],
                {FORECASTER: batch.name},
            ),
            np.concatenate(ends),
            np.cumsum([0, *lengths])[:-1:2],
        )

    def write(
        self,
        path: Path,
        months: Iterable[_Issued],
        mapped: Callable[..., Iterable[pa.Table]] = map,
        progress: Progress = silent,
    ) -> None:
        """Write these forecasts to a file.

        mapped: makes tables of portions of them, as `map` does.
        """
        from pyarrow import parquet

        total = len(self.batch.issued)
        names = self.schema.names
        # Instants, steps and levels repeat within the reach of the compression: to look each one up
        # in a dictionary takes longer. Every group of rows holds every symbol.
        with parquet.ParquetWriter(
            path,
            self.schema,
            compression="lz4",
            use_dictionary=["symbol"],
            use_byte_stream_split=[name for name in names if name in ("value", *LEVEL_NAMES)],
            write_statistics=["issued_at"],
        ) as writer:
            for number, table in enumerate(mapped(self.table, _portions(months)), 1):
                writer.write_table(table)
                progress("forecasts written", min(number * CHUNK, total), total)

    def table(self, portion: Sequence[_Issued]) -> pa.Table:
        """These forecasts in rows; a step without a forecast has none."""
        import pyarrow as pa

        seen = [(table.windows, rows) for table, rows in portion]
        symbol = np.concatenate([windows.symbol[rows] for windows, rows in seen])
        last = np.concatenate([windows.last[rows] for windows, rows in seen])
        issued_at = np.concatenate([windows.issued_at[rows] for windows, rows in seen])
        values = np.concatenate([table.quantiles[rows] for table, rows in portion])
        # A step is a symbol's own next bar, whatever bars of the calendar it lacks.
        first = self.begin[symbol] + last + 1
        target = self.ends[first[:, None] + np.arange(HORIZON)]
        steps, levels = _labels(len(symbol), self.each)
        if self.each > 1:
            numbers = [levels, pa.array(values.ravel())]
        else:
            by_level = np.ascontiguousarray(values.reshape(-1, len(LEVELS)).T)
            numbers = [pa.array(column) for column in by_level]
        size = HORIZON * self.each
        names = pa.array(list(self.batch.bars.symbols))
        symbols = pa.array(np.repeat(symbol.astype(np.int32), size))
        table = pa.Table.from_arrays(
            [
                pa.DictionaryArray.from_arrays(symbols, names, safe=False),
                _instants(issued_at, size),
                steps,
                _instants(target.ravel(), self.each),
                *numbers,
            ],
            schema=self.schema,
        )
        there = np.isfinite(values[..., 0]).ravel()
        return table if there.all() else table.filter(pa.array(np.repeat(there, self.each)))


def _instants(instants: Instants, each: int) -> pa.Array:
    """Instants of UTC, each so many times."""
    import pyarrow as pa

    # From integers they are taken as they are, not copied.
    numbers = np.repeat(instants.astype("datetime64[ns]").view(np.int64), each)
    return pa.array(numbers).view(pa.timestamp("ns", tz="UTC"))


@lru_cache(maxsize=4)
def _labels(count: int, each: int) -> tuple[pa.Array, pa.Array]:
    """Steps and levels of so many forecasts; those of a full portion are made once."""
    import pyarrow as pa

    steps = np.repeat(np.arange(1, HORIZON + 1, dtype=np.int8), each)
    return pa.array(np.tile(steps, count)), pa.array(np.tile(LEVELS, count * HORIZON))
