"""Times at which the venue accepts auction orders, and deadlines for sending orders.

Alpaca (docs, "Time in Force") refuses `opg` from 9:28 and `cls` from 15:50 New York on, ten minutes
before the close on half-days; from 19:00 on it accepts both for the next session's auction.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from execution.orders.orders import Order, TimeInForce
from trainingdata.instants import HOUR, at_new_york_time, format_utc, new_york_date
from trainingdata.instruments import AssetClass
from trainingdata.sessions import exchange_calendar, outside_calendar_error, session_on

MINUTE = np.timedelta64(1, "m")
# New York time from which the venue accepts orders for auctions of the next session.
NEXT_AUCTION_ACCEPTANCE_TIME = 19 * HOUR
# New York time from which it accepts none for the day's auctions; earlier on half-days.
_AUCTION_CUTOFF_TIMES = {"opg": 9 * HOUR + 28 * MINUTE, "cls": 15 * HOUR + 50 * MINUTE}
_AUCTION_NAMES = {"opg": "opening", "cls": "closing"}
AUCTION_CUTOFF_BEFORE_CLOSE = 10 * MINUTE  # on half-days as well
AUCTION_SEND_LEAD_TIMES = {
    "opg": 5 * MINUTE,
    "cls": 11 * MINUTE,
}  # before the auction, our own limit


def auction_refusal_reason(order: Order, at: np.datetime64) -> str:
    """Return why the venue refuses an auction order at an instant, or an empty string.

    For an order that is not an auction order the result is empty.
    """
    accepted = first_accepted_time(order, at)
    if accepted == at:
        return ""
    return (
        f"the {_AUCTION_NAMES[order.tif]} auction accepts no orders now; next at"
        f" {format_utc(accepted)}"
    )


def first_accepted_time(order: Order, at: np.datetime64) -> np.datetime64:
    """Return the earliest instant, at or after `at`, at which the venue accepts an order.

    For an order that is not an auction order this is `at`.
    """
    return next_acceptance(order.tif, at) if order.is_for_auction else at


def next_acceptance(tif: TimeInForce, at: np.datetime64) -> np.datetime64:
    """Return the earliest instant, at or after `at`, at which the venue accepts auction orders.

    tif: `opg` for the opening auction, `cls` for the closing auction.
    """
    today = new_york_date(np.array([at]))
    shut = at_new_york_time(today, _AUCTION_CUTOFF_TIMES[tif])[0]
    session = session_on(today[0])
    if tif == "cls" and session is not None:
        shut = min(shut, session.closes - AUCTION_CUTOFF_BEFORE_CLOSE)
    evening = np.datetime64(at_new_york_time(today, NEXT_AUCTION_ACCEPTANCE_TIME)[0])
    return evening if shut <= at < evening else at


def auction_send_deadline(tif: TimeInForce, decided_at: np.datetime64) -> np.datetime64:
    """Return the latest time to send an order for the first auction after a decision.

    tif: `opg` for the opening auction, `cls` for the closing auction.
    """
    days = exchange_calendar()
    auctions = days.opens if tif == "opg" else days.closes
    k = int(np.searchsorted(auctions, decided_at, side="right"))
    if k == len(auctions):
        raise outside_calendar_error(decided_at)
    return np.datetime64(auctions[k] - AUCTION_SEND_LEAD_TIMES[tif])


def order_send_deadline(
    order: Order, bar_at: np.datetime64, decided_at: np.datetime64, lifetime: np.timedelta64
) -> np.datetime64:
    """Return the latest time to send an order of a decision.

    An order is sized with the prices and the account of its decision, and must not be sent much
    later. An order for a stock is meant for the current session. After the close it would wait for
    the next one, so it is not sent.

    bar_at: instant at which the bars of the decision closed.
    decided_at: instant of the decision.
    lifetime: time after the decision during which its orders may be sent; auction orders may be
        sent until their auction instead.
    """
    if order.is_for_auction:
        return auction_send_deadline(order.tif, bar_at)
    end = decided_at + lifetime
    if order.instrument.kind is AssetClass.STOCK:
        session = session_on(new_york_date(np.array([decided_at]))[0])
        if session is not None and decided_at < session.closes:
            end = min(end, session.closes)
    return end


def next_send_time(
    orders: Iterable[Order], now: np.datetime64, retry: np.timedelta64
) -> np.datetime64 | None:
    """Return the next time at which a planned order is sent or expires; None if all have expired.

    Auction orders are sent a minute after the venue begins to accept them, because clocks differ.

    retry: time after which an order that could not be sent is tried again.
    """
    instants = []
    for order in orders:
        if order.expires_at is not None and now < order.expires_at:
            at = first_accepted_time(order, now)
            at = at + MINUTE if at > now else first_accepted_time(order, now + retry)
            instants.append(min(order.expires_at, at))
    return min(instants, default=None)
