"""The venue's address, its API keys, and the translation of its errors.

The SDK has no time limits, and its own retries repeat every method, POST included. Its retries are
therefore switched off, and `transport.py` sends its requests.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from foundation.errors import AccessDenied, BrokerError, InputError, to_one_line
from foundation.redaction import redact_secrets
from foundation.settings import setting, settings_class

if TYPE_CHECKING:
    from alpaca.common.rest import RESTClient

    from foundation.transport import RateLimiter, Signer, Transport

KEY_VARIABLE = "APCA_API_KEY_ID"
SECRET_VARIABLE = "APCA_API_SECRET_KEY"
AUTH_STATUSES = (401, 403)  # statuses of requests that the keys do not allow
MAX_REQUESTS_PER_MINUTE = 200  # the venue's limit for an account
LIVE_HOST = "api.alpaca.markets"
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The API keys of an account.

    The keys are never printed: the object prints as `ApiKeys()`, and `redact` removes both keys
    from any text.
    """

    key: str = field(repr=False)
    secret: str = field(repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ApiKeys:
        """Return the keys in the environment variables.

        Raises InputError for a missing key, or for characters that no key contains.
        """
        missing = [
            name
            for name in (KEY_VARIABLE, SECRET_VARIABLE)
            if not environment.get(name, "").strip()
        ]
        if missing:
            raise InputError(
                f"{missing[0]}: not set in the environment; set {KEY_VARIABLE} and"
                f" {SECRET_VARIABLE} to the account's API keys"
            )
        for name in (KEY_VARIABLE, SECRET_VARIABLE):
            # A header cannot carry other characters, and the library that refuses them may print
            # them.
            if not all("!" <= letter <= "~" for letter in environment[name].strip()):
                raise InputError(
                    f"{name}: contains an invalid character, such as a space or a line break (value"
                    " not shown); copy the key again"
                )
        return cls(environment[KEY_VARIABLE].strip(), environment[SECRET_VARIABLE].strip())

    @property
    def are_paper(self) -> bool:
        """True if the key id begins with PK, the prefix of Alpaca's paper accounts."""
        return self.key.startswith("PK")

    @property
    def are_live(self) -> bool:
        """True if the key id begins with AK, the prefix of accounts with real money."""
        return self.key.startswith("AK")

    def redact(self, text: str) -> str:
        return redact_secrets(text, {"[secret]": self.secret, "[key]": self.key})


CONNECT_TIMEOUT_SECONDS = (
    5.0  # seconds to connect; a longer handshake means that the network is down
)


@settings_class("broker")
class RequestSettings:
    """Settings of requests: time limits, and retries of reads."""

    read_timeout: float = setting(
        20.0, "maximum seconds between two parts of a response", ge=0.01, le=600
    )
    deadline: float = setting(
        30.0,
        "maximum seconds of a request with its retries, without waits that the venue requests",
        ge=0.01,
        le=600,
    )
    attempts: int = setting(
        4, "maximum attempts of a read request; orders are never repeated", ge=1, le=10
    )

    def build_transport(self, rate_limiter: RateLimiter, signer: Signer | None = None) -> Transport:
        """Return a transport with these time limits and retries.

        rate_limiter: rate limiter of the address.
        signer: function that returns headers for every attempt; None if headers are constant.
        """
        from foundation.transport import Transport

        timeout = CONNECT_TIMEOUT_SECONDS, self.read_timeout
        return Transport(timeout, self.deadline, self.attempts, rate_limiter, signer)


@settings_class("broker")
class BrokerSettings(RequestSettings):
    """Settings of the broker: its name and address, and which account is used."""

    name: str = setting("alpaca", "name of the broker, or of a registered plugin")
    url_override: str | None = setting(
        None, "address for trading and market data; null: Alpaca's own"
    )
    paper: bool = setting(True, "true: the paper account; false: the account with real money")
    requests_per_minute: int | None = setting(
        None,
        "maximum requests per minute to the address, retries included; null: 200, or no limit on "
        "loopback",
        ge=1,
    )

    def __post_init__(self) -> None:
        if self.url_override is not None:
            self._check_address(self.url_override)

    @staticmethod
    def _check_address(url: str) -> None:
        try:
            parts = urlsplit(url)
            host = parts.hostname
            sound = parts.scheme in ("http", "https") and parts.port != 0
        except ValueError:
            host = None
            sound = False
        shown = mask_password(url)
        if shown != url:
            raise InputError(
                f"broker.url_override: {shown!r} contains a user and a password; remove them, and"
                f" set {KEY_VARIABLE} and {SECRET_VARIABLE} instead"
            )
        if not sound or not host or parts.path not in ("", "/") or parts.query:
            raise InputError(
                f"broker.url_override: {url!r} is not an address; write scheme, host and port, such"
                " as http://127.0.0.1:8000"
            )
        if parts.scheme == "http" and host not in LOOPBACK_HOSTS:
            raise InputError(
                f"broker.url_override: {url} would send the keys unencrypted; use https"
            )

    @property
    def address(self) -> str | None:
        """`url_override` without a trailing slash, as the SDK requires; None for Alpaca itself."""
        return None if self.url_override is None else self.url_override.rstrip("/")

    @property
    def is_loopback(self) -> bool:
        return urlsplit(self.url_override or "").hostname in LOOPBACK_HOSTS

    @property
    def is_live_host(self) -> bool:
        return urlsplit(self.url_override or "").hostname == LIVE_HOST

    def _request_limit(self) -> int | None:
        """Return the limit of requests per minute; None: no limit."""
        if self.requests_per_minute is not None:
            return self.requests_per_minute
        return None if self.is_loopback else MAX_REQUESTS_PER_MINUTE

    def install_transport(self, client: RESTClient) -> Any:
        """Return the SDK's client, with a transport that has a deadline and retries only reads."""
        from foundation.transport import shared_rate_limiter

        pace = shared_rate_limiter(self.address or str(self.paper), self._request_limit())
        # The SDK repeats an order after a 504 and ignores retry_attempts=0; only this prevents it.
        client._retry = 0
        for scheme in ("http://", "https://"):
            client._session.mount(scheme, self.build_transport(pace))
        return client


def mask_password(url: str) -> str:
    """Return a URL with user and password replaced by `[secret]`."""
    return re.sub(r"(?<=//)[^/]*@|^[^/]*@", "[secret]@", url)


@contextmanager
def translate_venue_errors(
    request: str, settings: BrokerSettings, keys: ApiKeys | None
) -> Iterator[None]:
    """Convert any error of a request in the block to a one-line error without secrets.

    request: description of the request, for the message.
    settings: address of the venue.
    keys: keys to remove from the message, or None.

    Raises BrokerError with the request, its address, and the response; `AccessDenied` for keys
    without permission for the request; `ResponseRejected` for an `InvalidResponse`.
    """
    from alpaca.common.exceptions import APIError

    from foundation.transport import translate_request_errors

    def redact(text: str) -> str:
        return text if keys is None else keys.redact(text)

    where = settings.url_override or ("Alpaca (paper)" if settings.paper else "Alpaca")
    with translate_request_errors(f"{where}: {request}", redact):
        try:
            yield
        except APIError as error:
            kind = AccessDenied if error.status_code in AUTH_STATUSES else BrokerError
            # Redacted before it is cut: a part of a cut key would remain.
            words = to_one_line(redact(str(error)))
            raise kind(
                f"{redact(f'{where}: {request}')}: {_format_refusal(error, words)}"
            ) from None


def _format_refusal(error: Any, words: str) -> str:
    """Return the text about a rejected request, with advice if the keys lack permission.

    words: the venue's error message.
    """
    status = error.status_code
    if status in AUTH_STATUSES:
        hint = (
            f"check {KEY_VARIABLE}, {SECRET_VARIABLE} and broker.paper; without a paid data plan,"
            " set data.feed=iex"
        )
        return f"refused ({status}): {words}; {hint}"
    return f"HTTP status {status}: {words}"
