"""Charts, tables and sentences of a page on daily returns and drawdowns, of any account."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants
from foundation.charts import Chart, Series, SeriesForm, ValueUnit
from foundation.formatting import (
    format_count,
    format_interval,
    format_number,
    format_percent,
    format_usd,
)
from foundation.tables import Cell, Row, Table
from marketsimulator.results.metrics import (
    daily_returns,
    format_figure,
    rolling_figures,
    worst_drawdowns,
)
from trainingdata.instants import NEW_YORK, new_york_date

MAX_DRAWDOWNS_SHOWN = 5
HEAT_MAP_LEVELS = 4  # colours of a heat map on each side of zero
MONTH_NAMES = tuple(f"{pd.Timestamp(2001, month, 1):%b}" for month in range(1, 13))
CHART_TIMEZONE = NEW_YORK.key  # time zone of every chart


RUN_COLOUR_NAMES = ("first", "quiet", "third", "fourth", "second")  # main run, benchmarks


SAME_CURVE_TOL = 1e-6  # relative difference below which two curves are one line


RATIO_DIGITS = 5  # significant digits of ratios in a chart


Curve = tuple[Instants, Array]  # instants [N] and values [N]


def equity_chart(names: Sequence[str], curves: Sequence[Curve]) -> Chart:
    """Return the chart of equity (USD) of the main run and its benchmarks."""
    return curves_chart("Equity in USD", names, curves, "usd", partial(format_usd, places=0))


def drawdown_chart(names: Sequence[str], curves: Sequence[Curve]) -> Chart:
    """Return the chart of drawdowns of the main run and its benchmarks.

    curves: instants and equity of each run.
    """
    drawdowns = [(at, values / np.maximum.accumulate(values) - 1) for at, values in curves]
    return curves_chart("Drawdown", names, drawdowns, "percent", format_percent)


def rolling_charts(
    names: Sequence[str], curves: Sequence[Curve], colours: Sequence[str], days_per_year: int
) -> list[Chart]:
    """Return the charts of rolling Sharpe ratio, volatility and beta; none for short runs.

    names, curves, colours: of the main run, then of its benchmark, if any; daily equity [1 + D].
    days_per_year: days per year.
    """
    at = curves[0][0]
    returns = [daily_returns(daily) for _, daily in curves]
    window = rolling_window_days(days_per_year)
    if min(map(len, returns)) <= window or len({len(each) for each in returns}) > 1:
        return []
    figures = [rolling_figures(each, returns[-1], window, days_per_year) for each in returns]
    ends = at[window : len(returns[0]) + 1]  # no returns follow a wipe-out
    units: list[tuple[str, str, ValueUnit, Callable[[float], str]]] = [
        ("sharpe", "Rolling Sharpe", "plain", format_number),
        ("volatility", "Rolling volatility (ann.)", "percent", format_percent),
    ]
    if len(names) > 1:
        units.append(("beta", f"Rolling beta to {names[1]}", "plain", format_number))
    charts = []
    for key, title, unit, format_value in units:
        shown = figures[:1] if key == "beta" else figures
        series = [
            Series(name, colour, ends, each[key], significant_digits=RATIO_DIGITS).downsample()
            for name, colour, each in zip(names, colours, shown, strict=False)
        ]
        last = ", ".join(f"{each.name} {format_value(each.values[-1])}" for each in series)
        charts.append(
            Chart(f"{title}; at the end: {last}", tuple(series[::-1]), unit, CHART_TIMEZONE)
        )
    return charts


def rolling_window_days(days_per_year: int) -> int:
    """Return the days of a rolling window: a quarter of a year."""
    return round(days_per_year / 4)


def yearly_return_chart(
    names: Sequence[str], yearly_returns: Sequence[pd.Series], colours: Sequence[str]
) -> Chart:
    """Return the chart of yearly returns: bars of the main run, dots of the benchmark.

    names, yearly_returns, colours: of the main run, then of its benchmark, if any; years from
        `returns_by_period`.
    """
    labels = tuple(str(year) for year in pd.DatetimeIndex(yearly_returns[0].index).year)
    places = np.arange(float(len(labels)))
    values = [each.to_numpy() for each in yearly_returns]
    texts = ", ".join(
        f"{label} {' and '.join(format_percent(each, sign=True) for each in returns)}"
        for label, returns in zip(labels, zip(*values, strict=True), strict=True)
    )
    forms: tuple[SeriesForm, ...] = ("bars", "dots")
    series = (
        Series(name, colour, places, each, form)
        for name, colour, each, form in zip(names, colours, values, forms, strict=False)
    )
    text = f"Yearly returns of {' and '.join(names)}: {texts}"
    return Chart(text, tuple(series), "percent", x_labels=labels)


def curves_chart(
    title: str,
    names: Sequence[str],
    curves: Sequence[Curve],
    unit: ValueUnit,
    format_value: Callable[[float], str],
) -> Chart:
    """Return a chart of curves over time, with the first one on top.

    title: name of the values.
    format_value: format of the last value in the description.
    """
    series: list[Series] = []
    ends = []
    for name, colour, (at, values) in zip(names, RUN_COLOUR_NAMES, curves, strict=False):
        over = _identical_curve_note(names, curves[: len(series)], at, values)
        series.append(Series(name + over, colour, at, values).downsample())
        ends.append(
            f"{name} {format_value(values[-1]) if math.isfinite(values[-1]) else 'nothing'}"
        )
    caption = f"{title}; at the end: {', '.join(ends)}"
    logarithmic = unit == "usd" and bool(curves[0][1][0] > 0)
    return Chart(caption, tuple(series[::-1]), unit, CHART_TIMEZONE, offers_log_scale=logarithmic)


def _identical_curve_note(
    names: Sequence[str], above: Sequence[Curve], at: Instants, values: Array
) -> str:
    """Return a note that an identical curve hides this one; empty if none does."""
    for name, (other, worth) in zip(names, above, strict=False):
        if np.array_equal(at, other) and np.allclose(
            values, worth, rtol=SAME_CURVE_TOL, atol=0.0, equal_nan=True
        ):
            return f" (the same line, under {name})"
    return ""


def describe_significance(summary: dict[str, Any]) -> str:
    """Return a sentence on the Sharpe ratio, its interval and probabilities, or ""."""
    if summary["sharpe"] is None:
        return ""
    text = f"Sharpe {format_figure(summary, 'sharpe', annual=summary['annual_figures'])}"
    if "sharpe" in summary["intervals"]:
        text += (
            f", 90% interval {format_interval(summary['intervals']['sharpe'], format_number)}"
            " (stationary"
            f" bootstrap, {format_count(summary['days'], 'day')})"
        )
    if summary["probabilistic_sharpe"] is not None:
        chance = format_percent(summary["probabilistic_sharpe"], 0)
        text += f"; probabilistic Sharpe (above zero) {chance}"
    if summary["deflated_sharpe"] is not None:
        others = format_count(summary["trials"], "variant")
        text += f"; deflated Sharpe {format_percent(summary['deflated_sharpe'], 0)} after {others}"
    return text + "."


def monthly_return_table(monthly_returns: pd.Series, yearly_returns: pd.Series) -> Table:
    """Return the heat map of monthly returns: a row per month and the year, a column per year.

    Cells outside the run are empty.

    monthly_returns, yearly_returns: returns by the first day of their period, from
        `returns_by_period`.
    """
    at = pd.DatetimeIndex(monthly_returns.index)
    largest = float(monthly_returns.abs().max())
    cells = [_heat_cell(value, largest) for value in monthly_returns]
    known = dict(zip(zip(at.month, at.year, strict=True), cells, strict=True))
    every = pd.DatetimeIndex(yearly_returns.index).year
    rows: list[Row] = [
        (MONTH_NAMES[month - 1], *(known.get((month, year), "") for year in every))
        for month in sorted({month for month, _ in known})
    ]
    rows.append(("year", *map(_toned_cell, yearly_returns)))
    return Table("Monthly returns", ("", *map(str, every)), rows, has_total_row=True)


def drawdown_table(instants: Instants, daily_equity: Array) -> Table:
    """Return the table of the five worst drawdowns.

    instants: the start and the end of each day [1 + D].
    daily_equity: equity at these instants.
    """
    dates = new_york_date(instants)
    rows: list[Row] = [
        (
            str(dates[each.peak_index]),
            str(dates[each.trough_index]),
            "not yet" if each.recovery_index is None else str(dates[each.recovery_index]),
            format_percent(each.depth),
            format_number(each.days_below_peak, 0),
        )
        for each in worst_drawdowns(daily_equity, MAX_DRAWDOWNS_SHOWN)
    ]
    heads = ("started", "trough", "recovered", "drawdown", "days")
    return Table("Worst drawdowns", heads, rows, optional_columns=(1,))


def _toned_cell(value: float | None) -> Cell:
    text = format_percent(value, sign=True)
    return Cell(text, {"+": "good", "-": "bad"}.get(text[0], ""))


def _heat_cell(value: float, largest: float) -> Cell:
    """Format a return as a cell with the tone of its sign and size, `up1` to `down4`.

    largest: the largest absolute return of the table.
    """
    text = format_percent(value, sign=True)
    if text[0] not in "+-" or not largest > 0:
        return Cell(text)
    level = math.ceil(HEAT_MAP_LEVELS * abs(value) / largest)
    return Cell(text, f"{'up' if value > 0 else 'down'}{level}")
