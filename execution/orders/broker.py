"""Interface of a broker, and the sequence in which the orders of a decision are sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import numpy as np

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from execution.orders.orders import Fill, Order
from foundation.errors import AccountChanged, BrokerError

# Least filled fraction of an order that counts as complete: a float cannot represent tens of
# millions of units of crypto exactly to the billionth.
MIN_COMPLETE_FILL_RATIO = 1 - 1e-12


@dataclass(frozen=True, slots=True)
class Asset:
    """Trading properties of a symbol at the venue.

    symbol: name of the symbol.
    tradable: true if the venue accepts orders for the symbol.
    shortable: true if the symbol can be sold short.
    easy_to_borrow: true if the symbol can be sold short without locating shares first.
    fractionable: true if fractions of a share can be traded.
    increment: quantity increment: orders are for multiples of it.
    min_order_qty: smallest quantity of an order.
    """

    symbol: str
    tradable: bool
    shortable: bool
    easy_to_borrow: bool
    fractionable: bool
    increment: Decimal
    min_order_qty: Decimal


class Broker(Protocol):
    """Interface of a broker: it reads one account, and sends and cancels its orders."""

    def now(self) -> np.datetime64: ...
    def account(self) -> AccountSnapshot: ...

    def submit(self, orders: Sequence[Order], gate: OrderGate = ALLOW_ALL_ORDERS) -> list[Fill]:
        """Send orders in sequence, and return their fills.

        The remainder of a market order that does not fill at once is cancelled. A rejected order
        has no fills. An order whose id was used before does not trade again.

        gate: pre-trade checks that run right before each order is sent; the simulator ignores them.
        """
        ...

    def cancel(self, client_order_ids: Iterable[str]) -> Mapping[str, Decimal]:
        """Cancel resting orders by id, and return the unfilled quantity of each.

        All other orders stay open. An order that the venue does not know is left out of the result.
        """
        ...

    def assets(self, symbols: Sequence[str]) -> Mapping[str, Asset]:
        """Return the properties of each symbol that the venue knows, by symbol."""
        ...


def place_orders(
    broker: Broker,
    orders: Sequence[Order],
    cancels: Mapping[str, Decimal] | None = None,
    gate: OrderGate = ALLOW_ALL_ORDERS,
) -> list[Fill]:
    """Cancel the orders that a decision replaces, send its reductions, then its openings.

    Openings are sent only after the reductions have filled completely, because openings were sized
    for the reduced positions. If a reduction did not fill (a halt, a missing bar), an opening would
    make the positions exceed their limits. Orders for an auction are sent together, because all of
    them fill at one price.

    cancels: unfilled quantity of each open order that the decision replaces, by order id.
    gate: pre-trade checks that run right before each order is sent.

    Raises
    ------
    AccountChanged
        if an order to be cancelled has filled since the decision, because the new order would
        repeat its trade.
    """
    # An order that is replaced would trade with its successor; venues refuse that.
    if cancels:
        left = broker.cancel(cancels)
        for name, quantity in cancels.items():
            if left.get(name) != quantity:
                raise AccountChanged(
                    f"order {name} has filled since the decision to replace it; no orders were sent"
                )
    reductions = [order for order in orders if order.reduces]
    fills = broker.submit(reductions, gate)
    # Only purchases of crypto pay a fee in crypto, so a reduction has one fill.
    filled = {fill.client_order_id: abs(fill.qty) for fill in fills}
    for order in reductions:
        done = filled.get(order.client_order_id, Decimal(0))
        if not order.is_for_auction and not is_fully_filled(done, order.qty):
            return fills
    return fills + broker.submit([order for order in orders if not order.reduces], gate)


def place_reductions(
    broker: Broker, reductions: Sequence[Order], gate: OrderGate = ALLOW_ALL_ORDERS
) -> None:
    """Send reducing orders one by one, so that an error in one does not block the others.

    gate: pre-trade checks that run right before each order is sent.

    Raises
    ------
    BrokerError
        the first error, after all orders were tried.
    """
    troubles = []
    for order in reductions:
        try:
            broker.submit((order,), gate)
        except BrokerError as error:
            troubles.append(error)
    if troubles:
        raise troubles[0]


def is_fully_filled(filled: Decimal, quantity: Decimal) -> bool:
    return float(filled) >= float(quantity) * MIN_COMPLETE_FILL_RATIO
