"""Over how many blocks of a plan a weight explains a target.

A plan decides its first block alone. Where a position pays for coming and going within the first
block, that block's Kelly weight explains the target; where it is put on for longer, the Kelly
weight over all blocks through which it is held does. The two may have opposite signs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Index, Mask
from sizing.allocation import Allocation
from sizing.kelly import unconstrained_kelly
from sizing.situation import Situation

NEAR = 1e-6  # in weight


@dataclass(frozen=True, eq=False, slots=True)
class SpannedAllocation(Allocation):
    """An allocation that says which part of a plan it rests on.

    blocks: [S] number of blocks that `unlimited` is reckoned over, from the first one on.
    """

    blocks: Index


def of_first_block(allocation: Allocation) -> SpannedAllocation:
    """The allocation of a rule that reads nothing but the first block."""
    blocks = np.ones(len(allocation.target), dtype=np.int64)
    return SpannedAllocation(allocation.unlimited, allocation.target, allocation.binding, blocks)


def spanned_kelly(situation: Situation, allocation: Allocation, fraction: float) -> Allocation:
    """A Kelly allocation whose every unlimited weight is that of the span that explains its target.

    It is the longest span of blocks, from the first one on, whose Kelly weight lies where the
    target was moved to, or beyond the limit that holds it. A weight that hedges what others may not
    hold explains nothing: then it is the Kelly weight beside the others' targets. Where none does
    it is that of the whole plan. fraction: of full Kelly.
    """
    later = situation.later_blocks
    count = 1 + len(later.mu)
    target = allocation.target
    blocks = np.full(len(target), count)
    unlimited = allocation.unlimited
    ways = _ways(situation, allocation)
    open_ = situation.deciding & ~_explains(unlimited, target, ways)
    if not open_.any():
        return SpannedAllocation(unlimited, target, allocation.binding, blocks)
    unlimited = unlimited.copy()
    for weights_of in (_kelly_together, _kelly_beside):
        for span in range(count, 0, -1):
            mu = situation.mu + later.mu[: span - 1].sum(axis=0)
            covariance = situation.covariance + later.covariance[: span - 1].sum(axis=0)
            weights = weights_of(mu, covariance, situation.deciding, target, fraction)
            found = open_ & _explains(weights, target, ways)
            unlimited[found] = weights[found]
            blocks[found] = span
            open_ &= ~found
            if not open_.any():
                break
    return SpannedAllocation(unlimited, target, allocation.binding, blocks)


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
