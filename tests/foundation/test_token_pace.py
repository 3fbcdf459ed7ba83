"""No second has more requests than the venue allows, and each attempt is signed anew."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import requests
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.endpoint import RATE, KalshiPace, shared_pace
from foundation.clock import Time
from foundation.transport import Transport
from tests.foundation.test_transport import JSON, answering


class Clock:
    """Seconds that go on when somebody moves them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 0.3), min_size=1, max_size=120))
def test_no_second_has_more_requests_than_the_venue_allows(pauses: list[float]) -> None:
    clock = Clock()
    pace = KalshiPace(None, Time(elapsed=clock))
    sent = []
    for pause in pauses:
        clock.now += pause / 10
        while (seconds := pace.delay()) > 0:
            clock.now += seconds + 1e-9
        pace.wait()
        sent.append(clock.now)
    assert all(after - first >= 1 for first, after in zip(sent, sent[RATE:], strict=False))


def test_clients_of_one_account_share_its_pace() -> None:
    assert shared_pace("a") is shared_pace("a")
    assert shared_pace("a") is not shared_pace("b")


def test_a_read_that_is_repeated_is_signed_anew() -> None:
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    fine = JSON + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    number = itertools.count()
    signed: list[tuple[str, str]] = []

    def sign(method: str, path: str) -> Mapping[str, str]:
        signed.append((method, path))
        return {"X-Signed": f"n{next(number)}"}

    pace = KalshiPace(None, Time(elapsed=Clock()))
    with answering(lambda line, n: line.sendall(fine if n == 2 else busy)) as (url, seen):
        session = requests.Session()
        session.mount("http://", Transport((2, 2), 5.0, 3, pace, sign))
        assert session.get(f"{url}/a?b=1").json() == {}
    assert [next(w for w in s.split(b"\r\n") if w.startswith(b"X-Signed")) for s in seen] == [
        b"X-Signed: n0",
        b"X-Signed: n1",
        b"X-Signed: n2",
    ]
    assert signed == [("GET", "/a?b=1")] * 3
    for _ in range(RATE - 3):  # three attempts are counted
        assert pace.delay() == 0
        pace.wait()
    assert pace.delay() > 0
