"""What the venue says of its orders, and how one that works is ended."""

from __future__ import annotations

import logging
from collections.abc import Callable

from execution.alpaca.connection import UNKNOWN_THING, Answer, VenueConnection, elapsed_seconds
from execution.alpaca.fields import OrderEntry
from execution.alpaca.order_answers import checked_order, is_done
from execution.posting import LOOK_DELAYS
from foundation.errors import SenselessAnswer
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.feed.fields import as_mapping

log = logging.getLogger(__name__)

ENDING = 30.0  # seconds for the requests that end an order
CANCELS = 4  # tries of a cancellation, which changes nothing when it is done again
SUCCESSORS = 10  # of an order that was replaced, each by the next
PriceOf = Callable[[str], float | None]

OTHER_STATE = 422  # also where an id was used before, or there is nothing to cancel any more
BUSY = 429


def no_price(symbol: str) -> float | None:
    """No price of any symbol was seen."""
    del symbol
    return None


class OrderReader(VenueConnection):
    """Requests that read and end orders at one venue.

    What cannot be believed of an order that the venue has taken is asked for once more.

    pause: waits for so many seconds.
    clock: seconds that only increase.
    price_of: the price of a symbol that was seen last, USD; None for none.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        keys: Keys,
        pause: Callable[[float], None],
        clock: Callable[[], float] = elapsed_seconds,
        price_of: PriceOf = no_price,
    ) -> None:
        super().__init__(settings, keys, clock)
        self._pause = pause
        self._price_of = price_of

    def find_order(self, client_order_id: str) -> Answer | None:
        """The order with this id of ours; None where the venue has none.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        what = f"order {client_order_id}"
        query = {"client_order_id": client_order_id}
        answer = self.find(what, "/orders:by_client_order_id", query)
        if answer is None:
            return None
        with self.translated_errors(what):
            return self._followed(self._checked(client_order_id, answer))

    def _checked(self, name: str, answer: Answer) -> Answer:
        """The answer, which is about the order with this id of ours, and can be believed."""
        return checked_order(name, answer, self._price_of)

    def _order(self, name: str, venue_id: str) -> Answer:
        """The order of these ids, asked for twice where the first answer cannot be believed."""
        try:
            return self._checked(name, self._get(venue_id))
        except SenselessAnswer as error:
            log.warning("order %s is looked up again: %s", name, error)
            self._pause(LOOK_DELAYS[0])
            return self._checked(name, self._get(venue_id))

    def refreshed(self, answer: Answer) -> Answer:
        """The order as it is now.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or answers about something else.
        """
        return answer if is_done(answer) else self._read(answer)

    def with_legs(self, answer: Answer) -> Answer:
        """The order with its legs, which not every answer holds.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or answers about something else.
        """
        if OrderEntry.legs.of(answer):
            return answer
        name = OrderEntry.client_order_id.of(answer)
        with self.translated_errors(f"order {name}"):
            return self._order(name, OrderEntry.id.of(answer))

    def _read(self, answer: Answer) -> Answer:
        name = OrderEntry.client_order_id.of(answer)
        with self.translated_errors(f"order {name}"):
            fresh = self._order(name, OrderEntry.id.of(answer))
            if "predecessor" in answer:
                fresh = {**fresh, "predecessor": answer["predecessor"]}
            return self._followed(fresh)

    def _get(self, venue_id: str) -> Answer:
        """The order that has this id of the venue's."""
        answer = as_mapping(self.client.get(f"/orders/{venue_id}", {"nested": "true"}))
        if OrderEntry.id.of(answer) != venue_id:
            raise SenselessAnswer("it is about another order")
        return answer

    def _followed(self, answer: Answer) -> Answer:
        """The order that has taken this one's place, with this one as its predecessor."""
        for _ in range(SUCCESSORS):
            if OrderEntry.status.of(answer) != "replaced":
                return answer
            successor = OrderEntry.replaced_by.of(answer)
            if successor is None:
                raise SenselessAnswer("it was replaced, and replaced_by does not say by what")
            fresh = self._get(successor)
            checked = self._checked(OrderEntry.client_order_id.of(fresh), fresh)
            answer = {**checked, "predecessor": answer}
        raise SenselessAnswer(f"it was replaced more than {SUCCESSORS - 1} times")

    def end(self, answer: Answer) -> Answer:
        """Cancel an order if it still works, and return it as it is after that.

        It may still work then, where the venue takes long. The requests take 30 seconds at most.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        from foundation.transport import time_limit

        if is_done(answer):
            return answer
        with time_limit(ENDING):
            self._cancel(answer)
            for seconds in LOOK_DELAYS:
                answer = self.refreshed(answer)
                if is_done(answer):
                    break
                self._pause(seconds)
        return answer

    def _cancel(self, answer: Answer) -> None:
        from alpaca.common.exceptions import APIError
        from requests.exceptions import RequestException

        name = OrderEntry.client_order_id.of(answer)
        for delay in (*LOOK_DELAYS[: CANCELS - 1], None):
            with self.translated_errors(f"cancelling order {name}"):
                try:
                    self.client.delete(f"/orders/{OrderEntry.id.of(answer)}")
                    return
                except APIError as error:
                    status = error.status_code
                    # There was nothing to cancel any more: it was done before.
                    if status in (OTHER_STATE, UNKNOWN_THING):
                        return
                    passing = status is None or status >= 500 or status == BUSY
                    if delay is None or not passing:
                        raise
                    log.warning("%s: cancelling it was answered with %s", name, status)
                except RequestException as error:
                    if delay is None:
                        raise
                    log.warning("%s: cancelling it: no answer (%s)", name, type(error).__name__)
            self._pause(delay)
