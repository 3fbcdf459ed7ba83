"""What a run of selling spreads did: figures of its trades, of its balance and of its costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from execution.option_orders import SHARES
from foundation.arrays import Array
from option_spreads.selling.rules import SpreadCosts
from option_spreads.simulation.account_figures import sortino
from option_spreads.simulation.path import IndexDays
from option_spreads.simulation.selling import SpreadAccount, SpreadTrade, Unsold


def account_figures(account: SpreadAccount, days: IndexDays) -> dict[str, Any]:
    """What an account did: `figures`, and what was offered to it that it did not sell."""
    reasons = [refusal.reason for refusal in account.refusals]
    halts = [refusal.day for refusal in account.refusals if refusal.reason == "halt"]
    return {
        **figures(account.trades, days, account.start),
        "offers": len(account.trades) + len(reasons),
        "unsold": {reason: reasons.count(reason) for reason in get_args(Unsold)},
        "cut_to_balance": account.cut,
        "most_collateral": account.most_collateral,
        "first_halt": str(days.dates[halts[0]]) if halts else None,
    }


def figures(trades: Sequence[SpreadTrade], days: IndexDays, start: float) -> dict[str, Any]:
    """What trades did: results in USD a contract, balances and profits in USD, shares of trades.

    A figure of which there is nothing is None, as the profit factor where no trade lost.

    trades: of one account.
    days: the path that they were made on.
    start: balance before the first trade, USD.
    """
    daily = _daily_profits(trades, days)
    balance = daily_balances(trades, days, start)
    ratio = float(sortino(daily, balance[:-1]))
    return {
        **trade_figures(trades),
        "days_with_trades": len({trade.day for trade in trades}),
        "winning_days": int((daily > 0).sum()),
        "losing_days": int((daily < 0).sum()),
        "worst_day": float(daily.min()) if trades else None,
        "final_balance": float(balance[-1]),
        "total_return": float(balance[-1] / start - 1),
        "max_drawdown": float((1 - balance / np.maximum.accumulate(balance)).max()),
        "sortino": ratio if math.isfinite(ratio) else None,
    }


def trade_figures(trades: Sequence[SpreadTrade]) -> dict[str, Any]:
    """The figures of trades that need no balance, for a part of an account's as well."""
    results = np.array([float(trade.result) for trade in trades])
    sizes = np.array([trade.contracts for trade in trades], dtype=float)
    exits = [trade.exit for trade in trades]
    wins = results > 0
    won = sum((trade.total for trade in trades if trade.total > 0), Fraction(0))
    lost = -sum((trade.total for trade in trades if trade.total < 0), Fraction(0))
    return {
        "trades": len(trades),
        "win_rate": _mean(wins),
        "average_win": _mean(results[wins]),
        "average_loss": _mean(results[~wins]),
        "mean": _mean(results),
        "mean_error": _mean_error(results, [trade.day for trade in trades]),
        "worst": float(results.min()) if trades else None,
        "largest_possible_loss": max((trade.max_loss for trade in trades), default=None),
        "mean_contracts": _mean(sizes),
        "exits": {name: exits.count(name) / len(exits) for name in sorted(set(exits))},
        "profit": float(won - lost),
        "profit_factor": float(won / lost) if lost else None,
    }


def daily_balances(trades: Sequence[SpreadTrade], days: IndexDays, start: float) -> Array:
    """Balances, USD [D + 1]: before the first day, and at the end of each."""
    return start + np.concatenate([[0.0], np.cumsum(_daily_profits(trades, days))])


def _daily_profits(trades: Sequence[SpreadTrade], days: IndexDays) -> Array:
    """Profit of each day, USD [D], to the cent."""
    daily = np.zeros(len(days.dates))
    np.add.at(daily, [trade.day for trade in trades], [float(trade.total) for trade in trades])
    # A day whose trades cancel out is neither won nor lost, whatever the sum of its floats.
    return np.round(daily, 2)


def _mean(values: npt.NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def _mean_error(results: Array, entry_days: list[int]) -> float | None:
    """Standard error of the mean result; None for fewer than two days.

    Trades of a day share its path, so their deviations are added up before they are squared. Taken
    as independent, they would make the error too small.
    """
    count = len(set(entry_days))
    if count < 2:
        return None
    deviations = np.zeros(max(entry_days) + 1)
    np.add.at(deviations, entry_days, results - results.mean())
    return float(np.sqrt((deviations**2).sum() * count / (count - 1)) / len(results))


def cost_figures(trades: Sequence[SpreadTrade], costs: SpreadCosts) -> dict[str, float]:
    """Costs of trades by kind and in all, USD of all contracts; their results hold them.

    `slippage` is what prices were worse than the model's values, in whole cents a trade, so that
    the parts of an account add up; `commission` is the broker's, `fee` that of exchange and OCC.

    costs: that the trades were made with.
    """
    broker = replace(costs, fee=0.0)
    commission = sum((broker.fees(t.spread, t.orders) * t.contracts for t in trades), Decimal(0))
    fees = sum((costs.fees(t.spread, t.orders) * t.contracts for t in trades), Decimal(0))
    cents = sum(round(t.slippage * SHARES * t.contracts * 100) for t in trades)
    slippage = Decimal(cents) / 100
    return {
        "slippage": float(slippage),
        "commission": float(commission),
        "fee": float(fees - commission),
        "total": float(slippage + fees),
    }
