"""Formats of bar files by vendor: columns, timestamps and volume.

To support a vendor, add a row to `FILE_FORMATS`, or to `VENDORS` if the column names vary in case
or contain a coin. `trainingdata.columns` detects the columns of any other file by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainingdata.bars import OHLCV_FIELDS

VolumeUnit = Literal["coins", "usd"]

_CAPITALS = ("Open", "High", "Low", "Close", "Volume")
_NUMBER_PATTERN = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)
EXAMPLE_CSV_LINES = (
    "timestamp,open,high,low,close,volume",
    "2024-03-04T14:30:00Z,100,101.5,99,100.25,1000",
)


@dataclass(frozen=True, slots=True)
class EpochFormat:
    """Unit of a vendor's epoch timestamps (UTC), and the period in which the vendor uses it.

    unit: `s`, `ms`, `us` or `ns`.
    start_date, end_date: UTC dates of the period, `end_date` excluded.
    """

    unit: str
    start_date: str = "1990-01-01"
    end_date: str = "2200-01-01"

    @property
    def timestamp_bounds(self) -> tuple[int, int]:
        """The epoch timestamps of `start_date` and `end_date` in this unit."""
        counts = np.array(
            [self.start_date, self.end_date], dtype=f"datetime64[{self.unit}]"
        ).astype(int)
        return int(counts[0]), int(counts[1])


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format of bar files.

    vendor: name of the vendor.
    timestamp_columns: names of the columns of a bar's time; texts of several columns are joined by
        a blank.
    ohlcv_columns: names of the columns of open, high, low, close and volume.
    symbol_column: name of the column of symbols; empty if there is none.
    adjusted_close_column: name of the column of adjusted closes; empty if there is none.
    known_unread_columns: names of optional columns of the format that are not read.
    date_formats: `strptime` formats of timestamps that are not ISO text; empty: any fitting format
        of `DATE_FORMATS`.
    time_zone: time zone of timestamps without a zone; empty: the user states it (`data.zone`).
    epoch_formats: units of epoch timestamps; empty: timestamps are text.
    stamps_are_ends: whether a timestamp is the end of its bar, not the start; None: the header does
        not state it.
    is_daily: whether the bars are daily.
    is_headerless: whether the file has no header row; it then has all columns of the format, in
        order.
    crypto_volume_unit: unit of the volume of crypto; None: the header does not state it. The volume
        of stocks counts shares.
    marker_columns: names of columns that only this vendor writes; in a file without any of them,
        `crypto_volume_unit` is unknown. Empty: no other vendor has this header.
    quote_volume_column: name of the column of volume in the pair's other currency, from which the
        unit of the volume can be inferred.
    volume_column_coin: coin in the name of the volume column, BTC in `Volume BTC`.
    has_volume_unit_in_name: whether the name of the volume column states its unit.
    has_formatted_numbers: whether numbers may have a dollar sign or commas, and volumes a suffix K,
        M or B.
    has_empty_rows: whether a row without any number means a period without a trade.
    uses_semicolons: whether semicolons separate cells.
    whole_price_units: number of units per USD in a file whose prices are all whole numbers.
    unknown_columns: names of the other columns in the file, which are not read.
    """

    vendor: str
    timestamp_columns: tuple[str, ...]
    ohlcv_columns: tuple[str, ...] = OHLCV_FIELDS
    symbol_column: str = ""
    adjusted_close_column: str = ""
    known_unread_columns: tuple[str, ...] = ()
    date_formats: tuple[str, ...] = ()
    time_zone: str = ""
    epoch_formats: tuple[EpochFormat, ...] = ()
    stamps_are_ends: bool | None = False
    is_daily: bool = False
    is_headerless: bool = False
    crypto_volume_unit: VolumeUnit | None = None
    marker_columns: tuple[str, ...] = ()
    quote_volume_column: str = ""
    volume_column_coin: str = ""
    has_volume_unit_in_name: bool = False
    has_formatted_numbers: bool = False
    has_empty_rows: bool = False
    uses_semicolons: bool = False
    whole_price_units: int = 1
    unknown_columns: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns that a file may have, required columns first."""
        optional = (self.symbol_column, self.adjusted_close_column, *self.known_unread_columns)
        return (*self.timestamp_columns, *self.ohlcv_columns, *(name for name in optional if name))

    def matches(self, names: Sequence[str]) -> bool:
        """Return whether a file has this format.

        names: column names, or the cells of the file's first line.
        """
        if self.is_headerless:
            return len(names) == len(self.columns) and all(map(_NUMBER_PATTERN.fullmatch, names))
        return {*self.timestamp_columns, *self.ohlcv_columns} <= {*names} <= {*self.columns}


_STOOQ_TIME_ZONE = "Europe/Warsaw"  # the first 5-minute bar of New York's session is at 15:30
_QUOTE_VOLUME_COLUMN = "quote_volume"
_KLINES = (
    "close_time",
    _QUOTE_VOLUME_COLUMN,
    "count",
    "taker_buy_volume",
    "taker_buy_quote_volume",
)
_YAHOO = ("Dividends", "Stock Splits", "Capital Gains")
# The archive of spot bars counts microseconds from 2025 on, that of futures milliseconds.
_BINANCE = (EpochFormat("ms"), EpochFormat("us", start_date="2025-01-01"))
_UNIX = (EpochFormat("s"), EpochFormat("ms"))
# Date formats other than ISO. A file has the one that fits all its rows.
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
_DATES = (
    *("%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y", "%m-%d-%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%b %d, %Y", "%d-%b-%Y", "%d-%b-%y", "%m/%d/%y", "%d/%m/%y"),
)
DATE_FORMATS = (
    *(date + time for date in _DATES for time in _TIMES),
    "%Y-%m-%d %I-%p",  # CryptoDataDownload's hours, 2020-03-01 05-PM
    "%d.%m.%Y %H:%M:%S.%f GMT%z",
)

FILE_FORMATS = (
    FileFormat(
        "own, Alpaca",
        ("timestamp",),
        symbol_column="symbol",
        adjusted_close_column="adj_close",
        known_unread_columns=("trade_count", "vwap"),
        crypto_volume_unit="coins",
    ),
    FileFormat(
        "own", ("end",), symbol_column="symbol", stamps_are_ends=True, crypto_volume_unit="coins"
    ),
    FileFormat(
        "Alpaca",
        ("t",),
        ("o", "h", "l", "c", "v"),
        symbol_column="S",
        known_unread_columns=("n", "vw"),
        crypto_volume_unit="coins",
    ),
    # Yahoo's volume of crypto is in USD: that of BTC-USD is about its price times the coins traded.
    FileFormat(
        "yfinance",
        ("Datetime",),
        _CAPITALS,
        symbol_column="Ticker",
        adjusted_close_column="Adj Close",
        known_unread_columns=_YAHOO,
        crypto_volume_unit="usd",
        marker_columns=("Adj Close", *_YAHOO),
    ),
    FileFormat(
        "yfinance, Stooq",
        ("Date",),
        _CAPITALS,
        symbol_column="Ticker",
        adjusted_close_column="Adj Close",
        known_unread_columns=_YAHOO,
        is_daily=True,
        crypto_volume_unit="usd",
        marker_columns=("Adj Close", *_YAHOO),
    ),
    FileFormat("Stooq", ("Date", "Time"), _CAPITALS, time_zone=_STOOQ_TIME_ZONE),
    FileFormat(
        "Stooq",
        ("<DATE>", "<TIME>"),
        ("<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"),
        symbol_column="<TICKER>",
        known_unread_columns=("<PER>", "<OPENINT>"),
        date_formats=("%Y%m%d %H%M%S",),
        time_zone=_STOOQ_TIME_ZONE,
    ),
    FileFormat(
        "Polygon",
        ("window_start",),
        symbol_column="ticker",
        known_unread_columns=("transactions",),
        epoch_formats=(EpochFormat("ns"),),
        crypto_volume_unit="coins",
    ),
    # Downloads have epochs and prices of 1e-9 USD, or ISO timestamps and prices with decimals.
    FileFormat(
        "Databento",
        ("ts_event",),
        symbol_column="symbol",
        known_unread_columns=("rtype", "publisher_id", "instrument_id"),
        epoch_formats=(EpochFormat("ns"),),
        whole_price_units=10**9,
    ),
    # Files of coin-margined futures have the same head, and their volume counts contracts.
    FileFormat(
        "Binance",
        ("open_time",),
        known_unread_columns=(*_KLINES, "ignore"),
        epoch_formats=_BINANCE,
        quote_volume_column=_QUOTE_VOLUME_COLUMN,
    ),
    FileFormat(
        "Binance",
        ("open_time",),
        known_unread_columns=(*_KLINES, "ignore"),
        epoch_formats=_BINANCE,
        is_headerless=True,
        quote_volume_column=_QUOTE_VOLUME_COLUMN,
    ),
    # Any vendor may write seven numbers, so the head does not state the volume's unit.
    FileFormat(
        "Kraken",
        ("time",),
        known_unread_columns=("trades",),
        epoch_formats=(EpochFormat("s"),),
        is_headerless=True,
    ),
)


# Vendors whose columns are matched by name in any case and order. Each has the normalised column
# names whose combination only this vendor writes, and its format, in which the names of columns are
# normalised, too.
VENDORS: tuple[tuple[frozenset[str], FileFormat], ...] = (
    (
        frozenset({"unix", "date", "symbol"}),
        FileFormat("CryptoDataDownload", ("unix",), epoch_formats=_UNIX),
    ),
    (
        frozenset({"unixtimestamp", "date", "symbol"}),
        FileFormat("CryptoDataDownload, Gemini", ("unixtimestamp",), epoch_formats=_UNIX),
    ),
    # The Bitcoin data set of Kaggle has a row for each minute, also for those without a trade.
    (
        frozenset({"timestamp", "volumecurrency", "weightedprice"}),
        FileFormat(
            "Kaggle", ("timestamp",), epoch_formats=(EpochFormat("s"),), has_empty_rows=True
        ),
    ),
    (frozenset({"gmttime"}), FileFormat("Dukascopy", ("gmttime",))),
    (frozenset({"localtime"}), FileFormat("Dukascopy", ("localtime",))),
    (
        frozenset({"date", "closelast"}),
        FileFormat(
            "Nasdaq",
            ("date",),
            ("open", "high", "low", "closelast", "volume"),
            date_formats=("%m/%d/%Y",),
            is_daily=True,
            has_formatted_numbers=True,
        ),
    ),
    (
        frozenset({"date", "price", "vol", "change"}),
        FileFormat(
            "Investing.com",
            ("date",),
            ("open", "high", "low", "price", "vol"),
            is_daily=True,
            has_formatted_numbers=True,
        ),
    ),
    *(
        (
            frozenset({"time", close, "change"}),
            FileFormat(
                "Barchart",
                ("time",),
                ("open", "high", "low", close, "volume"),
                stamps_are_ends=None,
            ),
        )
        for close in ("last", "latest")
    ),
    # Its other stamp is the day's last millisecond; its volume is in USD.
    (
        frozenset({"timeopen", "timeclose", "marketcap"}),
        FileFormat(
            "CoinMarketCap",
            ("timeopen",),
            is_daily=True,
            crypto_volume_unit="usd",
            uses_semicolons=True,
        ),
    ),
    # Column names of clients of Binance's API.
    (
        frozenset({"opentime", "closetime"}),
        FileFormat("Binance", ("opentime",), epoch_formats=_BINANCE),
    ),
    # Any file may count seconds or milliseconds; its name does not state the side of a bar.
    *(
        (frozenset({name}), FileFormat("unix", (name,), epoch_formats=_UNIX, stamps_are_ends=None))
        for name in ("unix", "unixtime", "unixtimestamp")
    ),
)
