"""Report of a backtest: HTML page, files and terminal output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from rich.console import RenderableType

from forecasting.forecast import NO_FORECAST
from foundation.charts import Chart
from foundation.decimals import to_cents
from foundation.files import add_summary_writer
from foundation.formatting import format_number, format_percent, format_usd
from foundation.page import render_page
from marketsimulator.results.exports import export_file_writers
from marketsimulator.results.forecast_outcomes import ForecastOutcomes, measure_forecast_outcomes
from marketsimulator.results.metrics import day_end_rows, returns_by_period
from marketsimulator.results.price_charts import price_charts
from marketsimulator.results.report_charts import (
    daily_weights,
    exposure_chart,
    fan_chart,
    leverage_chart,
    pit_chart,
)
from marketsimulator.results.report_tables import (
    MAX_ORDERS_SHOWN,
    MAX_ROUND_TRIPS_SHOWN,
    attribution_tables,
    benchmark_sentence,
    binding_limit_table,
    capital_sentence,
    cost_table,
    figure_table,
    fill_timeframe_table,
    format_run_name,
    format_run_period,
    order_table,
    outperformance_table,
    round_profits_to_cents,
    round_trip_statistics_table,
    round_trip_table,
    run_headings,
    symbol_profit_table,
)
from marketsimulator.results.returns_page import (
    RUN_COLOUR_NAMES,
    describe_significance,
    drawdown_chart,
    drawdown_table,
    equity_chart,
    monthly_return_table,
    rolling_charts,
    rolling_window_days,
    yearly_return_chart,
)
from marketsimulator.results.round_trips import build_round_trips
from marketsimulator.results.run_folder import SUMMARY_FILE
from marketsimulator.results.summary import BacktestResults
from marketsimulator.results.verdict import backtest_verdict, benchmark_label
from marketsimulator.run_result import holding_hours, run_file_writers
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import last_closes_by_symbol

MAX_FAN_CHARTS = 4  # symbols with a chart of forecasts


def result_file_writers(
    results: BacktestResults,
    summary: dict[str, Any],
    extra_files: Mapping[str, Callable[[Path], object]] | None = None,
) -> dict[str, Callable[[Path], object]]:
    """Return the writer of each file of a backtest, by file name.

    results: runs of the backtest.
    summary: content of `summary.json`.
    extra_files: writers of additional files, by file name.
    """
    run = results.main_run
    config = format_settings(results.settings)

    def write_report(path: Path) -> None:
        files = (*(name for name in writers if name != "report.html"), SUMMARY_FILE)
        path.write_text(render_report(summary, results, config, files), encoding="utf-8")

    writers: dict[str, Callable[[Path], object]] = {
        **run_file_writers(run),
        **export_file_writers(results),
        **(extra_files or {}),
        "config.yaml": lambda path: path.write_text(config),
        "report.html": write_report,
    }
    return add_summary_writer(writers, SUMMARY_FILE, summary)


def terminal_parts(
    summary: dict[str, Any], seconds: float
) -> tuple[list[RenderableType], list[str]]:
    """Return the terminal output of a backtest.

    The first item has the verdict and the table of figures, the second sentences with further
    figures and warnings.

    seconds: elapsed time.
    """
    symbols = ", ".join(summary["symbols"])
    title = (
        f"{format_run_name(summary)}\n{format_run_period(summary)}\n{symbols}\n{summary['data']}"
    )
    table = figure_table(summary, title)
    found = backtest_verdict(summary)
    benchmark = benchmark_sentence(summary)
    significance = describe_significance(summary)
    sentences = [
        capital_sentence(summary),
        significance,
        benchmark,
        found.evidence,
        *summary["remarks"],
    ]
    sentences.append(
        f"Prices: {summary['prices']}. Margin rules: autumn 2026 on every date. Elapsed:"
        f" {format_number(seconds, 1)} s."
    )
    return [found.claim, table], list(filter(None, sentences))


def format_settings(settings: BacktestSettings) -> str:
    """Return the content of `config.yaml`."""
    return yaml.safe_dump(to_plain_value(asdict(settings)), sort_keys=False)


def to_plain_value(value: Any) -> Any:
    """Convert all dicts and sequences in a value to plain dicts and lists, for YAML."""
    if isinstance(value, dict):
        return {key: to_plain_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain_value(item) for item in value]
    return value


def render_report(
    summary: dict[str, Any], results: BacktestResults, settings: str, file_names: Sequence[str]
) -> str:
    """Render the report of a backtest as one self-contained HTML page.

    summary: content of `summary.json`.
    results: runs of the backtest.
    settings: settings of the main run, as YAML text.
    file_names: names of the other files, to which the page links.
    """
    main, bars = results.main_run, results.market.bars
    capital = results.settings.capital
    orders = main.order_frame()
    trips = build_round_trips(main, last_closes_by_symbol(bars))
    rows, _ = day_end_rows(main.equity_curve()[0], has_crypto=results.has_crypto)
    marks, daily = results.daily_equity_curve(main)
    names = run_headings(summary)
    beside = [names[0], benchmark_label(summary, summary["benchmark"])]
    colours = [
        RUN_COLOUR_NAMES[0],
        RUN_COLOUR_NAMES[1 + list(summary["comparisons"]).index(summary["benchmark"])],
    ]
    mine, other = (
        returns_by_period("Y", days[1:], equity[1:], capital=capital)
        for days, equity in ((marks, daily), results.daily_benchmark_curve())
    )
    years = [mine, other.reindex(mine.index)]
    profits = round_profits_to_cents(summary["contributions"], capital)
    profit = sum(profits.values(), Decimal(0))
    gross = profit + to_cents(summary["costs"])
    notional = sum(abs(float(fill.qty)) * fill.price for fill in main.fills)
    outcomes = measure_forecast_outcomes(main, bars, results.market.splits)
    weights = daily_weights(bars, main, rows)
    decisions = main.decision_frame()
    return render_page(
        "marketsimulator/report.html.j2",
        s=summary,
        title=results.title,
        run_name=format_run_name(summary),
        heading=format_run_period(summary),
        hardware_description=results.hardware_description,
        verdict=backtest_verdict(summary),
        notes=[note for note in summary["remarks"] if note not in summary["warnings"]],
        figures=figure_table(summary, with_intervals=True),
        capital=capital_sentence(summary),
        benchmark=benchmark_sentence(summary),
        significance=describe_significance(summary),
        outperformances=outperformance_table(summary),
        fills=fill_timeframe_table(summary),
        equity=equity_chart(names, results.equity_curves()),
        drawdown=drawdown_chart(names, results.daily_equity_curves()),
        drawdowns=drawdown_table(marks, daily),
        deepest=format_percent(summary["max_drawdown"]),
        months=monthly_return_table(
            *(returns_by_period(unit, marks[1:], daily[1:], capital=capital) for unit in "MY")
        ),
        years=yearly_return_chart(beside, years, colours),
        rolling=rolling_charts(
            beside,
            [(marks, daily), results.daily_benchmark_curve()],
            colours,
            results.periods_per_year,
        ),
        window=rolling_window_days(results.periods_per_year),
        exposure=exposure_chart(marks[1:], weights),
        prices=price_charts(main, bars, orders),
        has_stops=bool(decisions["plan_stop_price"].notna().any()),
        traded=len(bars.symbols),
        statistics=round_trip_statistics_table(trips),
        trips=round_trip_table(
            sorted(trips, key=lambda trip: trip.closed_at is None)[-MAX_ROUND_TRIPS_SHOWN:]
        ),
        made=len(trips),
        symbols=symbol_profit_table(bars.symbols, weights, profits),
        money=attribution_tables(**summary["attribution"], profit=profit),
        costs=cost_table(summary["costs_by_kind"], notional),
        gross=(
            f"Profit before costs {format_usd(gross, sign=True)}, after costs"
            f" {format_usd(profit, sign=True)}."
        ),
        leverage=leverage_chart(main, results.settings.limits.crypto_leverage),
        limits=binding_limit_table(decisions),
        has_forecasts=summary["forecaster"] != NO_FORECAST,
        forecasts=len(outcomes),
        fans=_fan_charts(results, outcomes),
        pit=pit_chart(outcomes.pit_values()) if len(outcomes) else None,
        sent=len(orders),
        orders=order_table(orders.tail(MAX_ORDERS_SHOWN), main.fill_frame(), decisions),
        settings=settings,
        files=file_names,
    )


def _fan_charts(
    results: BacktestResults, outcomes: ForecastOutcomes
) -> Sequence[tuple[str, Chart]]:
    """Return the fan charts of the symbols with the largest mean positions."""
    size = dict.fromkeys(results.market.bars.symbols, 0.0)
    decisions = results.main_run.decision_frame()
    held = holding_hours(decisions) * decisions["target"].abs()
    for symbol, hours in held.groupby(decisions["symbol"]).sum().items():
        if symbol in size:
            size[str(symbol)] += float(hours)
    charts = []
    for symbol in sorted(size, key=lambda name: size[name], reverse=True):
        chart = fan_chart(outcomes, results.market.bars.symbols.index(symbol))
        if chart is not None:
            charts.append((symbol, chart))
        if len(charts) == MAX_FAN_CHARTS:
            break
    return charts
