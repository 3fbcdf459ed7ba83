"""How an order reaches the venue: posted once, looked up by its id where its fate is open.

After an answer that leaves open whether an order was taken (a timeout, a lost connection, a status
of 500 and above, nonsense) the order is looked up by its `client_order_id` before anything else,
and never posted again. This is the only module that imports `alpaca.trading.client`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from foundation.errors import OrderRejected, OutcomeUnknown
from trainingdata.feed.endpoint import BrokerSettings, Keys, translated_errors

log = logging.getLogger(__name__)

Answer = Mapping[str, Any]

DONE = ("filled", "canceled", "expired", "rejected", "replaced", "done_for_day")
LOOK_DELAYS = (0.1, 0.5, 1.0, 2.0, 4.0)  # seconds before each look for an order whose fate is open
POSTS = 5  # tries of an order that the venue answers with 429, which says that it did nothing


class OrderDesk:
    """Requests about orders to one venue.

    client: the SDK's client, on a transport that repeats reads alone.
    pause: waits for so many seconds.
    """

    def __init__(
        self, settings: BrokerSettings, keys: Keys, pause: Callable[[float], None]
    ) -> None:
        from alpaca.trading.client import TradingClient

        self._settings = settings
        self._keys = keys
        self._pause = pause
        raw = TradingClient(
            keys.key,
            keys.secret,
            paper=settings.paper,
            raw_data=True,
            url_override=settings.address,
        )
        self.client = settings.secure_client(raw)

    def translated_errors(self, what: str) -> AbstractContextManager[None]:
        """The context in which the failure of a request becomes one line that names it."""
        return translated_errors(what, self._settings, self._keys)

    def find(self, what: str, path: str, query: dict[str, str] | None = None) -> Answer | None:
        """What the venue answers at a path; None where it knows no such thing.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        from alpaca.common.exceptions import APIError

        with self.translated_errors(what):
            try:
                answer: Answer = self.client.get(path, query)
                return answer
            except APIError as error:
                if error.status_code != 404:
                    raise
                return None

    def find_order(self, client_order_id: str) -> Answer | None:
        """The order with this id of ours; None where the venue has none.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        return self.find(
            f"order {client_order_id}",
            "/orders:by_client_order_id",
            {"client_order_id": client_order_id},
        )

    def post(self, request: Mapping[str, Any]) -> Answer:
        """Post an order once, and return what the venue says of it.

        Raises
        ------
        OrderRejected
            for an order that it does not take, or never took.
        OutcomeUnknown
            where nobody knows what became of it.
        """
        from alpaca.common.exceptions import APIError
        from requests.exceptions import RequestException

        name = str(request["client_order_id"])
        for _ in range(POSTS):
            try:
                return _checked(name, self.client.post("/orders", request))
            except APIError as error:
                status = error.status_code
                words = self._keys.redact(" ".join(str(error).split()))[:300]
                # 429 alone says that the venue has done nothing, so the same order may be sent.
                if status == 429:
                    self._pause(_retry_after(error))
                    continue
                # A refusal of the id says that the venue has an order of this id, which may be this
                # very order, sent before a crash. It is no refusal of the order.
                known_id = status == 422 and "client_order_id" in words
                if status is not None and status < 500 and not known_id:
                    raise OrderRejected(f"{name}: rejected ({status}): {words}") from None
                reason = f"status {status}"
            except (RequestException, ValueError, KeyError, TypeError) as error:
                reason = type(error).__name__
            log.warning(
                "%s: sent, and no answer that says what became of it (%s); looking it up",
                name,
                reason,
            )
            return self._look_up(name)
        raise OrderRejected(
            f"{name}: not sent: the venue has no room for requests ({POSTS} times 429)"
        )

    def _look_up(self, name: str) -> Answer:
        """What the venue knows of an order by its id of ours."""
        from alpaca.common.exceptions import APIError
        from requests.exceptions import RequestException

        # An order can land after a look that did not find it. Only the last look, seconds after the
        # order was sent, counts as proof that it never will.
        absent = False
        for seconds in LOOK_DELAYS:
            self._pause(seconds)
            try:
                return _checked(
                    name, self.client.get("/orders:by_client_order_id", {"client_order_id": name})
                )
            except APIError as error:
                absent = error.status_code == 404
            except (RequestException, ValueError, KeyError, TypeError):
                absent = False
        if absent:
            raise OrderRejected(f"{name}: the venue never took it; it is not sent again")
        raise OutcomeUnknown(f"{name}: sent, and the venue does not say what became of it")

    def refreshed(self, answer: Answer) -> Answer:
        """The order as it is now.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        return answer if answer["status"] in DONE else self._read(answer)

    def with_legs(self, answer: Answer) -> Answer:
        """The order with its legs, which not every answer holds.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        return answer if answer.get("legs") else self._read(answer)

    def _read(self, answer: Answer) -> Answer:
        with self.translated_errors(f"order {answer['client_order_id']}"):
            order: Answer = self.client.get(f"/orders/{answer['id']}", {"nested": "true"})
            return order

    def end(self, answer: Answer) -> Answer:
        """Cancel an order if it still works, and return it once nothing more can happen to it.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        from alpaca.common.exceptions import APIError

        if answer["status"] in DONE:
            return answer
        with self.translated_errors(f"cancelling order {answer['client_order_id']}"):
            try:
                self.client.delete(f"/orders/{answer['id']}")
            except APIError as error:
                # 422 says that there was nothing to cancel any more: it was done before.
                if error.status_code != 422:
                    raise
        for seconds in LOOK_DELAYS:
            answer = self.refreshed(answer)
            if answer["status"] in DONE:
                break
            self._pause(seconds)
        return answer


def poll_delays(patience: float) -> Iterator[float]:
    """Seconds before each look at an order, doubling up to one, until patience has ended."""
    waited = 0.0
    step = 0.05
    while waited < patience:
        yield step
        waited = waited + step
        step = min(2 * step, 1.0)


def _checked(name: str, answer: Answer) -> Answer:
    if answer["client_order_id"] != name or not (answer["id"] and answer["status"]):
        raise ValueError("an answer to another order, or half of one")
    return answer


def _retry_after(error: Any) -> float:
    """Seconds that a 429 asks to wait, 0 to 60; one where it does not say."""
    answer = error.response
    text = "" if answer is None else answer.headers.get("Retry-After", "")
    try:
        return min(max(float(text), 0.0), 60.0)
    except ValueError:
        return 1.0
