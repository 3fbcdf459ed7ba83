"""Protective orders: one a position, never beyond it, nothing opposite, priced by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution.decision.protection import (
    ProtectedAccount,
    ProtectionPlan,
    ProtectionSettings,
    cooling_symbols,
    daily_deviations,
    is_crypto_bar_end,
    plan_protection,
)
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import (
    DEFAULT_SIZE_LIMITS,
    Order,
    is_protective_id,
    is_protective_order,
)
from execution.orders.venue_rules import venue_refusal_reason
from foundation.errors import InputError
from tests.support.messages import refused
from trainingdata.bars import build_panel
from trainingdata.instruments import instrument, is_crypto
from trainingdata.timeframe import HOURLY

NOW = np.datetime64("2024-03-18T14:30", "ns")  # in a session
EVENING = np.datetime64("2024-03-18T21:30", "ns")
SYMBOLS = ("ACME", "CORP", "BTCUSD")


def snapshot(
    positions: dict[str, str], prices: dict[str, float], *orders: Order, at: np.datetime64 = NOW
) -> AccountSnapshot:
    held = {symbol: Decimal(quantity) for symbol, quantity in positions.items()}
    return AccountSnapshot(1e6, held, prices, at, orders)


def plan_of(
    account: AccountSnapshot,
    entries: dict[str, float] | None = None,
    deviations: dict[str, float] | None = None,
    trades: dict[str, float] | None = None,
    misstated: tuple[str, ...] = (),
    stated: dict[str, float] | None = None,
    elected: Mapping[str, np.datetime64] | None = None,
    raises_crypto_stops: bool = True,
    **words: Any,
) -> ProtectionPlan:
    chosen = ProtectionSettings(**{"kind": "stop", **words})
    known = dict(account.prices) if entries is None else entries
    state = ProtectedAccount(
        account,
        known,
        deviations or {},
        "kelly_50",
        DEFAULT_SIZE_LIMITS,
        at=account.as_of,
        checked_at=account.as_of,
        last_trades=account.prices if trades is None else trades,
        misstated_orders=misstated,
        raises_crypto_stops=raises_crypto_stops,
        stated_stops=stated or {},
        elected_since=elected or {},
    )
    return plan_protection(chosen, state)


def stop_of(symbol: str, side: Any, quantity: str, price: float, attempt: int = 0) -> Order:
    name = f"kelly_50-20240318T133000Z-{symbol}-stop-{attempt}"
    kind: Any = "stop_limit" if is_crypto(symbol) else "stop"
    limit = price * 0.98 if is_crypto(symbol) else None
    return Order(
        name, symbol, side, Decimal(quantity), "", True, kind, "gtc", limit, stop_price=price
    )


def market_order(symbol: str, side: Any, quantity: str) -> Order:
    name = f"kelly_50-20240318T143000Z-{symbol}-0-0"
    return Order(name, symbol, side, Decimal(quantity), "", tif="day")


def test_long_position_is_protected_below_its_entry() -> None:
    (order,) = plan_of(snapshot({"ACME": "820"}, {"ACME": 48.0}), {"ACME": 47.81}).orders
    assert order.client_order_id == "kelly_50-20240318T143000Z-ACME-stop-0"
    assert (order.side, order.qty, order.type, order.tif) == ("sell", 820, "stop", "gtc")
    assert order.stop_price == 45.42  # 47.81 · 0.95 = 45.4195
    assert order.reduces
    assert order.reason == "protects 820 ACME: stop 45.42, 5 % below the average entry 47.81"
    assert is_protective_order(order)


def test_each_position_gets_an_order_type_it_allows() -> None:
    account = snapshot(
        {"ACME": "-30", "CORP": "10.5", "BTCUSD": "0.5"},
        {"ACME": 50.0, "CORP": 20.0, "BTCUSD": 60_123.0},
    )
    short, coin, fraction = plan_of(account, distance="10%", limit_offset=0.01).orders
    assert (short.side, short.stop_price, short.tif) == ("buy", 55.0, "gtc")
    assert (fraction.qty, fraction.stop_price, fraction.tif) == (Decimal("10.5"), 18.0, "day")
    assert (coin.type, coin.stop_price, coin.limit_price) == ("stop_limit", 54_111.0, 53_570.0)
    trailing = {o.symbol: o for o in plan_of(account, kind="trailing").orders}
    assert (trailing["CORP"].qty, trailing["CORP"].trail_percent) == (10, 5.0)
    assert trailing["BTCUSD"].type == "stop_limit", "the venue has no trailing stops of crypto"
    assert trailing["ACME"].side == "buy"


def test_stop_limit_that_the_venue_made_is_kept() -> None:
    account = snapshot({"ACME": "-30"}, {"ACME": 50.0})
    (stop,) = plan_of(account).orders
    made = replace(stop, type="stop_limit", limit_price=54.6)
    assert plan_of(replace(account, open_orders=(made,))) == ProtectionPlan()
    sale = replace(made, side="sell", stop_price=47.5, limit_price=46.55)
    long = snapshot({"ACME": "30"}, {"ACME": 50.0}, sale)
    assert plan_of(long).cancels == (sale,), "the venue leaves stops of long positions as sent"


def test_stop_being_cancelled_neither_protects_nor_frees_shares() -> None:
    account = snapshot({"ACME": "30"}, {"ACME": 50.0})
    (stop,) = plan_of(account).orders
    pending = frozenset([stop.client_order_id])
    plan = plan_of(replace(account, open_orders=(stop,), cancelling_orders=pending))
    assert (plan.cancels, plan.orders, {*plan.unprotected}) == ((), (), {"ACME"})


def test_distance_in_deviations_follows_the_symbols_day() -> None:
    times = np.datetime64("2024-03-01T00:00", "ns") + np.arange(1, 401) * np.timedelta64(1, "h")
    closes = 100.0 * np.exp(0.01 * (np.arange(400) % 2))  # ±1 % an hour
    values = np.column_stack([closes, closes, closes, closes, np.full(400, 1e6)])
    bars = build_panel([(instrument("BTCUSD"), times, values)], "by hand", HOURLY)
    deviations = daily_deviations(bars, ["BTCUSD"])
    assert deviations["BTCUSD"] == pytest.approx(0.01 * 24**0.5)
    account = snapshot({"BTCUSD": "1"}, {"BTCUSD": 100.0})
    (order,) = plan_of(account, None, deviations, distance="2sd").orders
    assert order.stop_price == pytest.approx(100 * (1 - 2 * 0.01 * 24**0.5), abs=0.01)
    unknown = plan_of(account, distance="2sd")
    assert (unknown.orders, set(unknown.unprotected)) == ((), {"BTCUSD"})


def test_resting_stop_stays_within_its_band() -> None:
    held, prices = {"ACME": "100"}, {"ACME": 100.0}
    near = stop_of("ACME", "sell", "95", 95.4)
    assert plan_of(snapshot(held, prices, near)) == ProtectionPlan()
    for odd in (stop_of("ACME", "sell", "100", 95.6), stop_of("ACME", "sell", "80", 95.0)):
        plan = plan_of(snapshot(held, prices, odd))
        assert (plan.cancels, len(plan.orders)) == ((odd,), 1)
    large = stop_of("ACME", "sell", "101", 95.0)
    plan = plan_of(snapshot(held, prices, large))
    assert (plan.cancels, plan.orders[0].qty) == ((large,), 100)
    double = stop_of("ACME", "sell", "5", 95.0, attempt=1)
    assert plan_of(snapshot(held, prices, near, double)).cancels == (double,)


def test_misstated_stop_is_replaced_once_positions_are_certain() -> None:
    stop = stop_of("ACME", "sell", "100", 95.0)
    account = snapshot({"ACME": "100"}, {"ACME": 100.0}, stop)
    plan = plan_of(account, misstated=(stop.client_order_id,))
    assert (plan.cancels, len(plan.orders)) == ((stop,), 1)
    uncertain = replace(account, uncertain_symbols=frozenset({"ACME"}))
    assert plan_of(uncertain, misstated=(stop.client_order_id,)) == ProtectionPlan()


def test_uncertain_position_without_stop_is_named() -> None:
    account = snapshot({"ACME": "100"}, {"ACME": 100.0})
    plan = plan_of(replace(account, uncertain_symbols=frozenset({"ACME"})))
    assert (plan.cancels, plan.orders, set(plan.unprotected)) == ((), (), {"ACME"})


def test_stop_without_position_or_protection_is_cancelled() -> None:
    stop = stop_of("ACME", "sell", "100", 95.0)
    assert plan_of(snapshot({}, {"ACME": 100.0}, stop)).cancels == (stop,)
    held = snapshot({"ACME": "100"}, {"ACME": 100.0}, stop)
    assert plan_of(held, kind="none") == ProtectionPlan((stop,))


def test_position_beyond_its_stop_is_closed_with_reason() -> None:
    fallen = snapshot({"ACME": "820"}, {"ACME": 45.0})
    (order,) = plan_of(fallen, {"ACME": 47.81}).orders
    assert (order.type, order.side, order.qty, order.tif) == ("market", "sell", 820, "day")
    assert str(order.reason).startswith("closes 820 ACME at 45, beyond its stop 45.42")
    assert is_protective_id(order.client_order_id)
    assert not is_protective_order(order)
    for trades in ({}, {"ACME": 47.0}):
        unsure = plan_of(fallen, {"ACME": 47.81}, trades=trades)
        assert (unsure.orders, set(unsure.unprotected)) == ((), {"ACME"})
    late = snapshot({"ACME": "820"}, {"ACME": 45.0}, at=EVENING)
    waits = plan_of(late, {"ACME": 47.81})
    assert waits.orders == ()
    assert "auction" in waits.unprotected["ACME"]
    resting = stop_of("ACME", "sell", "820", 45.42)
    left = snapshot({"ACME": "820"}, {"ACME": 45.0}, resting)
    assert plan_of(left, {"ACME": 47.81}) == ProtectionPlan(), "a triggered stop is left to fill"


def test_large_crypto_position_is_closed_in_parts() -> None:
    fallen = snapshot({"BTCUSD": "10"}, {"BTCUSD": 50_000.0})
    parts = plan_of(fallen, {"BTCUSD": 60_000.0}).orders
    assert sum(order.qty for order in parts) == 10
    assert len({order.client_order_id for order in parts}) == len(parts) == 3
    (one,) = plan_of(fallen, {"BTCUSD": 50_000.0}).orders
    assert one.qty < 10, "one order has a largest value"


def test_trailing_stop_of_crypto_only_rises() -> None:
    rising = snapshot({"BTCUSD": "1"}, {"BTCUSD": 100.0}, stop_of("BTCUSD", "sell", "1", 90.0))
    (order,) = plan_of(rising, kind="trailing").orders
    assert order.stop_price == 95.0
    falling = snapshot({"BTCUSD": "1"}, {"BTCUSD": 98.0}, stop_of("BTCUSD", "sell", "1", 95.0))
    assert plan_of(falling, kind="trailing") == ProtectionPlan()


def test_trailing_stop_of_crypto_waits_for_the_bar() -> None:
    stop = stop_of("BTCUSD", "sell", "1", 90.0)
    rising = snapshot({"BTCUSD": "1"}, {"BTCUSD": 100.0}, stop)
    assert plan_of(rising, kind="trailing", raises_crypto_stops=False) == ProtectionPlan()
    unprotected = snapshot({"BTCUSD": "1"}, {"BTCUSD": 100.0})
    (order,) = plan_of(unprotected, kind="trailing", raises_crypto_stops=False).orders
    assert order.stop_price == 95.0
    assert is_crypto_bar_end(HOURLY, np.datetime64("2024-03-18T14:00"))
    assert not is_crypto_bar_end(HOURLY, NOW)


@pytest.mark.parametrize("cooldown", [0, 1, 2])
def test_stopped_symbol_cools_by_sessions_or_days(cooldown: int) -> None:
    """A stock and a coin whose stops filled at 14:30 on a Monday."""
    stopped = {"ACME": NOW, "BTCUSD": NOW}
    same_day, next_day = NOW + np.timedelta64(5, "h"), NOW + np.timedelta64(1, "D")
    assert ("ACME" in cooling_symbols(stopped, same_day, cooldown)) == (cooldown > 0)
    assert ("BTCUSD" in cooling_symbols(stopped, same_day, cooldown)) == (cooldown > 0)
    assert cooling_symbols(stopped, next_day, cooldown) == (
        frozenset(stopped) if cooldown > 1 else frozenset()
    )
    midnight = np.datetime64("2024-03-19T00:00", "ns")  # before the next session
    assert ("ACME" in cooling_symbols(stopped, midnight, cooldown)) == (cooldown > 0)
    assert ("BTCUSD" in cooling_symbols(stopped, midnight, cooldown)) == (cooldown > 1)


LATER = NOW + np.timedelta64(60, "s")
EARLIER = NOW - np.timedelta64(60, "s")


def test_elected_stop_limit_is_replaced_after_unfilled_seconds() -> None:
    """A coin whose market has jumped over stop 95 and limit 93.1."""
    stop = stop_of("BTCUSD", "sell", "1", 95.0)
    fallen = snapshot({"BTCUSD": "1"}, {"BTCUSD": 80.0}, stop)
    first = plan_of(fallen, {"BTCUSD": 100.0})
    assert first == ProtectionPlan(elected_since={stop.client_order_id: NOW})
    soon = replace(fallen, as_of=LATER - np.timedelta64(1, "s"))
    assert plan_of(soon, {"BTCUSD": 100.0}, elected=first.elected_since) == first
    plan = plan_of(replace(fallen, as_of=LATER), {"BTCUSD": 100.0}, elected=first.elected_since)
    [order] = plan.orders
    assert plan.cancels == (stop,)
    assert (order.type, order.side, order.qty, order.tif) == ("market", "sell", 1, "gtc")
    assert not plan.elected_since
    reason = "its stop 95 was passed at 2024-03-18T14:30Z, and its stop-limit order has not filled"
    assert str(order.reason) == f"closes 1 BTCUSD at 80, because {reason}"
    assert plan.unprotected == {"BTCUSD": f"{reason}; a market order replaces it"}


def test_elected_stop_limit_stays_under_alert_setting() -> None:
    stop = stop_of("BTCUSD", "sell", "1", 95.0)
    fallen = snapshot({"BTCUSD": "1"}, {"BTCUSD": 80.0}, stop)
    elected = {stop.client_order_id: EARLIER}
    plan = plan_of(fallen, {"BTCUSD": 100.0}, elected=elected, unfilled="alert")
    assert (plan.cancels, plan.orders, plan.elected_since) == ((), (), elected)
    assert set(plan.unprotected) == {"BTCUSD"}


def test_election_needs_a_confirming_last_trade() -> None:
    stop = stop_of("BTCUSD", "sell", "1", 95.0)
    fallen = snapshot({"BTCUSD": "1"}, {"BTCUSD": 80.0}, stop)
    unknown = plan_of(fallen, {"BTCUSD": 100.0}, trades={})
    assert unknown == ProtectionPlan(unconfirmed=frozenset({"BTCUSD"}))
    assert plan_of(fallen, {"BTCUSD": 100.0}, trades={"BTCUSD": 99.0}) == ProtectionPlan()


@pytest.mark.parametrize(("price", "trades"), [(99.0, {"BTCUSD": 80.0}), (80.0, {"BTCUSD": 99.0}),
                                               (80.0, {}), (99.0, {})])  # fmt: skip
def test_one_wrong_price_ends_no_election(price: float, trades: dict[str, float]) -> None:
    """The alert lasts until neither price is beyond the stop; a market order needs both beyond."""
    stop = stop_of("BTCUSD", "sell", "1", 95.0)
    account = snapshot({"BTCUSD": "1"}, {"BTCUSD": price}, stop)
    elected = {stop.client_order_id: EARLIER}
    plan = plan_of(account, {"BTCUSD": 100.0}, trades=trades, elected=elected)
    assert (plan.cancels, plan.orders, plan.elected_since) == ((), (), elected)
    assert set(plan.unprotected) == {"BTCUSD"}
    assert plan.unconfirmed == ({"BTCUSD"} if not trades else set())
    back = snapshot({"BTCUSD": "1"}, {"BTCUSD": 99.0}, stop)
    assert plan_of(back, {"BTCUSD": 100.0}, elected=elected) == ProtectionPlan()


def test_elected_stock_order_waits_for_an_open_exchange() -> None:
    stop = replace(stop_of("ACME", "sell", "10", 95.0), type="stop_limit", limit_price=93.1)
    elected = {stop.client_order_id: EARLIER}
    closed = snapshot({"ACME": "10"}, {"ACME": 80.0}, stop, at=EVENING)
    plan = plan_of(closed, {"ACME": 100.0}, elected=elected, kind="stop_limit")
    assert (plan.cancels, plan.orders, plan.elected_since) == ((), (), elected)
    opened = replace(closed, as_of=NOW)
    plan = plan_of(opened, {"ACME": 100.0}, elected=elected, kind="stop_limit")
    assert (plan.cancels, [order.qty for order in plan.orders]) == ((stop,), [10])


def test_elected_order_closes_what_no_other_order_sells() -> None:
    stop = stop_of("BTCUSD", "sell", "0.4", 95.0)
    limit = replace(market_order("BTCUSD", "sell", "0.6"), type="limit", limit_price=120.0)
    fallen = snapshot({"BTCUSD": "1"}, {"BTCUSD": 80.0}, stop, limit)
    plan = plan_of(fallen, {"BTCUSD": 100.0}, elected={stop.client_order_id: EARLIER})
    assert [order.qty for order in plan.orders] == [Decimal("0.4")]


def test_stop_stays_if_its_replacement_would_be_refused() -> None:
    stop = stop_of("BTCUSD", "sell", "0.004", 95.0)
    dust = snapshot({"BTCUSD": "0.004"}, {"BTCUSD": 80.0}, stop)
    plan = plan_of(dust, {"BTCUSD": 100.0}, elected={stop.client_order_id: EARLIER})
    assert (plan.cancels, plan.orders) == ((), ())
    assert "dust" in plan.unprotected["BTCUSD"]


def test_stated_stop_replaces_the_distance() -> None:
    account = snapshot({"ACME": "10", "CORP": "-5"}, {"ACME": 100.0, "CORP": 50.0})
    orders = plan_of(account, stated={"ACME": 91.234, "CORP": 52.0}, kind="trailing").orders
    assert [(o.symbol, o.type, o.stop_price) for o in orders] == [
        ("ACME", "stop", 91.23),
        ("CORP", "stop", 52.0),
    ]
    assert str(orders[0].reason) == "protects 10 ACME: stop 91.23, stated by the strategy"


@pytest.mark.parametrize("distance", ["0%", "100%", "0sd", "5", 8, 0.08, "x%", "-1%"])
def test_invalid_protective_distance_is_refused(distance: Any) -> None:
    with refused(InputError, "protect.distance"):
        ProtectionSettings(distance=distance)


quantities = st.integers(-40, 40).map(lambda n: Decimal(n) / 2)


@st.composite
def accounts(draw: Any) -> AccountSnapshot:
    """Positions, orders and stops in three symbols, however they came about."""
    positions, prices, orders = {}, {}, []
    for symbol in SYMBOLS:
        held = draw(quantities)
        positions[symbol] = abs(held) if is_crypto(symbol) else held
        prices[symbol] = float(draw(st.integers(50, 150)))
        for k in range(draw(st.integers(0, 2))):
            size = str(abs(draw(quantities)) + 1)
            side = draw(st.sampled_from(["buy", "sell"]))
            orders.append(stop_of(symbol, side, size, float(draw(st.integers(40, 160))), k))
        if draw(st.booleans()):
            size = str(abs(draw(quantities)) + 1)
            orders.append(market_order(symbol, draw(st.sampled_from(["buy", "sell"])), size))
    held = {symbol: quantity for symbol, quantity in positions.items() if quantity}
    return AccountSnapshot(1e5, held, prices, NOW, tuple(orders))


@settings(max_examples=120)
@given(
    accounts(),
    st.sampled_from(["none", "stop", "stop_limit", "trailing"]),
    st.sampled_from(["5%", "30%", "2sd"]),
    st.dictionaries(st.sampled_from(SYMBOLS), st.integers(60, 140).map(float)),
)
def test_plan_leaves_one_stop_within_each_position(
    account: AccountSnapshot, kind: str, distance: str, entries: dict[str, float]
) -> None:
    deviations = dict.fromkeys(SYMBOLS, 0.03)
    plan = plan_of(account, entries, deviations, kind=kind, distance=distance)
    after = account.without_orders(plan.cancels)
    assert {order.client_order_id for order in plan.cancels} <= {
        order.client_order_id for order in account.open_orders if is_protective_order(order)
    }
    for order in plan.orders:
        assert not venue_refusal_reason(order, None, after, DEFAULT_SIZE_LIMITS, NOW)
    for symbol in SYMBOLS:
        held = account.positions.get(symbol, Decimal(0))
        sent = [order for order in plan.orders if order.symbol == symbol]
        left = [order for order in after.open_orders if order.symbol == symbol]
        stops = [order for order in (*left, *sent) if is_protective_order(order)]
        closing = [o for o in (*left, *sent) if o.signed_qty * held < 0]
        adding = [o for o in left if o.signed_qty * held > 0]
        assert len(stops) <= 1
        assert all(order.signed_qty * held < 0 for order in (*stops, *sent))
        if stops or sent:
            assert sum(order.qty for order in closing) <= abs(held)
            assert not adding, "nothing on the other side"
        if kind == "none":
            assert not stops
            assert not sent
    again = AccountSnapshot(
        1e5, account.positions, account.prices, NOW, (*after.open_orders, *plan.orders)
    )
    repeated = plan_of(again, entries, deviations, kind=kind, distance=distance)
    assert (repeated.cancels, repeated.orders) == ((), ()), "a second look changes nothing"
