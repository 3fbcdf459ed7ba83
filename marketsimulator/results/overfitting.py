"""Whether choosing the best of some variants finds anything: the probability of overfitting.

Combinatorially symmetric cross-validation (Bailey, Borwein, López de Prado and Zhu 2017): the days
are cut into blocks, and every half of the blocks chooses a variant that the other half judges.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array, Mask
from foundation.sample_size import FEWEST_DAYS
from marketsimulator.results.significance import STILL

BLOCKS = 16  # 12,870 splits
AT_ONCE = 1 << 16  # Sharpe ratios that an array of them holds
TIED = 1e-9  # Sharpe ratios per day that are no further apart are the same


@dataclass(frozen=True, slots=True)
class Overfitting:
    """How the variant with the best Sharpe ratio in one half of the days does in the other half.

    probability: of backtest overfitting, the share of splits in which the chosen variant is below
        the median of all in the other half. 0.5 is what choosing among variants alike comes to.
    inside: mean of the chosen variant's Sharpe ratio per day where it was chosen.
    outside: the same in the other half.
    slope: of the second on the first over all splits; None where the first is always the same.
    loss: share of splits in which the second is below 0.
    splits: how often the days were split.
    variants: that were chosen among, those that never move left out.
    days: that were split.
    """

    probability: float
    inside: float
    outside: float
    slope: float | None
    loss: float
    splits: int
    variants: int
    days: int


def overfitting(returns: Array, blocks: int = BLOCKS) -> Overfitting | None:
    """Cross-validate the choice of the best variant, over every half of the blocks of days.

    None for fewer days than a yearly figure takes, or fewer than two variants that ever move: one
    of zero variance has no Sharpe ratio, can neither be chosen nor ranked, and is left out. In a
    half in which a variant stands still its ratio is 0.

    The relative rank ω of the chosen variant is its rank in the other half over V + 1, its logit
    ln(ω / (1 - ω)), and a logit below 0 counts as overfitting. Ties favour nobody: equal ratios
    share the mean of their ranks, a logit of exactly 0 (the middle of an odd number, or all alike)
    counts half, and a split in which several are the best counts each of them as a part of one. So
    the order of variants says nothing, and identical ones come to 0.5.

    returns: daily returns [V, D] of all variants over the same days.
    blocks: that the days are cut into, an even number; the first may be a day longer than the last.
    """
    if not np.isfinite(returns).all():
        variant = int(np.flatnonzero(~np.isfinite(returns).all(axis=1))[0])
        raise ValueError(f"returns must be finite, those of variant {variant} are not")
    days = returns.shape[1]
    if days < max(FEWEST_DAYS, 2 * blocks):
        return None
    moments = _block_moments(returns, blocks)
    if moments.variants < 2:
        return None
    judged = np.concatenate([_judged(moments, halves) for halves in _halves(blocks, moments)])
    worse, inside, outside, loss = judged.T
    spread = inside - inside.mean()
    moves = float(np.abs(spread).max()) > TIED
    return Overfitting(
        probability=float(worse.mean()),
        inside=float(inside.mean()),
        outside=float(outside.mean()),
        slope=float(spread @ outside / (spread @ spread)) if moves else None,
        loss=float(loss.mean()),
        splits=len(judged),
        variants=moments.variants,
        days=days,
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Moments:
    """Returns of B blocks in units of each variant's own deviation, from its mean.

    days: [B] in each block.
    sums: [B, V].
    squares: [B, V] sums of squares.
    means: [V] of all days, in the same unit.
    """

    days: Array
    sums: Array
    squares: Array
    means: Array

    @property
    def variants(self) -> int:
        return len(self.means)


def _block_moments(returns: Array, blocks: int) -> _Moments:
    """Of the variants [V, D] that move at all."""
    days = returns.shape[1]
    lengths = days // blocks + (np.arange(blocks) < days % blocks)
    edges = np.append(0, np.cumsum(lengths))
    means = returns.mean(axis=1)
    # From each variant's own mean, as the difference of large squares would be rounding.
    sums = np.empty((blocks, len(returns)))
    squares = np.empty((blocks, len(returns)))
    for k, (begin, end) in enumerate(itertools.pairwise(edges)):
        part = returns[:, begin:end] - means[:, None]
        sums[k] = part.sum(axis=1)
        squares[k] = np.einsum("vd,vd->v", part, part)
    deviation = np.sqrt(squares.sum(axis=0) / days)
    moves = deviation > STILL * np.abs(means)
    unit = deviation[moves]
    return _Moments(
        days=lengths.astype(np.float64),
        sums=sums[:, moves] / unit,
        squares=squares[:, moves] / unit**2,
        means=means[moves] / unit,
    )


def _halves(blocks: int, moments: _Moments) -> Iterator[Array]:
    """Halves of the blocks that hold the first one, [P, B] of 0 and 1, as many as fit at once."""
    portion = max(1, AT_ONCE // moments.variants)
    others = itertools.combinations(range(1, blocks), blocks // 2 - 1)
    while chosen := list(itertools.islice(others, portion)):
        halves = np.zeros((len(chosen), blocks))
        halves[:, 0] = 1.0
        halves[np.arange(len(chosen))[:, None], np.array(chosen, dtype=np.int64)] = 1.0
        yield halves


def _judged(moments: _Moments, halves: Array) -> Array:
    """[2 P, 4] of the splits into these halves and the others, either of them choosing."""
    one = _sharpe_ratios(moments, halves)
    other = _sharpe_ratios(moments, 1.0 - halves)
    return np.concatenate([_chosen(one, other), _chosen(other, one)])


def _sharpe_ratios(moments: _Moments, halves: Array) -> Array:
    """[P, V] mean over sample deviation of the days in these halves [P, B], 0 without any."""
    days = (halves @ moments.days)[:, None]
    mean = halves @ moments.sums
    mean /= days
    variance = halves @ moments.squares
    variance -= days * mean**2
    variance /= days - 1.0
    moves = variance > STILL
    mean += moments.means
    np.sqrt(variance, out=variance, where=moves)
    ratios = np.zeros_like(mean)
    np.divide(mean, variance, out=ratios, where=moves)
    return ratios


def _chosen(inside: Array, outside: Array) -> Array:
    """[P, 4] of the best inside: whether worse outside than the median, both ratios, a loss."""
    rows = np.arange(len(inside))
    best = inside.argmax(axis=1)
    ratio = outside[rows, best][:, None]
    below = np.count_nonzero(outside < ratio - TIED, axis=1)
    above = np.count_nonzero(outside > ratio + TIED, axis=1)
    judged = np.stack(
        [_worse(below, above), inside[rows, best], ratio[:, 0], ratio[:, 0] < 0], axis=1
    )
    tied: Mask = inside >= inside[rows, best][:, None] - TIED
    for row in np.flatnonzero(np.count_nonzero(tied, axis=1) > 1):
        ordered = np.sort(outside[row])
        ratios = outside[row, tied[row]]
        below = np.searchsorted(ordered, ratios - TIED, side="left")
        above = len(ordered) - np.searchsorted(ordered, ratios + TIED, side="right")
        judged[row, 0] = _worse(below, above).mean()
        judged[row, 2:] = ratios.mean(), (ratios < 0).mean()
    return judged


def _worse(below: Array, above: Array) -> Array:
    """1 where more are above than below, 0.5 where as many are: a mean rank above the median's."""
    return (np.sign(above - below) + 1.0) / 2.0
