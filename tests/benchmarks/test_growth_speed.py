"""Kelly over 1,024 scenarios, beside Riskfolio-Lib's exact Kelly on the same ones in the same run:
SIZING_PYTHON names an interpreter that has it. Times are medians of problems, each solved once
before, on the clock of the wall and of the processor."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foundation.arrays import Array
from sizing import Limits, Situation, growth_stakes
from sizing.growth import GrowthKelly, growth_program
from sizing.optimum import bounded_optimum, optimum_of
from sizing.scenarios import block_returns
from sizing.solver.multi_period import LaterBlocks

pytestmark = pytest.mark.bench
SIZES = (10, 50)
SCENARIOS = 1024
PROBLEMS = 20
CAP = 0.6
PREMIUM = 0.06 / 1764  # a bar
BARS = np.array([1, 2, 193])  # of a plan's blocks


def moments(n: int, seed: int) -> tuple[Array, Array]:
    """Edges and a factor covariance of a day."""
    rng = np.random.default_rng([n, seed])
    factors = rng.normal(0, 0.01, (1000, 3)) @ rng.normal(0, 0.5, (3, n)) + rng.normal(
        0, 0.01, (1000, n)
    )
    return rng.normal(5e-4, 5e-4, n), np.cov(factors, rowvar=False)


def situation(n: int, seed: int, blocks: int) -> Situation:
    """A book within its limits, with costs: one block, or the three of a plan."""
    mu, covariance = moments(n, seed)
    rng = np.random.default_rng([n, seed, 1])
    held = np.clip(rng.normal(0, 0.3, n) * (rng.random(n) < 0.7), -CAP, CAP)
    cost = np.full(n, 2e-4)
    later = None
    if blocks > 1:
        signal = mu - 5e-4
        returns = np.array([signal, signal, np.zeros(n)]) + PREMIUM * BARS[:, None]
        risks = covariance / 7 * BARS[:, None, None]
        mu, covariance = returns[0], risks[0]
        later = LaterBlocks(returns[1:], risks[1:], np.zeros(2), np.tile(cost, (2, 1)))
    no = np.zeros(n, dtype=bool)
    return Situation(
        mu=mu,
        covariance=covariance,
        held=held * min(1.0, 3.9 / max(np.abs(held).sum(), 1e-9)),
        cost=cost,
        crypto=no,
        long_only=no,
        deciding=~no,
        universe=~no,
        years=np.full(n, 1 / 1764),
        equity=1e5,
        stock_ceiling=4.0,
        unborrowed=1.0,
        later=later,
    )


def milliseconds(work: Callable[[], object]) -> tuple[float, float]:
    """Of the wall and of the processor, the second time."""
    work()
    wall, own = time.perf_counter(), time.process_time()
    work()
    return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - own)


def median(pairs: list[tuple[float, float]]) -> str:
    """Median by the wall (by the processor)."""
    wall, own = (statistics.median(column) for column in zip(*pairs, strict=True))
    return f"{wall:.2f} ms ({own:.2f})"


@pytest.mark.parametrize("n", SIZES)
def test_decisions_over_scenarios(n: int) -> None:
    limits = Limits()
    for blocks in (1, 3):
        for strategy in (GrowthKelly(0.5), GrowthKelly(1.0, bounded=True)):
            whole, drawn, solved = [], [], []
            gap = 0.0
            solve = bounded_optimum if strategy.bounded else optimum_of
            for seed in range(PROBLEMS):
                s = situation(n, seed, blocks)
                given = s, limits, np.arange(n), strategy.settings, strategy.aversion
                program = growth_program(*given)._replace(share=float(not strategy.bounded))
                whole.append(milliseconds(lambda: strategy.allocate(s, limits)))  # noqa: B023
                drawn.append(milliseconds(lambda: growth_program(*given)))  # noqa: B023
                solved.append(milliseconds(lambda: solve(program)))  # noqa: B023
                gap = max(gap, solve(program).gap)
            name = "risk_constrained" if strategy.bounded else "log_50"
            print(
                f"\n{name}, n = {n}, blocks {blocks}: the whole answer {median(whole)}, scenarios"
                f" {median(drawn)}, the program {median(solved)}; gap at most {gap:.1e}"
            )


@pytest.mark.parametrize("n", SIZES)
def test_the_same_scenarios_beside_riskfolio(n: int, tmp_path: Path) -> None:
    """Long weights, CAP at most, 1 together: what Riskfolio-Lib's exact Kelly solves."""
    taken, drawn, growth, gaps, samples = [], [], [], [], []
    chance = np.full(SCENARIOS, 1 / SCENARIOS)
    for seed in range(PROBLEMS):
        mu, covariance = moments(n, seed)
        drawn.append(milliseconds(lambda: block_returns(mu[None], covariance[None], copula="t")))  # noqa: B023
        returns = block_returns(mu[None], covariance[None], copula="t")[0].T.copy()
        limits = {"upper": CAP, "groups": [(np.ones(n), 1.0)]}
        taken.append(milliseconds(lambda: growth_stakes(returns, chance, **limits)))  # type: ignore[arg-type]  # noqa: B023
        found = growth_stakes(returns, chance, **limits)  # type: ignore[arg-type]
        assert found.weights.sum() == pytest.approx(1.0)
        growth.append(np.log1p(returns @ found.weights).mean())
        gaps.append(found.gap)
        samples.append(returns)
    print(
        f"\nn = {n}: exact Kelly over {SCENARIOS:,} scenarios {median(taken)}, drawing them"
        f" {median(drawn)}; gap at most {max(gaps):.1e} of {np.mean(growth):.1e}"
    )
    python = os.environ.get("SIZING_PYTHON")
    if python is None:
        return
    np.savez(tmp_path / "problems.npz", returns=np.array(samples), cap=CAP)
    script = Path(__file__).parent / "peer_growth.py"
    subprocess.run(
        [python, script, tmp_path / "problems.npz", tmp_path / "answers.npz"], check=True
    )
    with np.load(tmp_path / "answers.npz", allow_pickle=False) as answers:
        theirs, seconds = answers["weights"].reshape(PROBLEMS, n), answers["seconds"]
    other = [np.log1p(r @ w).mean() for r, w in zip(samples, theirs, strict=True)]
    ahead = np.array(growth) - np.array(other)
    pairs = [(1e3 * wall, 1e3 * own) for wall, own in seconds[1:].tolist()]
    times = statistics.median(own for _, own in pairs) / (
        statistics.median(own for _, own in taken) + statistics.median(own for _, own in drawn)
    )
    passed = max((theirs.sum(axis=1) - 1).max(), (theirs - CAP).max(), -theirs.min())
    print(
        f"    Riskfolio-Lib kelly=exact: {median(pairs)}, {times:.0f} x of ours with its scenarios,"
        f" both by the processor; its growth"
        f" is above ours by at most {max(-ahead.min(), 0):.1e} (its weights pass a"
        f" limit by at most {passed:.1e}), below it by at most {ahead.max():.1e}"
    )
