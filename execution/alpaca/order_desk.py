"""How an order reaches the venue: posted once, looked up by its own id where its fate is open,
never posted again.

After an answer that leaves open whether it was taken (a timeout, a lost connection, a status of 500
and above, nonsense) an order is looked up by its `client_order_id` before anything else. The only
file that imports `alpaca.trading.client`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from foundation.errors import OrderRejected, OutcomeUnknown
from trainingdata.feed.endpoint import BrokerSettings, Keys, asking

log = logging.getLogger(__name__)

Answer = Mapping[str, Any]

DONE = ("filled", "canceled", "expired", "rejected", "replaced", "done_for_day")
LOOKS = (0.1, 0.5, 1.0, 2.0, 4.0)  # seconds before each look for an order whose fate is open
BUSY = 5  # times that a venue may answer 429 to one order


class OrderDesk:
    """Requests for orders to a venue. client: the SDK's, on a transport that repeats reads
    alone; pause: how it waits.
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
        self.client = settings.made_safe(raw)

    def asking(self, what: str) -> Any:
        """The context in which a request's failure becomes one line."""
        return asking(what, self._settings, self._keys)

    def find(self, what: str, path: str, query: dict[str, str] | None = None) -> Answer | None:
        """The venue's answer; None where it knows no such thing.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        from alpaca.common.exceptions import APIError

        with self.asking(what):
            try:
                answer: Answer = self.client.get(path, query)
                return answer
            except APIError as error:
                if error.status_code != 404:
                    raise
                return None

    def named(self, client_order_id: str) -> Answer | None:
        """The order of an id of ours; None where the venue has none.

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
        """The venue's answer to an order, which is posted once.

        Raises
        ------
        OrderRejected
            for one that it does not take, or never took.
        OutcomeUnknown
            where nobody knows what became of it.
        """
        from alpaca.common.exceptions import APIError
        from requests.exceptions import RequestException

        name = str(request["client_order_id"])
        for _ in range(BUSY):
            try:
                return _of(name, self.client.post("/orders", request))
            except APIError as error:
                status = error.status_code
                says = self._keys.hidden(" ".join(str(error).split()))[:300]
                if status == 429:  # not taken: the venue has done nothing
                    self._pause(_retry_after(error))
                    continue
                if (
                    status is not None
                    and status < 500
                    and not (status == 422 and "client_order_id" in says)
                ):
                    raise OrderRejected(f"{name}: rejected ({status}): {says}") from None
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
            f"{name}: not sent: the venue has no room for requests ({BUSY} times 429)"
        )

    def _look_up(self, name: str) -> Answer:
        """What the venue knows of an order by its own id."""
        from alpaca.common.exceptions import APIError
        from requests.exceptions import RequestException

        absent = False
        for seconds in LOOKS:
            self._pause(seconds)
            try:
                return _of(
                    name, self.client.get("/orders:by_client_order_id", {"client_order_id": name})
                )
            except APIError as error:
                absent = error.status_code == 404
            except (RequestException, ValueError, KeyError, TypeError):
                absent = False
        if absent:
            raise OrderRejected(f"{name}: the venue never took it; it is not sent again")
        raise OutcomeUnknown(f"{name}: sent, and the venue does not say what became of it")

    def again(self, answer: Answer) -> Answer:
        """The order as it is now.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        return answer if answer["status"] in DONE else self._read(answer)

    def whole(self, answer: Answer) -> Answer:
        """The order as it is now, with its legs, which not every answer holds.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        return answer if answer.get("legs") else self._read(answer)

    def _read(self, answer: Answer) -> Answer:
        with self.asking(f"order {answer['client_order_id']}"):
            found: Answer = self.client.get(f"/orders/{answer['id']}", {"nested": "true"})
            return found

    def ended(self, answer: Answer) -> Answer:
        """The order once nothing more can happen to it: cancelled, if it still works.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        from alpaca.common.exceptions import APIError

        if answer["status"] in DONE:
            return answer
        with self.asking(f"cancelling order {answer['client_order_id']}"):
            try:
                self.client.delete(f"/orders/{answer['id']}")
            except APIError as error:
                if error.status_code != 422:  # 422: it was done before
                    raise
        for seconds in LOOKS:
            answer = self.again(answer)
            if answer["status"] in DONE:
                break
            self._pause(seconds)
        return answer


def _of(name: str, answer: Answer) -> Answer:
    if answer["client_order_id"] != name or not (answer["id"] and answer["status"]):
        raise ValueError("an answer to another order, or half of one")
    return answer


def _retry_after(error: Any) -> float:
    """Seconds that a 429 asks to wait, a second where it does not say."""
    answer = error.response
    asked = "" if answer is None else answer.headers.get("Retry-After", "")
    try:
        return min(max(float(asked), 0.0), 60.0)
    except ValueError:
        return 1.0
