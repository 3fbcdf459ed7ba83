"""Random plans over several periods and their optimum by an interior-point solver."""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from sizing.kelly import SizingProblem
from tests.execution import reference_decision

SCALES = (0.2, 1.0, 20.0)  # of the periods' variances


def plan(seed: int, periods: int = 3, n: int | None = None) -> SizingProblem:
    """Stocks and coins, some of them fixed, a premium in the long period and a signal in the
    short ones.
    """
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 9)) if n is None else n
    spread = rng.normal(0, 0.01, (n, 3))
    base = spread @ spread.T / 3 + np.diag(rng.uniform(1e-6, 1e-4, n))
    covariance = np.array([base * scale * rng.uniform(0.5, 2) for scale in SCALES[:periods]])
    signal = rng.normal(0, 1e-3, n) * rng.choice([0.0, 1.0])
    mu = np.array([signal, signal * rng.uniform(-0.5, 1.5), np.full(n, rng.choice([0.0, 4e-3]))])[
        :periods
    ]
    cap = float(rng.choice([0.1, 0.3, 0.6]))
    ceiling = float(rng.choice([0.5, 1.0, 2.0, 4.0]))
    crypto = rng.random(n) < 0.3
    fixed = rng.random(n) < 0.2
    held = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(-0.4, 0.4, n))
    held = np.where(crypto, np.abs(held), held)
    lower = np.where(crypto, 0.0, -cap)
    upper = np.full(n, cap)
    lower = np.where(fixed, held, lower)
    upper = np.where(fixed, held, upper)
    groups = np.array([~crypto * 1.0, crypto * 1.0, ~crypto / ceiling + crypto])
    cost = np.where(rng.random(n) < 0.9, rng.choice([0.0, 2e-4, 2e-3]), 0.0)
    financings = rng.choice([0.0, 1e-4, 1e-3, 4e-3], periods)
    costs = np.vstack([cost, cost * rng.choice([0.0, 0.3, 1.0], (periods - 1, n))])
    limits = np.array([ceiling, 1.0, 1.0])
    return SizingProblem(
        mu, covariance, costs, financings, held, lower, upper, groups, limits, kelly_fraction=0.5
    )


def financings_of(p: SizingProblem) -> Array:
    """Of each period; none where bounds, or a ceiling for every symbol, keep the first period's
    sizes at 1 together.
    """
    sizes = np.maximum(np.abs(p.lower), np.abs(p.upper))
    fixed = np.abs(p.lower) * (p.lower == p.upper)
    most = [sizes.sum()]
    for row, limit in zip(p.ceiling_coefficients, p.ceilings, strict=True):
        if (row > 0).all():
            most.append(max(limit, row @ fixed) / row.min())
    return p.financing_cost * (min(most) > 1 + 1e-9)


def reference(p: SizingProblem) -> reference_decision.Program:
    """The same, as the plain reckoning of a decision has it; a ceiling that what is fixed passes
    becomes what is fixed.
    """
    fixed = np.abs(p.lower) * (p.lower == p.upper)
    rooms = np.maximum(p.ceilings, p.ceiling_coefficients @ fixed)
    bounds, rows = (p.lower, p.upper), (p.ceiling_coefficients, rooms)
    return reference_decision.Program(
        p.mu,
        p.covariance,
        p.held_weight,
        p.cost,
        financings_of(p),
        *bounds,
        *rows,
        p.kelly_fraction,
    )


def worth(p: SizingProblem, weights: Array) -> float:
    """The plan's objective, read off its definition."""
    return reference_decision.worth(reference(p), weights)


def interior(p: SizingProblem) -> Array:
    """The best plan by an interior-point solver."""
    return reference_decision.solved(reference(p))
