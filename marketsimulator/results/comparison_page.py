"""One self-contained HTML page with many runs side by side; it reads without its one script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foundation.charts import COLOURS, Chart, Series
from foundation.formatting import percent
from foundation.page import render_page
from foundation.tables import Table
from marketsimulator.results.run_set import RunSet
from marketsimulator.results.verdict import Verdict
from trainingdata.instants import NEW_YORK


@dataclass(frozen=True, eq=False, slots=True)
class Sheet:
    """Runs side by side as readers see them.

    title, subtitle: of the page; the second says what was run, on which data.
    verdict: what can be told apart.
    table: a row a run.
    warnings: what must not be missed.
    notes: what is good to know.
    """

    title: str
    subtitle: str
    verdict: Verdict
    table: Table
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()

    def page(self, template: str, **values: Any) -> str:
        """One self-contained page by a template that extends `marketsimulator/runs.html.j2`."""
        return render_page(template, sheet=self, **values)


def colours_by_run(runs: RunSet) -> dict[int, str]:
    """Colour by number of run, of the best six."""
    return dict(zip(runs.ranking(), COLOURS, strict=False))


def growth_chart(runs: RunSet, colours: Mapping[int, str]) -> Chart:
    """Growth of the runs that have a colour, from the begin to the end."""
    at, growth = runs.growth()
    ends = ", ".join(f"{runs.names[k]} {percent(growth[k, -1])}" for k in colours)
    drawn = [Series(runs.names[k], colour, at, growth[k]) for k, colour in colours.items()]
    return Chart(
        f"Growth since the begin; at the end: {ends}",
        tuple(series.thin() for series in reversed(drawn)),
        "percent",
        NEW_YORK.key,
    )
