"""Download bars from the venue into files that every other command reads.

    python -m trainingdata.download --symbols NVDA BTCUSD --start 2023-01-01
        [--end 2024-12-31] --output DIR [key=value …]

--symbols SYMBOL …   symbols to load
--start, --end       New York dates, inclusive, or instants with a zone; default end: now
--output DIR         folder of the files

It writes one Parquet file per symbol. After an interruption the next run continues where the last
one stopped; a later run adds new bars. Stocks are adjusted for splits: if the venue's bars disagree
with a file's last days, as after a split, the file is loaded again. Other settings are those of
configs/live.yaml (`data.feed=sip`, `data.adjustment=raw`, `broker.url_override=URL`). Keys come
from APCA_API_KEY_ID and APCA_API_SECRET_KEY; crypto needs none.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("trainingdata.download")

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from foundation.arrays import Array, Instants
from foundation.cli import FlagParser, Result
from foundation.clock import utc_now
from foundation.compose import compose_config, is_override
from foundation.errors import DataError, InputError
from foundation.files import atomic_file, check_output_folder, may_overwrite
from foundation.formatting import format_count
from foundation.settings import settings_from_config
from trainingdata.bar_files import read_bars
from trainingdata.bars import OHLCV_FIELDS
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings
from trainingdata.feed.market_data import MarketData
from trainingdata.instants import DAY, format_utc, parse_instant
from trainingdata.instruments import Instrument, instrument, is_crypto
from trainingdata.source import DataSettings
from trainingdata.timeframe import HOURLY, Timeframe

ProgressCallback = Callable[[str, int, int], None]

# Period that is requested and written at once: an interrupted run loses no more.
REQUEST_SPAN = 90 * DAY
# Period at the end of a file that is requested again, to see whether the venue still gives the same
# bars.
RECHECKED_SPAN = 3 * DAY
# A file may begin this much after the start: the first days may have no bar at all.
MAX_START_DELAY = 7 * DAY


def download(
    data: MarketData,
    symbols: Sequence[str],
    start: np.datetime64,
    end: np.datetime64,
    folder: Path,
    progress: ProgressCallback,
) -> dict[str, int]:
    """Extend the files of symbols up to `end`; return the number of bars in each file.

    data: market data of the venue.
    start, end: first and last instant of the bars.
    folder: folder of the files.
    progress: callback of symbol, done and total.

    Files are written atomically. If the venue fails, written bars stay, and a later run continues
    after them.

    Raises DataError if the venue has no bar of a symbol.
    """
    counts = {}
    names = dict.fromkeys(instrument(symbol).symbol for symbol in symbols)
    for number, symbol in enumerate(names):
        counts[symbol] = _update_file(data, instrument(symbol), start, end, folder, progress)
        progress("symbols", number + 1, len(symbols))
    return counts


def _update_file(
    data: MarketData,
    item: Instrument,
    start: np.datetime64,
    end: np.datetime64,
    folder: Path,
    progress: ProgressCallback,
) -> int:
    path = folder / f"{item.symbol}.parquet"
    times, values = _read_stored_bars(path, item, data.timeframe, start)
    # After a split the venue's whole history is in other units: a continued file would contain a
    # false jump.
    if len(times) and not _venue_still_agrees(data, item, times, values):
        times = times[:0]
        values = values[:0]
    begin = times[-1] if len(times) else start
    reach = 2 * data.timeframe.length
    steps = max(1, int(np.ceil((end - begin) / REQUEST_SPAN)))
    for step in range(steps):
        since = begin + step * REQUEST_SPAN
        until = min(begin + (step + 1) * REQUEST_SPAN, end)
        for _, new_times, new_values in data.bars_by_symbol([item.symbol], since - reach, until):
            later = new_times > (times[-1] if len(times) else start)
            times = np.concatenate([times, new_times[later]])
            values = np.concatenate([values, new_values[later]])
        if len(times):
            _write_bars(path, item, data.timeframe, times, values)
        progress(item.symbol, step + 1, steps)
    if not len(times):
        raise DataError(
            f"{item.symbol}: the venue has no bars between {format_utc(start)} and"
            f" {format_utc(end)}; choose another symbol or range"
        )
    return len(times)


def _read_stored_bars(
    path: Path, item: Instrument, timeframe: Timeframe, start: np.datetime64
) -> tuple[Instants, Array]:
    """Return known-at instants [N] and values [N, 5] of the bars in a file.

    The result is empty if the file begins later than `start`, since a run only appends bars.
    """
    nothing = np.empty(0, dtype="datetime64[ns]"), np.empty((0, len(OHLCV_FIELDS)))
    if not path.exists():
        return nothing
    try:
        times, values = read_bars([path], [item.symbol], timeframe=timeframe).bars_of_symbol(0)
    except DataError as error:
        raise DataError(f"{error}; move the file to another folder") from error
    return (times, values) if len(times) and times[0] <= start + MAX_START_DELAY else nothing


def _venue_still_agrees(data: MarketData, item: Instrument, times: Instants, values: Array) -> bool:
    """Return whether the venue still returns the bars that a file has for its last days."""
    tables = data.bars_by_symbol([item.symbol], times[-1] - RECHECKED_SPAN, times[-1])
    if not tables:
        return False
    _, venue_times, venue_values = tables[0]
    in_file = np.isin(times, venue_times)
    at_venue = np.isin(venue_times, times)
    return bool(in_file.any() and np.array_equal(values[in_file], venue_values[at_venue]))


def _write_bars(
    path: Path, item: Instrument, timeframe: Timeframe, times: Instants, values: Array
) -> None:
    frame = pd.DataFrame(values, columns=list(OHLCV_FIELDS))
    starts = timeframe.clock(item.kind).starts_by_end(times)
    frame.insert(0, "timestamp", pd.DatetimeIndex(starts).tz_localize("UTC"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as part:
            frame.to_parquet(part, index=False)
    except OSError as error:
        raise InputError(f"--output: {path} cannot be written: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class DownloadSettings:
    """Settings of a download: symbols, range, source and folder.

    symbols: symbols to download.
    start, end: first and last instant of the bars.
    broker: settings of the venue.
    data: settings of feed and adjustment.
    folder: folder of the files.
    timeframe: timeframe of the bars.
    """

    symbols: tuple[str, ...]
    start: np.datetime64
    end: np.datetime64
    broker: BrokerSettings
    data: DataSettings
    folder: Path
    timeframe: Timeframe


def parse_arguments(words: Sequence[str]) -> tuple[DownloadSettings, Path]:
    """Parse the command line; return the settings and the validated output folder.

    Raises InputError for invalid or conflicting flags or settings.
    """
    parser = FlagParser(settings=True)
    parser.add_argument("--symbols", nargs="+", required=True)
    parser.add_argument("--start", required=True)
    parser.add_argument("--end")
    parser.add_argument("--output", required=True, type=Path)
    flags = parser.parse_intermixed_args(list(words))
    # --symbols takes every word after it, the overrides, too.
    overrides = [*flags.overrides, *(word for word in flags.symbols if is_override(word))]
    parser.refuse_non_overrides(overrides)
    config = compose_config("live", overrides)
    start = parse_instant(flags.start, name="--start")
    end = now = utc_now()
    if flags.end:
        end = min(parse_instant(flags.end, name="--end", end_of_day=True), now)
    if start >= end:
        raise InputError(f"--start: {flags.start} is not before --end {flags.end or 'now'}")
    if config.data.execution_bars:
        raise InputError("data.execution_bars: not used by downloads; remove it")
    check_output_folder(
        flags.output, "*.parquet", ("timestamp", "open", "close"), overwrite=may_overwrite(config)
    )
    settings = DownloadSettings(
        symbols=tuple(word for word in flags.symbols if not is_override(word)),
        start=start,
        end=end,
        broker=settings_from_config(
            BrokerSettings, OmegaConf.masked_copy(config, ["broker"]).broker
        ),
        data=settings_from_config(DataSettings, config.data),
        folder=flags.output,
        timeframe=Timeframe(config.timeframe) if config.timeframe else HOURLY,
    )
    return settings, flags.output


def run(settings: DownloadSettings, progress: ProgressCallback) -> Result:
    """Extend the file of each symbol up to the end of the range."""
    stocks = any(not is_crypto(symbol) for symbol in settings.symbols)
    keys = ApiKeys.from_environment(os.environ) if stocks else None
    feed, adjustment = settings.data.feed, settings.data.adjustment
    data = MarketData(settings.broker, keys, feed, adjustment, settings.timeframe)
    span = settings.start, settings.end
    counts = download(data, settings.symbols, *span, settings.folder, progress)
    files = {settings.folder / f"{symbol}.parquet": count for symbol, count in counts.items()}
    return Result(
        closing_lines=[f"{file}: {format_count(count, 'bar')}" for file, count in files.items()]
    )
