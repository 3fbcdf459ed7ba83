"""Forecasts that stand in a file: those of the batch job, or one's own in its format.

The file is Parquet or CSV (`.csv`, `.csv.gz`), or a folder with a Parquet file for each month. It
has the columns symbol, issued_at, step, level and value, a row for each number, or a column for
each level (`0.01` … `0.99`) instead of the last two; other columns are not read.

symbol: as in the bars.
issued_at: an instant at which a bar of the symbol becomes known, with its zone or offset.
step: each of the 24 own bars ahead.
level: all 21 of Chronos-2 (0.01, 0.05, 0.1 … 0.9, 0.95, 0.99) for each step.
value: the close of that bar in USD at that level, not falling along the levels.

A forecast says when it was issued and is not read before; that it was made from nothing later is
what its maker answers for. Who that was stands in the metadata of the batch job's files, and
reports say it: an oracle's forecasts stay an oracle's. `forecaster.calibrated` is true here as
everywhere: a centre counts as far as it has proven itself, which takes a history of forecasts at
every bar; false takes forecasts as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forecasting.forecast import HORIZON, LEVELS, MEDIAN, ForecastTable, Progress, silent
from forecasting.windows import Windows
from foundation.arrays import Array, Array32, Index, Instants, Mask, first_row
from foundation.errors import DataError, InputError
from foundation.files import file_digest
from trainingdata.bars import Bars
from trainingdata.instants import instants_of_column, utc_text
from trainingdata.instruments import instrument
from trainingdata.sessions import started_at

if TYPE_CHECKING:
    import pandas as pd

FORECASTER = "forecaster"  # key of a Parquet file's metadata: who made the forecasts
COLUMNS = ("symbol", "issued_at", "step", "level", "value")
ENDINGS = (".parquet", ".csv", ".csv.gz")
MONTHS = "[0-9][0-9][0-9][0-9]-[0-9][0-9].parquet"  # the files of a folder
UNFINISHED = ".unfinished"  # in a folder whose months are being replaced, or were when killed
LEVEL_NAMES = tuple(str(level) for level in LEVELS)
WIDE = (*COLUMNS[:3], *LEVEL_NAMES)
ROWS = 1_000_000  # of a file, held at a time
# No median lies so many times its own step's width, from the lowest level to the highest, from the
# last close, beside what rounding leaves: such prices are adjusted for something else.
FAR = 3.0
ROUNDING = 0.02


@dataclass(frozen=True, slots=True)
class FileForecaster:
    """Forecasts of the file at `path`, in the format the module describes."""

    path: Path

    def __post_init__(self) -> None:
        if not self.path.exists():
            raise InputError(f"forecaster.path: {self.path}: there is no such file")
        if not _files(self.path):
            raise InputError(
                f"forecaster.path: {self.path}: the folder holds no month as 2024-03.parquet"
            )
        if self.path.is_file() and not self.path.name.endswith(ENDINGS):
            raise InputError(f"forecaster.path: {self.path}: ends in none of {', '.join(ENDINGS)}")

    @property
    def name(self) -> str:
        """What reports call it."""
        maker = _maker(self.path)
        by = f" by {maker}" if maker else ""
        return f"forecasts of {self.path.name}{by}"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """What the file holds for bars of the panel known from `since` on, and the last before.

        Raises
        ------
        DataError
            naming the file, the row and what is wrong with it.
        """
        name = self.name
        windows = Windows.of(bars, since, 1)
        values = np.full((len(windows), HORIZON, len(LEVELS)), np.nan, dtype=np.float32)
        rows = 0
        for path in _files(self.path):
            before = 0
            with closing(_portions(path)) as portions:
                for portion, each in portions:
                    _fill(values, windows, bars, _Portion(portion, path, before, each))
                    before += len(portion) // each
                    rows += len(portion) // each
                    progress("rows of forecasts read", rows, rows)
        there = np.flatnonzero(np.isfinite(values[:, 0, MEDIAN]))
        _check(values, windows, bars, self.path)
        if not len(there):
            raise DataError(
                f"{self.path}: holds no forecast of {', '.join(bars.symbols[:5])} issued between"
                f" {utc_text(np.min(since))} and {utc_text(bars.times[-1])}"
            )
        source = content_digest(self.path)[:16]
        return ForecastTable.of(name, bars, windows.part(there), values[there], source=source)


def content_digest(path: Path) -> str:
    """SHA-256 of a file of forecasts, or of the files of a folder, in hex."""
    digests = [file_digest(file) for file in _files(path)]
    return digests[0] if path.is_file() else sha256("".join(digests).encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    """The file at a path, or those of the folder, by month."""
    if (path / UNFINISHED).exists():
        raise DataError(
            f"{path}: a batch was stopped, or is at work, while it replaced the months of this"
            " folder: they may be of two runs; wait for it, or run the batch again"
        )
    return sorted(path.glob(MONTHS)) if path.is_dir() else [path]


def _maker(path: Path) -> str:
    """Who made the forecasts, as far as the files say it; one maker made all of them."""
    first, *others = _files(path)
    maker = _maker_of_file(first)
    for other in others:
        its = _maker_of_file(other)
        if its != maker:
            raise DataError(
                f"{path}: months of two makers, {first.name} by {maker or 'nobody named'} and"
                f" {other.name} by {its or 'nobody named'}: give each its own folder, or run the"
                " batch again"
            )
    return maker


def _maker_of_file(path: Path) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    if path.suffix != ".parquet":
        return ""
    try:
        metadata: dict[bytes, bytes] = parquet.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error
    return metadata.get(FORECASTER.encode(), b"").decode(errors="replace")


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return DataError(f"{path}: no file of forecasts: {reason}")


def _portions(path: Path) -> Generator[tuple[pd.DataFrame, int]]:
    """Numbers of a file in rows, a portion at a time, and how many each row of the file has."""
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    try:
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path) as file:
                columns, each = _layout(file.schema_arrow.names)
                for batch in file.iter_batches(ROWS // each, columns=list(columns)):
                    yield _in_rows(batch.to_pandas(ignore_metadata=True), each), each
        else:
            columns, each = _layout(pd.read_csv(path, nrows=0).columns)
            # NA is a ticker: only an empty cell is empty.
            with pd.read_csv(
                path,
                usecols=lambda name: name in columns,
                chunksize=ROWS // each,
                keep_default_na=False,
                na_values=[""],
            ) as reader:
                for frame in reader:
                    yield _in_rows(frame, each), each
    except (OSError, EOFError, zlib.error, pa.ArrowException, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error


def _layout(names: Iterable[str]) -> tuple[tuple[str, ...], int]:
    """(the columns to read of those that a file has, how many numbers each of its rows has)."""
    held = set(names)
    wide = "level" not in held and held.issuperset(LEVEL_NAMES)
    return (WIDE, len(LEVELS)) if wide else (COLUMNS, 1)


def _in_rows(frame: pd.DataFrame, each: int) -> pd.DataFrame:
    """A row for each number."""
    if each == 1:
        return frame
    missing = [name for name in COLUMNS[:3] if name not in frame]
    if missing:
        return frame
    repeated = frame[list(COLUMNS[:3])].loc[frame.index.repeat(each)].reset_index(drop=True)
    values = frame[list(LEVEL_NAMES)].to_numpy().ravel()
    return repeated.assign(level=np.tile(LEVELS, len(frame)), value=values)


@dataclass(frozen=True, slots=True)
class _Portion:
    """Numbers of a file in rows, in each of which every column has a value.

    rows: the columns of the module's format, and others.
    path: of the file.
    before: how many rows of the file precede these.
    each: numbers that a row of the file has.
    """

    rows: pd.DataFrame
    path: Path
    before: int
    each: int

    def __post_init__(self) -> None:
        missing = [name for name in COLUMNS if name not in self.rows]
        if missing:
            raise DataError(
                f"{self.path}: no file of forecasts: it has no column {missing[0]!r}; forecasts"
                f" have {', '.join(COLUMNS)}"
            )
        for column in COLUMNS:
            self.refuse(self.rows[column].isna().to_numpy(), f"{column} is empty")

    def refuse(self, bad: Mask, what: str) -> None:
        """Name the first bad row, if there is one; `what` may name its cells in braces."""
        if bad.any():
            row = first_row(bad)
            cells = {column: self.rows[column].iloc[row] for column in COLUMNS}
            number = self.before + row // self.each + 1
            raise DataError(f"{self.path}: row {number}: {what.format(**cells)}")

    def numbers(self, column: str) -> Array:
        """A column of numbers, [n]."""
        import pandas as pd

        numbers = pd.to_numeric(self.rows[column], errors="coerce").to_numpy(dtype=np.float64)
        self.refuse(np.isnan(numbers), f"{column} {{{column}!r}} is no number")
        return numbers

    def symbols(self, bars: Bars) -> Index:
        """Number of each row's symbol among those of the bars [n], -1 for another."""
        numbers = {symbol: number for number, symbol in enumerate(bars.symbols)}
        names = self.rows["symbol"].astype("category")
        of_category = [numbers.get(_symbol(name), -1) for name in names.cat.categories]
        return np.array([*of_category, -1])[names.cat.codes.to_numpy()]


def _fill(values: Array32, windows: Windows, bars: Bars, portion: _Portion) -> None:
    """Write a portion's rows into values [N, H, Q]; rows of other symbols or times are passed."""
    step = portion.numbers("step")
    level = portion.numbers("level")
    value = portion.numbers("value")
    portion.refuse(~np.isin(step, np.arange(1, HORIZON + 1)), f"step {{step}} is not 1 … {HORIZON}")
    nearest = np.abs(level[:, None] - np.array(LEVELS)).argmin(axis=1)
    off = np.abs(level - np.array(LEVELS)[nearest]) > 1e-6
    portion.refuse(off, "level {level} is none of the 21")
    portion.refuse(~((value > 1e-30) & (value < 1e30)), "value {value} is no price")
    window = _windows_of(portion, windows, bars)
    rows = np.flatnonzero(window >= 0)
    cell = np.ravel_multi_index(
        (window[rows], step[rows].astype(np.int64) - 1, nearest[rows]), values.shape
    )
    flat = values.reshape(-1)
    order = np.argsort(cell, kind="stable")
    twice = np.zeros(len(window), dtype=bool)
    twice[rows[order[1:]][np.diff(cell[order]) == 0]] = True
    twice[rows] |= np.isfinite(flat[cell])
    portion.refuse(twice, "{symbol} {issued_at}, step {step}, level {level} stands twice")
    flat[cell] = value[rows]


def _windows_of(portion: _Portion, windows: Windows, bars: Bars) -> Index:
    """Number of the window that each row's forecast was issued for [n], -1 where none is."""
    symbol = portion.symbols(bars)
    stamps = _issues(portion)
    inside = (symbol >= 0) & (stamps >= bars.times[0]) & (stamps <= bars.times[-1])
    window = np.full(len(stamps), -1)
    for number, slot in enumerate(windows.of_symbols()):
        rows = np.flatnonzero(inside & (symbol == number))
        ends = bars.real_bars(number)[0]
        off = np.zeros(len(stamps), dtype=bool)
        off[rows] = _places(ends, stamps[rows]) < 0
        if off.any():
            starts = started_at(bars.instruments[number].kind, ends)
            advice = _issue_advice(np.unique(stamps[rows]), starts, ends)
            portion.refuse(
                off, f"{{symbol}} has no bar that becomes known at {{issued_at}}{advice}"
            )
        place = _places(windows.issued_at[slot], stamps[rows])
        window[rows] = np.where(place < 0, -1, place + slot.start)
    return window


def _issues(portion: _Portion) -> Instants:
    """When the forecast of each number was issued, [n]."""
    column = portion.rows["issued_at"].iloc[:: portion.each]
    stamps = instants_of_column(column, str(portion.path), portion.before)
    return np.repeat(stamps, portion.each)


def _issue_advice(stamps: Instants, starts: Instants, ends: Instants) -> str:
    """What an issue is, in words, for stamps [n] of which one is no end of a bar.

    starts, ends: of the symbol's bars, [N].
    """
    is_start = np.isin(stamps, starts)
    is_end = np.isin(stamps, ends)
    bar = min(int(np.searchsorted(ends, stamps[~is_end][0])), len(ends) - 1)
    meaning = (
        f"a bar becomes known at its end, the one that starts at {utc_text(starts[bar])} at"
        f" {utc_text(ends[bar])}"
    )
    if is_start.sum() <= max(is_end.sum(), len(stamps) / 2):
        return f"; {meaning}"
    return (
        f"; {is_start.sum():,} of its {len(stamps):,} issued_at are starts of bars, and {meaning};"
        " write the ends"
    )


def _places(sorted_instants: Instants, stamps: Instants) -> Index:
    """Where each stamp stands among the instants, -1 where it does not."""
    if not len(sorted_instants):
        return np.full(len(stamps), -1)
    place = np.minimum(np.searchsorted(sorted_instants, stamps), len(sorted_instants) - 1)
    return np.where(sorted_instants[place] == stamps, place, -1)


def _symbol(name: object) -> str:
    try:
        return instrument(str(name)).symbol
    except InputError:
        return ""


def _check(values: Array32, windows: Windows, bars: Bars, path: Path) -> None:
    """Every step whole, steps without a gap, levels that do not fall, and prices of these bars."""
    counted = np.isfinite(values).sum(axis=2)
    there = counted > 0
    short = there.any(axis=1) & ~there.all(axis=1)
    with np.errstate(invalid="ignore"):
        width = np.log(values[..., -1] / values[..., 0])
        away = np.abs(np.log(values[..., MEDIAN] / windows.price[:, None]))
        far = (away > FAR * width + ROUNDING).any(axis=1)
        falling = (np.diff(values, axis=2) < 0).any(axis=(1, 2))
    partial = (there & (counted < len(LEVELS))).any(axis=1)
    for bad, what in (
        (partial, f"a step has fewer than the {len(LEVELS)} levels"),
        (short, f"a forecast has {HORIZON} steps, and this one lacks some"),
        (falling, "values fall along the levels"),
        (far, "prices are not those of the bars: are these adjusted for another split?"),
    ):
        if bad.any():
            number = first_row(np.asarray(bad))
            name = bars.symbols[int(windows.symbol[number])]
            at = utc_text(windows.issued_at[number])
            raise DataError(f"{path}: {name} issued at {at}: {what}")
