"""What an episode is played under, the same for one market and for many at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, get_args

from execution.kalshi.actions import POSITION_SIZES, LimitOrderActionSpace, PriceStyle
from execution.kalshi.admission import CASH_BUFFER
from execution.kalshi.fees import FeeRules
from execution.kalshi.observation import features_of
from execution.kalshi.records import DOLLAR, terms_of
from foundation.arrays import Records
from foundation.errors import InputError
from marketsimulator.kalshi.sessions import TICK
from marketsimulator.kalshi.synthetic import SyntheticMarket
from sizing.position_limits import PositionLimits

Reward = Literal["value", "log_wealth"]
CENTS = 100
LIFE = 20  # steps that an order waits


@dataclass(frozen=True, slots=True)
class EpisodeSettings:
    """Money, orders and rewards of an episode.

    market: of the synthetic sessions; none has no edge.
    starting_cash: USD, in whole cents.
    price_style, position_sizes, fixed_size, limits, cash_buffer, fees: of the orders, as
        `LimitOrderActionSpace` has them.
    life: steps that an order waits.
    size_features: whether the observation tells of sizes.
    reward: `value`, the change in USD of cash and of the position at the middle of the quote after
        fees, or `log_wealth`, the change of its logarithm.
    space: the actions.
    cash: what an episode begins with, in millionths of a USD.
    terms: one record of what orders have to keep.
    features: names of what is seen.
    """

    market: SyntheticMarket = field(default_factory=SyntheticMarket)
    starting_cash: float = 1000.0
    price_style: PriceStyle | Mapping[str, PriceStyle] = "aggressive"
    position_sizes: tuple[int, ...] = POSITION_SIZES
    fixed_size: int | None = None
    limits: PositionLimits = field(default_factory=PositionLimits)
    cash_buffer: float = float(CASH_BUFFER)
    fees: FeeRules = field(default_factory=FeeRules)
    life: int = LIFE
    size_features: bool = True
    reward: Reward = "value"
    space: LimitOrderActionSpace = field(init=False, repr=False)
    cash: int = field(init=False, repr=False)
    terms: Records = field(init=False, repr=False, compare=False)
    features: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.reward not in get_args(Reward):
            raise InputError(f"reward: {self.reward!r} is none of {', '.join(get_args(Reward))}")
        if self.life < 1:
            raise InputError(f"life: {self.life} is below 1")
        space = LimitOrderActionSpace(
            position_sizes=self.position_sizes,
            fixed_size=self.fixed_size,
            price_style=self.price_style,
            limits=self.limits,
            cash_buffer=Decimal(str(self.cash_buffer)),
            fees=self.fees,
        )
        object.__setattr__(self, "space", space)
        object.__setattr__(self, "cash", _whole_cents(self.starting_cash))
        object.__setattr__(self, "terms", terms_of(space, self.life, Decimal(str(TICK))))
        object.__setattr__(self, "features", features_of(sizes=self.size_features))


def _whole_cents(usd: float) -> int:
    """An amount in millionths.

    Raises
    ------
    InputError
        for one that is not above 0, or no whole number of cents.
    """
    cents = round(usd * CENTS) if math.isfinite(usd) else 0
    if cents <= 0 or abs(cents - usd * CENTS) > 1e-6:
        raise InputError(f"starting_cash: ${usd} is no number of whole cents above 0")
    return cents * (DOLLAR // CENTS)
