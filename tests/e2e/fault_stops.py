"""Stops at the venue and the watch of a loop, held to what the venue itself shows.

Which stop a position should have, and whether the venue would take it, is asked of the venue.
"""

# Private access: the venue checks an order without accepting it nowhere else.

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import STOP_TYPES, Order, default_time_in_force
from marketsimulator.venue.request import RequestRefused
from marketsimulator.venue.stocks import Venue
from trainingdata.instruments import is_crypto

KINDS = ("stop", "stop_limit", "trailing")
DISTANCES = ("0.3%", "0.6%", "1%", "2.5%")
# Limits at which the watch acts soon, or must not act: nothing here loses so much, or owes it.
LIMITS: Mapping[str, Sequence[str]] = {
    "daily_loss": ("0.001", "0.3", "null", "null"),
    "drawdown": ("0.002", "0.3", "null", "null"),
    "margin": ("0.4", "5", "5", "null"),
}
ACTIONS = ("halt", "reduce", "flatten")
BAND = Decimal("0.1")
MOST_OF_COINS = Decimal(190_000)  # USD, of one order
CENT = Decimal("0.01")
REACHED = re.compile(r"has reached watch\.(\w+), ([0-9.]+)")
OWED = 2.2  # the largest gross exposure here in multiples of what is lent overnight


class Looks(NamedTuple):
    """What is not as it should be.

    unprotected: symbols without the stop that the venue would take.
    stray: stops without a position, by id.
    """

    unprotected: frozenset[str] = frozenset()
    stray: frozenset[str] = frozenset()

    def since(self, before: Looks) -> Looks:
        """What was not as it should be before, either."""
        return Looks(self.unprotected & before.unprotected, self.stray & before.stray)


@dataclass(frozen=True, slots=True)
class Guarding:
    """What protects an account, as it was drawn; rng: draws what happens to it."""

    kind: str
    distance: str
    words: tuple[str, ...]
    rng: random.Random

    @classmethod
    def drawn(cls, rng: random.Random, *, watches: bool) -> Guarding:
        """Settings; watches: whether the watch may act."""
        kind, distance = rng.choice(KINDS), rng.choice(DISTANCES)
        limits = [
            f"watch.{name}={rng.choice(values) if watches else values[1]}"
            for name, values in LIMITS.items()
        ]
        words = (
            *(f"protect.kind={kind}", f"protect.distance={distance}"),
            f"protect.cooldown={rng.choice((0, 0, 1))}",
            *(*limits, f"watch.action={rng.choice(ACTIONS)}", "watch.reduce_to=0.5"),
        )
        return cls(kind, distance, words, rng)

    def look(self, venue: Venue, symbols: Iterable[str], prefix: str) -> Looks:
        """What is not as it should be.

        symbols: whose positions are to be protected.
        prefix: what ids of the command's orders begin with.
        """
        account = venue.broker.account()
        positions = account.positions
        stray = {
            order.client_order_id
            for order in stops_of(account, prefix)
            if positions.get(order.symbol, Decimal(0)) * order.signed_qty >= 0
        }
        lacking = {s for s in symbols if self._lacks(venue, account, s, prefix)}
        return Looks(frozenset(lacking), frozenset(stray))

    def _lacks(self, venue: Venue, account: AccountSnapshot, symbol: str, prefix: str) -> bool:
        """Whether a position lacks a stop that the venue would take."""
        held = account.positions.get(symbol, Decimal(0))
        stops = [order for order in stops_of(account, prefix) if order.symbol == symbol]
        rest = account.without_orders(stops)
        others = (order for order in rest.open_orders if order.symbol == symbol)
        closing = (order.qty for order in others if order.signed_qty * held < 0)
        free = abs(held) - sum(closing, Decimal(0))
        if is_crypto(symbol):
            most = MOST_OF_COINS / Decimal(repr(account.prices[symbol]))
            free = min(free, most.quantize(Decimal("1e-6")))
        elif self.kind == "trailing":
            free -= free % 1
        # A venue that will fill a part of an order shows the whole order until then.
        shown = (venue.tickets[order.client_order_id].order.qty for order in stops)
        stopped = sum(shown, Decimal(0))
        if free <= 0 or stopped >= free * (1 - BAND):
            return False
        return all(
            takes(venue, rest, order)
            for order in (self._stop(venue, account, symbol, free, k) for k in (1, 2))
        )

    def _stop(
        self, venue: Venue, account: AccountSnapshot, symbol: str, qty: Decimal, times: int
    ) -> Order:
        """The stop of a position, at a distance from its entry, or so many times that."""
        long = account.positions[symbol] > 0
        ratio = Decimal(self.distance.removesuffix("%")) / 100 * times
        coin = is_crypto(symbol)
        more: dict[str, Any]
        if self.kind == "trailing" and not coin:
            more = {"type": "trailing_stop", "tif": "gtc", "trail_percent": float(100 * ratio)}
        else:
            entry = venue.entries.since_opened.entry_price(symbol)
            if self.kind == "trailing":
                entry = account.prices[symbol]
            price = Decimal(repr(entry)) * (1 - ratio if long else 1 + ratio)
            more = {"stop_price": float(price.quantize(CENT)), "type": "stop"}
            if coin or self.kind == "stop_limit":
                more |= {"type": "stop_limit", "limit_price": more["stop_price"]}
            more["tif"] = "gtc" if coin else default_time_in_force(symbol, None)
        side = "sell" if long else "buy"
        return Order("asked-0", symbol, side, qty, "asked", reduces=True, **more)


def takes(venue: Venue, account: AccountSnapshot, order: Order) -> bool:
    """Whether the venue would take an order."""
    try:
        venue._check_order(order, account)
    except RequestRefused:
        return False
    return True


def stops_of(account: AccountSnapshot, prefix: str) -> list[Order]:
    """Open stops of the command."""
    return [
        order
        for order in account.open_orders
        if order.type in STOP_TYPES and order.client_order_id.startswith(f"{prefix}-")
    ]


def oversized(account: AccountSnapshot, prefix: str) -> int:
    """Positions of which open stops are more than is held."""
    stops = stops_of(account, prefix)
    ordered = {o.symbol: sum(e.qty for e in stops if e.symbol == o.symbol) for o in stops}
    return sum(q > abs(held) > 0 for s, q in ordered.items() if (held := account.positions.get(s)))


def unjustified(reason: str, at: np.datetime64, venue: Venue) -> bool:
    """Whether the watch acted at an instant on a loss, or on a debt, that never was."""
    found = REACHED.search(reason)
    if found is None:
        return True
    limit = float(found[2])
    if found[1] == "margin":
        return limit > OWED
    points = [*venue.equities, (venue.now, venue.equity)]
    past = [equity for instant, equity in points if instant <= at]
    # At the instant itself orders may still have cost something.
    return not past or 1 - min(past[-2:]) / max(venue.settings.capital, *past) < limit - 1e-4
