"""Responses of Alpaca's data API at the practice venue: bars, latest bars and latest trades."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from foundation.errors import InputError
from practice.alpaca.stocks import Venue
from practice.alpaca.tickets import format_timestamp
from practice.request import (
    RequestRefused,
    ResponseBody,
    parse_query_choice,
    parse_query_integer,
    refuse_unknown_keys,
)
from trainingdata.bars import Bars
from trainingdata.corporate_actions import adjust_for_splits
from trainingdata.instants import DAY, new_york_date, new_york_midnight, parse_instant
from trainingdata.instruments import AssetClass, instrument, is_crypto, venue_spelling
from trainingdata.sessions import exchange_calendar
from trainingdata.timeframe import Timeframe

MAX_BARS_PER_PAGE = 10_000  # bars in one response
MAX_LATEST_BAR_AGE = 10 * DAY  # maximum age of the latest bar
PRICE_ADJUSTMENTS = ("raw", "split", "all")  # Alpaca's price adjustments that are supported
DATA_FEEDS = (
    "iex",
    "sip",
    "delayed_sip",
    "boats",
    "overnight",
    "otc",
)  # all feeds have the same bars
MINUTE = np.timedelta64(1, "m")
TIMEFRAME_UNIT_TRANSLATION = str.maketrans(
    {"m": "Min", "h": "Hour", "d": "Day"}
)  # units in Alpaca's timeframe names, such as 30Min
_PAGE_TOKEN_PATTERN = re.compile(r"\d{1,6}(-\d{1,9})?", re.ASCII)


def bars_page_response(venue: Venue, query: Mapping[str, str]) -> ResponseBody:
    """Return one page of bars and the token of the next page.

    Routes: `GET /v2/stocks/bars` and `GET /v1beta3/crypto/us/bars`.
    """
    refuse_unknown_keys(
        query,
        *("symbols", "timeframe", "start", "end", "limit", "page_token"),
        *("adjustment", "feed", "currency", "sort"),
    )
    _check_feed_and_currency(query)
    parse_query_choice(query, "sort", ("asc",))
    timeframe = query.get("timeframe", "1Hour")
    asked = parse_query_symbols(query)
    kinds = {instrument(symbol).kind for symbol in asked}
    served = [_served_timeframes(venue.market.bars.timeframe, kind) for kind in kinds]
    if not all(timeframe in each for each in served):
        names = ", ".join(sorted({name for each in served for name in each}))
        raise RequestRefused(
            400, None, f"timeframe: {timeframe} is not supported by the practice venue; use {names}"
        )
    now = venue.now
    today = now.astype("datetime64[D]").astype("datetime64[ns]")
    start = parse_instant(query["start"], name="start") if "start" in query else today
    end = parse_instant(query["end"], name="end") if "end" in query else now
    adjustment = parse_query_choice(query, "adjustment", PRICE_ADJUSTMENTS, "raw")
    left = min(parse_query_integer(query, "limit", MAX_BARS_PER_PAGE, 1), MAX_BARS_PER_PAGE)
    place, begin = _decode_page_token(query.get("page_token") or "0-0")
    # A page counts bars over all symbols: a symbol may continue on the next page, which begins
    # there and reads none of the earlier bars.
    page: dict[str, list[ResponseBody]] = {}
    for k, symbol in enumerate(asked[place:], place):
        bars = bars_response(venue, [symbol], start, end, adjustment).get(symbol, [])
        kind = instrument(symbol).kind
        frame = _served_timeframes(venue.market.bars.timeframe, kind)[timeframe]
        if frame.length != venue.market.bars.timeframe.length:
            bars = subdivide_bars(bars, venue.market.bars.timeframe, kind, frame.length)
        if part := bars[begin : begin + left]:
            page[venue_spelling(symbol)] = part
        left -= len(part)
        if begin + len(part) < len(bars):
            return {"bars": page, "next_page_token": f"{k}-{begin + len(part)}"}
        begin = 0
    return {"bars": page, "next_page_token": None}


def _decode_page_token(token: str) -> tuple[int, int]:
    """Decode a page token; return the number of the page's first symbol and of its first bar."""
    if not _PAGE_TOKEN_PATTERN.fullmatch(token):
        raise InputError(
            f"page_token: {token[:40]!r} is invalid; pass the next_page_token of the previous page"
        )
    symbol, _, bar = token.partition("-")
    return int(symbol), int(bar or 0)


def latest_bars_response(venue: Venue, query: Mapping[str, str]) -> ResponseBody:
    """Return the latest bar of each symbol.

    Routes: `GET /v2/stocks/bars/latest` and `/v1beta3/crypto/us/latest/bars`.
    """
    refuse_unknown_keys(query, "symbols", "feed", "currency")
    _check_feed_and_currency(query)
    since = venue.now - MAX_LATEST_BAR_AGE
    bars = bars_response(venue, parse_query_symbols(query), since, venue.now, latest_count=1)
    return {"bars": {venue_spelling(symbol): rows[-1] for symbol, rows in bars.items() if rows}}


def latest_trades_response(
    venue: Venue, now: np.datetime64, query: Mapping[str, str]
) -> ResponseBody:
    """Return the latest trade of each symbol, at its present price.

    Routes: `GET /v2/stocks/trades/latest` and its crypto counterpart.

    now: time on the clock, which may be between two instants of the panel.
    """
    refuse_unknown_keys(query, "symbols", "feed", "currency")
    _check_feed_and_currency(query)
    shared = {"t": format_timestamp(now), "s": 1, "i": 1}
    of_stocks = {**shared, "x": "V", "c": ["@"], "z": "C"}
    of_crypto = {**shared, "tks": "B"}
    trades = {}
    for symbol in parse_query_symbols(query):
        price = venue.market_price(symbol) if symbol in venue.market.bars.symbols else None
        if price is not None:
            fields = of_crypto if is_crypto(symbol) else of_stocks
            trades[venue_spelling(symbol)] = {**fields, "p": price}
    return {"trades": trades}


def _check_feed_and_currency(query: Mapping[str, str]) -> None:
    """Refuse a query for an unknown data feed or for a currency other than USD."""
    parse_query_choice(query, "feed", DATA_FEEDS)
    parse_query_choice(query, "currency", ("USD",))


def parse_query_symbols(query: Mapping[str, str]) -> list[str]:
    """Return the symbols of a query in the project's form (BTCUSD), without duplicates."""
    names = query.get("symbols", "").split(",")
    return list(dict.fromkeys([instrument(name).symbol for name in names if name]))


def bars_response(
    venue: Venue,
    symbols: Sequence[str],
    start: np.datetime64,
    end: np.datetime64,
    adjustment: str = "raw",
    latest_count: int = 0,
) -> dict[str, list[ResponseBody]]:
    """Return the known bars that start between two instants, by symbol, in Alpaca's format.

    symbols: requested symbols; unknown ones are skipped.
    start, end: first and last start of a bar, both included.
    adjustment: `raw` for unadjusted bars; any other value adjusts for splits.
    latest_count: number of latest bars to return for each symbol; 0 returns all.
    """
    # A client validates the history itself, as with a real venue; bars that trade and mark are
    # already validated.
    past = (venue.market.bars if latest_count else venue.client_bars).slice_rows(0, venue.index + 1)
    symbols = [symbol for symbol in symbols if symbol in past.symbols]
    if symbols and adjustment != "raw":
        past = adjust_for_splits(past.select(symbols), venue.market.actions)
    return {symbol: _bar_rows(venue, past, symbol, start, end, latest_count) for symbol in symbols}


def _bar_rows(
    venue: Venue, past: Bars, symbol: str, start: np.datetime64, end: np.datetime64, latest: int
) -> list[ResponseBody]:
    """Return the bars of one symbol that start from `start` to `end`, in Alpaca's format.

    latest: number of latest bars to return; 0 returns all.
    """
    s = past.symbols.index(symbol)
    times, values = past.bars_of_symbol(s)
    near = int(np.searchsorted(times, start, side="right"))
    times = times[near:]
    values = values[near:]
    begins = past.clock(past.instruments[s].kind).starts_by_end(times)
    within = (begins >= start) & (begins <= end)
    # The panel has bars during a halt set by a test; the venue has none.
    for since, until in venue.halts.get(symbol, []):
        within &= (times <= since) | (False if until is None else times > until)
    rows = np.flatnonzero(within)[-latest:]  # with 0 all of them
    if past.timeframe.is_daily and latest:
        begins = times - MINUTE  # the venue's latest bar is of a minute
    elif (
        past.timeframe.auction_time_in_force == "opg"
        and past.instruments[s].kind is AssetClass.STOCK
    ):
        begins = new_york_midnight(new_york_date(begins))
    stamps = [format_timestamp(begin) for begin in begins[rows]]
    return [
        {"t": at, "o": o, "h": h, "l": low, "c": c, "v": v, "n": 1, "vw": c}
        for at, (o, h, low, c, v) in zip(stamps, values[rows].tolist(), strict=True)
    ]


def subdivide_bars(
    bars: list[ResponseBody], timeframe: Timeframe, kind: AssetClass, bar_length: np.timedelta64
) -> list[ResponseBody]:
    """Split each bar into shorter bars that aggregate to it.

    All shorter bars except the first are flat at the close. Clients request shorter bars for two
    reasons: Alpaca's hourly bars start on the full hour but sessions at 9:30, and Alpaca's daily
    crypto bars do not start at midnight UTC.

    bar_length: length of the shorter bars.
    """
    parts = []
    opens = exchange_calendar().opens
    for bar in bars:
        begins = np.array([bar["t"][:-1]], dtype="datetime64[ns]")
        ends = timeframe.clock(kind).ends_by_start(begins)
        if kind is AssetClass.STOCK and timeframe.fills_at_close:
            # The auction with which a bar begins is the last price of the previous session.
            auction = {"h": bar["o"], "l": bar["o"], "c": bar["o"], "v": 0.0}
            parts.append({**bar, **auction, "t": format_timestamp((begins - bar_length)[0])})
            begins = opens[np.searchsorted(opens, begins)]
        starts = np.arange(begins[0], ends[0], bar_length)
        early = float(np.floor(bar["v"] / len(starts)))
        close = bar["c"]
        flat = {"o": close, "h": close, "l": close, "v": early}
        made = [{**bar, **(flat if k else {"v": early})} for k in range(len(starts))]
        made[-1]["v"] = bar["v"] - early * (len(starts) - 1)
        parts += [
            {**part, "t": format_timestamp(at)} for part, at in zip(made, starts, strict=True)
        ]
    return parts


def _served_timeframes(timeframe: Timeframe, kind: AssetClass) -> dict[str, Timeframe]:
    """Return the timeframes that a client may request, by Alpaca's name.

    They are the panel's timeframe, and the shorter one from which a client builds hourly stock bars
    and daily crypto bars. If stocks fill in the closing auction only the shorter one is served: a
    decision comes before the session ends, so its whole bar is not known yet.
    """
    part = timeframe.requested_timeframe(kind)
    frames = {part} if kind is AssetClass.STOCK and timeframe.fills_at_close else {timeframe, part}
    return {each.name.translate(TIMEFRAME_UNIT_TRANSLATION): each for each in frames}
