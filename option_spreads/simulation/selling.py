"""Years of selling same-day index spreads, from the sale at a credit to the exit or the close.

Every day of an index path (`path.py`) a spread is offered at each entry time whose volatility index
fits. What it costs to buy back is looked at at every point of the path, and an order there gets the
price of that point: a gap through the stop is lost. A trade can lose the width less the credit, and
what getting out costs.

An account sells what is offered as the live seller does: one balance and one history of closed
trades, whatever the strategies. The autoscaler sizes each spread from what has closed by then, in
the order in which it closed. The collateral of all open spreads is held against the balance
together, and what is left covers the next one.

The rules are those of `option_spreads.selling.rules`, which the live seller follows step by step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Literal

import numpy as np

from execution.orders.option_orders import SHARES_PER_OPTION
from option_spreads.autoscaler.rules import (
    AutoscalingSettings,
    CondorRisk,
    TradeStatistics,
    count_contracts,
    max_risk,
)
from option_spreads.selling.rules import SESSION, Exit, Spread, SpreadCosts, SpreadRules
from option_spreads.simulation.path import IndexDays
from option_spreads.simulation.pricing import Smile, spread_prices

# Of the balance: what open spreads may come to, `guards.max_position` of a live account.
MAX_POSITION = 0.75

# Why an offer was not sold: a halt, trades that have lost (NEGATIVE_KELLY_CONTRACTS), a balance
# that covers no contract more, an order that would go beyond MAX_POSITION.
Unsold = Literal["halt", "negative_kelly", "not_covered", "max_position"]


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
    slippage: points by which its prices were worse than the model's values, whole cents against the
        trader among it.
    """

    day: int
    entry_row: int
    exit_row: int
    spread: Spread
    credit: float
    result: Fraction
    exit: Exit
    contracts: int = 0
    slippage: float = 0.0

    @property
    def orders(self) -> int:
        """How many it took: what is held to the close pays its settlement, and is not bought."""
        return 1 if self.exit in ("expired", "settled") else 2

    @property
    def total(self) -> Fraction:
        """USD of all contracts, in whole cents, as the files of an account have it."""
        return round(self.result * self.contracts, 2)

    @property
    def max_loss(self) -> float:
        """USD a contract, before costs: width less credit."""
        return (self.spread.width - self.credit) * SHARES_PER_OPTION


@dataclass(frozen=True, slots=True)
class Refusal:
    """An offer that was not sold.

    day: row of the path.
    reason: why.
    """

    day: int
    reason: Unsold


@dataclass(frozen=True, slots=True)
class SpreadAccount:
    """What an account has done.

    start: balance before the first trade, USD.
    trades: sold, in the order in which they closed, as the files of an account have them.
    refusals: offers that were not sold, in their order.
    cut: how many were sold in fewer contracts than sized, as the balance covered no more.
    most_collateral: USD held against open spreads at most.
    """

    start: float
    trades: tuple[SpreadTrade, ...]
    refusals: tuple[Refusal, ...]
    cut: int
    most_collateral: float


def sell_spread(
    days: IndexDays, day: int, entry_row: int, rules: SpreadRules, costs: SpreadCosts, smile: Smile
) -> SpreadTrade | None:
    """One spread of a day, sold at a point of its path and followed to its exit.

    None where the rules do not sell.
    """
    path = days.spot[day, entry_row:]
    vix = days.vix[day, entry_row:]
    minutes = days.minutes[entry_row:]
    years = smile.years(SESSION - minutes)
    spot = float(path[0])
    vix_at_entry = float(vix[0])
    deviation = smile.deviation(spot, vix_at_entry, float(minutes[0]))
    spread = rules.spread(spot, vix_at_entry, deviation)
    if spread is None:
        return None
    values, credits, closing_costs = spread_prices(spread, path, years, vix, smile, costs.slippage)
    credit = float(credits[0])
    if not rules.sells_for(credit, spread):
        return None
    settlement = round(spread.settles_at(float(path[-1])), 2)
    step, reason = _exit(credit, closing_costs.tolist(), minutes.tolist(), rules)
    # A spread that is held to the close pays its settlement and the fees of one order; one that is
    # bought back pays the price of that point and the fees of a second order.
    orders = 2
    payment = float(closing_costs[step])
    slippage = float(values[0]) - credit + payment - float(values[step])
    if reason is None:
        reason = "settled" if settlement > 0 else "expired"
        orders = 1
        payment = settlement
        slippage = float(values[0]) - credit
    # Results are exact fractions: a whole number of contracts must not hang on a rounding.
    gain = (Fraction(str(credit)) - Fraction(str(payment))) * SHARES_PER_OPTION
    fees = Fraction(costs.fees(spread, orders))
    return SpreadTrade(
        day, entry_row, entry_row + step, spread, credit, gain - fees, reason, slippage=slippage
    )


def offered_spreads(
    days: IndexDays, rules: Sequence[SpreadRules], costs: SpreadCosts, smile: Smile
) -> list[SpreadTrade]:
    """What every entry of the strategies offers, in the order that the live seller looks at them.

    That is by time, then as the rules stand, all on the same path. None is sized yet.
    """
    entries = _entries(days, rules)
    offers = []
    for day in range(len(days.dates)):
        for entry_row, rule in entries:
            offer = sell_spread(days, day, entry_row, rule, costs, smile)
            if offer is not None:
                offers.append(offer)
    return offers


def spread_account(
    offers: Iterable[SpreadTrade], sizing: AutoscalingSettings, max_position: float = MAX_POSITION
) -> SpreadAccount:
    """The account that is offered these spreads, in the order in which they are entered.

    max_position: collateral of all open spreads, as a share of the balance, beyond which nothing is
        sold.
    """
    book = _Book(sizing, Fraction(str(max_position)))
    refusals = []
    for offer in offers:
        book.close_until(offer.day, offer.entry_row)
        if reason := book.enter(offer):
            refusals.append(Refusal(offer.day, reason))
    book.close_all()
    return SpreadAccount(
        sizing.STARTING_CAPITAL,
        tuple(book.closed),
        tuple(refusals),
        book.cut,
        float(book.most_collateral),
    )


class _Book:
    """An account as it goes along a path."""

    def __init__(self, sizing: AutoscalingSettings, max_position: Fraction) -> None:
        self.closed: list[SpreadTrade] = []
        self.cut = 0
        self.most_collateral = Fraction(0)
        self._sizing = sizing
        self._max_position = max_position
        self._balance = Fraction(str(sizing.STARTING_CAPITAL))
        self._results: list[Fraction] = []
        self._statistics = TradeStatistics.from_results([], sizing.FEE_PER_CONTRACT)
        self._open: list[SpreadTrade] = []

    def enter(self, offer: SpreadTrade) -> Unsold | None:
        """Sell an offer, in as many contracts as are sized and covered; else why it is not sold."""
        spread = offer.spread
        # A size may rest on closed trades alone.
        size = count_contracts(
            self._balance,
            self._statistics,
            len(self._results),
            _risk(spread.strategy, offer.credit, spread.width, self._sizing.CONDOR_RISK),
            self._sizing,
        )
        if size.number == 0:
            return "halt" if size.halted else "negative_kelly"
        held = sum(
            (Fraction(trade.spread.collateral) * trade.contracts for trade in self._open),
            Fraction(0),
        )
        contracts = min(size.number, spread.covered(self._balance - held))
        if contracts == 0:
            return "not_covered"
        held += Fraction(spread.collateral) * contracts
        # The guard of a live account denies the whole order: it makes none smaller.
        if held > self._max_position * self._balance:
            return "max_position"
        self.cut += contracts < size.number
        self.most_collateral = max(self.most_collateral, held)
        self._open.append(replace(offer, contracts=contracts))
        return None

    def close_until(self, day: int, row: int) -> None:
        """Book what has been left by a point of the path, in the order in which it was left."""
        ended = [trade for trade in self._open if (trade.day, trade.exit_row) <= (day, row)]
        if not ended:
            return
        self._open = [trade for trade in self._open if (trade.day, trade.exit_row) > (day, row)]
        # What was left at the same point is booked as it was entered: the seller looks at what is
        # open in that order.
        for trade in sorted(ended, key=lambda trade: (trade.day, trade.exit_row)):
            self._balance += trade.total
            self._results.append(trade.total / trade.contracts)
            self.closed.append(trade)
        window = self._results[-self._sizing.ROLLING_WINDOW :]
        self._statistics = TradeStatistics.from_results(window, self._sizing.FEE_PER_CONTRACT)

    def close_all(self) -> None:
        """Book what is open at the end of the path: same-day options end with their session."""
        for trade in self._open[-1:]:
            self.close_until(trade.day + 1, 0)


@cache
def _risk(strategy: str, credit: float, width: float, condor: CondorRisk) -> Fraction:
    """USD that one contract can lose; credits are whole cents, and few of them differ."""
    return Fraction(str(max_risk(strategy, credit, width, condor)))


def _exit(
    credit: float, closing_costs: Sequence[float], minutes: Sequence[float], rules: SpreadRules
) -> tuple[int, Exit | None]:
    """The step at which a spread is left, and why; the last and None where it is held.

    closing_costs [K]: points that buying it back costs. minutes [K]: since 09:30.
    """
    best = 0.0
    # At the last point the session is over: nothing is bought back there any more.
    for k in range(1, len(closing_costs) - 1):
        cost = closing_costs[k]
        best = max(best, credit - cost)
        reason = rules.exit(credit, cost, closing_costs[k - 1], best, minutes[k])
        if reason is not None:
            return k, reason
    return len(closing_costs) - 1, None


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
