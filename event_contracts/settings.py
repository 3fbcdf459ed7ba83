"""Settings of the commands of event contracts: keys of `configs/*kalshi*.yaml`."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from omegaconf import DictConfig

from event_contracts.simulation.settings import LearnerSettings, SessionSettings
from event_contracts.trading.actions import OrderSettings
from event_contracts.trading.endpoint import KalshiSettings
from event_contracts.trading.fees import FeeRules, KalshiFees
from execution.decision.watch import WatchSettings
from foundation.errors import InputError
from foundation.notifier import MonitoringSettings
from foundation.settings import setting, settings_class, settings_from_config

MAX_STEPS_PER_UPDATE = 10_000_000  # steps of an update


@settings_class("guards")
class KalshiGuardSettings:
    """Limits on opening orders. Only the kill file and halts of all trading stop reductions.

    A contract pays $1 or nothing. So a position at the maximum share of equity (`limits.share`, by
    default a quarter) may lose its whole value on an ordinary day. By default one such loss exceeds
    `daily_loss` and halts opening orders for the day. Two such losses amount to 44 % and exceed
    `drawdown`: opening orders are halted until an operator or a recovery ends the halt.
    """

    max_order: float = setting(
        100.0, "maximum cost of an opening order, price times contracts, USD", ge=1, le=1e6
    )
    max_orders_per_hour: int = setting(
        500,
        "orders of all jobs in an hour, beyond which opening orders are refused",
        ge=1,
        le=100_000,
    )
    daily_loss: float = setting(
        0.20, "loss that halts opening orders, a fraction of the day's first equity", ge=0.001, le=1
    )
    drawdown: float = setting(
        0.40, "drawdown that halts opening orders, a fraction of the highest equity", ge=0.001, le=1
    )
    drawdown_resume_fraction: float = setting(
        0.5,
        "fraction of the drawdown limit below which a drawdown halt ends by itself",
        ge=0,
        le=0.9,
    )


@settings_class()
class KalshiTradingSettings(OrderSettings, MonitoringSettings):
    """Settings of trading at Kalshi: the account, its markets, and the policy that picks orders."""

    mode: Literal["dry", "paper", "live"] = setting(
        "paper",
        "`dry` sends no orders; `paper` sends to the demo account; `live` trades real money "
        "and requires confirm_live",
    )
    confirm_live: bool = setting(False, "confirmation that mode=live trades real money")
    markets: tuple[str, ...] = setting((), "tickers of the traded markets")
    policy: str = setting(
        "nothing", "policy of the orders: path of a checkpoint, or `kelly`, `random` or `nothing`"
    )
    kelly_fraction: float = setting(
        0.5, "fraction of full Kelly of the policy `kelly`", ge=1e-6, le=10
    )
    seed: int = setting(0, "seed of the policy `random`", ge=0, lt=2**63)
    estimates: str | None = setting(
        None,
        "file of the user's probabilities (`event_contracts.trading.sampler`); null: no estimates",
    )
    interval: float = setting(
        300.0,
        "seconds between ticks; a trained policy requires those of its training",
        ge=0.1,
        le=86_400,
    )
    steps: int | None = setting(
        None, "number of ticks until the command ends; null: until every market has settled", ge=1
    )
    fees: KalshiFees = setting(KalshiFees(), "Kalshi's fees by date")
    decision_valid_seconds: float = setting(
        60.0, "seconds after a tick within which its orders may be sent", ge=1, le=3600
    )
    guards: KalshiGuardSettings = setting(
        KalshiGuardSettings(), "limits that every order must keep"
    )
    watch: WatchSettings = setting(
        WatchSettings(), "limits between two ticks; nothing is sold: action=halt, no margin"
    )
    broker: KalshiSettings = setting(
        KalshiSettings(), "connection to the venue; its mode follows from `mode`"
    )
    folder: str = setting(
        "data/kalshi-live", "folder with a subfolder and journal for each account", min_length=1
    )

    def __post_init__(self) -> None:
        if len(set(self.markets)) != len(self.markets):
            raise InputError(f"markets: {list(self.markets)} lists a ticker twice; list each once")
        if self.broker.mode != "demo" or self.broker.confirm_live:
            raise InputError("broker.mode cannot be set; set mode and confirm_live instead")
        if self.watch.action != "halt" or self.watch.margin is not None:
            raise InputError(
                f"watch: action={self.watch.action}, margin={self.watch.margin}: the watch of event"
                " contracts sells nothing and has no margin; set action=halt and margin=null"
            )
        MonitoringSettings.__post_init__(self)
        self.venue_settings()
        self.build_action_space(FeeRules())

    @classmethod
    def from_config(cls, config: DictConfig) -> KalshiTradingSettings:
        settings = settings_from_config(cls, config)
        if not settings.markets:
            raise InputError("markets is empty; set markets=[TICKER,…]")
        return settings

    @property
    def tick_interval(self) -> np.timedelta64:
        return np.timedelta64(round(self.interval * 1e9), "ns")

    def venue_settings(self) -> KalshiSettings:
        if self.mode != "live":
            return self.broker
        if not self.confirm_live:
            raise InputError("mode: live trades real money; confirm it with confirm_live=true")
        return replace(self.broker, mode="live", confirm_live=True)


@settings_class()
class TrainingSettings(SessionSettings):
    """Settings of training a network: markets, number of steps and output."""

    steps: int = setting(
        5_000_000,
        "total training steps over all markets, those of a resumed run included; rounded up "
        "to rounds of `markets` times `learner.rollout`",
        ge=1,
        le=10**12,
    )
    markets: int = setting(512, "number of markets simulated in parallel", ge=1, le=100_000)
    seed: int = setting(0, "seed of networks, actions and synthetic markets", ge=0, lt=2**32)
    train_events: int = setting(
        9,
        "number of first recorded events for training; the others are held out",
        ge=1,
        le=1_000_000,
    )
    resume: str | None = setting(None, "checkpoint from which training continues")
    checkpoint_steps: int = setting(500_000, "steps between checkpoints", ge=1, le=10**12)
    learner: LearnerSettings = setting(
        LearnerSettings(), "settings of proximal policy optimisation"
    )
    output: str = setting("outputs/kalshi-train", "folder of checkpoints and logs")

    def __post_init__(self) -> None:
        if self.steps_per_update > MAX_STEPS_PER_UPDATE:
            raise InputError(
                f"markets, learner.rollout: {self.markets:,} times {self.learner.rollout:,} steps"
                f" exceed the {MAX_STEPS_PER_UPDATE:,} steps that fit in an update; reduce one"
            )

    @property
    def steps_per_update(self) -> int:
        """Return the number of steps, over all markets, between two updates of the networks."""
        return self.markets * self.learner.rollout


@settings_class()
class ComparisonSettings(SessionSettings):
    """Settings of the comparison of policies over held-out sessions."""

    variable_checkpoints: tuple[str, ...] = setting(
        (), "checkpoints trained with all position sizes, one for each training seed"
    )
    fixed_checkpoints: tuple[str, ...] = setting(
        (),
        "checkpoints trained with the single size `fixed_size`, as many as in variable_checkpoints",
    )
    fixed_size: int = setting(10, "contracts of an order under a single size")
    kelly_fraction: float = setting(
        0.5, "fraction of full Kelly of the Kelly policy", ge=0.001, le=10
    )
    holdout_events: int = setting(
        4, "number of last recorded events whose markets are the test sessions", ge=1, le=1_000_000
    )
    sessions: int = setting(200, "number of synthetic sessions", ge=1, le=1_000_000)
    seed: int = setting(
        0, "seed of synthetic sessions, random choices and confidence intervals", ge=0, lt=2**63
    )
    output: str = setting("outputs/kalshi-compare", "folder of the results")

    def __post_init__(self) -> None:
        if self.episode.fixed_size is not None:
            raise InputError(
                f"episode.fixed_size: {self.episode.fixed_size} would give all policies one size;"
                " set fixed_size instead"
            )
        if self.fixed_size not in self.episode.position_sizes:
            raise InputError(
                f"fixed_size: {self.fixed_size} is not one of position_sizes"
                f" {self.episode.position_sizes}"
            )
        if (
            len(self.variable_checkpoints) != len(self.fixed_checkpoints)
            and self.variable_checkpoints
            and self.fixed_checkpoints
        ):
            raise InputError(
                "variable_checkpoints, fixed_checkpoints:"
                f" {len(self.variable_checkpoints)} and {len(self.fixed_checkpoints)} checkpoints;"
                " give the same number of each, one for each training seed"
            )
