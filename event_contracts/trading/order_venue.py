"""Orders of one account at Kalshi: posted once, looked up by our id among its orders and fills.

Nobody says that the venue refuses a second order of an id. So one whose fate is open is never
posted again: it is looked for, and counts until the venue has said what became of it, or until it
can no longer be taken, some time after the instant at which it expires.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from event_contracts.trading.endpoint import (
    UNKNOWN_THING,
    Answer,
    KalshiConnection,
    StatusAnswer,
)
from event_contracts.trading.venue_orders import (
    VenueOrder,
    epoch_seconds,
    order_of,
    order_request,
)
from execution.journal.intents import Intent
from execution.posting import NoAnswer, OrderWithheld
from foundation.errors import BrokerError, InputError, OrderRejected, SenselessAnswer
from trainingdata.feed.fields import Needed, words

log = logging.getLogger(__name__)

WRITES = "/portfolio/events/orders"
READS = "/portfolio/orders"
FILLS = "/portfolio/fills"
BUSY = 429
# Statuses below 500 that do not say what became of an order: 409 may be about this very one.
NOT_UNDERSTOOD = (408, 409, 425)
SKEW = np.timedelta64(1, "h")  # by which this machine's clock may run ahead of the venue's


class OrderVenue(KalshiConnection):
    """Requests about orders of one account, as `Venue` has them."""

    name: ClassVar[str] = "kalshi"
    one_order_an_id: ClassVar[bool] = False

    def estimated_now(self) -> np.datetime64:
        """The instant by this machine's clock; the venue shows none."""
        return self.now()

    def resting(self) -> tuple[VenueOrder, ...]:
        """The orders of the account that wait in a book, whoever sent them, oldest first."""
        what = "orders that wait"
        listed = self.pages(what, READS, "orders", VenueOrder.of, status="resting")
        return tuple(reversed([order for order in listed if order.remaining]))

    def order(self, order_id: str) -> VenueOrder | None:
        """The order with this id of the venue's; None for none."""
        what = f"order {order_id}"
        answer = self.get(what, f"{READS}/{order_id}", "order")
        if answer is None:
            return None
        with self.translated_errors(what):
            order = VenueOrder.of(answer)
            if order.order_id != order_id:
                raise SenselessAnswer("it is about another order")
        return order

    def find(self, client_order_id: str, intent: Intent | None) -> VenueOrder | None:
        """The order with this id of ours; None where the venue lists none.

        intent: what the book says of it; nothing is looked for without.
        """
        if intent is None:
            return None
        if intent.progress.venue_id:
            return self.order(intent.progress.venue_id)
        what = f"order {client_order_id}"
        query = {
            "ticker": order_of(intent).market,
            "min_ts": epoch_seconds(intent.sent_at - SKEW),
        }
        orders = self.pages(what, READS, "orders", VenueOrder.of, **query)
        found = [order for order in orders if order.is_of(intent)]
        if not found:
            found = self._behind_fills(what, query, orders, intent)
        if len(found) > 1:
            names = ", ".join(order.order_id for order in found)
            log.error(
                "%s: the venue has more than one order of this id: %s", client_order_id, names
            )
        # They are listed with the newest first.
        return found[-1] if found else None

    def _behind_fills(
        self, what: str, query: Answer, orders: Iterable[VenueOrder], intent: Intent
    ) -> list[VenueOrder]:
        """The order of an intent, where its fills are listed and it is not."""
        known = {order.order_id for order in orders}
        order_id = Needed("order_id", words)
        fills = self.pages(f"fills of {what}", FILLS, "fills", order_id.of, **query)
        names = dict.fromkeys(fills)
        read = [self.order(name) for name in names if name not in known]
        return [order for order in read if order is not None and order.is_of(intent)]

    def refreshed(self, placed: VenueOrder) -> VenueOrder:
        """The order as it is now; one that the venue knows no more does not answer."""
        order = self.order(placed.order_id)
        if order is None:
            raise BrokerError(f"order {placed.order_id}: the venue knows it no more")
        return order

    def cancel(self, placed: VenueOrder) -> None:
        """Have an order cancelled; there may be nothing to cancel any more, where it had ended."""
        with self.translated_errors(f"cancelling order {placed.order_id}"):
            try:
                self.request("DELETE", f"{WRITES}/{placed.order_id}")
            except StatusAnswer as error:
                if error.status != UNKNOWN_THING:
                    raise

    def post(self, intent: Intent, patience: float) -> VenueOrder:
        """The venue's answer to one order; a busy venue is not asked for it again."""
        from requests.exceptions import RequestException

        del patience
        name = intent.client_order_id
        try:
            answer = self.request("POST", WRITES, body=_request(intent))
            return VenueOrder.answered(intent, answer)
        except StatusAnswer as error:
            words = self.keys.redact(error.words)[:300]
            if error.status == BUSY:
                return self._despite_busy(intent)
            if error.status >= 500 or error.status < 400 or error.status in NOT_UNDERSTOOD:
                raise NoAnswer(f"status {error.status}") from None
            raise OrderRejected(f"{name}: rejected ({error.status}): {words}") from None
        except (RequestException, ValueError, KeyError, TypeError, RecursionError) as error:
            raise NoAnswer(type(error).__name__) from None

    def _despite_busy(self, intent: Intent) -> VenueOrder:
        """An order that was answered with 429: the venue says that it did nothing, and is looked at
        once.
        """
        name = intent.client_order_id
        try:
            order = self.find(name, intent)
        except BrokerError as error:
            raise NoAnswer(f"status {BUSY}, and {error}") from None
        if order is None:
            raise OrderWithheld(f"{name}: not sent: the venue has no room for requests ({BUSY})")
        return order

    def lands_no_more(self, intent: Intent, now: np.datetime64) -> bool:
        """Whether an order that the venue does not know by now will never reach it."""
        # The venue may take an order that has expired on its way as one that waits for nothing.
        landing = np.timedelta64(round(self.settings.landing_seconds * 1e9), "ns")
        ends = intent.sent_at if intent.expires_at is None else intent.expires_at
        return bool(now >= ends + landing)


def _request(intent: Intent) -> Answer:
    if intent.expires_at is None:
        raise InputError(f"{intent.client_order_id}: nothing says when it ends at the venue")
    return order_request(order_of(intent), intent.expires_at)
