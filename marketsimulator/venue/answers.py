"""What Alpaca's API says of a `Venue`, in its words: account, positions, clock, calendar,
assets, bars, history.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import numpy as np
import pandas as pd

from marketsimulator.venue.record import ACCOUNT
from marketsimulator.venue.stocks import Venue
from marketsimulator.venue.tickets import Answer, asset_id, stamp, text
from trainingdata.actions import split_adjusted
from trainingdata.bars import Bars
from trainingdata.instruments import Kind, instrument, spelled
from trainingdata.sessions import HOUR, NEW_YORK, in_session, new_york_date, started_at, stock_grid

HALF = np.timedelta64(30, "m")


def account_answer(venue: Venue) -> Answer:
    """`GET /v2/account`."""
    account = venue.broker.account()
    terms = venue.settings.margin
    options = venue.options.aside + venue.options.value
    equity = account.equity + options
    values = {s: float(q) * account.prices[s] for s, q in account.positions.items()}
    coins = sum(v for s, v in values.items() if instrument(s).kind is Kind.CRYPTO)
    stocks = sum(abs(v) for s, v in values.items() if instrument(s).kind is Kind.STOCK)
    longs, shorts = (sum(v for v in values.values() if (v > 0) is sign) for sign in (True, False))
    yesterday = next(
        (e for at, e in reversed(venue.curve) if at < venue.now.astype("datetime64[D]")), equity
    )
    return {
        "id": ACCOUNT,
        "account_number": "SIMULATED",
        "status": "ACTIVE",
        "crypto_status": "ACTIVE",
        "currency": "USD",
        "cash": repr(account.cash + venue.options.aside),
        "equity": repr(equity),
        "last_equity": repr(yesterday),
        "portfolio_value": repr(equity),
        "buying_power": repr(max(account.leverage * (account.equity - coins) - stocks, 0.0)),
        "regt_buying_power": repr(max(2 * (account.equity - coins) - stocks, 0.0)),
        "non_marginable_buying_power": repr(account.unborrowed_cash),
        "options_buying_power": repr(account.unborrowed_cash),
        "options_approved_level": 3 if venue.options.desks else 0,
        "long_market_value": repr(longs),
        "short_market_value": repr(shorts),
        "multiplier": f"{account.leverage:g}",
        "shorting_enabled": equity >= terms.margin_equity,
        "trading_blocked": False,
        "account_blocked": False,
        "transfers_blocked": False,
        "trade_suspended_by_user": False,
        "created_at": stamp(venue.bars.times[venue.first]),
    }


def positions_answer(venue: Venue) -> list[Answer]:
    """`GET /v2/positions`."""
    account = venue.broker.account()
    sold = venue.broker.short_proceeds()
    found = []
    for symbol, quantity in account.positions.items():
        coin = instrument(symbol).kind is Kind.CRYPTO
        price = account.prices[symbol]
        entry = sold[symbol] / float(-quantity) if quantity < 0 else venue.entries[symbol][1]
        value = float(quantity) * price
        side = "buy" if quantity < 0 else "sell"
        closing = (o.qty for o in account.open_orders if o.symbol == symbol and o.side == side)
        position = {
            "asset_id": asset_id(symbol),
            "symbol": symbol,
            "exchange": "CRYPTO" if coin else "NASDAQ",
            "asset_class": "crypto" if coin else "us_equity",
            "asset_marginable": not coin,
            "qty": text(quantity),
            "qty_available": text(
                (abs(quantity) - sum(closing, Decimal(0))) * (1 if quantity > 0 else -1)
            ),
            "side": "long" if quantity > 0 else "short",
            "avg_entry_price": repr(entry),
            "cost_basis": repr(entry * float(quantity)),
            "market_value": repr(value),
            "unrealized_pl": repr(value - entry * float(quantity)),
            "current_price": repr(price),
        }
        found.append(position)
    return found


def clock_answer(now: np.datetime64) -> Answer:
    """`GET /v2/clock`."""
    grid = stock_grid()
    k = int(np.searchsorted(grid.closes, now, side="right"))
    opened = bool(in_session(np.array([now]))[0])
    following = k + 1 if opened else k
    return {
        "timestamp": stamp(now),
        "is_open": opened,
        "next_open": stamp(grid.opens[following]),
        "next_close": stamp(grid.closes[k]),
    }


def calendar_answer(query: Mapping[str, str]) -> list[Answer]:
    """`GET /v2/calendar`."""
    grid = stock_grid()
    first, last = (
        np.datetime64(query[name][:10], "D") if name in query else None for name in ("start", "end")
    )
    rows = [
        k
        for k, day in enumerate(grid.dates)
        if (first is None or day >= first) and (last is None or day <= last)
    ]
    hours = [
        pd.DatetimeIndex(side[rows]).tz_localize("UTC").tz_convert(NEW_YORK)
        for side in (grid.opens, grid.closes)
    ]
    days = zip(rows, *hours, strict=True)
    return [
        {"date": str(grid.dates[k]), "open": f"{opens:%H:%M}", "close": f"{closes:%H:%M}"}
        for k, opens, closes in days
    ]


def asset_answer(venue: Venue, symbol: str) -> Answer:
    """`GET /v2/assets/{symbol}`."""
    coin = instrument(symbol).kind is Kind.CRYPTO
    asset = venue.asset(symbol)
    answer = {
        "id": asset_id(symbol),
        "class": "crypto" if coin else "us_equity",
        "exchange": "CRYPTO" if coin else "NASDAQ",
        "symbol": spelled(symbol),
        "name": symbol,
        "status": "active",
        "tradable": asset.tradable,
        "marginable": not coin,
        "shortable": asset.shortable,
        "easy_to_borrow": asset.easy_to_borrow,
        "fractionable": asset.fractionable,
    }
    steps = {"min_order_size": f"{asset.smallest:f}", "min_trade_increment": f"{asset.increment:f}"}
    return {**answer, **steps, "price_increment": "0.000000001"} if coin else answer


def history_answer(venue: Venue, timeframe: str) -> Answer:
    """`GET /v2/account/portfolio/history`: every instant, or with `1D` the last of every New
    York day.
    """
    curve = venue.curve
    if timeframe == "1D" and curve:
        days = new_york_date(np.array([at for at, _ in curve]))
        last = np.append(days[1:] != days[:-1], True)
        curve = [point for point, keep in zip(curve, last.tolist(), strict=True) if keep]
    equity = [value for _, value in curve]
    base = venue.settings.capital
    return {
        "timestamp": [int(at.astype("datetime64[s]").astype(int)) for at, _ in curve],
        "equity": equity,
        "profit_loss": [value - base for value in equity],
        "profit_loss_pct": [value / base - 1 for value in equity],
        "base_value": base,
        "timeframe": timeframe,
    }


def bars_answer(
    venue: Venue,
    symbols: Sequence[str],
    start: np.datetime64,
    end: np.datetime64,
    adjustment: str = "raw",
    latest: int = 0,
) -> dict[str, list[Answer]]:
    """Bars that begin between two instants and are known by now, by symbol; what the panel lacks is
    left out.

    adjustment: `raw` as they are in the files, anything else adjusted for the splits the files do
    not know of. latest: no more than so many of each; 0 for all.
    """
    known = venue.bars.between(0, venue.index + 1)
    if adjustment != "raw" and venue.settings.data.adjustment == "raw":
        known = split_adjusted(known, venue.settings.data.corporate_actions())
    return {
        symbol: _rows(venue, known, symbol, start, end, latest)
        for symbol in symbols
        if symbol in known.symbols
    }


def _rows(
    venue: Venue, known: Bars, symbol: str, start: np.datetime64, end: np.datetime64, latest: int
) -> list[Answer]:
    s = known.symbols.index(symbol)
    times, values = known.own(s)
    near = slice(
        *np.searchsorted(times, [start, end + HOUR], side="right")
    )  # a bar is known an hour after it begins at most
    times = times[near]
    values = values[near]
    begins = started_at(known.instruments[s].kind, times)
    wanted = (begins >= start) & (begins <= end)
    for since, until in venue.halts.get(symbol, []):
        wanted &= (times <= since) | (False if until is None else times > until)
    rows = np.flatnonzero(wanted)[-latest:]
    stamps = [stamp(begin) for begin in begins[rows]]
    return [
        {"t": at, "o": o, "h": h, "l": low, "c": c, "v": v, "n": 1, "vw": c}
        for at, (o, h, low, c, v) in zip(stamps, values[rows].tolist(), strict=True)
    ]


def _halves(bars: list[Answer]) -> list[Answer]:
    """Hourly bars as half-hours that make them again; the second trades at the close.

    The hour before a close is one half.
    """
    grid = stock_grid()
    found = []
    for bar in bars:
        begins = np.datetime64(bar["t"][:-1], "ns")
        k = int(np.searchsorted(grid.starts, begins))
        if grid.starts[k] == begins and grid.ends[k] <= begins + HALF:
            found.append(bar)
            continue
        early = float(np.floor(bar["v"] / 2))
        close = bar["c"]
        late = {
            "t": stamp(begins + HALF),
            "o": close,
            "h": close,
            "l": close,
            "v": bar["v"] - early,
        }
        found += [{**bar, "v": early}, {**bar, **late}]
    return found


def _days(bars: list[Answer]) -> list[Answer]:
    """Hourly bars as one a New York day."""
    if not bars:
        return []
    frame = pd.DataFrame(bars)
    days = pd.DatetimeIndex(frame["t"]).tz_convert(NEW_YORK).normalize().tz_convert("UTC")
    grouped = frame.groupby(days).agg(
        {"o": "first", "h": "max", "l": "min", "c": "last", "v": "sum", "n": "sum", "vw": "last"}
    )
    rows: list[Answer] = json.loads(grouped.to_json(orient="records", double_precision=15))
    return [
        {"t": f"{at:%Y-%m-%dT%H:%M:%SZ}", **row}
        for at, row in zip(grouped.index, rows, strict=True)
    ]


FRAMES: Mapping[str, Callable[[list[Answer]], list[Answer]]] = {
    "30Min": _halves,
    "1Hour": list,
    "1Day": _days,
}
