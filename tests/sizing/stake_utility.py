"""What stakes are worth, by the words of their objective."""

from __future__ import annotations

import numpy as np

from foundation.arrays import Array


def utility(weights: Array, returns: Array, chance: Array, aversion: float) -> float:
    """-log(E wealth^-aversion) / aversion, in logs; E log wealth without an aversion."""
    wealth = 1 + returns @ weights
    if (wealth <= 0).any():
        return -np.inf
    if aversion == 0:
        return float(chance @ np.log(wealth))
    return float(-np.logaddexp.reduce(np.log(chance) - aversion * np.log(wealth)) / aversion)
