"""Every request ends, whatever answers it: trickles, silence, endless waits, other addresses."""

# Private access: only the rate limiter counts attempts that never connect.
from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Mapping

import numpy as np
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.endpoint import (
    REQUESTS_PER_SECOND,
    KalshiRateLimiter,
    shared_rate_limiter,
)
from foundation import transport
from foundation.clock import TimeSource
from foundation.transport import (
    RateLimiter,
    Transport,
    format_connection_error,
    limit_request_time,
    retry_after_seconds,
)
from tests.support.raw_server import Answer, answering

JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Clock:
    """Time that passes where something waits for it, or a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.wall = 1e9  # seconds since 1970 at its beginning
        self.waits: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.wall + self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    @property
    def passing(self) -> TimeSource:
        return TimeSource(
            now=lambda: np.datetime64(round(self.time() * 1e9), "ns"),
            monotonic=self.monotonic,
            wait=self.sleep,
        )


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    mine = Clock()
    monkeypatch.setattr(transport, "time", mine)
    monkeypatch.setattr(transport, "SYSTEM_TIME", mine.passing)
    return mine


def session(
    deadline: float = 0.6, attempts: int = 3, pace: RateLimiter | None = None
) -> requests.Session:
    mine = requests.Session()
    for scheme in ("http://", "https://"):
        its = pace or RateLimiter(None, transport.SYSTEM_TIME)
        mine.mount(scheme, Transport((2.0, 2.0), deadline, attempts, its))
    return mine


def trickled(text: bytes) -> Answer:
    """The text and spaces, a byte at a time, until the client has gone."""

    def answer(connection: socket.socket, _: int) -> None:
        between = threading.Event()
        for byte in itertools.islice(itertools.chain(text, itertools.repeat(0x20)), 5_000):
            connection.sendall(bytes([byte]))
            between.wait(0.01)

    return answer


def trickled_body(head: bytes) -> Answer:
    def answer(connection: socket.socket, number: int) -> None:
        connection.sendall(JSON + head + b"\r\n")
        trickled(b'{"a": 1')(connection, number)

    return answer


def nothing(connection: socket.socket, _: int) -> None:
    connection.recv(1)  # until the client has gone


@pytest.mark.first_example
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "answer",
    [
        trickled(JSON + b"X: "),
        trickled_body(b"Content-Length: 90000\r\n"),
        trickled_body(b"Connection: close\r\n"),
        trickled_body(b"Transfer-Encoding: chunked\r\n"),
        nothing,
    ],
    ids=["head", "body", "body of no stated length", "chunks", "silence"],
)
def test_a_request_ends_at_its_deadline(answer: Answer, method: str) -> None:
    with (
        answering(answer) as (url, seen),
        pytest.raises(requests.exceptions.ReadTimeout, match=r"no complete response within 0\.6 s"),
    ):
        session().request(method, url)
    assert len(seen) == 1


def test_only_unsent_requests_are_retried_after_connection_errors(clock: Clock) -> None:
    """If nothing listens, no order can exist twice. An unanswered order may exist."""
    for method in ("GET", "POST", "DELETE"):
        pace = RateLimiter(None, clock.passing)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # but does not listen
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            with pytest.raises(requests.exceptions.ConnectionError):
                session(60.0, pace=pace).request(method, url)
        assert len(pace._sent) == 3
    with answering(lambda connection, _: None) as (url, seen):
        for method in ("POST", "DELETE"):
            with pytest.raises(requests.exceptions.ConnectionError):
                session(60.0).request(method, url)
    assert len(seen) == 2


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_request_deadline_applies_through_a_proxy(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow part is the body or the response to CONNECT."""
    body = trickled_body(b"Content-Length: 90000\r\n")
    with answering(body if scheme == "http" else trickled(b"HTTP/1.1 200 ")) as (url, seen):
        monkeypatch.setenv(f"{scheme}_proxy", url)
        monkeypatch.delenv("no_proxy", raising=False)
        late = r"no complete response within 0\.6 s"
        with pytest.raises(requests.exceptions.ReadTimeout, match=late):
            session().get(f"{scheme}://elsewhere.invalid/")
    assert seen[0].startswith(b"GET " if scheme == "http" else b"CONNECT ")


@pytest.mark.slow
def test_trickling_tls_handshake_ends_at_the_connect_timeout() -> None:
    record = b"\x16\x03\x03\x40\x00" + bytes(400)
    with (
        answering(trickled(record)) as (url, seen),
        pytest.raises(requests.exceptions.ReadTimeout, match=r"no complete response|timed out"),
    ):
        session().get(url.replace("http:", "https:"))
    assert len(seen) == 1


def test_connection_errors_name_only_the_host() -> None:
    with answering(nothing) as (url, _):
        with pytest.raises(requests.RequestException) as silent:
            session(0.1).get(url)
        assert format_connection_error(silent.value).startswith(f"{url.removeprefix('http://')}: ")
    with pytest.raises(requests.RequestException) as refused:
        session(5.0, 1).get(url.replace("//", "//ada:secret@"))
    said = format_connection_error(refused.value)
    assert said.startswith(f"{url.removeprefix('http://')}: ")
    assert "refused" in said
    assert "secret" not in said


def slow(clock: Clock, seconds: float) -> Answer:
    """Nothing, while so many seconds pass."""

    def answer(connection: socket.socket, number: int) -> None:
        clock.now += seconds
        nothing(connection, number)

    return answer


def test_requests_share_one_common_time_limit(clock: Clock) -> None:
    with answering(slow(clock, 5.0)) as (url, seen), limit_request_time(0.4):
        for says in (r"no complete response within 0\.4 s", *["time limit ended"] * 2):
            with pytest.raises(requests.exceptions.ReadTimeout, match=says):
                session(deadline=5).get(url)
    assert len(seen) == 1


def test_slow_request_is_logged_by_host_only(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The path of a webhook is a secret, and a minute of slow requests has to be logged."""
    with answering(slow(clock, 7.0)) as (url, _), pytest.raises(requests.exceptions.ReadTimeout):
        session().request("DELETE", f"{url}/secret?token=secret")
    assert "slow response: DELETE 127.0.0.1 took 7 s" in caplog.messages
    assert "secret" not in caplog.text


def whole(connection: socket.socket, _: int) -> None:
    connection.sendall(JSON + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")


def refusing(status: bytes, head: bytes, times: int) -> Answer:
    """So many refusals, then an answer."""

    def answer(connection: socket.socket, number: int) -> None:
        if number >= times:
            whole(connection, number)
            return
        connection.sendall(b"HTTP/1.1 " + status + b" No\r\nContent-Length: 0\r\n" + head)
        connection.sendall(b"Connection: close\r\n\r\n")

    return answer


@pytest.mark.parametrize("status", [b"429", b"500", b"502", b"503", b"504"])
def test_only_get_requests_are_retried_after_server_errors(status: bytes) -> None:
    with answering(refusing(status, b"Retry-After: 0\r\n", 1)) as (url, seen):
        assert session(5.0).post(url).status_code == int(status)
        assert len(seen) == 1
    with answering(refusing(status, b"", 1)) as (url, seen):
        assert session(5.0).get(url).status_code == 200
        assert len(seen) == 2


def test_retry_after_wait_is_outside_the_request_deadline(clock: Clock) -> None:
    with answering(refusing(b"429", b"Retry-After: 50\r\n", 1)) as (url, seen):
        assert session(30.0).get(url).status_code == 200
    assert clock.waits == [50.0]
    assert len(seen) == 2


def test_retry_pause_beyond_the_time_limit_is_skipped(clock: Clock) -> None:
    with (
        answering(refusing(b"429", b"Retry-After: 50\r\n", 9)) as (url, seen),
        limit_request_time(40.0),
    ):
        assert session(60.0).get(url).status_code == 429
    assert clock.waits == []
    assert len(seen) == 1


def test_rate_limit_wait_beyond_time_limit_is_refused(clock: Clock) -> None:
    with answering(refusing(b"503", b"", 9)) as (url, seen):
        mine = session(60.0, pace=RateLimiter(1, clock.passing))
        with limit_request_time(50.0):
            with pytest.raises(requests.RequestException, match="time limit ended"):
                mine.get(url)
            with pytest.raises(requests.exceptions.ReadTimeout, match="time limit ended"):
                mine.get(url)
    assert clock.waits == []
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("0.25", 0.25),
        ("3600", 60),
        ("1e999", 60),
        ("-5", 0),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Thu, 01 Jan 99999 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 60),
    ],
)
def test_retry_after_is_capped_at_a_minute(text: str, seconds: float | None) -> None:
    assert retry_after_seconds({"Retry-After": text}) == seconds


def test_redirect_is_not_followed() -> None:
    with answering(whole) as (elsewhere, seen):
        place = f"Location: {elsewhere}/\r\n".encode()
        with (
            answering(refusing(b"307", place, 1)) as (url, _),
            pytest.raises(requests.TooManyRedirects, match="redirect refused"),
        ):
            session(5.0).get(url)
        assert seen == []


def test_requests_per_minute_and_server_limits_are_kept() -> None:
    clock = Clock()
    pace = RateLimiter(3, clock.passing)
    for _ in range(3):
        assert pace.seconds_until_allowed() == 0
        pace.wait()
        clock.now += 1
    assert pace.seconds_until_allowed() == pytest.approx(57)
    clock.now = 1060.5
    assert pace.seconds_until_allowed() == 0
    pace.observe_headers({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1000001070"})
    assert pace.seconds_until_allowed() == pytest.approx(9.5)
    pace.observe_headers({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "2000000000"})
    assert pace.seconds_until_allowed() == pytest.approx(60), "another clock's"
    pace.observe_headers({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1²"})
    assert pace.seconds_until_allowed() == pytest.approx(60), "no number"


def test_wall_clock_changes_do_not_affect_rate_limiting() -> None:
    clock = Clock()
    pace = RateLimiter(1, clock.passing)
    pace.wait()
    for clock.wall in (0.0, 4e9):
        assert pace.seconds_until_allowed() == 60
    clock.now += 60.0
    assert pace.seconds_until_allowed() == 0


def test_retry_pauses_count_toward_the_time_limit(clock: Clock) -> None:
    def answer(connection: socket.socket, number: int) -> None:
        refuse = refusing(b"429", b"Retry-After: 50\r\n", 1)
        (refuse if number == 0 else nothing)(connection, number)

    # Half a second is left of it after the pause; of the deadline it would be a minute.
    with (
        answering(answer) as (url, seen),
        limit_request_time(50.5),
        pytest.raises(
            requests.exceptions.ReadTimeout, match=r"no complete response within 50\.5 s"
        ),
    ):
        session(60.0).get(url)
    assert clock.waits == [50.0]
    assert len(seen) <= 2


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=120))
def test_requests_per_second_stay_within_the_venue_limit(pauses: list[float]) -> None:
    clock = Clock()
    pace = KalshiRateLimiter(None, clock.passing)
    sent = []
    for pause in pauses:
        clock.now += pause / 10
        while (seconds := pace.seconds_until_allowed()) > 0:
            clock.now += seconds + 1e-9
        pace.wait()
        sent.append(clock.now)
    assert all(
        after - first >= 1 for first, after in zip(sent, sent[REQUESTS_PER_SECOND:], strict=False)
    )


def test_clients_of_one_account_share_its_rate_limit() -> None:
    assert shared_rate_limiter("a") is shared_rate_limiter("a")
    assert shared_rate_limiter("a") is not shared_rate_limiter("b")


def test_retried_get_request_is_signed_again() -> None:
    signed: list[tuple[str, str]] = []

    def sign(method: str, path: str) -> Mapping[str, str]:
        signed.append((method, path))
        return {"X-Signed": f"n{len(signed)}"}

    pace = KalshiRateLimiter(None, Clock().passing)
    with answering(refusing(b"503", b"", 2)) as (url, seen):
        mine = requests.Session()
        mine.mount("http://", Transport((2, 2), 5.0, 3, pace, sign))
        assert mine.get(f"{url}/a?b=1").json() == {}
    assert all(f"X-Signed: n{n}\r\n".encode() in sent for n, sent in enumerate(seen, 1))
    assert signed == [("GET", "/a?b=1")] * 3
    for _ in range(REQUESTS_PER_SECOND - 3):  # three attempts are counted
        assert pace.seconds_until_allowed() == 0
        pace.wait()
    assert pace.seconds_until_allowed() > 0
