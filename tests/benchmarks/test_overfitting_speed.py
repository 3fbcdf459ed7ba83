"""12,870 splits of a sweep by sums of blocks, beside numpy over the days of each split."""

from __future__ import annotations

import itertools
import resource
import time

import numpy as np
import pytest

from foundation.arrays import Array
from marketsimulator.results.overfitting import BLOCKS, overfitting

pytestmark = pytest.mark.bench
SPLITS = list(itertools.combinations(range(BLOCKS), BLOCKS // 2))


def over_the_days(returns: Array, splits: list[tuple[int, ...]]) -> list[float]:
    """Share below the median, mean ratios in both halves, share of losses; [V, D] without ties."""
    blocks = np.array_split(returns.T, BLOCKS)
    rows = []
    for chosen in splits:
        others = [k for k in range(BLOCKS) if k not in chosen]
        inside, outside = (
            half.mean(axis=0) / half.std(axis=0, ddof=1)
            for half in (np.concatenate([blocks[k] for k in part]) for part in (chosen, others))
        )
        best = inside.argmax()
        relative = (1 + (outside < outside[best]).sum()) / (len(returns) + 1)
        worse = (np.sign(0.5 - relative) + 1) / 2
        rows.append((worse, inside[best], outside[best], outside[best] < 0))
    return [float(value) for value in np.mean(rows, axis=0)]


@pytest.mark.parametrize(
    ("variants", "days", "every"), [(50, 504, 1), (1000, 1260, 50), (5000, 1260, 250)]
)
def test_all_splits_of_a_sweep(variants: int, days: int, every: int) -> None:
    returns = np.random.default_rng(0).standard_t(4, (variants, days)) * 0.01
    overfitting(returns[:50])
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        computing = time.process_time()
        found = overfitting(returns)
        taken.append((time.perf_counter() - began, time.process_time() - computing))
    ours, computed = sorted(taken)[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    part = SPLITS[::every]
    computing = time.process_time()
    figures = over_the_days(returns, part)
    theirs = (time.process_time() - computing) * len(SPLITS) / len(part)
    assert found is not None
    told = (found.probability, found.inside, found.outside, found.loss)
    error = max(abs(a - b) for a, b in zip(told, figures, strict=True))
    print(
        f"\n{variants:,} variants x {days:,} days, {found.splits:,} splits: {ours:.3f} s"
        f" ({computed:.3f} s of the processor), peak of the process {peak:.2f} GiB; over the days"
        f" {theirs:.1f} s of it{'' if every == 1 else f' (from every {every}th)'}:"
        f" {theirs / computed:.0f} x"
    )
    if every == 1:
        assert error < 1e-12
        print(f"largest difference of probability, ratios and losses: {error:.1e}")
