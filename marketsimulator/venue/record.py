"""Records of a practice venue's account: orders, activities, and when activities are listed.

Stocks and options share it, because at Alpaca they share one account.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable

import numpy as np

from marketsimulator.venue.request import Refused, Response
from marketsimulator.venue.spread_tickets import SpreadTicket
from marketsimulator.venue.tickets import Ticket, timestamp
from trainingdata.instants import DAY
from trainingdata.sessions import session_on, sessions_between

VenueOrder = Ticket | SpreadTicket


class VenueRecord:
    """Activities and orders of one account, in the order of their arrival.

    now: returns the venue's simulated instant.
    running: returns the time on the clock; a running clock also passes between two instants.
    orders: orders by client_order_id, in the order of their arrival.
    """

    def __init__(self, now: Callable[[], np.datetime64]) -> None:
        self.now = now
        self.running = now
        # Each start is another account, without the orders of the previous one.
        self.account_id = str(uuid.uuid4())
        self.activities: list[Response] = []
        self.orders: dict[str, VenueOrder] = {}
        self._by_number: dict[str, VenueOrder] = {}
        self._late_kinds: frozenset[str] = frozenset()
        self._listed_from: dict[str, np.datetime64] = {}

    @property
    def stamp(self) -> str:
        """Return the time on the clock in the API's format."""
        return timestamp(max(self.now(), self.running()))

    def refuse_used_id(self, client_order_id: str) -> None:
        """Refuse an id that an order has had, even if that order has ended."""
        if client_order_id in self.orders:
            raise Refused(422, 40010001, "client_order_id must be unique")

    def record_order(self, order: VenueOrder) -> None:
        self.orders[order.client_order_id] = order
        self._by_number[order.number] = order

    def order(self, number: str) -> VenueOrder:
        """Return the order with a venue id. Raises `Refused` if it is unknown."""
        if number not in self._by_number:
            raise Refused(404, None, f"order not found for {number}")
        return self._by_number[number]

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        """Return the order with a client's id. Raises `Refused` if it is unknown."""
        if client_order_id not in self.orders:
            raise Refused(404, None, f"order not found for {client_order_id}")
        return self.orders[client_order_id]

    def record_activity(self, activity: Response) -> None:
        """Record an activity of the account.

        activity: in Alpaca's format; a trade has a `transaction_time`, any other activity a `date`.
        """
        number = f"{timestamp(self.now())}::{len(self.activities):09d}"
        kind = activity["activity_type"]
        shared = {"account_id": self.account_id, "description": kind, "status": "executed"}
        self.activities.append({"id": number, **shared, **activity})
        if kind in self._late_kinds:
            self._listed_from[number] = _next_opening(self.now())

    def list_late(self, kinds: Iterable[str]) -> None:
        """List activities of these kinds once the next session opens, as paper accounts do.

        Positions change at once. The setting applies to later activities; without kinds all
        activities are listed at once.
        """
        self._late_kinds = frozenset(kinds)

    def listed(self) -> list[Response]:
        """Return the activities that a client may see at present, in the order of their arrival."""
        now = self.now()
        return [each for each in self.activities if self._listed_from.get(each["id"], now) <= now]


def _next_opening(now: np.datetime64) -> np.datetime64:
    today = now.astype("datetime64[D]")
    sessions = (session_on(day) for day in sessions_between(today - DAY, today + 14 * DAY))
    return next(each.opens for each in sessions if each is not None and each.opens > now)
