"""Whether an order of event contracts may be sent, may stay in the book, and may still fill.

Masks, the environment, the simulated manager and the live one ask the same object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from event_contracts.trading.fees import NOTHING, FeeRules, charge
from event_contracts.trading.orders import (
    PAYOUT,
    Fill,
    MarketView,
    Outcome,
    RestingOrder,
    Verb,
    other,
)
from event_contracts.trading.position_limits import PositionLimits
from foundation.errors import InputError

CASH_BUFFER = Decimal(50)  # USD


@dataclass(frozen=True, slots=True)
class Admission:
    """What an order has to leave: cash, inventory, and a position within its limits.

    limits: on the position of a market.
    cash_buffer: USD that no purchase may touch, at least 0.
    fees: rates and steps in force.
    """

    limits: PositionLimits = field(default_factory=PositionLimits)
    cash_buffer: Decimal = CASH_BUFFER
    fees: FeeRules = field(default_factory=FeeRules)

    def __post_init__(self) -> None:
        if not (self.cash_buffer.is_finite() and self.cash_buffer >= 0):
            raise InputError(f"cash_buffer: {self.cash_buffer} is not 0 or more")

    def refusal(
        self, action: Verb, side: Outcome, price: Decimal, count: Decimal, view: MarketView
    ) -> str | None:
        """Why an order may not be sent, in words; nothing where it may.

        A purchase needs cash less what resting purchases may cost, less the buffer, and a position
        within the limits even if every resting order that goes the same way fills. A sale needs
        contracts that no resting sale has reserved.
        """
        if action == "SELL":
            return self._refusal_of_sale(side, count, view)
        cost = self.fees.most_cost(price, count)
        free = self.free_cash(view)
        if free - cost < self.cash_buffer:
            return (
                f"buying {count} {side} may cost ${cost}; ${free} is free and ${self.cash_buffer}"
                " stays"
            )
        towards = view.resting_count("BUY", side) + view.resting_count("SELL", other(side))
        return self._beyond_limits(side, price, count, towards, view)

    def refusal_at_fill(
        self, fill: Fill, view: MarketView, carried: Decimal = NOTHING
    ) -> str | None:
        """Why a fill that is about to happen is cancelled instead, in words; nothing where it may.

        A purchase has to leave the buffer, with the pairs that it makes paid out, and a position
        within the limits. It counts alone: other resting orders are checked before theirs. Sales
        only reduce, and are cut to what is held.

        carried: USD of the order's rounding so far that has not come back.
        """
        if fill.action == "SELL":
            return None
        pairs = min(fill.count, view.held(other(fill.side)))
        left = view.cash + charge(fill, self.fees, carried).cash + pairs * PAYOUT
        if left < self.cash_buffer:
            return f"filling {fill.count} {fill.side} leaves ${left}; ${self.cash_buffer} stays"
        return self._beyond_limits(fill.side, fill.price, fill.count, NOTHING, view)

    def refusal_in_place(
        self, resting: RestingOrder, view: MarketView, carried: Mapping[str, Decimal]
    ) -> str | None:
        """Why an order is taken out of the book before it can fill, in words; nothing where it
        may stay.

        All that is left of it counts, filled as a maker. A purchase has to pass alone, as at its
        fill, and together with the orders before it: whichever of them fill, they leave the buffer
        and keep to the limits. A sale needs contracts that the sales before it leave.

        view: of the order's market; what rests in it are the orders before this one.
        carried: USD by order, rounding of its fills that has not come back.
        """
        order = resting.order
        if order.action == "SELL":
            return self._refusal_of_sale(order.side, resting.remaining, view)
        fill = _whole(resting)
        if why := self.refusal_at_fill(fill, view, carried.get(resting.order_id, NOTHING)):
            return why
        if why := self._refusal_beside(resting, view, carried):
            return f"with the purchases before it: {why}"
        # Contracts that are sold first make no pairs with what is bought.
        if why := self._refusal_beside(resting, self._after_sales(view, carried), carried):
            return f"with the sales that rest: {why}"
        return None

    def free_cash(self, view: MarketView) -> Decimal:
        """USD that resting purchases cannot take."""
        purchases = [r for r in view.resting if r.order.action == "BUY"]
        costs = [self.fees.most_cost(r.order.price, r.remaining) for r in purchases]
        return view.cash - sum(costs, NOTHING)

    def _refusal_beside(
        self, resting: RestingOrder, view: MarketView, carried: Mapping[str, Decimal]
    ) -> str | None:
        """Why a purchase may not fill once those that rest in a view have, in words."""
        order = resting.order
        purchases = [each for each in view.resting if each.order.action == "BUY"]
        here = [each for each in purchases if each.order.market == view.market]
        same = [each for each in here if each.order.side == order.side]
        opposite = [each for each in here if each.order.side != order.side]
        elsewhere = [each for each in purchases if each.order.market != view.market]
        left = view.cash - self._cost(elsewhere, carried)
        left -= self._cost_here([*same, resting], order.side, view, carried)
        # What others would bring in by closing pairs is nothing that this one may count on.
        left -= max(self._cost_here(opposite, other(order.side), view, carried), NOTHING)
        if left < self.cash_buffer:
            return f"{resting.remaining} {order.side} leave ${left}; ${self.cash_buffer} stays"
        towards = view.resting_count("BUY", order.side)
        return self._beyond_limits(order.side, order.price, resting.remaining, towards, view)

    def _after_sales(self, view: MarketView, carried: Mapping[str, Decimal]) -> MarketView:
        """A view once the sales that rest in its market have filled."""
        kind = (view.market, "SELL")
        sales = [each for each in view.resting if (each.order.market, each.order.action) == kind]
        return replace(
            view,
            cash=view.cash - self._cost(sales, carried),
            yes=max(view.yes - view.resting_count("SELL", "YES"), NOTHING),
            no=max(view.no - view.resting_count("SELL", "NO"), NOTHING),
        )

    def _cost(self, orders: list[RestingOrder], carried: Mapping[str, Decimal]) -> Decimal:
        """USD that orders cost once all that is left of them has filled; below 0 for sales."""
        changes = [
            charge(_whole(each), self.fees, carried.get(each.order_id, NOTHING)).cash
            for each in orders
        ]
        return -sum(changes, NOTHING)

    def _cost_here(
        self,
        purchases: list[RestingOrder],
        side: Outcome,
        view: MarketView,
        carried: Mapping[str, Decimal],
    ) -> Decimal:
        """USD that purchases of one side cost, less what pairs with contracts held pay."""
        count = sum((each.remaining for each in purchases), NOTHING)
        return self._cost(purchases, carried) - min(count, view.held(other(side))) * PAYOUT

    def _refusal_of_sale(self, side: Outcome, count: Decimal, view: MarketView) -> str | None:
        held = view.held(side)
        reserved = view.resting_count("SELL", side)
        if count > held - reserved:
            return f"selling {count} {side}; {held} held, {reserved} of them in resting sales"
        return None

    def _beyond_limits(
        self, side: Outcome, price: Decimal, count: Decimal, resting: Decimal, view: MarketView
    ) -> str | None:
        return self.limits.validate_order(
            count=count,
            price=price,
            held=view.held(side) - view.held(other(side)),
            cash=view.cash,
            resting=resting,
            elsewhere=view.elsewhere,
        )


def _whole(resting: RestingOrder) -> Fill:
    """All that is left of an order, filled where it waits."""
    order = resting.order
    return Fill(
        resting.order_id,
        order.market,
        order.action,
        order.side,
        order.price,
        resting.remaining,
        maker=True,
    )
