"""A year of selling same-day index spreads: entered at a credit, stopped, taken, trailed or held to the close.

Every day of an index path (`index_path`) a spread is sold at each entry time whose volatility index fits; what it costs to buy
back is looked at at every point of the path, and an order there gets the price of that point: a gap through the stop is lost.
Contracts are sized by the autoscaler from the trades closed by then. Losses reach width less credit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from marketsimulator.index_path import SESSION, TRADING_DAYS, IndexDays
from marketsimulator.option_pricing import Smile, Spread, spread_of
from sizing.autoscaling import SHARES, AutoscalingSettings, Fall, Statistics, contracts_for, strategy_of
from trainingdata.errors import InputError

Array = npt.NDArray[np.float64]
Exit = Literal["stop", "gap", "target", "trailing", "expired", "settled"]

CENT = Fraction(1, 100)
OWN = {"CALL": (0.6, 5.0), "PUT": (0.6, 5.0), "IRON_CONDOR": (0.8, 5.0), "OTM_SINGLE_SIDED": (1.0, 10.0)}  # distance, width


@dataclass(frozen=True, slots=True)
class SpreadRules:
    """When a strategy sells, and when it buys back; of the credit unless said otherwise.

    distance: short strikes from the index, in deviations to the close by the volatility index; width: points; none takes
    the strategy's own. entries: minutes after 09:30. vix_least, vix_most: of the volatility index. credit_least: points.
    stop_multiple: of the credit lost; stop_usd: a contract; whichever comes first, either none. target: of the credit
    earned. trail_from: profit that arms a trailing stop, trail_back: what it gives back. holds: (minutes after 09:30,
    profit) from when on such a profit is held to the close, stops left on: the nearer the close, the less it takes.
    """

    strategy: str = "PUT"
    distance: float | None = None
    width: float | None = None
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

    def __post_init__(self) -> None:
        if not self.entries or any(not 0 <= minute < SESSION for minute in self.entries):
            raise InputError(f"entries: {list(self.entries)} are not minutes from 0 to {SESSION - 1}")
        distance, width = self.shape
        if not 0 <= distance < 100 or not 0 < width < 1e4:
            raise InputError(f"distance, width: {distance} deviations and {width} points fit no spread")
        for name in ("stop_multiple", "stop_usd"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"{name}: {value} is not above 0")
        for name in ("target", "trail_from", "trail_back"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{name}: {value} is outside 0 … 1")
        minutes = [minute for minute, _ in self.holds]
        if minutes != sorted(minutes) or not all(0 <= minute <= SESSION and 0 < profit <= 1 for minute, profit in self.holds):
            raise InputError(f"holds: {[list(hold) for hold in self.holds]} are not rising minutes, each with a share to 1")

    def held_at(self, minute: float) -> float:
        """Profit that is held to the close at a minute after 09:30; infinity before any is."""
        return next((profit for since, profit in reversed(self.holds) if minute >= since), np.inf)

    @property
    def shape(self) -> tuple[float, float]:
        """Distance and width, the strategy's own where none is given."""
        distance, width = OWN[strategy_of(self.strategy)]
        return distance if self.distance is None else self.distance, width if self.width is None else self.width


@dataclass(frozen=True, slots=True)
class SpreadCosts:
    """slippage: points a leg, at entry and at exit. commission, fee: USD a contract and leg, the latter of exchange and OCC.

    What settles in cash pays none of them again.
    """

    slippage: float = 0.05
    commission: float = 0.65
    fee: float = 0.65

    def __post_init__(self) -> None:
        for name in ("slippage", "commission", "fee"):
            if not 0 <= getattr(self, name) < 1e3:
                raise InputError(f"costs.{name}: {getattr(self, name)} is outside 0 … 1000")


@dataclass(frozen=True, slots=True)
class SpreadTrade:
    """A spread sold and closed. entered, left: rows of the day's points. credit: points, slippage taken off.

    result: USD a contract, all costs in it. max_loss: USD a contract without costs, width less credit.
    """

    day: int
    entered: int
    left: int
    spread: Spread
    credit: float
    result: Fraction
    exit: Exit
    contracts: int = 0

    @property
    def max_loss(self) -> float:
        """USD a contract, before costs."""
        return (self.spread.width - self.credit) * SHARES


def sell(days: IndexDays, day: int, entered: int, rules: SpreadRules, costs: SpreadCosts, smile: Smile) -> SpreadTrade | None:
    """One spread of a day, sold at a point of its path and followed to its exit; None where the rules do not sell."""
    vix, spot = float(days.vix[day, entered]), float(days.spot[day, entered])
    if not rules.vix_least <= vix <= rules.vix_most:
        return None
    years: Array = (SESSION - days.minutes[entered:]) / SESSION * smile.session / TRADING_DAYS
    deviation = spot * smile.level * vix / 100 * np.sqrt(years[0])
    distance, width = rules.shape
    spread = spread_of(rules.strategy, spot, distance=distance * deviation, width=width)
    worth = np.clip(spread.cost(days.spot[day, entered:], years, days.vix[day, entered:], smile), 0.0, spread.width)
    slipped = costs.slippage * len(spread.legs)
    credit = float(worth[0]) - slipped
    if not rules.credit_least <= credit < spread.width:
        return None
    step, why = _exit(credit, np.minimum(worth + slipped, spread.width), days.minutes[entered:], rules)
    why = "expired" if why == "settled" and worth[-1] <= 0 else why
    orders = 1 if why in ("expired", "settled") else 2
    paid = float(worth[-1]) if orders == 1 else float(min(worth[step] + slipped, spread.width))
    fees = orders * len(spread.legs) * (costs.commission + costs.fee)
    result = round(Fraction((credit - paid) * SHARES - fees) / CENT) * CENT
    return SpreadTrade(day, entered, entered + step, spread, credit, result, why)


def _exit(credit: float, asked: Array, minutes: Array, rules: SpreadRules) -> tuple[int, Exit]:
    """The step at which a spread is left, and why. asked [K]: what buying it back costs at each point."""
    limits = [rules.stop_multiple and rules.stop_multiple * credit, rules.stop_usd and rules.stop_usd / SHARES]
    stop = min([limit for limit in limits if limit], default=np.inf)
    best, last = 0.0, len(asked) - 1
    for k in range(1, last):
        profit = credit - asked[k]
        if -profit >= stop:
            return k, "gap" if asked[k] - asked[k - 1] > stop else "stop"
        best = max(best, profit)
        if profit >= rules.held_at(minutes[k]) * credit:
            continue
        if rules.target is not None and profit >= rules.target * credit:
            return k, "target"
        armed = rules.trail_from is not None and best >= rules.trail_from * credit
        if armed and best - profit >= rules.trail_back * credit:
            return k, "trailing"
    return last, "settled"


def simulate(
    days: IndexDays, rules: Sequence[SpreadRules], costs: SpreadCosts, smile: Smile, sizing: AutoscalingSettings
) -> list[SpreadTrade]:
    """Every trade of the strategies in the order they were entered, sized by the autoscaler from what had closed by then.

    Where it says 0 contracts there is no trade.
    """
    balance = Fraction(str(sizing.STARTING_CAPITAL))
    history: list[Fraction] = []
    done: list[SpreadTrade] = []
    fall = Fall(balance)
    working: list[SpreadTrade] = []

    def book(until: int) -> None:
        """What has been left by a row of the path is closed."""
        nonlocal balance, fall, working
        for trade in sorted((t for t in working if t.left <= until), key=lambda t: t.left):
            balance += trade.contracts * trade.result
            fall = fall.after(balance, sizing)
            history.append(trade.result)
        working = [trade for trade in working if trade.left > until]

    for day in range(len(days.dates)):
        for entered, rule in _entries(days, rules):
            book(entered)
            sold = sell(days, day, entered, rule, costs, smile)
            if sold is None:
                continue
            window = Statistics.of(history[-sizing.ROLLING_WINDOW :], sizing.FEE_PER_CONTRACT)
            sized = contracts_for(balance, window, len(history), Fraction(str(sold.max_loss)), sizing, fall.in_force)
            if sized.number:
                working.append(replace(sold, contracts=sized.number))
                done.append(working[-1])
        book(len(days.minutes))
    return done


def _entries(days: IndexDays, rules: Sequence[SpreadRules]) -> list[tuple[int, SpreadRules]]:
    """(row of the path, rules) of every entry of a day, by time; an entry between two points is at the later one."""
    found = [(int(np.searchsorted(days.minutes, minute)), rule) for rule in rules for minute in rule.entries]
    return sorted((entry for entry in found if entry[0] < len(days.minutes) - 1), key=lambda entry: entry[0])
