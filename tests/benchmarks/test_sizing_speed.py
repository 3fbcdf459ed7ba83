"""One sizing problem beside the peers: SIZING_PYTHON names an interpreter with cvxpy, skfolio,
Riskfolio-Lib and PyPortfolioOpt, PEER_BENCH the folder of their script. The peers solve its
plainest form: no costs, nothing held. A plan of three blocks beside cvxportfolio's multi-period
policy: CVXPORTFOLIO_PYTHON names an interpreter that has it."""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from sizing.kelly import SizingProblem, kelly_weights, optimal_weights
from sizing.solver.active_set import SOLVED, Program
from sizing.solver.multi_period import LaterBlocks, no_later_blocks

pytestmark = pytest.mark.bench
ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(os.environ.get("PEER_BENCH", ROOT.parent / "shared" / "bench"))
SIZES = (10, 20, 50, 200)
PROBLEMS = 200
SHOWN = ("cvxpy DPP OSQP", "skfolio MeanRisk", "Riskfolio-Lib kelly=approx", "PyPortfolioOpt")


def exact(name: str = "test_program") -> ModuleType:
    """The independent solver of the tests."""
    spec = importlib.util.spec_from_file_location(
        "interior", ROOT / "tests" / "sizing" / f"{name}.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def peers() -> dict[int, dict[str, float]]:
    """Median milliseconds by size and peer, in this same run."""
    python = os.environ.get("SIZING_PYTHON")
    if python is None:
        return {}
    done = subprocess.run(
        [python, "b_sizing.py"], cwd=FOLDER, capture_output=True, text=True, check=True
    )
    found: dict[int, dict[str, float]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            row = json.loads(line)
            found.setdefault(row["n"], {})[row["name"]] = row["median_ms"]
    return found


def problems(n: int) -> list[dict[str, Any]]:
    """Factor covariances, edges of the size of costs for every symbol, a book within its limits."""
    made = []
    for seed in range(PROBLEMS):
        rng = np.random.default_rng([n, seed])
        factors = rng.normal(0, 0.01, (1000, 3)) @ rng.normal(0, 0.5, (3, n)) + rng.normal(
            0, 0.01, (1000, n)
        )
        held = rng.normal(0, 0.3, n) * (rng.random(n) < 0.7)
        made.append(
            {
                "mu": rng.normal(0, 5e-4, n),
                "covariance": np.cov(factors, rowvar=False),
                "lower": np.full(n, -0.6),
                "upper": np.full(n, 0.6),
                "groups": [(np.ones(n), 4.0), (np.full(n, 0.25), 1.0)],
                "held": np.clip(held, -0.6, 0.6) * min(1.0, 3.9 / max(np.abs(held).sum(), 1e-9)),
                "cost": np.full(n, 2e-4),
            }
        )
    return made


def milliseconds(
    work: Callable[[dict[str, Any]], object], given: list[dict[str, Any]]
) -> tuple[float, float]:
    """Median and largest over the problems, each solved twice, the second time counted."""
    taken = []
    for p in given:
        work(p)
        began = time.perf_counter()
        work(p)
        taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken), max(taken)


def bare(p: dict[str, Any]) -> object:
    coefficients = np.array([c for c, _ in p["groups"]])
    limits = np.array([limit for _, limit in p["groups"]])
    order = (p[name] for name in ("mu", "covariance", "held", "cost", "lower", "upper"))
    return optimal_weights(*order, coefficients, limits, 0.5, 0.0, no_later_blocks(len(p["mu"])))


def test_one_problem_beside_the_peers() -> None:
    theirs = peers()
    interior = exact()
    for n in SIZES:
        given = problems(n)
        free = [{k: v for k, v in p.items() if k not in ("held", "cost")} for p in given]
        costly, plain = (milliseconds(lambda p: kelly_weights(**p), some) for some in (given, free))
        alone = milliseconds(bare, given)
        gaps = []
        rival = []
        for p in given[:40]:
            groups = np.array([c for c, _ in p["groups"]])
            room = np.array([limit for _, limit in p["groups"]])
            m = len(room)
            order = ("lower", "upper", "held", "cost")
            rest = groups, room, np.full(m, np.inf), np.zeros(m, dtype=bool)
            split = Program(p["mu"], p["covariance"] / 0.5, *(p[name] for name in order), *rest)
            began = time.perf_counter()
            other = interior.interior(split)
            rival.append(1e3 * (time.perf_counter() - began))
            gaps.append(interior.value(split, other) - interior.value(split, kelly_weights(**p)))
        print(
            f"\nn = {n}: with costs {costly[0]:.3f} ms (worst of {PROBLEMS} {costly[1]:.2f}),"
            f" without {plain[0]:.3f}"
            f" ({plain[1]:.2f}); the program alone {alone[0]:.3f};"
            f" PIQP, split form, set up anew {statistics.median(rival):.2f}; objective below PIQP's"
            f" by at most {max(gaps):.1e}"
        )
        for name, ms in theirs.get(n, {}).items():
            if name.startswith(SHOWN):
                print(
                    f"    {name}: {ms:.2f} ms, {ms / costly[0]:.0f} x with costs,"
                    f" {ms / plain[0]:.0f} x without"
                )


def test_a_history_without_costs() -> None:
    count = 8820
    n = 20
    rng = np.random.default_rng(0)
    p = problems(n)[0]
    mu = rng.normal(0, 5e-4, (count, n))
    given = {k: p[k] for k in ("covariance", "lower", "upper", "groups")}
    kelly_weights(mu[:2], **given)
    began = time.perf_counter()
    kelly_weights(mu, **given)
    taken = time.perf_counter() - began
    print(f"\n{count:,} x {n} without costs: {1e3 * taken:.0f} ms, {count / taken:,.0f} problems/s")


PLANS = 60
MONTH = 28 * 7  # problems a size; bars
BARS = (1, 2, MONTH - 3)  # of the blocks


def plans(n: int) -> list[SizingProblem]:
    """The problems above over three blocks: a signal that lasts for three bars, and a premium
    of 6 % a year for all symbols.
    """
    made = []
    for p in problems(n)[:PLANS]:
        groups = np.array([c for c, _ in p["groups"][:1]])
        room = np.array([limit for _, limit in p["groups"][:1]])
        mu = np.array([p["mu"], p["mu"], np.zeros(n)]) + 0.06 / 1764 * np.array(BARS)[:, None]
        risks = p["covariance"] / 7 * np.array(BARS)[:, None, None]
        later = LaterBlocks(mu[1:], risks[1:], np.zeros(2), np.tile(p["cost"], (2, 1)))
        order = (p[name] for name in ("held", "cost", "lower", "upper"))
        made.append(SizingProblem(mu[0], risks[0], *order, groups, room, 0.5, 0.0, later))
    return made


def multi_period(given: list[SizingProblem], folder: Path) -> tuple[Any, Any] | None:
    """cvxportfolio's weights [P, 3, S], and seconds [P] of each."""
    python = os.environ.get("CVXPORTFOLIO_PYTHON")
    if python is None:
        return None
    mu = np.array([[p.mu, *p.later_blocks.mu] for p in given])
    risks = np.array([[p.covariance, *p.later_blocks.covariance] for p in given])
    held = np.array([p.held for p in given])
    fixed = {"cost": given[0].cost[0], "cap": 0.6, "ceiling": 4.0, "fraction": 0.5}
    np.savez(folder / "problems.npz", mu=mu, covariance=risks, held=held, **fixed)
    script = Path(__file__).parent / "peer_plan.py"
    subprocess.run([python, script, folder / "problems.npz", folder / "answers.npz"], check=True)
    with np.load(folder / "answers.npz", allow_pickle=False) as found:
        return found["weights"], found["seconds"]


def test_a_plan_beside_cvxportfolio(tmp_path: Path) -> None:
    """Both solve the same program; what the other's first weights pass of the cap or the
    ceiling is rounding of its solver.
    """
    worth = exact("test_plan").worth
    for n in SIZES[:3]:
        given = plans(n)
        taken = []
        found = []
        for p in given:
            p.solve()
            began = time.perf_counter()
            status, weights, _ = p.solve()
            taken.append(1e3 * (time.perf_counter() - began))
            assert status == SOLVED
            found.append(weights)
        print(
            f"\nplan of three blocks, n = {n}: {statistics.median(taken):.3f} ms, worst of {PLANS}"
            f" {max(taken):.2f}"
        )
        theirs = multi_period(given, tmp_path)
        if theirs:
            ms = 1e3 * statistics.median(theirs[1][1:])
            own = np.array([worth(p, weights) for p, weights in zip(given, found, strict=True)])
            other = np.array(
                [worth(p, weights) for p, weights in zip(given, theirs[0], strict=True)]
            )
            print(
                f"    cvxportfolio: {ms:.1f} ms, {ms / statistics.median(taken):.0f} x; its"
                " objective is above ours by at most"
                f" {(other - own).max():.1e}, below it by at most {(own - other).max():.1e}, of"
                f" {own.mean():.1e}"
            )
