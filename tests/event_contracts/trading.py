"""A service over simulated markets, and the journal that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from event_contracts.simulation.exchange import Exchange
from event_contracts.trading.action_log import ActionEntry, ActionLog
from event_contracts.trading.actor import ActorService, ActorSettings, TradingManager
from event_contracts.trading.policies import Policy
from event_contracts.trading.records import MarketUpdate, SamplingSchedule
from execution.journal.events import EventLog
from execution.journal.order_store import OrderStore
from foundation.database import Database
from foundation.notices import Notices


def journal(path: Path | None = None) -> tuple[ActionLog, OrderStore]:
    database = Database(path)
    events = EventLog(database)
    book = OrderStore(database, events)
    return ActionLog(database, events, book), book


def service_of(
    manager: TradingManager,
    exchange: Exchange,
    policy: Policy,
    log: ActionLog,
    notices: Notices | None = None,
    sizes: bool = True,
    **more: Any,
) -> ActorService:
    service = ActorService(
        "account",
        manager,
        exchange.space,
        policy,
        log,
        notices or Notices(None, None),
        ActorSettings(**more),
        clock=lambda: exchange.now,
        sizes=sizes,
    )
    for listing in exchange.listings.values():
        begins = exchange.begins + listing.first * exchange.interval
        service.follow(
            listing.ticker, SamplingSchedule(begins, exchange.interval, len(listing.tape))
        )
    return service


def update_of(exchange: Exchange, market: str = "RAIN") -> MarketUpdate:
    return MarketUpdate(market, exchange.now, exchange.shown(market))


def step(service: ActorService, exchange: Exchange, market: str = "RAIN") -> ActionEntry | None:
    """Have the tick that is shown worked on."""
    return service.work(update_of(exchange, market))
