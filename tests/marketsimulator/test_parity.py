"""Backtest, sweep and practice server keep one account: with impact, missing bars and margin
calls, whatever the capital.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from execution.decision.trader import Trader
from marketsimulator.run_result import Run
from marketsimulator.runs.compiled_run import run_compiled
from marketsimulator.runs.decisions import CompiledDecisions
from marketsimulator.runs.outcome import VariantOutcome, simulate_variants
from marketsimulator.settings import BacktestSettings
from sizing.kelly import format_solver_failure
from sizing.solver.active_set import UNFINISHED
from tests.marketsimulator.accountant import Records, audit
from tests.marketsimulator.runs import walked_as_stepped
from tests.support.eager_runs import believing
from tests.support.own_module import own_module
from trainingdata.bars import VOLUME
from trainingdata.corporate_actions import CorporateAction
from trainingdata.market import Market
from trainingdata.sessions import exchange_calendar, session_opens_on

Runs = dict[float, tuple[Run, VariantOutcome, Records]]
CAPITALS = (1_500.0, 2_000_000.0)


def walked_and_swept(*words: str) -> tuple[Run, VariantOutcome]:
    """A run of these settings, walked, stepped, swept and reckoned to one account."""
    settings, market, trader = believing(*words)
    run = walked_as_stepped(settings, market, trader)
    assert str(audit(Records.of(asdict(settings), market.bars, run))) == "0 differences"
    return run, swept_like(run, settings, market, trader)


def swept_like(
    run: Run, settings: BacktestSettings, market: Market, trader: Trader
) -> VariantOutcome:
    """The sweep of one variant, once it has been found to have the run's equity."""
    assert trader.belief_table is not None
    (outcome,) = simulate_variants([settings], market, trader.belief_table)
    assert outcome.equity.tolist() == [row.equity for row in run.equity_rows]
    assert outcome.totals.failures == run.decision_log.failure_count
    assert outcome.totals.trades == sum(fill.price > 0 for fill in run.fills)
    return outcome


@pytest.fixture(scope="module")
def runs() -> Runs:
    """By capital: the stepped backtest and the compiled sweep on the same beliefs; the large one
    takes the bars for a half of the market.
    """
    settings, market, trader = believing()
    assert trader.belief_table is not None
    half = replace(settings.fills, feed_volume_share=0.5)
    small, large = (replace(settings, capital=capital) for capital in CAPITALS)
    variants = [small, replace(large, fills=half)]
    swept = simulate_variants(variants, market, trader.belief_table)
    stepped = [walked_as_stepped(v, market, trader) for v in variants]
    records = [
        Records.of(asdict(v), market.bars, run) for v, run in zip(variants, stepped, strict=True)
    ]
    return dict(zip(CAPITALS, zip(stepped, swept, records, strict=True), strict=True))


@pytest.mark.parametrize("capital", CAPITALS)
def test_sweep_matches_the_backtest_to_the_cent(capital: float, runs: Runs) -> None:
    run, outcome, records = runs[capital]
    assert str(audit(records)) == "0 differences"
    np.testing.assert_allclose(
        outcome.equity, [row.equity for row in run.equity_rows], atol=0.005, rtol=0
    )
    assert outcome.totals.trades == sum(fill.price > 0 for fill in run.fills) > 90
    for name in ("fees", "crypto_fees", "spread", "slippage", "interest", "borrow", "rounding"):
        assert getattr(outcome.totals, name) == pytest.approx(
            sum(getattr(row, name) for row in run.equity_rows), abs=0.005
        )


def test_parity_runs_contain_margin_calls_and_split_orders(runs: Runs) -> None:
    """Otherwise the test above would not cover margin calls and, at 2 million, split crypto
    orders.
    """
    large = runs[2_000_000.0][0]
    assert large.margin_event_counts["margin_calls"] > 0
    assert any(fill.client_order_id.startswith("liquidation") for fill in large.fills)
    sizes = [
        len({o.client_order_id for o in d.orders if o.symbol == "SYXUSD"}) for d in large.decisions
    ]
    assert max(sizes) > 2


def test_run_with_a_single_decision_is_simulated() -> None:
    settings, market, trader = believing()
    assert trader.belief_table is not None
    last = trader.belief_table.instants[trader.belief_table.is_adjustable.any(axis=1)][-1]
    first = int(np.searchsorted(market.bars.times, last))
    one = Market(market.bars.slice_rows(0, first + 1), first)
    table = trader.build_beliefs(one)
    run = walked_as_stepped(settings, one, replace(trader, belief_table=table))
    assert len(run.decisions) == 1
    assert run.decisions[0].choices


GROUPS = """
groups:
  some: {symbols: [SYA, SYB, SYXUSD], net: [0.1, 0.4], gross: 0.6}
  book: {symbols: all, net: [-0.2, 0.9]}
beta: {market: SYA, net: [-0.1, 0.5]}
"""


def test_legacy_sizing_gives_same_account_in_every_engine() -> None:
    _, outcome = walked_and_swept("sizing.strategy=legacy")
    assert outcome.totals.trades > 20


# Without groups kelly_50 is walked above, fixed_fraction on days below.
@pytest.mark.first_example
@pytest.mark.parametrize("strategy", ["kelly_50", "risk_parity", "vol_target"])
def test_group_and_position_limits_apply_in_every_engine(strategy: str, tmp_path: Path) -> None:
    path = tmp_path / "groups.yaml"
    path.write_text(GROUPS)
    words = (f"limits.groups_file={path}", "limits.max_positions=3", f"sizing.strategy={strategy}")
    run, outcome = walked_and_swept(*words)
    assert outcome.totals.trades > 10
    frame = run.decision_frame()
    names = {name for text in frame["binding"].unique() for name in text.split("+")}
    assert names & {"some_gross", "some_most", "some_least", "book_most", "beta_most"}
    together = frame.groupby("at").filter(lambda rows: len(rows) == 5).groupby("at")
    assert (together["target"].apply(np.count_nonzero) <= 3).all()
    some = frame[frame["symbol"].isin(["SYA", "SYB", "SYXUSD"])].groupby("at")["target"]
    whole = some.count() == 3
    assert (some.apply(lambda w: w.abs().sum())[whole] <= 0.6 + 1e-6).all()
    assert (some.sum()[whole] <= 0.4 + 1e-6).all()


UNSOLVED_FOR_A_DAY = """
import numpy as np
from sizing.allocation import build_sizing_problem
from sizing.kelly import SolverFailed

def rule(s):
    if str(s.decision_time) >= "2024-02-20" and str(s.decision_time) < "2024-02-21":
        raise SolverFailed("no answer today", build_sizing_problem(s.problem, 0.5))
    return np.where(s.universe, 0.3 * np.sign(s.mu), s.held_weight)
"""


def test_custom_rule_failure_is_identical_in_every_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = own_module(UNSOLVED_FOR_A_DAY, tmp_path, monkeypatch)
    run, _ = walked_and_swept(f"sizing.strategy={module}.rule")
    unsolved = [decision for decision in run.decision_log if decision.sizing_failure]
    assert len(unsolved) == run.decision_log.failure_count > 10
    assert {decision.sizing_failure for decision in unsolved} == {"no answer today"}
    assert {str(decision.at)[:10] for decision in unsolved} == {"2024-02-20"}


ON_PRICES = """
import numpy as np

def cross(s, fast=3):
    closes = s.history.closes
    assert closes.shape == (len(s.symbols), 20) and closes.base is None
    rising = closes[:, -fast:].mean(axis=1) > closes.mean(axis=1)
    return np.where(rising & s.universe, 0.25, 0.0)
"""


def test_price_strategy_trades_alike_in_every_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = own_module(ON_PRICES, tmp_path, monkeypatch)
    words = f"sizing.strategy={module}.cross", "+sizing.arguments.fast=5", "sizing.lookback=20"
    run, _ = walked_and_swept(*words)
    assert len(run.fills) > 50


def test_compiled_run_explains_decisions_of_failed_solver() -> None:
    settings, market, trader = believing(seed=7)
    table = trader.belief_table
    assert table is not None
    alike = table.correlations.copy()
    alike[::2] = 1.0  # a matrix without a factor
    sigma = np.where(table.sigma > 0, 0.01, table.sigma)
    hard = table._replace(correlations=alike, sigma=sigma)
    run = walked_as_stepped(settings, market, replace(trader, belief_table=hard))
    assert len(run.fills) > 100

    line = settings.build_timeline(market, impact=True)
    walk = run_compiled(settings, market, hard, line, keep_decisions=True)
    kept = walk.decisions
    row = int(np.flatnonzero(hard.is_adjustable.any(axis=1))[40])
    kept.solve_status[row] = UNFINISHED
    said = CompiledDecisions(settings, "x", market.bars, hard, walk)
    (failed,) = (decision for decision in said if decision.sizing_failure)
    assert said.failure_count == 1
    assert failed.at == hard.instants[row]
    assert failed.sizing_failure == format_solver_failure(UNFINISHED, 5)
    assert failed.sizing_rules == ()
    assert not failed.orders
    assert {choice.bound_by for choice in failed.choices} == {"failed"}
    assert all(np.isnan(choice.kelly) for choice in failed.choices)


DAILY = (
    *("timeframe=1d", "start=2023-12-01", "data.start=2022-01-03", "data.end=2024-03-01"),
    *("symbols=[SYA,SYB,SYC,SYD]", "trials=null", "margin.debit_basis=settlement"),
)


def halved(market: Market, symbol: str, date: str) -> Market:
    """Raw prices of a market in which a symbol splits two for one, and pays a dividend."""
    (opens,) = session_opens_on(np.array([date], dtype="datetime64[D]"))
    splits = CorporateAction(symbol, opens, split_ratio=2.0, dividend=0.5)
    bars = market.bars
    values = bars.values.copy()
    later = bars.times >= splits.effective_open
    values[bars.symbols.index(symbol), later, :VOLUME] /= 2.0
    values[bars.symbols.index(symbol), later, VOLUME] *= 2.0
    return replace(
        market.with_bars(replace(bars, values=values)), actions=(splits,), accepts_jumps=True
    )


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("fill", "strategy", "capital"),
    [
        ("open", "kelly_50", 100_000.0),
        ("open", "fixed_fraction", 2_000_000.0),
        ("close", "risk_parity", 1_500.0),
    ],
)
def test_daily_orders_fill_in_auctions_in_every_engine(
    fill: str, strategy: str, capital: float
) -> None:
    """A stock splits between a decision and the open that fills it, in unadjusted prices."""
    words = *DAILY, f"fill={fill}", f"sizing.strategy={strategy}", f"capital={capital}"
    settings, market, trader = believing(*words)
    if fill == "open":
        market = halved(market, "SYB", "2024-01-17")
    run = walked_as_stepped(settings, market, trader)
    if fill == "open" and strategy == "kelly_50":
        name = "kelly_50-20240116T210000Z-SYB-0-0"
        (order,) = [order for _, order in run.decisions.orders if order.client_order_id == name]
        (split,) = [each for each in run.fills if each.client_order_id == name]
        assert split.qty == 2 * order.signed_qty, "what waited for the open is doubled with it"
    auctions = exchange_calendar().opens if fill == "open" else exchange_calendar().closes
    bought = [each for each in run.fills if each.price and each.client_order_id[:3] != "liq"]
    assert len(bought) > 30
    assert all(each.at in auctions and each.booked_at > each.at for each in bought)
    swept_like(run, settings, market, trader)
