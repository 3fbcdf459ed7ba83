"""Files of hourly bars, one a symbol, read into a panel.

A file has `timestamp` (the bar's start, with a zone), open, high, low, close and volume, as
Parquet, CSV or gzipped CSV.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants, first_row
from foundation.errors import DataError
from trainingdata.bars import FIELDS, Bars, panel, regular_bars
from trainingdata.instants import instants_of_column, utc_text
from trainingdata.instruments import Instrument, instrument, is_symbol

SUFFIXES = (".parquet", ".csv", ".csv.gz")


def find_files(folders: Sequence[Path], symbols: Sequence[str] | None) -> dict[str, Path]:
    """One bar file per symbol in the folders; every file there when `symbols` is None.

    Raises
    ------
    DataError
        for a folder that is none, a symbol without a file, or two files for one symbol (both are
        named).
    """
    names = None if symbols is None else [instrument(symbol).symbol for symbol in symbols]
    files: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"data.dir: {folder} is no folder")
        for symbol, path in _bar_files(folder):
            if symbol in files and (names is None or symbol in names):
                raise DataError(f"{symbol}: two files, {files[symbol]} and {path}; keep one")
            files[symbol] = path
    where = ", ".join(str(folder) for folder in folders)
    if names is None and not files:
        raise DataError(f"data.dir: no .parquet, .csv or .csv.gz file in {where}")
    if names is None:
        names = list(files)
    for symbol in names:
        if symbol not in files:
            raise DataError(f"{symbol}: no {symbol}.parquet, .csv or .csv.gz in {where}")
        if not is_symbol(symbol):
            raise DataError(
                f"{files[symbol]}: {symbol!r} is no symbol; name the symbols you want, or move the"
                " file"
            )
    return {symbol: files[symbol] for symbol in names}


def _bar_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(symbol, path) of every file in a folder that ends as a bar file does."""
    for path in sorted(folder.iterdir()):
        suffix = next((s for s in SUFFIXES if path.name.lower().endswith(s)), None)
        if suffix is not None:
            yield path.name[: -len(suffix)].upper().replace("-USD", "USD"), path


def read_bars(
    folders: Sequence[Path],
    symbols: Sequence[str] | None,
    *,
    start: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
) -> Bars:
    """Read the panel of `symbols` up to `end`, history before `start` included.

    Raises
    ------
    DataError
        for anything in a file that cannot be trusted, and for a symbol without a bar between start
        and end.
    """
    files = find_files(folders, symbols)
    tables = []
    for symbol, path in files.items():
        item = instrument(symbol)
        times, values = bars_of_frame(_read_frame(path), item, str(path))
        # History before `start` stays: a first decision needs it.
        rows = np.ones(len(times), dtype=bool) if end is None else times <= end
        between = rows if start is None else rows & (times >= start)
        if not between.any():
            since = "its beginning" if start is None else utc_text(start)
            until = "its end" if end is None else utc_text(end)
            holds = f"{utc_text(times[0])} to {utc_text(times[-1])}"
            raise DataError(
                f"{path}: {symbol} has no bars between {since} and {until}; the file holds {holds}"
            )
        tables.append((item, times[rows], values[rows]))
    places = sorted({str(path.parent) for path in files.values()})
    return panel(tables, f"files: {', '.join(places)}")


def bars_of_frame(frame: pd.DataFrame, item: Instrument, path: str) -> tuple[Instants, Array]:
    """Known-at instants [N] and values [N, 5] of a table with a column for each field.

    frame: `timestamp` (a bar's start), open, high, low, close, volume.
    path: where the table is from, for messages.

    Raises
    ------
    DataError
        for anything in it that cannot be trusted.
    """
    columns = ["timestamp", *FIELDS]
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: column {missing[0]!r} is missing; it has {', '.join(map(str, frame.columns))}"
        )
    doubled = frame.columns[frame.columns.duplicated()].intersection(columns)
    if len(doubled):
        raise DataError(f"{path}: column {doubled[0]!r} is there twice; keep one")
    if frame.empty:
        raise DataError(f"{path}: the file holds no bars")
    starts = instants_of_column(frame["timestamp"], path)
    return regular_bars(starts, _read_values(path, frame), item, path)


def _read_frame(path: Path) -> pd.DataFrame:
    try:
        if path.name.lower().endswith(".parquet"):
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype={"timestamp": str})
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty") from None
    except (OSError, ValueError, UnicodeDecodeError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
    frame.columns = [str(name).strip().lower() for name in frame.columns]
    if "timestamp" not in frame.columns and frame.index.name == "timestamp":
        frame = frame.reset_index()
    return frame


def _read_values(path: str, frame: pd.DataFrame) -> Array:
    """Open, high, low, close and volume, [N, 5] float64, finite."""
    columns = []
    for name in FIELDS:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        column = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        if not np.isfinite(column).all():
            row = first_row(~np.isfinite(column))
            value = frame[name].iloc[row]
            shown = repr(value) if isinstance(value, str) else str(value)
            raise DataError(f"{path}: row {row + 1}: {name} is {shown}, not a number")
        columns.append(column)
    return np.stack(columns, axis=1)
