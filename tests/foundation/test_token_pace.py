"""Requests never use more tokens than flowed into their bucket, and each attempt is signed anew."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.endpoint import COST, RATES, TokenPace, shared_token_pace
from foundation.clock import Time
from foundation.transport import Transport
from tests.foundation.test_transport import JSON, answering

METHODS = st.sampled_from(["GET", "POST", "DELETE"])


class Clock:
    """Seconds that go on when somebody moves them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def send(pace: TokenPace, clock: Clock, method: str) -> float:
    """Send one request as soon as it may be; when it left."""
    while (seconds := pace.delay(method)) > 0:
        clock.now += seconds + 1e-9
    pace.wait(method)
    return clock.now


@given(st.lists(st.tuples(METHODS, st.floats(0, 0.3)), min_size=1, max_size=80))
def test_no_window_has_more_than_its_bucket_held_and_what_flowed_in(
    requests_made: list[tuple[str, float]],
) -> None:
    clock = Clock()
    pace = TokenPace(Time(elapsed=clock))
    sent: dict[bool, list[float]] = {True: [], False: []}
    for method, pause in requests_made:
        clock.now += pause / 10
        sent[method == "GET"].append(send(pace, clock, method))
    for rate, times in zip(RATES, sent.values(), strict=True):
        for first, last in itertools.combinations_with_replacement(range(len(times)), 2):
            used = COST * (last - first + 1)
            assert used <= rate + rate * (times[last] - times[first]) + 1e-4


def test_writes_do_not_wait_for_reads() -> None:
    clock = Clock()
    pace = TokenPace(Time(elapsed=clock))
    for _ in range(20):
        assert send(pace, clock, "GET") == 0
    assert pace.delay("GET") == pytest.approx(0.05)
    assert pace.delay("POST") == 0


def test_clients_of_one_account_share_its_buckets() -> None:
    assert shared_token_pace("a") is shared_token_pace("a")
    assert shared_token_pace("a") is not shared_token_pace("b")


def test_a_read_that_is_repeated_is_signed_and_paid_for_anew() -> None:
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    fine = JSON + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    number = itertools.count()
    signed: list[tuple[str, str]] = []

    def sign(method: str, path: str) -> Mapping[str, str]:
        signed.append((method, path))
        return {"X-Signed": f"n{next(number)}"}

    clock = Clock()  # nothing flows in
    pace = TokenPace(Time(elapsed=clock))
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
    for _ in range(17):  # of 20, three attempts are gone
        assert send(pace, clock, "GET") == 0
    assert pace.delay("GET") > 0
