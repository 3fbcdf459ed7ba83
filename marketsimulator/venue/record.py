"""What a practice venue has written down, whom it tells of orders, and which of a client's ids
it has seen.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from marketsimulator.venue.tickets import NAMES, Answer, Refused, stamp

ACCOUNT = str(uuid.uuid5(NAMES, "account"))
Listener = Callable[[Answer], None]


class Record:
    """Activities of one account in the order they came, listeners to order news, and the ids in
    use.

    clock: where the venue stands.
    """

    def __init__(self, clock: Callable[[], np.datetime64]) -> None:
        self._clock = clock
        self.activities: list[Answer] = []
        self.listeners: list[Listener] = []
        self._ids: set[str] = set()

    @property
    def now(self) -> np.datetime64:
        """Where the venue's clock stands."""
        return self._clock()

    def refuse_known(self, client_order_id: str) -> None:
        """Refuse an id that an order has had.

        Raises
        ------
        Refused
            where it has.
        """
        if client_order_id in self._ids:
            raise Refused(422, 40010001, "client_order_id must be unique")

    def keep(self, client_order_id: str) -> None:
        """An order has this id from now on."""
        self._ids.add(client_order_id)

    def note(self, activity: Answer) -> None:
        """Write down what has happened to the account."""
        number = f"{stamp(self.now)}::{len(self.activities):09d}"
        shared = {
            "id": number,
            "account_id": ACCOUNT,
            "description": activity["activity_type"],
            "status": "executed",
        }
        self.activities.append({**shared, **activity})

    def tell(
        self,
        event: str,
        identity: str,
        order: Callable[[], Answer],
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Tell every listener what an order, in Alpaca's words, has done. identity: of the
        order and how far it is.
        """
        if not self.listeners:
            return
        execution = str(uuid.uuid5(NAMES, identity))
        shared = {"event": event, "execution_id": execution, "timestamp": stamp(self.now)}
        for listener in self.listeners:
            listener({**shared, "order": order(), **(more or {})})
