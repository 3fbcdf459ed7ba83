"""Formats of bar files by vendor: columns, stamps and volume.

A new vendor or format is a new row of `FILE_FORMATS`, or of `VENDORS` if its column names vary in
case or contain a coin. `trainingdata.columns` detects the columns of any other file by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from trainingdata.bars import FIELDS

VolumeUnit = Literal["coins", "usd"]

_CAPITALS = ("Open", "High", "Low", "Close", "Volume")
_COUNT = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)
GOOD = ("timestamp,open,high,low,close,volume", "2024-03-04T14:30:00Z,100,101.5,99,100.25,1000")


@dataclass(frozen=True, slots=True)
class Epoch:
    """Unit of epoch timestamps (UTC), and the period in which a vendor uses this unit.

    unit: `s`, `ms`, `us` or `ns`.
    since, until: UTC dates of the period, `until` excluded.
    """

    unit: str
    since: str = "1990-01-01"
    until: str = "2200-01-01"

    @property
    def bounds(self) -> tuple[int, int]:
        """The epoch timestamps of `since` and `until` in this unit."""
        counts = np.array([self.since, self.until], dtype=f"datetime64[{self.unit}]").astype(int)
        return int(counts[0]), int(counts[1])


@dataclass(frozen=True, slots=True)
class FileFormat:
    """A format of bar files.

    vendor: name of the vendor.
    stamp: names of the columns of a bar's time; texts of several columns are joined by a blank.
    fields: names of the columns of open, high, low, close and volume.
    symbol: name of the column of symbols; empty if there is none.
    symbol_pattern: regular expression of the symbol cells; its group is the symbol.
    adjusted: name of the column of adjusted closes; empty if there is none.
    others: names of optional columns that are not read.
    date_formats: `strptime` formats of stamps that are not ISO text; empty: any fitting format of
        `DATE_FORMATS`.
    zone: time zone of stamps without a zone; empty: the user states it (`data.zone`).
    epochs: units of epoch timestamps; empty: stamps are text.
    stamps_are_ends: whether a stamp is the end of its bar, not the start; None: the header does not
        state it.
    daily: whether the bars are daily.
    headless: whether the file has no header row; it then has all columns of the format, in order.
    crypto_volume_unit: unit of the volume of crypto; None: the header does not state it. The volume
        of stocks counts shares.
    marker_columns: names of columns that only this vendor writes; without any of them
        `crypto_volume_unit` is unknown. Empty: no other vendor has this header.
    quote_volume: name of the column of volume in the pair's other currency, which reveals the unit.
    volume_coin: coin in the name of the volume column, BTC in `Volume BTC`.
    volume_named: whether the name of the volume column states its unit.
    decorated: whether numbers may have a dollar sign or commas, and volumes a suffix K, M or B.
    gaps: whether a row without any number means a period without a trade.
    ignored: names of the file's columns that are not read.
    """

    vendor: str
    stamp: tuple[str, ...]
    fields: tuple[str, ...] = FIELDS
    symbol: str = ""
    symbol_pattern: str = "(.+)"
    adjusted: str = ""
    others: tuple[str, ...] = ()
    date_formats: tuple[str, ...] = ()
    zone: str = ""
    epochs: tuple[Epoch, ...] = ()
    stamps_are_ends: bool | None = False
    daily: bool = False
    headless: bool = False
    crypto_volume_unit: VolumeUnit | None = None
    marker_columns: tuple[str, ...] = ()
    quote_volume: str = ""
    volume_coin: str = ""
    volume_named: bool = False
    decorated: bool = False
    gaps: bool = False
    ignored: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns that a file may have, required columns first."""
        optional = (self.symbol, self.adjusted, *self.others)
        return (*self.stamp, *self.fields, *(name for name in optional if name))

    def fits(self, names: Sequence[str]) -> bool:
        """Return whether a file with these column names, or this first line, has this format."""
        if self.headless:
            return len(names) == len(self.columns) and all(map(_COUNT.fullmatch, names))
        return {*self.stamp, *self.fields} <= {*names} <= {*self.columns}


_STOOQ = "Europe/Warsaw"  # the first 5-minute bar of New York's session is at 15:30
_QUOTE = "quote_volume"
_KLINES = ("close_time", _QUOTE, "count", "taker_buy_volume", "taker_buy_quote_volume")
_YAHOO = ("Dividends", "Stock Splits", "Capital Gains")
# The archive of spot bars counts microseconds from 2025 on, that of futures milliseconds.
_BINANCE = (Epoch("ms"), Epoch("us", since="2025-01-01"))
_UNIX = (Epoch("s"), Epoch("ms"))
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
        symbol="symbol",
        adjusted="adj_close",
        others=("trade_count", "vwap"),
        crypto_volume_unit="coins",
    ),
    FileFormat("own", ("end",), symbol="symbol", stamps_are_ends=True, crypto_volume_unit="coins"),
    FileFormat(
        "Alpaca",
        ("t",),
        ("o", "h", "l", "c", "v"),
        symbol="S",
        others=("n", "vw"),
        crypto_volume_unit="coins",
    ),
    # Yahoo's volume of crypto is in USD: that of BTC-USD is about its price times the coins traded.
    FileFormat(
        "yfinance",
        ("Datetime",),
        _CAPITALS,
        symbol="Ticker",
        adjusted="Adj Close",
        others=_YAHOO,
        crypto_volume_unit="usd",
        marker_columns=("Adj Close", *_YAHOO),
    ),
    FileFormat(
        "yfinance, Stooq",
        ("Date",),
        _CAPITALS,
        symbol="Ticker",
        adjusted="Adj Close",
        others=_YAHOO,
        daily=True,
        crypto_volume_unit="usd",
        marker_columns=("Adj Close", *_YAHOO),
    ),
    FileFormat("Stooq", ("Date", "Time"), _CAPITALS, zone=_STOOQ),
    FileFormat(
        "Stooq",
        ("<DATE>", "<TIME>"),
        ("<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"),
        symbol="<TICKER>",
        symbol_pattern=r"(.+)\.US",
        others=("<PER>", "<OPENINT>"),
        date_formats=("%Y%m%d %H%M%S",),
        zone=_STOOQ,
    ),
    FileFormat(
        "Polygon",
        ("window_start",),
        symbol="ticker",
        symbol_pattern="(?:X:)?(.+)",
        others=("transactions",),
        epochs=(Epoch("ns"),),
        crypto_volume_unit="coins",
    ),
    # Files of coin-margined futures have the same head, and their volume counts contracts.
    FileFormat(
        "Binance", ("open_time",), others=(*_KLINES, "ignore"), epochs=_BINANCE, quote_volume=_QUOTE
    ),
    FileFormat(
        "Binance",
        ("open_time",),
        others=(*_KLINES, "ignore"),
        epochs=_BINANCE,
        headless=True,
        quote_volume=_QUOTE,
    ),
    # Any vendor may write seven numbers, so the head does not state the volume's unit.
    FileFormat("Kraken", ("time",), others=("trades",), epochs=(Epoch("s"),), headless=True),
)


@dataclass(frozen=True, slots=True)
class Vendor:
    """A vendor's columns, which are matched by name in any case and order.

    name: name of the vendor.
    marker_columns: normalised column names whose combination only this vendor writes.
    stamp: name of the column of a bar's time.
    close: name of the column of closes.
    semicolons: whether semicolons separate cells.

    The other fields have the same meaning as in `FileFormat`.
    """

    name: str
    marker_columns: frozenset[str]
    stamp: str
    close: str = "close"
    date_formats: tuple[str, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    stamps_are_ends: bool | None = False
    daily: bool = False
    crypto_volume_unit: VolumeUnit | None = None
    decorated: bool = False
    gaps: bool = False
    semicolons: bool = False


VENDORS = (
    Vendor("CryptoDataDownload", frozenset({"unix", "date", "symbol"}), "unix", epochs=_UNIX),
    Vendor(
        "CryptoDataDownload, Gemini",
        frozenset({"unixtimestamp", "date", "symbol"}),
        "unixtimestamp",
        epochs=_UNIX,
    ),
    # The Bitcoin data set of Kaggle has a row for each minute, also for those without a trade.
    Vendor(
        "Kaggle",
        frozenset({"timestamp", "volumecurrency", "weightedprice"}),
        "timestamp",
        epochs=(Epoch("s"),),
        gaps=True,
    ),
    Vendor("Dukascopy", frozenset({"gmttime"}), "gmttime"),
    Vendor("Dukascopy", frozenset({"localtime"}), "localtime"),
    Vendor(
        "Nasdaq",
        frozenset({"date", "closelast"}),
        "date",
        close="closelast",
        date_formats=("%m/%d/%Y",),
        daily=True,
        decorated=True,
    ),
    Vendor(
        "Investing.com",
        frozenset({"date", "price", "vol", "change"}),
        "date",
        close="price",
        daily=True,
        decorated=True,
    ),
    Vendor(
        "Barchart",
        frozenset({"time", "last", "change", "chg"}),
        "time",
        close="last",
        stamps_are_ends=None,
    ),
    # Its other stamp is the day's last millisecond; its volume is in USD.
    Vendor(
        "CoinMarketCap",
        frozenset({"timeopen", "timeclose", "marketcap"}),
        "timeopen",
        daily=True,
        crypto_volume_unit="usd",
        semicolons=True,
    ),
    # Column names of clients of Binance's API.
    Vendor("Binance", frozenset({"opentime", "closetime"}), "opentime", epochs=_BINANCE),
    # Any file may count seconds or milliseconds; its name does not state the side of a bar.
    Vendor("unix", frozenset({"unix"}), "unix", epochs=_UNIX, stamps_are_ends=None),
    Vendor("unix", frozenset({"unixtime"}), "unixtime", epochs=_UNIX, stamps_are_ends=None),
    Vendor(
        "unix", frozenset({"unixtimestamp"}), "unixtimestamp", epochs=_UNIX, stamps_are_ends=None
    ),
)
