"""The exchange fills as the environment does, and one account's money is conserved over markets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_contracts import SyntheticSessionModel
from event_contracts.simulation.exchange import (
    Exchange,
    PlacedOrder,
    SimulatedListing,
    SimulatedOrderManager,
)
from event_contracts.simulation.sessions import session_to_tick_records
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trading.actions import PositionLimits
from event_contracts.trading.orders import (
    ContractFill,
    ContractTimeInForce,
    EventContractOrder,
    MarketView,
    Outcome,
    opposite_side,
)
from event_contracts.trading.records import MAX_RESTING_ORDERS
from foundation.errors import OrderRejected
from tests.e2e.kalshi_desk import UNLIMITED, pay_in, quotes
from tests.event_contracts.exact_account import Account
from tests.event_contracts.trading import journal
from tests.support.messages import refused

D = Decimal
EAGER = SyntheticSessionModel(steps=15, depth=40, noise_order_rate=1.0)
MARKETS = ("RAIN", "SNOW", "WIND")
seeds = st.integers(0, 2**31)
styles = st.sampled_from(["passive", "mid", "aggressive"])
cash_amounts = st.sampled_from([1000.0, 300.0, 60.0, 20_000.0])


def exchange_of(seed: int, markets: tuple[str, ...] = MARKETS, **more: Any) -> Exchange:
    listings = [
        SimulatedListing(
            name,
            session_to_tick_records(synthetic_session(seed, EAGER, market_index=k)),
            first_tick=2 * k,
        )
        for k, name in enumerate(markets)
    ]
    return Exchange(listings, EpisodeSettings(**more))


def act(manager: SimulatedOrderManager, rng: np.random.Generator) -> None:
    """One random allowed action in each market that is open, then a tick."""
    exchange = manager.exchange
    for market in exchange.listings:
        if exchange.market_state(market) != "active":
            continue
        allowed = np.flatnonzero(exchange.space.action_masks(manager.view(market)))
        mine = [r for r in exchange.resting_orders if r.order.market == market]
        if len(mine) < MAX_RESTING_ORDERS:
            name = f"{market}-{exchange.tick}"
            exchange.space.execute_action_sync(int(rng.choice(allowed)), manager, market, name)
        if mine and rng.random() < 0.1:
            manager.cancel(mine[int(rng.integers(len(mine)))].order_id)
    manager.advance()


def middles(exchange: Exchange) -> dict[str, Decimal]:
    """The middle of each open market's quote, USD."""
    quotes = {
        market: exchange.quote(market)
        for market in MARKETS
        if exchange.market_state(market) != "initialized"
    }
    return {market: (quote.yes_bid + quote.yes_ask) / 2 for market, quote in quotes.items()}


@settings(max_examples=8)
@given(seeds, styles, cash_amounts, st.booleans())
def test_simulated_exchange_cash_equals_that_of_exact_accounting(
    seed: int, style: str, cash: float, limited: bool
) -> None:
    """With limits there are no deposits or withdrawals, and the limits hold; without limits cash
    never goes below 0.
    """
    rules = {} if limited else {"limits": UNLIMITED.position_limits, "cash_buffer": 0.0}
    exchange = exchange_of(seed, price_style=style, starting_cash=cash, **rules)
    manager = SimulatedOrderManager(exchange, journal()[1])
    account = Account(exchange.cash)
    rng = np.random.default_rng(seed)
    booked = settled = 0
    while not exchange.is_over:
        if not limited and rng.random() < 0.1:
            flow = D(int(rng.integers(0, 2000))) / 100
            pay_in(exchange, flow)
            account = account.with_flow(flow)
        shown = middles(exchange)
        act(manager, rng)
        after = middles(exchange)
        # A market that settles trades no more, so that its fills come before its settlement.
        for each in exchange.fills[booked:]:
            # Markets step one after the other: those after a fill's still show the tick before.
            stepped = MARKETS[: MARKETS.index(each.market)] if each.is_maker else ()
            shown |= {market: after[market] for market in stepped}
            account, cost = account.booked(each, exchange.space.fees)
            assert each.fee == cost.net_fee
            assert each.exchange_tick == exchange.tick - (not each.is_maker)
            if limited:
                assert_within_limits(account, each, shown)
        booked = len(exchange.fills)
        for end in exchange.settlements[settled:]:
            assert end.position == account.position(end.market)
            account = account.settled(end.market, end.outcome)
        settled = len(exchange.settlements)
        assert exchange.cash == account.cash >= 0
        for market in MARKETS:
            assert exchange.position(market) == account.position(market)
            if exchange.market_state(market) == "active":
                view = exchange.view(market)
                assert view.resting_orders == exchange.resting_orders
                assert_no_sale_can_turn(view)
    assert not account.positions
    assert not exchange.resting_orders
    for placed in exchange.orders.values():
        assert placed.remaining_count == 0
        assert placed.state == ("executed" if placed.filled_count == placed.count else "canceled")


def assert_no_sale_can_turn(view: MarketView) -> None:
    """Assert that orders against a position with a resting sale stay within it."""
    sides: tuple[Outcome, ...] = ("YES", "NO")
    for side in sides:
        if view.resting_count("SELL", side):
            assert view.resting_count_towards(opposite_side(side)) <= view.held_count(side)


def assert_within_limits(account: Account, fill: ContractFill, shown: dict[str, Decimal]) -> None:
    """Of an account after a purchase; shown: the middle of each market's quote."""
    held = account.held(fill.market, fill.side)
    if fill.action == "SELL" or held <= 0:
        return
    others = {name: each for name, each in account.positions.items() if name != fill.market}
    prices = {m: shown[m] if h > 0 else shown[m] - 1 for m, h in others.items()}
    elsewhere = sum((h * prices[m] for m, h in others.items()), D(0))
    worth = held * fill.price
    assert account.cash >= 50
    assert held <= 500
    assert worth <= 500
    # The netting of pairs raises the cash in the very fill: its fees alone are lost.
    assert worth <= D("0.255") * (account.cash + elsewhere + worth)


def shown(*rows: tuple[str, str], size: int = 1000, **more: Any) -> Exchange:
    """One market that shows these quotes of YES, bid and ask, with so many contracts at each."""
    session = quotes([*((float(bid), float(ask), 1) for bid, ask in rows), (0.99, 1.0, 1)], size)
    return Exchange(
        [SimulatedListing("RAIN", session_to_tick_records(session))],
        EpisodeSettings(life=20, **more),
    )


def sent(exchange: Exchange, action: str, side: str, price: str, count: int) -> PlacedOrder:
    order = EventContractOrder("c", "RAIN", action, side, D(price), D(count))  # type: ignore[arg-type]
    return exchange.submit(order)


HERE = ("0.40", "0.42")
BELOW = ("0.38", "0.40")


def test_resting_order_whose_fill_exceeds_limits_is_cancelled() -> None:
    """Regression: limits were never applied to the fills of resting orders."""
    exchange = shown(HERE, BELOW, starting_cash=200.0)
    placed = sent(exchange, "BUY", "YES", "0.40", 100)
    pay_in(exchange, -80)
    exchange.advance()
    # $40 are more than 25 % of $120.
    assert (placed.state, placed.filled_count, exchange.cash) == ("canceled", 0, 120)


@pytest.mark.parametrize(
    ("held", "cash", "filled"),
    [(0, "90.42", 100), (0, "90.41", 0), (10, "45.85", 10), (10, "45.84", 0)],
)
def test_no_fill_takes_cash_below_the_buffer(held: int, cash: str, filled: int) -> None:
    """As a maker, 100 YES at 0.40 cost 40.00 and a fee of 0.42. 10 NO at 0.58 cost 5.80 and 0.0427,
    so 5.85; netted with 10 YES they pay 10.00.
    """
    after = [HERE, ("0.42", "0.44")] if held else [BELOW]
    exchange = shown(HERE, *after, limits=PositionLimits(share=D(1)))
    if held:
        sent(exchange, "BUY", "YES", "0.42", held)
        exchange.advance()
    placed = sent(exchange, "BUY", *(("NO", "0.58", 10) if held else ("YES", "0.40", 100)))
    pay_in(exchange, D(cash) - exchange.cash)
    exchange.advance()
    assert placed.filled_count == filled
    assert exchange.cash == (50 if filled else D(cash))


def test_resting_orders_keep_priority_after_one_fills() -> None:
    exchange = shown(HERE, *[("0.34", "0.36")] * 3)
    for price, count in (("0.30", 5), ("0.38", 6), ("0.31", 7), ("0.32", 8)):
        sent(exchange, "BUY", "YES", price, count)
    for _ in range(2):
        exchange.advance()
        assert [each.remaining_count for each in exchange.resting_orders] == [5, 7, 8]
    assert exchange.position("RAIN") == 6


@pytest.mark.parametrize("side", ["YES", "NO"])
def test_sale_without_a_position_is_refused(side: str) -> None:
    """Regression: selling fifty without a position turned $100 into $149. A position on one side
    covers no sale of the other.
    """
    exchange = shown(*[HERE] * 3)
    other = {"YES": ("NO", "0.60"), "NO": ("YES", "0.42")}[side]
    for _ in range(2):
        with refused(OrderRejected, "0"):
            sent(exchange, "SELL", side, "0.41", 5)
        sent(exchange, "BUY", *other, 20)
        exchange.advance()


def test_resting_sale_reserves_its_contracts() -> None:
    exchange = shown(*[HERE] * 5)
    sent(exchange, "BUY", "YES", "0.42", 20)
    exchange.advance()
    sale = sent(exchange, "SELL", "YES", "0.50", 15)
    with refused(OrderRejected, "20", "15"):
        sent(exchange, "SELL", "YES", "0.50", 6)
    with refused(OrderRejected, "6", "20", "15"):
        sent(exchange, "BUY", "NO", "0.60", 6)
    sent(exchange, "BUY", "NO", "0.59", 5)
    with refused(OrderRejected, "15", "5"):
        sent(exchange, "SELL", "YES", "0.50", 1)
    assert (sale.remaining_count, exchange.position("RAIN")) == (15, 20)


@pytest.mark.parametrize(
    ("price", "count", "force", "filled", "state"),
    [
        ("0.39", 30, "immediate_or_cancel", 20, "canceled"),
        ("0.40", 20, "immediate_or_cancel", 20, "executed"),
        ("0.41", 30, "immediate_or_cancel", 0, "canceled"),
        ("0.39", 20, "fill_or_kill", 20, "executed"),
        ("0.39", 30, "good_till_canceled", 20, "resting"),
    ],
)
def test_sale_fills_against_the_displayed_bid_depth(
    price: str, count: int, force: ContractTimeInForce, filled: int, state: str
) -> None:
    """Forty are held; the bid at 0.40 has a depth of twenty, and the next tick bids less."""
    exchange = shown(HERE, HERE, HERE, BELOW, size=20)
    for _ in range(2):
        sent(exchange, "BUY", "YES", "0.45", 20)
        exchange.advance()
    assert exchange.position("RAIN") == 40
    sale = EventContractOrder("s", "RAIN", "SELL", "YES", D(price), D(count), time_in_force=force)
    assert exchange.bid_and_ask_depth("RAIN") == (20, 20)
    placed = exchange.submit(sale)
    assert (placed.state, placed.filled_count) == (state, filled)
    assert {(fill.price, fill.is_maker) for fill in placed.fills} <= {(D("0.40"), False)}
    assert placed.open_count == (count - filled if state == "resting" else 0)
    assert exchange.bid_and_ask_depth("RAIN") == (20 - filled, 20)
    exchange.advance()
    assert exchange.bid_and_ask_depth("RAIN") == (20, 20)


def test_displayed_depth_fills_orders_only_once() -> None:
    exchange = shown(HERE, HERE, size=20)
    first, second = (sent(exchange, "BUY", "YES", "0.42", count) for count in (15, 15))
    assert (first.filled_count, second.filled_count, second.remaining_count) == (15, 5, 10)
    assert exchange.bid_and_ask_depth("RAIN") == (20, 0)
    exchange.advance()
    assert [(fill.count, fill.price, fill.is_maker) for fill in second.fills] == [
        (5, D("0.42"), False),
        (10, D("0.42"), True),
    ]


def test_unfillable_fill_or_kill_order_changes_nothing() -> None:
    exchange = shown(HERE, HERE, size=20)
    order = EventContractOrder(
        "k", "RAIN", "BUY", "YES", D("0.42"), D(21), time_in_force="fill_or_kill"
    )
    with refused(OrderRejected, "21", "20"):
        exchange.submit(order)
    assert (exchange.orders, exchange.cash, exchange.bid_and_ask_depth("RAIN")) == (
        {},
        1000,
        (20, 20),
    )


def test_crossing_sale_cancels_own_resting_purchases() -> None:
    """The two orders would trade with each other at 0.41, which the venue prevents."""
    exchange = shown(HERE, HERE, HERE)
    sent(exchange, "BUY", "YES", "0.42", 20)
    above = sent(exchange, "BUY", "YES", "0.41", 5)
    below = sent(exchange, "BUY", "YES", "0.39", 5)
    sale = EventContractOrder(
        "s", "RAIN", "SELL", "YES", D("0.40"), D(20), time_in_force="immediate_or_cancel"
    )
    placed = exchange.submit(sale)
    assert (placed.state, placed.filled_count, placed.fills[0].price) == ("executed", 20, D("0.40"))
    assert (above.state, below.state) == ("canceled", "resting")


def test_purchase_crossing_own_resting_order_is_cancelled() -> None:
    """A bid for YES at 0.41 and one for NO at 0.59 would trade with each other."""
    exchange = shown(HERE, HERE)
    resting = sent(exchange, "BUY", "YES", "0.41", 5)
    stopped = sent(exchange, "BUY", "NO", "0.60", 10)
    assert (stopped.state, stopped.filled_count) == ("canceled", 0)
    assert (resting.state, resting.remaining_count) == ("resting", 5)


def test_purchase_fills_only_depth_ahead_of_own_order() -> None:
    """Twenty contracts of others are bid at 0.40 before our five: a bid for NO at 0.60 reaches only
    those.
    """
    exchange = shown(HERE, HERE, size=20)
    sent(exchange, "BUY", "YES", "0.40", 5)
    taken = sent(exchange, "BUY", "NO", "0.60", 20)
    assert (taken.state, taken.filled_count) == ("executed", 20)
    stopped = sent(exchange, "BUY", "NO", "0.60", 1)
    assert (stopped.state, stopped.filled_count) == ("canceled", 0)


def test_share_limit_counts_positions_in_other_markets() -> None:
    """400 contracts near $0.50 are a fifth of $1,000. They exceed 25 % of the cash that remains
    after an equal position in another market.
    """
    deep = SyntheticSessionModel(steps=60, start_deviation=0.0, volatility=0.01, depth=1e6)
    tapes = [session_to_tick_records(synthetic_session(1, deep, market_index=k)) for k in range(2)]
    exchange = Exchange([SimulatedListing("RAIN", tapes[0]), SimulatedListing("SNOW", tapes[1])])
    for market in ("RAIN", "SNOW"):
        exchange.submit(EventContractOrder(market, market, "BUY", "YES", D("0.60"), D(400)))
    exchange.advance()
    assert [exchange.position(market) for market in ("RAIN", "SNOW")] == [400, 400]
    bought = exchange.fills[-1]
    assert bought.price * 400 > D("0.25") * (exchange.cash + bought.price * 400)
