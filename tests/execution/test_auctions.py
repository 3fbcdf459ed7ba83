"""When orders for an auction are taken, sent and given up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.decision.rebalancing import rebalance
from execution.orders.auctions import (
    auction_refusal_reason,
    auction_send_deadline,
    first_accepted_time,
    next_send_time,
)
from execution.orders.orders import Order, TimeInForce
from execution.orders.venue_rules import venue_refusal_reason
from foundation.errors import InputError
from tests.support.messages import refused
from trainingdata.instruments import instrument
from trainingdata.sessions import exchange_calendar
from trainingdata.timeframe import DAILY, Timeframe

MINUTES = st.integers(0, 366 * 24 * 60).map(
    lambda k: np.datetime64("2024-01-02T00:00", "ns") + np.timedelta64(k, "m")
)
AUCTIONS: tuple[TimeInForce, ...] = ("opg", "cls")


def order(tif: TimeInForce = "opg", **more: Any) -> Order:
    return Order("s-20240102T000000Z-SYA-0-0", "SYA", "buy", Decimal(3), "test", tif=tif, **more)


def at(text: str) -> np.datetime64:
    return np.datetime64(text, "ns")


@pytest.mark.parametrize(
    ("tif", "first", "again"),
    [
        ("opg", "2024-02-20T14:28", "2024-02-21T00:00"),
        ("opg", "2024-07-08T13:28", "2024-07-08T23:00"),
        ("cls", "2024-02-20T20:50", "2024-02-21T00:00"),
        ("cls", "2024-07-03T16:50", "2024-07-03T23:00"),  # a half-day ends at 13:00
        ("opg", "2024-02-17T14:28", "2024-02-18T00:00"),  # a Saturday
    ],
)
def test_auction_orders_are_refused_from_cutoff_until_evening(
    tif: TimeInForce, first: str, again: str
) -> None:
    shut, evening = at(first), at(again)
    moment = np.timedelta64(1, "s")
    for sound in (shut - moment, evening):
        assert (
            auction_refusal_reason(order(tif), sound)
            == ""
            == venue_refusal_reason(order(tif), at=sound)
        )
    for unsound in (shut, evening - moment):
        said = venue_refusal_reason(order(tif), at=unsound)
        assert said == auction_refusal_reason(order(tif), unsound) != ""
        assert said.endswith(f"next at {again}Z")
    assert venue_refusal_reason(order(tif)) == ""


@given(MINUTES, st.sampled_from(AUCTIONS))
def test_auction_order_is_accepted_from_the_computed_time(
    now: np.datetime64, tif: TimeInForce
) -> None:
    begins = first_accepted_time(order(tif), now)
    assert now <= begins <= now + np.timedelta64(10, "h")
    assert auction_refusal_reason(order(tif), begins) == ""
    assert (auction_refusal_reason(order(tif), now) == "") == (begins == now)
    assert first_accepted_time(order("day"), now) == now


def test_auction_orders_may_be_sent_for_four_minutes() -> None:
    clock = Timeframe("1d", "close").stock_clock
    assert clock.bars_per_day == clock.slot_count == 1
    for decided in clock.ends[-500:]:
        ends = auction_send_deadline("cls", decided)
        assert ends - decided == np.timedelta64(4, "m")
        for at_once in (decided, ends):
            assert auction_refusal_reason(order("cls"), at_once) == ""


@given(MINUTES, st.sampled_from(AUCTIONS))
def test_auction_plan_is_retried_until_it_expires(now: np.datetime64, tif: TimeInForce) -> None:
    """The test follows a plan from instant to instant until its expiry."""
    ends = auction_send_deadline(tif, now)
    planned = order(tif, expires_at=ends)
    retry = np.timedelta64(120, "m")
    instants = [now]
    while (following := next_send_time([planned], instants[-1], retry)) is not None:
        assert following > instants[-1]
        assert following == ends or auction_refusal_reason(planned, following) == ""
        instants.append(following)
    assert now >= ends or instants[-1] == ends
    assert next_send_time([], now, retry) is None
    if instants[1:]:
        later = [order(tif, expires_at=ends + retry), order(tif), planned]
        assert next_send_time(later, now, retry) == min(instants[1], ends), (
            "the first is waited for"
        )


def test_decision_at_an_auction_targets_the_next_one() -> None:
    opens = exchange_calendar().opens[-9:]
    assert auction_send_deadline("opg", opens[-2]) == opens[-1] - np.timedelta64(5, "m")
    for last in (opens[-1], exchange_calendar().closes[-1]):
        with refused(InputError, varies=r"^\S+"):
            auction_send_deadline("opg", last)


@given(st.integers(-50, 50), st.integers(-50, 50), st.booleans())
def test_auction_orders_have_whole_shares_and_are_accepted(
    held: int, wanted: int, odd: bool
) -> None:
    here = Decimal(held) + (Decimal("0.5") if odd and held > 0 else 0)
    move = [instrument("SYA")], [here], [Decimal(wanted)], [float("inf")], ["test"]
    orders = rebalance("s", at("2024-02-20T21:00"), *move, DAILY)
    assert len(orders) <= 1
    for each in orders:
        assert each.tif == "opg"
        assert each.qty % 1 == 0
        after = here + each.signed_qty
        assert after * here >= 0 or here == 0
        assert abs(after - wanted) < 1 or (after * wanted <= 0 and abs(after) < 1)
