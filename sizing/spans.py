"""Over how many blocks of a plan a weight explains a target.

A plan decides its first block alone. Where a position pays for coming and going within the first
block, that block's Kelly weight explains the target; where it is put on for longer, the Kelly
weight over all blocks through which it is held does. The two may have opposite signs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Index, Mask
from foundation.compiled import compiled
from sizing.allocation import Allocation
from sizing.kelly import unconstrained_kelly
from sizing.problem import Returns
from sizing.situation import Situation
from sizing.solver.cholesky import factored_solve, solve_in_place

NEAR = 1e-6  # in weight


@dataclass(frozen=True, eq=False, slots=True)
class SpannedAllocation(Allocation):
    """An allocation that says which part of a plan, and which expectations, it rests on.

    blocks: [S] number of blocks that `unlimited` is reckoned over, from the first one on.
    premium, forecast: [S] what of `unlimited` would be held on each alone; NaN for what does not
        decide, and where the premium's part of what is expected is not known. Kelly's weight
        without limits is linear in what is expected, and they add up to it. What they leave of
        `unlimited` rests on neither: the hedge of others' targets, the shape of returns, a rule.
    """

    blocks: Index
    premium: Array
    forecast: Array


def of_first_block(allocation: Allocation, directed: Mask) -> SpannedAllocation:
    """The allocation of a rule that reads nothing but the first block, and no premium.

    directed: [S] whether the forecast alone gives the weight its direction.
    """
    unlimited = allocation.unlimited
    none = np.where(np.isnan(unlimited), np.nan, 0.0)
    return SpannedAllocation(
        unlimited,
        allocation.target,
        allocation.binding,
        blocks=np.ones(len(unlimited), dtype=np.int64),
        premium=none,
        forecast=np.where(directed, unlimited, none),
    )


def spanned_kelly(situation: Situation, allocation: Allocation, fraction: float) -> Allocation:
    """A Kelly allocation whose every unlimited weight is that of the span that explains its target.

    It is the longest span of blocks, from the first one on, whose Kelly weight lies where the
    target was moved to, or beyond the limit that holds it. A weight that hedges what others may not
    hold explains nothing: then it is the Kelly weight beside the others' targets. Where none does
    it is that of the whole plan. fraction: of full Kelly.
    """
    count = len(situation.problem.returns.mu)
    target = allocation.target
    blocks = np.full(len(target), count)
    beside = np.zeros(len(target), dtype=bool)
    unlimited = allocation.unlimited
    ways = _ways(situation, allocation)
    open_ = situation.deciding & ~_explains(unlimited, target, ways)
    if open_.any():
        unlimited = unlimited.copy()
        for weights_of in (_kelly_together, _kelly_beside):
            for span in range(count, 0, -1):
                mu, covariance = _moments(situation, span)
                weights = weights_of(mu, covariance, situation.deciding, target, fraction)
                found = open_ & _explains(weights, target, ways)
                unlimited[found] = weights[found]
                blocks[found] = span
                beside[found] = weights_of is _kelly_beside
                open_ &= ~found
                if not open_.any():
                    break
    parts = _parts(situation, blocks, beside, fraction)
    return SpannedAllocation(unlimited, target, allocation.binding, blocks, *parts)


def _moments(situation: Situation, span: int) -> tuple[Array, Array]:
    """Expected returns [S] and covariance [S, S] over the first blocks, so many."""
    mu, _, covariance, _, _ = situation.problem.returns
    return mu[0] + mu[1:span].sum(axis=0), covariance[0] + covariance[1:span].sum(axis=0)


def _parts(
    situation: Situation, blocks: Index, beside: Mask, fraction: float
) -> tuple[Array, Array]:
    """Fractional Kelly on the premium alone and on the forecast alone, [S] each.

    blocks: [S] as of `SpannedAllocation`; beside: [S] whether the others are at their targets.
    """
    s = situation
    returns = s.problem.returns
    premium = returns.premium
    if np.isnan(premium).any():
        unknown = np.full(len(blocks), np.nan)
        return unknown, unknown
    singular, weights = _kelly_of_both(returns, s.deciding, blocks, beside, fraction)
    for span in np.flatnonzero(singular).tolist():
        mu, covariance = _moments(s, span)
        rows = s.deciding & (blocks == span) & ~beside
        earned = premium[0] + premium[1:span].sum(axis=0)
        for row, expected in enumerate((earned, mu)):
            together = _kelly_together(expected, covariance, s.deciding, s.held, fraction)
            weights[row, rows] = together[rows]
    return weights[0], weights[1] - weights[0]


@compiled
def _kelly_of_both(
    returns: Returns, deciding: Mask, blocks: Index, beside: Mask, fraction: float
) -> tuple[Mask, Array]:
    """Fractional Kelly on the premium alone, and on all that is expected, [2, S].

    Each of what decides over its own number of blocks, together or, where `beside` says so, by its
    own variance alone; NaN for the rest. And [1 + K] at which number of blocks the covariance has
    no factor: there the weights together are none.
    """
    chosen = np.flatnonzero(deciding)
    singular = np.zeros(1 + len(returns.mu), dtype=np.bool_)
    weights = np.full((2, len(deciding)), np.nan)
    for span in range(1, len(singular)):
        here = blocks[chosen] == span
        alone = beside[chosen]
        if not here.any():
            continue
        both, risk = _sums_over(returns, chosen, span, fraction)
        for a in np.flatnonzero(here & alone):
            for row in range(2):
                weights[row, chosen[a]] = both[row, a] / risk[a, a]
        together = np.flatnonzero(here & ~alone)
        if len(together) > 0:
            singular[span] = not factored_solve(risk, both[0])
            solve_in_place(risk, both[1])
            for a in together:
                for row in range(2):
                    weights[row, chosen[a]] = both[row, a]
    return singular, weights


@compiled
def _sums_over(returns: Returns, chosen: Index, span: int, fraction: float) -> tuple[Array, Array]:
    """What the premium, and all, expects of the chosen over the first blocks, so many, [2, n].

    Times the fraction; and their covariance [n, n], its lower triangle.
    """
    mu = returns.mu
    premium = returns.premium
    covariance = returns.covariance
    count = len(chosen)
    both = np.zeros((2, count))
    risk = np.zeros((count, count))
    for a in range(count):
        i = chosen[a]
        # Both sums run in one order: where the forecast is nothing they are the same.
        for k in range(1, span):
            both[0, a] += premium[k, i]
            both[1, a] += mu[k, i]
        both[0, a] = fraction * (both[0, a] + premium[0, i])
        both[1, a] = fraction * (both[1, a] + mu[0, i])
        for b in range(a + 1):
            for k in range(span):
                risk[a, b] += covariance[k, i, chosen[b]]
    return both, risk


def _kelly_together(
    mu: Array, covariance: Array, deciding: Mask, target: Array, fraction: float
) -> Array:
    """Fractional Kelly of everything that decides, together, [S]; NaN for the rest."""
    chosen = np.flatnonzero(deciding)
    weights = np.full(len(mu), np.nan)
    risk = covariance[np.ix_(chosen, chosen)]
    weights[chosen] = unconstrained_kelly(mu[chosen], risk, fraction)
    return weights


def _kelly_beside(
    mu: Array, covariance: Array, deciding: Mask, target: Array, fraction: float
) -> Array:
    """Fractional Kelly of each symbol that decides, all others at their targets, [S]."""
    variance = np.where(deciding & (np.diag(covariance) > 0), np.diag(covariance), np.nan)
    return np.asarray(target + (fraction * mu - covariance @ target) / variance)


def _ways(situation: Situation, allocation: Allocation) -> Array:
    """In which direction each target would move on, [S]: -1, 1, or 0 where nothing says it.

    What a limit holds would move on away from zero, and what may not be short below it. What none
    holds came from what was held.
    """
    ways = np.sign(allocation.target - situation.held)
    outward = np.sign(allocation.target)
    for k, names in enumerate(allocation.binding):
        if names and "cost" not in names:
            ways[k] = -1.0 if "long_only" in names else outward[k]
    return ways


def _explains(weights: Array, target: Array, ways: Array) -> Mask:
    """Whether moving towards these weights [S] ends at the targets, [S]; ways: as of `_ways`."""
    beyond = weights - target
    with np.errstate(invalid="ignore"):
        return np.asarray((beyond * ways > 0) | (np.abs(beyond) <= NEAR) | (ways == 0))
