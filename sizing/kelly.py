"""Growth-optimal weights under correlation, bounds, ceilings and trading costs, as one quadratic program.

    maximise  mu'w - w'Σw / (2·fraction) - cost'|w - held|
    subject to  lower ≤ w ≤ upper  and  Σ cᵢ·|wᵢ| ≤ ceiling for every group

The second-order expansion of expected log growth (Kelly 1956; Thorp 2006); `fraction` 0.5 is `Kelly_50pct`. Clipping an
unconstrained answer is not the constrained optimum, so everything is solved together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Group = tuple[npt.ArrayLike, float]

SNAP = 1e-8  # a weight this close to a kink or a bound is on it; an interior-point answer never is exactly
NEAR = 1e-4  # a weight this close is put on it where nothing is lost: where a gradient vanishes there, the solver stops short


class SolverFailed(RuntimeError):
    """The quadratic program has no answer, or the solver did not find it."""


def unconstrained_kelly(mu: Array, covariance: Array, fraction: float = 0.5) -> Array:
    """Fractional Kelly without limits or costs: fraction · Σ⁺ mu, [S], signed; minimum norm where Σ is singular."""
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
    weights = lower.copy()
    free = np.flatnonzero(upper > lower)
    if len(free):
        fixed = np.flatnonzero(upper == lower)
        pull = mu[free] - covariance[np.ix_(free, fixed)] @ weights[fixed] / fraction
        rooms = [
            (c[free], max(ceiling - float(c[fixed] @ np.abs(weights[fixed])), 0.0)) for c, ceiling in ceilings if c[free].any()
        ]
        weights[free] = _solve(
            pull, covariance[np.ix_(free, free)] / fraction, lower[free], upper[free], rooms, held[free], cost[free]
        )
    return weights


def _solve(
    pull: Array, risk: Array, lower: Array, upper: Array, rooms: list[tuple[Array, float]], held: Array, cost: Array
) -> Array:
    """The free part of the problem.

    |w| and |w - held| bend at 0 and at `held`. Cutting [lower, upper] there into segments makes both linear in the
    segments' lengths x ≥ 0, with slopes that rise from segment to segment; an optimum fills them in order, because any
    other filling of the same w costs at least as much. So w = lower + Σ x with box bounds and one row a ceiling.
    """
    n = len(pull)
    gross = np.any([c > 0 for c, _ in rooms], axis=0) if rooms else np.zeros(n, dtype=bool)
    cuts = [lower, np.where(gross, np.clip(0.0, lower, upper), lower), np.where(cost > 0, np.clip(held, lower, upper), lower)]
    knots = np.sort(np.stack([*cuts, upper]), axis=0)
    length = np.diff(knots, axis=0)
    part, owner = np.nonzero(length > 0)
    middle = ((knots[:-1] + knots[1:]) / 2)[part, owner]
    scale = max(float(np.abs(pull).max()), float(np.abs(risk).max()), float(cost.max()), 1e-300)
    slope = (-(pull - risk @ lower)[owner] + cost[owner] * np.sign(middle - held[owner])) / scale
    rows = np.array([c[owner] * np.sign(middle) for c, _ in rooms]).reshape(len(rooms), len(owner))
    limits = np.array([room - c @ np.abs(lower) for c, room in rooms])
    x = _quadratic_program(risk[np.ix_(owner, owner)] / scale, slope, rows, limits, length[part, owner])
    weights = _snapped(lower + np.bincount(owner, weights=x, minlength=n), knots)

    def value(w: Array) -> float:
        return float(pull @ w - w @ risk @ w / 2 - cost @ np.abs(w - held))

    return _tidied(weights, knots, rooms, value, loss=1e-9 * float(np.abs(pull).max()))


def _quadratic_program(hessian: Array, slope: Array, rows: Array, limits: Array, longest: Array) -> Array:
    """Minimise x'Hx/2 + slope'x subject to rows·x ≤ limits, 0 ≤ x ≤ longest (PIQP, dense)."""
    import piqp

    solver = piqp.DenseSolver()
    settings = solver.settings
    settings.eps_abs = settings.eps_rel = 1e-11
    settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = 1e-11
    settings.max_iter = 200
    zero = np.zeros_like(slope)
    if len(rows):
        solver.setup(np.asfortranarray(hessian), slope, None, None, np.asfortranarray(rows), None, limits, zero, longest)
    else:
        solver.setup(np.asfortranarray(hessian), slope, None, None, None, None, None, zero, longest)
    status = solver.solve()
    if status != piqp.PIQP_SOLVED:
        raise SolverFailed(f"the sizing problem of {len(slope)} segments was not solved: {status.name}")
    return np.asarray(np.clip(solver.result.x, 0.0, longest))


def _snapped(weights: Array, knots: Array) -> Array:
    """Weights within SNAP of a knot moved onto it."""
    near = np.abs(weights - knots) < SNAP
    return np.where(near.any(axis=0), knots[near.argmax(axis=0), np.arange(len(weights))], weights)


def _tidied(
    weights: Array, knots: Array, rooms: list[tuple[Array, float]], value: Callable[[Array], float], loss: float
) -> Array:
    """Weights NEAR a knot moved onto it one after another, where no ceiling and no more than `loss` of value is lost."""
    distance = np.abs(weights - knots)
    best = value(weights)
    for k in np.flatnonzero((distance.min(axis=0) < NEAR) & (distance.min(axis=0) > 0)):
        moved = weights.copy()
        moved[k] = knots[distance[:, k].argmin(), k]
        fits = all(float(c @ np.abs(moved)) <= max(room, float(c @ np.abs(weights))) for c, room in rooms)
        if fits and value(moved) >= best - loss:
            weights, best = moved, value(moved)
    return weights


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
