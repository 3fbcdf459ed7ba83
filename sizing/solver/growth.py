"""Log growth over scenarios, its slopes and its curvature: the objective of a plan, compiled.

    g(w) = (1 - share)·E log(1 + r'w) - (share / aversion)·log E (1 + r'w)^-aversion

over scenarios r of a block's returns. Both terms are concave, add up over blocks that are
independent, and have the second-order expansion mu'w - (1 + a)/2·w'Σw with a = 0 and a = aversion:
the fraction of Kelly 1 / (1 + aversion). Nothing is added inside the logarithm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from foundation.arrays import Array
from foundation.compiled import compiled, reordered

LEAST_WEALTH = 1e-9  # of equity: what a scenario must leave
LARGE = 30.0  # an exponent beyond which the largest is taken out of a sum


class GrowthProgram(NamedTuple):
    """A plan of K blocks, S symbols, G ceilings and N scenarios; its numbers are not checked.

    returns: [K, S, N] simple returns of each block; those of different blocks are independent.
    chance: [N] of each scenario, 1 in all.
    share: of the power term, 0 … 1.
    aversion: of the power term, above 0 where it has a share.
    held: [S] weight now.
    cost: [K, S] of moving a weight by one at the start of each block.
    lower, upper: [S] bounds of the first block's weights; what is fixed stays in every block.
    coefficients: [G, S] what a first weight takes of each ceiling.
    limits: [G] the ceilings.
    toll: [K] price of what is borrowed in each block.
    """

    returns: Array
    chance: Array
    share: float
    aversion: float
    held: Array
    cost: Array
    lower: Array
    upper: Array
    coefficients: Array
    limits: Array
    toll: Array


class Point(NamedTuple):
    """The objective at weights [K, S], before costs.

    value: (1 - share)·growth + share·power; -inf where a scenario ruins.
    growth: E log of wealth over all blocks; -inf where a scenario ruins, and then nothing else
        counts.
    power: the power term, 0 without an aversion.
    slopes: [K, S] of the value, by weight.
    wealth: [K, N] what each scenario leaves of 1.
    odds: [K, N] chances tilted to the poor scenarios, in proportion to chance·wealth^-aversion.
    """

    value: float
    growth: float
    power: float
    slopes: Array
    wealth: Array
    odds: Array


@compiled
def expansion(program: GrowthProgram, weights: Array, point: Point) -> tuple[Array, Array]:
    """Returns [K, S] and covariances [K, S, S] of the quadratic program that is near at weights."""
    blocks = len(weights)
    symbols = weights.shape[1]
    pull = np.empty((blocks, symbols))
    risk = np.empty((blocks, symbols, symbols))
    for k in range(blocks):
        _curvature(program, program.returns[k], point.wealth[k], point.odds[k], risk[k])
        pull[k] = point.slopes[k]
        for i in range(symbols):
            pull[k, i] += dot(risk[k, i], weights[k])
    return pull, risk


@compiled
def point_at(program: GrowthProgram, weights: Array) -> Point:
    """The objective at weights [K, S]."""
    blocks = len(weights)
    scenarios = len(program.chance)
    share = program.share
    slopes = np.zeros(weights.shape)
    wealth = np.empty((blocks, scenarios))
    odds = np.zeros((blocks, scenarios))
    pull = np.empty(scenarios)
    growth = 0.0
    power = 0.0
    for k in range(blocks):
        logs = _returns_of_book(program.returns[k], weights[k])
        for s in range(scenarios):
            wealth[k, s] = 1.0 + logs[s]
        if not logs.min() > LEAST_WEALTH - 1.0:
            return Point(-np.inf, -np.inf, -np.inf, slopes, wealth, odds)
        for s in range(scenarios):
            logs[s] = np.log1p(logs[s])
        growth += dot(program.chance, logs)
        if program.aversion > 0.0:
            power += _tilt(program.chance, logs, program.aversion, odds[k])
        for s in range(scenarios):
            pull[s] = ((1.0 - share) * program.chance[s] + share * odds[k, s]) / wealth[k, s]
        for i in range(weights.shape[1]):
            slopes[k, i] = dot(program.returns[k, i], pull)
    value = (1.0 - share) * growth + share * power
    return Point(value, growth, power, slopes, wealth, odds)


@compiled
def _curvature(
    program: GrowthProgram, returns: Array, wealth: Array, odds: Array, risk: Array
) -> None:
    """Write -g'' of one block into risk [S, S]; returns [S, N], wealth and odds [N] there."""
    share = program.share
    aversion = program.aversion
    symbols, scenarios = returns.shape
    scaled = np.empty(returns.shape)
    lean = np.zeros(symbols)
    root = np.empty(scenarios)
    tilted = np.empty(scenarios)
    for s in range(scenarios):
        weight = (1.0 - share) * program.chance[s] + share * (1.0 + aversion) * odds[s]
        root[s] = np.sqrt(weight) / wealth[s]
        tilted[s] = odds[s] / wealth[s]
    for i in range(symbols):
        for s in range(scenarios):
            scaled[i, s] = returns[i, s] * root[s]
        if share > 0.0:
            lean[i] = dot(returns[i], tilted)
        for j in range(i + 1):
            value = dot(scaled[i], scaled[j]) - share * aversion * lean[i] * lean[j]
            risk[i, j] = value
            risk[j, i] = value


@compiled
def least_wealth(returns: Array, weights: Array) -> float:
    """What the worst scenario of returns [K, S, N] leaves of 1 with weights [K, S]."""
    least = np.inf
    for k in range(len(weights)):
        least = min(least, 1.0 + _returns_of_book(returns[k], weights[k]).min())
    return least


@compiled
def _returns_of_book(returns: Array, weights: Array) -> Array:
    """r'w [N] of returns [S, N]."""
    book = np.zeros(returns.shape[1])
    for i in range(len(weights)):
        if weights[i] != 0.0:
            for s in range(len(book)):
                book[s] += weights[i] * returns[i, s]
    return book


@compiled
def _tilt(chance: Array, logs: Array, aversion: float, odds: Array) -> float:
    """-log(E exp(-aversion·logs)) / aversion; odds [N]: written, chances tilted by the exponent."""
    most = -aversion * logs.min()
    if most <= LARGE:
        # Growth over an hour is a millionth: 1 + it would lose half of its digits.
        beyond = 0.0
        for s in range(len(logs)):
            part = np.expm1(-aversion * logs[s])
            beyond += chance[s] * part
            odds[s] = chance[s] * (1.0 + part)
        # What wins in nearly every scenario leaves nothing of 1 + it, not even the few it loses in.
        if beyond > -0.5:
            odds /= 1.0 + beyond
            return float(-np.log1p(beyond) / aversion)
    total = 0.0
    for s in range(len(logs)):
        odds[s] = chance[s] * np.exp(-aversion * logs[s] - most)
        total += odds[s]
    odds /= total
    return float(-(most + np.log(total)) / aversion)


@reordered
def dot(x: Array, y: Array) -> float:
    """x'y."""
    total = 0.0
    for s in range(len(x)):
        total += x[s] * y[s]
    return total
