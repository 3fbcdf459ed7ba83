"""Record of a practice venue's account: its orders, its activities, and their listing times.

Stocks and options share one record because they share one account at Alpaca.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable

import numpy as np

from practice.alpaca.spread_tickets import SpreadTicket
from practice.alpaca.tickets import OrderTicket, format_timestamp
from practice.request import RequestRefused, ResponseBody
from trainingdata.instants import DAY
from trainingdata.sessions import session_on, sessions_between

VenueOrder = OrderTicket | SpreadTicket


class VenueRecord:
    """Activities and orders of one account, in order of arrival.

    now: function that returns the venue's present instant.
    running: function that returns the time on the clock, which may be between two instants.
    orders: orders by client_order_id, in order of arrival.
    """

    def __init__(self, now: Callable[[], np.datetime64]) -> None:
        self.now = now
        self.running = now
        # Each start of the venue creates another account, without the orders of the previous one.
        self.account_id = str(uuid.uuid4())
        self.activities: list[ResponseBody] = []
        self.orders: dict[str, VenueOrder] = {}
        self._by_number: dict[str, VenueOrder] = {}
        self._late_kinds: frozenset[str] = frozenset()
        self._listed_from: dict[str, np.datetime64] = {}

    @property
    def current_timestamp(self) -> str:
        """Return the time on the clock as text in the API's format."""
        return format_timestamp(max(self.now(), self.running()))

    def refuse_duplicate_order_id(self, client_order_id: str) -> None:
        """Raise `RequestRefused` for a client_order_id that any earlier order had."""
        if client_order_id in self.orders:
            raise RequestRefused(422, 40010001, "client_order_id must be unique")

    def record_order(self, order: VenueOrder) -> None:
        self.orders[order.client_order_id] = order
        self._by_number[order.venue_order_id] = order

    def order_by_venue_order_id(self, venue_id: str) -> VenueOrder:
        """Return the order with this venue id. Raises `RequestRefused` (404) if it is unknown."""
        if venue_id not in self._by_number:
            raise RequestRefused(404, None, f"order not found for {venue_id}")
        return self._by_number[venue_id]

    def order_by_client_id(self, client_order_id: str) -> VenueOrder:
        """Return the order with this client_order_id. Raises `RequestRefused` (404) if unknown."""
        if client_order_id not in self.orders:
            raise RequestRefused(404, None, f"order not found for {client_order_id}")
        return self.orders[client_order_id]

    def record_activity(self, activity: ResponseBody) -> None:
        """Record an activity of the account.

        activity: activity in Alpaca's format; a trade has a `transaction_time`, any other activity
            a `date`.
        """
        number = f"{format_timestamp(self.now())}::{len(self.activities):09d}"
        kind = activity["activity_type"]
        shared = {"account_id": self.account_id, "description": kind, "status": "executed"}
        self.activities.append({"id": number, **shared, **activity})
        if kind in self._late_kinds:
            self._listed_from[number] = _next_opening(self.now())

    def delay_activity_listing(self, kinds: Iterable[str]) -> None:
        """List later activities of these kinds only from the next session open on.

        Alpaca's paper accounts list some activities late in this way, while positions change at
        once. Without kinds all later activities are listed at once.
        """
        self._late_kinds = frozenset(kinds)

    def listed_activities(self) -> list[ResponseBody]:
        """Return the activities that are listed at present, in order of arrival."""
        now = self.now()
        return [each for each in self.activities if self._listed_from.get(each["id"], now) <= now]


def _next_opening(now: np.datetime64) -> np.datetime64:
    today = now.astype("datetime64[D]")
    sessions = (session_on(day) for day in sessions_between(today - DAY, today + 14 * DAY))
    return next(each.opens for each in sessions if each is not None and each.opens > now)
