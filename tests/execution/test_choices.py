"""Choices as columns: what holds each, at which price, in the place of its own."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.decision.choices import Choices, joined_choices
from execution.decision.decision import Choice, Rationale, no_order_text, plan_text, reason_text
from sizing.binding import FIRST_CEILING, FIRST_ROW, LIMITS
from sizing.limits import CEILINGS
from trainingdata.instruments import instrument

GROUPS = ("one_gross", "two_most", "two_least")
FIXED = len(CEILINGS) + 1
GROUP_BITS = range(FIRST_ROW, FIRST_ROW + len(GROUPS))


def choices(holds: list[int], rows: int = 1) -> Choices:
    """N choices of instants in turn, whose prices are all different."""
    count = len(holds)
    column = np.arange(1.0, count + 1)
    prices = 100.0 * np.arange(1.0, rows * (FIXED + len(GROUPS)) + 1)
    return Choices(
        row=np.sort(np.arange(count) % rows),
        symbol=np.arange(count),
        **{name: column for name in ("mu", "sigma", "kelly", "held", "target", "price", "cost")},
        steps=np.full(count, np.nan),
        holds=np.array(holds),
        own_price=-column,
        prices=prices.reshape(rows, -1),
        rationale=tuple([column] * 9),
        rows=GROUPS,
    )


@given(st.lists(st.sampled_from([*range(len(LIMITS)), *GROUP_BITS]), unique=True))
def test_every_limit_that_holds_a_target_has_its_own_price(bits: list[int]) -> None:
    """In the object and in the columns alike; a limit of its own has the symbol's."""
    c = choices([sum(1 << bit for bit in bits)])
    item = instrument("AAA")
    told = c.choice(0, item, Decimal(3))
    assert (told.symbol, told.qty) == ("AAA", 0)
    columns = c.shadow_prices()
    assert set(columns) == {*LIMITS, *GROUPS}
    for place, name in enumerate((*LIMITS, *GROUPS)):
        bit = place if place < len(LIMITS) else FIRST_ROW + place - len(LIMITS)
        price = -1.0 if place < FIRST_CEILING else 100.0 * (place - FIRST_CEILING + 1)
        assert columns[name][0] == (price if bit in bits else 0.0)
        assert told.binding.get(name, 0.0) == columns[name][0]


def test_choices_of_spans_in_a_row_are_those_of_the_whole() -> None:
    whole = choices([0] * 6, rows=3)
    parts = []
    for number in range(3):
        part, rows = slice(2 * number, 2 * number + 2), slice(number, number + 1)
        own = {name: getattr(whole, name)[part] for name in Choices._fields[:-3]}
        rationale = tuple([column[part] for column in whole.rationale])
        parts.append(whole._replace(**own, rationale=rationale, prices=whole.prices[rows]))
        parts[-1] = parts[-1]._replace(row=parts[-1].row - number)
    joined = joined_choices(parts, [1, 1, 1])
    for name in Choices._fields[:-2]:
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    np.testing.assert_array_equal(joined.rationale, whole.rationale)
    assert joined.rows == GROUPS


def test_a_reason_says_what_a_change_costs_where_something_is_ordered_and_its_cost_is_known() -> (
    None
):
    told = choices([0]).choice(0, instrument("AAA"), Decimal(3))
    for qty, cost, says in ((3, 0.01, True), (0, 0.01, False), (3, np.nan, False)):
        changed = told._replace(qty=Decimal(qty), cost=cost, price=50.0)
        assert ("cost $1.50 (100 bp)" in reason_text(changed, 1.0)) is says
        assert ("cost $" in reason_text(changed, 1.0)) is says
        worth = abs(qty) * 50.0 * cost if qty else 0.0
        assert changed.change_cost == pytest.approx(worth, nan_ok=True)


def test_a_reason_says_what_is_premium_and_what_is_forecast_over_the_span_that_decided() -> None:
    rests_on = Rationale(5.0, 0.3, 0.06, 0.0008, -0.0012, 0.5, 0.03)
    assert plan_text(rests_on, 1.0) == (
        "; over 5 days premium +8.0 bp (6.00 % a year, Sharpe ratio 0.3),"
        " forecast -12.0 bp (worth 0.50), deviation 300 bp"
    )


@pytest.mark.parametrize(
    ("earned", "says"),
    [
        (0.0035, "it pays no more than the risk it shares with the rest: premium +35.0 bp"),
        (0.0, "no return is expected: premium +0.0 bp"),
    ],
)
def test_shared_risk_explains_an_unheld_premium(earned: float, says: str) -> None:
    rests_on = Rationale(28.0, 0.12, 0.06, earned, 0.0, None, 0.1, 0.0, 0.0)
    unheld = Choice(
        "BTCUSD", 0.0, 0.02, 0.0, 0.0, 0.0, Decimal(0), 60_000.0, {}, 0.0028, rationale=rests_on
    )
    assert f"not held: {says}" in no_order_text(unheld, 100_000.0)
