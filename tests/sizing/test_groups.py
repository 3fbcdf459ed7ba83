"""Limits on groups and on beta: rows of the program, against an interior-point solver."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from execution.decision.problem import round_to_lots
from foundation.arrays import Array
from foundation.errors import InputError
from sizing.allocation import allocate_kelly, solve_multi_period_plan
from sizing.group_limits import GroupLimits, read_group_limits
from sizing.inputs import SizingInputs
from sizing.problem import AccountArrays, GroupConstraints, with_market_betas
from sizing.settings import Limits
from sizing.solver.segments import QuadraticProgram
from sizing.strategies import STRATEGY_NAMES, strategy_from_name
from tests.sizing.books import random_inputs
from tests.support.messages import refused
from tests.support.programs import assert_optimal, book_at_limits


def with_net_rows(rng: np.random.Generator, p: QuadraticProgram) -> QuadraticProgram:
    """The same under one to three intervals, some of them a point."""
    n = len(p.linear_term)
    parts = []
    rooms = []
    for _ in range(int(rng.integers(1, 4))):
        part = (rng.random(n) < 0.6) * 1.0 if rng.random() < 0.5 else rng.normal(0.5, 0.5, n)
        low, high = np.sort(rng.normal(0, 0.3, 2))
        low = high if rng.random() < 0.15 else low
        parts += [part, -part]
        rooms += [high, -low]
    count = len(p.headroom) + len(rooms)
    return p._replace(
        group_coefficients=np.vstack([p.group_coefficients, *parts]),
        headroom=np.append(p.headroom, rooms),
        penalty=np.full(count, np.inf),
        is_net_group=np.arange(count) >= len(p.headroom),
    )


def use(p: QuadraticProgram, w: Array) -> Array:
    return np.where(p.is_net_group, p.group_coefficients @ w, p.group_coefficients @ np.abs(w))


def in_parts(p: QuadraticProgram) -> tuple[Array, Array]:
    """Rows and limits over long and short parts [2n]."""
    split = np.hstack([np.eye(len(p.linear_term)), -np.eye(len(p.linear_term))])
    signed = np.where(p.is_net_group[:, None], -p.group_coefficients, p.group_coefficients)
    rows = np.vstack([np.hstack([p.group_coefficients, signed]), split, -split])
    return rows, np.concatenate([p.headroom, p.upper, -p.lower])


def check(seed: int, n: int) -> bool:
    """Whether any weights fit the rows; the answer is the best under rooms that can be kept to."""
    rng = np.random.default_rng(seed)
    p = with_net_rows(rng, book_at_limits(rng, n))
    w, relaxed = assert_optimal(p)
    over = use(p, w) - p.headroom
    assert (over[~p.is_net_group] <= 1e-10).all()
    rows, limits = in_parts(p)
    fits = linprog(np.zeros(2 * n), A_ub=rows, b_ub=limits, bounds=(0, None)).status == 0
    assert fits == bool((over <= 1e-9).all())
    assert fits == bool((relaxed.headroom <= p.headroom + 1e-9).all())
    return fits


def test_kelly_weights_are_optimal_under_net_limits() -> None:
    sizes = [*(1 + k % 12 for k in range(120)), *[40] * 6, *[115] * 2]
    fitting = sum(check(seed, n) for seed, n in enumerate(sizes))
    assert 60 < fitting < 120


def grouped(seed: int) -> SizingInputs:
    """A book under rows of two groups and of the first symbol's beta."""
    rng = np.random.default_rng(seed)
    s = random_inputs(rng)
    n = len(s.mu)
    parts = (rng.random((2, n)) < 0.6).astype(np.float64)
    low, high = np.sort(rng.uniform(-0.4, 0.5, 2))
    zeros = np.zeros((2, n))
    rows = GroupConstraints(
        parts[:1],
        np.array([float(rng.uniform(0.05, 1.0))]),
        np.vstack([parts[1], -parts[1], zeros]),
        np.array([high, -low, 0.3, 0.1]),
        0,
    )
    rows = with_market_betas(rows, s.problem.returns.covariance)
    limits = s.problem.limits._replace(group_constraints=rows)
    names = ("a_gross", "b_most", "b_least", "beta_most", "beta_least")
    return replace(s, problem=s.problem._replace(limits=limits), group_limit_names=names)


def passes(s: SizingInputs, w: Array, reached: Array) -> bool:
    """Whether weights pass a row by more than others, which nothing but the rows' program chose."""
    rows = s.problem.limits.group_constraints
    fixed = rows.gross_coefficients @ np.abs(np.where(s.adjustable, 0.0, s.held_weight))
    most = np.maximum(rows.net_limits, rows.net_coefficients @ reached)
    gross = rows.gross_coefficients @ np.abs(w) > np.maximum(rows.gross_limits, fixed) + 1e-8
    return bool(gross.any() or (rows.net_coefficients @ w > most + 1e-8).any())


@given(st.integers(0, 100_000))
def test_every_strategy_meets_the_feasible_group_limits(seed: int) -> None:
    s = grouped(seed)
    _, plan, _ = solve_multi_period_plan(s.problem, 0.5)
    reached = plan[0]
    for name in STRATEGY_NAMES:
        assert not passes(s, strategy_from_name(name).allocate(s).target_weight, reached), name


def in_whole_shares(
    s: SizingInputs, price: Array, weights: Array | None = None
) -> tuple[GroupConstraints, Array, Array]:
    """The rows of a book of whole shares, its weights, and what of these is held in shares; some
    cap may be passed where nothing can be taken off any more.

    weights: none for those that answer its problem.
    """
    n = len(s.mu)
    account = AccountArrays(
        quantity=s.held_weight * s.equity / price,
        price=price,
        quantity_increment=np.ones(n),
        min_order_value=np.zeros(n),
        dust_threshold=np.zeros(n),
        tradable=np.ones(n, dtype=np.bool_),
        position_count=n,
        equity=s.equity,
        unborrowed_cash=1.0,
        granted_leverage=4.0,
        is_shorting_enabled=True,
        free_equity_share=1.0,
    )
    holdings = s.problem.account._replace(
        weight_increment=price / s.equity, unborrowed_cash_share=4.0
    )
    p = s.problem._replace(account=holdings)
    solved = solve_multi_period_plan(p, 0.5)[1][0] if weights is None else weights
    after = round_to_lots(p, solved, True, account, False)
    rounded = np.where(np.isnan(after.lots), s.held_weight, after.lots * price / s.equity)
    rows = p.limits.group_constraints
    caps = rows.net_limits >= 0
    most = np.maximum(rows.net_limits, rows.net_coefficients @ solved)
    over = (rows.net_coefficients @ rounded - most)[caps]
    free = [
        bool((s.adjustable & (row * rounded > 0)).any()) for row in rows.net_coefficients[caps]
    ]  # what could still be reduced
    assert not ((over > 1e-8) & free).any()
    return rows, solved, rounded


@given(st.integers(0, 100_000))
def test_rounding_to_lots_exceeds_no_cap(seed: int) -> None:
    s = grouped(seed)
    price = np.random.default_rng(seed).uniform(5.0, 500.0, len(s.mu))
    rows, solved, rounded = in_whole_shares(s, price)
    assert (
        rows.gross_coefficients @ np.abs(rounded) <= rows.gross_coefficients @ np.abs(solved) + 1e-9
    ).all()


@pytest.mark.parametrize("seed", [306, 855, 1211])
def test_rounding_to_lots_respects_all_caps_simultaneously(seed: int) -> None:
    """Each of these cases needs three rounds."""
    s = grouped(seed)
    rng = np.random.default_rng(seed)
    price = rng.uniform(50.0, 500.0, len(s.mu))
    weights = np.where(s.adjustable, rng.uniform(-0.6, 0.6, len(s.mu)), s.held_weight)
    weights = np.where(s.adjustable & s.problem.limits.long_only, np.abs(weights), weights)
    in_whole_shares(s, price, weights)


def test_binding_group_limit_is_reported_with_shadow_price() -> None:
    found = 0
    for seed in range(60):
        s = grouped(seed)
        allocation = allocate_kelly(s, 0.5)
        for binding in allocation.binding_shadow_prices:
            for name in set(binding) & set(s.group_limit_names):
                place = 4 + s.group_limit_names.index(name)
                assert binding[name] == allocation.binding_limits.shadow_prices[place]
                found += 1
    assert found > 20


def test_beta_is_covariance_over_market_variance() -> None:
    covariance = np.array([[[4.0, 2.0, 0.0], [2.0, 9.0, 0.0], [0.0, 0.0, 0.0]]]).repeat(2, axis=0)
    rows = GroupConstraints(
        np.zeros((0, 3)), np.zeros(0), np.zeros((2, 3)), np.array([0.6, 0.2]), 0
    )
    assert with_market_betas(rows, covariance).net_coefficients.tolist() == [
        [1.0, 0.5, 0.0],
        [-1.0, -0.5, 0.0],
    ]
    assert not with_market_betas(rows, 0 * covariance).net_coefficients.any()


FILE = """
groups:
  tech: {symbols: [AAPL, BTC/USD], net: [0.0, 0.5], gross: 0.8}
  book: {symbols: all, net: [-0.2, 1.0]}
beta: {market: SPY, net: [-0.2, 0.6]}
"""


def test_group_file_becomes_constraint_rows_over_symbols(tmp_path: Path) -> None:
    path = tmp_path / "groups.yaml"
    path.write_text(FILE)
    limits = Limits(groups_file=str(path)).group_limits()
    assert limits.limit_names == (
        *("tech_gross", "tech_most", "tech_least", "book_most", "book_least"),
        *("beta_most", "beta_least"),
    )
    rows = limits.build_constraints(["AAPL", "SPY", "BTCUSD"], ["AAPL"])
    assert rows.gross_coefficients.tolist() == [[1, 0, 1, 1]]
    tech, book, beta = [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]
    least = [[-x for x in row] for row in (tech, book)]
    assert rows.net_coefficients.tolist() == [tech, least[0], book, least[1], beta, beta]
    assert rows.net_limits.tolist() == [0.5, 0.0, 1.0, 0.2, 0.6, 0.2]
    assert rows.market_index == 1
    assert GroupLimits(limits.groups).build_constraints(["AAPL"]).market_index == -1
    with refused(InputError, "beta.market", "SPY"):
        limits.build_constraints(["AAPL"])


GROUP_A = "a: {symbols: [A, B], net: [0.5, 1]}"


@pytest.mark.parametrize(
    ("lines", "cap", "leverage", "says"),
    [
        ([GROUP_A], 0.25, 1.0, None),
        ([GROUP_A], 0.24, 1.0, "a_least"),
        ([GROUP_A], 0.5, 0.49, "a_least"),
        ([GROUP_A, "c: {symbols: [B], gross: 0.1}"], 0.3, 1.0, "a_least"),
        (["a: {symbols: [A, B], net: [-1, -0.5]}"], 0.24, 1.0, "a_most"),
        ([GROUP_A, "c: {symbols: all, net: [1.5, 2]}"], 0.25, 1.5, None),
        ([GROUP_A, "c: {symbols: all, net: [1.5, 2]}"], 0.25, 1.4, "c_least"),
    ],
)
def test_infeasible_limit_names_the_most_violated_row(
    lines: list[str], cap: float, leverage: float, says: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "groups.yaml"
    path.write_text("groups:\n  " + "\n  ".join(lines))
    assert read_group_limits(str(path)).find_infeasible_limit(cap, leverage) == says


BAD = [
    (None, ()),
    (
        "groups:\n" + "\n".join(f"  g{k}: {{symbols: [A], net: [0, 1]}}" for k in range(21)),
        ("42", "40"),
    ),
    ("", ()),
    ("groups: {a: {symbols: [A]}}", ()),
    ("groups: {a: {symbols: [A], net: [0.5, 0.1]}}", ("0.5", "0.1")),
    ("groups: {a: {symbols: [A], net: [.nan, 0.1]}}", ("groups.a.net.0",)),
    ("groups: {a: {symbols: [A], gross: 10.5}}", ("10.5", "10")),
    ("groups: {a: {symbols: [A, a], gross: 1}}", ()),
    ("groups: {beta: {symbols: [A], gross: 1}}", ()),
    ("groups: {a: {symbols: [A], net: [0.5, 1], gross: 0.4}}", ("gross", "0.4")),
    ("groups: {a: {symbols: [A], net: [0.7, 1]}}", ("a_least",)),
]


@pytest.mark.parametrize(("content", "facts"), BAD)
def test_invalid_group_file_gives_one_line_error(
    content: str | None, facts: tuple[str, ...], tmp_path: Path
) -> None:
    path = tmp_path / "groups.yaml"
    if content is not None:
        path.write_text(content)
    with refused(InputError, *facts) as caught:
        Limits(groups_file=str(path)).group_limits()
    assert str(caught.value).startswith(f"limits.groups_file: {path}")
    assert "\n" not in str(caught.value)
