"""An account is what its fills make of it, and is believed once its answers agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import requests
from hypothesis import assume, given
from hypothesis import strategies as st

from event_contracts.trading.endpoint import (
    MAX_PAGES,
    HttpStatusError,
    KalshiConnection,
    KalshiSettings,
)
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.listings import MarketSettlement
from event_contracts.trading.manager import (
    MIN_CASH_FLOW_USD,
    AccountBooks,
    AccountUpdates,
    ExpectedBooks,
    KalshiMultiMarketOrderManager,
    apply_updates,
)
from event_contracts.trading.orders import ContractFill, EventContractOrder
from event_contracts.trading.venue_orders import VenueFill, convert_side_price, to_action_and_side
from execution.journal.order_store import OrderStore
from foundation.errors import BrokerError, OutcomeUnknown
from tests.e2e.kalshi_desk import UNLIMITED
from tests.event_contracts.exact_account import Account
from tests.event_contracts.practice import FILL, KEYS, ORDER
from tests.event_contracts.trading import journal
from tests.support.messages import refused
from tests.support.passing import AT_ONCE, Passing

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
SETTLED = {"ticker": "RAIN", "settled_time": "2026-11-22T16:00:00Z"}


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
        held = account.held("RAIN", to_action_and_side(fill.side, True)[1])
        action, own = to_action_and_side(fill.side, sold and fill.count <= held)
        price = convert_side_price(own, fill.price)
        ours = ContractFill(
            fill.order_id, "RAIN", action, own, price, fill.count, not fill.is_taker
        )
        account, cost = account.booked(ours, rules or FeeRules())
        fills.append(replace(fill, fee=cost.net_fee))
    return fills, account


def shown(
    account: Account, *fills: VenueFill, ends: tuple[MarketSettlement, ...] = ()
) -> AccountBooks:
    """The books of an account that the venue shows, with all that it lists."""
    return AccountBooks.build(BEGIN, account.cash, account.positions, AccountUpdates(fills, ends))


def come_to(
    books: AccountBooks, *fills: VenueFill, ends: tuple[MarketSettlement, ...] = ()
) -> ExpectedBooks:
    return apply_updates(books, AccountUpdates(fills, ends), lambda *_: FeeRules())


@given(FILLS, RULES, st.booleans())
def test_listed_fills_reproduce_the_exact_account(rows: Rows, rules: FeeRules, sold: bool) -> None:
    """The venue reports bid or ask, not the intent: the result is the same to the cent."""
    fills, account = booked(rows, rules, sold=sold)
    end = come_to(START, *fills)
    assert end.books.cash == account.cash
    assert end.unexplained_positions(shown(account)) == ()


@given(FILLS, st.randoms())
def test_each_fill_is_booked_once_in_any_order(rows: Rows, rng: Any) -> None:
    fills, account = booked(rows)
    books = START
    for cut in range(0, len(fills) + 3, 3):
        part, until = booked(rows[:cut])
        news = [*part, *part]
        rng.shuffle(news)
        # Entries of an earlier reading are listed again.
        end = come_to(books, *news)
        assert (end.books.cash, end.unexplained_positions(shown(until))) == (until.cash, ())
        assert end.new_fill_count == len({fill.fill_id for fill in part} - books.fill_ids)
        books = shown(until, *part)
    assert come_to(books, *fills).books.cash == account.cash


@given(FILLS, st.decimals("-10000", "10000", places=2), st.integers(0, 20))
def test_net_deposits_are_computed_regardless_of_trades(
    rows: Rows, paid: Decimal, cut: int
) -> None:
    assume(abs(paid) >= MIN_CASH_FLOW_USD or paid == 0)
    fills, end = booked(rows)
    first, middle = booked(rows[:cut])
    books = shown(middle, *first)
    assert come_to(START, *first).net_deposits(books) == 0
    later = shown(end.with_flow(paid), *fills)
    assert come_to(books, *fills).net_deposits(later) == paid
    assert come_to(later, *fills).net_deposits(later) == 0


@pytest.mark.parametrize(
    ("said", "pays"),
    [
        ({"market_result": "yes"}, 6),
        ({"market_result": "no"}, 0),
        ({"market_result": "scalar", "value": 35}, D("2.10")),
        ({"market_result": "void", "value": 50}, 3),
    ],
)
def test_settlement_pays_once_and_is_no_deposit(said: dict[str, Any], pays: Decimal) -> None:
    """NO is paid one dollar less the payout of YES."""
    end = MarketSettlement.parse({**SETTLED, **said})
    # 3.00 and 0.07 · 6 · 0.25 = 0.105 of fee, where the venue does not say it.
    cash = D("996.895") + pays
    before = come_to(START, BOUGHT, ends=(end,))
    assert (before.books.cash, before.books.positions) == (cash, {})
    paid = shown(Account(cash + 7), BOUGHT, ends=(end,))
    assert before.net_deposits(paid) == 7
    assert come_to(paid, BOUGHT, ends=(end,)).books.cash == cash + 7
    other = replace(BOUGHT, side="ask")  # 6 NO
    assert come_to(START, other, ends=(end,)).books.cash == D("996.895") + 6 - pays


def test_fill_listed_after_settlement_is_paid_out() -> None:
    end = MarketSettlement("RAIN", D(1), BOUGHT.filled_at + np.timedelta64(1, "m"))
    late = filled(1, "bid", 5000, 600, taker=True, order=2)
    at_once = come_to(START, BOUGHT, late, ends=(end,))
    paid = shown(Account(come_to(START, BOUGHT, ends=(end,)).books.cash), BOUGHT, ends=(end,))
    assert come_to(paid, BOUGHT, late, ends=(end,)).books.cash == at_once.books.cash
    assert at_once.books.positions == {}


@pytest.mark.parametrize(("paid", "flow"), [("0.99", 0), ("-0.99", 0), ("1", 1), ("-1", -1)])
def test_cash_change_below_one_dollar_is_no_deposit(paid: str, flow: int) -> None:
    assert come_to(START).net_deposits(replace(START, cash=START.cash + D(paid))) == flow


def test_charged_fee_is_booked_and_excess_reported() -> None:
    dear = replace(BOUGHT, fee=D("2.18"))
    end = come_to(START, dear)
    assert end.books.cash == D("994.82")
    assert end.excess_fee_remarks == (
        "fill f-0: fee charged $2.18, but $0.105 by configured rates",
    )
    # Rounding and its refund are no difference.
    assert come_to(START, replace(BOUGHT, fee=D("0.11"))).excess_fee_remarks == ()
    assert come_to(START, BOUGHT).excess_fee_remarks == ()


def test_unexplained_contracts_are_not_a_withdrawal() -> None:
    """An unlisted purchase took the cash: this is no withdrawal."""
    bought = AccountBooks(BEGIN, D(900), {"RAIN": D(10), "SNOW": D(-2)})
    end = come_to(START)
    assert end.net_deposits(bought) == 0
    assert end.unexplained_positions(bought) == (
        "RAIN: position is 10 YES at the venue, none by its fills",
        "SNOW: position is 2 NO at the venue, none by its fills",
    )


LATER = np.datetime64("2100-01-01", "ns")
WISH = EventContractOrder("o-1", "RAIN", "BUY", "YES", D("0.50"), D(10))


@dataclass
class Venue:
    """What each read is answered with; a list is one page."""

    cash: str = "1000.00"
    orders: list[dict[str, Any]] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    fills: list[dict[str, Any]] = field(default_factory=list)
    unlisted: set[str] = field(default_factory=set)  # orders that no list has
    hidden: bool = False  # whether lists have orders that wait alone
    lost: bool = False  # whether the answer to an order is
    filled: str = "0.00"
    remaining: str = "10.00"
    slow: Callable[[], None] = lambda: None
    asked: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, query: Any, body: Any) -> dict[str, Any]:
        self.asked.append(f"{method} {path}")
        if method == "POST":
            said = {"fill_count_fp": self.filled, "remaining_count_fp": self.remaining}
            named = {"client_order_id": body["client_order_id"], "ticker": body["ticker"]}
            status = "resting" if D(self.remaining) else "executed"
            bid = {"book_side": body["side"], "yes_price_dollars": body["price"]}
            self.orders.append({**ORDER, **named, **bid, **said, "status": status})
            if self.lost:
                raise requests.ConnectionError("lost")
            made = {"fill_count": self.filled, "remaining_count": self.remaining}
            return {"order_id": "v-1", "client_order_id": body["client_order_id"], **made}
        if method == "DELETE":
            self.orders = [{**each, "status": "canceled"} for each in self.orders]
            return {}
        if path.startswith("/portfolio/orders/"):
            found = [each for each in self.orders if path.endswith(f"/{each['order_id']}")]
            if not found:
                raise HttpStatusError(404, "not found")
            return {"order": found[0]}
        self.slow()
        status = (query or {}).get("status")
        shown = [each for each in self.orders if each["order_id"] not in self.unlisted]
        shown = [] if self.hidden and status is None else shown
        rows = [
            {"ticker": market, "position_fp": count} for market, count in self.positions.items()
        ]
        market = {
            "status": "active",
            "price_ranges": [{"start": "0", "end": "1", "step": "0.01"}],
            "close_time": "2026-11-23T20:00:00Z",
        }
        answers: dict[str, dict[str, Any]] = {
            "/portfolio/orders": {"orders": [o for o in shown if status in (None, o["status"])]},
            "/portfolio/balance": {"balance_dollars": self.cash},
            "/portfolio/positions": {"market_positions": rows},
            "/portfolio/fills": {"fills": self.fills},
            "/portfolio/settlements": {"settlements": []},
            "/markets": {"markets": [{"ticker": "RAIN", **market}]},
        }
        if path not in answers:
            raise HttpStatusError(500, "no")
        return answers[path]

    def trades(self, count: int, *, listed: bool = True) -> None:
        """So much of the order that waits has traded; whether lists and sums know it."""
        left = 10 - count
        said = {"fill_count_fp": f"{count}.00", "remaining_count_fp": f"{left}.00"}
        self.orders[0] |= {"status": "resting" if left else "executed", **said}
        if listed:
            self.list_fill(count)

    def list_fill(self, count: int) -> None:
        self.cash = {4: "997.93", 10: "994.82"}[count]
        self.positions = {"RAIN": f"{count}.00"}
        self.fills = [listed_fill(f"{count}.00")]


def listed_fill(count: str) -> dict[str, Any]:
    traded = {"book_side": "bid", "yes_price_dollars": "0.5000", "count_fp": count}
    return {**FILL, "fill_id": f"f-{count}", **traded}


@pytest.fixture
def venue(monkeypatch: pytest.MonkeyPatch) -> Venue:
    here = Venue()

    def request(
        _: KalshiConnection, method: str, path: str, query: Any = None, body: Any = None
    ) -> dict[str, Any]:
        return here.answer(method, path, query, body)

    monkeypatch.setattr(KalshiConnection, "request", request)
    return here


def manager_of(book: OrderStore | None = None, **more: Any) -> KalshiMultiMarketOrderManager:
    return KalshiMultiMarketOrderManager(
        KalshiSettings(),
        KEYS,
        UNLIMITED,
        lambda *_: FeeRules(),
        order_store=book or journal()[1],
        **{"time": AT_ONCE, **more},
    )


def test_account_waits_until_a_reported_fill_is_listed(venue: Venue) -> None:
    manager = manager_of()
    venue.filled, venue.remaining = "10.00", "0.00"
    assert manager.submit(WISH).filled_count == 10
    # Cash, contracts and fills are unchanged: believing them would mean no position and full cash.
    with refused(BrokerError, "v-1", "10.00", "0"):
        manager.view("RAIN")

    def heard(_: float) -> None:
        if passing.elapsed() > 1:
            venue.trades(10)

    passing = Passing(on_wait=heard)
    manager = manager_of(time=passing.time)
    venue.orders.clear()
    manager.submit(WISH)
    view = manager.view("RAIN")
    assert (view.yes_count, view.cash) == (10, D("994.82"))
    assert manager.read_snapshot().discrepancies == ()


@pytest.mark.parametrize(("count", "taken_out"), [(10, False), (4, True), (4, False)])
def test_account_waits_for_fill_reported_only_by_order(
    venue: Venue, count: int, taken_out: bool
) -> None:
    manager = manager_of()
    manager.submit(WISH)
    assert manager.view("RAIN").resting_count("BUY", "YES") == 10
    venue.trades(count, listed=False)
    if taken_out:
        assert [
            intent.client_order_id for intent in manager.cancel_stale_orders("RAIN", LATER)
        ] == ["o-1"]
    with refused(BrokerError, "v-1", f"{count}.00", "0"):
        manager.view("RAIN")
    venue.list_fill(count)
    view = manager.view("RAIN")
    assert view.yes_count == count
    assert view.resting_count("BUY", "YES") == (0 if taken_out else 10 - count)


def test_fills_before_the_opening_balance_are_not_awaited(venue: Venue) -> None:
    _, book = journal()
    manager_of(book).submit(WISH)
    venue.trades(10)
    venue.fills = []
    assert manager_of(book).view("RAIN").yes_count == 10


@pytest.mark.parametrize("known", [True, False])
def test_own_order_missing_from_list_counts_as_resting(venue: Venue, known: bool) -> None:
    """A missing order proves nothing, not even if the venue does not know it."""
    manager = manager_of()
    manager.submit(WISH)
    venue.unlisted.add("v-1")
    if not known:
        venue.orders.clear()
    (resting,) = manager.view("RAIN").resting_orders
    assert (resting.order_id, resting.remaining_count) == ("v-1" if known else "o-1", 10)


def test_lost_order_appearing_between_queries_counts_once(venue: Venue) -> None:
    _, book = journal()
    manager = manager_of(book)
    venue.lost = venue.hidden = True
    with pytest.raises(OutcomeUnknown):
        manager.submit(WISH)
    # The query finds nothing, but the list of resting orders already contains it.
    (resting,) = manager.view("RAIN").resting_orders
    assert (resting.order_id, resting.remaining_count) == ("v-1", 10)
    intent = book.get("o-1")
    assert intent is not None
    assert intent.state == "accepted"
    assert venue.asked.count("POST /portfolio/events/orders") == 1


def test_account_that_keeps_changing_while_read_is_refused(venue: Venue) -> None:
    manager = manager_of()
    numbers = iter(range(10**6))
    venue.slow = lambda: venue.fills.append(listed_fill(f"{next(numbers) + 1}.00"))
    with refused(BrokerError):
        manager.view("RAIN")


def test_all_response_pages_are_read_without_endless_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"": ("a", "1"), "1": ("b", "2"), "2": ("c", "")}
    asked: list[Any] = []

    def request(
        _: KalshiConnection, method: str, path: str, query: Any = None, body: Any = None
    ) -> dict[str, Any]:
        asked.append(dict(query))
        name, cursor = pages[query.get("cursor", "")]
        return {"fills": [{"fill_id": name}], "cursor": cursor}

    monkeypatch.setattr(KalshiConnection, "request", request)
    connection = KalshiConnection(KalshiSettings(), KEYS)
    fills = ("fills", "/portfolio/fills", "fills", lambda entry: entry["fill_id"])
    assert connection.list_entries(*fills, ticker="RAIN") == ["a", "b", "c"]
    assert all(query["ticker"] == "RAIN" for query in asked)
    pages["2"] = ("c", "1")
    with refused(BrokerError, "fills", MAX_PAGES):
        connection.list_entries(*fills)
