"""What a broker does for a decision, and the order in which a decision's orders reach it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from execution.orders import Account, Fill, Order


class Broker(Protocol):
    """An account that fills orders."""

    def account(self) -> Account:
        """The account now."""
        ...

    def submit(self, orders: Sequence[Order]) -> list[Fill]:
        """Send orders, in their order, and return what has filled; what does not fill at once is cancelled."""
        ...


def place(broker: Broker, orders: Sequence[Order]) -> list[Fill]:
    """Send a decision's reductions, and what opens positions only once they have filled whole.

    The openings were sized for a book without what the reductions take off it: where one does not fill (a halt, a
    missing bar), adding would carry the book over its ceilings.
    """
    reductions = [order for order in orders if order.reduces]
    fills = broker.submit(reductions)
    filled = {fill.client_order_id: abs(fill.qty) for fill in fills}  # a reduction never pays in coin: one fill an order
    if any(filled.get(order.client_order_id) != order.qty for order in reductions):
        return fills
    return fills + broker.submit([order for order in orders if not order.reduces])
