"""A year of selling same-day index spreads, from the sale at a credit to the exit or the close.

Every day of an index path (`path.py`) a spread is sold at each entry time whose volatility index
fits. What it costs to buy back is looked at at every point of the path, and an order there gets the
price of that point: a gap through the stop is lost. The autoscaler sizes every trade from those
that have closed by then. A trade can lose the width less the credit, and what getting out costs.

The rules are those of `execution.spreads.rules`, which the live seller follows step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from execution.spreads.rules import (
    SESSION,
    Exit,
    Running,
    Spread,
    SpreadCosts,
    SpreadRules,
)
from marketsimulator.options.path import IndexDays
from marketsimulator.options.pricing import Smile, spread_prices
from sizing.autoscaler.rules import (
    SHARES,
    AutoscalingSettings,
    Drawdown,
    Statistics,
    contracts_for,
    max_risk,
)


@dataclass(frozen=True, slots=True)
class SpreadTrade:
    """A spread sold and closed.

    day: row of the path.
    entry_row: point of the day at which it was sold.
    exit_row: point of the day at which it was bought back or held to, the last one.
    spread: what was sold.
    credit: points, slippage taken off.
    result: USD a contract, all costs in it.
    exit: why it ended.
    contracts: how many, 0 before it is sized.
    """

    day: int
    entry_row: int
    exit_row: int
    spread: Spread
    credit: float
    result: Fraction
    exit: Exit
    contracts: int = 0

    @property
    def max_loss(self) -> float:
        """USD a contract, before costs: width less credit."""
        return (self.spread.width - self.credit) * SHARES


def sell_spread(
    days: IndexDays, day: int, entry_row: int, rules: SpreadRules, costs: SpreadCosts, smile: Smile
) -> SpreadTrade | None:
    """One spread of a day, sold at a point of its path and followed to its exit.

    None where the rules do not sell.
    """
    path = days.spot[day, entry_row:]
    vix = days.vix[day, entry_row:]
    minutes = days.minutes[entry_row:]
    years = smile.implied.years(SESSION - minutes)
    spot = float(path[0])
    vix_at_entry = float(vix[0])
    deviation = smile.implied.deviation(spot, vix_at_entry, float(minutes[0]))
    spread = rules.spread(spot, vix_at_entry, deviation)
    if spread is None:
        return None
    credits, closing_costs = spread_prices(spread, path, years, vix, smile, costs.slippage)
    credit = float(credits[0])
    if not rules.credit_least <= credit < spread.width:
        return None
    settlement = round(spread.settles_at(float(path[-1])), 2)
    step, reason = _exit(credit, closing_costs.tolist(), minutes.tolist(), rules)
    # A spread that is held to the close pays its settlement and the fees of one order; one that is
    # bought back pays the price of that point and the fees of a second order.
    orders = 2
    payment = float(closing_costs[step])
    if reason is None:
        reason = "settled" if settlement > 0 else "expired"
        orders = 1
        payment = settlement
    # Results are exact fractions: a whole number of contracts must not hang on a rounding.
    gain = (Fraction(str(credit)) - Fraction(str(payment))) * SHARES
    result = gain - Fraction(costs.fees(spread, orders))
    return SpreadTrade(day, entry_row, entry_row + step, spread, credit, result, reason)


def _exit(
    credit: float, closing_costs: Sequence[float], minutes: Sequence[float], rules: SpreadRules
) -> tuple[int, Exit | None]:
    """The step at which a spread is left, and why; the last and None where it is held.

    closing_costs [K]: points that buying it back costs. minutes [K]: since 09:30.
    """
    running = Running(credit, closing_costs[0])
    # At the last point the session is over: nothing is bought back there any more.
    for k in range(1, len(closing_costs) - 1):
        running, reason = running.after(closing_costs[k], minutes[k], rules)
        if reason is not None:
            return k, reason
    return len(closing_costs) - 1, None


def simulate_selling(
    days: IndexDays,
    rules: Sequence[SpreadRules],
    costs: SpreadCosts,
    smile: Smile,
    sizing: AutoscalingSettings,
) -> list[SpreadTrade]:
    """Every trade of the strategies in the order they were entered, sized by the autoscaler.

    A trade is sized from what had closed by then. Where the autoscaler says 0 contracts there is no
    trade.
    """
    balance = Fraction(str(sizing.STARTING_CAPITAL))
    results: list[Fraction] = []
    trades: list[SpreadTrade] = []
    drawdown = Drawdown(balance)
    working: list[SpreadTrade] = []

    def close_until(row: int) -> None:
        """Book what has been left by a row of the path, in the order it was left."""
        nonlocal balance, drawdown, working
        ended = [trade for trade in working if trade.exit_row <= row]
        for trade in sorted(ended, key=lambda trade: trade.exit_row):
            balance += trade.contracts * trade.result
            drawdown = drawdown.after(balance, sizing)
            results.append(trade.result)
        working = [trade for trade in working if trade.exit_row > row]

    for day in range(len(days.dates)):
        for entry_row, rule in _entries(days, rules):
            # A size may rest on closed trades alone: what still works has no result yet.
            close_until(entry_row)
            trade = sell_spread(days, day, entry_row, rule, costs, smile)
            if trade is None:
                continue
            spread = trade.spread
            statistics = Statistics.of(results[-sizing.ROLLING_WINDOW :], sizing.FEE_PER_CONTRACT)
            risk = max_risk(spread.strategy, trade.credit, spread.width, sizing.CONDOR_RISK)
            size = contracts_for(
                balance, statistics, len(results), Fraction(str(risk)), sizing, drawdown.in_force
            )
            if size.number:
                working.append(replace(trade, contracts=size.number))
                trades.append(working[-1])
        # Same-day options: whatever is still open ends with the session.
        close_until(len(days.minutes))
    return trades


def _entries(days: IndexDays, rules: Sequence[SpreadRules]) -> list[tuple[int, SpreadRules]]:
    """(row of the path, rules) of every entry of a day, by time.

    An entry between two points is at the later one.
    """
    entries = []
    for rule in rules:
        for minute in rule.entries:
            row = int(np.searchsorted(days.minutes, minute))
            if days.minutes[row] < rule.latest:
                entries.append((row, rule))
    return sorted(entries, key=lambda entry: entry[0])
