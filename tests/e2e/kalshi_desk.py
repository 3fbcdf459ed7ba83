"""A manager in front of a practice venue, and what became of its orders there."""

# Private access: the practice venue books no cash movement that it does not list.
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np

from event_contracts.settings import KalshiTradingSettings
from event_contracts.simulation.exchange import Exchange
from event_contracts.trade import trade_markets
from event_contracts.trading.action_log import ActionEntry
from event_contracts.trading.actions import PositionLimits, PreTradeCheck
from event_contracts.trading.endpoint import KalshiSettings
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.manager import (
    EPOCH,
    AccountBooks,
    FeeRulesLookup,
    KalshiMultiMarketOrderManager,
)
from event_contracts.trading.orders import ContractAction, EventContractOrder
from event_contracts.trading.policies import ActionCodes, Observations
from event_contracts.trading.records import MICROS_PER_DOLLAR
from event_contracts.trading.venue_orders import to_contract_order
from execution.journal.order_store import OrderIntent, OrderStore
from execution.live.account_lock import JOURNAL_FILE
from execution.live.loop import StopSignal
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from foundation.arrays import Array, Mask
from foundation.clock import TimeSource, utc_now
from foundation.database import Database
from foundation.errors import OutcomeUnknown
from tests.event_contracts.practice import KEYS, KalshiPractice, kalshi_practice
from tests.support.messages import refused
from tests.support.passing import HURRIED

D = Decimal
POST = "/trade-api/v2/portfolio/events/orders"
UNLIMITED = PreTradeCheck(PositionLimits(D(10**6), D(10**6), D(1)), D(0))


@dataclass
class Clock:
    """This machine's clock, and what a test adds to it."""

    ahead: np.timedelta64 = field(default_factory=lambda: np.timedelta64(0, "ns"))

    def __call__(self) -> np.datetime64:
        return utc_now() + self.ahead


@dataclass
class KalshiStand:
    """A venue, an account at it, and the journal that outlives its managers."""

    practice: KalshiPractice
    database: Database
    clock: Clock = field(default_factory=Clock)
    waited: list[float] = field(default_factory=list)

    @property
    def book(self) -> OrderStore:
        return OrderStore(self.database)

    def settings(self, **more: Any) -> KalshiSettings:
        return KalshiSettings(url_override=self.practice.url, **more)

    def manager(
        self,
        admission: PreTradeCheck = UNLIMITED,
        fee_rules_of: FeeRulesLookup = lambda *_: FeeRules(),
        gate: OrderGate = ALLOW_ALL_ORDERS,
        job: str = "",
        **settings: Any,
    ) -> KalshiMultiMarketOrderManager:
        """A manager as one process has it: it knows what the journal says and nothing else."""
        manager = KalshiMultiMarketOrderManager(
            self.settings(**settings),
            KEYS,
            admission,
            fee_rules_of,
            order_store=self.book,
            gate=gate,
            job=job,
            time=TimeSource(now=self.clock, wait=self.waited.append),
        )
        manager.set_baseline(AccountBooks(EPOCH, D(1000)))
        return manager

    def lose(
        self, manager: KalshiMultiMarketOrderManager, wanted: EventContractOrder, kind: str = "late"
    ) -> None:
        """Send an order of which nobody hears: one that lands `late`, or is gone."""
        self.practice.fault(kind, method="POST", path=POST, seconds=3600)
        with refused(OutcomeUnknown, wanted.client_order_id):
            manager.submit(wanted)

    def orders(self) -> Counter[str]:
        """How many orders the venue has of each id of ours."""
        return Counter(t.client_order_id for t in self.practice.exchange.orders.values())

    def posts(self) -> Counter[str]:
        """How often an order of each id was posted, done or not."""
        return Counter(body["client_order_id"] for body in self.practice.posts())

    def state(self, name: str) -> str:
        intent = self.book.get(name)
        return "" if intent is None else intent.state


@contextmanager
def kalshi_stand(**settings: Any) -> Iterator[KalshiStand]:
    """A venue; settings: of the practice venue."""
    with kalshi_practice(**settings) as practice, closing(Database()) as database:
        yield KalshiStand(practice, database)


def pay_in(exchange: Exchange, usd: Decimal | int) -> None:
    """A deposit, or a withdrawal below 0, which no list of the venue says."""
    exchange._cash += int(usd * MICROS_PER_DOLLAR)


def trading_settings(practice: KalshiPractice, **more: Any) -> KalshiTradingSettings:
    """Those of the command, at a practice venue, with a tick of a tenth of a second."""
    given: dict[str, Any] = {
        "markets": (RAIN,),
        "interval": 0.1,
        "folder": "journals",
        "broker": KalshiSettings(url_override=practice.url, attempts=1),
        **more,
    }
    return KalshiTradingSettings(**given)


RAIN = "RAIN"
SECOND = np.timedelta64(1, "s")


def quotes(rows: list[tuple[float, float, int]], depth: float = 1000.0) -> Array:
    """A session of quotes, each for so many rows; depth: contracts at each."""
    bids, asks = (np.repeat([row[k] for row in rows], [row[2] for row in rows]) for k in (0, 1))
    size = np.full(len(bids), depth)
    nothing = np.zeros(len(bids))
    return np.stack([bids, asks, size, size, nothing, nothing, (bids + asks) / 2], axis=1)


def flat(rows: int = 6, bid: float = 0.48, ask: float = 0.50, depth: float = 30.0) -> Array:
    """A quote that stands still, nobody trades, and YES comes true."""
    return quotes([(bid, ask, rows - 1), (0.99, 1.0, 1)], depth)


class Always:
    """The first of some codes that is allowed, else HOLD."""

    name = "always"

    def __init__(self, *codes: int) -> None:
        self._codes = codes

    def choose_actions(self, observations: Observations, allowed: Mask) -> ActionCodes:
        return np.array([next((c for c in self._codes if row[c]), 0) for row in allowed])


def order(
    name: str,
    price: str,
    count: int = 10,
    action: ContractAction = "BUY",
    side: Literal["YES", "NO"] = "YES",
    market: str = "SIM-1",
) -> EventContractOrder:
    return EventContractOrder(name, market, action, side, D(price), D(count))


def turned_sales(exchange: Exchange, book: Mapping[str, OrderIntent]) -> list[str]:
    """Return the sales of a book with a fill that left a position on the other side.

    Markets in which an order is of no book are left out: no client can prevent it there.
    """
    names = {number: each.client_order_id for number, each in exchange.orders.items()}
    foreign = {e.order.market for e in exchange.orders.values() if e.client_order_id not in book}
    held: Counter[str] = Counter()
    turned = []
    for fill in exchange.fills:
        before = held[fill.market]
        buys_yes = (fill.action == "BUY") == (fill.side == "YES")
        held[fill.market] += int(fill.count if buys_yes else -fill.count)
        if fill.market in foreign or before * held[fill.market] >= 0:
            continue
        name = names[fill.order_id]
        turned += [name] if to_contract_order(book[name]).action == "SELL" else []
    return turned


BOTH: dict[str, Any] = {"markets": ("RAIN", "SNOW"), "policy": "random", "steps": 3}


def traded(
    practice: KalshiPractice, most: int = 100, time: TimeSource = HURRIED, **more: Any
) -> list[ActionEntry]:
    """Trade, with the venue's clock moved after every decision, until so many were made."""
    shown: list[ActionEntry] = []
    stop = StopSignal()

    def show(entry: ActionEntry) -> None:
        shown.append(entry)
        practice.advance()
        if len(shown) == most:
            stop.request_stop("that is enough")

    trade_markets(trading_settings(practice, **{**BOTH, **more}), KEYS, stop, show, time)
    return shown


def journals() -> list[Path]:
    return sorted(Path("journals").glob(f"*/{JOURNAL_FILE}"))
