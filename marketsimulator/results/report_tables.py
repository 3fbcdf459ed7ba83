"""Tables of a backtest's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from forecasting.forecast import NO_FORECAST
from foundation.arrays import Array
from foundation.decimals import round_parts_to_cents, round_table_to_cents, to_cents
from foundation.formatting import (
    NO_VALUE,
    NumberFormatter,
    format_basis_points,
    format_interval,
    format_minute,
    format_number,
    format_percent,
    format_quantity,
    format_rounded_price,
    format_usd,
)
from foundation.tables import Cell, Row, Table
from marketsimulator.results.attribution import PROFIT_PARTS, ProfitPart
from marketsimulator.results.metrics import FIGURE_FORMATS, format_figure
from marketsimulator.results.order_reasons import short_reasons_by_order
from marketsimulator.results.report_charts import weight_sparkline
from marketsimulator.results.round_trips import RoundTrip, round_trip_statistics
from marketsimulator.results.verdict import RANDOM_WALK, benchmark_label
from trainingdata.instants import NEW_YORK

MAX_ORDERS_SHOWN = 150  # orders on the page; the file has all
MAX_ROUND_TRIPS_SHOWN = 150  # round trips on the page
QUANTITY_DIGITS = 6  # significant digits of quantities
MIN_PROFIT_WITHOUT_CENTS = 1000.0  # USD of a round trip from which statistics omit cents
COST_LABELS = {
    "spread": "spread",
    "slippage": "slippage",
    "fees": "fees",
    "crypto_fees": "crypto fees, paid in crypto",
    "interest": "margin interest",
    "borrow": "borrow fees of shorts",
}


def format_run_period(summary: dict[str, Any]) -> str:
    """Return the period of the run as text: its first and last New York date."""
    first, last = (
        pd.Timestamp(summary[key]).tz_convert(NEW_YORK).date() for key in ("start", "end")
    )
    return f"{first} to {last}"


def format_run_name(summary: dict[str, Any]) -> str:
    """Return the name of the main run: its strategy, and its forecaster if it has one."""
    if summary["forecaster"] == NO_FORECAST:
        return str(summary["strategy"])
    return f"{summary['strategy']} on {summary['forecaster']}"


def run_headings(summary: dict[str, Any]) -> list[str]:
    """Return the column headings of all runs: the main run's name, then its benchmarks' labels."""
    return [
        format_run_name(summary),
        *(benchmark_label(summary, name) for name in summary["comparisons"]),
    ]


def figure_table(
    summary: dict[str, Any], title: str = "Figures", *, with_intervals: bool = False
) -> Table:
    """Return the table of the figures in `FIGURE_FORMATS`, with one column per run.

    Narrow pages and terminals omit the no-forecast baseline if the run has a third benchmark.
    Short runs have no annualised figures.

    with_intervals: true to add the main run's 90 % intervals.
    """
    columns = [summary, *summary["comparisons"].values()]
    annual = summary["annual_figures"]
    rows: list[Row] = []
    for key, figure in FIGURE_FORMATS.items():
        if not figure.label or key not in summary:
            continue
        main, *others = (format_figure(column, key, annual=annual) for column in columns)
        shown = with_intervals and (annual or not figure.is_annual)
        ends = summary["intervals"].get(key) if shown else None
        rows.append(
            (figure.label, Cell(main, "strong", format_interval(ends, figure.formatter)), *others)
        )
    names = list(summary["comparisons"])
    optional = [2 + names.index(RANDOM_WALK)] if len(names) > 2 and RANDOM_WALK in names else []
    return Table(title, ("", *run_headings(summary)), rows, optional_columns=optional)


def capital_sentence(summary: dict[str, Any]) -> str:
    """Return a sentence that states the equity at the start and at the end, USD."""
    capital = summary["capital"]
    final = capital * (1 + summary["total_return"])
    return f"Start capital {format_usd(capital)}, final equity {format_usd(final)}."


def benchmark_sentence(summary: dict[str, Any]) -> str:
    """Return a sentence that names the benchmark of alpha, beta and capture."""
    return (
        f"Alpha, beta, information ratio and capture are relative to {summary['benchmark_text']}."
    )


def fill_timeframe_table(summary: dict[str, Any]) -> Table | None:
    """Return the table that compares fills on finer bars with fills on the decision bars.

    None if the run had no finer bars.
    """
    rows: list[Row] = [
        (
            bars,
            Cell(format_usd(figures["equity"]), "strong"),
            format_percent(figures["total_return"], sign=True),
            format_usd(figures["fees"]),
            format_usd(figures["costs"]),
            f"{figures['trades']:,}",
        )
        for bars, figures in summary.get("fills", {}).items()
    ]
    headings = ("fill bars", "equity", "total return", "fees", "costs", "fills")
    return Table("By fill bars", headings, rows, optional_columns=(3, 5)) if rows else None


def outperformance_table(summary: dict[str, Any]) -> Table:
    """Return the table of the main run's lead over each benchmark.

    It has 90 % intervals and their significance.
    """
    significance = {1: "significantly ahead", 0: "not significant", -1: "significantly behind"}
    rows: list[Row] = []
    for name, outperformance in summary["outperformances"].items():
        label = benchmark_label(summary, name)
        if outperformance is None:
            rows.append((label, Cell(NO_VALUE, "strong"), "not comparable"))
            continue
        ends = outperformance["interval"]
        relation = significance[outperformance["significant_sign"]] if ends else "too few days"
        if outperformance["is_identical"]:
            relation = "identical"
        ahead = Cell(
            _format_signed_percent(outperformance["lead"]),
            "strong",
            format_interval(ends, _format_signed_percent),
        )
        rows.append((label, ahead, relation))
    heads = ("vs", "outperformance (90% interval)", "significance")
    return Table("Outperformance", heads, rows, left_aligned_columns=(2,))


def cost_table(costs: dict[str, float], notional: float) -> Table:
    """Return the table of costs by kind, in USD and in basis points of the traded value.

    Amounts are rounded so that they add up to the total.

    notional: traded value, USD.
    """
    total = to_cents(sum(costs.values()))

    def cost_row(name: str, paid: Decimal, exact: float) -> Row:
        return name, format_usd(paid), format_basis_points(exact / notional) if notional else ""

    cents = round_parts_to_cents(costs, total).items()
    rows = [cost_row(COST_LABELS[kind], paid, costs[kind]) for kind, paid in cents if paid]
    rows.append(cost_row("all", total, sum(costs.values())))
    return Table("Costs", ("kind", "USD", "of value traded"), rows, has_total_row=True)


def round_profits_to_cents(
    contributions: Mapping[str, float], capital: float
) -> dict[str, Decimal]:
    """Return the profit of each symbol, of interest and of other cash flows, rounded to cents.

    The rounded amounts add up to the rounded total.

    contributions: profits as fractions of capital, as in `summary.json`.
    capital: starting capital, USD.
    """
    earned = {name: share * capital for name, share in contributions.items()}
    return round_parts_to_cents(earned, to_cents(sum(earned.values())))


def symbol_profit_table(
    symbols: Sequence[str], weights: Array, profits: Mapping[str, Decimal]
) -> Table:
    """Return the table of weights and profit by symbol, largest profit first.

    The last rows are interest, other cash flows and the total.

    weights: [S, D] signed weights.
    profits: profits in USD, rounded to cents by `round_profits_to_cents`.
    """
    rows: list[Row] = []
    for s in sorted(range(len(symbols)), key=lambda s: profits[symbols[s]], reverse=True):
        size = np.abs(weights[s])
        highest = format_percent(float(size.max(initial=0.0)), 1)
        mean = format_percent(float(size.mean()) if len(size) else 0.0, 1)
        drawn = Cell(
            f"Weight of {symbols[s]}, at most {highest}",
            drawn_shapes=weight_sparkline(weights[s], weights),
        )
        rows.append((symbols[s], drawn, mean, highest, format_usd(profits[symbols[s]], sign=True)))
    rest = {name: usd for name, usd in profits.items() if name not in symbols}
    for name, earned in {**rest, "total": sum(profits.values(), Decimal(0))}.items():
        rows.append((name, "", "", "", format_usd(earned, sign=True)))
    heads = ("symbol", "weight by day", "mean", "largest", "contribution")
    return Table(
        "By symbol",
        heads,
        rows,
        left_aligned_columns=(1,),
        optional_columns=(2,),
        has_total_row=True,
    )


def round_trip_statistics_table(trips: Sequence[RoundTrip]) -> Table:
    """Return the statistics of round trips: all, long and short."""
    sides = {
        "all": list(trips),
        "long": [trip for trip in trips if trip.max_quantity > 0],
        "short": [trip for trip in trips if trip.max_quantity < 0],
    }
    # With cents of large profits the table would be wider than a phone.
    places = 0 if any(abs(trip.profit) >= MIN_PROFIT_WITHOUT_CENTS for trip in trips) else 2
    amount = partial(format_usd, places=places)
    count = partial(format_number, places=0)
    lines: Mapping[str, tuple[str, NumberFormatter]] = {  # label and format by name
        "closed_count": ("Closed", count),
        "win_rate": ("Win rate", partial(format_percent, places=0)),
        "mean_profit": ("Expectancy (mean profit)", partial(amount, sign=True)),
        "mean_win": ("Avg. win", amount),
        "mean_loss": ("Avg. loss", amount),
        "payoff_ratio": ("Payoff ratio", format_number),
        "profit_factor": ("Profit factor", format_number),
        "largest_win": ("Best trade", amount),
        "largest_loss": ("Worst trade", amount),
        "consecutive_losses": ("Max consecutive losses", count),
        "median_days": ("Median duration, days", partial(format_number, places=1)),
    }
    columns = [asdict(round_trip_statistics(each)) for each in sides.values()]
    rows: list[Row] = [
        (label, *(formatter(column[name]) for column in columns))
        for name, (label, formatter) in lines.items()
        if columns[0][name] is not None  # without closed trips, only the counts are defined
    ]
    open_trips = [sum(trip.closed_at is None for trip in each) for each in sides.values()]
    rows.append(("Open", *map(count, open_trips)))
    return Table("Statistics of round trips", ("", *sides), rows)


def binding_limit_table(decisions: pd.DataFrame) -> Table:
    """Return the table of binding limits with the number of decisions that each binds.

    decisions: frame of the decisions of a run, one row per decided symbol.
    """
    names = decisions["binding"].str.split("+").explode()
    counts = names[names.fillna("") != ""].value_counts()
    rows: list[Row] = [
        (str(name), format_number(count, 0), format_percent(count / len(decisions), 1))
        for name, count in counts.items()
    ]
    return Table("Binding limits", ("limit", "decisions", "share"), rows)


def round_trip_table(trips: Sequence[RoundTrip]) -> Table:
    """Return the table of round trips; open ones are valued at the last close."""
    rows = [
        (
            trip.symbol,
            format_minute(trip.opened_at),
            "open" if trip.closed_at is None else format_minute(trip.closed_at),
            format_quantity(float(trip.max_quantity), QUANTITY_DIGITS, sign=True),
            format_usd(to_cents(trip.fees)),
            Cell(
                format_usd(to_cents(trip.profit), sign=True), "good" if trip.profit > 0 else "bad"
            ),
        )
        for trip in trips
    ]
    heads = ("symbol", "opened", "closed", "max position", "fees", "profit")
    return Table("Round trips", heads, rows, optional_columns=(1, 3, 4))


def order_table(orders: pd.DataFrame, fills: pd.DataFrame, decisions: pd.DataFrame) -> Table:
    """Return the table of orders.

    Columns: time, symbol, order, filled quantity, mean price, fee, short reason.

    orders, fills, decisions: frames of the run; decisions may be in any order.
    """
    # Crypto fees and splits are recorded as fills at price 0; they are not part of an order.
    traded = fills[fills["price"] > 0]
    value = (traded["qty"] * traded["price"]).groupby(traded["client_order_id"]).sum().to_dict()
    size, fee = (
        traded.groupby("client_order_id")[column].sum().to_dict() for column in ("qty", "fee")
    )
    reasons = short_reasons_by_order(orders, decisions)
    rows: list[tuple[str, ...]] = []
    for order in orders.to_dict("records"):
        name = order["client_order_id"]
        filled = ("none", "", "")
        if size.get(name):
            price = format_rounded_price(value[name] / size[name], prefix="$")
            filled = (
                format_quantity(size[name], QUANTITY_DIGITS, sign=True),
                price,
                format_usd(fee[name], 4),
            )
        at = format_minute(order["at"].to_datetime64())
        asked = f"{order['side']} {format_quantity(order['qty'], QUANTITY_DIGITS)}"
        rows.append((at, order["symbol"], asked, *filled, reasons[name]))
    heads = ("time", "symbol", "order", "filled", "mean price", "fee", "reason")
    return Table("Orders", heads, rows, left_aligned_columns=(6,), optional_columns=(3, 4, 5))


def _format_signed_percent(fraction: Any) -> str:
    return format_percent(fraction, sign=True)


ProfitByPart = Mapping[ProfitPart, float]
RoundedProfitByPart = Mapping[ProfitPart, Decimal]
PROFIT_PART_MEANINGS: Mapping[ProfitPart, str] = {
    "premium": "position that the risk premium alone would give, before limits",
    "forecast": "position that the forecast alone would give, before limits",
    "sizing": (
        "multi-period plan, trading costs, hedges, rounding to lots; strategies without"
        " premium or forecast"
    ),
    "limits": "change of that position by limits",
    "costs": "spread, slippage, impact, fees",
    "financing": "interest, borrow fees, dividends; in a live account other cash flows",
    "timing": "positions that were not ordered; price moves from decision to fill",
}
CASH_PROFIT_PARTS: tuple[ProfitPart, ...] = (
    "costs",
    "financing",
)  # paid or received beside price moves


def attribution_tables(
    symbols: Mapping[str, ProfitByPart], hours: Mapping[str, ProfitByPart], profit: Decimal
) -> dict[str, Table]:
    """Return the tables of attributed profit by name: realised, and by part.

    Both are given by symbol and by hour of day. The amounts of each table add up to the profit.

    symbols, hours: profit by part, USD, as in `summary.json`.
    profit: profit of the run, USD, rounded to cents.
    """
    # Crypto has bars at every hour of the day, even without a crypto position.
    hours = {hour: parts for hour, parts in hours.items() if any(parts.values())} or hours
    exact = {part: sum(row[part] for row in symbols.values()) for part in PROFIT_PARTS}
    totals = round_parts_to_cents(exact, profit)
    by_symbol, by_hour = (_round_rows_to_cents(each, totals) for each in (symbols, hours))
    rows: list[Row] = [
        (part, format_usd(cents, sign=True), PROFIT_PART_MEANINGS[part])
        for part, cents in totals.items()
    ]
    rows.append(("profit", format_usd(profit, sign=True), ""))
    heads = ("part", "USD", "price moves of, or cash flows from")
    return {
        "realised_symbols": _realised_table("Realised profit by symbol", by_symbol),
        "realised_hours": _realised_table("Realised profit by hour of day", by_hour),
        "parts": Table(
            "Counterfactual parts", heads, rows, left_aligned_columns=(2,), has_total_row=True
        ),
        "symbols": _parts_table("Parts by symbol", by_symbol),
        "hours": _parts_table("Parts by hour of day", by_hour),
    }


def _round_rows_to_cents(
    exact: Mapping[str, ProfitByPart], totals: RoundedProfitByPart
) -> dict[str, RoundedProfitByPart]:
    """Round the parts of each row to cents so that rows and columns add up; append the total."""
    profit = sum(totals.values(), Decimal(0))
    sums = round_parts_to_cents({name: sum(row.values()) for name, row in exact.items()}, profit)
    return {**round_table_to_cents(exact, sums, totals), "total": totals}


def _realised_table(title: str, rounded: Mapping[str, RoundedProfitByPart]) -> Table:
    """Return a table of profit, split into price moves of positions and cash flows."""
    rows: list[Row] = []
    for name, parts in rounded.items():
        profit = sum(parts.values(), Decimal(0))
        cash = [parts[part] for part in CASH_PROFIT_PARTS]
        amounts = (profit - sum(cash, Decimal(0)), *cash, profit)
        rows.append((name, *(format_usd(amount, sign=True) for amount in amounts)))
    heads = ("", "price moves", *CASH_PROFIT_PARTS, "profit")
    return Table(title, heads, rows, optional_columns=(2, 3), has_total_row=True)


def _parts_table(title: str, rounded: Mapping[str, RoundedProfitByPart]) -> Table:
    """Return a table of the attributed parts and the profit of each row."""
    rows: list[Row] = []
    for name, parts in rounded.items():
        cells = [format_usd(parts[part], sign=True) for part in PROFIT_PARTS]
        rows.append((name, *cells, format_usd(sum(parts.values(), Decimal(0)), sign=True)))
    optional = [k for k, part in enumerate(PROFIT_PARTS, 1) if part != "forecast"]
    heads = ("", *PROFIT_PARTS, "profit")
    return Table(title, heads, rows, optional_columns=optional, has_total_row=True)
