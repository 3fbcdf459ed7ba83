"""Decisions beside what a trader does not trade: positions outside its universe, open orders;
settings at their edges.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from execution.decision.decision import Decision
from execution.decision.sizing import SizingSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Order
from foundation.errors import InputError
from sizing.strategies import KellyStrategy
from tests.execution.traders import (
    MIDDAY,
    NIGHT,
    Tilted,
    account_of,
    choice_of,
    decided,
    known,
    prices_of,
    trader_of,
    without_an_answer,
)
from tests.support.messages import refused
from trainingdata.bars import Bars


def decided_beside(
    bars: Bars, at: str, held: dict[str, tuple[int, float]], **tilts: float
) -> Decision:
    """A decision beside what is held outside the panel: symbol → (quantity, price)."""
    panel = known(bars, at)
    prices = prices_of(panel) | {s: price for s, (_, price) in held.items()}
    cash = 100_000 - sum(quantity * price for quantity, price in held.values())
    account = AccountSnapshot(
        cash, {s: Decimal(q) for s, (q, _) in held.items()}, prices, panel.last_instant
    )
    decision = decided(bars, at, trader_of(Tilted(**tilts)), account)
    assert not set(held) & {o.symbol for o in decision.orders}
    return decision


def test_positions_outside_the_universe_count_for_every_ceiling(market: Bars) -> None:
    coin = {"ZZZUSD": (9, 10_000.0)}
    coins = decided_beside(market, NIGHT, coin, SYXUSD=90.0, SYYUSD=90.0)
    assert 0.09 < sum(c.target_weight for c in coins.choices) <= 0.1 + 1e-9
    stocks = decided_beside(market, MIDDAY, coin, SYA=90.0, SYB=-90.0, SYC=90.0)
    assert sum(abs(c.target_weight) for c in stocks.choices) == pytest.approx(4.0 * 0.1, rel=1e-3)
    short = decided_beside(market, MIDDAY, {"ZZZ": (-3_700, 100.0)}, SYA=90.0, SYB=90.0)
    assert sum(abs(c.target_weight) for c in short.choices) == pytest.approx(0.3, rel=1e-3)


def test_unpriced_position_outside_the_universe_is_named(market: Bars) -> None:
    waiting = Order("o-1", "ZZZ", "buy", Decimal(5), "other")
    account = account_of(known(market, MIDDAY), waiting)
    with refused(InputError, "ZZZ"):
        decided(market, MIDDAY, trader_of(Tilted()), account)


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ({"strategy": "fixed_fraction"}, 0.1),
        ({"strategy": "fixed_fraction", "position": 0.2}, 0.2),
        ({"enhanced": False}, 0.6),
    ],
)
def test_sizing_settings_change_the_traders_target_weight(
    market: Bars, words: dict[str, Any], size: float
) -> None:
    decision = decided(market, MIDDAY, trader_of(Tilted(SYA=90.0), SizingSettings(**words)))
    assert choice_of(decision, "SYA").target_weight == pytest.approx(size, rel=1e-6)


def test_failed_solver_keeps_weights_or_closes_insolvent_account(
    market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = known(market, MIDDAY)
    prices = prices_of(panel)
    who = trader_of(Tilted(SYA=90.0))
    assert decided(market, MIDDAY, who).orders != ()
    monkeypatch.setattr(KellyStrategy, "allocate", without_an_answer)
    for cash in (50_000.0, 0.5 - 100 * prices["SYA"]):
        account = AccountSnapshot(cash, {"SYA": Decimal(100)}, prices, panel.last_instant)
        decision = decided(market, MIDDAY, who, account)
        weight = 100 * prices["SYA"] / account.equity
        for symbol, stays in (("SYA", pytest.approx(weight)), ("SYB", 0.0)):
            choice = choice_of(decision, symbol)
            assert (choice.held_weight, choice.target_weight, choice.qty) == (stays, stays, 0)
            assert choice.bound_by == "failed"
        assert (decision.sizing_failure, decision.orders) == ("no convergence", ())
    broke = AccountSnapshot(-1e6, {"SYA": Decimal(100)}, prices, panel.last_instant)
    choice = decided(market, MIDDAY, who, broke).choices[0]
    assert (choice.target_weight, choice.qty, choice.binding_shadow_prices.keys()) == (
        0.0,
        -100,
        {"failed"},
    )
    assert np.isnan([choice.held_weight, choice.kelly, choice.unit_cost]).all()
    assert choice.sigma > 0
