"""Prices that a market takes: ranges, each with a step of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from event_contracts.trading.orders import PAYOUT
from foundation.cents import CENT

DECICENT = Decimal("0.001")
_LOW, _HIGH = Decimal("0.1"), Decimal("0.9")


@dataclass(frozen=True, slots=True)
class PriceRange:
    """Prices from one to another, in USD of YES, in steps.

    start: 0 or more; end: above start, at most 1; step: above 0, the range a multiple of it.
    """

    start: Decimal
    end: Decimal
    step: Decimal

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= PAYOUT:
            raise ValueError(f"a range of prices from {self.start} to {self.end}")
        if not self.step > 0 or (self.end - self.start) % self.step:
            raise ValueError(
                f"a step of {self.step} does not divide prices from {self.start} to {self.end}"
            )


@dataclass(frozen=True, slots=True)
class Ticks:
    """The prices of a market, from 0 to 1 without a hole.

    ranges: in their order.
    """

    ranges: tuple[PriceRange, ...]

    def __post_init__(self) -> None:
        ends = [Decimal(0), *(each.end for each in self.ranges)]
        starts = [*(each.start for each in self.ranges), PAYOUT]
        if ends != starts:
            raise ValueError("ranges of prices must follow one another from 0 to 1")

    @classmethod
    def of(cls, ranges: Iterable[tuple[Decimal, Decimal, Decimal]]) -> Ticks:
        """From starts, ends and steps, in any order."""
        return cls(tuple(PriceRange(*each) for each in sorted(ranges)))

    def allows(self, price: Decimal) -> bool:
        """Whether an order may have a price, in USD of YES; not 0 and not 1."""
        return 0 < price < PAYOUT and any(
            each.start <= price <= each.end and (price - each.start) % each.step == 0
            for each in self.ranges
        )

    def step(self, bid: Decimal, ask: Decimal) -> Decimal:
        """The step between prices around a quote: the widest that its prices have.

        What is a multiple of it between bid and ask is a price of every range there.
        """
        steps = [each.step for each in self.ranges if each.start < ask and bid < each.end]
        return max(steps or [each.step for each in self.ranges if each.start <= bid <= each.end])


TABLES = {  # by `price_level_structure`, as published; a market's own price_ranges come first
    "linear_cent": Ticks((PriceRange(Decimal(0), PAYOUT, CENT),)),
    "deci_cent": Ticks((PriceRange(Decimal(0), PAYOUT, DECICENT),)),
    "tapered_deci_cent": Ticks(
        (
            PriceRange(Decimal(0), _LOW, DECICENT),
            PriceRange(_LOW, _HIGH, CENT),
            PriceRange(_HIGH, PAYOUT, DECICENT),
        )
    ),
}
