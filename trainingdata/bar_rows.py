"""What the rows of a symbol say: when each of its bars became known, and its prices and volume."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants, first_row
from foundation.counts import counted
from foundation.errors import DataError
from trainingdata.bars import FIELDS, Origin, check_bars, regular_bars, row_fault
from trainingdata.heads import Head
from trainingdata.instants import Unzoned, cell_text, instants_of_column
from trainingdata.instruments import Instrument, Kind
from trainingdata.resampling import PARTS, hours_of, usual_minutes
from trainingdata.sessions import stock_grid
from trainingdata.stamp_checks import Reading, begun_at, refuse_misread

_OFFSET = re.compile(r"[+-]\d{2}:?\d{2}$")
_HOUR = np.timedelta64(1, "h")
_NEARLY_A_DAY = np.timedelta64(20, "h")
_DAILY = (
    "daily bars: forecasts, trading and correlations here need bars of an hour or less (1 to 60"
    " minutes); of daily files only a volatility index is read (bars.vix, options.vix)"
)


def bars_of_rows(
    frame: pd.DataFrame, head: Head, item: Instrument, path: str, unzoned: Unzoned
) -> tuple[Instants, Array, Origin]:
    """Known-at instants [N] and values [N, 5] of hours, and how they stood in the file.

    frame: the rows of the symbol, with the head's columns.
    path: where they are from, for messages.
    unzoned: what stamps without a zone mean where the head does not say it.

    Raises DataError for anything in them that cannot be trusted.
    """
    if frame.empty:
        raise DataError(f"{path}: the file holds no bars")
    if head.daily:
        raise DataError(f"{path}: {_DAILY}")
    unzoned = Unzoned(head.zone) if head.zone else unzoned
    stamps, zone = _instants(frame, head, path, unzoned)
    values = _values(frame, head, path)
    check_bars(stamps, values, path)
    _refuse_coarse(stamps, path)
    # Rows mostly two hours apart are hours with holes: no bar is longer than an hour here.
    minutes = usual if (usual := usual_minutes(stamps)) in PARTS else 60
    starts = begun_at(item.kind, stamps, minutes) if head.ends else stamps
    if item.kind is Kind.STOCK:
        refuse_misread(stamps, Reading(minutes, zone, ends=head.ends), unzoned, path)
    notes = [f"{head.adjusted} is ignored"] if head.adjusted in frame.columns else []
    outside = 0
    if minutes in PARTS:
        hours = hours_of(starts, values, item.kind, minutes, path)
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
        times, bars = regular_bars(starts, values, item, path)
        outside = len(starts) - len(times)
    if outside:
        notes.append(f"left out: {counted(outside, 'row')} outside regular New York hours")
        if zone == unzoned.zone and item.kind is Kind.STOCK:
            _refuse_wrong_zone(times, unzoned, outside, path)
    return times, bars, Origin(path, zone, minutes, tuple(notes), ends=head.ends)


def _instants(frame: pd.DataFrame, head: Head, path: str, unzoned: Unzoned) -> tuple[Instants, str]:
    """When the stamps [N] are, and their zone in words."""
    column = frame[head.stamp[0]]
    for name in head.stamp[1:]:
        column = (column + " " + frame[name]).rename(f"{column.name} {name}")
    if head.epochs:
        return _counted(column, head, path)
    if head.form:
        parsed = pd.to_datetime(column, format=head.form, errors="coerce")
        column = parsed.dt.strftime("%Y-%m-%d %H:%M:%S").where(parsed.notna(), column)
    instants = instants_of_column(column, path, unzoned=unzoned)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return instants, str(column.dtype.tz)
    first = str(column.iloc[0]).strip().upper()
    offset = _OFFSET.search(first[10:])
    if first.endswith("Z") or (offset and set(offset[0]) <= set("+-0:")):
        return instants, "UTC"
    return instants, offset[0] if offset else str(unzoned.zone)


def _counted(column: pd.Series, head: Head, path: str) -> tuple[Instants, str]:
    """Instants [N] of counts since 1970 in the units of the head, and the unit in words."""
    numbers = pd.to_numeric(column, errors="coerce")
    exact = numbers.astype("Int64") if pd.api.types.is_integer_dtype(numbers) else numbers
    times: Instants = np.full(len(column), np.datetime64("NaT", "ns"))
    unit = head.epochs[0].unit
    for epoch in head.epochs:
        first, last = epoch.bounds
        fits = (exact.between(first, last, inclusive="left") & (exact % 1 == 0)).fillna(False)
        rows = fits.to_numpy(dtype=bool)
        if rows.any():
            counts = np.asarray(exact[rows], dtype=np.int64)
            times[rows] = counts.astype(f"datetime64[{epoch.unit}]")
            unit = epoch.unit
    if np.isnat(times).any():
        row = first_row(np.isnat(times))
        units = " or ".join(
            f"{epoch.unit} (from {epoch.since} to {epoch.until})" for epoch in head.epochs
        )
        raise row_fault(
            path,
            row,
            f"{column.name} {cell_text(column.iloc[row])} is no count of {units} since 1970, as"
            f" {head.vendor} writes it",
        )
    return times, f"UTC, epoch {unit}"


def _refuse_coarse(stamps: Instants, path: str) -> None:
    """Refuse bars that are all more than an hour apart: those of a coin would pass for hours."""
    if len(stamps) < 3:
        return
    least = np.diff(stamps).min()
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


def _values(frame: pd.DataFrame, head: Head, path: str) -> Array:
    """Open, high, low, close and volume, [N, 5] float64, finite."""
    columns = []
    for field, name in zip(FIELDS, head.fields, strict=True):
        numbers = pd.to_numeric(frame[name], errors="coerce")
        column = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
        finite = np.isfinite(column)
        # True and false would pass for 1 and 0.
        if not finite.all() or pd.api.types.is_bool_dtype(frame[name]):
            row = 0 if finite.all() else first_row(~finite)
            raise row_fault(
                path,
                row,
                f"{field} is {cell_text(frame[name].iloc[row])}, not a number; write plain"
                " numbers, 1234.5, and leave a row out where there was no trade",
            )
        columns.append(column)
    return np.stack(columns, axis=1)
