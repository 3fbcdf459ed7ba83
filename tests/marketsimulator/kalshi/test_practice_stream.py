"""The practice server's websocket: books that add up, numbers without gaps, and with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from marketsimulator.kalshi import SyntheticMarket, synthetic_session
from tests.marketsimulator.kalshi.practice import KalshiPractice, kalshi_practice
from tests.marketsimulator.kalshi.wire import CREATE, body_of, buying

D = Decimal
SOCKET = "/trade-api/ws/v2"
PLENTY = {"read": 1_000_000, "write": 1_000_000}
MOVING = SyntheticMarket(steps=40)
Message = dict[str, Any]
Sides = dict[str, dict[Decimal, Decimal]]


@pytest.fixture
def practice() -> Iterator[KalshiPractice]:
    sessions = {name: synthetic_session(k, MOVING) for k, name in enumerate(("RAIN", "SNOW"))}
    with kalshi_practice(sessions=sessions, buckets=PLENTY) as here:
        yield here


@contextmanager
def connected(practice: KalshiPractice) -> Iterator[ClientConnection]:
    url = practice.url.replace("http", "ws") + SOCKET
    headers = practice.headers("GET", SOCKET)
    with connect(url, additional_headers=headers, close_timeout=1) as socket:
        yield socket


def command(socket: ClientConnection, cmd: str, **params: Any) -> None:
    socket.send(json.dumps({"id": 7, "cmd": cmd, "params": params}))


def received(socket: ClientConnection) -> Message:
    message: Message = json.loads(socket.recv(timeout=10))
    return message


def until_told(socket: ClientConnection) -> list[Message]:
    """Everything that was sent before an answer to a command that cannot be done."""
    command(socket, "nonsense")
    messages = []
    while (message := received(socket))["type"] != "error":
        messages.append(message)
    return messages


def followed(messages: list[Message]) -> dict[str, Sides]:
    """Books by ticker, from a snapshot and what came after it."""
    books: dict[str, Sides] = {}
    for message in messages:
        msg = message["msg"]
        ticker = msg.get("market_ticker")
        if message["type"] == "orderbook_snapshot":
            books[ticker] = {
                side: {D(price): D(size) for price, size in msg.get(f"{side}_dollars_fp", [])}
                for side in ("yes", "no")
            }
        elif message["type"] == "orderbook_delta":
            levels = books[ticker][msg["side"]]
            price = D(msg["price_dollars"])
            levels[price] = levels.get(price, D(0)) + D(msg["delta_fp"])
            assert levels[price] >= 0
            if not levels[price]:
                del levels[price]
    return books


def rest_book(practice: KalshiPractice, ticker: str, *, yes_prices: bool) -> Sides:
    book = practice.ask("GET", f"/markets/{ticker}/orderbook").json()["orderbook_fp"]
    no = {D(price): D(size) for price, size in book["no_dollars"]}
    return {
        "yes": {D(price): D(size) for price, size in book["yes_dollars"]},
        "no": {1 - price: size for price, size in no.items()} if yes_prices else no,
    }


def numbers(messages: list[Message]) -> list[int]:
    return [message["seq"] for message in messages if "seq" in message]


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 9), min_size=3, max_size=5), st.booleans())
def test_snapshot_and_deltas_add_up_to_the_book_that_is_asked_for(
    seed: int, steps: list[int], yes_prices: bool
) -> None:
    sessions = {name: synthetic_session((seed, k), MOVING) for k, name in enumerate(("A", "B"))}
    server = kalshi_practice(sessions=sessions, buckets=PLENTY)
    with server as practice, connected(practice) as socket:
        told = {"channels": ["orderbook_delta"], "market_tickers": ["A", "B"]}
        command(socket, "subscribe", **told, use_yes_price=yes_prices)
        messages = []
        for count in steps:
            practice.advance(count)
            messages += until_told(socket)
            books = followed(messages)
            for ticker in sessions:
                assert books[ticker] == rest_book(practice, ticker, yes_prices=yes_prices)
        assert numbers(messages) == list(range(1, len(numbers(messages)) + 1))


def test_a_stream_is_opened_with_a_signature(practice: KalshiPractice) -> None:
    url = practice.url.replace("http", "ws") + SOCKET
    with pytest.raises(InvalidStatus), connect(url):
        pass
    wrong = practice.headers("GET", "/trade-api/v2/markets")
    with pytest.raises(InvalidStatus), connect(url, additional_headers=wrong):
        pass


def test_a_gap_is_seen_in_the_numbers_and_a_new_snapshot_mends_it(
    practice: KalshiPractice,
) -> None:
    with connected(practice) as socket:
        command(socket, "subscribe", channels=["orderbook_delta"], market_tickers=["RAIN"])
        practice.fault("gap", path="orderbook_delta")
        practice.advance(4)
        messages = until_told(socket)
        seen = numbers(messages)
        assert seen[0] == 1
        assert sorted(set(range(1, max(seen) + 1)) - set(seen)) == [2]
        sid = messages[1]["sid"]
        command(
            socket,
            "update_subscription",
            sids=[sid],
            action="get_snapshot",
            market_tickers=["RAIN"],
        )
        practice.advance(3)
        after = until_told(socket)
        books = followed(after)
        assert books["RAIN"] == rest_book(practice, "RAIN", yes_prices=False)
        assert numbers(after)[0] == max(seen) + 1


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("gap", [1, 3, 4]),
        ("duplicate", [1, 2, 2, 3, 4]),
        ("out_of_order", [1, 3, 2, 4]),
        ("silence", [1, 2, 3]),
    ],
)
def test_messages_are_lost_doubled_turned_round_or_never_sent(kind: str, shown: list[int]) -> None:
    """Only the size at the bid moves, once a tick: one delta each."""
    session = synthetic_session(0, MOVING)[:6]
    session[:, 0:2] = (0.48, 0.50)
    session[:, 2] = range(10, 16)
    session[:, 3] = 9
    server = kalshi_practice(sessions={"RAIN": session}, buckets=PLENTY)
    with server as practice, connected(practice) as socket:
        command(socket, "subscribe", channels=["orderbook_delta"], market_tickers=["RAIN"])
        until_told(socket)
        practice.fault(kind, path="orderbook_delta")
        practice.advance(3)
        assert numbers(until_told(socket)) == shown[1:]


def test_a_stream_that_is_dropped_can_be_opened_again(practice: KalshiPractice) -> None:
    with connected(practice) as socket:
        command(socket, "subscribe", channels=["orderbook_delta"], market_tickers=["RAIN"])
        until_told(socket)
        practice.hang_up()
        with pytest.raises(ConnectionClosed):
            received(socket)
    practice.advance(2)
    with connected(practice) as socket:
        command(socket, "subscribe", channels=["orderbook_delta"], market_tickers=["RAIN"])
        messages = until_told(socket)
        assert followed(messages)["RAIN"] == rest_book(practice, "RAIN", yes_prices=False)
        assert numbers(messages) == [1]


def test_fills_come_with_both_ids_and_others_trades_with_the_takers_side(
    practice: KalshiPractice,
) -> None:
    with connected(practice) as socket:
        command(socket, "subscribe", channels=["fill", "trade"])
        ask = practice.exchange.exchange.quote("RAIN").yes_ask
        price = min(ask + D("0.05"), D("0.99"))
        order = buying("mine", price=str(price))
        order_id = practice.ask("POST", CREATE, body_of(order)).json()["order_id"]
        practice.advance(20)
        messages = until_told(socket)
    fills = [message["msg"] for message in messages if message["type"] == "fill"]
    trades = practice.exchange.trades
    assert [D(fill["count_fp"]) for fill in fills] == [trade.count for trade in trades]
    assert {(fill["order_id"], fill["client_order_id"]) for fill in fills} == {(order_id, "mine")}
    public = [message["msg"] for message in messages if message["type"] == "trade"]
    assert {each["taker_side"] for each in public} <= {"yes", "no"}
    assert {each["market_ticker"] for each in public} <= {"RAIN", "SNOW"}
    assert public


def test_who_hits_the_bid_takes_no_and_who_lifts_the_ask_takes_yes() -> None:
    """7 sold at the bid that was shown, 0.48, then 5 bought at the ask, 0.52."""
    session = np.array([[0.48, 0.52, 30, 30, 0, 0, 0.5]] * 4)
    session[1, 4] = 7
    session[2, 5] = 5
    server = kalshi_practice(sessions={"RAIN": session}, buckets=PLENTY)
    with server as practice, connected(practice) as socket:
        command(socket, "subscribe", channels=["trade"])
        practice.advance(3)
        trades = [message["msg"] for message in until_told(socket) if message["type"] == "trade"]
    told = [(t["taker_side"], t["yes_price_dollars"], t["count_fp"]) for t in trades]
    assert told == [("no", "0.4800", "7.00"), ("yes", "0.5200", "5.00")]


@pytest.mark.parametrize(
    ("cmd", "params", "code"),
    [
        ("subscribe", {}, 3),
        ("subscribe", {"channels": ["weather"]}, 8),
        ("subscribe", {"channels": ["orderbook_delta"]}, 11),
        ("subscribe", {"channels": ["orderbook_delta"], "market_tickers": ["HAIL"]}, 11),
        ("unsubscribe", {"sids": [99]}, 7),
        ("update_subscription", {"sids": [99], "action": "get_snapshot"}, 7),
        ("dance", {}, 5),
    ],
)
def test_a_command_that_cannot_be_done_is_answered_with_its_code(
    practice: KalshiPractice, cmd: str, params: Message, code: int
) -> None:
    with connected(practice) as socket:
        command(socket, cmd, **params)
        answer = received(socket)
        assert (answer["type"], answer["id"], answer["msg"]["code"]) == ("error", 7, code)
        socket.send("no json")
        assert received(socket)["msg"]["code"] == 11


def test_markets_are_added_to_a_subscription_and_taken_out(practice: KalshiPractice) -> None:
    with connected(practice) as socket:
        command(socket, "subscribe", channels=["orderbook_delta"], market_ticker="RAIN")
        sid = received(socket)["msg"]["sid"]
        update = {"sids": [sid], "market_tickers": ["SNOW"]}
        command(socket, "update_subscription", **update, action="add_markets")
        assert set(followed(until_told(socket))) == {"RAIN", "SNOW"}
        command(socket, "update_subscription", **update, action="delete_markets")
        until_told(socket)
        practice.advance(5)
        moved = until_told(socket)
        assert {message["msg"]["market_ticker"] for message in moved} == {"RAIN"}
        command(socket, "unsubscribe", sids=[sid])
        assert received(socket)["type"] == "unsubscribed"
        practice.advance(5)
        assert until_told(socket) == []
