"""Tables, charts and page of a track record: terminal and self-contained HTML."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from foundation.arrays import Instants
from foundation.formatting import interval, percent
from foundation.page import render_page
from foundation.tables import Cell, Row, Table
from marketsimulator.results.metrics import TABLE_FIGURES, format_figure, returns_by_period
from marketsimulator.results.report_charts import curves_chart, drawdown_chart
from marketsimulator.results.report_tables import describe_significance, drawdown_table, month_table
from marketsimulator.results.track_record import TrackRecord
from trainingdata.instants import new_york_four_pm


def record_parts(record: TrackRecord) -> tuple[list[str | Table], list[str]]:
    """Return the terminal output of a track record: verdict and table, then sentences."""
    verdict = record.verdict()
    sentences = (verdict.evidence, _describe_significance(record), *record.warnings())
    title = f"{record_heading(record)}\n{record.source}".strip()
    table = replace(figure_table(record), title=title)
    return [verdict.claim, table], list(filter(None, sentences))


def render_track_record(record: TrackRecord) -> str:
    """Render a track record as one self-contained HTML page."""
    records = [record] if record.benchmark is None else [record, record.benchmark]
    names = [each.name for each in records]
    days: Instants = new_york_four_pm(record.dates)
    at = np.append(days[:1] - np.timedelta64(16, "h"), days)  # from midnight of the first day
    curves = [(at, each.daily_equity / each.daily_equity[0]) for each in records]
    returns = [(at, growth - 1.0) for at, growth in curves]
    growth = curves[0][1]
    return render_page(
        "marketsimulator/tearsheet.html.j2",
        record=record,
        heading=record_heading(record),
        verdict=record.verdict(),
        warnings=record.warnings(),
        significance=_describe_significance(record),
        figures=figure_table(record),
        growth=curves_chart("Cumulative returns", names, returns, "percent", percent),
        drawdown=drawdown_chart(names, curves),
        drawdowns=drawdown_table(at, record.daily_equity),
        months=month_table(*(returns_by_period(unit, at, growth, capital=1.0) for unit in "MY")),
    )


def record_heading(record: TrackRecord) -> str:
    """Return the name of a record with its first and last date."""
    return f"{record.name}: {record.dates[0]} to {record.dates[-1]}"


def figure_table(record: TrackRecord) -> Table:
    """Return the table of figures with 90 % intervals, and those of the benchmark."""
    annual = record.is_long_enough
    other = record.benchmark
    rows: list[Row] = []
    for key, figure in TABLE_FIGURES.items():
        if not figure.label or key not in record.figures:
            continue
        shown = annual or not figure.is_annual
        ends = record.intervals.get(key) if shown else None
        text = format_figure(record.figures, key, annual=annual)
        row: list[str | Cell] = [
            figure.label,
            Cell(text, "strong", interval(ends, figure.formatter)),
        ]
        if other is not None:
            known = key in other.figures
            row.append(format_figure(other.figures, key, annual=annual) if known else "")
        rows.append(row)
    if other is not None and (lead := record.outperformance) is not None:
        signed = partial(percent, sign=True)
        cell = Cell(signed(lead.lead), "strong", interval(lead.interval, signed))
        rows.append(("Outperformance", cell, ""))
    heads = ("", record.name) if other is None else ("", record.name, other.name)
    return Table("Figures", heads, rows)


def _describe_significance(record: TrackRecord) -> str:
    summary = {"intervals": record.intervals, "annual_figures": record.is_long_enough}
    return describe_significance({**record.figures, **summary})
