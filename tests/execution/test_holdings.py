"""What should be held is the ground and everything listed since, in whatever order it is listed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.alpaca.activities import TRANSFERS, Activity, activity_of, symbol_held
from execution.alpaca.fields import ActivityEntry
from execution.journal.events import EventLog
from execution.journal.intents import Intent, IntentBook, Progress
from execution.live.differences import (
    Difference,
    Explained,
    line_of,
    plain,
    taker_fees,
    unexplained,
)
from execution.live.holdings import OVERLAP, HoldingsBook
from execution.orders import Order
from foundation.database import Database
from foundation.errors import SenselessAnswer
from trainingdata.feed.fields import Needed, Optional

BEGUN = np.datetime64("2024-03-05T17:30", "ns")  # half past twelve in New York
MIDNIGHT = np.datetime64("2024-03-05T05:00", "ns")
HOUR = np.timedelta64(1, "h")
DAY = np.timedelta64(1, "D")
TAKER = Decimal("0.0025")
FREE = Decimal(0)
CALL = "SPY240920C00500000"
SYMBOLS = ("NVDA", "BTCUSD", CALL, "?037833100")


def fill(name: str, quantity: str, symbol: str = "NVDA", at: np.datetime64 = BEGUN) -> Activity:
    price = Decimal(10)
    return Activity(
        name, "FILL", at, symbol, Decimal(quantity), price, -Decimal(quantity) * price, f"o-{name}"
    )


def booking(
    name: str,
    kind: str,
    *,
    quantity: str = "0",
    amount: str = "0",
    symbol: str = "",
    day: np.datetime64 = MIDNIGHT,
) -> Activity:
    return Activity(name, kind, day, symbol, Decimal(quantity), None, Decimal(amount))


def book_of(
    held: dict[str, str] | None = None,
    listed: tuple[Activity, ...] = (),
    database: Database | None = None,
    at: np.datetime64 = BEGUN,
) -> HoldingsBook:
    database = database or Database()
    book = HoldingsBook(database, EventLog(database))
    book.begin({s: Decimal(q) for s, q in (held or {}).items()}, Decimal(1000), at, listed)
    return book


def held(**quantities: str) -> dict[str, Decimal]:
    return {symbol: Decimal(quantity) for symbol, quantity in quantities.items()}


# As many digits as an answer may have, before the point and behind it.
quantities = st.decimals(-(10**14), 10**14, places=24) | st.decimals(-1000, 1000, places=9)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Activity], list[list[Activity]]]:
    """Activities with ids of their own, and pages that hold each at least once, in any order."""
    activities = []
    for number in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["FILL", "CFEE", "SPLIT", "OPEXP", "DIV", "CSD", "CSW"]))
        symbol = "" if kind in TRANSFERS else draw(st.sampled_from(SYMBOLS))
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


@given(histories(), st.dictionaries(st.sampled_from(SYMBOLS), quantities))
def test_any_order_and_repetition_of_pages_gives_the_same_expectation(
    history: tuple[list[Activity], list[list[Activity]]], ground: dict[str, Decimal]
) -> None:
    activities, pages = history
    database = Database()
    book = HoldingsBook(database, EventLog(database))
    book.begin(ground, Decimal(0), BEGUN, ())
    written = sum(book.add(page, BEGUN + HOUR) for page in pages)
    assert written == len(activities)
    sums = {symbol: Fraction(quantity) for symbol, quantity in ground.items()}
    for each in activities:
        if each.symbol:
            sums[each.symbol] = sums.get(each.symbol, Fraction(0)) + Fraction(each.quantity)
    expected = book.expected()
    assert {s: Fraction(q) for s, q in expected.items()} == {s: q for s, q in sums.items() if q}
    assert not book.differences(expected, FREE)
    flows = sum(Fraction(each.amount) for each in activities if each.kind in TRANSFERS)
    assert Fraction(book.explained_flows(BEGUN)) == flows


@given(histories(), st.data())
def test_whatever_was_not_listed_is_the_difference(
    history: tuple[list[Activity], list[list[Activity]]], data: st.DataObject
) -> None:
    activities, _ = history
    whole, without = book_of(), book_of()
    whole.add(activities, BEGUN)
    lost = data.draw(st.sampled_from(activities))
    without.add([each for each in activities if each.id != lost.id], BEGUN)
    differences = without.differences(whole.expected(), FREE)
    assert list(differences) == ([lost.symbol] if lost.quantity else [])
    for each in differences.values():
        assert Fraction(each.actual) - Fraction(each.expected) == Fraction(lost.quantity)


small = st.integers(-20, 20).map(Decimal)


@given(small, small, st.integers(0, 5).map(Decimal), st.integers(0, 5).map(Decimal))
def test_what_is_explained_is_no_difference_and_more_is(
    expected: Decimal, actual: Decimal, missing: Decimal, listed: Decimal
) -> None:
    explained = {"BTCUSD": Explained(missing, listed)}
    found = unexplained({"BTCUSD": expected}, {"BTCUSD": actual}, explained)
    inside = expected - missing <= actual <= expected + listed
    assert found == ({} if inside else {"BTCUSD": Difference(expected, actual)})
    assert unexplained({"NVDA": expected}, {}, explained) == (
        {"NVDA": Difference(expected, Decimal(0))} if expected else {}
    )


def test_an_alert_names_every_symbol_in_one_line() -> None:
    book = book_of({"NVDA": "10", "SYB": "-3"})
    differences = book.differences(held(NVDA="12.50", BTCUSD="1E-9", SYB="-3.0"), TAKER)
    assert line_of(differences) == (
        "positions: BTCUSD is 0.000000001 at the venue, 0 by what is written down;"
        " NVDA is 12.5 at the venue, 10 by what is written down"
    )
    assert line_of(book.differences(held(NVDA="10", SYB="-3"), TAKER)) == ""


def test_a_coin_may_lack_the_fee_of_what_was_bought_until_it_is_listed_and_no_more() -> None:
    """Of 0.1 and 0.3 bitcoin the venue keeps a quarter of a percent: 0.00025 and 0.00075."""
    book = book_of({"BTCUSD": "1", "NVDA": "4"})
    book.add([fill("a", "0.1", "BTCUSD"), fill("b", "0.3", "BTCUSD"), fill("c", "4")], BEGUN)
    assert not book.differences(held(BTCUSD="1.4", NVDA="8"), TAKER)
    assert not book.differences(held(BTCUSD="1.399", NVDA="8"), TAKER)
    assert list(book.differences(held(BTCUSD="1.398999999", NVDA="8"), TAKER)) == ["BTCUSD"]
    assert list(book.differences(held(BTCUSD="1.400000001", NVDA="8"), TAKER)) == ["BTCUSD"]
    assert list(book.differences(held(BTCUSD="1.399", NVDA="7.99"), TAKER)) == ["NVDA"]
    assert list(book.differences(held(BTCUSD="1.399", NVDA="8"), FREE)) == ["BTCUSD"]


def test_what_was_bought_two_days_before_a_listed_fee_explains_nothing_any_more() -> None:
    """A fee of the eighth is of purchases of the seventh or eighth: that of the fifth is there."""
    book = book_of()
    later = BEGUN + 3 * DAY
    book.add([fill("a", "1", "BTCUSD"), fill("b", "2", "BTCUSD", later)], later)
    assert not book.differences(held(BTCUSD="2.9925"), TAKER)
    fee = booking("f", "CFEE", quantity="-0.0025", symbol="BTCUSD", day=MIDNIGHT + 3 * DAY)
    other = booking("g", "CFEE", quantity="-9", symbol="ETHUSD", day=MIDNIGHT + 9 * DAY)
    book.add([fee, other], later)
    assert book.expected()["BTCUSD"] == Decimal("2.9975")
    actual = {"ETHUSD": Decimal(-9)}
    assert not book.differences({**actual, "BTCUSD": Decimal("2.9925")}, TAKER)
    found = book.differences({**actual, "BTCUSD": Decimal("2.9924")}, TAKER)
    assert list(found) == ["BTCUSD"], "only the two of the eighth have a fee that is open"


def test_only_purchases_of_coins_explain_what_is_missing() -> None:
    """What was sold took no coins as a fee, and gives none of the others' back."""
    book = book_of({"BTCUSD": "1"})
    foreign = "?AB.USD"
    book.add(
        [fill("a", "0.4", "BTCUSD"), fill("b", "-0.4", "BTCUSD"), fill("c", "4", foreign)], BEGUN
    )
    assert not book.differences({"BTCUSD": Decimal("0.999"), foreign: Decimal(4)}, TAKER)
    found = book.differences({"BTCUSD": Decimal("0.998"), foreign: Decimal("3.99")}, TAKER)
    assert list(found) == [foreign, "BTCUSD"]


def test_a_fee_is_rounded_up_to_a_billionth_for_every_purchase() -> None:
    """As seen at the venue: of 112.962074947 coins it kept 0.282405188."""
    assert taker_fees([Decimal("112.962074947")], TAKER) == Decimal("0.282405188")
    assert taker_fees([Decimal("1E-9")] * 3, TAKER) == Decimal("3E-9")
    for rate in (Decimal(-1), Decimal(1), Decimal("NaN")):
        with pytest.raises((ValueError, ArithmeticError)):
            taker_fees([Decimal(1)], rate)


def test_nothing_that_the_ground_holds_is_counted_a_second_time() -> None:
    """Bought at noon, split at nine: both are listed again for a week after the journal began."""
    listed = (
        booking("s", "SPLIT", quantity="9", symbol="NVDA"),
        fill("a", "1", at=BEGUN - HOUR),
        fill("b", "2", at=BEGUN),
        booking("d", "CSD", amount="500"),
    )
    book = book_of({"NVDA": "13"}, listed)
    late = fill("l", "5", at=BEGUN - np.timedelta64(1, "s"))
    book.add([*listed, late], BEGUN + HOUR)
    assert book.expected() == held(NVDA="13")
    assert book.explained_flows(BEGUN - DAY) == 0
    # At a venue whose clock stands still a trade has the ground's own instant.
    book.add([*listed, late, fill("n", "7", at=BEGUN)], BEGUN + HOUR)
    assert book.expected() == held(NVDA="20")


@pytest.mark.parametrize("held_now", ["18", "17"])
def test_a_trade_of_before_the_ground_by_a_wrong_clock_counts_where_it_is_the_difference(
    held_now: str,
) -> None:
    """The ground was stamped an hour too late; a trade came after it, and is listed before it."""
    book = book_of({"NVDA": "13"}, (fill("a", "1", at=BEGUN - HOUR),))
    book.add([fill("l", "5", at=BEGUN - np.timedelta64(30, "m"))], BEGUN - np.timedelta64(20, "m"))
    differences = book.differences(held(NVDA=held_now), TAKER)
    explained = held_now == "18"
    assert book.admit_earlier(differences) == explained
    assert bool(book.differences(held(NVDA=held_now), TAKER)) != explained
    assert not book.admit_earlier(book.differences(held(NVDA=held_now), TAKER))


def test_an_entry_of_an_earlier_day_that_is_listed_later_counts() -> None:
    """An option that expired on Friday is held until the venue books that, on Saturday."""
    book = book_of({CALL: "-2"})
    friday = MIDNIGHT - DAY
    book.add([booking("e", "OPEXP", quantity="2", symbol=CALL, day=friday)], BEGUN + HOUR)
    assert book.expected() == {}


def test_a_fee_of_before_the_ground_that_is_listed_after_it_is_explained() -> None:
    """Two bitcoin bought at noon are 1.995 already; at night the venue lists the fee of that day,
    in which another one was bought.
    """
    bought = fill("a", "2", "BTCUSD", BEGUN - HOUR)
    long_ago = fill("z", "4", "BTCUSD", BEGUN - 2 * DAY)
    book = book_of({"BTCUSD": "1.995"}, (long_ago, bought))
    fees = [
        booking("f", "CFEE", quantity="-0.005", symbol="BTCUSD"),
        booking("g", "CFEE", quantity="-0.0025", symbol="BTCUSD"),
        booking("h", "CFEE", quantity="-1", symbol="BTCUSD", day=MIDNIGHT - DAY),
    ]
    book.add([bought, fill("b", "1", "BTCUSD", BEGUN + HOUR), *fees], BEGUN + DAY)
    actual = held(BTCUSD="2.9925")
    assert book.expected() == held(BTCUSD="2.9875")
    assert not book.differences(actual, TAKER)
    assert list(book.differences(held(BTCUSD="2.992500001"), TAKER)) == ["BTCUSD"]


def test_who_begins_anew_accepts_what_is_held_then() -> None:
    book = book_of({"NVDA": "10"})
    first = fill("a", "5", at=BEGUN + HOUR)
    deposit = booking("d", "CSD", amount="500")
    assert book.add([first, deposit], BEGUN + HOUR) == 2
    actual = held(NVDA="18")
    assert line_of(book.differences(actual, TAKER)).startswith("positions: NVDA is 18")
    again = BEGUN + 2 * HOUR
    book.begin(actual, Decimal(0), again, [first, deposit])
    assert not book.differences(actual, TAKER)
    book.add([first, deposit, fill("b", "-3", at=again + HOUR)], again + HOUR)
    assert book.expected() == held(NVDA="15")
    assert book.explained_flows(BEGUN) == 500, "a deposit is one, whatever was begun since"


def test_before_the_ground_nothing_is_expected_of_the_account() -> None:
    database = Database()
    book = HoldingsBook(database, EventLog(database))
    assert not book.begun
    for ask in (book.expected, book.last_at, lambda: book.add([fill("a", "1")], BEGUN)):
        with pytest.raises(ValueError, match="begin it first"):
            ask()
    book.begin({}, Decimal(0), BEGUN, ())
    assert book.begun
    assert book.expected() == {}


def test_a_restart_finds_all_that_was_added_and_a_half_added_page_is_not_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.sqlite"
    database = Database(path)
    book = book_of({"NVDA": "1"}, database=database)
    book.add([fill("a", "2")], BEGUN)

    def broken() -> Iterator[Activity]:
        yield fill("b", "4")
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        book.add(broken(), BEGUN)
    database.close()
    again = Database(path)
    book = HoldingsBook(again, EventLog(again))
    assert book.begun
    assert book.expected() == held(NVDA="3")
    assert book.add([fill("a", "2"), fill("b", "4")], BEGUN) == 1
    assert book.expected() == held(NVDA="7")
    again.close()


def test_a_fill_finds_its_intent_even_where_that_learns_its_order_later() -> None:
    database = Database()
    events = EventLog(database)
    intents = IntentBook(database, events)
    book = HoldingsBook(database, events)
    book.begin({}, Decimal(0), BEGUN, ())
    for name in ("first", "second"):
        intents.begin(Intent(Order(name, "NVDA", "buy", Decimal(1), "so"), BEGUN))
    intents.note("first", Progress("filled", "o-a", Decimal(1), Decimal(10)))
    book.add([fill("a", "1"), fill("b", "1"), replace(fill("c", "1"), order_id="")], BEGUN)

    def links() -> dict[str, str]:
        return dict(database.rows("SELECT id, client_order_id FROM fills"))

    assert links() == {"a": "first", "b": "", "c": ""}
    intents.note("second", Progress("filled", "o-b", Decimal(1), Decimal(10)))
    book.add([], BEGUN)
    assert links() == {"a": "first", "b": "second", "c": ""}


def test_an_entry_that_the_venue_takes_back_changes_nothing_and_is_an_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = Database()
    book = book_of(database=database)
    split = booking("s", "SPLIT", quantity="9", symbol="NVDA")
    book.add([split, fill("a", "1.50")], BEGUN)
    with caplog.at_level(logging.WARNING):
        assert book.add([fill("a", "1.5")], BEGUN) == 0, "the same number, written otherwise"
        assert not [each for each in caplog.records if each.name.startswith("execution")]
        assert book.add([replace(split, quantity=Decimal(0))], BEGUN) == 1
    assert book.expected() == held(NVDA="1.5")
    assert "activity s" in caplog.text
    (event,) = EventLog(database).events("s")
    assert (event.content["before"]["qty"], event.content["after"]["qty"]) == ("9", "0")


def test_the_next_question_goes_back_a_week_before_the_last_trade() -> None:
    book = book_of(listed=(fill("a", "1", at=BEGUN - DAY),))
    assert book.last_at() == BEGUN - OVERLAP
    # What has only a day may have one that is still to come.
    book.add([booking("i", "INT", amount="-3", day=MIDNIGHT + 30 * DAY)], BEGUN)
    assert book.last_at() == BEGUN - OVERLAP
    book.add([fill("b", "1", at=BEGUN + 3 * DAY)], BEGUN)
    assert book.last_at() == BEGUN + 3 * DAY - OVERLAP
    assert OVERLAP == 7 * DAY


def test_only_what_a_person_pays_in_or_takes_out_is_a_flow_from_when_it_was_listed() -> None:
    book = book_of()
    entries = [
        booking("a", "CSD", amount="1000.01"),
        booking("b", "CSW", amount="-300"),
        booking("c", "JNLC", amount="-0.02"),
        booking("d", "ACATC", amount="50"),
        *(booking(kind, kind, amount="7") for kind in ("DIV", "DIVNRA", "INT", "FEE", "CFEE")),
        booking("s", "ACATS", quantity="5", symbol="NVDA"),
    ]
    book.add(entries, BEGUN + 2 * HOUR)
    assert book.explained_flows(BEGUN + HOUR) == Decimal("749.99")
    assert book.explained_flows(BEGUN + 2 * HOUR) == 0, "the mark of that instant has them"
    book.add(entries, BEGUN + 3 * HOUR)
    assert book.explained_flows(BEGUN + 2 * HOUR) == 0, "listed again is not paid again"


# What the venue writes, a kind of each. Numbers are texts, as it writes them.
TRADE = {
    "id": "20240305173000000::1",
    "activity_type": "FILL",
    "type": "partial_fill",
    "transaction_time": "2024-03-05T17:30:01.5Z",
    "symbol": "BTC/USD",
    "qty": "0.5",
    "price": "40000",
    "side": "buy",
    "order_id": "904837e3",
}
SHARED = {"date": "2024-03-05", "status": "executed", "net_amount": "0"}
ENTRIES: dict[str, dict[str, Any]] = {
    "trade": TRADE,
    "sale": {**TRADE, "symbol": "NVDA", "side": "sell_short", "qty": "3", "price": "9.5"},
    "option": {**TRADE, "symbol": CALL, "side": "sell", "qty": "2", "price": "1.25"},
    "deposit": {**SHARED, "id": "d", "activity_type": "CSD", "net_amount": "1000"},
    "dividend": {
        **SHARED,
        "id": "v",
        "activity_type": "DIV",
        "activity_sub_type": "CDIV",
        "net_amount": "1.02",
        "symbol": "T",
        "qty": "2",
        "per_share_amount": "0.51",
    },
    "shares": {
        **SHARED,
        "id": "w",
        "activity_type": "DIV",
        "activity_sub_type": "SDIV",
        "symbol": "SBS",
        "qty": "0.002709921",
    },
    "coin fee": {
        **SHARED,
        "id": "f",
        "activity_type": "CFEE",
        "symbol": "ETHUSD",
        "cusip": "ETH1",
        "qty": "-0.000195",
        "price": "1884.5",
    },
    "dollar fee": {**SHARED, "id": "g", "activity_type": "CFEE", "qty": "0", "net_amount": "-2.21"},
    "split": {**SHARED, "id": "s", "activity_type": "SPLIT", "symbol": "XRPT", "qty": "-33"},
    "merger": {**SHARED, "id": "m", "activity_type": "MA", "cusip": "037833100", "qty": "-5"},
    "expiry": {**SHARED, "id": "e", "activity_type": "OPEXP", "symbol": CALL, "qty": "-2"},
    "delivery": {
        **SHARED,
        "id": "o",
        "activity_type": "OPTRD",
        "symbol": "SPY",
        "qty": "200",
        "price": "500",
        "net_amount": "-100000",
    },
}
READ = {
    "trade": ("BTCUSD", "0.5", "-20000"),
    "sale": ("NVDA", "-3", "28.5"),
    "option": (CALL, "-2", "250"),
    "deposit": ("", "0", "1000"),
    "dividend": ("T", "0", "1.02"),
    "shares": ("SBS", "0.002709921", "0"),
    "coin fee": ("ETHUSD", "-0.000195", "0"),
    "dollar fee": ("", "0", "-2.21"),
    "split": ("XRPT", "-33", "0"),
    "merger": ("?037833100", "-5", "0"),
    "expiry": (CALL, "-2", "0"),
    "delivery": ("SPY", "200", "-100000"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_every_kind_of_entry_changes_what_it_changes(name: str) -> None:
    read = activity_of(ENTRIES[name])
    assert (read.symbol, plain(read.quantity), plain(read.amount)) == READ[name]
    trade = read.kind == "FILL"
    assert read.at == (np.datetime64("2024-03-05T17:30:01.5", "ns") if trade else MIDNIGHT)
    assert read.order_id == ("904837e3" if trade else "")


VALUES: tuple[Any, ...] = ("removed", None, "", "much", "1e9999999", "nan", True, 7.5, [], {}, [1])
NUMBERS = ("0", "7.5", "-7.5")
# What an entry says once: another value there is another activity, and nothing contradicts it.
SAID_ONCE = {
    "id": "what is listed once is known by it",
    "activity_sub_type": "only a dividend in shares changes a position",
    "symbol": "a security without one has a CUSIP, and cash has neither",
    "cusip": "it counts where there is no symbol",
    "qty": "positions, which are compared with the sum, say the same",
    "price": "nothing is reckoned with it but what a trade paid",
    "net_amount": "cash says the same",
    "order_id": "a fill without one is of no intent",
}

ABOUT = ("symbol", "cusip", "qty")  # where one says nothing, a quantity is of nothing


def test_a_field_that_goes_or_changes_is_the_same_activity_or_one_clear_refusal() -> None:
    refused = 0
    unseen = set()
    for name, entry in ENTRIES.items():
        whole = activity_of(entry)
        for field in entry:
            for value in (*VALUES, *NUMBERS):
                changed = {**entry, field: value}
                if value == "removed":
                    del changed[field]
                try:
                    read = activity_of(changed)
                except SenselessAnswer as error:
                    refused += 1
                    why = str(error)
                    assert "\n" not in why
                    assert field == "id" or entry["id"] in why, (name, field, value)
                    words = (field, "quantity") if field in ABOUT else (field,)
                    assert any(word in why for word in words), (name, field, value, why)
                    continue
                if read != whole:
                    unseen.add(field)
                    assert (read.kind, read.at) == (whole.kind, whole.at), (name, field, value)
    assert unseen == set(SAID_ONCE)
    assert refused > 400


def test_what_moves_money_or_trades_needs_every_word_of_it() -> None:
    needed = ("activity_type", "transaction_time", "symbol", "qty", "price", "side")
    wanted = [*(("trade", field) for field in needed)]
    wanted += [("deposit", "net_amount"), ("deposit", "date"), ("split", "date")]
    for name, field in wanted:
        for value in (None, ""):
            with pytest.raises(SenselessAnswer, match=field):
                activity_of({**ENTRIES[name], field: value})
    for value in ("0", "-1"):
        with pytest.raises(SenselessAnswer, match="qty"):
            activity_of({**TRADE, "qty": value})
    with pytest.raises(SenselessAnswer, match="activity s: quantity -33 of nothing"):
        activity_of({**ENTRIES["split"], "symbol": None})


def test_every_field_that_is_read_of_an_activity_is_in_this_test() -> None:
    written = {field for entry in ENTRIES.values() for field in entry}
    for attribute, field in vars(ActivityEntry).items():
        if isinstance(field, Needed | Optional):
            assert field.name in written, attribute


@pytest.mark.parametrize("name", ["trade", "deposit", "split"])
def test_what_the_venue_takes_back_is_listed_and_changes_nothing(name: str) -> None:
    read = activity_of({**ENTRIES[name], "status": "canceled"})
    assert not read.quantity
    assert not read.amount
    assert read.id == ENTRIES[name]["id"]


@pytest.mark.parametrize("quantity", ["0.000195", "-0.000195"])
def test_a_fee_only_takes_whichever_sign_it_is_written_with(quantity: str) -> None:
    read = activity_of({**ENTRIES["coin fee"], "qty": quantity})
    assert read.quantity == Decimal("-0.000195")


@pytest.mark.parametrize(
    ("day", "midnight"),
    [
        ("2024-03-10", "2024-03-10T05:00"),  # the clocks change at two on this day
        ("2024-03-11", "2024-03-11T04:00"),
        ("2024-11-03", "2024-11-03T04:00"),
        ("2024-11-04T00:00:00Z", "2024-11-04T05:00"),
    ],
)
def test_a_day_is_new_yorks(day: str, midnight: str) -> None:
    read = activity_of({**ENTRIES["deposit"], "date": day})
    assert read.at == np.datetime64(midnight, "ns")


@pytest.mark.parametrize(
    "day", ["2024-02-30", "20240305", "2024-03-05T12:00:00Z", "0001-01-01", "9999-01-01", 20240305]
)
def test_a_day_that_is_none_is_refused(day: Any) -> None:
    with pytest.raises(SenselessAnswer, match="activity d: date is"):
        activity_of({**ENTRIES["deposit"], "date": day})


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("BTC/USD", "BTCUSD"),
        ("BTCUSD", "BTCUSD"),
        ("BRK.B", "BRK.B"),
        (CALL, CALL),
        ("037833100", "?037833100"),
        ("BTC/USDT", "?BTC_USDT"),
    ],
)
def test_orders_and_positions_name_one_symbol(name: str, here: str) -> None:
    assert symbol_held(name) == here
