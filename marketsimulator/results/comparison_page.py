"""One self-contained HTML page with many runs side by side; it reads without its one script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from foundation.counts import counted
from foundation.page import render_page
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
from marketsimulator.results.variant_table import figure_text, shown_figure
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


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure of the table.

    text: as people read it.
    value: by which its column is sorted; empty where it is not defined.
    range: what stands below it.
    words: whether it is text.
    """

    text: str
    value: str = ""
    range: str = ""
    words: bool = False

    def __str__(self) -> str:
        return f"{self.text} ({self.range})" if self.range else self.text


@dataclass(frozen=True, slots=True)
class Row:
    """A run in the table; colour: of its curve, empty if grey. link: to its own page."""

    name: str
    cells: tuple[Cell, ...]
    colour: str = ""
    link: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Sheet:
    """Runs side by side as readers see them.

    title, subtitle: of the page; the second says what was run, on which data.
    verdict: what can be told apart.
    heads: of the columns of figures.
    rows: a run each, in the order in which they are shown.
    warnings: what must not be missed.
    notes: what is good to know.
    """

    title: str
    subtitle: str
    verdict: Verdict
    heads: Sequence[str]
    rows: Sequence[Row]
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

    Parameters
    ----------
    runs
        V of them over the same days.
    subtitle
        what they traded, and on which data.
    heads
        of the columns of figures.
    cells
        figures of each run, [V].
    warnings
        what must not be missed; that there are few days is added.
    notes
        what is good to know.
    links
        to each run's own page, [V]; none where they have none.
    pinned
        a run that has a colour whatever its rank.
    """
    found = separation(runs)
    colours = coloured(runs, pinned)
    unnamed = [name for name in runs.varied if not _is_in_names(runs, name)]
    settings, hidden = unnamed[:WIDEST], unnamed[WIDEST:]
    best = runs.names[found.best]
    rows = []
    for k in runs.ranking():
        values = [_setting_cell(runs.varied[name][k]) for name in settings]
        link = links[k] if links else ""
        every = (*values, *cells[k][:LEADING], *_lead_cells(found, k), *cells[k][LEADING:])
        rows.append(Row(runs.names[k], every, colours.get(k, ""), link))
    more = [f"Also different among them: {', '.join(hidden)}."] if hidden else []
    sheet = Sheet(
        title=f"{counted(len(runs.names), 'run')}, {_span(runs)}",
        subtitle=f"{subtitle} · dates are New York's, amounts are USD",
        verdict=set_verdict(runs, found),
        warnings=[*warnings, *length_remarks(runs)],
        notes=[*notes, *more],
        heads=[
            *(re.sub(r"([._])", "\\1\u200b", name) for name in settings),
            *heads[:LEADING],
            *("against the best", "which is"),
            *heads[LEADING:],
        ],
        rows=rows,
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


def figure_cell(row: Mapping[str, Any], column: str, interval: str = "") -> Cell:
    """The cell of a figure of a row; n/a, which is sorted last, where none is shown."""
    value = shown_figure(row, column)
    text = figure_text(row, column)
    return Cell(text) if value is None else Cell(text, repr(float(value)), interval)


def _is_in_names(runs: RunSet, setting: str) -> bool:
    """Whether every run's name says its value of a setting, so that it needs no column."""
    pairs = zip(runs.names, runs.varied[setting], strict=True)
    return all(
        {setting_text(setting, value), value_text(value)} & set(name.split(" "))
        for name, value in pairs
    )


def _setting_cell(value: Any) -> Cell:
    text = value_text(value)
    return Cell(text, text)


def _lead_cells(found: Separation, k: int) -> tuple[Cell, Cell]:
    says = SAYS[found.relations[k]]
    words = Cell(says, says, words=True)
    lead = found.leads[k]
    if lead is None:
        return Cell("–"), words
    interval = ""
    if lead.interval is not None:
        low, high = lead.interval
        interval = f"{low:+.1%} … {high:+.1%}"
    return Cell(f"{lead.ahead:+.2%}", repr(lead.ahead), interval), words


def _span(runs: RunSet) -> str:
    at = pd.DatetimeIndex([runs.at[0], runs.end]).tz_localize("UTC").tz_convert(NEW_YORK)
    return f"{at[0].date()} to {at[1].date()}"
