"""What must never be of event contracts is counted where it is: each damage, by its own count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from event_contracts.simulation.exchange import PlacedOrder
from event_contracts.trading.action_log import ActionEntry
from execution.journal.order_store import OrderIntent
from tests.e2e import kalshi_checks as checks
from tests.e2e.kalshi_desk import KalshiStand, kalshi_stand, order
from tests.e2e.kalshi_schedule import NEVER, schedule

D = Decimal
AT = np.datetime64("2026-11-22T10:00:00", "ns")


@pytest.fixture(scope="module")
def traded() -> Iterator[KalshiStand]:
    """Two orders that have traded, or not."""
    with kalshi_stand() as stand:
        manager = stand.manager()
        for name, price in (("a", "0.9900"), ("b", "0.0100")):
            manager.submit(order(name, price))
        stand.practice.advance()
        manager.view("SIM-1")
        yield stand


@pytest.fixture
def placed(traded: KalshiStand) -> list[PlacedOrder]:
    return list(traded.practice.exchange.orders.values())


@pytest.fixture
def book(traded: KalshiStand) -> dict[str, OrderIntent]:
    return {each.client_order_id: each for each in traded.book.in_states(("filled", "working"))}


def entry(name: str, at: np.datetime64 = AT) -> ActionEntry:
    return ActionEntry(
        "RAIN", at, "kelly", 1, "BUY_YES", 5, D("0.42"), "", "", 3, D(1000), D(1000), name, "taken"
    )


def test_what_is_as_it_should_be_counts_as_nothing(
    placed: list[PlacedOrder], book: dict[str, OrderIntent]
) -> None:
    assert {intent.state for intent in book.values()} == {"filled", "working"}
    entries = [entry("a"), entry("b", AT + np.timedelta64(1, "m"))]
    assert checks.duplicates(["a", "b"], placed, entries) == 0
    assert checks.lost(placed, book) == 0
    assert checks.differing_fills(placed, book) == 0


def test_each_damage_is_counted_once_and_a_persons_order_is_none_of_ours(
    placed: list[PlacedOrder], book: dict[str, OrderIntent]
) -> None:
    assert checks.duplicates(["a", "b", "a"], placed, []) == 1
    assert checks.duplicates([], [*placed, replace(placed[0])], []) == 1
    assert checks.duplicates([], placed, [entry("a"), entry("c")]) == 1
    never = replace(book["b"].progress, venue_id="")
    for there, known in (
        (placed, {"a": book["a"]}),
        (placed[:1], book),
        (placed, {**book, "b": replace(book["b"], state="never_taken", progress=never)}),
    ):
        assert checks.lost(there, known) == 1
    less = replace(book["a"], progress=replace(book["a"].progress, filled=D(9)))
    for known in ({**book, "a": less}, {**book, "b": replace(book["b"], state="canceled")}):
        assert checks.differing_fills(placed, known) == 1
    person = replace(placed[0], order=replace(placed[0].order, client_order_id="by-hand-1"))
    assert checks.lost([*placed, person], book) == 0
    assert checks.duplicates([], [*placed, person, person], []) == 0


@pytest.mark.slow
def test_nothing_that_must_never_be_comes_of_faults_and_kills(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    for seed in range(2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        counts += schedule(seed, 3, folder)
    assert not {name: counts[name] for name in NEVER if counts[name]}
    assert counts["orders"]
