"""The heads of bar files that are read: which columns a vendor writes, and how it writes when.

A file is read under one head of this table and no other. A vendor or a form that is new is a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foundation.errors import DataError, in_one_line
from trainingdata.bars import FIELDS

_CAPITALS = ("Open", "High", "Low", "Close", "Volume")
_COUNT = re.compile(r"\d+(\.\d+)?")
GOOD = ("timestamp,open,high,low,close,volume", "2024-03-04T14:30:00Z,100,101.5,99,100.25,1000")


@dataclass(frozen=True, slots=True)
class Epoch:
    """Counts since 1970 in UTC.

    unit: `s`, `ms`, `us` or `ns`.
    since, until: UTC dates between which the vendor counts in this unit, the last not included.
    """

    unit: str
    since: str = "1990-01-01"
    until: str = "2200-01-01"

    @property
    def bounds(self) -> tuple[int, int]:
        """The first count of `since` and of `until`."""
        counts = np.array([self.since, self.until], dtype=f"datetime64[{self.unit}]").astype(int)
        return int(counts[0]), int(counts[1])


@dataclass(frozen=True, slots=True)
class Head:
    """How a vendor writes a file of bars.

    vendor: whose it is, in words.
    stamp: columns that say when a bar is; text of several is joined by a blank.
    fields: columns of open, high, low, close and volume.
    symbol: column that says which symbol a row is of, where there is one.
    spelled: what a cell of it looks like; its group is the symbol.
    adjusted: column of closes that are adjusted; it is not read, and that is noted.
    others: further columns that may be there and are not read.
    form: of stamps that are no ISO text, as `strptime` has it.
    zone: whose clock stamps without a zone show; none: the user says so (`data.zone`).
    epochs: units of stamps that are counts; none: they are text.
    ends: whether a stamp is the end of its bar, not its begin.
    daily: whether the bars are of days.
    headless: whether the file has no line of headings; its columns are all of these, in order.
    """

    vendor: str
    stamp: tuple[str, ...]
    fields: tuple[str, ...] = FIELDS
    symbol: str = ""
    spelled: str = "(.+)"
    adjusted: str = ""
    others: tuple[str, ...] = ()
    form: str = ""
    zone: str = ""
    epochs: tuple[Epoch, ...] = ()
    ends: bool = False
    daily: bool = False
    headless: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that a file may have, those first that it has to have."""
        optional = (self.symbol, self.adjusted, *self.others)
        return (*self.stamp, *self.fields, *(name for name in optional if name))

    def fits(self, names: Sequence[str]) -> bool:
        """Whether a file with these headings, or this first line, is one of the vendor's."""
        if self.headless:
            return len(names) == len(self.columns) and all(map(_COUNT.fullmatch, names))
        return {*self.stamp, *self.fields} <= {*names} <= {*self.columns}


_STOOQ = "Europe/Warsaw"  # the first 5-minute bar of New York's session is at 15:30
_KLINES = ("close_time", "quote_volume", "count", "taker_buy_volume", "taker_buy_quote_volume")
# The archive of spot bars counts microseconds from 2025 on, that of futures milliseconds.
_SPOT = (Epoch("ms", until="2025-01-01"), Epoch("us", since="2025-01-01"))

HEADS = (
    Head("own, Alpaca", ("timestamp",), symbol="symbol", others=("trade_count", "vwap")),
    Head("own", ("end",), symbol="symbol", ends=True),
    Head("Alpaca", ("t",), ("o", "h", "l", "c", "v"), symbol="S", others=("n", "vw")),
    Head(
        "yfinance",
        ("Datetime",),
        _CAPITALS,
        symbol="Ticker",
        adjusted="Adj Close",
        others=("Dividends", "Stock Splits", "Capital Gains"),
    ),
    Head(
        "yfinance, Stooq",
        ("Date",),
        _CAPITALS,
        symbol="Ticker",
        adjusted="Adj Close",
        others=("Dividends", "Stock Splits", "Capital Gains"),
        daily=True,
    ),
    Head("Stooq", ("Date", "Time"), _CAPITALS, zone=_STOOQ),
    Head(
        "Stooq",
        ("<DATE>", "<TIME>"),
        ("<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"),
        symbol="<TICKER>",
        spelled=r"(.+)\.US",
        others=("<PER>", "<OPENINT>"),
        form="%Y%m%d %H%M%S",
        zone=_STOOQ,
    ),
    Head(
        "Polygon",
        ("window_start",),
        symbol="ticker",
        spelled="(?:X:)?(.+)",
        others=("transactions",),
        epochs=(Epoch("ns"),),
    ),
    Head("Binance", ("open_time",), others=(*_KLINES, "ignore"), epochs=(Epoch("ms"),)),
    Head("Binance", ("open_time",), others=(*_KLINES, "ignore"), epochs=_SPOT, headless=True),
)


def head_of(names: Sequence[str], path: str) -> Head:
    """The head under which a file is read.

    names: its headings, or the cells of its first line.
    path: of the file, for messages.
    """
    found = next((head for head in HEADS if head.fits(names)), None)
    if found is not None:
        doubled = next((name for name in names if names.count(name) > 1), None)
        if doubled is not None and not found.headless:
            raise DataError(f"{path}: column {doubled!r} is there twice; keep one")
        return found
    known = "; ".join(
        f"{head.vendor} {','.join((*head.stamp, *head.fields))}"
        for head in HEADS
        if not head.headless
    )
    raise DataError(
        f"{path}: its head is none that is known: {in_one_line(','.join(names))}"
        f"; known are {known}; a good file begins with the two lines"
        f" {GOOD[0]} and {GOOD[1]}"
    )
