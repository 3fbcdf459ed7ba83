"""What trading event contracts is told, names being the keys of configs/trade_kalshi.yaml, and the
last word before an order is sent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from execution.journal.order_store import OrderIntent, OrderStore
from execution.live.guards import REDUCING, why_halted, why_stopped, why_too_many
from execution.risk_snapshot import RiskSnapshot
from foundation.configuration import settings_of
from foundation.errors import InputError
from foundation.notices import WatchedSettings
from foundation.settings import setting, settings_class


@settings_class("guards")
class KalshiGuardSettings:
    """Bounds of what may be sent; reductions are refused by the kill file and halts alone.

    A contract ends at $1 or nothing, so that a position of the largest share (`limits.share`, a
    quarter) may be lost whole on a day on which nothing went wrong. By default one such loss halts
    openings for the day, and two of them, 44 %, until a person or a recovery ends that.
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
    resume: float = setting(
        0.5, "share of the drawdown limit at which its halt ends by itself", ge=0, le=0.9
    )


@dataclass(frozen=True, slots=True)
class KalshiGuard:
    """Says why an intent may not be sent: `Outbox` asks it.

    book: of all jobs of the account.
    kill_file: as long as it is there, nothing is sent.
    """

    settings: KalshiGuardSettings
    halts: Halts
    book: OrderStore
    kill_file: Path

    def __call__(self, intent: OrderIntent, now: np.datetime64, seen: RiskSnapshot | None) -> str:
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


@settings_class()
class KalshiTradingSettings(OrderSettings, WatchedSettings):
    """An account, its markets, and who sizes its orders."""

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
    actor: ActorSettings = setting(ActorSettings(), "how the service works")
    guards: KalshiGuardSettings = setting(KalshiGuardSettings(), "bounds that no order goes beyond")
    broker: KalshiSettings = setting(
        KalshiSettings(), "how the venue is reached; its mode follows from this one"
    )
    folder: str = setting("data/kalshi-live", "where each account has a folder with its journal")

    def __post_init__(self) -> None:
        if len(set(self.markets)) != len(self.markets):
            raise InputError(f"markets: {list(self.markets)} names one twice")
        if self.broker.mode != "demo" or self.broker.confirm_live:
            raise InputError("broker.mode: it follows from mode; set mode and confirm_live")
        if not self.folder.strip():
            raise InputError("folder: it has no name")
        WatchedSettings.__post_init__(self)
        self.venue()
        self.space_at(FeeRules())

    @classmethod
    def of(cls, config: DictConfig) -> KalshiTradingSettings:
        settings = settings_of(cls, config)
        if not settings.markets:
            raise InputError("markets: none is named; markets=[TICKER,…]")
        return settings

    @property
    def step(self) -> np.timedelta64:
        """Between ticks."""
        return np.timedelta64(round(self.interval * 1e9), "ns")

    def venue(self) -> KalshiSettings:
        if self.mode != "live":
            return self.broker
        if not self.confirm_live:
            raise InputError("mode: live trades real money; say so with confirm_live=true")
        return replace(self.broker, mode="live", confirm_live=True)
