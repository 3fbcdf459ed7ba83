"""An account before the close: what a person buys, and what is held overnight."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from tests.e2e.practice import Practice, buy, trading
from tests.support.desks import Desk

LAST_CYCLE = "2024-02-20T20:30:00Z"
CLOSE = np.datetime64("2024-02-20T21:00", "ns")


def show(desk: Desk, minutes: float) -> np.datetime64:
    """Let the venue's clock show so many minutes before the close."""
    now = CLOSE - np.timedelta64(round(minutes * 60), "s")
    connection: Any = desk.live.connection
    connection.now = lambda: now
    return now


def buy_up_to(here: Practice, times: float, *symbols: str) -> None:
    """A person buys so much that each symbol is worth a multiple of the equity before."""
    account = here.venue.broker.account()
    for symbol in symbols:
        number = int(times * account.equity / account.prices[symbol])
        wanted = number - int(account.positions.get(symbol, Decimal(0)))
        trading(here).submit_order(buy(symbol, wanted))


def buy_too_much(here: Practice, times: float = 2.8) -> None:
    """A person buys more than may be held overnight."""
    buy_up_to(here, times, "SYA")


def gross(here: Practice) -> float:
    """Of stocks, in equity."""
    account = here.venue.broker.account()
    worth = sum(abs(float(q)) * account.prices[s] for s, q in account.positions.items())
    return worth / account.equity
