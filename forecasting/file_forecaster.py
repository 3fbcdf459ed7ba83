"""Forecasts from files: the output of a batch, or a user's forecasts in one of two forms.

A file is Parquet or CSV; a folder is read as all its files. Other columns are not read.

symbol: symbol, spelled as in the bars.
issued_at: instant of issue, at which a bar of the symbol becomes known, with a time zone or offset.

The simple form has a row per horizon:

horizon: number of the symbol's bars ahead, 1 … 24; a forecast has one or several.
mean, deviation: mean and standard deviation of the simple return from the close at `issued_at` to
    the close `horizon` bars later, as fractions.

Its quantiles are those of a normal distribution. Between horizons, mean and variance are linear in
the step, from 0 at issue. Beyond the last horizon the mean is constant, and the variance grows in
proportion to the step.

The quantile form has a row per quantile:

step: number of the symbol's bars ahead, 1 … 24; a forecast has all steps.
level: quantile level; a step has all 21 levels of Chronos-2 (0.01, 0.05, 0.1 … 0.9, 0.95, 0.99).
value: quantile of the bar's close in USD, nondecreasing along the levels.

A forecast is used from its issue on. The author of the file is responsible for using no later data.
The metadata of a batch's file name its forecaster. Reports show this name, so that an oracle's
forecasts remain marked as look-ahead. By default (`forecaster.calibrated=true`) medians are shrunk
to the skill that past forecasts have shown, which requires forecasts at every bar. With false,
forecasts are used unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from forecasting.forecast import (
    HORIZON,
    LEVELS,
    MEDIAN_INDEX,
    WINDOWS_PER_CHUNK,
    ForecastTable,
    Progress,
    empty_array,
    no_progress,
)
from forecasting.windows import Windows
from foundation.arrays import Array, Array32, Index, Instants, Mask, first_true_index
from foundation.errors import DataError, InputError
from foundation.files import file_digest
from trainingdata.bars import Bars
from trainingdata.instants import format_utc, parse_instant_column
from trainingdata.instruments import instrument

if TYPE_CHECKING:
    import pandas as pd
    from pyarrow import parquet

FORECASTER_METADATA_KEY = "forecaster"  # metadata key of the forecaster's name
QUANTILE_COLUMNS = ("symbol", "issued_at", "step", "level", "value")
SIMPLE_COLUMNS = ("symbol", "issued_at", "horizon", "mean", "deviation")
FORECAST_FILE_SUFFIX = ".parquet"  # of a batch's output
FORECAST_FILE_SUFFIXES = (FORECAST_FILE_SUFFIX, ".csv")
MAX_ROWS_PER_READ = 1_000_000  # rows of a portion
# Largest log distance of a median from the last close: a multiple of the step's width, from its
# lowest to its highest quantile, plus a tolerance. Prices beyond it are adjusted differently.
MAX_MEDIAN_MOVE_IN_WIDTHS = 3.0
MEDIAN_LOG_MOVE_TOL = 0.02
# Smallest quantile of the simple form relative to the last close: far beyond the last horizon, the
# normal distribution would reach prices below 0.
MIN_PRICE_RATIO = 0.01
_NORMAL_QUANTILES = np.array([NormalDist().inv_cdf(level) for level in LEVELS])


@dataclass(frozen=True, slots=True)
class FileForecaster:
    """A forecaster that reads forecasts from a file or a folder (see the module's docstring).

    path: path of the file or folder.
    """

    path: Path
    is_unsealed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not find_forecast_files(self.path):
            raise InputError(
                f"forecaster.path: {self.path} is a folder without forecasts; put"
                f" {' or '.join(FORECAST_FILE_SUFFIXES)} files there"
            )

    @property
    def name(self) -> str:
        return name_forecasts(self.path, find_forecast_files(self.path))

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Read the forecasts issued from `since` on, and each symbol's last forecast before it.

        Raises DataError for an invalid file, with the path, the row and the reason.
        """
        files = find_forecast_files(self.path)
        return build_table_from_rows(
            read_portions(files),
            bars,
            since,
            progress,
            name=self.name,
            path=self.path,
            digests=list(map(file_digest, files)),
        )


def find_forecast_files(path: Path, name: str = "forecaster.path") -> list[Path]:
    """Return the forecast files of a folder by name, or the file itself; hidden files are skipped.

    name: setting that names the path, for messages.

    Raises InputError for a path that does not exist, or that has another suffix.
    """
    if path.is_dir():
        return sorted(
            file
            for file in path.iterdir()
            if file.suffix.lower() in FORECAST_FILE_SUFFIXES
            and not file.name.startswith(".")
            and file.is_file()
        )
    if not path.is_file():
        raise InputError(f"{name}: {path} does not exist; name an existing file or folder")
    if path.suffix.lower() not in FORECAST_FILE_SUFFIXES:
        raise InputError(
            f"{name}: {path} is not a forecast file; its name must end in"
            f" {' or '.join(FORECAST_FILE_SUFFIXES)}"
        )
    return [path]


def name_forecasts(path: Path, files: Iterable[Path]) -> str:
    """Return the name of the forecasts in files of a path, with the forecasters that they name."""
    by = ", ".join(filter(None, dict.fromkeys(map(_read_forecaster_name, files))))
    return f"forecasts of {path.name}" + (f" by {by}" if by else "")


def build_table_from_rows(
    portions: Iterable[RowPortion],
    bars: Bars,
    since: np.datetime64 | Instants,
    progress: Progress = no_progress,
    *,
    name: str,
    path: Path,
    digests: Sequence[str],
    skip_invalid: bool = False,
) -> ForecastTable:
    """Build the table of the forecasts in rows of files.

    since: one instant for all symbols, or one per symbol, [S].
    name: name of the forecaster.
    path: path of the file or folder, for messages.
    digests: digests of the files.
    skip_invalid: whether to skip rows that repeat an earlier row, rows at which no bar closes, and
        forecasts with invalid quantiles, instead of rejecting them.

    Raises DataError for invalid rows, and if no row is a forecast of the panel.
    """
    windows = Windows.from_bars(bars, since, 1)
    cells = _ForecastCells.empty(windows)
    done = 0
    for portion in portions:
        cells.fill(bars, portion, skip_invalid=skip_invalid)
        done += len(portion.rows)
        progress("rows of forecasts read", done, done)
    _check_quantiles(cells.values, windows, bars, path, skip_invalid=skip_invalid)
    cells.expand_simple_form()
    values = cells.values
    there = np.flatnonzero(np.isfinite(values[:, 0, MEDIAN_INDEX]))
    if not len(there):
        raise DataError(
            f"{path}: contains no forecast for {', '.join(bars.symbols[:5])} issued"
            f" between {format_utc(np.min(since))} and {format_utc(bars.times[-1])}; choose"
            " another range or file"
        )
    if len(there) < len(windows):
        windows, values = windows.select(there), values[there]
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
    return ForecastTable.from_quantiles(name, bars, windows, values, source_digest=digest)


def _read_forecaster_name(path: Path) -> str:
    """Return the name of the forecaster in a Parquet file's metadata; empty without one."""
    if path.suffix.lower() != FORECAST_FILE_SUFFIX:
        return ""
    with _open_parquet(path) as file:
        metadata: dict[bytes, bytes] = file.metadata.metadata or {}
    return metadata.get(FORECASTER_METADATA_KEY.encode(), b"").decode(errors="replace")


@contextmanager
def _open_parquet(path: Path) -> Iterator[parquet.ParquetFile]:
    """Open a file of forecasts, during a `with` block.

    Raises DataError for a file that cannot be read.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{path}: not a valid forecast file: it is damaged or not in Parquet format; write it"
            " again"
        ) from error
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: not a valid forecast file: {reason}") from error


@dataclass(frozen=True, eq=False, slots=True)
class RowPortion:
    """A portion of the rows of one or several files; an empty cell raises DataError.

    rows: n rows; the index is the 0-based number of a row in its file.
    paths: paths of the files.
    file_index: index of each row's path, [n].
    """

    rows: pd.DataFrame
    paths: Sequence[Path]
    file_index: Index

    def __post_init__(self) -> None:
        for column in self.rows:
            self.raise_at_first(self.rows[column].isna().to_numpy(), f"{column} is empty")

    def raise_at_first(self, is_bad: Mask, reason: str) -> None:
        """Raise `DataError` for the first bad row; do nothing if there is none.

        is_bad: [n] true for bad rows.
        reason: text of the reason; the row's value of a column replaces `{column}`.
        """
        if is_bad.any():
            row = first_true_index(is_bad)
            held: dict[Any, Any] = self.rows.iloc[row].to_dict()
            raise DataError(
                f"{self.paths[self.file_index[row]]}: row {self.rows.index[row] + 1}:"
                f" {reason.format(**held)}"
            )

    def select(self, chosen: Mask) -> RowPortion:
        """Return the chosen rows; chosen: [n]."""
        return RowPortion(self.rows[chosen], self.paths, self.file_index[chosen])

    def float_column(self, column: str) -> Array:
        """Return a column as floats, [n].

        Raises DataError for a value that is not a number.
        """
        try:
            return self.rows[column].to_numpy(dtype=np.float64)
        except ValueError:
            import pandas as pd

            numbers = pd.to_numeric(self.rows[column], errors="coerce").isna().to_numpy()
            self.raise_at_first(numbers, f"{column} {{{column}!r}} is not a number")
            raise

    @property
    def is_simple(self) -> bool:
        """True if the rows are in the simple form."""
        return "horizon" in self.rows

    def issued_at(self) -> Instants:
        """Return the instant of issue of each row, [n]."""
        column = self.rows["issued_at"]
        try:
            return parse_instant_column(column, str(self.paths[0]), int(column.index[0]))
        except DataError:
            # The error names the file only if the file's rows are parsed alone.
            for number in np.unique(self.file_index):
                part = column[self.file_index == number]
                parse_instant_column(part, str(self.paths[number]), int(part.index[0]))
            raise

    def symbol_indices(self, bars: Bars) -> Index:
        """Return the panel index of each row's symbol, [n]; -1 for a symbol outside the panel."""
        numbers = {symbol: number for number, symbol in enumerate(bars.symbols)}
        names = self.rows["symbol"].astype("category")
        of_category = [numbers.get(_parse_symbol(name), -1) for name in names.cat.categories]
        return np.array([*of_category, -1])[names.cat.codes.to_numpy()]


def read_portions(paths: Iterable[Path]) -> Iterator[RowPortion]:
    """Yield the rows of files in portions that fit into memory.

    Consecutive small files with equal columns and types share a portion.

    Raises DataError for a file that cannot be read, or without a required column.
    """
    import pandas as pd

    parts: list[tuple[Path, pd.DataFrame]] = []
    count = 0
    for path in paths:
        frames = _read_csv if path.suffix.lower() == ".csv" else _read_parquet
        first = 0
        for rows in filter(len, frames(path)):
            # In rows with a field more than the header pandas takes the first one as the index.
            rows.index = pd.RangeIndex(first, first + len(rows))
            first += len(rows)
            fits = count + len(rows) <= MAX_ROWS_PER_READ
            if parts and not (fits and rows.dtypes.equals(parts[0][1].dtypes)):
                yield _join_rows(parts)
                parts, count = [], 0
            parts.append((path, rows))
            count += len(rows)
    if parts:
        yield _join_rows(parts)


def _join_rows(parts: Sequence[tuple[Path, pd.DataFrame]]) -> RowPortion:
    import pandas as pd

    paths, frames = zip(*parts, strict=True)
    file_index = np.repeat(np.arange(len(parts)), list(map(len, frames)))
    return RowPortion(pd.concat(frames), paths, file_index)


def _read_parquet(path: Path) -> Iterator[pd.DataFrame]:
    with _open_parquet(path) as file:
        columns = _required_columns(path, file.schema_arrow.names)
        for batch in file.iter_batches(MAX_ROWS_PER_READ, columns=list(columns)):
            yield batch.to_pandas(ignore_metadata=True)


def _read_csv(path: Path) -> Iterator[pd.DataFrame]:
    import pandas as pd

    try:
        with pd.read_csv(
            path,
            usecols=lambda name: name in {*SIMPLE_COLUMNS, *QUANTILE_COLUMNS},
            chunksize=MAX_ROWS_PER_READ,
            dtype={"symbol": str, "issued_at": str},
            skipinitialspace=True,
            keep_default_na=False,
            na_values=[""],
        ) as parts:
            for rows in parts:
                yield rows[list(_required_columns(path, rows.columns.tolist()))]
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{path}: not a valid forecast file: it is empty") from error
    except DataError:
        raise
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[0]
        raise DataError(f"{path}: not a valid forecast file: {reason}") from error


def _required_columns(path: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the form that a file has; raise `DataError` if one is missing."""
    is_quantile = not {"step", "level", "value"}.isdisjoint(names) and "horizon" not in names
    columns = QUANTILE_COLUMNS if is_quantile else SIMPLE_COLUMNS
    for missing in (name for name in columns if name not in names):
        raise DataError(
            f"{path}: not a valid forecast file: column {missing!r} is missing; required"
            f" columns: {', '.join(columns)}"
        )
    return columns


@dataclass(frozen=True, eq=False, slots=True)
class _ForecastCells:
    """The forecasts of N windows, which are filled in place; NaN where none has been read.

    windows: the windows.
    values: [N, H, Q] quantiles in USD.
    mean, deviation: [N, H] moments of the simple form, at its horizons.
    """

    windows: Windows
    values: Array32
    mean: Array32
    deviation: Array32

    @classmethod
    def empty(cls, windows: Windows) -> _ForecastCells:
        steps = (len(windows), HORIZON)
        cells = [empty_array(*shape) for shape in ((*steps, len(LEVELS)), steps, steps)]
        for each in cells:
            each[:] = np.nan
        return cls(windows, *cells)

    def fill(self, bars: Bars, portion: RowPortion, *, skip_invalid: bool) -> None:
        """Write a portion's rows into the cells of their windows.

        A row without a window is skipped; skip_invalid as in `build_table_from_rows`.
        """
        cells: tuple[Array32, ...] = (self.values,)
        other = self.mean  # cells of the form that the portion does not have
        if portion.is_simple:
            step, *columns = _check_simple_form(portion)
            cells, other = (self.mean, self.deviation), self.values[:, 0]
            place: tuple[Index, ...] = (step - 1,)
            what = "{symbol} {issued_at}, horizon {horizon} is listed twice"
        else:
            step, level, *columns = _check_quantile_form(portion)
            place = (step - 1, level)
            what = "{symbol} {issued_at}, step {step}, level {level} is listed twice"
        window = _find_windows(portion, self.windows, bars, skip_invalid=skip_invalid)
        rows = np.flatnonzero(window >= 0)
        cell = np.ravel_multi_index((window[rows], *(axis[rows] for axis in place)), cells[0].shape)
        order = np.argsort(cell, kind="stable")
        twice = np.zeros(len(window), dtype=bool)
        twice[rows[order[1:]][np.diff(cell[order]) == 0]] = True
        twice[rows] |= np.isfinite(cells[0].reshape(-1)[cell])
        twice[rows] |= np.isfinite(other[window[rows]]).any(axis=1)
        if not skip_invalid:
            portion.raise_at_first(twice, what)
        new = ~twice[rows]
        for into, column in zip(cells, columns, strict=True):
            into.reshape(-1)[cell[new]] = column[rows[new]]

    def expand_simple_form(self) -> None:
        """Write the quantiles of the forecasts in the simple form."""
        rows = np.flatnonzero(np.isfinite(self.mean).any(axis=1))
        for first in range(0, len(rows), WINDOWS_PER_CHUNK):
            part = rows[first : first + WINDOWS_PER_CHUNK]
            mean, deviation = interpolate_moments(self.mean[part], self.deviation[part])
            ratio = 1.0 + mean[..., None] + deviation[..., None] * _NORMAL_QUANTILES
            price = self.windows.price[part]
            self.values[part] = price[:, None, None] * np.maximum(ratio, MIN_PRICE_RATIO)


def interpolate_moments(mean: Array32, deviation: Array32) -> tuple[Array, Array]:
    """Return mean and deviation at every step, each [n, H], from those at some horizons.

    Mean and variance are linear in the step between horizons, from 0 at issue. Beyond the last
    horizon the mean is constant, and the variance grows in proportion to the step.

    mean, deviation: [n, H] moments; NaN at other steps. Each row has at least one horizon.
    """
    step = np.arange(1, HORIZON + 1)
    known = np.isfinite(mean)
    before = np.maximum.accumulate(np.where(known, step, 0), axis=1)
    after = np.where(known, step, HORIZON + 1)
    after = np.minimum.accumulate(after[:, ::-1], axis=1)[:, ::-1]
    is_beyond = after > HORIZON
    after = np.where(is_beyond, before, after)
    share = np.where(is_beyond | known, 1.0, (step - before) / np.maximum(after - before, 1))

    def interpolate(values: Array32) -> Array:
        padded = np.pad(np.nan_to_num(values.astype(np.float64)), ((0, 0), (1, 0)))
        low, high = (np.take_along_axis(padded, at, axis=1) for at in (before, after))
        return np.asarray(low + share * (high - low))

    growth = np.where(is_beyond, step / np.maximum(before, 1), 1.0)
    return interpolate(mean), np.sqrt(interpolate(deviation**2) * growth)


def check_rows(portion: RowPortion) -> None:
    """Raise `DataError` for a row that is invalid with any bars."""
    _check_simple_form(portion) if portion.is_simple else _check_quantile_form(portion)


def _check_simple_form(portion: RowPortion) -> tuple[Index, Array, Array]:
    """Return the columns horizon, mean and deviation of a portion; raise `DataError` if invalid."""
    horizon, mean, deviation = map(portion.float_column, SIMPLE_COLUMNS[2:])
    _check_steps(portion, "horizon", horizon)
    with np.errstate(invalid="ignore"):
        lowest = mean + _NORMAL_QUANTILES[0] * deviation
        for bad, what in (
            (~((deviation > 0) & (deviation < np.inf)), "deviation {deviation} is not above 0"),
            (
                ~((np.abs(mean) < 1) & (lowest > -1)),
                "mean {mean} or deviation {deviation} is too large for a return; write fractions"
                " (0.01 is 1 %)",
            ),
        ):
            portion.raise_at_first(bad, what)
    return horizon.astype(np.int64), mean, deviation


def _check_quantile_form(portion: RowPortion) -> tuple[Index, Index, Array]:
    """Return the step, the level's index and the value of each row of a portion.

    Raises DataError for an invalid row.
    """
    step, given, value = map(portion.float_column, QUANTILE_COLUMNS[2:])
    _check_steps(portion, "step", step)
    level = np.abs(given[:, None] - np.array(LEVELS)).argmin(axis=1)
    for bad, what in (
        (
            np.abs(given - np.array(LEVELS)[level]) > 1e-6,
            "level {level} is not one of the 21 quantile levels",
        ),
        (
            ~((value > 1e-30) & (value < 1e30)),
            "value {value} is not a price between 1e-30 and 1e+30",
        ),
    ):
        portion.raise_at_first(bad, what)
    return step.astype(np.int64), level, value


def _check_steps(portion: RowPortion, column: str, step: Array) -> None:
    bad = ~np.isin(step, np.arange(1, HORIZON + 1))
    portion.raise_at_first(bad, f"{column} {{{column}}} is outside 1 … {HORIZON}")


class RowMatches(NamedTuple):
    """Matches of forecast rows with the bars of a panel.

    matched: number of rows at which a bar of their symbol closes.
    unmatched: number of rows at which none closes; rows of the panel's symbols outside its period
        are in neither.
    absent_symbols: symbols of rows that the panel does not contain.
    """

    matched: int
    unmatched: int
    absent_symbols: frozenset[str]


def match_rows(portions: Iterable[RowPortion], bars: Bars) -> RowMatches:
    """Match rows with bars; raise `DataError` for a row that is invalid with any bars."""
    ends = [bars.bars_of_symbol(number)[0] for number in range(len(bars.symbols))]
    matched, unmatched = 0, 0
    absent: set[str] = set()
    for portion in portions:
        check_rows(portion)
        symbol, issued = portion.symbol_indices(bars), portion.issued_at()
        absent.update(portion.rows["symbol"][symbol < 0].astype(str))
        is_matched = np.zeros(len(issued), dtype=bool)
        for number in np.unique(symbol[symbol >= 0]):
            rows = symbol == number
            is_matched[rows] = _find_instants(ends[number], issued[rows]) >= 0
        is_outside = (symbol >= 0) & ((issued < bars.times[0]) | (issued > bars.times[-1]))
        matched += int(is_matched.sum())
        unmatched += int((~is_matched & ~is_outside).sum())
    return RowMatches(matched, unmatched, frozenset(absent))


def _find_windows(
    portion: RowPortion, windows: Windows, bars: Bars, *, skip_invalid: bool
) -> Index:
    """Return the index of each row's window, [n].

    It is -1 for a symbol outside the panel, and for an instant that has no window. Raises DataError
    if no bar of the symbol closes at the row's instant and such rows are not skipped.
    """
    symbol = portion.symbol_indices(bars)
    stamps = portion.issued_at()
    inside = (symbol >= 0) & (stamps >= bars.times[0]) & (stamps <= bars.times[-1])
    window = np.full(len(stamps), -1)
    for number, slot in enumerate(windows.slices_by_symbol()):
        rows = np.flatnonzero(inside & (symbol == number))
        if not len(rows):
            continue
        ends = bars.bars_of_symbol(number)[0]
        off = np.zeros(len(stamps), dtype=bool)
        off[rows] = _find_instants(ends, stamps[rows]) < 0
        if off.any() and not skip_invalid:
            reason = "{symbol} has no bar that closes at issued_at {issued_at}"
            portion.raise_at_first(off, reason)
        place = _find_instants(windows.issued_at[slot], stamps[rows])
        window[rows] = np.where(place < 0, -1, place + slot.start)
    return window


def _find_instants(sorted_instants: Instants, stamps: Instants) -> Index:
    """Return the position of each timestamp in the sorted instants; -1 if it is not among them."""
    if not len(sorted_instants):
        return np.full(len(stamps), -1)
    place = np.minimum(np.searchsorted(sorted_instants, stamps), len(sorted_instants) - 1)
    return np.where(sorted_instants[place] == stamps, place, -1)


def _parse_symbol(name: object) -> str:
    try:
        return instrument(str(name)).symbol
    except InputError:
        return ""


def _check_quantiles(
    values: Array32, windows: Windows, bars: Bars, path: Path, *, skip_invalid: bool
) -> None:
    """Check that steps and levels are complete and in order, and that prices fit the bars.

    Raises DataError, or (skip_invalid) removes the forecasts that fail.

    values: [N, H, Q] quantiles that were read.
    """
    level_counts = np.isfinite(values).sum(axis=2)
    there = level_counts > 0
    partial = there & (level_counts < len(LEVELS))
    short = there.any(axis=1) & ~there.all(axis=1)
    with np.errstate(invalid="ignore"):
        width = np.log(values[..., -1] / values[..., 0])
        away = np.abs(np.log(values[..., MEDIAN_INDEX] / windows.price[:, None]))
        far = (away > MAX_MEDIAN_MOVE_IN_WIDTHS * width + MEDIAN_LOG_MOVE_TOL).any(axis=1)
        falling = np.diff(values, axis=2) < 0
    for bad, what in (
        (partial.any(axis=1), f"step {{step}} has {{levels}} of the {len(LEVELS)} quantile levels"),
        (short, f"the forecast has {{steps}} of {HORIZON} steps"),
        (falling.any(axis=(1, 2)), "step {falling}: value falls from a quantile level to the next"),
        (far, "prices do not match the bars; use the bars that the forecasts were made from"),
    ):
        if skip_invalid:
            values[bad] = np.nan
        elif bad.any():
            number = first_true_index(np.asarray(bad))
            step = int(partial[number].argmax())
            fault = what.format(
                step=step + 1,
                levels=level_counts[number, step],
                steps=there[number].sum(),
                falling=int(falling[number].any(axis=1).argmax()) + 1,
            )
            name = bars.symbols[int(windows.symbol_index[number])]
            at = format_utc(windows.issued_at[number])
            raise DataError(f"{path}: {name} issued at {at}: {fault}")
