"""Until when a broker takes orders for options on the day on which they expire.

Alpaca, "How To Trade 0DTE Options on Alpaca", read on 2026-11-23: on the day of expiry orders are
taken until 15:15 New York time, for broad ETFs ("SPY, QQQ, etc") until 15:30, and later ones are
rejected; from 15:30 and 15:45 on it begins to liquidate what expires. Openings and closings alike.

The page says nothing of half-days, on which the same distance from the close is kept here, and
names no other ETF, so that only those two count as broad. Of index options it says nothing either:
they settle in cash, and are taken to be traded until the close.
"""

from __future__ import annotations

import numpy as np

from foundation.errors import InputError
from option_spreads.selling.rules import SESSION, SpreadRules
from trainingdata.sessions import Session

# Minutes before the close.
STOCKS = 45.0
BROAD_ETFS = 30.0

_BROAD_ETFS = frozenset({"SPY", "QQQ"})
_IN_CASH = frozenset(
    {
        *("SPX", "SPXW", "XSP", "OEX", "XEO", "DJX", "VIX", "VIXW"),
        *("NDX", "NDXP", "XND", "RUT", "RUTW", "MRUT"),
    }
)


def cutoff_of(root: str) -> float:
    """Minutes before the close from which on the broker takes no order for options that expire.

    root: of the options' symbols, as SPY or SPXW.
    """
    if root in _IN_CASH:
        return 0.0
    return BROAD_ETFS if root in _BROAD_ETFS else STOCKS


def taken_until(session: Session, cutoff: float) -> np.datetime64:
    """Instant from which on no order is taken for options that expire with a session.

    cutoff: minutes before its close.
    """
    return session.closes - np.timedelta64(round(cutoff * 60_000), "ms")


def refuse_late_entries(rules: SpreadRules, last_orders: float = SESSION) -> None:
    """Refuse times of sale at which nothing is sold any more.

    last_orders: minute after 09:30 from which on the broker takes no orders.

    Raises
    ------
    InputError
        naming the times and what ends before them.
    """
    latest = min(rules.latest, last_orders)
    late = [minute for minute in rules.entries if minute >= latest]
    if late:
        what = "rules.leave_at" if rules.latest <= last_orders else "the broker's last orders"
        raise InputError(
            f"rules.entries: nothing would be sold at {late}, which is not before minute"
            f" {latest:g} ({what})"
        )
