"""The limits on a position of event contracts, for any account and order."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.actions import PositionLimits
from foundation.errors import InputError

D = Decimal
PRICES = st.integers(1, 9_999).map(lambda n: D(n) / 10_000)
CASH = st.integers(-10_000, 500_000).map(lambda n: D(n) / 100)
COUNTS = st.integers(1, 60_000).map(lambda n: D(n) / 100)
HELD = st.integers(-60_000, 60_000).map(lambda n: D(n) / 100)
LIMITS = PositionLimits()


@given(COUNTS, PRICES, HELD, CASH, st.integers(0, 200), st.integers(0, 900))
def test_the_position_after_the_order_is_within_every_limit_or_the_reason_names_one(
    count: Decimal, price: Decimal, held: Decimal, cash: Decimal, resting: int, elsewhere: int
) -> None:
    reason = LIMITS.validate_order(
        count=count, price=price, held=held, cash=cash, resting=D(resting), elsewhere=D(elsewhere)
    )
    after = held + resting + count
    portfolio = cash + elsewhere + (held * price if held > 0 else -held * (1 - price))
    broken = {
        "500 a market": after > 500,
        "at most $500": after * price > 500,
        "25% of a portfolio": after * price > portfolio / 4,
    }
    if after <= 0 or not any(broken.values()):
        assert reason is None
    else:
        named = [name for name in broken if name in str(reason)]
        assert len(named) == 1
        assert broken[named[0]]


def test_each_limit_is_a_setting_and_says_so() -> None:
    order = {"count": D(20), "price": D("0.50"), "held": D(0), "cash": D(100)}
    assert LIMITS.validate_order(**order) is None
    reached = PositionLimits(contracts=D(20), value=D(10), share=D("0.1"))
    assert reached.validate_order(**order) is None, "a limit may be reached"
    closing = order | {"held": D(-20), "cash": D(-1000)}
    assert LIMITS.validate_order(**closing) is None, "what closes a position passes in any account"
    for limits, says in (
        (PositionLimits(contracts=D(19)), "20 contracts after this order and the resting ones"),
        (PositionLimits(value=D("9.99")), r"a position of $10 after this order; at most $9.99"),
        (PositionLimits(share=D("0.09")), "at most 9% of a portfolio of $100"),
    ):
        assert says in str(limits.validate_order(**order))
    for name, value in (("contracts", "0"), ("value", "-1"), ("share", "0"), ("share", "1.5")):
        with pytest.raises(InputError, match=rf"limits\.{name}"):
            PositionLimits(**{name: D(value)})
