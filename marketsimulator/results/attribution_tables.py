"""Where the money came from, as a report shows it: amounts in whole cents that add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from execution.records import Booking
from foundation.cents import cents_that_add_up, table_that_adds_up, to_cents, usd_text
from foundation.charts import Chart
from marketsimulator.results.attribution import ACCOUNT, PARTS, Part
from marketsimulator.results.report_charts import hour_chart
from marketsimulator.results.report_figures import Profits
from marketsimulator.results.report_tables import Bar, bar_around_zero

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


@dataclass(frozen=True, slots=True)
class AttributionTables:
    """The parts of a profit as a report shows them; the cells of a row are PARTS and their sum.

    parts: a row a part, and the profit: an amount, and a bar around nothing.
    meanings: of each of these rows.
    symbols: (name, cells) of each symbol and of the account; the last row is the sum of all.
    hours: the same of each hour of day at which anything was earned or paid.
    chart: the profit by hour of day.
    """

    parts: list[Bar]
    meanings: list[str]
    symbols: list[tuple[str, list[str]]]
    hours: list[tuple[str, list[str]]]
    chart: Chart


def attribution_tables(
    symbols: Mapping[str, Parts],
    hours: Mapping[str, Parts],
    profits: Profits,
    bookings: Iterable[Booking],
) -> AttributionTables:
    """The tables of a run; symbols, hours: as `summary.json` has them.

    Raises
    ------
    ValueError
        where the parts do not add up to the profits.
    """
    # Coins have bars at every hour of the day, also where no coin was held.
    hours = {hour: parts for hour, parts in hours.items() if any(parts.values())} or hours
    by_symbol = symbol_profits(profits, bookings)
    totals = part_totals(symbols.values(), profits.total)
    earned = {hour: sum(parts.values()) for hour, parts in hours.items()}
    by_hour = cents_that_add_up(earned, profits.total)
    symbol_cents = table_that_adds_up(symbols, by_symbol, totals)
    hour_cents = table_that_adds_up(hours, by_hour, totals)
    largest = max(*(abs(usd) for usd in totals.values()), Decimal(1))
    rows = [bar_around_zero(part, usd, largest) for part, usd in totals.items()]
    total = Bar("profit", (usd_text(profits.total, sign=True),), 0.0, 0.0, "long")
    return AttributionTables(
        parts=[*rows, total],
        meanings=[*(MEANINGS[part] for part in totals), ""],
        symbols=_rows(symbol_cents, totals),
        hours=_rows(hour_cents, totals),
        chart=hour_chart(tuple(by_hour), [float(usd) for usd in by_hour.values()]),
    )


def symbol_profits(profits: Profits, bookings: Iterable[Booking]) -> dict[str, Decimal]:
    """What each symbol and the account earned, with dividends, borrow and fractions of shares."""
    own = dict(profits.symbols)
    own[ACCOUNT] = sum(profits.rest.values(), NO_CENTS)
    for booking in bookings:
        # The trades of a symbol hold its spread and slippage. All else is booked in whole cents.
        if booking.symbol and booking.kind not in ("spread", "slippage"):
            usd = to_cents(booking.usd)
            own[booking.symbol] += usd
            own[ACCOUNT] -= usd
    return own


def part_totals(rows: Iterable[Parts], profit: Decimal) -> dict[Part, Decimal]:
    """The sum of each part in cents, which add up to the profit."""
    listed = list(rows)
    exact = {part: sum(row[part] for row in listed) for part in PARTS}
    return cents_that_add_up(exact, profit)


def _rows(table: Mapping[str, Cents], totals: Cents) -> list[tuple[str, list[str]]]:
    return [(name, _cells(parts)) for name, parts in [*table.items(), ("total", totals)]]


def _cells(parts: Cents) -> list[str]:
    amounts: Sequence[Decimal] = [parts[part] for part in PARTS]
    return [usd_text(usd, sign=True) for usd in (*amounts, sum(amounts, NO_CENTS))]
