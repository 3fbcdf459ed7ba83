"""The table of vendors' heads: what is written under one is read, and everything else refused."""

from __future__ import annotations

import datetime
import re
import tempfile
import zoneinfo
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from foundation.errors import DataError, InputError
from tests.support.messages import check_message, refused
from tests.trainingdata.vendor_files import (
    DAYS,
    NEW_YORK,
    OWN,
    READ,
    frame_of,
    table,
    write,
    write_download,
)
from trainingdata import load_bars
from trainingdata.bars import CLOSE, OHLCV_FIELDS, VOLUME, Bars
from trainingdata.file_formats import EXAMPLE_CSV_LINES, FILE_FORMATS, FileFormat
from trainingdata.instruments import instrument, is_symbol, normalize_data_symbol, parse_symbols
from trainingdata.source import DataSettings

HEADINGS, FIRST = EXAMPLE_CSV_LINES
ROWS = [
    f"2024-03-0{day}T{hour}:30:00Z,100,101.5,99,100.25,{1000 + hour}"
    for day in (4, 5)
    for hour in range(14, 21)
]


def text(rows: list[str] = ROWS, headings: str = HEADINGS) -> str:
    return "\n".join([headings, *rows, ""])


def with_cell(column: int, cell: str) -> str:
    """The text with another cell in its fourth row."""
    cells = ROWS[3].split(",")
    cells[column] = cell
    return text([*ROWS[:3], ",".join(cells), *ROWS[4:]])


def put(folder: Path, content: str | bytes, name: str = "AAA.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path, zone: str | None = None) -> str:
    """What a file is refused with, one line that begins with its path."""
    with pytest.raises(DataError) as refused:
        load_bars(path, time_zone=zone)
    said = str(refused.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert "\0" not in said
    return said


def same_bars(one: Bars, other: Bars) -> None:
    assert one.symbols == other.symbols
    np.testing.assert_array_equal(one.times, other.times)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-12)


@given(
    st.sampled_from(READ),
    st.sampled_from([60, 30, 15]),
    st.sampled_from(["another clock", "the other side", "early", "late"]),
)
@settings(max_examples=25)
def test_wrong_time_zone_or_timestamp_convention_is_refused(
    head: FileFormat, minutes: int, fault: str
) -> None:
    """UTC as New York's clock, ends as begins, an hour off: each would let a decision look ahead,
    or late.
    """
    bars = table("AAA", "2024-03-08", minutes, days=14)
    local = bars["start"].dt.tz_convert(NEW_YORK).dt.tz_localize(None)
    hour = pd.Timedelta(hours=1)
    if fault == "another clock":
        stamps = local.dt.tz_localize(head.time_zone or "UTC").dt.tz_convert("UTC")
        if head.stamps_are_ends:
            stamps += bars["end"] - bars["start"]
    elif fault == "the other side":
        stamps = bars["start"] if head.stamps_are_ends else bars["end"]
    else:
        stamps = bars["end" if head.stamps_are_ends else "start"] + (
            hour if fault == "late" else -hour
        )
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "AAA.csv", bars.assign(start=stamps, end=stamps), head)
        with pytest.raises(DataError, match=", but do as ") as refused:
            load_bars(path)
    assert str(refused.value).startswith(f"{path}: timestamps do not match New York trading hours")


VENDORS = {
    "Alpaca's SDK": (
        "symbol,timestamp,open,high,low,close,volume,trade_count,vwap\n"
        "AAA,2024-03-04 14:30:00+00:00,100.0,101.5,99.0,100.25,1014.0,9.0,100.1\n"
    ),
    "Alpaca's answers": "c,h,l,n,o,t,v,vw\n100.25,101.5,99,9,100,2024-03-04T14:30:00Z,1014,100.1\n",
    "yfinance's history": (
        "Datetime,Open,High,Low,Close,Volume,Dividends,Stock Splits\n"
        "2024-03-04 09:30:00-05:00,100.0,101.5,99.0,100.25,1014,0.0,0.0\n"
    ),
    "yfinance's download": (
        "Price,Close,High,Low,Open,Volume\nTicker,AAA,AAA,AAA,AAA,AAA\nDatetime,,,,,\n"
        "2024-03-04 14:30:00+00:00,100.25,101.5,99.0,100.0,1014\n"
    ),
    "Polygon": (
        "ticker,volume,open,close,high,low,window_start,transactions\n"
        "AAA,1014,100,100.25,101.5,99,1709562600000000000,9\n"
    ),
    "Binance's futures": (
        "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
        "taker_buy_quote_volume,ignore\n"
        "1709562600000,100,101.5,99,100.25,1014,1709566199999,1,9,1,1,0\n"
    ),
    "Binance's spot": "1709562600000,100,101.5,99,100.25,1014,1709566199999,1,9,1,1,0\n",
    "own": "end,open,high,low,close,volume\n2024-03-04T15:30Z,100,101.5,99,100.25,1014\n",
    "marked and of Windows": "\ufeff" + HEADINGS + "\r\n" + ROWS[0] + "\r\n",
    "without a last line feed": HEADINGS + "\n" + ROWS[0],
}


@pytest.mark.parametrize("content", VENDORS.values(), ids=VENDORS.keys())
def test_each_vendor_format_is_read_exactly(tmp_path: Path, content: str) -> None:
    bars = load_bars(put(tmp_path, content))
    assert bars.times.tolist() == np.array(["2024-03-04T15:30"], "datetime64[ns]").tolist()
    assert bars.values.tolist() == [[[100, 101.5, 99, 100.25, 1014]]]


STOOQ = {
    "Date,Time,Open,High,Low,Close,Volume": "2024-03-04,{}:{}:00,100,101.5,99,100.25,7",
    "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>": (
        "AAA.US,5,20240304,{}{}00,100,101.5,99,100.25,7,0"
    ),
}


@pytest.mark.parametrize("headings", STOOQ)
def test_stooq_five_minute_bars_use_warsaw_time(tmp_path: Path, headings: str) -> None:
    """Stooq's hourly bars begin at full New York hours, half an hour into the session: no format
    reads those.
    """
    at = [(15 + (30 + k) // 60, f"{(30 + k) % 60:02}") for k in range(0, 60, 5)]
    bars = load_bars(put(tmp_path, text([STOOQ[headings].format(*part) for part in at], headings)))
    assert bars.times.tolist() == np.array(["2024-03-04T15:30"], "datetime64[ns]").tolist()
    assert bars.values[0, 0, VOLUME] == 7 * 12
    assert bars.provenances[0].stamp_description == "Europe/Warsaw, begin"


def test_unknown_format_error_shows_a_valid_file(tmp_path: Path) -> None:
    check_message(
        refusal(put(tmp_path, "when,o,h,l,c\n2024-03-04,1,1,1,1\n", "BTCUSD.csv")),
        "when,o,h,l,c",
        HEADINGS,
        FIRST,
    )
    assert load_bars(put(tmp_path, f"{HEADINGS}\n{FIRST}\n")).values[0, 0, CLOSE] == 100.25


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (with_cell(4, ""), ("row 4", "close")),
        (with_cell(4, "1.100,25"), ("row 4", "7", "6")),
        (text([row.replace("100,", "True,", 1) for row in ROWS]), ("row 1", "open")),
        (with_cell(0, ""), ("row 4",)),
        (with_cell(0, "2024-03-04T17:30:00"), ("row 4", "timestamp '2024-03-04T17:30:00'")),
        (with_cell(0, "03/04/2024 17:30"), ("row 4", "timestamp '03/04/2024 17:30'")),
        (with_cell(0, "2024-03-04T17:47:00Z"), ("09:30", "10:30")),
        (text()[:200].encode() + b"\0" * 300, ("line 5",)),
        (text().encode("utf-16"), ("line 1", "UTF-16")),
        (text().encode() + b"\xe9", ("line 16", "UTF-8")),
        (text([]), ()),
        # A header of no vendor.
        (text(headings="timestamp,open,high,low,close"), ()),
        (text(headings="timestamp;open;high;low;close;volume"), ()),
        (text(headings=f"{HEADINGS},close"), ("'close'",)),
        (text(headings=ROWS[0]), ()),
        ("", ()),
        (text(headings="Price,Close,High,Low,Open,Volume"), ()),
    ],
)
def test_error_explains_a_damaged_row_or_header(
    tmp_path: Path, content: str | bytes, facts: tuple[str, ...]
) -> None:
    said = refusal(put(tmp_path, content))
    check_message(said, *facts)
    assert len(said) < (800 if "unknown head" in said else 320)


@given(st.integers(0, len(text()) - 1), st.sampled_from('",;|#\0\n 7x-.'), st.booleans())
@example(82, ",", True)  # the first row and the second as one
@settings(max_examples=60)
def test_wrong_character_never_silently_loses_a_row(
    place: int, character: str, instead: bool
) -> None:
    changed = text()[:place] + character + text()[place + instead :]
    with tempfile.TemporaryDirectory() as folder:
        try:
            bars = load_bars(put(Path(folder), changed))
        except DataError:
            return
    (origin,) = bars.provenances
    assert bars.mask.sum() == len(ROWS) or origin.notes or origin.data_warnings


@pytest.mark.parametrize("count", ["1709562600", "1709562600000000", "1709562600000.5", "x"])
def test_timestamp_in_an_unexpected_unit_is_refused(tmp_path: Path, count: str) -> None:
    later = put(tmp_path, "1735689600000000,5,5,5,5,9,1735693199999999,1,9,1,1,0\n", "BBBUSD.csv")
    assert load_bars(later).last_instant == np.datetime64("2025-01-01T01:00")
    said = refusal(put(tmp_path, f"{count},5,5,5,5,9,1709566199999,1,9,1,1,0\n", "BTCUSDT.csv"))
    assert "unknown head" in said or "row 1: open_time" in said
    content = VENDORS["Polygon"].replace("1709562600000000000", count)
    check_message(refusal(put(tmp_path, content, "BBB.csv")), "1990-01-01", "2200-01-01", "1970")


NAMING = [head for head in READ if head.symbol_column]


@pytest.mark.parametrize("head", [*NAMING, None], ids=[*(head.vendor for head in NAMING), "table"])
def test_multi_symbol_file_becomes_one_panel(tmp_path: Path, head: FileFormat | None) -> None:
    bars, path = table("AAA"), tmp_path / "all.csv"
    if head is None:
        write_download(path, bars, "BBB", "AAA")
    else:
        write(path, bars, head, "BBB", "AAA")
    assert load_bars(path).symbols == ("AAA", "BBB")
    same_bars(load_bars(path, symbols=["BBB"]), load_bars(write(tmp_path / "p" / "BBB.csv", bars)))
    if head is None:
        return
    spoilt = frame_of(head, bars, "AAA", "BBB")
    spoilt.loc[len(bars) + 2, head.ohlcv_columns[3]] = -1
    spoilt.to_csv(path, index=False)
    check_message(refusal(path), "row 3", "close", "-1")
    spoilt.loc[4, head.symbol_column] = None
    spoilt.to_csv(path, index=False)
    with refused(DataError, "all.csv", "row 5"):
        load_bars(path, symbols=["BBB"])


def test_one_symbol_in_two_spellings_is_refused(tmp_path: Path) -> None:
    rows = [f"{row},{name}" for name in ("BTC-USD", "BTCUSD") for row in ROWS]
    path = put(tmp_path, text(rows, f"{HEADINGS},symbol"), "BTCUSD.csv")
    check_message(refusal(path), "'BTC-USD'", "'BTCUSD'")


@given(st.integers(1, 60), st.sampled_from(["AAA", "AAAUSD"]), st.sampled_from([10, 15, 30]))
@settings(max_examples=12)
def test_truncated_file_gives_the_same_earlier_bars(parts: int, symbol: str, minutes: int) -> None:
    """A file that ends earlier has the same hours, except those it does not cover completely."""
    bars = table(symbol, DAYS[0], minutes)
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"{symbol}.csv", bars)
        whole = load_bars(path)
        known = min(60 // minutes + parts, len(bars))
        part = load_bars(write(path, bars.iloc[:known]))
    now = np.datetime64(bars["end"].iloc[known - 1].tz_localize(None), "ns")
    same_bars(part, whole.slice_until(now))


def test_hourly_bars_with_gaps_keep_their_end_times(tmp_path: Path) -> None:
    """Rows mostly two hours apart are still hourly bars: as two-hour bars they would have wrong
    times.
    """
    bars = table("AAAUSD").iloc[[0, 2, 4, 6, 7, 9]]
    read = load_bars(write(tmp_path / "AAAUSD.csv", bars, FILE_FORMATS[1]))
    assert read.times.tolist() == bars["end"].dt.tz_localize(None).to_numpy("M8[ns]").tolist()


def naive(path: Path, bars: pd.DataFrame) -> Path:
    """A file with stamps of New York's clock that say no zone."""
    return write(
        path, bars.assign(start=bars["start"].dt.tz_convert(NEW_YORK).dt.tz_localize(None))
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_timestamps_without_zone_use_the_configured_zone(tmp_path: Path, suffix: str) -> None:
    bars = table("AAAUSD", DAYS[1])
    path = naive(tmp_path / f"AAAUSD{suffix}", bars)
    read = load_bars(path, time_zone=NEW_YORK)
    same_bars(read, load_bars(write(tmp_path / "utc" / "AAAUSD.csv", bars)))
    assert read.provenances[0].stamp_description == f"{NEW_YORK}, begin"
    check_message(refusal(path), f"data.zone={NEW_YORK}")


def test_sparse_file_in_wrong_time_zone_is_refused(tmp_path: Path) -> None:
    """Too few sessions have a first and a last bar to identify the time zone."""
    bars = table("AAA", DAYS[1], 15, days=14)
    path = naive(tmp_path / "AAA.csv", bars[np.random.default_rng(0).random(len(bars)) < 0.5])
    assert load_bars(path, time_zone=NEW_YORK).mask.sum() > 50
    check_message(refusal(path, "UTC"), "data.zone")


@pytest.mark.parametrize("zone", ["EST", "New York", "America/Nowhere", "", "../etc", "EST5EDT"])
def test_invalid_or_fixed_offset_zone_is_refused(zone: str) -> None:
    with refused(InputError, "data.zone"):
        DataSettings(zone=zone)


def test_mistyped_time_zone_gets_nearest_suggestion() -> None:
    with refused(InputError, "America/New_York"):
        DataSettings(zone="America/NewYork")


@pytest.mark.parametrize(
    ("zone", "facts"),
    [
        ("EST", ("America/New_York", "Etc/GMT+5")),
        ("EST5EDT", ("America/New_York", "Etc/GMT+5")),
        ("GMT", ("UTC",)),
        ("Z", ("UTC",)),
        ("utc", ("UTC",)),
        ("UTC+5", ("Etc/GMT-5",)),
        ("-05:00", ("Etc/GMT+5",)),
        ("+0000", ("UTC",)),
        ("New York", ("America/New_York",)),
        ("Iceland", ("America/New_York",)),
    ],
)
def test_time_zone_abbreviation_error_suggests_full_names(
    zone: str, facts: tuple[str, ...]
) -> None:
    with refused(InputError, "data.zone", *facts):
        DataSettings(zone=zone)


ZONES = sorted(zoneinfo.available_timezones())


@given(
    st.one_of(
        st.sampled_from(ZONES),
        st.sampled_from(ZONES).map(str.lower),
        st.sampled_from(["UTC+15", "GMT-13", "UTC+5:30", "IST", "CST", "Japan", "Eastern", "+99"]),
        st.from_regex(r"(UTC|GMT)?[+-]\d{1,2}", fullmatch=True),
    )
)
def test_suggested_time_zones_are_accepted(zone: str) -> None:
    try:
        DataSettings(zone=zone)
    except InputError as error:
        hint = str(error).partition("as in America/New_York")[2]
        for word in re.findall(r"UTC\b(?! \()|\w+/[\w/+-]+", hint):
            assert word != zone
            DataSettings(zone=word)


@pytest.mark.parametrize("zone", [each for each in ZONES if "/" not in each and each != "UTC"])
def test_suggested_zone_has_the_typed_zones_utc_offset(zone: str) -> None:
    with pytest.raises(InputError) as refused:
        DataSettings(zone=zone)
    if proposed := re.search(r"did you mean (\S+)\?", str(refused.value)):
        for month in (1, 7):
            at = datetime.datetime(2024, month, 1)  # noqa: DTZ001
            meant, place = (zoneinfo.ZoneInfo(name) for name in (zone, proposed[1]))
            assert meant.utcoffset(at) == place.utcoffset(at)


def test_folders_and_files_combine_and_duplicates_count_once(tmp_path: Path) -> None:
    write(tmp_path / "stocks" / "AAA.csv", table("AAA"))
    coin = write(tmp_path / "bbb-usdt_1h.csv", table("BBBUSD"))
    bars = load_bars(tmp_path / "stocks", coin, coin)
    assert bars.symbols == ("AAA", "BBBUSD")
    data = DataSettings(dir=(str(tmp_path / "stocks"), str(tmp_path)))
    assert data.load_panel(["AAA, BBB-USDT"], None, None).symbols == ("AAA", "BBBUSD")
    assert data.load_panel(["bbb/usd,"], None, None).symbols == ("BBBUSD",)
    with refused(InputError, "symbols", "','"):
        data.load_panel([","], None, None)


@pytest.mark.parametrize(
    ("names", "facts"),
    [
        (["AAA.csv.gz"], ("AAA.csv.gz",)),
        (["prices of aaa.csv"], ("aaa.csv",)),
        (["BRK_B.csv"], ()),
        (["nowhere/AAA.csv"], ("nowhere/AAA.csv",)),
        (["BTC-USD.csv", "BTCUSDT.csv"], ("BTCUSD", "BTC-USD", "BTCUSDT")),
        (["ETHBTC.csv"], ("ETHBTC", "BTC", "ETHUSD")),
        (["EURUSD.csv"], ("EURUSD",)),
    ],
)
def test_file_whose_symbol_is_uncertain_is_refused(
    tmp_path: Path, names: list[str], facts: tuple[str, ...]
) -> None:
    for name in names:
        if "/" not in name:
            put(tmp_path, text(), name)
    with refused(DataError, *facts):
        load_bars(*(tmp_path / name for name in names))


def test_crypto_pair_spellings_map_to_one_data_symbol() -> None:
    spelled = ("BTCUSD", "BTC/USD", "btc-usd", "btc_usd", "BTCUSDT", "BTC-USDT", "BTC/USDT")
    assert parse_symbols(spelled) == ["BTCUSD"]
    assert normalize_data_symbol("OPUSDT") == "OPUSD"
    assert normalize_data_symbol("brk.b") == "BRK.B"
    assert parse_symbols(["NVDA,AAPL", "SPY, NVDA"]) == ["NVDA", "AAPL", "SPY"]
    assert instrument("BTC-USD") == instrument("BTCUSD")
    # A position against USDT is not one against USD and must not count as one.
    assert not is_symbol("BTCUSDT")
    assert not is_symbol("BTC/USDT")


def test_provenance_notes_that_usdt_counts_as_usd(tmp_path: Path) -> None:
    bars = table("AAAUSD")
    said = ("prices are in USDT; 1 USDT counts as 1 USD",)
    assert load_bars(write(tmp_path / "AAAUSDT.csv", bars)).provenances[0].notes == said
    named = write(tmp_path / "all.csv", bars, OWN, "AAA-USDT", "BBB-USDT")
    assert load_bars(named, symbols=["AAAUSD"]).provenances[0].notes == said
    assert load_bars(write(tmp_path / "p" / "AAAUSD.csv", bars)).provenances[0].notes == ()


def test_omitted_rows_are_counted_and_reported(tmp_path: Path) -> None:
    early = [ROWS[0].replace("T14", "T13"), *ROWS]
    (origin,) = load_bars(put(tmp_path, text(early))).provenances
    assert origin.notes == ("skipped: 1 row outside regular New York hours",)
    quarters = table("AAA", minutes=15).iloc[2:14].drop(index=7)
    (origin,) = load_bars(write(tmp_path / "AAA.csv", quarters)).provenances
    assert origin.notes == (
        "15-minute bars are aggregated to hours",
        "1 of 2 hours lacks some of these bars",
        "skipped: 2 hours cut off by the start or end of the file",
    )


@pytest.mark.parametrize(
    ("name", "stamps", "facts"),
    [
        ("AAAUSD", [f"2024-10-01T{h:02}:00:00Z" for h in (0, 4, 8, 12)], ("240",)),
        ("AAAUSD", [f"2024-10-01T13:{m}:00Z" for m in (30, 35, 40, 47)], ("5-minute",)),
        ("AAAUSD", [f"2024-10-01T13:{m}:00Z" for m in (35, 40, 45)], ("5-minute",)),
        ("AAA", ["2034-12-04T14:30:00Z"], ()),
    ],
)
def test_bars_of_unsupported_length_or_date_are_refused(
    tmp_path: Path, name: str, stamps: list[str], facts: tuple[str, ...]
) -> None:
    rows = text([f"{stamp},5,5,5,5,1" for stamp in stamps])
    check_message(refusal(put(tmp_path, rows, f"{name}.csv")), *facts)


def test_each_vendor_header_matches_exactly_one_file_format() -> None:
    """If two formats matched a file, their order would decide which one reads it."""
    for head in FILE_FORMATS:
        needed = (*head.timestamp_columns, *head.ohlcv_columns)
        names = ["1"] * len(head.columns) if head.is_headerless else list(needed)
        assert [other for other in FILE_FORMATS if other.matches(names)] == [head]
        assert len(head.ohlcv_columns) == len(OHLCV_FIELDS)
