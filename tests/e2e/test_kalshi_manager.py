"""Orders over Kalshi's API: nothing is sent twice, nothing lost, whatever goes wrong on the way."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from event_contracts.trading.actions import PreTradeCheck
from event_contracts.trading.manager import EPOCH, AccountBooks, KalshiMultiMarketOrderManager
from event_contracts.trading.orders import EventContractOrder, MarketView, Outcome
from execution.journal.orders import has_same_terms
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown
from tests.e2e.kalshi_desk import POST, KalshiStand, kalshi_stand, order
from tests.event_contracts.practice import CREATE, body_of
from tests.support.messages import refused

D = Decimal
LANDING = np.timedelta64(600 + 3600, "s")  # an order's life, and how long it may be on its way


@pytest.fixture
def stand() -> Iterator[KalshiStand]:
    with kalshi_stand() as here:
        yield here


def bid_below(view: MarketView, by: str = "0.05") -> str:
    """A price of YES at which an order waits."""
    return str(view.quote.yes_bid - D(by))


def taking(view: MarketView, side: Outcome = "YES") -> str:
    """A price of a side at which an order trades at once, and what rests at the next tick."""
    return str(min(view.quote.ask(side) + D("0.10"), D("0.99")))


def waiting(view: MarketView) -> dict[str, D]:
    return {r.order.client_order_id: r.remaining_count for r in view.resting_orders}


def at_once(sale: EventContractOrder) -> EventContractOrder:
    return replace(sale, time_in_force="immediate_or_cancel")


def traded(stand: KalshiStand, manager: KalshiMultiMarketOrderManager) -> MarketView:
    """The account once nothing waits any more; tick by tick its books are the venue's."""
    for _ in range(60):
        stand.practice.advance()
        view = check_books(stand, manager)
        if not view.resting_orders:
            return view
    raise AssertionError(f"still waiting: {view.resting_orders}")


def assert_explained(manager: KalshiMultiMarketOrderManager) -> None:
    reading = manager.read_snapshot()
    assert (reading.discrepancies, reading.net_deposits) == ((), 0)


def check_books(stand: KalshiStand, manager: KalshiMultiMarketOrderManager) -> MarketView:
    """What the manager says is what the venue knows, to the last digit."""
    truth = stand.practice.exchange
    view = manager.view("SIM-1")
    assert (view.cash, view.position) == (truth.cash, truth.position("SIM-1"))
    assert_explained(manager)
    return view


@pytest.mark.wire
def test_position_matches_exchange_after_trading_both_sides(stand: KalshiStand) -> None:
    manager = stand.manager()
    receipt = manager.submit(order("o-1", taking(manager.view("SIM-1")), 20))
    assert 0 < receipt.filled_count == 20 - receipt.remaining_count
    view = traded(stand, manager)
    assert view.yes_count == 20
    manager.submit(at_once(order("o-2", str(view.quote.yes_bid - D("0.10")), 1, "SELL")))
    manager.submit(order("o-3", taking(view, "NO"), 25, side="NO"))
    view = traded(stand, manager)
    assert view.no_count == 6
    manager.submit(at_once(order("o-4", str(view.quote.bid("NO") - D("0.10")), 1, "SELL", "NO")))
    assert traded(stand, manager).no_count == 5
    fills = stand.practice.exchange.fills
    assert {(fill.action, fill.side) for fill in fills} == {
        ("BUY", "YES"),
        ("SELL", "YES"),
        ("BUY", "NO"),
        ("SELL", "NO"),
    }
    assert {stand.state(f"o-{number}") for number in range(1, 5)} == {"filled"}


@pytest.mark.wire
def test_orders_still_open_at_market_end_are_resolved(stand: KalshiStand) -> None:
    manager = stand.manager()
    view = manager.view("SIM-1")
    manager.submit(order("o-1", taking(view), 10))
    manager.submit(order("o-2", bid_below(view), 10))
    stand.practice.advance(100_000)
    view = check_books(stand, manager)
    assert (view.yes_count, view.no_count, view.resting_orders) == (0, 0, ())
    with refused(OrderRejected, "SIM-1"):
        manager.submit(order("o-3", "0.50"))
    assert stand.posts() == {"o-1": 1, "o-2": 1}


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("kind", "status"),
    [
        *((kind, 500) for kind in ("drop_after", "malformed", "other")),
        *(("status_after", status) for status in (502, 409)),
    ],
)
def test_order_with_lost_response_is_found_not_resent(
    stand: KalshiStand, kind: str, status: int
) -> None:
    manager = stand.manager()
    price = bid_below(manager.view("SIM-1"))
    stand.practice.fault(kind, method="POST", path=POST, status=status)
    receipt = manager.submit(order("o-1", price))
    assert receipt.remaining_count == 10
    assert stand.posts() == stand.orders() == {"o-1": 1}
    assert stand.state("o-1") == "accepted"
    assert waiting(manager.view("SIM-1")) == {"o-1": 10}
    assert manager.submit(order("o-1", price)) == receipt
    assert stand.posts() == {"o-1": 1}


def test_order_with_unknown_outcome_is_queried_not_resent(stand: KalshiStand) -> None:
    manager = stand.manager()
    price = bid_below(manager.view("SIM-1"))
    stand.lose(manager, order("o-1", price), "drop_before")
    assert stand.state("o-1") == "unknown"
    for again in (manager, stand.manager()):
        view = again.view("SIM-1")
        assert waiting(view) == {"o-1": 10}
        assert has_same_terms(view.resting_orders[0].order, order("o-1", price))
        assert [each.client_order_id for each in again.query_unknown_outcomes("SIM-1")] == ["o-1"]
        assert again.query_unknown_outcomes("SIM-2") == ()
        with pytest.raises(OutcomeUnknown):
            again.submit(order("o-1", price))
        with refused(OutcomeUnknown):
            again.cancel("o-1")
    assert stand.posts() == {"o-1": 1}
    assert stand.orders() == {}
    stand.clock.ahead = LANDING - np.timedelta64(5, "s")
    assert waiting(manager.view("SIM-1")) == {"o-1": 10}
    stand.clock.ahead = LANDING + np.timedelta64(5, "s")
    assert waiting(manager.view("SIM-1")) == {}
    assert stand.state("o-1") == "not_received"
    with refused(OrderRejected):
        manager.submit(order("o-1", price))
    assert stand.posts() == {"o-1": 1}


def test_late_order_is_recognised_and_never_doubled(stand: KalshiStand) -> None:
    manager = stand.manager()
    price = bid_below(manager.view("SIM-1"))
    stand.lose(manager, order("o-1", price))
    assert waiting(manager.view("SIM-1")) == {"o-1": 10}
    stand.practice.land()
    assert stand.orders() == {"o-1": 1}
    view = stand.manager().view("SIM-1")
    assert waiting(view) == {"o-1": 10}
    assert view.resting_orders[0].order_id != "o-1"
    assert stand.state("o-1") == "accepted"
    receipt = manager.submit(order("o-1", price))
    manager.cancel(receipt.order_id)
    manager.cancel(receipt.order_id)
    assert waiting(manager.view("SIM-1")) == {}
    assert stand.state("o-1") == "canceled"
    assert stand.orders() == {"o-1": 1}


def test_order_missing_from_list_is_found_by_fills(stand: KalshiStand) -> None:
    manager = stand.manager()
    price = taking(manager.view("SIM-1"))
    stand.lose(manager, order("o-1", price))
    stand.practice.land()
    stand.practice.advance()
    stand.practice.fault("unlisted", path="/trade-api/v2/portfolio/orders")
    assert manager.query_unknown_outcomes("SIM-1") == ()
    assert stand.state("o-1") == "filled"


def test_rate_limited_order_is_denied_and_not_retried(stand: KalshiStand) -> None:
    manager = stand.manager()
    price = bid_below(manager.view("SIM-1"))
    stand.practice.fault("status", method="POST", path=POST, status=429, seconds=0)
    with refused(OrderRejected, "o-1"):
        manager.submit(order("o-1", price))
    assert stand.state("o-1") == "denied"
    assert waiting(manager.view("SIM-1")) == {}
    assert stand.orders() == {}


def test_inadmissible_order_is_refused_before_sending(stand: KalshiStand) -> None:
    manager = stand.manager(PreTradeCheck())
    for wrong, fact in (
        (order("o-1", "0.655"), "0.655"),
        (order("o-1", "0.50", 501), "501"),
        (order("o-1", "0.99", 400), "25%"),
        (order("o-1", "0.50", 1, "SELL"), "0"),
        (order("o-1", "0.50", market="NONE"), "NONE"),
    ):
        with refused(BrokerError, fact):
            manager.submit(wrong)
    assert stand.posts() == {}
    assert stand.state("o-1") == ""


def test_concurrent_orders_are_admitted_one_at_a_time(stand: KalshiStand) -> None:
    manager = stand.manager(PreTradeCheck())
    price = bid_below(manager.view("SIM-1"))

    def submitted(name: str) -> bool:
        with suppress(OrderRejected):
            manager.submit(order(name, price, 300))
            return True
        return False

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(submitted, ["o-1", "o-2", "o-3", "o-4"]))
    assert sum(done) == 1
    assert sum(stand.posts().values()) == 1


@pytest.mark.wire
def test_manually_placed_orders_count_as_resting_purchases(stand: KalshiStand) -> None:
    manager = stand.manager(PreTradeCheck())
    view = manager.view("SIM-1")
    manager.submit(order("o-1", taking(view), 10))
    stand.practice.advance()
    manager.submit(order("o-2", "0.99", 4, "SELL"))
    # An ask at 0.98.
    foreign = body_of(order("by-hand", "0.02", 9, side="NO"))
    assert stand.practice.ask("POST", CREATE, foreign).status_code == 201
    view = manager.view("SIM-1")
    assert view.resting_count("SELL", "YES") == 4
    assert view.resting_count("BUY", "NO") == 9
    with refused(OrderRejected, "10", "4"):
        manager.submit(order("o-3", "0.99", 7, "SELL"))
    by_hand = next(r for r in view.resting_orders if r.order.client_order_id == "by-hand")
    manager.cancel(by_hand.order_id)
    assert manager.view("SIM-1").resting_count("BUY", "NO") == 0


@pytest.mark.wire
def test_positions_in_other_markets_are_valued_at_bid(stand: KalshiStand) -> None:
    manager = stand.manager()
    price = taking(manager.view("SIM-2"), "NO")
    manager.submit(order("o-1", price, side="NO", market="SIM-2"))
    stand.practice.advance()
    elsewhere = manager.view("SIM-1")
    here = manager.view("SIM-2")
    assert here.no_count == 10
    assert elsewhere.other_positions_value == 10 * here.quote.bid("NO")
    assert here.other_positions_value == 0


def test_unbooked_deposit_is_alerted_and_not_spent(
    stand: KalshiStand, caplog: pytest.LogCaptureFixture
) -> None:
    later = stand.manager()
    later.set_baseline(AccountBooks(EPOCH, D(940)))
    assert later.read_snapshot().net_deposits == 60
    assert later.view("SIM-1").cash == 940
    assert "unexplained change of the account: cash $60.0000" in caplog.text
    told = len(stand.waited)
    assert later.view("SIM-1").cash == 940
    # After a trade the cash differs by the same amount: no later process waits again.
    later.submit(order("o-1", taking(later.view("SIM-1")), 10))
    stand.practice.advance()
    for _ in range(2):
        assert later.read_snapshot().net_deposits == 60
    assert sum(stand.waited[told:]) == 0
    later.set_baseline(later.read_snapshot().books)
    assert later.view("SIM-1").cash == stand.practice.exchange.cash
    assert_explained(later)


@pytest.mark.wire
def test_persistent_position_without_listed_fills_is_accepted(stand: KalshiStand) -> None:
    stand.manager().submit(order("o-1", taking(stand.manager().view("SIM-1")), 10))
    stand.practice.advance()
    stand.manager().view("SIM-1")
    stand.practice.fault("unlisted", path="/trade-api/v2/portfolio/fills", count=100)
    # No response to this process reports the fill.
    manager = stand.manager()
    reading = manager.read_snapshot()
    text = "SIM-1: position is 10.00 YES at the venue, none by its fills"
    assert reading.discrepancies == (text,)
    assert reading.net_deposits == 0
    assert sum(stand.waited) > 0
    assert manager.view("SIM-1").yes_count == 10
    assert manager.view("SIM-1").cash == stand.practice.exchange.cash
