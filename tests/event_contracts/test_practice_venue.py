"""The practice venue plays the environment's market, creates no money, and speaks Kalshi's API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from event_contracts import SyntheticSessionModel
from event_contracts.simulation.exchange import Exchange, SimulatedListing
from event_contracts.simulation.sessions import session_to_tick_records, validate_session
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trading.event_risk import StrikeFields, StrikeRange
from event_contracts.trading.orders import EventContractOrder
from event_contracts.trading.sampler import read_estimates
from foundation.arrays import Array
from practice.kalshi import catalog
from practice.kalshi.orders import OrderRequest, RequestRefused, accept_order
from practice.kalshi_server import (
    MAX_CLOCK_OFFSET_MS,
    KalshiServer,
    build_exchange,
    build_listings,
    generate_keys,
)
from practice.settings import KalshiVenueSettings
from tests.e2e.kalshi_desk import flat, quotes
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
from tests.support.messages import refused

D = Decimal
NOW = np.datetime64("2026-11-23T15:00:00", "ns")


def venue_of(*sessions: Array, **more: Any) -> Exchange:
    names = ("RAIN", "SNOW", "WIND")
    listings = [
        SimulatedListing(name, session_to_tick_records(validate_session(each)))
        for name, each in zip(names, sessions, strict=False)
    ]
    return build_exchange(KalshiVenueSettings(**more), listings, NOW)


def selling(name: str, count: int = 7) -> EventContractOrder:
    """An immediate sale of YES at the bid."""
    terms = "RAIN", "SELL", "YES", D("0.48"), D(count)
    return EventContractOrder(name, *terms, time_in_force="immediate_or_cancel")


def send(venue: Exchange, order: EventContractOrder, **more: Any) -> str:
    return accept_order(venue, OrderRequest.parse(body_of(order, **more))).order_id


def test_market_pays_out_only_when_finalized() -> None:
    """10 YES at 0.50: $5.00 and a fee of 0.07 · 10 · 0.25 = 0.175 → $0.18; YES pays $10."""
    venue = venue_of(flat(rows=4), settlement_ticks=2)
    send(venue, buying("a"))
    told = []
    for _ in range(6):
        told.append((venue.market_state("RAIN"), venue.outcome("RAIN"), venue.cash))
        venue.advance()
    after = D("994.82")
    assert told == [
        ("active", None, after),
        ("active", None, after),
        ("active", None, after),
        ("closed", None, after),
        ("determined", "YES", after),
        ("finalized", "YES", after + 10),
    ]
    assert venue.is_over


def test_unpaid_payout_cannot_be_spent() -> None:
    venue = venue_of(flat(rows=3), flat(rows=9), settlement_ticks=3, starting_cash=10.0)
    send(venue, buying("a", count=18))
    venue.advance()
    venue.advance()
    assert venue.market_state("RAIN") == "closed"
    assert venue.cash < 1
    assert venue.view("SNOW").other_positions_value == 18
    with refused(RequestRefused):
        send(venue, buying("b", market="SNOW", count=3))
    for _ in range(3):
        venue.advance()
    assert venue.market_state("RAIN") == "finalized"
    send(venue, buying("c", market="SNOW", count=3))


def test_expired_order_is_not_filled_on_next_tick() -> None:
    venue = venue_of(quotes([(0.48, 0.50, 1), (0.44, 0.46, 4), (0.99, 1.0, 1)]))
    seconds = int(NOW.astype("datetime64[s]").astype(np.int64))
    early = send(venue, buying("a", price="0.47"), expiration_time=seconds + 59)
    just = send(venue, buying("b", price="0.47", count=5), expiration_time=seconds + 60)
    with refused(RequestRefused, "expiration_time"):
        send(venue, buying("c"), expiration_time=seconds)
    venue.advance()
    assert (venue.orders[early].state, venue.orders[early].filled_count) == ("canceled", D(0))
    assert (venue.orders[just].state, venue.orders[just].filled_count) == ("executed", D(5))


def test_reduce_only_order_is_capped_at_the_position() -> None:
    venue = venue_of(flat())
    idle = send(venue, selling("s"))
    assert (venue.orders[idle].state, venue.orders[idle].filled_count) == ("canceled", 0)
    send(venue, buying("a"))
    venue.advance()
    first, second, third = (send(venue, selling(name)) for name in ("t", "u", "v"))
    assert [venue.orders[each].filled_count for each in (first, second, third)] == [7, 3, 0]
    assert (venue.position("RAIN"), venue.view("RAIN").resting_orders) == (0, ())


def test_sale_without_reduce_only_can_flip_the_position() -> None:
    """As at the venue, only `reduce_only` caps an order: the client has to limit all others."""
    venue = venue_of(flat())
    send(venue, buying("a"))
    venue.advance()
    send(venue, replace(selling("s", 25), time_in_force="good_till_canceled"))
    venue.advance()
    assert venue.position("RAIN") == -15


def test_closing_order_needs_no_cash() -> None:
    """10 YES at 0.50 leave $2.82 of $8.00; 10 NO at 0.52 would cost $5.20 and their fee."""
    venue = venue_of(flat(), starting_cash=8.0)
    send(venue, buying("a"))
    venue.advance()
    plain = replace(selling("s", 10), time_in_force="good_till_canceled")
    with refused(RequestRefused):
        send(venue, replace(plain, count=D(20)))
    send(venue, replace(plain, price=D("0.49")))
    with refused(RequestRefused):
        send(venue, replace(plain, client_order_id="t"))
    assert venue.position("RAIN") == 10


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"count": 10}, ("count",)),
        ({"price": "1.0000"}, ("price",)),
        ({"price": "0.5050"}, ()),
        ({"side": "yes"}, ("side", "'bid'", "'ask'")),
        ({"ticker": "HAIL"}, ("HAIL",)),
        ({"expiration_time": "soon"}, ("expiration_time", "1970")),
        ({"post_only": True}, ()),
        ({"post_only": 1}, ("post_only",)),
        ({"cancel_order_on_pause": True}, ("cancel_order_on_pause",)),
        ({"order_group_id": "g"}, ("order_group_id", "'g'")),
        ({"subaccount": 1}, ("subaccount", "1")),
        ({"time_in_force": "fill_or_kill", "count": "31"}, ()),
        ({"time_in_force": "GTT"}, ("time_in_force", "'immediate_or_cancel'")),
        ({"exchange_index": 3}, ("exchange_index", "0", "-1")),
        ({"reduce_only": True}, ("reduce_only",)),
        ({"reduce_only": True, "time_in_force": "fill_or_kill"}, ("reduce_only",)),
        *(
            ({"time_in_force": force, "expiration_time": 2**32}, (force, "expiration_time"))
            for force in ("immediate_or_cancel", "fill_or_kill")
        ),
        ({"count": "5000"}, ()),
    ],
)
def test_invalid_order_is_refused_naming_its_field(
    change: dict[str, Any], facts: tuple[str, ...]
) -> None:
    venue = venue_of(flat())
    body = body_of(buying("a"), **change)
    with refused(RequestRefused, *facts):
        accept_order(venue, OrderRequest.parse(body))
    assert not venue.orders


@pytest.mark.parametrize(
    "more",
    [
        {"exchange_index": 0},
        {"exchange_index": -1, "subaccount": 0, "self_trade_prevention_type": "maker"},
        {"post_only": False, "cancel_order_on_pause": False, "reduce_only": False},
        dict.fromkeys(("exchange_index", "post_only", "expiration_time", "order_group_id")),
        {"client_order_id": None, "reduce_only": None},
    ],
)
def test_optional_order_fields_without_effect_are_accepted(more: dict[str, Any]) -> None:
    venue = venue_of(flat())
    placed = accept_order(venue, OrderRequest.parse(body_of(buying("a", price="0.49"), **more)))
    assert (placed.state, placed.remaining_count) == ("resting", 10)


BALANCE = f"{API}/portfolio/balance"


@pytest.fixture
def practice() -> Iterator[KalshiPractice]:
    with kalshi_practice(sessions={"RAIN": flat(30), "SNOW": flat(30)}) as here:
        yield here


def create(practice: KalshiPractice, name: str = "a", **more: Any) -> requests.Response:
    return practice.ask("POST", CREATE, body_of(buying(name), **more))


def test_request_with_invalid_or_foreign_signature_is_refused(practice: KalshiPractice) -> None:
    def answer(headers: dict[str, str]) -> requests.Response:
        return requests.get(f"{practice.url}{BALANCE}", headers=headers, timeout=30)

    def signed(
        method: str = "GET", path: str = BALANCE, at: int | None = None, key: str = KEYS.private_key
    ) -> dict[str, str]:
        return signed_headers(practice.key_id, key, method, path, at)

    assert answer(signed()).status_code == 200
    wrong = [
        *(signed(path=f"{API}/portfolio/fills"), signed("POST")),
        signed(key=generate_keys().private_key),
    ]
    now = int(time.time() * 1000)
    for name, value in (
        *(("KEY", "another"), ("KEY", ""), ("SIGNATURE", ""), ("SIGNATURE", "no base64!")),
        *(("TIMESTAMP", ""), ("TIMESTAMP", "yesterday"), ("TIMESTAMP", "9" * 5000)),
        ("TIMESTAMP", str(now - 1_000)),
    ):
        wrong.append(signed() | {f"KALSHI-ACCESS-{name}": value})
    wrong += [
        signed(at=now + off)
        for off in (-MAX_CLOCK_OFFSET_MS - 60_000, MAX_CLOCK_OFFSET_MS + 60_000)
    ]
    for headers in wrong:
        refused = answer(headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "authentication_error")


def test_immediate_order_response_reports_the_filled_count(practice: KalshiPractice) -> None:
    """Without a position it fills nothing, because the venue caps it at the position."""
    sale = body_of(selling("s", 10), exchange_index=0)
    flat_answer = practice.ask("POST", CREATE, sale)
    assert flat_answer.status_code == 201
    create(practice)
    practice.advance()
    more = practice.ask("POST", CREATE, {**sale, "client_order_id": "t", "count": "12.00"}).json()
    assert (more["fill_count"], more["remaining_count"]) == ("10.00", "0.00")
    resting = practice.ask("GET", "/portfolio/orders", status="resting").json()["orders"]
    assert resting == []


def book(practice: KalshiPractice) -> dict[str, list[list[str]]]:
    answer = practice.ask("GET", "/markets/RAIN/orderbook").json()
    shown: dict[str, list[list[str]]] = answer["orderbook_fp"]
    return shown


def test_order_responses_agree_with_the_displayed_book(practice: KalshiPractice) -> None:
    """Thirty are offered at 0.50 until the next tick, and orders take no more in total."""
    assert book(practice)["no_dollars"] == [["0.5000", "30.00"]]
    first = create(practice, "a", count="12.00").json()
    assert (first["fill_count"], first["remaining_count"]) == ("12.00", "0.00")
    assert book(practice)["no_dollars"] == [["0.5000", "18.00"]]
    killed = create(practice, "k", count="19.00", time_in_force="fill_or_kill")
    code = "fill_or_kill_insufficient_resting_volume"
    assert (killed.status_code, killed.json()["code"]) == (409, code)
    rest = create(practice, "b", count="20.00").json()
    assert (rest["fill_count"], rest["remaining_count"]) == ("18.00", "2.00")
    assert book(practice)["no_dollars"] == []
    market = practice.ask("GET", "/markets/RAIN").json()["market"]
    assert (market["yes_ask_dollars"], market["yes_ask_size_fp"]) == ("1.0000", "0.00")
    none = create(practice, "c", time_in_force="immediate_or_cancel").json()
    assert (none["fill_count"], none["remaining_count"]) == ("0.00", "0.00")
    orders = practice.ask("GET", "/portfolio/orders").json()["orders"]
    statuses = {row["client_order_id"]: row["status"] for row in orders}
    assert statuses == {"a": "executed", "b": "resting", "c": "canceled"}
    practice.advance()
    assert book(practice)["no_dollars"] == [["0.5000", "30.00"]]


def test_post_only_order_rests_or_is_refused(practice: KalshiPractice) -> None:
    """In production, a post_only order that crosses is answered with 400 and leaves no order."""
    refused = create(practice, "x", post_only=True)
    answer = refused.json()
    assert (refused.status_code, answer["code"]) == (400, "invalid_order")
    assert answer["message"] == "post only cross"
    rests = create(practice, "y", post_only=True, price="0.4900").json()
    assert (rests["fill_count"], rests["remaining_count"]) == ("0.00", "10.00")


def test_reduce_only_resting_order_is_refused_like_kalshi(practice: KalshiPractice) -> None:
    for change in ({"time_in_force": "good_till_canceled"}, {"time_in_force": "fill_or_kill"}):
        refused = practice.ask("POST", CREATE, {**body_of(selling("s")), **change})
        answer = refused.json()
        assert (refused.status_code, answer["code"]) == (400, "invalid_order")
        assert answer["message"] == "reduce_only can only be used with IoC orders"


def test_injected_faults_reject_delay_or_partially_fill_orders(practice: KalshiPractice) -> None:
    practice.fault("reject")
    assert create(practice, "no").status_code == 400
    practice.fault("reject_later")
    later = create(practice, "later").json()["order_id"]
    practice.fault("partial")
    part = create(practice, "part").json()
    assert (part["fill_count"], part["remaining_count"]) == ("5.00", "0.00")
    practice.advance()
    orders = practice.ask("GET", "/portfolio/orders").json()["orders"]
    shown = {row["order_id"]: row for row in orders}
    for name, filled in ((later, "0.00"), (part["order_id"], "5.00")):
        assert (shown[name]["status"], shown[name]["fill_count_fp"]) == ("canceled", filled)


def test_practice_venue_writes_estimates_file_readable_by_client(tmp_path: Path) -> None:
    """Without estimates a policy that was trained on them finds no edge at a practice venue."""
    path = tmp_path / "own.csv"
    settings = KalshiVenueSettings(market=SyntheticSessionModel(steps=5, mispricing=0.2))
    exchange = build_exchange(settings, build_listings(settings), np.datetime64("2026-11-28", "ns"))
    server = KalshiServer(exchange, KEYS, estimates=path)
    for _ in range(4):
        for market, (chance, until) in read_estimates(path).items():
            assert chance == pytest.approx(
                float(exchange.current_tick(market)["estimate"]), abs=1e-4
            )
            assert until == exchange.instant_of(5)
        assert len(read_estimates(path)) == 2
        server.step()
    server.step()
    assert read_estimates(path) == {}


@pytest.mark.parametrize("speed", [1, 60, 3600, 0.5])
def test_server_speed_shortens_the_tick_interval(speed: float) -> None:
    settings = KalshiVenueSettings()
    exchange = build_exchange(settings, build_listings(settings), np.datetime64("2026-11-28", "ns"))
    server = KalshiServer(exchange, KEYS, speed)
    assert server.speed == 1
    assert exchange.interval / np.timedelta64(1, "s") == pytest.approx(60 / speed)


def test_market_listing_states_its_event_and_strike() -> None:
    tape = session_to_tick_records(synthetic_session(1, SyntheticSessionModel(steps=5)))
    strike = StrikeRange(low=D(60))
    listings = [
        SimulatedListing("A", tape, event_ticker="E", is_mutually_exclusive=True, strike=strike),
        SimulatedListing("B", tape, event_ticker="F"),
    ]
    exchange = Exchange(listings)
    stated = catalog.get_market(exchange, "A")
    assert (stated["event_ticker"], stated["strike_type"], stated["floor_strike"]) == (
        "E",
        "greater",
        60.0,
    )
    assert catalog.get_event(exchange, "E")["event"]["mutually_exclusive"] is True
    assert catalog.get_event(exchange, "F")["event"]["mutually_exclusive"] is False
    assert StrikeFields().read(catalog.get_market(exchange, "B")) is None
