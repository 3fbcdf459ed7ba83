"""The event-contract service over the real manager and its guard."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from event_contracts.settings import KalshiGuardSettings
from event_contracts.trade import KalshiGate
from event_contracts.trading.action_log import ActionEntry
from event_contracts.trading.actions import LimitOrderActionSpace, PreTradeCheck, PriceStyle
from event_contracts.trading.actor import ActorService
from event_contracts.trading.policies import HoldPolicy, Policy
from event_contracts.trading.records import TICK_DTYPE, MarketUpdate, SamplingSchedule
from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from foundation.notifier import Notifier
from tests.e2e.kalshi_desk import RAIN, UNLIMITED, KalshiStand, order
from tests.event_contracts.trading import journal
from tests.support.alerts import Alerts

STEP = np.timedelta64(1, "m")


def placed(stand: KalshiStand, *names: str, price: str = "0.40", market: str = RAIN) -> None:
    """Purchases of ten YES that wait below the bid, oldest first."""
    manager = stand.manager()
    for name in names:
        manager.submit(order(name, price, 10, market=market))


def resting(stand: KalshiStand) -> list[str]:
    tickets = stand.practice.exchange.orders.values()
    return [t.client_order_id for t in tickets if t.state == "resting"]


@dataclass
class Trading:
    """A service over the real manager and its guard, and what it was told."""

    stand: KalshiStand
    admission: PreTradeCheck = UNLIMITED
    policy: Policy = field(default_factory=HoldPolicy)
    style: PriceStyle = "aggressive"
    life: int = 1
    halted: bool = False
    kill_file: Path = Path("no KILL")
    alerts: Alerts = field(default_factory=Alerts)

    def __post_init__(self) -> None:
        self.log, book = journal(self.stand.database)
        self.halts = HaltJournal(self.stand.database, EventLog(self.stand.database))
        gate = KalshiGate(KalshiGuardSettings(), self.halts, book, self.kill_file)
        self.manager = self.stand.manager(self.admission, gate=gate)
        notices = Notifier(None, None)
        notices.add_recorder(self.alerts)
        self.service = ActorService(
            "account",
            self.manager,
            LimitOrderActionSpace(life=self.life, price_style=self.style),
            self.policy,
            self.log,
            notices,
            clock=self.stand.clock,
            decision_valid_seconds=30.0,
            is_opening_halted=lambda: self.halted,
        )
        self.began = self.stand.clock()
        for market in (RAIN, "SNOW"):
            self.service.follow_market(market, SamplingSchedule(self.began, STEP, 60))

    def tick(
        self, row: int, market: str = RAIN, bid: int = 50, ask: int = 52, estimate: float = 0.51
    ) -> ActionEntry | None:
        """What is decided on a tick with these prices in cents."""
        tick = np.zeros(1, TICK_DTYPE)[0]
        tick["bid"], tick["ask"], tick["estimate"] = 100 * bid, 100 * ask, estimate
        tick["bid_size"] = tick["ask_size"] = 1000
        return self.service.process_update(MarketUpdate(market, self.began + row * STEP, tick))
