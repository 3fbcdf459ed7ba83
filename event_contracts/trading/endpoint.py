"""Connection to an account at Kalshi: address, keys, and signed requests at a limited rate.

Only requests that read data are retried. Error messages have one line and contain no secrets.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import numpy as np

from event_contracts.trading.fields import UnreadableRow, build_unreadable_row
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.errors import AccessDenied, BrokerError, InputError, TradingPaused, to_one_line
from foundation.redaction import redact_secrets
from foundation.settings import setting, settings_class
from foundation.transport import RateLimiter
from trainingdata.feed.endpoint import AUTH_STATUSES, LOOPBACK_HOSTS, RequestSettings
from trainingdata.feed.fields import (
    OptionalField,
    RequiredField,
    as_mapping,
    optional_field,
    parse_object_list,
    parse_text,
    parse_timestamp,
)
from trainingdata.instants import format_utc

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

KEY_ID_VARIABLE = "KALSHI_API_KEY_ID"
PRIVATE_KEY_VARIABLE = "KALSHI_PRIVATE_KEY"
PRIVATE_KEY_PATH_VARIABLE = "KALSHI_PRIVATE_KEY_PATH"
API_ROOT = "/trade-api/v2"
# Headers of a request: the key's id, milliseconds since 1970, and the signature.
KEY_HEADER = "KALSHI-ACCESS-KEY"
TIMESTAMP_HEADER = "KALSHI-ACCESS-TIMESTAMP"
SIGNATURE_HEADER = "KALSHI-ACCESS-SIGNATURE"
VENUE_ADDRESSES = {  # as published in autumn 2026
    "demo": "https://external-api.demo.kalshi.co",
    "live": "https://external-api.kalshi.com",
}
_SECRET_LINES = re.compile(r"\[secret\]((\s|\\n)+\[secret\])+")  # lines of one key
_MAX_SHOWN_LINE_LENGTH = 8  # characters of a key's line; shorter ones could be any word

VenueMode = Literal["demo", "live"]
JsonObject = Mapping[str, Any]
Value = TypeVar("Value")
NOT_FOUND_STATUS = 404
# Codes of a refusal while trading is paused, as on Thursdays from 3 to 5 in New York. Seen in
# production in August 2026; the venue did nothing with these requests.
TRADING_PAUSED_CODE: Final = "trading_is_paused"
EXCHANGE_PAUSED_CODE: Final = "exchange_is_paused"
PAUSE_CODES = (TRADING_PAUSED_CODE, EXCHANGE_PAUSED_CODE)
PAGE_SIZE = 200  # entries of a page
MAX_PAGES = 500  # of one list; more indicate a loop of cursors
# Requests a second. The venue's lowest tier allows 20 reads and 10 writes; a client that writes
# reads at least as often.
REQUESTS_PER_SECOND = 20


@dataclass(frozen=True)
class KalshiKeys:
    """Credentials of an account: the id of an API key, and its private RSA key.

    Neither key is ever printed: the object's text is `KalshiKeys()`, and `redact` removes both from
    any text.

    key_id: the venue's id of the key.
    private_key: PEM, not encrypted.
    """

    key_id: str = field(repr=False)
    private_key: str = field(repr=False)

    def __post_init__(self) -> None:
        if not (self.key_id and self.key_id.isascii() and self.key_id.isprintable()):
            raise InputError(
                f"{KEY_ID_VARIABLE}: contains a character that no key id has (value not shown);"
                " copy the key id from the venue again"
            )
        _ = self.signing_key

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> KalshiKeys:
        """Return the keys from environment variables.

        The private key is PEM text, or the path of its file.
        """
        key_id = environment.get(KEY_ID_VARIABLE, "").strip()
        text = environment.get(PRIVATE_KEY_VARIABLE, "").strip()
        path = environment.get(PRIVATE_KEY_PATH_VARIABLE, "").strip()
        if not key_id or not (text or path):
            missing = PRIVATE_KEY_VARIABLE if key_id else KEY_ID_VARIABLE
            raise InputError(
                f"{missing} is not set in the environment; set {KEY_ID_VARIABLE}, and"
                f" {PRIVATE_KEY_VARIABLE} or {PRIVATE_KEY_PATH_VARIABLE}"
            )
        if not text:
            try:
                text = Path(path).read_text(encoding="ascii").strip()
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "not ASCII text"
                raise InputError(
                    f"{PRIVATE_KEY_PATH_VARIABLE}: {path} cannot be read: {why}; give the path of"
                    " the private key in PEM format"
                ) from None
        # Environment files write a line break as two characters.
        return cls(key_id, text.replace("\\n", "\n").strip())

    @cached_property
    def signing_key(self) -> RSAPrivateKey:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            key = load_pem_private_key(self.private_key.encode(), password=None)
        except TypeError:
            raise InputError(
                f"{PRIVATE_KEY_VARIABLE}: the private key has a password; give one without"
            ) from None
        except (ValueError, UnsupportedAlgorithm):
            raise InputError(
                f"{PRIVATE_KEY_VARIABLE}: not a private key in PEM format (value not shown); copy"
                " the key from the venue again"
            ) from None
        if not isinstance(key, RSAPrivateKey):
            raise InputError(
                f"{PRIVATE_KEY_VARIABLE}: not an RSA key; the venue only accepts RSA keys"
            )
        return key

    def signature_headers(self, method: str, path: str, timestamp_ms: int) -> dict[str, str]:
        """Return the signature headers of a request: RSA-PSS with SHA-256, in base64.

        path: path from the root of the host; its query is not signed.
        timestamp_ms: epoch milliseconds.
        """
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        bare = urlsplit(path).path
        digest = hashes.SHA256()
        scheme = padding.PSS(padding.MGF1(digest), salt_length=padding.PSS.DIGEST_LENGTH)
        signature = self.signing_key.sign(f"{timestamp_ms}{method}{bare}".encode(), scheme, digest)
        encoded = base64.b64encode(signature).decode()
        return {
            KEY_HEADER: self.key_id,
            TIMESTAMP_HEADER: str(timestamp_ms),
            SIGNATURE_HEADER: encoded,
        }

    def sign(self, method: str, path: str) -> Mapping[str, str]:
        """Return the signature headers of one attempt of a request, at this machine's time."""
        return self.signature_headers(method, path, time.time_ns() // 1_000_000)

    def redact(self, text: str) -> str:
        """Return a text without the key id, the private key, or any line of the private key."""
        for line in sorted(self.private_key.splitlines(), key=len, reverse=True):
            if len(line) > _MAX_SHOWN_LINE_LENGTH and not line.startswith("-----"):
                text = text.replace(line, "[secret]")
        text = _SECRET_LINES.sub("[secret]", text)
        return redact_secrets(text, {"[key]": self.key_id})


@settings_class("broker")
class KalshiSettings(RequestSettings):
    """Settings of the connection to Kalshi: address, time limits and confirmation of live mode."""

    mode: VenueMode = setting(
        "demo",
        "environment: `demo` has accounts without money; `live` requires confirm_live",
        key=False,
    )
    confirm_live: bool = setting(False, "required with mode=live: orders use real money", key=False)
    url_override: str | None = setting(None, "address of a venue on this machine; null: Kalshi's")
    late_arrival_seconds: float = setting(
        3600.0,
        "seconds after its expiry in which an order of unknown outcome may still arrive",
        ge=60,
        le=172_800,
    )

    def __post_init__(self) -> None:
        if self.url_override is not None:
            _check_address(self.url_override)
        elif self.mode == "live" and self.confirm_live is not True:
            raise InputError("mode: live trades real money; confirm it with confirm_live=true")

    @property
    def is_loopback(self) -> bool:
        """Return whether the address is on this machine: a practice server without real money."""
        return self.url_override is not None

    @property
    def address(self) -> str:
        """Return scheme, host and port of the REST interface."""
        return (self.url_override or VENUE_ADDRESSES[self.mode]).rstrip("/")


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.port != 0 and "@" not in parts.netloc
        host = parts.hostname
    except ValueError:
        sound, host = False, None
    if not sound or host not in LOOPBACK_HOSTS or parts.path not in ("", "/") or parts.query:
        raise InputError(
            "broker.url_override: not an address on this machine; set it to scheme, host and port,"
            " as http://127.0.0.1:8000, because keys are sent to no other host"
        )


class HttpStatusError(Exception):
    """Error for a response with an HTTP error status."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"HTTP status {status}: {words}")
        self.status = status
        self.response_text = words

    @property
    def venue_error_code(self) -> str:
        """Return the venue's error code, or an empty string.

        The code is at the top level or inside `error`.
        """
        try:
            body = json.loads(self.response_text)
            inner = body.get("error", body)
            return str(inner.get("code") or "")
        except (ValueError, AttributeError, RecursionError):
            return ""

    @property
    def is_pause(self) -> bool:
        """Return whether the venue refused the request because trading is paused."""
        return self.venue_error_code in PAUSE_CODES


class KalshiRateLimiter(RateLimiter):
    """Rate limiter with at most `REQUESTS_PER_SECOND` requests in any second."""

    def seconds_until_allowed(self) -> float:
        """Return the seconds to wait before the next request."""
        seconds = super().seconds_until_allowed()
        if len(self._sent) < REQUESTS_PER_SECOND:
            return seconds
        return max(seconds, self._sent[-REQUESTS_PER_SECOND] + 1.0 - self.time.monotonic())


@cache
def shared_rate_limiter(account_key: str) -> KalshiRateLimiter:
    """Return the rate limiter that all clients of an account share.

    account_key: address and key id, which identify the account.
    """
    return KalshiRateLimiter(None)


class KalshiConnection:
    """HTTP client of one account at Kalshi, with signed requests at a limited rate.

    time: clock of this machine, because the venue reports none.
    """

    def __init__(
        self, settings: KalshiSettings, keys: KalshiKeys, time: TimeSource = SYSTEM_TIME
    ) -> None:
        import requests

        self.settings = settings
        self.keys = keys
        self.time = time
        # A practice server allows any number of requests: its ticks may be a second apart.
        is_practice = settings.is_loopback
        pace = (
            RateLimiter(None)
            if is_practice
            else shared_rate_limiter(f"{settings.address} {keys.key_id}")
        )
        self._session = requests.Session()
        # A local server must not be reached through a proxy.
        self._session.trust_env = not settings.is_loopback
        transport = settings.build_transport(pace, keys.sign)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, transport)

    def now(self) -> np.datetime64:
        return self.time.now()

    @contextmanager
    def translate_errors(self, subject: str) -> Iterator[None]:
        """Translate errors of a request into errors with a one-line message without secrets.

        Raises `TradingPaused`, `AccessDenied` or another `BrokerError`.

        subject: object of the request, for the message.
        """
        from foundation.transport import translate_request_errors

        venue = self.settings.url_override or f"Kalshi ({self.settings.mode})"
        asked = f"{venue}: {subject}"
        with translate_request_errors(asked, self.keys.redact):
            try:
                yield
            except HttpStatusError as error:
                words = to_one_line(self.keys.redact(error.response_text))
                if error.is_pause:
                    why = f"trading is paused ({error.venue_error_code}){self.format_resume_time()}"
                    raise TradingPaused(f"{asked}: {why}") from None
                if error.status not in AUTH_STATUSES:
                    raise BrokerError(f"{asked}: HTTP status {error.status}: {words}") from None
                hint = f"check {KEY_ID_VARIABLE}, {PRIVATE_KEY_VARIABLE}, mode and the system clock"
                why = f"access denied ({error.status}): {words}; {hint}"
                raise AccessDenied(f"{asked}: {why}") from None

    def request(
        self,
        method: str,
        path: str,
        query: JsonObject | None = None,
        body: JsonObject | None = None,
    ) -> JsonObject:
        """Send one request and return the JSON object of the response.

        Raises `HttpStatusError` for an HTTP error status, `RequestException` if there is no
        complete response, and `InvalidResponse` if the response is not a JSON object.

        path: path after /trade-api/v2.
        query: query parameters.
        body: JSON body.
        """
        response = self._session.request(
            method, f"{self.settings.address}{API_ROOT}{path}", params=query, json=body
        )
        if not 200 <= response.status_code < 300:
            raise HttpStatusError(response.status_code, " ".join(response.text.split()))
        # The response to a cancellation may be empty.
        return as_mapping(response.json()) if response.content else {}

    def format_resume_time(self) -> str:
        """Query when the venue expects a trading pause to end; return it as text, empty if unknown.

        Errors of the query are ignored.
        """
        from requests.exceptions import RequestException

        try:
            status = self.request("GET", "/exchange/status")
            ends = optional_field("exchange_estimated_resume_time", parse_timestamp).read(status)
        except (BrokerError, HttpStatusError, RequestException, ValueError, RecursionError):
            return ""
        return "" if ends is None else f"; the venue expects to resume at {format_utc(ends)}"

    def get_object(self, subject: str, path: str, name: str) -> JsonObject | None:
        """Read one object and return it; None if the venue responds that it does not exist.

        subject: object of the request, for error messages.
        name: key of the object in the response.
        """
        with self.translate_errors(subject):
            try:
                answer = self.request("GET", path)
            except HttpStatusError as error:
                if error.status != NOT_FOUND_STATUS:
                    raise
                return None
            return RequiredField(name, as_mapping).read(answer)

    def list_entries(
        self, subject: str, path: str, name: str, parse: Callable[[JsonObject], Value], **query: Any
    ) -> list[Value]:
        """Read all pages of a list and return its parsed entries, in the venue's order.

        subject: object of the request, for error messages.
        name: key of the list in each response.
        """
        listed = RequiredField(name, parse_object_list)
        cursor = OptionalField("cursor", parse_text, "")
        query = {**query, "limit": PAGE_SIZE}
        found: list[Value] = []
        for _ in range(MAX_PAGES):
            with self.translate_errors(subject):
                page = self.request("GET", path, query)
                found += map(parse, listed.read(page))
                query["cursor"] = cursor.read(page)
            if not query["cursor"]:
                return found
        raise BrokerError(f"{subject}: the response has more than {MAX_PAGES} pages")

    def list_readable_entries(
        self, subject: str, path: str, name: str, parse: Callable[[JsonObject], Value], **query: Any
    ) -> tuple[list[Value], tuple[UnreadableRow, ...]]:
        """Read all pages of a list; return its parsed entries, and rows that cannot be read.

        An unreadable entry without a market fails the whole list.

        subject: object of the request, for error messages.
        name: key of the list in each response.
        """
        unread: list[UnreadableRow] = []

        def parse_or_record_unreadable(entry: JsonObject) -> list[Value]:
            try:
                return [parse(entry)]
            except ValueError as error:
                row = build_unreadable_row(subject, entry, error)
                if row is None:
                    raise
                unread.append(row)
                return []

        pages = self.list_entries(subject, path, name, parse_or_record_unreadable, **query)
        return [value for found in pages for value in found], tuple(unread)
