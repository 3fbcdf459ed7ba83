"""Settings of the commands of event contracts: keys of `configs/*kalshi*.yaml`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from omegaconf import DictConfig

from event_contracts.simulation.settings import (
    EpisodeSettings,
    LearnerSettings,
    SessionSettings,
    SyntheticSessionModel,
)
from event_contracts.trading.actions import DEFAULT_ORDER_TICKS, NO_POSITION_LIMITS, OrderSettings
from event_contracts.trading.endpoint import KalshiSettings
from event_contracts.trading.fees import FeeRules, KalshiFees
from foundation.errors import InputError
from foundation.notifier import MonitoringSettings
from foundation.settings import setting, settings_class, settings_from_config

MAX_STEPS_PER_UPDATE = 10_000_000  # steps of an update


@settings_class("guards")
class KalshiGuardSettings:
    """Guards of opening orders; only the kill file and halts refuse reductions.

    A contract pays $1 or nothing. So a position at the maximum share (`limits.share`, a quarter)
    may lose its whole value on an ordinary day. By default one such loss halts openings for the
    day. Two of them, 44 %, halt openings until a person or a recovery ends the halt.
    """

    max_order: float = setting(
        100.0, "USD, price times contracts of one order that opens", ge=1, le=1e6
    )
    max_orders_per_hour: int = setting(
        500, "orders sent in an hour, all jobs, after which none opens", ge=1, le=100_000
    )
    daily_loss: float = setting(
        0.20, "share of the day's first equity whose loss halts openings", ge=0.001, le=1
    )
    drawdown: float = setting(
        0.40, "share of the highest equity whose loss halts openings", ge=0.001, le=1
    )
    drawdown_resume_fraction: float = setting(
        0.5, "share of the drawdown limit at which its halt ends by itself", ge=0, le=0.9
    )


@settings_class()
class KalshiTradingSettings(OrderSettings, MonitoringSettings):
    """Settings of trading at Kalshi: an account, its markets, and the policy of its orders."""

    mode: Literal["dry", "paper", "live"] = setting(
        "paper",
        "`dry` sends nothing; `paper` sends to the demo account; `live` with real money, "
        "beside confirm_live",
    )
    confirm_live: bool = setting(False, "beside mode=live")
    markets: tuple[str, ...] = setting((), "tickers")
    policy: str = setting("nothing", "path of a checkpoint, or `kelly`, `random` or `nothing`")
    kelly_fraction: float = setting(0.5, "of full Kelly", ge=1e-6, le=10)
    seed: int = setting(0, "of the random policy", ge=0, lt=2**63)
    estimates: str | None = setting(
        None, "file of one's own probabilities (`event_contracts.trading.sampler`); none has none"
    )
    interval: float = setting(
        300.0, "seconds between ticks, those that the policy was trained with", ge=0.1, le=86_400
    )
    steps: int | None = setting(None, "ticks; none: until every market has settled", ge=1)
    fees: KalshiFees = setting(KalshiFees(), "by date")
    decision_valid_seconds: float = setting(
        60.0, "after a tick, for which it may be decided on", ge=1, le=3600
    )
    guards: KalshiGuardSettings = setting(KalshiGuardSettings(), "bounds that no order goes beyond")
    broker: KalshiSettings = setting(
        KalshiSettings(), "how the venue is reached; its mode follows from this one"
    )
    folder: str = setting(
        "data/kalshi-live", "where each account has a folder with its journal", min_length=1
    )

    def __post_init__(self) -> None:
        if len(set(self.markets)) != len(self.markets):
            raise InputError(f"markets: {list(self.markets)} names one twice")
        if self.broker.mode != "demo" or self.broker.confirm_live:
            raise InputError("broker.mode: it follows from mode; set mode and confirm_live")
        MonitoringSettings.__post_init__(self)
        self.venue_settings()
        self.action_space_with_fees(FeeRules())

    @classmethod
    def from_config(cls, config: DictConfig) -> KalshiTradingSettings:
        settings = settings_from_config(cls, config)
        if not settings.markets:
            raise InputError("markets: none is named; markets=[TICKER,…]")
        return settings

    @property
    def tick_interval(self) -> np.timedelta64:
        return np.timedelta64(round(self.interval * 1e9), "ns")

    def venue_settings(self) -> KalshiSettings:
        if self.mode != "live":
            return self.broker
        if not self.confirm_live:
            raise InputError("mode: live trades real money; say so with confirm_live=true")
        return replace(self.broker, mode="live", confirm_live=True)


@settings_class()
class TrainingSettings(SessionSettings):
    """Settings of training a network: markets, number of steps and output."""

    steps: int = setting(
        5_000_000,
        "over all markets, a resumed run's included; in whole rounds of `markets` times "
        "`learner.rollout`",
        ge=1,
        le=10**12,
    )
    markets: int = setting(512, "played at once", ge=1, le=100_000)
    seed: int = setting(0, "of networks, choices and synthetic markets", ge=0, lt=2**32)
    train_events: int = setting(
        9, "first events that are trained on; the others are held out", ge=1, le=1_000_000
    )
    resume: str | None = setting(None, "checkpoint to go on from")
    checkpoint_steps: int = setting(500_000, "steps between checkpoints", ge=1, le=10**12)
    learner: LearnerSettings = setting(LearnerSettings(), "of the learning")
    output: str = setting("outputs/kalshi-train", "folder")

    def __post_init__(self) -> None:
        if self.steps_per_update > MAX_STEPS_PER_UPDATE:
            raise InputError(
                f"markets, learner.rollout: {self.markets:,} times {self.learner.rollout:,} steps"
                f" are more than {MAX_STEPS_PER_UPDATE:,}, which an update holds in memory"
            )

    @property
    def steps_per_update(self) -> int:
        """Return the number of steps, over all markets, between two updates."""
        return self.markets * self.learner.rollout


@settings_class()
class ComparisonSettings(SessionSettings):
    """Settings of the comparison of policies over held-out sessions."""

    variable_checkpoints: tuple[str, ...] = setting(
        (), "checkpoints trained with all sizes, one for each seed of training"
    )
    fixed_checkpoints: tuple[str, ...] = setting((), "checkpoints trained with one size, as many")
    fixed_size: int = setting(10, "contracts, the one size")
    kelly_fraction: float = setting(0.5, "of full Kelly", ge=0.001, le=10)
    holdout_events: int = setting(
        4, "last recorded events, whose markets judge", ge=1, le=1_000_000
    )
    sessions: int = setting(200, "synthetic ones", ge=1, le=1_000_000)
    random_runs: int = setting(3, "of the random policy, each with its own seed", ge=1, le=1_000)
    seed: int = setting(0, "of synthetic sessions, random choices and intervals", ge=0, lt=2**63)
    journal: str | None = setting(
        None, "of an account, whose settled markets are the sessions and whose sizes play them"
    )
    output: str = setting("outputs/kalshi-compare", "folder for the results")

    def __post_init__(self) -> None:
        if self.episode.fixed_size is not None:
            raise InputError(
                f"episode.fixed_size: {self.episode.fixed_size} leaves nothing to compare; the one"
                " size is fixed_size"
            )
        if self.fixed_size not in self.episode.position_sizes:
            raise InputError(
                f"fixed_size: {self.fixed_size} is not one of {self.episode.position_sizes}"
            )
        if self.folder is not None and self.journal is not None:
            raise InputError("folder, journal: both name sessions; name one of them")
        if (
            len(self.variable_checkpoints) != len(self.fixed_checkpoints)
            and self.variable_checkpoints
            and self.fixed_checkpoints
        ):
            raise InputError(
                "variable_checkpoints, fixed_checkpoints:"
                f" {len(self.variable_checkpoints)} and {len(self.fixed_checkpoints)} checkpoints;"
                " as many of each are needed, one for each seed of training"
            )

    @property
    def fixed_size_name(self) -> str:
        return f"fixed {self.fixed_size}"

    def name_at_fixed_size(self, name: str) -> str:
        return f"{name} {self.fixed_size_name}"


@settings_class()
class KalshiVenueSettings:
    """Settings of a practice venue of event contracts: its markets, the account, the rules."""

    folder: str | None = setting(
        None, "of `event_contracts.simulation.recorded` files; none: synthetic markets"
    )
    markets: tuple[str, ...] = setting(
        (), "tickers of the recorded markets that are played; none: all"
    )
    synthetic: int = setting(
        2, "how many synthetic markets, SIM-1, SIM-2, …, are played", ge=1, le=200
    )
    seed: int = setting(0, "of the synthetic markets", ge=0, le=2**62)
    market: SyntheticSessionModel = setting(
        SyntheticSessionModel(), "parameters of the synthetic markets"
    )
    interval: int = setting(60, "seconds between ticks", ge=1, le=86_400)
    starting_cash: float = setting(1000.0, "USD, in whole cents")
    life: int = setting(
        DEFAULT_ORDER_TICKS,
        "ticks after which a resting order ends; Kalshi's own wait until cancelled",
        ge=1,
        le=1_000_000,
    )
    settlement_ticks: int = setting(
        0, "ticks from the end of trading until a market pays", ge=0, le=10_000
    )
    reused_ids_refused: bool = setting(
        True,
        "whether an order is refused whose client_order_id has been used. Kalshi does not "
        "say what becomes of one",
        key=False,
    )
    fees: KalshiFees = setting(KalshiFees(), "rates and rounding by date; those of `as_of` hold")
    estimates: str | None = setting(
        None,
        "file that is written at every tick with the markets' fair prices, for `estimates` of "
        "`event_contracts.trade`; none: no file",
    )
    weekly_pause: bool = setting(
        False, "whether trading pauses every Thursday from 3 to 5 in New York"
    )

    def __post_init__(self) -> None:
        if self.markets and self.folder is None:
            raise InputError("markets: tickers are of recorded markets; name their folder, too")
        self.episode_settings()

    @classmethod
    def from_config(cls, config: DictConfig) -> KalshiVenueSettings:
        return settings_from_config(cls, config)

    def episode_settings(self) -> EpisodeSettings:
        """Return the simulated exchange's settings, without cash buffer and position limits."""
        return EpisodeSettings(
            market=self.market,
            starting_cash=self.starting_cash,
            life=self.life,
            fees=self.fees,
            limits=NO_POSITION_LIMITS,
            cash_buffer=0.0,
        )
