"""Settings of orders that whoever trades event contracts has, and the actions that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral, Real

from event_contracts.trading.actions import POSITION_SIZES, LimitOrderActionSpace, PriceStyle
from event_contracts.trading.admission import CASH_BUFFER
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.position_limits import PositionLimits
from foundation.errors import InputError, in_one_line

LIFE = 2  # ticks that an order rests, trained and live
_WORDS = {Real: "int or float", Integral: "whole number", bool: "True or False"}


@dataclass(frozen=True, slots=True)
class OrderSettings:
    """Orders, as `LimitOrderActionSpace` has them.

    price_style: of orders, one for all intents or one by intent.
    position_sizes: contracts of each of the five sizes.
    fixed_size: the one size that is allowed; none allows all.
    limits: on the position of a market.
    cash_buffer: USD that no purchase may touch.
    life: ticks that an order rests, above 0: those that a policy was trained with.
    """

    price_style: PriceStyle | Mapping[str, PriceStyle] = "aggressive"
    position_sizes: tuple[int, ...] = POSITION_SIZES
    fixed_size: int | None = None
    limits: PositionLimits = field(default_factory=PositionLimits)
    cash_buffer: float = float(CASH_BUFFER)
    life: int = LIFE

    def refuse_other_kinds(self, **kinds: type) -> None:
        """Refuse a field that is of another kind than it has to be; kinds: by name.

        Raises
        ------
        InputError
            naming the field, the value and what was expected.
        """
        own = {"limits": PositionLimits, "cash_buffer": Real, "life": Integral}
        for name, kind in {**own, **kinds}.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
                words = _WORDS.get(kind, kind.__name__)
                raise InputError(f"{name}: {in_one_line(repr(value))} is no {words}")
        if self.life < 1:
            raise InputError(f"life: {self.life} steps are below 1")

    def space_at(self, fees: FeeRules) -> LimitOrderActionSpace:
        """The actions; fees: in force."""
        return LimitOrderActionSpace(
            position_sizes=self.position_sizes,
            fixed_size=self.fixed_size,
            price_style=self.price_style,
            limits=self.limits,
            cash_buffer=Decimal(str(self.cash_buffer)),
            fees=fees,
        )
