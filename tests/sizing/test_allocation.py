"""From a situation to targets: one symbol by a formula of its own, many by what a closest point
has to be.
"""

# Private access: the program that a projection skips is solved for comparison.
from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from sizing.allocation import (
    WEIGHT_TOL,
    _distance_problem,
    allocate_kelly,
    closest_feasible_weights,
    keep_weights_within_band,
    project_onto_limits,
    solve_multi_period_plan,
)
from sizing.inputs import SizingInputs, check_positions_have_prices
from sizing.kelly import SolverFailed
from sizing.problem import AccountArrays, GroupConstraints, compute_current_weights
from sizing.settings import Limits
from sizing.solver.active_set import SOLVED, UNFINISHED
from tests.sizing.books import changed, random_inputs, rich_book, under
from tests.support.messages import refused


def room(s: SizingInputs, limits: Limits, k: int) -> tuple[float, float]:
    """Least and most weight of symbol k beside a book in which everything else is fixed."""
    others = np.arange(len(s.mu)) != k
    size = np.abs(s.held_weight) * others
    stocks = float(size[~s.crypto].sum())
    coins = float(size[s.crypto].sum())
    both = 1.0 - stocks / s.stock_ceiling - coins
    if s.crypto[k]:
        cash = max(s.unborrowed_cash_share / (1.0 + float(s.unit_cost.max())), 0.0) + abs(
            s.held_weight[k]
        )
        most = min(limits.symbol_cap, limits.crypto_leverage - coins, cash, both)
    else:
        most = min(limits.symbol_cap, s.stock_ceiling - stocks, both * s.stock_ceiling)
    most = max(most, 0.0)
    shorts = s.equity >= limits.margin_equity
    least = -most if shorts else 0.0
    return (max(least, min(float(s.held_weight[k]), 0.0)) if s.long_only[k] else least), most


def book(seed: int) -> SizingInputs:
    """Five symbols over one period."""
    return random_inputs(np.random.default_rng(seed), 5, planned=False)


@given(st.integers(0, 100_000), st.floats(0.1, 1.0), st.floats(-3, 3))
def test_single_symbol_target_is_unconstrained_weight_within_limits(
    seed: int, fraction: float, asked: float
) -> None:
    """Kelly's weight is (mu - Σ of the others' weights ∓ cost) · fraction / σ² beyond the held
    weight, and the held weight in between. A weight rule gives its own. Fixed symbols use their
    part of every ceiling, and act through their covariance.
    """
    k = seed % 5
    s = changed(book(seed), adjustable=np.arange(5) == k)
    fixed = np.where(s.adjustable, 0.0, s.held_weight)
    pull = float(s.mu[k] - s.covariance[k] @ fixed / fraction)
    stiff = float(s.covariance[k, k]) / fraction
    slope = pull - stiff * float(s.held_weight[k])
    cost = float(s.unit_cost[k])
    wish = (
        float(s.held_weight[k]) if abs(slope) <= cost else (pull - np.copysign(cost, slope)) / stiff
    )
    least, most = room(s, Limits(), k)
    target = allocate_kelly(s, fraction).target_weight
    assert target[k] == pytest.approx(min(max(wish, least), most), abs=1e-6)
    assert (target[~s.adjustable] == s.held_weight[~s.adjustable]).all()
    found = project_onto_limits(s, np.where(s.adjustable, asked, s.held_weight))
    assert found.target_weight[k] == pytest.approx(min(max(asked, least), most), abs=1e-8)
    assert found.unconstrained_weight[k] == asked
    assert np.isnan(np.delete(found.unconstrained_weight, k)).all()


@given(st.integers(0, 100_000), st.integers(0, 100_000))
def test_projection_onto_limits_is_the_closest_feasible_point(seed: int, other: int) -> None:
    """For the closest point x of a convex set, (desired - x)'(y - x) ≤ 0 for every other
    point y.
    """
    s = book(seed)
    rng = np.random.default_rng(other)
    wanted, elsewhere = (
        np.where(s.adjustable, rng.normal(0, 0.8, len(s.mu)), s.held_weight) for _ in range(2)
    )
    here, there = (project_onto_limits(s, wish).target_weight for wish in (wanted, elsewhere))
    assert (wanted - here) @ (there - here) <= 1e-7
    np.testing.assert_allclose(project_onto_limits(s, here).target_weight, here, atol=1e-7)
    assert (here[~s.adjustable] == s.held_weight[~s.adjustable]).all()


@given(st.integers(0, 100_000), st.floats(0.0, 0.6), st.booleans())
def test_skipping_the_solver_gives_the_same_target(seed: int, size: float, grouped: bool) -> None:
    """Weights within every limit need no solver: the solved and rounded weights have the same
    bits.
    """
    rng = np.random.default_rng(seed)
    s = random_inputs(rng)
    n = len(s.mu)
    if grouped:
        gross, net = rng.random((2, n)), rng.normal(0.0, 1.0, (2, n))
        groups = GroupConstraints(
            gross, rng.uniform(0.1, 1.0, 2), net, rng.uniform(0.0, 0.5, 2), -1
        )
        s = changed(s, group_constraints=groups)
    desired = np.where(rng.random(n) < 0.7, rng.normal(0.0, size, n), rng.choice([0.0, -0.0], n))
    desired = np.where(s.adjustable & (rng.random(n) < 0.2), s.held_weight, desired)
    status, solved, _ = solve_multi_period_plan(_distance_problem(s.problem, desired), 1.0)
    found, target = closest_feasible_weights(s.problem, desired, np.empty(0))
    same = s.adjustable & (np.abs(solved[0] - desired) <= WEIGHT_TOL)
    assert found == status
    if status == SOLVED:
        assert target.tobytes() == np.where(same, desired, solved[0]).tobytes()


@given(st.integers(0, 100_000), st.sampled_from([0.0, 0.25, 0.5]))
def test_current_weights_within_the_band_are_kept(seed: int, band: float) -> None:
    rng = np.random.default_rng(seed)
    held, desired = rng.normal(0.0, 0.5, (2, 8)) * (rng.random((2, 8)) < 0.7)
    desired = np.where(rng.random(8) < 0.5, held * rng.uniform(0.6, 1.4, 8), desired)
    wanted, ranked = keep_weights_within_band(held, desired, band)
    near = np.abs(desired - held) <= band * np.abs(desired)
    assert wanted.tobytes() == np.where(near, held, desired).tobytes()
    factor = np.where(held * desired > 0.0, 1.0 + band, 1.0)
    assert ranked.tobytes() == (factor * desired).tobytes()


def test_desired_weights_within_limits_are_unchanged() -> None:
    s = rich_book(5)
    wanted = np.array([0.1, -0.2, 1 / 3, 0.0, 0.6])
    allocation = project_onto_limits(s, wanted)
    assert allocation.target_weight.tolist() == wanted.tolist()
    assert [set(bound) for bound in allocation.binding_shadow_prices] == [
        *[set()] * 4,
        {"symbol_cap"},
    ]


def stock(points: float = 10.0, held_weight: float = 0.0, **fields: Any) -> SizingInputs:
    """One stock of a rich account that is expected to rise by so many basis points."""
    masks = {name: np.array([value]) for name, value in fields.items() if isinstance(value, bool)}
    first = {"mu": np.array([points * 1e-4]), "held_weight": np.array([held_weight])}
    return rich_book(1, **{**first, **fields, **masks})


CANNOT = {"long_only": True}  # be short


@pytest.mark.parametrize(
    ("fields", "target", "binding"),
    [
        # bought to the cap: 1e-3 - 1e-4 · 0.6 / 0.5 is 8.8e-4, less what buying more costs
        ({}, 0.6, {"symbol_cap": 6.8e-4}),
        # cut to the cap: a wider cap saves a sale
        ({"held_weight": 0.9}, 0.6, {"symbol_cap": 10.8e-4}),
        ({"points": -10.0, "held_weight": -0.9}, -0.6, {"symbol_cap": 10.8e-4}),
        # cannot be short: 1e-3 less the cost of selling
        ({"points": -10.0, **CANNOT}, 0.0, {"long_only": 8e-4}),
        ({"points": -10.0, "equity": 1_999.0, "stock_ceiling": 1.0}, 0.0, {"long_only": 8e-4}),
        ({"points": -10.0, "equity": 2_000.0, "stock_ceiling": 1.0}, -0.6, {"symbol_cap": 6.8e-4}),
        # a short that may not be added to stays, and would be added to: 1e-3 - 1e-4 · 0.2 / 0.5 is
        # 9.6e-4
        ({"points": -10.0, **CANNOT, "held_weight": -0.2}, -0.2, {"long_only": 7.6e-4}),
        # half a ceiling: stock gross and both together are the same there
        ({"stock_ceiling": 0.5}, 0.5, {"stock_gross": None, "joint": None}),
        # worth its cost in neither direction
        ({"points": 1.9}, 0.0, {"cost": None}),
        ({"points": -1.9}, 0.0, {"cost": None}),
        # inside everything
        ({"points": 2.4}, 0.2, {}),
        # an account that just may be short, and would not pay to be
        ({"points": -1.9, "equity": 2_000.0}, 0.0, {"cost": None}),
        ({"adjustable": False, "held_weight": 0.9}, 0.9, {}),
    ],
)
def test_binding_limits_match_hand_calculation(
    fields: dict[str, Any], target: float, binding: dict[str, float | None]
) -> None:
    allocation = allocate_kelly(stock(**fields), 0.5)
    assert allocation.target_weight[0] == pytest.approx(target, abs=1e-7)
    bound = allocation.binding_shadow_prices[0]
    assert set(bound) == set(binding)
    for name, price in binding.items():
        if price is not None:
            assert bound[name] == pytest.approx(price, rel=1e-4), name
    if "cost" in binding:
        assert np.isnan(bound["cost"]), "it has no price"


def test_shadow_prices_of_shared_ceilings_sum_to_gradient() -> None:
    """1e-3 - 1e-4 · 0.5 / 0.5 - 2e-4 is 7e-4, whichever of the two ceilings carries it."""
    bound = allocate_kelly(stock(stock_ceiling=0.5), 0.5).binding_shadow_prices[0]
    assert bound["stock_gross"] + bound["joint"] / 0.5 == pytest.approx(7e-4, rel=1e-4)


def test_weight_rules_report_binding_limits_without_shadow_prices() -> None:
    """Weight rules do not maximise return: limits have names but no prices."""
    bound = project_onto_limits(stock(**CANNOT), np.array([-0.3])).binding_shadow_prices[0]
    assert set(bound) == {"long_only"}
    assert np.isnan(bound["long_only"])
    bound = project_onto_limits(stock(), np.array([0.9])).binding_shadow_prices[0]
    assert np.isnan(bound["symbol_cap"])


def test_exhausted_ceiling_binds_only_weights_that_would_grow() -> None:
    """Two stocks fill the account; the third has its desired weight of zero. If the two want
    exactly the available weight, nothing binds.
    """
    s = under(rich_book(3, stock_ceiling=1.0), Limits(symbol_cap=1.0))
    found = project_onto_limits(s, np.array([0.8, 0.6, 0.0]))
    np.testing.assert_allclose(found.target_weight, [0.6, 0.4, 0.0], atol=1e-9)
    full = {"stock_gross", "joint"}
    assert [set(bound) for bound in found.binding_shadow_prices] == [full, full, set()]
    assert not any(project_onto_limits(s, np.array([0.6, 0.4, 0.0])).binding_shadow_prices)


def test_failed_solver_keeps_its_problem_for_inspection(monkeypatch: pytest.MonkeyPatch) -> None:
    s = stock(-10.0, -0.5, **CANNOT, stock_ceiling=0.2)
    assert allocate_kelly(s, 0.25).target_weight[0] == pytest.approx(-0.2, abs=1e-7), (
        "it is cut to the ceiling"
    )
    monkeypatch.setattr(
        "sizing.allocation.solve_multi_period_plan",
        lambda *_: (UNFINISHED, np.zeros(1), np.zeros(4)),
    )
    with refused(SolverFailed, "1") as failed:
        allocate_kelly(s, 0.25)
    monkeypatch.undo()
    problem = failed.value.problem
    again = copy.copy(failed.value)
    assert (str(again), again.problem) == (str(failed.value), problem), "as another process has it"
    assert (problem.lower.tolist(), problem.upper.tolist(), problem.kelly_fraction) == (
        [-0.5],
        [0.6],
        0.25,
    )
    assert problem.ceiling_coefficients[:, 0].tolist() == [1.0, 0.0, 0.0, 5.0]
    assert problem.ceilings.tolist() == [0.2, 1.0, 1.0 / 1.0002, 1.0]
    status, weights, _ = problem.solve()
    assert (status, weights[0].tolist()) == (SOLVED, allocate_kelly(s, 0.25).target_weight.tolist())


def test_weights_are_signed_values_over_equity() -> None:
    """A symbol without a price counts as not held."""
    row = AccountArrays(
        quantity=np.array([-40.0, 0.0, 0.5]),
        price=np.array([100.0, np.nan, 8_000.0]),
        quantity_increment=np.array([1.0, 1.0, 0.001]),
        min_order_value=np.zeros(3),
        dust_threshold=np.zeros(3),
        tradable=np.ones(3, dtype=bool),
        position_count=3,
        equity=20_000.0,
        unborrowed_cash=5_000.0,
        granted_leverage=4.0,
        is_shorting_enabled=True,
        free_equity_share=1.0,
    )
    s = compute_current_weights(row, np.zeros(3, dtype=bool), np.zeros(3, dtype=bool), 1.25)
    assert s.held_weight.tolist() == [-0.2, 0.0, 0.2]
    assert s.weight_increment.tolist() == [0.005, 0.0, 0.0004]
    assert (s.equity, s.unborrowed_cash_share, s.order_price_buffer) == (20_000.0, 0.2, 1.25)
    for equity in (0.0, -1.0, np.nan):
        assert np.isnan(
            compute_current_weights(
                row._replace(equity=equity), s.adjustable, s.exiting, 1.25
            ).held_weight[0]
        )
    unpriced = row._replace(price=np.array([100.0, np.nan, np.nan]))
    check_positions_have_prices(("AAA", "BBB", "CCC"), row)
    with refused(InputError, "account", "CCC"):
        check_positions_have_prices(("AAA", "BBB", "CCC"), unpriced)
