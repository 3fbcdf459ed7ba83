"""What trading event contracts is told: names are the keys of configs/trade_kalshi.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from omegaconf import DictConfig

from event_contracts.live.guard import KalshiGuardSettings
from event_contracts.trading.actions import OrderSettings
from event_contracts.trading.actor import ActorSettings
from event_contracts.trading.endpoint import KalshiSettings
from event_contracts.trading.fees import FeeRules, KalshiFees
from foundation.configuration import settings_of
from foundation.errors import InputError, refuse_outside
from foundation.notices import check_url


@dataclass(frozen=True, slots=True)
class KalshiTradingSettings(OrderSettings):
    """An account, its markets, and who sizes its orders.

    mode: `dry` shows decisions and sends nothing; `paper` sends to the demo account; `live` sends
        with real money, and needs confirm_live too.
    confirm_live: beside mode=live.
    markets: tickers.
    policy: path of a checkpoint, or `kelly`, `random` or `nothing`.
    kelly_fraction: of full Kelly, above 0.
    seed: of the random policy, from 0.
    estimates: file of one's own probabilities (`event_contracts.trading.sampler`); none has none.
    interval: seconds between ticks, those that the policy was trained with, 0.1 … 86,400.
    steps: ticks to work on; none goes on until every market has settled.
    halt_after: ticks in a row that fail, after which no more are made, 1 … 1000.
    fees: by date.
    actor: how the service works.
    guards: bounds that no order goes beyond.
    broker: how the venue is reached; its mode follows from this one.
    healthcheck_url: asked every five minutes while ticks come.
    alert_url: told of whatever needs a person.
    folder: where each account has a folder with its journal.
    """

    mode: Literal["dry", "paper", "live"] = "paper"
    confirm_live: bool = False
    markets: tuple[str, ...] = ()
    policy: str = "nothing"
    kelly_fraction: float = 0.5
    seed: int = 0
    estimates: str | None = None
    interval: float = 300.0
    steps: int | None = None
    halt_after: int = 3
    fees: KalshiFees = field(default_factory=KalshiFees)
    actor: ActorSettings = field(default_factory=ActorSettings)
    guards: KalshiGuardSettings = field(default_factory=KalshiGuardSettings)
    broker: KalshiSettings = field(default_factory=KalshiSettings)
    healthcheck_url: str | None = field(default=None, repr=False)
    alert_url: str | None = field(default=None, repr=False)
    folder: str = "data/kalshi-live"

    def __post_init__(self) -> None:
        if len(set(self.markets)) != len(self.markets):
            raise InputError(f"markets: {list(self.markets)} names one twice")
        refuse_outside(
            self,
            interval=(0.1, 86_400),
            kelly_fraction=(1e-6, 10),
            seed=(0, 2**63),
            halt_after=(1, 1000),
            life=(1, 1_000_000),
        )
        if self.steps is not None and self.steps < 1:
            raise InputError(f"steps: {self.steps} is below 1")
        if self.broker.mode != "demo" or self.broker.confirm_live:
            raise InputError("broker.mode: it follows from mode; set mode and confirm_live")
        if not self.folder.strip():
            raise InputError("folder: it has no name")
        for name in ("healthcheck_url", "alert_url"):
            check_url(name, getattr(self, name))
        self.venue()
        self.space_at(FeeRules())

    @classmethod
    def of(cls, config: DictConfig) -> KalshiTradingSettings:
        """The checked settings of a composed configuration."""
        settings = settings_of(cls, config, lists=("markets",))
        if not settings.markets:
            raise InputError("markets: none is named; markets=[TICKER,…]")
        return settings

    @property
    def step(self) -> np.timedelta64:
        """Between ticks."""
        return np.timedelta64(round(self.interval * 1e9), "ns")

    def venue(self) -> KalshiSettings:
        """How the venue is reached."""
        if self.mode != "live":
            return self.broker
        if not self.confirm_live:
            raise InputError("mode: live trades real money; say so with confirm_live=true")
        return replace(self.broker, mode="live", confirm_live=True)
