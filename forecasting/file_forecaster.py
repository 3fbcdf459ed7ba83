"""Forecasts from a file: the output of a batch, or a user's file in the same format.

The file is Parquet, with the columns symbol, issued_at, step, level and value, one row per
quantile; other columns are not read.

symbol: symbol, spelled as in the bars.
issued_at: instant of issue, at which a bar of the symbol becomes known, with a time zone or offset.
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

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from forecasting.forecast import (
    HORIZON,
    LEVELS,
    MEDIAN_INDEX,
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
REQUIRED_COLUMNS = ("symbol", "issued_at", "step", "level", "value")
FORECAST_FILE_SUFFIX = ".parquet"
MAX_ROWS_PER_READ = 1_000_000  # rows of a file in memory at a time
# Largest log distance of a median from the last close: a multiple of the step's width, from its
# lowest to its highest quantile, plus a tolerance. Prices beyond it are adjusted differently.
MAX_MEDIAN_MOVE_IN_WIDTHS = 3.0
MEDIAN_LOG_MOVE_TOL = 0.02


@dataclass(frozen=True, slots=True)
class FileForecaster:
    """A forecaster that reads a Parquet file of forecasts (see the module's docstring).

    path: path of the file.
    """

    path: Path

    def __post_init__(self) -> None:
        if not self.path.is_file():
            raise InputError(f"forecaster.path: {self.path} does not exist; name an existing file")
        if not self.path.name.endswith(FORECAST_FILE_SUFFIX):
            raise InputError(
                f"forecaster.path: {self.path} is not a forecast file; its name must end in"
                f" {FORECAST_FILE_SUFFIX}"
            )

    @property
    def name(self) -> str:
        with _open_parquet(self.path) as file:
            metadata: dict[bytes, bytes] = file.metadata.metadata or {}
        maker = metadata.get(FORECASTER_METADATA_KEY.encode(), b"").decode(errors="replace")
        by = f" by {maker}" if maker else ""
        return f"forecasts of {self.path.name}{by}"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Read the forecasts issued from `since` on, and each symbol's last forecast before it.

        Raises DataError for an invalid file, with the path, the row and the reason.
        """
        name = self.name
        windows = Windows.from_bars(bars, since, 1)
        values = empty_array(len(windows), HORIZON, len(LEVELS))
        values[:] = np.nan
        for portion in _portions(self.path):
            _fill(values, windows, bars, portion)
            done = portion.preceding_rows + len(portion.rows)
            progress("rows of forecasts read", done, done)
        there = np.flatnonzero(np.isfinite(values[:, 0, MEDIAN_INDEX]))
        _check(values, windows, bars, self.path)
        if not len(there):
            raise DataError(
                f"{self.path}: contains no forecast for {', '.join(bars.symbols[:5])} issued"
                f" between {format_utc(np.min(since))} and {format_utc(bars.times[-1])}; choose"
                " another range or file"
            )
        source = file_digest(self.path)[:16]
        if len(there) < len(windows):
            windows, values = windows.select(there), values[there]
        return ForecastTable.from_quantiles(name, bars, windows, values, source_digest=source)


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


@dataclass(frozen=True, slots=True)
class _RowPortion:
    """A portion of a file's rows; an empty cell raises DataError.

    rows: the rows.
    path: path of the file.
    preceding_rows: number of preceding rows in the file.
    """

    rows: pd.DataFrame
    path: Path
    preceding_rows: int

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
                f"{self.path}: row {self.preceding_rows + row + 1}: {reason.format(**held)}"
            )

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

    def symbol_indices(self, bars: Bars) -> Index:
        """Return the panel index of each row's symbol, [n]; -1 for a symbol outside the panel."""
        numbers = {symbol: number for number, symbol in enumerate(bars.symbols)}
        names = self.rows["symbol"].astype("category")
        of_category = [numbers.get(_parse_symbol(name), -1) for name in names.cat.categories]
        return np.array([*of_category, -1])[names.cat.codes.to_numpy()]


def _portions(path: Path) -> Iterator[_RowPortion]:
    """Yield the rows of a file in portions that fit into memory."""
    with _open_parquet(path) as file:
        for missing in (name for name in REQUIRED_COLUMNS if name not in file.schema_arrow.names):
            raise DataError(
                f"{path}: not a valid forecast file: column {missing!r} is missing; required"
                f" columns: {', '.join(REQUIRED_COLUMNS)}"
            )
        before = 0
        for batch in file.iter_batches(MAX_ROWS_PER_READ, columns=list(REQUIRED_COLUMNS)):
            rows = batch.to_pandas(ignore_metadata=True)
            yield _RowPortion(rows, path, before)
            before += len(rows)


def _fill(values: Array32, windows: Windows, bars: Bars, portion: _RowPortion) -> None:
    """Write the values of a portion's rows into the quantiles of their windows.

    A row without a window is skipped.

    values: [N, H, Q] quantiles, written in place.
    """
    step, given, value = (portion.float_column(name) for name in ("step", "level", "value"))
    level = np.abs(given[:, None] - np.array(LEVELS)).argmin(axis=1)
    for bad, what in (
        (~np.isin(step, np.arange(1, HORIZON + 1)), f"step {{step}} is outside 1 … {HORIZON}"),
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
    window = _find_windows(portion, windows, bars)
    rows = np.flatnonzero(window >= 0)
    place = window[rows], step[rows].astype(np.int64) - 1, level[rows]
    cell = np.ravel_multi_index(place, values.shape)
    flat = values.reshape(-1)
    order = np.argsort(cell, kind="stable")
    twice = np.zeros(len(window), dtype=bool)
    twice[rows[order[1:]][np.diff(cell[order]) == 0]] = True
    twice[rows] |= np.isfinite(flat[cell])
    portion.raise_at_first(
        twice, "{symbol} {issued_at}, step {step}, level {level} is listed twice"
    )
    flat[cell] = value[rows]


def _find_windows(portion: _RowPortion, windows: Windows, bars: Bars) -> Index:
    """Return the index of each row's window, [n].

    It is -1 for a symbol outside the panel, and for an instant that has no window. Raises DataError
    if no bar of the symbol closes at the row's instant.
    """
    symbol = portion.symbol_indices(bars)
    column = portion.rows["issued_at"]
    stamps = parse_instant_column(column, str(portion.path), portion.preceding_rows)
    inside = (symbol >= 0) & (stamps >= bars.times[0]) & (stamps <= bars.times[-1])
    window = np.full(len(stamps), -1)
    for number, slot in enumerate(windows.slices_by_symbol()):
        rows = np.flatnonzero(inside & (symbol == number))
        ends = bars.bars_of_symbol(number)[0]
        off = np.zeros(len(stamps), dtype=bool)
        off[rows] = _find_instants(ends, stamps[rows]) < 0
        if off.any():
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


def _check(values: Array32, windows: Windows, bars: Bars, path: Path) -> None:
    """Check that all steps and levels are present, in order, and that prices fit the bars.

    Raises DataError.

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
        if bad.any():
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
