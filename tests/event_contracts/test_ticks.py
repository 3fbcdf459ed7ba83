"""Prices that a market takes: every price of a quote's step is one, and no other."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.fields import ticks_of
from event_contracts.trading.orders import PAYOUT
from event_contracts.trading.ticks import TABLES, PriceRange, Ticks
from foundation.errors import SenselessAnswer

D = Decimal
PRICES = st.integers(1, 9999).map(lambda n: D(n) / 10_000)
TABLE = st.sampled_from(sorted(TABLES)).map(TABLES.__getitem__)


def ranges(*rows: tuple[str, str, str]) -> list[dict[str, str]]:
    return [{"start": start, "end": end, "step": step} for start, end, step in rows]


@given(PRICES)
def test_the_three_tables_are_as_published(price: D) -> None:
    assert TABLES["linear_cent"].allows(price) == (price % D("0.01") == 0)
    assert TABLES["deci_cent"].allows(price) == (price % D("0.001") == 0)
    tail = price <= D("0.1") or price >= D("0.9")
    step = D("0.001") if tail else D("0.01")
    assert TABLES["tapered_deci_cent"].allows(price) == (price % step == 0)


@given(TABLE)
def test_nothing_and_certainty_are_no_prices(ticks: Ticks) -> None:
    assert not ticks.allows(D(0))
    assert not ticks.allows(PAYOUT)


@given(TABLE, PRICES, PRICES)
def test_what_lies_on_the_step_between_bid_and_ask_is_a_price(
    ticks: Ticks, one: D, another: D
) -> None:
    bid, ask = sorted((one, another))
    step = ticks.step(bid, ask)
    first = (bid / step).to_integral_value("ROUND_CEILING")
    for number in range(int(first), int(first) + 5):
        price = number * step
        if 0 < price < 1 and bid <= price <= ask:
            assert ticks.allows(price)


@given(TABLE, PRICES)
def test_a_price_of_yes_is_one_of_no(ticks: Ticks, price: D) -> None:
    assert ticks.allows(price) == ticks.allows(PAYOUT - price)


def test_a_markets_own_ranges_come_before_the_name_of_its_table() -> None:
    edges = ranges(
        ("0.9900", "1.0000", "0.0001"),
        ("0.0100", "0.9900", "0.0010"),
        ("0.0000", "0.0100", "0.0001"),
    )
    ticks = ticks_of({"price_ranges": edges, "price_level_structure": "linear_cent"})
    assert ticks.allows(D("0.0099"))
    assert ticks.allows(D("0.555"))
    assert not ticks.allows(D("0.0101"))
    assert ticks_of({"price_level_structure": "deci_cent"}) == TABLES["deci_cent"]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({}, "no price_ranges, and price_level_structure is missing"),
        ({"price_level_structure": "half_cent"}, "price_level_structure is none of linear_cent"),
        ({"price_ranges": ranges(("0", "0.5", "0.01"))}, "follow one another from 0 to 1"),
        ({"price_ranges": ranges(("0", "1", "0.03"))}, "does not divide"),
        ({"price_ranges": [{"start": 0}]}, "no fixed-point text"),
        ({"price_ranges": "all"}, "not a list of objects"),
    ],
)
def test_prices_that_make_no_sense_are_told_by_field(entry: dict[str, object], says: str) -> None:
    with pytest.raises(SenselessAnswer, match=says):
        ticks_of(entry)


def test_a_range_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"from 0\.5 to 0\.1"):
        PriceRange(D("0.5"), D("0.1"), D("0.1"))
