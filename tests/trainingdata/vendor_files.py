"""Synthetic bars, and files of them in the form of each vendor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from trainingdata.bars import OHLCV_FIELDS, Bars
from trainingdata.file_formats import FILE_FORMATS, FileFormat
from trainingdata.instruments import instrument

# On the first of these days the clocks of New York go forward, on the second back.
DAYS = ("2024-03-08", "2024-11-01")
NEW_YORK = "America/New_York"
READ = tuple(head for head in FILE_FORMATS if not head.is_daily)
OWN = FILE_FORMATS[0]


def table(symbol: str, day: str = DAYS[0], minutes: int = 60, days: int = 4) -> pd.DataFrame:
    """Bars of some minutes while a symbol trades: `start`, `end`, the fields; prices in cents."""
    begin = pd.Timestamp(day, tz=NEW_YORK)
    end = begin + pd.DateOffset(days=days)
    stock = not symbol.endswith("USD")
    if stock and minutes == 60:
        begin += pd.Timedelta(minutes=30)
    local = pd.date_range(begin, end, freq=f"{minutes}min", inclusive="left")
    minute = local.hour * 60 + local.minute
    session = (minute >= 570) & (minute < 960) & (local.day_of_week < 5)
    kept = local[session] if stock else local
    ends = kept + pd.Timedelta(minutes=minutes)
    if stock:
        ends = ends.where(ends.hour * 60 + ends.minute <= 960, ends - pd.Timedelta(minutes=30))
    cents = np.random.default_rng(len(kept)).integers(9_000, 11_000, (len(kept), 4))
    cents.sort(axis=1)
    prices = cents / 100
    return pd.DataFrame(
        {
            "start": kept.tz_convert("UTC"),
            "end": ends.tz_convert("UTC"),
            "open": prices[:, 1],
            "high": prices[:, 3],
            "low": prices[:, 0],
            "close": prices[:, 2],
            "volume": np.arange(len(kept)) % 7 + 1,
        }
    )


def coins(*closes: list[float]) -> Bars:
    """Hourly bars of coins AAAUSD, BBBUSD, … from their closes; NaN where there is none."""
    array = np.array(closes)
    times = np.datetime64("2024-01-01T01", "ns") + np.arange(array.shape[1]) * np.timedelta64(
        1, "h"
    )
    items = tuple(instrument(f"{chr(65 + s) * 3}USD") for s in range(len(array)))
    return Bars(items, times, np.repeat(array[:, :, None], 5, axis=2), np.isfinite(array), "test")


def spelled(symbol: str, head: FileFormat) -> str:
    """A symbol as the vendor's column spells it."""
    pair = f"X:{symbol[:-3]}-USD" if symbol.endswith("USD") else symbol
    return {"Polygon": pair, "Stooq": f"{symbol}.US"}.get(head.vendor, symbol)


def frame_of(
    head: FileFormat, bars: pd.DataFrame, *symbols: str, typed: bool = False
) -> pd.DataFrame:
    """The columns of a vendor's file; symbols: that its column names, the rows of each in turn.

    typed: stamps are instants, as in Parquet, and no text.
    """
    stamps = bars["end"] if head.stamps_are_ends else bars["start"]
    data = pd.DataFrame(index=bars.index)
    if head.epoch_formats:
        nanoseconds = stamps.dt.as_unit("ns").astype("int64")
        late = (
            (stamps >= head.epoch_formats[-1].start_date)
            if len(head.epoch_formats) > 1
            else stamps.notna()
        )
        per_count = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
        counts = [nanoseconds // per_count[epoch.unit] for epoch in head.epoch_formats]
        data[head.timestamp_columns[0]] = counts[-1].where(late, counts[0])
    elif head.time_zone:
        parts = " ".join(head.date_formats or ["%Y-%m-%d %H:%M:%S"]).split()
        for name, part in zip(head.timestamp_columns, parts, strict=True):
            data[name] = stamps.dt.tz_convert(head.time_zone).dt.strftime(part)
    else:
        data[head.timestamp_columns[0]] = stamps if typed else stamps.astype(str)
    for name, field in zip(head.ohlcv_columns, OHLCV_FIELDS, strict=True):
        data[name] = bars[field].to_numpy()
    if head.adjusted_close_column and head is not OWN:
        data[head.adjusted_close_column] = 1.0
    for name in head.known_unread_columns:
        data[name] = 0
    if head.quote_volume_column:
        data[head.quote_volume_column] = (bars["volume"] * bars["close"]).to_numpy()
    if symbols:
        named = [data.assign(**{head.symbol_column: spelled(symbol, head)}) for symbol in symbols]
        data = pd.concat(named, ignore_index=True)
    return data[list(head.columns)] if head.is_headerless else data


def write(path: Path, bars: pd.DataFrame, head: FileFormat = OWN, *symbols: str) -> Path:
    """A file of a vendor; its name says the symbol where none is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        frame_of(head, bars, *symbols, typed=True).to_parquet(path)
    else:
        frame_of(head, bars, *symbols).to_csv(path, index=False, header=not head.is_headerless)
    return path


def write_download(path: Path, bars: pd.DataFrame, *symbols: str) -> Path:
    """The file of several tickers that `yfinance.download(…).to_csv` writes."""
    stamps = pd.DatetimeIndex(bars["start"], name="Datetime")
    fields = ("Close", "High", "Low", "Open", "Volume")
    columns = pd.MultiIndex.from_product([fields, symbols], names=["Price", "Ticker"])
    values = np.repeat(bars[[name.lower() for name in fields]].to_numpy(), len(symbols), axis=1)
    pd.DataFrame(values, index=stamps, columns=columns).to_csv(path)
    return path
