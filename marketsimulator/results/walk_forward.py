"""Choosing among variants by what each had earned before, judged on what came after."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from foundation.errors import InputError


@dataclass(frozen=True, eq=False, slots=True)
class WalkForward:
    """A choice among variants in K folds of days, of which the first is only looked at.

    chosen [K - 1]: number of the variant in each fold after the first.
    days [D']: numbers of the days in these folds.
    returns [D']: what the chosen variants earned in them, fractions.
    """

    chosen: tuple[int, ...]
    days: npt.NDArray[np.int64]
    returns: Array


def walk_forward(returns: Array, folds: int) -> WalkForward:
    """In each fold but the first, take the variant with the best Sharpe ratio until then.

    Parameters
    ----------
    returns: of each variant and day [V, D], fractions.
    folds: stretches of equal length that the days are cut into.

    Raises
    ------
    InputError
        for fewer than two folds, or more than there are days.
    """
    days = returns.shape[1]
    edges = fold_edges(days, folds)
    chosen = []
    parts = []
    for begin, end in itertools.pairwise(edges[1:]):
        before = returns[:, :begin]
        deviation = before.std(axis=1)
        # A variant that never moved has the ratio 0: it may be chosen over one that lost.
        ratio = np.divide(
            before.mean(axis=1), deviation, out=np.zeros(len(returns)), where=deviation > 0
        )
        best = int(ratio.argmax())  # the first of equals
        chosen.append(best)
        parts.append(returns[best, begin:end])
    return WalkForward(tuple(chosen), np.arange(edges[1], days), np.concatenate(parts))


def fold_edges(days: int, folds: int) -> npt.NDArray[np.int64]:
    """Numbers of the days at which folds of equal length begin and end, [folds + 1].

    Raises
    ------
    InputError
        for fewer than two folds, or more than there are days.
    """
    if not 2 <= folds <= days:
        advice = "; name fewer, or a longer run (start, end)" if folds > days else ""
        raise InputError(f"folds: {folds} is outside 2 … {days}, the days of the run{advice}")
    return np.linspace(0, days, folds + 1).astype(np.int64)
