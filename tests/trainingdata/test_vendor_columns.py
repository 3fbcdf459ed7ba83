"""Files as vendors and data sets write them, made of seeded bars and read back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from foundation.errors import DataError, InputError
from tests.support.messages import refused
from tests.trainingdata.vendor_files import NEW_YORK, table
from trainingdata import load_bars
from trainingdata.bars import OHLCV_FIELDS, Bars
from trainingdata.sessions import exchange_calendar
from trainingdata.source import DataSettings
from trainingdata.timeframe import TimeframeName
from trainingdata.volume_units import require_volume_units

HOURS = table("BTCUSD")
MINUTES = table("BTCUSD", minutes=1, days=1)
SESSIONS = exchange_calendar().dates[(exchange_calendar().dates >= np.datetime64("2024-03-04"))][
    :40
]
DAILY = table("BTCUSD").iloc[: len(SESSIONS)].assign(date=pd.to_datetime(SESSIONS))
Write = Callable[[pd.DataFrame], str]


def rows_of(bars: pd.DataFrame) -> Iterator[Any]:
    yield from bars.itertuples()


def unix(bars: pd.DataFrame, unit: int = 1) -> Iterator[int]:
    """Begins of bars since 1970; unit: counts a second."""
    return (int(start.timestamp() * unit) for start in bars["start"])


def lines(head: str, rows: Iterator[str], *, newest_first: bool = False, top: str = "") -> str:
    listed = list(rows)
    return "\n".join(
        [*([top] if top else []), head, *(listed[::-1] if newest_first else listed), ""]
    )


def crypto_data_download(head: str, unit: int, top: bool = True) -> Write:
    def write(bars: pd.DataFrame) -> str:
        more = ",7" * head.count("tradecount")
        rows = (
            f"{count},{bar.start:%Y-%m-%d %H:%M:%S},BTC/USD,{bar.open},{bar.high},{bar.low},"
            f"{bar.close},{bar.volume},{bar.volume * bar.close:.4f}{more}"
            for count, bar in zip(unix(bars, unit), rows_of(bars), strict=True)
        )
        address = "https://www.CryptoDataDownload.com" if top else ""
        return lines(head, rows, newest_first=True, top=address)

    return write


def gemini(bars: pd.DataFrame) -> str:
    rows = (
        f"{count},{bar.start:%Y-%m-%d %H:%M:%S},BTCUSD,{bar.open},{bar.high},{bar.low},"
        f"{bar.close},{bar.volume}"
        for count, bar in zip(unix(bars, 1000), rows_of(bars), strict=True)
    )
    head = "Unix Timestamp,Date,Symbol,Open,High,Low,Close,Volume"
    return lines(head, rows, newest_first=True, top="https://www.CryptoDataDownload.com")


def kaggle(bars: pd.DataFrame) -> str:
    def rows() -> Iterator[str]:
        for count, bar in zip(unix(bars), rows_of(bars), strict=True):
            yield (
                f"{count},{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume},"
                f"{bar.volume * bar.close},{bar.close}"
            )

    head = "Timestamp,Open,High,Low,Close,Volume_(BTC),Volume_(Currency),Weighted_Price"
    return lines(head, rows())


def dukascopy(bars: pd.DataFrame) -> str:
    rows = (
        f"{bar.start:%d.%m.%Y %H:%M:%S}.000,"
        f"{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume}"
        for bar in rows_of(bars)
    )
    return lines("Gmt time,Open,High,Low,Close,Volume", rows)


def dukascopy_local(bars: pd.DataFrame) -> str:
    rows = (
        f"{bar.start.tz_convert('Europe/Zurich'):%d.%m.%Y %H:%M:%S}.000 GMT"
        f"{bar.start.tz_convert('Europe/Zurich'):%z},"
        f"{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume}"
        for bar in rows_of(bars)
    )
    return lines("Local time,Open,High,Low,Close,Volume", rows)


def binance_client(bars: pd.DataFrame) -> str:
    head = (
        "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of trades,"
        "Taker buy base asset volume,Taker buy quote asset volume,Ignore"
    )
    return lines(head, iter(binance(bars).splitlines()))


def binance(bars: pd.DataFrame, unit: int = 1000) -> str:
    return "".join(
        f"{count},{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume},"
        f"{count + 3600 * unit - 1},{bar.volume * bar.close},9,1,1,0\n"
        for count, bar in zip(unix(bars, unit), rows_of(bars), strict=True)
    )


def kraken(bars: pd.DataFrame) -> str:
    return "".join(
        f"{count},{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume},9\n"
        for count, bar in zip(unix(bars), rows_of(bars), strict=True)
    )


def tiingo_crypto(bars: pd.DataFrame) -> str:
    rows = (
        f"btcusd,{bar.start:%Y-%m-%d %H:%M:%S}+00:00,{bar.open},{bar.high},{bar.low},{bar.close},"
        f"{bar.volume},{bar.volume * bar.close},9"
        for bar in rows_of(bars)
    )
    head = "ticker,date,open,high,low,close,volume,volumeNotional,tradesDone"
    return lines(head, rows)


HOURLY: dict[str, tuple[str, Write, dict[str, str]]] = {
    "CryptoDataDownload, seconds": (
        "Bitstamp_BTCUSD_1h.csv",
        crypto_data_download("unix,date,symbol,open,high,low,close,Volume BTC,Volume USD", 1),
        {},
    ),
    "CryptoDataDownload, milliseconds": (
        "Binance_BTCUSDT_2024_1h.csv",
        crypto_data_download(
            "Unix,Date,Symbol,Open,High,Low,Close,Volume BTC,Volume USDT,tradecount", 1000
        ),
        {},
    ),
    "CryptoDataDownload, no address": (
        "BTCUSD.csv",
        crypto_data_download(
            "unix,date,symbol,open,high,low,close,Volume BTC,Volume USD,tradecount", 1000, top=False
        ),
        {},
    ),
    "Gemini": ("gemini_BTCUSD_2024_1hr.csv", gemini, {}),
    "Kaggle": ("BTCUSD.csv", kaggle, {}),
    "Dukascopy": ("BTCUSD_Candlestick_1_Hour_BID_08.03.2024-12.03.2024.csv", dukascopy, {}),
    "Dukascopy, local": ("BTCUSD.csv", dukascopy_local, {}),
    "Binance's archive": ("BTCUSDT-1h-2024-03.csv", binance, {}),
    "Binance's API": ("BTCUSDT.csv", binance_client, {}),
    "Kraken": ("XBTUSD_60.csv", kraken, {}),
    "Tiingo's crypto": ("btcusd.csv", tiingo_crypto, {"stamps": "begin"}),
}
STATE_COINS = {
    name for name in HOURLY if name.startswith(("CryptoData", "Kaggle", "Binance", "Tii"))
}


def expected(bars: Bars, rows: pd.DataFrame, volume: bool = True) -> None:
    fields = list(OHLCV_FIELDS) if volume else list(OHLCV_FIELDS[:-1])
    np.testing.assert_array_equal(bars.times, rows["end"].dt.tz_localize(None).to_numpy())
    np.testing.assert_allclose(bars.values[0][:, : len(fields)], rows[fields], rtol=1e-9)


@pytest.mark.parametrize("vendor", HOURLY)
def test_hourly_crypto_file_of_each_vendor_is_read(tmp_path: Path, vendor: str) -> None:
    name, write, words = HOURLY[vendor]
    (tmp_path / name).write_text(write(HOURS))
    bars = load_bars(tmp_path, **words)  # type: ignore[arg-type]
    assert bars.symbols == ("BTCUSD",)
    expected(bars, HOURS)
    if vendor in STATE_COINS:
        require_volume_units(bars, "this test")
    else:
        with refused(InputError, "volume_unit"):
            require_volume_units(bars, "this test")


def nasdaq(bars: pd.DataFrame) -> str:
    rows = (
        f"{bar.date:%m/%d/%Y},${bar.close},{bar.volume},${bar.open},${bar.high},${bar.low}"
        for bar in rows_of(bars)
    )
    return lines("Date,Close/Last,Volume,Open,High,Low", rows, newest_first=True)


def investing(date: str) -> Write:
    def write(bars: pd.DataFrame) -> str:
        rows = (
            f'"{bar.date:{date}}","{bar.close:,}","{bar.open:,}","{bar.high:,}","{bar.low:,}",'
            f'"{bar.volume / 1000:.3f}K","-0.52%"'
            for bar in rows_of(bars)
        )
        head = '\ufeff"Date","Price","Open","High","Low","Vol.","Change %"'
        return lines(head, rows, newest_first=True)

    return write


def plain(head: str, row: str, *, newest_first: bool = False) -> Write:
    """A form whose cells are format strings of a bar."""

    def write(bars: pd.DataFrame) -> str:
        rows = (row.format(**bar._asdict()) for bar in rows_of(bars))
        return lines(head, rows, newest_first=newest_first)

    return write


def barchart(bars: pd.DataFrame) -> str:
    """A page that was downloaded, with its closing line."""
    head = "Symbol,Time,Open,High,Low,Last,Change,%Chg,Volume"
    row = "AAA,{date:%m/%d/%Y},{open},{high},{low},{close},0.5,+0.30%,{volume}"
    rows = plain(head, row, newest_first=True)(bars)
    return rows + '"Downloaded from Barchart.com as of 05-01-2024 03:10pm CDT"\n'


def databento(bars: pd.DataFrame) -> str:
    """Whole numbers, as Databento writes them by default: nanoseconds, and prices of 1e-9 USD."""
    rows = (
        f"{bar.date.value},35,2,773,"
        + ",".join(str(round(bar._asdict()[field] * 1e9)) for field in OHLCV_FIELDS[:-1])
        + f",{bar.volume},AAA"
        for bar in rows_of(bars)
    )
    head = "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol"
    return lines(head, rows)


SESSIONS_OF_A_STOCK: dict[str, Write] = {
    "Nasdaq": nasdaq,
    "Investing.com": investing("%m/%d/%Y"),
    "Investing.com, United Kingdom": investing("%d/%m/%Y"),
    "Investing.com, older": investing("%b %d, %Y"),
    "Stooq": plain(
        "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>",
        "AAA.US,D,{date:%Y%m%d},000000,{open},{high},{low},{close},{volume},0",
    ),
    "Stooq's page": plain(
        "Date,Open,High,Low,Close,Volume", "{date:%Y-%m-%d},{open},{high},{low},{close},{volume}"
    ),
    "Alpha Vantage": plain(
        "timestamp,open,high,low,close,volume",
        "{date:%Y-%m-%d},{open},{high},{low},{close},{volume}",
        newest_first=True,
    ),
    "Alpha Vantage, adjusted": plain(
        "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient",
        "{date:%Y-%m-%d},{open},{high},{low},{close},{close},{volume},0.0000,1.0",
        newest_first=True,
    ),
    "Alpha Vantage, JSON": plain(
        ",1. open,2. high,3. low,4. close,5. volume",
        "{date:%Y-%m-%d},{open},{high},{low},{close},{volume}",
        newest_first=True,
    ),
    "Alpha Vantage, adjusted JSON": plain(
        "date,1. open,2. high,3. low,4. close,5. adjusted close,6. volume,7. dividend amount",
        "{date:%Y-%m-%d},{open},{high},{low},{close},{close},{volume},0.0",
    ),
    "Tiingo": plain(
        "date,close,high,low,open,volume,adjClose,adjHigh,adjLow,adjOpen,adjVolume,divCash,"
        "splitFactor",
        "{date:%Y-%m-%d}T00:00:00.000Z,{close},{high},{low},{open},{volume},{close},{high},{low},"
        "{open},{volume},0.0,1.0",
    ),
    "pandas of Tiingo": plain(
        "symbol,date,close,high,low,open,volume",
        "AAA,{date:%Y-%m-%d} 00:00:00+00:00,{close},{high},{low},{open},{volume}",
    ),
    "Barchart": barchart,
    "Barchart, 2026": plain(
        "Time,Open,High,Low,Latest,Change,%Change,Volume",
        '"{date:%Y-%m-%d}",{open},{high},{low},{close},0.5,+0.30%,"{volume:,}"',
        newest_first=True,
    ),
    "Databento": databento,
    "Databento, pretty": plain(
        "ts_event,rtype,publisher_id,instrument_id,open,high,low,close,volume,symbol",
        "{date:%Y-%m-%dT%H:%M:%S}.000000000Z,35,2,773,"
        "{open:.9f},{high:.9f},{low:.9f},{close:.9f},{volume},AAA",
    ),
    "Excel, English": plain(
        "Date,Open,High,Low,Close,Volume", "{date:%d-%b-%Y},{open},{high},{low},{close},{volume}"
    ),
    "Excel, two digits": plain(
        "Date,Open,High,Low,Close,Volume", "{date:%m/%d/%y},{open},{high},{low},{close},{volume}"
    ),
    "thousands": plain(
        "Date,Open,High,Low,Close,Volume",
        '{date:%Y-%m-%d},{open},{high},{low},{close},"{volume:,.3f}"',
    ),
    "thousands everywhere": plain(
        "Date,Open,High,Low,Close,Volume",
        '{date:%Y-%m-%d},"{open:,.9f}","{high:,.9f}","{low:,.9f}","{close:,.9f}","{volume:,.3f}"',
    ),
    "hyphens, day first": plain(
        "Date,Open,High,Low,Close,Volume", "{date:%d-%m-%Y},{open},{high},{low},{close},{volume}"
    ),
    "hyphens, month first": plain(
        "Date,Open,High,Low,Close,Volume", "{date:%m-%d-%Y},{open},{high},{low},{close},{volume}"
    ),
    "slashes": plain(
        "Date,Open,High,Low,Close,Volume", "{date:%Y/%m/%d},{open},{high},{low},{close},{volume}"
    ),
}


@pytest.mark.parametrize("vendor", SESSIONS_OF_A_STOCK)
def test_daily_stock_file_of_each_vendor_is_read(tmp_path: Path, vendor: str) -> None:
    (tmp_path / "AAA.csv").write_text(SESSIONS_OF_A_STOCK[vendor](DAILY))
    bars = load_bars(tmp_path)
    assert bars.timeframe.name == "1d"
    opens = exchange_calendar().opens[np.isin(exchange_calendar().dates, SESSIONS)]
    np.testing.assert_array_equal(
        bars.clock(bars.instruments[0].kind).starts_by_end(bars.times), opens
    )
    np.testing.assert_allclose(bars.values[0], DAILY[list(OHLCV_FIELDS)], rtol=1e-9)


@pytest.mark.parametrize(
    ("vendor", "name", "symbol"),
    [
        ("Investing.com", "AMD Historical Data.csv", "AMD"),
        ("Investing.com", "AMD Historical Data (1).csv", "AMD"),
        ("Stooq's page", "amd_us_d.csv", "AMD"),
        ("Stooq's page", "brk-b_us_d.csv", "BRK.B"),
        ("Stooq's page", "amd.us.txt", "AMD"),
        ("Stooq's page", "AMD.US.csv", "AMD"),
        ("Stooq", "aaa.us.txt", "AAA"),
        ("Barchart, 2026", "amd_daily_historical-data-11-30-2024.csv", "AMD"),
        ("Barchart, 2026", "amd_price-history-11-30-2024.csv", "AMD"),
        ("Databento", "xnas-itch-20240304-20240430.ohlcv-1d.csv", "AAA"),
        ("Alpha Vantage", "xnas-itch-20240304-20240430.ohlcv-1d.AMD.csv", "AMD"),
    ],
)
def test_stock_file_is_read_under_its_downloaded_name(
    tmp_path: Path, vendor: str, name: str, symbol: str
) -> None:
    (tmp_path / name).write_text(SESSIONS_OF_A_STOCK[vendor](DAILY))
    for place in (tmp_path, tmp_path / name):
        bars = load_bars(place)
        assert bars.symbols == (symbol,)
        np.testing.assert_allclose(bars.values[0], DAILY[list(OHLCV_FIELDS)], rtol=1e-9)


def test_download_without_symbol_states_how_to_give_it(tmp_path: Path) -> None:
    path = tmp_path / "HistoricalData_1700000000000.csv"
    path.write_text(nasdaq(DAILY))
    with refused(DataError, "HistoricalData_1700000000000.csv", "NVDA.csv", "column symbol"):
        load_bars(path)
    with refused(DataError, "AMD", "HistoricalData_1700000000000.csv", "column symbol"):
        load_bars(path, symbols=["AMD"])


def test_unknown_header_is_named_before_the_file_name(tmp_path: Path) -> None:
    path = tmp_path / "xnas-itch-20240304.trades.csv"
    path.write_text(
        "ts_event,rtype,publisher_id,instrument_id,price,size,symbol\n1,0,2,7,5,6,AAA\n"
    )
    with refused(DataError, "xnas-itch-20240304.trades.csv", "open", "close"):
        load_bars(path)
    with refused(DataError, "xnas-itch-20240304.trades.csv", "open", "close"):
        load_bars(tmp_path, symbols=["AAA"])


@pytest.mark.parametrize("timeframe", ["1h", "5m"])
def test_minutes_without_a_trade_are_left_out(tmp_path: Path, timeframe: TimeframeName) -> None:
    """The Bitcoin data set writes NaN for them, for most minutes of its first years."""
    rows = kaggle(MINUTES).splitlines()
    traded = np.random.default_rng(7).random(len(MINUTES)) < 0.2
    traded[[0, -1]] = True
    empty = [row.split(",")[0] + ",NaN" * 7 for row in rows[1:]]
    mixed = [row if on else gap for row, gap, on in zip(rows[1:], empty, traded, strict=True)]
    (tmp_path / "BTCUSD.csv").write_text("\n".join([rows[0], *mixed, ""]))
    bars = load_bars(tmp_path, timeframe=timeframe)
    minutes = 60 if timeframe == "1h" else 5
    joined = MINUTES[traded].groupby(MINUTES["start"].dt.floor(f"{minutes}min"))
    for number, (field, how) in enumerate(
        zip(OHLCV_FIELDS, ("first", "max", "min", "last", "sum"), strict=True)
    ):
        np.testing.assert_allclose(bars.values[0][:, number], joined[field].agg(how), rtol=1e-9)
    left_out = int((~traded).sum())
    assert f"skipped: {left_out:,} rows without any number (no trade)" in bars.provenances[0].notes


def test_row_missing_a_single_number_is_refused(tmp_path: Path) -> None:
    rows = kaggle(MINUTES).splitlines()
    rows[7] = rows[7].replace(rows[7].split(",")[1], "NaN", 1)
    (tmp_path / "BTCUSD.csv").write_text("\n".join([*rows, ""]))
    with refused(DataError, "row 7", "open", "'NaN'"):
        load_bars(tmp_path)


def test_monthly_files_with_and_without_headers_are_joined(tmp_path: Path) -> None:
    """Binance counts milliseconds until 2024 and microseconds from 2025 on."""
    year_end = table("BTCUSD", "2024-12-30", days=5)
    late = year_end["start"] >= "2025-01-01"
    head = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,"
    head += "taker_buy_quote_volume,ignore\n"
    for first, second in ((head, ""), ("", head)):
        (tmp_path / "BTCUSDT-1h-2024-12.csv").write_text(first + binance(year_end[~late]))
        (tmp_path / "BTCUSDT-1h-2025-01.csv").write_text(second + binance(year_end[late], 10**6))
        bars = load_bars(tmp_path)
        expected(bars, year_end)
        require_volume_units(bars, "this test")


def test_yearly_newest_first_files_form_one_series(tmp_path: Path) -> None:
    year_end = table("BTCUSD", "2023-12-30", days=5)
    for year in (2023, 2024):
        rows = year_end[year_end["start"].dt.year == year]
        (tmp_path / f"gemini_BTCUSD_{year}_1hr.csv").write_text(gemini(rows))
    bars = load_bars(tmp_path)
    expected(bars, year_end)
    assert "rows are newest first in 2 files and are read in reverse order" in (
        bars.provenances[0].notes
    )


def test_newest_first_file_is_read_across_clock_change(tmp_path: Path) -> None:
    rows = table("BTCUSD", "2024-11-01", days=4)
    local = rows["start"].dt.tz_convert(NEW_YORK).dt.tz_localize(None)
    text = [
        f"{start},{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume}"
        for start, bar in zip(local, rows.itertuples(), strict=True)
    ]
    (tmp_path / "BTCUSD.csv").write_text(
        lines("begin,open,high,low,close,volume", iter(text), newest_first=True)
    )
    expected(load_bars(tmp_path, time_zone=NEW_YORK), rows)


def test_one_row_out_of_order_is_refused(tmp_path: Path) -> None:
    rows = gemini(HOURS).splitlines()
    rows[5], rows[6] = rows[6], rows[5]
    (tmp_path / "BTCUSD.csv").write_text("\n".join([*rows, ""]))
    with refused(DataError):
        load_bars(tmp_path)


ROUNDED = [
    (HOURLY["Binance's archive"][1], "", "open_time"),
    (HOURLY["Binance's API"][1], "", "Open time"),
    (
        plain("time,open,high,low,close,volume", "1,{open},{high},{low},{close},{volume}"),
        "1",
        "time",
    ),
]


@pytest.mark.parametrize(("write", "typed", "name"), ROUNDED)
@pytest.mark.parametrize("cell", ["1.704206e+12", "1.70421E+12", "2E+12"])
def test_epoch_timestamps_rounded_by_a_spreadsheet_are_refused(
    tmp_path: Path, write: Write, typed: str, name: str, cell: str
) -> None:
    rows = write(HOURS).splitlines()
    at = 0 if rows[0][0].isdigit() else 1
    rows[at:] = [",".join([cell, *row.split(",")[1:]]) for row in rows[at:]]
    (tmp_path / "BTCUSDT.csv").write_text("\n".join([*rows, ""]))
    with refused(DataError, "row 1", name, f"'{cell}'"):
        load_bars(tmp_path, epoch="ms")


@pytest.mark.parametrize(
    ("stamp", "facts"),
    [
        ("2023-06-01 09:30:00 EST", ("EST",)),
        ("2023-06-01 09:30 CET", ("-05:00",)),
        ("2023-06-01 09:30:00 UTC", ()),
        ("2023-06-01 09:30 AMX PM", ()),
    ],
)
@pytest.mark.parametrize("zone", [None, NEW_YORK])
def test_time_zone_abbreviation_is_refused_by_name(
    tmp_path: Path, stamp: str, facts: tuple[str, ...], zone: str | None
) -> None:
    rows = f"timestamp,open,high,low,close,volume\n{stamp},1,1,1,1,1\n"
    (tmp_path / "AAA.csv").write_text(rows)
    with refused(DataError, *facts):
        load_bars(tmp_path, time_zone=zone)


DAY_ROWS = SESSIONS_OF_A_STOCK["Stooq's page"](DAILY)


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (
            plain(
                "Date,Open,High,Low,Close,Volume",
                "{date:%m/%d/%Y},{open},{high},{low},{close},{volume}",
            )(DAILY.iloc[:5]),
            ("row 1", "'03/04/2024'", "2024-03-04", "2024-04-03"),
        ),
        (
            plain(
                "Date,Open,High,Low,Close,Volume ETH",
                "{date:%Y-%m-%d},{open},{high},{low},{close},{volume}",
            )(DAILY),
            ("'Volume ETH'", "ETH", "BTCUSD"),
        ),
        (
            plain(
                "Date,Open,High,Low,Close,Volume BTC,Volume ETH",
                "{date:%Y-%m-%d},{open},{high},{low},{close},{volume},1",
            )(DAILY),
            ("'Volume BTC'", "'Volume ETH'"),
        ),
        (
            plain(
                "Date,Open,High,Low,Close,Volume,Volume BTC",
                "{date:%Y-%m-%d},{open},{high},{low},{close},{volume},1",
            )(DAILY),
            ("'Volume'", "'Volume BTC'"),
        ),
        (
            "unix,open,high,low,close,volume\n1709562600,100,101.5,99,100.25,7\n",
            ("data.stamps=begin",),
        ),
        (
            DAY_ROWS + "2024-05-01 14:30:00,100,101,99,100,7\n",
            ("row 41", "'2024-05-01 14:30:00'", "40"),
        ),
        (DAY_ROWS + DAY_ROWS, ("line 42",)),
        (DAY_ROWS.split("\n", 1)[1], ()),
        (
            plain(
                "Date,Open,High,Low,Close,Volume", "{date:%Y-%m-%d},{open},{high},{low},{close},"
            )(DAILY),
            (),
        ),
        (
            plain(
                "Date,Open,High,Low,Close,Volume",
                "{date:%Y-%m-%d},{open},{high},{low},${close},{volume}",
            )(DAILY),
            ("row 1", "close"),
        ),
    ],
)
def test_ambiguous_columns_are_named_in_the_error(
    tmp_path: Path, content: str, facts: tuple[str, ...]
) -> None:
    (tmp_path / "BTCUSD.csv").write_text(content)
    with refused(DataError, *facts):
        load_bars(tmp_path)


def test_crypto_volume_in_usd_is_divided_by_close(tmp_path: Path) -> None:
    rows = plain(
        "time_utc,Open,High,Low,Close,Volume USD",
        "{start:%Y-%m-%d %H:%M},{open},{high},{low},{close},{volume}",
    )(HOURS)
    (tmp_path / "BTCUSD.csv").write_text(rows)
    bars = load_bars(tmp_path, stamps="begin")
    expected(bars, HOURS.assign(volume=HOURS["volume"] / HOURS["close"]))
    require_volume_units(bars, "this test")


def test_crypto_prices_below_the_minimum_are_refused(tmp_path: Path) -> None:
    """An order has at most 1e11 coins, so a fill would have millions of parts."""
    prices = ["open", "high", "low", "close"]
    tiny = HOURS.assign(**{name: HOURS[name] * 7.7e-14 for name in prices})
    (tmp_path / "BTCUSDT-1h.csv").write_text(binance(tiny))
    with refused(DataError, "row 1", "open", "1e-11"):
        load_bars(tmp_path)
    least = HOURS.assign(**{name: HOURS[name] * 1.2e-13 for name in prices})
    (tmp_path / "BTCUSDT-1h.csv").write_text(binance(least))
    expected(load_bars(tmp_path), least)


def coin_market_cap(separator: str) -> str:
    """Days of a coin, newest first, as its page of historical data downloads them."""
    days = DAILY.assign(date=pd.date_range("2024-03-04", periods=len(DAILY)))
    head = "timeOpen,timeClose,timeHigh,timeLow,name,open,high,low,close,volume,marketCap,timestamp"
    rows = (
        f'"{day}T00:00:00.000Z","{day}T23:59:59.999Z","{day}T09:11:00.000Z","{day}T17:02:00.000Z",'
        f'"2781",{bar.open},{bar.high},{bar.low},{bar.close},{bar.volume * bar.close},1e12,'
        f'"{day}T23:59:59.999Z"'
        for bar in rows_of(days)
        for day in [f"{bar.date:%Y-%m-%d}"]
    )
    return "\ufeff" + lines(head, rows, newest_first=True).replace(",", separator)


@pytest.mark.parametrize("separator", [",", ";"])
def test_coinmarketcap_daily_files_are_read(tmp_path: Path, separator: str) -> None:
    (tmp_path / "BTCUSD.csv").write_text(coin_market_cap(separator))
    bars = load_bars(tmp_path)
    first, last = bars.times[[0, -1]]
    assert first == np.datetime64("2024-03-05")
    assert last == np.datetime64("2024-03-04") + len(DAILY)
    np.testing.assert_allclose(bars.values[0], DAILY[list(OHLCV_FIELDS)], rtol=1e-9)
    require_volume_units(bars, "this test")


def test_mixed_semicolon_and_comma_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "BTCUSD.csv").write_text(coin_market_cap(";").replace("1e12", "1,5"))
    with refused(DataError):
        load_bars(tmp_path)


def last_instants(bars: pd.DataFrame, heading: str, before: str, symbol: str) -> str:
    """Bars stamped some time before their end."""
    stamps = bars["end"] - pd.Timedelta(before)
    frame = bars[list(OHLCV_FIELDS)].assign(
        **{heading: stamps.dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")}
    )
    return frame.assign(symbol=symbol).to_csv(index=False)


COIN_DAYS = HOURS.iloc[:4].assign(end=pd.date_range("2024-03-02", periods=4, tz="UTC"))


@pytest.mark.parametrize("before", ["1ms", "1s", "1us"])
@pytest.mark.parametrize(
    ("bars", "symbol"), [(HOURS, "BTCUSD"), (COIN_DAYS, "BTCUSD"), (table("AAA"), "AAA")]
)
def test_timestamps_just_before_bar_ends_count_as_ends(
    tmp_path: Path, bars: pd.DataFrame, symbol: str, before: str
) -> None:
    path = tmp_path / "bars.csv"
    path.write_text(last_instants(bars, "time", before, symbol))
    expected(load_bars(path, stamps="end"), bars)
    with refused(DataError, "59", "data.stamps=end"):
        load_bars(path)
    path.write_text(last_instants(bars, "timestamp", before, symbol))
    with refused(DataError):
        load_bars(path)
    for heading in ("end", "Close time", "timeClose"):
        path.write_text(last_instants(bars, heading, before, symbol))
        read = load_bars(path)
        expected(read, bars)
        note = f"{len(bars)} timestamps at :59 s are rounded up to the next minute"
        assert note in read.provenances[0].notes


def test_binance_close_times_are_read_as_bar_ends(tmp_path: Path) -> None:
    counts = HOURS["end"].dt.as_unit("ms").astype("int64") - 1
    frame = HOURS[list(OHLCV_FIELDS)].assign(close_time=counts)
    frame.to_csv(tmp_path / "BTCUSD.csv", index=False)
    expected(load_bars(tmp_path, epoch="ms"), HOURS)


def test_crypto_name_without_quote_suggests_its_usd_pair(tmp_path: Path) -> None:
    (tmp_path / "BTCUSDT-1h.csv").write_text(binance(HOURS))
    with refused(InputError, "BTC", "BTC.parquet", "BTCUSD"):
        load_bars(tmp_path, symbols=["BTC"])
    with refused(InputError, "SYXUSD"):
        DataSettings().load_panel(["SYX"], None, None)
