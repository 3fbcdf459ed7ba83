"""Report of a backtest of spreads: performance figures, table and file of trades."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
from rich.console import RenderableType
from rich.text import Text

from execution.orders.option_orders import SHARES_PER_OPTION
from foundation.arrays import Array
from foundation.formatting import NO_VALUE, format_count, format_number, format_percent, format_usd
from foundation.tables import Table
from option_spreads.autoscaler.trades import (
    TRADE_COLUMNS,
    ClosedTrade,
    build_entry_columns,
    format_csv,
)
from option_spreads.selling.rules import SpreadCosts
from option_spreads.simulation.path import IndexPaths
from option_spreads.simulation.resampled_accounts import sortino_ratios
from option_spreads.simulation.selling import RefusalReason, SpreadAccountResult, SpreadTrade

OPEN_MINUTE_OF_DAY = 570  # minute of the day, 09:30 New York
REFUSAL_TEXTS = {
    "halt": "because of a halt",
    "negative_kelly": "because of a negative Kelly fraction",
    "not_covered": "because the balance did not cover a contract",
    "max_position": "because they would exceed max_position",
    "opposite_leg": "because a leg would close one of an open spread",
}
TRADING_STOP_TEXTS = {  # refusals after which no offer can be sold
    "halt": "the safety halt (SAFETY_HALT_PCT)",
    "negative_kelly": "a negative Kelly fraction (NEGATIVE_KELLY_CONTRACTS=0)",
}


def compute_account_figures(account: SpreadAccountResult, days: IndexPaths) -> dict[str, Any]:
    """Return performance figures of an account, and counts of unsold candidates by reason."""
    reasons = [refusal.reason for refusal in account.refused_trades]
    halts = [refusal.day_index for refusal in account.refused_trades if refusal.reason == "halt"]
    return {
        **compute_performance_figures(account.trades, days, account.starting_balance),
        "offers": len(account.trades) + len(reasons),
        "unsold": {reason: reasons.count(reason) for reason in get_args(RefusalReason)},
        "cut_to_balance": account.downsized_trade_count,
        "most_collateral": account.max_collateral,
        "first_halt": str(days.dates[halts[0]]) if halts else None,
        "stopped": _find_trading_stop(account, days),
    }


def _find_trading_stop(account: SpreadAccountResult, days: IndexPaths) -> dict[str, Any] | None:
    """Return when and why an account stopped trading for good; None if it sold to the end.

    The account stopped if every candidate trade after the last sale was refused by a halt or
    because of a negative Kelly fraction.
    """
    last = max((trade.day_index for trade in account.trades), default=-1)
    later = [refusal for refusal in account.refused_trades if refusal.day_index > last]
    if not later or any(refusal.reason not in TRADING_STOP_TEXTS for refusal in later):
        return None
    since = (
        each
        for each in account.refused_trades
        if each.day_index >= last and each.reason in TRADING_STOP_TEXTS
    )
    first = next(since)
    return {
        "date": str(days.dates[first.day_index]),
        "reason": first.reason,
        "sessions_left": len(days.dates) - first.day_index,
    }


def compute_performance_figures(
    trades: Sequence[SpreadTrade], days: IndexPaths, starting_balance: float
) -> dict[str, Any]:
    """Return performance figures of an account's trades.

    Results of trades are USD per contract; balances and profits are USD of the account; rates are
    shares of 1. An undefined figure is None, such as the profit factor without a losing trade.

    trades: trades of one account.
    days: index paths on which the trades were simulated.
    starting_balance: balance before the first trade, USD.
    """
    daily = daily_profits(trades, days)
    # Balances before the first day, then at each end.
    balance = starting_balance + np.concatenate([[0.0], np.cumsum(daily)])
    ratio = float(sortino_ratios(daily, balance[:-1]))
    return {
        **compute_trade_figures(trades),
        "days_with_trades": len({trade.day_index for trade in trades}),
        "winning_days": int((daily > 0).sum()),
        "losing_days": int((daily < 0).sum()),
        "worst_day": float(daily.min()) if trades else None,
        "final_balance": float(balance[-1]),
        "total_return": float(balance[-1] / starting_balance - 1),
        "max_drawdown": float((1 - balance / np.maximum.accumulate(balance)).max()),
        "sortino": ratio if math.isfinite(ratio) else None,
    }


def compute_trade_figures(trades: Sequence[SpreadTrade]) -> dict[str, Any]:
    """Return figures of trades that need no balance, such as win rate and profit factor.

    trades: all trades of an account, or those of one strategy.
    """
    results = np.array([float(trade.profit_per_contract) for trade in trades])
    sizes = np.array([trade.contracts for trade in trades], dtype=float)
    exits = [trade.exit_reason for trade in trades]
    wins = results > 0
    won = sum((trade.total_profit for trade in trades if trade.total_profit > 0), Fraction(0))
    lost = -sum((trade.total_profit for trade in trades if trade.total_profit < 0), Fraction(0))
    return {
        "trades": len(trades),
        "win_rate": _mean(wins),
        "average_win": _mean(results[wins]),
        "average_loss": _mean(results[~wins]),
        "mean": _mean(results),
        "mean_error": _standard_error(results, [trade.day_index for trade in trades]),
        "worst": float(results.min()) if trades else None,
        "largest_possible_loss": max((trade.max_loss for trade in trades), default=None),
        "mean_contracts": _mean(sizes),
        "exits": {name: exits.count(name) / len(exits) for name in sorted(set(exits))},
        "profit": float(won - lost),
        "profit_factor": float(won / lost) if lost else None,
    }


def daily_profits(trades: Sequence[SpreadTrade], days: IndexPaths) -> Array:
    """Return the total profit of each day's trades, USD [D], rounded to cents."""
    daily = np.zeros(len(days.dates))
    np.add.at(
        daily,
        [trade.day_index for trade in trades],
        [float(trade.total_profit) for trade in trades],
    )
    # A day whose trades cancel out is neither won nor lost, although floats may not sum to 0.
    return np.round(daily, 2)


def _mean(values: npt.NDArray[Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def _standard_error(results: Array, entry_days: list[int]) -> float | None:
    """Return the standard error of the mean result; None for fewer than two days.

    Trades of a day share its index path, so that their results are dependent. Deviations from the
    mean are therefore summed for each day before they are squared; otherwise the error would be too
    small.

    results: result of each trade.
    entry_days: index of each trade's day.
    """
    count = len(set(entry_days))
    if count < 2:
        return None
    deviations = np.zeros(max(entry_days) + 1)
    np.add.at(deviations, entry_days, results - results.mean())
    return float(np.sqrt((deviations**2).sum() * count / (count - 1)) / len(results))


def compute_cost_figures(trades: Sequence[SpreadTrade], costs: SpreadCosts) -> dict[str, float]:
    """Return the trading costs of trades by kind and in total, USD of all contracts.

    The trades' results include these costs. `slippage` is the difference of prices from the model's
    values, rounded to cents per trade, so that strategies add up to the account. `commission` goes
    to the broker, `fee` to exchange and OCC.

    costs: cost settings of the trades.
    """
    broker = replace(costs, fee=0.0)
    commission = sum(
        (broker.compute_fees(t.spread, t.order_count) * t.contracts for t in trades), Decimal(0)
    )
    fees = sum(
        (costs.compute_fees(t.spread, t.order_count) * t.contracts for t in trades), Decimal(0)
    )
    cents = sum(round(t.slippage * SHARES_PER_OPTION * t.contracts * 100) for t in trades)
    slippage = Decimal(cents) / 100
    return {
        "slippage": float(slippage),
        "commission": float(commission),
        "fee": float(fees - commission),
        "total": float(slippage + fees),
    }


def render_report(summary: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Yield the table and the sentences of a backtest's report, in reading order.

    summary: the content of spreads.json.
    """
    account = summary["account"]
    if text := format_trading_stop(summary):
        yield Text(text)
    title = (
        f"{format_count(summary['days'], 'session')} of {summary['index']},"
        f" {summary['first']} to {summary['last']}"
    )
    parts = account["by_strategy"].items() if len(account["by_strategy"]) > 1 else ()
    balance = _format_balance_figures(account)
    columns = {"account": {**_format_trade_figures(account), **balance}}
    columns |= {
        name: {**_format_trade_figures(part), **dict.fromkeys(balance, "")} for name, part in parts
    }
    yield build_metrics_table(title, columns)
    yield Text(_format_unsold_counts(account))
    yield Text(
        "Amounts are USD per contract; costs, profit, worst day and collateral are USD of the"
        " account. Profit factor: gains of winning trades divided by losses of losing trades,"
        " in USD of the account. Slippage: difference of prices to the model's values,"
        " including rounding to cents."
    )
    yield Text(summary["note"])


def format_trades_csv(trades: Sequence[SpreadTrade], days: IndexPaths) -> str:
    """Format trades as the text of a trades.csv that the autoscaler can read.

    A trade's id has the live seller's format: strategy, day, minutes after the open. Further
    entries at the same point of the path have a number as suffix.
    """
    rows = []
    same: Counter[str] = Counter()
    for trade in trades:
        date = days.dates[trade.day_index]
        minute = days.minutes_since_open[trade.entry_time_index]
        name = f"{trade.spread.strategy}-{str(date).replace('-', '')}-{minute:03.0f}"
        same[name] += 1
        closed = ClosedTrade(
            name if same[name] == 1 else f"{name}-{same[name]}",
            trade.spread.strategy,
            trade.contracts,
            Decimal(f"{float(trade.total_profit):.2f}"),
            f"{date} {_format_clock_time(days.minutes_since_open[trade.exit_time_index])}",
            trade.exit_reason,
            build_entry_columns(
                f"{date} {_format_clock_time(minute)}",
                trade.spread.strikes_label,
                Decimal(str(trade.credit)),
            ),
        )
        rows.append(closed.to_csv_row())
    return format_csv(list(TRADE_COLUMNS), rows)


def build_metrics_table(title: str, columns: Mapping[str, Mapping[str, str]]) -> Table:
    """Return a table with one row per performance figure.

    columns: for each column heading, the formatted figures by label.
    """
    labels = next(iter(columns.values()))
    rows = [(label, *(texts[label] for texts in columns.values())) for label in labels]
    return Table(title, ("", *columns), rows)


def _format_clock_time(minutes: float) -> str:
    """Return the New York time of day at a number of minutes after the open, as HH:MM."""
    hours, rest = divmod(int(OPEN_MINUTE_OF_DAY + minutes), 60)
    return f"{hours:02d}:{rest:02d}"


def format_trading_stop(summary: Mapping[str, Any]) -> str:
    """Return a sentence if the account stopped trading before the end, else ""."""
    stopped = summary["account"]["stopped"]
    if stopped is None:
        return ""
    balance = format_usd(summary["account"]["final_balance"], 0)
    return (
        f"Stopped on {stopped['date']} at a balance of {balance}:"
        f" {TRADING_STOP_TEXTS[stopped['reason']]}. The last"
        f" {format_count(stopped['sessions_left'], 'session')} of {summary['days']:,}"
        " have no trades, but count in every figure below."
    )


def _format_unsold_counts(account: Mapping[str, Any]) -> str:
    """Return sentences with the counts of sold and unsold candidates, and the peak collateral."""
    unsold = [
        f"{count:,} {REFUSAL_TEXTS[name]}" for name, count in account["unsold"].items() if count
    ]
    text = f"{format_count(account['offers'], 'spread')} offered, {account['trades']:,} sold"
    if unsold:
        text += f"; not sold: {', '.join(unsold)}"
    if account["first_halt"]:
        text += f"; first halt on {account['first_halt']}"
    if account["cut_to_balance"]:
        text += f"; {account['cut_to_balance']:,} reduced to what the balance covered"
    return (
        f"{text}. Collateral of open spreads reached at most"
        f" {format_usd(account['most_collateral'], 0)}."
    )


def _format_balance_figures(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the main figures of an account as text, by label."""
    returned = format_percent(figures["total_return"], 1, sign=True)
    return {
        "losing days": f"{figures['losing_days']:,} of {figures['days_with_trades']:,}",
        "worst day": format_number(figures["worst_day"], 0, sign=True),
        "maximum collateral": format_usd(figures["most_collateral"], 0),
        "final balance": format_usd(figures["final_balance"], 0),
        "return, drawdown": f"{returned}, {format_percent(figures['max_drawdown'], 1)}",
        "Sortino": format_number(figures["sortino"]),
    }


def _format_trade_figures(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures of trades that need no balance as text, by label."""
    exits = figures["exits"]
    costs = figures["costs"]
    expired = exits.get("expired", 0) + exits.get("settled", 0)
    stopped = f"{format_percent(exits.get('stop', 0), 1)}, {format_percent(exits.get('gap', 0), 1)}"
    worst = format_number(figures["worst"], 0)
    possible = format_number(figures["largest_possible_loss"], 0)
    won = format_number(figures["average_win"], 0)
    lost = format_number(figures["average_loss"], 0)
    mean = format_number(figures["mean"], 1, sign=True)
    return {
        "trades": f"{figures['trades']:,}",
        "win rate": format_percent(figures["win_rate"], 1),
        "profit factor": _format_profit_factor(figures),
        "average win, loss": f"{won}, {lost}",
        "mean, standard error": f"{mean}, {format_number(figures['mean_error'], 1)}",
        "worst, possible": f"{worst}, {possible}",
        "stopped, gapped": stopped if exits else NO_VALUE,
        "held to the close": format_percent(expired, 1) if exits else NO_VALUE,
        "mean contracts": format_number(figures["mean_contracts"]),
        "cost of slippage": format_number(costs["slippage"], 0),
        "commission": format_number(costs["commission"], 0),
        "exchange, OCC": format_number(costs["fee"], 0),
        "profit": format_number(figures["profit"], 0, sign=True),
    }


def _format_profit_factor(figures: Mapping[str, Any]) -> str:
    """Return the profit factor as text, or the reason why it is undefined."""
    if not figures["trades"]:
        return f"{NO_VALUE}, no trade"
    if figures["profit_factor"] is None:
        return f"{NO_VALUE}, no loss"
    return format_number(figures["profit_factor"])
