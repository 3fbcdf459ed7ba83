"""The broker on the real `alpaca-py` clients, against the practice server on loopback."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from execution.alpaca.broker import AlpacaBroker
from foundation.errors import OutcomeUnknown
from foundation.transport import shared_rate_limiter
from tests.e2e.practice import KEYS, OPENING, Start, broker, forgotten, order
from tests.support.messages import refused
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.feed.market_data import MarketData

pytestmark = pytest.mark.usefixtures("over_http")

LOST: tuple[
    tuple[int, dict[str, Any]], ...
] = (  # number of times that an order may be sent, besides faults
    (2, {"kind": "status", "status": 504}),
    (2, {"kind": "status", "status": 500}),
    (2, {"kind": "drop_before"}),
    (1, {"kind": "drop_after"}),
    (1, {"kind": "malformed"}),
    (3, {"kind": "status", "status": 429, "seconds": 0.01, "count": 2}),
    (1, {"kind": "delay", "seconds": 0.2}),
)


def test_lost_order_response_leaves_exactly_one_order(practice: Start) -> None:
    """The client queries the order, and resends it under the same id if the venue does not
    know it.
    """
    here = practice()
    here.advance(OPENING)
    for number, (posts, fault) in enumerate(LOST, 1):
        name = f"only-{number}"
        here.fail(method="POST", path="/v2/orders", **fault)
        fills = broker(here).submit([order(name)])
        assert [(f.client_order_id, f.qty) for f in fills] == [(name, Decimal(10))]
        assert len(here.venue.tickets) == number
        assert broker(here).account().positions == {"SYA": Decimal(10 * number)}
        assert sum(name in body for body in here.posts) <= posts


def test_order_accepted_late_counts_in_exposure_until_filled(practice: Start) -> None:
    """The venue accepts the order only after every query has reported it missing."""
    here = practice()
    here.advance(OPENING)
    here.fail(kind="late", method="POST", path="/v2/orders", seconds=3600, count=2)
    mine = broker(here)
    with refused(OutcomeUnknown):
        mine.submit([order("late-1"), order("next-1", "SYB")])
    assert list(here.venue.tickets) == []
    here.fail(kind="late", method="POST", path="/v2/orders", seconds=3600)
    account = mine.account()
    assert account.uncertain_symbols == {"SYA"}
    assert account.projected_positions == {"SYA": 10}
    here.land()
    assert list(here.venue.tickets) == ["late-1"]
    account = mine.account()
    assert (account.uncertain_symbols, account.positions) == (frozenset(), {"SYA": 10})
    assert mine.submit([order("late-1")])[0].qty == 10
    assert mine.account().positions == {"SYA": 10}


def test_clients_of_one_address_share_the_rate_limit(practice: Start) -> None:
    here = practice()
    settings = BrokerSettings(url_override=here.url, requests_per_minute=6)
    mine = AlpacaBroker(settings, KEYS, book=forgotten()[1])
    data = MarketData(settings, KEYS, "iex")
    here.fail(kind="status", status=502, path="/v2/clock", count=2)
    mine.now()  # three requests
    data.prices(["SYA", "SYX/USD"], here.venue.now)  # two
    mine.now()
    assert shared_rate_limiter(here.url, 6).seconds_until_allowed() > 0, (
        "the next one waits for the minute to end"
    )
