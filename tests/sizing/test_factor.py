"""The compiled linear algebra against numpy's."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.arrays import Array
from sizing.kelly import Covariance, kelly_weights, unconstrained_kelly
from sizing.solver.cholesky import (
    RELATIVE_RIDGE,
    append_row,
    delete_row,
    solve_by_cholesky,
    solve_by_elimination,
    solve_in_place,
)


def definite(rng: np.random.Generator, n: int) -> Array:
    """A covariance of n symbols whose deviations differ a hundredfold."""
    factors = rng.normal(size=(n, n + 3))
    scale = 10.0 ** rng.uniform(-1, 1, n)
    return np.asarray(factors @ factors.T * np.outer(scale, scale))


def lower(factor: Array) -> Array:
    """L itself: a factor keeps the reciprocals of its diagonal."""
    triangle = np.tril(factor)
    np.fill_diagonal(triangle, 1.0 / np.diag(factor))
    return np.asarray(triangle)


@given(st.integers(0, 100_000), st.integers(1, 9))
def test_removing_rows_updates_the_cholesky_factor_correctly(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = definite(rng, n)
    factor = np.full((n, n), np.nan)
    chosen = np.empty(n, dtype=np.int64)
    count = 0
    for _ in range(3 * n):
        outside = np.setdiff1d(np.arange(n), chosen[:count])
        if count == 0 or (len(outside) and rng.random() < 0.6):
            chosen[count] = rng.choice(outside)
            count += 1
            factor[count - 1, :count] = matrix[chosen[count - 1], chosen[:count]]
            append_row(factor, count - 1)
        else:
            gone = int(rng.integers(count))
            count -= 1
            chosen[gone:count] = chosen[gone + 1 : count + 1]
            delete_row(factor, gone, count)
        rows = chosen[:count]
        part = lower(factor[:count, :count])
        np.testing.assert_allclose(part @ part.T, matrix[np.ix_(rows, rows)], rtol=1e-8, atol=1e-10)
        x = rng.normal(size=count)
        answer = x.copy()
        solve_in_place(factor, answer)
        np.testing.assert_allclose(matrix[np.ix_(rows, rows)] @ answer, x, rtol=1e-6, atol=1e-7)


def test_linearly_dependent_row_gets_half_the_ridge_pivot() -> None:
    """Its square root is above zero, so a step through it is finite."""
    matrix = np.array([[4.0, 4.0], [4.0, 4.0]])
    factor = matrix.copy()
    append_row(factor, 0)
    append_row(factor, 1)
    assert factor[:, 0].tolist() == [0.5, 2.0]
    assert lower(factor)[1, 1] == pytest.approx(np.sqrt(0.5 * RELATIVE_RIDGE * 4.0), rel=1e-12)


@given(st.integers(0, 100_000), st.integers(1, 6), st.sampled_from([1e-8, 1.0, 1e8]))
def test_gaussian_elimination_solves_singular_systems_and_reports_rank(
    seed: int, n: int, scale: float
) -> None:
    """Zero pivots are recognised relative to the largest diagonal element, in any unit."""
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, n + 1))
    rows = rng.normal(size=(rank, n))
    system = rows.T @ rows * scale
    wanted = system @ rng.normal(size=n)
    answer = wanted.copy()
    assert solve_by_elimination(system.copy(), answer, 1e-10) == rank
    np.testing.assert_allclose(system @ answer, wanted, rtol=1e-5, atol=1e-6 * np.abs(wanted).max())


def test_gaussian_elimination_pivots_and_ignores_zero_rows() -> None:
    answer = np.array([3.0, 5.0])
    assert solve_by_elimination(np.array([[1e-20, 1.0], [1.0, 1.0]]), answer, 1e-15) == 2
    assert answer == pytest.approx([2.0, 3.0])
    # A ceiling that none of the free weights is in.
    answer = np.zeros(2)
    assert solve_by_elimination(np.zeros((2, 2)), answer, 1e-10) == 0
    assert answer.tolist() == [0.0, 0.0]


@given(st.integers(0, 100_000), st.integers(1, 30))
def test_cholesky_solve_matches_a_column_by_column_factorisation(seed: int, n: int) -> None:
    """Results agree to the last bit, because panel columns are processed in the same order."""
    rng = np.random.default_rng(seed)
    matrix = definite(rng, n)
    wanted = rng.normal(size=n)
    factor, one_by_one, answer = matrix.copy(), matrix.copy(), wanted.copy()
    assert solve_by_cholesky(factor, answer)
    if n < 9:
        np.testing.assert_allclose(answer, np.linalg.solve(matrix, wanted), rtol=1e-6, atol=1e-8)
    for a in range(n):
        for b in range(a + 1):
            for c in range(b):
                one_by_one[a, b] -= one_by_one[a, c] * one_by_one[b, c]
            one_by_one[a, b] *= one_by_one[b, b] if a > b else 1.0
        one_by_one[a, a] = 1.0 / np.sqrt(one_by_one[a, a])
    np.testing.assert_array_equal(np.tril(factor), np.tril(one_by_one))


@pytest.mark.parametrize("left", [1e-6, 1e-9, 0.9e-10, 0.0, -1e-6])
def test_nearly_singular_matrix_has_no_cholesky_solution(left: float) -> None:
    matrix = np.array([[1.0, 2.0], [2.0, 4.0 + 4 * left]])
    assert solve_by_cholesky(matrix, np.ones(2)) == (left > 1e-10)
    assert not solve_by_cholesky(np.array([[0.0]]), np.ones(1))
    assert not solve_by_cholesky(np.array([[1.0, 0.0], [0.0, -1.0]]), np.ones(2))


def test_identical_symbols_share_one_kelly_weight() -> None:
    """Minimum norm: each has half of 0.5 · 1e-4 / 1e-4."""
    assert unconstrained_kelly(np.full(2, 1e-4), np.full((2, 2), 1e-4), 0.5) == pytest.approx(
        [0.25, 0.25], rel=1e-9
    )
    assert unconstrained_kelly(np.array([1e-4]), np.array([[1e-4]]), 0.25) == pytest.approx(
        [0.25], rel=1e-12
    )


BOUNDS = {"lower": [-1.0, -1.0], "upper": [1.0, 1.0]}


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_covariance_is_refused_beyond_rounding_errors(scale: float) -> None:
    """The tolerances are an asymmetry of 1e-8 of an element and an eigenvalue 1e-9 of the largest
    variance below zero, in any unit.
    """
    for above, below, fault in (
        (0.5, 0.5 * (1 + 1.5e-8), ""),
        (0.5, 0.5 * (1 + 1e-6), "symmetric"),
        (1.0 + 0.5e-9, 1.0 + 0.5e-9, ""),
        (1.0 + 1e-8, 1.0 + 1e-8, "positive semi-definite"),
    ):
        matrix = np.array([[1.0, above], [below, 1.0]]) * scale
        with pytest.raises(ValueError, match=fault) if fault else nullcontext():
            assert np.isfinite(kelly_weights([0.1, 0.1], matrix, **BOUNDS)).all()
    assert kelly_weights([0.1, -0.1], np.zeros((2, 2)), **BOUNDS).tolist() == [1.0, -1.0]


def test_prechecked_covariance_gives_the_same_kelly_weights() -> None:
    matrix = definite(np.random.default_rng(0), 5) * 1e-4
    bounds = {"lower": np.full(5, -0.6), "upper": np.full(5, 0.6)}
    mu = np.random.default_rng(1).normal(0, 1e-3, 5)
    known = kelly_weights(mu, Covariance(matrix), **bounds)
    np.testing.assert_array_equal(known, kelly_weights(mu, matrix, **bounds))
    for wrong in ([[1.0, 0.0]], [[1.0, 2.0], [2.0, 1.0]], [[1.0, np.inf], [0.0, 1.0]]):
        with pytest.raises(ValueError, match="covariance must"):
            Covariance(np.array(wrong))
