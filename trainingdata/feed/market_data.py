"""Bars and prices from Alpaca, or from a server with the same interface."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np

from foundation.arrays import Array, Instants
from foundation.errors import DataError, InputError
from trainingdata.bars import CLOSE, Bars, build_panel, check_bars, keep_regular_hours
from trainingdata.feed.endpoint import (
    KEY_VARIABLE,
    SECRET_VARIABLE,
    ApiKeys,
    BrokerSettings,
    translate_venue_errors,
)
from trainingdata.feed.fields import BarEntry, TradeEntry
from trainingdata.feed.pages import limit_pages
from trainingdata.instants import format_utc, new_york_date
from trainingdata.instruments import AssetClass, Instrument, instrument, venue_spelling
from trainingdata.last_trade import LastTrade
from trainingdata.resampling import aggregate_bars, enclosing_bars, resample_close_to_close
from trainingdata.sessions import session_opens_on
from trainingdata.source import Adjustment, Feed
from trainingdata.timeframe import HOURLY, Clock, Timeframe

log = logging.getLogger(__name__)

SymbolBars = tuple[Instrument, Instants, Array]
JsonRows = list[dict[str, Any]]
Latest = TypeVar("Latest")

MAX_PRICE_AGE = np.timedelta64(2, "h")
NO_GRACE_PERIOD = np.timedelta64(0, "s")


class MarketData:
    """Bars and prices of a venue.

    settings: address of the venue.
    keys: API keys of the account; None if only crypto is requested.
    feed: feed of stocks, `iex` or `sip`.
    adjustment: adjustment of stock histories.
    timeframe: timeframe of the bars.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        keys: ApiKeys | None,
        feed: Feed,
        adjustment: Adjustment = "split",
        timeframe: Timeframe = HOURLY,
    ) -> None:
        from alpaca.data.historical import CryptoHistoricalDataClient, StockHistoricalDataClient

        self._settings = settings
        self._keys = keys
        self._feed = feed
        self._adjustment = adjustment
        self.timeframe = timeframe
        url = settings.address
        key, secret = (None, None) if keys is None else (keys.key, keys.secret)
        options: dict[str, Any] = {"raw_data": True, "url_override": url}
        coins = CryptoHistoricalDataClient(key, secret, **options)
        self._coins = limit_pages(settings.install_transport(coins))
        if keys is not None:
            stocks = StockHistoricalDataClient(key, secret, **options)
            self._stocks = limit_pages(settings.install_transport(stocks))

    def prices(self, symbols: Sequence[str], now: np.datetime64) -> dict[str, float]:
        """Return the unadjusted close of each symbol's latest bar, in USD.

        Symbols without a bar at the venue are missing from the result. So are symbols whose latest
        bar began more than two hours before or after `now`, because its price is stale.

        Raises BrokerError for a venue that does not respond, or rejects a request.
        """
        closes: dict[str, float] = {}
        for symbol, bar in self._request_latest("latest bar", symbols, _parse_start_and_close):
            start, close = bar
            if abs(now - start) > MAX_PRICE_AGE:
                log.warning(
                    "%s: no current price: the latest is from %s", symbol, format_utc(start)
                )
            else:
                closes[symbol] = close
        return closes

    def last_trades(self, symbols: Sequence[str]) -> dict[str, LastTrade]:
        """Return the last trade of each symbol that has one.

        Raises BrokerError for a venue that does not respond, or rejects a request.
        """
        return dict(self._request_latest("latest trade", symbols, _read_last_trade))

    def bars_by_symbol(
        self,
        symbols: Sequence[str],
        since: np.datetime64,
        now: np.datetime64,
        grace: np.timedelta64 = NO_GRACE_PERIOD,
    ) -> list[SymbolBars]:
        """Return the bars of each symbol that start at or after `since` and are known at `now`.

        Hourly stock bars start at 09:30 New York and are aggregated from the venue's half-hour
        bars. Daily stock bars between closing auctions are aggregated from quarter-hour bars. Daily
        crypto bars start at midnight UTC and are aggregated from hourly bars. A symbol without a
        bar is missing from the result.

        grace: time after a bar's close in which its last part may still arrive; until then an
            aggregated bar without its last part is not returned.

        Raises DataError for bars that cannot be trusted; BrokerError for a venue that does not
        respond, or rejects a request.
        """
        tables = []
        for items in self._group_by_asset_class(symbols):
            with translate_venue_errors(
                f"bars of {_format_symbols(items)}", self._settings, self._keys
            ):
                rows_by_item = self._bars(items, _to_datetime(since), _to_datetime(now))
                answers = [(item, *_arrays(rows)) for item, rows in rows_by_item if rows]
            for item, starts, values in answers:
                times, values = _select_known_bars(item, self.timeframe, starts, values, now, grace)
                # A bar that began before was requested only in part.
                whole = self.timeframe.clock(item.kind).starts_by_end(times) >= since
                if whole.any():
                    tables.append((item, times[whole], values[whole]))
        return tables

    def bars(self, symbols: Sequence[str], since: np.datetime64, now: np.datetime64) -> Bars:
        """Return the bars that start at or after `since` and are known at `now`, as a panel.

        Raises DataError for bars that cannot be trusted, and if no symbol has a bar; BrokerError
        for a venue that does not respond, or rejects a request.
        """
        tables = self.bars_by_symbol(symbols, since, now)
        if not tables:
            raise DataError(
                f"{', '.join(symbols)}: the venue has no bars between {format_utc(since)} and"
                f" {format_utc(now)}"
            )
        source = f"bars of {self._settings.url_override or 'Alpaca'}"
        return build_panel(tables, source, self.timeframe)

    def _group_by_asset_class(self, symbols: Sequence[str]) -> list[list[Instrument]]:
        """Return the symbols' distinct instruments as groups: stocks, then crypto pairs.

        Empty groups are left out. Raises InputError for stocks without API keys.
        """
        items = [instrument(symbol) for symbol in dict.fromkeys(symbols)]
        stocks = [item for item in items if item.kind is AssetClass.STOCK]
        coins = [item for item in items if item.kind is AssetClass.CRYPTO]
        if stocks and self._keys is None:
            raise InputError(
                f"{KEY_VARIABLE}: not set in the environment; set {KEY_VARIABLE} and"
                f" {SECRET_VARIABLE} to request bars of {stocks[0].symbol}"
            )
        return [items for items in (stocks, coins) if items]

    def _request_latest(
        self, what: str, symbols: Sequence[str], of: Callable[[Any], Latest]
    ) -> list[tuple[str, Latest]]:
        """Return the parsed latest bar or trade of each symbol that has one.

        what: `latest bar` or `latest trade`.
        of: parser of the response for one symbol.
        """
        found: list[tuple[str, Latest]] = []
        for items in self._group_by_asset_class(symbols):
            with translate_venue_errors(
                f"{what}s of {_format_symbols(items)}", self._settings, self._keys
            ):
                answer = self._request_by_asset_class(what.replace(" ", "_"), items)
                found += [(item.symbol, of(row)) for item, row in answer]
        return found

    def _request_by_asset_class(
        self, what: str, items: Sequence[Instrument], **options: Any
    ) -> list[tuple[Instrument, Any]]:
        """Request bars or trades of stocks, or of crypto pairs.

        Returns each instrument that the response contains, with its part of the response.

        what: `bars`, `latest_bar` or `latest_trade`.
        """
        from alpaca.data import requests
        from alpaca.data.enums import DataFeed

        stocks = items[0].kind is AssetClass.STOCK
        kind, client = ("stock", self._stocks) if stocks else ("crypto", self._coins)
        form = getattr(requests, f"{kind}_{what}_request".title().replace("_", ""))
        if stocks:
            options["feed"] = DataFeed(self._feed)
        names = {venue_spelling(item.symbol): item for item in items}
        request = form(symbol_or_symbols=list(names), **options)
        answer = getattr(client, f"get_{kind}_{what}")(request)
        return [(item, answer[name]) for name, item in names.items() if name in answer]

    def _bars(
        self, items: Sequence[Instrument], start: datetime, end: datetime
    ) -> list[tuple[Instrument, JsonRows]]:
        """Request the bars of this timeframe, or the shorter bars that are aggregated to it."""
        from alpaca.data.enums import Adjustment as Adjusted
        from alpaca.data.timeframe import TimeFrame, TimeFrameUnit

        kind = items[0].kind
        asked = {"1d": TimeFrame.Day, "1h": TimeFrame.Hour}
        part = self.timeframe.requested_timeframe(kind)
        of = asked.get(part.name) or TimeFrame(part.minutes, TimeFrameUnit.Minute)
        options: dict[str, Any] = {"timeframe": of, "start": start, "end": end}
        if kind is AssetClass.STOCK:
            options["adjustment"] = Adjusted(self._adjustment)
        return self._request_by_asset_class("bars", items, **options)


def _format_symbols(items: Sequence[Instrument]) -> str:
    return ", ".join(item.symbol for item in items)


def _parse_start_and_close(row: dict[str, Any]) -> tuple[np.datetime64, float]:
    starts, values = _arrays([row])
    if not 0 < values[0, CLOSE] < np.inf:
        raise ValueError(f"closing price must be above 0, got {row['c']!r}")
    return starts[0], float(values[0, CLOSE])


def _arrays(rows: JsonRows) -> tuple[Instants, Array]:
    """Return start times [N] and values [N, 5] of the venue's bars, without other fields."""
    starts = [BarEntry.start.read(row) for row in rows]
    values = [[field.read(row) for field in BarEntry.values] for row in rows]
    return np.array(starts, dtype="datetime64[ns]"), np.array(values, dtype=np.float64)


def _select_known_bars(
    item: Instrument,
    timeframe: Timeframe,
    starts: Instants,
    values: Array,
    now: np.datetime64,
    grace: np.timedelta64,
) -> tuple[Instants, Array]:
    """Return known-at instants [N] and values [N, 5] of an instrument's bars known at `now`.

    starts, values: the venue's bars, which are aggregated to the timeframe if they are shorter.
    grace: as in `MarketData.bars_by_symbol`.
    """
    source = f"bars of {item.symbol}"
    check_bars(starts, values, source)
    part = timeframe.requested_timeframe(item.kind)
    if item.kind is AssetClass.STOCK and timeframe.fills_at_close:
        days = resample_close_to_close(starts, values, part.minutes, timeframe)
        rows = days.times <= now
        rows &= (days.times <= now - grace) | np.isin(days.times - part.length, starts)
        return days.times[rows], days.values[rows]
    if part != timeframe:
        clock = timeframe.clock(item.kind)
        starts, values = _aggregate_parts(clock, starts, values, part.length, now - grace)
    elif timeframe.is_daily:
        # A day's stamp is its midnight; a day without a session cannot be traded on.
        opens = session_opens_on(new_york_date(starts))
        starts, values = opens[~np.isnat(opens)], values[~np.isnat(opens)]
    if not len(starts):
        return starts, values
    times, values = keep_regular_hours(starts, values, item, timeframe, source)
    rows = times <= now
    return times[rows], values[rows]


def _aggregate_parts(
    clock: Clock, starts: Instants, parts: Array, length: np.timedelta64, settled: np.datetime64
) -> tuple[Instants, Array]:
    """Aggregate shorter bars, the parts; return the bars' start times [N] and values [N, 5].

    Parts outside a session are dropped. A bar that closed after `settled` is included only if its
    last part is present.

    clock: clock of the aggregated bars.
    starts, parts: [M] start times and [M, 5] values of the parts.
    length: length of a part.
    settled: latest close of bars that count as complete without their last part.
    """
    begun, ends, within = enclosing_bars(clock, starts)
    # A part without a trade has no bar: an old bar is complete without it.
    within &= (ends <= settled) | np.isin(ends, ends[within & (starts + length >= ends)])
    first, values = aggregate_bars(begun[within], parts[within])
    return begun[within][first], values


def _to_datetime(at: np.datetime64) -> datetime:
    return datetime.fromtimestamp(int(at.astype("datetime64[s]").astype(int)), UTC)


def _read_last_trade(row: dict[str, Any]) -> LastTrade:
    return LastTrade(float(TradeEntry.price.read(row)), TradeEntry.traded_at.read(row))
