"""Tables of bars as people have them: which column is which, and what each row's stamp means."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from foundation.arrays import Array, Index, Instants, first_row
from foundation.counts import counted
from foundation.errors import DataError, InputError, in_one_line
from trainingdata.bars import FIELDS, Origin, check_bars, regular_bars
from trainingdata.instants import REFUSED, Unzoned, cell_text, instants_of_column, utc_text
from trainingdata.instruments import Instrument, Kind, data_symbol
from trainingdata.resampling import PARTS, hours_of, usual_minutes
from trainingdata.sessions import stock_grid
from trainingdata.stamp_checks import refuse_misread

# Headings of the column that says when a bar starts.
STAMPS = ("timestamp", "datetime", "date", "time")
# Headings of the column that says which symbol a row is of.
SYMBOLS = ("symbol", "ticker", "sym", "instrument", "pair", "asset")
ADJUSTED_CLOSE = ("adj close", "adj_close", "adjclose", "adjusted close")

# Units of numbers that count since 1970, to a second; their values from 1990 to 2199 share none.
_UNITS = {"s": 1, "ms": 10**3, "µs": 10**6, "ns": 10**9}
_SECONDS = (631_152_000, 7_258_118_400)
_COUNT = re.compile(r"\d{9,19}(\.0*)?")
_BARE_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]00:00(:00)?)?")
_OFFSET = re.compile(r"[+-]\d{2}:?\d{2}$")
_HOUR = np.timedelta64(1, "h")
_NEARLY_ALL = 0.9
_LOOKED_AT = 100  # first rows, for the order of all
_ON_ANY_CLOCK = Unzoned("UTC")  # an order shows without the zone
_REPEATED = 0.2  # of the stamps: more than a slip
_NEARLY_A_DAY = np.timedelta64(20, "h")

_DAILY = (
    "daily bars: forecasts, trading and correlations here need bars of an hour or less (1 to 60"
    " minutes); of daily files only a volatility index is read (bars.vix, options.vix)"
)


def heading(name: object) -> str:
    """A column's heading as it is looked up: in small letters, without blanks around it."""
    return str(name).strip().lower()


def stamp_column(names: Sequence[str], path: str) -> str:
    """Which of a table's headings says when a bar starts, all fields being there as well.

    Raises
    ------
    DataError
        where one is missing, or there is more than one.
    """
    found = [name for name in STAMPS if name in names]
    has = in_one_line(", ".join(names))
    if not found:
        raise DataError(
            f"{path}: no column says when a bar starts ({', '.join(STAMPS)}); it has {has};"
            " the first line has to hold the headings, with commas, semicolons, tabs or | between"
            " them"
        )
    if len(found) > 1 and "timestamp" not in found:
        raise DataError(
            f"{path}: columns {' and '.join(map(repr, found))} both say when; make them one,"
            " timestamp"
        )
    missing = [name for name in FIELDS if name not in names]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing; it has {has}")
    for name in (found[0], *FIELDS):
        if names.count(name) > 1:
            raise DataError(f"{path}: column {name!r} is there twice; keep one")
    return found[0]


def read_table(
    frame: pd.DataFrame, item: Instrument, path: str, unzoned: Unzoned = REFUSED
) -> tuple[Instants, Array, Origin]:
    """Known-at instants [N] and values [N, 5] of hours, and how they stood in the table.

    frame: headings as `heading` gives them.
    path: where the table is from, for messages.
    unzoned: what stamps without a zone mean.

    Raises
    ------
    DataError
        for anything in it that cannot be trusted.
    """
    name = stamp_column(list(frame.columns), path)
    if frame.empty:
        raise DataError(f"{path}: the file holds no bars")
    place = path
    notes = _symbol_notes(frame, item, path)
    if _newest_first(frame[name]):
        frame = frame.iloc[::-1]
        place = f"{path} (newest first: rows are counted from the last)"
        notes.append("rows stand newest first and are read from the last on")
    starts, zone = _starts(frame[name], place, unzoned)
    _refuse_repeats(starts, name, place)
    _refuse_coarse(starts, path)
    values = _read_values(place, frame)
    minutes = usual_minutes(starts)
    if item.kind is Kind.STOCK and minutes in (*PARTS, 60):
        refuse_misread(starts, minutes, zone, unzoned, path)
    notes += _stamp_notes(frame, name, starts, unzoned)
    notes += [f"{column} is ignored" for column in ADJUSTED_CLOSE if column in frame.columns]
    outside = 0
    if minutes in PARTS:
        check_bars(starts, values, place)
        hours = hours_of(starts, values, item.kind, minutes, place)
        times, bars = hours.times, hours.values
        outside = hours.outside
        notes.append(f"{minutes}-minute bars are put together to hours")
        if hours.lacking:
            verb = "lacks" if hours.lacking == 1 else "lack"
            notes.append(f"{hours.lacking:,} of {counted(len(times), 'hour')} {verb} some of them")
        if hours.cut:
            cut = counted(hours.cut, "hour")
            notes.append(f"left out: {cut} in which the file begins or ends")
    else:
        minutes = 60
        times, bars = regular_bars(starts, values, item, place)
        outside = len(starts) - len(times)
    if outside:
        notes.append(f"left out: {counted(outside, 'row')} outside regular New York hours")
        if zone == unzoned.zone and item.kind is Kind.STOCK:
            _refuse_wrong_zone(times, unzoned, outside, path)
    return times, bars, Origin(path, zone, minutes, tuple(notes))


def _symbol_notes(frame: pd.DataFrame, item: Instrument, path: str) -> list[str]:
    """That a table names another symbol than its file does; one of several symbols is refused."""
    notes = []
    for column in SYMBOLS:
        if list(frame.columns).count(column) != 1:
            continue
        held = sorted({str(cell).strip() for cell in frame[column].dropna().unique()})
        if len(held) > 1:
            raise DataError(
                f"{path}: its column {column!r} holds {len(held):,} symbols,"
                f" {cell_text(held[0])} and {cell_text(held[1])}{' …' if len(held) > 2 else ''};"
                " one file a symbol: split it by that column into files named after the symbols,"
                " as NVDA.csv or BTCUSD.csv"
            )
        if held and not _means(held[0], item):
            named = f"column {column} says {cell_text(held[0])}"
            notes.append(f"{named}, the bars are taken for {item.symbol} as the file is called")
    return notes


def _means(name: str, item: Instrument) -> bool:
    """Whether a symbol in a table is that of an instrument, a coin without its dollar, too."""
    if item.symbol == f"{name.upper()}USD":
        return True
    try:
        return item.symbol == data_symbol(name)
    except InputError:
        return False


def _newest_first(column: pd.Series) -> bool:
    """Whether nearly all of a table's first rows start before the row above."""
    try:
        starts, _ = _starts(column.iloc[:_LOOKED_AT], "", _ON_ANY_CLOCK)
    except DataError:
        return False
    back = np.diff(starts) < np.timedelta64(0)
    return bool(back.sum() > _NEARLY_ALL * len(back))


def _stamp_notes(frame: pd.DataFrame, name: str, starts: Instants, unzoned: Unzoned) -> list[str]:
    """Which column the starts are from, where another one might say when, and says otherwise."""
    others = [other for other in STAMPS if other != name and other in frame.columns]
    ignored = [other for other in others if not _says(frame[other], starts, unzoned)]
    return [f"{other} is ignored, {name} says when bars start" for other in ignored]


def _says(column: pd.Series, starts: Instants, unzoned: Unzoned) -> bool:
    try:
        return bool(np.array_equal(_starts(column, "", unzoned)[0], starts))
    except DataError:
        return False


def _refuse_repeats(starts: Instants, name: str, path: str) -> None:
    """Refuse rows of which many start with another: they are of several symbols.

    name: of their column.
    """
    again = pd.Series(starts).duplicated().to_numpy()
    if again.sum() <= max(2, _REPEATED * len(starts)):
        return
    row = first_row(again)
    raise DataError(
        f"{path}: row {row + 1}: {name} {utc_text(starts[row])} repeats, as {again.sum():,} of"
        f" {len(starts):,} do: rows of several symbols, or the same twice; one file a symbol, split"
        " it into files named after the symbols, as NVDA.csv or BTCUSD.csv"
    )


def _starts(column: pd.Series, path: str, unzoned: Unzoned) -> tuple[Instants, str]:
    """When each bar starts, [N], and the zone of the stamps in words."""
    text = pd.api.types.is_string_dtype(column) or column.dtype == object
    first = str(column.iloc[0]).strip()
    if pd.api.types.is_numeric_dtype(column) or (text and _COUNT.fullmatch(first)):
        return _counted(column, path)
    bare = [_BARE_DATE.fullmatch(str(value).strip()) for value in column.iloc[:3]]
    if len(bare) == 3 and all(bare):
        raise DataError(f"{path}: {_DAILY}")
    starts = instants_of_column(column, path, unzoned=unzoned)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return starts, str(column.dtype.tz)
    offset = _OFFSET.search(first[10:])
    if text and first.upper().endswith("Z"):
        return starts, "UTC"
    if text and offset is not None:
        return starts, "UTC" if set(offset[0]) <= set("+-0:") else offset[0]
    return starts, str(unzoned.zone)


def _counted(column: pd.Series, path: str) -> tuple[Instants, str]:
    """Instants [N] of counts since the epoch, 1970, and their unit in words."""
    numbers = pd.to_numeric(column, errors="coerce")
    exact = numbers.astype("Int64") if pd.api.types.is_integer_dtype(numbers) else numbers
    first = exact.iloc[0]
    unit = next(
        (
            name
            for name, scale in _UNITS.items()
            if pd.notna(first) and _SECONDS[0] * scale <= first < _SECONDS[1] * scale
        ),
        "s",
    )
    scale = _UNITS[unit]
    fits = exact.between(_SECONDS[0] * scale, _SECONDS[1] * scale, inclusive="left")
    fits &= exact % 1 == 0
    right = fits.fillna(False).to_numpy(dtype=bool)
    if not right.all():
        row = first_row(~right)
        raise DataError(
            f"{path}: row {row + 1}: {column.name} {cell_text(column.iloc[row])} is no date and"
            f" time, and no count of {unit} since 1970; write it as 2024-10-01T13:30Z"
        )
    counts: Index = np.asarray(exact, dtype=np.int64)
    return (counts * (10**9 // scale)).view("datetime64[ns]"), f"UTC, epoch {unit}"


def _refuse_coarse(starts: Instants, path: str) -> None:
    """Refuse bars that are all more than an hour apart: those of a coin would pass for hours."""
    if len(starts) < 3:
        return
    least = np.diff(starts).min()
    if least >= _NEARLY_A_DAY:
        raise DataError(f"{path}: {_DAILY}")
    if least > _HOUR:
        minutes = int(least / np.timedelta64(1, "m"))
        raise DataError(
            f"{path}: its bars are {minutes} minutes apart and more; bars of"
            f" {', '.join(map(str, PARTS))} or 60 minutes can be used"
        )


def _refuse_wrong_zone(times: Instants, unzoned: Unzoned, outside: int, path: str) -> None:
    """Refuse sessions none of which has its first bar, or none its last: the clock is another's."""
    grid = stock_grid()
    k = np.searchsorted(grid.ends, times)
    if len(np.unique(grid.session[k])) < 2:
        return
    if np.isin(grid.starts[k], grid.opens).any() and np.isin(times, grid.closes).any():
        return
    verb = "lies" if outside == 1 else "lie"
    raise DataError(
        f"{path}: read on the clock of {unzoned.zone}, {counted(outside, 'row')} {verb} outside"
        " New York's sessions and none opens or none closes one; correct"
        f" {unzoned.setting or 'the zone'}"
    )


def _read_values(path: str, frame: pd.DataFrame) -> Array:
    """Open, high, low, close and volume, [N, 5] float64, finite."""
    columns = []
    for name in FIELDS:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        column = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        finite = np.isfinite(column)
        # True and false would pass for 1 and 0.
        if not finite.all() or pd.api.types.is_bool_dtype(frame[name]):
            row = 0 if finite.all() else first_row(~finite)
            value = frame[name].iloc[row]
            raise DataError(
                f"{path}: row {row + 1}: {name} is {cell_text(value)}, not a number"
                f"{_cell_advice(value)}"
            )
        columns.append(column)
    return np.stack(columns, axis=1)


def _cell_advice(value: object) -> str:
    """What to do about a cell that is no number."""
    if isinstance(value, str) and re.search(r"\d", value):
        return "; write plain numbers, a decimal point and nothing between thousands, 1234.5"
    if isinstance(value, bool | np.bool_):
        return ""
    return "; leave the row out where there was no trade, a missing bar is counted as a gap"
