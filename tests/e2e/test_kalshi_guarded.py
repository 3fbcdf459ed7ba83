"""Between a decision on event contracts and the venue nothing is bought that was not decided, nor
opened where a halt forbids it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from event_contracts.live.settings import KalshiGuard, KalshiGuardSettings
from event_contracts.trading.action_log import ActionEntry, ActionLog
from event_contracts.trading.actions import LimitOrderActionSpace, PriceStyle
from event_contracts.trading.actor import ActorService
from event_contracts.trading.orders import MarketView
from event_contracts.trading.policies import BinaryKelly, Policy
from event_contracts.trading.records import TICK, MarketSpan, MarketUpdate
from execution.journal.events import EventLog
from execution.journal.halts import Halts
from execution.journal.intents import IntentBook
from foundation.clock import system_clock
from foundation.database import Database
from foundation.errors import OrderRejected
from foundation.notices import Notices
from tests.e2e.kalshi_desk import manager_at, order
from tests.event_contracts.practice import kalshi_practice
from tests.event_contracts.test_actor_on_exchange import Always

RAIN = "RAIN"
SECOND = np.timedelta64(1, "s")
BUY_NO_10 = 12


def quotes(rows: list[tuple[float, float, int]]) -> Any:
    """A session of quotes, each for so many rows, a thousand contracts deep."""
    bids, asks = (np.repeat([row[k] for row in rows], [row[2] for row in rows]) for k in (0, 1))
    size = np.full(len(bids), 1000.0)
    nothing = np.zeros(len(bids))
    return np.stack([bids, asks, size, size, nothing, nothing, (bids + asks) / 2], axis=1)


class Desk:
    """A service over the real manager, and the guards that an order has to pass."""

    def __init__(self, here: Any, style: PriceStyle, policy: Policy) -> None:
        database = Database()
        events = EventLog(database)
        book = IntentBook(database, events)
        self.halts = Halts(database, events)
        guard = KalshiGuard(KalshiGuardSettings(), self.halts, book, Path("no KILL"))
        space = LimitOrderActionSpace(price_style=style)
        self.manager = manager_at(here, space.admission, book, guard=guard)
        log = ActionLog(database, events, book, "kalshi")
        notices = Notices(None, None, None)
        self.service = ActorService(
            "account", self.manager, space, policy, log, notices, clock=system_clock
        )
        self.began = system_clock()
        self.service.follow(RAIN, MarketSpan(self.began, SECOND, 60))

    def view(self) -> MarketView:
        return self.manager.view(RAIN)

    def decide(self, row: int, bid: int, ask: int, estimate: float) -> ActionEntry:
        """One decision on a tick with these prices in cents."""
        tick = np.zeros(1, TICK)[0]
        tick["bid"], tick["ask"], tick["estimate"] = 100 * bid, 100 * ask, estimate
        tick["bid_size"] = tick["ask_size"] = 1000
        update = MarketUpdate(RAIN, self.began + row * SECOND, tick)
        entry = self.service.work(update)
        assert entry is not None
        return entry


def test_purchases_that_only_together_go_beyond_what_is_held_open_nothing_under_a_halt() -> None:
    session = quotes([(0.40, 0.42, 8), (0.44, 0.46, 4), (0.60, 0.62, 30)])
    with kalshi_practice(sessions={RAIN: session}, life=20) as here:
        desk = Desk(here, "passive", Always(BUY_NO_10))
        desk.manager.submit(order("seed", "0.42", 10, market=RAIN))
        here.advance()
        assert desk.view().yes == 10
        desk.halts.raise_halt("daily_loss", "a test", system_clock())
        for row in range(5):
            with suppress(OrderRejected):
                desk.decide(row, 40, 42, 0.41)
        for _ in range(20):
            here.advance()
        view = desk.view()
        assert (view.yes, view.no) == (0, 0)


def test_an_order_stands_at_the_price_that_was_decided_on() -> None:
    with kalshi_practice(sessions={RAIN: quotes([(0.93, 0.95, 40)])}) as here:
        desk = Desk(here, "aggressive", BinaryKelly())
        entry = desk.decide(0, 40, 42, 0.60)
        assert entry.intent == "BUY_YES"
        assert float(entry.price or 0) == 0.42
        here.advance()
        assert desk.view().yes == 0
