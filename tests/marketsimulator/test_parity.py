"""Backtest, sweep and practice server keep one account: with impact, missing bars and margin
calls, whatever the capital.
"""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from execution.records import Run
from foundation.compose import composed_config
from marketsimulator.runs.decisions import WalkedDecisions
from marketsimulator.runs.variants import Outcome, outcomes
from marketsimulator.runs.walk import walk_inputs, walked
from marketsimulator.settings import BacktestSettings
from sizing.solver.active_set import SOLVED, UNFINISHED
from tests.marketsimulator.accountant import Records, audit
from tests.marketsimulator.by_hand import eager, wild
from tests.marketsimulator.same_runs import walked_as_stepped

Runs = dict[float, tuple[Run, Outcome, Records]]
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
def runs() -> Runs:
    """By capital: the stepped backtest and the compiled sweep on the same beliefs."""
    settings = BacktestSettings.of(composed_config("backtest", list(WORDS)))
    bars = wild(settings.bars())
    first = int(np.searchsorted(bars.times, settings.span(bars)[0]))
    trader = settings.trader(settings.forecaster.build(bars.symbols))
    beliefs = eager(trader.belief_table(bars, bars.times[first]), "2024-02-17", seed=5)
    variants = [replace(settings, capital=capital) for capital in CAPITALS]
    swept = outcomes(variants, bars, beliefs, first)
    stepped = [walked_as_stepped(v, bars, first, replace(trader, table=beliefs)) for v in variants]
    records = [Records.of(asdict(v), bars, run) for v, run in zip(variants, stepped, strict=True)]
    return dict(zip(CAPITALS, zip(stepped, swept, records, strict=True), strict=True))


@pytest.mark.parametrize("capital", CAPITALS)
def test_the_sweep_keeps_the_backtests_account_to_the_cent(capital: float, runs: Runs) -> None:
    run, outcome, records = runs[capital]
    assert str(audit(records)) == "0 differences"
    np.testing.assert_allclose(outcome.equity, [row.equity for row in run.rows], atol=0.005, rtol=0)
    assert outcome.totals.trades == sum(fill.price > 0 for fill in run.fills) > 200
    for name in ("fees", "coin_fees", "spread", "slippage", "interest", "borrow", "rounding"):
        assert getattr(outcome.totals, name) == pytest.approx(
            sum(getattr(row, name) for row in run.rows), abs=0.005
        )


def test_these_runs_hold_what_they_are_about(
    runs: Runs,
) -> None:
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


def test_a_walk_says_why_where_symbols_are_one_and_where_no_program_was_solved() -> None:
    settings = BacktestSettings.of(composed_config("backtest", list(WORDS)))
    bars = wild(settings.bars())
    first = int(np.searchsorted(bars.times, settings.span(bars)[0]))
    trader = settings.trader(settings.forecaster.build(bars.symbols))
    table = eager(trader.belief_table(bars, bars.times[first]), "2024-02-17", seed=7)
    alike = table.correlations.copy()
    alike[::2] = 1.0  # a matrix without a factor
    sigma = np.where(table.sigma > 0, table.sigma[:, :, :1], table.sigma)
    hard = replace(table, correlations=alike, sigma=sigma)
    run = walked_as_stepped(settings, bars, first, replace(trader, table=hard))
    assert len(run.fills) > 100

    inputs = walk_inputs(settings, bars, hard)
    line = settings.timeline(bars, impact=True)
    kept = walked(settings, bars, hard, first, line, keeps=True).kept
    row = int(np.flatnonzero(hard.deciding.any(axis=1))[40])
    kept.status[row] = UNFINISHED
    said = WalkedDecisions(settings, "x", bars, hard, inputs, kept)
    (failed,) = said.unsolved(9)
    assert said.failures == 1
    assert failed.at == hard.at[row]
    assert failed.failure == "the sizing problem of 5 symbols was not solved within its steps"
    assert failed.unsolved is not None
    status, weights, _ = failed.unsolved.solve()
    assert status == SOLVED
    np.testing.assert_array_equal(weights, kept.weights[row])
    assert failed.rule == ()
    assert not failed.orders
    assert {choice.bound_by for choice in failed.choices} == {"failed"}
    assert all(np.isnan(choice.kelly) for choice in failed.choices)
