"""Instants in time: read from text, written as text, and as New York's clock shows them.

Every instant is UTC `datetime64[ns]`; New York's clock says what day it is for the exchange.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from foundation.arrays import Instants, first_row
from foundation.errors import DataError, InputError

NEW_YORK = ZoneInfo("America/New_York")
HOUR = np.timedelta64(1, "h")
DAY = np.timedelta64(1, "D")


def instant(text: Any, *, name: str, end_of_day: bool = False) -> np.datetime64:
    """A New York date or an instant with a zone, as UTC.

    A date is its midnight; with `end_of_day` its last nanosecond, because ends are inclusive.

    Raises
    ------
    InputError
        naming `name`, if the text is neither.
    """
    try:
        stamp = pd.Timestamp(str(text))
    except ValueError:
        stamp = None
    if pd.isna(stamp):
        raise InputError(f"{name}: {text!r} is no date (YYYY-MM-DD) and no instant with a zone")
    if stamp.tzinfo is None:
        # A time without a zone could be New York's or UTC: to guess would move a run by hours.
        if stamp != stamp.normalize():
            raise InputError(
                f"{name}: {text!r} has a time but no zone; write it as 2024-10-01T15:30Z"
            )
        # The day is added before the zone: a New York day has 23 or 25 hours twice a year.
        if end_of_day:
            stamp += pd.Timedelta(days=1)
        stamp = stamp.tz_localize(NEW_YORK)
        if end_of_day:
            stamp -= pd.Timedelta(1, "ns")
    try:
        utc = stamp.tz_convert("UTC").tz_localize(None)
        return np.datetime64(utc.as_unit("ns").to_datetime64())
    except pd.errors.OutOfBoundsDatetime:
        raise InputError(f"{name}: {text!r} is no instant between 1678 and 2262") from None


def history_start(now: np.datetime64, days: int) -> np.datetime64:
    """UTC's midnight so many calendar days before an instant's own.

    No bar of a stock or a coin is under way then: a history from there on begins with whole bars,
    and is the same all day.
    """
    return np.datetime64((now - days * DAY).astype("datetime64[D]"), "ns")


def instants_of_column(column: pd.Series, path: str, before: int = 0) -> Instants:
    """UTC instants [N] of a file's column, where each has a zone, in its text or in its type.

    column: at least a row.
    path: of the file, for messages, which call the column by its own name.
    before: how many rows of the file precede these.

    Raises
    ------
    DataError
        naming the first row without an instant, or without a zone.
    """

    def fault(row: int, what: str) -> DataError:
        value = column.iloc[row]
        shown = repr(value) if isinstance(value, str) else str(value)
        place = f"{path}: row {before + row + 1}: {column.name}"
        return DataError(f"{place} {what.format(value=shown)}")

    if pd.api.types.is_string_dtype(column) or column.dtype == object:
        text = column.astype(str).str.strip()
        stamps = pd.to_datetime(text, utc=True, errors="coerce", format="ISO8601")
        if stamps.isna().any():
            raise fault(first_row(stamps.isna().to_numpy()), "{value} is no date and time")
        # The parser takes a stamp without a zone for UTC, while a file may mean New York's by it.
        zoned = text.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$").to_numpy(dtype=bool)
        if not zoned.all():
            raise fault(first_row(~zoned), "{value} has no zone; write it in UTC, ending in Z")
    elif isinstance(column.dtype, pd.DatetimeTZDtype):
        stamps = column
        if stamps.isna().any():
            raise fault(first_row(stamps.isna().to_numpy()), "is empty")
    elif pd.api.types.is_datetime64_any_dtype(column):
        raise fault(0, "{value} has no zone; store the column in UTC")
    else:
        raise fault(0, "{value} is no date and time")
    utc = stamps.dt.tz_convert("UTC").dt.tz_localize(None)
    instants: Instants = utc.to_numpy("datetime64[ns]")
    return instants


def utc_text(at: np.datetime64) -> str:
    """An instant as messages write it: 2024-10-01T15:30Z."""
    return f"{np.datetime_as_string(at, unit='m')}Z"


def compact_text(at: np.datetime64) -> str:
    """An instant as names of files and orders write it: 20240305T173000Z."""
    return str(at.astype("datetime64[s]")).replace("-", "").replace(":", "") + "Z"


def system_clock() -> np.datetime64:
    """This machine's clock, UTC."""
    return np.datetime64(datetime.now(UTC).replace(tzinfo=None), "ns")


def on_the_hour(instants: Instants) -> npt.NDArray[np.bool_]:
    """Whether each instant is a full hour."""
    return np.asarray(instants.astype("datetime64[h]") == instants)


def hour_begun(now: np.datetime64) -> np.datetime64:
    """The full hour at or before an instant."""
    hour: np.datetime64 = now.astype("datetime64[h]").astype("datetime64[ns]")
    return hour


def four_pm(dates: npt.NDArray[np.datetime64]) -> Instants:
    """16:00 New York on each date, as UTC instants."""
    local = pd.DatetimeIndex(dates.astype("datetime64[ns]")) + pd.Timedelta(hours=16)
    utc = local.tz_localize(NEW_YORK).tz_convert("UTC")
    return np.asarray(utc.tz_localize(None).to_numpy("datetime64[ns]"))


def new_york_date(instants: Instants) -> npt.NDArray[np.datetime64]:
    """The New York calendar date of each instant, `datetime64[D]`."""
    changes, offsets = _new_york_clock()
    local = instants + offsets[np.searchsorted(changes, instants, side="right")]
    return np.asarray(local.astype("datetime64[D]"))


@cache
def _new_york_clock() -> tuple[Instants, npt.NDArray[np.timedelta64]]:
    """Instants [N] at which New York's offset from UTC changes, and the offsets [N + 1] around."""
    hours = pd.date_range("1970-01-01", "2100-01-01", freq="h", tz="UTC")
    utc = hours.tz_localize(None)
    offsets = hours.tz_convert(NEW_YORK).tz_localize(None).to_numpy() - utc.to_numpy()
    changed = np.flatnonzero(np.diff(offsets)) + 1
    changes = utc.to_numpy("datetime64[ns]")[changed]
    return changes, np.append(offsets[0], offsets[changed])
