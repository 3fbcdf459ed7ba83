"""The broker on the real `alpaca-py` clients, against the practice server on loopback."""

from __future__ import annotations

import logging
import threading
import time
from decimal import Decimal
from typing import Any

import pytest

from execution.alpaca.broker import AlpacaBroker
from execution.broker import place
from foundation.errors import OutcomeUnknown
from foundation.transport import shared_pace
from marketsimulator.venue import alpaca
from tests.e2e.practice import KEYS, OPENING, Start, broker, order
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.feed.market_data import MarketData


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("fault", "posts"),
    [
        ({"kind": "status", "status": 504}, 2),
        ({"kind": "status", "status": 500}, 2),
        ({"kind": "drop_before"}, 2),
        ({"kind": "drop_after"}, 1),
        ({"kind": "malformed"}, 1),
        ({"kind": "status", "status": 429, "seconds": 0.01, "count": 2}, 3),
        ({"kind": "delay", "seconds": 0.2}, 1),
    ],
)
def test_an_order_whose_answer_is_lost_is_one_order_whatever_is_asked(
    practice: Start, fault: dict[str, Any], posts: int
) -> None:
    """It is looked up, and asked for again under its id where the venue does not know it."""
    here = practice()
    here.advance(OPENING)
    here.fail(method="POST", path="/v2/orders", **fault)
    fills = broker(here).submit([order("only-1")])
    assert [(f.client_order_id, f.qty) for f in fills] == [("only-1", Decimal(10))]
    assert list(here.venue.tickets) == ["only-1"]
    assert broker(here).account().positions == {"SYA": Decimal(10)}
    assert sum("only-1" in body for body in here.posts) <= posts


def test_an_order_that_lands_late_is_exposure_until_then_and_stands_once(practice: Start) -> None:
    """The venue takes it after every look for it has said that there is none."""
    here = practice()
    here.advance(OPENING)
    here.fail(kind="late", method="POST", path="/v2/orders", seconds=3600, count=2)
    mine = broker(here)
    with pytest.raises(OutcomeUnknown, match="it may be working"):
        mine.submit([order("late-1"), order("next-1", "SYB")])
    assert list(here.venue.tickets) == []
    here.fail(kind="late", method="POST", path="/v2/orders", seconds=3600)
    account = mine.account()
    assert account.undetermined == {"SYA"}
    assert account.exposure == {"SYA": 10}
    here.land()
    assert list(here.venue.tickets) == ["late-1"]
    account = mine.account()
    assert (account.undetermined, account.positions) == (frozenset(), {"SYA": 10})
    assert mine.submit([order("late-1")])[0].qty == 10
    assert mine.account().positions == {"SYA": 10}


@pytest.mark.slow
def test_where_nobody_knows_what_became_of_an_order_nothing_more_is_sent(
    practice: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    here = practice()
    here.advance(OPENING)
    here.fail(kind="drop_after", method="POST", path="/v2/orders")
    here.fail(kind="status", status=500, path="/v2/orders:by_client_order_id", count=1000)
    with pytest.raises(OutcomeUnknown, match="first-1: sent, and the venue does not say"):
        broker(here).submit([order("first-1"), order("second-1", "SYB")])
    assert set(here.venue.tickets) == {"first-1"}


def test_a_rejection_is_logged_and_reductions_that_failed_keep_openings_back(
    practice: Start, caplog: pytest.LogCaptureFixture
) -> None:
    here = practice()
    here.advance(OPENING)
    mine = broker(here)
    mine.submit([order("open-1")])
    here.fail(kind="reject", method="POST", path="/v2/orders")
    orders = [order("cut-1", side="sell", reduces=True), order("more-1", "SYB")]
    with caplog.at_level(logging.WARNING):
        assert place(mine, orders) == []
    assert "cut-1: rejected (403)" in caplog.text
    assert mine.account().positions == {"SYA": Decimal(10)}


def test_what_a_market_order_has_not_done_when_patience_ends_is_cancelled(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    mine = broker(here)
    price = mine.submit([order("see-1")])[0].price
    assert (
        mine.submit([order("low-1", qty="5", type="limit", limit_price=round(price * 0.5, 2))])
        == []
    )
    assert (
        mine.submit([order("coin-1", "SYXUSD", qty="1", tif="gtc")]) == []
    )  # no bar of it starts at half past
    assert (here.venue.tickets["low-1"].status, here.venue.tickets["coin-1"].status) == (
        "new",
        "canceled",
    )
    here.fail(kind="partial")
    half = mine.submit([order("half-1", "SYB")])
    assert [(f.symbol, f.qty) for f in half] == [("SYB", Decimal(5))]


def test_an_order_that_waits_is_seen_to_fill_when_the_bar_trades_through(practice: Start) -> None:
    here = practice()
    here.advance(OPENING)
    mine = broker(here, patience=20.0)
    done = []
    price = mine.submit([order("see-1", qty="1")])[0].price
    name = "wait-1"
    thread = threading.Thread(
        target=lambda: done.extend(
            mine.submit([order(name, type="limit", limit_price=round(price, 2))])
        )
    )
    thread.start()
    while name not in here.venue.tickets:
        time.sleep(0.01)
    for _ in range(40):
        if here.venue.tickets[name].status == "filled":
            break
        here.advance()
    thread.join(60)
    assert [(f.client_order_id, f.qty) for f in done] == [(name, Decimal(10))]


def test_fields_that_a_venue_drops_or_adds_change_nothing(
    practice: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was dropped in July 2026 is not asked for; of an account only cash is needed, of a
    clock its time.
    """
    here = practice()
    here.advance(OPENING)
    mine = broker(here)
    mine.submit([order("in-1")])
    before = mine.account()
    old = {
        "pattern_day_trader": True,
        "daytrade_count": 9,
        "daytrading_buying_power": "0",
        "pdt_check": "both",
        "brand_new": [1],
    }
    real = alpaca.account_answer
    monkeypatch.setattr(alpaca, "account_answer", lambda venue: real(venue) | old)
    assert mine.account() == before
    monkeypatch.setattr(
        alpaca,
        "account_answer",
        lambda venue: {k: v for k, v in real(venue).items() if k == "cash"},
    )
    bare = mine.account()
    assert (bare.cash, bare.positions, bare.open_orders) == (
        before.cash,
        before.positions,
        before.open_orders,
    )


def test_repeats_and_every_client_of_an_address_share_one_minute(practice: Start) -> None:
    here = practice()
    settings = BrokerSettings(url_override=here.url, requests_per_minute=6)
    mine = AlpacaBroker(settings, KEYS)
    data = MarketData(settings, KEYS, "iex")
    here.fail(kind="status", status=502, path="/v2/clock", count=2)
    mine.now()  # three requests
    data.prices(["SYA", "SYX/USD"], here.venue.now)  # two
    mine.now()
    assert shared_pace(here.url, 6).delay() > 0, "the next one waits for the minute to end"
