"""Bars from Alpaca or a server that speaks as it does. The only room that asks for market data."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants
from foundation.errors import DataError, InputError
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars, bars_from, check_bars, panel
from trainingdata.feed.endpoint import KEY, SECRET, BrokerSettings, Keys, asking
from trainingdata.instruments import Instrument, Kind, instrument, spelled
from trainingdata.sessions import DAY, last_known, stock_grid, utc_text
from trainingdata.source import Adjustment, Feed

Table = tuple[Instrument, Instants, Array]
Rows = list[dict[str, Any]]

OVERLAP = (
    14  # of a symbol's last bars are asked for again each time, to see whether they have changed
)
NONE = np.timedelta64(0, "s")
HALF = np.timedelta64(30, "m")
FIELDS = "ohlcv"  # as the venue calls them


class MarketData:
    """What the venue says of prices. Coins need no keys.

    feed: of stocks, `iex` or `sip`. adjustment: of their history, for splits unless another is
    named.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        keys: Keys | None,
        feed: Feed,
        adjustment: Adjustment = "split",
    ) -> None:
        from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient

        self._settings = settings
        self._keys = keys
        self._feed = feed
        self._adjustment = adjustment
        url = settings.address
        (key, secret) = (None, None) if keys is None else (keys.key, keys.secret)
        self._coins = settings.made_safe(
            CryptoHistoricalDataClient(key, secret, raw_data=True, url_override=url)
        )
        if keys is not None:
            self._stocks = settings.made_safe(
                StockHistoricalDataClient(key, secret, raw_data=True, url_override=url)
            )

    def prices(self, symbols: Sequence[str]) -> dict[str, float]:
        """The close of each symbol's latest bar, USD, not adjusted for anything; what the venue has
        none of is left out.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or refuses.
        """
        found: dict[str, float] = {}
        stocks, coins = self._by_kind(symbols)
        for items, ask in ((stocks, self._latest_stocks), (coins, self._latest_coins)):
            if items:
                with asking(f"latest bars of {_names(items)}", self._settings, self._keys):
                    answer = ask({spelled(item.symbol): item.symbol for item in items})
                    found |= {symbol: float(bar["c"]) for symbol, bar in answer.items()}
        return found

    def tables(
        self,
        symbols: Sequence[str],
        since: np.datetime64,
        now: np.datetime64,
        grace: np.timedelta64 = NONE,
    ) -> list[Table]:
        """Hourly bars that begin from `since` on and were known at `now`, a table a symbol that has
        any.

        Stocks are regular hours from 09:30 New York, made of the venue's half-hours; coins are full
        hours. grace: an hour that closed no longer than this ago, and whose last half is not there,
        is left out: it may still come.

        Raises
        ------
        DataError
            for bars that cannot be trusted.
        BrokerError
            for a venue that does not answer, or refuses.
        """
        found = []
        for asked, ask in zip(self._by_kind(symbols), (self._halves, self._hours), strict=True):
            if not asked:
                continue
            with asking(f"bars of {_names(asked)}", self._settings, self._keys):
                answers = [
                    (item, *_arrays(rows))
                    for item, rows in ask(asked, _moment(since), _moment(now))
                    if rows
                ]
            for item, starts, values in answers:
                source = f"bars of {item.symbol}"
                if item.kind is Kind.STOCK:
                    check_bars(starts, values, source)
                    starts, values = _regular_hours(starts, values, now - grace)
                if len(starts):
                    times, values = bars_from(starts, values, item, source)
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
            raise DataError(
                f"{', '.join(symbols)}: the venue has no bar between {utc_text(since)} and"
                f" {utc_text(now)}"
            )
        return panel(tables, f"bars of {self._settings.url_override or 'Alpaca'}")

    def _by_kind(self, symbols: Sequence[str]) -> tuple[list[Instrument], list[Instrument]]:
        """Stocks and coins, each once."""
        items = [instrument(symbol) for symbol in dict.fromkeys(symbols)]
        stocks, coins = (
            [item for item in items if item.kind is kind] for kind in (Kind.STOCK, Kind.CRYPTO)
        )
        if stocks and self._keys is None:
            raise InputError(
                f"{KEY}: not set in the environment; bars of {stocks[0].symbol} need {KEY} and"
                f" {SECRET}"
            )
        return stocks, coins

    def _latest_stocks(self, names: dict[str, str]) -> dict[str, Any]:
        from alpaca.data.enums import DataFeed
        from alpaca.data.requests import StockLatestBarRequest

        request = StockLatestBarRequest(symbol_or_symbols=list(names), feed=DataFeed(self._feed))
        return {
            names[name]: bar
            for name, bar in self._stocks.get_stock_latest_bar(request).items()
            if name in names
        }

    def _latest_coins(self, names: dict[str, str]) -> dict[str, Any]:
        from alpaca.data.requests import CryptoLatestBarRequest

        answer = self._coins.get_crypto_latest_bar(
            CryptoLatestBarRequest(symbol_or_symbols=list(names))
        )
        return {names[name]: bar for name, bar in answer.items() if name in names}

    def _halves(
        self, items: Sequence[Instrument], start: datetime, end: datetime
    ) -> list[tuple[Instrument, Rows]]:
        from alpaca.data.enums import Adjustment as Adjusted
        from alpaca.data.enums import DataFeed
        from alpaca.data.requests import StockBarsRequest
        from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

        request = StockBarsRequest(
            symbol_or_symbols=[item.symbol for item in items],
            timeframe=TimeFrame(30, TimeFrameUnit.Minute),
            start=start,
            end=end,
            adjustment=Adjusted(self._adjustment),
            feed=DataFeed(self._feed),
        )
        answer = self._stocks.get_stock_bars(request)
        return [(item, answer.get(item.symbol, [])) for item in items]

    def _hours(
        self, items: Sequence[Instrument], start: datetime, end: datetime
    ) -> list[tuple[Instrument, Rows]]:
        from alpaca.data.requests import CryptoBarsRequest
        from alpaca.data.timeframe import TimeFrame

        names = {item: spelled(item.symbol) for item in items}
        request = CryptoBarsRequest(
            symbol_or_symbols=list(names.values()), timeframe=TimeFrame.Hour, start=start, end=end
        )
        answer = self._coins.get_crypto_bars(request)
        return [(item, answer.get(name, [])) for item, name in names.items()]


class BarFeed:
    """The bars of some symbols up to now, asked for once and then extended.

    days: of history before the first question. patience: seconds after its close in which a bar
    that is not there, or not whole, is late.
    """

    def __init__(
        self, data: MarketData, symbols: Sequence[str], days: int, patience: float = 0.0
    ) -> None:
        self._data = data
        self._symbols = symbols
        self._days = days
        self._patience = np.timedelta64(round(patience * 1000), "ms")
        self._kept: dict[Instrument, tuple[Instants, Array]] = {}

    def bars(self, now: np.datetime64) -> Bars:
        """Every bar known at `now`. A symbol whose older bars have changed since, as by a split, is
        asked for anew.

        Raises
        ------
        DataError
            for bars that cannot be trusted, or none at all.
        BrokerError
            for a venue that does not answer, or refuses.
        """
        self._extend(now)
        if missing := [symbol for symbol in self._symbols if instrument(symbol) not in self._kept]:
            for item, times, values in self._data.tables(
                missing, now - self._days * DAY, now, self._patience
            ):
                self._kept[item] = times, values
        if not self._kept:
            raise DataError(
                f"{', '.join(self._symbols)}: the venue has no bar of the last {self._days} days"
            )
        return panel([(item, *table) for item, table in self._kept.items()], "bars of the venue")

    def late(self, now: np.datetime64) -> tuple[str, ...]:
        """Symbols whose last bar closed within the patience before `now`, and is not here."""
        return tuple(
            symbol
            for symbol in self._symbols
            if now - last_known(instrument(symbol).kind, now) < self._patience
            and not self._complete(instrument(symbol), now)
        )

    def prices(self, symbols: Sequence[str]) -> dict[str, float]:
        """What each trades at now, USD, not adjusted for anything."""
        return self._data.prices(symbols)

    def _complete(self, item: Instrument, now: np.datetime64) -> bool:
        """Whether the last bar that can be known of a symbol is here."""
        kept = self._kept.get(item)
        return kept is not None and bool(kept[0][-1] >= last_known(item.kind, now))

    def _extend(self, now: np.datetime64) -> None:
        """Add what is new, and take over what the venue has corrected; a symbol in other units
        than before is forgotten.
        """
        due = [item for item in self._kept if not self._complete(item, now)]
        if not due:
            return
        since = min(self._kept[item][0][-min(OVERLAP, len(self._kept[item][0]))] for item in due)
        for item, times, values in self._data.tables(
            [item.symbol for item in due], since, now, self._patience
        ):
            old_times, old_values = self._kept[item]
            shared = np.isin(times, old_times)
            if shared.any() and not np.array_equal(
                values[shared][0], old_values[np.searchsorted(old_times, times[shared][0])]
            ):
                del self._kept[item]
                continue
            before = old_times < times[0]
            self._kept[item] = (
                np.concatenate([old_times[before], times]),
                np.concatenate([old_values[before], values]),
            )


def _names(items: Sequence[Instrument]) -> str:
    return ", ".join(item.symbol for item in items)


def _arrays(rows: Rows) -> tuple[Instants, Array]:
    """Starts [N] and values [N, 5]; the rest of what the venue says of a bar is dropped."""
    stamps = pd.to_datetime([row["t"] for row in rows], utc=True).tz_localize(None)
    return stamps.to_numpy("datetime64[ns]"), np.array(
        [[row[name] for name in FIELDS] for row in rows], dtype=np.float64
    )


def _regular_hours(
    starts: Instants, halves: Array, settled: np.datetime64
) -> tuple[Instants, Array]:
    """Regular hourly bars of the half-hours within them; what lies outside a session is left out.

    An hour that closed after `settled` needs its last half.
    """
    grid = stock_grid()
    k = np.searchsorted(grid.starts, starts, side="right") - 1
    ends = grid.ends[np.maximum(k, 0)]
    within = (k >= 0) & (starts < ends)
    within &= (ends <= settled) | np.isin(k, k[within & (starts + HALF >= ends)])
    hour = k[within]
    halves = halves[within]
    first = np.flatnonzero(np.diff(hour, prepend=-1))
    last = np.append(first[1:], len(hour)) - 1
    values = np.empty((len(first), len(FIELDS)))
    values[:, OPEN] = halves[first, OPEN]
    values[:, CLOSE] = halves[last, CLOSE]
    if len(first):
        values[:, HIGH] = np.maximum.reduceat(halves[:, HIGH], first)
        values[:, LOW] = np.minimum.reduceat(halves[:, LOW], first)
        values[:, VOLUME] = np.add.reduceat(halves[:, VOLUME], first)
    return grid.starts[hour[first]], values


def _moment(at: np.datetime64) -> datetime:
    return datetime.fromtimestamp(int(at.astype("datetime64[s]").astype(int)), UTC)
