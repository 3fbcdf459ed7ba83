"""The gate of orders: it judges each by a snapshot of the account, right before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from execution.journal.order_store import OrderIntent


class OrderGate(Protocol):
    """Judges orders by a snapshot of the account."""

    @property
    def prices(self) -> Mapping[str, float]:
        """USD of each symbol that the snapshot has a price of."""
        ...

    def refusal(self, intent: OrderIntent, now: np.datetime64) -> str:
        """Return why an intent may not be sent at an instant of the venue's clock, or nothing."""
        ...


class Unguarded:
    """The gate that denies nothing."""

    prices: Mapping[str, float] = MappingProxyType({})

    def refusal(self, intent: OrderIntent, now: np.datetime64) -> str:
        del intent, now
        return ""


UNGUARDED = Unguarded()
