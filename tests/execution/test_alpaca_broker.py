"""An account at Alpaca: what is sent beside it, how long is waited, and what it comes to."""

# Private access: no answer shows whether the broker kept an account snapshot.
from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from execution.alpaca.order_venue import build_order_request
from execution.journal.order_store import OrderIntent, OrderState
from execution.orders.broker import Asset, CancellationPending
from execution.orders.option_orders import OptionLeg, SpreadOrder, parse_occ_symbol
from execution.orders.orders import Order, Side
from tests.execution.scripted_venue import (
    CLOCK,
    NOW,
    SOON,
    Said,
    book_of,
    broker_at,
    shown,
    status,
    taken,
)
from tests.support.changed_fields import VALUES, answered
from tests.support.messages import refused

FILLED = {"filled_qty": "10", "filled_avg_price": "5.5", "filled_at": "2024-03-05T17:30:21Z"}
WORDS = {"symbol": "NVDA", "side": "buy", "qty": "10", "type": "market", "time_in_force": "day"}
RESTS: dict[str, Any] = {"type": "limit", "limit_price": 5.0}
OPEN_ONES = ("open", "/orders", {"status": "open", "limit": 500, "nested": "true"})


def order(
    name: str = "o-1", symbol: str = "NVDA", side: Any = "buy", qty: str = "10", **more: Any
) -> Order:
    return Order(name, symbol, side, Decimal(qty), "test", **more)


def test_account_timestamp_ignores_single_wrong_clock_response() -> None:
    clock = [CLOCK, shown("2024-03-09T17:30:20Z"), CLOCK]
    broker, venue, *_ = broker_at(clock=clock)
    accounts = [broker.account() for _ in range(2)]
    assert [(each.cash, each.as_of) for each in accounts] == [(1000.0, NOW)] * 2
    assert venue.asked[0] == OPEN_ONES
    asked = [what for what, _, _ in venue.asked]
    assert asked.index("open") < asked.index("positions"), "what fills meanwhile is in these"


@pytest.mark.parametrize(
    ("kind", "cancelled"),
    [({}, True), ({"tif": "gtc"}, True), ({"tif": "opg"}, False), ({"tif": "cls"}, False),
     (RESTS, False)],
)  # fmt: skip
def test_unfilled_immediate_orders_are_cancelled_after_timeout(
    kind: dict[str, Any], cancelled: bool
) -> None:
    canceled = [taken(state="canceled")]
    broker, venue, _, between = broker_at(0.0, post=[taken()], get=canceled, delete=[{}])
    broker.submit([order(**kind)])
    assert (venue.times("delete"), between) == (int(cancelled), [])


def test_account_snapshot_is_reused_for_a_minute() -> None:
    done = taken(state="filled", **FILLED)
    broker, venue, waited, _ = broker_at(post=[done], get=[done])

    def submitted_after(seconds: float) -> int:
        """How often the account was read once another order has gone out."""
        waited.append(seconds - sum(waited))
        broker.submit([order()])
        return venue.times("account")

    assert [submitted_after(seconds) for seconds in (0.0, 60.0, 60.1)] == [1, 1, 2]
    broker.cancel([])
    assert submitted_after(60.1) == 3
    broker.submit([])
    assert venue.times("account") == 3


def test_own_fills_update_positions_without_another_query() -> None:
    answers = [taken(name, state="filled", **FILLED) for name in ("o-1", "o-3", "o-4")]
    broker, venue, *_ = broker_at(0.0, post=answers)

    def sold(name: str, quantity: str, reduces: bool = False) -> list[Decimal]:
        fills = broker.submit([order(name, side="sell", qty=quantity, reduces=reduces)])
        return [fill.qty for fill in fills]

    broker.submit([order()])
    assert sold("o-2", "11") == [], "10 are held"
    assert sold("o-3", "10", reduces=True) == [-10]
    assert sold("o-4", "11") == [-10]
    assert (venue.times("post"), venue.times("account")) == (3, 1)
    broker, venue, *_ = broker_at(0.0, post=[taken()], get=[taken()], delete=[{}])
    broker.submit([order(**RESTS)])
    broker.submit([order()])
    assert venue.times("account") == 2


@pytest.mark.parametrize(
    ("first", "posted"), [(taken("b-1"), ["b-1"]), (status(403), ["b-1", "s-1"])]
)
def test_order_opposing_own_resting_order_is_not_sent(
    first: Said, posted: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    answers = [taken(posted[-1])]
    broker, venue, *_ = broker_at(0.0, post=[first, *answers], get=answers)
    sides: tuple[Any, ...] = (("b-1", "buy"), ("s-1", "sell"))
    broker.submit([order(name, side=side, tif="gtc", **RESTS) for name, side in sides])
    assert venue.posted == posted
    assert ("b-1 (a wash trade)" in caplog.text) == (len(posted) == 1)


ASSET: dict[str, Any] = {
    "tradable": True,
    "status": "active",
    "shortable": True,
    "easy_to_borrow": True,
    "fractionable": True,
}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, {}),
        ({"min_trade_increment": "0.001"}, {"increment": "0.001", "min_order_qty": "0.001"}),
        (
            {"min_trade_increment": "0.001", "min_order_size": "0.01"},
            {"increment": "0.001", "min_order_qty": "0.01"},
        ),
        *(
            ({"fractionable": no}, {"fractionable": False, "increment": "1", "min_order_qty": "1"})
            for no in (False, None)
        ),
        ({"status": "inactive"}, {"tradable": False}),
        ({"shortable": None}, {"shortable": False}),
        *(({"easy_to_borrow": no}, {"easy_to_borrow": False}) for no in (None, False)),
        ({"easy_to_borrow": None, "borrow_status": "easy_to_borrow"}, {}),
        ({"easy_to_borrow": None, "borrow_status": "hard_to_borrow"}, {"easy_to_borrow": False}),
    ],
)
def test_asset_flags_and_increments_are_parsed_from_response(
    changes: dict[str, Any], found: dict[str, Any]
) -> None:
    broker, *_ = broker_at(get=[{**ASSET, **changes}])
    steps = {"increment": "1e-9", "min_order_qty": "1e-9"}
    facts = {**dict.fromkeys(ASSET, True), **steps, **found}
    del facts["status"]
    facts |= {name: Decimal(facts[name]) for name in steps}
    assert broker.assets(["NVDA"]) == {"NVDA": Asset("NVDA", **facts)}


def test_orders_in_untradable_assets_are_not_sent() -> None:
    broker, venue, *_ = broker_at(get=[{**ASSET, "tradable": False}, status(404)], post=[taken()])
    assert set(broker.assets(["NVDA", "NOPE"])) == {"NVDA"}
    assert broker.submit([order()]) == []
    assert venue.times("post") == 0


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({}, {}),
        (
            {"symbol": "BTCUSD", "qty": "0.00000001", "tif": "gtc"},
            {"symbol": "BTC/USD", "qty": "0.00000001", "time_in_force": "gtc"},
        ),
        ({"side": "sell", "type": "limit", "limit_price": 5.25}, {"limit_price": "5.25"}),
        (
            {"type": "stop_limit", "limit_price": 5.0, "stop_price": 4.0},
            {"limit_price": "5.0", "stop_price": "4.0"},
        ),
        ({"type": "trailing_stop", "trail_price": 1.5}, {"trail_price": "1.5"}),
        ({"type": "trailing_stop", "trail_percent": 2.0}, {"trail_percent": "2.0"}),
        ({**RESTS, "extended_hours": True}, {"limit_price": "5.0", "extended_hours": True}),
    ],
)
def test_order_request_uses_the_venues_fields(terms: dict[str, Any], says: dict[str, Any]) -> None:
    as_they_are = {name: terms[name] for name in ("side", "type") if name in terms}
    expected = {**WORDS, "client_order_id": "o-1", **as_they_are, **says}
    assert build_order_request(order(**terms)) == expected


SPREAD_LEGS: tuple[tuple[str, Side], ...] = (
    ("SPXW261124P05900000", "sell"),
    ("SPXW261124P05850000", "buy"),
)


@pytest.mark.parametrize(
    ("opens", "min_credit", "says"),
    [
        (True, "1.25", {"type": "limit", "limit_price": "-1.25"}),
        (False, "-0.40", {"type": "limit", "limit_price": "0.40"}),
        (False, None, {"type": "market"}),
    ],
)
def test_spread_request_uses_the_venues_fields(
    opens: bool, min_credit: str | None, says: dict[str, Any]
) -> None:
    turned: dict[str, Side] = {"sell": "buy", "buy": "sell"}
    legs = [(symbol, side if opens else turned[side]) for symbol, side in SPREAD_LEGS]
    spread = SpreadOrder(
        "IRON-20261124-060",
        tuple(OptionLeg(parse_occ_symbol(symbol), side) for symbol, side in legs),
        2,
        None if min_credit is None else Decimal(min_credit),
    )
    assert build_order_request(spread) == {
        "order_class": "mleg",
        "qty": "2",
        "time_in_force": "day",
        "client_order_id": "IRON-20261124-060",
        "legs": [{"symbol": symbol, "ratio_qty": "1", "side": side} for symbol, side in legs],
        **says,
    }


def test_cancel_ends_open_orders_and_ignores_finished_ones() -> None:
    ended = taken("o-2", "canceled", qty="10", filled_qty="4")
    broker, venue, *_ = broker_at(get=[status(404), taken("o-2"), ended], delete=[{}])
    assert broker.cancel(["o-1", "o-2"]) == {"o-2": Decimal(6)}
    assert [path for what, path, _ in venue.asked if what == "delete"] == ["/orders/id-o-2"]


def test_ineffective_cancellation_is_reported() -> None:
    """The venue may answer that there is nothing to cancel although the order still works: its
    replacement would be a second order.
    """
    broker, *_ = broker_at(get=[taken("o-2", qty="10")], delete=[status(422)])
    with refused(CancellationPending, "o-2"):
        broker.cancel(["o-2"])


ANSWER = taken(state="filled", **FILLED, **WORDS, updated_at="2024-03-05T17:30:21Z")


@pytest.mark.first_example
@pytest.mark.parametrize("field", ANSWER)
def test_corrupted_order_field_never_silently_changes_a_fill(field: str) -> None:
    expected = broker_at(post=[ANSWER])[0].submit([order()])
    seen = 0
    for value in ("removed", *VALUES):
        answer = {k: v for k, v in {**ANSWER, field: value}.items() if v != "removed"}
        for first in (answer, taken()):
            broker, *_ = broker_at(post=[first], get=[answer], delete=[{}])
            fills, why = answered(lambda broker=broker: broker.submit([order()]))
            if fills is None:
                assert "\n" not in why
                seen += 1
                continue
            if value == 7.5 and field in ("qty", "filled_qty", "filled_avg_price"):
                continue  # a plausible number: it cannot be detected
            if field == "filled_at" and value in (None, "", "removed"):
                assert fills == expected, "the order changed last when it filled"
                continue
            # An order in no state that is known still works, and nothing is booked as done.
            unseen = field == "status" and broker._last is None
            other = field == "symbol" and first is answer and fills == []
            assert fills == expected or unseen or other, (field, value)
    assert seen or field in ("type", "time_in_force", "updated_at"), "not read of what has filled"


@pytest.mark.parametrize("beside", [True, False])
def test_order_that_expired_by_venue_clock_is_denied(beside: bool) -> None:
    broker, venue, waited, _ = broker_at(0.0, post=[taken("o-2", "filled", **FILLED)])
    broker.account()
    venue.words["clock"] = [shown("2024-03-05T17:31:20Z")]
    waited.append(30.0)
    broker.submit([order(expires_at=SOON), *([order("o-2")] if beside else [])])
    assert venue.posted == ["o-2"] * beside
    asked = venue.times("clock")
    venue.words["get"] = [taken("o-2", "filled", **FILLED)]
    broker.account()
    broker.submit([order("o-2")])
    assert venue.times("clock") == asked + 1, "of the account alone"


def test_stock_job_does_not_query_spread_orders() -> None:
    puts = (parse_occ_symbol(f"SPY240308P00{strike}000") for strike in (495, 500))
    spread = SpreadOrder("s-1", tuple(OptionLeg(each, "buy") for each in puts), 1)
    states: tuple[OrderState, ...] = ("accepted", "submitting")
    spreads = [OrderIntent(replace(spread, client_order_id=each), NOW, each) for each in states]
    book = book_of(*spreads, OrderIntent(order(), NOW, "accepted"))
    broker, venue, *_ = broker_at(book=book, get=[taken()])
    broker.refresh_open_orders()
    broker.account()
    looked = [query for what, _, query in venue.asked if what == "get"]
    assert looked == [{"client_order_id": "o-1"}]


@pytest.mark.parametrize(
    ("reduces", "state", "posts"),
    [(True, "submitting", 1), (False, "submitting", 0), (True, "accepted", 0)],
)
def test_reduction_is_sent_despite_unknown_opening_order(
    reduces: bool, state: OrderState, posts: int
) -> None:
    """A venue that has the opening order refuses the reduction itself, as a wash trade."""
    bid = order("b-1", tif="gtc", **RESTS)
    working = taken("b-1", **{**WORDS, "type": "limit", "limit_price": "5", "tif": "gtc"})
    broker, venue, *_ = broker_at(
        book=book_of(OrderIntent(bid, NOW, state)),
        open=[[] if state == "submitting" else [working]],
        positions=[[{"symbol": "NVDA", "qty": "10", "current_price": "5"}]],
        get=[status(404)],
        post=[taken("s-1", "filled", **FILLED)],
    )
    sale = order("s-1", side="sell", type="limit", limit_price=4.0, reduces=reduces)
    broker.submit([sale])
    assert venue.times("post") == posts
