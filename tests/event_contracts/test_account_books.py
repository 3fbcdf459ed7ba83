"""What cash moved beyond fills and settlements was paid in or taken out, and nothing else was."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from event_contracts.trading.account_books import SMALLEST_FLOW, AccountBooks, Reading, reading_of
from event_contracts.trading.account_reads import News
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.ledger import Ledger, Settlement
from event_contracts.trading.money import Account
from event_contracts.trading.venue_orders import VenueFill
from tests.event_contracts.test_ledger import BEGIN, FILLS, filled, listed

D = Decimal
NOTHING_NEW = News((), ())
BOUGHT = filled(0, "bid", 5000, 1000, taker=True, order=1)  # 10 YES for 5.00, and 0.18 of fee
HELD = Account(D(100)).booked(BOUGHT.fill(False), FeeRules())[0]


def opened(account: Account, news: News = NOTHING_NEW) -> AccountBooks:
    return reading_of(BEGIN, account, news, None, lambda *_: FeeRules()).books


def read(before: AccountBooks, account: Account, *fills: VenueFill) -> Reading:
    news = News(fills, ())
    return reading_of(BEGIN, replace(account, carried={}), news, before, lambda *_: FeeRules())


@given(FILLS, st.decimals("-10000", "10000", places=2), st.integers(0, 20))
def test_the_flow_is_what_was_paid_in_whatever_traded(
    rows: list[tuple[str, int, int, bool, int]], paid: Decimal, cut: int
) -> None:
    assume(abs(paid) >= SMALLEST_FLOW or paid == 0)
    fills = listed(rows)
    start = Ledger.opened(Account(D(1000)))
    middle = start.after(fills[:cut], [], lambda *_: FeeRules()).account
    end = start.after(fills, [], lambda *_: FeeRules()).account
    first = read(opened(Account(D(1000))), middle, *fills[:cut])
    # What was read before may be listed again.
    last = read(first.books, end.with_flow(paid), *fills)
    assert (first.flow, last.flow) == (0, paid)
    assert not first.differences + last.differences
    assert first.fills + last.fills == len(fills)
    assert not read(last.books, end.with_flow(paid), *fills).flow


def test_an_account_that_is_read_first_was_paid_nothing() -> None:
    assert reading_of(BEGIN, HELD, NOTHING_NEW, None, lambda *_: FeeRules()).flow == 0


def test_a_settlement_is_no_deposit() -> None:
    before = opened(HELD, News((BOUGHT,), ()))
    paid = News((BOUGHT,), (Settlement("RAIN", D(1), BEGIN),))
    after = Account(HELD.cash + 10)
    reading = reading_of(BEGIN, after, paid, before, lambda *_: FeeRules())
    assert (reading.flow, reading.differences) == (0, ())
    again = reading_of(BEGIN, after.with_flow(D(7)), paid, reading.books, lambda *_: FeeRules())
    assert again.flow == 7


@pytest.mark.parametrize(("paid", "flow"), [("0.99", 0), ("-0.99", 0), ("1", 1), ("-1", -1)])
def test_what_is_below_a_dollar_is_no_flow_however_often(paid: str, flow: int) -> None:
    books = opened(HELD)
    account = HELD
    for _ in range(3):
        account = account.with_flow(D(paid))
        reading = read(books, account)
        assert reading.flow == flow
        books = reading.books


def test_a_fee_that_the_venue_charges_beyond_ours_is_a_loss_and_no_withdrawal() -> None:
    dear = replace(BOUGHT, fee=D("2.18"))
    charged = HELD.with_flow(D("-2"))
    assert read(opened(Account(D(100))), charged, dear).flow == 0
    # Beside a withdrawal of 30 the fee is still none of it.
    assert read(opened(Account(D(100))), charged.with_flow(D(-30)), dear).flow == -30


def test_where_contracts_do_not_add_up_nothing_was_paid() -> None:
    """A purchase that is not listed took its cash: that is no withdrawal."""
    reading = read(opened(Account(D(100))), HELD)
    assert reading.flow == 0
    assert reading.differences[0] == "RAIN: nothing booked, 10 YES at the venue"
    assert read(reading.books, HELD.with_flow(D(5))).flow == 5


def test_rounding_that_comes_back_is_booked_in_the_next_reading_too() -> None:
    """An order's second fill pays back what its first was rounded up by."""
    parts = [replace(BOUGHT, fill_id=f"f-{k}", count=D("0.01")) for k in range(150)]
    start = Ledger.opened(Account(D(100)))
    before = start.after(parts[:75], [], lambda *_: FeeRules()).account
    after = start.after(parts, [], lambda *_: FeeRules()).account
    books = read(opened(Account(D(100))), before, *parts[:75]).books
    reading = read(books, after, *parts)
    assert reading.books.ledger.account.carried == {
        name: amount for name, amount in after.carried.items() if amount
    }


def test_the_books_keep_what_is_still_listed_and_no_more() -> None:
    old = np.datetime64("2026-11-22T10:00", "ns")
    books = AccountBooks(old, Ledger(HELD, frozenset({"f-9"}), frozenset(), {}, ()))
    kept = read(books, HELD, BOUGHT).books.ledger
    assert kept.booked == {BOUGHT.fill_id}
