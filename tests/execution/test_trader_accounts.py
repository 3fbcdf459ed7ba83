"""Decisions beside what a trader does not trade: positions outside its universe, open orders;
settings at their edges.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from execution.decision import Decision
from execution.orders import Account, Order
from execution.trader import SizingSettings
from foundation.errors import InputError
from sizing.kelly import SizingProblem, SolverFailed
from sizing.strategies import Kelly
from tests.execution.traders import Tilted, known, prices_of, trader_of
from trainingdata.bars import Bars

MIDDAY = "2024-03-05T17:30"
NIGHT = "2024-03-06T03:00"


def decided(
    bars: Bars, at: str, *, sizing: SizingSettings | None = None, held: Any = (), **tilts: float
) -> Decision:
    """A decision of an account with 100,000 USD of equity; held: symbol → (quantity, price),
    also outside the panel.
    """
    panel = known(bars, at)
    prices = prices_of(panel)
    beside = dict(held)
    prices |= {s: price for s, (_, price) in beside.items()}
    cash = 100_000 - sum(float(q) * price for q, price in beside.values())
    account = Account(cash, {s: Decimal(str(q)) for s, (q, _) in beside.items()}, prices, panel.now)
    decision = trader_of(Tilted(**tilts), sizing).decide(panel, account)
    assert decision is not None
    assert not set(beside) & {o.symbol for o in decision.orders}
    return decision


def test_what_is_held_outside_the_universe_counts_for_every_ceiling(market: Bars) -> None:
    coin = {"ZZZUSD": (9, 10_000.0)}
    coins = decided(market, NIGHT, held=coin, SYXUSD=90.0, SYYUSD=90.0)
    assert 0.09 < sum(c.target for c in coins.choices) <= 0.1 + 1e-9
    stocks = decided(market, MIDDAY, held=coin, SYA=90.0, SYB=-90.0, SYC=90.0)
    assert sum(abs(c.target) for c in stocks.choices) == pytest.approx(4.0 * 0.1, rel=1e-3)
    short = decided(market, MIDDAY, held={"ZZZ": (-3_700, 100.0)}, SYA=90.0, SYB=90.0)
    assert sum(abs(c.target) for c in short.choices) == pytest.approx(0.3, rel=1e-3)


def test_what_is_held_outside_and_has_no_price_is_named(market: Bars) -> None:
    panel = known(market, MIDDAY)
    waiting = Order("o-1", "ZZZ", "buy", Decimal(5), "other")
    prices = prices_of(panel)
    account = Account(1e5, {}, prices, panel.now, open_orders=(waiting,))
    who = trader_of(Tilted())
    with pytest.raises(InputError, match="ZZZ is held or ordered and has no price"):
        who.decide(panel, account)


def test_what_secures_spreads_lowers_the_ceiling_of_stocks_by_its_share(market: Bars) -> None:
    panel = known(market, MIDDAY)
    who = trader_of(Tilted(SYA=90.0, SYB=-90.0, SYC=90.0))
    whole = Account(1e5, {}, prices_of(panel), panel.now)
    for collateral, share in ((0.0, 1.0), (90_000.0, 0.1), (95_000.0, 0.05)):
        decision = who.decide(panel, whole.secured(collateral))
        assert decision is not None
        assert decision.stock_ceiling == pytest.approx(4.0 * share)
        gross = sum(abs(choice.target) for choice in decision.choices)
        assert gross <= 4.0 * share + 1e-6
        assert gross > 3.9 * share or share == 1.0


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ({"strategy": "fixed_fraction"}, 0.1),
        ({"strategy": "fixed_fraction", "position": 0.2}, 0.2),
        ({"enhanced": False}, 0.6),
    ],
)
def test_settings_reach_the_rule_they_name(
    market: Bars, words: dict[str, Any], size: float
) -> None:
    decision = decided(market, MIDDAY, sizing=SizingSettings(**words), SYA=90.0)
    assert {c.symbol: c.target for c in decision.choices}["SYA"] == pytest.approx(size, rel=1e-6)


def test_without_an_answer_a_weight_stays_and_without_equity_it_goes(
    market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = known(market, MIDDAY)
    prices = prices_of(panel)
    who = trader_of(Tilted(SYA=90.0))
    problem = SizingProblem(*[np.zeros(0)] * 9, 0.5)

    def fails(*_: object) -> None:
        raise SolverFailed("no convergence", problem)

    monkeypatch.setattr(Kelly, "allocate", fails)
    for cash in (50_000.0, 0.5 - 100 * prices["SYA"]):
        account = Account(cash, {"SYA": Decimal(100)}, prices, panel.now)
        decision = who.decide(panel, account)
        assert decision is not None
        found = {c.symbol: c for c in decision.choices}
        weight = 100 * prices["SYA"] / account.equity
        assert (found["SYA"].held, found["SYA"].target, found["SYA"].qty) == (
            pytest.approx(weight),
            pytest.approx(weight),
            0,
        )
        assert (found["SYB"].held, found["SYB"].target) == (0.0, 0.0)
        assert (decision.failure, decision.orders) == ("no convergence", ())
    broke = who.decide(panel, Account(-1e6, {"SYA": Decimal(100)}, prices, panel.now))
    assert broke is not None
    choice = broke.choices[0]
    assert (choice.target, choice.qty, choice.binding.keys()) == (0.0, -100, {"failed"})
    assert np.isnan([choice.held, choice.kelly, choice.cost]).all()
    assert choice.sigma > 0
