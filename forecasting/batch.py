"""Forecast every symbol at every bar of a history, through the cache.

    python -m forecasting.batch 'symbols=[NVDA,BTCUSD]' 'data.dir=[DIR]' start=D end=D
    [output=FILE.parquet] [key=value …]

Without `output` only the cache is filled. The file has a row for each symbol, instant, step and
quantile level, with the columns symbol, issued_at, step, target_at (instant at which the forecast
bar becomes known), level and value (USD). Rows are ordered by instant, symbol, step and level. The
file's metadata name the forecaster. After a symbol's last bar, `target_at` is taken from the
trading calendar. The file is written atomically.

`marketsimulator.prove seal` seals a file whose last forecasts are still in time.

With launcher=ray (pip install -e '.[ray]') tasks on a Ray cluster, ray.address=HOST:PORT, compute
missing forecasts: one task per GPU, or one per ray.cores cores.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("forecasting.batch")

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig

from forecasting.chronos2.cached_forecaster import CachedForecaster, predict_locally
from forecasting.chronos2.ray_predictor import predict_on_ray
from forecasting.file_forecaster import FORECASTER_METADATA_KEY
from forecasting.forecast import (
    HORIZON,
    LEVELS,
    WINDOWS_PER_CHUNK,
    ForecastTable,
    Progress,
    no_progress,
)
from forecasting.settings import BatchSettings
from forecasting.windows import Windows
from foundation.arrays import Index, Instants, Mask
from foundation.cli import Result
from foundation.errors import InputError
from foundation.files import (
    atomic_file,
    check_output_file,
    may_overwrite,
    refuse_data_folder,
    remove_stale_temporary_files,
)
from foundation.formatting import format_count
from foundation.threads import parallel_map
from trainingdata.bars import CLOSE, Bars
from trainingdata.coverage import coverage_report
from trainingdata.instants import format_utc
from trainingdata.source import resolve_range
from trainingdata.timeframe import next_bar_ends

if TYPE_CHECKING:
    import pyarrow as pa


log = logging.getLogger("forecasting")

_IssuedForecasts = tuple[ForecastTable, Index]  # a table, and indices of windows in it


def run_batch(settings: BatchSettings, progress: Progress = no_progress) -> ForecastBatch:
    """Return the requested forecasts as a batch: read from the cache, or computed.

    Raises InputError if the range has no forecast.
    """
    settings.forecaster.check()
    bars = settings.load_bars()
    first, last = resolve_range(bars, settings.start, settings.end)
    issued = Windows.from_bars(bars, first, settings.forecaster.context_length).issued_at
    # Checked before the computation, which would take just as long without a result.
    if not (issued >= first).any():
        needed = settings.forecaster.context_length
        has_bars = ((bars.times >= first) & (bars.times <= last)).any()
        why = f"no symbol has {needed} bars by then" if has_bars else "no bar closes then"
        cure = "choose a later range, or load a longer history"
        raise InputError(
            f"start, end: no forecast is possible between {format_utc(first)} and"
            f" {format_utc(last)}: {why}; {cure if has_bars else 'choose another range'}"
        )
    del issued
    predictions = (
        partial(predict_on_ray, settings.ray) if settings.launcher == "ray" else predict_locally
    )
    forecaster = settings.forecaster.build(bars.symbols, predictions)
    if isinstance(forecaster, CachedForecaster):
        windows, tables = forecaster.forecast_by_month(bars, first, progress)
        return ForecastBatch(bars, forecaster.name, first, last, windows, tables)
    table = forecaster.forecast(bars, first, progress)
    return ForecastBatch(bars, table.name, first, last, table.windows, [table])


def resolve_output(settings: BatchSettings, config: DictConfig) -> None:
    """Check that the output file is writable or, without one, that forecasts are cached.

    Raises InputError.
    """
    if settings.output is not None:
        output = Path(settings.output).expanduser()
        refuse_data_folder(config, output.parent)
        check_output_file(output, "output", is_batch_file, overwrite=may_overwrite(config))
    elif not settings.forecaster.is_cached:
        raise InputError(
            f"output: not set, but forecasts of {settings.forecaster.kind} are not cached and would"
            " be lost; set output=FILE"
        )


def run(settings: BatchSettings, progress: Progress) -> Result:
    """Compute the forecasts and write them to the output file, if there is one."""
    began = time.monotonic()
    output = None if settings.output is None else Path(settings.output).expanduser()
    batch = run_batch(settings, progress)
    issued = np.bincount(
        batch.windows.symbol_index[batch.window_indices], minlength=len(batch.bars.symbols)
    )
    if output is None:
        place, written = f"cached in {settings.forecaster.cache}", issued
    else:
        written = write_batch(batch, output, progress)
        place = f"written to {output}{batch.format_missing_values(written)}"
    seconds = time.monotonic() - began
    forecasts = format_count(int(written.sum()), "forecast")
    forecast = set(np.flatnonzero(issued).tolist())
    without = [each for s, each in enumerate(batch.bars.symbols) if s not in forecast]
    none = f"; none for {', '.join(without)}: too few bars" if without else ""
    symbols = format_count(int((written > 0).sum()), "symbol")
    doubts = batch.bars.data_warnings_between(batch.start, batch.end)
    return Result(
        list(coverage_report(batch.bars, settings.start, settings.end, doubts)),
        [f"{forecasts} for {symbols} by {batch.forecaster_name} in {seconds:.1f} s, {place}{none}"],
    )


@dataclass(frozen=True, eq=False, slots=True)
class ForecastBatch:
    """The forecasts of one batch run.

    bars: bars from which the forecasts are computed.
    forecaster_name: name of the forecaster.
    start, end: first and last instant of the range, both inclusive.
    windows: input of each forecast, including forecasts that were issued before the range.
    tables: forecast tables: a single one, or one per month.
    """

    bars: Bars
    forecaster_name: str
    start: np.datetime64
    end: np.datetime64
    windows: Windows
    tables: Iterable[ForecastTable]

    @property
    def window_indices(self) -> Index:
        """Indices of the windows that were issued within the range."""
        return np.flatnonzero(self._within_range_mask(self.windows.issued_at))

    def format_missing_values(self, written_counts: Index) -> str:
        """Return a message's ending that lists symbols whose forecasts lack values, and why.

        The text is empty if every forecast has values.

        written_counts: [S] number of forecasts with values.
        """
        count = len(self.bars.symbols)
        missing = (
            np.bincount(self.windows.symbol_index[self.window_indices], minlength=count)
            - written_counts
        )
        remarks = []
        for s in np.flatnonzero(missing):
            times, values = self.bars.bars_of_symbol(int(s))
            closes = values[times <= self.end, CLOSE]
            still = len(closes) > 0 and np.ptp(closes) == 0
            why = "its close never changes" if still else "the forecaster returned none"
            remarks.append(f"; {missing[s]:,} for {self.bars.symbols[s]} have no values: {why}")
        return "".join(remarks)

    def iterate_portions(self) -> Iterator[_IssuedForecasts]:
        """Yield the forecasts of the range in portions: a table, and indices of windows in it.

        Within a month, the forecasts are ordered by instant and symbol.
        """
        for table in self.tables:
            windows = table.windows
            for month in windows.group_by_month():
                rows = month[self._within_range_mask(windows.issued_at[month])]
                rows = rows[np.lexsort((windows.symbol_index[rows], windows.issued_at[rows]))]
                for first in range(0, len(rows), WINDOWS_PER_CHUNK):
                    yield table, rows[first : first + WINDOWS_PER_CHUNK]

    def _within_range_mask(self, issued_at: Instants) -> Mask:
        return (issued_at >= self.start) & (issued_at <= self.end)


def is_batch_file(path: Path) -> bool:
    """Return whether a Parquet file is the output of `forecasting.batch`."""
    from pyarrow import ArrowException, parquet

    try:
        return FORECASTER_METADATA_KEY.encode() in (parquet.read_metadata(path).metadata or {})
    except (OSError, ArrowException):
        return False


def write_batch(batch: ForecastBatch, output: Path, progress: Progress = no_progress) -> Index:
    """Write a batch to a Parquet file atomically; return each symbol's number of forecasts, [S].

    Forecasts without a value at the first step are skipped. If no forecast has values, raises
    InputError and writes no file.
    """
    from pyarrow import parquet

    made = _ArrowConverter.from_batch(batch)
    total = len(batch.window_indices)
    remove_stale_temporary_files(output)
    # Instants, steps and levels repeat within the window of the compression: a dictionary for each
    # would be slower. Every group of rows holds every symbol.
    how = {
        "compression": "lz4",
        "use_dictionary": ["symbol"],
        "use_byte_stream_split": ["value"],
        "write_statistics": ["issued_at"],
    }
    try:
        with atomic_file(output) as part, parquet.ParquetWriter(part, made.schema, **how) as writer:
            done = 0
            written = np.zeros(len(batch.bars.symbols), dtype=np.int64)
            for table, counts in parallel_map(made.to_arrow_table, batch.iterate_portions()):
                writer.write_table(table)
                written += counts
                done = min(done + WINDOWS_PER_CHUNK, total)
                progress("forecasts", done, total)
            if not written.any():
                raise InputError(
                    f"output: {output} was not written: none of {format_count(total, 'forecast')}"
                    f" has values{batch.format_missing_values(written)}"
                )
    except OSError as error:
        raise InputError(
            f"output: {output} cannot be written: {error.strerror or error}"
        ) from error
    return written


@dataclass(frozen=True, eq=False, slots=True)
class _ArrowConverter:
    """A converter of forecasts to rows of the output file.

    batch: the forecasts.
    schema: Arrow schema of the file.
    target_times: instants at which each symbol's bars and its next 24 calendar bars become known,
        concatenated by symbol.
    target_offsets: [S] position of each symbol's first instant in `target_times`.
    """

    batch: ForecastBatch
    schema: pa.Schema
    target_times: Instants
    target_offsets: Index

    @classmethod
    def from_batch(cls, batch: ForecastBatch) -> _ArrowConverter:
        import pyarrow as pa

        instant = pa.timestamp("ns", tz="UTC")
        fields = {
            "symbol": pa.dictionary(pa.int32(), pa.string()),
            "issued_at": instant,
            "step": pa.int8(),
            "target_at": instant,
            "level": pa.float64(),
            "value": pa.float32(),
        }
        ends = []
        for s, item in enumerate(batch.bars.instruments):
            own = batch.bars.bars_of_symbol(s)[0]
            clock = batch.bars.clock(item.kind)
            ends += [own, next_bar_ends(clock, own[-1:], HORIZON).ravel()]
        lengths = [len(part) for part in ends]
        schema = pa.schema(
            [pa.field(name, kind, nullable=False) for name, kind in fields.items()],
            {FORECASTER_METADATA_KEY: batch.forecaster_name},
        )
        return cls(batch, schema, np.concatenate(ends), np.cumsum([0, *lengths])[:-1:2])

    def to_arrow_table(self, portion: _IssuedForecasts) -> tuple[pa.Table, Index]:
        """Convert a portion to an Arrow table; return it and the number of forecasts [S] by symbol.

        Steps without a forecast are skipped.
        """
        import pyarrow as pa

        table, rows = portion
        windows = table.windows
        symbol = windows.symbol_index[rows]
        values = table.quantiles[rows]
        # A step is a symbol's own next bar, even if it lacks bars of the calendar.
        first = self.target_offsets[symbol] + windows.last_bar_index[rows] + 1
        target = self.target_times[first[:, None] + np.arange(HORIZON)]
        size = HORIZON * len(LEVELS)
        steps, levels = _step_and_level_columns(len(rows))
        names = pa.array(list(self.batch.bars.symbols))
        symbols = pa.array(np.repeat(symbol.astype(np.int32), size))
        made = pa.Table.from_arrays(
            [
                pa.DictionaryArray.from_arrays(symbols, names, safe=False),
                _repeat_instants(windows.issued_at[rows], size),
                steps,
                _repeat_instants(target.ravel(), len(LEVELS)),
                levels,
                pa.array(values.ravel()),
            ],
            schema=self.schema,
        )
        there = np.isfinite(values[..., 0])
        counts = np.bincount(symbol[there[:, 0]], minlength=len(self.batch.bars.symbols))
        if not there.all():
            made = made.filter(pa.array(np.repeat(there.ravel(), len(LEVELS))))
        return made, counts


def _repeat_instants(instants: Instants, each: int) -> pa.Array:
    """Return instants as an Arrow array in UTC, each repeated `each` times."""
    import pyarrow as pa

    # Integers are converted without a copy.
    numbers = np.repeat(instants.astype("datetime64[ns]").view(np.int64), each)
    return pa.array(numbers).view(pa.timestamp("ns", tz="UTC"))


@lru_cache(maxsize=4)
def _step_and_level_columns(count: int) -> tuple[pa.Array, pa.Array]:
    """Return the step column and the level column for `count` forecasts, in row order.

    The columns of full portions are cached.
    """
    import pyarrow as pa

    steps = np.repeat(np.arange(1, HORIZON + 1, dtype=np.int8), len(LEVELS))
    return pa.array(np.tile(steps, count)), pa.array(np.tile(LEVELS, count * HORIZON))
