"""HTML page of a backtest of spreads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.text import Text

from foundation.arrays import Array, Instants
from foundation.charts import Chart, Series, SeriesForm, build_histogram_chart
from foundation.formatting import (
    format_count,
    format_enumeration,
    format_number,
    format_percent,
    format_usd,
)
from foundation.page import Section, render_page
from foundation.tables import Table
from marketsimulator.results.metrics import returns_by_period
from marketsimulator.results.returns_page import (
    CHART_TIMEZONE,
    RUN_COLOUR_NAMES,
    curves_chart,
    drawdown_chart,
    drawdown_table,
    monthly_return_table,
    yearly_return_chart,
)
from marketsimulator.results.verdict import Verdict
from option_spreads.selling.rules import SESSION_MINUTES
from option_spreads.simulation.path import IndexPaths
from option_spreads.simulation.selling import SpreadAccountResult, SpreadTrade
from option_spreads.simulation.spread_report import (
    daily_profits,
    format_trading_stop,
    render_report,
)
from trainingdata.instants import new_york_four_pm

MAX_TRADES_SHOWN = 200  # trades on the chart of the index, the largest profits and losses
INDEX_DIGITS = 6  # significant digits of an index level in a chart
HISTOGRAM_BINS = 40
ONE_SIDED_95_QUANTILE = 1.645  # of the normal distribution
MINUTE = np.timedelta64(60, "s")


def render_spread_page(
    summary: Mapping[str, Any], account: SpreadAccountResult, days: IndexPaths
) -> str:
    """Render a backtest of spreads as one self-contained HTML page.

    summary: content of spreads.json.
    """
    report = list(render_report(summary))
    sentences = [str(part) for part in report if isinstance(part, Text)]
    (figures,) = [part for part in report if isinstance(part, Table)]
    stopped = format_trading_stop(summary)
    closes = new_york_four_pm(days.dates)
    marks = np.append(closes[:1] - SESSION_MINUTES * MINUTE, closes)
    daily = account.starting_balance + _cumulative_profits(account.trades, days)
    curve = marks, daily
    start = account.starting_balance
    months, years = (returns_by_period(unit, *curve, capital=start) for unit in "MY")
    return render_page(
        "foundation/page.html.j2",
        title=f"Spread backtest: {summary['first']} to {summary['last']}",
        subtitle=f"{days.source} · times are New York's, amounts are USD",
        verdict=_verdict(summary),
        warnings=[stopped] if stopped else [],
        notes=[summary["note"]],
        sections=[
            Section("Figures", [figures, *sentences[bool(stopped) : -1]]),
            Section(
                "Balance", [curves_chart("Balance in USD", ["balance"], [curve], "usd", format_usd)]
            ),
            Section(
                "Drawdown", [drawdown_chart(["balance"], [curve]), drawdown_table(marks, daily)]
            ),
            Section("Monthly returns", [monthly_return_table(months, years)], is_wide=False),
            Section(
                "Yearly returns",
                [yearly_return_chart(["account"], [years], RUN_COLOUR_NAMES)],
                "The first and last year may be partial.",
                is_wide=False,
            ),
            *(_trade_sections(account, days, marks) if account.trades else ()),
        ],
    )


def _verdict(summary: Mapping[str, Any]) -> Verdict:
    """Return the verdict: it is bad if trades lost significantly, and never good.

    Model prices are no evidence of a profit.
    """
    figures = summary["account"]
    mean, error = figures["mean"], figures["mean_error"]
    claim = (
        f"{format_percent(figures['total_return'], 1, sign=True)} in"
        f" {format_count(summary['days'], 'session')}"
    )
    if mean is None:
        return Verdict("open", f"{claim}: no spread was sold.", "")
    claim += (
        f"; mean result {format_number(mean, 1, sign=True)} ± {format_number(error, 1)} USD per"
        " contract."
    )
    if error is not None and mean + ONE_SIDED_95_QUANTILE * error < 0:
        return Verdict("bad", claim, "Trades lost money on average (one-sided 95 % bound).")
    return Verdict("open", claim, "No evidence of a profit: prices are those of a model.")


def _cumulative_profits(trades: Sequence[SpreadTrade], days: IndexPaths) -> Array:
    """Return the profit before the first day, which is 0, and up to each day, USD [D + 1]."""
    return np.concatenate([[0.0], np.cumsum(daily_profits(trades, days))])


def _trade_sections(
    account: SpreadAccountResult, days: IndexPaths, marks: Instants
) -> list[Section]:
    """Return the sections on trades: profit by strategy, results, and the index with its trades."""
    by_strategy: dict[str, list[SpreadTrade]] = {}
    for trade in account.trades:
        by_strategy.setdefault(trade.spread.strategy, []).append(trade)
    curves = [(marks, _cumulative_profits(trades, days)) for trades in by_strategy.values()]
    text = "Cumulative profit in USD"
    results = {
        name: np.array([float(trade.profit_per_contract) for trade in trades])
        for name, trades in by_strategy.items()
    }
    every = np.concatenate(list(results.values()))
    edges = np.linspace(every.min() - 1.0, every.max() + 1.0, HISTOGRAM_BINS + 1)
    return [
        Section(
            "Profit by strategy", [curves_chart(text, list(by_strategy), curves, "usd", format_usd)]
        ),
        Section(
            "Results",
            [build_histogram_chart("Profit and loss of a trade", results, edges, RUN_COLOUR_NAMES)],
            "Shares of each strategy's trades by USD per contract, after costs.",
        ),
        Section(
            "Index and trades",
            [_index_chart(account.trades, days)],
            "Triangles point down where a spread was sold and up where it ended. With many trades,"
            f" the {MAX_TRADES_SHOWN} with the largest profits and losses are marked; trades.csv"
            " has all.",
        ),
    ]


def _index_chart(trades: Sequence[SpreadTrade], days: IndexPaths) -> Chart:
    """Return the chart of the index with the entries and exits of trades, each with a note."""
    opens = new_york_four_pm(days.dates) - SESSION_MINUTES * MINUTE
    at = opens[:, None] + np.rint(days.minutes_since_open).astype(np.int64) * MINUTE
    level = Series("index", "first", at.ravel(), days.spot.ravel(), significant_digits=INDEX_DIGITS)
    largest = sorted(trades, key=lambda trade: abs(trade.total_profit))[-MAX_TRADES_SHOWN:]
    shown = sorted(largest, key=lambda trade: (trade.day_index, trade.entry_time_index))
    day = np.array([trade.day_index for trade in shown])

    def markers(
        name: str, colour: str, form: SeriesForm, time_indices: list[int], notes: list[str]
    ) -> Series:
        place = day, np.array(time_indices)
        order = np.argsort(at[place], kind="stable")
        x, values = at[place][order], days.spot[place][order]
        ordered_notes = [notes[k] for k in order.tolist()]
        return Series(
            name,
            colour,
            x,
            values,
            form,
            point_notes=ordered_notes,
            significant_digits=INDEX_DIGITS,
        )

    entries = [trade.entry_time_index for trade in shown], [_describe_entry(each) for each in shown]
    ends = [trade.exit_time_index for trade in shown], [_describe_exit(each) for each in shown]
    marks = markers("sold", "third", "down", *entries), markers("ended", "second", "up", *ends)
    exits = format_enumeration(sorted({trade.exit_reason for trade in trades}))
    text = f"Index with {format_count(len(trades), 'trade')}, {len(shown)} of which are marked"
    return Chart(f"{text}; exits: {exits}", (level.downsample(), *marks), "plain", CHART_TIMEZONE)


def _describe_entry(trade: SpreadTrade) -> str:
    return (
        f"sell {format_count(trade.contracts, 'contract')} {trade.spread.strategy}"
        f" {trade.spread.strikes_label} at {format_usd(trade.credit)}; maximum loss"
        f" {format_usd(trade.max_loss, 0)} per contract"
    )


def _describe_exit(trade: SpreadTrade) -> str:
    return (
        f"{trade.exit_reason}: {trade.spread.strategy} {trade.spread.strikes_label},"
        f" {format_count(trade.contracts, 'contract')}, {format_usd(trade.total_profit, sign=True)}"
    )
