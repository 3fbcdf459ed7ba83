"""What the venue lists, booked by our rules, is the exact account; what is not is told by name."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.fees import FeeRules
from event_contracts.trading.fields import paid_for_yes
from event_contracts.trading.ledger import Ledger, Settlement
from event_contracts.trading.money import Account
from event_contracts.trading.venue_orders import VenueFill, own_terms

D = Decimal
BEGIN = np.datetime64("2026-11-22T15:00:00", "ns")
RULES = st.builds(
    FeeRules,
    fee_step=st.sampled_from([D("0.0001"), D("0.000001")]),
    balance_step=st.sampled_from([D("0.01"), D("0.0001")]),
)


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


def listed(rows: list[tuple[str, int, int, bool, int]]) -> list[VenueFill]:
    return [
        filled(number, side, price, count, taker=taker, order=order)
        for number, (side, price, count, taker, order) in enumerate(rows)
    ]


@given(FILLS, RULES)
def test_what_was_meant_as_a_sale_moves_the_same_cash_as_it_is_booked(
    rows: list[tuple[str, int, int, bool, int]], rules: FeeRules
) -> None:
    """The venue says bid or ask, not what was meant: by the cent it makes no difference."""
    meant = Account(D(1000))
    fills = listed(rows)
    for fill in fills:
        _, sold = own_terms(fill.side, True)
        sells = fill.count <= meant.holding("RAIN").of(sold)
        meant, _ = meant.booked(fill.fill(sells), rules)
    ledger = Ledger.opened(Account(D(1000))).after(fills, [], lambda *_: rules)
    assert ledger.account == meant


@given(FILLS)
def test_each_fill_is_booked_once_however_often_and_in_what_order_it_is_listed(
    rows: list[tuple[str, int, int, bool, int]],
) -> None:
    fills = listed(rows)
    once = Ledger.opened(Account(D(1000))).after(fills, [], lambda *_: FeeRules())
    again = Ledger.opened(Account(D(1000)))
    for cut in range(0, len(fills), 3):
        again = again.after(fills[: cut + 3], [], lambda *_: FeeRules())
    again = again.after(list(reversed(fills)), [], lambda *_: FeeRules())
    assert again == once
    shuffled = Ledger.opened(Account(D(1000))).after(reversed(fills), [], lambda *_: FeeRules())
    assert shuffled == once


@pytest.mark.parametrize(
    ("said", "pays"),
    [
        ({"market_result": "yes"}, 6),
        ({"market_result": "no"}, 0),
        ({"market_result": "scalar", "value": 35}, D("2.10")),
        ({"market_result": "void", "value": 50}, 3),
    ],
)
def test_a_settlement_pays_once_and_after_the_trades_of_its_instant(
    said: dict[str, Any], pays: Decimal
) -> None:
    bought = filled(0, "bid", 5000, 600, taker=True, order=1)
    end = Settlement("RAIN", paid_for_yes(said), bought.at)
    ledger = Ledger.opened(Account(D(100)))
    for _ in range(2):
        ledger = ledger.after([bought], [end], lambda *_: FeeRules())
    # 3.00 and 0.07 · 6 · 0.25 = 0.105 of fee: 3.105, rounded to 3.11.
    assert ledger.account.cash == D("96.89") + pays
    assert ledger.differences(D("96.89") + pays, {}) == ()


def test_what_a_market_paid_is_said_or_refused_by_its_field() -> None:
    for value in (None, 101, -1, "much"):
        with pytest.raises(ValueError, match="value"):
            paid_for_yes({"market_result": "void", "value": value})


def test_what_was_there_when_the_ledger_was_opened_is_not_booked_again() -> None:
    fills = listed([("bid", 5000, 600, True, 1)])
    opened = Ledger.opened(Account(D(100)), fills)
    assert opened.after(fills, [], lambda *_: FeeRules()).account == Account(D(100))


def test_differences_are_told_by_name_and_nothing_makes_them_go() -> None:
    bought = replace(filled(0, "bid", 5000, 600, taker=True, order=1), fee=D(0))
    ledger = Ledger.opened(Account(D(100))).after([bought], [], lambda *_: FeeRules())
    positions = {"RAIN": D(-2), "SNOW": D(3)}
    for _ in range(2):
        assert ledger.differences(D("97.00"), positions) == (
            "RAIN: 6 YES booked, 2 NO at the venue",
            "SNOW: nothing booked, 3 YES at the venue",
            "cash: $96.8900 booked, $97.00 at the venue",
            "fill f-0: $0.1100 more charged here than the venue says",
        )
    assert ledger.differences(D("96.8999"), {"RAIN": D(6)}) == ()
    assert (
        replace(ledger, account=ledger.account.with_flow(D("0.11"))).differences(
            D("97.00"), {"RAIN": D(6)}
        )
        == ()
    )


def test_a_fill_that_is_listed_after_its_market_has_paid_is_paid_out_as_well() -> None:
    bought = filled(0, "bid", 5000, 600, taker=True, order=1)
    late = filled(1, "bid", 5000, 600, taker=True, order=2)
    end = Settlement("RAIN", D(1), late.at + np.timedelta64(1, "m"))
    at_once = Ledger.opened(Account(D(100))).after([bought, late], [end], lambda *_: FeeRules())
    ledger = Ledger.opened(Account(D(100))).after([bought], [end], lambda *_: FeeRules())
    for _ in range(2):
        ledger = ledger.after([bought, late], [end], lambda *_: FeeRules())
    assert ledger == at_once
    assert ledger.position_differences({}) == ()


def test_a_fill_that_is_listed_twice_at_once_is_booked_once() -> None:
    bought = filled(0, "bid", 5000, 600, taker=True, order=1)
    ledger = Ledger.opened(Account(D(100))).after([bought, bought], [], lambda *_: FeeRules())
    assert ledger.account.holding("RAIN").yes == 6
