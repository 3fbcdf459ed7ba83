"""Requests never use more tokens than flowed into their bucket, and each attempt is signed anew."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.token_pace import TokenBudget, TokenCosts, TokenPace, shared_token_pace
from foundation.errors import InputError
from foundation.transport import Transport
from tests.foundation.test_transport import JSON, answering

METHODS = st.sampled_from(["GET", "POST", "DELETE"])


class Clock:
    """Seconds that go on when somebody moves them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def paced(read: TokenBudget, write: TokenBudget, cost: float = 10) -> tuple[TokenPace, Clock]:
    clock = Clock()
    return TokenPace(read, write, TokenCosts(cost), clock), clock


def send(pace: TokenPace, clock: Clock, method: str, path: str = "/") -> float:
    """Send one request as soon as it may be; when it left."""
    while (seconds := pace.delay(method, path)) > 0:
        clock.now += seconds + 1e-9
    pace.wait(method, path)
    return clock.now


@given(
    st.lists(st.tuples(METHODS, st.floats(0, 0.3)), min_size=1, max_size=60),
    st.integers(10, 200),
    st.integers(10, 200),
)
def test_no_window_has_more_than_its_bucket_held_and_what_flowed_in(
    requests_made: list[tuple[str, float]], rate: int, capacity: int
) -> None:
    budget = TokenBudget(rate, capacity)
    pace, clock = paced(budget, budget)
    sent: dict[bool, list[float]] = {True: [], False: []}
    for method, pause in requests_made:
        clock.now += pause
        sent[method == "GET"].append(send(pace, clock, method))
    for times in sent.values():
        for first, last in itertools.combinations_with_replacement(range(len(times)), 2):
            used = 10 * (last - first + 1)
            assert used <= capacity + rate * (times[last] - times[first]) + 1e-5


def test_writes_do_not_wait_for_reads() -> None:
    pace, clock = paced(TokenBudget(10, 10), TokenBudget(10, 10))
    send(pace, clock, "GET")
    assert pace.delay("GET") == pytest.approx(1)
    assert pace.delay("POST") == 0


def test_what_costs_more_than_a_bucket_holds_goes_when_it_is_full() -> None:
    pace, clock = paced(TokenBudget(10, 10), TokenBudget(10, 10), cost=25)
    assert send(pace, clock, "GET") == 0
    assert send(pace, clock, "GET") == pytest.approx(2.5)


def test_a_cost_is_found_by_method_and_path_whatever_is_named_in_it() -> None:
    costs = TokenCosts(10, {("GET", "/v2/orders/{order_id}"): 2, ("DELETE", "/v2/orders/all"): 1})
    assert costs.of("GET", "/v2/orders/ab-1.2?x=1") == 2
    assert costs.of("GET", "/v2/orders/ab/fills") == 10
    assert costs.of("GET", "/v2/orders") == 10
    assert costs.of("DELETE", "/v2/orders/all") == 1
    assert costs.of("POST", "/v2/orders/all") == 10


def test_other_limits_forgive_nothing_that_was_used() -> None:
    pace, clock = paced(TokenBudget(100, 100), TokenBudget(100, 100))
    for _ in range(5):
        send(pace, clock, "GET")
    pace.allow(TokenBudget(1, 60), TokenBudget(1, 1), TokenCosts(5, {("GET", "/a"): 20}))
    assert pace.delay("GET", "/a") == pytest.approx(10)
    assert pace.delay("GET", "/b") == 0
    assert pace.delay("POST", "/b") == 0


def test_clients_of_one_account_share_its_buckets() -> None:
    budget = TokenBudget(7, 7)
    assert shared_token_pace("a", budget, budget, 1) is shared_token_pace("a", budget, budget, 1)
    assert shared_token_pace("a", budget, budget, 1) is not shared_token_pace(
        "b", budget, budget, 1
    )


@pytest.mark.parametrize(("rate", "capacity"), [(0, 1), (1, 0), (-1, 1), (float("nan"), 1)])
def test_a_budget_without_tokens_is_refused(rate: float, capacity: float) -> None:
    with pytest.raises(InputError, match="above 0"):
        TokenBudget(rate, capacity)


def test_a_negative_cost_is_refused() -> None:
    with pytest.raises(InputError, match="0 or more"):
        TokenCosts(10, {("GET", "/"): -1})


def test_a_read_that_is_repeated_is_signed_and_paid_for_anew() -> None:
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    fine = JSON + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    number = itertools.count()
    signed: list[tuple[str, str]] = []

    def sign(method: str, path: str) -> Mapping[str, str]:
        signed.append((method, path))
        return {"X-Signed": f"n{next(number)}"}

    budget = TokenBudget(1e-9, 1000)
    pace = TokenPace(budget, budget, TokenCosts(1, {("GET", "/a"): 100}))
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
    for left, waits in ((699, False), (701, True)):
        pace.allow(budget, budget, TokenCosts(left))
        assert (pace.delay("GET", "/b") > 0) is waits
