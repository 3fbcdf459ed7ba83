r"""A custom strategy: weights from its inputs, brought within the project's limits.

    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        start=2024-03-04 end=2024-03-28 forecaster._target_=examples.drift.Drift \
        forecaster.calibrated=false sizing._target_=examples.best_two.best_two \
        output=outputs/example-best-two
"""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array
from sizing import SizingInputs


def best_two(inputs: SizingInputs) -> Array:
    """Return weights [S]: 0.2 in each of the two symbols with the highest return per risk.

    Symbols with an expected return of 0 or less get no weight.
    """
    reward = np.full(len(inputs.mu), -np.inf)
    hoped = inputs.universe & (inputs.mu > 0)
    reward[hoped] = inputs.mu[hoped] / np.sqrt(np.diag(inputs.covariance)[hoped])
    chosen = np.argsort(-reward)[:2]
    weights = np.zeros(len(reward))
    weights[chosen] = np.where(np.isfinite(reward[chosen]), 0.2, 0.0)
    return weights
