"""One self-contained HTML page from a run, what it is compared with, and its summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from execution.records import Run, hours_of
from foundation.arrays import Array, Index, Instants
from foundation.cents import to_cents
from foundation.charts import Chart
from foundation.figures import percent, usd
from foundation.page import render_page
from foundation.sample_size import FEWEST_DAYS
from marketsimulator.results.attribution_tables import attribution_tables
from marketsimulator.results.forecast_outcomes import (
    REGIMES,
    ForecastOutcomes,
    coverage,
    forecast_outcomes,
)
from marketsimulator.results.metrics import (
    daily_returns,
    daily_rows,
    monthly_returns,
    rolling_sharpe,
)
from marketsimulator.results.remarks import NO_ANNUAL_FIGURES
from marketsimulator.results.report_charts import (
    Curve,
    drawdown_chart,
    equity_chart,
    fan_chart,
    leverage_chart,
    pit_chart,
    rolling_chart,
)
from marketsimulator.results.report_figures import (
    Profits,
    coin_leverage,
    daily_weights,
    profits_to_the_cent,
    stock_leverage,
)
from marketsimulator.results.report_tables import (
    LISTED,
    TRIPS,
    column_names,
    cost_table,
    coverage_table,
    figure_table,
    fill_table,
    heading,
    lead_table,
    month_table,
    order_table,
    significance_text,
    symbol_table,
    trip_facts,
    trip_sums,
    trip_table,
)
from marketsimulator.results.round_trips import RoundTrips, round_trips
from marketsimulator.results.verdict import verdict
from trainingdata.actions import Action
from trainingdata.bars import Bars, closes_of

FANS = 4  # symbols whose forecasts are drawn
WINDOW = FEWEST_DAYS  # days over which a Sharpe ratio rolls: each point is a yearly figure


@dataclass(frozen=True, eq=False, slots=True)
class Evidence:
    """What a report draws on beside the summary.

    bars: the panel of all runs.
    runs: the main run, then what it is compared with.
    title: what the main run is.
    capital: USD at the start.
    crypto_ceiling: of coins, in multiples of equity.
    splits: that the bars are not adjusted for.
    spoken_on: where the model forecast, in words; empty for what is no model.
    settings: of the main run, as YAML text.
    files: names of those beside the page.
    """

    bars: Bars
    runs: tuple[Run, ...]
    title: str
    capital: float
    crypto_ceiling: float
    splits: tuple[Action, ...]
    spoken_on: str
    settings: str
    files: tuple[str, ...]

    @property
    def main(self) -> Run:
        return self.runs[0]

    @property
    def coins(self) -> bool:
        """Whether a coin is in the universe: days are then calendar days."""
        return bool(self.bars.crypto.any())


def render_report(summary: dict[str, Any], evidence: Evidence) -> str:
    """The page; summary: the content of `summary.json`."""
    orders = evidence.main.order_frame()
    main = evidence.main
    trips = round_trips(main, closes_of(evidence.bars))
    profits = profits_to_the_cent(
        trips, evidence.bars.symbols, summary["contributions"], evidence.capital
    )
    return render_page(
        "marketsimulator/report.html.j2",
        s=summary,
        title=evidence.title,
        heading=heading(summary),
        spoken_on=evidence.spoken_on,
        verdict=verdict(summary),
        notes=[note for note in summary["remarks"] if note not in summary["warnings"]],
        figures=figure_table(summary, ranges=True),
        significance=significance_text(summary),
        leads=lead_table(summary),
        fills=fill_table(summary),
        sent=len(orders),
        orders=order_table(orders.tail(LISTED), main.fill_frame()),
        settings=evidence.settings,
        files=evidence.files,
        **_curve_values(summary, evidence),
        **_symbol_values(summary, evidence, profits),
        money=attribution_tables(**summary["attribution"], profits=profits, bookings=main.bookings),
        **_trip_values(trips, profits),
        **_forecast_values(evidence),
    )


def _curve_values(summary: dict[str, Any], evidence: Evidence) -> dict[str, Any]:
    """Equity, drawdown, leverage, months and the rolling Sharpe ratio."""
    names = column_names(summary)
    at, values = evidence.main.curve()
    rows, marks = daily_rows(at, coins=evidence.coins)
    falls = [_daily_fall(run, evidence) for run in evidence.runs] if len(marks) else []
    return {
        "equity": equity_chart(names, [run.curve() for run in evidence.runs]),
        "drawdown": drawdown_chart(names, falls) if falls else None,
        "deepest": percent(summary["max_drawdown"]),
        "leverage": _leverage(evidence, rows, marks) if len(marks) else [],
        "months": month_table(monthly_returns(at, values, capital=evidence.capital)),
        "window": WINDOW,
        "rolling": _rolling(values[rows], marks, evidence, summary),
        "no_rolling": _no_rolling(summary),
    }


def _daily_fall(run: Run, evidence: Evidence) -> Curve:
    """Below the peak until then, at the run's begin and at 16:00 New York of each day."""
    at, values = run.curve()
    rows, marks = daily_rows(at, coins=evidence.coins)
    daily = np.concatenate([[evidence.capital], values[rows]])
    return np.append(at[0], marks), daily / np.maximum.accumulate(daily) - 1


def _leverage(evidence: Evidence, rows: Index, marks: Instants) -> list[tuple[str, Chart]]:
    """A chart of each asset class that was ever held."""
    charts = []
    if any(row.gross_stock for row in evidence.main.rows):
        days = stock_leverage(evidence.main, rows, marks)
        charts.append(("Leverage in stocks", leverage_chart(days, "stocks")))
    if any(row.gross_crypto for row in evidence.main.rows):
        days = coin_leverage(evidence.main, rows, marks, evidence.crypto_ceiling)
        charts.append(("Leverage in coins", leverage_chart(days, "coins")))
    return charts


def _rolling(
    daily: Array, marks: Instants, evidence: Evidence, summary: dict[str, Any]
) -> Chart | None:
    """Of daily equity; none for a run without yearly figures, or with one window alone."""
    if not summary["annual_figures"]:
        return None
    returns = daily_returns(np.concatenate([[evidence.capital], daily]))
    ratios: Array = rolling_sharpe(returns, WINDOW, summary["periods_per_year"])
    return rolling_chart(marks[WINDOW - 1 :], ratios) if len(ratios) > 1 else None


def _no_rolling(summary: dict[str, Any]) -> str:
    if not summary["annual_figures"]:
        return f"Not shown: {NO_ANNUAL_FIGURES}."
    return f"Each point needs {WINDOW} days, and a line two points that move."


def _symbol_values(summary: dict[str, Any], evidence: Evidence, profits: Profits) -> dict[str, Any]:
    """Weights, contributions and costs."""
    at, _ = evidence.main.curve()
    rows, _ = daily_rows(at, coins=evidence.coins)
    weights = daily_weights(evidence.bars, evidence.main, rows)
    notional = sum(abs(float(fill.qty)) * fill.price for fill in evidence.main.fills)
    gross = profits.total + to_cents(summary["costs"])
    return {
        "symbols": symbol_table(evidence.bars.symbols, weights, profits),
        "costs": cost_table(summary["costs_by_kind"], notional),
        "gross": f"Before costs {usd(gross, sign=True)}, after them"
        f" {usd(profits.total, sign=True)}.",
    }


def _trip_values(trips: RoundTrips, profits: Profits) -> dict[str, Any]:
    """Round trips and what they add up to."""
    return {
        "trip_facts": trip_facts(trips),
        "trip_sums": trip_sums(profits),
        "trips": trip_table(trips, profits),
        "closed": len(trips.closed),
        "listed": min(len(trips.closed), TRIPS),
    }


def _forecast_values(evidence: Evidence) -> dict[str, Any]:
    """Fans and calibration; `forecasts` is 0 where the run has none."""
    outcomes = forecast_outcomes(evidence.main, evidence.bars, evidence.splits)
    if not len(outcomes):
        return {"forecasts": 0}
    regimes = outcomes.regimes()
    hours = np.array(outcomes.hours())
    every = [("all", np.ones(len(outcomes), dtype=bool))]
    by_regime = [(name, regimes == number) for number, name in enumerate(REGIMES)]
    by_hour = [(str(hour), hours == hour) for hour in np.unique(hours)]
    return {
        "forecasts": len(outcomes),
        "fans": _fans(evidence, outcomes),
        "pit": pit_chart(outcomes.pit()),
        "coverage_regimes": coverage_table(coverage(outcomes, every + by_regime)),
        "coverage_hours": coverage_table(coverage(outcomes, by_hour)),
    }


def _fans(evidence: Evidence, outcomes: ForecastOutcomes) -> Sequence[tuple[str, Chart]]:
    """Of the symbols with the largest positions on average, largest first."""
    size = dict.fromkeys(evidence.bars.symbols, 0.0)
    decisions = evidence.main.decision_frame()
    held = hours_of(decisions) * decisions["target"].abs()
    for symbol, hours in held.groupby(decisions["symbol"]).sum().items():
        if symbol in size:
            size[str(symbol)] += float(hours)
    charts = []
    for symbol in sorted(size, key=lambda name: size[name], reverse=True):
        chart = fan_chart(outcomes, evidence.bars.symbols.index(symbol))
        if chart is not None:
            charts.append((symbol, chart))
        if len(charts) == FANS:
            break
    return charts
