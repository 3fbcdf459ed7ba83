"""An order's way to a venue that says this and that: how often it is asked, how long is waited,
what is concluded.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.alpaca.order_venue import OrderVenue, build_order_request
from execution.alpaca.placed_order import AlpacaOrder, compute_spread_fill
from execution.journal.order_store import ORDER_STATES, OrderIntent, OrderState, OrderStore
from execution.journal.outbox import OrderDenied, OrderExpired, Outbox
from execution.orders.gate import ALLOW_ALL_ORDERS
from execution.orders.option_orders import OptionLeg, SpreadOrder, parse_occ_symbol
from execution.orders.orders import Order
from foundation.errors import BrokerError, InvalidResponse, OrderRejected, OutcomeUnknown
from tests.execution.scripted_venue import (
    KEYS,
    NOW,
    SOON,
    Said,
    Venue,
    book_of,
    lost,
    outbox_at,
    placed,
    shown,
    status,
    taken,
    venue_at,
)
from tests.support.changed_fields import VALUES, answered, said
from tests.support.connections import open_for_test
from tests.support.messages import refused
from tests.support.passing import Passing
from trainingdata.feed.endpoint import BrokerSettings

LOOKS = [0.1, 0.5, 1.0, 2.0, 4.0]
ORDER = Order("o-1", "NVDA", "buy", Decimal(10), "so")
PUTS = tuple(parse_occ_symbol(f"SPY240308P00{strike}000") for strike in (495, 500))
SPREAD = SpreadOrder("s-1", tuple(OptionLeg(each, "buy") for each in PUTS), 1)
KNOWN_ID = status(422, "client_order_id must be unique")


def sent(
    state: OrderState = "submitting", until: np.datetime64 | None = SOON, **terms: Any
) -> OrderIntent:
    return OrderIntent(replace(ORDER, expires_at=until, **terms), NOW, state)


def posted(
    *words: Said, until: np.datetime64 | None = None, **more: list[Said]
) -> tuple[Any, Venue, list[float]]:
    """What the desk answers to one order, or raises; the venue it asked; how long it waited."""
    desk, venue, waited = outbox_at(post=list(words), **more)
    try:
        return desk.post(replace(ORDER, expires_at=until)), venue, waited
    except BrokerError as error:
        return error, venue, waited


def unknown(desk: Outbox[AlpacaOrder]) -> list[str]:
    return [
        each.client_order_id
        for each in desk.refresh_intents(desk.book.intents_with_unknown_outcome())
    ]


def state_in(book: OrderStore, name: str = "o-1") -> OrderState:
    found = book.get(name)
    assert found is not None
    return found.state


@pytest.mark.parametrize(
    ("asked", "waits"),
    [("7", 7.0), ("0.25", 0.25), ("0", 0.0), ("-3", 0.0), ("30", 30.0), ("soon", 1.0), (None, 1.0)],
)
def test_retry_after_header_of_busy_venue_is_respected(asked: str | None, waits: float) -> None:
    busy = status(429) if asked is None else status(429, Retry_After=asked)
    answer, venue, waited = posted(busy, busy, taken())
    assert (answer, venue.times("post"), waited) == (placed(taken()), 3, [waits, waits])


def test_acceptance_ends_the_refusal_of_its_cause() -> None:
    desk, _, _ = outbox_at(post=[status(403, "insufficient buying power"), taken("o-2")])
    with refused(OrderRejected) as caught:
        desk.post(ORDER)
    assert caught.value.alerted, "the refusal journal has sent the alert"
    desk.book.refusals.clear_contradicted_causes()
    assert len(desk.book.refusals.active()) == 1
    desk.post(replace(ORDER, client_order_id="o-2"))
    desk.book.refusals.clear_contradicted_causes()
    assert not desk.book.refusals.active()


@pytest.mark.parametrize(
    ("busy", "posts", "waits"), [({}, 5, [1.0] * 5), ({"Retry_After": "45"}, 2, [45.0])]
)
def test_busy_venue_is_retried_for_a_limited_time(
    busy: dict[str, str], posts: int, waits: list[float]
) -> None:
    answer, venue, waited = posted(status(429, **busy))
    assert isinstance(answer, OrderDenied)
    assert (venue.times("post"), waited) == (posts, waits)


@pytest.mark.parametrize("code", [400, 403, 404, 422, 499])
def test_refusal_is_final_shortened_and_hides_the_keys(code: int) -> None:
    answer, venue, waited = posted(status(code, "not you,  KEYKEYKEY " + "x" * 900))
    assert isinstance(answer, OrderRejected)
    assert str(answer).startswith(f"o-1: rejected ({code})")
    assert "KEYKEYKEY" not in str(answer)
    assert len(str(answer)) == len("o-1: rejected (403): ") + 300
    assert (venue.times("post"), venue.times("get"), waited) == (1, 0, [])


@pytest.mark.parametrize(
    "open_fate",
    [
        *(status(code) for code in (500, 504, 408, 425)),
        *(KNOWN_ID, lost(), ValueError(), {"status": "new"}, None),
        *(taken("other"), taken(state=""), {**taken(), "id": ""}),
    ],
)
def test_unknown_order_outcome_is_queried_by_client_id(
    open_fate: Said, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answer, venue, waited = posted(open_fate, get=[taken()])
    assert (answer, venue.times("post"), waited) == (placed(taken()), 1, LOOKS[:1])
    assert venue.asked[-1] == ("get", "/orders:by_client_order_id", {"client_order_id": "o-1"})
    assert "o-1: sent, but the response does not state the outcome" in caplog.text


@pytest.mark.parametrize(
    ("looks", "again"),
    [
        *(([status(404)], again) for again in (lost(), status(403), status(504))),
        *(([said], lost()) for said in (status(500), status(409), lost(), None, [])),
        ([taken("other")], lost()),
        ([lost(), status(404)], lost()),
        ([status(404), lost()], lost()),
    ],
)
def test_order_the_venue_cannot_find_is_resent_once(looks: list[Said], again: Said) -> None:
    """A venue that does not know an order may still accept it later."""
    answer, venue, waited = posted(lost(), again, get=looks)
    assert type(answer) is OutcomeUnknown
    assert (venue.times("post"), venue.times("get"), waited) == (2, 10, LOOKS * 2)
    assert [told for what, _, told in venue.asked if what == "post"] == [
        build_order_request(ORDER)
    ] * 2


def test_order_resent_after_lost_response_is_accepted_once() -> None:
    answer, venue, waited = posted(lost(), taken(), get=[status(404)])
    assert (answer, venue.times("post"), waited) == (placed(taken()), 2, LOOKS)
    answer, venue, waited = posted(lost(), KNOWN_ID, get=[status(404)] * 5 + [taken()])
    assert (answer, venue.times("post"), waited) == (placed(taken()), 2, LOOKS + LOOKS[:1])
    answer, venue, waited = posted(lost(), get=[status(404), lost(), status(404), taken()])
    assert (answer, venue.times("get"), waited) == (placed(taken()), 4, LOOKS[:4]), "found late"


def test_expired_order_is_not_sent_again() -> None:
    answer, venue, waited = posted(lost(), until=NOW + np.timedelta64(3, "s"), get=[status(404)])
    assert type(answer) is OutcomeUnknown
    assert (venue.times("post"), waited) == (1, LOOKS)
    answer, venue, _ = posted(taken(), until=NOW)
    assert type(answer) is OrderExpired
    assert str(answer) == "o-1: not sent: the order expired at 20240305T173020Z"
    assert venue.times("post") == 0
    answer, venue, waited = posted(status(429, Retry_After="9"), until=NOW + np.timedelta64(5, "s"))
    assert type(answer) is OrderDenied
    assert (venue.times("post"), waited) == (1, [9.0])


@pytest.mark.parametrize("in_memory", [True, False])
def test_order_landing_after_every_lookup_is_never_duplicated(
    in_memory: bool, tmp_path: Path
) -> None:
    """Every sent order is recorded, and queried until the venue reports its outcome."""
    path = None if in_memory else tmp_path / "book"
    database = open_for_test(path)
    book = OrderStore(database)
    desk, *_ = outbox_at(book, post=[lost()], get=[status(404)])
    expected = replace(ORDER, reason="a premium", expires_at=SOON)
    with pytest.raises(OutcomeUnknown):
        desk.post(expected)
    (intent,) = desk.refresh_intents(desk.book.intents_with_unknown_outcome())
    assert (intent.order, intent.sent_at, intent.role) == (expected, NOW, "opening")
    if path is not None:  # killed, and started again
        book = OrderStore(open_for_test(path))
    found = [status(404), lost(), taken()]
    later = [shown("2024-03-05T19:00:00Z")]
    desk, venue, waited = outbox_at(book, post=[taken()], get=found, clock=later)
    assert unknown(desk) == ["o-1"], "404"
    assert unknown(desk) == ["o-1"], "no answer"
    assert desk.refresh_intents(()) == ()
    assert unknown(desk) == []
    assert (venue.times("post"), venue.times("get"), waited) == (0, 3, [])
    assert desk.post(ORDER) == placed(taken())
    assert venue.times("post") == 0, "it is that order"


def test_unknown_order_is_resent_only_on_explicit_resolution() -> None:
    """The account may have changed since: a sale sent later could open a short."""
    filled = taken("o-1", "filled")
    desk, venue, waited = outbox_at(book_of(sent()), post=[filled], get=[status(404)])
    assert unknown(desk) == ["o-1"]
    assert desk.resolve_order("o-1") == "unknown"
    assert (venue.times("post"), venue.times("get"), waited) == (0, 2, [])
    assert desk.resolve_order("o-1", retry_gate=ALLOW_ALL_ORDERS) == placed(filled)
    assert venue.times("post") == 1
    assert unknown(desk) == []


@pytest.mark.parametrize(("until", "posts"), [(NOW, 0), (SOON, 1)])
def test_resolving_an_unknown_order_sends_nothing_once_expired(
    until: np.datetime64, posts: int
) -> None:
    busy = [status(429, Retry_After="0.5"), taken()]
    desk, venue, waited = outbox_at(book_of(sent(until=until)), post=busy, get=[status(404)])
    assert desk.resolve_order("o-1", retry_gate=ALLOW_ALL_ORDERS) == "unknown"
    assert (venue.times("post"), waited) == (posts, [])


@pytest.mark.parametrize("state", ["submitting", "unknown"])
def test_reposted_order_is_queried_before_it_is_resent(state: Any) -> None:
    desk, venue, _ = outbox_at(book_of(sent(state)), post=[taken()], get=[status(404)])
    assert desk.post(replace(ORDER, expires_at=SOON)) == placed(taken())
    assert venue.times("post") == 1


@pytest.mark.parametrize(
    ("state", "goes"), [("planned", True), ("denied", True), ("rejected", False)]
)
def test_rejected_order_is_not_resent_without_idempotent_ids(
    monkeypatch: pytest.MonkeyPatch, state: Any, goes: bool
) -> None:
    desk, *_ = outbox_at()
    assert desk.may_be_sent(sent(state))
    monkeypatch.setattr(OrderVenue, "has_idempotent_client_ids", False)
    assert desk.may_be_sent(sent(state)) == goes


@pytest.mark.parametrize("answer", [{"status": 7}, {"side": "cross"}, {"qty": "many"}])
def test_order_with_malformed_status_response_stays_unknown(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    terms = {"symbol": "NVDA", "side": "sell", "qty": "10", "type": "market"}
    desk, *_ = outbox_at(book_of(sent(side="sell")), get=[{**taken(), **terms, **answer}])
    with caplog.at_level(logging.WARNING):
        assert unknown(desk) == ["o-1"]
    assert "o-1" in caplog.text


def test_missing_order_becomes_not_received_after_one_day(caplog: pytest.LogCaptureFixture) -> None:
    book = book_of(sent())
    nearly, a_day = shown("2024-03-06T17:31:19Z"), shown("2024-03-06T17:31:20Z")
    for clock, get, found in (
        (nearly, status(404), ["o-1"]),
        (a_day, lost(), ["o-1"]),
        (a_day, status(404), []),
    ):
        desk, *_ = outbox_at(book, get=[get], clock=[clock])
        with caplog.at_level(logging.WARNING):
            assert unknown(desk) == found
    assert "o-1: the venue never received the order" in caplog.text
    assert state_in(book) == "not_received"


@pytest.mark.parametrize(
    ("expiry", "day", "at", "count"),
    [
        ("240305", "2024-03-05", "2024-03-05T21:59:59Z", 1),
        ("240305", "2024-03-05", "2024-03-05T22:00:00Z", 0),
        ("240308", "2024-03-05", "2024-03-05T22:00:00Z", 1),
        ("240329", "2024-03-28", "2024-03-28T20:59:59Z", 1),  # of Good Friday
        ("240329", "2024-03-28", "2024-03-28T21:00:00Z", 0),
    ],
)
def test_order_in_expired_options_is_no_longer_unknown(
    expiry: str, day: str, at: str, count: int
) -> None:
    legs = [parse_occ_symbol(f"SPY{expiry}P00{strike}000") for strike in (500, 495)]
    order = SpreadOrder("o-1", tuple(OptionLeg(each, "buy") for each in legs), 1)
    begun = np.datetime64(f"{day}T17:30", "ns")
    intent = OrderIntent(replace(order, expires_at=begun + np.timedelta64(60, "s")), begun)
    desk, *_ = outbox_at(book_of(intent), get=[status(404)], clock=[shown(at)])
    assert len(unknown(desk)) == count


@pytest.mark.parametrize(
    ("before", "answers", "resolve"),
    [
        (None, {"get": [status(404)]}, None),
        (None, {"get": [taken(state="filled")]}, taken(state="filled")),
        ("submitting", {"get": [status(404)], "post": [lost()]}, "unknown"),
        ("unknown", {"get": [lost()], "post": [lost()]}, "unknown"),
        ("unknown", {"get": [taken(state="filled")]}, taken(state="filled")),
        ("accepted", {"get": [taken(), taken(state="canceled")], "delete": [{}]},
         taken(state="canceled")),
        ("accepted", {"get": [taken()], "delete": [{}]}, "unknown"),
        ("rejected", {}, None),
        ("not_received", {}, None),
    ],
)  # fmt: skip
def test_resolving_an_order_returns_venue_answer_or_unknown(
    before: Any, answers: dict[str, list[Said]], resolve: Any
) -> None:
    desk, *_ = outbox_at(book_of(sent(before)) if before else None, **answers)
    assert desk.resolve_order("o-1") == (placed(resolve) if isinstance(resolve, dict) else resolve)


def test_open_order_is_followed_to_its_final_state() -> None:
    spread = OrderIntent(SPREAD, NOW, "accepted")
    book = book_of(sent("accepted"), spread, sent(client_order_id="o-2"))
    filled = taken(state="filled", filled_qty="10", filled_avg_price="5")
    desk, venue, _ = outbox_at(book, get=[filled])
    desk.refresh_intents(
        i for i in book.intents_in_states(("accepted",)) if isinstance(i.order, Order)
    )
    states = {each.client_order_id: each.state for each in book.select_intents("1 = 1")}
    assert states == {"o-1": "filled", "s-1": "accepted", "o-2": "submitting"}
    assert venue.times("get") == 1
    desk, *_ = outbox_at(book, get=[status(404)])
    desk.refresh_intents(desk.book.intents_in_states(("accepted",)))
    assert state_in(book, "s-1") == "accepted"


@pytest.mark.parametrize("state", ORDER_STATES)
def test_sent_order_without_a_response_has_unknown_outcome(state: OrderState) -> None:
    desk, *_ = outbox_at(book_of(sent(state)))
    assert desk.has_unknown_outcome("o-1") is (state in ("submitting", "unknown"))
    assert desk.may_have_been_sent("o-1") is (state != "planned")
    assert not desk.has_unknown_outcome("o-2"), "it was never written down"
    assert not desk.may_have_been_sent("o-2")


@pytest.mark.parametrize("look", [status(404), status(500), lost(), taken("other")])
def test_order_known_to_be_accepted_is_never_resent(look: Said) -> None:
    book = book_of(sent("accepted", None))
    later = [shown("2024-03-09T17:30:20Z")]
    desk, venue, _ = outbox_at(book, get=[look], post=[taken()], clock=later)
    for ask in (lambda: desk.resolve_order("o-1"), lambda: desk.post(ORDER)):
        with refused(BrokerError):
            ask()
    assert (state_in(book), venue.times("post")) == ("accepted", 0)


@pytest.mark.parametrize("terms", [{"side": "sell"}, {"qty": Decimal(11)}, {"symbol": "AAPL"}])
def test_different_order_under_a_used_id_is_refused(terms: dict[str, Any]) -> None:
    """After a restart the same instant may decide differently under the same id."""
    filled = taken(state="filled", side="buy", qty="10", symbol="NVDA")
    desk, *_ = outbox_at(post=[filled], get=[filled])
    desk.post(ORDER)
    with refused(OrderRejected):
        desk.post(replace(ORDER, **terms))
    desk, *_ = outbox_at(post=[KNOWN_ID], get=[filled])
    with refused(OrderRejected):
        desk.post(replace(ORDER, **terms))


def test_mismatched_order_response_is_queried_again_before_unknown() -> None:
    """If the response were trusted, nobody would track the accepted order."""
    about = {"state": "filled", "side": "buy", "symbol": "NVDA", "filled_qty": "10"}
    odd = taken(**about, qty="11")
    right = taken(**about, qty="10", filled_avg_price="100")
    desk, *_ = outbox_at(post=[lost()], get=[odd, right])
    assert desk.post(ORDER).progress.state == "filled"
    desk, *_ = outbox_at(post=[lost()], get=[odd, {**odd, "id": "another"}])
    with pytest.raises(OutcomeUnknown):
        desk.post(ORDER)
    assert desk.has_unknown_outcome("o-1")


def test_wrong_clock_response_neither_expires_nor_resends_orders() -> None:
    book = book_of(sent())
    clock = [shown("2024-03-09T17:30:20Z"), shown("2024-03-05T17:40:20Z")]
    desk, venue, _ = outbox_at(book, get=[status(404)], post=[taken()], clock=clock)
    assert unknown(desk) == ["o-1"]
    assert state_in(book) in ("submitting", "unknown")
    assert venue.times("post") == 0


def test_only_a_rejected_order_may_be_sent_again() -> None:
    filled = taken(state="filled")
    desk, venue, _ = outbox_at(post=[status(403), taken()], get=[filled])
    with pytest.raises(OrderRejected):
        desk.post(ORDER)
    assert unknown(desk) == []
    assert [desk.post(ORDER) for _ in range(2)] == [placed(taken()), placed(filled)]
    assert venue.times("post") == 2


def test_replaced_order_is_followed_with_both_fills() -> None:
    old = taken(state="replaced", replaced_by="id-o-2", filled_qty="3")
    new = taken("o-2", "filled", filled_qty="7")
    desk, venue, _ = venue_at(get=[old, new])
    answer = desk.refresh_order(placed(taken()))
    assert answer.is_done
    assert answer.replacement_chain == (placed(new, old), placed(old))
    paths = [path for what, path, _ in venue.asked if what == "get"]
    assert paths == ["/orders/id-o-1", "/orders/id-o-2"]
    desk, *_ = venue_at(get=[old, taken("o-2"), new])
    working = desk.refresh_order(placed(taken()))
    assert not working.is_done
    assert desk.refresh_order(working).replacement_chain[1] == placed(old)
    desk, *_ = venue_at(get=[taken(state="replaced")])
    with refused(BrokerError, "replaced_by"):
        desk.refresh_order(placed(taken()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"filled_qty": "10.5"},
        {"status": "rejected"},
        {"legs": [{"symbol": "A", "status": "filled", "qty": "1", "filled_qty": "2"}]},
        {"legs": [{"symbol": "A", "status": "rejected", "qty": "1", "filled_qty": "1"}]},
    ],
)
def test_impossible_fill_is_queried_again_before_being_refused(wrong: dict[str, Any]) -> None:
    sound = taken(state="filled", qty="10", filled_qty="10", filled_avg_price="5")
    desk, _, waited = venue_at(get=[{**sound, **wrong}, sound])
    assert desk.refresh_order(placed(taken())) == placed(sound)
    assert waited == LOOKS[:1]
    desk, *_ = venue_at(get=[{**sound, **wrong}])
    with refused(BrokerError, "o-1", "filled_qty"):
        desk.refresh_order(placed(taken()))


@pytest.mark.parametrize("symbol", ["NVDA", "BTC/USD"])
@pytest.mark.parametrize(
    ("mean", "believed"),
    [("1", True), ("10000", True), ("0.99", False), ("10001", False), (None, True), ("0", True)],
)
def test_fill_price_beyond_100_times_last_is_refused(
    symbol: str, mean: str | None, believed: bool
) -> None:
    prices = {"NVDA": 100.0, "BTCUSD": 100.0}
    answer = taken(symbol=symbol, filled_avg_price=mean)
    AlpacaOrder.parse("o-1", answer)
    for other in ("AAPL", None, "SPY240308P00500000"):
        AlpacaOrder.parse("o-1", {**answer, "symbol": other}, prices)
    if believed:
        assert AlpacaOrder.parse("o-1", answer, prices).response == answer
        return
    with refused(InvalidResponse, "filled_avg_price", mean, symbol):
        AlpacaOrder.parse("o-1", answer, prices)


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
def test_order_response_with_different_terms_does_not_match(
    terms: dict[str, Any], same: bool
) -> None:
    def matches(order: Order | SpreadOrder, **words: Any) -> bool:
        return placed(taken(order.client_order_id, **words)).matches(OrderIntent(order, NOW))

    assert matches(ORDER, **terms) is same
    coin = replace(ORDER, symbol="BTCUSD")
    assert matches(coin, **{**terms, "symbol": "BTC/USD"}) is (same or "symbol" in terms)
    if "symbol" not in terms and "side" not in terms:
        assert matches(replace(SPREAD, contracts=10), **terms) is same


def test_manually_replaced_order_is_tracked_through_its_replacement() -> None:
    old = taken(state="replaced", replaced_by="id-o-2", qty="10", side="buy")
    new = taken("o-2", "filled", qty="4", side="buy")
    desk, *_ = outbox_at(post=[lost()], get=[old, new])
    assert desk.post(ORDER).replacement_chain == (placed(new, old), placed(old))


def test_missing_spread_legs_are_fetched_by_second_query() -> None:
    desk, venue, _ = venue_at(get=[taken(legs=[{"n": 1}])])
    has_legs = placed(taken(legs=[{"n": 2}]))
    assert desk.load_legs(has_legs) is has_legs
    assert desk.load_legs(placed(taken())) == placed(taken(legs=[{"n": 1}]))
    assert venue.times("get") == 1


@pytest.mark.parametrize("said", [{}, status(422), status(404)])
def test_cancelled_order_is_followed_until_it_ends(said: Said) -> None:
    ending = [taken(), taken(), taken(state="canceled")]
    desk, venue, waited = outbox_at(delete=[said], get=ending)
    assert desk.cancel_and_wait(placed(taken())).status == "canceled"
    assert waited == LOOKS[:2]
    assert venue.asked[0] == ("delete", "/orders/id-o-1", None)
    desk, _, waited = outbox_at(delete=[{}], get=[taken()])
    assert desk.cancel_and_wait(placed(taken())).status == "new"
    assert waited == LOOKS[:-1], "nothing is looked at after the last wait"


@pytest.mark.parametrize("passing", [status(502), status(429), lost()])
def test_unanswered_cancellation_is_retried_and_logged(
    passing: Said, caplog: pytest.LogCaptureFixture
) -> None:
    canceled = [taken(state="canceled")]
    desk, venue, waited = outbox_at(delete=[passing, passing, {}], get=canceled)
    assert desk.cancel_and_wait(placed(taken())).status == "canceled"
    assert (venue.times("delete"), waited) == (3, LOOKS[:2])
    assert len(caplog.messages) == 2
    assert all("retrying: " in line and "order o-1" in line for line in caplog.messages)
    desk, venue, waited = outbox_at(delete=[passing])
    with refused(BrokerError, "o-1"):
        desk.cancel_and_wait(placed(taken()))
    assert (venue.times("delete"), waited) == (4, LOOKS[:3])


def test_refused_cancellation_raises_error_without_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, venue, _ = outbox_at(delete=[status(403)])
    with refused(BrokerError, "o-1"):
        desk.cancel_and_wait(placed(taken()))
    assert venue.times("delete") == 1
    monkeypatch.setattr("execution.journal.outbox.CANCEL_TIMEOUT_SECONDS", 0.0)
    unreachable = BrokerSettings(url_override="http://127.0.0.1:9")
    desk = Outbox(OrderVenue(unreachable, KEYS, Passing().time), book_of())
    with refused(BrokerError):
        desk.cancel_and_wait(placed(taken()))


LEG = {"symbol": "SPY240305P00500000", "side": "sell", "status": "filled", "filled_qty": "2"}
LEGS = [
    {**LEG, "filled_avg_price": "1.5"},
    {**LEG, "symbol": "SPY240305P00495000", "side": "buy", "filled_avg_price": "0.5"},
]


@pytest.mark.parametrize("stated", [{"filled_qty": "2"}, {"filled_qty": "1"}, {}])
def test_spread_legs_without_filled_quantities_raise_an_error(stated: dict[str, Any]) -> None:
    """Two legs reported as unfilled although they filled would be an untracked short spread."""
    silent = [{k: v for k, v in leg.items() if k != "filled_qty"} for leg in LEGS]
    canceled = [{**leg, "status": "canceled"} for leg in silent]
    priceless = [{**leg, "filled_avg_price": None} for leg in canceled]
    for legs in (silent, canceled, [], *([priceless] if stated else [])):
        with refused(BrokerError):
            compute_spread_fill([placed(taken(state="canceled", legs=legs, **stated))])
    nothing = placed(taken(state="canceled", legs=[], filled_qty="0"))
    assert compute_spread_fill([nothing]) == (0, Decimal(0))
    assert compute_spread_fill([placed(taken(state="rejected", legs=None))]) == (0, Decimal(0))
    with refused(BrokerError, "1", "2"):
        compute_spread_fill([placed(taken(state="canceled", legs=LEGS, filled_qty="1"))])


@pytest.mark.parametrize("field", LEGS[0])
def test_corrupted_leg_field_never_silently_changes_a_fill(field: str) -> None:
    assert compute_spread_fill([placed(taken(legs=LEGS))]) == (2, Decimal(1))
    refused = 0
    for value in ("removed", *VALUES):
        legs = [said(LEGS[0], field, value), LEGS[1]]
        traded, why = answered(lambda legs=legs: compute_spread_fill([placed(taken(legs=legs))]))
        if traded is None:
            assert "\n" not in why
            refused += 1
        elif value != 7.5 or field != "filled_avg_price":  # a plausible number
            assert traded == (2, Decimal(1)), (field, value)
    assert refused or field == "status"
