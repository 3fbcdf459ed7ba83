"""Discovery of the bar files of each symbol, and loading of these files into a panel.

A file is CSV or Parquet with a header that `trainingdata.file_formats` knows. It has bars of a day,
of an hour, or of 1 to 30 minutes. The file is named after its symbol, or a column names the symbol
of each row.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from foundation.errors import DataError, InputError, format_choices, format_suggestion
from trainingdata.bar_rows import SymbolFileRows, check_symbol_rows, format_bar_length
from trainingdata.bar_tables import (
    SymbolRows,
    gather_symbol_rows,
    read_bar_table,
    symbols_in_column,
)
from trainingdata.bars import Bars, build_panel
from trainingdata.conventions import BarFileConventions
from trainingdata.delistings import Rename, earlier_symbols, join_renamed_series
from trainingdata.instants import format_utc
from trainingdata.instruments import (
    closest_symbols,
    format_non_usd_pair_error,
    format_other_security_error,
    instrument,
    is_quoted_in_usdt,
    is_symbol,
    normalize_data_symbol,
    parse_symbols,
    series_in_file_name,
    symbol_in_file_name,
)
from trainingdata.resampling import list_finer_bar_minutes
from trainingdata.timeframe import DAILY, HOURLY, ONE_MINUTE, TIMEFRAMES, Timeframe

BAR_FILE_SUFFIXES = (".parquet", ".csv", ".us.txt")  # Stooq: amd.us.txt
_ENDINGS = f"{', '.join(BAR_FILE_SUFFIXES[:-1])} or {BAR_FILE_SUFFIXES[-1]}"
STRICT_CONVENTIONS = BarFileConventions()
_NAMING_ADVICE = (
    "name the file after its symbol (NVDA.csv, BTCUSD.csv) or add a column symbol to its rows"
)
_USDT_NOTE = "prices are in USDT; 1 USDT counts as 1 USD"


def find_bar_files(
    paths: Sequence[Path], symbols: Sequence[str] | None, renames: Sequence[Rename] = ()
) -> dict[str, tuple[Path, ...]]:
    """Find the bar files of each symbol in folders and files.

    A symbol may have several files if each has a column with the symbol. It may also have several
    files if their names are periods of one series, such as BTCUSDT-1h-2023-01.

    paths: folders of bar files, and single files.
    symbols: the symbols to find; None: all.
    renames: renames whose old symbols are searched, too; an old symbol may have no file.

    Raises DataError for a symbol without a file, and for files that are unreadable or ambiguous.
    """
    names = None if symbols is None else parse_symbols(symbols)
    besides = earlier_symbols(names or (), renames)
    found, unread = _files_by_symbol(paths)
    where = ", ".join(str(place) for place in paths)
    if names is None and unread:
        raise unread[0]
    if names is None and not found:
        raise DataError(f"data.dir: {where} contains no {_ENDINGS} file; name a folder of bars")
    for symbol in names or found:
        if symbol not in found:
            if unread:
                raise DataError(
                    f"{symbol}: no file found in {where}, and one file cannot be read: {unread[0]}"
                )
            there = sorted(filter(is_symbol, found))
            # TpC is a preferred share, TPC a company.
            causes = [
                f"; there is a file of {name}, but {format_other_security_error(name)}"
                for name in found
                if name.upper() == symbol
            ]
            causes += [
                f"; {next(iter(found[name]))} has no symbol in its name: {_NAMING_ADVICE}"
                for name in sorted(found)
                if not is_symbol(name)
            ]
            raise DataError(
                f"{symbol}: no {symbol}.parquet or {symbol}.csv found in {where}; available:"
                f" {format_choices(there) or 'none'}{''.join(causes[:1])}"
                + format_suggestion(closest_symbols(symbol, there))
            )
        file = next(iter(found[symbol]))
        if reason := format_non_usd_pair_error(symbol) or format_other_security_error(symbol):
            raise DataError(f"{file}: {reason}; move the file, or set symbols=… without it")
        if not is_symbol(symbol):
            raise DataError(
                f"{file}: {symbol!r} is not a symbol; {_NAMING_ADVICE}, move the file, or set"
                " symbols=… without it"
            )
    wanted = [*names, *(name for name in besides if name in found)] if names else list(found)
    return {symbol: _select_symbol_paths(symbol, found[symbol]) for symbol in wanted}


def _files_by_symbol(places: Sequence[Path]) -> tuple[dict[str, dict[Path, bool]], list[DataError]]:
    """Return the files of each symbol, and an error for each file whose symbols cannot be read.

    The value of a path states whether a column, not the file name, names the symbol.

    places: folders of bar files, and single files.
    """
    found: dict[str, dict[Path, bool]] = {}
    unread: list[DataError] = []
    for path in dict.fromkeys(path for place in places for path in _iterate_bar_files(place)):
        try:
            inside = symbols_in_column(path)
        except DataError as error:
            unread.append(error)
            inside = ()
        for symbol in inside or (_symbol_of_file(path),):
            found.setdefault(symbol, {})[path] = bool(inside)
    return found, unread


def _select_symbol_paths(symbol: str, found: Mapping[Path, bool]) -> tuple[Path, ...]:
    """Return the paths of a symbol's files, and check that they belong together.

    found: for each file, whether a column names the symbol.

    Raises DataError for several files, unless a column of each file names the symbol, or the file
    names are periods of one series.
    """
    series = {series_in_file_name(path.stem) for path in found}
    periods = len(series) == 1 and "" not in series
    if len(found) > 1 and not periods and not all(found.values()):
        first, second, *_ = found
        raise DataError(f"{symbol}: two files found, {first} and {second}; keep one")
    return tuple(found)


def find_symbol_folders(root: Path, symbols: Sequence[str]) -> list[Path]:
    """Return the folders in and below `root` with a bar file named after one of the symbols.

    Links to folders are followed. Each folder is searched once.
    """
    names = set(parse_symbols(symbols))
    seen = {root.resolve()}
    found = []
    for place, folders, files in os.walk(root, followlinks=True):
        folder = Path(place)
        below = {(folder / name).resolve(): name for name in folders}
        folders[:] = sorted(name for target, name in below.items() if target not in seen)
        seen |= below.keys()
        paths = filter(_is_bar_file, map(folder.joinpath, files))
        if not names.isdisjoint(map(_symbol_of_file, paths)):
            found.append(folder)
    return sorted(found)


def _iterate_bar_files(place: Path) -> Iterator[Path]:
    """Yield the path itself if it is a bar file, or every bar file in a folder.

    Raises DataError for a path that does not exist or is not a bar file.
    """
    if place.is_dir():
        yield from (path for path in sorted(place.iterdir()) if _is_bar_file(path))
    elif not place.is_file():
        raise DataError(f"data.dir: {place} does not exist; name a folder or a file of bars")
    elif not _is_bar_file(place):
        raise DataError(f"data.dir: {place} is not a {_ENDINGS} file; unpack or convert it")
    else:
        yield place


def _is_bar_file(path: Path) -> bool:
    return path.name.lower().endswith(BAR_FILE_SUFFIXES)


def _symbol_of_file(path: Path) -> str:
    """Return the symbol in a bar file's name; if it contains none, the name without bar length."""
    name = symbol_in_file_name(path.stem)
    try:
        return normalize_data_symbol(name)
    except InputError:
        return name


def read_bars(
    paths: Sequence[Path],
    symbols: Sequence[str] | None,
    *,
    start: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
    timeframe: Timeframe | None = None,
    conventions: BarFileConventions = STRICT_CONVENTIONS,
    renames: Sequence[Rename] = (),
) -> Bars:
    """Read a panel of bars up to `end`, including the history before `start`.

    paths: folders of bar files, and single files.
    symbols: symbols of the panel; None: all.
    start, end: bounds of the range in which every symbol needs a bar; None: no bound.
    timeframe: timeframe of the bars; None: days if the files have daily bars, else hours.
    conventions: conventions of files that do not state their own.
    renames: renames of symbols; bars of the old symbol precede bars of the new symbol.

    Raises DataError for files that cannot be read or trusted.
    """
    files = find_bar_files(paths, symbols, renames)
    read = _read_rows(files, conventions)
    return _build_timeframe_panel(
        files, read, timeframe or _default_timeframe(read), start, end, renames
    )


def read_finer_bars(
    paths: Sequence[Path],
    symbols: Sequence[str],
    timeframe: Timeframe,
    end: np.datetime64,
    *,
    conventions: BarFileConventions = STRICT_CONVENTIONS,
    renames: Sequence[Rename] = (),
) -> Bars:
    """Read a panel, up to `end`, of the shortest bars that the files of all symbols can form.

    paths: folders of bar files, and single files.
    symbols: symbols of the panel.
    timeframe: timeframe of the run; the bars of the result are shorter.
    end: latest instant of the result.
    conventions: conventions of files that do not state their own.
    renames: renames of symbols; bars of the old symbol precede bars of the new symbol.

    Raises DataError if the files have no shorter bars.
    """
    files = find_bar_files(paths, symbols, renames)
    read = _read_rows(files, conventions)
    for finer in (ONE_MINUTE, *reversed(TIMEFRAMES)):
        lengths = finer.minutes, *list_finer_bar_minutes(finer)
        if finer.minutes < timeframe.minutes and all(
            r.bar_minutes in lengths for r in read.values()
        ):
            return _build_timeframe_panel(files, read, finer, None, end, renames)
    longest = max(read, key=lambda symbol: read[symbol].bar_minutes)
    raise DataError(
        f"{files[longest][0]}: {format_bar_length(read[longest].bar_minutes)} do not divide"
        f" {timeframe.singular_bar_text} into shorter bars; supply bars of 1, 5, 15 or 30 minutes"
    )


def _read_rows(
    files: Mapping[str, Sequence[Path]], conventions: BarFileConventions
) -> dict[str, SymbolFileRows]:

    # A file of several symbols is read once.
    @cache
    def read_table_rows(path: Path) -> SymbolRows:
        return read_bar_table(path).rows_by_symbol()

    read: dict[str, SymbolFileRows] = {}
    for symbol, paths in files.items():
        tables = [read_table_rows(path) for path in paths]
        parts, head, place = gather_symbol_rows(tables, symbol)
        rows = check_symbol_rows(parts, head, instrument(symbol), place, conventions)
        if is_quoted_in_usdt(
            tables[0].spelling_by_symbol.get(symbol, symbol_in_file_name(paths[0].stem))
        ):
            rows = replace(rows, notes=(_USDT_NOTE, *rows.notes))
        read[symbol] = rows
    return read


def _default_timeframe(read: Mapping[str, SymbolFileRows]) -> Timeframe:
    """Return the default timeframe: days if the files have daily bars, else hours.

    Raises DataError if only some files have daily bars.
    """
    daily = [rows for rows in read.values() if rows.is_daily]
    others = [rows for rows in read.values() if not rows.is_daily]
    if daily and others:
        raise DataError(
            f"{daily[0].path} contains daily bars, but {others[0].path} contains"
            f" {format_bar_length(others[0].bar_minutes)}; set timeframe=1d to aggregate all to"
            " days, or name only symbols with the same bar length"
        )
    return DAILY if daily else HOURLY


def _build_timeframe_panel(
    files: Mapping[str, Sequence[Path]],
    read: Mapping[str, SymbolFileRows],
    timeframe: Timeframe,
    start: np.datetime64 | None,
    end: np.datetime64 | None,
    renames: Sequence[Rename],
) -> Bars:
    """Return the bars of a timeframe up to `end` as a panel.

    Raises DataError for a symbol without a bar between `start` and `end`.
    """
    series = {symbol: rows.to_bars(timeframe) for symbol, rows in read.items()}
    join_renamed_series(series, renames, timeframe)
    tables = []
    origins = {}
    for symbol, (times, values, origin) in series.items():
        item, path = read[symbol].instrument, read[symbol].path
        # History before `start` stays: a first decision needs it.
        known = np.ones(len(times), dtype=bool) if end is None else times <= end
        between = known if start is None else known & (times >= start)
        if not between.any():
            since = "its start" if start is None else format_utc(start)
            until = "its end" if end is None else format_utc(end)
            held = timeframe.clock(item.kind).starts_by_end(times[[0, -1]])
            raise DataError(
                f"{path}: {symbol} has no bar that closes between {since} and {until}; its bars"
                f" start between {format_utc(held[0])} and {format_utc(held[1])}; change start or"
                " end"
            )
        tables.append((item, times[known], values[known]))
        origins[symbol] = origin
    folders = sorted({str(path.parent) for paths in files.values() for path in paths})
    bars = build_panel(tables, f"files: {', '.join(folders)}", timeframe)
    return replace(bars, provenances=tuple(origins[symbol] for symbol in bars.symbols))
