"""What Alpaca's data API says of a `Venue`: bars in pages, the latest bars and trades."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from marketsimulator.venue.asked import Answer, Refused, whole_number
from marketsimulator.venue.stocks import Venue
from marketsimulator.venue.tickets import timestamp
from trainingdata.actions import split_adjusted
from trainingdata.bars import Bars
from trainingdata.instants import DAY, HOUR, instant
from trainingdata.instruments import instrument, venue_spelling
from trainingdata.sessions import started_at, stock_grid

PAGE = 10_000  # bars an answer holds
LATEST = 10 * DAY  # how old the latest bar may be
HALF_HOUR = np.timedelta64(30, "m")


def bars_page(venue: Venue, query: Mapping[str, str]) -> Answer:
    """`GET /v2/stocks/bars` and `/v1beta3/crypto/us/bars`: one page of them."""
    timeframe = query.get("timeframe", "1Hour")
    if timeframe not in FRAMES:
        served = ", ".join(FRAMES)
        raise Refused(400, None, f"timeframe {timeframe} is not served here: {served}")
    now = venue.now
    today = now.astype("datetime64[D]").astype("datetime64[ns]")
    start = instant(query["start"], name="start") if "start" in query else today
    end = instant(query["end"], name="end") if "end" in query else now
    adjustment = query.get("adjustment", "raw")
    hourly = bars_answer(venue, query_symbols(query), start, end, adjustment)
    # A page counts bars over all symbols, so that a symbol's bars may go on in the next page.
    rows: list[tuple[str, Answer]] = []
    for symbol, bars in hourly.items():
        rows += [(venue_spelling(symbol), bar) for bar in FRAMES[timeframe](bars)]
    begin = whole_number(query, "page_token", 0)
    end_of_page = begin + min(whole_number(query, "limit", PAGE, 1), PAGE)
    page: dict[str, list[Answer]] = {}
    for symbol, bar in rows[begin:end_of_page]:
        page.setdefault(symbol, []).append(bar)
    token = str(end_of_page) if end_of_page < len(rows) else None
    return {"bars": page, "next_page_token": token}


def latest_bars(venue: Venue, query: Mapping[str, str]) -> Answer:
    """`GET /v2/stocks/bars/latest` and `/v1beta3/crypto/us/latest/bars`: by symbol."""
    since = venue.now - LATEST
    bars = bars_answer(venue, query_symbols(query), since, venue.now, latest=1)
    return {"bars": {venue_spelling(symbol): rows[-1] for symbol, rows in bars.items() if rows}}


def latest_trades(venue: Venue, now: np.datetime64, query: Mapping[str, str]) -> Answer:
    """`GET /v2/stocks/trades/latest` and that of coins: what each trades at now, as its last trade.

    now: of the clock, which passes on between two instants of the panel.
    """
    shared = {"t": timestamp(now), "s": 1, "x": "V", "i": 1, "c": ["@"], "z": "C"}
    trades = {}
    for symbol in query_symbols(query):
        price = venue.price_of(symbol) if symbol in venue.market.bars.symbols else None
        if price is not None:
            trades[venue_spelling(symbol)] = {**shared, "p": price}
    return {"trades": trades}


def query_symbols(query: Mapping[str, str]) -> list[str]:
    """The symbols that a query names, as this project writes them."""
    return [instrument(name).symbol for name in query.get("symbols", "").split(",") if name]


def bars_answer(
    venue: Venue,
    symbols: Sequence[str],
    start: np.datetime64,
    end: np.datetime64,
    adjustment: str = "raw",
    latest: int = 0,
) -> dict[str, list[Answer]]:
    """Hourly bars that begin between two instants and are known by now, by symbol.

    Parameters
    ----------
    symbols: those that the panel lacks are left out.
    start, end: both included.
    adjustment: `raw` as they are in the files, anything else adjusted for the splits the files do
        not know of.
    latest: no more than so many of each; 0 for all.
    """
    # A client judges the history itself, as one of a real venue does; what trades and is marked is
    # believed already.
    past = (venue.market.bars if latest else venue.filed).between(0, venue.index + 1)
    if adjustment != "raw":
        past = split_adjusted(past, venue.market.actions)
    return {
        symbol: _rows(venue, past, symbol, start, end, latest)
        for symbol in symbols
        if symbol in past.symbols
    }


def _rows(
    venue: Venue, past: Bars, symbol: str, start: np.datetime64, end: np.datetime64, latest: int
) -> list[Answer]:
    """Bars of one symbol in Alpaca's words."""
    s = past.symbols.index(symbol)
    times, values = past.real_bars(s)
    # The panel marks a bar by the instant it becomes known, an hour after it begins at most.
    near = slice(*np.searchsorted(times, [start, end + HOUR], side="right"))
    times = times[near]
    values = values[near]
    begins = started_at(past.instruments[s].kind, times)
    within = (begins >= start) & (begins <= end)
    # The panel has bars of the time in which a test has halted the symbol; the venue has none.
    for since, until in venue.halts.get(symbol, []):
        within &= (times <= since) | (False if until is None else times > until)
    rows = np.flatnonzero(within)[-latest:]  # with 0 all of them
    stamps = [timestamp(begin) for begin in begins[rows]]
    return [
        {"t": at, "o": o, "h": h, "l": low, "c": c, "v": v, "n": 1, "vw": c}
        for at, (o, h, low, c, v) in zip(stamps, values[rows].tolist(), strict=True)
    ]


def _half_hours(bars: list[Answer]) -> list[Answer]:
    """Hourly bars as half-hours that make them again; the second trades at the close.

    Alpaca's own hours begin on the full hour and a session at 9:30, so a client that needs hours
    from 9:30 on asks for half-hours and joins them.
    """
    grid = stock_grid()
    halves = []
    for bar in bars:
        begins = np.datetime64(bar["t"][:-1], "ns")
        k = int(np.searchsorted(grid.starts, begins))
        # The last bar before a close is half an hour long already.
        if grid.starts[k] == begins and grid.ends[k] <= begins + HALF_HOUR:
            halves.append(bar)
            continue
        early_volume = float(np.floor(bar["v"] / 2))
        close = bar["c"]
        second = {
            "t": timestamp(begins + HALF_HOUR),
            "o": close,
            "h": close,
            "l": close,
            "v": bar["v"] - early_volume,
        }
        halves += [{**bar, "v": early_volume}, {**bar, **second}]
    return halves


FRAMES: Mapping[str, Callable[[list[Answer]], list[Answer]]] = {
    "30Min": _half_hours,
    "1Hour": list,
}
