"""Instants: parsing, formatting, and conversion to New York time.

Every instant is UTC `datetime64[ns]`. The day of an instant is its New York date.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import numpy as np
import numpy.typing as npt

from foundation.arrays import Instants, Mask, first_true_index
from foundation.errors import DataError, InputError, closest_choices, format_suggestion

if TYPE_CHECKING:
    import pandas as pd

NEW_YORK = ZoneInfo("America/New_York")
HOUR = np.timedelta64(1, "h")
DAY = np.timedelta64(1, "D")
MINUTES_PER_DAY = 1440

Dates = npt.NDArray[np.datetime64]  # New York's, `datetime64[D]`

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_INSTANT = re.compile(
    r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?( ?(Z|[+-]\d{2}:?\d{2}))?", re.IGNORECASE
)
# Names of UTC that are not accepted as a zone.
_UTC_NAMES = {"UTC", "GMT", "Z", "ZULU", "UCT", "GMT0", "GREENWICH", "UNIVERSAL"}
# Places of zone abbreviations, and UTC offsets in hours without daylight saving. Abbreviations of
# several countries, such as CST and IST, are missing.
_ABBREVIATIONS = {
    **dict.fromkeys(("EST", "EST5EDT", "ET"), ("America/New_York", -5)),
    "EDT": ("America/New_York", -4),
    "CST6CDT": ("America/Chicago", -6),
    **dict.fromkeys(("MST", "MST7MDT"), ("America/Denver", -7)),
    **dict.fromkeys(("PST", "PST8PDT"), ("America/Los_Angeles", -8)),
    "CET": ("Europe/Berlin", 1),
    "EET": ("Europe/Athens", 2),
}
_UTC_OFFSET_HOURS = re.compile(r"(?:UTC|GMT)?([+-])0?(\d{1,2})(?::?00)?")
_ABBREVIATED = re.compile(r".*\d:\d{2}\S* ?((?!AM|PM)[A-Z]{2,5})", re.IGNORECASE)
_MIN_CITY_SIMILARITY = (
    0.87  # difflib's ratio; below it Cuba is near Cuiaba, and WET near Brazil/West
)

_NO_DATE_MESSAGE = "{value} is not a date and time; write it as 2024-10-01T13:30Z (YYYY-MM-DD)"

RowErrorFactory = Callable[[int, str], InputError]  # of a row, with what is wrong with its {value}


def check_time_zone(zone: str | None, name: str) -> None:
    """Raise `InputError` for an invalid time zone.

    EST and similar names are rejected: they are fixed offsets, which differ from New York time by
    an hour for half of the year.

    zone: name in the time-zone database, or None, which is valid.
    name: name of the setting, for the message.
    """
    if zone is not None and not _is_zone(zone):
        raise InputError(
            f"{name}: {zone!r} is not a time zone; use UTC or an IANA name such as America/New_York"
            f"{_format_zone_hint(zone)}"
        )


def _is_zone(zone: str) -> bool:
    """Return whether a text is UTC or the name of a location in the time-zone database."""
    if "/" not in zone:
        return zone == "UTC"
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        return False
    return True


def _format_zone_hint(zone: str) -> str:
    """Return the end of an error message that suggests valid zones like `zone`; may be empty."""
    word = zone.strip().upper()
    if word in _UTC_NAMES:
        return format_suggestion(["UTC"])
    if word in _ABBREVIATIONS:
        place, offset = _ABBREVIATIONS[word]
        return (
            f"; instead of {word}, write {place} (with daylight saving time) or"
            f" {_fixed_offset_zone(offset)} (without)"
        )
    if found := _UTC_OFFSET_HOURS.fullmatch(word):
        hours = int(found[2]) if found[1] == "+" else -int(found[2])
        fixed = _fixed_offset_zone(hours)
        if not _is_zone(fixed):
            return ""
        ahead = f"{abs(hours)} h {'ahead of' if hours > 0 else 'behind'} UTC"
        return f"; instead of {word}, write {fixed}" + (
            f" for a clock {ahead} (the sign is reversed)" if hours else ""
        )
    places = [each for each in sorted(available_timezones()) if "/" in each]
    if "/" in zone:
        return format_suggestion(closest_choices(zone, places))
    by_city = {place.rpartition("/")[2]: place for place in places}
    found_cities = closest_choices(
        zone.strip().replace(" ", "_"), list(by_city), _MIN_CITY_SIMILARITY
    )
    return format_suggestion([by_city[city] for city in found_cities])


def _fixed_offset_zone(hours: int) -> str:
    """Return the name of the zone with this UTC offset in hours; such names reverse the sign."""
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"


def parse_instant(text: Any, *, name: str, end_of_day: bool = False) -> np.datetime64:
    """Parse a New York date, or an instant with a zone, as a UTC instant.

    A date means its midnight or, with `end_of_day`, its last nanosecond: the end of a range
    includes the whole day.

    name: name of the setting, for the message.

    Raises InputError for any other text.
    """
    import pandas as pd

    written = str(text).strip()
    # In other forms, 2/10/2024 may be a day in February or in October.
    exact = _DATE.fullmatch(written) or _INSTANT.fullmatch(written)
    try:
        stamp = pd.Timestamp(written) if exact else pd.NaT
    except ValueError:
        stamp = pd.NaT
    if pd.isna(stamp):
        raise InputError(
            f"{name}: {text!r} is neither a date (YYYY-MM-DD) nor a time with a time zone"
            " (2024-10-01T15:30Z)"
        )
    if stamp.tzinfo is None:
        # A time without a zone could be New York's or UTC: to guess would move a run by hours.
        if not _DATE.fullmatch(written):
            raise InputError(f"{name}: {text!r} has no time zone; write it as 2024-10-01T15:30Z")
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
        raise InputError(f"{name}: {text!r} is outside the years 1678 to 2262") from None


def parse_date(text: str) -> np.datetime64:
    """Parse a date in the form YYYY-MM-DD.

    Raises ValueError for any other text, including `2024`, `today` and `20240610`, which NumPy
    alone would parse.
    """
    if not _DATE.fullmatch(text):
        raise ValueError(f"{text!r} is not a date (YYYY-MM-DD)")
    return np.datetime64(text, "D")


def history_start(now: np.datetime64, days: int) -> np.datetime64:
    """Return the UTC midnight `days` calendar days before the day of an instant.

    No stock or crypto bar spans a UTC midnight, so that a history from this midnight begins with
    complete bars. The result is the same all day.
    """
    return np.datetime64((now - days * DAY).astype("datetime64[D]"), "ns")


def parse_instant_column(
    column: pd.Series, path: str, before: int = 0, zone: str | None = None, advice: str = ""
) -> Instants:
    """Parse a file's column of timestamps as UTC instants [N].

    column: timestamps, as text or as datetimes, at least one row.
    path: path of the file, for messages.
    before: number of rows of the file before the column's first row, for messages.
    zone: time zone of timestamps without a zone; None: such timestamps are rejected.
    advice: end of the message that rejects timestamps without a zone.

    Raises DataError for a timestamp that cannot be read.
    """
    import pandas as pd

    def build_error(row: int, what: str) -> DataError:
        place = f"{path}: row {before + row + 1}: {column.name}"
        return DataError(f"{place} {what.format(value=format_cell(column.iloc[row]))}")

    if pd.api.types.is_string_dtype(column) or column.dtype == object:
        stamps = _parse_text_stamps(column.astype(str).str.strip(), zone, build_error, advice)
    elif pd.api.types.is_datetime64_any_dtype(column):
        stamps = _localise_stamps(column, zone, build_error, advice)
    else:
        raise build_error(0, _NO_DATE_MESSAGE)
    utc = stamps.dt.tz_convert("UTC").dt.tz_localize(None)
    try:
        instants: Instants = utc.dt.as_unit("ns").to_numpy("datetime64[ns]")
    except pd.errors.OutOfBoundsDatetime:
        far = ~utc.dt.year.between(1678, 2261).to_numpy()
        raise build_error(
            first_true_index(far), "{value} is outside the years 1678 to 2262"
        ) from None
    return instants


def _parse_text_stamps(
    text: pd.Series, zone: str | None, fault: RowErrorFactory, advice: str
) -> pd.Series:
    """Parse a column of timestamps from text; return them with a time zone.

    zone, advice: as in `parse_instant_column`.
    fault: function that returns the error for a row.
    """
    import pandas as pd

    stamps = pd.to_datetime(text, utc=True, errors="coerce", format="ISO8601")
    if stamps.isna().any():
        row = first_true_index(stamps.isna().to_numpy())
        raise fault(
            row, _format_abbreviation_error(str(text.iloc[row]), advice) or _NO_DATE_MESSAGE
        )
    # The parser takes a stamp without a zone for UTC, while a file may mean New York's by it.
    zoned = _has_zone(text)
    if zoned.all():
        return stamps
    if zone is None:
        lacks = "{value} has no time zone; write it in UTC, ending in Z"
        raise fault(first_true_index(~zoned), lacks + advice)
    # The parser takes 2024 for a day, too.
    whole = text.str.match(r"\d{4}-\d{2}-\d{2}").to_numpy(dtype=bool)
    if not whole.all():
        raise fault(first_true_index(~whole), _NO_DATE_MESSAGE)
    naive = stamps[~zoned].dt.tz_localize(None)
    moved = _local_to_utc(naive, zone, np.flatnonzero(~zoned), fault)
    return moved if not zoned.any() else stamps.where(zoned, moved)


def _format_abbreviation_error(cell: str, advice: str) -> str:
    """Return an error text for a timestamp that ends in a zone abbreviation (EST); else empty."""
    found = _ABBREVIATED.fullmatch(cell)
    if found is None:
        return ""
    if found[1].upper() in _UTC_NAMES:
        return f"{{value}} ends in {found[1]}; write Z instead"
    return (
        f"{{value}} ends in {found[1]}, an ambiguous time zone; write the offset from UTC instead,"
        f" such as -05:00{advice}"
    )


def _has_zone(text: pd.Series) -> Mask:
    """Return whether each text [N] ends with a time zone or an offset."""
    return text.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$").to_numpy(dtype=bool)


def _localise_stamps(
    column: pd.Series, zone: str | None, fault: RowErrorFactory, advice: str
) -> pd.Series:
    """Return a column of datetimes with a time zone.

    zone, advice: as in `parse_instant_column`.
    fault: function that returns the error for a row.
    """
    import pandas as pd

    if not isinstance(column.dtype, pd.DatetimeTZDtype) and zone is None:
        raise fault(0, "{value} has no time zone; store the column in UTC" + advice)
    if column.isna().any():
        raise fault(first_true_index(column.isna().to_numpy()), "is empty; fill it in")
    if isinstance(column.dtype, pd.DatetimeTZDtype) or zone is None:
        return column
    return _local_to_utc(column, zone, np.arange(len(column)), fault)


def _local_to_utc(
    naive: pd.Series, zone: str, rows: npt.NDArray[np.intp], fault: RowErrorFactory
) -> pd.Series:
    """Convert local timestamps of a time zone to UTC.

    The hour that is repeated when summer time ends is resolved by the order of the rows.

    rows: row numbers of the timestamps in the file, for messages.
    fault: function that returns the error for a row.
    """
    if len(naive) > 1 and naive.iloc[-1] < naive.iloc[0]:  # newest first
        return _local_to_utc(naive[::-1], zone, rows[::-1], fault)[::-1]
    try:
        stamps = naive.dt.tz_localize(zone, ambiguous="infer", nonexistent="raise")
    except ValueError:
        stamps = naive.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
        if stamps.isna().any():
            row = int(rows[first_true_index(stamps.isna().to_numpy())])
            local = naive.iloc[[first_true_index(stamps.isna().to_numpy())]]
            forward = local.dt.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward")
            hour = "repeats" if forward.isna().any() else "skips"
            why = f"lies in the hour that the clock of {zone} {hour}; write it in UTC, ending in Z"
            raise fault(row, "{value} " + why) from None
    utc: pd.Series = stamps.dt.tz_convert("UTC")
    return utc


def format_cell(value: object) -> str:
    """Return a table cell as text for messages; text is quoted and cut after 40 characters."""
    import pandas as pd

    if isinstance(value, str):
        return repr(value if len(value) <= 40 else f"{value[:40]}…")
    return "nan (empty)" if pd.isna(cast(Any, value)) else str(value)


def format_utc(at: np.datetime64) -> str:
    """Return an instant as text for messages, such as 2024-10-01T15:30Z."""
    return f"{np.datetime_as_string(at, unit='m')}Z"


def format_utc_each(instants: Instants) -> list[str]:
    """Return `format_utc` of each instant, [N]."""
    return [f"{text}Z" for text in np.datetime_as_string(instants, unit="m").tolist()]


def format_compact_utc(at: np.datetime64) -> str:
    """Return an instant as text for file names and order ids, such as 20240305T173000Z."""
    return str(at.astype("datetime64[s]")).replace("-", "").replace(":", "") + "Z"


def parse_compact_utc(text: str) -> np.datetime64:
    """Return the instant that `format_compact_utc` has written."""
    day, time = text.rstrip("Z").split("T")
    stamp = f"{day[:4]}-{day[4:6]}-{day[6:]}T{time[:2]}:{time[2:4]}:{time[4:]}"
    return np.datetime64(stamp, "ns")


def format_time_of_day(minutes: int) -> str:
    """Return a time of day as text, such as 09:30.

    minutes: minutes after midnight.
    """
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def new_york_midnight(dates: npt.NDArray[np.datetime64]) -> Instants:
    """Return 0:00 New York on each date, as UTC instants."""
    return at_new_york_time(dates, 0 * HOUR)


def new_york_four_pm(dates: npt.NDArray[np.datetime64]) -> Instants:
    """Return 16:00 New York on each date, as UTC instants."""
    return at_new_york_time(dates, 16 * HOUR)


def at_new_york_time(dates: npt.NDArray[np.datetime64], time: np.timedelta64) -> Instants:
    """Return a New York time of day on each date, as UTC instants."""
    import pandas as pd

    local = pd.DatetimeIndex(dates.astype("datetime64[ns]")) + pd.Timedelta(time)
    utc = local.tz_localize(NEW_YORK).tz_convert("UTC")
    return np.asarray(utc.tz_localize(None).to_numpy("datetime64[ns]"))


def new_york_date(instants: Instants) -> npt.NDArray[np.datetime64]:
    """Return the New York calendar date of each instant, [N] `datetime64[D]`."""
    return np.asarray(_to_new_york_time(instants).astype("datetime64[D]"))


def new_york_day(at: np.datetime64) -> np.datetime64:
    """Return the New York calendar date of an instant, `datetime64[D]`."""
    return np.datetime64(new_york_date(np.array([at]))[0])


def new_york_minutes_of_day(instants: Instants) -> npt.NDArray[np.int64]:
    """Return the New York time of day of each instant, in whole minutes after midnight, [N]."""
    minutes = _to_new_york_time(instants).astype("datetime64[m]").astype(np.int64)
    return np.asarray(minutes % MINUTES_PER_DAY)


def _to_new_york_time(instants: Instants) -> Instants:
    changes, offsets = new_york_offsets()
    return np.asarray(instants + offsets[np.searchsorted(changes, instants, side="right")])


@cache
def new_york_offsets() -> tuple[Instants, npt.NDArray[np.timedelta64]]:
    """Return New York's UTC offsets [N + 1], and the instants [N] at which they change.

    The first offset applies before the first instant.
    """
    import pandas as pd

    def offsets_at(utc: Instants) -> npt.NDArray[np.timedelta64]:
        local = pd.DatetimeIndex(utc).tz_localize("UTC").tz_convert(NEW_YORK).tz_localize(None)
        return np.asarray(local.to_numpy("datetime64[ns]") - utc)

    days = np.arange(np.datetime64("1961-01-01", "ns"), np.datetime64("2100-01-01", "ns"), DAY)
    # The offset changes on a full hour, at most once a day.
    eves = days[:-1][np.diff(offsets_at(days)) != 0 * HOUR]
    hours = (eves[:, None] + np.arange(25) * HOUR).ravel()
    offsets = offsets_at(hours)
    changed = np.flatnonzero(np.diff(offsets)) + 1
    return hours[changed], np.append(offsets[0], offsets[changed])
