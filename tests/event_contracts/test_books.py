"""What fills and settlements explain of an account is exact, whatever is listed when, and the rest
is a flow or is told by name.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from event_contracts.trading.fees import FeeRules
from event_contracts.trading.manager import (
    SMALLEST_FLOW,
    AccountBooks,
    Explained,
    News,
    Settlement,
    explained,
    paid_for_yes,
)
from event_contracts.trading.orders import Fill
from event_contracts.trading.venue_orders import VenueFill, own_terms, yes_price
from tests.event_contracts.exact_account import Account

D = Decimal
BEGIN = np.datetime64("2026-11-22T15:00:00", "ns")
RULES = st.builds(
    FeeRules,
    fee_step=st.sampled_from([D("0.0001"), D("0.000001")]),
    balance_step=st.sampled_from([D("0.01"), D("0.0001")]),
)
START = AccountBooks(BEGIN, D(1000))


def filled(number: int, side: str, price: int, count: int, *, taker: bool, order: int) -> VenueFill:
    return VenueFill(
        f"f-{number}",
        f"v-{order}",
        "RAIN",
        "bid" if side == "bid" else "ask",
        D(price) / 10_000,
        D(count) / 100,
        taker,
        BEGIN + np.timedelta64(number, "s"),
        None,
    )


FILLS = st.lists(
    st.tuples(
        st.sampled_from(["bid", "ask"]),
        st.integers(1, 9999),
        st.integers(1, 3000),
        st.booleans(),
        st.integers(1, 4),
    ),
    max_size=20,
)
BOUGHT = filled(0, "bid", 5000, 600, taker=True, order=1)  # 6 YES for 3.00, and 0.11 of fee
Rows = list[tuple[str, int, int, bool, int]]


def booked(
    rows: Rows, rules: FeeRules | None = None, *, sold: bool = False
) -> tuple[list[VenueFill], Account]:
    """Fills with what the venue charged, and the exact account after them; sold: as sales where
    they can be.
    """
    account = Account(D(1000))
    fills = []
    for number, (side, price, count, taker, order) in enumerate(rows):
        fill = filled(number, side, price, count, taker=taker, order=order)
        held = account.held("RAIN", own_terms(fill.side, True)[1])
        action, own = own_terms(fill.side, sold and fill.count <= held)
        price = yes_price(own, fill.price)
        ours = Fill(fill.order_id, "RAIN", action, own, price, fill.count, not fill.taker)
        account, cost = account.booked(ours, rules or FeeRules())
        fills.append(replace(fill, fee=cost.net_fee))
    return fills, account


def shown(account: Account, *fills: VenueFill, ends: tuple[Settlement, ...] = ()) -> AccountBooks:
    """The books of an account that the venue shows, with all that it lists."""
    return AccountBooks.of(BEGIN, account.cash, account.positions, News(fills, ends))


def come_to(books: AccountBooks, *fills: VenueFill, ends: tuple[Settlement, ...] = ()) -> Explained:
    return explained(books, News(fills, ends), lambda *_: FeeRules())


@given(FILLS, RULES, st.booleans())
def test_what_is_listed_comes_to_the_exact_account_whether_it_was_meant_as_a_sale_or_not(
    rows: Rows, rules: FeeRules, sold: bool
) -> None:
    """The venue says bid or ask, not what was meant: by the cent it makes no difference."""
    fills, account = booked(rows, rules, sold=sold)
    end = come_to(START, *fills)
    assert end.cash == account.cash
    assert end.contracts(shown(account)) == ()


@given(FILLS, st.randoms())
def test_each_fill_is_booked_once_however_often_and_in_what_order_it_is_listed(
    rows: Rows, rng: Any
) -> None:
    fills, account = booked(rows)
    books = START
    for cut in range(0, len(fills) + 3, 3):
        part, until = booked(rows[:cut])
        news = [*part, *part]
        rng.shuffle(news)
        # What an earlier reading had is listed again.
        end = come_to(books, *news)
        assert (end.cash, end.contracts(shown(until))) == (until.cash, ())
        assert end.fills == len({fill.fill_id for fill in part} - books.fills)
        books = shown(until, *part)
    assert come_to(books, *fills).cash == account.cash


@given(FILLS, st.decimals("-10000", "10000", places=2), st.integers(0, 20))
def test_the_flow_is_what_was_paid_in_whatever_traded(rows: Rows, paid: Decimal, cut: int) -> None:
    assume(abs(paid) >= SMALLEST_FLOW or paid == 0)
    fills, end = booked(rows)
    first, middle = booked(rows[:cut])
    books = shown(middle, *first)
    assert come_to(START, *first).flow(books) == 0
    later = shown(end.with_flow(paid), *fills)
    assert come_to(books, *fills).flow(later) == paid
    assert come_to(later, *fills).flow(later) == 0


@pytest.mark.parametrize(
    ("said", "pays"),
    [
        ({"market_result": "yes"}, 6),
        ({"market_result": "no"}, 0),
        ({"market_result": "scalar", "value": 35}, D("2.10")),
        ({"market_result": "void", "value": 50}, 3),
    ],
)
def test_a_settlement_pays_once_and_is_no_deposit(said: dict[str, Any], pays: Decimal) -> None:
    end = Settlement("RAIN", paid_for_yes(said), BOUGHT.at)
    # 3.00 and 0.07 · 6 · 0.25 = 0.105 of fee, where the venue does not say it.
    cash = D("996.895") + pays
    before = come_to(START, BOUGHT, ends=(end,))
    assert (before.cash, before.positions) == (cash, {})
    paid = shown(Account(cash + 7), BOUGHT, ends=(end,))
    assert before.flow(paid) == 7
    assert come_to(paid, BOUGHT, ends=(end,)).cash == cash + 7


def test_a_market_pays_for_no_what_it_does_not_pay_for_yes() -> None:
    sold = filled(0, "ask", 6000, 1000, taker=True, order=1)  # 10 NO at 0.40
    end = Settlement("RAIN", D("0.3"), sold.at)
    after = come_to(START, sold)
    assert after.positions == {"RAIN": D(-10)}
    assert come_to(START, sold, ends=(end,)).cash == after.cash + 7


def test_a_fill_that_is_listed_after_its_market_has_paid_is_paid_out_as_well() -> None:
    end = Settlement("RAIN", D(1), BOUGHT.at + np.timedelta64(1, "m"))
    late = filled(1, "bid", 5000, 600, taker=True, order=2)
    at_once = come_to(START, BOUGHT, late, ends=(end,))
    paid = shown(Account(come_to(START, BOUGHT, ends=(end,)).cash), BOUGHT, ends=(end,))
    assert come_to(paid, BOUGHT, late, ends=(end,)).cash == at_once.cash
    assert at_once.positions == {}


def test_what_a_market_paid_is_said_or_refused_by_its_field() -> None:
    for value in (None, 101, -1, "much"):
        with pytest.raises(ValueError, match="value"):
            paid_for_yes({"market_result": "void", "value": value})


@pytest.mark.parametrize(("paid", "flow"), [("0.99", 0), ("-0.99", 0), ("1", 1), ("-1", -1)])
def test_what_is_below_a_dollar_is_no_flow(paid: str, flow: int) -> None:
    assert come_to(START).flow(replace(START, cash=START.cash + D(paid))) == flow


def test_what_the_venue_charges_counts_and_what_our_rules_would_have_charged_is_told() -> None:
    dear = replace(BOUGHT, fee=D("2.18"))
    end = come_to(START, dear)
    assert end.cash == D("994.82")
    assert end.fees == ("fill f-0: a fee of $0.105 by our rules, $2.18 charged",)
    # Rounding, and what comes back of it, is no difference.
    assert come_to(START, replace(BOUGHT, fee=D("0.11"))).fees == ()
    assert come_to(START, BOUGHT).fees == ()


def test_where_contracts_are_not_explained_nothing_was_paid_in_or_out() -> None:
    """A purchase that is not listed took its cash: that is no withdrawal."""
    bought = AccountBooks(BEGIN, D(900), {"RAIN": D(10), "SNOW": D(-2)})
    end = come_to(START)
    assert end.flow(bought) == 0
    assert end.contracts(bought) == (
        "RAIN: nothing by its fills, 10 YES at the venue",
        "SNOW: nothing by its fills, 2 NO at the venue",
    )
