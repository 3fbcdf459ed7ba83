"""One self-contained HTML page with many runs side by side; it reads without its one script."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from foundation.arrays import Array, Instants
from foundation.charts import COLOURS, Chart, Series
from foundation.counts import counted
from foundation.figures import NONE, interval, number, percent
from foundation.page import render_page
from foundation.tables import Cell, Row, Table
from marketsimulator.results.remarks import NO_ANNUAL_FIGURES
from marketsimulator.results.run_record import setting_text, value_text
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
    "insufficient_data": "too few days",
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


GREY = 60  # curves without a colour at most
GREY_POINTS = 120  # of each of them at most
MOST_VALUES = 24  # of a setting on a side of the map


def coloured(runs: RunSet, pinned: str = "") -> dict[int, str]:
    """Colour by number of run: the best six, or the best five and the pinned one."""
    ranking = runs.ranking()
    chosen = ranking[: len(COLOURS)]
    if pinned in runs.names and runs.names.index(pinned) not in chosen:
        chosen = [*chosen[: len(COLOURS) - 1], runs.names.index(pinned)]
    return dict(zip(chosen, COLOURS, strict=False))


def growth_chart(runs: RunSet, colours: Mapping[int, str]) -> Chart:
    """Growth of every run from the begin on, the others in grey."""
    at, growth = runs.growth()
    return _curves("Growth since the begin", runs, at, growth, colours)


def falls_chart(runs: RunSet, colours: Mapping[int, str]) -> Chart:
    return _curves("Drawdown", runs, runs.at, runs.falls(), colours)


def grey_text(runs: RunSet, colours: Mapping[int, str]) -> str:
    """How many curves have no colour, and how many of them are drawn; empty where none is."""
    count = len(runs.names) - len(colours)
    shown = f"{GREY} of {count:,}" if count > GREY else f"{count:,}"
    return f"{shown} other{'s' if count > 1 else ''} in grey." if count else ""


def _curves(
    text: str, runs: RunSet, at: Instants, values: Array, colours: Mapping[int, str]
) -> Chart:
    others = [k for k in runs.ranking() if k not in colours]
    spread = np.linspace(0, len(others) - 1, min(GREY, len(others)), dtype=int)
    grey = [Series("", "quiet", at, values[others[j]], "faint") for j in spread]
    named = [Series(runs.names[k], colour, at, values[k]) for k, colour in colours.items()]
    ends = ", ".join(f"{runs.names[k]} {percent(values[k, -1])}" for k in colours)
    return Chart(
        f"{text}; at the end: {ends}. {grey_text(runs, colours)}".rstrip(". "),
        (
            *(series.thinned(GREY_POINTS) for series in grey),
            *(series.thinned() for series in reversed(named)),
        ),
        "percent",
        NEW_YORK.key,
    )


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Sharpe ratios by two settings; returns where no run is long enough for ratios.

    figure: which of them the cells show.
    down, across: names of the settings.
    table: a row a value of the one down, a column a value of the one across.
    runs: most that share a cell, which shows their median.
    """

    figure: str
    down: str
    across: str
    table: Table
    runs: int


def heat_map(runs: RunSet) -> HeatMap | None:
    """The two settings with the most values, where their combinations have run; else None.

    With more than two varied, every combination of the two has to have.
    """
    kinds = {name: _in_order(values) for name, values in runs.varied.items()}
    names = sorted((n for n in kinds if len(kinds[n]) > 1), key=lambda n: -len(kinds[n]))[:2]
    if len(names) < 2 or any(len(kinds[name]) > MOST_VALUES for name in names):
        return None
    across, down = names
    values = np.where(runs.annual, runs.sharpes, np.nan)
    if not runs.annual.any():
        values = runs.totals
    figures: dict[tuple[str, str], list[float]] = {}
    for y, x, figure in zip(runs.varied[down], runs.varied[across], values.tolist(), strict=True):
        figures.setdefault((value_text(y), value_text(x)), []).append(figure)
    cells = list(product(map(value_text, kinds[down]), map(value_text, kinds[across])))
    filled = sum(cell in figures for cell in cells)
    if filled <= max(len(kinds[down]), len(kinds[across])) or (
        len(runs.varied) > 2 and filled < len(cells)
    ):
        return None
    medians = {cell: _median(figures.get(cell, [])) for cell in cells}
    scale = max((abs(m) for m in medians.values() if math.isfinite(m)), default=0.0)
    name, words = "Sharpe ratio", number
    if not runs.annual.any():
        name, words = "Return", partial(percent, sign=True)
    rows: list[Row] = [
        (
            y,
            *(
                Cell(words(medians[y, x]), shade=_shade(medians[y, x], scale))
                for x in map(value_text, kinds[across])
            ),
        )
        for y in map(value_text, kinds[down])
    ]
    heads = (f"{down} ↓ {across} →", *map(value_text, kinds[across]))
    table = Table(f"{name} by two settings", heads, rows)
    return HeatMap(name, down, across, table, max(map(len, figures.values())))


def _in_order(values: Sequence[Any]) -> list[Any]:
    """Different values: numbers by size, then words as they came."""
    unique = list({value_text(value): value for value in values}.values())
    numbers = [v for v in unique if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return sorted(numbers) + [value for value in unique if value not in numbers]


def _median(figures: Sequence[float]) -> float:
    finite = [figure for figure in figures if math.isfinite(figure)]
    return float(np.median(finite)) if finite else math.nan


def _shade(figure: float, scale: float) -> float:
    return figure / scale if scale and math.isfinite(figure) else 0.0
