"""Backtest of selling same-day index spreads, from the sale at a credit to the exit or the close.

On every day of an index path (`path.py`), each entry time with a volatility index within bounds
yields a candidate trade. The exit rules check the cost of buying back at every point of the path,
and an exit pays the price of that point: a gap through the stop is lost. A trade can lose the width
less the credit, plus the costs of closing.

An account sells the candidates as the live seller does, with one balance and one history of closed
trades for all strategies. The autoscaler sizes each spread from the trades closed so far, in the
order of their closing. The balance less the collateral of all open spreads covers the next spread.

Entry and exit rules are those of the live seller, `option_spreads.selling.rules`.
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
    CondorRiskMethod,
    TradeStatistics,
    compute_max_risk,
    count_contracts,
)
from option_spreads.selling.rules import (
    SESSION_MINUTES,
    ExitReason,
    Spread,
    SpreadCosts,
    SpreadRules,
    find_opposite_leg,
)
from option_spreads.simulation.path import IndexPaths
from option_spreads.simulation.pricing import Smile, compute_spread_prices

# Limit of open spreads as a share of the balance; `guards.max_position` of a live account.
MAX_COLLATERAL_SHARE = 0.75

# Reasons for an unsold offer: a halt, losing trades (NEGATIVE_KELLY_CONTRACTS), a balance that
# covers no further contract, an order beyond MAX_POSITION, a leg opposite to an open one.
RefusalReason = Literal["halt", "negative_kelly", "not_covered", "max_position", "opposite_leg"]


@dataclass(frozen=True, slots=True)
class SpreadTrade:
    """A simulated trade: a spread from its sale to its exit.

    day_index: index of the day in the path.
    entry_time_index: index of the point of the day at which the spread was sold.
    exit_time_index: index of the point of the day at which it was bought back; the last one at
        expiry.
    spread: strikes and sides of the legs.
    credit: credit of the sale after slippage, points.
    profit_per_contract: P/L after all costs, USD per contract.
    exit_reason: reason of the exit.
    contracts: number of contracts; 0 before sizing.
    slippage: points by which the prices were worse than the model's values, including rounding to
        cents against the trader.
    """

    day_index: int
    entry_time_index: int
    exit_time_index: int
    spread: Spread
    credit: float
    profit_per_contract: Fraction
    exit_reason: ExitReason
    contracts: int = 0
    slippage: float = 0.0

    @property
    def order_count(self) -> int:
        """Return the number of orders of the trade: 1 if it was held to settlement, otherwise 2."""
        return 1 if self.exit_reason in ("expired", "settled") else 2

    @property
    def total_profit(self) -> Fraction:
        """Return the P/L of all contracts in USD, rounded to cents as in the account files."""
        return round(self.profit_per_contract * self.contracts, 2)

    @property
    def max_loss(self) -> float:
        """Return the maximum loss before costs, USD per contract: width less credit."""
        return (self.spread.width - self.credit) * SHARES_PER_OPTION


@dataclass(frozen=True, slots=True)
class RefusedTrade:
    """A candidate trade that the account did not take.

    day_index: index of the day in the path.
    reason: reason of the refusal.
    """

    day_index: int
    reason: RefusalReason


@dataclass(frozen=True, slots=True)
class SpreadAccountResult:
    """Result of the simulation of an account that sells spreads.

    starting_balance: balance before the first trade, USD.
    trades: trades in the order of their closing, as in the account files.
    refused_trades: candidate trades that were not sold, in the order of their entries.
    downsized_trade_count: number of trades with fewer contracts than sized, because the balance
        covered no more.
    max_collateral: highest collateral of the open spreads at any time, USD.
    """

    starting_balance: float
    trades: tuple[SpreadTrade, ...]
    refused_trades: tuple[RefusedTrade, ...]
    downsized_trade_count: int
    max_collateral: float


def simulate_spread_trade(
    days: IndexPaths,
    day_index: int,
    entry_time_index: int,
    rules: SpreadRules,
    costs: SpreadCosts,
    smile: Smile,
) -> SpreadTrade | None:
    """Simulate one spread from its sale at a point of a day's path to its exit.

    Return the trade, unsized; None if the rules reject the sale.

    day_index, entry_time_index: indices of the day and of the point of sale in the path.
    """
    path = days.spot[day_index, entry_time_index:]
    vix = days.vix[day_index, entry_time_index:]
    minutes = days.minutes_since_open[entry_time_index:]
    years = smile.remaining_variance_years(SESSION_MINUTES - minutes)
    spot = float(path[0])
    vix_at_entry = float(vix[0])
    deviation = smile.standard_deviation_to_close(spot, vix_at_entry, float(minutes[0]))
    spread = rules.propose_spread(spot, vix_at_entry, deviation)
    if spread is None:
        return None
    values, credits, closing_costs = compute_spread_prices(
        spread, path, years, vix, smile, costs.slippage
    )
    credit = float(credits[0])
    if not rules.accepts_credit(credit, spread):
        return None
    settlement = round(spread.settlement_value(float(path[-1])), 2)
    step, reason = _find_exit(credit, closing_costs.tolist(), minutes.tolist(), rules)
    # A spread held to the close pays its settlement and the fees of one order; one that is bought
    # back pays the price of that point and the fees of a second order.
    orders = 2
    payment = float(closing_costs[step])
    slippage = float(values[0]) - credit + payment - float(values[step])
    if reason is None:
        reason = "settled" if settlement > 0 else "expired"
        orders = 1
        payment = settlement
        slippage = float(values[0]) - credit
    # Results are exact fractions: a whole number of contracts must not depend on rounding.
    gain = (Fraction(str(credit)) - Fraction(str(payment))) * SHARES_PER_OPTION
    fees = Fraction(costs.compute_fees(spread, orders))
    return SpreadTrade(
        day_index,
        entry_time_index,
        entry_time_index + step,
        spread,
        credit,
        gain - fees,
        reason,
        slippage=slippage,
    )


def list_candidate_trades(
    days: IndexPaths, rules: Sequence[SpreadRules], costs: SpreadCosts, smile: Smile
) -> list[SpreadTrade]:
    """Return the unsized candidate trades of all strategies, in the live seller's order.

    The order is by entry time, then by the order of `rules`. All strategies share one path.
    """
    entries = _list_entries(days, rules)
    offers = []
    for day in range(len(days.dates)):
        for entry_row, rule in entries:
            offer = simulate_spread_trade(days, day, entry_row, rule, costs, smile)
            if offer is not None:
                offers.append(offer)
    return offers


def simulate_spread_account(
    candidates: Iterable[SpreadTrade],
    sizing_settings: AutoscalingSettings,
    max_collateral_share: float = MAX_COLLATERAL_SHARE,
) -> SpreadAccountResult:
    """Simulate the account over these candidate trades, in order of entry.

    max_collateral_share: limit on the collateral of all open spreads, as a share of the balance.
    """
    book = _SimulatedAccount(sizing_settings, Fraction(str(max_collateral_share)))
    refusals = []
    for offer in candidates:
        book.close_until(offer.day_index, offer.entry_time_index)
        if reason := book.enter_trade(offer):
            refusals.append(RefusedTrade(offer.day_index, reason))
    book.close_all()
    return SpreadAccountResult(
        sizing_settings.STARTING_CAPITAL,
        tuple(book.closed),
        tuple(refusals),
        book.cut,
        float(book.most_collateral),
    )


class _SimulatedAccount:
    """Balance, closed trades and open spreads of an account while a path is simulated."""

    def __init__(self, sizing: AutoscalingSettings, max_position: Fraction) -> None:
        self.closed: list[SpreadTrade] = []
        self.cut = 0
        self.most_collateral = Fraction(0)
        self._sizing = sizing
        self._max_position = max_position
        self._balance = Fraction(str(sizing.STARTING_CAPITAL))
        self._results: list[Fraction] = []
        self._statistics = TradeStatistics.from_profits([], sizing.FEE_PER_CONTRACT)
        self._open_trades: list[SpreadTrade] = []

    def enter_trade(self, offer: SpreadTrade) -> RefusalReason | None:
        """Size and sell a candidate trade; return None, or the reason why it was not sold."""
        spread = offer.spread
        if find_opposite_leg(spread, (trade.spread for trade in self._open_trades)) is not None:
            return "opposite_leg"
        # A size may depend on closed trades only.
        size = count_contracts(
            self._balance,
            self._statistics,
            len(self._results),
            _max_loss_per_contract(
                spread.strategy, offer.credit, spread.width, self._sizing.CONDOR_RISK
            ),
            self._sizing,
        )
        if size.contracts == 0:
            return "halt" if size.is_halted else "negative_kelly"
        held = sum(
            (Fraction(trade.spread.collateral) * trade.contracts for trade in self._open_trades),
            Fraction(0),
        )
        contracts = min(size.contracts, spread.affordable_contracts(self._balance - held))
        if contracts == 0:
            return "not_covered"
        held += Fraction(spread.collateral) * contracts
        # The guard of a live account denies the whole order instead of reducing it.
        if held > self._max_position * self._balance:
            return "max_position"
        self.cut += contracts < size.contracts
        self.most_collateral = max(self.most_collateral, held)
        self._open_trades.append(replace(offer, contracts=contracts))
        return None

    def close_until(self, day: int, row: int) -> None:
        """Book the trades that exited up to a point of the path, in the order of their exits."""
        ended = [
            trade
            for trade in self._open_trades
            if (trade.day_index, trade.exit_time_index) <= (day, row)
        ]
        if not ended:
            return
        self._open_trades = [
            trade
            for trade in self._open_trades
            if (trade.day_index, trade.exit_time_index) > (day, row)
        ]
        # Exits at the same point are booked in the order of their entries, as the seller follows
        # them.
        for trade in sorted(ended, key=lambda trade: (trade.day_index, trade.exit_time_index)):
            self._balance += trade.total_profit
            self._results.append(trade.total_profit / trade.contracts)
            self.closed.append(trade)
        window = self._results[-self._sizing.ROLLING_WINDOW :]
        self._statistics = TradeStatistics.from_profits(window, self._sizing.FEE_PER_CONTRACT)

    def close_all(self) -> None:
        """Book the remaining open trades at the end of the path; same-day options have expired."""
        for trade in self._open_trades[-1:]:
            self.close_until(trade.day_index + 1, 0)


@cache
def _max_loss_per_contract(
    strategy: str, credit: float, width: float, condor: CondorRiskMethod
) -> Fraction:
    """Return the maximum loss of one contract, USD; cached, because many credits are equal."""
    return Fraction(str(compute_max_risk(strategy, credit, width, condor)))


def _find_exit(
    credit: float, closing_costs: Sequence[float], minutes: Sequence[float], rules: SpreadRules
) -> tuple[int, ExitReason | None]:
    """Return (index of the exit's point, reason); the last point and None if held to the close.

    closing_costs: [K], cost of buying the spread back, points.
    minutes: [K], minutes after 09:30.
    """
    best = 0.0
    # At the last point the session is over: nothing can be bought back.
    for k in range(1, len(closing_costs) - 1):
        cost = closing_costs[k]
        best = max(best, credit - cost)
        reason = rules.find_exit_reason(credit, cost, closing_costs[k - 1], best, minutes[k])
        if reason is not None:
            return k, reason
    return len(closing_costs) - 1, None


def _list_entries(days: IndexPaths, rules: Sequence[SpreadRules]) -> list[tuple[int, SpreadRules]]:
    """Return (row of the path, rules) for every entry of a day, in the order of time.

    An entry between two points of the path takes place at the later point. Entries from
    `last_entry_minute` on are left out.
    """
    entries = []
    for rule in rules:
        for minute in rule.entry_minutes:
            row = int(np.searchsorted(days.minutes_since_open, minute))
            if days.minutes_since_open[row] < rule.last_entry_minute:
                entries.append((row, rule))
    return sorted(entries, key=lambda entry: entry[0])
