"""The order rules that compiled and Python code share, by hand."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest

from event_contracts.trading.rules import (
    ACCOUNT_LOSS,
    ACCOUNT_SHARE,
    CONTRACTS,
    EVENT_LOSS,
    EVENT_SHARE,
    NO_LIMIT,
    SHARE,
    VALUE,
    ScaledPositionLimits,
    build_scaled_limits,
    find_violated_limit,
    micros_to_usd,
    position_after_order,
)

USD = 1_000_000
# At most 100 contracts, 50 USD and a half in a market; 20 USD and a fifth in an event; 30 USD and
# three tenths in all.
LIMITS = build_scaled_limits(*(100, 50 * USD, 500_000), *(20 * USD, 200_000), *(30 * USD, 300_000))


def limits_of(event_loss: int, event_share: int, account_loss: int) -> ScaledPositionLimits:
    return build_scaled_limits(100, 50, 500_000, event_loss, event_share, account_loss, 900_000)


@pytest.mark.parametrize(
    ("position", "value", "portfolio", "event", "account", "code"),
    [
        (0, 99 * USD, 100 * USD, 99 * USD, 99 * USD, NO_LIMIT),
        (101, 10 * USD, 1_000 * USD, 10 * USD, 10 * USD, CONTRACTS),
        (100, 51 * USD, 1_000 * USD, 10 * USD, 10 * USD, VALUE),
        (100, 6 * USD, 11 * USD, USD, USD, SHARE),
        (100, 10 * USD, 1_000 * USD, 21 * USD, 10 * USD, EVENT_LOSS),
        (100, 20 * USD, 99 * USD, 20 * USD, 20 * USD, EVENT_SHARE),
        (100, 20 * USD, 1_000 * USD, 20 * USD, 31 * USD, ACCOUNT_LOSS),
        (100, 10 * USD, 99 * USD, 10 * USD, 30 * USD, ACCOUNT_SHARE),
        (100, 20 * USD, 100 * USD, 20 * USD, 30 * USD, NO_LIMIT),
    ],
)
def test_first_violated_limit_is_named(
    position: int, value: int, portfolio: int, event: int, account: int, code: int
) -> None:
    assert find_violated_limit(LIMITS, position, value, portfolio, event, account) == code


@pytest.mark.parametrize(
    ("limits", "is_sufficient"),
    [
        (limits_of(50, 500_000, 50), 1),
        (limits_of(49, 500_000, 50), 0),
        (limits_of(50, 499_999, 50), 0),
        (limits_of(50, 500_000, 49), 0),
    ],
)
def test_looser_loss_limits_need_no_check(limits: ScaledPositionLimits, is_sufficient: int) -> None:
    assert limits.is_value_limit_sufficient == is_sufficient


def test_amounts_convert_exactly_to_dollars() -> None:
    assert micros_to_usd(1_500_000) == Decimal("1.5")
    assert micros_to_usd(Fraction(1_500_001, 2)) == Decimal("0.7500005")


def test_one_held_contract_counts_at_its_price() -> None:
    assert position_after_order(4_000, 2, 1, 3, 10 * USD) == (6, 2_400_000, 10_400_000)
    assert position_after_order(4_000, 2, -1, 3, 10 * USD) == (4, 1_600_000, 10_600_000)
