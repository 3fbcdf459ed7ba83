"""Orders of ours leave their book after as many ticks as in training, or once they may not rest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from event_contracts.trading.actions import PreTradeCheck
from event_contracts.trading.actor import UNKNOWN_OUTCOME_REASON
from event_contracts.trading.manager import KalshiMultiMarketOrderManager
from event_contracts.trading.policies import BinaryKellyPolicy
from execution.journal.order_store import OrderIntent
from foundation.errors import OrderRejected
from tests.e2e.kalshi_desk import (
    POST,
    RAIN,
    UNLIMITED,
    Always,
    KalshiStand,
    kalshi_stand,
    order,
    quotes,
)
from tests.event_contracts.practice import CREATE, body_of
from tests.support.kalshi_trading import STEP, Trading, placed, resting
from tests.support.messages import refused

D = Decimal
BUY_NO_10 = 12
LATER = np.datetime64("2100-01-01", "ns")


def rich(buffer: str) -> PreTradeCheck:
    """Limits that nothing breaks, and a buffer."""
    return PreTradeCheck(UNLIMITED.position_limits, D(buffer))


@pytest.fixture
def stand() -> Iterator[KalshiStand]:
    session = quotes([(0.50, 0.52, 60)])
    with kalshi_stand(sessions={RAIN: session, "SNOW": session}, life=20) as here:
        yield here


def by_hand(stand: KalshiStand) -> None:
    """A purchase of twenty YES that a person sends."""
    body = body_of(order("by-hand", "0.30", 20, market=RAIN))
    assert stand.practice.ask("POST", CREATE, body).status_code == 201


def cancels(stand: KalshiStand) -> int:
    return sum(method == "DELETE" for method, _, _ in stand.practice.asked)


def withdrawn(manager: KalshiMultiMarketOrderManager, market: str = RAIN) -> list[str]:
    """What is taken out, by our ids."""
    return [intent.client_order_id for intent in manager.cancel_stale_orders(market, LATER)]


def test_tick_cancels_own_resting_orders_not_manual_ones(stand: KalshiStand) -> None:
    placed(stand, "o-1", "o-2")
    placed(stand, "o-3", market="SNOW")
    by_hand(stand)
    assert withdrawn(stand.manager()) == ["o-1", "o-2"]
    assert resting(stand) == ["o-3", "by-hand"]
    assert [stand.state(name) for name in ("o-1", "o-2", "o-3")] == [
        "canceled",
        "canceled",
        "accepted",
    ]
    assert withdrawn(stand.manager()) == []
    assert cancels(stand) == 2


def test_orders_of_other_jobs_are_not_cancelled(stand: KalshiStand) -> None:
    manager = stand.manager()
    now = stand.clock()
    theirs = replace(order("o-1", "0.40", 10, market=RAIN), expires_at=manager.next_order_expiry())
    stand.book.record_plan(OrderIntent(theirs, now, venue="kalshi", job="somebody"))
    stand.manager().submit(order("o-1", "0.40", 10, market=RAIN))
    assert stand.state("o-1") == "accepted"
    assert withdrawn(manager) == []
    placed(stand, "o-2")
    assert withdrawn(manager) == ["o-2"]
    assert resting(stand) == ["o-1"]


def test_rejected_order_id_is_never_sent_again(stand: KalshiStand) -> None:
    manager = stand.manager()
    wanted = order("o-1", "0.40", 10, market=RAIN)
    stand.practice.fault("reject", method="POST", path=POST)
    with refused(OrderRejected, "o-1", "400"):
        manager.submit(wanted)
    for again in (manager, stand.manager()):
        with refused(OrderRejected, "o-1", "400"):
            again.submit(wanted)
    assert stand.posts() == {"o-1": 1}
    assert stand.orders() == {}
    assert stand.state("o-1") == "rejected"
    assert manager.view(RAIN).resting_orders == ()
    assert manager.submit(order("o-2", "0.40", 10, market=RAIN)).remaining_count == 10


def test_order_of_unknown_outcome_blocks_decisions_until_found(stand: KalshiStand) -> None:
    placed(stand, "o-1", "o-2")
    stand.lose(stand.manager(), order("o-3", "0.40", 10, market="SNOW"))
    trading = Trading(stand)
    assert trading.tick(0) is not None
    assert resting(stand) == []
    masked = trading.tick(0, "SNOW")
    assert masked is not None
    assert f"{UNKNOWN_OUTCOME_REASON}: o-3" in masked.reason
    assert masked.allowed_bits == 0
    assert trading.alerts.texts == [f"SNOW: {UNKNOWN_OUTCOME_REASON}"]
    # Its worst case is spent, in every market.
    view = trading.manager.view(RAIN)
    assert [each.remaining_count for each in view.resting_orders] == [10]
    stand.practice.land()
    heard = trading.tick(1, "SNOW")
    assert heard is not None
    assert (heard.reason, heard.allowed_bits & 1) == ("HOLD", 1)


def test_resting_orders_are_cancelled_on_tick_after_halt(stand: KalshiStand) -> None:
    trading = Trading(stand, life=2)
    for row in range(4):
        stand.clock.ahead = row * STEP
        assert trading.tick(row) is not None
        if row < 3:
            placed(stand, f"o-{row}", price=f"0.4{row}")
        assert resting(stand) == [f"o-{k}" for k in (row - 1, row) if 0 <= k < 3]
    trading.halted = True
    assert trading.tick(4) is not None
    assert resting(stand) == []


def test_resting_order_is_cancelled_once_it_violates_limits(stand: KalshiStand) -> None:
    placed(stand, "o-1", "o-2")
    manager = stand.manager(rich("994"))
    taken = manager.cancel_stale_orders(RAIN, np.datetime64(0, "ns"))
    assert [each.client_order_id for each in taken] == ["o-2"]
    assert resting(stand) == ["o-1"]


@pytest.mark.parametrize(("why", "row"), [("late", 1), ("settling", 59), ("killed", 0)])
def test_resting_orders_are_cancelled_even_on_skipped_ticks(
    stand: KalshiStand, tmp_path: Path, why: str, row: int
) -> None:
    trading = Trading(stand, rich("999"), kill_file=tmp_path / "KILL")
    placed(stand, "o-1")
    if why == "late":
        stand.clock.ahead = 2 * STEP
    if why == "killed":
        trading.kill_file.touch()
    assert (trading.tick(row) is None) is (why != "killed")
    assert trading.service.skipped_tick_counts == ({} if why == "killed" else {why: 1})
    assert len(trading.log.read_ticks(RAIN)) == 1
    assert resting(stand) == []


def test_failed_cancellation_blocks_decisions_in_its_market_only(stand: KalshiStand) -> None:
    placed(stand, "o-1")
    trading = Trading(stand, rich("999"))
    stand.practice.fault("status", method="DELETE", path=POST, status=503, count=1000)
    for row in range(4):
        assert trading.tick(row) is None
    assert trading.log.read_entries() == []
    assert len(trading.log.read_ticks(RAIN)) == 4
    assert [text.partition(":")[0] for text in trading.alerts.texts] == [RAIN]
    assert trading.tick(0, "SNOW") is not None
    assert resting(stand) == ["o-1"]


def test_halt_prevents_resting_purchases_from_opening_positions() -> None:
    session = quotes([(0.40, 0.42, 8), (0.44, 0.46, 4), (0.60, 0.62, 30)])
    with kalshi_stand(sessions={RAIN: session}, life=20) as stand:
        trading = Trading(stand, policy=Always(BUY_NO_10), style="passive", life=2)
        trading.manager.submit(order("seed", "0.42", 10, market=RAIN))
        stand.practice.advance()
        assert trading.manager.view(RAIN).yes_count == 10
        trading.halts.raise_halt("daily_loss", "a test", stand.clock())
        for row in range(5):
            trading.tick(row, bid=40, ask=42, estimate=0.41)
        stand.practice.advance(20)
        view = trading.manager.view(RAIN)
        assert (view.yes_count, view.no_count) == (0, 0)


def test_order_limit_price_is_that_of_the_decision() -> None:
    with kalshi_stand(sessions={RAIN: quotes([(0.93, 0.95, 40)])}) as stand:
        trading = Trading(stand, policy=BinaryKellyPolicy())
        entry = trading.tick(0, bid=40, ask=42, estimate=0.60)
        assert entry is not None
        assert (entry.intent, entry.price) == ("BUY_YES", D("0.42"))
        stand.practice.advance()
        assert trading.manager.view(RAIN).yes_count == 0


def test_order_filled_before_its_cancellation_stays_filled() -> None:
    falling = quotes([(0.50, 0.52, 1), (0.40, 0.42, 59)])
    with kalshi_stand(sessions={RAIN: falling}, life=20) as stand:
        placed(stand, "o-1", price="0.45")
        manager = stand.manager()
        stand.practice.advance()
        assert withdrawn(manager) == ["o-1"]
        assert stand.state("o-1") == "filled"
        assert manager.view(RAIN).yes_count == 10
        assert cancels(stand) == 0
