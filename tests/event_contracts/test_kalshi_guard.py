"""Kill file, halts, the value of an order and orders an hour; reductions pass the last two."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from event_contracts.trade import KalshiGuard, KalshiGuardSettings
from event_contracts.trading.orders import LimitOrder
from execution.journal.events import EventLog
from execution.journal.halts import Halts
from execution.journal.order_store import OrderIntent, OrderStore, Part
from foundation.database import Database

NOW = np.datetime64("2026-11-22T10:00:00", "ns")
MINUTE = np.timedelta64(1, "m")


def intent(name: str, part: Part = "opening", count: int = 10) -> OrderIntent:
    order = LimitOrder(name, "RAIN", "BUY", "YES", Decimal("0.50"), Decimal(count))
    return OrderIntent(order, NOW, job="kalshi", venue="kalshi", part=part)


@pytest.fixture
def guard(tmp_path: Path) -> KalshiGuard:
    database = Database()
    events = EventLog(database)
    settings = KalshiGuardSettings(max_order=20.0, max_orders_per_hour=3)
    book = OrderStore(database, events)
    return KalshiGuard(settings, Halts(database, events), book, tmp_path / "KILL")


def test_an_order_is_sent_up_to_its_largest_value(guard: KalshiGuard) -> None:
    assert guard(intent("a", count=40), NOW, None) == ""
    assert guard(intent("a", count=41), NOW, None) == "$20.50 are at stake; guards.max_order is $20"
    assert guard(intent("a", "reduction", 41), NOW, None) == ""


def test_after_so_many_orders_in_an_hour_none_opens(guard: KalshiGuard) -> None:
    for k in range(3):
        assert guard(intent(f"{k}"), NOW, None) == ""
        guard.book.begin(replace(intent(f"{k}"), sent_at=NOW + k * MINUTE))
    later = NOW + 5 * MINUTE
    assert "3 orders were sent within an hour" in guard(intent("b"), later, None)
    assert guard(intent("b", "reduction"), later, None) == ""
    assert guard(intent("b"), NOW + 61 * MINUTE, None) == ""


def test_the_kill_file_and_halts_stop_what_they_forbid(guard: KalshiGuard) -> None:
    parts: tuple[Part, ...] = ("opening", "reduction")
    guard.halts.raise_halt("drawdown", "too much was lost", NOW)
    assert [bool(guard(intent("a", part), NOW, None)) for part in parts] == [True, False]
    guard.halts.raise_halt("positions", "they differ", NOW)
    assert all("they differ" in guard(intent("a", part), NOW, None) for part in parts)
    guard.halts.clear("positions", "me", NOW)
    guard.halts.clear("drawdown", "me", NOW)
    assert guard(intent("a"), NOW, None) == ""
    guard.kill_file.touch()
    assert all("nothing is sent" in guard(intent("a", part), NOW, None) for part in parts)
