"""Tables and sentences on daily returns and drawdowns, of any account."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from foundation.arrays import Array, Instants
from foundation.formatting import format_count, format_interval, format_number, format_percent
from foundation.tables import Cell, Row, Table
from marketsimulator.results.metrics import format_figure, worst_drawdowns
from trainingdata.instants import new_york_date

MAX_DRAWDOWNS_SHOWN = 5


HEAT_MAP_LEVELS = 4  # colours of a heat map on each side of zero


MONTH_NAMES = tuple(f"{pd.Timestamp(2001, month, 1):%b}" for month in range(1, 13))


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
