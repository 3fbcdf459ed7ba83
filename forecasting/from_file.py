"""Forecasts that stand in a file: those of the batch job, or one's own in its format.

The file is Parquet, or a folder with a Parquet file for each month. It has the columns symbol,
issued_at, step, level and value, a row for each number, or a column for each level (`0.01` …
`0.99`) instead of the last two; other columns are not read.

symbol: as in the bars.
issued_at: an instant at which a bar of the symbol becomes known, with its zone or offset.
step: each of the 24 own bars ahead.
level: all 21 of Chronos-2 (0.01, 0.05, 0.1 … 0.9, 0.95, 0.99) for each step.
value: the close of that bar in USD at that level, not falling along the levels.

A forecast says when it was issued and is not read before; that it was made from nothing later is
what its maker answers for. Who that was stands in the metadata of the batch job's files, and
reports say it: an oracle's forecasts stay an oracle's. `forecaster.calibrated` is true here as
everywhere: a median counts as far as it has proven itself, which takes a history of forecasts at
every bar; false takes forecasts as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forecasting.forecast import HORIZON, LEVELS, MEDIAN, ForecastTable, Progress, room, silent
from forecasting.windows import Windows
from foundation.arrays import Array, Array32, Index, Instants, Mask, first_row
from foundation.errors import DataError, InputError
from foundation.files import file_digest
from trainingdata.bars import Bars
from trainingdata.instants import instants_of_column, utc_text
from trainingdata.instruments import instrument

if TYPE_CHECKING:
    import pandas as pd
    from pyarrow import parquet

FORECASTER = "forecaster"  # key of a Parquet file's metadata: who made the forecasts
COLUMNS = ("symbol", "issued_at", "step", "level", "value")
ENDING = ".parquet"
MONTHS = "[0-9][0-9][0-9][0-9]-[0-9][0-9].parquet"  # the files of a folder
UNFINISHED = ".unfinished"  # in a folder whose months are being replaced, or were when killed
LEVEL_NAMES = tuple(str(level) for level in LEVELS)
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
        if self.path.is_file() and not self.path.name.endswith(ENDING):
            raise InputError(f"forecaster.path: {self.path}: does not end in {ENDING}")

    @property
    def name(self) -> str:
        maker = _maker(self.path)
        by = f" by {maker}" if maker else ""
        return f"forecasts of {self.path.name}{by}"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """What the file holds for bars of the panel known from `since` on, and the last before.

        Raises DataError naming the file, the row and what is wrong with it.
        """
        name = self.name
        windows = Windows.of(bars, since, 1)
        values = room(len(windows), HORIZON, len(LEVELS))
        values[:] = np.nan
        done = 0
        for path in _files(self.path):
            for portion in _portions(path):
                _fill(values, windows, bars, portion)
                done += len(portion.rows)
                progress("rows of forecasts read", done, done)
        there = np.flatnonzero(np.isfinite(values[:, 0, MEDIAN]))
        _check(values, windows, bars, self.path)
        if not len(there):
            raise DataError(
                f"{self.path}: holds no forecast of {', '.join(bars.symbols[:5])} issued between"
                f" {utc_text(np.min(since))} and {utc_text(bars.times[-1])}"
            )
        source = content_digest(self.path)[:16]
        if len(there) < len(windows):
            windows, values = windows.part(there), values[there]
        return ForecastTable.of(name, bars, windows, values, source=source)


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
    with _opened(path) as file:
        metadata: dict[bytes, bytes] = file.metadata.metadata or {}
    return metadata.get(FORECASTER.encode(), b"").decode(errors="replace")


@contextmanager
def _opened(path: Path) -> Iterator[parquet.ParquetFile]:
    """A file of forecasts; what cannot be read of it is an error that names it."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: no file of forecasts: {reason}") from error


@dataclass(frozen=True, slots=True)
class _Portion:
    """Rows of a file, in each of which every column has a value.

    rows: symbol, issued_at, step, and `values`.
    path: of the file.
    before: how many rows of the file precede these.
    values: columns of numbers: of each level, or `value` alone, whose level another one holds.
    """

    rows: pd.DataFrame
    path: Path
    before: int
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        for column in self.rows:
            self.refuse(self.rows[column].isna().to_numpy(), f"{column} is empty")

    def refuse(self, bad: Mask, what: str, **cells: Array) -> None:
        """Name the first bad row, if there is one; `what` may name its cells in braces."""
        if bad.any():
            row = first_row(bad)
            held: dict[Any, Any] = self.rows.iloc[row].to_dict()
            held |= {name: column[row] for name, column in cells.items()}
            said = what.format(**held)
            raise DataError(f"{self.path}: row {self.before + row + 1}: {said}")

    def numbers(self, *columns: str) -> Array:
        """Columns of numbers, [n, K]."""
        try:
            return self.rows[list(columns)].to_numpy(dtype=np.float64)
        except ValueError as error:
            raise DataError(f"{self.path}: {', '.join(columns)}: {error}") from error

    def symbols(self, bars: Bars) -> Index:
        """Number of each row's symbol among those of the bars [n], -1 for another."""
        numbers = {symbol: number for number, symbol in enumerate(bars.symbols)}
        names = self.rows["symbol"].astype("category")
        of_category = [numbers.get(_symbol(name), -1) for name in names.cat.categories]
        return np.array([*of_category, -1])[names.cat.codes.to_numpy()]


def _portions(path: Path) -> Iterator[_Portion]:
    """The rows of a file, so many at a time as are held in memory."""
    with _opened(path) as file:
        held = set(file.schema_arrow.names)
        wide = "level" not in held and held.issuperset(LEVEL_NAMES)
        columns = [*COLUMNS[:3], *(LEVEL_NAMES if wide else COLUMNS[3:])]
        for missing in (name for name in columns if name not in held):
            raise DataError(
                f"{path}: no file of forecasts: it has no column {missing!r}; forecasts have"
                f" {', '.join(COLUMNS)}"
            )
        before = 0
        values = LEVEL_NAMES if wide else ("value",)
        for batch in file.iter_batches(ROWS // len(values), columns=columns):
            rows = batch.to_pandas(ignore_metadata=True)
            yield _Portion(rows, path, before, values)
            before += len(rows)


def _fill(values: Array32, windows: Windows, bars: Bars, portion: _Portion) -> None:
    """Write a portion's rows into values [N, H, Q]; rows of other symbols or times are passed."""
    step = portion.numbers("step")[:, 0]
    value = portion.numbers(*portion.values)
    portion.refuse(~np.isin(step, np.arange(1, HORIZON + 1)), f"step {{step}} is not 1 … {HORIZON}")
    level = np.arange(len(LEVELS))[None]
    if len(portion.values) == 1:
        given = portion.numbers("level")
        level = np.abs(given - np.array(LEVELS)).argmin(axis=1)[:, None]
        off = np.abs(given - np.array(LEVELS)[level]) > 1e-6
        portion.refuse(off[:, 0], "level {level} is none of the 21")
    for prices in value.T:
        odd = ~((prices > 1e-30) & (prices < 1e30))
        portion.refuse(odd, "value {value} is no price", value=prices)
    window = _windows_of(portion, windows, bars)
    rows = np.flatnonzero(window >= 0)
    place = window[rows, None], step[rows, None].astype(np.int64) - 1, level[rows % len(level)]
    cell = np.ravel_multi_index(np.broadcast_arrays(*place), values.shape)
    flat = values.reshape(-1)
    order = np.argsort(cell[:, 0], kind="stable")
    twice = np.zeros(len(window), dtype=bool)
    twice[rows[order[1:]][np.diff(cell[order, 0]) == 0]] = True
    twice[rows] |= np.isfinite(flat[cell[:, 0]])
    of_level = ", level {level}" if len(portion.values) == 1 else ""
    portion.refuse(twice, f"{{symbol}} {{issued_at}}, step {{step}}{of_level} stands twice")
    flat[cell] = value[rows]


def _windows_of(portion: _Portion, windows: Windows, bars: Bars) -> Index:
    """Number of the window that each row's forecast was issued for [n], -1 where none is."""
    symbol = portion.symbols(bars)
    column = portion.rows["issued_at"]
    stamps = instants_of_column(column, str(portion.path), portion.before)
    inside = (symbol >= 0) & (stamps >= bars.times[0]) & (stamps <= bars.times[-1])
    window = np.full(len(stamps), -1)
    for number, slot in enumerate(windows.of_symbols()):
        rows = np.flatnonzero(inside & (symbol == number))
        ends = bars.real_bars(number)[0]
        off = np.zeros(len(stamps), dtype=bool)
        off[rows] = _places(ends, stamps[rows]) < 0
        if off.any():
            says = "{symbol} has no bar that becomes known at {issued_at}, as one does at its end"
            portion.refuse(off, says)
        place = _places(windows.issued_at[slot], stamps[rows])
        window[rows] = np.where(place < 0, -1, place + slot.start)
    return window


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
