"""What a broker does for a decision, and the order in which a decision's orders reach it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import numpy as np

from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.gate import UNGUARDED, OrderGate
from execution.orders.orders import Fill, Order
from foundation.errors import AccountChanged, BrokerError

# The part of an order that counts as all of it: tens of millions of a coin are no exact number of
# billionths in a float.
COMPLETE_FILL_RATIO = 1 - 1e-12


@dataclass(frozen=True, slots=True)
class Asset:
    """What the venue allows with a symbol.

    symbol: of the instrument.
    tradable: whether it takes orders at all.
    shortable: whether it can be sold short.
    easy_to_borrow: whether it can be sold short without a locate.
    fractionable: whether fractions of a share trade.
    increment: the smallest step of a quantity.
    min_order_qty: the least quantity of an order.
    """

    symbol: str
    tradable: bool
    shortable: bool
    easy_to_borrow: bool
    fractionable: bool
    increment: Decimal
    min_order_qty: Decimal


class Broker(Protocol):
    """An account that fills orders."""

    def now(self) -> np.datetime64: ...
    def account(self) -> AccountSnapshot: ...

    def submit(self, orders: Sequence[Order], gate: OrderGate = UNGUARDED) -> list[Fill]:
        """Send orders, in their order, and return what has filled.

        What a market order does not fill at once is cancelled. An order that is refused fills
        nothing; one whose id was used before trades nothing again.

        gate: asked right before each order is sent; the simulator asks none.
        """
        ...

    def cancel(self, client_order_ids: Iterable[str]) -> Mapping[str, Decimal]:
        """Cancel what still works under these ids, and return what of each has not filled.

        Others are left alone, and an order that is not known is not in the answer.
        """
        ...

    def assets(self, symbols: Sequence[str]) -> Mapping[str, Asset]:
        """What may be done with each symbol that the venue knows."""
        ...


def place(
    broker: Broker,
    orders: Sequence[Order],
    cancels: Mapping[str, Decimal] | None = None,
    gate: OrderGate = UNGUARDED,
) -> list[Fill]:
    """Cancel what a decision replaces, send its reductions, then what opens positions.

    Openings are sent only once the reductions have filled whole, but those for an auction together
    with them: there all meet one price. They were sized for a book without
    what the reductions take off it: where one does not fill (a halt, a missing bar), adding would
    carry the book over its ceilings.

    cancels: what the decision saw as not filled of each open order that it replaces, by its id.
    gate: as for `Broker.submit`.

    Raises
    ------
    AccountChanged
        where one of them has filled since: its successor would do the same a second time.
    """
    # An order that is replaced would trade with its successor, which venues refuse.
    if cancels:
        left = broker.cancel(cancels)
        for name, quantity in cancels.items():
            if left.get(name) != quantity:
                raise AccountChanged(
                    f"{name} has filled since its successor was decided on; nothing was sent"
                )
    reductions = [order for order in orders if order.reduces]
    fills = broker.submit(reductions, gate)
    # Only purchases of coins pay a fee in coin, so a reduction has one fill.
    filled = {fill.client_order_id: abs(fill.qty) for fill in fills}
    for order in reductions:
        done = filled.get(order.client_order_id, Decimal(0))
        if not order.for_auction and not is_fully_filled(done, order.qty):
            return fills
    return fills + broker.submit([order for order in orders if not order.reduces], gate)


def place_reductions(
    broker: Broker, reductions: Sequence[Order], gate: OrderGate = UNGUARDED
) -> None:
    """Send orders that reduce, each by itself: trouble with one keeps no other from being sent.

    gate: as for `Broker.submit`.
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
    return float(filled) >= float(quantity) * COMPLETE_FILL_RATIO
