"""What stands beside the panel counts for the night, and an open reduction not twice."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from execution.orders import Order
from execution.problem import book_state
from tests.execution.traders import Tilted, account_in, known, trader_of
from trainingdata.bars import Bars


def test_the_night_leaves_a_stock_what_is_beside_the_panel_leaves_of_the_ceiling(
    market: Bars,
) -> None:
    """Two of equity in one stock, 0.01 in a coin and 0.04 short, half of which is being bought
    back: what is left under half of 2 / 1.03 is (1 - 0.01) / 1.03 - 0.02.
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
        leverage=2.0,
        free=0.5,
    )
    assert abs(held.equity - 100_000.0) < 1e-6
    state = book_state(bars, held)
    assert state.symbols == (*bars.symbols, "DOGEUSD", "ZZZ", "")
    assert state.row.quantity[-3:].tolist() == [2_000.0, -50.0, -50.0]
    decision = trader_of(Tilted(mute=bars.symbols)).decide(bars, held)
    assert decision is not None
    (choice,) = decision.choices
    assert (choice.symbol, choice.bound_by) == (stock, "overnight")
    assert abs(choice.target - (0.99 / 1.03 - 0.02)) < 1e-9
