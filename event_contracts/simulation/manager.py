"""An order manager over the simulated exchange, on the simulation's clock alone."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from event_contracts.simulation.exchange import Exchange, PlacedOrder
from event_contracts.trading.orders import LimitOrder, MarketView, Receipt
from event_contracts.trading.venue_orders import order_of
from execution.journal.intents import Intent, IntentBook
from execution.posting import Guard, Outbox, unguarded
from foundation.clock import Time

VENUE = "simulated"


class SimulatedOrderManager:
    """`OrderManager` over the markets of an exchange; who drives it calls `advance`.

    Orders are written down before they are sent, as at a real venue, and one of an id that was sent
    before is that order.

    book: where intents are kept; none keeps them in memory.
    guard: has the last word before an order is sent.
    """

    def __init__(
        self,
        exchange: Exchange,
        book: IntentBook | None = None,
        guard: Guard = unguarded,
    ) -> None:
        self.exchange = exchange
        self._outbox = Outbox(_Venue(exchange), book, guard)

    def advance(self) -> None:
        """Show the next tick of every open market, and let its orders meet it."""
        before = self.exchange.resting
        self.exchange.advance()
        for each in before:
            self._outbox.noted(self.exchange.orders[each.order_id])

    def view(self, market: str) -> MarketView:
        """The account in front of a market now."""
        return self.exchange.view(market)

    def expiry(self) -> None:
        """An order waits here until it is cancelled."""

    def submit(self, order: LimitOrder) -> Receipt:
        """Send an order once; it meets the next tick.

        Raises `OrderRejected` where the guard or the exchange does not take it; `OutcomeUnknown`
        where nobody says what became of it.
        """
        placed = self._outbox.post(order)
        return Receipt(placed.order_id, placed.filled, placed.remaining)

    def undetermined(self, market: str) -> tuple[Intent, ...]:
        """Orders of a market of which nobody knows what became, once they were looked for."""
        return self._outbox.undetermined(lambda intent: order_of(intent).market == market)

    def withdraw(self, market: str, before: np.datetime64) -> tuple[Intent, ...]:
        """Nothing: orders end after so many ticks as the exchange's settings say."""
        del market, before
        return ()

    def cancel(self, order_id: str) -> None:
        """Take an order out of the book; one that has ended stays as it ended."""
        self.exchange.cancel(order_id)
        self._outbox.noted(self.exchange.orders[order_id])


class _Venue:
    """The exchange as a venue, which takes two orders of one id."""

    name: ClassVar[str] = VENUE
    one_order_an_id: ClassVar[bool] = False

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.time = Time(now=self.now, wait=_do_not_wait)

    def now(self) -> np.datetime64:
        return self._exchange.now

    def estimated_now(self) -> np.datetime64:
        return self._exchange.now

    def find(self, client_order_id: str, intent: Intent | None) -> PlacedOrder | None:
        del intent
        for placed in self._exchange.orders.values():
            if placed.client_order_id == client_order_id:
                return placed
        return None

    def cancel(self, placed: PlacedOrder) -> None:
        self._exchange.cancel(placed.order_id)

    def refreshed(self, placed: PlacedOrder) -> PlacedOrder:
        return placed

    def post(self, intent: Intent, patience: float) -> PlacedOrder:
        del patience
        return self._exchange.submit(order_of(intent))

    def lands_no_more(self, intent: Intent, now: np.datetime64) -> bool:
        # An order reaches the exchange within the call that sends it, or never.
        del intent, now
        return True


def _do_not_wait(seconds: float) -> None:
    del seconds
