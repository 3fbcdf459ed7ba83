"""What is beside the panel counts, an open reduction not twice, and what leaves is sold."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from execution.decision.problem import build_labelled_account_arrays, round_to_lots
from execution.orders.orders import DEFAULT_SIZE_LIMITS, Order
from sizing.problem import AccountArrays
from tests.execution.traders import Tilted, account_in, known, trader_of
from tests.sizing.books import rich_book
from trainingdata.bars import Bars


def test_overnight_limit_includes_positions_outside_the_data_panel(market: Bars) -> None:
    """Two of equity are in one stock, 0.01 in crypto and 0.04 short, half of which is being bought
    back. Below half of 2 / 1.03, (1 - 0.01) / 1.03 - 0.02 remains.
    """
    bars = known(market, "2024-02-21T20:30")
    stock = bars.symbols[0]
    held = account_in(bars, **{stock: 2.0})
    held = replace(
        held,
        cash=held.cash + 3_000.0,
        positions={**held.positions, "DOGEUSD": Decimal(2_000), "ZZZ": Decimal(-100)},
        prices={**held.prices, "DOGEUSD": 0.5, "ZZZ": 40.0},
        open_orders=(Order("other-20240221T1530-ZZZ-0-0", "ZZZ", "buy", Decimal(50), "left"),),
        max_leverage=2.0,
        free_equity_share=0.5,
    )
    assert abs(held.equity - 100_000.0) < 1e-6
    labelled = build_labelled_account_arrays(bars, held, DEFAULT_SIZE_LIMITS)
    assert labelled.symbols == (*bars.symbols, "DOGEUSD", "ZZZ", "")
    assert labelled.arrays.quantity[-3:].tolist() == [2_000.0, -50.0, -50.0]
    decision = trader_of(Tilted(mute=bars.symbols)).decide(bars, held)
    assert decision is not None
    (choice,) = decision.choices
    assert (choice.symbol, choice.bound_by) == (stock, "overnight")
    assert abs(choice.target_weight - (0.99 / 1.03 - 0.02)) < 1e-9


@pytest.mark.parametrize(
    ("equity", "sized", "target", "lots"),
    [
        (1e5, True, [0.0, 0.4, 0.3], [0.0, 400.0, np.nan]),
        (1e5, False, [0.0, 0.3, 0.3], [0.0, np.nan, np.nan]),
        (-1e5, False, [0.0, 0.0, 0.3], [0.0, 0.0, np.nan]),
        (0.0, True, [0.0, 0.0, 0.3], [0.0, 0.0, np.nan]),
    ],
)
def test_rounding_targets_closes_symbols_that_exit(
    equity: float, sized: bool, target: list[float], lots: list[float]
) -> None:
    """Of three stocks with weight 0.3 the first exits, the second is decided, and the third is
    kept.
    """
    held = np.full(3, 0.3)
    book = {"exiting": np.array([True, False, False]), "adjustable": np.array([False, True, False])}
    problem = rich_book(3, held_weight=held, weight_increment=np.full(3, 1e-3), **book).problem
    every = np.ones(3, dtype=np.bool_)
    lent = {
        "equity": equity,
        "unborrowed_cash": 1.0,
        "granted_leverage": 4.0,
        "is_shorting_enabled": True,
        "free_equity_share": 1.0,
    }
    any_size = {"min_order_value": np.zeros(3), "dust_threshold": np.zeros(3)}
    shares = AccountArrays(
        1e3 * held,
        np.full(3, 100.0),
        np.ones(3),
        **any_size,
        tradable=every,
        position_count=3,
        **lent,
    )  # type: ignore[arg-type]
    rounded = round_to_lots(problem, np.array([0.3, 0.4, 0.3]), sized, shares, False)
    np.testing.assert_allclose(rounded.target_weight, target)
    np.testing.assert_allclose(rounded.lots, lots)
