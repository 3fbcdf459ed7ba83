"""What a venue lists late is no difference where a clock explains it, and counts once."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.alpaca.activities import Activity
from execution.journal.events import EventLog
from execution.live.differences import line_of
from execution.live.holdings import HoldingsBook
from execution.live.unlisted import gone_by_expiry
from foundation.database import Database
from tests.execution.test_holdings import (
    BEGUN,
    DAY,
    FREE,
    HOUR,
    TAKER,
    book_of,
    booking,
    fill,
    held,
)

PUT = "SPY240308P00510000"  # expires on Friday, 8 March 2024
CALL = "SPY240308C00510000"
LATER_PUT = "SPY240412P00500000"
FRIDAY = np.datetime64("2024-03-08T05:00", "ns")  # New York's midnight
CLOSE = np.datetime64("2024-03-08T21:00", "ns")
EVENING = np.datetime64("2024-03-08T22:00", "ns")
SATURDAY = np.datetime64("2024-03-09T12:00", "ns")
# New York's clock goes forward on the tenth.
TUESDAYS_CLOSE = np.datetime64("2024-03-12T20:00", "ns")
SECOND = np.timedelta64(1, "s")


def short_of(symbol: str, quantity: str = "-1", at: np.datetime64 = BEGUN) -> HoldingsBook:
    """An account that has sold an option since its journal began."""
    book = book_of({"SPY": "300"}, at=at)
    book.add([fill("sold", quantity, symbol, at + HOUR)], at + HOUR)
    return book


def line(book: HoldingsBook, actual: dict[str, Decimal]) -> str:
    return line_of(book.differences(actual, TAKER))


@pytest.mark.parametrize("quantity", ["-1", "2"])
def test_an_option_that_has_expired_is_no_difference_until_its_booking_comes(
    quantity: str,
) -> None:
    book = short_of(PUT, quantity)
    book.add([], EVENING)
    assert line(book, held(SPY="300")) == ""
    expired = booking("e", "OPEXP", quantity=str(-int(quantity)), symbol=PUT, day=FRIDAY)
    book.add([expired], SATURDAY)
    assert book.expected() == held(SPY="300")
    assert line(book, held(SPY="300")) == ""


def test_an_option_explains_its_absence_from_its_close_to_the_close_two_sessions_later() -> None:
    book = short_of(PUT)
    for at, explained in [
        (CLOSE - SECOND, False),
        (CLOSE, True),
        (TUESDAYS_CLOSE - SECOND, True),
        (TUESDAYS_CLOSE, False),
    ]:
        book.add([], at)
        assert (line(book, held(SPY="300")) == "") == explained, at
    assert line(book, held(SPY="300")) == (
        f"positions: {PUT} is 0 at the venue, -1 by what is written down"
    )


def test_an_option_of_a_holiday_expires_with_the_session_before_it() -> None:
    """Good Friday of 2024 is the 29th of March; the two sessions after are Monday and Tuesday."""
    symbol = "SPY240329P00500000"
    thursday = np.datetime64("2024-03-28T20:00", "ns")
    expected = {symbol: Decimal(1)}
    assert not gone_by_expiry(expected, {}, thursday - SECOND)
    assert gone_by_expiry(expected, {}, thursday) == {symbol}
    assert gone_by_expiry(expected, {}, np.datetime64("2024-04-02T19:59", "ns")) == {symbol}
    assert not gone_by_expiry(expected, {}, np.datetime64("2024-04-02T20:00", "ns"))


def test_a_part_of_a_position_has_not_expired() -> None:
    book = short_of(PUT, "-2")
    book.add([], EVENING)
    assert line(book, {**held(SPY="300"), PUT: Decimal(-1)}).startswith(f"positions: {PUT} is -1")


def test_an_expiry_explains_nothing_else() -> None:
    book = short_of(PUT)
    book.add([fill("later", "-1", LATER_PUT, BEGUN + HOUR)], EVENING)
    missing = line(book, held(SPY="299"))
    assert missing.startswith(
        f"positions: SPY is 299 at the venue, 300 by what is written down; {LATER_PUT}"
    )
    assert PUT not in missing


def test_a_book_that_was_opened_again_explains_an_expiry_once_it_knows_the_time() -> None:
    database = Database()
    book_of({PUT: "-1"}, database=database).add([], EVENING)
    book = HoldingsBook(database, EventLog(database))
    assert line(book, {}) != ""
    book.add([], EVENING)
    assert line(book, {}) == ""


@pytest.mark.parametrize(
    ("symbol", "quantity", "shares"),
    [(CALL, "2", 200), (CALL, "-2", -200), (PUT, "2", -200), (PUT, "-2", 200)],
)
def test_shares_of_an_exercise_are_a_difference_that_names_it_until_it_is_listed(
    symbol: str, quantity: str, shares: int
) -> None:
    book = short_of(symbol, quantity)
    book.add([], EVENING)
    actual = {"SPY": Decimal(300 + shares)}
    assert line(book, actual) == (
        f"positions: SPY is {300 + shares} at the venue, 300 by what is written down,"
        f" as after an exercise or assignment of {symbol} that is not listed yet"
    )
    # The shares of one of two contracts: the other has expired without.
    assert "as after an exercise" in line(book, {"SPY": Decimal(300 + shares // 2)})
    for other in (300 - shares, 300 + 2 * shares, 300 + shares // 200):
        assert "exercise" not in line(book, {"SPY": Decimal(other)}), other
    kind = "OPEXC" if int(quantity) > 0 else "OPASN"
    ending = booking("e", kind, quantity=str(-int(quantity)), symbol=symbol, day=FRIDAY)
    moved = booking("t", "OPTRD", quantity=str(shares), symbol="SPY", day=FRIDAY)
    book.add([ending, moved], SATURDAY)
    assert line(book, actual) == ""
    assert book.expected() == actual


def test_an_assignment_before_the_last_day_is_named_beside_the_contract_and_its_shares() -> None:
    book = short_of(LATER_PUT)
    book.add([], EVENING)
    assert line(book, held(SPY="400")).count("as after an exercise or assignment") == 2
    assert "exercise" not in line(book, held(SPY="300")), "without its shares it has only gone"
    for other in (1, -2):
        # An assignment takes from what is owed, and no more than that.
        shares = 300 + 100 * (1 + other)
        assert "exercise" not in line(book, {"SPY": Decimal(shares), LATER_PUT: Decimal(other)})


def test_legs_that_were_assigned_and_exercised_together_are_no_difference() -> None:
    """Shares that one leg brought have gone with the other."""
    book = short_of(PUT)
    book.add([fill("bought", "1", "SPY240308P00505000", BEGUN + HOUR)], EVENING)
    assert line(book, held(SPY="300")) == ""


def endings(day: np.datetime64 = FRIDAY) -> list[Activity]:
    """What the venue lists of a put that was assigned, and of a call that expired."""
    return [
        booking("t", "OPTRD", quantity="100", symbol="SPY", day=day),
        booking("a", "OPASN", quantity="1", symbol=PUT, day=day),
        booking("x", "OPEXP", quantity="-3", symbol=CALL, day=day),
    ]


@pytest.mark.parametrize("day", [FRIDAY, FRIDAY + DAY])
def test_what_ended_before_the_first_ground_and_is_listed_after_it_moves_nothing(
    day: np.datetime64,
) -> None:
    """The journal begins in the evening: the shares are there, the contracts are not."""
    book = book_of({"SPY": "400"}, at=EVENING)
    for _ in range(2):
        book.add(endings(day), SATURDAY)
        assert book.expected() == held(SPY="400")


def test_shares_go_with_the_option_that_moved_them() -> None:
    """One put was assigned before the ground; three others are held until they are booked."""
    other = "SPY240308P00515000"
    book = book_of({"SPY": "400", other: "-3"}, at=EVENING)
    more = [
        booking("u", "OPTRD", quantity="300", symbol="SPY", day=FRIDAY),
        booking("b", "OPASN", quantity="3", symbol=other, day=FRIDAY),
    ]
    book.add([*endings(), *more], SATURDAY)
    assert book.expected() == held(SPY="700")


def test_what_the_ground_holds_still_ends_when_its_booking_comes() -> None:
    """An account whose positions change with the booking."""
    book = book_of({"SPY": "300", PUT: "-1", CALL: "3"}, at=EVENING)
    book.add(endings(), SATURDAY)
    assert book.expected() == held(SPY="400")


def test_what_was_opened_on_a_grounds_day_and_ended_on_it_counts() -> None:
    book = book_of({"SPY": "300"}, at=FRIDAY + 10 * HOUR)
    bought = [fill("p", "-1", PUT, FRIDAY + 11 * HOUR), fill("c", "3", CALL, FRIDAY + 11 * HOUR)]
    book.add([*endings(), *bought], SATURDAY)
    assert book.expected() == held(SPY="400")


def test_a_ground_of_an_evening_takes_over_what_is_listed_on_the_next_day() -> None:
    """A person has cleared the halt: shares and contracts are as the exercise has left them."""
    book = short_of(PUT)
    book.add([fill("c", "3", CALL, BEGUN + HOUR)], EVENING)
    actual = held(SPY="400")
    assert line(book, actual) != ""
    book.begin(actual, Decimal(0), EVENING, [])
    book.add(endings(), SATURDAY)
    assert book.expected() == actual
    assert line(book, actual) == ""


def split(quantity: str, day: np.datetime64 = FRIDAY) -> Activity:
    return booking("s", "SPLIT", quantity=quantity, symbol="NVDA", day=day)


@pytest.mark.parametrize(
    ("before", "after", "ratio"),
    [
        ("10", "30", "3 for 1"),
        ("-10", "-2", "1 for 5"),
        ("10", "15", "3 for 2"),
        ("0.5", "5", "10 for 1"),
    ],
)
def test_a_split_that_is_not_listed_is_a_difference_that_names_it_until_it_is(
    before: str, after: str, ratio: str
) -> None:
    book = book_of({"NVDA": before})
    book.add([], FRIDAY + 15 * HOUR)
    assert line(book, held(NVDA=after)) == (
        f"positions: NVDA is {after} at the venue, {before} by what is written down,"
        f" as after a split of {ratio} that is not listed yet"
    )
    book.add([split(str(Decimal(after) - Decimal(before)))], SATURDAY)
    assert line(book, held(NVDA=after)) == ""


@pytest.mark.parametrize(
    ("before", "after"), [("10", "17"), ("10", "-20"), ("0", "20"), ("20", "0"), ("10", "2000")]
)
def test_what_no_split_would_leave_is_not_called_one(before: str, after: str) -> None:
    book = book_of({"NVDA": before, "BTCUSD": "1"})
    found = line(book, held(NVDA=after, BTCUSD="2"))
    assert "NVDA is" in found
    assert "BTCUSD is" in found
    assert "split" not in found


def test_a_split_that_a_ground_has_taken_over_moves_nothing_when_it_is_listed() -> None:
    """One that comes after the ground does: on the same day, or as large as what it took over."""
    book = book_of({"NVDA": "10"})
    book.begin(held(NVDA="30"), Decimal(0), FRIDAY + 15 * HOUR, [])
    assert book.add([split("20")], SATURDAY) == 1
    assert book.expected() == held(NVDA="30")
    other = book_of({"NVDA": "10"})
    other.begin(held(NVDA="11"), Decimal(0), FRIDAY + 15 * HOUR, [])
    other.add([split("22")], SATURDAY)
    assert other.expected() == held(NVDA="33")
    third = book_of({"NVDA": "10"})
    third.begin(held(NVDA="30"), Decimal(0), FRIDAY + 15 * HOUR, [])
    third.add([split("20", FRIDAY + 7 * DAY)], FRIDAY + 7 * DAY)
    assert third.expected() == held(NVDA="50")


def test_a_ground_takes_a_difference_over_once() -> None:
    book = book_of({"NVDA": "10"})
    book.begin(held(NVDA="30"), Decimal(0), FRIDAY + 15 * HOUR, [])
    again = booking("again", "SPLIT", quantity="20", symbol="NVDA", day=FRIDAY)
    book.add([split("20"), again], SATURDAY)
    assert book.expected() == held(NVDA="50")


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans(), st.booleans()), max_size=30))
def test_sums_that_are_kept_up_are_those_of_a_book_that_reads_everything(
    steps: list[tuple[int, bool, bool]],
) -> None:
    """Whether rows are new, changed by the venue, or followed by a new ground."""
    database = Database()
    book = book_of({"NVDA": "3"}, database=database)
    for number, (quantity, is_changed, begins) in enumerate(steps):
        name = "changed" if is_changed else f"a{number}"
        at = BEGUN + (number + 1) * HOUR
        entry = booking(name, "SPLIT", quantity=str(quantity), symbol="NVDA", day=at)
        trade = fill(f"f{number}", "1" if quantity else "-1", "SYB", at)
        book.add([entry, trade], at)
        kept = book.expected()
        fresh = HoldingsBook(database, EventLog(database))
        assert kept == fresh.expected()
        assert not fresh.differences(kept, FREE)
        if begins:
            book.begin(kept, Decimal(0), at, [])


def test_a_row_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database()
    book = book_of(database=database)
    book.add([fill(f"a{number}", "1", at=BEGUN + number * HOUR) for number in range(500)], BEGUN)
    coins = [fill(f"c{number}", "1", "BTCUSD", BEGUN + number * HOUR) for number in range(500)]
    fee = booking("fee", "CFEE", quantity="-1", symbol="BTCUSD", day=BEGUN + 498 * HOUR)
    book.add([*coins, fee], BEGUN)
    expected = book.expected()
    counted = 0
    rows = database.rows

    def counting(query: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        nonlocal counted
        found = rows(query, values)
        counted += len(found)
        return found

    monkeypatch.setattr(database, "rows", counting)
    book.add([fill("b", "1", at=BEGUN + HOUR)], BEGUN)
    assert book.expected() == {**expected, "NVDA": Decimal(501)}
    book.differences(expected, TAKER)
    assert counted < 100
