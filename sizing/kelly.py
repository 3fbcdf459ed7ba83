"""Growth-optimal weights under correlation, bounds, ceilings and trading costs, as one quadratic
program (`solver`).

    maximise  mu'w - w'Σw / (2·fraction) - cost'|w - held|
    subject to  lower ≤ w ≤ upper  and  Σ cᵢ·|wᵢ| ≤ ceiling for every group

The second-order expansion of expected log growth (Kelly 1956; Thorp 2006); `fraction` 0.5 is
`Kelly_50pct`. Clipping an unconstrained answer is not the constrained optimum, so everything is
solved together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from foundation.compiled import compiled
from foundation.errors import InputError
from sizing.solver.active_set import INFEASIBLE, SOLVED
from sizing.solver.cholesky import factored_solve
from sizing.solver.multi_period import Later, nothing_later, optimal_weights

Group = tuple[npt.ArrayLike, npt.ArrayLike]

DEFINITE = 1e-9  # of the largest variance: how far below zero an eigenvalue is rounding
SYMMETRY = 1e-8  # relative difference between Σᵢⱼ and Σⱼᵢ that is rounding


@dataclass(frozen=True, eq=False, slots=True)
class SizingProblem:
    """One problem of S symbols and G groups: what `optimal_weights` takes, kept so that a failure
    can be looked into.

    mu, held, cost, lower, upper [S]; covariance [S, S]; coefficients [G, S]; limits [G]; toll: of
    what is borrowed in the first block. later: the blocks after it, if there are any.
    """

    mu: Array
    covariance: Array
    held: Array
    cost: Array
    lower: Array
    upper: Array
    coefficients: Array
    limits: Array
    fraction: float
    toll: float = 0.0
    later: Later | None = None

    @property
    def blocks(self) -> Later:
        """The blocks after the first."""
        return nothing_later(len(self.mu)) if self.later is None else self.later

    def solve(self) -> tuple[int, Array, Array]:
        """Status, weights [1 + L, S], prices [G + 1 + L]."""
        arguments: list[Any] = [*(getattr(self, name) for name in _FIRST), self.blocks]
        return optimal_weights(*arguments)

    def save(self, path: Path) -> None:
        """Write it as an `.npz` of plain arrays."""
        arrays = {name: getattr(self, name) for name in _FIRST}
        arrays |= {f"later_{name}": array for name, array in self.blocks._asdict().items()}
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def read(cls, path: Path) -> SizingProblem:
        """The problem that `save` wrote.

        Raises
        ------
        InputError
            for a file that holds no such problem.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                first = {name: held[name] for name in _FIRST}
                later = Later(*(held[f"later_{name}"] for name in Later._fields))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise InputError(f"{path}: holds no sizing problem: {error}") from error
        return cls(
            **{
                **first,
                "fraction": float(first["fraction"]),
                "toll": float(first["toll"]),
                "later": later,
            }
        )


_FIRST = [field.name for field in fields(SizingProblem) if field.name != "later"]


class SolverFailed(RuntimeError):
    """The quadratic program has no answer, or the solver did not find it; `problem` is the one
    that failed.
    """

    def __init__(self, message: str, problem: SizingProblem) -> None:
        super().__init__(message)
        self.problem = problem


def unconstrained_kelly(mu: Array, covariance: Array, fraction: float = 0.5) -> Array:
    """Fractional Kelly without limits or costs: fraction · Σ⁺ mu, [S], signed; minimum norm
    where Σ is singular.
    """
    weights = np.asarray(mu, dtype=np.float64) * fraction
    if factored_solve(np.array(covariance, dtype=np.float64), weights):
        return weights
    return np.asarray(fraction * np.linalg.lstsq(covariance, mu, rcond=None)[0])


def kelly_weights(
    mu: npt.ArrayLike,
    covariance: npt.ArrayLike,
    *,
    fraction: float = 0.5,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    groups: Sequence[Group] = (),
    held: npt.ArrayLike | None = None,
    cost: npt.ArrayLike | None = None,
) -> Array:
    """Weights [S] that maximise fractional-Kelly growth net of trading costs; [T, S] for a history
    without costs.

    Parameters
    ----------
    mu : [S] or [T, S]
        expected simple return over the holding interval.
    covariance : [S, S], or [T, S, S] for a history whose covariance changes
        of returns over the same interval; symmetric, positive semi-definite.
    fraction
        of full Kelly, above 0.
    lower, upper : [S], or [T, S] for a history
        bounds of the weights; equal where a symbol is fixed.
    groups
        pairs (coefficients [S] ≥ 0, ceiling): Σ cᵢ·|wᵢ| ≤ ceiling; a boolean mask counts as 0 and
        1. A ceiling below what is fixed becomes what is fixed. For a history the ceiling may be
        [T].
    held, cost : [S]
        weights now, and cost of moving a weight by one; without cost, `held` does not matter. Not
        for a history: what is held there follows from what happened before.

    Raises
    ------
    ValueError
        naming the argument that cannot be.
    SolverFailed
        if the bounds leave no answer under the ceilings, or the solver does not converge.
    """
    expected = _numbers("mu", mu)
    if not 0 < fraction < np.inf:
        raise ValueError(f"fraction must be above 0, got {fraction}")
    if expected.ndim == 2:
        if cost is not None or held is not None:
            raise ValueError(
                "cost, held: a history [T, S] is solved without costs; with them, solve one instant"
                " at a time"
            )
        return _history(expected, covariance, float(fraction), lower, upper, groups)
    return _instant(expected, covariance, float(fraction), lower, upper, groups, held, cost)


def failure(status: int, symbols: int) -> str:
    """What a status other than SOLVED means, in words."""
    if status == INFEASIBLE:
        return (
            f"the sizing problem of {symbols} symbols has no answer: their lower bounds exceed a"
            " ceiling"
        )
    return f"the sizing problem of {symbols} symbols was not solved within its steps"


def _instant(
    mu: Array,
    covariance: npt.ArrayLike,
    fraction: float,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    groups: Sequence[Group],
    held: npt.ArrayLike | None,
    cost: npt.ArrayLike | None,
) -> Array:
    """Weights [S] of one problem."""
    if mu.ndim != 1:
        raise ValueError(f"mu must have shape [S] or [T, S], got {mu.shape}")
    n = len(mu)
    zero = np.zeros(n)
    vectors = {
        "mu": mu,
        "lower": _numbers("lower", lower),
        "upper": _numbers("upper", upper),
        "held": zero if held is None else _numbers("held", held),
        "cost": zero if cost is None else _numbers("cost", cost),
    }
    matrix = _numbers("covariance", covariance)
    _check_shapes(vectors, (n,), "[S]")
    if matrix.shape != (n, n):
        raise ValueError(f"covariance must have shape [S, S] = ({n}, {n}), got {matrix.shape}")
    _, low, high, now, price = vectors.values()
    if not (_sound(mu, low, high, now, price) and _is_covariance(matrix)):
        _refuse(vectors, matrix)
    coefficients, limits = _ceilings(groups, n)
    arguments = mu, matrix, now, price, low, high, coefficients, limits, fraction
    status, weights, _ = optimal_weights(*arguments, 0.0, nothing_later(n))
    if status != SOLVED:
        raise SolverFailed(failure(status, n), SizingProblem(*arguments))
    return np.asarray(weights[0])


@compiled
def _each(
    mu: Array,
    covariance: Array,
    lower: Array,
    upper: Array,
    coefficients: Array,
    limits: Array,
    fraction: float,
    later: Later,
) -> tuple[int, int, Array]:
    """Status, row and weights [T, S] of T problems without costs, up to the first that fails.

    covariance [1 or T, S, S], lower and upper [1 or T, S], limits [1 or T, G]: one for all, or one
    for each.
    """
    nothing = np.zeros(mu.shape[1])
    weights = np.zeros(mu.shape)
    for t in range(len(mu)):
        low = lower[t % len(lower)]
        high = upper[t % len(upper)]
        matrix = covariance[t % len(covariance)]
        ceilings = limits[t % len(limits)]
        status, row, _ = optimal_weights(
            mu[t], matrix, nothing, nothing, low, high, coefficients, ceilings, fraction, 0.0, later
        )
        if status != SOLVED:
            return status, t, weights
        weights[t] = row[0]
    return SOLVED, -1, weights


def _history(
    mu: Array,
    covariance: npt.ArrayLike,
    fraction: float,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    groups: Sequence[Group],
) -> Array:
    """Weights [T, S] of T problems without costs."""
    count, n = mu.shape
    matrix = _numbers("covariance", covariance)
    matrix = matrix[None] if matrix.ndim == 2 else matrix
    if matrix.shape not in ((1, n, n), (count, n, n)):
        raise ValueError(
            f"covariance must have shape [S, S] or [T, S, S] = ({count}, {n}, {n}), got"
            f" {np.shape(covariance)}"
        )
    low = np.atleast_2d(_numbers("lower", lower))
    high = np.atleast_2d(_numbers("upper", upper))
    for name, bound in (("lower", low), ("upper", high)):
        if bound.shape not in ((1, n), (count, n)):
            raise ValueError(
                f"{name} must have shape [S] or [T, S] = ({count}, {n}), got {bound.shape}"
            )
    nothing = np.zeros(n)
    for t in range(count):
        row = matrix[t % len(matrix)]
        bottom = low[t % len(low)]
        top = high[t % len(high)]
        fresh = t < len(matrix)
        if not (
            _sound(mu[t], bottom, top, nothing, nothing) and (not fresh or _is_covariance(row))
        ):
            _refuse(
                {"mu": mu[t], "lower": bottom, "upper": top, "held": nothing, "cost": nothing},
                row,
                f" in row {t}",
            )
    coefficients, limits = _ceilings(groups, n, count)
    status, t, weights = _each(
        mu,
        np.ascontiguousarray(matrix),
        low,
        high,
        coefficients,
        limits,
        fraction,
        nothing_later(n),
    )
    if status != SOLVED:
        parts = matrix[t % len(matrix)], nothing, nothing, low[t % len(low)], high[t % len(high)]
        problem = SizingProblem(mu[t], *parts, coefficients, limits[t % len(limits)], fraction)
        raise SolverFailed(f"row {t}: {failure(status, n)}", problem)
    return weights


@compiled
def _sound(mu: Array, lower: Array, upper: Array, held: Array, cost: Array) -> bool:
    """Whether nothing is wrong with a problem's vectors; `_refuse` says what is."""
    for i in range(len(mu)):
        if not (np.isfinite(mu[i]) and np.isfinite(held[i]) and 0.0 <= cost[i] < np.inf):
            return False
        if not -np.inf < lower[i] <= upper[i] < np.inf:
            return False
    return True


@compiled
def _is_covariance(matrix: Array) -> bool:
    """Whether a matrix is finite, symmetric and positive semi-definite, but for rounding: a
    Cholesky factor of it exists.
    """
    n = len(matrix)
    largest = 0.0
    for i in range(n):
        if not 0.0 <= matrix[i, i] < np.inf:
            return False
        largest = max(largest, matrix[i, i])
        for j in range(i):
            here = matrix[i, j]
            there = matrix[j, i]
            if not (
                np.isfinite(here)
                and abs(here - there) <= SYMMETRY * (abs(here) + abs(there)) + 1e-14
            ):
                return False
    rest = matrix.copy()
    for i in range(n):
        rest[i, i] += DEFINITE * largest
    for j in range(n if largest > 0.0 else 0):
        if not rest[j, j] > 0.0:
            return False
        root = np.sqrt(rest[j, j])
        column = rest[j:, j] / root
        for i in range(j + 1, n):
            share = column[i - j]
            for k in range(j + 1, i + 1):
                rest[i, k] -= share * column[k - j]
    return bool(largest > 0.0 or not matrix.any())


def _refuse(vectors: Mapping[str, Array], covariance: Array, where: str = "") -> NoReturn:
    """Name what is wrong with a problem's numbers."""
    for name, array in vectors.items():
        if not np.isfinite(array).all():
            k = int(np.argmin(np.isfinite(array)))
            raise ValueError(f"{name} must be finite, got {array[k]} at {k}{where}")
    low = vectors["lower"]
    high = vectors["upper"]
    price = vectors["cost"]
    if (low > high).any():
        k = int(np.argmax(low > high))
        raise ValueError(f"lower {low[k]:g} exceeds upper {high[k]:g} at {k}{where}")
    if (price < 0).any():
        raise ValueError(f"cost must not be negative, got {price.min():g}{where}")
    if not np.isfinite(covariance).all():
        raise ValueError(f"covariance must be finite{where}")
    variance = np.diag(covariance)
    if (variance < 0).any():
        raise ValueError(
            f"covariance has a negative variance {variance.min():g} at"
            f" {int(variance.argmin())}{where}"
        )
    if not np.allclose(covariance, covariance.T, rtol=SYMMETRY, atol=1e-14):
        raise ValueError(f"covariance must be symmetric{where}")
    least = float(np.linalg.eigvalsh(covariance)[0])
    raise ValueError(
        f"covariance must be positive semi-definite; its smallest eigenvalue is {least:g}{where}"
    )


def _numbers(name: str, value: npt.ArrayLike) -> Array:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers in rows of equal length: {error}") from None


def _check_shapes(vectors: Mapping[str, Array], shape: tuple[int, ...], letters: str) -> None:
    for name, array in vectors.items():
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {letters} = {shape}, got {array.shape}")


def _ceilings(groups: Sequence[Group], n: int, count: int = 0) -> tuple[Array, Array]:
    """Coefficients [G, S] and limits [G]; limits [1 or T, G] for a history of `count` rows."""
    coefficients = np.zeros((len(groups), n))
    limits = np.zeros((max(count, 1), len(groups)))
    for k, (given, ceiling) in enumerate(groups):
        parts = _numbers("groups", given)
        limit = _numbers("groups", ceiling)
        if parts.shape != (n,):
            raise ValueError(
                f"groups: coefficients must have shape [S] = ({n},), got {parts.shape}"
            )
        if not (np.isfinite(parts).all() and (parts >= 0).all()):
            raise ValueError("groups: coefficients must be finite and not negative")
        if limit.shape not in ((), (count,)[: bool(count)]):
            raise ValueError(
                f"groups: a ceiling must be a number{' or [T]' if count else ''}, got shape"
                f" {limit.shape}"
            )
        if np.isnan(limit).any():
            raise ValueError("groups: a ceiling must be a number")
        coefficients[k] = parts
        limits[:, k] = limit
    return coefficients, limits if count else limits[0]
