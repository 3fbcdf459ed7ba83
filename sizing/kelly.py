"""Growth-optimal weights under correlation, bounds, ceilings and trading costs, as one quadratic program (`program.py`).

    maximise  mu'w - w'Σw / (2·fraction) - cost'|w - held|
    subject to  lower ≤ w ≤ upper  and  Σ cᵢ·|wᵢ| ≤ ceiling for every group

The second-order expansion of expected log growth (Kelly 1956; Thorp 2006); `fraction` 0.5 is `Kelly_50pct`. Clipping an
unconstrained answer is not the constrained optimum, so everything is solved together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sizing.factor import factored_solve
from sizing.program import INFEASIBLE, SOLVED, Program, solve
from trainingdata.compiled import compiled

Array = npt.NDArray[np.float64]
Group = tuple[npt.ArrayLike, float]


class SolverFailed(RuntimeError):
    """The quadratic program has no answer, or the solver did not find it."""


def unconstrained_kelly(mu: Array, covariance: Array, fraction: float = 0.5) -> Array:
    """Fractional Kelly without limits or costs: fraction · Σ⁺ mu, [S], signed; minimum norm where Σ is singular."""
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
    """Weights [S] that maximise fractional-Kelly growth net of trading costs.

    Parameters
    ----------
    mu : [S]
        expected simple return over the holding interval.
    covariance : [S, S]
        of returns over the same interval; symmetric, positive semi-definite.
    fraction
        of full Kelly, above 0.
    lower, upper : [S]
        bounds of the weights; equal where a symbol is fixed.
    groups
        pairs (coefficients [S] ≥ 0, ceiling): Σ cᵢ·|wᵢ| ≤ ceiling; a boolean mask counts as 0 and 1. A ceiling below
        what is fixed becomes what is fixed.
    held, cost : [S]
        weights now, and cost of moving a weight by one; without cost, `held` does not matter.

    Raises
    ------
    ValueError
        naming the argument that cannot be.
    SolverFailed
        if the bounds leave no answer under the ceilings, or the solver does not converge.
    """
    mu, covariance, lower, upper, held, cost = _checked(mu, covariance, fraction, lower, upper, held, cost)
    ceilings = [_checked_group(group, len(mu)) for group in groups]
    coefficients = np.array([c for c, _ in ceilings]).reshape(len(ceilings), len(mu))
    limits = np.array([limit for _, limit in ceilings], dtype=np.float64)
    status, weights, _ = optimal_weights(mu, covariance, held, cost, lower, upper, coefficients, limits, float(fraction))
    if status != SOLVED:
        raise SolverFailed(failure(status, len(mu)))
    return weights


def failure(status: int, symbols: int) -> str:
    """What a status other than SOLVED means, in words."""
    if status == INFEASIBLE:
        return f"the sizing problem of {symbols} symbols has no answer: their lower bounds exceed a ceiling"
    return f"the sizing problem of {symbols} symbols was not solved within its steps"


@compiled
def optimal_weights(
    mu: Array,
    covariance: Array,
    held: Array,
    cost: Array,
    lower: Array,
    upper: Array,
    coefficients: Array,
    limits: Array,
    fraction: float,
) -> tuple[int, Array, Array]:
    """Status, weights [S] and the price [G] of each ceiling, of arguments that are known to be sound.

    coefficients [G, S], limits [G]: the groups. What is fixed (lower = upper) pulls on the others through its covariance,
    and takes its part of every ceiling; one that it exceeds becomes what is fixed. A price is what one more of the ceiling
    would add to the objective.
    """
    n, m = len(mu), len(limits)
    free = np.flatnonzero(upper > lower)
    weights, room = lower.copy(), limits.copy()
    pull = np.empty(len(free))
    for k in range(m):
        for i in range(n):
            if upper[i] == lower[i]:
                room[k] -= coefficients[k, i] * abs(lower[i])
        room[k] = max(room[k], 0.0)
    groups, risk = np.empty((m, len(free))), np.empty((len(free), len(free)))
    for a in range(len(free)):
        i = free[a]
        pull[a] = mu[i]
        for j in range(n):
            if upper[j] == lower[j]:
                pull[a] -= covariance[i, j] * lower[j] / fraction
        for b in range(len(free)):
            risk[a, b] = covariance[i, free[b]] / fraction
        for k in range(m):
            groups[k, a] = coefficients[k, i]
    status, solved, prices = solve(Program(pull, risk, lower[free], upper[free], held[free], cost[free], groups, room))
    weights[free] = solved
    return status, weights, prices


def _checked(
    mu: npt.ArrayLike,
    covariance: npt.ArrayLike,
    fraction: float,
    lower: npt.ArrayLike,
    upper: npt.ArrayLike,
    held: npt.ArrayLike | None,
    cost: npt.ArrayLike | None,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    expected = np.asarray(mu, dtype=np.float64)
    if expected.ndim != 1:
        raise ValueError(f"mu must have shape [S], got {expected.shape}")
    n = len(expected)
    zero = np.zeros(n)
    expected = _vector("mu", expected, n)
    low, high = _vector("lower", lower, n), _vector("upper", upper, n)
    now, price = _vector("held", zero if held is None else held, n), _vector("cost", zero if cost is None else cost, n)
    if not 0 < fraction < np.inf:
        raise ValueError(f"fraction must be above 0, got {fraction}")
    if (low > high).any():
        k = int(np.argmax(low > high))
        raise ValueError(f"lower {low[k]:g} exceeds upper {high[k]:g} at {k}")
    if (price < 0).any():
        raise ValueError(f"cost must not be negative, got {price.min():g}")
    return expected, _covariance(covariance, n), low, high, now, price


def _vector(name: str, value: npt.ArrayLike, n: int) -> Array:
    array = np.asarray(value, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(f"{name} must have shape [S] = ({n},), got {array.shape}")
    if not np.isfinite(array).all():
        k = int(np.argmin(np.isfinite(array)))
        raise ValueError(f"{name} must be finite, got {array[k]} at {k}")
    return array


def _covariance(value: npt.ArrayLike, n: int) -> Array:
    matrix = np.asarray(value, dtype=np.float64)
    if matrix.shape != (n, n):
        raise ValueError(f"covariance must have shape [S, S] = ({n}, {n}), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("covariance must be finite")
    variance = np.diag(matrix)
    if (variance < 0).any():
        raise ValueError(f"covariance has a negative variance {variance.min():g} at {int(variance.argmin())}")
    if not np.allclose(matrix, matrix.T, rtol=1e-8, atol=1e-14):
        raise ValueError("covariance must be symmetric")
    return matrix


def _checked_group(group: Group, n: int) -> tuple[Array, float]:
    coefficients, ceiling = np.asarray(group[0], dtype=np.float64), float(group[1])
    if coefficients.shape != (n,):
        raise ValueError(f"groups: coefficients must have shape [S] = ({n},), got {coefficients.shape}")
    if not (np.isfinite(coefficients).all() and (coefficients >= 0).all()):
        raise ValueError("groups: coefficients must be finite and not negative")
    if np.isnan(ceiling):
        raise ValueError("groups: a ceiling must be a number")
    return coefficients, ceiling
