"""Weights of one instant, and of a binary contract: no others grow faster."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from sizing.kelly import (
    SolverFailed,
    binary_kelly,
    format_solver_failure,
    kelly_weights,
    unconstrained_kelly,
)
from sizing.solver.active_set import INFEASIBLE
from tests.support.messages import refused
from tests.support.plans import interior, plan, worth


@given(st.integers(0, 100_000), st.sampled_from([0.1, 0.25, 0.5, 1.0]))
def test_kelly_weights_are_optimal_within_limits(seed: int, fraction: float) -> None:
    """No interior-point solution has a higher value, and the weights respect every limit."""
    p = plan(seed, 1)._replace(kelly_fraction=fraction, financing_cost=np.zeros(1))
    w = kelly_weights(
        p.mu[0],
        p.covariance[0],
        fraction=fraction,
        lower=p.lower,
        upper=p.upper,
        groups=list(zip(p.ceiling_coefficients, p.ceilings, strict=True)),
        held=p.held_weight,
        cost=p.cost[0],
    )
    best = worth(p, interior(p))
    assert worth(p, w[None]) >= best - 1e-7 * max(abs(best), 1e-3)
    fixed = p.lower == p.upper
    assert (w[fixed] == p.held_weight[fixed]).all()
    assert (w <= p.upper).all()
    assert (w >= p.lower).all()
    least = p.ceiling_coefficients @ np.abs(np.where(fixed, w, 0.0))
    assert (p.ceiling_coefficients @ np.abs(w) <= np.maximum(p.ceilings, least) + 1e-7).all()


@given(st.integers(0, 100_000), st.sampled_from([0.1, 0.25, 0.5]))
def test_unconstrained_weights_scale_with_the_fraction(seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 8))
    factors = rng.normal(size=(n, n + 4))
    covariance = factors @ factors.T / n * 1e-4
    mu = rng.normal(0, 1e-4, n)
    wide = np.full(n, 1e3)
    w = kelly_weights(mu, covariance, fraction=fraction, lower=-wide, upper=wide)
    np.testing.assert_allclose(
        w, unconstrained_kelly(mu, covariance, fraction), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        w, 2 * fraction * unconstrained_kelly(mu, covariance, 0.5), rtol=1e-5, atol=1e-6
    )


def test_kelly_weight_of_one_symbol_matches_hand_calculation() -> None:
    """mu 2 bp, sigma 1 %: half-Kelly is 0.5 · 0.0002 / 0.0001 = 1.0, cut to the cap; a bearish
    one is its mirror.
    """
    w = kelly_weights([2e-4], [[1e-4]], lower=[-5.0], upper=[5.0])
    assert w[0] == pytest.approx(1.0, abs=1e-6)
    assert kelly_weights([2e-4], [[1e-4]], lower=[-0.6], upper=[0.6])[0] == 0.6
    assert kelly_weights([-2e-4], [[1e-4]], lower=[-0.6], upper=[0.6])[0] == -0.6
    assert kelly_weights([-2e-4], [[1e-4]], lower=[0.0], upper=[0.6])[0] == 0.0


def test_edge_below_trading_cost_leaves_weight_unchanged() -> None:
    """The cost of trading is charged before moving."""
    covariance = np.array([[1e-4]])
    for held in (0.0, 0.3):
        gradient = 1.5e-4 - covariance[0, 0] * held / 0.5
        bounds = {"lower": [-0.6], "upper": [0.6], "held": [held]}
        assert kelly_weights([1.5e-4], covariance, cost=[abs(gradient) * 1.01], **bounds)[0] == held
        assert kelly_weights([1.5e-4], covariance, cost=[abs(gradient) * 0.9], **bounds)[0] != held


def test_correlated_assets_share_one_kelly_position() -> None:
    """Two nearly equal assets share one position; independent ones take a full position each."""
    wide = {"lower": [-9.0] * 2, "upper": [9.0] * 2}
    apart, alike = (
        kelly_weights([1e-4, 1e-4], np.array([[1.0, rho], [rho, 1.0]]) * 1e-4, **wide).sum()
        for rho in (0.0, 0.99)
    )
    assert alike == pytest.approx(apart / 1.99, rel=1e-4)


def test_zero_or_tied_returns_give_deterministic_weights() -> None:
    assert kelly_weights([], np.zeros((0, 0)), lower=[], upper=[]).shape == (0,)
    n = 6
    flat = {"lower": np.full(n, -0.6), "upper": np.full(n, 0.6), "groups": [(np.ones(n), 2.0)]}
    assert (kelly_weights(np.zeros(n), np.eye(n) * 1e-4, **flat) == 0).all()
    coins = {"lower": np.zeros(2), "upper": np.full(2, 0.6), "groups": [(np.ones(2), 1.0)]}
    assert (
        kelly_weights(np.zeros(2), np.array([[6.4, 3.0], [3.0, 6.0]]) * 1e-5, **coins) == 0
    ).all()
    tied = [kelly_weights(np.full(n, 1e-2), np.zeros((n, n)), **flat) for _ in range(2)]
    np.testing.assert_array_equal(tied[0], tied[1])
    assert tied[0].sum() == pytest.approx(2.0, abs=1e-6)


GOOD: dict[str, Any] = {
    "mu": [0.0, 0.0],
    "covariance": np.eye(2),
    "lower": [-1, -1],
    "upper": [1, 1],
}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"mu": [np.nan, 0]}, "mu must be finite, got nan at 0"),
        ({"mu": [[0.0]]}, r"mu must have shape \[S\]"),
        ({"covariance": [[1, 0], [0, -1]]}, "covariance must be finite, symmetric and positive"),
        ({"covariance": [[1, 2], [2, 1]]}, "positive semi-definite"),
        *(({"fraction": each}, "fraction must be a number above 0") for each in (0.0, np.nan, "a")),
        ({"lower": [2, -1]}, "lower 2 exceeds upper 1 at 0"),
        ({"held": [0, np.nan]}, "held must be finite, got nan at 1"),
        ({"cost": [0, -1e-4], "lower": [1, -1]}, "cost must not be negative, got -0.0001"),
        ({"groups": [([1.0], 1.0)]}, "groups: each must be a pair of coefficients"),
        ({"groups": [([-1.0, 1.0], 1.0)]}, "groups: coefficients must be finite and not negative"),
        ({"groups": [([1.0, 1.0], np.nan)]}, "groups: every limit must be a number"),
    ],
)
def test_invalid_kelly_argument_is_named_in_the_error(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kelly_weights(**{**GOOD, **wrong})


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(0, 9))
def test_singular_covariances_pass_and_indefinite_ones_are_refused(
    seed: int, n: int, scale: int
) -> None:
    """Few returns, copies of a symbol or a constant symbol give a singular covariance that is still
    valid.
    """
    rng = np.random.default_rng(seed)
    returns = rng.normal(0, 10.0**-scale, (int(rng.integers(1, n + 2)), n)) * 10.0 ** rng.uniform(
        -2, 2, n
    )
    returns[:, 0] = 0.0
    returns[:, -1] = returns[:, n // 2] * 3
    covariance = returns.T @ returns / len(returns)
    bounds = {"lower": np.full(n, -0.6), "upper": np.full(n, 0.6)}
    kelly_weights(rng.normal(0, 1e-3, n), covariance, **bounds)
    broken = covariance.copy()
    broken[0, 1] = broken[1, 0] = 0.1 * np.sqrt(broken[1, 1] * broken.diagonal().max()) + 1e-12
    if broken[0, 1] ** 2 > 1e-8 * broken.diagonal().max() ** 2:
        with pytest.raises(ValueError, match="positive semi-definite"):
            kelly_weights(np.zeros(n), broken, **bounds)


def test_solver_failure_error_keeps_a_reproducible_problem() -> None:
    bounds = {"lower": [0.0, 0.5], "upper": [1.0, 1.0], "groups": [([1.0, 1.0], 0.2)]}
    with refused(SolverFailed, "2") as failed:
        kelly_weights([1e-3, 0.0], np.eye(2) * 1e-4, fraction=0.25, cost=[1e-4, 1e-4], **bounds)
    assert str(failed.value) == format_solver_failure(INFEASIBLE, 2)
    kept = pickle.loads(pickle.dumps(failed.value)).problem
    assert kept.kelly_fraction == 0.25
    assert kept.mu.tolist() == [[1e-3, 0.0]]
    assert kept.ceilings.tolist() == [0.2]
    assert kept.solve()[0] == failed.value.problem.solve()[0]


chances = st.floats(0.0, 1.0)
prices = st.floats(0.01, 0.99)


def growth(share: float, chance: float, price: float) -> float:
    """Expected log growth of a share of wealth in contracts at a price."""
    return float(chance * np.log1p(share / price - share) + (1 - chance) * np.log1p(-share))


@given(chances, prices, st.floats(0.0, 0.999))
def test_binary_kelly_share_maximises_growth(chance: float, price: float, other: float) -> None:
    share = float(binary_kelly(chance, price, 1.0))
    assert 0 <= share <= 1
    if share < 1:
        assert growth(share, chance, price) >= growth(other, chance, price) - 1e-12


def test_binary_kelly_matches_hand_calculation() -> None:
    assert binary_kelly([0.6, 0.5, 0.4], 0.5, 1.0) == pytest.approx([0.2, 0.0, 0.0])
    assert float(binary_kelly(1.0, 0.9, 1.0)) == pytest.approx(1.0)
    assert float(binary_kelly(0.8, 0.6)) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("chance", "price", "fraction", "says"),
    [
        (1.1, 0.5, 0.5, "probability must be"),
        (float("nan"), 0.5, 0.5, "probability must be"),
        (0.5, 0.0, 0.5, "price must be"),
        (0.5, [0.5, 1.0], 0.5, "price must be"),
        (0.5, 0.5, 0.0, "fraction must be"),
        (0.5, 0.5, float("inf"), "fraction must be"),
    ],
)
def test_invalid_bet_is_refused(chance: float, price: float, fraction: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        binary_kelly(chance, price, fraction)


def test_large_kelly_problem_is_solved_by_one_thread() -> None:
    threads: list[int] = []

    class Watched:
        """A covariance that records the thread count of linear algebra when it is read."""

        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            blas = [each for each in threadpool_info() if each["user_api"] == "blas"]
            threads.extend(each["num_threads"] for each in blas)
            return np.eye(100) * 1e-4

    bounds = {"lower": np.full(100, -0.6), "upper": np.full(100, 0.6)}
    with threadpool_limits(2, user_api="blas"):
        kelly_weights(np.full(100, 1e-4), Watched(), **bounds)  # type: ignore[arg-type]
    assert set(threads) == {1}
