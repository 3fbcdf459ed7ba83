from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from execution.decision.trader import Trader
from marketsimulator.run_result import Run
from marketsimulator.runs.decisions import CompiledDecisions
from marketsimulator.runs.outcome import VariantOutcome, simulate_variants
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.runs import CRASH, settings_of, trader_of, walked_as_stepped
from trainingdata.bars import CLOSE, OPEN, Bars
from trainingdata.market import Market

WORDS = [
    *("data.start=2024-01-02", "data.end=2024-02-24", "trials=null"),
    *("symbols=[SYA,SYB,SYC,SYXUSD]", "forecaster=ewma"),
    "forecaster.calibrated=false",
]


@pytest.fixture(scope="module")
def settings() -> BacktestSettings:
    return settings_of(
        *WORDS,
        "start=2024-02-12",
        "limits.symbol_cap=1.2",
        "margin.borrow_rate=0.02",
        "prior.crypto_sharpe=1.5",
    )


@pytest.mark.first_example
@pytest.mark.parametrize("words", [["fills.remainder=carry"], ["sizing.fallback=legacy"]])
def test_sweep_matches_stepwise_run_for_uncompilable_variants(words: list[str]) -> None:
    settings = settings_of(*WORDS, *words, "start=2024-02-21")
    market = settings.load_market()
    trader = prepared(settings, market)
    run = simulate_trading(settings, market, "x", trader)
    assert not isinstance(run.decisions, CompiledDecisions)
    (outcome,) = simulate_variants([settings], market, trader.belief_table)
    assert outcome.equity.tolist() == [row.equity for row in run.equity_rows]
    assert outcome.totals == VariantOutcome.from_run(run).totals


def agreed(variant: BacktestSettings, market: Market, trader: Trader) -> tuple[Run, VariantOutcome]:
    """The backtest and the sweep of one variant on the trader's table, whose accounts are the
    same to the cent.
    """
    assert trader.belief_table is not None
    run = walked_as_stepped(variant, market, trader)
    (outcome,) = simulate_variants([variant], market, trader.belief_table)
    np.testing.assert_allclose(
        outcome.equity, [row.equity for row in run.equity_rows], atol=0.005, rtol=0
    )
    return run, outcome


def prepared(settings: BacktestSettings, market: Market) -> Trader:
    """The trader of a run with everything it believes in it."""
    return trader_of(settings, market).with_beliefs(market)


@pytest.mark.first_example
@pytest.mark.parametrize(("limit", "broker"), [(2_000.0, 3_000.0), (3_000.0, 2_000.0)])
def test_higher_minimum_equity_for_margin_applies(
    settings: BacktestSettings, limit: float, broker: float
) -> None:
    market = settings.load_market()
    poor = replace(
        settings,
        capital=2_500.0,
        limits=replace(settings.limits, margin_equity=limit),
        margin=replace(settings.margin, margin_equity=broker),
    )
    run, outcome = agreed(poor, market, prepared(poor, market))
    assert outcome.totals.trades == sum(fill.price > 0 for fill in run.fills) > 10


@pytest.mark.first_example
@pytest.mark.parametrize("hours", [0, 3], ids=["at the close", "by day"])
def test_wiped_out_account_closes_its_positions_in_sweeps(
    settings: BacktestSettings, hours: int
) -> None:
    """Leverage is 2.5 long while stocks lose more than half: later decisions fail and close all
    positions. A stock without further decisions is kept until the overnight cut.
    """
    crash = CRASH - np.timedelta64(hours, "h")
    market = settings.load_market()
    bars = market.bars
    values = bars.values.copy()
    later = bars.times > crash
    for s in np.flatnonzero(~bars.crypto):
        values[s, later, OPEN : CLOSE + 1] *= 0.4
    bars = Bars(bars.instruments, bars.times, values, bars.mask, "synthetic bars, halved")
    market = market.with_bars(bars)
    rash = replace(
        settings,
        limits=replace(
            settings.limits,
            symbol_cap=1.0,
            intraday_leverage=2.5,
            overnight_leverage=2.5,
            overnight_buffer=0.0,
        ),
        fills=replace(settings.fills, volume_share=None),
        prior=replace(settings.prior, crypto_sharpe=0.0),
    )
    trader = prepared(rash, market)
    beliefs = trader.belief_table
    assert beliefs is not None
    silent = np.outer(beliefs.instants > crash, np.array(bars.symbols) == "SYA")
    keen = beliefs._replace(
        is_adjustable=beliefs.is_adjustable & ~silent,
        mu=np.where(
            beliefs.is_adjustable[:, None],
            np.where(bars.crypto, 0.0, 10 * beliefs.sigma),
            beliefs.mu,
        ),
    )
    run, outcome = agreed(rash, market, replace(trader, belief_table=keen))
    assert outcome.equity.min() < 0
    assert run.equity_rows[-1].gross_stock == 0.0
    assert any(row.gross_stock > 0 for row in run.equity_rows if row.equity < 0)
    failed = sum(bool(decision.sizing_failure) for decision in run.decisions)
    assert outcome.totals.failures == failed > 10


def test_splits_and_dividends_are_booked_in_sweeps(
    settings: BacktestSettings, tmp_path: Path
) -> None:
    """Their number exceeds the fills of a step with so few symbols."""
    days = np.arange(np.datetime64("2024-02-12"), np.datetime64("2024-02-24"))
    rows = [
        f"SYA,{day},dividend,0.25" for day in days if np.is_busday(day, holidays=["2024-02-19"])
    ]
    actions = tmp_path / "actions.csv"
    actions.write_text("\n".join(["symbol,date,kind,value", *rows, ""]))
    few = replace(
        settings, symbols=("SYA", "SYB"), data=replace(settings.data, actions=str(actions))
    )
    market = few.load_market()
    assert len(market.actions) > 4 * len(market.bars.symbols)
    run, outcome = agreed(few, market, prepared(few, market))
    assert sum(row.dividends != 0.0 for row in run.equity_rows) > 3
    assert outcome.totals.trades > 10
