"""A universe in a run: what leaves it is sold by the same orders, walked, stepped and live."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import marketsimulator.audit
from execution.decision.trader import Trader
from execution.live.settings import LiveSettings
from foundation.compose import compose_config
from foundation.errors import InputError
from foundation.files import write_files_atomically
from marketsimulator.audit import check_look_ahead
from marketsimulator.backtest import run_backtest
from marketsimulator.explain import explain
from marketsimulator.results.report import result_file_writers
from marketsimulator.run_result import Run
from marketsimulator.runs.outcome import simulate_variants
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.accountant import Records, audit
from tests.marketsimulator.runs import eager_trader, settings_of, trader_of, walked_as_stepped
from tests.support.messages import refused
from trainingdata.market import Market
from trainingdata.universe import EXCLUSION_RULES, KEEP

SYMBOLS = ("SYA", "SYB", "SYC", "SYXUSD", "SYYUSD")
WORDS = (
    *("start=2024-02-14", "data.start=2024-01-02", "data.end=2024-02-24", "trials=null"),
    *(f"symbols=[{','.join(SYMBOLS)}]", "forecaster=ewma", "forecaster.calibrated=false"),
    "universe.window=10d",
)
MOMENTUM = ("universe.rank=momentum", "universe.keep=3", "universe.rebalance=daily")
GROWTH = ("universe.top=4", "universe.rank=growth", "universe.keep=2")


def chosen(*words: str) -> BacktestSettings:
    return settings_of(*WORDS, *words)


def believing(*words: str) -> tuple[BacktestSettings, Market, Trader]:
    settings = chosen(*words)
    return settings, *eager_trader(settings)


def sold_on_leaving(run: Run, trader: Trader) -> int:
    """How many positions were sold because they had left, each down to nothing."""
    table = trader.belief_table
    assert table is not None
    count = 0
    for decision in run.decisions:
        t = int(np.searchsorted(table.instants, decision.at))
        for choice in decision.choices:
            s = SYMBOLS.index(choice.symbol)
            rule = int(table.exclusion_rule[t, s])
            assert [
                name for name in choice.binding_shadow_prices if name.startswith("universe.")
            ] == ([f"universe.{EXCLUSION_RULES[rule]}"] if rule else [])
            if rule:
                count += 1
                assert choice.target_weight == 0.0
                assert np.isnan(choice.kelly)
                assert choice.held_weight != 0.0
                assert choice.qty * int(np.sign(choice.held_weight)) < 0
    return count


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("strategy", "ranked"), [("kelly_50", MOMENTUM), ("risk_parity", GROWTH), ("legacy", GROWTH)]
)
def test_symbols_leaving_universe_are_sold_in_every_engine(
    strategy: str, ranked: tuple[str, ...]
) -> None:
    settings, market, trader = believing(f"sizing.strategy={strategy}", *ranked)
    run = walked_as_stepped(settings, market, trader)
    assert str(audit(Records.of(asdict(settings), market.bars, run))) == "0 differences"
    assert trader.belief_table is not None
    (outcome,) = simulate_variants([settings], market, trader.belief_table)
    assert outcome.equity.tolist() == [row.equity for row in run.equity_rows]
    assert sold_on_leaving(run, trader) > 1


def test_symbol_leaving_universe_without_forecast_is_sold() -> None:
    settings, market, trader = believing(*MOMENTUM)
    table = trader.belief_table
    assert table is not None
    blind = np.where(table.exclusion_rule[:, None] != 0, np.nan, table.sigma)
    trader = replace(trader, belief_table=table._replace(sigma=blind))
    run = walked_as_stepped(settings, market, trader)
    assert sold_on_leaving(run, trader) > 1
    reasons = run.order_frame()["reason"]
    assert reasons.str.contains("no forecast: weight").any()


@pytest.mark.first_example
@pytest.mark.parametrize("ranked", [MOMENTUM, GROWTH], ids=["momentum", "growth"])
def test_live_beliefs_equal_those_of_whole_history(ranked: tuple[str, ...]) -> None:
    settings = chosen(*ranked)
    market = settings.load_market()
    trader = trader_of(settings, market)
    table = trader.build_beliefs(market)
    assert {0, KEEP} <= set(np.unique(table.exclusion_rule))
    for t in range(0, len(table.instants), len(table.instants) // 12):
        known = market.bars.slice_until(table.instants[t])
        now = trader.build_beliefs(Market(known, len(known.times) - 1)).at_instant(
            table.instants[t]
        )
        then = table.at_instant(table.instants[t])
        assert now is not None
        assert then is not None
        # Without a decision no matrix is requested, and the premium is not read.
        more = ("premium_per_unit_sharpe",) if then.is_adjustable.any() else ()
        for name in ("exclusion_rule", "is_exiting", "is_adjustable", *more):
            np.testing.assert_array_equal(getattr(now, name), getattr(then, name))


def test_results_report_the_universe_rule_and_its_effect(tmp_path: Path) -> None:
    results = run_backtest(chosen(*MOMENTUM, "sizing.strategy=equal_weight"))
    summary = results.summary()
    said = "\n".join(summary["remarks"])
    assert "Universe: the 3 best by momentum; renewed daily. " in said
    assert "3 to 3 of 5 symbols may be held, 3.0 on average; at 10 renewals" in said
    write_files_atomically(result_file_writers(results, summary), tmp_path / "run")
    sold = results.main_run.order_frame()
    sold = sold[
        sold["reason"].str.contains("the symbol has left the universe (universe.keep)", regex=False)
    ]
    assert len(sold)
    story = explain(tmp_path / "run", order=sold["client_order_id"].iloc[0])
    assert "left the universe (universe.keep)" in story


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["universe.top=2", "universe.window=800d"], ("universe.window", "800d")),
        (["universe.min_bars=2000", "history_days=365"], ("universe.min_bars", "2000")),
    ],
)
def test_universe_needing_more_history_is_refused_live(
    words: list[str], facts: tuple[str, ...]
) -> None:
    """Otherwise the universe would be empty, and everything would be sold."""
    with refused(InputError, *facts):
        LiveSettings.from_config(compose_config("live", ["symbols=[NVDA,BTCUSD]", *words]))


@pytest.mark.first_example
@pytest.mark.parametrize("ranked", [MOMENTUM, GROWTH], ids=["momentum", "growth"])
def test_universe_membership_has_no_look_ahead(
    ranked: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marketsimulator.audit, "AUDIT_CUTOFF_COUNT", 3)
    settings = chosen(*ranked)
    probes = check_look_ahead(settings, settings.load_market())
    assert [probe.first_difference for probe in probes] == [""] * len(probes)
    assert sum(probe.compared_decision_count for probe in probes) > 100
