"""Whether an order of event contracts may be sent.

Masks, the environment, the simulated manager and the live one ask the same objects. A contract pays
$1 or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from event_contracts.trading.fees import NOTHING, FeeRules
from event_contracts.trading.orders import MarketView, Outcome, RestingOrder, Verb, other
from foundation.errors import InputError
from foundation.settings import setting, settings_class

CASH_BUFFER = Decimal(50)  # USD


@settings_class("limits")
class PositionLimits:
    """Ceilings on the position of one market."""

    contracts: Decimal = setting(Decimal(500), "of one side", gt=0)
    value: Decimal = setting(Decimal(500), "USD of the position at the order's price", gt=0)
    share: Decimal = setting(
        Decimal("0.25"), "of the portfolio that the position may be", gt=0, le=1
    )

    def validate_order(
        self,
        *,
        count: Decimal,
        price: Decimal,
        held: Decimal,
        cash: Decimal,
        resting: Decimal = NOTHING,
        elsewhere: Decimal = NOTHING,
    ) -> str | None:
        """Why an order may not be sent, in words; nothing where it may.

        position = held + resting + count, at the order's price; portfolio = cash + elsewhere + what
        is held, at that price. From $1,000 and flat, 400 YES at $0.62 are $248 of $1,000: allowed.
        An order of 410 is $254.20, above 25 %. What leaves the position on the other side, or
        none, reduces it and passes.

        count: contracts of the order, above 0. A sale of YES is an order for NO, and the other way.
        price: USD of the side that the order goes towards; for a sale 1 − its price.
        held: contracts held, above 0 of the side that the order goes towards, below 0 of the other.
        cash: USD; what resting orders may take is still in it.
        resting: contracts of resting orders that go the same way.
        elsewhere: USD that positions in other markets are worth.
        """
        position = held + resting + count
        if position <= 0:
            return None
        if position > self.contracts:
            return (
                f"{position} contracts after this order and the resting ones; at most"
                f" {self.contracts} a market"
            )
        value = position * price
        if value > self.value:
            return f"a position of ${value} after this order; at most ${self.value}"
        portfolio = cash + elsewhere + held_value(held, price)
        if value > self.share * portfolio:
            return (
                f"a position of ${value} after this order; at most {self.share:.0%} of a portfolio"
                f" of ${portfolio}"
            )
        return None


def held_value(held: Decimal, price: Decimal) -> Decimal:
    """USD that a position is worth: contracts of a side at its price, below 0 at 1 − the price."""
    return held * price if held > 0 else -held * (1 - price)


def reserved(resting: Iterable[RestingOrder], fees: FeeRules) -> Decimal:
    """USD that the purchases among resting orders may take."""
    purchases = [each for each in resting if each.order.action == "BUY"]
    return sum((fees.most_cost(each.order.price, each.remaining) for each in purchases), NOTHING)


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
            held, waiting = view.held(side), view.resting_count("SELL", side)
            if count <= held - waiting:
                return None
            return f"selling {count} {side}; {held} held, {waiting} of them in resting sales"
        cost = self.fees.most_cost(price, count)
        free = self.free_cash(view)
        if free - cost < self.cash_buffer:
            return (
                f"buying {count} {side} may cost ${cost}; ${free} is free and ${self.cash_buffer}"
                " stays"
            )
        towards = view.resting_count("BUY", side) + view.resting_count("SELL", other(side))
        return self.limits.validate_order(
            count=count,
            price=price,
            held=view.held(side) - view.held(other(side)),
            cash=view.cash,
            resting=towards,
            elsewhere=view.elsewhere,
        )

    def free_cash(self, view: MarketView) -> Decimal:
        """USD that resting purchases cannot take."""
        return view.cash - reserved(view.resting, self.fees)
