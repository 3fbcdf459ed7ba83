"""Settings of sessions, of episodes (for both environments), and of reinforcement learning."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import Any, Literal, Self

from omegaconf import DictConfig

from event_contracts.simulation.sessions import DEFAULT_TICK_USD, ticks_per_dollar
from event_contracts.trading.actions import LimitOrderActionSpace, OrderSettings
from event_contracts.trading.fees import KalshiFees
from event_contracts.trading.records import MICROS_PER_DOLLAR
from event_contracts.trading.rules import ScaledOrderRules
from foundation.errors import InputError
from foundation.settings import setting, settings_class, settings_from_config

RewardKind = Literal["value", "log_wealth"]
CENTS_PER_DOLLAR = 100
MAX_STARTING_CASH = 1_000_000  # USD
MAX_LAYERS = 8
MAX_LAYER_UNITS = 4096


@settings_class("market")
class SyntheticSessionModel:
    """Parameters of the random model of synthetic sessions."""

    steps: int = setting(300, "steps of a session; its data has one row more", ge=1, le=100_000)
    mean_probability: float = setting(
        0.5, "probability to which the log-odds revert", ge=0.001, le=0.999, key=False
    )
    start_deviation: float = setting(
        4.0,
        "standard deviation of the first row's log-odds around their mean",
        ge=0,
        le=10,
        key=False,
    )
    reversion: float = setting(
        1.0,
        "speed at which the log-odds revert to their mean, per session",
        ge=0,
        le=1000,
        key=False,
    )
    volatility: float = setting(
        4.0,
        "standard deviation of the log-odds over a session without mean reversion",
        ge=0,
        le=100,
    )
    tick: float = setting(DEFAULT_TICK_USD, "price tick, USD; must divide a dollar")
    width: float = setting(2.0, "mean bid-ask spread, ticks", ge=1, le=20)
    depth: float = setting(100.0, "mean contracts at the best price", ge=1, le=1e6)
    lot: int = setting(20, "contracts of a market order", ge=1, le=10_000, key=False)
    informed_order_rate: float = setting(
        1.0,
        "informed orders expected per step for each tick by which the price exceeds a quote",
        ge=0,
        le=100,
    )
    noise_order_rate: float = setting(
        0.0, "uninformed orders expected per step, each side", ge=0, le=20
    )
    mispricing: float = setting(0.0, "standard deviation of the mispricing, USD", ge=0, le=0.25)
    mispricing_persistence: float = setting(
        0.95, "fraction of the mispricing that remains after a step", ge=0, le=0.9999, key=False
    )
    estimate_noise: float = setting(
        0.0, "standard deviation of the estimate around the fair price, USD", ge=0, le=0.5
    )

    def __post_init__(self) -> None:
        ticks_per_dollar(self.tick)


@settings_class()
class EpisodeSettings(OrderSettings):
    """Settings of an episode: money, orders and rewards."""

    market: SyntheticSessionModel = setting(
        SyntheticSessionModel(), "model of the synthetic sessions; the default offers no edge"
    )
    starting_cash: float = setting(
        1000.0, "cash at the start of an episode, USD in whole cents", ge=0.01, le=MAX_STARTING_CASH
    )
    fees: KalshiFees = setting(KalshiFees(), "fees by date; those of `as_of` apply")
    reward: RewardKind = setting(
        "value",
        "reward of a step: `value`, change in USD of cash and position at the mid-quote after "
        "fees; `log_wealth`, change of that value's logarithm",
    )

    def __post_init__(self) -> None:
        cents = self.starting_cash * CENTS_PER_DOLLAR
        if abs(cents - round(cents)) > 1e-6:
            raise InputError(f"starting_cash: ${self.starting_cash} must be in whole cents")
        self.build_scaled_order_rules()

    def default_action_space(self) -> LimitOrderActionSpace:
        return self.build_action_space(self.fees.default_rules())

    def build_scaled_order_rules(self) -> ScaledOrderRules:
        return self.default_action_space().build_scaled_order_rules(Decimal(str(self.market.tick)))

    def as_keyword_arguments(self) -> dict[str, Any]:
        """Return all settings as keyword arguments for the constructors of the environments."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @property
    def starting_cash_micros(self) -> int:
        """Return the starting cash of an episode, in millionths of a USD."""
        return round(self.starting_cash * CENTS_PER_DOLLAR) * (
            MICROS_PER_DOLLAR // CENTS_PER_DOLLAR
        )


@settings_class()
class SessionSettings:
    """Settings of the sessions to play, recorded or synthetic, and of their episodes."""

    episode: EpisodeSettings = setting(
        EpisodeSettings(), "money, orders, fees, rewards and synthetic market of an episode"
    )
    folder: str | None = setting(
        None, "folder of `event_contracts.simulation.recorded` files; null: synthetic sessions"
    )

    @classmethod
    def from_config(cls, config: DictConfig) -> Self:
        return settings_from_config(cls, config)


@settings_class("learner")
class LearnerSettings:
    """Settings of proximal policy optimisation with action masks.

    Schulman et al. 2017; Huang and Ontañón 2020.
    """

    rollout: int = setting(32, "steps of each market between two updates", ge=2, le=100_000)
    batch: int = setting(1024, "steps in a gradient", ge=2, le=1_000_000)
    epochs: int = setting(1, "passes of an update through its steps", ge=1, le=100)
    learning_rate: float = setting(1e-3, "learning rate of Adam", ge=1e-7, le=0.1)
    discount: float = setting(0.99, "discount of a reward one step later", ge=0, le=1, key=False)
    entropy: float = setting(0.01, "weight of the entropy bonus in the loss", ge=0, le=1)
    layers: tuple[int, ...] = setting(
        (64, 64), "units of each hidden layer of both networks; 1 … 8 layers of 1 … 4,096 units"
    )

    def __post_init__(self) -> None:
        fits = all(1 <= units <= MAX_LAYER_UNITS for units in self.layers)
        if not fits or not 1 <= len(self.layers) <= MAX_LAYERS:
            raise InputError(
                f"learner.layers: expected 1 … {MAX_LAYERS} layers of 1 … {MAX_LAYER_UNITS} units,"
                f" got {self.layers}"
            )
