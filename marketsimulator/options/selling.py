"""A year of selling same-day index spreads: entered at a credit, stopped, taken, trailed or held to
the close.

Every day of an index path (`path.py`) a spread is sold at each entry time whose volatility index
fits; what it costs to buy back is looked at at every point of the path, and an order there gets the
price of that point: a gap through the stop is lost. Contracts are sized by the autoscaler from the
trades closed by then. Losses reach width less credit, and what getting out costs. The rules are
those of `execution.spreads.rules`, which the live seller follows step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from execution.spreads.rules import (
    SESSION,
    TRADING_DAYS,
    Exit,
    Implied,
    Running,
    Spread,
    SpreadCosts,
    SpreadRules,
)
from foundation.arrays import Array
from marketsimulator.options.path import IndexDays
from marketsimulator.options.pricing import Smile, net
from sizing.autoscaler.rules import (
    SHARES,
    AutoscalingSettings,
    Fall,
    Statistics,
    contracts_for,
    max_risk,
)


@dataclass(frozen=True, slots=True)
class SpreadTrade:
    """A spread sold and closed. entered, left: rows of the day's points. credit: points, slippage
    taken off.

    result: USD a contract, all costs in it. max_loss: USD a contract without costs, width less
    credit.
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


def sell(
    days: IndexDays, day: int, entered: int, rules: SpreadRules, costs: SpreadCosts, smile: Smile
) -> SpreadTrade | None:
    """One spread of a day, sold at a point of its path and followed to its exit; None where the
    rules do not sell.
    """
    path = days.spot[day, entered:]
    vix = days.vix[day, entered:]
    years: Array = (SESSION - days.minutes[entered:]) / SESSION * smile.session / TRADING_DAYS
    spot = float(path[0])
    known = float(vix[0])
    spread = rules.spread(
        spot,
        known,
        Implied(smile.level, smile.session).deviation(spot, known, float(days.minutes[entered])),
    )
    if spread is None:
        return None
    credits, asked = net(spread, path, years, vix, smile, costs.slippage)
    credit = float(credits[0])
    if not rules.credit_least <= credit < spread.width:
        return None
    settles = round(spread.settles_at(float(path[-1])), 2)
    step, why = _exit(credit, asked.tolist(), days.minutes[entered:].tolist(), rules)
    if why is None:
        why = "settled" if settles > 0 else "expired"
    orders = 1 if why in ("expired", "settled") else 2
    paid = settles if orders == 1 else float(asked[step])
    result = (Fraction(str(credit)) - Fraction(str(paid))) * SHARES - Fraction(
        costs.fees(spread, orders)
    )
    return SpreadTrade(day, entered, entered + step, spread, credit, result, why)


def _exit(
    credit: float, asked: Sequence[float], minutes: Sequence[float], rules: SpreadRules
) -> tuple[int, Exit | None]:
    """The step at which a spread is left, and why; the last and None where it is held. asked
    [K]: what buying it back costs.
    """
    running = Running(credit, asked[0])
    for k in range(1, len(asked) - 1):
        running, why = running.after(asked[k], minutes[k], rules)
        if why is not None:
            return k, why
    return len(asked) - 1, None


def simulate_selling(
    days: IndexDays,
    rules: Sequence[SpreadRules],
    costs: SpreadCosts,
    smile: Smile,
    sizing: AutoscalingSettings,
) -> list[SpreadTrade]:
    """Every trade of the strategies in the order they were entered, sized by the autoscaler from
    what had closed by then.

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
            risk = max_risk(
                sold.spread.strategy, sold.credit, sold.spread.width, sizing.CONDOR_RISK
            )
            sized = contracts_for(
                balance, window, len(history), Fraction(str(risk)), sizing, fall.in_force
            )
            if sized.number:
                working.append(replace(sold, contracts=sized.number))
                done.append(working[-1])
        book(len(days.minutes))
    return done


def _entries(days: IndexDays, rules: Sequence[SpreadRules]) -> list[tuple[int, SpreadRules]]:
    """(row of the path, rules) of every entry of a day, by time; an entry between two points is
    at the later one.
    """
    found = [
        (int(np.searchsorted(days.minutes, minute)), rule)
        for rule in rules
        for minute in rule.entries
    ]
    return sorted(
        (entry for entry in found if days.minutes[entry[0]] < entry[1].latest),
        key=lambda entry: entry[0],
    )
