"""Causes of refused orders: their identity, their end, and their alerts."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.journal.events import EventLog
from execution.journal.refusals import (
    ORDER_REFUSED_ALERT,
    REDUCTION_REFUSED_ALERT,
    RefusalJournal,
    order_symbol_and_role,
    reason_code,
)
from execution.orders.event_contract_orders import EventContractOrder
from execution.orders.gate import AnyOrder
from execution.orders.orders import PROTECTIVE_LEG, Order
from foundation.database import Database
from foundation.notices import ALL_CLEAR, TRADING_PAUSED
from foundation.notifier import Notifier
from tests.support.alerts import Alerts
from tests.support.connections import open_for_test
from tests.support.messages import check_message

NOW = np.datetime64("2024-02-20T15:30", "ns")
LIQUIDATION = 'rejected (403): {"code":40310000,"message":"account restricted to liquidation only"}'
NO_STOP = 'rejected (422): {"code":42210000,"message":"stop orders are not accepted now"}'
FUNDS = "rejected (403): insufficient buying power: {} USD of {}"


def order(symbol: str = "SYA", *, reduces: bool = False, side: str = "buy") -> Order:
    return Order(f"t-{symbol}-{side}", symbol, side, Decimal(10), "test", reduces)  # type: ignore[arg-type]


def stop(symbol: str) -> Order:
    """Return the stop of a position."""
    name = f"t-20240220T153000Z-{symbol}-{PROTECTIVE_LEG}-0"
    return Order(name, symbol, "sell", Decimal(10), "test", reduces=True)


class Told:
    """A refusal book with the alerts that it has sent."""

    def __init__(self, database: Database | None = None) -> None:
        self.database = database or open_for_test()
        self.alerts = Alerts()
        notices = Notifier(None, None)
        notices.add_recorder(self.alerts)
        self.book = RefusalJournal(self.database, EventLog(self.database), notices)

    @property
    def kinds(self) -> list[str]:
        return self.alerts.kinds

    def step(self, *refused: tuple[AnyOrder, str], accepted: tuple[AnyOrder, ...] = ()) -> None:
        for each in accepted:
            self.book.record_acceptance(each)
        for each, answer in refused:
            self.book.record_refusal(each, answer, NOW)
        self.book.clear_contradicted_causes()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (FUNDS.format("1,000.50", 12), FUNDS.format(7, "3.5"), True),
        (LIQUIDATION, LIQUIDATION.replace("liquidation only", "closing only"), True),
        (LIQUIDATION, LIQUIDATION.replace("40310000", "40310001"), False),
        (LIQUIDATION, LIQUIDATION.replace("403)", "422)"), False),
        ("rejected (403): SYA is not tradable", "rejected (403): SYB is not tradable", False),
        ("rejected after acceptance", "not sent: the venue limits requests (429)", False),
    ],
)
def test_refusal_cause_is_the_reason_code(one: str, other: str, same: bool) -> None:
    assert (reason_code(one, "SYA") == reason_code(other, "SYA")) is same


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ('rejected (403): {"code":40310000,"message":"asset SYA is not', "403 40310000 SYA"),
        ('rejected (403): {"message":"no \\"qty\\" of it","symbol":"SYA"}', "403"),
        ('rejected (400): {"error":{"code":"market_closed"}}', "400 market_closed"),
        ("rejected (403): SYAB is not tradable", "403"),
        ("rejected after acceptance", "rejected after acceptance"),
    ],
)
def test_refusal_code_names_a_symbol_of_the_message(response: str, code: str) -> None:
    assert reason_code(response, "SYA") == code


def test_accepted_sales_do_not_clear_refused_purchases() -> None:
    told = Told()
    sale = order("SYB", reduces=True, side="sell")
    for _ in range(3):
        told.step((order(), LIQUIDATION), accepted=(sale,))
        told.step(accepted=(sale, order("SYA", reduces=True, side="sell")))
    assert told.kinds == [ORDER_REFUSED_ALERT]
    told.step(accepted=(order("SYB"),))
    assert told.kinds == [ORDER_REFUSED_ALERT, ALL_CLEAR]
    assert told.book.active() == []


def test_accepted_purchases_do_not_clear_refused_sales() -> None:
    told = Told()
    sale = order("SYA", reduces=True, side="sell")
    for _ in range(3):
        told.step((sale, "rejected (403): insufficient qty available"))
        told.step(accepted=(order("SYA"), order("SYB")))
    assert told.kinds == [REDUCTION_REFUSED_ALERT]
    told.step(accepted=(order("SYB", reduces=True, side="sell"),))
    assert told.kinds == [REDUCTION_REFUSED_ALERT, ALL_CLEAR]


def test_orders_in_other_symbols_clear_no_refusal() -> None:
    told = Told()
    answer = "rejected (403): SYA cannot be traded"
    for _ in range(3):
        told.step((order(), answer), accepted=(order("SYB"),))
        told.step(accepted=(order("SYB"),))
    assert told.kinds == [ORDER_REFUSED_ALERT]
    told.step(accepted=(order(),))
    assert told.kinds == [ORDER_REFUSED_ALERT, ALL_CLEAR]


def test_repeated_refusal_alerts_once_despite_accepted_orders() -> None:
    told = Told()
    for number in range(6):
        answer = FUNDS.format(number, 1000 * number)
        told.step((order(), answer), accepted=(order("SYB"), order("SYC")))
    assert told.kinds == [ORDER_REFUSED_ALERT]


def test_accepted_crypto_order_does_not_clear_stock_refusal() -> None:
    told = Told()
    told.step((order(), LIQUIDATION))
    told.step(accepted=(order("BTCUSD"),))
    assert told.kinds == [ORDER_REFUSED_ALERT]


def test_refusal_before_an_acceptance_does_not_drop_it() -> None:
    told = Told()
    names = ("SYA", "SYB", "SYC", "SYD", "SYE")
    told.step(*((stop(name), NO_STOP) for name in names))
    for name in names:
        told.book.record_refusal(stop(name), NO_STOP, NOW)
    told.step(accepted=tuple(stop(name) for name in names))
    assert told.book.active() == []
    assert told.kinds == [REDUCTION_REFUSED_ALERT, ALL_CLEAR]


def test_killed_step_drops_no_acceptance() -> None:
    told = Told()
    told.step((stop("SYA"), NO_STOP), (stop("SYB"), NO_STOP))
    told.book.record_acceptance(stop("SYA"))
    told.book.record_acceptance(stop("SYB"))
    after = Told(told.database)
    after.book.clear_contradicted_causes()
    assert (after.book.active(), after.kinds) == ([], [ALL_CLEAR])


def test_refused_stops_are_named_and_end_by_stops() -> None:
    told = Told()
    told.step((stop("SYA"), NO_STOP))
    [(_, text)] = told.alerts.told
    check_message(text, "protective orders", "without a stop", "SYA")
    told.step(accepted=(order("SYA", reduces=True, side="sell"),))
    [row] = told.book.active()
    check_message(str(row), "URGENT", "protective orders")
    assert told.kinds == [REDUCTION_REFUSED_ALERT]


def test_a_refused_reduction_is_urgent_after_refused_openings() -> None:
    told = Told()
    told.step((order(), LIQUIDATION))
    told.step((order("SYB", reduces=True, side="sell"), LIQUIDATION))
    told.step((order("SYB", reduces=True, side="sell"), LIQUIDATION))
    assert told.kinds == [ORDER_REFUSED_ALERT, REDUCTION_REFUSED_ALERT]
    assert told.alerts.told[1][1].startswith("URGENT: ")
    assert [row.is_urgent for row in told.book.active()] == [False, True]
    told.step(accepted=(order("SYB", reduces=True, side="sell"),))
    assert [row.is_urgent for row in told.book.active()] == [False]
    assert told.kinds[2:] == [ALL_CLEAR]


def test_a_restart_repeats_no_alert() -> None:
    first = Told()
    first.step((order(), LIQUIDATION))
    second = Told(first.database)
    second.step((order(), LIQUIDATION))
    assert second.kinds == []
    assert second.book.active()[0].order_count == 2
    third = Told(first.database)
    third.step(accepted=(order(),))
    assert third.kinds == [ALL_CLEAR]


def test_a_blocked_account_alerts_until_it_is_released() -> None:
    told = Told()
    for why in ("blocked", "blocked", "", "", "blocked"):
        told.book.record_account_block(why, NOW)
        told.book.clear_contradicted_causes()
    assert told.kinds == [ORDER_REFUSED_ALERT, ALL_CLEAR, ORDER_REFUSED_ALERT]


def test_exchange_pause_sends_one_notice_until_trading_resumes() -> None:
    told = Told()
    for _ in range(3):
        told.book.record_venue_pause("trading is paused at the venue (exchange_is_paused)", NOW)
        told.book.clear_contradicted_causes()
    told.step()
    [row] = told.book.active()
    assert (told.kinds, row.is_venue_pause, row.is_urgent) == ([TRADING_PAUSED], True, False)
    assert "URGENT" not in told.alerts.told[0][1] + str(row)
    told.step(accepted=(order("SYA", reduces=True, side="sell"),))
    assert told.kinds == [TRADING_PAUSED, ALL_CLEAR]
    assert told.book.active() == []


def test_refusal_for_another_reason_ends_trading_pause() -> None:
    told = Told()
    told.book.record_venue_pause("trading is paused at the venue (trading_is_paused)", NOW)
    told.book.clear_contradicted_causes()
    told.step((order(), LIQUIDATION))
    assert told.kinds == [TRADING_PAUSED, ORDER_REFUSED_ALERT, ALL_CLEAR]
    assert [row.is_venue_pause for row in told.book.active()] == [False]


def test_operator_can_clear_refused_order_causes() -> None:
    told = Told()
    told.step((order(), LIQUIDATION), (order(), "rejected (422): no such asset"))
    assert told.book.clear_all_causes("Ada") == 2
    assert told.book.active() == []
    assert told.kinds[2:] == [ALL_CLEAR, ALL_CLEAR]


def test_accepted_stock_order_does_not_clear_contract_refusal() -> None:
    told = Told()
    bought = EventContractOrder("c", "MKT", "BUY", "YES", Decimal("0.5"), Decimal(1))
    told.step((bought, "rejected (400): insufficient balance"))
    told.step(accepted=(order(),))
    assert told.kinds == [ORDER_REFUSED_ALERT]
    told.step(accepted=(bought,))
    assert told.kinds == [ORDER_REFUSED_ALERT, ALL_CLEAR]


ORDERS = st.sampled_from(
    [
        *(order(s, reduces=r) for s in ("SYA", "SYB", "BTCUSD") for r in (False, True)),
        *map(stop, ("SYA", "SYB")),
    ]
)
ANSWERS = st.sampled_from(
    [LIQUIDATION, "rejected (403): SYA is not tradable", "rejected (422): no"]
)
STEPS = st.lists(
    st.tuples(st.lists(st.tuples(ORDERS, ANSWERS), max_size=3), st.lists(ORDERS, max_size=3)),
    max_size=12,
)


@given(STEPS, st.integers(0, 12))
def test_alerts_and_all_clears_alternate_for_each_cause(
    steps: list[tuple[list[tuple[Order, str]], list[Order]]], restart: int
) -> None:
    told = Told()
    notices: list[tuple[str, str]] = []
    for number, (refused, accepted) in enumerate(steps):
        if number == restart:
            notices += told.alerts.told
            told = Told(told.database)
        told.step(*refused, accepted=tuple(accepted))
        standing = {(row.cause, row.role) for row in told.book.active()}
        assert standing >= {
            (reason_code(answer, each.symbol), order_symbol_and_role(each)[1])
            for each, answer in refused
        }
    notices += told.alerts.told
    begun = Counter(kind != ALL_CLEAR for kind, _ in notices)
    assert begun[True] == begun[False] + len(told.book.active())
