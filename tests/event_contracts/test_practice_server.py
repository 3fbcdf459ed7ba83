"""The practice server speaks Kalshi's API: keys, tokens, pages, statuses, and every fault."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from event_contracts.simulation.app import PATIENCE, new_keys
from tests.e2e.kalshi_desk import flat
from tests.event_contracts.practice import (
    API,
    CREATE,
    KEYS,
    KalshiPractice,
    body_of,
    buying,
    kalshi_practice,
    signed_headers,
)

BALANCE = f"{API}/portfolio/balance"


@pytest.fixture
def practice() -> Iterator[KalshiPractice]:
    with kalshi_practice(sessions={"RAIN": flat(30), "SNOW": flat(30)}) as here:
        yield here


def create(practice: KalshiPractice, name: str = "a", **more: Any) -> requests.Response:
    return practice.ask("POST", CREATE, body_of(buying(name), **more))


def listed(practice: KalshiPractice, **query: Any) -> list[dict[str, Any]]:
    orders: list[dict[str, Any]] = practice.ask("GET", "/portfolio/orders", **query).json()[
        "orders"
    ]
    return orders


def test_a_request_is_taken_with_its_own_signature_and_no_other(practice: KalshiPractice) -> None:
    def answer(headers: dict[str, str]) -> requests.Response:
        return requests.get(f"{practice.url}{BALANCE}", headers=headers, timeout=30)

    def signed(
        method: str = "GET", path: str = BALANCE, at: int | None = None, key: str = KEYS.private_key
    ) -> dict[str, str]:
        return signed_headers(practice.key_id, key, method, path, at)

    assert answer(signed()).status_code == 200
    wrong = [
        *(signed(path=f"{API}/portfolio/fills"), signed("POST")),
        signed(key=new_keys().private_key),
    ]
    now = int(time.time() * 1000)
    for name, value in (
        *(("KEY", "another"), ("KEY", ""), ("SIGNATURE", ""), ("SIGNATURE", "no base64!")),
        *(("TIMESTAMP", ""), ("TIMESTAMP", "yesterday"), ("TIMESTAMP", "9" * 5000)),
        ("TIMESTAMP", str(now + 1)),
    ):
        wrong.append(signed() | {f"KALSHI-ACCESS-{name}": value})
    wrong += [signed(at=now + off) for off in (-PATIENCE - 60_000, PATIENCE + 60_000)]
    for headers in wrong:
        refused = answer(headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "authentication_error")


def test_an_order_and_its_fill_are_said_in_each_of_the_apis_ways(practice: KalshiPractice) -> None:
    """10 YES at 0.50: fee 0.07 · 10 · 0.25 = 0.175, the balance floored to a cent: $5.18."""
    taken = create(practice)
    assert (taken.status_code, taken.json()["fill_count"]) == (201, "0.00")
    assert practice.advance()["moved"] == 1
    [order] = listed(practice)
    assert (order["outcome_side"], order["book_side"], order["action"]) == ("yes", "bid", "buy")
    (fill,) = practice.ask("GET", "/portfolio/fills", order_id=order["order_id"]).json()["fills"]
    assert "client_order_id" not in fill
    assert (fill["count_fp"], fill["yes_price_dollars"]) == ("10.00", "0.5000")
    left = practice.ask("GET", "/portfolio/balance").json()
    assert (left["balance"], left["balance_dollars"]) == (99482, "994.8200")


def test_orders_are_rejected_at_once_or_later_or_filled_in_part(practice: KalshiPractice) -> None:
    practice.fault("reject")
    assert create(practice, "no").status_code == 400
    practice.fault("reject_later")
    later = create(practice, "later").json()["order_id"]
    practice.fault("partial")
    part = create(practice, "part").json()
    assert part["remaining_count"] == "10.00"
    practice.advance()
    shown = {row["order_id"]: row for row in listed(practice)}
    assert [shown[later][name] for name in ("status", "fill_count_fp")] == ["canceled", "0.00"]
    assert [
        shown[part["order_id"]][n] for n in ("status", "fill_count_fp", "remaining_count_fp")
    ] == ["canceled", "5.00", "0.00"]
