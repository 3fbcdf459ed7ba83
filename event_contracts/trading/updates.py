"""Ticks of markets, and the equal steps in which a market is shown."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from event_contracts.trading.records import Record
from foundation.errors import InputError


@dataclass(frozen=True, slots=True)
class MarketSpan:
    """The equal steps in which a market is shown.

    begins: UTC, of row 0.
    interval: between rows, above 0.
    rows: from the first one to settlement's, both included, at least 2.
    """

    begins: np.datetime64
    interval: np.timedelta64
    rows: int

    def __post_init__(self) -> None:
        if not self.interval > np.timedelta64(0, "ns"):
            raise InputError(f"span: an interval of {self.interval} is not above 0")
        if self.rows < 2:
            raise InputError(f"span: {self.rows} rows, a tick and a settlement at least")

    def row(self, at: np.datetime64) -> int:
        """The row that is shown at an instant; below 0 before the first."""
        return int((at - self.begins) // self.interval)


@dataclass(frozen=True, eq=False, slots=True)
class MarketUpdate:
    """A market as it is shown at an instant.

    market: its ticker.
    at: UTC, a whole number of intervals after its span began.
    tick: a row of TICK.
    """

    market: str
    at: np.datetime64
    tick: Record = field(repr=False)
