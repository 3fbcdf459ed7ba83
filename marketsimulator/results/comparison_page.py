"""One self-contained HTML page with many runs side by side; it reads without its one script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from foundation.counts import counted
from foundation.figures import NONE, interval, percent
from foundation.page import render_page
from foundation.tables import Cell, Row, Table
from marketsimulator.results.comparison_charts import (
    coloured,
    falls_chart,
    grey_text,
    growth_chart,
    heat_map,
    setting_text,
    value_text,
)
from marketsimulator.results.remarks import NO_ANNUAL_FIGURES
from marketsimulator.results.run_set import (
    RunSet,
    Separation,
    length_remarks,
    separation,
    set_verdict,
)
from marketsimulator.results.verdict import Verdict
from trainingdata.instants import NEW_YORK

WIDEST = 4  # settings that have columns
LEADING = 2  # figures before the lead: the return and the Sharpe ratio
SAYS = {
    "best": "best",
    "ahead": "ahead, beyond error",
    "behind": "behind, beyond error",
    "alike": "not told apart",
    "same": "the same",
    "untold": "too few days",
    "ruined": "nothing left",
    "left out": "not compared",
}


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


def render_comparison(
    runs: RunSet,
    subtitle: str,
    heads: Sequence[str],
    cells: Sequence[Sequence[Cell]],
    *,
    warnings: Sequence[str] = (),
    notes: Sequence[str] = (),
    links: Sequence[str] = (),
    pinned: str = "",
) -> str:
    """The page: what can be told apart, a row a run, the map of two settings, and the curves.

    runs: V of them over the same days.
    subtitle: what they traded, and on which data.
    heads: of the columns of figures.
    cells: figures of each run, [V].
    warnings: what must not be missed; that there are few days is added.
    notes: what is good to know.
    links: to each run's own page, [V]; none where they have none.
    pinned: a run that has a colour whatever its rank.
    """
    found = separation(runs)
    colours = coloured(runs, pinned)
    unnamed = [name for name in runs.varied if not _is_in_names(runs, name)]
    settings, hidden = unnamed[:WIDEST], unnamed[WIDEST:]
    best = runs.names[found.best]
    rows: list[Row] = []
    for k in runs.ranking():
        name = Cell(runs.names[k], key=colours.get(k, ""), link=links[k] if links else "")
        values = [value_text(runs.varied[setting][k]) for setting in settings]
        lead = (_lead_cell(found, k), SAYS[found.relations[k]])
        rows.append((name, *values, *cells[k][:LEADING], *lead, *cells[k][LEADING:]))
    shown = [re.sub(r"([._])", "\\1\u200b", name) for name in settings]
    columns = ("run", *shown, *heads[:LEADING], "against the best", "which is", *heads[LEADING:])
    more = [f"Also different among them: {', '.join(hidden)}."] if hidden else []
    sheet = Sheet(
        title=f"{counted(len(runs.names), 'run')}, {_span(runs)}",
        subtitle=f"{subtitle} · dates are New York's, amounts are USD",
        verdict=set_verdict(runs, found),
        warnings=[*warnings, *length_remarks(runs)],
        notes=[*notes, *more],
        table=Table("Runs", columns, rows, words=(len(settings) + LEADING + 2,)),
    )
    return sheet.page(
        "marketsimulator/comparison.html.j2",
        per_year=runs.per_year,
        best=best,
        rule=NO_ANNUAL_FIGURES,
        pinned=pinned,
        map=heat_map(runs),
        growth=growth_chart(runs, colours),
        falls=falls_chart(runs, colours),
        grey=grey_text(runs, colours),
    )


def _is_in_names(runs: RunSet, setting: str) -> bool:
    """Whether every run's name says its value of a setting, so that it needs no column."""
    pairs = zip(runs.names, runs.varied[setting], strict=True)
    return all(
        {setting_text(setting, value), value_text(value)} & set(name.split(" "))
        for name, value in pairs
    )


def _lead_cell(found: Separation, k: int) -> Cell:
    """How far a run ends ahead of the best, and the interval."""
    lead = found.leads[k]
    if lead is None:
        return Cell(NONE)
    ends = interval(lead.interval, partial(percent, places=1, sign=True), " … ")
    return Cell(percent(lead.ahead, sign=True), below=ends)


def _span(runs: RunSet) -> str:
    at = pd.DatetimeIndex([runs.at[0], runs.end]).tz_localize("UTC").tz_convert(NEW_YORK)
    return f"{at[0].date()} to {at[1].date()}"
