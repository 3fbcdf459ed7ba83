"""What people read of a run of selling spreads: its tables, its text report, its file of trades."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from foundation.counts import counted
from foundation.figures import NONE, number, percent, usd
from foundation.tables import Table
from foundation.terminal import Terminal
from option_spreads.autoscaler.trades import COLUMNS, ClosedTrade, csv_of, entry_columns
from option_spreads.simulation.path import IndexDays
from option_spreads.simulation.selling import SpreadTrade

OPENING_MINUTE = 570  # of the day, 09:30 New York
TOGETHER = "together"  # the account of all strategies
WIDTH = 120  # characters of a report's lines
UNSOLD = {
    "halt": "in a halt",
    "negative_kelly": "as trades have lost",
    "not_covered": "as the balance covered no contract",
    "max_position": "beyond max_position",
}


def report_parts(summary: Mapping[str, Any]) -> Iterator[RenderableType]:
    """The tables and sentences of a run, in the order in which they are read.

    summary: the content of spreads.json.
    """
    for years, span in summary["after"].items():
        first = "the first year" if years == "1" else f"the first {years} years"
        yield from _span_parts(summary, span, f", {first}")
    yield from _span_parts(summary, summary, "")
    if len(summary["strategies"]) > 1:
        yield Text(
            f"{TOGETHER}: one account that sells them all, within which each strategy did what the"
            " second table says. The other columns: each with an account to itself."
        )
    yield Text(
        "USD per contract where not said otherwise; costs, worst day and collateral in USD of the"
        " account. Profit factor: what winning trades won over what the others lost, in USD of the"
        " account. Slippage: what prices were worse than the model's values, rounding to cents"
        " among it."
    )
    yield Text(summary["note"])


def report_text(summary: Mapping[str, Any]) -> str:
    """The text of report.txt."""
    stream = io.StringIO()
    console = Terminal(WIDTH, file=stream, color_system=None, highlight=False)
    for part in report_parts(summary):
        console.print(part)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def trade_table(trades: Sequence[SpreadTrade], days: IndexDays) -> str:
    """The text of a file of closed trades, with the autoscaler's own columns.

    An id is the seller's: strategy, day, minutes from the open to the entry; of several entries at
    one point of the path the later ones have their number behind it.
    """
    rows = []
    same: Counter[str] = Counter()
    for trade in trades:
        date = days.dates[trade.day]
        minute = days.minutes[trade.entry_row]
        name = f"{trade.spread.strategy}-{str(date).replace('-', '')}-{minute:03.0f}"
        same[name] += 1
        closed = ClosedTrade(
            name if same[name] == 1 else f"{name}-{same[name]}",
            trade.spread.strategy,
            trade.contracts,
            Decimal(f"{float(trade.total):.2f}"),
            f"{date} {_clock_text(days.minutes[trade.exit_row])}",
            trade.exit,
            entry_columns(
                f"{date} {_clock_text(minute)}", trade.spread.strikes, Decimal(str(trade.credit))
            ),
        )
        rows.append(closed.row())
    return csv_of(list(COLUMNS), rows)


def figure_table(title: str, columns: Mapping[str, Mapping[str, str]]) -> Table:
    """A row for each figure; columns: the texts of the same figures by their label."""
    labels = next(iter(columns.values()))
    rows = [(label, *(texts[label] for texts in columns.values())) for label in labels]
    return Table(title, ("", *columns), rows)


def _clock_text(minutes: float) -> str:
    """Time of day in New York, so many minutes after the open."""
    hours, rest = divmod(int(OPENING_MINUTE + minutes), 60)
    return f"{hours:02d}:{rest:02d}"


def _span_parts(
    summary: Mapping[str, Any], span: Mapping[str, Any], which: str
) -> Iterator[RenderableType]:
    """The tables of the whole run, or of its first years; which: of them, for the title."""
    title = (
        f"{counted(span['days'], 'session')} of {summary['index']}{which},"
        f" {span['first']} to {span['last']}"
    )
    alone = span["strategies"]
    several = len(alone) > 1
    accounts = {TOGETHER: span["account"], **alone} if several else alone
    yield figure_table(title, {name: _figure_texts(each) for name, each in accounts.items()})
    if several:
        yield _shares_table(span["account"]["by_strategy"])
    yield Text(_unsold_text(span["account"]))


def _shares_table(parts: Mapping[str, Mapping[str, Any]]) -> Table:
    """What each strategy did within the account of all."""
    names = ("trades", "win rate", "mean, standard error", "mean contracts", "profit factor")
    rows = []
    for name, figures in parts.items():
        texts = _trade_texts(figures)
        profit = number(figures["profit"], 0, sign=True)
        cells = (texts[label] for label in names)
        rows.append((name, *cells, number(figures["costs"]["total"], 0), profit))
    return Table("", ("within the account", *names, "costs", "profit"), rows)


def _unsold_text(account: Mapping[str, Any]) -> str:
    """What the account was offered and did not sell."""
    unsold = [f"{count:,} {UNSOLD[name]}" for name, count in account["unsold"].items() if count]
    text = f"{counted(account['offers'], 'spread')} offered, {account['trades']:,} sold"
    if unsold:
        text += f"; not sold: {', '.join(unsold)}"
    if account["first_halt"]:
        text += f"; the first halt on {account['first_halt']}"
    if account["cut_to_balance"]:
        text += f"; {account['cut_to_balance']:,} cut to what the balance covered"
    return f"{text}. At most {usd(account['most_collateral'], 0)} were held against open spreads."


def _figure_texts(figures: Mapping[str, Any]) -> dict[str, str]:
    """The figures of an account that people look for, by label."""
    costs = figures["costs"]
    returned = percent(figures["total_return"], 1, sign=True)
    losing = f"{figures['losing_days']:,} of {figures['days_with_trades']:,}"
    return {
        **_trade_texts(figures),
        "losing days": losing,
        "worst day": number(figures["worst_day"], 0, sign=True),
        "cost of slippage": number(costs["slippage"], 0),
        "commission": number(costs["commission"], 0),
        "exchange, OCC": number(costs["fee"], 0),
        "most collateral": usd(figures["most_collateral"], 0),
        "final balance": usd(figures["final_balance"], 0),
        "return, drawdown": f"{returned}, {percent(figures['max_drawdown'], 1)}",
        "Sortino": number(figures["sortino"]),
    }


def _trade_texts(figures: Mapping[str, Any]) -> dict[str, str]:
    """The figures of trades that need no balance, by label."""
    exits = figures["exits"]
    expired = exits.get("expired", 0) + exits.get("settled", 0)
    stopped = f"{percent(exits.get('stop', 0), 1)}, {percent(exits.get('gap', 0), 1)}"
    worst = number(figures["worst"], 0)
    possible = number(figures["largest_possible_loss"], 0)
    won = number(figures["average_win"], 0)
    lost = number(figures["average_loss"], 0)
    mean = number(figures["mean"], 1, sign=True)
    return {
        "trades": f"{figures['trades']:,}",
        "win rate": percent(figures["win_rate"], 1),
        "profit factor": _profit_factor_text(figures),
        "average win, loss": f"{won}, {lost}",
        "mean, standard error": f"{mean}, {number(figures['mean_error'], 1)}",
        "worst, possible": f"{worst}, {possible}",
        "stopped, gapped": stopped if exits else NONE,
        "held to the close": percent(expired, 1) if exits else NONE,
        "mean contracts": number(figures["mean_contracts"]),
    }


def _profit_factor_text(figures: Mapping[str, Any]) -> str:
    """The profit factor, or why there is none."""
    if not figures["trades"]:
        return f"{NONE}, no trade"
    if figures["profit_factor"] is None:
        return f"{NONE}, no loss"
    return number(figures["profit_factor"])
