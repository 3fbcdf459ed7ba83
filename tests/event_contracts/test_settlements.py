"""A settlement books the venue's payment, and reports contradictory figures."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.fees import FeeRules
from event_contracts.trading.listings import MarketSettlement, position_payout
from event_contracts.trading.manager import AccountBooks, AccountUpdates, apply_updates
from foundation.decimals import CENT
from foundation.errors import InvalidResponse
from tests.support.messages import refused

D = Decimal
AT = np.datetime64("2026-11-22T16:00:00", "ns")
COUNTS = st.integers(0, 50_000).map(lambda n: D(n) / 100)
VALUES = st.integers(0, 100)


def row(yes: Decimal | int = 0, no: Decimal | int = 0, **fields: Any) -> dict[str, Any]:
    """A settlement of what was bought of both sides."""
    return {
        "ticker": "RAIN",
        "settled_time": "2026-11-22T16:00:00Z",
        "market_result": "scalar",
        "yes_count_fp": f"{D(yes):.2f}",
        "no_count_fp": f"{D(no):.2f}",
        "value": None,
        **fields,
    }


def payout_of(held: Decimal, entry: dict[str, Any]) -> tuple[Decimal, tuple[str, ...]]:
    """Return the USD that a settlement pays for a position, and the remarks on it."""
    books = AccountBooks(AT, D(0), {"RAIN": held} if held else {})
    end = apply_updates(
        books, AccountUpdates((), (MarketSettlement.parse(entry),)), lambda *_: FeeRules()
    )
    assert end.books.positions == {}
    return end.books.cash, end.remarks


@given(COUNTS, COUNTS, VALUES)
def test_settlement_value_determines_payout_exactly(yes: Decimal, no: Decimal, value: int) -> None:
    """Revenue is in whole cents; the payout of a contract is exact."""
    net = yes - no
    due = position_payout(net, value * CENT)
    paid = int(due / CENT)
    entry = row(yes, no, value=value, revenue=paid)
    assert payout_of(net, entry) == (due, ())


@given(COUNTS, COUNTS, st.integers(0, 50_000))
def test_settlement_without_value_pays_the_stated_revenue(
    yes: Decimal, no: Decimal, paid: int
) -> None:
    net = yes - no
    for result in ("scalar", "void", ""):
        entry = row(yes, no, market_result=result, revenue=paid)
        assert payout_of(net, entry) == (paid * CENT, ())


@given(COUNTS, COUNTS, VALUES, st.integers(0, 100_000))
def test_revenue_is_booked_when_it_contradicts_settlement_value(
    yes: Decimal, no: Decimal, value: int, paid: int
) -> None:
    net = yes - no
    cash, remarks = payout_of(net, row(yes, no, value=value, revenue=paid))
    due = position_payout(net, value * CENT)
    if abs(due - paid * CENT) > CENT:
        assert cash == paid * CENT
        assert remarks[0].startswith("settlement of RAIN: revenue $")
    else:
        assert (cash, remarks) == (due, ())


@pytest.mark.parametrize(
    ("held", "entry", "pays", "said"),
    [
        # A tie pays half of a dollar, and its value is null.
        (10, row(10, revenue=500), "5.00", ""),
        (-10, row(0, 10, revenue=500), "5.00", ""),
        # Closed early: the pairs were paid when they were made.
        (0, row(2, 2, market_result="no", value=0, revenue=0), "0", ""),
        (0, row(2, 2, revenue=0), "0", ""),
        (3, row(5, 2, market_result="yes", value=100, revenue=300), "3", ""),
        # A market that paid YES and states a value of 0.
        (10, row(10, market_result="yes", value=0, revenue=1000), "10", "revenue $10.00 is booked"),
        # A value of the position's own side.
        (-10, row(0, 10, value=30, revenue=300), "3", "revenue $3.00 is booked"),
        # A void market returns the cost.
        (10, row(10, market_result="void", revenue=437), "4.37", ""),
        # Fields that are not there.
        (10, {**row(10, market_result="yes"), "revenue": None}, "10", ""),
        (10, {**row(10, value=25), "revenue": None}, "2.50", ""),
        (-10, {**row(value=25, revenue=750), "no_count_fp": None}, "7.50", ""),
    ],
)
def test_example_settlements_pay_what_the_venue_paid(
    held: int, entry: dict[str, Any], pays: str, said: str
) -> None:
    cash, remarks = payout_of(D(held), entry)
    assert cash == D(pays)
    assert "; ".join(remarks).removeprefix("settlement of RAIN: ").startswith(said)
    assert bool(remarks) == bool(said)


def test_fill_listed_after_settlement_gets_same_payout_rate() -> None:
    """The market paid for 10 contracts while 6 were listed: the other 4 are listed later."""
    paid = row(10, revenue=330)
    books = AccountBooks(AT, D(0), {"RAIN": D(6)})
    end = apply_updates(
        books, AccountUpdates((), (MarketSettlement.parse(paid),)), lambda *_: FeeRules()
    )
    assert end.books.cash == D("1.98")


@pytest.mark.parametrize("value", [101, -1, "much", 0.5])
def test_impossible_settlement_value_is_refused(value: object) -> None:
    with refused(InvalidResponse, "value"):
        MarketSettlement.parse(row(10, value=value, revenue=500))


def test_settlement_without_payout_fields_is_refused() -> None:
    for lacking, fact in (
        ({"revenue": None}, "revenue"),
        ({"revenue": 5, "yes_count_fp": None}, "yes_count_fp"),
        ({"revenue": 5, "settled_time": "noon"}, "settled_time"),
    ):
        with refused(InvalidResponse, fact, varies="Unknown datetime [^:]*"):
            MarketSettlement.parse({**row(10), **lacking})


def test_settlement_profit_includes_closed_pairs_costs_and_fees() -> None:
    """2 NO for $1.60, closed by 2 YES for $0.012, fees of $0.023: the market earned $0.365."""
    costs = {"yes_total_cost_dollars": "0.0120", "no_total_cost_dollars": "1.6000"}
    entry = row(2, 2, market_result="no", value=0, revenue=0, fee_cost="0.0230", **costs)
    assert MarketSettlement.parse(entry).profit == D("0.365")
    assert MarketSettlement.parse({**entry, "fee_cost": None}).profit is None
