"""The practice venue plays the environment's market, creates no money, and keeps orders' terms."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_contracts import MarketAgnosticKalshiEnv, SyntheticMarket
from event_contracts.simulation.answers import market
from event_contracts.simulation.exchange import Exchange, Listing
from event_contracts.simulation.sessions import checked_session, tape_of
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.simulation.venue import KalshiVenueSettings, OrderRequest, Refused, take
from event_contracts.trading.actions import LimitOrderActionSpace
from event_contracts.trading.orders import FLAT, LimitOrder
from event_contracts.trading.venue_orders import book_side, yes_price
from foundation.arrays import Array
from foundation.compose import composed_config
from foundation.errors import InputError
from tests.event_contracts.practice import kalshi_practice
from tests.event_contracts.wire import CREATE, body_of, buying, view_of

D = Decimal
SHORT = SyntheticMarket(steps=40)
NOW = np.datetime64("2026-11-23T15:00:00", "ns")
STYLES = ("passive", "mid", "aggressive")
seeds = st.integers(0, 2**31)
styles = st.sampled_from(STYLES)


def venue_of(*sessions: Array, **more: Any) -> Exchange:
    names = ("RAIN", "SNOW", "WIND")
    listings = [
        Listing(name, tape_of(checked_session(each)))
        for name, each in zip(names, sessions, strict=False)
    ]
    return KalshiVenueSettings(**more).exchange(listings, NOW)


def flat(rows: int = 6, bid: float = 0.48, ask: float = 0.50, size: float = 30) -> Array:
    """A quote that stands still, nobody trades, and YES comes true."""
    row = [bid, ask, size, size, 0, 0, (bid + ask) / 2]
    return np.array([*([row] * (rows - 1)), [0.99, 1.0, 0, 0, 0, 0, 1.0]])


def send(venue: Exchange, order: LimitOrder, **more: Any) -> str:
    return take(venue, OrderRequest.of(body_of(order, **more))).order_id


def bid_of(venue: Exchange) -> tuple[str, str]:
    """The price and the size of the best bid for RAIN, as the API writes them."""
    answer = market(venue, "RAIN")
    return answer["yes_bid_dollars"], answer["yes_bid_size_fp"]


@pytest.mark.slow
@settings(max_examples=3, deadline=None)
@given(seeds, styles)
def test_over_the_wire_an_agent_sees_and_fills_what_the_environment_does(
    seed: int, style: str
) -> None:
    session = synthetic_session(seed, SyntheticMarket(steps=20))
    env = MarketAgnosticKalshiEnv(session, price_style=style, life=2)
    space = LimitOrderActionSpace(price_style=style)  # type: ignore[arg-type]
    env.reset(seed=0)
    rng = np.random.default_rng(seed)
    with kalshi_practice(sessions={"RAIN": session}, limited=True) as practice:
        shown = []
        for number in range(len(session) - 2):
            view = view_of(practice, "RAIN")
            if len(view.resting) < 8:
                assert np.array_equal(space.action_masks(view), env.action_masks())
            action = int(rng.choice(np.flatnonzero(env.action_masks())))
            order = space.order(action, view, f"{number}")
            if order is not None:
                assert practice.ask("POST", CREATE, body_of(order)).status_code == 201
            shown += env.step(action)[4]["fills"]
            practice.advance()
        fills = practice.ask("GET", "/portfolio/fills", limit=1000).json()["fills"]
        for fill, expected in zip(reversed(fills), shown, strict=True):
            side = fill["side"]
            assert fill["action"] == expected["action"].lower()
            assert side == expected["side"].lower()
            assert float(fill[f"{side}_price_dollars"]) == expected["price"]
            assert float(fill["count_fp"]) == expected["count"]
            assert fill["is_taker"] != expected["maker"]
            assert float(fill["fee_cost"]) == expected["fee"]
            assert "client_order_id" not in fill


@settings(max_examples=40, deadline=None)
@given(seeds, st.lists(st.integers(0, 2**20), min_size=20, max_size=20), st.booleans())
def test_money_is_conserved_and_the_two_books_agree_until_all_has_settled(
    seed: int, draws: list[int], limited: bool
) -> None:
    """Random orders, changes and cancels in three markets with one account."""
    sessions = [synthetic_session((seed, k), SyntheticMarket(steps=22 - k)) for k in range(3)]
    venue = venue_of(*sessions, limited=limited, starting_cash=200.0)
    for step, draw in enumerate(draws):
        act_at_random(venue, np.random.default_rng(draw), step)
        venue.advance()
        assert venue.cash >= 0
        for placed in venue.orders.values():
            assert placed.filled + placed.waiting <= placed.count
            assert (placed.state == "resting") == (placed.order_id in waiting_in(venue))
    while not venue.is_over:
        venue.advance()
    fills = [each.fill for each in venue.fills]
    bids = [1 if book_side(fill.action, fill.side) == "bid" else -1 for fill in fills]
    bought = sum(
        sign * yes_price(fill.side, fill.price) * fill.count
        for sign, fill in zip(bids, fills, strict=True)
    )
    yes = {t: D(0) for t in venue.listings}
    for sign, fill in zip(bids, fills, strict=True):
        yes[fill.market] += sign * fill.count
    fees = sum((each.fee for each in venue.fills), D(0))
    # Every ask is a sale of YES at its price, a NO bought at 1 - p being a YES sold and $1 paid.
    paid = sum(yes[each.market] for each in venue.settlements if each.outcome == "YES")
    assert venue.cash == D(200) - bought - fees + paid
    assert all(venue.holding(market) == FLAT for market in venue.listings)


def waiting_in(exchange: Exchange) -> set[str]:
    return {each.order_id for each in exchange.resting}


def act_at_random(venue: Exchange, rng: np.random.Generator, step: int) -> None:
    resting = [t.order_id for t in venue.orders.values() if t.state == "resting"]
    choice = rng.integers(6)
    price = D(int(rng.integers(1, 100))) / 100
    count = D(int(rng.integers(1, 60)))
    with suppress(Refused):
        if choice == 0 and resting:
            venue.cancel(str(rng.choice(resting)))
        else:
            body = body_of(
                LimitOrder(
                    f"mine-{step}",
                    str(rng.choice(list(venue.listings))),
                    "BUY" if choice < 5 else "SELL",
                    "YES" if rng.random() < 0.5 else "NO",
                    price,
                    count,
                )
            )
            take(
                venue,
                OrderRequest.of(body),
                partial=rng.random() < 0.2,
                reject=rng.random() < 0.1,
            )


def test_a_market_closes_is_determined_and_pays_when_it_is_finalized() -> None:
    """10 YES at 0.50: $5.00 and a fee of 0.07 · 10 · 0.25 = 0.175 → $0.18; YES pays $10."""
    venue = venue_of(flat(rows=4), settlement=2)
    send(venue, buying("a"))
    told = []
    for _ in range(6):
        told.append((venue.market_state("RAIN"), venue.outcome("RAIN"), venue.cash))
        venue.advance()
    after = D("994.82")
    assert told == [
        ("active", None, D(1000)),
        ("active", None, after),
        ("active", None, after),
        ("closed", None, after),
        ("determined", "YES", after),
        ("finalized", "YES", after + 10),
    ]
    assert venue.is_over


def test_what_a_market_has_not_paid_yet_buys_nothing() -> None:
    venue = venue_of(flat(rows=3), flat(rows=9), settlement=3, starting_cash=10.0)
    send(venue, buying("a", count=18))
    venue.advance()
    venue.advance()
    assert venue.market_state("RAIN") == "closed"
    assert venue.cash < 1
    assert venue.view("SNOW").elsewhere == 18
    with pytest.raises(Refused, match="insufficient balance"):
        send(venue, buying("b", market="SNOW", count=3))
    for _ in range(3):
        venue.advance()
    assert venue.market_state("RAIN") == "finalized"
    send(venue, buying("c", market="SNOW", count=3))


def test_a_closed_market_takes_no_order_and_has_no_quote() -> None:
    venue = venue_of(flat(rows=3), settlement=5)
    waiting = send(venue, buying("a", price="0.10"))
    venue.advance()
    assert bid_of(venue) == ("0.4800", "30.00")
    venue.advance()
    assert venue.orders[waiting].state == "canceled"
    assert bid_of(venue) == ("0.0000", "0.00")
    assert market(venue, "RAIN")["yes_ask_dollars"] == "1.0000"
    with pytest.raises(Refused, match="not trading") as refused:
        send(venue, buying("b"))
    assert refused.value.status == 409


def test_an_order_that_expires_before_the_next_tick_does_not_meet_it() -> None:
    venue = venue_of(flat())
    seconds = int(NOW.astype("datetime64[s]").astype(np.int64))
    early = send(venue, buying("a"), expiration_time=seconds + 59)
    just = send(venue, buying("b", count=5), expiration_time=seconds + 60)
    with pytest.raises(Refused, match="expiration_time has passed"):
        send(venue, buying("c"), expiration_time=seconds)
    venue.advance()
    assert (venue.orders[early].state, venue.orders[early].filled) == ("canceled", D(0))
    assert (venue.orders[just].state, venue.orders[just].filled) == ("executed", D(5))


def test_an_order_that_only_reduces_is_cut_to_what_is_held_and_not_reserved() -> None:
    venue = venue_of(flat())
    with pytest.raises(Refused, match="no position to reduce"):
        send(venue, LimitOrder("s", "RAIN", "SELL", "YES", D("0.60"), D(5)))
    send(venue, buying("a"))
    venue.advance()
    first = send(venue, LimitOrder("s", "RAIN", "SELL", "YES", D("0.60"), D(7)))
    second = send(venue, LimitOrder("t", "RAIN", "SELL", "YES", D("0.60"), D(7)))
    assert [venue.orders[each].count for each in (first, second)] == [D(7), D(3)]


def test_an_ask_without_reduce_only_buys_no_which_pairs_with_what_is_held() -> None:
    """10 YES bought at 0.50, 10 NO at 0.52 (an ask at 0.48): $10.20 and two fees for pairs of $10.

    Fees: 0.175 → 0.18 and 0.07 · 10 · 0.52 · 0.48 = 0.17472 → 0.18 with rounding.
    """
    venue = venue_of(flat())
    send(venue, buying("a"))
    venue.advance()
    send(venue, buying("b", side="NO", price="0.52"))
    venue.advance()
    assert venue.holding("RAIN") == FLAT
    assert venue.cash == D(1000) - D("10.20") - D("0.36") + 10


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"count": 10}, "count: .*no fixed-point text"),
        ({"price": "1.0000"}, "price: .*no price of an order"),
        ({"price": "0.5050"}, "between ticks or contracts"),
        ({"side": "yes"}, "side: .*'bid' or 'ask'"),
        ({"ticker": "HAIL"}, "market HAIL not found"),
        ({"expiration_time": "soon"}, "expiration_time: .*whole seconds since 1970"),
        ({"post_only": True}, "post_only: Unexpected"),
        ({"count": "5000"}, "insufficient balance"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_by_name(change: dict[str, Any], says: str) -> None:
    venue = venue_of(flat())
    body = body_of(buying("a"), **change)
    with pytest.raises(Refused, match=says):
        take(venue, OrderRequest.of(body))
    assert not venue.orders


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
numbers = st.sampled_from(["1e999999", "1e-999999", "-1", "0", "Infinity", "0.50", "7", "1E+2", ""])


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(body_of(buying("a")))), json_values | numbers),
    st.integers(0, 1),
)
def test_whatever_is_sent_is_an_order_or_refused(changes: dict[str, Any], removed: int) -> None:
    venue = venue_of(flat())
    body = {**body_of(buying("a")), **changes}
    for name in list(changes)[:removed]:
        del body[name]
    with suppress(Refused):
        take(venue, OrderRequest.of(body))
    venue.advance()
    assert venue.cash >= 0


def test_a_used_id_is_refused_or_makes_a_second_order_as_the_setting_says() -> None:
    strict = venue_of(flat())
    send(strict, buying("a"))
    with pytest.raises(Refused, match="has been used") as refused:
        send(strict, buying("a"))
    assert refused.value.status == 409
    loose = venue_of(flat())
    request = OrderRequest.of(body_of(buying("a")))
    first, second = (take(loose, request, reused_ids_refused=False) for _ in range(2))
    assert first.order_id != second.order_id
    assert first.client_order_id == second.client_order_id == "a"


def test_settings_of_the_file_are_those_of_the_dataclass() -> None:
    composed = KalshiVenueSettings.of(composed_config("kalshi_venue", []))
    default = KalshiVenueSettings()
    assert composed.fees.by_default() == default.fees.by_default()
    for each in fields(KalshiVenueSettings):
        if each.name != "fees":
            assert getattr(composed, each.name) == getattr(default, each.name), each.name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"starting_cash": 0.001}, "starting_cash"),
        ({"markets": ("RAIN",)}, "name their folder"),
        ({"folder": "/nowhere"}, "is no folder"),
    ],
)
def test_settings_that_cannot_be_are_one_line(words: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        KalshiVenueSettings(**words).listings()
