"""Orders of ours that may wait no longer: filled, they would break the buffer, a limit or the
inventory.

A venue asks nobody before an order fills. So every order of ours that waits in a market is looked
at again at each of its ticks, as if all that is left of it filled now: money may have left the
account, positions elsewhere lost their worth, and netting taken what a sale would sell.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from types import MappingProxyType

from event_contracts.trading.admission import Admission
from event_contracts.trading.orders import MarketView, RestingOrder


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """An order that is taken out of the book.

    resting: the order as it waited.
    why: in words.
    """

    resting: RestingOrder
    why: str

    def __post_init__(self) -> None:
        if not self.why:
            raise ValueError(f"{self.resting.order_id}: a withdrawal needs its reason")

    def __str__(self) -> str:
        order = self.resting.order
        what = f"{order.action} {self.resting.remaining} {order.side} at ${order.price}"
        return f"{order.market}: {what} ({self.resting.order_id}) is taken out: {self.why}"


def withdrawals(
    view: MarketView,
    ours: Collection[str],
    admission: Admission,
    carried: Mapping[str, Decimal],
    halted: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Withdrawal, ...]:
    """The orders of a market that may wait no longer, and why, the newest first.

    Of two orders the older keeps its place, and sales, which only reduce, come before purchases:
    each is looked at alone, and beside those before it that stay (`Admission.refusal_in_place`). So
    what is left passes, whichever of it fills, and nothing is taken out that could stay beside what
    is left before it. Orders elsewhere and those that are not ours stay, and count in their place.

    view: what rests in it is in the order in which orders have their places, the oldest first.
    ours: the venue's ids of orders that may be taken out.
    carried: USD by order, rounding of its fills that has not come back.
    halted: why an order may wait no longer whatever it would leave, by order.
    """
    left: list[RestingOrder] = []
    taken_out: list[Withdrawal] = []
    for each in sorted(view.resting, key=lambda each: each.order.action == "BUY"):
        why = None
        if each.order.market == view.market and each.order_id in ours:
            before = replace(view, resting=tuple(left))
            why = halted.get(each.order_id) or admission.refusal_in_place(each, before, carried)
        if why:
            taken_out.append(Withdrawal(each, why))
        else:
            left.append(each)
    taken_out.sort(key=lambda each: view.resting.index(each.resting), reverse=True)
    return tuple(taken_out)
