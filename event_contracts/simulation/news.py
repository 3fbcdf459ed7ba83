"""What a practice venue shows of its markets: quotes, statuses, payments."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

import numpy as np

from event_contracts.simulation.exchange import Settlement

MarketStatus = Literal["initialized", "active", "closed", "determined", "finalized"]
Level = tuple[Decimal, Decimal]  # USD, contracts


@dataclass(frozen=True, slots=True)
class Payment:
    """A settlement that has been paid.

    at: UTC. settlement: what the exchange settled.
    """

    number: int
    at: np.datetime64
    settlement: Settlement = field(repr=False)
