"""Bars from Alpaca or a server that speaks as it does. The only room that asks for market data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from trainingdata.bars import Bars, bars_of, panel
from trainingdata.endpoint import BrokerSettings, Keys, asking
from trainingdata.errors import DataError
from trainingdata.instruments import Instrument, Kind, instrument
from trainingdata.sessions import DAY, Instants, stock_grid
from trainingdata.source import Feed

FIELDS = {"t": "timestamp", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}


def recent_bars(
    symbols: Sequence[str], now: np.datetime64, *, days: int, feed: Feed, settings: BrokerSettings, keys: Keys
) -> Bars:
    """Every hourly bar of the last `days` calendar days that was known at `now`; a symbol without any is left out.

    Stocks are regular hours from 09:30 New York, made of the venue's half-hours and adjusted for splits; coins are full hours.

    Raises
    ------
    DataError
        for bars that cannot be trusted, and where no symbol has one.
    BrokerError
        for a venue that does not answer, or refuses.
    """
    items = [instrument(symbol) for symbol in dict.fromkeys(symbols)]
    tables = []
    for kind, fetch in ((Kind.STOCK, _stock_halves), (Kind.CRYPTO, _coin_hours)):
        asked = [item for item in items if item.kind is kind]
        if not asked:
            continue
        with asking(f"bars of {', '.join(item.symbol for item in asked)}", settings, keys):
            answers = fetch(asked, _moment(now - days * DAY), _moment(now), feed, settings, keys)
            frames = [(item, _frame(rows)) for item, rows in answers if rows]
        for item, frame in frames:
            hours = _regular_hours(frame) if kind is Kind.STOCK else frame
            if len(hours):
                times, values = bars_of(hours, item, f"bars of {item.symbol}")
                known = times <= now
                tables.append((item, times[known], values[known]))
    tables = [table for table in tables if len(table[1])]
    if not tables:
        raise DataError(f"{', '.join(symbols)}: the venue has no bar of the last {days} days")
    return panel(tables, f"bars of {settings.url_override or 'Alpaca'}")


def _stock_halves(
    items: Sequence[Instrument], start: datetime, end: datetime, feed: Feed, settings: BrokerSettings, keys: Keys
) -> list[tuple[Instrument, list[dict[str, Any]]]]:
    from alpaca.data.enums import Adjustment, DataFeed
    from alpaca.data.historical import StockHistoricalDataClient
    from alpaca.data.requests import StockBarsRequest
    from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

    raw = StockHistoricalDataClient(keys.key, keys.secret, raw_data=True, url_override=settings.address)
    client = settings.made_safe(raw)
    request = StockBarsRequest(
        symbol_or_symbols=[item.symbol for item in items],
        timeframe=TimeFrame(30, TimeFrameUnit.Minute),
        start=start,
        end=end,
        adjustment=Adjustment.SPLIT,
        feed=DataFeed(feed),
    )
    answer = client.get_stock_bars(request)
    return [(item, answer.get(item.symbol, [])) for item in items]


def _coin_hours(
    items: Sequence[Instrument], start: datetime, end: datetime, feed: Feed, settings: BrokerSettings, keys: Keys
) -> list[tuple[Instrument, list[dict[str, Any]]]]:
    from alpaca.data.historical import CryptoHistoricalDataClient
    from alpaca.data.requests import CryptoBarsRequest
    from alpaca.data.timeframe import TimeFrame

    raw = CryptoHistoricalDataClient(keys.key, keys.secret, raw_data=True, url_override=settings.address)
    client = settings.made_safe(raw)
    names = {item: f"{item.symbol.removesuffix('USD')}/USD" for item in items}
    request = CryptoBarsRequest(symbol_or_symbols=list(names.values()), timeframe=TimeFrame.Hour, start=start, end=end)
    answer = client.get_crypto_bars(request)
    return [(item, answer.get(name, [])) for item, name in names.items()]


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """A column a field; the rest of what the venue says of a bar is dropped."""
    frame = pd.DataFrame(rows)
    missing = [name for name in FIELDS if name not in frame.columns]
    if missing:
        raise KeyError(f"a bar without {missing[0]!r}")
    named = frame[list(FIELDS)].rename(columns=FIELDS)
    named["timestamp"] = pd.to_datetime(named["timestamp"], utc=True)
    return named


def _regular_hours(halves: pd.DataFrame) -> pd.DataFrame:
    """Regular hourly bars of the half-hours within them; what lies outside a session is left out."""
    grid = stock_grid()
    starts: Instants = halves["timestamp"].dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[ns]")
    k = np.searchsorted(grid.starts, starts, side="right") - 1
    within = (k >= 0) & (starts < grid.ends[np.maximum(k, 0)])
    hours = pd.Series(grid.starts[k[within]]).dt.tz_localize("UTC").rename("timestamp")
    parts = halves[within].drop(columns="timestamp").reset_index(drop=True).groupby(hours, sort=True)
    return parts.agg(
        open=("open", "first"), high=("high", "max"), low=("low", "min"), close=("close", "last"), volume=("volume", "sum")
    ).reset_index()


def _moment(at: np.datetime64) -> datetime:
    return datetime.fromtimestamp(int(at.astype("datetime64[s]").astype(int)), UTC)
