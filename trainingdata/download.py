"""Hourly history from the venue into files that every other command reads.

    python -m trainingdata.download --symbols NVDA BTCUSD --start 2023-01-01 [--end 2024-12-31]
    --output DIR [key=value …]

One Parquet file a symbol. A run that was stopped goes on where it was; a later one adds what is
new. Stocks are adjusted for splits: where the venue's bars no longer agree with a file's last day,
as after a split, the file is loaded anew. Settings are those of configs/live.yaml (`data.feed=sip`,
`data.adjustment=raw`, `broker.url_override=URL`); keys come from APCA_API_KEY_ID and
APCA_API_SECRET_KEY, and coins need none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from foundation.arrays import Array, Instants
from foundation.command import Parser, ProgressBar, is_override, log_to_file, one_line
from foundation.compose import composed
from foundation.configuration import settings_of
from foundation.errors import DataError, InputError
from foundation.files import check_output, whole
from trainingdata.bars import FIELDS, bars_of
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.feed.market_data import MarketData
from trainingdata.instruments import Instrument, Kind, instrument
from trainingdata.sessions import DAY, HOUR, instant, started_at, system_clock, utc_text
from trainingdata.source import DataSettings

Progress = Callable[[str, int, int], None]

CHUNK = 90 * DAY  # asked for at once, and written
REACH = (
    2 * HOUR
)  # asked for before a chunk: a bar that begins before it and ends within is in no other
OVERLAP = 3 * DAY  # of a file that is asked for again, to see whether the venue still says the same


def download(
    data: MarketData,
    symbols: Sequence[str],
    start: np.datetime64,
    end: np.datetime64,
    folder: Path,
    progress: Progress,
) -> dict[str, int]:
    """Bring the files of some symbols up to `end`; how many bars each holds then. A file is never
    half-written.

    Raises
    ------
    DataError
        for bars that cannot be trusted, or a symbol that the venue has none of.
    BrokerError
        for a venue that does not answer, or refuses; what was written stays, and a later run goes
        on from there.
    InputError
        for a folder that cannot be written.
    """
    counts = {}
    for number, symbol in enumerate(dict.fromkeys(instrument(s).symbol for s in symbols)):
        counts[symbol] = _bring_up(data, instrument(symbol), start, end, folder, progress)
        progress("symbols", number + 1, len(symbols))
    return counts


def _bring_up(
    data: MarketData,
    item: Instrument,
    start: np.datetime64,
    end: np.datetime64,
    folder: Path,
    progress: Progress,
) -> int:
    path = folder / f"{item.symbol}.parquet"
    times, values = _kept(path, item, start)
    if len(times):
        found = data.tables([item.symbol], times[-1] - OVERLAP, times[-1])
        if not found or not _agree((times, values), found[0][1:]):
            times = times[:0]
            values = values[:0]
    begin = times[-1] if len(times) else start
    steps = max(1, int(np.ceil((end - begin) / CHUNK)))
    for step in range(steps):
        since = begin + step * CHUNK
        until = min(begin + (step + 1) * CHUNK, end)
        for _, new, rows in data.tables([item.symbol], since - REACH, until):
            later = new > (times[-1] if len(times) else start)
            times = np.concatenate([times, new[later]])
            values = np.concatenate([values, rows[later]])
        if len(times):
            _write(path, item, times, values)
        progress(item.symbol, step + 1, steps)
    if not len(times):
        raise DataError(
            f"{item.symbol}: the venue has no bar between {utc_text(start)} and {utc_text(end)}"
        )
    return len(times)


def _kept(path: Path, item: Instrument, start: np.datetime64) -> tuple[Instants, Array]:
    """What a file holds already; nothing where it begins later than is asked for, as what is
    before would be missing.
    """
    nothing = np.empty(0, dtype="datetime64[ns]"), np.empty((0, len(FIELDS)))
    if not path.exists():
        return nothing
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read: {str(error).splitlines()[0]}; move it away"
        ) from error
    times, values = bars_of(frame, item, str(path))
    return (times, values) if len(times) and times[0] <= start + 7 * DAY else nothing


def _agree(kept: tuple[Instants, Array], found: tuple[Instants, Array]) -> bool:
    """Whether the venue says of a file's last days what the file says."""
    mine = np.isin(kept[0], found[0])
    theirs = np.isin(found[0], kept[0])
    return bool(mine.any() and np.array_equal(kept[1][mine], found[1][theirs]))


def _write(path: Path, item: Instrument, times: Instants, values: Array) -> None:
    """The whole file, put in place at once."""
    frame = pd.DataFrame(values, columns=list(FIELDS))
    frame.insert(0, "timestamp", pd.DatetimeIndex(started_at(item.kind, times)).tz_localize("UTC"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            frame.to_parquet(part, index=False)
    except OSError as error:
        raise InputError(f"--output: {path} cannot be written: {error.strerror}") from error


def main() -> None:
    """Command line."""
    parser = Parser(description="Hourly history from the venue into files, one a symbol.")
    parser.add_argument("--symbols", nargs="+", required=True, metavar="SYMBOL")
    parser.add_argument("--start", required=True, help="New York date, or an instant with a zone")
    parser.add_argument("--end", help="the same, inclusive; none: now")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="any setting of configs/live.yaml"
    )
    given = parser.parse_intermixed_args()
    words = [*given.overrides, *(word for word in given.symbols if is_override(word))]
    symbols = [word for word in given.symbols if not is_override(word)]
    parser.refuse_others(words)
    with one_line("what was written stays; run again to go on") as made:
        config = composed("live", words)
        broker = settings_of(BrokerSettings, OmegaConf.masked_copy(config, ["broker"]).broker)
        asked = settings_of(DataSettings, config.data, lists=("dir",))
        start = instant(given.start, name="--start")
        now = system_clock()
        end = min(instant(given.end, name="--end", end_of_day=True), now) if given.end else now
        if start >= end:
            raise InputError(f"--start: {given.start} is not before --end {given.end or 'now'}")
        check_output(given.output)
        made.append(given.output)
        log_to_file("download")
        with ProgressBar() as progress:
            stocks = any(instrument(symbol).kind is Kind.STOCK for symbol in symbols)
            keys = Keys.of(os.environ) if stocks else None
            data = MarketData(broker, keys, asked.feed, asked.adjustment)
            counts = download(data, symbols, start, end, given.output, progress)
    for symbol, count in counts.items():
        sys.stdout.write(f"{given.output / f'{symbol}.parquet'}: {count:,} bars\n")


if __name__ == "__main__":
    main()
