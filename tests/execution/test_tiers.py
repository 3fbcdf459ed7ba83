"""Drawdown tiers: the factor of the limits, and the peak from which a drawdown is measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.decision.tiers import DrawdownTiers, highest_equity
from execution.decision.trader import Trader
from execution.journal.decisions import read_highest_equity
from execution.orders.account_snapshot import AccountSnapshot
from foundation.errors import InputError
from marketsimulator.run_result import Run
from marketsimulator.runs.simulate import can_run_compiled, simulate_trading
from marketsimulator.settings import BacktestSettings
from sizing.problem import scale_limits
from tests.sizing.books import rich_book
from tests.support.connections import open_for_test
from tests.support.eager_runs import believing
from tests.support.messages import refused
from trainingdata.market import Market

TIERS = DrawdownTiers({0.10: 0.5, 0.05: 0.75})


def account_of(equity: float) -> AccountSnapshot:
    return AccountSnapshot(equity, {}, {}, np.datetime64("2024-02-20T15:00", "ns"))


@pytest.mark.parametrize(
    ("drawdown", "factor"),
    [(0.0, 1.0), (0.025, 0.875), (0.05, 0.75), (0.075, 0.625), (0.10, 0.5), (0.9, 0.5)],
)
def test_factor_is_linear_between_the_tiers(drawdown: float, factor: float) -> None:
    assert TIERS.limit_factor(drawdown) == pytest.approx(factor, rel=1e-12)
    assert TIERS.apply(account_of(100.0 * (1 - drawdown)), 100.0).limit_factor == pytest.approx(
        factor, rel=1e-12
    )


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_factor_never_rises_with_the_drawdown(drawdowns: list[float]) -> None:
    factors = [TIERS.limit_factor(each) for each in sorted(drawdowns)]
    assert factors == sorted(factors, reverse=True)


def test_limits_stay_without_tiers_or_decisions() -> None:
    account = account_of(50.0)
    assert DrawdownTiers().apply(account, 100.0) is account
    assert TIERS.apply(account, 0.0) is account
    assert TIERS.apply(account_of(150.0), 100.0).limit_factor == 1.0
    assert TIERS.apply(account_of(-50.0), 100.0).limit_factor == 0.5


@pytest.mark.parametrize(
    ("tiers", "facts"),
    [
        ({0.05: 0.5, 0.10: 0.75}, ("guards.tiers", "0.1: 0.75")),
        ({0.05: 0.0}, ("guards.tiers.0.05", "0")),
        ({1.5: 0.5}, ("guards.tiers.1.5",)),
    ],
)
def test_invalid_tiers_are_refused(tiers: dict[float, float], facts: tuple[str, ...]) -> None:
    with refused(InputError, *facts):
        DrawdownTiers(tiers)


def test_deposits_do_not_hide_a_drawdown() -> None:
    """An account falls from 100 to 80; 80 more are paid in, then 40 of 160 are paid out."""
    equities = {1: 100.0, 2: 80.0, 4: 160.0, 6: 120.0}
    assert highest_equity({1: 100.0, 2: 80.0}, {}) == 100.0
    assert highest_equity(equities, {3: 80.0, 5: -40.0}) == 150.0
    assert highest_equity({}, {3: 80.0}) == 0.0


def test_factor_scales_the_cap_and_the_gross_ceilings() -> None:
    problem = rich_book(3).problem
    limits, scaled = problem.limits, scale_limits(problem, 0.5).limits
    for name in ("symbol_cap", "crypto_cap", "stock_ceiling", "granted_gross_exposure"):
        assert getattr(scaled, name) == getattr(limits, name) / 2
    assert (scaled.margin_equity, scaled.max_positions) == (
        limits.margin_equity,
        limits.max_positions,
    )
    assert scale_limits(problem, 1.0) is problem


def test_backtest_sizes_by_the_drawdown_of_its_decisions() -> None:
    """Each ceiling is that without tiers times the factor at the drawdown from earlier equities."""
    tiers = DrawdownTiers({0.01: 0.6, 0.02: 0.3})
    settings, market, trader = believing()
    assert can_run_compiled(settings, market)
    ceilings = {round(d.stock_ceiling, 9) for d in _run(settings, market, trader).decisions}
    tightened = replace(settings, guards=tiers)
    assert not can_run_compiled(tightened, market)
    peak, factors = 0.0, []
    for decision in _run(tightened, market, trader).decisions:
        factors.append(tiers.limit_factor(max(1 - decision.equity / peak, 0.0)) if peak else 1.0)
        assert round(decision.stock_ceiling / factors[-1], 9) in ceilings
        peak = max(peak, decision.equity)
    assert min(factors) == 0.3
    assert any(0.3 < factor < 1.0 for factor in factors)


def _run(settings: BacktestSettings, market: Market, trader: Trader) -> Run:
    return simulate_trading(settings, market, "x", trader)


def test_empty_journal_has_no_highest_equity() -> None:
    assert read_highest_equity(open_for_test(), "trade") == 0.0
