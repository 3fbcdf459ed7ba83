"""Stamps that mean something else than they say are refused, and no genuine file is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.arrays import Instants
from foundation.errors import DataError
from tests.support.messages import refused
from trainingdata.instants import parse_instant_column
from trainingdata.instruments import AssetClass
from trainingdata.sessions import exchange_calendar
from trainingdata.stamp_checks import bar_starts_from_ends, refuse_misread_timestamps

NEW_YORK = "America/New_York"
# Around them are a half-day, a change of the clocks, a holiday, and nothing of all that.
DAYS = ("2024-07-01", "2024-11-01", "2024-11-25", "2023-01-11")


@dataclass(frozen=True)
class File:
    """The bars of a stock: from a day on, so many sessions, with hours around them or without."""

    day: str
    sessions: int
    minutes: int
    extended: bool

    def starts(self) -> Instants:
        grid = exchange_calendar()
        first = int(np.searchsorted(grid.dates, np.datetime64(self.day)))
        step = np.timedelta64(self.minutes, "m")
        days = []
        for k in range(first, first + self.sessions):
            begin, end = grid.opens[k], grid.closes[k]
            if self.extended:
                midnight = pd.Timestamp(grid.dates[k]).tz_localize(NEW_YORK)
                hours = [midnight + pd.DateOffset(hours=hour) for hour in (4, 20)]
                begin, end = (at.tz_convert("UTC").to_datetime64() for at in hours)
            days.append(np.arange(begin, end, step).astype("datetime64[ns]"))
        return np.concatenate(days)

    def ends(self) -> Instants:
        """When the bars end; the last of a session of hourly ones with the session."""
        ends = self.starts() + np.timedelta64(self.minutes, "m")
        closes = exchange_calendar().closes
        close = closes[np.searchsorted(closes, self.starts(), side="right")]
        return np.asarray(np.minimum(ends, close) if not self.extended else ends)


FILES = st.builds(
    File, st.sampled_from(DAYS), st.integers(2, 8), st.sampled_from([60, 30, 15, 5]), st.booleans()
).map(lambda file: replace(file, extended=file.extended and file.minutes < 60))


CLOCKS = st.sampled_from([NEW_YORK, "UTC", "Europe/London", "Asia/Tokyo", "America/Los_Angeles"])


def on_clock(instants: Instants, shown: str, read: str) -> Instants:
    """What stamps of a clock mean on another one."""
    wall = pd.DatetimeIndex(instants).tz_localize("UTC").tz_convert(shown).tz_localize(None)
    return np.asarray(wall.tz_localize(read).tz_convert("UTC").tz_localize(None))


@given(FILES, st.data())
@settings(max_examples=50)
def test_correct_timestamps_are_never_refused(file: File, data: st.DataObject) -> None:
    """A file may begin and end anywhere and lack any rows, even all opens or all closes."""
    starts = file.starts()
    first = data.draw(st.integers(0, len(starts) - 1), "first")
    last = data.draw(st.integers(first + 1, len(starts)), "last")
    starts = starts[first:last]
    every = data.draw(st.sampled_from([1, 2, 3, 6, 7, 13, 78]), "every")
    lacking = np.arange(len(starts)) % every == data.draw(st.integers(1, every), "lacking")
    if not lacking.all():
        refuse_misread_timestamps(starts[~lacking], file.minutes, "UTC", "AAA.csv", are_ends=False)


@given(FILES, CLOCKS, CLOCKS, st.booleans(), st.booleans())
@settings(max_examples=40)
def test_wrong_time_zone_or_timestamp_convention_is_refused(
    file: File, shown: str, read: str, ends: bool, said: bool
) -> None:
    # One session on each side of a change of clocks shows nothing for certain.
    file = replace(file, extended=False, sessions=file.sessions + 1)
    stamps = on_clock(file.ends() if ends else file.starts(), shown, read)
    if np.array_equal(stamps, file.ends() if said else file.starts()):  # as of London in winter
        refuse_misread_timestamps(stamps, file.minutes, read, "AAA.csv", are_ends=said)
        return
    with pytest.raises(DataError, match=rf"^AAA\.csv: timestamps do not match .* in {read}, "):
        refuse_misread_timestamps(stamps, file.minutes, read, "AAA.csv", are_ends=said)


@given(FILES)
def test_bar_starts_are_derived_from_bar_ends(file: File) -> None:
    file = replace(file, extended=False)
    begins = bar_starts_from_ends(AssetClass.STOCK, file.ends(), file.minutes)
    np.testing.assert_array_equal(begins, file.starts())


def test_few_sessions_or_irregular_bars_are_not_refused() -> None:
    """The closing auction is a bar that begins at the close; a single day is no proof. Bars on the
    full hour are not taken for the ends of other bars.
    """
    starts = File("2024-07-08", 5, 30, extended=False).starts()
    closes = exchange_calendar().closes
    at_close = closes[(closes > starts[0]) & (closes < starts[-1] + np.timedelta64(1, "h"))]
    for stamps in (np.union1d(starts, at_close), np.union1d(starts, at_close[:-1])[1:]):
        refuse_misread_timestamps(stamps, 30, "UTC", "AAA.csv", are_ends=False)
    day = File("2024-07-08", 1, 30, extended=False)
    refuse_misread_timestamps(day.ends(), 30, "UTC", "AAA.csv", are_ends=False)
    on_the_hour = File("2024-07-08", 10, 60, extended=False).starts() + np.timedelta64(30, "m")
    refuse_misread_timestamps(on_the_hour, 60, "UTC", "a.csv", are_ends=False)


def test_clock_ignoring_daylight_saving_time_is_refused() -> None:
    # Of the 40 sessions 23 lie before the clocks change; the others fit, and a half-day in them.
    starts = File("2024-10-01", 40, 60, extended=False).starts()
    read = on_clock(starts - np.timedelta64(5, "h"), "UTC", NEW_YORK)
    with refused(DataError, "a.csv", "UTC", "data.zone"):
        refuse_misread_timestamps(read, 60, NEW_YORK, "a.csv", are_ends=False)


def read(cells: object, zone: str | None = None, dtype: str | None = None) -> list[str]:
    """The instants of a column from the second row of a file on, to the minute."""
    column = pd.Series(cells, name="timestamp", dtype=dtype)  # type: ignore[call-overload]
    found = parse_instant_column(column, "a.csv", 1, zone, ", or name its zone")
    assert found.dtype == np.dtype("datetime64[ns]")
    return [str(each)[:16] for each in found]


NAIVE = ["2024-03-08 09:30", "2024-03-11 09:30"]  # the clocks change between them
UTC = ["2024-03-08T14:30", "2024-03-11T13:30"]


@pytest.mark.parametrize(
    ("cells", "zone", "dtype"),
    [
        (["2024-03-08T14:30Z", "2024-03-11 13:30:00.000+00:00"], None, None),
        (["2024-03-08 09:30-05:00", " 2024-03-11T09:30:00-0400 "], None, None),
        (["2024-03-08 09:30-05:00", "2024-03-11T09:30:00-0400"], "Asia/Tokyo", None),
        (NAIVE, NEW_YORK, None),
        ([NAIVE[0], "2024-03-11T13:30Z"], NEW_YORK, None),
        (UTC, "UTC", None),
        (NAIVE, NEW_YORK, "datetime64[ns]"),
        (UTC, "UTC", "datetime64[us]"),
        (UTC, None, "datetime64[s, UTC]"),
        (UTC, NEW_YORK, "datetime64[s, UTC]"),
    ],
)
def test_zone_in_timestamps_overrides_the_configured_zone(
    cells: list[str], zone: str | None, dtype: str | None
) -> None:
    assert read(cells, zone, dtype) == UTC


@pytest.mark.parametrize(
    ("cells", "zone", "dtype", "facts"),
    [
        (["2024-03-08T14:30Z", "soon"], None, None, ("row 3", "timestamp 'soon'")),
        (["2024-03-08T14:30Z", "3/5/2024 14:30Z"], None, None, ("row 3",)),
        (["2024-03-08T14:30Z", NAIVE[1]], None, None, ("row 3",)),
        (["2024-03-08 09:30", "2024"], NEW_YORK, None, ("row 3", "timestamp '2024'")),
        (NAIVE, None, "datetime64[ns]", ("row 2",)),
        ([NAIVE[0], None], NEW_YORK, "datetime64[ns]", ("row 3", "timestamp")),
        ([UTC[0], None], None, "datetime64[ns, UTC]", ("row 3", "timestamp")),
        ([1.5, 2.5], None, None, ("row 2", "timestamp 1.5")),
        (
            ["1678-01-01", "2261-12-31", "2262-06-01", "2300-01-01"],
            None,
            "datetime64[s, UTC]",
            ("row 4", "timestamp 2262-06-01", "1678", "2262"),
        ),
        (["2024-03-08", "1677-01-01"], None, "datetime64[s, UTC]", ("row 3",)),
        ([*NAIVE, "2024-03-10 02:30"], NEW_YORK, None, ("row 4",)),
    ],
)
def test_ambiguous_timestamp_is_refused_by_row(
    cells: list[str], zone: str | None, dtype: str | None, facts: tuple[str, ...]
) -> None:
    with refused(DataError, "a.csv", *facts):
        read(cells, zone, dtype)
