"""Self-contained HTML page that compares runs; it is readable without JavaScript."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from foundation.charts import SERIES_COLOURS, Chart, Series
from foundation.formatting import format_percent
from foundation.page import render_page
from foundation.tables import Table
from marketsimulator.results.run_set import RunSet
from marketsimulator.results.verdict import Verdict
from trainingdata.instants import NEW_YORK


@dataclass(frozen=True, eq=False, slots=True)
class ComparisonPage:
    """Content of a comparison page.

    title, subtitle: headings; the subtitle names symbols and data.
    verdict: verdict on significant differences.
    table: table with one row per run.
    warnings: warnings about the data that may affect the figures.
    notes: remarks on the method of the runs.
    """

    title: str
    subtitle: str
    verdict: Verdict
    table: Table
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()

    def render(self, template: str, **values: Any) -> str:
        """Render the page as HTML.

        template: template that extends `marketsimulator/runs.html.j2`.
        values: further variables of the template.
        """
        own = {each.name: getattr(self, each.name) for each in fields(self)}
        return render_page(template, **own, **values)


def colours_by_run(runs: RunSet) -> dict[int, str]:
    """Return the chart colours of the best six runs, by run number."""
    return dict(zip(runs.ranking(), SERIES_COLOURS, strict=False))


def growth_chart(runs: RunSet, colours: Mapping[int, str]) -> Chart:
    """Return the chart of cumulative returns of the runs that have a chart colour."""
    at, growth = runs.instants, runs.cumulative_returns
    ends = ", ".join(f"{runs.names[k]} {format_percent(growth[k, -1])}" for k in colours)
    drawn = [Series(runs.names[k], colour, at, growth[k]) for k, colour in colours.items()]
    return Chart(
        f"Cumulative returns; at the end: {ends}",
        tuple(series.downsample() for series in reversed(drawn)),
        "percent",
        NEW_YORK.key,
    )
