"""A book that is kept is the venue's or stale, whatever is lost, doubled or late on the way."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.kalshi.books import BookKeeper, OrderBook
from foundation.errors import SenselessAnswer

D = Decimal
MARKETS = ("RAIN", "SNOW")
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(MARKETS),
        st.sampled_from(["yes", "no"]),
        st.integers(1, 5),
        st.integers(0, 300),
        st.sampled_from(["sent", "sent", "sent", "lost", "twice", "late"]),
    ),
    max_size=40,
)


class Venue:
    """The truth, and the messages that tell of it."""

    def __init__(self) -> None:
        self.books: dict[str, dict[str, dict[D, D]]] = {
            market: {"yes": {D("0.4000"): D("10.00")}, "no": {D("0.6000"): D("5.00")}}
            for market in MARKETS
        }
        self.serial = 0

    def numbered(self, kind: str, content: dict[str, Any]) -> dict[str, Any]:
        self.serial += 1
        return {"type": kind, "sid": 7, "seq": self.serial, "msg": content}

    def snapshot(self, market: str) -> dict[str, Any]:
        content: dict[str, Any] = {"market_ticker": market}
        for side in ("yes", "no"):
            levels = [[f"{p:.4f}", f"{c:.2f}"] for p, c in self.books[market][side].items()]
            content |= {f"{side}_dollars_fp": levels} if levels else {}
        return self.numbered("orderbook_snapshot", content)

    def delta(self, market: str, side: str, price: D, count: D) -> dict[str, Any]:
        level = self.books[market][side]
        change = count - level.pop(price, D(0))
        if count:
            level[price] = count
        return self.numbered(
            "orderbook_delta",
            {
                "market_ticker": market,
                "side": side,
                "price_dollars": f"{price:.4f}",
                "delta_fp": f"{change:.2f}",
            },
        )

    def book(self, market: str) -> OrderBook:
        return OrderBook(self.books[market]["yes"], self.books[market]["no"])


def begun() -> tuple[BookKeeper, Venue]:
    keeper, venue = BookKeeper(MARKETS), Venue()
    first = keeper.begin()
    assert first["cmd"] == "subscribe"
    assert first["params"] == {
        "channels": ["orderbook_delta"],
        "market_tickers": list(MARKETS),
        "use_yes_price": True,
    }
    for market in MARKETS:
        assert keeper.staleness(market)
        assert keeper.heard(venue.snapshot(market)) == []
    return keeper, venue


@given(CHANGES)
def test_a_book_is_the_venues_or_it_is_stale(
    changes: list[tuple[str, str, int, int, str]],
) -> None:
    keeper, venue = begun()
    late: list[dict[str, Any]] = []
    for market, side, level, count, way in changes:
        price = D(level if side == "yes" else 10 - level) / 10
        message = venue.delta(market, side, price, D(count))
        if way == "lost":
            continue
        if way == "late":
            late.append(message)
            continue
        asked = []
        for heard in [message, *([message] if way == "twice" else []), *late]:
            asked += keeper.heard(heard)
        late.clear()
        for command in asked:
            assert command["params"]["action"] == "get_snapshot"
            for name in command["params"]["market_tickers"]:
                assert keeper.heard(venue.snapshot(name)) == []
        for name in MARKETS:
            assert not keeper.staleness(name)
            assert keeper.book(name) == venue.book(name)


def test_after_a_gap_every_book_of_the_subscription_is_stale_until_its_snapshot() -> None:
    keeper, venue = begun()
    venue.delta("RAIN", "yes", D("0.4"), D(3))
    (asked,) = keeper.heard(venue.delta("SNOW", "yes", D("0.4"), D(4)))
    assert asked["params"] == {
        "sids": [7],
        "action": "get_snapshot",
        "market_tickers": ["RAIN", "SNOW"],
    }
    for market in MARKETS:
        assert keeper.staleness(market) == "seq went from 2 to 4"
    # What comes before the snapshot is in it, and is not taken from what was there before the gap.
    taken = venue.delta("RAIN", "no", D("0.6"), D(8))
    taken["msg"]["delta_fp"] = "-99.00"
    assert keeper.heard(taken) == []
    assert keeper.staleness("RAIN") == "seq went from 2 to 4"
    assert keeper.heard(venue.snapshot("RAIN")) == []
    assert not keeper.staleness("RAIN")
    assert keeper.staleness("SNOW")
    assert keeper.book("RAIN") == venue.book("RAIN")
    assert not keeper.all_certain


def test_a_message_that_comes_twice_or_late_changes_nothing_and_asks_for_nothing() -> None:
    keeper, venue = begun()
    first = venue.delta("RAIN", "yes", D("0.4"), D(3))
    second = venue.delta("RAIN", "yes", D("0.4"), D(7))
    for message in (first, second, second, first):
        assert keeper.heard(message) == []
    assert keeper.all_certain
    assert keeper.book("RAIN") == venue.book("RAIN")


def test_a_new_connection_knows_nothing_of_the_one_before() -> None:
    keeper, venue = begun()
    keeper.end("lost")
    assert keeper.staleness("RAIN") == "lost"
    assert keeper.begin()["id"] == 2
    assert keeper.staleness("RAIN")
    venue.serial = 0
    for market in MARKETS:
        keeper.heard(venue.snapshot(market))
    assert keeper.all_certain


def test_more_taken_away_than_is_there_asks_for_the_book_anew() -> None:
    keeper, venue = begun()
    message = venue.delta("RAIN", "yes", D("0.4"), D(3))
    message["msg"]["delta_fp"] = "-11.00"
    (asked,) = keeper.heard(message)
    assert asked["params"]["market_tickers"] == ["RAIN"]
    assert "takes 11.00 at 0.4000, 10.00 are there" in keeper.staleness("RAIN")
    assert not keeper.staleness("SNOW")


def test_a_market_that_is_not_followed_is_never_certain() -> None:
    keeper, venue = begun()
    message = venue.snapshot("RAIN")
    message["msg"]["market_ticker"] = "HAIL"
    keeper.heard(message)
    change = venue.delta("RAIN", "yes", D("0.4"), D(3))
    change["msg"]["market_ticker"] = "HAIL"
    assert keeper.heard(change) == []
    assert keeper.staleness("HAIL")
    assert keeper.book("HAIL") == OrderBook()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"type": None}, "type is missing"),
        ({"type": "error", "msg": {"code": 8, "msg": "Unknown channel name"}}, "Unknown channel"),
        ({"seq": None}, "sid or seq is missing"),
        ({"seq": "3"}, "seq is no whole number"),
        ({"msg": []}, "msg is no object"),
        ({"msg": {"market_ticker": "RAIN", "yes_dollars_fp": [["0.4"]]}}, "no list of pairs"),
        ({"msg": {"market_ticker": "RAIN", "yes_dollars_fp": [[0.4, "1"]]}}, "no fixed-point"),
        ({"msg": {"market_ticker": "RAIN", "no_dollars_fp": [["0.4", "-1.00"]]}}, "below 0"),
    ],
)
def test_a_message_that_makes_no_sense_is_told_by_field(change: dict[str, Any], says: str) -> None:
    keeper, venue = begun()
    with pytest.raises(SenselessAnswer, match=says):
        keeper.heard({**venue.snapshot("RAIN"), **change})


def test_what_is_no_book_is_passed_over() -> None:
    keeper, _ = begun()
    assert keeper.heard({"type": "subscribed", "msg": {"sid": 7}}) == []
    assert keeper.heard({"id": 2, "type": "ok", "sid": 7}) == []


def test_an_empty_side_has_the_price_of_nothing_or_of_certainty() -> None:
    assert (OrderBook().best_bid, OrderBook().best_ask) == (0, 1)
    book = OrderBook.of([(D("0.4"), D(0)), (D("0.3"), D(2))], [(D("0.6"), D(1)), (D("0.5"), D(1))])
    assert (book.best_bid, book.best_ask) == (D("0.3"), D("0.5"))
