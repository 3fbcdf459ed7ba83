"""What should be held is the opening balance, what our orders have filled, and what the venue
has booked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.alpaca.activities import parse_activity_kind
from execution.journal.activities import KINDS_TO_ACKNOWLEDGE, Activity, ActivityKind
from execution.journal.events import EventLog
from execution.journal.order_store import OrderIntent, OrderProgress, OrderState, OrderStore
from execution.live.expected_positions import (
    ACTIVITY_QUERY_OVERLAP,
    Discrepancy,
    ExpectedPositions,
    PositionTolerance,
    find_explaining_bookings,
    value_discrepancies,
)
from execution.orders.option_orders import (
    SHARES_PER_OPTION,
    OptionLeg,
    SpreadOrder,
    is_option,
    parse_occ_symbol,
)
from execution.orders.orders import Order, Side
from foundation.database import Database
from foundation.decimals import EXACT_CONTEXT, format_without_exponent
from tests.support.activities import BEGUN, MIDNIGHT, booking, fill, usd
from tests.support.connections import open_for_test

HOUR = np.timedelta64(1, "h")
DAY = np.timedelta64(1, "D")
CALL = "SPY240920C00500000"
PUT = "SPY240308P00510000"  # expires on Friday, 8 March 2024
OTHER = "SPY240308P00505000"
SHORT, PROTECTS = "SPY240315P00500000", "SPY240315P00495000"
FRIDAY = np.datetime64("2024-03-08T05:00", "ns")  # New York's midnight
EVENING = np.datetime64("2024-03-08T22:00", "ns")
SYMBOLS = ("NVDA", "BTCUSD", CALL, "?037833100")


@dataclass
class Books:
    """The books of one journal: what is held, and orders."""

    database: Database
    holdings: ExpectedPositions
    intents: OrderStore

    @classmethod
    def begun(
        cls, held: dict[str, str] | None = None, listed: tuple[Activity, ...] = (), **more: Any
    ) -> Books:
        books = cls.of(more.pop("database", None) or open_for_test())
        quantities = {s: Decimal(q) for s, q in (held or {}).items()}
        books.holdings.record_opening_balance(
            quantities, Decimal(1000), more.pop("at", BEGUN), listed
        )
        return books

    @classmethod
    def of(cls, database: Database) -> Books:
        events = EventLog(database)
        return cls(database, ExpectedPositions(database, events), OrderStore(database, events))

    def order(self, name: str, symbol: str, quantity: str, filled: str, state: OrderState) -> None:
        """An order of ours as it was answered; quantities are signed."""
        side: Side = "buy" if Decimal(quantity) > 0 else "sell"
        whole = str(abs(Decimal(quantity)))
        if self.intents.get(name) is None:
            order = Order(name, symbol, side, Decimal(whole), "so")
            self.intents.record_submission(OrderIntent(order, BEGUN))
        if state != "submitting":
            self.intents.record_progress(
                name, OrderProgress(state, f"o-{name}", abs(Decimal(filled)), Decimal(10))
            )

    def found(self, at: np.datetime64 = BEGUN, **held: str) -> dict[str, Discrepancy]:
        return self.holdings.compare_positions({s: Decimal(q) for s, q in held.items()}, at)


# As many digits as an answer may have, before the point and behind it.
quantities = st.decimals(-(10**14), 10**14, places=24) | st.decimals(-1000, 1000, places=9)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Activity], list[list[Activity]]]:
    """Activities with ids of their own, and pages that hold each at least once, in any order."""
    activities = []
    for number in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(sorted({*get_args(ActivityKind)} - {*KINDS_TO_ACKNOWLEDGE})))
        symbol = "" if kind == "transfer" else draw(st.sampled_from(SYMBOLS))
        activities.append(
            Activity(
                id=f"a{number}",
                kind=kind,
                at=BEGUN + np.timedelta64(draw(st.integers(0, 10**6)), "s"),
                symbol=symbol,
                quantity=draw(quantities) if symbol else Decimal(0),
                price=Decimal(1),
                amount=draw(quantities),
            )
        )
    again = draw(st.lists(st.sampled_from(activities), max_size=12))
    order = draw(st.permutations([*activities, *again]))
    cuts = sorted(draw(st.lists(st.integers(0, len(order)), max_size=4)))
    pages = [order[a:b] for a, b in zip([0, *cuts], [*cuts, len(order)], strict=True)]
    return activities, pages


def sums_of(opening: dict[str, Decimal], activities: list[Activity]) -> dict[str, Decimal]:
    sums = {symbol: Fraction(quantity) for symbol, quantity in opening.items()}
    for each in activities:
        if each.symbol and not each.is_trade:
            sums[each.symbol] = sums.get(each.symbol, Fraction(0)) + Fraction(each.quantity)
    return {s: exact(q) for s, q in sums.items()}


def exact(number: Fraction) -> Decimal:
    """A decimal with all its digits; 24 places are the most that are drawn."""
    return Decimal(int(number * 10**24)).scaleb(-24, context=EXACT_CONTEXT)


@given(histories(), st.dictionaries(st.sampled_from(SYMBOLS), quantities), usd)
def test_order_and_duplicates_of_activities_change_no_position(
    history: tuple[list[Activity], list[list[Activity]]], opening: dict[str, Decimal], cash: Decimal
) -> None:
    """Manual trades are listed too, and change no expected position."""
    activities, pages = history
    books = Books.of(open_for_test())
    books.holdings.record_opening_balance(opening, cash, BEGUN, ())
    written = sum(books.holdings.record_activities(page, BEGUN + HOUR) for page in pages)
    assert written == len(activities)
    held = sums_of(opening, activities)
    assert not books.holdings.compare_positions(held, BEGUN + HOUR)
    owned = books.holdings.positions_by_symbol()
    assert {s: each.quantity for s, each in owned.items() if each.quantity} == {
        s: q for s, q in held.items() if q
    }
    for each in activities:
        units = SHARES_PER_OPTION if is_option(each.symbol) else 1
        cash += -each.quantity * each.price * units if each.is_trade else each.amount
    assert abs(books.holdings.cash_difference(cash).unexplained_usd) < Decimal("1e-6")
    flows = sum(Fraction(each.amount) for each in activities if each.kind == "transfer")
    assert Fraction(books.holdings.listed.net_deposits_since(BEGUN)) == flows


happenings = st.tuples(
    st.sampled_from(("order", "by hand", "split", "option", "dividend")),
    st.sampled_from(("NVDA", "SPY", CALL)),
    st.integers(-20, 20).filter(bool),
)


@given(st.lists(happenings, min_size=1, max_size=8), st.data())
def test_position_discrepancy_equals_unlisted_and_manual_trades(
    history: list[tuple[str, str, int]], data: st.DataObject
) -> None:
    """Order responses and activities explain every change but one; manual trades are a discrepancy
    whether they are listed or not.
    """
    lost = data.draw(st.integers(0, len(history) - 1))
    books = Books.begun({"NVDA": "100", "SPY": "100", CALL: "100"})
    held = dict.fromkeys(("NVDA", "SPY", CALL), Decimal(100))
    odd: dict[str, int] = {}
    for number, (kind, symbol, quantity) in enumerate(history):
        if kind not in ("order", "by hand") and symbol in odd:
            continue  # two activities may cancel each other
        held[symbol] += quantity
        if kind == "by hand":
            books.holdings.record_activities([fill(f"f{number}", str(quantity), symbol)], BEGUN)
        if kind == "by hand" or number == lost:
            odd[symbol] = odd.get(symbol, 0) + quantity
        elif kind == "order":
            books.order(f"x{number}", symbol, str(quantity), str(quantity), "filled")
        else:
            entry = booking(f"b{number}", kind, quantity=str(quantity), symbol=symbol)
            books.holdings.record_activities([entry], BEGUN)
        found = books.holdings.compare_positions(held, BEGUN)
        assert {s: int(each.surplus) for s, each in found.items()} == {
            s: surplus for s, surplus in odd.items() if surplus
        }


def test_open_orders_explain_at_most_their_remaining_quantity() -> None:
    books = Books.begun({"NVDA": "10"})
    books.order("a", "NVDA", "5", "2", "accepted")
    books.order("b", "NVDA", "-3", "0", "submitting")
    for held, explained in [("8", False), ("9", True), ("15", True), ("16", False)]:
        assert (not books.found(NVDA=held)) == explained, held
    books.order("a", "NVDA", "5", "4", "canceled")
    books.order("b", "NVDA", "-3", "3", "filled")
    assert books.found(NVDA="12") == {
        "NVDA": Discrepancy.from_position("NVDA", Decimal(11), Decimal(12))
    }
    assert not books.found(NVDA="11")


def test_multi_leg_fill_changes_expected_position_per_leg() -> None:
    books = Books.begun()
    legs = (OptionLeg(parse_occ_symbol(PUT), "sell"), OptionLeg(parse_occ_symbol(OTHER), "buy"))
    books.intents.record_submission(OrderIntent(SpreadOrder("a", legs, 3), BEGUN))
    assert not books.found(), "it may fill yet"
    assert list(books.found(**{PUT: "-4", OTHER: "2"})) == [PUT]
    books.intents.record_progress("a", OrderProgress("filled", "o-a", Decimal(3)))
    assert not books.found(**{PUT: "-3", OTHER: "3"})
    assert list(books.found(**{PUT: "-3", OTHER: "2"})) == [OTHER]


def test_crypto_shortfall_of_one_fee_is_no_discrepancy() -> None:
    """The venue deducts 0.001 of 0.4 bitcoin at once; a later shortfall was sold manually."""
    books = Books.begun({"BTCUSD": "1", "NVDA": "4"})
    books.order("a", "BTCUSD", "0.4", "0.4", "filled")
    books.order("b", "NVDA", "4", "4", "filled")

    def odd(coins: str, shares: str = "8") -> list[str]:
        return list(books.found(BTCUSD=coins, NVDA=shares))

    assert odd("1.3959") == ["BTCUSD"]
    assert odd("1.400000001", "7.99") == ["BTCUSD", "NVDA"]
    assert odd("1.4") == [], "it is kept a little later"
    assert odd("1.399") == []
    assert odd("1.3989") == ["BTCUSD"]
    books.order("c", "BTCUSD", "-0.4", "-0.4", "filled")
    assert odd("0.998") == ["BTCUSD"], "a sale leaves its coins whole"
    assert odd("0.999") == []
    fee = booking("f", "coin fee", quantity="-0.001", symbol="BTCUSD")
    books.holdings.record_activities([fee], BEGUN)
    assert odd("0.999") == [], "its listing comes later"
    books = Books.begun({"BTCUSD": "1"})
    books.holdings.record_activities([replace(fee, quantity=Decimal("-0.03"))], BEGUN)
    assert not books.found(BTCUSD="0.97"), "or with it"
    assert list(books.found(BTCUSD="0.94")) == ["BTCUSD"], "it is taken once"


@pytest.mark.parametrize(("held", "odd"), [("206", "6"), ("200", None), ("240", "140")])
def test_split_discrepancy_of_few_shares_is_tolerated(held: str, odd: str | None) -> None:
    books = Books.begun({"NVDA": "100"})
    books.holdings.record_activities([booking("s", "split", quantity="100", symbol="NVDA")], BEGUN)
    found = books.found(NVDA=held)
    assert (format_without_exponent(found["NVDA"].surplus) if found else None) == odd


def test_crypto_fee_tolerance_does_not_grow_with_trading() -> None:
    books = Books.begun({"NVDA": "4"})
    for number in range(20):
        books.order(f"b{number}", "BTCUSD", "0.5", "0.5", "filled")
        assert not books.found(BTCUSD="0.5", NVDA="4")
        books.order(f"s{number}", "BTCUSD", "-0.5", "-0.5", "filled")
        assert not books.found(NVDA="4")
    books.order("last", "BTCUSD", "0.5", "0.5", "filled")
    assert list(books.found(BTCUSD="0.494", NVDA="4")) == ["BTCUSD"]
    assert not books.found(BTCUSD="0.495", NVDA="4")


@pytest.mark.parametrize("quantity", ["-1", "2"])
def test_expired_option_without_listed_expiry_is_no_discrepancy(quantity: str) -> None:
    books = Books.begun({"SPY": "300", PUT: quantity})
    close = np.datetime64("2024-03-08T21:00", "ns")
    assert list(books.found(close - 1, SPY="300")) == [PUT]
    assert not books.found(close, SPY="300")
    ended = booking("e", "option", quantity=str(-int(quantity)), symbol=PUT, day=FRIDAY)
    books.holdings.record_activities([ended], EVENING + 12 * HOUR)
    assert not books.found(EVENING + 12 * HOUR, SPY="300")
    good_friday = "SPY240329P00500000"
    books = Books.begun({good_friday: "-2"})
    thursday = np.datetime64("2024-03-28T20:00", "ns")
    assert list(books.found(thursday - 1)) == [good_friday]
    assert list(books.found(thursday, **{good_friday: "-1"})) == [good_friday], "a part has not"
    assert not books.found(thursday)


@pytest.mark.parametrize("surplus", [Decimal(4), Decimal(-4)])
def test_position_surplus_is_explained_by_matching_late_bookings(surplus: Decimal) -> None:
    sign = surplus / 4
    changes = {"a": 3 * sign, "late": -2 * sign, "b": sign}
    assert find_explaining_bookings(surplus, changes, PositionTolerance()) == ["a", "b"]
    assert find_explaining_bookings(2 * sign, changes, PositionTolerance()) == ["a", "late", "b"], (
        "all together"
    )
    assert find_explaining_bookings(6 * sign, changes, PositionTolerance()) == []
    assert find_explaining_bookings(
        surplus, {"b": 2 * sign}, PositionTolerance(Decimal(2), Decimal(2))
    ) == ["b"]
    assert find_explaining_bookings(surplus, {"large": 9 * sign}, PositionTolerance()) == [], (
        "it would lead further away"
    )
    assert find_explaining_bookings(10 * sign, {"most": 9 * sign}, PositionTolerance()) == [
        "most"
    ], "but for a tenth"
    assert (
        find_explaining_bookings(10 * sign, {"less": Decimal("8.9") * sign}, PositionTolerance())
        == []
    )


@pytest.mark.parametrize(
    "steps",
    [
        ("listed 3", "listed 2", "answered 5"),
        ("answered 5", "listed 3", "listed 2"),
        ("listed 3", "answered 5", "listed 2"),
        ("answered 3", "listed 3", "listed 2", "answered 5"),
    ],
)
@pytest.mark.parametrize("compared", [False, True])
def test_fill_in_activity_and_order_response_counts_once(
    steps: tuple[str, ...], compared: bool
) -> None:
    """5 are bought at 10 USD beside 10 held; `compared`: reconciliation also runs between the
    steps.
    """
    books = Books.begun({"NVDA": "10"})
    books.order("a", "NVDA", "5", "0", "submitting")
    for step in steps:
        what, quantity = step.split()
        if what == "listed":
            entry = replace(fill(step, quantity), venue_order_id="o-a")
            books.holdings.record_activities([entry], BEGUN)
        else:
            books.order("a", "NVDA", "5", quantity, "filled" if quantity == "5" else "accepted")
        if compared:
            assert not books.found(NVDA="15"), step
    assert not books.found(NVDA="15")
    assert books.holdings.positions_by_symbol()["NVDA"].quantity == 15
    assert books.holdings.cash_difference(Decimal(950)).unexplained_usd == 0
    for held in ("10", "20"):
        assert list(books.found(NVDA=held)) == ["NVDA"], held


def test_the_opening_balance_is_never_counted_twice() -> None:
    """A purchase at noon and a split at nine are listed again for a week after the journal's
    start.
    """
    books = Books.of(open_for_test())
    books.order("a", "NVDA", "5", "3", "accepted")
    listed = (booking("s", "split", quantity="9", symbol="NVDA"), fill("a", "3", at=BEGUN - HOUR))
    listed = (*listed, booking("d", "transfer", amount="500"))
    books.holdings.record_opening_balance({"NVDA": Decimal(13)}, Decimal(0), BEGUN, listed)
    books.holdings.record_activities(
        [*listed, booking("l", "split", quantity="4", symbol="NVDA")], BEGUN + HOUR
    )
    assert not books.found(NVDA="13"), "one of before the opening balance may be listed late"
    assert list(books.found(NVDA="22")) == ["NVDA"]
    assert books.holdings.listed.net_deposits_since(BEGUN - DAY) == 0
    assert books.holdings.cash_difference(Decimal(0)).unexplained_usd == 0
    books.order("a", "NVDA", "5", "5", "filled")
    assert not books.found(NVDA="15")


def test_acknowledged_discrepancy_changes_expected_positions_once() -> None:
    books = Books.begun({"NVDA": "10"})
    (event,) = EventLog(books.database).events()
    assert (event.kind, event.subject) == ("holdings begun", "1")
    assert event.content == {"cash": "1000", "held": {"NVDA": "10"}}
    found = books.found(NVDA="30")
    books.order("a", "NVDA", "2", "2", "filled")
    stranger = Order("by-hand", "NVDA", "buy", Decimal(1), "test")
    assert books.holdings.find_unknown_orders([stranger]) == [stranger]
    books.holdings.record_acknowledgement({"NVDA": found["NVDA"].surplus}, ["by-hand"])
    assert books.holdings.find_unknown_orders([stranger]) == []
    assert [event.kind for event in EventLog(books.database).events("by-hand")] == ["acknowledged"]
    assert not books.found(NVDA="32"), "our own trades go on beside it"
    books.holdings.record_activities(
        [booking("s", "split", quantity="20", symbol="NVDA")], BEGUN + HOUR
    )
    assert not books.found(NVDA="32")
    assert {event.kind for event in EventLog(books.database).events("NVDA")} == {"acknowledged"}
    books = Books.begun({"NVDA": "10"})
    books.holdings.record_activities([booking("s", "split", quantity="20", symbol="NVDA")], BEGUN)
    books.holdings.record_acknowledgement({"NVDA": Decimal(5)}, [])
    assert not books.found(NVDA="15")
    assert list(books.found(NVDA="35")) == ["NVDA"], "what was listed before was looked at"


@pytest.mark.parametrize("sign", ["", "-"])
def test_unlisted_fills_are_reported_for_a_day(sign: str) -> None:
    books = Books.begun({"NVDA": "9"})
    books.order("a", "NVDA", f"{sign}5", f"{sign}5", "filled")
    text = "order a has filled 5, but the venue's activities list only {}"
    assert books.holdings.describe_unlisted_fills(BEGUN) == text.format(0)
    books.holdings.record_activities([replace(fill("p", f"{sign}3"), venue_order_id="o-a")], BEGUN)
    assert books.holdings.describe_unlisted_fills(BEGUN) == text.format(3)
    assert books.holdings.describe_unlisted_fills(BEGUN + DAY) == ""
    books.holdings.record_activities([replace(fill("q", f"{sign}2"), venue_order_id="o-a")], BEGUN)
    assert books.holdings.describe_unlisted_fills(BEGUN) == ""


@pytest.mark.parametrize(
    ("price", "odd"), [("5", False), ("20", False), ("4.99", True), ("20.01", True), ("0", False)]
)
def test_fill_far_from_its_orders_price_is_reported(price: str, odd: bool) -> None:
    books = Books.begun()
    books.order("a", "NVDA", "5", "5", "filled")
    trade = replace(fill("a", "5"), price=Decimal(price))
    far = f"price {price} of NVDA is far from its order's mean fill price, 10"
    says = f"activity a: {far}" if odd else ""
    assert (
        books.holdings.describe_mispriced_trades(
            [trade, replace(trade, id="b", venue_order_id="other")]
        )
        == says
    )
    books.holdings.record_activities([trade], BEGUN)
    assert books.holdings.describe_mispriced_trades([trade]) == "", "it is written down"


@pytest.mark.parametrize(
    ("odd", "units", "others", "total"),
    [
        ({"NVDA": 3, "SPY": -2}, {"NVDA": 100, "SPY": 50}, {}, "400"),
        ({"NVDA": -10}, {"NVDA": 100}, {"NVDA": 5.0}, "1000"),  # all was sold
        ({"AAPL": -10}, {}, {"AAPL": -1200.5}, "1200.5"),
        ({"AAPL": -1}, {}, {}, "Infinity"),
        ({"AAPL": 1}, {}, {}, "0"),  # it counts as nothing anywhere
        # Options count at their joint loss and at their value.
        ({SHORT: -2}, {}, {}, "100000"),
        ({SHORT: -2, PROTECTS: 2}, {SHORT: 130, PROTECTS: 110}, {}, "1000"),
        ({SHORT: -2, PROTECTS: 2}, {SHORT: 1300, PROTECTS: 1100}, {}, "4800"),
        ({PROTECTS: 2}, {PROTECTS: 300}, {}, "600"),
        ({"SPY240315C00500000": -1}, {}, {}, "Infinity"),
        ({SHORT: -2, "SPY240316P00495000": 2}, {}, {}, "100000"),  # of another day
    ],
)
def test_discrepancy_is_valued_at_its_worst_case(
    odd: dict[str, int], units: dict[str, int], others: dict[str, float], total: str
) -> None:
    signed, prices = ({s: Decimal(n) for s, n in each.items()} for each in (odd, units))
    assert value_discrepancies(signed, prices, others).total_usd == Decimal(total)


def test_restart_drops_partially_recorded_activity_pages(tmp_path: Path) -> None:
    def split(name: str, quantity: str) -> Activity:
        return booking(name, "split", quantity=quantity, symbol="NVDA", amount="0")

    def broken() -> Iterator[Activity]:
        yield replace(split("b", "4"), amount=Decimal(9))
        raise RuntimeError("cut off")

    path = tmp_path / "journal.sqlite"
    with closing(Database(path)) as database:
        books = Books.begun({"NVDA": "1"}, database=database)
        books.holdings.record_activities([split("a", "2")], BEGUN)
        with pytest.raises(RuntimeError, match="cut off"):
            books.holdings.record_activities(broken(), BEGUN)
    with closing(Database(path)) as database:
        books = Books.of(database)
        assert books.holdings.has_opening_balance
        assert not books.found(NVDA="3")
        assert books.holdings.cash_difference(Decimal(1000)).unexplained_usd == 0
        entries = [split(name, "4") for name in ("b", "c")]
        assert [books.holdings.record_activities(entries, BEGUN) for _ in range(2)] == [2, 0]
        assert not books.found(NVDA="11")


def test_fill_is_matched_when_order_id_arrives_later() -> None:
    books = Books.begun()
    books.order("first", "NVDA", "1", "0", "submitting")
    books.order("second", "NVDA", "1", "0", "submitting")
    books.intents.record_progress("first", OrderProgress("filled", "o-a", Decimal(1), Decimal(10)))
    foreign = replace(fill("c", "1"), venue_order_id="")
    books.holdings.record_activities([fill("a", "1"), fill("b", "1"), foreign], BEGUN)

    def links() -> dict[str, str]:
        return dict(books.database.query("SELECT id, client_order_id FROM fills"))

    assert links() == {"a": "first", "b": "", "c": ""}
    books.intents.record_progress("second", OrderProgress("filled", "o-b", Decimal(1), Decimal(10)))
    books.holdings.record_activities([], BEGUN)
    assert links() == {"a": "first", "b": "second", "c": ""}
    assert books.database.query("SELECT DISTINCT since_opening FROM fills") == [(1,)]


def test_activity_cancelled_by_venue_is_undone_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    books = Books.begun()
    split = booking("s", "split", quantity="9", symbol="NVDA", amount="5")
    books.holdings.record_activities([split, fill("a", "1.50")], BEGUN)
    with caplog.at_level(logging.WARNING):
        assert books.holdings.record_activities([fill("a", "1.5")], BEGUN) == 0, (
            "the same, written otherwise"
        )
        assert not [each for each in caplog.records if each.name.startswith("execution")]
        back = replace(split, quantity=Decimal(0), amount=Decimal(0))
        assert books.holdings.record_activities([back], BEGUN) == 1
    assert not books.found()
    assert books.holdings.cash_difference(Decimal(985)).unexplained_usd == 0
    assert "activity s" in caplog.text
    (event,) = EventLog(books.database).events("s")
    assert "quantity=Decimal('9')" in event.content["before"]
    assert "quantity=Decimal('0')" in event.content["after"]


def test_activity_query_starts_a_week_before_last_trade() -> None:
    book = Books.begun(listed=(fill("a", "1", at=BEGUN - DAY),)).holdings
    assert book.activity_query_start() == BEGUN - ACTIVITY_QUERY_OVERLAP
    # A dated activity without a time may lie in the future.
    book.record_activities([booking("i", "interest", amount="-3", day=MIDNIGHT + 30 * DAY)], BEGUN)
    assert book.activity_query_start() == BEGUN - ACTIVITY_QUERY_OVERLAP
    book.record_activities([fill("b", "1", at=BEGUN + 3 * DAY)], BEGUN)
    assert book.activity_query_start() == BEGUN + 3 * DAY - ACTIVITY_QUERY_OVERLAP
    assert ACTIVITY_QUERY_OVERLAP == 7 * DAY


def test_only_deposits_and_withdrawals_count_as_cash_flows() -> None:
    book = Books.begun().holdings
    entries = [
        booking("a", parse_activity_kind("CSD"), amount="1000.01"),
        booking("b", parse_activity_kind("CSW"), amount="-300"),
        booking("c", parse_activity_kind("JNLC"), amount="-0.02"),
        booking("d", parse_activity_kind("ACATC"), amount="50"),
        *(
            booking(w, parse_activity_kind(w), amount="7")
            for w in ("DIV", "DIVNRA", "INT", "FEE", "CFEE")
        ),
        booking("s", parse_activity_kind("ACATS"), quantity="5", symbol="NVDA"),
    ]
    book.record_activities(entries, BEGUN + 2 * HOUR)
    assert book.listed.net_deposits_since(BEGUN + HOUR) == Decimal("749.99")
    assert book.listed.net_deposits_since(BEGUN + 2 * HOUR) == 0, (
        "the mark of that instant has them"
    )
    book.record_activities(entries, BEGUN + 3 * HOUR)
    assert book.listed.net_deposits_since(BEGUN + 2 * HOUR) == 0, "listed again is not paid again"
