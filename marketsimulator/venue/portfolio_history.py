"""Response of `GET /v2/account/portfolio/history`: equity and profit over time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from foundation.errors import InputError
from marketsimulator.venue.entry_prices import trading_day
from marketsimulator.venue.request import ResponseBody, parse_query_choice, refuse_unknown_keys
from trainingdata.instants import DAY, at_new_york_time, new_york_midnight, parse_instant
from trainingdata.sessions import Session, session_on

EquityPoint = tuple[np.datetime64, float]  # an instant, and the account's equity then in USD

_WINDOW_BY_TIMEFRAME = {
    "1Min": np.timedelta64(1, "m"),
    "5Min": np.timedelta64(5, "m"),
    "15Min": np.timedelta64(15, "m"),
    "1H": np.timedelta64(1, "h"),
    "1D": DAY,
}
_DAYS_BY_PERIOD_UNIT = {"D": 1, "W": 7, "M": 30, "A": 365}  # a month is counted as 30 days
_PERIOD_PATTERN = re.compile(r"(\d{1,4})([DWMA])", re.ASCII)
MAX_INTRADAY_PERIOD = 30 * DAY
EXTENDED_HOURS_OPEN = np.timedelta64(4, "h")  # extended hours, on New York's clock
EXTENDED_HOURS_CLOSE = np.timedelta64(20, "h")
INTRADAY_REPORTING_CHOICES = ("market_hours", "extended_hours", "continuous")
PROFIT_RESET_CHOICES = ("per_day", "no_reset")


def portfolio_history_response(
    equities: Sequence[EquityPoint], capital: float, query: Mapping[str, str]
) -> ResponseBody:
    """Return an account's equity and profit in each time window that a query requests.

    A window without an instant of the venue is left out. Profit is measured from the close before
    the window's day, or from the close before the first window if `pnl_reset` is `no_reset`; daily
    windows always use the latter.

    equities: equity at every past instant and at the present one, oldest first.
    capital: starting capital of the account, USD.
    Raises `InputError` for a query that Alpaca refuses or that the simulator does not support.
    """
    served = ("period", "timeframe", "start", "end", "pnl_reset", "intraday_reporting")
    refuse_unknown_keys(query, *served)
    start, end = _query_span(query, equities[-1][0])
    timeframe = parse_query_choice(
        query, "timeframe", tuple(_WINDOW_BY_TIMEFRAME), _default_timeframe(end - start)
    )
    daily = timeframe == "1D"
    if not daily and end - start > MAX_INTRADAY_PERIOD:
        raise InputError(f"timeframe: {timeframe} is limited to 30 days; use 1D for longer periods")
    hours = parse_query_choice(
        query, "intraday_reporting", INTRADAY_REPORTING_CHOICES, "market_hours"
    )
    resets = (
        parse_query_choice(query, "pnl_reset", PROFIT_RESET_CHOICES, "per_day") == "per_day"
        and not daily
    )
    windows = (
        _daily_equities(equities)
        if daily
        else _intraday_equities(equities, _WINDOW_BY_TIMEFRAME[timeframe], hours)
    )
    listed = [(at, equity) for at, equity in windows if start <= at <= end]
    closes = dict(_daily_equities(equities))
    base, base_day = _base_equity_and_date(closes, capital, listed[0][0] if listed else end)
    bases = [_base_equity_and_date(closes, capital, at)[0] if resets else base for at, _ in listed]
    profits = [equity - each for (_, equity), each in zip(listed, bases, strict=True)]
    answer: ResponseBody = {
        "timestamp": [int(at.astype("datetime64[s]").astype(np.int64)) for at, _ in listed],
        "equity": [equity for _, equity in listed],
        "profit_loss": profits,
        "profit_loss_pct": [
            profit / each if each else 0.0 for profit, each in zip(profits, bases, strict=True)
        ],
        "base_value": base,
        "timeframe": timeframe,
    }
    return answer if base_day is None else {**answer, "base_value_asof": str(base_day)}


def _daily_equities(equities: Iterable[EquityPoint]) -> list[EquityPoint]:
    """Return the last equity of each trading day, with the midnight at its start as its instant."""
    by_day: dict[np.datetime64, float] = {}
    for at, equity in equities:
        day = trading_day(at)
        if session_on(day) is not None:
            by_day[day] = equity
    labels = new_york_midnight(np.array(list(by_day), dtype="datetime64[D]"))
    return list(zip(labels, by_day.values(), strict=True))


def _intraday_equities(
    equities: Iterable[EquityPoint], length: np.timedelta64, hours: str
) -> list[EquityPoint]:
    """Return the last equity of each time window, with the window's start as its instant.

    length: length of a window.
    hours: which windows are reported: `market_hours`, `extended_hours` or `continuous` (all).
    """
    by_start: dict[np.datetime64, float] = {}
    for at, equity in equities:
        before = at - np.timedelta64(1, "ns")
        start = before - (before - np.datetime64(0, "ns")) % length
        if hours == "continuous" or _within_hours(start, extended=hours == "extended_hours"):
            by_start[start] = equity
    return list(by_start.items())


def _within_hours(start: np.datetime64, *, extended: bool) -> bool:
    """Return whether a time window starts within a session, or within its extended hours.

    extended: true to allow the session's extended hours.
    """
    session = session_on(trading_day(start + np.timedelta64(1, "ns")))
    if session is None:
        return False
    opens, closes = extended_hours(session) if extended else (session.opens, session.closes)
    return bool(opens <= start < closes)


def extended_hours(session: Session) -> tuple[np.datetime64, np.datetime64]:
    """Return start and end of a session's extended hours.

    They last from 4:00 to 20:00 New York time, after an early close to 17:00.
    """
    last = EXTENDED_HOURS_CLOSE if session.is_full else np.timedelta64(17, "h")
    dates = np.array([session.date])
    first, end = (at_new_york_time(dates, hour)[0] for hour in (EXTENDED_HOURS_OPEN, last))
    return np.datetime64(first), np.datetime64(end)


def _base_equity_and_date(
    closes: Mapping[np.datetime64, float], capital: float, at: np.datetime64
) -> tuple[float, np.datetime64 | None]:
    """Return the last closing equity before the trading day of an instant, and its date.

    Without an earlier close the result is the capital and None.
    """
    day = new_york_midnight(np.array([trading_day(at + np.timedelta64(1, "ns"))]))[0]
    before = [label for label in closes if label < day]
    if not before:
        return capital, None
    return closes[before[-1]], trading_day(before[-1] + np.timedelta64(1, "ns"))


def _query_span(
    query: Mapping[str, str], now: np.datetime64
) -> tuple[np.datetime64, np.datetime64]:
    """Return the first and the last instant that a query requests."""
    given = [name for name in ("start", "end", "period") if name in query]
    if len(given) == 3:
        raise InputError("period: start, end and period cannot all be given; remove one of them")
    end = parse_instant(query["end"], name="end") if "end" in query else now
    if "start" in query:
        start = parse_instant(query["start"], name="start")
        if "period" in query:
            end = start + _parse_period(query["period"])
        return start, end
    return end - _parse_period(query.get("period", "1M")), end


def _parse_period(text: str) -> np.timedelta64:
    parts = _PERIOD_PATTERN.fullmatch(text)
    if parts is None:
        raise InputError(
            f"period: {text[:40]!r} is not a valid period; use a form such as 1D, 2W, 1M or 1A"
        )
    return int(parts[1]) * _DAYS_BY_PERIOD_UNIT[parts[2]] * DAY


def _default_timeframe(length: np.timedelta64) -> str:
    if length < 7 * DAY:
        return "1Min"
    return "15Min" if length < 30 * DAY else "1D"
