"""The gate of orders: it judges each by a snapshot of the account, right before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np

from execution.orders.event_contract_orders import EventContractOrder
from execution.orders.option_orders import SpreadOrder
from execution.orders.orders import Order

GuardedOrder = Order | SpreadOrder  # orders that guards check against a snapshot
AnyOrder = GuardedOrder | EventContractOrder
# What an order is of its decision; `night` cuts the book before the close.
OrderRole = Literal["", "reduction", "opening", "night"]


class OrderGate(Protocol):
    """Judges orders by a snapshot of the account."""

    @property
    def prices(self) -> Mapping[str, float]:
        """USD of each symbol that the snapshot has a price of."""
        ...

    def refusal(self, order: AnyOrder, role: OrderRole, now: np.datetime64) -> str:
        """Return why an order may not be sent at an instant of the venue's clock, or nothing."""
        ...


class Unguarded:
    """The gate that denies nothing."""

    prices: Mapping[str, float] = MappingProxyType({})

    def refusal(self, order: AnyOrder, role: OrderRole, now: np.datetime64) -> str:
        del order, role, now
        return ""


UNGUARDED = Unguarded()
