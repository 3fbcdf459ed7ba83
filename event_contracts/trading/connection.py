"""Signed requests to one account: paced by its tokens, reads alone repeated, fields in answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import numpy as np

from event_contracts.trading.endpoint import KEY_ID, PRIVATE_KEY, ROOT, KalshiKeys, KalshiSettings
from foundation.clock import OURS, Time
from foundation.errors import AccessRefused, BrokerError, in_one_line
from foundation.transport import Pace
from trainingdata.feed.fields import Needed, Optional, as_mapping, entries, words

Answer = Mapping[str, Any]
Value = TypeVar("Value")

REFUSALS = (401, 403)  # statuses that say what the keys do not open
UNKNOWN_THING = 404
LISTED = 200  # entries of a page
PAGES = 500  # of one answer; more than that goes round in circles
READS = ("GET", "HEAD")
# Tokens a second, and in a full bucket: of reads, and of all others. They are those of the venue's
# lowest tier: an account that may ask for more is asked less of.
RATES = (200.0, 100.0)
COST = 10  # tokens of a request


class StatusAnswer(Exception):
    """An answer whose status is no success.

    status: of HTTP.
    words: of the answer.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"status {status}: {words}")
        self.status = status
        self.words = words


class TokenPace(Pace):
    """Requests wait until their bucket holds what they cost; both are full at first."""

    def __init__(self, time: Time = OURS) -> None:
        super().__init__(None, time)
        self._tokens = list(RATES)
        self._filled_at = time.elapsed()

    def delay(self, method: str = "", path: str = "") -> float:
        """Seconds until a bucket holds what a request costs."""
        now = self.time.elapsed()
        for k, rate in enumerate(RATES):
            self._tokens[k] = min(self._tokens[k] + (now - self._filled_at) * rate, rate)
        self._filled_at = now
        k = _bucket(method)
        return max((COST - self._tokens[k]) / RATES[k], super().delay(method, path), 0.0)

    def _count(self, method: str, path: str) -> None:
        self._tokens[_bucket(method)] -= COST


def _bucket(method: str) -> int:
    return 0 if method in READS else 1


@cache
def shared_token_pace(where: str) -> TokenPace:
    """The one pace of all clients of an account; where: an address and what names the account."""
    return TokenPace()


class KalshiConnection:
    """Requests to one account.

    settings: where it is.
    keys: what opens it.
    time: this machine's; the venue shows none.

    Raises
    ------
    BrokerError
        in every method but `request`, for a venue that does not answer.
    """

    def __init__(self, settings: KalshiSettings, keys: KalshiKeys, time: Time = OURS) -> None:
        import requests

        self.settings = settings
        self.keys = keys
        self.time = time
        pace = shared_token_pace(f"{settings.address} {keys.key_id}")
        self._session = requests.Session()
        # A proxy would stand between this machine and itself.
        self._session.trust_env = not settings.on_this_machine
        transport = settings.transport(pace, keys.sign)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, transport)

    def now(self) -> np.datetime64:
        """The instant by this machine's clock."""
        return self.time.now()

    @contextmanager
    def translated_errors(self, what: str) -> Iterator[None]:
        """Turn whatever goes wrong with a request into one line without secrets.

        what: is requested, for the message.
        """
        from foundation.connection_words import failures_in_words

        venue = self.settings.url_override or f"Kalshi ({self.settings.mode})"
        asked = f"{venue}: {what}"
        with failures_in_words(asked, self.keys.redact):
            try:
                yield
            except StatusAnswer as error:
                words = in_one_line(self.keys.redact(error.words))
                if error.status not in REFUSALS:
                    raise BrokerError(f"{asked}: status {error.status}: {words}") from None
                hint = f"check {KEY_ID}, {PRIVATE_KEY}, mode and this machine's clock"
                why = f"refused ({error.status}): {words}; {hint}"
                raise AccessRefused(f"{asked}: {why}") from None

    def request(
        self, method: str, path: str, query: Answer | None = None, body: Answer | None = None
    ) -> Answer:
        """The fields that one request is answered with; path: what follows /trade-api/v2.

        Raises `StatusAnswer` for a status that is no success; `RequestException` for no whole
        answer; `SenselessAnswer` for an answer without fields.
        """
        response = self._session.request(
            method, f"{self.settings.address}{ROOT}{path}", params=query, json=body
        )
        if not 200 <= response.status_code < 300:
            raise StatusAnswer(response.status_code, " ".join(response.text.split()))
        # A cancellation may be answered with nothing.
        return as_mapping(response.json()) if response.content else {}

    def get(self, what: str, path: str, name: str) -> Answer | None:
        """The object of this name in what a read is answered with; None where there is no such."""
        with self.translated_errors(what):
            try:
                answer = self.request("GET", path)
            except StatusAnswer as error:
                if error.status != UNKNOWN_THING:
                    raise
                return None
            return Needed(name, as_mapping).of(answer)

    def pages(
        self, what: str, path: str, name: str, parse: Callable[[Answer], Value], **query: Any
    ) -> list[Value]:
        """The entries of a list of this name, from all of its pages, in the venue's order."""
        listed = Needed(name, entries)
        cursor = Optional("cursor", words, "")
        query = {**query, "limit": LISTED}
        found: list[Value] = []
        for _ in range(PAGES):
            with self.translated_errors(what):
                page = self.request("GET", path, query)
                found += map(parse, listed.of(page))
                query["cursor"] = cursor.of(page)
            if not query["cursor"]:
                return found
        raise BrokerError(f"{what}: it has more than {PAGES} pages")
