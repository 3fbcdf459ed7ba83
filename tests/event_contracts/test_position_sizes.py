"""What each order earned adds up to what the account earned, and nothing is said of nothing."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.fees import FeeRules
from event_contracts.trading.orders import ContractAction, ContractFill, EventContractOrder, Outcome
from event_contracts.trading.position_sizes import (
    Episode,
    PositionSizeMetrics,
    SentOrder,
    build_order_size_report,
)
from event_contracts.trading.status_sections import build_status_sections
from execution.journal.order_store import OrderIntent, OrderProgress, OrderState
from tests.e2e.kalshi_desk import RAIN
from tests.event_contracts.exact_account import Account
from tests.event_contracts.trading import journal
from tests.support.pages import text_of

D = Decimal
SIZES = (5, 10, 20, 50, 100)
START = Account(D(1_000_000))

trades = st.tuples(
    st.integers(0, 5),  # the order that it is a fill of
    st.sampled_from(["BUY", "SELL"]),
    st.sampled_from(["YES", "NO"]),
    st.integers(1, 9999),  # price, ten-thousandths
    st.integers(1, 60),
    st.booleans(),
)


def booked(
    wanted: list[tuple[int, ContractAction, Outcome, int, int, bool]],
) -> tuple[tuple[ContractFill, ...], Account]:
    """Fills that the exact account takes, with what it charged, and the account after them."""
    account = START
    fills = []
    for number, verb, side, price, count, maker in wanted:
        held = account.held(RAIN, side)
        size = max(min(D(count), held), D(0)) if verb == "SELL" else D(count)
        if not size:
            continue
        fill = ContractFill(f"{number}", RAIN, verb, side, D(price) / 10_000, size, maker)
        account, charge = account.booked(fill, FeeRules())
        fills.append(replace(fill, fee=charge.net_fee))
    return tuple(fills), account


def sent(count: int = 6) -> tuple[SentOrder, ...]:
    return tuple(SentOrder(f"{k}", SIZES[k % 5]) for k in range(count))


def fill(
    name: str, verb: ContractAction, side: Outcome, price: str, count: int, fee: str = "0"
) -> ContractFill:
    return ContractFill(name, RAIN, verb, side, D(price), D(count), False, D(fee))


@given(st.lists(trades, max_size=40), st.sampled_from(["YES", "NO"]))
def test_order_profits_sum_to_the_account_profit(
    wanted: list[tuple[int, ContractAction, Outcome, int, int, bool]], outcome: Outcome
) -> None:
    fills, account = booked(wanted)
    episode = Episode(sent(), fills, outcome)
    profits = [profit for profit in episode.order_profits if profit is not None]
    earned = account.settled(RAIN, outcome).cash - START.cash
    assert sum(profits, Fraction(0)) == Fraction(earned)


@given(st.lists(trades, min_size=1, max_size=40))
def test_order_profit_is_known_only_after_full_closing(
    wanted: list[tuple[int, ContractAction, Outcome, int, int, bool]],
) -> None:
    fills, account = booked(wanted)
    now = Episode(sent(), fills)
    later = Episode(sent(), fills, "YES")
    held = abs(account.position(RAIN))
    for before, after in zip(now.order_profits, later.order_profits, strict=True):
        assert before in (None, after)
    waiting = [a for a, b in zip(now.order_profits, later.order_profits, strict=True) if a != b]
    assert bool(waiting) == bool(held)
    if fills:
        assert now.max_position is not None
        assert now.max_position >= held


def test_contracts_close_fifo_and_excess_opens_new_position() -> None:
    """A pair belongs to the order that opened it and pays the fees of both."""
    orders = tuple(SentOrder(name, size) for name, size in zip("abcd", SIZES, strict=False))
    fills = (
        fill("a", "BUY", "YES", "0.40", 5),
        fill("b", "BUY", "YES", "0.50", 10, "0.20"),
        fill("c", "SELL", "YES", "0.60", 8, "0.08"),
        fill("d", "BUY", "NO", "0.30", 17, "0.17"),
    )
    # a: 5 at 0.59. b: 3 at 0.59, 7 in pairs at 0.69, each with 0.02 of its own.
    first = [Fraction("0.95"), Fraction("0.21") + Fraction("1.19"), None]
    # d: 10 that cost 0.31 and pay 1, or nothing.
    assert list(Episode(orders, fills, "NO").order_profits) == [*first, Fraction("6.90")]
    assert list(Episode(orders, fills, "YES").order_profits) == [*first, Fraction("-3.10")]


def test_position_size_metrics_match_a_hand_computed_example() -> None:
    orders = tuple(SentOrder(f"{k}", size) for k, size in enumerate((10, 10, 50, 5)))
    fills = tuple(fill(f"{k}", "BUY", "YES", "0.50", 10 * (k + 1)) for k in range(3))
    sold = fill("3", "SELL", "YES", "0.40", 15)
    first = Episode(orders, (*fills, sold), "YES")
    second = Episode((SentOrder("x", 20),), (), "NO")
    metrics = PositionSizeMetrics.from_episodes([first, second])
    # Order 0: 10 · −0.10; order 1: 5 · −0.10 + 15 · 0.50; order 2: 30 · 0.50.
    assert list(first.order_profits) == [-1, 7, 15, None]
    assert metrics.position_size_distribution == {5: 1, 10: 2, 20: 1, 50: 1}
    assert metrics.avg_winning_position_size == 30
    assert metrics.avg_losing_position_size == 10
    assert metrics.size_efficiency == pytest.approx(3**0.5 / 2)
    assert metrics.max_position_reached == 60
    assert metrics.size_changes_per_episode == 1


def test_position_size_metrics_without_fills_are_none() -> None:
    for episodes in ([], [Episode((), (), "YES")]):
        metrics = PositionSizeMetrics.from_episodes(episodes)
        assert metrics == PositionSizeMetrics({}, None, None, None, None, None)
    unfilled = PositionSizeMetrics.from_episodes([Episode((SentOrder("x", 5),), (), "YES")])
    assert unfilled == PositionSizeMetrics({5: 1}, None, None, None, None, 0)


NOW = np.datetime64("2026-11-22T15:00", "ns")


def test_position_size_table_matches_a_hand_computed_example() -> None:
    orders = tuple(SentOrder(f"{k}", size) for k, size in enumerate((10, 10, 50)))
    fills = tuple(
        fill(order.order_id, "BUY", "YES", price, order.size, "0.01")
        for order, price in zip(orders, ("0.40", "0.60", "0.50"), strict=True)
    )
    view = build_order_size_report([Episode(orders, fills, "YES")])
    assert view is not None
    assert [row[:4] for row in view.size_histogram.rows] == [
        ("10", "2", "66.7%", "+$4.99"),
        ("50", "1", "33.3%", "+$24.99"),
    ]
    assert view.profit_chart is not None
    dots, means = view.profit_chart.series
    assert dots.x.tolist() == [10, 10, 50]
    assert dots.values == pytest.approx([5.99, 3.99, 24.99])
    assert dict(zip(means.x, means.values, strict=True)) == pytest.approx({10: 4.99, 50: 24.99})


def test_status_page_shows_sizes_of_sent_orders() -> None:
    log, book = journal()
    settled, sizes = build_status_sections(book, log)
    assert (settled.html(), sizes.html()) == ("", "")
    rows: list[tuple[ContractAction, Outcome, str, int, int, OrderState]] = [
        ("BUY", "YES", "0.40", 20, 20, "filled"),
        ("SELL", "YES", "0.50", 10, 10, "filled"),
        ("BUY", "NO", "0.45", 10, 10, "filled"),
        ("BUY", "NO", "0.45", 50, 0, "rejected"),
    ]
    for number, (verb, side, price, count, filled, state) in enumerate(rows):
        order = EventContractOrder(f"o-{number}", RAIN, verb, side, D(price), D(count))
        # What was bought at 0.45 was filled at 0.40.
        paid = D("0.40") if verb == "BUY" else None
        progress = OrderProgress("filled", f"v-{number}", D(filled), paid)
        sent = NOW + number * np.timedelta64(1, "m")
        book.record_submission(
            OrderIntent(order, sent, state=state, job="kalshi", progress=progress)
        )
    text = text_of(sizes.html())
    assert "Accepted orders in the latest markets (1)" in text
    assert "orders by size 10: 2, 20: 1" in text
    assert "largest position, contracts 20" in text
    # Bought at 0.40 for 0.336 of fees, sold at 0.50 for 0.175, and in pairs at 0.60 for 0.168.
    assert "+$2.32" in text
