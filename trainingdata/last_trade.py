"""The last trade of a symbol, as a venue reports it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class LastTrade:
    """The last trade of a symbol.

    price: USD, above 0.
    traded_at: instant of the trade.
    """

    price: float
    traded_at: np.datetime64

    def __post_init__(self) -> None:
        if not 0 < self.price < math.inf:
            raise ValueError(f"price of the last trade must be above 0, got {self.price}")
        if np.isnat(self.traded_at):
            raise ValueError("the last trade has no timestamp")
