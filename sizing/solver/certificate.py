"""A bound on how far stakes can be from the best where wealth nearly vanishes in an outcome.

`duality_gap` takes the tangent at the weights. Beside a ruin of small chance growth bends so
sharply that between two neighbouring floating-point numbers the slope turns from one side of the
optimum to the other, and neither tangent closes the gap. Growth is a concave function of the wealth
in every outcome, too, and lies below its tangents there at any wealth, be it one that no weights
have. So the wealth is moved to where the slopes by weight are those of an optimum.
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array, Mask
from sizing.solver.duality import charged_tolls, duality_gap
from sizing.solver.growth import GrowthProgram

ROUNDS = 50
HALVINGS = 30
LEAST_LEFT = 0.1  # of a slope by wealth: what a step leaves at least
ENOUGH = 1e-10  # a gap, a return, below which no step is taken
NEAR_RUIN = 1e-3
STILL = 1e-13  # in weight: what is so close to a knot is at it
SINGULAR = 1e-14  # of the largest curvature


def wealth_gap(
    program: GrowthProgram, weights: Array, prices: Array, raised: Array | None = None
) -> float:
    """By how much other weights may be better than these at most, a return; of one block.

    weights: [1, S] that survive every outcome.
    prices: [G + 1] of the ceilings and of what is borrowed, as `duality_gap` takes them.
    raised: [N] chances for which the weights were found, if they are not the program's.
    """
    returns = program.returns[0]
    tolls = charged_tolls(program)
    wealth = 1.0 + weights[0] @ returns
    reached, _, _ = _growth(program, wealth)
    free, asked = _asked_slopes(program, weights[0], prices, tolls)

    def gap_at(at: Array) -> tuple[float, Array, Array]:
        value, slope, odds = _growth(program, at)
        slopes = returns @ slope
        beyond = max(value + float(slope @ (wealth - at)) - reached, 0.0)
        gap = beyond + duality_gap(program, tolls, weights, slopes[None], prices)
        return (gap if gap >= 0 else np.inf), slopes, odds

    at = wealth
    gap, slopes, odds = gap_at(at)
    if raised is not None:
        # Less wealth weighs on the slopes as more chance does. Far from ruin neither is needed.
        less = (program.chance / raised) ** (1.0 / (1.0 + program.share * program.aversion))
        tried = np.where(wealth < NEAR_RUIN, wealth * less, wealth)
        found = gap_at(tried)
        if found[0] < gap:
            at = tried
            gap, slopes, odds = found
    for _ in range(ROUNDS):
        if gap <= ENOUGH or not free.any():
            break
        curvature = _curvature(program, returns[free], at, odds)
        ridge = SINGULAR * max(float(np.diag(curvature).max()), 1e-300)
        move = np.linalg.solve(curvature + ridge * np.eye(len(curvature)), (slopes - asked)[free])
        change = -(move @ returns[free]) / at
        length = min(1.0, (1.0 - LEAST_LEFT) / max(float(-change.min()), 1e-300))
        for _ in range(HALVINGS):
            tried = at / (1.0 + length * change)
            found = gap_at(tried)
            if found[0] < gap:
                break
            length *= 0.5
        else:
            break
        at = tried
        gap, slopes, odds = found
    return gap


def _asked_slopes(
    program: GrowthProgram, weights: Array, prices: Array, tolls: Array
) -> tuple[Mask, Array]:
    """[S] whether a weight lies between its knots, and the slope that an optimum has there."""
    ceilings = len(program.limits)
    price = np.maximum(prices[:ceilings], 0.0) @ program.coefficients
    price = price + min(max(prices[ceilings], 0.0), tolls[0])
    traded = program.cost[0]
    free = np.ones(len(weights), dtype=bool)
    for knot, bends in (
        (program.lower, True),
        (program.upper, True),
        (program.held, traded > 0),
        (0.0, price > 0),
    ):
        free &= ~((np.abs(weights - knot) <= STILL) & bends)
    return free, traded * np.sign(weights - program.held) + price * np.sign(weights)


def _growth(program: GrowthProgram, wealth: Array) -> tuple[float, Array, Array]:
    """The objective of a wealth [N], its slopes [N] by it, and the tilted chances [N]."""
    logs = np.log(wealth)
    value = (1.0 - program.share) * float(program.chance @ logs)
    odds = np.zeros(len(wealth))
    if program.share > 0:
        exponents = np.log(program.chance) - program.aversion * logs
        most = exponents.max()
        parts = np.exp(exponents - most)
        odds = parts / parts.sum()
        value -= program.share * float(most + np.log(parts.sum())) / program.aversion
    return value, ((1.0 - program.share) * program.chance + program.share * odds) / wealth, odds


def _curvature(program: GrowthProgram, returns: Array, wealth: Array, odds: Array) -> Array:
    """-g'' by weight of these bets, [F, F], at a wealth [N]; returns [F, N]."""
    scaled = returns / wealth
    share = program.share
    weight = (1.0 - share) * program.chance + share * (1.0 + program.aversion) * odds
    lean = scaled @ odds
    return np.asarray(
        (scaled * weight) @ scaled.T - share * program.aversion * np.outer(lean, lean)
    )
