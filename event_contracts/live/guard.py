"""The last word before an order of event contracts is sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from event_contracts.trading.venue_orders import order_of
from execution.journal.halts import Halts
from execution.journal.intents import Intent, IntentBook
from execution.live.guards import REDUCING, why_halted, why_stopped, why_too_many
from execution.sight import Sight
from foundation.errors import refuse_outside


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
