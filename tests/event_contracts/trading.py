"""A service over simulated markets, and the journal that it writes; accounts before a market."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from event_contracts.simulation.exchange import Exchange
from event_contracts.trading.action_log import ActionEntry, ActionLog
from event_contracts.trading.actor import ActorService
from event_contracts.trading.orders import (
    ContractAction,
    ContractQuote,
    EventContractOrder,
    MarketView,
    OrderManager,
    Outcome,
    RestingOrder,
)
from event_contracts.trading.policies import Policy
from event_contracts.trading.records import MarketUpdate, SamplingSchedule
from execution.journal.events import EventLog
from execution.journal.order_store import OrderStore
from foundation.database import Database
from foundation.notifier import Notifier
from tests.support.connections import open_for_test

D = Decimal
MARKET = "RAIN"
SIDES: tuple[Outcome, ...] = ("YES", "NO")
QUOTE = ContractQuote(D("0.40"), D("0.43"))


def journal(database: Database | None = None) -> tuple[ActionLog, OrderStore]:
    database = database or open_for_test()
    book = OrderStore(database)
    return ActionLog(database, EventLog(database), book), book


def service_of(
    manager: OrderManager,
    exchange: Exchange,
    policy: Policy,
    log: ActionLog,
    notices: Notifier | None = None,
) -> ActorService:
    service = ActorService(
        "account",
        manager,
        exchange.space,
        policy,
        log,
        notices or Notifier(None, None),
        clock=lambda: exchange.now,
    )
    for listing in exchange.listings.values():
        begins = exchange.start + listing.first_tick * exchange.interval
        service.follow_market(
            listing.ticker, SamplingSchedule(begins, exchange.interval, len(listing.tick_records))
        )
    return service


def update_of(exchange: Exchange, market: str = "RAIN") -> MarketUpdate:
    return MarketUpdate(market, exchange.now, exchange.current_tick(market))


def step(service: ActorService, exchange: Exchange, market: str = "RAIN") -> ActionEntry | None:
    """Have the tick that is shown worked on."""
    return service.process_update(update_of(exchange, market))


def view(
    cash: str = "1000", yes: int = 0, no: int = 0, quote: ContractQuote = QUOTE, **changes: Any
) -> MarketView:
    resting = tuple(changes.pop("resting", ()))
    return MarketView(MARKET, D(cash), D(yes - no), resting, quote, **changes)


def waiting(
    action: ContractAction, side: Outcome, price: str, count: int | str, market: str = MARKET
) -> RestingOrder:
    order = EventContractOrder("c", market, action, side, D(price), D(count))
    return RestingOrder("o", order, D(count))


@st.composite
def views(draw: st.DrawFn) -> MarketView:
    """Any account in front of any quote, its sales within what it holds; purchases also wait in
    another market.
    """
    low, high = sorted(draw(st.tuples(st.integers(0, 100), st.integers(0, 100))))
    held = draw(st.integers(0, 300))
    side = draw(st.sampled_from(SIDES))
    resting = []
    free = held
    for _ in range(draw(st.integers(0, 3))):
        price = D(draw(st.integers(1, 99))) / 100
        count = draw(st.integers(1, 120))
        sells = draw(st.booleans()) and count <= free
        free -= count if sells else 0
        action: ContractAction = "SELL" if sells else "BUY"
        whose = side if sells else draw(st.sampled_from(SIDES))
        market = MARKET if sells else draw(st.sampled_from([MARKET, MARKET, "SNOW"]))
        resting.append(waiting(action, whose, str(price), count, market))
    return view(
        str(D(draw(st.integers(0, 300_000))) / 100),
        held if side == "YES" else 0,
        held if side == "NO" else 0,
        ContractQuote(D(low) / 100, D(high) / 100),
        resting=resting,
        other_positions_value=D(draw(st.integers(0, 500))),
    )
