"""What chooses among the actions that a market allows."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from foundation.arrays import Mask

Observations = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]


class Policy(Protocol):
    """A choice for each of N markets, from what is seen of it and what it allows.

    name: how results call it.
    """

    @property
    def name(self) -> str: ...

    def actions(self, seen: Observations, allowed: Mask) -> Codes:
        """Codes [N] of actions that are allowed.

        seen: [N, F], the features of `execution.kalshi.observation`. allowed: bool [N, 25].
        """


class Nothing:
    """HOLD, always."""

    name = "nothing"

    def actions(self, seen: Observations, allowed: Mask) -> Codes:
        """Zeros [N]."""
        return np.zeros(len(seen), np.int64)
