"""Price frames of a weight replay, per symbol or per field, aligned to the rows of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants
from foundation.errors import InputError, list_choices
from trainingdata.instants import Dates, four_pm, new_york_date

FILLED_FIELD, MARKED_FIELD = "open", "close"  # a fill's price, and a mark
PRICE_FIELDS = (FILLED_FIELD, MARKED_FIELD)
BarFrames = Mapping[str, pd.DataFrame] | pd.DataFrame


@dataclass(frozen=True, eq=False, slots=True)
class AlignedFrames:
    """Weights and prices on the same T rows and S columns.

    index: [T] index of the rows, in the time zone of the weights.
    at: [T] UTC instant of each row; 16:00 New York for rows that are days.
    dates: [T] New York date of each row; the written date for rows that are days.
    weights: [T, S] weights; NaN on rows without weights.
    opens, closes: [T, S] prices, USD; NaN without a bar.
    """

    index: pd.DatetimeIndex
    at: Instants
    dates: Dates
    weights: Array
    opens: Array
    closes: Array


def align_frames(weights: pd.DataFrame, bars: BarFrames) -> AlignedFrames:
    """Align weights with the prices of their symbols, from the first row of weights on.

    bars: frames `open` and `close` with a column per symbol, or a frame per symbol with columns
        `open` and `close`, in any case; or one frame with both as two levels of columns. A single
        symbol needs only its frame.

    Raises InputError for missing frames, rows without bars, and stamps without a time zone.
    """
    if len(weights) == 0:
        raise InputError("weights: there are no rows")
    frames = _frames_by_field(bars, weights.columns)
    given = weights.index
    rows, is_daily = _standard_index(given, "weights")
    index = rows
    target = _float_values("weights", weights)
    if not all(frame.index.equals(given) for frame in frames.values()):
        stamps, bars_daily = _standard_index(frames[FILLED_FIELD].index, "bars")
        if bars_daily != is_daily:
            kind = {True: "days", False: "instants"}
            raise InputError(
                f"weights: the rows are {kind[is_daily]}, those of the bars {kind[bars_daily]}"
            )
        places = stamps.get_indexer(rows)
        if (places < 0).any():
            first = given[int(np.argmax(places < 0))]
            raise InputError(
                f"weights: {first} has no bar; weights stand at rows of the bars, such as"
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
        raise InputError("weights: a weight must be finite, or NaN")
    if is_daily:
        dates = index.to_numpy("datetime64[D]")
        at = four_pm(dates)
    else:
        at = index.tz_localize(None).to_numpy("datetime64[ns]")
        dates = new_york_date(at)
    assert isinstance(given, pd.DatetimeIndex)
    if given.tz is not None:
        index = index.tz_localize(given.tz) if is_daily else index.tz_convert(given.tz)
    return AlignedFrames(index, at, dates, target, opens, closes)


def _frames_by_field(bars: BarFrames, columns: pd.Index) -> dict[str, pd.DataFrame]:
    """Return the frames of `PRICE_FIELDS` on one index, with these columns."""
    frames = _named_frames(bars, columns)
    if any(_has_fields(frame) for frame in frames.values()):
        return _merged_symbols(frames, columns)
    fields = {str(key).casefold(): frame for key, frame in frames.items()}
    for name in PRICE_FIELDS:
        if name not in fields:
            raise InputError(
                f"bars: {name!r} is missing; got {', '.join(map(str, bars)) or 'none'}"
            )
        missing = [str(each) for each in columns if each not in fields[name].columns]
        if missing:
            raise InputError(f"bars[{name!r}]: no column for {list_choices(missing)}")
        if not fields[name].columns.equals(columns):
            fields[name] = fields[name][columns.to_list()]
    if not fields[MARKED_FIELD].index.equals(fields[FILLED_FIELD].index):
        raise InputError(f"bars[{MARKED_FIELD!r}]: its index is not that of bars[{FILLED_FIELD!r}]")
    return {name: fields[name] for name in PRICE_FIELDS}


def _named_frames(bars: BarFrames, columns: pd.Index) -> Mapping[str, pd.DataFrame]:
    """Return frames by symbol or by field; one frame is split by its first level of columns."""
    if not isinstance(bars, pd.DataFrame):
        for key, frame in bars.items():
            if not isinstance(frame, pd.DataFrame):
                kind = type(frame).__name__
                raise InputError(f"bars[{key!r}]: a DataFrame is needed; it is {kind}")
        return bars
    if bars.columns.nlevels == 2:
        return {str(key): bars.loc[:, [key]].droplevel(0, axis=1) for key in bars.columns.unique(0)}
    if len(columns) > 1:
        raise InputError(
            f"bars: one frame for {len(columns)} symbols; give a frame per symbol, or frames"
            " open and close with a column per symbol"
        )
    return {columns[0]: bars}


def _has_fields(frame: pd.DataFrame) -> bool:
    return {*PRICE_FIELDS} <= {str(column).casefold() for column in frame.columns}


def _merged_symbols(
    frames: Mapping[str, pd.DataFrame], columns: pd.Index
) -> dict[str, pd.DataFrame]:
    """Merge a frame per symbol into a frame per field over the union of their rows."""
    found: dict[str, dict[str, pd.Series]] = {name: {} for name in PRICE_FIELDS}
    kinds: dict[bool, str] = {}
    for symbol in columns:
        if symbol not in frames:
            have = list_choices([str(each) for each in frames])
            raise InputError(f"bars: no frame for {symbol}; there are frames for {have}")
        frame = frames[symbol]
        if not _has_fields(frame):
            have = list_choices([str(each) for each in frame.columns])
            raise InputError(f"bars[{symbol!r}]: open and close are needed; it has {have}")
        index, is_daily = _standard_index(frame.index, f"bars[{symbol!r}]")
        kinds[is_daily] = str(symbol)
        by_name = {str(column).casefold(): column for column in frame.columns}
        for name in PRICE_FIELDS:
            found[name][symbol] = frame[by_name[name]].set_axis(index)
    if len(kinds) > 1:
        raise InputError(f"bars: the rows of {kinds[True]} are days, those of {kinds[False]} not")
    return {
        name: pd.concat(series, axis=1, sort=True)[columns.to_list()]
        for name, series in found.items()
    }


def _standard_index(index: pd.Index, name: str) -> tuple[pd.DatetimeIndex, bool]:
    """Return an index as naive dates if all its stamps are midnight, else in UTC; and whether so.

    Raises InputError for stamps that do not increase, or have a time but no time zone.
    """
    if not isinstance(index, pd.DatetimeIndex) or not (
        index.is_monotonic_increasing and index.is_unique and not index.hasnans
    ):
        raise InputError(f"{name}: the index must be instants that increase (a DatetimeIndex)")
    # Midnight in the index's own zone: libraries stamp days so, in New York, UTC or without a zone.
    local = index.tz_localize(None)
    if bool((local == local.normalize()).all()):
        return local, True
    if index.tz is None:
        raise InputError(
            f"{name}: {index[0]} has a time but no time zone; state it with"
            " .tz_localize('America/New_York') or .tz_localize('UTC')"
        )
    return index.tz_convert("UTC"), False


def _prices(name: str, frame: pd.DataFrame) -> Array:
    """Return the values [T, S] of a price frame."""
    values = _float_values(f"bars[{name!r}]", frame)
    if (values <= 0).any() or (values == np.inf).any():
        raise InputError(f"bars[{name!r}]: a price must be above 0 and finite")
    return values


def _float_values(name: str, frame: pd.DataFrame) -> Array:
    try:
        values = np.ascontiguousarray(frame.to_numpy(dtype=np.float64)).view()
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error
    # Some frames return writable arrays and some do not, and the loop would be compiled for both.
    values.flags.writeable = False
    return values
