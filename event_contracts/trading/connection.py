"""Signed requests to one account: paced by its tokens, reads alone repeated, fields in answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from event_contracts.trading.endpoint import (
    ROOT,
    KalshiKeys,
    KalshiSettings,
    StatusAnswer,
    translated_errors,
)
from event_contracts.trading.fields import Page
from event_contracts.trading.token_pace import shared_token_pace
from foundation.clock import OURS, Time
from foundation.errors import SenselessAnswer
from trainingdata.feed.fields import Needed, as_mapping, entries

Answer = Mapping[str, Any]

UNKNOWN_THING = 404
LISTED = 200  # entries of a page
PAGES = 500  # of one answer; more than that goes round in circles


class KalshiConnection:
    """Requests to one account.

    settings: where it is.
    keys: what opens it.
    time: this machine's; the venue shows none.
    """

    def __init__(
        self,
        settings: KalshiSettings,
        keys: KalshiKeys,
        time: Time = OURS,
    ) -> None:
        import requests

        from foundation.transport import Transport

        self.settings = settings
        self.keys = keys
        self.time = time
        pace = shared_token_pace(f"{settings.address} {keys.key_id}")
        self._session = requests.Session()
        # A proxy would stand between this machine and itself.
        self._session.trust_env = not settings.on_this_machine
        timeout = (settings.connect_timeout, settings.read_timeout)
        transport = Transport(timeout, settings.deadline, settings.attempts, pace, keys.sign)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, transport)

    def now(self) -> np.datetime64:
        """The instant by this machine's clock."""
        return self.time.now()

    def translated_errors(self, what: str) -> AbstractContextManager[None]:
        """The context in which the failure of a request becomes one line that names it."""
        return translated_errors(what, self.settings, self.keys)

    def request(
        self, method: str, path: str, query: Answer | None = None, body: Answer | None = None
    ) -> Answer:
        """The fields that one request is answered with; path: what follows /trade-api/v2.

        Raises
        ------
        StatusAnswer
            for a status that is no success.
        RequestException
            for no whole answer.
        SenselessAnswer
            for an answer without fields.
        """
        response = self._session.request(
            method, f"{self.settings.address}{ROOT}{path}", params=query, json=body
        )
        if not 200 <= response.status_code < 300:
            raise StatusAnswer(response.status_code, " ".join(response.text.split()))
        # A cancellation may be answered with nothing.
        return as_mapping(response.json()) if response.content else {}

    def get(self, what: str, path: str, **query: Any) -> Answer:
        """What a read is answered with.

        what: is read, for messages.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        with self.translated_errors(what):
            return self.request("GET", path, query)

    def find(self, what: str, path: str, name: str) -> Answer | None:
        """The object of this name in what a read is answered with; None where there is no such.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        with self.translated_errors(what):
            try:
                answer = self.request("GET", path)
            except StatusAnswer as error:
                if error.status != UNKNOWN_THING:
                    raise
                return None
            return Needed(name, as_mapping).of(answer)

    def pages(self, what: str, path: str, name: str, **query: Any) -> Iterator[Answer]:
        """The entries of a list, from all of its pages, in the venue's order.

        name: of the list in an answer.

        Raises
        ------
        BrokerError
            for a venue that does not answer, and for pages without an end.
        """
        listed = Needed(name, entries)
        seen = {""}
        cursor = ""
        for _ in range(PAGES):
            with self.translated_errors(what):
                page = self.request(
                    "GET", path, {**query, "limit": LISTED} | ({"cursor": cursor} if cursor else {})
                )
                found = listed.of(page)
                cursor = Page.cursor.of(page)
                if cursor and cursor in seen:
                    raise SenselessAnswer("cursor leads back to a page that was read")
            yield from found
            if not cursor:
                return
            seen.add(cursor)
        with self.translated_errors(what):
            raise SenselessAnswer(f"it has more than {PAGES} pages")
