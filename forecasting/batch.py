"""Forecast every symbol at every bar of a history, through the cache.

    python -m forecasting.batch 'symbols=[NVDA,BTCUSD]' 'data.dir=[DIR]' start=D end=D
    [output=FILE.parquet|FILE.csv|FILE.csv.gz] [key=value …]

Without `output` the cache is filled and nothing else. The file has a row a symbol, instant, step
and level: symbol, issued_at, step, target_at (when that bar becomes known, by the calendar), level,
value (USD); by instant and symbol, levels rising; in the metadata of Parquet
the name of the forecaster. It is written whole or not at all.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("forecasting.batch", __doc__, settings="batch", hydra=True)

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig

from forecasting.forecast import (
    CHUNK,
    HORIZON,
    LEVELS,
    ForecastTable,
    Progress,
    silent,
)
from forecasting.from_file import ENDINGS, FORECASTER
from forecasting.settings import ForecasterSettings
from forecasting.windows import Windows
from foundation.arrays import Index
from foundation.command import log_to_file, one_line_errors
from foundation.compose import hydra_command
from foundation.configuration import may_overwrite, settings_of
from foundation.errors import InputError
from foundation.files import check_file, remove_unfinished, staged_file
from foundation.progress import ProgressBar
from trainingdata.bars import Bars
from trainingdata.coverage import print_coverage
from trainingdata.instants import utc_text
from trainingdata.sessions import following_bar_ends
from trainingdata.source import DataSettings, span_of

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("forecasting")


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """What is forecast, from which bars and by what.

    symbols: none means every symbol the data holds.
    start, end: New York dates, both inclusive, or instants with a zone; forecasts issued between
        them are computed.
    output: Parquet or CSV file; none to fill the cache only.
    data: where bars come from.
    forecaster: what forecasts them.
    """

    symbols: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    output: str | None = None
    data: DataSettings = field(default_factory=DataSettings)
    forecaster: ForecasterSettings = field(default_factory=ForecasterSettings)

    def __post_init__(self) -> None:
        if self.output is not None and not self.output.endswith(ENDINGS):
            raise InputError(f"output: {self.output} ends in none of {', '.join(ENDINGS)}")

    @classmethod
    def of(cls, config: DictConfig) -> BatchSettings:
        """The checked settings of a composed configuration."""
        return settings_of(cls, config, lists=("symbols", "data.dir"))


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


def run_batch(settings: BatchSettings, progress: Progress = silent) -> Batch:
    """Forecast what the settings ask for.

    Raises
    ------
    InputError
        for settings or data that cannot be used, and where no forecast is issued in the span.
    """
    settings.forecaster.check()
    bars = settings.data.bars(settings.symbols, settings.start, settings.end)
    first, last = span_of(bars, settings.start, settings.end)
    windows = Windows.of(bars, first, settings.forecaster.context_length)
    # Looked at before anything is computed: a span without a forecast would else take as long as
    # one with many.
    if not (windows.issued_at >= first).any():
        raise InputError(
            f"start, end: nothing can be forecast between {utc_text(first)} and {utc_text(last)}:"
            f" no bar closes then, or no symbol has {settings.forecaster.context_length} bars of"
            " its own"
        )
    table = settings.forecaster.build(bars.symbols).forecast(bars, first, progress)
    windows = table.windows
    rows = np.flatnonzero((windows.issued_at >= first) & (windows.issued_at <= last))
    return Batch(bars, table, rows[np.lexsort((windows.symbol[rows], windows.issued_at[rows]))])


def write_batch(batch: Batch, output: Path, progress: Progress = silent) -> None:
    """Write the rows of a batch, a portion at a time, under another name until it is whole."""
    done = 0
    schema = _schema().with_metadata({FORECASTER: batch.table.name})
    try:
        remove_unfinished(output)
        with staged_file(output) as part, _writer(part, output.name, schema) as write:
            for rows in _portions(batch.rows):
                write(_table(batch, rows, schema))
                done += len(rows)
                progress("rows written", done, len(batch.rows))
    except OSError as error:
        raise InputError(
            f"output: {output} cannot be written: {error.strerror or error}"
        ) from error


@contextmanager
def _writer(part: Path, name: str, schema: pa.Schema) -> Iterator[Callable[[pa.Table], object]]:
    """What writes tables to a file, in the format that its name asks for."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if name.endswith(".parquet"):
        with parquet.ParquetWriter(part, schema, compression="zstd") as writer:
            yield writer.write_table
        return
    plain = schema.set(0, pa.field("symbol", pa.string()))
    compression = "gzip" if name.endswith(".gz") else None
    options = csv.WriteOptions(quoting_style="needed")
    with (
        pa.output_stream(str(part), compression=compression) as stream,
        csv.CSVWriter(stream, plain, write_options=options) as writer,
    ):
        yield lambda table: writer.write_table(table.cast(plain))


def is_batch(path: Path) -> bool:
    """Whether a file was written by this command."""
    import pandas as pd
    from pyarrow import ArrowException, parquet

    try:
        if path.suffix == ".parquet":
            found: dict[bytes, bytes] = parquet.read_metadata(path).metadata or {}
            return bool(FORECASTER.encode() in found)
        return bool(list(pd.read_csv(path, nrows=0).columns) == _schema().names)
    except (OSError, ValueError, ArrowException):
        return False


def _portions(rows: Index) -> Iterator[Index]:
    for first in range(0, len(rows), CHUNK):
        yield rows[first : first + CHUNK]


def _schema() -> pa.Schema:
    import pyarrow as pa

    instant = pa.timestamp("ns", tz="UTC")
    return pa.schema(
        [
            ("symbol", pa.dictionary(pa.int32(), pa.string())),
            ("issued_at", instant),
            ("step", pa.int64()),
            ("target_at", instant),
            ("level", pa.float64()),
            ("value", pa.float64()),
        ]
    )


def _table(batch: Batch, rows: Index, schema: pa.Schema) -> pa.Table:
    """The long form of these forecasts; a step without a forecast has no row."""
    import pyarrow as pa

    windows = batch.table.windows
    bars = batch.bars
    symbol = windows.symbol[rows]
    issued = windows.issued_at[rows]
    target = np.empty((len(rows), HORIZON), dtype="datetime64[ns]")
    for kind in {item.kind for item in bars.instruments}:
        chosen = np.array([item.kind is kind for item in bars.instruments])[symbol]
        target[chosen] = following_bar_ends(kind, issued[chosen], HORIZON)
    values = batch.table.answer(rows).astype(np.float64).ravel()
    finite = np.isfinite(values)
    levels = len(LEVELS)
    size = HORIZON * levels
    steps = np.repeat(np.arange(1, HORIZON + 1), levels)
    numbers = np.repeat(symbol, size)[finite].astype(np.int32)
    columns = {
        "symbol": pa.DictionaryArray.from_arrays(numbers, list(bars.symbols)),
        "issued_at": np.repeat(issued, size)[finite],
        "step": np.tile(steps, len(rows))[finite],
        "target_at": np.repeat(target.ravel(), levels)[finite],
        "level": np.tile(LEVELS, len(rows) * HORIZON)[finite],
        "value": values[finite],
    }
    arrays = {
        name: pa.array(column, type=schema.field(name).type) for name, column in columns.items()
    }
    return pa.table(arrays, schema=schema)


def run_command(config: DictConfig) -> None:
    """Check, forecast, write and say so. Wrong input ends with exit code 2."""
    began = time.monotonic()
    with one_line_errors("what was computed is in the cache"):
        settings = BatchSettings.of(config)
        output = None if settings.output is None else Path(settings.output).expanduser()
        if output is None and not settings.forecaster.keeps:
            raise InputError(
                f"output: name a file; forecasts of {settings.forecaster.kind} are not kept in the"
                " cache, and nothing would be left of them"
            )
        if output is not None:
            check_file(output, "output", is_batch, overwrite=may_overwrite(config))
        log_to_file("batch")
        with ProgressBar() as progress:
            batch = run_batch(settings, progress)
            if output is not None:
                write_batch(batch, output, progress)
    print_coverage(batch.bars, settings.start, settings.end)
    place = f"written to {output}"
    if output is None:
        place = f"kept in {settings.forecaster.cache} (python -m forecasting.cache list)"
    seconds = time.monotonic() - began
    count = len(batch.rows)
    symbols = len(batch.bars.symbols)
    name = batch.table.name
    print(f"{count:,} forecasts of {symbols} symbols by {name} in {seconds:.1f} s, {place}")  # noqa: T201


def main() -> None:
    """Hydra entry."""
    hydra_command("batch", run_command)


if __name__ == "__main__":
    main()
