"""Requests that end: one deadline for all of a request, a shared pace, reads alone repeated.

The libraries below bound each wait for bytes, not their sum: a server that sends a byte a second
never times out. Here the connection is shut when the deadline has passed, wherever it is by then.
"""

from __future__ import annotations

import logging
import math
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
from requests.exceptions import ReadTimeout, RequestException, TooManyRedirects
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import MaxRetryError
from urllib3.util import Retry

from foundation.clock import OURS, Time

log = logging.getLogger(__name__)

MINUTE = 60.0  # seconds
Signer = Callable[[str, str], Mapping[str, str]]  # headers of a method and a path with its query

LONGEST_PAUSE = 60.0  # seconds that a venue may ask to wait; more is not believed
NOTABLE = 5.0  # seconds of waiting from which on the log says why
REPEATED = (429, 500, 502, 503, 504)  # statuses after which a read is repeated


class Watch:
    """Shuts the connection of a request once its seconds are over.

    seconds: until then, above 0; pauses do not count.
    signer: headers that every attempt has anew; none where they never change.
    """

    def __init__(self, seconds: float, signer: Signer | None = None) -> None:
        self.signer = signer
        self._left = seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.over = False

    def __enter__(self) -> Watch:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _start(self) -> None:
        self._began = time.monotonic()
        self._timer = threading.Timer(max(self._left, 0.0), self._end)
        self._timer.daemon = True
        self._timer.start()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the time within not count."""
        self._timer.cancel()
        self._left -= time.monotonic() - self._began
        yield
        self._left = min(self._left, _time_left())
        self._start()

    def guard(self, connection: socket.socket | None) -> None:
        """Take this for the request's connection from now on."""
        with self._lock:
            self._socket = connection
            if self.over:
                self._shut()

    def _end(self) -> None:
        with self._lock:
            self.over = True
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            # It may have been closed, or never have been connected.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


_WATCH: ContextVar[Watch | None] = ContextVar("watch", default=None)
_UNTIL: ContextVar[float] = ContextVar("until", default=math.inf)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Requests within have so many seconds together, pauses included, where their own deadlines
    leave them more.
    """
    token = _UNTIL.set(min(_UNTIL.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _UNTIL.reset(token)


def _time_left() -> float:
    """Seconds that the time limit leaves; infinite without one."""
    return _UNTIL.get() - time.monotonic()


class _Guarded(HTTPConnection):
    """A connection that the watch over the present request can shut."""

    def connect(self) -> None:
        super().connect()
        self._guard()

    def _tunnel(self) -> None:
        # What a proxy answers to CONNECT is read while the connection is being made.
        self._guard()
        super()._tunnel()
        # A status line that was shut off can pass for a whole one.
        watch = _WATCH.get()
        if watch is not None and watch.over:
            raise TimeoutError("no whole answer of the proxy")

    def request(self, *words: Any, **options: Any) -> None:
        self._guard()
        watch = _WATCH.get()
        # A signature holds for seconds: one of the first attempt would be stale by the last.
        if watch is not None and watch.signer is not None:
            options["headers"] = {**options["headers"], **watch.signer(*words[:2])}
        super().request(*words, **options)

    def _guard(self) -> None:
        watch = _WATCH.get()
        if watch is not None:
            watch.guard(self.sock)


class _GuardedTLS(_Guarded, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Guarded


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _GuardedTLS


_POOLS = {"http": _Pool, "https": _PoolTLS}


class _Repeats(Retry):
    """Repeats within the deadline, and waits no longer than is believable."""

    pace: Pace
    request = ("", "")  # the method and the path that are repeated

    def new(self, **options: Any) -> _Repeats:
        repeats = super().new(**options)
        repeats.pace = self.pace
        repeats.request = self.request
        return repeats

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: Any = None,
        error: Exception | None = None,
        _pool: Any = None,
        _stacktrace: Any = None,
    ) -> _Repeats:
        watch = _WATCH.get()
        if watch is not None and watch.over:
            raise MaxRetryError(_pool, url or "", error)
        repeats = super().increment(method, url, response, error, _pool, _stacktrace)
        repeats.request = (method or "", url or "")
        if (repeats._asked_pause(response) or repeats.get_backoff_time()) >= _time_left():
            raise MaxRetryError(_pool, url or "", error)
        return repeats

    def _asked_pause(self, response: Any) -> float:
        """Seconds that an answer, or none, asks to wait."""
        return 0.0 if response is None else self.get_retry_after(response) or 0.0

    def get_retry_after(self, response: Any) -> float | None:
        return seconds_to_wait(response.headers)

    def sleep(self, response: Any = None) -> None:
        watch = _WATCH.get()
        seconds = self._asked_pause(response)
        if seconds > 0 and watch is not None:
            note_pause(seconds, "the venue asks for it")
            with watch.paused():
                self.pace.time.wait(seconds)
        else:
            self._sleep_backoff()
        self.pace.wait(*self.request)


class Transport(HTTPAdapter):
    """Sends requests paced, with timeouts, and repeats reads alone.

    timeout: seconds to connect, and to wait for the next bytes.
    deadline: seconds that a request may take, repeats included; what the venue asks to wait does
        not count.
    attempts: of a read.
    pace: of the address.
    signer: headers that every attempt has anew; none where they never change.
    """

    def __init__(
        self,
        timeout: tuple[float, float],
        deadline: float,
        attempts: int,
        pace: Pace,
        signer: Signer | None = None,
    ) -> None:
        # A POST is never repeated: one that timed out can have been accepted, and the second would
        # be another order.
        repeats = _Repeats(
            total=attempts - 1,
            allowed_methods={"GET"},
            status_forcelist=REPEATED,
            backoff_factor=0.3,
            backoff_jitter=0.3,
            backoff_max=10,
            raise_on_status=False,
        )
        repeats.pace = pace
        self._timeout = timeout
        self._deadline = deadline
        self._pace = pace
        self._signer = signer
        super().__init__(max_retries=repeats)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """The connections through a proxy, guarded as the others."""
        manager = super().proxy_manager_for(proxy, **options)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(self, request: PreparedRequest, *words: Any, **options: Any) -> Response:
        """Send a request and read all of its answer."""
        self._pace.wait(request.method or "", request.path_url)
        seconds = min(self._deadline, _time_left())
        if seconds <= 0:
            raise ReadTimeout("no time is left for the request", request=request)
        watch = Watch(seconds, self._signer)
        token = _WATCH.set(watch)
        began = time.monotonic()
        try:
            with watch:
                answer = super().send(request, *words, **{**options, "timeout": self._timeout})
                # Read here, while the watch is kept: a session would read it later.
                _ = answer.content
        except RequestException as error:
            if not watch.over:
                raise
            raise ReadTimeout(f"no whole answer in {seconds:g} s", request=request) from error
        finally:
            _WATCH.reset(token)
            _note_length(time.monotonic() - began, request)
        # An answer whose length nobody said ends where its connection does.
        if watch.over:
            raise ReadTimeout(f"no whole answer in {seconds:g} s", request=request)
        if answer.is_redirect:
            raise TooManyRedirects(
                "it leads elsewhere; keys are sent nowhere else", request=request
            )
        self._pace.heed(answer.headers)
        return answer


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """What Retry-After says, 0 to 60 seconds; None where it says nothing."""
    text = headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_PAUSE)


def _note_length(seconds: float, request: PreparedRequest) -> None:
    """Log a request that took long, without its path, which may be secret."""
    if seconds >= NOTABLE:
        host = urlsplit(request.url or "").hostname
        log.warning("%s %s took %.0f s", request.method, host, seconds)


def note_pause(seconds: float, why: str) -> None:
    """Log a wait that somebody could take for a standstill."""
    if seconds >= NOTABLE:
        log.warning("waiting %.0f s: %s", seconds, why)


class Pace:
    """Never more than so many requests in any minute; none while the venue says that none remain.

    limit: requests a minute; None for no limit.
    time: by which it waits.
    """

    def __init__(self, limit: int | None, time: Time = OURS) -> None:
        self._limit = limit
        self.time = time
        self._sent: deque[float] = deque()
        self._not_before = -math.inf
        self._lock = threading.Lock()

    def delay(self, method: str = "", path: str = "") -> float:
        """Seconds to wait before the next request, of a method and a path."""
        del method, path
        now = self.time.elapsed()
        while self._sent and now - self._sent[0] >= MINUTE:
            self._sent.popleft()
        full = self._limit is not None and len(self._sent) >= self._limit
        until_free = self._sent[0] + MINUTE - now if full else 0.0
        return max(until_free, self._not_before - now, 0.0)

    def wait(self, method: str = "", path: str = "") -> None:
        """Wait as long as it takes, and count one request, of a method and a path."""
        while True:
            with self._lock:
                if (seconds := self.delay(method, path)) <= 0:
                    self._count(method, path)
                    return
            if seconds >= _time_left():
                raise ReadTimeout("no time is left for the request")
            note_pause(seconds, "the requests that the venue allows are used up")
            self.time.wait(seconds)

    def _count(self, method: str, path: str) -> None:
        del method, path
        self._sent.append(self.time.elapsed())

    def heed(self, headers: Mapping[str, str]) -> None:
        """Wait for the X-RateLimit-Reset of an answer whose X-RateLimit-Remaining is 0."""
        reset = headers.get("X-RateLimit-Reset", "")
        if headers.get("X-RateLimit-Remaining") == "0" and reset.isdecimal():
            # The venue counts by the minute: a reset that lies further off is another clock's.
            now = self.time.now().astype("datetime64[ms]").astype(np.int64) / 1000
            seconds = min(max(float(reset) - now, 0.0), MINUTE)
            self._not_before = self.time.elapsed() + seconds


@cache
def shared_pace(where: str, limit: int | None) -> Pace:
    """The one pace of all clients of an address: the venue counts the requests of an account."""
    return Pace(limit)
