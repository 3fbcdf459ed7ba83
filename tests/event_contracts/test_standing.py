"""An account is believed once its answers agree; what is listed late counts until then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import requests

from event_contracts.trading.endpoint import PAGES, KalshiConnection, KalshiSettings, StatusAnswer
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.manager import KalshiMultiMarketOrderManager
from event_contracts.trading.orders import LimitOrder
from execution.journal.order_store import OrderStore
from foundation.errors import BrokerError, OutcomeUnknown
from tests.e2e.kalshi_desk import UNLIMITED
from tests.event_contracts.practice import FILL, KEYS, ORDER
from tests.passing import AT_ONCE, Passing

D = Decimal
WISH = LimitOrder("o-1", "RAIN", "BUY", "YES", D("0.50"), D(10))


@dataclass
class Venue:
    """What each read is answered with; a list is one page."""

    cash: str = "1000.00"
    orders: list[dict[str, Any]] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    fills: list[dict[str, Any]] = field(default_factory=list)
    unlisted: set[str] = field(default_factory=set)  # orders that no list has
    hidden: bool = False  # whether lists have orders that wait alone
    lost: bool = False  # whether the answer to an order is
    filled: str = "0.00"
    remaining: str = "10.00"
    slow: Callable[[], None] = lambda: None
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, query: Any, body: Any) -> dict[str, Any]:
        self.asked.append(f"{method} {path}")
        if method == "POST":
            said = {"fill_count_fp": self.filled, "remaining_count_fp": self.remaining}
            named = {"client_order_id": body["client_order_id"], "ticker": body["ticker"]}
            status = "resting" if D(self.remaining) else "executed"
            bid = {"book_side": body["side"], "yes_price_dollars": body["price"]}
            self.orders.append({**ORDER, **named, **bid, **said, "status": status})
            if self.lost:
                raise requests.ConnectionError("lost")
            made = {"fill_count": self.filled, "remaining_count": self.remaining}
            return {"order_id": "v-1", "client_order_id": body["client_order_id"], **made}
        if method == "DELETE":
            self.orders = [{**each, "status": "canceled"} for each in self.orders]
            return {}
        if path.startswith("/portfolio/orders/"):
            found = [each for each in self.orders if path.endswith(f"/{each['order_id']}")]
            if not found:
                raise StatusAnswer(404, "not found")
            return {"order": found[0]}
        self.slow()
        status = (query or {}).get("status")
        shown = [each for each in self.orders if each["order_id"] not in self.unlisted]
        shown = [] if self.hidden and status is None else shown
        rows = [
            {"ticker": market, "position_fp": count} for market, count in self.positions.items()
        ]
        market = {
            "status": "active",
            "price_ranges": [{"start": "0", "end": "1", "step": "0.01"}],
            "close_time": "2026-11-23T20:00:00Z",
        }
        answers: dict[str, dict[str, Any]] = {
            "/portfolio/orders": {"orders": [o for o in shown if status in (None, o["status"])]},
            "/portfolio/balance": {"balance_dollars": self.cash},
            "/portfolio/positions": {"market_positions": rows},
            "/portfolio/fills": {"fills": self.fills},
            "/portfolio/settlements": {"settlements": []},
            "/markets": {"markets": [{"ticker": "RAIN", **market}]},
        }
        if path not in answers:
            raise StatusAnswer(500, "no")
        return answers[path]

    def trades(self, count: int, *, listed: bool = True) -> None:
        """So much of the order that waits has traded; whether lists and sums know it."""
        left = 10 - count
        said = {"fill_count_fp": f"{count}.00", "remaining_count_fp": f"{left}.00"}
        self.orders[0] |= {"status": "resting" if left else "executed", **said}
        if listed:
            self.cash = {4: "997.93", 10: "994.82"}[count]
            self.positions = {"RAIN": f"{count}.00"}
            self.fills = [fill(f"{count}.00")]


def fill(count: str) -> dict[str, Any]:
    traded = {"book_side": "bid", "yes_price_dollars": "0.5000", "count_fp": count}
    return {**FILL, "fill_id": f"f-{count}", **traded}


@pytest.fixture
def venue(monkeypatch: pytest.MonkeyPatch) -> Venue:
    here = Venue()

    def request(
        _: KalshiConnection, method: str, path: str, query: Any = None, body: Any = None
    ) -> dict[str, Any]:
        return here.answer(method, path, query, body)

    monkeypatch.setattr(KalshiConnection, "request", request)
    return here


def manager_of(book: OrderStore | None = None, **more: Any) -> KalshiMultiMarketOrderManager:
    return KalshiMultiMarketOrderManager(
        KalshiSettings(),
        KEYS,
        UNLIMITED,
        lambda *_: FeeRules(),
        book=book,
        **{"time": AT_ONCE, **more},
    )


def test_a_fill_that_was_answered_and_is_not_listed_yet_is_waited_for(venue: Venue) -> None:
    manager = manager_of()
    venue.filled, venue.remaining = "10.00", "0.00"
    assert manager.submit(WISH).filled == 10
    # Cash, contracts and fills are as they were: flat and rich, if one believed it.
    with pytest.raises(BrokerError, match=r"order v-1: 10.00 traded, 0 listed"):
        manager.view("RAIN")

    def heard(_: float) -> None:
        if passing.elapsed() > 1:
            venue.trades(10)

    passing = Passing(on_wait=heard)
    manager = manager_of(time=passing.time)
    venue.orders.clear()
    manager.submit(WISH)
    view = manager.view("RAIN")
    assert (view.yes, view.cash) == (10, D("994.82"))
    assert manager.reading().differences == ()


def test_a_fill_that_an_order_shows_and_the_account_does_not_is_waited_for(venue: Venue) -> None:
    manager = manager_of()
    manager.submit(WISH)
    assert manager.view("RAIN").resting_count("BUY", "YES") == 10
    venue.trades(10, listed=False)
    with pytest.raises(BrokerError, match=r"order v-1: 10.00 traded, 0 listed"):
        manager.view("RAIN")
    venue.trades(10)
    assert manager.view("RAIN").yes == 10


def test_what_an_order_traded_before_the_ledger_began_is_not_waited_for(venue: Venue) -> None:
    book = OrderStore()
    manager_of(book).submit(WISH)
    venue.trades(10)
    venue.fills = []
    assert manager_of(book).view("RAIN").yes == 10


@pytest.mark.parametrize("known", [True, False])
def test_an_order_of_ours_that_is_not_listed_counts_as_waiting(venue: Venue, known: bool) -> None:
    manager = manager_of()
    manager.submit(WISH)
    venue.unlisted.add("v-1")
    if not known:
        venue.orders.clear()
    view = manager.view("RAIN")
    assert view.resting_count("BUY", "YES") == 10
    (resting,) = view.resting
    assert resting.order_id == ("v-1" if known else "o-1")


def test_an_order_that_lands_between_two_looks_counts_once(venue: Venue) -> None:
    book = OrderStore()
    manager = manager_of(book)
    venue.lost = venue.hidden = True
    with pytest.raises(OutcomeUnknown):
        manager.submit(WISH)
    # The look for it finds nothing, and the list of what waits has it by then.
    (resting,) = manager.view("RAIN").resting
    assert (resting.order_id, resting.remaining) == ("v-1", 10)
    intent = book.get("o-1")
    assert intent is not None
    assert intent.state == "working"
    assert venue.asked.count("POST /portfolio/events/orders") == 1


def test_an_account_that_does_not_stand_still_is_not_believed(venue: Venue) -> None:
    manager = manager_of()
    numbers = iter(range(10**6))
    venue.slow = lambda: venue.fills.append(fill(f"{next(numbers) + 1}.00"))
    with pytest.raises(BrokerError, match="something trades in it whenever it is read"):
        manager.view("RAIN")


def test_pages_are_read_to_their_end_and_not_in_circles(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"": ("a", "1"), "1": ("b", "2"), "2": ("c", "")}
    asked: list[Any] = []

    def request(
        _: KalshiConnection, method: str, path: str, query: Any = None, body: Any = None
    ) -> dict[str, Any]:
        asked.append(dict(query))
        name, cursor = pages[query.get("cursor", "")]
        return {"fills": [{"fill_id": name}], "cursor": cursor}

    monkeypatch.setattr(KalshiConnection, "request", request)
    connection = KalshiConnection(KalshiSettings(), KEYS)
    fills = ("fills", "/portfolio/fills", "fills", lambda entry: entry["fill_id"])
    assert connection.pages(*fills, ticker="RAIN") == ["a", "b", "c"]
    assert all(query["ticker"] == "RAIN" for query in asked)
    pages["2"] = ("c", "1")
    with pytest.raises(BrokerError, match=f"fills: .*more than {PAGES} pages"):
        connection.pages(*fills)


LATER = np.datetime64("2100-01-01", "ns")


def test_what_an_order_filled_until_it_was_taken_out_is_waited_for(venue: Venue) -> None:
    manager = manager_of()
    manager.submit(WISH)
    venue.trades(4, listed=False)
    assert [intent.client_order_id for intent in manager.withdraw("RAIN", LATER)] == ["o-1"]
    with pytest.raises(BrokerError, match=r"order v-1: 4.00 traded, 0 listed"):
        manager.view("RAIN")
    venue.cash, venue.positions, venue.fills = "997.93", {"RAIN": "4.00"}, [fill("4.00")]
    view = manager.view("RAIN")
    assert (view.yes, view.resting) == (4, ())
