"""What Alpaca's API says of an account: balances, positions, activities, assets, hours."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from foundation.errors import InputError
from marketsimulator.venue.asked import Response, refuse_other_keys, whole_number
from marketsimulator.venue.portfolio_history import extended_hours
from marketsimulator.venue.stocks import Venue
from marketsimulator.venue.tickets import made_id, quantity_text, timestamp
from trainingdata.instants import date_of, instant, new_york_minutes, time_text
from trainingdata.instruments import is_coin, venue_spelling
from trainingdata.sessions import calendar, in_session, session_of


def account_response(venue: Venue) -> Response:
    """`GET /v2/account`."""
    account = venue.broker.account()
    values = {s: float(q) * account.prices[s] for s, q in account.positions.items()}
    coins = sum(v for s, v in values.items() if is_coin(s))
    stocks = sum(abs(v) for s, v in values.items() if not is_coin(s))
    # At Alpaca equity is cash plus the worth of all positions, options among them.
    options = [float(position["market_value"]) for position in venue.options.positions()]
    worth = [*values.values(), *options]
    equity = venue.equity
    # Coins are no security for a loan: only what is not in coins is multiplied. Coins and options
    # are bought with cash that is not borrowed.
    marginable = account.equity - coins
    return {
        "id": venue.record.account_id,
        "account_number": "SIMULATED",
        "status": "ACTIVE",
        "crypto_status": "ACTIVE",
        "currency": "USD",
        "cash": repr(account.cash + venue.options.reserved),
        "equity": repr(equity),
        "portfolio_value": repr(equity),
        "buying_power": repr(max(account.leverage * marginable - stocks, 0.0)),
        "non_marginable_buying_power": repr(account.unborrowed_cash),
        "options_buying_power": repr(max(account.unborrowed_cash, 0.0)),
        "options_approved_level": options_level(venue),
        "long_market_value": repr(sum(v for v in worth if v > 0)),
        "short_market_value": repr(sum(v for v in worth if not v > 0)),
        "multiplier": f"{account.leverage:g}",
        "shorting_enabled": equity >= venue.settings.margin.margin_equity,
        "trading_blocked": False,
        "account_blocked": False,
        "trade_suspended_by_user": False,
    }


def positions_response(venue: Venue) -> list[Response]:
    """`GET /v2/positions`."""
    account = venue.broker.account()
    short_proceeds = venue.broker.short_proceeds()
    positions = []
    for symbol, quantity in account.positions.items():
        coin = is_coin(symbol)
        price = account.prices[symbol]
        # Settlement records the proceeds of a short.
        entry = short_proceeds[symbol] / float(-quantity) if quantity < 0 else None
        # What an open order would close is not there for a second one.
        closing_side = "buy" if quantity < 0 else "sell"
        closing = sum(
            (o.qty for o in account.open_orders if o.symbol == symbol and o.side == closing_side),
            Decimal(0),
        )
        available = (abs(quantity) - closing) * (1 if quantity > 0 else -1)
        positions.append(
            {
                "asset_id": made_id(symbol),
                # Alpaca writes a coin's position without the slash that its orders have.
                "symbol": symbol,
                "exchange": exchange_of(symbol),
                "asset_class": "crypto" if coin else "us_equity",
                "asset_marginable": not coin,
                "qty": quantity_text(quantity),
                "qty_available": quantity_text(available),
                "side": "long" if quantity > 0 else "short",
                "current_price": repr(price),
                **venue.entries.results(symbol, float(quantity), price, entry),
            }
        )
    return [*positions, *venue.options.positions()]


def activities_answer(venue: Venue, query: Mapping[str, str]) -> list[Response]:
    """`GET /v2/account/activities`: a page of them, newest first unless `direction` is `asc`."""
    refuse_other_keys(query, "after", "direction", "page_size", "page_token")
    activities = venue.record.listed()
    if "after" in query:
        since = timestamp(instant(query["after"], name="after"))
        # Trades have an instant, everything else a day: as texts the two compare in time order.
        activities = [
            each
            for each in activities
            if str(each.get("transaction_time", each.get("date"))) > since
        ]
    if query.get("direction") != "asc":
        activities = activities[::-1]
    token = query.get("page_token")
    begin = next((k + 1 for k, each in enumerate(activities) if each["id"] == token), 0)
    return activities[begin : begin + whole_number(query, "page_size", 100, 1, 100)]


def clock_answer(now: np.datetime64) -> Response:
    """`GET /v2/clock`."""
    days = calendar()
    current = int(np.searchsorted(days.closes, now, side="right"))
    opened = bool(in_session(np.array([now]))[0])
    following = current + 1 if opened else current
    return {
        "timestamp": timestamp(now),
        "is_open": opened,
        "next_open": timestamp(days.opens[following]),
        "next_close": timestamp(days.closes[current]),
    }


def exchange_of(symbol: str) -> str:
    """Return a symbol's exchange, from the list in Alpaca's document of 2026-06-29.

    The list has no exchange for crypto, which is OTC here.
    """
    return "OTC" if is_coin(symbol) else "NASDAQ"


def calendar_answer(query: Mapping[str, str]) -> list[Response]:
    """`GET /v2/calendar`: sessions, with extended hours and settlement."""
    refuse_other_keys(query, "start", "end", "date_type")
    kind = query.get("date_type", "TRADING")
    if kind not in ("TRADING", "SETTLEMENT"):
        raise InputError(f"date_type: {kind[:40]!r} is not one of TRADING, SETTLEMENT")
    # This account settles trades with the next session (T+1) on every date, so the first session
    # settles none, and the last one has no settlement.
    dates, settled = calendar().dates[1:-1], calendar().dates[2:]
    by = dates if kind == "TRADING" else settled
    first, last = (_query_date(query, name, by[k]) for name, k in (("start", 0), ("end", -1)))
    rows = np.flatnonzero((by >= first) & (by <= last))
    return [_session_answer(dates[k], settled[k]) for k in rows.tolist()]


def _query_date(query: Mapping[str, str], name: str, default: np.datetime64) -> np.datetime64:
    """Return a query's New York date, which may be written as an instant."""
    if name not in query:
        return default
    text = query[name]
    return date_of(text[:10]) if "T" in text else date_of(text)


def _session_answer(date: np.datetime64, settled: np.datetime64) -> Response:
    session = session_of(date)
    assert session is not None
    ends = np.array([session.opens, session.closes, *extended_hours(session)])
    opens, closes, first, last = map(time_text, new_york_minutes(ends).tolist())
    return {
        "date": str(date),
        "open": opens,
        "close": closes,
        "session_open": first.replace(":", ""),
        "session_close": last.replace(":", ""),
        "settlement_date": str(settled),
    }


def configurations_answer(venue: Venue) -> Response:
    """`GET /v2/account/configurations`: the account's permissions.

    Fields of pattern day trading, which ended on 2026-07-06, are left out.
    """
    margin = venue.settings.margin
    return {
        "fractional_trading": True,
        "max_margin_multiplier": f"{margin.leverage:g}",
        "no_shorting": False,
        "suspend_trade": False,
        "trade_confirm_email": "none",
        "ptp_no_exception_entry": False,
        "max_options_trading_level": options_level(venue),
    }


def options_level(venue: Venue) -> int:
    """Return the level of options trading: 3 (spreads) if options trade, else 0."""
    return 3 if venue.options.desks else 0


def asset_answer(venue: Venue, symbol: str) -> Response:
    """`GET /v2/assets/{symbol}`, for a symbol of the panel."""
    coin = is_coin(symbol)
    asset = venue.asset(symbol)
    answer = {
        "id": made_id(symbol),
        "class": "crypto" if coin else "us_equity",
        "exchange": exchange_of(symbol),
        "symbol": venue_spelling(symbol),
        "name": symbol,
        "status": "active",
        "tradable": asset.tradable,
        "marginable": not coin,
        "shortable": asset.shortable,
        "easy_to_borrow": asset.easy_to_borrow,
        "fractionable": asset.fractionable,
    }
    if coin:
        # Alpaca states increments for coins alone.
        answer["min_order_size"] = f"{asset.smallest:f}"
        answer["min_trade_increment"] = f"{asset.increment:f}"
        answer["price_increment"] = "0.000000001"
    return answer
