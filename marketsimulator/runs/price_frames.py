"""Price frames of a weight replay, per symbol or per field, aligned with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants, Mask
from foundation.errors import InputError, format_choices
from trainingdata.instants import Dates, new_york_date, new_york_four_pm
from trainingdata.stamp_checks import infer_stamps_are_ends

PRICE_FIELDS = ("open", "close")  # the price of a fill, and of a mark
BarFrames = Mapping[str, pd.DataFrame] | pd.DataFrame


@dataclass(frozen=True, eq=False, slots=True)
class AlignedFrames:
    """Weights and prices on the same T rows and S columns.

    index: [T] index of the rows, in the time zone of the weights.
    instants: [T] UTC instant at which each row ends; 16:00 New York for daily rows.
    dates: [T] New York date of each row; the date of the index for daily rows.
    weights: [T, S] weights; NaN on rows without weights.
    opens, closes: [T, S] prices, USD; NaN without a bar.
    """

    index: pd.DatetimeIndex
    instants: Instants
    dates: Dates
    weights: Array
    opens: Array
    closes: Array


def align_frames(weights: pd.DataFrame, bars: BarFrames, is_stock: Mask) -> AlignedFrames:
    """Align weights with the prices of their symbols, from the first row of weights on.

    bars: frames `open` and `close` with a column per symbol; a frame per symbol with columns `open`
        and `close`, in any case; or one frame with both as two levels of columns. For a single
        symbol, its frame.
    is_stock: [S] whether each column is a stock; sessions of stocks show whether timestamps are
        begins or ends of bars.

    Raises InputError for missing frames, rows without bars, and times without a time zone.
    """
    if len(weights) == 0:
        raise InputError("weights: no rows; give at least one")
    frames = _frames_by_field(bars, weights.columns)
    original = weights.index
    rows, is_daily = _standard_index(original, "weights")
    index = rows
    target = _float_values("weights", weights)
    if not all(frame.index.equals(original) for frame in frames.values()):
        stamps, bars_daily = _standard_index(frames["open"].index, "bars")
        if bars_daily != is_daily:
            kinds = {True: "days", False: "times of day"}
            raise InputError(
                f"weights: the index has {kinds[is_daily]}, but that of bars has"
                f" {kinds[bars_daily]}; index both by the same bars"
            )
        places = stamps.get_indexer(rows)
        if (places < 0).any():
            first = original[int(np.argmax(places < 0))]
            raise InputError(
                f"weights: no bar at {first}; use timestamps of the bars, such as"
                f" {stamps[min(int(stamps.searchsorted(rows[0])), len(stamps) - 1)]}"
            )
        begin = int(places[0])
        index = stamps[begin:]
        spread = np.full((len(index), target.shape[1]), np.nan)
        spread[places - begin] = target
        spread.flags.writeable = False
        target = spread
        frames = {name: frame.iloc[begin:] for name, frame in frames.items()}
    opens, closes = (_prices(name, frames[name]) for name in PRICE_FIELDS)
    if np.isinf(target).any():
        row, column = np.argwhere(np.isinf(target))[0]
        raise InputError(
            f"weights: {weights.columns[column]} at {index[row]} is {target[row, column]:g}; use a"
            " finite weight, or NaN to keep the position"
        )
    if is_daily:
        dates = index.to_numpy("datetime64[D]")
        at = new_york_four_pm(dates)
    else:
        row_stamps = index.tz_localize(None).to_numpy("datetime64[ns]")
        dates = new_york_date(row_stamps)
        at = _row_ends(row_stamps, dates, np.asarray(np.isfinite(closes[:, is_stock]).any(axis=1)))
    assert isinstance(original, pd.DatetimeIndex)
    if original.tz is not None:
        index = index.tz_localize(original.tz) if is_daily else index.tz_convert(original.tz)
    return AlignedFrames(index, at, dates, target, opens, closes)


def _row_ends(stamps: Instants, dates: Dates, has_stock: Mask) -> Instants:
    """Return the instant at which each row ends, [T].

    Timestamps are begins of bars, unless those of stocks fit the exchange calendar only as ends. A
    row that begins before 16:00 New York ends at 16:00 at the latest.

    dates: [T] New York date of each row.
    has_stock: [T] whether a stock has a bar.
    """
    if len(stamps) < 2 or infer_stamps_are_ends(stamps[has_stock]):
        return stamps
    four_pm = new_york_four_pm(dates)
    ends = stamps + np.diff(stamps).min()
    return np.asarray(np.where(stamps < four_pm, np.minimum(ends, four_pm), ends))


def _frames_by_field(bars: BarFrames, columns: pd.Index) -> dict[str, pd.DataFrame]:
    """Return the frames by field on one index, with these columns."""
    frames = _frames_by_name(bars, columns)
    if any(_has_fields(frame) for frame in frames.values()):
        return _merge_symbols(frames, columns)
    fields = {str(key).casefold(): frame for key, frame in frames.items()}
    for name in PRICE_FIELDS:
        if name not in fields:
            known = format_choices(list(map(str, bars)))
            fault = f"no frame {name!r}{f' among {known}' if known else ', because it is empty'}"
            raise InputError(f"bars: {fault}; give frames open and close, or a frame per symbol")
        missing = [str(each) for each in columns if each not in fields[name].columns]
        if missing:
            raise InputError(
                f"bars[{name!r}]: no column for {format_choices(missing)}; add it or drop its"
                " weights"
            )
        if not fields[name].columns.equals(columns):
            fields[name] = fields[name][columns.to_list()]
    if not fields["close"].index.equals(fields["open"].index):
        raise InputError("bars['close']: its index differs from that of bars['open']; align them")
    return {name: fields[name] for name in PRICE_FIELDS}


def _frames_by_name(bars: BarFrames, columns: pd.Index) -> Mapping[str, pd.DataFrame]:
    """Return frames by symbol or by field; one frame is split by its first level of columns."""
    if not isinstance(bars, pd.DataFrame):
        if not isinstance(bars, Mapping):
            raise InputError(
                f"bars: expected a mapping of names to frames, got {type(bars).__name__}"
            )
        for key, frame in bars.items():
            if not isinstance(frame, pd.DataFrame):
                raise InputError(f"bars[{key!r}]: expected a DataFrame, got {type(frame).__name__}")
        return bars
    if bars.columns.nlevels == 2:
        return {str(key): bars.loc[:, [key]].droplevel(0, axis=1) for key in bars.columns.unique(0)}
    if len(columns) > 1:
        raise InputError(
            f"bars: one frame for {len(columns)} symbols; give a frame per symbol, or frames open"
            " and close with a column per symbol"
        )
    return {columns[0]: bars}


def _has_fields(frame: pd.DataFrame) -> bool:
    return {*PRICE_FIELDS} <= {str(column).casefold() for column in frame.columns}


def _merge_symbols(
    frames: Mapping[str, pd.DataFrame], columns: pd.Index
) -> dict[str, pd.DataFrame]:
    """Merge a frame per symbol into a frame per field over the union of their rows."""
    prices: dict[str, dict[str, pd.Series]] = {name: {} for name in PRICE_FIELDS}
    kinds: dict[bool, str] = {}  # is_daily → a symbol
    for symbol in columns:
        if symbol not in frames:
            known = format_choices([str(each) for each in frames])
            raise InputError(f"bars: no frame for {symbol}, only for {known}; add it")
        frame = frames[symbol]
        if not _has_fields(frame):
            known = format_choices([str(each) for each in frame.columns])
            raise InputError(f"bars[{symbol!r}]: has {known}, but needs columns open and close")
        index, is_daily = _standard_index(frame.index, f"bars[{symbol!r}]")
        kinds[is_daily] = str(symbol)
        by_name = {str(column).casefold(): column for column in frame.columns}
        for name in PRICE_FIELDS:
            prices[name][symbol] = frame[by_name[name]].set_axis(index)
    if len(kinds) > 1:
        raise InputError(
            f"bars: the index of {kinds[True]} has days, that of {kinds[False]} has times of day;"
            " give all symbols the same timeframe"
        )
    return {
        name: pd.concat(series, axis=1, sort=True)[columns.to_list()]
        for name, series in prices.items()
    }


def _standard_index(index: pd.Index, name: str) -> tuple[pd.DatetimeIndex, bool]:
    """Return an index and whether it is daily: naive dates if all stamps are midnight, else UTC.

    Raises InputError for stamps that do not increase, or have a time but no time zone.
    """
    if not isinstance(index, pd.DatetimeIndex):
        raise InputError(f"{name}: expected a DatetimeIndex, got {type(index).__name__}")
    if index.hasnans:
        raise InputError(f"{name}: the index contains NaT; remove its rows")
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise InputError(f"{name}: the index contains {twice} twice; keep one row")
    if not index.is_monotonic_increasing:
        raise InputError(f"{name}: the index is not in time order; use .sort_index()")
    # Libraries stamp days at midnight of New York, of UTC, or without a zone.
    local = index.tz_localize(None)
    if bool((local == local.normalize()).all()):
        return local, True
    if index.tz is None:
        raise InputError(
            f"{name}: {index[0]} has a time but no time zone; set it by"
            " .tz_localize('America/New_York') or .tz_localize('UTC')"
        )
    return index.tz_convert("UTC"), False


def _prices(name: str, frame: pd.DataFrame) -> Array:
    """Return the values [T, S] of a price frame."""
    values = _float_values(f"bars[{name!r}]", frame)
    wrong = (values <= 0) | (values == np.inf)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            f"bars[{name!r}]: {frame.columns[column]} at {frame.index[row]} is"
            f" {values[row, column]:g}; a price must be above 0 and finite"
        )
    return values


def _float_values(name: str, frame: pd.DataFrame) -> Array:
    try:
        values = np.ascontiguousarray(frame.to_numpy(dtype=np.float64)).view()
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error
    # Only some frames return writable arrays; the loop would be compiled for both kinds.
    values.flags.writeable = False
    return values
