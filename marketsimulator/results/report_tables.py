"""The tables of a report: every figure as a cell says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from execution.records import Booking
from foundation.arrays import Array
from foundation.cents import cents_that_add_up, table_that_adds_up, to_cents
from foundation.charts import Chart
from foundation.counts import counted
from foundation.figures import NONE, basis_points, interval, minute, number, percent, quantity, usd
from foundation.tables import Cell, Row, Shape, Table, bar, upright
from marketsimulator.results.attribution import ACCOUNT, PARTS, Part
from marketsimulator.results.metrics import TABLE_FIGURES, figure_text
from marketsimulator.results.report_charts import hour_chart, spark
from marketsimulator.results.report_figures import Profits
from marketsimulator.results.round_trips import RoundTrip, RoundTrips
from marketsimulator.results.verdict import run_label
from trainingdata.instants import DAY, NEW_YORK

LISTED = 2000  # orders on the page; the file has all
TRIPS = 1000  # round trips on the page
DIGITS = 6  # of quantities
MONTHS = tuple(f"{pd.Timestamp(2001, month, 1):%b}" for month in range(1, 13))
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


def figure_table(summary: dict[str, Any], title: str = "Figures", *, ranges: bool = False) -> Table:
    """Every figure people look at, a column a run; yearly ones where the main run has them.

    ranges: whether the main run's figures have their 90 % intervals below them.
    """
    columns = [summary, *summary["comparisons"].values()]
    annual = summary["annual_figures"]
    rows: list[Row] = []
    for key, figure in TABLE_FIGURES.items():
        if not figure.label:
            continue
        main, *others = (figure_text(column, key, annual=annual) for column in columns)
        shown = ranges and (annual or not figure.annual)
        ends = summary["intervals"].get(key) if shown else None
        rows.append((figure.label, Cell(main, "strong", interval(ends, figure.words)), *others))
    return Table(title, ("", *column_names(summary)), rows)


def significance_text(summary: dict[str, Any]) -> str:
    """What the Sharpe ratio is worth, in a sentence; empty where none is shown."""
    if summary["sharpe"] is None or not summary["annual_figures"]:
        return ""
    text = f"Sharpe {number(summary['sharpe'])}"
    if "sharpe" in summary["intervals"]:
        text += (
            f", 90 % interval {interval(summary['intervals']['sharpe'], number)} (stationary"
            f" bootstrap, {counted(summary['days'], 'day')})"
        )
    if summary["probabilistic_sharpe"] is not None:
        chance = percent(summary["probabilistic_sharpe"], 0)
        text += f"; probability that it is above zero {chance}"
    if summary["deflated_sharpe"] is not None:
        others = counted(summary["trials"], "variant")
        text += f", {percent(summary['deflated_sharpe'], 0)} after {others} tried on these data"
    return text + "."


def fill_table(summary: dict[str, Any]) -> Table | None:
    """The run by the bars that its orders met; none where they met those that it decided on."""
    rows: list[Row] = [
        (
            bars,
            Cell(usd(figures["equity"]), "strong"),
            percent(figures["total_return"], sign=True),
            usd(figures["fees"]),
            usd(figures["costs"]),
            f"{figures['trades']:,}",
        )
        for bars, figures in summary.get("fills", {}).items()
    ]
    headings = ("orders met", "equity", "total return", "fees", "costs", "fills")
    return Table("By the bars that orders met", headings, rows) if rows else None


def lead_table(summary: dict[str, Any]) -> Table:
    """How far the run ends ahead of each comparison, with a 90 % interval, and what that says."""
    says = {1: "ahead beyond error", 0: "within error", -1: "behind beyond error"}
    rows: list[Row] = []
    for name, lead in summary["leads"].items():
        label = run_label(summary, name)
        if lead is None:
            rows.append((label, Cell(NONE, "strong"), "", "not comparable"))
            continue
        ends = lead["interval"]
        verdict = says[lead["beyond"]] if ends else "too few days, or the same difference on each"
        if lead["same"]:
            verdict = "the same"
        ahead = Cell(_gain(lead["ahead"]), "strong")
        rows.append((label, ahead, interval(ends, _gain), verdict))
    return Table("Leads", ("", "ends ahead by", "90 % interval", "which is"), rows, words=(3,))


def cost_table(costs: dict[str, float], notional: float) -> Table:
    """USD of each kind of cost that was paid, in basis points of what was traded; then their sum.

    Kinds are rounded so that they add up to the sum.
    """
    total = to_cents(sum(costs.values()))
    cents = cents_that_add_up(costs, total)
    largest = max(*map(abs, cents.values()), Decimal(1))

    def row(name: str, paid: Decimal, exact: float, *shapes: Shape) -> Row:
        share = basis_points(exact / notional) if notional else ""
        return name, usd(paid), share, Cell("", drawing=shapes)

    rows = [
        row(COSTS[kind], paid, costs[kind], bar(0, float(100 * paid / largest)))
        for kind, paid in cents.items()
        if paid
    ]
    rows.append(row("all", total, sum(costs.values())))
    return Table("Costs", ("kind", "USD", "of what was traded", ""), rows, summed=True)


def around_zero(amount: Decimal, largest: Decimal) -> Cell:
    """A bar to the right of the middle where the amount is a gain.

    largest: amount whose bar reaches the edge, above 0.
    """
    return Cell("", drawing=(bar(50, 50 + float(50 * amount / largest)), upright(50)))


def symbol_table(symbols: Sequence[str], weights: Array, profits: Profits) -> Table:
    """Weights and profit of each symbol, the largest profit first; interest, other cash, the sum.

    weights: [S, D], signed.
    """
    cents = {**profits.symbols, **profits.rest}
    largest = max(*map(abs, cents.values()), Decimal(1))
    rows: list[Row] = []
    for s in sorted(range(len(symbols)), key=lambda s: cents[symbols[s]], reverse=True):
        size = np.abs(weights[s])
        highest = percent(float(size.max(initial=0.0)), 1)
        mean = percent(float(size.mean()) if len(size) else 0.0, 1)
        held = f"Weight of {symbols[s]}, at most {highest}"
        earned = cents[symbols[s]]
        rows.append(
            (
                *(symbols[s], Cell(held, drawing=spark(weights[s], weights)), mean, highest),
                *(usd(earned, sign=True), around_zero(earned, largest)),
            )
        )
    for name, earned in {**profits.rest, "total": profits.total}.items():
        rows.append((name, "", "", "", usd(earned, sign=True), ""))
    heads = ("symbol", "weight at 16:00, day by day", "mean", "largest", "contribution")
    return Table(
        "By symbol", (*heads, "loss · gain"), rows, words=(1, 5), spare=(2, 5), summed=True
    )


def month_table(returns: Sequence[tuple[np.datetime64, float | None]]) -> Table:
    """A row a month and one for the year, a column a year; what is no full part is empty."""
    by_month: dict[tuple[int, int], float | None] = {}
    for month, value in returns:
        stamp = pd.Timestamp(month)
        by_month[stamp.year, stamp.month] = value
    years = sorted({year for year, _ in by_month})
    rows: list[Row] = []
    for number_of, name in enumerate(MONTHS, 1):
        places = [(year, number_of) for year in years]
        if any(place in by_month for place in places):
            cells = (_toned(by_month[at]) if at in by_month else Cell("") for at in places)
            rows.append((name, *cells))
    rows.append(("year", *(_toned(_compounded(by_month, year)) for year in years)))
    return Table("Monthly returns", ("", *map(str, years)), rows, summed=True)


def trip_facts(trips: RoundTrips) -> list[tuple[str, str]]:
    """(name, text) of what the round trips amount to."""
    profits = np.array([trip.profit for trip in trips.closed])
    if not len(profits):
        return [("closed", "0"), ("still held", f"{len(trips.held)}")]
    gains, losses = profits[profits > 0], profits[profits < 0]
    days = np.median([(trip.closed_at - trip.opened_at) / DAY for trip in trips.closed])
    return [
        ("closed", number(len(profits), 0)),
        ("with a gain", percent(len(gains) / len(profits), 0)),
        ("mean gain", usd(to_cents(gains.mean())) if len(gains) else NONE),
        ("mean loss", usd(to_cents(losses.mean())) if len(losses) else NONE),
        ("largest gain", usd(to_cents(gains.max())) if len(gains) else NONE),
        ("largest loss", usd(to_cents(losses.min())) if len(losses) else NONE),
        ("median time held", f"{number(float(days), 1)} days"),
    ]


def trip_table(trips: RoundTrips, profits: Profits) -> Table:
    """The latest that are closed, then what is held at the end, which stands at the last close."""

    def row(trip: RoundTrip, profit: Decimal, closed: str) -> Row:
        return (
            trip.symbol,
            minute(trip.opened_at),
            closed,
            "long" if trip.qty > 0 else "short",
            quantity(float(abs(trip.qty)), DIGITS),
            usd(trip.entry, 4),
            usd(trip.exit, 4),
            usd(to_cents(trip.fees)),
            Cell(usd(profit, sign=True), "good" if trip.profit > 0 else "bad"),
        )

    closed = list(zip(trips.closed, profits.closed, strict=True))[-TRIPS:]
    rows = [row(trip, profit, minute(trip.closed_at)) for trip, profit in closed]
    held = zip(trips.held, profits.held, strict=True)
    rows += [row(trip, profit, "still held") for trip, profit in held]
    heads = ("symbol", "opened", "closed", "side", "quantity", "entry", "exit", "fees", "profit")
    return Table("Round trips", heads, rows)


def trip_sums(profits: Profits) -> Table:
    """USD of what was closed, what is still held, and both, which the symbols earned."""
    sums = {
        "closed": sum(profits.closed, Decimal(0)),
        "still held, at the last close": sum(profits.held, Decimal(0)),
        "all symbols": sum(profits.symbols.values(), Decimal(0)),
    }
    rows = [(name, usd(amount, sign=True)) for name, amount in sums.items()]
    return Table("Sums of round trips", (), rows, summed=True)


def order_table(orders: pd.DataFrame, fills: pd.DataFrame) -> Table:
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
            price = usd(value[name] / size[name], 4)
            filled = (quantity(size[name], DIGITS, sign=True), price, usd(fee[name], 4))
        at = minute(order["at"].to_datetime64())
        asked = f"{order['side']} {quantity(order['qty'], DIGITS)}"
        rows.append((at, order["symbol"], asked, *filled, order["reason"]))
    heads = ("decided", "symbol", "order", "filled", "mean price", "fee", "why")
    return Table("Orders", heads, rows, words=(6,))


def _gain(fraction: Any) -> str:
    return percent(fraction, sign=True)


def _compounded(by_month: dict[tuple[int, int], float | None], year: int) -> float | None:
    parts = [value for (of, _), value in by_month.items() if of == year]
    known = [value for value in parts if value is not None]
    return float(np.prod([1 + value for value in known])) - 1 if len(known) == len(parts) else None


def _toned(value: float | None) -> Cell:
    text = _gain(value)
    return Cell(text, {"+": "good", "-": "bad"}.get(text[0], ""))


Parts = Mapping[Part, float]
Cents = Mapping[Part, Decimal]
MEANINGS: Mapping[Part, str] = {
    "premium": "what the stated premium alone wanted, before limits",
    "forecast": "what the forecast alone wanted, before limits",
    "sizing": "plan, costs of moving, hedges, whole increments; what rests on neither",
    "limits": "what limits took from, or gave to, what was wanted",
    "costs": "spread, slippage, impact, fees",
    "financing": "interest, borrow, dividends; of a live account all else that moved its cash",
    "timing": "held and not decided; the way from the decision's price to the fill's",
}
NO_CENTS = Decimal(0)


class AttributionTables(NamedTuple):
    """The parts of a profit as a report shows them, and the profit by hour of day."""

    parts: Table
    symbols: Table
    hours: Table
    chart: Chart


def attribution_tables(
    symbols: Mapping[str, Parts],
    hours: Mapping[str, Parts],
    profits: Profits,
    bookings: Iterable[Booking],
) -> AttributionTables:
    """The tables of a run; symbols, hours: as `summary.json` has them."""
    # Coins have bars at every hour of the day, also where no coin was held.
    hours = {hour: parts for hour, parts in hours.items() if any(parts.values())} or hours
    by_symbol = symbol_profits(profits, bookings)
    totals = part_totals(symbols.values(), profits.total)
    earned = {hour: sum(parts.values()) for hour, parts in hours.items()}
    by_hour = cents_that_add_up(earned, profits.total)
    symbol_cents = table_that_adds_up(symbols, by_symbol, totals)
    hour_cents = table_that_adds_up(hours, by_hour, totals)
    largest = max(*map(abs, totals.values()), Decimal(1))
    rows = [
        (part, usd(amount, sign=True), around_zero(amount, largest), MEANINGS[part])
        for part, amount in totals.items()
    ]
    heads = ("part", "USD", "loss · gain", "what it is")
    return AttributionTables(
        parts=Table(
            "Where the money came from",
            heads,
            [*rows, ("profit", usd(profits.total, sign=True), "", "")],
            words=(2, 3),
            spare=(2,),
            summed=True,
        ),
        symbols=_table("Parts by symbol", symbol_cents, totals),
        hours=_table("Parts by hour of day", hour_cents, totals),
        chart=hour_chart(tuple(by_hour), [float(earned) for earned in by_hour.values()]),
    )


def symbol_profits(profits: Profits, bookings: Iterable[Booking]) -> dict[str, Decimal]:
    """What each symbol and the account earned, with dividends, borrow and fractions of shares."""
    own = dict(profits.symbols)
    own[ACCOUNT] = sum(profits.rest.values(), NO_CENTS)
    for booking in bookings:
        # A symbol's trades hold its spread, slippage and end. All else is booked in whole cents.
        if booking.symbol and booking.kind not in ("spread", "slippage", "ended"):
            amount = to_cents(booking.usd)
            own[booking.symbol] += amount
            own[ACCOUNT] -= amount
    return own


def part_totals(rows: Iterable[Parts], profit: Decimal) -> dict[Part, Decimal]:
    """The sum of each part in cents, which add up to the profit."""
    listed = list(rows)
    exact = {part: sum(row[part] for row in listed) for part in PARTS}
    return cents_that_add_up(exact, profit)


def _table(title: str, table: Mapping[str, Cents], totals: Cents) -> Table:
    """The parts of each row and their sum; the last row is the sum of all."""
    rows: list[Row] = []
    for name, parts in [*table.items(), ("total", totals)]:
        profit = sum((parts[part] for part in PARTS), NO_CENTS)
        tone = "good" if profit > 0 else "bad" if profit < 0 else ""
        cells = [usd(parts[part], sign=True) for part in PARTS]
        rows.append((name, *cells, Cell(usd(profit, sign=True), tone)))
    return Table(title, ("", *PARTS, "profit"), rows, summed=True)
