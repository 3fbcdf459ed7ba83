"""Forecasts that stand in a file: those of the batch job, or one's own in its format.

The file is Parquet or CSV (`.csv`, `.csv.gz`) with the columns symbol, issued_at, step, level and
value, a row for each number; other columns are not read.

symbol: as in the bars.
issued_at: an instant at which a bar of the symbol becomes known, with its zone or offset.
step: each of the 24 own bars ahead.
level: all 21 of Chronos-2 (0.01, 0.05, 0.1 … 0.9, 0.95, 0.99) for each step.
value: the close of that bar in USD at that level, not falling along the levels.

A forecast says when it was issued and is not read before; that it was made from nothing later is
what its maker answers for. `forecaster.calibrated` is true here as everywhere: a centre counts as
far as it has proven itself, which takes a history of forecasts at every bar; false takes forecasts
as they are.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from forecasting.forecast import HORIZON, LEVELS, MEDIAN, ForecastTable, Progress, silent
from forecasting.windows import Windows
from foundation.arrays import Array32, Index, Instants
from foundation.errors import DataError, InputError
from trainingdata.bars import Bars
from trainingdata.instants import utc_text
from trainingdata.instruments import instrument

if TYPE_CHECKING:
    import pandas as pd

_ZONE = re.compile(r"\d\d(Z|[+-]\d\d:?\d\d)$")
COLUMNS = ("symbol", "issued_at", "step", "level", "value")
ENDINGS = (".parquet", ".csv", ".csv.gz")
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
        if not self.path.is_file():
            what = "it is a folder" if self.path.is_dir() else "there is no such file"
            raise InputError(f"forecaster.path: {self.path}: {what}")
        if not self.path.name.endswith(ENDINGS):
            raise InputError(f"forecaster.path: {self.path}: ends in none of {', '.join(ENDINGS)}")

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"forecasts of {self.path.name}"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """What the file holds for bars of the panel known from `since` on, and the last before.

        Raises
        ------
        DataError
            naming the file, the row and what is wrong with it.
        """
        windows = Windows.of(bars, since, 1)
        values = np.full((len(windows), HORIZON, len(LEVELS)), np.nan, dtype=np.float32)
        rows = 0
        with closing(_portions(self.path)) as portions:
            for portion in portions:
                _fill(values, windows, bars, portion, f"{self.path}: row {rows + 1}")
                rows += len(portion)
                progress("rows of forecasts read", rows, rows)
        there = np.flatnonzero(np.isfinite(values[:, 0, MEDIAN]))
        _check(values, windows, bars, self.path)
        if not len(there):
            raise DataError(
                f"{self.path}: holds no forecast of {', '.join(bars.symbols[:5])} issued between"
                f" {utc_text(np.min(since))} and {utc_text(bars.times[-1])}"
            )
        kept = values[there]

        def answer(numbers: Index) -> Array32:
            return kept[numbers]

        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]
        return ForecastTable.of(self.name, bars, windows.part(there), answer, source=digest)


def _portions(path: Path) -> Generator[pd.DataFrame]:
    """The rows of a file, a portion at a time."""
    import pandas as pd
    import pyarrow as pa
    from pyarrow import parquet

    columns = list(COLUMNS)
    try:
        if path.suffix == ".parquet":
            with parquet.ParquetFile(path) as file:
                rows = 0
                for batch in file.iter_batches(ROWS, columns=columns):
                    yield _whole(batch.to_pandas(ignore_metadata=True), path, rows)
                    rows += batch.num_rows
        else:
            rows = 0
            # NA is a ticker: only an empty cell is empty.
            with pd.read_csv(
                path, usecols=columns, chunksize=ROWS, keep_default_na=False, na_values=[""]
            ) as reader:
                for portion in reader:
                    yield _whole(portion, path, rows)
                    rows += len(portion)
    except (OSError, EOFError, zlib.error, pa.ArrowException, ValueError, KeyError) as error:
        if isinstance(error, DataError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: no file of forecasts: {reason}") from error


def _whole(portion: pd.DataFrame, path: Path, rows: int) -> pd.DataFrame:
    """A portion after `rows` others, with every column and a value in each of its cells."""
    missing = [name for name in COLUMNS if name not in portion]
    if missing:
        raise DataError(
            f"{path}: has no column {missing[0]!r}; forecasts have {', '.join(COLUMNS)}"
        )
    empty = portion[list(COLUMNS)].isna()
    if empty.to_numpy().any():
        row, column = np.argwhere(empty.to_numpy())[0]
        raise DataError(f"{path}: row {rows + row + 1}: {COLUMNS[column]} is empty")
    return portion


def _fill(values: Array32, windows: Windows, bars: Bars, portion: pd.DataFrame, place: str) -> None:
    """Write a portion's rows into values [N, H, Q]; rows of other symbols or times are passed."""
    import pandas as pd

    where = place.rsplit(" ", 1)
    first = int(where[1])

    def refuse(bad: npt.NDArray[np.bool_], what: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            cells = {column: portion[column].iloc[row] for column in COLUMNS}
            raise DataError(f"{where[0]} {first + row}: {what.format(**cells)}")

    numbers = {symbol: number for number, symbol in enumerate(bars.symbols)}
    names = portion["symbol"].astype("category")
    of_category = [numbers.get(_symbol(name), -1) for name in names.cat.categories]
    symbol = np.array([*of_category, -1])[names.cat.codes.to_numpy()]
    step = _numbers(portion, "step", refuse)
    level = _numbers(portion, "level", refuse)
    value = _numbers(portion, "value", refuse)
    refuse(~np.isin(step, np.arange(1, HORIZON + 1)), f"step {{step}} is not 1 … {HORIZON}")
    nearest = np.abs(level[:, None] - np.array(LEVELS)).argmin(axis=1)
    refuse(np.abs(level - np.array(LEVELS)[nearest]) > 1e-6, "level {level} is none of the 21")
    refuse(~((value > 1e-30) & (value < 1e30)), "value {value} is no price")
    refuse(~_zoned(portion["issued_at"]), "issued_at {issued_at} has no zone: UTC would be a guess")
    try:
        stamps = pd.to_datetime(portion["issued_at"], utc=True).to_numpy(dtype="datetime64[ns]")
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{where[0]} {first}: issued_at: {reason}") from error
    inside = (symbol >= 0) & (stamps >= bars.times[0]) & (stamps <= bars.times[-1])
    window = np.full(len(portion), -1)
    for number, slot in enumerate(windows.of_symbols()):
        rows = np.flatnonzero(inside & (symbol == number))
        known = bars.real_bars(number)[0]
        at = np.minimum(np.searchsorted(known, stamps[rows]), len(known) - 1)
        off = np.zeros(len(portion), dtype=bool)
        off[rows] = known[at] != stamps[rows] if len(known) else True
        refuse(off, "{symbol} has no bar that becomes known at {issued_at}")
        issued = windows.issued_at[slot]
        if len(issued):
            position = np.minimum(np.searchsorted(issued, stamps[rows]), len(issued) - 1)
            hit = issued[position] == stamps[rows]
            window[rows[hit]] = position[hit] + slot.start
    rows = np.flatnonzero(window >= 0)
    cell = np.ravel_multi_index(
        (window[rows], step[rows].astype(np.int64) - 1, nearest[rows]), values.shape
    )
    order = np.argsort(cell, kind="stable")
    twice = np.zeros(len(portion), dtype=bool)
    twice[rows[order[1:]][np.diff(cell[order]) == 0]] = True
    flat = values.reshape(-1)
    twice[rows] |= np.isfinite(flat[cell])
    refuse(twice, "{symbol} {issued_at}, step {step}, level {level} stands twice")
    flat[cell] = value[rows]


def _zoned(stamps: pd.Series) -> npt.NDArray[np.bool_]:
    """Whether each instant says its zone or offset."""
    import pandas as pd

    if isinstance(stamps.dtype, pd.DatetimeTZDtype):
        return np.ones(len(stamps), dtype=bool)
    zoned = {stamp: _ZONE.search(str(stamp)) is not None for stamp in stamps.unique()}
    return stamps.map(zoned).to_numpy(dtype=bool)


def _symbol(name: object) -> str:
    try:
        return instrument(str(name)).symbol
    except InputError:
        return ""


def _numbers(portion: pd.DataFrame, column: str, refuse: Any) -> npt.NDArray[np.float64]:
    import pandas as pd

    numbers = pd.to_numeric(portion[column], errors="coerce").to_numpy(dtype=np.float64)
    refuse(np.isnan(numbers), f"{column} {{{column}!r}} is no number")
    return numbers


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
            number = int(np.flatnonzero(bad)[0])
            name = bars.symbols[int(windows.symbol[number])]
            at = utc_text(windows.issued_at[number])
            raise DataError(f"{path}: {name} issued at {at}: {what}")
