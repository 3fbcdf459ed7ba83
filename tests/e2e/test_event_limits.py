"""Limits of an event hold at a venue whose markets and events state their relations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from event_contracts.simulation.exchange import Exchange
from event_contracts.trading.actions import PositionLimits, PreTradeCheck
from event_contracts.trading.event_risk import StrikeRange
from event_contracts.trading.orders import EventContractOrder
from foundation.errors import OrderRejected
from practice.kalshi import catalog
from tests.e2e.kalshi_desk import KalshiStand, kalshi_stand
from tests.support.messages import refused

D = Decimal
LIMITED = PreTradeCheck(PositionLimits(D(10**6), D(10**6), D(1), event_loss=D(40)), D(0))


@pytest.fixture
def stand() -> Iterator[KalshiStand]:
    with kalshi_stand(synthetic=2) as here:
        yield here


def state(exchange: Exchange, **terms: Any) -> None:
    """Give every market these terms; SIM-2 has a strike one higher."""
    for k, (ticker, listing) in enumerate(list(exchange.listings.items())):
        given = dict(terms)
        if "strike" in given:
            given["strike"] = replace(given["strike"], low=given["strike"].low + k)
        exchange.listings[ticker] = replace(listing, **given)


def no_of(exchange: Exchange, market: str, usd: int) -> EventContractOrder:
    """Return an order for NO at its ask, of about so many USD."""
    price = exchange.quote(market).ask("NO")
    return EventContractOrder(f"no-{market}", market, "BUY", "NO", price, usd // price)


def test_unknown_orders_count_toward_the_event_loss_limit(stand: KalshiStand) -> None:
    exchange = stand.practice.exchange
    manager = stand.manager(LIMITED)
    stand.lose(manager, no_of(exchange, "SIM-1", 30))
    with refused(OrderRejected):
        manager.submit(no_of(exchange, "SIM-2", 30))


def test_mutually_exclusive_markets_share_one_loss_limit(stand: KalshiStand) -> None:
    """Of two filled purchases of NO one wins; while they rest, both may lose."""
    exchange = stand.practice.exchange
    state(exchange, is_mutually_exclusive=True)
    manager = stand.manager(LIMITED)
    manager.submit(no_of(exchange, "SIM-1", 30))
    manager.submit(no_of(exchange, "SIM-2", 30))
    assert len(stand.practice.posts()) == 2


@pytest.mark.parametrize("dropped", ["mutually_exclusive", "event"])
def test_event_without_mutually_exclusive_field_sums_market_losses(
    stand: KalshiStand, monkeypatch: pytest.MonkeyPatch, dropped: str
) -> None:
    exchange = stand.practice.exchange
    state(exchange, is_mutually_exclusive=True)
    asked = catalog.get_event

    def silent(exchange: Exchange, ticker: str, query: Any) -> Any:
        answer = dict(asked(exchange, ticker, query)["event"])
        answer.pop("mutually_exclusive")
        return {"event": answer} if dropped == "mutually_exclusive" else {}

    monkeypatch.setattr(catalog, "get_event", silent)
    manager = stand.manager(LIMITED)
    manager.submit(no_of(exchange, "SIM-1", 30))
    with refused(OrderRejected):
        manager.submit(no_of(exchange, "SIM-2", 30))


def test_nested_strikes_offset_each_other(stand: KalshiStand) -> None:
    """Above 51 is above 50: YES of the lower and NO of the higher cannot both lose."""
    exchange = stand.practice.exchange
    state(exchange, strike=StrikeRange(low=D(50)))
    manager = stand.manager(LIMITED)
    price = exchange.quote("SIM-1").ask("YES")
    manager.submit(EventContractOrder("yes", "SIM-1", "BUY", "YES", price, 35 // price))
    manager.submit(no_of(exchange, "SIM-2", 35))
    ask = exchange.quote("SIM-2").ask("YES")
    with refused(OrderRejected):
        manager.submit(EventContractOrder("o-3", "SIM-2", "BUY", "YES", ask, 35 // ask))


@pytest.mark.parametrize("field", ["event_ticker", "strike_type", "floor_strike"])
def test_market_without_strike_field_adds_its_full_loss(
    stand: KalshiStand, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    exchange = stand.practice.exchange
    state(exchange, strike=StrikeRange(low=D(50)))
    stated = catalog.get_market

    def silent(exchange: Exchange, ticker: str) -> Any:
        return {name: value for name, value in stated(exchange, ticker).items() if name != field}

    monkeypatch.setattr(catalog, "get_market", silent)
    manager = stand.manager(LIMITED)
    price = exchange.quote("SIM-1").ask("YES")
    manager.submit(EventContractOrder("yes", "SIM-1", "BUY", "YES", price, 35 // price))
    with refused(OrderRejected):
        manager.submit(no_of(exchange, "SIM-2", 35))
