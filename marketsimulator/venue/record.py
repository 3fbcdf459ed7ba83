"""What a practice venue writes down, and which client ids it has seen."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable

import numpy as np

from marketsimulator.venue.tickets import Answer, Refused, timestamp
from trainingdata.instants import DAY
from trainingdata.sessions import session_of, sessions_between


class Record:
    """Activities of one account in the order they came, and ids in use.

    Stocks and options share one record, because at Alpaca they share one account.
    """

    def __init__(self, clock: Callable[[], np.datetime64]) -> None:
        """clock: where the venue stands."""
        self._clock = clock
        # A clock that runs by itself passes on between two instants of the panel.
        self.running: Callable[[], np.datetime64] = clock
        # Each start is another account, whose orders are none of those of the one before.
        self.account_id = str(uuid.uuid4())
        self.activities: list[Answer] = []
        self._used_ids: set[str] = set()
        self._late_kinds: frozenset[str] = frozenset()
        self._listed_from: dict[str, np.datetime64] = {}

    @property
    def now(self) -> np.datetime64:
        """Where the venue's clock stands."""
        return self._clock()

    @property
    def stamp(self) -> str:
        """What the clock shows, as the API writes instants."""
        return timestamp(max(self.now, self.running()))

    def refuse_used_id(self, client_order_id: str) -> None:
        """Refuse an id that an order has had.

        As at Alpaca, an id stays used once its order has ended or been cancelled.

        Raises
        ------
        Refused
            where it has.
        """
        if client_order_id in self._used_ids:
            raise Refused(422, 40010001, "client_order_id must be unique")

    def use_id(self, client_order_id: str) -> None:
        """An order has this id from now on."""
        self._used_ids.add(client_order_id)

    def note_activity(self, activity: Answer) -> None:
        """Write down what has happened to the account."""
        number = f"{timestamp(self.now)}::{len(self.activities):09d}"
        shared = {
            "id": number,
            "account_id": self.account_id,
            "description": activity["activity_type"],
            "status": "executed",
        }
        self.activities.append({**shared, **activity})
        if activity["activity_type"] in self._late_kinds:
            self._listed_from[number] = _next_opening(self.now)

    def list_late(self, kinds: Iterable[str]) -> None:
        """Activities of these kinds are listed once the next session opens, as paper accounts do.

        Positions change at once all the same. It holds for what happens from now on; no kinds list
        everything at once.
        """
        self._late_kinds = frozenset(kinds)

    def listed(self) -> list[Answer]:
        """The activities that a client may see by now, in the order they came."""
        now = self.now
        return [each for each in self.activities if self._listed_from.get(each["id"], now) <= now]


def _next_opening(now: np.datetime64) -> np.datetime64:
    """When the first session after an instant opens."""
    today = now.astype("datetime64[D]")
    sessions = (session_of(day) for day in sessions_between(today - DAY, today + 14 * DAY))
    return next(each.opens for each in sessions if each is not None and each.opens > now)
