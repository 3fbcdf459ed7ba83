"""At most so many positions: against all choices there are."""

# Private access: parts of the compiled search, each compared with a plain computation.
from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from foundation.arrays import Array
from sizing.solver.active_set import SOLVED
from sizing.solver.cardinality import (
    _best_unchosen_weight,
    _contributions,
    _max_gain_of_weight,
    _objective,
    solve_with_max_positions,
)
from sizing.solver.multi_period import SizingProblem, optimal_weights
from tests.sizing.books import plan_for
from tests.support.plans import plan as any_plan
from tests.support.plans import worth


def book(seed: int, n: int, periods: int, *, rows: bool) -> SizingProblem:
    """A plan, under an interval of what some of its symbols are together where there are rows."""
    p = any_plan(seed, periods, n)
    if not rows:
        return p._replace(net_coefficients=np.zeros((0, n)), net_limits=np.zeros(0))
    rng = np.random.default_rng(seed)
    part = (rng.random(n) < 0.5) * 1.0
    low, high = np.sort(rng.uniform(-0.3, 0.5, 2))
    return p._replace(net_coefficients=np.stack([part, -part]), net_limits=np.array([high, -low]))


def passed(p: SizingProblem, plan: Array) -> float:
    return float(np.maximum(p.net_coefficients @ plan[0] - p.net_limits, 0.0).sum())


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
            best = max(best, worth(p, plan))
    return best


@given(st.integers(0, 100_000), st.integers(1, 3))
def test_compiled_objective_matches_the_python_objective(seed: int, periods: int) -> None:
    p = any_plan(seed, periods)
    held = np.where(p.upper == p.lower, p.held_weight, 0.0)
    for weights in (p.solve()[1], np.tile(held, (periods, 1))):
        assert _objective(p, weights) == pytest.approx(worth(p, weights), abs=1e-12)


def wide(seed: int, periods: int) -> SizingProblem:
    """A book of free symbols that no limit holds, whose later periods move for nothing."""
    p = book(seed, 6, periods, rows=False)
    cost = np.where(np.arange(periods)[:, None] == 0, 3e-4, np.zeros((periods, 6)))
    far = np.full(6, 50.0)
    held = np.where(np.random.default_rng(seed).random(6) < 0.5, p.held_weight, 5 * p.held_weight)
    return p._replace(
        covariance=p.covariance + 1e-4 * np.eye(6),
        cost=cost,
        financing_cost=0 * p.financing_cost,
        lower=-far,
        upper=far,
        ceilings=1e3 * p.ceilings,
        held_weight=held,
    )


@given(st.integers(0, 100_000), st.integers(1, 3))
def test_contribution_of_a_weight_is_what_removal_loses(seed: int, periods: int) -> None:
    """For a weight kept at its held value, the loss may differ by the exit cost."""
    p = wide(seed, periods)
    weights = p.solve()[1]
    parts = _contributions(p, weights)
    for i in range(6):
        without = weights.copy()
        without[:, i] = 0.0
        lost = worth(p, weights) - worth(p, without) if weights[0, i] else 0.0
        kept = weights[0, i] == p.held_weight[i] != 0
        assert parts[i] == pytest.approx(lost, abs=1e-9 + kept * 3e-4 * abs(p.held_weight[i]))


@given(st.integers(0, 100_000), st.integers(1, 3), st.sampled_from([-0.7, 0.0, 0.7]))
def test_value_of_adding_a_symbol_matches_numerical_maximum(
    seed: int, periods: int, held: float
) -> None:
    """The value is net of the limits it uses, at their shadow prices."""
    p = book(seed, 5, periods, rows=True)
    rng = np.random.default_rng(seed)
    p = p._replace(
        financing_cost=0 * p.financing_cost,
        ceiling_coefficients=rng.uniform(0.2, 2.0, (1, 5)),
        ceilings=np.array([2.0]),
        cost=np.where(np.arange(periods)[:, None] == 0, 3e-4, 0 * p.cost),
        held_weight=np.append(p.held_weight[:4], held),
        lower=np.append(p.lower[:4], -0.3),
        upper=np.append(p.upper[:4], 0.6),
    )
    weights = rng.uniform(-0.5, 0.5, (periods, 5)) * (rng.random(5) < 0.7)
    weights[:, 4] = 0.0
    prices = rng.uniform(0, 4e-4, 3 + periods) * (rng.random(3 + periods) < 0.5)
    sizes = p.ceiling_coefficients[0, 4] * prices[0] + prices[3]
    least = worth(p, weights)

    def gain(w: float) -> float:
        moved = weights.copy()
        moved[:, 4] = w
        return worth(p, moved) - least - sizes * abs(w) - prices[1:3] @ p.net_coefficients[:, 4] * w

    best = minimize_scalar(lambda w: -gain(w), bounds=(-0.3, 0.6), options={"xatol": 1e-9})
    gains = [gain(w) for w in (best.x, 0.0, -0.3, 0.6)]
    added = _max_gain_of_weight(p, weights, prices, 4)
    assert max(gains) - 1e-12 <= added <= max(gains) + 1e-8
    tried = np.arange(5) < 4
    assert _best_unchosen_weight(p, weights, prices, tried) == (4 if added > 0 else -1)


def test_positions_within_the_count_limit_are_unchanged() -> None:
    p = book(3, 8, 3, rows=True)
    _, plan, prices = optimal_weights(p)
    found = solve_with_max_positions(p, 8.0)
    np.testing.assert_array_equal(found[1], plan)
    np.testing.assert_array_equal(found[2], prices)


@pytest.mark.parametrize(("n", "most"), [(6, 2), (40, 39)])
def test_position_limit_keeps_the_first_of_equal_symbols(n: int, most: int) -> None:
    p = plan_for(np.full((1, n), 1e-3), np.eye(n)[None] * 1e-3, lower=0.0, upper=0.6)
    plan = solve_with_max_positions(p, float(most))[1]
    assert plan[0] == pytest.approx(np.where(np.arange(n) < most, 0.5, 0.0))


@pytest.mark.parametrize("floor", [0.2, 0.55])
def test_required_group_floor_outranks_more_profitable_symbols(floor: float) -> None:
    """The required symbol is selected at first or exchanged for the more profitable one."""
    net = {"net_coefficients": [[-1.0, 0.0]], "net_limits": [-floor]}
    p = plan_for(np.array([[1e-4, 1e-3]]), np.eye(2)[None] * 1e-3, lower=-0.6, upper=0.6, **net)
    plan = solve_with_max_positions(p, 1.0)[1]
    assert plan[0] == pytest.approx([floor, 0.0])


def gain_of_best_choice(seed: int, n: int, most: int) -> float:
    """The objective that the best choice gains; NaN where the answer exceeds a net limit."""
    rng = np.random.default_rng(seed)
    p = book(seed, n, int(rng.choice([1, 3])), rows=bool(rng.random() < 0.4))
    fixed = int(((p.upper == p.lower) & (p.lower != 0)).sum())
    status, plan, _ = solve_with_max_positions(p, float(most))
    np.testing.assert_array_equal(plan, solve_with_max_positions(p, float(most))[1])
    assert status == SOLVED
    assert np.count_nonzero(plan[0]) <= max(most, fixed)
    if passed(p, plan) > passed(p, optimal_weights(p)[1]) + 1e-9:
        return np.nan
    return best_of_all(p, max(most - fixed, 0)) - worth(p, plan)


def test_chosen_positions_are_mostly_the_best_choice() -> None:
    rng = np.random.default_rng(1)
    better = np.array(
        [
            gain_of_best_choice(seed, int(rng.integers(3, 10)), int(rng.integers(1, 6)))
            for seed in range(60)
        ]
    )
    assert np.isnan(better).sum() <= 6
    assert (better[np.isfinite(better)] <= 1e-9).mean() > 0.7
