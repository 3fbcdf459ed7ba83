"""Parsing of timestamps from cells: dates, times with or without a zone, and epoch numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast, get_args

import numpy as np
import pandas as pd

from foundation.arrays import Instants, first_true_index
from foundation.errors import DataError
from foundation.formatting import format_count
from trainingdata.bars import row_error
from trainingdata.conventions import EpochUnit
from trainingdata.file_formats import DATE_FORMATS, EpochFormat, FileFormat
from trainingdata.instants import format_cell, format_utc, parse_instant_column

_OFFSET = re.compile(r"[+-]\d{2}:?\d{2}$")
_DATE = r"\d{4}-\d{2}-\d{2}"
_DATE_AT_MIDNIGHT = rf"{_DATE}(?:[ T]00:00(?::00(?:\.0+)?)?)?"
_COMPACT = r"(?:19|20)\d{6}"
_TIME = r"\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?"
_EPOCH_NUMBER = r"\d{6,}(?:\.0+)?"
_ZONE_ADVICE = ", or set the time zone: data.zone=America/New_York"


def parse_timestamp_cells(
    frame: pd.DataFrame,
    file_format: FileFormat,
    path: str,
    naive_zone: str | None,
    epoch: EpochUnit | None,
) -> tuple[Instants, str, bool]:
    """Return the instants of the timestamps [N], their zone as text, and whether they are dates.

    frame: the rows, with the columns of the header.
    file_format: format of the file.
    path: path of the file, for messages.
    naive_zone: time zone of timestamps without one; None: such timestamps are rejected.
    epoch: unit of epoch timestamps that the user states, or None.

    Raises DataError for a cell that is no instant, or whose unit, zone or date order is unknown.
    """
    column = _hyphenate_dates(_stamp_column(frame, file_format, path))
    # Vendors with epochs may also write ISO text (Databento).
    if file_format.epoch_formats and not re.match(_DATE, str(column.iloc[0])):
        units = [each.unit for each in file_format.epoch_formats]
        if epoch is not None and epoch not in units:
            raise DataError(
                f"{path}: data.epoch={epoch} contradicts the header (format {file_format.vendor}),"
                f" where column {column.name} counts {' or '.join(units)}; remove the setting, or"
                " rename the column to time"
            )
        return *_parse_epochs(
            column, file_format.epoch_formats, path, f"format {file_format.vendor}"
        ), False
    if _are_epoch_numbers(column):
        if epoch is None:
            raise _missing_unit_error(column, path)
        return *_parse_epochs(column, [EpochFormat(epoch)], path, f"data.epoch={epoch}"), False
    column = _to_iso_text(column, file_format.date_formats or DATE_FORMATS, path)
    if _are_dates(column):
        return parse_instant_column(column, path, zone="UTC"), "dates", True
    _refuse_lone_times(column, path)
    instants = parse_instant_column(column, path, zone=naive_zone, advice=_ZONE_ADVICE)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return instants, str(column.dtype.tz), False
    first = str(column.iloc[0]).strip().upper()
    offset = _OFFSET.search(first[10:])
    if first.endswith("Z") or (offset and set(offset[0]) <= set("+-0:")):
        return instants, "UTC", False
    return instants, offset[0] if offset else str(naive_zone), False


def _stamp_column(frame: pd.DataFrame, head: FileFormat, path: str) -> pd.Series:
    """Return the timestamp cells; separate date and time cells are joined by a blank."""
    column = frame[head.timestamp_columns[0]]
    if len(head.timestamp_columns) == 1:
        return column if column.name else column.rename("the first column")
    other = frame[head.timestamp_columns[1]]
    date, time = (each.astype(str).str.strip() for each in (_hyphenate_dates(column), other))
    name = f"{column.name} {other.name}"
    joined: pd.Series = column + " " + other if head.date_formats else date + " " + time
    if head.date_formats:
        return joined.rename(name)
    # The date check applies only if the vendor's zone is known: such a vendor writes one form.
    apart = time.str.fullmatch(_TIME) & (date.str.fullmatch(_DATE) | (not head.time_zone))
    if not apart.all():
        row = first_true_index(~apart.to_numpy(dtype=bool))
        raise row_error(
            path,
            row,
            f"columns {column.name} {format_cell(column.iloc[row])} and {other.name}"
            f" {format_cell(other.iloc[row])} are not a date and a time of day (2024-03-04, 09:30);"
            " keep only the column with the time of the bar",
        )
    return joined.rename(name)


def _to_iso_text(column: pd.Series, forms: Sequence[str], path: str) -> pd.Series:
    """Convert timestamps in another date format to ISO text.

    The format that fits most rows is used; rows that it does not fit are unchanged. Raises
    DataError if several formats fit equally well with different results, as for 03/04/2024.

    forms: formats to try.
    """
    if not pd.api.types.is_string_dtype(column) and column.dtype != object:
        return column
    first = str(column.iloc[0]).strip()
    year_first = bool(re.match(_DATE, first))
    tried = [
        (form, pd.to_datetime(column, format=form, errors="coerce", utc=True))
        for form in forms
        if form.startswith("%Y-") == year_first
        and pd.notna(pd.to_datetime(first, format=form, errors="coerce", utc=True))
    ]
    if not tried:
        return column
    most = max(int(stamps.notna().sum()) for _, stamps in tried)
    best = [(form, stamps) for form, stamps in tried if stamps.notna().sum() == most]
    (form, parsed), *others = best
    for _, other in others:
        differ = (parsed != other).to_numpy()
        if differ.any():
            row = first_true_index(differ)
            days = " or ".join(f"{each.iloc[row]:%Y-%m-%d}" for each in (parsed, other))
            raise row_error(
                path,
                row,
                f"{column.name} {format_cell(column.iloc[row])} is ambiguous: {days}; write the"
                f" year first, such as {parsed.iloc[row]:%Y-%m-%d}",
            )
    text = parsed.dt.strftime("%Y-%m-%d %H:%M:%S.%f" + ("Z" if form.endswith("%z") else ""))
    return text.where(parsed.notna(), column)


def _hyphenate_dates(column: pd.Series) -> pd.Series:
    """Rewrite dates such as 20240304 as 2024-03-04; other columns are unchanged."""
    if not _all_cells_match(column, _COMPACT):
        return column
    text = column.astype(str)
    return text.str[:4] + "-" + text.str[4:6] + "-" + text.str[6:]


def _all_cells_match(column: pd.Series, form: str) -> bool:
    """Return whether every cell matches a regular expression."""
    if not re.fullmatch(form, str(column.iloc[0]).strip()):
        return False
    return bool(column.astype(str).str.strip().str.fullmatch(form).all())


def _are_epoch_numbers(column: pd.Series) -> bool:
    """Return whether the cells are numbers, such as epoch timestamps in seconds."""
    if pd.api.types.is_numeric_dtype(column):
        return not pd.api.types.is_bool_dtype(column)
    return _all_cells_match(column, _EPOCH_NUMBER)


def _missing_unit_error(column: pd.Series, path: str) -> DataError:
    """Return the error for epoch timestamps without a unit; it lists each plausible unit."""
    first = column.iloc[0]
    number = float(first)
    units = []
    for unit in get_args(EpochUnit):
        begin, end = EpochFormat(unit).timestamp_bounds
        if begin <= number < end:
            at = np.datetime64(int(number), unit).astype("datetime64[ns]")
            units.append(f"set data.epoch={unit} for {format_utc(at)}")
    cure = " or ".join(units) or "write dates (2024-03-04) or timestamps (2024-03-04T14:30Z)"
    return row_error(
        path, 0, f"{column.name} {format_cell(first)} is a number without a time unit; {cure}"
    )


def _refuse_lone_times(column: pd.Series, path: str) -> None:
    """Reject a time of day among dates, such as the last row of an open session."""
    if pd.api.types.is_datetime64_any_dtype(column) or not re.fullmatch(_DATE, str(column.iloc[0])):
        return
    dates = column.astype(str).str.strip().str.fullmatch(_DATE_AT_MIDNIGHT).to_numpy(dtype=bool)
    if not dates.all() and dates.sum() > len(dates) / 2:
        row = first_true_index(~dates)
        have = "has" if dates.sum() == 1 else "have"
        raise row_error(
            path,
            row,
            f"{column.name} {_describe_lone_time(column.iloc[row])}, but"
            f" {format_count(int(dates.sum()), 'other row')} {have} dates; remove the row,"
            " or keep bars of different lengths in separate files",
        )


def _describe_lone_time(cell: object) -> str:
    """Describe a cell among dates for a message: empty, a time of day, or no date."""
    if pd.isna(cast(Any, cell)) or not str(cell).strip():
        return "is empty"
    has_time = re.match(_DATE + r"[ T]\d{1,2}:", str(cell).strip())
    return f"{format_cell(cell)} {'has a time of day' if has_time else 'is not a date'}"


def _are_dates(column: pd.Series) -> bool:
    """Return whether the cells are dates without a time, which need no time zone.

    Cells that all are midnight without a zone count as dates.
    """
    if pd.api.types.is_datetime64_dtype(column):
        return bool((column == column.dt.normalize()).all())
    return _all_cells_match(column, _DATE_AT_MIDNIGHT)


def _parse_epochs(
    column: pd.Series, epochs: Sequence[EpochFormat], path: str, source: str
) -> tuple[Instants, str]:
    """Return the instants [N] of epoch timestamps, and the zone and the units as text.

    epochs: possible units, each with the period in which it is used.
    source: where the units are stated, for messages.
    """
    numbers = pd.to_numeric(column, errors="coerce")
    exact = numbers.astype("Int64") if pd.api.types.is_integer_dtype(numbers) else numbers
    times: Instants = np.full(len(column), np.datetime64("NaT", "ns"))
    units = []
    for epoch in epochs:
        first, last = epoch.timestamp_bounds
        fits = (exact.between(first, last, inclusive="left") & (exact % 1 == 0)).fillna(False)
        rows = fits.to_numpy(dtype=bool)
        if rows.any():
            counts = np.asarray(exact[rows], dtype=np.int64)
            times[rows] = counts.astype(f"datetime64[{epoch.unit}]")
            units.append(epoch.unit)
    if np.isnat(times).any():
        row = first_true_index(np.isnat(times))
        known = " or ".join(
            f"{epoch.unit} since 1970 between {epoch.start_date} and {epoch.end_date}"
            for epoch in epochs
        )
        number = numbers.iloc[row]
        is_whole = bool(pd.notna(number) and number % 1 == 0)
        fault = "is no number of" if is_whole else "is not a whole number of"
        raise row_error(
            path,
            row,
            f"{column.name} {format_cell(column.iloc[row])} {fault} {known} ({source}); correct the"
            f" cell{' or the unit' * is_whole}",
        )
    return times, f"UTC, epoch {' and '.join(units)}"
