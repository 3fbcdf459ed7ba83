"""The watch: limits on an account's losses and exposure that hold between two decisions.

The live loop reads the account every `watch.seconds`, and the simulator at every bar it has. Both
apply `next_watch_state`. The watch acts after two consecutive readings, at different instants, that
are beyond the same limit and agree with each other. One wrong reading therefore neither sells
anything nor becomes the peak from which later drawdowns count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from execution.orders.account_snapshot import AccountSnapshot
from foundation.settings import setting, settings_class
from sizing.settings import Limits
from trainingdata.instants import new_york_day
from trainingdata.instruments import is_stock
from trainingdata.sessions import exchange_calendar, session_on

MAX_DISAGREEMENT = 0.2  # relative change between two readings that agree
LimitName = Literal["daily_loss", "drawdown", "margin"]


@settings_class("watch")
class WatchSettings:
    """Limits between two decisions, and what happens once beyond them."""

    seconds: float = setting(
        60.0, "seconds between two readings of a live account between cycles", ge=5, le=3600
    )
    daily_loss: float | None = setting(
        None,
        "loss at which the watch acts, fraction of the equity at the start of the day; null: none",
        ge=0.001,
        le=1,
    )
    drawdown: float | None = setting(
        None,
        "loss at which the watch acts, fraction of the highest equity; null: none",
        ge=0.001,
        le=1,
    )
    margin: float | None = setting(
        None,
        "gross stock exposure at which the watch acts, multiples of the largest that the broker "
        "and limits allow at that hour; null: none",
        ge=0.01,
        le=10,
    )
    action: Literal["halt", "reduce", "flatten"] = setting(
        "halt",
        "what the watch does, once: `halt` forbids opening orders; `reduce` and `flatten` also "
        "reduce positions",
    )
    reduce_to: float = setting(
        0.5, "fraction of each position that action=reduce keeps", ge=0, lt=1
    )

    @property
    def limits(self) -> Mapping[LimitName, float]:
        """Limits that are set, by name."""
        named: dict[LimitName, float | None] = {
            "daily_loss": self.daily_loss,
            "drawdown": self.drawdown,
            "margin": self.margin,
        }
        return {name: limit for name, limit in named.items() if limit is not None}


@dataclass(frozen=True, slots=True)
class Exposure:
    """Positions of an account at an instant, and the largest gross stock exposure it may have.

    position_values: signed value of each position, USD, by symbol.
    equity: cash plus positions, USD.
    stock_ceiling: largest gross stock exposure, multiples of equity.
    """

    position_values: Mapping[str, float]
    equity: float
    stock_ceiling: float

    @classmethod
    def from_account(cls, account: AccountSnapshot, limits: Limits) -> Exposure:
        """Return the exposure of an account, with its limits at the instant of the snapshot."""
        values = {s: float(q) * account.prices[s] for s, q in account.positions.items() if q}
        session = session_on(new_york_day(account.as_of))
        night = session is None or not session.opens <= account.as_of < session.closes
        granted = limits.with_account_leverage(account.max_leverage)
        ceiling = granted.stock_ceiling(overnight=night, equity=account.equity)
        return cls(values, account.equity, ceiling)

    @property
    def gross_stock(self) -> float:
        """Sum of the absolute values of stock positions, USD."""
        return sum(abs(value) for name, value in self.position_values.items() if is_stock(name))

    @property
    def gross_crypto(self) -> float:
        """Sum of the absolute values of crypto positions, USD."""
        return sum(abs(value) for name, value in self.position_values.items() if not is_stock(name))

    @property
    def ceiling_use(self) -> float:
        """Gross stock exposure, multiples of the largest that is allowed."""
        largest = self.stock_ceiling * self.equity
        if largest > 0:
            return self.gross_stock / largest
        return math.inf if self.gross_stock else 0.0


@dataclass(frozen=True, slots=True)
class WatchState:
    """State of the watch after a reading.

    at: instant of the reading.
    index: index of returns without deposits and withdrawals at the reading.
    confirmed_index: smaller index of this reading and the one before; one wrong reading cannot
        raise it.
    peak: highest `confirmed_index` since the watch began or its halt was cleared.
    day_start: `confirmed_index` at the end of the day before, or where the watch began.
    margin: gross stock exposure, multiples of its largest allowed value.
    beyond: limits that the reading is beyond.
    """

    at: np.datetime64
    index: float
    confirmed_index: float
    peak: float
    day_start: float
    margin: float = 0.0
    beyond: tuple[LimitName, ...] = ()

    @classmethod
    def first(cls, at: np.datetime64, index: float) -> WatchState:
        """Return the state of a watch that begins at a reading."""
        return cls(at, index, index, index, index)

    @property
    def values_by_limit(self) -> Mapping[LimitName, float]:
        """Loss or margin at the reading, by the name of its limit."""
        return {
            "daily_loss": _loss(self.index, self.day_start),
            "drawdown": _loss(self.index, self.peak),
            "margin": self.margin,
        }


def next_watch_state(
    state: WatchState, at: np.datetime64, index: float, margin: float, settings: WatchSettings
) -> tuple[WatchState, str]:
    """Return the state after a reading, and why the watch acts, or an empty string.

    A second reading of the same instant changes nothing.

    at: instant of the reading.
    index: index of returns without deposits and withdrawals; equity if there are none.
    margin: gross stock exposure, multiples of its largest allowed value.
    """
    if at <= state.at:
        return state, ""
    confirmed_index = min(index, state.index)
    is_new_day = new_york_day(at) != new_york_day(state.at)
    day_start = state.confirmed_index if is_new_day else state.day_start
    peak = max(state.peak, confirmed_index)
    read = WatchState(at, index, confirmed_index, peak, day_start, margin)
    values, earlier_values = read.values_by_limit, state.values_by_limit
    beyond = tuple(name for name, limit in settings.limits.items() if values[name] >= limit)
    read = replace(read, beyond=beyond)
    agrees = abs(index - state.index) <= MAX_DISAGREEMENT * abs(state.index)
    confirmed = [name for name in beyond if agrees and name in state.beyond]
    if not confirmed:
        return read, ""
    name = confirmed[0]
    return read, (
        f"{name} {values[name]:.4g} after {earlier_values[name]:.4g} has reached"
        f" watch.{name}, {settings.limits[name]:g}"
    )


def halt_end(reason: str, raised_at: np.datetime64) -> np.datetime64 | None:
    """Return the instant at which a halt of the watch ends; None if only a person ends it.

    The halt lasts until the close of the next session, so that nothing sold is bought back in the
    night after the loss. Beyond `watch.drawdown` it lasts until a person clears it.
    """
    calendar = exchange_calendar()
    k = int(np.searchsorted(calendar.opens, raised_at, side="right"))
    if reason.startswith("drawdown") or k == len(calendar.closes):
        return None
    return np.datetime64(calendar.closes[k])


def _loss(index: float, base: float) -> float:
    return 1.0 - index / base if base > 0 else 0.0
