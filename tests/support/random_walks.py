"""The quantiles of a random walk, computed plainly from the closes of its windows."""

from __future__ import annotations

import numpy as np
from scipy.special import stdtrit

from forecasting.baseline import RandomWalk
from forecasting.forecast import HORIZON, LEVELS
from foundation.arrays import Array


def log_return_quantiles(walk: RandomWalk, closes: Array) -> Array:
    """Return the quantiles [N, H, Q] of log returns after each step.

    closes: [N, L] closes of each window, L at least the context length of the walk.
    """
    squares = np.diff(np.log(closes[:, -walk.context_length :]), axis=1) ** 2
    weights = walk.decay ** np.arange(squares.shape[1])[::-1]
    plain = walk.sample_variance_share
    weights = (1 - plain) * weights / weights.sum() + plain / len(weights)
    freedom = walk.degrees_of_freedom
    shape = stdtrit(freedom, LEVELS) * np.sqrt((freedom - 2) / freedom)
    deviation = np.sqrt(squares @ weights)[:, None] * np.sqrt(np.arange(1, HORIZON + 1))
    return np.asarray(deviation[:, :, None] * shape)
