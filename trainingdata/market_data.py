"""Bars from Alpaca or a server that speaks as it does. The only room that asks for market data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from trainingdata.bars import Bars, bars_of, panel
from trainingdata.endpoint import BrokerSettings, Keys, asking
from trainingdata.errors import DataError
from trainingdata.instruments import Instrument, Kind, instrument, spelled
from trainingdata.sessions import DAY, Instants, last_known, stock_grid, utc_text
from trainingdata.source import Feed

Array = npt.NDArray[np.float64]
Table = tuple[Instrument, Instants, Array]
Rows = list[dict[str, Any]]

OVERLAP = np.timedelta64(8, "h")  # asked for again each time, to see whether it has changed
FIELDS = {"t": "timestamp", "o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}


class MarketData:
    """What the venue says of prices. feed: of stocks, `iex` or `sip`."""

    def __init__(self, settings: BrokerSettings, keys: Keys, feed: Feed) -> None:
        from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient

        self._settings, self._keys, self._feed, url = settings, keys, feed, settings.address
        stocks = StockHistoricalDataClient(keys.key, keys.secret, raw_data=True, url_override=url)
        coins = CryptoHistoricalDataClient(keys.key, keys.secret, raw_data=True, url_override=url)
        self._stocks, self._coins = settings.made_safe(stocks), settings.made_safe(coins)

    def tables(self, symbols: Sequence[str], since: np.datetime64, now: np.datetime64) -> list[Table]:
        """Hourly bars that begin from `since` on and were known at `now`, a table a symbol that has any.

        Stocks are regular hours from 09:30 New York, made of the venue's half-hours and adjusted for splits; coins are full
        hours.

        Raises
        ------
        DataError
            for bars that cannot be trusted.
        BrokerError
            for a venue that does not answer, or refuses.
        """
        items = [instrument(symbol) for symbol in dict.fromkeys(symbols)]
        found = []
        for kind, ask in ((Kind.STOCK, self._halves), (Kind.CRYPTO, self._hours)):
            asked = [item for item in items if item.kind is kind]
            if not asked:
                continue
            with asking(f"bars of {', '.join(item.symbol for item in asked)}", self._settings, self._keys):
                frames = [(item, _frame(rows)) for item, rows in ask(asked, _moment(since), _moment(now)) if rows]
            for item, frame in frames:
                hours = _regular_hours(frame) if kind is Kind.STOCK else frame
                if len(hours):
                    times, values = bars_of(hours, item, f"bars of {item.symbol}")
                    found.append((item, times[times <= now], values[times <= now]))
        return [table for table in found if len(table[1])]

    def bars(self, symbols: Sequence[str], since: np.datetime64, now: np.datetime64) -> Bars:
        """The same as a panel.

        Raises
        ------
        DataError
            where no symbol has a bar, too.
        """
        tables = self.tables(symbols, since, now)
        if not tables:
            raise DataError(f"{', '.join(symbols)}: the venue has no bar between {utc_text(since)} and {utc_text(now)}")
        return panel(tables, f"bars of {self._settings.url_override or 'Alpaca'}")

    def _halves(self, items: Sequence[Instrument], start: datetime, end: datetime) -> list[tuple[Instrument, Rows]]:
        from alpaca.data.enums import Adjustment, DataFeed
        from alpaca.data.requests import StockBarsRequest
        from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

        request = StockBarsRequest(
            symbol_or_symbols=[item.symbol for item in items],
            timeframe=TimeFrame(30, TimeFrameUnit.Minute),
            start=start,
            end=end,
            adjustment=Adjustment.SPLIT,
            feed=DataFeed(self._feed),
        )
        answer = self._stocks.get_stock_bars(request)
        return [(item, answer.get(item.symbol, [])) for item in items]

    def _hours(self, items: Sequence[Instrument], start: datetime, end: datetime) -> list[tuple[Instrument, Rows]]:
        from alpaca.data.requests import CryptoBarsRequest
        from alpaca.data.timeframe import TimeFrame

        names = {item: spelled(item.symbol) for item in items}
        request = CryptoBarsRequest(symbol_or_symbols=list(names.values()), timeframe=TimeFrame.Hour, start=start, end=end)
        answer = self._coins.get_crypto_bars(request)
        return [(item, answer.get(name, [])) for item, name in names.items()]


class BarFeed:
    """The bars of some symbols up to now, asked for once and then extended. days: of history before the first question."""

    def __init__(self, data: MarketData, symbols: Sequence[str], days: int) -> None:
        self._data, self._symbols, self._days = data, symbols, days
        self._kept: dict[Instrument, tuple[Instants, Array]] = {}
        self._until: np.datetime64 | None = None

    def bars(self, now: np.datetime64) -> Bars:
        """Every bar known at `now`. Where the venue has changed one since, as a split does, all are asked for anew.

        Raises
        ------
        DataError
            for bars that cannot be trusted, or none at all.
        BrokerError
            for a venue that does not answer, or refuses.
        """
        if self._until is not None and not self._extend(now, self._until):
            self._kept.clear()
        if not self._kept:
            for item, times, values in self._data.tables(self._symbols, now - self._days * DAY, now):
                self._kept[item] = times, values
        if not self._kept:
            raise DataError(f"{', '.join(self._symbols)}: the venue has no bar of the last {self._days} days")
        self._until = now
        return panel([(item, *table) for item, table in self._kept.items()], "bars of the venue")

    def _complete(self, item: Instrument, now: np.datetime64) -> bool:
        """Whether the last bar that can be known of a symbol is here."""
        kept = self._kept.get(item)
        return kept is not None and bool(kept[0][-1] >= last_known(item.kind, now))

    def _extend(self, now: np.datetime64, until: np.datetime64) -> bool:
        """Add what is new; whether what overlaps is unchanged."""
        due = [symbol for symbol in self._symbols if not self._complete(instrument(symbol), now)]
        for item, times, values in self._data.tables(due, until - OVERLAP, now):
            if item not in self._kept:
                self._kept[item] = times, values
                continue
            old_times, old_values = self._kept[item]
            same = np.isin(old_times, times)
            if not np.array_equal(old_values[same], values[np.isin(times, old_times)]):
                return False
            new = times > old_times[-1]
            self._kept[item] = np.concatenate([old_times, times[new]]), np.concatenate([old_values, values[new]])
        return True


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
