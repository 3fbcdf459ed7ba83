"""An order's way to a venue that says this and that: how often it is asked, how long is waited,
what is concluded.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from alpaca.common.exceptions import APIError

from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.order_requests import order_request
from execution.alpaca.order_venue import OrderVenue
from execution.alpaca.placed_order import PlacedOrder, spread_traded
from execution.broker import Asset
from execution.brokers import Reading
from execution.journal.events import EventLog
from execution.journal.intents import STATES, Intent, IntentBook, Progress, State
from execution.journal.orders import AnyOrder
from execution.option_orders import OptionLeg, SpreadOrder, contract_of
from execution.orders import Account, Fill, Order
from execution.posting import OrderWithheld, Outbox
from execution.sight import Sight
from foundation.database import Database
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown, SenselessAnswer
from tests.execution.test_vendor_fields import VALUES, answered
from tests.passing import Passing
from trainingdata.feed.endpoint import BrokerSettings, Keys

KEYS = Keys("KEYKEYKEY", "SECRETSECRET")
LOOKS = [0.1, 0.5, 1.0, 2.0, 4.0]
FACTS = {"cash": "1000", "multiplier": "4", "shorting_enabled": True}
CLOCK = {"timestamp": "2024-03-05T17:30:20Z"}
NOW = np.datetime64("2024-03-05T17:30:20", "ns")
SOON = NOW + np.timedelta64(60, "s")
ORDER = Order("o-1", "NVDA", "buy", Decimal(10), "so")
Said = Any  # an answer, or what is raised instead


def status(code: int, words: str = "no", **headers: str) -> APIError:
    response = requests.Response()
    response.status_code = code
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return APIError(f'{{"message": "{words}"}}', requests.HTTPError(response=response))


def lost() -> requests.ConnectionError:
    return requests.ConnectionError("lost")


def taken(name: str = "o-1", state: str = "new", **more: Any) -> dict[str, Any]:
    return {"id": f"id-{name}", "client_order_id": name, "status": state, **more}


class Venue:
    """Says what it was told to, in its order; the last word again and again."""

    def __init__(self, **words: list[Said]) -> None:
        self.words = {"clock": [CLOCK], **words}
        self.asked = list[tuple[str, str, Any]]()

    def _say(self, what: str, path: str, told: Any) -> Any:
        self.asked.append((what, path, told))
        said = self.words[what].pop(0) if len(self.words[what]) > 1 else self.words[what][0]
        if isinstance(said, Exception):
            raise said
        return said

    def post(self, path: str, data: Any) -> Any:
        return self._say("post", path, data)

    def get(self, path: str, query: Any = None) -> Any:
        return self._say("open" if path == "/orders" else "get", path, query)

    def delete(self, path: str) -> Any:
        return self._say("delete", path, None)

    def get_all_positions(self) -> Any:
        return self._say("positions", "", None)

    def get_account(self) -> Any:
        return self._say("account", "", None)

    def get_clock(self) -> Any:
        return self._say("clock", "", None)

    def times(self, what: str) -> int:
        return sum(asked == what for asked, _, _ in self.asked)


def venue_at(venue: Venue) -> tuple[OrderVenue, list[float]]:
    passing = Passing()
    orders = OrderVenue(BrokerSettings(), KEYS, passing.time)
    orders.client = venue
    return orders, passing.waited


def outbox_at(
    venue: Venue, book: IntentBook | None = None
) -> tuple[Outbox[PlacedOrder], list[float]]:
    orders, waited = venue_at(venue)
    return Outbox(orders, book), waited


def placed(answer: Any, replaced: Any = None) -> PlacedOrder:
    return PlacedOrder(answer, None if replaced is None else PlacedOrder(replaced))


def posted(
    *words: Said, until: np.datetime64 | None = None, **more: list[Said]
) -> tuple[Any, Venue, list[float]]:
    """What the desk answers to one order, or raises; the venue it asked; how long it waited."""
    venue = Venue(post=list(words), **more)
    desk, waited = outbox_at(venue)
    try:
        return desk.post(ORDER, until), venue, waited
    except BrokerError as error:
        return error, venue, waited


def is_any(_: Intent) -> bool:
    return True


@pytest.mark.parametrize(
    ("asked", "waits"),
    [("7", 7.0), ("0.25", 0.25), ("0", 0.0), ("-3", 0.0), ("30", 30.0), ("soon", 1.0), (None, 1.0)],
)
def test_a_busy_venue_says_how_long_to_wait(asked: str | None, waits: float) -> None:
    busy = status(429) if asked is None else status(429, Retry_After=asked)
    answer, venue, waited = posted(busy, busy, taken())
    assert answer == placed(taken())
    assert waited == [waits, waits]
    assert venue.times("post") == 3


def test_a_venue_that_stays_busy_is_asked_five_times() -> None:
    answer, venue, waited = posted(status(429))
    assert isinstance(answer, OrderRejected)
    assert "no room for requests (429)" in str(answer)
    assert (venue.times("post"), waited) == (5, [1.0] * 5)


@pytest.mark.parametrize("code", [400, 403, 404, 422, 499])
def test_a_refusal_is_a_refusal_and_hides_the_keys(code: int) -> None:
    answer, venue, waited = posted(status(code, "not you,  KEYKEYKEY"))
    assert isinstance(answer, OrderRejected)
    assert str(answer).startswith(f"o-1: rejected ({code})")
    assert "KEYKEYKEY" not in str(answer)
    assert (venue.times("post"), venue.times("get"), waited) == (1, 0, [])


def test_a_long_refusal_is_cut() -> None:
    answer, _, _ = posted(status(403, "x" * 900))
    assert len(str(answer)) == len("o-1: rejected (403): ") + 300


@pytest.mark.parametrize(
    "open_fate",
    [
        status(500),
        status(504),
        status(408),
        status(425),
        status(422, "client_order_id must be unique"),
        lost(),
        ValueError(),
        {"status": "new"},
        taken("other"),
        taken(state=""),
        {**taken(), "id": ""},
        None,
    ],
)
def test_an_open_fate_is_looked_up_by_its_id(
    open_fate: Said, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answer, venue, waited = posted(open_fate, get=[taken()])
    assert answer == placed(taken())
    assert (venue.times("post"), waited) == (1, LOOKS[:1])
    assert venue.asked[-1] == ("get", "/orders:by_client_order_id", {"client_order_id": "o-1"})
    assert "o-1: sent, and no answer that says what became of it" in caplog.text


@pytest.mark.parametrize(
    ("looks", "again"),
    [
        ([status(404)], lost()),
        ([status(404)], status(403)),
        ([status(404)], status(504)),
        ([status(500)], lost()),
        ([status(409)], lost()),
        ([lost()], lost()),
        ([None], lost()),
        ([[]], lost()),
        ([taken("other")], lost()),
        ([lost(), status(404)], lost()),
        ([status(404), lost()], lost()),
    ],
)
def test_what_no_look_finds_is_asked_for_once_more_and_then_stays_open(
    looks: list[Said], again: Said
) -> None:
    """That the venue does not know an order is no proof that it will never take it."""
    answer, venue, waited = posted(lost(), again, get=looks)
    assert type(answer) is OutcomeUnknown
    assert (venue.times("post"), venue.times("get"), waited) == (2, 10, LOOKS * 2)
    assert str(answer).startswith("o-1: sent, and the venue does not say what became of it")
    assert [told for what, _, told in venue.asked if what == "post"] == [order_request(ORDER)] * 2


def test_asked_for_again_under_its_id_an_order_is_taken_once() -> None:
    answer, venue, waited = posted(lost(), taken(), get=[status(404)])
    assert answer == placed(taken())
    assert (venue.times("post"), waited) == (2, LOOKS)
    answer, venue, waited = posted(
        lost(), status(422, "client_order_id must be unique"), get=[status(404)] * 5 + [taken()]
    )
    assert answer == placed(taken())
    assert (venue.times("post"), waited) == (2, LOOKS + LOOKS[:1])


def test_what_has_expired_is_not_asked_for_again() -> None:
    answer, venue, waited = posted(lost(), until=NOW + np.timedelta64(3, "s"), get=[status(404)])
    assert type(answer) is OutcomeUnknown
    assert (venue.times("post"), waited) == (1, LOOKS)
    answer, venue, _ = posted(taken(), until=NOW)
    assert type(answer) is OrderWithheld
    assert str(answer) == "o-1: not sent: it was to be sent before 20240305T173020Z"
    assert venue.times("post") == 0
    answer, venue, waited = posted(status(429, Retry_After="9"), until=NOW + np.timedelta64(5, "s"))
    assert type(answer) is OrderWithheld
    assert (venue.times("post"), waited) == (1, [9.0])


def test_a_look_may_find_what_an_earlier_one_did_not() -> None:
    answer, venue, waited = posted(lost(), get=[status(404), lost(), status(404), taken()])
    assert answer == placed(taken())
    assert (venue.times("get"), waited) == (4, LOOKS[:4])


@pytest.mark.parametrize("in_memory", [True, False])
def test_an_order_that_lands_after_every_look_is_found_and_never_sent_beside(
    in_memory: bool, tmp_path: Path
) -> None:
    """Whatever was sent is written down, and asked for until the venue says what became of it."""
    path = None if in_memory else tmp_path / "book"
    database = Database(path)
    book = IntentBook(database)
    desk, _ = outbox_at(Venue(post=[lost()], get=[status(404)]), book)
    with pytest.raises(OutcomeUnknown):
        desk.post(ORDER, SOON)
    (intent,) = desk.undetermined(is_any)
    assert (intent.order, intent.sent_at) == (replace(ORDER, reason="", expires_at=SOON), NOW)
    if path is not None:  # killed, and started again
        database.close()
        book = IntentBook(Database(path))
    later = {"timestamp": "2024-03-05T19:00:00Z"}
    venue = Venue(post=[taken()], get=[status(404), lost(), taken()], clock=[later])
    desk, waited = outbox_at(venue, book)
    assert [each.client_order_id for each in desk.undetermined(is_any)] == ["o-1"], "404"
    assert [each.client_order_id for each in desk.undetermined(is_any)] == ["o-1"], "no answer"
    assert desk.undetermined(lambda intent: isinstance(intent.order, SpreadOrder)) == ()
    assert desk.undetermined(is_any) == ()
    assert (venue.times("post"), venue.times("get"), waited) == (0, 3, [])
    assert desk.post(ORDER) == placed(taken())
    assert venue.times("post") == 0, "it is that order"


def test_an_order_of_unknown_fate_is_only_looked_for_until_somebody_asks_again() -> None:
    """What it assumes of the account may be so no more: a sale sent later could open a short."""
    book = IntentBook()
    book.begin(Intent(ORDER, NOW, SOON))
    venue = Venue(post=[taken("o-1", "filled")], get=[status(404)])
    desk, waited = outbox_at(venue, book)
    assert [intent.client_order_id for intent in desk.undetermined(is_any)] == ["o-1"]
    assert desk.fate("o-1") == "open"
    assert (venue.times("post"), venue.times("get"), waited) == (0, 2, [])
    assert desk.fate("o-1", again=True) == placed(taken("o-1", "filled"))
    assert venue.times("post") == 1
    assert desk.undetermined(is_any) == ()


def test_an_order_that_has_expired_is_not_asked_for_again() -> None:
    book = IntentBook()
    book.begin(Intent(ORDER, NOW, NOW))
    venue = Venue(get=[status(404)])
    desk, _ = outbox_at(venue, book)
    assert desk.fate("o-1", again=True) == "open"
    assert venue.times("post") == 0


def test_an_order_is_written_down_with_why_it_exists() -> None:
    book = IntentBook()
    desk, _ = outbox_at(Venue(post=[taken()]), book)
    desk.post(ORDER, SOON, "opening", "a premium")
    intent = book.get("o-1")
    assert intent is not None
    assert (intent.part, intent.reason) == ("opening", "a premium")


@pytest.mark.parametrize("state", ["sending", "open"])
def test_an_order_of_unknown_fate_that_is_posted_again_is_looked_for_and_sent_once_more(
    state: Any,
) -> None:
    book = IntentBook()
    book.begin(replace(Intent(ORDER, NOW, SOON), state=state))
    venue = Venue(post=[taken()], get=[status(404)])
    desk, _ = outbox_at(venue, book)
    assert desk.post(ORDER, SOON) == placed(taken())
    assert venue.times("post") == 1


@pytest.mark.parametrize(
    ("state", "goes"), [("planned", True), ("withheld", True), ("rejected", False)]
)
def test_where_an_id_works_twice_what_was_answered_goes_out_no_more(
    monkeypatch: pytest.MonkeyPatch, state: Any, goes: bool
) -> None:
    desk, _ = outbox_at(Venue())
    monkeypatch.setattr(OrderVenue, "one_order_an_id", False)
    assert desk.may_be_sent(replace(Intent(ORDER, NOW, SOON), state=state)) == goes
    monkeypatch.setattr(OrderVenue, "one_order_an_id", True)
    assert desk.may_be_sent(replace(Intent(ORDER, NOW, SOON), state=state))


def test_asked_again_a_busy_venue_is_not_waited_for_at_all() -> None:
    book = IntentBook()
    book.begin(Intent(ORDER, NOW, SOON))
    venue = Venue(post=[status(429, Retry_After="0.5"), taken()], get=[status(404)])
    desk, waited = outbox_at(venue, book)
    assert desk.fate("o-1", again=True) == "open"
    assert (venue.times("post"), waited) == (1, [])


@pytest.mark.parametrize("answer", [{"status": 7}, {"side": "cross"}, {"qty": "many"}])
def test_an_answer_about_one_order_that_says_nothing_makes_one_symbol_uncertain(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    book = IntentBook()
    book.begin(Intent(replace(ORDER, side="sell"), NOW, SOON))
    terms = {"symbol": "NVDA", "side": "sell", "qty": "10", "type": "market"}
    desk, _ = outbox_at(Venue(get=[{**taken(), **terms, **answer}]), book)
    with caplog.at_level(logging.WARNING):
        assert [intent.client_order_id for intent in desk.undetermined(is_any)] == ["o-1"]
    assert "o-1" in caplog.text


def test_only_what_can_land_no_more_was_never_taken(caplog: pytest.LogCaptureFixture) -> None:
    book = IntentBook()
    book.begin(Intent(ORDER, NOW, SOON))
    nearly = {"timestamp": "2024-03-06T17:31:19Z"}
    a_day = {"timestamp": "2024-03-06T17:31:20Z"}
    for clock, get, count in (
        (nearly, status(404), 1),
        (a_day, lost(), 1),
        (a_day, status(404), 0),
    ):
        desk, _ = outbox_at(Venue(get=[get], clock=[clock]), book)
        with caplog.at_level(logging.WARNING):
            assert len(desk.undetermined(is_any)) == count
    assert "o-1: the venue never took it" in caplog.text
    intent = book.get("o-1")
    assert intent is not None
    assert intent.state == "never_taken"


def test_an_order_for_options_that_have_expired_lands_no_more_an_hour_after_their_close() -> None:
    legs = ("SPY240305P00500000", "SPY240305P00495000")
    later = ("SPY240308P00500000", "SPY240308P00495000")
    good_friday = ("SPY240329P00500000", "SPY240329P00495000")
    early, hour_on = "2024-03-05T21:59:59Z", "2024-03-05T22:00:00Z"
    thursday = np.datetime64("2024-03-28T19:00", "ns")
    for options, sent, at, count in (
        (legs, NOW, early, 1),
        (legs, NOW, hour_on, 0),
        (later, NOW, hour_on, 1),
        (good_friday, thursday, "2024-03-28T20:59:59Z", 1),
        (good_friday, thursday, "2024-03-28T21:00:00Z", 0),
    ):
        book = IntentBook()
        order = SpreadOrder(
            "o-1", tuple(OptionLeg(contract_of(each), "buy") for each in options), 1
        )
        book.begin(Intent(order, sent, sent + (SOON - NOW)))
        desk, _ = outbox_at(Venue(get=[status(404)], clock=[{"timestamp": at}]), book)
        assert len(desk.undetermined(is_any)) == count


@pytest.mark.parametrize(
    ("before", "answers", "fate"),
    [
        (None, {"get": [status(404)]}, None),
        (None, {"get": [taken(state="filled")]}, taken(state="filled")),
        ("sending", {"get": [status(404)], "post": [lost()]}, "open"),
        ("open", {"get": [lost()], "post": [lost()]}, "open"),
        ("open", {"get": [taken(state="filled")]}, taken(state="filled")),
        ("working", {"get": [taken(), taken(state="canceled")], "delete": [{}]},
         taken(state="canceled")),
        ("working", {"get": [taken()], "delete": [{}]}, "open"),
        ("rejected", {}, None),
        ("never_taken", {}, None),
    ],
)  # fmt: skip
def test_a_fate_is_what_the_venue_says_or_open(
    before: Any, answers: dict[str, list[Said]], fate: Any
) -> None:
    book = IntentBook()
    if before:
        book.begin(Intent(ORDER, NOW, SOON, before))
    desk, _ = outbox_at(Venue(**answers), book)
    assert desk.fate("o-1") == (placed(fate) if isinstance(fate, dict) else fate)


WORDS = {"symbol": "NVDA", "side": "buy", "qty": "10", "type": "market", "time_in_force": "day"}


def test_orders_of_ours_that_work_at_the_venue_and_are_in_no_book_are_written_down_once() -> None:
    events = EventLog(database := Database())
    book = IntentBook(database, events)
    book.begin(Intent(replace(ORDER, client_order_id="ours-b"), NOW, SOON))
    known = book.get("ours-b")
    listed = [taken(name, **WORDS, filled_qty="4") for name in ("ours-a", "ours-b", "theirs")]
    venue = Venue(open=[listed])
    broker = AlpacaBroker(BrokerSettings(), KEYS, book=book, time=Passing().time, job="trade")
    broker._venue.client = venue  # type: ignore[assignment]
    for _ in range(2):
        broker.adopt("ours")
        adopted = book.get("ours-a")
        assert adopted is not None
        assert adopted.single == replace(ORDER, client_order_id="ours-a", reason="adopted")
        assert (adopted.sent_at, adopted.job, adopted.reason) == (NOW, "trade", "adopted")
        assert adopted.venue == "alpaca"
        assert adopted.progress == Progress("working", "id-ours-a", Decimal(4))
        assert book.get("ours-b") == known, "what is known of it stays"
        assert book.get("theirs") is None
    assert len(book.in_states(("working",))) == 1
    assert [each.kind for each in events.events("ours-a")] == ["working", "noted working"]
    assert venue.asked[0] == ("open", "/orders", {"status": "open", "limit": 500, "nested": "true"})


SPREAD = SpreadOrder(
    "s-1",
    tuple(OptionLeg(contract_of(f"SPY240308P00{strike}000"), "buy") for strike in (495, 500)),
    1,
)


def test_an_order_that_still_worked_is_followed_to_what_became_of_it() -> None:
    book = IntentBook()
    book.begin(Intent(ORDER, NOW, None, "working"))
    book.begin(Intent(SPREAD, NOW, None, "working"))
    book.begin(Intent(replace(ORDER, client_order_id="o-2"), NOW, None))
    venue = Venue(get=[taken(state="filled", filled_qty="10", filled_avg_price="5")])
    desk, _ = outbox_at(venue, book)
    desk.follow(lambda intent: isinstance(intent.order, Order))
    states = {each.client_order_id: each.state for each in book.select("1 = 1")}
    assert states == {"o-1": "filled", "s-1": "working", "o-2": "sending"}
    assert venue.times("get") == 1
    silent = Venue(get=[status(404)])
    desk, _ = outbox_at(silent, book)
    desk.follow(is_any)
    assert book.get("s-1").state == "working"  # type: ignore[union-attr]


def test_all_looks_for_orders_together_have_twenty_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = list[float]()

    @contextmanager
    def limited(seconds: float) -> Iterator[None]:
        limits.append(seconds)
        yield

    monkeypatch.setattr("foundation.transport.time_limit", limited)
    book = IntentBook()
    for number in range(3):
        book.begin(Intent(replace(ORDER, client_order_id=f"o-{number}"), NOW, SOON))
    desk, _ = outbox_at(Venue(get=[status(404)]), book)
    for ask in (desk.undetermined, desk.follow):
        limits.clear()
        ask(is_any)
        assert limits[0] == 20.0, "around all of them"
    limits.clear()
    desk.fate("o-1")
    assert limits[0] == 20.0


@pytest.mark.parametrize("state", STATES)
def test_of_an_order_that_was_sent_and_not_answered_nobody_knows_what_became(state: State) -> None:
    book = IntentBook()
    book.begin(Intent(ORDER, NOW, SOON, state))
    desk, _ = outbox_at(Venue(), book)
    assert desk.is_undetermined("o-1") is (state in ("sending", "open"))
    assert desk.was_begun("o-1") is (state != "planned")
    assert not desk.is_undetermined("o-2"), "it was never written down"
    assert not desk.was_begun("o-2")


def test_a_venue_that_asks_for_more_than_a_minute_in_all_is_left_alone() -> None:
    answer, venue, waited = posted(status(429, Retry_After="45"))
    assert isinstance(answer, OrderRejected)
    assert (venue.times("post"), waited) == (2, [45.0])


@pytest.mark.parametrize("look", [status(404), status(500), lost(), taken("other")])
def test_an_order_that_was_taken_is_never_sent_again_or_given_up(look: Said) -> None:
    book = IntentBook()
    book.begin(Intent(ORDER, NOW, None, "working"))
    later = {"timestamp": "2024-03-09T17:30:20Z"}
    venue = Venue(get=[look], post=[taken()], clock=[later])
    desk, _ = outbox_at(venue, book)
    for ask in (lambda: desk.fate("o-1"), lambda: desk.post(ORDER)):
        with pytest.raises(BrokerError, match="the venue took it, and does not say how it is now"):
            ask()
    intent = book.get("o-1")
    assert intent is not None
    assert (intent.state, venue.times("post")) == ("working", 0)


@pytest.mark.parametrize("terms", [{"side": "sell"}, {"qty": Decimal(11)}, {"symbol": "AAPL"}])
def test_another_order_under_a_used_id_is_refused_and_never_taken_for_it(
    terms: dict[str, Any],
) -> None:
    """After a restart the same instant may decide otherwise, under the same id."""
    desk, _ = outbox_at(Venue(post=[taken(state="filled")], get=[taken(state="filled")]))
    desk.post(ORDER)
    with pytest.raises(OrderRejected, match="another order of this id"):
        desk.post(replace(ORDER, **terms))
    known = status(422, "client_order_id must be unique")
    other = taken(state="filled", side="buy", qty="10", symbol="NVDA")
    desk, _ = outbox_at(Venue(post=[known], get=[other]))
    if "symbol" not in terms:
        with pytest.raises(OrderRejected, match="the venue has another order of this id"):
            desk.post(replace(ORDER, **terms))


def test_one_answer_about_another_order_loses_none_that_was_taken() -> None:
    """Were it believed, what was taken would be followed by nobody."""
    about = {"state": "filled", "side": "buy", "symbol": "NVDA", "filled_qty": "10"}
    odd = taken(**about, qty="11")
    right = taken(**about, qty="10", filled_avg_price="100")
    desk, _ = outbox_at(Venue(post=[lost()], get=[odd, right]))
    assert desk.post(ORDER).progress.state == "filled"
    other = {**odd, "id": "another"}
    desk, _ = outbox_at(Venue(post=[lost()], get=[odd, other]))
    with pytest.raises(OutcomeUnknown):
        desk.post(ORDER)
    assert desk.is_undetermined(ORDER.client_order_id)


def test_one_wrong_answer_of_the_clock_gives_no_order_up_and_sends_none_again() -> None:
    book = IntentBook()
    book.begin(Intent(ORDER, NOW, SOON))
    ahead = {"timestamp": "2024-03-09T17:30:20Z"}
    soon_after = {"timestamp": "2024-03-05T17:40:20Z"}
    venue = Venue(get=[status(404)], post=[taken()], clock=[ahead, soon_after])
    desk, _ = outbox_at(venue, book)
    assert [intent.client_order_id for intent in desk.undetermined(is_any)] == ["o-1"]
    assert book.get("o-1").state in ("sending", "open")  # type: ignore[union-attr]
    assert venue.times("post") == 0


@pytest.mark.parametrize("ahead", ["2024-03-05T19:30:20Z", "2024-03-09T17:30:20Z"])
def test_a_clock_that_is_wrong_once_is_asked_again_and_right_at_once(ahead: str) -> None:
    venue = Venue(clock=[CLOCK, {"timestamp": ahead}, CLOCK])
    desk, _ = venue_at(venue)
    assert [desk.now() for _ in range(3)] == [NOW] * 3
    moved = np.datetime64(ahead[:-1], "ns")
    desk, _ = venue_at(Venue(clock=[CLOCK, {"timestamp": ahead}]))
    assert [desk.now() for _ in range(2)] == [NOW, moved], "two answers that agree are believed"
    desk, _ = venue_at(Venue(clock=[{"timestamp": ahead}, CLOCK]))
    assert [desk.now() for _ in range(2)] == [moved, NOW], "also where the first was wrong"


@pytest.mark.first_example
@pytest.mark.parametrize("speed", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("every", [(15.0,), (15.0, 0.2), (5.0,)])
def test_a_clock_that_stands_still_or_is_slow_is_believed_for_five_minutes(
    speed: float, every: tuple[float, ...]
) -> None:
    venue = Venue()
    desk, waited = venue_at(venue)
    elapsed = 0.0
    refused = 0
    long_enough = 450 / (1 - speed)
    for pause in itertools.islice(itertools.cycle(every), round(long_enough / np.mean(every))):
        moved = NOW + np.timedelta64(round(speed * elapsed * 1e6), "us")
        venue.words["clock"] = [{"timestamp": f"{moved}Z"}]
        behind = (1 - speed) * elapsed
        if behind > 300.1:
            with pytest.raises(BrokerError, match="seconds less than have passed here"):
                desk.now()
            refused += 1
        elif behind < 299.9:
            assert desk.now() == moved
        elapsed += pause
        waited[:] = [elapsed]
    assert refused > 5


def test_where_our_own_clock_has_jumped_the_venues_is_believed_again_after_a_minute() -> None:
    venue = Venue()
    desk, waited = venue_at(venue)
    desk.now()
    waited.append(400.0)
    passed = 0.0
    refusals = []
    for _ in range(40):
        venue.words["clock"] = [{"timestamp": f"{NOW + np.timedelta64(round(passed), 's')}Z"}]
        try:
            desk.now()
        except BrokerError:
            refusals.append(passed)
        waited.append(15.0)
        passed += 15.0
    assert refusals == [0.0, 15.0, 30.0, 45.0]


def test_the_waiting_clock_of_a_practice_server_may_stand_still() -> None:
    desk, waited = venue_at(Venue())
    desk._settings = BrokerSettings(url_override="http://127.0.0.1:9")
    desk.now()
    waited.append(86_400.0)
    assert desk.now() == NOW


def test_between_two_readings_the_venues_time_goes_on_as_ours() -> None:
    desk, waited = venue_at(Venue())
    assert desk.estimated_now() == NOW, "it is read where it never was"
    waited[:] = [1234.5]
    assert desk.estimated_now() == NOW + np.timedelta64(1_234_500, "ms")


def test_two_answers_of_the_clock_that_make_no_sense_are_none() -> None:
    words = ("2024-03-05T17:30:20Z", "2024-03-09T17:30:20Z", "2024-03-07T17:30:20Z")
    desk, _ = venue_at(Venue(clock=[{"timestamp": word} for word in words]))
    desk.now()
    with pytest.raises(BrokerError, match=r"the clock shows 2024-03-09.*, and then 2024-03-07"):
        desk.now()


def test_a_refused_order_may_be_sent_again_and_a_taken_one_is_that_order() -> None:
    venue = Venue(post=[status(403), taken()], get=[taken(state="filled")])
    desk, _ = outbox_at(venue)
    with pytest.raises(OrderRejected):
        desk.post(ORDER)
    assert desk.undetermined(is_any) == ()
    assert desk.post(ORDER) == placed(taken())
    assert desk.post(ORDER) == placed(taken(state="filled"))
    assert venue.times("post") == 2


def test_what_a_venue_does_not_know_is_none_and_what_it_refuses_is_named() -> None:
    desk, _ = venue_at(Venue(get=[status(404)]))
    assert desk.lookup("asset NOPE", "/assets/NOPE") is None
    assert desk.find("o-1") is None
    desk, _ = venue_at(Venue(get=[status(403)]))
    with pytest.raises(BrokerError, match="order o-1: refused"):
        desk.find("o-1")
    desk, _ = venue_at(Venue(get=[taken()]))
    assert desk.find("o-1") == placed(taken())


def test_an_order_that_was_replaced_is_followed_and_both_have_filled() -> None:
    old = taken(state="replaced", replaced_by="id-o-2", filled_qty="3")
    new = taken("o-2", "filled", filled_qty="7")
    venue = Venue(get=[old, new])
    desk, _ = venue_at(venue)
    answer = desk.refreshed(placed(taken()))
    assert answer.is_done
    assert answer.chain == (placed(new, old), placed(old))
    assert [path for what, path, _ in venue.asked if what == "get"] == [
        "/orders/id-o-1",
        "/orders/id-o-2",
    ]
    desk, _ = venue_at(Venue(get=[old, taken("o-2"), taken("o-2", "filled")]))
    working = desk.refreshed(placed(taken()))
    assert not working.is_done
    assert desk.refreshed(working).chain[1] == placed(old)
    endless = {**taken("o-2", "replaced"), "replaced_by": "id-o-2"}
    desk, _ = venue_at(Venue(get=[old, endless]))
    with pytest.raises(BrokerError, match="it was replaced more than"):
        desk.refreshed(placed(taken()))
    desk, _ = venue_at(Venue(get=[taken(state="replaced")]))
    with pytest.raises(BrokerError, match="replaced_by does not say by what"):
        desk.refreshed(placed(taken()))


def test_nine_orders_in_the_place_of_one_are_followed_and_a_tenth_is_one_too_many() -> None:
    def chain(successors: int) -> list[Said]:
        replaced = [
            taken(f"o-{k}", "replaced", replaced_by=f"id-o-{k + 1}")
            for k in range(1, successors + 1)
        ]
        return [*replaced, taken(f"o-{successors + 1}", "filled")]

    desk, _ = venue_at(Venue(get=chain(9)))
    assert len(desk.refreshed(placed(taken())).chain) == 10
    desk, _ = venue_at(Venue(get=chain(10)))
    with pytest.raises(BrokerError, match="it was replaced more than 9 times"):
        desk.refreshed(placed(taken()))


SOLD = {"qty": "10", "filled_qty": "10", "filled_avg_price": "5"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"filled_qty": "10.5"},
        {"status": "rejected"},
        {"legs": [{"symbol": "A", "status": "filled", "qty": "1", "filled_qty": "2"}]},
        {"legs": [{"symbol": "A", "status": "rejected", "qty": "1", "filled_qty": "1"}]},
    ],
)
def test_fills_that_cannot_be_are_asked_for_once_more_and_then_not_believed(
    wrong: dict[str, Any],
) -> None:
    sound = taken(state="filled", **SOLD)
    desk, waited = venue_at(Venue(get=[{**sound, **wrong}, sound]))
    assert desk.refreshed(placed(taken())) == placed(sound)
    assert waited == LOOKS[:1]
    desk, _ = venue_at(Venue(get=[{**sound, **wrong}]))
    with pytest.raises(BrokerError, match=r"order o-1: .*filled_qty"):
        desk.refreshed(placed(taken()))


@pytest.mark.parametrize("symbol", ["NVDA", "BTC/USD"])
@pytest.mark.parametrize(
    ("mean", "believed"),
    [("1", True), ("10000", True), ("0.99", False), ("10001", False), (None, True), ("0", True)],
)
def test_a_fill_a_hundred_times_from_the_last_price_is_not_believed(
    symbol: str, mean: str | None, believed: bool
) -> None:
    prices = {"NVDA": 100.0, "BTCUSD": 100.0}
    answer = taken(symbol=symbol, filled_avg_price=mean)
    PlacedOrder.of("o-1", answer)
    for other in ({"symbol": "AAPL"}, {"symbol": None}, {"symbol": "SPY240308P00500000"}):
        PlacedOrder.of("o-1", {**answer, **other}, prices.get)
    if believed:
        assert PlacedOrder.of("o-1", answer, prices.get).answer == answer
        return
    with pytest.raises(SenselessAnswer, match=f"filled_avg_price is {mean}, and {symbol} was at"):
        PlacedOrder.of("o-1", answer, prices.get)


@pytest.mark.parametrize(
    ("terms", "same"),
    [
        ({}, True),
        ({"symbol": "NVDA", "side": "buy", "qty": "10.0"}, True),
        ({"symbol": "AAPL"}, False),
        ({"side": "sell"}, False),
        ({"qty": "9"}, False),
    ],
)
def test_an_answer_is_about_an_order_of_other_terms_where_it_says_so(
    terms: dict[str, Any], same: bool
) -> None:
    def is_of(order: AnyOrder, **words: Any) -> bool:
        return placed(taken(order.client_order_id, **words)).is_of(Intent(order, NOW))

    assert is_of(ORDER, **terms) is same
    coin = replace(ORDER, symbol="BTCUSD")
    assert is_of(coin, **{**terms, "symbol": "BTC/USD"}) is (same or "symbol" in terms)
    if "symbol" not in terms and "side" not in terms:
        assert is_of(replace(SPREAD, contracts=10), **terms) is same


def test_an_order_that_somebody_has_replaced_with_another_quantity_is_ours_still() -> None:
    old = taken(state="replaced", replaced_by="id-o-2", qty="10", side="buy")
    new = taken("o-2", "filled", qty="4", side="buy")
    desk, _ = outbox_at(Venue(post=[lost()], get=[old, new]))
    assert desk.post(ORDER).chain == (placed(new, old), placed(old))


def test_an_order_good_till_cancelled_goes_on_after_a_day_that_is_done() -> None:
    assert placed(taken(state="done_for_day")).is_done
    assert placed(taken(state="done_for_day", time_in_force="day")).is_done
    assert not placed(taken(state="done_for_day", time_in_force="gtc")).is_done


@pytest.mark.parametrize("said", [None, [], {}, taken("other"), {**taken(), "id": "id-o-9"}])
def test_an_answer_about_something_else_is_not_booked(said: Said) -> None:
    desk, _ = venue_at(Venue(get=[said]))
    with pytest.raises(BrokerError, match="order o-1: the answer makes no sense"):
        desk.refreshed(placed(taken()))
    with pytest.raises(BrokerError, match="order o-1: the answer makes no sense"):
        desk.with_legs(placed(taken()))


@pytest.mark.parametrize("done", ["filled", "canceled", "expired", "rejected", "done_for_day"])
def test_what_is_done_is_asked_for_no_more(done: str) -> None:
    venue = Venue(get=[taken(state="new")])
    desk, waited = venue_at(venue)
    over = placed(taken(state=done))
    assert desk.refreshed(over) is over
    assert Outbox(desk).end(over) is over
    assert desk.refreshed(placed(taken())) == placed(taken(state="new"))
    assert (venue.asked, waited) == ([("get", "/orders/id-o-1", {"nested": "true"})], [])


def test_legs_are_read_where_an_answer_has_none() -> None:
    venue = Venue(get=[taken(legs=[{"n": 1}])])
    desk, _ = venue_at(venue)
    has_legs = placed(taken(legs=[{"n": 2}]))
    assert desk.with_legs(has_legs) is has_legs
    assert desk.with_legs(placed(taken())) == placed(taken(legs=[{"n": 1}]))
    assert venue.times("get") == 1


@pytest.mark.parametrize("said", [{}, status(422), status(404)])
def test_a_cancelled_order_is_followed_until_it_has_ended(said: Said) -> None:
    venue = Venue(delete=[said], get=[taken(), taken(), taken(state="canceled")])
    desk, waited = outbox_at(venue)
    assert desk.end(placed(taken())).status == "canceled"
    assert waited == LOOKS[:2]
    assert venue.asked[0] == ("delete", "/orders/id-o-1", None)
    still = Venue(delete=[{}], get=[taken()])
    desk, waited = outbox_at(still)
    assert desk.end(placed(taken())).status == "new"
    assert waited == LOOKS[:-1], "nothing is looked at after the last wait"


@pytest.mark.parametrize("passing", [status(502), status(429), lost()])
def test_a_cancellation_is_repeated_where_the_venue_did_not_hear_it(passing: Said) -> None:
    venue = Venue(delete=[passing, passing, {}], get=[taken(state="canceled")])
    desk, waited = outbox_at(venue)
    assert desk.end(placed(taken())).status == "canceled"
    assert (venue.times("delete"), waited) == (3, LOOKS[:2])
    venue = Venue(delete=[passing])
    desk, waited = outbox_at(venue)
    with pytest.raises(BrokerError, match="cancelling order o-1: "):
        desk.end(placed(taken()))
    assert (venue.times("delete"), waited) == (4, LOOKS[:3])


def test_ending_an_order_is_not_silent_and_takes_its_time_at_most(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    venue = Venue(delete=[lost(), status(503), {}], get=[taken(state="canceled")])
    desk, _ = outbox_at(venue)
    assert desk.end(placed(taken())).status == "canceled"
    assert caplog.messages == [
        "asked again: Alpaca (paper): cancelling order o-1: no answer: lost",
        'asked again: Alpaca (paper): cancelling order o-1: status 503: {"message": "no"}',
    ]
    monkeypatch.setattr("execution.posting.ENDING", 0.0)
    unreachable = BrokerSettings(url_override="http://127.0.0.1:9")
    desk = Outbox(OrderVenue(unreachable, KEYS, Passing().time))
    with pytest.raises(BrokerError, match="no time is left for the request"):
        desk.end(placed(taken()))


def test_a_cancellation_that_is_refused_is_named() -> None:
    venue = Venue(delete=[status(403)])
    desk, _ = outbox_at(venue)
    with pytest.raises(BrokerError, match="cancelling order o-1: refused"):
        desk.end(placed(taken()))
    assert venue.times("delete") == 1


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        (BrokerSettings(), "https://paper-api.alpaca.markets"),
        (BrokerSettings(paper=False), "https://api.alpaca.markets"),
        (BrokerSettings(url_override="http://127.0.0.1:9/"), "http://127.0.0.1:9"),
    ],
)
def test_a_desk_asks_the_venue_of_its_settings_with_its_keys_for_plain_answers(
    settings: BrokerSettings, where: str
) -> None:
    client = OrderVenue(settings, KEYS, lambda _: None).client
    assert (client._base_url, client._api_key, client._secret_key, client._use_raw_data) == (
        where,
        KEYS.key,
        KEYS.secret,
        True,
    )


# The broker over it


FILLED = {"filled_qty": "10", "filled_avg_price": "5.5", "filled_at": "2024-03-05T17:30:21Z"}


def order(
    name: str = "o-1", symbol: str = "NVDA", side: Any = "buy", qty: str = "10", **more: Any
) -> Order:
    return Order(name, symbol, side, Decimal(qty), "test", **more)


def broker_at(
    patience: float = 10.0, **words: list[Said]
) -> tuple[AlpacaBroker, Venue, list[float], list[float]]:
    """A broker, the venue it asks, how long it has waited in all, and between looks at orders."""
    told = {"open": [[]], "positions": [[]], "account": [FACTS], "clock": [CLOCK], **words}
    venue = Venue(**told)
    passing = Passing()
    between = list[float]()

    def poll(seconds: float) -> None:
        between.append(seconds)
        passing.wait(seconds)

    broker = AlpacaBroker(BrokerSettings(), KEYS, patience=patience, time=passing.time)
    broker._venue.time = replace(passing.time, wait=poll)
    broker._venue.client = venue  # type: ignore[assignment]
    return broker, venue, passing.waited, between


def test_an_account_is_believed_as_of_the_venues_clock_and_not_of_one_wrong_answer_of_it() -> None:
    seen = list[np.datetime64]()

    def believe(reading: Reading) -> Account:
        seen.append(reading.account.as_of)
        return reading.account

    ahead = {"timestamp": "2024-03-09T17:30:20Z"}
    broker = AlpacaBroker(BrokerSettings(), KEYS, time=Passing().time, believe=believe)
    broker._venue.client = Venue(
        open=[[]], positions=[[]], account=[FACTS], clock=[CLOCK, ahead, CLOCK]
    )
    assert [broker.account().as_of for _ in range(2)] == [NOW] * 2
    assert seen == [NOW] * 2


def test_an_order_is_looked_at_after_longer_and_longer_until_patience_ends() -> None:
    broker, venue, _, between = broker_at(4.0, post=[taken()], get=[taken()], delete=[{}])
    assert broker.submit([order(type="limit", limit_price=5.0)]) == []
    assert between == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, pytest.approx(0.45)]
    assert venue.times("delete") == 0, "what waits is left waiting"
    assert venue.times("get") == len(between)


def test_ten_seconds_are_waited_for_where_nothing_else_is_said() -> None:
    passing = Passing()
    broker = AlpacaBroker(BrokerSettings(), KEYS, time=passing.time)
    broker._venue.client = Venue(
        open=[[]], positions=[[]], account=[FACTS], clock=[CLOCK], post=[taken()], get=[taken()]
    )
    broker.submit([order(type="limit", limit_price=5.0)])
    assert passing.elapsed() == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("kind", "cancelled"),
    [({}, True), ({"tif": "gtc"}, True), ({"tif": "opg"}, False), ({"tif": "cls"}, False),
     ({"type": "limit", "limit_price": 1.0}, False)],
)  # fmt: skip
def test_what_is_for_now_is_cancelled_when_patience_ends(
    kind: dict[str, Any], cancelled: bool
) -> None:
    broker, venue, _, between = broker_at(
        0.0, post=[taken()], get=[taken(state="canceled")], delete=[{}]
    )
    broker.submit([order(**kind)])
    assert (venue.times("delete"), between) == (int(cancelled), [])


def test_what_is_done_is_not_waited_for_and_a_part_counts() -> None:
    broker, venue, _, between = broker_at(post=[taken(state="filled", **FILLED)])
    (fill,) = broker.submit([order(side="sell")])
    assert fill == Fill(
        "o-1", "NVDA", Decimal(-10), 5.5, 0.0, np.datetime64("2024-03-05T17:30:21", "ns")
    )
    assert (between, venue.times("get")) == ([], 0)
    part = {
        "filled_qty": "4",
        "filled_avg_price": "5",
        "filled_at": None,
        "updated_at": "2024-03-05T17:31:00Z",
    }
    broker, _, _, _ = broker_at(post=[taken(state="canceled", **part)])
    (fill,) = broker.submit([order()])
    assert (fill.qty, fill.at) == (4, np.datetime64("2024-03-05T17:31", "ns"))


def test_of_two_orders_the_one_that_is_not_done_is_waited_for() -> None:
    done = taken("o-1", "filled", **FILLED)
    later = taken("o-2", "filled", **FILLED)
    broker, _, _, between = broker_at(post=[done, taken("o-2")], get=[taken("o-2"), later])
    assert [f.client_order_id for f in broker.submit([order("o-1"), order("o-2")])] == [
        "o-1",
        "o-2",
    ]
    assert between == [0.05, 0.1]


@pytest.mark.parametrize(
    ("state", "warned"),
    [("rejected", True), ("expired", True), ("canceled", False)],
)
def test_what_the_venue_takes_and_then_refuses_is_logged(
    state: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    broker, _, _, _ = broker_at(post=[taken(state=state, filled_qty="0")])
    with caplog.at_level(logging.WARNING):
        assert broker.submit([order()]) == []
    assert (f"{state} by the venue after it was taken" in caplog.text) is warned


def test_an_account_once_read_is_the_account_for_a_minute() -> None:
    done = taken(state="filled", **FILLED)
    broker, venue, waited, _ = broker_at(post=[done], get=[done])
    broker.submit([order()])
    broker.submit([order()])
    assert venue.times("account") == 1
    waited.append(60.0 - sum(waited))
    broker.submit([order()])
    assert venue.times("account") == 1
    waited.append(0.1)
    broker.submit([order()])
    assert venue.times("account") == 2
    broker.cancel([])
    broker.submit([order()])
    assert venue.times("account") == 3
    broker.submit([])
    assert venue.times("account") == 3


def test_what_has_filled_is_held_without_asking_and_what_still_works_is_asked_for() -> None:
    broker, venue, _, _ = broker_at(
        0.0, post=[taken(name, state="filled", **FILLED) for name in ("o-1", "o-3", "o-4")]
    )
    broker.submit([order()])
    assert broker.submit([order("o-2", side="sell", qty="11")]) == [], "10 are held"
    assert [f.qty for f in broker.submit([order("o-3", side="sell", qty="10", reduces=True)])] == [
        -10
    ]
    assert [f.qty for f in broker.submit([order("o-4", side="sell", qty="11")])] == [-10]
    assert (venue.times("post"), venue.times("account")) == (3, 1)
    broker, venue, _, _ = broker_at(0.0, post=[taken()], get=[taken()], delete=[{}])
    broker.submit([order(type="limit", limit_price=5.0)])
    broker.submit([order()])
    assert venue.times("account") == 2


def test_orders_of_one_submission_that_wait_stand_beside_each_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bid = order("b-1", tif="gtc", type="limit", limit_price=5.0)
    offer = order("s-1", tif="gtc", side="sell", type="limit", limit_price=5.0)
    broker, venue, _, _ = broker_at(0.0, post=[taken("b-1")], get=[taken("b-1")])
    broker.submit([bid, offer])
    assert venue.times("post") == 1
    assert "b-1 (a wash trade)" in caplog.text


def test_an_order_that_the_venue_refuses_stands_beside_none() -> None:
    bid = order("b-1", tif="gtc", type="limit", limit_price=5.0)
    offer = order("s-1", tif="gtc", side="sell", type="limit", limit_price=5.0)
    broker, venue, _, _ = broker_at(0.0, post=[status(403), taken("s-1")], get=[taken("s-1")])
    broker.submit([bid, offer])
    assert [told["client_order_id"] for what, _, told in venue.asked if what == "post"] == [
        "b-1",
        "s-1",
    ]


ASSET = {
    "tradable": True,
    "status": "active",
    "shortable": True,
    "easy_to_borrow": True,
    "fractionable": True,
}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, ("1e-9", "1e-9", True, True, True, True)),
        ({"min_trade_increment": "0.001"}, ("0.001", "0.001", True, True, True, True)),
        (
            {"min_trade_increment": "0.001", "min_order_size": "0.01"},
            ("0.001", "0.01", True, True, True, True),
        ),
        ({"fractionable": False}, ("1", "1", True, True, True, False)),
        ({"fractionable": None}, ("1", "1", True, True, True, False)),
        ({"tradable": False}, ("1e-9", "1e-9", False, True, True, True)),
        ({"status": "inactive"}, ("1e-9", "1e-9", False, True, True, True)),
        ({"shortable": None}, ("1e-9", "1e-9", True, False, True, True)),
        ({"easy_to_borrow": None}, ("1e-9", "1e-9", True, True, False, True)),
    ],
)
def test_an_asset_is_what_the_venue_says_and_no_more(
    changes: dict[str, Any], found: tuple[Any, ...]
) -> None:
    broker, _, _, _ = broker_at(get=[{**ASSET, **changes}])
    increment, smallest, tradable, shortable, easy, fractionable = found
    expected = Asset(
        "NVDA", tradable, shortable, easy, fractionable, Decimal(increment), Decimal(smallest)
    )
    assert broker.assets(["NVDA"]) == {"NVDA": expected}


def test_assets_once_asked_for_bind_what_is_sent() -> None:
    broker, venue, _, _ = broker_at(get=[{**ASSET, "tradable": False}, status(404)], post=[taken()])
    assert set(broker.assets(["NVDA", "NOPE"])) == {"NVDA"}
    assert broker.submit([order()]) == []
    assert venue.times("post") == 0


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (order(), {}),
        (
            order("o-1", "BTCUSD", qty="0.00000001", tif="gtc"),
            {"symbol": "BTC/USD", "qty": "0.00000001", "time_in_force": "gtc"},
        ),
        (
            order(side="sell", type="limit", limit_price=5.25),
            {"side": "sell", "type": "limit", "limit_price": "5.25"},
        ),
        (
            order(type="stop_limit", limit_price=5.0, stop_price=4.0),
            {"type": "stop_limit", "limit_price": "5.0", "stop_price": "4.0"},
        ),
        (
            order(type="trailing_stop", trail_price=1.5),
            {"type": "trailing_stop", "trail_price": "1.5"},
        ),
        (
            order(type="trailing_stop", trail_percent=2.0),
            {"type": "trailing_stop", "trail_percent": "2.0"},
        ),
        (
            order(type="limit", limit_price=5.0, extended_hours=True),
            {"type": "limit", "limit_price": "5.0", "extended_hours": True},
        ),
    ],
)
def test_an_order_is_said_in_the_venues_words(sent: Order, says: dict[str, Any]) -> None:
    broker, venue, _, _ = broker_at(0.0, post=[taken()], get=[taken()], delete=[{}])
    broker.submit([sent])
    plain = {
        "symbol": "NVDA",
        "qty": "10",
        "side": "buy",
        "type": "market",
        "time_in_force": "day",
        "client_order_id": "o-1",
    }
    assert [told for what, _, told in venue.asked if what == "post"] == [{**plain, **says}]


def test_the_account_asks_for_open_orders_before_positions() -> None:
    broker, venue, _, _ = broker_at()
    account = broker.account()
    assert (account.cash, account.as_of, broker.now()) == (1000.0, NOW, NOW)
    assert venue.asked[0] == ("open", "/orders", {"status": "open", "limit": 500, "nested": "true"})
    assert [what for what, _, _ in venue.asked[:3]] == ["open", "open", "positions"]


def test_cancelling_ends_what_is_open_and_leaves_the_rest() -> None:
    broker, venue, _, _ = broker_at(
        get=[status(404), taken("o-2"), taken("o-2", "canceled", qty="10", filled_qty="4")],
        delete=[{}],
    )
    assert broker.cancel(["o-1", "o-2"]) == {"o-2": Decimal(6)}
    assert [path for what, path, _ in venue.asked if what == "delete"] == ["/orders/id-o-2"]


def test_a_cancellation_that_does_not_end_its_order_is_told() -> None:
    """`Nothing to cancel` may be said of an order that works: its successor would be a second."""
    broker, *_ = broker_at(get=[taken("o-2", qty="10")], delete=[status(422)])
    with pytest.raises(OutcomeUnknown, match="o-2: cancelled, and it still works"):
        broker.cancel(["o-2"])


ANSWER = taken(
    state="filled",
    **FILLED,
    symbol="NVDA",
    side="buy",
    qty="10",
    type="market",
    time_in_force="day",
    updated_at="2024-03-05T17:30:21Z",
)


@pytest.mark.first_example
@pytest.mark.parametrize("field", ANSWER)
def test_a_field_of_an_orders_answer_that_goes_or_changes_is_the_same_fill_or_one_refusal(
    field: str,
) -> None:
    expected = broker_at(post=[ANSWER])[0].submit([order()])
    seen = 0
    for value in ("removed", *VALUES):
        answer = {**ANSWER, field: value}
        if value == "removed":
            del answer[field]
        for first in (answer, taken()):
            broker, *_ = broker_at(post=[first], get=[answer], delete=[{}])
            fills, why = answered(lambda broker=broker: broker.submit([order()]))
            if fills is None:
                assert "\n" not in why
                seen += 1
                continue
            if value == 7.5 and field in ("qty", "filled_qty", "filled_avg_price"):
                continue  # a number that could be: nobody can know better
            if field == "filled_at" and value in (None, "", "removed"):
                assert fills == expected, "the order changed last when it filled"
                continue
            # An order in no state that is known still works, and nothing is booked as done.
            unseen = field == "status" and broker._last is None
            other = field == "symbol" and first is answer and fills == []
            assert fills == expected or unseen or other, (field, value)
    assert seen or field in ("type", "time_in_force", "updated_at"), "not read of what has filled"


@pytest.mark.parametrize("stated", [{"filled_qty": "2"}, {"filled_qty": "1"}, {}])
def test_of_legs_that_do_not_say_what_has_filled_nothing_is_concluded(
    stated: dict[str, Any],
) -> None:
    """Nothing sold, where two were, is a short spread that nobody watches."""
    silent = [{k: v for k, v in leg.items() if k != "filled_qty"} for leg in LEGS]
    canceled = [{**leg, "status": "canceled"} for leg in silent]
    for legs in (silent, canceled, [{**leg, "filled_avg_price": None} for leg in canceled]):
        if stated or any(leg["filled_avg_price"] for leg in legs):
            with pytest.raises(BrokerError, match=r"filled_qty|different numbers"):
                spread_traded([placed(taken(state="canceled", legs=legs, **stated))])
    with pytest.raises(BrokerError, match=r"filled_qty|different numbers"):
        spread_traded([placed(taken(state="canceled", legs=[], **stated))])
    nothing = placed(taken(state="canceled", legs=[], filled_qty="0"))
    assert spread_traded([nothing]) == (0, Decimal(0))
    with pytest.raises(BrokerError, match="different numbers: 1, 2"):
        spread_traded([placed(taken(state="canceled", legs=LEGS, filled_qty="1"))])


LEG = {"symbol": "SPY240305P00500000", "side": "sell", "status": "filled", "filled_qty": "2"}
LEGS = [
    {**LEG, "filled_avg_price": "1.5"},
    {**LEG, "symbol": "SPY240305P00495000", "side": "buy", "filled_avg_price": "0.5"},
]


@pytest.mark.parametrize("beside", [True, False])
def test_an_order_that_has_expired_by_the_venues_clock_is_kept_back(beside: bool) -> None:
    broker, venue, waited, _ = broker_at(0.0, post=[taken("o-2", "filled", **FILLED)])
    broker.account()
    venue.words["clock"] = [{"timestamp": "2024-03-05T17:31:20Z"}]
    waited.append(30.0)
    broker.submit([order(expires_at=SOON), *([order("o-2")] if beside else [])])
    sent = [told["client_order_id"] for what, _, told in venue.asked if what == "post"]
    assert sent == ["o-2"] * beside


def test_an_order_that_never_expires_is_sent_without_a_look_at_the_clock() -> None:
    broker, venue, _, _ = broker_at(post=[taken(state="filled", **FILLED)])
    broker.account()
    asked = venue.times("clock")
    broker.submit([order()])
    assert venue.times("clock") == asked


def test_orders_of_a_strategy_that_work_are_written_down_and_those_of_others_are_not() -> None:
    names = ["kelly-20240305T173000Z-NVDA-0-0", "kelly-b-20240305T173000Z-NVDA-0-0", "by-hand"]
    broker, venue, _, _ = broker_at(open=[[taken(name, **WORDS) for name in names]], get=[taken()])
    broker.adopt("kelly")
    broker.follow()
    assert [query for what, _, query in venue.asked if what == "get"] == [
        {"client_order_id": names[0]}
    ]


def test_spreads_are_another_jobs_to_look_for() -> None:
    book = IntentBook()
    for state in ("working", "sending"):
        book.begin(Intent(replace(SPREAD, client_order_id=state), NOW, None, state))  # type: ignore[arg-type]
    book.begin(Intent(ORDER, NOW, None, "working"))
    told = {"open": [[]], "positions": [[]], "account": [FACTS], "get": [taken()]}
    venue = Venue(**told)
    broker = AlpacaBroker(BrokerSettings(), KEYS, book=book, time=Passing().time)
    broker._venue.client = venue
    broker.follow()
    broker.account()
    looked = [query for what, path, query in venue.asked if what == "get"]
    assert looked == [{"client_order_id": "o-1"}]


def test_a_reduction_goes_out_beside_an_opening_of_which_nobody_knows_what_became() -> None:
    """A venue that has the opening refuses the reduction itself, as a wash trade."""
    bid = order("b-1", tif="gtc", type="limit", limit_price=5.0)
    sale = order("s-1", side="sell", type="limit", limit_price=4.0)
    for reduces, state, sent in ((True, "sending", 1), (False, "sending", 0), (True, "working", 0)):
        book = IntentBook()
        book.begin(Intent(bid, NOW, None, state))  # type: ignore[arg-type]
        working = taken("b-1", **{**WORDS, "type": "limit", "limit_price": "5", "tif": "gtc"})
        told = {
            "open": [[] if state == "sending" else [working]],
            "positions": [[{"symbol": "NVDA", "qty": "10", "current_price": "5"}]],
            "account": [FACTS],
            "get": [status(404)],
            "post": [taken("s-1", "filled", **FILLED)],
        }
        venue = Venue(**told)
        broker = AlpacaBroker(BrokerSettings(), KEYS, book=book, time=Passing().time)
        broker._venue.client = venue
        broker.submit([replace(sale, reduces=reduces)])
        assert venue.times("post") == sent, (reduces, state)


@pytest.mark.parametrize("field", LEGS[0])
def test_a_field_of_a_leg_that_goes_or_changes_is_the_same_spread_or_one_refusal(
    field: str,
) -> None:
    assert spread_traded([placed(taken(legs=LEGS))]) == (2, Decimal(1))
    refused = 0
    for value in ("removed", *VALUES):
        leg = {**LEGS[0], field: value}
        if value == "removed":
            del leg[field]
        traded, why = answered(lambda leg=leg: spread_traded([placed(taken(legs=[leg, LEGS[1]]))]))
        if traded is None:
            assert "\n" not in why
            refused += 1
            continue
        if value == 7.5 and field == "filled_avg_price":
            continue  # a number that could be
        assert traded == (2, Decimal(1)), (field, value)
    assert refused or field == "status"


def test_a_fill_at_a_price_that_no_market_came_to_is_looked_at_again() -> None:
    """The price is that which was seen last, also by an earlier decision."""
    absurd = taken(state="filled", symbol="NVDA", **{**FILLED, "filled_avg_price": "20000000"})
    sound = taken(state="filled", symbol="NVDA", **FILLED)
    broker, venue, _, _ = broker_at(post=[absurd], get=[sound])
    price = float(FILLED["filled_avg_price"])
    account = Account(1000.0, {}, {"NVDA": price}, NOW)
    broker.submit([], Sight(account))
    (fill,) = broker.submit([ORDER], Sight(account))
    assert fill.price == price
    assert venue.times("get") >= 1
