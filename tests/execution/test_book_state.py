"""What a decision sees of an account: the panel, what is held beside it, what is still open."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from execution.beliefs import BeliefRow
from execution.orders import Account, Order
from execution.problem import Terms, book_state, problem_of, settled
from tests.execution.traders import prices_of
from trainingdata.bars import Bars

BESIDE = ("DOGEUSD", "ZZZ", "ZZZ")  # two positions, and what an order would still take off one


def account(bars: Bars, equity: float = 100_000.0) -> Account:
    """Ten of the first symbol, two positions beside the panel, and an order that halves one."""
    first = bars.symbols[0]
    prices = {**prices_of(bars), "DOGEUSD": 0.5, "ZZZ": 40.0}
    held = {first: Decimal(10), "DOGEUSD": Decimal(2_000), "ZZZ": Decimal(-100)}
    value = sum(float(quantity) * prices[symbol] for symbol, quantity in held.items())
    order = Order("other-20240221T1530-ZZZ-0-0", "ZZZ", "buy", Decimal(50), "left over")
    return Account(equity - value, held, prices, bars.now, (order,), leverage=2.0, free=0.5)


def rows(bars: Bars, deciding: bool = True) -> tuple[BeliefRow, Terms]:
    """Two blocks of which everything is known, and terms without a cost beside the panel."""
    panel = len(bars.symbols)
    beside = len(BESIDE)
    ones = np.ones(panel)
    flat = np.ones((2, panel))
    belief = BeliefRow(
        mu=1e-3 * flat,
        sigma=0.01 * flat,
        premium=ones,
        signal=1e-3 * ones,
        years=1e-2 * flat,
        correlation=np.stack([np.eye(panel), np.eye(panel)]),
        deciding=np.full(panel, deciding),
        outside=np.zeros(panel, dtype=np.int8),
        leaving=np.zeros(panel, dtype=bool),
        financing=np.array([0.0, 1e-4]),
        overnight=False,
        cuts=True,
    )
    terms = Terms(
        crypto=np.append(bars.crypto, [True, False, False]),
        long_only=np.append(bars.long_only, np.ones(beside, dtype=bool)),
        cost=np.append(1e-4 * ones, np.zeros(beside)),
        sharpe=0.5 * ones,
        forecast=True,
        caps=(0.6, 1.0, 2_000.0, np.inf),
        leverage=(4.0, 1.96),
        order_margin=1.25,
    )
    return belief, terms


def test_what_stands_beside_the_panel_decides_nothing_and_counts_for_the_ceilings(
    market: Bars,
) -> None:
    """An open reduction counts as done where it is held, and once more until it has filled."""
    state = book_state(market, account(market))
    panel = len(market.symbols)
    assert state.symbols == (*market.symbols, "DOGEUSD", "ZZZ", "")
    assert state.crypto.tolist() == [*market.crypto.tolist(), True, False, False]
    assert state.row.positions == panel + 2
    assert state.row.quantity[panel:].tolist() == [2_000.0, -50.0, -50.0]
    assert state.row.tradable.tolist() == [True] * panel + [False] * 3
    returns, costs, limits, holdings = problem_of(rows(market)[0], state.row, rows(market)[1])
    assert holdings.held[panel:].tolist() == [0.01, -0.02, -0.02]
    assert not holdings.deciding[panel:].any()
    for array in (returns.mu, returns.premium, returns.covariance, costs.change):
        assert array.shape[-1] == panel + 3
        assert (array[..., panel:] == 0).all()
    assert returns.mu[0, 0] == 1e-3 + 0.5 * 1e-2
    assert (limits.stock_ceiling, limits.granted) == (2.0 / 1.25 * 0.5, 2.0)


def test_the_night_cuts_nothing_that_is_not_traded_and_counts_no_reduction_twice(
    market: Bars,
) -> None:
    """One stock, long 2 of equity beside 0.01 in a coin and 0.02 short: what is left under 0.8 is
    0.8 · (1 - 0.01) - 0.02.
    """
    s = int(np.flatnonzero(~market.crypto)[0])
    belief, terms = rows(market, deciding=False)
    row = book_state(market, account(market)).row
    quantity = row.quantity.copy()
    quantity[:3] = 0.0
    quantity[s] = 200_000.0 / row.price[s]
    row = row._replace(quantity=quantity)
    problem = problem_of(belief, row, terms)
    after = settled(problem, problem.account.held, True, row, True)
    assert np.flatnonzero(after.cut).tolist() == [s]
    assert abs(after.target[s] - (0.8 * 0.99 - 0.02)) < 1e-12
    assert after.steps[s] == np.floor(after.target[s] * 100_000.0 / row.price[s])
    assert np.isnan(np.delete(after.steps, s)).all()
    kept = settled(problem, problem.account.held, True, row._replace(tradable=~row.tradable), True)
    assert not kept.cut[s]
    poor = row._replace(equity=-1.0)
    gone = settled(problem_of(belief, poor, terms), problem.account.held, False, poor, True)
    assert np.flatnonzero(gone.steps == 0.0).tolist() == [s]
