"""Where the money came from, as a report shows it: amounts in whole cents that add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from execution.records import Booking
from foundation.cents import cents_that_add_up, table_that_adds_up, to_cents
from foundation.charts import Chart
from foundation.figures import usd
from foundation.tables import Cell, Row, Table
from marketsimulator.results.attribution import ACCOUNT, PARTS, Part
from marketsimulator.results.report_charts import hour_chart
from marketsimulator.results.report_figures import Profits
from marketsimulator.results.report_tables import around_zero

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
