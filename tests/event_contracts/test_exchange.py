"""The exchange fills as the environment does, and one account's money is conserved over markets."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_contracts import SyntheticMarket
from event_contracts.simulation.exchange import (
    Exchange,
    Listing,
    PlacedOrder,
    SimulatedOrderManager,
)
from event_contracts.simulation.sessions import tape_of
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trading.actions import PositionLimits
from event_contracts.trading.orders import Fill, LimitOrder, MarketView, Outcome, TimeInForce, other
from event_contracts.trading.records import SLOTS
from foundation.errors import OrderRejected
from tests.e2e.kalshi_desk import UNLIMITED, pay_in, quotes
from tests.event_contracts.exact_account import Account

D = Decimal
EAGER = SyntheticMarket(steps=15, depth=40, noise=1.0)
MARKETS = ("RAIN", "SNOW", "WIND")
seeds = st.integers(0, 2**31)
styles = st.sampled_from(["passive", "mid", "aggressive"])
cash_amounts = st.sampled_from([1000.0, 300.0, 60.0, 20_000.0])


def exchange_of(seed: int, markets: tuple[str, ...] = MARKETS, **more: Any) -> Exchange:
    listings = [
        Listing(name, tape_of(synthetic_session(seed, EAGER, market=k)), first=2 * k)
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
        mine = [r for r in exchange.resting if r.order.market == market]
        if len(mine) < SLOTS:
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
def test_one_account_over_many_markets_is_the_exact_account_tick_by_tick(
    seed: int, style: str, cash: float, limited: bool
) -> None:
    """With limits nothing is paid in or out, and they hold; without, cash never goes below 0."""
    rules = {} if limited else {"limits": UNLIMITED.limits, "cash_buffer": 0.0}
    exchange = exchange_of(seed, price_style=style, starting_cash=cash, **rules)
    manager = SimulatedOrderManager(exchange)
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
            shown |= {market: after[market] for market in MARKETS[: MARKETS.index(each.market)]}
            account, cost = account.booked(each, exchange.space.fees)
            assert each.fee == cost.net_fee
            ends_at_once = not exchange.orders[each.order_id].order.rests
            assert each.tick == exchange.tick - ends_at_once
            if limited:
                assert_within_limits(account, each, shown)
        booked = len(exchange.fills)
        for end in exchange.settlements[settled:]:
            assert end.held == account.position(end.market)
            account = account.settled(end.market, end.outcome)
        settled = len(exchange.settlements)
        assert exchange.cash == account.cash >= 0
        for market in MARKETS:
            assert exchange.position(market) == account.position(market)
            if exchange.market_state(market) == "active":
                view = exchange.view(market)
                assert view.resting == exchange.resting
                assert_no_sale_can_turn(view)
    assert not account.positions
    assert not exchange.resting
    for placed in exchange.orders.values():
        assert placed.remaining == 0
        assert placed.state == ("executed" if placed.filled == placed.count else "canceled")


def assert_no_sale_can_turn(view: MarketView) -> None:
    """Assert that orders against a position with a resting sale stay within it."""
    sides: tuple[Outcome, ...] = ("YES", "NO")
    for side in sides:
        if view.resting_count("SELL", side):
            assert view.resting_towards(other(side)) <= view.held(side)


def assert_within_limits(account: Account, fill: Fill, shown: dict[str, Decimal]) -> None:
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
    return Exchange([Listing("RAIN", tape_of(session))], EpisodeSettings(life=20, **more))


def sent(exchange: Exchange, action: str, side: str, price: str, count: int) -> PlacedOrder:
    order = LimitOrder("c", "RAIN", action, side, D(price), D(count))  # type: ignore[arg-type]
    return exchange.submit(order)


HERE = ("0.40", "0.42")
BELOW = ("0.38", "0.40")


def test_a_resting_order_that_would_break_a_limit_is_cancelled_when_about_to_fill() -> None:
    """Limits were once built and never called, and resting orders never checked for fills."""
    exchange = shown(HERE, BELOW, starting_cash=200.0)
    placed = sent(exchange, "BUY", "YES", "0.40", 100)
    pay_in(exchange, -80)
    exchange.advance()
    # $40 are more than 25 % of $120.
    assert (placed.state, placed.filled, exchange.cash) == ("canceled", 0, 120)


@pytest.mark.parametrize(
    ("held", "cash", "filled"),
    [(0, "90.42", 100), (0, "90.41", 0), (10, "45.85", 10), (10, "45.84", 0)],
)
def test_a_fill_leaves_the_buffer_to_the_cent_with_its_pairs(
    held: int, cash: str, filled: int
) -> None:
    """100 YES at 0.40 as a maker are 40.00 and 0.42. 10 NO at 0.58 are 5.80 and 0.0427, so 5.85;
    with 10 YES they pay 10.00.
    """
    after = [HERE, ("0.42", "0.44")] if held else [BELOW]
    exchange = shown(HERE, *after, limits=PositionLimits(share=D(1)))
    if held:
        sent(exchange, "BUY", "YES", "0.42", held)
        exchange.advance()
    placed = sent(exchange, "BUY", *(("NO", "0.58", 10) if held else ("YES", "0.40", 100)))
    pay_in(exchange, D(cash) - exchange.cash)
    exchange.advance()
    assert placed.filled == filled
    assert exchange.cash == (50 if filled else D(cash))


def test_where_the_second_of_four_orders_fills_the_others_rest_in_their_order() -> None:
    exchange = shown(HERE, *[("0.34", "0.36")] * 3)
    for price, count in (("0.30", 5), ("0.38", 6), ("0.31", 7), ("0.32", 8)):
        sent(exchange, "BUY", "YES", price, count)
    for _ in range(2):
        exchange.advance()
        assert [each.remaining for each in exchange.resting] == [5, 7, 8]
    assert exchange.position("RAIN") == 6


@pytest.mark.parametrize("side", ["YES", "NO"])
def test_selling_from_flat_is_no_free_money(side: str) -> None:
    """Fifty sold from flat once turned $100 into $149; what is held of one side sells no other."""
    exchange = shown(*[HERE] * 3)
    other = {"YES": ("NO", "0.60"), "NO": ("YES", "0.42")}[side]
    for _ in range(2):
        with pytest.raises(OrderRejected, match="0 held"):
            sent(exchange, "SELL", side, "0.41", 5)
        sent(exchange, "BUY", *other, 20)
        exchange.advance()


def test_resting_sale_reserves_its_contracts() -> None:
    exchange = shown(*[HERE] * 5)
    sent(exchange, "BUY", "YES", "0.42", 20)
    exchange.advance()
    sale = sent(exchange, "SELL", "YES", "0.50", 15)
    with pytest.raises(OrderRejected, match="20 held, 15 of them in resting sales"):
        sent(exchange, "SELL", "YES", "0.50", 6)
    with pytest.raises(OrderRejected, match="buying 6 NO; 20 YES held, 15 of them in resting"):
        sent(exchange, "BUY", "NO", "0.60", 6)
    sent(exchange, "BUY", "NO", "0.60", 5)
    with pytest.raises(OrderRejected, match="15 of them in resting sales, 5 in resting purchases"):
        sent(exchange, "SELL", "YES", "0.50", 1)
    exchange.advance()
    assert (sale.remaining, exchange.position("RAIN")) == (15, 15)


@pytest.mark.parametrize(
    ("rows", "force", "filled", "price"),
    [
        ((HERE, HERE), "immediate_or_cancel", 20, "0.4"),
        # The worse of both bids, where that is within the limit.
        ((HERE, ("0.39", "0.41")), "immediate_or_cancel", 20, "0.39"),
        ((("0.39", "0.41"), HERE), "immediate_or_cancel", 20, "0.39"),
        ((HERE, BELOW), "immediate_or_cancel", 0, None),
        ((HERE, HERE), "fill_or_kill", 0, None),
    ],
)
def test_immediate_sale_fills_now_and_cancels_the_rest(
    rows: tuple[tuple[str, str], ...], force: TimeInForce, filled: int, price: str | None
) -> None:
    """Of forty held, thirty are sold at 0.39 or better while twenty are bid for."""
    exchange = shown(HERE, HERE, *rows, size=20)
    for _ in range(2):
        sent(exchange, "BUY", "YES", "0.45", 20)
        exchange.advance()
    assert exchange.position("RAIN") == 40
    placed = exchange.submit(
        LimitOrder("s", "RAIN", "SELL", "YES", D("0.39"), D(30), time_in_force=force)
    )
    assert (placed.state, placed.filled, placed.waiting) == ("canceled", filled, 0)
    assert {str(fill.price) for fill in placed.fills} == ({price} if price else set())
    assert exchange.resting == ()


def test_what_another_market_holds_is_part_of_the_portfolio_as_an_order_fills() -> None:
    """400 contracts near $0.50 are a fifth of $1,000, and more than 25 % of the cash that is left
    once another market has taken as much."""
    deep = SyntheticMarket(steps=60, start_deviation=0.0, volatility=0.01, depth=1e6)
    tapes = [tape_of(synthetic_session(1, deep, market=k)) for k in range(2)]
    exchange = Exchange([Listing("RAIN", tapes[0]), Listing("SNOW", tapes[1])])
    for market in ("RAIN", "SNOW"):
        exchange.submit(LimitOrder(market, market, "BUY", "YES", D("0.60"), D(400)))
    exchange.advance()
    assert [exchange.position(market) for market in ("RAIN", "SNOW")] == [400, 400]
    bought = exchange.fills[-1]
    assert bought.price * 400 > D("0.25") * (exchange.cash + bought.price * 400)
