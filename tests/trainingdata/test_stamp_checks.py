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
from trainingdata.bar_tables import read_table
from trainingdata.bars import FIELDS
from trainingdata.instants import Unzoned
from trainingdata.instruments import instrument
from trainingdata.sessions import stock_grid
from trainingdata.stamp_checks import fit, refuse_misread

NEW_YORK = "America/New_York"
ON_NEW_YORKS_CLOCK = Unzoned(NEW_YORK, "data.zone")
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
        grid = stock_grid()
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
        closes = stock_grid().closes
        close = closes[np.searchsorted(closes, self.starts(), side="right")]
        return np.asarray(np.minimum(ends, close) if not self.extended else ends)


FILES = st.builds(
    File,
    st.sampled_from(DAYS),
    st.integers(2, 8),
    st.sampled_from([60, 30, 15, 5]),
    st.booleans(),
).map(lambda file: replace(file, extended=file.extended and file.minutes < 60))
FORMS = st.sampled_from(["Z", "s", "naive", "offset"])


def read(starts: Instants, form: str, clock: str = "UTC", symbol: str = "AAA") -> Instants:
    """What is read of a table of these starts; clock: that Z and counts of seconds show."""
    utc = pd.Series(starts).dt.tz_localize("UTC")
    wall = utc.dt.tz_convert(clock).dt.tz_localize(None)
    local = utc.dt.tz_convert(NEW_YORK)
    stamps = {
        "Z": lambda: wall.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "s": lambda: wall.dt.as_unit("s").astype("int64"),
        "naive": lambda: local.dt.tz_localize(None).astype(str),
        "offset": lambda: local.astype(str),
    }[form]()
    frame = pd.DataFrame({"timestamp": stamps} | dict.fromkeys(FIELDS, 5.0))
    times, _, _ = read_table(frame, instrument(symbol), f"{symbol}.csv", ON_NEW_YORKS_CLOCK)
    return times


@given(FILES, st.sampled_from(["UTC", "UTC, epoch ms", NEW_YORK, "-05:00", "+01:00"]), st.data())
@settings(max_examples=150, deadline=None)
def test_stamps_that_mean_what_they_say_are_never_doubted(
    file: File, zone: str, data: st.DataObject
) -> None:
    """A file may begin and end anywhere, and lack any rows: all opens or all closes, too."""
    starts = file.starts()
    first = data.draw(st.integers(0, len(starts) - 1), "first")
    last = data.draw(st.integers(first + 1, len(starts)), "last")
    starts = starts[first:last]
    every = data.draw(st.sampled_from([1, 2, 3, 6, 7, 13, 78]), "every")
    lacking = np.arange(len(starts)) % every == data.draw(st.integers(1, every), "lacking")
    if not lacking.all():
        refuse_misread(starts[~lacking], file.minutes, zone, ON_NEW_YORKS_CLOCK, "AAA.csv")


@given(FILES, FORMS)
@settings(max_examples=40, deadline=None)
def test_a_genuine_file_keeps_every_hour_of_its_sessions(file: File, form: str) -> None:
    starts = file.starts()
    grid = stock_grid()
    k = np.searchsorted(grid.starts, starts, side="right") - 1
    expected = np.unique(grid.ends[k[starts < grid.ends[k]]])
    np.testing.assert_array_equal(read(starts, form), expected)


@given(FILES, st.sampled_from(["Z", "s"]))
@settings(max_examples=40, deadline=None)
def test_a_new_york_clock_written_as_utc_is_refused_with_the_way_to_write_it(
    file: File, form: str
) -> None:
    with pytest.raises(DataError) as refused:
        read(file.starts(), form, NEW_YORK)
    text = str(refused.value)
    assert text.startswith(f"AAA.csv: the stamps look like the clock of {NEW_YORK} written ")
    assert "ends of bars" not in text
    assert text.endswith(
        f"write them without a zone, 2024-03-04 09:30, and set data.zone={NEW_YORK}"
    )
    assert len(read(file.starts(), "naive")) > 0, "the way it names is one"


@given(FILES.map(lambda file: replace(file, extended=False)), FORMS)
@settings(max_examples=40, deadline=None)
def test_ends_of_bars_are_refused_with_what_to_take_off(file: File, form: str) -> None:
    with pytest.raises(DataError) as refused:
        read(file.ends(), form)
    text = str(refused.value)
    assert text.startswith("AAA.csv: the stamps look like the ends of bars: as they stand 0% of")
    assert f"take {file.minutes} minutes off each" in text


@given(FILES.map(lambda file: replace(file, extended=False)))
@settings(max_examples=20, deadline=None)
def test_ends_on_a_new_york_clock_written_as_utc_are_both(file: File) -> None:
    with pytest.raises(DataError, match=r"clock of America/New_York written .* like the ends of"):
        read(file.ends(), "Z", NEW_YORK)


@given(st.integers(-12, 12), st.integers(2, 200))
@settings(max_examples=20, deadline=None)
def test_a_coins_hours_are_never_doubted(shift: int, hours: int) -> None:
    """A coin trades around the clock: nothing could show another one."""
    start = np.datetime64("2024-03-04", "ns") + shift * np.timedelta64(1, "h")
    starts = start + np.arange(hours) * np.timedelta64(1, "h")
    assert len(read(starts, "Z", symbol="AAAUSD")) == hours


def test_utc_written_with_new_yorks_offset_is_refused() -> None:
    starts = File("2024-07-01", 4, 60, extended=False).starts()
    shifted = starts + np.timedelta64(4, "h")
    with pytest.raises(DataError, match=r"look like the clock of UTC written as -04:00: .*in UTC"):
        read(shifted, "offset")


def test_naive_stamps_of_another_clock_name_the_zone_that_fits() -> None:
    starts = File("2024-07-01", 4, 60, extended=False).starts()
    frame = pd.DataFrame({"timestamp": pd.Series(starts).astype(str)} | dict.fromkeys(FIELDS, 5.0))
    says = (
        "read on the clock of America/New_York the stamps look wrong, and like that of UTC: .*"
        r"correct data\.zone: data\.zone=UTC$"
    )
    with pytest.raises(DataError, match=says):
        read_table(frame, instrument("AAA"), "AAA.csv", ON_NEW_YORKS_CLOCK)


def test_a_bar_at_the_close_of_few_sessions_or_of_a_file_without_its_opens_is_no_end() -> None:
    """The closing auction is a bar that begins at the close; one day shows nothing for certain."""
    starts = File("2024-07-08", 5, 30, extended=False).starts()
    closes = stock_grid().closes
    at_close = closes[(closes > starts[0]) & (closes < starts[-1] + np.timedelta64(1, "h"))]
    assert len(read(np.union1d(starts, at_close), "Z")) == 35
    late = np.union1d(starts, at_close[:-1])[1:]
    assert len(read(late, "Z")) == 34
    day = File("2024-07-08", 1, 30, extended=False)
    assert len(read(day.ends(), "Z")) == 6


def test_the_shares_are_those_of_sessions_with_a_first_and_a_last_bar() -> None:
    file = File("2024-11-25", 4, 60, extended=False)
    starts = file.starts()
    assert (len(starts), fit(starts, 60)) == (25, fit(starts[::-1], 60))
    whole = fit(starts, 60)
    assert (whole.sessions, whole.trading, whole.opened, whole.closed) == (4, 1.0, 1.0, 1.0)
    without_last = fit(starts[:-1], 60)
    assert (without_last.opened, without_last.closed) == (1.0, 0.75)


def test_a_winter_clock_kept_all_year_is_refused_for_its_summer() -> None:
    # Of the 40 sessions 23 lie before the clocks change; the others fit, and a half-day in them.
    starts = File("2024-10-01", 40, 60, extended=False).starts()
    fixed = starts + np.timedelta64(-5, "h")
    read = pd.DatetimeIndex(fixed).tz_localize(NEW_YORK).tz_convert("UTC").tz_localize(None)
    with pytest.raises(DataError, match=r"1 h too early in summer.* set data.zone to the clock"):
        refuse_misread(np.asarray(read), 60, NEW_YORK, ON_NEW_YORKS_CLOCK, "a.csv")


@pytest.mark.parametrize(("hours", "says"), [(-1, "1 h too early"), (2, "2 h too late")])
def test_stamps_whole_hours_beside_the_sessions_are_refused(hours: int, says: str) -> None:
    moved = File("2024-07-01", 20, 60, extended=False).starts() + np.timedelta64(hours, "h")
    with pytest.raises(DataError, match=says):
        refuse_misread(moved, 60, "UTC", Unzoned(None, ""), "a.csv")


def test_bars_on_the_hour_are_not_called_ends_of_others_that_would_be_refused() -> None:
    sessions = File("2024-07-08", 10, 60, extended=False).starts()
    on_the_hour = sessions + np.timedelta64(30, "m")  # 10:00 to 16:00 New York
    refuse_misread(on_the_hour, 60, "UTC", Unzoned(None, ""), "a.csv")
