"""An order manager over the simulated exchange, on the simulation's clock alone."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import ClassVar

import numpy as np

from event_contracts.simulation.exchange import Exchange, OrderState, PlacedOrder
from event_contracts.trading.orders import Fill, LimitOrder, MarketView, Receipt
from event_contracts.trading.venue_orders import order_of
from execution.journal.intents import Intent, IntentBook, Progress, State
from execution.posting import Guard, PostingDesk, unguarded

VENUE = "simulated"
_STATES: Mapping[OrderState, State] = {
    "resting": "working",
    "executed": "filled",
    "canceled": "canceled",
}


class SimulatedOrderManager:
    """`OrderManager` over the markets of an exchange; who drives it calls `advance`.

    Orders are written down before they are sent, as at a real venue, and one of an id that was sent
    before is that order.

    exchange: the truth, with orders, fills, fees and settlements.
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
        self._desk = _Desk(exchange, book, guard)

    def advance(self) -> None:
        """Show the next tick of every open market, and let its orders meet it."""
        before = self.exchange.resting
        self.exchange.advance()
        for each in before:
            self._desk.note(self.exchange.orders[each.order_id])

    def view(self, market: str) -> MarketView:
        """The account in front of a market now."""
        return self.exchange.view(market)

    def expiry(self) -> None:
        """An order waits here until it is cancelled."""

    def submit(self, order: LimitOrder) -> Receipt:
        """Send an order once; it meets the next tick.

        Raises
        ------
        OrderRejected
            where the guard or the exchange does not take it.
        OutcomeUnknown
            where nobody says what became of it.
        """
        placed = self._desk.post(order)
        return Receipt(placed.order_id, placed.filled, placed.remaining)

    def undetermined(self, market: str) -> tuple[Intent, ...]:
        """Orders of a market of which nobody knows what became, once they were looked for."""
        return self._desk.undetermined(lambda intent: order_of(intent).market == market)

    def withdraw(self, market: str) -> tuple[Intent, ...]:
        """Nothing: orders end after so many ticks as the exchange's settings say."""
        del market
        return ()

    def cancel(self, order_id: str) -> None:
        """Take an order out of the book; one that has ended stays as it ended."""
        self.exchange.cancel(order_id)
        self._desk.note(self.exchange.orders[order_id])

    def fills(self, market: str) -> tuple[Fill, ...]:
        """The account's fills in a market, in booking order."""
        booked = self.exchange.fills
        return tuple(each.fill for each in booked if each.fill.market == market)


class _Desk(PostingDesk[PlacedOrder]):
    """Intents that become orders of the exchange, which takes two of one id."""

    venue: ClassVar[str] = VENUE
    one_order_an_id: ClassVar[bool] = False

    def __init__(self, exchange: Exchange, book: IntentBook | None, guard: Guard) -> None:
        super().__init__(_do_not_wait, book, guard)
        self._exchange = exchange

    def now(self) -> np.datetime64:
        return self._exchange.now

    def estimated_now(self) -> np.datetime64:
        return self._exchange.now

    def find_order(self, client_order_id: str) -> PlacedOrder | None:
        for placed in self._exchange.orders.values():
            if placed.order.client_order_id == client_order_id:
                return placed
        return None

    def end(self, answer: PlacedOrder) -> PlacedOrder:
        self._exchange.cancel(answer.order_id)
        return self.note(self._exchange.orders[answer.order_id])

    def note(self, placed: PlacedOrder) -> PlacedOrder:
        """Have the book say what became of an order."""
        return self._noted(placed)

    def _posted(self, intent: Intent, patience: float) -> PlacedOrder:
        receipt = self._exchange.submit(order_of(intent))
        return self._exchange.orders[receipt.order_id]

    def _same_terms(self, intent: Intent, answer: PlacedOrder) -> bool:
        return intent.order == answer.order

    def _progress(self, answer: PlacedOrder) -> tuple[str, Progress]:
        fills = [
            each.fill for each in self._exchange.fills if each.fill.order_id == answer.order_id
        ]
        paid = sum((fill.price * fill.count for fill in fills), Decimal(0))
        price = paid / answer.filled if answer.filled else None
        progress = Progress(_STATES[answer.state], answer.order_id, answer.filled, price)
        return answer.order.client_order_id, progress

    def _lands_no_more(self, intent: Intent, now: np.datetime64) -> bool:
        # An order reaches the exchange within the call that sends it, or never.
        return True

    def _is_done(self, answer: PlacedOrder) -> bool:
        return answer.state != "resting"


def _do_not_wait(seconds: float) -> None:
    """The simulation's clock moves by its driver alone."""
    del seconds
