"""Settings of orders that whoever trades event contracts has, and the actions that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from execution.kalshi.actions import POSITION_SIZES, LimitOrderActionSpace, PriceStyle
from execution.kalshi.admission import CASH_BUFFER
from execution.kalshi.fees import FeeRules
from sizing.position_limits import PositionLimits


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """Orders, as `LimitOrderActionSpace` has them.

    price_style: of orders, one for all intents or one by intent.
    position_sizes: contracts of each of the five sizes.
    fixed_size: the one size that is allowed; none allows all.
    limits: on the position of a market.
    cash_buffer: USD that no purchase may touch.
    """

    price_style: PriceStyle | Mapping[str, PriceStyle] = "aggressive"
    position_sizes: tuple[int, ...] = POSITION_SIZES
    fixed_size: int | None = None
    limits: PositionLimits = field(default_factory=PositionLimits)
    cash_buffer: float = float(CASH_BUFFER)

    def space_at(self, fees: FeeRules) -> LimitOrderActionSpace:
        """The actions; fees: in force.

        Raises
        ------
        InputError
            for settings of orders that cannot be.
        """
        return LimitOrderActionSpace(
            position_sizes=self.position_sizes,
            fixed_size=self.fixed_size,
            price_style=self.price_style,
            limits=self.limits,
            cash_buffer=Decimal(str(self.cash_buffer)),
            fees=fees,
        )
