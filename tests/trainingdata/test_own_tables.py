"""Own tables in another order, of several symbols or with several stamps: read, noted, refused."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foundation.errors import DataError
from trainingdata import load_bars
from trainingdata.bars import Bars
from trainingdata.instants import Unzoned

NEW_YORK = "America/New_York"
NEWEST_FIRST = "rows stand newest first and are read from the last on"
ONE_FILE = "one file a symbol"


def hours(symbol: str = "AAA", days: int = 4, first: str = "2024-10-31") -> pd.DataFrame:
    """Hourly bars with New York's naive stamps; the clocks go back on the fourth day."""
    local = pd.date_range(first, periods=24 * days, freq="h", tz=NEW_YORK)
    if not symbol.endswith("USD"):
        local = (local + pd.Timedelta(minutes=30))[(local.hour >= 9) & (local.hour < 16)]
        local = local[local.day_of_week < 5]
    count = len(local)
    close = 100 + np.arange(count) / 8
    return pd.DataFrame(
        {
            "timestamp": local.tz_localize(None).astype(str),
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": np.arange(count),
        }
    )


def read(folder: Path, table: pd.DataFrame, name: str = "AAA.csv", zone: str = NEW_YORK) -> Bars:
    path = folder / name
    if name.endswith(".parquet"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return load_bars(path, zone=zone)


def refusal(folder: Path, table: pd.DataFrame, name: str = "AAA.csv") -> str:
    with pytest.raises(DataError) as refused:
        read(folder, table, name)
    said = str(refused.value)
    assert said.startswith(str(folder / name))
    assert "\n" not in said
    return said.removeprefix(str(folder / name))


@given(
    st.sampled_from(["AAA", "AAAUSD"]),
    st.sampled_from([".csv", ".parquet"]),
    st.integers(2, 40).filter(lambda rows: rows != 22),  # that begins with the second 01:00
)
@example("AAAUSD", ".csv", 30)
@settings(max_examples=20, deadline=None)
def test_a_file_that_stands_newest_first_holds_the_same_bars_and_is_noted(
    symbol: str, suffix: str, rows: int
) -> None:
    """The hour that the clock shows twice is told from the order, which is the other one."""
    table = hours(symbol).tail(rows)
    with tempfile.TemporaryDirectory() as folder:
        expected = read(Path(folder), table, f"{symbol}{suffix}")
        bars = read(Path(folder), table[::-1], f"{symbol}{suffix}")
    np.testing.assert_array_equal(bars.times, expected.times)
    np.testing.assert_array_equal(bars.values, expected.values)
    assert expected.origins[0].notes == ()
    assert bars.origins[0].notes == (NEWEST_FIRST,)
    assert bars.origins[0].file == expected.origins[0].file


def test_a_fault_of_a_file_that_stands_newest_first_is_named_by_its_row_from_the_last(
    tmp_path: Path,
) -> None:
    table = hours()
    table.loc[2, "high"] = 1.0
    said = refusal(tmp_path, table[::-1])
    assert said.startswith(
        " (newest first: rows are counted from the last): row 3: high 1 is below"
    )


def test_rows_out_of_order_are_no_file_that_stands_newest_first(tmp_path: Path) -> None:
    table = hours()
    swapped = pd.concat([table.iloc[:5], table.iloc[[6, 5]], table.iloc[7:]])
    assert re.match(r": row 7: timestamp .* is earlier than the row", refusal(tmp_path, swapped))


@pytest.mark.parametrize("column", ["symbol", "Ticker", "SYM"])
@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_file_of_several_symbols_is_refused_with_the_column_to_split_it_by(
    tmp_path: Path, column: str, newest_first: bool, mixed: bool
) -> None:
    both = pd.concat([hours().assign(**{column: name}) for name in ("BBB", "AAA")])
    both = both.sort_values("timestamp", kind="stable") if mixed else both
    said = refusal(tmp_path, both[::-1] if newest_first else both)
    assert said == (
        f": its column {column.lower()!r} holds 2 symbols, 'AAA' and 'BBB'; {ONE_FILE}: split it by"
        " that column into files named after the symbols, as NVDA.csv or BTCUSD.csv"
    )


@pytest.mark.parametrize("mixed", [False, True])
def test_rows_of_several_symbols_without_their_names_are_refused_as_such(
    tmp_path: Path, mixed: bool
) -> None:
    both = pd.concat([hours(), hours()])
    both = both.sort_values("timestamp", kind="stable") if mixed else both
    said = refusal(tmp_path, both.rename(columns={"timestamp": "date"}))
    row = 2 if mixed else len(hours()) + 1
    assert re.match(rf": row {row}: date 2024-10-31T13:30Z repeats, as 14 of 28 do: rows of", said)
    assert ONE_FILE in said


def test_a_row_that_slipped_in_twice_makes_no_file_of_several_symbols(tmp_path: Path) -> None:
    table = hours()
    said = refusal(tmp_path, pd.concat([table.iloc[:5], table.iloc[4:]]))
    assert said.startswith(": row 6: timestamp 2024-10-31T17:30Z repeats")
    assert ONE_FILE not in said


@pytest.mark.parametrize(
    ("file", "cell", "noted"),
    [
        ("AAA.csv", "AAA", False),
        ("AAA.csv", " aaa ", False),
        ("AAA.csv", "BBB", True),
        ("BTC-USD.csv", "BTCUSDT", False),
        ("BTC-USD.csv", "BTC", False),
        ("BTC-USD.csv", "ETHUSD", True),
        ("AAA.csv", "Alpha & Co", True),
    ],
)
def test_a_column_that_names_another_symbol_than_the_file_is_noted(
    tmp_path: Path, file: str, cell: str, noted: bool
) -> None:
    symbol = "BTCUSD" if "BTC" in file else "AAA"
    (origin,) = read(tmp_path, hours(symbol).assign(Symbol=cell), file).origins
    said = f"column symbol says {cell!r}, the bars are taken for {symbol} as the file is called"
    assert origin.notes == ((said,) if noted else ())


def test_a_frame_with_symbols_in_its_index_is_a_file_of_one_or_of_several(tmp_path: Path) -> None:
    """So the SDK of the venue gives its bars."""
    one = hours().assign(symbol="AAA")
    levels = ["symbol", "timestamp"]
    bars = read(tmp_path, one.set_index(levels), "AAA.parquet")
    np.testing.assert_array_equal(bars.values, read(tmp_path, hours()).values)
    both = pd.concat([one, hours().assign(symbol="BBB")]).set_index(levels)
    assert "column 'symbol' holds 2 symbols, 'AAA' and 'BBB'" in refusal(
        tmp_path, both, "AAA.parquet"
    )


@pytest.mark.parametrize(
    ("other", "noted"),
    [
        (lambda stamps: stamps, False),
        (lambda stamps: pd.to_datetime(stamps).dt.tz_localize(NEW_YORK).astype(str), False),
        (lambda stamps: stamps.str[:10], True),
        (lambda stamps: stamps.str.replace("2024", "2023"), True),
        (lambda stamps: stamps.str[5:7] + "/" + stamps.str[8:10] + "/2024", True),
    ],
)
def test_a_second_column_that_says_when_is_noted_unless_it_says_the_same(
    tmp_path: Path, other: object, noted: bool
) -> None:
    table = hours()
    table.insert(0, "Date", other(table["timestamp"]))  # type: ignore[operator]
    bars = read(tmp_path, table)
    np.testing.assert_array_equal(bars.times, read(tmp_path, hours()).times)
    said = "date is ignored, timestamp says when bars start"
    assert bars.origins[0].notes == ((said,) if noted else ())


def test_an_index_of_stamps_beside_a_column_of_them_is_noted(tmp_path: Path) -> None:
    table = hours().rename(columns={"timestamp": "date"})
    table.index = pd.DatetimeIndex(pd.to_datetime(table["date"]) - pd.Timedelta(days=1))
    for name, notes in (
        ("date", ()),
        (None, ("a column says when bars start, the index is ignored",)),
        ("when", ("a column says when bars start, the index is ignored",)),
    ):
        bars = read(tmp_path, table.rename_axis(name), "AAA.parquet")
        assert bars.origins[0].notes == notes
        np.testing.assert_array_equal(bars.times, read(tmp_path, hours()).times)


@pytest.mark.parametrize("row", [1, 5])
@pytest.mark.parametrize(
    "form", ["%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y", "%d.%m.%Y %H:%M", "%m-%d-%Y %H:%M"]
)
def test_a_date_that_may_be_of_two_months_is_refused_with_its_row_and_how_to_write_it(
    tmp_path: Path, form: str, row: int
) -> None:
    table = hours(first="2024-03-04")
    cell = pd.to_datetime(table["timestamp"]).dt.strftime(form).iloc[row - 1]
    table.loc[row - 1, "timestamp"] = cell
    assert refusal(tmp_path, table) == (
        f": row {row}: timestamp {cell!r} is no date and time; write it as 2024-10-01T13:30Z, or as"
        " 2024-10-01 09:30 on the clock of America/New_York (YYYY-MM-DD)"
    )


def test_how_to_write_a_date_names_a_clock_only_where_one_is_set() -> None:
    assert Unzoned().no_date.endswith("write it as 2024-10-01T13:30Z (YYYY-MM-DD)")


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M",
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S.000",
        "%Y-%m-%d %H:%M:%S%z",
        "%Y-%m-%dT%H:%M%z",
    ],
)
def test_dates_of_the_year_first_are_read_in_every_form(tmp_path: Path, form: str) -> None:
    table = hours(first="2024-03-04")
    expected = read(tmp_path, table)
    local = pd.to_datetime(table["timestamp"]).dt.tz_localize(NEW_YORK)
    bars = read(tmp_path, table.assign(timestamp=local.dt.strftime(form)))
    np.testing.assert_array_equal(bars.times, expected.times)


def test_one_of_a_kind_is_not_counted_as_several(tmp_path: Path) -> None:
    early = hours().head(1).assign(timestamp="2024-10-31 08:30:00")
    (origin,) = read(tmp_path, pd.concat([early, hours()])).origins
    assert origin.notes == ("left out: 1 row outside regular New York hours",)
    starts = pd.date_range("2024-10-31 10:00", "2024-10-31 13:00", freq="15min")[:-1]
    parts = hours().head(1).merge(pd.Series(starts.astype(str), name="start"), how="cross")
    parts = parts.assign(timestamp=parts["start"]).drop(index=5)
    (origin,) = read(tmp_path, parts.drop(columns="start")).origins
    assert origin.notes == (
        "15-minute bars are put together to hours",
        "1 of 2 hours lacks some of them",
        "left out: 2 hours in which the file begins or ends",
    )


def test_the_ticker_of_yfinances_headings_is_compared_with_the_files_name(tmp_path: Path) -> None:
    lines = ["Price,Close,High,Low,Open,Volume", "Ticker,MSFT,MSFT,MSFT,MSFT,MSFT", "Datetime,,,,,"]
    lines += [f"2024-03-08 {hour}:30:00+00:00,5,5,5,5,9" for hour in range(14, 21)]
    (tmp_path / "AAPL.csv").write_text("\n".join(lines))
    (origin,) = load_bars(tmp_path / "AAPL.csv").origins
    assert origin.notes == (
        "column ticker says 'MSFT', the bars are taken for AAPL as the file is called",
    )
    (tmp_path / "MSFT.csv").write_text("\n".join(lines))
    assert not load_bars(tmp_path / "MSFT.csv").origins[0].notes


def test_a_shuffled_file_is_not_called_newest_first(tmp_path: Path) -> None:
    said = refusal(tmp_path, hours().sample(frac=1.0, random_state=3))
    assert re.match(r": row \d+: timestamp .*Z is earlier than the row before", said)


def test_bars_beyond_the_calendar_say_so(tmp_path: Path) -> None:
    assert "and the calendar of sessions ends at" in refusal(tmp_path, hours(first="2034-11-30"))
