"""The limits on a position of event contracts, each of which pays $1 or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from foundation.errors import InputError

NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class PositionLimits:
    """Ceilings on the position of one market.

    contracts: of one side, above 0.
    value: USD of the position at the order's price, above 0.
    share: of the portfolio that the position may be, above 0, at most 1.
    """

    contracts: Decimal = Decimal(500)
    value: Decimal = Decimal(500)
    share: Decimal = Decimal("0.25")

    def __post_init__(self) -> None:
        for name in ("contracts", "value", "share"):
            given = getattr(self, name)
            if not isinstance(given, Decimal):
                object.__setattr__(self, name, Decimal(str(given)))
        for name in ("contracts", "value"):
            limit = getattr(self, name)
            if not (limit.is_finite() and limit > 0):
                raise InputError(f"position_limits.{name}: {limit} is not above 0")
        if not (self.share.is_finite() and 0 < self.share <= 1):
            raise InputError(f"position_limits.share: {self.share} is outside 0 … 1")

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

        Parameters
        ----------
        count
            contracts of the order, above 0. A sale of YES is an order for NO, and the other way.
        price
            USD of the side that the order goes towards; for a sale 1 − its price.
        held
            contracts held, above 0 of the side that the order goes towards, below 0 of the other.
        cash
            USD; what resting orders may take is still in it.
        resting
            contracts of resting orders that go the same way.
        elsewhere
            USD that positions in other markets are worth.
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
