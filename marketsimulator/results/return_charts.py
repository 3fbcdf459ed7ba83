"""Charts of equity, drawdowns and returns, of any account."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants
from foundation.charts import Chart, Series, SeriesForm, ValueUnit
from foundation.formatting import format_number, format_percent, format_usd
from marketsimulator.results.metrics import daily_returns, rolling_figures
from trainingdata.instants import NEW_YORK

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
