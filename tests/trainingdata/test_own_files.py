"""Files of bars as people have them: every shape that is read, and every one that is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import DataError, InputError
from trainingdata import load_bars
from trainingdata.bars import CLOSE, Bars
from trainingdata.instruments import data_symbol, instrument, is_symbol, symbols_of
from trainingdata.source import DataSettings

FIELDS = ["open", "high", "low", "close", "volume"]
# On the first of these days the clocks of New York go forward, on the second back.
DAYS = ("2024-03-08", "2024-11-01")


def table(symbol: str, day: str = DAYS[0], minutes: int = 60, days: int = 4) -> pd.DataFrame:
    """Bars of some minutes while a symbol trades: `start` and the fields, prices in cents."""
    begin = pd.Timestamp(day, tz="America/New_York")
    end = begin + pd.DateOffset(days=days)
    stock = not symbol.endswith("USD")
    if stock and minutes == 60:
        begin += pd.Timedelta(minutes=30)
    local = pd.date_range(begin, end, freq=f"{minutes}min", inclusive="left")
    minute = local.hour * 60 + local.minute
    session = (minute >= 570) & (minute < 960) & (local.day_of_week < 5)
    starts = (local[session] if stock else local).tz_convert("UTC")
    cents = np.random.default_rng(len(starts)).integers(9_000, 11_000, (len(starts), 4))
    cents.sort(axis=1)
    prices = cents / 100
    return pd.DataFrame(
        {
            "start": starts,
            "open": prices[:, 1],
            "high": prices[:, 3],
            "low": prices[:, 0],
            "close": prices[:, 2],
            "volume": np.arange(len(starts)) % 7 + 1,
        }
    )


def written_stamps(starts: pd.Series, form: str) -> pd.Series:
    """The starts as a file of this form writes them."""
    local = starts.dt.tz_convert("America/New_York")
    units = {"s": 10**9, "ms": 10**6, "µs": 10**3, "ns": 1}
    if form in units:
        counts = starts.dt.tz_convert("UTC").dt.as_unit("ns").astype("int64")
        return counts // units[form]
    if form == "naive":
        return local.dt.tz_localize(None).astype(str)
    if form == "offset":
        return local.astype(str)
    text = starts.dt.tz_convert("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S")
    return text + "Z"


@dataclass(frozen=True)
class Shape:
    stamp: str
    form: str
    capitals: str
    delimiter: str
    extra: bool
    suffix: str

    @property
    def zone(self) -> str | None:
        return "America/New_York" if self.form == "naive" else None

    def write(self, bars: pd.DataFrame, path: Path) -> None:
        data = bars.rename(columns={"start": self.stamp})
        data[self.stamp] = written_stamps(bars["start"], self.form)
        if self.extra:
            data["Adj Close"] = 1.0
            data["name"] = "n/a"
        data.columns = [getattr(str(name), self.capitals)() for name in data.columns]
        if self.suffix == ".parquet":
            data.to_parquet(path)
        else:
            data.to_csv(path, index=False, sep=self.delimiter)


SHAPES = st.builds(
    Shape,
    st.sampled_from(["timestamp", "Date", "Datetime", "time"]),
    st.sampled_from(["utc", "offset", "naive", "s", "ms", "µs", "ns"]),
    st.sampled_from(["lower", "upper", "title"]),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
    st.sampled_from([".csv", ".csv.gz", ".parquet"]),
)
NAMES = {
    "AAA": ("AAA", "aaa", "aaa_1h", "AAA-5m", "aaa.hourly", "aaa_M15"),
    "AAAUSD": ("AAAUSD", "aaa-usd", "AAA_USD", "aaausdt", "AAA-USDT-1h", "aaa_usdt_30min"),
}


def same_bars(one: Bars, other: Bars) -> None:
    assert one.symbols == other.symbols
    np.testing.assert_array_equal(one.times, other.times)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-12)


def plain_hours(bars: pd.DataFrame, symbol: str, minutes: int) -> pd.DataFrame:
    """The hours that the parts make, by pandas: from 09:30 New York for stocks."""
    offset = pd.Timedelta(minutes=0 if symbol.endswith("USD") else 30)
    hours = (bars["start"] - offset).dt.floor("h") + offset
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    joined = bars.drop(columns="start").groupby(hours).agg(how)
    return joined.rename_axis("start").reset_index()


@given(
    SHAPES,
    st.sampled_from([(symbol, name) for symbol, names in NAMES.items() for name in names]),
    st.sampled_from(DAYS),
    st.sampled_from([60, 30, 15, 5]),
)
@settings(max_examples=60)
def test_a_file_of_any_accepted_shape_holds_the_same_bars(
    shape: Shape, names: tuple[str, str], day: str, minutes: int
) -> None:
    symbol, name = names
    bars = table(symbol, day, minutes)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain" / f"{symbol}.csv"
        plain.parent.mkdir()
        Shape("timestamp", "utc", "lower", ",", False, ".csv").write(
            plain_hours(bars, symbol, minutes), plain
        )
        path = Path(folder) / f"{name}{shape.suffix}"
        shape.write(bars, path)
        expected = load_bars(plain.parent)
        same_bars(load_bars(path, zone=shape.zone), expected)


@given(st.integers(1, 60), st.sampled_from(["AAA", "AAAUSD"]), st.sampled_from([10, 15, 30]))
@settings(max_examples=30)
def test_what_is_known_at_an_instant_is_made_of_nothing_later(
    parts: int, symbol: str, minutes: int
) -> None:
    """A file that ends earlier has the same hours, without those it does not hold to their end."""
    bars = table(symbol, DAYS[0], minutes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{symbol}.csv"
        shape = Shape("timestamp", "utc", "lower", ",", False, ".csv")
        shape.write(bars, path)
        whole = load_bars(path)
        known = min(60 // minutes + parts, len(bars))
        shape.write(bars.iloc[:known], path)
        part = load_bars(path)
    end = bars["start"].iloc[known - 1] + pd.Timedelta(minutes=minutes)
    now = np.datetime64(end.tz_convert("UTC").tz_localize(None), "ns")
    same_bars(part, whole.until(now))


def csv_of(path: Path, bars: pd.DataFrame) -> Path:
    Shape("timestamp", "utc", "lower", ",", False, ".csv").write(bars, path)
    return path


def test_folders_and_files_stand_side_by_side_and_one_named_twice_is_one(tmp_path: Path) -> None:
    (tmp_path / "stocks").mkdir()
    csv_of(tmp_path / "stocks" / "AAA.csv", table("AAA"))
    coin = csv_of(tmp_path / "bbb-usdt_1h.csv", table("BBBUSD"))
    bars = load_bars(tmp_path / "stocks", coin, coin)
    assert bars.symbols == ("AAA", "BBBUSD")
    data = DataSettings(dir=(str(tmp_path / "stocks"), str(tmp_path)))
    assert data.bars(["AAA, BBB-USDT"], None, None).symbols == ("AAA", "BBBUSD")
    assert data.bars(["bbb/usd,"], None, None).symbols == ("BBBUSD",)
    with pytest.raises(InputError, match="symbols: ',' is neither"):
        data.bars([","], None, None)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["AAA.txt"], r"AAA\.txt is no \.parquet, \.csv or \.csv\.gz file"),
        (["prices of aaa.csv"], r"the name of .*prices of aaa\.csv says no symbol; call it as"),
        (["AAA_2024.csv"], "says no symbol"),
        (["BTC-EUR.csv"], "says no symbol"),
        (["BRK_B.csv"], "says no symbol"),
        (["nowhere/AAA.csv"], r"nowhere/AAA\.csv is no folder and no file"),
        (["BTC-USD.csv", "BTCUSDT.csv"], r"BTCUSD: two files, .*BTC-USD.* and .*BTCUSDT"),
    ],
)
def test_a_file_whose_name_says_no_symbol_for_certain_is_refused(
    tmp_path: Path, names: list[str], says: str
) -> None:
    for name in names:
        if "/" not in name:
            csv_of(tmp_path / name, table("BTCUSD"))
    with pytest.raises(DataError, match=says):
        load_bars(*(tmp_path / name for name in names))


def test_pairs_are_one_symbol_however_they_are_written_and_a_venues_names_stay_its_own() -> None:
    spelled = ("BTCUSD", "BTC/USD", "btc-usd", "btc_usd", "BTCUSDT", "BTC-USDT", "BTC/USDT")
    assert symbols_of(spelled) == ["BTCUSD"]
    assert data_symbol("OPUSDT") == "OPUSD"
    assert data_symbol("brk.b") == "BRK.B"
    assert symbols_of(["NVDA,AAPL", "SPY, NVDA"]) == ["NVDA", "AAPL", "SPY"]
    assert instrument("BTC-USD") == instrument("BTCUSD")
    # A position against the tether is none against the dollar: it must not be taken for one.
    assert not is_symbol("BTCUSDT")
    assert not is_symbol("BTC/USDT")


def test_what_is_ignored_or_taken_for_something_else_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT.csv"
    Shape("Date", "s", "title", ";", True, ".csv").write(table("BTCUSD", minutes=15), path)
    (origin,) = load_bars(path).origins
    assert (origin.file, origin.zone, origin.minutes) == (str(path), "UTC, epoch s", 15)
    assert origin.notes == (
        "quoted in USDT, which is taken for USD",
        "adj close is ignored",
        "15-minute bars are put together to hours",
    )
    plain = csv_of(tmp_path / "AAAUSD.csv", table("AAAUSD"))
    assert load_bars(plain).origins[0].notes == ()
    asked = load_bars(plain, symbols=["AAA-USDT"]).origins[0]
    says = "requested in USDT; the file is called AAAUSD.csv and read as prices in USD"
    assert asked.notes == (says,)


@pytest.mark.parametrize(
    ("form", "zone", "said"),
    [
        ("utc", None, "UTC"),
        ("naive", "America/New_York", "America/New_York"),
        ("offset", None, "-05:00"),
        ("ms", None, "UTC, epoch ms"),
    ],
)
def test_the_zone_of_the_stamps_is_said(
    tmp_path: Path, form: str, zone: str | None, said: str
) -> None:
    path = tmp_path / "AAA.csv"
    Shape("timestamp", form, "lower", ",", False, ".csv").write(table("AAA"), path)
    assert load_bars(path, zone=zone).origins[0].zone == said


def written(path: Path, stamps: Sequence[object], stamp: str = "timestamp") -> Path:
    """A file with these stamps."""
    rows = pd.DataFrame({stamp: stamps} | dict.fromkeys(FIELDS, [5.0] * len(stamps)))
    rows.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("stamps", "says"),
    [
        (
            ["2024-10-01 13:30", "2024-10-01 14:30"],
            r"row 1: timestamp '2024-10-01 13:30' has no zone; write it in UTC, ending in Z, or"
            r" name its zone: data\.zone=America/New_York",
        ),
        (["10/01/2024 13:30"], r"row 1: .* is no date and time; write it as 2024-10-01T13:30Z"),
        (["2999-10-01T13:30Z"], r"row 1: .* is no instant between 1678 and 2262"),
        ([1727789400, 5], "row 2: timestamp '5' is no date and time, and no count of s"),
        ([1727789400, 1727793000000], "row 2: .* no count of s since 1970"),
        ([1727789400000, 1727793000], "row 2: .* no count of ms since 1970"),
        ([17277894, 17277900], "is no date and time"),
        (["202410010930"], "is no date and time"),
        (["1727789400.5"], "is no date and time"),
        (["2024-10-01", "2024-10-02", "2024-10-03"], r"AAA\.csv: daily bars: .* bars of an hour"),
        ([f"2024-10-0{d}T04:00:00Z" for d in (1, 2, 3)], r"AAA\.csv: daily bars"),
        ([f"2024-10-01T{h}:30:00Z" for h in (13, 17, 19)], "120 minutes apart and more"),
        (
            [f"2024-10-01T{h}:00:00Z" for h in (14, 15, 16)],
            r"row 1: 2024-10-01T14:00Z is no start of an hourly bar \(09:30, 10:30 … New York\);"
            r" bars on full hours mix .* give 5-, 15- or 30-minute bars, .* coin's file is",
        ),
        (
            [f"2024-10-01T13:{m}:00Z" for m in (30, 35, 40, 47)],
            r"row 4: 2024-10-01T13:47Z is no start of a 5-minute bar",
        ),
        ([f"2024-10-01T13:{m}:00Z" for m in (35, 40, 45)], "5-minute bars fill no hour"),
        ([f"2024-10-01T0{h}:30:00Z" for h in (3, 4)], "no row lies within regular"),
        ([f"2024-10-01T03:{m}:00Z" for m in (30, 35)], "no row lies within regular"),
    ],
)
def test_stamps_that_cannot_be_trusted_are_refused_with_what_to_do(
    tmp_path: Path, stamps: list[object], says: str
) -> None:
    path = written(tmp_path / "AAA.csv", stamps)
    with pytest.raises(DataError, match=says) as refused:
        load_bars(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_daily_and_four_hourly_bars_of_a_coin_do_not_pass_for_hourly_ones(tmp_path: Path) -> None:
    """They start on full hours, as hourly ones do."""
    days = [f"2024-10-0{day}T00:00:00Z" for day in (1, 2, 3)]
    with pytest.raises(DataError, match=r"daily bars: .*volatility index"):
        load_bars(written(tmp_path / "AAAUSD.csv", days))
    hours = [f"2024-10-01T{hour:02}:00:00Z" for hour in (0, 4, 8, 12)]
    with pytest.raises(DataError, match="its bars are 240 minutes apart"):
        load_bars(written(tmp_path / "AAAUSD.csv", hours))


@pytest.mark.parametrize(
    ("heading", "says"),
    [
        ("when,open,high,low,close,volume", r"no column says when a bar starts \(timestamp, datet"),
        ("date,time,open,high,low,close,volume", r"columns 'date' and 'time' both say when"),
        ("date,open,high,low,close", r"column 'volume' is missing; it has date, open"),
        ("date,open,high,low,close,Close,volume", r"column 'close' is there twice"),
        ("date,open,high,low,close,close,volume", r"column 'close' is there twice"),
        ("", "the file is empty"),
    ],
)
def test_headings_that_leave_doubt_are_refused(tmp_path: Path, heading: str, says: str) -> None:
    path = tmp_path / "AAA.csv"
    path.write_text(f"{heading}\n")
    with pytest.raises(DataError, match=says):
        load_bars(path)


def test_a_row_with_more_cells_than_headings_is_refused(tmp_path: Path) -> None:
    path = csv_of(tmp_path / "AAA.csv", table("AAA"))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], f"{lines[3]},7", *lines[4:]]))
    with pytest.raises(DataError, match=r"cannot be read: .*line 4"):
        load_bars(path)


@pytest.mark.parametrize(
    "zone", ["EST", "New York", "America/Nowhere", "", "../etc", "America/", "EST5EDT"]
)
def test_a_zone_that_is_none_or_has_no_summer_is_refused_by_name(zone: str) -> None:
    with pytest.raises(InputError, match=r"data\.zone: .* is no zone; write UTC or a place"):
        DataSettings(zone=zone)


@pytest.mark.parametrize("zone", ["UTC", "America/Chicago", "Europe/London"])
@pytest.mark.parametrize("minutes", [60, 15])
def test_naive_stamps_read_on_another_clock_are_refused_where_the_sessions_show_it(
    tmp_path: Path, zone: str, minutes: int
) -> None:
    path = tmp_path / "AAA.csv"
    bars = table("AAA", DAYS[1], minutes, days=14)
    Shape("timestamp", "naive", "lower", ",", False, ".csv").write(bars, path)
    assert load_bars(path, zone="America/New_York").mask.sum() == 70
    with pytest.raises(DataError, match=rf"read on the clock of {zone}.*correct data\.zone"):
        load_bars(path, zone=zone)


def test_an_hour_that_the_clock_shows_twice_or_never_is_refused_where_the_order_does_not_tell(
    tmp_path: Path,
) -> None:
    for stamps in (
        ["2024-11-03 00:00", "2024-11-03 01:00", "2024-11-03 02:00"],
        ["2024-03-10 01:00", "2024-03-10 02:00", "2024-03-10 03:00"],
    ):
        path = written(tmp_path / "AAAUSD.csv", stamps)
        says = "row 2: .* is there twice or never on the clock of America/New_York"
        with pytest.raises(DataError, match=says):
            load_bars(path, zone="America/New_York")


def test_stamps_with_a_zone_keep_it_beside_those_without(tmp_path: Path) -> None:
    stamps = ["2024-10-01T13:30Z", "2024-10-01 10:30", "2024-10-01T11:30-04:00"]
    path = written(tmp_path / "AAA.csv", stamps)
    bars = load_bars(path, zone="America/New_York")
    assert (
        bars.times.tolist()
        == load_bars(
            written(path, [f"2024-10-01T{hour}:30Z" for hour in (13, 14, 15)])
        ).times.tolist()
    )
    with pytest.raises(DataError, match=r"row 2: timestamp '2024' is no date and time"):
        load_bars(written(path, ["2024-10-01 09:30", "2024"]), zone="America/New_York")


def test_a_parquet_file_may_keep_its_stamps_in_the_index(tmp_path: Path) -> None:
    expected = load_bars(csv_of(tmp_path / "AAA.csv", table("AAA")))
    for name in ("Datetime", None):
        path = tmp_path / "other" / "AAA.parquet"
        path.parent.mkdir(exist_ok=True)
        table("AAA").set_index("start").rename_axis(name).to_parquet(path)
        same_bars(load_bars(path), expected)
        assert load_bars(path).values[0, 0, CLOSE] == expected.values[0, 0, CLOSE]
