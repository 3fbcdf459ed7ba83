"""Orders at Alpaca: posting, queries by client order id, and cancellation.

Alpaca accepts only one order per client order id. An order of unknown outcome may therefore be sent
again with the same id.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from execution.alpaca.connection import NOT_FOUND_STATUS, JsonObject, VenueConnection
from execution.alpaca.fields import OrderEntry
from execution.alpaca.placed_order import NO_PRICES, AlpacaOrder
from execution.journal.order_store import OrderIntent
from execution.journal.outbox import InconclusiveResponse, OrderDenied, format_expiry
from execution.orders.gate import AnyOrder
from execution.orders.option_orders import SpreadOrder
from execution.orders.orders import PRICE_FIELDS, Order
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.errors import InputError, InvalidResponse, OrderRejected, to_one_line
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings
from trainingdata.feed.fields import as_mapping, parse_object_list
from trainingdata.instruments import venue_spelling

if TYPE_CHECKING:
    from alpaca.common.exceptions import APIError

log = logging.getLogger(__name__)

MAX_ORDERS_LISTED = 500  # the most that the venue lists at once
ORDER_READ_DELAYS_SECONDS = (
    0.0,
    0.1,
)  # seconds before each query of an order whose response is rejected
# Attempts for an order while the venue returns 429, which means that it did not process it.
MAX_POST_ATTEMPTS = 5
MAX_ORDER_REPLACEMENTS = 10  # longest chain of replaced orders
# Time after an option's last session from which its orders can no longer fill.
OPTION_EXPIRY_GRACE = np.timedelta64(1, "h")

UNPROCESSABLE_STATUS = 422  # also if an id was used before, or there is nothing to cancel
TOO_MANY_REQUESTS_STATUS = 429
AMBIGUOUS_HTTP_STATUSES = (408, 409, 425)  # below 500, with an unknown outcome of the request


class OrderVenue(VenueConnection):
    """Client that posts, queries and cancels orders at Alpaca.

    If a report on an accepted order contradicts itself, the order is queried once more.

    prices: last known prices, USD by symbol; a report with a fill price far from them is rejected.
    """

    name: ClassVar[str] = "alpaca"
    has_idempotent_client_ids: ClassVar[bool] = True

    def __init__(
        self, settings: BrokerSettings, keys: ApiKeys, time: TimeSource = SYSTEM_TIME
    ) -> None:
        super().__init__(settings, keys, time)
        self.prices: Mapping[str, float] = NO_PRICES

    def post(self, intent: OrderIntent, max_wait_seconds: float) -> AlpacaOrder:
        from alpaca.common.exceptions import APIError
        from requests.exceptions import RequestException

        from foundation.transport import log_pause

        name = intent.client_order_id
        waited = 0.0
        for _ in range(MAX_POST_ATTEMPTS):
            try:
                answer = self.client.post("/orders", build_order_request(intent.order))
                return AlpacaOrder.parse(name, answer, self.prices)
            except APIError as error:
                pause = self._rate_limit_pause_seconds(name, error)
            except InvalidResponse as error:
                raise InconclusiveResponse(to_one_line(self._keys.redact(error.why))) from None
            except (RequestException, ValueError, KeyError, TypeError, RecursionError) as error:
                raise InconclusiveResponse(type(error).__name__) from None
            waited += pause
            # Nothing else is supervised during the wait.
            if waited > max_wait_seconds:
                break
            log_pause(pause, f"{name}: the venue limits requests (429)")
            self.time.wait(pause)
            if not intent.is_unexpired(self.estimated_now()):
                raise OrderDenied(
                    f"{name}: not sent: the venue limits requests (429) and {format_expiry(intent)}"
                )
        raise OrderDenied(f"{name}: not sent: the venue limits requests (429)")

    def _rate_limit_pause_seconds(self, name: str, error: APIError) -> float:
        """Return how long to wait, in seconds, if a POST failed because of the venue's rate limit.

        For any other failure, raises `OrderRejected`, or `InconclusiveResponse` if the order may
        have been accepted.
        """
        from foundation.transport import retry_after_seconds

        status = error.status_code
        words = self._keys.redact(" ".join(str(error).split()))[:300]
        # Only 429 means that the venue has not processed the request, so it may be sent again.
        if status == TOO_MANY_REQUESTS_STATUS:
            seconds = retry_after_seconds({} if error.response is None else error.response.headers)
            return 1.0 if seconds is None else seconds
        # If the venue refuses the id, it has an order of this id, which may be this very order,
        # sent before a crash. That is no rejection of the order.
        known_id = status == UNPROCESSABLE_STATUS and "client_order_id" in words
        if status is None or status >= 500 or known_id or status in AMBIGUOUS_HTTP_STATUSES:
            raise InconclusiveResponse(f"HTTP status {status}") from None
        raise OrderRejected(f"{name}: rejected ({status}): {words}") from None

    def find(self, client_order_id: str, intent: OrderIntent | None = None) -> AlpacaOrder | None:
        del intent
        what = f"order {client_order_id}"
        query = {"client_order_id": client_order_id}
        answer = self.get_or_none(what, "/orders:by_client_order_id", query)
        if answer is None:
            return None
        with self.translate_errors(what):
            return self._follow_replacements(
                AlpacaOrder.parse(client_order_id, answer, self.prices)
            )

    def open_order_entries(self) -> tuple[JsonObject, ...]:
        """Return the venue's entries of all open orders of the account, oldest first."""
        query = {"status": "open", "limit": MAX_ORDERS_LISTED, "nested": "true"}
        return parse_object_list(self.client.get("/orders", query))[::-1]

    def refresh_order(self, order: AlpacaOrder) -> AlpacaOrder:
        if order.is_done:
            return order
        with self.translate_errors(f"order {order.current_client_order_id}"):
            return self._follow_replacements(self._query_order(order))

    def wait_until_done(
        self, orders: Sequence[AlpacaOrder], max_wait_seconds: float
    ) -> list[AlpacaOrder]:
        """Wait at most `max_wait_seconds` until all orders have ended; return the last reports."""
        seen = list(orders)
        end = self.time.monotonic() + max_wait_seconds
        step = 0.05
        while (
            not all(order.is_done for order in seen) and (left := end - self.time.monotonic()) > 0
        ):
            self.time.wait(min(step, left))
            step = min(2 * step, 1.0)
            seen = [self.refresh_order(order) for order in seen]
        return seen

    def load_legs(self, order: AlpacaOrder) -> AlpacaOrder:
        """Return the order with its legs; it is queried again if the last response has no legs."""
        if OrderEntry.legs.read(order.response):
            return order
        with self.translate_errors(f"order {order.current_client_order_id}"):
            return self._query_order(order)

    def _query_order(self, order: AlpacaOrder) -> AlpacaOrder:
        """Query the order; query it a second time if the first response contradicts itself."""
        return self.time.retry(
            ORDER_READ_DELAYS_SECONDS, lambda: self._query_order_once(order), InvalidResponse
        )

    def _query_order_once(self, order: AlpacaOrder) -> AlpacaOrder:
        answer = self._get_order_entry(order.venue_order_id)
        return AlpacaOrder.parse(
            order.current_client_order_id, answer, self.prices, order.replaced_order
        )

    def _get_order_entry(self, venue_id: str) -> JsonObject:
        """Query the order with this venue id, and return the venue's entry for it."""
        answer = as_mapping(self.client.get(f"/orders/{venue_id}", {"nested": "true"}))
        if OrderEntry.id.read(answer) != venue_id:
            raise InvalidResponse("the response describes another order")
        return answer

    def _follow_replacements(self, order: AlpacaOrder) -> AlpacaOrder:
        for _ in range(MAX_ORDER_REPLACEMENTS):
            if order.status != "replaced":
                return order
            successor = OrderEntry.replaced_by.read(order.response)
            if successor is None:
                raise InvalidResponse("status is replaced but replaced_by is missing")
            answer = self._get_order_entry(successor)
            name = OrderEntry.client_order_id.read(answer)
            order = AlpacaOrder.parse(name, answer, self.prices, order)
        raise InvalidResponse(
            f"the order was replaced more than {MAX_ORDER_REPLACEMENTS - 1} times"
        )

    def cancel(self, order: AlpacaOrder) -> None:
        from alpaca.common.exceptions import APIError

        with self.translate_errors(f"cancelling order {order.current_client_order_id}"):
            try:
                self.client.delete(f"/orders/{order.venue_order_id}")
            except APIError as error:
                # There was nothing to cancel: the order was final before.
                if error.status_code not in (UNPROCESSABLE_STATUS, NOT_FOUND_STATUS):
                    raise

    def is_lost(self, intent: OrderIntent, now: np.datetime64) -> bool:
        legs = intent.order.legs if isinstance(intent.order, SpreadOrder) else ()
        expired = any(leg.contract.has_expired(now - OPTION_EXPIRY_GRACE) for leg in legs)
        return expired or intent.is_lost(now)


def build_order_request(order: AnyOrder) -> dict[str, Any]:
    """Return the body of the request that posts an order, in the venue's format."""
    if isinstance(order, Order):
        return _single_order_request(order)
    if isinstance(order, SpreadOrder):
        return _spread_order_request(order)
    raise InputError(
        f"{order.client_order_id}: Alpaca does not trade event contracts; send the order to Kalshi"
    )


def _single_order_request(order: Order) -> dict[str, Any]:
    request: dict[str, Any] = {
        "symbol": venue_spelling(order.symbol),
        "qty": f"{order.qty:f}",
        "side": order.side,
        "type": order.type,
        "time_in_force": order.tif,
        "client_order_id": order.client_order_id,
    }
    for name in PRICE_FIELDS:
        if (price := getattr(order, name)) is not None:
            request[name] = repr(price)
    if order.extended_hours:
        request["extended_hours"] = True
    return request


def _spread_order_request(order: SpreadOrder) -> dict[str, Any]:
    limit = order.min_credit
    request: dict[str, Any] = {
        "order_class": "mleg",
        "qty": str(order.contracts),
        "type": "market" if limit is None else "limit",
        "time_in_force": "day",
        "client_order_id": order.client_order_id,
        "legs": [
            {"symbol": leg.contract.symbol, "ratio_qty": "1", "side": leg.side}
            for leg in order.legs
        ],
    }
    # The venue's price is the cost of an order: a credit is below 0.
    if limit is not None:
        request["limit_price"] = f"{-limit:.2f}"
    return request
