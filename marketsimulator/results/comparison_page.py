"""One self-contained HTML page with many runs side by side; it reads without its one script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from foundation.charts import CHART_MACRO, CHART_STYLE
from foundation.counts import counted
from foundation.page import COLOURS, SHEET, SHEET_MACROS, content_policy, render_page
from marketsimulator.results.comparison_charts import (
    coloured,
    falls_chart,
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

# Headings become buttons that sort; without the script they are words, the best run first.
SCRIPT = """
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener('click', () => {
      const sign = head.getAttribute('aria-sort') === 'descending' ? 1 : -1;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
      head.setAttribute('aria-sort', sign > 0 ? 'ascending' : 'descending');
      const key = row => row.cells[column].dataset.value ?? '';
      const number = row => key(row) === '' ? NaN : Number(key(row));
      const rows = Array.from(body.rows);
      const words = rows.some(row => key(row) !== '' && Number.isNaN(number(row)));
      rows.sort((a, b) => {
        if (words) return sign * key(a).localeCompare(key(b), undefined, {numeric: true});
        const x = number(a), y = number(b);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return sign * (x - y);
      });
      body.append(...rows);
    });
  });
}
"""

_STYLE = (
    COLOURS
    + SHEET
    + CHART_STYLE
    + """
body { max-width: 1600px } .sortable { font-size: .82rem }
.sortable td, .sortable th { padding: .28rem .3rem } .sortable .range { white-space: normal }
thead button { font: inherit; color: inherit; background: none; border: 0; padding: 0;
  text-align: inherit; cursor: pointer; text-decoration: underline dotted }
thead button:focus-visible { outline: 2px solid var(--first) }
th[aria-sort] { color: var(--first) } th[aria-sort=descending] button::after { content: " ↓" }
th[aria-sort=ascending] button::after { content: " ↑" }
.sortable tbody th { min-width: 9rem; max-width: 14rem } .sortable .key { margin-right: .4rem }
.sortable thead th { max-width: 8rem; overflow-wrap: normal }
.sortable .words { text-align: left }
td.words { text-align: left; white-space: normal; min-width: 7rem }
.map { width: auto } .map td { text-align: center; min-width: 3.6rem }
.map td.gain { background: color-mix(in srgb, var(--first) var(--share), transparent) }
.map td.loss { background: color-mix(in srgb, var(--third) var(--share), transparent) }
"""
)

_TABLE = """
<h1>{{ sheet.title }}</h1>
<p class="muted">{{ sheet.subtitle }}</p>
{{ top(sheet.verdict, sheet.warnings, sheet.notes) }}
<div class="grid">
<section class="wide"><h2>Runs</h2>
{% call box("Runs", sheet.rows | length > 30) %}<table class="sortable"><thead><tr><th>run</th>
{% for head in sheet.heads %}<th{% if head == "which is" %} class="words"{% endif %}>{{ head }}</th>
{%- endfor %}</tr></thead><tbody>
{% for row in sheet.rows %}<tr><th scope="row" data-value="{{ row.name }}">
{% if row.kind %}<span class="key {{ row.kind }}"></span>{% endif %}
{%- if row.link %}<a href="{{ row.link }}">{{ row.name }}</a>{% else %}{{ row.name }}{% endif -%}
</th>
{% for cell in row.cells %}<td{% if cell.words %} class="words"{% endif %} data-value="
{{- cell.value }}">{{ cell.text }}{% if cell.range %}<span class="range">{{ cell.range }}</span>
{%- endif %}</td>{% endfor %}</tr>{% endfor %}
</tbody></table>{% endcall %}
"""


def sheet_template(below: str, style: str = "") -> str:
    """The template of a page of `Sheet`.

    below: what follows the table, from within its section on; it closes that section.
    style: of what follows.
    """
    return (
        '{% extends "frame" %}{% block title %}{{ sheet.title }}{% endblock %}'
        "{% block head %}"
        + content_policy(SCRIPT)
        + "{% endblock %}{% block style %}"
        + _STYLE
        + style
        + "{% endblock %}{% block body %}"
        + SHEET_MACROS
        + CHART_MACRO
        + _TABLE
        + below
        + "</div><script>{{ script | safe }}</script>{% endblock %}"
    )


PAGE = sheet_template("""
<p class="muted">After spread, slippage, fees and interest; Sharpe ratios from the equity at 16:00
New York, {{ per_year }} days a year; ranges are 90 % intervals by the stationary bootstrap of daily
returns. Deflated: the probability that a ratio is above zero after all that was tried. The
probability of backtest overfitting, by combinatorially symmetric cross-validation (Bailey, Borwein,
López de Prado and Zhu 2017), tells whether the best of these runs stays among the better ones on
other days, and not whether it earns anything there. Against the best, {{ best }}: final equity over
its own, both at the end of the runs, and the interval of whole days' differences up to the last
16:00, which holds for all compared pairs at once: over bootstrap draws of the same days for all
runs, the largest deviation of any pair decides how wide all are (Romano and Wolf 2005).
{%- if pinned %} The return beyond {{ pinned }} has the interval of that pair alone.{% endif %}
A page shows {{ rule }}
{%- if pinned %}; {{ pinned }}, which only holds, goes by its days alone{% endif %}.</p>
</section>
{% if map %}<section class="wide"><h2>{{ map.figure }} by {{ map.down }} and {{ map.across }}</h2>
{% call box(map.figure ~ " by two settings") %}<table class="map"><thead><tr>
<th>{{ map.down }} ↓ {{ map.across }} →</th>
{% for value in map.columns %}<th>{{ value }}</th>{% endfor %}</tr></thead><tbody>
{% for name, cells in map.rows %}<tr><th scope="row">{{ name }}</th>
{% for cell in cells %}<td class="{{ cell.tone }}" style="--share: {{ cell.share }}%">
{{- cell.text }}</td>{% endfor %}</tr>{% endfor %}</tbody></table>{% endcall %}
<p class="muted">{% if map.runs > 1 %}Each cell is the median of up to {{ map.runs }} runs.
{% endif %}Blue is above zero, orange below; a peak that stands alone among its neighbours is more
likely luck than a plateau.</p></section>{% endif %}
<section class="wide"><h2>Growth</h2>{{ drawn(growth) }}
<p class="muted">Equity over that of the begin, at 16:00 New York of each day and at the end of the
runs.</p></section>
<section class="wide"><h2>Drawdown</h2>{{ drawn(falls) }}
<p class="muted">Below the highest equity until then.</p></section>
""")


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
    """A run in the table; kind: of its curve, empty for a grey one. link: to its own page."""

    name: str
    cells: tuple[Cell, ...]
    kind: str = ""
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
        """One self-contained page by a template of `sheet_template`, with values for its rest."""
        return render_page(template, sheet=self, script=SCRIPT, **values)


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
        PAGE,
        per_year=runs.per_year,
        best=best,
        rule=NO_ANNUAL_FIGURES,
        pinned=pinned,
        map=heat_map(runs),
        growth=growth_chart(runs, colours),
        falls=falls_chart(runs, colours),
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
