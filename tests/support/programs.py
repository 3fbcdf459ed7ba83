"""Sizing programs at their limits and the conditions of their optimum."""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from sizing.solver.active_set import SOLVED, solve_program
from sizing.solver.segments import QuadraticProgram


def program(
    linear_term: Array,
    risk: Array,
    *of_weights: Array | float,
    groups: Array,
    headroom: Array | float,
) -> QuadraticProgram:
    """A program in which every group counts sizes and none has a penalty.

    of_weights: lower, upper, held and cost; one number stands for all.
    """
    bounds = (np.full(len(linear_term), each, dtype=np.float64) for each in of_weights)
    rooms = np.full(len(groups), headroom, dtype=np.float64)
    unpaid = np.full(len(rooms), np.inf), np.zeros(len(rooms), dtype=bool)
    return QuadraticProgram(
        linear_term, np.diag(risk).copy(), risk[None].copy(), *bounds, groups, rooms, *unpaid
    )


def whole_risk(p: QuadraticProgram) -> Array:
    """R of all weights, [n, n]."""
    place = np.arange(len(p.linear_term))
    period, at = np.divmod(place, p.scaled_covariance.shape[1])
    risk = p.scaled_covariance[np.maximum.outer(period, period), at[:, None], at]
    risk[place, place] = p.variance
    return np.asarray(risk)


def book_at_limits(rng: np.random.Generator, n: int, *, singular: bool = False) -> QuadraticProgram:
    """Near-singular risk, ties with knots and ceilings that coincide: what a book at its limits
    looks like.

    singular: more symbols than sources of risk, and far bounds: steps of any size change nothing.
    """
    sources = rng.integers(1, max(2, n // 2)) if singular else rng.integers(1, n + 3)
    factors = rng.normal(0, 0.01, (n, int(sources)))
    if singular and rng.random() < 0.5:
        factors[int(rng.integers(n))] = factors[int(rng.integers(n))]
    risk = factors @ factors.T / factors.shape[1] * rng.choice([0.1, 1.0, 10.0]) * 2
    if not singular and rng.random() < 0.7:
        risk += np.diag(rng.uniform(0, 1e-4, n))
    cap = float(rng.choice([0.3, 0.6, 5.0, 50.0] if singular else [0.1, 0.3, 0.6]))
    crypto = rng.random(n) < 0.3
    lower = np.where(crypto, 0.0, -cap)
    upper = np.full(n, cap)
    held = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(-0.5, 0.5, n))
    held = np.where(crypto, np.abs(held), held)
    if rng.random() < 0.5:
        held = np.clip(held, lower, upper)
    cost = np.where(rng.random(n) < 0.8, rng.choice([0.0, 2e-4, 2e-3]), 0.0)
    ceiling = float(rng.choice([1.0, 4.0, 40.0] if singular else [0.5, 1.0, 2.0, 4.0]))
    groups = [~crypto * 1.0, crypto * 1.0, ~crypto / ceiling + crypto]
    headroom = [ceiling, 1.0, 1.0]
    if rng.random() < 0.3:
        groups.append(crypto * 1.0)
        headroom.append(float(rng.uniform(0, 0.5)))
    linear_term = rng.normal(0, rng.choice([1e-4, 1e-3, 1e-2]), n)
    limited = {"groups": np.array(groups), "headroom": np.array(headroom)}
    return program(linear_term, risk, lower, upper, held, cost, **limited)


def assert_optimal(p: QuadraticProgram) -> tuple[Array, QuadraticProgram]:
    """Return, risk, cost and the price of ceilings balance at every weight; a ceiling with room
    left has no price.

    The weights, and the program as it was solved: with its ridge, and rooms that can be kept to.
    """
    ridged = p._replace(variance=p.variance.copy(), headroom=p.headroom.copy())
    status, w, prices = solve_program(ridged)
    assert status == SOLVED
    scale = max(np.abs(p.linear_term).max(), ridged.variance.max()) + p.cost.max()
    np.testing.assert_allclose(ridged.variance, p.variance, rtol=0, atol=1.01e-10 * scale)
    slack = 1e-7 * scale
    gradient = (
        p.linear_term
        - whole_risk(ridged) @ w
        - prices[p.is_net_group] @ p.group_coefficients[p.is_net_group]
    )
    price = prices[~p.is_net_group] @ p.group_coefficients[~p.is_net_group]
    assert (w >= p.lower).all()
    assert (w <= p.upper).all()
    used = np.where(p.is_net_group, p.group_coefficients @ w, p.group_coefficients @ np.abs(w))
    assert (used <= ridged.headroom + 1e-9)[p.penalty == np.inf].all()
    assert (prices >= -slack).all()
    assert (prices <= p.penalty + slack).all()
    assert (prices[used < ridged.headroom - 1e-9] == 0).all()
    assert (prices >= p.penalty - slack)[used > ridged.headroom + 1e-9].all(), (
        "what is beyond a room is paid for"
    )
    more = np.where(w >= p.held_weight, p.cost, -p.cost) + np.where(w >= 0, price, -price)
    less = np.where(w <= p.held_weight, -p.cost, p.cost) + np.where(w <= 0, -price, price)
    assert (gradient - more <= slack)[w < p.upper].all(), "more would pay"
    assert (less - gradient <= slack)[w > p.lower].all(), "less would pay"
    return w, ridged
