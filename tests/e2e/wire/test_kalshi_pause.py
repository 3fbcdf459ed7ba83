"""While trading is paused no order becomes unknown, and none leaves the book."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from event_contracts.trading.endpoint import PAUSE_CODES, HttpStatusError
from foundation.errors import OrderRejected, TradingPaused
from tests.e2e.kalshi_desk import POST, RAIN, Always, KalshiStand, kalshi_stand, order, quotes
from tests.support.kalshi_trading import STEP, Trading, placed, resting
from tests.support.messages import refused

BUY_YES_5 = 1


@pytest.fixture
def stand() -> Iterator[KalshiStand]:
    session = quotes([(0.50, 0.52, 60)])
    with kalshi_stand(sessions={RAIN: session, "SNOW": session}, life=20) as here:
        yield here


@pytest.mark.parametrize("code", PAUSE_CODES)
def test_order_sent_during_pause_is_denied_not_unknown(stand: KalshiStand, code: str) -> None:
    manager = stand.manager()
    stand.practice.pause(code)
    with refused(OrderRejected, "o-1", code):
        manager.submit(order("o-1", "0.40", market=RAIN))
    assert (stand.state("o-1"), stand.posts(), stand.orders()) == ("denied", {"o-1": 1}, {})
    for each in (manager, stand.manager()):
        assert each.query_unknown_outcomes(RAIN) == ()
        assert each.view(RAIN).resting_orders == ()
    stand.practice.resume()
    assert manager.submit(order("o-2", "0.40", market=RAIN)).remaining_count == 10


@pytest.mark.parametrize("code", PAUSE_CODES)
def test_cancellation_during_pause_leaves_the_order_resting(stand: KalshiStand, code: str) -> None:
    placed(stand, "o-1")
    manager = stand.manager()
    [order_id] = stand.practice.exchange.orders
    stand.practice.pause(code)
    for cancel in (
        lambda: manager.cancel(order_id),
        lambda: manager.cancel_stale_orders(RAIN, np.datetime64("2100-01-01", "ns")),
    ):
        with refused(TradingPaused, code):
            cancel()
    assert sum(stand.waited) == 0, "asking again at once does not help"
    assert (resting(stand), stand.state("o-1")) == (["o-1"], "accepted")
    assert [each.remaining_count for each in manager.view(RAIN).resting_orders] == [10]
    stand.practice.resume()
    manager.cancel(order_id)
    assert (resting(stand), stand.state("o-1")) == ([], "canceled")


def test_refusal_in_a_pause_states_when_trading_resumes(stand: KalshiStand) -> None:
    stand.practice.pause("exchange_is_paused", resumes_at="2026-11-26T10:00:00Z")
    with refused(OrderRejected, "2026-11-26T10:00Z"):
        stand.manager().submit(order("o-1", "0.40", market=RAIN))
    status = stand.practice.ask("GET", "/exchange/status").json()
    assert (status["exchange_active"], status["trading_active"]) == (False, False)


@pytest.mark.parametrize("kind", ["status", "malformed", "drop_before"])
def test_pause_is_recognised_without_exchange_status_response(
    stand: KalshiStand, kind: str
) -> None:
    manager = stand.manager(attempts=1)
    stand.practice.pause()
    stand.practice.fault(kind, method="GET", path="/trade-api/v2/exchange/status", count=9)
    with refused(OrderRejected, "trading_is_paused"):
        manager.submit(order("o-1", "0.40", market=RAIN))
    assert stand.state("o-1") == "denied"


def test_order_after_an_exchange_pause_has_new_id(stand: KalshiStand) -> None:
    trading = Trading(stand, policy=Always(BUY_YES_5))
    stand.practice.pause()
    first = trading.tick(0)
    stand.practice.resume()
    stand.clock.ahead = STEP
    second = trading.tick(1)
    assert first is not None
    assert second is not None
    assert first.response.startswith("rejected: ")
    assert first.sent_count == 0
    assert second.response.startswith("accepted ")
    assert first.client_order_id != second.client_order_id
    assert stand.orders() == {second.client_order_id: 1}
    assert trading.alerts.told == []


def test_stale_order_is_cancelled_after_exchange_pause_ends(stand: KalshiStand) -> None:
    trading = Trading(stand, policy=Always(BUY_YES_5))
    placed(stand, "o-1")
    stand.practice.pause()
    stand.clock.ahead = STEP
    assert trading.tick(1) is None
    assert trading.service.skipped_tick_counts == {"paused": 1}
    assert resting(stand) == ["o-1"]
    stand.practice.resume()
    stand.clock.ahead = 2 * STEP
    decided = trading.tick(2)
    assert decided is not None
    assert (resting(stand), stand.state("o-1")) == ([], "canceled")
    assert stand.state(decided.client_order_id) == "filled"
    assert trading.alerts.told == []


def test_single_pause_refusal_can_be_injected_as_fault(stand: KalshiStand) -> None:
    manager = stand.manager()
    stand.practice.fault("exchange_is_paused", method="POST", path=POST)
    with refused(OrderRejected, "exchange_is_paused"):
        manager.submit(order("o-1", "0.40", market=RAIN))
    assert manager.submit(order("o-2", "0.40", market=RAIN)).remaining_count == 10


def test_no_order_fills_during_an_exchange_pause() -> None:
    session = quotes([(0.50, 0.52, 3), (0.40, 0.42, 60)])
    with kalshi_stand(sessions={RAIN: session}, life=20) as stand:
        placed(stand, "o-1", price="0.45")
        stand.practice.pause()
        stand.practice.advance(5)
        assert resting(stand) == ["o-1"]
        stand.practice.resume()
        stand.practice.advance()
        assert stand.practice.exchange.position(RAIN) == 10


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"code": "trading_is_paused", "message": "trading is paused"}, "trading_is_paused"),
        ({"error": {"code": "exchange_is_paused"}}, "exchange_is_paused"),
        ({"error": {"code": "order_already_exists"}}, "order_already_exists"),
        ({"code": None}, ""),
        ({"error": "trading_is_paused"}, ""),
        (["trading_is_paused"], ""),
        ("trading_is_paused", ""),
    ],
)
def test_venue_error_code_is_parsed_flat_or_nested(body: object, code: str) -> None:
    answer = HttpStatusError(409, json.dumps(body))
    assert (answer.venue_error_code, answer.is_pause) == (code, code in PAUSE_CODES)
    assert HttpStatusError(409, "<html>paused</html>").venue_error_code == ""
