"""What trading event contracts is told, names being the keys of configs/trade_kalshi.yaml, and the
last word before an order is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from omegaconf import DictConfig

from event_contracts.trading.actions import OrderSettings
from event_contracts.trading.actor import ActorSettings
from event_contracts.trading.endpoint import KalshiSettings
from event_contracts.trading.fees import FeeRules, KalshiFees
from event_contracts.trading.venue_orders import order_of
from execution.journal.halts import Halts
from execution.journal.intents import Intent, IntentBook
from execution.live.guards import REDUCING, why_halted, why_stopped, why_too_many
from execution.sight import Sight
from foundation.configuration import settings_of
from foundation.errors import InputError, refuse_outside
from foundation.notices import check_url


@dataclass(frozen=True, slots=True)
class KalshiGuardSettings:
    """Bounds of what may be sent; reductions are refused by the kill file and halts alone.

    A contract ends at $1 or nothing, so that a position of the largest share (`limits.share`, a
    quarter) may be lost whole on a day on which nothing went wrong. By default one such loss halts
    openings for the day, and two of them, 44 %, until a person or a recovery ends that.

    max_order: USD, price times contracts of one order that opens, 1 … 1e6.
    max_orders_per_hour: orders sent in an hour, of all jobs, after which none opens, 1 … 100,000.
    daily_loss: share of the day's first equity whose loss halts openings, 0.001 … 1.
    drawdown: share of the highest equity whose loss halts openings, 0.001 … 1.
    resume: share of the drawdown limit to which the loss comes back before its halt ends by
        itself, 0 … 0.9.
    """

    max_order: float = 100.0
    max_orders_per_hour: int = 500
    daily_loss: float = 0.20
    drawdown: float = 0.40
    resume: float = 0.5

    def __post_init__(self) -> None:
        refuse_outside(
            self,
            "guards",
            max_order=(1, 1e6),
            max_orders_per_hour=(1, 100_000),
            daily_loss=(0.001, 1),
            drawdown=(0.001, 1),
            resume=(0, 0.9),
        )


@dataclass(frozen=True, slots=True)
class KalshiGuard:
    """Says why an intent may not be sent: `Outbox` asks it.

    settings: its bounds.
    halts: of the account.
    book: of all jobs of the account.
    kill_file: as long as it is there, nothing is sent.
    """

    settings: KalshiGuardSettings
    halts: Halts
    book: IntentBook
    kill_file: Path

    def __call__(self, intent: Intent, now: np.datetime64, seen: Sight | None) -> str:
        """Why an intent may not be sent at an instant; empty where it may."""
        del seen  # an order of event contracts is admitted on the account as it stands before it
        if why := why_stopped(self.halts, self.kill_file):
            return why
        if intent.part in REDUCING:
            return ""
        order = order_of(intent)
        value = order.price * order.count
        if value > self.settings.max_order:
            return f"${value} are at stake; guards.max_order is ${self.settings.max_order:g}"
        return why_halted(self.halts, "openings") or why_too_many(
            self.book, intent, now, self.settings.max_orders_per_hour
        )


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
