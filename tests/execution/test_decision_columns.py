"""A decision as columns: what binds each symbol, at which price, and the words of its rows."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.decision.choice import (
    Choice,
    Rationale,
    format_horizon,
    format_no_order_reason,
    format_reason,
)
from execution.decision.decision import BINDING_REASONS, DecisionColumns, concatenate_columns
from sizing.binding import FIRST_GROUP_BIT, LIMITS_WITH_SHADOW_PRICE

GROUPS = ("one_gross", "two_most", "two_least")
GROUP_BITS = range(FIRST_GROUP_BIT, FIRST_GROUP_BIT + len(GROUPS))


def columns_of(binding_bits: list[int]) -> DecisionColumns:
    """N symbols, whose prices are all different."""
    count = len(binding_bits)
    column = np.arange(1.0, count + 1)
    prices = 100.0 * np.arange(1.0, count * len((*LIMITS_WITH_SHADOW_PRICE, *GROUPS)) + 1)
    return DecisionColumns(
        **{
            name: column
            for name in (
                "mu",
                "sigma",
                "kelly",
                "held_weight",
                "target_weight",
                "price",
                "unit_cost",
            )
        },
        binding_bits=np.array(binding_bits, dtype=np.int64),
        strategy_reason=np.full(count, "", dtype=object),
        shadow_prices=prices.reshape(count, len((*LIMITS_WITH_SHADOW_PRICE, *GROUPS))),
        rationale=tuple([column] * 10),
        group_limit_names=GROUPS,
    )


@given(st.lists(st.sampled_from([*range(len(LIMITS_WITH_SHADOW_PRICE)), *GROUP_BITS]), unique=True))
def test_every_binding_limit_has_its_own_shadow_price(bits: list[int]) -> None:
    """Decision rows and columns agree."""
    columns = columns_of([sum(1 << bit for bit in bits)])
    row = columns.choice_at(0, "AAA", Decimal(3))
    assert (row.symbol, row.qty) == ("AAA", 3)
    prices = columns.binding_shadow_prices()
    assert set(prices) == {*LIMITS_WITH_SHADOW_PRICE, *GROUPS}
    for place, name in enumerate((*LIMITS_WITH_SHADOW_PRICE, *GROUPS)):
        bit = (
            place
            if place < len(LIMITS_WITH_SHADOW_PRICE)
            else FIRST_GROUP_BIT + place - len(LIMITS_WITH_SHADOW_PRICE)
        )
        assert prices[name][0] == (100.0 * (place + 1) if bit in bits else 0.0)
        assert row.binding_shadow_prices.get(name, 0.0) == prices[name][0]


@given(st.lists(st.sets(st.sampled_from([*range(len(BINDING_REASONS)), *GROUP_BITS])), max_size=4))
def test_decision_rows_survive_conversion_to_columns_and_back(kinds: list[set[int]]) -> None:
    columns = columns_of([sum(1 << bit for bit in kind) for kind in kinds])
    rows = [columns.choice_at(i, f"S{i}", Decimal(i)) for i in range(len(kinds))]
    again = DecisionColumns.from_choices(rows, GROUPS)
    for i, row in enumerate(rows):
        assert repr(again.choice_at(i, row.symbol, row.qty)) == repr(row)
        assert list(again.choice_at(i, row.symbol, row.qty).binding_shadow_prices) == list(
            row.binding_shadow_prices
        )
        assert again.join_binding_names()[i] == row.bound_by
    for name, prices in columns.binding_shadow_prices().items():
        np.testing.assert_array_equal(again.binding_shadow_prices()[name], prices)


def test_concatenated_decision_columns_equal_the_original() -> None:
    whole = columns_of([0] * 6)
    joined = concatenate_columns([whole.select_rows(slice(k, k + 2)) for k in (0, 2, 4)])
    for name in DecisionColumns._fields[:-1]:
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    assert joined.group_limit_names == GROUPS


def test_order_reason_states_trading_cost_when_known() -> None:
    told = columns_of([0]).choice_at(0, "AAA", Decimal(3))
    for qty, cost, says in ((3, 0.01, True), (0, 0.01, False), (3, np.nan, False)):
        changed = told._replace(qty=Decimal(qty), unit_cost=cost, price=50.0)
        assert ("cost $1.50 (100 bp)" in format_reason(changed, 1.0)) is says
        assert ("cost $" in format_reason(changed, 1.0)) is says
        worth = abs(qty) * 50.0 * cost if qty else 0.0
        assert changed.change_cost_usd == pytest.approx(worth, nan_ok=True)


def test_order_reason_separates_premium_from_forecast() -> None:
    rests_on = Rationale(5.0, 0.3, 0.06, 0.0008, -0.0012, 0.5, 0.03)
    assert format_horizon(rests_on, 1.0) == (
        "; over 5 days premium +8.0 bp (6.00 % a year, Sharpe ratio 0.3),"
        " forecast -12.0 bp (shrinkage factor 0.50), deviation 300 bp"
    )


@pytest.mark.parametrize(
    ("earned", "says"),
    [
        (
            0.0035,
            "its return does not pay for the risk that it shares with other positions:"
            " premium +35.0 bp",
        ),
        (0.0, "the expected return is 0: premium +0.0 bp"),
    ],
)
def test_no_order_reason_states_risk_shared_with_portfolio(earned: float, says: str) -> None:
    rests_on = Rationale(28.0, 0.12, 0.06, earned, 0.0, None, 0.1, 0.0, 0.0)
    unheld = Choice(
        "BTCUSD", 0.0, 0.02, 0.0, 0.0, 0.0, Decimal(0), 60_000.0, {}, 0.0028, rationale=rests_on
    )
    assert f"not held: {says}" in format_no_order_reason(unheld, 100_000.0)
