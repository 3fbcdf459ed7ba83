"""What guards judge orders by: the account as it is, and what was last traded."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from execution.live.account import LiveAccount
from execution.orders import Account
from execution.sight import Sight
from foundation.errors import BrokerError
from trainingdata.feed.bar_feed import BarFeed

log = logging.getLogger("live")


def sight_of(
    live: LiveAccount,
    feed: BarFeed,
    account: Account,
    symbols: Iterable[str],
    *,
    needed: bool = True,
) -> Sight:
    """What orders of some symbols are judged by: the account as it is, and their last trades.

    needed: whether they may not be judged without last trades; what only reduces may.

    Raises
    ------
    BrokerError
        for last trades that are needed and do not come.
    """
    names = sorted(set(symbols))
    try:
        trades = feed.last_trades(names) if names else {}
    except BrokerError as error:
        if needed:
            raise
        log.warning("judged without last trades: %s", error)
        trades = {}
    return Sight(account, trades, live.at_risk())
