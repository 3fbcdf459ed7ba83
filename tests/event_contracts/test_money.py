"""Money of event contracts: conserved by any sequence of fills, to the last digit."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.fees import FeeRules, KalshiFees
from event_contracts.trading.orders import Fill, Outcome, Quote, Verb, other
from execution.fees import DatedRate
from tests.event_contracts.exact_account import Account, Charge, charge

D = Decimal
MARKET = "RAIN"
RULES = FeeRules()
NEWEST = FeeRules(fee_step=D("0.000001"))
DIRECT = FeeRules(fee_step=D("0.000001"), balance_step=D("0.0001"))
SIDES: tuple[Outcome, ...] = ("YES", "NO")
VERBS: tuple[Verb, ...] = ("BUY", "SELL")
CENTS = st.integers(1, 99).map(lambda n: D(n) / 100)
PRICES = st.integers(1, 9_999).map(lambda n: D(n) / 10_000)
COUNTS = st.integers(1, 50_000).map(lambda n: D(n) / 100)
WHOLE = st.integers(1, 120).map(D)
QUOTES = st.tuples(st.integers(0, 100), st.integers(0, 100)).map(
    lambda pair: Quote(D(min(pair)) / 100, D(max(pair)) / 100)
)


def fill(
    action: Verb, side: Outcome, price: str, count: int, maker: bool = False, order: str = "a"
) -> Fill:
    return Fill(order, MARKET, action, side, D(price), D(count), maker)


def booked(account: Account, *fills: Fill, rules: FeeRules = RULES) -> tuple[Account, Decimal]:
    """The account after the fills, and their net fees."""
    fees = D(0)
    for each in fills:
        account, cost = account.booked(each, rules)
        fees += cost.net_fee
    return account, fees


# What a fill costs


def test_the_venues_own_example_is_charged_to_the_last_digit() -> None:
    cost = charge(fill("BUY", "YES", "0.055", 1), NEWEST)
    assert cost == Charge(D("-0.055"), D("0.003639"), D("0.001361"), D(0), D("0.001361"))
    assert cost.cash == D("-0.06")


def test_whole_cents_of_an_orders_rounding_come_back_in_the_fill_that_completes_them() -> None:
    first = charge(fill("BUY", "YES", "0.37", 10), RULES)
    assert first == Charge(D("-3.70"), D("0.1632"), D("0.0068"), D(0), D("0.0068"))
    second = charge(fill("BUY", "YES", "0.37", 10), RULES, first.carried)
    assert second == Charge(D("-3.70"), D("0.1632"), D("0.0068"), D("0.01"), D("0.0036"))
    assert (first.cash, second.cash) == (D("-3.87"), D("-3.86"))


def test_rounding_is_carried_by_the_order_that_paid_it() -> None:
    two = (fill("BUY", "YES", "0.37", 10, order="a"), fill("BUY", "YES", "0.37", 10, order="b"))
    account, _ = booked(Account(D(100)), *two)
    assert account.cash == D("100") - 2 * D("3.87")
    account, _ = account.booked(fill("BUY", "YES", "0.37", 10, maker=True, order="a"), RULES)
    assert account.carried == {"a": D("0.0060"), "b": D("0.0068")}, "taken or made, one order"


@pytest.mark.parametrize(
    ("price", "count", "maker", "fee"),
    [
        ("0.50", 100, False, "1.75"), ("0.50", 100, True, "0.4375"),
        ("0.37", 10, False, "0.1632"), ("0.37", 10, True, "0.0408"),
        ("0.01", 5, False, "0.0035"), ("0.99", 5, True, "0.0009"),
    ],
)  # fmt: skip
def test_the_fee_is_the_rate_of_count_and_variance_rounded_up(
    price: str, count: int, maker: bool, fee: str
) -> None:
    assert RULES.fee(D(price), D(count), maker=maker) == D(fee)


@given(
    st.lists(st.tuples(st.sampled_from(VERBS), PRICES, COUNTS, st.booleans()), min_size=1),
    st.sampled_from([RULES, NEWEST, DIRECT]),
)
def test_an_order_loses_less_than_one_step_to_rounding_however_it_fills(
    fills: list[tuple[Verb, Decimal, Decimal, bool]], rules: FeeRules
) -> None:
    cash = exact = carried = D(0)
    for action, price, count, maker in fills:
        each = Fill("a", MARKET, action, "YES", price, count, maker)
        cost = charge(each, rules, carried)
        carried = cost.carried
        cash += cost.cash
        exact += cost.revenue - cost.fee
        assert cost.cash % rules.balance_step == 0
    assert 0 <= carried < rules.balance_step
    assert cash == exact - carried


@given(CENTS, WHOLE, st.booleans(), st.sampled_from(VERBS), st.integers(0, 99))
def test_at_prices_in_cents_no_fill_is_paid_for(
    price: Decimal, count: Decimal, maker: bool, action: Verb, carried: int
) -> None:
    each = Fill("a", MARKET, action, "YES", price, count, maker)
    assert charge(each, RULES, D(carried) / 10_000).net_fee >= 0


@given(
    st.integers(1, 9_999),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9_998), st.booleans()), min_size=1),
    st.sampled_from([RULES, NEWEST, DIRECT]),
)
def test_no_split_into_fills_costs_more_than_was_reserved(
    limit: int, parts: list[tuple[int, int, bool]], rules: FeeRules
) -> None:
    """Whole contracts, at the limit or better, taken or made."""
    carried = cash = D(0)
    for count, better, maker in parts:
        price = D(max(limit - better, 1)) / 10_000
        cost = charge(Fill("a", MARKET, "BUY", "YES", price, D(count), maker), rules, carried)
        carried = cost.carried
        cash += cost.cash
    total = D(sum(count for count, _, _ in parts))
    assert -cash <= rules.most_cost(D(limit) / 10_000, total)


# The account


@given(st.lists(st.tuples(st.sampled_from(SIDES), CENTS, st.integers(1, 60), st.booleans())))
def test_between_two_traders_and_the_exchange_only_fees_leave(
    trades: list[tuple[Outcome, Decimal, int, bool]],
) -> None:
    """One takes a side, the other sells it from inventory or buys the opposite; the exchange holds
    a dollar for every pair that is out.
    """
    taker = maker = Account(D(10_000))
    fees = D(0)
    for number, (side, price, count, swapped) in enumerate(trades):
        taker, maker = (maker, taker) if swapped else (taker, maker)
        inventory = maker.holding(MARKET).of(side)
        sells = inventory >= count
        answer = (
            Fill(f"{number}m", MARKET, "SELL", side, price, D(count), True)
            if sells
            else Fill(f"{number}m", MARKET, "BUY", other(side), 1 - price, D(count), True)
        )
        taken = Fill(f"{number}t", MARKET, "BUY", side, price, D(count), False)
        taker, one = taker.booked(taken, RULES)
        maker, two = maker.booked(answer, RULES)
        fees += one.net_fee + two.net_fee
        out = {s: taker.holding(MARKET).of(s) + maker.holding(MARKET).of(s) for s in SIDES}
        assert out["YES"] == out["NO"]
        assert taker.cash + maker.cash + out["YES"] == 20_000 - fees
    for outcome in SIDES:
        ends = [account.settled(MARKET, outcome).cash for account in (taker, maker)]
        assert sum(ends) == 20_000 - fees


@given(CENTS, st.integers(0, 30), WHOLE, st.booleans(), st.sampled_from(SIDES))
def test_a_pair_loses_exactly_the_spread_and_its_fees(
    bid: Decimal, spread: int, count: Decimal, pieces: bool, outcome: Outcome
) -> None:
    quote = Quote(bid, min(bid + D(spread) / 100, D("0.99")))
    parts = [D(1)] * int(count) if pieces else [count]
    fills = [
        Fill(side, MARKET, "BUY", side, quote.ask(side), part, False)
        for side in SIDES
        for part in parts
    ]
    account, fees = booked(Account(D(1000)), *fills)
    end = account.settled(MARKET, outcome)
    assert end.cash == 1000 - count * (quote.yes_ask - quote.yes_bid) - fees
    assert not end.holdings
    assert fees > 0


# The dated rules


def shipped() -> dict[str, Any]:
    text = (Path(__file__).parents[2] / "configs" / "fees" / "kalshi.yaml").read_text()
    return {
        name: rows if isinstance(rows, str) else tuple(DatedRate(**row) for row in rows)
        for name, rows in yaml.safe_load(text).items()
    }


def test_the_shipped_rules_are_the_default_and_change_on_their_day() -> None:
    fees = KalshiFees(**shipped())
    assert fees.by_default() == KalshiFees().by_default() == FeeRules()
    assert fees.on("2025-12-05") == fees.on("2026-11-20") == RULES
    assert fees.on("2026-11-21") == NEWEST
    assert fees.on("2026-11-21").fee_step == D("0.000001"), "as written, not the float's digits"
