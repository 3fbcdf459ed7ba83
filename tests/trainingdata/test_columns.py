"""Bar files of unknown vendors: their columns are found by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import InputError
from tests.support.messages import check_message
from tests.trainingdata.vendor_files import NEW_YORK, table
from trainingdata import load_bars
from trainingdata.bars import OHLCV_FIELDS, Bars, Provenance

DATES = ["2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07", "2024-03-08", "2024-03-11"]
VALUES = [
    [100.0 + row, 101.5 + row, 99.0 + row, 100.25 + row, 1000.0 + row] for row in range(len(DATES))
]
DAYS = pd.DataFrame(VALUES, columns=list(OHLCV_FIELDS))
HOURS = table("AAA")
COIN_HOURS = table("AAAUSD")


def days(stamp: str = "date", write: Callable[[str], Any] = str, **more: Any) -> pd.DataFrame:
    """Six days of a stock with a stamp first and further columns last."""
    frame = DAYS.copy()
    frame.insert(0, stamp, [write(date) for date in DATES])
    return frame.assign(**more)


def hours(bars: pd.DataFrame, stamp: str = "datetime", side: str = "start") -> pd.DataFrame:
    """Hours with their begins or ends in UTC under a heading."""
    frame = bars[list(OHLCV_FIELDS)].copy()
    frame.insert(0, stamp, bars[side].astype(str))
    return frame


def put(folder: Path, content: pd.DataFrame | str, name: str = "AAA.csv") -> Path:
    path = folder / name
    text = content if isinstance(content, str) else content.to_csv(index=False)
    path.write_bytes(text.encode())
    return path


def origin_of(bars: Bars) -> Provenance:
    (origin,) = bars.provenances
    return origin


def refusal(path: Path, **words: Any) -> str:
    with pytest.raises(InputError) as refused:
        load_bars(path, **words)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@given(
    st.sampled_from(["date", "time", "datetime", "timestamp", "t", "begin"]),
    st.sampled_from([str, str.upper, str.title]),
    st.permutations(range(6)),
    st.booleans(),
)
@settings(max_examples=40)
def test_columns_are_found_in_any_case_and_order(
    stamp: str, case: Callable[[str], str], order: list[int], letters: bool
) -> None:
    frame = days(stamp)
    if letters:
        frame = frame.rename(columns={field: field[0] for field in OHLCV_FIELDS})
    frame = frame.rename(columns=case).iloc[:, order]
    with TemporaryDirectory() as folder:
        bars = load_bars(put(Path(folder), frame))
    assert bars.symbols == ("AAA",)
    assert bars.timeframe.name == "1d"
    np.testing.assert_array_equal(bars.values[0], VALUES)
    assert origin_of(bars).notes == ()


@pytest.mark.parametrize(
    "content",
    [
        days("time", lambda date: f"{date} 00:00:00"),
        days("date", lambda date: f"{date}T00:00:00.000Z"),
        days("date", lambda date: f"{date} 00:00:00+00:00"),
        days("date", lambda date: date.replace("-", "")),
        days("").to_csv(index=False),
        days("Date").to_csv(index=True),
        days().assign(time="00:00:00"),
        days().to_csv(index=False).replace(",", ", "),
        "\ufeff" + days().to_csv(index=False).replace("\n", "\r\n"),
        days("Date").to_csv(index=False, quoting=2),
        days().to_csv(index=False).replace("\n", ",\n"),
    ],
)
def test_common_variants_of_daily_files_are_read(
    tmp_path: Path, content: pd.DataFrame | str
) -> None:
    bars = load_bars(put(tmp_path, content))
    np.testing.assert_array_equal(bars.values[0], VALUES)


@pytest.mark.parametrize("index", ["date", "Date", None])
@pytest.mark.parametrize("zone", [None, NEW_YORK])
def test_parquet_index_is_read_as_date_column(
    tmp_path: Path, index: str | None, zone: str | None
) -> None:
    frame = DAYS.set_axis(pd.DatetimeIndex(DATES, name=index).tz_localize(zone))
    frame.to_parquet(tmp_path / "AAA.parquet")
    np.testing.assert_array_equal(load_bars(tmp_path).values[0], VALUES)


def test_ignored_columns_are_reported_once(tmp_path: Path) -> None:
    more = {"dividends": 0.0, "vwap": 1.0, "adjClose": DAYS["close"]}
    (notes,) = (origin_of(load_bars(put(tmp_path, days(**more)))).notes,)
    assert notes == ("ignored: 2 columns dividends, vwap", "adjClose is ignored")


@pytest.mark.parametrize("name", ["symbol", "Ticker", "Name"])
def test_symbol_column_determines_the_symbols(tmp_path: Path, name: str) -> None:
    frame = pd.concat([days(**{name: symbol}) for symbol in ("BBB", "CCC")])
    assert load_bars(put(tmp_path, frame, "all.csv")).symbols == ("BBB", "CCC")


def test_company_name_column_is_not_read_as_symbol(tmp_path: Path) -> None:
    bars = load_bars(put(tmp_path, days(Name="Alpha Inc")))
    assert bars.symbols == ("AAA",)
    assert origin_of(bars).notes == ("ignored: 1 column Name",)


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (days().drop(columns="volume"), ("volume",)),
        (days("when"), ("date",)),
        (days(Close=1.0), ("'close'", "'Close'")),
        (days(timestamp=DATES), ("'date'", "'timestamp'")),
        (days(adj_close=1.0, adjusted_close=1.0), ()),
        (days(time="close"), ("date '2024-03-04'", "'close'")),
        (days().to_csv(index=False, sep=";"), ()),
        (days().to_csv(index=False, sep="\t"), ()),
        (days("date", lambda date: f"{date[5:7]}/{date[8:]}/{date[:4]}"), ("2024-03-04",)),
    ],
)
def test_ambiguous_or_missing_columns_are_refused(
    tmp_path: Path, content: pd.DataFrame | str, facts: tuple[str, ...]
) -> None:
    check_message(refusal(put(tmp_path, content)), *facts)


def test_epoch_timestamp_requires_a_stated_unit(tmp_path: Path) -> None:
    def seconds(date: str) -> int:
        return int(pd.Timestamp(date, tz=NEW_YORK).timestamp())

    path = put(tmp_path, days("time", seconds))
    check_message(refusal(path), "'1709528400'", "data.epoch=s", "2024-03-04T05")
    np.testing.assert_array_equal(load_bars(path, epoch="s").values[0], VALUES)
    check_message(refusal(path, epoch="ms"))


def test_timestamp_without_zone_is_refused_unless_zone_stated(tmp_path: Path) -> None:
    local = HOURS["start"].dt.tz_convert(NEW_YORK)
    frame = hours(HOURS)
    frame["datetime"] = local.dt.strftime("%Y-%m-%d %H:%M:%S")
    path = put(tmp_path, frame)
    check_message(refusal(path))
    expected = load_bars(put(tmp_path, hours(HOURS), "BBB.csv"))
    apart = frame.drop(columns="datetime").assign(
        date=local.dt.strftime("%Y-%m-%d"), time=local.dt.strftime("%H:%M")
    )
    for naive in (frame, apart, apart.rename(columns=str.title)):
        read = load_bars(put(tmp_path, naive), time_zone=NEW_YORK)
        assert read.times.tolist() == expected.times.tolist()


def test_session_calendar_distinguishes_bar_start_and_end_timestamps(tmp_path: Path) -> None:
    begins = load_bars(put(tmp_path, hours(HOURS)))
    ends = load_bars(put(tmp_path, hours(HOURS, side="end"), "BBB.csv"))
    assert begins.times.tolist() == ends.times.tolist()
    assert [origin_of(bars).stamps_are_ends for bars in (begins, ends)] == [False, True]


def test_hourly_bars_with_a_daily_header_stay_hourly(tmp_path: Path) -> None:
    expected = load_bars(put(tmp_path, hours(HOURS)))
    read = load_bars(put(tmp_path, hours(HOURS, "Date").rename(columns=str.title)))
    assert read.timeframe.name == "1h"
    assert read.times.tolist() == expected.times.tolist()


def test_crypto_timestamps_must_be_declared_starts_or_ends(tmp_path: Path) -> None:
    path = put(tmp_path, hours(COIN_HOURS), "AAAUSD.csv")
    check_message(refusal(path), "data.stamps=begin", "data.stamps=end")
    begins, ends = (load_bars(path, stamps=side) for side in ("begin", "end"))
    assert begins.times.tolist() == (ends.times + np.timedelta64(1, "h")).tolist()
    for stamp in ("Timestamp", "BEGIN", "start"):
        named = load_bars(put(tmp_path, hours(COIN_HOURS, stamp), "AAAUSD.csv"))
        assert named.times.tolist() == begins.times.tolist()
    both = hours(COIN_HOURS, "begin").assign(end=COIN_HOURS["end"].astype(str))
    assert load_bars(put(tmp_path, both, "AAAUSD.csv")).times.tolist() == begins.times.tolist()


@pytest.mark.parametrize(
    ("stamp", "state", "other"), [("timestamp", "begin", "end"), ("end", "end", "begin")]
)
@pytest.mark.parametrize("case", [str, str.title])
def test_timestamp_setting_contradicting_the_column_header_is_refused(
    tmp_path: Path, stamp: str, state: str, other: str, case: Callable[[str], str]
) -> None:
    path = put(tmp_path, hours(COIN_HOURS, stamp).rename(columns=case), "AAAUSD.csv")
    check_message(refusal(path, stamps=other), f"data.stamps={other}", case(stamp), state, other)
    assert load_bars(path, stamps=state).times.tolist() == load_bars(path).times.tolist()


def test_daily_dates_may_mark_bar_starts_or_ends(tmp_path: Path) -> None:
    path = put(tmp_path, days("timestamp"))
    for side in ("begin", "end"):
        np.testing.assert_array_equal(load_bars(path, stamps=side).values[0], VALUES)


def test_epoch_unit_contradicting_the_header_is_refused(tmp_path: Path) -> None:
    counts = COIN_HOURS["start"].dt.as_unit("s").astype("int64").astype(str)
    path = put(tmp_path, hours(COIN_HOURS, "unix").assign(unix=counts), "AAAUSD.csv")
    check_message(refusal(path, epoch="ns", stamps="begin"), "data.epoch=ns")
    assert load_bars(path, epoch="s", stamps="begin").mask.all()


@pytest.mark.parametrize("date", ["1962-01-02", "1969-07-03", "1985-10-01", "1999-12-31"])
def test_sessions_from_1962_to_1999_are_read(tmp_path: Path, date: str) -> None:
    rows = DAYS.iloc[:1].assign(date=date)
    assert load_bars(put(tmp_path, rows)).times[0].astype("datetime64[D]") == np.datetime64(date)


def test_rows_before_the_calendar_are_refused(tmp_path: Path) -> None:
    check_message(
        refusal(put(tmp_path, DAYS.iloc[:1].assign(date="1961-12-29"))),
        "row 1",
        "1961-12-29",
        "1962-01-02",
    )


@pytest.mark.parametrize(
    ("frequency", "fact"),
    [("W-FRI", "weekly"), ("MS", "monthly"), ("QS", "quarterly"), ("YS", "yearly"), ("14D", "14")],
)
@pytest.mark.parametrize("symbol", ["AAA", "AAAUSD"])
def test_weekly_or_longer_bars_are_refused_by_name(
    tmp_path: Path, frequency: str, fact: str, symbol: str
) -> None:
    dates = pd.date_range("2018-01-05", periods=8, freq=frequency).strftime("%Y-%m-%d")
    rows = pd.DataFrame(VALUES[:1] * 8, columns=list(OHLCV_FIELDS)).assign(Date=dates)
    check_message(refusal(put(tmp_path, rows.rename(columns=str.title), f"{symbol}.csv")), fact)


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 1.0))
@settings(max_examples=20)
def test_daily_files_with_missing_days_are_accepted(seed: int, share: float) -> None:
    dates = pd.bdate_range("2024-04-01", "2024-05-24")
    kept = dates[np.random.default_rng(seed).random(len(dates)) < share]
    if not len(kept):
        return
    rows = pd.DataFrame(VALUES[:1] * len(kept), columns=list(OHLCV_FIELDS))
    rows.insert(0, "date", kept.strftime("%Y-%m-%d"))
    with TemporaryDirectory() as folder:
        assert load_bars(put(Path(folder), rows)).mask.sum() == len(kept)


@pytest.mark.parametrize("company", ["Coca-Cola, Co", 'The "real" thing, Inc'])
def test_quoted_cells_with_commas_are_read(tmp_path: Path, company: str) -> None:
    bars = load_bars(put(tmp_path, days(name=company, note="a, b")))
    np.testing.assert_array_equal(bars.values[0], VALUES)


def spoilt(cell: str) -> str:
    """Six days whose third volume is another cell."""
    return days().to_csv(index=False).replace("1002.0\n", f"{cell}\n")


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (spoilt('"14,922,900"'), ("row 3", "volume", "'14,922,900'")),
        (spoilt('"99,946"'), ("99946", "99.946")),
        (spoilt('"1002,5"'), ()),
        (spoilt("$1002.0"), ()),
        (spoilt('"1002.0'), ("line 4",)),
        (spoilt('"1002.0"0'), ("line 4",)),
        ('{"error":"rate limit"}\n', ("JSON",)),
        ("<!DOCTYPE html>\n<html></html>\n", ("HTML",)),
    ],
)
def test_unreadable_cell_error_states_row_column_and_value(
    tmp_path: Path, content: str, facts: tuple[str, ...]
) -> None:
    check_message(refusal(put(tmp_path, content)), *facts)


def test_two_day_crypto_bars_are_refused(tmp_path: Path) -> None:
    dates = pd.date_range("2024-03-01", periods=len(DATES), freq="2D").strftime("%Y-%m-%d")
    path = put(tmp_path, DAYS.assign(date=dates), "BTCUSD.csv")
    check_message(refusal(path), "2")
