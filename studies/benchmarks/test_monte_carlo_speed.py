"""Time of ten thousand simulated years with the autoscaler, and of a plain loop in Python."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
import pytest

from foundation.arrays import Index
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.simulation.resampled_accounts import simulate_accounts, summarize_paths
from option_spreads.simulation.resampling import (
    UNITS_PER_DOLLAR,
    IntArray,
    ScaledSizingRules,
    draw_trades,
    simulate_account_paths,
)
from option_spreads.simulation.settings import MonteCarloSettings
from option_spreads.simulation.trade_sample import TradeSample

pytestmark = pytest.mark.bench
A_DAY = 3
RUNS = 10_000
DAYS = 252
PLAIN = 20


def plain(
    results: IntArray, risks: IntArray, draws: Index, rules: AutoscalingSettings
) -> list[list[int]]:
    """Return balances [R, D] in units by the same rules in a plain loop in Python."""
    pnl = results.tolist()
    risk = risks.tolist()
    floor = round(rules.halt_balance * UNITS_PER_DOLLAR)
    found = []
    for run in draws.tolist():
        balance = round(rules.STARTING_CAPITAL * UNITS_PER_DOLLAR)
        window = deque()
        closed = 0
        wins = 0
        won = 0
        lost = 0
        days = []
        for day in run:
            for k in day:
                if balance < floor:
                    break
                if closed < rules.BOOTSTRAP_TRADES:
                    size = 1
                elif wins == 0 or won < lost:
                    size = rules.NEGATIVE_KELLY_CONTRACTS
                else:
                    wanted = balance * wins * (won - lost) // (2 * len(window) * won * risk[k])
                    size = min(max(wanted, 1), rules.MAX_CONTRACTS)
                if size == 0:
                    break
                if len(window) == rules.ROLLING_WINDOW:
                    old = window.popleft()
                    wins, won, lost = (
                        (wins - 1, won - old, lost) if old > 0 else (wins, won, lost + old)
                    )
                window.append(pnl[k])
                wins, won, lost = (
                    (wins + 1, won + pnl[k], lost) if pnl[k] > 0 else (wins, won, lost - pnl[k])
                )
                closed += 1
                balance += size * pnl[k]
            days.append(balance)
        found.append(days)
    return found


def test_time_of_ten_thousand_simulated_trading_years() -> None:
    rng = np.random.default_rng(0)
    results = (
        np.where(rng.random(200) < 0.6, rng.integers(20, 120, 200), -rng.integers(20, 150, 200))
        * UNITS_PER_DOLLAR
    )
    risks = np.full(200, 250 * UNITS_PER_DOLLAR)
    rules = AutoscalingSettings()
    sample = TradeSample(results, risks, risks, float(A_DAY), np.zeros_like(results))
    simulate_accounts(sample, MonteCarloSettings(runs=10, days=5))  # compiled, or read from disk
    began = time.perf_counter()
    computing = time.process_time()
    sets = simulate_accounts(sample, MonteCarloSettings(runs=RUNS, days=DAYS))
    simulated = time.perf_counter() - began
    figures = {name: summarize_paths(runs) for name, runs in sets.items()}
    whole = time.perf_counter() - began
    computed = time.process_time() - computing
    draws = draw_trades(200, RUNS, DAYS, A_DAY, 0)
    began = time.perf_counter()
    fast = simulate_account_paths(results, risks, draws, ScaledSizingRules.from_settings(rules))
    ours = time.perf_counter() - began
    began = time.perf_counter()
    slow = plain(results, risks, draws[:PLAIN], rules)
    theirs = (time.perf_counter() - began) * RUNS / PLAIN
    assert (fast.balances[:PLAIN] * UNITS_PER_DOLLAR).round().astype(np.int64).tolist() == slow
    print(
        f"\nthree sets of {RUNS:,} x {DAYS} days x {A_DAY} trades: {simulated:.2f} s, with all"
        f" figures {whole:.2f} s; {computed:.2f} s of the processor"
    )
    print(
        f"one set, draws given: {ours:.3f} s, a plain loop {theirs:.1f} s: {theirs / ours:.0f} x;"
        f" {PLAIN} runs equal"
    )
    print({name: round(told["p_loss"], 4) for name, told in figures.items()})
