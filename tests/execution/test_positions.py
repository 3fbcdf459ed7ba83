"""Entry prices and profits of positions: average cost, exact to the cent."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.journal.activities import Activity, ActivityJournal
from execution.journal.activities import ActivityKind as BookingKind
from execution.journal.events import EventLog
from execution.journal.order_store import OrderIntent, OrderProgress, OrderStore
from execution.journal.positions import (
    PositionChange,
    PositionJournal,
    PositionLedger,
    PositionProfit,
    PositionRow,
    build_ledgers,
    compute_position_profit,
)
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.average_cost import average_cost
from execution.orders.orders import Order, Side
from tests.support.connections import open_for_test

AT = np.datetime64("2024-02-20T15:30", "ns")
HOUR = np.timedelta64(1, "h")
D = Decimal


def trade(quantity: int | str, price: int | str, kind: BookingKind = "trade") -> PositionChange:
    change = Fraction(quantity)
    return PositionChange(AT, "SYA", change, -change * Fraction(price), kind)


def ledger(*trades: PositionChange) -> PositionLedger:
    found = PositionLedger()
    for each in trades:
        found.apply_change(each)
    return found


@pytest.mark.parametrize(
    ("trades", "quantity", "entry", "realised"),
    [
        ([trade(10, 50), trade(10, 60)], 20, 55, 0),
        ([trade("0.5", 50), trade("0.5", 60)], 1, 55, 0),
        ([trade(10, 50), trade(10, 60), trade(-5, 70)], 15, 55, 75),
        ([trade(-10, 50), trade(4, 45)], -6, 50, 20),
        ([trade(10, 50), trade(-15, 52)], -5, 52, 20),
        ([trade(10, 50), PositionChange(AT, "SYA", Fraction(10), Fraction(0), "split")], 20, 25, 0),
        ([trade(10, 50), trade("-0.1", 0, "coin fee")], Fraction("9.9"), 50, -5),
        ([trade(10, 50), trade(-10, 51), trade(2, 60)], 2, 60, 10),
    ],
)
def test_trades_update_average_cost_and_realised_profit(
    trades: list[PositionChange], quantity: int, entry: int, realised: int
) -> None:
    found = ledger(*trades)
    assert found.quantity == quantity
    assert found.cost / found.quantity == entry
    assert found.realised_profit == realised


def test_position_with_transferred_shares_has_no_entry_price() -> None:
    moved = PositionChange(AT, "SYA", Fraction(5), None, "share transfer")
    found = ledger(trade(10, 50), moved)
    held = PositionRow("SYA", D(15), D(60))
    assert compute_position_profit("SYA", held, found) == PositionProfit(
        "SYA", D(15), None, Fraction(60), None, Fraction(0)
    )
    found = ledger(trade(10, 50), moved, trade(-15, 60), trade(1, 70))
    assert found.is_cost_known
    assert found.cost == 70


PRICES = st.integers(1, 10_000).map(lambda cents: Fraction(cents, 100))
# Quarters are exact in binary, and their products lie below 1 as well as above.
QUARTERS = st.integers(-20, 20).map(lambda count: Fraction(count, 4))
TRADES = st.lists(st.tuples(QUARTERS.filter(bool), PRICES), max_size=20)


def decimal_of(value: Fraction) -> Decimal:
    return D(value.numerator) / value.denominator


@given(QUARTERS, QUARTERS.filter(bool), PRICES)
def test_cost_is_unknown_after_transfer_beyond_bought_shares(
    held: Fraction, moved: Fraction, price: Fraction
) -> None:
    found = ledger(
        PositionChange(AT, "SYA", held, -held * price),
        PositionChange(AT, "SYA", moved, None, "share transfer"),
    )
    left = held + moved
    assert (found.quantity, found.realised_profit) == (left, 0)
    assert found.is_cost_known == (left * held >= 0 and abs(left) <= abs(held))
    assert not found.is_cost_known or found.cost == left * price


def test_trades_apply_in_chronological_order() -> None:
    made = [trade(10, 50), trade(10, 60), trade(-5, 70)]
    late = trade(-5, 80)._replace(at=AT + HOUR)
    expected = ledger(*made, late)
    for order in ([*made, late], [late, *made]):
        assert build_ledgers(order) == {"SYA": expected}
    assert (expected.entry_price, expected.realised_profit) == (55, 200)


@given(TRADES, PRICES)
def test_realised_plus_unrealised_profit_equals_cash_plus_value(
    trades: list[tuple[Fraction, Fraction]], last: Fraction
) -> None:
    made = [PositionChange(AT, "SYA", q, -q * price) for q, price in trades]
    found = ledger(*made)
    cash = sum(
        (each.cash_change_usd for each in made if each.cash_change_usd is not None), Fraction(0)
    )
    unrealised = found.quantity * last - found.cost
    assert found.realised_profit + unrealised == cash + found.quantity * last
    assert found.quantity == sum(q for q, _ in trades)


@given(TRADES)
def test_average_cost_is_equal_in_every_number_type(
    trades: list[tuple[Fraction, Fraction]],
) -> None:
    held, exact, cents, binary = Fraction(0), Fraction(0), D(0), 0.0
    for change, price in trades:
        exact, earned = average_cost(held, exact, change, price)
        written, traded = decimal_of(price), decimal_of(change)
        cents, earned_cents = average_cost(decimal_of(held), cents, traded, written)
        binary, _ = average_cost(float(held), binary, float(change), float(price))
        held += change
        assert math.isclose(cents, exact, rel_tol=1e-15)
        assert math.isclose(binary, exact, rel_tol=1e-12)
        assert math.isclose(earned_cents, earned, rel_tol=1e-12, abs_tol=1e-12)


@given(QUARTERS, PRICES, PRICES)
def test_zero_quantity_trade_keeps_the_average_cost(
    held: Fraction, entry: Fraction, last: Fraction
) -> None:
    entry = entry if held else Fraction(0)
    assert average_cost(held, entry, Fraction(0), last) == (entry, 0)


def account(**held: str) -> AccountSnapshot:
    positions = {symbol: D(quantity) for symbol, quantity in held.items()}
    return AccountSnapshot(1000.0, positions, dict.fromkeys(positions, 60.0), AT)


class Journal:
    """A journal and the positions that follow from it."""

    def __init__(self) -> None:
        self.database = open_for_test()
        self.orders = OrderStore(self.database)
        self.activities = ActivityJournal(self.database, EventLog(self.database))
        self.positions = PositionJournal(self.database)

    def filled(self, name: str, quantity: str, price: str, at: np.datetime64 = AT) -> None:
        side: Side = "sell" if quantity.startswith("-") else "buy"
        size = abs(D(quantity))
        order = Order(name, "SYA", side, size, "test")
        self.orders.record_submission(OrderIntent(order, at, job="trade"))
        self.orders.record_progress(name, OrderProgress("filled", f"v-{name}", size, D(price)))

    def listed(self, name: str, quantity: str, price: str, order_id: str = "") -> None:
        fill = Activity(
            name, "trade", AT, "SYA", D(quantity), D(price), -D(quantity) * D(price), order_id
        )
        self.activities.record_activities([fill], AT + HOUR, is_after_opening_balance=1)

    def only(self) -> PositionProfit:
        [found] = self.positions.position_profits()
        return found


def test_fill_in_order_response_and_activity_counts_once() -> None:
    journal = Journal()
    journal.filled("one", "10", "50.5")
    journal.positions.record_positions(account(SYA="10"))
    before = journal.only()
    assert before == PositionProfit(
        "SYA", D(10), Fraction("50.5"), Fraction(60), Fraction(95), Fraction(0)
    )
    journal.listed("f-1", "4", "50", "v-one")
    assert journal.only() == before
    journal.listed("f-2", "6", "50.833334", "v-one")
    assert journal.only().entry_price == Fraction("50.5000004")


def test_realised_profit_uses_listed_fill_prices_when_complete() -> None:
    journal = Journal()
    journal.filled("one", "10", "50")
    journal.filled("two", "-4", "60.33", AT + HOUR)
    journal.positions.record_positions(account(SYA="6"))
    assert journal.only().realised_profit == Fraction("41.32")
    journal.listed("f-1", "-1", "60", "v-two")
    assert journal.only().realised_profit == Fraction("41.32")
    journal.listed("f-2", "-3", "60.444", "v-two")
    assert journal.only().realised_profit == Fraction("41.332")


def test_split_keeps_cost_basis_but_transfers_lose_it() -> None:
    journal = Journal()
    journal.filled("one", "10", "50")
    split = Activity("s", "split", AT, "SYA", D(10), None, D(0))
    journal.activities.record_activities([split], AT + HOUR, is_after_opening_balance=1)
    journal.positions.record_positions(account(SYA="20"))
    assert journal.only().entry_price == 25
    moved = Activity("m", "share transfer", AT, "SYA", D(5), None, D(0))
    journal.activities.record_activities([moved], AT + HOUR, is_after_opening_balance=1)
    journal.positions.record_positions(account(SYA="25"))
    assert journal.only() == PositionProfit("SYA", D(25), None, Fraction(60), None, Fraction(0))


@pytest.mark.parametrize(
    ("kind", "quantity", "usd", "entry", "realised"),
    [
        ("other", -10, 900, None, 0),  # a reorganisation
        ("other", 5, 0, None, 0),  # a spin-off
        ("merger", -10, 0, None, 0),  # shares for shares
        ("merger", -10, 600, None, 100),
        ("worthless removal", -10, 0, None, -500),
        ("share transfer", -4, 0, 50, 0),
    ],
)
def test_only_priced_bookings_realise_a_profit(
    kind: BookingKind, quantity: int, usd: int, entry: int | None, realised: int
) -> None:
    journal = Journal()
    journal.filled("one", "10", "50")
    booked = Activity("b", kind, AT, "SYA", D(quantity), None, D(usd))
    journal.activities.record_activities([booked], AT + HOUR, is_after_opening_balance=1)
    left = 10 + quantity
    journal.positions.record_positions(account(**({"SYA": str(left)} if left else {})))
    found = {each.symbol: each for each in journal.positions.position_profits()}.get("SYA")
    assert (None if found is None else found.entry_price) == entry
    assert (0 if found is None else found.realised_profit) == realised


def test_position_held_at_start_has_starting_price_cost() -> None:
    journal = Journal()
    journal.positions.record_opening_positions([PositionRow("SYA", D(10), D(40))])
    journal.filled("one", "-4", "50")
    journal.positions.record_positions(account(SYA="6"))
    found = journal.only()
    assert found == PositionProfit(
        "SYA", D(6), Fraction(40), Fraction(60), Fraction(120), Fraction(40)
    )
    journal.positions.record_positions(account())
    assert journal.only() == PositionProfit("SYA", D(0), None, None, None, Fraction(40))


def test_unexplained_position_quantity_has_no_entry_price() -> None:
    journal = Journal()
    journal.filled("one", "10", "50")
    journal.positions.record_positions(account(SYA="12"))
    assert journal.only() == PositionProfit("SYA", D(12), None, Fraction(60), None, Fraction(0))
    journal.listed("by-hand", "2", "53")
    assert journal.only().entry_price == Fraction("50.5")


@pytest.mark.parametrize(
    ("symbol", "bought", "held", "explained"),
    [
        ("BTCUSD", "0.5", "0.4999", True),
        ("BTCUSD", "0.5", "0.495", True),
        ("BTCUSD", "0.5", "0.4949", False),
        ("BTCUSD", "0.5", "0.5001", False),
        ("SYA", "100", "99.5", False),
    ],
)
def test_missing_crypto_quantity_is_explained_only_by_fee(
    symbol: str, bought: str, held: str, explained: bool
) -> None:
    found = compute_position_profit(
        symbol,
        PositionRow(symbol, D(held), D(110)),
        PositionLedger(Fraction(bought), Fraction(100)),
    )
    assert found.entry_price == (100 if explained else None)
    fee = Fraction(bought) - Fraction(held)
    assert found.realised_profit == (-100 * fee if explained else 0)


def test_crypto_fee_missing_from_activities_is_a_loss() -> None:
    coins = PositionLedger(Fraction(2), Fraction(100))
    held = PositionRow("BTCUSD", D("1.995"), D(110))
    found = compute_position_profit("BTCUSD", held, coins)
    assert (found.entry_price, found.realised_profit) == (Fraction(100), Fraction("-0.5"))
    assert found.unrealised_profit == Fraction("19.95")
