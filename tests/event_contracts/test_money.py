"""What a fill of an event contract costs, to the last digit, and from which day on."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.fees import FeeRules, KalshiFees
from event_contracts.trading.orders import Fill
from execution.fees import DatedRate
from tests.event_contracts.exact_account import Charge, charge

D = Decimal
MARKET = "RAIN"
RULES = FeeRules()
NEWEST = FeeRules(fee_step=D("0.000001"))
DIRECT = FeeRules(fee_step=D("0.000001"), balance_step=D("0.0001"))


def bought(price: str, count: int) -> Fill:
    return Fill("a", MARKET, "BUY", "YES", D(price), D(count), False)


def test_the_venues_own_example_is_charged_to_the_last_digit() -> None:
    cost = charge(bought("0.055", 1), NEWEST)
    assert cost == Charge(D("-0.055"), D("0.003639"), D("0.001361"), D(0), D("0.001361"))
    assert cost.cash == D("-0.06")


def test_whole_cents_of_an_orders_rounding_come_back_in_the_fill_that_completes_them() -> None:
    first = charge(bought("0.37", 10), RULES)
    assert first == Charge(D("-3.70"), D("0.1632"), D("0.0068"), D(0), D("0.0068"))
    second = charge(bought("0.37", 10), RULES, first.carried)
    assert second == Charge(D("-3.70"), D("0.1632"), D("0.0068"), D("0.01"), D("0.0036"))
    assert (first.cash, second.cash) == (D("-3.87"), D("-3.86"))


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
