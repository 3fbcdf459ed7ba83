"""What a move towards target quantities sends, in which order and in how many parts."""

from __future__ import annotations

from decimal import Decimal
from inspect import unwrap

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from execution.decision.rebalancing import rebalance
from execution.orders.fees import FeeSchedule, TradingCosts
from execution.orders.lending import MarginTerms
from execution.orders.orders import to_shortest_decimal
from foundation.arrays import StructuredArray
from marketsimulator.account.book import Book, ReferencePrices, create_account_log, create_book
from marketsimulator.account.rebalancing import (
    ensure_account_log_space,
    max_logged_fills,
    trade_to_targets,
)
from marketsimulator.account.settlement import mark_positions
from marketsimulator.account.terms import FillTerms, create_holdings, day_terms_table
from trainingdata.instruments import instrument

FREE = TradingCosts(0, 0, 0, 0, 0, 0)

PRICES = {"BTCUSD": 1_000.0, "ETHUSD": 1_000.0, "XRPUSD": 1_000.0, "AAA": 100.0, "BBB": 50.0}
ENDLESS = float("inf")
AT = np.datetime64("2026-09-01T14:30", "ns")


def book_of(held: dict[str, float], capital: float = 1e6, costs: TradingCosts = FREE) -> Book:
    """An account that holds these at PRICES, with so much cash beside them."""
    items = [instrument(name) for name in held]
    book = create_book(
        capital, create_holdings(items, costs, MarginTerms()), np.array([[0.0, 0.0, 0.0]])
    )
    book.holdings["quantity"] = list(held.values())
    mark_positions(book.account[0], book.holdings, np.array([PRICES[name] for name in held]))
    return book


def sent(
    book: Book,
    targets: list[float],
    max_crypto_order: float = ENDLESS,
    fillable: list[float] | None = None,
) -> StructuredArray:
    """The fills of a move at the marks."""
    dates = np.array(["2026-09-01"], dtype="datetime64[D]")
    (day,) = day_terms_table(dates, FeeSchedule(), MarginTerms(), FillTerms(volume_share=None))
    size = len(targets)
    if fillable is not None:
        book.holdings["fillable"] = fillable
    tape = create_account_log(100_000)
    before, marks = (book.holdings[name].copy() for name in ("quantity", "mark"))
    endless, calm, queue = np.full(size, np.inf), np.zeros(size), np.zeros(size, np.int64)
    bars = ReferencePrices(marks, endless, calm)
    account = book.account[0], book.holdings
    trade_to_targets(
        *account, day, tape, 0, before, np.array(targets), bars, max_crypto_order, queue, False
    )
    return tape[: int(book.account["tape_length"][0])]


def told(fills: StructuredArray) -> list[tuple[int, float]]:
    """Symbol and signed quantity of each fill."""
    return [(int(fill["symbol"]), float(fill["quantity"])) for fill in fills]


def test_position_reversal_is_sent_as_close_then_open() -> None:
    turned = told(sent(book_of({"AAA": 10.0, "BBB": -10.0}), [-5.0, 5.0]))
    assert turned == [(0, -10.0), (1, 10.0), (0, -5.0), (1, 5.0)]


def test_fraction_below_one_increment_stays_until_position_closes() -> None:
    assert told(sent(book_of({"BTCUSD": 1.0004}), [1.0])) == []
    assert told(sent(book_of({"BTCUSD": 1.0004}), [0.0])) == [(0, -1.0004)]
    assert told(sent(book_of({"BTCUSD": 1.0004}), [0.0], fillable=[1.0004])) == [(0, -1.0004)]
    assert told(sent(book_of({"BTCUSD": 1.0004}), [0.0], fillable=[1.0003])) == [(0, -1.0)]
    assert told(sent(book_of({"BTCUSD": 1.0004}), [0.5])) == [(0, -0.5)]
    assert told(sent(book_of({"BTCUSD": 1.0}), [1.0009])) == []


def test_only_crypto_orders_are_split_into_parts() -> None:
    book = book_of({"BTCUSD": 0.0, "AAA": 0.0}, capital=100_000.0)
    found = told(sent(book, [10.0, 100.0], max_crypto_order=3_000.0))
    assert found == [(0, 2.5), (0, 2.5), (0, 2.5), (0, 2.5), (1, 100.0)]
    assert told(sent(book_of({"BTCUSD": 3.0}), [0.0], max_crypto_order=3_000.0)) == [(0, -3.0)]
    assert told(sent(book_of({"BTCUSD": 3.0005}), [0.0], max_crypto_order=3_000.0)) == [
        (0, -1.5),
        (0, -1.5005),
    ]
    assert told(sent(book_of({"BTCUSD": 0.0}), [0.005], max_crypto_order=1.5)) == [(0, 0.001)] * 5
    assert told(sent(book_of({"BTCUSD": 0.0}), [0.005], max_crypto_order=2.0)) == [
        (0, 0.002),
        (0, 0.002),
        (0, 0.001),
    ]


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 20_000), min_size=2, max_size=4),
    st.lists(st.integers(0, 200), min_size=4, max_size=4),
    st.floats(1.0, 9.7),
)
def test_fill_buffer_has_space_for_every_rebalancing_fill(
    before: list[int], after: list[int], most: float
) -> None:
    """Crypto lots are worth a dollar and orders have a few lots at most, so there are as many parts
    as possible.
    """
    names = ["BTCUSD", "AAA", "ETHUSD", "XRPUSD"][: len(before)]
    steps = np.array([float(instrument(name).qty_increment) for name in names])
    held = np.round(np.array(before) / 100 * steps, 9)
    book = book_of(dict(zip(names, held.tolist(), strict=True)), 1e9, TradingCosts())
    book.account["taker"] = 0.0025
    targets = np.round(np.array(after[: len(names)]) * steps, 9)
    room = max_logged_fills(book.holdings, targets, most)
    fills = sent(book, targets.tolist(), max_crypto_order=most)
    coins = np.array([instrument(name).symbol != "AAA" for name in names])
    parts = np.abs(targets - held) * coins / steps / most
    assert len(fills) <= room <= 4 * (len(names) + np.ceil(parts).sum())
    bought = np.bincount(
        fills["symbol"], np.where(fills["price"] > 0, fills["quantity"], 0.0), len(names)
    )
    assert np.all(np.abs(held + bought - targets) < steps)


def test_full_fill_buffer_grows_and_keeps_its_fills() -> None:
    with_room = unwrap(
        ensure_account_log_space
    )  # by itself it would be compiled for this test alone
    tape = create_account_log(6)
    tape["price"][:4] = [1.0, 2.0, 3.0, 4.0]
    assert with_room(tape, 4, 2) is tape
    longer = with_room(tape, 4, 3)
    assert 7 <= len(longer) <= 14
    assert longer["price"][:4].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert longer["price"].max() == 4.0


@example(16_963_683_867, 16_992_275_244)
@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_quantities_in_increments_of_a_billionth_are_exact(before: int, after: int) -> None:
    """The difference of two floats may fall short of the exact difference of a billionth."""
    book = book_of({"BTCUSD": before / 1e9})
    book.account["cash"] = 1e7
    book.holdings["increment"] = 1e-9
    fills = sent(book, [after / 1e9])
    assert sum(round(float(q) * 1e9) for q in fills["quantity"]) == after - before


def test_compiled_order_splitting_matches_decision_near_whole_increments() -> None:
    held = 3.0 - 1e-9
    found = [q for _, q in told(sent(book_of({"BTCUSD": held}), [0.0], max_crypto_order=1_500.0))]
    before = to_shortest_decimal(round(held, 9))
    orders = rebalance("s", AT, [instrument("BTCUSD")], [before], [Decimal(0)], [1.5], ["x"])
    expected = [-float(o.qty) for o in orders]
    assert found == expected
