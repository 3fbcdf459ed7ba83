"""Credit spreads of same-day index options: which one is sold, and when it is bought back. The same
live and simulated.

Prices are points of the index a share; a contract is a hundred.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from foundation.errors import InputError, refuse_outside
from sizing.autoscaler.rules import SHARES, WIDTHS, strategy_of

Exit = Literal["stop", "gap", "target", "trailing", "time", "expired", "settled"]

SESSION = 390  # minutes from 09:30 to 16:00
TRADING_DAYS = 252
DISTANCES = {
    "CALL": 0.6,
    "PUT": 0.6,
    "IRON_CONDOR": 0.8,
    "OTM_SINGLE_SIDED": 1.0,
}  # deviations, of the short strikes


@dataclass(frozen=True, slots=True)
class Leg:
    """An option of a spread. sold: whether it was."""

    strike: float
    call: bool
    sold: bool


@dataclass(frozen=True, slots=True)
class Spread:
    """Options sold at one credit: two legs a side; an iron condor has both sides."""

    strategy: str
    legs: tuple[Leg, ...]

    def __post_init__(self) -> None:
        if len(self.legs) not in (2, 4) or sum(leg.sold for leg in self.legs) * 2 != len(self.legs):
            raise InputError(
                f"{self.strategy}: a spread sells one option a side and buys one beyond it"
            )
        for short, long in zip(self.legs[::2], self.legs[1::2], strict=True):
            beyond = (long.strike > short.strike) if short.call else (long.strike < short.strike)
            if not (short.sold and not long.sold and short.call == long.call and beyond):
                raise InputError(
                    f"{self.strategy}: {long.strike:g} does not protect {short.strike:g}"
                )

    @property
    def width(self) -> float:
        """Points between the strikes, of the wider side."""
        return max(
            abs(long.strike - short.strike)
            for short, long in zip(self.legs[::2], self.legs[1::2], strict=True)
        )

    def settles_at(self, index: float) -> float:
        """Points it costs to settle, where the index ends."""
        worth = (
            max(index - leg.strike if leg.call else leg.strike - index, 0.0)
            * (1 if leg.sold else -1)
            for leg in self.legs
        )
        return math.fsum(worth)


def spread_of(
    strategy: str, spot: float, *, distance: float, width: float, step: float = 5.0
) -> Spread:
    """The spread of a strategy with its short strikes `distance` points from the index, rounded
    away from it to the step.

    CALL sells above the index, PUT below it, IRON_CONDOR both; OTM_SINGLE_SIDED is the put side,
    further out and wider as its distance and width say.

    Raises
    ------
    InputError
        for a strategy that is none, and strikes that cannot be.
    """
    name = strategy_of(strategy)
    if not (distance >= 0 and width > 0 and step > 0 and spot > distance + width):
        raise InputError(
            f"{name}: distance {distance}, width {width} and step {step} fit no index at {spot}"
        )
    above = math.ceil((spot + distance) / step) * step
    below = math.floor((spot - distance) / step) * step
    calls = (Leg(above, True, True), Leg(above + width, True, False))
    puts = (Leg(below, False, True), Leg(below - width, False, False))
    sides = {"CALL": calls, "PUT": puts, "OTM_SINGLE_SIDED": puts, "IRON_CONDOR": (*calls, *puts)}
    return Spread(name, sides[name])


@dataclass(frozen=True, slots=True)
class Implied:
    """How far an index is implied to move until the close.

    level: volatility at the money, of the volatility index; session: share of a day's variance
    between open and close.
    """

    level: float = 0.76
    session: float = 0.65

    def __post_init__(self) -> None:
        refuse_outside(self, "implied", level=(0, 10), session=(0, 1))

    def deviation(self, index: float, vix: float, minute: float) -> float:
        """Points, one deviation. vix: the volatility index, points; minute: after 09:30."""
        return (
            index
            * self.level
            * vix
            / 100
            * math.sqrt((SESSION - minute) / SESSION * self.session / TRADING_DAYS)
        )


@dataclass(frozen=True, slots=True)
class SpreadRules:
    """When a strategy sells, and when it buys back; of the credit unless said otherwise.

    distance: short strikes from the index, in deviations to the close by the volatility index;
    width: points; none takes the strategy's own. step: points between strikes. entries: minutes
    after 09:30. vix_least, vix_most: of the volatility index. credit_least: points. stop_multiple:
    of the credit lost; stop_usd: a contract; whichever comes first, either none. target: of the
    credit earned. trail_from: profit that arms a trailing stop, trail_back: what it gives back.
    holds: (minutes after 09:30, profit) from when on such a profit is held to the close, stops left
    on: the nearer the close, the less it takes. leave_at: minutes after 09:30 from when on whatever
    is left is bought back, for options that deliver shares; none holds to settlement in cash.
    """

    strategy: str = "PUT"
    distance: float | None = None
    width: float | None = None
    step: float = 5.0
    entries: tuple[int, ...] = (30, 120, 210)
    vix_least: float = 0.0
    vix_most: float = 35.0
    credit_least: float = 0.1
    stop_multiple: float | None = 2.0
    stop_usd: float | None = 150.0
    target: float | None = 0.75
    trail_from: float | None = 0.4
    trail_back: float = 0.2
    holds: tuple[tuple[float, float], ...] = ((240, 0.6), (300, 0.45), (345, 0.3))
    leave_at: float | None = None

    def __post_init__(self) -> None:
        if not self.entries or any(not 0 <= minute < SESSION for minute in self.entries):
            raise InputError(
                f"rules.entries: {list(self.entries)} are not minutes from 0 to {SESSION - 1}"
            )
        distance, width = self.shape
        if not 0 <= distance < 100 or not 0 < width < 1e4:
            raise InputError(
                f"rules.distance, width: {distance} deviations and {width} points fit no spread"
            )
        refuse_outside(self, "rules", step=(0.01, 1e3), credit_least=(0, 1e4))
        for name in ("stop_multiple", "stop_usd"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"rules.{name}: {value} is not above 0")
        for name in ("target", "trail_from", "trail_back"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"rules.{name}: {value} is outside 0 … 1")
        if self.leave_at is not None and not 0 < self.leave_at < SESSION:
            raise InputError(f"rules.leave_at: {self.leave_at} is outside 0 … {SESSION} minutes")
        minutes = [minute for minute, _ in self.holds]
        if minutes != sorted(minutes) or not all(
            0 <= minute <= SESSION and 0 < profit <= 1 for minute, profit in self.holds
        ):
            raise InputError(
                f"rules.holds: {[list(hold) for hold in self.holds]} are not rising minutes, each"
                " with a share to 1"
            )

    @property
    def shape(self) -> tuple[float, float]:
        """Distance and width, the strategy's own where none is given."""
        name = strategy_of(self.strategy)
        return DISTANCES[name] if self.distance is None else self.distance, WIDTHS[
            name
        ] if self.width is None else self.width

    @property
    def latest(self) -> float:
        """Minute from which on nothing is sold any more."""
        return SESSION if self.leave_at is None else self.leave_at

    def spread(self, spot: float, vix: float, deviation: float) -> Spread | None:
        """What is sold at an index and a volatility index; None where they do not fit.
        deviation: to the close, points.
        """
        if not self.vix_least <= vix <= self.vix_most:
            return None
        distance, width = self.shape
        return spread_of(
            self.strategy, spot, distance=distance * deviation, width=width, step=self.step
        )

    def held_at(self, minute: float) -> float:
        """Profit that is held to the close at a minute after 09:30; infinity before any is."""
        return next((profit for since, profit in reversed(self.holds) if minute >= since), math.inf)


@dataclass(frozen=True, slots=True)
class SpreadCosts:
    """slippage: points a leg between the middle and what is paid, where prices are simulated.
    commission, fee: USD a contract, leg and order, the latter of exchange and OCC. What settles in
    cash pays none of them again.
    """

    slippage: float = 0.05
    commission: float = 0.65
    fee: float = 0.65

    def __post_init__(self) -> None:
        refuse_outside(self, "costs", slippage=(0, 1e3), commission=(0, 1e3), fee=(0, 1e3))

    def fees(self, spread: Spread, orders: int) -> Decimal:
        """USD a contract of so many orders."""
        return (Decimal(str(self.commission)) + Decimal(str(self.fee))) * len(spread.legs) * orders


@dataclass(frozen=True, slots=True)
class Running:
    """A spread that is held. credit: points it was sold at. asked: what buying it back cost when
    last looked at.

    best: the highest profit there has been, points.
    """

    credit: float
    asked: float
    best: float = 0.0

    def after(self, asked: float, minute: float, rules: SpreadRules) -> tuple[Running, Exit | None]:
        """The same once buying it back costs `asked`, and why it is left, if it is. minute:
        after 09:30.
        """
        profit = self.credit - asked
        before = self.asked
        now = replace(self, asked=asked, best=max(self.best, profit))
        limits = [
            rules.stop_multiple and rules.stop_multiple * self.credit,
            rules.stop_usd and rules.stop_usd / SHARES,
        ]
        stop = min([limit for limit in limits if limit], default=math.inf)
        if -profit >= stop:
            return now, "gap" if asked - before > stop else "stop"
        if rules.leave_at is not None and minute >= rules.leave_at:
            return now, "time"
        if profit >= rules.held_at(minute) * self.credit:
            return now, None
        if rules.target is not None and profit >= rules.target * self.credit:
            return now, "target"
        armed = rules.trail_from is not None and now.best >= rules.trail_from * self.credit
        return (
            now,
            "trailing" if armed and now.best - profit >= rules.trail_back * self.credit else None,
        )
