"""The long-run variance of a symbol, from bars before an instant.

The variance is an exponentially weighted average of squared returns from 16:00 to 16:00 New York.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array, Instants, Matrix
from foundation.compiled import compiled
from trainingdata.bars import Bars
from trainingdata.correlation import daily_closes_at_four_pm
from trainingdata.instruments import AssetClass
from trainingdata.sessions import last_four_pms

HALF_LIFE_SESSIONS = 60  # sessions
# Largest number of sessions: an estimate must not depend on a run's begin.
MAX_SESSIONS = 250
SESSIONS_PER_YEAR = 252
# Yearly variance that replaces each session that a symbol lacks.
PRIOR_YEARLY_VARIANCE = {AssetClass.STOCK: 0.25**2, AssetClass.CRYPTO: 0.75**2}


def long_run_variances(bars: Bars, instants: Instants) -> tuple[npt.NDArray[np.int64], Array]:
    """Return each instant's row [T] in a table of yearly variances, and the table [D, S].

    A row applies from one 16:00 New York to the next. The k-th last
    squared return of a symbol has the weight 2^(-k / 60). The prior replaces each missing return of
    the last 250.
    """
    boundaries = last_four_pms(instants)
    days, number = np.unique(boundaries, return_inverse=True)
    marks, closes = daily_closes_at_four_pm(bars, days[-1] if len(days) else bars.last_instant)
    squared = np.diff(np.log(closes), axis=0) ** 2
    seen = np.maximum(np.searchsorted(marks, days, side="right") - 1, 0)
    prior = np.array([PRIOR_YEARLY_VARIANCE[item.kind] for item in bars.instruments])
    return number.astype(np.int64), _exponential_averages(squared, seen.astype(np.int64), prior)


@compiled
def _exponential_averages(squared: Array, seen: npt.NDArray[np.int64], prior: Array) -> Matrix:
    """Return exponentially weighted yearly variances [D, S] from squared returns [N, S].

    Row d uses the first seen[d] squared returns; the last of them has the largest weight. A missing
    squared return is NaN, for which the yearly variance `prior` [S] is used.
    """
    result = np.empty((len(seen), len(prior)))
    fading = 0.5 ** (1.0 / HALF_LIFE_SESSIONS)
    for s in range(len(prior)):
        for d in range(len(seen)):
            total = 0.0
            weight = 1.0
            weights = 0.0
            count = 0
            row = seen[d] - 1
            while row >= 0 and count < MAX_SESSIONS:
                if np.isfinite(squared[row, s]):
                    total += weight * squared[row, s] * SESSIONS_PER_YEAR
                    weights += weight
                    weight *= fading
                    count += 1
                row -= 1
            for _ in range(count, MAX_SESSIONS):
                total += weight * prior[s]
                weights += weight
                weight *= fading
            result[d, s] = total / weights
    return result
