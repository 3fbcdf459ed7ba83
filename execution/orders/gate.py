"""Pre-trade gate: checks each order against an account snapshot right before it is sent."""

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
# Role of an order. `night` trims positions before the close; `protection` is a protective order;
# `command` is sent for a person's command, `watch` for a command of the watch.
OrderRole = Literal["", "reduction", "opening", "night", "protection", "command", "watch"]


def infer_order_role(order: AnyOrder) -> OrderRole:
    """Return the role of an order in its decision: `reduction` or `opening`."""
    return "reduction" if order.reduces else "opening"


class OrderGate(Protocol):
    """Interface of a gate that checks orders against an account snapshot."""

    @property
    def prices(self) -> Mapping[str, float]:
        """Prices in the account snapshot, USD by symbol."""
        ...

    def refusal_reason(self, order: AnyOrder, role: OrderRole, now: np.datetime64) -> str:
        """Return why an order may not be sent, or an empty string.

        role: role of the order in its decision.
        now: present time by the venue's clock.
        """
        ...


class AllowAllGate:
    """A gate that allows every order."""

    prices: Mapping[str, float] = MappingProxyType({})

    def refusal_reason(self, order: AnyOrder, role: OrderRole, now: np.datetime64) -> str:
        del order, role, now
        return ""


ALLOW_ALL_ORDERS = AllowAllGate()
