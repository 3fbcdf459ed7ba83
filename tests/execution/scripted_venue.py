"""A venue of orders that says what it was told to, and what stands over it."""

# Private access: scripted answers and waits replace the client and the clock of the broker.
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import requests
from alpaca.common.exceptions import APIError

from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.order_venue import OrderVenue
from execution.alpaca.placed_order import AlpacaOrder
from execution.journal.order_store import OrderIntent, OrderStore
from execution.journal.outbox import Outbox
from execution.orders.gate import AnyOrder
from tests.support.connections import open_for_test
from tests.support.passing import Passing
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings

KEYS = ApiKeys("KEYKEYKEY", "SECRETSECRET")
ALPACA = BrokerSettings()
FACTS = {"cash": "1000", "multiplier": "4", "shorting_enabled": True}
CLOCK = {"timestamp": "2024-03-05T17:30:20Z"}
NOW = np.datetime64("2024-03-05T17:30:20", "ns")
SOON = NOW + np.timedelta64(60, "s")
Said = Any  # an answer, or what is raised instead


def shown(text: str) -> dict[str, str]:
    """What the clock says."""
    return {"timestamp": text}


def status(code: int, words: str = "no", **headers: str) -> APIError:
    response = requests.Response()
    response.status_code = code
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return APIError(f'{{"message": "{words}"}}', requests.HTTPError(response=response))


def lost() -> requests.ConnectionError:
    return requests.ConnectionError("lost")


def taken(name: str = "o-1", state: str = "new", **more: Any) -> dict[str, Any]:
    return {"id": f"id-{name}", "client_order_id": name, "status": state, **more}


def placed(answer: Any, replaced: Any = None) -> AlpacaOrder:
    return AlpacaOrder(answer, None if replaced is None else AlpacaOrder(replaced))


class Venue:
    """Says what it was told to, in its order; the last word again and again."""

    def __init__(self, **words: list[Said]) -> None:
        self.words = {"clock": [CLOCK], **words}
        self.asked = list[tuple[str, str, Any]]()

    def _say(self, what: str, path: str, told: Any) -> Any:
        self.asked.append((what, path, told))
        said = self.words[what].pop(0) if len(self.words[what]) > 1 else self.words[what][0]
        if isinstance(said, Exception):
            raise said
        return said

    def post(self, path: str, data: Any) -> Any:
        return self._say("post", path, data)

    def get(self, path: str, query: Any = None) -> Any:
        return self._say("open" if path == "/orders" else "get", path, query)

    def delete(self, path: str) -> Any:
        return self._say("delete", path, None)

    def get_all_positions(self) -> Any:
        return self._say("positions", "", None)

    def get_account(self) -> Any:
        return self._say("account", "", None)

    def get_clock(self) -> Any:
        return self._say("clock", "", None)

    def times(self, what: str) -> int:
        return sum(asked == what for asked, _, _ in self.asked)

    @property
    def posted(self) -> list[str]:
        """Our ids of what it was asked to take."""
        return [told["client_order_id"] for what, _, told in self.asked if what == "post"]


class Ours(dict[str, AnyOrder]):
    """Orders that are all ours, of terms that are not looked up."""

    def __contains__(self, name: object) -> bool:
        return True


def venue_at(
    settings: BrokerSettings = ALPACA, **words: list[Said]
) -> tuple[OrderVenue, Venue, list[float]]:
    """Orders at a venue, what it says, and how long was waited for it."""
    client, passing = Venue(**words), Passing()
    orders = OrderVenue(settings, KEYS, passing.time)
    orders.client = client
    return orders, client, passing.waited


def outbox_at(
    book: OrderStore | None = None, **words: list[Said]
) -> tuple[Outbox[AlpacaOrder], Venue, list[float]]:
    orders, client, waited = venue_at(**words)
    return Outbox(orders, book or book_of()), client, waited


def book_of(*intents: OrderIntent) -> OrderStore:
    book = OrderStore(open_for_test())
    for each in intents:
        book.record_submission(each)
    return book


def broker_at(
    patience: float = 10.0, book: OrderStore | None = None, job: str = "", **words: list[Said]
) -> tuple[AlpacaBroker, Venue, list[float], list[float]]:
    """A broker, the venue it asks, how long it has waited in all, and between looks at orders."""
    told = {"open": [[]], "positions": [[]], "account": [FACTS], "clock": [CLOCK], **words}
    venue, passing, between = Venue(**told), Passing(), list[float]()

    def poll(seconds: float) -> None:
        between.append(seconds)
        passing.wait(seconds)

    broker = AlpacaBroker(
        *(ALPACA, KEYS), patience=patience, book=book or book_of(), job=job, time=passing.time
    )
    broker._venue.time = replace(passing.time, wait=poll)
    broker._venue.client = venue  # type: ignore[assignment]
    return broker, venue, passing.waited, between
