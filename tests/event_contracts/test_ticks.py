"""Prices that a market takes: every price of a quote's step is one, and no other."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.listings import Ticks
from event_contracts.trading.orders import PAYOUT

D = Decimal
PRICES = st.integers(1, 9999).map(lambda n: D(n) / 10_000)


def ranges(*rows: tuple[str, str, str]) -> list[dict[str, str]]:
    return [{"start": start, "end": end, "step": step} for start, end, step in rows]


TABLES = {
    "linear_cent": Ticks.read(ranges(("0", "1", "0.01"))),
    "deci_cent": Ticks.read(ranges(("0", "1", "0.001"))),
    "tapered_deci_cent": Ticks.read(
        ranges(("0", "0.1", "0.001"), ("0.1", "0.9", "0.01"), ("0.9", "1", "0.001"))
    ),
}
TABLE = st.sampled_from(sorted(TABLES)).map(TABLES.__getitem__)


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


def test_ranges_are_read_in_any_order() -> None:
    edges = ranges(
        ("0.9900", "1.0000", "0.0001"),
        ("0.0100", "0.9900", "0.0010"),
        ("0.0000", "0.0100", "0.0001"),
    )
    ticks = Ticks.read(edges)
    assert ticks.allows(D("0.0099"))
    assert ticks.allows(D("0.555"))
    assert not ticks.allows(D("0.0101"))


@pytest.mark.parametrize(
    ("given_ranges", "says"),
    [
        (ranges(("0", "0.5", "0.01")), "follow one another from 0 to 1"),
        (ranges(("0", "1", "0.03")), "does not divide"),
        (ranges(("0", "0.5", "0.1"), ("0.5", "0.5", "0.1"), ("0.5", "1", "0.1")), "not divide"),
        ([{"start": 0}], "no fixed-point text"),
        ("all", "not a list of objects"),
    ],
)
def test_prices_that_make_no_sense_are_told(given_ranges: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Ticks.read(given_ranges)
