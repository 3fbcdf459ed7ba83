"""What an episode is played under, the same for one market and for many at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from decimal import Decimal
from numbers import Real
from typing import Any, Literal, get_args

from event_contracts.simulation.synthetic import SyntheticMarket
from event_contracts.trading.actions import LimitOrderActionSpace
from event_contracts.trading.fees import KalshiFees
from event_contracts.trading.observation import features_of
from event_contracts.trading.order_settings import OrderSettings
from event_contracts.trading.records import DOLLAR, terms_of
from foundation.arrays import Records
from foundation.errors import InputError

Reward = Literal["value", "log_wealth"]
CENTS = 100
LARGEST_CASH = 1_000_000  # USD


@dataclass(frozen=True, slots=True)
class EpisodeSettings(OrderSettings):
    """Money, orders and rewards of an episode.

    market: of the synthetic sessions; the default has no edge.
    starting_cash: USD, in whole cents, above 0, 1,000,000 at most.
    fees: by date; those of its `as_of` hold.
    size_features: whether the observation tells of sizes.
    reward: `value`, the change in USD of cash and of the position at the middle of the quote after
        fees, or `log_wealth`, the change of its logarithm.
    """

    market: SyntheticMarket = field(default_factory=SyntheticMarket)
    starting_cash: float = 1000.0
    fees: KalshiFees = field(default_factory=KalshiFees)
    size_features: bool = True
    reward: Reward = "value"

    def __post_init__(self) -> None:
        self.refuse_other_kinds(
            market=SyntheticMarket,
            starting_cash=Real,
            fees=KalshiFees,
            size_features=bool,
            reward=str,
        )
        if self.reward not in get_args(Reward):
            raise InputError(f"reward: {self.reward!r} is none of {', '.join(get_args(Reward))}")
        if self.starting_cash > LARGEST_CASH:
            raise InputError(
                f"starting_cash: ${self.starting_cash:,.0f} is beyond ${LARGEST_CASH:,}, up to"
                " which 64 bits hold every product of cash and prices"
            )
        cents = round(self.starting_cash * CENTS) if math.isfinite(self.starting_cash) else 0
        if cents <= 0 or abs(cents - self.starting_cash * CENTS) > 1e-6:
            raise InputError(
                f"starting_cash: ${self.starting_cash} is no number of whole cents above 0"
            )
        self.terms()

    def space(self) -> LimitOrderActionSpace:
        """The actions."""
        return self.space_at(self.fees.by_default())

    def terms(self) -> Records:
        """One record [1] of what orders have to keep."""
        return terms_of(self.space(), self.life, Decimal(str(self.market.tick)))

    def keywords(self) -> dict[str, Any]:
        """Every setting by its name, as the environments take them."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def cash(self) -> int:
        """What an episode begins with, in millionths of a USD."""
        return round(self.starting_cash * CENTS) * (DOLLAR // CENTS)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of what is seen."""
        return features_of(sizes=self.size_features)
