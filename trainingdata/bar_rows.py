"""The rows of a symbol in its files, validated and converted to bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants, Mask, first_true_index
from foundation.errors import DataError
from foundation.formatting import format_count
from trainingdata.bars import CLOSE, VOLUME, Provenance, check_bars, keep_regular_hours, row_error
from trainingdata.conventions import BarFileConventions, EpochUnit, TimestampSide
from trainingdata.file_formats import FileFormat
from trainingdata.instants import DAY, format_cell, new_york_date
from trainingdata.instruments import AssetClass, Instrument, normalize_data_symbol
from trainingdata.number_cells import parse_number_columns
from trainingdata.resampling import (
    SHORT_BAR_MINUTES,
    list_finer_bar_minutes,
    modal_bar_minutes,
    resample_bars,
    resample_close_to_close_days,
)
from trainingdata.sessions import (
    exchange_calendar,
    format_outside_calendar,
    is_in_session,
    session_opens_on,
)
from trainingdata.stamp_cells import parse_timestamp_cells
from trainingdata.stamp_checks import (
    bar_starts_from_ends,
    infer_stamps_are_ends,
    refuse_misread_timestamps,
)
from trainingdata.timeframe import DAILY, HOURLY, TIMEFRAMES, Timeframe
from trainingdata.volume_units import convert_crypto_volume

_HOUR = np.timedelta64(1, "h")
_NEARLY_A_DAY = np.timedelta64(20, "h")
# Median distance in days from which rows are not daily: a thin stock trades every two or three
# days, crypto every day.
_MAX_MEDIAN_DAILY_GAP_DAYS = {AssetClass.STOCK: 5.5, AssetClass.CRYPTO: 1.5}
_MIN_ROWS = 4
_LONG_BAR_DAYS = (
    ("weekly", 6, 8),
    ("monthly", 28, 31),
    ("quarterly", 89, 93),
    ("yearly", 364, 367),
)
# Relative fall of the ratio of adjusted closes from a day to the next that two roundings explain.
_MAX_RATIO_FALL = 2e-3


@dataclass(frozen=True, eq=False, slots=True)
class SymbolFileRows:
    """The N validated rows of a symbol in its files.

    instrument: the instrument.
    timestamps: [N] instants, increasing; dates are midnight UTC.
    values: [N, 5] open, high, low, close and volume.
    bar_minutes: length of a bar in minutes, 1440 for a day.
    time_zone: time zone of the timestamps, as text.
    stamps_are_ends: whether a timestamp is the end of its bar.
    naive_time_zone: time zone assumed for timestamps without one.
    notes: descriptions of the parts of the file that are ignored or changed.
    path: path of the file, for messages.
    is_volume_unit_known: whether the unit of the volume is known.
    """

    instrument: Instrument
    timestamps: Instants
    values: Array
    bar_minutes: int
    time_zone: str
    stamps_are_ends: bool
    naive_time_zone: str | None
    notes: tuple[str, ...]
    path: str
    is_volume_unit_known: bool = True

    @property
    def is_daily(self) -> bool:
        return self.bar_minutes == DAILY.minutes

    def to_bars(self, timeframe: Timeframe) -> tuple[Instants, Array, Provenance]:
        """Convert the rows to bars of a timeframe.

        Returns known-at instants [n], values [n, 5] and the provenance of the bars.

        Raises DataError for rows from which the timeframe's bars cannot be made.
        """
        notes = list(self.notes)
        starts = self._bar_starts()
        closes = timeframe.fills_at_close and self.instrument.kind is AssetClass.STOCK
        if self.bar_minutes == timeframe.minutes and not closes:
            times, bars = keep_regular_hours(
                starts, self.values, self.instrument, timeframe, self.path
            )
            outside = len(starts) - len(times)
        elif self.bar_minutes in list_finer_bar_minutes(timeframe):
            join = resample_close_to_close_days if closes else resample_bars
            made = join(
                starts, self.values, self.instrument, self.bar_minutes, timeframe, self.path
            )
            times, bars, outside = made.times, made.values, made.off_hours_part_count
            unit = timeframe.unit_name
            notes.append(
                f"{self.bar_minutes}-minute bars are aggregated to {timeframe.plural_bar_text}"
            )
            if made.incomplete_bar_count:
                verb = "lacks" if made.incomplete_bar_count == 1 else "lack"
                of = format_count(len(times), unit)
                notes.append(f"{made.incomplete_bar_count:,} of {of} {verb} some of these bars")
            if made.truncated_bar_count:
                cut = format_count(made.truncated_bar_count, unit)
                notes.append(f"skipped: {cut} cut off by the start or end of the file")
        else:
            raise DataError(f"{self.path}: {_format_no_parts_error(self.bar_minutes, timeframe)}")
        if outside:
            notes.append(f"skipped: {format_count(outside, 'row')} outside regular New York hours")
            if self.time_zone == self.naive_time_zone and self.instrument.kind is AssetClass.STOCK:
                _refuse_wrong_zone(starts, self.bar_minutes, self.time_zone, outside, self.path)
        origin = Provenance(
            self.path,
            self.time_zone,
            self.bar_minutes,
            tuple(notes),
            stamps_are_ends=self.stamps_are_ends,
            is_volume_unit_known=self.is_volume_unit_known,
        )
        return times, bars, origin

    def _bar_starts(self) -> Instants:
        stock = self.instrument.kind is AssetClass.STOCK
        if self.is_daily:
            return (
                _session_opens(self)
                if stock
                else self.timestamps - (DAY if self.stamps_are_ends else 0 * DAY)
            )
        if stock:
            refuse_misread_timestamps(
                self.timestamps,
                self.bar_minutes,
                self.time_zone,
                self.path,
                are_ends=self.stamps_are_ends,
            )
        if self.stamps_are_ends:
            return bar_starts_from_ends(self.instrument.kind, self.timestamps, self.bar_minutes)
        return self.timestamps


def check_symbol_rows(
    parts: Sequence[pd.DataFrame],
    file_format: FileFormat,
    instrument: Instrument,
    path: str,
    conventions: BarFileConventions,
) -> SymbolFileRows:
    """Validate the rows of a symbol in its files; return them oldest first.

    parts: rows of the symbol in each file, with the columns of the header; files in any order.
    file_format: format of the files.
    instrument: the instrument.
    path: path of the file, for messages.
    conventions: conventions that the user states; they apply where the header states none.

    Raises DataError for rows that cannot be read or trusted.
    """
    naive_zone = conventions.time_zone or file_format.time_zone or None
    read, notes = _join_file_rows(parts, file_format, path, naive_zone, conventions.epoch_unit)
    # Rows without a trade show how long bars last, but are no bars.
    traded = np.flatnonzero(np.isfinite(read.values).all(axis=1))
    stamps, values, frame = read.stamps[traded], read.values[traded], read.frame.iloc[traded]
    if not len(stamps):
        raise DataError(f"{path}: no row contains a trade; every price or volume is empty")
    check_bars(stamps, values, path)
    if gaps := len(read.stamps) - len(stamps):
        notes.append(f"skipped: {format_count(gaps, 'row')} without any number (no trade)")
    if file_format.unknown_columns:
        notes.append(
            f"ignored: {format_count(len(file_format.unknown_columns), 'column')}"
            f" {', '.join(file_format.unknown_columns)}"
        )
    if file_format.adjusted_close_column and file_format.adjusted_close_column in frame.columns:
        if conventions.uses_adjusted_close:
            values = _adjust_prices(values, frame[file_format.adjusted_close_column], path)
            notes.append(
                f"prices are multiplied by {file_format.adjusted_close_column} /"
                f" {file_format.ohlcv_columns[CLOSE]}"
            )
        else:
            notes.append(f"{file_format.adjusted_close_column} is ignored")
    minutes = _infer_bar_minutes(
        read.stamps,
        path,
        _MAX_MEDIAN_DAILY_GAP_DAYS[instrument.kind],
        daily=read.dates or (file_format.is_daily and _are_daily_stamps(read.stamps)),
    )
    ends = _are_bar_ends(
        stamps, file_format, instrument, minutes, read.zone, path, conventions, dates=read.dates
    )
    # Stocks' daily bars are matched to sessions by their date.
    if ends and (instrument.kind is AssetClass.CRYPTO or minutes != DAILY.minutes):
        late = _in_last_second(stamps)
        if late.any():
            next_minutes = stamps.astype("datetime64[m]") + np.timedelta64(1, "m")
            stamps = np.where(late, next_minutes, stamps)
            notes.append(
                f"{format_count(int(late.sum()), 'timestamp')} at :59 s are rounded up to"
                " the next minute"
            )
    volume_known = True
    _check_volume_coin(file_format, instrument, path)
    if instrument.kind is AssetClass.CRYPTO:
        volume = convert_crypto_volume(values, frame, file_format, conventions.volume_unit, path)
        values[:, VOLUME] = volume.coin_volume
        volume_known = volume.is_unit_known
        notes += [volume.note] if volume.note else []
    return SymbolFileRows(
        instrument,
        stamps,
        values,
        minutes,
        read.zone,
        ends,
        naive_zone,
        tuple(notes),
        path,
        volume_known,
    )


class _FileRows(NamedTuple):
    """The rows of one file, oldest first.

    stamps: [N] instants.
    zone: time zone of the timestamps, as text.
    dates: whether the timestamps are dates without a time.
    values: [N, 5] open, high, low, close and volume.
    frame: the same rows as a table.
    """

    stamps: Instants
    zone: str
    dates: bool
    values: Array
    frame: pd.DataFrame


def _join_file_rows(
    frames: Sequence[pd.DataFrame],
    head: FileFormat,
    path: str,
    naive_zone: str | None,
    epoch: EpochUnit | None,
) -> tuple[_FileRows, list[str]]:
    """Join the rows of all files of a series in time order; return them and notes on their order.

    A file that is strictly newest first is reversed.

    naive_zone: time zone of timestamps without one; None: such timestamps are rejected.
    epoch: unit of epoch timestamps that the user states, or None.
    """
    if not any(map(len, frames)):
        raise DataError(f"{path}: the file contains no bars")
    parts = []
    reversed_files = 0
    for frame in frames:
        stamps, zone, dates = parse_timestamp_cells(frame, head, path, naive_zone, epoch)
        part = _FileRows(stamps, zone, dates, parse_number_columns(frame, head, path), frame)
        if len(stamps) > 1 and (np.diff(stamps) < np.timedelta64(0)).all():
            reversed_files += 1
            part = _FileRows(stamps[::-1], zone, dates, part.values[::-1], frame[::-1])
        parts.append(part)
    notes = []
    if reversed_files:
        several = f" in {format_count(reversed_files, 'file')}" if len(parts) > 1 else ""
        notes.append(f"rows are newest first{several} and are read in reverse order")
    if len({part.dates for part in parts}) > 1:
        raise DataError(
            f"{path}: some files have dates and others have times of day; keep files of one kind"
        )
    # Files may be listed in any order; bars that overlap are refused later.
    parts.sort(key=lambda part: part.stamps[0])
    joined = _FileRows(
        np.concatenate([part.stamps for part in parts]),
        parts[0].zone,
        parts[0].dates,
        np.concatenate([part.values for part in parts]),
        pd.concat([part.frame for part in parts], ignore_index=True),
    )
    return joined, notes


def _check_volume_coin(head: FileFormat, item: Instrument, path: str) -> None:
    """Reject a volume column whose header names a coin other than the symbol's."""
    if (
        head.volume_column_coin
        and normalize_data_symbol(f"{head.volume_column_coin}USD") != item.symbol
    ):
        raise DataError(
            f"{path}: column {head.ohlcv_columns[VOLUME]!r} counts {head.volume_column_coin}, but"
            " the"
            f" file's symbol is {item.symbol}; name the file after its crypto pair"
        )


def _refuse_contrary_stamp_side(head: FileFormat, stated: TimestampSide | None, path: str) -> None:
    """Reject a setting `data.stamps` that contradicts the header.

    The header states whether timestamps are starts or ends of bars.
    """
    if stated is None or head.stamps_are_ends is None or head.stamps_are_ends == (stated == "end"):
        return
    side, word = ("end", "end") if head.stamps_are_ends else ("begin", "start")
    raise DataError(
        f"{path}: data.stamps={stated} contradicts the header (format {head.vendor}), where column"
        f" {' '.join(head.timestamp_columns)} is the {word} of a bar; set data.stamps={side}, or"
        f" rename the column to {stated}"
    )


def _in_last_second(stamps: Instants) -> Mask:
    """Return a mask [N] of the timestamps in the last second of a minute, such as 23:59:59.999."""
    return np.asarray(stamps - stamps.astype("datetime64[m]") >= np.timedelta64(59, "s"))


def _refuse_last_seconds(stamps: Instants, head: FileFormat, path: str) -> None:
    """Reject timestamps that all lie in the last second of a minute.

    Such timestamps look like ends of bars, but neither the header nor the user states that they
    are.
    """
    if not _in_last_second(stamps[:1]).any() or not _in_last_second(stamps).all():
        return
    name = " ".join(head.timestamp_columns) or "the first column"
    cure = "set data.stamps=end" if head.stamps_are_ends is None else f"rename column {name} to end"
    raise row_error(
        path,
        0,
        f"{name} {np.datetime_as_string(stamps[0], unit='ms')}Z looks like the end of a bar, as do"
        f" all other timestamps; {cure}",
    )


def _are_daily_stamps(stamps: Instants) -> bool:
    """Return whether most timestamps are about a day apart, or there are at most two of them.

    It decides whether a format for daily bars holds daily bars.
    """
    return bool(
        len(stamps) <= 2 or modal_bar_minutes(stamps) * np.timedelta64(1, "m") >= _NEARLY_A_DAY
    )


def _are_bar_ends(
    stamps: Instants,
    head: FileFormat,
    item: Instrument,
    minutes: int,
    zone: str,
    path: str,
    conventions: BarFileConventions,
    *,
    dates: bool,
) -> bool:
    """Return whether timestamps are ends of bars, not starts.

    The header, the user's conventions, or else the exchange calendar decides.

    minutes: length of a bar.
    zone: time zone of the timestamps, as text.
    dates: whether the timestamps are dates without a time.

    Raises DataError if the header contradicts the user, or nothing decides.
    """
    if dates:
        return bool(head.stamps_are_ends)
    _refuse_contrary_stamp_side(head, conventions.timestamp_side, path)
    if head.stamps_are_ends or conventions.timestamp_side == "end":
        return True
    daily = minutes == DAILY.minutes
    if item.kind is AssetClass.CRYPTO or not daily:
        _refuse_last_seconds(stamps, head, path)
    if daily or head.stamps_are_ends is not None or conventions.timestamp_side is not None:
        return False
    if item.kind is AssetClass.STOCK:
        if (ends := infer_stamps_are_ends(stamps)) is not None:
            return ends
        # Another zone is the likelier cause, and its message names it.
        refuse_misread_timestamps(stamps, minutes, zone, path, are_ends=False)
    raise DataError(
        f"{path}: it is unknown whether timestamps mark the start or the end of bars; set"
        " data.stamps=begin or data.stamps=end, or rename the column to begin or end"
    )


def _infer_bar_minutes(stamps: Instants, path: str, longest: float, *, daily: bool) -> int:
    """Return the length of a row's bar in minutes, inferred from the distances between rows.

    Rows that are all about a day apart are daily bars. Rows that are mostly two hours apart are
    hourly bars with gaps.

    longest: median distance in days from which rows are not daily bars.
    daily: whether the rows are known to be daily.

    Raises DataError if all rows are more than an hour apart and match no timeframe, since they
    would be taken for hourly bars. Raises DataError also for weekly and monthly bars, which would
    be taken for daily bars.
    """
    least = np.diff(stamps).min() if len(stamps) > 2 else _HOUR
    if daily or least >= _NEARLY_A_DAY:
        _refuse_long_bars(stamps, path, longest)
        return DAILY.minutes
    if least > _HOUR:
        minutes = int(least / np.timedelta64(1, "m"))
        if minutes in {each.minutes for each in TIMEFRAMES}:
            return minutes
        raise DataError(
            f"{path}: unsupported bar length: bars are at least {minutes} minutes apart; supply"
            f" daily bars, or bars of {', '.join(map(str, SHORT_BAR_MINUTES))} or 60 minutes"
        )
    return usual if (usual := modal_bar_minutes(stamps)) in SHORT_BAR_MINUTES else HOURLY.minutes


def _refuse_long_bars(stamps: Instants, path: str, longest: float) -> None:
    """Reject bars of a week or longer.

    Their length is the median distance of the rows, so that daily files with gaps are accepted.

    longest: median distance in days from which bars are rejected.
    """
    if len(stamps) < _MIN_ROWS:
        return
    apart = float(np.median(np.diff(stamps) / DAY))
    if apart < longest:
        return
    name = next((name for name, few, most in _LONG_BAR_DAYS if few <= apart <= most), "")
    what = f"{name} bars" if name else f"bars {apart:g} days apart"
    raise DataError(
        f"{path}: unsupported bar length: rows are {what} (median distance {apart:g} days);"
        " download daily, hourly or minute bars"
    )


def _format_no_parts_error(minutes: int, timeframe: Timeframe) -> str:
    """Return the error text for bars of a length from which a timeframe's bars cannot be formed."""
    lengths = list(map(str, list_finer_bar_minutes(timeframe)))
    if not timeframe.fills_at_close:
        lengths.append(str(timeframe.minutes))
    elif minutes == timeframe.minutes:
        return (
            "daily bars contain no price before the close, which fill=close needs; supply bars of"
            f" {', '.join(lengths)} minutes, or set fill=open"
        )
    return (
        f"{format_bar_length(minutes)} cannot form {timeframe.plural_bar_text}; supply bars of"
        f" {', '.join(lengths)} minutes for timeframe={timeframe.name}"
    )


def format_bar_length(minutes: int) -> str:
    """Return a bar length as text for messages: daily bars, 30-minute bars."""
    return "daily bars" if minutes == DAILY.minutes else f"{minutes}-minute bars"


def _session_opens(rows: SymbolFileRows) -> Instants:
    """Return the session open of each daily row, [N].

    A timestamp is a date, or an instant of the session's day in New York: midnight, the open, or,
    if timestamps are ends, the close.

    Raises DataError for a day without a session, and for two rows of one session.
    """
    stamps = rows.timestamps
    midnight = stamps.astype("datetime64[D]")
    dates = midnight if (midnight == stamps).all() else new_york_date(stamps)
    opens = session_opens_on(dates)
    if np.isnat(opens).any():
        row = first_true_index(np.isnat(opens))
        known = exchange_calendar().dates
        if not known[0] <= dates[row] <= known[-1]:
            raise row_error(rows.path, row, f"{dates[row]} {format_outside_calendar(dates[row])}")
        raise row_error(
            rows.path,
            row,
            f"{dates[row]} is not a trading session in New York; correct the date, or name a crypto"
            " file after its pair, such as BTCUSD",
        )
    same = np.diff(opens) == np.timedelta64(0)
    if same.any():
        row = first_true_index(same) + 1
        raise row_error(rows.path, row, f"{dates[row]} is listed twice; keep one bar per session")
    return opens


def _adjust_prices(values: Array, adjusted: pd.Series, path: str) -> Array:
    """Return the values [N, 5] with prices multiplied by the ratio of adjusted close to close.

    Raises DataError for a ratio above 1, or one that falls from a row to the next.
    """
    numbers = pd.to_numeric(adjusted, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    ratio = numbers / values[:, CLOSE]
    falls = np.append(False, np.diff(ratio) < -_MAX_RATIO_FALL * ratio[:-1])
    wrong = ~((ratio > 0) & (ratio <= 1 + _MAX_RATIO_FALL)) | falls
    if wrong.any():
        row = first_true_index(wrong)
        if not ratio[row] > 0:
            fault = "is not a price above 0"
        elif ratio[row] > 1 + _MAX_RATIO_FALL:
            fault = f"is {ratio[row]:.6g} times the close, but must be at most the close"
        else:
            fault = (
                f"is {ratio[row]:.6g} times the close, less than {ratio[row - 1]:.6g} times in the"
                " row before, but this ratio must not fall"
            )
        raise row_error(
            path,
            row,
            f"{adjusted.name} {format_cell(adjusted.iloc[row])} {fault}; correct the row, or set"
            " data.adjustment=split",
        )
    scaled = values.copy()
    scaled[:, :VOLUME] *= ratio[:, None]
    return scaled


def _refuse_wrong_zone(starts: Instants, minutes: int, zone: str, outside: int, path: str) -> None:
    """Reject a time zone in which no session has its first bar, or none has its last bar.

    outside: number of rows outside regular New York hours, for the message.
    """
    days = exchange_calendar()
    inside = starts[is_in_session(starts)]
    k = np.searchsorted(days.opens, inside, side="right") - 1
    if len(np.unique(k)) < 2:
        return
    closing = inside + np.timedelta64(minutes, "m") >= days.closes[k]
    starts_at_open = (inside == days.opens[k]).any()
    if starts_at_open and closing.any():
        return
    verb = "lies" if outside == 1 else "lie"
    missing = "ends at the close" if starts_at_open else "starts at the open"
    raise DataError(
        f"{path}: the time zone {zone} looks wrong: {format_count(outside, 'row')} {verb}"
        f" outside New York trading hours, and no row {missing}; correct data.zone"
    )
