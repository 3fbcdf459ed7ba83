"""Whether an order of event contracts may be sent.

Masks, the environment, the simulated manager and the live one ask the same object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from event_contracts.trading.fees import NOTHING, FeeRules
from event_contracts.trading.orders import MarketView, Outcome, Verb, other
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
        return self.beyond_limits(side, price, count, towards, view)

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

    def beyond_limits(
        self, side: Outcome, price: Decimal, count: Decimal, resting: Decimal, view: MarketView
    ) -> str | None:
        """Why a position after an order, and resting ones that go the same way, breaks a limit."""
        return self.limits.validate_order(
            count=count,
            price=price,
            held=view.held(side) - view.held(other(side)),
            cash=view.cash,
            resting=resting,
            elsewhere=view.elsewhere,
        )
