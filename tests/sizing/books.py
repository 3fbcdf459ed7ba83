"""Books drawn at random, and the limits that weights of them break."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from foundation.arrays import Array
from sizing.inputs import SizingInputs
from sizing.limits import CEILING_NAMES, build_ceiling_constraints, weight_bounds
from sizing.problem import BookLimits, Costs, CurrentWeights, DecisionProblem, ExpectedReturns
from sizing.settings import Limits
from sizing.solver.multi_period import SizingProblem

TOLERANCE = 1e-8  # in weight


def plan_for(mu: Array, covariance: Array, **more: Any) -> SizingProblem:
    """Half-Kelly over periods, mu [K, S] and covariance [K, S, S], of bounds of ±5.

    Nothing is held, moving and borrowing are free, and nothing else is limited, but for what is
    said; one number stands for all.
    """
    periods, n = mu.shape
    shapes = {"cost": (periods, n), "financing_cost": (periods,), "held_weight": (n,)}
    usual = {"cost": 0.0, "financing_cost": 0.0, "held_weight": 0.0, "lower": -5.0, "upper": 5.0}
    given = {
        **usual,
        "ceiling_coefficients": np.zeros((0, n)),
        "ceilings": (),
        "kelly_fraction": 0.5,
        **more,
    }
    arrays = {
        name: np.broadcast_to(value, shapes.get(name, (n,) if name in usual else np.shape(value)))
        for name, value in given.items()
        if name != "kelly_fraction"
    }
    copied = {name: np.array(array, dtype=np.float64) for name, array in arrays.items()}
    return SizingProblem(
        mu.copy(), covariance.copy(), kelly_fraction=given["kelly_fraction"], **copied
    )


class LaterBlocks(NamedTuple):
    """What is expected in the L periods after the first: [L, S], [L, S, S], [L], [L, S]."""

    mu: Array
    covariance: Array
    financing: Array
    cost: Array


def random_inputs(
    rng: np.random.Generator, symbols: int | None = None, *, planned: bool = True
) -> SizingInputs:
    """A book of one to eight symbols in which anything may be held, of hourly moments.

    planned: periods after the first, in half of the books, a price of borrowing, and symbols that
        have no forecast.
    """
    n = int(rng.integers(1, 9)) if symbols is None else symbols
    crypto = rng.random(n) < 0.3
    deviation = rng.uniform(0.002, 0.02, n)
    factors = rng.normal(size=(n, 2))
    shape = 0.5 * np.eye(n) + 0.2 * factors @ factors.T
    covariance = np.outer(deviation, deviation) * shape
    mu = rng.normal(0.0, 0.3, n) * deviation
    cost = rng.uniform(1e-4, 3e-3, n)
    held = np.where(rng.random(n) < 0.5, rng.uniform(-0.8, 0.8, n), 0.0)
    later = None
    if planned and rng.random() < 0.5:
        later = LaterBlocks(
            np.stack([0.5 * mu, 0.1 * mu]),
            np.stack([covariance, 20 * covariance]),
            np.array([0.0, 1e-4]),
            np.stack([cost, cost]),
        )
    return rich_book(
        n,
        later=later,
        mu=mu,
        covariance=covariance,
        held_weight=np.where(crypto, np.abs(held) / max(int(crypto.sum()), 1), held),
        unit_cost=cost,
        crypto=crypto,
        long_only=crypto | (rng.random(n) < 0.2),
        adjustable=rng.random(n) < 0.8,
        universe=rng.random(n) < (0.9 if planned else 1.0),
        period_years=np.full(n, 1 / 1764),
        equity=float(rng.choice([1_000.0, 50_000.0])),
        stock_ceiling=float(rng.choice([1.0, 1.96, 4.0])),
        unborrowed_cash_share=float(rng.uniform(-0.2, 1.0)),
        financing_cost=float(rng.choice([0.0, 2e-4])) * planned,
        earned=np.outer([1.0] if later is None else [1.0, 3.0, 40.0], 0.02 * deviation),
    )


def rich_book(n: int, *, later: LaterBlocks | None = None, **fields: Any) -> SizingInputs:
    """A rich account that holds nothing and decides on everything: stocks of σ 1 % a day, 2 basis
    points to trade; coins where `crypto` says so. fields: what is otherwise, in the first period.
    """
    every, none = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
    crypto = fields.get("crypto", none)
    of: dict[str, Any] = {
        "mu": np.zeros(n),
        "covariance": np.eye(n) * 1e-4,
        "unit_cost": np.full(n, 2e-4),
        "financing_cost": 0.0,
        "long_only": crypto,
        "universe": every,
        "period_years": np.where(crypto, 24 / 8766, 1 / 252),  # a day of each one's own
        "stock_ceiling": 4.0,
        "held_weight": np.zeros(n),
        "adjustable": every,
        "exiting": none,
        "weight_increment": np.zeros(n),
        "equity": 1e5,
        "unborrowed_cash_share": 1.0,
        "order_price_buffer": 1.0,
        **fields,
    }
    first = (
        of["mu"][None],
        of["covariance"][None],
        np.array([of["financing_cost"]]),
        of["unit_cost"][None],
    )
    periods = [first] if later is None else [first, later]
    mu, risks, financing, costs = (np.concatenate(each) for each in zip(*periods, strict=True))
    earned = of.get("earned", np.full(mu.shape, np.nan))
    granted_gross = of["stock_ceiling"], of["stock_ceiling"]
    return SizingInputs(
        DecisionProblem(
            ExpectedReturns(mu, earned, risks, of["universe"], of["period_years"]),
            Costs(costs, financing),
            BookLimits(*Limits().book_limit_values, *granted_gross, crypto, of["long_only"]),
            CurrentWeights(*(of[name] for name in CurrentWeights._fields)),
        ),
        tuple(f"SY{chr(65 + k)}" for k in range(n)),
    )


def changed(s: SizingInputs, **fields: Any) -> SizingInputs:
    """The same where these fields of its problem, or its own, are others."""
    parts = []
    for part in s.problem:
        own = {name: fields.pop(name) for name in part._fields if name in fields}
        parts.append(part._replace(**own))
    return replace(s, problem=DecisionProblem(*parts), **fields)


def under(s: SizingInputs, limits: Limits) -> SizingInputs:
    """The same under the caps of other limits."""
    own = BookLimits(*limits.book_limit_values, *s.problem.limits[4:])
    return replace(s, problem=s.problem._replace(limits=own))


def broken_limits(inputs: SizingInputs, target: Array) -> list[str]:
    """What weights [S] break, by name: only what does not decide may stay beyond a limit."""
    s = inputs
    lower, upper = weight_bounds(s.problem.limits, s.problem.account)
    broken = [] if np.isfinite(target).all() else ["finite"]
    if ((target < lower - TOLERANCE) | (target > upper + TOLERANCE)).any():
        broken.append("bounds")
    if (target != s.held_weight)[~s.adjustable].any():
        broken.append("adjustable")
    costless = s.problem.costs._replace(unit_cost=np.zeros((1, len(target))))
    ceilings = build_ceiling_constraints(s.problem._replace(costs=costless))
    for name, coefficients, limit in zip(CEILING_NAMES, *ceilings, strict=True):
        load = coefficients * np.abs(target)
        if load.sum() > max(limit, load[~s.adjustable].sum()) + TOLERANCE:
            broken.append(name)
    return broken
