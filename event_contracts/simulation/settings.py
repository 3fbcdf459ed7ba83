"""What an episode is played under, the same for one market and for many at once, and how a network
learns from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Literal

from event_contracts.simulation.synthetic import SyntheticMarket
from event_contracts.trading.actions import LimitOrderActionSpace, OrderSettings
from event_contracts.trading.fees import KalshiFees
from event_contracts.trading.observation import features_of
from event_contracts.trading.records import DOLLAR, terms_of
from foundation.arrays import Records
from foundation.errors import InputError, refuse_outside

Reward = Literal["value", "log_wealth"]
CENTS = 100
LARGEST_CASH = 1_000_000  # USD
MOST_LAYERS = 8
MOST_UNITS = 4096


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
        OrderSettings.__post_init__(self)
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
        return terms_of(self.space(), Decimal(str(self.market.tick)))

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


@dataclass(frozen=True, slots=True)
class LearnerSettings:
    """Proximal policy optimisation with masks (Schulman et al. 2017; Huang and Ontañón 2020).

    rollout: steps of each market between updates, 2 … 100,000.
    batch: steps of a gradient, 2 … 1,000,000.
    epochs: times that an update goes through its steps, 1 … 100.
    rate: of learning, 1e-7 … 0.1.
    discount: of a reward a step later, 0 … 1.
    trace: λ of the advantage estimates, 0 … 1.
    clip: of the ratio of probabilities, 0.001 … 1.
    entropy: weight of the choice's entropy, 0 … 1.
    shaping: whether a position counts at the estimate, and not at the middle of the quote, while it
        is held: a potential, which leaves the best policy as it is (Ng, Harada and Russell 1999).
    layers: units of each hidden layer, of the choosing and of the valuing network; 1 … 8 layers of
        1 … 4,096.
    """

    rollout: int = 64
    batch: int = 2048
    epochs: int = 4
    rate: float = 3e-4
    discount: float = 0.99
    trace: float = 0.8
    clip: float = 0.2
    entropy: float = 0.01
    shaping: bool = True
    layers: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        refuse_outside(
            self,
            "learner",
            rollout=(2, 100_000),
            batch=(2, 1_000_000),
            epochs=(1, 100),
            rate=(1e-7, 0.1),
            discount=(0, 1),
            trace=(0, 1),
            clip=(0.001, 1),
            entropy=(0, 1),
        )
        object.__setattr__(self, "layers", tuple(self.layers))
        fits = all(1 <= units <= MOST_UNITS for units in self.layers)
        if not fits or not 1 <= len(self.layers) <= MOST_LAYERS:
            raise InputError(
                f"learner.layers: {self.layers} are not 1 … {MOST_LAYERS} layers of"
                f" 1 … {MOST_UNITS} units"
            )
