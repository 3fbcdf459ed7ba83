"""Tables, charts and page of a track record: terminal and self-contained HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from foundation.arrays import Instants
from foundation.charts import Chart, Series
from foundation.formatting import interval, number, percent
from foundation.page import render_page
from foundation.tables import Cell, Row, Table
from marketsimulator.results.metrics import (
    TABLE_FIGURES,
    figure_text,
    returns_by_period,
    worst_drawdowns,
)
from marketsimulator.results.report_charts import CHART_TIMEZONE, RUN_COLOURS, Curve
from marketsimulator.results.report_tables import month_table, significance_text
from marketsimulator.results.track_record import TrackRecord
from trainingdata.instants import DAY, four_pm

MAX_DRAWDOWNS_SHOWN = 5


def record_parts(record: TrackRecord) -> tuple[list[str | Table], list[str]]:
    """Return the terminal output of a track record: verdict and tables, then sentences."""
    verdict = record.verdict()
    sentences = (verdict.evidence, _significance(record), *record.warnings())
    title = f"{record_heading(record)}\n{record.source}".strip()
    return [verdict.claim, replace(figure_table(record), title=title)], [
        text for text in sentences if text
    ]


def render_track_record(record: TrackRecord) -> str:
    """Render a track record as one self-contained HTML page."""
    records = [record] if record.benchmark is None else [record, record.benchmark]
    curves = [_curve(each) for each in records]
    gains = [(days, line - 1.0) for days, line in curves]
    falls = [(days, line / np.maximum.accumulate(line) - 1.0) for days, line in curves]
    names = [each.name for each in records]
    at, growth = curves[0]
    return render_page(
        "marketsimulator/tearsheet.html.j2",
        record=record,
        heading=record_heading(record),
        verdict=record.verdict(),
        warnings=record.warnings(),
        significance=_significance(record),
        figures=figure_table(record),
        growth=_chart("Cumulative returns", names, gains),
        drawdown=_chart("Drawdown", names, falls),
        deepest=drawdown_table(record),
        months=month_table(*(returns_by_period(unit, at, growth, capital=1.0) for unit in "MY")),
    )


def record_heading(record: TrackRecord) -> str:
    """Return the name of a record with its first and last date."""
    return f"{record.name}: {record.dates[0]} to {record.dates[-1]}"


def figure_table(record: TrackRecord) -> Table:
    """Return the table of figures with 90 % intervals, beside the benchmark's."""
    annual = record.is_long_enough
    other = record.benchmark
    rows: list[Row] = []
    for key, figure in TABLE_FIGURES.items():
        if not figure.label or key not in record.figures:
            continue
        shown = annual or not figure.is_annual
        ends = record.intervals.get(key) if shown else None
        text = figure_text(record.figures, key, annual=annual)
        row: list[str | Cell] = [
            figure.label,
            Cell(text, "strong", interval(ends, figure.formatter)),
        ]
        if other is not None:
            row.append(_benchmark_text(other, key, annual=annual))
        rows.append(row)
    if other is not None and (lead := record.outperformance) is not None:
        gain = partial(percent, sign=True)
        ahead = Cell(gain(lead.lead), "strong", interval(lead.interval, gain))
        rows.append(("Outperformance", ahead, ""))
    heads = ("", record.name) if other is None else ("", record.name, other.name)
    return Table("Figures", heads, rows)


def _benchmark_text(other: TrackRecord, key: str, *, annual: bool) -> str:
    return figure_text(other.figures, key, annual=annual) if key in other.figures else ""


def drawdown_table(record: TrackRecord) -> Table:
    """Return the table of the five deepest drawdowns."""
    dates = np.append(record.dates[:1], record.dates)
    rows: list[Row] = []
    for each in worst_drawdowns(record.daily, MAX_DRAWDOWNS_SHOWN):
        end = "open" if each.end is None else str(dates[each.end])
        days = number(each.days, 0)
        rows.append(
            (str(dates[each.peak]), str(dates[each.trough]), end, days, percent(each.depth))
        )
    heads = ("peak", "trough", "recovered", "days", "depth")
    return Table("Deepest drawdowns", heads, rows, optional_columns=(1,))


def _significance(record: TrackRecord) -> str:
    told = {"intervals": record.intervals, "annual_figures": record.is_long_enough}
    return significance_text({**record.figures, **told})


def _chart(text: str, names: Sequence[str], curves: Sequence[Curve]) -> Chart:
    """Return the chart of the curves of a record and its benchmark, fractions."""
    drawn = [
        Series(name, colour, at, values).downsample()
        for name, colour, (at, values) in zip(names, RUN_COLOURS, curves, strict=False)
    ]
    ends = ", ".join(f"{each.name} {percent(each.values[-1])}" for each in drawn)
    return Chart(f"{text}; at the end: {ends}", tuple(drawn[::-1]), "percent", CHART_TIMEZONE)


def _curve(record: TrackRecord) -> Curve:
    """Return the growth of 1 before the first day and at the end of each day, [1 + D]."""
    days: Instants = four_pm(record.dates)
    return np.append(days[:1] - DAY, days), record.daily / record.daily[0]
