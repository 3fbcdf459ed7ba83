"""Files of bars, one a symbol, read into a panel.

A file has the bar's start (`timestamp`, `datetime`, `date` or `time`; with a zone, or as a count
since 1970), open, high, low, close and volume, as Parquet, CSV or gzipped CSV, in bars of an hour
or of 1 to 30 minutes.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants
from foundation.errors import DataError, InputError, did_you_mean
from trainingdata.bar_csv import FileTable, read_csv
from trainingdata.bar_tables import STAMPS, heading, read_table
from trainingdata.bars import Bars, panel
from trainingdata.instants import REFUSED, Unzoned, utc_text
from trainingdata.instruments import (
    Instrument,
    data_symbol,
    in_tethers,
    instrument,
    is_symbol,
    named_in_file,
    no_dollar_pair,
    symbols_of,
)
from trainingdata.sessions import started_at

SUFFIXES = (".parquet", ".csv", ".csv.gz")
LISTED = 20  # symbols that a refusal names, at most
_TETHERS = "quoted in USDT, which is taken for USD"
_NO_TETHERS = "requested in USDT; the file is called {file} and read as prices in USD"


def _listed(symbols: Sequence[str]) -> str:
    """What follows the refusal of a symbol that is like none: those that there are, or some."""
    more = f" and {len(symbols) - LISTED:,} more" if len(symbols) > LISTED else ""
    return f"; here are {', '.join(symbols[:LISTED])}{more}" if symbols else ""


def find_files(places: Sequence[Path], symbols: Sequence[str] | None) -> dict[str, Path]:
    """One bar file per symbol in folders and among files; every one when `symbols` is None.

    Raises
    ------
    DataError
        for a place that is none, a symbol without a file, or two files for one symbol (both are
        named).
    """
    names = None if symbols is None else symbols_of(symbols)
    files: dict[str, Path] = {}
    for place in places:
        for path in _bar_files(place):
            symbol = _symbol_of(path)
            known = files.get(symbol, path)
            if known != path and (names is None or symbol in names):
                raise DataError(f"{symbol}: two files, {known} and {path}; keep one")
            files[symbol] = path
    where = ", ".join(str(place) for place in places)
    if names is None and not files:
        raise DataError(f"data.dir: no .parquet, .csv or .csv.gz file in {where}")
    if names is None:
        names = list(files)
    for symbol in names:
        if symbol not in files:
            hint = did_you_mean(symbol, files) or _listed(sorted(files))
            raise DataError(f"{symbol}: no {symbol}.parquet, .csv or .csv.gz in {where}{hint}")
        if reason := no_dollar_pair(symbol):
            raise DataError(f"{files[symbol]}: {reason}; name the symbols you want, or move it")
        if not is_symbol(symbol):
            raise DataError(
                f"{files[symbol]}: {symbol!r} is no symbol; name the symbols you want, or call the"
                " file as NVDA.csv or BTCUSD.csv, or move it"
            )
    return {symbol: files[symbol] for symbol in names}


def _bar_files(place: Path) -> Iterator[Path]:
    """A file, or every file in a folder that ends as a bar file does."""
    if place.is_file():
        if _suffix(place) is None:
            raise DataError(f"data.dir: {place} is no .parquet, .csv or .csv.gz file")
        symbol = _symbol_of(place)
        if reason := no_dollar_pair(symbol):
            raise DataError(f"data.dir: the name of {place} says no symbol: {reason}")
        if not is_symbol(symbol):
            raise DataError(
                f"data.dir: the name of {place} says no symbol; call it as NVDA.csv or BTCUSD.csv"
            )
        yield place
        return
    if not place.is_dir():
        raise DataError(f"data.dir: {place} is no folder and no file")
    yield from (path for path in sorted(place.iterdir()) if _suffix(path) is not None)


def _suffix(path: Path) -> str | None:
    name = path.name.lower()
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def _stem(path: Path) -> str:
    """A file's name without what says its format and the length of its bars."""
    return named_in_file(path.name[: -len(_suffix(path) or "")])


def _symbol_of(path: Path) -> str:
    """The symbol of a bar file; its name where that is none."""
    try:
        return data_symbol(_stem(path))
    except InputError:
        return _stem(path)


def read_bars(
    places: Sequence[Path],
    symbols: Sequence[str] | None,
    *,
    start: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
    unzoned: Unzoned = REFUSED,
) -> Bars:
    """Read the panel of `symbols` up to `end`, history before `start` included.

    places: folders of bar files, and single ones.
    unzoned: what stamps without a zone mean.

    Raises
    ------
    DataError
        for anything in a file that cannot be trusted, and for a symbol without a bar between start
        and end.
    """
    files = find_files(places, symbols)
    asked_in_tethers = {
        data_symbol(part) for word in symbols or () for part in word.split(",") if in_tethers(part)
    }
    tables = []
    origins = {}
    for symbol, path in files.items():
        item = instrument(symbol)
        table = _read_file(path)
        times, values, origin = read_table(table.frame, item, str(path), unzoned)
        quote: tuple[str, ...] = ()
        if in_tethers(_stem(path)):
            quote = (_TETHERS,)
        elif symbol in asked_in_tethers:
            quote = (_NO_TETHERS.format(file=path.name),)
        origin = replace(origin, notes=(*quote, *table.notes, *origin.notes))
        # History before `start` stays: a first decision needs it.
        rows = np.ones(len(times), dtype=bool) if end is None else times <= end
        between = rows if start is None else rows & (times >= start)
        if not between.any():
            since = "its beginning" if start is None else utc_text(start)
            until = "its end" if end is None else utc_text(end)
            held = started_at(item.kind, times[[0, -1]])
            raise DataError(
                f"{path}: {symbol} has no bars between {since} and {until}; the file holds those"
                f" that start from {utc_text(held[0])} to {utc_text(held[1])}, and a bar counts at"
                " its end"
            )
        tables.append((item, times[rows], values[rows]))
        origins[symbol] = origin
    folders = sorted({str(path.parent) for path in files.values()})
    bars = panel(tables, f"files: {', '.join(folders)}")
    return replace(bars, origins=tuple(origins[symbol] for symbol in bars.symbols))


def bars_of_frame(frame: pd.DataFrame, item: Instrument, path: str) -> tuple[Instants, Array]:
    """Known-at instants [N] and values [N, 5] of a table with a column for each field.

    frame: `timestamp` (a bar's start), open, high, low, close, volume.
    path: where the table is from, for messages.

    Raises
    ------
    DataError
        for anything in it that cannot be trusted.
    """
    times, values, _ = read_table(frame, item, path)
    return times, values


def _read_file(path: Path) -> FileTable:
    """The table of a file, its headings in small letters."""
    try:
        if _suffix(path) != ".parquet":
            return read_csv(path)
        frame = pd.read_parquet(path)
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    if isinstance(frame.index, pd.MultiIndex):
        frame = frame.reset_index(allow_duplicates=True)
    frame.columns = [heading(name) for name in frame.columns]
    index = heading(frame.index.name or "")
    named = index in STAMPS and index not in frame.columns
    others = not set(STAMPS) & set(frame.columns)
    if named and (others or index == "timestamp"):
        frame = frame.rename_axis(index).reset_index()
    elif others and isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.rename_axis("timestamp").reset_index()
    elif isinstance(frame.index, pd.DatetimeIndex) and index not in frame.columns:
        return FileTable(frame, ("a column says when bars start, the index is ignored",))
    return FileTable(frame, ())
