"""Cash is what the opening balance, trades and bookings come to, but for what is listed late."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from execution.journal.events import EventLog
from execution.live.cash_check import (
    CashDifference,
    cash_tolerance,
    describe_vanished_difference,
    unexplained_cash_reason,
)
from execution.live.expected_positions import ExpectedPositions
from tests.support.activities import BEGUN, booking, fill, usd
from tests.support.connections import open_for_test

shares = st.integers(0, 98).map(lambda percent: Decimal(percent) / 100)
EQUITY = Decimal(100_000)
NONE = Decimal(0)


@given(usd, shares)
def test_late_posted_cash_activity_is_accepted_within_tolerance(
    unexplained_usd: Decimal, share: Decimal
) -> None:
    before = CashDifference(unexplained_usd, NONE)
    late = share * cash_tolerance(EQUITY)
    for sign in (-1, 1):
        near = CashDifference(unexplained_usd + sign * late, NONE)
        assert unexplained_cash_reason(near, before, EQUITY, NONE) == ""
        far = CashDifference(unexplained_usd + sign * 3 * cash_tolerance(EQUITY), NONE)
        whole = abs(far.unexplained_usd) <= cash_tolerance(
            EQUITY - (far.unexplained_usd - unexplained_usd)
        )
        assert bool(unexplained_cash_reason(far, before, EQUITY, NONE)) != whole


def test_cash_difference_explained_by_a_booking_is_accepted() -> None:
    before = CashDifference(Decimal(5_000), NONE)
    listed = CashDifference(NONE, Decimal(5_000))
    assert unexplained_cash_reason(listed, before, EQUITY, NONE) == ""


def test_open_crypto_bids_may_explain_missing_cash() -> None:
    bids = Decimal(20_000)
    assert unexplained_cash_reason(CashDifference(-bids, NONE), None, EQUITY, bids) == ""
    assert unexplained_cash_reason(CashDifference(bids, NONE), None, EQUITY, bids)


def test_cash_difference_separates_bookings_from_trades() -> None:
    database = open_for_test()
    book = ExpectedPositions(database, EventLog(database))
    book.record_opening_balance({}, Decimal(1_000), BEGUN, ())
    book.record_activities([fill("a", "3")], BEGUN)
    assert book.cash_difference(Decimal(970)) == CashDifference(NONE, NONE)
    book.record_activities([booking("f", "fee", amount="-2")], BEGUN)
    assert book.cash_difference(Decimal(968)) == CashDifference(NONE, Decimal(-2))
    assert book.last_accepted_difference() is None
    book.accept_cash_difference(CashDifference(Decimal("0.254"), Decimal(-2)))
    again = ExpectedPositions(database, EventLog(database))
    assert again.last_accepted_difference() == CashDifference(Decimal("0.25"), Decimal(-2))
    assert database.query("SELECT number FROM opening_balance") == [(1,)]


def test_vanished_accepted_difference_is_reported_once() -> None:
    accepted, gone = CashDifference(Decimal(5_000), NONE), CashDifference(NONE, NONE)
    text = describe_vanished_difference(gone, accepted, accepted, EQUITY)
    assert text.startswith("the cleared cash difference of +5,000.00 USD has vanished (-5,000.00")
    assert text.endswith("no trade or booking explains it; find what moved cash")
    booked = CashDifference(NONE, Decimal(5_000))
    text = describe_vanished_difference(booked, accepted, accepted, EQUITY)
    assert text.endswith("the venue has listed bookings of +5,000.00 USD")
    for now, last, cleared in (
        (accepted, accepted, accepted),  # it still exists
        (gone, gone, accepted),  # it was reported
        (gone, accepted, None),  # an open purchase had reserved cash
        (gone, None, accepted),
    ):
        assert describe_vanished_difference(now, last, cleared, EQUITY) == ""
