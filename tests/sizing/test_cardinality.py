"""At most so many positions: against all choices there are."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from foundation.arrays import Array
from sizing.solver.active_set import SOLVED
from sizing.solver.cardinality import _worth, sparse_weights
from sizing.solver.multi_period import SizingProblem, optimal_weights


def book(rng: np.random.Generator, n: int, blocks: int, *, rows: bool) -> SizingProblem:
    """Symbols of three factors, some held, some of them fixed, under a ceiling."""
    factors = rng.normal(0, 0.01, (n, 3))
    risk = factors @ factors.T + np.diag(rng.uniform(1e-5, 2e-4, n))
    lengths = np.array([1.0, 3.0, 20.0])[:blocks]
    held = np.where(rng.random(n) < 0.4, rng.uniform(-0.2, 0.3, n), 0.0)
    fixed = rng.random(n) < 0.1
    part = (rng.random(n) < 0.5) * 1.0
    low, high = np.sort(rng.uniform(-0.3, 0.5, 2))
    return SizingProblem(
        rng.normal(2e-4, 1e-3, (blocks, n)),
        risk * lengths[:, None, None],
        np.full((blocks, n), rng.choice([0.0, 3e-4])),
        np.full(blocks, 1e-5),
        held,
        np.where(fixed, held, -0.6),
        np.where(fixed, held, 0.6),
        np.ones((1, n)),
        np.array([2.0]),
        0.5,
        np.stack([part, -part]) if rows else np.zeros((0, n)),
        np.array([high, -low]) if rows else np.zeros(0),
    )


def passed(p: SizingProblem, plan: Array) -> float:
    return float(np.maximum(p.net @ plan[0] - p.net_limits, 0.0).sum())


def best_of_all(p: SizingProblem, places: int) -> float:
    """The objective of the best choice: every choice solved."""
    free = np.flatnonzero(p.upper > p.lower)
    allowed = passed(p, optimal_weights(p)[1]) + 1e-9
    best = -np.inf
    for chosen in combinations(free, min(places, len(free))):
        out = np.setdiff1d(free, chosen)
        lower, upper = p.lower.copy(), p.upper.copy()
        lower[out] = upper[out] = 0.0
        status, plan, _ = optimal_weights(p._replace(lower=lower, upper=upper))
        if status == SOLVED and passed(p, plan) <= allowed:
            best = max(best, _worth(p, plan))
    return best


def check(seed: int, n: int, most: int) -> float:
    """By how much the best choice is better; NaN where the gap is not known."""
    rng = np.random.default_rng(seed)
    p = book(rng, n, int(rng.choice([1, 3])), rows=bool(rng.random() < 0.4))
    fixed = int(((p.upper == p.lower) & (p.lower != 0)).sum())
    status, plan, _, gap = sparse_weights(p, float(most))
    again = sparse_weights(p, float(most))[1]
    np.testing.assert_array_equal(plan, again)
    assert status == SOLVED
    assert np.count_nonzero(plan[0]) <= max(most, fixed)
    if np.isnan(gap):
        return gap
    better = best_of_all(p, max(most - fixed, 0)) - _worth(p, plan)
    assert gap >= better - 1e-10
    assert gap >= 0
    return better


def test_the_gap_is_never_below_how_much_better_the_best_choice_is() -> None:
    rng = np.random.default_rng(1)
    better = np.array(
        [check(seed, int(rng.integers(3, 10)), int(rng.integers(1, 6))) for seed in range(80)]
    )
    assert np.isnan(better).sum() <= 8
    assert (better[np.isfinite(better)] <= 1e-9).mean() > 0.7


@pytest.mark.slow
def test_the_gap_holds_at_twenty_symbols() -> None:
    for seed in range(8):
        check(1_000 + seed, 20, 3)


def test_positions_that_fit_are_what_they_are_without_a_limit() -> None:
    p = book(np.random.default_rng(3), 8, 3, rows=True)
    _, plan, prices = optimal_weights(p)
    found = sparse_weights(p, 8.0)
    np.testing.assert_array_equal(found[1], plan)
    np.testing.assert_array_equal(found[2], prices)
    assert found[3] == 0.0


def test_of_equal_symbols_the_first_stand() -> None:
    n = 6
    p = SizingProblem(
        np.full((1, n), 1e-3),
        np.eye(n)[None] * 1e-3,
        np.zeros((1, n)),
        np.zeros(1),
        np.zeros(n),
        np.zeros(n),
        np.full(n, 0.6),
        np.ones((1, n)),
        np.array([4.0]),
        0.5,
    )
    _, plan, _, gap = sparse_weights(p, 2.0)
    assert plan[0] == pytest.approx([0.5, 0.5, 0, 0, 0, 0])
    # Four weights of 0.5, each worth 1e-3/2 - 1e-3/4, are left out.
    assert gap == pytest.approx(4 * 2.5e-4)
