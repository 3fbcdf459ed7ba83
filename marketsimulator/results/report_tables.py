"""The tables of a report: every figure as a cell says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from foundation.arrays import Array
from foundation.cents import cents_that_add_up, to_cents, usd_text
from foundation.counts import counted
from foundation.page import around
from marketsimulator.results.forecast_outcomes import NOMINAL, Coverage
from marketsimulator.results.metrics import ANNUAL
from marketsimulator.results.report_charts import spark_path
from marketsimulator.results.report_figures import Profits
from marketsimulator.results.round_trips import RoundTrips
from marketsimulator.results.verdict import run_label
from trainingdata.instants import DAY, NEW_YORK

NOT_DEFINED = "n/a"
LISTED = 2000  # orders on the page; the file has all
TRIPS = 1000  # round trips on the page
MONTHS = tuple(f"{pd.Timestamp(2001, month, 1):%b}" for month in range(1, 13))
# Label, name in the summary, format.
ROWS = (
    ("total return", "total_return", "{:+,.2%}"),
    ("annual return", "annual_return", "{:+,.2%}"),
    ("volatility a year", "volatility", "{:,.2%}"),
    ("Sharpe", "sharpe", "{:,.2f}"),
    ("Sortino", "sortino", "{:,.2f}"),
    ("Calmar", "calmar", "{:,.2f}"),
    ("largest drawdown at 16:00", "max_drawdown", "{:,.2%}"),
    ("largest drawdown, every bar", "max_drawdown_every_bar", "{:,.2%}"),
    ("days below a peak", "drawdown_days", "{:,}"),
    ("5 % worst day", "value_at_risk", "{:,.2%}"),
    ("mean beyond it", "expected_shortfall", "{:,.2%}"),
    ("days up, of those that moved", "hit_rate", "{:.0%}"),
    ("profit factor", "profit_factor", "{:,.2f}"),
    ("mean leverage", "mean_leverage", "{:,.2f}×"),
    ("turnover a year", "turnover", "{:,.0f}×"),
    ("costs", "costs", "${:,.2f}"),
    ("of it interest", "interest", "${:,.2f}"),
    ("fills", "trades", "{:,}"),
)
COSTS = {
    "spread": "spread",
    "slippage": "slippage",
    "fees": "fees",
    "coin_fees": "coin fees, paid in coin",
    "interest": "interest on what is borrowed",
    "borrow": "borrow of shorts",
}


def heading(summary: dict[str, Any]) -> str:
    """The run's first and last New York date."""
    first, last = (
        pd.Timestamp(summary[key]).tz_convert(NEW_YORK).date() for key in ("start", "end")
    )
    return f"{first} to {last}"


def column_names(summary: dict[str, Any]) -> list[str]:
    """The main run's name, then the comparisons'; one that rests on the premium alone says so."""
    return [summary["forecaster"], *(run_label(summary, name) for name in summary["comparisons"])]


def format_rows(summary: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """(label, a cell per column) for every figure people look at.

    n/a stands where a figure is not defined, and for yearly figures of a run too short for them.
    """
    columns = [summary, *summary["comparisons"].values()]
    return [
        (label, [_cell(summary, column[key], key, style) for column in columns])
        for label, key, style in ROWS
    ]


def interval_cells(summary: dict[str, Any]) -> list[str]:
    """The main run's 90 % interval in each of these rows; empty where there is none."""
    cells = []
    for _, key, style in ROWS:
        ends = summary["intervals"].get(key)
        shown = ends is not None and (summary["annual_figures"] or key not in ANNUAL)
        cells.append(" to ".join(style.format(end) for end in ends) if shown else "")
    return cells


def significance_text(summary: dict[str, Any]) -> str:
    """What the Sharpe ratio is worth, in a sentence; empty where none is shown."""
    if summary["sharpe"] is None or not summary["annual_figures"]:
        return ""
    text = f"Sharpe {summary['sharpe']:.2f}"
    if "sharpe" in summary["intervals"]:
        low, high = summary["intervals"]["sharpe"]
        text += (
            f", 90 % interval {low:.2f} to {high:.2f} (stationary bootstrap,"
            f" {counted(summary['days'], 'day')})"
        )
    if summary["probabilistic_sharpe"] is not None:
        text += f"; probability that it is above zero {summary['probabilistic_sharpe']:.0%}"
    if summary["deflated_sharpe"] is not None:
        others = counted(summary["trials"], "variant")
        text += f", {summary['deflated_sharpe']:.0%} after {others} tried on these data"
    return text + "."


def lead_rows(summary: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(other run, how far ahead of it, 90 % interval, what that says) of each comparison."""
    says = {1: "ahead beyond error", 0: "within error", -1: "behind beyond error"}
    rows = []
    for name, lead in summary["leads"].items():
        label = run_label(summary, name)
        if lead is None:
            rows.append((label, NOT_DEFINED, "", "not comparable"))
            continue
        ends = lead["interval"]
        interval = " to ".join(f"{end:+,.2%}" for end in ends) if ends else ""
        verdict = says[lead["beyond"]] if ends else "too few days, or the same difference on each"
        if lead["same"]:
            verdict = "the same"
        rows.append((label, f"{lead['ahead']:+,.2%}", interval, verdict))
    return rows


@dataclass(frozen=True, slots=True)
class Bar:
    """An amount beside a bar that shows it.

    name: of the row.
    cells: texts.
    x, width: of the bar, of 100.
    side: `long` where the amount is positive, else `short`.
    """

    name: str
    cells: tuple[str, ...]
    x: float
    width: float
    side: str


def cost_bars(costs: dict[str, float], notional: float) -> list[Bar]:
    """USD of each kind of cost that was paid, in basis points of what was traded; then their sum.

    Kinds are rounded so that they add up to the sum.
    """
    total = to_cents(sum(costs.values()))
    cents = cents_that_add_up(costs, total)
    largest = max(*(abs(usd) for usd in cents.values()), Decimal(1))
    rows = []
    for kind, usd in cents.items():
        if usd:
            cells = (usd_text(usd), _basis_points(costs[kind], notional))
            rows.append(_bar(COSTS[kind], cells, float(usd / largest), begin=0.0, whole=100.0))
    last = (usd_text(total), _basis_points(sum(costs.values()), notional))
    return [*rows, Bar("all", last, 0.0, 0.0, "long")]


def bar_around_zero(name: str, usd: Decimal, largest: Decimal) -> Bar:
    """A signed amount, its bar to the right of the middle where it is a gain.

    largest: amount whose bar reaches the edge, above 0.
    """
    return _bar(name, (usd_text(usd, sign=True),), float(usd / largest), begin=50.0, whole=50.0)


@dataclass(frozen=True, slots=True)
class SymbolRow:
    """A symbol's share in a run.

    bar: its profit.
    spark: path of its weight by day.
    zero: height of no position in it, of 100 from the top.
    mean, largest: of the sizes of its weights.
    """

    bar: Bar
    spark: str
    zero: float
    mean: str
    largest: str


def symbol_rows(
    symbols: Sequence[str], weights: Array, profits: Profits
) -> tuple[list[SymbolRow], list[Bar]]:
    """(a row a symbol, largest profit first; interest, other cash and the sum of all).

    weights: [S, D], signed.
    """
    cents = {**profits.symbols, **profits.rest}
    largest = max(*(abs(usd) for usd in cents.values()), Decimal(1))
    scale = max(float(np.abs(weights).max(initial=0.0)), 1e-9)
    # Where nothing was short, the half below 0 would be empty.
    zero = 50.0 if (weights < 0).any() else 100.0

    def bar(name: str) -> Bar:
        return bar_around_zero(name, cents[name], largest)

    rows = []
    for s in sorted(range(len(symbols)), key=lambda s: cents[symbols[s]], reverse=True):
        size = np.abs(weights[s])
        spark = spark_path(weights[s], scale, zero) if size.any() else ""
        highest = float(size.max(initial=0.0))
        mean = float(size.mean()) if len(size) else 0.0
        rows.append(SymbolRow(bar(symbols[s]), spark, zero, f"{mean:.1%}", f"{highest:.1%}"))
    total = usd_text(profits.total, sign=True)
    return rows, [*map(bar, profits.rest), Bar("total", (total,), 0.0, 0.0, "long")]


def month_table(
    returns: Sequence[tuple[np.datetime64, float | None]],
) -> tuple[list[int], list[tuple[str, list[tuple[str, str]]]]]:
    """(years, rows of a month each and the year's): (text, tone) of each cell."""
    by_month: dict[tuple[int, int], float | None] = {}
    for month, value in returns:
        stamp = pd.Timestamp(month)
        by_month[stamp.year, stamp.month] = value
    years = sorted({year for year, _ in by_month})
    rows = []
    for number, name in enumerate(MONTHS, 1):
        if any((year, number) in by_month for year in years):
            cells = [_return_cell(by_month, year, number) for year in years]
            rows.append((name, cells))
    whole = []
    for year in years:
        parts = [value for (of, _), value in by_month.items() if of == year]
        known = [value for value in parts if value is not None]
        grown = float(np.prod([1 + value for value in known])) - 1
        whole.append(_toned(grown) if len(known) == len(parts) else (NOT_DEFINED, ""))
    return years, [*rows, ("year", whole)]


def trip_facts(trips: RoundTrips) -> list[tuple[str, str]]:
    """(name, text) of what the round trips amount to."""
    profits = np.array([trip.profit for trip in trips.closed])
    if not len(profits):
        return [("closed", "0"), ("still held", f"{len(trips.held)}")]
    gains, losses = profits[profits > 0], profits[profits < 0]
    days = np.median([(trip.closed_at - trip.opened_at) / DAY for trip in trips.closed])
    return [
        ("closed", f"{len(profits):,}"),
        ("with a gain", f"{len(gains) / len(profits):.0%}"),
        ("mean gain", usd_text(to_cents(gains.mean())) if len(gains) else NOT_DEFINED),
        ("mean loss", usd_text(to_cents(losses.mean())) if len(losses) else NOT_DEFINED),
        ("largest gain", usd_text(to_cents(gains.max())) if len(gains) else NOT_DEFINED),
        ("largest loss", usd_text(to_cents(losses.min())) if len(losses) else NOT_DEFINED),
        ("median time held", f"{days:.1f} days"),
    ]


def trip_rows(
    trips: RoundTrips, profits: Profits, most: int
) -> list[tuple[str, tuple[str, ...], str]]:
    """(symbol, cells, tone) of each: opened, closed, side, quantity, prices, fees, profit.

    The latest `most` that are closed, then what is held at the end, which stands at the last close.
    """
    closed = list(zip(trips.closed, profits.closed, strict=True))[-most:]
    rows: list[tuple[str, tuple[str, ...], str]] = []
    for number, (trip, usd) in enumerate([*closed, *zip(trips.held, profits.held, strict=True)]):
        cells = (
            utc_minute(trip.opened_at),
            utc_minute(trip.closed_at) if number < len(closed) else "still held",
            "long" if trip.qty > 0 else "short",
            f"{float(abs(trip.qty)):,.6g}",
            f"${trip.entry:,.4f}",
            f"${trip.exit:,.4f}",
            usd_text(to_cents(trip.fees)),
            usd_text(usd, sign=True),
        )
        rows.append((trip.symbol, cells, "good" if trip.profit > 0 else "bad"))
    return rows


def trip_sums(profits: Profits) -> list[tuple[str, str]]:
    """(name, USD) of what was closed, what is still held, and both, which the symbols earned."""
    sums = {
        "closed": sum(profits.closed, Decimal(0)),
        "still held, at the last close": sum(profits.held, Decimal(0)),
        "all symbols": sum(profits.symbols.values(), Decimal(0)),
    }
    return [(name, usd_text(usd, sign=True)) for name, usd in sums.items()]


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """A group's coverage on a line from 50 to 100 %, how far its interval reaches, and its size."""

    group: str
    count: str
    share: str
    x: float
    low: float
    high: float
    size: str


def coverage_rows(groups: Sequence[Coverage]) -> list[CoverageRow]:
    """A row a group, with its 95 % interval where there is one."""
    rows = []
    for each in groups:
        half = each.reach or 0.0
        text = f"{each.share:.1%}{around(each.reach, '.1%')}"
        size = f"{each.size:.2f}{around(each.size_reach, '.2f')}"
        ends = (each.share, each.share - half, each.share + half)
        x, low, high = (200 * (min(max(end, 0.5), 1.0) - 0.5) for end in ends)
        rows.append(CoverageRow(each.group, f"{each.count:,}", text, x, low, high, size))
    return rows


NOMINAL_PLACE = 200 * (NOMINAL - 0.5)  # of the line that a calibrated group lies on


def order_rows(orders: pd.DataFrame, fills: pd.DataFrame) -> list[tuple[str, ...]]:
    """A row an order: instant, symbol, order, quantity filled, mean price, fee in USD, and why."""
    # Coin fees and splits are on the tape as fills at price 0; they are no part of an order's.
    traded = fills[fills["price"] > 0]
    value = (traded["qty"] * traded["price"]).groupby(traded["client_order_id"]).sum().to_dict()
    size, fee = (
        traded.groupby("client_order_id")[column].sum().to_dict() for column in ("qty", "fee")
    )
    rows: list[tuple[str, ...]] = []
    for order in orders.to_dict("records"):
        name = order["client_order_id"]
        filled = ("none", "", "")
        if size.get(name):
            price = value[name] / size[name]
            filled = (f"{size[name]:+,g}", f"${price:,.4f}", f"${fee[name]:,.4f}")
        at = f"{order['at']:%Y-%m-%d %H:%MZ}"
        quantity = f"{order['side']} {order['qty']:,g}"
        rows.append((at, order["symbol"], quantity, *filled, order["reason"]))
    return rows


def utc_minute(at: np.datetime64) -> str:
    """An instant as tables write it: 2024-10-01 14:30Z."""
    return f"{np.datetime_as_string(at, unit='m')}Z".replace("T", " ")


def _cell(summary: dict[str, Any], value: float | None, key: str, style: str) -> str:
    if value is None or (key in ANNUAL and not summary["annual_figures"]):
        return NOT_DEFINED
    return style.format(value).replace("$-", "-$")


def _basis_points(usd: float, notional: float) -> str:
    return f"{usd / notional * 1e4:.2f} bp" if notional else ""


def _bar(name: str, cells: tuple[str, ...], share: float, *, begin: float, whole: float) -> Bar:
    """share: of `whole`, -1 to 1; begin: where 0 is."""
    length = whole * share
    side = "long" if share >= 0 else "short"
    return Bar(name, cells, begin + min(length, 0.0), abs(length), side)


def _return_cell(
    by_month: dict[tuple[int, int], float | None], year: int, month: int
) -> tuple[str, str]:
    if (year, month) not in by_month:
        return "", ""
    value = by_month[year, month]
    return (NOT_DEFINED, "") if value is None else _toned(value)


def _toned(value: float) -> tuple[str, str]:
    # What is written as 0 has no sign.
    if abs(value) < 0.5e-4:
        return "0.00%", ""
    return f"{value:+,.2%}", "gain" if value > 0 else "loss"
