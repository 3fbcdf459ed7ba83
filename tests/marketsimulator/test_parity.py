"""Backtest, sweep and practice server keep one account: with impact, missing bars and margin
calls, whatever the capital.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from execution.records import Run
from foundation.compose import composed_config
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.runs.variants import Outcome, outcomes
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.by_hand import eager, wild

CAPITALS = (1_500.0, 100_000.0, 2_000_000.0)
WORDS = (
    *(
        "start=2024-02-12",
        "data.start=2024-01-02",
        "data.end=2024-03-08",
        "trials=null",
        "forecaster=ewma",
    ),
    *("symbols=[SYA,SYB,SYC,SYXUSD,SYYUSD]", "costs.stock_impact=1.0", "costs.crypto_impact=1.0"),
    *("limits.symbol_cap=1.2", "limits.overnight_leverage=3.5", "margin.borrow_rate=0.02"),
)


@pytest.fixture(scope="module")
def runs() -> dict[float, tuple[Run, Outcome]]:
    """By capital: the stepped backtest and the compiled sweep on the same beliefs."""
    settings = BacktestSettings.of(composed_config("backtest", list(WORDS)))
    bars = wild(settings.bars())
    first = int(np.searchsorted(bars.times, settings.span(bars)[0]))
    trader = settings.trader(settings.forecaster.build(bars.symbols))
    beliefs = eager(trader.belief_table(bars, bars.times[first]), "2024-02-17", seed=5)
    variants = [replace(settings, capital=capital) for capital in CAPITALS]
    swept = outcomes(variants, bars, beliefs, first)
    stepped = [
        simulate_trading(v, bars, first, "stepped", replace(trader, table=beliefs))
        for v in variants
    ]
    return dict(zip(CAPITALS, zip(stepped, swept, strict=True), strict=True))


@pytest.mark.parametrize("capital", CAPITALS)
def test_the_sweep_keeps_the_backtests_account_to_the_cent(
    capital: float, runs: dict[float, tuple[Run, Outcome]]
) -> None:
    run, outcome = runs[capital]
    np.testing.assert_allclose(outcome.equity, [row.equity for row in run.rows], atol=0.005, rtol=0)
    assert outcome.totals.trades == sum(fill.price > 0 for fill in run.fills) > 200
    for name in ("fees", "coin_fees", "spread", "slippage", "interest", "borrow", "rounding"):
        assert getattr(outcome.totals, name) == pytest.approx(
            sum(getattr(row, name) for row in run.rows), abs=0.005
        )


def test_these_runs_hold_what_they_are_about(runs: dict[float, tuple[Run, Outcome]]) -> None:
    """Margin calls and, at 2 million, coin orders in parts: else the test above proves nothing
    about them.
    """
    large = runs[2_000_000.0][0]
    assert large.margin["margin_calls"] > 0
    assert any(fill.client_order_id.startswith("liquidation") for fill in large.fills)
    sizes = [
        len({o.client_order_id for o in d.orders if o.symbol == "SYXUSD"}) for d in large.decisions
    ]
    assert max(sizes) > 2
    assert runs[100_000.0][0].margin["margin_calls"] > 0
