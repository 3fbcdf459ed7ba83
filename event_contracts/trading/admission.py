"""Whether an order of event contracts may be sent, and may still fill.

Masks, the environment, the simulated manager and the live one ask the same object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from event_contracts.trading.fees import NOTHING, FeeRules, charge
from event_contracts.trading.orders import (
    PAYOUT,
    Fill,
    MarketView,
    Outcome,
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

    def free_cash(self, view: MarketView) -> Decimal:
        """USD that resting purchases cannot take."""
        purchases = [r for r in view.resting if r.order.action == "BUY"]
        costs = [self.fees.most_cost(r.order.price, r.remaining) for r in purchases]
        return view.cash - sum(costs, NOTHING)

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
