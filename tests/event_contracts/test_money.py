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
from event_contracts.trading.orders import ContractFill
from execution.orders.fees import DatedRate
from tests.event_contracts.exact_account import charge

D = Decimal
MARKET = "RAIN"
RULES = FeeRules()
NEWEST = FeeRules(fee_step=D("0.000001"))
DIRECT = FeeRules(fee_step=D("0.000001"), balance_step=D("0.0001"))


def bought(price: str, count: int) -> ContractFill:
    return ContractFill("a", MARKET, "BUY", "YES", D(price), D(count), False)


def test_published_fee_examples_are_exact() -> None:
    """Rounding of an order to whole cents is refunded in the fill that completes it."""
    cost = charge(bought("0.055", 1), NEWEST)
    assert cost == (D("-0.06"), D("0.005"), D("0.001361"))
    assert NEWEST.compute_fee(D("0.055"), D(1), maker=False) == D("0.003639")
    first = charge(bought("0.37", 10), RULES)
    assert first == (D("-3.87"), D("0.17"), D("0.0068"))
    assert charge(bought("0.37", 10), RULES, first.carried) == (D("-3.86"), D("0.16"), D("0.0036"))


@pytest.mark.parametrize(
    ("price", "count", "maker", "fee"),
    [
        ("0.50", 100, False, "1.75"), ("0.50", 100, True, "0.4375"),
        ("0.37", 10, False, "0.1632"), ("0.37", 10, True, "0.0408"),
        ("0.01", 5, False, "0.0035"), ("0.99", 5, True, "0.0009"),
    ],
)  # fmt: skip
def test_fee_is_rate_times_variance_rounded_up(
    price: str, count: int, maker: bool, fee: str
) -> None:
    assert RULES.compute_fee(D(price), D(count), maker=maker) == D(fee)


@given(
    st.integers(1, 9_999),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9_998), st.booleans()), min_size=1),
    st.sampled_from([RULES, NEWEST, DIRECT]),
)
def test_partial_fills_never_cost_more_than_reserved(
    limit: int, parts: list[tuple[int, int, bool]], rules: FeeRules
) -> None:
    """Fills are whole contracts at the limit or better, as maker or taker."""
    carried = cash = D(0)
    for count, better, maker in parts:
        price = D(max(limit - better, 1)) / 10_000
        cost = charge(
            ContractFill("a", MARKET, "BUY", "YES", price, D(count), maker), rules, carried
        )
        carried = cost.carried
        cash += cost.cash
    total = D(sum(count for count, _, _ in parts))
    assert -cash <= rules.max_purchase_cost(D(limit) / 10_000, total)


def shipped() -> dict[str, Any]:
    text = (Path(__file__).parents[2] / "configs" / "fees" / "kalshi.yaml").read_text()
    return {
        name: rows if isinstance(rows, str) else tuple(DatedRate(**row) for row in rows)
        for name, rows in yaml.safe_load(text).items()
    }


def test_bundled_fee_rules_change_on_effective_date() -> None:
    fees = KalshiFees(**shipped())
    assert fees.default_rules() == KalshiFees().default_rules() == FeeRules()
    assert fees.rules_on("2025-12-05") == fees.rules_on("2026-11-20") == RULES
    assert fees.rules_on("2026-11-21") == NEWEST
    assert fees.rules_on("2026-11-21").fee_step == D("0.000001"), (
        "as written, not the float's digits"
    )
