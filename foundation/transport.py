"""HTTP requests with a total deadline and a shared rate limit, which never repeat an order.

The HTTP libraries limit each wait for bytes, not the sum of waits: a server that sends a byte a
second never times out. This module shuts down the connection at the deadline, in any phase of the
request.
"""

from __future__ import annotations

import logging
import math
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import (
    ChunkedEncodingError,
    ConnectionError,
    JSONDecodeError,
    ReadTimeout,
    RequestException,
    Timeout,
    TooManyRedirects,
)
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.errors import (
    BrokerError,
    InputError,
    InvalidResponse,
    ResponseRejected,
    to_one_line,
)

log = logging.getLogger(__name__)

SECONDS_PER_MINUTE = 60.0  # seconds
Signer = Callable[[str, str], Mapping[str, str]]  # headers of a method and a path with its query

MAX_PAUSE_SECONDS = 60.0  # longest pause that a venue may ask for, seconds
MIN_LOGGED_WAIT_SECONDS = 5.0  # seconds from which a wait is logged with its reason
_JITTER_RANDOM = random.Random()  # own generator: the program's may be seeded
RETRIED_STATUSES = (429, 500, 502, 503, 504)  # statuses after which a read is repeated


class DeadlineGuard:
    """A context manager that shuts down a request's connection after `seconds` (above 0)."""

    def __init__(self, seconds: float) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True
        self.is_expired = False

    def __enter__(self) -> DeadlineGuard:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def guard(self, connection: socket.socket | None) -> None:
        """Guard this connection in place of the previous one."""
        with self._lock:
            self._socket = connection
            if self.is_expired:
                self._shut_down_socket()

    def _expire(self) -> None:
        with self._lock:
            self.is_expired = True
            self._shut_down_socket()

    def _shut_down_socket(self) -> None:
        if self._socket is not None:
            # It may have been closed, or never have been connected.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


_CURRENT_GUARD: ContextVar[DeadlineGuard | None] = ContextVar("watch", default=None)
_CURRENT_DEADLINE: ContextVar[float] = ContextVar("until", default=math.inf)


@contextmanager
def limit_request_time(seconds: float) -> Iterator[None]:
    """Limit the total time of all requests in the block to `seconds`, pauses included.

    Shorter deadlines of single requests still apply.
    """
    token = _CURRENT_DEADLINE.set(min(_CURRENT_DEADLINE.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _CURRENT_DEADLINE.reset(token)


def _seconds_left() -> float:
    """Return the seconds left of the `limit_request_time` in force; infinite without a limit."""
    return _CURRENT_DEADLINE.get() - time.monotonic()


class _GuardedConnection(HTTPConnection):
    """A connection that the guard of the current request can shut down."""

    def connect(self) -> None:
        super().connect()
        self._guard_socket()

    def _tunnel(self) -> None:
        # A proxy's response to CONNECT is read while the connection is being made.
        self._guard_socket()
        super()._tunnel()
        # A truncated status line can pass for a complete one.
        watch = _CURRENT_GUARD.get()
        if watch is not None and watch.is_expired:
            raise TimeoutError("no complete response from the proxy")

    def request(self, *words: Any, **options: Any) -> None:
        self._guard_socket()
        super().request(*words, **options)

    def _guard_socket(self) -> None:
        watch = _CURRENT_GUARD.get()
        if watch is not None:
            watch.guard(self.sock)


class _GuardedTLSConnection(_GuardedConnection, HTTPSConnection):
    pass


class _GuardedConnectionPool(HTTPConnectionPool):
    ConnectionCls = _GuardedConnection


class _GuardedTLSConnectionPool(HTTPSConnectionPool):
    ConnectionCls = _GuardedTLSConnection


_POOLS = {"http": _GuardedConnectionPool, "https": _GuardedTLSConnectionPool}


class Transport(HTTPAdapter):
    """A requests adapter with rate and time limits; it retries only reads and unsent requests.

    timeout: seconds to connect, and to wait for the next bytes.
    deadline: seconds that a request may take, repeats included; pauses that the venue asks for do
        not count.
    attempts: maximum attempts of a read, or of a connection.
    rate_limiter: rate limiter of the address.
    signer: function that returns fresh headers for every attempt; None if headers are constant.
    """

    def __init__(
        self,
        timeout: tuple[float, float],
        deadline: float,
        attempts: int,
        rate_limiter: RateLimiter,
        signer: Signer | None = None,
    ) -> None:
        super().__init__()
        self.poolmanager.pool_classes_by_scheme = _POOLS
        self._timeout = timeout
        self._deadline = deadline
        self._attempts = attempts
        self._pace = rate_limiter
        self._signer = signer

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Return the connection manager of a proxy, whose connections also have deadlines."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(self, request: PreparedRequest, *words: Any, **options: Any) -> Response:
        """Send a request and read its complete response.

        A read is repeated after failures and after RETRIED_STATUSES. Any other request is repeated
        only if no connection was made.
        """
        reads = request.method == "GET"
        self._pace.wait()
        whole = min(self._deadline, _seconds_left())
        end = time.monotonic() + whole
        for attempt in range(1, self._attempts):
            try:
                answer = self._send_once(request, end, whole, *words, **options)
            except (ConnectionError, Timeout, ChunkedEncodingError) as error:
                # A POST that timed out can have been accepted: a second would be another order.
                if not (reads or _is_unsent(error)):
                    raise
                pause = _backoff_seconds(attempt)
                if pause >= min(end - time.monotonic(), _seconds_left()):
                    raise
            else:
                if not reads or answer.status_code not in RETRIED_STATUSES:
                    return answer
                asked = retry_after_seconds(answer.headers) or 0.0
                pause = asked or _backoff_seconds(attempt)
                if pause >= min(math.inf if asked else end - time.monotonic(), _seconds_left()):
                    return answer
                if asked:
                    log_pause(asked, "the venue requested a pause (Retry-After)")
                    end += asked
            if pause:
                self._pace.time.wait(pause)
            self._pace.wait()
        return self._send_once(request, end, whole, *words, **options)

    def _send_once(
        self, request: PreparedRequest, end: float, whole: float, *words: Any, **options: Any
    ) -> Response:
        """Send a request once.

        end: deadline by the monotonic clock.
        whole: seconds from the first attempt to the deadline, for messages.
        """
        began = time.monotonic()
        seconds = min(end - began, _seconds_left())
        if seconds <= 0:
            raise ReadTimeout("the time limit ended before the request", request=request)
        if self._signer is not None:
            # A signature is valid for seconds: that of the first attempt would be stale by the
            # last.
            request.headers.update(self._signer(request.method or "", request.path_url))
        watch = DeadlineGuard(seconds)
        token = _CURRENT_GUARD.set(watch)
        late = ReadTimeout(f"no complete response within {whole:g} s", request=request)
        try:
            with watch:
                answer = super().send(request, *words, **{**options, "timeout": self._timeout})
                # The body is read here, under the guard: a session would read it later.
                _ = answer.content
        except RequestException as error:
            if not watch.is_expired:
                raise
            raise late from error
        finally:
            _CURRENT_GUARD.reset(token)
            _log_slow_request(time.monotonic() - began, request)
        # A response without a length ends where its connection does.
        if watch.is_expired:
            raise late
        if answer.is_redirect:
            raise TooManyRedirects(
                "redirect refused; API keys are sent only to the configured address",
                request=request,
            )
        self._pace.observe_headers(answer.headers)
        return answer


def _backoff_seconds(attempt: int) -> float:
    """Return the seconds to wait after a failed attempt without a Retry-After header."""
    return (
        0.0
        if attempt == 1
        else min(0.3 * 2 ** (attempt - 1) + _JITTER_RANDOM.uniform(0, 0.3), 10.0)
    )


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the Retry-After header in seconds, 0 to 60; None if it is missing or invalid."""
    text = headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), MAX_PAUSE_SECONDS)


def _log_slow_request(seconds: float, request: PreparedRequest) -> None:
    """Log a request that took long. The path is omitted, because it may be secret."""
    if seconds >= MIN_LOGGED_WAIT_SECONDS:
        host = urlsplit(request.url or "").hostname
        log.warning("slow response: %s %s took %.0f s", request.method, host, seconds)


def log_pause(seconds: float, reason: str) -> None:
    """Log a long wait with its reason, so that the wait is not mistaken for a hang."""
    if seconds >= MIN_LOGGED_WAIT_SECONDS:
        log.warning("waiting %.0f s: %s", seconds, reason)


class RateLimiter:
    """A limit on requests per minute that also obeys the venue's rate-limit headers.

    limit: requests per minute; None: no limit.
    time: clock of the waits.
    """

    def __init__(self, limit: int | None, time: TimeSource = SYSTEM_TIME) -> None:
        self._limit = limit
        self.time = time
        self._sent: deque[float] = deque()
        self._not_before = -math.inf
        self._lock = threading.Lock()

    def seconds_until_allowed(self) -> float:
        """Return the seconds to wait before the next request."""
        now = self.time.monotonic()
        while self._sent and now - self._sent[0] >= SECONDS_PER_MINUTE:
            self._sent.popleft()
        full = self._limit is not None and len(self._sent) >= self._limit
        until_free = self._sent[0] + SECONDS_PER_MINUTE - now if full else 0.0
        return max(until_free, self._not_before - now, 0.0)

    def wait(self) -> None:
        """Wait until a request is allowed, and count the request.

        Raises ReadTimeout if the time limit ends first.
        """
        while True:
            with self._lock:
                if (seconds := self.seconds_until_allowed()) <= 0:
                    self._sent.append(self.time.monotonic())
                    return
            if seconds >= _seconds_left():
                raise ReadTimeout("the time limit ended before the request")
            log_pause(seconds, "the venue's rate limit is reached")
            self.time.wait(seconds)

    def observe_headers(self, headers: Mapping[str, str]) -> None:
        """Block requests until X-RateLimit-Reset if a response's X-RateLimit-Remaining is 0."""
        reset = headers.get("X-RateLimit-Reset", "")
        if headers.get("X-RateLimit-Remaining") == "0" and reset.isdecimal():
            # The venue counts by the minute: a later reset comes from a wrong clock.
            now = self.time.now().astype("datetime64[ms]").astype(np.int64) / 1000
            seconds = min(max(float(reset) - now, 0.0), SECONDS_PER_MINUTE)
            self._not_before = self.time.monotonic() + seconds


@cache
def shared_rate_limiter(address: str, limit: int | None) -> RateLimiter:
    """Return the rate limiter that all clients of an address share, since venues count per account.

    address: name of the address or the account.
    limit: requests per minute; None: no limit.
    """
    return RateLimiter(limit)


@contextmanager
def translate_request_errors(request: str, redact: Callable[[str], str]) -> Iterator[None]:
    """Convert any error of a request in the block to a one-line error without secrets.

    The status of a response is not checked here: the caller raises an error for an error status
    within the block.

    request: name of the venue and of the request.
    redact: function that removes secrets from a text.

    Raises BrokerError with the request and the response or failure; `ResponseRejected` for an
    `InvalidResponse`.
    """

    def build_error(what: str, kind: type[BrokerError] = BrokerError) -> BrokerError:
        return kind(f"{redact(request)}: {what}")

    def first_line(error: Exception) -> str:
        text = str(error).strip()
        return to_one_line(redact(text.splitlines()[0] if text else type(error).__name__))

    try:
        yield
    except JSONDecodeError as error:
        raise build_error(f"invalid response: not JSON: {first_line(error)}") from None
    except RequestException as error:
        # Redact before truncation: otherwise a part of a truncated key would remain.
        raise build_error(
            f"no response: {to_one_line(redact(format_connection_error(error)))}"
        ) from None
    except RecursionError:
        raise build_error("invalid response: JSON is nested too deeply") from None
    except InvalidResponse as error:
        raise build_error(str(InvalidResponse(redact(error.why))), ResponseRejected) from None
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        if isinstance(error, InputError):
            raise
        raise build_error(f"invalid response: {first_line(error)}") from None


def format_connection_error(error: RequestException) -> str:
    """Return the host and the root cause of a request that got no response."""
    host = urlsplit(getattr(error.request, "url", None) or "").netloc or "the address"
    cause: BaseException = error
    # The libraries store a cause in the arguments of their errors.
    while inner := _inner_exception(cause):
        cause = inner
    return f"{host.rpartition('@')[2]}: {str(cause) or type(cause).__name__}"


def _is_unsent(error: BaseException) -> bool:
    """Return whether no connection was made, so that the venue cannot have received the request."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, (ConnectTimeoutError, NewConnectionError)):
        cause = _inner_exception(cause)
    return cause is not None


def _inner_exception(error: BaseException) -> BaseException | None:
    causes = (getattr(error, "reason", None), *error.args, error.__cause__)
    return next((each for each in causes if isinstance(each, BaseException)), None)
