"""A Kalshi to practise on, on loopback, for a test.

    with kalshi_practice(starting_cash=500.0, sessions={"RAIN": session}) as practice:
        manager = …(practice.url, practice.key_id, practice.private_key)
        manager.submit(order)                      # waits: an order meets the next tick
        practice.advance()                         # the clock moves, orders meet the tick
        assert practice.exchange.cash == manager.view("RAIN").cash

Settings are those of `practice.settings.KalshiVenueSettings`; `sessions` plays these
arrays [T, F] by ticker in the place of two synthetic ones, SIM-1 and SIM-2. Faults are those of
`practice.faults`. The clock begins at the wall clock's time and stands between ticks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any, Literal

import numpy as np
import requests

from event_contracts.simulation.exchange import Exchange, SimulatedListing
from event_contracts.simulation.sessions import session_to_tick_records, validate_session
from event_contracts.trading.endpoint import KalshiKeys
from event_contracts.trading.orders import EventContractOrder
from foundation.arrays import Array
from practice.kalshi_server import (
    KalshiServer,
    build_exchange,
    build_listings,
    generate_keys,
    precompile_exchange,
)
from practice.settings import KalshiVenueSettings
from tests.support.served import serving

WAIT = 30.0  # seconds
API = "/trade-api/v2"
CREATE = "/portfolio/events/orders"
ORDERS = f"{API}{CREATE}"
KEYS = generate_keys()  # creating a key takes a while

# An order and a fill of it as the API tells of them.
ORDER = {
    "order_id": "v-1",
    "client_order_id": "o-1",
    "ticker": "RAIN",
    "book_side": "ask",
    "status": "resting",
    "yes_price_dollars": "0.5600",
    "fill_count_fp": "4.00",
    "remaining_count_fp": "6.00",
}
FILL = {
    "fill_id": "f-1",
    "order_id": "v-1",
    "ticker": "RAIN",
    "book_side": "ask",
    "yes_price_dollars": "0.5600",
    "count_fp": "4.00",
    "is_taker": True,
    "created_time": "2026-11-22T15:00:00Z",
}


@dataclass
class KalshiPractice:
    """A running server.

    url: http://127.0.0.1:PORT, without /trade-api/v2.
    key_id, private_key: what requests are signed with; the latter is PEM text.
    exchange: the truth. Read it while no request is under way.
    asked: method, path and body of every request that reached the server, in order.
    """

    url: str
    key_id: str
    private_key: str
    exchange: Exchange
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    def advance(self, steps: int = 1) -> dict[str, Any]:
        """Move the clock by so many ticks; what the control route answers."""
        return self._control("POST", "advance", {"steps": steps})

    def fault(self, kind: str, **more: Any) -> None:
        """Plan a fault."""
        self._control("POST", "faults", {"kind": kind, **more})

    def clear_faults(self) -> None:
        self._control("DELETE", "faults")

    def pause(self, code: str = "trading_is_paused", **content: str) -> None:
        """Pause trading until `resume`."""
        self._control("POST", "pause", {"code": code, **content})

    def resume(self) -> None:
        self._control("DELETE", "pause")

    def land(self) -> None:
        """What a fault `late` has held up reaches the venue."""
        self._control("POST", "land")

    def posts(self) -> list[dict[str, Any]]:
        """The orders that clients sent, as they sent them."""
        return [
            json.loads(b) for method, path, b in self.asked if (method, path) == ("POST", ORDERS)
        ]

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, **query: Any
    ) -> requests.Response:
        """One signed request of the API; path: what follows /trade-api/v2."""
        whole = f"{API}{path}"
        return requests.request(
            method,
            f"{self.url}{whole}",
            headers=signed_headers(self.key_id, self.private_key, method, whole),
            json=body,
            params=query,
            timeout=WAIT,
        )

    def _control(self, method: str, name: str, body: Any = None) -> dict[str, Any]:
        answer = requests.request(
            method, f"{self.url}/control/{name}", json=body or {}, timeout=WAIT
        )
        assert answer.status_code == 200, answer.text
        content: dict[str, Any] = answer.json()
        return content


def signed_headers(
    key_id: str, private_key: str, method: str, path: str, at: int | None = None
) -> dict[str, str]:
    """What signs a request of a path without its query; at: milliseconds since 1970, else now."""
    stamp = int(time.time() * 1000) if at is None else at
    return _keys(key_id, private_key).signature_headers(method, path, stamp)


# Loading a key takes a while.
_keys = cache(KalshiKeys)


def body_of(order: EventContractOrder, **more: Any) -> dict[str, Any]:
    """An order as the API is sent it, written anew so that the client is not its own witness.

    Buying NO at p is an ask at 1 - p, selling NO a bid at 1 - p; immediate sales only reduce.
    """
    bid = (order.action == "BUY") == (order.side == "YES")
    price = order.price if order.side == "YES" else 1 - order.price
    return {
        "ticker": order.market,
        "client_order_id": order.client_order_id,
        "side": "bid" if bid else "ask",
        "price": f"{price:.4f}",
        "count": f"{order.count:.2f}",
        "time_in_force": order.time_in_force,
        "self_trade_prevention_type": "taker_at_cross",
        **({"reduce_only": True} if order.action == "SELL" and not order.can_rest else {}),
        **more,
    }


def buying(
    name: str,
    market: str = "RAIN",
    price: str = "0.50",
    count: int = 10,
    side: Literal["YES", "NO"] = "YES",
) -> EventContractOrder:
    return EventContractOrder(name, market, "BUY", side, Decimal(price), Decimal(count))


def _listings(sessions: Mapping[str, Array]) -> list[SimulatedListing]:
    return [
        SimulatedListing(ticker, session_to_tick_records(validate_session(each)))
        for ticker, each in sessions.items()
    ]


@cache
def _rehearse_once() -> None:
    """Compile what the servers of this process need."""
    precompile_exchange()


@contextmanager
def kalshi_practice(
    sessions: Mapping[str, Array] | None = None, *, wired: bool = False, **settings: Any
) -> Iterator[KalshiPractice]:
    """A server in a thread of its own on a free loopback port; see the head of this module."""
    chosen = KalshiVenueSettings(**settings)
    listings = build_listings(chosen) if sessions is None else _listings(sessions)
    _rehearse_once()
    exchange = build_exchange(chosen, listings, np.datetime64(time.time_ns(), "ns"))
    server = KalshiServer(exchange, KEYS, reused_ids_refused=chosen.reused_ids_refused)
    practice = KalshiPractice("", KEYS.key_id, KEYS.private_key, exchange)
    with serving(wired=wired) as served:
        practice.url = served.serve_venue(server, lambda *asked: practice.asked.append(asked))
        yield practice
