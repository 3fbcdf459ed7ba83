from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.optimize import linprog

from foundation.arrays import Array
from sizing.kelly import SolverFailed, kelly_weights, unconstrained_kelly


def problem(seed: int, *, costly: bool = True) -> dict[str, Any]:
    """A random problem with shorts, coins, fixed symbols, ceilings and possibly a singular
    covariance.
    """
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    factors = rng.normal(size=(n, int(rng.integers(1, n + 3))))
    covariance = factors @ factors.T * 10.0 ** rng.uniform(-6, -3)
    crypto = rng.random(n) < 0.3
    held = np.where(crypto, np.abs(rng.normal(0, 0.3, n)), rng.normal(0, 0.4, n))
    fixed = rng.random(n) < 0.25
    cap = float(rng.uniform(0.1, 1.0))
    return {
        "mu": rng.normal(0, 10.0 ** rng.uniform(-5, -2), n),
        "covariance": covariance,
        "fraction": float(rng.choice([0.1, 0.25, 0.5, 1.0])),
        "lower": np.where(fixed, held, np.where(crypto, 0.0, -cap)),
        "upper": np.where(fixed, held, cap),
        "groups": [(~crypto, 2.0), (crypto, 1.0), (np.where(crypto, 1.0, 0.5), 1.0)],
        "held": held,
        "cost": rng.uniform(0, 1e-3, n) * costly,
    }


def objective(w: Array, p: dict[str, Any]) -> float:
    risk = w @ p["covariance"] @ w / (2 * p["fraction"])
    return float(p["mu"] @ w - risk - p["cost"] @ np.abs(w - p["held"]))


def best_step(w: Array, p: dict[str, Any]) -> float:
    """Largest first-order gain over all feasible points: 0 at an optimum of a concave problem
    (Frank-Wolfe gap).

    The objective's concave part is linearised; cost and ceilings stay exact through positive and
    negative parts.
    """
    n = len(w)
    gradient = p["mu"] - p["covariance"] @ w / p["fraction"]
    fixed = p["lower"] == p["upper"]
    # variables: long, short parts of the weight; bought, sold
    c = np.concatenate([-gradient, gradient, p["cost"], p["cost"]])
    eye = np.eye(n)
    moves = np.hstack([eye, -eye, -eye, eye])
    rows = []
    limits = []
    for coefficients, ceiling in p["groups"]:
        k = np.asarray(coefficients, float)
        rows.append(np.concatenate([k, k, np.zeros(2 * n)]))
        limits.append(max(ceiling, float(k[fixed] @ np.abs(p["held"][fixed]))))
    weight = np.hstack([eye, -eye, np.zeros((n, 2 * n))])
    answer = linprog(
        c,
        A_ub=np.vstack([*rows, weight, -weight]),
        b_ub=np.concatenate([limits, p["upper"], -p["lower"]]),
        A_eq=moves,
        b_eq=p["held"],
        bounds=(0, None),
    )
    assert answer.status == 0, answer.message
    here = gradient @ w - p["cost"] @ np.abs(w - p["held"])
    return float(-answer.fun - here)


@example(5870)
@given(st.integers(0, 100_000))
def test_no_feasible_direction_improves_the_answer(seed: int) -> None:
    p = problem(seed)
    w = kelly_weights(**p)
    scale = max(np.abs(p["mu"]).max(), 1e-6)
    assert best_step(w, p) < 1e-6 * scale * len(w) + 1e-10


@given(st.integers(0, 100_000))
def test_bounds_and_ceilings_hold_and_fixed_symbols_stay(seed: int) -> None:
    p = problem(seed)
    w = kelly_weights(**p)
    fixed = p["lower"] == p["upper"]
    assert (w[fixed] == p["held"][fixed]).all()
    assert (w <= p["upper"]).all()
    assert (w >= p["lower"]).all()
    for coefficients, ceiling in p["groups"]:
        k = np.asarray(coefficients, float)
        assert k @ np.abs(w) <= max(ceiling, k[fixed] @ np.abs(w[fixed])) + 1e-7


@given(st.integers(0, 100_000), st.sampled_from([0.1, 0.25, 0.5]))
def test_without_limits_and_costs_weights_scale_with_the_fraction(
    seed: int, fraction: float
) -> None:
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


def test_one_symbol_by_hand() -> None:
    """mu 2 bp, sigma 1 %: half-Kelly is 0.5 · 0.0002 / 0.0001 = 1.0, cut to the cap; a bearish
    one is its mirror.
    """
    w = kelly_weights([2e-4], [[1e-4]], lower=[-5.0], upper=[5.0])
    assert w[0] == pytest.approx(1.0, abs=1e-6)
    assert kelly_weights([2e-4], [[1e-4]], lower=[-0.6], upper=[0.6])[0] == 0.6
    assert kelly_weights([-2e-4], [[1e-4]], lower=[-0.6], upper=[0.6])[0] == -0.6
    assert kelly_weights([-2e-4], [[1e-4]], lower=[0.0], upper=[0.6])[0] == 0.0


def test_an_edge_below_its_cost_moves_nothing() -> None:
    """The cost of trading is charged before moving."""
    covariance = np.array([[1e-4]])
    for held in (0.0, 0.3):
        gradient = 1.5e-4 - covariance[0, 0] * held / 0.5
        bounds = {"lower": [-0.6], "upper": [0.6], "held": [held]}
        assert kelly_weights([1.5e-4], covariance, cost=[abs(gradient) * 1.01], **bounds)[0] == held
        assert kelly_weights([1.5e-4], covariance, cost=[abs(gradient) * 0.9], **bounds)[0] != held


def test_a_held_position_without_edge_decays_to_the_edge_of_its_band() -> None:
    """With mu 0 it is sold until the risk gradient w·σ²/fraction equals the cost: w = 0.5 ·
    1e-5 / 1e-4 = 0.05.
    """
    w = kelly_weights([0.0], [[1e-4]], lower=[-0.6], upper=[0.6], held=[0.6], cost=[1e-5])
    assert w[0] == pytest.approx(0.05, abs=1e-6)


def test_a_breach_is_reduced_and_a_ceiling_below_what_is_fixed_is_what_is_fixed() -> None:
    covariance = np.eye(2) * 1e-4
    w = kelly_weights(
        [0.0, 0.0],
        covariance,
        lower=[-0.6, -0.6],
        upper=[0.6, 0.6],
        held=[0.9, 0.0],
        cost=[1e-2, 1e-2],
    )
    assert w.tolist() == [0.6, 0.0]
    w = kelly_weights(
        [0.0, 0.01], covariance, lower=[0.9, -0.6], upper=[0.9, 0.6], groups=[([1, 1], 0.5)]
    )
    assert w.tolist() == pytest.approx([0.9, 0.0], abs=1e-9)


def test_correlation_is_used() -> None:
    """Two nearly equal assets share one position; independent ones take a full position each."""
    mu = np.array([1e-4, 1e-4])
    wide = {"lower": [-9.0] * 2, "upper": [9.0] * 2}
    apart = kelly_weights(mu, np.array([[1.0, 0.0], [0.0, 1.0]]) * 1e-4, **wide)
    alike = kelly_weights(mu, np.array([[1.0, 0.99], [0.99, 1.0]]) * 1e-4, **wide)
    assert alike.sum() == pytest.approx(apart.sum() / 1.99, rel=1e-4)


def test_zero_and_equal_beliefs_have_one_repeatable_answer() -> None:
    n = 6
    flat = {"lower": np.full(n, -0.6), "upper": np.full(n, 0.6), "groups": [(np.ones(n), 2.0)]}
    assert (kelly_weights(np.zeros(n), np.eye(n) * 1e-4, **flat) == 0).all()
    coins = {"lower": np.zeros(2), "upper": np.full(2, 0.6), "groups": [(np.ones(2), 1.0)]}
    assert (
        kelly_weights(np.zeros(2), np.array([[6.4, 3.0], [3.0, 6.0]]) * 1e-5, **coins) == 0
    ).all()
    tied = [kelly_weights(np.full(n, 1e-2), np.zeros((n, n)), **flat) for _ in range(3)]
    np.testing.assert_array_equal(tied[0], tied[1])
    np.testing.assert_array_equal(tied[0], tied[2])
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
        ({"mu": [[[0.0]]]}, r"mu must have shape \[S\] or \[T, S\]"),
        ({"mu": ["much", 0]}, "mu must be numbers .*'much'"),
        ({"covariance": np.eye(3)}, "covariance must have shape"),
        ({"covariance": [[1, 0], [0, -1]]}, "negative variance -1"),
        ({"covariance": [[1, np.inf], [np.inf, 1]]}, "covariance must be finite"),
        ({"covariance": [[1, 0], [np.nan, 1]]}, "covariance must be finite"),
        ({"covariance": [[1, 2], [2, 1]]}, "positive semi-definite; its smallest eigenvalue is -1"),
        ({"fraction": 0.0}, "fraction must be a number above 0, got 0"),
        ({"fraction": np.nan}, "fraction must be a number above 0"),
        ({"fraction": "a"}, "fraction must be a number above 0, got 'a'"),
        ({"fraction": None}, "fraction must be a number above 0, got None"),
        ({"mu": [1j, 0]}, "mu must be numbers .*complex"),
        ({"groups": [np.ones(3)]}, "groups: each is a pair of coefficients and a ceiling, got 3"),
        ({"fraction": np.inf}, "fraction must be a number above 0, got inf"),
        ({"lower": [2, -1]}, "lower 2 exceeds upper 1 at 0"),
        ({"lower": [-np.inf, -1]}, "lower must be finite, got -inf at 0"),
        ({"upper": [1, np.inf]}, "upper must be finite, got inf at 1"),
        ({"held": [0.0]}, "held must have shape"),
        ({"held": [0, np.nan]}, "held must be finite, got nan at 1"),
        ({"cost": [np.inf, 0]}, "cost must be finite, got inf at 0"),
        ({"cost": [0, -1e-4], "lower": [1, -1]}, "cost must not be negative, got -0.0001"),
        ({"groups": [([1.0], 1.0)]}, "groups: coefficients must have shape"),
        ({"groups": [([-1.0, 1.0], 1.0)]}, "groups: coefficients must be finite and not negative"),
        ({"groups": [([1.0, np.inf], 1.0)]}, "groups: coefficients must be finite and not neg"),
        ({"groups": [([1.0, 1.0], np.nan)]}, "groups: a ceiling must be a number"),
        (
            {"groups": [([1.0, 1.0], [1.0])]},
            r"groups: a ceiling must be a number, got shape \(1,\)",
        ),
        # Of a history: as many rows, and the row that is wrong.
        ({"mu": [[0, 0]] * 3, "cost": np.zeros(2)}, "cost, held: a history"),
        ({"mu": [[0, 0]] * 3, "held": np.zeros(2)}, "cost, held: a history"),
        (
            {"mu": [[0, 0]] * 3, "covariance": np.zeros((2, 2, 2))},
            r"covariance must have shape \[S, S\] or \[T, S, S\] = \(3, 2, 2\)",
        ),
        ({"mu": [[0, 0], [0, np.nan]]}, "mu must be finite, got nan at 1 in row 1"),
        ({"mu": [[0, 0]], "upper": np.full(2, -2.0)}, "lower -1 exceeds upper -2 at 0 in row 0"),
        (
            {"mu": [[0, 0]] * 3, "groups": [([1, 1], [1.0, 2.0])]},
            r"a ceiling must be a number or \[T\], got shape \(2,\)",
        ),
    ],
)
def test_an_argument_that_cannot_be_is_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kelly_weights(**{**GOOD, **wrong})


def test_two_copies_of_a_symbol_share_its_unconstrained_weight() -> None:
    """0.5 · 0.01 / 0.04 is 0.125 of one, and the smallest weights that come to it are half of
    it each.
    """
    np.testing.assert_allclose(
        unconstrained_kelly(np.full(2, 0.01), np.full((2, 2), 0.04)), [0.0625, 0.0625]
    )


def test_bounds_that_leave_no_room_are_a_named_failure() -> None:
    with pytest.raises(SolverFailed, match="no answer: their lower bounds exceed a ceiling"):
        kelly_weights([0.0], [[1.0]], lower=[0.5], upper=[1.0], groups=[([1.0], 0.2)])


def test_no_symbols_have_no_weights() -> None:
    assert kelly_weights([], np.zeros((0, 0)), lower=[], upper=[]).shape == (0,)


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_without_an_edge_there_is_cash_and_with_falling_ones_shorts_where_they_are_allowed(
    seed: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    factors = rng.normal(0, 0.01, (n, int(rng.integers(1, n + 2))))
    covariance = factors @ factors.T
    mu = -np.abs(rng.normal(0, 1e-3, n)) - 1e-6
    bounds: dict[str, Any] = {
        "lower": np.zeros(n),
        "upper": np.full(n, 0.6),
        "groups": [(np.ones(n), 2.0)],
    }
    if (covariance >= 0).all():
        assert (kelly_weights(mu, covariance, **bounds) == 0).all()
    assert (kelly_weights(mu, np.diag(np.diag(covariance)), **bounds) == 0).all()
    assert (kelly_weights(np.zeros(n), covariance, **bounds) == 0).all()
    short = kelly_weights(mu, np.diag(np.diag(covariance)), **{**bounds, "lower": np.full(n, -0.6)})
    assert (short <= 0).all()
    assert short.min() < 0
    assert np.abs(short).sum() <= 2 + 1e-9


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(0, 9))
def test_any_covariance_of_returns_is_one_and_what_is_none_is_refused(
    seed: int, n: int, scale: int
) -> None:
    """Few returns of many symbols, copies of a symbol, a symbol that does not move: singular,
    and still a covariance.
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


def test_the_order_of_symbols_does_not_matter() -> None:
    for seed in range(50):
        p = problem(seed)
        n = len(p["mu"])
        order = np.random.default_rng(seed).permutation(n)
        mixed = {k: p[k][order] for k in ("mu", "lower", "upper", "held", "cost")}
        mixed["covariance"] = p["covariance"][np.ix_(order, order)]
        mixed["groups"] = [(np.asarray(c)[order], limit) for c, limit in p["groups"]]
        there = kelly_weights(**mixed, fraction=p["fraction"])
        here = kelly_weights(**p)
        assert objective(there[np.argsort(order)], p) == pytest.approx(
            objective(here, p), abs=1e-12
        )


@example(3312)
@given(st.integers(0, 100_000))
def test_ties_are_no_way_round_a_ceiling(seed: int) -> None:
    """Rounded beliefs and holdings: equal gradients, weights that begin at a knot, ceilings met
    exactly.
    """
    p = problem(seed, costly=bool(seed % 3))
    fixed = p["lower"] == p["upper"]
    p["mu"], p["held"] = np.round(p["mu"], 3), np.where(fixed, p["held"], np.round(p["held"], 1))
    w = kelly_weights(**p)
    assert best_step(w, p) < 1e-6 * max(np.abs(p["mu"]).max(), 1e-6) * len(w) + 1e-10
    for coefficients, ceiling in p["groups"]:
        k = np.asarray(coefficients, float)
        assert k @ np.abs(w) <= max(ceiling, k[fixed] @ np.abs(w[fixed])) + 1e-7
