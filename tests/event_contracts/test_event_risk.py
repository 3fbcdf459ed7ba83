"""The greatest loss of events: exact over their outcomes, and never beyond its limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain, combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_contracts import SyntheticSessionModel
from event_contracts.simulation.exchange import Exchange, SimulatedListing
from event_contracts.simulation.sessions import session_to_tick_records
from event_contracts.simulation.settings import EpisodeSettings
from event_contracts.simulation.synthetic import synthetic_session
from event_contracts.trading.actions import ACTION_COUNT, LimitOrderActionSpace, PositionLimits
from event_contracts.trading.event_risk import (
    MarketEvent,
    MarketLoss,
    StrikeFields,
    StrikeRange,
    compute_exposure,
    compute_market_loss,
    compute_max_event_loss,
    compute_other_markets_loss,
    format_strike_fields,
)
from event_contracts.trading.orders import (
    ContractQuote,
    EventContractOrder,
    Exposure,
    Outcome,
    opposite_side,
)
from event_contracts.trading.record_rules import write_action_masks
from event_contracts.trading.records import (
    MARKET_DTYPE,
    MAX_RESTING_ORDERS,
    MICROS_PER_DOLLAR,
    ORDER_DTYPE,
    PRICE_UNITS_PER_DOLLAR,
    TICK_DTYPE,
)
from foundation.decimals import CENT
from foundation.errors import InputError, OrderRejected
from tests.e2e.kalshi_desk import quotes
from tests.event_contracts.trading import QUOTE, view, waiting
from tests.support.messages import refused

D = Decimal
STRIKES = st.sampled_from(
    [
        StrikeRange(low=D(50)),
        StrikeRange(low=D(60), includes_low=True),
        StrikeRange(low=D(60)),
        StrikeRange(high=D(50)),
        StrikeRange(high=D(60), includes_high=True),
        StrikeRange(D(50), D(60), includes_low=True, includes_high=True),
        StrikeRange(D(60), D(70), includes_low=True, includes_high=True),
    ]
)
LOSSES = st.builds(MarketLoss, st.integers(-100, 100), st.integers(-100, 100))
FIGURES = [D(n) / 2 for n in range(80, 160)]  # a finer grid than any strike's


def subsets(names: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return chain.from_iterable(combinations(names, n) for n in range(len(names) + 1))


def possible(events: Mapping[str, MarketEvent]) -> list[set[str]]:
    """Return every set of markets of one event that may pay YES together, by brute force."""
    names = list(events)
    every = [set(each) for each in subsets(names)]
    if all(event.is_mutually_exclusive for event in events.values()):
        return [each for each in every if len(each) <= 1]
    strikes = {n: e.strike for n, e in events.items() if e.strike is not None}
    lines = [{n for n, s in strikes.items() if s.contains(figure)} for figure in FIGURES]
    return [each for each in every if {n for n in each if n in strikes} in lines]


def loss_of(losses: Mapping[str, MarketLoss], paying: set[str]) -> Any:
    return sum(loss.if_yes if name in paying else loss.if_no for name, loss in losses.items())


@st.composite
def events_of_markets(draw: st.DrawFn) -> dict[str, MarketEvent]:
    """Markets of one event: exclusive, thresholds, unrelated, or some of each."""
    exclusive = draw(st.booleans())
    strikes = draw(st.lists(st.one_of(st.none(), STRIKES), min_size=1, max_size=4))
    return {f"M{k}": MarketEvent("E", exclusive, strike) for k, strike in enumerate(strikes)}


@given(events_of_markets(), st.data())
def test_greatest_loss_is_maximum_over_possible_outcomes(
    events: dict[str, MarketEvent], data: st.DataObject
) -> None:
    losses = {name: data.draw(LOSSES) for name in events}
    legs = [(events[name], losses[name]) for name in events]
    outcomes = possible(events)
    assert compute_max_event_loss(legs) == max(loss_of(losses, paying) for paying in outcomes)
    own = losses.pop("M0")
    found = compute_other_markets_loss(events["M0"], legs[1:])
    assert found.if_yes == max(loss_of(losses, p) for p in outcomes if "M0" in p)
    assert found.if_no == max(loss_of(losses, p) for p in outcomes if "M0" not in p)
    assert compute_max_event_loss(legs) == max(own.if_yes + found.if_yes, own.if_no + found.if_no)


@given(st.integers(-50, 50), st.integers(1, 99), st.lists(st.integers(0, 3), max_size=3))
def test_resting_orders_count_at_their_worst_outcome(
    held: int, cents: int, kinds: list[int]
) -> None:
    """Brute force over the possible fills: none, some or all of the orders."""
    price = D(cents) / 100
    value = int(abs(held) * (price if held > 0 else 1 - price) * MICROS_PER_DOLLAR)
    costs: dict[Outcome, list[int]] = {"YES": [], "NO": []}
    for k, kind in enumerate(kinds):
        costs["YES" if kind % 2 else "NO"].append(MICROS_PER_DOLLAR * (k + 1) * cents // 100)
    found = compute_market_loss(held, value, sum(costs["YES"]), sum(costs["NO"]))
    orders = [(side, cost, cost * 100 // cents) for side in costs for cost in costs[side]]
    for outcome, loss in (("YES", found.if_yes), ("NO", found.if_no)):
        paid = max(held if outcome == "YES" else -held, 0) * MICROS_PER_DOLLAR
        assert loss == max(
            value - paid + sum(cost - (pays if side == outcome else 0) for side, cost, pays in some)
            for some in chain.from_iterable(combinations(orders, n) for n in range(4))
        )


def test_four_strikes_share_the_event_loss_limit() -> None:
    """Hand-computed figures: without the shared limit each strike could reach its own limit."""
    events = {f"T{k}": MarketEvent("E") for k in range(4)}
    quotes = dict.fromkeys(events, QUOTE)
    exposure = compute_exposure("T0", {"T1": D(250), "T2": D(-100)}, [], quotes, events)
    # 250 YES at an ask of 0.43 and 100 NO at one of 0.60.
    assert exposure == (167_500_000, 167_500_000, 0)
    space = LimitOrderActionSpace()
    account = view(exposure=exposure)
    assert space.refusal_reason(4, account) is None, "50 at 0.43 are 21.50: 189 of 1,000"
    assert "limits.event" not in str(space.refusal_reason(5, account))
    more = view(exposure=Exposure(230_000_000, 230_000_000, 0))
    assert space.refusal_reason(4, more) == (
        "maximum loss of the event would be $251.5, above limits.event_share 25% of a portfolio"
        " of $1000"
    )


def test_exclusive_and_nested_markets_offset_each_other() -> None:
    quotes = {"A": QUOTE, "B": QUOTE}
    held = {"B": D(-100)}  # 100 NO at an ask of 0.60
    exclusive = {name: MarketEvent("E", is_mutually_exclusive=True) for name in "AB"}
    # Where A pays YES, B pays NO: it gains 40.
    assert compute_exposure("A", held, [], quotes, exclusive) == (-40_000_000, 60_000_000, 0)
    nested = {"A": MarketEvent("E", strike=StrikeRange(low=D(50))),
              "B": MarketEvent("E", strike=StrikeRange(low=D(60)))}  # fmt: skip
    # Above 60 is above 50: where A pays NO, B does.
    assert compute_exposure("A", held, [], quotes, nested) == (60_000_000, -40_000_000, 0)
    apart = {"A": MarketEvent("E"), "B": MarketEvent("F", is_mutually_exclusive=True)}
    assert compute_exposure("A", held, [], quotes, apart) == (0, 0, 60_000_000)


def test_resting_orders_in_other_markets_add_exposure() -> None:
    events = {"RAIN": MarketEvent("E"), "SNOW": MarketEvent("E"), "WIND": MarketEvent("F")}
    resting = [
        waiting("BUY", "YES", "0.40", 10, "SNOW"),
        waiting("SELL", "YES", "0.70", 10, "WIND"),  # goes towards NO at 0.30
        waiting("BUY", "NO", "0.90", 10, "RAIN"),
    ]
    exposure = compute_exposure("RAIN", {}, resting, {}, events)
    assert exposure == (4_000_000, 4_000_000, 3_000_000)


@pytest.mark.parametrize(
    ("limits", "exposure", "says"),
    [
        ({"event_loss": D(9)}, Exposure(0, 7_000_000, 0), "limits.event_loss $9"),
        (
            {"event_share": D("0.005")},
            Exposure(0, 3_000_000, 0),
            "limits.event_share 0.5% of a portfolio",
        ),
        ({"account_loss": D(9)}, Exposure(0, 0, 7_000_000), "limits.account_loss $9"),
        (
            {"account_share": D("0.2")},
            Exposure(0, 0, 198_000_000),
            "limits.account_share 20% of a portfolio",
        ),
    ],
)
def test_each_loss_limit_is_a_setting(
    limits: dict[str, Decimal], exposure: Exposure, says: str
) -> None:
    before = view(exposure=exposure)
    assert LimitOrderActionSpace().refusal_reason(1, before) is None
    space = LimitOrderActionSpace(limits=PositionLimits(**limits))
    # 5 YES at 0.43 lose 2.15 where NO comes true.
    assert says in str(space.refusal_reason(1, before))
    assert space.refusal_reason(6, view(yes=5, exposure=exposure)) is None, (
        "a sale is always allowed"
    )
    assert space.refusal_reason(1, view(no=9, exposure=exposure)) is None, "so is whatever reduces"
    for name in limits:
        with refused(InputError, f"limits.{name}"):
            PositionLimits(**{name: D(0)})


@given(
    st.integers(1, 400),
    st.integers(1, 99),
    st.integers(-300, 300),
    st.integers(-10, 3000),
    st.integers(0, 100),
    st.sampled_from([PositionLimits(), PositionLimits(D(900), D(40), D("0.6"))]),
)
def test_event_loss_limits_have_no_effect_without_exposure(
    count: int, cents: int, held: int, cash: int, resting: int, limits: PositionLimits
) -> None:
    order: dict[str, Any] = {
        "count": D(count), "price": D(cents) / 100, "held": D(held), "cash": D(cash),
        "resting_count": D(resting),
    }  # fmt: skip
    free = PositionLimits(
        limits.contracts, limits.value, limits.share, D(10**9), D(1), D(10**9), D(1)
    )
    assert limits.validate_order(**order) == free.validate_order(**order)


# Limits of sizes


def test_size_limit_restricts_only_orders_of_that_size() -> None:
    space = LimitOrderActionSpace(size_limits={100: 120, 50: 0})
    allowed = np.flatnonzero(space.action_masks(view(yes=21, cash="5000"))).tolist()
    assert allowed == [0, 1, 2, 3, 6, 7, 8, 11, 12, 13, 15]
    assert "size_limits allows 120 by orders of 100" in str(
        space.refusal_reason(5, view(yes=21, cash="5000"))
    )
    assert space.refusal_reason(5, view(yes=20, cash="5000")) is None
    assert space.refusal_reason(9, view(yes=50)) is None, "sales of the size pass"
    assert space.refusal_reason(4, view(no=50)) is None, "so do purchases that only reduce"
    assert LimitOrderActionSpace().size_limits is None


@pytest.mark.parametrize(
    ("given_limits", "facts"), [({7: 100}, ("size_limits", "7")), ({5: -1}, ("-1", "0"))]
)
def test_size_limit_for_unknown_size_is_refused(
    given_limits: dict[int, int], facts: tuple[str, ...]
) -> None:
    with refused(InputError, *facts):
        LimitOrderActionSpace(size_limits=given_limits)


limit_choices = st.sampled_from(
    [
        PositionLimits(),
        PositionLimits(event_loss=D(60), account_loss=D(90)),
        PositionLimits(event_share=D("0.1"), account_share=D("0.15")),
    ]
)
amounts = st.integers(-150, 300).map(lambda usd: usd * MICROS_PER_DOLLAR)


@given(
    limit_choices,
    st.sampled_from([{}, {100: 150}, {5: 0, 20: 60}]),
    st.builds(Exposure, amounts, amounts, amounts),
    st.integers(-200, 200),
    st.integers(60, 4000),
    st.tuples(st.integers(1, 98), st.integers(1, 5)),
    st.lists(st.tuples(st.sampled_from(("YES", "NO")), st.integers(1, 60)), max_size=3),
)
def test_action_masks_match_the_order_validators(
    limits: PositionLimits,
    sizes: dict[int, int],
    exposure: Exposure,
    held: int,
    cash: int,
    quote: tuple[int, int],
    waiting_orders: list[tuple[Outcome, int]],
) -> None:
    """The compiled masks agree with `LimitOrderActionSpace`, in training and live."""
    space = LimitOrderActionSpace(limits=limits, size_limits=sizes)
    bid, ask = D(quote[0]) / 100, D(min(quote[0] + quote[1], 99)) / 100
    resting = [waiting("BUY", side, "0.30", count) for side, count in waiting_orders]
    account = view(
        str(cash),
        max(held, 0),
        max(-held, 0),
        ContractQuote(bid, ask),
        resting=resting,
        other_positions_value=D(40),
        exposure=exposure,
    )
    market, orders, tick = (
        np.zeros(1, MARKET_DTYPE),
        np.zeros(MAX_RESTING_ORDERS, ORDER_DTYPE),
        np.zeros(1, TICK_DTYPE),
    )
    market["cash"], market["elsewhere"] = cash * MICROS_PER_DOLLAR, 40 * MICROS_PER_DOLLAR
    market["yes"], market["no"] = max(held, 0), max(-held, 0)
    market["event_if_yes"], market["event_if_no"], market["other_events"] = exposure
    market["resting"] = len(resting)
    for slot, (side, count) in zip(orders, waiting_orders, strict=False):
        slot["intent"] = 1 if side == "YES" else 3
        slot["price"], slot["remaining"] = 3000, count
    tick["bid"], tick["ask"] = int(bid * PRICE_UNITS_PER_DOLLAR), int(ask * PRICE_UNITS_PER_DOLLAR)
    allowed = np.zeros(ACTION_COUNT, dtype=bool)
    write_action_masks(market[0], orders, tick[0], space.build_scaled_order_rules(CENT), allowed)
    assert allowed.tolist() == space.action_masks(account).tolist()


# No sequence of orders


EAGER = SyntheticSessionModel(steps=12, depth=200, noise_order_rate=1.0)
KINDS: dict[str, list[tuple[str, MarketEvent]]] = {
    "exclusive": [(f"M{k}", MarketEvent("E", is_mutually_exclusive=True)) for k in range(3)],
    "nested": [(f"M{k}", MarketEvent("E", strike=StrikeRange(low=D(50 + k)))) for k in range(3)],
    "unrelated": [("M0", MarketEvent("E")), ("M1", MarketEvent("E")), ("M2", MarketEvent("F"))],
}


def brute_loss(exchange: Exchange, event: str, name: str, side: Outcome, price: Decimal) -> Decimal:
    """Return an event's greatest loss where one market's order loses, by brute force, USD.

    Every order may fill or not. In its own market the order's price counts, elsewhere the ask.
    """
    markets = {
        n: e.market_event
        for n, e in exchange.listings.items()
        if e.market_event.event_ticker == event
    }
    worst = []
    for paying in possible(markets):
        if name in markets and (name in paying) == (side == "YES"):
            continue
        total = D(0)
        for market in markets:
            pays: Outcome = "YES" if market in paying else "NO"
            held = exchange.position(market)
            if held:
                of: Outcome = "YES" if held > 0 else "NO"
                value = exchange.quote(market).ask(of)
                if market == name:
                    value = price if of == side else 1 - price
                total += abs(held) * (value - (1 if of == pays else 0))
            for each in exchange.resting_orders:
                if each.order.market != market or each.order.side == pays:
                    continue
                is_own = market == name and each.order.side == side
                total += each.remaining_count * (price if is_own else each.order.price)
        worst.append(total)
    return max(worst)


@settings(max_examples=15)
@given(st.sampled_from(sorted(KINDS)), st.integers(0, 2**31))
def test_no_sequence_of_orders_exceeds_a_loss_limit(kind: str, seed: int) -> None:
    """Brute force after every accepted purchase; purchases that only reduce are always accepted."""
    limits = PositionLimits(event_loss=D(120), account_loss=D(150))
    listings = [
        SimulatedListing(
            name, session_to_tick_records(synthetic_session(seed, EAGER, market_index=k)),
            event_ticker=event.event_ticker, is_mutually_exclusive=event.is_mutually_exclusive,
            strike=event.strike,
        )
        for k, (name, event) in enumerate(KINDS[kind])
    ]  # fmt: skip
    exchange = Exchange(listings, EpisodeSettings(limits=limits, starting_cash=2000.0))
    rng = np.random.default_rng(seed)
    for tick in range(EAGER.steps - 1):
        for name in exchange.listings:
            side: Outcome = "YES" if rng.random() < 0.5 else "NO"
            price = exchange.quote(name).ask(side)
            if not 0 < price < 1:
                continue
            count = D(int(rng.integers(1, 120)))
            before = exchange.view(name)
            after = before.held_count(side) - before.held_count(opposite_side(side))
            after += before.resting_count_towards(side) + count
            try:
                exchange.submit(
                    EventContractOrder(f"{name}-{tick}", name, "BUY", side, price, count)
                )
            except OrderRejected:
                assert after > 0
                continue
            if after > 0:
                events = {each.market_event.event_ticker for each in exchange.listings.values()}
                own = exchange.listings[name].market_event.event_ticker
                losses = {e: brute_loss(exchange, e, name, side, price) for e in events}
                assert losses[own] <= 120
                assert sum(losses.values()) <= 150
        exchange.advance()


def test_second_strike_beyond_event_limit_is_refused() -> None:
    listings = [
        SimulatedListing(
            f"T{k}",
            session_to_tick_records(synthetic_session(3, EAGER, market_index=k)),
            event_ticker="E",
        )
        for k in range(2)
    ]
    exchange = Exchange(listings, EpisodeSettings(limits=PositionLimits(event_loss=D(40))))
    sides: tuple[Outcome, ...] = ("YES", "NO")
    side = max(sides, key=exchange.quote("T0").ask)
    price = exchange.quote("T0").ask(side)
    exchange.submit(EventContractOrder("a", "T0", "BUY", side, price, 35 // price))
    side = max(sides, key=exchange.quote("T1").ask)
    price = exchange.quote("T1").ask(side)
    with refused(OrderRejected, "limits.event_loss"):
        exchange.submit(EventContractOrder("b", "T1", "BUY", side, price, D(20)))


@pytest.mark.parametrize(("limit", "filled"), [(60, 0), (100, 50)])
def test_resting_order_is_cancelled_if_filling_exceeds_limit(limit: int, filled: int) -> None:
    """100 YES are worth $30 when 50 at 0.40 are sent, and $70 when these are about to fill."""
    rows = {
        "B": [(0.28, 0.30, 1)] * 2 + [(0.68, 0.70, 1)] * 2,
        "A": [(0.40, 0.42, 1)] * 2 + [(0.36, 0.38, 1)] * 2,
    }
    listings = [
        SimulatedListing(
            name, session_to_tick_records(quotes([*each, (0.99, 1.0, 1)], 1000)), event_ticker="E"
        )
        for name, each in rows.items()
    ]
    limits = PositionLimits(event_loss=D(limit))
    exchange = Exchange(listings, EpisodeSettings(life=20, limits=limits))
    exchange.submit(EventContractOrder("b", "B", "BUY", "YES", D("0.30"), D(100)))
    exchange.advance()
    assert exchange.position("B") == 100
    placed = exchange.submit(EventContractOrder("a", "A", "BUY", "YES", D("0.40"), D(50)))
    exchange.advance()
    assert placed.filled_count == filled
    assert placed.state == ("executed" if filled else "canceled")


# At the venue


@pytest.mark.parametrize(
    ("fields", "strike"),
    [
        ({"strike_type": "greater", "floor_strike": 60}, StrikeRange(low=D(60))),
        ({"strike_type": "less", "cap_strike": 50.5}, StrikeRange(high=D("50.5"))),
        (
            {"strike_type": "between", "floor_strike": 50, "cap_strike": 51},
            StrikeRange(D(50), D(51), includes_low=True, includes_high=True),
        ),
        (
            {"strike_type": "greater_or_equal", "floor_strike": 1},
            StrikeRange(D(1), includes_low=True),
        ),
        (
            {"strike_type": "less_or_equal", "cap_strike": 1},
            StrikeRange(high=D(1), includes_high=True),
        ),
        ({"strike_type": "greater"}, None),
        ({"strike_type": "greater", "floor_strike": None}, None),
        ({"strike_type": "greater", "floor_strike": "high"}, None),
        ({"strike_type": "between", "floor_strike": 60, "cap_strike": 50}, None),
        ({"strike_type": "between", "floor_strike": 60}, None),
        ({"strike_type": "custom", "floor_strike": 60}, None),
        ({"strike_type": "functional", "functional_strike": "x"}, None),
        ({"strike_type": "greater", "floor_strike": 25, "custom_strike": {"player": "A"}}, None),
        ({}, None),
    ],
)
def test_strike_fields_are_parsed_in_kalshi_format(
    fields: dict[str, Any], strike: StrikeRange | None
) -> None:
    assert StrikeFields().read(fields) == strike
    if strike is not None:
        assert StrikeFields().read(format_strike_fields(strike)) == strike


def test_exclusive_markets_have_at_most_one_yes_outcome() -> None:
    for paying in product([False, True], repeat=3):
        names = {f"M{k}" for k, pays in enumerate(paying) if pays}
        events = {f"M{k}": MarketEvent("E", is_mutually_exclusive=True) for k in range(3)}
        assert (names in possible(events)) == (len(names) <= 1)
